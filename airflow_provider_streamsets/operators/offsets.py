"""Operators that read, reset and upload the offsets of jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_streamsets import files, params
from airflow_provider_streamsets.control_hub import models
from airflow_provider_streamsets.control_hub.errors import ControlHubConfigurationError
from airflow_provider_streamsets.control_hub.job_state import check_offsets_changeable
from airflow_provider_streamsets.job_selector import find_job, find_jobs, get_job
from airflow_provider_streamsets.operators.base import ControlHubJobOperator, ControlHubJobsOperator
from airflow_provider_streamsets.params import Parameter

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import ControlHubClient, Job, JobOffsets
    from airflow_provider_streamsets.files import FilePath


class ControlHubResetOffsetsOperator(ControlHubJobsOperator):
    """
    Reset the offsets of jobs, with one request for many jobs, so that their next runs read from the start.

    If one of the jobs is active, no offsets are reset. To reset the offsets of a job and run it in the same task, use
    `reset_offsets` of :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator`.

    .. code-block:: python

        ControlHubResetOffsetsOperator(task_id="read_all_again", job_tag="nightly/orders")

    :param job_ids: ids of the jobs: a list of strings, or a string with a JSON list (templated)
    :param job_names: exact names of the jobs, instead of their ids (templated)
    :param job_tag: tag of the jobs without organization, instead of their ids (templated)
    :param search: Control Hub search expression that selects the jobs, instead of their ids (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ids of the jobs; an empty list, with a warning in the log, if no job matches the tag or search
    :raises ControlHubJobStateError: if a job is active, or a job template; nothing is sent
    :raises ControlHubError: on any other API or connection error

    XCom keys besides ``return_value``: ``job_ids``, ``streamsets_job_link`` (first job).
    """

    def execute(self, context: Context) -> list[str]:
        """Check all jobs and reset their offsets."""
        jobs = find_jobs(self, context)
        check_offsets_changeable(jobs)
        job_ids = [job.job_id for job in jobs]
        self.client.offsets.reset(job_ids)
        for job in jobs:
            self.log.info("Job %s: offsets reset.", job.label)
        return job_ids


class ControlHubGetOffsetsOperator(ControlHubJobOperator):
    """
    Return the offsets of a job: those from which its next run continues, or those at the end of a given run.

    A job with several instances has one offset per engine. :class:`ControlHubUploadOffsetOperator` accepts the result
    or the file.

    .. code-block:: python

        ControlHubGetOffsetsOperator(
            task_id="keep_offsets",
            job_name="Orders to warehouse",
            path="s3://aws_default@backups/offsets/orders-{{ (dag_run.logical_date or dag_run.run_after) | ds }}.json",
        )

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param run_count: number of the run; default: the offsets from which the next run continues (templated)
    :param path: JSON file to write the offsets to, instead of returning them, as they can be large: a local path, an
        object storage URL such as ``s3://connection@bucket/key``, or an ``ObjectStoragePath``. An existing file is
        replaced (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``job_id``, ``run_count`` (0 for a job that has never run) and ``engines`` (``engine_id`` and ``offset``
        document of each; empty if there is no offset). With `path`, these are written to the file, and ``job_id``,
        ``run_count``, ``engine_ids`` and ``path`` are returned
    :raises ControlHubNotFoundError: if the job does not exist, or Control Hub does not (or no longer) have the run
    :raises OSError: if the file cannot be written
    :raises ControlHubError: on any other API or connection error

    XCom keys besides ``return_value``: those of the result (unless ``multiple_outputs=False``), ``job_id``,
    ``streamsets_job_link``.
    """

    result_is_dict = True
    run_count = Parameter(params.integer)
    path = Parameter(params.path, optional=True)

    def __init__(self, *, run_count: int | str | None = None, path: FilePath | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.run_count = run_count
        self.path = path

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the offsets."""
        job = find_job(self, context)
        run_count, path = self.rendered.run_count, self.rendered.path
        offsets = _read_offsets(self.client, job, run_count)
        engine_ids = [engine.engine_id for engine in offsets.engines]
        if not engine_ids:
            self.log.info("Job %s%s: no offsets.", job.label, f" run {run_count}" if run_count else "")
        if path is None:
            return offsets.to_dict()
        with files.atomic_write(path) as file:
            file.write(json.dumps(offsets.to_dict(), indent=2).encode())
        self.log.info("Job %s: wrote the offsets of %d engines to '%s'.", job.label, len(engine_ids), path)
        return {"job_id": job.job_id, "run_count": offsets.run_count, "engine_ids": engine_ids, "path": str(path)}


class ControlHubUploadOffsetOperator(ControlHubJobOperator):
    """
    Upload the offset from which the next run of a job continues: a given one, or that of another job or run.

    Exactly one of `offset`, `path`, `from_job_id` and `from_job_name` is required. The offset is validated before it is
    sent. For a job with several instances, it is not documented to which of them Control Hub applies it.

    .. code-block:: python

        ControlHubUploadOffsetOperator(
            task_id="back_to_yesterday",
            job_name="Orders to warehouse",
            from_job_name="Orders to warehouse",
            from_run_count="{{ params.run_count }}",
        )

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param offset: an offset document, ``{"version": 2, "offsets": {"<partition>": "<string or null>"}}``, or the result
        of :class:`ControlHubGetOffsetsOperator`: a dict, or a string with a JSON object (templated)
    :param path: JSON file with one of these: a local path, an object storage URL, or an ``ObjectStoragePath``
        (templated)
    :param from_job_id: id of the job whose offset is copied (templated)
    :param from_job_name: exact name of the job whose offset is copied (templated)
    :param from_run_count: number of the run of that job; default: the offset from which its next run continues
        (templated)
    :param engine_id: engine whose offset is used, if there are several (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``job_id`` and ``offset``, the uploaded document
    :raises ControlHubJobStateError: if the job is active, or a job template; nothing is sent
    :raises ControlHubConfigurationError: if the offset is invalid, if the other job or run has none, or if it has
        several and `engine_id` does not select one; nothing is sent
    :raises OSError: if the file cannot be read
    :raises ControlHubError: on any other API or connection error

    XCom keys besides ``return_value``: those of the result (unless ``multiple_outputs=False``), ``job_id``,
    ``streamsets_job_link``.
    """

    result_is_dict = True
    offset = Parameter(params.json_object)
    path = Parameter(params.path, optional=True)
    from_job_id = Parameter(params.resource_id)
    from_job_name = Parameter()
    from_run_count = Parameter(params.integer)
    engine_id = Parameter(params.string)
    template_fields_renderers: ClassVar[dict[str, str]] = {"offset": "json"}

    def __init__(
        self,
        *,
        offset: Mapping[str, Any] | str | None = None,
        path: FilePath | None = None,
        from_job_id: str | None = None,
        from_job_name: str | None = None,
        from_run_count: int | str | None = None,
        engine_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        params.exactly_one(offset=offset, path=path, from_job_id=from_job_id, from_job_name=from_job_name)
        self.offset = offset
        self.path = path
        self.from_job_id = from_job_id
        self.from_job_name = from_job_name
        self.from_run_count = from_run_count
        self.engine_id = engine_id
        self._check_run_count()

    def _check_run_count(self) -> None:
        if self.from_run_count is not None and self.from_job_id is None and self.from_job_name is None:
            raise ValueError("'from_run_count' requires 'from_job_id' or 'from_job_name'.")

    def execute(self, context: Context) -> dict[str, Any]:
        """Resolve, validate and upload the offset."""
        params.exactly_one(
            offset=self.offset, path=self.path, from_job_id=self.from_job_id, from_job_name=self.from_job_name
        )
        self._check_run_count()
        job = find_job(self, context)
        check_offsets_changeable([job])
        document = self._document()
        self.client.offsets.upload(job.job_id, document)
        self.log.info("Job %s: offset uploaded.", job.label)
        return {"job_id": job.job_id, "offset": document}

    def _document(self) -> dict[str, Any]:
        engine_id = self.rendered.engine_id
        if self.offset is not None:
            return models.document_to_upload(self.rendered.offset, engine_id)
        if self.path is not None:
            return models.document_to_upload(self._read_file(), engine_id)
        source = get_job(self.client, self.from_job_id, self.from_job_name)
        run_count = self.rendered.from_run_count
        run = source.current_run
        if run is not None and not run.has_ended and run_count in (None, run.run_count):
            self.log.warning("Job %s run %d: %s; its offset is not final.", source.label, run.run_count, run.status)
        return models.document_to_upload(_read_offsets(self.client, source, run_count).to_dict(), engine_id)

    def _read_file(self) -> Any:
        path = self.rendered.path
        with files.open_local_copy(path) as file:
            try:
                return json.load(file)
            except ValueError as error:
                raise ControlHubConfigurationError(
                    f"Cannot read an offset from '{path}': it is not JSON ({error}). Nothing was sent."
                ) from None


def _read_offsets(client: ControlHubClient, job: Job, run_count: int | None) -> JobOffsets:
    """Return the offsets at the end of a run; without run count, those from which the next run continues."""
    if run_count is None:
        return models.JobOffsets(job.job_id, job.last_run_count, tuple(client.offsets.current(job.job_id)))
    return models.JobOffsets(job.job_id, run_count, tuple(client.offsets.of_run(job.job_id, run_count)))
