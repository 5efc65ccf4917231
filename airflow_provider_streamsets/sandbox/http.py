"""What all routes share: reading requests and writing answers as Control Hub does."""

from __future__ import annotations

import io
from collections import Counter, deque
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, TypeVar, cast

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from airflow_provider_streamsets.sandbox import json_text
from airflow_provider_streamsets.sandbox.credentials import Credential
from airflow_provider_streamsets.sandbox.faults import Faults
from airflow_provider_streamsets.sandbox.problems import ProblemError, bad_request
from airflow_provider_streamsets.sandbox.schemas import complete
from airflow_provider_streamsets.sandbox.world import World

Item = TypeVar("Item")

REQUESTS_KEPT = 5000


@dataclass
class RequestLog:
    """The calls that were answered: the latest of them, and how many there were of each."""

    kept: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=REQUESTS_KEPT))
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, method: str, path: str, query: str, time: int) -> None:
        """Note a call."""
        self.kept.append({"method": method, "path": path, "query": query, "time": time})
        self.counts[f"{method} {path}"] += 1

    def clear(self) -> None:
        """Forget all calls."""
        self.kept.clear()
        self.counts.clear()


@dataclass
class Hub:
    """What an application serves."""

    world: World
    credential: Credential
    requests: RequestLog = field(default_factory=RequestLog)
    faults: Faults = field(default_factory=Faults)


def hub_of(request: Request) -> Hub:
    """Return the hub that a request is for."""
    return cast("Hub", request.app.state.hub)


def world_of(request: Request) -> World:
    """Return the world that a request is about."""
    return hub_of(request).world


def base_url(request: Request) -> str:
    """Return the URL under which the client reached the sandbox."""
    return str(request.base_url).rstrip("/")


def answer(body: Any, status: int = 200) -> Response:
    """Return a JSON answer."""
    return JSONResponse(body, status_code=status)


def nothing(status: int = 200) -> Response:
    """Return an answer without a body: how Control Hub says that there is no object."""
    return Response(status_code=status)


def issues(problem: ProblemError) -> Response:
    """Return the error envelope of a problem."""
    return answer({"ISSUES": [{"code": problem.code, "message": problem.message}]}, problem.status)


def unauthorized() -> Response:
    """Return the refusal of a request whose sender is not known."""
    response = issues(ProblemError(401, "SSO_01", "User not authenticated"))
    response.headers["WWW-Authenticate"] = "dpm"
    return response


class Query:
    """The query of a request. An empty value is an unset one; unknown parameters are nobody's concern."""

    def __init__(self, request: Request) -> None:
        self._values = request.query_params

    def text(self, name: str) -> str | None:
        """Return a value, None if unset."""
        return self._values.get(name) or None

    def flag(self, name: str) -> bool | None:
        """
        Return a boolean in any case, None if unset.

        :raises ProblemError: if it is none.
        """
        value = self.text(name)
        if value is None:
            return None
        if value.lower() not in ("true", "false"):
            raise bad_request(f"{name} must be true or false, not '{value}'")
        return value.lower() == "true"

    def number(self, name: str, default: int) -> int:
        """
        Return a whole number.

        :raises ProblemError: if it is none.
        """
        value = self.text(name)
        if value is None:
            return default
        try:
            return int(value)
        except ValueError:
            raise bad_request(f"{name} must be a whole number, not '{value}'") from None

    def bounds(self, length: int) -> tuple[int, int]:
        """
        Return the offset and the length of a page.

        :param length: the length if it is unset.
        :raises ProblemError: if there is no such page.
        """
        offset, length = self.number("offset", 0), self.number("len", length)
        if offset < 0 or length < -1:
            raise bad_request("offset must be at least 0, len at least -1")
        return offset, length

    def choice(self, name: str, choices: Sequence[str]) -> str | None:
        """
        Return one of some values, None if unset.

        :raises ProblemError: if it is another.
        """
        value = self.text(name)
        if value is not None and value not in choices:
            raise bad_request(f"{name} must be one of {', '.join(choices)}, not '{value}'")
        return value


def wrapper_body(total: int, offset: int, length: int, data: list[Any]) -> dict[str, Any]:
    """Return a ``PaginationWrapperJson``."""
    return complete("PaginationWrapperJson", {"totalCount": total, "offset": offset, "len": length, "data": data})


def page(query: Query, items: Sequence[Item], body: Callable[[Item], Any], *, wrapped: bool | None = None) -> Response:
    """
    Return a page of a list.

    :param query: ``offset``, ``len`` and, if ``wrapped`` is None, ``withWrapper``.
    :param items: the whole list.
    :param body: makes the body of an item.
    :param wrapped: whether the list comes in a wrapper.
    """
    offset, length = query.bounds(-1)
    end = None if length == -1 else offset + length
    data = [body(item) for item in items[offset:end]]
    if wrapped is None:
        wrapped = query.flag("withWrapper") or False
    return answer(wrapper_body(len(items), offset, length, data) if wrapped else data)


def search_page(request: Request, items: Sequence[Item], body: Callable[[Item], Any]) -> Response:
    """Return a page of a SAQL search, where ``len`` defaults to 0."""
    offset, length = Query(request).bounds(0)
    if length == 0 and world_of(request).variants.saql_len_zero == "all":
        length = -1
    end = None if length == -1 else offset + length
    return answer(wrapper_body(len(items), offset, length, [body(item) for item in items[offset:end]]))


def search_order(query: Query, default: str, known: Container[str]) -> tuple[str, bool]:
    """
    Return the property that orders a SAQL search, and whether it does so downwards.

    :param query: ``orderBy``.
    :param default: the property if that is unset.
    :param known: the properties there are.
    :raises ProblemError: if it is another.
    """
    # A plus sign in a query is a blank once it is decoded.
    text = (query.text("orderBy") or default).strip()
    name = text.rstrip("+-")
    if name not in known:
        raise bad_request(f"the sandbox cannot order by '{name}'")
    return name, text.endswith("-")


async def read_json(request: Request) -> Any:
    """
    Return the body of a request, None if it has none.

    :raises ProblemError: if it is no JSON.
    """
    content = await request.body()
    if not content.strip():
        return None
    try:
        return json_text.read(content)
    except ValueError:
        raise bad_request("the body is not valid JSON") from None


async def read_ids(request: Request, what: str = "job") -> list[str]:
    """
    Return the ids that the body of a bulk call lists.

    :raises ProblemError: if it is not a list of text.
    """
    ids = await read_json(request)
    if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
        raise bad_request(f"the body must be a JSON array of {what} ids")
    return ids


async def read_file(request: Request) -> IO[bytes]:
    """
    Return the part ``file`` of a form, be it a file or text.

    :raises ProblemError: if it brings none.
    """
    try:
        part = (await request.form()).get("file")
    except HTTPException as error:
        raise bad_request(f"the body is no form: {error.detail}") from None
    if part is None:
        raise bad_request("the part 'file' is missing")
    return io.BytesIO(part.encode()) if isinstance(part, str) else part.file
