"""Filters and sort orders of job lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Request

from airflow_provider_streamsets.sandbox.api.context import get_backend
from airflow_provider_streamsets.sandbox.api.requests import Query
from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.openapi.spec import ORDER, boolean_param, enum_param, schema_ref, string_param
from airflow_provider_streamsets.sandbox.serializers.statuses import current_status_body

COLORS = ("GRAY", "GREEN", "RED")
STATUSES = ("INACTIVE", "ACTIVATING", "ACTIVATION_ERROR", "ACTIVE", "DEACTIVATING", "INACTIVE_ERROR")
ENGINE_TYPES = ("COLLECTOR", "TRANSFORMER", "EDGE", "SNOWPARK")
SEARCH_OPERATIONS = ("EQUALS", "STARTS_WITH")
ORDERS = (
    "NAME",
    "PIPELINE_NAME",
    "PIPELINE_COMMIT_LABEL",
    "STATUS",
    "CREATOR",
    "CREATE_TIME",
    "DELETE_TIME",
    "LAST_MODIFIED_ON",
    "LAST_MODIFIED_BY",
)

STATUS_FILTERS = (
    boolean_param("draftRun"),
    boolean_param("edge"),
    enum_param("executorType", ENGINE_TYPES),
    boolean_param("removed"),
    boolean_param("archived"),
    enum_param("jobStatus", STATUSES),
    string_param("jobSearchText"),
    enum_param("jobSearchOperation", SEARCH_OPERATIONS),
    string_param("filterText"),
    string_param("jobTag"),
    enum_param("orderBy", ORDERS),
    ORDER,
)
"""Query parameters for a list of the jobs with a given status."""

FILTERS = (
    *STATUS_FILTERS,
    boolean_param("jobTemplate"),
    enum_param("jobStatusColor", COLORS),
    string_param("jobLabel"),
    string_param("templateJobId", schema=schema_ref("JobId")),
)
"""Query parameters for the other lists."""


def select_jobs(request: Request, *, by_status: bool = False) -> list[Job]:
    """Return the jobs that match the filters of a request, in the requested order."""
    backend, query = get_backend(request), Query(request)
    now = backend.clock.now()
    jobs = list((backend.deleted_jobs if query.boolean("removed") else backend.jobs).values())
    # All parameters are validated, even if no jobs are left.
    draft, edge, kind = query.boolean("draftRun"), query.boolean("edge"), query.choice("executorType", ENGINE_TYPES)
    if draft or edge or kind not in (None, "COLLECTOR"):
        jobs = []
    archived = query.boolean("archived")
    if archived is not None:
        jobs = [job for job in jobs if job.seed.archived is archived]
    status = query.choice("jobStatus", STATUSES)
    if by_status and status is None:
        status = "INACTIVE"
    if status:
        jobs = [job for job in jobs if not job.seed.is_template and listed_status(backend, job, now) == status]
    if not by_status:
        jobs = _filter_templates(backend, query, jobs)
        color, label = query.choice("jobStatusColor", COLORS), query.string("jobLabel")
        if color:
            jobs = [job for job in jobs if (current_status_body(backend, job, now) or {}).get("color") == color]
        if label:
            jobs = [job for job in jobs if label in job.seed.labels]
        template_id = query.string("templateJobId")
        if template_id:
            jobs = [job for job in jobs if job.seed.template_id == template_id]
    searched, operation = query.string("jobSearchText"), query.choice("jobSearchOperation", SEARCH_OPERATIONS)
    if searched:
        starts = operation == "STARTS_WITH"
        jobs = [job for job in jobs if (job.seed.name.startswith(searched) if starts else job.seed.name == searched)]
    filter_text = query.string("filterText")
    if filter_text:
        exact = backend.variants.filter_text == "exact"
        jobs = [
            job
            for job in jobs
            if (job.seed.name == filter_text if exact else filter_text.lower() in job.seed.name.lower())
        ]
    tag = query.string("jobTag")
    if tag:
        jobs = [job for job in jobs if tag in {f"{name}:{backend.organization}" for name in job.seed.tags}]
    return _sort(backend, query, jobs)


def listed_status(backend: ControlHubBackend, job: Job, now: int) -> str:
    """Return the status of a job in lists, where jobs that never ran are inactive."""
    return backend.status(job, now) or "INACTIVE"


def _filter_templates(backend: ControlHubBackend, query: Query, jobs: list[Job]) -> list[Job]:
    template = query.boolean("jobTemplate")
    if template is None and backend.variants.job_template_omitted == "all":
        return jobs
    return [job for job in jobs if job.seed.is_template is bool(template)]


def _sort(backend: ControlHubBackend, query: Query, jobs: list[Job]) -> list[Job]:
    keys: dict[str, Callable[[Job], Any]] = {
        "NAME": lambda job: job.seed.name,
        "PIPELINE_NAME": lambda job: job.seed.pipeline.name,
        "PIPELINE_COMMIT_LABEL": lambda job: job.seed.version.version,
        "STATUS": lambda job: backend.status(job) or "",
        "CREATOR": lambda job: job.creator,
        "CREATE_TIME": lambda job: job.created_on,
        "DELETE_TIME": lambda job: job.deleted_on,
        "LAST_MODIFIED_ON": lambda job: job.modified_on,
        "LAST_MODIFIED_BY": lambda job: job.modified_by,
    }
    key = keys[query.choice("orderBy", ORDERS) or "NAME"]
    descending = query.choice("order", ("ASC", "DESC")) == "DESC"
    return sorted(jobs, key=key, reverse=descending)
