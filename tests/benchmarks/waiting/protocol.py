"""What a process that waits is told on its standard input, and what it tells on its standard output: lines of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from tests.benchmarks.waiting.contenders import Contender

MARK = "mark"
"""The line that asks for a :class:`Mark`."""


@dataclass(frozen=True)
class WaitedRun:
    """A run that is waited for."""

    job_id: str
    job_name: str
    run_count: int


@dataclass(frozen=True)
class Orders:
    """
    What to wait for, and how.

    :param contender: the way of waiting
    :param runs: the runs
    :param interval: seconds between two looks at a run
    :param ramp: seconds over which the waits begin
    :param url: address of Control Hub
    :param credential_id: with ``token``, who asks
    :param login_url: address of the login service, for the SDK
    :param bulk_size: jobs per request of the provider's triggers; its default if None
    """

    contender: Contender
    runs: tuple[WaitedRun, ...]
    interval: float
    ramp: float
    url: str
    credential_id: str
    token: str
    login_url: str
    bulk_size: int | None = None

    def to_line(self) -> str:
        """Return the orders as they are sent."""
        return json.dumps(asdict(self))

    @classmethod
    def of_line(cls, line: str) -> Orders:
        """Read orders as they arrive."""
        values: dict[str, Any] = json.loads(line)
        runs = tuple(WaitedRun(**run) for run in values.pop("runs"))
        return cls(contender=Contender(values.pop("contender")), runs=runs, **values)


@dataclass(frozen=True)
class Mark:
    """
    What the process has needed until now.

    :param cpu: seconds of processor time, its own and the system's for it
    :param memory: bytes that are resident
    :param longest_block: seconds for which the event loop was blocked at the longest since the mark before
    """

    cpu: float
    memory: int
    longest_block: float


@dataclass(frozen=True)
class Start:
    """
    The waits have begun.

    :param memory: bytes that were resident before the first did
    """

    memory: int


@dataclass(frozen=True)
class Event:
    """
    The end of a wait.

    :param job_id: id of the job whose run was waited for
    :param at: when it was told, in epoch seconds
    :param outcome: what the run came to; None if the wait has ended with an error
    :param error: that error
    """

    job_id: str
    at: float
    outcome: str | None
    error: str | None = None
