"""Jobs, their tags and permissions, template starts and archive entries."""

from __future__ import annotations

import json

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.store import Job, TemplateRun
from airflow_provider_streamsets.sandbox.serializers.pipelines import pipeline_body
from airflow_provider_streamsets.sandbox.serializers.schemas import FIELDS, Json, complete
from airflow_provider_streamsets.sandbox.serializers.statuses import current_status_body


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
