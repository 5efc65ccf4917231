"""
Persistence of the sandbox's state in a file.

The file contains one JSON document per line: a header with the initial settings of the sandbox, then every request that
may have changed the state. Only its owner can read it, and it contains no credential.

The state of the sandbox is a function of the requests and their times, so a replay of the requests at the same times
restores it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_streamsets import __version__
from airflow_provider_streamsets.sandbox.api.requests import AppContext, read_body, replay_body
from airflow_provider_streamsets.sandbox.api.responses import error_response
from airflow_provider_streamsets.sandbox.backend.clock import Clock
from airflow_provider_streamsets.sandbox.backend.credentials import CALLER_HEADER, Credential
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sandbox.seed.models import Seed

FORMAT = "streamsets-sandbox-state"
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
_REPLAY_KEY = "airflow_provider_streamsets.sandbox.replayed"

log = logging.getLogger(__name__)


class StateError(ValueError):
    """A state file that cannot be used."""


@dataclass(frozen=True)
class StateHeader:
    """
    The initial settings of a sandbox.

    :param created_at: creation time of the sandbox in epoch milliseconds.
    :param key: key from which the ids of new jobs are derived.
    :param seed: fingerprint of the seed.
    :param time_scale: the time scale.
    :param variants: the initial variants.
    """

    created_at: int
    key: str
    seed: str
    time_scale: float
    variants: dict[str, Any]


@dataclass(frozen=True)
class RequestRecord:
    """A request, with its time in epoch milliseconds."""

    time: int
    method: str
    path: str
    query: str
    content_type: str
    body: bytes
    caller: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of the request."""
        document = {**dataclasses.asdict(self), "body": None}
        try:
            document["body"] = self.body.decode()
        except UnicodeDecodeError:
            document["body64"] = base64.b64encode(self.body).decode()
        return document

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> RequestRecord:
        """Parse the JSON document of a request."""
        values = dict(document)
        encoded, text = values.pop("body64", None), values.pop("body")
        return cls(body=base64.b64decode(encoded) if encoded is not None else text.encode(), **values)


class StateFile:
    """
    A state file, locked by one sandbox at a time until it exits or closes the file.

    A line is visible to all processes when :meth:`append` returns, but it is not synced to disk: the state survives
    any termination of the sandbox, but not a power failure.

    :param path: path of the file, which need not exist.
    :raises StateError: if the file is not a valid state file, cannot be read or is used by another sandbox.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.header: StateHeader | None = None
        self.records: list[RequestRecord] = []
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise StateError(f"{path}: cannot be opened: {error.strerror}.") from None
        try:
            self._lock()
            self._length = self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close and unlock the file."""
        os.close(self._file)

    def write_header(self, header: StateHeader) -> None:
        """
        Write the header of a new file.

        :raises OSError: if it cannot be written.
        """
        self._write({"format": FORMAT, "sandbox": __version__, **dataclasses.asdict(header)})
        self.header = header

    def append(self, record: RequestRecord) -> None:
        """
        Append a request.

        :raises OSError: if it cannot be written; the file is unchanged then.
        """
        self._write(record.to_dict())

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StateError(f"{self._path}: is in use by another sandbox.") from None
        os.fchmod(self._file, 0o600)

    def _read(self) -> int:
        """Read the file, remove an incomplete last line and return the remaining length."""
        with open(self._file, "rb", closefd=False) as file:
            content = file.read()
        *lines, incomplete = content.split(b"\n")
        if not lines and incomplete and not f'{{"format": "{FORMAT}"'.encode().startswith(incomplete[:20]):
            raise StateError(f"{self._path}: is not a state file of a sandbox.")
        if lines:
            self.header = self._read_header(lines[0])
        for number, line in enumerate(lines[1:], start=2):
            try:
                self.records.append(RequestRecord.from_dict(json.loads(line)))
            except (ValueError, TypeError, KeyError, AttributeError):
                raise StateError(f"{self._path}: line {number} is not a valid request.") from None
        if incomplete:
            log.warning(
                "%s: Removed the incomplete line %d. Its request was never answered, so nothing needs to be done.",
                self._path,
                len(lines) + 1,
            )
            os.ftruncate(self._file, len(content) - len(incomplete))
        return len(content) - len(incomplete)

    def _read_header(self, line: bytes) -> StateHeader:
        try:
            document = json.loads(line)
            if document.pop("format") != FORMAT:
                raise ValueError
            written_by = document.pop("sandbox")
            header = StateHeader(**document) if written_by == __version__ else None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise StateError(f"{self._path}: is not a state file of a sandbox.") from None
        if header is None:
            raise StateError(
                f"{self._path}: was written by version {written_by} of the sandbox, this is version {__version__}."
            )
        return header

    def _write(self, document: dict[str, Any]) -> None:
        line = json.dumps(document).encode() + b"\n"
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError:
            os.ftruncate(self._file, self._length)
            raise
        self._length += len(line)


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
    :param context: holds the simulated Control Hub.
    """

    def __init__(self, app: ASGIApp, state: StateFile, context: AppContext) -> None:
        self._app = app
        self._state = state
        self._context = context
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
            with self._context.backend.clock.hold() as now:
                try:
                    self._state.append(_to_record(scope, body, now))
                except OSError as error:
                    log.error("Cannot write the state file, so the request is rejected: %s", error)
                    rejection = error_response(ApiError(500, "SANDBOX_500", "The state file cannot be written."))
                    await rejection(scope, receive, store)
                else:
                    self._context.backend.run_due()
                    await self._app(scope, replay_body(body, receive), store)
        for message in response:
            await send(message)


def replay(app: FastAPI, state: StateFile, context: AppContext) -> None:
    """
    Replay the requests of the state file.

    :param app: the application, in its initial state.
    :param state: the state file.
    :param context: the state of the application.
    """

    async def replay_all() -> None:
        for record in state.records:
            with context.backend.clock.hold(record.time), contextlib.suppress(Exception):
                # A request that failed halfway fails at the same point again.
                context.backend.run_due()
                await app(
                    _to_scope(record, context.credential), replay_body(record.body, _receive_disconnect), _discard
                )
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
