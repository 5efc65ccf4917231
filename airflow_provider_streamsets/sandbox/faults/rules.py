"""Rules for fault injection."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from airflow_provider_streamsets.sandbox.seed.document import (
    Count,
    Flag,
    Share,
    Text,
    check_keys,
    must,
    read_document,
    validate,
)

MAX_HITS = 5000

_Delay = Annotated[float, Field(strict=True, ge=0, le=3600)]


def _allow_null(schema: dict[str, Any]) -> None:
    """Add null, which counts as missing, to the values of all options."""
    for name, option in schema["properties"].items():
        if name not in schema["required"] and "anyOf" not in option:
            schema["properties"][name] = {"anyOf": [option, {"type": "null"}]}


class FaultRule(BaseModel):
    """
    A fault, and the requests to which it applies. A subclass defines the options of some faults.

    :param fault: the fault; see :mod:`~airflow_provider_streamsets.sandbox.faults.middleware`.
    :param path: pattern of the path; ``*`` matches any text.
    :param method: HTTP method, ``*`` for any.
    :param probability: fraction of the matching requests that fail.
    :param after: number of matching requests that succeed first.
    :param times: maximum number of requests that fail, None for no limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_allow_null)

    fault: str
    path: Annotated[str, Field(strict=True, pattern="^[/*]"), must("start with / or *")]
    method: Annotated[Text, AfterValidator(str.upper)] = "*"
    probability: Share = 1.0
    after: Count = 0
    times: Count | None = None

    _keys = model_validator(mode="before")(check_keys)

    def matches(self, method: str, path: str) -> bool:
        """Return whether the rule applies to a request."""
        return self.method in ("*", method) and fnmatchcase(path, self.path)


class SimpleFault(FaultRule):
    """A fault without options."""

    fault: Literal["unauthorized", "reset_before", "reset_after", "truncated", "html", "empty", "tls_close"]


class DelayFault(FaultRule):
    """A late response; ``processed`` means that the request is processed before the delay."""

    fault: Literal["delay"]
    seconds: _Delay = 1.0
    processed: Flag = False


class SlowFault(FaultRule):
    """A slow response, or a request that is processed ``seconds`` after its response."""

    fault: Literal["late", "drip"]
    seconds: _Delay = 1.0


class RateLimitFault(FaultRule):
    """
    A response with status 429; ``retry_after`` is the value of its header ``Retry-After``, in seconds, 0 for none.

    With ``per_second``, only requests fail that exceed so many per second, by a token bucket of as many tokens, but at
    least one.
    """

    fault: Literal["too_many_requests"]
    retry_after: Count = 1
    per_second: Annotated[float, Field(strict=True, ge=0.01, le=1000)] | None = None


class ServerErrorFault(FaultRule):
    """A server error; ``processed`` means that the request is processed before it fails."""

    fault: Literal["server_error"]
    status: Literal[500, 502, 503, 504] = 500
    processed: Flag = False


class GatewayFault(FaultRule):
    """The response of an ingress, a proxy or a firewall."""

    fault: Literal["gateway"]
    status: Literal[404, 400, 403, 405, 407, 410, 413, 502, 503, 504] = 404
    body: Literal["html", "json"] = "html"
    processed: Flag = False


AnyFault = DelayFault | RateLimitFault | ServerErrorFault | GatewayFault | SimpleFault | SlowFault
FAULT_TYPES: dict[str, type[FaultRule]] = {
    fault: rule for rule in get_args(AnyFault) for fault in get_args(rule.model_fields["fault"].annotation)
}
"""The models of the faults by name."""


class _FaultFile(BaseModel):
    seed: Count = 0
    rules: tuple[Annotated[AnyFault, Field(discriminator="fault")], ...]

    _keys = model_validator(mode="before")(check_keys)


@dataclass
class _Tally:
    rule: FaultRule
    matched: int = 0
    hit: int = 0
    tokens: float = math.inf
    refilled_at: float = 0.0

    def take_token(self, per_second: float) -> bool:
        """Take a token for a request within a rate limit, in real time, and return whether there was one."""
        now = monotonic()
        self.tokens = min(self.tokens + (now - self.refilled_at) * per_second, max(per_second, 1.0))
        self.refilled_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class FaultRules:
    """
    Rules for fault injection, with counts of matches and hits.

    Whether the n-th matching request fails depends only on the seed, the index of the rule and n, except for a rate
    limit. If several rules select a request, the first one applies.

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

    @property
    def rules(self) -> list[FaultRule]:
        """The rules."""
        return [tally.rule for tally in self._tallies]

    def add(self, rules: Sequence[FaultRule]) -> None:
        """Add rules after the others, which keep their counts."""
        self._tallies += [_Tally(rule) for rule in rules]

    def copy(self) -> FaultRules:
        """Return the same rules, without counts."""
        return FaultRules(self.rules, self._seed)

    def to_dict(self) -> dict[str, Any]:
        """Return the rules with their numbers of matches and hits, and the latest hits."""
        rules = [{**tally.rule.model_dump(), "matched": tally.matched, "hit": tally.hit} for tally in self._tallies]
        return {"seed": self._seed, "rules": rules, "hits": list(self._hits)}

    def _is_selected(self, number: int, tally: _Tally) -> bool:
        rule = tally.rule
        if tally.matched <= rule.after or (rule.times is not None and tally.hit >= rule.times):
            return False
        if isinstance(rule, RateLimitFault) and rule.per_second and tally.take_token(rule.per_second):
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
    file = validate(TypeAdapter(_FaultFile), document, f"{source}: ", tags=FAULT_TYPES)
    return FaultRules(file.rules, file.seed)
