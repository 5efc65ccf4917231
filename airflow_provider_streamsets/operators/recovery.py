"""Operators that acknowledge errors of jobs and synchronize jobs with their engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub.job_state import reason_not_synchronizable
from airflow_provider_streamsets.job_selector import find_jobs
from airflow_provider_streamsets.operators.active_jobs import ControlHubActiveJobsOperator
from airflow_provider_streamsets.operators.base import ControlHubJobsOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job

_ACKNOWLEDGE_TIMEOUT = 30.0


class ControlHubAcknowledgeErrorsOperator(ControlHubJobsOperator):
    """
    Acknowledge the errors of jobs in ``INACTIVE_ERROR``, so that they can be started again.

    Jobs without such an error are skipped. After the acknowledgement, Control Hub can show the run like a successful
    one, so each error is logged first, and returned. The task waits up to 30 seconds for the effect.

    .. code-block:: python

        ControlHubAcknowledgeErrorsOperator(task_id="acknowledge", job_names=["Ledger export"])

    :param job_ids: ids of the jobs: a list of strings, or a string with a JSON list (templated)
    :param job_names: exact names of the jobs, instead of their ids (templated)
    :param job_tag: tag of the jobs without organization, instead of their ids (templated)
    :param search: Control Hub search expression that selects the jobs, instead of their ids (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``job_id``, ``job_name``, ``run_count`` and ``error_message`` of each acknowledged error; an empty list if
        there was none
    :raises ControlHubUnexpectedResponseError: if jobs are still in ``INACTIVE_ERROR`` after 30 seconds
    :raises ControlHubError: on any other API or connection error

    XCom keys besides ``return_value``: ``job_ids`` (all selected jobs), ``streamsets_job_link`` (first job).
    """

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Log and acknowledge the errors, and wait for the effect."""
        jobs = find_jobs(self, context)
        failed = {job.job_id: job for job in jobs if job.current_run and job.current_run.status == "INACTIVE_ERROR"}
        for job in failed.values():
            if job.current_run:
                error = job.current_run.error_message or "no message"
                self.log.info("Job %s run %d: INACTIVE_ERROR: %s", job.label, job.current_run.run_count, error)
        acknowledged = {run.job_id: run for run in self.client.runs.acknowledge(failed, max_wait=_ACKNOWLEDGE_TIMEOUT)}
        self.log.info("Acknowledged the errors of %d of %d jobs.", len(acknowledged), len(jobs))
        return [
            {
                "job_id": job_id,
                "job_name": job.name,
                "run_count": acknowledged[job_id].run_count,
                "error_message": acknowledged[job_id].error_message,
            }
            for job_id, job in failed.items()
            if job_id in acknowledged
        ]


class ControlHubSyncJobsOperator(ControlHubActiveJobsOperator):
    """
    Synchronize active jobs with their engines after engine labels have changed, with one request for many jobs.

    Control Hub starts pipelines on engines that now match, stops them on engines that no longer match, and restarts
    pipelines that are not running from their last offsets.

    .. code-block:: python

        ControlHubSyncJobsOperator(task_id="synchronize", job_tag="streaming", skip_inactive=True)

    :param job_ids: ids of the jobs: a list of strings, or a string with a JSON list (templated)
    :param job_names: exact names of the jobs, instead of their ids (templated)
    :param job_tag: tag of the jobs without organization, instead of their ids (templated)
    :param search: Control Hub search expression that selects the jobs, instead of their ids (templated)
    :param skip_inactive: skip jobs that are not active; otherwise, one such job is an error and no job is synchronized
        (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ids of the synchronized jobs; an empty list, with a warning in the log, if no job matches the tag or
        search
    :raises ControlHubJobStateError: if a job is not active; nothing is sent
    :raises ControlHubError: on any other API or connection error

    XCom keys besides ``return_value``: ``job_ids`` (all selected jobs), ``streamsets_job_link`` (first job).
    """

    action = "synchronize"

    def reason_not_applicable(self, job: Job) -> str | None:
        """Return why a job cannot be synchronized in its current state; None if it can."""
        return reason_not_synchronizable(job)

    def act(self, job_ids: list[str]) -> None:
        """Synchronize the jobs."""
        self.client.runs.synchronize(job_ids)
