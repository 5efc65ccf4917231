"""Base classes of the triggers: connection, deadline, the single event, and stopping runs on a kill."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_streamsets import params
from airflow_provider_streamsets.compat import MIN_DEFERRAL_SECONDS, is_still_deferred
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAuthenticationError,
    ControlHubError,
    ControlHubRunTimeoutError,
)
from airflow_provider_streamsets.polling.connections import ConnectionRefresh, connection_settings
from airflow_provider_streamsets.triggers.arguments import StoredArguments, ignore_unknown_arguments, trigger_fields

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubClient, JobRun
    from airflow_provider_streamsets.control_hub.tracking.run import Tracker
    from airflow_provider_streamsets.hooks.connection import ConnectionSettings
    from airflow_provider_streamsets.polling.poller import SharedStatusPoller
    from airflow_provider_streamsets.polling.subscriptions import Subscription

_Result = TypeVar("_Result")

_KILL_TIMEOUT = 10.0
# Seconds within which the last poll after a deadline must start; it can queue behind those of other waits.
_LAST_POLL_TIMEOUT = 10.0
# Seconds for which a stop after a kill is retried.
KILL_MAX_WAIT = 60.0
_KILL_RETRY_DELAY = 3.0
# Strong references, so that running stop tasks are not garbage-collected.
_stop_tasks: set[asyncio.Task[None]] = set()
_logs: dict[type, Any] = {}


class Event(Protocol):
    """The result that a trigger passes to the task it resumes."""

    def to_payload(self) -> dict[str, Any]:
        """Return the event as JSON values."""


class EventLoopDeadline:
    """
    Deadline of a wait, on the clock of the running event loop.

    :param at: in epoch seconds, so that it survives a restart of the triggerer; None for no deadline
    """

    __slots__ = ("_at",)

    def __init__(self, at: float | None) -> None:
        self._at = None if at is None else asyncio.get_running_loop().time() + at - time.time()

    @property
    def remaining(self) -> float | None:
        """Seconds until the deadline, 0 after it; None if there is none."""
        return None if self._at is None else max(self._at - asyncio.get_running_loop().time(), 0.0)

    async def sleep(self, seconds: float) -> bool:
        """
        Sleep, at most until the deadline.

        :returns: whether the deadline has passed
        """
        remaining = self.remaining
        await asyncio.sleep(seconds if remaining is None else min(seconds, remaining))
        return remaining is not None and remaining <= seconds


@ignore_unknown_arguments
@dataclass(kw_only=True, eq=False, repr=False)
class ControlHubTrigger(StoredArguments, BaseTrigger):
    """
    Base class of the triggers. Always yields exactly one event.

    Airflow stores the arguments unencrypted in its database, so they must not hold secrets. Subclasses declare theirs
    as described in :class:`~airflow_provider_streamsets.triggers.arguments.StoredArguments`.

    :param control_hub_conn_id: id of the Airflow connection
    :param poll_interval: seconds between two polls
    :param timeout: total seconds of the wait, for messages
    :param deadline: when the wait times out, in epoch seconds; None for no deadline
    :param stop_on_kill: stop the runs when a user kills the deferred task (Airflow 3.3 and later)
    :param force_stop_after: seconds after which that stop is forced; None never forces it
    """

    control_hub_conn_id: str = "streamsets_default"
    poll_interval: float = params.DEFAULT_POLL_INTERVAL
    timeout: float | None = None
    deadline: float | None = None
    stop_on_kill: bool = False
    force_stop_after: float | None = None

    @property
    def log(self) -> Any:
        """Logger, one for each class: Airflow distinguishes tasks by context, so that triggers can share it."""
        kind = type(self)
        if kind not in _logs:
            _logs[kind] = super().log
        return _logs[kind]

    @property
    def description(self) -> str:
        """Description of the awaited runs for messages, such as "run 4 of job ..."."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """The awaited runs for the beginning of a log line."""
        return self.description[:1].upper() + self.description[1:]

    async def prepare(self, poller: SharedStatusPoller) -> None:
        """
        Prepare the wait.

        :param poller: poller of the connection
        :raises ControlHubError: if there is nothing to wait for
        """

    def tracker(self, poller: SharedStatusPoller) -> Tracker[Any] | None:
        """
        Return the tracker of the run; None for a wait for several runs.

        :param poller: poller of the connection
        """
        raise NotImplementedError

    async def wait_for_all(self, poller: SharedStatusPoller, deadline: EventLoopDeadline) -> Any:
        """
        Wait for several runs.

        :param poller: poller of the connection
        :param deadline: deadline of the wait
        :returns: the result, which :meth:`event` turns into an event
        :raises ControlHubError: if the wait fails; :meth:`failure` turns it into an event
        """
        raise NotImplementedError

    async def process_result(self, result: Any) -> None:
        """
        Act on the result of a wait before it is turned into an event.

        :param result: the result
        """

    def event(self, result: Any) -> Event:
        """
        Return the event for the result of a wait.

        :param result: the result
        """
        raise NotImplementedError

    def failure(self, error: ControlHubError) -> Event:
        """Return the event of a wait that failed with an error."""
        raise NotImplementedError

    def stop(self, client: ControlHubClient, *, force: bool = False) -> bool:
        """
        Stop the runs after a kill. Runs in a thread.

        :param client: client with short timeouts
        :param force: force the stop
        :returns: whether any run was still to be stopped
        """
        raise NotImplementedError

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event. Never raises: after an unhandled error, the task would start over."""
        started = asyncio.get_running_loop().time()
        self.warn_about_unknown_arguments(self.log)
        try:
            self._parse_booleans()
            settings = await self._connection_settings()
            # One string for all triggers of the connection.
            self.control_hub_conn_id = sys.intern(self.control_hub_conn_id)
            from airflow_provider_streamsets.polling.poller import shared_poller

            with shared_poller(settings) as poller:
                if self.is_credential_accepted:
                    poller.client.mark_accepted()
                try:
                    await self.prepare(poller)
                    deadline = EventLoopDeadline(self.deadline)
                    tracker = self.tracker(poller)
                    if tracker is None:
                        result = await self.wait_for_all(poller, deadline)
                    else:
                        result = None
                        subscription = _subscribe(tracker, poller, self.poll_interval)
                        try:
                            while result is None:
                                # Not in a coroutine: thousands of waits would each have its frame.
                                await subscription.changed(deadline.remaining)
                                result = await self._observe(tracker, subscription, poller, deadline)
                        finally:
                            subscription.close()
                    await self.process_result(result)
                    event = self.event(result)
                except ControlHubRunTimeoutError as error:
                    event = self.failure(error)
                event = await self.before_resumption(event, poller)
        except Exception as error:  # noqa: BLE001 - becomes the event
            event = self._event_of_error(error)
        await asyncio.sleep(max(started + self.min_deferral - asyncio.get_running_loop().time(), 0.0))
        yield await self.trigger_event(event)

    async def _connection_settings(self) -> ConnectionSettings:
        """
        Return the settings of the connection.

        :raises ControlHubRunTimeoutError: if it could not be read before the deadline, nor soon after the start
        """
        remaining = EventLoopDeadline(self.deadline).remaining
        read = asyncio.ensure_future(connection_settings(self.control_hub_conn_id))
        try:
            # A wait that begins after its deadline still polls once.
            await asyncio.wait({read}, timeout=None if remaining is None else max(remaining, _LAST_POLL_TIMEOUT))
            if not read.done():
                raise ControlHubRunTimeoutError(
                    f"Cannot wait for {self.description}: connection '{self.control_hub_conn_id}' could not be read "
                    "before the deadline."
                )
            return read.result()
        finally:
            read.cancel()

    async def _observe(
        self,
        tracker: Tracker[_Result],
        subscription: Subscription,
        poller: SharedStatusPoller,
        deadline: EventLoopDeadline,
    ) -> _Result | None:
        """
        Pass updates to a tracker, and return its result if there is one; there is as soon as the run has ended.

        :raises ControlHubRunTimeoutError: if there is no result in time
        """
        result: _Result | None = None
        try:
            if tracker.progress_interval:
                tracker.progress_interval = subscription.progress_interval
            # The status is not kept in a variable: thousands of waits would hold theirs until the next update.
            if _deliver(tracker, subscription.take()):
                result = await poller.run_query(tracker.resolve, deadline.remaining)
            # While a run may be missing, the tracker needs every poll.
            subscription.notify_on = tracker.notify_on
            if tracker.has_ended:
                subscription.close()
            while result is None and tracker.has_ended:
                if await deadline.sleep(tracker.next_delay(self.poll_interval)):
                    raise asyncio.TimeoutError
                result = await poller.run_query(tracker.resolve, deadline.remaining)
        except asyncio.TimeoutError:
            result = await _last_poll(tracker, poller)
            if result is None:
                raise tracker.timed_out(self.timeout) from None
        return result

    async def before_resumption(self, event: Any, poller: SharedStatusPoller) -> Event:
        """
        Act on the end of the wait, and return the event to resume the task with.

        :param event: event of the wait
        :param poller: poller of the connection
        """
        result: Event = event
        return result

    def _parse_booleans(self) -> None:
        """Parse boolean arguments, which are strings if a task that starts in the triggerer templates them."""
        for field in trigger_fields(type(self)):
            value = getattr(self, field.name)
            if isinstance(field.default, bool) and not isinstance(value, bool):
                setattr(self, field.name, params.boolean(value, field.name, rendered=True))

    @property
    def is_credential_accepted(self) -> bool:
        """Whether a worker has used the credential successfully before the task was deferred."""
        return True

    @property
    def min_deferral(self) -> float:
        """Minimum seconds before the task may be resumed."""
        return MIN_DEFERRAL_SECONDS

    async def trigger_event(self, event: Event) -> TriggerEvent:
        """
        Return the Airflow event for the end of the wait.

        :param event: event of the wait
        """
        return TriggerEvent(event.to_payload())

    def _event_of_error(self, error: Exception) -> Event:
        if isinstance(error, ControlHubError):
            return self.failure(error)
        self.log.exception("Unexpected error while waiting for %s; resuming the task with it.", self.description)
        return self.failure(
            ControlHubError(f"Cannot wait for {self.description}: unexpected {type(error).__name__}: {error}")
        )

    async def on_kill(self) -> None:
        """
        Stop the runs when a user marks or clears the deferred task (Airflow 3.3 and later).

        Airflow also calls this when the trigger only moves to another triggerer (apache/airflow#73454). The task is
        still deferred then, and nothing is stopped.
        """
        if not self.stop_on_kill:
            return
        # Airflow cancels a killed trigger, including this method, about every second until it has ended.
        stopping = asyncio.create_task(self._stop_unless_moved())
        _stop_tasks.add(stopping)
        stopping.add_done_callback(_stop_tasks.discard)
        await asyncio.shield(stopping)

    async def _stop_unless_moved(self) -> None:
        try:
            still_deferred = await is_still_deferred(self.task_instance)
            if still_deferred is not False:
                self.log.info(
                    "Not stopping %s: %s.",
                    self.description,
                    "the task is still deferred, so its trigger moves to another triggerer"
                    if still_deferred
                    else "the state of the task could not be read",
                )
                return
            self.log.warning("%s: stopping (the task was killed).", self.label)
            if not await self._stop_with_retries(force=self.force_stop_after == 0):
                self.log.info("Nothing to stop: %s already ended.", self.description)
            elif self.force_stop_after:
                await asyncio.sleep(self.force_stop_after)
                if await self._stop_with_retries(force=True):
                    self.log.warning(
                        "Forced the stop of %s, still active after %g s.", self.description, self.force_stop_after
                    )
        except Exception as error:  # noqa: BLE001 - no caller awaits this task, so the log is the only report
            self.log.error("Could not stop %s, which may still be active: %s", self.description, error)

    async def _stop_with_retries(self, *, force: bool) -> bool:
        """Stop the runs; retry for a while on errors, as nothing else will stop them."""
        remaining = KILL_MAX_WAIT
        while True:
            try:
                return await self._stop(force=force)
            except ControlHubAuthenticationError:
                raise
            except ControlHubError as error:
                if remaining <= 0:
                    raise
                self.log.warning("%s Retrying the stop in %g s.", error, _KILL_RETRY_DELAY)
            await asyncio.sleep(_KILL_RETRY_DELAY)
            remaining -= _KILL_RETRY_DELAY

    async def _stop(self, *, force: bool) -> bool:
        def stop(client: ControlHubClient) -> bool:
            with client:
                return self.stop(client, force=force)

        limits: dict[str, Any] = {"timeout": _KILL_TIMEOUT, "max_attempts": 2}
        settings = await connection_settings(self.control_hub_conn_id)
        refresh = ConnectionRefresh(self.control_hub_conn_id, settings.credential_grace_period, **limits)
        client = settings.client(**limits)
        client.mark_accepted()
        for rejections in itertools.count():
            try:
                return await asyncio.to_thread(stop, client)
            except ControlHubAuthenticationError as error:
                refreshed = await refresh.next_client(client, error, rejections)
                client = client if refreshed is None else refreshed[1]
        raise AssertionError("unreachable")


def _subscribe(tracker: Tracker[Any], poller: SharedStatusPoller, interval: float) -> Subscription:
    runs = {tracker.job_id: tracker.run_count}
    return poller.subscribe(runs, interval, tracker.notify_on, tracker.progress_interval)


def _deliver(tracker: Tracker[Any], updates: Mapping[str, JobRun | ControlHubError | None]) -> bool:
    """Pass an update to the tracker, and return whether the tracker must send requests."""
    status = updates[tracker.job_id]
    # An error for this job alone means no more than a missing status.
    return tracker.observe(None if isinstance(status, Exception) else status)


async def _last_poll(tracker: Tracker[_Result], poller: SharedStatusPoller) -> _Result | None:
    """Poll once more after the deadline, unless polling is paused after failures."""
    with contextlib.suppress(asyncio.TimeoutError):
        return await poller.run_query(lambda: tracker.poll(skip_metrics_wait=True), _LAST_POLL_TIMEOUT)
    return None
