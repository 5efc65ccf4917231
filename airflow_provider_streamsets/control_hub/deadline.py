"""The deadline of a wait, and the loop that polls until then."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator


class Deadline:
    """
    Deadline of a wait.

    :param seconds: seconds from now; None for no deadline
    :param total: total seconds of the wait, for messages, if it began earlier
    :param sleep: sleeps for a number of seconds; ``time.sleep`` by default
    :param now: clock in seconds; ``time.monotonic`` by default
    """

    __slots__ = ("_now", "_seconds", "_sleep", "_started_at", "total")

    def __init__(
        self,
        seconds: float | None,
        *,
        total: float | None = None,
        sleep: Callable[[float], None] | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._now, self._sleep = now or time.monotonic, sleep or time.sleep
        self._seconds = math.inf if seconds is None else seconds
        self._started_at = self._now()
        self.total = seconds if total is None else total
        """Total seconds of the wait, for messages; None for no deadline."""

    @classmethod
    def of_retries(cls, seconds: float, sleep: Callable[[float], None]) -> Deadline:
        """
        Return a deadline that counts only the time between polls, so that slow requests do not reduce their number.

        :param seconds: total time between polls
        :param sleep: sleeps for a number of seconds
        """
        slept = 0.0

        def count(pause: float) -> None:
            nonlocal slept
            sleep(pause)
            slept += pause

        return cls(seconds, sleep=count, now=lambda: slept)

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the wait."""
        return self._now() - self._started_at

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, negative after it; infinite if there is none."""
        return self._seconds - self.elapsed

    @property
    def has_passed(self) -> bool:
        """Whether the deadline has passed."""
        return self.remaining <= 0

    def sleep(self, seconds: float) -> None:
        """Sleep, at most until the deadline."""
        self._sleep(max(min(seconds, self.remaining), 0.0))

    def polls(self, delay: float | Callable[[], float]) -> Iterator[bool]:
        """
        Yield before each poll whether it is the last one, and sleep between two polls.

        :param delay: seconds between two polls, or a function that returns them
        """
        while not self.has_passed:
            yield False
            self.sleep(delay() if callable(delay) else delay)
        yield True
