"""
Parsing and validation of JSON responses.

Fields can be null or missing, and unknown ones can appear (contract section 2). A value of the wrong type raises
:class:`ControlHubUnexpectedResponseError` instead of a Python error elsewhere.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pendulum

from airflow_provider_streamsets.control_hub.errors import ControlHubUnexpectedResponseError

# Control Hub sends 64-bit integers (Java).
_MAX_INTEGER = 2**63 - 1
# Maximum nesting of values passed through unparsed; some JSON writers fail on deeper ones.
_MAX_DEPTH = 100
# The latest timestamp that a datetime can represent.
_MAX_TIMESTAMP_MS = 253402300799999


def _unexpected_type(name: str, expected: str, value: object) -> ControlHubUnexpectedResponseError:
    return ControlHubUnexpectedResponseError(
        f"Unexpected response from Control Hub: {name} must be {expected}, got {type(value).__name__}."
    )


def as_object(value: object, name: str) -> Mapping[str, Any]:
    """Return `value`; raise if it is not a JSON object."""
    if isinstance(value, dict):
        return value
    raise _unexpected_type(name, "an object", value)


def as_list(value: object, name: str) -> list[Any]:
    """Return `value`; raise if it is not a JSON array. Null counts as an empty array."""
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise _unexpected_type(name, "an array", value)


def checked_depth(value: object, name: str) -> Any:
    """Return `value`, which is passed through unparsed; raise if it is nested too deeply."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            entry
            for holder in level
            if isinstance(holder, (dict, list))
            for entry in (holder.values() if isinstance(holder, dict) else holder)
        ]
        if not level:
            return value
    raise _unexpected_type(name, f"nested at most {_MAX_DEPTH} levels deep", value)


class JsonReader:
    """
    Typed access to the fields of one JSON object; each method raises if the value has another type.

    :param value: value from the JSON parser
    :param name: name of the object for messages, for example ``job status``
    """

    def __init__(self, value: object, name: str) -> None:
        self._fields = as_object(value, name)
        self._object_name = name

    def _field_name(self, key: str) -> str:
        return f"'{key}' of the {self._object_name}"

    def get(self, key: str) -> Any:
        """Return the raw value, None if missing."""
        return self._fields.get(key)

    def optional_string(self, key: str) -> str | None:
        """Return a string, None if null or missing."""
        value = self._fields.get(key)
        if value is None or isinstance(value, str):
            return value
        raise _unexpected_type(self._field_name(key), "a string", value)

    def string(self, key: str, default: str = "") -> str:
        """Return a string, `default` if null or missing."""
        value = self.optional_string(key)
        return default if value is None else value

    def string_or_none(self, key: str) -> str | None:
        """Return a string, None for any other value; for informational fields, whose type must not fail the object."""
        value = self._fields.get(key)
        return value if isinstance(value, str) else None

    def required_string(self, key: str) -> str:
        """Return a mandatory string, such as an id."""
        value = self.optional_string(key)
        if not value:
            raise _unexpected_type(self._field_name(key), "a non-empty string", value)
        return value

    def integer(self, key: str, default: int = 0) -> int:
        """Return an integer, `default` if null or missing."""
        value = self._fields.get(key)
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and -_MAX_INTEGER <= value <= _MAX_INTEGER:
            return value
        raise _unexpected_type(self._field_name(key), "a 64-bit integer", value)

    def number(self, key: str, default: float = 0.0) -> float:
        """Return a finite number, `default` if null or missing."""
        value = self._fields.get(key)
        if value is None:
            return default
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:
                number = math.nan
            if math.isfinite(number):
                return number
        raise _unexpected_type(self._field_name(key), "a number", value)

    def boolean(self, key: str, default: bool = False) -> bool:
        """Return a boolean, `default` if null or missing."""
        value = self._fields.get(key)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        raise _unexpected_type(self._field_name(key), "a boolean", value)

    def timestamp(self, key: str) -> pendulum.DateTime | None:
        """Return a time from epoch milliseconds; None for 0, which means "not yet" (contract section 2)."""
        millis = self.integer(key)
        if millis <= 0:
            return None
        if millis > _MAX_TIMESTAMP_MS:
            raise _unexpected_type(self._field_name(key), "a timestamp in epoch milliseconds", millis)
        return pendulum.from_timestamp(millis / 1000)

    def duration(self, key: str, default: float) -> float:
        """Return seconds from milliseconds, `default` seconds if null or missing."""
        return self.integer(key, round(default * 1000)) / 1000

    def strings(self, key: str) -> tuple[str, ...]:
        """Return an array of strings without its nulls, empty if null or missing."""
        values = [value for value in as_list(self._fields.get(key), self._field_name(key)) if value is not None]
        for value in values:
            if not isinstance(value, str):
                raise _unexpected_type(self._field_name(key), "an array of strings", value)
        return tuple(values)

    def array(self, key: str) -> list[Any]:
        """Return an array, empty if null or missing."""
        return as_list(self._fields.get(key), self._field_name(key))

    def json_object(self, key: str) -> dict[str, Any]:
        """Return an object that is sent as a string of JSON; null and an empty string count as ``{}``."""
        text = self._fields.get(key)
        if text is None or text == "":
            return {}
        if isinstance(text, str):
            try:
                text = parse_json(text)
            except (ValueError, RecursionError) as error:
                raise _unexpected_type(self._field_name(key), "a string of JSON", text) from error
        return (
            dict(as_object(checked_depth(text, self._field_name(key)), self._field_name(key)))
            if text is not None
            else {}
        )


MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""Maximum size of an uncompressed JSON response. The largest real ones, such as pages of jobs, have a few MB."""
MAX_ERROR_BYTES = 256 * 1024
"""Maximum size that is read of an error response."""

# An escaped surrogate, paired or not.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_limited(chunks: Iterable[bytes], limit: int) -> tuple[bytearray, bool]:
    """
    Return the start of a body, and whether it is complete.

    :param chunks: chunks of the uncompressed body
    :param limit: maximum number of bytes to return; reading stops at the chunk that exceeds it
    """
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > limit:
            del body[limit:]
            return body, False
    return body, True


def parse_json(body: bytes | bytearray | str) -> Any:
    """
    Parse JSON.

    Unpaired surrogates are replaced, because they cannot be encoded as UTF-8 for a URL, a log or a database.

    :raises ValueError: if it is not JSON, or holds a number with too many digits
    :raises RecursionError: if it is nested too deeply
    """
    text = body if isinstance(body, str) else body.decode("utf-8-sig")
    value = json.loads(text)
    if _SURROGATE.search(text):
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return value
