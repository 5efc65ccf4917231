"""Virtual time: the waits of tasks and triggers in this process end at once, and the clocks that they read advance."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import math
import pkgutil
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

_PACKAGE = "airflow_provider_streamsets"
_WAITING_PACKAGES = ("control_hub", "hooks", "operators", "polling", "sensors", "triggers")
# The loops that poke sensors, of Airflow 3 and 2.
_SENSOR_MODULES = ("airflow.sdk.bases.sensor", "airflow.sensors.base")


class VirtualTime:
    """
    Replaces the module :mod:`time` in the modules of the provider: sleeping advances the clocks instead of waiting.

    Between two waits, the clocks follow the real ones. Everything else in the process keeps real time.

    :param on_advance: advances other clocks by a number of seconds, such as that of the sandbox.
    """

    def __init__(self, on_advance: Callable[[float], object]) -> None:
        self._on_advance = on_advance
        self._lock = threading.Lock()
        self._advanced = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def __getattr__(self, name: str) -> Any:
        """Return other functions of the module."""
        return getattr(time, name)

    def time(self) -> float:
        """Return the virtual time in epoch seconds."""
        return time.time() + self._advanced

    def monotonic(self) -> float:
        """Return the seconds of a virtual monotonic clock."""
        return time.monotonic() + self._advanced

    def sleep(self, seconds: float) -> None:
        """Advance all clocks instead of waiting."""
        if seconds > 0:
            self._on_advance(seconds)
            with self._lock:
                self._advanced += seconds

    @contextlib.contextmanager
    def installed(self) -> Iterator[VirtualTime]:
        """Use virtual time for the duration of the context."""
        from airflow_provider_streamsets.control_hub import submission
        from airflow_provider_streamsets.control_hub.transport import Transport
        from airflow_provider_streamsets.operators import _run_wait
        from airflow_provider_streamsets.triggers.base import ControlHubTrigger

        run = ControlHubTrigger.run

        async def run_in_virtual_time(trigger: ControlHubTrigger) -> AsyncIterator[Any]:
            with self._on_loop(asyncio.get_running_loop()):
                # Complete: when the consumer receives the event, the loop is on real time again.
                events = [event async for event in run(trigger)]
            for event in events:
                yield event

        with pytest.MonkeyPatch.context() as patch:
            for module in _modules():
                if vars(module).get("time") is time:
                    patch.setattr(module, "time", self)
            patch.setattr(submission, "wall_clock", self.time)
            # Nothing can kill the task during a wait, so the wait need not be split.
            patch.setattr(_run_wait, "_MAX_SLEEP", math.inf)
            # The date of a response is real. The clocks of provider and sandbox advance together, without a skew.
            patch.setattr(Transport, "_update_clock_skew", lambda transport, _: setattr(transport, "clock_skew", 0.0))
            patch.setattr(ControlHubTrigger, "run", run_in_virtual_time)
            yield self

    @contextlib.contextmanager
    def _on_loop(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Make an event loop jump to its next timer whenever it would wait for nothing else."""
        selector = getattr(loop, "_selector", None)
        if selector is None or self._loop is loop:
            # A loop of another library waits in real time.
            yield
            return
        select, run_in_executor = selector.select, loop.run_in_executor
        running: set[asyncio.Future[Any]] = set()

        def count_thread(executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
            future = run_in_executor(executor, func, *args)
            running.add(future)
            future.add_done_callback(running.discard)
            return future

        def jump(timeout: float | None = None) -> Any:
            # Requests in threads take real time.
            if running or timeout is None or timeout <= 0:
                return select(timeout)
            ready = select(0)
            if not ready:
                self.sleep(timeout)
            return ready

        previous, self._loop = self._loop, loop
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "time", self.monotonic)
            patch.setattr(loop, "run_in_executor", count_thread)
            patch.setattr(selector, "select", jump)
            try:
                yield
            finally:
                self._loop = previous


def _modules() -> list[ModuleType]:
    """Import all modules that wait, as those imported later would have real time."""
    names = list(_SENSOR_MODULES)
    for package in _WAITING_PACKAGES:
        path = importlib.import_module(f"{_PACKAGE}.{package}").__path__
        names += [module.name for module in pkgutil.walk_packages(path, f"{_PACKAGE}.{package}.")]
    for name in names:
        try:
            if name.startswith(_PACKAGE):
                importlib.import_module(name)
        except ModuleNotFoundError as error:
            # A module that the provider uses with newer versions of Airflow only.
            if not (error.name or "").startswith("airflow."):
                raise
    return [sys.modules[name] for name in names if name in sys.modules]
