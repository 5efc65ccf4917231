"""Poll the statuses of all runs that a triggerer waits for, with one poller for each connection."""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub.bulk_status import BulkStatusReader
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubPermissionError,
    ControlHubUnexpectedResponseError,
)
from airflow_provider_streamsets.control_hub.models.status_snapshot import StatusSnapshot
from airflow_provider_streamsets.control_hub.tracking.run import NotifyOn, poll_delay
from airflow_provider_streamsets.polling.connections import ConnectionRefresh, PerLoop, spawn
from airflow_provider_streamsets.polling.request_rate import RequestRate, request_rates
from airflow_provider_streamsets.polling.schedule import Backoff, BatchSize, PollSchedule
from airflow_provider_streamsets.polling.sender import Refresh, RequestSender
from airflow_provider_streamsets.polling.stats import PollerStats
from airflow_provider_streamsets.polling.subscriptions import JobSubscription, Subscription, Wakeup, WatchedJob

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient
    from airflow_provider_streamsets.hooks.connection import ConnectionSettings

log = logging.getLogger(__name__)

# Delay of the first poll, so that waits that start together, as after a restart of the triggerer, share a request.
_BATCHING_DELAY = 0.1
# Waits to notify in one turn of the event loop: each can write lines to the log, which takes almost a millisecond.
_MAX_NOTIFIED = 25
# Seconds that are not worth a wait: a timer can fire that much too early.
_MIN_DELAY = 0.001
# Seconds within which a poll may read more jobs individually while the rate is limited; the next poll reads the others.
_MAX_POLL_TIME = 10.0


class _PollQueue:
    """
    Jobs by the time at which they are due.

    Most of them are due together with all others of their request, so that the heap of times stays small. An entry is
    outdated when its job was rescheduled or removed; it is dropped when its time comes.

    :param schedule: the schedule, in which the jobs have slots
    """

    def __init__(self, schedule: PollSchedule) -> None:
        self._schedule = schedule
        self._times: list[float] = []
        self._jobs: dict[float, list[WatchedJob]] = {}

    def add(self, job: WatchedJob, due: float) -> None:
        """Add a job, or change when it is due."""
        self.remove(job)
        job.due = due
        if due not in self._jobs:
            self._jobs[due] = []
            heapq.heappush(self._times, due)
        self._jobs[due].append(job)

    def remove(self, job: WatchedJob) -> None:
        """Remove a job, if it is in the queue."""
        self._schedule.release(job.due)
        job.due = float("nan")

    @property
    def next_due(self) -> float | None:
        """When the first job is due; None if there is none."""
        while self._times:
            due = self._times[0]
            jobs = self._jobs[due]
            while jobs and jobs[-1].due != due:
                jobs.pop()
            if jobs:
                return due
            del self._jobs[heapq.heappop(self._times)]
        return None

    def take(self, number: int) -> list[WatchedJob]:
        """Remove the jobs that are due first, up to a number of them, and return them."""
        taken: list[WatchedJob] = []
        while len(taken) < number and (due := self.next_due) is not None:
            taken.append(self._jobs[due].pop())
            self.remove(taken[-1])
        return taken


