"""Jobs: read, find, list (contract, section 5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAmbiguousNameError,
    ControlHubNotFoundError,
)
from airflow_provider_streamsets.control_hub.models import Job
from airflow_provider_streamsets.control_hub.paging import batches, pages
from airflow_provider_streamsets.control_hub.services import Service, in_path
from airflow_provider_streamsets.control_hub.wire import as_list

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient


class Jobs:
    """Jobs and job templates; reached as ``client.jobs``."""

    def __init__(self, client: ControlHubClient) -> None:
        self._client = client

    def get(self, job_id: str) -> Job:
        """
        Return one job.

        :param job_id: id of the job or job template
        :raises ControlHubNotFoundError: if there is no such job
        """
        answer = self._client.call("GET", Service.JOBRUNNER, f"/v1/job/{in_path(job_id)}", what=f"read job {job_id}")
        # Whether an unknown job is a 404 or an empty answer is not known (contract, 18.4).
        if not answer:
            raise ControlHubNotFoundError(f"Cannot read job {job_id}: Control Hub knows no such job.")
        return Job.from_wire(answer)

    def get_many(self, job_ids: Iterable[str]) -> dict[str, Job]:
        """
        Return several jobs by id, in one request for each :attr:`ControlHubClient.bulk_size` ids.

        :param job_ids: ids of jobs and job templates
        :returns: the jobs by id, in the order of `job_ids`; ids that Control Hub does not know are missing
        """
        wanted = list(dict.fromkeys(job_ids))
        found: dict[str, Job] = {}
        for batch in batches(wanted, self._client.bulk_size):
            answer = self._client.call(
                "POST", Service.JOBRUNNER, "/v1/jobs", what=f"read {len(batch)} jobs", body=batch
            )
            for entry in as_list(answer, "the jobs asked for"):
                if entry is not None:
                    job = Job.from_wire(entry)
                    found[job.job_id] = job
        return {job_id: found[job_id] for job_id in wanted if job_id in found}

    def find_by_name(self, name: str) -> Job:
        """
        Return the one job that has exactly this name. Job templates do not count.

        :param name: full name; names are not unique in Control Hub
        :raises ControlHubNotFoundError: if no job has it
        :raises ControlHubAmbiguousNameError: if several have it; the message names their ids
        """
        jobs = list(self.list(name=name))
        if len(jobs) == 1:
            return jobs[0]
        if jobs:
            shown = ", ".join(job.job_id for job in jobs[:5]) + (", ..." if len(jobs) > 5 else "")
            raise ControlHubAmbiguousNameError(
                f"Cannot tell which job is meant by the name '{name}': {len(jobs)} jobs have it ({shown}). "
                "Give the job's id."
            )
        is_template = next(self.list(name=name, templates=True), None) is not None
        raise ControlHubNotFoundError(
            f"Cannot find a job named '{name}': "
            + ("only a job template has that name." if is_template else "no job has that name.")
            + " Names are compared letter by letter. Is the connection set to the right project?"
        )

    def list(
        self,
        *,
        name: str | None = None,
        name_starts_with: str | None = None,
        status: str | None = None,
        color: str | None = None,
        tag: str | None = None,
        engine_label: str | None = None,
        executor_type: str | None = None,
        templates: bool = False,
        template_id: str | None = None,
    ) -> Iterator[Job]:
        """
        Yield the jobs that match all conditions, oldest first; a page is asked for when it is needed.

        :param name: exact name
        :param name_starts_with: beginning of the name; not together with `name`
        :param status: status of the latest run, for example ``ACTIVE``
        :param color: ``GRAY``, ``GREEN`` or ``RED``
        :param tag: tag without organization, for example ``nightly/orders``
        :param engine_label: label that chooses the engines
        :param executor_type: ``COLLECTOR``, ``TRANSFORMER``, ``EDGE`` or ``SNOWPARK``
        :param templates: job templates instead of jobs
        :param template_id: only instances of this job template
        """
        text = name if name is not None else name_starts_with
        params: dict[str, Any] = {
            "orderBy": "CREATE_TIME",
            "order": "ASC",
            "removed": "false",
            "withWrapper": "true",
            "jobTemplate": str(templates).lower(),
            "jobSearchOperation": None if text is None else ("EQUALS" if name is not None else "STARTS_WITH"),
            "jobSearchText": text,
            "jobStatus": status,
            "jobStatusColor": color,
            "jobTag": f"{tag}:{self._client.organization}" if tag is not None else None,
            "jobLabel": engine_label,
            "executorType": executor_type,
            "templateJobId": template_id,
        }

        def read_page(offset: int, length: int) -> Any:
            return self._client.call(
                "GET",
                Service.JOBRUNNER,
                "/v1/jobs",
                what="list jobs" if text is None else f"list jobs by the name '{text}'",
                params={**params, "offset": offset, "len": length},
            )

        for entry in pages(read_page, "jobs"):
            job = Job.from_wire(entry)
            # What the server's filters match is not certain in every case (contract, 18.14 and 18.15).
            if name is not None and job.name != name:
                continue
            if name_starts_with is not None and not job.name.startswith(name_starts_with):
                continue
            if job.is_template == templates:
                yield job
