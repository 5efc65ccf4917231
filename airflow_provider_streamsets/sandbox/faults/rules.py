"""Which requests go wrong, and how."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from airflow_provider_streamsets.sandbox.seed.document import Place, read_document

FAULTS: dict[str, tuple[str, ...]] = {
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
"""What can go wrong, and what can be said about each; how, see :mod:`~.injection`."""

STATUSES: dict[str, tuple[int, ...]] = {
    "server_error": (500, 502, 503, 504),
    "gateway": (404, 400, 403, 405, 407, 410, 413, 502, 503, 504),
}
"""The statuses that a fault can have, the default first."""

BODIES = ("html", "json")

HITS_KEPT = 5000


@dataclass(frozen=True)
class FaultRule:
    """
    A fault, and the requests that it may hit.

    :param fault: one of :data:`FAULTS`.
    :param path: pattern of the path, in which ``*`` stands for anything.
    :param method: HTTP method, ``*`` for any.
    :param probability: which share of the requests that match is hit.
    :param after: so many that match are let through first.
    :param times: at most so many are hit, None for no limit.
    :param seconds: how long a delay takes, or an answer that drips; how much later a late request is delivered.
    :param retry_after: seconds that too many requests are told to wait.
    :param status: of a server error, or of a gateway's answer.
    :param body: the form of a gateway's answer, one of :data:`BODIES`.
    :param processed: whether the request has its effect, where the fault could come before or after that.
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
        """Whether a request is one of those that may be hit."""
        return self.method in ("*", method) and fnmatchcase(path, self.path)

    def document(self) -> dict[str, Any]:
        """Return the rule as it is written down."""
        others = {option for options in FAULTS.values() for option in options} - set(FAULTS[self.fault])
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in others}


@dataclass
class _Tally:
    rule: FaultRule
    matched: int = 0
    hit: int = 0


class Faults:
    """
    The rules, and how often each has matched and hit.

    Whether a rule hits the n-th request that matches it follows from the seed, the place of the rule and n alone. Of
    several rules that would hit a request the first one does.

    :param rules: the rules.
    :param seed: another one hits other requests.
    """

    def __init__(self, rules: Sequence[FaultRule] = (), seed: int = 0) -> None:
        self._seed = seed
        self._tallies = [_Tally(rule) for rule in rules]
        self._hits: deque[dict[str, Any]] = deque(maxlen=HITS_KEPT)

    def hit(self, method: str, path: str, caller: str | None = None, time: int = 0) -> FaultRule | None:
        """
        Return the rule that a request is hit by, None if by none.

        :param method: its method.
        :param path: its path.
        :param caller: the caller that it names.
        :param time: when it came, in epoch milliseconds.
        """
        chosen = None
        for number, tally in enumerate(self._tallies):
            if not tally.rule.matches(method, path):
                continue
            tally.matched += 1
            if chosen is None and self._would_hit(number, tally):
                tally.hit += 1
                chosen = tally.rule
        if chosen is not None:
            hit = {"time": time, "method": method, "path": path, "fault": chosen.fault, "caller": caller}
            self._hits.append(hit)
        return chosen

    def document(self) -> dict[str, Any]:
        """Return the rules with how many requests matched each and how many it has hit, and the latest hits."""
        rules = [{**tally.rule.document(), "matched": tally.matched, "hit": tally.hit} for tally in self._tallies]
        return {"seed": self._seed, "rules": rules, "hits": list(self._hits)}

    def _would_hit(self, number: int, tally: _Tally) -> bool:
        rule = tally.rule
        if tally.matched <= rule.after or (rule.times is not None and tally.hit >= rule.times):
            return False
        digest = hashlib.sha256(f"{self._seed}/{number}/{tally.matched}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < rule.probability * 2**64


def load_faults(path: Path) -> Faults:
    """
    Read a file of fault rules.

    :param path: a YAML or JSON file.
    :raises SeedError: if it cannot be read or is wrong.
    """
    return parse_faults(read_document(path), source=path.name)


def parse_faults(document: Any, source: str = "faults") -> Faults:
    """
    Check a document of fault rules.

    :param document: what the file holds.
    :param source: the name that error messages begin with.
    :raises SeedError: naming the first place that is wrong.
    """
    top = Place(document, f"{source}: ")
    top.only("seed", "rules")
    rules = [_rule(place) for place in top.at("rules").items()]
    return Faults(rules, top.whole("seed") if top.has("seed") else 0)


def _rule(place: Place) -> FaultRule:
    fault = place.text("fault")
    if fault not in FAULTS:
        raise place.at("fault").wrong(f"must be one of {', '.join(FAULTS)}, not '{fault}'")
    place.only("fault", "method", "path", "probability", "after", "times", *FAULTS[fault])
    path = place.text("path")
    if path[0] not in "/*":
        raise place.at("path").wrong(f"must begin with / or *, not '{path}'")
    values: dict[str, Any] = {"fault": fault, "path": path, "method": place.text("method", "*").upper()}
    if place.has("probability"):
        values["probability"] = place.number("probability", most=1)
    if place.has("seconds"):
        values["seconds"] = place.number("seconds", most=3600)
    for count in ("after", "times", "retry_after"):
        if place.has(count):
            values[count] = place.whole(count)
    if fault in STATUSES:
        values["status"] = place.whole("status") if place.has("status") else STATUSES[fault][0]
        if values["status"] not in STATUSES[fault]:
            raise place.at("status").wrong(f"must be one of {', '.join(map(str, STATUSES[fault]))}")
    values["body"] = place.text("body", BODIES[0])
    if values["body"] not in BODIES:
        raise place.at("body").wrong(f"must be one of {', '.join(BODIES)}")
    values["processed"] = place.flag("processed", False)
    return FaultRule(**values)
