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
    ControlHubUnexpectedResponseError,
)
from airflow_provider_streamsets.control_hub.models import JobRun
from airflow_provider_streamsets.control_hub.tracking.run import NotifyOn
from airflow_provider_streamsets.hooks.connection import ConnectionSettings
from airflow_provider_streamsets.polling import sender
from airflow_provider_streamsets.polling.poller import SharedStatusPoller, shared_poller
from airflow_provider_streamsets.polling.sender import SharedCredential
from tests.unit.conftest import TOKEN
from tests.unit.fakes.status_client import FakeStatusClient, long_running_status, poll_times, poll_times_alone
from tests.unit.fakes.virtual_time import VirtualLoop, run_in_virtual_time, run_on_loop


def no_answer(**details: Any) -> ControlHubUnavailableError:
    return ControlHubUnavailableError("no answer", **details)


# Requests


def test_subscribers_share_one_request_per_interval():
    client = FakeStatusClient()

    async def scenario() -> None:
        poller = SharedStatusPoller(client)
        await asyncio.gather(*(poll_times(poller, [f"job-{n}"], 30, 4) for n in range(100)))

    run_in_virtual_time(scenario())
    assert len(client.asked) == 4
    assert all(len(job_ids) == 100 for _, job_ids in client.asked)


def test_waits_for_same_job_request_it_once():
    client = FakeStatusClient()

    async def scenario() -> None:
        poller = SharedStatusPoller(client)
        await asyncio.gather(poll_times(poller, ["job"], 30, 2), poll_times(poller, ["job"], 30, 2))

    run_in_virtual_time(scenario())
    assert [job_ids for _, job_ids in client.asked] == [["job"], ["job"]]


@pytest.mark.parametrize(("runs", "bulk_size", "requests"), [(10, 250, 1), (1000, 250, 4), (1001, 250, 5), (70, 10, 7)])
def test_sends_minimum_requests_per_interval(runs, bulk_size, requests):
    client = FakeStatusClient(bulk_size=bulk_size)

    async def scenario() -> None:
        poller = SharedStatusPoller(client)
        with poller.subscribe({f"job-{n}": 1 for n in range(runs)}, 30):
            await asyncio.sleep(330)

    run_in_virtual_time(scenario())
    later = [job_ids for when, job_ids in client.asked if 1030 <= when < 1330]
    assert len(later) == pytest.approx(10 * requests, abs=1)
    assert max(map(len, later)) <= bulk_size


def test_requests_are_spread_over_interval():
    client = FakeStatusClient()

    async def scenario() -> None:
        with SharedStatusPoller(client).subscribe({f"job-{n}": 1 for n in range(1000)}, 30):
            await asyncio.sleep(300)

    run_in_virtual_time(scenario())
    times = [when for when, _ in client.asked if when > 1060]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert gaps == pytest.approx([7.5] * len(gaps), abs=0.1)


def test_each_run_is_polled_once_per_interval():
    client = FakeStatusClient(bulk_size=20)

    async def scenario() -> None:
        poller = SharedStatusPoller(client)
        with (
            poller.subscribe({f"quick-{n}": 1 for n in range(30)}, 10),
            poller.subscribe({f"slow-{n}": 1 for n in range(100)}, 60),
        ):
            await asyncio.sleep(600)

    run_in_virtual_time(scenario())
    for name, count, interval in (("quick", 30, 10), ("slow", 100, 60)):
        for n in range(count):
            times = [when for when in client.times(f"{name}-{n}") if when > 1060]
            assert all(after - before <= interval * 1.1 for before, after in itertools.pairwise(times))
    assert len(client.asked) < 600 / 10 * 3, "30 and 100 / 6 jobs are three requests of 20 in 10 seconds"


def test_late_subscribers_share_requests():
    client = FakeStatusClient()

    async def late(poller: SharedStatusPoller, job_id: str, delay: float) -> None:
        await asyncio.sleep(delay)
        await poll_times(poller, [job_id], 30, 10)

    async def scenario() -> None:
        poller = SharedStatusPoller(client)
        await asyncio.gather(*(late(poller, f"job-{n}", n * 2.0) for n in range(15)))

    run_in_virtual_time(scenario())
    shared = [job_ids for when, job_ids in client.asked if 1060 < when < 1200]
    assert all(len(job_ids) == 15 for job_ids in shared)
    assert len(shared) <= 5


