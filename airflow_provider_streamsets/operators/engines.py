"""Operators that balance the load of engines."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_streamsets import params
from airflow_provider_streamsets.operators.active_jobs import ControlHubActiveJobsOperator
from airflow_provider_streamsets.operators.base import ControlHubOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from airflow_provider_streamsets.control_hub import Engine, Job

_EXECUTOR_TYPES = ("COLLECTOR", "TRANSFORMER")


class ControlHubBalanceEnginesOperator(ControlHubOperator):
    """
    Balance engines: move pipelines of the jobs that run on them to less loaded engines, in one request.

    Control Hub moves pipelines of jobs with failover enabled only, interrupts them briefly, and does nothing where the
    load is even. Exactly one of `engine_ids`, `engine_labels` and `all_engines` has to be given. Engines that do not
    respond are left out.

    .. code-block:: python

        ControlHubBalanceEnginesOperator(task_id="balance", engine_labels=["prod"])

    :param engine_ids: ids of engines: a list of texts, or a text holding a JSON list (templated)
    :param engine_labels: balance the engines that have all of these labels, instead (templated)
    :param all_engines: balance all engines (templated)
    :param executor_type: of the engines with the labels, or of all: ``COLLECTOR`` or ``TRANSFORMER`` (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ids of the engines that were balanced
    :raises ControlHubNotFoundError: if an engine does not exist, or there is none that responds
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    No XCom keys besides ``return_value``.
    """

    template_fields: Sequence[str] = (
        "engine_ids",
        "engine_labels",
        "all_engines",
        "executor_type",
        *ControlHubOperator.template_fields,
    )
    # It has no job that a link could lead to.
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
        self.engine_ids = engine_ids
        self.engine_labels = engine_labels
        self.all_engines = all_engines
        self.executor_type = executor_type
        self._check_selection(rendered=False)
        if engine_ids is not None:
            other = executor_type if executor_type in _EXECUTOR_TYPES[1:] else None
            default_args = kwargs.get("default_args")
            params.no_effect("'engine_labels' or 'all_engines'", self, default_args, executor_type=other)

    def _check_selection(self, *, rendered: bool) -> None:
        all_engines = params.boolean(self.all_engines, "all_engines", rendered=rendered)
        params.exactly_one(
            engine_ids=self.engine_ids, engine_labels=self.engine_labels, all_engines=all_engines or None
        )
        params.string_list(self.engine_ids, "engine_ids", rendered=rendered)
        params.string_list(self.engine_labels, "engine_labels", rendered=rendered)
        params.one_of(self.executor_type, "executor_type", _EXECUTOR_TYPES, rendered=rendered)

    def execute(self, context: Context) -> list[str]:
        """Find the engines and balance them."""
        from airflow_provider_streamsets.control_hub import ControlHubNotFoundError

        self._check_selection(rendered=True)
        responding = []
        for engine in self._engines():
            if engine.is_responding:
                responding.append(engine.engine_id)
            else:
                self.log.warning("Leaving out engine %s (%s): it does not respond.", engine.engine_id, engine.url)
        if not responding:
            chosen = f" with the labels {self.engine_labels}" if self.engine_labels is not None else ""
            raise ControlHubNotFoundError(f"There is no engine{chosen} that responds, so there is nothing to balance.")
        self.client.engines.balance(responding)
        self.log.info("Asked Control Hub to balance %d engines: %s", len(responding), ", ".join(responding))
        return responding

    def _engines(self) -> list[Engine]:
        if self.engine_ids is not None:
            engine_ids = params.string_list(self.engine_ids, "engine_ids", rendered=True)
            return list(self.client.engines.get_all(engine_id.strip() for engine_id in engine_ids).values())
        labels = {
            label.strip() for label in params.string_list(self.engine_labels, "engine_labels", rendered=True) or ()
        }
        found = self.client.engines.list(label=min(labels, default=None), executor_type=self.executor_type)
        return [engine for engine in found if labels <= set(engine.labels)]


class ControlHubBalanceJobsOperator(ControlHubActiveJobsOperator):
    """
    Balance active jobs: move their pipelines to less loaded engines that match, in one request for many.

    Control Hub interrupts the pipelines briefly, lets them go on from their last offsets, and does nothing where the
    load is even. It needs failover to be enabled in the jobs.

    .. code-block:: python

        ControlHubBalanceJobsOperator(task_id="balance_fleet", job_tag="fleet", skip_others=True)

    :param job_ids: ids of the jobs: a list of texts, or a text holding a JSON list (templated)
    :param job_names: exact names of the jobs, instead (templated)
    :param job_tag: tag of the jobs, without organization, instead (templated)
    :param search: search of Control Hub that finds the jobs, instead (templated)
    :param skip_inactive: leave out jobs that are not active or have failover not enabled; otherwise such a job is an
        error, and none is balanced (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ids of the jobs that were balanced; an empty list, and a warning in the log, if a tag or a search finds
        no job
    :raises ControlHubJobStateError: if a job cannot be balanced as it is; nothing was sent
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: ``job_ids`` (all that were found), ``streamsets_job_link`` (of the first).
    """

    action = "balance"

    def reason_not_applicable(self, job: Job) -> str | None:
        """Return why a job cannot be balanced as it is now; None if it can."""
        from airflow_provider_streamsets.control_hub.runs import reason_not_balanceable

        return reason_not_balanceable(job)

    def act(self, job_ids: list[str]) -> None:
        """Balance these jobs."""
        self.client.runs.balance(job_ids)
