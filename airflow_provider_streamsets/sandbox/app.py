"""The application: routes, credentials, errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from airflow_provider_streamsets import __version__
from airflow_provider_streamsets.sandbox import pages
from airflow_provider_streamsets.sandbox.clock import Clock
from airflow_provider_streamsets.sandbox.credentials import Credential, issue
from airflow_provider_streamsets.sandbox.http import Hub, answer, hub_of, issues, nothing
from airflow_provider_streamsets.sandbox.problems import ProblemError, UnknownJobError, not_served
from airflow_provider_streamsets.sandbox.routes import (
    access,
    admin,
    engines,
    job_actions,
    job_archives,
    job_deletion,
    job_editing,
    job_lists,
    job_offsets,
    job_runs,
    job_searches,
    job_statuses,
    job_templates,
    jobs,
    pipelines,
    timeseries,
    tunneling,
)
from airflow_provider_streamsets.sandbox.seed import Seed
from airflow_provider_streamsets.sandbox.seed_file import load_seed
from airflow_provider_streamsets.sandbox.variants import Variants
from airflow_provider_streamsets.sandbox.world import World

SERVED = (
    access,
    job_lists,
    job_searches,
    job_statuses,
    # Before jobs: the first route that matches answers, and /v1/job/logMessages looks like /v1/job/{job_id}.
    job_runs,
    jobs,
    job_actions,
    job_offsets,
    job_templates,
    job_archives,
    job_deletion,
    # After all that post to /v1/job/<word>.
    job_editing,
    engines,
    pipelines,
    timeseries,
    tunneling,
    admin,
    pages,
)
OPEN_PATHS = ("/login/", "/sch/")
OPEN_PAGES = ("/", "/healthz", "/favicon.ico")


def create_app(
    *,
    seed: Seed | None = None,
    clock: Clock | None = None,
    variants: Variants | Mapping[str, Any] | None = None,
    time_scale: float = 1.0,
    credential: Credential | None = None,
) -> FastAPI:
    """
    Return a local Control Hub as an ASGI application.

    :param seed: what it holds; the seed shipped with the package if None.
    :param clock: its time; the wall clock if None.
    :param variants: how it behaves where the real behaviour is not known.
    :param time_scale: runs take that many times less time.
    :param credential: the credential it accepts; a new one if None, to be found at ``app.state.hub.credential``.
    """
    seed = seed or load_seed()
    if not isinstance(variants, Variants):
        variants = Variants().changed(dict(variants or {}))
    world = World(seed, clock or Clock(), variants, time_scale)
    app = FastAPI(title="Control Hub sandbox", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.hub = Hub(world, credential or issue(seed.organization.id))
    app.state.api_routes = []
    for module in SERVED:
        app.include_router(module.router)
        app.state.api_routes += module.router.routes
    app.add_exception_handler(ProblemError, _answer_problem)
    app.add_exception_handler(HTTPException, _answer_unserved)
    app.middleware("http")(_admit)
    return app


async def _admit(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Let through what carries the right credential, or needs none, and note it."""
    hub, path = hub_of(request), request.url.path
    if path in OPEN_PAGES or path.startswith(OPEN_PATHS):
        return await call_next(request)
    if not path.startswith("/sandbox/"):
        hub.requests.add(request.method, path, request.url.query, hub.world.clock.now())
    headers = request.headers
    admitted = headers.get("X-Requested-By") and hub.credential.accepts(
        headers.get("X-SS-App-Component-Id", ""), headers.get("X-SS-App-Auth-Token", "")
    )
    if not admitted:
        response = issues(ProblemError(401, "SSO_01", "User not authenticated"))
        response.headers["WWW-Authenticate"] = "dpm"
        return response
    return await call_next(request)


async def _answer_problem(request: Request, error: Exception) -> Response:
    if not isinstance(error, ProblemError):
        raise error
    if isinstance(error, UnknownJobError):
        variant = hub_of(request).world.variants.unknown_job
        if variant == "empty":
            return nothing()
        error.status = int(variant)
    return issues(error)


async def _answer_unserved(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status in (404, 405):
        return issues(not_served(request.method, request.url.path))
    return answer({"ISSUES": [{"message": str(getattr(error, "detail", error))}]}, status)