def test_busy_poller_polls_new_subscriber_at_once():
    client = FakeStatusClient(bulk_size=10)

    async def scenario() -> list[float]:
        poller = SharedStatusPoller(client)
        with poller.subscribe({f"job-{n}": 1 for n in range(100)}, 300):
            await asyncio.sleep(1000.5)
            return await poll_times(poller, ["new"], 300, 1)

    (first,) = run_in_virtual_time(scenario())
    assert first <= 1.2


def test_young_run_is_polled_sooner():
    loop = VirtualLoop()
    client = FakeStatusClient(lambda job_id: long_running_status(job_id, startTime=1000 * 1000))

    async def scenario() -> None:
        with SharedStatusPoller(client).subscribe({"job": 1}, 30):
            await asyncio.sleep(600)

    run_on_loop(loop, scenario())
    times = client.times("job")
    assert len([when for when in times if when < 1020]) >= 5
    assert len([when for when in times if when >= 1120]) == 480 / 30, "later no more often than requested"


def test_old_run_is_polled_once_per_interval():
    client = FakeStatusClient()
    times = poll_times_alone(client, ["job"], 30, 5)
    assert times == pytest.approx([0.1, 30.1, 60.1, 90.1, 120.1], abs=0.1)
    assert len(client.asked) == 5


def test_run_not_yet_visible_is_polled_sooner():
    client = FakeStatusClient(lambda job_id: long_running_status(job_id, 3, status="INACTIVE"))

    async def scenario() -> None:
        with SharedStatusPoller(client).subscribe({"job": 4}, 30):
            await asyncio.sleep(20)

    run_in_virtual_time(scenario())
    assert len(client.asked) >= 5


def test_young_runs_poll_at_most_once_per_second():
    client = FakeStatusClient(
        lambda job_id: long_running_status(job_id, startTime=0, status="ACTIVATING"), bulk_size=10
    )

    async def scenario() -> None:
        with SharedStatusPoller(client).subscribe({f"job-{n}": 1 for n in range(50)}, 600):
            await asyncio.sleep(60)

    run_in_virtual_time(scenario())
    assert len(client.asked) <= 61


# How many jobs a request contains


class LimitedClient(FakeStatusClient):
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


async def poll_many(client: FakeStatusClient, jobs: int, seconds: float) -> None:
    with SharedStatusPoller(client).subscribe({f"job-{n}": 1 for n in range(jobs)}, 30):
        await asyncio.sleep(seconds)


def sizes(client: FakeStatusClient, since: float) -> list[int]:
    return [len(job_ids) for when, job_ids in client.asked if when >= since]


def test_batch_size_starts_below_connection_limit():
    client = FakeStatusClient()
    run_in_virtual_time(poll_many(client, 1000, 20))
    assert sizes(client, 0)[:3] == [100, 200, 250]


def test_batch_size_stays_while_responses_are_slow():
    client = FakeStatusClient()
    run_on_loop(VirtualLoop(thread_latency=4.0), poll_many(client, 1000, 300))
    assert max(sizes(client, 0)) == 100


TOO_LARGE = [
    no_answer(http_status=413),
    no_answer(http_status=414),
    ControlHubRejectedError("too many ids", http_status=413),
]
OTHER_FAILURES = [no_answer(), no_answer(http_status=500), ControlHubUnexpectedResponseError("cut off")]


@pytest.mark.parametrize(
    ("error", "most"),
    # After failures that may have other reasons, requests do not become smaller than ten jobs.
    [*itertools.product(TOO_LARGE, [3, 30, 120, 240]), *itertools.product(OTHER_FAILURES, [30, 120, 240])],
    ids=repr,
)
def test_rejected_batch_size_is_found_and_avoided(error, most):
    client = LimitedClient(most, error)
    run_in_virtual_time(poll_many(client, 500, 1200))
    later = sizes(client, 1600)
    assert not [when for when in client.refused_at if when >= 1600]
    assert max(later) >= most * 0.6
    for n in range(0, 500, 50):
        times = [when for when in client.times(f"job-{n}") if when >= 1600]
        assert all(after - before <= 33 for before, after in itertools.pairwise(times))


