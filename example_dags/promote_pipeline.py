"""
Promote a job with its pipeline version from one Control Hub to another, and run it there.

The connection ``streamsets_default`` is the development environment, ``streamsets_production`` the production
environment. The archive can be in an object store: any path supported by Airflow's ``ObjectStoragePath`` works.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_provider_streamsets.operators.archives import ControlHubExportJobsOperator, ControlHubImportJobsOperator
from airflow_provider_streamsets.operators.jobs import ControlHubUpgradeJobsOperator
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator

PRODUCTION = "streamsets_production"

with DAG(
    "streamsets_promote_pipeline",
    schedule=None,
    params={"archive": Param("/tmp/streamsets-promotion.zip", type="string")},  # noqa: S108 - shared by both tasks
    doc_md=__doc__,
    tags=["streamsets"],
):
    export_job = ControlHubExportJobsOperator(
        task_id="export_job",
        job_names=["Release check"],
        path="{{ params.archive }}",
    )

    # Keep settings that were edited in production; take only the pipeline version from the archive.
    import_job = ControlHubImportJobsOperator(
        task_id="import_job",
        path="{{ params.archive }}",
        sha256="{{ ti.xcom_pull(task_ids='export_job')['sha256'] }}",
        update_pipeline=True,
        update_runtime_parameters=False,
        control_hub_conn_id=PRODUCTION,
    )

    # Has no effect if the archive contains the newest pipeline version in production.
    upgrade_job = ControlHubUpgradeJobsOperator(
        task_id="upgrade_job",
        job_ids="{{ ti.xcom_pull(task_ids='import_job', key='job_ids') }}",
        control_hub_conn_id=PRODUCTION,
    )

    run_job = ControlHubRunJobOperator(
        task_id="run_job",
        job_id="{{ ti.xcom_pull(task_ids='import_job', key='job_ids')[0] }}",
        expect=["output_count > 0"],
        poll_interval=10,
        deferrable=True,
        control_hub_conn_id=PRODUCTION,
    )

    export_job >> import_job >> upgrade_job >> run_job
