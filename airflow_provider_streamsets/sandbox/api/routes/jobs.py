"""Job Runner: reading one job."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import world_of
from airflow_provider_streamsets.sandbox.api.requests import read_json
from airflow_provider_streamsets.sandbox.api.responses import answer, nothing
from airflow_provider_streamsets.sandbox.backend.acl import change_permissions
from airflow_provider_streamsets.sandbox.openapi.request_bodies import ACL
from airflow_provider_streamsets.sandbox.openapi.spec import STRINGS, described, json_body, named
from airflow_provider_streamsets.sandbox.serializers.jobs import acl_body, job_body

router = APIRouter(prefix="/jobrunner/rest")


@router.get("/v1/job/{job_id}", **described(named("JobJson"), refused=(404,)))
async def read_job(request: Request, job_id: str) -> Response:
    """Return a job or a job template."""
    world = world_of(request)
    return answer(job_body(world, world.readable_job(job_id), world.clock.now()))


@router.get("/v1/job/{job_id}/labels", **described(STRINGS, refused=(404,)))
async def read_job_labels(request: Request, job_id: str) -> Response:
    """Return the engine labels of a job."""
    return answer(list(world_of(request).job(job_id).seed.labels))


@router.get("/v1/job/{job_id}/acl", **described(named("AclJson"), refused=(404,)))
async def read_job_acl(request: Request, job_id: str) -> Response:
    """Return who may do what with a job."""
    world = world_of(request)
    return answer(acl_body(world, world.job(job_id)))


@router.post("/v1/job/{job_id}/acl", **described(named("AclJson"), body=json_body(ACL), refused=(400, 404)))
async def update_job_acl(request: Request, job_id: str) -> Response:
    """Change who may do what with a job."""
    world = world_of(request)
    job = world.job(job_id)
    change_permissions(world, job, await read_json(request))
    return answer(acl_body(world, job))


@router.get("/v1/{job_id}/validateAccess", **described(refused=(404,)))
async def validate_access(request: Request, job_id: str) -> Response:
    """Check that the caller may read a job."""
    world_of(request).job(job_id)
    return nothing()
