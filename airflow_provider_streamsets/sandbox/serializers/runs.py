"""Runs and their events, and the engines that execute them."""

from __future__ import annotations

import json

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.runs import FINAL_STATUSES, Run
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.seed.models import EngineSeed, make_id
from airflow_provider_streamsets.sandbox.serializers.schemas import Json, complete

ID_SEPARATOR = "__"


def engine_pipeline_id(job: Job) -> str:
    """Return the id of a job's pipeline on its engine."""
    title = "".join(character for character in job.seed.pipeline.name if character.isalnum())[:9]
    return f"{title}{ID_SEPARATOR}{job.id.replace(':', ID_SEPARATOR)}"


def current_status_body(backend: ControlHubBackend, job: Job, now: int) -> Json | None:
    """Return the ``JobStatusJson`` of the latest run of a job, or None if it never ran."""
    if job.latest is not None:
        return status_body(backend, job, job.latest, now)
    # A job that never ran has a status if an offset was uploaded.
    uploaded = any(document is not None for _, document in job.offset_changes)
    return unstarted_status_body(backend, job, now) if uploaded else None


def unstarted_status_body(backend: ControlHubBackend, job: Job, now: int) -> Json:
    """Return a ``JobStatusJson`` without a run."""
    return complete(
        "JobStatusJson",
        {
            "id": f"{make_id('run', job.id, '0')}:{backend.organization}",
            "jobId": job.id,
            "pipelineCommitId": job.seed.version.commit_id,
            "runCount": 0,
            "startTime": 0,
            "finishTime": 0,
            "color": "GRAY",
            "sdcIds": [],
            "status": "INACTIVE",
            "errorInfos": [],
            "warnings": [],
            "ackTrackers": [],
            "pipelineOffsets": _offset_bodies(job, "", backend.offset(job, now)),
            "pipelineStatus": [],
            "pipelineCommitLabel": f"v{job.seed.version.version}",
            "edge": False,
            "inputRecordCount": 0,
            "outputRecordCount": 0,
            "errorRecordCount": 0,
            "lastReportedMetricTime": 0,
            "enginePipelineId": engine_pipeline_id(job),
            "runtimeAttributes": [],
        },
    )


def status_body(backend: ControlHubBackend, job: Job, run: Run, now: int) -> Json:
    """Return the ``JobStatusJson`` of a run."""
    run_state = backend.run_state(run)
    phase = run_state.phase_at(now)
    ended = phase.status in FINAL_STATUSES
    saved = run_state.saved(now) if backend.variants.counts_on_status == "saved" else None
    offset = backend.run_offset(job, run, now)
    if run is job.latest and ended:
        offset = backend.offset(job, now)
    keeps_commands = phase.status in ("INACTIVE_ERROR", "ACTIVATION_ERROR") or not ended
    return complete(
        "JobStatusJson",
        {
            "id": run.id,
            "jobId": job.id,
            "pipelineCommitId": run.commit_id,
            "runCount": run.run_count,
            "user": run.user,
            "startTime": run.started,
            "finishTime": run_state.finished_at(now),
            "errorMessage": phase.error,
            "color": phase.color,
            "sdcIds": list(run.engine_ids_at(now)),
            "status": phase.status,
            "errorInfos": _error_infos(run, run_state.pipeline_ended, now) if phase.error else [],
            "warnings": _warnings(run, now) if run_state.is_lost(now) else [],
            "ackTrackers": _ack_trackers(backend, run, now) if keeps_commands else [],
            "pipelineOffsets": _offset_bodies(job, run.engine_ids_at(now)[0], offset),
            "pipelineStatus": pipeline_status_bodies(backend, job, run, now),
            "upgradeStatus": _upgrade_status(backend, run),
            "pipelineCommitLabel": f"v{run.version}",
            "edge": False,
            "inputRecordCount": saved.input if saved else 0,
            "outputRecordCount": saved.output if saved else 0,
            "errorRecordCount": saved.error if saved else 0,
            "lastReportedMetricTime": saved.at if saved else 0,
            "enginePipelineId": engine_pipeline_id(job),
            "runtimeAttributes": [],
        },
    )


