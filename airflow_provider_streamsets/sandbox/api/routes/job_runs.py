"""Job Runner: the runs of a job, their events, log and metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api import saql
from airflow_provider_streamsets.sandbox.api.context import world_of
from airflow_provider_streamsets.sandbox.api.requests import Query, search_order
from airflow_provider_streamsets.sandbox.api.responses import answer, page, search_page
from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError, bad_request
from airflow_provider_streamsets.sandbox.backend.runs import Run
from airflow_provider_streamsets.sandbox.openapi.spec import (
    ORDER,
    PAGE,
    SEARCH,
    WRAPPED_PAGE,
    described,
    many,
    named,
    page_of,
    text,
    whole,
    wrapped,
)
from airflow_provider_streamsets.sandbox.serializers.events import event_bodies, log_message_bodies
from airflow_provider_streamsets.sandbox.serializers.metrics import empty_metrics_body, registry_body
from airflow_provider_streamsets.sandbox.serializers.statuses import status_body

router = APIRouter(prefix="/jobrunner/rest")

_LOG = (text("jobId", required=True, of=named("JobId")), whole("runCount"), text("component"), ORDER, *PAGE)
_METRICS = (whole("runCount"), text("sdcId", of=named("EngineId")))

_RUN_PROPERTIES = {
    "id": "text", "previous_id": "text", "pipeline_commit_id": "text", "run_count": "number", "color": "text",
    "status": "text", "start_time": "time", "finish_time": "time", "error_message": "text",
    "input_record_count": "number", "output_record_count": "number", "error_record_count": "number",
    "current_retry_count": "number",
}  # fmt: skip


@router.get(
    "/v1/job/{job_id}/history", **described(page_of(named("JobStatusJson")), query=WRAPPED_PAGE, refused=(400, 404))
)
async def read_history(request: Request, job_id: str) -> Response:
    """Return the runs of a job, the newest first."""
    world = world_of(request)
    job, now = world.job(job_id), world.clock.now()
    return page(Query(request), job.runs[::-1], lambda run: status_body(world, job, run, now))


@router.get(
    "/v1/saql/jobs/search/{job_id}/runs",
    **described(wrapped(many(named("JobStatusJson"))), query=SEARCH, refused=(400, 404)),
)
async def search_runs(request: Request, job_id: str) -> Response:
    """Search the runs of a job."""
    world, query = world_of(request), Query(request)
    job, now = world.job(job_id), world.clock.now()

    def properties(run: Run) -> dict[str, Any]:
        body = status_body(world, job, run, now)
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
    search = query.text("search")
    if search:
        matches = saql.parse(search, _RUN_PROPERTIES)
        found = [(values, run) for values, run in found if matches(values)]
    name, descending = search_order(query, "run_count", _RUN_PROPERTIES)
    if query.text("orderBy") in (None, "run_count"):
        descending = world.variants.runs_order == "desc"
    found.sort(key=lambda pair: saql.sort_key(pair[0][name]), reverse=descending)
    return search_page(request, found, lambda pair: status_body(world, job, pair[1], now))


@router.get(
    "/v1/job/{run_id}/jobStatusHistory",
    **described(page_of(named("JobStatusHistoryJson")), query=WRAPPED_PAGE, refused=(400, 404)),
)
async def read_run_events(request: Request, run_id: str) -> Response:
    """Return the events of a run, whose own id the path takes."""
    world = world_of(request)
    return page(Query(request), event_bodies(world, world.run(run_id), world.clock.now()), lambda event: event)


@router.get("/v1/job/logMessages", **described(many(named("JobLogMessage")), query=_LOG, refused=(400, 404)))
async def read_log_messages(request: Request) -> Response:
    """Return log messages about a job's runs."""
    world, query = world_of(request), Query(request)
    job_id, count = query.text("jobId"), query.number("runCount", 0)
    if job_id is None:
        raise bad_request("jobId is missing")
    job = world.job(job_id)
    runs = [run for run in job.runs if count in (0, run.run_count)]
    messages = [body for run in runs for body in log_message_bodies(world, job, run, world.clock.now())]
    component = query.text("component")
    if component:
        messages = [message for message in messages if message["component"] == component]
    if query.choice("order", ("ASC", "DESC")) != "ASC":
        messages.reverse()
    if world.variants.log_messages == "empty":
        messages = []
    return page(query, messages, lambda message: message, wrapped=False)


@router.get("/v1/metrics/job/{job_id}", **described(named("MetricRegistryJson"), query=_METRICS, refused=(400, 404)))
async def read_run_metrics(request: Request, job_id: str) -> Response:
    """Return the saved metrics of a run."""
    world, query = world_of(request), Query(request)
    job, count = world.job(job_id), query.number("runCount", 0)
    run = job.latest if count == 0 else next((run for run in job.runs if run.run_count == count), None)
    engine_id = query.text("sdcId")
    body = registry_body(world, job, run, world.clock.now(), engine_id) if run else None
    if body is None and world.variants.no_metrics == "404":
        raise ProblemError(404, "JOBRUNNER_03", f"Job '{job.seed.name}' has no metrics of this run")
    return answer(body or empty_metrics_body())