def test_batch_size_recovers_after_outage():
    client = LimitedClient(-1, no_answer(http_status=503))

    async def scenario() -> None:
        polling = asyncio.create_task(poll_many(client, 1000, 1200))
        for _ in range(3):
            client.most = 1000
            await asyncio.sleep(150)
            client.most = -1
            await asyncio.sleep(150)
        client.most = 1000
        await polling

    run_in_virtual_time(scenario())
    assert max(sizes(client, 2000)) == 250


def test_connection_remembers_rejected_batch_size(monkeypatch):
    clients: list[LimitedClient] = []

    def client_of(*_: Any, **__: Any) -> LimitedClient:
        clients.append(LimitedClient(30, no_answer(http_status=413)))
        return clients[-1]

    monkeypatch.setattr(ConnectionSettings, "client", client_of)

    async def scenario() -> None:
        for _ in range(2):
            poller = shared_poller(settings())
            with poller.subscribe({f"job-{n}": 1 for n in range(500)}, 30):
                await asyncio.sleep(300)

    run_in_virtual_time(scenario())
    first, second = clients
    assert first.refused_at
    assert not second.refused_at


def test_rate_limit_does_not_shrink_batches():
    client = FakeStatusClient()
    client.errors = [no_answer(http_status=429)] * 3
    run_in_virtual_time(poll_many(client, 1000, 120))
    assert min(sizes(client, 0)) >= 100


# What is reported


def test_unchanged_status_is_notified_once():
    client = FakeStatusClient()

    async def scenario() -> None:
        with SharedStatusPoller(client).subscribe({"job": 1}, 10) as subscription:
            await subscription.next()
            with pytest.raises(asyncio.TimeoutError):
                await subscription.next(95)

    run_in_virtual_time(scenario())
    assert len(client.asked) == 10


def test_unchanged_status_is_notified_for_progress():
    client = FakeStatusClient()

    async def scenario() -> list[float]:
        now = asyncio.get_running_loop().time
        began = now()
        with SharedStatusPoller(client).subscribe({"job": 1}, 10, progress_interval=60) as subscription:
            return [(await subscription.next(), now() - began)[1] for _ in range(4)]

    _, first, second, third = run_in_virtual_time(scenario())
    assert (second - first, third - second) == (pytest.approx(60), pytest.approx(60))


def test_progress_of_many_jobs_is_notified_less_often():
    """A line for each of 1,200 runs: at most ten lines a second."""
    client = FakeStatusClient()

    async def scenario() -> float:
        poller, now = SharedStatusPoller(client), asyncio.get_running_loop().time
        with contextlib.ExitStack() as others, poller.subscribe({"job": 1}, 30, progress_interval=60) as subscription:
            for number in range(1199):
                others.enter_context(poller.subscribe({f"job-{number}": 1}, 30))
            await subscription.next()
            began = now()
            await subscription.next()
            return now() - began

    assert run_in_virtual_time(scenario()) == pytest.approx(120, abs=31)


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
def test_change_is_notified(change):
    changes: dict[str, Any] = {}
    client = FakeStatusClient(lambda job_id: long_running_status(job_id, **changes))

    async def scenario() -> JobRun | Exception | None:
        with SharedStatusPoller(client).subscribe({"job": 1}, 10) as subscription:
            await subscription.next()
            changes.update(change)
            return (await subscription.next(11))["job"]

    assert isinstance(run_in_virtual_time(scenario()), JobRun)


