"""What a wait of a sensor has come to: the same for a sensor on a worker and for one that ends in the triggerer."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubError, RunReport
    from airflow_provider_streamsets.control_hub.tracking.metric import MetricResult


class FinalState(enum.Enum):
    """How a task ends."""

    SUCCESS = "success"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class SensorResult:
    """
    How a task ends, and what is to be told of that.

    :param ending: how it ends
    :param message: why, for people
    :param result: what it returns, if it succeeds; of a failed run, what it would have returned
    :param details: more of what is known, for the task log
    :param is_soft: whether ``soft_fail`` makes a skip of a failure; ``never_fail`` always does
    """

    ending: FinalState
    message: str
    result: dict[str, Any] = field(default_factory=dict)
    details: str = ""
    is_soft: bool = True

    def apply_soft_fail(self, *, soft_fail: bool, never_fail: bool) -> FinalState:
        """Return how the task ends with these parameters of Airflow's sensors."""
        if self.ending is FinalState.FAILED and (never_fail or (soft_fail and self.is_soft)):
            return FinalState.SKIPPED
        return self.ending


def result_of_run(report: RunReport, *, accept_stopped: bool) -> SensorResult:
    """
    Judge a run that is waited for no more.

    :param report: what is known of it
    :param accept_stopped: count one that was stopped as a success
    """
    from airflow_provider_streamsets.control_hub import Outcome

    if report.outcome in {None, Outcome.SUCCEEDED} or (accept_stopped and report.outcome is Outcome.STOPPED):
        return SensorResult(FinalState.SUCCESS, report.summary, report.to_result())
    return SensorResult(FinalState.FAILED, f"{report.summary}.", report.to_result(), details=report.details())


def result_of_metrics(metric_result: MetricResult, *, on_run_end: str) -> SensorResult:
    """
    Judge what the metrics of a run have come to.

    :param metric_result: what they have come to
    :param on_run_end: what the sensor was told to do if the run ends before they are as wanted
    """
    if metric_result.satisfied:
        return SensorResult(FinalState.SUCCESS, metric_result.message, metric_result.to_result())
    return SensorResult(FinalState.SKIPPED if on_run_end == "skip" else FinalState.FAILED, metric_result.message)


def result_of_error(error: ControlHubError) -> SensorResult:
    """Judge a wait that an error has ended."""
    return SensorResult(FinalState.FAILED, str(error), is_soft=False)