class SharedStatusPoller(RequestSender):
    """
    Polls the statuses of all subscribed jobs with bulk requests, sent one after the other in a thread.

    Polls from the first subscription to the last, on the event loop on which it was created. Failed requests slow down
    polling; subscribers are not notified of them. When the credential is rejected, requests are retried with back-off,
    with a new credential as soon as there is one. When the rejection is confirmed, all waits fail, unless statuses were
    read meanwhile. As a context manager, it stays open for queries without subscriptions.

    :param client: client of the connection; should not retry requests, as the poller does
    :param refresh: see :class:`~airflow_provider_streamsets.polling.sender.SharedCredential`
    :param batch_size: jobs per request, limited by the client's ``bulk_size``
    :param rate: request rate of the connection
    :param conn_id: id of the Airflow connection, for metrics
    """

    def __init__(
        self,
        client: ControlHubClient,
        refresh: Refresh | None = None,
        batch_size: BatchSize | None = None,
        rate: RequestRate | None = None,
        conn_id: str = "",
    ) -> None:
        self._batch_size = batch_size or BatchSize()
        self._poll_schedule = PollSchedule(self._batch_size.within(client.bulk_size))
        now = asyncio.get_running_loop().time
        backoff = Backoff.from_schedule(self._poll_schedule, now)
        super().__init__(client, backoff, PollerStats("tasks", conn_id, now), rate or RequestRate(), refresh)
        self._user_count = 0
        self.subscription_count = 0
        """Number of open subscriptions."""
        self._jobs: dict[str, WatchedJob] = {}
        self._queue = _PollQueue(self._poll_schedule)
        self._changed = Wakeup()
        self._task: asyncio.Task[None] | None = None
        self._query = BulkStatusReader(client)
        self._last_poll = float("-inf")

    def __enter__(self) -> SharedStatusPoller:
        self._user_count += 1
        return self

    def __exit__(self, *error: object) -> None:
        self._user_count -= 1
        if not self._user_count:
            self._unused()

    def _unused(self) -> None:
        """Handle that the last user has left."""

    def subscribe(
        self,
        runs: Mapping[str, int],
        interval: float,
        notify_on: NotifyOn = NotifyOn.CHANGES,
        progress_interval: float = 0.0,
    ) -> Subscription:
        """
        Subscribe to the statuses of jobs. The subscription must be closed.

        :param runs: job id and run count of each run
        :param interval: seconds between two polls of a run; new runs are polled more often
        :param notify_on: which polls notify the subscriber
        :param progress_interval: seconds after which a poll without changes notifies the subscriber, too; 0 for never
        :raises ValueError: if an argument is invalid; it would otherwise fail polling for all subscribers
        """
        if not 0 < float(interval) < float("inf"):
            raise ValueError(f"'interval' must be a number of seconds above 0, got {interval!r}.")
        run_counts = {str(job_id): int(run_count) for job_id, run_count in runs.items()}
        subscription = Subscription(self, tuple(run_counts), float(interval), notify_on, progress_interval)
        now = self.now()
        for job_id, run_count in run_counts.items():
            job = self._jobs.get(job_id)
            if job is None:
                job = self._jobs[job_id] = WatchedJob(job_id)
            else:
                self._poll_schedule.remove(job.interval)
            job.add(JobSubscription(subscription, run_count, started=now))
            self._poll_schedule.add(job.interval)
            self._queue.add(job, now + _BATCHING_DELAY)
        self._changed.wake()
        if self._task is None:
            self._task = spawn(self._run())
        return subscription

    def leave(self, job_id: str, subscription: Subscription) -> None:
        """Remove a subscription to a job, if there is one, and stop polling the job after the last one."""
        job = self._jobs.get(job_id)
        if job is None or all(one.subscription is not subscription for one in job.subscriptions):
            return
        self._poll_schedule.remove(job.interval)
        job.remove(subscription)
        if job.subscriptions:
            self._poll_schedule.add(job.interval)
            return
        del self._jobs[job_id]
        self._queue.remove(job)
        self._query.forget(job_id)
        if not self._jobs and self._task is not None:
            self._task.cancel()
            self._task = None

    def _pause(self) -> float:
        """Return the seconds until a request may be sent, 0 if it is not worth a wait."""
        seconds = max(self._last_poll + self._poll_schedule.min_spacing, self._backoff.until) - self.now()
        return seconds if seconds > _MIN_DELAY else 0.0

    async def _run(self) -> None:
        while self._jobs:
            due = self._queue.next_due
            wait = None if due is None else max(due - self.now(), self._pause())
            if due is None or wait is None or wait > _MIN_DELAY:
                await self._changed.wait(wait)
                continue
            try:
                await self._poll(due)
            except Exception as error:
                # A bug here must not fail the waits: their own deadlines limit them.
                log.exception("Unexpected error in the status poller; retrying.")
                self.poll_failed(ControlHubUnexpectedResponseError(f"Could not read the statuses of runs: {error}"))

    async def _poll(self, due: float) -> None:
        self._stats.due, self._stats.waiting_runs = due, len(self._jobs)
        self._poll_schedule.batch_size = self._batch_size.within(self.client.bulk_size)
        # Filled with jobs that are due next.
        batch = self._queue.take(self._poll_schedule.batch_size)
        job_ids = [job.job_id for job in batch]
        results: Mapping[str, StatusSnapshot | ControlHubError | None] = {}

        def fetch() -> Mapping[str, StatusSnapshot | ControlHubError | None]:
            # Each time it is sent, as it is retried with another credential.
            self._last_poll = self.now()
            return self._query.fetch(job_ids)

        try:
            results = await self.run_poll(fetch, self._pause, _MAX_POLL_TIME)
        except ControlHubAuthenticationError:
            # All waits have failed.
            pass
        except ControlHubConfigurationError as error:
            self._rejected(error)
        except ControlHubPermissionError as error:
            # The request was for a single job: its waits find out whether the job exists.
            results = dict.fromkeys(job_ids, error)
            self.poll_succeeded()
        except ControlHubError as error:
            if error.http_status == HTTPStatus.TOO_MANY_REQUESTS:
                self._batch_size.rate_limited(len(batch))
            else:
                self._batch_size.failed(len(batch))
            self.poll_failed(error)
        else:
            if self._query.rejected_batch_size is None:
                self._batch_size.succeeded(len(batch), self.now() - self._last_poll)
            else:
                self._batch_size.rejected(self._query.rejected_batch_size)
            self.poll_succeeded()
        finally:
            # Before waits are notified: new ones can then bring the next poll forward.
            self._reschedule(batch, results)
        await self._notify(batch, results)

    def _rejected(self, error: ControlHubError) -> None:
        for job in list(self._jobs.values()):
            for job_subscription in job.subscriptions:
                job_subscription.subscription.fail(error)

    async def _notify(
        self, batch: list[WatchedJob], results: Mapping[str, StatusSnapshot | ControlHubError | None]
    ) -> None:
        now = self.now()
        notified = 0
        for job in batch:
            if job.job_id not in results:
                continue
            result = results[job.job_id]
            recipients = [
                job_subscription
                for job_subscription in job.subscriptions
                if job_subscription.should_notify(result, now)
            ]
            if not recipients:
                continue
            for updates in self._query.parse({job.job_id: result}).values():
                for job_subscription in recipients:
                    job_subscription.notify(job.job_id, result, updates, now)
            notified += len(recipients)
            if notified >= _MAX_NOTIFIED:
                # They process their updates before others are notified.
                notified = 0
                await asyncio.sleep(0)

    def _reschedule(
        self, batch: list[WatchedJob], results: Mapping[str, StatusSnapshot | ControlHubError | None]
    ) -> None:
        now, wall_clock = self.now(), time.time()
        # From the start of the poll, so that slow responses do not shift the slots.
        polled_at = self._last_poll
        slots: dict[float, float] = {}
        for job in batch:
            if not job.subscriptions:
                continue
            if job.job_id not in results:
                # The request failed; the back-off decides when it is retried.
                self._queue.add(job, now)
                continue
            delay = poll_delay(job.interval, max(now - job.started, _age(results[job.job_id], job, wall_clock)))
            if delay >= job.interval and delay not in slots:
                slots[delay] = self._poll_schedule.slot(polled_at, delay)
            self._queue.add(job, slots.get(delay, polled_at + delay))
            if delay in slots:
                self._poll_schedule.reserve(job.due)


