"""An event loop whose clock jumps instead of waiting."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any
from unittest import mock

from airflow_provider_streamsets.polling import sender

# Half a year. Far later, the resolution of a float would not suffice for the loop's timers.
_LAST_TIME = 1.6e7


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Never waits: moves the loop's clock on by the time it would have waited."""

    def __init__(self, now: float) -> None:
        super().__init__()
        self.now = now

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
            if self.now > _LAST_TIME:
                raise RuntimeError("something waits forever while time passes")
        elif timeout is None and not ready:
            raise RuntimeError("everything waits for something that will never happen")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """
    A loop on virtual time. What is sent to a thread runs in the loop.

    :param now: time at its beginning
    :param thread_latency: seconds from the end of what is sent to a thread until the loop is notified
    """

    def __init__(self, now: float = 1000.0, thread_latency: float = 0.0) -> None:
        self._jumping = _JumpingSelector(now)
        self._thread_takes = thread_latency
        self._in_threads = 0
        self.max_concurrent_threads = 0
        """How many functions were in threads at a time."""
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def jump(self, seconds: float) -> None:
        """Advance the time at once, as when the machine was suspended."""
        self._jumping.now += seconds

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        if getattr(executor, "_shutdown", False):
            raise RuntimeError("cannot schedule new futures after shutdown")
        answer = self.create_future()

        def deliver(result: Any, error: BaseException | None) -> None:
            self._in_threads -= 1
            if answer.done():
                return
            if error is None:
                answer.set_result(result)
            else:
                answer.set_exception(error)

        def run() -> None:
            result, error = None, None
            try:
                result = func(*args)
            except Exception as raised:  # noqa: BLE001 - handed on as a thread would
                error = raised
            self._in_threads += 1
            self.max_concurrent_threads = max(self.max_concurrent_threads, self._in_threads)
            self.call_later(self._thread_takes, deliver, result, error)

        self.call_soon(run)
        return answer


def run_in_virtual_time(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end on a fresh loop with virtual time, ``time.time`` and waits in threads included."""
    return run_on_loop(VirtualLoop(), coroutine)


def run_on_loop(loop: VirtualLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end on a loop, and close the loop."""
    try:
        with (
            mock.patch("time.time", loop.time),
            mock.patch.object(sender, "sleep_in_thread", lambda seconds, _: loop.jump(seconds)),
        ):
            return loop.run_until_complete(coroutine)
    finally:
        leftovers = asyncio.all_tasks(loop)
        for task in leftovers:
            task.cancel()
        if leftovers:
            loop.run_until_complete(asyncio.wait(leftovers))
        loop.close()
