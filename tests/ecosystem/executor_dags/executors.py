"""DAGs whose tasks run in processes of the scheduler's machine and in pods."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task
from kubernetes.client import models as k8s

from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from airflow_provider_streamsets.triggers.job_events import ControlHubJobRunEventTrigger

POD = k8s.V1Pod(
    spec=k8s.V1PodSpec(
        containers=[k8s.V1Container(name="base", resources=k8s.V1ResourceRequirements(limits={"memory": "512Mi"}))]
    )
)
IN_PODS = {"executor": "KubernetesExecutor", "executor_config": {"pod_override": POD}}

with DAG("executors_local", schedule=None):
    ControlHubRunJobOperator(task_id="run", job_name="Orders to warehouse", poll_interval=1, deferrable=True)

watcher = AssetWatcher(
    name="quick", trigger=ControlHubJobRunEventTrigger(job_name="Quick check", poll_interval=1, metrics_timeout=5)
)
with DAG("executors_watching", schedule=[Asset(name="quick", uri="x-test://quick", watchers=[watcher])]):

    @task
    def report(triggering_asset_events: Any = None) -> list[int]:
        """Return the numbers of the runs in the events of this DAG run."""
        found = [event for events in triggering_asset_events.values() for event in events]
        return [run["run_count"] for event in found for run in event.extra["payload"]["runs"]]

    report()

with DAG("executors_pods", schedule=None):
    ControlHubRunJobOperator(task_id="run", job_name="Inventory snapshot", poll_interval=1, deferrable=True, **IN_PODS)

for number, end in enumerate(("lost", "failed", "evicted", "drained"), 1):
    with DAG(f"executors_pod_{end}", schedule=None):
        ControlHubRunJobOperator(
            task_id="run",
            job_name=f"Stream {number}",
            poll_interval=1,
            deferrable=False,
            stop_on_kill=end != "drained",
            retries=1,
            retry_delay=timedelta(seconds=1),
            **IN_PODS,
        )
