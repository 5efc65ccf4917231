"""What the operators of this provider share: connection, and how their jobs are chosen."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, BaseOperatorLink

from airflow_provider_streamsets.job_selector import ControlHubMixin, JobSelectorMixin, JobsSelectorMixin
from airflow_provider_streamsets.links.job import ControlHubJobLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import Job


class ControlHubOperator(ControlHubMixin, BaseOperator):
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

    def check_parameter_names(
        self, job: str, commit_id: str | None, names: Iterable[str], *, known: Iterable[str] = (), strict: bool
    ) -> None:
        """
        Warn of runtime parameters that the pipeline does not have, in one request at the most.

        :param job: name and id of the job, for messages
        :param commit_id: the pipeline version that it runs; None if that is not known
        :param names: names of parameters that the task was given
        :param known: names that the pipeline is known to have, as the job has values for them
        :param strict: refuse them instead; not if it is not known which parameters the pipeline has
        :raises ControlHubConfigurationError: if they are refused
        """
        from airflow_provider_streamsets.control_hub import (
            ControlHubAuthenticationError,
            ControlHubConfigurationError,
            ControlHubError,
        )

        unconfirmed = sorted(set(names) - set(known))
        if not unconfirmed or commit_id is None:
            return
        client = self.client if strict else self.client.with_options(max_attempts=1)
        try:
            unknown = client.pipelines.unknown_parameters(commit_id, unconfirmed)
        except ControlHubAuthenticationError:
            raise
        except ControlHubError as error:
            self.log.warning("Cannot check the names of the runtime parameters %s: %s", unconfirmed, error)
            return
        if not unknown:
            return
        names = ", ".join(
            f"'{name}'" + (f" (did you mean '{similar}'?)" if similar else "") for name, similar in unknown.items()
        )
        message = f"The pipeline of job {job} has no runtime parameter {names}."
        if strict:
            raise ControlHubConfigurationError(f"{message} Nothing was done, as strict_parameters=True says.")
        self.log.warning("%s Control Hub may ignore it; the pipeline then uses the values that are stored.", message)


class ControlHubJobOperator(JobSelectorMixin, ControlHubOperator):
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


class ControlHubJobsOperator(JobsSelectorMixin, ControlHubOperator):
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
        """Return the chosen jobs, as :meth:`JobsSelectorMixin.find_jobs`; that there is none is worth a warning."""
        jobs = super().find_jobs(context, missing_ok=missing_ok)
        if not jobs:
            ways = ("job_ids", "job_names", "job_tag", "search")
            chosen = [f"{way}={value!r}" for way in ways if (value := getattr(self, way)) is not None]
            self.log.warning("There is no job with %s, so there is nothing to do.", ", ".join(chosen))
        return jobs
