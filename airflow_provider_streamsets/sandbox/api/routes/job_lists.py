"""Job Runner: listing and counting jobs, their tags and their labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import world_of
from airflow_provider_streamsets.sandbox.api.requests import Query, read_ids
from airflow_provider_streamsets.sandbox.api.responses import answer, nothing, page, wrapper_body
from airflow_provider_streamsets.sandbox.api.routes.job_filters import (
    FILTERS,
    STATUS_FILTERS,
    listed_status,
    select_jobs,
)
from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.jobs import Job
from airflow_provider_streamsets.sandbox.openapi.spec import (
    COUNT,
    ORDER,
    PAGE,
    STRING,
    STRINGS,
    WHOLE,
    WRAPPED_PAGE,
    described,
    flag,
    ids,
    keyed,
    many,
    named,
    page_of,
    record,
    text,
    wrapped,
)
from airflow_provider_streamsets.sandbox.serializers.jobs import job_body, job_tag_body
from airflow_provider_streamsets.sandbox.serializers.schemas import complete
from airflow_provider_streamsets.sandbox.serializers.statuses import current_status_body

router = APIRouter(prefix="/jobrunner/rest")

_JOBS = page_of(named("JobJson"))
_COMMIT = text("pipelineCommitId", required=True, of=named("CommitId"))
_STATUS_COUNTS = wrapped(many(record(status=STRING, count=WHOLE)))


def _job_bodies(world: World) -> Callable[[Job], Any]:
    now = world.clock.now()
    return lambda job: job_body(world, job, now)


@router.get("/v1/jobs", **described(_JOBS, query=(*FILTERS, *WRAPPED_PAGE), refused=(400,)))
async def list_jobs(request: Request) -> Response:
    """List jobs."""
    return page(Query(request), select_jobs(request), _job_bodies(world_of(request)))


@router.get("/v1/jobs/byStatus", **described(_JOBS, query=(*STATUS_FILTERS, *WRAPPED_PAGE), refused=(400,)))
async def list_jobs_by_status(request: Request) -> Response:
    """List the jobs of one status."""
    return page(Query(request), select_jobs(request, by_status=True), _job_bodies(world_of(request)))


@router.get("/v1/jobs/forPipelineCommit", **described(_JOBS, query=(_COMMIT, *FILTERS, *WRAPPED_PAGE), refused=(400,)))
async def list_jobs_of_commit(request: Request) -> Response:
    """List the jobs that run a pipeline version."""
    commit = Query(request).text("pipelineCommitId")
    if commit is None:
        raise bad_request("pipelineCommitId is missing")
    jobs = [job for job in select_jobs(request) if job.seed.version.commit_id == commit]
    return page(Query(request), jobs, _job_bodies(world_of(request)))


@router.get(
    "/v1/metrics/problematicJobs", **described(wrapped(many(named("JobJson"))), query=(*FILTERS, *PAGE), refused=(400,))
)
async def list_problematic_jobs(request: Request) -> Response:
    """List the jobs whose color is red."""
    world = world_of(request)
    now = world.clock.now()
    jobs = [job for job in select_jobs(request) if (current_status_body(world, job, now) or {}).get("color") == "RED"]
    return page(Query(request), jobs, _job_bodies(world), wrapped=True)


@router.post("/v1/jobs", **described(many(named("JobJson")), body=ids("JobId"), refused=(400,)))
async def read_jobs(request: Request) -> Response:
    """Return the jobs with some ids; ids that nobody has are left out."""
    world = world_of(request)
    ids = await read_ids(request)
    if world.variants.jobs_by_ids == "asked":
        jobs = [world.jobs[job_id] for job_id in dict.fromkeys(ids) if job_id in world.jobs]
    else:
        jobs = [job for job_id, job in world.jobs.items() if job_id in set(ids)]
    return answer([_job_bodies(world)(job) for job in jobs])


@router.get("/v1/jobs/count", **described(COUNT, query=(flag("removed"),), refused=(400,)))
async def count_jobs(request: Request) -> Response:
    """Count the jobs without the templates: what a client finds when it lists job instances."""
    world = world_of(request)
    jobs = world.removed_jobs if Query(request).flag("removed") else world.jobs
    return answer({"count": sum(not job.seed.is_template for job in jobs.values())})


@router.get(
    "/v1/jobs/tags",
    **described(page_of(named("JobTag")), query=(text("parentId"), ORDER, *WRAPPED_PAGE), refused=(400,)),
)
async def list_job_tags(request: Request) -> Response:
    """List the tags that jobs have, or the children of one tag."""
    world, query = world_of(request), Query(request)
    texts = {tag for job in world.jobs.values() for tag in job.seed.tags}
    texts |= {tag.rpartition("/")[0] for tag in texts} - {""}
    tags = [{**job_tag_body(world, tag), "optimisticLockVersion": 0} for tag in sorted(texts)]
    parent = query.text("parentId")
    tags = [complete("JobTag", tag) for tag in tags if tag["parentId"] == parent]
    if query.choice("order", ("ASC", "DESC")) == "DESC":
        tags.reverse()
    return page(query, tags, lambda tag: tag)


@router.post("/v1/job/jobTagsBulk", **described(keyed(many(named("JobTagJson"))), body=ids("JobId"), refused=(400,)))
async def read_job_tags(request: Request) -> Response:
    """Return the tags of many jobs."""
    world = world_of(request)
    return answer(
        {
            job_id: [job_tag_body(world, tag) for tag in world.jobs[job_id].seed.tags]
            for job_id in await read_ids(request)
            if job_id in world.jobs
        }
    )


@router.get("/v1/jobs/labels", **described(STRINGS))
async def list_job_labels(request: Request) -> Response:
    """List the engine labels that jobs ask for."""
    return answer(sorted({label for job in world_of(request).jobs.values() for label in job.seed.labels}))


@router.get("/v1/metrics/jobCountByStatus", **described(_STATUS_COUNTS))
async def count_jobs_by_status(request: Request) -> Response:
    """Count the jobs by status."""
    world = world_of(request)
    now = world.clock.now()
    jobs = [job for job in world.jobs.values() if not job.seed.is_template]
    counts: Counter[str] = Counter()
    for job in jobs:
        status = current_status_body(world, job, now)
        counts[listed_status(world, job, now)] += 1
        if status:
            counts[f"{status['status']}_{status['color']}"] += 1
    names = ("ACTIVE", "ACTIVE_GREEN", "ACTIVE_RED", "ACTIVATING", "DEACTIVATING", "INACTIVE", "INACTIVE_ERROR")
    entries = [{"status": name, "count": counts[name]} for name in names]
    if counts["ACTIVATION_ERROR"]:
        entries.append({"status": "ACTIVATION_ERROR", "count": counts["ACTIVATION_ERROR"]})
    return answer(wrapper_body(len(entries), 0, -1, entries))


@router.get("/v1/jobs/draftRunJobForPipelineId", **described())
async def read_draft_run(request: Request) -> Response:
    """Return the draft run of a pipeline: there are none."""
    return nothing()
