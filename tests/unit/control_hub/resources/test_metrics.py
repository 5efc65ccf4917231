from __future__ import annotations

import pendulum
import pytest

from airflow_provider_streamsets.control_hub import ControlHubError, ControlHubUnexpectedResponseError, JobRun
from tests.unit.fakes.api_payloads import (
    COUNTS,
    CURRENT,
    JOB,
    JOB_ID,
    REGISTRY,
    T0,
    counts_json,
    job_json,
    payload,
    run_json,
    succeeded,
)


def run(number, started=T0):
    return JobRun("run", JOB_ID, number, "ACTIVE", "GREEN", start_time=pendulum.from_timestamp(started / 1000))


def test_record_counts_are_read(http, client):
    http.get(COUNTS, json={"0": counts_json(), "1": counts_json(2, inputCount=7, errorCount=1, stageErrorsCount=1)})
    metrics = client.metrics.of_run(JOB_ID, 2, latest=run(3))
    assert metrics.to_dict() == {
        "run_count": 2,
        "input_count": 7,
        "output_count": 90,
        "error_count": 1,
        "stage_errors_count": 1,
        "total_error_count": 2,
        "last_updated": metrics.last_updated.to_iso8601_string(),
        "pipeline_version": None,
        "input_per_second": 1.5,
        "output_per_second": 0.0,
        "error_per_second": 0.0,
        "stage_errors_per_second": 0.0,
    }
    assert metrics.last_updated.timestamp() * 1000 == T0 + 24 * 3_600_000


def test_runs_are_sorted_newest_first(http, client):
    entries = {"0": counts_json(), "1": counts_json(2), "2": counts_json(4), "3": counts_json(3)}
    http.get(COUNTS, json=entries)
    assert [m.run_count for m in client.metrics.all_runs(JOB_ID, latest=run(5))] == [5, 4, 3, 2]


def test_newest_entry_is_numbered_after_others(http, client):
    http.get(COUNTS, json={"0": counts_json(inputCount=9960), "1": counts_json(2), "2": counts_json(1)})
    assert client.metrics.of_run(JOB_ID, 3, latest=run(3)).input_count == 9960


@pytest.mark.parametrize("run_count", [None, 0])
def test_newest_entry_may_lack_number(http, client, run_count):
    http.get(COUNTS, json={"0": {**counts_json(), "runCount": run_count}, "1": counts_json(1)})
    assert client.metrics.of_run(JOB_ID, 2, latest=run(2)).run_count == 2


def test_single_entry_belongs_to_run_1(http, client):
    http.get(COUNTS, json={"0": counts_json()})
    assert [m.run_count for m in client.metrics.all_runs(JOB_ID, latest=run(1))] == [1]


def test_newest_entry_does_not_replace_numbered_one(http, client):
    http.get(COUNTS, json={"0": counts_json(inputCount=1), "1": counts_json(2), "2": counts_json(1)})
    metrics = client.metrics.all_runs(JOB_ID, latest=run(2))
    assert [(m.run_count, m.input_count) for m in metrics] == [(2, 100), (1, 100)]


HOUR = 3_600_000


@pytest.mark.parametrize("earlier", [(), (1,), (2, 1)], ids=["purged", "one missing", "next one missing"])
def test_newest_entry_is_assigned_by_save_time(http, client, earlier):
    entries = [counts_json(number, lastUpdatedOn=T0 + number * HOUR) for number in earlier]
    http.get(COUNTS, json=dict(enumerate([counts_json(lastUpdatedOn=T0 + 4 * HOUR + 1), *entries])))
    latest = run(4, started=T0 + 4 * HOUR)
    assert [m.run_count for m in client.metrics.all_runs(JOB_ID, latest=latest)] == [4, *earlier]
    assert client.metrics.of_run(JOB_ID, 4, latest=latest).input_count == 100
    assert http.call_count == 2


