"""Create a job, update it, upgrade it to the newest version of its pipeline, duplicate it, and list the jobs."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_streamsets.operators.jobs import (
    ControlHubCreateJobOperator,
    ControlHubDuplicateJobOperator,
    ControlHubListJobsOperator,
    ControlHubUpdateJobOperator,
    ControlHubUpgradeJobsOperator,
)

with DAG("streamsets_create_and_change_jobs", schedule=None, catchup=False, tags=["streamsets"], doc_md=__doc__):
    # [START howto_create_job]
    create = ControlHubCreateJobOperator(
        task_id="create_job",
        job_name="Orders of the north",
        pipeline_name="Orders to warehouse",
        pipeline_version=1,
        runtime_parameters={"SOURCE_DIR": "/data/north"},
        engine_labels=["prod"],
        job_tags=["regional/north"],
        if_exists="skip",
    )
    # [END howto_create_job]
    # [START howto_update_job]
    update = ControlHubUpdateJobOperator(
        task_id="use_released_version",
        job_id=create.output,
        pipeline_tag="released",
        runtime_parameters={"SOURCE_DIR": "/data/north", "BATCH_SIZE": "5000"},
        statistics_interval=30,
    )
    # [END howto_update_job]
    # [START howto_upgrade_jobs]
    upgrade = ControlHubUpgradeJobsOperator(task_id="upgrade_job", job_ids=[create.output])
    # [END howto_upgrade_jobs]
    # [START howto_duplicate_job]
    duplicate = ControlHubDuplicateJobOperator(
        task_id="copy_job",
        job_id=create.output,
        name="Orders of {{ run_id }}, ",
        number_of_copies=2,
    )
    # [END howto_duplicate_job]
    # [START howto_list_jobs]
    list_jobs = ControlHubListJobsOperator(
        task_id="list_jobs",
        name_starts_with="Orders of",
        result="summaries",
    )
    # [END howto_list_jobs]
    create >> update >> upgrade >> duplicate >> list_jobs
