"""Wait until a streaming job has written enough records, then start the job that needs them."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator, ControlHubStopJobOperator
from airflow_provider_streamsets.sensors.metrics import ControlHubJobMetricSensor

with DAG("streamsets_metric_gate", schedule=None, catchup=False, tags=["streamsets"], doc_md=__doc__):
    start = ControlHubRunJobOperator(
        task_id="start_clickstream",
        job_name="Ad clicks to lake",
        wait_for_completion=False,
    )
    # [START howto_metric_gate]
    enough_clicks = ControlHubJobMetricSensor(
        task_id="enough_clicks",
        job_id="{{ ti.xcom_pull('start_clickstream', key='job_id') }}",
        run_count="{{ ti.xcom_pull('start_clickstream', key='run_count') }}",
        expect=["output_count >= 10000", "error_ratio < 0.01"],
        deferrable=True,
        poke_interval=5,
        timeout=600,
    )
    # [END howto_metric_gate]
    check = ControlHubRunJobOperator(
        task_id="check_clicks",
        job_name="Ad clicks check",
        deferrable=True,
        poll_interval=5,
    )
    stop = ControlHubStopJobOperator(
        task_id="stop_clickstream",
        job_name="Ad clicks to lake",
        poll_interval=5,
    )
    start >> enough_clicks >> check >> stop.as_teardown(setups=start)
