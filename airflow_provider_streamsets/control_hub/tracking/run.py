"""
Track a run until it ends.

:class:`RunTracker` decides from successive polls of a job when the run is over and what its outcome is. It never
sleeps, so a worker (:func:`~airflow_provider_streamsets.control_hub.tracking.wait.wait_for_runs`) and a trigger can
share its rules.
"""

from __future__ import annotations

import enum
import functools
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from airflow_provider_streamsets.control_hub import submission
from airflow_provider_streamsets.control_hub._messages import run_label
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubPermissionError,
    ControlHubRejectedError,
    ControlHubRunLostError,
    ControlHubRunTimeoutError,
    ControlHubUnavailableError,
    ControlHubUnexpectedResponseError,
    is_fatal,
    is_server_error,
)
from airflow_provider_streamsets.control_hub.models import (
    KNOWN_STATUSES,
    EnginePipeline,
    JobRun,
    Outcome,
    RunEvent,
    RunIdentity,
    RunMetrics,
)
from airflow_provider_streamsets.control_hub.tracking.progress import Progress, describe_counts
from airflow_provider_streamsets.control_hub.tracking.report import RunReport, saved_after_end

if TYPE_CHECKING:
    import pendulum

    from airflow_provider_streamsets.control_hub.client import ControlHubClient

log = logging.getLogger(__name__)

DEFAULT_METRICS_TIMEOUT = 30.0
# Successive polls without a run until a job counts as imported again: a quarter of an hour by default.
_MAX_POLLS_WITHOUT_RUN = 30
# Seconds after its start within which a run may still be missing in the status of its job.
_VISIBLE_WITHIN = 300.0
# Maximum number of seconds to wait for the events that show whether a seemingly successful run was stopped.
_EVENTS_TIMEOUT = 300.0
# Poll interval for the final metrics of an ended run.
METRICS_INTERVAL = 5.0
# Young runs are polled more often: after this fraction of their age, but at least so many seconds.
_AGE_FACTOR = 0.5
_MIN_DELAY = 2.0

_Result_co = TypeVar("_Result_co", covariant=True)


def poll_delay(interval: float, age: float) -> float:
    """
    Return the seconds until the next poll of a run.

    :param interval: poll interval of older runs
    :param age: seconds since the run started
    """
    return min(interval, max(age * _AGE_FACTOR, _MIN_DELAY))


class Log(Protocol):
    """The methods used of a logger; Airflow has several kinds."""

    def info(self, msg: str, /, *args: Any) -> Any:
        """Log at level INFO."""

    def warning(self, msg: str, /, *args: Any) -> Any:
        """Log at level WARNING."""


class OutageListener(Protocol):
    """Receives the results of requests."""

    def failed(self, error: ControlHubError) -> None:
        """Record that Control Hub could not be reached."""

    def succeeded(self) -> None:
        """Record that Control Hub could be reached."""


class NotifyOn(enum.Enum):
    """Which status polls a tracker must receive."""

    CHANGES = "changes"
    """Changes of status, color, warnings, errors, engine reports or failed engine commands."""
    COUNTS = "counts"
    """Also newly saved metrics."""
    LIVE_COUNTS = "live counts"
    """Also each poll of a run whose status has no counts although it should have some by now."""
    EVERY_POLL = "every poll"
    """Each poll at the tracker's interval, even without changes."""


