"""Operators that export jobs to an archive, and import them from one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets import files, params
from airflow_provider_streamsets.operators.base import ControlHubJobsOperator, ControlHubOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.files import FilePath

_FLAGS = (
    "update_pipeline",
    "update_number_of_instances",
    "update_runtime_parameters",
    "update_engine_labels",
    "update_failover",
)


class ControlHubExportJobsOperator(ControlHubJobsOperator):
    """
    Export Control Hub jobs, with the pipeline versions that they run, as a zip archive.

    The archive holds no secrets of connections. It appears under its name when it is complete, and is never held in
    memory; an archive for an object store is first written to a temporary file on the worker. Job templates can be
    exported, by id; instances that are attached to a job template cannot.

    .. code-block:: python

        ControlHubExportJobsOperator(
            task_id="export_jobs",
            job_tag="nightly/orders",
            path="s3://aws_default@backups/streamsets/jobs-{{ (dag_run.logical_date or dag_run.run_after) | ds }}.zip",
        )

    :param path: where the archive goes: a local path, the URL of a file in a store that Airflow's object storage
        reaches, or an ``ObjectStoragePath``. The folder of a local path must exist (templated)
    :param overwrite: replace the file if it exists (templated)
    :param job_ids: ids of the jobs and job templates: a list of texts, or a text holding a JSON list (templated)
    :param job_names: exact names of the jobs: a list of texts, or a text holding a JSON list (templated)
    :param job_tag: tag of the jobs, without organization, for example ``nightly/orders`` (templated)
    :param search: search of Control Hub that finds the jobs, for example
        ``name=="orders*" and status=="INACTIVE"`` (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``path``, ``size`` (bytes), ``sha256``, and ``jobs``: for each ``job_id`` and ``job_name``
    :raises ControlHubNotFoundError: if there is no job to export, or one named by id or name does not exist
    :raises ControlHubJobStateError: if jobs are attached to a job template; the message names them, nothing was sent
    :raises FileExistsError: if the file exists and is not to be overwritten
    :raises OSError: if the file cannot be written
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: those of the result (unless ``multiple_outputs=False``), ``job_ids``,
    ``streamsets_job_link`` (of the first job), ``path``, ``sha256``.
    """

    result_is_dict = True
    template_fields: Sequence[str] = ("path", "overwrite", *ControlHubJobsOperator.template_fields)

    def __init__(self, *, path: FilePath, overwrite: bool | str = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        params.path(path, "path")
        params.boolean(overwrite, "overwrite")
        self.path = path
        self.overwrite = overwrite

    def execute(self, context: Context) -> dict[str, Any]:
        """Export the jobs."""
        from airflow_provider_streamsets.control_hub import ControlHubNotFoundError
        from airflow_provider_streamsets.control_hub.archives import check_exportable

        path = params.path(self.path, "path", rendered=True)
        overwrite = params.boolean(self.overwrite, "overwrite", rendered=True)
        jobs = self.find_jobs(context)
        if not jobs:
            raise ControlHubNotFoundError("There is no job to export; nothing was written.")
        check_exportable(jobs)
        with files.atomic_write(path, overwrite=overwrite) as target:
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
    Import Control Hub jobs from an archive that an export has written, with the pipeline versions that they run.

    Jobs keep their ids: those that Control Hub does not have are created, the others are updated as far as the flags
    say. Tags are always imported. So to import once more, as a retry does, has the same result, apart from overwriting
    what was edited meanwhile.

    .. code-block:: python

        ControlHubImportJobsOperator(
            task_id="import_jobs",
            control_hub_conn_id="streamsets_test",
            path=export_jobs.output["path"],
            sha256=export_jobs.output["sha256"],
        )

    :param path: where the archive is: a local path, the URL of a file in a store that Airflow's object storage reaches
        (it is then first copied to a temporary file on the worker), or an ``ObjectStoragePath`` (templated)
    :param sha256: SHA-256 that the archive must have, in hexadecimal digits (templated)
    :param update_pipeline: of jobs that exist, update the pipeline version (templated)
    :param update_number_of_instances: of jobs that exist, update the number of pipeline instances (templated)
    :param update_runtime_parameters: of jobs that exist, update the runtime parameters (templated)
    :param update_engine_labels: of jobs that exist, update the engine labels (templated)
    :param update_failover: of jobs that exist, update whether failover is enabled (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: for each job of the archive ``job_id``, ``job_name`` and ``pipeline_version``
    :raises ControlHubConfigurationError: if the file is no zip archive, or one of pipelines, or not the one of
        `sha256`; nothing was sent
    :raises OSError: if the file cannot be read
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: ``job_ids``, ``streamsets_job_link`` (of the first job).
    """

    template_fields: Sequence[str] = (
        "path",
        "sha256",
        *_FLAGS,
        *ControlHubOperator.template_fields,
    )

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
        params.path(path, "path")
        params.sha256(sha256, "sha256")
        self.path = path
        self.sha256 = sha256
        self.update_pipeline = update_pipeline
        self.update_number_of_instances = update_number_of_instances
        self.update_runtime_parameters = update_runtime_parameters
        self.update_engine_labels = update_engine_labels
        self.update_failover = update_failover
        self._checked_flags(rendered=False)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Import the jobs."""
        from airflow_provider_streamsets.control_hub import ControlHubConfigurationError

        path = params.path(self.path, "path", rendered=True)
        sha256 = params.sha256(self.sha256, "sha256", rendered=True)
        flags = self._checked_flags(rendered=True)
        with files.open_local_copy(path) as archive:
            if sha256 is not None and (found := files.sha256_of(archive)) != sha256:
                raise ControlHubConfigurationError(
                    f"'{path}' is not the archive that is to be imported: its SHA-256 is {found}, and not {sha256}. "
                    "Nothing was sent."
                )
            imported = self.client.archives.import_jobs(archive, **flags)
        self.log.info("Imported %d jobs from '%s'.", len(imported), path)
        for job in imported:
            self.log.info("Job '%s' (%s) runs version %s of its pipeline.", job.name, job.job_id, job.pipeline_version)
        self.push_jobs(context, [job.job_id for job in imported])
        return [
            {"job_id": job.job_id, "job_name": job.name, "pipeline_version": job.pipeline_version} for job in imported
        ]

    def _checked_flags(self, *, rendered: bool) -> dict[str, Any]:
        return {name: params.boolean(getattr(self, name), name, rendered=rendered) for name in _FLAGS}