@pytest.mark.parametrize(
    ("saved", "owner"),
    [(1, None), (2 * HOUR + 1, 2), (4 * HOUR, 4), (5 * HOUR, 4)],
    ids=["before both", "in the earlier run or in one between", "as the latest began", "in the latest run"],
)
def test_derived_number_applies_only_to_unknown_runs(http, client, saved, owner):
    http.get(COUNTS, json={"0": counts_json(lastUpdatedOn=T0 + saved), "1": counts_json(1)})
    metrics = client.metrics.all_runs(JOB_ID, latest=run(4, T0 + 4 * HOUR), run=run(2, T0 + 2 * HOUR))
    assert [m.run_count for m in metrics] == ([1] if owner is None else [owner, 1])


def test_entry_saved_before_latest_run_is_previous(http, client):
    http.get(COUNTS, json={"0": counts_json(lastUpdatedOn=T0 + 4 * HOUR + 1), "1": counts_json(2)})
    known = {"latest": run(5, T0 + 5 * HOUR), "run": run(4, T0 + 4 * HOUR)}
    assert client.metrics.of_run(JOB_ID, 4, **known).run_count == 4
    assert client.metrics.of_run(JOB_ID, 5, **known) is None


@pytest.mark.parametrize("latest", [3, 4])
def test_without_times_derived_number_must_match(http, client, latest):
    http.get(COUNTS, json={"0": counts_json(lastUpdatedOn=0), "1": counts_json(2)})
    assert [m.run_count for m in client.metrics.all_runs(JOB_ID, latest=run(latest))] == [3, 2][latest - 3 :]


def test_save_time_is_checked_against_newer_run(http, client):
    ended = JobRun.from_wire(succeeded(4))
    http.get(COUNTS, json={"0": counts_json(lastUpdatedOn=T0 + 4 * HOUR + 1), "1": counts_json(2)})
    http.get(CURRENT, json=run_json(5))
    assert client.metrics.of_run(JOB_ID, 4, latest=ended) is None
    http.get(CURRENT, json=succeeded(4))
    assert client.metrics.of_run(JOB_ID, 4, latest=ended).run_count == 4


def test_missing_entry_falls_back_to_status(http, client):
    counts = {"inputRecordCount": 9, "outputRecordCount": 8, "errorRecordCount": 1, "lastReportedMetricTime": T0}
    http.get(COUNTS, json={"1": counts_json(2), "2": counts_json(1)})
    metrics = client.metrics.of_run(JOB_ID, 3, latest=JobRun.from_wire(run_json(3, **counts)))
    assert (metrics.run_count, metrics.input_count, metrics.output_count, metrics.error_count) == (3, 9, 8, 1)
    assert (metrics.stage_errors_count, metrics.total_error_count, metrics.output_per_second) == (None, None, None)
    assert metrics.last_updated.timestamp() * 1000 == T0
    assert client.metrics.of_run(JOB_ID, 3, latest=JobRun.from_wire(run_json(3))) is None
    assert client.metrics.of_run(JOB_ID, 2, latest=JobRun.from_wire(run_json(3, **counts))).input_count == 100


def counters(**counts):
    return {"counters": {f"pipeline.batch{name}.counter": {"count": count} for name, count in counts.items()}}


def test_counts_are_read_from_counters(http, client):
    counts = {"InputRecords": 9, "OutputRecords": 8, "ErrorRecords": 1}
    meters = {"pipeline.batchOutputRecords.meter": {"count": 8, "m1_rate": 2.5}}
    http.get(REGISTRY, json={**counters(**counts, ErrorMessages=2), "meters": meters})
    assert client.metrics.counted(JOB_ID, 3).counts() == {
        "run_count": 3,
        "input_count": 9,
        "output_count": 8,
        "error_count": 1,
        "stage_errors_count": 2,
        "total_error_count": 3,
    }
    assert client.metrics.counted(JOB_ID, 3).output_per_second == 2.5
    http.get(REGISTRY, json=counters(**counts))
    assert client.metrics.counted(JOB_ID, 3).total_error_count is None
    http.get(REGISTRY, json=counters(InputRecords=9))
    assert client.metrics.counted(JOB_ID, 3) is None
    http.get(REGISTRY, status_code=404)
    assert client.metrics.counted(JOB_ID, 3) is None


