"""Job Runner: searching for jobs and job templates."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api import saql
from airflow_provider_streamsets.sandbox.api.context import world_of
from airflow_provider_streamsets.sandbox.api.requests import Query, search_order
from airflow_provider_streamsets.sandbox.api.responses import search_page
from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.jobs import Job
from airflow_provider_streamsets.sandbox.openapi.spec import SEARCH, described, many, named, wrapped
from airflow_provider_streamsets.sandbox.serializers.jobs import job_body
from airflow_provider_streamsets.sandbox.serializers.statuses import pipeline_status_bodies

router = APIRouter(prefix="/jobrunner/rest")

_JOB_PROPERTIES = {
    "id": "text", "name": "text", "description": "text", "status": "text", "color": "text", "created_by": "text",
    "created_on": "time", "modified_by": "text", "modified_on": "time", "engine_label": "text", "engine_type": "text",
    "failover": "flag", "attached_to_template": "flag", "archived": "flag", "instances": "number",
    "pipeline_name": "text", "pipeline_status": "text", "pipeline_version": "number", "tag": "text",
}  # fmt: skip


@router.get("/v1/saql/jobs/search", **described(wrapped(many(named("JobJson"))), query=SEARCH, refused=(400,)))
async def search_jobs(request: Request) -> Response:
    """Search for jobs."""
    return _searched(request, templates=False)


@router.get(
    "/v1/saql/jobs/search/templates", **described(wrapped(many(named("JobJson"))), query=SEARCH, refused=(400,))
)
async def search_templates(request: Request) -> Response:
    """Search for job templates."""
    return _searched(request, templates=True)


@router.get(
    "/v1/saql/jobs/search/draftRuns", **described(wrapped(many(named("JobJson"))), query=SEARCH, refused=(400,))
)
async def search_draft_runs(request: Request) -> Response:
    """Search for draft runs: there are none."""
    return _searched_among(request, [])


def _searched(request: Request, *, templates: bool) -> Response:
    jobs = world_of(request).jobs.values()
    return _searched_among(request, [job for job in jobs if job.seed.is_template is templates])


def _searched_among(request: Request, jobs: list[Job]) -> Response:
    world, query = world_of(request), Query(request)
    now = world.clock.now()
    found = [(_job_properties(world, job, now), job) for job in jobs]
    search = query.text("search")
    if search:
        matches = saql.parse(search, _JOB_PROPERTIES)
        found = [(properties, job) for properties, job in found if matches(properties)]
    name, descending = search_order(query, "name", _JOB_PROPERTIES)
    found.sort(key=lambda pair: saql.sort_key(pair[0][name]), reverse=descending)
    return search_page(request, found, lambda pair: job_body(world, pair[1], now))


def _job_properties(world: World, job: Job, now: int) -> dict[str, Any]:
    body = job_body(world, job, now)
    status = body["currentJobStatus"] or {}
    reported = pipeline_status_bodies(world, job, job.latest, now) if job.latest else []
    return {
        "id": job.id,
        "name": job.seed.name,
        "description": body["description"],
        "status": status.get("status"),
        "color": status.get("color"),
        "created_by": body["creator"],
        "created_on": body["createTime"],
        "modified_by": body["lastModifiedBy"],
        "modified_on": body["lastModifiedOn"],
        "engine_label": list(job.seed.labels),
        "engine_type": body["executorType"],
        "failover": job.seed.failover,
        "attached_to_template": job.seed.template_id is not None,
        "archived": job.seed.archived,
        "instances": job.seed.instances,
        "pipeline_name": job.seed.pipeline.name,
        "pipeline_status": [entry["status"] for entry in reported],
        "pipeline_version": int(job.seed.version.version),
        "tag": list(job.seed.tags),
    }
