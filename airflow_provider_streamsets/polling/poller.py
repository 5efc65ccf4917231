"""One status feed for each connection: all waits of a triggerer share its requests."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import itertools
import logging
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_streamsets.control_hub.bulk_status import BulkStatusReader
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubPermissionError,
    ControlHubUnexpectedAnswerError,
)
from airflow_provider_streamsets.control_hub.status_snapshot import StatusSnapshot
from airflow_provider_streamsets.control_hub.tracking.run import NotifyOn, OutageListener, OutageLog, poll_delay
from airflow_provider_streamsets.polling.connections import ConnectionRefresh
from airflow_provider_streamsets.polling.credential import Refresh, SharedCredential
from airflow_provider_streamsets.polling.schedule import Backoff, BatchSize, PollSchedule
from airflow_provider_streamsets.polling.subscriptions import JobSubscription, Subscription, WatchedJob

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient
    from airflow_provider_streamsets.hooks.connection import ConnectionSettings

log = logging.getLogger(__name__)

# Subscribers that come together, as after a restart of the triggerer, are served by one request.
_BATCHING_DELAY = 0.1
# Seconds too short to be waited for: a timer can end that much before its time.
_MIN_DELAY = 0.001
# Requests that concern one run only (its end, its metrics) are sent by so many threads.
_CONCURRENT_QUERIES = 8

_Result = TypeVar("_Result")


class _QueryOutage:
    """Is told how questions end: an outage is logged once, not for each run, and slows the feed down."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._log = OutageLog(log)

    def failed(self, error: ControlHubError) -> None:
        self._log.failed(error)
        self._backoff.failed(error)

    def succeeded(self) -> None:
        self._log.succeeded()


