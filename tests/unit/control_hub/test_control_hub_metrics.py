from __future__ import annotations

import pendulum
import pytest

from airflow_provider_streamsets.control_hub import ControlHubError, ControlHubUnexpectedAnswerError, JobRun
from tests.unit.control_hub.wire_examples import (
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


def test_the_record_counts_of_a_run_are_read(http, client):
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


def test_all_runs_are_given_newest_first_whatever_their_keys(http, client):
    entries = {"0": counts_json(), "1": counts_json(2), "2": counts_json(4), "3": counts_json(3)}
    http.get(COUNTS, json=entries)
    assert [m.run_count for m in client.metrics.all_runs(JOB_ID, latest=run(5))] == [5, 4, 3, 2]


def test_the_newest_entry_is_numbered_after_the_others(http, client):
    http.get(COUNTS, json={"0": counts_json(inputCount=9960), "1": counts_json(2), "2": counts_json(1)})
    assert client.metrics.of_run(JOB_ID, 3, latest=run(3)).input_count == 9960


@pytest.mark.parametrize("run_count", [None, 0])
def test_the_newest_entry_may_say_null_or_0_for_its_number(http, client, run_count):
    http.get(COUNTS, json={"0": {**counts_json(), "runCount": run_count}, "1": counts_json(1)})
    assert client.metrics.of_run(JOB_ID, 2, latest=run(2)).run_count == 2


def test_an_entry_that_stands_alone_is_that_of_run_1(http, client):
    http.get(COUNTS, json={"0": counts_json()})
    assert [m.run_count for m in client.metrics.all_runs(JOB_ID, latest=run(1))] == [1]


def test_newest_entry_does_not_replace_a_numbered_one(http, client):
    http.get(COUNTS, json={"0": counts_json(inputCount=1), "1": counts_json(2), "2": counts_json(1)})
    metrics = client.metrics.all_runs(JOB_ID, latest=run(2))
    assert [(m.run_count, m.input_count) for m in metrics] == [(2, 100), (1, 100)]


HOUR = 3_600_000


@pytest.mark.parametrize("earlier", [(), (1,), (2, 1)], ids=["purged", "one missing", "next one missing"])
def test_newest_entry_belongs_to_the_run_in_which_it_was_saved_whatever_is_missing(http, client, earlier):
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
def test_derived_number_decides_only_between_runs_that_are_not_known(http, client, saved, owner):
    http.get(COUNTS, json={"0": counts_json(lastUpdatedOn=T0 + saved), "1": counts_json(1)})
    metrics = client.metrics.all_runs(JOB_ID, latest=run(4, T0 + 4 * HOUR), run=run(2, T0 + 2 * HOUR))
    assert [m.run_count for m in metrics] == ([1] if owner is None else [owner, 1])


def test_entry_that_was_saved_before_the_latest_run_began_is_that_of_the_run_before(http, client):
    http.get(COUNTS, json={"0": counts_json(lastUpdatedOn=T0 + 4 * HOUR + 1), "1": counts_json(2)})
    known = {"latest": run(5, T0 + 5 * HOUR), "run": run(4, T0 + 4 * HOUR)}
    assert client.metrics.of_run(JOB_ID, 4, **known).run_count == 4
    assert client.metrics.of_run(JOB_ID, 5, **known) is None


@pytest.mark.parametrize("latest", [3, 4])
def test_without_times_the_derived_number_must_be_that_of_a_known_run(http, client, latest):
    http.get(COUNTS, json={"0": counts_json(lastUpdatedOn=0), "1": counts_json(2)})
    assert [m.run_count for m in client.metrics.all_runs(JOB_ID, latest=run(latest))] == [3, 2][latest - 3 :]


def test_time_alone_is_not_trusted_where_the_ended_run_may_have_been_followed_by_another(http, client):
    ended = JobRun.from_wire(succeeded(4))
    http.get(COUNTS, json={"0": counts_json(lastUpdatedOn=T0 + 4 * HOUR + 1), "1": counts_json(2)})
    http.get(CURRENT, json=run_json(5))
    assert client.metrics.of_run(JOB_ID, 4, latest=ended) is None
    http.get(CURRENT, json=succeeded(4))
    assert client.metrics.of_run(JOB_ID, 4, latest=ended).run_count == 4


def test_without_an_entry_the_counts_of_the_status_are_given(http, client):
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


def test_counts_of_a_run_can_be_read_from_its_counters(http, client):
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


def test_several_entries_without_a_number_are_not_guessed_at(http, client):
    http.get(COUNTS, json={"0": counts_json(), "1": counts_json(), "2": counts_json(1)})
    assert [m.run_count for m in client.metrics.all_runs(JOB_ID, latest=run(2))] == [1]


def test_the_latest_run_is_read_when_it_is_needed_and_not_given(http, client):
    http.get(COUNTS, json={"0": counts_json(), "1": counts_json(1)})
    http.get(CURRENT, json=run_json(2))
    assert [m.run_count for m in client.metrics.all_runs(JOB_ID)] == [2, 1]
    assert http.call_count == 2


def test_the_latest_run_is_not_read_when_every_entry_says_its_number(http, client):
    http.get(COUNTS, json={"0": counts_json(2), "1": counts_json(1)})
    assert [m.run_count for m in client.metrics.all_runs(JOB_ID)] == [2, 1]
    assert http.call_count == 1


def test_counts_of_a_job_that_has_never_run_belong_to_no_run(http, client):
    http.get(COUNTS, json={"0": counts_json()})
    http.get(CURRENT, content=b"")
    http.get(JOB, json=job_json())
    assert client.metrics.all_runs(JOB_ID) == []


def test_a_job_may_have_no_counts(http, client):
    http.get(COUNTS, json={})
    assert client.metrics.all_runs(JOB_ID) == []
    assert client.metrics.of_run(JOB_ID, 1) is None


@pytest.mark.parametrize(
    "answer", [[], "x", {"0": None}, {"0": []}, {"0": {"runCount": 1, "inputCount": "5"}}, {"0": {"inputCount": 1.5}}]
)
def test_counts_that_are_none_are_an_unexpected_answer(http, client, answer):
    http.get(COUNTS, json=answer)
    with pytest.raises(ControlHubUnexpectedAnswerError):
        client.metrics.all_runs(JOB_ID, latest=run(1))


def test_counts_that_are_missing_in_an_entry_are_0(http, client):
    http.get(COUNTS, json={"0": {"runCount": 1, "inputCount": None, "lastUpdatedOn": 0}})
    (metrics,) = client.metrics.all_runs(JOB_ID)
    assert (metrics.input_count, metrics.total_error_count, metrics.last_updated) == (0, 0, None)


def test_the_example_counts_are_read(http, client):
    http.get(COUNTS, json=payload("record-counts-three-runs"))
    http.get(CURRENT, json=succeeded(3))
    metrics = client.metrics.all_runs(JOB_ID)
    assert [(m.run_count, m.input_count, m.total_error_count) for m in metrics] == [
        (3, 9960, 10),
        (2, 24740, 0),
        (1, 792, 0),
    ]


def test_a_metrics_service_that_fails_is_an_error_for_who_asks_it(http, kill_client):
    http.get(COUNTS, status_code=500)
    with pytest.raises(ControlHubError, match="read the record counts"):
        kill_client.metrics.all_runs(JOB_ID)


def test_the_counts_of_the_latest_run_are_read_with_its_number(http, client):
    http.get(CURRENT, json=succeeded(3))
    http.get(COUNTS, json={"0": counts_json(), "1": counts_json(2), "2": counts_json(1)})
    assert client.metrics.last_run(JOB_ID).run_count == 3
    assert http.call_count == 2


def test_the_latest_run_may_have_no_counts_yet_and_a_job_no_run(http, client):
    http.get(CURRENT, [{"json": run_json(4)}, {"content": b""}])
    http.get(JOB, json=job_json())
    http.get(COUNTS, json={"0": counts_json(lastUpdatedOn=T0), "1": counts_json(2), "2": counts_json(1)})
    assert client.metrics.last_run(JOB_ID) is None
    assert client.metrics.last_run(JOB_ID) is None
    assert http.call_count == 4


def test_counts_that_were_saved_before_the_latest_run_began_are_not_its_own(http, client):
    """While the latest run has saved nothing, the newest entry can repeat the run before, which is listed, too."""
    stale = counts_json(lastUpdatedOn=T0)
    http.get(COUNTS, json={"0": stale, "1": counts_json(4, lastUpdatedOn=T0)})
    assert client.metrics.of_run(JOB_ID, 5, latest=run(5, started=T0 + 60_000)) is None
    http.get(COUNTS, json={"0": {**stale, "lastUpdatedOn": T0 + 60_000}, "1": counts_json(4)})
    assert client.metrics.of_run(JOB_ID, 5, latest=run(5, started=T0 + 60_000)).run_count == 5
