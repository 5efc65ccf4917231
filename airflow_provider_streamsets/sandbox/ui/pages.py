"""The overview page and the job page."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from airflow_provider_streamsets import __version__
from airflow_provider_streamsets.sandbox.api.requests import get_backend
from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.serializers.jobs import job_body
from airflow_provider_streamsets.sandbox.serializers.metrics import record_counts_body
from airflow_provider_streamsets.sandbox.serializers.runs import engine_body, event_bodies, status_body

router = APIRouter(include_in_schema=False)

REFRESH_SECONDS = 2


def _time(milliseconds: int) -> str:
    if not milliseconds:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def _duration(milliseconds: int) -> str:
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _number(value: int) -> str:
    return f"{value:,}"


_environment = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(time=_time, duration=_duration, number=_number)


def _page(template: str, backend: ControlHubBackend, now: int, status: int = 200, **values: Any) -> Response:
    html = _environment.get_template(template).render(
        organization=backend.seed.organization.name,
        now=now,
        time_scale=backend.time_scale,
        frozen=backend.clock.frozen,
        refresh=REFRESH_SECONDS,
        version=__version__,
        **values,
    )
    return HTMLResponse(html, status_code=status)


@router.get("/")
async def show_overview(request: Request) -> Response:
    """Show engines and jobs."""
    backend = get_backend(request)
    now = backend.clock.now()
    jobs = [job_body(backend, job, now) for job in backend.jobs.values()]
    engines = [engine_body(backend, engine, now) for engine in backend.engines.values()]
    return _page("overview.html", backend, now, jobs=jobs, engines=engines)


@router.get("/sch/jobs/detail/{job_id}")
async def show_job(request: Request, job_id: str) -> Response:
    """Show a job; the target of links from Airflow."""
    backend = get_backend(request)
    now = backend.clock.now()
    job = backend.jobs.get(job_id)
    if job is None:
        return _page("unknown.html", backend, now, 404, job_id=job_id)
    return _page("job.html", backend, now, **_job_values(backend, job, now))


def _job_values(backend: ControlHubBackend, job: Job, now: int) -> dict[str, Any]:
    runs = [status_body(backend, job, run, now) for run in reversed(job.runs)]
    events = event_bodies(backend, job.latest, now) if job.latest else []
    names = {engine.id: engine.url for engine in backend.engines.values()}
    latest = job.latest.run_count if job.latest else 0
    counts = record_counts_body(backend, job, now).values()
    return {
        "job": job_body(backend, job, now),
        "parameters": json.dumps(job.parameters, indent=2),
        "run_parameters": json.dumps(job.latest.parameters, indent=2) if job.latest else "",
        "runs": runs,
        "events": sorted(events, key=lambda event: event["time"]),
        "metrics": {entry.get("runCount", latest): entry for entry in counts},
        "engine_names": names,
    }
