"""
A small part of the search language: comparisons of properties, joined by ``and`` and ``or``.

Understood are ``==`` and ``!=`` with a wildcard ``*`` at either end, ``=in=`` and ``=out=``, ``and`` or ``;``,
``or`` or ``,``, and parentheses. Anything else is refused by name rather than guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from airflow_provider_streamsets.sandbox.problems import ProblemError, bad_request

Properties = dict[str, Any]
Condition = Callable[[Properties], bool]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<operator>=[a-z]+=|==|!=|>=|<=|>|<)
      | (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<mark>[();,])
      | (?P<word>[^\s()"';,=!<>]+)
    )""",
    re.VERBOSE,
)


def parse(text: str, known: Iterable[str]) -> Condition:
    """
    Return the condition that a search expresses.

    :param text: the search.
    :param known: the properties that can be searched for.
    :raises ProblemError: for what is not understood.
    """
    return _Parser(text, frozenset(known)).whole()


class _Parser:
    def __init__(self, text: str, known: frozenset[str]) -> None:
        self._text = text
        self._known = known
        self._tokens = self._split(text)
        self._next = 0

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
        if expected and kind not in expected and value not in expected:
            raise self._refused(f"unexpected '{value}'")
        self._next += 1
        return kind, value

    def _skip(self, mark: str, word: str) -> bool:
        if self._next < len(self._tokens) and self._tokens[self._next] in (("mark", mark), ("word", word)):
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
            inner = self._alternatives()
            self._take(")")
            return inner
        _, name = self._take("word")
        if name not in self._known:
            raise self._refused(f"there is no property '{name}' here; there are {', '.join(sorted(self._known))}")
        _, operator = self._take("operator")
        if operator in ("==", "!="):
            _, value = self._take("word", "quoted")
            return self._comparison(name, [value], operator == "==")
        if operator in ("=in=", "=out="):
            self._take("(")
            values = [self._take("word", "quoted")[1]]
            while self._skip(",", ","):
                values.append(self._take("word", "quoted")[1])
            self._take(")")
            return self._comparison(name, values, operator == "=in=")
        raise self._refused(f"operator '{operator}' is not supported")

    @staticmethod
    def _comparison(name: str, values: list[str], wanted: bool) -> Condition:
        def condition(properties: Properties) -> bool:
            actual = properties.get(name)
            texts = actual if isinstance(actual, (list, tuple)) else [actual]
            return wanted is any(_equal(text, value) for text in texts for value in values)

        return condition


def _equal(actual: object, value: str) -> bool:
    text = ("" if actual is None else str(actual)).lower()
    value = value.lower()
    core = value.strip("*")
    starts_open, ends_open = value.startswith("*"), value.endswith("*") and len(value) > 1
    if starts_open and ends_open:
        return core in text
    if starts_open:
        return text.endswith(core)
    if ends_open:
        return text.startswith(core)
    return text == value
