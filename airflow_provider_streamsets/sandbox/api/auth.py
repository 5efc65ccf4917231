"""Authentication of requests."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_provider_streamsets.sandbox.api.context import AppContext
from airflow_provider_streamsets.sandbox.api.responses import unauthorized_response
from airflow_provider_streamsets.sandbox.backend.credentials import CALLER_HEADER, caller_context

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
        """Pass the request on, or respond with 401."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path not in PUBLIC_PATHS and not path.startswith(PUBLIC_PREFIXES):
            if not path.startswith("/sandbox/"):
                query = scope["query_string"].decode("latin-1")
                self._context.requests.add(scope["method"], path, query, self._context.backend.clock.now())
            if not self._is_authenticated(Headers(scope=scope)):
                await unauthorized_response()(scope, receive, send)
                return
        with caller_context(Headers(scope=scope).get(CALLER_HEADER)):
            await self._app(scope, receive, send)

    def _is_authenticated(self, headers: Headers) -> bool:
        return bool(headers.get("X-Requested-By")) and self._context.credential.accepts(
            headers.get("X-SS-App-Component-Id", ""), headers.get("X-SS-App-Auth-Token", "")
        )
