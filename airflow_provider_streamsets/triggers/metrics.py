"""The trigger that waits for metrics of one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_streamsets import params
from airflow_provider_streamsets.triggers.base import ControlHubRunTriggerBase

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubError
    from airflow_provider_streamsets.control_hub.tracking.metric import MetricResult, MetricTracker
    from airflow_provider_streamsets.polling.poller import SharedStatusPoller
    from airflow_provider_streamsets.triggers.events import MetricWaitEvent


class ControlHubJobMetricTrigger(ControlHubRunTriggerBase):
    """
    Wait on the triggerer until the metrics of one run satisfy conditions, or the run has ended.

    Yields one event, the payload of a :class:`~airflow_provider_streamsets.triggers.events.MetricWaitEvent`, whatever
    happens. All triggers of one connection share their status requests; record counts and counters are asked for only
    where a condition needs more than the status tells.

    :param control_hub_conn_id: id of the Airflow connection
    :param job_id: id of the job
    :param job_name: its name, for messages
    :param run_count: number of the run
    :param expect: the conditions: texts such as ``output_count >= 1000``, or dicts of their three fields
    :param join: whether ``all`` or ``any`` of them must be satisfied
    :param on_run_end: what counts when the run has ended before; see
        :class:`~airflow_provider_streamsets.control_hub.tracking.metric.MetricTracker`
    :param poll_interval: seconds between two looks
    :param timeout: seconds that the wait was given, for the message
    :param deadline: when to give up, in epoch seconds; None waits as long as the run takes
    :param metrics_timeout: seconds to wait for the run's final metrics after its end, at the most
    :param identity: as that of :class:`~airflow_provider_streamsets.triggers.base.ControlHubRunTriggerBase`
    :param started_after: the same
    """

    def __init__(
        self,
        control_hub_conn_id: str = "streamsets_default",
        job_id: str = "",
        job_name: str = "",
        run_count: int = 0,
        expect: Sequence[str | dict[str, Any]] = (),
        join: Literal["all", "any"] = "all",
        on_run_end: Literal["fail", "evaluate", "skip"] = "fail",
        poll_interval: float = 30.0,
        timeout: float | None = None,
        deadline: float | None = None,
        metrics_timeout: float = 30.0,
        identity: Sequence[str | float | None] | None = None,
        started_after: str | None = None,
    ) -> None:
        super().__init__(
            control_hub_conn_id=control_hub_conn_id,
            job_id=job_id,
            job_name=job_name,
            run_count=run_count,
            poll_interval=poll_interval,
            timeout=timeout,
            deadline=deadline,
            metrics_timeout=metrics_timeout,
            identity=identity,
            started_after=started_after,
        )
        self.expect = expect
        self.join = join
        self.on_run_end = on_run_end

    def tracker(self, poller: SharedStatusPoller) -> MetricTracker:
        """Return what decides when the conditions are satisfied or the run has ended."""
        from airflow_provider_streamsets.control_hub.models import RunIdentity
        from airflow_provider_streamsets.control_hub.tracking.conditions import parse_conditions
        from airflow_provider_streamsets.control_hub.tracking.metric import MetricTracker

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
        """Return the event with what the metrics have come to."""
        from airflow_provider_streamsets.triggers.events import MetricWaitEvent

        return MetricWaitEvent(self.job_id, self.run_count, metric_result=result)

    def failure(self, error: ControlHubError) -> MetricWaitEvent:
        """Return the event without a finding."""
        from airflow_provider_streamsets.triggers.events import MetricWaitEvent

        return MetricWaitEvent(*self.known_run, error=error)
