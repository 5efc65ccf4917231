"""The trigger that waits for runs."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub._messages import run_label, runs_label
from airflow_provider_streamsets.control_hub.errors import ControlHubError, ControlHubRunTimeoutError
from airflow_provider_streamsets.control_hub.models import JobRun, Outcome, RunIdentity, RunRef
from airflow_provider_streamsets.control_hub.paging import chunked
from airflow_provider_streamsets.control_hub.tracking.conditions import ViolationCheck, parse_conditions
from airflow_provider_streamsets.control_hub.tracking.progress import Counts, Progress, describe_completion, sum_counts
from airflow_provider_streamsets.control_hub.tracking.report import RunReport
from airflow_provider_streamsets.control_hub.tracking.run import NotifyOn, RunTracker
from airflow_provider_streamsets.control_hub.tracking.wait import request_stops
from airflow_provider_streamsets.triggers.arguments import ignore_unknown_arguments
from airflow_provider_streamsets.triggers.base import KILL_MAX_WAIT, ControlHubTrigger, EventLoopDeadline
from airflow_provider_streamsets.triggers.events import RunsWaitEvent, RunsWaitReason
from airflow_provider_streamsets.triggers.packing import UNPACK_ERRORS, pack, unpack

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubClient
    from airflow_provider_streamsets.control_hub.tracking.run import Log
    from airflow_provider_streamsets.polling.poller import SharedStatusPoller
    from airflow_provider_streamsets.polling.subscriptions import Subscription

# Concurrent queries of one wait, half of the poller's query threads. The others are for other waits.
_CONCURRENT_CHECKS = 4
# Seconds until a stop after a timeout must start, and to retry while Control Hub rejects it. Otherwise the resumed task
# stops the runs.
_TIMEOUT_STOP_MAX_DELAY = 10.0
_TIMEOUT_STOP_MAX_WAIT = 60.0


@ignore_unknown_arguments
@dataclass(kw_only=True, eq=False, repr=False)
class ControlHubRunsTrigger(ControlHubTrigger):
    """
    Wait on the triggerer until runs have ended, or are active.

    All triggers of a connection share their status requests. Always yields exactly one event, the payload of a
    :class:`~airflow_provider_streamsets.triggers.events.RunsWaitEvent`. The trigger completes the report of a single
    run, so that the resumed task needs no requests for it. For many runs, it polls statuses only; the resumed task
    reads outcomes and metrics. The other parameters are those of
    :class:`~airflow_provider_streamsets.triggers.base.ControlHubTrigger`.

    :param runs: the runs, each as :meth:`~airflow_provider_streamsets.control_hub.models.RunRef.to_json` returns it
    :param metrics_timeout: maximum seconds to wait for the final metrics after the last run has ended
    :param upper_bounds: conditions on the metrics of a single run, as strings; the first violation ends the wait with
        an error while the run is active
    :param until_failure: end the wait at the first failure, while other runs are active
    :param force_at: end the wait at this time, in epoch seconds, if runs have not ended; None never does
    :param forced: ids of the jobs whose runs the task has forced to stop; copied to the event
    :param joined: ids of the jobs whose runs were not started by this task, so that they are not stopped
    :param kept: further runs of the task, which are also stopped when a user kills it: run count by job id
    :param wait_for: wait for the runs' ``completion``, or until they are ``active``
    :param fail_on_red_after: end the wait when a run has been ``RED`` for so many seconds; None never does. A restart
        of the triggerer resets the count
    :param active: ids of the jobs whose runs were active before
    :param red_since: since when runs have been ``RED``, in epoch seconds, by job id
    :param red: by job id, reports of the runs that were abandoned because they were ``RED`` for too long, or only the
        number of those seconds; copied to the event
    :param timeout_reason: why the runs are stopped when the deadline passes, for the log; None leaves them
    :param packed: the arguments about many runs, compressed by :mod:`~airflow_provider_streamsets.triggers.packing`
    """

    runs: Sequence[Sequence[str | float | None]] | None = None
    metrics_timeout: float = 0.0
    upper_bounds: Sequence[str] | None = None
    until_failure: bool = False
    force_at: float | None = None
    forced: Sequence[str] | None = None
    joined: Sequence[str] | None = None
    kept: Mapping[str, int] | None = None
    wait_for: str = "completion"
    fail_on_red_after: float | None = None
    active: Sequence[str] | None = None
    red_since: Mapping[str, float] | None = None
    red: Mapping[str, Mapping[str, Any] | float] | None = None
    timeout_reason: str | None = None
    packed: str | None = None
    _run_set: _RunSet | None = field(default=None, init=False)

    @property
    def description(self) -> str:
        """Description of the runs for messages, such as "run 4 of job ...", or "3 runs"."""
        if self.packed is not None:
            return "many runs"
        runs = self.runs if isinstance(self.runs, (list, tuple)) else ()
        if len(runs) == 1 and isinstance(runs[0], (list, tuple)) and len(runs[0]) > 1:
            job_id, run_count, *rest = runs[0]
            job = f"'{rest[2]}'" if len(rest) > 2 and rest[2] else job_id
            return f"run {run_count} of job {job}"
        return f"{len(runs) or 'no'} runs"

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, which Airflow stores; those about many runs compressed."""
        path, arguments = super().serialize()
        return path, arguments if self.packed is not None else pack(arguments)

    def _unpack(self) -> None:
        """Unpack the compressed arguments. Not done in the constructor, where an error would end the triggerer."""
        if self.packed is None:
            return
        try:
            arguments = unpack(self.packed)
        except UNPACK_ERRORS as error:
            raise ControlHubError(
                "Cannot wait for the runs: the stored trigger arguments are unreadable "
                f"({type(error).__name__}: {error})."
            ) from error
        for name, value in arguments.items():
            setattr(self, name, value)
        self.packed = None

    @property
    def _run_refs(self) -> tuple[RunRef, ...]:
        return tuple(map(RunRef.from_json, self.runs or ()))

    def tracker(self, poller: SharedStatusPoller) -> RunTracker | None:
        """Return the tracker of a single run; None if there are several, or the task must act before it ends."""
        self._unpack()
        # Tuples need less memory than the lists that Airflow read, which matters for thousands of triggers.
        self.runs = tuple(map(tuple, self.runs or ()))
        if len(self.runs) != 1 or self.force_at is not None or self.active or self.red_since or self.red:
            return None
        run = RunRef.from_json(self.runs[0])
        bounds = parse_conditions(self.upper_bounds) if self.upper_bounds else ()
        return run_tracker(
            self,
            poller,
            run,
            metrics_timeout=self.metrics_timeout,
            until_active=self.wait_for == "active",
            fail_on_red_after=self.fail_on_red_after,
            while_running=ViolationCheck(poller.client, run.job_id, run.run_count, bounds) if bounds else None,
        )

    async def wait_for_all(self, poller: SharedStatusPoller, deadline: EventLoopDeadline) -> RunsWaitReason:
        """Wait until the runs have ended, or the task must act before."""
        runs = {run.job_id: run for run in self._run_refs}
        run_set = self._run_set = _RunSet(
            poller,
            runs,
            wait_for_metrics=bool(self.metrics_timeout),
            until_active=self.wait_for == "active",
            fail_on_red_after=self.fail_on_red_after,
            log=self.log,
        )
        run_set.restore(active=self.active or (), red_since=self.red_since or {}, abandoned=self.red or ())
        if not run_set.unfinished and not run_set.awaiting_metrics:
            return RunsWaitReason.ENDED
        force_at = EventLoopDeadline(self.force_at)
        # The final metrics of an ended run show as new counts.
        notify_on = NotifyOn.COUNTS if self.metrics_timeout else NotifyOn.CHANGES
        run_counts = {job_id: run.run_count for job_id, run in runs.items() if job_id not in run_set.done}
        progress_interval = poller.client.progress_interval
        with poller.subscribe(run_counts, self.poll_interval, notify_on, progress_interval) as subscription:
            while run_set.unfinished:
                if deadline.remaining == 0:
                    return RunsWaitReason.TIMEOUT
                if force_at.remaining == 0:
                    return RunsWaitReason.FORCE
                await run_set.observe(
                    await _updates(subscription, deadline.remaining, force_at.remaining), deadline, force_at
                )
                run_set.log_progress(subscription.progress_interval)
                if self.until_failure and run_set.has_failure and run_set.unfinished:
                    return RunsWaitReason.FIRST_FAILURE
                if run_set.is_red_too_long:
                    return RunsWaitReason.RED
                subscription.unsubscribe(run_set.done)
                # While a run may be missing, or is RED, every poll matters.
                subscription.notify_on = NotifyOn.EVERY_POLL if run_set.needs_every_poll else notify_on
            max_wait = EventLoopDeadline(time.time() + self.metrics_timeout)
            while run_set.awaiting_metrics and max_wait.remaining and deadline.remaining != 0:
                await run_set.observe(
                    await _updates(subscription, deadline.remaining, max_wait.remaining), deadline, max_wait
                )
        return RunsWaitReason.ENDED

    def event(self, result: RunReport | RunsWaitReason) -> RunsWaitEvent:
        """Return the event with the report of a single run, or the reason why the wait for many has ended."""
        if isinstance(result, RunReport):
            return self._event(reports={result.job_id: result})
        return self._event(result)

    def failure(self, error: ControlHubError) -> RunsWaitEvent:
        """Return the event of a wait that failed with an error."""
        try:
            self._unpack()
            return self._event(error=error)
        except (*UNPACK_ERRORS, ControlHubError):
            # The stored runs are unreadable, which may be the error itself.
            return RunsWaitEvent((), error=error)

    def _event(
        self,
        reason: RunsWaitReason = RunsWaitReason.ENDED,
        *,
        reports: Mapping[str, RunReport] | None = None,
        error: ControlHubError | None = None,
    ) -> RunsWaitEvent:
        runs, red = self._run_refs, self.red or {}
        return RunsWaitEvent(
            runs,
            reason=reason,
            until_failure=self.until_failure and reason is not RunsWaitReason.FIRST_FAILURE,
            force_at=None if reason is RunsWaitReason.FORCE else self.force_at,
            timeout=self.timeout,
            deadline=self.deadline,
            metrics_timeout=self.metrics_timeout,
            error=error,
            forced=tuple(self.forced or ()),
            active=tuple(self._run_set.active) if self._run_set else tuple(self.active or ()),
            red_since=self._run_set.red_since_epoch if self._run_set else dict(self.red_since or {}),
            reports=reports or {run.job_id: _red_report(run, red[run.job_id]) for run in runs if run.job_id in red},
        )

    async def before_resumption(self, event: RunsWaitEvent, poller: SharedStatusPoller) -> RunsWaitEvent:
        """Stop the runs after a timeout: it can take long until a worker is free for the task."""
        has_timed_out = event.reason is RunsWaitReason.TIMEOUT or isinstance(event.error, ControlHubRunTimeoutError)
        runs = self._runs_to_stop_on_timeout() if self.timeout_reason and has_timed_out else {}
        if not runs:
            return event
        self.log.warning("%s: stopping (%s).", self._label(runs), self.timeout_reason)
        # As the task would on a worker.
        in_bulk = len(self._run_refs) > 1 or self.force_stop_after is not None
        force = self.force_stop_after == 0

        def stop() -> Collection[str]:
            # A client that does not wait for the request rate: a stop must follow its check of the run at once.
            with poller.client.with_options() as client:
                return request_stops(client, runs, in_bulk=in_bulk, max_wait=_TIMEOUT_STOP_MAX_WAIT, force=force)

        try:
            stopped = await poller.run_query(stop, _TIMEOUT_STOP_MAX_DELAY)
        except (ControlHubError, asyncio.TimeoutError) as error:
            self.log.info("The resumed task stops the runs: %s", error or "requests pause after failures.")
            return replace(event, stop_failed=True)
        last_seen = self._run_set.last_seen if self._run_set else {}
        return replace(event, stopped={job_id: last_seen.get(job_id, "") for job_id in stopped})

    def _runs_to_stop_on_timeout(self) -> dict[str, int]:
        own, run_set = self._own_runs(), self._run_set
        if run_set is None:
            return own
        # Not those that were RED for too long, which the task has stopped or left.
        active = {*run_set.unfinished, *run_set.active}
        return {job_id: run_count for job_id, run_count in own.items() if job_id in active}

    @property
    def label(self) -> str:
        """The runs for the beginning of a log line."""
        return self.description if self.packed is not None else self._label({**self._own_runs(), **(self.kept or {})})

    def _label(self, runs: Mapping[str, int]) -> str:
        return runs_label(runs, {run.job_id: run.job_name for run in self._run_refs})

    def stop(self, client: ControlHubClient, *, force: bool = False) -> bool:
        """Stop those of the runs that have not ended and that this task started, and its further runs."""
        self._unpack()
        runs = {**self._own_runs(), **(self.kept or {})}
        in_bulk = len(self._run_refs) > 1 or bool(self.kept)
        stopped = request_stops(client, runs, in_bulk=in_bulk, max_wait=KILL_MAX_WAIT, force=force)
        if force:
            client.runs.acknowledge_forced({job_id: runs[job_id] for job_id in stopped}, max_wait=KILL_MAX_WAIT)
        return bool(stopped)

    def _own_runs(self) -> dict[str, int]:
        joined = set(self.joined or ())
        return {run.job_id: run.run_count for run in self._run_refs if run.job_id not in joined}


