"""Job Runner: lists and counts of jobs, their filters and sort orders, and searches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api import saql
from airflow_provider_streamsets.sandbox.api.bodies import JobIds
from airflow_provider_streamsets.sandbox.api.requests import Query, get_backend, read_ids, read_sort_order
from airflow_provider_streamsets.sandbox.api.responses import (
    empty_response,
    json_response,
    page_response,
    pagination_wrapper,
    search_response,
)
from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.openapi import (
    COUNT,
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
    json_body,
    map_of,
    object_of,
    page_of,
    route_spec,
    schema_ref,
    string_param,
    wrapper_of,
)
from airflow_provider_streamsets.sandbox.serializers.jobs import job_body, job_tag_body
from airflow_provider_streamsets.sandbox.serializers.runs import current_status_body, pipeline_status_bodies
from airflow_provider_streamsets.sandbox.serializers.schemas import complete

COLORS = ("GRAY", "GREEN", "RED")
STATUSES = ("INACTIVE", "ACTIVATING", "ACTIVATION_ERROR", "ACTIVE", "DEACTIVATING", "INACTIVE_ERROR")
ENGINE_TYPES = ("COLLECTOR", "TRANSFORMER", "EDGE", "SNOWPARK")
SEARCH_OPERATIONS = ("EQUALS", "STARTS_WITH")
ORDERS = (
    "NAME",
    "PIPELINE_NAME",
    "PIPELINE_COMMIT_LABEL",
    "STATUS",
    "CREATOR",
    "CREATE_TIME",
    "DELETE_TIME",
    "LAST_MODIFIED_ON",
    "LAST_MODIFIED_BY",
)

STATUS_FILTERS = (
    boolean_param("draftRun"),
    boolean_param("edge"),
    enum_param("executorType", ENGINE_TYPES),
    boolean_param("removed"),
    boolean_param("archived"),
    enum_param("jobStatus", STATUSES),
    string_param("jobSearchText"),
    enum_param("jobSearchOperation", SEARCH_OPERATIONS),
    string_param("filterText"),
    string_param("jobTag"),
    enum_param("orderBy", ORDERS),
    ORDER,
)
"""Query parameters for a list of the jobs with a given status."""

FILTERS = (
    *STATUS_FILTERS,
    boolean_param("jobTemplate"),
    enum_param("jobStatusColor", COLORS),
    string_param("jobLabel"),
    string_param("templateJobId", schema=schema_ref("JobId")),
)
"""Query parameters for the other lists."""


def select_jobs(request: Request, *, by_status: bool = False) -> list[Job]:
    """Return the jobs that match the filters of a request, in the requested order."""
    backend, query = get_backend(request), Query(request)
    now = backend.clock.now()
    jobs = list((backend.deleted_jobs if query.boolean("removed") else backend.jobs).values())
    # All parameters are validated, even if no jobs are left.
    draft, edge, kind = query.boolean("draftRun"), query.boolean("edge"), query.choice("executorType", ENGINE_TYPES)
    if draft or edge or kind not in (None, "COLLECTOR"):
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
            jobs = [job for job in jobs if (current_status_body(backend, job, now) or {}).get("color") == color]
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
    return _sort_jobs(backend, query, jobs)


def listed_status(backend: ControlHubBackend, job: Job, now: int) -> str:
    """Return the status of a job in lists, where jobs that never ran are inactive."""
    return backend.status(job, now) or "INACTIVE"


def _filter_templates(backend: ControlHubBackend, query: Query, jobs: list[Job]) -> list[Job]:
    template = query.boolean("jobTemplate")
    if template is None and backend.variants.job_template_omitted == "all":
        return jobs
    return [job for job in jobs if job.seed.is_template is bool(template)]


def _sort_jobs(backend: ControlHubBackend, query: Query, jobs: list[Job]) -> list[Job]:
    keys: dict[str, Callable[[Job], Any]] = {
        "NAME": lambda job: job.seed.name,
        "PIPELINE_NAME": lambda job: job.seed.pipeline.name,
        "PIPELINE_COMMIT_LABEL": lambda job: job.seed.version.version,
        "STATUS": lambda job: backend.status(job) or "",
        "CREATOR": lambda job: job.creator,
        "CREATE_TIME": lambda job: job.created_on,
        "DELETE_TIME": lambda job: job.deleted_on,
        "LAST_MODIFIED_ON": lambda job: job.modified_on,
        "LAST_MODIFIED_BY": lambda job: job.modified_by,
    }
    key = keys[query.choice("orderBy", ORDERS) or "NAME"]
    descending = query.choice("order", ("ASC", "DESC")) == "DESC"
    return sorted(jobs, key=key, reverse=descending)


router = APIRouter(prefix="/jobrunner/rest")

_JOBS = page_of(schema_ref("JobJson"))
_COMMIT = string_param("pipelineCommitId", required=True, schema=schema_ref("CommitId"))
_STATUS_COUNTS = wrapper_of(array_of(object_of(status=STRING, count=INTEGER)))


def _job_bodies(backend: ControlHubBackend) -> Callable[[Job], Any]:
    now = backend.clock.now()
    return lambda job: job_body(backend, job, now)


@router.get("/v1/jobs", **route_spec(_JOBS, query=(*FILTERS, *WRAPPED_PAGE), errors=(400,)))
async def list_jobs(request: Request) -> Response:
    """List jobs."""
    return page_response(Query(request), select_jobs(request), _job_bodies(get_backend(request)))


@router.get("/v1/jobs/byStatus", **route_spec(_JOBS, query=(*STATUS_FILTERS, *WRAPPED_PAGE), errors=(400,)))
async def list_jobs_by_status(request: Request) -> Response:
    """List the jobs with a given status."""
    return page_response(Query(request), select_jobs(request, by_status=True), _job_bodies(get_backend(request)))


@router.get("/v1/jobs/forPipelineCommit", **route_spec(_JOBS, query=(_COMMIT, *FILTERS, *WRAPPED_PAGE), errors=(400,)))
async def list_jobs_of_commit(request: Request) -> Response:
    """List the jobs for a pipeline version."""
    commit = Query(request).string("pipelineCommitId")
    if commit is None:
        raise bad_request("'pipelineCommitId' is missing.")
    jobs = [job for job in select_jobs(request) if job.seed.version.commit_id == commit]
    return page_response(Query(request), jobs, _job_bodies(get_backend(request)))


@router.get(
    "/v1/metrics/problematicJobs",
    **route_spec(wrapper_of(array_of(schema_ref("JobJson"))), query=(*FILTERS, *PAGE), errors=(400,)),
)
async def list_problematic_jobs(request: Request) -> Response:
    """List the jobs with color red."""
    backend = get_backend(request)
    now = backend.clock.now()
    jobs = [job for job in select_jobs(request) if (current_status_body(backend, job, now) or {}).get("color") == "RED"]
    return page_response(Query(request), jobs, _job_bodies(backend), wrapped=True)


@router.post("/v1/jobs", **route_spec(array_of(schema_ref("JobJson")), body=json_body(JobIds), errors=(400,)))
async def read_jobs(request: Request) -> Response:
    """Return the jobs with the given ids; unknown ids are omitted."""
    backend = get_backend(request)
    ids = await read_ids(request)
    if backend.variants.jobs_by_ids == "asked":
        jobs = [backend.jobs[job_id] for job_id in dict.fromkeys(ids) if job_id in backend.jobs]
    else:
        jobs = [job for job_id, job in backend.jobs.items() if job_id in set(ids)]
    return json_response([_job_bodies(backend)(job) for job in jobs])


@router.get("/v1/jobs/count", **route_spec(COUNT, query=(boolean_param("removed"),), errors=(400,)))
async def count_jobs(request: Request) -> Response:
    """Count the jobs without job templates."""
    backend = get_backend(request)
    jobs = backend.deleted_jobs if Query(request).boolean("removed") else backend.jobs
    return json_response({"count": sum(not job.seed.is_template for job in jobs.values())})


@router.get(
    "/v1/jobs/tags",
    **route_spec(page_of(schema_ref("JobTag")), query=(string_param("parentId"), ORDER, *WRAPPED_PAGE), errors=(400,)),
)
async def list_job_tags(request: Request) -> Response:
    """List the tags of all jobs, or the children of a tag."""
    backend, query = get_backend(request), Query(request)
    texts = {tag for job in backend.jobs.values() for tag in job.seed.tags}
    texts |= {tag.rpartition("/")[0] for tag in texts} - {""}
    tags = [{**job_tag_body(backend, tag), "optimisticLockVersion": 0} for tag in sorted(texts)]
    parent = query.string("parentId")
    tags = [complete("JobTag", tag) for tag in tags if tag["parentId"] == parent]
    if query.choice("order", ("ASC", "DESC")) == "DESC":
        tags.reverse()
    return page_response(query, tags, lambda tag: tag)


@router.post(
    "/v1/job/jobTagsBulk",
    **route_spec(map_of(array_of(schema_ref("JobTagJson"))), body=json_body(JobIds), errors=(400,)),
)
async def read_job_tags(request: Request) -> Response:
    """Return the tags of many jobs."""
    backend = get_backend(request)
    return json_response(
        {
            job_id: [job_tag_body(backend, tag) for tag in backend.jobs[job_id].seed.tags]
            for job_id in await read_ids(request)
            if job_id in backend.jobs
        }
    )


@router.get("/v1/jobs/labels", **route_spec(STRINGS))
async def list_job_labels(request: Request) -> Response:
    """List the engine labels of all jobs."""
    return json_response(sorted({label for job in get_backend(request).jobs.values() for label in job.seed.labels}))


@router.get("/v1/metrics/jobCountByStatus", **route_spec(_STATUS_COUNTS))
async def count_jobs_by_status(request: Request) -> Response:
    """Count the jobs by status."""
    backend = get_backend(request)
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
async def read_draft_run(request: Request) -> Response:
    """Return the draft run of a pipeline, which never exists."""
    return empty_response()


_JOB_PROPERTIES = {
    "id": "string", "name": "string", "description": "string", "status": "string", "color": "string",
    "created_by": "string", "created_on": "time", "modified_by": "string", "modified_on": "time",
    "engine_label": "string", "engine_type": "string",
    "failover": "boolean", "attached_to_template": "boolean", "archived": "boolean", "instances": "number",
    "pipeline_name": "string", "pipeline_status": "string", "pipeline_version": "number", "tag": "string",
}  # fmt: skip


@router.get(
    "/v1/saql/jobs/search", **route_spec(wrapper_of(array_of(schema_ref("JobJson"))), query=SEARCH, errors=(400,))
)
async def search_jobs(request: Request) -> Response:
    """Search for jobs."""
    return _search_all(request, templates=False)


@router.get(
    "/v1/saql/jobs/search/templates",
    **route_spec(wrapper_of(array_of(schema_ref("JobJson"))), query=SEARCH, errors=(400,)),
)
async def search_templates(request: Request) -> Response:
    """Search for job templates."""
    return _search_all(request, templates=True)


@router.get(
    "/v1/saql/jobs/search/draftRuns",
    **route_spec(wrapper_of(array_of(schema_ref("JobJson"))), query=SEARCH, errors=(400,)),
)
async def search_draft_runs(request: Request) -> Response:
    """Search for draft runs, which never exist."""
    return _search_response(request, [])


def _search_all(request: Request, *, templates: bool) -> Response:
    jobs = get_backend(request).jobs.values()
    return _search_response(request, [job for job in jobs if job.seed.is_template is templates])


def _search_response(request: Request, jobs: list[Job]) -> Response:
    backend, query = get_backend(request), Query(request)
    now = backend.clock.now()
    found = [(_job_properties(backend, job, now), job) for job in jobs]
    search = query.string("search")
    if search:
        matches = saql.parse(search, _JOB_PROPERTIES)
        found = [(properties, job) for properties, job in found if matches(properties)]
    name, descending = read_sort_order(query, "name", _JOB_PROPERTIES)
    found.sort(key=lambda pair: saql.sort_key(pair[0][name]), reverse=descending)
    return search_response(request, found, lambda pair: job_body(backend, pair[1], now))


def _job_properties(backend: ControlHubBackend, job: Job, now: int) -> dict[str, Any]:
    body = job_body(backend, job, now)
    status = body["currentJobStatus"] or {}
    reported = pipeline_status_bodies(backend, job, job.latest, now) if job.latest else []
    return {
        "id": job.id,
        "name": job.seed.name,
        "description": body["description"],
        "status": status.get("status"),
        "color": status.get("color"),
        "created_by": body["creator"],
        "created_on": body["createTime"],
        "modified_by": body["lastModifiedBy"],
        "modified_on": body["lastModifiedOn"],
        "engine_label": list(job.seed.labels),
        "engine_type": body["executorType"],
        "failover": job.seed.failover,
        "attached_to_template": job.seed.template_id is not None,
        "archived": job.seed.archived,
        "instances": job.seed.instances,
        "pipeline_name": job.seed.pipeline.name,
        "pipeline_status": [entry["status"] for entry in reported],
        "pipeline_version": int(job.seed.version.version),
        "tag": list(job.seed.tags),
    }
