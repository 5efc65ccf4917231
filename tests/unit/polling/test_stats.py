from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from airflow_provider_streamsets import compat
from airflow_provider_streamsets.control_hub import ControlHubUnavailableError
from airflow_provider_streamsets.polling import stats
from airflow_provider_streamsets.polling.poller import SharedStatusPoller
from tests.documentation import DOCS
from tests.unit.fakes.recorded_stats import RecordedStats
from tests.unit.fakes.status_client import FakeStatusClient
from tests.unit.fakes.virtual_time import VirtualLoop, run_in_virtual_time, run_on_loop


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> RecordedStats:
    backend = RecordedStats()
    monkeypatch.setattr(stats, "server_stats", lambda: backend)
    monkeypatch.setattr(stats, "get_hostname", lambda: "host")
    return backend


async def wait_on(client: FakeStatusClient, runs: int, seconds: float, conn_id: str = "streamsets_default") -> None:
    """Wait for runs that do not end for some time, and close the poller."""
    poller = SharedStatusPoller(client, conn_id=conn_id)
    with poller.subscribe({f"job-{n}": 1 for n in range(runs)}, 30):
        await asyncio.sleep(seconds)
    poller.close()


def no_answer() -> ControlHubUnavailableError:
    return ControlHubUnavailableError("no answer")


def test_polls_and_waiting_runs_are_emitted(recorded):
    client = FakeStatusClient()
    run_in_virtual_time(wait_on(client, 7, 300))
    assert recorded.names() == {
        f"streamsets.poller.{name}" for name in ("polls", "delay", "outage_duration", "request_limit", "waiting_runs")
    }
    assert recorded.values("streamsets.poller.polls", result="succeeded") == [1] * len(client.asked)
    assert recorded.values("streamsets.poller.waiting_runs") == [7] * len(client.asked) + [0]
    assert set(recorded.values("streamsets.poller.outage_duration")) == {0}
    assert set(recorded.values("streamsets.poller.delay")) == {0}
    expected = {"poller": "tasks", "conn_id": "streamsets_default", "hostname": "host"}
    assert all(tags == expected for name, _, tags in recorded.emitted if name != "streamsets.poller.polls")


def test_outage_lasts_from_first_failed_poll_to_first_successful_one(recorded):
    client = FakeStatusClient()

    async def scenario() -> None:
        now = asyncio.get_running_loop().time
        began = now() + 100

        def fetch(job_ids: list[str]) -> Any:
            if began <= now() < began + 200:
                raise no_answer()
            return original(job_ids)

        original, client.snapshots = client.snapshots, fetch  # type: ignore[method-assign]
        await wait_on(client, 1, 600)

    run_in_virtual_time(scenario())
    durations = recorded.values("streamsets.poller.outage_duration")
    failed = len(recorded.values("streamsets.poller.polls", result="failed"))
    assert failed > 3
    # The first failed poll begins the outage.
    outage = [duration for duration in durations if duration]
    assert len(outage) == failed - 1
    assert outage == sorted(outage)
    assert 100 < outage[-1] <= 200
    assert durations[-1] == 0


def test_request_limit_is_emitted_while_known(recorded):
    client = FakeStatusClient()
    client.errors = [ControlHubUnavailableError("slow down", http_status=429)]
    run_in_virtual_time(wait_on(client, 1, 300))
    first, *_, last, closed = recorded.values("streamsets.poller.request_limit")
    assert first == 0.5
    assert (last, closed) == (0, 0)


def test_late_poll_shows_in_delay(recorded):
    # Each poll takes longer than the distance of the slots of 1,000 jobs.
    run_on_loop(VirtualLoop(thread_latency=20.0), wait_on(FakeStatusClient(), 1000, 300))
    assert max(recorded.values("streamsets.poller.delay")) >= 20


def test_tags_have_no_separators_of_statsd(recorded):
    run_in_virtual_time(wait_on(FakeStatusClient(), 1, 10, "hub:eu|1,x"))
    assert {tags["conn_id"] for _, _, tags in recorded.emitted} == {"hub_eu_1_x"}


def test_failing_backend_is_logged_and_does_not_stop_polling(monkeypatch, caplog):
    def fail() -> None:
        raise OSError("no route to the collector")

    monkeypatch.setattr(stats, "server_stats", fail)
    client = FakeStatusClient()
    run_in_virtual_time(wait_on(client, 1, 100))
    assert len(client.asked) > 2
    assert "Could not emit the metrics of a poll." in caplog.text


def test_poll_that_ends_after_close_leaves_gauges_at_zero(recorded):
    poller_stats = stats.PollerStats("tasks", "conn", lambda: 0.0)
    poller_stats.waiting_runs = 3
    poller_stats.run(lambda: None)
    poller_stats.run(poller_stats.close)
    assert recorded.values("streamsets.poller.waiting_runs") == [3, 0]


def test_forbidden_job_is_no_outage(recorded):
    client = FakeStatusClient()
    client.forbidden = {"job-0"}
    run_in_virtual_time(wait_on(client, 1, 100))
    assert not recorded.values("streamsets.poller.polls", result="failed")


def test_poller_that_never_polled_emits_nothing(recorded):
    run_in_virtual_time(wait_on(FakeStatusClient(), 1, 0))
    assert recorded.emitted == []


def test_documented_metrics_are_emitted(recorded):
    run_in_virtual_time(wait_on(FakeStatusClient(), 1, 10))
    page = (DOCS / "reference/metrics.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(streamsets\.poller\.\w+)` \|", page, re.MULTILINE)) == recorded.names()


def test_triggerer_uses_metrics_of_servers():
    assert callable(compat.server_stats().gauge)
