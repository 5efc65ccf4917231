"""A job: what it is now, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from airflow_provider_streamsets.sandbox.runs import Run
from airflow_provider_streamsets.sandbox.seed import JobSeed


@dataclass(frozen=True)
class Permission:
    """What a user or a group may do with a job."""

    subject_id: str
    subject_type: str
    actions: tuple[str, ...]


@dataclass(frozen=True)
class TemplateRun:
    """One start of instances of a job template; ``configuration`` is the body that asked for it."""

    id: str
    user: str
    at: int
    run_count: int
    configuration: str
    job_ids: tuple[str, ...]


@dataclass
class Job:
    """
    A job with its runs, the newest last.

    :param seed: what the job is; replaced as a whole when the job is changed.
    """

    seed: JobSeed
    creator: str
    created_on: int
    modified_by: str
    modified_on: int
    destroyer: str | None = None
    deleted_on: int = 0
    permissions: tuple[Permission, ...] = ()
    permitted_by: str | None = None
    permitted_on: int = 0
    template_runs: list[TemplateRun] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    latest_metrics_purged_on: int = 0
    offset_changes: list[tuple[int, dict[str, Any] | None]] = field(default_factory=list)
    """Resets (None) and uploads (the document), each with its time."""

    @property
    def id(self) -> str:
        """The job id."""
        return self.seed.id

    @property
    def parameters(self) -> dict[str, Any]:
        """The stored runtime parameters."""
        return self.seed.parameters

    @property
    def latest(self) -> Run | None:
        """The run that began last."""
        return self.runs[-1] if self.runs else None


def new_job(seed: JobSeed, now: int, user: str) -> Job:
    """
    Return a job that is ready to run.

    :param seed: what it is; what it does not say about its creation happened now, by the user.
    :param now: the time.
    :param user: the user.
    """
    creator = seed.creator or user
    created_on = now - seed.created_ago if seed.created_on is None else seed.created_on
    return Job(
        seed,
        creator=creator,
        created_on=created_on,
        modified_by=seed.modified_by or creator,
        modified_on=created_on if seed.modified_on is None else seed.modified_on,
        permissions=(Permission(creator, "USER", ("READ", "WRITE", "EXECUTE")),),
    )