def test_several_unnumbered_entries_are_ignored(http, client):
    http.get(COUNTS, json={"0": counts_json(), "1": counts_json(), "2": counts_json(1)})
    assert [m.run_count for m in client.metrics.all_runs(JOB_ID, latest=run(2))] == [1]


def test_latest_run_is_loaded_if_needed(http, client):
    http.get(COUNTS, json={"0": counts_json(), "1": counts_json(1)})
    http.get(CURRENT, json=run_json(2))
    assert [m.run_count for m in client.metrics.all_runs(JOB_ID)] == [2, 1]
    assert http.call_count == 2


def test_latest_run_is_not_loaded_without_need(http, client):
    http.get(COUNTS, json={"0": counts_json(2), "1": counts_json(1)})
    assert [m.run_count for m in client.metrics.all_runs(JOB_ID)] == [2, 1]
    assert http.call_count == 1


def test_never_run_job_has_no_counts(http, client):
    http.get(COUNTS, json={"0": counts_json()})
    http.get(CURRENT, content=b"")
    http.get(JOB, json=job_json())
    assert client.metrics.all_runs(JOB_ID) == []


def test_job_may_have_no_counts(http, client):
    http.get(COUNTS, json={})
    assert client.metrics.all_runs(JOB_ID) == []
    assert client.metrics.of_run(JOB_ID, 1) is None


@pytest.mark.parametrize(
    "answer", [[], "x", {"0": None}, {"0": []}, {"0": {"runCount": 1, "inputCount": "5"}}, {"0": {"inputCount": 1.5}}]
)
def test_invalid_counts_raise(http, client, answer):
    http.get(COUNTS, json=answer)
    with pytest.raises(ControlHubUnexpectedResponseError):
        client.metrics.all_runs(JOB_ID, latest=run(1))


def test_missing_counts_are_zero(http, client):
    http.get(COUNTS, json={"0": {"runCount": 1, "inputCount": None, "lastUpdatedOn": 0}})
    (metrics,) = client.metrics.all_runs(JOB_ID)
    assert (metrics.input_count, metrics.total_error_count, metrics.last_updated) == (0, 0, None)


def test_example_counts_are_parsed(http, client):
    http.get(COUNTS, json=payload("record-counts-three-runs"))
    http.get(CURRENT, json=succeeded(3))
    metrics = client.metrics.all_runs(JOB_ID)
    assert [(m.run_count, m.input_count, m.total_error_count) for m in metrics] == [
        (3, 9960, 10),
        (2, 24740, 0),
        (1, 792, 0),
    ]


def test_failing_metrics_service_raises(http, kill_client):
    http.get(COUNTS, status_code=500)
    with pytest.raises(ControlHubError, match="read the record counts"):
        kill_client.metrics.all_runs(JOB_ID)


def test_last_run_reads_latest_counts(http, client):
    http.get(CURRENT, json=succeeded(3))
    http.get(COUNTS, json={"0": counts_json(), "1": counts_json(2), "2": counts_json(1)})
    assert client.metrics.last_run(JOB_ID).run_count == 3
    assert http.call_count == 2


def test_last_run_may_have_no_counts(http, client):
    http.get(CURRENT, [{"json": run_json(4)}, {"content": b""}])
    http.get(JOB, json=job_json())
    http.get(COUNTS, json={"0": counts_json(lastUpdatedOn=T0), "1": counts_json(2), "2": counts_json(1)})
    assert client.metrics.last_run(JOB_ID) is None
    assert client.metrics.last_run(JOB_ID) is None
    assert http.call_count == 4


def test_stale_newest_entry_is_not_latest_run(http, client):
    """While the latest run has saved nothing, the newest entry can repeat the run before, which is listed, too."""
    stale = counts_json(lastUpdatedOn=T0)
    http.get(COUNTS, json={"0": stale, "1": counts_json(4, lastUpdatedOn=T0)})
    assert client.metrics.of_run(JOB_ID, 5, latest=run(5, started=T0 + 60_000)) is None
    http.get(COUNTS, json={"0": {**stale, "lastUpdatedOn": T0 + 60_000}, "1": counts_json(4)})
    assert client.metrics.of_run(JOB_ID, 5, latest=run(5, started=T0 + 60_000)).run_count == 5
