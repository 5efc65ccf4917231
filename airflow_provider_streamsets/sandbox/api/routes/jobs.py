"""Job Runner: single jobs and their permissions."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import get_backend
from airflow_provider_streamsets.sandbox.api.requests import read_json
from airflow_provider_streamsets.sandbox.api.responses import empty_response, json_response
from airflow_provider_streamsets.sandbox.backend.jobs import change_permissions
from airflow_provider_streamsets.sandbox.openapi.request_bodies import ACL
from airflow_provider_streamsets.sandbox.openapi.spec import STRINGS, json_body, route_spec, schema_ref
from airflow_provider_streamsets.sandbox.serializers.jobs import acl_body, job_body

router = APIRouter(prefix="/jobrunner/rest")


@router.get("/v1/job/{job_id}", **route_spec(schema_ref("JobJson"), errors=(404,)))
async def read_job(request: Request, job_id: str) -> Response:
    """Return a job or a job template."""
    backend = get_backend(request)
    return json_response(job_body(backend, backend.readable_job(job_id), backend.clock.now()))


@router.get("/v1/job/{job_id}/labels", **route_spec(STRINGS, errors=(404,)))
async def read_job_labels(request: Request, job_id: str) -> Response:
    """Return the engine labels of a job."""
    return json_response(list(get_backend(request).job(job_id).seed.labels))


@router.get("/v1/job/{job_id}/acl", **route_spec(schema_ref("AclJson"), errors=(404,)))
async def read_job_acl(request: Request, job_id: str) -> Response:
    """Return the permissions of a job."""
    backend = get_backend(request)
    return json_response(acl_body(backend, backend.job(job_id)))


@router.post("/v1/job/{job_id}/acl", **route_spec(schema_ref("AclJson"), body=json_body(ACL), errors=(400, 404)))
async def update_job_acl(request: Request, job_id: str) -> Response:
    """Replace the permissions of a job."""
    backend = get_backend(request)
    job = backend.job(job_id)
    change_permissions(backend, job, await read_json(request))
    return json_response(acl_body(backend, job))


@router.get("/v1/{job_id}/validateAccess", **route_spec(errors=(404,)))
async def validate_access(request: Request, job_id: str) -> Response:
    """Check that the caller may read a job."""
    get_backend(request).job(job_id)
    return empty_response()
