"""Reading YAML and JSON documents, and the types of the values in them."""

from __future__ import annotations

import json
import re
from collections.abc import Container
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import ErrorDetails, PydanticCustomError

T = TypeVar("T")

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = r"(\d+(?:\.\d+)?)(ms|s|m|h|d)"
_MESSAGES = {
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "float_type": "must be a number",
    "greater_than": "must be a number greater than {gt:g}",
    "greater_than_equal": "must be a number greater than or equal to {ge:g}",
    "less_than_equal": "must not be greater than {le:g}",
    "literal_error": "must be one of {expected}",
    "model_attributes_type": "must be a mapping",
    "union_tag_not_found": "has no '{discriminator}'",
    "union_tag_invalid": "must be one of {expected_tags}",
}
"""Messages for the errors of pydantic, by type."""


class SeedError(ValueError):
    """An invalid seed or fault file; the message contains the path of the invalid value."""


def read_document(path: Path) -> Any:
    """
    Read a YAML or JSON file.

    :raises SeedError: if it cannot be read or parsed.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise SeedError(f"{path}: cannot be read: {error.strerror}.") from error
    except (ValueError, yaml.YAMLError) as error:
        raise SeedError(f"{path}: is not valid {path.suffix.lstrip('.') or 'YAML'}: {error}") from error


def validate(
    adapter: TypeAdapter[T], document: Any, source: str, *, context: object = None, tags: Container[int | str] = ()
) -> T:
    """
    Parse a document.

    :param adapter: the type of the document.
    :param document: the content of a file.
    :param source: start of the paths in error messages, for example ``"seed: "``.
    :param context: passed to the validators.
    :param tags: values that select a model, which are no part of a path.
    :raises SeedError: with the path of the first invalid value.
    """
    try:
        return adapter.validate_python(document, context=context)
    except ValidationError as error:
        raise SeedError(_describe(error.errors()[0], source, tags)) from None


def invalid(message: str) -> PydanticCustomError:
    """Return the error for an invalid value, for example ``"must be a mapping"``."""
    return PydanticCustomError("invalid", message)


def check_keys(cls: type, value: Any) -> dict[str, Any]:
    """
    Check that a value is a mapping with the keys of a model or a dataclass. Null and missing values are equivalent.

    Validates before the model does: ``model_validator(mode="before")(check_keys)``.
    """
    if not isinstance(value, dict):
        raise invalid("must be a mapping")
    known = _keys(cls)
    for key in value:
        if key not in known:
            raise invalid(f"has the unknown key '{key}'. Known keys: {', '.join(known)}")
    return {key: item for key, item in value.items() if item is not None}


def must(message: str) -> WrapValidator:
    """Return a validator that describes all errors of a value with the same message."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise invalid(f"must {message}") from None

    return WrapValidator(check)


def parse_duration(text: str) -> int:
    """
    Parse a duration such as ``15s``, ``90m``, ``26h`` or ``3d`` and return milliseconds.

    :raises ValueError: if it is not a duration.
    """
    match = re.fullmatch(_DURATION, text.strip())
    if not match:
        raise ValueError(text)
    return round(float(match[1]) * _UNITS[match[2]])


def write_duration(seconds: float) -> str:
    """Return a duration in the format of :func:`parse_duration`."""
    return f"{round(seconds * 1000)}ms"


def _to_milliseconds(value: Any) -> int:
    try:
        return parse_duration(str(value))
    except ValueError:
        raise invalid("must be a duration such as 15s, 90m, 26h or 3d") from None


def _to_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise invalid("must be a string")
    return str(value)


def _to_scalars(value: Any) -> Any:
    for name, item in value.items() if isinstance(value, dict) else ():
        if not isinstance(name, str) or isinstance(item, (dict, list)):
            raise invalid(f"must map names to scalars, but '{name}' does not")
    return value


Derived = Annotated[T, SkipJsonSchema()]
"""A value that the document does not contain."""
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0), must("be an integer of at least 0")]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Text = Annotated[str, BeforeValidator(_to_text), WithJsonSchema({"type": ["string", "number"]})]
"""A string; YAML has numbers where names such as 2025.4 are not quoted."""
Name = Annotated[Text, Field(min_length=1)]
Names = tuple[Annotated[str, StringConstraints(strict=True, min_length=1), must("be a non-empty string")], ...]
Scalars = Annotated[dict[str, Any], BeforeValidator(_to_scalars)]
Duration = Annotated[
    int, BeforeValidator(_to_milliseconds), WithJsonSchema({"type": "string", "pattern": f"^{_DURATION}$"})
]
"""A duration in milliseconds."""
Seconds = Annotated[
    float,
    BeforeValidator(lambda value: _to_milliseconds(value) / 1000),
    PlainSerializer(write_duration),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION}$"}),
]
"""A duration in seconds."""


@cache
def _keys(cls: type) -> list[str]:
    return list(TypeAdapter(cls).json_schema()["properties"])


def _describe(error: ErrorDetails, source: str, tags: Container[int | str]) -> str:
    """Return the message for an invalid value, for example ``seed: jobs[0].name must not be empty, got ''.``."""
    kind, value, message = error["type"], error["input"], error["msg"]
    location = [part for part in error["loc"] if part not in tags]
    details = {
        name: item.replace("'", "").replace(" or ", ", ") if isinstance(item, str) else item
        for name, item in error.get("ctx", {}).items()
    }
    if kind in _MESSAGES:
        message = _MESSAGES[kind].format(**details)
    if kind == "missing":
        message = f"has no '{location.pop()}'"
    elif kind == "union_tag_invalid":
        location.append(details["discriminator"])
        value = value[details["discriminator"]]
    path = source
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else part if path.endswith(": ") else f".{part}"
    found = f", got {value!r:.80}" if isinstance(value, (str, int, float)) else ""
    return f"{path}{'' if path.endswith(': ') else ' '}{message}{found}."