class Tracker(Generic[_Result_co]):
    """
    Decides from successive polls of a job when a wait for one of its runs is over.

    Call :meth:`observe` with each status of the job. When it returns True, call :meth:`resolve`, which may send
    requests, until it returns a result.

    :param client: the client for information that a status does not have
    :param job_id: id of the job
    :param run_count: number of the run
    :param job_name: name of the job, for messages
    :param log: logger for progress messages
    :param outage: notified when Control Hub becomes unreachable and reachable again; logs this by default
    """

    # A triggerer can hold thousands of them.
    __slots__ = ("_client", "_job_name", "_log", "_outage", "_run_count", "job_id", "poll_failed", "progress_interval")

    def __init__(
        self,
        client: ControlHubClient,
        job_id: str,
        run_count: int,
        job_name: str,
        log: Log | None,
        outage: OutageListener | None = None,
    ) -> None:
        self.job_id = job_id
        self._client = client
        self._run_count = run_count
        self._job_name = job_name
        self._log: Log = log or logging.getLogger(__name__)
        self._outage = outage or OutageLog(self._log)
        self.progress_interval = 0.0
        """Minimum seconds between two log lines with record counts; 0 for none."""
        self.poll_failed = False
        """Whether Control Hub could not be reached at the last poll."""

    @property
    def client(self) -> ControlHubClient:
        """The client of this tracker."""
        return self._client

    @property
    def run_count(self) -> int:
        """Number of the run; that of its successor if an upgrade of the job replaced it."""
        return self._run_count

    @property
    def job_name(self) -> str:
        """Name of the job, for messages."""
        return self._job_name

    @property
    def started_after(self) -> pendulum.DateTime | None:
        """Earliest start time of the run while it does not exist yet; None once it is known."""
        return None

    @property
    def identity(self) -> RunIdentity:
        """Identity of the run, as far as known; distinguishes it from a run of a re-imported job."""
        return RunIdentity()

    @property
    def has_ended(self) -> bool:
        """Whether the run has ended; its metrics or events may still be missing."""
        raise NotImplementedError

    @property
    def notify_on(self) -> NotifyOn:
        """Which polls :meth:`observe` must receive, apart from those that raise doubts about the job or run."""
        return NotifyOn.CHANGES

    def observe(self, status: JobRun | None) -> bool:
        """
        Process the status of the job's latest run, without sending requests.

        :param status: None if Control Hub returned none
        :returns: whether :meth:`resolve` must be called
        """
        raise NotImplementedError

    def next_delay(self, poll_interval: float) -> float:
        """
        Return the seconds until the next poll.

        :param poll_interval: poll interval of a running job
        """
        return min(poll_interval, METRICS_INTERVAL) if self.has_ended else poll_interval

    def timed_out(self, seconds: float | None) -> ControlHubRunTimeoutError:
        """
        Return the error of a wait that timed out.

        :param seconds: the timeout
        """
        raise NotImplementedError

    def poll(self, *, skip_metrics_wait: bool = False) -> _Result_co | None:
        """
        Read the job's status, then call :meth:`observe` and :meth:`resolve`.

        :param skip_metrics_wait: do not wait for final metrics
        :returns: as :meth:`resolve`
        :raises ControlHubError: as :meth:`resolve`
        """

        def fetch_and_resolve() -> _Result_co | None:
            status = None if self.has_ended else fetch_status(self._client, self.job_id)
            return self._resolve(skip_metrics_wait) if self.observe(status) else None

        return self._tolerate_outage(fetch_and_resolve)

    def resolve(self, *, skip_metrics_wait: bool = False) -> _Result_co | None:
        """
        Complete the last observation with further requests.

        An outage is logged and does not end the wait.

        :param skip_metrics_wait: do not wait for final metrics
        :returns: the result when the wait is over, else None
        :raises ControlHubRunLostError: if the job does not exist any more, or was restarted and its history lacks the
            run
        :raises ControlHubError: on a fatal error, such as a rejected credential
        """
        return self._tolerate_outage(lambda: self._resolve(skip_metrics_wait))

    def _resolve(self, skip_metrics_wait: bool) -> _Result_co | None:
        raise NotImplementedError

    def _tolerate_outage(self, request: Callable[[], _Result_co | None]) -> _Result_co | None:
        try:
            result = request()
        except ControlHubError as error:
            if is_fatal(error):
                raise
            self.poll_failed = True
            self._outage.failed(error)
            return None
        self.poll_failed = False
        self._outage.succeeded()
        return result


