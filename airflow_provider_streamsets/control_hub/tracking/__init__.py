"""Track runs until they end; loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub._lazy import lazy_attributes

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.tracking.conditions import (
        MetricCondition,
        ViolationCheck,
        evaluate_ended_run,
        parse_conditions,
        validate_metric,
    )
    from airflow_provider_streamsets.control_hub.tracking.metric import MetricResult, MetricTracker
    from airflow_provider_streamsets.control_hub.tracking.outcome import decide_outcome
    from airflow_provider_streamsets.control_hub.tracking.report import RunReport, fetch_names, run_record
    from airflow_provider_streamsets.control_hub.tracking.run import NotifyOn, RunTracker
    from airflow_provider_streamsets.control_hub.tracking.run_group import RunGroup, sum_metrics, unfinished_result
    from airflow_provider_streamsets.control_hub.tracking.wait import (
        request_stops,
        stop_runs,
        wait_for_runs,
        wait_until_stable,
    )

__all__ = [
    "MetricCondition",
    "MetricResult",
    "MetricTracker",
    "NotifyOn",
    "RunGroup",
    "RunReport",
    "RunTracker",
    "ViolationCheck",
    "decide_outcome",
    "evaluate_ended_run",
    "fetch_names",
    "parse_conditions",
    "request_stops",
    "run_record",
    "stop_runs",
    "sum_metrics",
    "unfinished_result",
    "validate_metric",
    "wait_for_runs",
    "wait_until_stable",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "conditions": (
            "MetricCondition",
            "ViolationCheck",
            "evaluate_ended_run",
            "parse_conditions",
            "validate_metric",
        ),
        "metric": ("MetricResult", "MetricTracker"),
        "outcome": ("decide_outcome",),
        "report": ("RunReport", "fetch_names", "run_record"),
        "run": ("NotifyOn", "RunTracker"),
        "run_group": ("RunGroup", "sum_metrics", "unfinished_result"),
        "wait": ("request_stops", "stop_runs", "wait_for_runs", "wait_until_stable"),
    },
)
