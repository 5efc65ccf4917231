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
    Wait on the triggerer until the metrics of a run satisfy conditions, or the run has ended.

    Always yields exactly one event, the payload of a
    :class:`~airflow_provider_streamsets.triggers.events.MetricWaitEvent`. All triggers of a connection share their
    status requests; record counts and counters are requested only for conditions that the status cannot decide.

    :param control_hub_conn_id: id of the Airflow connection
    :param job_id: id of the job
    :param job_name: name of the job, for messages
    :param run_count: number of the run
    :param expect: conditions: strings such as ``output_count >= 1000``, or dicts of their three fields
    :param join: whether ``all`` or ``any`` of them must be satisfied
    :param on_run_end: how conditions are evaluated when the run ends first; see
        :class:`~airflow_provider_streamsets.control_hub.tracking.metric.MetricTracker`
    :param poll_interval: seconds between two polls
    :param timeout: total seconds of the wait, for messages
    :param deadline: when the wait times out, in epoch seconds; None for no deadline
    :param metrics_timeout: maximum seconds to wait for the final metrics after the run has ended
    :param identity: see :class:`~airflow_provider_streamsets.triggers.base.ControlHubRunTriggerBase`
    :param started_after: see :class:`~airflow_provider_streamsets.triggers.base.ControlHubRunTriggerBase`
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
        poll_interval: float = params.DEFAULT_POLL_INTERVAL,
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
        """Return the tracker of the run's metrics."""
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
        """Return the event with the evaluated metrics."""
        from airflow_provider_streamsets.triggers.events import MetricWaitEvent

        return MetricWaitEvent(self.job_id, self.run_count, metric_result=result)

    def failure(self, error: ControlHubError) -> MetricWaitEvent:
        """Return the event of a failed wait."""
        from airflow_provider_streamsets.triggers.events import MetricWaitEvent

        return MetricWaitEvent(*self.known_run, error=error)
