"""A DAG that is scheduled on the asset of a job, without a watcher."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_streamsets.assets.jobs import job_asset

with DAG(
    "system_after_push",
    schedule=job_asset("c80e3327-f9d7-5da0-8823-472f0418d232:bab21f86-74cd-5019-8714-cad83794eb01", name="quick"),
):

    @task
    def report(triggering_asset_events: Any = None) -> list[dict[str, Any]]:
        """Return the runs in the events of this DAG run."""
        found = [event for events in triggering_asset_events.values() for event in events]
        return [run for event in found for run in event.extra["payload"]["runs"]]

    report()
