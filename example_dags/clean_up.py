"""
Stop jobs whose runs take too long, and delete jobs that finished long ago.

To be repeatable, the DAG creates its own jobs, and its default limits are zero. In production, omit the first two
tasks, select jobs by ``job_tag`` or ``template_id``, and set the parameters.
"""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.sdk import DAG, Param, task

from airflow_provider_streamsets.operators.bulk import (
    ControlHubDeleteJobsOperator,
    ControlHubStartJobsOperator,
    ControlHubStopJobsOperator,
)
from airflow_provider_streamsets.operators.jobs import ControlHubDuplicateJobOperator, ControlHubListJobsOperator

with DAG(
    "streamsets_clean_up",
    schedule=None,
    catchup=False,
    params={
        "run_hours": Param(0, type="number", description="Maximum duration of a run in hours"),
        "kept_days": Param(0, type="number", description="Days to keep a job after the end of its run"),
    },
    tags=["streamsets"],
    doc_md=__doc__,
):
    copies = ControlHubDuplicateJobOperator(
        task_id="copy_job",
        job_name="Web logs to lake",
        name="Old web logs ",
        number_of_copies=2,
    )
    start = ControlHubStartJobsOperator(
        task_id="start",
        job_ids=copies.output,
        wait_for="active",
        deferrable=True,
        poll_interval=5,
    )
    # [START howto_stop_overdue_jobs]
    active = ControlHubListJobsOperator(
        task_id="list_active",
        name_starts_with="Old web logs ",
        status="ACTIVE",
        result="summaries",
    )

    @task
    def overdue(jobs: list[dict[str, Any]], params: dict[str, Any]) -> list[str]:
        """Return the ids of jobs whose runs exceed the maximum duration."""
        latest = pendulum.now("UTC").subtract(seconds=int(params["run_hours"] * 3600))
        return [job["job_id"] for job in jobs if job["start_time"] and pendulum.parse(job["start_time"]) < latest]

    stop = ControlHubStopJobsOperator(
        task_id="stop_overdue",
        job_ids=overdue(active.output),
        force_stop_after=60,
        deferrable=True,
        poll_interval=5,
    )
    # [END howto_stop_overdue_jobs]
    # [START howto_delete_old_jobs]
    ended = ControlHubListJobsOperator(
        task_id="list_ended",
        name_starts_with="Old web logs ",
        status="INACTIVE",
        result="summaries",
    )

    @task
    def old(jobs: list[dict[str, Any]], params: dict[str, Any]) -> list[str]:
        """Return the ids of jobs whose runs finished before the retention limit; jobs that never ran are kept."""
        latest = pendulum.now("UTC").subtract(seconds=int(params["kept_days"] * 86400))
        return [job["job_id"] for job in jobs if job["finish_time"] and pendulum.parse(job["finish_time"]) < latest]

    delete = ControlHubDeleteJobsOperator(task_id="delete_old", job_ids=old(ended.output))
    # [END howto_delete_old_jobs]
    copies >> start >> active
    stop >> ended
