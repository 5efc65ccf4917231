"""Pipelines and their definitions."""

from __future__ import annotations

import json

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.seed.behaviour import SANDBOX_METADATA_KEY, write_behaviour
from airflow_provider_streamsets.sandbox.seed.models import PipelineSeed, VersionSeed, make_id
from airflow_provider_streamsets.sandbox.serializers.schemas import Json, complete

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
        "stages": [],
        "errorStage": None,
        "fragments": [],
        "metadata": {"labels": list(pipeline.labels), SANDBOX_METADATA_KEY: sandbox_metadata(pipeline)},
    }
    return json.dumps(definition)


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
