"""Waiting for runs, on the worker or on the triggerer."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowException, AirflowTaskTimeout

from airflow_provider_streamsets import params, triggers
from airflow_provider_streamsets.control_hub import tracking
from airflow_provider_streamsets.control_hub._messages import join_truncated, runs_label
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubError,
    ControlHubExpectationError,
    ControlHubRunFailedError,
    ControlHubRunLostError,
    ControlHubRunTimeoutError,
    is_fatal,
)
from airflow_provider_streamsets.control_hub.models import Outcome, RunRef

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import ControlHubClient, Job
    from airflow_provider_streamsets.operators._run_operators import ControlHubRunWaitOperator

_MAX_SLEEP = 1.0  # seconds
# Seconds. A resumed task only fetches reports of ended runs: it polls often, and has this long even at the deadline.
_RESUMED_INTERVAL = 5.0
_RESUMED_MAX_WAIT = 60.0
# Seconds to fetch the names of the jobs when the task is resumed.
_NAMES_MAX_WAIT = 60.0
# The trigger of up to so many runs has the names of their jobs; for more, the resumed task fetches them.
_MAX_NAMED_RUNS = 10
_MAX_LOGGED_FAILURES = 10
_MAX_LISTED_FAILURES = 20
# Seconds to retry while Control Hub rejects the stop of a job that is being started.
STOP_MAX_WAIT = 60.0


class TaskTime:
    """
    Time limits of a task.

    :param task: the operator
    """

    def __init__(self, task: ControlHubRunWaitOperator) -> None:
        self._task = task
        self._started_at = time.monotonic()

    def restart(self) -> None:
        """Start the clock of `wait_timeout`."""
        self._started_at = time.monotonic()

    def restore(self, deadline: float | None) -> None:
        """
        Restore the deadline that the task had before it was deferred.

        :param deadline: the earliest deadline of the task, in epoch seconds; None if it had none
        """
        if deadline is not None and self.limits:
            self._started_at = time.monotonic() - (min(self.limits) - max(deadline - time.time(), 0.0))

    def remaining(self, limit: float) -> float:
        """Return the seconds until the task has taken as long as a limit; 0 after that."""
        return max(limit - (time.monotonic() - self._started_at), 0.0)

    @property
    def _execution_timeout(self) -> float | None:
        timeout: timedelta | None = self._task.execution_timeout
        return timeout.total_seconds() if timeout else None

    @property
    def limits(self) -> list[float]:
        """All time limits of the task in seconds; the smallest is effective."""
        return [limit for limit in (self._task.rendered.wait_timeout, self._execution_timeout) if limit is not None]

    @property
    def left(self) -> float:
        """Seconds until the earliest deadline of the task; infinite if there is none."""
        return min(map(self.remaining, self.limits), default=math.inf)

    @property
    def wait_deadline(self) -> Deadline:
        """Deadline of `wait_timeout`; sleeps until then end when the task is killed."""
        total = self._task.rendered.wait_timeout
        return Deadline(None if total is None else self.remaining(total), total=total, sleep=self.sleep)

    @property
    def is_execution_timeout(self) -> bool:
        """Whether the earliest deadline is that of ``execution_timeout``, and not of `wait_timeout`."""
        limit, wait_timeout = self._execution_timeout, self._task.rendered.wait_timeout
        return limit is not None and (wait_timeout is None or limit < wait_timeout)

    @property
    def expiry(self) -> str:
        """A clause that says that the earliest deadline has been reached, for the log."""
        if self.is_execution_timeout:
            return self.execution_expiry
        return f"wait_timeout of {min(self.limits):g} s reached" if self.limits else "the wait timed out"

    @property
    def execution_expiry(self) -> str:
        """A clause that says that ``execution_timeout`` has been reached, for the log."""
        return f"execution_timeout of {self._execution_timeout or 0:g} s reached"

    def sleep(self, seconds: float) -> None:
        """
        Sleep, and raise an error if the task is killed meanwhile.

        ``time.sleep`` continues after a signal handler, so the time is split: a killed task then ends within the 5
        seconds that Airflow allows, and can still save its state.
        """
        while seconds > 0:
            chunk = min(seconds, _MAX_SLEEP)
            time.sleep(chunk)
            seconds -= chunk
            if self._task.was_killed:
                raise AirflowException("The task was killed while it waited.")


class RunPolicy:
    """
    What a task does with runs while it waits for them: by default, nothing.

    :param task: the operator
    """

    def __init__(self, task: ControlHubRunWaitOperator) -> None:
        self.task = task
        self.log = task.log
        self.time = TaskTime(task)
        self.waiter = RunWaiter(task, self)
        self.started: dict[str, int] = {}
        """The runs that this task owns: run count by job id."""
        self.forced: dict[str, int] = {}
        """Runs that the task has forced to stop: run count by job id."""

    @property
    def client(self) -> ControlHubClient:
        """The client of the task's connection."""
        return self.task.client

    @property
    def stop_on_kill(self) -> bool:
        """Whether the trigger stops the runs when the task is killed."""
        return False

    @property
    def until_active(self) -> bool:
        """Whether a wait ends when the runs are active, rather than when they have ended."""
        return False

    @property
    def joined_job_ids(self) -> Collection[str]:
        """Ids of the jobs whose runs were started by other callers, and are never stopped."""
        return ()

    @property
    def owned_runs(self) -> Mapping[str, int]:
        """The runs that the task started and that are not known to have ended: run count by job id."""
        return {}

    @property
    def fail_on_red_after(self) -> float | None:
        """Maximum seconds for which a run may be ``RED``; None sets no limit."""
        return None

    @property
    def force_stop_after(self) -> float | None:
        """Seconds from the stop request of a failed or killed task until the stop is forced; None never forces it."""
        return None

    @property
    def force_unfinished_after(self) -> float | None:
        """Seconds from the start of a task that stops runs until :meth:`force_unfinished` is called; None: never."""
        return None

    def stopped_runs(self, context: Context) -> Mapping[str, int]:
        """Return the runs that this task stopped: run count by job id."""
        return {}

    @property
    def stopping(self) -> Mapping[str, int]:
        """Runs whose stops this execution of the task has requested, without waiting for their ends."""
        return {}

    @property
    def stops_on_timeout(self) -> bool:
        """Whether the runs are stopped when the wait times out."""
        return False

    def record_stop_requests(self, runs: Mapping[str, int]) -> None:
        """
        Remember runs that the trigger has stopped, before :meth:`on_timeout` is called with them.

        :param runs: run count by job id
        """

    def on_first_failure(self, group: tracking.RunGroup) -> bool:
        """
        Handle the first failure while other runs have not ended.

        :returns: False to be called again after the next poll
        """
        return True

    def on_red_runs(self, runs: Mapping[str, int]) -> bool:
        """
        Handle runs that were ``RED`` for longer than allowed, while the wait for others continues.

        :param runs: run count by job id
        :returns: False to be called again after the next poll
        """
        return True

    def force_unfinished(self, runs: Mapping[str, int]) -> bool:
        """
        Handle runs that have not ended after :attr:`force_unfinished_after`.

        :param runs: run count by job id
        :returns: False to be called again after the next poll
        """
        return True

    def emit_stats(self, context: Context, group: tracking.RunGroup) -> None:
        """
        Emit the metrics of runs that have ended.

        :param group: the runs
        """

    def on_timeout(self, context: Context, runs: Mapping[str, int]) -> None:
        """
        Handle a wait that timed out, before the task fails.

        :param runs: the runs that have not ended: run count by job id
        """

    def on_condition_violated(self, context: Context, runs: Mapping[str, int]) -> None:
        """
        Handle runs whose metrics exceed an upper bound, before the task fails.

        :param runs: run count by job id
        """

    def on_kill(self) -> None:
        """Remember that the task was killed."""
        self.task.was_killed = True

    def raise_if_killed(self, when: str) -> None:
        """
        Raise an error if the task was killed.

        Airflow's signal handler returns after ``on_kill``, and the task continues. Call this before starting runs or
        returning their results.

        :param when: a clause for the message, such as "before ..."
        """
        if self.task.was_killed:
            raise AirflowException(f"The task was killed {when}.")


