"""Triggers; loaded on first use, because Airflow's base class takes as long to load as all operators together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub._lazy import lazy_attributes

if TYPE_CHECKING:
    from airflow_provider_streamsets.triggers.events import MetricWaitEvent, RunsWaitEvent, RunsWaitReason
    from airflow_provider_streamsets.triggers.runs import ControlHubRunsTrigger
    from airflow_provider_streamsets.triggers.sensors import (
        ControlHubJobMetricSensorTrigger,
        ControlHubJobRunSensorTrigger,
    )

__all__ = [
    "ControlHubJobMetricSensorTrigger",
    "ControlHubJobRunSensorTrigger",
    "ControlHubRunsTrigger",
    "MetricWaitEvent",
    "RunsWaitEvent",
    "RunsWaitReason",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "events": ("MetricWaitEvent", "RunsWaitEvent", "RunsWaitReason"),
        "runs": ("ControlHubRunsTrigger",),
        "sensors": ("ControlHubJobMetricSensorTrigger", "ControlHubJobRunSensorTrigger"),
    },
)
