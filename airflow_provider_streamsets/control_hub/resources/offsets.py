"""Offsets of jobs (contract section 11)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub._json import as_list, as_object, checked_depth
from airflow_provider_streamsets.control_hub._messages import describe_ids
from airflow_provider_streamsets.control_hub.errors import ControlHubNotFoundError
from airflow_provider_streamsets.control_hub.models import EngineOffset, Job, status_run_count, validate_offset_document
from airflow_provider_streamsets.control_hub.paging import chunked
from airflow_provider_streamsets.control_hub.services import Service, quote_id

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.resources.jobs import Jobs
    from airflow_provider_streamsets.control_hub.resources.runs import Runs
    from airflow_provider_streamsets.control_hub.session import Session


class Offsets:
    """Offsets of jobs, available as ``client.offsets``."""

    def __init__(self, session: Session, jobs: Jobs, runs: Runs) -> None:
        self._session = session
        self._jobs = jobs
        self._runs = runs

    def reset(self, job_ids: Iterable[str]) -> None:
        """
        Reset the offsets of jobs, so that their next runs read from the start.

        Control Hub allows this for inactive jobs only. The request is idempotent until the next start, so it is
        retried.

        :param job_ids: ids of inactive jobs
        """
        ids = list(dict.fromkeys(job_ids))
        for batch in chunked(ids, self._session.bulk_size):
            self._session.request(
                "POST",
                Service.JOBRUNNER,
                "/v1/jobs/resetOffset",
                action=f"reset the offsets of {describe_ids(batch)}",
                body=batch,
            )

    def current(self, job_id: str) -> list[EngineOffset]:
        """
        Return the offsets from which the next run of a job continues, one per engine; empty if there are none.

        :param job_id: id of the job
        """
        response = self._session.request(
            "GET",
            Service.JOBRUNNER,
            f"/v1/job/{quote_id(job_id)}/currentStatus",
            action=f"read the offsets of job {job_id}",
        )
        return EngineOffset.from_status(response) if response else []

    def of_run(self, job_id: str, run_count: int) -> list[EngineOffset]:
        """
        Return the offsets at the end of a run, one per engine; empty if there are none.

        :param job_id: id of the job
        :param run_count: number of the run
        :raises ControlHubNotFoundError: if the job's history does not contain the run
        """
        for entry in self._runs.iter_raw_history(job_id):
            if status_run_count(entry) == run_count:
                return EngineOffset.from_status(entry)
        raise ControlHubNotFoundError(
            f"Cannot read the offsets of run {run_count} of job {job_id}: the job's history does not contain the run."
        )

    def committed(self, job_id: str) -> dict[str, Any] | None:
        """
        Return the committed offset document of a job; None if there is none.

        The endpoint is deprecated in Control Hub's API definition (contract section 11). Prefer :meth:`current`, which
        also returns the engines.

        :param job_id: id of the job
        """
        response = self._session.request(
            "GET",
            Service.JOBRUNNER,
            f"/v1/job/{quote_id(job_id)}/committedOffsets",
            action=f"read the committed offsets of job {job_id}",
        )
        return dict(as_object(checked_depth(response, "committed offsets"), "committed offsets")) if response else None

    def latest_committed(self, job_id: str) -> list[Any]:
        """
        Return the latest committed offsets with their engines, as raw JSON.

        The fields are not documented (contract section 18.17).

        :param job_id: id of the job
        """
        response = self._session.request(
            "GET",
            Service.JOBRUNNER,
            f"/v1/job/{quote_id(job_id)}/latestCommittedOffsets",
            action=f"read the latest committed offsets of job {job_id}",
        )
        return as_list(checked_depth(response, "latest committed offsets"), "latest committed offsets")

    def upload(self, job_id: str, document: Mapping[str, Any]) -> Job:
        """
        Set the offset from which the next run of a job continues.

        The document is validated before it is sent. The request is idempotent until the next start, so it is retried.

        :param job_id: id of an inactive job
        :param document: ``{"version": 2, "offsets": {"<partition>": "<string or null>"}}``
        :returns: the job
        :raises ControlHubConfigurationError: if `document` is not a valid offset document; nothing was sent
        """
        checked = validate_offset_document(document)
        response = self._session.request(
            "POST",
            Service.JOBRUNNER,
            f"/v1/job/{quote_id(job_id)}/uploadOffsetAsJson",
            action=f"upload an offset to job {job_id}",
            body=checked,
        )
        return Job.from_wire(response) if response else self._jobs.get(job_id)
