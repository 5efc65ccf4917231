"""Job Runner: deleting jobs and job templates."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import world_of
from airflow_provider_streamsets.sandbox.api.requests import read_ids
from airflow_provider_streamsets.sandbox.api.responses import answer, nothing
from airflow_provider_streamsets.sandbox.backend import deletion
from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.jobs import Job
from airflow_provider_streamsets.sandbox.openapi.spec import described, ids, many, named
from airflow_provider_streamsets.sandbox.serializers.jobs import job_body

router = APIRouter(prefix="/jobrunner/rest")

_MANY = described(many(named("JobJson")), body=ids("JobId"), refused=(400, 404), may_be_empty=True)
_TEMPLATES = described(many(named("JobJson")), body=ids("TemplateId"), refused=(400, 404), may_be_empty=True)


@router.delete("/v2/job/{job_id}", **described(named("JobJson"), refused=(400, 404)))
async def delete_job(request: Request, job_id: str) -> Response:
    """Delete a job and return it as it was deleted."""
    world = world_of(request)
    job = world.job(job_id)
    deletion.delete(world, job)
    return answer(job_body(world, job, world.clock.now()))


@router.delete("/v1/job/{job_id}", **described(refused=(400, 404)))
async def delete_job_v1(request: Request, job_id: str) -> Response:
    """Delete a job; the older call, without an answer."""
    world = world_of(request)
    deletion.delete(world, world.job(job_id))
    return nothing()


@router.post("/v1/jobs/deleteJobs", **_MANY)
async def delete_jobs(request: Request) -> Response:
    """Delete many jobs."""
    return await _in_bulk(request, deletion.check_delete, deletion.delete)


@router.post("/v1/jobs/deleteJobTemplates", **_TEMPLATES)
async def delete_templates(request: Request) -> Response:
    """Delete job templates and all their instances."""
    return await _in_bulk(request, deletion.check_delete_template, deletion.delete_template)


@router.post("/v1/jobs/archiveJobTemplates", **_TEMPLATES)
async def archive_templates(request: Request) -> Response:
    """Archive job templates."""
    return await _in_bulk(request, lambda world, job: deletion.check_template(job), deletion.archive_template)


async def _in_bulk(
    request: Request, check: Callable[[World, Job], None], act: Callable[[World, Job], None]
) -> Response:
    world = world_of(request)
    jobs = world.in_bulk(await read_ids(request), lambda job: check(world, job), lambda job: act(world, job))
    if world.variants.bulk_body == "empty":
        return nothing()
    return answer([job_body(world, job, world.clock.now()) for job in jobs])
