"""Who is told what of the statuses that a feed reads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from airflow_provider_streamsets.control_hub.glances import Glance
from airflow_provider_streamsets.control_hub.waiting import Attention

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.errors import ControlHubError
    from airflow_provider_streamsets.control_hub.models import JobRun

# Of an interval: a subscriber is told of a look that comes that much too early, rather than of the one after it.
_TOLERANCE = 0.5


class WatchedJob:
    """A job that somebody waits for, and when it is to be looked at."""

    __slots__ = ("began", "due", "interval", "job_id", "shares")

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.shares: tuple[Share, ...] = ()
        self.interval = float("inf")
        """Seconds between two looks: the shortest that is asked for."""
        self.began = float("inf")
        """When the first of them came, on the loop's clock."""
        self.due = float("nan")
        """When the next look is; not a number while there is one, or there are no more."""

    def add(self, share: Share) -> None:
        """Let one more subscriber know."""
        self.shares += (share,)
        self.interval = min(self.interval, share.subscription.interval)
        self.began = min(self.began, share.began)

    def remove(self, share: Share) -> None:
        """Let a subscriber know no more."""
        self.shares = tuple(other for other in self.shares if other is not share)
        if self.shares:
            self.interval = min(share.subscription.interval for share in self.shares)


class Share:
    """What one subscriber wants to know of one job: how one of its runs goes on."""

    __slots__ = ("began", "job", "run_count", "subscription", "told", "told_at")

    def __init__(self, subscription: Subscription, job: WatchedJob, run_count: int, began: float) -> None:
        self.subscription = subscription
        self.job = job
        self.run_count = run_count
        self.began = began
        self.told: int | None = None
        """Digest of the glance that was told last."""
        self.told_at = float("-inf")

    def wants(self, answer: Glance | ControlHubError | None, now: float) -> bool:
        """
        Return whether the subscriber is to be told of an answer.

        Whatever may be the end of its run is told, as often as it is seen; for the rest, changes can do.

        :param answer: what a look has found
        :param now: time on the loop's clock
        """
        if not isinstance(answer, Glance):
            return True
        if answer.run_count > self.run_count or (answer.run_count == self.run_count and answer.has_ended):
            return True
        if self._digest(answer) != self.told:
            return True
        if now - self.told_at < self.subscription.interval * (1 - _TOLERANCE):
            return False
        attention = self.subscription.attention
        return attention is Attention.EVERY_LOOK or (
            attention is Attention.LIVE_COUNTS and answer.lacks_counts(time.time())
        )

    def tell(self, answer: Glance | ControlHubError | None, news: JobRun | ControlHubError | None, now: float) -> None:
        """
        Tell the subscriber.

        :param answer: what a look has found
        :param news: the same, read whole
        :param now: time on the loop's clock
        """
        self.told = self._digest(answer) if isinstance(answer, Glance) else None
        self.told_at = now
        self.subscription.tell(self.job.job_id, news)

    def _digest(self, glance: Glance) -> int:
        changes = self.subscription.attention is Attention.CHANGES
        return glance.digest if changes else glance.digest_with_counts


class Feed(Protocol):
    """What looks at jobs for subscribers."""

    def __enter__(self) -> Feed: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def leave(self, share: Share) -> None:
        """Look no more at a job for the sake of a subscriber."""


class Subscription:
    """
    One wait's part in a feed; made by :meth:`StatusFeed.subscribe`.

    :param feed: the feed, which it keeps in use until it is closed
    :param interval: seconds between two looks at a run
    :param attention: which looks are told
    """

    __slots__ = ("_end", "_feed", "_news", "_shares", "_waiter", "attention", "interval")

    def __init__(self, feed: Feed, interval: float, attention: Attention) -> None:
        self.interval = interval
        self.attention = attention
        self._feed: Feed | None = feed
        self._shares: dict[str, Share] = {}
        # Holds the newest of each job only; most have none most of the time.
        self._news: dict[str, JobRun | ControlHubError | None] | None = None
        self._end: ControlHubError | None = None
        self._waiter: asyncio.Future[None] | None = None
        feed.__enter__()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def share_of(self, job: WatchedJob, run_count: int, *, began: float) -> Share:
        """Return the share of a job that is watched from now on."""
        share = self._shares[job.job_id] = Share(self, job, run_count, began)
        return share

    def close(self) -> None:
        """Leave the feed."""
        self.drop(list(self._shares))
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.__exit__(None, None, None)

    def drop(self, job_ids: Iterable[str]) -> None:
        """Have jobs looked at no more, as enough was seen of them."""
        for job_id in job_ids:
            share = self._shares.pop(job_id, None)
            if share is not None and self._feed is not None:
                self._feed.leave(share)

    def tell(self, job_id: str, news: JobRun | ControlHubError | None) -> None:
        """Hand the subscriber what a look has found: the status of a job, or why further looks at it are pointless."""
        self._end = None
        if self._news is None:
            self._news = {}
        self._news[job_id] = news
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
        if self._news is None and self._end is None:
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
        if self._news is None:
            raise asyncio.TimeoutError
        news, self._news = self._news, None
        return news
