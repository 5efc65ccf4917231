"""Which jobs there are, and which there were."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_streamsets.sandbox.job import Job


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
