"""Job Runner: exporting jobs to archives, and importing them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse

from airflow_provider_streamsets.sandbox.api.context import world_of
from airflow_provider_streamsets.sandbox.api.requests import Query, read_file, read_ids, read_json
from airflow_provider_streamsets.sandbox.api.responses import answer
from airflow_provider_streamsets.sandbox.backend import archive
from airflow_provider_streamsets.sandbox.backend.archive_import import Overwrite, import_jobs
from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError, bad_request
from airflow_provider_streamsets.sandbox.backend.jobs import Job
from airflow_provider_streamsets.sandbox.openapi.request_bodies import ARCHIVE_ENTRY
from airflow_provider_streamsets.sandbox.openapi.spec import BINARY, FILE, described, flag, ids, json_body, many, named
from airflow_provider_streamsets.sandbox.serializers.jobs import archive_entry_body

router = APIRouter(prefix="/jobrunner/rest")

_ZIP = "application/octet-stream"
_ENTRIES = many(named("JobEnvelopeWithConnectionsMetadataJson"))
_OVERWRITE = tuple(
    flag(name)
    for name in ("updatePipelineRefs", "updateNumInstances", "updateRuntimeParameters", "updateLabels",
                 "updateMigrateOffsets")
)  # fmt: skip


@router.post("/v1/jobs/exportJobs", **described(BINARY, media=_ZIP, body=ids("JobId"), refused=(400, 404)))
async def export_jobs(request: Request) -> Response:
    """Return an archive of some jobs and job templates."""
    world = world_of(request)
    jobs = [world.job(job_id) for job_id in dict.fromkeys(await read_ids(request))]
    for job in jobs:
        if job.seed.template_id is not None:
            raise ProblemError(
                400, "JOBRUNNER_38", f"Job '{job.seed.name}' cannot be exported: it is attached to a job template"
            )
    return _archive(world, jobs)


@router.post("/v1/jobs/exportAllJobs", **described(BINARY, media=_ZIP))
async def export_all_jobs(request: Request) -> Response:
    """Return an archive of all jobs and job templates that can be exported."""
    world = world_of(request)
    return _archive(world, [job for job in world.jobs.values() if job.seed.template_id is None])


@router.post("/v1/jobs/importJobs", **described(_ENTRIES, query=_OVERWRITE, body=FILE, refused=(400,)))
async def import_archive(request: Request) -> Response:
    """Create or update the jobs of an archive."""
    file = await read_file(request)
    return _imported(request, await run_in_threadpool(archive.read, file))


@router.post(
    "/v1/jobs/importJobsFromJson",
    **described(_ENTRIES, query=_OVERWRITE, body=json_body(many(ARCHIVE_ENTRY)), refused=(400,)),
)
async def import_json(request: Request) -> Response:
    """Create or update the jobs that a JSON body holds."""
    entries = await read_json(request)
    if not isinstance(entries, list):
        raise bad_request("the body must be a JSON array of jobs with their pipelines")
    return _imported(request, entries)


def _archive(world: World, jobs: list[Job]) -> Response:
    now = world.clock.now()

    async def stream() -> AsyncIterator[bytes]:
        for piece in archive.written(archive_entry_body(world, job, now) for job in jobs):
            yield piece

    headers = {"Content-Disposition": 'attachment; filename="jobs.zip"'}
    return StreamingResponse(stream(), media_type=_ZIP, headers=headers)


def _imported(request: Request, entries: list[object]) -> Response:
    world, query = world_of(request), Query(request)
    default = Overwrite()

    def chosen(name: str, otherwise: bool) -> bool:
        value = query.flag(name)
        return otherwise if value is None else value

    overwrite = Overwrite(
        pipeline=chosen("updatePipelineRefs", default.pipeline),
        instances=chosen("updateNumInstances", default.instances),
        parameters=chosen("updateRuntimeParameters", default.parameters),
        labels=chosen("updateLabels", default.labels),
        failover=chosen("updateMigrateOffsets", default.failover),
    )
    jobs = import_jobs(world, entries, overwrite)
    now = world.clock.now()
    return answer([archive_entry_body(world, job, now) for job in jobs])
