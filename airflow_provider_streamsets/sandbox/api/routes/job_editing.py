"""Job Runner: creating, changing, upgrading and copying jobs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import world_of
from airflow_provider_streamsets.sandbox.api.requests import Query, read_ids, read_json
from airflow_provider_streamsets.sandbox.api.responses import answer, nothing
from airflow_provider_streamsets.sandbox.backend import editing
from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.jobs import Job
from airflow_provider_streamsets.sandbox.openapi.request_bodies import DUPLICATION, JOB, JOB_WITH_ID, NEW_JOB
from airflow_provider_streamsets.sandbox.openapi.spec import described, flag, ids, json_body, many, named
from airflow_provider_streamsets.sandbox.serializers.jobs import job_body

router = APIRouter(prefix="/jobrunner/rest")

_JOBS = many(named("JobJson"))
_VERIFIED = (flag("ciVerified"),)


def _bodies(world: World, jobs: list[Job]) -> list[Any]:
    now = world.clock.now()
    return [job_body(world, job, now) for job in jobs]


async def _read_list(request: Request) -> list[Any]:
    body = await read_json(request)
    if not isinstance(body, list):
        raise bad_request("the body must be a JSON array of jobs")
    return body


@router.put("/v1/jobs", **described(named("JobJson"), body=json_body(NEW_JOB), refused=(400,)))
async def create_job(request: Request) -> Response:
    """Create a job or a job template; two may have the same name."""
    world = world_of(request)
    job = world.add_job(editing.new_job_seed(world, await read_json(request)))
    return answer(job_body(world, job, world.clock.now()))


@router.put("/v1/jobs/createJobs", **described(_JOBS, body=json_body(many(NEW_JOB)), refused=(400,)))
async def create_jobs(request: Request) -> Response:
    """Create many jobs, or none if one of them is refused."""
    world = world_of(request)
    seeds = [editing.new_job_seed(world, body) for body in await _read_list(request)]
    return answer(_bodies(world, [world.add_job(seed) for seed in seeds]))


@router.post("/v1/job/{job_id}", **described(named("JobJson"), body=json_body(JOB), refused=(400, 404)))
async def update_job(request: Request, job_id: str) -> Response:
    """
    Change a job or a job template.

    Running instances of a template are not restarted, and ``updateDynamicParameters`` has no effect.
    """
    world = world_of(request)
    job = world.job(job_id)
    editing.check_update(world, job)
    world.change_job(job, **editing.read_changes(world, job, await read_json(request)))
    return answer(job_body(world, job, world.clock.now()))


@router.post(
    "/v1/jobs/updateJobs", **described(_JOBS, body=json_body(many(JOB_WITH_ID)), refused=(400, 404), may_be_empty=True)
)
async def update_jobs(request: Request) -> Response:
    """Change many jobs."""
    world = world_of(request)
    bodies: dict[str, Any] = {}
    for body in await _read_list(request):
        job_id = body.get("id") if isinstance(body, dict) else None
        if not isinstance(job_id, str):
            raise bad_request("every job of the body must have an id")
        bodies[job_id] = body
    changes: dict[str, dict[str, Any]] = {}

    def check(job: Job) -> None:
        editing.check_update(world, job)
        changes[job.id] = editing.read_changes(world, job, bodies[job.id])

    jobs = world.in_bulk(list(bodies), check, lambda job: world.change_job(job, **changes[job.id]))
    return nothing() if world.variants.bulk_body == "empty" else answer(_bodies(world, jobs))


def _upgrade(request: Request, job_ids: list[str]) -> Response:
    """Upgrade jobs; no version here was ever verified by continuous integration, so asking for one changes nothing."""
    world = world_of(request)
    verified_only = Query(request).flag("ciVerified")
    jobs = world.in_bulk(
        job_ids,
        lambda job: editing.check_upgrade(world, job),
        lambda job: None if verified_only else editing.upgrade(world, job),
    )
    return answer(_bodies(world, jobs))


@router.post("/v1/jobs/upgradeJobs", **described(_JOBS, query=_VERIFIED, body=ids("JobId"), refused=(400, 404)))
async def upgrade_jobs(request: Request) -> Response:
    """Let many jobs run the latest versions of their pipelines."""
    return _upgrade(request, await read_ids(request))


@router.post("/v1/job/{job_id}/upgrade", **described(_JOBS, query=_VERIFIED, refused=(400, 404)))
async def upgrade_job(request: Request, job_id: str) -> Response:
    """Let a job run the latest version of its pipeline; the answer is a list all the same."""
    return _upgrade(request, [job_id])


@router.post(
    "/v1/job/{job_id}/duplicate", **described(_JOBS, body=json_body(DUPLICATION), refused=(400, 404), may_be_empty=True)
)
async def duplicate_job(request: Request, job_id: str) -> Response:
    """Copy a job or a job template, once or many times."""
    world = world_of(request)
    copies = editing.duplicate(world, world.job(job_id), await read_json(request))
    return nothing() if world.variants.duplicate_body == "empty" else answer(_bodies(world, copies))
