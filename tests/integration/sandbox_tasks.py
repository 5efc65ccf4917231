"""Run tasks against a sandbox; worker, triggerer and sandbox share one clock, which advances only on waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from tests.unit.conftest import StateStore, TaskInstance
from tests.unit.fakes.task_runner import Clock, TaskRunner
from tests.unit.fakes.virtual_time import VirtualLoop, run_on_loop


class SandboxClock(Clock):
    """
    A clock whose waits also advance a sandbox's clock.

    :param sandbox: a frozen sandbox
    """

    def __init__(self, sandbox: Any) -> None:
        super().__init__()
        self._reached = self.now
        self._epoch = sandbox.now() / 1000 - self.now
        self._sandbox = sandbox
        self._actions: list[tuple[float, Callable[[], object]]] = []

    def time_of_day(self) -> float:
        """Return the sandbox's time; event loop times of this magnitude would be too coarse."""
        return self._epoch + self.current_time

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        """Schedule an action after a number of seconds of waiting."""
        self._actions.append((self.current_time + seconds, act))

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self._catch_up()

    def run(self, coroutine: Any) -> Any:
        catch_up = self._catch_up

        class Loop(VirtualLoop):
            def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
                def on_time() -> Any:
                    catch_up()
                    return func(*args)

                return super().run_in_executor(executor, on_time)

        async def at_time_of_day() -> Any:
            with mock.patch("time.time", self.time_of_day):
                return await coroutine

        loop = self._loop = Loop(self.now)
        try:
            return run_on_loop(loop, at_time_of_day())
        finally:
            self._loop = None
            self.now = max(self.now, loop.time())
            self._catch_up()

    def _catch_up(self) -> None:
        now = self.current_time
        for action in sorted(self._actions, key=lambda action: action[0]):
            if action[0] <= now and action in self._actions:
                self._actions.remove(action)
                self._advance(action[0])
                action[1]()
        self._advance(now)

    def _advance(self, to: float) -> None:
        if to > self._reached:
            self._sandbox.advance(to - self._reached)
            self._reached = to


class SandboxTaskInstance(TaskInstance):
    """A task instance that can do something when its run has been started."""

    def __init__(self) -> None:
        super().__init__()
        self.on_started: Callable[[], object] = lambda: None

    def xcom_push(self, key: str, value: Any) -> None:
        super().xcom_push(key, value)
        if key == "run_count":
            self.on_started()
            self.on_started = lambda: None


class SandboxTask:
    """
    A task instance whose tries run on a sandbox.

    :param clock: the time
    :param deferrable: whether it waits on the triggerer
    """

    def __init__(self, clock: SandboxClock, *, deferrable: bool) -> None:
        self._clock = clock
        self._deferrable = deferrable
        self.ti = SandboxTaskInstance()
        self._context = {"ti": self.ti, "task_state_store": StateStore()}

    def run(self, operator: type[Any], **arguments: Any) -> Any:
        """Run one try and return its result, or raise its error."""
        arguments = {"deferrable": self._deferrable, **arguments}
        try:
            return TaskRunner(self._clock, lambda: operator(task_id="task", **arguments), self._context).run()
        finally:
            self.ti.try_number += 1
