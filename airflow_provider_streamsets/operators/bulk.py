"""Operators that start, stop and delete many jobs at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_streamsets import parameters
from airflow_provider_streamsets.operators.base import ControlHubJobsOperator
from airflow_provider_streamsets.operators.waiting_many import STOP_PATIENCE, WaitsForManyRuns

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub.groups import RunGroup

ON_TIMEOUT = ("stop", "leave")
_ACKNOWLEDGEMENT_PATIENCE = 60.0
_CHOSEN = ControlHubJobsOperator.template_fields
_WAIT = tuple(name for name in WaitsForManyRuns.template_fields if name not in _CHOSEN)


class ControlHubStartJobsOperator(ControlHubJobsOperator, WaitsForManyRuns):
    """
    Start many jobs with their stored runtime parameters in one request, and wait for those runs if that is asked for.

    All jobs are checked before the first is started: if one of them cannot be started in its state, none is. To give
    runtime parameters, use :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator` with dynamic
    task mapping, or a job template.

    .. code-block:: python

        ControlHubStartJobsOperator(task_id="start_nightly", job_tag="nightly", wait_for_completion=True)

    :param job_ids: ids of the jobs: a list of texts, or a text holding one (templated)
    :param job_names: exact names of the jobs, instead (templated)
    :param job_tag: tag of the jobs, without organization, instead (templated)
    :param search: search of Control Hub that finds the jobs, instead (templated)
    :param wait_for_completion: wait until all runs have ended, with one status request at each look for all of them;
        otherwise return as soon as they are started (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds, or timedelta, between two looks at the runs (templated)
    :param timeout: seconds, or timedelta, after which the task fails; None waits as long as it takes (templated)
    :param on_timeout: what happens to the runs then: ``stop`` or ``leave`` (templated)
    :param stop_on_kill: stop the runs when the task is killed while it waits; when deferred, with Airflow 3.3 and later
    :param accept_stopped: count runs that a person stopped as successes (templated)
    :param metrics_wait: seconds, or timedelta, to wait for final metrics after the end of a run, at the most; by
        default the jobs' statistics interval and 15 seconds, 2 minutes at the most (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: for each job what :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator` returns;
        without `wait_for_completion`, outcomes and metrics are None
    :raises ControlHubJobStateError: if one of the jobs cannot be started; none was started
    :raises ControlHubBulkError: if Control Hub has started only some of them
    :raises ControlHubRunFailedError: if runs did not succeed; the message names them
    :raises ControlHubRunTimeoutError: if they took longer than `timeout`

    XCom keys besides ``return_value``: ``job_ids``, ``run_counts`` (by job id), ``streamsets_job_link`` (of the first).
    """

    template_fields: Sequence[str] = (*_CHOSEN, *_WAIT, "on_timeout", "accept_stopped")

    def __init__(
        self,
        *,
        wait_for_completion: bool = False,
        on_timeout: Literal["stop", "leave"] = "stop",
        stop_on_kill: bool = True,
        accept_stopped: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(wait_for_completion=wait_for_completion, **kwargs)
        parameters.choice(on_timeout, "on_timeout", ON_TIMEOUT)
        parameters.flag(accept_stopped, "accept_stopped")
        self.on_timeout = on_timeout
        self.stop_on_kill = stop_on_kill
        self.accept_stopped = accept_stopped

    @property
    def stops_runs_on_kill(self) -> bool:
        """Whether the runs are to be stopped when the task is killed."""
        return self.stop_on_kill

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Start the jobs, and wait for their runs."""
        wait = self.begin()
        from airflow_provider_streamsets.control_hub import ControlHubBulkError
        from airflow_provider_streamsets.control_hub.groups import RunReference, unfinished_result

        parameters.choice(self.on_timeout, "on_timeout", ON_TIMEOUT, rendered=True)
        parameters.flag(self.accept_stopped, "accept_stopped", rendered=True)
        jobs = {job.job_id: job for job in self.find_jobs(context)}
        if not jobs:
            return []
        self.end_if_killed("before it had started the jobs")
        try:
            started = self.client.runs.start_many(jobs.values())
        except ControlHubBulkError as error:
            self._note_started(context, error.done)
            raise
        self._note_started(context, {job_id: run.run_count for job_id, run in started.items()})
        for job_id, run in started.items():
            self.log.info("Started run %d of job %s.", run.run_count, jobs[job_id].label)
        if wait:
            runs = [RunReference(job_id, run.run_count, jobs[job_id].name) for job_id, run in started.items()]
            results: list[dict[str, Any]] = self.wait_for_runs(context, runs, list(jobs.values()))
            return results
        return [unfinished_result(job_id, jobs[job_id].name, run) for job_id, run in started.items()]

    def _note_started(self, context: Context, run_counts: dict[str, int]) -> None:
        self._watched = run_counts
        self.end_if_killed("while it started the jobs")
        context["ti"].xcom_push(key="run_counts", value=run_counts)

    def deliver_all(self, context: Context, group: RunGroup) -> list[dict[str, Any]]:
        """Return the results of the runs, or fail naming those that did not succeed."""
        accept_stopped = parameters.flag(self.accept_stopped, "accept_stopped", rendered=True)
        return self.results_or_failure(group, accept_stopped=accept_stopped)

    def on_runs_timeout(self, unfinished: dict[str, int], *, killed: bool = False) -> None:
        """Stop the runs, unless they are to be left."""
        if self.stop_on_kill if killed else self.on_timeout == "stop":
            self.stop_runs(unfinished, "they took too long")
        else:
            self.log.warning("Leaving %d runs running.", len(unfinished))


