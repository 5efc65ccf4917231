"""The one way in which operators wait for a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, conf

from airflow_provider_streamsets import parameters
from airflow_provider_streamsets.operators.base import ControlHubJobOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job, JobRun, RunReport
    from airflow_provider_streamsets.control_hub.waiting import RunFollower

DEFAULT_POLL_INTERVAL = 30.0
_BACKSTOP = 300.0
_SAVING_TIME = 15.0
_LONGEST_METRICS_WAIT = 120.0


def deferrable_by_default() -> bool:
    """Return what Airflow's ``[operators] default_deferrable`` says."""
    return bool(conf.getboolean("operators", "default_deferrable", fallback=False))


def backstop(limit: float, poll_interval: float) -> timedelta:
    """Return Airflow's own time-out for a deferral: it must lose against the trigger's deadline, which tells more."""
    return timedelta(seconds=limit + 2 * poll_interval + _BACKSTOP)


class ControlHubRunWaitingOperator(ControlHubJobOperator):
    """
    Base of the operators that wait for a run.

    Deferrable or not, a wait follows the same rules and ends in :meth:`deliver`.

    :param wait_for_completion: wait until the run has ended (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds, or timedelta, between two looks at the run (templated)
    :param timeout: seconds, or timedelta, after which to give up; None waits as long as the run takes. Like Airflow's
        ``execution_timeout``, which this operator also keeps while it is deferred, it counts from the start of the
        task (templated)
    :param metrics_wait: seconds to wait for the run's final metrics after its end, at the most. Control Hub saves
        them with a delay of up to the job's statistics interval; by default that and 15 seconds are waited, 2 minutes
        at the most. The success of the task never depends on them
    """

    template_fields: Sequence[str] = (
        *ControlHubJobOperator.template_fields,
        "wait_for_completion",
        "poll_interval",
        "timeout",
    )

    def __init__(
        self,
        *,
        wait_for_completion: bool = True,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta | None = None,
        metrics_wait: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        parameters.flag(wait_for_completion, "wait_for_completion")
        parameters.seconds(poll_interval, "poll_interval")
        parameters.seconds(timeout, "timeout")
        if metrics_wait is not None and metrics_wait < 0:
            raise ValueError(f"'metrics_wait' must not be negative, but is {metrics_wait!r}.")
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable_by_default() if deferrable is None else deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.metrics_wait = metrics_wait
        self._follower: RunFollower | None = None
        self._began = time.monotonic()

    def begin(self) -> None:
        """Note the time from which `timeout` counts."""
        self._began = time.monotonic()

    def _left_of(self, limit: float) -> float:
        return max(limit - (time.monotonic() - self._began), 0.0)

    def deliver(self, context: Context, report: RunReport) -> dict[str, Any]:
        """Decide from the report of the ended run whether the task succeeds, and return its result."""
        raise NotImplementedError

    def on_wait_timeout(self, job_id: str, run_count: int, *, killed: bool = False) -> None:
        """
        Act on a wait that has taken too long, before the task fails.

        :param killed: it was ``execution_timeout``, after which Airflow kills a task, and not `timeout`
        """

    def wait_for_run(self, context: Context, job: Job, run: JobRun, *, stop_on_kill: bool) -> dict[str, Any]:
        """
        Wait for a run, here or on the triggerer, and return the task's result.

        :param job: the run's job
        :param run: the run
        :param stop_on_kill: whether a trigger that is killed stops the run
        """
        poll_interval = parameters.seconds(self.poll_interval, "poll_interval", rendered=True)
        timeout = parameters.seconds(self.timeout, "timeout", rendered=True)
        if self.deferrable:
            self._defer(job, run, poll_interval, timeout, stop_on_kill)
        return self._wait_here(context, job, run, poll_interval, timeout)

    def _metrics_wait_for(self, job: Job) -> float:
        if self.metrics_wait is not None:
            return float(self.metrics_wait)
        return min(job.statistics_interval + _SAVING_TIME, _LONGEST_METRICS_WAIT)

    def _wait_here(
        self, context: Context, job: Job, run: JobRun, poll_interval: float, timeout: float | None
    ) -> dict[str, Any]:
        from airflow_provider_streamsets.control_hub import ControlHubRunTimeoutError
        from airflow_provider_streamsets.control_hub.waiting import RunFollower, wait_for_run

        self._follower = RunFollower(
            # A look that fails is repeated at the next interval anyway, and must not outlast the timeout by minutes.
            self.client.with_limits(max_attempts=1),
            job.job_id,
            run.run_count,
            job_name=job.name,
            metrics_wait=self._metrics_wait_for(job),
            log=self.log,
        )
        try:
            report = wait_for_run(
                self._follower,
                poll_interval=poll_interval,
                timeout=None if timeout is None else self._left_of(timeout),
                allowed=timeout,
            )
        except ControlHubRunTimeoutError:
            self.on_wait_timeout(job.job_id, run.run_count)
            raise
        return self.deliver(context, report)

    def _defer(
        self, job: Job, run: JobRun, poll_interval: float, timeout: float | None, stop_on_kill: bool
    ) -> NoReturn:
        from airflow_provider_streamsets.triggers.runs import ControlHubJobRunTrigger

        execution_timeout = self.execution_timeout.total_seconds() if self.execution_timeout else None
        limits = [limit for limit in (timeout, execution_timeout) if limit is not None]
        self.defer(
            trigger=ControlHubJobRunTrigger(
                control_hub_conn_id=self.control_hub_conn_id,
                job_id=job.job_id,
                job_name=job.name,
                run_count=run.run_count,
                poll_interval=poll_interval,
                timeout=min(limits, default=None),
                deadline=time.time() + self._left_of(min(limits)) if limits else None,
                metrics_wait=self._metrics_wait_for(job),
                stop_on_kill=stop_on_kill,
            ),
            method_name="execute_complete",
            timeout=backstop(min(limits), poll_interval) if limits else None,
        )

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Resume after the trigger has fired: with the report of the ended run, or with what went wrong."""
        from airflow_provider_streamsets.control_hub import ControlHubRunTimeoutError
        from airflow_provider_streamsets.triggers.events import RunWaitEvent

        wait = RunWaitEvent.from_payload(event)
        try:
            report = wait.report_or_raise()
        except ControlHubRunTimeoutError as error:
            timeout = parameters.seconds(self.timeout, "timeout", rendered=True)
            limit = self.execution_timeout.total_seconds() if self.execution_timeout else None
            killed = limit is not None and (timeout is None or limit < timeout)
            self.on_wait_timeout(wait.job_id, wait.run_count, killed=killed)
            if killed:
                raise AirflowTaskTimeout(str(error)) from error
            raise
        return self.deliver(context, report)
