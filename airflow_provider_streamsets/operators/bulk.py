"""Operators that start, stop and delete many jobs at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_streamsets import params
from airflow_provider_streamsets.operators._resume import (
    ACKNOWLEDGE_HINT,
    find_own_runs,
    is_complete,
    joined_runs,
    was_stopped_by_task,
    write_intents,
)
from airflow_provider_streamsets.operators._run_ownership import (
    IF_RUNNING,
    MAX_START_ATTEMPTS,
    RunsOwnershipMixin,
    RunsStopMixin,
)
from airflow_provider_streamsets.operators._runs_wait import STOP_MAX_WAIT
from airflow_provider_streamsets.operators._stability import (
    ACKNOWLEDGEMENT_MAX_WAIT,
    check_startable,
    find_jobs_started_by_others,
)
from airflow_provider_streamsets.operators.base import ControlHubJobsOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context

    from airflow_provider_streamsets.control_hub import Job, JobRun
    from airflow_provider_streamsets.control_hub.submission import StartIntent
    from airflow_provider_streamsets.control_hub.tracking.run_group import RunGroup, RunRef
    from airflow_provider_streamsets.operators._task_state import TaskState

_STOP_TIMEOUT = 600
_SELECTION_FIELDS = ControlHubJobsOperator.template_fields


def _additional_fields(base: type[BaseOperator]) -> tuple[str, ...]:
    """Return the template fields of a base that choosing jobs does not have already."""
    return tuple(name for name in base.template_fields if name not in _SELECTION_FIELDS)


class ControlHubStartJobsOperator(ControlHubJobsOperator, RunsOwnershipMixin):
    """
    Start many jobs with their stored runtime parameters in one request.

    All jobs
    are checked before the first is started: if one of them cannot be started in its state, none is, unless `if_running`
    says otherwise. Jobs on their way into or out of a run are waited for, for up to five minutes. To give runtime
    parameters, use :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator` with dynamic task
    mapping, or a job template.

    If another caller starts one of the jobs at the same moment, Control Hub refuses the call. Its run is then left
    alone, even if the credential is the same, and `if_running` decides for each job. Whether a refused call has started
    the other jobs is not known (contract, 18.3), so a new run of one of them counts as that of another caller, too.

    What is to be started is written down before, as by
    :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator`. So another try goes on with the runs
    of the one before, and starts only those that are missing or have failed.

    .. code-block:: python

        ControlHubStartJobsOperator(task_id="start_nightly", job_tag="nightly/orders")

    :param job_ids: ids of the jobs: a list of texts, or a text holding a JSON list (templated)
    :param job_names: exact names of the jobs, instead (templated)
    :param job_tag: tag of the jobs, without organization, instead (templated)
    :param search: search of Control Hub that finds the jobs, instead (templated)
    :param acknowledge_errors: acknowledge errors that would keep Control Hub from starting a job; they are logged
        (templated)
    :param if_running: what to do about jobs that run already, for another reason than an earlier try of this task:
        ``fail`` (default; none is started), ``join`` (wait for those runs as if they were the task's own, but never
        stop them), ``restart`` (stop them, then start) or ``wait_then_start`` (wait for their ends, then start all; on
        the triggerer if the task is deferrable, and within `wait_timeout`) (templated)
    :param wait_for_completion: wait until all runs have ended (default), with one status request per poll for all of
        them; otherwise return as soon as they are started (templated)
    :param wait_for: wait for the ``completion`` (default) of the runs, or until they are ``active``: ``ACTIVE`` and
        ``GREEN``, with all pipelines that engines report running. They are then left running, and a run that has
        succeeded before it was seen active will do, too (templated)
    :param fail_on_red_after: seconds, or timedelta, for which a run may be ``RED`` without interruption, as when an
        engine refuses to start it; one that is for longer has failed, which is noticed at the next poll, and is
        stopped, also if another try of the task is to come. With ``on_error="leave"`` it is left, and the next try
        waits for it again. While deferred, a triggerer that is restarted counts anew. None, the default, sets no limit
        (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds, or timedelta, between two looks at the runs; default 30 (templated)
    :param wait_timeout: seconds, or timedelta, after which the task fails; None waits as long as it takes (templated)
    :param on_timeout: what happens to the runs when `wait_timeout` or Airflow's ``execution_timeout`` is over: ``stop`` or
        ``leave`` (templated)
    :param on_error: what happens to them when the task fails for a reason of its own, such as a refused credential:
        ``stop`` or ``leave``. If another try of the task is to come, they go on in any case, and it waits for them
        (templated)
    :param stop_on_kill: stop the runs when the task is killed; when deferred, with Airflow 3.3 and later
    :param force_stop_after: seconds, or timedelta, after which the stop of a run that has not ended is forced; its last
        offset may then be lost. 0 forces it at once; by default that is left to the force stop time-outs of the jobs
        (templated)
    :param accept_stopped: count runs that were stopped as successes (templated)
    :param metrics_timeout: seconds, or timedelta, to wait for final metrics after the end of a run, at the most; by
        default the jobs' statistics interval and 15 seconds, 2 minutes at the most (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: for each job what :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator` returns;
        without `wait_for_completion`, outcomes and metrics are None
    :raises ControlHubNotFoundError: if a job named by id or name does not exist, or tag or search find none
    :raises ControlHubJobStateError: if one of the jobs cannot be started; none was started
    :raises ControlHubBulkError: if Control Hub has started only some of them; `on_error` decides about those
    :raises ControlHubRunFailedError: if runs did not succeed; the message names them
    :raises ControlHubRunTimeoutError: if they took longer than `wait_timeout`

    XCom keys besides ``return_value``: ``job_ids``, ``run_counts`` (by job id), ``streamsets_job_link`` (of the first);
    and when runs did not succeed, ``results`` (as returned otherwise).
    """

    template_fields: Sequence[str] = (
        *_SELECTION_FIELDS,
        *_additional_fields(RunsOwnershipMixin),
        "acknowledge_errors",
        "if_running",
    )

    def __init__(
        self,
        *,
        acknowledge_errors: bool | str = False,
        if_running: Literal["fail", "join", "restart", "wait_then_start"] | str = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.acknowledge_errors = acknowledge_errors
        self.if_running = if_running
        self._intents: Mapping[str, StartIntent] = {}
        self._own: dict[str, JobRun] = {}
        self._joined: dict[str, JobRun] = {}
        self._blocking: dict[str, JobRun] = {}
        self._check_start(rendered=False)
        self.check_unused_parameters(kwargs.get("default_args"), if_running=if_running)

    def _check_start(self, *, rendered: bool) -> None:
        params.boolean(self.acknowledge_errors, "acknowledge_errors", rendered=rendered)
        params.one_of(self.if_running, "if_running", IF_RUNNING, rendered=rendered)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Start the jobs, and wait for their runs; resume those that an earlier try has started."""
        with self.stop_runs_on_failure(context):
            wait = self.prepare()
            self._check_start(rendered=True)
            return self._start_and_wait(context, wait)

    def execute_after_other_runs(self, context: Context, event: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Resume when the runs have ended that were waited for before the start."""
        from airflow_provider_streamsets.control_hub import ControlHubRunTimeoutError
        from airflow_provider_streamsets.control_hub.models import RunIdentity
        from airflow_provider_streamsets.control_hub.tracking.run_group import RunRef
        from airflow_provider_streamsets.triggers.events import RunsWaitEvent, RunsWaitReason

        others = RunsWaitEvent.from_payload(event)
        wait = self.prepare()
        self._check_start(rendered=True)
        if others.deadline is not None:
            self.restore_deadline(others.deadline)
        others.raise_error()
        if others.reason is RunsWaitReason.TIMEOUT:
            names = self._fetch_job_names([job_id for job_id, _ in others.runs], 0.0)
            runs = [
                RunRef(job_id, count, names.get(job_id, ""), RunIdentity.from_json(others.identities.get(job_id)))
                for job_id, count in others.runs
            ]
            try:
                self._wait_on_worker_for_other_runs(runs, timeout=0.0, allowed=others.timeout)
            except (AirflowTaskTimeout, ControlHubRunTimeoutError):
                self._handle_own_runs_timeout(context)
                raise
        return self._start_and_wait(context, wait)

    def _start_and_wait(self, context: Context, wait: bool) -> list[dict[str, Any]]:
        from airflow_provider_streamsets.control_hub import ControlHubNotFoundError, ControlHubRunTimeoutError
        from airflow_provider_streamsets.control_hub.models import RunIdentity
        from airflow_provider_streamsets.control_hub.tracking.run_group import RunRef, unfinished_result

        jobs = {job.job_id: job for job in self.find_jobs(context)}
        if not jobs:
            raise ControlHubNotFoundError(
                "No job matches the selection, so there is nothing to start. Tags must be complete, e.g. "
                "'nightly/orders'."
            )
        wait = wait and not self.has_left_runs_active(context)
        if wait or self.if_running == "wait_then_start":
            self.warn_of_large_trigger(list(jobs), joins=self.if_running == "join")
        self._resume_previous_try(context, wait)
        if self.record(context).values:
            # What an earlier try has started may have ended since the jobs were read.
            jobs = self.client.jobs.get_all(jobs)
        self._record_own(context)
        try:
            self._start(context, {i: job for i, job in jobs.items() if i not in {**self._own, **self._joined}})
        except ControlHubRunTimeoutError:
            self._handle_own_runs_timeout(context)
            raise
        self.raise_if_killed("while it started the jobs")
        found = {**self._own, **self._joined}
        runs = {job_id: found[job_id] for job_id in jobs if job_id in found}
        context["ti"].xcom_push(key="run_counts", value={job_id: run.run_count for job_id, run in runs.items()})
        names = {job_id: job.name for job_id, job in jobs.items()}
        if wait:
            run_refs = [RunRef(i, run.run_count, names.get(i, ""), RunIdentity.of(run)) for i, run in runs.items()]
            results: list[dict[str, Any]] = self.wait_for_runs(context, run_refs, list(jobs.values()))
            return results
        self.record(context).complete()
        return [unfinished_result(job_id, names.get(job_id, ""), run) for job_id, run in runs.items()]

    def _resume_previous_try(self, context: Context, wait: bool) -> None:
        """Keep the runs that an earlier try has started, or joined, and that need no start any more."""
        record = self.record(context)
        recorded = record.values.get("intents")
        if not isinstance(recorded, Mapping):
            return
        own, joined = find_own_runs(self.client, record), joined_runs(self.client, record)
        self.log.info("An earlier try of this task has requested %d runs; there are %d.", len(recorded), len(own))
        abandon_reason = record.abandon_reason
        if abandon_reason is not None:
            active = {job_id: run.run_count for job_id, run in own.items() if not run.has_ended}
            self.log.info("Not resuming them (%s); stopping %d still active.", abandon_reason, len(active))
            if active:
                self.stop_and_wait(active)
            own, joined = {job_id: run for job_id, run in own.items() if run.has_ended}, {}
        if record.was_cleared:
            return
        self._own = {job_id: run for job_id, run in own.items() if not wait or self._should_keep(run, record)}
        stopping = {i: run.run_count for i, run in own.items() if i not in self._own and not run.has_ended}
        if stopping:
            self.stop_and_wait(stopping)
        self.acknowledge_red_runs(context)
        self._joined = {i: run for i, run in joined.items() if not wait or not run.has_ended or run.is_success}
        self.log.info("%d of them go on or have succeeded, and are not started again.", len(self._own))
        if self._joined:
            self.log.info("It has joined %d runs of other callers.", len(self._joined))
        self._blocking = {job_id: run for job_id, run in own.items() if run.status == "INACTIVE_ERROR"}

    def _should_keep(self, run: JobRun, record: TaskState) -> bool:
        if run.has_ended:
            return is_complete(self.client, run, record, accept_stopped=self.accepts_stopped)
        was_asked_to_stop = (record.values.get("stopped") or {}).get(run.job_id) == run.run_count
        return not was_asked_to_stop and not was_stopped_by_task(self.client, run, record)

    @property
    def restart_failed_runs(self) -> bool:
        """The next try keeps those that have succeeded."""
        return False

    def runs_to_stop_on_kill(self) -> Mapping[str, int]:
        """Return the runs that this task has started, or is about to start."""
        return {**super().runs_to_stop_on_kill(), **self._runs_of_unconfirmed_start()}

    def _runs_of_unconfirmed_start(self) -> dict[str, int]:
        from airflow_provider_streamsets.control_hub import ControlHubError

        pending = self._intents.keys() - self._started.keys()
        if not pending:
            return {}
        try:
            statuses = self.kill_client().runs.statuses(pending)
        except ControlHubError as error:
            self.log.warning("%s", error)
            return {}
        return {
            job_id: run.run_count
            for job_id, run in statuses.items()
            if run is not None and not run.has_ended and self._intents[job_id].matches(run)
        }

    def find_recorded_runs(self, context: Context) -> Mapping[str, int]:
        """Return the runs that earlier tries have started and that have not ended: run count by job id."""
        record = self.record(context)
        if not isinstance(record.values.get("intents"), Mapping):
            return {}
        return {
            job_id: run.run_count for job_id, run in find_own_runs(self.client, record).items() if not run.has_ended
        }

    def _handle_own_runs_timeout(self, context: Context) -> None:
        """Act on the own runs when the time is over before the others could be started."""
        if self._started:
            self.handle_timeout(context, self._started)

    def _record_own(self, context: Context) -> None:
        # Those of an earlier leg or try that are not kept are over.
        self._started = {}
        if self._own:
            self.record_started(context, {job_id: run.run_count for job_id, run in self._own.items()}, self._own)

    def _start(self, context: Context, jobs: Mapping[str, Job]) -> None:
        """Start jobs, and join, stop or wait for the runs of those that run already."""
        from airflow_provider_streamsets.control_hub import ControlHubBulkError, ControlHubRejectedError

        acknowledge_errors = params.boolean(self.acknowledge_errors, "acknowledge_errors", rendered=True)
        attempts_remaining = MAX_START_ATTEMPTS
        while jobs:
            jobs = self.wait_until_stable(jobs.values(), lambda client, job_ids: client.jobs.get_many(job_ids))
            running = {job_id: job for job_id, job in jobs.items() if job.current_run and not job.current_run.has_ended}
            if running and self.if_running != "fail":
                jobs = self._resolve_conflicts(jobs, running)
                continue
            if acknowledge_errors:
                jobs.update(self._acknowledge(jobs))
            self._fail_if_blocked(context, jobs)
            check_startable(jobs.values())
            self.raise_if_killed("before it had started the jobs")
            attempts_remaining -= 1
            try:
                self._start_all(context, jobs)
            except (ControlHubBulkError, ControlHubRejectedError) as error:
                rejection = error.__cause__ if isinstance(error, ControlHubBulkError) else error
                remaining = {job_id: job for job_id, job in jobs.items() if job_id not in self._own}
                if not isinstance(rejection, ControlHubRejectedError) or not attempts_remaining:
                    raise
                newer = find_jobs_started_by_others(remaining, self.client.jobs.get_all, sleep=self.sleep)
                if not newer:
                    raise
                jobs = {**remaining, **newer}
                self.log.warning("%s Another caller has started some of the jobs; checking their runs.", rejection)
            else:
                return
        self._write_record(context, {})

    def _start_all(self, context: Context, jobs: Mapping[str, Job]) -> None:
        from airflow_provider_streamsets.control_hub import ControlHubBulkError

        def on_submit(intents: Mapping[str, StartIntent]) -> None:
            sent = {job_id: intent for job_id, intent in self._intents.items() if job_id in intents}
            if sent.items() == intents.items():
                self._write_record(context, intents)
                return
            self.raise_if_killed("while it started the jobs")
            self._write_record(context, sent, submitted=intents)
            if self._killed:
                # They are not sent, so no later try may take the runs of other callers for them.
                self._write_record(context, sent)
                self.raise_if_killed("while it started the jobs")
            self._intents = intents

        try:
            started = self.client.runs.start_many(jobs.values(), on_submit=on_submit)
        except ControlHubBulkError as error:
            self.record_started(context, {**self._started, **error.done}, self._own)
            context["ti"].xcom_push(key="run_counts", value=dict(self._started))
            for job_id, run in self.client.runs.statuses(error.done).items():
                count = error.done[job_id]
                # Another caller may have started the job since.
                own = run if run is None or run.run_count == count else self.client.runs.get(job_id, count)
                if own is not None:
                    self._own[job_id] = replace(own, job_id=job_id)
            raise
        self._own.update(started)
        self._record_own(context)
        for job_id, run in started.items():
            self.log.info("Started run %d of job %s.", run.run_count, jobs[job_id].label)

    def _write_record(
        self,
        context: Context,
        sent: Mapping[str, StartIntent],
        *,
        submitted: Mapping[str, StartIntent] | None = None,
    ) -> None:
        """Write down what the task has started and joined, and is about to start."""
        self._intents = sent
        intents = sent if submitted is None else submitted
        record = self.record(context)
        if intents or self._own or self._joined:
            write_intents(record, intents, self._own, self._joined, **self.left_running_values(context))
        elif record.values:
            record.clear()

    def _resolve_conflicts(self, jobs: Mapping[str, Job], running: Mapping[str, Job]) -> dict[str, Job]:
        """Return the jobs that can be started once the runs of others are joined, stopped or over."""
        from airflow_provider_streamsets.control_hub.submission import described

        runs = {job_id: job.current_run for job_id, job in running.items() if job.current_run}
        for job_id, run in runs.items():
            self.log.warning(
                "Job %s is running already: %s (if_running='%s').", jobs[job_id].label, described(run), self.if_running
            )
        if self.if_running == "join":
            self._joined.update({job_id: replace(run, job_id=job_id) for job_id, run in runs.items()})
            return {job_id: job for job_id, job in jobs.items() if job_id not in runs}
        if self.if_running == "restart":
            self.stop_and_wait({job_id: run.run_count for job_id, run in runs.items()})
        else:
            self._wait_for_other_runs(running)
        return self.client.jobs.get_all(jobs)

    def _wait_for_other_runs(self, jobs: Mapping[str, Job]) -> None:
        """Wait until runs of others have ended; does not return if that is waited for on the triggerer."""
        from airflow_provider_streamsets.control_hub.models import RunIdentity
        from airflow_provider_streamsets.control_hub.tracking.run_group import RunRef

        runs = [
            RunRef(job.job_id, job.last_run_count, job.name, RunIdentity.of(job.current_run)) for job in jobs.values()
        ]
        if self.deferrable:
            self.defer_before_start(runs)
        self._wait_on_worker_for_other_runs(
            runs, timeout=self._remaining_wait_timeout, allowed=self._wait_timeout_seconds
        )

    def _wait_on_worker_for_other_runs(
        self, runs: Sequence[RunRef], *, timeout: float | None, allowed: float | None
    ) -> RunGroup:
        """Return runs when they have ended, which are waited for before this task starts its own."""
        from airflow_provider_streamsets.control_hub import ControlHubRunTimeoutError
        from airflow_provider_streamsets.control_hub.tracking.run_group import RunGroup, wait_for_runs

        group = RunGroup(self.polling_client(), runs, metrics_timeout=0.0, log=self.log)
        try:
            wait_for_runs(
                group,
                poll_interval=self._interval,
                timeout=timeout,
                allowed=allowed,
                sleep=self.sleep,
            )
        except ControlHubRunTimeoutError as error:
            raise self._timeout_before_start(error) from error
        return group

    def _fail_if_blocked(self, context: Context, jobs: Mapping[str, Job]) -> None:
        """Fail with the errors of runs of an earlier try that keep their jobs from being started again."""
        from airflow_provider_streamsets.control_hub import ControlHubRunFailedError
        from airflow_provider_streamsets.control_hub.tracking.run_group import RunRef

        blocking = [
            RunRef(job_id, run.run_count, jobs[job_id].name)
            for job_id, run in self._blocking.items()
            if job_id in jobs
            and (latest := jobs[job_id].current_run)
            and (latest.run_count, latest.status) == (run.run_count, "INACTIVE_ERROR")
        ]
        if not blocking:
            return
        group = self._wait_on_worker_for_other_runs(
            blocking, timeout=self._remaining_wait_timeout, allowed=self._wait_timeout_seconds
        )
        try:
            self.results_or_failure(context, group, accept_stopped=True, hint=ACKNOWLEDGE_HINT)
        except ControlHubRunFailedError as error:
            # Unlike after a wait, others may go on.
            self._handle_error(context, error)
            raise

    def _acknowledge(self, jobs: dict[str, Job]) -> Mapping[str, Job]:
        """Acknowledge the errors of jobs that ended with one, and return those jobs as they then are."""
        failed = [j.job_id for j in jobs.values() if j.current_run and j.current_run.status == "INACTIVE_ERROR"]
        if not failed:
            return {}
        for run in self.client.runs.acknowledge(failed, max_wait=ACKNOWLEDGEMENT_MAX_WAIT):
            self.log.warning("Acknowledged the error of job %s: %s", jobs[run.job_id].label, run.error_message)
        return self.client.jobs.get_many(failed)

    def finish_all(self, context: Context, group: RunGroup) -> list[dict[str, Any]]:
        """Return the results of the runs, or fail naming those that did not succeed."""
        results = self.results_or_failure(context, group, accept_stopped=self.accepts_stopped)
        self.close_record(context)
        return results


class ControlHubStopJobsOperator(ControlHubJobsOperator, RunsStopMixin):
    """
    Stop the runs of many jobs in one request, and wait until Control Hub has stopped them.

    Jobs that are not running count as stopped.

    .. code-block:: python

        ControlHubStopJobsOperator(task_id="stop_streams", job_tag="streaming", force_stop_after=180)

    :param job_ids: ids of the jobs: a list of texts, or a text holding a JSON list (templated)
    :param job_names: exact names of the jobs, instead (templated)
    :param job_tag: tag of the jobs, without organization, instead (templated)
    :param search: search of Control Hub that finds the jobs, instead (templated)
    :param force: force the stops at once: ends runs that hang in ``DEACTIVATING``, but their last offsets may be lost
        (templated)
    :param force_stop_after: seconds, or timedelta, after which the stops of runs that have not ended are forced; None never
        forces them. Only with `wait_for_completion` (templated)
    :param wait_for_completion: wait until all runs have ended (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds, or timedelta, between two looks at the runs; default 30 (templated)
    :param wait_timeout: seconds, or timedelta, after which the task fails; None waits as long as it takes (templated)
    :param metrics_timeout: seconds, or timedelta, to wait for final metrics after the end of a run, at the most; 0 by
        default (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: for each job that was running what
        :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator` returns; an empty list, and a
        warning in the log, if tag or search find no job
    :raises ControlHubRunFailedError: if runs ended with an error while they were stopped; the message names them
    :raises ControlHubRunTimeoutError: if it took longer than `wait_timeout`

    XCom keys besides ``return_value``: ``job_ids``, ``run_counts`` (by job id, of those that were running),
    ``streamsets_job_link`` (of the first job); and when runs did not succeed, ``results`` (as returned otherwise).
    """

    template_fields: Sequence[str] = (*_SELECTION_FIELDS, *_additional_fields(RunsStopMixin))

    def __init__(self, *, metrics_timeout: float | timedelta | str | None = 0, **kwargs: Any) -> None:
        super().__init__(metrics_timeout=metrics_timeout, **kwargs)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Stop the jobs and wait for the ends of their runs."""
        wait = self.prepare()
        from airflow_provider_streamsets.control_hub.models import RunIdentity
        from airflow_provider_streamsets.control_hub.tracking.run_group import RunRef, unfinished_result

        jobs = {job.job_id: job for job in self.find_jobs(context)}
        running = {
            job_id: job.current_run
            for job_id, job in jobs.items()
            if job.current_run is not None and not job.current_run.has_ended
        }
        run_counts = {job_id: run.run_count for job_id, run in running.items()}
        context["ti"].xcom_push(key="run_counts", value=run_counts)
        self.log.info("%d of %d jobs are running.", len(running), len(jobs))
        if not running:
            return []
        if wait:
            self.warn_of_large_trigger(list(running))
        stopped = self.client.runs.stop_many(run_counts, max_wait=STOP_MAX_WAIT, force=self.forces)
        self.log.info("Asked Control Hub to stop %d runs.", len(stopped))
        self.record_stop_requests({job_id: run_counts[job_id] for job_id in stopped}, wait=wait)
        if wait:
            runs = [
                RunRef(job_id, run.run_count, jobs[job_id].name, RunIdentity.of(run)) for job_id, run in running.items()
            ]
            results: list[dict[str, Any]] = self.wait_for_runs(context, runs, list(jobs.values()))
            return results
        return [unfinished_result(job_id, jobs[job_id].name, run) for job_id, run in running.items()]

    def finish_all(self, context: Context, group: RunGroup) -> list[dict[str, Any]]:
        """Return the results of the stopped runs, or fail naming those that ended with an error."""
        return self.results_or_failure(context, group, accept_stopped=True)


class ControlHubDeleteJobsOperator(ControlHubJobsOperator):
    """
    Delete many jobs in one request.

    Active jobs are refused before anything is deleted, unless `stop_first` is set. A job chosen by id that does not
    exist counts as deleted, and in a retry so does one chosen by name.

    .. code-block:: python

        ControlHubDeleteJobsOperator(task_id="clean_up", search='name=="tmp *"', stop_first=True)

    :param job_ids: ids of the jobs, not of job templates: a list of texts, or a text holding a JSON list (templated)
    :param job_names: exact names of the jobs, instead (templated)
    :param job_tag: tag of the jobs, without organization, instead (templated)
    :param search: search of Control Hub that finds the jobs, instead (templated)
    :param stop_first: stop active jobs, wait for the ends of their runs, and then delete (templated)
    :param acknowledge_errors: acknowledge errors that would keep Control Hub from deleting a job (templated)
    :param stop_timeout: seconds, or timedelta, to wait for the ends of runs; the task then fails, and nothing is
        deleted (templated)
    :param force_stop_after: seconds, or timedelta, after which the stops of runs that have not ended are forced; None never
        forces them (templated)
    :param poll_interval: seconds, or timedelta, between two looks at jobs that are being stopped (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ids of the jobs that were deleted; an empty list, and a warning in the log, if tag or search find no job
    :raises ControlHubJobStateError: if one of them cannot be deleted in its state; nothing was deleted
    :raises ControlHubRunTimeoutError: if the runs have not ended within `stop_timeout`; nothing was deleted

    XCom keys besides ``return_value``: ``job_ids``.
    """

    template_fields: Sequence[str] = (
        *_SELECTION_FIELDS,
        "stop_first",
        "acknowledge_errors",
        "stop_timeout",
        "force_stop_after",
        "poll_interval",
    )

    def __init__(
        self,
        *,
        stop_first: bool | str = False,
        acknowledge_errors: bool | str = False,
        stop_timeout: float | timedelta | str = _STOP_TIMEOUT,
        force_stop_after: float | timedelta | str | None = None,
        poll_interval: float | timedelta | str = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.stop_first = stop_first
        self.acknowledge_errors = acknowledge_errors
        self.stop_timeout = stop_timeout
        self.force_stop_after = force_stop_after
        self.poll_interval = poll_interval
        self._check_parameters(rendered=False)
        if params.boolean(stop_first, "stop_first") is False:
            limit = None if stop_timeout == _STOP_TIMEOUT else stop_timeout
            default_args = kwargs.get("default_args")
            params.no_effect(
                "stop_first=True", self, default_args, stop_timeout=limit, force_stop_after=force_stop_after
            )

    def _check_parameters(self, *, rendered: bool) -> tuple[bool, bool, float, float | None, float]:
        return (
            params.boolean(self.stop_first, "stop_first", rendered=rendered),
            params.boolean(self.acknowledge_errors, "acknowledge_errors", rendered=rendered),
            params.seconds(self.stop_timeout, "stop_timeout", rendered=rendered),
            params.seconds(self.force_stop_after, "force_stop_after", rendered=rendered),
            params.seconds(self.poll_interval, "poll_interval", rendered=rendered),
        )

    def execute(self, context: Context) -> list[str]:
        """Delete the jobs."""
        from airflow_provider_streamsets.control_hub import ControlHubJobStateError
        from airflow_provider_streamsets.control_hub.jobs import check_deletable
        from airflow_provider_streamsets.control_hub.tracking.run import stop_and_wait

        stop_first, acknowledge_errors, timeout, force_stop_after, poll_interval = self._check_parameters(rendered=True)
        # What a first try has deleted has no name any more.
        is_retry = context["ti"].try_number > 1
        jobs = {job.job_id: job for job in self.find_jobs(context, missing_ok=self.job_ids is not None or is_retry)}
        try:
            check_deletable(jobs.values(), active_too=stop_first, failed_too=acknowledge_errors)
        except ControlHubJobStateError as error:
            runs = [job.current_run for job in jobs.values() if job.current_run is not None]
            needed = ["stop_first=True"] if any(not run.has_ended for run in runs) and not stop_first else []
            if any(run.status == "INACTIVE_ERROR" for run in runs) and not acknowledge_errors:
                needed.append("acknowledge_errors=True")
            raise ControlHubJobStateError(f"{error} This task does it first with {' and '.join(needed)}.") from error
        running = {
            job_id: run.run_count for job_id, job in jobs.items() if (run := job.current_run) and not run.has_ended
        }
        if stop_first and running:
            self.log.info("Stopping %d jobs before they are deleted.", len(running))
            stop_and_wait(
                self.client, running, timeout=timeout, force_stop_after=force_stop_after, poll_interval=poll_interval
            )
        if acknowledge_errors and jobs:
            for run in self.client.runs.acknowledge(jobs, max_wait=ACKNOWLEDGEMENT_MAX_WAIT):
                self.log.warning("Acknowledged the error of job %s: %s", jobs[run.job_id].label, run.error_message)
        deleted = self.client.jobs.delete(jobs)
        for job_id in deleted:
            self.log.info("Deleted job %s.", jobs[job_id].label)
        return deleted
