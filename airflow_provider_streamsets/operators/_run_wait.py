"""Waiting for one run, on the worker or on the triggerer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowException, AirflowTaskTimeout

from airflow_provider_streamsets import params, triggers
from airflow_provider_streamsets.control_hub import tracking
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.errors import ControlHubExpectationError, ControlHubRunTimeoutError
from airflow_provider_streamsets.control_hub.models import RunIdentity
from airflow_provider_streamsets.operators.base import ControlHubJobOperator, ControlHubOperator
from airflow_provider_streamsets.params import Parameter

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import ControlHubClient, Job, JobRun

_MAX_SLEEP = 1.0  # seconds


class RunWaitMixin(ControlHubOperator):
    """
    Base of the operators that wait for one or more runs.

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


class ControlHubRunWaitingOperator(ControlHubJobOperator, RunWaitMixin):
    """
    Base of the operators that wait for one run.

    A wait follows the same rules on worker and triggerer, and ends in :meth:`finish`. The parameters are those of
    :class:`~airflow_provider_streamsets.operators.base.ControlHubJobOperator` and :class:`RunWaitMixin`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._tracker: tracking.RunTracker | None = None
        self._ended_report: tracking.RunReport | None = None

    def finish(self, context: Context, report: tracking.RunReport) -> dict[str, Any]:
        """Return the task's result from the report of the run, or raise an error if the task fails."""
        raise NotImplementedError

    def on_wait_timeout(self, context: Context, job_id: str, run_count: int) -> None:
        """Handle a timed-out wait before the task fails."""

    def upper_bounds(self) -> tuple[tracking.MetricCondition, ...]:
        """Return the conditions that the metrics must satisfy while the run is active."""
        return ()

    def on_condition_violated(self, context: Context, job_id: str, run_count: int) -> None:
        """Handle a run whose metrics exceed an upper bound, before the task fails."""

    def wait_for_run(self, context: Context, job: Job, run: JobRun, *, stop_on_kill: bool) -> dict[str, Any]:
        """
        Wait for a run, on the worker or the triggerer, and return the task's result.

        :param job: the job of the run
        :param run: the run
        :param stop_on_kill: whether the trigger stops the run if the task is killed
        """
        if self.deferrable:
            self.defer_to_trigger(
                job,
                run,
                stop_on_kill=stop_on_kill,
                upper_bounds=[str(b) for b in self.upper_bounds()],
                until_active=self.waits_until_active,
                fail_on_red_after=self.fail_on_red_seconds(),
            )
        return self._wait_on_worker(context, job, run)

    def fetch_report(self, job: Job, run: JobRun) -> tracking.RunReport:
        """
        Return the report of an ended run, waiting for its metrics until the task's deadline.

        A deferrable task polls once; if the report is not complete, it defers to ``execute_after_ended_run``.
        """
        cached = self._ended_report
        if cached is not None and (cached.job_id, cached.run.run_count) == (job.job_id, run.run_count):
            return cached
        self._tracker = tracker = self._new_tracker(job, run)
        if self.deferrable:
            report = tracker.poll()
            if report is None:
                self.defer_to_trigger(job, run, method_name="execute_after_ended_run")
            return report
        return tracking.wait_for_run(tracker, self.wait_deadline, poll_interval=self.rendered.poll_interval)

    def _new_tracker(self, job: Job, run: JobRun) -> tracking.RunTracker:
        bounds = self.upper_bounds()
        client = self.polling_client()
        return tracking.RunTracker(
            client,
            job.job_id,
            run.run_count,
            job_name=job.name,
            identity=RunIdentity.from_run(run),
            metrics_timeout=self._metrics_timeout_for(job),
            until_active=self.waits_until_active,
            fail_on_red_after=self.fail_on_red_seconds(),
            while_running=tracking.ViolationCheck(client, job.job_id, run.run_count, bounds) if bounds else None,
            log=self.log,
        )

    def _wait_on_worker(self, context: Context, job: Job, run: JobRun) -> dict[str, Any]:
        self._tracker = self._new_tracker(job, run)
        try:
            report = tracking.wait_for_run(self._tracker, self.wait_deadline, poll_interval=self.rendered.poll_interval)
        except ControlHubRunTimeoutError:
            self.on_wait_timeout(context, job.job_id, run.run_count)
            raise
        except ControlHubExpectationError:
            self.on_condition_violated(context, job.job_id, run.run_count)
            raise
        # The outcome of a run stopped by the kill must not be reported.
        self.raise_if_killed("while it waited")
        return self.finish(context, report)

    def defer_to_trigger(
        self,
        job: Job,
        run: JobRun,
        *,
        method_name: str = "execute_complete",
        metrics_timeout: float | None = None,
        stop_on_kill: bool = False,
        upper_bounds: Sequence[str] = (),
        until_active: bool = False,
        fail_on_red_after: float | None = None,
    ) -> NoReturn:
        """
        Defer the task until the trigger reports the end of a run.

        :param job: the job of the run
        :param run: the run
        :param method_name: the method that Airflow calls afterwards
        :param metrics_timeout: seconds to wait for final metrics; by default `metrics_timeout` of the operator
        :param stop_on_kill: whether the trigger stops the run if the task is killed
        :param upper_bounds: conditions that the metrics must satisfy while the run is active
        :param until_active: wait until the run is active, rather than until it has ended
        :param fail_on_red_after: maximum seconds for which the run may be ``RED``; None sets no limit
        """
        self.raise_if_killed("before it was deferred")
        poll_interval, limits = self.rendered.poll_interval, self._limits()
        time_left = self.time_left if limits else None
        self.defer(
            trigger=triggers.ControlHubJobRunTrigger(
                control_hub_conn_id=self.control_hub_conn_id,
                job_id=job.job_id,
                job_name=job.name,
                run_count=run.run_count,
                poll_interval=poll_interval,
                timeout=min(limits, default=None),
                deadline=None if time_left is None else time.time() + time_left,
                metrics_timeout=self._metrics_timeout_for(job) if metrics_timeout is None else metrics_timeout,
                stop_on_kill=stop_on_kill,
                force_stop_after=self.force_stop_seconds(),
                upper_bounds=list(upper_bounds),
                identity=RunIdentity.from_run(run).to_json(),
                wait_for="active" if until_active else "completion",
                fail_on_red_after=fail_on_red_after,
            ),
            method_name=method_name,
            timeout=None if time_left is None else params.framework_timeout(time_left, poll_interval),
        )

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Resume after the trigger has fired, and return the result of the run or raise its error."""
        wait = triggers.RunWaitEvent.from_payload(event)
        try:
            report = wait.report_or_raise()
        except ControlHubRunTimeoutError as error:
            self.on_wait_timeout(context, wait.job_id, wait.run_count)
            if self._is_execution_timeout():
                raise AirflowTaskTimeout(str(error)) from error
            raise
        except ControlHubExpectationError:
            self.on_condition_violated(context, wait.job_id, wait.run_count)
            raise
        return self.finish(context, report)
