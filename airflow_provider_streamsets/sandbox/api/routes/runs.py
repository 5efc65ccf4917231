"""Job Runner: statuses, runs and offsets of jobs, with events, log messages and metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api import saql
from airflow_provider_streamsets.sandbox.api.bodies import JobIds, Offset, check_body
from airflow_provider_streamsets.sandbox.api.requests import (
    Query,
    get_backend,
    read_file,
    read_ids,
    read_json,
    read_sort_order,
)
from airflow_provider_streamsets.sandbox.api.responses import (
    empty_response,
    json_response,
    page_response,
    search_response,
)
from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError, bad_request
from airflow_provider_streamsets.sandbox.backend.payload import parse_json
from airflow_provider_streamsets.sandbox.backend.runs import Run
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.openapi import (
    FILE,
    ORDER,
    PAGE,
    SEARCH,
    WRAPPED_PAGE,
    array_of,
    integer_param,
    json_body,
    map_of,
    nullable,
    page_of,
    route_spec,
    schema_ref,
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

_STATUS = schema_ref("JobStatusJson")
_OFFSET = schema_ref("Offset")


@router.get("/v1/job/{job_id}/currentStatus", **route_spec(nullable(_STATUS), errors=(404,), may_be_empty=True))
async def read_current_status(request: Request, job_id: str) -> Response:
    """Return the status of the latest run of a job."""
    backend = get_backend(request)
    job, now = backend.job(job_id), backend.clock.now()
    body = _current_status_body(backend, job, now)
    if body is not None:
        return json_response(body)
    never_run = backend.variants.never_run_status
    if never_run == "empty":
        return empty_response()
    return json_response(None if never_run == "null" else unstarted_status_body(backend, job, now))


@router.post("/v1/jobs/status", **route_spec(map_of(nullable(_STATUS)), body=json_body(JobIds), errors=(400,)))
async def read_statuses(request: Request) -> Response:
    """Return the current statuses of many jobs."""
    backend = get_backend(request)
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
async def list_statuses(request: Request) -> Response:
    """Return the current statuses of all jobs, or a page of them."""
    backend, query = get_backend(request), Query(request)
    now = backend.clock.now()
    bodies = {job.id: _current_status_body(backend, job, now) for job in backend.jobs.values()}
    started = {job_id: body for job_id, body in bodies.items() if body is not None}
    offset, length = query.bounds(-1)
    ids = list(started)[offset : None if length == -1 else offset + length]
    statuses = {job_id: started[job_id] for job_id in ids}
    if query.boolean("withWrapper"):
        return json_response({"totalCount": len(started), "offset": offset, "len": length, "data": statuses})
    return json_response(statuses)


def _current_status_body(backend: ControlHubBackend, job: Job, now: int) -> dict[str, Any] | None:
    lags = backend.variants.start_status_lag == "previous"
    # Wall time, not scaled, so that clients can observe the lag.
    if lags and job.latest is not None and now - job.latest.started < START_STATUS_LAG_MS:
        return status_body(backend, job, job.runs[-2], now) if len(job.runs) > 1 else None
    return current_status_body(backend, job, now)


_LOG = (
    string_param("jobId", required=True, schema=schema_ref("JobId")),
    integer_param("runCount"),
    string_param("component"),
    ORDER,
    *PAGE,
)
_METRICS = (integer_param("runCount"), string_param("sdcId", schema=schema_ref("EngineId")))

_RUN_PROPERTIES = {
    "id": "string", "previous_id": "string", "pipeline_commit_id": "string", "run_count": "number", "color": "string",
    "status": "string", "start_time": "time", "finish_time": "time", "error_message": "string",
    "input_record_count": "number", "output_record_count": "number", "error_record_count": "number",
    "current_retry_count": "number",
}  # fmt: skip


@router.get(
    "/v1/job/{job_id}/history",
    **route_spec(page_of(schema_ref("JobStatusJson")), query=WRAPPED_PAGE, errors=(400, 404)),
)
async def read_history(request: Request, job_id: str) -> Response:
    """Return the runs of a job, newest first."""
    backend = get_backend(request)
    job, now = backend.job(job_id), backend.clock.now()
    return page_response(Query(request), job.runs[::-1], lambda run: status_body(backend, job, run, now))


@router.get(
    "/v1/saql/jobs/search/{job_id}/runs",
    **route_spec(wrapper_of(array_of(schema_ref("JobStatusJson"))), query=SEARCH, errors=(400, 404)),
)
async def search_runs(request: Request, job_id: str) -> Response:
    """Search the runs of a job."""
    backend, query = get_backend(request), Query(request)
    job, now = backend.job(job_id), backend.clock.now()

    def properties(run: Run) -> dict[str, Any]:
        body = status_body(backend, job, run, now)
        previous = job.runs[run.run_count - 2].id if run.run_count > 1 else None
        return {
            "id": run.id,
            "previous_id": previous,
            "pipeline_commit_id": body["pipelineCommitId"],
            "run_count": run.run_count,
            "color": body["color"],
            "status": body["status"],
            "start_time": body["startTime"],
            "finish_time": body["finishTime"],
            "error_message": body["errorMessage"],
            "input_record_count": body["inputRecordCount"],
            "output_record_count": body["outputRecordCount"],
            "error_record_count": body["errorRecordCount"],
            "current_retry_count": 0,
        }

    found = [(properties(run), run) for run in job.runs]
    search = query.string("search")
    if search:
        matches = saql.parse(search, _RUN_PROPERTIES)
        found = [(values, run) for values, run in found if matches(values)]
    name, descending = read_sort_order(query, "run_count", _RUN_PROPERTIES)
    if query.string("orderBy") in (None, "run_count"):
        descending = backend.variants.runs_order == "desc"
    found.sort(key=lambda pair: saql.sort_key(pair[0][name]), reverse=descending)
    return search_response(request, found, lambda pair: status_body(backend, job, pair[1], now))


@router.get(
    "/v1/job/{run_id}/jobStatusHistory",
    **route_spec(page_of(schema_ref("JobStatusHistoryJson")), query=WRAPPED_PAGE, errors=(400, 404)),
)
async def read_run_events(request: Request, run_id: str) -> Response:
    """Return the events of a run."""
    backend = get_backend(request)
    return page_response(
        Query(request), event_bodies(backend, backend.run(run_id), backend.clock.now()), lambda event: event
    )


@router.get("/v1/job/logMessages", **route_spec(array_of(schema_ref("JobLogMessage")), query=_LOG, errors=(400, 404)))
async def read_log_messages(request: Request) -> Response:
    """Return log messages about the runs of a job."""
    backend, query = get_backend(request), Query(request)
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


@router.get(
    "/v1/metrics/job/{job_id}", **route_spec(schema_ref("MetricRegistryJson"), query=_METRICS, errors=(400, 404))
)
async def read_run_metrics(request: Request, job_id: str) -> Response:
    """Return the saved metrics of a run."""
    backend, query = get_backend(request), Query(request)
    job, count = backend.job(job_id), query.integer("runCount", 0)
    run = job.latest if count == 0 else next((run for run in job.runs if run.run_count == count), None)
    engine_id = query.string("sdcId")
    body = registry_body(backend, job, run, backend.clock.now(), engine_id) if run else None
    if body is None and backend.variants.no_metrics == "404":
        raise ApiError(404, "JOBRUNNER_03", f"Job '{job.seed.name}' has no metrics for this run")
    return json_response(body or empty_metrics_body())


@router.get("/v1/job/{job_id}/committedOffsets", **route_spec(_OFFSET, errors=(404,), may_be_empty=True))
async def read_committed_offsets(request: Request, job_id: str) -> Response:
    """Return the offset of a job."""
    backend = get_backend(request)
    document = backend.offset(backend.job(job_id), backend.clock.now())
    return empty_response() if document is None else json_response(document)


@router.get("/v1/job/{job_id}/latestCommittedOffsets", **route_spec(array_of(map_of(_OFFSET)), errors=(404,)))
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


@router.post("/v1/jobs/resetOffset", **route_spec(body=json_body(JobIds), errors=(400, 404)))
async def reset_offsets(request: Request) -> Response:
    """Reset the offsets of many jobs."""
    backend = get_backend(request)
    backend.apply_in_bulk(await read_ids(request), backend.check_offset_change, backend.reset_offset)
    return empty_response()


@router.post(
    "/v1/job/{job_id}/uploadOffsetAsJson",
    **route_spec(schema_ref("JobJson"), body=json_body(Offset), errors=(400, 404)),
)
async def upload_offset_as_json(request: Request, job_id: str) -> Response:
    """Set the offset of a job from a JSON body."""
    backend = get_backend(request)
    job = backend.job(job_id)
    return _upload_offset(backend, job, await read_json(request))


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
    return _upload_offset(backend, job, document)


def _upload_offset(backend: ControlHubBackend, job: Job, document: Any) -> Response:
    backend.check_offset_change(job)
    check_body(Offset, document)
    backend.upload_offset(job, document)
    return json_response(job_body(backend, job, backend.clock.now()))
