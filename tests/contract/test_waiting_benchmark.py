"""The measurement of waits that ``make bench-waiting`` makes: what it measures, and what it says of it."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
import requests
from rich.console import Console

pytest.importorskip("streamsets.sdk", reason="the official StreamSets SDK is not installed")

from dev.local_sandbox import SandboxProcess
from tests.benchmarks.waiting import __main__ as bench
from tests.benchmarks.waiting import steady
from tests.benchmarks.waiting.contenders import Contender
from tests.benchmarks.waiting.ends import some_of, without_outcome
from tests.benchmarks.waiting.figures import Figure
from tests.benchmarks.waiting.gate import Gate, Passage
from tests.benchmarks.waiting.orders import Event, WaitedRun
from tests.benchmarks.waiting.results import document, goals_are_met, table

RUNS = [WaitedRun(f"job-{number}", f"Job {number}", 1) for number in range(1_000)]


def figure(value: float, limit: float | None, runs: int = 1_000) -> Figure:
    return Figure(runs, 5.0, "requests", {Contender.PROVIDER: value, Contender.LOOPS: 1_000.0}, limit, digits=0)


def shown(*figures: Figure) -> str:
    console = Console(width=150)
    with console.capture() as capture:
        console.print(table(figures))
    return capture.get()


def row(measured: Figure) -> str:
    (line,) = (line for line in shown(measured).splitlines() if measured.name in line)
    return line


@pytest.mark.parametrize(("value", "limit", "met"), [(4, 4, True), (5, 4, False), (4, None, None)])
def test_a_goal_is_about_the_providers_value(value, limit, met):
    measured = figure(value, limit)
    assert measured.goal_is_met is met
    assert goals_are_met([measured]) is (met is not False)
    assert ("met" in shown(measured), "MISSED" in shown(measured)) == (met is True, met is False)
    (written,) = json.loads(json.dumps(document([measured])))["figures"]
    assert written["goal"] == (None if limit is None else {"limit": limit, "met": met})
    assert written["values"] == {"provider": value, "loops": 1_000}


def test_a_part_that_could_not_be_measured_is_no_goal_met():
    assert document([figure(4, 4)], ["1,000 runs: broken"])["goals_met"] is False


def test_threads_are_not_asked_to_wait_for_many_runs():
    assert "n/a (threads)" in row(figure(4, 4))
    assert "n/a" not in row(figure(1, 1, runs=10))


def test_five_hundred_runs_all_over_the_list_end_or_all_if_there_are_fewer():
    assert some_of(RUNS) == RUNS[::2]
    assert len(some_of(RUNS[:900])) == 500
    assert some_of(RUNS[:10]) == RUNS[:10]


def test_an_end_is_told_by_an_event_with_an_outcome():
    told, failed, silent = RUNS[:3]
    events = {
        told.job_id: Event(told.job_id, 0.0, "STOPPED"),
        failed.job_id: Event(failed.job_id, 0.0, None, "refused"),
    }
    assert without_outcome([told, failed, silent], events) == [failed, silent]


def test_a_shut_gate_turns_away_and_counts_and_an_open_one_leads_to_the_sandbox():
    with SandboxProcess() as sandbox, Gate(sandbox.port) as gate, requests.Session() as session:
        assert session.get(f"{gate.url}/healthz", timeout=5).status_code == 200
        gate.turn(Passage.UNAVAILABLE)
        # The connection that was there is gone; what a client makes of that is its own affair.
        with suppress(requests.ConnectionError):
            session.get(f"{gate.url}/healthz", timeout=5)
        before = gate.turned_away
        assert session.post(f"{gate.url}/healthz", json=["x" * 100_000], timeout=5).status_code == 503
        gate.turn(Passage.RESET)
        with pytest.raises(requests.ConnectionError):
            session.get(f"{gate.url}/healthz", timeout=5)
        assert gate.turned_away == before + 2
        gate.turn(Passage.OPEN)
        assert session.get(f"{gate.url}/healthz", timeout=5).status_code == 200
        assert gate.turned_away == before + 2


def test_many_waits_are_measured_with_small_bulk_sizes_too(tmp_path, monkeypatch):
    monkeypatch.setattr(steady, "MOST_WAITS", 20)
    monkeypatch.setattr(steady, "SMALL_BULK_SIZES", (10,))
    path = tmp_path / "bench.json"
    bench.main(["--runs", "20", "--interval", "1", "--alone", "--only", "steady", "--json", str(path)])
    values = {each["name"]: each["values"]["provider"] for each in json.loads(path.read_text())["figures"]}
    assert values["requests per interval"] == 1
    assert values["requests per interval, bulk_size=10"] == pytest.approx(2, abs=1)
    assert values["CPU per interval, bulk_size=10"] > 0


def test_ten_waiting_runs_are_measured_in_every_way(tmp_path, capsys):
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
    assert values["outage of 10 intervals: requests meanwhile"]["provider"] > 0
