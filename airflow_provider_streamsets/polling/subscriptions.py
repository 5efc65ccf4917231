"""Subscriptions to the statuses that a poller reads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub.models.status_snapshot import StatusSnapshot
from airflow_provider_streamsets.control_hub.tracking.progress import has_passed
from airflow_provider_streamsets.control_hub.tracking.run import NotifyOn

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.errors import ControlHubError
    from airflow_provider_streamsets.control_hub.models import JobRun
    from airflow_provider_streamsets.polling.poller import SharedStatusPoller

# Share of an interval by which a poll may be too early and still notify the subscriber.
_TOLERANCE = 0.5
# Maximum number of progress reports per second, as each becomes a line in the log.
_PROGRESS_RATE = 10


class WatchedJob:
    """A job with subscriptions, and when it is due."""

    __slots__ = ("due", "interval", "job_id", "started", "subscriptions")

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.subscriptions: tuple[JobSubscription, ...] = ()
        self.interval = float("inf")
        """Seconds between two polls: the minimum of all subscriptions."""
        self.started = float("inf")
        """When the first subscription started, on the loop's clock."""
        self.due = float("nan")
        """When the next poll is due; NaN during a poll, and after the last one."""

    def add(self, job_subscription: JobSubscription) -> None:
        """Add a subscription."""
        self.subscriptions += (job_subscription,)
        self.interval = min(self.interval, job_subscription.subscription.interval)
        self.started = min(self.started, job_subscription.started)

    def remove(self, subscription: Subscription) -> None:
        """Remove what a subscription has added."""
        self.subscriptions = tuple(one for one in self.subscriptions if one.subscription is not subscription)
        if self.subscriptions:
            self.interval = min(one.subscription.interval for one in self.subscriptions)


class JobSubscription:
    """Subscription to one run of a job."""

    __slots__ = ("last_notified", "notified_at", "run_count", "started", "subscription")

    def __init__(self, subscription: Subscription, run_count: int, started: float) -> None:
        self.subscription = subscription
        self.run_count = run_count
        self.started = started
        self.last_notified: int | None = None
        """Change key of the last snapshot that the subscriber was notified of."""
        self.notified_at = float("-inf")

    def should_notify(self, result: StatusSnapshot | ControlHubError | None, now: float) -> bool:
        """
        Return whether to notify the subscriber of a result.

        A result that may end the wait always notifies, others only as `notify_on` says.

        :param result: result of a poll for the job
        :param now: time on the loop's clock
        """
        if not isinstance(result, StatusSnapshot):
            return True
        if result.run_count > self.run_count or (result.run_count == self.run_count and result.has_ended):
            return True
        if self._change_key(result) != self.last_notified:
            return True
        if now - self.notified_at < self.subscription.interval * (1 - _TOLERANCE):
            return False
        notify_on = self.subscription.notify_on
        return (
            notify_on is NotifyOn.EVERY_POLL
            or (notify_on is NotifyOn.LIVE_COUNTS and result.lacks_counts(time.time()))
            or has_passed(self.subscription.progress_interval, now - self.notified_at)
        )

    def notify(
        self,
        job_id: str,
        result: StatusSnapshot | ControlHubError | None,
        update: JobRun | ControlHubError | None,
        now: float,
    ) -> None:
        """
        Notify the subscriber.

        :param job_id: id of the job
        :param result: result of a poll for the job
        :param update: the same result, parsed
        :param now: time on the loop's clock
        """
        self.last_notified = self._change_key(result) if isinstance(result, StatusSnapshot) else None
        self.notified_at = now
        self.subscription.notify(job_id, update)

    def _change_key(self, snapshot: StatusSnapshot) -> int:
        changes = self.subscription.notify_on is NotifyOn.CHANGES
        return snapshot.change_key if changes else snapshot.counts_change_key


