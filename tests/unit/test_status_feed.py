from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import threading
from typing import Any

import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubPermissionError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    ControlHubUnexpectedAnswerError,
)
from airflow_provider_streamsets.control_hub.models import JobRun
from airflow_provider_streamsets.control_hub.tracking.run import NotifyOn
from airflow_provider_streamsets.hooks.connection import ConnectionSettings
from airflow_provider_streamsets.polling import poller as pollers
from airflow_provider_streamsets.polling.credential import SharedCredential
from airflow_provider_streamsets.polling.poller import SharedStatusPoller, shared_poller
from tests.unit.conftest import TOKEN
from tests.unit.scripted_statuses import ScriptedClient, long_running, looks_alone, looks_at
from tests.unit.virtual_time import VirtualLoop, run_on, run_virtually


def no_answer(**details: Any) -> ControlHubUnavailableError:
    return ControlHubUnavailableError("no answer", **details)


# Requests


def test_all_subscribers_share_one_request_for_each_interval():
    client = ScriptedClient()

    async def scene() -> None:
        poller = SharedStatusPoller(client)
        await asyncio.gather(*(looks_at(poller, [f"job-{n}"], 30, 4) for n in range(100)))

    run_virtually(scene())
    assert len(client.asked) == 4
    assert all(len(job_ids) == 100 for _, job_ids in client.asked)


def test_two_waits_for_one_job_ask_for_it_once():
    client = ScriptedClient()

    async def scene() -> None:
        poller = SharedStatusPoller(client)
        await asyncio.gather(looks_at(poller, ["job"], 30, 2), looks_at(poller, ["job"], 30, 2))

    run_virtually(scene())
    assert [job_ids for _, job_ids in client.asked] == [["job"], ["job"]]


@pytest.mark.parametrize(("runs", "bulk_size", "requests"), [(10, 250, 1), (1000, 250, 4), (1001, 250, 5), (70, 10, 7)])
def test_so_many_runs_take_as_many_requests_for_each_interval_as_are_needed_and_no_more(runs, bulk_size, requests):
    client = ScriptedClient(bulk_size=bulk_size)

    async def scene() -> None:
        poller = SharedStatusPoller(client)
        with poller.subscribe({f"job-{n}": 1 for n in range(runs)}, 30):
            await asyncio.sleep(330)

    run_virtually(scene())
    later = [job_ids for when, job_ids in client.asked if 1030 <= when < 1330]
    assert len(later) == pytest.approx(10 * requests, abs=1)
    assert max(map(len, later)) <= bulk_size


def test_requests_are_spread_over_the_interval():
    client = ScriptedClient()

    async def scene() -> None:
        with SharedStatusPoller(client).subscribe({f"job-{n}": 1 for n in range(1000)}, 30):
            await asyncio.sleep(300)

    run_virtually(scene())
    times = [when for when, _ in client.asked if when > 1060]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert gaps == pytest.approx([7.5] * len(gaps), abs=0.1)


def test_each_of_many_runs_is_looked_at_about_once_in_its_interval():
    client = ScriptedClient(bulk_size=20)

    async def scene() -> None:
        poller = SharedStatusPoller(client)
        with (
            poller.subscribe({f"quick-{n}": 1 for n in range(30)}, 10),
            poller.subscribe({f"slow-{n}": 1 for n in range(100)}, 60),
        ):
            await asyncio.sleep(600)

    run_virtually(scene())
    for name, count, interval in (("quick", 30, 10), ("slow", 100, 60)):
        for n in range(count):
            times = [when for when in client.times(f"{name}-{n}") if when > 1060]
            assert all(after - before <= interval * 1.1 for before, after in itertools.pairwise(times))
    assert len(client.asked) < 600 / 10 * 3, "30 and 100 / 6 jobs are three requests of 20 in 10 seconds"


def test_subscribers_that_come_at_different_times_share_their_requests():
    client = ScriptedClient()

    async def late(poller: SharedStatusPoller, job_id: str, delay: float) -> None:
        await asyncio.sleep(delay)
        await looks_at(poller, [job_id], 30, 10)

    async def scene() -> None:
        poller = SharedStatusPoller(client)
        await asyncio.gather(*(late(poller, f"job-{n}", n * 2.0) for n in range(15)))

    run_virtually(scene())
    shared = [job_ids for when, job_ids in client.asked if 1060 < when < 1200]
    assert all(len(job_ids) == 15 for job_ids in shared)
    assert len(shared) <= 5


