"""Tunneling: what an engine itself says about a running pipeline."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import world_of
from airflow_provider_streamsets.sandbox.api.requests import Query
from airflow_provider_streamsets.sandbox.api.responses import answer, nothing
from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError
from airflow_provider_streamsets.sandbox.backend.jobs import Job
from airflow_provider_streamsets.sandbox.openapi.spec import (
    OBJECT,
    STRING,
    described,
    many,
    named,
    nullable,
    record,
    text,
)
from airflow_provider_streamsets.sandbox.seed.models import make_id
from airflow_provider_streamsets.sandbox.serializers.events import log_message_bodies
from airflow_provider_streamsets.sandbox.serializers.metrics import metrics_body
from airflow_provider_streamsets.sandbox.serializers.statuses import engine_pipeline_id

router = APIRouter(prefix="/tunneling/rest")

_INSTANCE = text("TUNNELING_INSTANCE_ID", required=True, of=named("InstanceId"))


def _connected(request: Request, engine_id: str) -> bool:
    world = world_of(request)
    engine = world.engines.get(engine_id)
    return engine is not None and world.responding(engine, world.clock.now())[0]


@router.get("/connection/{engine_id}", **described(record(instanceId=nullable(STRING)), may_be_empty=True))
async def read_connection(request: Request, engine_id: str) -> Response:
    """Return the instance id of an engine's tunnel."""
    if _connected(request, engine_id):
        return answer({"instanceId": make_id("tunnel", engine_id)})
    disconnected = world_of(request).variants.tunnel_disconnected
    if disconnected == "no_instance":
        return answer({"instanceId": None})
    if disconnected == "error":
        raise ProblemError(500, "TUNNELING_01", f"Engine '{engine_id}' is not connected")
    return nothing()


def _job_on(request: Request, engine_id: str, pipeline_id: str) -> Job | None:
    world = world_of(request)
    now = world.clock.now()
    if not _connected(request, engine_id):
        raise ProblemError(500, "TUNNELING_01", f"Engine '{engine_id}' is not connected")
    if Query(request).text("TUNNELING_INSTANCE_ID") != make_id("tunnel", engine_id):
        raise ProblemError(400, "TUNNELING_02", "TUNNELING_INSTANCE_ID is missing or is not this engine's")
    return next(
        (
            job
            for job in world.jobs.values()
            if engine_pipeline_id(job) == pipeline_id and job.latest and engine_id in job.latest.engine_ids_at(now)
        ),
        None,
    )


@router.get(
    "/{engine_id}/rest/v1/pipeline/{engine_pipeline_id}/metrics",
    **described(nullable(named("MetricRegistryJson")), query=(_INSTANCE,), refused=(400, 500), silent=(204,)),
)
async def read_live_metrics(request: Request, engine_id: str, engine_pipeline_id: str) -> Response:
    """Return the metrics of a running pipeline as its engine has them."""
    world = world_of(request)
    job = _job_on(request, engine_id, engine_pipeline_id)
    if job is None or job.latest is None:
        return answer(None)
    now = world.clock.now()
    instance = job.latest.engine_ids_at(now).index(engine_id)
    running = world.lifecycle(job.latest).at(now).pipeline in ("RUNNING", "STOPPING")
    if not running or instance in job.latest.moving_at(now):
        return nothing(204)
    return answer(metrics_body(world, job, job.latest, now, engine_id, live=True))


@router.get(
    "/{engine_id}/rest/v1/system/logs",
    **described(many(OBJECT), query=(_INSTANCE, text("pipeline", of=named("EnginePipelineId"))), refused=(400, 500)),
)
async def read_engine_log(request: Request, engine_id: str) -> Response:
    """Return the log lines of a pipeline on its engine."""
    world = world_of(request)
    job = _job_on(request, engine_id, Query(request).text("pipeline") or "")
    if job is None or job.latest is None:
        return answer([])
    return answer(
        [
            {
                "timestamp": message["logTimestamp"],
                "severity": message["logLevel"],
                "s-entity": engine_pipeline_id(job),
                "category": "ProductionPipelineRunner",
                "message": message["logMessage"],
            }
            for message in log_message_bodies(world, job, job.latest, world.clock.now())
        ]
    )
