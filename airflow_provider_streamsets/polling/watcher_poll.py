"""Poll Control Hub once per interval for all watchers of a connection."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubUnexpectedAnswerError,
)
from airflow_provider_streamsets.control_hub.tracking.run import OutageLog
from airflow_provider_streamsets.polling.connections import connection_settings
from airflow_provider_streamsets.polling.schedule import Backoff
from airflow_provider_streamsets.polling.watcher_query import JobSelector, PollResult, WatcherQuery

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient
    from airflow_provider_streamsets.control_hub.tracking.report import RunReport

log = logging.getLogger(__name__)

# Delay so that watchers that start together share a poll, and runs that finish together share an item.
_BATCHING_DELAY = 0.2
# Maximum concurrent requests about single runs.
_CONCURRENT_QUERIES = 4
# Maximum seconds between two polls during an outage, unless the interval is longer.
_MAX_DELAY = 120.0
# Seconds between two reads of the connection, and the same while Control Hub rejects its credential.
_CONNECTION_INTERVAL = 300.0
_CONNECTION_INTERVAL_WHEN_REJECTED = 30.0
# Seconds between two complete lists of the jobs with a tag, if their change key has not changed.
_LISTING_INTERVAL = 300.0

_Result = TypeVar("_Result")


class Watcher(Protocol):
    """A member of a watcher group."""

    @property
    def selector(self) -> JobSelector:
        """The jobs to watch."""

    def acknowledge(self, number: int, last: int, *, clean: bool) -> None:
        """
        Record that Airflow has processed the events of an item.

        :param number: number of the item
        :param last: number of the newest item
        :param clean: whether the events of all watchers were stored
        """


class ReportRequest(NamedTuple):
    """
    Request for the report of a finished run.

    :param latest_started: start time of the job's latest run; a job that was deleted and imported again has other runs
        of the same numbers
    :param metrics_timeout: maximum seconds to wait for the final metrics
    """

    job_id: str
    run_count: int
    latest_started: datetime | None
    metrics_timeout: float


class PollItem(NamedTuple):
    """
    Item of the shared stream, which all watchers receive.

    :param number: sequence number
    :param result: result of a poll; None if the item only signals that requested data is ready
    """

    number: int
    result: PollResult | None


def spawn(coroutine: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
    """Run a coroutine as a task in a new context, so that its log lines do not go to the log of one trigger."""
    return contextvars.Context().run(asyncio.get_running_loop().create_task, coroutine)


class WatcherGroup:
    """
    Polls the jobs of all its watchers in a thread, and yields the results as items.

    Never raises: it retries during an outage, and while the credential is rejected, as that may be replaced. It adopts
    an edited connection, even one to another organization: unlike a wait, a watcher is not tied to a run.

    :param conn_id: id of the Airflow connection
    :param interval: seconds between two polls
    """

    def __init__(self, conn_id: str, interval: float) -> None:
        self.interval = interval
        self._conn_id = conn_id
        self._watchers: set[Watcher] = set()
        self._client: ControlHubClient | None = None
        self._query: WatcherQuery | None = None
        self._fingerprint = ""
        self._connection_task: asyncio.Task[None] | None = None
        self.reports: weakref.WeakValueDictionary[ReportRequest, asyncio.Task[RunReport | None]] = (
            weakref.WeakValueDictionary()
        )
        """Reports that are loading; watchers of the same job share them."""
        self._is_rejected = False
        self._outage = OutageLog(log)
        self._last_number = 0
        self._poll_due = self._item_due = math.inf
        self._connection_due = -math.inf
        # More than one only briefly, when one stream ends and the next one starts.
        self._wakeups: set[asyncio.Future[None]] = set()
        self._is_reachable = asyncio.Event()
        self._query_slots = asyncio.Semaphore(_CONCURRENT_QUERIES)
        self._has_failed = False
        self._backoff = Backoff(lambda: interval, lambda: max(interval, _MAX_DELAY), self._now)

    def join(self, watcher: Watcher) -> None:
        """Add a watcher, and poll its jobs soon."""
        self._watchers.add(watcher)
        if not self._has_failed:
            self._poll_due = min(self._poll_due, self._now() + _BATCHING_DELAY)
        self._notify()

    def leave(self, watcher: Watcher) -> None:
        """Remove a watcher."""
        self._watchers.discard(watcher)

    def request_item(self, delay: float = _BATCHING_DELAY) -> None:
        """
        Request an item for all watchers.

        :param delay: maximum seconds until the item
        """
        self._item_due = min(self._item_due, self._now() + delay)
        self._notify()

    def acknowledge(self, number: int, *, clean: bool) -> None:
        """Pass the acknowledgement of an item to all watchers; see :meth:`Watcher.acknowledge`."""
        for watcher in list(self._watchers):
            try:
                watcher.acknowledge(number, self._last_number, clean=clean)
            except Exception:
                # An error here would end the stream for all watchers.
                log.exception(
                    "Could not update the watch position for %s; a restart of the triggerer can repeat asset events.",
                    watcher.selector,
                )

    async def run_query(self, query: Callable[[ControlHubClient], _Result]) -> _Result:
        """
        Run a function that sends requests in a thread; during an outage, wait for its end first.

        :param query: the function
        :raises ControlHubError: as raised by the query
        """
        async with self._query_slots:
            await self._is_reachable.wait()
            assert self._client is not None  # noqa: S101 # nosec B101 # set before `_is_reachable`
            return await asyncio.to_thread(query, self._client)

    def mark_unreachable(self) -> None:
        """Pause queries until the next successful poll. Thread-safe."""
        self._loop.call_soon_threadsafe(self._is_reachable.clear)

    async def items(self) -> AsyncIterator[PollItem]:
        """Yield items without end."""
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                await self._wait_until_due()
                result = await self._poll_if_due()
                if result is not None or self._item_due <= self._now():
                    self._item_due = math.inf
                    self._last_number += 1
                    yield PollItem(self._last_number, result)
        finally:
            self.close()

    def close(self) -> None:
        """Cancel running tasks, and close the session."""
        for task in [self._connection_task, *self.reports.values()]:
            if task is not None:
                task.cancel()
        if self._client is not None:
            self._client.close()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _notify(self) -> None:
        for wakeup in self._wakeups:
            if not wakeup.done():
                wakeup.set_result(None)

    async def _wait_until_due(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = min(self._poll_due, self._connection_due) if self._watchers else math.inf
            remaining = min(due, self._item_due) - loop.time()
            if remaining <= 0:
                return
            # Not asyncio.wait_for: before Python 3.12, it can swallow a cancellation.
            wakeup = loop.create_future()
            self._wakeups.add(wakeup)
            timer = None if remaining == math.inf else loop.call_later(remaining, self._notify)
            try:
                await wakeup
            finally:
                self._wakeups.discard(wakeup)
                if timer is not None:
                    timer.cancel()

    async def _poll_if_due(self) -> PollResult | None:
        started = self._now()
        try:
            await self._read_connection_if_due()
            if not self._watchers or started < self._poll_due or self._query is None:
                return None
            polled = set(self._watchers)
            result = await asyncio.to_thread(self._query.poll, {watcher.selector for watcher in polled})
        except (ControlHubAuthenticationError, ControlHubConfigurationError, AirflowNotFoundException) as error:
            self._credential_failed(error)
        except ControlHubError as error:
            self._failed(error)
        except Exception as error:
            if not self._has_failed:
                log.exception("Unexpected error while polling for finished runs; retrying.")
            self._failed(ControlHubUnexpectedAnswerError(f"Could not read the latest runs: {error}"))
        else:
            self._succeeded()
            # Watchers that joined during the poll do not wait for the next interval.
            self._poll_due = self._now() + (self.interval if self._watchers <= polled else _BATCHING_DELAY)
            return result
        return None

    def _succeeded(self) -> None:
        self._is_rejected = False
        self._has_failed = False
        self._backoff.succeeded()
        self._outage.succeeded()
        self._is_reachable.set()

    def _failed(self, error: ControlHubError) -> None:
        self._outage.failed(error)
        self._backoff.failed(error)
        self._has_failed = True
        self._is_reachable.clear()
        self._connection_due = self._now()
        self._poll_due = self._backoff.until

    def _credential_failed(self, error: Exception) -> None:
        if not self._is_rejected:
            log.error(
                "%s Asset events are paused until this is fixed; re-reading connection '%s' every %g s.",
                error,
                self._conn_id,
                _CONNECTION_INTERVAL_WHEN_REJECTED,
            )
        # The connection may already have a new credential.
        self._connection_due = self._now() + (_CONNECTION_INTERVAL_WHEN_REJECTED if self._is_rejected else 0.0)
        self._is_rejected = self._has_failed = True
        self._is_reachable.clear()
        # A rejection can be a fault of the security service (contract section 15), so the same credential is retried.
        self._backoff.failed(ControlHubError(str(error)))
        self._poll_due = self._backoff.until

    async def _read_connection_if_due(self) -> None:
        if self._now() < self._connection_due:
            return
        self._schedule_connection_read()
        if self._client is None:
            await self._read_connection()
        elif self._connection_task is None or self._connection_task.done():
            # In the background; polls continue with the previous settings.
            self._connection_task = spawn(self._reread_connection())

    async def _reread_connection(self) -> None:
        try:
            await self._read_connection()
        except Exception as error:  # noqa: BLE001 - polling continues on any error
            log.warning("%s Continuing with the previous settings of connection '%s'.", error, self._conn_id)

    async def _read_connection(self) -> None:
        try:
            settings = await connection_settings(self._conn_id)
        except (ControlHubError, AirflowNotFoundException):
            raise
        except Exception as error:
            raise ControlHubConfigurationError(
                f"Could not read connection '{self._conn_id}' ({type(error).__name__}: {error})."
            ) from error
        if settings.fingerprint == self._fingerprint:
            return
        client = settings.client(max_attempts=1)
        if self._client is not None:
            log.info("Connection '%s' has changed; polling with the new settings.", self._conn_id)
            self._client.close()
        query = WatcherQuery(client, list_every=int(_LISTING_INTERVAL // self.interval))
        self._client, self._query, self._fingerprint = client, query, settings.fingerprint
        if self._is_rejected:
            self._poll_due = self._now()
            self._notify()

    def _schedule_connection_read(self) -> None:
        delay = _CONNECTION_INTERVAL_WHEN_REJECTED if self._is_rejected else _CONNECTION_INTERVAL
        self._connection_due = self._now() + delay


_groups: weakref.WeakKeyDictionary[
    asyncio.AbstractEventLoop, weakref.WeakValueDictionary[tuple[str, float], WatcherGroup]
] = weakref.WeakKeyDictionary()


def watcher_group(conn_id: str, interval: float) -> WatcherGroup:
    """
    Return the group that all watchers with the same connection and interval share on this event loop.

    :param conn_id: id of the Airflow connection
    :param interval: seconds between two polls
    """
    groups = _groups.setdefault(asyncio.get_running_loop(), weakref.WeakValueDictionary())
    group = groups.get((conn_id, interval))
    if group is None:
        group = groups[conn_id, interval] = WatcherGroup(conn_id, interval)
    return group
