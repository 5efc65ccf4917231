"""Names, durations and behaviours in a snapshot."""

from __future__ import annotations

import pendulum
import pytest
import yaml

from airflow_provider_streamsets.cli.snapshot import dump_snapshot
from airflow_provider_streamsets.cli.snapshot_names import SnapshotNames, may_be_secret, unique_keys
from airflow_provider_streamsets.cli.snapshot_runs import DEFAULT_BEHAVIOUR, DEFAULT_SECONDS, RunHistory, duration
from airflow_provider_streamsets.control_hub import JobRun
from airflow_provider_streamsets.control_hub.models import RunEvent
from airflow_provider_streamsets.sandbox.seed.document import parse_duration

NOW = pendulum.datetime(2026, 11, 23, 2)


def run_of(run_count, *, ago, length=None, **values):
    start = NOW.subtract(seconds=ago)
    finish = None if length is None else start.add(seconds=length)
    status = "ACTIVE" if length is None else "INACTIVE"
    values = {"status": status, "color": "GRAY", **values}
    return JobRun(f"run-{run_count}", "job", run_count, start_time=start, finish_time=finish, **values)


def history_of(*runs, counts=None, stopped=False, saves_metrics=True):
    history = RunHistory(NOW, runs, counts or {}, saves_metrics)
    stop = [RunEvent(NOW, "ACTIVE", "", None), RunEvent(NOW, "DEACTIVATING", "", "me")]
    history.decide_outcomes(lambda _: stop if stopped else [])
    return history


@pytest.mark.parametrize("text", ["DB_PASS", "PASS", "db.pw", "SSH_KEY", "client-key", "STORAGE_KEY", "SIGNING KEY"])
def test_short_names_of_secrets_are_recognised(text):
    assert may_be_secret(text)


@pytest.mark.parametrize(
    "text",
    [
        "DB_PASSWORD", "apiToken", "AWS_SECRET_ACCESS_KEY", "sas", "STORAGE_SAS", "api-key", "Pwd", "PRIVATE_KEY",
        "https://user:pw@host/path", "jdbc:x;password=y", "-----BEGIN RSA", "Authorization: x", "BASIC_AUTH",
    ],
)  # fmt: skip
def test_secrets_are_recognised(text):
    assert may_be_secret(text)


@pytest.mark.parametrize(
    "text",
    ["SOURCE_DIR", "AUTHOR", "SASSY", "PASSENGERS", "COMPASS", "KEY_COLUMN", "https://host/path", "a@example.com"],
)
def test_other_texts_are_no_secrets(text):
    assert not may_be_secret(text)


def test_parameters_are_redacted():
    parameters = {"TOKEN": "t", "A": {"password": "p"}, "B": [1], "C": None, "D": 5, "E": True}
    redacted = {"TOKEN": "***", "A": "***", "B": "[1]", "C": "", "D": 5, "E": True}
    assert SnapshotNames(anonymise=False).parameters(parameters) == redacted


def test_names_are_replaced_consistently():
    names = SnapshotNames(anonymise=True)
    assert [names.tag(tag) for tag in ("a/b", "a", "c/a")] == ["tag-1/tag-2", "tag-1", "tag-3/tag-1"]
    assert [names.label(label) for label in ("x", "all", "x")] == ["label-1", "all", "label-1"]
    assert names.parameters({"P": "v", "Q": "v", "R": ""}) == {
        "PARAMETER_1": "value-1",
        "PARAMETER_2": "value-1",
        "PARAMETER_3": "",
    }
    assert names.text("anything") == ""


def test_keys_are_unique():
    names = {"1": "A", "2": "A", "3": "A (2)", "4": "A", "5": "B"}
    assert unique_keys(names) == {"1": "A", "2": "A (3)", "3": "A (2)", "4": "A (4)", "5": "B"}


@pytest.mark.parametrize("seconds", [0, 0.5, 5, 119.75, 120, 7199.2, 100_000.3, 331_858.7, 10_000_000.9])
def test_durations_are_those_of_a_seed(seconds):
    # Within a second, a run ends and its error is acknowledged.
    assert parse_duration(duration(seconds)) / 1000 == pytest.approx(seconds, abs=0.05, rel=0)
    assert parse_duration(duration(-1)) == 0


