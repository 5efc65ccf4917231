"""Job Runner: where jobs continue reading."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import world_of
from airflow_provider_streamsets.sandbox.api.requests import read_file, read_ids, read_json
from airflow_provider_streamsets.sandbox.api.responses import answer, nothing
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.payload import parse_json
from airflow_provider_streamsets.sandbox.openapi.request_bodies import OFFSET
from airflow_provider_streamsets.sandbox.openapi.spec import FILE, described, ids, json_body, keyed, many, named
from airflow_provider_streamsets.sandbox.serializers.jobs import job_body

router = APIRouter(prefix="/jobrunner/rest")


@router.get("/v1/job/{job_id}/committedOffsets", **described(OFFSET, refused=(404,), may_be_empty=True))
async def read_committed_offsets(request: Request, job_id: str) -> Response:
    """Return where a job will continue reading."""
    world = world_of(request)
    document = world.offset(world.job(job_id), world.clock.now())
    return nothing() if document is None else answer(document)


@router.get("/v1/job/{job_id}/latestCommittedOffsets", **described(many(keyed(OFFSET)), refused=(404,)))
async def read_latest_committed_offsets(request: Request, job_id: str) -> Response:
    """Return where a job will continue reading, with the engines that said so."""
    world = world_of(request)
    job, now = world.job(job_id), world.clock.now()
    document = world.offset(job, now)
    engine_ids = job.latest.engine_ids_at(now) if job.latest else ()
    return answer([] if document is None else [{engine_id: document} for engine_id in engine_ids])


@router.post("/v1/job/{job_id}/resetOffset", **described(refused=(400, 404)))
async def reset_offset(request: Request, job_id: str) -> Response:
    """Forget how far a job has read."""
    world = world_of(request)
    world.reset_offset(world.job(job_id))
    return nothing()


@router.post("/v1/jobs/resetOffset", **described(body=ids("JobId"), refused=(400, 404)))
async def reset_offsets(request: Request) -> Response:
    """Forget how far many jobs have read."""
    world = world_of(request)
    world.in_bulk(await read_ids(request), world.check_offset_change, world.reset_offset)
    return nothing()


@router.post(
    "/v1/job/{job_id}/uploadOffsetAsJson", **described(named("JobJson"), body=json_body(OFFSET), refused=(400, 404))
)
async def upload_offset_as_json(request: Request, job_id: str) -> Response:
    """Set how far a job has read, from a JSON body."""
    world = world_of(request)
    job = world.job(job_id)
    world.upload_offset(job, await read_json(request))
    return answer(job_body(world, job, world.clock.now()))


@router.post("/v1/job/{job_id}/uploadOffset", **described(named("JobJson"), body=FILE, refused=(400, 404)))
async def upload_offset(request: Request, job_id: str) -> Response:
    """Set how far a job has read, from a file."""
    world = world_of(request)
    job = world.job(job_id)
    file = await read_file(request)
    try:
        document = parse_json(file.read())
    except ValueError:
        raise bad_request("the file is not valid JSON") from None
    world.upload_offset(job, document)
    return answer(job_body(world, job, world.clock.now()))
