"""Operators that make jobs usable again after errors and changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.operators.active_jobs import ControlHubActiveJobsOperator
from airflow_provider_streamsets.operators.base import ControlHubJobsOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job

_MAX_WAIT = 30.0


class ControlHubAcknowledgeErrorsOperator(ControlHubJobsOperator):
    """
    Acknowledge the errors of jobs that ended in ``INACTIVE_ERROR``, so that they can be run again.

    Jobs without such an error are left alone. After an acknowledgement, Control Hub can show the run like one that
    has succeeded, so each error is logged before, and returned. The task waits up to half a minute until Control Hub
    has done it.

    .. code-block:: python

        ControlHubAcknowledgeErrorsOperator(task_id="acknowledge", job_names=["Ledger export"])

    :param job_ids: ids of the jobs: a list of texts, or a text holding a JSON list (templated)
    :param job_names: exact names of the jobs, instead (templated)
    :param job_tag: tag of the jobs, without organization, instead (templated)
    :param search: search of Control Hub that finds the jobs, instead (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: for each error that was acknowledged ``job_id``, ``job_name``, ``run_count`` and ``error_message``; an
        empty list if there was none
    :raises ControlHubUnexpectedAnswerError: if jobs are still in ``INACTIVE_ERROR`` afterwards
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: ``job_ids`` (all that were found), ``streamsets_job_link`` (of the first).
    """

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Log the errors, acknowledge them, and wait until Control Hub has done so."""
        jobs = self.find_jobs(context)
        failed = {job.job_id: job for job in jobs if job.current_run and job.current_run.status == "INACTIVE_ERROR"}
        for job in failed.values():
            if job.current_run:
                error = job.current_run.error_message or "none stated"
                self.log.info("Run %d of job %s has the error: %s", job.current_run.run_count, job.label, error)
        acknowledged = {run.job_id: run for run in self.client.runs.acknowledge(failed, max_wait=_MAX_WAIT)}
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
    Synchronize active jobs with their engines, in one request for many, after labels of engines have changed.

    Control Hub starts pipelines on engines that match now, stops them on engines that no longer match, and restarts
    pipelines that are not running from their last offsets.

    .. code-block:: python

        ControlHubSyncJobsOperator(task_id="synchronize", job_tag="streaming", skip_others=True)

    :param job_ids: ids of the jobs: a list of texts, or a text holding a JSON list (templated)
    :param job_names: exact names of the jobs, instead (templated)
    :param job_tag: tag of the jobs, without organization, instead (templated)
    :param search: search of Control Hub that finds the jobs, instead (templated)
    :param skip_inactive: leave out jobs that are not active; otherwise such a job is an error, and none is synchronized
        (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ids of the jobs that were synchronized; an empty list, and a warning in the log, if a tag or a search
        finds no job
    :raises ControlHubJobStateError: if a job is not active; nothing was sent
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: ``job_ids`` (all that were found), ``streamsets_job_link`` (of the first).
    """

    action = "synchronize"

    def reason_not_applicable(self, job: Job) -> str | None:
        """Return why a job cannot be synchronized as it is now; None if it can."""
        from airflow_provider_streamsets.control_hub.runs import reason_not_synchronizable

        return reason_not_synchronizable(job)

    def act(self, job_ids: list[str]) -> None:
        """Synchronize these jobs."""
        self.client.runs.synchronize(job_ids)
