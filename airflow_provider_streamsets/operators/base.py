"""Base classes of the operators, with the connection and the selection of jobs from ``job_selector``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator, BaseOperatorLink

from airflow_provider_streamsets import params
from airflow_provider_streamsets.compat import skip_none_outputs
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubConfigurationError,
    ControlHubError,
)
from airflow_provider_streamsets.job_selector import ControlHubMixin, job_parameters, jobs_parameters
from airflow_provider_streamsets.links.job import LINKS


class ControlHubOperator(ControlHubMixin, BaseOperator):
    """
    Base of all operators of this provider.

    :param control_hub_conn_id: id of the Airflow connection (templated)
    :param multiple_outputs: also push each key of the result as its own XCom; by default, if the result is a dict
    """

    operator_extra_links: Collection[BaseOperatorLink] = LINKS
    ui_color = "#e8f1fb"

    def __init__(
        self,
        *,
        control_hub_conn_id: str = "streamsets_default",
        multiple_outputs: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=self.validate_multiple_outputs(multiple_outputs), **kwargs)
        self.control_hub_conn_id = control_hub_conn_id
        skip_none_outputs(self)

    def check_parameter_names(
        self, job: str, commit_id: str | None, names: Iterable[str], *, known: Iterable[str] = (), strict: bool
    ) -> None:
        """
        Warn about runtime parameters that the pipeline does not have, with at most one request.

        :param job: name and id of the job, for messages
        :param commit_id: commit id of the pipeline version; None if unknown
        :param names: names of the runtime parameters of the task
        :param known: names that the pipeline has, because the job has values for them
        :param strict: raise an error instead of a warning; if the parameters of the pipeline cannot be fetched, only
            warn
        :raises ControlHubConfigurationError: if `strict` is set and the pipeline lacks a parameter
        """
        unconfirmed = sorted(set(names) - set(known))
        if not unconfirmed or commit_id is None:
            return
        client = self.client if strict else self.client.with_options(max_attempts=1)
        try:
            unknown = client.pipelines.unknown_parameters(commit_id, unconfirmed)
        except ControlHubAuthenticationError:
            raise
        except ControlHubError as error:
            self.log.warning("Job %s: could not check the names of runtime parameters %s: %s", job, unconfirmed, error)
            return
        if not unknown:
            return
        suggestions = ", ".join(
            f"'{name}'" + (f" (did you mean '{similar}'?)" if similar else "") for name, similar in unknown.items()
        )
        message = f"The pipeline of job {job} has no runtime parameter {suggestions}."
        if strict:
            raise ControlHubConfigurationError(f"{message} Nothing was done because strict_parameters=True.")
        self.log.warning("%s Control Hub may ignore it and use the job's stored parameters.", message)


class ControlHubJobOperator(ControlHubOperator):
    """
    Base of the operators for one job. Exactly one of `job_id` and `job_name` must be set.

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)
    """

    job_id, job_name = job_parameters()

    def __init__(self, *, job_id: str | None = None, job_name: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        params.exactly_one(job_id=job_id, job_name=job_name)
        self.job_id, self.job_name = job_id, job_name


class ControlHubJobsOperator(ControlHubOperator):
    """
    Base of the operators for many jobs. Exactly one of the four selection parameters must be set.

    :param job_ids: ids of the jobs: a list of strings, or a string with a JSON list (templated)
    :param job_names: exact names of the jobs: a list of strings, or a string with a JSON list (templated)
    :param job_tag: tag of the jobs, without organization, for example ``nightly/orders`` (templated)
    :param search: Control Hub search expression that selects the jobs, for example
        ``name=="orders*" and status=="INACTIVE"`` (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)
    """

    job_ids, job_names, job_tag, search = jobs_parameters()

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
        params.exactly_one(job_ids=job_ids, job_names=job_names, job_tag=job_tag, search=search)
        self.job_ids, self.job_names, self.job_tag, self.search = job_ids, job_names, job_tag, search
