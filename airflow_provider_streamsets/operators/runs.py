"""Operators that start and stop runs of jobs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_streamsets import params
from airflow_provider_streamsets.operators._asset_events import emit_asset_events
from airflow_provider_streamsets.operators._run_ownership import (
    IF_RUNNING,
    MAX_START_ATTEMPTS,
    RunOwnershipMixin,
    RunsStopMixin,
)
from airflow_provider_streamsets.operators._run_wait import ControlHubRunWaitingOperator
from airflow_provider_streamsets.operators._runs_wait import STOP_MAX_WAIT
from airflow_provider_streamsets.operators._stability import (
    ACKNOWLEDGEMENT_MAX_WAIT,
    check_startable,
    find_jobs_started_by_others,
)
from airflow_provider_streamsets.operators.base import ControlHubJobOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import (
        ControlHubClient,
        ControlHubRunFailedError,
        Job,
        JobRun,
        Outcome,
        RunReport,
    )
    from airflow_provider_streamsets.control_hub.submission import StartIntent
    from airflow_provider_streamsets.control_hub.tracking.conditions import MetricCondition
    from airflow_provider_streamsets.control_hub.tracking.run_group import RunGroup

# Within the 5 seconds of a killed task: looks for the run of a start call that has not been answered yet.
_KILL_MAX_POLLS = 4
_KILL_POLL_DELAY = 0.5


class ControlHubRunJobOperator(ControlHubRunWaitingOperator, RunOwnershipMixin):
    """
    Start a Control Hub job, wait for that run, and return what it came to.

    The job's id, the run's number and the link to the job are pushed to XCom as soon as the job has been started. The
    task succeeds when the run ended ``INACTIVE`` and not ``RED``, and fails otherwise with the run's error message;
    its log then shows status, engines, warnings, counts and the last events of the run.

    **Exactly one run.** Before the start call, the task writes down which run it asks for, as whom and when. If its
    worker is lost, its connection breaks in the middle of the call, or it fails for a reason of its own, the next try
    looks at that run first: it waits for it if it goes on, delivers what it came to if it has succeeded, and starts
    another one if it has failed, or if there is none. When a person clears the task, its run is stopped if it goes on,
    and another one is started; with ``stop_on_kill=False``, the next try of a task that had not ended treats its run as
    that of a lost worker. The log says which, and why.

    The record is kept in Airflow's task state store. Before Airflow 3.3, it is an Airflow variable, which is deleted
    when the outcome is delivered: a worker that is lost between that and Airflow's note of the success has the next
    try start a second run there.

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
    :param runtime_parameters: values for this run that replace the job's stored ones of the same names: a dict, or a
        text holding a JSON object (templated)
    :param strict_parameters: fail before anything is done if the pipeline has no runtime parameter of a given name;
        by default, that is a warning. If the parameters cannot be read, nothing is refused (templated)
    :param reset_offsets: forget where the job stopped reading, so that this run reads from the start (templated)
    :param acknowledge_errors: if the job's run before ended in ``INACTIVE_ERROR``, acknowledge that error, which is
        logged, and start; otherwise such a job is refused (templated)
    :param if_running: what to do if the job is running already, for another reason than an earlier try of this task:
        ``fail`` (default), ``join`` (wait for that run as if it were the task's own, but never stop it), ``restart``
        (stop it, then start) or ``wait_then_start`` (wait for its end, then start; on the triggerer if the task is
        deferrable, and within `wait_timeout`). A job that is ``ACTIVATING`` or ``DEACTIVATING`` is waited for before
        (templated)
    :param expect: conditions on the final metrics of a run that succeeded, all of which must be satisfied: each a text
        such as ``"output_count >= 1000"``, or a dict of ``metric``, ``comparison`` and ``threshold``. Metrics are
        ``input_count``, ``output_count``, ``error_count``, ``stage_errors_count``, ``total_error_count``,
        ``error_ratio`` (total errors per record read), ``output_per_second`` (over the last minute), and the counters
        and meters of the pipeline and its stages by name, such as ``stage.Trash_01.inputRecords.counter``. If Control
        Hub does not have the final value of a metric by the end of `metrics_timeout`, the task fails as "unavailable"; a
        retry then evaluates the same run and starts no other one (templated)
    :param stop_on_violation: look at those of the conditions that are upper bounds (``<``, ``<=``) while the run goes on, too,
        and stop the run when one is broken. A ratio can be broken early and recover later (templated)
    :param wait_for_completion: wait until the run has ended; otherwise return as soon as it is started (templated)
    :param wait_for: wait for the ``completion`` (default) of the run, or until it is ``active``: ``ACTIVE`` and
        ``GREEN``, with all pipelines that engines report running. The run is then left running, and a run that has
        succeeded before it was seen active will do, too (templated)
    :param fail_on_red_after: seconds, or timedelta, for which the run may be ``RED`` without interruption, as when an
        engine refuses to start it; a run that is for longer has failed, which is noticed at the next poll. It is then
        stopped, also if another try of the task is to come, which starts another run; with ``on_error="leave"`` it is
        left, and the next try waits for it again. While deferred, a triggerer that is restarted counts anew. None, the
        default, is for ever (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds, or timedelta, between two looks at the run; default 30 (templated)
    :param wait_timeout: seconds, or timedelta, after which the task fails; None waits as long as the run takes (templated)
    :param on_timeout: what happens to the run then, or when Airflow's ``execution_timeout`` is over: ``stop`` (default)
        or ``leave``, for a later try to wait for (templated)
    :param on_error: what happens to the run when the task fails for a reason of its own, such as a refused credential:
        ``stop`` (default) or ``leave``. If another try of the task is to come, the run goes on in any case, and that
        try waits for it (templated)
    :param stop_on_kill: stop the run when the task is killed (marked, cleared, or its process terminated). While the
        task is deferred, this needs Airflow 3.3; older triggerers do not tell a killed task from a restart
    :param force_stop_after: seconds, or timedelta, after which such a stop is forced if the run has not ended; its last
        offset may then be lost. 0 forces it at once; by default that is left to the job's own force stop time-out.
        A task that is killed while a worker waits has no time for that: only 0 has an effect then (templated)
    :param accept_stopped: count a run that was stopped as a success (templated)
    :param metrics_timeout: seconds, or timedelta, to wait for the run's final metrics after its end, at the most; by
        default the job's statistics interval and 15 seconds: 2 minutes at the most, unless there is `expect`. Give 0
        for a pipeline that writes no statistics (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``job_id``, ``job_name``, ``run_count``, ``status``, ``color``, ``outcome`` (``SUCCEEDED``, ``FAILED``,
        ``STOPPED``), ``error_message``, ``start_time``, ``finish_time`` (ISO 8601), ``duration`` (seconds), ``metrics``
        (``run_count``, ``input_count``, ``output_count``, ``error_count``, ``stage_errors_count``,
        ``total_error_count``; None if Control Hub has saved none, and the last two where only the run's status has
        counts) and ``metrics_final``. Without `wait_for_completion`, and with ``wait_for="active"``, outcome and
        metrics are None.
    :raises ControlHubJobStateError: if the job is running and `if_running` is ``fail``; nothing was started
    :raises ControlHubRunFailedError: if the run did not succeed, or was ``RED`` for longer than `fail_on_red_after`
    :raises ControlHubExpectationError: if its final metrics do not satisfy `expect`; the message has the numbers
    :raises ControlHubMetricsUnavailableError: if it has succeeded, but the final metrics for `expect` are missing; a
        retry evaluates the same run again
    :raises ControlHubRunTimeoutError: if it took longer than `wait_timeout`
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: those of the result (unless ``multiple_outputs=False``), ``job_id``,
    ``run_count``, ``streamsets_job_link``; and when the run did not succeed, ``result`` (as returned otherwise, with
    its keys).
    """

    result_is_dict = True
    template_fields: Sequence[str] = (
        "job_id",
        "job_name",
        *RunOwnershipMixin.template_fields,
        "runtime_parameters",
        "strict_parameters",
        "reset_offsets",
        "acknowledge_errors",
        "if_running",
        "expect",
        "stop_on_violation",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"runtime_parameters": "json", "expect": "json"}

    def __init__(
        self,
        *,
        runtime_parameters: dict[str, Any] | str | None = None,
        strict_parameters: bool | str = False,
        reset_offsets: bool | str = False,
        acknowledge_errors: bool | str = False,
        if_running: Literal["fail", "join", "restart", "wait_then_start"] | str = "fail",
        expect: Sequence[str | Mapping[str, Any]] | str | None = None,
        stop_on_violation: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.runtime_parameters = runtime_parameters
        self.strict_parameters = strict_parameters
        self.reset_offsets = reset_offsets
        self.acknowledge_errors = acknowledge_errors
        self.if_running = if_running
        self.expect = expect
        self.stop_on_violation = stop_on_violation
        self._intent: StartIntent | None = None
        self._check_start(rendered=False)
        self._check_expect(
            params.boolean(self.wait_for_completion, "wait_for_completion"),
            params.boolean(stop_on_violation, "stop_on_violation"),
        )
        self.check_unused_parameters(kwargs.get("default_args"), if_running=if_running)

    def _check_start(self, *, rendered: bool) -> None:
        params.json_object(self.runtime_parameters, "runtime_parameters", rendered=rendered)
        params.boolean(self.strict_parameters, "strict_parameters", rendered=rendered)
        params.boolean(self.reset_offsets, "reset_offsets", rendered=rendered)
        params.boolean(self.acknowledge_errors, "acknowledge_errors", rendered=rendered)
        params.one_of(self.if_running, "if_running", IF_RUNNING, rendered=rendered)
        params.conditions(self.expect, "expect", rendered=rendered)
        params.boolean(self.stop_on_violation, "stop_on_violation", rendered=rendered)

    def _check_expect(self, wait: bool | str, stop_on_violation: bool | str) -> None:
        if self.expect is not None and wait is False:
            raise ValueError(
                "'expect' needs wait_for_completion=True: only a run that is waited for has final metrics."
            )
        if self.wait_for == "active" and (self.expect is not None or stop_on_violation is True):
            raise ValueError(
                "'expect' and 'stop_on_violation' do not go with wait_for='active': a run that has just become active has no "
                "final metrics."
            )
        if self.expect is None and stop_on_violation is True:
            raise ValueError("'stop_on_violation' needs conditions in 'expect'.")

    def execute(self, context: Context) -> dict[str, Any]:
        """Start the job and wait for its run, or go on with the run of an earlier try."""
        with self.stop_runs_on_failure(context):
            wait = self._prepare_run()
            job = self.find_job(context)
            resumed = self._resume_previous_run(context, job, wait)
            return self._start_and_wait(context, job, wait) if resumed is None else resumed

    def execute_after_other_run(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Go on when the run has ended that was waited for before the start."""
        from airflow_provider_streamsets.control_hub import ControlHubRunTimeoutError
        from airflow_provider_streamsets.control_hub.errors import is_fatal
        from airflow_provider_streamsets.triggers.events import RunWaitEvent

        other = RunWaitEvent.from_payload(event)
        wait = self._prepare_run()
        if other.deadline is not None:
            self.restore_deadline(other.deadline)
        if isinstance(other.error, ControlHubRunTimeoutError):
            raise self._timeout_before_start(other.error)
        if other.error is not None:
            if is_fatal(other.error):
                raise other.error
            self.log.warning("%s", other.error)
        return self._start_and_wait(context, self.client.jobs.get(other.job_id), wait)

    def execute_after_ended_run(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Resume when the report of a run is there that had ended before this try."""
        from airflow_provider_streamsets.control_hub import ControlHubRunTimeoutError
        from airflow_provider_streamsets.triggers.events import RunWaitEvent

        ended = RunWaitEvent.from_payload(event)
        wait = self._prepare_run()
        if ended.deadline is not None:
            self.restore_deadline(ended.deadline)
        # There is nothing to stop, and the next try is to find this run again.
        self._started = {}
        try:
            self._ended_report = ended.report_or_raise()
        except ControlHubRunTimeoutError as error:
            if self._is_execution_timeout():
                raise AirflowTaskTimeout(str(error)) from error
            raise
        job = self.client.jobs.get(ended.job_id)
        resumed = self._resume_previous_run(context, job, wait)
        return self._start_and_wait(context, job, wait) if resumed is None else resumed

    def _prepare_run(self) -> bool:
        wait = self.prepare()
        self._check_start(rendered=True)
        self._check_expect(wait, params.boolean(self.stop_on_violation, "stop_on_violation", rendered=True))
        self._expected_conditions()
        return wait

    def _resume_previous_run(self, context: Context, job: Job, wait: bool) -> dict[str, Any] | None:
        """Return the result with, or after, the run of an earlier try; None if there is none to see to."""
        from airflow_provider_streamsets.control_hub import Outcome
        from airflow_provider_streamsets.control_hub.tracking.run_group import unfinished_result
        from airflow_provider_streamsets.operators._resume import (
            ResumeAction,
            decide_resume,
            emit_resume_stats,
            user_of,
            write_failed,
        )

        record = self.record(context)
        decision = decide_resume(self.client, record, job)
        run = decision.run
        if decision.reason:
            self.log.info("%s.", decision.reason)
        if self._ended_report is None:
            emit_resume_stats(self, "reconnect_attempt" if decision.reason else "fresh_submit")
        if run is None or decision.action is ResumeAction.START:
            return self._start_new_run(context, job, wait) if decision.reason else None
        if decision.action is ResumeAction.STOP_AND_START:
            if decision.is_own and not run.has_ended:
                self.stop_and_wait({run.job_id: run.run_count})
            self.acknowledge_red_runs(context)
            return self._start_new_run(context, job, wait)
        context["ti"].xcom_push(key="run_count", value=run.run_count)
        if not wait or self.has_left_runs_active(context):
            self.log.info("Not starting again.")
            return self._finish_result(context, unfinished_result(job.job_id, job.name, run))
        if decision.is_own:
            self.record_started(context, {run.job_id: run.run_count}, {run.job_id: run})
        if decision.action is ResumeAction.JOIN:
            self.log.info("Waiting for that run instead of starting another one.")
            emit_resume_stats(self, "reconnect_success")
            return self.wait_for_run(context, job, run, stop_on_kill=self.stop_on_kill and decision.is_own)
        # It has ended: an error or a timeout leaves it to the next try, with nothing to stop.
        self._started = {}
        report = self.fetch_report(job, run)
        user = user_of(record)
        is_stopped_by_user = report.outcome is Outcome.STOPPED and user is not None and report.stopped_by == user
        stopped_by_task = decision.is_own and is_stopped_by_user
        if report.outcome in self._accepted_outcomes() and not stopped_by_task:
            self.log.info("That run is what this task was to do; delivering what it came to.")
            emit_resume_stats(self, "already_succeeded")
            return self.finish(context, report)
        self.log.warning(report.details())
        self.log.info("That run did not succeed, so another one is started.")
        emit_resume_stats(self, "terminal_resubmit")
        if decision.is_own and run.status == "INACTIVE_ERROR":
            write_failed(record, run.job_id, run.run_count)
        return self._start_new_run(context, job, wait)

    def _start_new_run(self, context: Context, job: Job, wait: bool) -> dict[str, Any]:
        """Start another run after that of an earlier try, which may have ended since the job was read."""
        return self._start_and_wait(context, self.client.jobs.get(job.job_id), wait)

    def _start_and_wait(self, context: Context, job: Job, wait: bool) -> dict[str, Any]:
        from airflow_provider_streamsets.control_hub.tracking.run_group import unfinished_result

        run, is_own = self._start_or_join(context, job)
        context["ti"].xcom_push(key="run_count", value=run.run_count)
        self.log.info("Job page: %s", self.client.job_url(job.job_id))
        if wait:
            return self.wait_for_run(context, job, run, stop_on_kill=self.stop_on_kill and is_own)
        return self._finish_result(context, unfinished_result(job.job_id, job.name, run))

    def _start_or_join(self, context: Context, job: Job) -> tuple[JobRun, bool]:
        """Return a run of the job, and whether this task has started it."""
        from airflow_provider_streamsets.control_hub import ControlHubRejectedError

        reset_offsets = params.boolean(self.reset_offsets, "reset_offsets", rendered=True)
        self.check_parameter_names(
            job.label,
            job.pipeline_commit_id,
            params.json_object(self.runtime_parameters, "runtime_parameters", rendered=True),
            known=job.runtime_parameters,
            strict=params.boolean(self.strict_parameters, "strict_parameters", rendered=True),
        )
        attempts_remaining = MAX_START_ATTEMPTS
        while True:
            job = self._wait_until_stable(job)
            other = job.current_run
            if other is not None and not other.has_ended and self.if_running != "fail":
                if self.if_running == "join":
                    return self._join(context, job, other), False
                # Others that wait for the same run may start the job first, as often as there are others.
                job = self._resolve_conflict(job, other)
                continue
            if params.boolean(self.acknowledge_errors, "acknowledge_errors", rendered=True):
                job = self._acknowledge(job)
            self._fail_if_blocked(context, job)
            check_startable([job])
            attempts_remaining -= 1
            try:
                if reset_offsets:
                    self.client.offsets.reset([job.job_id])
                    self.log.info("Reset the offsets of job %s.", job.label)
                return self._start(context, job), True
            except ControlHubRejectedError as error:
                newer = find_jobs_started_by_others(
                    {job.job_id: job}, partial(self._refetch, self.client), sleep=self.sleep
                )
                if not newer or not attempts_remaining:
                    raise
                job = newer[job.job_id]
                self.log.warning("%s Another caller has started the job; checking its run.", error)

    def _fail_if_blocked(self, context: Context, job: Job) -> None:
        """Fail with the error of the run of an earlier try that keeps the job from being started again."""
        from airflow_provider_streamsets.operators._resume import ACKNOWLEDGE_HINT, is_blocked_by_own_run

        if job.current_run is not None and is_blocked_by_own_run(self.record(context), job):
            raise self._make_failure(context, self.fetch_report(job, job.current_run), ACKNOWLEDGE_HINT)

    def _wait_until_stable(self, job: Job) -> Job:
        return self.wait_until_stable([job], self._refetch)[job.job_id]

    @staticmethod
    def _refetch(client: ControlHubClient, job_ids: list[str]) -> dict[str, Job]:
        return {job_id: client.jobs.get(job_id) for job_id in job_ids}

    def _join(self, context: Context, job: Job, other: JobRun) -> JobRun:
        from airflow_provider_streamsets.control_hub.submission import StartIntent, described
        from airflow_provider_streamsets.operators._resume import write_joined

        self.log.warning(
            "Job %s is running already: %s. Waiting for that run, as if_running='join' says, with the parameters that "
            "it was started with.",
            job.label,
            described(other),
        )
        write_joined(
            self.record(context),
            replace(StartIntent.of(job, other.user, self.client), run_count=other.run_count),
            other,
        )
        return other

    def _resolve_conflict(self, job: Job, other: JobRun) -> Job:
        """Return the job when the run has ended that is in the way; does not return if that is waited for elsewhere."""
        from airflow_provider_streamsets.control_hub.submission import described

        if self.if_running == "restart":
            self.log.warning(
                "Job %s is running already: %s. Stopping it, as if_running='restart' says.", job.label, described(other)
            )
            self.stop_and_wait({job.job_id: other.run_count})
        else:
            self.log.info("Job %s is running already: %s. Waiting for its end.", job.label, described(other))
            self._wait_for_other_run(job, other)
        return self.client.jobs.get(job.job_id)

    def _wait_for_other_run(self, job: Job, other: JobRun) -> None:
        from airflow_provider_streamsets.control_hub import ControlHubError, ControlHubRunTimeoutError
        from airflow_provider_streamsets.control_hub.errors import is_fatal
        from airflow_provider_streamsets.control_hub.models import RunIdentity
        from airflow_provider_streamsets.control_hub.tracking.run import RunTracker, wait_for_run

        if self.deferrable:
            self.defer_to_trigger(job, other, method_name="execute_after_other_run", metrics_timeout=0.0)
        tracker = RunTracker(
            self.polling_client(),
            job.job_id,
            other.run_count,
            job_name=job.name,
            identity=RunIdentity.of(other),
            metrics_timeout=0.0,
            log=self.log,
        )
        try:
            wait_for_run(
                tracker,
                poll_interval=self._interval,
                timeout=self._remaining_wait_timeout,
                allowed=self._wait_timeout_seconds,
                sleep=self.sleep,
            )
        except ControlHubRunTimeoutError as error:
            raise self._timeout_before_start(error) from error
        except ControlHubError as error:
            if is_fatal(error):
                raise
            self.log.warning("%s", error)

    def _acknowledge(self, job: Job) -> Job:
        """Acknowledge the error of a job that ended with one, and return the job as it then is."""
        if job.current_run is None or job.current_run.status != "INACTIVE_ERROR":
            return job
        for run in self.client.runs.acknowledge([job.job_id], max_wait=ACKNOWLEDGEMENT_MAX_WAIT):
            self.log.warning("Acknowledged the error of run %d: %s", run.run_count, run.error_message)
        return self.client.jobs.get(job.job_id)

    def _expected_conditions(self) -> tuple[MetricCondition, ...]:
        from airflow_provider_streamsets.control_hub.tracking.conditions import parse_conditions

        expect = params.conditions(self.expect, "expect", rendered=True)
        return () if expect is None else parse_conditions(expect)

    @property
    def needs_metrics(self) -> bool:
        """Whether there are conditions on the final metrics of the run."""
        return self.expect is not None

    def upper_bounds(self) -> tuple[MetricCondition, ...]:
        """Return the conditions to look at while the run goes on."""
        if not params.boolean(self.stop_on_violation, "stop_on_violation", rendered=True):
            return ()
        return tuple(condition for condition in self._expected_conditions() if condition.is_upper_bound)

    def on_condition_violated(self, context: Context, job_id: str, run_count: int) -> None:
        """Stop the run whose metrics have broken an upper bound."""
        if self._owns_run(context, job_id, run_count):
            self.abandon_runs(context, {job_id: run_count}, "its metrics do not satisfy what is expected of them")

    def _start(self, context: Context, job: Job) -> JobRun:
        from airflow_provider_streamsets.control_hub import ControlHubError
        from airflow_provider_streamsets.control_hub.errors import may_have_executed
        from airflow_provider_streamsets.operators._resume import write_intent

        runtime_parameters = params.json_object(self.runtime_parameters, "runtime_parameters", rendered=True)
        record = self.record(context)

        def on_submit(intent: StartIntent) -> None:
            write_intent(record, intent)
            if self._killed and self._intent is None:
                # Nothing was sent, so no later try may take the run of another caller for this start.
                record.clear()
            self.raise_if_killed(f"before it had started job {job.label}")
            # What an earlier try has started is over.
            self._started, self._intent = {}, intent

        try:
            run = self.client.runs.start(job, runtime_parameters, on_submit=on_submit)
        except ControlHubError as error:
            if not may_have_executed(error):
                self._intent = None
                record.clear()
            raise
        self.record_started(context, {job.job_id: run.run_count}, {job.job_id: run})
        self.raise_if_killed(f"while it started run {run.run_count} of job {job.label}")
        self.log.info(
            "Started run %d of job %s%s.",
            run.run_count,
            job.label,
            f" with the runtime parameters {sorted(runtime_parameters)}" if runtime_parameters else "",
        )
        return run

    def _accepted_outcomes(self) -> set[Outcome | None]:
        from airflow_provider_streamsets.control_hub import Outcome

        stopped = {Outcome.STOPPED} if self.accepts_stopped else set()
        return {Outcome.SUCCEEDED, *stopped, *({None} if self.waits_until_active else ())}

    def finish(self, context: Context, report: RunReport) -> dict[str, Any]:
        """Return the run's result, or fail with its error."""
        from airflow_provider_streamsets.control_hub import Outcome

        if report.replaced is not None:
            context["ti"].xcom_push(key="run_count", value=report.run.run_count)
        if report.outcome not in self._accepted_outcomes():
            is_stopped = report.outcome is Outcome.STOPPED
            raise self._make_failure(context, report, "Set accept_stopped=True if that is fine." if is_stopped else "")
        self.log.info(report.summary)
        if report.outcome is None:
            return self._finish_result(context, report.to_result())
        if report.run.error_message:
            self.log.warning("The run succeeded, but Control Hub shows an error: %s", report.run.error_message)
        if not report.metrics_final:
            self.log.info("Control Hub has not saved the final metrics of the run yet.")
        self._check_expected_conditions(report)
        return self._finish_result(context, report.to_result())

    def _make_failure(self, context: Context, report: RunReport, hint: str) -> ControlHubRunFailedError:
        """Return the error of a run that did not succeed, having pushed its result to XCom."""
        self.log.error(report.details())
        self.push_failed_result(context, report.to_result())
        return report.failure(hint)

    def _finish_result(self, context: Context, result: dict[str, Any]) -> dict[str, Any]:
        """Return the result of the task, having put it on the events of its outlets, too."""
        emit_asset_events(self, context, result)
        self.close_record(context)
        return result

    def _check_expected_conditions(self, report: RunReport) -> None:
        from airflow_provider_streamsets.control_hub import (
            ControlHubError,
            ControlHubExpectationError,
            ControlHubMetricsUnavailableError,
        )
        from airflow_provider_streamsets.control_hub.tracking.conditions import evaluate_ended_run

        conditions = self._expected_conditions()
        if not conditions:
            return
        try:
            evaluation = evaluate_ended_run(self.client, report, conditions)
        except ControlHubMetricsUnavailableError:
            raise
        except ControlHubError as error:
            raise ControlHubMetricsUnavailableError(
                f"{report.summary}, but whether its metrics are as expected is not known, as the metrics could not be "
                f"read: {error}",
                http_status=error.http_status,
                issues=error.issues,
            ) from error
        if not evaluation.is_satisfied:
            self.log.info(report.details())
            self.log.error("The metrics are not as expected: %s.", evaluation.text)
            raise ControlHubExpectationError(
                f"{report.summary}, but its metrics are not as expected: {evaluation.text}."
            )
        self.log.info("Its metrics are as expected: %s.", evaluation.text)

    def on_wait_timeout(self, context: Context, job_id: str, run_count: int) -> None:
        """Stop the run, unless it is to be left, or somebody else has started it."""
        if self._owns_run(context, job_id, run_count):
            self.handle_timeout(context, {job_id: run_count})

    def _owns_run(self, context: Context, job_id: str, run_count: int) -> bool:
        """Return whether this task has started a run, and has not joined it."""
        return (self._started or self._recorded_started(context)).get(job_id) == run_count

    def request_stop(
        self, client: ControlHubClient, runs: Mapping[str, int], *, max_wait: float, force: bool
    ) -> list[str]:
        """Ask Control Hub to stop the run, as :meth:`RunOwnershipMixin.request_stop`."""
        return [
            job_id
            for job_id, run_count in runs.items()
            if client.runs.stop_run(job_id, run_count, max_wait=max_wait, force=force)
        ]

    def find_recorded_runs(self, context: Context) -> Mapping[str, int]:
        """Return the run that an earlier try has started, unless it has ended."""
        from airflow_provider_streamsets.operators._resume import find_own_run

        run = find_own_run(self.client, self.record(context))
        return {} if run is None or run.has_ended else {run.job_id: run.run_count}

    def runs_to_stop_on_kill(self) -> Mapping[str, int]:
        """Return the run that this task has started, or is about to start, unless it has ended."""
        if self._tracker is not None and self._tracker.has_ended:
            return {}
        if not self._started and self._intent is not None:
            return self._run_of_unconfirmed_start(self._intent)
        return self._started

    def _run_of_unconfirmed_start(self, intent: StartIntent) -> dict[str, int]:
        from airflow_provider_streamsets.control_hub import ControlHubError

        client = self.kill_client()
        for _ in range(_KILL_MAX_POLLS):
            try:
                run = client.runs.current(intent.job_id)
            except ControlHubError as error:
                self.log.warning("%s", error)
                break
            if run is not None and intent.matches(run):
                return {intent.job_id: run.run_count}
            time.sleep(_KILL_POLL_DELAY)
        return {}


class ControlHubStopJobOperator(ControlHubJobOperator, RunsStopMixin):
    """
    Stop a job's run, and wait until Control Hub has stopped it.

    A job that is not running counts as stopped. For many jobs at once, there is
    :class:`~airflow_provider_streamsets.operators.bulk.ControlHubStopJobsOperator`.

    .. code-block:: python

        ControlHubStopJobOperator(task_id="stop_clickstream", job_name="Clickstream to lake", force_stop_after=180)

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param force: force the stop at once: ends a run that hangs in ``DEACTIVATING``, but its last offset may be lost
        (templated)
    :param force_stop_after: seconds, or timedelta, after which the stop is forced if the run has not ended; None never
        forces it. Only with `wait_for_completion` (templated)
    :param wait_for_completion: wait until the run has ended (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds, or timedelta, between two looks at the run; default 30 (templated)
    :param wait_timeout: seconds, or timedelta, after which the task fails; None waits as long as it takes (templated)
    :param metrics_timeout: seconds, or timedelta, to wait for the run's final metrics after its end, at the most; by
        default the job's statistics interval and 15 seconds, 2 minutes at the most. Give 0 for a pipeline that writes
        no statistics (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: as :class:`ControlHubRunJobOperator`; of a job that was not running, ``outcome`` and ``metrics``
        are None, and ``run_count`` is 0 if it has never run
    :raises ControlHubRunFailedError: if the run ended with an error while it was stopped
    :raises ControlHubRunTimeoutError: if it took longer than `wait_timeout`
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: those of the result (unless ``multiple_outputs=False``), ``job_id``,
    ``run_count``, ``streamsets_job_link``; and when the run did not succeed, ``result`` (as returned otherwise, with
    its keys).
    """

    result_is_dict = True
    template_fields: Sequence[str] = ("job_id", "job_name", *RunsStopMixin.template_fields)

    def execute(self, context: Context) -> dict[str, Any]:
        """Stop the job and wait for the end of its run."""
        wait = self.prepare()
        from airflow_provider_streamsets.control_hub.models import RunIdentity
        from airflow_provider_streamsets.control_hub.tracking.run_group import RunRef, unfinished_result

        job = self.find_job(context)
        run = job.current_run
        context["ti"].xcom_push(key="run_count", value=run.run_count if run else 0)
        if run is None:
            self.log.info("Job %s has never run; nothing to stop.", job.label)
        elif run.has_ended:
            self.log.info("Job %s is not running (%s/%s); nothing to stop.", job.label, run.status, run.color)
        elif self.client.runs.stop_run(job.job_id, run.run_count, max_wait=STOP_MAX_WAIT, force=self.forces):
            self.log.info("Asked Control Hub to stop run %d of job %s.", run.run_count, job.label)
            self.record_stop_requests({job.job_id: run.run_count}, wait=wait)
        else:
            self.log.info("Run %d of job %s has ended by itself meanwhile.", run.run_count, job.label)
        if run is None or run.has_ended or not wait:
            return unfinished_result(job.job_id, job.name, run)
        reference = RunRef(job.job_id, run.run_count, job.name, RunIdentity.of(run))
        result: dict[str, Any] = self.wait_for_runs(context, [reference], [job])
        return result

    def push_results(self, context: Context, results: list[dict[str, Any]]) -> None:
        """Push the result of the run to XCom."""
        self.push_failed_result(context, results[0])

    def finish_all(self, context: Context, group: RunGroup) -> dict[str, Any]:
        """Return the result of the stopped run, or fail if it ended with an error."""
        (result,) = self.results_or_failure(context, group, accept_stopped=True)
        return result
