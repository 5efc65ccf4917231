"""What tasks on a worker and triggers read alike from parameters about metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets import parameters

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import Job
    from airflow_provider_streamsets.control_hub.conditions import MetricCondition

_SAVING_TIME = 15.0
_LONGEST_METRICS_WAIT = 120.0


def metrics_wait_for(given: Any, *jobs: Job, is_needed: bool = False) -> float:
    """
    Return the seconds to wait for the final metrics of an ended run, at the most.

    :param given: the parameter `metrics_wait`, rendered; None stands for the time in which Control Hub should save them
    :param jobs: the jobs
    :param is_needed: whether conditions depend on the metrics; otherwise the wait is two minutes at the most, however
        seldom the jobs save them
    """
    wait = parameters.seconds(given, "metrics_wait", rendered=True, zero=True)
    if wait is not None:
        return float(wait)
    interval = max((job.statistics_interval for job in jobs), default=0.0)
    return interval + _SAVING_TIME if is_needed else min(interval + _SAVING_TIME, _LONGEST_METRICS_WAIT)


def wanted_conditions(metric: Any, comparison: Any, threshold: Any, conditions: Any) -> tuple[MetricCondition, ...]:
    """
    Return the conditions that are given either as one of three parameters, or as a list; all rendered.

    :raises ValueError: if they are none, or one of them makes no sense
    """
    from airflow_provider_streamsets.control_hub.conditions import conditions_of

    if metric is None:
        return conditions_of(parameters.conditions(conditions, "conditions", rendered=True))
    parameters.metric(metric, "metric", rendered=True)
    return conditions_of({"metric": metric, "comparison": comparison, "threshold": threshold})
