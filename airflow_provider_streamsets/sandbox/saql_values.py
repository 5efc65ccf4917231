"""The values that searches compare properties with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any


@dataclass(frozen=True)
class Kind:
    """
    A kind of property.

    :param name: what a value of it is called.
    :param read: makes a value of text, or raises ``ValueError``.
    :param ordered: whether one value can be less than another.
    """

    name: str
    read: Callable[[str], Any]
    ordered: bool = True


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _time(text: str) -> int:
    """Return epoch milliseconds, of such or of a date or time in ISO format, in UTC unless it says otherwise."""
    if text.isdecimal():
        return int(text)
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return round((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp() * 1000)


KINDS = {
    "text": Kind("text", str.lower),
    "number": Kind("number", float),
    "time": Kind("time", _time),
    "flag": Kind("true or false", _flag, ordered=False),
}


class Value:
    """
    A value in a search; an asterisk at either end stands for anything.

    :param kind: the kind of property that it is compared with.
    :param text: the value as written.
    :raises ValueError: if it is none of that kind.
    """

    def __init__(self, kind: Kind, text: str) -> None:
        self.text = text
        self.is_pattern = text.startswith("*") or text.endswith("*")
        self.exact = None if self.is_pattern else kind.read(text)

    def equals(self, actual: Any) -> bool:
        """Return whether a property has this value, whatever the case of its letters."""
        if not self.is_pattern:
            return bool(_comparable(actual) == self.exact)
        found, core = str(actual).lower(), self.text.strip("*").lower()
        if not self.text.endswith("*"):
            return found.endswith(core)
        return core in found if self.text.startswith("*") else found.startswith(core)

    def compare(self, actual: Any) -> int:
        """Return whether a property is less than this value (-1), equal (0) or greater (1)."""
        found = _comparable(actual)
        return int(found > self.exact) - int(found < self.exact)


def _comparable(actual: Any) -> Any:
    return actual.lower() if isinstance(actual, str) else actual
