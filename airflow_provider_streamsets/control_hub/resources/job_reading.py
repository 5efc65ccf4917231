"""Read, find and list jobs (contract section 5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from airflow_provider_streamsets.control_hub._json import as_list
from airflow_provider_streamsets.control_hub._messages import describe_ids, join_truncated
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAmbiguousNameError,
    ControlHubAuthenticationError,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubPermissionError,
    ControlHubUnavailableError,
    may_be_unknown_id,
)
from airflow_provider_streamsets.control_hub.models import Job, JobDocument, Page, jobs_change_key
from airflow_provider_streamsets.control_hub.paging import chunked, page_params, paginate, sort_params
from airflow_provider_streamsets.control_hub.saql import equals, one_of, search_params
from airflow_provider_streamsets.control_hub.services import Service, quote_id

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient

# The search is part of the URL, whose length is limited.
_MAX_SEARCH_LENGTH = 4000


class JobReader:
    """Read-only part of ``client.jobs``."""

    def __init__(self, client: ControlHubClient) -> None:
        self._client = client

    def get(self, job_id: str) -> Job:
        """
        Return one job.

        :param job_id: id of the job or job template
        :raises ControlHubNotFoundError: if there is no such job
        """
        return self._read(job_id).to_job()

    def _read(self, job_id: str) -> JobDocument:
        try:
            response = self._client.request(
                "GET", Service.JOBRUNNER, f"/v1/job/{quote_id(job_id)}", action=f"read job {job_id}"
            )
        except ControlHubError as error:
            if not may_be_unknown_id(error):
                raise
            return self._read_in_bulk(job_id, error)
        if response is None or response == {}:
            return self._read_in_bulk(job_id, None)
        document = JobDocument.from_wire(response)
        # Whether a deleted job can still be read is unknown (contract section 18.24).
        if document.is_deleted:
            raise ControlHubNotFoundError(f"Cannot read job {job_id}: it has been deleted.")
        return document

    def _read_in_bulk(self, job_id: str, error: ControlHubError | None) -> JobDocument:
        """
        Read a job through the bulk request, whose response distinguishes a missing job from an outage.

        The response for an unknown job is unknown: an empty body, a 403 or a 500 (contract sections 15 and 18.4). A
        gateway can send those, too, but never a list of jobs.

        :param error: error of the single read; None if its response was empty
        """
        try:
            found = self.read_many([job_id])
        except ControlHubError as bulk_error:
            if isinstance(
                bulk_error, (ControlHubAuthenticationError, ControlHubNotFoundError, ControlHubPermissionError)
            ):
                raise
            if isinstance(error, ControlHubPermissionError) and isinstance(bulk_error, ControlHubUnavailableError):
                # A 403 can mean an unknown job, so an unconfirmed one is no permission error.
                raise
            if error is not None:
                raise error from bulk_error
            raise ControlHubUnavailableError(
                f"Cannot read job {job_id}: the response was empty, and checking whether the job exists failed: "
                f"{bulk_error}",
                http_status=200,
            ) from bulk_error
        if job_id in found:
            return found[job_id]
        hidden = ", or the credential may not read it" if error is not None else ""
        raise ControlHubNotFoundError(
            f"Cannot read job {job_id}: it does not exist{hidden}.",
            http_status=error.http_status if error else None,
            issues=error.issues if error else (),
        )

    def get_many(self, job_ids: Iterable[str]) -> dict[str, Job]:
        """
        Return several jobs by id, in one request per :attr:`ControlHubClient.bulk_size` ids.

        :param job_ids: ids of jobs and job templates
        :returns: the jobs by id, in the order of `job_ids`, without unknown ids
        """
        return {job_id: document.to_job() for job_id, document in self.read_many(job_ids).items()}

    def get_all(self, job_ids: Iterable[str]) -> dict[str, Job]:
        """
        Return several jobs by id, like :meth:`get_many`, and raise if one is missing.

        :param job_ids: ids of jobs and job templates
        :raises ControlHubNotFoundError: if one does not exist; the message names all missing ids
        """
        unique_ids = list(dict.fromkeys(job_ids))
        found = self.get_many(unique_ids)
        missing = [job_id for job_id in unique_ids if job_id not in found]
        if missing:
            raise ControlHubNotFoundError(f"No jobs with these ids exist: {join_truncated(missing)}. Nothing was done.")
        return found

    def ensure_loaded(self, jobs: Iterable[Job | str]) -> dict[str, Job]:
        """
        Return jobs by id, reading those given as ids as :meth:`get_all` does.

        :param jobs: jobs as just read, or their ids
        """
        jobs_by_id = {(job if isinstance(job, str) else job.job_id): job for job in jobs}
        read = self.get_all(job for job in jobs_by_id.values() if isinstance(job, str))
        return {job_id: read[job_id] if isinstance(job, str) else job for job_id, job in jobs_by_id.items()}

    def read_many(self, job_ids: Iterable[str]) -> dict[str, JobDocument]:
        """
        Return the JSON of several jobs by id, for other resources of this package.

        Unknown ids are missing, and the response has any order (contract section 18.37).
        """
        unique_ids = list(dict.fromkeys(job_ids))
        found: dict[str, JobDocument] = {}
        for batch in chunked(unique_ids, self._client.bulk_size):
            response = self._client.request(
                "POST", Service.JOBRUNNER, "/v1/jobs", action=f"read {describe_ids(batch)}", body=batch, needs_body=True
            )
            for entry in as_list(response, "jobs"):
                if entry is not None:
                    document = JobDocument.from_wire(entry)
                    if not document.is_deleted:
                        found[document.job_id] = document
        return {job_id: found[job_id] for job_id in unique_ids if job_id in found}

    def find_by_name(self, name: str, *, templates: bool = False) -> Job:
        """
        Return the only job with this name.

        :param name: full name, case-sensitive; names are not unique in Control Hub
        :param templates: search job templates instead of jobs
        :raises ControlHubNotFoundError: if no job has the name
        :raises ControlHubAmbiguousNameError: if several jobs have it; the message lists their ids
        """
        found = list(self.list(name=name, templates=templates))
        if found:
            return _single_match(name, found)
        kind, other = ("job template", "job") if templates else ("job", "job template")
        is_other = next(self.list(name=name, templates=not templates), None) is not None
        raise ControlHubNotFoundError(
            f"Cannot find a {kind} named '{name}': "
            + (
                f"only a {other} has that name."
                if is_other
                else f"no {kind} has that name. Check its spelling and case, and the project of the connection."
            )
        )

    def find_by_names(self, names: Iterable[str], *, missing_ok: bool = False) -> list[Job]:
        """
        Return the jobs with these names, in the order of the names, in bulk requests.

        :param names: full names of jobs, not of job templates
        :param missing_ok: leave out names that no job has
        :raises ControlHubNotFoundError: if a name has no job; the message lists all such names
        :raises ControlHubAmbiguousNameError: if several jobs have the same name
        """
        unique_names = list(dict.fromkeys(names))
        # Searches ignore the case, so several batches can return the same job.
        found: dict[str, dict[str, Job]] = {name: {} for name in unique_names}
        for batch in _search_batches(unique_names):
            search = one_of("name", batch) if len(batch) > 1 else None
            jobs = self.list(search=search) if search else self.list(name=batch[0])
            for job in jobs:
                if job.name in found:
                    found[job.name][job.job_id] = job
        missing = [name for name in unique_names if not found[name]]
        if missing and not missing_ok:
            raise ControlHubNotFoundError(
                f"Cannot find jobs named {', '.join(map(repr, missing))}. Check their spelling and case, and the "
                "project of the connection."
            )
        return [_single_match(name, list(found[name].values())) for name in unique_names if found[name]]

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
        pipeline_version: str | None = None,
        search: str | None = None,
        templates: bool = False,
        template_id: str | None = None,
    ) -> Iterator[Job]:
        """
        Yield the jobs that match all conditions, oldest first, fetching pages on demand.

        :param name: exact name
        :param name_starts_with: beginning of the name; not together with `name`
        :param status: status of the latest run, for example ``ACTIVE``; a job that has never run is ``INACTIVE``
        :param color: ``GRAY``, ``GREEN`` or ``RED``; a job that has never run is ``GRAY``
        :param tag: tag without organization, for example ``nightly/orders``. Whether jobs with tags below it match,
            too, is up to Control Hub
        :param engine_label: label that selects engines
        :param executor_type: ``COLLECTOR``, ``TRANSFORMER``, ``EDGE`` or ``SNOWPARK``
        :param pipeline_version: version of the pipeline, for example ``2`` or ``v2``
        :param search: a Control Hub search, for example ``name=="orders*" and tag=="nightly"`` (contract section 5).
            The other conditions are then checked by the client
        :param templates: list job templates instead of jobs
        :param template_id: only instances of this job template
        """
        if name is not None and name_starts_with is not None:
            raise ControlHubConfigurationError("Cannot list jobs by both 'name' and 'name_starts_with': set only one.")
        text = name if name is not None else name_starts_with
        params: dict[str, Any]
        if search is not None:
            path = "/v1/saql/jobs/search/templates" if templates else "/v1/saql/jobs/search"
            action = f"search jobs by '{search}'"
            params = {**search_params(search, self._client.organization), **sort_params("created_on")}
        else:
            path = "/v1/jobs"
            action = "list jobs" if text is None else f"list jobs by the name '{text}'"
            params = {
                **sort_params("CREATE_TIME", "ASC"),
                **kind_params(templates=templates),
                **self._tag_params(tag),
                **({} if text is None else name_params("EQUALS" if name is not None else "STARTS_WITH", text)),
                "jobStatus": status,
                # A job that has never run has no color, so Control Hub may not list it as GRAY.
                "jobStatusColor": None if color == "GRAY" else color,
                "jobLabel": engine_label,
                "executorType": executor_type,
                "templateJobId": template_id,
            }

        def read_page(offset: int, length: int) -> Any:
            return self._client.request(
                "GET",
                Service.JOBRUNNER,
                path,
                action=action,
                params={**params, **page_params(offset, length, wrapped=None if search is not None else True)},
                needs_body=True,
            )

        def matches(job: Job) -> bool:
            # What the server's filters match is partly unknown (contract sections 18.14 and 18.15), and a search has
            # none of them.
            run = job.current_run
            return (
                job.is_template == templates
                and (name is None or job.name == name)
                and (name_starts_with is None or job.name.startswith(name_starts_with))
                and (status is None or (run.status if run else "INACTIVE") == status)
                and (color is None or (run.color if run else "GRAY") == color)
                and (tag is None or any(own == tag or own.startswith(f"{tag}/") for own in job.tags))
                and (engine_label is None or engine_label in job.engine_labels)
                and (executor_type is None or job.executor_type == executor_type)
                and (pipeline_version is None or job.pipeline_version == pipeline_version.removeprefix("v"))
                and (template_id is None or job.template_id == template_id)
            )

        for entry in paginate(read_page, "jobs"):
            job = Job.from_wire(entry)
            if matches(job):
                yield job

    def count(self) -> int | None:
        """Return the number of jobs, without job templates, that the credential can read; None if it is not stated."""
        response = self._client.request(
            "GET",
            Service.JOBRUNNER,
            "/v1/jobs",
            action="count the jobs",
            params={**page_params(0, 1, wrapped=True), **kind_params(templates=False)},
            needs_body=True,
        )
        page = Page.from_wire(response, "page of jobs")
        return page.total if page.total or not page.entries else None

    def change_key(self, *, tag: str) -> tuple[int, str, int] | None:
        """
        Return a key that changes when jobs gain or lose a tag, in a request for a single job.

        The key consists of the number of jobs with the tag and the most recently changed one. Whether a new tag counts
        as a change of the job is unknown, so replacing one job by another may not change it (contract section 18.43).

        :param tag: tag without organization
        :returns: the key; None if the response does not contain it
        """
        response = self._client.request(
            "GET",
            Service.JOBRUNNER,
            "/v1/jobs",
            action=f"check for changes of the jobs with tag '{tag}'",
            params={
                **sort_params("LAST_MODIFIED_ON", "DESC"),
                **page_params(0, 1, wrapped=True),
                **kind_params(templates=False),
                **self._tag_params(tag),
            },
            needs_body=True,
        )
        return jobs_change_key(response)

    def _tag_params(self, tag: str | None) -> dict[str, str]:
        return {} if tag is None else {"jobTag": f"{tag}:{self._client.organization}"}


def kind_params(*, templates: bool) -> dict[str, str]:
    """
    Return the query parameters for a list of existing jobs.

    :param templates: list job templates instead of jobs
    """
    return {"removed": "false", "jobTemplate": str(templates).lower()}


def name_params(operation: str, text: str) -> dict[str, str]:
    """
    Return the query parameters for a list of jobs by name.

    :param operation: ``EQUALS`` or ``STARTS_WITH``
    :param text: the name, or its start
    """
    return {"jobSearchOperation": operation, "jobSearchText": text}


def _search_batches(names: list[str]) -> Iterator[list[str]]:
    """Yield names in batches for one search each; a name that a search cannot express is a batch of its own."""
    batch: list[str] = []
    length = 0
    for name in names:
        if equals("name", name) is None:
            yield [name]
            continue
        # In a URL, each of the quotation marks and the comma takes three characters.
        length += len(quote_plus(name)) + 9
        if batch and length > _MAX_SEARCH_LENGTH:
            yield batch
            batch, length = [], len(quote_plus(name)) + 9
        batch.append(name)
    if batch:
        yield batch


def _single_match(name: str, jobs: Sequence[Job]) -> Job:
    if len(jobs) == 1:
        return jobs[0]
    ids = ", ".join(job.job_id for job in jobs[:5]) + (", ..." if len(jobs) > 5 else "")
    raise ControlHubAmbiguousNameError(
        f"Cannot determine which job is meant by the name '{name}': {len(jobs)} jobs have it ({ids}). Set the id "
        "instead."
    )
