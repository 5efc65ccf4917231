"""An event loop whose clock jumps instead of waiting."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any
from unittest import mock


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Never waits: moves the loop's clock on by the time it would have waited."""

    def __init__(self, now: float) -> None:
        super().__init__()
        self.now = now

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        elif timeout is None and not ready:
            raise RuntimeError("everything waits for something that will never happen")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on virtual time. What is sent to a thread runs at once, in the loop."""

    def __init__(self, now: float = 1000.0) -> None:
        self._jumping = _JumpingSelector(now)
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


async def _at_once(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    await asyncio.sleep(0)
    return function(*args, **kwargs)


def run_virtually(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end on a fresh loop with virtual time, ``time.time`` included."""
    return run_on(VirtualLoop(), coroutine)


def run_on(loop: VirtualLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end on a loop, and close the loop."""
    try:
        with mock.patch("asyncio.to_thread", _at_once), mock.patch("time.time", loop.time):
            return loop.run_until_complete(coroutine)
    finally:
        leftovers = asyncio.all_tasks(loop)
        for task in leftovers:
            task.cancel()
        if leftovers:
            loop.run_until_complete(asyncio.wait(leftovers))
        loop.close()
