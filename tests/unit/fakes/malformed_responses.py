"""Answers that no API describes, and right ones in which something is wrong."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import requests_mock
from hypothesis import strategies as st

from tests.unit.fakes.api_payloads import JOB_ID, issues_json
from tests.unit.fakes.valid_responses import valid_response

# More digits than int() takes, more than a float can be, and more than 64 bits.
_NUMBERS = [10**400, -(10**400), 2**63, -1, 0, 1e308, 0.5, float("nan"), float("inf")]
_TEXTS = [
    *("INACTIVE", "inactive", "SOMETHING_NEW", "RED", "", "\ud800", "\udfff x", "\x00", "\u0661", "9" * 5000, "v"),
    *(
        '{"A": 1}',
        '{"a":' * 450 + "1" + "}" * 450,
        "[" * 100_000,
        '{"a":' * 900 + "1" + "}" * 900,
        '{"a": "\\ud800"}',
        "null",
        "5" * 5000,
    ),
]
_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.sampled_from(_NUMBERS) | st.floats() | st.text(max_size=8)
) | st.sampled_from(_TEXTS)
_NAMES = ["id", "jobId", "runCount", "status", "color", "data", "totalCount", "startTime", JOB_ID, "currentJobStatus"]
ANY_JSON = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)


@dataclass(frozen=True)
class FakeResponse:
    """What is sent instead of the right answer; `body` makes it from the right one."""

    body: Callable[[Any], bytes]
    name: str
    status: int = 200
    content_type: str | None = "application/json"

    def based_on(self, right: Any) -> FakeResponse:
        """Return the same, made from another right answer than that to the request."""
        return FakeResponse(lambda _: self.body(right), self.name, self.status, self.content_type)

    def __repr__(self) -> str:
        return f"<{self.status} {self.content_type}: {self.name}>"


VALID = FakeResponse(lambda right: right if isinstance(right, bytes) else _written(right), "the right answer")


def _written(value: Any) -> bytes:
    # As it is: NaN, halves of characters and long numbers, which no JSON has, are what is wanted.
    return json.dumps(value).encode()


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield from _places(entry, (*path, key))


def _changed(right: Any, place: int, change: Callable[[Any, Any], None] | None, new: Any) -> Any:
    """Return the right answer with a change at one of its places."""
    if isinstance(right, bytes):
        return new
    value = copy.deepcopy(right)
    places = list(_places(value))
    path = places[place % len(places)]
    if not path:
        return new
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    if change is None:
        holder[path[-1]] = new
    else:
        change(holder, path[-1])
    return value


def _remove(holder: Any, key: Any) -> None:
    del holder[key]


def _repeat(holder: Any, key: Any) -> None:
    if isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[f"{key}2"] = holder[key]


_CHANGES = st.tuples(st.integers(0, 400), st.sampled_from([None, None, None, _remove, _repeat]), ANY_JSON | st.none())


def _changer(changes: list[tuple[int, Any, Any]]) -> FakeResponse:
    def body(right: Any) -> bytes:
        value = right
        for place, change, new in changes:
            value = _changed(value, place, change, new)
        return _written(value)

    shown = [(place, change.__name__ if change else repr(new)[:60]) for place, change, new in changes]
    return FakeResponse(body, f"the right answer, changed at {shown}")


def _as_bytes(right: Any) -> bytes:
    return VALID.body(right)


# What is done to the bytes of the right answer.
_DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "blank": lambda _: b" \r\n",
    "HTML": lambda _: b"<html><body>Log in</body></html>",
    "cut off": lambda text: text[: len(text) // 2],
    "with BOM": lambda text: b"\xef\xbb\xbf" + text,
    "in UTF-16": lambda text: text.decode("latin-1").encode("utf-16"),
    "no UTF-8": lambda text: text.replace(b'"', b'"\xff', 1),
    "with a half character in UTF-8": lambda text: text.replace(b'"', b'"\xed\xa0\x80', 2),
    "twice": lambda text: text + text,
    "with all keys twice": lambda text: text.replace(b"{", b'{"status": "INACTIVE", "id": 5, ', 1),
    "nested deeply": lambda _: b"[" * 100_000,
    "nested as deeply as can be": lambda _: b"[" * 900 + b"]" * 900,
    "object nested deeply": lambda _: b'{"a":' * 900 + b"1" + b"}" * 900,
    "nested more deeply than can be parsed": lambda _: b'{"counters": ' * 450 + b"1" + b"}" * 450,
    "a number of 5000 digits": lambda _: b"9" * 5000,
    "a number of 400 digits": lambda _: b"9" * 400,
    "digits in all numbers": lambda text: text.replace(b"0", b"0" * 400),
    "NaN": lambda _: b"NaN",
    "nulls": lambda text: text.replace(b'": "', b'": null, "'),
    "NUL": lambda text: text.replace(b'": "', b'": "\\u0000', 1),
    "gzip that is none": lambda text: b"\x1f\x8b" + text,
}
_STATUSES = [200, 200, 200, 201, 202, 204, 206, 300, 304, 400, 401, 403, 404, 409, 410, 418, 429, 500, 502, 503, 599]
_TYPES = ["application/json", "application/json;charset=utf-16", "text/html", "image/png", "x;charset=none", None, ""]
RESPONSES = st.one_of(
    st.just(VALID),
    st.builds(_changer, st.lists(_CHANGES, min_size=1, max_size=2)),
    st.builds(_changer, st.lists(_CHANGES, min_size=1, max_size=1)),
    st.builds(
        lambda value, status: FakeResponse(lambda _: _written(value), repr(value)[:80], status),
        ANY_JSON,
        st.sampled_from(_STATUSES),
    ),
    st.builds(
        lambda name, status, kind: FakeResponse(lambda right: _DAMAGES[name](_as_bytes(right)), name, status, kind),
        st.sampled_from(sorted(_DAMAGES)),
        st.sampled_from(_STATUSES),
        st.sampled_from(_TYPES),
    ),
    st.builds(
        lambda issue, status: FakeResponse(lambda _: _written(issue), "issues", status),
        st.builds(lambda code, text: {"ISSUES": [{"code": code, "message": text}]}, ANY_JSON, ANY_JSON)
        | st.just(issues_json(("A_1", "no"))),
        st.sampled_from(_STATUSES),
    ),
)

_NO_ANSWERS = ["HTML", "cut off", "no UTF-8", "with a half character in UTF-8", "twice", "nested deeply", "NaN"]
UNUSABLE = st.one_of(
    st.builds(
        lambda name: FakeResponse(lambda right: _DAMAGES[name](_as_bytes(right)), name),
        st.sampled_from([*_NO_ANSWERS, "a number of 5000 digits", "gzip that is none", "object nested deeply"]),
    ),
    st.builds(
        lambda value: FakeResponse(lambda _: _written(value), repr(value)),
        st.sampled_from([[], [5], "", "text", 0, 1, True, False, {JOB_ID: 5}, {JOB_ID: []}, {JOB_ID: {"status": 5}}]),
    ),
    st.builds(
        lambda status: FakeResponse(lambda _: b"<html>", "an error page", status),
        st.sampled_from([429, 500, 502, 503, 504]),
    ),
)
"""What no wait can take for an answer, and what may pass."""

_HOSTILE = [
    *(None, True, 5, -1, 1.5, 10**400, float("nan"), "text", "\ud800", "9" * 5000),
    *([], [5], [[]], [{}], {}, {"a": [1]}, {"status": ["INACTIVE"]}),
]


def each_mutation(right: Any) -> Iterator[FakeResponse]:
    """Yield an answer for each place of a right one and each value that can stand there, and one without the place."""
    for place, path in enumerate(_places(right)):
        yield _changer([(place, _remove, None)])
        for value in _HOSTILE:
            yield FakeResponse(
                lambda same, place=place, value=value: _written(_changed(same, place, None, value)), str(path)
            )


def serve(http: Any, answers: list[FakeResponse]) -> None:
    """Serve the first request with the first of these, and so on; the last one stays."""
    left = list(answers)
    started = False

    def answered(request: Any, context: Any) -> bytes:
        nonlocal started
        answer = left.pop(0) if len(left) > 1 else left[0]
        right = valid_response(request, started=started)
        started = started or request.path.endswith("/start")
        context.status_code = answer.status
        if answer.content_type is not None:
            context.headers["Content-Type"] = answer.content_type
        return answer.body(right)

    http.reset()
    http.register_uri(requests_mock.ANY, re.compile(".*"), content=answered)
