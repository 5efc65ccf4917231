"""Job Runner: the current status of one job, of many, of all."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import world_of
from airflow_provider_streamsets.sandbox.api.requests import Query, read_ids
from airflow_provider_streamsets.sandbox.api.responses import answer, nothing
from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.jobs import Job
from airflow_provider_streamsets.sandbox.openapi.spec import (
    WRAPPED_PAGE,
    described,
    ids,
    keyed,
    named,
    nullable,
    wrapped,
)
from airflow_provider_streamsets.sandbox.serializers.statuses import (
    current_status_body,
    status_body,
    unstarted_status_body,
)

router = APIRouter(prefix="/jobrunner/rest")

START_STATUS_LAG_MS = 500

_STATUS = named("JobStatusJson")


@router.get("/v1/job/{job_id}/currentStatus", **described(nullable(_STATUS), refused=(404,), may_be_empty=True))
async def read_current_status(request: Request, job_id: str) -> Response:
    """Return the status of a job's latest run."""
    world = world_of(request)
    job, now = world.job(job_id), world.clock.now()
    body = _current_status_body(world, job, now)
    if body is not None:
        return answer(body)
    never_run = world.variants.never_run_status
    if never_run == "empty":
        return nothing()
    return answer(None if never_run == "null" else unstarted_status_body(world, job, now))


@router.post("/v1/jobs/status", **described(keyed(nullable(_STATUS)), body=ids("JobId"), refused=(400,)))
async def read_statuses(request: Request) -> Response:
    """Return the current statuses of many jobs."""
    world = world_of(request)
    now = world.clock.now()
    statuses: dict[str, Any] = {}
    for job_id in await read_ids(request):
        job = world.jobs.get(job_id)
        body = _current_status_body(world, job, now) if job else None
        if body is not None or world.variants.bulk_missing == "null":
            statuses[job_id] = body
    return answer(statuses)


@router.get(
    "/v1/jobs/status",
    **described({"anyOf": [keyed(_STATUS), wrapped(keyed(_STATUS))]}, query=WRAPPED_PAGE, refused=(400,)),
)
async def list_statuses(request: Request) -> Response:
    """Return the current statuses of all jobs, or of a page of them."""
    world, query = world_of(request), Query(request)
    now = world.clock.now()
    bodies = {job.id: _current_status_body(world, job, now) for job in world.jobs.values()}
    known = {job_id: body for job_id, body in bodies.items() if body is not None}
    offset, length = query.bounds(-1)
    ids = list(known)[offset : None if length == -1 else offset + length]
    statuses = {job_id: known[job_id] for job_id in ids}
    if query.flag("withWrapper"):
        return answer({"totalCount": len(known), "offset": offset, "len": length, "data": statuses})
    return answer(statuses)


def _current_status_body(world: World, job: Job, now: int) -> dict[str, Any] | None:
    lags = world.variants.start_status_lag == "previous"
    # In wall time whatever the time scale, so that clients get to see it.
    if lags and job.latest is not None and now - job.latest.started < START_STATUS_LAG_MS:
        return status_body(world, job, job.runs[-2], now) if len(job.runs) > 1 else None
    return current_status_body(world, job, now)
