"""Login service, security, and general endpoints that clients use to connect."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.bodies import BODIES
from airflow_provider_streamsets.sandbox.api.requests import Backend, base_url, get_context
from airflow_provider_streamsets.sandbox.api.responses import json_response
from airflow_provider_streamsets.sandbox.api.validation import body_schemas
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError, unsupported_endpoint
from airflow_provider_streamsets.sandbox.backend.subscriptions import ACTION_TYPE, EVENT_TYPE
from airflow_provider_streamsets.sandbox.openapi import (
    OBJECT,
    SERVICES,
    STRING,
    STRINGS,
    array_of,
    object_of,
    openapi_document,
    route_spec,
)
from airflow_provider_streamsets.sandbox.serializers.schemas import Json, complete
from airflow_provider_streamsets.sandbox.service_documents import openapi_document_of, swagger_document_of

ROLES = (
    "user",
    "org-user",
    "jobrunner:operator",
    "datacollector:manager",
    "pipelinestore:user",
    "timeseries:reader",
)


def principal_body(backend: Backend) -> Json:
    """Return the ``SSOPrincipalJson`` of the user of the credential."""
    organization = backend.seed.organization
    return complete(
        "SSOPrincipalJson",
        {
            "expires": -1,
            "principalId": organization.user_id,
            "principalName": organization.user_name,
            "organizationId": organization.id,
            "organizationName": organization.name,
            "email": organization.user_email,
            "roles": list(ROLES),
            "groups": [f"all@{organization.id}"],
            "app": False,
            "attributes": {},
        },
    )


router = APIRouter()

LANDING_PATH = "/security/public-rest/v1/aster/landing"
ENGINE_VERSION = "5.10.0"


@router.get(
    "/login/api/security/public/v3/orgs/{organization}/info",
    **route_spec(object_of(data=object_of(landingUrl=STRING)), errors=(404,), is_public=True),
)
async def read_landing_url(request: Request, backend: Backend, organization: str) -> Response:
    """Return the landing URL of an organization."""
    if organization != backend.organization:
        raise ApiError(404, "LOGIN_01", f"Organization '{organization}' does not exist")
    return json_response({"data": {"landingUrl": base_url(request) + LANDING_PATH}})


@router.get("/healthz", **route_spec(object_of(status=STRING), is_public=True))
async def check_health() -> Response:
    """Report that the server is running."""
    return json_response({"status": "ok"})


@router.get("/security/rest/v1/currentUser", **route_spec("SSOPrincipalJson"))
async def read_current_user(backend: Backend) -> Response:
    """Return the user of the credential."""
    return json_response(principal_body(backend))


@router.get("/security/rest/v1/currentUser/availableAddOns", **route_spec(object_of(enabled=STRINGS)))
async def read_add_ons() -> Response:
    """Return the add-ons of the organization, an empty list."""
    return json_response({"enabled": []})


@router.get("/security/rest/v1/roles", **route_spec(array_of("RoleJson")))
async def list_roles() -> Response:
    """List the roles that users can have."""
    return json_response(
        [
            complete("RoleJson", {"id": role, "label": role.replace(":", " ").title(), "requiredRoles": []})
            for role in ROLES
        ]
    )


@router.get("/security/rest/v1/projects", **route_spec(array_of("ProjectJson")))
async def list_projects() -> Response:
    """List the projects, an empty list."""
    return json_response([])


@router.get("/rest/v1/server/info", **route_spec(object_of(version=STRING)))
async def read_server_info() -> Response:
    """Return the version of the server."""
    return json_response({"version": ENGINE_VERSION})


@router.get("/assets/i18n/en.json", **route_spec(OBJECT))
async def read_translations() -> Response:
    """Return those texts of the web user interface that SDKs read."""
    events, actions = {EVENT_TYPE: "Job Status Change"}, {ACTION_TYPE: "Webhook"}
    return json_response({"notifications": {"subscriptions": {"events": events, "actions": actions}}})


@router.get(
    "/sequencing/rest/v1/sequencing/job/{job_id}/sequence",
    **route_spec(array_of(object_of(sequenceId=STRING, sequenceName=STRING)), errors=(404,)),
)
async def read_sequence(backend: Backend, job_id: str) -> Response:
    """Return the sequences that contain a job, an empty list."""
    backend.job(job_id)
    return json_response([])


@router.get("/{service}/rest/openapi.json", **route_spec(OBJECT, errors=(404,)))
async def read_openapi(request: Request, service: str) -> Response:
    """Return the OpenAPI document of a service."""
    _check_service(request, service)
    return json_response(openapi_document_of(service, _sandbox_document(request)))


@router.get("/{service}/rest/swagger.json", **route_spec(OBJECT, errors=(404,)))
async def read_swagger(request: Request, service: str) -> Response:
    """Return the Swagger document of a service, which SDKs before version 7 read."""
    _check_service(request, service)
    return json_response(swagger_document_of(service, _sandbox_document(request)))


@router.get("/sandbox/openapi.json", **route_spec(OBJECT, is_public=True))
async def read_sandbox_openapi(request: Request) -> Response:
    """Return the OpenAPI document of the sandbox."""
    return json_response(_sandbox_document(request))


def _check_service(request: Request, service: str) -> None:
    if service not in SERVICES:
        raise unsupported_endpoint(request.method, request.url.path)


def _sandbox_document(request: Request) -> Json:
    context = get_context(request)
    if context.document is None:
        context.document = openapi_document(request.app.routes, body_schemas(BODIES))
    return context.document
