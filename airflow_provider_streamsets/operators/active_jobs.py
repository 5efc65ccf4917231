"""What the operators that act on active jobs share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets import params
from airflow_provider_streamsets.operators.base import ControlHubJobsOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job


class ControlHubActiveJobsOperator(ControlHubJobsOperator):
    """
    Base of the operators that do something with active jobs, in one request for many.

    :param skip_inactive: leave out jobs that it cannot be done with as they are; otherwise such a job is an error, and it
        is done with none of them (templated)
    """

    template_fields: Sequence[str] = (*ControlHubJobsOperator.template_fields, "skip_inactive")

    action: str
    """What is done with the jobs, for messages."""

    def __init__(self, *, skip_inactive: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        params.boolean(skip_inactive, "skip_inactive")
        self.skip_inactive = skip_inactive

    def reason_not_applicable(self, job: Job) -> str | None:
        """Return why it cannot be done with a job as it is now; None if it can."""
        raise NotImplementedError

    def act(self, job_ids: list[str]) -> None:
        """Do it with these jobs."""
        raise NotImplementedError

    def execute(self, context: Context) -> list[str]:
        """Check all jobs, and do it."""
        from airflow_provider_streamsets.control_hub import ControlHubJobStateError
        from airflow_provider_streamsets.control_hub._messages import join_truncated

        skip_inactive = params.boolean(self.skip_inactive, "skip_inactive", rendered=True)
        jobs = self.find_jobs(context)
        obstacles = {job.job_id: f"{job.label} {why}" for job in jobs if (why := self.reason_not_applicable(job))}
        if obstacles and not skip_inactive:
            problems = list(obstacles.values())
            raise ControlHubJobStateError(
                f"Cannot {self.action} jobs: {join_truncated(problems, '; ')}. Nothing was sent. With "
                "skip_others=True, such jobs are left out."
            )
        for problem in obstacles.values():
            self.log.info("Leaving out a job: %s.", problem)
        chosen = {job.job_id: job.label for job in jobs if job.job_id not in obstacles}
        if chosen:
            self.act(list(chosen))
            self.log.info("Asked Control Hub to %s %d jobs: %s.", self.action, len(chosen), ", ".join(chosen.values()))
        return list(chosen)