def run_tracker(trigger: ControlHubTrigger, poller: SharedStatusPoller, run: RunRef, **options: Any) -> RunTracker:
    """
    Return the tracker of a run that a trigger waits for.

    :param trigger: the trigger, for its log
    :param poller: poller of the connection
    :param run: the run
    :param options: further arguments of :class:`~airflow_provider_streamsets.control_hub.tracking.run.RunTracker`
    """
    return RunTracker(
        poller.client,
        run.job_id,
        run.run_count,
        job_name=run.job_name,
        identity=run.identity,
        now=poller.now,
        log=trigger.log,
        outage=poller.outage,
        **options,
    )


def _red_report(run: RunRef, red: Mapping[str, Any] | float) -> RunReport:
    """Return the report of an abandoned run from the short form in the arguments."""
    if isinstance(red, Mapping):
        return RunReport.from_dict(red)
    return RunReport.from_red_run(
        job_id=run.job_id,
        job_name=run.job_name,
        run=JobRun(run.identity.run_id, run.job_id, run.run_count, "ACTIVE", "RED"),
        red_for=red,
    )


class _RunSet:
    """
    State of the runs of one wait.

    It observes the snapshots itself, as a tracker for each of thousands of runs would need too much memory. Only runs
    whose status leaves doubts get a tracker.

    :param poller: poller of the connection
    :param runs: the runs, by job id
    :param wait_for_metrics: whether to wait for the final metrics of ended runs
    :param until_active: whether the wait for a run ends when it is active
    :param fail_on_red_after: maximum seconds for which a run may be ``RED``; None sets no limit
    :param log: logger of the trigger
    """

    def __init__(
        self,
        poller: SharedStatusPoller,
        runs: Mapping[str, RunRef],
        *,
        wait_for_metrics: bool,
        until_active: bool,
        fail_on_red_after: float | None,
        log: Log,
    ) -> None:
        self._poller = poller
        self._runs = runs
        self._run_counts = {job_id: run.run_count for job_id, run in runs.items()}
        self._identities = {job_id: run.identity for job_id, run in runs.items()}
        self._until_active = until_active
        self._fail_on_red_after = fail_on_red_after
        self._log = log
        self._trackers: dict[str, RunTracker] = {}
        self.unfinished = set(runs)
        """Ids of the jobs whose runs have not ended."""
        self.awaiting_metrics = set(runs) if wait_for_metrics else set()
        """Ids of the jobs whose runs may still get final metrics."""
        self.active: dict[str, None] = {}
        """Ids of the jobs whose runs were active, in a wait for active runs."""
        self.is_red_too_long = False
        """Whether a run in the last poll has been ``RED`` for too long."""
        self._progress = Progress()
        self._counts: dict[str, Counts] = {}
        self.last_seen: dict[str, str] = {}
        """Last status and color of each run, by job id."""
        self._failed: set[str] = set()
        self._red_since: dict[str, float] = {}

    def restore(self, *, active: Collection[str], red_since: Mapping[str, float], abandoned: Collection[str]) -> None:
        """
        Restore the state of an earlier wait for the same runs.

        :param active: ids of the jobs whose runs were active
        :param red_since: since when runs have been ``RED``, in epoch seconds, by job id
        :param abandoned: ids of the jobs whose runs were abandoned
        """
        self.active.update(dict.fromkeys(active))
        for job_id in (*active, *abandoned):
            self._mark_ended(job_id, failed=False)
        age = self._poller.now() - time.time()
        self._red_since.update(
            {job_id: float(at) + age for job_id, at in red_since.items() if job_id in self.unfinished}
        )

    @property
    def has_failure(self) -> bool:
        """Whether one of the runs has failed."""
        return bool(self._failed)

    @property
    def red_since_epoch(self) -> dict[str, float]:
        """Since when unfinished runs have been ``RED``, in epoch seconds, by job id."""
        age = time.time() - self._poller.now()
        return {job_id: since + age for job_id, since in self._red_since.items() if job_id in self.unfinished}

    @property
    def done(self) -> set[str]:
        """Ids of the jobs that no longer need to be polled."""
        return self._run_counts.keys() - self.unfinished - self.awaiting_metrics

    @property
    def needs_every_poll(self) -> bool:
        """Whether a run may be missing, or is ``RED`` with a time limit for that."""
        if self._fail_on_red_after is not None and not self._red_since.keys().isdisjoint(self.unfinished):
            return True

        return any(
            self._trackers[job_id].notify_on is NotifyOn.EVERY_POLL
            for job_id in self.unfinished & self._trackers.keys()
        )

    async def observe(
        self, updates: Mapping[str, JobRun | ControlHubError | None], *deadlines: EventLoopDeadline
    ) -> None:
        """
        Process the updates of a poll.

        :param updates: by job id, the latest run, None if there is none, or the error for this job
        :param deadlines: return at the first of them, even if queries for missing runs are pending
        """
        self.is_red_too_long = False
        checks = []
        for job_id, status in updates.items():
            run_count = self._run_counts[job_id]
            if isinstance(status, ControlHubError):
                # An error for this job alone means no more than a missing status.
                checks.append(self._tracker_to_resolve(job_id, None))
            elif (
                status is None
                or status.run_count > run_count
                or self._identities[job_id].contradicts(status, run_count)
            ):
                checks.append(self._tracker_to_resolve(job_id, status))
            elif status.run_count == run_count and status.has_ended:
                self._counts[job_id] = status.counts
                self._log_status(job_id, status)
                metrics_may_come = not (_has_final_metrics(status) or status.has_failed_at_start)
                self._mark_ended(job_id, failed=not status.is_success, metrics_may_come=metrics_may_come)
            elif status.run_count == run_count:
                if not self._identities[job_id].run_id:
                    self._identities[job_id] = RunIdentity.from_run(status)
                self._counts[job_id] = status.counts
                self.last_seen[job_id] = sys.intern(f"{status.status}/{status.color}")
                self._observe_running(job_id, status)
        await self._check_missing([tracker for tracker in checks if tracker is not None], deadlines)

    def log_progress(self, interval: float) -> None:
        """
        Log the counts of all runs if they are due and known.

        :param interval: minimum seconds between two lines; infinite for none
        """
        now = self._poller.now()
        if not (self.unfinished and self._progress.is_due(now, interval) and self.unfinished <= self._counts.keys()):
            return
        text = self._progress.describe(sum_counts(self._counts.values()), now)
        if text:
            number = len(self._runs)
            completion = describe_completion(
                number, number - len(self.unfinished), len(self._failed), until_active=self._until_active
            )
            self._log.info("%s: %s.", completion, text)

    def _log_status(self, job_id: str, status: JobRun) -> None:
        if job_id in self.unfinished:
            label = run_label(job_id, status.run_count, self._runs[job_id].job_name)
            problem = f": {status.problem}" if status.is_red and status.problem else ""
            self._log.info("%s: %s/%s%s", label, status.status, status.color, problem)

    def _observe_running(self, job_id: str, status: JobRun) -> None:
        if status.is_red and job_id not in self._red_since:
            self._log_status(job_id, status)
        self._observe_red(job_id, 0.0 if status.is_red else None)
        if self._until_active and status.is_working:
            self.active[job_id] = None
            self._mark_ended(job_id, failed=False)

    def _observe_red(self, job_id: str, seconds: float | None) -> None:
        """Record that a run has been ``RED`` for at least so many seconds; None if it no longer is."""
        if seconds is None:
            self._red_since.pop(job_id, None)
            return
        red_for = self._poller.now() - self._red_since.setdefault(job_id, self._poller.now() - seconds)
        if self._fail_on_red_after is not None and red_for >= self._fail_on_red_after and job_id in self.unfinished:
            self.is_red_too_long = True

    def _mark_ended(self, job_id: str, *, failed: bool, metrics_may_come: bool = False) -> None:
        if failed:
            self._failed.add(job_id)
        self.unfinished.discard(job_id)
        if not metrics_may_come:
            self.awaiting_metrics.discard(job_id)

    def _tracker_to_resolve(self, job_id: str, status: JobRun | None) -> RunTracker | None:
        """Return the tracker of a run that may be missing or superseded, if the tracker must send requests."""
        if job_id not in self.unfinished:
            self._mark_ended(job_id, failed=False)
            return None
        if job_id not in self._trackers:
            self._trackers[job_id] = RunTracker(
                self._poller.client,
                job_id,
                self._run_counts[job_id],
                identity=self._identities[job_id],
                metrics_timeout=0.0,
                until_active=self._until_active,
                now=self._poller.now,
                log=self._log,
                outage=self._poller.outage,
            )
        tracker = self._trackers[job_id]
        has_query = tracker.observe(status)
        if tracker.run_count != self._run_counts[job_id]:
            # It tracks the run that replaced this one.
            self._observe_red(job_id, tracker.red_for)
        return tracker if has_query else None

    async def _check_missing(self, trackers: Sequence[RunTracker], deadlines: Sequence[EventLoopDeadline]) -> None:
        """Resolve runs that may be missing, as a wait for one run would, until the first deadline."""
        for batch in chunked(list(trackers), _CONCURRENT_CHECKS):
            remaining = min((one.remaining for one in deadlines if one.remaining is not None), default=None)
            if remaining == 0:
                return
            checks = [asyncio.ensure_future(self._poller.run_query(tracker.resolve, remaining)) for tracker in batch]
            try:
                await asyncio.wait(checks, timeout=remaining)
                for tracker, check in zip(batch, checks, strict=True):
                    if check.done():
                        self._apply_check(tracker.job_id, check)
            finally:
                for check in checks:
                    check.cancel()

    def _apply_check(self, job_id: str, check: asyncio.Future[RunReport | None]) -> None:
        try:
            report = check.result()
        except asyncio.TimeoutError:
            return
        except ControlHubError as error:
            self._log.warning("%s Treating the run as failed.", error)
            self._mark_ended(job_id, failed=True)
            return
        if report is None:
            return
        if report.outcome is None:
            self.active[job_id] = None
        self._mark_ended(job_id, failed=report.outcome is Outcome.FAILED)


async def _updates(subscription: Subscription, *limits: float | None) -> Mapping[str, JobRun | ControlHubError | None]:
    """Return the next updates; none if the first of the limits passes before."""
    try:
        return await subscription.next(min((limit for limit in limits if limit is not None), default=None))
    except asyncio.TimeoutError:
        return {}


def _has_final_metrics(status: JobRun) -> bool:
    """Return whether metrics were saved after the run ended. Earlier saves may be final, too."""
    saved, finished = status.metrics_saved, status.finish_time
    return saved is not None and finished is not None and saved >= finished