def _age(result: StatusSnapshot | ControlHubError | None, job: WatchedJob, wall_clock: float) -> float:
    """Return the age of the awaited run in seconds, 0 if its status does not show it."""
    if not isinstance(result, StatusSnapshot) or result.started is None:
        return 0.0
    is_older = result.run_count < max(job_subscription.run_count for job_subscription in job.subscriptions)
    return 0.0 if is_older else wall_clock - result.started


class _ConnectionPoller(SharedStatusPoller):
    """
    The poller of a connection.

    If the credential is rejected after further fields of the connection were edited, and newer waits already have a
    poller for the edited connection, this poller stays beside it until its own waits have ended.

    :param settings: settings of the connection
    :param pollers: the pollers by :attr:`ConnectionSettings.sharing_key`
    :raises ControlHubError: as :meth:`ConnectionSettings.client`
    """

    def __init__(self, settings: ConnectionSettings, pollers: dict[str, _ConnectionPoller]) -> None:
        self._settings = settings
        self._refresh = ConnectionRefresh(settings.conn_id, settings.credential_grace_period, max_attempts=1)
        super().__init__(
            settings.client(max_attempts=1),
            refresh=self._newer_client,
            batch_size=_batch_sizes.get()[settings.sharing_key],
            rate=request_rates.get()[settings.sharing_key],
            conn_id=settings.conn_id,
        )
        self._pollers = pollers
        pollers[settings.sharing_key] = self

    def update(self, settings: ConnectionSettings) -> None:
        """Adopt the current settings of the connection, if they have changed."""
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

    def _unused(self) -> None:
        self._unregister()
        self.close()

    def _unregister(self) -> None:
        if self._pollers.get(self._settings.sharing_key) is self:
            del self._pollers[self._settings.sharing_key]


_pollers: PerLoop[dict[str, _ConnectionPoller]] = PerLoop(dict)
# Kept after a poller is closed, for the next one of the connection.
_batch_sizes: PerLoop[defaultdict[str, BatchSize]] = PerLoop(lambda: defaultdict(BatchSize))


def shared_poller(settings: ConnectionSettings) -> SharedStatusPoller:
    """
    Return the poller that all waits with a connection share on this event loop.

    Waits share a poller if all fields of their connections except the credential are equal. A wait that starts after
    the credential was replaced by another one of the same organization updates the poller for all. After an edit of any
    other field, running waits keep the previous settings as long as Control Hub accepts the credential.

    :param settings: current settings of the connection
    :raises ControlHubConfigurationError: if a setting is invalid
    :raises ControlHubAuthenticationError: if the credential is malformed
    """
    pollers = _pollers.get()
    poller = pollers.get(settings.sharing_key)
    if poller is None:
        return _ConnectionPoller(settings, pollers)
    poller.update(settings)
    return poller
