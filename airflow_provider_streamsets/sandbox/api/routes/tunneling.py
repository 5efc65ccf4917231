"""Tunneling: live metrics and logs of an engine."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import get_backend
from airflow_provider_streamsets.sandbox.api.requests import Query
from airflow_provider_streamsets.sandbox.api.responses import empty_response, json_response
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.openapi.spec import (
    OBJECT,
    STRING,
    array_of,
    nullable,
    object_of,
    route_spec,
    schema_ref,
    string_param,
)
from airflow_provider_streamsets.sandbox.seed.models import make_id
from airflow_provider_streamsets.sandbox.serializers.events import log_message_bodies
from airflow_provider_streamsets.sandbox.serializers.metrics import metrics_body
from airflow_provider_streamsets.sandbox.serializers.statuses import engine_pipeline_id

router = APIRouter(prefix="/tunneling/rest")

_INSTANCE = string_param("TUNNELING_INSTANCE_ID", required=True, schema=schema_ref("InstanceId"))


def _is_connected(request: Request, engine_id: str) -> bool:
    backend = get_backend(request)
    engine = backend.engines.get(engine_id)
    return engine is not None and backend.engine_health(engine, backend.clock.now())[0]


@router.get("/connection/{engine_id}", **route_spec(object_of(instanceId=nullable(STRING)), may_be_empty=True))
async def read_connection(request: Request, engine_id: str) -> Response:
    """Return the instance id of the tunnel to an engine."""
    if _is_connected(request, engine_id):
        return json_response({"instanceId": make_id("tunnel", engine_id)})
    disconnected = get_backend(request).variants.tunnel_disconnected
    if disconnected == "no_instance":
        return json_response({"instanceId": None})
    if disconnected == "error":
        raise ApiError(500, "TUNNELING_01", f"Engine '{engine_id}' is not connected")
    return empty_response()


def _find_job(request: Request, engine_id: str, pipeline_id: str) -> Job | None:
    backend = get_backend(request)
    now = backend.clock.now()
    if not _is_connected(request, engine_id):
        raise ApiError(500, "TUNNELING_01", f"Engine '{engine_id}' is not connected")
    if Query(request).string("TUNNELING_INSTANCE_ID") != make_id("tunnel", engine_id):
        raise ApiError(400, "TUNNELING_02", "TUNNELING_INSTANCE_ID is missing or does not belong to this engine")
    return next(
        (
            job
            for job in backend.jobs.values()
            if engine_pipeline_id(job) == pipeline_id and job.latest and engine_id in job.latest.engine_ids_at(now)
        ),
        None,
    )


@router.get(
    "/{engine_id}/rest/v1/pipeline/{engine_pipeline_id}/metrics",
    **route_spec(nullable(schema_ref("MetricRegistryJson")), query=(_INSTANCE,), errors=(400, 500), no_content=(204,)),
)
async def read_live_metrics(request: Request, engine_id: str, engine_pipeline_id: str) -> Response:
    """Return the live metrics of a running pipeline."""
    backend = get_backend(request)
    job = _find_job(request, engine_id, engine_pipeline_id)
    if job is None or job.latest is None:
        return json_response(None)
    now = backend.clock.now()
    instance = job.latest.engine_ids_at(now).index(engine_id)
    running = backend.run_state(job.latest).phase_at(now).pipeline in ("RUNNING", "STOPPING")
    if not running or instance in job.latest.moving_at(now):
        return empty_response(204)
    return json_response(metrics_body(backend, job, job.latest, now, engine_id, live=True))


@router.get(
    "/{engine_id}/rest/v1/system/logs",
    **route_spec(
        array_of(OBJECT),
        query=(_INSTANCE, string_param("pipeline", schema=schema_ref("EnginePipelineId"))),
        errors=(400, 500),
    ),
)
async def read_engine_log(request: Request, engine_id: str) -> Response:
    """Return the log lines of a pipeline on its engine."""
    backend = get_backend(request)
    job = _find_job(request, engine_id, Query(request).string("pipeline") or "")
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
