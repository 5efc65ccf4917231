"""The words in which routes say what they take and what they answer; the OpenAPI document is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fastapi.responses import Response

Json = dict[str, Any]

MAY_BE_EMPTY = "x-may-be-empty"
"""Marks an answer that has no body where there is no object: OpenAPI has no word for that."""

STRING: Json = {"type": "string"}
STRINGS: Json = {"type": "array", "items": STRING}
OBJECT: Json = {"type": "object"}
NULL: Json = {"type": "null"}
WHOLE: Json = {"type": "integer", "format": "int64"}
BINARY: Json = {"type": "string", "format": "binary"}


def described(
    success: Json | None = None,
    *,
    query: Iterable[Json] = (),
    body: Json | None = None,
    refused: Iterable[int] = (),
    may_be_empty: bool = False,
    media: str = "application/json",
    is_open: bool = False,
    silent: Iterable[int] = (),
) -> Json:
    """
    Return those arguments of a route that describe it.

    :param success: the schema of its answer; None: it has no body.
    :param query: its query parameters.
    :param body: its request body.
    :param refused: the statuses of its refusals, without the one for a wrong credential.
    :param may_be_empty: whether an answer without a body says that there is no object.
    :param media: the media type of its answer.
    :param is_open: whether it needs no credential.
    :param silent: the statuses of successes that have no body.
    """
    refusal = {"content": {"application/json": {"schema": named("Issues")}}}
    responses: dict[int | str, Json] = dict.fromkeys(refused, refusal)
    responses.update({status: {} for status in silent})
    extra: Json = {"parameters": list(query)}
    if body is not None:
        extra["requestBody"] = body
    if is_open:
        extra["security"] = []
    arguments: Json = {"responses": responses, "openapi_extra": extra}
    if success is None or media != "application/json":
        arguments["response_class"] = Response
    if success is not None:
        responses[200] = {"content": {media: {"schema": success}}}
        if may_be_empty:
            responses[200][MAY_BE_EMPTY] = True
    return arguments


# -- schemas


def named(name: str) -> Json:
    """Return the schema of an object of the API."""
    return {"$ref": f"#/components/schemas/{name}"}


def nullable(schema: Json) -> Json:
    """Return the schema of a value or null."""
    return {"anyOf": [schema, NULL]}


def many(items: Json) -> Json:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def keyed(values: Json) -> Json:
    """Return the schema of an object with ids as keys."""
    return {"type": "object", "additionalProperties": values}


def record(**fields: Json) -> Json:
    """Return the schema of an object that has these fields, all of them."""
    return {"type": "object", "properties": fields, "required": list(fields)}


def wrapped(data: Json) -> Json:
    """Return the schema of a ``PaginationWrapperJson``."""
    return record(totalCount=WHOLE, offset=WHOLE, len=WHOLE, data=data)


def page_of(items: Json) -> Json:
    """Return the schema of a list that comes in a wrapper if the query says so."""
    return {"anyOf": [many(items), wrapped(many(items))]}


COUNT = record(count=WHOLE)

# -- parameters


def _parameter(name: str, schema: Json, *, required: bool = False) -> Json:
    parameter = {"name": name, "in": "query", "required": required, "schema": schema}
    # An empty value is an unset one.
    return parameter if required else {**parameter, "allowEmptyValue": True}


def text(name: str, *, required: bool = False, of: Json = STRING) -> Json:
    """Return a query parameter that is text, or an id."""
    return _parameter(name, of, required=required)


def flag(name: str) -> Json:
    """Return a query parameter that is true or false."""
    return _parameter(name, {"type": "boolean"})


def whole(name: str, least: int | None = None) -> Json:
    """Return a query parameter that is a whole number."""
    return _parameter(name, {"type": "integer"} if least is None else {"type": "integer", "minimum": least})


def choice(name: str, choices: Sequence[str]) -> Json:
    """Return a query parameter that is one of some texts."""
    return _parameter(name, {"type": "string", "enum": list(choices)})


PAGE = (whole("offset", 0), whole("len", -1))
WRAPPED_PAGE = (*PAGE, flag("withWrapper"))
ORDER = choice("order", ("ASC", "DESC"))
SEARCH = (text("organization"), text("orgId"), text("search"), text("orderBy"), *PAGE)


# -- bodies


def json_body(schema: Json, *, required: bool = True) -> Json:
    """Return a request body of JSON."""
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def ids(of: str) -> Json:
    """Return the request body of a bulk call."""
    return json_body(many(named(of)))


FILE = {"required": True, "content": {"multipart/form-data": {"schema": record(file=BINARY)}}}
"""The request body of an upload."""
