"""
The API documents of the services, which SDKs read to learn the fields of objects.

Derived from the OpenAPI document of the sandbox, so that they describe what it serves.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic.alias_generators import to_camel

from airflow_provider_streamsets.sandbox.openapi import Json

_SERVICE_SCHEMAS = {
    "jobrunner": (
        "JobJson", "NewJobJson", "DuplicateJobJson", "JobTemplateCreationInfoJson", "JobTagJson", "JobTag",
        "JobTemplateRunHistoryJson", "UpgradeStatusJson",
        "JobStatusJson", "JobStatusHistoryJson", "PipelineStatusJson", "PipelineOffsetJson", "SourceOffsetJson",
        "ErrorInfoJson", "AckTrackerJson", "JobLogMessage", "AclJson", "PermissionJson", "PaginationWrapperJson",
        "SDCJson", "MetricRegistryJson", "MinimalJobJson", "CommitPipelineJson",
        "JobEnvelopeWithConnectionsMetadataJson",
    ),
    "pipelinestore": ("PipelineJson", "RulesJson", "PipelineLabelJson", "TagJson", "PaginationWrapperJson"),
    "security": ("SSOPrincipalJson", "RoleJson", "ProjectJson", "PaginationWrapperJson"),
}  # fmt: skip
"""Objects of each service that clients read from its document, besides those that its paths refer to."""

_PATH_NAMES = {"run_id": "jobStatusId", "template_id": "templateJobId", "engine_id": "sdcId", "filter_id": "searchId"}
_SCHEMAS = "#/components/schemas/"


def openapi_document_of(service: str, document: Json) -> Json:
    """
    Return the OpenAPI document of a service.

    :param service: the service, such as ``jobrunner``.
    :param document: the OpenAPI document of the sandbox.
    """
    prefix = f"/{service}/rest"
    paths = {
        _published_path(path.removeprefix(prefix)): {
            method: _with_published_names(operation) for method, operation in operations.items()
        }
        for path, operations in document["paths"].items()
        if path.startswith(f"{prefix}/v")
    }
    components = document["components"]
    names: set[str] = set()
    _collect([paths, components["responses"]], components["schemas"], names)
    _collect([{"$ref": _SCHEMAS + name} for name in _SERVICE_SCHEMAS.get(service, ())], components["schemas"], names)
    return {
        "openapi": document["openapi"],
        "info": {"title": f"{service} (sandbox)", "version": document["info"]["version"]},
        "servers": [{"url": prefix}],
        "paths": paths,
        "components": {**components, "schemas": {name: components["schemas"][name] for name in sorted(names)}},
    }


def _published_name(name: str) -> str:
    return _PATH_NAMES.get(name) or to_camel(name)


def _published_path(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: f"{{{_published_name(match[1])}}}", path)


def _with_published_names(operation: Json) -> Json:
    parameters = [
        {**parameter, "name": _published_name(parameter["name"])} if parameter.get("in") == "path" else parameter
        for parameter in operation.get("parameters", ())
    ]
    return {**operation, "parameters": parameters}


def _collect(value: Any, schemas: Json, names: set[str]) -> None:
    """Add the names of the schemas to which a part of a document refers, directly or not."""
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(_SCHEMAS):
            name = reference.removeprefix(_SCHEMAS)
            if name not in names:
                names.add(name)
                _collect(schemas[name], schemas, names)
        _collect([*value.values()], schemas, names)
    elif isinstance(value, list):
        for item in value:
            _collect(item, schemas, names)


def swagger_document_of(service: str, document: Json) -> Json:
    """
    Return the Swagger 2.0 document of a service, which SDKs before version 7 read.

    Swagger 2.0 cannot express alternatives: a field with several types accepts any value there.

    :param service: the service, such as ``jobrunner``.
    :param document: the OpenAPI document of the sandbox.
    """
    source = openapi_document_of(service, document)
    components = source["components"]
    return {
        "swagger": "2.0",
        "info": source["info"],
        "basePath": f"/{service}/rest",
        "paths": {
            path: {method: _swagger_operation(operation, components) for method, operation in operations.items()}
            for path, operations in source["paths"].items()
        },
        "definitions": {name: _swagger_schema(schema) for name, schema in components["schemas"].items()},
        "securityDefinitions": components["securitySchemes"],
    }


def _swagger_operation(operation: Json, components: Json) -> Json:
    parameters = [_swagger_parameter(parameter, components) for parameter in operation.get("parameters", ())]
    result: Json = {name: operation[name] for name in ("summary", "operationId", "security") if name in operation}
    body = operation.get("requestBody")
    if body is not None:
        ((media, content),) = body["content"].items()
        result["consumes"] = [media]
        parameters += _swagger_body(media, content["schema"], required=body.get("required", False))
    responses = {
        status: _swagger_response(_resolved(response, components))
        for status, response in operation["responses"].items()
    }
    return {**result, "parameters": parameters, "responses": responses}


def _swagger_body(media: str, schema: Json, *, required: bool) -> list[Json]:
    if media == "application/json":
        return [{"name": "body", "in": "body", "required": required, "schema": _swagger_schema(schema)}]
    return [
        {"name": name, "in": "formData", "type": "file", "required": name in schema["required"]}
        for name in schema["properties"]
    ]


def _swagger_parameter(parameter: Json, components: Json) -> Json:
    parameter = _resolved(parameter, components)
    schema = _swagger_schema(_resolved(parameter["schema"], components))
    # Parameters have a type in any case.
    return {**{name: value for name, value in parameter.items() if name != "schema"}, "type": "string", **schema}


def _swagger_response(response: Json) -> Json:
    result: Json = {"description": response.get("description", "")}
    for media, content in response.get("content", {}).items():
        if "schema" in content:
            is_json = media == "application/json"
            result["schema"] = _swagger_schema(content["schema"]) if is_json else {"type": "file"}
    if "headers" in response:
        result["headers"] = {name: {"type": "string"} for name in response["headers"]}
    return result


def _resolved(value: Json, components: Json) -> Json:
    reference = value.get("$ref")
    if reference is None:
        return value
    kind, name = reference.removeprefix("#/components/").split("/")
    resolved: Json = components[kind][name]
    return resolved


_KEPT = frozenset(
    {"description", "enum", "format", "maximum", "minLength", "minItems", "minimum", "pattern", "required", "type"}
)


def _swagger_schema(schema: Json) -> Json:
    """Convert a schema. What Swagger 2.0 cannot express is left out."""
    if "$ref" in schema:
        return {"$ref": schema["$ref"].replace(_SCHEMAS, "#/definitions/")}
    alternatives = [entry for entry in schema.get("anyOf", ()) if entry != {"type": "null"}]
    if len(alternatives) == 1:
        return _swagger_schema(alternatives[0])
    result = {
        name: value
        for name, value in schema.items()
        if name in _KEPT and not (name == "type" and isinstance(value, list)) and not (name == "required" and not value)
    }
    if "const" in schema:
        result["enum"] = [schema["const"]]
    if "items" in schema:
        result["items"] = _swagger_schema(schema["items"])
    if "properties" in schema:
        result["properties"] = {name: _swagger_schema(field) for name, field in schema["properties"].items()}
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        result["additionalProperties"] = _swagger_schema(additional)
    elif additional is not None:
        result["additionalProperties"] = additional
    return result
