"""Time Series: saved metrics of jobs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import world_of
from airflow_provider_streamsets.sandbox.api.requests import Query, read_ids, read_json
from airflow_provider_streamsets.sandbox.api.responses import answer, nothing
from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.openapi.spec import (
    NULL,
    OBJECT,
    STRING,
    STRINGS,
    Json,
    described,
    ids,
    json_body,
    keyed,
    many,
    named,
    record,
    text,
    whole,
)
from airflow_provider_streamsets.sandbox.serializers.metrics import empty_metrics_body, latest_metrics_body
from airflow_provider_streamsets.sandbox.serializers.record_counts import record_counts_body
from airflow_provider_streamsets.sandbox.serializers.time_series import (
    COLUMNS,
    MEASUREMENTS,
    RECORDS,
    Window,
    read_window,
    series_body,
)

router = APIRouter(prefix="/timeseries/rest")

_ENGINE = (text("sdcId", of=named("EngineId")),)
_WINDOW = (text("timeFilterCondition"), whole("startTime"), whole("endTime"), whole("limit", 1))
_SERIES = record(
    series=many(record(name=STRING, columns=STRINGS, values=many({"type": "array"}), tags=NULL)), error=NULL
)
_QUERY: Json = record(
    measurement={"enum": [*MEASUREMENTS]},
    columns={"type": "array", "minItems": 1, "items": {"enum": [*COLUMNS]}},
    jobId=named("JobId"),
)


@router.get(
    "/v1/metrics/job/{job_id}/recordCountsForAllRuns", **described(keyed(OBJECT), query=_ENGINE, refused=(404,))
)
async def read_record_counts(request: Request, job_id: str) -> Response:
    """Return the record counts of all runs of a job."""
    world = world_of(request)
    return answer(record_counts_body(world, world.job(job_id), world.clock.now(), Query(request).text("sdcId")))


@router.get(
    "/v1/metrics/job/{job_id}/latestMetrics", **described(named("MetricRegistryJson"), query=_ENGINE, refused=(404,))
)
async def read_latest_metrics(request: Request, job_id: str) -> Response:
    """Return the saved metrics of a job's latest run."""
    world = world_of(request)
    # They outlive the job until they are purged.
    job = world.removed_jobs.get(job_id) or world.job(job_id)
    body = latest_metrics_body(world, job, world.clock.now(), Query(request).text("sdcId"))
    return answer(body or empty_metrics_body())


@router.post("/v1/metrics/purgeLatestMetricsOfDeletedJobs", **described(body=ids("JobId"), refused=(400,)))
async def purge_latest_metrics(request: Request) -> Response:
    """Forget the saved metrics of the latest run of some jobs, deleted or not; unknown ids are ignored."""
    world = world_of(request)
    for job_id in await read_ids(request):
        job = world.removed_jobs.get(job_id) or world.jobs.get(job_id)
        if job is not None:
            job.latest_metrics_purged_on = world.clock.now()
    return nothing()


@router.get(
    "/v1/metrics/job/{job_id}/recordCount", **described(many(_SERIES), query=(*_ENGINE, *_WINDOW), refused=(400, 404))
)
async def read_record_count_series(request: Request, job_id: str) -> Response:
    """Return how many records there were over time."""
    return _records_over_time(request, job_id, "count")


@router.get(
    "/v1/metrics/job/{job_id}/recordThroughput",
    **described(many(_SERIES), query=(*_ENGINE, *_WINDOW), refused=(400, 404)),
)
async def read_record_throughput_series(request: Request, job_id: str) -> Response:
    """Return how many records a second there were over time."""
    return _records_over_time(request, job_id, "m1_rate")


@router.post(
    "/v1/metrics/query", **described(many(_SERIES), query=_WINDOW, body=json_body(many(_QUERY)), refused=(400, 404))
)
async def query_series(request: Request) -> Response:
    """Answer queries for time series, one after the other."""
    world, window = world_of(request), _window(request)
    queries = await read_json(request)
    if not isinstance(queries, list) or not all(isinstance(query, dict) for query in queries):
        raise bad_request("the body must be a JSON array of queries")
    return answer([_answered(world, query, window) for query in queries])


def _answered(world: World, query: dict[str, Any], window: Window) -> dict[str, Any]:
    columns, measurement = query.get("columns"), query.get("measurement")
    if not isinstance(measurement, str) or measurement not in MEASUREMENTS:
        raise bad_request(f"measurement must be one of {', '.join(MEASUREMENTS)}, not {measurement}")
    if not isinstance(columns, list) or not columns or not all(column in [*COLUMNS] for column in columns):
        raise bad_request(f"columns must be a list of {', '.join(COLUMNS)}, not {columns}")
    job = world.job(str(query.get("jobId")))
    engine_id, version = query.get("sdcId"), query.get("pipelineVersion")
    return series_body(world, job, MEASUREMENTS[measurement], columns, window, engine_id, version)


def _records_over_time(request: Request, job_id: str, column: str) -> Response:
    world, window, engine_id = world_of(request), _window(request), Query(request).text("sdcId")
    job = world.job(job_id)
    return answer([series_body(world, job, MEASUREMENTS[name], [column], window, engine_id) for name in RECORDS])


def _window(request: Request) -> Window:
    query = Query(request)
    return read_window(
        query.text("timeFilterCondition"),
        world_of(request).clock.now(),
        query.number("startTime", 0),
        query.number("endTime", 0),
        query.number("limit", 1000),
    )
