"""Learn at which rate Control Hub accepts the requests of a connection."""

from __future__ import annotations

import contextlib
import logging
import math
import random
import threading
from collections import defaultdict
from collections.abc import Iterator

from airflow_provider_streamsets.polling.connections import PerLoop, run_for_all

log = logging.getLogger(__name__)

# Requests per second: lower bound of the first rate after a rejection, and of all later ones.
_MIN_FIRST_RATE = 0.5
_MIN_RATE = 1 / 60
# Each decrease is made up in so many seconds, or by so many requests per second in each second if that is faster.
_RECOVERY = 40.0
_MIN_GROWTH = 0.05
# Maximum seconds between two accepted requests that count as a time without rejections.
_MAX_GROWTH_TIME = 5.0
# The rate of accepted requests is a moving average over so many seconds.
_AVERAGED_SECONDS = 2.0
# A limit of so many times the highest rate of accepted requests since the last rejection is forgotten.
_FORGET_FACTOR = 4.0
# Turns of queries for each turn of a poll, while both wait.
_QUERY_TURNS = 3
# Maximum seconds until a request that let another one pass tries again.
_MAX_YIELD = 1.0
# Seconds that are not worth a wait: a timer can fire that much too early.
_MIN_DELAY = 0.001


class RequestRate:
    """
    Limits the rate of the requests of a connection once Control Hub has rejected one of them (429).

    Control Hub does not publish its limit (contract section 18.21). This class holds all assumptions: ``Retry-After``
    says when to continue, and evenly spaced requests below some rate are accepted.

    The limit starts with the rate of requests that were accepted before. It is halved at each further rejection, and
    grows additively while requests are accepted. It is forgotten when it is far above what is needed. Without a limit,
    no request waits. Polls and queries take turns: queries first, but every fourth turn is a poll's, if one waits.

    Thread-safe. Each `now` is the time in seconds, by the same clock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limit: float | None = None
        self._growth = 0.0
        self._grown_at = -math.inf
        self._next_turn = self._paused_until = -math.inf
        self._query_turns = 0
        self._waiting = {"poll": 0, "query": 0}
        self._accepted = self._peak = 0.0
        self._accepted_at = -math.inf

    @property
    def limit(self) -> float | None:
        """Maximum requests per second; None if no limit is known."""
        return self._limit

    @contextlib.contextmanager
    def waiting(self, *, is_poll: bool) -> Iterator[None]:
        """Count a request that waits for its turn within this context."""
        kind = "poll" if is_poll else "query"
        with self._lock:
            self._waiting[kind] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[kind] -= 1

    def take_turn(self, now: float, *, is_poll: bool, yields: bool = True) -> float:
        """
        Take the next turn if it is due.

        :param is_poll: whether it is for a poll
        :param yields: whether to let a request of the other kind pass if it is its turn
        :returns: seconds until the next attempt; 0 if the turn was taken
        """
        with self._lock:
            if self._limit is None:
                return 0.0
            seconds = self._next_turn - now
            if seconds > _MIN_DELAY:
                return seconds
            # Exactly one of the two kinds yields, so that they do not wait for each other.
            is_turn_of_poll = self._query_turns >= _QUERY_TURNS
            if yields and is_poll != is_turn_of_poll and self._waiting["query" if is_poll else "poll"]:
                return min(1 / self._limit, _MAX_YIELD)
            self._next_turn = max(self._next_turn, now) + 1 / self._limit
            self._query_turns = 0 if is_poll else self._query_turns + 1
            return 0.0

    def return_turn(self) -> None:
        """Return a turn that was taken, but not needed."""
        with self._lock:
            if self._limit is not None:
                self._next_turn = max(self._next_turn - 1 / self._limit, self._paused_until)

    def accepted(self, now: float) -> None:
        """Record an accepted request."""
        with self._lock:
            self._accepted = self._accepted_before(now) + 1
            self._accepted_at = now
            self._peak = max(self._peak, self._accepted)
            # During a pause, only responses to earlier requests arrive.
            if self._limit is None or now < self._paused_until:
                return
            self._limit += self._growth * min(now - self._grown_at, _MAX_GROWTH_TIME)
            self._grown_at = now
            if self._limit < _FORGET_FACTOR * max(self._peak / _AVERAGED_SECONDS, _MIN_FIRST_RATE):
                return
            self._limit = None
        run_for_all(
            log.info, "Control Hub has accepted all requests for some time: sending them without a limit again."
        )

    def rejected(self, now: float, sent_at: float, retry_after: float | None) -> None:
        """
        Record a request that was rejected (429).

        Requests that were sent before the end of the last pause do not decrease the limit again.

        :param sent_at: when it was sent
        :param retry_after: seconds until the next request may be sent; None if the response did not say
        """
        with self._lock:
            pause = retry_after or 0.0
            before = self._limit
            if before is None or sent_at + _MIN_DELAY >= self._paused_until:
                self._peak = self._accepted_before(now)
                if before is None:
                    self._limit = max(self._accepted_before(now) / _AVERAGED_SECONDS, _MIN_FIRST_RATE)
                    self._query_turns = 0
                else:
                    self._limit = max(before / 2, _MIN_RATE)
                self._growth = max((before or self._limit) / 2 / _RECOVERY, _MIN_GROWTH)
                self._grown_at = now
                # Jitter, so that triggerers do not continue at the same time.
                jitter = random.uniform(0.8, 1.2)  # noqa: S311 # nosec B311 # no secret
                pause = max(pause, jitter / self._limit)
            self._paused_until = max(self._paused_until, now + pause)
            self._next_turn = max(self._next_turn, self._paused_until)
            limit = self._limit
        if before is None and limit is not None:
            run_for_all(
                log.warning,
                "Control Hub limits the rate of requests (429): sending %.2g per second at first, and adapting to the "
                "limit. Results can be late; nothing needs doing.",
                limit,
            )

    def _accepted_before(self, now: float) -> float:
        return self._accepted * math.exp((self._accepted_at - now) / _AVERAGED_SECONDS)


request_rates: PerLoop[defaultdict[str, RequestRate]] = PerLoop(lambda: defaultdict(RequestRate))
"""
Rates by :attr:`ConnectionSettings.sharing_key`, shared by all pollers of a connection.

They are kept after a poller is closed, for the next one.
"""
