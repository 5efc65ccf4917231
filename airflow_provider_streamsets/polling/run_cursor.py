"""Track which finished runs of jobs have been reported: each run once, and runs of a job in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.models import JobRun

# Seconds after which a job that is no longer listed is forgotten. Not at once, as a list that is read in pages while
# jobs are created and deleted can miss a job.
_FORGET_AFTER = 3600.0
# Consecutive polls with a run before the last reported one, after which the job counts as recreated (deleted and
# imported again). A single such response can be stale. If the start time of the last reported run is known, it decides.
_POLLS_UNTIL_RECREATED = 3
# Maximum runs of one job that are loaded at the same time.
_CONCURRENT_READS = 25


@dataclass
class _Job:
    """
    Progress of a job.

    :param reported: number of the last run that was reported or skipped
    :param ended: number of the last run that has ended
    :param latest: the latest run in the last poll
    """

    reported: int
    ended: int
    latest: JobRun | None = None
    earlier_polls: int = 0
    earlier_since: float | None = None

    def observe(self, run: JobRun) -> None:
        # A stale response can show an earlier run.
        if self.latest is None or run.run_count >= self.latest.run_count:
            self.latest = run
        self.ended = max(self.ended, run.run_count if run.has_ended else run.run_count - 1)


@dataclass
class _NewJob:
    """A job whose history must be read to know which of its runs finished before it was watched."""

    latest: JobRun
    since: float


class RunCursor:
    """
    Decides from the polls of some jobs which of their finished runs must be reported.

    Runs that finished before the first poll are not reported. Of a job that appears later, because it was created or
    got the watched tag, the runs that finished after the previous poll are reported. Sends no requests, and never
    blocks.

    Reporting has two steps, so that the saved state never runs ahead of the reported runs: :meth:`deliver` assigns a
    run to a numbered delivery, and :meth:`acknowledge` advances the :attr:`state` when the delivery has arrived.

    :param tolerance: maximum clock skew between Control Hub and this machine, in seconds
    """

    def __init__(self, tolerance: float = 300.0) -> None:
        self._tolerance = tolerance
        self._polled_at: float | None = None
        self._jobs: dict[str, _Job] = {}
        self._new: dict[str, _NewJob] = {}
        self._lagging: dict[str, None] = {}
        self._absent: dict[str, float] = {}
        self._reported: dict[str, int] = {}
        self._delivered: deque[tuple[int, str, int]] = deque()
        self._acknowledged: set[int] = set()

    @classmethod
    def from_state(cls, state: object, tolerance: float = 300.0) -> RunCursor:
        """
        Restore a cursor from its saved state.

        :param state: the :attr:`state` of a cursor
        :raises ValueError: if it is malformed
        """
        runs = cls(tolerance)
        try:
            if not isinstance(state, Mapping):
                raise TypeError(f"it is of type {type(state).__name__}")
            runs._polled_at = float(state["polled_at"])
            runs._reported = {str(job_id): int(count) for job_id, count in state["runs"].items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"The saved watch position is unreadable: {error!r}.") from error
        runs._jobs = {job_id: _Job(count, count) for job_id, count in runs._reported.items()}
        return runs

    @property
    def state(self) -> dict[str, Any]:
        """The acknowledged position as JSON values, for :meth:`from_state`."""
        polled_at = self._polled_at
        if polled_at is not None:
            # After a restart, the histories of new jobs must be read again.
            polled_at = min([polled_at, *(new.since + self._tolerance for new in self._new.values())])
        return {"polled_at": polled_at, "runs": dict(self._reported)}

    def observe(
        self, statuses: Mapping[str, JobRun | None], now: float, *, complete: bool = False, partial: bool = False
    ) -> None:
        """
        Process the latest runs of jobs.

        :param statuses: latest run by job id, None for a job without a run; unreadable jobs are missing
        :param now: time of the poll, in epoch seconds
        :param complete: whether the statuses include all jobs
        :param partial: whether jobs that appeared after the last complete poll are missing
        """
        since = self._polled_at
        if since is None or not partial:
            self._polled_at = now
        for job_id, run in statuses.items():
            self._absent.pop(job_id, None)
            if run is None:
                continue
            job = self._jobs.get(job_id)
            if job is not None and not self._was_recreated(job, run, since):
                job.observe(run)
                self._update_lagging(job_id, job)
            elif job is not None:
                self._forget(job_id)
                self._observe_new_job(job_id, run, job.earlier_since)
            elif job_id in self._new:
                self._new[job_id].latest = run
            else:
                self._observe_new_job(job_id, run, since)
        if complete:
            self._forget_absent(statuses, now)

    def _observe_new_job(self, job_id: str, run: JobRun, since: float | None) -> None:
        if since is None:
            self._track(job_id, run, run.run_count if run.has_ended else run.run_count - 1)
        elif run.run_count == 1:
            self._track(job_id, run, int(_ended_before(run, since - self._tolerance)))
        else:
            self._new[job_id] = _NewJob(run, since - self._tolerance)

    def _track(self, job_id: str, run: JobRun, reported: int) -> None:
        job = self._jobs[job_id] = _Job(reported, reported)
        self._reported[job_id] = reported
        job.observe(run)
        self._update_lagging(job_id, job)

    def _update_lagging(self, job_id: str, job: _Job) -> None:
        if job.reported < job.ended:
            self._lagging[job_id] = None
        else:
            self._lagging.pop(job_id, None)

    def _was_recreated(self, job: _Job, run: JobRun, since: float | None) -> bool:
        if run.run_count >= job.reported:
            job.earlier_polls = 0
            return False
        if not job.earlier_polls:
            job.earlier_since = since
        job.earlier_polls += 1
        latest = job.latest
        if latest is not None and latest.run_count >= job.reported and latest.start_time and run.start_time:
            return run.start_time > latest.start_time
        return job.earlier_polls >= _POLLS_UNTIL_RECREATED

    def _forget(self, job_id: str) -> None:
        for mapping in (self._jobs, self._reported, self._lagging, self._absent):
            mapping.pop(job_id, None)
        self._delivered = deque(entry for entry in self._delivered if entry[1] != job_id)

    def _forget_absent(self, statuses: Mapping[str, JobRun | None], now: float) -> None:
        for job_id in [job_id for job_id in self._new if job_id not in statuses]:
            del self._new[job_id]
        for job_id in [job_id for job_id in self._jobs if job_id not in statuses]:
            absent_since = self._absent.setdefault(job_id, now)
            if now - absent_since > _FORGET_AFTER and job_id not in self._lagging:
                self._forget(job_id)

    @property
    def new_jobs(self) -> list[str]:
        """Ids of the jobs whose histories must be passed to :meth:`seed_from_history`."""
        return list(self._new)

    def seed_from_history(self, job_id: str, history: Sequence[JobRun]) -> None:
        """
        Decide from the history of a new job which of its runs must be reported.

        :param job_id: id of one of the :attr:`new_jobs`
        :param history: the runs of the job that Control Hub still has
        """
        new = self._new.pop(job_id, None)
        if new is None:
            return
        before = [run.run_count for run in history if _ended_before(run, new.since)]
        oldest = min((run.run_count for run in history), default=new.latest.run_count)
        self._track(job_id, new.latest, max(before, default=oldest - 1))

    def pending(self) -> Iterator[tuple[str, int]]:
        """Yield job ids and run counts of the runs to report next, the oldest of a job first."""
        for job_id in list(self._lagging):
            job = self._jobs[job_id]
            for run_count in range(job.reported + 1, min(job.ended, job.reported + _CONCURRENT_READS) + 1):
                yield job_id, run_count

    def latest(self, job_id: str) -> JobRun | None:
        """Return the latest run of a job in the last poll."""
        job = self._jobs.get(job_id)
        return job.latest if job is not None else None

    def deliver(self, job_id: str, run_count: int, delivery: int) -> None:
        """
        Record that a run was reported or skipped.

        :param job_id: id of the job
        :param run_count: number of the run, the next one of the job
        :param delivery: number of the delivery that contains the run
        """
        job = self._jobs[job_id]
        job.reported = run_count
        self._update_lagging(job_id, job)
        self._delivered.append((delivery, job_id, run_count))

    def has_unacknowledged(self, delivery: int) -> bool:
        """Return whether a delivery contains runs and was not acknowledged."""
        return any(number == delivery for number, _, _ in self._delivered)

    def acknowledge(self, delivery: int) -> None:
        """Record that a delivery has arrived. The position advances once all deliveries before it have arrived, too."""
        self._acknowledged.add(delivery)
        while self._delivered and self._delivered[0][0] in self._acknowledged:
            _, job_id, run_count = self._delivered.popleft()
            self._reported[job_id] = run_count
        self._acknowledged &= {number for number, _, _ in self._delivered}


def _ended_before(run: JobRun, time: float) -> bool:
    return run.has_ended and run.finish_time is not None and run.finish_time.timestamp() < time