@pytest.mark.parametrize(
    ("notify_on", "fields", "notifies"),
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
def test_status_without_counts_notifies_live_counts_only(notify_on, fields, notifies):
    client = FakeStatusClient(lambda job_id: long_running_status(job_id, **fields))

    async def scenario() -> list[float]:
        return await poll_times(SharedStatusPoller(client), ["job"], 10, 3, notify_on)

    if notifies:
        assert len(run_in_virtual_time(scenario())) == 3
    else:
        with pytest.raises(asyncio.TimeoutError):
            run_in_virtual_time(asyncio.wait_for(scenario(), 55))


def test_new_counts_notify_only_count_subscribers():
    counts = iter(range(1000))
    client = FakeStatusClient(lambda job_id: long_running_status(job_id, inputRecordCount=next(counts)))

    async def scenario() -> list[float]:
        poller = SharedStatusPoller(client)
        with poller.subscribe({"job": 1}, 10) as subscription:
            await subscription.next()
            times = await poll_times(poller, ["job"], 10, 3, NotifyOn.COUNTS)
            with pytest.raises(asyncio.TimeoutError):
                await subscription.next(1)
            return times

    assert len(run_in_virtual_time(scenario())) == 3


@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        long_running_status("job", 5),
        long_running_status("job", 4, status="INACTIVE"),
        long_running_status("job", 4, status="ACTIVATION_ERROR"),
    ],
    ids=["unknown", "never-run", "restarted", "ended", "not-started"],
)
def test_possible_end_is_notified_at_every_poll(status):
    async def scenario() -> None:
        with SharedStatusPoller(FakeStatusClient(lambda _: status)).subscribe({"job": 4}, 10) as subscription:
            for _ in range(3):
                await subscription.next(11)

    run_in_virtual_time(scenario())


def test_end_is_repeated_only_to_matching_waits():
    client = FakeStatusClient(lambda job_id: long_running_status(job_id, 4, status="INACTIVE"))

    async def scenario() -> None:
        poller = SharedStatusPoller(client)
        with poller.subscribe({"job": 4}, 10) as fourth, poller.subscribe({"job": 5}, 10) as fifth:
            for _ in range(3):
                await fourth.next(11)
            await fifth.next(1)
            with pytest.raises(asyncio.TimeoutError):
                await fifth.next(30)

    run_in_virtual_time(scenario())


def test_busy_subscriber_gets_newest_status_once():
    statuses = iter(["ACTIVATING"] * 5 + ["ACTIVE"] * 50)
    client = FakeStatusClient(lambda job_id: long_running_status(job_id, status=next(statuses)))

    async def scenario() -> str:
        with SharedStatusPoller(client).subscribe({"job": 1}, 10) as subscription:
            await asyncio.sleep(95)
            assert len(client.asked) == 10
            status = (await subscription.next())["job"]
            with pytest.raises(asyncio.TimeoutError):
                await subscription.next(1)
            assert isinstance(status, JobRun)
            return status.status

    assert run_in_virtual_time(scenario()) == "ACTIVE"


def test_subscription_reports_result_of_each_job():
    client = FakeStatusClient()
    client.forbidden = {"b"}

    async def scenario() -> dict[str, Any]:
        with SharedStatusPoller(client).subscribe({"a": 1, "b": 1, "c": 1}, 30) as subscription:
            return await subscription.next()

    updates = run_in_virtual_time(scenario())
    assert set(updates) == {"a", "b", "c"}
    assert isinstance(updates["b"], ControlHubPermissionError)
    assert updates["a"].job_id == "a"


def test_unsubscribed_jobs_are_not_requested():
    client = FakeStatusClient()

    async def scenario() -> None:
        with SharedStatusPoller(client).subscribe({"a": 1, "b": 1}, 30) as subscription:
            await subscription.next()
            subscription.unsubscribe(["b", "unknown"])
            await asyncio.sleep(31)

    run_in_virtual_time(scenario())
    assert [sorted(job_ids) for _, job_ids in client.asked] == [["a", "b"], ["a"]]


# Joining and leaving


def test_leaving_during_request_keeps_other_subscribers():
    client = FakeStatusClient()

    async def scenario() -> list[float]:
        poller = SharedStatusPoller(client)
        leaver = asyncio.create_task(poll_times(poller, ["leaver"], 30, 5))
        stayer = asyncio.create_task(poll_times(poller, ["stayer"], 30, 5))
        await asyncio.sleep(1)
        leaver.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaver
        return await stayer

    assert len(run_on_loop(VirtualLoop(thread_latency=3), scenario())) == 5
    assert client.asked[-1][1] == ["stayer"]


