"""Job Runner: searching for jobs and job templates."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox import saql
from airflow_provider_streamsets.sandbox.http import Query, search_order, search_page, world_of
from airflow_provider_streamsets.sandbox.wire.jobs import job_body
from airflow_provider_streamsets.sandbox.wire.statuses import pipeline_status_bodies
from airflow_provider_streamsets.sandbox.world import Job, World

router = APIRouter(prefix="/jobrunner/rest")

_JOB_PROPERTIES = (
    "id", "name", "description", "status", "color", "created_by", "created_on", "modified_by", "modified_on",
    "engine_label", "engine_type", "failover", "attached_to_template", "archived", "instances", "pipeline_name",
    "pipeline_status", "pipeline_version", "tag",
)  # fmt: skip


@router.get("/v1/saql/jobs/search")
async def search_jobs(request: Request) -> Response:
    """Search for jobs."""
    return _searched(request, templates=False)


@router.get("/v1/saql/jobs/search/templates")
async def search_templates(request: Request) -> Response:
    """Search for job templates."""
    return _searched(request, templates=True)


@router.get("/v1/saql/jobs/search/draftRuns")
async def search_draft_runs(request: Request) -> Response:
    """Search for draft runs: there are none."""
    no_jobs: list[Job] = []
    return search_page(request, no_jobs, lambda job: job)


def _searched(request: Request, *, templates: bool) -> Response:
    world, query = world_of(request), Query(request)
    now = world.clock.now()
    jobs = [job for job in world.jobs.values() if job.seed.is_template is templates]
    search = query.text("search")
    if search:
        matches = saql.parse(search, _JOB_PROPERTIES)
        jobs = [job for job in jobs if matches(_job_properties(world, job, now))]
    name, descending = search_order(query, "name", _JOB_PROPERTIES)
    jobs.sort(key=lambda job: str(_job_properties(world, job, now)[name] or ""), reverse=descending)
    return search_page(request, jobs, lambda job: job_body(world, job, now))


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
        "failover": str(job.seed.failover),
        "attached_to_template": str(job.seed.template_id is not None),
        "archived": "False",
        "instances": job.seed.instances,
        "pipeline_name": job.seed.pipeline.name,
        "pipeline_status": [entry["status"] for entry in reported],
        "pipeline_version": job.seed.version.version,
        "tag": list(job.seed.tags),
    }
