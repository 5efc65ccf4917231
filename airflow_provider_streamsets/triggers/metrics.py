"""The trigger that waits for metrics of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_streamsets import params
from airflow_provider_streamsets.control_hub.models import RunIdentity
from airflow_provider_streamsets.control_hub.tracking.conditions import parse_conditions
from airflow_provider_streamsets.control_hub.tracking.metric import MetricTracker
from airflow_provider_streamsets.triggers.arguments import ignore_unknown_arguments
from airflow_provider_streamsets.triggers.base import ControlHubRunTriggerBase
from airflow_provider_streamsets.triggers.events import MetricWaitEvent

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubError
    from airflow_provider_streamsets.control_hub.tracking.metric import MetricResult
    from airflow_provider_streamsets.polling.poller import SharedStatusPoller


@ignore_unknown_arguments
@dataclass(kw_only=True, eq=False, repr=False)
class ControlHubJobMetricTrigger(ControlHubRunTriggerBase):
    """
    Wait on the triggerer until the metrics of a run satisfy conditions, or the run has ended.

    Always yields exactly one event, the payload of a
    :class:`~airflow_provider_streamsets.triggers.events.MetricWaitEvent`. All triggers of a connection share their
    status requests; record counts and counters are requested only for conditions that the status cannot decide. The
    other parameters are those of :class:`~airflow_provider_streamsets.triggers.base.ControlHubRunTriggerBase`, without
    `stop_on_kill` and `force_stop_after`.

    :param expect: conditions: strings such as ``output_count >= 1000``, or dicts of their three fields
    :param join: whether ``all`` or ``any`` of them must be satisfied
    :param on_run_end: how conditions are evaluated when the run ends first; see
        :class:`~airflow_provider_streamsets.control_hub.tracking.metric.MetricTracker`
    """

    expect: Sequence[str | dict[str, Any]] = ()
    join: Literal["all", "any"] = "all"
    on_run_end: Literal["fail", "evaluate", "skip"] = "fail"
    # The task has not started the run, so that a kill does not stop it.
    stop_on_kill: bool = field(default=False, init=False)
    force_stop_after: float | None = field(default=None, init=False)

    def tracker(self, poller: SharedStatusPoller) -> MetricTracker:
        """Return the tracker of the run's metrics."""
        return MetricTracker(
            poller.client,
            self.job_id,
            self.run_count,
            parse_conditions(self.expect),
            join=self.join,
            on_run_end=self.on_run_end,
            job_name=self.job_name,
            identity=RunIdentity.from_json(self.identity),
            started_after=params.timestamp(self.started_after, "started_after", rendered=True),
            metrics_timeout=self.metrics_timeout,
            now=poller.now,
            log=self.log,
            outage=poller.outage,
        )

    def event(self, result: MetricResult) -> MetricWaitEvent:
        """Return the event with the evaluated metrics."""
        return MetricWaitEvent(self.job_id, self.run_count, metric_result=result)

    def failure(self, error: ControlHubError) -> MetricWaitEvent:
        """Return the event of a failed wait."""
        return MetricWaitEvent(*self.known_run, error=error)
