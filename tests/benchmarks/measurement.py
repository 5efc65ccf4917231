"""One operation, done with the official SDK or with this provider's client: its requests, its time, its effect."""

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
from dev.local_sandbox import SandboxProcess
from tests.benchmarks.stage import Stage

_PATIENCE_WITH_THREADS = 30.0


class BenchmarkError(Exception):
    """What was measured is not what was meant to be measured."""


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
class Waiting:
    """
    Which requests of an operation are looks while it waits.

    :param after: pattern of the call that is waited for
    :param looks: pattern of the looks, of which only those after that call count
    """

    after: str
    looks: str

    def polls(self, calls: list[Call]) -> list[Call]:
        acted = next((n for n, call in enumerate(calls) if re.search(self.after, str(call))), len(calls))
        return [call for call in calls[acted + 1 :] if re.search(self.looks, str(call))]


@dataclass(frozen=True)
class Operation(ABC):
    """
    What is measured: one thing, done in two ways, each as a task would do it that is given names, tags or documents.

    What is done with the SDK follows its guide.

    :param name: what is done
    :param goal: which share of the SDK's requests it may need at the most, polls apart
    :param waiting: which of its requests are polls
    """

    name: str
    goal: float = field(default=1.0, kw_only=True)
    waiting: Waiting | None = field(default=None, kw_only=True)

    @abstractmethod
    def prepare(self, stage: Stage) -> Any:
        """Make what it works on; the result is `given` to the other methods."""

    @abstractmethod
    def with_sdk(self, hub: Any, given: Any) -> Any:
        """Do it with the official SDK."""

    @abstractmethod
    def with_client(self, client: ControlHubClient, given: Any) -> Any:
        """Do the same with this provider's client, and return the same."""

    @abstractmethod
    def effect(self, stage: Stage, given: Any, answer: Any) -> Any:
        """Return what it has done, from what it returned or from the sandbox."""

    @abstractmethod
    def expected(self, stage: Stage, given: Any) -> Any:
        """Return what the effect must be."""


@dataclass(frozen=True)
class Measurement:
    """What one contender needed for one operation."""

    calls: tuple[Call, ...]
    polls: int
    seconds: float

    @property
    def requests(self) -> int:
        """The number of requests without polls."""
        return len(self.calls) - self.polls


@dataclass(frozen=True)
class Comparison:
    """What both contenders needed for one operation."""

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


Contender = Callable[[SandboxProcess, Operation, Any], Any]


def with_official_sdk(sandbox: SandboxProcess, operation: Operation, given: Any) -> Any:
    """Do an operation with a new login of the SDK."""
    hub = sdk.ControlHub(credential_id=sandbox.credential_id, token=sandbox.token, aster_url=sandbox.login_url)
    return operation.with_sdk(hub, given)


def with_provider_client(sandbox: SandboxProcess, operation: Operation, given: Any) -> Any:
    """Do an operation with a new client, which has to find its hub, too."""
    with ControlHubClient(None, sandbox.credential_id, sandbox.token, login_url=sandbox.login_url) as client:
        return operation.with_client(client, given)


def compare(operation: Operation, stage: Stage) -> Comparison:
    """Measure an operation with both contenders, each on jobs that nobody has used."""
    return Comparison(
        operation, measure(operation, with_official_sdk, stage), measure(operation, with_provider_client, stage)
    )


def measure(operation: Operation, contender: Contender, stage: Stage) -> Measurement:
    """
    Measure an operation with one contender.

    Requests are noted where both contenders send them, as the sandbox does not list calls of its login service. It
    must have served all the others.

    :raises BenchmarkError: if the operation has not had its effect, or the sandbox has served other requests
    """
    sandbox = stage.sandbox
    try:
        given = operation.prepare(stage)
        sandbox.forget_requests()
        with _noted_calls() as calls, _threads_ended():
            began = time.perf_counter()
            answer = contender(sandbox, operation, given)
            seconds = time.perf_counter() - began
        served, sent = sandbox.requests()["total"], sum(not call.is_login_lookup for call in calls)
        if served != sent:
            raise BenchmarkError(f"{operation.name}: {sent} requests were sent, but {served} were served.")
        effect, expected = operation.effect(stage, given, answer), operation.expected(stage, given)
        if effect != expected:
            raise BenchmarkError(
                f"{operation.name}, {contender.__name__}: the effect should be {expected!r}, but is {effect!r}."
            )
    finally:
        stage.clear()
    polls = operation.waiting.polls(calls) if operation.waiting else []
    return Measurement(tuple(calls), len(polls), seconds)


@contextmanager
def _noted_calls() -> Iterator[list[Call]]:
    """Give the list of the requests that this process sends meanwhile."""
    calls: list[Call] = []
    send = requests.Session.send

    def noting(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        calls.append(Call(request.method or "", unquote(urlsplit(request.url or "").path)))
        return send(session, request, **options)

    with mock.patch.object(requests.Session, "send", noting):
        yield calls


@contextmanager
def _threads_ended() -> Iterator[None]:
    """Wait at the end for threads that were started meanwhile: the SDK lists engines in one."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(_PATIENCE_WITH_THREADS)
        if thread.is_alive():
            raise BenchmarkError(f"The thread {thread.name} does not end.")
