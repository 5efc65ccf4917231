"""Job Runner: runs of a job, their events, log messages and metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api import saql
from airflow_provider_streamsets.sandbox.api.context import get_backend
from airflow_provider_streamsets.sandbox.api.requests import Query, read_sort_order
from airflow_provider_streamsets.sandbox.api.responses import json_response, page_response, search_response
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError, bad_request
from airflow_provider_streamsets.sandbox.backend.runs import Run
from airflow_provider_streamsets.sandbox.openapi.spec import (
    ORDER,
    PAGE,
    SEARCH,
    WRAPPED_PAGE,
    array_of,
    integer_param,
    page_of,
    route_spec,
    schema_ref,
    string_param,
    wrapper_of,
)
from airflow_provider_streamsets.sandbox.serializers.events import event_bodies, log_message_bodies
from airflow_provider_streamsets.sandbox.serializers.metrics import empty_metrics_body, registry_body
from airflow_provider_streamsets.sandbox.serializers.statuses import status_body

router = APIRouter(prefix="/jobrunner/rest")

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
