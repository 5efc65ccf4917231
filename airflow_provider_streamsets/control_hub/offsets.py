"""Offsets: where jobs continue reading from (contract, section 11)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub._json import JsonReader, as_list, as_object, checked_depth
from airflow_provider_streamsets.control_hub._messages import describe_ids, join_truncated
from airflow_provider_streamsets.control_hub.errors import ControlHubJobStateError, ControlHubNotFoundError
from airflow_provider_streamsets.control_hub.models import EngineOffset, Job, offset_document
from airflow_provider_streamsets.control_hub.paging import chunked
from airflow_provider_streamsets.control_hub.services import Service, quote_id

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient


class Offsets:
    """Offsets of jobs; reached as ``client.offsets``."""

    def __init__(self, client: ControlHubClient) -> None:
        self._client = client

    def reset(self, job_ids: Iterable[str]) -> None:
        """
        Forget where jobs stopped reading, so that their next runs read from the start.

        Control Hub allows it for inactive jobs only. It has the same effect however often it is sent before the
        next start, so an unclear end is answered by sending it again.

        :param job_ids: ids of jobs that are not active
        """
        wanted = list(dict.fromkeys(job_ids))
        for batch in chunked(wanted, self._client.bulk_size):
            self._client.request(
                "POST",
                Service.JOBRUNNER,
                "/v1/jobs/resetOffset",
                action=f"reset the offsets of {describe_ids(batch)}",
                body=batch,
            )

    def current(self, job_id: str) -> list[EngineOffset]:
        """
        Return the offsets that the job's next run continues from, one for each engine; empty if there are none.

        :param job_id: id of the job
        """
        answer = self._client.request(
            "GET",
            Service.JOBRUNNER,
            f"/v1/job/{quote_id(job_id)}/currentStatus",
            action=f"read the offsets of job {job_id}",
        )
        return _offsets(answer) if answer else []

    def of_run(self, job_id: str, run_count: int) -> list[EngineOffset]:
        """
        Return the offsets that a run has left, one for each engine; empty if there are none.

        :param job_id: id of the job
        :param run_count: number of the run
        :raises ControlHubNotFoundError: if Control Hub does not (or no longer) know the run
        """
        for entry in self._client.runs.iter_raw_history(job_id):
            if JsonReader(entry, "job status").integer("runCount") == run_count:
                return _offsets(entry)
        raise ControlHubNotFoundError(
            f"Cannot read the offsets of run {run_count} of job {job_id}: the job's history does not have the run."
        )

    def committed(self, job_id: str) -> dict[str, Any] | None:
        """
        Return the offset document that Control Hub has committed for the job, None if there is none.

        The call is deprecated in Control Hub's published definitions; :meth:`current` tells the engines, too.

        :param job_id: id of the job
        """
        answer = self._client.request(
            "GET",
            Service.JOBRUNNER,
            f"/v1/job/{quote_id(job_id)}/committedOffsets",
            action=f"read the committed offsets of job {job_id}",
        )
        return dict(as_object(checked_depth(answer, "committed offsets"), "committed offsets")) if answer else None

    def latest_committed(self, job_id: str) -> list[Any]:
        """
        Return the latest committed offsets with their engines, as Control Hub sends them.

        Their fields are not documented (contract, 18.17).

        :param job_id: id of the job
        """
        answer = self._client.request(
            "GET",
            Service.JOBRUNNER,
            f"/v1/job/{quote_id(job_id)}/latestCommittedOffsets",
            action=f"read the latest committed offsets of job {job_id}",
        )
        return as_list(checked_depth(answer, "latest committed offsets"), "latest committed offsets")

    def upload(self, job_id: str, document: Mapping[str, Any]) -> Job:
        """
        Set where the job's next run continues reading from.

        The document is checked before it is sent. It has the same effect however often it is sent before the next
        start.

        :param job_id: id of a job that is not active
        :param document: ``{"version": 2, "offsets": {"<partition>": "<text or null>"}}``
        :returns: the job
        :raises ControlHubConfigurationError: if `document` is no offset document; nothing was sent
        """
        checked = offset_document(document)
        answer = self._client.request(
            "POST",
            Service.JOBRUNNER,
            f"/v1/job/{quote_id(job_id)}/uploadOffsetAsJson",
            action=f"upload an offset to job {job_id}",
            body=checked,
        )
        return Job.from_wire(answer) if answer else self._client.jobs.get(job_id)


def _offsets(status: object) -> list[EngineOffset]:
    read = JsonReader(status, "job status")
    offsets = (EngineOffset.from_wire(entry) for entry in read.array("pipelineOffsets") if entry is not None)
    return [offset for offset in offsets if offset is not None]


def check_offsets_changeable(jobs: Collection[Job]) -> None:
    """
    Check that the offsets of jobs can be reset or uploaded as the jobs are now.

    :raises ControlHubJobStateError: if not; the message names all that are active
    """
    problems = [f"{job.label} is a job template" for job in jobs if job.is_template]
    problems += [f"{job.label} is {run.status}" for job in jobs if (run := job.current_run) and not run.has_ended]
    if problems:
        raise ControlHubJobStateError(
            f"Offsets can be changed only of jobs that are not active: {join_truncated(problems, '; ')}. Stop them "
            "first. Nothing was sent."
        )
