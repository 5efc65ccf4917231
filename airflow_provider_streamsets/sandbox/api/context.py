"""The state that an application shares with its routes."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, cast

from fastapi import Request

from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.credentials import Credential
from airflow_provider_streamsets.sandbox.faults.rules import Faults

REQUESTS_KEPT = 5000


@dataclass
class RequestLog:
    """The calls that were answered: the latest of them, and how many there were of each."""

    kept: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=REQUESTS_KEPT))
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, method: str, path: str, query: str, time: int) -> None:
        """Note a call."""
        self.kept.append({"method": method, "path": path, "query": query, "time": time})
        self.counts[f"{method} {path}"] += 1

    def clear(self) -> None:
        """Forget all calls."""
        self.kept.clear()
        self.counts.clear()


@dataclass
class Hub:
    """What an application serves."""

    world: World
    credential: Credential
    requests: RequestLog = field(default_factory=RequestLog)
    faults: Faults = field(default_factory=Faults)


def hub_of(request: Request) -> Hub:
    """Return the hub that a request is for."""
    return cast("Hub", request.app.state.hub)


def world_of(request: Request) -> World:
    """Return the world that a request is about."""
    return hub_of(request).world


def base_url(request: Request) -> str:
    """Return the URL under which the client reached the sandbox."""
    return str(request.base_url).rstrip("/")
