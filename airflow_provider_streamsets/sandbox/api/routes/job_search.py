"""Job Runner: search for jobs and job templates."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api import saql
from airflow_provider_streamsets.sandbox.api.context import get_backend
from airflow_provider_streamsets.sandbox.api.requests import Query, read_sort_order
from airflow_provider_streamsets.sandbox.api.responses import search_response
from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.openapi.spec import SEARCH, array_of, route_spec, schema_ref, wrapper_of
from airflow_provider_streamsets.sandbox.serializers.jobs import job_body
from airflow_provider_streamsets.sandbox.serializers.statuses import pipeline_status_bodies

router = APIRouter(prefix="/jobrunner/rest")

_JOB_PROPERTIES = {
    "id": "string", "name": "string", "description": "string", "status": "string", "color": "string",
    "created_by": "string", "created_on": "time", "modified_by": "string", "modified_on": "time",
    "engine_label": "string", "engine_type": "string",
    "failover": "boolean", "attached_to_template": "boolean", "archived": "boolean", "instances": "number",
    "pipeline_name": "string", "pipeline_status": "string", "pipeline_version": "number", "tag": "string",
}  # fmt: skip


@router.get(
    "/v1/saql/jobs/search", **route_spec(wrapper_of(array_of(schema_ref("JobJson"))), query=SEARCH, errors=(400,))
)
async def search_jobs(request: Request) -> Response:
    """Search for jobs."""
    return _search_all(request, templates=False)


@router.get(
    "/v1/saql/jobs/search/templates",
    **route_spec(wrapper_of(array_of(schema_ref("JobJson"))), query=SEARCH, errors=(400,)),
)
async def search_templates(request: Request) -> Response:
    """Search for job templates."""
    return _search_all(request, templates=True)


@router.get(
    "/v1/saql/jobs/search/draftRuns",
    **route_spec(wrapper_of(array_of(schema_ref("JobJson"))), query=SEARCH, errors=(400,)),
)
async def search_draft_runs(request: Request) -> Response:
    """Search for draft runs, which never exist."""
    return _search_response(request, [])


def _search_all(request: Request, *, templates: bool) -> Response:
    jobs = get_backend(request).jobs.values()
    return _search_response(request, [job for job in jobs if job.seed.is_template is templates])


def _search_response(request: Request, jobs: list[Job]) -> Response:
    backend, query = get_backend(request), Query(request)
    now = backend.clock.now()
    found = [(_job_properties(backend, job, now), job) for job in jobs]
    search = query.string("search")
    if search:
        matches = saql.parse(search, _JOB_PROPERTIES)
        found = [(properties, job) for properties, job in found if matches(properties)]
    name, descending = read_sort_order(query, "name", _JOB_PROPERTIES)
    found.sort(key=lambda pair: saql.sort_key(pair[0][name]), reverse=descending)
    return search_response(request, found, lambda pair: job_body(backend, pair[1], now))


def _job_properties(backend: ControlHubBackend, job: Job, now: int) -> dict[str, Any]:
    body = job_body(backend, job, now)
    status = body["currentJobStatus"] or {}
    reported = pipeline_status_bodies(backend, job, job.latest, now) if job.latest else []
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
