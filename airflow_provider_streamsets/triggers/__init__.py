"""Triggers; loaded on first use, because Airflow's base class takes as long to load as all operators together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub._lazy import lazy_attributes

if TYPE_CHECKING:
    from airflow_provider_streamsets.triggers.events import (
        MetricWaitEvent,
        RunsWaitEvent,
        RunsWaitReason,
        RunWaitEvent,
    )
    from airflow_provider_streamsets.triggers.metrics import ControlHubJobMetricTrigger
    from airflow_provider_streamsets.triggers.run_group import ControlHubJobRunsTrigger
    from airflow_provider_streamsets.triggers.runs import ControlHubJobRunTrigger
    from airflow_provider_streamsets.triggers.sensors import (
        ControlHubJobMetricSensorTrigger,
        ControlHubJobRunSensorTrigger,
    )

__all__ = [
    "ControlHubJobMetricSensorTrigger",
    "ControlHubJobMetricTrigger",
    "ControlHubJobRunSensorTrigger",
    "ControlHubJobRunTrigger",
    "ControlHubJobRunsTrigger",
    "MetricWaitEvent",
    "RunWaitEvent",
    "RunsWaitEvent",
    "RunsWaitReason",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "events": ("MetricWaitEvent", "RunWaitEvent", "RunsWaitEvent", "RunsWaitReason"),
        "metrics": ("ControlHubJobMetricTrigger",),
        "run_group": ("ControlHubJobRunsTrigger",),
        "runs": ("ControlHubJobRunTrigger",),
        "sensors": ("ControlHubJobMetricSensorTrigger", "ControlHubJobRunSensorTrigger"),
    },
)