def test_behaviour_has_median_length_and_counts():
    lengths = {3: 10_802, 2: 7202, 1: 5}
    runs = [run_of(number, ago=20_000, length=length) for number, length in lengths.items()]
    history = history_of(*runs, counts={3: (900, 450, 9), 2: (7200, 3600, 0), 1: (10, 10, 0)})
    assert history.typical_behaviour() == {"kind": "batch", "records": 900, "rate": 0.125, "output_share": 0.5}


def test_short_run_keeps_its_length():
    history = history_of(run_of(1, ago=60, length=2), counts={1: (100, 99, 1)})
    assert history.typical_behaviour() == {
        "kind": "batch",
        "records": 100,
        "rate": 100,
        "error_share": 0.01,
        "activation": "500ms",
        "deactivation": "500ms",
    }


def test_run_without_records_keeps_its_length():
    runs = [run_of(1, ago=600, length=102)]
    expected = {"kind": "batch", "records": 100, "rate": 1}
    assert history_of(*runs).typical_behaviour() == expected
    assert history_of(*runs, saves_metrics=False).typical_behaviour() == {**expected, "saves_metrics": False}
    assert history_of(*runs, counts={1: (0, 0, 0)}).typical_behaviour() == {"kind": "batch", "records": 1, "rate": 0.01}


def test_stopped_runs_are_those_of_a_stream():
    runs = [run_of(3, ago=101), run_of(2, ago=500, length=101), run_of(1, ago=900, length=301)]
    history = history_of(*runs, counts={3: (200, 200, 0), 2: (100, 100, 0), 1: (900, 900, 0)}, stopped=True)
    assert history.typical_behaviour() == {"kind": "streaming", "rate": 2}
    assert history.past({}, str) == [
        {"started": "15m", "stopped": "10m"},
        {"started": "8.3333m", "stopped": "6.6667m"},
        {"started": "101s"},
    ]


def test_active_batch_run_is_left_out():
    history = history_of(run_of(2, ago=5, pipeline_version="1"), run_of(1, ago=60, length=12, pipeline_version="4"))
    assert history.past({"1": 1, "4": 4}, str) == [{"started": "60s", "version": 4}]


def test_failed_runs_are_acknowledged():
    error = "Data Collector 'x' reported pipeline in status 'RUN_ERROR': JDBC_1 - Not\nfound"
    failed = run_of(2, ago=100, length=12, status="INACTIVE_ERROR", color="RED", error_message=error)
    at_start = run_of(1, ago=300, length=2, color="RED", error_message="START_ERROR: no such folder")
    history = history_of(failed, at_start, counts={2: (100, 100, 0)})
    assert history.typical_behaviour() is None
    first, second = history.past({}, lambda text: text or "")
    assert first["behaviour"]["fails_at_start"] == "no such folder"
    assert second == {
        "started": "100s",
        "acknowledged": "87s",
        "behaviour": {
            "kind": "batch",
            "records": 100,
            "rate": 10,
            "fails_after": 100,
            "error": "JDBC_1 - Not found",
        },
    }


def test_acknowledged_run_is_a_failure():
    history = history_of(run_of(1, ago=100, length=12, error_message="RUN_ERROR: x"))
    assert history.typical_behaviour() is None
    assert "fails_after" in history.past({}, str)[0]["behaviour"]


def test_default_length_is_that_of_the_default_behaviour():
    assert DEFAULT_BEHAVIOUR["records"] / DEFAULT_BEHAVIOUR["rate"] + 2 == DEFAULT_SECONDS


def test_header_names_source():
    text = dump_snapshot({"jobs": []}, source="'Example org' at https://hub.example.com")
    assert text.startswith("# Snapshot of 'Example org' at https://hub.example.com, 2")
    assert dump_snapshot({"jobs": []}).startswith("# Snapshot of an organization, anonymised, 2")
    assert yaml.safe_load(text) == {"jobs": []}
