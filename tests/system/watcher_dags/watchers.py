"""Assets with watchers that all share one poll, and a DAG so that Airflow runs them."""

from __future__ import annotations

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, AssetWatcher

from airflow_provider_streamsets.triggers.job_events import ControlHubJobRunEventTrigger

WATCHED = {
    "quick": {"job_name": "Quick check"},
    "orders": {"job_name": "Orders to warehouse"},
    "customers": {"job_name": "Customers nightly"},
    "finance": {"job_tag": "finance"},
}

assets = [
    Asset(
        name=name,
        uri=f"x-test://{name}",
        watchers=[
            AssetWatcher(name=name, trigger=ControlHubJobRunEventTrigger(poll_interval=1, metrics_wait=5, **jobs))
        ],
    )
    for name, jobs in WATCHED.items()
]

with DAG("system_watching", schedule=assets):
    EmptyOperator(task_id="nothing")