def test_who_comes_into_a_busy_feed_is_not_kept_waiting_for_its_turn():
    client = ScriptedClient(bulk_size=10)

    async def scene() -> list[float]:
        poller = SharedStatusPoller(client)
        with poller.subscribe({f"job-{n}": 1 for n in range(100)}, 300):
            await asyncio.sleep(1000.5)
            return await looks_at(poller, ["new"], 300, 1)

    (first,) = run_virtually(scene())
    assert first <= 1.2


def test_a_run_that_has_just_been_started_is_looked_at_sooner():
    loop = VirtualLoop()
    client = ScriptedClient(lambda job_id: long_running(job_id, startTime=1000 * 1000))

    async def scene() -> None:
        with SharedStatusPoller(client).subscribe({"job": 1}, 30):
            await asyncio.sleep(600)

    run_on(loop, scene())
    times = client.times("job")
    assert len([when for when in times if when < 1020]) >= 5
    assert len([when for when in times if when >= 1120]) == 480 / 30, "later no more often than is asked for"


def test_a_run_that_began_long_ago_is_looked_at_no_more_often_than_is_asked_for():
    client = ScriptedClient()
    times = looks_alone(client, ["job"], 30, 5)
    assert times == pytest.approx([0.1, 30.1, 60.1, 90.1, 120.1], abs=0.1)
    assert len(client.asked) == 5


def test_a_run_that_does_not_show_yet_is_looked_at_sooner_however_old_the_run_before_is():
    client = ScriptedClient(lambda job_id: long_running(job_id, 3, status="INACTIVE"))

    async def scene() -> None:
        with SharedStatusPoller(client).subscribe({"job": 4}, 30):
            await asyncio.sleep(20)

    run_virtually(scene())
    assert len(client.asked) >= 5


def test_young_runs_do_not_make_the_feed_ask_more_than_once_a_second():
    client = ScriptedClient(lambda job_id: long_running(job_id, startTime=0, status="ACTIVATING"), bulk_size=10)

    async def scene() -> None:
        with SharedStatusPoller(client).subscribe({f"job-{n}": 1 for n in range(50)}, 600):
            await asyncio.sleep(60)

    run_virtually(scene())
    assert len(client.asked) <= 61


# How many jobs a request asks for


class LimitedClient(ScriptedClient):
    """
    Fails requests for many jobs.

    :param most: for more than so many
    :param error: how
    """

    def __init__(self, most: float, error: Exception) -> None:
        super().__init__()
        self.most = most
        self.error = error
        self.refused_at: list[float] = []

    def snapshots(self, job_ids: list[str]) -> Any:
        if len(job_ids) > self.most:
            self.refused_at.append(asyncio.get_running_loop().time())
            raise self.error
        return super().snapshots(job_ids)


async def poll_many(client: ScriptedClient, jobs: int, seconds: float) -> None:
    with SharedStatusPoller(client).subscribe({f"job-{n}": 1 for n in range(jobs)}, 30):
        await asyncio.sleep(seconds)


def sizes(client: ScriptedClient, since: float) -> list[int]:
    return [len(job_ids) for when, job_ids in client.asked if when >= since]


def test_first_request_is_smaller_than_the_limit_of_the_connection():
    client = ScriptedClient()
    run_virtually(poll_many(client, 1000, 20))
    assert sizes(client, 0)[:3] == [100, 200, 250]


def test_requests_do_not_grow_while_answers_are_slow():
    client = ScriptedClient()
    run_on(VirtualLoop(thread_takes=4.0), poll_many(client, 1000, 300))
    assert max(sizes(client, 0)) == 100


TOO_LARGE = [
    no_answer(http_status=413),
    no_answer(http_status=414),
    ControlHubRejectedError("too many ids", http_status=413),
]
OTHER_FAILURES = [no_answer(), no_answer(http_status=500), ControlHubUnexpectedAnswerError("cut off")]


