"""Rules for fault injection."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from airflow_provider_streamsets.sandbox.seed.document import DocumentNode, read_document

FAULT_OPTIONS: dict[str, tuple[str, ...]] = {
    "delay": ("seconds", "processed"),
    "too_many_requests": ("retry_after",),
    "server_error": ("status", "processed"),
    "gateway": ("status", "body", "processed"),
    "unauthorized": (),
    "reset_before": (),
    "reset_after": (),
    "truncated": (),
    "html": (),
    "empty": (),
    "late": ("seconds",),
    "drip": ("seconds",),
    "tls_close": (),
}
"""The faults and their options; see :mod:`~airflow_provider_streamsets.sandbox.faults.middleware`."""

FAULT_STATUSES: dict[str, tuple[int, ...]] = {
    "server_error": (500, 502, 503, 504),
    "gateway": (404, 400, 403, 405, 407, 410, 413, 502, 503, 504),
}
"""The possible HTTP statuses of a fault, the default first."""

GATEWAY_BODIES = ("html", "json")

MAX_HITS = 5000


@dataclass(frozen=True)
class FaultRule:
    """
    A fault, and the requests to which it applies.

    :param fault: one of :data:`FAULT_OPTIONS`.
    :param path: pattern of the path; ``*`` matches any text.
    :param method: HTTP method, ``*`` for any.
    :param probability: fraction of the matching requests that fail.
    :param after: number of matching requests that succeed first.
    :param times: maximum number of requests that fail, None for no limit.
    :param seconds: length of a delay or of a slow response; delay until a late request is processed.
    :param retry_after: value of the header ``Retry-After``, in seconds.
    :param status: HTTP status of a server error or a gateway error.
    :param body: format of a gateway error, one of :data:`GATEWAY_BODIES`.
    :param processed: whether the request is processed before it fails.
    """

    fault: str
    path: str
    method: str = "*"
    probability: float = 1.0
    after: int = 0
    times: int | None = None
    seconds: float = 1.0
    retry_after: int = 1
    status: int = 500
    body: str = "html"
    processed: bool = False

    def matches(self, method: str, path: str) -> bool:
        """Return whether the rule applies to a request."""
        return self.method in ("*", method) and fnmatchcase(path, self.path)

    def to_dict(self) -> dict[str, Any]:
        """Return the rule in the format of a fault file."""
        others = {option for options in FAULT_OPTIONS.values() for option in options} - set(FAULT_OPTIONS[self.fault])
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in others}


@dataclass
class _Tally:
    rule: FaultRule
    matched: int = 0
    hit: int = 0


class FaultRules:
    """
    Rules for fault injection, with counts of matches and hits.

    Whether the n-th matching request fails depends only on the seed, the index of the rule and n. If several rules
    select a request, the first one applies.

    :param rules: the rules.
    :param seed: seed of the pseudo-random selection.
    """

    def __init__(self, rules: Sequence[FaultRule] = (), seed: int = 0) -> None:
        self._seed = seed
        self._tallies = [_Tally(rule) for rule in rules]
        self._hits: deque[dict[str, Any]] = deque(maxlen=MAX_HITS)

    def select(self, method: str, path: str, caller: str | None = None, time: int = 0) -> FaultRule | None:
        """
        Return the rule that applies to a request, or None, and count the request.

        :param method: HTTP method.
        :param path: path of the request.
        :param caller: the caller, if the request names one.
        :param time: time of the request in epoch milliseconds.
        """
        selected = None
        for number, tally in enumerate(self._tallies):
            if not tally.rule.matches(method, path):
                continue
            tally.matched += 1
            if selected is None and self._is_selected(number, tally):
                tally.hit += 1
                selected = tally.rule
        if selected is not None:
            hit = {"time": time, "method": method, "path": path, "fault": selected.fault, "caller": caller}
            self._hits.append(hit)
        return selected

    def to_dict(self) -> dict[str, Any]:
        """Return the rules with their numbers of matches and hits, and the latest hits."""
        rules = [{**tally.rule.to_dict(), "matched": tally.matched, "hit": tally.hit} for tally in self._tallies]
        return {"seed": self._seed, "rules": rules, "hits": list(self._hits)}

    def _is_selected(self, number: int, tally: _Tally) -> bool:
        rule = tally.rule
        if tally.matched <= rule.after or (rule.times is not None and tally.hit >= rule.times):
            return False
        digest = hashlib.sha256(f"{self._seed}/{number}/{tally.matched}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < rule.probability * 2**64


def load_faults(path: Path) -> FaultRules:
    """
    Load a fault file.

    :param path: a YAML or JSON file.
    :raises SeedError: if the file cannot be read or is invalid.
    """
    return parse_faults(read_document(path), source=path.name)


def parse_faults(document: Any, source: str = "faults") -> FaultRules:
    """
    Parse a document with fault rules.

    :param document: the content of the file.
    :param source: name of the file in error messages.
    :raises SeedError: with the path of the first invalid value.
    """
    root = DocumentNode(document, f"{source}: ")
    root.check_keys("seed", "rules")
    rules = [_rule(node) for node in root.child("rules").items()]
    return FaultRules(rules, root.integer("seed") if root.has("seed") else 0)


def _rule(node: DocumentNode) -> FaultRule:
    fault = node.string("fault")
    if fault not in FAULT_OPTIONS:
        raise node.child("fault").error(f"must be one of {', '.join(FAULT_OPTIONS)}, got '{fault}'.")
    node.check_keys("fault", "method", "path", "probability", "after", "times", *FAULT_OPTIONS[fault])
    path = node.string("path")
    if path[0] not in "/*":
        raise node.child("path").error(f"must start with / or *, got '{path}'.")
    values: dict[str, Any] = {"fault": fault, "path": path, "method": node.string("method", "*").upper()}
    if node.has("probability"):
        values["probability"] = node.number("probability", maximum=1)
    if node.has("seconds"):
        values["seconds"] = node.number("seconds", maximum=3600)
    for count in ("after", "times", "retry_after"):
        if node.has(count):
            values[count] = node.integer(count)
    if fault in FAULT_STATUSES:
        values["status"] = node.integer("status") if node.has("status") else FAULT_STATUSES[fault][0]
        if values["status"] not in FAULT_STATUSES[fault]:
            raise node.child("status").error(f"must be one of {', '.join(map(str, FAULT_STATUSES[fault]))}.")
    values["body"] = node.string("body", GATEWAY_BODIES[0])
    if values["body"] not in GATEWAY_BODIES:
        raise node.child("body").error(f"must be one of {', '.join(GATEWAY_BODIES)}.")
    values["processed"] = node.boolean("processed", False)
    return FaultRule(**values)
