"""Requests within a rate limit that the server does not publish, on virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
import threading
from collections.abc import Coroutine
from functools import partial
from typing import Any

import pytest

from airflow_provider_streamsets.control_hub import ControlHubUnavailableError
from airflow_provider_streamsets.control_hub.tracking.run import NotifyOn
from airflow_provider_streamsets.hooks.connection import ConnectionSettings
from airflow_provider_streamsets.polling import sender
from airflow_provider_streamsets.polling.poller import SharedStatusPoller, shared_poller
from airflow_provider_streamsets.polling.request_rate import RequestRate
from tests.unit.conftest import TOKEN
from tests.unit.fakes.status_client import FakeStatusClient, poll_times
from tests.unit.fakes.virtual_time import VirtualLoop, run_in_virtual_time, run_on_loop


class LimitingClient(FakeStatusClient):
    """
    Rejects requests above a rate, by a token bucket that holds the tokens of a second.

    :param per_second: requests per second
    :param retry_after: header of the rejections
    """

    def __init__(self, per_second: float = 1e9, retry_after: float | None = None, bulk_size: int = 1) -> None:
        super().__init__(bulk_size=bulk_size)
        self.per_second = per_second
        self.retry_after = retry_after
        self.polls: list[float] = []
        self.queries: list[float] = []
        self.rejected: list[float] = []
        self._tokens, self._refilled_at = max(per_second, 1.0), 1000.0

    def _take_token(self, accepted: list[float]) -> None:
        now = asyncio.get_running_loop().time()
        self._tokens = min(self._tokens + (now - self._refilled_at) * self.per_second, max(self.per_second, 1.0))
        self._refilled_at = now
        if self._tokens < 1:
            self.rejected.append(now)
            raise ControlHubUnavailableError("slow down", http_status=429, retry_after=self.retry_after)
        self._tokens -= 1
        accepted.append(now)

    def respond(self, job_ids: list[str]) -> Any:
        self._take_token(self.polls)
        return super().respond(job_ids)

    def query(self) -> None:
        """Send a request about a single run."""
        self.throttle(lambda: self._take_token(self.queries))


async def query_until_accepted(poller: SharedStatusPoller, client: LimitingClient) -> float:
    """Send a query until it is accepted, as a tracker does, and return how many seconds that took."""
    now = asyncio.get_running_loop().time
    began = now()
    while True:
        try:
            await poller.run_query(client.query)
            return now() - began
        except ControlHubUnavailableError:
            await asyncio.sleep(5)


async def exceed_limit(poller: SharedStatusPoller, client: LimitingClient) -> None:
    """Send queries until one is rejected."""
    while not client.rejected:
        with contextlib.suppress(ControlHubUnavailableError):
            await poller.run_query(client.query)


def run(scenario: Coroutine[Any, Any, Any], latency: float = 0.02) -> Any:
    return run_on_loop(VirtualLoop(thread_latency=latency), scenario)


def between(times: list[float], start: float, end: float) -> int:
    return sum(start <= when < end for when in times)


@pytest.mark.parametrize("retry_after", [None, 1])
@pytest.mark.parametrize(("per_second", "max_rejected"), [(1, 0.15), (2, 0.06), (5, 0.03), (20, 0.01)])
def test_rate_stays_near_limit(per_second, max_rejected, retry_after):
    client = LimitingClient(per_second, retry_after)

    async def scenario() -> None:
        with SharedStatusPoller(client).subscribe({f"job-{n}": 1 for n in range(500)}, 10):
            await asyncio.sleep(600)

    run(scenario())
    accepted, rejected = (between(times, 1060, 1600) for times in (client.polls, client.rejected))
    assert accepted >= 0.64 * 540 * per_second
    assert rejected <= max_rejected * accepted


def test_rate_is_unlimited_without_rejections():
    client = LimitingClient()

    async def scenario() -> list[float]:
        poller = SharedStatusPoller(client)
        with poller.subscribe({f"job-{n}": 1 for n in range(500)}, 10):
            await asyncio.sleep(60)
            return await asyncio.gather(*(query_until_accepted(poller, client) for _ in range(80)))

    assert max(run(scenario(), latency=0.0)) == 0
    assert not client.rejected


def test_queries_go_first_and_polls_continue():
    client = LimitingClient(5)

    async def scenario() -> tuple[float, list[float]]:
        poller = SharedStatusPoller(client)
        with poller.subscribe({f"job-{n}": 1 for n in range(500)}, 10):
            await asyncio.sleep(120)
            began = poller.now()
            return began, await asyncio.gather(*(query_until_accepted(poller, client) for _ in range(200)))

    began, seconds = run(scenario())
    assert min(seconds) < 2, "a query does not wait for the polls that are due"
    # 267 requests at about 3.75 per second.
    assert max(seconds) < 90
    polls = between(client.polls, began, began + max(seconds))
    assert 0.2 < polls / (polls + 200) < 0.35


def test_single_end_is_reported_soon_while_polls_are_throttled():
    client = LimitingClient(2)

    async def scenario() -> list[float]:
        poller = SharedStatusPoller(client)
        with poller.subscribe({f"job-{n}": 1 for n in range(500)}, 10):
            await asyncio.sleep(120)
            seconds = []
            for _ in range(30):
                seconds.append(await query_until_accepted(poller, client))
                await asyncio.sleep(7)
            return seconds

    seconds = run(scenario())
    assert sorted(seconds)[len(seconds) // 2] <= 1.0
    assert max(seconds) <= 8


def test_lifted_limit_is_forgotten():
    client = LimitingClient(2, bulk_size=10)

    async def scenario() -> float | None:
        rate = RequestRate()
        # Five requests per second.
        with SharedStatusPoller(client, rate=rate).subscribe({f"job-{n}": 1 for n in range(500)}, 10):
            await asyncio.sleep(120)
            assert rate.limit is not None
            assert rate.limit < 3
            client.per_second = 1e9
            await asyncio.sleep(480)
            return rate.limit

    assert run(scenario()) is None
    assert between(client.polls, 1540, 1600) == pytest.approx(300, abs=10)


def test_lower_limit_is_adopted():
    client = LimitingClient(20)

    async def scenario() -> None:
        with SharedStatusPoller(client).subscribe({f"job-{n}": 1 for n in range(500)}, 10):
            await asyncio.sleep(60)
            client.per_second = 2
            await asyncio.sleep(120)

    run(scenario())
    assert between(client.rejected, 1060, 1180) <= 12
    assert between(client.polls, 1090, 1180) >= 0.7 * 2 * 90


def test_concurrent_rejections_halve_rate_once():
    rate = RequestRate()
    for _ in range(20):
        rate.accepted(10.0)
    for _ in range(8):
        rate.rejected(10.5, sent_at=10.1, retry_after=None)
    learned = rate.limit
    assert learned is not None
    for _ in range(8):
        rate.rejected(20.5, sent_at=20.1, retry_after=None)
    assert rate.limit == learned / 2


def test_permanent_rejections_slow_requests_to_one_per_minute():
    client = LimitingClient(0.0)
    client._tokens = 0.0

    async def scenario() -> None:
        with SharedStatusPoller(client).subscribe({"job": 1}, 1):
            await asyncio.sleep(3600)

    run(scenario())
    assert between(client.rejected, 1600, 4600) <= 50


def test_retry_after_pauses_polls_and_queries():
    client = LimitingClient(1e9, retry_after=60)

    async def scenario() -> None:
        poller = SharedStatusPoller(client)
        with poller.subscribe({f"job-{n}": 1 for n in range(500)}, 10):
            await asyncio.sleep(30)
            client._tokens = client.per_second = 0.0
            await asyncio.sleep(1)
            client.per_second = 1e9
            await query_until_accepted(poller, client)

    run(scenario())
    (rejected,) = client.rejected
    assert between(client.polls + client.queries, rejected + 0.001, rejected + 60) == 0
    assert len(client.queries) == 1


def test_requests_of_one_query_are_spaced():
    client = LimitingClient(1)

    async def scenario() -> None:
        poller = SharedStatusPoller(client)
        await exceed_limit(poller, client)
        await asyncio.sleep(10)
        client.queries.clear()
        client.per_second = 1e9
        await poller.run_query(lambda: [client.query() for _ in range(4)])

    run(scenario())
    gaps = [after - before for before, after in itertools.pairwise(client.queries)]
    assert len(gaps) == 3
    assert min(gaps) >= 0.9


def test_closed_poller_does_not_wait_for_turn():
    client = FakeStatusClient()

    def query() -> None:
        for number in range(2):
            client.throttle(partial(sent.append, number))

    async def scenario() -> None:
        rate = RequestRate()
        now = asyncio.get_running_loop().time
        poller = SharedStatusPoller(client, rate=rate)
        rate.rejected(now() - 60, sent_at=now() - 60, retry_after=None)
        asked = asyncio.create_task(poller.run_query(query))
        while not sent:
            await asyncio.sleep(0.01)
        poller.close()
        with pytest.raises(ControlHubUnavailableError):
            await asyncio.wait_for(asked, 1)

    sent: list[int] = []
    # In real time: the query waits in a thread.
    asyncio.run(scenario())
    assert sent == [0]


def test_query_repeats_rejected_request():
    client = LimitingClient(1)

    async def scenario() -> None:
        poller = SharedStatusPoller(client)
        await poller.run_query(lambda: [client.query() for _ in range(6)])

    run(scenario())
    assert len(client.queries) == 6
    assert client.rejected


def test_rejected_query_ends_soon_after_its_deadline():
    client = LimitingClient(0.0)
    client._tokens = 0.0

    async def scenario(timeout: float | None) -> float:
        poller = SharedStatusPoller(client)
        began = poller.now()
        with pytest.raises(ControlHubUnavailableError):
            await poller.run_query(client.query, timeout)
        return poller.now() - began

    assert run(scenario(5)) <= 11
    assert run(scenario(None)) <= 61


def test_poll_of_several_requests_does_not_wait_for_queries_forever():
    client = LimitingClient(1, bulk_size=1)

    async def scenario() -> float:
        poller = SharedStatusPoller(client)
        await exceed_limit(poller, client)
        query = asyncio.create_task(poller.run_query(client.query))
        await asyncio.sleep(0)
        began = poller.now()
        await poller.run_poll(lambda: [client.snapshots(["job"]) for _ in range(3)])
        await query
        return poller.now() - began

    assert run(scenario()) < 60


def test_limit_is_kept_during_pause():
    rate = RequestRate()
    for _ in range(20):
        rate.accepted(10.0)
    rate.rejected(10.5, sent_at=10.1, retry_after=60)
    rate.accepted(20.0)
    assert rate.limit is not None
    assert rate.take_turn(20.0, is_poll=True) == pytest.approx(50.5)


def test_query_without_request_takes_no_turn():
    client = LimitingClient(1)

    async def scenario() -> float:
        poller = SharedStatusPoller(client)
        await exceed_limit(poller, client)
        await asyncio.sleep(10)
        began = poller.now()
        for _ in range(20):
            await poller.run_query(lambda: None)
        return poller.now() - began

    assert run(scenario()) < 1


def test_query_without_turn_in_time_is_dropped():
    client = LimitingClient(0.1)

    async def scenario() -> None:
        poller = SharedStatusPoller(client)
        await exceed_limit(poller, client)
        sent = len(client.queries)
        with pytest.raises(asyncio.TimeoutError):
            await poller.run_query(client.query, 0.5)
        assert len(client.queries) == sent

    run(scenario())


def test_rejected_poll_enlarges_requests():
    client = LimitingClient(1, bulk_size=250)

    async def scenario() -> None:
        with SharedStatusPoller(client).subscribe({f"job-{n}": 1 for n in range(1000)}, 10):
            await asyncio.sleep(60)

    # Responses this slow do not enlarge them.
    run(scenario(), latency=3.0)
    assert max(len(job_ids) for _, job_ids in client.asked) == 100
    client = LimitingClient(0.2, bulk_size=250)
    run(scenario(), latency=3.0)
    assert max(len(job_ids) for _, job_ids in client.asked) == 250


def test_connection_remembers_limit(monkeypatch):
    client = LimitingClient(2)
    monkeypatch.setattr(ConnectionSettings, "client", lambda *_, **__: client)
    settings = ConnectionSettings(conn_id="c", base_url="https://hub.example.com", credential_id="id", token=TOKEN)

    async def scenario() -> int:
        with shared_poller(settings).subscribe({f"job-{n}": 1 for n in range(500)}, 10):
            await asyncio.sleep(60)
        before = len(client.rejected)
        await poll_times(shared_poller(settings), [f"job-{n}" for n in range(50)], 10, 3)
        return len(client.rejected) - before

    assert run_in_virtual_time(scenario()) <= 1


def test_query_logs_to_its_task_and_outage_to_all():
    task = contextvars.ContextVar("task", default="")
    client = FakeStatusClient()
    logged = []

    def query() -> str:
        client.outage.failed(ControlHubUnavailableError("no answer"))
        return task.get()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append((task.get(), record.getMessage()))

    async def scenario() -> str:
        task.set("first")
        poller = SharedStatusPoller(client)
        client.outage = poller.outage
        return await poller.run_query(query)

    handler = Handler()
    logging.getLogger(sender.__name__).addHandler(handler)
    try:
        assert asyncio.run(scenario()) == "first"
    finally:
        logging.getLogger(sender.__name__).removeHandler(handler)
    assert [(name, "no answer" in message) for name, message in logged] == [("", True)]


def test_cancelled_query_keeps_its_slot_until_its_thread_ends():
    client = FakeStatusClient()

    async def scenario() -> None:
        poller = SharedStatusPoller(client)
        began, finish = threading.Semaphore(0), threading.Event()

        def query() -> None:
            began.release()
            finish.wait(10)

        queries = [asyncio.ensure_future(poller.run_query(query)) for _ in range(8)]
        for _ in queries:
            await asyncio.to_thread(began.acquire)
        queries[0].cancel()
        await asyncio.wait(queries[:1])
        with pytest.raises(asyncio.TimeoutError):
            await poller.run_query(lambda: None, 0.05)
        finish.set()
        await asyncio.wait(queries[1:])
        await poller.run_query(lambda: None, 5)
        poller.close()

    asyncio.run(scenario())


def test_cancelled_query_stops_waiting_for_its_turn():
    client = FakeStatusClient()
    began, ended, go_on = threading.Semaphore(0), threading.Semaphore(0), threading.Event()

    def query() -> None:
        try:
            client.throttle(began.release)
            go_on.wait(10)
            client.throttle(lambda: None)
        finally:
            ended.release()

    async def scenario() -> None:
        rate = RequestRate()
        poller = SharedStatusPoller(client, rate=rate)
        asked = [asyncio.ensure_future(poller.run_query(query)) for _ in range(8)]
        for _ in asked:
            await asyncio.to_thread(began.acquire)
        rate.rejected(poller.now(), sent_at=poller.now(), retry_after=40)
        go_on.set()
        for task in asked:
            task.cancel()
        await asyncio.wait(asked)
        # The threads end soon, although the pause is long.
        assert all([await asyncio.to_thread(ended.acquire, timeout=10) for _ in asked])
        poller.close()

    asyncio.run(scenario())


def test_poll_of_unreadable_jobs_returns_what_it_has_read():
    client = LimitingClient(1, bulk_size=50)
    client.refused = {f"bad-{n}" for n in range(20)}

    async def scenario() -> list[float]:
        poller = SharedStatusPoller(client)
        updates = []
        with (
            poller.subscribe(dict.fromkeys(client.refused, 1), 30),
            poller.subscribe({"good": 1}, 30, NotifyOn.EVERY_POLL) as subscription,
        ):
            while poller.now() < 2000:
                await subscription.next()
                updates.append(poller.now())
        return updates

    updates = run(scenario())
    late = [after - before for before, after in itertools.pairwise(updates) if before > 1200]
    assert max(late) < 60
