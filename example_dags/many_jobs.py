"""
Start, stop and delete many jobs at once, with one request for each operation, regardless of the number of jobs.

To be repeatable, the DAG duplicates a job and deletes the copies at the end, even after a failure. In production,
select existing jobs with ``job_tag``, ``job_names`` or ``search``.
"""

from __future__ import annotations

import datetime

from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.sdk import DAG

from airflow_provider_streamsets.operators.bulk import (
    ControlHubDeleteJobsOperator,
    ControlHubStartJobsOperator,
    ControlHubStopJobsOperator,
)
from airflow_provider_streamsets.operators.jobs import ControlHubDuplicateJobOperator

with DAG("streamsets_many_jobs", schedule=None, catchup=False, tags=["streamsets"], doc_md=__doc__):
    copies = ControlHubDuplicateJobOperator(
        task_id="copy_job",
        job_name="Web logs to lake",
        name="Web logs test ",
        number_of_copies=3,
    )
    # [START howto_start_jobs]
    start = ControlHubStartJobsOperator(
        task_id="start_streams",
        job_ids=copies.output,
        # Streaming jobs do not end by themselves. If an engine rejects one, it stays RED and reports the reason.
        wait_for="active",
        fail_on_red_after=120,
        deferrable=True,
        poll_interval=5,
    )
    # [END howto_start_jobs]
    let_them_run = TimeDeltaSensor(task_id="let_them_run", delta=datetime.timedelta(seconds=10), poke_interval=5)
    # [START howto_stop_jobs]
    stop = ControlHubStopJobsOperator(
        task_id="stop_streams",
        job_ids=copies.output,
        force_stop_after=60,
        deferrable=True,
        poll_interval=5,
    )
    # [END howto_stop_jobs]
    # [START howto_delete_jobs]
    delete = ControlHubDeleteJobsOperator(
        task_id="delete_streams",
        job_ids=copies.output,
        stop_first=True,
        acknowledge_errors=True,
    )
    # [END howto_delete_jobs]
    # A teardown task always runs and does not mask earlier failures.
    start >> let_them_run >> stop >> delete.as_teardown(setups=copies)
