"""
Persistence by a journal of all requests that may change the state, which are replayed at the next start.

The state of the sandbox is a function of the requests and their times, so a replay at the same times restores it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_streamsets.sandbox.api.responses import error_response
from airflow_provider_streamsets.sandbox.asgi import read_body, replay_body
from airflow_provider_streamsets.sandbox.backend.caller import CALLER_HEADER
from airflow_provider_streamsets.sandbox.backend.clock import Clock
from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.credentials import Credential
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sandbox.persistence.state_file import RequestRecord, StateError, StateFile, StateHeader
from airflow_provider_streamsets.sandbox.seed.models import Seed

READ_ONLY_POSTS = frozenset(
    {
        "/jobrunner/rest/v1/sdcs",
        "/jobrunner/rest/v1/jobs",
        "/jobrunner/rest/v1/job/jobTagsBulk",
        "/jobrunner/rest/v1/jobs/status",
        "/jobrunner/rest/v1/jobs/exportJobs",
        "/jobrunner/rest/v1/jobs/exportAllJobs",
        "/pipelinestore/rest/v1/pipelines/latestCommit",
        "/timeseries/rest/v1/metrics/query",
    }
)
"""Read-only calls with method POST. A missing path only makes the file longer."""

FAULTS_PATH = "/sandbox/v1/faults"

log = logging.getLogger(__name__)


def initial_settings(
    state: StateFile | None, seed: Seed, clock: Clock, variants: Variants | None, time_scale: float | None
) -> StateHeader:
    """
    Return the initial settings of a sandbox, from the state file if it has them.

    Otherwise the given settings are written to the file.

    :param state: the state file, if any.
    :param seed: the seed of the sandbox.
    :param clock: the clock of the sandbox.
    :param variants: the variants, None for those of the file or the defaults.
    :param time_scale: the time scale, None for that of the file or 1.
    :raises StateError: if the settings differ from those of the file.
    """
    fingerprint = hashlib.sha256(repr(seed).encode()).hexdigest()
    stored = state.header if state else None
    if state is None or stored is None:
        with clock.hold() as now:
            values = (variants or Variants()).as_dict()
            header = StateHeader(now, secrets.token_hex(16), fingerprint, time_scale or 1.0, values)
        if state is not None:
            state.write_header(header)
        return header
    if stored.seed != fingerprint:
        raise StateError("The state file belongs to a sandbox with another seed.")
    if time_scale not in (None, stored.time_scale):
        raise StateError(
            f"The state file belongs to a sandbox with time scale {stored.time_scale:g}, not {time_scale:g}."
        )
    if variants is not None and variants.as_dict() != stored.variants:
        raise StateError("The state file belongs to a sandbox that was started with other variants.")
    return stored


class JournalMiddleware:
    """
    Writes requests to the state file before they are processed, one at a time.

    :param app: the wrapped application.
    :param state: the state file.
    :param backend: the simulated Control Hub.
    """

    def __init__(self, app: ASGIApp, state: StateFile, backend: ControlHubBackend) -> None:
        self._app = app
        self._state = state
        self._backend = backend
        self._lock = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record a request and pass it on."""
        if scope["type"] != "http" or _REPLAY_KEY in scope or not _may_change(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        body = await read_body(receive)
        if body is None:
            return
        response: list[Message] = []

        async def store(message: Message) -> None:
            response.append(message)

        async with self._lock:
            with self._backend.clock.hold() as now:
                try:
                    self._state.append(_to_record(scope, body, now))
                except OSError as error:
                    log.error("Cannot write the state file, so the request is rejected: %s", error)
                    rejection = error_response(ApiError(500, "SANDBOX_500", "The state file cannot be written."))
                    await rejection(scope, receive, store)
                else:
                    self._backend.run_due()
                    await self._app(scope, replay_body(body, receive), store)
        for message in response:
            await send(message)


_REPLAY_KEY = "airflow_provider_streamsets.sandbox.replayed"


def replay(app: FastAPI, state: StateFile, backend: ControlHubBackend, credential: Credential) -> None:
    """
    Replay the requests of the state file.

    :param app: the application, in its initial state.
    :param state: the state file.
    :param backend: the simulated Control Hub.
    :param credential: the credential that the application accepts.
    """

    async def replay_all() -> None:
        for record in state.records:
            with backend.clock.hold(record.time), contextlib.suppress(Exception):
                # A request that failed halfway fails at the same point again.
                backend.run_due()
                await app(_to_scope(record, credential), replay_body(record.body, _receive_disconnect), _discard)
        state.records.clear()

    asyncio.run(replay_all())


def _may_change(method: str, path: str) -> bool:
    # Fault rules are not part of the state.
    if path == FAULTS_PATH:
        return False
    return method in ("PUT", "DELETE") or (method == "POST" and path not in READ_ONLY_POSTS)


def _to_record(scope: Scope, body: bytes, now: int) -> RequestRecord:
    headers, query = Headers(scope=scope), scope["query_string"].decode("latin-1")
    content_type, caller = headers.get("content-type", ""), headers.get(CALLER_HEADER)
    return RequestRecord(now, scope["method"], scope["path"], query, content_type, body, caller)


def _to_scope(record: RequestRecord, credential: Credential) -> dict[str, Any]:
    headers = {
        "Host": "sandbox",
        "Content-Type": record.content_type,
        "X-Requested-By": "journal",
        "X-SS-App-Component-Id": credential.id,
        "X-SS-App-Auth-Token": credential.token,
        CALLER_HEADER: record.caller,
    }
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": record.method,
        "scheme": "http",
        "path": record.path,
        "raw_path": quote(record.path).encode(),
        "query_string": record.query.encode("latin-1"),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items() if value],
        "server": ("sandbox", 80),
        "client": None,
        _REPLAY_KEY: True,
    }


async def _receive_disconnect() -> Message:
    """Report that the client has disconnected."""
    return {"type": "http.disconnect"}


async def _discard(message: Message) -> None:
    """Discard a part of the response."""