@pytest.mark.parametrize(
    ("error", "most"),
    # After failures that may have other reasons, requests do not become smaller than ten jobs.
    [*itertools.product(TOO_LARGE, [3, 30, 120, 240]), *itertools.product(OTHER_FAILURES, [30, 120, 240])],
    ids=repr,
)
def test_size_that_control_hub_refuses_is_found_and_avoided(error, most):
    client = LimitedClient(most, error)
    run_virtually(poll_many(client, 500, 1200))
    later = sizes(client, 1600)
    assert not [when for when in client.refused_at if when >= 1600]
    assert max(later) >= most * 0.6
    for n in range(0, 500, 50):
        times = [when for when in client.times(f"job-{n}") if when >= 1600]
        assert all(after - before <= 33 for before, after in itertools.pairwise(times))


def test_requests_are_as_large_as_before_soon_after_an_outage():
    client = LimitedClient(-1, no_answer(http_status=503))

    async def scene() -> None:
        polling = asyncio.create_task(poll_many(client, 1000, 1200))
        for _ in range(3):
            client.most = 1000
            await asyncio.sleep(150)
            client.most = -1
            await asyncio.sleep(150)
        client.most = 1000
        await polling

    run_virtually(scene())
    assert max(sizes(client, 2000)) == 250


def test_refused_size_is_remembered_for_the_next_waits_over_a_connection(monkeypatch):
    clients: list[LimitedClient] = []

    def client_of(*_: Any, **__: Any) -> LimitedClient:
        clients.append(LimitedClient(30, no_answer(http_status=413)))
        return clients[-1]

    monkeypatch.setattr(ConnectionSettings, "client", client_of)

    async def scene() -> None:
        for _ in range(2):
            poller = shared_poller(settings())
            with poller.subscribe({f"job-{n}": 1 for n in range(500)}, 30):
                await asyncio.sleep(300)

    run_virtually(scene())
    first, second = clients
    assert first.refused_at
    assert not second.refused_at


def test_too_many_requests_do_not_make_requests_smaller():
    client = ScriptedClient()
    client.errors = [no_answer(http_status=429)] * 3
    run_virtually(poll_many(client, 1000, 120))
    assert min(sizes(client, 0)) >= 100


# What is told


def test_a_status_that_has_not_changed_is_told_once():
    client = ScriptedClient()

    async def scene() -> None:
        with SharedStatusPoller(client).subscribe({"job": 1}, 10) as subscription:
            await subscription.next()
            with pytest.raises(asyncio.TimeoutError):
                await subscription.next(95)

    run_virtually(scene())
    assert len(client.asked) == 10


@pytest.mark.parametrize(
    "change",
    [
        {"color": "RED"},
        {"status": "DEACTIVATING"},
        {"warnings": ["JOBRUNNER_62 - an engine does not respond"]},
        {"errorMessage": "RUN_ERROR"},
        {"pipelineStatus": [{"sdcId": "engine", "status": "RUN_ERROR", "message": "JDBC_00"}]},
    ],
    ids=str,
)
def test_a_change_is_told(change):
    changes: dict[str, Any] = {}
    client = ScriptedClient(lambda job_id: long_running(job_id, **changes))

    async def scene() -> JobRun | Exception | None:
        with SharedStatusPoller(client).subscribe({"job": 1}, 10) as subscription:
            await subscription.next()
            changes.update(change)
            return (await subscription.next(11))["job"]

    assert isinstance(run_virtually(scene()), JobRun)


@pytest.mark.parametrize(
    ("notify_on", "fields", "told"),
    [
        (NotifyOn.LIVE_COUNTS, {}, True),
        (NotifyOn.LIVE_COUNTS, {"lastReportedMetricTime": 1}, False),
        (NotifyOn.LIVE_COUNTS, {"inputRecordCount": 1}, False),
        (NotifyOn.LIVE_COUNTS, {"startTime": 950_000}, False),
        (NotifyOn.LIVE_COUNTS, {"status": "DEACTIVATING"}, False),
        (NotifyOn.COUNTS, {}, False),
        (NotifyOn.CHANGES, {}, False),
    ],
)
def test_status_that_lacks_counts_is_told_each_time_to_those_who_want_live_counts_only(notify_on, fields, told):
    client = ScriptedClient(lambda job_id: long_running(job_id, **fields))

    async def scene() -> list[float]:
        return await looks_at(SharedStatusPoller(client), ["job"], 10, 3, notify_on)

    if told:
        assert len(run_virtually(scene())) == 3
    else:
        with pytest.raises(asyncio.TimeoutError):
            run_virtually(asyncio.wait_for(scene(), 55))


