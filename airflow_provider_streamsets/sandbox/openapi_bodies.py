"""
What the bodies of requests may hold.

Of an object that the API defines, they name what the sandbox reads; everything else it reads over.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_streamsets.sandbox.openapi import Json, many, named, nullable

LARGEST = 2**31 - 1

_GIVEN: Json = {"type": "string", "pattern": r"\S"}
_TEXT: Json = {"type": ["string", "null"]}
_TEXTS: Json = {"type": ["array", "null"], "items": {"type": "string", "minLength": 1}}
_FLAG: Json = {"type": ["boolean", "null"]}
_UNSET: Json = {"enum": [False, None]}


def _number(least: int, largest: int = LARGEST) -> Json:
    return {"type": ["integer", "null"], "minimum": least, "maximum": largest}


def _object(required: dict[str, Any], **optional: Any) -> Json:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


_SETTINGS: dict[str, Json] = {
    "labels": _TEXTS,
    "rawJobTags": _TEXTS,
    "staticParameters": _TEXTS,
    "runtimeParameters": {**_TEXT, "description": "a JSON object"},
    "numInstances": {**_number(-1), "not": {"const": 0}},
    "maxRetriesForFailedJob": _number(-1),
    "globalMaxRetries": _number(-1),
    "statsRefreshInterval": _number(1),
    "forceStopTimeout": _number(0),
    "needsManualAck": _FLAG,
    "migrateOffsets": _FLAG,
    "timeSeries": _FLAG,
    "draftRun": _UNSET,
    "edge": _UNSET,
    "executorType": {"enum": ["COLLECTOR", None]},
}
_PIPELINE = {"pipelineId": nullable(named("PipelineId")), "pipelineCommitLabel": _TEXT, "rulesId": _TEXT}
_COMMIT_ID = named("CommitId")

NEW_JOB = _object(
    {"name": _GIVEN, "pipelineCommitId": _COMMIT_ID}, description=_TEXT, jobTemplate=_FLAG, **_PIPELINE, **_SETTINGS
)
JOB = _object(
    {"name": _GIVEN},
    id=nullable(named("JobId")),
    description=_TEXT,
    pipelineCommitId=nullable(_COMMIT_ID),
    **_PIPELINE,
    **_SETTINGS,
)
JOB_WITH_ID = {"allOf": [JOB, _object({"id": named("JobId")})]}
DUPLICATION = _object({"namePrefix": _GIVEN}, description=_TEXT, numberOfCopies=_number(1, 1000))
TEMPLATE_START = _object(
    {},
    namePostfixType={"enum": ["COUNTER", "TIME_STAMP", "PARAM_VALUE", "", None]},
    paramName=_TEXT,
    runtimeParametersList={
        "type": ["array", "null"],
        "minItems": 1,
        "items": {
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        },
    },
    name=_TEXT,
    description=_TEXT,
    rawJobTags=_TEXTS,
    attachToTemplate=_FLAG,
    deleteAfterCompletion=_FLAG,
)
RUNTIME_PARAMETERS: Json = {"type": ["object", "null"]}
OFFSET = _object(
    {"version": {"const": 2}, "offsets": {"type": "object", "additionalProperties": _TEXT}},
)
ACL = _object(
    {
        "permissions": many(
            _object(
                {"subjectId": _GIVEN, "subjectType": {"enum": ["USER", "GROUP"]}},
                actions={"type": ["array", "null"], "items": {"enum": ["READ", "WRITE", "EXECUTE"]}},
            )
        )
    }
)
ARCHIVE_ENTRY = _object(
    {
        "minimalJobJson": _object(
            {"id": _GIVEN, "name": _GIVEN, "pipelineId": _GIVEN, "pipelineCommitId": _GIVEN},
            description=_TEXT,
            jobTemplate=_FLAG,
            pipelineName=_TEXT,
            pipelineCommitLabel=_TEXT,
            rulesId=_TEXT,
            **_SETTINGS,
        ),
        "commitPipelineJson": _object(
            {"pipelineDefinition": {**_GIVEN, "description": "a JSON object"}},
            name=_TEXT,
            commitMessage=_TEXT,
            rulesDefinition=_TEXT,
        ),
    }
)
