"""
Frozen dataclasses of Control Hub's objects; loaded on first use.

Field names of the API are declared here and nowhere above.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub._lazy import lazy_attributes

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.models.base import Model, Page
    from airflow_provider_streamsets.control_hub.models.engines import Engine, tunnel_instance_id
    from airflow_provider_streamsets.control_hub.models.job_settings import JobSettings
    from airflow_provider_streamsets.control_hub.models.jobs import (
        ImportedJob,
        Job,
        JobDocument,
        JobUpgrade,
        duplicate_request,
        jobs_change_key,
    )
    from airflow_provider_streamsets.control_hub.models.metrics import (
        EngineLiveMetrics,
        LiveMetrics,
        MetricRegistry,
        RecordCountSample,
        RunMetrics,
        StageCounts,
    )
    from airflow_provider_streamsets.control_hub.models.offsets import (
        EngineOffset,
        JobOffsets,
        document_to_upload,
        validate_offset_document,
    )
    from airflow_provider_streamsets.control_hub.models.pipelines import (
        COMMIT_ID_FIELD,
        PipelineDefinition,
        PipelineStage,
        PipelineVersion,
        commit_ids_by_tag,
        runtime_parameter_defaults,
    )
    from airflow_provider_streamsets.control_hub.models.runs import (
        ENDED_STATUSES,
        KNOWN_STATUSES,
        EngineCommand,
        EnginePipeline,
        JobRun,
        Outcome,
        RunEvent,
        RunIdentity,
        RunRef,
        run_or_none,
        status_run_count,
    )
    from airflow_provider_streamsets.control_hub.models.status_snapshot import StatusSnapshot
    from airflow_provider_streamsets.control_hub.models.templates import (
        TemplateStart,
        started_instance_id,
        template_start_request,
    )
    from airflow_provider_streamsets.control_hub.models.users import (
        CurrentUser,
        parse_landing_url,
        parse_project_names,
    )

__all__ = [
    "COMMIT_ID_FIELD",
    "ENDED_STATUSES",
    "KNOWN_STATUSES",
    "CurrentUser",
    "Engine",
    "EngineCommand",
    "EngineLiveMetrics",
    "EngineOffset",
    "EnginePipeline",
    "ImportedJob",
    "Job",
    "JobDocument",
    "JobOffsets",
    "JobRun",
    "JobSettings",
    "JobUpgrade",
    "LiveMetrics",
    "MetricRegistry",
    "Model",
    "Outcome",
    "Page",
    "PipelineDefinition",
    "PipelineStage",
    "PipelineVersion",
    "RecordCountSample",
    "RunEvent",
    "RunIdentity",
    "RunMetrics",
    "RunRef",
    "StageCounts",
    "StatusSnapshot",
    "TemplateStart",
    "commit_ids_by_tag",
    "document_to_upload",
    "duplicate_request",
    "jobs_change_key",
    "parse_landing_url",
    "parse_project_names",
    "run_or_none",
    "runtime_parameter_defaults",
    "started_instance_id",
    "status_run_count",
    "template_start_request",
    "tunnel_instance_id",
    "validate_offset_document",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "base": (
            "Model",
            "Page",
        ),
        "engines": (
            "Engine",
            "tunnel_instance_id",
        ),
        "job_settings": ("JobSettings",),
        "jobs": (
            "ImportedJob",
            "Job",
            "JobDocument",
            "JobUpgrade",
            "duplicate_request",
            "jobs_change_key",
        ),
        "metrics": (
            "EngineLiveMetrics",
            "LiveMetrics",
            "MetricRegistry",
            "RecordCountSample",
            "RunMetrics",
            "StageCounts",
        ),
        "offsets": (
            "EngineOffset",
            "JobOffsets",
            "document_to_upload",
            "validate_offset_document",
        ),
        "pipelines": (
            "COMMIT_ID_FIELD",
            "PipelineDefinition",
            "PipelineStage",
            "PipelineVersion",
            "commit_ids_by_tag",
            "runtime_parameter_defaults",
        ),
        "runs": (
            "ENDED_STATUSES",
            "KNOWN_STATUSES",
            "EngineCommand",
            "EnginePipeline",
            "JobRun",
            "Outcome",
            "RunEvent",
            "RunIdentity",
            "RunRef",
            "run_or_none",
            "status_run_count",
        ),
        "status_snapshot": ("StatusSnapshot",),
        "templates": (
            "TemplateStart",
            "started_instance_id",
            "template_start_request",
        ),
        "users": (
            "CurrentUser",
            "parse_landing_url",
            "parse_project_names",
        ),
    },
)
