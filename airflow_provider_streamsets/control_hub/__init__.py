"""
Python client for the Control Hub REST API, usable without Airflow.

.. code-block:: python

    from airflow_provider_streamsets.control_hub import ControlHubClient

    client = ControlHubClient(None, credential_id="...", token="...")
    job = client.jobs.find_by_name("Orders to warehouse")
    run = client.runs.start(job)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.archives import ExportedArchive
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
        ControlHubUnexpectedAnswerError,
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
    "ControlHubUnexpectedAnswerError",
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

# Every other error is in `errors`, everything else in `models`.
_MODULES = {
    "ControlHubClient": "client",
    "ExportedArchive": "archives",
    "Issue": "errors",
    "RunReport": "tracking.report",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that parsing a DAG does not import the HTTP client."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _MODULES.get(name, "errors" if name.endswith("Error") else "models")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