class RunTracker(Tracker[RunReport]):
    """
    Tracks one run of a job until it has ended; the result is its report.

    With `until_active`, it tracks the run until it is active and its pipelines are running. The outcome in the report
    is then None, even if the run succeeded before it was seen active. A run can stay ``RED`` forever, for example if an
    engine refuses to start it; `fail_on_red_after` turns that into a failure.

    With `started_after`, it tracks the first run started at that time or later. Until that run exists,
    :attr:`run_count` is its lowest possible number.

    If an upgrade of the active job replaces the run, its successor is tracked. A job that was deleted and imported
    again counts its runs from 1 again; these are not mistaken for the tracked run.

    :param client: the client for information that a status does not have
    :param job_id: id of the job
    :param run_count: number of the run
    :param job_name: name of the job, for messages
    :param identity: identity of the run, as far as known
    :param metrics_timeout: maximum number of seconds to wait for the final record counts of the ended run
    :param missing_threshold: number of successive polls that must miss the job or run before it counts as gone
    :param until_active: wait until the run is active instead of its end
    :param was_active: the run was seen active before, which completes the wait whatever its status is now
    :param fail_on_red_after: seconds that the run may be ``RED`` without a poll showing otherwise; None sets no limit
    :param red_for: seconds that it had been ``RED`` at the previous poll; None if it was not
    :param started_after: earliest start time of the run; None if its number is known
    :param while_running: called by :meth:`resolve` with each status of the active run; may send requests, and raise to
        end the wait
    :param now: clock in seconds
    :param log: logger for progress messages
    :param outage: notified when Control Hub becomes unreachable and reachable again; logs this by default
    """

    __slots__ = (
        "_ended",
        "_ended_at",
        "_engine_pipelines",
        "_events",
        "_fail_on_red_after",
        "_identity",
        "_last_line",
        "_last_seen",
        "_latest",
        "_latest_run_count",
        "_metrics_timeout",
        "_missing_polls",
        "_missing_threshold",
        "_now",
        "_problem",
        "_progress",
        "_red_since",
        "_replaced",
        "_started_after",
        "_started_at",
        "_until_active",
        "_was_active",
        "_while_running",
    )

    def __init__(
        self,
        client: ControlHubClient,
        job_id: str,
        run_count: int,
        *,
        job_name: str = "",
        identity: RunIdentity | None = None,
        metrics_timeout: float = DEFAULT_METRICS_TIMEOUT,
        missing_threshold: int = 3,
        until_active: bool = False,
        was_active: bool = False,
        fail_on_red_after: float | None = None,
        red_for: float | None = None,
        started_after: pendulum.DateTime | None = None,
        while_running: Callable[[JobRun], None] | None = None,
        now: Callable[[], float] | None = None,
        log: Log | None = None,
        outage: OutageListener | None = None,
    ) -> None:
        super().__init__(client, job_id, run_count, job_name, log, outage)
        self._metrics_timeout = metrics_timeout
        self._missing_threshold = missing_threshold
        self._while_running = while_running
        self._now = now or time.monotonic
        self._started_at = self._now()
        # Keeps as little of each status as possible: there may be thousands of trackers.
        self._latest: JobRun | None = None
        self._last_seen = ""
        self._ended: JobRun | None = None
        self._events: list[RunEvent] | None = None
        self._ended_at = 0.0
        self._engine_pipelines: tuple[EnginePipeline, ...] = ()
        self._missing_polls = 0
        self._last_line: str | tuple[str, str] = ""
        self._identity = identity or RunIdentity()
        self._replaced: int | None = None
        self._until_active = until_active
        self._was_active = was_active
        self._fail_on_red_after = fail_on_red_after
        self._red_since = None if red_for is None else self._now() - red_for
        self._problem = ""
        self._progress = Progress()
        self.progress_interval = client.progress_interval
        self._started_after = started_after
        # Number of the job's latest run, 0 if it has none, until the tracked run exists.
        self._latest_run_count: int | None = None

    @property
    def replaced(self) -> int | None:
        """Number of the originally tracked run, if an upgrade of the job replaced it."""
        return self._replaced

    @property
    def started_after(self) -> pendulum.DateTime | None:
        """Earliest start time of the run while it does not exist yet; None once it is known."""
        return self._started_after

    @property
    def identity(self) -> RunIdentity:
        """Identity of the run, as far as known; distinguishes it from a run of a re-imported job."""
        return self._identity

    @property
    def _job_label(self) -> str:
        return f"'{self._job_name}'" if self._job_name else self.job_id

    @property
    def run_label(self) -> str:
        """The tracked run, for error messages."""
        if self._started_after is not None:
            return f"the first run of job {self._job_label} started at or after {self._started_after}"
        return f"job {self._job_label} run {self._run_count}"

    @property
    def _log_label(self) -> str:
        return run_label(self.job_id, self._run_count, self._job_name)

    @property
    def has_ended(self) -> bool:
        """Whether the run has ended; its metrics or events may still be missing."""
        return self._ended is not None

    @property
    def notify_on(self) -> NotifyOn:
        """Every poll with a callback, a timed ``RED`` status or a missing run; otherwise changes only."""
        is_timed = self._fail_on_red_after is not None and self._red_since is not None
        needs_every_poll = self._while_running is not None or self._missing_polls or is_timed
        return NotifyOn.EVERY_POLL if needs_every_poll else NotifyOn.CHANGES

    @property
    def red_for(self) -> float | None:
        """Seconds that the run has been ``RED``; None if it was not at the last poll."""
        return None if self._red_since is None else max(self._now() - self._red_since, 0.0)

    @property
    def active_run(self) -> JobRun | None:
        """The tracked run if it was active at the last :meth:`resolve`; None if it has ended or is missing."""
        latest = self._latest
        is_active = latest is not None and latest.run_count == self._run_count and not latest.has_ended
        return latest if is_active else None

    @property
    def failure(self) -> str | None:
        """Summary of a failed run as soon as its end is known; None if it has not failed."""
        if self._ended is None:
            return None
        report = self._report(self._ended, self._events or [])
        return report.summary if report.outcome is Outcome.FAILED else None

    def observe(self, status: JobRun | None) -> bool:
        """
        Process the status of the job's latest run, without sending requests.

        :param status: None if Control Hub returned none
        :returns: whether :meth:`resolve` must be called
        """
        if self._ended is not None:
            return True
        needs_resolve = self._process_status(status)
        self._latest = status if needs_resolve else None
        return needs_resolve

    def _process_status(self, status: JobRun | None) -> bool:
        if status is None:
            return True
        if not self._is_own_job(status):
            return False
        self._last_seen = sys.intern(f"{status.status}/{status.color}")
        if self._started_after is not None:
            if not self._client.runs.has_started_since(status, self._started_after):
                self._run_count = status.run_count + 1
                self._latest_run_count, self._missing_polls = status.run_count, 0
                return False
            if status.run_count != self._run_count:
                self._latest_run_count = status.run_count
                return True
            self._follow_first_run(status)
        self._latest_run_count = status.run_count if status.run_count < self._run_count else None
        if self._identity.contradicts(status, self._run_count):
            return True
        if status.run_count < self._run_count:
            # Just after a start, the status can still be that of the previous run (contract sections 10.5 and 18.31).
            self._missing_polls = 0
            return False
        if status.run_count == self._run_count:
            self._missing_polls = 0
            if not self._identity.run_id:
                self._identity = RunIdentity.from_run(status)
            self._record_status(status)
            return status.has_ended or self._while_running is not None or self._is_done(status)
        return True

    def _follow_first_run(self, run: JobRun) -> None:
        """Track a run as the first one started after the time."""
        self._run_count, self._started_after = run.run_count, None
        self._log.info("%s: started at %s; waiting for it.", self._log_label, run.start_time)

    def _is_done(self, status: JobRun) -> bool:
        """Return whether the wait is over although the run has not ended."""
        return (self._until_active and (status.is_working or self._was_active)) or self._is_red_for_too_long

    @property
    def _is_red_for_too_long(self) -> bool:
        red_for = self.red_for
        return self._fail_on_red_after is not None and red_for is not None and red_for >= self._fail_on_red_after

    def _is_own_job(self, status: JobRun) -> bool:
        """Return whether a status is about this job; one of another job must not end the wait."""
        if status.job_id in {"", self.job_id}:
            return True
        self._log.warning(
            "Job %s: Control Hub returned the status of job %s instead; ignoring it.", self.job_id, status.job_id
        )
        return False

    def _record_status(self, status: JobRun) -> None:
        # Control Hub clears them when the job becomes inactive, which is when the report needs them.
        if status.engine_pipelines:
            self._engine_pipelines = _interned_pipelines(
                *((pipeline.engine_id, pipeline.status, pipeline.message) for pipeline in status.engine_pipelines)
            )
        if not status.is_red:
            self._red_since = None
        elif self._red_since is None:
            self._red_since = self._now()
        self._problem = status.problem
        state = sys.intern(f"{status.status or 'no status'}/{status.color or 'no color'}")
        progress, counts = self._describe_progress(status), describe_counts(status.counts)
        line = (state, self._problem) if status.is_red else state
        if line == self._last_line:
            if progress:
                self._log.info("%s: %s, %s", self._log_label, state, progress)
            return
        self._last_line = line
        self._log.info("%s: %s%s", self._log_label, state, f", {counts}" if any(status.counts) else "")
        if status.is_red:
            self._log.warning(
                "%s: Control Hub reports a problem, which may be temporary: %s",
                self._log_label,
                self._problem or "no details",
            )
        if status.status not in KNOWN_STATUSES:
            self._log.warning("%s: unknown status '%s'; still waiting.", self._log_label, status.status)

    def _describe_progress(self, status: JobRun) -> str:
        now = self._now()
        if status.status != "ACTIVE" or not self._progress.is_due(now, self.progress_interval):
            return ""
        return self._progress.describe(status.counts, now)

    def next_delay(self, poll_interval: float) -> float:
        """
        Return the seconds until the next poll.

        :param poll_interval: poll interval of a run that is not young
        """
        started = self._identity.started
        if self.has_ended or started is None or self._missing_polls:
            return super().next_delay(poll_interval)
        # Clocks may differ, but the run is at least as old as this wait.
        age = submission.wall_clock() + self._client.clock_skew - started
        return poll_delay(poll_interval, max(age, self._now() - self._started_at))

    def timed_out(self, seconds: float | None) -> ControlHubRunTimeoutError:
        """
        Return the error for a run that has not ended in time.

        :param seconds: the timeout
        """
        limit = f" within {seconds:g} s" if seconds is not None else " in time"
        if self._ended is not None:
            return ControlHubRunTimeoutError(
                f"{_capitalize(self.run_label)} ended {self._ended.status}/{self._ended.color}, but whether it was "
                f"stopped could not be determined{limit}: reading its events failed."
            )
        if self._started_after is not None:
            last = f" Its latest run is {self._latest_run_count} ({self._last_seen})." if self._latest_run_count else ""
            if self._latest_run_count is not None and self._latest_run_count >= self._run_count:
                return ControlHubRunTimeoutError(
                    f"The first run of job {self._job_label} started at or after {self._started_after} could not be "
                    f"determined{limit}: reading the run history failed.{last}"
                )
            return ControlHubRunTimeoutError(
                f"No run of job {self._job_label} was started at or after {self._started_after}{limit}.{last}"
            )
        target = "become active" if self._until_active else "ended"
        last = f" Last status: {self.last_seen}." if self._last_seen else ""
        last = f" {self.not_reached_message}" if self.not_reached_message else last
        return ControlHubRunTimeoutError(f"{_capitalize(self.run_label)} has not {target}{limit}.{last}")

    @property
    def not_reached_message(self) -> str:
        """A sentence saying that the job had not reached the run at the last poll; empty if it had."""
        if self._latest_run_count is None:
            return ""
        latest = (
            f"its latest run is {self._latest_run_count} ({self._last_seen})"
            if self._latest_run_count
            else "it has never run"
        )
        return f"The job has not reached that run: {latest}."

    @property
    def last_seen(self) -> str:
        """Status, color and problem at the last poll, for messages; empty before the first poll."""
        if self._latest_run_count:
            return f"only run {self._latest_run_count}, {self._last_seen}"
        return f"{self._last_seen}: {self._problem.rstrip('.')}" if self._problem else self._last_seen

    def _resolve(self, skip_metrics_wait: bool) -> RunReport | None:
        if self._ended is None:
            self._ended = self._find_ended_run()
            if self._ended is None:
                return self._resolve_running()
            self._ended_at = self._now()
        if self._events is None:
            self._events = self._read_events(self._ended, skip_metrics_wait=skip_metrics_wait)
            conflict = self._report(self._ended, self._events).conflict
            if conflict:
                self._log.warning(
                    "%s: conflicting evidence of the outcome (%s). Treating it as a success, because it ended %s/%s.",
                    self._log_label,
                    conflict,
                    self._ended.status,
                    self._ended.color,
                )
        if self._until_active:
            return self._early_end_report(self._ended)
        report = self._report(self._ended, self._events)
        timeout = 0.0 if report.run.has_failed_at_start else self._metrics_timeout
        is_early = self._now() < self._ended_at + timeout and not skip_metrics_wait
        report = self._with_metrics(report, self._events, is_last=not is_early)
        if is_early and not report.metrics_final:
            return None
        return report

    def _report(self, run: JobRun, events: list[RunEvent]) -> RunReport:
        if not run.engine_pipelines:
            run = replace(run, engine_pipelines=self._engine_pipelines)
        report = RunReport.build(job_id=self.job_id, job_name=self._job_name, run=run, events=events)
        return replace(report, replaced=self._replaced)

    def _early_end_report(self, run: JobRun) -> RunReport:
        """Return the report of a run that ended before or after it was seen active."""
        report = self._report(run, self._events or [])
        is_complete = self._was_active or report.outcome is Outcome.SUCCEEDED
        return replace(report, outcome=None, events=()) if is_complete else report

    def _resolve_running(self) -> RunReport | None:
        run = self.active_run
        if run is None:
            return None
        if self._is_done(run):
            names = {"job_id": self.job_id, "job_name": self._job_name}
            if self._until_active and (run.is_working or self._was_active):
                report = RunReport.from_active_run(**names, run=run)
            else:
                report = RunReport.from_red_run(**names, run=run, red_for=self.red_for or 0.0)
            return replace(report, replaced=self._replaced)
        if self._while_running is not None:
            self._while_running(run)
        return None

    def _find_ended_run(self) -> JobRun | None:
        latest = self._latest
        if latest is None:
            latest = self._latest = self._status_of_job()
            if latest is None or not self._process_status(latest):
                return None
        if self._identity.contradicts(latest, self._run_count):
            self._on_job_recreated(latest)
            return None
        try:
            if self._started_after is not None:
                first = self._client.runs.first_since(self.job_id, latest, self._started_after)
                if first is None:
                    return None
                self._follow_first_run(first)
                self._process_status(latest)
            if latest.run_count <= self._run_count:
                return latest if latest.run_count == self._run_count and latest.has_ended else None
            run = self._client.runs.get_or_successor(self.job_id, self._run_count, latest, run_id=self._identity.run_id)
        except (ControlHubNotFoundError, ControlHubPermissionError, ControlHubRejectedError) as error:
            if is_server_error(error):
                raise
            self._log.warning("%s: could not read the run history of the job. %s", self._log_label, error)
            run = None
        if run is not None and self._is_own_job(run):
            if self._identity.contradicts(run, self._run_count):
                self._on_job_recreated(run)
                return None
            self._missing_polls = 0
            if run.run_count > self._run_count:
                self._follow_successor(run)
            if run.run_count < latest.run_count:
                self._log.warning(
                    "%s: the job was restarted, its latest run is %d. Reading the outcome from the run history.",
                    self._log_label,
                    latest.run_count,
                )
            return run if run.has_ended else None
        self._missing_polls += 1
        if self._missing_polls >= self._missing_threshold:
            raise ControlHubRunLostError(
                f"The outcome of {self.run_label} is unknown: the job was restarted, its latest run is "
                f"{latest.run_count}, and its history does not contain run {self._run_count}."
            )
        return None

    def _follow_successor(self, run: JobRun) -> None:
        self._log.warning(
            "%s: an upgrade of the active job replaced it with run %d. Waiting for run %d instead.",
            self._log_label,
            run.run_count,
            run.run_count,
        )
        self._replaced = self._replaced or self._run_count
        self._run_count = run.run_count
        self._identity = RunIdentity.from_run(run)
        self._engine_pipelines = ()
        self._record_status(run)

    def _on_job_recreated(self, run: JobRun | None) -> None:
        """Raise because the job was imported again; a run that shows this must persist for several polls."""
        if run is not None:
            self._missing_polls += 1
            if self._missing_polls < self._missing_threshold:
                return
        latest = f"Its latest run is now {run.run_count}, started later." if run else "It has never run since."
        raise ControlHubRunLostError(
            f"The outcome of {self.run_label} is unknown: the job was deleted and imported again, which restarts its "
            f"run numbers. {latest}"
        )

    @property
    def _is_visible(self) -> bool:
        """Whether the run was started so long ago that the job must have a status."""
        if self._last_seen:
            return bool(self._identity.run_id)
        started = self._identity.started
        return started is not None and submission.wall_clock() + self._client.clock_skew - started > _VISIBLE_WITHIN

    def _status_of_job(self) -> JobRun | None:
        """
        Return the status in the job itself when the poll returned none; raise if the job is gone.

        A job without a status may also be one whose new run is not visible yet.
        """
        self._missing_polls += 1
        if self._missing_polls < self._missing_threshold:
            return None
        try:
            job = self._client.jobs.get(self.job_id)
        except ControlHubNotFoundError as error:
            raise ControlHubRunLostError(
                f"The outcome of {self.run_label} is unknown: the job does not exist any more. It was deleted, or has "
                f"'delete after completion' set. ({error})",
                http_status=error.http_status,
                issues=error.issues,
            ) from error
        if job.current_run is None and self._is_visible:
            started = self._identity.started
            is_new = started is not None and job.create_time is not None and job.create_time.timestamp() > started
            if is_new or self._missing_polls >= _MAX_POLLS_WITHOUT_RUN:
                self._on_job_recreated(None)
        else:
            self._missing_polls = 0
        if job.current_run is None:
            self._latest_run_count = None if self._is_visible else 0
            self._log.info("Job %s: no run is visible yet; still waiting.", job.label)
        return job.current_run

    def _read_events(self, run: JobRun, *, skip_metrics_wait: bool) -> list[RunEvent]:
        try:
            return self._client.runs.events(run.run_id)
        except ControlHubAuthenticationError:
            raise
        except ControlHubError as error:
            # The events show whether a successful run was stopped, so the wait continues during an outage. A failure
            # needs no events. How long Control Hub keeps them is unknown (contract section 18.22).
            is_outage = isinstance(error, ControlHubUnavailableError) or is_server_error(error)
            is_decisive = run.is_success and is_outage
            is_transient = is_outage or isinstance(error, ControlHubUnexpectedResponseError)
            is_early = self._now() < self._ended_at + (_EVENTS_TIMEOUT if is_decisive else self._metrics_timeout)
            if is_transient and is_early and (is_decisive or not skip_metrics_wait):
                raise
            self._log.warning("%s: could not read its events; the report lacks them. %s", self._log_label, error)
            return []

    def _with_metrics(self, report: RunReport, events: list[RunEvent], *, is_last: bool) -> RunReport:
        # The latest entry belongs to a newer run, if there is one; its number distinguishes them.
        latest = report.run
        if self._latest is not None and self._latest.run_count > self._run_count:
            latest = self._latest
        metrics = self._metrics_or_none(
            lambda: self._client.metrics.of_run(self.job_id, self._run_count, latest=latest, run=report.run)
        )
        metrics = metrics or RunMetrics.from_status(report.run)
        is_final = metrics is not None and saved_after_end(metrics.last_updated, report.run, events)
        # Counts without stage errors stem from the status: the record counts have no entry for the run.
        if is_last and not is_final and (metrics is None or metrics.stage_errors_count is None):
            counted = self._metrics_or_none(lambda: self._client.metrics.counted(self.job_id, self._run_count))
            metrics, is_final = (metrics, is_final) if counted is None else (counted, True)
        return report if metrics is None else replace(report, metrics=metrics, metrics_final=is_final)

    def _metrics_or_none(self, read: Callable[[], RunMetrics | None]) -> RunMetrics | None:
        try:
            return read()
        except ControlHubError as error:
            self._log.warning("%s: could not read its metrics. %s", self._log_label, error)
            return None