def test_joining_during_request_gets_next_result():
    client = FakeStatusClient()

    async def scenario() -> list[float]:
        poller = SharedStatusPoller(client)
        with poller.subscribe({"first": 1}, 30):
            await asyncio.sleep(1)
            return await poll_times(poller, ["second"], 30, 1)

    (first,) = run_on_loop(VirtualLoop(thread_latency=3), scenario())
    assert first == pytest.approx(2.1 + 3, abs=0.2)


def test_joining_while_others_are_notified_polls_soon():
    client = FakeStatusClient()

    async def scenario() -> float:
        poller = SharedStatusPoller(client)
        subscriptions = {name: poller.subscribe({name: 1}, 600) for name in map(str, range(100))}
        joined: list[asyncio.Task[dict[str, Any]]] = []

        async def wait(name: str) -> None:
            await subscriptions[name].next()
            if not joined:
                joined.append(asyncio.create_task(poller.subscribe({name: 1}, 600).next()))

        await asyncio.gather(*map(wait, subscriptions))
        began = asyncio.get_running_loop().time()
        await joined[0]
        return asyncio.get_running_loop().time() - began

    assert run_in_virtual_time(scenario()) < 2


def test_resubscribing_during_request_polls_job_again():
    client = FakeStatusClient()

    async def scenario() -> list[float]:
        poller = SharedStatusPoller(client)
        with poller.subscribe({"other": 1}, 30):
            with poller.subscribe({"job": 1}, 30):
                await asyncio.sleep(1)
            return await poll_times(poller, ["job"], 30, 2)

    assert len(run_on_loop(VirtualLoop(thread_latency=3), scenario())) == 2


def test_slow_requests_are_sent_sequentially():
    loop = VirtualLoop(thread_latency=20)
    client = FakeStatusClient(bulk_size=10)

    async def scenario() -> None:
        with SharedStatusPoller(client).subscribe({f"job-{n}": 1 for n in range(100)}, 10):
            await asyncio.sleep(400)

    run_on_loop(loop, scenario())
    assert loop.max_concurrent_threads == 1
    assert set().union(*(job_ids for _, job_ids in client.asked)) == {f"job-{n}" for n in range(100)}


def test_cancelled_wait_ignores_simultaneous_status():
    async def scenario() -> bool:
        with SharedStatusPoller(FakeStatusClient()).subscribe({"job": 1}, 10) as subscription:
            waiting = asyncio.create_task(subscription.next(100))
            await asyncio.sleep(0)
            subscription.notify("job", None)
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
            return waiting.cancelled()

    assert run_in_virtual_time(scenario())


@pytest.mark.parametrize("interval", ["often", 0, -1, float("nan"), float("inf"), None])
def test_invalid_interval_fails_only_its_wait(interval):
    async def scenario() -> list[Any]:
        poller = SharedStatusPoller(FakeStatusClient())
        return await asyncio.gather(
            poll_times(poller, ["right"], 30, 2), poll_times(poller, ["wrong"], interval, 1), return_exceptions=True
        )

    right, wrong = run_in_virtual_time(scenario())
    assert len(right) == 2
    assert isinstance(wrong, (TypeError, ValueError))


# Failures


def test_outage_is_logged_once_and_not_notified(caplog):
    client = FakeStatusClient()
    client.errors = [no_answer() for _ in range(20)]
    with caplog.at_level(logging.INFO, sender.__name__):
        poll_times_alone(client, ["job"], 30, 1)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@pytest.mark.parametrize(("runs", "interval"), [(1, 30), (2500, 30), (250, 5), (10, 600)])
def test_outage_slows_polling_and_recovery_is_prompt(runs, interval):
    client = FakeStatusClient()
    outage = 20 * interval

    async def scenario() -> None:
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

    run_in_virtual_time(scenario())


