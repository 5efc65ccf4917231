"""Responses in the format of Control Hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from airflow_provider_streamsets.sandbox.api.requests import Query, get_backend
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError
from airflow_provider_streamsets.sandbox.serializers.schemas import complete

Item = TypeVar("Item")


def json_response(body: Any, status: int = 200) -> Response:
    """Return a JSON response."""
    return JSONResponse(body, status_code=status)


def empty_response(status: int = 200) -> Response:
    """Return a response without a body, which Control Hub sends for a missing object."""
    return Response(status_code=status)


def error_response(error: ApiError) -> Response:
    """Return Control Hub's error envelope."""
    return json_response({"ISSUES": [{"code": error.code, "message": error.message}]}, error.status)


def unauthorized_response() -> Response:
    """Return the response to a request without a valid credential."""
    response = error_response(ApiError(401, "SSO_01", "User not authenticated"))
    response.headers["WWW-Authenticate"] = "dpm"
    return response


def pagination_wrapper(total: int, offset: int, length: int, data: list[Any]) -> dict[str, Any]:
    """Return a ``PaginationWrapperJson``."""
    return complete("PaginationWrapperJson", {"totalCount": total, "offset": offset, "len": length, "data": data})


def page_response(
    query: Query, items: Sequence[Item], body: Callable[[Item], Any], *, wrapped: bool | None = None
) -> Response:
    """
    Return a page of a list.

    :param query: ``offset``, ``len`` and, if ``wrapped`` is None, ``withWrapper``.
    :param items: the complete list.
    :param body: serializes an item.
    :param wrapped: whether to return the list in a wrapper.
    """
    offset, length = query.bounds(-1)
    end = None if length == -1 else offset + length
    data = [body(item) for item in items[offset:end]]
    if wrapped is None:
        wrapped = query.boolean("withWrapper") or False
    return json_response(pagination_wrapper(len(items), offset, length, data) if wrapped else data)


def search_response(request: Request, items: Sequence[Item], body: Callable[[Item], Any]) -> Response:
    """Return a page of a SAQL search, where ``len`` defaults to 0."""
    offset, length = Query(request).bounds(0)
    if length == 0 and get_backend(request).variants.saql_len_zero == "all":
        length = -1
    end = None if length == -1 else offset + length
    return json_response(pagination_wrapper(len(items), offset, length, [body(item) for item in items[offset:end]]))
