"""
The search language SAQL: comparisons of properties, joined by ``and`` and ``or``.

Unknown syntax is rejected with an error message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError, bad_request


@dataclass(frozen=True)
class PropertyType:
    """
    A type of property.

    :param name: name of the type in error messages.
    :param read: parses a value, or raises ``ValueError``.
    :param ordered: whether values can be compared with ``<`` and ``>``.
    """

    name: str
    read: Callable[[str], Any]
    ordered: bool = True


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _time(text: str) -> int:
    """Parse epoch milliseconds, or a date or time in ISO format, which is in UTC unless it has an offset."""
    if text.isdecimal():
        return int(text)
    parsed = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return round((parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)).timestamp() * 1000)


PROPERTY_TYPES = {
    "string": PropertyType("string", str.lower),
    "number": PropertyType("number", float),
    "time": PropertyType("time", _time),
    "boolean": PropertyType("boolean", _boolean, ordered=False),
}


class Value:
    """
    A value in a search; an asterisk at either end matches any text.

    :param kind: the type of the property.
    :param text: the value as written.
    :raises ValueError: if it is not a value of that type.
    """

    def __init__(self, kind: PropertyType, text: str) -> None:
        self.text = text
        self.is_pattern = text.startswith("*") or text.endswith("*")
        self.exact = None if self.is_pattern else kind.read(text)

    def equals(self, actual: Any) -> bool:
        """Return whether a property equals this value, case-insensitively."""
        if not self.is_pattern:
            return bool(_comparable(actual) == self.exact)
        found, core = str(actual).lower(), self.text.strip("*").lower()
        if not self.text.endswith("*"):
            return found.endswith(core)
        return core in found if self.text.startswith("*") else found.startswith(core)

    def compare(self, actual: Any) -> int:
        """Return -1, 0 or 1 if a property is less than, equal to or greater than this value."""
        found = _comparable(actual)
        return int(found > self.exact) - int(found < self.exact)


def _comparable(actual: Any) -> Any:
    return actual.lower() if isinstance(actual, str) else actual


Properties = Mapping[str, Any]
Condition = Callable[[Properties], bool]

MAX_DEPTH = 50

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<operator>=[A-Za-z]+=|==|!=|>=|<=|>|<)
      | (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<mark>[();,])
      | (?P<word>[^\s()"';,=!<>]+)
    )""",
    re.VERBOSE,
)


_ORDERINGS: dict[str, Callable[[int], bool]] = {
    "=gt=": lambda sign: sign > 0, ">": lambda sign: sign > 0,
    "=ge=": lambda sign: sign >= 0, ">=": lambda sign: sign >= 0,
    "=lt=": lambda sign: sign < 0, "<": lambda sign: sign < 0,
    "=le=": lambda sign: sign <= 0, "<=": lambda sign: sign <= 0,
}  # fmt: skip


def parse(text: str, properties: Mapping[str, str]) -> Condition:
    """
    Parse a search.

    :param text: the search.
    :param properties: the searchable properties and their types.
    :raises ApiError: if the search is invalid.
    """
    return _Parser(text, properties).parse()


class _Parser:
    def __init__(self, text: str, properties: Mapping[str, str]) -> None:
        self._text = text
        self._properties = properties
        self._tokens = self._split(text)
        self._next = 0
        self._depth = 0

    def parse(self) -> Condition:
        condition = self._disjunction()
        if self._next < len(self._tokens):
            raise self._error(f"unexpected '{self._tokens[self._next][1]}'")
        return condition

    def _split(self, text: str) -> list[tuple[str, str]]:
        tokens, position = [], 0
        text = text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if not match or match.lastgroup is None:
                raise self._error(f"unexpected '{text[position:].strip()[:10]}'")
            value = match[match.lastgroup]
            if match.lastgroup == "quoted":
                value = re.sub(r"\\(.)", r"\1", value[1:-1])
            tokens.append((match.lastgroup, value))
            position = match.end()
        return tokens

    def _error(self, reason: str) -> ApiError:
        return bad_request(f"Invalid search '{self._text}': {reason}.")

    def _expect(self, *expected: str) -> tuple[str, str]:
        if self._next >= len(self._tokens):
            raise self._error("unexpected end")
        kind, value = self._tokens[self._next]
        if expected and kind not in expected and (kind, value) not in [("mark", mark) for mark in expected]:
            raise self._error(f"unexpected '{value}'")
        self._next += 1
        return kind, value

    def _accept(self, mark: str, word: str) -> bool:
        kind, value = self._tokens[self._next] if self._next < len(self._tokens) else ("", "")
        if (kind, value) == ("mark", mark) or (kind, value.lower()) == ("word", word):
            self._next += 1
            return True
        return False

    def _disjunction(self) -> Condition:
        parts = [self._conjunction()]
        while self._accept(",", "or"):
            parts.append(self._conjunction())
        return lambda properties: any(part(properties) for part in parts)

    def _conjunction(self) -> Condition:
        parts = [self._comparison()]
        while self._accept(";", "and"):
            parts.append(self._comparison())
        return lambda properties: all(part(properties) for part in parts)

    def _comparison(self) -> Condition:
        if self._accept("(", "("):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise self._error("parentheses are nested too deeply")
            inner = self._disjunction()
            self._expect(")")
            self._depth -= 1
            return inner
        _, name = self._expect("word")
        if name not in self._properties:
            raise self._error(f"unknown property '{name}', must be one of {', '.join(sorted(self._properties))}")
        kind = PROPERTY_TYPES[self._properties[name]]
        operator = self._expect("operator")[1].lower()
        if operator in ("==", "!="):
            return self._equality(name, [self._value(kind)], operator == "==")
        if operator in ("=in=", "=out="):
            self._expect("(")
            values = [self._value(kind)]
            while self._accept(",", ","):
                values.append(self._value(kind))
            self._expect(")")
            return self._equality(name, values, operator == "=in=")
        if operator == "=null=":
            expected = self._value(PROPERTY_TYPES["boolean"])
            return lambda properties: expected.equals(not _all_of(properties[name]))
        if operator in _ORDERINGS and kind.ordered:
            return self._ordering(name, self._value(kind), _ORDERINGS[operator])
        raise self._error(f"operator '{operator}' is not supported for property '{name}'")

    def _value(self, kind: PropertyType) -> Value:
        _, text = self._expect("word", "quoted")
        try:
            return Value(kind, text)
        except (ValueError, OverflowError):
            raise self._error(f"'{text}' is not a valid {kind.name}") from None

    @staticmethod
    def _equality(name: str, values: list[Value], expected: bool) -> Condition:
        def condition(properties: Properties) -> bool:
            return expected is any(value.equals(actual) for actual in _all_of(properties[name]) for value in values)

        return condition

    def _ordering(self, name: str, value: Value, holds: Callable[[int], bool]) -> Condition:
        if value.is_pattern:
            raise self._error(f"the pattern '{value.text}' cannot be compared")
        return lambda properties: any(holds(value.compare(actual)) for actual in _all_of(properties[name]))


def _all_of(actual: Any) -> tuple[Any, ...]:
    """Return all values of a property."""
    if isinstance(actual, (list, tuple)):
        return tuple(actual)
    return () if actual is None else (actual,)


def sort_key(actual: Any) -> tuple[Any, ...]:
    """Return the sort key of a property; a missing value sorts first."""
    return tuple((item, "") if isinstance(item, (int, float)) else (0, str(item).lower()) for item in _all_of(actual))
