"""Waiting for runs, on the worker or on the triggerer."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowException, AirflowTaskTimeout

from airflow_provider_streamsets import params, triggers
from airflow_provider_streamsets.compat import MAX_TRIGGER_SIZE, trigger_size
from airflow_provider_streamsets.control_hub import tracking
from airflow_provider_streamsets.control_hub._messages import join_truncated
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubError,
    ControlHubExpectationError,
    ControlHubRunFailedError,
    ControlHubRunLostError,
    ControlHubRunTimeoutError,
)
from airflow_provider_streamsets.control_hub.models import Outcome, RunIdentity, RunRef
from airflow_provider_streamsets.operators.base import ControlHubOperator
from airflow_provider_streamsets.params import Parameter

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import ControlHubClient, Job

_MAX_SLEEP = 1.0  # seconds
# Seconds. A resumed task only fetches reports of ended runs: it polls often, and has this long even at the deadline.
_RESUMED_INTERVAL = 5.0
_RESUMED_MAX_WAIT = 60.0
# Seconds to fetch the names of the jobs when the task is resumed.
_NAMES_MAX_WAIT = 60.0
# Seconds to retry while Control Hub rejects the stop of a job that is being started.
STOP_MAX_WAIT = 60.0
_MAX_LOGGED_FAILURES = 10
_MAX_LISTED_FAILURES = 20
# The trigger keeps complete reports of this many RED runs; for others, only that they were RED.
_MAX_RED_REPORTS = 5
# Maximum size of such a report in compressed bytes.
_RED_REPORT_SIZE = 1400
# The trigger of up to so many runs has the names of their jobs; for more, the resumed task fetches them.
_MAX_NAMED_RUNS = 10
# Maximum time between the starts of runs that are waited for together.
_MAX_START_SPREAD_MS = 86_400_000


class RunWaitMixin(ControlHubOperator):
    """
    Base of the operators that wait for runs, with one status request per poll for all of them.

    A wait follows the same rules on worker and triggerer, and ends in :meth:`finish_all`.

    :param wait_for_completion: wait until the run has ended (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds, or timedelta, between polls; default 30 (templated)
    :param wait_timeout: seconds, or timedelta, after which the task fails; None sets no limit. Counted from the start
        of the task, like Airflow's ``execution_timeout``, which is also enforced while the task is deferred (templated)
    :param metrics_timeout: maximum seconds, or timedelta, to wait for final metrics after the end of the run. Control
        Hub saves them with a delay of up to the job's statistics interval. Default: that interval plus 15 seconds, at
        most 2 minutes unless the task has conditions on metrics; without conditions, missing metrics never fail the
        task (templated)
    """

    wait_for_completion = Parameter(params.boolean)
    poll_interval = Parameter(params.seconds)
    wait_timeout = Parameter(params.seconds)
    metrics_timeout = Parameter(params.seconds, zero=True)

    def __init__(
        self,
        *,
        wait_for_completion: bool | str = True,
        deferrable: bool | None = None,
        poll_interval: float | timedelta | str = params.DEFAULT_POLL_INTERVAL,
        wait_timeout: float | timedelta | str | None = None,
        metrics_timeout: float | timedelta | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wait_for_completion = wait_for_completion
        self.deferrable = params.resolve_deferrable(deferrable)
        self.poll_interval = poll_interval
        self.wait_timeout = wait_timeout
        self.metrics_timeout = metrics_timeout
        self._wait_only_parameters: dict[str, Any] = {
            "deferrable": None if deferrable is None else self.deferrable and deferrable,
            "metrics_timeout": metrics_timeout or None,
        }
        self._execution_start = time.monotonic()
        self._killed = False
        self._group: tracking.RunGroup | None = None
        self._watched: dict[str, int] = {}
        self._forced: dict[str, int] = {}
        self._red: set[str] = set()

    def check_unused_parameters(self, default_args: Mapping[str, Any] | None, **others: Any) -> None:
        """
        Check at DAG parse that no parameter of a wait is set with ``wait_for_completion=False``.

        `poll_interval` is not checked, because it has a default.

        :param default_args: see :func:`~airflow_provider_streamsets.params.no_effect`
        :param others: further parameters that have an effect only with a wait
        :raises ValueError: if such a parameter is set
        """
        if params.boolean(self.wait_for_completion, "wait_for_completion") is False:
            params.no_effect("wait_for_completion=True", self, default_args, **{**self._wait_only_parameters, **others})

    def prepare(self) -> bool:
        """
        Start the clock of `wait_timeout`, and validate the rendered parameters of the wait.

        :returns: whether to wait for completion
        :raises ValueError: if a parameter is invalid; nothing was done
        """
        self._execution_start = time.monotonic()
        self.check_parameters(RunWaitMixin)
        return bool(self.rendered.wait_for_completion)

    def raise_if_killed(self, when: str) -> None:
        """
        Raise an error if the task was killed.

        Airflow's signal handler returns after :meth:`on_kill`, and the task continues. Call this before starting runs
        or returning their results.

        :param when: a clause for the message, such as "before ..."
        """
        if self._killed:
            raise AirflowException(f"The task was killed {when}.")

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
            if self._killed:
                raise AirflowException("The task was killed while it waited.")

    def on_kill(self) -> None:
        """Remember that the task was killed."""
        self._killed = True

    @property
    def wait_deadline(self) -> Deadline:
        """Deadline of `wait_timeout`; sleeps until then end when the task is killed."""
        total = self.rendered.wait_timeout
        return Deadline(None if total is None else self._remaining(total), total=total, sleep=self.sleep)

    def _remaining(self, limit: float) -> float:
        return max(limit - (time.monotonic() - self._execution_start), 0.0)

    def force_stop_seconds(self) -> float | None:
        """Return the seconds after which a stop on kill is forced; None leaves that to Control Hub."""
        return None

    def fail_on_red_seconds(self) -> float | None:
        """Return the maximum seconds for which a run may be ``RED``; None sets no limit."""
        return None

    @property
    def waits_until_active(self) -> bool:
        """Whether a wait ends when the runs are active, rather than when they have ended."""
        return False

    def restore_deadline(self, deadline: float) -> None:
        """
        Restore the deadline that the task had before it was deferred.

        :param deadline: the earliest deadline of the task, in epoch seconds
        """
        limits = self._limits()
        if limits:
            self._execution_start = time.monotonic() - (min(limits) - max(deadline - time.time(), 0.0))

    def _limits(self) -> list[float]:
        """Return all time limits of the task in seconds; the smallest is effective."""
        execution_timeout = self.execution_timeout.total_seconds() if self.execution_timeout else None
        return [limit for limit in (self.rendered.wait_timeout, execution_timeout) if limit is not None]

    @property
    def time_left(self) -> float:
        """Seconds until the earliest deadline of the task; infinite if there is none."""
        return min(map(self._remaining, self._limits()), default=math.inf)

    def polling_client(self, time_left: Callable[[], float] | None = None) -> ControlHubClient:
        """
        Return a client for polls, which sends each request once, because a failed poll is repeated anyway.

        :param time_left: returns the seconds until the deadline; by default that of the task
        """
        client = self.client.with_options(max_attempts=1)
        client.time_left = time_left or (lambda: self.time_left)
        return client

    @property
    def needs_metrics(self) -> bool:
        """Whether the success of the task depends on the final metrics of its run."""
        return False

    def _metrics_timeout_for(self, *jobs: Job) -> float:
        if self.waits_until_active:
            return 0.0
        return params.resolve_metrics_timeout(self.metrics_timeout, *jobs, is_needed=self.needs_metrics)

    def _is_execution_timeout(self) -> bool:
        """Return whether the earliest deadline is that of ``execution_timeout``, and not of `wait_timeout`."""
        limit = self.execution_timeout.total_seconds() if self.execution_timeout else None
        wait_timeout = self.rendered.wait_timeout
        return limit is not None and (wait_timeout is None or limit < wait_timeout)

    def _timeout_before_start(self, error: object) -> BaseException:
        """Return the error of a task that timed out while it waited for other runs before its own start."""
        message = f"{error} The task was waiting for this before starting its own run; nothing was started."
        return AirflowTaskTimeout(message) if self._is_execution_timeout() else ControlHubRunTimeoutError(message)

    @property
    def joined_job_ids(self) -> Collection[str]:
        """Ids of the jobs whose runs were started by other callers, and are never stopped."""
        return ()

    @property
    def stops_runs_on_kill(self) -> bool:
        """Whether the runs are stopped when the task is killed."""
        return False

    def finish_all(self, context: Context, group: tracking.RunGroup) -> Any:
        """Return the task's result from the reports of the runs, or raise an error if the task fails."""
        raise NotImplementedError

    def stopped_runs(self, context: Context) -> Mapping[str, int]:
        """Return the runs that this task stopped: run count by job id."""
        return {}

    def push_results(self, context: Context, results: list[dict[str, Any]]) -> None:
        """Push the results of the runs to XCom before the task fails."""
        if self.do_xcom_push:
            context["ti"].xcom_push(key="results", value=results)

    def upper_bounds(self) -> tuple[tracking.MetricCondition, ...]:
        """Return the conditions that the metrics of the run must satisfy while it is active."""
        return ()

    def on_condition_violated(self, context: Context, runs: Mapping[str, int]) -> None:
        """
        Handle runs whose metrics exceed an upper bound, before the task fails.

        :param runs: run count by job id
        """

    def on_first_failure(self, group: tracking.RunGroup) -> bool:
        """
        Handle the first failure while other runs have not ended.

        :returns: False to be called again after the next poll
        """
        return True

    def on_red_runs(self, runs: dict[str, int]) -> bool:
        """
        Handle runs that were ``RED`` for longer than allowed, while the wait for others continues.

        :param runs: run count by job id
        :returns: False to be called again after the next poll
        """
        return True

    def _handle_red_runs(self, group: tracking.RunGroup) -> None:
        runs = {job_id: report.run.run_count for job_id, report in group.red.items() if job_id not in self._red}
        # The failure of the task handles the only run.
        if runs and len(group.runs) > 1 and self.on_red_runs(runs):
            self._red.update(runs)

    @property
    def force_after(self) -> float | None:
        """Seconds from the start of the task after which :meth:`force_unfinished` is called; None never calls it."""
        return None

    def force_unfinished(self, unfinished: dict[str, int]) -> bool:
        """
        Handle runs that have not ended after :attr:`force_after`.

        :param unfinished: run count by job id
        :returns: False to be called again after the next poll
        """
        return True

    def results_or_failure(
        self, context: Context, group: tracking.RunGroup, *, accept_stopped: bool, hint: str = ""
    ) -> list[dict[str, Any]]:
        """
        Return the results of all runs, or raise an error that names those that did not succeed.

        If a run did not succeed, push the results of all runs to XCom, see :meth:`push_results`.

        :param group: the runs, whose wait has ended
        :param accept_stopped: count stopped runs as successes
        :param hint: what the user can do about a failure, as a sentence
        :raises ControlHubRunFailedError: if runs did not succeed
        """
        failed = [report for report in group.reports.values() if report.outcome is Outcome.FAILED]
        stopped = [report for report in group.reports.values() if report.outcome is Outcome.STOPPED]
        for report in failed[:_MAX_LOGGED_FAILURES]:
            self.log.error(report.details())
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
            if len(group.runs) == 1:
                self.log.info(next(report.summary for report in group.reports.values()))
            return list(group.results())
        results = list(group.results())
        self.push_results(context, results)
        if len(group.runs) == 1:
            raise failed[0].failure(hint)
        failures = [report.failure() for report in failed]
        raise ControlHubRunFailedError(
            f"{len(reasons)} of {len(group.runs)} runs did not succeed: "
            f"{join_truncated(reasons, '; ', max_items=_MAX_LISTED_FAILURES)}.{hint and ' '}{hint}",
            outcome=next((failure.outcome for failure in failures), None),
            error_codes=dict.fromkeys(code for failure in failures for code in failure.error_codes),
            stage=next((failure.stage for failure in failures if failure.stage), None),
            result=results,
            failures=failures,
        )

    def on_runs_timeout(self, context: Context, unfinished: dict[str, int]) -> None:
        """
        Handle a timed-out wait before the task fails.

        :param unfinished: the runs that have not ended: run count by job id
        """

    def wait_for_runs(
        self, context: Context, runs: Sequence[RunRef], jobs: Sequence[Job], *, until_failure: bool = False
    ) -> Any:
        """
        Wait for runs, on the worker or the triggerer, and return the task's result.

        :param runs: the runs
        :param jobs: their jobs
        :param until_failure: call :meth:`on_first_failure` when the first run fails
        """
        self._watched = {run.job_id: run.run_count for run in runs}
        metrics_timeout = self._metrics_timeout_for(*jobs)
        if self.deferrable and runs:
            self.defer_to_trigger(
                runs,
                metrics_timeout=metrics_timeout,
                until_failure=until_failure,
                force_at=None if self.force_after is None else time.time() + self._remaining(self.force_after),
            )
        return self._wait_for_all(
            context,
            runs,
            deadline=self.wait_deadline,
            poll_interval=self.rendered.poll_interval,
            metrics_timeout=metrics_timeout,
            until_failure=until_failure,
            force_after=self.force_after,
        )

    def wait_for_other_runs(self, runs: Sequence[RunRef]) -> None:
        """
        Wait until runs of other callers have ended, before this task starts its own.

        A deferrable task is deferred, and resumes in ``execute_after_other_runs``, which calls
        :meth:`resume_after_other_runs`.

        :param runs: the runs of other callers
        """
        if self.deferrable:
            self.defer_to_trigger(runs, method_name="execute_after_other_runs", metrics_timeout=0.0)
        self._wait_for_ends(runs, self.wait_deadline)

    def resume_after_other_runs(self, event: object) -> triggers.RunsWaitEvent:
        """
        Return the event of :meth:`wait_for_other_runs`, with the deadline of the task restored.

        :raises ControlHubRunTimeoutError: if the task timed out
        """
        others = triggers.RunsWaitEvent.from_payload(event)
        if others.deadline is not None:
            self.restore_deadline(others.deadline)
        with self._ends_of_other_runs():
            others.raise_error()
        if others.reason is triggers.RunsWaitReason.TIMEOUT:
            self._wait_for_ends(self._with_names(others.runs, 0.0), Deadline(0.0, total=others.timeout))
        return others

    def _wait_for_ends(self, runs: Sequence[RunRef], deadline: Deadline) -> tracking.RunGroup:
        group = tracking.RunGroup(self.polling_client(), runs, metrics_timeout=0.0, log=self.log)
        with self._ends_of_other_runs():
            tracking.wait_for_runs(group, deadline, poll_interval=self.rendered.poll_interval)
        return group

    @contextlib.contextmanager
    def _ends_of_other_runs(self) -> Iterator[None]:
        try:
            yield
        except ControlHubRunLostError as error:
            # It is no longer active, whatever happened to it.
            self.log.warning("%s", error)
        except ControlHubRunTimeoutError as error:
            raise self._timeout_before_start(error) from error

    def warn_of_large_trigger(self, job_ids: Sequence[str], *, joins: bool = False) -> None:
        """
        Warn before the start if MySQL could not store the trigger for this many runs.

        A task cannot know which database Airflow uses. Values that are not known yet, such as the ids of the runs, are
        estimated at their maximum length.

        :param job_ids: ids of the jobs, or strings of the same length
        :param joins: whether runs may be joined
        """
        if not self.deferrable:
            return
        size, constant = self._max_trigger_size(job_ids, joins), self._max_trigger_size((), joins)
        if size > MAX_TRIGGER_SIZE:
            self.log.warning(
                "The trigger for %d runs may need %d bytes. If Airflow's database is MySQL, which stores at most %d, "
                "the task will fail after the start: set deferrable=False, or split the jobs among tasks of at most "
                "%d jobs each. With other databases, nothing needs to be done.",
                len(job_ids),
                size,
                MAX_TRIGGER_SIZE,
                (MAX_TRIGGER_SIZE - constant) * len(job_ids) // (size - constant),
            )

    def _max_trigger_size(self, job_ids: Sequence[str], joins: bool) -> int:
        """Return the maximum size in bytes of the trigger of this or a later deferral."""
        now, is_forced = round(time.time(), 3), not (self.force_after is None and self.force_stop_seconds() is None)
        may_be_red = self.fail_on_red_seconds() is not None
        digests = {job_id: hashlib.sha256(job_id.encode()).hexdigest() for job_id in job_ids}
        # Only some of the runs: identical entries for all runs would compress too well.
        subset = [job_id for job_id, digest in digests.items() if int(digest, 16) % 2]
        times = {job_id: now + int(digest, 16) % _MAX_START_SPREAD_MS / 1000 for job_id, digest in digests.items()}
        runs = [
            RunRef(
                job_id, int(digest, 16) % 10_000, identity=RunIdentity(placeholder_id(job_id, digest), times[job_id])
            )
            for job_id, digest in digests.items()
        ]
        trigger = self._trigger(
            runs,
            timeout=now,
            deadline=now,
            metrics_timeout=now,
            force_at=now,
            active=subset if self.waits_until_active else None,
            red_since=times if may_be_red else None,
            red={i: hashlib.shake_256(i.encode()).hexdigest(_RED_REPORT_SIZE) for i in job_ids[:_MAX_RED_REPORTS]}
            if may_be_red
            else None,
            forced=subset if is_forced else (),
            joined=subset if joins else (),
        )
        return trigger_size(trigger.serialize()[1])

    def _wait_for_all(
        self,
        context: Context,
        runs: Sequence[RunRef],
        *,
        deadline: Deadline,
        poll_interval: float,
        metrics_timeout: float,
        until_failure: bool = False,
        force_after: float | None = None,
        resumed: triggers.RunsWaitEvent | None = None,
    ) -> Any:
        stopped = self.stopped_runs(context).items() & self._watched.items()
        group = self._group = self._new_group(runs, resumed, metrics_timeout=metrics_timeout, stopped=dict(stopped))
        is_failure_handled, force_delay = not until_failure, math.inf if force_after is None else force_after

        def act(group: tracking.RunGroup) -> bool:
            nonlocal is_failure_handled, force_delay
            self._handle_red_runs(group)
            if not is_failure_handled and group.failures and group.unfinished:
                is_failure_handled = self.on_first_failure(group)
            if not self._remaining(force_delay) and group.unfinished and self.force_unfinished(group.unfinished):
                force_delay = math.inf
            return False

        with self._failed_wait(context, lambda: group.unfinished, is_resumed=resumed is not None):
            tracking.wait_for_runs(
                group,
                deadline,
                poll_interval=poll_interval,
                stop_when=act,
                max_delay=lambda: self._remaining(force_delay) or math.inf,
            )
        # The outcome of a run stopped by the kill must not be reported.
        self.raise_if_killed("while it waited")
        return self.finish_all(context, group)

    def _new_group(
        self,
        runs: Sequence[RunRef],
        resumed: triggers.RunsWaitEvent | None = None,
        *,
        metrics_timeout: float,
        stopped: Collection[str] = (),
        time_left: Callable[[], float] | None = None,
    ) -> tracking.RunGroup:
        return tracking.RunGroup(
            self.polling_client(time_left),
            runs,
            metrics_timeout=metrics_timeout,
            upper_bounds=self.upper_bounds(),
            until_active=self.waits_until_active,
            fail_on_red_after=self.fail_on_red_seconds(),
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
            if runs := unfinished():
                self.on_runs_timeout(context, runs)
            # While the task is deferred, the trigger enforces ``execution_timeout``, too.
            if is_resumed and self._is_execution_timeout():
                raise AirflowTaskTimeout(str(error)) from error
            raise
        except ControlHubExpectationError:
            self.on_condition_violated(context, unfinished())
            raise

    def defer_to_trigger(
        self,
        runs: Sequence[RunRef],
        *,
        metrics_timeout: float,
        method_name: str = "execute_complete",
        wait: triggers.RunsWaitEvent | None = None,
        group: tracking.RunGroup | None = None,
        **arguments: Any,
    ) -> NoReturn:
        """
        Defer the task until the runs have ended.

        :param runs: the runs
        :param metrics_timeout: maximum seconds to wait for final metrics
        :param method_name: the method that Airflow calls afterwards; with another one than ``execute_complete``, the
            trigger neither stops the runs nor ends the wait before they have ended
        :param wait: event of an earlier wait for these runs, whose deadline still applies
        :param group: the runs as polled after that wait
        :param arguments: further arguments of the trigger
        """
        self.raise_if_killed("before it was deferred")
        if wait is not None:
            timeout, deadline = wait.timeout, wait.deadline
        else:
            limits = self._limits()
            timeout, deadline = min(limits, default=None), time.time() + self.time_left if limits else None
        red = group.red if group else {}
        # Runs that could not be handled yet: the trigger ends its wait for them again.
        unhandled_red = {job_id: report.red_for or 0.0 for job_id, report in red.items() if job_id not in self._red}
        red_for = {**group.red_for, **unhandled_red} if group else {}
        self.defer(
            trigger=self._trigger(
                runs,
                timeout=timeout,
                deadline=deadline,
                metrics_timeout=metrics_timeout,
                red_since={job_id: time.time() - seconds for job_id, seconds in red_for.items()} or None,
                red=_compact_reports({i: report for i, report in red.items() if i not in unhandled_red}) or None,
                forced=list(self._forced),
                joined=[run.job_id for run in runs if run.job_id in self.joined_job_ids],
                only_ends=method_name != "execute_complete",
                **arguments,
            ),
            method_name=method_name,
            timeout=None
            if deadline is None
            else params.framework_timeout(max(deadline - time.time(), 0.0), self.rendered.poll_interval),
        )

    def _trigger(
        self, runs: Sequence[RunRef], *, joined: Sequence[str], only_ends: bool = False, **arguments: Any
    ) -> triggers.ControlHubRunsTrigger:
        if len(runs) > _MAX_NAMED_RUNS:
            runs = [replace(run, job_name="") for run in runs]
        if not only_ends:
            arguments.update(
                upper_bounds=[str(bound) for bound in self.upper_bounds()] or None,
                wait_for="active" if self.waits_until_active else "completion",
                fail_on_red_after=self.fail_on_red_seconds(),
                stop_on_kill=self.stops_runs_on_kill and len(joined) < len(runs),
            )
        return triggers.ControlHubRunsTrigger(
            control_hub_conn_id=self.control_hub_conn_id,
            runs=[run.to_json() for run in runs],
            poll_interval=self.rendered.poll_interval,
            joined=list(joined),
            force_stop_after=self.force_stop_seconds(),
            **arguments,
        )

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Resume after the trigger has fired: finish the task, or handle the event and defer again."""
        self.prepare()
        wait = triggers.RunsWaitEvent.from_payload(event)
        self._watched = wait.run_counts
        with self._failed_wait(context, lambda: self._watched, is_resumed=True):
            wait.raise_error()
        runs = self._with_names(wait.runs, min(max(wait.time_left(), 0.0), _NAMES_MAX_WAIT))
        self._forced = {job_id: self._watched[job_id] for job_id in wait.forced if job_id in self._watched}
        self._red = {job_id for job_id, report in wait.reports.items() if report.red_for is not None}
        if wait.needs_action:
            self._act_and_defer_again(wait, runs)
        time_left = None if wait.deadline is None else max(wait.time_left(), _RESUMED_MAX_WAIT)
        if wait.reason is triggers.RunsWaitReason.TIMEOUT:
            time_left = 0.0
        return self._wait_for_all(
            context,
            runs,
            deadline=Deadline(time_left, total=wait.timeout, sleep=self.sleep),
            poll_interval=_RESUMED_INTERVAL,
            # The trigger has already waited for the metrics.
            metrics_timeout=0.0,
            resumed=wait,
        )

    def _act_and_defer_again(self, wait: triggers.RunsWaitEvent, runs: Sequence[RunRef]) -> NoReturn:
        group = self._new_group(runs, wait, metrics_timeout=0.0, time_left=wait.time_left)
        group.poll(skip_metrics_wait=True)
        self._handle_red_runs(group)
        # Failure and force are handled once each; the other one may still be due.
        until_failure, force_at = wait.until_failure, wait.force_at
        if group.poll_failed:
            # The runs cannot be handled now. The trigger polls again, with the same deadline.
            until_failure = until_failure or wait.reason is triggers.RunsWaitReason.FIRST_FAILURE
            if wait.reason is triggers.RunsWaitReason.FORCE:
                force_at = time.time() + self.rendered.poll_interval
        elif group.unfinished:
            if wait.reason is triggers.RunsWaitReason.FIRST_FAILURE or (until_failure and group.failures):
                until_failure = not self.on_first_failure(group)
            elif wait.reason is triggers.RunsWaitReason.FORCE and not self.force_unfinished(group.unfinished):
                force_at = time.time() + self.rendered.poll_interval
        active = {*wait.active, *(report.job_id for report in group.reports.values() if not report.outcome)}
        self.defer_to_trigger(
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
            with self.client.within(lambda: deadline.remaining):
                jobs = self.client.jobs.get_many([run.job_id for run in runs])
        except ControlHubError as error:
            self.log.warning("Could not fetch the names of the jobs; continuing with their ids: %s", error)
            return runs
        return [replace(run, job_name=jobs[run.job_id].name) if run.job_id in jobs else run for run in runs]


def placeholder_id(example: str, digest: str) -> str:
    """
    Return an id in the form of Control Hub, with the organization of another id.

    :param example: the other id
    :param digest: at least 32 random hexadecimal digits
    """
    return f"{uuid.UUID(digest[:32])}:{example.partition(':')[2]}"


def _compact_reports(red: Mapping[str, tracking.RunReport]) -> dict[str, dict[str, Any] | float | None]:
    """Return the reports of RED runs in the short form that fits into a trigger's row."""
    kept = dict(itertools.islice(red.items(), _MAX_RED_REPORTS))
    return {
        job_id: report.truncated().to_dict() if job_id in kept else report.red_for for job_id, report in red.items()
    }
