"""One status feed for each connection: all waits of a triggerer share its requests."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_streamsets.control_hub.errors import (
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    ControlHubUnexpectedAnswerError,
)
from airflow_provider_streamsets.control_hub.waiting import OutageLog, ends_wait, is_fault, look_at_many

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient
    from airflow_provider_streamsets.control_hub.models import JobRun
    from airflow_provider_streamsets.hooks.settings import ConnectionSettings

log = logging.getLogger(__name__)

# Subscribers that come together, as after a restart of the triggerer, are served by one request.
_GATHERING = 0.1
# Requests that concern one run only (its end, its metrics) are sent by so many waits at a time.
_QUESTIONS_AT_A_TIME = 8

_Answer = TypeVar("_Answer")


class Subscription:
    """
    One wait's share of a feed; made by :meth:`StatusFeed.subscription` and :meth:`StatusFeed.subscription_to_many`.

    :param job_ids: ids of the jobs that are watched
    :param interval: seconds between two looks
    :param due: when the jobs are to be looked at next, on the loop's clock
    """

    def __init__(self, job_ids: Iterable[str], interval: float, due: float) -> None:
        self.job_ids = set(job_ids)
        """The subscriber may take out those that it has seen enough of."""
        self.interval = interval
        self.due = due
        # Holds the newest look at each job only.
        self._news: dict[str, JobRun | ControlHubError | None] = {}
        self._end: ControlHubError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def publish(self, statuses: Mapping[str, JobRun | ControlHubError | None]) -> None:
        """Hand the subscriber what a look has found: for a job its status, or why further looks at it are pointless."""
        self._end = None
        self._news.update({job_id: statuses[job_id] for job_id in self.job_ids if job_id in statuses})
        if self._news:
            self._wake()

    def fail(self, error: ControlHubError) -> None:
        """Hand the subscriber the error that ends its wait."""
        self._end = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next_of_each(self, timeout: float | None = None) -> dict[str, JobRun | ControlHubError | None]:
        """
        Return what the next look has found.

        A look that failed is not told, and jobs that could not be read are missing.

        :param timeout: seconds to wait for it
        :returns: by job id, the latest run, None if Control Hub names none, or why further looks at it are pointless
        :raises asyncio.TimeoutError: if there was no look in that time
        :raises ControlHubError: if no further look can succeed
        """
        if not self._news and self._end is None:
            # Not asyncio.wait_for: before Python 3.12, it can swallow the cancellation of a killed trigger.
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = None if timeout is None else loop.call_later(timeout, self._wake)
            try:
                await self._waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        if self._end is not None:
            raise self._end
        if not self._news:
            raise asyncio.TimeoutError
        news, self._news = self._news, {}
        return news

    async def next(self, timeout: float | None = None) -> JobRun | None:
        """
        Return the latest run of the only job at the next look, as :meth:`next_of_each`.

        :raises ControlHubError: if no further look at the job can succeed
        """
        (status,) = (await self.next_of_each(timeout)).values()
        if isinstance(status, ControlHubError):
            raise status
        return status


class StatusFeed:
    """
    Asks for the statuses of all jobs that are waited for, in one request for many, in a thread.

    Starts with the first subscriber and ends with the last.

    :param client: client of the connection; it should not repeat requests, as the feed itself looks again
    :param on_empty: called when the last subscriber has left
    """

    def __init__(self, client: ControlHubClient, on_empty: Callable[[], None] = lambda: None) -> None:
        self.client = client
        self._on_empty = on_empty
        self._subscriptions: set[Subscription] = set()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._outage = OutageLog(log)
        self._questions = asyncio.Semaphore(_QUESTIONS_AT_A_TIME)

    def subscription(self, job_id: str, interval: float) -> AbstractAsyncContextManager[Subscription]:
        """Subscribe to the statuses of one job, as :meth:`subscription_to_many`."""
        return self.subscription_to_many([job_id], interval)

    @contextlib.asynccontextmanager
    async def subscription_to_many(self, job_ids: Iterable[str], interval: float) -> AsyncIterator[Subscription]:
        """
        Subscribe to the statuses of jobs, for as long as the context lasts.

        :param job_ids: ids of the jobs
        :param interval: seconds between two looks
        :raises ValueError: if that is no such number, which would otherwise end the feed for all
        """
        if not float(interval) > 0:
            raise ValueError(f"{interval!r} is no interval between two looks")
        subscription = Subscription(job_ids, float(interval), self._now())
        self._subscriptions.add(subscription)
        self._changed.set()
        if self._task is None:
            # In a context of its own: in that of the first subscriber, all it logs would go to that one's task log.
            create_task = asyncio.get_running_loop().create_task
            self._task = contextvars.Context().run(create_task, self._run(), name="control-hub-status-feed")
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            if not self._subscriptions:
                self._end()

    async def ask(self, question: Callable[[], _Answer]) -> _Answer:
        """
        Run a function that sends requests of its own, in a thread, and only a few of them at a time.

        :param question: the function
        """
        async with self._questions:
            return await asyncio.to_thread(question)

    def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._on_empty()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _run(self) -> None:
        while self._subscriptions:
            self._changed.clear()
            wait = min(subscription.due for subscription in self._subscriptions) - self._now()
            if wait > 0:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), wait)
                continue
            await asyncio.sleep(_GATHERING)
            await self._look()

    async def _look(self) -> None:
        now = self._now()
        # Those that are due soon come along, so that in time all of one interval share one request.
        served = [s for s in self._subscriptions if s.due - now <= s.interval / 2]
        job_ids = sorted({job_id for subscription in served for job_id in subscription.job_ids})
        pause = 0.0
        try:
            statuses = await asyncio.to_thread(look_at_many, self.client, job_ids)
        except ControlHubError as error:
            if ends_wait(error):
                for subscription in served:
                    subscription.fail(error)
            elif isinstance(error, (ControlHubNotFoundError, ControlHubRejectedError)) and not is_fault(error):
                for subscription in served:
                    subscription.publish(dict.fromkeys(job_ids))
            else:
                self._outage.failed(error)
            if isinstance(error, ControlHubUnavailableError):
                pause = error.retry_after or 0.0
        except Exception as error:
            # A subscriber must not be failed by a fault of the feed: its own deadline bounds the wait.
            log.exception("The status feed met an error of its own; looking again later.")
            self._outage.failed(ControlHubUnexpectedAnswerError(f"The statuses could not be read: {error}"))
        else:
            self._outage.succeeded()
            for subscription in served:
                subscription.publish(statuses)
        now = self._now()
        for subscription in served:
            subscription.due = now + max(subscription.interval, pause)


_feeds: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, StatusFeed]] = weakref.WeakKeyDictionary()


def shared_feed(settings: ConnectionSettings) -> StatusFeed:
    """
    Return the feed that all waits over a connection share on this event loop.

    Keyed by the connection's content, so that waits begun after an edit use the new one.

    :param settings: the connection, as just read
    :raises ControlHubConfigurationError: if a setting cannot be right
    :raises ControlHubAuthenticationError: if the credential cannot be one
    """
    feeds = _feeds.setdefault(asyncio.get_running_loop(), {})
    key = settings.fingerprint
    if key not in feeds:
        client = settings.client(max_attempts=1)

        def forget() -> None:
            if feeds.get(key) is feed:
                del feeds[key]
            client.close()

        feed = feeds[key] = StatusFeed(client, on_empty=forget)
    return feeds[key]
