"""Send requests in threads: limited, paused after failures, and retried together when the credential is rejected."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
import math
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubError,
    ControlHubUnavailableError,
)
from airflow_provider_streamsets.control_hub.tracking.run import OutageListener, OutageLog
from airflow_provider_streamsets.polling.connections import run_for_all, spawn
from airflow_provider_streamsets.polling.request_rate import RequestRate

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient
    from airflow_provider_streamsets.polling.schedule import Backoff
    from airflow_provider_streamsets.polling.stats import PollerStats

log = logging.getLogger(__name__)

Refresh = Callable[["ControlHubAuthenticationError", int], Awaitable["ControlHubClient | None"]]

# Attempts of a request that is rejected for the rate of requests; as many as the official SDK makes.
_MAX_ATTEMPTS = 10
# Seconds within which a query may send further requests: after its deadline, and at most.
_MIN_QUERY_TIME = 10.0
_MAX_QUERY_TIME = 60.0
# Seconds for which a further request of a poll or query lets others pass.
_MAX_YIELD_TIME = 5.0
# Maximum seconds until a request that waits in a thread notices that it was cancelled.
_MAX_SLEEP = 1.0
# Threads for requests about a single run, such as its metrics.
_CONCURRENT_QUERIES = 8

_Result = TypeVar("_Result")


class RequestSender:
    """
    Sends the requests of a poller: polls one after the other in one thread, queries in some others.

    All requests keep to the request rate, those that a poll or query sends after its first one as well.

    Created on an event loop and used on it.

    :param client: the client; should not retry requests, as the sender does
    :param backoff: delays requests after failures
    :param stats: metrics of the poller
    :param rate: limits the rate of requests after a rejection (429)
    :param refresh: see :class:`SharedCredential`
    :param concurrent_queries: maximum number of concurrent queries
    :param retry_queries: whether to retry rejected queries; otherwise, only polls show that the credential is rejected
    """

    def __init__(
        self,
        client: ControlHubClient,
        backoff: Backoff,
        stats: PollerStats,
        rate: RequestRate,
        refresh: Refresh | None = None,
        concurrent_queries: int = _CONCURRENT_QUERIES,
        *,
        retry_queries: bool = True,
    ) -> None:
        self.client = client
        """The client; stays the same when the credential is replaced."""
        self.now = asyncio.get_running_loop().time
        """Clock of the event loop, in seconds."""
        self.outage: OutageListener = _Outage(backoff)
        """Listener for the outcomes of the requests of queries; thread-safe."""
        self._backoff = backoff
        self._retry_queries = retry_queries
        self._poll_outage = _Outage(backoff)
        self._stats = stats
        self._rate = stats.rate = rate
        self._local = _Local()
        self._closed = threading.Event()
        client.throttle = self._throttled
        self._credential = SharedCredential(client, refresh)
        self._accepted_at = -math.inf
        self._poll_thread = ThreadPoolExecutor(1, thread_name_prefix="control-hub-statuses")
        self._query_threads = ThreadPoolExecutor(concurrent_queries, thread_name_prefix="control-hub-queries")
        self._query_slots = asyncio.Semaphore(concurrent_queries)

    async def run_poll(
        self, poll: Callable[[], _Result], pause: Callable[[], float] = lambda: 0.0, max_time: float = math.inf
    ) -> _Result:
        """
        Run a function that polls statuses, and is to be followed by :meth:`poll_succeeded` or :meth:`poll_failed`.

        The caller waits for the end of a back-off. A rejected poll is retried.

        :param poll: the function
        :param pause: returns the seconds until it may be sent
        :param max_time: seconds within which it may send further requests while the rate is limited
        :raises ControlHubError: as raised by the function
        """
        turn = _Turn(is_poll=True, max_time=max_time)
        return await self._send(self._poll_thread, lambda: self._stats.run(poll), pause, turn)

    def poll_succeeded(self) -> None:
        """Record that statuses were read, which also proves that the credential is valid."""
        self._poll_outage.succeeded()
        self._backoff.succeeded()
        self._accepted_at = self.now()

    def poll_failed(self, error: ControlHubError) -> None:
        """Record that statuses could not be read."""
        self._poll_outage.failed(error)

    async def run_query(self, query: Callable[[], _Result], timeout: float | None = None) -> _Result:
        """
        Run a function that sends requests, with limited concurrency.

        Queries wait while requests pause after failures or a rejected credential. A rejected query is retried.

        :param query: the function
        :param timeout: maximum seconds until it starts
        :raises asyncio.TimeoutError: if it did not start in time
        :raises ControlHubError: as raised by the query
        """
        turn = _Turn(deadline=math.inf if timeout is None else self.now() + timeout)
        await _acquire(self._query_slots, timeout)
        try:
            return await self._send(self._query_threads, query, lambda: self._backoff.remaining, turn)
        finally:
            if turn.work is None or turn.work.done():
                self._query_slots.release()
            else:
                # It was cancelled, but its thread has not ended.
                turn.work.add_done_callback(lambda _: self._query_slots.release())

    async def _send(
        self, executor: Executor, request: Callable[[], _Result], pause: Callable[[], float], turn: _Turn
    ) -> _Result:
        rejections, rejected_at = 0, math.inf
        # What a query logs belongs to the log of its task; a poll serves many tasks.
        context = contextvars.Context() if turn.is_poll else contextvars.copy_context()
        while True:
            await self._wait_until_allowed(pause, turn)
            generation = self._credential.generation
            try:
                turn.work = asyncio.get_running_loop().run_in_executor(
                    executor, context.run, self._in_turn, request, turn
                )
                return await asyncio.shield(turn.work)
            except asyncio.CancelledError:
                turn.is_cancelled = True
                raise
            except ControlHubAuthenticationError as error:
                if not turn.is_poll and not self._retry_queries:
                    raise
                rejected_at = min(rejected_at, self.now())
                try:
                    rejections = await self._credential.wait_refreshed(
                        error, generation, rejections, turn.deadline - self.now()
                    )
                except ControlHubError as confirmed:
                    # Statuses that were read meanwhile prove that the credential is valid.
                    if self._accepted_at <= rejected_at:
                        self._rejected(confirmed)
                    raise

    async def _wait_until_allowed(self, pause: Callable[[], float], turn: _Turn) -> None:
        while True:
            seconds, needs_turn = pause(), False
            if seconds <= 0 and not self._credential.is_rejected:
                seconds, needs_turn = self._rate.take_turn(self.now(), is_poll=turn.is_poll), True
                if seconds <= 0:
                    return
            remaining = turn.deadline - self.now()
            if remaining <= 0:
                raise asyncio.TimeoutError
            if self._credential.is_rejected:
                await self._credential.wait_idle(remaining)
                continue
            with self._rate.waiting(is_poll=turn.is_poll) if needs_turn else contextlib.nullcontext():
                await asyncio.sleep(min(seconds, remaining))

    def _in_turn(self, request: Callable[[], _Result], turn: _Turn) -> _Result:
        """Run a function that has a turn for its first request."""
        self._local.turn, turn.is_unused = turn, True
        now = self.now()
        if turn.max_time is None:
            turn.send_until = now + min(max(turn.deadline - now, _MIN_QUERY_TIME), _MAX_QUERY_TIME)
        else:
            turn.send_until = now + turn.max_time
        try:
            return request()
        finally:
            if turn.is_unused:
                turn.is_unused = False
                self._rate.return_turn()

    def _throttled(self, send: Callable[[], _Result]) -> _Result:
        """
        Send a request in its turn, in a thread, and record whether it was accepted.

        A rejected request, which had no effect, is repeated: a query or poll of several requests would otherwise start
        over, or do without a part of its result. The first request of a poll is left to the next poll, which is larger.
        """
        turn = self._local.turn
        for attempt in itertools.count(1):
            is_first = turn.is_unused
            if is_first:
                turn.is_unused = False
            else:
                self._wait_for_turn(turn)
            sent_at = self.now()
            try:
                result = send()
            except ControlHubError as error:
                if error.http_status != HTTPStatus.TOO_MANY_REQUESTS:
                    if error.http_status is not None:
                        self._rate.accepted(self.now())
                    raise
                retry_after = error.retry_after if isinstance(error, ControlHubUnavailableError) else None
                self._rate.rejected(self.now(), sent_at, retry_after)
                if attempt == _MAX_ATTEMPTS or (turn.is_poll and is_first):
                    raise
            else:
                self._rate.accepted(self.now())
                return result
        raise AssertionError("unreachable")

    def _wait_for_turn(self, turn: _Turn) -> None:
        began = self.now()
        with self._rate.waiting(is_poll=turn.is_poll):
            while not self._closed.is_set() and not turn.is_cancelled:
                # What has begun lets others pass for some time only.
                yields = self.now() < began + _MAX_YIELD_TIME
                seconds = self._rate.take_turn(self.now(), is_poll=turn.is_poll, yields=yields)
                if seconds <= 0:
                    return
                if self.now() + seconds > turn.send_until:
                    raise ControlHubUnavailableError(
                        "Control Hub limits the rate of requests, and this one could not be sent in time.",
                        http_status=HTTPStatus.TOO_MANY_REQUESTS,
                    )
                sleep_in_thread(min(seconds, _MAX_SLEEP), self._closed)
        raise ControlHubUnavailableError("The wait for the result ended before this request was sent.")

    def _rejected(self, error: ControlHubError) -> None:
        """Handle a confirmed rejection of the credential."""

    def adopt(self, client: ControlHubClient) -> None:
        """
        Replace the credential.

        :param client: client with the new credential; must not be used any more
        """
        self._credential.adopt(client)

    def close(self) -> None:
        """Shut down threads and close the session without waiting for running requests."""
        self._closed.set()
        self._credential.close()
        self._stats.close()
        self._poll_thread.shutdown(wait=False, cancel_futures=True)
        self._query_threads.shutdown(wait=False, cancel_futures=True)
        self.client.close()


def sleep_in_thread(seconds: float, closed: threading.Event) -> None:
    """Wait in a thread for so many seconds, or until the sender is closed."""
    closed.wait(seconds)


@dataclass(eq=False)
class _Turn:
    """
    The turn of a poll or query. Times are on the loop's clock.

    :param is_poll: whether it is a poll's
    :param deadline: when its first request must be sent
    :param max_time: seconds within which it may send further requests; None for those of a query
    """

    is_poll: bool = False
    deadline: float = math.inf
    max_time: float | None = None
    send_until: float = math.inf
    """When its last request may be sent."""
    is_unused: bool = False
    """Whether its first request, for which it has a turn, was not sent yet."""
    is_cancelled: bool = False
    work: asyncio.Future[Any] | None = None
    """What runs in a thread."""


class _Local(threading.local):
    turn = _Turn()
    """The turn of the poll or query that runs in this thread; of none in others."""


class _Outage:
    """Logs an outage once for all requests, and slows them down during it."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._log = OutageLog(log)

    def failed(self, error: ControlHubError) -> None:
        if error.http_status == HTTPStatus.TOO_MANY_REQUESTS:
            # Not an outage: the request rate logs it and delays the next request.
            return
        run_for_all(self._log.failed, error)
        self._backoff.failed(error)

    def succeeded(self) -> None:
        run_for_all(self._log.succeeded)


