"""
Request bodies. Each model checks a body and describes it in the OpenAPI document.

They contain the fields that the sandbox reads; it ignores all others. A field that has a default but is listed as
required has an error message of its own if it is missing.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, RootModel, WithJsonSchema, model_validator

from airflow_provider_streamsets.sandbox.api.validation import (
    Body,
    Boolean,
    FromMinusOne,
    FromOne,
    FromZero,
    RequiredString,
    String,
    Strings,
    check_body,
    component,
    must,
    nested,
)
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.jobs import ACTIONS, MAX_COPIES, SUBJECT_TYPES
from airflow_provider_streamsets.sandbox.backend.payload import ENGINE_TYPE, parse_json
from airflow_provider_streamsets.sandbox.backend.saved_filters import MODES
from airflow_provider_streamsets.sandbox.backend.subscriptions import ACTION_TYPE, EVENT_TYPE, METHODS
from airflow_provider_streamsets.sandbox.backend.templates import SUFFIXES
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sandbox.faults.rules import FAULT_TYPES
from airflow_provider_streamsets.sandbox.openapi import Json, array_of
from airflow_provider_streamsets.sandbox.serializers.metrics import COLUMNS, MEASUREMENTS

JobId = Annotated[str, component("JobId")]


class IdList(Body, RootModel[list[str]]):
    """Ids of objects."""


class JobIds(IdList):
    """Ids of jobs."""

    problem = "The body must be a JSON array of job ids."

    root: list[JobId]


class TemplateIds(IdList):
    """Ids of job templates."""

    problem = "The body must be a JSON array of job ids."

    root: list[Annotated[str, component("TemplateId")]]


class EngineIds(IdList):
    """Ids of engines."""

    problem = "The body must be a JSON array of engine ids."

    root: list[Annotated[str, component("EngineId")]]


class PipelineIds(IdList):
    """Ids of pipelines."""

    problem = "The body must be a JSON array of pipeline ids."

    root: list[Annotated[str, component("PipelineId")]]


class RuntimeParameters(Body, RootModel[dict[str, Any] | None]):
    """The runtime parameters of a start."""

    problem = "The runtime parameters of a start must be a JSON object."


def _not_draft(value: bool) -> bool:
    if value:
        raise bad_request("'draftRun' must be false: the sandbox does not support draft runs.")
    return value


def _supported_engine(value: bool | str) -> bool | str:
    if value not in (False, ENGINE_TYPE):
        raise bad_request(f"The sandbox supports only engines of type {ENGINE_TYPE}.")
    return value


def _is_parameters(text: str) -> bool:
    try:
        return not text.strip() or isinstance(parse_json(text), dict)
    except ValueError:
        return False


_FALSE = WithJsonSchema({"const": False})
_PARAMETERS = must("a string that holds a JSON object", _is_parameters)


_Instances = Annotated[
    FromMinusOne,
    must("-1 or at least 1", lambda count: count != 0),
    Field(json_schema_extra={"not": {"const": 0}}),
]
_EngineType = Annotated[String, AfterValidator(_supported_engine), WithJsonSchema({"const": ENGINE_TYPE})]


class JobSettings(Body):
    """The settings of a job."""

    labels: Strings | None = None
    raw_job_tags: Strings | None = None
    static_parameters: Strings | None = None
    runtime_parameters: Annotated[String, _PARAMETERS, component("JsonObject")] | None = None
    num_instances: _Instances | None = None
    max_retries_for_failed_job: FromMinusOne | None = None
    global_max_retries: FromMinusOne | None = None
    stats_refresh_interval: FromOne | None = None
    force_stop_timeout: FromZero | None = None
    needs_manual_ack: Boolean | None = None
    migrate_offsets: Boolean | None = None
    time_series: Boolean | None = None
    draft_run: Annotated[Boolean, AfterValidator(_not_draft), _FALSE] | None = None
    edge: Annotated[Boolean, AfterValidator(_supported_engine), _FALSE] | None = None
    executor_type: _EngineType | None = None


class _JobWithPipeline(JobSettings):
    name: RequiredString
    description: String | None = None
    pipeline_id: Annotated[String, component("PipelineId")] | None = None
    pipeline_commit_id: Annotated[String, component("CommitId")] | None = None
    pipeline_commit_label: Annotated[String, component("VersionLabel")] | None = None
    rules_id: Annotated[String, component("RulesId")] | None = None


class NewJob(_JobWithPipeline):
    """A new job or job template."""

    label = "a new job"
    model_config = ConfigDict(json_schema_extra={"required": ["name", "pipelineCommitId"]})

    pipeline_commit_id: Annotated[String | None, component("CommitId")] = None
    job_template: Boolean | None = None


class JobUpdate(_JobWithPipeline):
    """A job as returned by the API, with changes."""

    label = "a job"

    id: Annotated[String, component("JobId")] | None = None


class BulkJobUpdate(JobUpdate):
    """A job in a list of jobs to change."""

    id: Annotated[String, component("JobId")]


_Copies = Annotated[
    FromOne,
    must(f"at most {MAX_COPIES}", lambda count: count <= MAX_COPIES),
    Field(json_schema_extra={"maximum": MAX_COPIES}),
]


class Duplication(Body):
    """A duplication of a job."""

    label = "a duplication"

    name_prefix: RequiredString
    description: String | None = None
    number_of_copies: _Copies | None = None


def _scalars(instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for parameters in instances:
        for name, value in parameters.items():
            if isinstance(value, (dict, list)):
                raise bad_request(f"Runtime parameter '{name}' must be a scalar.")
    return instances


_Suffix = Annotated[
    String,
    must(f"one of {', '.join(SUFFIXES)}", lambda suffix: suffix in ("", *SUFFIXES)),
    WithJsonSchema({"enum": [*SUFFIXES, ""]}),
]
_Scalar = Annotated[Any, WithJsonSchema({"type": ["string", "number", "boolean", "null"]})]
_ParameterSets = Annotated[
    list[dict[str, _Scalar]],
    Field(min_length=1),
    AfterValidator(_scalars),
    must("a list of objects, one per instance"),
]


class TemplateStart(Body):
    """A start of instances of a job template."""

    label = "a template start"

    name_postfix_type: _Suffix | None = None
    param_name: String | None = None
    runtime_parameters_list: _ParameterSets | None = None
    name: String | None = None
    description: String | None = None
    raw_job_tags: Strings | None = None
    attach_to_template: Boolean | None = None
    delete_after_completion: Boolean | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_present(cls, value: Any) -> Any:
        if value is None:
            raise bad_request("The body is missing.")
        return value


def _string_values(offsets: dict[str, Any]) -> dict[str, Any]:
    if not all(value is None or isinstance(value, str) for value in offsets.values()):
        raise bad_request("The values of an offset document must be strings or null.")
    return offsets


class Offset(Body):
    """The offset of a job."""

    problem = 'The offset document must have the form {"version": 2, "offsets": {...}}.'

    version: Literal[2]
    offsets: Annotated[
        dict[str, Annotated[Any, WithJsonSchema({"type": ["string", "null"]})]], AfterValidator(_string_values)
    ]


_SubjectType = Annotated[
    String | None,
    must(f"one of {', '.join(SUBJECT_TYPES)}", lambda kind: kind in SUBJECT_TYPES),
    WithJsonSchema({"enum": [*SUBJECT_TYPES]}),
]
_Actions = Annotated[
    Strings,
    must(f"a list of {', '.join(ACTIONS)}", lambda actions: set(actions) <= set(ACTIONS)),
    WithJsonSchema({"type": "array", "items": {"enum": [*ACTIONS]}}),
]


class Permission(Body):
    """A permission on a job."""

    label = "a permission"
    model_config = ConfigDict(json_schema_extra={"required": ["subjectId", "subjectType"]})

    subject_id: RequiredString
    subject_type: _SubjectType = Field(None, validate_default=True)
    actions: _Actions | None = None


class Acl(Body):
    """The permissions on a job."""

    label = "an ACL"

    permissions: list[Annotated[Permission, nested(Permission)]]

    @model_validator(mode="before")
    @classmethod
    def _check_list(cls, value: Any) -> Any:
        if isinstance(value, dict) and not isinstance(value.get("permissions"), list):
            raise bad_request("'permissions' of an ACL must be a list.")
        return value


class ArchivedJob(JobSettings):
    """A job in an archive."""

    id: RequiredString
    name: RequiredString
    description: String | None = None
    job_template: Boolean | None = None
    pipeline_id: RequiredString
    pipeline_commit_id: RequiredString
    pipeline_name: String | None = None
    pipeline_commit_label: String | None = None
    rules_id: String | None = None


class ArchivedPipeline(Body):
    """A pipeline version in an archive."""

    pipeline_definition: Annotated[RequiredString, component("PipelineDefinition")]
    name: String | None = None
    commit_message: String | None = None
    rules_definition: String | None = None


class ArchiveEntry(Body):
    """A job and its pipeline version."""

    model_config = ConfigDict(json_schema_extra={"required": ["minimalJobJson", "commitPipelineJson"]})

    minimal_job_json: Annotated[ArchivedJob, nested(ArchivedJob)] = Field(None, validate_default=True)
    commit_pipeline_json: Annotated[ArchivedPipeline, nested(ArchivedPipeline)] = Field(None, validate_default=True)


JOB_FILTER_TYPES = ("JOB_INSTANCE", "JOB_TEMPLATE", "JOB_DRAFT_RUN", "JOB_RUN", "JOB_SEQUENCE")
PIPELINE_FILTER_TYPES = ("PIPELINE", "FRAGMENT")


_FilterMode = Annotated[
    String, must(f"one of {', '.join(MODES)}", lambda mode: mode in MODES), WithJsonSchema({"enum": [*MODES]})
]
_JobFilterType = Annotated[
    String,
    must(f"one of {', '.join(JOB_FILTER_TYPES)}", lambda kind: kind in JOB_FILTER_TYPES),
    WithJsonSchema({"enum": [*JOB_FILTER_TYPES]}),
]
_PipelineFilterType = Annotated[
    String,
    must(f"one of {', '.join(PIPELINE_FILTER_TYPES)}", lambda kind: kind in PIPELINE_FILTER_TYPES),
    WithJsonSchema({"enum": [*PIPELINE_FILTER_TYPES]}),
]


class _SavedFilter(Body):
    label = "a saved filter"

    name: RequiredString
    mode: _FilterMode
    query: String


class SavedJobFilter(_SavedFilter):
    """A saved search for jobs, templates, runs or sequences."""

    type: _JobFilterType


class SavedPipelineFilter(_SavedFilter):
    """A saved search for pipelines or fragments."""

    type: _PipelineFilterType


_Method = Annotated[String, must(f"one of {', '.join(METHODS)}", lambda method: method in METHODS)]
_Url = Annotated[RequiredString, must("a URL", lambda url: re.fullmatch(r"https?://[^/?#\s]\S*", url) is not None)]
_HeaderValue = Annotated[str, must("printable ASCII", lambda text: text.isascii() and text.isprintable())]
_MAX_TIMEOUT = 3_600_000


class WebhookConfig(Body):
    """The configuration of a webhook, which actions contain as JSON in a string."""

    label = "the configuration of a webhook"

    uri: _Url
    method: _Method = "GET"
    content_type: _HeaderValue | None = None
    payload: String | None = None
    bearer_token: _HeaderValue | None = None
    timeout: Annotated[int, Field(ge=1, le=_MAX_TIMEOUT), must(f"an integer from 1 to {_MAX_TIMEOUT}")] = 30_000
    headers: dict[str, str] | None = None


class _SubscriptionEvent(Body):
    label = "an event"

    event_type: Annotated[
        String,
        must(f"{EVENT_TYPE} in the sandbox", lambda kind: kind == EVENT_TYPE),
        WithJsonSchema({"const": EVENT_TYPE}),
    ]
    filter: (
        Annotated[String, must("empty in the sandbox", lambda condition: not condition), WithJsonSchema({"const": ""})]
        | None
    ) = None


class _SubscriptionAction(Body):
    label = "an action"

    event_type: Annotated[
        String,
        must(f"{ACTION_TYPE} in the sandbox", lambda kind: kind == ACTION_TYPE),
        WithJsonSchema({"const": ACTION_TYPE}),
    ]
    config: Annotated[String, component("WebhookConfig")]

    @property
    def webhook(self) -> WebhookConfig:
        """
        The parsed configuration.

        :raises ApiError: if it is invalid.
        """
        try:
            value = parse_json(self.config)
        except ValueError:
            raise bad_request("The configuration of a webhook must be JSON in a string.") from None
        return check_body(WebhookConfig, value)


class NewSubscription(Body):
    """A subscription that calls a webhook when the status of a job changes."""

    label = "a subscription"

    name: RequiredString
    description: String | None = None
    enabled: Boolean = True
    events: Annotated[list[Annotated[_SubscriptionEvent, nested(_SubscriptionEvent)]], Field(min_length=1)]
    external_actions: Annotated[
        list[Annotated[_SubscriptionAction, nested(_SubscriptionAction)]], Field(min_length=1, max_length=1)
    ]


class SubscriptionUpdate(NewSubscription):
    """A subscription as returned by the API, with changes."""

    id: Annotated[String, component("SubscriptionId")]


class SeriesQuery(Body):
    """A query for a time series."""

    model_config = ConfigDict(json_schema_extra={"required": ["measurement", "columns", "jobId"]})

    measurement: Annotated[Any, WithJsonSchema({"enum": [*MEASUREMENTS]})] = None
    columns: Annotated[Any, WithJsonSchema({"type": "array", "minItems": 1, "items": {"enum": [*COLUMNS]}})] = None
    job_id: Annotated[str, BeforeValidator(str), component("JobId")] = "None"
    sdc_id: Any = None
    pipeline_version: Any = None

    @model_validator(mode="after")
    def _check_choices(self) -> SeriesQuery:
        if not isinstance(self.measurement, str) or self.measurement not in MEASUREMENTS:
            raise bad_request(f"'measurement' must be one of {', '.join(MEASUREMENTS)}, got {self.measurement}.")
        columns = self.columns
        if not isinstance(columns, list) or not columns or not all(column in [*COLUMNS] for column in columns):
            raise bad_request(f"'columns' must be a list of {', '.join(COLUMNS)}, got {columns}.")
        return self


class SeriesQueries(Body, RootModel[list[SeriesQuery]]):
    """Queries for time series."""

    problem = "The body must be a JSON array of queries."


class ClockSet(Body):
    """A new time in epoch milliseconds."""

    model_config = ConfigDict(extra="forbid")

    set: int


class ClockAdvance(Body):
    """A number of seconds by which the clock is advanced."""

    model_config = ConfigDict(extra="forbid")

    advance: Annotated[int | float, WithJsonSchema({"type": "number", "minimum": 0})]


class ClockFreeze(Body):
    """Whether the clock is frozen."""

    model_config = ConfigDict(extra="forbid")

    freeze: bool


class ClockChange(Body, RootModel[ClockSet | ClockAdvance | ClockFreeze]):
    """A change of the clock."""

    problem = 'The body must be {"set": <ms>}, {"advance": <seconds>} or {"freeze": true | false}.'

    @model_validator(mode="before")
    @classmethod
    def _check_object(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise bad_request("The body must be a JSON object.")
        return value


_VARIANTS: Json = {
    "type": "object",
    "properties": {
        name: {"enum": [*choices, *map(int, filter(str.isdecimal, choices))]}
        if choices
        else {"type": ["number", "string"], "minimum": 0, "pattern": r"^\d+(\.\d+)?$"}
        for name, choices in Variants.choices().items()
    },
    "additionalProperties": False,
}


class VariantChanges(Body, RootModel[Annotated[dict[str, Any], WithJsonSchema(_VARIANTS)]]):
    """New values of variants."""

    problem = "The body must be a JSON object."


BODIES = (
    JobIds, TemplateIds, EngineIds, PipelineIds, RuntimeParameters, NewJob, JobUpdate, BulkJobUpdate, Duplication,
    TemplateStart, Offset, Acl, ArchiveEntry, SavedJobFilter, SavedPipelineFilter, SeriesQueries, ClockChange,
    VariantChanges, NewSubscription, SubscriptionUpdate,
)  # fmt: skip


FAULT_RULES: Json = {
    "type": "object",
    "required": ["rules"],
    "properties": {
        "rules": array_of({"anyOf": [rule.model_json_schema() for rule in dict.fromkeys(FAULT_TYPES.values())]}),
        "seed": {"type": ["integer", "null"], "minimum": 0},
    },
    "additionalProperties": False,
}
