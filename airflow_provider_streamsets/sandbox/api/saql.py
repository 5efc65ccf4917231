"""
The search language: comparisons of properties, joined by ``and`` and ``or``.

Anything that is not understood is refused by name rather than guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError, bad_request


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


Properties = Mapping[str, Any]
Condition = Callable[[Properties], bool]

DEEPEST = 50

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


def parse(text: str, known: Mapping[str, str]) -> Condition:
    """
    Return the condition that a search expresses.

    :param text: the search.
    :param known: the properties that can be searched for, and the kind of each.
    :raises ProblemError: for what is not understood.
    """
    return _Parser(text, known).whole()


class _Parser:
    def __init__(self, text: str, known: Mapping[str, str]) -> None:
        self._text = text
        self._known = known
        self._tokens = self._split(text)
        self._next = 0
        self._depth = 0

    def whole(self) -> Condition:
        condition = self._alternatives()
        if self._next < len(self._tokens):
            raise self._refused(f"unexpected '{self._tokens[self._next][1]}'")
        return condition

    def _split(self, text: str) -> list[tuple[str, str]]:
        tokens, position = [], 0
        text = text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if not match or match.lastgroup is None:
                raise self._refused(f"unexpected '{text[position:].strip()[:10]}'")
            value = match[match.lastgroup]
            if match.lastgroup == "quoted":
                value = re.sub(r"\\(.)", r"\1", value[1:-1])
            tokens.append((match.lastgroup, value))
            position = match.end()
        return tokens

    def _refused(self, why: str) -> ProblemError:
        return bad_request(f"the sandbox does not understand the search '{self._text}': {why}")

    def _take(self, *expected: str) -> tuple[str, str]:
        if self._next >= len(self._tokens):
            raise self._refused("it ends too early")
        kind, value = self._tokens[self._next]
        if expected and kind not in expected and (kind, value) not in [("mark", mark) for mark in expected]:
            raise self._refused(f"unexpected '{value}'")
        self._next += 1
        return kind, value

    def _skip(self, mark: str, word: str) -> bool:
        kind, value = self._tokens[self._next] if self._next < len(self._tokens) else ("", "")
        if (kind, value) == ("mark", mark) or (kind, value.lower()) == ("word", word):
            self._next += 1
            return True
        return False

    def _alternatives(self) -> Condition:
        parts = [self._conjunction()]
        while self._skip(",", "or"):
            parts.append(self._conjunction())
        return lambda properties: any(part(properties) for part in parts)

    def _conjunction(self) -> Condition:
        parts = [self._single()]
        while self._skip(";", "and"):
            parts.append(self._single())
        return lambda properties: all(part(properties) for part in parts)

    def _single(self) -> Condition:
        if self._skip("(", "("):
            self._depth += 1
            if self._depth > DEEPEST:
                raise self._refused("too many parentheses within parentheses")
            inner = self._alternatives()
            self._take(")")
            self._depth -= 1
            return inner
        _, name = self._take("word")
        if name not in self._known:
            raise self._refused(f"there is no property '{name}' here; there are {', '.join(sorted(self._known))}")
        kind = KINDS[self._known[name]]
        operator = self._take("operator")[1].lower()
        if operator in ("==", "!="):
            return self._equality(name, [self._value(kind)], operator == "==")
        if operator in ("=in=", "=out="):
            self._take("(")
            values = [self._value(kind)]
            while self._skip(",", ","):
                values.append(self._value(kind))
            self._take(")")
            return self._equality(name, values, operator == "=in=")
        if operator == "=null=":
            wanted = self._value(KINDS["flag"])
            return lambda properties: wanted.equals(not _all_of(properties[name]))
        if operator in _ORDERINGS and kind.ordered:
            return self._ordering(name, self._value(kind), _ORDERINGS[operator])
        raise self._refused(f"operator '{operator}' is not for property '{name}'")

    def _value(self, kind: Kind) -> Value:
        _, text = self._take("word", "quoted")
        try:
            return Value(kind, text)
        except (ValueError, OverflowError):
            raise self._refused(f"'{text}' is no {kind.name}") from None

    @staticmethod
    def _equality(name: str, values: list[Value], wanted: bool) -> Condition:
        def condition(properties: Properties) -> bool:
            return wanted is any(value.equals(actual) for actual in _all_of(properties[name]) for value in values)

        return condition

    def _ordering(self, name: str, value: Value, holds: Callable[[int], bool]) -> Condition:
        if value.is_pattern:
            raise self._refused(f"'{value.text}' cannot be compared: it is a pattern")
        return lambda properties: any(holds(value.compare(actual)) for actual in _all_of(properties[name]))


def _all_of(actual: Any) -> tuple[Any, ...]:
    """Return all values of a property: one, several, or none."""
    if isinstance(actual, (list, tuple)):
        return tuple(actual)
    return () if actual is None else (actual,)


def sort_key(actual: Any) -> tuple[Any, ...]:
    """Return what orders by a property; no value comes first."""
    return tuple((item, "") if isinstance(item, (int, float)) else (0, str(item).lower()) for item in _all_of(actual))
