"""What the triggers of this provider share: the connection, the deadline, the one event, and what a kill means."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_streamsets import params
from airflow_provider_streamsets.compat import MIN_DEFERRAL_SECONDS, is_still_deferred
from airflow_provider_streamsets.polling.connections import ConnectionRefresh, connection_settings

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubClient, ControlHubError, JobRun
    from airflow_provider_streamsets.control_hub.tracking.run import Tracker
    from airflow_provider_streamsets.polling.poller import SharedStatusPoller

_KILL_TIMEOUT = 10.0
# Seconds within which the last look of a wait whose time is over must begin, as others look, too.
_LAST_POLL = 10.0
# Seconds to try again to stop what a killed task has started while Control Hub refuses.
KILL_MAX_WAIT = 60.0
_DELAY_WHEN_KILLED = 3.0
# Keeps the stops of killed triggers from being collected while they are under way.
_stopping: set[asyncio.Task[None]] = set()
_logs: dict[type, Any] = {}


@functools.cache
def _parameters_of(kind: type) -> Mapping[str, inspect.Parameter]:
    # Thousands of triggers start together.
    return inspect.signature(kind).parameters


class Event(Protocol):
    """What a trigger tells the task that it resumes."""

    def to_payload(self) -> dict[str, Any]:
        """Return the event as JSON values."""


class Deadline:
    """
    When a wait is to give up, on the clock of the running event loop.

    :param at: in epoch seconds, so that it outlives the triggerer; None waits for ever
    """

    __slots__ = ("_at",)

    def __init__(self, at: float | None) -> None:
        self._at = None if at is None else asyncio.get_running_loop().time() + at - time.time()

    @property
    def left(self) -> float | None:
        """Seconds until then, 0 when it has passed; None if there is no deadline."""
        return None if self._at is None else max(self._at - asyncio.get_running_loop().time(), 0.0)

    async def sleep(self, seconds: float) -> bool:
        """
        Sleep, but not beyond the deadline.

        :returns: whether the deadline has come
        """
        left = self.left
        await asyncio.sleep(seconds if left is None else min(seconds, left))
        return left is not None and left <= seconds


class ControlHubTrigger(BaseTrigger):
    """
    Base of the triggers: yields one event, whatever happens.

    The arguments are stored in Airflow's database, unencrypted: they hold no secrets. In subclasses, too, all are named
    in the constructor, have defaults, so that a stored trigger outlives an upgrade of this provider, and are kept in
    attributes of the same names; the constructor does nothing else, since an error in it would end the triggerer.

    :param control_hub_conn_id: id of the Airflow connection
    :param poll_interval: seconds between two looks
    :param timeout: seconds that the wait was given, for the message
    :param deadline: when to give up, in epoch seconds; None waits for ever
    :param stop_on_kill: stop what is waited for when a person kills the deferred task (Airflow 3.3 and later)
    :param force_stop_after: seconds after which that stop is forced; None never forces it
    """

    def __init__(
        self,
        control_hub_conn_id: str = "streamsets_default",
        poll_interval: float = 30.0,
        timeout: float | None = None,
        deadline: float | None = None,
        stop_on_kill: bool = False,
        force_stop_after: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.control_hub_conn_id = control_hub_conn_id
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.deadline = deadline
        self.stop_on_kill = stop_on_kill
        self.force_stop_after = force_stop_after

    @property
    def log(self) -> Any:
        """The logger of the class: Airflow tells tasks apart by context, so thousands need not have their own."""
        kind = type(self)
        if kind not in _logs:
            _logs[kind] = super().log
        return _logs[kind]

    @property
    def what(self) -> str:
        """What is waited for, for messages; such as "run 4 of job ..."."""
        raise NotImplementedError

    async def wait(self, poller: SharedStatusPoller, deadline: Deadline) -> Event:
        """
        Wait.

        :param poller: the statuses of the connection's jobs, and its client
        :param deadline: when to give up
        :returns: what was found
        :raises ControlHubError: what ended the wait instead; becomes :meth:`failure`
        """
        raise NotImplementedError

    def failure(self, error: ControlHubError) -> Event:
        """Return the event for a wait that has ended with an error."""
        raise NotImplementedError

    def stop(self, client: ControlHubClient, *, force: bool = False) -> bool:
        """
        Stop what is waited for, after a kill. Runs in a thread.

        :param client: client with short time-outs
        :param force: force the stop
        :returns: whether there was something to stop
        """
        raise NotImplementedError

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores: the class and all arguments of its constructor."""
        names = _parameters_of(type(self))
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event. Never raises: an escaped error would let the task start over."""
        began = asyncio.get_running_loop().time()
        try:
            self._check_flags()
            deadline = Deadline(self.deadline)
            settings = await connection_settings(self.control_hub_conn_id)
            from airflow_provider_streamsets.polling.poller import shared_poller

            with shared_poller(settings) as poller:
                if self.has_been_accepted:
                    poller.client.mark_accepted()
                event = await self.wait(poller, deadline)
        except Exception as error:  # noqa: BLE001 - becomes the event
            event = self._event_of_error(error)
        await asyncio.sleep(max(began + self.min_deferral - asyncio.get_running_loop().time(), 0.0))
        yield await self.trigger_event(event)

    def _check_flags(self) -> None:
        """Read the flags, which the templates of a task that starts in the triggerer render as text."""
        for name, parameter in _parameters_of(type(self)).items():
            if isinstance(parameter.default, bool):
                setattr(self, name, params.boolean(getattr(self, name), name, rendered=True))

    @property
    def has_been_accepted(self) -> bool:
        """Whether a worker has worked with the connection before the task was deferred."""
        return True

    @property
    def min_deferral(self) -> float:
        """Seconds that have to pass before the task may be resumed."""
        return MIN_DEFERRAL_SECONDS

    async def trigger_event(self, event: Event) -> TriggerEvent:
        """
        Return what Airflow is told.

        :param event: how the wait has ended
        """
        return TriggerEvent(event.to_payload())

    def _event_of_error(self, error: Exception) -> Event:
        from airflow_provider_streamsets.control_hub import ControlHubError

        if isinstance(error, ControlHubError):
            return self.failure(error)
        self.log.exception("The wait for %s failed.", self.what)
        return self.failure(ControlHubError(f"The wait for {self.what} failed: {type(error).__name__}: {error}"))

    async def on_kill(self) -> None:
        """
        Stop what is waited for when a person marks or clears the deferred task (Airflow 3.3 and later).

        Airflow also calls this when the trigger is only moved to another triggerer (apache/airflow#73454); the task is
        then still deferred, and nothing is stopped.
        """
        if not self.stop_on_kill:
            return
        # Airflow cancels a killed trigger anew about every second until it has ended, this method included.
        stopping = asyncio.create_task(self._stop_unless_moved())
        _stopping.add(stopping)
        stopping.add_done_callback(_stopping.discard)
        await asyncio.shield(stopping)

    async def _stop_unless_moved(self) -> None:
        try:
            still_deferred = await is_still_deferred(self.task_instance)
            if still_deferred is not False:
                self.log.info(
                    "Leaving %s alone: %s.",
                    self.what,
                    "the task is still deferred, so the trigger is being moved"
                    if still_deferred
                    else "the state of the task cannot be read",
                )
                return
            self.log.warning("The task was killed; stopping %s.", self.what)
            if not await self._stop_patiently(force=self.force_stop_after == 0):
                self.log.info("There was nothing left to stop of %s.", self.what)
            elif self.force_stop_after:
                await asyncio.sleep(self.force_stop_after)
                if await self._stop_patiently(force=True):
                    self.log.warning("Forced the stop of %s.", self.what)
        except Exception as error:  # noqa: BLE001 - nobody awaits this; the log is where it can be told
            self.log.error("Could not stop %s, which may go on: %s", self.what, error)

    async def _stop_patiently(self, *, force: bool) -> bool:
        """Stop, and try again for a while if Control Hub is in trouble: nobody comes after this trigger."""
        from airflow_provider_streamsets.control_hub import ControlHubAuthenticationError, ControlHubError

        left = KILL_MAX_WAIT
        while True:
            try:
                return await self._stop(force=force)
            except ControlHubAuthenticationError:
                raise
            except ControlHubError as error:
                if left <= 0:
                    raise
                self.log.warning("%s Trying again in %g s.", error, _DELAY_WHEN_KILLED)
            await asyncio.sleep(_DELAY_WHEN_KILLED)
            left -= _DELAY_WHEN_KILLED

    async def _stop(self, *, force: bool) -> bool:
        from airflow_provider_streamsets.control_hub import ControlHubAuthenticationError

        def stop(client: ControlHubClient) -> bool:
            with client:
                return self.stop(client, force=force)

        limits: dict[str, Any] = {"timeout": _KILL_TIMEOUT, "max_attempts": 2}
        settings = await connection_settings(self.control_hub_conn_id)
        refresh = ConnectionRefresh(self.control_hub_conn_id, settings.credential_grace_period, **limits)
        client = settings.client(**limits)
        client.mark_accepted()
        for refusals in itertools.count():
            try:
                return await asyncio.to_thread(stop, client)
            except ControlHubAuthenticationError as error:
                refreshed = await refresh.next_client(client, error, refusals)
                client = client if refreshed is None else refreshed[1]
        raise AssertionError("unreachable")


class ControlHubRunTriggerBase(ControlHubTrigger):
    """
    Base of the triggers that wait for something of one run.

    All triggers of one connection share their status requests.

    :param control_hub_conn_id: id of the Airflow connection
    :param job_id: id of the job
    :param job_name: its name, for messages
    :param run_count: number of the run
    :param poll_interval: seconds between two looks
    :param timeout: seconds that the wait was given, for the message
    :param deadline: when to give up, in epoch seconds; None waits as long as the run takes
    :param metrics_timeout: seconds to wait for the run's final metrics after its end, at the most
    :param stop_on_kill: stop the run when a person kills the deferred task (Airflow 3.3 and later)
    :param force_stop_after: seconds after which that stop is forced; None never forces it
    :param identity: id of the run and its start in epoch seconds, which tell it from a run of the same number after the
        job was deleted and imported again; None if they are not known
    :param started_after: wait for the first run that was started at this time or later, in ISO 8601; `run_count` is
        then the lowest number that it can have. None if the number is known
    """

    def __init__(
        self,
        control_hub_conn_id: str = "streamsets_default",
        job_id: str = "",
        job_name: str = "",
        run_count: int = 0,
        poll_interval: float = 30.0,
        timeout: float | None = None,
        deadline: float | None = None,
        metrics_timeout: float = 30.0,
        stop_on_kill: bool = False,
        force_stop_after: float | None = None,
        identity: Sequence[str | float | None] | None = None,
        started_after: str | None = None,
    ) -> None:
        super().__init__(
            control_hub_conn_id=control_hub_conn_id,
            poll_interval=poll_interval,
            timeout=timeout,
            deadline=deadline,
            stop_on_kill=stop_on_kill,
            force_stop_after=force_stop_after,
        )
        self.job_id = job_id
        self.job_name = job_name
        self.run_count = run_count
        self.metrics_timeout = metrics_timeout
        self.identity = identity
        self.started_after = started_after

    @property
    def what(self) -> str:
        """The run, for messages."""
        return f"run {self.run_count} of job {self.job_id}"

    @property
    def known_run(self) -> tuple[str, int]:
        """Job id and number of the run, as far as they are known before the task has started, for an event."""
        return self.job_id or "", self.run_count if isinstance(self.run_count, int) else 0

    def tracker(self, poller: SharedStatusPoller) -> Tracker[Any]:
        """
        Return what decides, look by look, when the wait is over; asked in a thread for what sends requests.

        :param poller: the statuses, and the client
        """
        raise NotImplementedError

    def event(self, found: Any) -> Event:
        """
        Return the event for what the follower has found.

        :param found: what it has found
        """
        raise NotImplementedError

    async def wait(self, poller: SharedStatusPoller, deadline: Deadline) -> Any:
        """Show the statuses of the job to the follower until it has found what it waits for."""
        tracker = self.tracker(poller)
        found: Any = None
        try:
            with poller.subscribe({self.job_id: self.run_count}, self.poll_interval, tracker.notify_on) as subscription:
                while found is None and not tracker.has_ended:
                    # No status in a variable: each of thousands of waits would keep it until the next one comes.
                    if self._deliver(tracker, await subscription.next(deadline.left)):
                        found = await poller.run_query(tracker.resolve, deadline.left)
                    # A run that may be gone is to be seen at each look until that is sure.
                    subscription.notify_on = tracker.notify_on
            while found is None:
                if await deadline.sleep(tracker.next_delay(self.poll_interval)):
                    raise asyncio.TimeoutError
                found = await poller.run_query(tracker.resolve, deadline.left)
        except asyncio.TimeoutError:
            found = await self._last_poll(tracker, poller)
        if found is None:
            raise tracker.timed_out(self.timeout)
        self.run_count = found.replaced or tracker.run_count
        return self.event(found)

    def _deliver(self, tracker: Tracker[Any], updates: Mapping[str, JobRun | ControlHubError | None]) -> bool:
        """Show what a look has found to a follower, and return whether there is something to ask for."""
        status = updates[self.job_id]
        # A refusal that concerns this job alone says no more than that it shows no status.
        return tracker.observe(None if isinstance(status, Exception) else status)

    @staticmethod
    async def _last_poll(tracker: Tracker[Any], poller: SharedStatusPoller) -> Any:
        """Look once more when the time is over, unless Control Hub is known not to answer."""
        with contextlib.suppress(asyncio.TimeoutError):
            return await poller.run_query(lambda: tracker.poll(skip_metrics_wait=True), _LAST_POLL)
        return None