def test_new_counts_are_told_to_those_who_want_them_only():
    counts = iter(range(1000))
    client = ScriptedClient(lambda job_id: long_running(job_id, inputRecordCount=next(counts)))

    async def scene() -> list[float]:
        poller = SharedStatusPoller(client)
        with poller.subscribe({"job": 1}, 10) as subscription:
            await subscription.next()
            times = await looks_at(poller, ["job"], 10, 3, NotifyOn.COUNTS)
            with pytest.raises(asyncio.TimeoutError):
                await subscription.next(1)
            return times

    assert len(run_virtually(scene())) == 3


@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        long_running("job", 5),
        long_running("job", 4, status="INACTIVE"),
        long_running("job", 4, status="ACTIVATION_ERROR"),
    ],
    ids=["unknown", "never-run", "restarted", "ended", "not-started"],
)
def test_what_may_be_the_end_of_the_run_is_told_at_each_look(status):
    async def scene() -> None:
        with SharedStatusPoller(ScriptedClient(lambda _: status)).subscribe({"job": 4}, 10) as subscription:
            for _ in range(3):
                await subscription.next(11)

    run_virtually(scene())


def test_an_end_is_told_to_the_waits_for_that_run_whatever_run_others_wait_for():
    client = ScriptedClient(lambda job_id: long_running(job_id, 4, status="INACTIVE"))

    async def scene() -> None:
        poller = SharedStatusPoller(client)
        with poller.subscribe({"job": 4}, 10) as fourth, poller.subscribe({"job": 5}, 10) as fifth:
            for _ in range(3):
                await fourth.next(11)
            await fifth.next(1)
            with pytest.raises(asyncio.TimeoutError):
                await fifth.next(30)

    run_virtually(scene())


def test_a_subscriber_that_was_busy_gets_the_newest_status_once():
    statuses = iter(["ACTIVATING"] * 5 + ["ACTIVE"] * 50)
    client = ScriptedClient(lambda job_id: long_running(job_id, status=next(statuses)))

    async def scene() -> str:
        with SharedStatusPoller(client).subscribe({"job": 1}, 10) as subscription:
            await asyncio.sleep(95)
            assert len(client.asked) == 10
            status = (await subscription.next())["job"]
            with pytest.raises(asyncio.TimeoutError):
                await subscription.next(1)
            assert isinstance(status, JobRun)
            return status.status

    assert run_virtually(scene()) == "ACTIVE"


def test_a_subscription_to_many_jobs_is_told_of_each_what_a_look_has_found():
    client = ScriptedClient()
    client.forbidden = {"b"}

    async def scene() -> dict[str, Any]:
        with SharedStatusPoller(client).subscribe({"a": 1, "b": 1, "c": 1}, 30) as subscription:
            return await subscription.next()

    updates = run_virtually(scene())
    assert set(updates) == {"a", "b", "c"}
    assert isinstance(updates["b"], ControlHubPermissionError)
    assert updates["a"].job_id == "a"


def test_jobs_that_a_subscriber_has_seen_enough_of_are_asked_for_no_more():
    client = ScriptedClient()

    async def scene() -> None:
        with SharedStatusPoller(client).subscribe({"a": 1, "b": 1}, 30) as subscription:
            await subscription.next()
            subscription.unsubscribe(["b", "unknown"])
            await asyncio.sleep(31)

    run_virtually(scene())
    assert [sorted(job_ids) for _, job_ids in client.asked] == [["a", "b"], ["a"]]


# Joining and leaving


def test_a_subscriber_that_leaves_during_a_request_disturbs_nobody():
    client = ScriptedClient()

    async def scene() -> list[float]:
        poller = SharedStatusPoller(client)
        leaver = asyncio.create_task(looks_at(poller, ["leaver"], 30, 5))
        stayer = asyncio.create_task(looks_at(poller, ["stayer"], 30, 5))
        await asyncio.sleep(1)
        leaver.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaver
        return await stayer

    assert len(run_on(VirtualLoop(thread_takes=3), scene())) == 5
    assert client.asked[-1][1] == ["stayer"]


def test_a_subscriber_that_joins_during_a_request_is_told_of_what_comes_after():
    client = ScriptedClient()

    async def scene() -> list[float]:
        poller = SharedStatusPoller(client)
        with poller.subscribe({"first": 1}, 30):
            await asyncio.sleep(1)
            return await looks_at(poller, ["second"], 30, 1)

    (first,) = run_on(VirtualLoop(thread_takes=3), scene())
    assert first == pytest.approx(2.1 + 3, abs=0.2)


