"""Job Runner: deletion of jobs and job templates."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import get_backend
from airflow_provider_streamsets.sandbox.api.requests import read_ids
from airflow_provider_streamsets.sandbox.api.responses import empty_response, json_response
from airflow_provider_streamsets.sandbox.backend import jobs as deletion
from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.openapi.spec import array_of, id_list_body, route_spec, schema_ref
from airflow_provider_streamsets.sandbox.serializers.jobs import job_body

router = APIRouter(prefix="/jobrunner/rest")

_JOBS_SPEC = route_spec(
    array_of(schema_ref("JobJson")), body=id_list_body("JobId"), errors=(400, 404), may_be_empty=True
)
_TEMPLATES_SPEC = route_spec(
    array_of(schema_ref("JobJson")), body=id_list_body("TemplateId"), errors=(400, 404), may_be_empty=True
)


@router.delete("/v2/job/{job_id}", **route_spec(schema_ref("JobJson"), errors=(400, 404)))
async def delete_job(request: Request, job_id: str) -> Response:
    """Delete a job and return it."""
    backend = get_backend(request)
    job = backend.job(job_id)
    deletion.delete(backend, job)
    return json_response(job_body(backend, job, backend.clock.now()))


@router.delete("/v1/job/{job_id}", **route_spec(errors=(400, 404)))
async def delete_job_v1(request: Request, job_id: str) -> Response:
    """Delete a job; older version of the call, without a response body."""
    backend = get_backend(request)
    deletion.delete(backend, backend.job(job_id))
    return empty_response()


@router.post("/v1/jobs/deleteJobs", **_JOBS_SPEC)
async def delete_jobs(request: Request) -> Response:
    """Delete many jobs."""
    return await _apply_in_bulk(request, deletion.check_delete, deletion.delete)


@router.post("/v1/jobs/deleteJobTemplates", **_TEMPLATES_SPEC)
async def delete_templates(request: Request) -> Response:
    """Delete job templates and all their instances."""
    return await _apply_in_bulk(request, deletion.check_delete_template, deletion.delete_template)


@router.post("/v1/jobs/archiveJobTemplates", **_TEMPLATES_SPEC)
async def archive_templates(request: Request) -> Response:
    """Archive job templates."""
    return await _apply_in_bulk(request, lambda backend, job: deletion.check_template(job), deletion.archive_template)


async def _apply_in_bulk(
    request: Request, check: Callable[[ControlHubBackend, Job], None], apply: Callable[[ControlHubBackend, Job], None]
) -> Response:
    backend = get_backend(request)
    jobs = backend.apply_in_bulk(
        await read_ids(request), lambda job: check(backend, job), lambda job: apply(backend, job)
    )
    if backend.variants.bulk_body == "empty":
        return empty_response()
    return json_response([job_body(backend, job, backend.clock.now()) for job in jobs])
