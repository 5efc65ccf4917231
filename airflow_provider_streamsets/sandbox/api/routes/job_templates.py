"""Job Runner: starting instances of job templates."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import world_of
from airflow_provider_streamsets.sandbox.api.requests import Query, read_json
from airflow_provider_streamsets.sandbox.api.responses import answer, page
from airflow_provider_streamsets.sandbox.backend.deletion import check_template
from airflow_provider_streamsets.sandbox.backend.jobs import Job
from airflow_provider_streamsets.sandbox.backend.templates import start_instances
from airflow_provider_streamsets.sandbox.openapi.request_bodies import TEMPLATE_START
from airflow_provider_streamsets.sandbox.openapi.spec import (
    PAGE,
    Json,
    described,
    flag,
    json_body,
    many,
    named,
    page_of,
)
from airflow_provider_streamsets.sandbox.serializers.jobs import job_body, template_run_body
from airflow_provider_streamsets.sandbox.serializers.statuses import current_status_body

router = APIRouter(prefix="/jobrunner/rest")

_START: Json = {
    "query": (flag("inheritPermissions"),), "body": json_body(TEMPLATE_START), "refused": (400, 404),
}  # fmt: skip
_HISTORY = (flag("withTotalCount"), *PAGE)


async def _start(request: Request, template_id: str, *, later: bool) -> list[Job]:
    world = world_of(request)
    return start_instances(
        world,
        world.job(template_id),
        await read_json(request),
        inherit_permissions=Query(request).flag("inheritPermissions") or False,
        later=later,
    )


@router.post("/v1/job/{template_id}/createAndStartJobInstances", **described(many(named("JobStatusJson")), **_START))
async def start_template(request: Request, template_id: str) -> Response:
    """Create instances of a template, start them, and return their statuses."""
    world, jobs = world_of(request), await _start(request, template_id, later=False)
    return answer([current_status_body(world, job, world.clock.now()) for job in jobs])


@router.post("/v1/job/{template_id}/createAndStartJobInstancesAsync", **described(many(named("JobJson")), **_START))
async def start_template_later(request: Request, template_id: str) -> Response:
    """Create instances of a template and return them; they start a moment later."""
    world, jobs = world_of(request), await _start(request, template_id, later=True)
    return answer([job_body(world, job, world.clock.now()) for job in jobs])


@router.get(
    "/v1/job/{template_id}/runHistory",
    **described(page_of(named("JobTemplateRunHistoryJson")), query=_HISTORY, refused=(400, 404)),
)
async def read_template_history(request: Request, template_id: str) -> Response:
    """Return the starts of a template's instances, the newest first."""
    template, query = world_of(request).job(template_id), Query(request)
    check_template(template)
    wrapped = query.flag("withTotalCount")
    runs = template.template_runs[::-1]
    return page(query, runs, lambda run: template_run_body(template, run), wrapped=wrapped is None or wrapped)