class RunWaiter:
    """
    Waits for runs on behalf of a task, with one status request per poll for all of them.

    A wait follows the same rules on worker and triggerer, and ends in ``finish_all`` of the operator.

    :param task: the operator
    :param policy: what the task does with the runs meanwhile
    """

    max_red_reports = 5
    """The trigger keeps complete reports of this many RED runs; for others, only that they were RED."""

    def __init__(self, task: ControlHubRunWaitOperator, policy: RunPolicy) -> None:
        self.task = task
        self.policy = policy
        self.log = task.log
        self.group: tracking.RunGroup | None = None
        """The runs that the task waits for, as far as they were polled."""
        self.earlier_reports: list[tracking.RunReport] = []
        """Reports of ended runs of earlier tries."""
        self.watched: dict[str, int] = {}
        """The runs that the task waits for: run count by job id."""
        self.job_names: dict[str, str] = {}
        """The names of the jobs, by id, as far as they are known."""
        self._red: set[str] = set()

    def polling_client(self, time_left: Callable[[], float] | None = None) -> ControlHubClient:
        """
        Return a client for polls, which sends each request once, because a failed poll is repeated anyway.

        :param time_left: returns the seconds until the deadline; by default that of the task
        """
        client = self.task.client.with_options(max_attempts=1)
        client.time_left = time_left or (lambda: self.policy.time.left)
        return client

    def wait(
        self, context: Context, runs: Sequence[RunRef], jobs: Sequence[Job], *, until_failure: bool = False
    ) -> Any:
        """
        Wait for runs, on the worker or the triggerer, and return the task's result.

        :param runs: the runs
        :param jobs: their jobs
        :param until_failure: act on the first failure
        """
        self.watched = {run.job_id: run.run_count for run in runs}
        self.record_names(runs)
        metrics_timeout, force_unfinished_after = self.metrics_timeout_for(*jobs), self.policy.force_unfinished_after
        if self.task.deferrable and runs:
            self.defer(
                runs,
                metrics_timeout=metrics_timeout,
                until_failure=until_failure,
                force_at=None
                if force_unfinished_after is None
                else time.time() + self.policy.time.remaining(force_unfinished_after),
            )
        return self._poll_until_done(
            context,
            runs,
            deadline=self.policy.time.wait_deadline,
            poll_interval=self.task.rendered.poll_interval,
            metrics_timeout=metrics_timeout,
            until_failure=until_failure,
            force_unfinished_after=force_unfinished_after,
        )

    def record_names(self, runs: Iterable[RunRef]) -> None:
        """Remember the names of jobs, for log lines about their runs."""
        self.job_names.update({run.job_id: run.job_name for run in runs if run.job_name})

    def describe(self, runs: Mapping[str, int]) -> str:
        """
        Return the beginning of a log line about runs.

        :param runs: run count by job id
        """
        return runs_label(runs, self.job_names)

    def metrics_timeout_for(self, *jobs: Job) -> float:
        """Return the maximum seconds to wait for the final metrics of runs of these jobs."""
        if self.policy.until_active:
            return 0.0
        return params.resolve_metrics_timeout(self.task.metrics_timeout, *jobs, is_needed=self.task.needs_metrics)

    def wait_until_stable(
        self, jobs: Iterable[Job], read: Callable[[ControlHubClient, list[str]], Mapping[str, Job]]
    ) -> dict[str, Job]:
        """Wait until no job is being started or stopped, within the deadline of the task."""
        try:
            return tracking.wait_until_stable(
                self.polling_client(), jobs, read, sleep=self.policy.time.sleep, log=self.log
            )
        except ControlHubRunTimeoutError as error:
            raise self.timeout_before_start(error) from error

    def wait_for_other_runs(self, runs: Sequence[RunRef]) -> None:
        """
        Wait until runs of other callers have ended, before this task starts its own.

        A deferrable task is deferred, and resumes in ``execute_after_other_runs``, which calls
        :meth:`resume_after_other_runs`.

        :param runs: the runs of other callers
        """
        if self.task.deferrable:
            kept = self.policy.owned_runs if self.policy.stop_on_kill else {}
            self.defer(
                runs,
                method_name="execute_after_other_runs",
                only_ends=True,
                metrics_timeout=0.0,
                stop_on_kill=bool(kept),
                kept=dict(kept) or None,
            )
        with self._tolerating_lost_runs():
            self.wait_for_ends(runs, self.policy.time.wait_deadline)

    def resume_after_other_runs(self, event: object) -> triggers.RunsWaitEvent:
        """
        Return the event of :meth:`wait_for_other_runs`, with the deadline of the task restored.

        :raises ControlHubRunTimeoutError: if the task timed out
        """
        others = triggers.RunsWaitEvent.from_payload(event)
        self.policy.time.restore(others.deadline)
        if not others.runs:
            others.raise_error()
        with self._tolerating_lost_runs():
            if isinstance(others.error, ControlHubRunTimeoutError):
                raise self.timeout_before_start(others.error)
            others.raise_error()
            if others.reason is triggers.RunsWaitReason.TIMEOUT:
                self.wait_for_ends(self._with_names(others.runs, 0.0), Deadline(0.0, total=others.timeout))
            ended = [report.summary for report in others.reports.values()]
            # Airflow overwrites the trigger's log when the task is deferred again.
            self.log.info("The wait for runs of other callers is over: %s.", "; ".join(ended) or len(others.runs))
        return others

    def wait_for_ends(self, runs: Sequence[RunRef], deadline: Deadline) -> tracking.RunGroup:
        """
        Wait on the worker until runs have ended, before this task starts its own, and return them.

        :param runs: the runs
        :param deadline: when to give up
        :raises ControlHubRunTimeoutError: if they have not ended in time
        """
        group = tracking.RunGroup(self.polling_client(), runs, metrics_timeout=0.0, log=self.log)
        try:
            tracking.wait_for_runs(group, deadline, poll_interval=self.task.rendered.poll_interval)
        except ControlHubRunTimeoutError as error:
            raise self.timeout_before_start(error) from error
        return group

    @contextlib.contextmanager
    def _tolerating_lost_runs(self) -> Iterator[None]:
        """Log an error about runs of other callers; the start checks anyway whether their jobs are still running."""
        try:
            yield
        except ControlHubRunTimeoutError:
            raise
        except ControlHubError as error:
            if is_fatal(error) and not isinstance(error, ControlHubRunLostError):
                raise
            self.log.warning("%s", error)

    def timeout_before_start(self, error: object) -> BaseException:
        """Return the error of a task that timed out while it waited for other runs before its own start."""
        message = f"{error} The task was waiting for this before starting its own run; nothing was started."
        is_execution_timeout = self.policy.time.is_execution_timeout
        return AirflowTaskTimeout(message) if is_execution_timeout else ControlHubRunTimeoutError(message)

    def _handle_red_runs(self, group: tracking.RunGroup) -> None:
        runs = {job_id: report.run.run_count for job_id, report in group.red.items() if job_id not in self._red}
        # The failure of the task handles the only run.
        if runs and len(group.runs) > 1 and self.policy.on_red_runs(runs):
            self._red.update(runs)

    def _poll_until_done(
        self,
        context: Context,
        runs: Sequence[RunRef],
        *,
        deadline: Deadline,
        poll_interval: float,
        metrics_timeout: float,
        until_failure: bool = False,
        force_unfinished_after: float | None = None,
        resumed: triggers.RunsWaitEvent | None = None,
    ) -> Any:
        stopped = self.policy.stopped_runs(context).items() & self.watched.items()
        group = self.group = self.new_group(runs, resumed, metrics_timeout=metrics_timeout, stopped=dict(stopped))
        is_failure_handled = not until_failure
        force_delay = math.inf if force_unfinished_after is None else force_unfinished_after

        def act(group: tracking.RunGroup) -> bool:
            nonlocal is_failure_handled, force_delay
            self._handle_red_runs(group)
            if not is_failure_handled and group.failures and group.unfinished:
                is_failure_handled = self.policy.on_first_failure(group)
            if (
                not self.policy.time.remaining(force_delay)
                and group.unfinished
                and self.policy.force_unfinished(group.unfinished)
            ):
                force_delay = math.inf
            return False

        with self._failed_wait(context, lambda: group.unfinished, is_resumed=resumed is not None):
            tracking.wait_for_runs(
                group,
                deadline,
                poll_interval=poll_interval,
                stop_when=act,
                max_delay=lambda: self.policy.time.remaining(force_delay) or math.inf,
            )
        # The outcome of a run stopped by the kill must not be reported.
        self.policy.raise_if_killed("while it waited")
        self.policy.emit_stats(context, group)
        return self.task.finish_all(context, group)

    def new_group(
        self,
        runs: Sequence[RunRef],
        resumed: triggers.RunsWaitEvent | None = None,
        *,
        metrics_timeout: float,
        stopped: Collection[str] = (),
        time_left: Callable[[], float] | None = None,
    ) -> tracking.RunGroup:
        """
        Return the group that tracks runs as the parameters of the task say.

        :param runs: the runs
        :param resumed: event of an earlier wait for these runs
        :param metrics_timeout: maximum seconds to wait for final metrics
        :param stopped: ids of the jobs whose runs the task has stopped
        :param time_left: returns the seconds until the deadline; by default that of the task
        """
        return tracking.RunGroup(
            self.polling_client(time_left),
            runs,
            metrics_timeout=metrics_timeout,
            upper_bounds=self.task.upper_bounds(),
            until_active=self.policy.until_active,
            fail_on_red_after=self.policy.fail_on_red_after,
            stopped=stopped,
            log=self.log,
            **(resumed.run_group_state(time.time()) if resumed else {}),
        )

    @contextlib.contextmanager
    def _failed_wait(
        self, context: Context, unfinished: Callable[[], dict[str, int]], *, is_resumed: bool
    ) -> Iterator[None]:
        """Handle the runs if a wait times out or a condition is violated, before the task fails."""
        try:
            yield
        except ControlHubRunTimeoutError as error:
            self.policy.on_timeout(context, unfinished())
            # While the task is deferred, the trigger enforces ``execution_timeout``, too.
            if is_resumed and self.policy.time.is_execution_timeout:
                raise AirflowTaskTimeout(str(error)) from error
            raise
        except ControlHubExpectationError:
            self.policy.on_condition_violated(context, self.watched)
            raise

    def defer(
        self,
        runs: Sequence[RunRef],
        *,
        metrics_timeout: float,
        method_name: str = "execute_complete",
        only_ends: bool = False,
        wait: triggers.RunsWaitEvent | None = None,
        group: tracking.RunGroup | None = None,
        **arguments: Any,
    ) -> NoReturn:
        """
        Defer the task until the runs have ended.

        :param runs: the runs
        :param metrics_timeout: maximum seconds to wait for final metrics
        :param method_name: the method that Airflow calls afterwards
        :param only_ends: wait only for the ends of the runs: the trigger neither stops them nor ends the wait before
        :param wait: event of an earlier wait for these runs, whose deadline still applies
        :param group: the runs as polled after that wait
        :param arguments: further arguments of the trigger
        """
        self.policy.raise_if_killed("before it was deferred")
        if wait is not None:
            timeout, deadline = wait.timeout, wait.deadline
        else:
            limits = self.policy.time.limits
            timeout, deadline = min(limits, default=None), time.time() + self.policy.time.left if limits else None
        red = group.red if group else {}
        # A wait that only awaits ends is for runs of other callers, or for those that have ended.
        joined = {run.job_id for run in runs} if only_ends else self.policy.joined_job_ids
        # Runs that could not be handled yet: the trigger ends its wait for them again.
        unhandled_red = {job_id: report.red_for or 0.0 for job_id, report in red.items() if job_id not in self._red}
        red_for = {**group.red_for, **unhandled_red} if group else {}
        self.task.defer(
            trigger=self.trigger(
                runs,
                timeout=timeout,
                deadline=deadline,
                metrics_timeout=metrics_timeout,
                red_since={job_id: time.time() - seconds for job_id, seconds in red_for.items()} or None,
                red=self._compact_reports({i: report for i, report in red.items() if i not in unhandled_red}) or None,
                forced=list(self.policy.forced),
                joined=[run.job_id for run in runs if run.job_id in joined],
                only_ends=only_ends,
                **arguments,
            ),
            method_name=method_name,
            timeout=None
            if deadline is None
            else params.framework_timeout(max(deadline - time.time(), 0.0), self.task.rendered.poll_interval),
        )

    def trigger(
        self, runs: Sequence[RunRef], *, joined: Sequence[str], only_ends: bool = False, **arguments: Any
    ) -> triggers.ControlHubRunsTrigger:
        """
        Return the trigger of a wait for runs.

        :param runs: the runs
        :param joined: ids of the jobs whose runs were started by other callers
        :param only_ends: see :meth:`defer`
        :param arguments: further arguments of the trigger
        """
        if len(runs) > _MAX_NAMED_RUNS:
            runs = [replace(run, job_name="") for run in runs]
        if not only_ends:
            arguments.update(
                upper_bounds=[str(bound) for bound in self.task.upper_bounds()] or None,
                wait_for="active" if self.policy.until_active else "completion",
                fail_on_red_after=self.policy.fail_on_red_after,
                stop_on_kill=self.policy.stop_on_kill and len(joined) < len(runs),
                timeout_reason=self.policy.time.expiry if self.policy.stops_on_timeout else None,
            )
        return triggers.ControlHubRunsTrigger(
            control_hub_conn_id=self.task.control_hub_conn_id,
            runs=[run.to_json() for run in runs],
            poll_interval=self.task.rendered.poll_interval,
            joined=list(joined),
            force_stop_after=self.policy.force_stop_after,
            **arguments,
        )

    def resume(self, context: Context, event: object) -> Any:
        """Resume after the trigger has fired: finish the task, or handle the event and defer again."""
        self.task.prepare()
        wait = triggers.RunsWaitEvent.from_payload(event)
        self.policy.time.restore(wait.deadline)
        self.watched = wait.run_counts
        self.record_names(wait.runs)
        self.policy.forced = {job_id: self.watched[job_id] for job_id in wait.forced if job_id in self.watched}
        stopped = {job_id: self.watched[job_id] for job_id in wait.stopped if job_id in self.watched}
        self.policy.record_stop_requests(stopped)
        with self._failed_wait(context, lambda: {**self._still_active(), **stopped}, is_resumed=True):
            wait.raise_error()
        runs = self._with_names(wait.runs, min(max(wait.time_left(), 0.0), _NAMES_MAX_WAIT))
        self.record_names(runs)
        self._red = {job_id for job_id, report in wait.reports.items() if report.red_for is not None}
        if wait.needs_action:
            self._act_and_defer_again(wait, runs)
        time_left = None if wait.deadline is None else max(wait.time_left(), _RESUMED_MAX_WAIT)
        if wait.reason is triggers.RunsWaitReason.TIMEOUT:
            time_left = 0.0
        if stopped or wait.stop_failed:
            self._raise_if_timed_out(context, wait, runs, stopped)
        return self._poll_until_done(
            context,
            runs,
            deadline=Deadline(time_left, total=wait.timeout, sleep=self.policy.time.sleep),
            poll_interval=_RESUMED_INTERVAL,
            # The trigger has already waited for the metrics.
            metrics_timeout=0.0,
            resumed=wait,
        )

    def _raise_if_timed_out(
        self, context: Context, wait: triggers.RunsWaitEvent, runs: Sequence[RunRef], stopped: Mapping[str, int]
    ) -> None:
        """
        Raise the error of a wait whose runs the trigger has stopped, as they must not count as stopped by others.

        Return if all runs had ended before the trigger could stop them.
        """
        group = self.group = self.new_group(runs, wait, metrics_timeout=0.0, stopped=stopped)
        try:
            group.poll(skip_metrics_wait=True)
        except ControlHubError as error:
            self.log.warning("%s Treating the runs as active.", error)
        late = {**group.unfinished, **stopped}
        if wait.stop_failed:
            outcomes = {job_id: report.outcome for job_id, report in group.reports.items()}
            late.update({i: count for i, count in self.watched.items() if outcomes.get(i) is Outcome.STOPPED})
        if late:
            with self._failed_wait(context, lambda: late, is_resumed=True):
                statuses = {**dict.fromkeys(late.keys() - group.unfinished.keys(), ""), **wait.stopped}
                raise group.timed_out(wait.timeout, {i: statuses[i] for i in statuses if i not in wait.active})

    def _still_active(self) -> dict[str, int]:
        """Return those of the runs that have not ended, as far as is known: run count by job id."""
        try:
            active = self.task.client.with_options(max_attempts=1).runs.get_active(self.watched)
            return {job_id: self.watched[job_id] for job_id in active}
        except ControlHubError as error:
            self.log.info("%s Treating the runs as active.", error)
            return self.watched

    def _act_and_defer_again(self, wait: triggers.RunsWaitEvent, runs: Sequence[RunRef]) -> NoReturn:
        group = self.new_group(runs, wait, metrics_timeout=0.0, time_left=wait.time_left)
        group.poll(skip_metrics_wait=True)
        self._handle_red_runs(group)
        # Failure and force are handled once each; the other one may still be due.
        until_failure, force_at = wait.until_failure, wait.force_at
        if group.poll_failed:
            # The runs cannot be handled now. The trigger polls again, with the same deadline.
            until_failure = until_failure or wait.reason is triggers.RunsWaitReason.FIRST_FAILURE
            if wait.reason is triggers.RunsWaitReason.FORCE:
                force_at = time.time() + self.task.rendered.poll_interval
        elif group.unfinished:
            if wait.reason is triggers.RunsWaitReason.FIRST_FAILURE or (until_failure and group.failures):
                until_failure = not self.policy.on_first_failure(group)
            elif wait.reason is triggers.RunsWaitReason.FORCE and not self.policy.force_unfinished(group.unfinished):
                force_at = time.time() + self.task.rendered.poll_interval
        active = {*wait.active, *(report.job_id for report in group.reports.values() if not report.outcome)}
        self.defer(
            runs,
            metrics_timeout=wait.metrics_timeout,
            wait=wait,
            group=group,
            until_failure=until_failure,
            force_at=force_at,
            active=sorted(active) or None,
        )

    def _with_names(self, runs: Sequence[RunRef], max_wait: float) -> Sequence[RunRef]:
        """Return the runs with the names of their jobs, which are fetched if the trigger did not have them."""
        if all(run.job_name for run in runs):
            return runs
        deadline = Deadline(max_wait)
        try:
            # Unlike a poll, this is not repeated, so the client retries it.
            with self.task.client.within(lambda: deadline.remaining):
                jobs = self.task.client.jobs.get_many([run.job_id for run in runs])
        except ControlHubError as error:
            self.log.warning("Could not fetch the names of the jobs; continuing with their ids: %s", error)
            return runs
        return [replace(run, job_name=jobs[run.job_id].name) if run.job_id in jobs else run for run in runs]

    def _compact_reports(self, red: Mapping[str, tracking.RunReport]) -> dict[str, dict[str, Any] | float | None]:
        """Return the reports of RED runs in the short form that fits into a trigger's row."""
        kept = dict(itertools.islice(red.items(), self.max_red_reports))
        return {
            job_id: report.truncated().to_dict() if job_id in kept else report.red_for for job_id, report in red.items()
        }

    def results_or_failure(
        self, context: Context, group: tracking.RunGroup, *, accept_stopped: bool, hint: str = ""
    ) -> list[dict[str, Any]]:
        """
        Return the results of all runs, or raise an error that names those that did not succeed.

        If a run did not succeed, push the results of all runs to XCom, see ``push_results`` of the operator.

        :param group: the runs, whose wait has ended
        :param accept_stopped: count stopped runs as successes
        :param hint: what the user can do about a failure, as a sentence
        :raises ControlHubRunFailedError: if runs did not succeed
        """
        failed = [report for report in group.reports.values() if report.outcome is Outcome.FAILED]
        stopped = [report for report in group.reports.values() if report.outcome is Outcome.STOPPED]
        reasons = [report.summary for report in failed]
        reasons += [str(error).removesuffix(".") for error in group.unresolved.values()]
        if stopped and not accept_stopped:
            if reasons:
                # They may have been stopped because of a failure, so only the failures are listed.
                hint = f"Other stopped runs: {len(stopped)}."
            else:
                reasons, failed = [report.summary for report in stopped], stopped
                hint = "Set accept_stopped=True to accept stopped runs."
        if not reasons:
            for report in group.reports.values() if len(group.runs) == 1 else ():
                self.log.info(report.summary)
            return list(group.results())
        results = list(group.results())
        self.task.push_results(context, results)
        logged = [report for report in failed if report.outcome is Outcome.FAILED][:_MAX_LOGGED_FAILURES]
        names = tracking.fetch_names(self.task.client, *logged) if logged else {}
        for report in logged:
            self.log.error(report.details(names))
        if len(group.runs) == 1:
            raise failed[0].failure(hint)
        failures = [report.failure() for report in failed]
        raise ControlHubRunFailedError(
            f"{len(reasons)} of {len(group.runs)} runs did not succeed: "
            f"{join_truncated(reasons, '; ', max_items=_MAX_LISTED_FAILURES)}.{hint and ' '}{hint}",
            outcome=next((failure.outcome for failure in failures), None),
            error_codes=dict.fromkeys(code for failure in failures for code in failure.error_codes),
            stage=next((failure.stage for failure in failures if failure.stage), None),
            engine_lost=any(failure.engine_lost for failure in failures),
            result=results,
            failures=failures,
        )
