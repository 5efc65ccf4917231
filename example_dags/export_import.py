"""Export jobs to an archive and import them again: here into the same Control Hub, or through another connection."""

from __future__ import annotations

import os
import tempfile

from airflow.sdk import DAG

from airflow_provider_streamsets.operators.archives import ControlHubExportJobsOperator, ControlHubImportJobsOperator

# A URL such as s3://aws_default@backups/... also works.
ARCHIVE = os.path.join(tempfile.gettempdir(), "streamsets-returns-jobs.zip")

with DAG("streamsets_export_import", schedule=None, catchup=False, tags=["streamsets"], doc_md=__doc__):
    # [START howto_export_jobs]
    export_jobs = ControlHubExportJobsOperator(task_id="export_jobs", job_tag="returns", path=ARCHIVE)
    # [END howto_export_jobs]
    # [START howto_import_jobs]
    import_jobs = ControlHubImportJobsOperator(
        task_id="import_jobs",
        path=export_jobs.output["path"],
        sha256=export_jobs.output["sha256"],
        update_runtime_parameters=True,
    )
    # [END howto_import_jobs]
