"""Operators that start, stop and delete many jobs at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_streamsets import params
from airflow_provider_streamsets.control_hub import tracking
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubJobStateError,
    ControlHubNotFoundError,
    ControlHubRunTimeoutError,
)
from airflow_provider_streamsets.control_hub.job_state import check_deletable
from airflow_provider_streamsets.control_hub.models import RunRef
from airflow_provider_streamsets.job_selector import find_jobs, jobs_parameters
from airflow_provider_streamsets.operators._job_runs import JobRunsOwnership
from airflow_provider_streamsets.operators._job_start import log_and_acknowledge
from airflow_provider_streamsets.operators._run_operators import (
    IF_RUNNING,
    ControlHubRunOwnerOperator,
    ControlHubRunStopOperator,
)
from airflow_provider_streamsets.operators._run_wait import STOP_MAX_WAIT
from airflow_provider_streamsets.operators._trigger_size import warn_of_large_trigger
from airflow_provider_streamsets.operators.base import ControlHubJobsOperator
from airflow_provider_streamsets.params import Parameter

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job

_STOP_TIMEOUT = 600


class ControlHubStartJobsOperator(ControlHubRunOwnerOperator):
    """
    Start many jobs with their stored runtime parameters in one request.

    All jobs are checked first: if one of them cannot be started in its state, none is started, unless `if_running`
    handles it. Jobs that are being started or stopped are waited for, for up to five minutes. To pass runtime
    parameters, use :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator` with dynamic task
    mapping, or a job template.

    If another caller starts one of the jobs at the same time, Control Hub rejects the request. The other run is not
    touched, even if it uses the same credential, and `if_running` decides for each job. It is not known whether a
    rejected request started the other jobs (contract section 18.3), so a new run of one of them also counts as that of
    another caller.

    The starts are saved before they are requested, as by
    :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator`. A retry resumes the runs of the
    previous try, and starts only those that are missing or failed. It selects again by tag or search, and adds the jobs
    that the previous try started: a search for inactive jobs no longer finds them.

    .. code-block:: python

        ControlHubStartJobsOperator(task_id="start_nightly", job_tag="nightly/orders")

    :param job_ids: ids of the jobs: a list of strings, or a string with a JSON list (templated)
    :param job_names: exact names of the jobs, instead of their ids (templated)
    :param job_tag: tag of the jobs, without organization, instead of their ids (templated)
    :param search: Control Hub search expression that selects the jobs, instead of their ids (templated)
    :param acknowledge_errors: log and acknowledge errors that prevent jobs from being started (templated)
    :param if_running: what to do about jobs that are running already, unless an earlier try of this task started them:
        ``fail`` (default; none is started), ``join`` (wait for those runs like for own runs, but never stop them),
        ``restart`` (stop them, then start) or ``wait_then_start`` (wait until they have ended, then start all; on the
        triggerer if the task is deferrable, and within `wait_timeout`) (templated)
    :param wait_for_completion: wait until all runs have ended (default), with one status request per poll for all of
        them; otherwise return as soon as they are started (templated)
    :param wait_for: wait for ``completion`` of the runs (default), or until they are ``active``: ``ACTIVE`` and
        ``GREEN``, and all pipelines reported by engines are running. They are then left running. A run that succeeds
        before it is seen active also counts (templated)
    :param fail_on_red_after: maximum seconds, or timedelta, for which a run may be ``RED`` without interruption, for
        example because an engine cannot start it; then it counts as failed at the next poll, and is stopped, even
        before a retry. With ``on_error="leave"`` it is left running, and a retry waits for it again. A restart of the
        triggerer resets the time. Default None sets no limit (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds, or timedelta, between polls; default 30 (templated)
    :param wait_timeout: seconds, or timedelta, after which the task fails; None sets no limit (templated)
    :param on_timeout: ``stop`` (default) or ``leave`` the runs at `wait_timeout` or Airflow's ``execution_timeout``
        (templated)
    :param on_error: ``stop`` (default) or ``leave`` the runs when the task fails for another reason, such as a rejected
        credential. If Airflow retries the task, the runs stay active, and the next try waits for them
        (templated)
    :param stop_on_kill: stop the runs when the task is killed; while deferred, this needs Airflow 3.3 or later
    :param force_stop_after: seconds, or timedelta, after which the stop of a run that has not ended is forced; its last
        offset may be lost. 0 forces it at once; default is the force stop time-out of each job (templated)
    :param accept_stopped: count stopped runs as successes (templated)
    :param metrics_timeout: maximum seconds, or timedelta, to wait for final metrics after the end of a run. Default:
        the statistics interval of the jobs plus 15 seconds, at most 2 minutes (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: a list with the result of each job, as returned by
        :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator`; without `wait_for_completion`,
        outcomes and metrics are None
    :raises ControlHubNotFoundError: if a job selected by id or name does not exist, or no job has the tag or matches
        the search
    :raises ControlHubJobStateError: if one of the jobs cannot be started; none was started
    :raises ControlHubBulkError: if Control Hub started only some of the jobs; `on_error` applies to those
    :raises ControlHubRunFailedError: if runs did not succeed; the message names them
    :raises ControlHubRunTimeoutError: if the runs took longer than `wait_timeout`

    XCom keys besides ``return_value``: ``job_ids``, ``run_counts`` (by job id), ``streamsets_job_link`` (of the first
    job); and if runs did not succeed, ``results`` (in the form of the return value).
    """

    job_ids, job_names, job_tag, search = jobs_parameters()
    acknowledge_errors = Parameter(params.boolean)
    if_running = Parameter(params.one_of, IF_RUNNING)

    def __init__(
        self,
        *,
        job_ids: Sequence[str] | str | None = None,
        job_names: Sequence[str] | str | None = None,
        job_tag: str | None = None,
        search: str | None = None,
        acknowledge_errors: bool | str = False,
        if_running: Literal["fail", "join", "restart", "wait_then_start"] | str = "fail",
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
        params.exactly_one(job_ids=job_ids, job_names=job_names, job_tag=job_tag, search=search)
        self.job_ids, self.job_names, self.job_tag, self.search = job_ids, job_names, job_tag, search
        self.acknowledge_errors = acknowledge_errors
        self.if_running = if_running
        self.check_unused_parameters(kwargs.get("default_args"), if_running=if_running)

    @property
    def ownership(self) -> JobRunsOwnership:
        """The runs of this task, and what it does with them."""
        return self._own_object(JobRunsOwnership)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Start the jobs and wait for their runs, or resume the runs of an earlier try."""
        with self.ownership.owning_runs(context):
            wait = self.prepare()
            return self._start_and_wait(context, wait)

    def execute_after_other_runs(self, context: Context, event: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Start the jobs after the runs of other callers have ended."""
        wait = self.prepare()
        self.check_parameters(ControlHubStartJobsOperator)
        try:
            self.waiter.resume_after_other_runs(event)
        except (AirflowTaskTimeout, ControlHubRunTimeoutError):
            self.ownership.handle_own_timeout(context)
            raise
        return self._start_and_wait(context, wait)

    def _start_and_wait(self, context: Context, wait: bool) -> list[dict[str, Any]]:
        jobs: Mapping[str, Job] = {
            job.job_id: job for job in find_jobs(self, context, started=self.ownership.recorded_jobs(context))
        }
        if not jobs:
            raise ControlHubNotFoundError(
                "No job matches the selection, so there is nothing to start. Tags must be complete, e.g. "
                "'nightly/orders'."
            )
        wait = wait and not self.ownership.has_left_runs_active(context)
        if wait or self.if_running == "wait_then_start":
            warn_of_large_trigger(self.waiter, list(jobs), joins=self.if_running == "join")
        jobs, runs = self.ownership.resume_or_start(context, jobs, wait=wait)
        context["ti"].xcom_push(key="run_counts", value={job_id: run.run_count for job_id, run in runs.items()})
        names = {job_id: job.name for job_id, job in jobs.items()}
        if wait:
            run_refs = [RunRef.of_job(jobs[job_id], run) for job_id, run in runs.items()]
            results: list[dict[str, Any]] = self.waiter.wait(context, run_refs, list(jobs.values()))
            return results
        self.ownership.state(context).complete()
        return [tracking.unfinished_result(job_id, names.get(job_id, ""), run) for job_id, run in runs.items()]

    def finish_all(self, context: Context, group: tracking.RunGroup) -> list[dict[str, Any]]:
        """Return the results of the runs, or raise an error that names those that did not succeed."""
        results = self.waiter.results_or_failure(context, group, accept_stopped=self.rendered.accept_stopped)
        self.ownership.close_task_state(context)
        return results


class ControlHubStopJobsOperator(ControlHubRunStopOperator):
    """
    Stop the runs of many jobs in one request, and wait until Control Hub has stopped them.

    Jobs that are not running count as stopped, and are not part of the result.

    .. code-block:: python

        ControlHubStopJobsOperator(task_id="stop_streams", job_tag="streaming", force_stop_after=180)

    :param job_ids: ids of the jobs: a list of strings, or a string with a JSON list (templated)
    :param job_names: exact names of the jobs, instead of their ids (templated)
    :param job_tag: tag of the jobs, without organization, instead of their ids (templated)
    :param search: Control Hub search expression that selects the jobs, instead of their ids; a retry selects again, so
        a search for active jobs no longer finds those that are being stopped already (templated)
    :param force: force the stops at once; this ends runs that hang in ``DEACTIVATING``, but their last offsets may be
        lost (templated)
    :param force_stop_after: seconds, or timedelta, after which the stops of runs that have not ended are forced; None
        never forces them. Requires `wait_for_completion` (templated)
    :param wait_for_completion: wait until all runs have ended (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds, or timedelta, between polls; default 30 (templated)
    :param wait_timeout: seconds, or timedelta, after which the task fails; None sets no limit (templated)
    :param metrics_timeout: maximum seconds, or timedelta, to wait for final metrics after the end of a run; default 0
        (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: a list with the result of each job that was running, as returned by
        :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator`; if no job has the tag or matches
        the search, an empty list, with a warning in the log
    :raises ControlHubRunFailedError: if runs ended with an error while they were being stopped; the message names them
    :raises ControlHubRunTimeoutError: if the stops took longer than `wait_timeout`

    XCom keys besides ``return_value``: ``job_ids``, ``run_counts`` (of the running jobs, by job id),
    ``streamsets_job_link`` (of the first job); and if runs did not succeed, ``results`` (in the form of the return
    value).
    """

    job_ids, job_names, job_tag, search = jobs_parameters()

    def __init__(
        self,
        *,
        job_ids: Sequence[str] | str | None = None,
        job_names: Sequence[str] | str | None = None,
        job_tag: str | None = None,
        search: str | None = None,
        force: bool | str = False,
        force_stop_after: float | timedelta | str | None = None,
        wait_for_completion: bool | str = True,
        deferrable: bool | None = None,
        poll_interval: float | timedelta | str = params.DEFAULT_POLL_INTERVAL,
        wait_timeout: float | timedelta | str | None = None,
        metrics_timeout: float | timedelta | str | None = 0,
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
        params.exactly_one(job_ids=job_ids, job_names=job_names, job_tag=job_tag, search=search)
        self.job_ids, self.job_names, self.job_tag, self.search = job_ids, job_names, job_tag, search

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Stop the runs of the jobs, and wait until they have ended."""
        wait = self.prepare()

        jobs = {job.job_id: job for job in find_jobs(self, context)}
        running = {
            job_id: job.current_run
            for job_id, job in jobs.items()
            if job.current_run is not None and not job.current_run.has_ended
        }
        run_counts = {job_id: run.run_count for job_id, run in running.items()}
        context["ti"].xcom_push(key="run_counts", value=run_counts)
        self.log.info("%d of %d jobs are running and will be stopped.", len(running), len(jobs))
        if not running:
            return []
        if wait:
            warn_of_large_trigger(self.waiter, list(running))
        stopped = self.client.runs.stop_many(run_counts, max_wait=STOP_MAX_WAIT, force=self.rendered.force)
        self.log.info("Requested the stop of %d runs.", len(stopped))
        self.stop.record_requests({job_id: run_counts[job_id] for job_id in stopped}, wait=wait)
        if wait:
            runs = [RunRef.of_job(jobs[job_id], run) for job_id, run in running.items()]
            results: list[dict[str, Any]] = self.waiter.wait(context, runs, list(jobs.values()))
            return results
        return [tracking.unfinished_result(job_id, jobs[job_id].name, run) for job_id, run in running.items()]

    def finish_all(self, context: Context, group: tracking.RunGroup) -> list[dict[str, Any]]:
        """Return the results of the stopped runs, or raise an error that names those that failed."""
        self.stop.acknowledge_forced()
        return self.waiter.results_or_failure(context, group, accept_stopped=True)


class ControlHubDeleteJobsOperator(ControlHubJobsOperator):
    """
    Delete many jobs in one request.

    Without `stop_first`, the task fails before anything is deleted if a job is active. A job selected by id that does
    not exist counts as deleted; in a retry, so does a job selected by name.

    .. code-block:: python

        ControlHubDeleteJobsOperator(task_id="clean_up", search='name=="tmp *"', stop_first=True)

    :param job_ids: ids of the jobs, not of job templates: a list of strings, or a string with a JSON list (templated)
    :param job_names: exact names of the jobs, instead of their ids (templated)
    :param job_tag: tag of the jobs, without organization, instead of their ids (templated)
    :param search: Control Hub search expression that selects the jobs, instead of their ids (templated)
    :param stop_first: stop active jobs, wait until their runs have ended, then delete (templated)
    :param acknowledge_errors: log and acknowledge errors that prevent jobs from being deleted (templated)
    :param stop_timeout: maximum seconds, or timedelta, to wait until the runs have ended; then the task fails, and
        nothing is deleted (templated)
    :param force_stop_after: seconds, or timedelta, after which the stops of runs that have not ended are forced; None
        never forces them (templated)
    :param poll_interval: seconds, or timedelta, between polls of jobs that are being stopped (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ids of the deleted jobs; if no job has the tag or matches the search, an empty list, with a warning in the
        log
    :raises ControlHubJobStateError: if one of the jobs cannot be deleted in its state; nothing was deleted
    :raises ControlHubRunTimeoutError: if the runs have not ended within `stop_timeout`; nothing was deleted

    XCom keys besides ``return_value``: ``job_ids``.
    """

    stop_first = Parameter(params.boolean)
    acknowledge_errors = Parameter(params.boolean)
    stop_timeout = Parameter(params.seconds)
    force_stop_after = Parameter(params.seconds)
    poll_interval = Parameter(params.seconds)

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
        if params.boolean(stop_first, "stop_first") is False:
            limit = None if stop_timeout == _STOP_TIMEOUT else stop_timeout
            default_args = kwargs.get("default_args")
            params.no_effect(
                "stop_first=True", self, default_args, stop_timeout=limit, force_stop_after=force_stop_after
            )

    def execute(self, context: Context) -> list[str]:
        """Delete the jobs."""
        # Jobs deleted by an earlier try can no longer be found by name.
        is_retry = context["ti"].try_number > 1
        jobs = {job.job_id: job for job in find_jobs(self, context, missing_ok=self.job_ids is not None or is_retry)}
        stop_first, acknowledge_errors = self.rendered.stop_first, self.rendered.acknowledge_errors
        try:
            check_deletable(jobs.values(), allow_active=stop_first, allow_failed=acknowledge_errors)
        except ControlHubJobStateError as error:
            runs = [job.current_run for job in jobs.values() if job.current_run is not None]
            settings = ["stop_first=True"] if any(not run.has_ended for run in runs) and not stop_first else []
            if any(run.status == "INACTIVE_ERROR" for run in runs) and not acknowledge_errors:
                settings.append("acknowledge_errors=True")
            raise ControlHubJobStateError(f"{error} Set {' and '.join(settings)} to have the task do this.") from error
        running = {
            job_id: run.run_count for job_id, job in jobs.items() if (run := job.current_run) and not run.has_ended
        }
        if stop_first and running:
            self.log.info("Stopping %d jobs before deleting them.", len(running))
            tracking.stop_runs(
                self.client,
                running,
                Deadline(self.rendered.stop_timeout),
                poll_interval=self.rendered.poll_interval,
                force_stop_after=self.rendered.force_stop_after,
            )
        if acknowledge_errors and jobs:
            log_and_acknowledge(self.client, jobs, self.log)
        deleted = self.client.jobs.delete(jobs)
        for job_id in deleted:
            self.log.info("Job %s: deleted.", jobs[job_id].label)
        if deleted:
            self.push_link(context, "")
        return deleted
