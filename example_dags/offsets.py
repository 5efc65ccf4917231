"""
Manage offsets: a weekly full reload, and a job that continues from the offset of another job.

The first DAG resets the offset of a job every week, so that the next run reads all data again. If that run fails, the
DAG restores the previous offset, and the following runs continue from there.

The second DAG duplicates a job with its offset, for example to test a new version without reading all data again, and
deletes the copy afterwards.
"""

from __future__ import annotations

from airflow.sdk import DAG, task

from airflow_provider_streamsets.operators.bulk import ControlHubDeleteJobsOperator
from airflow_provider_streamsets.operators.jobs import ControlHubDuplicateJobOperator
from airflow_provider_streamsets.operators.offsets import (
    ControlHubGetOffsetsOperator,
    ControlHubResetOffsetsOperator,
    ControlHubUploadOffsetOperator,
)
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator

with DAG(
    "streamsets_weekly_full_reload",
    schedule="@weekly",
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    tags=["streamsets"],
    doc_md=__doc__,
):
    # [START howto_full_reload]
    keep_offset = ControlHubGetOffsetsOperator(task_id="keep_offset", job_name="Regional orders - 1")
    reset_offsets = ControlHubResetOffsetsOperator(task_id="reset_offsets", job_names=["Regional orders - 1"])
    reload = ControlHubRunJobOperator(
        task_id="reload",
        job_name="Regional orders - 1",
        deferrable=True,
        poll_interval=5,
    )
    put_offset_back = ControlHubUploadOffsetOperator(
        task_id="put_offset_back",
        job_name="Regional orders - 1",
        offset=keep_offset.output,
        trigger_rule="one_failed",
    )

    @task
    def use_reloaded_records() -> None:
        """Placeholder for downstream tasks; it does not run if the reload fails, so the DAG run fails."""

    keep_offset >> reset_offsets >> reload >> [put_offset_back, use_reloaded_records()]
    # [END howto_full_reload]

with DAG("streamsets_copy_offset", schedule=None, catchup=False, tags=["streamsets"], doc_md=__doc__):
    copy_job = ControlHubDuplicateJobOperator(
        task_id="copy_job",
        job_name="Web orders to warehouse",
        name="Web orders to warehouse, on trial",
    )
    # [START howto_copy_offset]
    copy_offset = ControlHubUploadOffsetOperator(
        task_id="copy_offset",
        job_id="{{ ti.xcom_pull('copy_job')[0] }}",
        from_job_name="Web orders to warehouse",
    )
    # [END howto_copy_offset]
    try_copy = ControlHubRunJobOperator(
        task_id="try_copy",
        job_id="{{ ti.xcom_pull('copy_job')[0] }}",
        deferrable=True,
        poll_interval=5,
    )
    delete_copy = ControlHubDeleteJobsOperator(task_id="delete_copy", job_ids=copy_job.output, stop_first=True)
    copy_job >> copy_offset >> try_copy >> delete_copy.as_teardown(setups=copy_job)
