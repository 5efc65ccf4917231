"""
Waiting for one run to end.

:class:`RunTracker` decides, from one look at a job after the other, when the run is over and what it came to. It never
sleeps, so that a worker (:func:`wait_for_run`) and a trigger can wait with the same rules.
"""

from __future__ import annotations

import enum
import functools
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from airflow_provider_streamsets.control_hub import submission
from airflow_provider_streamsets.control_hub.client import ControlHubClient
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubPermissionError,
    ControlHubRejectedError,
    ControlHubRunLostError,
    ControlHubRunTimeoutError,
    ControlHubUnavailableError,
    ControlHubUnexpectedAnswerError,
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
from airflow_provider_streamsets.control_hub.tracking.report import RunReport, saved_after_end

if TYPE_CHECKING:
    import pendulum

log = logging.getLogger(__name__)

DEFAULT_METRICS_TIMEOUT = 30.0
# Polls in a row at a job that has lost its run, until it counts as imported again: a quarter of an hour by default.
_MAX_POLLS_WITHOUT_RUN = 30
# Seconds after its start for which a run may not show in the status of its job yet.
_VISIBLE_WITHIN = 300.0
# Seconds to wait, at the most, for the events that tell whether a run that seems to have succeeded was stopped.
_EVENTS_TIMEOUT = 300.0
# Seconds between two looks for the final metrics of a run that has ended.
METRICS_INTERVAL = 5.0
# A run is polled again after a part of its age, as short runs end soon; in seconds, not sooner than this.
_AGE_FACTOR = 0.5
_MIN_DELAY = 2.0

_Result_co = TypeVar("_Result_co", covariant=True)


def poll_delay(interval: float, age: float) -> float:
    """
    Return the seconds until the next look at a run.

    :param interval: seconds between two looks at a run that has been going on for long
    :param age: seconds since the run began
    """
    return min(interval, max(age * _AGE_FACTOR, _MIN_DELAY))


class Log(Protocol):
    """What is needed of a logger; Airflow's are of several kinds."""

    def info(self, msg: str, /, *args: Any) -> Any:
        """Log at level INFO."""

    def warning(self, msg: str, /, *args: Any) -> Any:
        """Log at level WARNING."""


class OutageListener(Protocol):
    """Is told how requests end."""

    def failed(self, error: ControlHubError) -> None:
        """Note that Control Hub could not be reached."""

    def succeeded(self) -> None:
        """Note that it could."""


class NotifyOn(enum.Enum):
    """At which looks a follower wants to see the status of its job."""

    CHANGES = "changes"
    """When status, color, warnings, errors or what engines report, or refuse, have changed."""
    COUNTS = "counts"
    """Also when new metrics were saved."""
    LIVE_COUNTS = "live counts"
    """Also at each look at a run that should have counts by now, and whose status has none."""
    EVERY_POLL = "every look"
    """Also when nothing seems to have changed, but no more often than looks are asked for."""


