"""Job Runner: lists and counts of jobs, job tags and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import get_backend
from airflow_provider_streamsets.sandbox.api.requests import Query, read_ids
from airflow_provider_streamsets.sandbox.api.responses import (
    empty_response,
    json_response,
    page_response,
    pagination_wrapper,
)
from airflow_provider_streamsets.sandbox.api.routes.job_filters import (
    FILTERS,
    STATUS_FILTERS,
    listed_status,
    select_jobs,
)
from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.openapi.spec import (
    COUNT,
    INTEGER,
    ORDER,
    PAGE,
    STRING,
    STRINGS,
    WRAPPED_PAGE,
    array_of,
    boolean_param,
    id_list_body,
    map_of,
    object_of,
    page_of,
    route_spec,
    schema_ref,
    string_param,
    wrapper_of,
)
from airflow_provider_streamsets.sandbox.serializers.jobs import job_body, job_tag_body
from airflow_provider_streamsets.sandbox.serializers.schemas import complete
from airflow_provider_streamsets.sandbox.serializers.statuses import current_status_body

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


@router.post("/v1/jobs", **route_spec(array_of(schema_ref("JobJson")), body=id_list_body("JobId"), errors=(400,)))
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
    **route_spec(map_of(array_of(schema_ref("JobTagJson"))), body=id_list_body("JobId"), errors=(400,)),
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
