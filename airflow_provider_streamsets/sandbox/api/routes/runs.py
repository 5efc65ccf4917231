"""Job Runner: statuses, runs and offsets of jobs, with events, log messages and metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.bodies import JobIds, Offset
from airflow_provider_streamsets.sandbox.api.requests import Backend, Query, read_file, read_ids, read_json
from airflow_provider_streamsets.sandbox.api.responses import (
    Property,
    empty_response,
    json_response,
    page_response,
    search_response,
)
from airflow_provider_streamsets.sandbox.api.validation import check_body
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError, bad_request
from airflow_provider_streamsets.sandbox.backend.payload import parse_json
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.openapi import (
    ORDER,
    PAGE,
    SEARCH,
    WRAPPED_PAGE,
    array_of,
    integer_param,
    map_of,
    nullable,
    page_of,
    route_spec,
    string_param,
    wrapper_of,
)
from airflow_provider_streamsets.sandbox.serializers.jobs import job_body
from airflow_provider_streamsets.sandbox.serializers.metrics import empty_metrics_body, registry_body
from airflow_provider_streamsets.sandbox.serializers.runs import (
    current_status_body,
    event_bodies,
    log_message_bodies,
    status_body,
    unstarted_status_body,
)

router = APIRouter(prefix="/jobrunner/rest")

START_STATUS_LAG_MS = 500

_STATUS = "JobStatusJson"
_OFFSET = "Offset"


@router.get("/v1/job/{job_id}/currentStatus", **route_spec(nullable(_STATUS), errors=(404,), may_be_empty=True))
async def read_current_status(backend: Backend, job_id: str) -> Response:
    """Return the status of the latest run of a job."""
    job, now = backend.job(job_id), backend.clock.now()
    body = _current_status_body(backend, job, now)
    if body is not None:
        return json_response(body)
    never_run = backend.variants.never_run_status
    if never_run == "empty":
        return empty_response()
    return json_response(None if never_run == "null" else unstarted_status_body(backend, job, now))


@router.post("/v1/jobs/status", **route_spec(map_of(nullable(_STATUS)), body=JobIds, errors=(400,)))
async def read_statuses(request: Request, backend: Backend) -> Response:
    """Return the current statuses of many jobs."""
    now = backend.clock.now()
    statuses: dict[str, Any] = {}
    for job_id in await read_ids(request):
        job = backend.jobs.get(job_id)
        body = _current_status_body(backend, job, now) if job else None
        if body is not None or backend.variants.bulk_missing == "null":
            statuses[job_id] = body
    return json_response(statuses)


@router.get(
    "/v1/jobs/status",
    **route_spec({"anyOf": [map_of(_STATUS), wrapper_of(map_of(_STATUS))]}, query=WRAPPED_PAGE, errors=(400,)),
)
async def list_statuses(backend: Backend, query: Query) -> Response:
    """Return the current statuses of all jobs, or a page of them."""
    now = backend.clock.now()
    bodies = {job.id: _current_status_body(backend, job, now) for job in backend.jobs.values()}
    started = {job_id: body for job_id, body in bodies.items() if body is not None}
    offset, length = query.bounds(-1)
    ids = list(started)[offset : None if length == -1 else offset + length]
    statuses = {job_id: started[job_id] for job_id in ids}
    if query.boolean("withWrapper"):
        return json_response({"totalCount": len(started), "offset": offset, "len": length, "data": statuses})
    return json_response(statuses)


def _current_status_body(backend: Backend, job: Job, now: int) -> dict[str, Any] | None:
    lags = backend.variants.start_status_lag == "previous"
    # Wall time, not scaled, so that clients can observe the lag.
    if lags and job.latest is not None and now - job.latest.started < START_STATUS_LAG_MS:
        return status_body(backend, job, job.runs[-2], now) if len(job.runs) > 1 else None
    return current_status_body(backend, job, now)


_LOG = (
    string_param("jobId", required=True, schema="JobId"),
    integer_param("runCount"),
    string_param("component"),
    ORDER,
    *PAGE,
)
_METRICS = (integer_param("runCount"), string_param("sdcId", schema="EngineId"))

_RUN_PROPERTIES: dict[str, Property] = {
    "id": ("string", lambda run: run["id"]),
    "pipeline_commit_id": ("string", lambda run: run["pipelineCommitId"]),
    "run_count": ("number", lambda run: run["runCount"]),
    "color": ("string", lambda run: run["color"]),
    "status": ("string", lambda run: run["status"]),
    "start_time": ("time", lambda run: run["startTime"]),
    "finish_time": ("time", lambda run: run["finishTime"]),
    "error_message": ("string", lambda run: run["errorMessage"]),
    "input_record_count": ("number", lambda run: run["inputRecordCount"]),
    "output_record_count": ("number", lambda run: run["outputRecordCount"]),
    "error_record_count": ("number", lambda run: run["errorRecordCount"]),
    "current_retry_count": ("number", lambda run: 0),
}


@router.get(
    "/v1/job/{job_id}/history",
    **route_spec(page_of("JobStatusJson"), query=WRAPPED_PAGE, errors=(400, 404)),
)
async def read_history(backend: Backend, query: Query, job_id: str) -> Response:
    """Return the runs of a job, newest first."""
    job, now = backend.job(job_id), backend.clock.now()
    return page_response(query, job.runs[::-1], lambda run: status_body(backend, job, run, now))


@router.get(
    "/v1/saql/jobs/search/{job_id}/runs",
    **route_spec(wrapper_of(array_of("JobStatusJson")), query=SEARCH, errors=(400, 404)),
)
async def search_runs(request: Request, backend: Backend, query: Query, job_id: str) -> Response:
    """Search the runs of a job."""
    job, now = backend.job(job_id), backend.clock.now()

    previous = {run.id: before.id for before, run in zip(job.runs, job.runs[1:], strict=False)}
    properties = {**_RUN_PROPERTIES, "previous_id": ("string", lambda run: previous.get(run["id"]))}
    descending = None
    if query.string("orderBy") in (None, "run_count"):
        descending = backend.variants.runs_order == "desc"
    bodies = [status_body(backend, job, run, now) for run in job.runs]
    return search_response(backend, query, bodies, properties, order="run_count", descending=descending)


@router.get(
    "/v1/job/{run_id}/jobStatusHistory",
    **route_spec(page_of("JobStatusHistoryJson"), query=WRAPPED_PAGE, errors=(400, 404)),
)
async def read_run_events(backend: Backend, query: Query, run_id: str) -> Response:
    """Return the events of a run."""
    return page_response(query, event_bodies(backend, backend.run(run_id), backend.clock.now()), lambda event: event)


@router.get("/v1/job/logMessages", **route_spec(array_of("JobLogMessage"), query=_LOG, errors=(400, 404)))
async def read_log_messages(backend: Backend, query: Query) -> Response:
    """Return log messages about the runs of a job."""
    job_id, count = query.string("jobId"), query.integer("runCount", 0)
    if job_id is None:
        raise bad_request("'jobId' is missing.")
    job = backend.job(job_id)
    runs = [run for run in job.runs if count in (0, run.run_count)]
    messages = [body for run in runs for body in log_message_bodies(backend, job, run, backend.clock.now())]
    component = query.string("component")
    if component:
        messages = [message for message in messages if message["component"] == component]
    if query.choice("order", ("ASC", "DESC")) != "ASC":
        messages.reverse()
    if backend.variants.log_messages == "empty":
        messages = []
    return page_response(query, messages, lambda message: message, wrapped=False)


@router.get("/v1/metrics/job/{job_id}", **route_spec("MetricRegistryJson", query=_METRICS, errors=(400, 404)))
async def read_run_metrics(backend: Backend, query: Query, job_id: str) -> Response:
    """Return the saved metrics of a run."""
    job, count = backend.job(job_id), query.integer("runCount", 0)
    run = job.latest if count == 0 else next((run for run in job.runs if run.run_count == count), None)
    engine_id = query.string("sdcId")
    body = registry_body(backend, job, run, backend.clock.now(), engine_id) if run else None
    if body is None and backend.variants.no_metrics == "404":
        raise ApiError(404, "JOBRUNNER_03", f"Job '{job.seed.name}' has no metrics for this run")
    return json_response(body or empty_metrics_body())


@router.get("/v1/job/{job_id}/committedOffsets", **route_spec(_OFFSET, errors=(404,), may_be_empty=True))
async def read_committed_offsets(backend: Backend, job_id: str) -> Response:
    """Return the offset of a job."""
    document = backend.offset(backend.job(job_id), backend.clock.now())
    return empty_response() if document is None else json_response(document)


@router.get("/v1/job/{job_id}/latestCommittedOffsets", **route_spec(array_of(map_of(_OFFSET)), errors=(404,)))
async def read_latest_committed_offsets(backend: Backend, job_id: str) -> Response:
    """Return the offset of a job for each engine of its latest run."""
    job, now = backend.job(job_id), backend.clock.now()
    document = backend.offset(job, now)
    engine_ids = job.latest.engine_ids_at(now) if job.latest else ()
    return json_response([] if document is None else [{engine_id: document} for engine_id in engine_ids])


@router.post("/v1/job/{job_id}/resetOffset", **route_spec(errors=(400, 404)))
async def reset_offset(backend: Backend, job_id: str) -> Response:
    """Reset the offset of a job."""
    backend.reset_offset(backend.job(job_id))
    return empty_response()


@router.post("/v1/jobs/resetOffset", **route_spec(body=JobIds, errors=(400, 404)))
async def reset_offsets(request: Request, backend: Backend) -> Response:
    """Reset the offsets of many jobs."""
    backend.apply_in_bulk(await read_ids(request), backend.check_offset_change, backend.reset_offset)
    return empty_response()


@router.post(
    "/v1/job/{job_id}/uploadOffsetAsJson",
    **route_spec("JobJson", body=Offset, errors=(400, 404)),
)
async def upload_offset_as_json(request: Request, backend: Backend, job_id: str) -> Response:
    """Set the offset of a job from a JSON body."""
    job = backend.job(job_id)
    return _upload_offset(backend, job, await read_json(request))


@router.post("/v1/job/{job_id}/uploadOffset", **route_spec("JobJson", upload=True, errors=(400, 404)))
async def upload_offset(request: Request, backend: Backend, job_id: str) -> Response:
    """Set the offset of a job from a file."""
    job = backend.job(job_id)
    file = await read_file(request)
    try:
        document = parse_json(file.read())
    except ValueError:
        raise bad_request("The file is not valid JSON.") from None
    return _upload_offset(backend, job, document)


def _upload_offset(backend: Backend, job: Job, document: Any) -> Response:
    backend.check_offset_change(job)
    check_body(Offset, document)
    backend.upload_offset(job, document)
    return json_response(job_body(backend, job, backend.clock.now()))
