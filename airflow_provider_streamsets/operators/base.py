"""What the operators of this provider share: connection, and how their jobs are chosen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, BaseOperatorLink

from airflow_provider_streamsets.links.job import ControlHubJobLink
from airflow_provider_streamsets.selection import ChoosesManyJobs, ChoosesOneJob, UsesControlHub

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job


class ControlHubOperator(UsesControlHub, BaseOperator):
    """
    Base of all operators of this provider.

    :param control_hub_conn_id: id of the Airflow connection (templated)
    :param multiple_outputs: make each key of the result an XCom of its own, too; default if the result is a dict
    """

    template_fields: Sequence[str] = ("control_hub_conn_id",)
    operator_extra_links: Collection[BaseOperatorLink] = (ControlHubJobLink(),)
    ui_color = "#e8f1fb"

    def __init__(
        self,
        *,
        control_hub_conn_id: str = "streamsets_default",
        multiple_outputs: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=self.checked_outputs(multiple_outputs), **kwargs)
        self.control_hub_conn_id = control_hub_conn_id


class ControlHubJobOperator(ChoosesOneJob, ControlHubOperator):
    """
    Base of the operators for one job. Exactly one of `job_id` and `job_name` has to be given.

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)
    """

    template_fields: Sequence[str] = ("job_id", "job_name", *ControlHubOperator.template_fields)

    def __init__(self, *, job_id: str | None = None, job_name: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.job_name = job_name
        self.check_selection()


class ControlHubJobsOperator(ChoosesManyJobs, ControlHubOperator):
    """
    Base of the operators for many jobs. Exactly one of the four ways to choose them has to be given.

    :param job_ids: ids of the jobs: a list of texts, or a text holding a JSON list (templated)
    :param job_names: exact names of the jobs: a list of texts, or a text holding a JSON list (templated)
    :param job_tag: tag of the jobs, without organization, for example ``nightly/orders`` (templated)
    :param search: search of Control Hub that finds the jobs, for example
        ``name=="orders*" and status=="INACTIVE"`` (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)
    """

    template_fields: Sequence[str] = (
        "job_ids",
        "job_names",
        "job_tag",
        "search",
        *ControlHubOperator.template_fields,
    )

    def __init__(
        self,
        *,
        job_ids: Sequence[str] | str | None = None,
        job_names: Sequence[str] | str | None = None,
        job_tag: str | None = None,
        search: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_ids = job_ids
        self.job_names = job_names
        self.job_tag = job_tag
        self.search = search
        self.check_selection()

    def find_jobs(self, context: Context, *, missing_ok: bool = False) -> list[Job]:
        """Return the chosen jobs, as :meth:`ChoosesManyJobs.find_jobs`; that there is none is worth a warning."""
        jobs = super().find_jobs(context, missing_ok=missing_ok)
        if not jobs:
            ways = ("job_ids", "job_names", "job_tag", "search")
            chosen = [f"{way}={value!r}" for way in ways if (value := getattr(self, way)) is not None]
            self.log.warning("There is no job with %s, so there is nothing to do.", ", ".join(chosen))
        return jobs