class Wakeup:
    """Lets one task sleep until it is woken, or a time has passed."""

    __slots__ = ("_sleep", "_timer")

    def __init__(self) -> None:
        self._sleep: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, timeout: float | None = None) -> None:
        """
        Sleep until :meth:`wake` is called.

        :param timeout: maximum seconds to sleep
        """
        try:
            await self._start(timeout)
        finally:
            self._stop()

    def _start(self, timeout: float | None) -> asyncio.Future[None]:
        # Not asyncio.wait_for: before Python 3.12, it can swallow the cancellation of a killed trigger.
        loop = asyncio.get_running_loop()
        self._sleep = loop.create_future()
        if timeout is not None:
            self._timer = loop.call_later(timeout, self.wake)
        return self._sleep

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._sleep = self._timer = None

    def wake(self) -> None:
        """End the sleep, if there is one."""
        if self._sleep is not None and not self._sleep.done():
            self._sleep.set_result(None)


class Subscription(Wakeup):
    """
    Subscription of a wait to the statuses of its jobs; created by :meth:`SharedStatusPoller.subscribe`.

    :param poller: the poller, which the subscription keeps open until it is closed
    :param job_ids: ids of the jobs
    :param interval: seconds between two polls of a run
    :param notify_on: which polls notify the subscriber
    :param progress_interval: seconds after which a poll without changes notifies, too; 0 for never
    """

    __slots__ = ("_end", "_job_ids", "_poller", "_progress_interval", "_updates", "interval", "notify_on")

    def __init__(
        self,
        poller: SharedStatusPoller,
        job_ids: Sequence[str],
        interval: float,
        notify_on: NotifyOn,
        progress_interval: float,
    ) -> None:
        super().__init__()
        self.interval = interval
        self.notify_on = notify_on
        self._progress_interval = progress_interval
        self._poller: SharedStatusPoller | None = poller
        self._job_ids = job_ids
        # The latest update of each job. None saves memory, as most subscriptions have no updates most of the time.
        self._updates: dict[str, JobRun | ControlHubError | None] | None = None
        self._end: ControlHubError | None = None
        poller.subscription_count += 1
        poller.__enter__()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def progress_interval(self) -> float:
        """Seconds after which a poll without changes notifies, too; more if the log would get too many lines."""
        if not self._progress_interval or self._poller is None:
            return float("inf")
        return max(self._progress_interval, self._poller.subscription_count / _PROGRESS_RATE)

    def close(self) -> None:
        """Unsubscribe from all jobs, and release the poller."""
        self._stop()
        self.unsubscribe(self._job_ids)
        poller, self._poller = self._poller, None
        if poller is not None:
            poller.subscription_count -= 1
            poller.__exit__()

    def unsubscribe(self, job_ids: Iterable[str]) -> None:
        """Unsubscribe from jobs; nothing happens for those that were unsubscribed before."""
        if self._poller is not None:
            for job_id in job_ids:
                self._poller.leave(job_id, self)

    def notify(self, job_id: str, update: JobRun | ControlHubError | None) -> None:
        """Pass an update to the subscriber: the latest run of a job, or the error for this job."""
        self._end = None
        if self._updates is None:
            self._updates = {}
        self._updates[job_id] = update
        self.wake()

    def fail(self, error: ControlHubError) -> None:
        """End the wait of the subscriber with an error."""
        self._end = error
        self.wake()

    def changed(self, timeout: float | None = None) -> asyncio.Future[None]:
        """
        Return a future that is done when :meth:`take` can be called. It must be awaited at once.

        Failed polls give no update. Polls without changes give none either, unless they may end the wait, or
        `notify_on` requires them.

        :param timeout: maximum seconds to wait
        """
        future = self._start(timeout)
        if self._updates is not None or self._end is not None:
            self.wake()
        return future

    def take(self) -> dict[str, JobRun | ControlHubError | None]:
        """
        Return the updates.

        :returns: by job id, the latest run, None if there is none, or the error for this job
        :raises asyncio.TimeoutError: if there was no update in time
        :raises ControlHubError: if polling cannot continue, as after a confirmed rejection of the credential
        """
        self._stop()
        if self._end is not None:
            raise self._end
        if self._updates is None:
            raise asyncio.TimeoutError
        updates, self._updates = self._updates, None
        return updates

    async def next(self, timeout: float | None = None) -> dict[str, JobRun | ControlHubError | None]:
        """
        Wait for the next updates, and return them.

        :param timeout: maximum seconds to wait
        :returns: as :meth:`take`
        :raises asyncio.TimeoutError: as :meth:`take`
        :raises ControlHubError: as :meth:`take`
        """
        try:
            await self.changed(timeout)
        finally:
            self._stop()
        return self.take()
