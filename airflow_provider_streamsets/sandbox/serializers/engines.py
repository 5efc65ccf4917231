"""Engines and what they run."""

from __future__ import annotations

from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.seed.models import EngineSeed, make_id
from airflow_provider_streamsets.sandbox.serializers.schemas import Json, complete
from airflow_provider_streamsets.sandbox.serializers.statuses import ID_SEPARATOR, pipeline_status_bodies


def engine_body(world: World, engine: EngineSeed, now: int) -> Json:
    """Return an ``SDCJson``."""
    responding, heard = world.responding(engine, now)
    running = len(pipelines_on(world, engine, now))
    started = world.born - engine.started_ago
    total, used = 16606822400.0, 581667472.0 + running * 60_000_000.0
    return complete(
        "SDCJson",
        {
            "id": engine.id,
            "organization": world.organization,
            "httpUrl": engine.url,
            "version": engine.version,
            "labels": list(engine.labels),
            "reportedLabels": list(engine.reported_labels),
            "pipelinesCommitted": [],
            "lastReportedTime": heard,
            "startUpTime": started,
            "offsetProtocolVersion": 2,
            "edge": False,
            "cpuLoad": round(0.7 + 4.5 * running, 1),
            "totalMemory": total,
            "usedMemory": used,
            "memoryUsedPercentage": round(100 * used / total, 1),
            "pipelinesCount": running,
            "responding": responding,
            "idSeparator": ID_SEPARATOR,
            "executorType": "COLLECTOR",
            "maxCpuLoad": 80.0,
            "maxMemoryUsed": 100.0,
            "maxPipelinesRunning": 1000000,
            "cspDeploymentId": f"{make_id('deployment', engine.name)}:{world.organization}",
            "buildTime": started - 7_776_000_000,
            "overrideEngineMaxes": False,
        },
    )


def pipelines_on(world: World, engine: EngineSeed, now: int) -> list[Json]:
    """Return what an engine reports about the pipelines it runs."""
    return [
        body
        for job in world.jobs.values()
        if job.latest is not None
        for body in pipeline_status_bodies(world, job, job.latest, now)
        if body["sdcId"] == engine.id
    ]
