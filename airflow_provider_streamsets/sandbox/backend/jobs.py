"""Which jobs there are, and which there were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_streamsets.sandbox.backend.runs import Run
from airflow_provider_streamsets.sandbox.seed.models import JobSeed


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


class JobBook:
    """
    The jobs by id. Jobs to be deleted after their run are gone once it has ended and somebody sweeps.

    :param now: tells the time.
    :param finished_at: tells when a job's run ended, 0 if it did not or there is none.
    :param user: who deletes such jobs.
    """

    def __init__(self, now: Callable[[], int], finished_at: Callable[[Job], int], user: str) -> None:
        self._now = now
        self._finished_at = finished_at
        self._user = user
        # Replaced, never changed in place, so that whoever goes through the jobs may look one up meanwhile.
        self._living: dict[str, Job] = {}
        # Those of the living that go after their run; that a job does is settled when it is added.
        self._passing: dict[str, Job] = {}
        self._removed: dict[str, Job] = {}

    @property
    def living(self) -> dict[str, Job]:
        """The jobs that are not deleted."""
        return self._living

    @property
    def removed(self) -> dict[str, Job]:
        """The deleted jobs."""
        return self._removed

    def add(self, job: Job) -> None:
        """Add a job; one of the same id is replaced."""
        self._living = {**self._living, job.id: job}
        self._passing.pop(job.id, None)
        if job.seed.delete_after_completion:
            self._passing[job.id] = job
        self._removed = {key: other for key, other in self._removed.items() if key != job.id}

    def remove(self, job: Job, by: str) -> None:
        """Delete a job."""
        self._move(job, by, self._now())

    def sweep(self) -> None:
        """Delete the jobs that go after their run and whose run has ended."""
        now = self._now()
        ends = [(self._finished_at(job), job) for job in self._passing.values()]
        # In order of time, as if somebody had looked all the while.
        for ended, job in sorted(ends, key=lambda end: end[0]):
            if 0 < ended <= now:
                self._move(job, self._user, ended)

    def _move(self, job: Job, by: str, at: int) -> None:
        job.destroyer, job.deleted_on = by, at
        self._passing.pop(job.id, None)
        self._living = {key: other for key, other in self._living.items() if other is not job}
        self._removed = {**self._removed, job.id: job}
