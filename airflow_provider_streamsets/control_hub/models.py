"""What Control Hub knows, as frozen values. Field names on the wire appear here and nowhere above."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import pendulum

from airflow_provider_streamsets.control_hub.wire import Reader

ENDED_STATUSES = frozenset({"INACTIVE", "INACTIVE_ERROR", "ACTIVATION_ERROR"})
KNOWN_STATUSES = ENDED_STATUSES | {"ACTIVATING", "ACTIVE", "DEACTIVATING"}


class Outcome(str, enum.Enum):
    """What a finished run came to."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    """Stopped by a person before it was done."""


def _plain(value: Any) -> Any:
    if isinstance(value, _Model):
        return value.to_dict()
    if isinstance(value, pendulum.DateTime):
        return value.to_iso8601_string()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


class _Model:
    """Base of the models: one way to JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Return the model as JSON values: times in ISO 8601, tuples as lists."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class CurrentUser(_Model):
    """Whom a credential belongs to (contract, section 1.5)."""

    user_id: str
    name: str
    organization_id: str
    organization_name: str
    email: str
    roles: tuple[str, ...]

    @classmethod
    def from_wire(cls, value: object) -> CurrentUser:
        """Read an ``SSOPrincipalJson``."""
        read = Reader(value, "current user")
        return cls(
            user_id=read.text("principalId"),
            name=read.text("principalName"),
            organization_id=read.text("organizationId"),
            organization_name=read.text("organizationName"),
            email=read.text("email"),
            roles=read.strings("roles"),
        )


@dataclass(frozen=True)
class EnginePipeline(_Model):
    """What one engine last reported about the pipeline of a run."""

    engine_id: str
    status: str
    message: str | None
    last_reported: pendulum.DateTime | None = None

    @classmethod
    def from_wire(cls, value: object) -> EnginePipeline:
        """Read one entry of ``pipelineStatus``."""
        read = Reader(value, "pipeline status")
        return cls(
            engine_id=read.text("sdcId"),
            status=read.text("status", "UNKNOWN"),
            message=read.optional_text("message"),
            last_reported=read.time("lastReportedTime"),
        )


@dataclass(frozen=True)
class EngineCommand(_Model):
    """A command that Control Hub sent to an engine, and how that went."""

    engine_id: str
    command: str
    result: str
    message: str | None

    @classmethod
    def from_wire(cls, value: object) -> EngineCommand:
        """Read one entry of ``ackTrackers``."""
        read = Reader(value, "engine command")
        return cls(
            engine_id=read.text("sdcId"),
            command=read.text("eventType"),
            result=read.text("ackStatus"),
            message=read.optional_text("message"),
        )

    @property
    def has_failed(self) -> bool:
        """True when the engine refused the command or did not answer."""
        return self.result in {"ERROR", "TIMEDOUT"}


@dataclass(frozen=True)
class JobRun(_Model):
    """One run of a job: a ``JobStatusJson`` (contract, section 10.2)."""

    run_id: str
    job_id: str
    run_count: int
    status: str
    color: str
    user: str | None = None
    start_time: pendulum.DateTime | None = None
    finish_time: pendulum.DateTime | None = None
    error_message: str | None = None
    warnings: tuple[str, ...] = ()
    pipeline_version: str | None = None
    engine_ids: tuple[str, ...] = ()
    engine_pipelines: tuple[EnginePipeline, ...] = ()
    engine_commands: tuple[EngineCommand, ...] = ()
    input_record_count: int = 0
    output_record_count: int = 0
    error_record_count: int = 0
    metrics_saved: pendulum.DateTime | None = None

    @classmethod
    def from_wire(cls, value: object) -> JobRun:
        """Read a ``JobStatusJson``."""
        read = Reader(value, "job status")
        label = read.optional_text("pipelineCommitLabel")
        return cls(
            run_id=read.text("id"),
            job_id=read.text("jobId"),
            run_count=read.integer("runCount"),
            status=read.text("status"),
            color=read.text("color"),
            user=read.optional_text("user"),
            start_time=read.time("startTime"),
            finish_time=read.time("finishTime"),
            error_message=read.optional_text("errorMessage"),
            warnings=read.strings("warnings"),
            pipeline_version=label.removeprefix("v") if label else None,
            engine_ids=read.strings("sdcIds"),
            engine_pipelines=tuple(map(EnginePipeline.from_wire, read.array("pipelineStatus"))),
            engine_commands=tuple(map(EngineCommand.from_wire, read.array("ackTrackers"))),
            input_record_count=read.integer("inputRecordCount"),
            output_record_count=read.integer("outputRecordCount"),
            error_record_count=read.integer("errorRecordCount"),
            metrics_saved=read.time("lastReportedMetricTime"),
        )

    @property
    def has_started(self) -> bool:
        """False for the status that an offset upload leaves on a job that never ran (contract, 10.5 and 18.18)."""
        return self.run_count > 0 and (self.start_time is not None or self.status != "INACTIVE")

    @property
    def has_ended(self) -> bool:
        """True when the run is over. An unknown status is not an end."""
        return self.status in ENDED_STATUSES

    @property
    def is_success(self) -> bool:
        """True for an ended run that is ``INACTIVE`` and not ``RED``; a person may still have stopped it."""
        return self.status == "INACTIVE" and self.color != "RED"

    @property
    def duration(self) -> float | None:
        """Seconds from start to finish; None while it runs."""
        if self.start_time is None or self.finish_time is None:
            return None
        return (self.finish_time - self.start_time).total_seconds()


