"""Run a streaming job for a limited time: start it, wait, and stop it."""

from __future__ import annotations

import datetime

from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.sdk import DAG

from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator, ControlHubStopJobOperator

with DAG("streamsets_stop_job", schedule=None, catchup=False, tags=["streamsets"], doc_md=__doc__):
    start = ControlHubRunJobOperator(
        task_id="start_clickstream",
        job_name="Clickstream to lake",
        wait_for_completion=False,
    )
    let_it_run = TimeDeltaSensor(task_id="let_it_run", delta=datetime.timedelta(seconds=10), poke_interval=5)
    # [START howto_stop_job]
    stop = ControlHubStopJobOperator(
        task_id="stop_clickstream",
        job_name="Clickstream to lake",
        poll_interval=2,
    )
    # [END howto_stop_job]
    start >> let_it_run >> stop
