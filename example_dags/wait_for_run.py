"""Wait for a run started by another task or by Control Hub's scheduler."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor

with DAG("streamsets_wait_for_run", schedule=None, catchup=False, tags=["streamsets"], doc_md=__doc__):
    start = ControlHubRunJobOperator(
        task_id="start_snapshot",
        job_name="Prices snapshot",
        wait_for_completion=False,
    )
    # [START howto_wait_for_run]
    wait = ControlHubJobRunSensor(
        task_id="wait_for_snapshot",
        job_id="{{ ti.xcom_pull('start_snapshot', key='job_id') }}",
        run_count="{{ ti.xcom_pull('start_snapshot', key='run_count') }}",
        mode="reschedule",
        poke_interval=15,
        timeout=600,
    )
    # [END howto_wait_for_run]
    # [START howto_wait_for_scheduled_run]
    # In a DAG with a schedule: started_after="{{ data_interval_end }}"
    wait_for_first_run = ControlHubJobRunSensor(
        task_id="wait_for_first_run",
        job_name="Prices snapshot",
        started_after="{{ dag_run.run_after }}",
        deferrable=True,
        poke_interval=15,
        timeout=600,
    )
    # [END howto_wait_for_scheduled_run]
    start >> wait