def test_pollers_resume_with_jitter():
    async def second_poll() -> float:
        client = FakeStatusClient()
        client.errors = [no_answer()]
        await poll_times(SharedStatusPoller(client), ["job"], 30, 1)
        return client.asked[1][0]

    async def scenario() -> list[float]:
        return await asyncio.gather(*(second_poll() for _ in range(20)))

    assert len({round(when, 2) for when in run_in_virtual_time(scenario())}) > 10


@pytest.mark.parametrize("runs", [1, 2500])
def test_honours_retry_after(runs):
    client = FakeStatusClient()
    client.errors = [no_answer(http_status=429, retry_after=120)]

    async def scenario() -> None:
        with SharedStatusPoller(client).subscribe({f"job-{n}": 1 for n in range(runs)}, 30):
            await asyncio.sleep(200)

    run_in_virtual_time(scenario())
    assert client.asked[1][0] - client.asked[0][0] >= 119.9


def test_internal_error_does_not_end_wait(caplog):
    client = FakeStatusClient()
    client.errors = [RuntimeError("a bug")]
    assert len(poll_times_alone(client, ["job"], 30, 1)) == 1
    assert "a bug" in caplog.text


def test_refused_credential_ends_all_waits_at_once():
    client = FakeStatusClient(bulk_size=2)

    async def scenario() -> list[Any]:
        poller = SharedStatusPoller(client)
        waits = [asyncio.create_task(poll_times(poller, [f"job-{n}"], 30, 50)) for n in range(5)]
        await asyncio.sleep(100)
        client.errors = [ControlHubAuthenticationError("refused")]
        await asyncio.sleep(31)
        return [wait.exception() for wait in waits if wait.done()]

    assert [type(error) for error in run_in_virtual_time(scenario())] == [ControlHubAuthenticationError] * 5
    assert not client.errors


def test_rejected_id_does_not_affect_other_jobs():
    client = FakeStatusClient()
    client.refused = {"bad"}

    async def scenario() -> tuple[Any, ...]:
        poller = SharedStatusPoller(client)
        with poller.subscribe({"bad": 1}, 30) as bad:
            good = await poll_times(poller, [f"good-{n}" for n in range(100)], 30, 1)
            return (await bad.next())["bad"], good

    status, good = run_in_virtual_time(scenario())
    assert status is None
    assert len(good) == 1


def test_forbidden_job_ends_only_its_wait():
    client = FakeStatusClient()
    client.forbidden = {"secret"}

    async def scenario() -> list[Any]:
        poller = SharedStatusPoller(client)
        return await asyncio.gather(
            poll_times(poller, ["mine"], 30, 2), poll_times(poller, ["secret"], 30, 2), return_exceptions=True
        )

    mine, secret = run_in_virtual_time(scenario())
    assert len(mine) == 2
    assert isinstance(secret, ControlHubPermissionError)


@pytest.mark.parametrize("nonsense", ["text", [1], {"runCount": "four"}, {"runCount": 1, "status": 5, "startTime": 9}])
def test_malformed_status_is_isolated_and_logged_once(nonsense, caplog):
    client = FakeStatusClient(lambda job_id: nonsense if job_id == "odd" else long_running_status(job_id))

    async def scenario() -> None:
        poller = SharedStatusPoller(client)
        with poller.subscribe({"odd": 1}, 30) as odd:
            assert len(await poll_times(poller, ["good"], 30, 10)) == 10
            with pytest.raises(asyncio.TimeoutError):
                await odd.next(1)

    run_in_virtual_time(scenario())
    assert len([record for record in caplog.records if "odd" in record.getMessage()]) == 1
    assert len(client.asked) <= 10 + 7, "a run that may be young is polled sooner at first"


def test_inactive_subscriber_does_not_block_others():
    client = FakeStatusClient()

    async def scenario() -> int:
        poller = SharedStatusPoller(client)
        with poller.subscribe({"deaf": 1}, 30, NotifyOn.EVERY_POLL):
            return len(await poll_times(poller, ["job"], 30, 20))

    assert run_in_virtual_time(scenario()) == 20


