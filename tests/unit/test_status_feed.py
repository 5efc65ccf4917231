from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubPermissionError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
)
from airflow_provider_streamsets.control_hub.models import JobRun
from airflow_provider_streamsets.hooks.settings import ConnectionSettings
from airflow_provider_streamsets.triggers import feed as feeds
from airflow_provider_streamsets.triggers.feed import StatusFeed, shared_feed
from tests.unit.conftest import TOKEN
from tests.unit.virtual_time import run_virtually


def a_run(job_id: str) -> JobRun:
    return JobRun(run_id=f"run of {job_id}", job_id=job_id, run_count=1, status="ACTIVE", color="GREEN")


class ScriptedClient:
    """Answers bulk status requests, and records when and for which ids they came."""

    def __init__(self) -> None:
        self.runs = self
        self.asked: list[tuple[float, list[str]]] = []
        self.errors: list[Exception] = []
        self.refused: set[str] = set()
        self.forbidden: set[str] = set()
        self.closed = False

    def statuses(self, job_ids: list[str]) -> dict[str, JobRun | None]:
        self.asked.append((asyncio.get_event_loop().time(), list(job_ids)))
        if self.errors:
            raise self.errors.pop(0)
        if self.forbidden & set(job_ids):
            raise ControlHubPermissionError("one of them may not be read", http_status=403)
        if self.refused & set(job_ids):
            raise ControlHubRejectedError("one of them is not right", http_status=400)
        return {job_id: a_run(job_id) for job_id in job_ids}

    def close(self) -> None:
        self.closed = True


async def take(feed: StatusFeed, job_id: str, interval: float, looks: int) -> list[float]:
    """Subscribe, return the times of so many looks since the subscription, and leave."""
    now = asyncio.get_running_loop().time
    began = now()
    async with feed.subscription(job_id, interval) as subscription:
        times = []
        for _ in range(looks):
            status = await subscription.next()
            assert status is not None
            assert status.job_id == job_id
            times.append(now() - began)
        return times


def test_all_subscribers_share_one_request_for_each_interval():
    client = ScriptedClient()

    async def scene() -> None:
        feed = StatusFeed(client)
        await asyncio.gather(*(take(feed, f"job-{n}", 30, 4) for n in range(100)))

    run_virtually(scene())
    assert len(client.asked) == 4
    assert all(len(job_ids) == 100 for _, job_ids in client.asked)


def test_two_waits_for_one_job_ask_for_it_once():
    client = ScriptedClient()

    async def scene() -> None:
        feed = StatusFeed(client)
        await asyncio.gather(take(feed, "job", 30, 2), take(feed, "job", 30, 2))

    run_virtually(scene())
    assert [job_ids for _, job_ids in client.asked] == [["job"], ["job"]]


def test_each_subscriber_is_served_at_about_its_own_interval():
    client = ScriptedClient()

    async def scene() -> tuple[list[float], list[float]]:
        feed = StatusFeed(client)
        return await asyncio.gather(take(feed, "quick", 10, 7), take(feed, "slow", 60, 2))

    quick, slow = run_virtually(scene())
    assert quick == pytest.approx([0.1 + n * 10.1 for n in range(7)], abs=0.2)
    assert 30 <= slow[1] - slow[0] <= 61


def test_subscribers_that_come_at_different_times_soon_share_their_requests():
    client = ScriptedClient()

    async def late(feed: StatusFeed, job_id: str, delay: float) -> None:
        await asyncio.sleep(delay)
        await take(feed, job_id, 30, 10)

    async def scene() -> None:
        feed = StatusFeed(client)
        await asyncio.gather(*(late(feed, f"job-{n}", n * 2.0) for n in range(15)))

    run_virtually(scene())
    shared = [job_ids for when, job_ids in client.asked if 1090 < when < 1200]
    assert all(len(job_ids) == 15 for job_ids in shared)