def pipeline_status_bodies(backend: ControlHubBackend, job: Job, run: Run, now: int) -> list[Json]:
    """Return the pipeline statuses that the engines of a run report; empty once the job is inactive."""
    phase = backend.run_state(run).phase_at(now)
    if phase.pipeline is None:
        return []
    reported = "RUNNING" if phase.lost_since and phase.pipeline == "STOPPING" else phase.pipeline
    moving = run.moving_at(now) if reported == "RUNNING" else frozenset()
    return [
        complete(
            "PipelineStatusJson",
            {
                "sdcId": engine_id,
                "name": engine_pipeline_id(job),
                "title": job.seed.pipeline.name,
                "jobId": job.id,
                "localPipeline": False,
                "status": "STARTING" if instance in moving else reported,
                "lastReportedTime": phase.lost_since or now,
                "worker": [],
                "message": phase.error or phase.engine_error,
                "clusterMode": False,
            },
        )
        for instance, engine_id in enumerate(run.engine_ids_at(now))
    ]


def _upgrade_status(backend: ControlHubBackend, run: Run) -> Json | None:
    if run.predecessor_id is None:
        return None
    return complete(
        "UpgradeStatusJson",
        {
            "id": f"{make_id('upgrade', run.id)}:{backend.organization}",
            "user": run.user,
            "startTime": run.started,
            "finishTime": run.started,
            "currentJobStatusId": run.id,
            "previousJobStatusId": run.predecessor_id,
            "status": "UPGRADE_SUCCESSFUL",
            "verifiedPipeline": False,
        },
    )


def _offset_bodies(job: Job, engine_id: str, document: Json | None) -> list[Json] | None:
    if document is None:
        return None
    return [
        complete(
            "PipelineOffsetJson",
            {"sdcId": engine_id, "pipelineId": job.id, "offset": json.dumps(document), "resetOffset": False},
        )
    ]


def _error_infos(run: Run, at: int, now: int) -> list[Json]:
    if at > now or any(reset.at <= now for reset in run.error_info_resets):
        return []
    return [
        complete("ErrorInfoJson", {"lastErrorTimestamp": at, "globalErrorCount": 1, "sdcId": engine_id})
        for engine_id in run.engine_ids_at(at)
    ]


def _warnings(run: Run, now: int) -> list[str]:
    urls = ", ".join(run.engine_urls_at(now))
    return [
        f"JOBRUNNER_62 - Not responding Data Collectors execution engines '[{urls}]'",
        f"JOBRUNNER_24 - Cannot failover Data Collectors '[{urls}]' as no instances available for failover",
    ]


def _ack_trackers(backend: ControlHubBackend, run: Run, now: int) -> list[Json]:
    return [
        complete(
            "AckTrackerJson",
            {
                "sdcId": engine_id,
                "createTime": command.at,
                "ackStatus": command.result if command.acknowledged_at <= now else "PENDING",
                "message": command.message if command.acknowledged_at <= now else None,
                "eventType": command.kind,
            },
        )
        for command in backend.run_state(run).commands
        if command.at <= now
        for engine_id in run.engine_ids_at(command.at)
    ]


def event_bodies(backend: ControlHubBackend, run: Run, now: int) -> list[Json]:
    """Return the run events, out of chronological order so that clients must sort them."""
    variants = backend.variants
    lag = round(variants.engine_clock_behind * 1000)
    bodies = [
        complete(
            "JobStatusHistoryJson",
            {
                "user": run.user if variants.event_users == "starter_on_all" else event.user,
                "time": event.at - lag if event.is_from_engine else event.at,
                "message": event.message,
                "status": event.status,
                "jobStatusId": run.id,
            },
        )
        for event in backend.run_state(run).events(now)
    ]
    if len({body["time"] for body in bodies[-2:]}) == 2:
        bodies[-2:] = bodies[:-3:-1]
    return bodies


def log_message_bodies(backend: ControlHubBackend, job: Job, run: Run, now: int) -> list[Json]:
    """Return the log messages of a run, oldest first."""
    events = [event for event in backend.run_state(run).events(now) if event.user is None]
    return [
        complete(
            "JobLogMessage",
            {
                "optimisticLockVersion": 0,
                "id": f"{make_id('log', run.id, str(event.at), event.message)}:{backend.organization}",
                "jobId": job.id,
                "runCount": run.run_count,
                "component": "pipeline",
                "logLevel": "ERROR" if "_ERROR'" in event.message else "INFO",
                "logMessage": event.message,
                "logTimestamp": event.at,
            },
        )
        for event in events
    ]


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
