"""Job Runner: starts of job template instances."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import get_backend
from airflow_provider_streamsets.sandbox.api.requests import Query, read_json
from airflow_provider_streamsets.sandbox.api.responses import json_response, page_response
from airflow_provider_streamsets.sandbox.backend.jobs import check_template
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.backend.templates import start_instances
from airflow_provider_streamsets.sandbox.openapi.request_bodies import TEMPLATE_START
from airflow_provider_streamsets.sandbox.openapi.spec import (
    PAGE,
    Json,
    array_of,
    boolean_param,
    json_body,
    page_of,
    route_spec,
    schema_ref,
)
from airflow_provider_streamsets.sandbox.serializers.jobs import job_body, template_run_body
from airflow_provider_streamsets.sandbox.serializers.statuses import current_status_body

router = APIRouter(prefix="/jobrunner/rest")

_START_SPEC: Json = {
    "query": (boolean_param("inheritPermissions"),), "body": json_body(TEMPLATE_START), "errors": (400, 404),
}  # fmt: skip
_HISTORY = (boolean_param("withTotalCount"), *PAGE)


async def _start(request: Request, template_id: str, *, deferred: bool) -> list[Job]:
    backend = get_backend(request)
    return start_instances(
        backend,
        backend.job(template_id),
        await read_json(request),
        inherit_permissions=Query(request).boolean("inheritPermissions") or False,
        deferred=deferred,
    )


@router.post(
    "/v1/job/{template_id}/createAndStartJobInstances",
    **route_spec(array_of(schema_ref("JobStatusJson")), **_START_SPEC),
)
async def start_template(request: Request, template_id: str) -> Response:
    """Create and start instances of a template and return their statuses."""
    backend, jobs = get_backend(request), await _start(request, template_id, deferred=False)
    return json_response([current_status_body(backend, job, backend.clock.now()) for job in jobs])


@router.post(
    "/v1/job/{template_id}/createAndStartJobInstancesAsync",
    **route_spec(array_of(schema_ref("JobJson")), **_START_SPEC),
)
async def start_template_async(request: Request, template_id: str) -> Response:
    """Create instances of a template and return them; they start after a short delay."""
    backend, jobs = get_backend(request), await _start(request, template_id, deferred=True)
    return json_response([job_body(backend, job, backend.clock.now()) for job in jobs])


@router.get(
    "/v1/job/{template_id}/runHistory",
    **route_spec(page_of(schema_ref("JobTemplateRunHistoryJson")), query=_HISTORY, errors=(400, 404)),
)
async def read_template_history(request: Request, template_id: str) -> Response:
    """Return the starts of instances of a template, newest first."""
    template, query = get_backend(request).job(template_id), Query(request)
    check_template(template)
    wrapped = query.boolean("withTotalCount")
    runs = template.template_runs[::-1]
    return page_response(query, runs, lambda run: template_run_body(template, run), wrapped=wrapped is None or wrapped)