def test_a_failed_look_reaches_no_subscriber_and_an_outage_is_logged_once(caplog):
    client = ScriptedClient()
    client.errors = [ControlHubUnavailableError("no answer") for _ in range(20)]
    with caplog.at_level(logging.INFO, feeds.__name__):
        times = run_virtually(take(StatusFeed(client), "job", 30, 1))
    assert times == pytest.approx([20 * 30.1], abs=5)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_the_pause_that_control_hub_asks_for_is_kept():
    client = ScriptedClient()
    client.errors = [ControlHubUnavailableError("too many requests", http_status=429, retry_after=120)]
    times = run_virtually(take(StatusFeed(client), "job", 30, 1))
    assert times[0] >= 120


def test_a_fault_of_the_feed_itself_does_not_end_a_wait(caplog):
    client = ScriptedClient()
    client.errors = [RuntimeError("a bug")]
    assert len(run_virtually(take(StatusFeed(client), "job", 30, 1))) == 1
    assert "a bug" in caplog.text


@pytest.mark.parametrize("interval", ["often", 0, -1, float("nan"), None])
def test_an_interval_that_is_none_fails_its_own_wait_and_not_the_feed(interval):
    async def scene() -> list[Any]:
        feed = StatusFeed(ScriptedClient())
        return await asyncio.gather(
            take(feed, "right", 30, 2), take(feed, "wrong", interval, 1), return_exceptions=True
        )

    right, wrong = run_virtually(scene())
    assert len(right) == 2
    assert isinstance(wrong, (TypeError, ValueError))


def test_a_refused_credential_ends_every_wait():
    client = ScriptedClient()
    client.errors = [ControlHubAuthenticationError("refused")]

    async def scene() -> list[Any]:
        feed = StatusFeed(client)
        waits = (take(feed, f"job-{n}", 30, 1) for n in range(5))
        return await asyncio.gather(*waits, return_exceptions=True)

    assert [type(result) for result in run_virtually(scene())] == [ControlHubAuthenticationError] * 5


def test_one_id_that_control_hub_refuses_does_not_blind_the_others():
    client = ScriptedClient()
    client.refused = {"bad"}

    async def scene() -> tuple[Any, ...]:
        feed = StatusFeed(client)
        async with feed.subscription("bad", 30) as bad:
            good = await take(feed, "good", 30, 1)
            return await bad.next(), good

    status, good = run_virtually(scene())
    assert status is None
    assert len(good) == 1


def test_a_job_that_may_not_be_read_ends_its_own_wait_only():
    client = ScriptedClient()
    asked = client.statuses

    def statuses(job_ids: list[str]) -> dict[str, JobRun | None]:
        if "secret" in job_ids:
            raise ControlHubPermissionError("not yours", http_status=403)
        return asked(job_ids)

    client.statuses = statuses  # type: ignore[method-assign]

    async def scene() -> list[Any]:
        feed = StatusFeed(client)
        return await asyncio.gather(take(feed, "mine", 30, 2), take(feed, "secret", 30, 2), return_exceptions=True)

    mine, secret = run_virtually(scene())
    assert len(mine) == 2
    assert isinstance(secret, ControlHubPermissionError)


def test_a_subscriber_that_leaves_during_a_request_disturbs_nobody():
    client = ScriptedClient()

    async def scene() -> list[float]:
        feed = StatusFeed(client)
        leaver = asyncio.create_task(take(feed, "leaver", 30, 5))
        stayer = asyncio.create_task(take(feed, "stayer", 30, 5))
        await asyncio.sleep(30.05)
        leaver.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaver
        return await stayer

    assert len(run_virtually(scene())) == 5
    assert client.asked[-1][1] == ["stayer"]


def test_a_subscriber_that_was_busy_gets_the_newest_status_once():
    client = ScriptedClient()

    async def scene() -> None:
        feed = StatusFeed(client)
        async with feed.subscription("job", 10) as subscription:
            await asyncio.sleep(95)
            assert len(client.asked) == 10
            await subscription.next()
            with pytest.raises(asyncio.TimeoutError):
                await subscription.next(1)

    run_virtually(scene())


