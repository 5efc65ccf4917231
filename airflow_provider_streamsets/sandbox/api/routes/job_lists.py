"""Job Runner: lists and counts of jobs, their filters and sort orders, and searches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.bodies import JobIds
from airflow_provider_streamsets.sandbox.api.requests import Backend, Query, read_ids
from airflow_provider_streamsets.sandbox.api.responses import (
    Property,
    empty_response,
    json_response,
    page_response,
    pagination_wrapper,
    search_response,
)
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.openapi import (
    COUNT,
    ENGINE_TYPE,
    INTEGER,
    ORDER,
    PAGE,
    SEARCH,
    STRING,
    STRINGS,
    WRAPPED_PAGE,
    array_of,
    boolean_param,
    enum_param,
    map_of,
    object_of,
    page_of,
    route_spec,
    string_param,
    wrapper_of,
)
from airflow_provider_streamsets.sandbox.serializers.jobs import job_body, job_tag_body
from airflow_provider_streamsets.sandbox.serializers.runs import current_status_body
from airflow_provider_streamsets.sandbox.serializers.schemas import Json, complete

COLORS = ("GRAY", "GREEN", "RED")
STATUSES = ("INACTIVE", "ACTIVATING", "ACTIVATION_ERROR", "ACTIVE", "DEACTIVATING", "INACTIVE_ERROR")
SEARCH_OPERATIONS = ("EQUALS", "STARTS_WITH")
SORT_KEYS: dict[str, Callable[[Backend, Job], Any]] = {
    "NAME": lambda _, job: job.seed.name,
    "PIPELINE_NAME": lambda _, job: job.seed.pipeline.name,
    "PIPELINE_COMMIT_LABEL": lambda _, job: job.seed.version.version,
    "STATUS": lambda backend, job: backend.status(job) or "",
    "CREATOR": lambda _, job: job.creator,
    "CREATE_TIME": lambda _, job: job.created_on,
    "DELETE_TIME": lambda _, job: job.deleted_on,
    "LAST_MODIFIED_ON": lambda _, job: job.modified_on,
    "LAST_MODIFIED_BY": lambda _, job: job.modified_by,
}

STATUS_FILTERS = (
    boolean_param("draftRun"),
    boolean_param("edge"),
    ENGINE_TYPE,
    boolean_param("removed"),
    boolean_param("archived"),
    enum_param("jobStatus", STATUSES),
    string_param("jobSearchText"),
    enum_param("jobSearchOperation", SEARCH_OPERATIONS),
    string_param("filterText"),
    string_param("jobTag"),
    enum_param("orderBy", [*SORT_KEYS]),
    ORDER,
)
"""Query parameters for a list of the jobs with a given status."""

FILTERS = (
    *STATUS_FILTERS,
    boolean_param("jobTemplate"),
    enum_param("jobStatusColor", COLORS),
    string_param("jobLabel"),
    string_param("templateJobId", schema="JobId"),
)
"""Query parameters for the other lists."""


def select_jobs(backend: Backend, query: Query, *, by_status: bool = False) -> list[Job]:
    """Return the jobs that match the filters of a request, in the requested order."""
    now = backend.clock.now()
    jobs = list((backend.deleted_jobs if query.boolean("removed") else backend.jobs).values())
    # All parameters are validated, even if no jobs are left.
    is_draft, collectors = query.boolean("draftRun"), query.includes_collectors()
    if is_draft or not collectors:
        jobs = []
    archived = query.boolean("archived")
    if archived is not None:
        jobs = [job for job in jobs if job.seed.archived is archived]
    status = query.choice("jobStatus", STATUSES)
    if by_status and status is None:
        status = "INACTIVE"
    if status:
        jobs = [job for job in jobs if not job.seed.is_template and listed_status(backend, job, now) == status]
    if not by_status:
        jobs = _filter_templates(backend, query, jobs)
        color, label = query.choice("jobStatusColor", COLORS), query.string("jobLabel")
        if color:
            jobs = [job for job in jobs if _color(backend, job, now) == color]
        if label:
            jobs = [job for job in jobs if label in job.seed.labels]
        template_id = query.string("templateJobId")
        if template_id:
            jobs = [job for job in jobs if job.seed.template_id == template_id]
    searched, operation = query.string("jobSearchText"), query.choice("jobSearchOperation", SEARCH_OPERATIONS)
    if searched:
        starts = operation == "STARTS_WITH"
        jobs = [job for job in jobs if (job.seed.name.startswith(searched) if starts else job.seed.name == searched)]
    filter_text = query.string("filterText")
    if filter_text:
        exact = backend.variants.filter_text == "exact"
        jobs = [
            job
            for job in jobs
            if (job.seed.name == filter_text if exact else filter_text.lower() in job.seed.name.lower())
        ]
    tag = query.string("jobTag")
    if tag:
        jobs = [job for job in jobs if tag in {f"{name}:{backend.organization}" for name in job.seed.tags}]
    key = SORT_KEYS[query.choice("orderBy", tuple(SORT_KEYS)) or "NAME"]
    return sorted(jobs, key=lambda job: key(backend, job), reverse=query.is_descending())


def listed_status(backend: Backend, job: Job, now: int) -> str:
    """Return the status of a job in lists, where jobs that never ran are inactive."""
    return backend.status(job, now) or "INACTIVE"


def _color(backend: Backend, job: Job, now: int) -> str | None:
    return (current_status_body(backend, job, now) or {}).get("color")


def _filter_templates(backend: Backend, query: Query, jobs: list[Job]) -> list[Job]:
    template = query.boolean("jobTemplate")
    if template is None and backend.variants.job_template_omitted == "all":
        return jobs
    return [job for job in jobs if job.seed.is_template is bool(template)]


router = APIRouter(prefix="/jobrunner/rest")

_JOBS = page_of("JobJson")
_COMMIT = string_param("pipelineCommitId", required=True, schema="CommitId")
_STATUS_COUNTS = wrapper_of(array_of(object_of(status=STRING, count=INTEGER)))


def _job_bodies(backend: Backend) -> Callable[[Job], Any]:
    now = backend.clock.now()
    return lambda job: job_body(backend, job, now)


@router.get("/v1/jobs", **route_spec(_JOBS, query=(*FILTERS, *WRAPPED_PAGE), errors=(400,)))
async def list_jobs(backend: Backend, query: Query) -> Response:
    """List jobs."""
    return page_response(query, select_jobs(backend, query), _job_bodies(backend))


@router.get("/v1/jobs/byStatus", **route_spec(_JOBS, query=(*STATUS_FILTERS, *WRAPPED_PAGE), errors=(400,)))
async def list_jobs_by_status(backend: Backend, query: Query) -> Response:
    """List the jobs with a given status."""
    return page_response(query, select_jobs(backend, query, by_status=True), _job_bodies(backend))


@router.get("/v1/jobs/forPipelineCommit", **route_spec(_JOBS, query=(_COMMIT, *FILTERS, *WRAPPED_PAGE), errors=(400,)))
async def list_jobs_of_commit(backend: Backend, query: Query) -> Response:
    """List the jobs for a pipeline version."""
    commit = query.string("pipelineCommitId")
    if commit is None:
        raise bad_request("'pipelineCommitId' is missing.")
    jobs = [job for job in select_jobs(backend, query) if job.seed.version.commit_id == commit]
    return page_response(query, jobs, _job_bodies(backend))


@router.get(
    "/v1/metrics/problematicJobs",
    **route_spec(wrapper_of(array_of("JobJson")), query=(*FILTERS, *PAGE), errors=(400,)),
)
async def list_problematic_jobs(backend: Backend, query: Query) -> Response:
    """List the jobs with color red."""
    now = backend.clock.now()
    jobs = [job for job in select_jobs(backend, query) if _color(backend, job, now) == "RED"]
    return page_response(query, jobs, _job_bodies(backend), wrapped=True)


@router.post("/v1/jobs", **route_spec(array_of("JobJson"), body=JobIds, errors=(400,)))
async def read_jobs(request: Request, backend: Backend) -> Response:
    """Return the jobs with the given ids; unknown ids are omitted."""
    ids = await read_ids(request)
    if backend.variants.jobs_by_ids == "asked":
        jobs = [backend.jobs[job_id] for job_id in dict.fromkeys(ids) if job_id in backend.jobs]
    else:
        jobs = [job for job_id, job in backend.jobs.items() if job_id in set(ids)]
    return json_response([_job_bodies(backend)(job) for job in jobs])


@router.get("/v1/jobs/count", **route_spec(COUNT, query=(boolean_param("removed"),), errors=(400,)))
async def count_jobs(backend: Backend, query: Query) -> Response:
    """Count the jobs without job templates."""
    jobs = backend.deleted_jobs if query.boolean("removed") else backend.jobs
    return json_response({"count": sum(not job.seed.is_template for job in jobs.values())})


@router.get(
    "/v1/jobs/tags",
    **route_spec(page_of("JobTag"), query=(string_param("parentId"), ORDER, *WRAPPED_PAGE), errors=(400,)),
)
async def list_job_tags(backend: Backend, query: Query) -> Response:
    """List the tags of all jobs, or the children of a tag."""
    texts = {tag for job in backend.jobs.values() for tag in job.seed.tags}
    texts |= {tag.rpartition("/")[0] for tag in texts} - {""}
    tags = [{**job_tag_body(backend, tag), "optimisticLockVersion": 0} for tag in sorted(texts)]
    parent = query.string("parentId")
    tags = [complete("JobTag", tag) for tag in tags if tag["parentId"] == parent]
    if query.is_descending():
        tags.reverse()
    return page_response(query, tags, lambda tag: tag)


@router.post(
    "/v1/job/jobTagsBulk",
    **route_spec(map_of(array_of("JobTagJson")), body=JobIds, errors=(400,)),
)
async def read_job_tags(request: Request, backend: Backend) -> Response:
    """Return the tags of many jobs."""
    return json_response(
        {
            job_id: [job_tag_body(backend, tag) for tag in backend.jobs[job_id].seed.tags]
            for job_id in await read_ids(request)
            if job_id in backend.jobs
        }
    )


@router.get("/v1/jobs/labels", **route_spec(STRINGS))
async def list_job_labels(backend: Backend) -> Response:
    """List the engine labels of all jobs."""
    return json_response(sorted({label for job in backend.jobs.values() for label in job.seed.labels}))


@router.get("/v1/metrics/jobCountByStatus", **route_spec(_STATUS_COUNTS))
async def count_jobs_by_status(backend: Backend) -> Response:
    """Count the jobs by status."""
    now = backend.clock.now()
    jobs = [job for job in backend.jobs.values() if not job.seed.is_template]
    counts: Counter[str] = Counter()
    for job in jobs:
        status = current_status_body(backend, job, now)
        counts[listed_status(backend, job, now)] += 1
        if status:
            counts[f"{status['status']}_{status['color']}"] += 1
    names = ("ACTIVE", "ACTIVE_GREEN", "ACTIVE_RED", "ACTIVATING", "DEACTIVATING", "INACTIVE", "INACTIVE_ERROR")
    entries = [{"status": name, "count": counts[name]} for name in names]
    if counts["ACTIVATION_ERROR"]:
        entries.append({"status": "ACTIVATION_ERROR", "count": counts["ACTIVATION_ERROR"]})
    return json_response(pagination_wrapper(len(entries), 0, -1, entries))


@router.get("/v1/jobs/draftRunJobForPipelineId", **route_spec())
async def read_draft_run() -> Response:
    """Return the draft run of a pipeline, which never exists."""
    return empty_response()


def _status_of(job: Json) -> Json:
    return job["currentJobStatus"] or {}


_JOB_PROPERTIES: dict[str, Property] = {
    "id": ("string", lambda job: job["id"]),
    "name": ("string", lambda job: job["name"]),
    "description": ("string", lambda job: job["description"]),
    "status": ("string", lambda job: _status_of(job).get("status")),
    "color": ("string", lambda job: _status_of(job).get("color")),
    "created_by": ("string", lambda job: job["creator"]),
    "created_on": ("time", lambda job: job["createTime"]),
    "modified_by": ("string", lambda job: job["lastModifiedBy"]),
    "modified_on": ("time", lambda job: job["lastModifiedOn"]),
    "engine_label": ("string", lambda job: job["labels"]),
    "engine_type": ("string", lambda job: job["executorType"]),
    "failover": ("boolean", lambda job: job["migrateOffsets"]),
    "attached_to_template": ("boolean", lambda job: job["templateJobId"] is not None),
    "archived": ("boolean", lambda job: job["archived"]),
    "instances": ("number", lambda job: job["numInstances"]),
    "pipeline_name": ("string", lambda job: job["pipelineName"]),
    "pipeline_status": ("string", lambda job: [item["status"] for item in _status_of(job).get("pipelineStatus", ())]),
    "pipeline_version": ("number", lambda job: int(job["pipelineCommitLabel"].removeprefix("v"))),
    "tag": ("string", lambda job: job["rawJobTags"]),
}
_SEARCH_SPEC = route_spec(wrapper_of(array_of("JobJson")), query=SEARCH, errors=(400,))


@router.get("/v1/saql/jobs/search", **_SEARCH_SPEC)
async def search_jobs(backend: Backend, query: Query) -> Response:
    """Search for jobs."""
    jobs = [job for job in backend.jobs.values() if not job.seed.is_template]
    return search_response(backend, query, map(_job_bodies(backend), jobs), _JOB_PROPERTIES, order="name")


@router.get("/v1/saql/jobs/search/templates", **_SEARCH_SPEC)
async def search_templates(backend: Backend, query: Query) -> Response:
    """Search for job templates."""
    templates = [job for job in backend.jobs.values() if job.seed.is_template]
    return search_response(backend, query, map(_job_bodies(backend), templates), _JOB_PROPERTIES, order="name")


@router.get("/v1/saql/jobs/search/draftRuns", **_SEARCH_SPEC)
async def search_draft_runs(backend: Backend, query: Query) -> Response:
    """Search for draft runs, which never exist."""
    return search_response(backend, query, [], _JOB_PROPERTIES, order="name")
