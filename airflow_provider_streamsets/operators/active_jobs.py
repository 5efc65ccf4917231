"""Base class of the operators that act on active jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets import params
from airflow_provider_streamsets.control_hub._messages import join_truncated
from airflow_provider_streamsets.control_hub.errors import ControlHubJobStateError
from airflow_provider_streamsets.job_selector import find_jobs
from airflow_provider_streamsets.operators.base import ControlHubJobsOperator
from airflow_provider_streamsets.params import Parameter

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job


class ControlHubActiveJobsOperator(ControlHubJobsOperator):
    """
    Base class of operators that act on active jobs, with one request for many jobs.

    :param skip_inactive: skip jobs to which the operation is not applicable; otherwise, one such job is an error and
        nothing is sent (templated)
    """

    skip_inactive = Parameter(params.boolean)

    action: str
    """Verb that describes the operation, for messages."""

    def __init__(self, *, skip_inactive: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.skip_inactive = skip_inactive

    def reason_not_applicable(self, job: Job) -> str | None:
        """Return why the operation is not applicable to a job in its current state; None if it is."""
        raise NotImplementedError

    def act(self, job_ids: list[str]) -> None:
        """Request the operation for the jobs."""
        raise NotImplementedError

    def execute(self, context: Context) -> list[str]:
        """Check all jobs and request the operation."""
        jobs = find_jobs(self, context)
        reasons = {job.job_id: f"{job.label} {why}" for job in jobs if (why := self.reason_not_applicable(job))}
        if reasons and not self.rendered.skip_inactive:
            raise ControlHubJobStateError(
                f"Cannot {self.action} jobs: {join_truncated(list(reasons.values()), '; ')}. Nothing was sent. To skip "
                "such jobs, set skip_inactive=True."
            )
        for reason in reasons.values():
            self.log.info("Job %s; skipping it.", reason)
        selected = {job.job_id: job.label for job in jobs if job.job_id not in reasons}
        if selected:
            self.act(list(selected))
            self.log.info("Requested to %s %d jobs: %s.", self.action, len(selected), ", ".join(selected.values()))
        return list(selected)
