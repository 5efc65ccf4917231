"""Engines and their pipelines."""

from __future__ import annotations

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.seed.models import EngineSeed, make_id
from airflow_provider_streamsets.sandbox.serializers.schemas import Json, complete
from airflow_provider_streamsets.sandbox.serializers.statuses import ID_SEPARATOR, pipeline_status_bodies


def engine_body(backend: ControlHubBackend, engine: EngineSeed, now: int) -> Json:
    """Return an ``SDCJson``."""
    responding, last_heartbeat = backend.engine_health(engine, now)
    running = len(pipelines_on(backend, engine, now))
    started = backend.created_at - engine.started_ago
    total, used = 16606822400.0, 581667472.0 + running * 60_000_000.0
    return complete(
        "SDCJson",
        {
            "id": engine.id,
            "organization": backend.organization,
            "httpUrl": engine.url,
            "version": engine.version,
            "labels": list(engine.labels),
            "reportedLabels": list(engine.reported_labels),
            "pipelinesCommitted": [],
            "lastReportedTime": last_heartbeat,
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
            "cspDeploymentId": f"{make_id('deployment', engine.name)}:{backend.organization}",
            "buildTime": started - 7_776_000_000,
            "overrideEngineMaxes": False,
        },
    )


def pipelines_on(backend: ControlHubBackend, engine: EngineSeed, now: int) -> list[Json]:
    """Return the statuses of the pipelines that run on an engine."""
    return [
        body
        for job in backend.jobs.values()
        if job.latest is not None
        for body in pipeline_status_bodies(backend, job, job.latest, now)
        if body["sdcId"] == engine.id
    ]
