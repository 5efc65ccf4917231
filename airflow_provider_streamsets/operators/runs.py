"""Operators that start and stop a run of a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_streamsets import params, triggers
from airflow_provider_streamsets.control_hub import tracking
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubError,
    ControlHubExpectationError,
    ControlHubMetricsUnavailableError,
    ControlHubRunFailedError,
    ControlHubRunTimeoutError,
)
from airflow_provider_streamsets.control_hub.models import Outcome, RunRef
from airflow_provider_streamsets.job_selector import find_job, job_parameters
from airflow_provider_streamsets.operators._asset_events import check_partition_key, emit_asset_events
from airflow_provider_streamsets.operators._job_run import JobRunOwnership
from airflow_provider_streamsets.operators._resume import (
    ResumeAction,
    ResumeDecision,
    decide_resume,
    emit_resume_stats,
    user_of,
    was_stopped_by_task,
    write_failed,
)
from airflow_provider_streamsets.operators._run_operators import (
    IF_RUNNING,
    ControlHubRunOwnerOperator,
    ControlHubRunStopOperator,
)
from airflow_provider_streamsets.operators._run_wait import STOP_MAX_WAIT
from airflow_provider_streamsets.params import Parameter

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job, JobRun


class ControlHubRunJobOperator(ControlHubRunOwnerOperator):
    """
    Start a Control Hub job, wait for the run, and return its result.

    The job's id, the run's number and the link to the job are pushed to XCom as soon as the job has been started. The
    task succeeds if the run ends ``INACTIVE`` and not ``RED``. Otherwise it fails with the run's error message, and the
    task log shows status, engines, warnings, counts and the last events of the run.

    **Exactly one run.** Before the start request, the task saves the number of the run it requests, the user and the
    time. If the worker is lost, the connection breaks during the request, or the task fails for another reason, the
    next try finds that run: it waits for the run if it is active, returns its result if it succeeded, and starts
    another run if it failed or does not exist. If the task is cleared, its run is stopped if it is active, and another
    run is started; with ``stop_on_kill=False``, a task that is cleared before it ends resumes its run instead. The task
    log states the decision and its reason.

    The state is kept in Airflow's task state store. Before Airflow 3.3, it is an Airflow variable, which is deleted
    when the task returns its result: if the worker is lost between that and the time at which Airflow stores the
    success, the next try starts a second run.

    .. code-block:: python

        ControlHubRunJobOperator(
            task_id="load_orders",
            job_name="Orders to warehouse",
            runtime_parameters={"DAY": "{{ (dag_run.logical_date or dag_run.run_after) | ds }}"},
            expect=["output_count >= 1000", "error_ratio < 0.01"],
            deferrable=True,
        )

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param runtime_parameters: values for this run that override the job's stored runtime parameters: a dict, or a
        string with a JSON object (templated)
    :param strict_parameters: fail before the start if the pipeline does not have one of the runtime parameters; by
        default, only warn. If the pipeline's parameters cannot be fetched, the task continues (templated)
    :param reset_offsets: reset the offsets of the job, so that this run reads from the start (templated)
    :param acknowledge_errors: if the job's previous run ended in ``INACTIVE_ERROR``, log and acknowledge its error
        before the start; otherwise the task fails (templated)
    :param if_running: what to do if the job is running already, unless an earlier try of this task started it: ``fail``
        (default), ``join`` (wait for that run like for an own run, but never stop it), ``restart`` (stop it, then
        start) or ``wait_then_start`` (wait until it has ended, then start; on the triggerer if the task is deferrable,
        and within `wait_timeout`). A job that is ``ACTIVATING`` or ``DEACTIVATING`` is waited for first (templated)
    :param expect: conditions on the final metrics of a successful run, all of which must be satisfied: each a string
        such as ``"output_count >= 1000"``, or a dict of ``metric``, ``comparison`` and ``threshold``. Metrics are
        ``input_count``, ``output_count``, ``error_count``, ``stage_errors_count``, ``total_error_count``,
        ``error_ratio`` (total errors per record read), ``output_per_second`` (over the last minute), and the counters
        and meters of the pipeline and its stages by name, such as ``stage.Trash_01.inputRecords.counter``. If a final
        value is missing after `metrics_timeout`, the task fails as "unavailable"; a retry evaluates the same run and
        does not start another one (templated)
    :param stop_on_violation: also evaluate the upper bounds (``<``, ``<=``) of `expect` while the run is active, and
        stop the run when one is exceeded. Note that a ratio can exceed its bound early and recover later (templated)
    :param wait_for_completion: wait until the run has ended; otherwise return as soon as it is started (templated)
    :param wait_for: wait for ``completion`` of the run (default), or until it is ``active``: ``ACTIVE`` and ``GREEN``,
        and all pipelines reported by engines are running. The run is then left running. A run that succeeds before it
        is seen active also counts (templated)
    :param fail_on_red_after: maximum seconds, or timedelta, for which the run may be ``RED`` without interruption, for
        example because an engine cannot start it; then the task fails at the next poll. The run is stopped, even before
        a retry, which starts another run; with ``on_error="leave"`` it is left running, and a retry waits for it again.
        A restart of the triggerer resets the time. Default None sets no limit (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds, or timedelta, between polls; default 30 (templated)
    :param wait_timeout: seconds, or timedelta, after which the task fails; None sets no limit (templated)
    :param on_timeout: ``stop`` (default) or ``leave`` the run at `wait_timeout` or Airflow's ``execution_timeout``; a
        later try resumes a run that is left (templated)
    :param on_error: ``stop`` (default) or ``leave`` the run when the task fails for another reason, such as a rejected
        credential. If Airflow retries the task, the run stays active, and the next try waits for it
        (templated)
    :param stop_on_kill: stop the run when the task is killed (marked, cleared, or its process terminated). While the
        task is deferred, this needs Airflow 3.3; older triggerers cannot distinguish a killed task from a restart
    :param force_stop_after: seconds, or timedelta, after which such a stop is forced if the run has not ended; its last
        offset may be lost. 0 forces it at once; default is the force stop time-out of the job. A task that is killed
        while it waits on a worker has no time for that: only 0 has an effect then (templated)
    :param accept_stopped: count a stopped run as a success (templated)
    :param metrics_timeout: maximum seconds, or timedelta, to wait for the run's final metrics after its end. Default:
        the job's statistics interval plus 15 seconds, at most 2 minutes unless `expect` is set. Set 0 for a pipeline
        that does not write statistics (templated)
    :param openlineage_inject_parent_job_info: pass the OpenLineage run of the task, as JSON, in the runtime parameter
        ``OPENLINEAGE_CONTEXT`` if the pipeline declares it; default is Airflow's
        ``[openlineage] spark_inject_parent_job_info`` (templated)
    :param partition_key: partition key of the events of the assets in `outlets`, for DAGs that are scheduled on
        partitions; requires Airflow 3.3. By default, the partition key of the DAG run, if it has one (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``job_id``, ``job_name``, ``run_count``, ``status``, ``color``, ``outcome`` (``SUCCEEDED``, ``FAILED``,
        ``STOPPED``), ``error_message``, ``start_time``, ``finish_time`` (ISO 8601), ``duration`` (seconds), ``metrics``
        (``run_count``, ``input_count``, ``output_count``, ``error_count``, ``stage_errors_count``,
        ``total_error_count``; None if Control Hub has saved no metrics; the last two are None if only the run's status
        has counts) and ``metrics_final``. Without `wait_for_completion`, and with ``wait_for="active"``, outcome and
        metrics are None.
    :raises ControlHubJobStateError: if the job is running and `if_running` is ``fail``; nothing was started
    :raises ControlHubRunFailedError: if the run did not succeed, or was ``RED`` for longer than `fail_on_red_after`
    :raises ControlHubExpectationError: if the final metrics do not satisfy `expect`; the message has the values
    :raises ControlHubMetricsUnavailableError: if the run succeeded, but the final metrics for `expect` are missing; a
        retry evaluates the same run again
    :raises ControlHubRunTimeoutError: if the run took longer than `wait_timeout`
    :raises ControlHubError: on any other API or connection error

    XCom keys besides ``return_value``: those of the result (unless ``multiple_outputs=False``), ``job_id``,
    ``run_count``, ``streamsets_job_link``; and if the run did not succeed, ``result`` (in the form of the return value,
    with its keys).
    """

    result_is_dict = True
    job_id, job_name = job_parameters()
    runtime_parameters = Parameter(params.json_object)
    strict_parameters = Parameter(params.boolean)
    reset_offsets = Parameter(params.boolean)
    acknowledge_errors = Parameter(params.boolean)
    if_running = Parameter(params.one_of, IF_RUNNING)
    expect = Parameter(params.conditions)
    stop_on_violation = Parameter(params.boolean)
    openlineage_inject_parent_job_info = Parameter(params.boolean, optional=True)
    partition_key = Parameter(params.partition_key)
    template_fields_renderers: ClassVar[dict[str, str]] = {"runtime_parameters": "json", "expect": "json"}

    def __init__(
        self,
        *,
        job_id: str | None = None,
        job_name: str | None = None,
        runtime_parameters: dict[str, Any] | str | None = None,
        strict_parameters: bool | str = False,
        reset_offsets: bool | str = False,
        acknowledge_errors: bool | str = False,
        if_running: Literal["fail", "join", "restart", "wait_then_start"] | str = "fail",
        expect: Sequence[str | Mapping[str, Any]] | str | None = None,
        stop_on_violation: bool | str = False,
        partition_key: str | None = None,
        wait_for_completion: bool | str = True,
        deferrable: bool | None = None,
        poll_interval: float | timedelta | str = params.DEFAULT_POLL_INTERVAL,
        wait_timeout: float | timedelta | str | None = None,
        metrics_timeout: float | timedelta | str | None = None,
        wait_for: Literal["completion", "active"] | str = "completion",
        fail_on_red_after: float | timedelta | str | None = None,
        on_timeout: Literal["stop", "leave"] | str = "stop",
        on_error: Literal["stop", "leave"] | str = "stop",
        stop_on_kill: bool = True,
        force_stop_after: float | timedelta | str | None = None,
        accept_stopped: bool | str = False,
        openlineage_inject_parent_job_info: bool | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            wait_for_completion=wait_for_completion,
            deferrable=deferrable,
            poll_interval=poll_interval,
            wait_timeout=wait_timeout,
            metrics_timeout=metrics_timeout,
            wait_for=wait_for,
            fail_on_red_after=fail_on_red_after,
            on_timeout=on_timeout,
            on_error=on_error,
            stop_on_kill=stop_on_kill,
            force_stop_after=force_stop_after,
            accept_stopped=accept_stopped,
            **kwargs,
        )
        params.exactly_one(job_id=job_id, job_name=job_name)
        self.job_id, self.job_name = job_id, job_name
        self.runtime_parameters = runtime_parameters
        self.strict_parameters = strict_parameters
        self.reset_offsets = reset_offsets
        self.acknowledge_errors = acknowledge_errors
        self.if_running = if_running
        self.expect = expect
        self.stop_on_violation = stop_on_violation
        self.openlineage_inject_parent_job_info = openlineage_inject_parent_job_info
        self.partition_key = partition_key
        check_partition_key(self, partition_key, kwargs.get("default_args"))
        self._check_expect(
            params.boolean(self.wait_for_completion, "wait_for_completion"),
            params.boolean(stop_on_violation, "stop_on_violation"),
        )
        self.check_unused_parameters(kwargs.get("default_args"), if_running=if_running)

    def _check_expect(self, wait: bool | str, stop_on_violation: bool | str) -> None:
        if self.expect is not None and wait is False:
            raise ValueError("'expect' requires wait_for_completion=True, because only an ended run has final metrics.")
        if self.wait_for == "active" and (self.expect is not None or stop_on_violation is True):
            raise ValueError(
                "'expect' and 'stop_on_violation' cannot be combined with wait_for='active', because an active run has "
                "no final metrics."
            )
        if self.expect is None and stop_on_violation is True:
            raise ValueError("'stop_on_violation' requires conditions in 'expect'.")

    @property
    def ownership(self) -> JobRunOwnership:
        """The run of this task, and what it does with it."""
        return self._own_object(JobRunOwnership)

    def execute(self, context: Context) -> dict[str, Any]:
        """
        Start the job and wait for its run, or resume the run of an earlier try.

        A deferrable task ends here with a deferral. Airflow resumes it in :meth:`execute_complete`, for which
        :class:`~airflow_provider_streamsets.operators._run_wait.RunWaiter` checks what the trigger reports and calls
        :meth:`finish_all`, as it does at the end of a wait on a worker.
        """
        with self.ownership.owning_runs(context):
            wait = self._prepare_run()
            return self._resume_or_start(context, find_job(self, context), wait)

    def execute_after_other_runs(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Start the job after the run of another caller has ended."""
        wait = self._prepare_run()
        (other,) = self.waiter.resume_after_other_runs(event).runs
        return self._start_and_wait(context, self.client.jobs.get(other.job_id), wait)

    def execute_after_ended_run(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Resume when the report of an earlier try's ended run is complete: decide again, now with this report."""
        ended = triggers.RunsWaitEvent.from_payload(event)
        wait = self._prepare_run()
        self.ownership.time.restore(ended.deadline)
        # The run has ended: nothing to stop. The saved state stays, so that the next try finds the run again.
        self.ownership.disown()
        try:
            report = self.ownership.ended_report = ended.report_or_raise()
        except ControlHubRunTimeoutError as error:
            if self.ownership.time.is_execution_timeout:
                raise AirflowTaskTimeout(str(error)) from error
            raise
        return self._resume_or_start(context, self.client.jobs.get(report.job_id), wait)

    def _prepare_run(self) -> bool:
        wait = self.prepare()
        self.check_parameters(ControlHubRunJobOperator)
        self._check_expect(wait, self.rendered.stop_on_violation)
        self._expected_conditions()
        return wait

    def _resume_or_start(self, context: Context, job: Job, wait: bool) -> dict[str, Any]:
        """Return the result of the run of an earlier try if there is one to resume, else that of a new run."""
        decision = decide_resume(self.client, self.ownership.state(context), job)
        if decision.reason:
            self.log.info("%s.", decision.reason)
        if self.ownership.ended_report is None:
            emit_resume_stats(self, "reconnect_attempt" if decision.reason else "fresh_submit")
        result = self._resume(context, job, decision, wait)
        if result is not None:
            return result
        if decision.reason:
            # The run of the earlier try may have ended since.
            job = self.client.jobs.get(job.job_id)
        return self._start_and_wait(context, job, wait)

    def _resume(self, context: Context, job: Job, decision: ResumeDecision, wait: bool) -> dict[str, Any] | None:
        """Return the result of the run of an earlier try; None if another one must be started."""
        run = decision.run
        if run is None or decision.action is ResumeAction.START:
            return None
        if decision.action is ResumeAction.STOP_AND_START:
            if decision.is_own and not run.has_ended:
                self.ownership.stop_and_wait({run.job_id: run.run_count})
            self.ownership.acknowledge_red_runs(context)
            return None
        if not wait and decision.is_own and was_stopped_by_task(self.client, run, self.ownership.state(context)):
            self.log.info("The previous try was killed and stopped its run; starting another run.")
            return None
        context["ti"].xcom_push(key="run_count", value=run.run_count)
        if not wait or self.ownership.has_left_runs_active(context):
            self.log.info("Job %s run %d: already started, not starting another run.", job.title, run.run_count)
            return self._finish_result(context, tracking.unfinished_result(job.job_id, job.name, run))
        if decision.is_own:
            self.ownership.record_started(context, {run.job_id: run.run_count}, {run.job_id: run})
        if decision.action is ResumeAction.WAIT:
            self.log.info("Job %s run %d: resuming the wait, not starting another run.", job.title, run.run_count)
            emit_resume_stats(self, "reconnect_success")
            return self._wait_for_run(context, job, run)
        return self._evaluate_ended_run(context, job, run, is_own=decision.is_own)

    def _evaluate_ended_run(self, context: Context, job: Job, run: JobRun, *, is_own: bool) -> dict[str, Any] | None:
        """Return the result of an ended run of an earlier try if it succeeded; else None."""
        # Nothing to stop on an error or time-out.
        self.ownership.disown()
        report = self.ownership.fetch_report(job, run)
        self.waiter.earlier_reports.append(report)
        user = user_of(self.ownership.state(context))
        is_stopped_by_task = report.outcome is Outcome.STOPPED and user is not None and report.stopped_by == user
        if report.outcome in self._accepted_outcomes() and not (is_own and is_stopped_by_task):
            self.log.info("The previous try's run succeeded; returning its result.")
            emit_resume_stats(self, "already_succeeded")
            return self._finish(context, report)
        self.log.warning(self._details(report))
        self.log.info("The previous try's run did not succeed; starting another run.")
        emit_resume_stats(self, "terminal_resubmit")
        if is_own and run.status == "INACTIVE_ERROR":
            write_failed(self.ownership.state(context), run.job_id, run.run_count)
        return None

    def _start_and_wait(self, context: Context, job: Job, wait: bool) -> dict[str, Any]:
        run = self._start_or_join(context, job)
        context["ti"].xcom_push(key="run_count", value=run.run_count)
        self.log.info("Job page: %s", self.client.job_url(job.job_id))
        if wait:
            return self._wait_for_run(context, job, run)
        return self._finish_result(context, tracking.unfinished_result(job.job_id, job.name, run))

    def _wait_for_run(self, context: Context, job: Job, run: JobRun) -> dict[str, Any]:
        result: dict[str, Any] = self.waiter.wait(context, [RunRef.of_job(job, run)], [job])
        return result

    def _start_or_join(self, context: Context, job: Job) -> JobRun:
        """Start the job, or join the run of another caller, and return the run."""
        # The runs of earlier tries have ended.
        self.ownership.disown()
        self.check_parameter_names(
            job.label,
            job.pipeline_commit_id,
            self.rendered.runtime_parameters,
            known=job.runtime_parameters,
            strict=self.rendered.strict_parameters,
        )
        return self.ownership.start_or_join(context, job)

    def _expected_conditions(self) -> tuple[tracking.MetricCondition, ...]:
        expect = self.rendered.expect
        return () if expect is None else tracking.parse_conditions(expect)

    @property
    def needs_metrics(self) -> bool:
        """Whether the task has conditions on the final metrics."""
        return self.expect is not None

    def upper_bounds(self) -> tuple[tracking.MetricCondition, ...]:
        """Return the conditions to evaluate while the run is active."""
        if not self.rendered.stop_on_violation:
            return ()
        return tuple(condition for condition in self._expected_conditions() if condition.is_upper_bound)

    def _accepted_outcomes(self) -> set[Outcome | None]:
        stopped = {Outcome.STOPPED} if self.rendered.accept_stopped else set()
        return {Outcome.SUCCEEDED, *stopped, *({None} if self.ownership.until_active else ())}

    def finish_all(self, context: Context, group: tracking.RunGroup) -> dict[str, Any]:
        """Return the result of the run, or raise its error."""
        (report,) = group.reports.values()
        return self._finish(context, report)

    def _finish(self, context: Context, report: tracking.RunReport) -> dict[str, Any]:
        if report.replaced is not None:
            context["ti"].xcom_push(key="run_count", value=report.run.run_count)
        if report.outcome not in self._accepted_outcomes():
            is_stopped = report.outcome is Outcome.STOPPED
            raise self.report_failure(
                context, report, "Set accept_stopped=True to accept stopped runs." if is_stopped else ""
            )
        self._record_summary(context, report)
        self.log.info(": ".join(filter(None, [report.summary, report.brief])))
        if report.outcome is None:
            return self._finish_result(context, report.to_result())
        if report.run.error_message:
            self.log.warning("The run succeeded, but Control Hub reports an error: %s", report.run.error_message)
        if not report.metrics_final:
            self.log.info("Control Hub has not saved the final metrics of the run yet; the result may lack counts.")
        self._check_expected_conditions(report)
        return self._finish_result(context, report.to_result())

    def report_failure(self, context: Context, report: tracking.RunReport, hint: str) -> ControlHubRunFailedError:
        """Push the result of a run that did not succeed to XCom, and return its error."""
        self._record_summary(context, report)
        self.push_failed_result(context, report.to_result())
        self.log.error(self._details(report))
        return report.failure(hint)

    @staticmethod
    def _record_summary(context: Context, report: tracking.RunReport) -> None:
        """Let `map_index_template`, which Airflow renders after the execution, show what the run has done."""
        cast("dict[str, Any]", context)["run_summary"] = ", ".join(filter(None, [report.ending, report.brief]))

    def _details(self, report: tracking.RunReport) -> str:
        return report.details(tracking.fetch_names(self.client, report))

    def _finish_result(self, context: Context, result: dict[str, Any]) -> dict[str, Any]:
        """Emit asset events, complete the saved state, and return the result."""
        emit_asset_events(self, context, result, self.rendered.partition_key)
        self.ownership.close_task_state(context)
        return result

    def _check_expected_conditions(self, report: tracking.RunReport) -> None:
        conditions = self._expected_conditions()
        if not conditions:
            return
        try:
            evaluation = tracking.evaluate_ended_run(self.client, report, conditions)
        except ControlHubMetricsUnavailableError:
            raise
        except ControlHubError as error:
            raise ControlHubMetricsUnavailableError(
                f"{report.summary}, but its metrics could not be fetched to evaluate 'expect': {error}",
                http_status=error.http_status,
                issues=error.issues,
            ) from error
        if not evaluation.is_satisfied:
            self.log.error("Metrics not as expected: %s.", evaluation.text)
            self.log.info(self._details(report))
            raise ControlHubExpectationError(
                f"{report.summary}, but its metrics are not as expected: {evaluation.text}."
            )
        self.log.info("Metrics as expected: %s.", evaluation.text)


class ControlHubStopJobOperator(ControlHubRunStopOperator):
    """
    Stop the run of a job, and wait until Control Hub has stopped it.

    A job that is not running counts as stopped. For many jobs at once, use
    :class:`~airflow_provider_streamsets.operators.bulk.ControlHubStopJobsOperator`.

    .. code-block:: python

        ControlHubStopJobOperator(task_id="stop_clickstream", job_name="Clickstream to lake", force_stop_after=180)

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param force: force the stop at once; this ends a run that hangs in ``DEACTIVATING``, but its last offset may be
        lost (templated)
    :param force_stop_after: seconds, or timedelta, after which the stop is forced if the run has not ended; None never
        forces it. Requires `wait_for_completion` (templated)
    :param wait_for_completion: wait until the run has ended (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds, or timedelta, between polls; default 30 (templated)
    :param wait_timeout: seconds, or timedelta, after which the task fails; None sets no limit (templated)
    :param metrics_timeout: maximum seconds, or timedelta, to wait for the run's final metrics after its end. Default:
        the job's statistics interval plus 15 seconds, at most 2 minutes. Set 0 for a pipeline that does not write
        statistics (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: as :class:`ControlHubRunJobOperator`; for a job that was not running, ``outcome`` and ``metrics`` are
        None, and ``run_count`` is 0 if it has never run
    :raises ControlHubRunFailedError: if the run ended with an error while it was being stopped
    :raises ControlHubRunTimeoutError: if the stop took longer than `wait_timeout`
    :raises ControlHubError: on any other API or connection error

    XCom keys besides ``return_value``: those of the result (unless ``multiple_outputs=False``), ``job_id``,
    ``run_count``, ``streamsets_job_link``; and if the run did not succeed, ``result`` (in the form of the return value,
    with its keys).
    """

    result_is_dict = True
    job_id, job_name = job_parameters()

    def __init__(
        self,
        *,
        job_id: str | None = None,
        job_name: str | None = None,
        force: bool | str = False,
        force_stop_after: float | timedelta | str | None = None,
        wait_for_completion: bool | str = True,
        deferrable: bool | None = None,
        poll_interval: float | timedelta | str = params.DEFAULT_POLL_INTERVAL,
        wait_timeout: float | timedelta | str | None = None,
        metrics_timeout: float | timedelta | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            force=force,
            force_stop_after=force_stop_after,
            wait_for_completion=wait_for_completion,
            deferrable=deferrable,
            poll_interval=poll_interval,
            wait_timeout=wait_timeout,
            metrics_timeout=metrics_timeout,
            **kwargs,
        )
        params.exactly_one(job_id=job_id, job_name=job_name)
        self.job_id, self.job_name = job_id, job_name

    def execute(self, context: Context) -> dict[str, Any]:
        """Stop the run of the job, and wait until it has ended."""
        wait = self.prepare()

        job = find_job(self, context)
        run = job.current_run
        context["ti"].xcom_push(key="run_count", value=run.run_count if run else 0)
        if run is None:
            self.log.info("Job %s: has never run; nothing to stop.", job.label)
        elif run.has_ended:
            self.log.info(
                "Job %s run %d: not running (%s/%s); nothing to stop.",
                job.label,
                run.run_count,
                run.status,
                run.color,
            )
        elif self.client.runs.stop_run(job.job_id, run.run_count, max_wait=STOP_MAX_WAIT, force=self.rendered.force):
            self.log.info("Job %s run %d: requested stop.", job.label, run.run_count)
            self.stop.record_requests({job.job_id: run.run_count}, wait=wait)
        else:
            self.log.info("Job %s run %d: ended before the stop was requested.", job.label, run.run_count)
        if run is None or run.has_ended or not wait:
            return tracking.unfinished_result(job.job_id, job.name, run)
        result: dict[str, Any] = self.waiter.wait(context, [RunRef.of_job(job, run)], [job])
        return result

    def push_results(self, context: Context, results: list[dict[str, Any]]) -> None:
        """Push the result of the run to XCom."""
        self.push_failed_result(context, results[0])

    def finish_all(self, context: Context, group: tracking.RunGroup) -> dict[str, Any]:
        """Return the result of the stopped run, or raise its error."""
        self.stop.acknowledge_forced()
        (result,) = self.waiter.results_or_failure(context, group, accept_stopped=True)
        return result
