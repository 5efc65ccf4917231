"""Metrics of runs in all their forms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_streamsets.sandbox.backend.runs import Counts
from tests.unit.fakes.sandbox_app import JR, SEED, T0, Hub

TS = "/timeseries/rest/v1"
ORDERS, LOGS = "Orders to warehouse", "Web logs to lake"


def saved(hub: Hub, name: str, **query: Any) -> Any:
    return hub.get(f"{JR}/metrics/job/{hub.id(name)}", **query)


def live(hub: Hub, name: str, index: int = 0) -> Any:
    pipeline = hub.status(name)["pipelineStatus"][index]
    instance = hub.get(f"/tunneling/rest/connection/{pipeline['sdcId']}")["instanceId"]
    path = f"/tunneling/rest/{pipeline['sdcId']}/rest/v1/pipeline/{pipeline['name']}/metrics"
    return hub.http.get(path, params={"TUNNELING_INSTANCE_ID": instance})


def counts(registry: Any) -> dict[str, int]:
    return {name.removesuffix(".counter"): value["count"] for name, value in registry["counters"].items()}


def test_registry_matches_record_counts(hub):
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
def test_missing_run_count_selects_latest_run(hub, run_count):
    query = {} if run_count is None else {"runCount": run_count}
    assert saved(hub, ORDERS, **query) == saved(hub, ORDERS, runCount=3)
    assert saved(hub, ORDERS, runCount=3) == hub.get(f"{TS}/metrics/job/{hub.id(ORDERS)}/latestMetrics")


def test_variant_no_metrics(hub):
    for name, query in (("Quick check", {}), (ORDERS, {"runCount": 9}), (ORDERS, {"sdcId": "none"})):
        assert hub.http.get(f"{JR}/metrics/job/{hub.id(name)}", params=query).status_code == 404
        assert saved(Hub(no_metrics="empty"), name, **query)["counters"] == {}
    assert hub.get(f"{TS}/metrics/job/{hub.id('Quick check')}/latestMetrics")["counters"] == {}


def test_registry_is_final_before_record_counts():
    hub = Hub(metrics_lag=60)
    hub.do("Quick check", "start")
    hub.clock.advance(1)
    assert hub.http.get(f"{JR}/metrics/job/{hub.id('Quick check')}").status_code == 404
    hub.clock.advance(0.1)
    assert hub.status("Quick check")["status"] == "INACTIVE"
    assert counts(saved(hub, "Quick check"))["pipeline.batchInputRecords"] == 100
    assert (hub.status("Quick check")["inputRecordCount"], hub.counts("Quick check")) == (0, {})


def test_run_that_failed_at_start_has_no_metrics(hub):
    hub.do("Invoices import", "start")
    hub.clock.advance(60)
    assert hub.http.get(f"{JR}/metrics/job/{hub.id('Invoices import')}").status_code == 404


def test_purge_removes_latest_metrics_until_next_save(hub):
    purge, latest = f"{TS}/metrics/purgeLatestMetricsOfDeletedJobs", f"{TS}/metrics/job/{hub.id(LOGS)}/latestMetrics"
    orders = f"{TS}/metrics/job/{hub.id(ORDERS)}/latestMetrics"
    response = hub.http.post(purge, json=[hub.id(LOGS), "no:no"])
    assert (response.status_code, response.content) == (200, b"")
    assert hub.get(latest)["counters"] == {}
    assert hub.get(orders)["counters"] != {}
    assert hub.counts(LOGS)["0"]["inputCount"] > 0
    hub.clock.advance(5)
    assert hub.get(latest)["counters"] != {}
    assert hub.http.post(purge, json={}).status_code == 400


def test_metrics_of_deleted_job_remain_until_purge(hub):
    latest, job_id = f"{TS}/metrics/job/{hub.id(ORDERS)}/latestMetrics", hub.id(ORDERS)
    hub.http.delete(f"/jobrunner/rest/v2/job/{job_id}")
    assert hub.get(latest)["counters"] != {}
    hub.http.post(f"{TS}/metrics/purgeLatestMetricsOfDeletedJobs", json=[job_id])
    assert hub.get(latest)["counters"] == {}


def test_variant_counts_on_status():
    def counted(hub: Hub) -> list[int]:
        status = hub.status(LOGS)
        return [status[name] for name in ("inputRecordCount", "outputRecordCount", "lastReportedMetricTime")]

    assert all(counted(Hub(counts_on_status="saved")))
    hub = Hub(counts_on_status="never")
    assert counted(hub) == [0, 0, 0]
    query = {"columns": ["count"], "jobId": hub.id(LOGS), "measurement": "PIPELINE_BATCH_INPUT_RECORDS_METER"}
    (result,) = hub.http.post(f"{TS}/metrics/query", json=[query]).json()
    assert result["series"][0]["values"][-1][1] > 0
    assert hub.counts(LOGS)["0"]["inputCount"] > 0
    assert counts(saved(hub, LOGS))["pipeline.batchInputRecords"] > 0


def run_counts(hub: Hub, name: str) -> dict[str, int | None]:
    return {key: entry.get("runCount") for key, entry in hub.counts(name).items()}


def test_variant_counts_key_0():
    assert run_counts(Hub(counts_key_0="latest"), ORDERS) == {"0": None, "1": 2, "2": 1}
    hub = Hub(counts_key_0="missing")
    assert run_counts(hub, ORDERS) == {"1": 3, "2": 2, "3": 1}
    hub.do(ORDERS, "start")
    assert run_counts(hub, ORDERS) == {"1": 3, "2": 2, "3": 1}
    assert run_counts(hub, "Quick check") == {}


@pytest.mark.parametrize(
    ("variants", "keys"),
    [
        ({"counts_of_earlier": "zeros"}, {"0": None, "1": 4, "2": 3, "3": 2, "4": 1}),
        ({"counts_of_earlier": "omit"}, {"0": None, "1": 3, "2": 2, "3": 1}),
        ({"counts_of_earlier": "gap"}, {"0": None, "2": 3, "3": 2, "4": 1}),
        ({"counts_of_earlier": "gap", "counts_key_0": "missing"}, {"1": 5, "3": 3, "4": 2, "5": 1}),
    ],
)
def test_variant_counts_of_earlier(variants, keys):
    hub = Hub(**variants)
    # Run 4 fails the validation of its pipeline.
    for parameters in ({"RATE": "none"}, {"RATE": "40000"}):
        assert hub.do(ORDERS, "start", parameters).status_code == 200
        hub.clock.advance(60)
    assert run_counts(hub, ORDERS) == keys


def test_mean_rate_includes_loss_of_engine(hub):
    meter = live(hub, LOGS).json()["meters"]["pipeline.batchInputRecords.meter"]
    assert meter["m1_rate"] == pytest.approx(220)
    assert meter["mean_rate"] == pytest.approx(220)
    hub.do("Sensors archive", "start")
    # It reads 2000 records per second, except during the five of ten seconds in which its engine is lost.
    hub.clock.advance(11)
    meter = live(hub, "Sensors archive").json()["meters"]["pipeline.batchInputRecords.meter"]
    assert (meter["count"], meter["mean_rate"]) == (10_000, pytest.approx(1000))


def test_live_gauge_is_complete(hub):
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


def test_moving_pipeline_has_no_live_metrics(hub):
    hub.do("Truck positions north", "balance")
    assert live(hub, "Truck positions north").status_code == 204
    hub.clock.advance(1)
    assert live(hub, "Truck positions north").json()["meters"]


def test_metrics_of_instances_add_up_to_total():
    jobs = tuple(replace(job, instances=-1) for job in SEED.jobs)
    hub = Hub(replace(SEED, jobs=jobs))
    hub.do("Clickstream to lake", "start")
    hub.do("Quick check", "start", {"RATE": "33.3"})
    hub.clock.advance(1.7)
    name = "pipeline.batchInputRecords"
    parts = [counts(live(hub, "Quick check", index).json())[name] for index in (0, 1)]
    assert parts[0] > 0
    hub.clock.advance(10)
    total = counts(saved(hub, "Quick check"))
    engines = hub.status("Quick check")["sdcIds"]
    parts = [counts(saved(hub, "Quick check", sdcId=engine))[name] for engine in engines]
    assert sum(parts) == total[name] == 200


@pytest.mark.parametrize("instances", [1, 2, 3, 7])
def test_shares_add_up_to_total(instances):
    total = Counts(at=T0, input=100, output=95, error=5, stage_errors=1)
    shares = [total.share(instance, instances) for instance in range(instances)]
    for field in ("input", "output", "error", "stage_errors"):
        assert sum(getattr(share, field) for share in shares) == getattr(total, field)


def test_run_without_saved_counts_has_zeros():
    hub = Hub(counts_of_latest="zeros")
    hub.do("Quick check", "start")
    hub.clock.advance(2)
    entry = hub.counts("Quick check")["0"]
    assert (entry["inputCount"], entry["inputM1Rate"]) == (0, 0)
    assert entry["lastUpdatedOn"] == T0 + 1100
