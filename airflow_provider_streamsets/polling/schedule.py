"""Schedule, batch size and back-off of the shared pollers."""

from __future__ import annotations

import math
import random
import threading
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from airflow_provider_streamsets.control_hub.errors import ControlHubError, ControlHubUnavailableError
from airflow_provider_streamsets.params import DEFAULT_POLL_INTERVAL

# Minimum distance of two requests: a share of the request spacing, up to so many seconds.
_MIN_SPACING = 0.25
_MAX_MIN_SPACING = 1.0
# Maximum seconds of the first delay after a failure, and of all delays.
_FIRST_DELAY = 5.0
_MAX_DELAY = 300.0
# Jobs in the first request of a connection, and minimum number to which failures reduce it.
_FIRST_BATCH = 100
_MIN_BATCH = 10
# Responses within so many seconds let the batches grow.
_FAST_RESPONSE = 2.0
# Share of a size that Control Hub rejects; larger batches are not tried any more.
_TOO_LARGE_MARGIN = 0.9

_Key = TypeVar("_Key", float, int)


class PollSchedule:
    """
    Spreads the requests for many jobs evenly over their poll intervals.

    Changed on the event loop only; the intervals can be read from any thread.

    :param batch_size: jobs per request
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._lock = threading.Lock()
        self._intervals: Counter[float] = Counter()
        # Shortest interval and request spacing; None if they are to be computed again.
        self._spacing: tuple[float, float] | None = None
        # Jobs by slot. Slots have a number on a grid, given by the time of slot 0 and the seconds between two slots.
        self._reserved: Counter[float] = Counter()
        self._grid = (0.0, DEFAULT_POLL_INTERVAL)
        self._slots: Counter[int] = Counter()
        self._numbers: list[int] = []

    @property
    def batch_size(self) -> int:
        """Jobs per request."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, value: int) -> None:
        if value != self._batch_size:
            with self._lock:
                self._batch_size, self._spacing = value, None

    def add(self, interval: float) -> None:
        """Add a job that is polled every ``interval`` seconds."""
        with self._lock:
            self._intervals[interval] += 1
            self._spacing = None

    def remove(self, interval: float) -> None:
        """Remove a job that was polled every ``interval`` seconds."""
        with self._lock:
            _decrement(self._intervals, interval)
            self._spacing = None

    @property
    def min_interval(self) -> float:
        """Shortest poll interval, in seconds."""
        return self._computed()[0]

    @property
    def request_spacing(self) -> float:
        """Seconds from one request to the next, with as few requests as possible."""
        return self._computed()[1]

    @property
    def min_spacing(self) -> float:
        """Minimum seconds from one request to the next."""
        return min(self.request_spacing * _MIN_SPACING, _MAX_MIN_SPACING)

    def _computed(self) -> tuple[float, float]:
        # Threads read it while the event loop adds and removes jobs.
        with self._lock:
            if self._spacing is None:
                shortest = min(self._intervals, default=DEFAULT_POLL_INTERVAL)
                jobs = sum(count * shortest / interval for interval, count in self._intervals.items())
                # Rounded, as rounding errors can make the sum slightly too large.
                self._spacing = shortest, shortest / max(math.ceil(round(jobs / self._batch_size, 6)), 1)
            return self._spacing

    def slot(self, polled_at: float, interval: float) -> float:
        """
        Return when jobs that were just polled together are due again.

        Slots are :attr:`request_spacing` apart. The jobs get the last free slot within their interval: at first, that
        may be much sooner than its end. Takes a time that grows with the logarithm of the number of slots only.

        :param polled_at: when they were polled, on the loop's clock
        :param interval: their poll interval in seconds
        """
        shortest, spacing = self._computed()
        due = polled_at + interval
        if spacing >= shortest:
            return due
        if not self._reserved or self._grid[1] != spacing:
            self._align(self._grid[0] if self._reserved else polled_at, spacing)
        zero = self._grid[0]
        # With a tolerance, as rounding errors of sums can make the quotient slightly too small.
        last = math.floor((due - zero) / spacing + 1e-4)
        number = self._last_free(last)
        slot = zero + number * spacing
        return slot if slot > polled_at and number > last - math.ceil(interval / spacing) else due

    def reserve(self, slot: float) -> None:
        """Reserve a slot for one more job."""
        self._reserved[slot] += 1
        if self._reserved[slot] == 1:
            self._occupy(slot)

    def release(self, slot: float) -> None:
        """Release a job's slot, if it has one: it was polled, or is not to be polled any more."""
        if slot not in self._reserved:
            return
        if _decrement(self._reserved, slot):
            number = self._number(slot)
            if _decrement(self._slots, number):
                del self._numbers[bisect_left(self._numbers, number)]

    def _align(self, zero: float, spacing: float) -> None:
        """Number the reserved slots on another grid; some of them may be between two of its slots."""
        self._grid = zero, spacing
        self._slots.clear()
        self._numbers.clear()
        for slot in sorted(self._reserved):
            self._occupy(slot)

    def _occupy(self, slot: float) -> None:
        number = self._number(slot)
        self._slots[number] += 1
        if self._slots[number] == 1:
            insort(self._numbers, number)

    def _number(self, slot: float) -> int:
        zero, spacing = self._grid
        return round((slot - zero) / spacing)

    def _last_free(self, last: int) -> int:
        """Return the greatest number up to ``last`` that is free."""
        if last not in self._slots:
            return last
        # The differences of numbers and their indices never fall, and are the same within numbers without a gap.
        index = bisect_left(self._numbers, last)
        numbers = self._numbers
        return numbers[bisect_left(range(index), last - index, key=lambda at: numbers[at] - at)] - 1


