"""What a wait of a sensor has come to: the same for a sensor on a worker and for one that ends in the triggerer."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubError, RunReport
    from airflow_provider_streamsets.control_hub.metric_waiting import MetricFinding


class Ending(enum.Enum):
    """How a task ends."""

    SUCCESS = "success"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Verdict:
    """
    How a task ends, and what is to be told of that.

    :param ending: how it ends
    :param message: why, for people
    :param result: what it returns, if it succeeds; of a failed run, what it would have returned
    :param explanation: more of what is known, for the task log
    :param is_soft: whether ``soft_fail`` makes a skip of a failure; ``never_fail`` always does
    """

    ending: Ending
    message: str
    result: dict[str, Any] = field(default_factory=dict)
    explanation: str = ""
    is_soft: bool = True

    def softened(self, *, soft_fail: bool, never_fail: bool) -> Ending:
        """Return how the task ends with these parameters of Airflow's sensors."""
        if self.ending is Ending.FAILED and (never_fail or (soft_fail and self.is_soft)):
            return Ending.SKIPPED
        return self.ending


def verdict_on_run(report: RunReport, *, accept_stopped: bool) -> Verdict:
    """
    Judge a run that is waited for no more.

    :param report: what is known of it
    :param accept_stopped: count one that was stopped as a success
    """
    from airflow_provider_streamsets.control_hub import Outcome

    if report.outcome in {None, Outcome.SUCCEEDED} or (accept_stopped and report.outcome is Outcome.STOPPED):
        return Verdict(Ending.SUCCESS, report.headline, report.to_result())
    return Verdict(Ending.FAILED, f"{report.headline}.", report.to_result(), explanation=report.explanation())


def verdict_on_metrics(finding: MetricFinding, *, on_run_end: str) -> Verdict:
    """
    Judge what the metrics of a run have come to.

    :param finding: what they have come to
    :param on_run_end: what the sensor was told to do if the run ends before they are as wanted
    """
    if finding.satisfied:
        return Verdict(Ending.SUCCESS, finding.message, finding.to_result())
    return Verdict(Ending.SKIPPED if on_run_end == "skip" else Ending.FAILED, finding.message)


def verdict_on_error(error: ControlHubError) -> Verdict:
    """Judge a wait that an error has ended."""
    return Verdict(Ending.FAILED, str(error), is_soft=False)
