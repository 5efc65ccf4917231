"""The bodies that go over the wire, made from the world at a moment."""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_streamsets.sandbox.lifecycle import ENDED, Counts, Run
from airflow_provider_streamsets.sandbox.schemas import complete
from airflow_provider_streamsets.sandbox.seed import EngineSeed, PipelineSeed, VersionSeed, make_id
from airflow_provider_streamsets.sandbox.world import Job, World

Json = dict[str, Any]

ID_SEPARATOR = "__"
ROLES = (
    "user",
    "org-user",
    "jobrunner:operator",
    "datacollector:manager",
    "pipelinestore:pipelineEditor",
    "timeseries:reader",
)


def engine_pipeline_id(job: Job) -> str:
    """Return the id that a job's pipeline has on its engine."""
    title = "".join(character for character in job.seed.pipeline.name if character.isalnum())[:9]
    return f"{title}{ID_SEPARATOR}{job.id.replace(':', ID_SEPARATOR)}"


def job_body(world: World, job: Job, now: int) -> Json:
    """Return a ``JobJson``."""
    seed = job.seed
    created = world.born - seed.created_ago
    return complete(
        "JobJson",
        {
            "id": job.id,
            "name": seed.name,
            "description": seed.description,
            "organization": world.organization,
            "creator": world.user,
            "createTime": created,
            "lastModifiedBy": world.user,
            "lastModifiedOn": created,
            "deleteTime": 0,
            "jobDeleted": False,
            "pipelineName": seed.pipeline.name,
            "pipelineId": seed.pipeline.id,
            "pipelineCommitId": seed.version.commit_id,
            "rulesId": seed.pipeline.rules_id,
            "pipelineCommitLabel": f"v{seed.version.version}",
            "labels": list(seed.labels),
            "currentJobStatus": current_status_body(world, job, now),
            "numInstances": seed.instances,
            "migrateOffsets": seed.failover,
            "statsRefreshInterval": seed.stats_interval,
            "runtimeParameters": json.dumps(job.parameters),
            "edge": False,
            "timeSeries": seed.time_series,
            "forceStopTimeout": seed.force_stop_timeout,
            "maxRetriesForFailedJob": -1,
            "jobTemplate": seed.is_template,
            "templateJobId": seed.template_id,
            "rawJobTags": list(seed.tags),
            "jobTags": [job_tag_body(world, tag) for tag in seed.tags],
            "executorType": "COLLECTOR",
            "globalMaxRetries": -1,
            "needsManualAck": seed.needs_ack,
            "staticParameters": list(seed.static_parameters),
            "archived": False,
            "deleteAfterCompletion": False,
            "draftRun": False,
            "jobSequence": False,
        },
    )


def job_tag_body(world: World, tag: str) -> Json:
    """Return a ``JobTagJson``."""
    parent, _, last = tag.rpartition("/")
    return complete(
        "JobTagJson",
        {
            "id": f"{tag}:{world.organization}",
            "tag": last,
            "parentId": f"{parent}:{world.organization}" if parent else None,
            "organization": world.organization,
        },
    )


def current_status_body(world: World, job: Job, now: int) -> Json | None:
    """Return the ``JobStatusJson`` of a job's latest run, None if it never ran."""
    if job.latest is not None:
        return status_body(world, job, job.latest, now)
    # An uploaded offset gives a job that never ran a status, one without a run.
    uploaded = any(document is not None for _, document in job.offset_changes)
    return unstarted_status_body(world, job, now) if uploaded else None


