"""
Python client for the Control Hub REST API, usable without Airflow.

.. code-block:: python

    from airflow_provider_streamsets.control_hub import ControlHubClient

    client = ControlHubClient(None, credential_id="...", token="...")
    job = client.jobs.find_by_name("Orders to warehouse")
    run = client.runs.start(job)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub._lazy import lazy_attributes

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient
    from airflow_provider_streamsets.control_hub.errors import (
        ControlHubAmbiguousNameError,
        ControlHubAmbiguousStartError,
        ControlHubAuthenticationError,
        ControlHubBulkError,
        ControlHubConfigurationError,
        ControlHubConflictError,
        ControlHubError,
        ControlHubExistsError,
        ControlHubExpectationError,
        ControlHubJobStateError,
        ControlHubMetricsUnavailableError,
        ControlHubNotFoundError,
        ControlHubPermissionError,
        ControlHubRejectedError,
        ControlHubRunFailedError,
        ControlHubRunLostError,
        ControlHubRunTimeoutError,
        ControlHubUnavailableError,
        ControlHubUnexpectedResponseError,
        ControlHubUntrustedCertificateError,
        Issue,
    )
    from airflow_provider_streamsets.control_hub.models import (
        CurrentUser,
        Engine,
        EngineCommand,
        EngineLiveMetrics,
        EngineOffset,
        EnginePipeline,
        ImportedJob,
        Job,
        JobOffsets,
        JobRun,
        JobSettings,
        JobUpgrade,
        LiveMetrics,
        MetricRegistry,
        Outcome,
        PipelineVersion,
        RunEvent,
        RunMetrics,
    )
    from airflow_provider_streamsets.control_hub.resources.archives import ExportedArchive
    from airflow_provider_streamsets.control_hub.tracking.report import RunReport

__all__ = [
    "ControlHubAmbiguousNameError",
    "ControlHubAmbiguousStartError",
    "ControlHubAuthenticationError",
    "ControlHubBulkError",
    "ControlHubClient",
    "ControlHubConfigurationError",
    "ControlHubConflictError",
    "ControlHubError",
    "ControlHubExistsError",
    "ControlHubExpectationError",
    "ControlHubJobStateError",
    "ControlHubMetricsUnavailableError",
    "ControlHubNotFoundError",
    "ControlHubPermissionError",
    "ControlHubRejectedError",
    "ControlHubRunFailedError",
    "ControlHubRunLostError",
    "ControlHubRunTimeoutError",
    "ControlHubUnavailableError",
    "ControlHubUnexpectedResponseError",
    "ControlHubUntrustedCertificateError",
    "CurrentUser",
    "Engine",
    "EngineCommand",
    "EngineLiveMetrics",
    "EngineOffset",
    "EnginePipeline",
    "ExportedArchive",
    "ImportedJob",
    "Issue",
    "Job",
    "JobOffsets",
    "JobRun",
    "JobSettings",
    "JobUpgrade",
    "LiveMetrics",
    "MetricRegistry",
    "Outcome",
    "PipelineVersion",
    "RunEvent",
    "RunMetrics",
    "RunReport",
]

_OTHERS = {
    "ControlHubClient": "client",
    "ExportedArchive": "resources.archives",
    "Issue": "errors",
    "RunReport": "tracking.report",
}
_modules: dict[str, list[str]] = {}
for _name in __all__:
    _modules.setdefault(_OTHERS.get(_name, "errors" if _name.endswith("Error") else "models"), []).append(_name)

__getattr__ = lazy_attributes(__name__, _modules)