def test_a_job_that_is_left_and_waited_for_again_during_a_request_is_looked_at_anew():
    client = ScriptedClient()

    async def scene() -> list[float]:
        poller = SharedStatusPoller(client)
        with poller.subscribe({"other": 1}, 30):
            with poller.subscribe({"job": 1}, 30):
                await asyncio.sleep(1)
            return await looks_at(poller, ["job"], 30, 2)

    assert len(run_on(VirtualLoop(thread_takes=3), scene())) == 2


def test_requests_are_sent_one_after_the_other_however_slow_they_are():
    loop = VirtualLoop(thread_takes=20)
    client = ScriptedClient(bulk_size=10)

    async def scene() -> None:
        with SharedStatusPoller(client).subscribe({f"job-{n}": 1 for n in range(100)}, 10):
            await asyncio.sleep(400)

    run_on(loop, scene())
    assert loop.most_in_threads == 1
    assert set().union(*(job_ids for _, job_ids in client.asked)) == {f"job-{n}" for n in range(100)}


def test_a_cancelled_wait_stays_cancelled_even_when_its_status_arrives_at_that_moment():
    async def scene() -> bool:
        with SharedStatusPoller(ScriptedClient()).subscribe({"job": 1}, 10) as subscription:
            waiting = asyncio.create_task(subscription.next(100))
            await asyncio.sleep(0)
            subscription.notify("job", None)
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
            return waiting.cancelled()

    assert run_virtually(scene())


@pytest.mark.parametrize("interval", ["often", 0, -1, float("nan"), float("inf"), None])
def test_an_interval_that_is_none_fails_its_own_wait_and_not_the_feed(interval):
    async def scene() -> list[Any]:
        poller = SharedStatusPoller(ScriptedClient())
        return await asyncio.gather(
            looks_at(poller, ["right"], 30, 2), looks_at(poller, ["wrong"], interval, 1), return_exceptions=True
        )

    right, wrong = run_virtually(scene())
    assert len(right) == 2
    assert isinstance(wrong, (TypeError, ValueError))


# Failures


def test_a_failed_look_reaches_no_subscriber_and_an_outage_is_logged_once(caplog):
    client = ScriptedClient()
    client.errors = [no_answer() for _ in range(20)]
    with caplog.at_level(logging.INFO, pollers.__name__):
        looks_alone(client, ["job"], 30, 1)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@pytest.mark.parametrize(("runs", "interval"), [(1, 30), (2500, 30), (250, 5), (10, 600)])
def test_an_outage_slows_the_whole_feed_down_and_is_noticed_to_have_ended_soon(runs, interval):
    client = ScriptedClient()
    outage = 20 * interval

    async def scene() -> None:
        now = asyncio.get_running_loop().time
        with SharedStatusPoller(client).subscribe({f"job-{n}": 1 for n in range(runs)}, interval) as subscription:
            while len(await subscription.next()) < 1 or len(client.asked) < runs / 250:
                pass
            asked, began = len(client.asked), now()
            snapshots = client.snapshots

            def fails(job_ids: list[str]) -> Any:
                snapshots(job_ids)
                if now() < began + outage:
                    raise no_answer()
                return {}

            client.snapshots = fails  # type: ignore[method-assign]
            await asyncio.sleep(outage)
            assert 3 <= len(client.asked) - asked <= max(20, 20 * interval / 300 + 8)
            during = len(client.asked)
            await asyncio.sleep(min(2 * interval, 300) * 1.2 + 0.1)
            assert len(client.asked) > during

    run_virtually(scene())


def test_many_feeds_do_not_come_back_at_the_same_moment():
    async def second_look() -> float:
        client = ScriptedClient()
        client.errors = [no_answer()]
        await looks_at(SharedStatusPoller(client), ["job"], 30, 1)
        return client.asked[1][0]

    async def scene() -> list[float]:
        return await asyncio.gather(*(second_look() for _ in range(20)))

    assert len({round(when, 2) for when in run_virtually(scene())}) > 10


