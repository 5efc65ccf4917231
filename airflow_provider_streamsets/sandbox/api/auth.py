"""Authentication of requests."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_provider_streamsets.sandbox.api.context import Hub
from airflow_provider_streamsets.sandbox.api.responses import unauthorized
from airflow_provider_streamsets.sandbox.backend.caller import HEADER, acting_for

OPEN_PATHS = ("/login/", "/sch/")
OPEN_PAGES = ("/", "/healthz", "/favicon.ico", "/sandbox/openapi.json")


class Admission:
    """
    Lets through what carries the right credential, or needs none, and notes it.

    Not one of FastAPI's own ``middleware("http")``, which takes longer than most answers do.

    :param app: where it leads to
    :param hub: whose credential it is
    """

    def __init__(self, app: ASGIApp, hub: Hub) -> None:
        self._app = app
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path not in OPEN_PAGES and not path.startswith(OPEN_PATHS):
            if not path.startswith("/sandbox/"):
                query = scope["query_string"].decode("latin-1")
                self._hub.requests.add(scope["method"], path, query, self._hub.world.clock.now())
            if not self._admits(Headers(scope=scope)):
                await unauthorized()(scope, receive, send)
                return
        with acting_for(Headers(scope=scope).get(HEADER)):
            await self._app(scope, receive, send)

    def _admits(self, headers: Headers) -> bool:
        return bool(headers.get("X-Requested-By")) and self._hub.credential.accepts(
            headers.get("X-SS-App-Component-Id", ""), headers.get("X-SS-App-Auth-Token", "")
        )