class Tracker(Generic[_Result_co]):
    """
    Decides, from one look at a job after the other, when a wait for something of one run is over.

    Call :meth:`observe` with each status of the job; when it returns True, call :meth:`resolve`, which may send
    requests, until it returns what was found.

    :param client: asked for what a status does not tell
    :param job_id: id of the job
    :param run_count: number of the run
    :param job_name: name of the job, for messages
    :param log: where to tell what is seen
    :param outage: where to tell that Control Hub cannot be reached, and that it can again; the log by default
    """

    # Thousands of them can be alive in one triggerer.
    __slots__ = ("_client", "_job_name", "_log", "_outage", "_run_count", "job_id", "poll_failed")

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
        self.poll_failed = False
        """Whether Control Hub could not be reached at the last poll."""

    @property
    def client(self) -> ControlHubClient:
        """The client that is asked."""
        return self._client

    @property
    def run_count(self) -> int:
        """Number of the run; that of its successor if an upgrade of the job has replaced it."""
        return self._run_count

    @property
    def job_name(self) -> str:
        """Name of the job, for messages."""
        return self._job_name

    @property
    def started_after(self) -> pendulum.DateTime | None:
        """Since when the run must have been started, as long as there is no such run; None if it is known."""
        return None

    @property
    def identity(self) -> RunIdentity:
        """What tells the run from one of the same number after the job was imported again, as far as it is known."""
        return RunIdentity()

    @property
    def has_ended(self) -> bool:
        """Whether the run is known to be over; only its metrics or events may still be missing."""
        raise NotImplementedError

    @property
    def notify_on(self) -> NotifyOn:
        """At which looks it has to be shown the status, unless that raises a question about the job or the run."""
        return NotifyOn.CHANGES

    def observe(self, status: JobRun | None) -> bool:
        """
        Take note of the job's latest run. Sends nothing.

        :param status: None if Control Hub named none
        :returns: whether :meth:`resolve` has something to do
        """
        raise NotImplementedError

    def next_delay(self, poll_interval: float) -> float:
        """Return the seconds until the next look, given those between two looks at a running job."""
        return min(poll_interval, METRICS_INTERVAL) if self.has_ended else poll_interval

    def timed_out(self, seconds: float | None) -> ControlHubRunTimeoutError:
        """
        Return the error of a wait that has taken too long.

        :param seconds: the time it was given
        """
        raise NotImplementedError

    def poll(self, *, skip_metrics_wait: bool = False) -> _Result_co | None:
        """
        Read the job's status, and do what :meth:`observe` and :meth:`resolve` do.

        :param skip_metrics_wait: take the metrics that there are
        :returns: as :meth:`resolve`
        :raises ControlHubError: as :meth:`resolve`
        """

        def fetch_and_resolve() -> _Result_co | None:
            status = None if self.has_ended else fetch_status(self._client, self.job_id)
            return self._resolve(skip_metrics_wait) if self.observe(status) else None

        return self._tolerate_outage(fetch_and_resolve)

    def resolve(self, *, skip_metrics_wait: bool = False) -> _Result_co | None:
        """
        Find out what the last observation left open.

        A request that fails because Control Hub cannot be reached is logged, and is not the end of the wait.

        :param skip_metrics_wait: take the metrics that there are
        :returns: what was found when nothing more is to be waited for, else None
        :raises ControlHubRunLostError: if the job does not exist any more, or was restarted and its history does not
            have the run
        :raises ControlHubError: if further looks are pointless, as with a refused credential
        """
        return self._tolerate_outage(lambda: self._resolve(skip_metrics_wait))

    def _resolve(self, skip_metrics_wait: bool) -> _Result_co | None:
        raise NotImplementedError

    def _tolerate_outage(self, ask: Callable[[], _Result_co | None]) -> _Result_co | None:
        try:
            found = ask()
        except ControlHubError as error:
            if is_fatal(error):
                raise
            self.poll_failed = True
            self._outage.failed(error)
            return None
        self.poll_failed = False
        self._outage.succeeded()
        return found


