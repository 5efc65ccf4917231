"""
What the bodies of requests may hold.

Of an object that the API defines, they name what the sandbox reads; everything else it reads over.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_streamsets.sandbox.backend.payload import LARGEST
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sandbox.faults.rules import BODIES, FAULTS, STATUSES
from airflow_provider_streamsets.sandbox.openapi.spec import Json, many, named, nullable

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
    "runtimeParameters": nullable(named("JsonObject")),
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
_PIPELINE = {
    "pipelineId": nullable(named("PipelineId")),
    "pipelineCommitLabel": nullable(named("VersionLabel")),
    "rulesId": nullable(named("RulesId")),
}
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
CLOCK_CHANGE: Json = {
    "oneOf": [
        _object({"set": {"type": "integer"}}),
        _object({"advance": {"type": "number", "minimum": 0}}),
        _object({"freeze": {"type": "boolean"}}),
    ]
}
_COUNT: Json = {"type": ["integer", "null"], "minimum": 0}
_FAULT_OPTIONS: dict[str, Json] = {
    "seconds": {"type": ["number", "null"], "minimum": 0, "maximum": 3600},
    "processed": _FLAG,
    "retry_after": _COUNT,
    "body": {"enum": [*BODIES, None]},
}


def _fault_option(fault: str, name: str) -> Json:
    return {"enum": [*STATUSES[fault], None]} if name == "status" else _FAULT_OPTIONS[name]


FAULT_RULES: Json = {
    **_object(
        {
            "rules": many(
                {
                    "anyOf": [
                        {
                            **_object(
                                {"fault": {"const": fault}, "path": {"type": "string", "pattern": "^[/*]"}},
                                method={"type": ["string", "number", "null"]},
                                probability={"type": ["number", "null"], "minimum": 0, "maximum": 1},
                                after=_COUNT,
                                times=_COUNT,
                                **{name: _fault_option(fault, name) for name in options},
                            ),
                            "additionalProperties": False,
                        }
                        for fault, options in FAULTS.items()
                    ]
                }
            )
        },
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
            {"pipelineDefinition": named("PipelineDefinition")},
            name=_TEXT,
            commitMessage=_TEXT,
            rulesDefinition=_TEXT,
        ),
    }
)
