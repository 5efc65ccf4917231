"""Start jobs as soon as their state and the runs of other callers allow it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub.errors import (
    ControlHubBulkError,
    ControlHubJobStateError,
    ControlHubRejectedError,
)
from airflow_provider_streamsets.control_hub.job_state import check_all_startable
from airflow_provider_streamsets.control_hub.models import RunRef
from airflow_provider_streamsets.control_hub.submission import describe_run
from airflow_provider_streamsets.operators._run_ownership import RunOwnership

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import ControlHubClient, Job, JobRun
    from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator
    from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator

# Start requests that may be rejected because another caller was first, before the task fails.
_MAX_START_ATTEMPTS = 5
_ACKNOWLEDGEMENT_MAX_WAIT = 60.0
# Seconds between fetches after a rejected start: the conflicting run may not be visible at once.
_REJECTION_CHECK_DELAYS = (2.0, 4.0)


class StartOwnership(RunOwnership):
    """
    What a task does with the runs of jobs that it starts as soon as their state and the runs of others allow it.

    :param task: the operator
    """

    task: ControlHubRunJobOperator | ControlHubStartJobsOperator

    def refetch_jobs(self, client: ControlHubClient, job_ids: list[str]) -> Mapping[str, Job]:
        """
        Fetch jobs again, by id.

        :param client: the client to use
        :param job_ids: ids of the jobs
        """
        raise NotImplementedError

    def join_runs(self, context: Context, jobs: Mapping[str, Job], runs: Mapping[str, JobRun]) -> None:
        """
        Let the task wait for runs of other callers instead of own ones.

        :param jobs: the jobs, by id
        :param runs: the runs, by job id
        """
        raise NotImplementedError

    def fail_if_blocked(self, context: Context, jobs: Mapping[str, Job]) -> None:
        """Raise the errors of runs of an earlier try that must be acknowledged before the jobs can be started."""
        raise NotImplementedError

    def request_start(self, context: Context, jobs: Mapping[str, Job]) -> None:
        """
        Start the jobs.

        :raises ControlHubRejectedError: if Control Hub rejected the start
        :raises ControlHubBulkError: if it started only some of them
        """
        raise NotImplementedError

    def start_jobs(self, context: Context, jobs: Mapping[str, Job]) -> bool:
        """
        Start jobs, and join, stop or wait for the runs of those that are running, as `if_running` says; may defer.

        :param jobs: the jobs as just fetched, by id
        :returns: whether jobs were started; False if the runs of all were joined
        :raises ControlHubJobStateError: if a job cannot be started in its state; nothing was started
        :raises ControlHubError: if Control Hub rejects the start for another reason than another caller's start
        """
        attempts_remaining, waiter = _MAX_START_ATTEMPTS, self.waiter
        waiter.job_names.update({job_id: job.name for job_id, job in jobs.items()})
        while jobs:
            jobs = waiter.wait_until_stable(jobs.values(), self.refetch_jobs)
            runs = {job_id: job.current_run for job_id, job in jobs.items() if job.current_run is not None}
            running = {job_id: run for job_id, run in runs.items() if not run.has_ended}
            if running and self.task.if_running != "fail":
                # Not counted as an attempt: any number of other callers may be waiting and start the jobs first.
                jobs = self._resolve_conflicts(context, jobs, running)
                continue
            failed = [job_id for job_id, run in runs.items() if run.status == "INACTIVE_ERROR"]
            if failed and self.task.rendered.acknowledge_errors:
                log_and_acknowledge(self.client, {job_id: jobs[job_id] for job_id in failed}, self.log)
                jobs.update(self.refetch_jobs(self.client, failed))
            self.fail_if_blocked(context, jobs)
            _check_startable(jobs.values())
            self.raise_if_killed("before it started anything")
            attempts_remaining -= 1
            try:
                self.request_start(context, jobs)
            except (ControlHubBulkError, ControlHubRejectedError) as error:
                rejection = error.__cause__ if isinstance(error, ControlHubBulkError) else error
                if not isinstance(rejection, ControlHubRejectedError) or not attempts_remaining:
                    raise
                remaining = {job_id: job for job_id, job in jobs.items() if job_id not in self.started}
                newer = _find_jobs_started_by_others(
                    remaining, partial(self.refetch_jobs, self.client), sleep=self.time.sleep
                )
                if not newer:
                    raise
                jobs = {**remaining, **newer}
                self.log.warning(
                    "%s Another caller started %d of the jobs; checking their runs.", rejection, len(newer)
                )
            else:
                return True
        return False

    def _resolve_conflicts(
        self, context: Context, jobs: Mapping[str, Job], running: Mapping[str, JobRun]
    ) -> Mapping[str, Job]:
        """Join, stop or wait for the runs of other callers, and return the jobs that are left to start; may defer."""
        for job_id, run in running.items():
            self.log.warning(
                "Job %s is already running: %s; applying if_running='%s'.",
                jobs[job_id].title,
                describe_run(run),
                self.task.if_running,
            )
        if self.task.if_running == "join":
            self.join_runs(context, jobs, running)
            return {job_id: job for job_id, job in jobs.items() if job_id not in running}
        if self.task.if_running == "restart":
            self.stop_and_wait({job_id: run.run_count for job_id, run in running.items()})
        else:
            self.waiter.wait_for_other_runs([RunRef.of_job(jobs[i], run) for i, run in running.items()])
        return self.refetch_jobs(self.client, list(jobs))


def _check_startable(jobs: Iterable[Job]) -> None:
    """
    Check that all jobs can be started in their current state.

    :raises ControlHubJobStateError: if a job cannot be started; the message suggests `if_running` and
        `acknowledge_errors` where they help
    """
    jobs = list(jobs)
    try:
        check_all_startable(jobs)
    except ControlHubJobStateError as error:
        runs = [job.current_run for job in jobs if job.current_run is not None]
        sentences = [str(error)]
        if any(not run.has_ended for run in runs):
            sentences.append("Set if_running='join', 'restart' or 'wait_then_start' to handle active runs.")
        if any(run.status == "INACTIVE_ERROR" for run in runs):
            sentences.append("Set acknowledge_errors=True to acknowledge errors before the start.")
        raise ControlHubJobStateError(" ".join(sentences)) from None


def log_and_acknowledge(client: ControlHubClient, jobs: Mapping[str, Job], log: Any) -> None:
    """
    Acknowledge the errors of the latest runs of jobs, and log them.

    :param client: the client
    :param jobs: the jobs, by id
    :param log: the task's log
    :raises ControlHubUnexpectedResponseError: if a job is still in ``INACTIVE_ERROR`` a minute later
    """
    for run in client.runs.acknowledge(jobs, max_wait=_ACKNOWLEDGEMENT_MAX_WAIT):
        log.warning(
            "Job %s run %d: acknowledged its error: %s", jobs[run.job_id].title, run.run_count, run.error_message
        )


def _find_jobs_started_by_others(
    jobs: Mapping[str, Job], fetch: Callable[[list[str]], Mapping[str, Job]], *, sleep: Callable[[float], None]
) -> dict[str, Job]:
    """
    Return the jobs that Control Hub did not start because another caller had started them.

    :param jobs: the jobs as they were before the start request, by id
    :param fetch: fetches jobs by id, in one request if possible
    :param sleep: sleeps for a number of seconds
    :returns: the refreshed jobs that have a newer run, by id; empty if Control Hub had another reason
    """
    for seconds in (0.0, *_REJECTION_CHECK_DELAYS):
        sleep(seconds)
        current = fetch(list(jobs))
        newer = {job_id: job for job_id, job in current.items() if job.last_run_count != jobs[job_id].last_run_count}
        if newer:
            return newer
    return {}
