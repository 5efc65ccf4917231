"""Jobs, and the store that holds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_streamsets.sandbox.backend.runs import Run
from airflow_provider_streamsets.sandbox.seed.models import JobSeed


@dataclass(frozen=True)
class Permission:
    """The actions on a job that a user or a group is permitted."""

    subject_id: str
    subject_type: str
    actions: tuple[str, ...]


@dataclass(frozen=True)
class TemplateRun:
    """One start of instances of a job template; ``configuration`` is the body of the request."""

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

    :param seed: the definition of the job; replaced when the job is changed.
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
    """Offset changes with their times: None for a reset, the document for an upload."""

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
        """The latest run."""
        return self.runs[-1] if self.runs else None


def new_job(seed: JobSeed, now: int, user: str) -> Job:
    """
    Create a job.

    :param seed: the definition of the job.
    :param now: default of the creation time.
    :param user: default of the creator.
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


class JobStore:
    """
    Jobs and deleted jobs by id.

    :param now: returns the current time.
    :param finished_at: returns when the run of a job ended, or 0 if there is no ended run.
    :param user: recorded as the user who deletes jobs after completion.
    """

    def __init__(self, now: Callable[[], int], finished_at: Callable[[Job], int], user: str) -> None:
        self._now = now
        self._finished_at = finished_at
        self._user = user
        # Replaced instead of modified, so that callers can look up jobs while they iterate.
        self._jobs: dict[str, Job] = {}
        # The jobs to delete after completion.
        self._expiring: dict[str, Job] = {}
        self._deleted: dict[str, Job] = {}

    @property
    def jobs(self) -> dict[str, Job]:
        """The jobs, without the deleted ones."""
        return self._jobs

    @property
    def deleted(self) -> dict[str, Job]:
        """The deleted jobs."""
        return self._deleted

    def add(self, job: Job) -> None:
        """Add a job, or replace the one with the same id."""
        self._jobs = {**self._jobs, job.id: job}
        self._expiring.pop(job.id, None)
        if job.seed.delete_after_completion:
            self._expiring[job.id] = job
        self._deleted = {key: other for key, other in self._deleted.items() if key != job.id}

    def delete(self, job: Job, user: str) -> None:
        """Delete a job."""
        self._delete(job, user, self._now())

    def delete_completed(self) -> None:
        """Delete the jobs that are to be deleted after completion and whose run has ended."""
        now = self._now()
        ends = [(self._finished_at(job), job) for job in self._expiring.values()]
        # In the order of their times, as if each had been deleted on time.
        for ended, job in sorted(ends, key=lambda end: end[0]):
            if 0 < ended <= now:
                self._delete(job, self._user, ended)

    def _delete(self, job: Job, user: str, at: int) -> None:
        job.destroyer, job.deleted_on = user, at
        self._expiring.pop(job.id, None)
        self._jobs = {key: other for key, other in self._jobs.items() if other is not job}
        self._deleted = {**self._deleted, job.id: job}
