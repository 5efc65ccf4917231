"""Time Series: saved metrics of jobs."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.bodies import JobIds, SeriesQueries
from airflow_provider_streamsets.sandbox.api.requests import Backend, Query, parse_body, read_ids
from airflow_provider_streamsets.sandbox.api.responses import empty_response, json_response
from airflow_provider_streamsets.sandbox.openapi import (
    NULL,
    OBJECT,
    STRING,
    STRINGS,
    array_of,
    integer_param,
    map_of,
    object_of,
    route_spec,
    string_param,
)
from airflow_provider_streamsets.sandbox.serializers.metrics import (
    MEASUREMENTS,
    RECORDS,
    Window,
    empty_metrics_body,
    latest_metrics_body,
    read_window,
    record_counts_body,
    series_body,
)

router = APIRouter(prefix="/timeseries/rest")

_ENGINE = (string_param("sdcId", schema="EngineId"),)
_WINDOW = (
    string_param("timeFilterCondition"),
    integer_param("startTime"),
    integer_param("endTime"),
    integer_param("limit", 1),
)
_SERIES = object_of(
    series=array_of(object_of(name=STRING, columns=STRINGS, values=array_of({"type": "array"}), tags=NULL)), error=NULL
)


@router.get(
    "/v1/metrics/job/{job_id}/recordCountsForAllRuns", **route_spec(map_of(OBJECT), query=_ENGINE, errors=(404,))
)
async def read_record_counts(backend: Backend, query: Query, job_id: str) -> Response:
    """Return the record counts of all runs of a job."""
    return json_response(record_counts_body(backend, backend.job(job_id), backend.clock.now(), query.string("sdcId")))


@router.get(
    "/v1/metrics/job/{job_id}/latestMetrics",
    **route_spec("MetricRegistryJson", query=_ENGINE, errors=(404,)),
)
async def read_latest_metrics(backend: Backend, query: Query, job_id: str) -> Response:
    """Return the saved metrics of the latest run of a job."""
    # Metrics of deleted jobs are kept until they are purged.
    job = backend.deleted_jobs.get(job_id) or backend.job(job_id)
    body = latest_metrics_body(backend, job, backend.clock.now(), query.string("sdcId"))
    return json_response(body or empty_metrics_body())


@router.post("/v1/metrics/purgeLatestMetricsOfDeletedJobs", **route_spec(body=JobIds, errors=(400,)))
async def purge_latest_metrics(request: Request, backend: Backend) -> Response:
    """Purge the saved metrics of the latest runs of jobs, deleted or not; unknown ids are ignored."""
    for job_id in await read_ids(request):
        job = backend.deleted_jobs.get(job_id) or backend.jobs.get(job_id)
        if job is not None:
            job.latest_metrics_purged_on = backend.clock.now()
    return empty_response()


@router.get(
    "/v1/metrics/job/{job_id}/recordCount",
    **route_spec(array_of(_SERIES), query=(*_ENGINE, *_WINDOW), errors=(400, 404)),
)
async def read_record_count_series(backend: Backend, query: Query, job_id: str) -> Response:
    """Return the number of records over time."""
    return _record_series(backend, query, job_id, "count")


@router.get(
    "/v1/metrics/job/{job_id}/recordThroughput",
    **route_spec(array_of(_SERIES), query=(*_ENGINE, *_WINDOW), errors=(400, 404)),
)
async def read_record_throughput_series(backend: Backend, query: Query, job_id: str) -> Response:
    """Return the number of records per second over time."""
    return _record_series(backend, query, job_id, "m1_rate")


@router.post(
    "/v1/metrics/query",
    **route_spec(array_of(_SERIES), query=_WINDOW, body=SeriesQueries, errors=(400, 404)),
)
async def query_series(request: Request, backend: Backend, query: Query) -> Response:
    """Return one result per time series query."""
    window = _window(backend, query)
    queries = (await parse_body(request, SeriesQueries)).root
    return json_response(
        [
            series_body(
                backend,
                backend.job(item.job_id),
                MEASUREMENTS[item.measurement],
                item.columns,
                window,
                item.sdc_id,
                item.pipeline_version,
            )
            for item in queries
        ]
    )


def _record_series(backend: Backend, query: Query, job_id: str, column: str) -> Response:
    window, engine_id = _window(backend, query), query.string("sdcId")
    job = backend.job(job_id)
    return json_response(
        [series_body(backend, job, MEASUREMENTS[name], [column], window, engine_id) for name in RECORDS]
    )


def _window(backend: Backend, query: Query) -> Window:
    return read_window(
        query.string("timeFilterCondition"),
        backend.clock.now(),
        query.integer("startTime", 0),
        query.integer("endTime", 0),
        query.integer("limit", 1000),
    )
