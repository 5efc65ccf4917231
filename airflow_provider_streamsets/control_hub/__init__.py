"""
The REST API of Control Hub in Python, usable without Airflow.

.. code-block:: python

    from airflow_provider_streamsets.control_hub import ControlHubClient

    client = ControlHubClient(None, credential_id="...", token="...")
    job = client.jobs.find_by_name("Orders to warehouse")
    run = client.runs.start(job)
"""

from __future__ import annotations

from airflow_provider_streamsets.control_hub.client import ControlHubClient
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAmbiguousNameError,
    ControlHubAuthenticationError,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubJobStateError,
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
    EngineCommand,
    EnginePipeline,
    Job,
    JobRun,
    Outcome,
    RunEvent,
    RunMetrics,
)
from airflow_provider_streamsets.control_hub.reports import RunReport

__all__ = [
    "ControlHubAmbiguousNameError",
    "ControlHubAuthenticationError",
    "ControlHubClient",
    "ControlHubConfigurationError",
    "ControlHubError",
    "ControlHubJobStateError",
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
    "EngineCommand",
    "EnginePipeline",
    "Issue",
    "Job",
    "JobRun",
    "Outcome",
    "RunEvent",
    "RunMetrics",
    "RunReport",
]
