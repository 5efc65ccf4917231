from __future__ import annotations

import asyncio
import re
import threading
from typing import Any

import pytest

from airflow_provider_streamsets.polling.run_watcher import CursorStore, EventSlots, RunWatcher
from airflow_provider_streamsets.polling.watcher_group import PollItem, WatcherGroup
from airflow_provider_streamsets.polling.watcher_query import JobSelector
from airflow_provider_streamsets.triggers.job_events import OUTCOMES
from tests.unit.fakes.multi_job_hub import JR, MultiJobHub, job_id, succeeded
from tests.unit.fakes.triggerer import show
from tests.unit.fakes.virtual_time import run_in_virtual_time

pytestmark = pytest.mark.usefixtures("connection")

EVENTS = re.compile("/jobStatusHistory")


@pytest.fixture
def hub(http) -> MultiJobHub:
    hub = MultiJobHub(http, orders=[succeeded(3)])
    hub.saves("orders", 4)
    return hub


def watcher(group: WatcherGroup) -> RunWatcher:
    return RunWatcher(
        group,
        JobSelector(job_id("orders")),
        CursorStore(None, "key"),
        outcomes=OUTCOMES,
        metrics_timeout=30.0,
        slots=EventSlots(),
    )


async def collect(group: WatcherGroup, payloads: list[dict[str, Any]]) -> None:
    async for payload in watcher(group).payloads(group.items()):
        payloads.append(payload)


async def drain(group: WatcherGroup, items: list[PollItem]) -> None:
    async for item in group.items():
        items.append(item)


async def end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def test_ending_stream_keeps_requests_of_next_one(hub):
    async def scene() -> None:
        group = WatcherGroup("streamsets_default", 30.0)
        first: list[PollItem] = []
        second: list[PollItem] = []
        group.join(watcher(group))
        old = asyncio.create_task(drain(group, first))
        await asyncio.sleep(10)
        new = asyncio.create_task(drain(group, second))
        await asyncio.sleep(1)
        await end(old)
        group.close()
        await asyncio.sleep(100)
        assert (len(first), len(second)) == (1, 3)
        await end(new)
        again = asyncio.create_task(drain(group, second))
        await asyncio.sleep(10)
        assert len(second) == 4
        await end(again)

    run_in_virtual_time(scene())


def test_threads_end_with_last_stream(hub):
    async def scene() -> None:
        group = WatcherGroup("streamsets_default", 0.05)
        tasks = [asyncio.create_task(collect(group, []))]
        while not hub.polls:
            await asyncio.sleep(0.01)
        await end(*tasks)

    asyncio.run(asyncio.wait_for(scene(), 20))
    for thread in threading.enumerate():
        if thread.name.startswith("control-hub"):
            thread.join(10)
            assert not thread.is_alive()


def test_outage_of_details_in_threads_is_survived(hub, http):
    async def scene() -> list[dict[str, Any]]:
        group = WatcherGroup("streamsets_default", 0.05)
        payloads: list[dict[str, Any]] = []
        task = asyncio.create_task(collect(group, payloads))
        while not hub.polls:
            await asyncio.sleep(0.01)
        failing = http.get(EVENTS, status_code=503)
        show(hub, "orders", succeeded(4))
        while not failing.called:
            await asyncio.sleep(0.01)
        http.get(EVENTS, json=[])
        while not payloads:
            await asyncio.sleep(0.01)
        await end(task)
        return payloads

    (payload,) = asyncio.run(asyncio.wait_for(scene(), 20))
    assert payload["run_count"] == 4


def test_refused_details_are_retried_and_do_not_pause_polls(hub, http, caplog):
    caplog.set_level("INFO")

    async def scene() -> list[dict[str, Any]]:
        group = WatcherGroup("streamsets_default", 30.0)
        payloads: list[dict[str, Any]] = []
        task = asyncio.create_task(collect(group, payloads))
        await asyncio.sleep(10)
        events = f"{JR}/job/run-orders-4:org/jobStatusHistory"
        refused = http.get(events, status_code=401)
        show(hub, "orders", succeeded(4))
        await asyncio.sleep(300)
        assert payloads == []
        assert 5 < refused.call_count < 15
        assert len(hub.polls) > 9
        http.get(events, json=[])
        await asyncio.sleep(60)
        await end(task)
        return payloads

    (payload,) = run_in_virtual_time(scene())
    assert payload["run_count"] == 4
    assert "Asset events are paused" not in caplog.text
    assert caplog.text.count("its report could not be read") == 1
