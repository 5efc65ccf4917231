"""
Reading JSON of the wire without trusting it.

Fields can be null or missing, and unknown ones may appear (contract, section 2). A value of the wrong type is an
unexpected answer, never a Python error somewhere else.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pendulum

from airflow_provider_streamsets.control_hub.errors import ControlHubUnexpectedAnswerError

# Control Hub's numbers are those of Java.
_LARGEST = 2**63 - 1
# Levels of what is handed on as it came. What nests more deeply, not everything that writes JSON can write.
_DEEPEST = 100
# The last millisecond that a datetime can hold.
_LATEST_MILLIS = 253402300799999


def _wrong(name: str, expected: str, value: object) -> ControlHubUnexpectedAnswerError:
    return ControlHubUnexpectedAnswerError(
        f"Control Hub's answer is not what its API describes: {name} should be {expected}, "
        f"but is {type(value).__name__}."
    )


def as_object(value: object, name: str) -> Mapping[str, Any]:
    """Return `value` if it is a JSON object."""
    if isinstance(value, dict):
        return value
    raise _wrong(name, "an object", value)


def as_list(value: object, name: str) -> list[Any]:
    """Return `value` if it is a JSON array; null counts as an empty one."""
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise _wrong(name, "an array", value)


def checked_depth(value: object, name: str) -> Any:
    """Return `value`, whose inside is nobody's business here, unless it is nested too deeply for any use."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            entry
            for holder in level
            if isinstance(holder, (dict, list))
            for entry in (holder.values() if isinstance(holder, dict) else holder)
        ]
        if not level:
            return value
    raise _wrong(name, f"nested no more than {_DEEPEST} levels deep", value)


class JsonReader:
    """
    Typed access to the fields of one JSON object.

    :param value: what the JSON parser returned
    :param name: name of the object for messages, for example ``job status``
    """

    def __init__(self, value: object, name: str) -> None:
        self._fields = as_object(value, name)
        self._what = name

    def _name(self, key: str) -> str:
        return f"'{key}' of the {self._what}"

    def get(self, key: str) -> Any:
        """Return the field as it is, None when missing."""
        return self._fields.get(key)

    def optional_text(self, key: str) -> str | None:
        """Return a text, None when null or missing."""
        value = self._fields.get(key)
        if value is None or isinstance(value, str):
            return value
        raise _wrong(self._name(key), "a string", value)

    def text(self, key: str, default: str = "") -> str:
        """Return a text, `default` when null or missing."""
        value = self.optional_text(key)
        return default if value is None else value

    def message(self, key: str) -> str | None:
        """Return a text that is for people only, so that anything else there is no reason to refuse the object."""
        value = self._fields.get(key)
        return value if isinstance(value, str) else None

    def required_text(self, key: str) -> str:
        """Return a text that must be there, such as an id."""
        value = self.optional_text(key)
        if not value:
            raise _wrong(self._name(key), "a string that is not empty", value)
        return value

    def integer(self, key: str, default: int = 0) -> int:
        """Return a whole number, `default` when null or missing."""
        value = self._fields.get(key)
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST:
            return value
        raise _wrong(self._name(key), "a whole number of up to 64 bits", value)

    def number(self, key: str, default: float = 0.0) -> float:
        """Return a number, `default` when null or missing."""
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
        raise _wrong(self._name(key), "a number", value)

    def flag(self, key: str, default: bool = False) -> bool:
        """Return true or false, `default` when null or missing."""
        value = self._fields.get(key)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        raise _wrong(self._name(key), "true or false", value)

    def time(self, key: str) -> pendulum.DateTime | None:
        """Return a time from epoch milliseconds; 0 means "not yet" (contract, section 2)."""
        millis = self.integer(key)
        if millis <= 0:
            return None
        if millis > _LATEST_MILLIS:
            raise _wrong(self._name(key), "a time in epoch milliseconds", millis)
        return pendulum.from_timestamp(millis / 1000)

    def seconds(self, key: str, default: float) -> float:
        """Return a duration from milliseconds, `default` seconds when null or missing."""
        return self.integer(key, round(default * 1000)) / 1000

    def strings(self, key: str) -> tuple[str, ...]:
        """Return an array of texts without its nulls, empty when null or missing."""
        values = [value for value in as_list(self._fields.get(key), self._name(key)) if value is not None]
        for value in values:
            if not isinstance(value, str):
                raise _wrong(self._name(key), "an array of strings", value)
        return tuple(values)

    def array(self, key: str) -> list[Any]:
        """Return an array, empty when null or missing."""
        return as_list(self._fields.get(key), self._name(key))

    def json_object(self, key: str) -> dict[str, Any]:
        """Return an object that is sent as a text holding JSON; null or empty text counts as ``{}``."""
        text = self._fields.get(key)
        if text is None or text == "":
            return {}
        if isinstance(text, str):
            try:
                text = parse_json(text)
            except (ValueError, RecursionError) as error:
                raise _wrong(self._name(key), "a string holding JSON", text) from error
        return dict(as_object(checked_depth(text, self._name(key)), self._name(key))) if text is not None else {}


LARGEST_ANSWER = 64 * 1024 * 1024
"""Bytes of JSON, unpacked, that an answer can have. The largest real ones, such as pages of jobs, have a few MB."""
LARGEST_ERROR = 256 * 1024
"""Bytes that are read of an answer that is an error."""

# Half of a character outside the basic plane, alone or with its other half.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_limited(chunks: Iterable[bytes], limit: int) -> tuple[bytearray, bool]:
    """
    Return the beginning of a body, and whether that is all of it.

    :param chunks: the body, unpacked
    :param limit: bytes to take at the most; of the rest, no more than the chunk that goes beyond it is read
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

    Halves of characters are replaced: nothing that writes text as UTF-8, such as an address, a log or a database, can
    take them.

    :raises ValueError: if it is no JSON, or holds a number of too many digits
    :raises RecursionError: if it is nested too deeply
    """
    text = body if isinstance(body, str) else body.decode("utf-8-sig")
    value = json.loads(text)
    if _SURROGATE.search(text):
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return value
