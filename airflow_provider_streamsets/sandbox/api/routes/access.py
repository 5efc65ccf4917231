"""Security, the login service, and the small calls with which clients find their way."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from airflow_provider_streamsets.sandbox.api.context import base_url, world_of
from airflow_provider_streamsets.sandbox.api.responses import answer
from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError, not_served
from airflow_provider_streamsets.sandbox.openapi.document import document
from airflow_provider_streamsets.sandbox.openapi.services import SERVICES, openapi_document, swagger_document
from airflow_provider_streamsets.sandbox.openapi.spec import OBJECT, STRING, STRINGS, described, many, named, record
from airflow_provider_streamsets.sandbox.serializers.principals import ROLES, principal_body
from airflow_provider_streamsets.sandbox.serializers.schemas import complete

router = APIRouter()

LANDING = "/security/public-rest/v1/aster/landing"
ENGINE_VERSION = "5.10.0"


@router.get(
    "/login/api/security/public/v3/orgs/{organization}/info",
    **described(record(data=record(landingUrl=STRING)), refused=(404,), is_open=True),
)
async def find_hub(request: Request, organization: str) -> Response:
    """Say where an organization's hub is: here."""
    if organization != world_of(request).organization:
        raise ProblemError(404, "LOGIN_01", f"Organization '{organization}' does not exist")
    return answer({"data": {"landingUrl": base_url(request) + LANDING}})


@router.get("/healthz", **described(record(status=STRING), is_open=True))
async def check_health() -> Response:
    """Say that the server answers."""
    return answer({"status": "ok"})


@router.get("/security/rest/v1/currentUser", **described(named("SSOPrincipalJson")))
async def read_current_user(request: Request) -> Response:
    """Return the user that the credential belongs to."""
    return answer(principal_body(world_of(request)))


@router.get("/security/rest/v1/currentUser/availableAddOns", **described(record(enabled=STRINGS)))
async def read_add_ons() -> Response:
    """Return the add-ons of the organization: there are none."""
    return answer({"enabled": []})


@router.get("/security/rest/v1/roles", **described(many(named("RoleJson"))))
async def list_roles() -> Response:
    """List the roles that users can have."""
    return answer(
        [
            complete("RoleJson", {"id": role, "label": role.replace(":", " ").title(), "requiredRoles": []})
            for role in ROLES
        ]
    )


@router.get("/security/rest/v1/projects", **described(many(named("ProjectJson"))))
async def list_projects() -> Response:
    """List the projects: there are none."""
    return answer([])


@router.get("/rest/v1/server/info", **described(record(version=STRING)))
async def read_server_info() -> Response:
    """Return the server's version."""
    return answer({"version": ENGINE_VERSION})


@router.get("/assets/i18n/en.json", **described(OBJECT))
async def read_texts() -> Response:
    """Return the texts of the web user interface: there are none."""
    return answer({})


@router.get(
    "/sequencing/rest/v1/sequencing/job/{job_id}/sequence",
    **described(many(record(sequenceId=STRING, sequenceName=STRING)), refused=(404,)),
)
async def read_sequence(request: Request, job_id: str) -> Response:
    """Return the sequences that a job is part of: there are none."""
    world_of(request).job(job_id)
    return answer([])


@router.get("/{service}/rest/openapi.json", **described(OBJECT, refused=(404,)))
async def read_openapi(request: Request, service: str) -> Response:
    """Return the OpenAPI document of a service."""
    return answer(openapi_document(service, _served_paths(request, service)))


@router.get("/{service}/rest/swagger.json", **described(OBJECT, refused=(404,)))
async def read_swagger(request: Request, service: str) -> Response:
    """Return the Swagger document of a service, which SDKs before 7 read."""
    return answer(swagger_document(service, _served_paths(request, service)))


@router.get("/sandbox/openapi.json", **described(OBJECT, is_open=True))
async def read_own_openapi(request: Request) -> Response:
    """Return the OpenAPI document of all that is served here."""
    return answer(document(request.app.routes))


def _served_paths(request: Request, service: str) -> dict[str, list[str]]:
    if service not in SERVICES:
        raise not_served(request.method, request.url.path)
    prefix = f"/{service}/rest"
    paths: dict[str, list[str]] = defaultdict(list)
    routes: list[Any] = request.app.state.api_routes
    for route in routes:
        if isinstance(route, APIRoute) and route.path.startswith(f"{prefix}/v"):
            path = route.path[len(prefix) :].replace("{job_id}", "{jobId}").replace("{run_id}", "{jobStatusId}")
            path = path.replace("{template_id}", "{templateJobId}")
            paths[path] += sorted(method.lower() for method in route.methods)
    return dict(paths)
