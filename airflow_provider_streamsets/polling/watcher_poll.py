"""The shared poll of all watches over one connection: one look at Control Hub for all of them at each interval."""

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

# Watches that begin together are served by one look, and runs that finish together by one item.
_BATCHING_DELAY = 0.2
# Requests that concern one run only are sent by so many threads at a time.
_CONCURRENT_QUERIES = 4
# Seconds between two looks during an outage, at the most, unless the interval is longer.
_MAX_DELAY = 120.0
# Seconds between two readings of the connection, and while Control Hub refuses its credential.
_CONNECTION_INTERVAL = 300.0
_CONNECTION_INTERVAL_WHEN_REJECTED = 30.0
# Seconds between two whole lists of the jobs with a tag, if nothing shows that one of them has changed.
_LISTING_INTERVAL = 300.0

_Result = TypeVar("_Result")


class Watcher(Protocol):
    """What takes part in the shared poll."""

    @property
    def selector(self) -> JobSelector:
        """The jobs that it wants to know about."""

    def acknowledge(self, number: int, last: int, *, clean: bool) -> None:
        """
        Take note that all that was made of an item is stored, or has failed.

        :param number: number of the item
        :param last: number of the newest item
        :param clean: nothing of it has failed, for no watch
        """


class ReportRequest(NamedTuple):
    """
    A finished run whose report is wanted.

    :param latest_started: when the job's latest run was started; a job that was deleted and imported again has other runs
        of the same numbers
    :param metrics_timeout: seconds to wait for its final metrics, at the most
    """

    job_id: str
    run_count: int
    latest_started: datetime | None
    metrics_timeout: float


class PollItem(NamedTuple):
    """
    What all watches are handed at the same time.

    :param number: grows by one for each
    :param result: what was found; None if nobody has looked, and only something that was asked for is ready
    """

    number: int
    result: PollResult | None


def spawn(coroutine: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
    """Run a coroutine as a task whose log lines do not go to whichever trigger happened to start it."""
    return contextvars.Context().run(asyncio.get_running_loop().create_task, coroutine)


class WatcherGroup:
    """
    Looks, in a thread, at all jobs that its watches want to know about, and yields what it finds as items.

    Never raises: an outage is waited out, and so is a credential that is refused, as it may be replaced. An edited
    connection is followed, also to another organization: unlike a wait, a watch has no run that it must stay with.

    :param conn_id: id of the Airflow connection
    :param interval: seconds between two looks
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
        """The reports that are being read, so that watches of the same job share them."""
        self._is_rejected = False
        self._outage = OutageLog(log)
        self._last_number = 0
        self._poll_due = self._item_due = math.inf
        self._connection_due = -math.inf
        # Several only for the moment in which one stream ends and the next one begins.
        self._wakeups: set[asyncio.Future[None]] = set()
        self._is_reachable = asyncio.Event()
        self._query_slots = asyncio.Semaphore(_CONCURRENT_QUERIES)
        self._has_failed = False
        self._backoff = Backoff(lambda: interval, lambda: max(interval, _MAX_DELAY), self._now)

    def join(self, watcher: Watcher) -> None:
        """Let a watch take part; it is served soon."""
        self._watchers.add(watcher)
        if not self._has_failed:
            self._poll_due = min(self._poll_due, self._now() + _BATCHING_DELAY)
        self._notify()

    def leave(self, watcher: Watcher) -> None:
        """Let a watch take part no longer."""
        self._watchers.discard(watcher)

    def request_item(self, delay: float = _BATCHING_DELAY) -> None:
        """
        Let all watches have an item.

        :param delay: seconds from now, at the most
        """
        self._item_due = min(self._item_due, self._now() + delay)
        self._notify()

    def acknowledge(self, number: int, *, clean: bool) -> None:
        """Tell the watches that all that was made of an item is stored, or has failed; as :meth:`Watcher.acknowledge`."""
        for watcher in list(self._watchers):
            try:
                watcher.acknowledge(number, self._last_number, clean=clean)
            except Exception:
                # An error here would end the stream for all watches.
                log.exception("It could not be noted how far the runs of %s are reported.", watcher.selector)

    async def run_query(self, query: Callable[[ControlHubClient], _Result]) -> _Result:
        """
        Ask Control Hub, in a thread, something that concerns one run only; not during an outage.

        :param query: sends the requests
        :raises ControlHubError: as the question
        """
        async with self._query_slots:
            await self._is_reachable.wait()
            assert self._client is not None  # noqa: S101 # nosec B101 # Control Hub has been reached
            return await asyncio.to_thread(query, self._client)

    def mark_unreachable(self) -> None:
        """Ask no more questions before the next look has shown that Control Hub can be reached. From any thread."""
        self._loop.call_soon_threadsafe(self._is_reachable.clear)

    async def items(self) -> AsyncIterator[PollItem]:
        """Yield items for ever."""
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
        """End what is under way, and close the session."""
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
                log.exception("The look for finished runs met an error of its own; looking again later.")
            self._failed(ControlHubUnexpectedAnswerError(f"The runs could not be read: {error}"))
        else:
            self._succeeded()
            # Those that have joined meanwhile do not wait for the next interval.
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
                "%s No finished runs are noticed until that is mended; connection '%s' is read again every %g s.",
                error,
                self._conn_id,
                _CONNECTION_INTERVAL_WHEN_REJECTED,
            )
        # A new credential may be there already.
        self._connection_due = self._now() + (_CONNECTION_INTERVAL_WHEN_REJECTED if self._is_rejected else 0.0)
        self._is_rejected = self._has_failed = True
        self._is_reachable.clear()
        # A refusal can be trouble of the security service (contract, 19.1): the same credential is tried again.
        self._backoff.failed(ControlHubError(str(error)))
        self._poll_due = self._backoff.until

    async def _read_connection_if_due(self) -> None:
        if self._now() < self._connection_due:
            return
        self._schedule_connection_read()
        if self._client is None:
            await self._read_connection()
        elif self._connection_task is None or self._connection_task.done():
            # Beside the looks, which go on with what the connection said before.
            self._connection_task = spawn(self._reread_connection())

    async def _reread_connection(self) -> None:
        try:
            await self._read_connection()
        except Exception as error:  # noqa: BLE001 - whatever it is, the looks go on
            log.warning("%s Going on with what connection '%s' said before.", error, self._conn_id)

    async def _read_connection(self) -> None:
        try:
            settings = await connection_settings(self._conn_id)
        except (ControlHubError, AirflowNotFoundException):
            raise
        except Exception as error:
            raise ControlHubConfigurationError(
                f"Connection '{self._conn_id}' could not be read ({type(error).__name__}: {error})."
            ) from error
        if settings.fingerprint == self._fingerprint:
            return
        client = settings.client(max_attempts=1)
        if self._client is not None:
            log.info("Connection '%s' has changed; looking with what it says now.", self._conn_id)
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
    Return the group that all watches with a connection and an interval share on this event loop.

    :param conn_id: id of the Airflow connection
    :param interval: seconds between two looks
    """
    groups = _groups.setdefault(asyncio.get_running_loop(), weakref.WeakValueDictionary())
    group = groups.get((conn_id, interval))
    if group is None:
        group = groups[conn_id, interval] = WatcherGroup(conn_id, interval)
    return group