@pytest.mark.parametrize("runs", [1, 2500])
def test_the_pause_that_control_hub_asks_for_is_kept(runs):
    client = ScriptedClient()
    client.errors = [no_answer(http_status=429, retry_after=120)]

    async def scene() -> None:
        with SharedStatusPoller(client).subscribe({f"job-{n}": 1 for n in range(runs)}, 30):
            await asyncio.sleep(200)

    run_virtually(scene())
    assert client.asked[1][0] - client.asked[0][0] >= 119.9


def test_a_fault_of_the_feed_itself_does_not_end_a_wait(caplog):
    client = ScriptedClient()
    client.errors = [RuntimeError("a bug")]
    assert len(looks_alone(client, ["job"], 30, 1)) == 1
    assert "a bug" in caplog.text


def test_a_refused_credential_ends_every_wait_at_once_those_of_other_requests_too():
    client = ScriptedClient(bulk_size=2)

    async def scene() -> list[Any]:
        poller = SharedStatusPoller(client)
        waits = [asyncio.create_task(looks_at(poller, [f"job-{n}"], 30, 50)) for n in range(5)]
        await asyncio.sleep(100)
        client.errors = [ControlHubAuthenticationError("refused")]
        await asyncio.sleep(31)
        return [wait.exception() for wait in waits if wait.done()]

    assert [type(error) for error in run_virtually(scene())] == [ControlHubAuthenticationError] * 5
    assert not client.errors


def test_one_id_that_control_hub_refuses_does_not_blind_the_others():
    client = ScriptedClient()
    client.refused = {"bad"}

    async def scene() -> tuple[Any, ...]:
        poller = SharedStatusPoller(client)
        with poller.subscribe({"bad": 1}, 30) as bad:
            good = await looks_at(poller, [f"good-{n}" for n in range(100)], 30, 1)
            return (await bad.next())["bad"], good

    status, good = run_virtually(scene())
    assert status is None
    assert len(good) == 1


def test_a_job_that_may_not_be_read_ends_its_own_wait_only():
    client = ScriptedClient()
    client.forbidden = {"secret"}

    async def scene() -> list[Any]:
        poller = SharedStatusPoller(client)
        return await asyncio.gather(
            looks_at(poller, ["mine"], 30, 2), looks_at(poller, ["secret"], 30, 2), return_exceptions=True
        )

    mine, secret = run_virtually(scene())
    assert len(mine) == 2
    assert isinstance(secret, ControlHubPermissionError)


@pytest.mark.parametrize("nonsense", ["text", [1], {"runCount": "four"}, {"runCount": 1, "status": 5, "startTime": 9}])
def test_a_status_that_is_none_hides_nothing_else_and_is_logged_once(nonsense, caplog):
    client = ScriptedClient(lambda job_id: nonsense if job_id == "odd" else long_running(job_id))

    async def scene() -> None:
        poller = SharedStatusPoller(client)
        with poller.subscribe({"odd": 1}, 30) as odd:
            assert len(await looks_at(poller, ["good"], 30, 10)) == 10
            with pytest.raises(asyncio.TimeoutError):
                await odd.next(1)

    run_virtually(scene())
    assert len([record for record in caplog.records if "odd" in record.getMessage()]) == 1
    assert len(client.asked) <= 10 + 7, "a run that may be young is looked at sooner at first"


def test_a_subscriber_that_does_not_listen_disturbs_nobody():
    client = ScriptedClient()

    async def scene() -> int:
        poller = SharedStatusPoller(client)
        with poller.subscribe({"deaf": 1}, 30, NotifyOn.EVERY_POLL):
            return len(await looks_at(poller, ["job"], 30, 20))

    assert run_virtually(scene()) == 20


def test_an_exception_in_one_subscriber_is_its_own():
    client = ScriptedClient()

    async def failing(poller: SharedStatusPoller) -> None:
        with poller.subscribe({"job": 1}, 30) as subscription:
            await subscription.next()
            raise RuntimeError("in the subscriber")

    async def scene() -> list[Any]:
        poller = SharedStatusPoller(client)
        return await asyncio.gather(failing(poller), looks_at(poller, ["job"], 30, 3), return_exceptions=True)

    failed, times = run_virtually(scene())
    assert isinstance(failed, RuntimeError)
    assert len(times) == 3


def test_a_machine_that_was_suspended_looks_once_and_not_for_each_look_it_has_missed():
    loop = VirtualLoop()
    client = ScriptedClient()

    async def scene() -> None:
        with SharedStatusPoller(client).subscribe({"job": 1}, 30):
            await asyncio.sleep(100)
            asked = len(client.asked)
            loop.jump(3600)
            await asyncio.sleep(29)
            assert len(client.asked) == asked + 1

    run_on(loop, scene())