def test_a_cancelled_wait_stays_cancelled_even_when_its_status_arrives_at_that_moment():
    async def scene() -> bool:
        feed = StatusFeed(ScriptedClient())
        async with feed.subscription("job", 10) as subscription:
            waiting = asyncio.create_task(subscription.next(100))
            await asyncio.sleep(0)
            subscription.publish({"job": a_run("job")})
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
            return waiting.cancelled()

    assert run_virtually(scene())


def test_a_subscription_to_many_jobs_is_told_of_each_what_a_look_has_found():
    client = ScriptedClient()
    client.forbidden = {"b"}

    async def scene() -> dict[str, Any]:
        async with StatusFeed(client).subscription_to_many(["a", "b", "c"], 30) as subscription:
            return await subscription.next_of_each()

    news = run_virtually(scene())
    assert set(news) == {"a", "b", "c"}
    assert isinstance(news["b"], ControlHubPermissionError)
    assert news["a"].job_id == "a"


def test_jobs_that_a_subscriber_has_seen_enough_of_are_asked_for_no_more():
    client = ScriptedClient()

    async def scene() -> list[set[str]]:
        async with StatusFeed(client).subscription_to_many(["a", "b"], 30) as subscription:
            first = await subscription.next_of_each()
            subscription.job_ids.discard("b")
            return [set(first), set(await subscription.next_of_each())]

    assert run_virtually(scene()) == [{"a", "b"}, {"a"}]
    assert [job_ids for _, job_ids in client.asked] == [["a", "b"], ["a"]]


def test_a_subscription_to_many_jobs_ends_when_no_further_look_can_succeed():
    client = ScriptedClient()
    client.errors = [ControlHubAuthenticationError("refused")]

    async def scene() -> None:
        async with StatusFeed(client).subscription_to_many(["a", "b"], 30) as subscription:
            await subscription.next_of_each()

    with pytest.raises(ControlHubAuthenticationError):
        run_virtually(scene())


def settings(**fields: Any) -> ConnectionSettings:
    values: dict[str, Any] = {
        "conn_id": "c",
        "base_url": "https://hub.example.com",
        "credential_id": "id",
        "token": TOKEN,
        "project_id": None,
        "login_url": None,
        "verify": True,
        "timeout": None,
        "proxies": None,
        "job_link": None,
    }
    return ConnectionSettings(**{**values, **fields})


def test_a_connection_has_one_feed_until_its_content_changes():
    async def scene() -> None:
        assert shared_feed(settings()) is shared_feed(settings())
        assert shared_feed(settings()) is not shared_feed(settings(token=TOKEN + "x"))
        assert shared_feed(settings()) is not shared_feed(settings(base_url="https://other.example.com"))

    run_virtually(scene())


def test_the_fingerprint_of_a_connection_does_not_contain_its_token():
    assert TOKEN not in settings().fingerprint
    assert TOKEN not in repr(settings())


def test_a_feed_ends_with_its_last_subscriber_and_a_new_one_begins_anew(monkeypatch):
    clients: list[ScriptedClient] = []

    def new_client(self: ConnectionSettings, **_: Any) -> ScriptedClient:
        clients.append(ScriptedClient())
        return clients[-1]

    monkeypatch.setattr(ConnectionSettings, "client", new_client)

    async def scene() -> None:
        first = shared_feed(settings())
        await asyncio.gather(take(first, "a", 30, 1), take(first, "b", 30, 3))
        assert clients[0].closed
        assert shared_feed(settings()) is not first
        await take(shared_feed(settings()), "c", 30, 1)
        leftovers = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
        await asyncio.gather(*leftovers, return_exceptions=True)

    run_virtually(scene())
    assert len(clients) == 2
    assert all(client.closed for client in clients)


def test_two_event_loops_do_not_share_a_feed():
    async def scene() -> StatusFeed:
        return shared_feed(settings())

    assert run_virtually(scene()) is not run_virtually(scene())
