"""A minimal triggerer with the per-trigger overhead of Airflow's triggerer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import greenback
from airflow.triggers.base import BaseTrigger
from structlog.contextvars import bind_contextvars

# Same as Airflow's watchdog.
_WATCHDOG_INTERVAL = 0.1

log = logging.getLogger(__name__)


class Triggerer:
    """
    Runs triggers on one event loop, each in a task with a portal for synchronous calls, and monitors the loop.

    :param on_event: called with the payload of each event; returns the trigger to run next, None for none
    """

    def __init__(self, on_event: Callable[[Any], BaseTrigger | None]) -> None:
        self._on_event = on_event
        self._triggers: dict[int, dict[str, Any]] = {}
        self._longest_block = 0.0
        self._started = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def longest_block(self) -> float:
        """Return the longest blocking of the event loop since the previous call, in seconds."""
        longest, self._longest_block = self._longest_block, 0.0
        return longest

    async def run(self, triggers: Iterator[BaseTrigger], count: int, ramp: float, started: Callable[[], None]) -> None:
        """
        Run triggers indefinitely.

        :param triggers: the triggers, created lazily as they are started
        :param count: number of triggers
        :param ramp: seconds over which they are started
        :param started: called when all triggers are started
        """
        watchdog = asyncio.create_task(self._watch())
        loop = self._loop = asyncio.get_running_loop()
        began = loop.time()
        for number, trigger in enumerate(triggers):
            await asyncio.sleep(max(began + ramp * number / count - loop.time(), 0.0))
            self._start(number, trigger)
        self._started = count
        started()
        await watchdog

    def tasks(self) -> int:
        """Return the number of tasks of the event loop; called in another thread."""
        return 0 if self._loop is None else len(asyncio.all_tasks(self._loop))

    def _start(self, number: int, trigger: BaseTrigger) -> None:
        name = f"bench/manual__2026-01-01T00:00:00+00:00/wait/{number}/1 (ID {number})"
        task = asyncio.create_task(self._run_trigger(number, trigger), name=name)
        self._triggers[number] = {"task": task, "is_watcher": False, "name": name, "events": 0}

    async def _run_trigger(self, number: int, trigger: BaseTrigger) -> None:
        await greenback.ensure_portal()
        bind_contextvars(trigger_id=number, dag_id="bench", task_id="wait", run_id="manual", map_index=number)
        async for event in trigger.run():
            self._triggers[number]["events"] += 1
            following = self._on_event(event.payload)
            if following is not None:
                del self._triggers[number]
                self._started += 1
                self._start(self._started, following)

    async def _watch(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(_WATCHDOG_INTERVAL)
            self._longest_block = max(self._longest_block, time.monotonic() - began - _WATCHDOG_INTERVAL)
