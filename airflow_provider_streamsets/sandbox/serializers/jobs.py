"""Pipelines, and jobs with their tags and permissions, template starts and archive entries."""

from __future__ import annotations

import json

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.store import Job, TemplateRun
from airflow_provider_streamsets.sandbox.seed.behaviour import SANDBOX_METADATA_KEY, write_behaviour
from airflow_provider_streamsets.sandbox.seed.models import PipelineSeed, VersionSeed, make_id
from airflow_provider_streamsets.sandbox.serializers.runs import current_status_body
from airflow_provider_streamsets.sandbox.serializers.schemas import FIELDS, Json, complete

_LIBRARY: Json = {"stages": [], "pipeline": [{"configDefinitions": []}], "services": []}


def pipeline_body(
    backend: ControlHubBackend, pipeline: PipelineSeed, version: VersionSeed, *, definitions: bool
) -> Json:
    """
    Return a ``PipelineJson``.

    :param backend: the simulated Control Hub.
    :param pipeline: the pipeline.
    :param version: the version.
    :param definitions: whether to include the definitions of pipeline, rules and libraries.
    """
    committed = backend.created_at - version.committed_ago
    engine = backend.seed.engines[0]
    rules = complete(
        "RulesJson",
        {
            "id": pipeline.rules_id,
            "commitId": version.commit_id,
            "name": pipeline.name,
            "rulesCommitter": backend.user,
            "message": version.message,
            "rulesTime": committed,
            "rulesDefinition": _rules_definition(pipeline, version) if definitions else None,
        },
    )
    return complete(
        "PipelineJson",
        {
            "commitId": version.commit_id,
            "organization": backend.organization,
            "pipelineId": pipeline.id,
            "name": pipeline.name,
            "description": pipeline.description,
            "parentVersion": str(int(version.version) - 1),
            "version": version.version,
            "committer": backend.user,
            "commitMessage": version.message,
            "commitTime": committed,
            "pipelineDefinition": _pipeline_definition(pipeline, version) if definitions else None,
            "libraryDefinitions": json.dumps(_LIBRARY) if definitions else None,
            "currentRules": rules,
            "pipelineLabels": [
                complete(
                    "PipelineLabelJson",
                    {"id": f"{label}:{backend.organization}", "label": label, "organization": backend.organization},
                )
                for label in pipeline.labels
            ],
            "system": False,
            "sdcVersion": engine.version,
            "sdcId": engine.id,
            "lastModifiedBy": backend.user,
            "lastModifiedOn": committed,
            "draft": False,
            "executionMode": "STANDALONE",
            "fragment": False,
            "externalCiStatuses": [],
            "fragmentCommitIds": [],
            "executorType": "COLLECTOR",
        },
    )


def tag_bodies(backend: ControlHubBackend, pipeline: PipelineSeed) -> list[Json]:
    """Return the ``TagJson`` of all tags of the versions of a pipeline."""
    return [
        complete(
            "TagJson",
            {
                "id": tag.id,
                "commitId": version.commit_id,
                "name": tag.name,
                "message": tag.message,
                "tagger": backend.user,
                "tagTime": backend.created_at - version.committed_ago,
            },
        )
        for version in pipeline.versions
        for tag in version.tags
    ]


def _pipeline_definition(pipeline: PipelineSeed, version: VersionSeed) -> str:
    if version.definition is not None:
        return version.definition
    constants = [{"key": key, "value": value} for key, value in version.constants.items()]
    definition = {
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
        "stages": _stages(pipeline),
        "errorStage": None,
        "fragments": [],
        "metadata": {"labels": list(pipeline.labels), SANDBOX_METADATA_KEY: sandbox_metadata(pipeline)},
    }
    return json.dumps(definition)


def _stages(pipeline: PipelineSeed) -> list[Json]:
    kinds = (("SOURCE", f"{pipeline.origin}_01"), ("TARGET", f"{pipeline.destination}_01"))
    lane = [f"{pipeline.origin}_01OutputLane1"]
    return [
        {
            "instanceName": instance,
            "stageName": stage.type,
            "configuration": [{"name": name, "value": value} for name, value in stage.configuration.items()],
            "services": [],
            "uiInfo": {"label": instance, "stageType": kind},
            "inputLanes": lane if kind == "TARGET" else [],
            "outputLanes": lane if kind == "SOURCE" else [],
            "eventLanes": [],
        }
        for (kind, instance), stage in zip(kinds, pipeline.stages, strict=False)
    ]


def sandbox_metadata(pipeline: PipelineSeed) -> Json:
    """Return the metadata from which another sandbox restores the behaviour of the pipeline."""
    return {
        "origin": pipeline.origin,
        "destination": pipeline.destination,
        "offset": pipeline.offset,
        "behaviour": write_behaviour(pipeline.behaviour),
    }