def unstarted_status_body(world: World, job: Job, now: int) -> Json:
    """Return a ``JobStatusJson`` without a run."""
    return complete(
        "JobStatusJson",
        {
            "id": f"{make_id('run', job.id, '0')}:{world.organization}",
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
            "pipelineOffsets": _offset_bodies(job, "", world.offset(job, now)),
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


def status_body(world: World, job: Job, run: Run, now: int) -> Json:
    """Return the ``JobStatusJson`` of a run."""
    life = world.lifecycle(run)
    phase = life.at(now)
    ended = phase.status in ENDED
    saved = life.saved(now)
    offset = world.run_offset(job, run, now)
    if run is job.latest and ended:
        offset = world.offset(job, now)
    keeps_commands = phase.status in ("INACTIVE_ERROR", "ACTIVATION_ERROR") or not ended
    return complete(
        "JobStatusJson",
        {
            "id": run.id,
            "jobId": job.id,
            "pipelineCommitId": _version(job.seed.pipeline, run.version).commit_id,
            "runCount": run.run_count,
            "user": run.user,
            "startTime": run.started,
            "finishTime": life.finished_at(now),
            "errorMessage": phase.error,
            "color": phase.color,
            "sdcIds": list(run.engine_ids),
            "status": phase.status,
            "errorInfos": _error_infos(run, life.pipeline_ended, now) if phase.error else [],
            "warnings": _warnings(run) if life.is_lost(now) else [],
            "ackTrackers": _ack_trackers(world, run, now) if keeps_commands else [],
            "pipelineOffsets": _offset_bodies(job, run.engine_ids[0], offset),
            "pipelineStatus": pipeline_status_bodies(world, job, run, now),
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


def pipeline_status_bodies(world: World, job: Job, run: Run, now: int) -> list[Json]:
    """Return what each engine reports about a run, nothing once the job is inactive."""
    phase = world.lifecycle(run).at(now)
    if phase.pipeline is None:
        return []
    return [
        complete(
            "PipelineStatusJson",
            {
                "sdcId": engine_id,
                "name": engine_pipeline_id(job),
                "title": job.seed.pipeline.name,
                "jobId": job.id,
                "localPipeline": False,
                "status": "RUNNING" if phase.lost_since and phase.pipeline == "STOPPING" else phase.pipeline,
                "lastReportedTime": phase.lost_since or now,
                "worker": [],
                "message": phase.error,
                "clusterMode": False,
            },
        )
        for engine_id in run.engine_ids
    ]


def event_bodies(world: World, run: Run, now: int) -> list[Json]:
    """Return the run events, not in order of time: clients must sort."""
    bodies = [
        complete(
            "JobStatusHistoryJson",
            {
                "user": event.user,
                "time": event.at,
                "message": event.message,
                "status": event.status,
                "jobStatusId": run.id,
            },
        )
        for event in world.lifecycle(run).events(now)
    ]
    return bodies[:-2] + bodies[-2:][::-1]


def log_message_bodies(world: World, job: Job, run: Run, now: int) -> list[Json]:
    """Return log messages about a run, oldest first."""
    events = [event for event in world.lifecycle(run).events(now) if event.user is None]
    return [
        complete(
            "JobLogMessage",
            {
                "optimisticLockVersion": 0,
                "id": f"{make_id('log', run.id, str(event.at), event.message)}:{world.organization}",
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


def record_counts_body(world: World, job: Job, now: int, engine_id: str | None = None) -> Json:
    """Return the record counts of all runs, the latest as entry ``"0"`` without its run count."""
    entries: list[Json] = []
    for run in reversed(job.runs):
        if engine_id and engine_id not in run.engine_ids:
            continue
        counts = world.saved_counts(run, now) or _zeros(world, job, run, now)
        if counts is not None:
            entries.append({**_record_counts(world, job, run, counts, engine_id), "runCount": run.run_count})
    latest = bool(entries) and job.latest is not None and entries[0]["runCount"] == job.latest.run_count
    first = 0 if latest or world.variants.counts_of_latest == "previous" else 1
    for entry in entries[: 1 - first]:
        del entry["runCount"]
    return {str(index): entry for index, entry in enumerate(entries, start=first)}


def metrics_body(world: World, job: Job, run: Run | None, counts: Counts | None, gauge_at: int | None = None) -> Json:
    """
    Return a ``MetricRegistryJson``.

    :param world: the world.
    :param job: the job.
    :param run: the run.
    :param counts: what was counted; None gives an empty registry.
    :param gauge_at: for live metrics, the time they are read at.
    """
    version = world.engines[run.engine_ids[0]].version if run else "5.10.0"
    body = complete(
        "MetricRegistryJson",
        {"version": version, "gauges": {}, "counters": {}, "histograms": {}, "meters": {}, "timers": {}},
    )
    if run is None or counts is None:
        return body
    seconds = max(1e-3, (counts.at - run.started) / 1000)
    totals = {
        "pipeline.batchCount": counts.batches,
        "pipeline.batchInputRecords": counts.input,
        "pipeline.batchOutputRecords": counts.output,
        "pipeline.batchErrorRecords": counts.error,
        "pipeline.batchErrorMessages": counts.stage_errors,
    }
    origin, destination = f"{job.seed.pipeline.origin}_01", f"{job.seed.pipeline.destination}_01"
    body["counters"] = {
        **{f"{name}.counter": {"count": count} for name, count in totals.items()},
        f"stage.{origin}.outputRecords.counter": {"count": counts.input},
        f"stage.{origin}.errorRecords.counter": {"count": 0},
        f"stage.{origin}.stageErrors.counter": {"count": 0},
        f"stage.{destination}.inputRecords.counter": {"count": counts.input},
        f"stage.{destination}.outputRecords.counter": {"count": counts.output},
        f"stage.{destination}.errorRecords.counter": {"count": counts.error},
        f"stage.{destination}.stageErrors.counter": {"count": counts.stage_errors},
    }
    body["meters"] = {f"{name}.meter": _meter(count, count / seconds) for name, count in totals.items()}
    size = counts.input // counts.batches if counts.batches else 0
    body["histograms"] = {
        "pipeline.inputRecordsPerBatch.histogramM5": {
            "count": counts.batches, "max": size, "mean": float(size), "min": size, "stddev": 0.0,
            **{quantile: float(size) for quantile in ("p50", "p75", "p95", "p98", "p99", "p999")},
        }
    }  # fmt: skip
    body["timers"] = {
        "pipeline.batchProcessing.timer": {
            "count": counts.batches, "max": 0.9, "mean": 0.05, "min": 0.01, "p50": 0.04, "p75": 0.06, "p95": 0.1,
            "p98": 0.2, "p99": 0.3, "p999": 0.9, "stddev": 0.02, "m15_rate": counts.batches / seconds,
            "m1_rate": counts.batches / seconds, "m5_rate": counts.batches / seconds,
            "mean_rate": counts.batches / seconds, "duration_units": "seconds", "rate_units": "calls/second",
        }
    }  # fmt: skip
    if gauge_at is not None:
        body["gauges"] = {
            "RuntimeStatsGauge.gauge": {
                "value": {
                    "batchCount": counts.batches,
                    "idleBatchCount": 0,
                    "timeOfLastReceivedRecord": gauge_at,
                    "lastBatchInputRecordsCount": size,
                    "lastBatchOutputRecordsCount": size,
                    "lastBatchErrorRecordsCount": 0,
                    "lastBatchErrorMessagesCount": 0,
                    "totalRunners": 1,
                    "availableRunners": 1,
                }
            }
        }
    return body


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


def pipeline_body(world: World, pipeline: PipelineSeed, version: VersionSeed, *, definitions: bool) -> Json:
    """
    Return a ``PipelineJson``.

    :param world: the world.
    :param pipeline: the pipeline.
    :param version: the version.
    :param definitions: whether to include what makes it long.
    """
    committed = world.born - version.committed_ago
    engine = world.seed.engines[0]
    rules = complete(
        "RulesJson",
        {
            "id": pipeline.rules_id,
            "commitId": version.commit_id,
            "name": pipeline.name,
            "rulesCommitter": world.user,
            "message": version.message,
            "rulesTime": committed,
            "rulesDefinition": json.dumps(_rules_definition(pipeline)) if definitions else None,
        },
    )
    return complete(
        "PipelineJson",
        {
            "commitId": version.commit_id,
            "organization": world.organization,
            "pipelineId": pipeline.id,
            "name": pipeline.name,
            "description": pipeline.description,
            "parentVersion": str(int(version.version) - 1),
            "version": version.version,
            "committer": world.user,
            "commitMessage": version.message,
            "commitTime": committed,
            "pipelineDefinition": json.dumps(_pipeline_definition(pipeline, version)) if definitions else None,
            "libraryDefinitions": json.dumps(_LIBRARY) if definitions else None,
            "currentRules": rules,
            "pipelineLabels": [
                complete(
                    "PipelineLabelJson",
                    {"id": f"{label}:{world.organization}", "label": label, "organization": world.organization},
                )
                for label in pipeline.labels
            ],
            "system": False,
            "sdcVersion": engine.version,
            "sdcId": engine.id,
            "lastModifiedBy": world.user,
            "lastModifiedOn": committed,
            "draft": False,
            "executionMode": "STANDALONE",
            "fragment": False,
            "externalCiStatuses": [],
            "fragmentCommitIds": [],
            "executorType": "COLLECTOR",
        },
    )


def principal_body(world: World) -> Json:
    """Return the ``SSOPrincipalJson`` of the credential's user."""
    organization = world.seed.organization
    return complete(
        "SSOPrincipalJson",
        {
            "expires": -1,
            "principalId": organization.user_id,
            "principalName": organization.user_name,
            "organizationId": organization.id,
            "organizationName": organization.name,
            "email": organization.user_email,
            "roles": list(ROLES),
            "groups": [f"all@{organization.id}"],
            "app": False,
            "attributes": {},
        },
    )


def acl_body(world: World, job: Job) -> Json:
    """Return the ``AclJson`` of a job."""
    created = world.born - job.seed.created_ago
    permission = complete(
        "PermissionJson",
        {
            "resourceId": job.id,
            "subjectId": world.user,
            "subjectType": "USER",
            "lastModifiedBy": world.user,
            "lastModifiedOn": created,
            "actions": ["READ", "WRITE", "EXECUTE"],
        },
    )
    return complete(
        "AclJson",
        {
            "resourceId": job.id,
            "organization": world.organization,
            "resourceOwner": world.user,
            "resourceCreatedTime": created,
            "resourceType": "JOB",
            "lastModifiedBy": world.user,
            "lastModifiedOn": created,
            "permissions": [permission],
        },
    )


def wrapper_body(total: int, offset: int, length: int, data: list[Any]) -> Json:
    """Return a ``PaginationWrapperJson``."""
    return complete("PaginationWrapperJson", {"totalCount": total, "offset": offset, "len": length, "data": data})


_LIBRARY: Json = {"stages": [], "pipeline": [{"configDefinitions": []}], "services": []}


def _version(pipeline: PipelineSeed, version: str) -> VersionSeed:
    return next(item for item in pipeline.versions if item.version == version)


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
    if at > now or any(ask.at <= now for ask in run.error_info_resets):
        return []
    return [
        complete("ErrorInfoJson", {"lastErrorTimestamp": at, "globalErrorCount": 1, "sdcId": engine_id})
        for engine_id in run.engine_ids
    ]


def _warnings(run: Run) -> list[str]:
    urls = ", ".join(run.engine_urls)
    return [
        f"JOBRUNNER_62 - Not responding Data Collectors execution engines '[{urls}]'",
        f"JOBRUNNER_24 - Cannot failover Data Collectors '[{urls}]' as no instances available for failover",
    ]


def _ack_trackers(world: World, run: Run, now: int) -> list[Json]:
    return [
        complete(
            "AckTrackerJson",
            {
                "sdcId": engine_id,
                "createTime": command.at,
                "ackStatus": command.result if command.answered <= now else "PENDING",
                "message": command.message if command.answered <= now else None,
                "eventType": command.kind,
            },
        )
        for command in world.lifecycle(run).commands
        if command.at <= now
        for engine_id in run.engine_ids
    ]


def _record_counts(world: World, job: Job, run: Run, counts: Counts, engine_id: str | None) -> Json:
    share = run.instances if engine_id else 1
    seconds = max(1e-3, min(60.0, (counts.at - run.started) / 1000))

    def rate(count: int) -> float:
        return count / share / seconds

    return {
        "jobId": job.id,
        "organization": world.organization,
        "stageId": "PIPELINE",
        "sdcId": engine_id or run.engine_ids[0],
        "pipelineVersion": run.version,
        "inputCount": counts.input // share,
        "outputCount": counts.output // share,
        "errorCount": counts.error // share,
        "stageErrorsCount": counts.stage_errors // share,
        "inputM1Rate": rate(counts.input),
        "outputM1Rate": rate(counts.output),
        "errorM1Rate": rate(counts.error),
        "stageErrorsM1Rate": rate(counts.stage_errors),
        "lastUpdatedOn": counts.at,
    }


def _zeros(world: World, job: Job, run: Run, now: int) -> Counts | None:
    """Return the counts shown for a run that saved none, None if it is not shown."""
    variants = world.variants
    shown = variants.counts_of_latest if run is job.latest else variants.counts_of_earlier
    if shown != "zeros" or not run.behaviour.saves_metrics:
        return None
    return Counts(at=world.lifecycle(run).finished_at(now) or run.started, input=0, error=0, stage_errors=0)


def _meter(count: int, rate: float) -> Json:
    windows = ("m1_rate", "m5_rate", "m15_rate", "m30_rate", "h1_rate", "h6_rate", "h12_rate", "h24_rate", "mean_rate")
    return {"count": count, **dict.fromkeys(windows, rate), "units": "events/second"}


def _pipeline_definition(pipeline: PipelineSeed, version: VersionSeed) -> Json:
    constants = [{"key": key, "value": value} for key, value in version.constants.items()]
    return {
        "schemaVersion": 6,
        "version": 39,
        "pipelineId": pipeline.id.partition(":")[0],
        "title": pipeline.name,
        "description": pipeline.description,
        "uuid": make_id("definition", version.commit_id),
        "configuration": [
            {"name": "executionMode", "value": "STANDALONE"},
            {"name": "constants", "value": constants},
        ],
        "uiInfo": {},
        "stages": [],
        "errorStage": None,
        "fragments": [],
    }


def _rules_definition(pipeline: PipelineSeed) -> Json:
    return {
        "schemaVersion": 3,
        "version": 2,
        "metricsRuleDefinitions": [],
        "dataRuleDefinitions": [],
        "driftRuleDefinitions": [],
        "uuid": make_id("rules", pipeline.id),
    }
