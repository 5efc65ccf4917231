"""``make bench`` compares requests with the official SDK and reports the result."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from rich.console import Console

pytest.importorskip("streamsets.sdk", reason="the official StreamSets SDK is not installed")

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from tests.benchmarks import requests_per_operation as bench
from tests.benchmarks.environment import Environment
from tests.benchmarks.measurement import BenchmarkError, Call, Comparison, Measurement, PollPattern, compare
from tests.benchmarks.operations import OPERATIONS
from tests.benchmarks.results import document, table

CALL = Call("GET", "/jobrunner/rest/v1/jobs")
LOG_IN = OPERATIONS[0]


def comparison(sdk: int, provider: int, *, goal: float = 1.0, polls: int = 0) -> Comparison:
    return Comparison(
        replace(LOG_IN, goal=goal),
        Measurement((CALL,) * (sdk + polls), polls, 2.0),
        Measurement((CALL,) * (provider + polls), polls, 1.0),
    )


def shown(*comparisons: Comparison) -> list[str]:
    console = Console(width=150)
    with console.capture() as capture:
        console.print(table(comparisons))
    return [line for line in capture.get().splitlines() if LOG_IN.name in line and "<=" in line]


@pytest.mark.parametrize(
    ("sdk", "provider", "goal", "met"),
    [(20, 20, 1.0, True), (20, 21, 1.0, False), (20, 5, 0.25, True), (20, 6, 0.25, False), (21, 5, 0.25, True)],
)
def test_goal_excludes_polls(sdk, provider, goal, met):
    measured = comparison(sdk, provider, goal=goal, polls=7)
    assert (measured.sdk.requests, measured.provider.requests) == (sdk, provider)
    assert measured.goal_is_met is met
    (row,) = shown(measured)
    assert ("met" in row, "MISSED" in row) == (met, not met)
    assert document([measured])["goals_met"] is met


def test_document_lists_all_requests():
    written = json.loads(json.dumps(document([comparison(20, 4), comparison(10, 10)])))
    first, second = written["operations"]
    assert first["sdk"]["calls"] == ["GET /jobrunner/rest/v1/jobs"] * 20
    assert (first["request_ratio"], second["request_ratio"], first["time_ratio"]) == (0.2, 1.0, 0.5)


def test_only_requests_after_awaited_call_are_polls():
    poll, start, other = Call("POST", "/v1/jobs/status"), Call("POST", "/v1/jobs/startJobs"), CALL
    poll_pattern = PollPattern(after=r"/startJobs$", poll=r"/jobs/status$")
    assert poll_pattern.select([poll, start, poll, other, poll]) == [poll, poll]
    assert poll_pattern.select([poll, other]) == []


def test_operation_names_are_unique():
    names = [operation.name for operation in OPERATIONS]
    assert len(names) == len(set(names)) > 30


def test_operation_is_measured_with_both_clients(tmp_path, capsys):
    path = tmp_path / "new" / "bench.json"
    assert bench.main(["--only", "events of a run", "--json", str(path)]) == 0
    assert "read the events of a run" in capsys.readouterr().out
    (measured,) = json.loads(path.read_text())["operations"]
    for runner in ("sdk", "provider"):
        # One lookup at the login service, one read of the events.
        assert sum("/login/" in call for call in measured[runner]["calls"]) == 1
        assert sum("/jobStatusHistory" in call for call in measured[runner]["calls"]) == 1
        assert measured[runner]["requests"] == len(measured[runner]["calls"])


def test_missing_effect_is_an_error():
    class Idle(type(LOG_IN)):
        def expected(self, environment, prepared):
            return "something else"

    with SandboxProcess() as sandbox, pytest.raises(BenchmarkError, match="expected the effect 'something else'"):
        compare(Idle("do nothing"), Environment(sandbox))


def test_missed_goal_sets_exit_code(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "OPERATIONS", (replace(LOG_IN, goal=0.0),))
    assert bench.main(["--json", str(tmp_path / "bench.json")]) == 1
    assert json.loads((tmp_path / "bench.json").read_text())["goals_met"] is False


def test_unknown_operation_name_is_rejected(capsys):
    with pytest.raises(SystemExit):
        bench.main(["--only", "no such operation"])
    assert "no such operation" in capsys.readouterr().err
