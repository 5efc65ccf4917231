"""Registries of metrics agree with the record counts, and with each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_streamsets.sandbox.runs import Counts
from tests.unit.sandbox_hub import JR, SEED, T0, Hub

TS = "/timeseries/rest/v1"
ORDERS, LOGS = "Orders to warehouse", "Web logs to lake"


@pytest.fixture
def hub() -> Hub:
    return Hub()


def saved(hub: Hub, name: str, **query: Any) -> Any:
    return hub.get(f"{JR}/metrics/job/{hub.id(name)}", **query)


def live(hub: Hub, name: str, index: int = 0) -> Any:
    pipeline = hub.status(name)["pipelineStatus"][index]
    instance = hub.get(f"/tunneling/rest/connection/{pipeline['sdcId']}")["instanceId"]
    path = f"/tunneling/rest/{pipeline['sdcId']}/rest/v1/pipeline/{pipeline['name']}/metrics"
    return hub.http.get(path, params={"TUNNELING_INSTANCE_ID": instance})


def counts(registry: Any) -> dict[str, int]:
    return {name.removesuffix(".counter"): value["count"] for name, value in registry["counters"].items()}


def test_the_registry_agrees_with_the_record_counts_of_its_run(hub):
    hub.do(ORDERS, "start")
    hub.clock.advance(60)
    by_run = {entry.get("runCount", 4): entry for entry in hub.counts(ORDERS).values()}
    for run_count, entry in by_run.items():
        registry = saved(hub, ORDERS, runCount=run_count)
        found = counts(registry)
        assert found["pipeline.batchInputRecords"] == found["stage.Directory_01.outputRecords"] == entry["inputCount"]
        assert found["pipeline.batchOutputRecords"] == found["stage.JDBCProducer_01.outputRecords"]
        assert found["stage.JDBCProducer_01.inputRecords"] == entry["inputCount"]
        assert found["pipeline.batchOutputRecords"] == entry["outputCount"]
        assert found["pipeline.batchErrorRecords"] == found["stage.JDBCProducer_01.errorRecords"] == entry["errorCount"]
        assert found["pipeline.batchErrorMessages"] == entry["stageErrorsCount"]
        assert found["stage.Directory_01:Directory_01OutputLane1.outputRecords"] == entry["inputCount"]
        assert {name.removesuffix(".meter") for name in registry["meters"]} == set(found)
        assert all(registry["meters"][f"{name}.meter"]["count"] == count for name, count in found.items())
        assert registry["meters"]["pipeline.batchInputRecords.meter"]["m1_rate"] == entry["inputM1Rate"]


@pytest.mark.parametrize("run_count", ["", "0", None])
def test_no_run_count_means_the_latest_run(hub, run_count):
    query = {} if run_count is None else {"runCount": run_count}
    assert saved(hub, ORDERS, **query) == saved(hub, ORDERS, runCount=3)
    assert saved(hub, ORDERS, runCount=3) == hub.get(f"{TS}/metrics/job/{hub.id(ORDERS)}/latestMetrics")


def test_where_nothing_was_saved_there_are_no_metrics_in_either_form(hub):
    for name, query in (("Quick check", {}), (ORDERS, {"runCount": 9}), (ORDERS, {"sdcId": "none"})):
        assert hub.http.get(f"{JR}/metrics/job/{hub.id(name)}", params=query).status_code == 404
        assert saved(Hub(no_metrics="empty"), name, **query)["counters"] == {}
    assert hub.get(f"{TS}/metrics/job/{hub.id('Quick check')}/latestMetrics")["counters"] == {}


def test_rates_tell_the_last_minute_from_the_whole_run(hub):
    meter = live(hub, LOGS).json()["meters"]["pipeline.batchInputRecords.meter"]
    assert meter["m1_rate"] == pytest.approx(220)
    assert meter["mean_rate"] == pytest.approx(220)
    hub.do("Sensors archive", "start")
    # It reads 2000 a second, but for the five seconds of ten that its engine is lost.
    hub.clock.advance(11)
    meter = live(hub, "Sensors archive").json()["meters"]["pipeline.batchInputRecords.meter"]
    assert (meter["count"], meter["mean_rate"]) == (10_000, pytest.approx(1000))


def test_the_live_gauge_is_complete(hub):
    gauge = live(hub, "Truck positions north").json()["gauges"]["RuntimeStatsGauge.gauge"]["value"]
    assert gauge == {
        "batchCount": 432,
        "idleBatchCount": 0,
        "timeOfLastReceivedRecord": T0,
        "lastBatchInputRecordsCount": 999,
        "lastBatchOutputRecordsCount": 999,
        "lastBatchErrorRecordsCount": 0,
        "lastBatchErrorMessagesCount": 0,
        "totalRunners": 1,
        "availableRunners": 1,
    }
    assert saved(hub, "Truck positions north")["gauges"] == {}


def test_a_pipeline_between_two_engines_has_no_live_metrics(hub):
    hub.do("Truck positions north", "balance")
    assert live(hub, "Truck positions north").status_code == 204
    hub.clock.advance(1)
    assert live(hub, "Truck positions north").json()["meters"]


def test_the_instances_of_a_job_have_their_own_metrics_which_add_up():
    jobs = tuple(replace(job, instances=-1) for job in SEED.jobs)
    hub = Hub(replace(SEED, jobs=jobs))
    hub.do("Clickstream to lake", "start")
    hub.do("Quick check", "start", {"RATE": "33.3"})
    hub.clock.advance(1.7)
    name = "pipeline.batchInputRecords"
    parts = [counts(live(hub, "Quick check", index).json())[name] for index in (0, 1)]
    assert parts[0] > 0
    hub.clock.advance(10)
    whole = counts(saved(hub, "Quick check"))
    engines = hub.status("Quick check")["sdcIds"]
    parts = [counts(saved(hub, "Quick check", sdcId=engine))[name] for engine in engines]
    assert sum(parts) == whole[name] == 200


@pytest.mark.parametrize("instances", [1, 2, 3, 7])
def test_shares_add_up_to_the_whole(instances):
    whole = Counts(at=T0, input=100, error=5, stage_errors=1)
    shares = [whole.share(instance, instances) for instance in range(instances)]
    for field in ("input", "output", "error", "stage_errors"):
        assert sum(getattr(share, field) for share in shares) == getattr(whole, field)


def test_a_run_shown_without_counts_shows_zeros():
    hub = Hub(counts_of_latest="zeros")
    hub.do("Quick check", "start")
    hub.clock.advance(2)
    entry = hub.counts("Quick check")["0"]
    assert (entry["inputCount"], entry["inputM1Rate"]) == (0, 0)
    assert entry["lastUpdatedOn"] == T0 + 1100
