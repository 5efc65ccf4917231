"""The OpenAPI document of everything that the sandbox serves."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from airflow_provider_streamsets import __version__
from airflow_provider_streamsets.sandbox.openapi.services import SERVICES, field_schema
from airflow_provider_streamsets.sandbox.openapi.spec import MAY_BE_EMPTY, STRING, Json, many, named, nullable, record
from airflow_provider_streamsets.sandbox.serializers.schemas import FIELDS

_DESCRIPTION = (
    "What a local Control Hub serves. Statuses are those of the variants' defaults; an answer that is marked "
    "x-may-be-empty has no body where there is no object, such as an unknown job, or where a variant says so."
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
_TEXTS: dict[str, Json] = {
    "JobId": {"description": "The id of a job or a job template."},
    "TemplateId": {"description": "The id of a job template."},
    "RunId": {"description": "The id of a run, which is that of the job's status."},
    "EngineId": {"description": "The id of an engine."},
    "InstanceId": {"description": "What the connection of an engine's tunnel answers."},
    "PipelineId": {"description": "The id of a pipeline."},
    "EnginePipelineId": {"description": "The name by which an engine knows the pipeline of a job."},
    "CommitId": {"description": "The id of a pipeline version."},
    "VersionLabel": {"description": "The label of the pipeline version, such as v2."},
    "RulesId": {"description": "The id of the pipeline's rules."},
    "JsonObject": {"description": "Text that holds a JSON object, or nothing."},
    "PipelineDefinition": {"description": "Text that holds a pipeline as a JSON object.", "pattern": r"\S"},
    "OrganizationId": {"description": "The id of an organization."},
    "Service": {"enum": list(SERVICES)},
}
_CREDENTIAL = {"credentialId": "X-SS-App-Component-Id", "token": "X-SS-App-Auth-Token"}
_REQUESTED_BY: Json = {
    "name": "X-Requested-By",
    "in": "header",
    "required": True,
    "description": "Any value; Control Hub wants to see that a script is no form of a foreign page.",
    "schema": {"type": "string", "minLength": 1},
}
_UNAUTHORIZED: Json = {
    "description": "The credential is missing or wrong, or X-Requested-By is missing.",
    "headers": {"WWW-Authenticate": {"schema": {"const": "dpm"}, "required": True}},
    "content": {"application/json": {"schema": named("Issues")}},
}


def document(routes: Sequence[BaseRoute]) -> Json:
    """Return the document of some routes."""
    whole = get_openapi(title="Control Hub sandbox", version=__version__, description=_DESCRIPTION, routes=list(routes))
    for item in whole["paths"].values():
        for operation in item.values():
            _finish(operation)
    whole["components"] = {
        "schemas": _schemas(),
        "securitySchemes": {
            name: {"type": "apiKey", "in": "header", "name": header} for name, header in _CREDENTIAL.items()
        },
        "parameters": {"RequestedBy": _REQUESTED_BY},
        "responses": {"Unauthorized": _UNAUTHORIZED},
    }
    return whole


def _finish(operation: Json) -> None:
    # Every path parameter is text, so the refusal that FastAPI expects of itself never comes.
    operation["responses"].pop("422", None)
    if "404" in operation["responses"] and any(
        parameter["name"] in _JOB_PARAMETERS for parameter in operation.get("parameters", ())
    ):
        # What the variant unknown_job answers by default.
        operation["responses"]["200"][MAY_BE_EMPTY] = True
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            known = _PATH_PARAMETERS.get(parameter["name"])
            parameter["schema"] = named(known) if known else STRING
    if "security" not in operation:
        operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/RequestedBy"})
        operation["responses"]["401"] = {"$ref": "#/components/responses/Unauthorized"}
        operation["security"] = [{name: [] for name in _CREDENTIAL}]


def _schemas() -> dict[str, Json]:
    issue = record(code=STRING, message=STRING)
    return {
        "Issues": record(ISSUES=many(issue)),
        **{name: {**STRING, **text} for name, text in _TEXTS.items()},
        **{name: _object(fields) for name, fields in FIELDS.items()},
    }


def _object(fields: dict[str, str]) -> Json:
    """Return the schema of an object of which every field is sent, be it as null."""
    whole = record(**{name: nullable(field_schema(text)) for name, text in fields.items()})
    return {**whole, "additionalProperties": False}