def _decrement(counter: Counter[_Key], key: _Key) -> bool:
    """Decrement a count, and return whether it has reached zero."""
    counter[key] -= 1
    if counter[key]:
        return False
    del counter[key]
    return True


class BatchSize:
    """
    Adapts the number of jobs per request to a limit that Control Hub does not publish.

    Starts small, grows while responses are fast, and shrinks with each failure. Stays below a size that was rejected as
    too large, or that failed twice while smaller batches in between succeeded.
    """

    def __init__(self) -> None:
        self._size = _FIRST_BATCH
        self._too_large = math.inf
        self._failed_at = math.inf
        self._is_failing = False

    def within(self, bulk_size: int) -> int:
        """Return the number of jobs for the next request, at most ``bulk_size``."""
        return min(self._size, bulk_size)

    def succeeded(self, count: int, seconds: float) -> None:
        """
        Record a successful request.

        :param count: number of its jobs
        :param seconds: its response time
        """
        self._is_failing = False
        if count >= self._failed_at:
            self._failed_at = math.inf
        if seconds <= _FAST_RESPONSE:
            self._grow(count)

    def rate_limited(self, count: int) -> None:
        """Record a request that was rejected for the rate of requests: larger ones are fewer."""
        self._grow(count)

    def _grow(self, count: int) -> None:
        if count < self._size:
            return
        larger = min(2 * self._size, (self._size + self._too_large) / 2)
        if larger < self._too_large * _TOO_LARGE_MARGIN:
            self._size = int(larger)

    def failed(self, count: int) -> None:
        """Record a failed request; it may have been too large."""
        if not self._is_failing:
            if count >= self._failed_at:
                self._too_large = min(self._too_large, count)
            self._failed_at = count
        self._is_failing = True
        self._size = min(self._size, max(count // 2, _MIN_BATCH))

    def rejected(self, count: int) -> None:
        """Record a request that was rejected as too large."""
        self._too_large = min(self._too_large, count)
        self._size = min(self._size, max(count // 2, 1))


class Backoff:
    """
    Exponential back-off of all requests after failures other than 429. Thread-safe.

    :param first_delay: returns the seconds of the first delay
    :param max_delay: returns the maximum seconds of a delay without ``Retry-After``
    :param now: clock in seconds
    """

    def __init__(
        self, first_delay: Callable[[], float], max_delay: Callable[[], float], now: Callable[[], float]
    ) -> None:
        self._first_delay = first_delay
        self._max_delay = max_delay
        self._now = now
        self._lock = threading.Lock()
        self._failures = 0
        self._until = -math.inf

    @classmethod
    def from_schedule(cls, schedule: PollSchedule, now: Callable[[], float]) -> Backoff:
        """Create the back-off for the requests of a schedule."""
        return cls(
            lambda: min(schedule.request_spacing, _FIRST_DELAY),
            lambda: min(2 * schedule.min_interval, _MAX_DELAY),
            now,
        )

    @property
    def until(self) -> float:
        """When the next request may be sent, on the given clock."""
        return self._until

    @property
    def remaining(self) -> float:
        """Seconds until the next request may be sent."""
        return max(self._until - self._now(), 0.0)

    def failed(self, error: ControlHubError) -> None:
        """
        Record a failed request. Consecutive failures increase the delay; a ``Retry-After`` extends it.

        :param error: error of the request
        """
        retry_after = error.retry_after if isinstance(error, ControlHubUnavailableError) else None
        with self._lock:
            # Concurrent failures count as one.
            if self._now() >= self._until:
                self._failures += 1
                delay = min(self._first_delay() * 2.0 ** min(self._failures - 1, 60), self._max_delay())
                # Jitter, so that triggerers do not retry at the same time.
                self._until = self._now() + delay * random.uniform(0.8, 1.2)  # noqa: S311 # nosec B311 # no secret
            self._until = max(self._until, self._now() + (retry_after or 0.0))

    def succeeded(self) -> None:
        """Reset the delay after a successful request."""
        with self._lock:
            self._failures = 0
