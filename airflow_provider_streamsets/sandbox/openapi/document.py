"""The OpenAPI document of the sandbox."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from airflow_provider_streamsets import __version__
from airflow_provider_streamsets.sandbox.openapi.services import SERVICES, field_schema
from airflow_provider_streamsets.sandbox.openapi.spec import (
    MAY_BE_EMPTY,
    STRING,
    Json,
    array_of,
    nullable,
    object_of,
    schema_ref,
)
from airflow_provider_streamsets.sandbox.serializers.schemas import FIELDS

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
    "content": {"application/json": {"schema": schema_ref("Issues")}},
}


def openapi_document(routes: Sequence[BaseRoute]) -> Json:
    """Return the OpenAPI document of routes."""
    result = get_openapi(
        title="Control Hub sandbox", version=__version__, description=_DESCRIPTION, routes=list(routes)
    )
    for item in result["paths"].values():
        for operation in item.values():
            _complete_operation(operation)
    result["components"] = {
        "schemas": _schemas(),
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
            parameter["schema"] = schema_ref(schema) if schema else STRING
    if "security" not in operation:
        operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/RequestedBy"})
        operation["responses"]["401"] = {"$ref": "#/components/responses/Unauthorized"}
        operation["security"] = [{name: [] for name in _CREDENTIAL}]


def _schemas() -> dict[str, Json]:
    error = object_of(code=STRING, message=STRING)
    return {
        "Issues": object_of(ISSUES=array_of(error)),
        **{name: {**STRING, **text} for name, text in _STRING_SCHEMAS.items()},
        **{name: _object(fields) for name, fields in FIELDS.items()},
    }


def _object(fields: dict[str, str]) -> Json:
    """Return the schema of an object with all fields present, possibly null."""
    schema = object_of(**{name: nullable(field_schema(text)) for name, text in fields.items()})
    return {**schema, "additionalProperties": False}
