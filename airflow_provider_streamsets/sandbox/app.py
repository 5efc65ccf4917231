"""The application: routes, credentials, errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from airflow_provider_streamsets import __version__
from airflow_provider_streamsets.sandbox.api.auth import Admission
from airflow_provider_streamsets.sandbox.api.context import Hub, hub_of
from airflow_provider_streamsets.sandbox.api.responses import answer, issues, nothing
from airflow_provider_streamsets.sandbox.api.routes import (
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
    job_search,
    job_status,
    job_templates,
    jobs,
    pipelines,
    timeseries,
    tunneling,
)
from airflow_provider_streamsets.sandbox.backend.clock import Clock
from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.credentials import Credential, issue
from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError, UnknownJobError, not_served
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sandbox.faults.middleware import Injection
from airflow_provider_streamsets.sandbox.faults.rules import Faults
from airflow_provider_streamsets.sandbox.persistence.journal import Journal, beginning, replay
from airflow_provider_streamsets.sandbox.persistence.state_file import StateFile
from airflow_provider_streamsets.sandbox.seed.loader import load_seed
from airflow_provider_streamsets.sandbox.seed.models import Seed
from airflow_provider_streamsets.sandbox.ui import pages

SERVED = (
    access,
    job_lists,
    job_search,
    job_status,
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


def create_app(
    *,
    seed: Seed | None = None,
    clock: Clock | None = None,
    variants: Variants | Mapping[str, Any] | None = None,
    time_scale: float | None = None,
    credential: Credential | None = None,
    state: StateFile | None = None,
    faults: Faults | None = None,
) -> FastAPI:
    """
    Return a local Control Hub as an ASGI application.

    :param seed: what it holds; the seed shipped with the package if None.
    :param clock: its time; the wall clock if None.
    :param variants: how it behaves where the real behaviour is not known.
    :param time_scale: runs take that many times less time; 1 if None.
    :param credential: the credential it accepts; a new one if None, to be found at ``app.state.hub.credential``.
    :param state: a file for its state: an application with the same seed goes on from there. With it, this must
        not be called from within an event loop.
    :param faults: what goes wrong.
    :raises StateError: if the file is of a sandbox that began otherwise.
    """
    seed, clock = seed or load_seed(), clock or Clock()
    if variants is not None and not isinstance(variants, Variants):
        variants = Variants().changed(dict(variants))
    begun = beginning(state, seed, clock, variants, time_scale)
    with clock.held(begun.born):
        world = World(seed, clock, Variants().changed(begun.variants), begun.time_scale, begun.key)
    app = FastAPI(title="Control Hub sandbox", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.hub = Hub(world, credential or issue(seed.organization.id))
    app.state.api_routes = []
    for module in SERVED:
        app.include_router(module.router)
        app.state.api_routes += module.router.routes
    app.add_exception_handler(ProblemError, _answer_problem)
    app.add_exception_handler(HTTPException, _answer_unserved)
    app.add_exception_handler(Exception, _answer_failure)
    if state is not None:
        app.add_middleware(Journal, state=state, world=world)
    app.add_middleware(Admission, hub=app.state.hub)
    app.add_middleware(Injection, hub=app.state.hub)
    if state is not None:
        replay(app, state, world, app.state.hub.credential)
    app.state.hub.faults = faults or Faults()
    return app


async def _answer_problem(request: Request, error: Exception) -> Response:
    if not isinstance(error, ProblemError):
        raise error
    if isinstance(error, UnknownJobError):
        variant = hub_of(request).world.variants.unknown_job
        if variant == "empty":
            # Of a bulk action, an empty answer would say that it was done.
            in_address = error.job_id in (*request.path_params.values(), *request.query_params.values())
            return nothing() if in_address else issues(error)
        if variant == "foreign_code":
            error.code = "RESTAPI_02"
        elif variant == "403":
            error = ProblemError(403, "JOBRUNNER_05", f"No permission to access job '{error.job_id}'")
        else:
            error.status = int(variant)
    return issues(error)


async def _answer_failure(request: Request, error: Exception) -> Response:
    # The server logs the error itself; the client is told nothing of what the sandbox is made of.
    response = issues(ProblemError(500, "SANDBOX_500", f"the sandbox failed at {request.method} {request.url.path}"))
    # The server hangs up after an error; a client that is not told sends its next request into a dead connection.
    response.headers["Connection"] = "close"
    return response


async def _answer_unserved(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status in (404, 405):
        return issues(not_served(request.method, request.url.path))
    return answer({"ISSUES": [{"message": str(getattr(error, "detail", error))}]}, status)
