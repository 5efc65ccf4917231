"""What tasks on a worker and triggers read alike from parameters about metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets import params

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import Job
    from airflow_provider_streamsets.control_hub.tracking.conditions import MetricCondition

_SAVING_TIME = 15.0
_MAX_METRICS_TIMEOUT = 120.0


def metrics_timeout_for(given: Any, *jobs: Job, is_needed: bool = False) -> float:
    """
    Return the seconds to wait for the final metrics of an ended run, at the most.

    :param given: the parameter `metrics_timeout`, rendered; None stands for the time in which Control Hub should save them
    :param jobs: the jobs
    :param is_needed: whether conditions depend on the metrics; otherwise the wait is two minutes at the most, however
        seldom the jobs save them
    """
    wait = params.seconds(given, "metrics_timeout", rendered=True, zero=True)
    if wait is not None:
        return float(wait)
    interval = max((job.statistics_interval for job in jobs), default=0.0)
    return interval + _SAVING_TIME if is_needed else min(interval + _SAVING_TIME, _MAX_METRICS_TIMEOUT)


def wanted_conditions(metric: Any, comparison: Any, threshold: Any, conditions: Any) -> tuple[MetricCondition, ...]:
    """
    Return the conditions that are given either as one of three parameters, or as a list; all rendered.

    :raises ValueError: if they are none, or one of them makes no sense
    """
    from airflow_provider_streamsets.control_hub.tracking.conditions import parse_conditions

    if metric is None:
        return parse_conditions(params.conditions(conditions, "expect", rendered=True))
    params.metric(metric, "metric", rendered=True)
    return parse_conditions({"metric": metric, "comparison": comparison, "threshold": threshold})