class RunTracker(Tracker[RunReport]):
    """
    Follows one run of a job until it has ended; what it finds is the run's report.

    With `until_active`, it is followed until it is active and its pipelines are running; the outcome in the report is
    then None, also if it has succeeded before it was seen active. A run can stay ``RED`` without end, as when an engine
    refuses to start it; `fail_on_red_after` makes that a failure.

    With `started_after`, the run is the first one that was started at that time or later; until there is one, its
    number is the lowest that it can have.

    If an upgrade of the active job replaces the run with another one, that one is followed. A job that was deleted and
    imported again counts its runs anew: its runs are not taken for the one that is followed.

    :param client: asked for what a status does not tell
    :param job_id: id of the job
    :param run_count: number of the run
    :param job_name: name of the job, for messages
    :param identity: what tells the run from another one of the same number, as far as it is known
    :param metrics_timeout: how many seconds to wait for the final record counts of an ended run, at the most
    :param missing_threshold: how many looks in a row must say that the job or run is gone before it is believed
    :param until_active: wait until the run is active, and not for its end
    :param was_active: the run was seen active before, which is enough whatever it shows now
    :param fail_on_red_after: for how many seconds the run may be ``RED`` without an interruption seen by a poll;
        None sets no limit
    :param red_for: for how many seconds it was ``RED`` already at the previous poll; None if it was not
    :param started_after: when the run must have been started, at the earliest; None if its number is known
    :param while_running: called by :meth:`resolve` with the run each time that it was seen to go on; may send
        requests, and raise to end the wait
    :param now: clock in seconds
    :param log: where to tell what is seen
    :param outage: where to tell that Control Hub cannot be reached, and that it can again; the log by default
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
        # Nothing of a status that is not needed any more is kept: there may be thousands of followers.
        self._latest: JobRun | None = None
        self._last_seen = ""
        self._ended: JobRun | None = None
        self._events: list[RunEvent] | None = None
        self._ended_at = 0.0
        self._engine_pipelines: tuple[EnginePipeline, ...] = ()
        self._missing_polls = 0
        self._last_line = 0
        self._identity = identity or RunIdentity()
        self._replaced: int | None = None
        self._until_active = until_active
        self._was_active = was_active
        self._fail_on_red_after = fail_on_red_after
        self._red_since = None if red_for is None else self._now() - red_for
        self._problem = ""
        self._started_after = started_after
        # Number of the job's latest run, 0 if it has none, as long as the run that is followed does not exist yet.
        self._latest_run_count: int | None = None

    @property
    def replaced(self) -> int | None:
        """Number of the run that was to be followed, if an upgrade of the job has replaced it."""
        return self._replaced

    @property
    def started_after(self) -> pendulum.DateTime | None:
        """Since when the run must have been started, as long as there is no such run; None if it is known."""
        return self._started_after

    @property
    def identity(self) -> RunIdentity:
        """What tells the run from one of the same number after the job was imported again, as far as it is known."""
        return self._identity

    @property
    def _job_label(self) -> str:
        return f"'{self._job_name}' ({self.job_id})" if self._job_name else self.job_id

    @property
    def run_label(self) -> str:
        """Which run is followed, for messages."""
        if self._started_after is not None:
            return f"the first run of job {self._job_label} started at or after {self._started_after}"
        return f"run {self._run_count} of job {self._job_label}"

    @property
    def has_ended(self) -> bool:
        """Whether the run is known to be over; only its metrics or events may still be missing."""
        return self._ended is not None

    @property
    def notify_on(self) -> NotifyOn:
        """Changes are enough, unless something is called while the run goes on, or it may be gone or abandoned."""
        is_timed = self._fail_on_red_after is not None and self._red_since is not None
        every_look = self._while_running is not None or self._missing_polls or is_timed
        return NotifyOn.EVERY_POLL if every_look else NotifyOn.CHANGES

    @property
    def red_for(self) -> float | None:
        """For how many seconds the run has been seen ``RED``; None if it was not at the last poll."""
        return None if self._red_since is None else max(self._now() - self._red_since, 0.0)

    @property
    def active_run(self) -> JobRun | None:
        """The followed run as :meth:`resolve` has seen it to go on; None if it is over, or does not show."""
        latest = self._latest
        is_shown = latest is not None and latest.run_count == self._run_count and not latest.has_ended
        return latest if is_shown else None

    @property
    def failure(self) -> str | None:
        """How the run has failed, as soon as its end is known; None if it has not failed or goes on."""
        if self._ended is None:
            return None
        report = self._report(self._ended, self._events or [])
        return report.summary if report.outcome is Outcome.FAILED else None

    def observe(self, status: JobRun | None) -> bool:
        """
        Take note of the job's latest run. Sends nothing.

        :param status: None if Control Hub named none
        :returns: whether :meth:`resolve` has something to do
        """
        if self._ended is not None:
            return True
        asks = self._process_status(status)
        self._latest = status if asks else None
        return asks

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
            # Just after a start, the run before it can still be shown (contract, section 10.5).
            self._missing_polls = 0
            return False
        if status.run_count == self._run_count:
            self._missing_polls = 0
            if not self._identity.run_id:
                self._identity = RunIdentity.of(status)
            self._record_status(status)
            return status.has_ended or self._while_running is not None or self._is_done(status)
        return True

    def _follow_first_run(self, run: JobRun) -> None:
        """Follow a run as the first one that was started after the time."""
        self._run_count, self._started_after = run.run_count, None
        self._log.info("Waiting for %s, started at %s.", self.run_label, run.start_time)

    def _is_done(self, status: JobRun) -> bool:
        """Return whether nothing more is to be waited for, although the run has not ended."""
        return (self._until_active and (status.is_working or self._was_active)) or self._is_red_for_too_long

    @property
    def _is_red_for_too_long(self) -> bool:
        red_for = self.red_for
        return self._fail_on_red_after is not None and red_for is not None and red_for >= self._fail_on_red_after

    def _is_own_job(self, status: JobRun) -> bool:
        """Return whether a status is one of the job; that of another one must not end this wait."""
        if status.job_id in {"", self.job_id}:
            return True
        self._log.warning("Control Hub told the status of job %s instead of %s.", status.job_id, self.job_id)
        return False

    def _record_status(self, status: JobRun) -> None:
        # Control Hub empties them when the job becomes inactive, and that is when they are wanted.
        if status.engine_pipelines:
            self._engine_pipelines = tuple(
                _interned_pipeline(pipeline.engine_id, pipeline.status, pipeline.message)
                for pipeline in status.engine_pipelines
            )
        if not status.is_red:
            self._red_since = None
        elif self._red_since is None:
            self._red_since = self._now()
        self._problem = status.problem
        line = f"{status.status or 'no status'}/{status.color or 'no color'}"
        if status.input_record_count or status.output_record_count or status.error_record_count:
            line += (
                f", {status.input_record_count} records in, {status.output_record_count} out, "
                f"{status.error_record_count} errors"
            )
        key = hash((line, self._problem if status.is_red else ""))
        if key == self._last_line:
            return
        self._last_line = key
        self._log.info("Run %d: %s", self._run_count, line)
        if status.is_red:
            self._log.warning("Control Hub reports a problem, which may pass: %s", self._problem or "no details given")
        if status.status not in KNOWN_STATUSES:
            self._log.warning("Status '%s' is not known to this provider; waiting on.", status.status)

    def next_delay(self, poll_interval: float) -> float:
        """Return the seconds until the next poll, given those between two polls of a run that is not young."""
        started = self._identity.started
        if self.has_ended or started is None or self._missing_polls:
            return super().next_delay(poll_interval)
        # Whatever the clocks say, the run is at least as old as this wait.
        age = submission.wall_clock() + self._client.clock_skew - started
        return poll_delay(poll_interval, max(age, self._now() - self._started_at))

    def timed_out(self, seconds: float | None) -> ControlHubRunTimeoutError:
        """
        Return the error for a run that has not ended in time.

        :param seconds: the time it was given
        """
        total_timeout = f" within {seconds:g} s" if seconds is not None else " in time"
        if self._ended is not None:
            return ControlHubRunTimeoutError(
                f"{_capitalize(self.run_label)} has ended {self._ended.status}/{self._ended.color}, but whether it was "
                f"stopped could not be found out{total_timeout}: its events could not be read."
            )
        if self._started_after is not None:
            seen = f" Its latest run is {self._latest_run_count} ({self._last_seen})." if self._latest_run_count else ""
            if self._latest_run_count is not None and self._latest_run_count >= self._run_count:
                return ControlHubRunTimeoutError(
                    f"Which run of job {self._job_label} was the first one started at or after {self._started_after} "
                    f"could not be found out{total_timeout}: the history of its runs could not be read.{seen}"
                )
            return ControlHubRunTimeoutError(
                f"No run of job {self._job_label} was started at or after {self._started_after}{total_timeout}.{seen}"
            )
        wanted = "become active" if self._until_active else "ended"
        seen = f" It was last seen {self.last_seen}." if self._last_seen else ""
        seen = f" {self.not_reached_message}" if self.not_reached_message else seen
        return ControlHubRunTimeoutError(f"{_capitalize(self.run_label)} has not {wanted}{total_timeout}.{seen}")

    @property
    def not_reached_message(self) -> str:
        """That the job had not reached the run at the last poll, as a sentence; empty if it had."""
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
        """Status and color at the last poll, and what was said to be wrong, for messages; empty before the first."""
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
                    "%s: conflicting evidence of its outcome (%s). Counted as a success, because it ended %s/%s.",
                    _capitalize(self.run_label),
                    conflict,
                    self._ended.status,
                    self._ended.color,
                )
        if self._until_active:
            return self._early_end_report(self._ended)
        is_early = self._now() < self._ended_at + self._metrics_timeout and not skip_metrics_wait
        report = self._with_metrics(self._report(self._ended, self._events), self._events, is_last=not is_early)
        if is_early and not report.metrics_final:
            return None
        return report

    def _report(self, run: JobRun, events: list[RunEvent]) -> RunReport:
        if not run.engine_pipelines:
            run = replace(run, engine_pipelines=self._engine_pipelines)
        report = RunReport.build(job_id=self.job_id, job_name=self._job_name, run=run, events=events)
        return replace(report, replaced=self._replaced)

    def _early_end_report(self, run: JobRun) -> RunReport:
        """Return the report of a run that has ended before it was seen active, or since."""
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
            self._log.warning("The history of job %s is missing: %s", self.job_id, error)
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
                    "Job %s was restarted: its latest run is %d. Judging run %d from the history.",
                    self.job_id,
                    latest.run_count,
                    self._run_count,
                )
            return run if run.has_ended else None
        self._missing_polls += 1
        if self._missing_polls >= self._missing_threshold:
            raise ControlHubRunLostError(
                f"The outcome of {self.run_label} is unknown: the job was restarted, its latest run is {latest.run_count}, "
                "and its history does not have the run."
            )
        return None

    def _follow_successor(self, run: JobRun) -> None:
        self._log.warning(
            "%s was replaced by run %d, as the job was upgraded while it was active. Following run %d.",
            _capitalize(self.run_label),
            run.run_count,
            run.run_count,
        )
        self._replaced = self._replaced or self._run_count
        self._run_count = run.run_count
        self._identity = RunIdentity.of(run)
        self._engine_pipelines = ()
        self._record_status(run)

    def _on_job_recreated(self, run: JobRun | None) -> None:
        """Raise if the job was imported again; a run that shows it may still pass."""
        if run is not None:
            self._missing_polls += 1
            if self._missing_polls < self._missing_threshold:
                return
        shown = f"is run {run.run_count}, which started later" if run else "does not exist: it has never run"
        raise ControlHubRunLostError(
            f"The outcome of {self.run_label} is unknown: the job was deleted and imported again, so its runs count anew. "
            f"Its latest run {shown}."
        )

    @property
    def _is_visible(self) -> bool:
        """Whether the run is known to have been started so long ago that its job has a status."""
        if self._last_seen:
            return bool(self._identity.run_id)
        started = self._identity.started
        return started is not None and submission.wall_clock() + self._client.clock_skew - started > _VISIBLE_WITHIN

    def _status_of_job(self) -> JobRun | None:
        """
        Return the status that the job itself has, of which the poll has named none; raise if the job is gone.

        A job without a status may also be one whose new run does not show yet.
        """
        self._missing_polls += 1
        if self._missing_polls < self._missing_threshold:
            return None
        try:
            job = self._client.jobs.get(self.job_id)
        except ControlHubNotFoundError as error:
            raise ControlHubRunLostError(
                f"The outcome of {self.run_label} is unknown: the job does not exist any more. It was deleted, or "
                f"has 'delete after completion' set. ({error})",
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
            self._log.info("Job %s exists, but shows no run yet.", job.label)
        return job.current_run

    def _read_events(self, run: JobRun, *, skip_metrics_wait: bool) -> list[RunEvent]:
        try:
            return self._client.runs.events(run.run_id)
        except ControlHubAuthenticationError:
            raise
        except ControlHubError as error:
            # Of a run that ended well, the events tell whether it was stopped, so an outage is waited out for a
            # while. A failure is one without them, and how long Control Hub keeps them is not known (contract, 18.22).
            is_outage = isinstance(error, ControlHubUnavailableError) or is_server_error(error)
            matters = run.is_success and is_outage
            may_pass = is_outage or isinstance(error, ControlHubUnexpectedAnswerError)
            is_early = self._now() < self._ended_at + (_EVENTS_TIMEOUT if matters else self._metrics_timeout)
            if may_pass and is_early and (matters or not skip_metrics_wait):
                raise
            self._log.warning("The events of %s are missing: %s", self.run_label, error)
            return []

    def _with_metrics(self, report: RunReport, events: list[RunEvent], *, is_last: bool) -> RunReport:
        # With a newer run the newest entry is that run's, whose number is then needed to tell them apart.
        seen = self._latest
        latest = seen if seen is not None and seen.run_count > self._run_count else report.run
        metrics = self._metrics_or_none(
            lambda: self._client.metrics.of_run(self.job_id, self._run_count, latest=latest, run=report.run)
        )
        metrics = metrics or RunMetrics.from_status(report.run)
        is_final = metrics is not None and saved_after_end(metrics.last_updated, report.run, events)
        # Without stage errors, the counts are those of the status: the record counts have no entry for the run.
        if is_last and not is_final and (metrics is None or metrics.stage_errors_count is None):
            counted = self._metrics_or_none(lambda: self._client.metrics.counted(self.job_id, self._run_count))
            metrics, is_final = (metrics, is_final) if counted is None else (counted, True)
        return report if metrics is None else replace(report, metrics=metrics, metrics_final=is_final)

    def _metrics_or_none(self, read: Callable[[], RunMetrics | None]) -> RunMetrics | None:
        try:
            return read()
        except ControlHubError as error:
            self._log.warning("The metrics of %s could not be read: %s", self.run_label, error)
            return None


@functools.lru_cache(maxsize=1000)
def _interned_pipeline(engine_id: str, status: str, message: str | None) -> EnginePipeline:
    """Return what is worth keeping of what an engine has reported, the same object for all runs of which it says so."""
    return EnginePipeline(engine_id, status, message)


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]


class OutageLog:
    """Logs an outage once when it begins and once when it ends, not at every look."""

    __slots__ = ("_failures", "_log")

    def __init__(self, log: Log) -> None:
        self._log = log
        self._failures = 0

    def failed(self, error: ControlHubError) -> None:
        """Note a failed look."""
        self._failures += 1
        if self._failures == 1:
            self._log.warning("%s Waiting on; the next looks will show whether this passes.", error)

    def succeeded(self) -> None:
        """Note a look that worked."""
        if self._failures:
            self._log.info("Control Hub answers again after %d failed looks.", self._failures)
        self._failures = 0


def fetch_status(client: ControlHubClient, job_id: str) -> JobRun | None:
    """
    Return the latest run of a job, None if Control Hub names none.

    Whether an unknown job is an error or just missing in the answer is not known (contract, 18.6), so both are None
    here; :meth:`RunTracker.resolve` then finds out.
    """
    try:
        return client.runs.statuses([job_id])[job_id]
    except (ControlHubNotFoundError, ControlHubPermissionError, ControlHubRejectedError) as error:
        if is_server_error(error):
            raise
        return None


def stop_and_wait(
    client: ControlHubClient,
    runs: Mapping[str, int],
    *,
    timeout: float,
    poll_interval: float,
    force_stop_after: float | None = None,
    now: Callable[[], float] | None = None,
) -> None:
    """
    Stop runs and no others, and wait until they have ended, however they do.

    Errors that the forced stops have caused are acknowledged, so that the jobs can be started again.

    :param runs: run count by job id
    :param timeout: seconds after which to give up
    :param poll_interval: seconds between two looks
    :param force_stop_after: seconds after which the stops of runs that have not ended are forced; 0 forces them at once
    :raises ControlHubRunTimeoutError: if they have not ended in time
    """
    now = now or time.monotonic
    began, force_now = now(), force_stop_after == 0
    # A poll that fails is repeated at the next interval anyway.
    poller = client.with_options(max_attempts=1)
    left = client.runs.stop_many(runs, max_wait=timeout, force=force_now)
    forced = {job_id: runs[job_id] for job_id in left} if force_now else {}
    try:
        while left:
            if now() - began >= timeout:
                shown = ", ".join(left[:10]) + (", ..." if len(left) > 10 else "")
                raise ControlHubRunTimeoutError(f"{len(left)} jobs were not stopped within {timeout:g} s: {shown}.")
            if force_stop_after is not None and not force_now and now() - began >= force_stop_after:
                force_now = True
                log.warning("%d runs have not ended after %g s; forcing their stops.", len(left), force_stop_after)
                asked = client.runs.stop_many({job_id: runs[job_id] for job_id in left}, force=True)
                forced = {job_id: runs[job_id] for job_id in asked}
            client.sleep(min(poll_interval, max(began + timeout - now(), 0.0)))
            try:
                left = list(poller.runs.get_active({job_id: runs[job_id] for job_id in left}))
            except ControlHubUnavailableError as error:
                log.warning("%s Looking again later.", error)
    finally:
        client.runs.acknowledge_forced(forced)


def wait_for_run(
    tracker: RunTracker,
    *,
    poll_interval: float,
    timeout: float | None,
    total_timeout: float | None = None,
    now: Callable[[], float] | None = None,
    sleep: Callable[[float], None] | None = None,
) -> RunReport:
    """
    Look at a job at intervals until the followed run has ended, and return its report.

    :param tracker: the run to wait for
    :param poll_interval: seconds between two looks
    :param timeout: seconds after which to give up; None waits for ever
    :param total_timeout: the time of which `timeout` is left, for the message
    :raises ControlHubRunTimeoutError: if the run has not ended in time
    :raises ControlHubError: as :meth:`RunTracker.poll`
    """
    now, sleep = now or time.monotonic, sleep or time.sleep
    deadline = math.inf if timeout is None else now() + timeout
    while True:
        is_last_poll = now() >= deadline
        with tracker.client.within(lambda: deadline - now()):
            report = tracker.poll(skip_metrics_wait=is_last_poll)
        if report is not None:
            return report
        # After a poll that took until the deadline without an answer, another one would take as long.
        if is_last_poll or (tracker.poll_failed and now() >= deadline):
            raise tracker.timed_out(total_timeout or timeout)
        sleep(min(tracker.next_delay(poll_interval), max(deadline - now(), 0.0)))
