"""The overview page and the job page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from airflow_provider_streamsets import __version__
from airflow_provider_streamsets.sandbox.api.requests import get_backend
from airflow_provider_streamsets.sandbox.api.responses import error_response, json_response
from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.exceptions import UnknownJobError, unsupported_endpoint
from airflow_provider_streamsets.sandbox.backend.runs import Counts
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.serializers.jobs import job_body
from airflow_provider_streamsets.sandbox.serializers.runs import engine_body, event_bodies, status_body
from airflow_provider_streamsets.sandbox.ui.throughput import HEIGHT, WIDTH, plot_throughput, throughput_body

router = APIRouter(include_in_schema=False)

REFRESH_SECONDS = 2

_ACTIONS: dict[str, Callable[[ControlHubBackend, Job], object]] = {
    "start": ControlHubBackend.start,
    "stop": ControlHubBackend.stop,
    "acknowledge": ControlHubBackend.acknowledge,
}
_ACTION_OF_STATUS = {
    None: "start",
    "INACTIVE": "start",
    "ACTIVATION_ERROR": "start",
    "ACTIVE": "stop",
    "INACTIVE_ERROR": "acknowledge",
}


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


def _number(value: float) -> str:
    return f"{value:,.1f}" if value % 1 and value < 10 else f"{value:,.0f}"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2)


_environment = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(time=_time, duration=_duration, number=_number, json=_json, plot=plot_throughput)
_environment.globals.update(refresh=REFRESH_SECONDS, plot_width=WIDTH, plot_height=HEIGHT)


def _page(request: Request, template: str, now: int, status: int = 200, **values: Any) -> Response:
    """Return a page, or its values as JSON."""
    backend = get_backend(request)
    values = {
        "organization": backend.seed.organization.name,
        "now": now,
        "time_scale": backend.time_scale,
        "frozen": backend.clock.frozen,
        "version": __version__,
        **values,
    }
    if request.query_params.get("format") == "json":
        return json_response(values, status)
    return HTMLResponse(_environment.get_template(template).render(values), status_code=status)


@router.get("/")
async def show_overview(request: Request) -> Response:
    """Show engines and jobs."""
    backend = get_backend(request)
    now = backend.clock.now()
    jobs = [_job_values(backend, job, now) for job in backend.jobs.values()]
    engines = [engine_body(backend, engine, now) for engine in backend.engines.values()]
    return _page(request, "overview.html", now, jobs=jobs, engines=engines)


@router.get("/sch/jobs/detail/{job_id}")
async def show_job(request: Request, job_id: str) -> Response:
    """Show a job; the target of links from Airflow."""
    backend = get_backend(request)
    now = backend.clock.now()
    job = backend.jobs.get(job_id)
    if job is None:
        return _page(request, "unknown.html", now, 404, error=f"No job has the id {job_id}.")
    return _page(request, "job.html", now, job=_job_values(backend, job, now), **_run_values(backend, job, now))


@router.post("/sch/jobs/detail/{job_id}/{action}")
async def act_on_job(request: Request, job_id: str, action: str) -> Response:
    """Start, stop or acknowledge a job, for the buttons of the pages."""
    backend = get_backend(request)
    job, act = backend.jobs.get(job_id), _ACTIONS.get(action)
    if act is None:
        raise unsupported_endpoint(request.method, request.url.path)
    if job is None:
        # Not raised: the variant for unknown jobs applies to the API only.
        return error_response(UnknownJobError(job_id))
    act(backend, job)
    now = backend.clock.now()
    run = f" run {job.latest.run_count}" if job.latest else ""
    state = ", ".join(filter(None, (backend.status(job, now), _outcome(backend, job, now))))
    return json_response({"message": f"Job '{job.seed.name}'{run}: {state}."})


def _outcome(backend: ControlHubBackend, job: Job, now: int) -> str:
    if job.seed.is_template:
        return "job template"
    return backend.run_state(job.latest).outcome(now) if job.latest else "never run"


def _job_values(backend: ControlHubBackend, job: Job, now: int) -> dict[str, Any]:
    action = None if job.seed.is_template else _ACTION_OF_STATUS.get(backend.status(job, now))
    return {**job_body(backend, job, now), "outcome": _outcome(backend, job, now), "action": action}


def _run_values(backend: ControlHubBackend, job: Job, now: int) -> dict[str, Any]:
    latest = job.latest
    runs = [
        {
            **status_body(backend, job, run, now),
            "outcome": backend.run_state(run).outcome(now),
            "parameters": run.parameters,
            "saved_counts": _counts_values(backend.saved_counts(run, now)),
        }
        for run in reversed(job.runs)
    ]
    events = event_bodies(backend, latest, now) if latest else []
    return {
        "parameters": job.parameters,
        "runs": runs,
        "events": sorted(events, key=lambda event: event["time"]),
        "throughput": throughput_body(backend.run_state(latest), now) if latest else [],
        "engine_urls": {engine.id: engine.url for engine in backend.engines.values()},
    }


def _counts_values(counts: Counts | None) -> dict[str, int] | None:
    return dataclasses.asdict(counts) if counts else None
