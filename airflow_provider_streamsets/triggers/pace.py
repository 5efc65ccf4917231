"""How often a status feed sends requests."""

from __future__ import annotations

import math
import random
import threading
from collections import Counter
from collections.abc import Callable

from airflow_provider_streamsets.control_hub.errors import ControlHubError, ControlHubUnavailableError

# Of the seconds that there are for each request of an interval: so close two of them may be, and in seconds.
_CLOSEST = 0.25
_LONGEST_CLOSEST = 1.0
# Seconds to the first request after one that has failed, at the most, and the longest pause of all.
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 300.0
_DEFAULT_INTERVAL = 30.0


class Pace:
    """
    Spreads the requests for many jobs evenly over the intervals at which they are to be looked at.

    :param batch: how many jobs are asked for with one request
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch
        """How many jobs are asked for with one request."""
        self._intervals: Counter[float] = Counter()
        self._turns: Counter[float] = Counter()
        self._first_turn = 0.0

    def add(self, interval: float) -> None:
        """Note that one more job is to be looked at, every so many seconds."""
        self._intervals[interval] += 1

    def remove(self, interval: float) -> None:
        """Note that one job less is to be looked at."""
        self._intervals[interval] -= 1
        if not self._intervals[interval]:
            del self._intervals[interval]

    @property
    def shortest_interval(self) -> float:
        """The shortest of the intervals, in seconds."""
        return min(self._intervals, default=_DEFAULT_INTERVAL)

    @property
    def gap(self) -> float:
        """Seconds that there are for each request, so that there are just enough of them."""
        shortest = self.shortest_interval
        jobs = sum(count * shortest / interval for interval, count in self._intervals.items())
        # Rounded, as the sum of many parts can be a little more than it should be.
        return shortest / max(math.ceil(round(jobs / self.batch, 6)), 1)

    @property
    def closest(self) -> float:
        """Seconds from one request to the next, at the least."""
        return min(self.gap * _CLOSEST, _LONGEST_CLOSEST)

    def turn(self, looked: float, interval: float) -> float:
        """
        Return when the jobs that were just looked at together are to be looked at again.

        Turns are apart from each other by the seconds that there are for each request. The jobs get the last free one
        within their interval: at first, that may be much sooner than its end.

        :param looked: when they were looked at, on the clock
        :param interval: seconds between two looks at them
        """
        gap = self.gap
        wanted = looked + interval
        if gap >= self.shortest_interval:
            return wanted
        if not self._turns:
            self._first_turn = looked
        # A part of a millisecond more, as a sum of many parts can be a little less than it should be.
        last = math.floor((wanted - self._first_turn) / gap + 1e-4)
        for number in range(last, last - math.ceil(interval / gap), -1):
            turn = self._first_turn + number * gap
            if turn > looked and all(abs(turn - taken) > gap / 2 for taken in self._turns):
                return turn
        return wanted

    def take(self, turn: float) -> None:
        """Note that a job is to be looked at in a turn."""
        self._turns[turn] += 1

    def give_back(self, turn: float) -> None:
        """Note that a job is looked at, in its turn or before, or not any more."""
        if turn in self._turns:
            self._turns[turn] -= 1
            if not self._turns[turn]:
                del self._turns[turn]


class Backoff:
    """
    How long all requests pause after failures. Can be told of them from any thread.

    :param first: returns the seconds of the first pause
    :param longest: returns the seconds of the longest one that Control Hub does not ask for
    :param now: clock in seconds
    """

    def __init__(self, first: Callable[[], float], longest: Callable[[], float], now: Callable[[], float]) -> None:
        self._first = first
        self._longest = longest
        self._now = now
        self._lock = threading.Lock()
        self._failures = 0
        self._until = -math.inf

    @classmethod
    def at_pace(cls, pace: Pace, now: Callable[[], float]) -> Backoff:
        """Return that of requests which have a pace when nothing fails."""
        return cls(lambda: min(pace.gap, _FIRST_PAUSE), lambda: min(2 * pace.shortest_interval, _LONGEST_PAUSE), now)

    @property
    def until(self) -> float:
        """When the next request may be sent, on the clock."""
        return self._until

    @property
    def left(self) -> float:
        """Seconds until the next request may be sent."""
        return max(self._until - self._now(), 0.0)

    def failed(self, error: ControlHubError) -> None:
        """
        Pause after a request that has just failed; longer with each in a row, or as long as Control Hub asks for.

        :param error: how it has failed
        """
        asked = error.retry_after if isinstance(error, ControlHubUnavailableError) else None
        with self._lock:
            # Of requests that were under way together, only one counts.
            if self._now() >= self._until:
                self._failures += 1
                pause = min(self._first() * 2.0 ** min(self._failures - 1, 60), self._longest())
                # Not all triggerers at the same moment.
                self._until = self._now() + pause * random.uniform(0.8, 1.2)  # noqa: S311 # nosec B311 # no secret
            self._until = max(self._until, self._now() + (asked or 0.0))

    def succeeded(self) -> None:
        """Go back to the usual pace."""
        with self._lock:
            self._failures = 0