class SharedStatusPoller:
    """
    Asks for the statuses of all jobs that are waited for, in one request for many, one after the other, in a thread.

    Looks from the first subscriber to the last. It belongs to the event loop on which it was made. Failed requests slow
    all of it down; no subscriber is told of them. When the credential is refused, requests are repeated with back-off,
    with a new credential as soon as there is one; when the refusal is confirmed, all waits fail, unless statuses were
    read meanwhile. Used as a context manager, it is kept for questions when there are no subscribers.

    :param client: client of the connection; it should not repeat requests, as the feed itself looks again
    :param on_unused: called when the last user has left
    :param refresh: as that of :class:`~airflow_provider_streamsets.polling.credential.SharedCredential`
    :param batch_size: what is known of how many jobs one request can ask for, at the most the client's ``bulk_size``
    """

    def __init__(
        self,
        client: ControlHubClient,
        on_unused: Callable[[], None] = lambda: None,
        refresh: Refresh | None = None,
        batch_size: BatchSize | None = None,
    ) -> None:
        self.client = client
        """The same one as long as there is the feed, whatever its credential."""
        self._on_unused = on_unused
        self._credential = SharedCredential(client, refresh)
        self._users = 0
        self.now = asyncio.get_running_loop().time
        """The clock, in seconds."""
        self._jobs: dict[str, WatchedJob] = {}
        # Jobs by when they are due; entries that are out of date are left out when they come up.
        self._queue: list[tuple[float, int, WatchedJob]] = []
        self._numbers = itertools.count()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._query = BulkStatusReader(client)
        self._poll_outage = OutageLog(log)
        self._batch_size = batch_size or BatchSize()
        self._poll_schedule = PollSchedule(self._batch_size.within(client.bulk_size))
        self._backoff = Backoff.from_schedule(self._poll_schedule, self.now)
        self.outage: OutageListener = _QueryOutage(self._backoff)
        """To be told how requests of questions end, from whatever thread."""
        self._last_poll = float("-inf")
        self._poll_rejections = 0
        self._accepted_at = float("-inf")
        self._poll_thread = ThreadPoolExecutor(1, thread_name_prefix="control-hub-statuses")
        self._query_threads = ThreadPoolExecutor(_CONCURRENT_QUERIES, thread_name_prefix="control-hub-questions")
        self._query_slots = asyncio.Semaphore(_CONCURRENT_QUERIES)

    def __enter__(self) -> SharedStatusPoller:
        self._users += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._users -= 1
        if not self._users:
            self._on_unused()

    def subscribe(
        self, runs: Mapping[str, int], interval: float, notify_on: NotifyOn = NotifyOn.CHANGES
    ) -> Subscription:
        """
        Subscribe to the statuses of jobs; the subscription has to be closed.

        :param runs: job id and count of each run that is waited for
        :param interval: seconds between two looks at a run; at new runs, it is looked more often
        :param notify_on: which looks are told
        :raises ValueError: if one of them is no such number, which would otherwise end the feed for all
        """
        if not 0 < float(interval) < float("inf"):
            raise ValueError(f"{interval!r} is no interval between two looks")
        wanted = {str(job_id): int(run_count) for job_id, run_count in runs.items()}
        subscription = Subscription(self, float(interval), notify_on)
        now = self.now()
        for job_id, run_count in wanted.items():
            job = self._jobs.get(job_id)
            if job is None:
                job = self._jobs[job_id] = WatchedJob(job_id)
            else:
                self._poll_schedule.remove(job.interval)
            job.add(subscription.subscribe_job(job, run_count, started=now))
            self._poll_schedule.add(job.interval)
            self._schedule(job, now + _BATCHING_DELAY)
        self._changed.set()
        if self._task is None:
            # In a context of its own: in that of the first subscriber, all it logs would go to that one's task log.
            create_task = asyncio.get_running_loop().create_task
            self._task = contextvars.Context().run(create_task, self._run(), name="control-hub-status-feed")
        return subscription

    def leave(self, job_subscription: JobSubscription) -> None:
        """Look no more at a job for the sake of a subscriber."""
        job = job_subscription.job
        self._poll_schedule.remove(job.interval)
        job.remove(job_subscription)
        if job.subscriptions:
            self._poll_schedule.add(job.interval)
            return
        del self._jobs[job.job_id]
        self._poll_schedule.release(job.due)
        job.due = float("nan")
        self._query.forget(job.job_id)
        if not self._jobs and self._task is not None:
            self._task.cancel()
            self._task = None
            self._queue.clear()

    def close(self) -> None:
        """Release threads and connections; requests under way end by themselves."""
        self._credential.close()
        self._poll_thread.shutdown(wait=False, cancel_futures=True)
        self._query_threads.shutdown(wait=False, cancel_futures=True)
        self.client.close()

    async def run_query(self, query: Callable[[], _Result], timeout: float | None = None) -> _Result:
        """
        Run a function that sends requests of its own, in a thread, and only a few of them at a time.

        While the feed pauses after failures, or after a refused credential, questions wait, too. A refused one is asked
        again.

        :param query: the function
        :param timeout: seconds within which it has to begin
        :raises asyncio.TimeoutError: if it could not
        :raises ControlHubError: as the question
        """
        deadline = float("inf") if timeout is None else self.now() + timeout
        await _acquire(self._query_slots, timeout)
        rejections, rejected_at = 0, float("inf")
        try:
            while True:
                await self._wait_until_allowed(deadline)
                generation = self._credential.generation
                try:
                    return await asyncio.get_running_loop().run_in_executor(self._query_threads, query)
                except ControlHubAuthenticationError as error:
                    rejected_at = min(rejected_at, self.now())
                    try:
                        rejections = await self._credential.wait_refreshed(
                            error, generation, rejections, deadline - self.now()
                        )
                    except ControlHubError as confirmed:
                        # Statuses that were read meanwhile show that the credential is right.
                        if self._accepted_at <= rejected_at:
                            self._fail_all(confirmed)
                        raise
        finally:
            self._query_slots.release()

    async def _wait_until_allowed(self, deadline: float) -> None:
        """Return when a question may be asked."""
        while self._backoff.remaining or self._credential.is_rejected:
            remaining = deadline - self.now()
            if remaining <= 0:
                raise asyncio.TimeoutError
            if self._credential.is_rejected:
                await self._credential.wait_idle(remaining)
            else:
                await asyncio.sleep(min(self._backoff.remaining, remaining))

    def adopt(self, client: ControlHubClient) -> None:
        """
        Go on with another credential.

        :param client: a client with it, not to be used any more
        """
        self._credential.adopt(client)

    def _schedule(self, job: WatchedJob, due: float) -> None:
        self._poll_schedule.release(job.due)
        job.due = due
        heapq.heappush(self._queue, (due, next(self._numbers), job))

    def _first(self) -> WatchedJob | None:
        while self._queue and self._queue[0][0] != self._queue[0][2].due:
            heapq.heappop(self._queue)
        return self._queue[0][2] if self._queue else None

    def _next_poll_at(self) -> float | None:
        first = self._first()
        if first is None:
            return None
        return max(first.due, self._last_poll + self._poll_schedule.min_spacing, self._backoff.until)

    async def _run(self) -> None:
        # Before Python 3.12, `asyncio.wait_for` can swallow the cancellation of this task; another has its place then.
        while self._jobs and self._task is asyncio.current_task():
            self._changed.clear()
            at = self._next_poll_at()
            wait = None if at is None else at - self.now()
            if self._credential.is_rejected:
                await self._credential.wait_idle()
                continue
            if wait is None or wait > _MIN_DELAY:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), wait)
                continue
            try:
                await self._poll()
            except Exception as error:
                # A subscriber must not be failed by a fault of the feed: its own deadline bounds the wait.
                log.exception("The status feed met an error of its own; looking again later.")
                self._failed(ControlHubUnexpectedAnswerError(f"The statuses could not be read: {error}"))

    def _next_batch(self) -> list[WatchedJob]:
        """Take those that are due first; as they cost nothing more, also those that are not due yet."""
        size = self._poll_schedule.batch_size = self._batch_size.within(self.client.bulk_size)
        batch: list[WatchedJob] = []
        while len(batch) < size and (job := self._first()) is not None:
            heapq.heappop(self._queue)
            self._poll_schedule.release(job.due)
            job.due = float("nan")
            batch.append(job)
        return batch

    async def _poll(self) -> None:
        batch = self._next_batch()
        job_ids = [job.job_id for job in batch]
        answers: Mapping[str, StatusSnapshot | ControlHubError | None] = {}
        self._last_poll = self.now()
        generation = self._credential.generation
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._poll_thread, self._query.fetch, job_ids)
        except ControlHubAuthenticationError as error:
            try:
                self._poll_rejections = await self._credential.wait_refreshed(error, generation, self._poll_rejections)
            except ControlHubError as confirmed:
                self._fail_all(confirmed)
        except ControlHubConfigurationError as error:
            self._fail_all(error)
        except ControlHubPermissionError as error:
            # Of the only job: each wait finds out whether there is no such job.
            answers = dict.fromkeys(job_ids, error)
            self._succeeded(batch, answers)
        except ControlHubError as error:
            # Smaller requests would be even more of them.
            if error.http_status != HTTPStatus.TOO_MANY_REQUESTS:
                self._batch_size.failed(len(batch))
            self._failed(error)
        else:
            if self._query.too_large is None:
                self._batch_size.succeeded(len(batch), self.now() - self._last_poll)
            else:
                self._batch_size.rejected(self._query.too_large)
            self._succeeded(batch, answers)
        finally:
            self._reschedule(batch, answers)

    def _succeeded(
        self, batch: list[WatchedJob], answers: Mapping[str, StatusSnapshot | ControlHubError | None]
    ) -> None:
        self._poll_outage.succeeded()
        self._backoff.succeeded()
        self._poll_rejections = 0
        self._accepted_at = self.now()
        self._publish(batch, answers)

    def _failed(self, error: ControlHubError) -> None:
        self._poll_outage.failed(error)
        self._backoff.failed(error)

    def _fail_all(self, error: ControlHubError) -> None:
        self._fail(list(self._jobs.values()), error)

    @staticmethod
    def _fail(jobs: list[WatchedJob], error: ControlHubError) -> None:
        for job in jobs:
            for job_subscription in job.subscriptions:
                job_subscription.subscription.fail(error)

    def _publish(self, batch: list[WatchedJob], answers: Mapping[str, StatusSnapshot | ControlHubError | None]) -> None:
        now = self.now()
        for job in batch:
            if job.job_id not in answers:
                continue
            answer = answers[job.job_id]
            recipients = [
                job_subscription
                for job_subscription in job.subscriptions
                if job_subscription.should_notify(answer, now)
            ]
            if not recipients:
                continue
            for updates in self._query.parse({job.job_id: answer}).values():
                for job_subscription in recipients:
                    job_subscription.notify(answer, updates, now)

    def _reschedule(
        self, batch: list[WatchedJob], answers: Mapping[str, StatusSnapshot | ControlHubError | None]
    ) -> None:
        now, wall_clock = self.now(), time.time()
        # From its beginning, so that slow answers do not move the slots.
        polled_at = self._last_poll
        slots: dict[float, float] = {}
        for job in batch:
            if not job.subscriptions:
                continue
            if job.job_id not in answers:
                # Was not reached; how long requests pause before the next look is not decided here.
                self._schedule(job, now)
                continue
            delay = poll_delay(job.interval, max(now - job.started, _age(answers[job.job_id], job, wall_clock)))
            if delay >= job.interval and delay not in slots:
                slots[delay] = self._poll_schedule.slot(polled_at, delay)
            self._schedule(job, slots.get(delay, polled_at + delay))
            if delay in slots:
                self._poll_schedule.reserve(job.due)


