"""The protocol of the waiter process: JSON lines on standard input and output."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from tests.benchmarks.waiting.strategies import Strategy

MARK = "mark"
"""The line that requests a :class:`Mark`."""


@dataclass(frozen=True)
class WaitedRun:
    """An awaited run."""

    job_id: str
    job_name: str
    run_count: int


@dataclass(frozen=True)
class WaitRequest:
    """
    A request to wait for runs.

    :param strategy: wait strategy
    :param runs: the runs
    :param interval: poll interval in seconds
    :param ramp: seconds over which the waits are started
    :param url: URL of Control Hub
    :param credential_id: id of the credential
    :param token: token of the credential
    :param login_url: URL of the login service, for the SDK
    :param bulk_size: jobs per request of the provider's triggers; None for the default
    :param renew: when a wait has ended, wait for the next run of its job
    :param metrics_timeout: maximum seconds for which the provider's triggers wait for final metrics
    """

    strategy: Strategy
    runs: tuple[WaitedRun, ...]
    interval: float
    ramp: float
    url: str
    credential_id: str
    token: str
    login_url: str
    bulk_size: int | None = None
    renew: bool = False
    metrics_timeout: float = 0.0

    def to_line(self) -> str:
        """Serialize the request."""
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> WaitRequest:
        """Parse a request."""
        values: dict[str, Any] = json.loads(line)
        runs = tuple(WaitedRun(**run) for run in values.pop("runs"))
        return cls(strategy=Strategy(values.pop("strategy")), runs=runs, **values)


@dataclass(frozen=True)
class Mark:
    """
    Resource usage of the process.

    :param cpu: CPU seconds, user and system
    :param memory: resident memory in bytes
    :param longest_block: longest blocking of the event loop since the previous mark, in seconds
    :param threads: number of threads
    :param files: number of open files
    :param tasks: number of tasks of the event loop
    """

    cpu: float
    memory: int
    longest_block: float
    threads: int
    files: int
    tasks: int


@dataclass(frozen=True)
class Start:
    """
    All waits have started.

    :param memory: resident memory before the first wait, in bytes
    """

    memory: int


@dataclass(frozen=True)
class Event:
    """
    The end of a wait.

    :param job_id: id of the job
    :param at: time of the event, in epoch seconds
    :param outcome: outcome of the run; None if the wait failed
    :param error: error message of a failed wait
    :param is_complete: whether the report has events, and metrics beyond those of the status; False for others
    """

    job_id: str
    at: float
    outcome: str | None
    error: str | None = None
    is_complete: bool = False
