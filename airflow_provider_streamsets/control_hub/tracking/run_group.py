"""Track many runs with bulk status requests."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub._messages import join_truncated
from airflow_provider_streamsets.control_hub.bulk_status import BulkStatusReader
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubError,
    ControlHubRunTimeoutError,
    is_fatal,
)
from airflow_provider_streamsets.control_hub.models import JobRun, RunRef
from airflow_provider_streamsets.control_hub.paging import chunked
from airflow_provider_streamsets.control_hub.tracking.conditions import MetricCondition, ViolationCheck
from airflow_provider_streamsets.control_hub.tracking.progress import Progress, describe_completion, sum_counts
from airflow_provider_streamsets.control_hub.tracking.report import RunReport, run_summary
from airflow_provider_streamsets.control_hub.tracking.run import (
    DEFAULT_METRICS_TIMEOUT,
    METRICS_INTERVAL,
    Log,
    OutageLog,
    RunTracker,
    fetch_status,
)

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient

# Ended runs whose outcomes and metrics are read concurrently; a session keeps 10 connections.
_CONCURRENT_READS = 8
# Seconds after the deadline within which the last poll may start to read ended runs.
_LAST_POLL_LIMIT = 60.0
# Concurrent reads of ended runs are slow if they take longer than the allowance. When the excess adds up to the limit,
# each further request gets two seconds, as if the deadline had passed by eight, until an hour after the last slow read.
_READ_TIME_ALLOWANCE = 10.0
_SLOW_READS_LIMIT = 60.0
_TIME_LEFT_AFTER_SLOW_READS = -8.0
_SLOW_READS_MEMORY = 3600.0


class RunGroup:
    """
    Tracks many runs, each with a :class:`RunTracker`.

    :param client: the client for statuses, and for the events and metrics of ended runs
    :param runs: the runs, of different jobs
    :param metrics_timeout: maximum number of seconds to wait for the final record counts of each ended run
    :param upper_bounds: conditions on the metrics of active runs; the first violation fails the wait for the run
    :param until_active: wait until the runs are active instead of their ends
    :param active: ids of the jobs whose runs were seen active before
    :param fail_on_red_after: seconds that a run may be ``RED``; None sets no limit
    :param red_for: seconds that runs had been ``RED`` at the previous poll, by job id
    :param reports: reports of completed runs, by job id
    :param stopped: ids of the jobs whose runs the task has stopped
    :param now: clock in seconds
    :param log: logger for progress messages
    """

    def __init__(
        self,
        client: ControlHubClient,
        runs: Sequence[RunRef],
        *,
        metrics_timeout: float = DEFAULT_METRICS_TIMEOUT,
        upper_bounds: Sequence[MetricCondition] = (),
        until_active: bool = False,
        active: Collection[str] = (),
        fail_on_red_after: float | None = None,
        red_for: Mapping[str, float] | None = None,
        reports: Mapping[str, RunReport] | None = None,
        stopped: Collection[str] = (),
        now: Callable[[], float] | None = None,
        log: Log | None = None,
    ) -> None:
        self.runs = tuple(runs)
        self.client = client
        """The client of this group."""
        self._statuses = BulkStatusReader(client)
        self._log: Log = log or logging.getLogger(__name__)
        self._logs = {run.job_id: _HeldLog(self._log) for run in runs}
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
                while_running=ViolationCheck(client, run.job_id, run.run_count, upper_bounds) if upper_bounds else None,
                now=now,
                log=self._logs[run.job_id],
                outage=_RunOutage(run, self._failed_reads, self._logs[run.job_id]),
            )
            for run in runs
        }
        self._progress = Progress()
        if len(self._trackers) > 1:
            # One line for all runs instead of one for each.
            for tracker in self._trackers.values():
                tracker.progress_interval = 0.0
        self._now = now or time.monotonic
        self._lost_time = 0.0
        self._slow_at = -math.inf
        self._until_active = until_active
        self._active = frozenset(active)
        self._outage = OutageLog(self._log)
        self.latest: dict[str, JobRun] = {}
        """Latest runs of the jobs at the last successful poll, by job id."""
        self.stopped = set(stopped)
        """Ids of the jobs whose runs the task stopped."""
        self.reports = {job_id: self._attributed(report) for job_id, report in (reports or {}).items()}
        """Reports of the completed runs, by job id."""
        self.unresolved: dict[str, ControlHubError] = {}
        """Errors of the runs whose outcome cannot be determined, by job id."""
        self.poll_failed = False
        """Whether Control Hub could not be reached for the statuses at the last poll."""

    @property
    def is_done(self) -> bool:
        """Whether the wait is over for all runs."""
        return len(self.reports) + len(self.unresolved) == len(self._trackers)

    @property
    def is_unavailable(self) -> bool:
        """Whether Control Hub could not be reached at the last poll, so that another one would take as long."""
        incomplete = self._trackers.keys() - self.reports.keys() - self.unresolved.keys()
        # Runs that have ended can be completed without what could not be read.
        return self.poll_failed or (bool(self.unfinished) and incomplete <= self._failed_reads)

    @property
    def unfinished(self) -> dict[str, int]:
        """Run counts of the runs that have not ended, or with `until_active` are not active, by job id."""
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
        """Run counts of the completed runs that have not ended, by job id."""
        reports = self.reports.items()
        return {job_id: report.run.run_count for job_id, report in reports if not report.run.has_ended}

    @property
    def red_for(self) -> dict[str, float]:
        """Seconds that unfinished runs have been ``RED``, by job id."""
        trackers = {job_id: self._trackers[job_id] for job_id in self.unfinished}
        return {job_id: red_for for job_id, one in trackers.items() if (red_for := one.red_for) is not None}

    @property
    def failures(self) -> dict[str, str]:
        """Summaries of the failed runs, as soon as they are known, by job id."""
        failed = {
            job_id: failure for job_id, tracker in self._trackers.items() if (failure := tracker.failure) is not None
        }
        failed.update({job_id: report.summary for job_id, report in self.red.items()})
        return {**failed, **{job_id: str(error) for job_id, error in self.unresolved.items()}}

    def next_delay(self, poll_interval: float) -> float:
        """
        Return the seconds until the next poll.

        :param poll_interval: poll interval of running jobs
        """
        delays = (self._trackers[job_id].next_delay(poll_interval) for job_id in self.unfinished)
        return min(delays, default=min(poll_interval, METRICS_INTERVAL))

    def poll(self, *, skip_metrics_wait: bool = False) -> None:
        """
        Poll all unfinished runs, and read the details of those that have ended.

        An outage is logged and does not end the wait.

        :param skip_metrics_wait: do not wait for final metrics
        :raises ControlHubError: on a fatal error, such as a rejected credential, or if there is only one run, and its
            outcome cannot be determined
        """
        try:
            statuses = self._fetch_statuses()
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
            fetched = statuses.get(job_id)
            # An error of a single job means no more than a missing status.
            status = None if isinstance(fetched, ControlHubError) else fetched
            if tracker.has_ended or (job_id in statuses and tracker.observe(status)):
                to_resolve.append(tracker)
            else:
                self._failed_reads.discard(job_id)
        self._resolve_all(to_resolve, skip_metrics_wait)
        if len(self.runs) > 1:
            self._log_progress()

    def _log_progress(self) -> None:
        now, unfinished = self._now(), self.unfinished
        if not unfinished or not self._progress.is_due(now, self.client.progress_interval):
            return
        counts = [
            run.counts for job_id, run in self.latest.items() if run.run_count == self._trackers[job_id].run_count
        ]
        text = self._progress.describe(sum_counts(counts), now)
        if text:
            number = len(self.runs)
            completion = describe_completion(
                number, number - len(unfinished), len(self.failures), until_active=self._until_active
            )
            self._log.info("%s: %s.", completion, text)

    def _fetch_statuses(self) -> dict[str, JobRun | ControlHubError | None]:
        job_ids = list(self.unfinished)
        if not job_ids:
            return {}
        statuses: dict[str, JobRun | ControlHubError | None]
        if len(self.runs) == 1:
            # The tracker itself finds out why a single job cannot be read.
            statuses = {job_id: fetch_status(self.client, job_id) for job_id in job_ids}
        else:
            statuses = self._statuses.fetch_runs(job_ids)
        self.latest.update({job_id: run for job_id, run in statuses.items() if isinstance(run, JobRun)})
        return statuses

    def _resolve_all(self, trackers: list[RunTracker], skip_metrics_wait: bool) -> None:
        """
        Read the outcomes of runs concurrently; reports and log lines keep the order of the runs.

        Remaining reads are left to the next poll when the time is over or a whole batch has failed. Runs whose reads
        failed at the previous poll come last, so that they do not delay others. The time spent on slow reads is limited
        for the group, with or without a deadline.
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
            # A kill or time-out of the task must not wait for pending requests.
            pool.shutdown(wait=False, cancel_futures=True)

    @contextlib.contextmanager
    def _timed_reads(self) -> Iterator[None]:
        """Measure the reads of many runs, and shorten them if earlier ones were slow."""
        if len(self.runs) == 1:
            yield
            return
        time_left, started_at = self.client.time_left, self._now()
        if started_at - self._slow_at > _SLOW_READS_MEMORY:
            self._lost_time = 0.0
        if self._lost_time < _SLOW_READS_LIMIT:
            yield
        else:
            with self.client.within(lambda: min(time_left(), _TIME_LEFT_AFTER_SLOW_READS)):
                yield
        previously_lost, ended_at = self._lost_time, self._now()
        if ended_at - started_at > _READ_TIME_ALLOWANCE:
            self._lost_time = previously_lost + ended_at - started_at - _READ_TIME_ALLOWANCE
            self._slow_at = ended_at
        if previously_lost < _SLOW_READS_LIMIT <= self._lost_time:
            self._log.warning(
                "Reading the events and metrics of ended runs is too slow. For an hour, each further request is "
                "limited to 2 seconds; metrics not received in that time are missing in the results."
            )

    def _record_resolution(self, tracker: RunTracker, resolve: Callable[[], RunReport | None]) -> None:
        job_id = tracker.job_id
        try:
            report = resolve()
        except ControlHubError as error:
            if job_id not in self._active and len(self.runs) == 1:
                raise
            # Other runs may still have an outcome. A rejected credential shows at the next poll.
            self._log.warning("%s", error)
            if job_id not in self._active:
                self.unresolved[job_id] = error
                return
            # The run was active, which completes the wait; the job may have been deleted since.
            run = JobRun("", job_id, tracker.run_count, "ACTIVE", "GREEN")
            report = RunReport.from_active_run(job_id=job_id, job_name=tracker.job_name, run=run)
        if report is not None:
            report = self.reports[job_id] = self._attributed(report)
            if len(self.runs) > 1:
                self._log.info(report.summary)

    def _attributed(self, report: RunReport) -> RunReport:
        # A run that is RED is stopped after its report.
        return replace(report, stopped_by_task=report.job_id in self.stopped and report.run.has_ended)

    def timed_out(self, seconds: float | None, stopped: Mapping[str, str] | None = None) -> ControlHubRunTimeoutError:
        """
        Return the error for runs that have not ended in time.

        :param seconds: the timeout
        :param stopped: last statuses of the runs that were stopped because of it, by job id
        """
        if len(self.runs) == 1:
            return self._trackers[self.runs[0].job_id].timed_out(seconds)
        limit = f" within {seconds:g} s" if seconds is not None else " in time"
        stopped = stopped or {}
        unfinished = {*self.unfinished, *stopped}
        late = [run for run in self.runs if run.job_id in unfinished]
        problem = f"have not {'become active' if self._until_active else 'ended'}{limit}"
        if not late:
            late = [run for run in self.runs if run.job_id not in self.reports and run.job_id not in self.unresolved]
            problem = f"have ended, but whether they were stopped could not be determined{limit}"
        labels = join_truncated([self._label(run, stopped.get(run.job_id)) for run in late])
        return ControlHubRunTimeoutError(f"{len(late)} of {len(self.runs)} runs {problem}: {labels}.")

    def _label(self, run: RunRef, status: str | None) -> str:
        status = self._trackers[run.job_id].last_seen if status is None else status
        name = f"job '{run.job_name}'" if run.job_name else f"job {run.job_id}"
        return f"{name} run {run.run_count}" + (f" (last status: {status})" if status else "")

    def results(self) -> Iterator[dict[str, Any]]:
        """
        Yield the result of each run for XCom, in the order of the runs.

        The keys are those of :meth:`RunReport.to_result`. For a run without an outcome, ``outcome`` and ``metrics`` are
        None.
        """
        for run in self.runs:
            report = self.reports.get(run.job_id)
            if report is not None:
                yield report.to_result()
                continue
            latest = self.latest.get(run.job_id)
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
    Return the result of an unfinished run, with the same keys as that of a finished one.

    :param run: None for a job that has never run
    """
    return {**run_summary(job_id, job_name, run), "metrics": None, "metrics_final": False}


def sum_metrics(results: Sequence[dict[str, Any]]) -> dict[str, int | None]:
    """
    Return the sums of the record counts of several results.

    :param results: results of :meth:`RunGroup.results`; those without metrics are ignored. A count that one of the
        others lacks is None
    """
    names = ("input_count", "output_count", "error_count", "stage_errors_count", "total_error_count")
    metrics = [result["metrics"] for result in results if result["metrics"]]
    columns = {name: [counts[name] for counts in metrics] for name in names}
    return {name: None if None in column else sum(column) for name, column in columns.items()}


class _RunOutage:
    """Logs outages while reading one run, and records which runs are affected."""

    def __init__(self, run: RunRef, failed_reads: set[str], log: Log) -> None:
        self._job_id = run.job_id
        self._failed_reads = failed_reads
        self._log = OutageLog(log, f"Job '{run.job_name}': " if run.job_name else f"Job {run.job_id}: ")

    def failed(self, error: ControlHubError) -> None:
        self._failed_reads.add(self._job_id)
        self._log.failed(error)

    def succeeded(self) -> None:
        self._failed_reads.discard(self._job_id)
        self._log.succeeded()


class _HeldLog:
    """Holds back lines that another thread logs until :meth:`release`."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._held: list[Callable[[], Any]] | None = None

    def hold(self) -> None:
        """Hold lines back until :meth:`release`."""
        self._held = []

    def release(self) -> None:
        """Log the held lines, and log further ones immediately."""
        held, self._held = self._held or (), None
        for log_line in held:
            log_line()

    def _write(self, write: Callable[..., Any], msg: str, args: tuple[Any, ...]) -> None:
        log_line = functools.partial(write, msg, *args)
        if self._held is None:
            log_line()
        else:
            self._held.append(log_line)

    def info(self, msg: str, /, *args: Any) -> Any:
        self._write(self._log.info, msg, args)

    def warning(self, msg: str, /, *args: Any) -> Any:
        self._write(self._log.warning, msg, args)