# Questions


def test_only_a_few_questions_are_asked_at_a_time():
    loop = VirtualLoop(thread_takes=1)

    async def scene() -> list[int]:
        poller = SharedStatusPoller(ScriptedClient())
        return await asyncio.gather(*(poller.run_query(lambda n=n: n) for n in range(50)))

    assert run_on(loop, scene()) == list(range(50))
    assert loop.most_in_threads == 8


def test_a_question_that_cannot_begin_in_time_is_not_asked():
    loop = VirtualLoop(thread_takes=60)
    asked: list[int] = []

    async def scene() -> list[Any]:
        poller = SharedStatusPoller(ScriptedClient())
        return await asyncio.gather(
            *(poller.run_query(lambda n=n: asked.append(n), 5) for n in range(9)), return_exceptions=True
        )

    results = run_on(loop, scene())
    assert [type(result) for result in results] == [type(None)] * 8 + [asyncio.TimeoutError]
    assert asked == list(range(8))


def test_a_cancelled_question_makes_room_for_others():
    loop = VirtualLoop(thread_takes=10)

    async def scene() -> int:
        poller = SharedStatusPoller(ScriptedClient())
        questions = [asyncio.create_task(poller.run_query(lambda: 0)) for _ in range(20)]
        await asyncio.sleep(1)
        for question in questions:
            question.cancel()
        await asyncio.wait(questions)
        return await poller.run_query(lambda: 7)

    assert run_on(loop, scene()) == 7


def test_shorter_delay_of_another_question_does_not_count():
    async def refresh(*_: Any) -> None:
        await asyncio.sleep(1)

    async def scene() -> list[int]:
        credential, error = SharedCredential(ScriptedClient(), refresh), ControlHubAuthenticationError("Refused.")
        return await asyncio.gather(*(credential.wait_refreshed(error, 0, refusals) for refusals in (2, 0, 5)))

    assert run_virtually(scene()) == [3, 1, 5]


def test_questions_that_fail_slow_the_feed_down_are_logged_once_and_wait_themselves(caplog):
    client = ScriptedClient()

    async def scene() -> None:
        now = asyncio.get_running_loop().time
        poller = SharedStatusPoller(client)
        with poller.subscribe({f"job-{n}": 1 for n in range(2500)}, 30):
            await asyncio.sleep(60)
            asked, began = len(client.asked), now()
            for _ in range(100):
                poller.outage.failed(no_answer(retry_after=20))
            await poller.run_query(lambda: None)
            assert now() - began >= 20
            poller.outage.succeeded()
            assert len(client.asked) - asked <= 1

    with caplog.at_level(logging.INFO, pollers.__name__):
        run_virtually(scene())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


# The feed of a connection


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


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedClient]:
    """The clients that were made for connections."""
    made: list[ScriptedClient] = []

    def new_client(self: ConnectionSettings, **_: Any) -> ScriptedClient:
        made.append(ScriptedClient())
        return made[-1]

    monkeypatch.setattr(ConnectionSettings, "client", new_client)
    return made


def test_a_connection_has_one_feed_as_long_as_only_its_credential_is_replaced():
    of_another_organization = "eyJhbGciOiJub25lIn0.eyJzIjoic2VjcmV0IiwibyI6Im90aGVyIn0."

    async def scene() -> None:
        assert shared_poller(settings()) is shared_poller(settings())
        assert shared_poller(settings()) is shared_poller(settings(credential_id="other", token=TOKEN + "x"))
        for change in (
            {"base_url": "https://other.example.com"},
            {"conn_id": "other"},
            {"project_id": "other"},
            {"token": of_another_organization},
        ):
            assert shared_poller(settings()) is not shared_poller(settings(**change))

    run_virtually(scene())


def test_two_connections_ask_apart_and_an_outage_of_one_does_not_slow_the_other_down(clients):
    async def scene() -> list[list[float]]:
        one, other = shared_poller(settings()), shared_poller(settings(base_url="https://other.example.com"))
        clients[0].errors = [no_answer(retry_after=300) for _ in range(3)]
        return await asyncio.gather(looks_at(one, ["job"], 30, 1), looks_at(other, ["job"], 30, 10))

    (late,), regular = run_virtually(scene())
    assert late >= 900
    assert regular[-1] < 280


