"""Job Runner: export and import of jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse

from airflow_provider_streamsets.sandbox.api.bodies import ArchiveEntry, JobIds
from airflow_provider_streamsets.sandbox.api.requests import Backend, Query, read_file, read_ids, read_json
from airflow_provider_streamsets.sandbox.api.responses import json_response
from airflow_provider_streamsets.sandbox.api.validation import check_body
from airflow_provider_streamsets.sandbox.backend.archives import (
    OverwriteOptions,
    import_jobs,
    read_archive,
    write_archive,
)
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError, bad_request
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.openapi import BINARY, array_of, boolean_param, route_spec
from airflow_provider_streamsets.sandbox.serializers.jobs import archive_entry_body

router = APIRouter(prefix="/jobrunner/rest")

_ZIP = "application/octet-stream"
_ENTRIES = array_of("JobEnvelopeWithConnectionsMetadataJson")
_OVERWRITE = tuple(
    boolean_param(name)
    for name in ("updatePipelineRefs", "updateNumInstances", "updateRuntimeParameters", "updateLabels",
                 "updateMigrateOffsets")
)  # fmt: skip


@router.post("/v1/jobs/exportJobs", **route_spec(BINARY, media=_ZIP, body=JobIds, errors=(400, 404)))
async def export_jobs(request: Request, backend: Backend) -> Response:
    """Export jobs and job templates to an archive."""
    jobs = [backend.job(job_id) for job_id in dict.fromkeys(await read_ids(request))]
    for job in jobs:
        if job.seed.template_id is not None:
            raise ApiError(
                400, "JOBRUNNER_38", f"Job '{job.seed.name}' cannot be exported: it is attached to a job template"
            )
    return _archive_response(backend, jobs)


@router.post("/v1/jobs/exportAllJobs", **route_spec(BINARY, media=_ZIP))
async def export_all_jobs(backend: Backend) -> Response:
    """Export all jobs and job templates that are not attached to a template."""
    return _archive_response(backend, [job for job in backend.jobs.values() if job.seed.template_id is None])


@router.post("/v1/jobs/importJobs", **route_spec(_ENTRIES, query=_OVERWRITE, upload=True, errors=(400,)))
async def import_archive(request: Request, backend: Backend, query: Query) -> Response:
    """Create or update the jobs of an archive."""
    file = await read_file(request)
    return _import(backend, query, await run_in_threadpool(read_archive, file))


@router.post(
    "/v1/jobs/importJobsFromJson",
    **route_spec(_ENTRIES, query=_OVERWRITE, body=array_of(ArchiveEntry), errors=(400,)),
)
async def import_json(request: Request, backend: Backend, query: Query) -> Response:
    """Create or update the jobs of a JSON body."""
    entries = await read_json(request)
    if not isinstance(entries, list):
        raise bad_request("The body must be a JSON array of jobs with their pipelines.")
    return _import(backend, query, entries)


def _archive_response(backend: Backend, jobs: list[Job]) -> Response:
    now = backend.clock.now()

    async def stream() -> AsyncIterator[bytes]:
        for chunk in write_archive(archive_entry_body(backend, job, now) for job in jobs):
            yield chunk

    headers = {"Content-Disposition": 'attachment; filename="jobs.zip"'}
    return StreamingResponse(stream(), media_type=_ZIP, headers=headers)


def _import(backend: Backend, query: Query, entries: list[object]) -> Response:
    defaults = OverwriteOptions()

    def option(name: str, default: bool) -> bool:
        value = query.boolean(name)
        return default if value is None else value

    overwrite = OverwriteOptions(
        pipeline=option("updatePipelineRefs", defaults.pipeline),
        instances=option("updateNumInstances", defaults.instances),
        parameters=option("updateRuntimeParameters", defaults.parameters),
        labels=option("updateLabels", defaults.labels),
        failover=option("updateMigrateOffsets", defaults.failover),
    )
    for number, entry in enumerate(entries, start=1):
        check_body(ArchiveEntry, entry, f"entry {number}")
    jobs = import_jobs(backend, entries, overwrite)
    now = backend.clock.now()
    return json_response([archive_entry_body(backend, job, now) for job in jobs])
