"""Measure requests, duration and effect of an operation with the official SDK and with this provider's client."""

from __future__ import annotations

import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock
from urllib.parse import unquote, urlsplit

import requests
from streamsets import sdk

from airflow_provider_streamsets.control_hub import ControlHubClient
from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from tests.benchmarks.environment import Environment

_THREAD_TIMEOUT = 30.0


class BenchmarkError(Exception):
    """The measurement is invalid."""


@dataclass(frozen=True)
class Call:
    """One HTTP request."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def is_login_lookup(self) -> bool:
        return self.path.startswith("/login/")


@dataclass(frozen=True)
class PollPattern:
    """
    Identifies the polling requests of an operation.

    :param after: pattern of the call whose effect is awaited
    :param poll: pattern of the polls; only matches after that call count
    """

    after: str
    poll: str

    def select(self, calls: list[Call]) -> list[Call]:
        """Return the polls among the calls."""
        first = next((n for n, call in enumerate(calls) if re.search(self.after, str(call))), len(calls))
        return [call for call in calls[first + 1 :] if re.search(self.poll, str(call))]


@dataclass(frozen=True)
class Operation(ABC):
    """
    An operation implemented with both clients, as a task would do it from names, tags or documents.

    The SDK implementation follows the SDK's guide.

    :param name: description of the operation
    :param goal: maximum ratio of the provider's requests to the SDK's requests, excluding polls
    :param poll_pattern: identifies the polls among its requests
    """

    name: str
    goal: float = field(default=1.0, kw_only=True)
    poll_pattern: PollPattern | None = field(default=None, kw_only=True)

    @abstractmethod
    def prepare(self, environment: Environment) -> Any:
        """Create the objects that the operation uses; the other methods receive them as `prepared`."""

    @abstractmethod
    def with_sdk(self, hub: Any, prepared: Any) -> Any:
        """Run the operation with the official SDK."""

    @abstractmethod
    def with_client(self, client: ControlHubClient, prepared: Any) -> Any:
        """Run the operation with this provider's client; return the same value as :meth:`with_sdk`."""

    @abstractmethod
    def effect(self, environment: Environment, prepared: Any, returned: Any) -> Any:
        """Return the observed effect, from the returned value or the sandbox."""

    @abstractmethod
    def expected(self, environment: Environment, prepared: Any) -> Any:
        """Return the expected effect."""


@dataclass(frozen=True)
class Measurement:
    """Requests and duration of one operation with one client."""

    calls: tuple[Call, ...]
    polls: int
    seconds: float

    @property
    def requests(self) -> int:
        """Number of requests excluding polls."""
        return len(self.calls) - self.polls


@dataclass(frozen=True)
class Comparison:
    """Measurements of one operation with both clients."""

    operation: Operation
    sdk: Measurement
    provider: Measurement

    @property
    def request_ratio(self) -> float:
        return self.provider.requests / self.sdk.requests

    @property
    def time_ratio(self) -> float:
        return self.provider.seconds / self.sdk.seconds

    @property
    def goal_is_met(self) -> bool:
        return self.provider.requests <= self.operation.goal * self.sdk.requests


Runner = Callable[[SandboxProcess, Operation, Any], Any]


def with_official_sdk(sandbox: SandboxProcess, operation: Operation, prepared: Any) -> Any:
    """Run an operation with the SDK, including the login."""
    hub = sdk.ControlHub(credential_id=sandbox.credential_id, token=sandbox.token, aster_url=sandbox.login_url)
    return operation.with_sdk(hub, prepared)


def with_provider_client(sandbox: SandboxProcess, operation: Operation, prepared: Any) -> Any:
    """Run an operation with a new client, including the lookup of Control Hub's URL."""
    with ControlHubClient(None, sandbox.credential_id, sandbox.token, login_url=sandbox.login_url) as client:
        return operation.with_client(client, prepared)


def compare(operation: Operation, environment: Environment) -> Comparison:
    """Measure an operation with both clients, each on new jobs."""
    return Comparison(
        operation,
        measure(operation, with_official_sdk, environment),
        measure(operation, with_provider_client, environment),
    )


def measure(operation: Operation, runner: Runner, environment: Environment) -> Measurement:
    """
    Measure an operation with one client.

    Requests are recorded on the client side, because the sandbox does not list calls to its login service. The number
    of all other requests is checked against the sandbox.

    :raises BenchmarkError: if the effect is wrong, or the sandbox served a different number of requests
    """
    sandbox = environment.sandbox
    try:
        prepared = operation.prepare(environment)
        sandbox.forget_requests()
        with _recorded_calls() as calls, _joined_threads():
            began = time.perf_counter()
            returned = runner(sandbox, operation, prepared)
            seconds = time.perf_counter() - began
        served, sent = sandbox.requests()["total"], sum(not call.is_login_lookup for call in calls)
        if served != sent:
            raise BenchmarkError(f"{operation.name}: {sent} requests sent, but {served} served.")
        effect, expected = operation.effect(environment, prepared, returned), operation.expected(environment, prepared)
        if effect != expected:
            raise BenchmarkError(
                f"{operation.name}, {runner.__name__}: expected the effect {expected!r}, got {effect!r}."
            )
    finally:
        environment.delete_added_jobs()
    polls = operation.poll_pattern.select(calls) if operation.poll_pattern else []
    return Measurement(tuple(calls), len(polls), seconds)


@contextmanager
def _recorded_calls() -> Iterator[list[Call]]:
    """Record the requests that this process sends within the context."""
    calls: list[Call] = []
    send = requests.Session.send

    def recording_send(
        session: requests.Session, request: requests.PreparedRequest, **options: Any
    ) -> requests.Response:
        calls.append(Call(request.method or "", unquote(urlsplit(request.url or "").path)))
        return send(session, request, **options)

    with mock.patch.object(requests.Session, "send", recording_send):
        yield calls


@contextmanager
def _joined_threads() -> Iterator[None]:
    """Join threads started within the context, because the SDK lists engines in a thread."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(_THREAD_TIMEOUT)
        if thread.is_alive():
            raise BenchmarkError(f"Thread {thread.name} did not end within {_THREAD_TIMEOUT:g} s.")
