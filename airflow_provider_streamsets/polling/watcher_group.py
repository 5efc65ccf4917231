"""Poll Control Hub once per interval for all watchers of a connection, and load the reports of finished runs."""

from __future__ import annotations

import asyncio
import logging
import math
import weakref
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubRunLostError,
    ControlHubUnexpectedResponseError,
)
from airflow_provider_streamsets.control_hub.tracking.finished_run import FinishedRunReader
from airflow_provider_streamsets.polling.connections import PerLoop, connection_settings, spawn
from airflow_provider_streamsets.polling.request_rate import request_rates
from airflow_provider_streamsets.polling.schedule import Backoff
from airflow_provider_streamsets.polling.sender import RequestSender
from airflow_provider_streamsets.polling.stats import PollerStats
from airflow_provider_streamsets.polling.subscriptions import Wakeup
from airflow_provider_streamsets.polling.watcher_query import PollResult, WatcherQuery

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient
    from airflow_provider_streamsets.control_hub.models import JobRun
    from airflow_provider_streamsets.control_hub.tracking.report import RunReport
    from airflow_provider_streamsets.polling.run_watcher import RunWatcher

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


class WatcherGroup:
    """
    Polls the jobs of all its watchers, and yields the results as items.

    Never raises: it retries during an outage, and while the credential is rejected, as that may be replaced. It adopts
    an edited connection, even one to another organization: unlike a wait, a watcher is not tied to a run.

    :param conn_id: id of the Airflow connection
    :param interval: seconds between two polls
    """

    def __init__(self, conn_id: str, interval: float) -> None:
        self.interval = interval
        self._conn_id = conn_id
        self._now = asyncio.get_running_loop().time
        self._watchers: set[RunWatcher] = set()
        self._max_delay = max(interval, _MAX_DELAY)
        self._backoff = Backoff(lambda: interval, lambda: self._max_delay, self._now)
        self._sender: RequestSender | None = None
        self._query: WatcherQuery
        self._fingerprint = ""
        self._reports: weakref.WeakValueDictionary[ReportRequest, asyncio.Task[RunReport | None]] = (
            weakref.WeakValueDictionary()
        )
        self._is_rejected = self._has_failed = False
        self._last_number = 0
        self._poll_due = self._item_due = math.inf
        # One for each stream: more than one briefly, when one stream ends and the next one starts.
        self._wakeups: set[Wakeup] = set()
        self._connection_task: asyncio.Task[None] | None = None
        self._connection_wakeup = Wakeup()

    def join(self, watcher: RunWatcher) -> None:
        """Add a watcher, and poll its jobs soon."""
        self._watchers.add(watcher)
        if not self._has_failed:
            self._poll_due = min(self._poll_due, self._now() + _BATCHING_DELAY)
        self._wake()

    def leave(self, watcher: RunWatcher) -> None:
        """Remove a watcher."""
        self._watchers.discard(watcher)

    def request_item(self, delay: float = _BATCHING_DELAY) -> None:
        """
        Request an item for all watchers.

        :param delay: maximum seconds until the item
        """
        self._item_due = min(self._item_due, self._now() + delay)
        self._wake()

    def acknowledge(self, number: int, *, clean: bool) -> None:
        """Pass the acknowledgement of an item to all watchers; see :meth:`RunWatcher.acknowledge`."""
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
        Run a function that sends requests in a thread; see :meth:`RequestSender.run_query`.

        :param query: the function
        :raises ControlHubError: as raised by the query
        """
        sender = self._sender
        assert sender is not None  # noqa: S101 # nosec B101 # queries follow from the first poll
        return await sender.run_query(lambda: query(sender.client))

    def load_report(self, run: ReportRequest, latest: JobRun, job_name: str) -> asyncio.Task[RunReport | None]:
        """
        Load the report of a finished run; watchers of the same job share the task.

        :param run: the run
        :param latest: the job's latest run: this one or a later one
        :param job_name: name of the job, empty if unknown
        :returns: task that returns the report, or None if Control Hub no longer has the run
        """
        task = self._reports.get(run)
        if task is None or task.cancelled():
            assert self._sender is not None  # noqa: S101 # nosec B101 # reports follow from the first poll
            loader = _ReportLoader(self._sender, self.interval, run, latest, job_name)
            task = self._reports[run] = spawn(loader.load())
            task.add_done_callback(lambda _: self.request_item())
        return task

    async def items(self) -> AsyncIterator[PollItem]:
        """Yield items without end."""
        wakeup = Wakeup()
        self._wakeups.add(wakeup)
        if self._connection_task is None:
            self._connection_task = spawn(self._follow_connection())
        poll: asyncio.Task[PollResult | None] | None = None
        try:
            while True:
                result = None
                if poll is not None and poll.done():
                    result, poll = poll.result(), None
                now = self._now()
                if result is not None or self._item_due <= now:
                    self._item_due = math.inf
                    self._last_number += 1
                    yield PollItem(self._last_number, result)
                    continue
                due = self._item_due
                if poll is None and self._watchers and self._sender is not None:
                    if self._poll_due <= now:
                        poll = spawn(self._poll(self._sender))
                        poll.add_done_callback(lambda _: wakeup.wake())
                    else:
                        due = min(due, self._poll_due)
                await wakeup.wait(None if due == math.inf else due - now)
        finally:
            self._wakeups.discard(wakeup)
            if poll is not None:
                poll.cancel()
            self.close()

    def close(self) -> None:
        """Cancel running tasks and close the session, unless another stream is open."""
        if self._wakeups:
            return
        for task in [self._connection_task, *self._reports.values()]:
            if task is not None:
                task.cancel()
        if self._sender is not None:
            self._sender.close()
        self._connection_task, self._sender, self._fingerprint = None, None, ""

    def _wake(self) -> None:
        for wakeup in self._wakeups:
            wakeup.wake()

    async def _poll(self, sender: RequestSender) -> PollResult | None:
        polled = set(self._watchers)
        selectors = {watcher.selector for watcher in polled}
        try:
            # The query as it is when the poll is sent: before a retry, the connection may be replaced.
            result = await sender.run_poll(lambda: self._query.poll(selectors))
        except ControlHubConfigurationError as error:
            self._pause(error)
            self._poll_due = self._now() + self._max_delay
        except ControlHubError as error:
            self._failed(sender, error)
        except Exception as error:
            if not self._has_failed:
                log.exception("Unexpected error while polling for finished runs; retrying.")
            self._failed(sender, ControlHubUnexpectedResponseError(f"Could not read the latest runs: {error}"))
        else:
            sender.poll_succeeded()
            self._is_rejected = self._has_failed = False
            # Watchers that joined during the poll do not wait for the next interval.
            self._poll_due = self._now() + (self.interval if self._watchers <= polled else _BATCHING_DELAY)
            return result
        return None

    def _failed(self, sender: RequestSender, error: ControlHubError) -> None:
        sender.poll_failed(error)
        self._has_failed = True
        self._poll_due = self._backoff.until
        if error.http_status != HTTPStatus.TOO_MANY_REQUESTS:
            self._connection_wakeup.wake()

    def _pause(self, error: Exception) -> None:
        if not self._is_rejected:
            log.error(
                "%s Asset events are paused until this is fixed; re-reading connection '%s' every %g s.",
                error,
                self._conn_id,
                _CONNECTION_INTERVAL_WHEN_REJECTED,
            )
            # The connection may already have a new credential.
            self._connection_wakeup.wake()
        self._is_rejected = self._has_failed = True

    async def _retry_rejected(self, error: ControlHubAuthenticationError, rejections: int) -> None:
        """Wait until a rejected poll must be retried, as a rejection can be a fault (contract section 15)."""
        self._pause(error)
        await asyncio.sleep(min(self.interval * 2.0 ** min(rejections, 60), self._max_delay))

    async def _follow_connection(self) -> None:
        """Read the connection at intervals, and after failures, and adopt what has changed."""
        while True:
            try:
                await self._read_connection()
            except Exception as error:  # noqa: BLE001 - polling continues on any error
                if self._sender is None:
                    self._pause(error)
                else:
                    log.warning("%s Continuing with the previous settings of connection '%s'.", error, self._conn_id)
            await self._connection_wakeup.wait(
                _CONNECTION_INTERVAL_WHEN_REJECTED if self._is_rejected else _CONNECTION_INTERVAL
            )

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
        if self._sender is None:
            # One service may reject all details (contract section 15): that must not pause the events of other runs.
            self._sender = RequestSender(
                client,
                self._backoff,
                PollerStats("assets", self._conn_id, self._now),
                request_rates.get()[settings.sharing_key],
                self._retry_rejected,
                _CONCURRENT_QUERIES,
                retry_queries=False,
            )
        else:
            log.info("Connection '%s' has changed; polling with the new settings.", self._conn_id)
            self._sender.adopt(client)
        self._query = WatcherQuery(self._sender.client, list_every=int(_LISTING_INTERVAL // self.interval))
        self._fingerprint = settings.fingerprint
        if self._is_rejected:
            self._poll_due = self._now()
        self._wake()


class _ReportLoader:
    """Loads the report of a finished run, with retries until it is available."""

    def __init__(
        self, sender: RequestSender, interval: float, run: ReportRequest, latest: JobRun, job_name: str
    ) -> None:
        self._sender = sender
        self._interval = interval
        self._run = run
        # The sender keeps its client when the credential is replaced.
        self._reader = FinishedRunReader(
            sender.client,
            latest,
            job_id=run.job_id,
            run_count=run.run_count,
            job_name=job_name,
            metrics_timeout=run.metrics_timeout,
            now=sender.now,
            log=log,
            outage=sender.outage,
        )
        self._has_failed = False

    async def load(self) -> RunReport | None:
        while True:
            delay = self._interval
            try:
                report = await self._sender.run_query(self._reader.poll)
                if report is not None:
                    return report
                delay = self._reader.next_delay(delay)
            except ControlHubRunLostError as error:
                log.warning("%s It gets no asset event.", error)
                return None
            except ControlHubError as error:
                self._log_failure(error)
            except Exception as error:  # noqa: BLE001 - a finished run must not be lost
                self._log_failure(error, with_traceback=True)
            await asyncio.sleep(delay)

    def _log_failure(self, error: Exception, *, with_traceback: bool = False) -> None:
        if not self._has_failed:
            self._has_failed = True
            log.warning(
                "Run %d of job %s has finished, but its report could not be read: %s Retrying every %g s.",
                self._run.run_count,
                self._run.job_id,
                error,
                self._interval,
                exc_info=with_traceback,
            )


_groups: PerLoop[weakref.WeakValueDictionary[tuple[str, float], WatcherGroup]] = PerLoop(weakref.WeakValueDictionary)


def watcher_group(conn_id: str, interval: float) -> WatcherGroup:
    """
    Return the group that all watchers with the same connection and interval share on this event loop.

    :param conn_id: id of the Airflow connection
    :param interval: seconds between two polls
    """
    groups = _groups.get()
    group = groups.get((conn_id, interval))
    if group is None:
        group = groups[conn_id, interval] = WatcherGroup(conn_id, interval)
    return group
