"""Time series of record counts."""

from __future__ import annotations

import calendar
import itertools
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.fakes.sandbox_app import SEED, T0, Hub

METRICS = "/timeseries/rest/v1/metrics"
LOGS = "Web logs to lake"
INPUT, OUTPUT, ERRORS = (f"PIPELINE_BATCH_{what}_RECORDS_METER" for what in ("INPUT", "OUTPUT", "ERROR"))
DAY = 86_400_000


def hub_with_time_series() -> Hub:
    """Return a sandbox in which all jobs have time series."""
    return Hub(replace(SEED, jobs=tuple(replace(job, time_series=True) for job in SEED.jobs)))


def query(hub: Hub, name: str, measurement: str = INPUT, column: str = "count", **others: Any) -> Any:
    return {
        "columns": [column],
        "jobId": hub.id(name),
        "measurement": measurement,
        "pipelineVersion": None,
        "sdcId": None,
        **others,
    }


def query_results(hub: Hub, *queries: Any, **parameters: Any) -> Any:
    response = hub.http.post(f"{METRICS}/query", json=queries, params=parameters)
    assert response.status_code == 200, response.text
    return response.json()


def points(hub: Hub, name: str, measurement: str = INPUT, column: str = "count", **parameters: Any) -> list[list[Any]]:
    (found,) = query_results(hub, query(hub, name, measurement, column), **parameters)
    assert found["error"] is None
    return in_milliseconds(found)


def in_milliseconds(result: Any) -> list[list[Any]]:
    """Return the points of a result with their times in epoch milliseconds."""
    return [[milliseconds(text), value] for series in result["series"] for text, value in series["values"]]


def milliseconds(text: str) -> int:
    assert text.endswith("Z")
    seconds, _, fraction = text[:-1].partition(".")
    return calendar.timegm(time.strptime(seconds, "%Y-%m-%dT%H:%M:%S")) * 1000 + int(fraction.ljust(3, "0"))


def test_times_have_no_trailing_zeros():
    hub = hub_with_time_series()
    hub.do("Quick check", "start")
    hub.clock.advance(10)
    (found,) = query_results(hub, query(hub, "Quick check"))
    assert found["series"][0]["values"] == [["2026-01-01T09:50:02.8Z", 100.0]]


