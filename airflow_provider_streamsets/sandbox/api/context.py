"""The state that an application shares with its routes."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, cast

from fastapi import Request

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.credentials import Credential
from airflow_provider_streamsets.sandbox.faults.rules import FaultRules

MAX_REQUESTS = 5000


@dataclass
class RequestLog:
    """The latest API requests, and the number of requests per method and path."""

    entries: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MAX_REQUESTS))
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, method: str, path: str, query: str, time: int) -> None:
        """Record a request."""
        self.entries.append({"method": method, "path": path, "query": query, "time": time})
        self.counts[f"{method} {path}"] += 1

    def clear(self) -> None:
        """Remove all requests."""
        self.entries.clear()
        self.counts.clear()


@dataclass
class AppContext:
    """The state of an application."""

    backend: ControlHubBackend
    credential: Credential
    requests: RequestLog = field(default_factory=RequestLog)
    faults: FaultRules = field(default_factory=FaultRules)


def get_context(request: Request) -> AppContext:
    """Return the state of the application that serves a request."""
    return cast("AppContext", request.app.state.context)


def get_backend(request: Request) -> ControlHubBackend:
    """Return the backend of the application that serves a request."""
    return get_context(request).backend


def base_url(request: Request) -> str:
    """Return the base URL that the client used."""
    return str(request.base_url).rstrip("/")
