"""Descriptions of routes, and the OpenAPI documents generated from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.routing import BaseRoute

from airflow_provider_streamsets import __version__
from airflow_provider_streamsets.sandbox.serializers.schemas import FIELDS

Json = dict[str, Any]
Schema = Json | str | type[BaseModel]

MAY_BE_EMPTY = "x-may-be-empty"
"""Marks a response that has no body if the object does not exist, which OpenAPI cannot express."""

STRING: Json = {"type": "string"}
STRINGS: Json = {"type": "array", "items": STRING}
OBJECT: Json = {"type": "object"}
NULL: Json = {"type": "null"}
INTEGER: Json = {"type": "integer", "format": "int64"}
BINARY: Json = {"type": "string", "format": "binary"}


def route_spec(
    success: Schema | None = None,
    *,
    query: Iterable[Json] = (),
    body: Schema | None = None,
    body_required: bool = True,
    upload: bool = False,
    errors: Iterable[int] = (),
    may_be_empty: bool = False,
    media: str = "application/json",
    is_public: bool = False,
    is_refused: bool = False,
    no_content: Iterable[int] = (),
) -> Json:
    """
    Return the arguments of a route decorator that describe the route.

    :param success: schema of the response; None for a response without a body.
    :param query: the query parameters.
    :param body: schema of the request body.
    :param body_required: whether the body is required.
    :param upload: whether the request body is a form with a file.
    :param errors: HTTP statuses of the errors, except 401.
    :param may_be_empty: whether the response has no body if the object does not exist.
    :param media: media type of the response.
    :param is_public: whether the route needs no credential.
    :param is_refused: whether every request is answered with 403, because the user lacks a role.
    :param no_content: HTTP statuses of successful responses without a body.
    """
    error = _content("application/json", schema_of("Issues"))
    responses: dict[int | str, Json] = dict.fromkeys(errors, error)
    responses.update({status: {} for status in no_content})
    extra: Json = {"parameters": list(query)}
    if upload:
        extra["requestBody"] = _content("multipart/form-data", object_of(file=BINARY), required=True)
    elif body is not None:
        extra["requestBody"] = _content("application/json", schema_of(body), required=body_required)
    if is_public:
        extra["security"] = []
    arguments: Json = {"responses": responses, "openapi_extra": extra}
    if success is None or media != "application/json":
        arguments["response_class"] = Response
    if is_refused:
        responses[403] = error
        arguments["status_code"] = 403
    if success is not None:
        responses[200] = _content(media, schema_of(success))
        if may_be_empty:
            responses[200][MAY_BE_EMPTY] = True
    return arguments


def _content(media: str, schema: Json, **others: Any) -> Json:
    return {"content": {media: {"schema": schema}}, **others}


def schema_of(schema: Schema) -> Json:
    """Return a schema; a name or a model stands for a reference to its schema."""
    if isinstance(schema, dict):
        return schema
    return {"$ref": f"#/components/schemas/{schema if isinstance(schema, str) else schema.__name__}"}


def nullable(schema: Schema) -> Json:
    """Return a schema that also allows null."""
    return {"anyOf": [schema_of(schema), NULL]}


def array_of(items: Schema) -> Json:
    """Return the schema of a list."""
    return {"type": "array", "items": schema_of(items)}


def map_of(values: Schema) -> Json:
    """Return the schema of a mapping."""
    return {"type": "object", "additionalProperties": schema_of(values)}


def object_of(**fields: Json) -> Json:
    """Return the schema of an object with required fields."""
    return {"type": "object", "properties": fields, "required": list(fields)}


def wrapper_of(data: Json) -> Json:
    """Return the schema of a ``PaginationWrapperJson``."""
    return object_of(totalCount=INTEGER, offset=INTEGER, len=INTEGER, data=data)


def page_of(items: Schema) -> Json:
    """Return the schema of a list that may be wrapped in a ``PaginationWrapperJson``."""
    return {"anyOf": [array_of(items), wrapper_of(array_of(items))]}


COUNT = object_of(count=INTEGER)


def _parameter(name: str, schema: Json, *, required: bool = False) -> Json:
    parameter = {"name": name, "in": "query", "required": required, "schema": schema}
    # An empty value counts as unset.
    return parameter if required else {**parameter, "allowEmptyValue": True}


def string_param(name: str, *, required: bool = False, schema: Schema = STRING) -> Json:
    """Return a string query parameter."""
    return _parameter(name, schema_of(schema), required=required)


def boolean_param(name: str) -> Json:
    """Return a boolean query parameter."""
    return _parameter(name, {"type": "boolean"})


def integer_param(name: str, minimum: int | None = None) -> Json:
    """Return an integer query parameter."""
    return _parameter(name, {"type": "integer"} if minimum is None else {"type": "integer", "minimum": minimum})


def enum_param(name: str, choices: Sequence[str]) -> Json:
    """Return a query parameter with a fixed set of values."""
    return _parameter(name, {"type": "string", "enum": list(choices)})


PAGE = (integer_param("offset", 0), integer_param("len", -1))
WRAPPED_PAGE = (*PAGE, boolean_param("withWrapper"))
ORDERS = ("ASC", "DESC")
ORDER = enum_param("order", ORDERS)
ENGINE_TYPES = ("COLLECTOR", "TRANSFORMER", "EDGE", "SNOWPARK")
ENGINE_TYPE = enum_param("executorType", ENGINE_TYPES)
SEARCH = (string_param("organization"), string_param("orgId"), string_param("search"), string_param("orderBy"), *PAGE)


_TYPES: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "boolean": {"type": "boolean"},
    "object": {"type": "object"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "double": {"type": "number", "format": "double"},
}


SERVICES = (
    "banner", "connection", "jobrunner", "pipelinestore", "provisioning", "security", "sequencing", "topology",
    "scheduler", "notification", "sla",
)  # fmt: skip
"""The services that publish an API document, in the order in which SDKs request them; only 6.6 reads that of banner."""


def field_schema(text: str) -> dict[str, Any]:
    """Return the schema of a type as written in ``FIELDS``."""
    if text.endswith("[]"):
        return {"type": "array", "items": field_schema(text[:-2])}
    return _TYPES.get(text) or {"$ref": f"#/components/schemas/{text}"}


_DESCRIPTION = (
    "The API of the Control Hub sandbox. HTTP statuses are those of the default variants. A response that is marked "
    "x-may-be-empty has no body if the object does not exist, such as an unknown job, or depending on a variant."
)
_PATH_PARAMETERS = {
    "job_id": "JobId",
    "template_id": "TemplateId",
    "run_id": "RunId",
    "engine_id": "EngineId",
    "pipeline_id": "PipelineId",
    "engine_pipeline_id": "EnginePipelineId",
    "commit_id": "CommitId",
    "service": "Service",
    "filter_id": "SavedFilterId",
    "organization": "OrganizationId",
}
_JOB_PARAMETERS = ("job_id", "template_id", "jobId")
_STRING_SCHEMAS: dict[str, Json] = {
    "JobId": {"description": "The id of a job or a job template."},
    "TemplateId": {"description": "The id of a job template."},
    "RunId": {"description": "The id of a run, which is the id of its job status."},
    "EngineId": {"description": "The id of an engine."},
    "InstanceId": {"description": "The instance id of the tunnel to an engine."},
    "PipelineId": {"description": "The id of a pipeline."},
    "EnginePipelineId": {"description": "The id of a job's pipeline on its engine."},
    "CommitId": {"description": "The id of a pipeline version."},
    "SavedFilterId": {"description": "The id of a saved search."},
    "SubscriptionId": {"description": "The id of a subscription."},
    "WebhookConfig": {"description": "A string with the configuration of a webhook as a JSON object."},
    "VersionLabel": {"description": "The label of the pipeline version, such as v2."},
    "RulesId": {"description": "The id of the rules of a pipeline."},
    "JsonObject": {"description": "A string with a JSON object, or an empty string."},
    "PipelineDefinition": {"description": "A string with a pipeline as a JSON object.", "pattern": r"\S"},
    "OrganizationId": {"description": "The id of an organization."},
    "Service": {"enum": list(SERVICES)},
}
_CREDENTIAL = {"credentialId": "X-SS-App-Component-Id", "token": "X-SS-App-Auth-Token"}
_REQUESTED_BY: Json = {
    "name": "X-Requested-By",
    "in": "header",
    "required": True,
    "description": "Any value; Control Hub requires it to prevent cross-site request forgery.",
    "schema": {"type": "string", "minLength": 1},
}
_UNAUTHORIZED: Json = {
    "description": "The credential is missing or invalid, or X-Requested-By is missing.",
    "headers": {"WWW-Authenticate": {"schema": {"const": "dpm"}, "required": True}},
    **_content("application/json", schema_of("Issues")),
}


def openapi_document(routes: Sequence[BaseRoute], body_schemas: dict[str, Json]) -> Json:
    """
    Return the OpenAPI document of routes.

    :param routes: the routes.
    :param body_schemas: the schemas of request bodies by name.
    """
    result = get_openapi(
        title="Control Hub sandbox", version=__version__, description=_DESCRIPTION, routes=list(routes)
    )
    for item in result["paths"].values():
        for operation in item.values():
            _complete_operation(operation)
    result["components"] = {
        "schemas": {**_schemas(), **body_schemas},
        "securitySchemes": {
            name: {"type": "apiKey", "in": "header", "name": header} for name, header in _CREDENTIAL.items()
        },
        "parameters": {"RequestedBy": _REQUESTED_BY},
        "responses": {"Unauthorized": _UNAUTHORIZED},
    }
    return result


def _complete_operation(operation: Json) -> None:
    # All path parameters are strings, so FastAPI's validation error cannot occur.
    operation["responses"].pop("422", None)
    if "404" in operation["responses"] and any(
        parameter["name"] in _JOB_PARAMETERS for parameter in operation.get("parameters", ())
    ):
        # The default of the variant unknown_job.
        operation["responses"]["200"][MAY_BE_EMPTY] = True
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            schema = _PATH_PARAMETERS.get(parameter["name"])
            parameter["schema"] = schema_of(schema) if schema else STRING
    if "security" not in operation:
        operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/RequestedBy"})
        operation["responses"]["401"] = {"$ref": "#/components/responses/Unauthorized"}
        operation["security"] = [{name: [] for name in _CREDENTIAL}]


def _schemas() -> dict[str, Json]:
    error = object_of(code=STRING, message=STRING)
    return {
        "Issues": object_of(ISSUES=array_of(error)),
        **{name: {**STRING, **text} for name, text in _STRING_SCHEMAS.items()},
        **{name: _complete_object(fields) for name, fields in FIELDS.items()},
    }


def _complete_object(fields: dict[str, str]) -> Json:
    """Return the schema of an object with all fields present, possibly null."""
    schema = object_of(**{name: nullable(field_schema(text)) for name, text in fields.items()})
    return {**schema, "additionalProperties": False}
