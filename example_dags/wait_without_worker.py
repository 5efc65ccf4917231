"""Wait for a run without a worker: the sensor runs entirely in the triggerer (Airflow 3.3 and later)."""

from __future__ import annotations

from airflow.sdk import DAG, task

from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor

with DAG("streamsets_wait_without_worker", schedule=None, catchup=False, tags=["streamsets"], doc_md=__doc__):
    start_snapshot = ControlHubRunJobOperator(
        task_id="start_snapshot", job_name="Suppliers snapshot", wait_for_completion=False
    )

    wait_for_snapshot = ControlHubJobRunSensor(
        task_id="wait_for_snapshot",
        job_id=start_snapshot.output["job_id"],
        run_count=start_snapshot.output["run_count"],
        start_from_trigger=True,
        end_from_trigger=True,
        poke_interval=10,
        timeout=3600,
    )

    @task
    def report(run_count: int, outcome: str) -> str:
        """Return the outcome of the run as text."""
        return f"run {run_count}: {outcome}"

    report(wait_for_snapshot.output["run_count"], wait_for_snapshot.output["outcome"])
