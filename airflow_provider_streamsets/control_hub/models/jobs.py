"""Jobs and job templates (contract section 4)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pendulum

from airflow_provider_streamsets.control_hub._json import JsonReader, as_object
from airflow_provider_streamsets.control_hub.models.base import Model, Page
from airflow_provider_streamsets.control_hub.models.runs import JobRun, run_or_none

_T = TypeVar("_T")


@dataclass(frozen=True)
class Job(Model):
    """A job or job template (contract section 4)."""

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
    failover_retries: int | None = None
    failover_retries_per_engine: int | None = None
    needs_acknowledgement: bool | None = None
    statistics_interval: float = 60.0
    """Seconds between saves of the metrics."""
    force_stop_after: float = 120.0
    """Seconds that Control Hub waits for the engines to confirm a stop."""
    time_series: bool = False
    is_template: bool = False
    template_id: str | None = None
    delete_after_completion: bool = False
    upgrade_status: str | None = None
    """Status of an upgrade of the active job: ``UPGRADING``, ``UPGRADE_ERROR``, ``UPGRADE_SUCCESSFUL``."""
    current_run: JobRun | None = None

    @classmethod
    def from_wire(cls, value: object) -> Job:
        """Parse a ``JobJson``."""
        read = JsonReader(value, "job")
        label = read.optional_string("pipelineCommitLabel")

        def or_none(field: str, value: _T) -> _T | None:
            return None if read.get(field) is None else value

        return cls(
            job_id=read.required_string("id"),
            name=read.string("name"),
            description=read.string("description"),
            organization=read.string("organization"),
            project_id=read.optional_string("projectId"),
            creator=read.optional_string("creator"),
            create_time=read.timestamp("createTime"),
            last_modified_by=read.optional_string("lastModifiedBy"),
            last_modified=read.timestamp("lastModifiedOn"),
            pipeline_id=read.optional_string("pipelineId"),
            pipeline_name=read.string("pipelineName"),
            pipeline_commit_id=read.optional_string("pipelineCommitId"),
            pipeline_version=label.removeprefix("v") if label else None,
            executor_type=read.optional_string("executorType"),
            engine_labels=read.strings("labels"),
            tags=read.strings("rawJobTags") or _tags(read.array("jobTags")),
            number_of_instances=read.integer("numInstances", 1),
            runtime_parameters=read.json_object("runtimeParameters"),
            static_parameters=read.strings("staticParameters"),
            failover=read.boolean("migrateOffsets"),
            failover_retries=or_none("globalMaxRetries", read.integer("globalMaxRetries")),
            failover_retries_per_engine=or_none("maxRetriesForFailedJob", read.integer("maxRetriesForFailedJob")),
            needs_acknowledgement=or_none("needsManualAck", read.boolean("needsManualAck")),
            statistics_interval=read.duration("statsRefreshInterval", 60.0),
            force_stop_after=read.duration("forceStopTimeout", 120.0),
            time_series=read.boolean("timeSeries"),
            is_template=read.boolean("jobTemplate"),
            template_id=read.optional_string("templateJobId"),
            delete_after_completion=read.boolean("deleteAfterCompletion"),
            upgrade_status=_upgrade_status(read.get("currentUpgradeStatus")),
            current_run=run_or_none(read.get("currentJobStatus")),
        )

    @property
    def label(self) -> str:
        """Name and id, for messages."""
        return f"'{self.name}' ({self.job_id})"

    @property
    def title(self) -> str:
        """Name in quotes, for log lines of a task that has logged the id."""
        return f"'{self.name}'"

    @property
    def last_run_count(self) -> int:
        """Number of the latest run; 0 if the job has never run."""
        return self.current_run.run_count if self.current_run else 0

    def summary(self) -> dict[str, Any]:
        """Return the entry of this job in a list, as JSON values."""
        run = self.current_run
        return {
            "job_id": self.job_id,
            "job_name": self.name,
            "status": run.status if run else None,
            "color": run.color if run else None,
            "run_count": self.last_run_count,
            "start_time": _iso(run.start_time) if run else None,
            "finish_time": _iso(run.finish_time) if run else None,
            "pipeline_version": self.pipeline_version,
            "tags": list(self.tags),
            "engine_labels": list(self.engine_labels),
            "template_id": self.template_id,
            "last_modified": _iso(self.last_modified),
        }


def _iso(time: pendulum.DateTime | None) -> str | None:
    return None if time is None else time.to_iso8601_string()


def _upgrade_status(value: object) -> str | None:
    return None if value is None else JsonReader(value, "upgrade status").optional_string("status")


def _tags(entries: list[Any]) -> tuple[str, ...]:
    """Return tags from their ids; a tag can contain colons, but the organization after the last one cannot."""
    return tuple(JsonReader(entry, "job tag").required_string("id").rpartition(":")[0] for entry in entries)


@dataclass(frozen=True)
class JobDocument(Model):
    """The complete JSON of a job, for changes: Control Hub accepts only complete jobs (contract section 6.2)."""

    raw: Mapping[str, Any]

    @classmethod
    def from_wire(cls, value: object) -> JobDocument:
        """Keep a ``JobJson``."""
        return cls(dict(as_object(value, "job")))

    def _read(self) -> JsonReader:
        return JsonReader(self.raw, "job")

    @property
    def job_id(self) -> str:
        """Id of the job."""
        return self._read().required_string("id")

    @property
    def name(self) -> str:
        """Name of the job."""
        return self._read().string("name")

    @property
    def created_ms(self) -> int:
        """Time of the creation in epoch milliseconds; 0 if unknown."""
        return self._read().integer("createTime")

    @property
    def is_deleted(self) -> bool:
        """Whether the job has been deleted."""
        return self._read().boolean("jobDeleted")

    def to_job(self) -> Job:
        """Return the job."""
        return Job.from_wire(self.raw)

    def renamed(self, name: str) -> JobDocument:
        """Return the document with another name."""
        return JobDocument({**self.raw, "name": name})

    def differing_fields(self, changes: Mapping[str, Any]) -> list[str]:
        """
        Return the names of fields that have other values here.

        :param changes: fields as in :meth:`JobSettings.to_wire`, whose ``jobTags`` are those of ``rawJobTags``
        """
        return [
            name
            for name, value in changes.items()
            if name != "jobTags" and not _is_equal(name, self.raw.get(name), value)
        ]


def _is_equal(name: str, old: Any, new: Any) -> bool:
    if name != "runtimeParameters":
        return bool(old == new)
    try:
        return bool(json.loads(old or "{}") == json.loads(new))
    except (TypeError, ValueError, RecursionError):
        return False


def duplicate_request(name_prefix: str, description: str | None, number_of_copies: int) -> dict[str, Any]:
    """
    Return the body of the request that duplicates a job (contract section 6.4).

    :param name_prefix: start of the names of the copies, which a number follows
    :param description: description of the copies; None is Control Hub's default
    :param number_of_copies: number of copies
    """
    return {"namePrefix": name_prefix, "description": description, "numberOfCopies": number_of_copies}


def jobs_change_key(value: object) -> tuple[int, str, int] | None:
    """
    Return the number of jobs of a list, and the id and time of the last change, from its most recently changed job.

    :param value: page with the most recently changed job
    :returns: None if the page does not contain the number
    """
    if isinstance(value, list):
        return None
    page = Page.from_wire(value, "page of jobs")
    if not page.entries:
        return 0, "", 0
    job = JsonReader(as_object(page.entries[0], "job"), "job")
    return (page.total, job.string("id"), job.integer("lastModifiedOn")) if page.total > 0 else None


@dataclass(frozen=True)
class ImportedJob(Model):
    """A job that an import created or updated."""

    job_id: str
    name: str
    pipeline_version: str | None

    @classmethod
    def from_wire(cls, value: object) -> ImportedJob:
        """Parse an entry of the response to an import."""
        read = JsonReader(JsonReader(value, "imported job").get("minimalJobJson"), "imported job")
        label = read.optional_string("pipelineCommitLabel")
        return cls(read.required_string("id"), read.string("name"), label.removeprefix("v") if label else None)


@dataclass(frozen=True)
class JobUpgrade(Model):
    """Result of an upgrade of one job."""

    job_id: str
    name: str
    version_before: str | None
    version_after: str | None
    upgraded: bool
    """False if the job already used the latest version."""
