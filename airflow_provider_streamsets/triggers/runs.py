"""The trigger that waits for one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_streamsets import params
from airflow_provider_streamsets.control_hub.models import RunIdentity
from airflow_provider_streamsets.control_hub.tracking.conditions import ViolationCheck, parse_conditions
from airflow_provider_streamsets.control_hub.tracking.run import RunTracker
from airflow_provider_streamsets.triggers.arguments import ignore_unknown_arguments
from airflow_provider_streamsets.triggers.base import KILL_MAX_WAIT, ControlHubRunTriggerBase
from airflow_provider_streamsets.triggers.events import RunWaitEvent

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubClient, ControlHubError, RunReport
    from airflow_provider_streamsets.polling.poller import SharedStatusPoller


@ignore_unknown_arguments
@dataclass(kw_only=True, eq=False, repr=False)
class ControlHubJobRunTrigger(ControlHubRunTriggerBase):
    """
    Wait on the triggerer until a run has ended, or is active.

    Always yields exactly one event, the payload of a
    :class:`~airflow_provider_streamsets.triggers.events.RunWaitEvent`. All triggers of a connection share their status
    requests. The other parameters are those of
    :class:`~airflow_provider_streamsets.triggers.base.ControlHubRunTriggerBase`.

    :param upper_bounds: conditions on the run's metrics, as strings; the first violation ends the wait with an error
        while the run is active
    :param wait_for: wait for the run's ``completion``, or until it is ``active``
    :param fail_on_red_after: maximum seconds for which the run may be ``RED``; None sets no limit. A restart of the
        triggerer resets the count
    """

    upper_bounds: Sequence[str] | None = None
    wait_for: str = "completion"
    fail_on_red_after: float | None = None

    def tracker(self, poller: SharedStatusPoller) -> RunTracker:
        """Return the tracker of the run."""
        bounds = parse_conditions(self.upper_bounds) if self.upper_bounds else ()
        return RunTracker(
            poller.client,
            self.job_id,
            self.run_count,
            job_name=self.job_name,
            identity=RunIdentity.from_json(self.identity),
            started_after=params.timestamp(self.started_after, "started_after", rendered=True),
            metrics_timeout=self.metrics_timeout,
            until_active=self.wait_for == "active",
            fail_on_red_after=self.fail_on_red_after,
            while_running=ViolationCheck(poller.client, self.job_id, self.run_count, bounds) if bounds else None,
            now=poller.now,
            log=self.log,
            outage=poller.outage,
        )

    def event(self, result: RunReport) -> RunWaitEvent:
        """Return the event with the report of the run."""
        return RunWaitEvent(self.job_id, self.run_count, report=result, deadline=self.deadline)

    def failure(self, error: ControlHubError) -> RunWaitEvent:
        """Return the event of a failed wait."""
        return RunWaitEvent(*self.known_run, error=error, deadline=self.deadline)

    def stop(self, client: ControlHubClient, *, force: bool = False) -> bool:
        """Stop the run, unless it has ended or another run is active."""
        is_stopping = client.runs.stop_run(self.job_id, self.run_count, max_wait=KILL_MAX_WAIT, force=force)
        if is_stopping and force:
            client.runs.acknowledge_forced({self.job_id: self.run_count}, max_wait=KILL_MAX_WAIT)
        return is_stopping
