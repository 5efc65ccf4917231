"""Operators that export jobs to archives and import jobs from archives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets import files, params
from airflow_provider_streamsets.control_hub.errors import ControlHubConfigurationError, ControlHubNotFoundError
from airflow_provider_streamsets.control_hub.job_state import check_exportable
from airflow_provider_streamsets.job_selector import find_jobs
from airflow_provider_streamsets.operators.base import ControlHubJobsOperator, ControlHubOperator
from airflow_provider_streamsets.params import Parameter

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.files import FilePath


class ControlHubExportJobsOperator(ControlHubJobsOperator):
    """
    Export Control Hub jobs, with their pipeline versions, to a zip archive.

    The archive contains no secrets of connections. It is written atomically and streamed; an archive for an object
    store is first written to a temporary file on the worker. Job templates can be exported by id, instances that are
    attached to a job template cannot.

    .. code-block:: python

        ControlHubExportJobsOperator(
            task_id="export_jobs",
            job_tag="nightly/orders",
            path="s3://aws_default@backups/streamsets/jobs-{{ (dag_run.logical_date or dag_run.run_after) | ds }}.zip",
        )

    :param path: target of the archive: a local path, an object storage URL such as ``s3://connection@bucket/key``, or
        an ``ObjectStoragePath``. The directory of a local path must exist (templated)
    :param overwrite: replace the file if it exists (templated)
    :param job_ids: ids of the jobs and job templates: a list of strings, or a string with a JSON list (templated)
    :param job_names: exact names of the jobs: a list of strings, or a string with a JSON list (templated)
    :param job_tag: tag of the jobs without organization, for example ``nightly/orders`` (templated)
    :param search: Control Hub search expression that selects the jobs, for example ``name=="orders*" and
        status=="INACTIVE"`` (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``path``, ``size`` (bytes), ``sha256``, and ``jobs`` (``job_id`` and ``job_name`` of each)
    :raises ControlHubNotFoundError: if no job is selected, or a job given by id or name does not exist
    :raises ControlHubJobStateError: if jobs are attached to a job template; nothing is sent
    :raises FileExistsError: if the file exists and `overwrite` is false
    :raises OSError: if the file cannot be written
    :raises ControlHubError: on any other API or connection error

    XCom keys besides ``return_value``: those of the result (unless ``multiple_outputs=False``), ``job_ids``,
    ``streamsets_job_link`` (first job), ``path``, ``sha256``.
    """

    result_is_dict = True
    path = Parameter(params.path)
    overwrite = Parameter(params.boolean)
    template_fields: Sequence[str] = ("path", "overwrite", *ControlHubJobsOperator.template_fields)

    def __init__(self, *, path: FilePath, overwrite: bool | str = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.overwrite = overwrite

    def execute(self, context: Context) -> dict[str, Any]:
        """Export the jobs."""
        jobs = find_jobs(self, context)
        path = self.rendered.path
        if not jobs:
            raise ControlHubNotFoundError("Cannot export jobs: no job matches the selection. Nothing was written.")
        check_exportable(jobs)
        with files.atomic_write(path, overwrite=self.rendered.overwrite) as target:
            archive = self.client.archives.export_jobs([job.job_id for job in jobs], target)
        self.log.info("Exported %d jobs to '%s' (%d bytes).", len(jobs), path, archive.size)
        context["ti"].xcom_push(key="path", value=str(path))
        context["ti"].xcom_push(key="sha256", value=archive.sha256)
        return {
            "path": str(path),
            "size": archive.size,
            "sha256": archive.sha256,
            "jobs": [{"job_id": job.job_id, "job_name": job.name} for job in jobs],
        }


class ControlHubImportJobsOperator(ControlHubOperator):
    """
    Import Control Hub jobs, with their pipeline versions, from an exported archive.

    Jobs keep their ids: new ones are created, existing ones are updated as the flags specify. Tags are always imported.
    A retry of the import is idempotent, but overwrites changes that were made in between.

    .. code-block:: python

        ControlHubImportJobsOperator(
            task_id="import_jobs",
            control_hub_conn_id="streamsets_test",
            path=export_jobs.output["path"],
            sha256=export_jobs.output["sha256"],
        )

    :param path: the archive: a local path, an object storage URL, or an ``ObjectStoragePath``; an archive in an object
        store is first copied to a temporary file on the worker (templated)
    :param sha256: expected SHA-256 digest of the archive, in hexadecimal digits (templated)
    :param update_pipeline: update the pipeline version of existing jobs (templated)
    :param update_number_of_instances: update the number of pipeline instances of existing jobs (templated)
    :param update_runtime_parameters: update the runtime parameters of existing jobs (templated)
    :param update_engine_labels: update the engine labels of existing jobs (templated)
    :param update_failover: update the failover setting of existing jobs (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``job_id``, ``job_name`` and ``pipeline_version`` of each job in the archive
    :raises ControlHubConfigurationError: if the file is no zip archive of jobs, or does not match `sha256`; nothing is
        sent
    :raises OSError: if the file cannot be read
    :raises ControlHubError: on any other API or connection error

    XCom keys besides ``return_value``: ``job_ids``, ``streamsets_job_link`` (first job).
    """

    path = Parameter(params.path, first=True)
    sha256 = Parameter(params.sha256, first=True)
    update_pipeline = Parameter(params.boolean, first=True)
    update_number_of_instances = Parameter(params.boolean, first=True)
    update_runtime_parameters = Parameter(params.boolean, first=True)
    update_engine_labels = Parameter(params.boolean, first=True)
    update_failover = Parameter(params.boolean, first=True)

    def __init__(
        self,
        *,
        path: FilePath,
        sha256: str | None = None,
        update_pipeline: bool | str = True,
        update_number_of_instances: bool | str = False,
        update_runtime_parameters: bool | str = False,
        update_engine_labels: bool | str = False,
        update_failover: bool | str = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.sha256 = sha256
        self.update_pipeline = update_pipeline
        self.update_number_of_instances = update_number_of_instances
        self.update_runtime_parameters = update_runtime_parameters
        self.update_engine_labels = update_engine_labels
        self.update_failover = update_failover

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Import the jobs."""
        self.check_parameters()
        rendered = self.rendered
        path, sha256 = rendered.path, rendered.sha256
        with files.open_local_copy(path) as archive:
            if sha256 is not None and (actual := files.sha256_of(archive)) != sha256:
                raise ControlHubConfigurationError(
                    f"Cannot import '{path}': its SHA-256 is {actual}, expected {sha256}. Nothing was sent."
                )
            imported = self.client.archives.import_jobs(
                archive,
                update_pipeline=rendered.update_pipeline,
                update_number_of_instances=rendered.update_number_of_instances,
                update_runtime_parameters=rendered.update_runtime_parameters,
                update_engine_labels=rendered.update_engine_labels,
                update_failover=rendered.update_failover,
            )
        self.log.info("Imported %d jobs from '%s'.", len(imported), path)
        for job in imported:
            self.log.info(
                "Job '%s' (%s): imported with pipeline version %s.", job.name, job.job_id, job.pipeline_version
            )
        self.push_jobs(context, [job.job_id for job in imported])
        return [
            {"job_id": job.job_id, "job_name": job.name, "pipeline_version": job.pipeline_version} for job in imported
        ]
