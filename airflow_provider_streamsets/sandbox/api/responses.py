"""Responses in the format of Control Hub."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi.responses import JSONResponse, Response

from airflow_provider_streamsets.sandbox.api import saql
from airflow_provider_streamsets.sandbox.api.requests import QueryParameters
from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError, bad_request
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


def _slice(items: Sequence[Item], offset: int, length: int) -> Sequence[Item]:
    return items[offset : None if length == -1 else offset + length]


def page_response(
    query: QueryParameters, items: Sequence[Item], body: Callable[[Item], Any], *, wrapped: bool | None = None
) -> Response:
    """
    Return a page of a list.

    :param query: ``offset``, ``len`` and, if ``wrapped`` is None, ``withWrapper``.
    :param items: the complete list.
    :param body: serializes an item.
    :param wrapped: whether to return the list in a wrapper.
    """
    offset, length = query.bounds(-1)
    data = [body(item) for item in _slice(items, offset, length)]
    if wrapped is None:
        wrapped = query.boolean("withWrapper") or False
    return json_response(pagination_wrapper(len(items), offset, length, data) if wrapped else data)


Property = tuple[str, Callable[[dict[str, Any]], Any]]
"""Type and value of a property for which a SAQL search can be made."""


def search_response(
    backend: ControlHubBackend,
    query: QueryParameters,
    bodies: Iterable[dict[str, Any]],
    properties: Mapping[str, Property],
    *,
    order: str | None,
    descending: bool | None = None,
) -> Response:
    """
    Return a page of a SAQL search, where ``len`` defaults to 0.

    :param backend: the simulated Control Hub.
    :param query: ``search``, ``orderBy``, ``offset`` and ``len``.
    :param bodies: the objects.
    :param properties: the searchable properties of an object.
    :param order: the property by which to sort if ``orderBy`` is unset; None if the objects are sorted already.
    :param descending: whether to sort in descending order, whatever ``orderBy`` says.
    :raises ApiError: if the query is invalid.
    """
    found = list(bodies)
    search = query.string("search")
    if search:
        matches = saql.parse(search, {name: kind for name, (kind, _) in properties.items()})
        found = [body for body in found if matches({name: read(body) for name, (_, read) in properties.items()})]
    if order is not None:
        # A plus sign in a query is decoded to a space.
        text = (query.string("orderBy") or order).strip()
        name = text.rstrip("+-")
        if name not in properties:
            raise bad_request(f"'orderBy' must be one of the searchable properties, got '{name}'.")
        _, read = properties[name]
        reverse = text.endswith("-") if descending is None else descending
        found.sort(key=lambda body: saql.sort_key(read(body)), reverse=reverse)
    offset, length = query.bounds(0)
    if length == 0 and backend.variants.saql_len_zero == "all":
        length = -1
    return json_response(pagination_wrapper(len(found), offset, length, [*_slice(found, offset, length)]))
