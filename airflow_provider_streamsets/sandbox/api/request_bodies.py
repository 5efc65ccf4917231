"""Schemas of request bodies: the fields that the sandbox reads; it ignores all others."""

from __future__ import annotations

from typing import Any

from airflow_provider_streamsets.sandbox.backend.payload import MAX_INT32
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sandbox.faults.rules import FAULT_TYPES
from airflow_provider_streamsets.sandbox.openapi import Json, array_of, nullable, schema_ref

_REQUIRED_STRING: Json = {"type": "string", "pattern": r"\S"}
_STRING: Json = {"type": ["string", "null"]}
_STRINGS: Json = {"type": ["array", "null"], "items": {"type": "string", "minLength": 1}}
_BOOLEAN: Json = {"type": ["boolean", "null"]}
_UNSET: Json = {"enum": [False, None]}


def _integer(minimum: int, maximum: int = MAX_INT32) -> Json:
    return {"type": ["integer", "null"], "minimum": minimum, "maximum": maximum}


def _object(required: dict[str, Any], **optional: Any) -> Json:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


_SETTINGS: dict[str, Json] = {
    "labels": _STRINGS,
    "rawJobTags": _STRINGS,
    "staticParameters": _STRINGS,
    "runtimeParameters": nullable(schema_ref("JsonObject")),
    "numInstances": {**_integer(-1), "not": {"const": 0}},
    "maxRetriesForFailedJob": _integer(-1),
    "globalMaxRetries": _integer(-1),
    "statsRefreshInterval": _integer(1),
    "forceStopTimeout": _integer(0),
    "needsManualAck": _BOOLEAN,
    "migrateOffsets": _BOOLEAN,
    "timeSeries": _BOOLEAN,
    "draftRun": _UNSET,
    "edge": _UNSET,
    "executorType": {"enum": ["COLLECTOR", None]},
}
_PIPELINE = {
    "pipelineId": nullable(schema_ref("PipelineId")),
    "pipelineCommitLabel": nullable(schema_ref("VersionLabel")),
    "rulesId": nullable(schema_ref("RulesId")),
}
_COMMIT_ID = schema_ref("CommitId")

NEW_JOB = _object(
    {"name": _REQUIRED_STRING, "pipelineCommitId": _COMMIT_ID},
    description=_STRING,
    jobTemplate=_BOOLEAN,
    **_PIPELINE,
    **_SETTINGS,
)
JOB = _object(
    {"name": _REQUIRED_STRING},
    id=nullable(schema_ref("JobId")),
    description=_STRING,
    pipelineCommitId=nullable(_COMMIT_ID),
    **_PIPELINE,
    **_SETTINGS,
)
JOB_WITH_ID = {"allOf": [JOB, _object({"id": schema_ref("JobId")})]}
CLOCK_CHANGE: Json = {
    "oneOf": [
        _object({"set": {"type": "integer"}}),
        _object({"advance": {"type": "number", "minimum": 0}}),
        _object({"freeze": {"type": "boolean"}}),
    ]
}
_COUNT: Json = {"type": ["integer", "null"], "minimum": 0}
FAULT_RULES: Json = {
    **_object(
        {"rules": array_of({"anyOf": [rule.model_json_schema() for rule in dict.fromkeys(FAULT_TYPES.values())]})},
        seed=_COUNT,
    ),
    "additionalProperties": False,
}
VARIANT_CHANGES: Json = {
    "type": "object",
    "properties": {
        name: {"enum": [*choices, *map(int, filter(str.isdecimal, choices))]}
        if choices
        else {"type": ["number", "string"], "minimum": 0, "pattern": r"^\d+(\.\d+)?$"}
        for name, choices in Variants.choices().items()
    },
    "additionalProperties": False,
}
DUPLICATION = _object({"namePrefix": _REQUIRED_STRING}, description=_STRING, numberOfCopies=_integer(1, 1000))
TEMPLATE_START = _object(
    {},
    namePostfixType={"enum": ["COUNTER", "TIME_STAMP", "PARAM_VALUE", "", None]},
    paramName=_STRING,
    runtimeParametersList={
        "type": ["array", "null"],
        "minItems": 1,
        "items": {
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        },
    },
    name=_STRING,
    description=_STRING,
    rawJobTags=_STRINGS,
    attachToTemplate=_BOOLEAN,
    deleteAfterCompletion=_BOOLEAN,
)
RUNTIME_PARAMETERS: Json = {"type": ["object", "null"]}
OFFSET = _object(
    {"version": {"const": 2}, "offsets": {"type": "object", "additionalProperties": _STRING}},
)
ACL = _object(
    {
        "permissions": array_of(
            _object(
                {"subjectId": _REQUIRED_STRING, "subjectType": {"enum": ["USER", "GROUP"]}},
                actions={"type": ["array", "null"], "items": {"enum": ["READ", "WRITE", "EXECUTE"]}},
            )
        )
    }
)
ARCHIVE_ENTRY = _object(
    {
        "minimalJobJson": _object(
            {
                "id": _REQUIRED_STRING,
                "name": _REQUIRED_STRING,
                "pipelineId": _REQUIRED_STRING,
                "pipelineCommitId": _REQUIRED_STRING,
            },
            description=_STRING,
            jobTemplate=_BOOLEAN,
            pipelineName=_STRING,
            pipelineCommitLabel=_STRING,
            rulesId=_STRING,
            **_SETTINGS,
        ),
        "commitPipelineJson": _object(
            {"pipelineDefinition": schema_ref("PipelineDefinition")},
            name=_STRING,
            commitMessage=_STRING,
            rulesDefinition=_STRING,
        ),
    }
)
