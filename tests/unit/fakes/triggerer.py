"""Watchers as a triggerer runs them, for unit tests on virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from airflow_provider_streamsets.triggers.job_events import ControlHubJobRunEventTrigger
from tests.unit.fakes.multi_job_hub import MultiJobHub, job_id

FOREVER = 10_000.0


class AssetStore:
    """The state store of one asset, which outlives triggerers."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.problem: Exception | None = None
        self.saves = 0

    def _single_accessor(self) -> AssetStore:
        return self

    async def aget(self, key: str, default: Any = None) -> Any:
        await asyncio.sleep(0.01)
        if self.problem is not None:
            raise self.problem
        return json.loads(self.values[key]) if key in self.values else default

    async def aset(self, key: str, value: Any) -> None:
        await asyncio.sleep(0.01)
        if self.problem is not None:
            raise self.problem
        self.saves += 1
        self.values[key] = json.dumps(value)

    @property
    def reported(self) -> dict[str, int]:
        """How far the runs are reported, by name of the job, says the only cursor in the store."""
        (cursor,) = self.values.values()
        return {job.removesuffix(":org"): count for job, count in json.loads(cursor)["runs"].items()}


class StandaloneWatcher:
    """
    A watcher with a poll of its own, as on an Airflow without shared streams.

    :param trigger: the watcher
    :param store: the state store of its asset
    """

    def __init__(self, trigger: ControlHubJobRunEventTrigger, store: AssetStore | None = None) -> None:
        trigger.trigger_id = 1
        trigger.asset_state_store = store  # type: ignore[assignment]
        self.payloads: list[dict[str, Any]] = []
        self.times: list[float] = []
        """When each event came, on the clock of the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(trigger))

    async def _run(self, trigger: ControlHubJobRunEventTrigger) -> None:
        async for event in trigger.run():
            self.payloads.append(json.loads(json.dumps(event.payload)))
            self.times.append(asyncio.get_running_loop().time())

    @property
    def reports(self) -> list[dict[str, Any]]:
        """The facts about each run, of all events."""
        return [run for payload in self.payloads for run in payload["runs"]]

    @property
    def runs(self) -> list[tuple[str, int]]:
        """Name of the job, and run count, of each run of all events."""
        return reported_runs(self.payloads)

    @property
    def is_alive(self) -> bool:
        return not self._task.done()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


def reported_runs(payloads: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(run["job_id"].removesuffix(":org"), run["run_count"]) for payload in payloads for run in payload["runs"]]


def show(hub: MultiJobHub, name: str, status: dict[str, Any] | None, *history: dict[str, Any]) -> None:
    """Let a job have a latest run, and further ones in its history."""
    hub.latest[job_id(name)] = hub._status(name, status)
    hub.history[name] = [*([status] if status else []), *history]


class Triggerer:
    """
    What Airflow's triggerer does with watchers: shared streams, events that are stored a moment later.

    :param stores: whether it stores the event of a trigger
    """

    def __init__(self, stores: Callable[[int, Any], bool] = lambda *_: True, ack_timeout: float = 300.0) -> None:
        from airflow.triggers.shared_stream import SharedStreamManager

        loop = asyncio.get_running_loop()
        self._manager = SharedStreamManager(_now=loop.time, ack_timeout=ack_timeout)
        self._stores = stores
        self.events: dict[int, list[dict[str, Any]]] = {}
        self.errors: dict[int, BaseException] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._outbound: list[tuple[int, Any, int | None]] = []
        self.before_accept: Callable[[int], float | None] = lambda _: None
        """Called when a watcher yields an event; returns the seconds until the triggerer takes it."""
        self._sync = loop.create_task(self._sync_for_ever())

    def start(self, number: int, trigger: ControlHubJobRunEventTrigger, store: Any = None) -> None:
        """Run a watcher."""
        trigger.trigger_id = number
        trigger.asset_state_store = store
        self.events.setdefault(number, [])
        self._tasks[number] = asyncio.get_running_loop().create_task(self._run(number, trigger))

    async def _run(self, number: int, trigger: ControlHubJobRunEventTrigger) -> None:
        key = trigger.shared_stream_key()
        assert key is not None
        stream = self._manager.subscribe(trigger_id=number, trigger=trigger, key=key)
        try:
            async for event in trigger.filter_shared_stream(stream):
                await asyncio.sleep(self.before_accept(number) or 0)
                seq = self._manager.bind_pending_event(trigger_id=number, key=key)
                self._outbound.append((number, event.payload, seq))
        except Exception as error:  # noqa: BLE001 - tests check what ended the watcher
            self.errors[number] = error
        finally:
            await self._manager.unsubscribe(number, key)

    async def _sync_for_ever(self) -> None:
        while True:
            await asyncio.sleep(1)
            sent, self._outbound = self._outbound, []
            stored = []
            for number, payload, seq in sent:
                if self._stores(number, payload):
                    self.events[number].append(json.loads(json.dumps(payload)))
                    stored.append(seq)
            await asyncio.sleep(0.5)
            self._manager.confirm_persisted([seq for seq in stored if seq is not None])

    def runs(self, number: int) -> list[tuple[str, int]]:
        """Name of the job, and run count, of each run of the events of a watcher that were stored."""
        return reported_runs(self.events[number])

    def cancel(self, number: int) -> None:
        self._tasks[number].cancel()

    async def kill(self) -> None:
        """End everything; what has not been stored is gone."""
        self._outbound.clear()
        for task in (self._sync, *self._tasks.values()):
            task.cancel()
        await asyncio.wait([self._sync, *self._tasks.values()])
        await self._manager.stop_all()