def test_series_has_point_per_save(hub):
    (found,) = query_results(hub, query(hub, LOGS))
    (series,) = found["series"]
    assert (series["name"], series["columns"]) == ("pipeline_batchInputRecords_meter", ["time", "count"])
    points = in_milliseconds(found)
    times = [time for time, _ in points]
    assert len(times) == 60
    assert {later - earlier for earlier, later in itertools.pairwise(times)} == {5000}
    assert T0 - 300_000 <= times[0] < times[-1] <= T0
    assert all(count == 220 * (time - (T0 - 7_199_000)) // 1000 for time, count in points)


def test_series_matches_record_counts(hub):
    entry = hub.counts(LOGS)["0"]
    assert points(hub, LOGS)[-1] == [entry["lastUpdatedOn"], entry["inputCount"]]
    assert points(hub, LOGS, OUTPUT)[-1] == [entry["lastUpdatedOn"], entry["outputCount"]]
    assert points(hub, LOGS, INPUT, "m1_rate")[-1] == [entry["lastUpdatedOn"], pytest.approx(220)]


def test_job_without_time_series_has_none(hub):
    assert query_results(hub, query(hub, "Truck positions north")) == [{"series": [], "error": None}]
    assert query_results(hub) == []


def test_series_of_finished_run_ends_with_final_counts():
    hub = hub_with_time_series()
    assert points(hub, "Quick check") == []
    hub.do("Quick check", "start")
    hub.clock.advance(10)
    entry = hub.counts("Quick check")["0"]
    assert points(hub, "Quick check") == [[entry["lastUpdatedOn"], 100]]
    hub.clock.advance(600)
    assert points(hub, "Quick check") == []
    assert points(hub, "Quick check", timeFilterCondition="LAST_1H") == [[entry["lastUpdatedOn"], 100]]


def test_series_includes_all_runs_of_version(hub):
    assert {count for _, count in points(hub, LOGS, timeFilterCondition="LAST_6D")}
    for version, expected in (("1", False), ("2", True), ("9", False)):
        (found,) = query_results(hub, query(hub, LOGS, pipelineVersion=version), timeFilterCondition="LAST_6H")
        assert bool(found["series"]) is expected


def test_limit_thins_out_points(hub):
    for limit in (1, 7, 1000):
        times = [time for time, _ in points(hub, LOGS, timeFilterCondition="LAST_1H", limit=limit)]
        assert 0 < len(times) <= limit
        assert times[-1] == hub.counts(LOGS)["0"]["lastUpdatedOn"]
    times = [time for time, _ in points(hub, LOGS, timeFilterCondition="LAST_1H", limit=7)]
    assert times[-1] - times[0] > 2_500_000
    assert len(points(hub, LOGS, timeFilterCondition="LAST_60D")) <= 1000


def test_no_points_while_engine_is_lost():
    hub = hub_with_time_series()
    hub.do("Sensors archive", "start")
    hub.clock.advance(120)
    run = hub.backend.job(hub.id("Sensors archive")).latest
    lost = range(T0 + 4001, T0 + 9000)
    times = [time for time, _ in points(hub, "Sensors archive")]
    assert run is not None
    assert times
    assert not set(times) & set(lost)


def test_instances_have_separate_series():
    jobs = tuple(replace(job, time_series=True, instances=-1, failover=True) for job in SEED.jobs)
    hub = Hub(replace(SEED, jobs=jobs))
    total = points(hub, "Truck positions north")[-1][1]
    engines = hub.status("Truck positions north")["sdcIds"]
    found = query_results(hub, *(query(hub, "Truck positions north", sdcId=engine) for engine in engines))
    assert sum(entry["series"][0]["values"][-1][1] for entry in found) == total
    assert query_results(hub, query(hub, "Truck positions north", sdcId="none"))[0]["series"] == []


def test_record_count_and_throughput_return_three_series(hub):
    for path, column in (("recordCount", "count"), ("recordThroughput", "m1_rate")):
        found = hub.get(f"{METRICS}/job/{hub.id(LOGS)}/{path}")
        assert [in_milliseconds(entry) for entry in found] == [
            points(hub, LOGS, measurement, column) for measurement in (INPUT, OUTPUT, ERRORS)
        ]


def test_custom_time_range_is_used(hub):
    path = f"{METRICS}/job/{hub.id(LOGS)}/recordCount"
    found = hub.get(path, startTime=T0 - 3_600_000, endTime=T0 - 3_500_000, limit="")
    times = [time for time, _ in in_milliseconds(found[0])]
    assert T0 - 3_600_000 <= times[0] < times[-1] <= T0 - 3_500_000
    assert hub.get(path, startTime=T0 + DAY)[0]["series"] == []


@pytest.mark.parametrize(
    "parameters", [{"timeFilterCondition": "SOMETIMES"}, {"limit": "0"}, {"limit": "x"}, {"startTime": "x"}]
)
def test_invalid_window_returns_400(hub, parameters):
    assert hub.http.post(f"{METRICS}/query", json=[], params=parameters).status_code == 400
    assert hub.http.get(f"{METRICS}/job/{hub.id(LOGS)}/recordCount", params=parameters).status_code == 400


@pytest.mark.parametrize("invalid", [{"columns": []}, {"columns": ["size"]}, {"columns": [[]]}, {"measurement": "X"}])
def test_invalid_series_query_is_rejected(hub, invalid):
    assert hub.http.post(f"{METRICS}/query", json=[{**query(hub, LOGS), **invalid}]).status_code == 400
    assert hub.http.post(f"{METRICS}/query", json={"a": 1}).status_code == 400
    assert hub.http.post(f"{METRICS}/query", json=[query(hub, LOGS, jobId="no:no")]).status_code == 404
