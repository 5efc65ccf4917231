"""Start, stop and delete many jobs at once: here copies of a job, made for the occasion and deleted in any case."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_streamsets.operators.bulk import (
    ControlHubDeleteJobsOperator,
    ControlHubStartJobsOperator,
    ControlHubStopJobsOperator,
)
from airflow_provider_streamsets.operators.jobs import ControlHubDuplicateJobOperator

with DAG("streamsets_many_jobs", schedule=None, catchup=False, tags=["streamsets"], doc_md=__doc__):
    copy_job = ControlHubDuplicateJobOperator(
        task_id="copy_job",
        job_name="Inventory snapshot",
        name="Snapshot {{ run_id }}, part ",
        number_of_copies=3,
    )
    # [START howto_start_jobs]
    start_jobs = ControlHubStartJobsOperator(
        task_id="start_jobs",
        search='name=="Snapshot {{ run_id }}, part *"',
        wait_for_completion=False,
    )
    # [END howto_start_jobs]
    # [START howto_stop_jobs]
    stop_jobs = ControlHubStopJobsOperator(
        task_id="stop_jobs",
        job_ids=copy_job.output,
        force_after=120,
        poll_interval=5,
        deferrable=True,
    )
    # [END howto_stop_jobs]
    # [START howto_delete_jobs]
    delete_jobs = ControlHubDeleteJobsOperator(
        task_id="delete_jobs",
        job_ids=copy_job.output,
        stop_first=True,
        acknowledge_errors=True,
    )
    # [END howto_delete_jobs]
    copy_job >> start_jobs >> stop_jobs >> delete_jobs.as_teardown(setups=copy_job)
