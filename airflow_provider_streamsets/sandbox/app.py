"""The ASGI application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_provider_streamsets import __version__
from airflow_provider_streamsets.sandbox.api.requests import AppContext, get_context
from airflow_provider_streamsets.sandbox.api.responses import (
    empty_response,
    error_response,
    json_response,
    unauthorized_response,
)
from airflow_provider_streamsets.sandbox.api.routes import (
    access,
    admin,
    archives,
    engines,
    job_lists,
    jobs,
    metrics,
    pipelines,
    runs,
    saved_filters,
    subscriptions,
)
from airflow_provider_streamsets.sandbox.backend.clock import Clock
from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.credentials import (
    CALLER_HEADER,
    Credential,
    caller_context,
    issue_credential,
)
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError, UnknownJobError, unsupported_endpoint
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sandbox.faults.middleware import FaultMiddleware
from airflow_provider_streamsets.sandbox.faults.rules import FaultRules
from airflow_provider_streamsets.sandbox.persistence import JournalMiddleware, StateFile, initial_settings, replay
from airflow_provider_streamsets.sandbox.seed.models import Seed, load_seed
from airflow_provider_streamsets.sandbox.ui import pages

ROUTERS = (
    access.router,
    # Before jobs: the first matching route wins, and /v1/job/{job_id} also matches /v1/job/jobTagsBulk and
    # /v1/job/logMessages.
    job_lists.router,
    runs.router,
    jobs.router,
    archives.router,
    engines.router,
    engines.tunneling_router,
    metrics.router,
    pipelines.router,
    saved_filters.router,
    subscriptions.router,
    admin.router,
    pages.router,
)


def create_app(
    *,
    seed: Seed | None = None,
    clock: Clock | None = None,
    variants: Variants | Mapping[str, Any] | None = None,
    time_scale: float | None = None,
    credential: Credential | None = None,
    state: StateFile | None = None,
    faults: FaultRules | None = None,
) -> FastAPI:
    """
    Create a local Control Hub as an ASGI application.

    :param seed: initial data; the seed shipped with the package if None.
    :param clock: source of the current time; the wall clock if None.
    :param variants: behaviour where the behaviour of Control Hub is unknown; the defaults if None.
    :param time_scale: factor by which durations are shortened; 1 if None.
    :param credential: the accepted credential; if None, a new one, available as ``app.state.context.credential``.
    :param state: file that persists the state. Earlier requests are replayed from it, so this must not be called
        inside an event loop.
    :param faults: rules for fault injection; no faults if None.
    :raises StateError: if the state file belongs to a sandbox with another seed, time scale or variants.
    """
    seed, clock = seed or load_seed(), clock or Clock()
    if variants is not None and not isinstance(variants, Variants):
        variants = Variants().changed(dict(variants))
    settings = initial_settings(state, seed, clock, variants, time_scale)

    def new_backend() -> ControlHubBackend:
        return ControlHubBackend(seed, clock, Variants().changed(settings.variants), settings.time_scale, settings.key)

    with clock.hold(settings.created_at):
        backend = new_backend()
    context = AppContext(backend, credential or issue_credential(seed.organization.id), new_backend)
    app = FastAPI(
        title="Control Hub sandbox",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=context.webhooks.lifespan,
    )
    app.state.context = context
    app.state.api_routes = []
    for router in ROUTERS:
        app.include_router(router)
        app.state.api_routes += router.routes
    app.add_exception_handler(ApiError, _handle_api_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(Exception, _handle_unexpected_error)
    if state is not None:
        app.add_middleware(JournalMiddleware, state=state, context=context)
    app.add_middleware(AuthMiddleware, context=context)
    app.add_middleware(FaultMiddleware, context=context)
    if state is not None:
        replay(app, state, context)
    context.initial_faults = faults or FaultRules()
    context.faults = context.initial_faults.copy()
    return app


async def _handle_api_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    if isinstance(error, UnknownJobError):
        variant = get_context(request).backend.variants.unknown_job
        if variant == "empty":
            # An empty response to a bulk action would mean success.
            is_in_url = error.job_id in (*request.path_params.values(), *request.query_params.values())
            return empty_response() if is_in_url else error_response(error)
        if variant == "foreign_code":
            error.code = "RESTAPI_02"
        elif variant == "403":
            error = ApiError(403, "JOBRUNNER_05", f"No permission to access job '{error.job_id}'")
        else:
            error.status = int(variant)
    return error_response(error)


async def _handle_unexpected_error(request: Request, error: Exception) -> Response:
    # The server logs the error. The response does not expose internals.
    response = error_response(
        ApiError(500, "SANDBOX_500", f"Internal error of the sandbox in {request.method} {request.url.path}")
    )
    # The server closes the connection after an error. Without the header, the client would reuse it.
    response.headers["Connection"] = "close"
    return response


async def _handle_http_exception(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status in (404, 405):
        return error_response(unsupported_endpoint(request.method, request.url.path))
    return json_response({"ISSUES": [{"message": str(getattr(error, "detail", error))}]}, status)


PUBLIC_PREFIXES = ("/login/", "/sch/")
PUBLIC_PATHS = ("/", "/healthz", "/favicon.ico", "/sandbox/openapi.json")


class AuthMiddleware:
    """
    Checks the credential of requests and records them in the request log.

    A plain ASGI middleware: FastAPI's ``middleware("http")`` would take longer than most responses.

    :param app: the wrapped application.
    :param context: holds the credential and the request log.
    """

    def __init__(self, app: ASGIApp, context: AppContext) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or reject it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        rejection = self._check(scope)
        if rejection is not None:
            await rejection(scope, receive, send)
            return
        with caller_context(Headers(scope=scope).get(CALLER_HEADER)):
            await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> Response | None:
        """Record a request and return the response to one that is not passed on."""
        path, headers = scope["path"], Headers(scope=scope)
        if path in PUBLIC_PATHS or path.startswith(PUBLIC_PREFIXES):
            # The page of another site can make a browser send requests, but without this header.
            if scope["method"] in ("GET", "HEAD") or headers.get("X-Requested-By"):
                return None
            return error_response(ApiError(403, "SANDBOX_403", "The header X-Requested-By is missing"))
        if not path.startswith("/sandbox/"):
            query = scope["query_string"].decode("latin-1")
            self._context.requests.add(scope["method"], path, query, self._context.backend.clock.now())
        return None if self._is_authenticated(headers) else unauthorized_response()

    def _is_authenticated(self, headers: Headers) -> bool:
        return bool(headers.get("X-Requested-By")) and self._context.credential.accepts(
            headers.get("X-SS-App-Component-Id", ""), headers.get("X-SS-App-Auth-Token", "")
        )
