"""The filters and orders that all lists of jobs have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Request

from airflow_provider_streamsets.sandbox.api.context import world_of
from airflow_provider_streamsets.sandbox.api.requests import Query
from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.jobs import Job
from airflow_provider_streamsets.sandbox.openapi.spec import ORDER, choice, flag, named, text
from airflow_provider_streamsets.sandbox.serializers.statuses import current_status_body

COLORS = ("GRAY", "GREEN", "RED")
STATUSES = ("INACTIVE", "ACTIVATING", "ACTIVATION_ERROR", "ACTIVE", "DEACTIVATING", "INACTIVE_ERROR")
ENGINE_TYPES = ("COLLECTOR", "TRANSFORMER", "EDGE", "SNOWPARK")
SEARCH_OPERATIONS = ("EQUALS", "STARTS_WITH")
ORDERS = (
    "NAME", "PIPELINE_NAME", "PIPELINE_COMMIT_LABEL", "STATUS", "CREATOR", "CREATE_TIME", "DELETE_TIME",
    "LAST_MODIFIED_ON", "LAST_MODIFIED_BY",
)  # fmt: skip

STATUS_FILTERS = (
    flag("draftRun"), flag("edge"), choice("executorType", ENGINE_TYPES), flag("removed"), flag("archived"),
    choice("jobStatus", STATUSES), text("jobSearchText"), choice("jobSearchOperation", SEARCH_OPERATIONS),
    text("filterText"), text("jobTag"), choice("orderBy", ORDERS), ORDER,
)  # fmt: skip
"""What a list of the jobs of one status can be asked for."""

FILTERS = (
    *STATUS_FILTERS, flag("jobTemplate"), choice("jobStatusColor", COLORS), text("jobLabel"),
    text("templateJobId", of=named("JobId")),
)  # fmt: skip
"""What the other lists can be asked for."""


def select_jobs(request: Request, *, by_status: bool = False) -> list[Job]:
    """Return the jobs that the filters of a list call select, in the order it asks for."""
    world, query = world_of(request), Query(request)
    now = world.clock.now()
    jobs = list((world.removed_jobs if query.flag("removed") else world.jobs).values())
    # What follows is read even if nothing is left, so that a wrong value is always refused.
    draft, edge, kind = query.flag("draftRun"), query.flag("edge"), query.choice("executorType", ENGINE_TYPES)
    if draft or edge or kind not in (None, "COLLECTOR"):
        jobs = []
    archived = query.flag("archived")
    if archived is not None:
        jobs = [job for job in jobs if job.seed.archived is archived]
    status = query.choice("jobStatus", STATUSES)
    if by_status and status is None:
        status = "INACTIVE"
    if status:
        jobs = [job for job in jobs if not job.seed.is_template and listed_status(world, job, now) == status]
    if not by_status:
        jobs = _by_kind(world, query, jobs)
        color, label = query.choice("jobStatusColor", COLORS), query.text("jobLabel")
        if color:
            jobs = [job for job in jobs if (current_status_body(world, job, now) or {}).get("color") == color]
        if label:
            jobs = [job for job in jobs if label in job.seed.labels]
        template_id = query.text("templateJobId")
        if template_id:
            jobs = [job for job in jobs if job.seed.template_id == template_id]
    searched, operation = query.text("jobSearchText"), query.choice("jobSearchOperation", SEARCH_OPERATIONS)
    if searched:
        starts = operation == "STARTS_WITH"
        jobs = [job for job in jobs if (job.seed.name.startswith(searched) if starts else job.seed.name == searched)]
    filter_text = query.text("filterText")
    if filter_text:
        exact = world.variants.filter_text == "exact"
        jobs = [
            job
            for job in jobs
            if (job.seed.name == filter_text if exact else filter_text.lower() in job.seed.name.lower())
        ]
    tag = query.text("jobTag")
    if tag:
        jobs = [job for job in jobs if tag in {f"{own}:{world.organization}" for own in job.seed.tags}]
    return _ordered(world, query, jobs)


def listed_status(world: World, job: Job, now: int) -> str:
    """Return the status by which lists know a job: one that never ran is found among the inactive ones."""
    return world.status(job, now) or "INACTIVE"


def _by_kind(world: World, query: Query, jobs: list[Job]) -> list[Job]:
    template = query.flag("jobTemplate")
    if template is None and world.variants.job_template_omitted == "all":
        return jobs
    return [job for job in jobs if job.seed.is_template is bool(template)]


def _ordered(world: World, query: Query, jobs: list[Job]) -> list[Job]:
    keys: dict[str, Callable[[Job], Any]] = {
        "NAME": lambda job: job.seed.name,
        "PIPELINE_NAME": lambda job: job.seed.pipeline.name,
        "PIPELINE_COMMIT_LABEL": lambda job: job.seed.version.version,
        "STATUS": lambda job: world.status(job) or "",
        "CREATOR": lambda job: job.creator,
        "CREATE_TIME": lambda job: job.created_on,
        "DELETE_TIME": lambda job: job.deleted_on,
        "LAST_MODIFIED_ON": lambda job: job.modified_on,
        "LAST_MODIFIED_BY": lambda job: job.modified_by,
    }
    key = keys[query.choice("orderBy", ORDERS) or "NAME"]
    descending = query.choice("order", ("ASC", "DESC")) == "DESC"
    return sorted(jobs, key=key, reverse=descending)
