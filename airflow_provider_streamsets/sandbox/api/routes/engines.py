"""Job Runner and Tunneling: engines, their live metrics and logs."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.bodies import EngineIds
from airflow_provider_streamsets.sandbox.api.requests import Backend, Query, read_ids
from airflow_provider_streamsets.sandbox.api.responses import empty_response, json_response, page_response
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.openapi import (
    COUNT,
    ENGINE_TYPE,
    OBJECT,
    ORDER,
    PAGE,
    STRING,
    STRINGS,
    WRAPPED_PAGE,
    array_of,
    boolean_param,
    enum_param,
    map_of,
    nullable,
    object_of,
    page_of,
    route_spec,
    string_param,
    wrapper_of,
)
from airflow_provider_streamsets.sandbox.seed.models import EngineSeed, make_id
from airflow_provider_streamsets.sandbox.serializers.metrics import metrics_body
from airflow_provider_streamsets.sandbox.serializers.runs import (
    engine_body,
    engine_pipeline_id,
    log_message_bodies,
    pipelines_on,
)
from airflow_provider_streamsets.sandbox.serializers.schemas import Json

router = APIRouter(prefix="/jobrunner/rest")

_SORT_FIELDS = {
    "LAST_REPORTED_TIME": "lastReportedTime", "HTTP_URL": "httpUrl", "CPU_LOAD": "cpuLoad", "USED_MEMORY": "usedMemory",
    "PIPELINES_COUNT": "pipelinesCount", "MEMORY_USED_PERCENTAGE": "memoryUsedPercentage",
}  # fmt: skip
_FILTERS = (
    ENGINE_TYPE,
    boolean_param("edge"),
    string_param("label"),
    string_param("version"),
    enum_param("orderBy", [*_SORT_FIELDS]),
    ORDER,
)


def _get_engine(backend: Backend, engine_id: str) -> EngineSeed:
    try:
        return backend.engines[engine_id]
    except KeyError:
        raise ApiError(404, "JOBRUNNER_04", f"Engine '{engine_id}' does not exist") from None


def _select_engines(backend: Backend, query: Query) -> list[Json]:
    """Return the engines that match the filters of a request, in the requested order."""
    now = backend.clock.now()
    engines = list(backend.engines.values()) if query.includes_collectors() else []
    label, version = query.string("label"), query.string("version")
    engines = [
        engine
        for engine in engines
        if (label is None or label in engine.labels) and (version is None or version == engine.version)
    ]
    bodies = [engine_body(backend, engine, now) for engine in engines]
    field = _SORT_FIELDS[query.choice("orderBy", tuple(_SORT_FIELDS)) or "LAST_REPORTED_TIME"]
    bodies.sort(key=lambda body: body[field], reverse=query.is_descending())
    return bodies


@router.get("/v1/sdcs", **route_spec(page_of("SDCJson"), query=(*_FILTERS, *WRAPPED_PAGE), errors=(400,)))
async def list_engines(backend: Backend, query: Query) -> Response:
    """List engines."""
    return page_response(query, _select_engines(backend, query), lambda body: body)


@router.get(
    "/v1/metrics/executors", **route_spec(wrapper_of(array_of("SDCJson")), query=(*_FILTERS, *PAGE), errors=(400,))
)
async def list_engine_resources(backend: Backend, query: Query) -> Response:
    """List engines with their start time and their use of CPU and memory."""
    return page_response(query, _select_engines(backend, query), lambda body: body, wrapped=True)


@router.post("/v1/sdcs", **route_spec(map_of("SDCJson"), body=EngineIds, errors=(400,)))
async def read_engines(request: Request, backend: Backend) -> Response:
    """Return the engines with the given ids."""
    now = backend.clock.now()
    ids = await read_ids(request, EngineIds)
    return json_response(
        {key: engine_body(backend, backend.engines[key], now) for key in ids if key in backend.engines}
    )


@router.get("/v1/sdcs/labels", **route_spec(STRINGS))
async def list_engine_labels(backend: Backend) -> Response:
    """List the labels of all engines."""
    return json_response(sorted({label for engine in backend.engines.values() for label in engine.labels}))


@router.get("/v1/sdcs/versions", **route_spec(STRINGS))
async def list_engine_versions(backend: Backend) -> Response:
    """List the versions of all engines."""
    return json_response(sorted({engine.version for engine in backend.engines.values()}))


@router.get("/v1/sdcs/count", **route_spec(COUNT))
async def count_engines(backend: Backend) -> Response:
    """Count the engines."""
    return json_response({"count": len(backend.engines)})


@router.get("/v1/sdc/{engine_id}", **route_spec("SDCJson", may_be_empty=True))
async def read_get_engine(backend: Backend, engine_id: str) -> Response:
    """Return an engine."""
    if engine_id not in backend.engines and backend.variants.engine_unknown == "empty":
        return empty_response()
    return json_response(engine_body(backend, _get_engine(backend, engine_id), backend.clock.now()))


@router.get("/v1/sdc/{engine_id}/labels", **route_spec(STRINGS, errors=(404,)))
async def read_engine_labels(backend: Backend, engine_id: str) -> Response:
    """Return the labels of an engine in Control Hub."""
    return json_response(list(_get_engine(backend, engine_id).labels))


@router.get("/v1/sdc/{engine_id}/reportedLabels", **route_spec(STRINGS, errors=(404,)))
async def read_reported_labels(backend: Backend, engine_id: str) -> Response:
    """Return the labels that an engine reported."""
    return json_response(list(_get_engine(backend, engine_id).reported_labels))


@router.get("/v1/sdc/{engine_id}/pipelines", **route_spec(array_of("PipelineStatusJson"), errors=(404,)))
async def read_engine_pipelines(backend: Backend, engine_id: str) -> Response:
    """Return the pipelines that run on an engine."""
    return json_response(pipelines_on(backend, _get_engine(backend, engine_id), backend.clock.now()))


tunneling_router = APIRouter(prefix="/tunneling/rest")

_INSTANCE = string_param("TUNNELING_INSTANCE_ID", required=True, schema="InstanceId")


def _is_connected(backend: Backend, engine_id: str) -> bool:
    engine = backend.engines.get(engine_id)
    return engine is not None and backend.engine_health(engine, backend.clock.now())[0]


@tunneling_router.get(
    "/connection/{engine_id}", **route_spec(object_of(instanceId=nullable(STRING)), may_be_empty=True)
)
async def read_connection(backend: Backend, engine_id: str) -> Response:
    """Return the instance id of the tunnel to an engine."""
    if _is_connected(backend, engine_id):
        return json_response({"instanceId": make_id("tunnel", engine_id)})
    disconnected = backend.variants.tunnel_disconnected
    if disconnected == "no_instance":
        return json_response({"instanceId": None})
    if disconnected == "error":
        raise ApiError(500, "TUNNELING_01", f"Engine '{engine_id}' is not connected")
    return empty_response()


def _find_job(backend: Backend, query: Query, engine_id: str, pipeline_id: str) -> Job | None:
    now = backend.clock.now()
    if not _is_connected(backend, engine_id):
        raise ApiError(500, "TUNNELING_01", f"Engine '{engine_id}' is not connected")
    if query.string("TUNNELING_INSTANCE_ID") != make_id("tunnel", engine_id):
        raise ApiError(400, "TUNNELING_02", "TUNNELING_INSTANCE_ID is missing or does not belong to this engine")
    return next(
        (
            job
            for job in backend.jobs.values()
            if engine_pipeline_id(job) == pipeline_id and job.latest and engine_id in job.latest.engine_ids_at(now)
        ),
        None,
    )


@tunneling_router.get(
    "/{engine_id}/rest/v1/pipeline/{engine_pipeline_id}/metrics",
    **route_spec(nullable("MetricRegistryJson"), query=(_INSTANCE,), errors=(400, 500), no_content=(204,)),
)
async def read_live_metrics(backend: Backend, query: Query, engine_id: str, engine_pipeline_id: str) -> Response:
    """Return the live metrics of a running pipeline."""
    job = _find_job(backend, query, engine_id, engine_pipeline_id)
    if job is None or job.latest is None:
        return json_response(None)
    now = backend.clock.now()
    instance = job.latest.engine_ids_at(now).index(engine_id)
    running = backend.run_state(job.latest).phase_at(now).pipeline in ("RUNNING", "STOPPING")
    if not running or instance in job.latest.moving_at(now):
        return empty_response(204)
    return json_response(metrics_body(backend, job, job.latest, now, engine_id, live=True))


@tunneling_router.get(
    "/{engine_id}/rest/v1/system/logs",
    **route_spec(
        array_of(OBJECT),
        query=(_INSTANCE, string_param("pipeline", schema="EnginePipelineId")),
        errors=(400, 500),
    ),
)
async def read_engine_log(backend: Backend, query: Query, engine_id: str) -> Response:
    """Return the log lines of a pipeline on its engine."""
    job = _find_job(backend, query, engine_id, query.string("pipeline") or "")
    if job is None or job.latest is None:
        return json_response([])
    return json_response(
        [
            {
                "timestamp": message["logTimestamp"],
                "severity": message["logLevel"],
                "s-entity": engine_pipeline_id(job),
                "category": "ProductionPipelineRunner",
                "message": message["logMessage"],
            }
            for message in log_message_bodies(backend, job, job.latest, backend.clock.now())
        ]
    )
