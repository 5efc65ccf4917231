"""``make bench-waiting`` measures waits and reports the figures."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
import requests
from rich.console import Console

pytest.importorskip("streamsets.sdk", reason="the official StreamSets SDK is not installed")

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from tests.benchmarks.waiting import __main__ as bench
from tests.benchmarks.waiting import rate_limit, steady_state
from tests.benchmarks.waiting.completion import find_missing, select_finishing
from tests.benchmarks.waiting.figures import Figure
from tests.benchmarks.waiting.protocol import Event, WaitedRun
from tests.benchmarks.waiting.proxy import FaultProxy, ProxyMode
from tests.benchmarks.waiting.results import document, goals_are_met, table
from tests.benchmarks.waiting.strategies import Strategy

RUNS = [WaitedRun(f"job-{number}", f"Job {number}", 1) for number in range(1_000)]


def figure(value: float, limit: float | None, runs: int = 1_000) -> Figure:
    return Figure(runs, 5.0, "requests", {Strategy.PROVIDER: value, Strategy.LOOPS: 1_000.0}, limit, digits=0)


def shown(*figures: Figure) -> str:
    console = Console(width=150)
    with console.capture() as capture:
        console.print(table(figures))
    return capture.get()


def row(measured: Figure) -> str:
    (line,) = (line for line in shown(measured).splitlines() if measured.name in line)
    return line


@pytest.mark.parametrize(("value", "limit", "met"), [(4, 4, True), (5, 4, False), (4, None, None)])
def test_goal_applies_to_provider(value, limit, met):
    measured = figure(value, limit)
    assert measured.goal_is_met is met
    assert goals_are_met([measured]) is (met is not False)
    assert ("met" in shown(measured), "MISSED" in shown(measured)) == (met is True, met is False)
    (written,) = json.loads(json.dumps(document([measured])))["figures"]
    assert written["goal"] == (None if limit is None else {"limit": limit, "met": met})
    assert written["values"] == {"provider": value, "loops": 1_000}


def test_failed_measurement_misses_goals():
    assert document([figure(4, 4)], ["1,000 runs: broken"])["goals_met"] is False


def test_threads_are_skipped_for_many_runs():
    assert "n/a (threads)" in row(figure(4, 4))
    assert "n/a" not in row(figure(1, 1, runs=10))


def test_up_to_500_runs_finish():
    assert select_finishing(RUNS) == RUNS[::2]
    assert len(select_finishing(RUNS[:900])) == 500
    assert select_finishing(RUNS[:10]) == RUNS[:10]


def test_missing_ends_have_no_outcome():
    reported, failed, silent = RUNS[:3]
    events = {
        reported.job_id: Event(reported.job_id, 0.0, "STOPPED"),
        failed.job_id: Event(failed.job_id, 0.0, None, "refused"),
    }
    assert find_missing([reported, failed, silent], events) == [failed, silent]


def test_proxy_relays_or_rejects_connections():
    with SandboxProcess() as sandbox, FaultProxy(sandbox.port) as proxy, requests.Session() as session:
        assert session.get(f"{proxy.url}/healthz", timeout=5).status_code == 200
        proxy.set_mode(ProxyMode.UNAVAILABLE)
        # The existing connection was reset, which the client may or may not handle.
        with suppress(requests.ConnectionError):
            session.get(f"{proxy.url}/healthz", timeout=5)
        before = proxy.rejected
        assert session.post(f"{proxy.url}/healthz", json=["x" * 100_000], timeout=5).status_code == 503
        proxy.set_mode(ProxyMode.RESET)
        with pytest.raises(requests.ConnectionError):
            session.get(f"{proxy.url}/healthz", timeout=5)
        assert proxy.rejected == before + 2
        proxy.set_mode(ProxyMode.SILENT)
        with pytest.raises(requests.ReadTimeout):
            session.get(f"{proxy.url}/healthz", timeout=1)
        assert proxy.rejected == before + 3
        proxy.set_mode(ProxyMode.OPEN)
        assert session.get(f"{proxy.url}/healthz", timeout=5).status_code == 200
        assert proxy.rejected == before + 3


def test_many_waits_are_measured_with_small_bulk_sizes(tmp_path, monkeypatch):
    monkeypatch.setattr(steady_state, "MAX_WAITS", 20)
    monkeypatch.setattr(steady_state, "SMALL_BULK_SIZES", (10,))
    path = tmp_path / "bench.json"
    bench.main(["--runs", "20", "--interval", "1", "--provider-only", "--only", "steady", "--json", str(path)])
    values = {each["name"]: each["values"]["provider"] for each in json.loads(path.read_text())["figures"]}
    assert values["requests per interval"] == 1
    assert values["requests per interval, bulk_size=10"] == pytest.approx(2, abs=1)
    assert values["CPU per interval, bulk_size=10"] > 0


def test_waits_within_rate_limit_are_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rate_limit, "STEADY_SECONDS", 3.0)
    path = tmp_path / "bench.json"
    options = {"--limits": 3, "--runs": 20, "--ends": 10, "--interval": 1, "--warm-up": 1, "--json": path}
    rate_limit.main([str(text) for option in options.items() for text in option])
    assert "3/s" in capsys.readouterr().out
    learned, backoff = json.loads(path.read_text())["results"]
    assert (learned["strategy"], backoff["strategy"]) == ("provider", "backoff")
    assert learned["late"] == 0
    assert learned["burst_sent"] > 10
    assert learned["burst_rejected"] < backoff["burst_rejected"]


def test_all_parts_and_strategies_are_measured(tmp_path, capsys):
    path = tmp_path / "new" / "bench.json"
    bench.main(["--runs", "10", "--interval", "1", "--json", str(path)])
    assert "requests per interval" in capsys.readouterr().out
    written = json.loads(path.read_text())
    assert written["problems"] == []
    values = {each["name"]: each["values"] for each in written["figures"]}
    requests_, memory = values["requests per interval"], values["memory per run"]
    assert requests_["provider"] == 1
    assert requests_["loops"] == pytest.approx(10, abs=2)
    assert requests_["threads"] > 0
    assert set(memory) == {"provider", "loops", "threads"}
    cpu = values["CPU per interval"]
    assert 0 < cpu["provider"] < 1
    assert 0 < values["end to event, 10 ends, median"]["provider"] <= values["end to event, 10 ends, worst"]["provider"]
    assert values["outage of 10 intervals: waits failed, ends lost"]["provider"] == 0
    assert values["outage of 10 intervals: requests during outage"]["provider"] > 0
