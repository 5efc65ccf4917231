"""Operators that start and stop runs of jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_streamsets import parameters
from airflow_provider_streamsets.operators.base import ControlHubJobOperator
from airflow_provider_streamsets.operators.outlets import tell_outlets
from airflow_provider_streamsets.operators.run_policies import ON_TIMEOUT, StopsManyRuns
from airflow_provider_streamsets.operators.settling import PATIENCE as SETTLING_PATIENCE
from airflow_provider_streamsets.operators.settling import settled
from airflow_provider_streamsets.operators.waiting import ControlHubRunWaitingOperator
from airflow_provider_streamsets.operators.waiting_many import STOP_PATIENCE

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job, JobRun, RunReport
    from airflow_provider_streamsets.control_hub.conditions import MetricCondition
    from airflow_provider_streamsets.control_hub.groups import RunGroup

# Airflow gives a killed task 5 seconds before it is killed for good.
_KILL_TIMEOUT = 3.0


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
            expect=["output_count >= 1000", "error_ratio < 0.01"],
            deferrable=True,
        )

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param runtime_parameters: values for this run that replace the job's stored ones of the same names: a dict, or a
        text holding a JSON object (templated)
    :param reset_offsets: forget where the job stopped reading, so that this run reads from the start (templated)
    :param acknowledge_errors: if the job's run before ended in ``INACTIVE_ERROR``, acknowledge that error, which is
        logged, and start; otherwise such a job is refused (templated)
    :param expect: conditions on the final metrics of a run that succeeded, all of which must be satisfied: each a text
        such as ``"output_count >= 1000"``, or a dict of ``metric``, ``comparison`` and ``threshold``. Metrics are
        ``input_count``, ``output_count``, ``error_count``, ``stage_errors_count``, ``total_error_count``,
        ``error_ratio`` (total errors per record read), ``output_per_second`` (over the last minute), and the counters
        and meters of the pipeline and its stages by name, such as ``stage.Trash_01.inputRecords.counter``. A metric
        that Control Hub has not saved satisfies nothing (templated)
    :param fail_fast: look at those of the conditions that are upper bounds (``<``, ``<=``) while the run goes on, too,
        and stop the run when one is broken. A ratio can be broken early and recover later (templated)
    :param wait_for_completion: wait until the run has ended; otherwise return as soon as it is started (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds, or timedelta, between two looks at the run; default 30 (templated)
    :param timeout: seconds, or timedelta, after which the task fails; None waits as long as the run takes (templated)
    :param on_timeout: what happens to the run then: ``stop`` (default) or ``leave`` (templated)
    :param stop_on_kill: stop the run when the task is killed (marked, cleared, or its process terminated). While the
        task is deferred, this needs Airflow 3.3; older triggerers do not tell a killed task from a restart
    :param accept_stopped: count a run that a person stopped as a success (templated)
    :param metrics_wait: seconds, or timedelta, to wait for the run's final metrics after its end, at the most; by
        default the job's statistics interval and 15 seconds, 2 minutes at the most. Give 0 for a pipeline that writes
        no statistics (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``job_id``, ``job_name``, ``run_count``, ``status``, ``color``, ``outcome`` (``SUCCEEDED``, ``FAILED``,
        ``STOPPED``), ``error_message``, ``start_time``, ``finish_time`` (ISO 8601), ``duration`` (seconds), ``metrics``
        (``run_count``, ``input_count``, ``output_count``, ``error_count``, ``stage_errors_count``,
        ``total_error_count``; None if Control Hub has saved none) and ``metrics_final``. Without
        `wait_for_completion`, outcome and metrics are None.
    :raises ControlHubRunFailedError: if the run did not succeed
    :raises ControlHubExpectationError: if its metrics do not satisfy `expect`; the message has the numbers
    :raises ControlHubRunTimeoutError: if it took longer than `timeout`
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: ``job_id``, ``run_count``, ``streamsets_job_link``.
    """

    template_fields: Sequence[str] = (
        *ControlHubRunWaitingOperator.template_fields,
        "runtime_parameters",
        "reset_offsets",
        "acknowledge_errors",
        "expect",
        "fail_fast",
        "on_timeout",
        "accept_stopped",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"runtime_parameters": "json", "expect": "json"}

    def __init__(
        self,
        *,
        runtime_parameters: dict[str, Any] | str | None = None,
        reset_offsets: bool | str = False,
        acknowledge_errors: bool | str = False,
        expect: Sequence[str | Mapping[str, Any]] | str | None = None,
        fail_fast: bool | str = False,
        on_timeout: Literal["stop", "leave"] | str = "stop",
        stop_on_kill: bool = True,
        accept_stopped: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        parameters.json_object(runtime_parameters, "runtime_parameters")
        parameters.flag(reset_offsets, "reset_offsets")
        parameters.flag(acknowledge_errors, "acknowledge_errors")
        parameters.conditions(expect, "expect")
        parameters.flag(fail_fast, "fail_fast")
        parameters.choice(on_timeout, "on_timeout", ON_TIMEOUT)
        parameters.flag(accept_stopped, "accept_stopped")
        self.runtime_parameters = runtime_parameters
        self.reset_offsets = reset_offsets
        self.acknowledge_errors = acknowledge_errors
        self.expect = expect
        self.fail_fast = fail_fast
        self.on_timeout = on_timeout
        self.stop_on_kill = stop_on_kill
        self.accept_stopped = accept_stopped
        self._started: JobRun | None = None
        self._check_use_of_expect(self.wait_for_completion, fail_fast)

    def _check_use_of_expect(self, wait: bool | str, fail_fast: bool | str) -> None:
        if self.expect is not None and wait is False:
            raise ValueError(
                "'expect' needs wait_for_completion=True: only a run that is waited for has final metrics."
            )
        if self.expect is None and fail_fast is True:
            raise ValueError("'fail_fast' needs conditions in 'expect'.")

    def execute(self, context: Context) -> dict[str, Any]:
        """Start the job and wait for its run."""
        wait = self.begin()
        from airflow_provider_streamsets.control_hub.groups import unfinished_result
        from airflow_provider_streamsets.control_hub.runs import check_startable

        runtime_parameters = parameters.json_object(self.runtime_parameters, "runtime_parameters", rendered=True)
        reset_offsets = parameters.flag(self.reset_offsets, "reset_offsets", rendered=True)
        acknowledge_errors = parameters.flag(self.acknowledge_errors, "acknowledge_errors", rendered=True)
        parameters.choice(self.on_timeout, "on_timeout", ON_TIMEOUT, rendered=True)
        parameters.flag(self.accept_stopped, "accept_stopped", rendered=True)
        self._check_use_of_expect(wait, parameters.flag(self.fail_fast, "fail_fast", rendered=True))
        self._expectations()

        found = self.find_job(context)
        job = settled([found], self._read_again, try_number=context["ti"].try_number, log=self.log)[found.job_id]
        if acknowledge_errors:
            job = self._acknowledge(job)
        check_startable(job)
        if reset_offsets:
            self.client.offsets.reset([job.job_id])
            self.log.info("Reset the offsets of job %s.", job.label)
        run = self._start(job, runtime_parameters)
        context["ti"].xcom_push(key="run_count", value=run.run_count)
        if wait:
            return self.wait_for_run(context, job, run, stop_on_kill=self.stop_on_kill)
        return self._told(context, unfinished_result(job.job_id, job.name, run))

    def _read_again(self, job_ids: list[str]) -> dict[str, Job]:
        return {job_id: self.client.jobs.get(job_id) for job_id in job_ids}

    def _acknowledge(self, job: Job) -> Job:
        """Acknowledge the error of a job that ended with one, and return the job as it then is."""
        if job.current_run is None or job.current_run.status != "INACTIVE_ERROR":
            return job
        for run in self.client.runs.acknowledge([job.job_id], patience=SETTLING_PATIENCE):
            self.log.warning("Acknowledged the error of run %d: %s", run.run_count, run.error_message)
        return self.client.jobs.get(job.job_id)

    def _expectations(self) -> tuple[MetricCondition, ...]:
        from airflow_provider_streamsets.control_hub.conditions import conditions_of

        expect = parameters.conditions(self.expect, "expect", rendered=True)
        return () if expect is None else conditions_of(expect)

    def upper_bounds(self) -> tuple[MetricCondition, ...]:
        """Return the conditions to look at while the run goes on."""
        if not parameters.flag(self.fail_fast, "fail_fast", rendered=True):
            return ()
        return tuple(condition for condition in self._expectations() if condition.is_upper_bound)

    def on_broken_bound(self, job_id: str, run_count: int) -> None:
        """Stop the run whose metrics have broken an upper bound."""
        self._stop(job_id, run_count, "its metrics do not satisfy what is expected of them")

    def _start(self, job: Job, runtime_parameters: dict[str, Any]) -> JobRun:
        self.end_if_killed(f"before it had started job {job.label}")
        run = self.client.runs.start(job, runtime_parameters)
        self._started = run
        self.end_if_killed(f"while it started run {run.run_count} of job {job.label}")
        self.log.info(
            "Started run %d of job %s%s.",
            run.run_count,
            job.label,
            f" with the runtime parameters {sorted(runtime_parameters)}" if runtime_parameters else "",
        )
        self.log.info("Job page: %s", self.client.job_url(job.job_id))
        return run

    def deliver(self, context: Context, report: RunReport) -> dict[str, Any]:
        """Return the run's result, or fail with its error."""
        from airflow_provider_streamsets.control_hub import ControlHubRunFailedError, Outcome

        accept_stopped = parameters.flag(self.accept_stopped, "accept_stopped", rendered=True)
        accepted = {Outcome.SUCCEEDED, Outcome.STOPPED} if accept_stopped else {Outcome.SUCCEEDED}
        if report.outcome not in accepted:
            self.log.error(report.explanation())
            hint = " Set accept_stopped=True if that is fine." if report.outcome is Outcome.STOPPED else ""
            raise ControlHubRunFailedError(f"{report.headline}.{hint}")
        self.log.info(report.headline)
        if report.run.error_message:
            self.log.warning("The run succeeded, but Control Hub shows an error: %s", report.run.error_message)
        if not report.metrics_final:
            self.log.info("Control Hub has not saved the final metrics of the run yet.")
        self._check_expectations(report)
        return self._told(context, report.to_result())

    def _told(self, context: Context, result: dict[str, Any]) -> dict[str, Any]:
        """Return the result of the task, having put it on the events of its outlets, too."""
        tell_outlets(self, context, result)
        return result

    def _check_expectations(self, report: RunReport) -> None:
        from airflow_provider_streamsets.control_hub import ControlHubError, ControlHubExpectationError
        from airflow_provider_streamsets.control_hub.conditions import MetricValues, judge

        expectations = self._expectations()
        if not expectations:
            return
        # The job may have been restarted since, so the run's status is not taken for the job's latest one.
        values = MetricValues(self.client, report.job_id, report.run.run_count, metrics=report.metrics)
        try:
            judgement = judge(expectations, "all", values)
        except ControlHubError as error:
            raise ControlHubExpectationError(
                f"{report.headline}, but whether its metrics are as expected is not known, as the metrics could not be "
                f"read: {error}"
            ) from error
        if not judgement.is_satisfied:
            final = "" if report.metrics_final else " Control Hub has not saved the final metrics; see 'metrics_wait'."
            self.log.info(report.explanation())
            self.log.error("The metrics are not as expected: %s.%s", judgement.text, final)
            raise ControlHubExpectationError(
                f"{report.headline}, but its metrics are not as expected: {judgement.text}.{final}"
            )
        self.log.info("Its metrics are as expected: %s.", judgement.text)

    def on_wait_timeout(self, job_id: str, run_count: int, *, killed: bool = False) -> None:
        """Stop the run, unless it is to be left."""
        if self.stop_on_kill if killed else self.on_timeout == "stop":
            self._stop(job_id, run_count, "it took too long")
        else:
            self.log.warning("Leaving run %d of job %s running.", run_count, job_id)

    def _stop(self, job_id: str, run_count: int, why: str) -> None:
        from airflow_provider_streamsets.control_hub import ControlHubError

        try:
            if self.client.runs.stop_run(job_id, run_count, patience=STOP_PATIENCE):
                self.log.warning("Stopping run %d of job %s: %s.", run_count, job_id, why)
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


class ControlHubStopJobOperator(ControlHubJobOperator, StopsManyRuns):
    """
    Stop a job's run, and wait until Control Hub has stopped it.

    A job that is not running counts as stopped. For many jobs at once, there is
    :class:`~airflow_provider_streamsets.operators.bulk.ControlHubStopJobsOperator`.

    .. code-block:: python

        ControlHubStopJobOperator(task_id="stop_clickstream", job_name="Clickstream to lake", force_after=180)

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param force: force the stop at once: ends a run that hangs in ``DEACTIVATING``, but its last offset may be lost
        (templated)
    :param force_after: seconds, or timedelta, after which the stop is forced if the run has not ended; None never
        forces it. Only with `wait_for_completion` (templated)
    :param wait_for_completion: wait until the run has ended (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds, or timedelta, between two looks at the run; default 30 (templated)
    :param timeout: seconds, or timedelta, after which the task fails; None waits as long as it takes (templated)
    :param metrics_wait: seconds, or timedelta, to wait for the run's final metrics after its end, at the most; by
        default the job's statistics interval and 15 seconds, 2 minutes at the most. Give 0 for a pipeline that writes
        no statistics (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: as :class:`ControlHubRunJobOperator`; of a job that was not running, ``outcome`` and ``metrics``
        are None, and ``run_count`` is 0 if it has never run
    :raises ControlHubRunFailedError: if the run ended with an error while it was stopped
    :raises ControlHubRunTimeoutError: if it took longer than `timeout`
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: ``job_id``, ``run_count``, ``streamsets_job_link``.
    """

    template_fields: Sequence[str] = ("job_id", "job_name", *StopsManyRuns.template_fields)

    def execute(self, context: Context) -> dict[str, Any]:
        """Stop the job and wait for the end of its run."""
        wait = self.begin()
        from airflow_provider_streamsets.control_hub.groups import RunReference, unfinished_result

        job = self.find_job(context)
        run = job.current_run
        context["ti"].xcom_push(key="run_count", value=run.run_count if run else 0)
        if run is None:
            self.log.info("Job %s has never run; nothing to stop.", job.label)
        elif run.has_ended:
            self.log.info("Job %s is not running (%s/%s); nothing to stop.", job.label, run.status, run.color)
        elif self.client.runs.stop_run(job.job_id, run.run_count, patience=STOP_PATIENCE, force=self.forces):
            self.log.info("Asked Control Hub to stop run %d of job %s.", run.run_count, job.label)
        else:
            self.log.info("Run %d of job %s has ended by itself meanwhile.", run.run_count, job.label)
        if run is None or run.has_ended or not wait:
            return unfinished_result(job.job_id, job.name, run)
        result: dict[str, Any] = self.wait_for_runs(context, [RunReference(job.job_id, run.run_count, job.name)], [job])
        return result

    def deliver_all(self, context: Context, group: RunGroup) -> dict[str, Any]:
        """Return the result of the stopped run, or fail if it ended with an error."""
        (result,) = self.results_or_failure(context, group, accept_stopped=True)
        return result
