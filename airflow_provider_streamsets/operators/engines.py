"""Operators that balance the load of engines."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_streamsets import params
from airflow_provider_streamsets.control_hub.errors import ControlHubNotFoundError
from airflow_provider_streamsets.control_hub.job_state import reason_not_balanceable
from airflow_provider_streamsets.operators.active_jobs import ControlHubActiveJobsOperator
from airflow_provider_streamsets.operators.base import ControlHubOperator
from airflow_provider_streamsets.params import Parameter

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from airflow_provider_streamsets.control_hub import Engine, Job

_EXECUTOR_TYPES = ("COLLECTOR", "TRANSFORMER")


class ControlHubBalanceEnginesOperator(ControlHubOperator):
    """
    Balance engines: move pipelines of their jobs to less loaded engines, with one request.

    Control Hub moves only pipelines of jobs with failover enabled, with a brief interruption, and nothing if the load
    is even. Exactly one of `engine_ids`, `engine_labels` and `all_engines` is required. Engines that do not respond are
    skipped.

    .. code-block:: python

        ControlHubBalanceEnginesOperator(task_id="balance", engine_labels=["prod"])

    :param engine_ids: ids of engines: a list of strings, or a string with a JSON list (templated)
    :param engine_labels: balance the engines that have all of these labels (templated)
    :param all_engines: balance all engines (templated)
    :param executor_type: type of the engines to balance, with `engine_labels` or `all_engines`: ``COLLECTOR`` or
        ``TRANSFORMER`` (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ids of the balanced engines
    :raises ControlHubNotFoundError: if an engine does not exist, or none responds
    :raises ControlHubError: on any other API or connection error

    No XCom keys besides ``return_value``.
    """

    engine_ids = Parameter(params.string_list, first=True)
    engine_labels = Parameter(params.string_list, first=True)
    all_engines = Parameter(params.boolean, first=True)
    executor_type = Parameter(params.one_of, _EXECUTOR_TYPES, first=True)
    # No job, no link.
    operator_extra_links: Collection[BaseOperatorLink] = ()

    def __init__(
        self,
        *,
        engine_ids: Sequence[str] | str | None = None,
        engine_labels: Sequence[str] | str | None = None,
        all_engines: bool | str = False,
        executor_type: Literal["COLLECTOR", "TRANSFORMER"] | str = "COLLECTOR",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        is_all = params.boolean(all_engines, "all_engines")
        params.exactly_one(engine_ids=engine_ids, engine_labels=engine_labels, all_engines=is_all or None)
        self.engine_ids = engine_ids
        self.engine_labels = engine_labels
        self.all_engines = all_engines
        self.executor_type = executor_type
        if engine_ids is not None:
            non_default = executor_type if executor_type in _EXECUTOR_TYPES[1:] else None
            default_args = kwargs.get("default_args")
            params.no_effect("'engine_labels' or 'all_engines'", self, default_args, executor_type=non_default)

    def execute(self, context: Context) -> list[str]:
        """Find the engines and balance them."""
        is_all = self.rendered.all_engines
        params.exactly_one(engine_ids=self.engine_ids, engine_labels=self.engine_labels, all_engines=is_all or None)
        self.check_parameters()
        responding = []
        for engine in self._engines():
            if engine.is_responding:
                responding.append(engine.engine_id)
            else:
                self.log.warning("Engine %s (%s) does not respond; skipping it.", engine.engine_id, engine.url)
        if not responding:
            labels = f" with the labels {self.engine_labels}" if self.engine_labels is not None else ""
            raise ControlHubNotFoundError(f"Cannot balance engines: no engine{labels} responds. Nothing was sent.")
        self.client.engines.balance(responding)
        self.log.info("Requested to balance %d engines: %s.", len(responding), ", ".join(responding))
        return responding

    def _engines(self) -> list[Engine]:
        if self.engine_ids is not None:
            engine_ids = [engine_id.strip() for engine_id in self.rendered.engine_ids]
            return list(self.client.engines.get_all(engine_ids).values())
        labels = {label.strip() for label in self.rendered.engine_labels or ()}
        engines = self.client.engines.list(label=min(labels, default=None), executor_type=self.executor_type)
        return [engine for engine in engines if labels <= set(engine.labels)]


class ControlHubBalanceJobsOperator(ControlHubActiveJobsOperator):
    """
    Balance active jobs: move their pipelines to less loaded matching engines, with one request for many jobs.

    The pipelines are interrupted briefly and continue from their last offsets; nothing happens if the load is even.
    Requires failover to be enabled for the jobs.

    .. code-block:: python

        ControlHubBalanceJobsOperator(task_id="balance_fleet", job_tag="fleet", skip_inactive=True)

    :param job_ids: ids of the jobs: a list of strings, or a string with a JSON list (templated)
    :param job_names: exact names of the jobs, instead of their ids (templated)
    :param job_tag: tag of the jobs without organization, instead of their ids (templated)
    :param search: Control Hub search expression that selects the jobs, instead of their ids (templated)
    :param skip_inactive: skip jobs that are not active or do not have failover enabled; otherwise, one such job is an
        error and no job is balanced (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ids of the balanced jobs; an empty list, with a warning in the log, if no job matches the tag or search
    :raises ControlHubJobStateError: if a job cannot be balanced in its current state; nothing is sent
    :raises ControlHubError: on any other API or connection error

    XCom keys besides ``return_value``: ``job_ids`` (all selected jobs), ``streamsets_job_link`` (first job).
    """

    action = "balance"

    def reason_not_applicable(self, job: Job) -> str | None:
        """Return why a job cannot be balanced in its current state; None if it can."""
        return reason_not_balanceable(job)

    def act(self, job_ids: list[str]) -> None:
        """Balance the jobs."""
        self.client.runs.balance(job_ids)
