"""Whether a value is of the type that was declared for it, all the way down."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any


def matches_type(value: Any, hint: Any) -> bool:
    """Return whether a value has a type; the fields of dataclasses must have theirs."""
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(matches_type(value, choice) for choice in arguments)
    if origin is tuple and arguments[-1] is Ellipsis:
        return isinstance(value, tuple) and all(matches_type(entry, arguments[0]) for entry in value)
    if origin is tuple:
        return isinstance(value, tuple) and len(value) == len(arguments) and all(map(matches_type, value, arguments))
    if origin in (list, Iterator):
        return isinstance(value, list) and all(matches_type(entry, arguments[0]) for entry in value)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping) and all(
            matches_type(key, arguments[0]) and matches_type(entry, arguments[1]) for key, entry in value.items()
        )
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if not isinstance(value, hint):
        return False
    if dataclasses.is_dataclass(value):
        hints = typing.get_type_hints(type(value))
        return all(matches_type(getattr(value, f.name), hints[f.name]) for f in dataclasses.fields(value))
    return True
