"""The state that an application shares with its routes, and reading of requests."""

from __future__ import annotations

import io
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Annotated, Any, cast

from fastapi import Depends, Request
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from airflow_provider_streamsets.sandbox.api.bodies import IdList, JobIds
from airflow_provider_streamsets.sandbox.api.validation import BodyType, check_body
from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.credentials import Credential
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.payload import parse_json
from airflow_provider_streamsets.sandbox.faults.rules import FaultRules
from airflow_provider_streamsets.sandbox.openapi import ENGINE_TYPES, ORDERS
from airflow_provider_streamsets.sandbox.webhooks import WebhookSender

MAX_REQUESTS = 5000


@dataclass
class RequestLog:
    """The latest API requests, and the number of requests per method and path."""

    entries: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MAX_REQUESTS))
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, method: str, path: str, query: str, time: int) -> None:
        """Record a request."""
        self.entries.append({"method": method, "path": path, "query": query, "time": time})
        self.counts[f"{method} {path}"] += 1

    def clear(self) -> None:
        """Remove all requests."""
        self.entries.clear()
        self.counts.clear()


@dataclass
class AppContext:
    """
    The state of an application.

    :param backend: the simulated Control Hub; another one after a reset.
    :param credential: the accepted credential.
    :param new_backend: creates a backend in its initial state.
    :param requests: the request log.
    :param faults: the fault rules.
    :param initial_faults: the fault rules after a reset.
    :param webhooks: calls the webhooks of subscriptions.
    :param document: the OpenAPI document; None before it is read for the first time, because it takes long to generate.
    """

    backend: ControlHubBackend
    credential: Credential
    new_backend: Callable[[], ControlHubBackend]
    requests: RequestLog = field(default_factory=RequestLog)
    faults: FaultRules = field(default_factory=FaultRules)
    initial_faults: FaultRules = field(default_factory=FaultRules)
    document: dict[str, Any] | None = None
    webhooks: WebhookSender = field(init=False)

    def __post_init__(self) -> None:
        self.webhooks = WebhookSender(lambda: self.backend)

    def reset(self) -> None:
        """Return to the initial state, which depends on the current time only."""
        self.backend.clock.reset()
        self.backend = self.new_backend()
        self.requests.clear()
        self.webhooks.calls.clear()
        self.faults = self.initial_faults.copy()


def get_context(request: Request) -> AppContext:
    """Return the state of the application that serves a request."""
    return cast("AppContext", request.app.state.context)


def get_backend(request: Request) -> ControlHubBackend:
    """Return the backend of the application that serves a request."""
    return get_context(request).backend


def base_url(request: Request) -> str:
    """Return the base URL that the client used."""
    return str(request.base_url).rstrip("/")


class QueryParameters:
    """The query parameters of a request. An empty value counts as unset; unknown parameters are ignored."""

    def __init__(self, request: Request) -> None:
        self._values = request.query_params

    def string(self, name: str) -> str | None:
        """Return a string, or None if it is unset."""
        return self._values.get(name) or None

    def boolean(self, name: str) -> bool | None:
        """
        Return a boolean, case-insensitively, or None if it is unset.

        :raises ApiError: if it is not a boolean.
        """
        value = self.string(name)
        if value is None:
            return None
        if value.lower() not in ("true", "false"):
            raise bad_request(f"'{name}' must be true or false, got '{value}'.")
        return value.lower() == "true"

    def integer(self, name: str, default: int) -> int:
        """
        Return an integer.

        :raises ApiError: if it is not an integer.
        """
        value = self.string(name)
        if value is None:
            return default
        try:
            return int(value)
        except ValueError:
            raise bad_request(f"'{name}' must be an integer, got '{value}'.") from None

    def bounds(self, length: int) -> tuple[int, int]:
        """
        Return the offset and the length of a page.

        :param length: default of the length.
        :raises ApiError: if one of them is out of range.
        """
        offset, length = self.integer("offset", 0), self.integer("len", length)
        if offset < 0 or length < -1:
            raise bad_request("'offset' must be at least 0 and 'len' at least -1.")
        return offset, length

    def choice(self, name: str, choices: Sequence[str]) -> str | None:
        """
        Return one of the allowed values, or None if it is unset.

        :raises ApiError: if it is another value.
        """
        value = self.string(name)
        if value is not None and value not in choices:
            raise bad_request(f"'{name}' must be one of {', '.join(choices)}, got '{value}'.")
        return value

    def is_descending(self) -> bool:
        """
        Return whether the order is descending.

        :raises ApiError: if it is unknown.
        """
        return self.choice("order", ORDERS) == "DESC"

    def includes_collectors(self) -> bool:
        """
        Return whether engines of the only supported type are selected.

        :raises ApiError: if a parameter is invalid.
        """
        kind, edge = self.choice("executorType", ENGINE_TYPES), self.boolean("edge")
        return not edge and kind in (None, "COLLECTOR")


async def _inject_backend(request: Request) -> ControlHubBackend:
    # Asynchronous: FastAPI runs other dependencies in a thread.
    return get_backend(request)


async def _inject_query(request: Request) -> QueryParameters:
    return QueryParameters(request)


Backend = Annotated[ControlHubBackend, Depends(_inject_backend)]
Query = Annotated[QueryParameters, Depends(_inject_query)]


async def read_json(request: Request) -> Any:
    """
    Parse the body of a request; return None if it is empty.

    :raises ApiError: if it is not valid JSON.
    """
    content = await request.body()
    if not content.strip():
        return None
    try:
        return parse_json(content)
    except ValueError:
        raise bad_request("The body is not valid JSON.") from None


async def parse_body(request: Request, model: type[BodyType]) -> BodyType:
    """
    Parse the body of a request.

    :param model: the model of the body.
    :raises ApiError: if the body does not match the model.
    """
    return check_body(model, await read_json(request))


async def read_ids(request: Request, model: type[IdList] = JobIds) -> list[str]:
    """
    Parse the list of ids in the body of a bulk call.

    :param model: the model of the list.
    :raises ApiError: if it is not a list of strings.
    """
    return (await parse_body(request, model)).root


async def read_file(request: Request) -> IO[bytes]:
    """
    Return the part ``file`` of a form, which may be a file or a text field.

    :raises ApiError: if the part is missing.
    """
    try:
        part = (await request.form()).get("file")
    # The second is the parser's own, which older versions of Starlette let through.
    except (HTTPException, ValueError) as error:
        raise bad_request(f"The body is not a valid form: {getattr(error, 'detail', error)}") from None
    if part is None:
        raise bad_request("The form has no part 'file'.")
    # The file of the part itself cannot be read as an archive before Python 3.11.
    return io.BytesIO(part.encode() if isinstance(part, str) else await part.read())


async def read_body(receive: Receive) -> bytes | None:
    """Read the complete body of a request; return None if the client disconnected first."""
    chunks = []
    while (message := await receive())["type"] == "http.request":
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)
    return None


def replay_body(body: bytes, receive_next: Receive) -> Receive:
    """
    Return a receive channel that delivers a body that has already been read.

    :param body: the body.
    :param receive_next: the original channel, used after the body has been delivered.
    """
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else await receive_next()

    return receive
