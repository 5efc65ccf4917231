"""Operators that start and stop runs of jobs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_streamsets import parameters
from airflow_provider_streamsets.operators.waiting import ControlHubRunWaitingOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job, JobRun, RunReport

# Airflow gives a killed task 5 seconds before it is killed for good.
_KILL_TIMEOUT = 3.0
_STOP_PATIENCE = 60.0
_SETTLING_PATIENCE = 60.0
_SETTLING_PAUSE = 3.0


class ControlHubRunJobOperator(ControlHubRunWaitingOperator):
    """
    Start a Control Hub job, wait for that run, and return what it came to.

    The job's id, the run's number and the link to the job are pushed to XCom as soon as the job has been started. The
    task succeeds when the run ended ``INACTIVE`` and not ``RED``, and fails otherwise with the run's error message;
    its log then shows status, engines, warnings, counts and the last events of the run.

    .. code-block:: python

        ControlHubRunJobOperator(
            task_id="load_orders",
            job_name="Orders to warehouse",
            runtime_parameters={"DAY": "{{ ds }}"},
            deferrable=True,
        )

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param runtime_parameters: values for this run that replace the job's stored ones of the same names: a dict, or a
        text holding a JSON object (templated)
    :param reset_offsets: forget where the job stopped reading, so that this run reads from the start (templated)
    :param wait_for_completion: wait until the run has ended; otherwise return as soon as it is started (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds, or timedelta, between two looks at the run (templated)
    :param timeout: seconds, or timedelta, after which the task fails; None waits as long as the run takes (templated)
    :param on_timeout: what happens to the run then: ``stop`` or ``leave``
    :param stop_on_kill: stop the run when the task is killed (marked, cleared, or its process terminated). While the
        task is deferred, this needs Airflow 3.3; older triggerers do not tell a killed task from a restart
    :param accept_stopped: count a run that a person stopped as a success
    :param metrics_wait: seconds to wait for the run's final metrics after its end, at the most; by default the job's
        statistics interval and 15 seconds, 2 minutes at the most. Give 0 for a pipeline that writes no statistics
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``job_id``, ``job_name``, ``run_count``, ``status``, ``color``, ``outcome`` (``SUCCEEDED``, ``FAILED``,
        ``STOPPED``), ``error_message``, ``start_time``, ``finish_time`` (ISO 8601), ``duration`` (seconds), ``metrics``
        (``run_count``, ``input_count``, ``output_count``, ``error_count``, ``stage_errors_count``,
        ``total_error_count``; None if Control Hub has saved none) and ``metrics_final``. Without
        `wait_for_completion`, outcome and metrics are None.
    :raises ControlHubRunFailedError: if the run did not succeed
    :raises ControlHubRunTimeoutError: if it took longer than `timeout`
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: ``job_id``, ``run_count``, ``streamsets_job_link``.
    """

    template_fields: Sequence[str] = (
        *ControlHubRunWaitingOperator.template_fields,
        "runtime_parameters",
        "reset_offsets",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"runtime_parameters": "json"}

    def __init__(
        self,
        *,
        runtime_parameters: dict[str, Any] | str | None = None,
        reset_offsets: bool = False,
        on_timeout: Literal["stop", "leave"] = "stop",
        stop_on_kill: bool = True,
        accept_stopped: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        parameters.json_object(runtime_parameters, "runtime_parameters")
        parameters.flag(reset_offsets, "reset_offsets")
        if on_timeout not in ("stop", "leave"):
            raise ValueError(f"'on_timeout' must be 'stop' or 'leave', but is {on_timeout!r}.")
        self.runtime_parameters = runtime_parameters
        self.reset_offsets = reset_offsets
        self.on_timeout = on_timeout
        self.stop_on_kill = stop_on_kill
        self.accept_stopped = accept_stopped
        self._started: JobRun | None = None
        self._killed = False

    def execute(self, context: Context) -> dict[str, Any]:
        """Start the job and wait for its run."""
        self.begin()
        from airflow_provider_streamsets.control_hub.reports import run_summary
        from airflow_provider_streamsets.control_hub.runs import check_startable

        runtime_parameters = parameters.json_object(self.runtime_parameters, "runtime_parameters", rendered=True)
        reset_offsets = parameters.flag(self.reset_offsets, "reset_offsets", rendered=True)
        wait = parameters.flag(self.wait_for_completion, "wait_for_completion", rendered=True)
        parameters.seconds(self.poll_interval, "poll_interval", rendered=True)
        parameters.seconds(self.timeout, "timeout", rendered=True)

        job = self._wait_until_settled(self.find_job(context), context)
        check_startable(job)
        if reset_offsets:
            self.client.offsets.reset([job.job_id])
            self.log.info("Reset the offsets of job %s.", job.label)
        run = self._start(job, runtime_parameters)
        context["ti"].xcom_push(key="run_count", value=run.run_count)
        if wait:
            return self.wait_for_run(context, job, run, stop_on_kill=self.stop_on_kill)
        return {**run_summary(job.job_id, job.name, run), "metrics": None, "metrics_final": False}

    def _wait_until_settled(self, job: Job, context: Context) -> Job:
        """
        Wait a while for a job that is on its way into or out of a run.

        When a person clears a deferred task, its next try begins before the triggerer has stopped the run of the one
        before, so in a later try a running job gets the same time.
        """
        passing = {"ACTIVATING", "DEACTIVATING"} | ({"ACTIVE"} if context["ti"].try_number > 1 else set())
        left = _SETTLING_PATIENCE
        while job.current_run is not None and job.current_run.status in passing and left > 0:
            self.log.info("Job %s is %s; waiting for it to settle.", job.label, job.current_run.status)
            time.sleep(_SETTLING_PAUSE)
            left -= _SETTLING_PAUSE
            job = self.client.jobs.get(job.job_id)
        return job

    def _start(self, job: Job, runtime_parameters: dict[str, Any]) -> JobRun:
        self._end_if_killed(f"before it had started job {job.label}")
        run = self.client.runs.start(job, runtime_parameters)
        self._started = run
        self._end_if_killed(f"while it started run {run.run_count} of job {job.label}")
        self.log.info(
            "Started run %d of job %s%s.",
            run.run_count,
            job.label,
            f" with the runtime parameters {sorted(runtime_parameters)}" if runtime_parameters else "",
        )
        self.log.info("Job page: %s", self.client.job_url(job.job_id))
        return run

    def _end_if_killed(self, when: str) -> None:
        """Airflow's handler of a kill returns, and the task goes on where it was: do not start or leave a run then."""
        if self._killed:
            self.on_kill()
            raise AirflowException(f"The task was killed {when}.")

    def deliver(self, context: Context, report: RunReport) -> dict[str, Any]:
        """Return the run's result, or fail with its error."""
        from airflow_provider_streamsets.control_hub import ControlHubRunFailedError, Outcome

        accepted = {Outcome.SUCCEEDED, Outcome.STOPPED} if self.accept_stopped else {Outcome.SUCCEEDED}
        if report.outcome not in accepted:
            self.log.error(report.explanation())
            hint = " Set accept_stopped=True if that is fine." if report.outcome is Outcome.STOPPED else ""
            raise ControlHubRunFailedError(f"{report.headline}.{hint}")
        self.log.info(report.headline)
        if report.run.error_message:
            self.log.warning("The run succeeded, but Control Hub shows an error: %s", report.run.error_message)
        if not report.metrics_final:
            self.log.info("Control Hub has not saved the final metrics of the run yet.")
        return report.to_result()

    def on_wait_timeout(self, job_id: str, run_count: int, *, killed: bool = False) -> None:
        """Stop the run, unless it is to be left."""
        from airflow_provider_streamsets.control_hub import ControlHubError

        if not (self.stop_on_kill if killed else self.on_timeout == "stop"):
            self.log.warning("Leaving run %d of job %s running.", run_count, job_id)
            return
        try:
            if self.client.runs.stop_run(job_id, run_count, patience=_STOP_PATIENCE):
                self.log.warning("Stopping run %d of job %s: it took too long.", run_count, job_id)
        except ControlHubError as error:
            self.log.error("Run %d of job %s could not be stopped and may go on: %s", run_count, job_id, error)

    def on_kill(self) -> None:
        """Stop the run that this task has started: one quick request, as Airflow allows 5 seconds."""
        self._killed = True
        run = self._started
        if run is None or not self.stop_on_kill or (self._follower is not None and self._follower.has_ended):
            return
        from airflow_provider_streamsets.control_hub import ControlHubError

        self.log.warning("The task is killed: stopping run %d of job %s.", run.run_count, run.job_id)
        try:
            self.client.with_limits(timeout=_KILL_TIMEOUT).runs.stop(run.job_id)
        except ControlHubError as error:
            self.log.error("The run could not be stopped and may go on: %s", error)


class ControlHubStopJobOperator(ControlHubRunWaitingOperator):
    """
    Stop a job's run, and wait until Control Hub has stopped it.

    A job that is not running counts as stopped.

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param force: force the stop: ends a run that hangs in ``DEACTIVATING``, but its last offset may be lost (templated)
    :param wait_for_completion: wait until the run has ended (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds, or timedelta, between two looks at the run (templated)
    :param timeout: seconds, or timedelta, after which the task fails; None waits as long as it takes (templated)
    :param metrics_wait: seconds to wait for the run's final metrics after its end, at the most; by default the job's
        statistics interval and 15 seconds, 2 minutes at the most. Give 0 for a pipeline that writes no statistics
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: as :class:`ControlHubRunJobOperator`; for a job that has never run, ``run_count`` is 0 and the rest None
    :raises ControlHubRunFailedError: if the run ended with an error while it was stopped
    :raises ControlHubRunTimeoutError: if it took longer than `timeout`
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: ``job_id``, ``run_count``, ``streamsets_job_link``.
    """

    template_fields: Sequence[str] = (*ControlHubRunWaitingOperator.template_fields, "force")

    def __init__(self, *, force: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        parameters.flag(force, "force")
        self.force = force

    def execute(self, context: Context) -> dict[str, Any]:
        """Stop the job and wait for the end of its run."""
        self.begin()
        from airflow_provider_streamsets.control_hub.reports import run_summary

        force = parameters.flag(self.force, "force", rendered=True)
        wait = parameters.flag(self.wait_for_completion, "wait_for_completion", rendered=True)
        parameters.seconds(self.poll_interval, "poll_interval", rendered=True)
        parameters.seconds(self.timeout, "timeout", rendered=True)

        job = self.find_job(context)
        run = job.current_run
        if run is None:
            self.log.info("Job %s has never run; nothing to stop.", job.label)
        elif run.has_ended:
            self.log.info("Job %s is not running (%s/%s); nothing to stop.", job.label, run.status, run.color)
        elif self.client.runs.stop_run(job.job_id, run.run_count, patience=_STOP_PATIENCE, force=force):
            self.log.info("Asked Control Hub to stop run %d of job %s.", run.run_count, job.label)
        else:
            self.log.info("Run %d of job %s has ended by itself meanwhile.", run.run_count, job.label)
        context["ti"].xcom_push(key="run_count", value=run.run_count if run else 0)
        if run is not None and not run.has_ended and wait:
            return self.wait_for_run(context, job, run, stop_on_kill=False)
        return {**run_summary(job.job_id, job.name, run), "metrics": None, "metrics_final": False}

    def deliver(self, context: Context, report: RunReport) -> dict[str, Any]:
        """Return the result of the stopped run, or fail if it ended with an error."""
        from airflow_provider_streamsets.control_hub import ControlHubRunFailedError, Outcome

        if report.outcome is Outcome.FAILED:
            self.log.error(report.explanation())
            raise ControlHubRunFailedError(f"{report.headline}.")
        self.log.info(report.headline)
        return report.to_result()
