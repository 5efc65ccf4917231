"""
Keeping the state of a sandbox in a file: the requests that may change something, done again at the next start.

Nothing in the sandbox happens by itself: what there is follows from what was asked, and when. So the same requests,
each at its own time, make the same world again.
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

from airflow_provider_streamsets.sandbox.api.responses import issues
from airflow_provider_streamsets.sandbox.asgi import read_body, whole
from airflow_provider_streamsets.sandbox.backend.caller import HEADER
from airflow_provider_streamsets.sandbox.backend.clock import Clock
from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.credentials import Credential
from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sandbox.persistence.state_file import Beginning, Entry, StateError, StateFile
from airflow_provider_streamsets.sandbox.seed.models import Seed

READING_POSTS = frozenset(
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
"""Calls that only read although they are posts; one that is missing here makes the file longer, and nothing else."""

FAULTS_PATH = "/sandbox/v1/faults"

log = logging.getLogger(__name__)


def beginning(
    state: StateFile | None, seed: Seed, clock: Clock, variants: Variants | None, time_scale: float | None
) -> Beginning:
    """
    Return what a sandbox begins with: what the state file says, or else what was asked for.

    The latter is written down in the file.

    :param state: the file, if there is one.
    :param seed: the sandbox's seed.
    :param clock: its clock.
    :param variants: what was asked for, None for the defaults.
    :param time_scale: likewise.
    :raises StateError: if something else was asked for than the file says.
    """
    fingerprint = hashlib.sha256(repr(seed).encode()).hexdigest()
    known = state.beginning if state else None
    if state is None or known is None:
        with clock.held() as now:
            chosen = (variants or Variants()).as_dict()
            new = Beginning(now, secrets.token_hex(16), fingerprint, time_scale or 1.0, chosen)
        if state is not None:
            state.begin(new)
        return new
    if known.seed != fingerprint:
        raise StateError("the state is that of a sandbox with another seed")
    if time_scale not in (None, known.time_scale):
        raise StateError(f"the state is that of a sandbox with time scale {known.time_scale:g}, not {time_scale:g}")
    if variants is not None and variants.as_dict() != known.variants:
        raise StateError("the state is that of a sandbox that began with other variants")
    return known


class Journal:
    """
    Writes requests down before they are processed, one after the other.

    :param app: where it leads to.
    :param state: the file.
    :param world: what the requests change.
    """

    def __init__(self, app: ASGIApp, state: StateFile, world: World) -> None:
        self._app = app
        self._state = state
        self._world = world
        self._one_at_a_time = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and see to it that its effect lasts longer than this process."""
        if scope["type"] != "http" or _REPLAYED in scope or not _may_change(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        body = await read_body(receive)
        if body is None:
            return
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        async with self._one_at_a_time:
            with self._world.clock.held() as now:
                try:
                    self._state.append(_entry(scope, body, now))
                except OSError as error:
                    log.error("the state file cannot be written: %s", error)
                    refusal = issues(ProblemError(500, "SANDBOX_500", "the state file cannot be written"))
                    await refusal(scope, receive, keep)
                else:
                    self._world.catch_up()
                    await self._app(scope, whole(body, receive), keep)
        for message in answer:
            await send(message)


_REPLAYED = "airflow_provider_streamsets.sandbox.replayed"


def replay(app: FastAPI, state: StateFile, world: World, credential: Credential) -> None:
    """
    Do again what the state file says.

    :param app: the application, newly begun.
    :param state: the file.
    :param world: what the application serves.
    :param credential: what the application accepts.
    """

    async def do() -> None:
        for entry in state.entries:
            with world.clock.held(entry.time), contextlib.suppress(Exception):
                # What failed then in the middle fails here at the same place.
                world.catch_up()
                await app(_scope(entry, credential), whole(entry.body, _nobody), _ignore)
        state.entries.clear()

    asyncio.run(do())


def _may_change(method: str, path: str) -> bool:
    # Faults are what happens to requests on their way, and no part of the state.
    if path == FAULTS_PATH:
        return False
    return method in ("PUT", "DELETE") or (method == "POST" and path not in READING_POSTS)


def _entry(scope: Scope, body: bytes, now: int) -> Entry:
    headers, query = Headers(scope=scope), scope["query_string"].decode("latin-1")
    content_type, caller = headers.get("content-type", ""), headers.get(HEADER)
    return Entry(now, scope["method"], scope["path"], query, content_type, body, caller)


def _scope(entry: Entry, credential: Credential) -> dict[str, Any]:
    headers = {
        "Host": "sandbox",
        "Content-Type": entry.content_type,
        "X-Requested-By": "journal",
        "X-SS-App-Component-Id": credential.id,
        "X-SS-App-Auth-Token": credential.token,
        HEADER: entry.caller,
    }
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": entry.method,
        "scheme": "http",
        "path": entry.path,
        "raw_path": quote(entry.path).encode(),
        "query_string": entry.query.encode("latin-1"),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items() if value],
        "server": ("sandbox", 80),
        "client": None,
        _REPLAYED: True,
    }


async def _nobody() -> Message:
    """Whoever sent this request has gone."""
    return {"type": "http.disconnect"}


async def _ignore(message: Message) -> None:
    """Nobody waits for this answer any more."""
