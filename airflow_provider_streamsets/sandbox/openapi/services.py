"""The API documents that each service of Control Hub publishes."""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_streamsets.sandbox.serializers.schemas import FIELDS

_TYPES: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "boolean": {"type": "boolean"},
    "object": {"type": "object"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "double": {"type": "number", "format": "double"},
}


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


SERVICES = (
    "connection", "jobrunner", "pipelinestore", "provisioning", "security", "sequencing", "topology", "scheduler",
    "notification", "sla",
)  # fmt: skip
"""The services that publish an OpenAPI document, in the order in which the SDK requests them."""


def service_swagger_document(service: str, paths: dict[str, list[str]]) -> dict[str, Any]:
    """
    Return the Swagger 2.0 document of a service.

    :param service: the service, such as ``jobrunner``.
    :param paths: the paths of the service, with their methods in lower case.
    """
    document = service_openapi_document(service, paths)
    schemas = json.dumps(document["components"]["schemas"]).replace("#/components/schemas/", "#/definitions/")
    return {
        "swagger": "2.0",
        "info": document["info"],
        "basePath": f"/{service}/rest",
        "paths": document["paths"],
        "definitions": json.loads(schemas),
    }


def service_openapi_document(service: str, paths: dict[str, list[str]]) -> dict[str, Any]:
    """
    Return the OpenAPI document of a service.

    :param service: the service, such as ``jobrunner``.
    :param paths: the paths of the service, with their methods in lower case.
    """
    return {
        "openapi": "3.0.1",
        "info": {"title": f"{service} (sandbox)", "version": "1"},
        "servers": [{"url": f"/{service}/rest"}],
        "paths": {
            path: {method: {"responses": {"default": {"description": "see the schemas"}}} for method in methods}
            for path, methods in sorted(paths.items())
        },
        "components": {"schemas": {name: _schema(name) for name in _SERVICE_SCHEMAS.get(service, ())}},
    }


def _schema(name: str) -> dict[str, Any]:
    return {"type": "object", "properties": {field: field_schema(text) for field, text in FIELDS[name].items()}}


def field_schema(text: str) -> dict[str, Any]:
    """Return the schema of a type as written in ``FIELDS``."""
    if text.endswith("[]"):
        return {"type": "array", "items": field_schema(text[:-2])}
    return _TYPES.get(text) or {"$ref": f"#/components/schemas/{text}"}


Json = dict[str, Any]