def test_the_fingerprint_of_a_connection_does_not_contain_its_token():
    assert TOKEN not in settings().fingerprint
    assert TOKEN not in repr(settings())


def test_a_feed_ends_with_its_last_subscriber_and_a_new_one_begins_anew(clients):
    async def scene() -> None:
        first = shared_poller(settings())
        await asyncio.gather(looks_at(first, ["a"], 30, 1), looks_at(first, ["b"], 30, 3))
        assert clients[0].closed
        assert shared_poller(settings()) is not first
        await looks_at(shared_poller(settings()), ["c"], 30, 1)
        leftovers = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
        await asyncio.gather(*leftovers, return_exceptions=True)

    run_virtually(scene())
    assert len(clients) == 2
    assert all(client.closed for client in clients)


def test_two_event_loops_do_not_share_a_feed():
    async def scene() -> SharedStatusPoller:
        return shared_poller(settings())

    assert run_virtually(scene()) is not run_virtually(scene())


def test_threads_end_with_the_feed(clients):
    before = threading.active_count()

    async def scene() -> None:
        for _ in range(5):
            poller = shared_poller(settings())
            await looks_at(poller, ["job"], 30, 1)
            with contextlib.suppress(RuntimeError):
                await poller.run_query(lambda: None)

    asyncio.run(scene())
    for thread in threading.enumerate():
        if thread.name.startswith("control-hub"):
            thread.join(10)
    assert threading.active_count() <= before
    assert len(clients) == 5


def test_a_slow_request_does_not_block_the_event_loop(clients):
    """The request ends only after the event loop has gone round a hundred times meanwhile."""
    released = threading.Event()

    async def scene() -> bool:
        poller = shared_poller(settings())
        answered: list[bool] = []
        snapshots = clients[0].snapshots

        def slow(job_ids: list[str]) -> Any:
            answered.append(released.wait(30))
            return dict.fromkeys(job_ids)

        clients[0].snapshots = slow  # type: ignore[method-assign]
        assert snapshots
        with poller.subscribe({"job": 1}, 30) as subscription:
            while not answered and not released.is_set():
                for _ in range(100):
                    await asyncio.sleep(0.001)
                released.set()
            await subscription.next(30)
        return answered[0]

    assert asyncio.run(scene())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_process_has_a_feed_of_its_own(clients):
    reading, writing = os.pipe()

    async def in_the_child() -> bytes:
        poller = shared_poller(settings())
        times = await looks_at(poller, ["job"], 30, 1)
        return b"looked" if len(times) == 1 else b"did not look"

    async def scene() -> int:
        poller = shared_poller(settings())
        with poller.subscribe({"job": 1}, 30) as subscription:
            await subscription.next(30)
            return os.fork()

    child = _fork_while_a_feed_runs(scene, in_the_child, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        assert answer.read() == b"looked"
    assert os.waitpid(child, 0)[1] == 0


def _fork_while_a_feed_runs(scene: Any, in_the_child: Any, writing: int) -> int:
    loop = asyncio.new_event_loop()
    child = int(loop.run_until_complete(scene()))
    if child == 0:
        try:
            asyncio.set_event_loop(None)
            own = asyncio.new_event_loop()
            os.write(writing, own.run_until_complete(in_the_child()))
            os._exit(0)
        finally:
            os._exit(1)
    loop.close()
    return child


def test_an_unusable_answer_to_all_is_an_outage_and_not_the_end_of_a_wait():
    client = ScriptedClient()
    client.errors = [ControlHubUnexpectedAnswerError("a login page") for _ in range(3)]
    looks_alone(client, ["a", "b"], 30, 1)
    assert len(client.asked) == 4


def test_a_time_that_is_hardly_ahead_is_not_waited_for_in_vain():
    client = ScriptedClient(bulk_size=50)

    async def scene() -> None:
        poller = SharedStatusPoller(client)
        subscriptions = []
        for n in range(300):
            subscriptions.append(poller.subscribe({f"job-{n}": 1}, 30))
            await asyncio.sleep(0.1)
        await asyncio.sleep(120)
        for subscription in subscriptions:
            subscription.close()

    run_virtually(scene())
    times = [when for when, _ in client.asked if when > 1060]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert gaps == pytest.approx([5] * len(gaps), abs=0.1)