class SharedCredential:
    """
    Handles rejections of a client's credential, once for all rejected requests.

    :param client: the client
    :param refresh: called when a request was rejected, with the error and the number of its previous rejections.
        Returns, after a delay, a client with a newer credential, or None to retry with the same one; raises if the
        rejection is confirmed. Without `refresh`, every rejection counts as confirmed
    """

    def __init__(self, client: ControlHubClient, refresh: Refresh | None) -> None:
        self._client = client
        self._refresh = refresh
        self._refresh_task: asyncio.Task[None] | None = None
        self._rejections = 0
        self.generation = 0
        """Incremented whenever rejected requests must be retried, with a new credential or with the same one."""

    @property
    def is_rejected(self) -> bool:
        """Whether a retry is pending, so that no requests may be sent."""
        return self._refresh_task is not None

    async def wait_idle(self, timeout: float = math.inf) -> None:
        """
        Wait until no retry is pending.

        :param timeout: maximum seconds to wait
        """
        if self._refresh_task is not None:
            await _end_of(self._refresh_task, timeout)

    async def wait_refreshed(
        self, error: ControlHubAuthenticationError, generation: int, rejections: int, timeout: float = math.inf
    ) -> int:
        """
        Wait until a rejected request must be retried.

        :param error: error of the rejected request
        :param generation: :attr:`generation` when the request was sent
        :param rejections: number of previous rejections of the request
        :param timeout: maximum seconds to wait
        :returns: the new number of rejections; not incremented after a shorter delay, set by a request with fewer of
            them
        :raises asyncio.TimeoutError: if the timeout passes first
        :raises ControlHubError: if the rejection is confirmed
        """
        if generation != self.generation:
            return rejections
        if self._refresh is None:
            raise error
        if self._refresh_task is None:
            self._rejections = rejections
            self._refresh_task = spawn(self._replace(self._refresh, error, rejections))
            # Retrieves the error, as all requests that wait for it can be cancelled.
            self._refresh_task.add_done_callback(lambda task: task.cancelled() or task.exception())
        refresh_task, counted = self._refresh_task, self._rejections
        await _end_of(refresh_task, timeout)
        if not refresh_task.done():
            raise asyncio.TimeoutError
        if not refresh_task.cancelled():
            refresh_task.result()
        return rejections + 1 if counted >= rejections else rejections

    def adopt(self, client: ControlHubClient) -> None:
        """
        Replace the credential at once.

        :param client: client with the new credential; must not be used any more
        """
        self._client.adopt(client)
        self.generation += 1
        self.close()

    def close(self) -> None:
        """Cancel the pending retry."""
        refresh_task, self._refresh_task = self._refresh_task, None
        if refresh_task is not None:
            refresh_task.cancel()

    async def _replace(self, refresh: Refresh, error: ControlHubAuthenticationError, rejections: int) -> None:
        try:
            client = await refresh(error, rejections)
        finally:
            if self._refresh_task is asyncio.current_task():
                self._refresh_task = None
        if client is None:
            self.generation += 1
        else:
            self.adopt(client)


async def _end_of(task: asyncio.Task[None], timeout: float) -> None:
    await asyncio.wait({task}, timeout=None if timeout == math.inf else max(timeout, 0.0))


async def _acquire(semaphore: asyncio.Semaphore, timeout: float | None) -> None:
    """Acquire a semaphore with a timeout. `asyncio.wait_for` can swallow a cancellation before Python 3.12."""
    task = asyncio.ensure_future(semaphore.acquire())
    try:
        await asyncio.wait({task}, timeout=timeout)
    except asyncio.CancelledError:
        if not task.cancel():
            semaphore.release()
        raise
    if not task.done():
        task.cancel()
        raise asyncio.TimeoutError