class ControlHubStopJobsOperator(ControlHubJobsOperator, WaitsForManyRuns):
    """
    Stop the runs of many jobs in one request, and wait until Control Hub has stopped them.

    Jobs that are not running count as stopped.

    .. code-block:: python

        ControlHubStopJobsOperator(task_id="stop_streams", job_tag="streaming", force_after=180)

    :param job_ids: ids of the jobs: a list of texts, or a text holding one (templated)
    :param job_names: exact names of the jobs, instead (templated)
    :param job_tag: tag of the jobs, without organization, instead (templated)
    :param search: search of Control Hub that finds the jobs, instead (templated)
    :param force: force the stops at once: ends runs that hang in ``DEACTIVATING``, but their last offsets may be lost
        (templated)
    :param force_after: seconds, or timedelta, after which the stops of runs that have not ended are forced; None never
        forces them. Only with `wait_for_completion` (templated)
    :param wait_for_completion: wait until all runs have ended (templated)
    :param deferrable: wait on the triggerer instead of a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds, or timedelta, between two looks at the runs (templated)
    :param timeout: seconds, or timedelta, after which the task fails; None waits as long as it takes (templated)
    :param metrics_wait: seconds, or timedelta, to wait for final metrics after the end of a run, at the most; 0 by
        default (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: for each job that was running what
        :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator` returns
    :raises ControlHubRunFailedError: if runs ended with an error while they were stopped; the message names them
    :raises ControlHubRunTimeoutError: if it took longer than `timeout`

    XCom keys besides ``return_value``: ``job_ids``, ``run_counts`` (by job id, of those that were running),
    ``streamsets_job_link`` (of the first job).
    """

    template_fields: Sequence[str] = (*_CHOSEN, *_WAIT, "force", "force_after")

    def __init__(
        self,
        *,
        force: bool = False,
        force_after: float | timedelta | None = None,
        metrics_wait: float | timedelta | None = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(metrics_wait=metrics_wait, **kwargs)
        parameters.flag(force, "force")
        parameters.seconds(force_after, "force_after")
        self.force = force
        self.force_after = force_after

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Stop the jobs and wait for the ends of their runs."""
        wait = self.begin()
        from airflow_provider_streamsets.control_hub.groups import RunReference, unfinished_result

        force = parameters.flag(self.force, "force", rendered=True)
        parameters.seconds(self.force_after, "force_after", rendered=True)
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
        stopped = self.client.runs.stop_many(run_counts, patience=STOP_PATIENCE, force=force)
        self.log.info("Asked Control Hub to stop %d runs.", len(stopped))
        if wait:
            runs = [RunReference(job_id, run_count, jobs[job_id].name) for job_id, run_count in run_counts.items()]
            results: list[dict[str, Any]] = self.wait_for_runs(context, runs, list(jobs.values()))
            return results
        return [unfinished_result(job_id, jobs[job_id].name, run) for job_id, run in running.items()]

    @property
    def acts_after(self) -> float | None:
        """Seconds after which the stops are forced."""
        after: float | None = parameters.seconds(self.force_after, "force_after", rendered=True)
        return after

    def act_on_unfinished(self, unfinished: dict[str, int]) -> bool:
        """Force the stops of the runs that have not ended."""
        return self.stop_runs(unfinished, "they have not ended by themselves, so the stop is forced", force=True)

    def deliver_all(self, context: Context, group: RunGroup) -> list[dict[str, Any]]:
        """Return the results of the stopped runs, or fail naming those that ended with an error."""
        return self.results_or_failure(group, accept_stopped=True)


class ControlHubDeleteJobsOperator(ControlHubJobsOperator):
    """
    Delete many jobs in one request.

    Active jobs are refused before anything is deleted, unless `stop_first` is set. A job chosen by id that does not
    exist counts as deleted, so that a retry succeeds.

    .. code-block:: python

        ControlHubDeleteJobsOperator(task_id="clean_up", search='name=="tmp *"', stop_first=True)

    :param job_ids: ids of the jobs, not of job templates: a list of texts, or a text holding one (templated)
    :param job_names: exact names of the jobs, instead (templated)
    :param job_tag: tag of the jobs, without organization, instead (templated)
    :param search: search of Control Hub that finds the jobs, instead (templated)
    :param stop_first: stop active jobs, wait for the ends of their runs, and then delete (templated)
    :param acknowledge_errors: acknowledge errors that would keep Control Hub from deleting a job (templated)
    :param stop_timeout: seconds, or timedelta, to wait for the ends of runs; the task then fails, and nothing is
        deleted (templated)
    :param force_after: seconds, or timedelta, after which the stops of runs that have not ended are forced; None never
        forces them (templated)
    :param poll_interval: seconds, or timedelta, between two looks at jobs that are being stopped (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ids of the jobs that were deleted
    :raises ControlHubJobStateError: if one of them cannot be deleted in its state; nothing was deleted
    :raises ControlHubRunTimeoutError: if the runs have not ended within `stop_timeout`; nothing was deleted

    XCom keys besides ``return_value``: ``job_ids``.
    """

    template_fields: Sequence[str] = (
        *_CHOSEN,
        "stop_first",
        "acknowledge_errors",
        "stop_timeout",
        "force_after",
        "poll_interval",
    )

    def __init__(
        self,
        *,
        stop_first: bool = False,
        acknowledge_errors: bool = False,
        stop_timeout: float | timedelta = 600,
        force_after: float | timedelta | None = None,
        poll_interval: float | timedelta = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.stop_first = stop_first
        self.acknowledge_errors = acknowledge_errors
        self.stop_timeout = stop_timeout
        self.force_after = force_after
        self.poll_interval = poll_interval
        self._checked(rendered=False)

    def _checked(self, *, rendered: bool) -> tuple[bool, bool, float, float | None, float]:
        return (
            parameters.flag(self.stop_first, "stop_first", rendered=rendered),
            parameters.flag(self.acknowledge_errors, "acknowledge_errors", rendered=rendered),
            parameters.seconds(self.stop_timeout, "stop_timeout", rendered=rendered),
            parameters.seconds(self.force_after, "force_after", rendered=rendered),
            parameters.seconds(self.poll_interval, "poll_interval", rendered=rendered),
        )

    def execute(self, context: Context) -> list[str]:
        """Delete the jobs."""
        from airflow_provider_streamsets.control_hub.waiting import stop_and_wait

        stop_first, acknowledge_errors, timeout, force_after, poll_interval = self._checked(rendered=True)
        jobs = {job.job_id: job for job in self.find_jobs(context, missing_ok=True)}
        running = {
            job_id: run.run_count for job_id, job in jobs.items() if (run := job.current_run) and not run.has_ended
        }
        if stop_first and running:
            self.log.info("Stopping %d jobs before they are deleted.", len(running))
            stop_and_wait(self.client, running, timeout=timeout, force_after=force_after, poll_interval=poll_interval)
        if acknowledge_errors and jobs:
            for run in self.client.runs.acknowledge(jobs, patience=_ACKNOWLEDGEMENT_PATIENCE):
                self.log.warning("Acknowledged the error of job %s: %s", jobs[run.job_id].label, run.error_message)
        deleted = self.client.jobs.delete(jobs)
        self.log.info("Deleted %d jobs: %s", len(deleted), ", ".join(jobs[job_id].label for job_id in deleted))
        return deleted
