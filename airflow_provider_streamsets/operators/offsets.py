"""Operators that read and change where jobs continue reading from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_streamsets import files, params
from airflow_provider_streamsets.job_selector import get_job
from airflow_provider_streamsets.operators.base import ControlHubJobOperator, ControlHubJobsOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_streamsets.control_hub import ControlHubClient, Job, JobOffsets
    from airflow_provider_streamsets.files import FilePath


class ControlHubResetOffsetsOperator(ControlHubJobsOperator):
    """
    Forget where jobs stopped reading, in one request for many, so that their next runs read from the start.

    All jobs are checked before: if one of them is active, the offsets of none are reset. To reset the offset of one job
    and run it in the same task, there is the parameter `reset_offsets` of
    :class:`~airflow_provider_streamsets.operators.runs.ControlHubRunJobOperator`.

    .. code-block:: python

        ControlHubResetOffsetsOperator(task_id="read_all_again", job_tag="nightly/orders")

    :param job_ids: ids of the jobs: a list of texts, or a text holding a JSON list (templated)
    :param job_names: exact names of the jobs, instead (templated)
    :param job_tag: tag of the jobs, without organization, instead (templated)
    :param search: search of Control Hub that finds the jobs, instead (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ids of the jobs; an empty list, and a warning in the log, if a tag or a search finds no job
    :raises ControlHubJobStateError: if a job is active, or a job template; nothing was sent
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: ``job_ids``, ``streamsets_job_link`` (of the first).
    """

    def execute(self, context: Context) -> list[str]:
        """Check all jobs, and reset their offsets."""
        from airflow_provider_streamsets.control_hub.offsets import check_offsets_changeable

        jobs = self.find_jobs(context)
        check_offsets_changeable(jobs)
        job_ids = [job.job_id for job in jobs]
        self.client.offsets.reset(job_ids)
        for job in jobs:
            self.log.info("Reset the offsets of job %s.", job.label)
        return job_ids


class ControlHubGetOffsetsOperator(ControlHubJobOperator):
    """
    Return the offsets of a job: where its next run continues reading from, or where one of its runs has stopped.

    A job with several instances has one for each engine. What it returns, or writes to a file, is what
    :class:`ControlHubUploadOffsetOperator` takes.

    .. code-block:: python

        ControlHubGetOffsetsOperator(
            task_id="keep_offsets",
            job_name="Orders to warehouse",
            path="s3://aws_default@backups/offsets/orders-{{ (dag_run.logical_date or dag_run.run_after) | ds }}.json",
        )

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param run_count: number of the run that has left the offsets; None is where the next run continues (templated)
    :param path: write the offsets to this file as JSON instead of returning them, as they can be large: a local path,
        the URL of a file in a store that Airflow's object storage reaches, or an ``ObjectStoragePath``. A file of that
        name is replaced (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``job_id``, ``run_count`` (0 for a job that has never run) and ``engines``: for each ``engine_id`` and
        ``offset``, the document; an empty list if there is no offset. With `path`, that is what the file holds, and
        ``job_id``, ``run_count``, ``engine_ids`` and ``path`` are returned
    :raises ControlHubNotFoundError: if there is no such job, or Control Hub does not (or no longer) know the run
    :raises OSError: if the file cannot be written
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: those of the result (unless ``multiple_outputs=False``), ``job_id``,
    ``streamsets_job_link``.
    """

    result_is_dict = True
    template_fields: Sequence[str] = (*ControlHubJobOperator.template_fields, "run_count", "path")

    def __init__(self, *, run_count: int | str | None = None, path: FilePath | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        params.integer(run_count, "run_count")
        _optional_path(path, rendered=False)
        self.run_count = run_count
        self.path = path

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the offsets."""
        run_count = params.integer(self.run_count, "run_count", rendered=True)
        path = _optional_path(self.path, rendered=True)
        job = self.find_job(context)
        offsets = _offsets_of(self.client, job, run_count)
        engine_ids = [engine.engine_id for engine in offsets.engines]
        if not engine_ids:
            self.log.info(
                "Control Hub has no offset of %sjob %s.", f"run {run_count} of " if run_count else "", job.label
            )
        if path is None:
            return offsets.to_dict()
        with files.atomic_write(path) as file:
            file.write(json.dumps(offsets.to_dict(), indent=2).encode())
        self.log.info("Wrote the offsets of job %s on %d engines to '%s'.", job.label, len(engine_ids), path)
        return {"job_id": job.job_id, "run_count": offsets.run_count, "engine_ids": engine_ids, "path": str(path)}


class ControlHubUploadOffsetOperator(ControlHubJobOperator):
    """
    Set where the next run of a job continues reading from: to a given offset, or to that of another job or run.

    Exactly one of `offset`, `path`, `from_job_id` and `from_job_name` has to be given. The offset is checked before it
    is sent. For a job with several instances, Control Hub does not say which of them an uploaded offset is for.

    .. code-block:: python

        ControlHubUploadOffsetOperator(
            task_id="back_to_yesterday",
            job_name="Orders to warehouse",
            from_job_name="Orders to warehouse",
            from_run_count="{{ params.run_count }}",
        )

    :param job_id: id of the job (templated)
    :param job_name: exact name of the job, instead of its id (templated)
    :param offset: an offset document, ``{"version": 2, "offsets": {"<partition>": "<string or null>"}}``, or what
        :class:`ControlHubGetOffsetsOperator` returns: a dict, or a text holding a JSON object (templated)
    :param path: a file that holds one of these, instead: a local path, the URL of a file in a store that Airflow's
        object storage reaches, or an ``ObjectStoragePath`` (templated)
    :param from_job_id: id of the job whose offset is taken, instead (templated)
    :param from_job_name: exact name of the job whose offset is taken, instead (templated)
    :param from_run_count: number of the run of that job that has left the offset; None is where its next run continues
        (templated)
    :param engine_id: the engine whose offset is taken, where there are those of several (templated)
    :param control_hub_conn_id: id of the Airflow connection (templated)

    :returns: ``job_id`` and ``offset``, the document that was uploaded
    :raises ControlHubJobStateError: if the job is active, or a job template; nothing was sent
    :raises ControlHubConfigurationError: if it is no offset that can be uploaded, if the other job or run has none, or
        if there are those of several engines; nothing was sent
    :raises OSError: if the file cannot be read
    :raises ControlHubError: for everything else that Control Hub or the connection to it can do

    XCom keys besides ``return_value``: those of the result (unless ``multiple_outputs=False``), ``job_id``,
    ``streamsets_job_link``.
    """

    result_is_dict = True
    template_fields: Sequence[str] = (
        *ControlHubJobOperator.template_fields,
        "offset",
        "path",
        "from_job_id",
        "from_job_name",
        "from_run_count",
        "engine_id",
    )
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
        self.offset = offset
        self.path = path
        self.from_job_id = from_job_id
        self.from_job_name = from_job_name
        self.from_run_count = from_run_count
        self.engine_id = engine_id
        self._check(rendered=False)

    def _check(self, *, rendered: bool) -> None:
        params.exactly_one(
            offset=self.offset, path=self.path, from_job_id=self.from_job_id, from_job_name=self.from_job_name
        )
        if self.from_run_count is not None and self.from_job_id is None and self.from_job_name is None:
            raise ValueError("'from_run_count' is for 'from_job_id' and 'from_job_name'.")
        params.resource_id(self.from_job_id, "from_job_id", rendered=rendered)
        params.json_object(self.offset, "offset", rendered=rendered)
        _optional_path(self.path, rendered=rendered)
        params.integer(self.from_run_count, "from_run_count", rendered=rendered)
        params.string(self.engine_id, "engine_id", rendered=rendered)

    def execute(self, context: Context) -> dict[str, Any]:
        """Find and check the offset, and upload it."""
        from airflow_provider_streamsets.control_hub.offsets import check_offsets_changeable

        self._check(rendered=True)
        job = self.find_job(context)
        check_offsets_changeable([job])
        document = self._document()
        self.client.offsets.upload(job.job_id, document)
        self.log.info("Uploaded an offset to job %s.", job.label)
        return {"job_id": job.job_id, "offset": document}

    def _document(self) -> dict[str, Any]:
        from airflow_provider_streamsets.control_hub.models import document_to_upload

        engine_id = params.string(self.engine_id, "engine_id", rendered=True)
        if self.offset is not None:
            return document_to_upload(params.json_object(self.offset, "offset", rendered=True), engine_id)
        if self.path is not None:
            return document_to_upload(self._content(), engine_id)
        source = self._source()
        run_count = params.integer(self.from_run_count, "from_run_count", rendered=True)
        run = source.current_run
        if run is not None and not run.has_ended and run_count in (None, run.run_count):
            self.log.warning("Job %s is %s: its offset is still moving.", source.label, run.status)
        return document_to_upload(_offsets_of(self.client, source, run_count).to_dict(), engine_id)

    def _source(self) -> Job:
        return get_job(self.client, self.from_job_id, self.from_job_name)

    def _content(self) -> Any:
        from airflow_provider_streamsets.control_hub import ControlHubConfigurationError

        path = _optional_path(self.path, rendered=True)
        with files.open_local_copy(path) as file:
            try:
                return json.load(file)
            except ValueError as error:
                raise ControlHubConfigurationError(f"'{path}' holds no JSON, and so no offset: {error}") from None


def _offsets_of(client: ControlHubClient, job: Job, run_count: int | None) -> JobOffsets:
    """Return the offsets that a run has left; without run count, those that the job's next run continues from."""
    from airflow_provider_streamsets.control_hub import JobOffsets

    if run_count is None:
        return JobOffsets(job.job_id, job.last_run_count, tuple(client.offsets.current(job.job_id)))
    return JobOffsets(job.job_id, run_count, tuple(client.offsets.of_run(job.job_id, run_count)))


def _optional_path(path: FilePath | None, *, rendered: bool) -> Any:
    return None if path is None else params.path(path, "path", rendered=rendered)