def test_subscriber_exception_does_not_affect_others():
    client = FakeStatusClient()

    async def failing(poller: SharedStatusPoller) -> None:
        with poller.subscribe({"job": 1}, 30) as subscription:
            await subscription.next()
            raise RuntimeError("in the subscriber")

    async def scenario() -> list[Any]:
        poller = SharedStatusPoller(client)
        return await asyncio.gather(failing(poller), poll_times(poller, ["job"], 30, 3), return_exceptions=True)

    failed, times = run_in_virtual_time(scenario())
    assert isinstance(failed, RuntimeError)
    assert len(times) == 3


def test_suspended_machine_polls_once_on_resume():
    loop = VirtualLoop()
    client = FakeStatusClient()

    async def scenario() -> None:
        with SharedStatusPoller(client).subscribe({"job": 1}, 30):
            await asyncio.sleep(100)
            asked = len(client.asked)
            loop.jump(3600)
            await asyncio.sleep(29)
            assert len(client.asked) == asked + 1

    run_on_loop(loop, scenario())


# Questions


def test_limits_concurrent_queries():
    loop = VirtualLoop(thread_latency=1)

    async def scenario() -> list[int]:
        poller = SharedStatusPoller(FakeStatusClient())
        return await asyncio.gather(*(poller.run_query(lambda n=n: n) for n in range(50)))

    assert run_on_loop(loop, scenario()) == list(range(50))
    assert loop.max_concurrent_threads == 8


def test_query_not_started_in_time_is_dropped():
    loop = VirtualLoop(thread_latency=60)
    asked: list[int] = []

    async def scenario() -> list[Any]:
        poller = SharedStatusPoller(FakeStatusClient())
        return await asyncio.gather(
            *(poller.run_query(lambda n=n: asked.append(n), 5) for n in range(9)), return_exceptions=True
        )

    results = run_on_loop(loop, scenario())
    assert [type(result) for result in results] == [type(None)] * 8 + [asyncio.TimeoutError]
    assert asked == list(range(8))


def test_cancelled_query_frees_its_slot():
    loop = VirtualLoop(thread_latency=10)

    async def scenario() -> int:
        poller = SharedStatusPoller(FakeStatusClient())
        questions = [asyncio.create_task(poller.run_query(lambda: 0)) for _ in range(20)]
        await asyncio.sleep(1)
        for question in questions:
            question.cancel()
        await asyncio.wait(questions)
        return await poller.run_query(lambda: 7)

    assert run_on_loop(loop, scenario()) == 7


def test_shorter_query_delay_adds_no_refusal():
    async def refresh(*_: Any) -> None:
        await asyncio.sleep(1)

    async def scenario() -> list[int]:
        credential, error = SharedCredential(FakeStatusClient(), refresh), ControlHubAuthenticationError("Refused.")
        return await asyncio.gather(*(credential.wait_refreshed(error, 0, rejections) for rejections in (2, 0, 5)))

    assert run_in_virtual_time(scenario()) == [3, 1, 5]


def test_query_outage_slows_polling_and_is_logged_once(caplog):
    client = FakeStatusClient()

    async def scenario() -> None:
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

    with caplog.at_level(logging.INFO, sender.__name__):
        run_in_virtual_time(scenario())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


# The feed of a connection


def settings(**fields: Any) -> ConnectionSettings:
    values: dict[str, Any] = {
        "conn_id": "c",
        "base_url": "https://hub.example.com",
        "credential_id": "id",
        "token": TOKEN,
    }
    return ConnectionSettings(**{**values, **fields})


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[FakeStatusClient]:
    """The clients that were made for connections."""
    made: list[FakeStatusClient] = []

    def new_client(self: ConnectionSettings, **_: Any) -> FakeStatusClient:
        made.append(FakeStatusClient())
        return made[-1]

    monkeypatch.setattr(ConnectionSettings, "client", new_client)
    return made


def test_connection_keeps_poller_if_only_credential_changes():
    of_another_organization = "eyJhbGciOiJub25lIn0.eyJzIjoic2VjcmV0IiwibyI6Im90aGVyIn0."

    async def scenario() -> None:
        assert shared_poller(settings()) is shared_poller(settings())
        assert shared_poller(settings()) is shared_poller(settings(credential_id="other", token=TOKEN + "x"))
        for change in (
            {"base_url": "https://other.example.com"},
            {"conn_id": "other"},
            {"project_id": "other"},
            {"token": of_another_organization},
        ):
            assert shared_poller(settings()) is not shared_poller(settings(**change))

    run_in_virtual_time(scenario())


