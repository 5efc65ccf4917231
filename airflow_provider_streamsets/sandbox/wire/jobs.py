"""Jobs, their tags and who may do what with them."""

from __future__ import annotations

import json

from airflow_provider_streamsets.sandbox.schemas import Json, complete
from airflow_provider_streamsets.sandbox.wire.statuses import current_status_body
from airflow_provider_streamsets.sandbox.world import Job, World


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
