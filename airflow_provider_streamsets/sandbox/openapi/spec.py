"""Functions that describe routes; the OpenAPI document is generated from the descriptions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fastapi.responses import Response

Json = dict[str, Any]

MAY_BE_EMPTY = "x-may-be-empty"
"""Marks a response that has no body if the object does not exist, which OpenAPI cannot express."""

STRING: Json = {"type": "string"}
STRINGS: Json = {"type": "array", "items": STRING}
OBJECT: Json = {"type": "object"}
NULL: Json = {"type": "null"}
INTEGER: Json = {"type": "integer", "format": "int64"}
BINARY: Json = {"type": "string", "format": "binary"}


def route_spec(
    success: Json | None = None,
    *,
    query: Iterable[Json] = (),
    body: Json | None = None,
    errors: Iterable[int] = (),
    may_be_empty: bool = False,
    media: str = "application/json",
    is_public: bool = False,
    no_content: Iterable[int] = (),
) -> Json:
    """
    Return the arguments of a route decorator that describe the route.

    :param success: schema of the response; None for a response without a body.
    :param query: the query parameters.
    :param body: the request body.
    :param errors: HTTP statuses of the errors, except 401.
    :param may_be_empty: whether the response has no body if the object does not exist.
    :param media: media type of the response.
    :param is_public: whether the route needs no credential.
    :param no_content: HTTP statuses of successful responses without a body.
    """
    error = {"content": {"application/json": {"schema": schema_ref("Issues")}}}
    responses: dict[int | str, Json] = dict.fromkeys(errors, error)
    responses.update({status: {} for status in no_content})
    extra: Json = {"parameters": list(query)}
    if body is not None:
        extra["requestBody"] = body
    if is_public:
        extra["security"] = []
    arguments: Json = {"responses": responses, "openapi_extra": extra}
    if success is None or media != "application/json":
        arguments["response_class"] = Response
    if success is not None:
        responses[200] = {"content": {media: {"schema": success}}}
        if may_be_empty:
            responses[200][MAY_BE_EMPTY] = True
    return arguments


def schema_ref(name: str) -> Json:
    """Return a reference to the schema of an API object."""
    return {"$ref": f"#/components/schemas/{name}"}


def nullable(schema: Json) -> Json:
    """Return a schema that also allows null."""
    return {"anyOf": [schema, NULL]}


def array_of(items: Json) -> Json:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def map_of(values: Json) -> Json:
    """Return the schema of a mapping."""
    return {"type": "object", "additionalProperties": values}


def object_of(**fields: Json) -> Json:
    """Return the schema of an object with required fields."""
    return {"type": "object", "properties": fields, "required": list(fields)}


def wrapper_of(data: Json) -> Json:
    """Return the schema of a ``PaginationWrapperJson``."""
    return object_of(totalCount=INTEGER, offset=INTEGER, len=INTEGER, data=data)


def page_of(items: Json) -> Json:
    """Return the schema of a list that may be wrapped in a ``PaginationWrapperJson``."""
    return {"anyOf": [array_of(items), wrapper_of(array_of(items))]}


COUNT = object_of(count=INTEGER)


def _parameter(name: str, schema: Json, *, required: bool = False) -> Json:
    parameter = {"name": name, "in": "query", "required": required, "schema": schema}
    # An empty value counts as unset.
    return parameter if required else {**parameter, "allowEmptyValue": True}


def string_param(name: str, *, required: bool = False, schema: Json = STRING) -> Json:
    """Return a string query parameter."""
    return _parameter(name, schema, required=required)


def boolean_param(name: str) -> Json:
    """Return a boolean query parameter."""
    return _parameter(name, {"type": "boolean"})


def integer_param(name: str, minimum: int | None = None) -> Json:
    """Return an integer query parameter."""
    return _parameter(name, {"type": "integer"} if minimum is None else {"type": "integer", "minimum": minimum})


def enum_param(name: str, choices: Sequence[str]) -> Json:
    """Return a query parameter with a fixed set of values."""
    return _parameter(name, {"type": "string", "enum": list(choices)})


PAGE = (integer_param("offset", 0), integer_param("len", -1))
WRAPPED_PAGE = (*PAGE, boolean_param("withWrapper"))
ORDER = enum_param("order", ("ASC", "DESC"))
SEARCH = (string_param("organization"), string_param("orgId"), string_param("search"), string_param("orderBy"), *PAGE)


def json_body(schema: Json, *, required: bool = True) -> Json:
    """Return a JSON request body."""
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def id_list_body(schema: str) -> Json:
    """Return a request body with a list of ids."""
    return json_body(array_of(schema_ref(schema)))


FILE = {"required": True, "content": {"multipart/form-data": {"schema": object_of(file=BINARY)}}}
"""The request body of an upload."""