def test_outage_of_one_connection_does_not_slow_another(clients):
    async def scenario() -> list[list[float]]:
        one, other = shared_poller(settings()), shared_poller(settings(base_url="https://other.example.com"))
        clients[0].errors = [no_answer(retry_after=300) for _ in range(3)]
        return await asyncio.gather(poll_times(one, ["job"], 30, 1), poll_times(other, ["job"], 30, 10))

    (late,), regular = run_in_virtual_time(scenario())
    assert late >= 900
    assert regular[-1] < 280


def test_sharing_key_and_repr_hold_no_token():
    assert TOKEN not in settings().fingerprint
    assert TOKEN not in repr(settings())


def test_last_subscriber_closes_poller(clients):
    async def scenario() -> None:
        first = shared_poller(settings())
        await asyncio.gather(poll_times(first, ["a"], 30, 1), poll_times(first, ["b"], 30, 3))
        assert clients[0].closed
        assert shared_poller(settings()) is not first
        await poll_times(shared_poller(settings()), ["c"], 30, 1)
        leftovers = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
        await asyncio.gather(*leftovers, return_exceptions=True)

    run_in_virtual_time(scenario())
    assert len(clients) == 2
    assert all(client.closed for client in clients)


def test_event_loops_do_not_share_poller():
    async def scenario() -> SharedStatusPoller:
        return shared_poller(settings())

    assert run_in_virtual_time(scenario()) is not run_in_virtual_time(scenario())


def test_threads_end_with_poller(clients):
    before = threading.active_count()

    async def scenario() -> None:
        for _ in range(5):
            poller = shared_poller(settings())
            await poll_times(poller, ["job"], 30, 1)
            with contextlib.suppress(RuntimeError):
                await poller.run_query(lambda: None)

    asyncio.run(scenario())
    for thread in threading.enumerate():
        if thread.name.startswith("control-hub"):
            thread.join(10)
    assert threading.active_count() <= before
    assert len(clients) == 5


def test_slow_request_does_not_block_event_loop(clients):
    """The request ends only after the event loop has gone round a hundred times meanwhile."""
    released = threading.Event()

    async def scenario() -> bool:
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

    assert asyncio.run(scenario())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_forked_process_uses_its_own_poller(clients):
    reading, writing = os.pipe()

    async def in_the_child() -> bytes:
        poller = shared_poller(settings())
        times = await poll_times(poller, ["job"], 30, 1)
        return b"polled" if len(times) == 1 else b"did not poll"

    async def scenario() -> int:
        poller = shared_poller(settings())
        with poller.subscribe({"job": 1}, 30) as subscription:
            await subscription.next(30)
            return os.fork()

    child = _fork_while_a_feed_runs(scenario, in_the_child, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        assert answer.read() == b"polled"
    assert os.waitpid(child, 0)[1] == 0


def _fork_while_a_feed_runs(scenario: Any, in_the_child: Any, writing: int) -> int:
    loop = asyncio.new_event_loop()
    child = int(loop.run_until_complete(scenario()))
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


def test_unexpected_response_counts_as_outage():
    client = FakeStatusClient()
    client.errors = [ControlHubUnexpectedResponseError("a login page") for _ in range(3)]
    poll_times_alone(client, ["a", "b"], 30, 1)
    assert len(client.asked) == 4


def test_staggered_subscriptions_keep_even_spacing():
    client = FakeStatusClient(bulk_size=50)

    async def scenario() -> None:
        poller = SharedStatusPoller(client)
        subscriptions = []
        for n in range(300):
            subscriptions.append(poller.subscribe({f"job-{n}": 1}, 30))
            await asyncio.sleep(0.1)
        await asyncio.sleep(120)
        for subscription in subscriptions:
            subscription.close()

    run_in_virtual_time(scenario())
    times = [when for when, _ in client.asked if when > 1060]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert gaps == pytest.approx([5] * len(gaps), abs=0.1)
