"""The time the sandbox lives in."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

LATEST = 253_370_764_800_000
"""The begin of the last year that dates can be written in: 9999."""


def wall_clock_ms() -> int:
    """Return the time of this machine in epoch milliseconds."""
    return time.time_ns() // 1_000_000


class Clock:
    """
    Epoch milliseconds that run with the wall clock until someone freezes, sets or advances them.

    The time scale is no business of the clock: times on the wire stay wall time, so that they are never in
    a client's future; a time scale shortens how long things take (see
    :class:`~airflow_provider_streamsets.sandbox.runs.Run`).

    :param frozen_at: start at this time and stand still.
    :param source: where running time comes from.
    """

    def __init__(self, *, frozen_at: int | None = None, source: Callable[[], int] = wall_clock_ms) -> None:
        self._source = source
        self._frozen_at = frozen_at
        self._ahead = 0
        self._held_at: int | None = None

    def now(self) -> int:
        """Return the current time."""
        return self._running() + self._ahead if self._frozen_at is None else self._frozen_at

    @contextlib.contextmanager
    def held(self, at: int | None = None) -> Iterator[int]:
        """
        Hold running time for as long as something takes, so that all of it happens at one time.

        :param at: the running time; None: as it is.
        :return: that time, at which the same can be made to happen once more.
        """
        before = self._held_at
        self._held_at = self._running() if at is None else at
        try:
            yield self._held_at
        finally:
            self._held_at = before

    def _running(self) -> int:
        return self._source() if self._held_at is None else self._held_at

    @property
    def frozen(self) -> bool:
        """Whether time stands still."""
        return self._frozen_at is not None

    def freeze(self) -> None:
        """Stop time here."""
        self._frozen_at = self.now()

    def unfreeze(self) -> None:
        """Let time go on from here."""
        if self._frozen_at is not None:
            self._ahead = self._frozen_at - self._running()
            self._frozen_at = None

    def set(self, to_ms: int) -> None:
        """
        Move forward to a time.

        :param to_ms: epoch milliseconds, not earlier than now.
        :raises ValueError: for a time in the past: what has been answered cannot be taken back.
        """
        now = self.now()
        if to_ms > LATEST:
            raise ValueError(f"the clock goes no further than {LATEST}, so it cannot be set to {to_ms}")
        if to_ms < now:
            raise ValueError(f"the clock only goes forward: it is {now}, so it cannot be set to {to_ms}")
        if self._frozen_at is None:
            self._ahead += to_ms - now
        else:
            self._frozen_at = to_ms

    def advance(self, seconds: float) -> None:
        """
        Move forward.

        :param seconds: how far, not negative.
        :raises ValueError: if negative, or too far.
        """
        if seconds * 1000 > LATEST:
            raise ValueError(f"the clock goes no further than {LATEST}, so it cannot be advanced by {seconds} s")
        self.set(self.now() + round(seconds * 1000))


class Agenda:
    """Things to be done, each with its time; they are done when somebody looks, as if it had been in time."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, Callable[[int], object]]] = []

    def add(self, at: int, act: Callable[[int], object]) -> None:
        """Note something; when it is done it is told its time."""
        self._entries.append((at, act))
        self._entries.sort(key=lambda entry: entry[0])

    def catch_up(self, now: int) -> None:
        """Do all that is due."""
        while self._entries and self._entries[0][0] <= now:
            at, act = self._entries.pop(0)
            act(at)
