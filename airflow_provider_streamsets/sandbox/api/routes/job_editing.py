"""Job Runner: creation, update, upgrade and duplication of jobs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import get_backend
from airflow_provider_streamsets.sandbox.api.requests import Query, read_ids, read_json
from airflow_provider_streamsets.sandbox.api.responses import empty_response, json_response
from airflow_provider_streamsets.sandbox.backend import jobs as editing
from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.openapi.request_bodies import DUPLICATION, JOB, JOB_WITH_ID, NEW_JOB
from airflow_provider_streamsets.sandbox.openapi.spec import (
    array_of,
    boolean_param,
    id_list_body,
    json_body,
    route_spec,
    schema_ref,
)
from airflow_provider_streamsets.sandbox.serializers.jobs import job_body

router = APIRouter(prefix="/jobrunner/rest")

_JOBS = array_of(schema_ref("JobJson"))
_VERIFIED = (boolean_param("ciVerified"),)


def _bodies(backend: ControlHubBackend, jobs: list[Job]) -> list[Any]:
    now = backend.clock.now()
    return [job_body(backend, job, now) for job in jobs]


async def _read_list(request: Request) -> list[Any]:
    body = await read_json(request)
    if not isinstance(body, list):
        raise bad_request("The body must be a JSON array of jobs.")
    return body


@router.put("/v1/jobs", **route_spec(schema_ref("JobJson"), body=json_body(NEW_JOB), errors=(400,)))
async def create_job(request: Request) -> Response:
    """Create a job or a job template; names need not be unique."""
    backend = get_backend(request)
    job = backend.add_job(editing.new_job_seed(backend, await read_json(request)))
    return json_response(job_body(backend, job, backend.clock.now()))


@router.put("/v1/jobs/createJobs", **route_spec(_JOBS, body=json_body(array_of(NEW_JOB)), errors=(400,)))
async def create_jobs(request: Request) -> Response:
    """Create many jobs, or none if one of them is invalid."""
    backend = get_backend(request)
    seeds = [editing.new_job_seed(backend, body) for body in await _read_list(request)]
    return json_response(_bodies(backend, [backend.add_job(seed) for seed in seeds]))


@router.post("/v1/job/{job_id}", **route_spec(schema_ref("JobJson"), body=json_body(JOB), errors=(400, 404)))
async def update_job(request: Request, job_id: str) -> Response:
    """
    Update a job or a job template.

    Running instances of a template are not restarted, and ``updateDynamicParameters`` has no effect.
    """
    backend = get_backend(request)
    job = backend.job(job_id)
    editing.check_update(backend, job)
    backend.change_job(job, **editing.read_changes(backend, job, await read_json(request)))
    return json_response(job_body(backend, job, backend.clock.now()))


@router.post(
    "/v1/jobs/updateJobs",
    **route_spec(_JOBS, body=json_body(array_of(JOB_WITH_ID)), errors=(400, 404), may_be_empty=True),
)
async def update_jobs(request: Request) -> Response:
    """Update many jobs."""
    backend = get_backend(request)
    bodies: dict[str, Any] = {}
    for body in await _read_list(request):
        job_id = body.get("id") if isinstance(body, dict) else None
        if not isinstance(job_id, str):
            raise bad_request("Every job in the body must have an id.")
        bodies[job_id] = body
    changes: dict[str, dict[str, Any]] = {}

    def check(job: Job) -> None:
        editing.check_update(backend, job)
        changes[job.id] = editing.read_changes(backend, job, bodies[job.id])

    jobs = backend.apply_in_bulk(list(bodies), check, lambda job: backend.change_job(job, **changes[job.id]))
    return empty_response() if backend.variants.bulk_body == "empty" else json_response(_bodies(backend, jobs))


def _upgrade(request: Request, job_ids: list[str]) -> Response:
    """Upgrade jobs. With ``ciVerified``, nothing changes: the sandbox has no versions verified by CI."""
    backend = get_backend(request)
    verified_only = Query(request).boolean("ciVerified")
    jobs = backend.apply_in_bulk(
        job_ids,
        lambda job: editing.check_upgrade(backend, job),
        lambda job: None if verified_only else editing.upgrade(backend, job),
    )
    return json_response(_bodies(backend, jobs))


@router.post(
    "/v1/jobs/upgradeJobs", **route_spec(_JOBS, query=_VERIFIED, body=id_list_body("JobId"), errors=(400, 404))
)
async def upgrade_jobs(request: Request) -> Response:
    """Upgrade many jobs to the latest versions of their pipelines."""
    return _upgrade(request, await read_ids(request))


@router.post("/v1/job/{job_id}/upgrade", **route_spec(_JOBS, query=_VERIFIED, errors=(400, 404)))
async def upgrade_job(request: Request, job_id: str) -> Response:
    """Upgrade a job to the latest version of its pipeline; the response is a list."""
    return _upgrade(request, [job_id])


@router.post(
    "/v1/job/{job_id}/duplicate", **route_spec(_JOBS, body=json_body(DUPLICATION), errors=(400, 404), may_be_empty=True)
)
async def duplicate_job(request: Request, job_id: str) -> Response:
    """Duplicate a job or a job template, once or several times."""
    backend = get_backend(request)
    copies = editing.duplicate(backend, backend.job(job_id), await read_json(request))
    return empty_response() if backend.variants.duplicate_body == "empty" else json_response(_bodies(backend, copies))
