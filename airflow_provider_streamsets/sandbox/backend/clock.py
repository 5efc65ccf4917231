"""The sandbox's clock, and actions scheduled on it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

MAX_TIME_MS = 253_370_764_800_000
"""The latest supported time, the start of the year 9999."""


def wall_clock_ms() -> int:
    """Return the system time in epoch milliseconds."""
    return time.time_ns() // 1_000_000


class Clock:
    """
    A clock in epoch milliseconds that follows the wall clock and can be frozen, set and advanced.

    The time scale does not affect the clock: times on the wire are wall time, so that they never lie in the future of
    a client. The time scale shortens durations instead, see
    :class:`~airflow_provider_streamsets.sandbox.backend.runs.Run`.

    :param frozen_at: freeze the clock at this time.
    :param source: returns the wall time.
    """

    def __init__(self, *, frozen_at: int | None = None, source: Callable[[], int] = wall_clock_ms) -> None:
        self._source = source
        self._initially_frozen_at = frozen_at
        self._frozen_at = frozen_at
        self._skew_ms = 0
        self._hold_at: int | None = None

    def now(self) -> int:
        """Return the current time."""
        return self._running() + self._skew_ms if self._frozen_at is None else self._frozen_at

    @contextlib.contextmanager
    def hold(self, at: int | None = None) -> Iterator[int]:
        """
        Hold the wall time for the duration of the context, so that everything in it happens at the same time.

        :param at: the wall time to use; None for the current one.
        :return: the wall time, for a replay at the same time.
        """
        previous = self._hold_at
        self._hold_at = self._running() if at is None else at
        try:
            yield self._hold_at
        finally:
            self._hold_at = previous

    def _running(self) -> int:
        return self._source() if self._hold_at is None else self._hold_at

    @property
    def frozen(self) -> bool:
        """Whether the clock is frozen."""
        return self._frozen_at is not None

    def freeze(self) -> None:
        """Stop the clock at the current time."""
        self._frozen_at = self.now()

    def unfreeze(self) -> None:
        """Resume the clock from the current time."""
        if self._frozen_at is not None:
            self._skew_ms = self._frozen_at - self._running()
            self._frozen_at = None

    def set(self, to_ms: int) -> None:
        """
        Set the clock to a later time.

        :param to_ms: epoch milliseconds, not earlier than now.
        :raises ValueError: for a time in the past, because earlier responses cannot be revoked.
        """
        now = self.now()
        if to_ms > MAX_TIME_MS:
            raise ValueError(f"The clock cannot be set to {to_ms}: the latest supported time is {MAX_TIME_MS}.")
        if to_ms < now:
            raise ValueError(f"The clock cannot be set to {to_ms}, before the current time {now}.")
        if self._frozen_at is None:
            self._skew_ms += to_ms - now
        else:
            self._frozen_at = to_ms

    def reset(self) -> None:
        """Undo all changes of the clock. The time may go back, so nothing may refer to later times any more."""
        self._frozen_at = self._initially_frozen_at
        self._skew_ms = 0

    def advance(self, seconds: float) -> None:
        """
        Advance the clock.

        :param seconds: number of seconds, not negative.
        :raises ValueError: if it is negative or too large.
        """
        if seconds * 1000 > MAX_TIME_MS:
            raise ValueError(
                f"The clock cannot be advanced by {seconds} s: the latest supported time is {MAX_TIME_MS}."
            )
        self.set(self.now() + round(seconds * 1000))


class Scheduler:
    """Actions that are due at a given time and run at the next request, as if they had run on time."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, Callable[[int], object]]] = []

    def add(self, at: int, action: Callable[[int], object]) -> None:
        """Schedule an action, which is called with its due time."""
        self._entries.append((at, action))
        self._entries.sort(key=lambda entry: entry[0])

    def run_due(self, now: int) -> None:
        """Run all actions that are due, in the order of their times."""
        while self._entries and self._entries[0][0] <= now:
            at, action = self._entries.pop(0)
            action(at)
