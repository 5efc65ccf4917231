"""Who is told what of the statuses that a feed reads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from airflow_provider_streamsets.control_hub.status_snapshot import StatusSnapshot
from airflow_provider_streamsets.control_hub.tracking.run import NotifyOn

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.errors import ControlHubError
    from airflow_provider_streamsets.control_hub.models import JobRun

# Of an interval: a subscriber is told of a look that comes that much too early, rather than of the one after it.
_TOLERANCE = 0.5


class WatchedJob:
    """A job that somebody waits for, and when it is to be looked at."""

    __slots__ = ("due", "interval", "job_id", "started", "subscriptions")

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.subscriptions: tuple[JobSubscription, ...] = ()
        self.interval = float("inf")
        """Seconds between two looks: the shortest that is asked for."""
        self.started = float("inf")
        """When the first of them came, on the loop's clock."""
        self.due = float("nan")
        """When the next look is; not a number while there is one, or there are no more."""

    def add(self, job_subscription: JobSubscription) -> None:
        """Let one more subscriber know."""
        self.subscriptions += (job_subscription,)
        self.interval = min(self.interval, job_subscription.subscription.interval)
        self.started = min(self.started, job_subscription.started)

    def remove(self, job_subscription: JobSubscription) -> None:
        """Let a subscriber know no more."""
        self.subscriptions = tuple(other for other in self.subscriptions if other is not job_subscription)
        if self.subscriptions:
            self.interval = min(job_subscription.subscription.interval for job_subscription in self.subscriptions)


class JobSubscription:
    """What one subscriber wants to know of one job: how one of its runs goes on."""

    __slots__ = ("job", "last_notified", "notified_at", "run_count", "started", "subscription")

    def __init__(self, subscription: Subscription, job: WatchedJob, run_count: int, started: float) -> None:
        self.subscription = subscription
        self.job = job
        self.run_count = run_count
        self.started = started
        self.last_notified: int | None = None
        """Digest of the glance that was told last."""
        self.notified_at = float("-inf")

    def should_notify(self, answer: StatusSnapshot | ControlHubError | None, now: float) -> bool:
        """
        Return whether the subscriber is to be told of an answer.

        Whatever may be the end of its run is told, as often as it is seen; for the rest, changes can do.

        :param answer: what a look has found
        :param now: time on the loop's clock
        """
        if not isinstance(answer, StatusSnapshot):
            return True
        if answer.run_count > self.run_count or (answer.run_count == self.run_count and answer.has_ended):
            return True
        if self._change_key(answer) != self.last_notified:
            return True
        if now - self.notified_at < self.subscription.interval * (1 - _TOLERANCE):
            return False
        notify_on = self.subscription.notify_on
        return notify_on is NotifyOn.EVERY_POLL or (
            notify_on is NotifyOn.LIVE_COUNTS and answer.lacks_counts(time.time())
        )

    def notify(
        self, answer: StatusSnapshot | ControlHubError | None, updates: JobRun | ControlHubError | None, now: float
    ) -> None:
        """
        Tell the subscriber.

        :param answer: what a look has found
        :param updates: the same, read whole
        :param now: time on the loop's clock
        """
        self.last_notified = self._change_key(answer) if isinstance(answer, StatusSnapshot) else None
        self.notified_at = now
        self.subscription.notify(self.job.job_id, updates)

    def _change_key(self, snapshot: StatusSnapshot) -> int:
        changes = self.subscription.notify_on is NotifyOn.CHANGES
        return snapshot.digest if changes else snapshot.change_key_with_counts


class Poller(Protocol):
    """What looks at jobs for subscribers."""

    def __enter__(self) -> Poller: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def leave(self, job_subscription: JobSubscription) -> None:
        """Look no more at a job for the sake of a subscriber."""


class Subscription:
    """
    One wait's part in a feed; made by :meth:`SharedStatusPoller.subscribe`.

    :param poller: the feed, which it keeps in use until it is closed
    :param interval: seconds between two looks at a run
    :param notify_on: which looks are told
    """

    __slots__ = ("_end", "_poller", "_subscriptions", "_updates", "_waiter", "interval", "notify_on")

    def __init__(self, poller: Poller, interval: float, notify_on: NotifyOn) -> None:
        self.interval = interval
        self.notify_on = notify_on
        self._poller: Poller | None = poller
        self._subscriptions: dict[str, JobSubscription] = {}
        # Holds the newest of each job only; most have none most of the time.
        self._updates: dict[str, JobRun | ControlHubError | None] | None = None
        self._end: ControlHubError | None = None
        self._waiter: asyncio.Future[None] | None = None
        poller.__enter__()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def subscribe_job(self, job: WatchedJob, run_count: int, *, started: float) -> JobSubscription:
        """Return the share of a job that is watched from now on."""
        job_subscription = self._subscriptions[job.job_id] = JobSubscription(self, job, run_count, started)
        return job_subscription

    def close(self) -> None:
        """Leave the feed."""
        self.unsubscribe(list(self._subscriptions))
        poller, self._poller = self._poller, None
        if poller is not None:
            poller.__exit__(None, None, None)

    def unsubscribe(self, job_ids: Iterable[str]) -> None:
        """Have jobs looked at no more, as enough was seen of them."""
        for job_id in job_ids:
            job_subscription = self._subscriptions.pop(job_id, None)
            if job_subscription is not None and self._poller is not None:
                self._poller.leave(job_subscription)

    def notify(self, job_id: str, updates: JobRun | ControlHubError | None) -> None:
        """Hand the subscriber what a look has found: the status of a job, or why further looks at it are pointless."""
        self._end = None
        if self._updates is None:
            self._updates = {}
        self._updates[job_id] = updates
        self._wake()

    def fail(self, error: ControlHubError) -> None:
        """Hand the subscriber the error that ends its wait."""
        self._end = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self, timeout: float | None = None) -> dict[str, JobRun | ControlHubError | None]:
        """
        Return what the next look that matters has found.

        A look that failed is not told. Nor is one that found what the one before did, unless that may be the end of the
        run, or every look is wanted.

        :param timeout: seconds to wait for it
        :returns: by job id, the latest run, None if Control Hub names none, or why further looks at it are pointless
        :raises asyncio.TimeoutError: if there was no such look in that time
        :raises ControlHubError: if no further look can succeed
        """
        if self._updates is None and self._end is None:
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
        if self._updates is None:
            raise asyncio.TimeoutError
        updates, self._updates = self._updates, None
        return updates
