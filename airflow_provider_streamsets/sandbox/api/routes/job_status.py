"""Job Runner: current status of one job, many jobs or all jobs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import get_backend
from airflow_provider_streamsets.sandbox.api.requests import Query, read_ids
from airflow_provider_streamsets.sandbox.api.responses import empty_response, json_response
from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.openapi.spec import (
    WRAPPED_PAGE,
    id_list_body,
    map_of,
    nullable,
    route_spec,
    schema_ref,
    wrapper_of,
)
from airflow_provider_streamsets.sandbox.serializers.statuses import (
    current_status_body,
    status_body,
    unstarted_status_body,
)

router = APIRouter(prefix="/jobrunner/rest")

START_STATUS_LAG_MS = 500

_STATUS = schema_ref("JobStatusJson")


@router.get("/v1/job/{job_id}/currentStatus", **route_spec(nullable(_STATUS), errors=(404,), may_be_empty=True))
async def read_current_status(request: Request, job_id: str) -> Response:
    """Return the status of the latest run of a job."""
    backend = get_backend(request)
    job, now = backend.job(job_id), backend.clock.now()
    body = _current_status_body(backend, job, now)
    if body is not None:
        return json_response(body)
    never_run = backend.variants.never_run_status
    if never_run == "empty":
        return empty_response()
    return json_response(None if never_run == "null" else unstarted_status_body(backend, job, now))


@router.post("/v1/jobs/status", **route_spec(map_of(nullable(_STATUS)), body=id_list_body("JobId"), errors=(400,)))
async def read_statuses(request: Request) -> Response:
    """Return the current statuses of many jobs."""
    backend = get_backend(request)
    now = backend.clock.now()
    statuses: dict[str, Any] = {}
    for job_id in await read_ids(request):
        job = backend.jobs.get(job_id)
        body = _current_status_body(backend, job, now) if job else None
        if body is not None or backend.variants.bulk_missing == "null":
            statuses[job_id] = body
    return json_response(statuses)


@router.get(
    "/v1/jobs/status",
    **route_spec({"anyOf": [map_of(_STATUS), wrapper_of(map_of(_STATUS))]}, query=WRAPPED_PAGE, errors=(400,)),
)
async def list_statuses(request: Request) -> Response:
    """Return the current statuses of all jobs, or a page of them."""
    backend, query = get_backend(request), Query(request)
    now = backend.clock.now()
    bodies = {job.id: _current_status_body(backend, job, now) for job in backend.jobs.values()}
    started = {job_id: body for job_id, body in bodies.items() if body is not None}
    offset, length = query.bounds(-1)
    ids = list(started)[offset : None if length == -1 else offset + length]
    statuses = {job_id: started[job_id] for job_id in ids}
    if query.boolean("withWrapper"):
        return json_response({"totalCount": len(started), "offset": offset, "len": length, "data": statuses})
    return json_response(statuses)


def _current_status_body(backend: ControlHubBackend, job: Job, now: int) -> dict[str, Any] | None:
    lags = backend.variants.start_status_lag == "previous"
    # Wall time, not scaled, so that clients can observe the lag.
    if lags and job.latest is not None and now - job.latest.started < START_STATUS_LAG_MS:
        return status_body(backend, job, job.runs[-2], now) if len(job.runs) > 1 else None
    return current_status_body(backend, job, now)
