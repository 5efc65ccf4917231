"""Waiting for many runs: one status request at each look for all of them."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub.bulk_status import BulkStatusReader
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubError,
    ControlHubRunTimeoutError,
    is_fatal,
)
from airflow_provider_streamsets.control_hub.models import JobRun, RunIdentity
from airflow_provider_streamsets.control_hub.paging import chunked
from airflow_provider_streamsets.control_hub.tracking.report import RunReport, run_summary
from airflow_provider_streamsets.control_hub.tracking.run import (
    DEFAULT_METRICS_TIMEOUT,
    METRICS_INTERVAL,
    Log,
    OutageLog,
    RunTracker,
)

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient

# Ended runs whose outcomes and metrics are read at a time; a session keeps 10 connections.
_CONCURRENT_READS = 8
# Seconds after the deadline within which the last poll may begin to read what has ended.
_LAST_POLL_LIMIT = 60.0
# Reads of ended runs are slow if those sent together take longer than so many seconds. When what they have taken beyond
# that adds up to the second number, each further request has two seconds, as if the deadline had passed by eight, until
# an hour after the last slow ones.
_READ_TIME_ALLOWANCE = 10.0
_SLOW_READS_LIMIT = 60.0
_TIME_LEFT_AFTER_SLOW_READS = -8.0
_SLOW_READS_MEMORY = 3600.0


@dataclass(frozen=True)
class RunRef:
    """
    One run of one job.

    :param job_id: id of the job
    :param run_count: number of the run
    :param job_name: name of the job, for messages
    :param identity: what tells the run from another one of the same number, as far as it is known
    """

    job_id: str
    run_count: int
    job_name: str = ""
    identity: RunIdentity = field(default_factory=RunIdentity)


class RunGroup:
    """
    Follows many runs, each as a :class:`RunTracker` does.

    :param client: asked for statuses, and for the events and metrics of the runs that have ended
    :param runs: the runs, of different jobs
    :param metrics_timeout: how many seconds to wait for the final record counts of each ended run, at the most
    :param until_active: wait until the runs are active, and not for their ends
    :param active: ids of the jobs whose runs were seen active before
    :param fail_on_red_after: for how many seconds a run may be ``RED``; None sets no limit
    :param red_for: for how many seconds runs were ``RED`` already at the previous poll, by job id
    :param reports: reports of runs that are waited for no more, by job id
    :param now: clock in seconds
    :param log: where to tell what is seen
    """

    def __init__(
        self,
        client: ControlHubClient,
        runs: Sequence[RunRef],
        *,
        metrics_timeout: float = DEFAULT_METRICS_TIMEOUT,
        until_active: bool = False,
        active: Collection[str] = (),
        fail_on_red_after: float | None = None,
        red_for: Mapping[str, float] | None = None,
        reports: Mapping[str, RunReport] | None = None,
        now: Callable[[], float] | None = None,
        log: Log | None = None,
    ) -> None:
        self.runs = tuple(runs)
        self.client = client
        """The client that is asked."""
        self._statuses = BulkStatusReader(client)
        self._log: Log = log or logging.getLogger(__name__)
        self._logs = {run.job_id: _JobLog(self._log, run.job_name or run.job_id) for run in runs}
        self._failed_reads: set[str] = set()
        self._trackers = {
            run.job_id: RunTracker(
                client,
                run.job_id,
                run.run_count,
                job_name=run.job_name,
                identity=run.identity,
                metrics_timeout=metrics_timeout,
                until_active=until_active,
                was_active=run.job_id in active,
                fail_on_red_after=fail_on_red_after,
                red_for=(red_for or {}).get(run.job_id),
                now=now,
                log=self._logs[run.job_id],
                outage=_RunOutage(run.job_id, self._failed_reads, self._logs[run.job_id]),
            )
            for run in runs
        }
        self._now = now or time.monotonic
        self._lost_time = 0.0
        self._slow_at = -math.inf
        self._until_active = until_active
        self._active = frozenset(active)
        self._outage = OutageLog(self._log)
        self._latest: dict[str, JobRun] = {}
        self.reports: dict[str, RunReport] = dict(reports or {})
        """Reports of the runs that are waited for no more, by job id."""
        self.unresolved: dict[str, ControlHubError] = {}
        """Why the outcome of a run cannot be found out, by job id."""
        self.stopped: set[str] = set()
        """Ids of the jobs whose runs the task has stopped."""
        self.poll_failed = False
        """Whether Control Hub could not be reached at the last poll."""

    @property
    def is_done(self) -> bool:
        """Whether nothing more is to be waited for of any run."""
        return len(self.reports) + len(self.unresolved) == len(self._trackers)

    @property
    def unfinished(self) -> dict[str, int]:
        """Run counts of the runs whose ends are waited for, by job id; with `until_active`, that they are active."""
        return {
            run.job_id: run.run_count
            for run in self.runs
            if not (run.job_id in self.unresolved or run.job_id in self.reports or self._trackers[run.job_id].has_ended)
        }

    @property
    def red(self) -> dict[str, RunReport]:
        """Reports of the runs that were abandoned because they were ``RED`` for too long, by job id."""
        return {job_id: report for job_id, report in self.reports.items() if report.red_for is not None}

    @property
    def still_active(self) -> dict[str, int]:
        """Run counts of the runs that are waited for no more although they have not ended, by job id."""
        reports = self.reports.items()
        return {job_id: report.run.run_count for job_id, report in reports if not report.run.has_ended}

    @property
    def red_for(self) -> dict[str, float]:
        """For how many seconds runs that are still waited for have been ``RED``, by job id."""
        trackers = {job_id: self._trackers[job_id] for job_id in self.unfinished}
        return {job_id: red_for for job_id, one in trackers.items() if (red_for := one.red_for) is not None}

    @property
    def failures(self) -> dict[str, str]:
        """What is known of the runs that have failed, by job id, as soon as it is known."""
        failed = {
            job_id: failure for job_id, tracker in self._trackers.items() if (failure := tracker.failure) is not None
        }
        failed.update({job_id: report.summary for job_id, report in self.red.items()})
        return {**failed, **{job_id: str(error) for job_id, error in self.unresolved.items()}}

    def next_delay(self, poll_interval: float) -> float:
        """Return the seconds until the next look, given those between two looks at running jobs."""
        delays = (self._trackers[job_id].next_delay(poll_interval) for job_id in self.unfinished)
        return min(delays, default=min(poll_interval, METRICS_INTERVAL))

    def poll(self, *, skip_metrics_wait: bool = False) -> None:
        """
        Look at all runs that are not over, and ask for the details of those that have ended since the last look.

        A look that fails because Control Hub cannot be reached is logged, and is not the end of the wait.

        :param skip_metrics_wait: take the metrics that there are
        :raises ControlHubError: if further looks are pointless, as with a refused credential
        """
        try:
            answers = self._fetch_statuses()
        except ControlHubError as error:
            if is_fatal(error):
                raise
            self.poll_failed = True
            self._outage.failed(error)
            return
        self.poll_failed = False
        self._outage.succeeded()
        to_resolve = []
        for job_id, tracker in self._trackers.items():
            if job_id in self.reports or job_id in self.unresolved:
                continue
            answer = answers.get(job_id)
            # A refusal that concerns one job alone says no more than that it shows no status.
            status = None if isinstance(answer, ControlHubError) else answer
            if tracker.has_ended or (job_id in answers and tracker.observe(status)):
                to_resolve.append(tracker)
        self._resolve_all(to_resolve, skip_metrics_wait)

    def _fetch_statuses(self) -> dict[str, JobRun | ControlHubError | None]:
        wanted = list(self.unfinished)
        if not wanted:
            return {}
        answers = self._statuses.fetch_runs(wanted)
        self._latest.update({job_id: run for job_id, run in answers.items() if isinstance(run, JobRun)})
        return answers

    def _resolve_all(self, trackers: list[RunTracker], skip_metrics_wait: bool) -> None:
        """
        Read the outcomes of runs in parallel; reports and log lines keep the order of the runs.

        What is left when time is up, or when a whole batch could not be answered, is left to the next poll. Runs that
        could not be answered at the poll before come last, so that they do not keep others. The time that slow reads
        take is limited for the group, whether the wait has a deadline or not.
        """
        if len(trackers) <= 1:
            for tracker in trackers:
                with self._timed_reads():
                    self._record_resolution(
                        tracker, functools.partial(tracker.resolve, skip_metrics_wait=skip_metrics_wait)
                    )
            return
        trackers = sorted(trackers, key=lambda tracker: tracker.job_id in self._failed_reads)
        ends_at = 0.0 if self.client.time_left() > 0 else -_LAST_POLL_LIMIT
        failures = 0
        pool = ThreadPoolExecutor(_CONCURRENT_READS, thread_name_prefix="control-hub-reports")
        try:
            for batch in chunked(trackers, _CONCURRENT_READS):
                for tracker in batch:
                    self._logs[tracker.job_id].hold()
                with self._timed_reads():
                    reads = [pool.submit(tracker.resolve, skip_metrics_wait=skip_metrics_wait) for tracker in batch]
                    for tracker, read in zip(batch, reads, strict=True):
                        wait([read])
                        self._logs[tracker.job_id].release()
                        self._record_resolution(tracker, read.result)
                failures += sum(tracker.job_id in self._failed_reads for tracker in batch)
                if failures >= _CONCURRENT_READS or self.client.time_left() <= ends_at:
                    break
        finally:
            # A kill or a time-out of the task does not wait for requests under way.
            pool.shutdown(wait=False, cancel_futures=True)

    @contextlib.contextmanager
    def _timed_reads(self) -> Iterator[None]:
        """Measure reads that are sent together, and leave them little time if those before were slow."""
        deadline_in, began = self.client.time_left, self._now()
        if began - self._slow_at > _SLOW_READS_MEMORY:
            self._lost_time = 0.0
        if self._lost_time < _SLOW_READS_LIMIT:
            yield
        else:
            with self.client.within(lambda: min(deadline_in(), _TIME_LEFT_AFTER_SLOW_READS)):
                yield
        lost_before, ended = self._lost_time, self._now()
        if ended - began > _READ_TIME_ALLOWANCE:
            self._lost_time, self._slow_at = lost_before + ended - began - _READ_TIME_ALLOWANCE, ended
        if lost_before < _SLOW_READS_LIMIT <= self._lost_time:
            self._log.warning(
                "Reading the events and metrics of ended runs takes too long. For an hour, each further request has 2 "
                "seconds; metrics that do not come in that time are missing in the results."
            )

    def _record_resolution(self, tracker: RunTracker, resolve: Callable[[], RunReport | None]) -> None:
        job_id = tracker.job_id
        try:
            report = resolve()
        except ControlHubError as error:
            # Other runs may still have an outcome; a refused credential shows at the next look.
            self._log.warning("%s", error)
            if job_id not in self._active:
                self.unresolved[job_id] = error
                return
            # It was active, which is enough, and may have been deleted since.
            run = JobRun("", job_id, tracker.run_count, "ACTIVE", "GREEN")
            report = RunReport.from_active_run(job_id=job_id, job_name=tracker.job_name, run=run)
        if report is not None:
            report = replace(report, stopped_by_task=job_id in self.stopped)
            self.reports[job_id] = report
            self._log.info(report.summary)

    def timed_out(self, seconds: float | None) -> ControlHubRunTimeoutError:
        """
        Return the error for runs that have not ended in time.

        :param seconds: the time they were given
        """
        total_timeout = f" within {seconds:g} s" if seconds is not None else " in time"
        unfinished = self.unfinished
        late = [run for run in self.runs if run.job_id in unfinished]
        what = f"have not {'become active' if self._until_active else 'ended'}{total_timeout}"
        if not late:
            late = [run for run in self.runs if run.job_id not in self.reports and run.job_id not in self.unresolved]
            what = f"have ended, but whether they were stopped could not be found out{total_timeout}"
        names = ", ".join(f"run {run.run_count} of {self._name(run)}" for run in late[:10])
        more = ", ..." if len(late) > 10 else ""
        return ControlHubRunTimeoutError(f"{len(late)} of {len(self.runs)} runs {what}: {names}{more}.")

    def _name(self, run: RunRef) -> str:
        seen = self._trackers[run.job_id].last_seen
        name = f"job '{run.job_name}' ({run.job_id})" if run.job_name else f"job {run.job_id}"
        return f"{name} (last seen {seen})" if seen else name

    def results(self) -> Iterator[dict[str, Any]]:
        """
        Yield the result of each run, in the order of the runs, as tasks push it to XCom.

        The keys are those of :meth:`RunReport.to_result`; of a run that is not over, or whose outcome is not known,
        ``outcome`` and ``metrics`` are None.
        """
        for run in self.runs:
            report = self.reports.get(run.job_id)
            if report is not None:
                yield report.to_result()
                continue
            latest = self._latest.get(run.job_id)
            run_count = self._trackers[run.job_id].run_count
            of_run = latest if latest is not None and latest.run_count == run_count else None
            unfinished = unfinished_result(run.job_id, run.job_name, of_run)
            error = self.unresolved.get(run.job_id)
            yield {
                **unfinished,
                "run_count": run_count,
                "error_message": str(error) if error else unfinished["error_message"],
            }


def unfinished_result(job_id: str, job_name: str, run: JobRun | None) -> dict[str, Any]:
    """
    Return the result of a run that was not waited for, with the keys that a finished one has.

    :param run: None for a job that has never run
    """
    return {**run_summary(job_id, job_name, run), "metrics": None, "metrics_final": False}


def sum_metrics(results: Sequence[dict[str, Any]]) -> dict[str, int | None]:
    """
    Return the record counts of many results added up.

    :param results: as :meth:`RunGroup.results` yields them; those without metrics count as nothing. A count that one of
        the others does not have is None
    """
    names = ("input_count", "output_count", "error_count", "stage_errors_count", "total_error_count")
    metrics = [result["metrics"] for result in results if result["metrics"]]
    columns = {name: [counts[name] for counts in metrics] for name in names}
    return {name: None if None in column else sum(column) for name, column in columns.items()}


def wait_for_runs(
    group: RunGroup,
    *,
    poll_interval: float,
    timeout: float | None,
    total_timeout: float | None = None,
    stop_when: Callable[[RunGroup], bool] = lambda group: False,
    max_delay: Callable[[], float] = lambda: math.inf,
    now: Callable[[], float] | None = None,
    sleep: Callable[[float], None] | None = None,
) -> None:
    """
    Look at runs at intervals until all of them are over.

    :param group: the runs to wait for
    :param poll_interval: seconds between two looks
    :param timeout: seconds after which to give up; None waits for ever
    :param total_timeout: the time of which `timeout` is left, for the message
    :param stop_when: called after each look; ends the wait early when it returns True
    :param max_delay: called after each look; returns seconds within which there is to be another one, although the
        interval is longer
    :raises ControlHubRunTimeoutError: if they have not ended in time
    :raises ControlHubError: as :meth:`RunGroup.poll`
    """
    now, sleep = now or time.monotonic, sleep or time.sleep
    deadline = math.inf if timeout is None else now() + timeout
    while True:
        is_last_poll = now() >= deadline
        with group.client.within(lambda: deadline - now()):
            group.poll(skip_metrics_wait=is_last_poll)
        if group.is_done or stop_when(group):
            return
        if is_last_poll:
            raise group.timed_out(total_timeout or timeout)
        sleep(min(group.next_delay(poll_interval), max_delay(), max(deadline - now(), 0.0)))


class _RunOutage:
    """Logs an outage of what is read of one run, and notes which runs could not be answered."""

    def __init__(self, job_id: str, failed_reads: set[str], log: Log) -> None:
        self._job_id = job_id
        self._failed_reads = failed_reads
        self._log = OutageLog(log)

    def failed(self, error: ControlHubError) -> None:
        self._failed_reads.add(self._job_id)
        self._log.failed(error)

    def succeeded(self) -> None:
        self._failed_reads.discard(self._job_id)
        self._log.succeeded()


class _JobLog:
    """Puts the name of a job before the lines of its run; those of another thread are held for the task's own."""

    def __init__(self, log: Log, name: str) -> None:
        self._log = log
        self._name = name
        self._held: list[Callable[[], Any]] | None = None

    def hold(self) -> None:
        """Keep lines until :meth:`release`."""
        self._held = []

    def release(self) -> None:
        """Log what was held, and what comes from now on."""
        held, self._held = self._held or (), None
        for log_line in held:
            log_line()

    def _write(self, write: Callable[..., Any], msg: str, args: tuple[Any, ...]) -> None:
        log_line = functools.partial(write, f"%s: {msg}", self._name, *args)
        if self._held is None:
            log_line()
        else:
            self._held.append(log_line)

    def info(self, msg: str, /, *args: Any) -> Any:
        self._write(self._log.info, msg, args)

    def warning(self, msg: str, /, *args: Any) -> Any:
        self._write(self._log.warning, msg, args)
