"""Job Runner: offsets of jobs."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import get_backend
from airflow_provider_streamsets.sandbox.api.requests import read_file, read_ids, read_json
from airflow_provider_streamsets.sandbox.api.responses import empty_response, json_response
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.payload import parse_json
from airflow_provider_streamsets.sandbox.openapi.request_bodies import OFFSET
from airflow_provider_streamsets.sandbox.openapi.spec import (
    FILE,
    array_of,
    id_list_body,
    json_body,
    map_of,
    route_spec,
    schema_ref,
)
from airflow_provider_streamsets.sandbox.serializers.jobs import job_body

router = APIRouter(prefix="/jobrunner/rest")


@router.get("/v1/job/{job_id}/committedOffsets", **route_spec(OFFSET, errors=(404,), may_be_empty=True))
async def read_committed_offsets(request: Request, job_id: str) -> Response:
    """Return the offset of a job."""
    backend = get_backend(request)
    document = backend.offset(backend.job(job_id), backend.clock.now())
    return empty_response() if document is None else json_response(document)


@router.get("/v1/job/{job_id}/latestCommittedOffsets", **route_spec(array_of(map_of(OFFSET)), errors=(404,)))
async def read_latest_committed_offsets(request: Request, job_id: str) -> Response:
    """Return the offset of a job for each engine of its latest run."""
    backend = get_backend(request)
    job, now = backend.job(job_id), backend.clock.now()
    document = backend.offset(job, now)
    engine_ids = job.latest.engine_ids_at(now) if job.latest else ()
    return json_response([] if document is None else [{engine_id: document} for engine_id in engine_ids])


@router.post("/v1/job/{job_id}/resetOffset", **route_spec(errors=(400, 404)))
async def reset_offset(request: Request, job_id: str) -> Response:
    """Reset the offset of a job."""
    backend = get_backend(request)
    backend.reset_offset(backend.job(job_id))
    return empty_response()


@router.post("/v1/jobs/resetOffset", **route_spec(body=id_list_body("JobId"), errors=(400, 404)))
async def reset_offsets(request: Request) -> Response:
    """Reset the offsets of many jobs."""
    backend = get_backend(request)
    backend.apply_in_bulk(await read_ids(request), backend.check_offset_change, backend.reset_offset)
    return empty_response()


@router.post(
    "/v1/job/{job_id}/uploadOffsetAsJson",
    **route_spec(schema_ref("JobJson"), body=json_body(OFFSET), errors=(400, 404)),
)
async def upload_offset_as_json(request: Request, job_id: str) -> Response:
    """Set the offset of a job from a JSON body."""
    backend = get_backend(request)
    job = backend.job(job_id)
    backend.upload_offset(job, await read_json(request))
    return json_response(job_body(backend, job, backend.clock.now()))


@router.post("/v1/job/{job_id}/uploadOffset", **route_spec(schema_ref("JobJson"), body=FILE, errors=(400, 404)))
async def upload_offset(request: Request, job_id: str) -> Response:
    """Set the offset of a job from a file."""
    backend = get_backend(request)
    job = backend.job(job_id)
    file = await read_file(request)
    try:
        document = parse_json(file.read())
    except ValueError:
        raise bad_request("The file is not valid JSON.") from None
    backend.upload_offset(job, document)
    return json_response(job_body(backend, job, backend.clock.now()))