def _age(answer: StatusSnapshot | ControlHubError | None, job: WatchedJob, wall_clock: float) -> float:
    """Return for how long the run that is waited for has been going on, as far as its status tells."""
    if not isinstance(answer, StatusSnapshot) or answer.started is None:
        return 0.0
    is_older = answer.run_count < max(job_subscription.run_count for job_subscription in job.subscriptions)
    return 0.0 if is_older else wall_clock - answer.started


async def _acquire(semaphore: asyncio.Semaphore, timeout: float | None) -> None:
    """Acquire within a time. Unlike `asyncio.wait_for` before Python 3.12, it never swallows a cancellation."""
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


class _ConnectionPoller(SharedStatusPoller):
    """
    The feed of a connection.

    When more than the credential of the connection has changed by the time that it is refused, and later waits have a
    feed for that already, this one goes on beside it until its own waits have ended.

    :param settings: what the connection says
    :param pollers: where it is found by what stays the same when the credential is replaced
    :raises ControlHubError: as :meth:`ConnectionSettings.client`
    """

    def __init__(self, settings: ConnectionSettings, pollers: dict[str, _ConnectionPoller]) -> None:
        self._settings = settings
        self._refresh = ConnectionRefresh(settings.conn_id, settings.credential_grace_period, max_attempts=1)
        super().__init__(
            settings.client(max_attempts=1),
            on_unused=self._forget,
            refresh=self._newer_client,
            batch_size=_batch_sizes.setdefault(asyncio.get_running_loop(), {}).setdefault(
                settings.sharing_key, BatchSize()
            ),
        )
        self._pollers = pollers
        pollers[settings.sharing_key] = self

    def use(self, settings: ConnectionSettings) -> None:
        """Go on with what the connection says now, if that is something new."""
        if settings.fingerprint != self._settings.fingerprint:
            self.adopt(settings.client(max_attempts=1))
            self._settings = settings

    async def _newer_client(self, error: ControlHubAuthenticationError, rejections: int) -> ControlHubClient | None:
        refreshed = await self._refresh.next_client(self.client, error, rejections)
        if refreshed is None:
            return None
        self._unregister()
        self._settings, client = refreshed
        self._pollers.setdefault(self._settings.sharing_key, self)
        return client

    def _forget(self) -> None:
        self._unregister()
        self.close()

    def _unregister(self) -> None:
        if self._pollers.get(self._settings.sharing_key) is self:
            del self._pollers[self._settings.sharing_key]


# By event loop, as neither threads nor connections survive a fork, and a forked process has a loop of its own.
_pollers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _ConnectionPoller]] = (
    weakref.WeakKeyDictionary()
)
# Kept when a feed ends, for the next one of the connection.
_batch_sizes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, BatchSize]] = weakref.WeakKeyDictionary()


def shared_poller(settings: ConnectionSettings) -> SharedStatusPoller:
    """
    Return the feed that all waits over a connection share on this event loop.

    There is one for each connection id and for all that the connection says but the credential. Waits that begin after
    another credential of the same organization was set bring it along for all. After an edit of anything else, waits
    that go on keep what the connection has said before, for as long as Control Hub accepts the credential.

    :param settings: the connection, as just read
    :raises ControlHubConfigurationError: if a setting cannot be right
    :raises ControlHubAuthenticationError: if the credential cannot be one
    """
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    poller = pollers.get(settings.sharing_key)
    if poller is None:
        return _ConnectionPoller(settings, pollers)
    poller.use(settings)
    return poller
