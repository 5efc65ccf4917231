"""Wait with a tracker alone, without the group that the client and the operators use."""

from __future__ import annotations

from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.tracking.report import RunReport
from airflow_provider_streamsets.control_hub.tracking.run import RunTracker


def wait_with_tracker(tracker: RunTracker, deadline: Deadline, *, poll_interval: float) -> RunReport:
    """Poll until the run has ended, and return its report."""
    for is_last_poll in deadline.polls(lambda: tracker.next_delay(poll_interval)):
        with tracker.client.within(lambda: deadline.remaining):
            report = tracker.poll(skip_metrics_wait=is_last_poll)
        if report is not None:
            return report
        if tracker.poll_failed and deadline.has_passed:
            break
    raise tracker.timed_out(deadline.total)