@functools.lru_cache(maxsize=1000)
def _interned_pipelines(*reports: tuple[str, str, str | None]) -> tuple[EnginePipeline, ...]:
    """Return the fields of engine reports to keep, as one shared object for all runs with the same reports."""
    return tuple(EnginePipeline(*report) for report in reports)


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]


class OutageLog:
    """
    Logs the beginning and the end of an outage instead of every failed poll.

    :param log: logger
    :param prefix: beginning of each line
    """

    __slots__ = ("_failures", "_log", "_prefix")

    def __init__(self, log: Log, prefix: str = "") -> None:
        self._log = log
        self._prefix = prefix
        self._failures = 0

    def failed(self, error: ControlHubError) -> None:
        """Record a failed poll."""
        self._failures += 1
        if self._failures == 1:
            self._log.warning("%s%s Still waiting; retrying at the next poll.", self._prefix, error)

    def succeeded(self) -> None:
        """Record a successful poll."""
        if self._failures:
            self._log.info("%sControl Hub responds again after %d failed polls.", self._prefix, self._failures)
        self._failures = 0


def fetch_status(client: ControlHubClient, job_id: str) -> JobRun | None:
    """
    Return the latest run of a job, None if Control Hub returns none.

    An unknown job is an error, or missing in the response (contract section 18.6). Both are None here;
    :meth:`RunTracker.resolve` distinguishes them.
    """
    try:
        return client.runs.statuses([job_id])[job_id]
    except (ControlHubNotFoundError, ControlHubPermissionError, ControlHubRejectedError) as error:
        if is_server_error(error):
            raise
        return None
