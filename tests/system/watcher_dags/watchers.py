"""Assets with watchers that share one poll, and the DAGs that activate them."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_streamsets.triggers.job_events import ControlHubJobRunEventTrigger

WATCHED = {
    "quick": {"job_name": "Quick check"},
    "orders": {"job_name": "Orders to warehouse"},
    "customers": {"job_name": "Customers nightly"},
    "finance": {"job_tag": "finance"},
    "burst": {"job_tag": "burst", "outcomes": ["FAILED"]},
}

assets = [
    Asset(
        name=name,
        uri=f"x-test://{name}",
        watchers=[
            AssetWatcher(name=name, trigger=ControlHubJobRunEventTrigger(poll_interval=1, metrics_timeout=5, **jobs))
        ],
    )
    for name, jobs in WATCHED.items()
]

with DAG("system_watching", schedule=assets):
    EmptyOperator(task_id="nothing")

with DAG("system_failures", schedule=[asset for asset in assets if asset.name == "burst"]):

    @task
    def failures(triggering_asset_events: Any = None) -> list[list[Any]]:
        """Return the runs in the events of this DAG run."""
        found = [event for events in triggering_asset_events.values() for event in events]
        return [[run["job_name"], run["run_count"]] for event in found for run in event.extra["payload"]["runs"]]

    failures()
