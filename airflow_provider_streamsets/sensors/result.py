"""Result of a sensor's wait, for sensors that end on a worker or in the triggerer."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub import tracking
from airflow_provider_streamsets.control_hub.models import Outcome

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubError


class FinalState(enum.Enum):
    """Final state of a task."""

    SUCCESS = "success"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class SensorResult:
    """
    Final state of a sensor task, with message and return value.

    :param final_state: final state of the task, before ``soft_fail``
    :param message: reason, for logs and errors
    :param result: return value of the task; for a failed run, what it would have returned
    :param details: further details for the task log
    :param is_soft: whether ``soft_fail`` turns a failure into a skip; ``never_fail`` always does
    """

    final_state: FinalState
    message: str
    result: dict[str, Any] = field(default_factory=dict)
    details: str = ""
    is_soft: bool = True

    def apply_soft_fail(self, *, soft_fail: bool, never_fail: bool) -> FinalState:
        """Return the final state under the sensor parameters ``soft_fail`` and ``never_fail``."""
        if self.final_state is FinalState.FAILED and (never_fail or (soft_fail and self.is_soft)):
            return FinalState.SKIPPED
        return self.final_state


def result_of_run(report: tracking.RunReport, *, accept_stopped: bool) -> SensorResult:
    """
    Return the result of a wait for a run.

    :param report: report of the run
    :param accept_stopped: whether a stopped run is a success
    """
    if report.outcome in {None, Outcome.SUCCEEDED} or (accept_stopped and report.outcome is Outcome.STOPPED):
        return SensorResult(FinalState.SUCCESS, report.summary, report.to_result())
    return SensorResult(FinalState.FAILED, f"{report.summary}.", report.to_result(), details=report.details())


def result_of_metrics(metric_result: tracking.MetricResult, *, on_run_end: str) -> SensorResult:
    """
    Return the result of a wait for metrics.

    :param metric_result: result of the metrics
    :param on_run_end: parameter `on_run_end` of the sensor
    """
    if metric_result.satisfied:
        return SensorResult(FinalState.SUCCESS, metric_result.message, metric_result.to_result())
    return SensorResult(FinalState.SKIPPED if on_run_end == "skip" else FinalState.FAILED, metric_result.message)


def result_of_error(error: ControlHubError) -> SensorResult:
    """Return the result of a wait that ended with an error."""
    return SensorResult(FinalState.FAILED, str(error), is_soft=False)
