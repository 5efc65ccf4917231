"""Running tasks to their ends as Airflow does: deferral, trigger, resumption, all on one virtual clock."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook, TaskDeferred

from airflow_provider_streamsets.polling import connections
from tests.unit.fakes.single_job_hub import T0
from tests.unit.fakes.virtual_time import VirtualLoop, run_on_loop


class Clock:
    """The time of day, the monotonic clock and the event loops of triggers; only waiting moves it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._loop: VirtualLoop | None = None

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        assert len(self.slept) < 20_000, "this wait has no end"
        self.slept.append(seconds)
        self.now += seconds

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine to its end on a loop that begins at this time, and continue at the time of its end."""
        loop = self._loop = VirtualLoop(self.now)
        try:
            return run_on_loop(loop, coroutine)
        finally:
            self._loop = None
            self.now = max(self.now, loop.time())

    @property
    def current_time(self) -> float:
        """The time, also while a coroutine runs."""
        return self.now if self._loop is None else max(self.now, self._loop.time())


def patch_clock(monkeypatch: pytest.MonkeyPatch, *, shared_with_control_hub: bool = False) -> Clock:
    """
    Return a clock that everything runs on, and let triggers read connections at once.

    :param shared_with_control_hub: starts are announced in its time, too, as with a :class:`SimulatedHub`
    """
    clock = Clock()
    control_hubs_time = clock.time if shared_with_control_hub else lambda: T0 / 1000 + 200
    monkeypatch.setattr("time.time", clock.time)
    monkeypatch.setattr("time.monotonic", clock.time)
    monkeypatch.setattr("time.sleep", clock.sleep)
    monkeypatch.setattr("airflow_provider_streamsets.control_hub.submission.wall_clock", control_hubs_time)
    monkeypatch.setattr(connections, "get_connection_and_extra", read_connection_inline)
    return clock


async def read_connection_inline(conn_id: str) -> tuple[Any, dict[str, Any]]:
    """Read a connection without the threads that Airflow uses, for which virtual time does not wait."""
    connection = BaseHook.get_connection(conn_id)
    return connection, connection.extra_dejson


def collect_events(clock: Clock, trigger: Any) -> list[Any]:
    """Run a trigger to its end and return what it yields."""

    async def scene() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    return list(clock.run(scene()))


def single_event(clock: Clock, trigger: Any) -> Any:
    """Run a trigger, recreated from what Airflow stores of it, and return the one event as it arrives at the task."""
    _, arguments = trigger.serialize()
    (payload,) = collect_events(clock, type(trigger)(**json.loads(json.dumps(arguments))))
    return json.loads(json.dumps(payload))


class TaskRunner:
    """
    Runs a task leg by leg, each with a new task, as each is a process of its own.

    :param clock: the time
    :param make_task: makes the task
    :param context: its context
    """

    def __init__(self, clock: Clock, make_task: Callable[[], Any], context: Any) -> None:
        self._clock = clock
        self._make_task = make_task
        self._context = context
        self.triggers: list[Any] = []
        self.events: list[Any] = []
        self.timeouts: list[Any] = []

    def run(self) -> Any:
        """Return what the last leg returns, or raise what it raises."""
        method, event = "execute", None
        while True:
            task = self._make_task()
            try:
                if event is None:
                    return task.execute(self._context)
                return task.resume_execution(method, {"event": event}, self._context)
            except TaskDeferred as deferred:
                self.triggers.append(deferred.trigger)
                self.timeouts.append(deferred.timeout)
                method, event = deferred.method_name, single_event(self._clock, deferred.trigger)
                self.events.append(event)
