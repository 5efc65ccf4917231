"""Pipelines and their definitions."""

from __future__ import annotations

import json

from airflow_provider_streamsets.sandbox.schemas import Json, complete
from airflow_provider_streamsets.sandbox.seed import PipelineSeed, VersionSeed, make_id
from airflow_provider_streamsets.sandbox.world import World

_LIBRARY: Json = {"stages": [], "pipeline": [{"configDefinitions": []}], "services": []}


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
