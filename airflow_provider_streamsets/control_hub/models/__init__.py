"""Frozen dataclasses of Control Hub's objects. Field names of the API are declared here and nowhere above."""

from __future__ import annotations

from airflow_provider_streamsets.control_hub.models.base import Model
from airflow_provider_streamsets.control_hub.models.engines import Engine
from airflow_provider_streamsets.control_hub.models.job_settings import JobSettings
from airflow_provider_streamsets.control_hub.models.jobs import Job, JobUpgrade
from airflow_provider_streamsets.control_hub.models.metrics import (
    EngineLiveMetrics,
    LiveMetrics,
    MetricRegistry,
    RunMetrics,
)
from airflow_provider_streamsets.control_hub.models.offsets import (
    EngineOffset,
    JobOffsets,
    document_to_upload,
    validate_offset_document,
)
from airflow_provider_streamsets.control_hub.models.pipelines import PipelineVersion
from airflow_provider_streamsets.control_hub.models.runs import (
    ENDED_STATUSES,
    KNOWN_STATUSES,
    EngineCommand,
    EnginePipeline,
    JobRun,
    Outcome,
    RunEvent,
    RunIdentity,
    run_or_none,
)
from airflow_provider_streamsets.control_hub.models.users import CurrentUser

__all__ = [
    "ENDED_STATUSES",
    "KNOWN_STATUSES",
    "CurrentUser",
    "Engine",
    "EngineCommand",
    "EngineLiveMetrics",
    "EngineOffset",
    "EnginePipeline",
    "Job",
    "JobOffsets",
    "JobRun",
    "JobSettings",
    "JobUpgrade",
    "LiveMetrics",
    "MetricRegistry",
    "Model",
    "Outcome",
    "PipelineVersion",
    "RunEvent",
    "RunIdentity",
    "RunMetrics",
    "document_to_upload",
    "validate_offset_document",
    "run_or_none",
]
