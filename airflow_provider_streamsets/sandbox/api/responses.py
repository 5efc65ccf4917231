"""Responses in the form of Control Hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from airflow_provider_streamsets.sandbox.api.context import world_of
from airflow_provider_streamsets.sandbox.api.requests import Query
from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError
from airflow_provider_streamsets.sandbox.serializers.schemas import complete

Item = TypeVar("Item")


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