def run_or_none(value: object) -> JobRun | None:
    """
    Read a status that can say "never run".

    Empty body, null, an empty object and a status without a real run all mean that (contract, 18.5 and 18.18).
    """
    if value is None or value == {}:
        return None
    run = JobRun.from_wire(value)
    return run if run.has_started else None


@dataclass(frozen=True)
class Job(_Model):
    """A job, or a job template (contract, section 4)."""

    job_id: str
    name: str
    description: str = ""
    organization: str = ""
    project_id: str | None = None
    creator: str | None = None
    create_time: pendulum.DateTime | None = None
    last_modified_by: str | None = None
    last_modified: pendulum.DateTime | None = None
    pipeline_id: str | None = None
    pipeline_name: str = ""
    pipeline_commit_id: str | None = None
    pipeline_version: str | None = None
    executor_type: str | None = None
    engine_labels: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    number_of_instances: int = 1
    runtime_parameters: Mapping[str, Any] = field(default_factory=dict)
    static_parameters: tuple[str, ...] = ()
    failover: bool = False
    needs_acknowledgement: bool | None = None
    statistics_interval: float = 60.0
    """Seconds between two saves of the job's metrics."""
    force_stop_timeout: float = 120.0
    """Seconds that Control Hub waits for an engine to confirm a stop."""
    is_template: bool = False
    template_id: str | None = None
    delete_after_completion: bool = False
    current_run: JobRun | None = None

    @classmethod
    def from_wire(cls, value: object) -> Job:
        """Read a ``JobJson``."""
        read = Reader(value, "job")
        label = read.optional_text("pipelineCommitLabel")
        acknowledgement = read.get("needsManualAck")
        return cls(
            job_id=read.required_text("id"),
            name=read.text("name"),
            description=read.text("description"),
            organization=read.text("organization"),
            project_id=read.optional_text("projectId"),
            creator=read.optional_text("creator"),
            create_time=read.time("createTime"),
            last_modified_by=read.optional_text("lastModifiedBy"),
            last_modified=read.time("lastModifiedOn"),
            pipeline_id=read.optional_text("pipelineId"),
            pipeline_name=read.text("pipelineName"),
            pipeline_commit_id=read.optional_text("pipelineCommitId"),
            pipeline_version=label.removeprefix("v") if label else None,
            executor_type=read.optional_text("executorType"),
            engine_labels=read.strings("labels"),
            tags=read.strings("rawJobTags"),
            number_of_instances=read.integer("numInstances", 1),
            runtime_parameters=read.json_object("runtimeParameters"),
            static_parameters=read.strings("staticParameters"),
            failover=read.flag("migrateOffsets"),
            needs_acknowledgement=None if acknowledgement is None else read.flag("needsManualAck"),
            statistics_interval=read.seconds("statsRefreshInterval", 60.0),
            force_stop_timeout=read.seconds("forceStopTimeout", 120.0),
            is_template=read.flag("jobTemplate"),
            template_id=read.optional_text("templateJobId"),
            delete_after_completion=read.flag("deleteAfterCompletion"),
            current_run=run_or_none(read.get("currentJobStatus")),
        )

    @property
    def label(self) -> str:
        """Name and id, for messages."""
        return f"'{self.name}' ({self.job_id})"

    @property
    def last_run_count(self) -> int:
        """Number of the latest run; 0 if the job has never run."""
        return self.current_run.run_count if self.current_run else 0


@dataclass(frozen=True)
class RunEvent(_Model):
    """One line of a run's own log in Control Hub: who or what changed its status, and when."""

    time: pendulum.DateTime | None
    status: str
    message: str
    user: str | None
    """None for events that Control Hub raised itself."""

    @classmethod
    def from_wire(cls, value: object) -> RunEvent:
        """Read a ``JobStatusHistoryJson``."""
        read = Reader(value, "run event")
        return cls(
            time=read.time("time"),
            status=read.text("status"),
            message=read.text("message"),
            user=read.optional_text("user"),
        )


@dataclass(frozen=True)
class RunMetrics(_Model):
    """Record counts of one run as Control Hub saved them (contract, section 12.1)."""

    run_count: int
    input_count: int
    output_count: int
    error_count: int
    stage_errors_count: int
    total_error_count: int
    last_updated: pendulum.DateTime | None = None

    @classmethod
    def from_wire(cls, value: object, run_count: int) -> RunMetrics:
        """
        Read one entry of the record counts.

        :param run_count: the run that the entry belongs to; the newest entry does not say so itself
        """
        read = Reader(value, "record counts")
        errors, stage_errors = read.integer("errorCount"), read.integer("stageErrorsCount")
        return cls(
            run_count=run_count,
            input_count=read.integer("inputCount"),
            output_count=read.integer("outputCount"),
            error_count=errors,
            stage_errors_count=stage_errors,
            total_error_count=errors + stage_errors,
            last_updated=read.time("lastUpdatedOn"),
        )