def _rules_definition(pipeline: PipelineSeed, version: VersionSeed) -> str:
    if version.rules is not None:
        return version.rules
    rules = {
        "schemaVersion": 3,
        "version": 2,
        "metricsRuleDefinitions": [],
        "dataRuleDefinitions": [],
        "driftRuleDefinitions": [],
        "uuid": make_id("rules", pipeline.id),
    }
    return json.dumps(rules)


def job_body(backend: ControlHubBackend, job: Job, now: int) -> Json:
    """Return a ``JobJson``."""
    seed = job.seed
    return complete(
        "JobJson",
        {
            "id": job.id,
            "name": seed.name,
            "description": seed.description,
            "organization": backend.organization,
            "creator": job.creator,
            "createTime": job.created_on,
            "lastModifiedBy": job.modified_by,
            "lastModifiedOn": job.modified_on,
            "destroyer": job.destroyer,
            "deleteTime": job.deleted_on,
            "jobDeleted": job.deleted_on > 0,
            "pipelineName": seed.pipeline.name,
            "pipelineId": seed.pipeline.id,
            "pipelineCommitId": seed.version.commit_id,
            "rulesId": seed.pipeline.rules_id,
            "pipelineCommitLabel": f"v{seed.version.version}",
            "labels": list(seed.labels),
            "currentJobStatus": current_status_body(backend, job, now),
            "numInstances": seed.instances,
            "migrateOffsets": seed.failover,
            "statsRefreshInterval": seed.stats_interval,
            "runtimeParameters": json.dumps(job.parameters),
            "edge": False,
            "timeSeries": seed.time_series,
            "forceStopTimeout": seed.force_stop_timeout,
            "maxRetriesForFailedJob": seed.max_retries,
            "jobTemplate": seed.is_template,
            "templateJobId": seed.template_id,
            "rawJobTags": list(seed.tags),
            "jobTags": [job_tag_body(backend, tag) for tag in seed.tags],
            "executorType": "COLLECTOR",
            "globalMaxRetries": seed.global_max_retries,
            "needsManualAck": seed.needs_ack,
            "staticParameters": list(seed.static_parameters),
            "archived": seed.archived,
            "deleteAfterCompletion": seed.delete_after_completion,
            "draftRun": False,
            "jobSequence": False,
        },
    )


def job_tag_body(backend: ControlHubBackend, tag: str) -> Json:
    """Return a ``JobTagJson``."""
    parent, _, last = tag.rpartition("/")
    return complete(
        "JobTagJson",
        {
            "id": f"{tag}:{backend.organization}",
            "tag": last,
            "parentId": f"{parent}:{backend.organization}" if parent else None,
            "organization": backend.organization,
        },
    )


def acl_body(backend: ControlHubBackend, job: Job) -> Json:
    """Return the ``AclJson`` of a job."""
    changed = {
        "lastModifiedBy": job.permitted_by or job.creator,
        "lastModifiedOn": job.permitted_on or job.created_on,
    }
    permissions = [
        complete(
            "PermissionJson",
            {
                "resourceId": job.id,
                "subjectId": permission.subject_id,
                "subjectType": permission.subject_type,
                "actions": list(permission.actions),
                **changed,
            },
        )
        for permission in job.permissions
    ]
    return complete(
        "AclJson",
        {
            "resourceId": job.id,
            "organization": backend.organization,
            "resourceOwner": job.creator,
            "resourceCreatedTime": job.created_on,
            "resourceType": "JOB",
            **changed,
            "permissions": permissions,
        },
    )


def template_run_body(template: Job, run: TemplateRun) -> Json:
    """Return a ``JobTemplateRunHistoryJson``."""
    return complete(
        "JobTemplateRunHistoryJson",
        {
            "id": run.id,
            "jobTemplateId": template.id,
            "user": run.user,
            "time": run.at,
            "runCount": run.run_count,
            "configuration": run.configuration,
            "jobInstanceIds": list(run.job_ids),
        },
    )


def archive_entry_body(backend: ControlHubBackend, job: Job, now: int) -> Json:
    """Return a ``JobEnvelopeWithConnectionsMetadataJson``: a job and its pipeline version."""
    seed = job.seed
    body = job_body(backend, job, now)
    pipeline = pipeline_body(backend, seed.pipeline, seed.version, definitions=True)
    return complete(
        "JobEnvelopeWithConnectionsMetadataJson",
        {
            "minimalJobJson": {field: body[field] for field in FIELDS["MinimalJobJson"]},
            "commitPipelineJson": complete(
                "CommitPipelineJson",
                {
                    "name": pipeline["name"],
                    "commitMessage": pipeline["commitMessage"],
                    "pipelineDefinition": pipeline["pipelineDefinition"],
                    "rulesDefinition": pipeline["currentRules"]["rulesDefinition"],
                    "fragment": False,
                    "sdcId": pipeline["sdcId"],
                    "failIfExists": False,
                    "executorType": pipeline["executorType"],
                },
            ),
            "connectionsMetadata": {},
        },
    )
