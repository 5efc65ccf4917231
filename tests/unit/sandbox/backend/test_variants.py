"""The variants and their effects."""

from __future__ import annotations

import json

import pytest

from airflow_provider_streamsets.sandbox.backend.variants import VariantError, Variants
from tests.unit.fakes.sandbox_app import JR, Hub


@pytest.mark.parametrize(
    ("variant", "status", "code"),
    [
        ("404", 404, "JOBRUNNER_01"),
        ("400", 400, "JOBRUNNER_01"),
        ("403", 403, "JOBRUNNER_05"),
        ("500", 500, "JOBRUNNER_01"),
        ("foreign_code", 404, "RESTAPI_02"),
    ],
)
def test_variant_unknown_job(variant, status, code):
    hub = Hub(unknown_job=variant)
    for response in (
        hub.http.get(f"{JR}/job/no:no/currentStatus"),
        hub.http.post(f"{JR}/job/no:no/start"),
        hub.http.post(f"{JR}/jobs/startJobs", json=["no:no"]),
    ):
        assert response.status_code == status
        assert [issue["code"] for issue in response.json()["ISSUES"]] == [code]
    assert hub.http.post(f"{JR}/jobs/status", json=["no:no"]).json() == {}
    assert hub.http.post(f"{JR}/jobs", json=["no:no"]).json() == []


def test_unknown_job_returns_empty_body_by_default(shared_hub):
    for path in (f"{JR}/job/no:no", f"{JR}/job/no:no/currentStatus", f"{JR}/job/logMessages?jobId=no:no"):
        response = shared_hub.http.get(path)
        assert (response.status_code, response.content) == (200, b"")
    assert shared_hub.http.post(f"{JR}/jobs/startJobs", json=["no:no"]).status_code == 404
    assert shared_hub.http.post(f"{JR}/jobs/status", json=["no:no"]).json() == {}


def test_variants_of_job_that_never_ran():
    path = f"{JR}/job/{Hub().id('Quick check')}/currentStatus"
    assert Hub(never_run_status="empty").http.get(path).content == b""
    assert Hub(never_run_status="null").http.get(path).content == b"null"
    assert Hub(never_run_status="object").get(path)["runCount"] == 0
    ids = [Hub().id("Quick check"), "no:no", Hub().id("Orders to warehouse")]
    assert set(Hub().http.post(f"{JR}/jobs/status", json=ids).json()) == {ids[2]}
    assert Hub(bulk_missing="null").http.post(f"{JR}/jobs/status", json=ids).json()[ids[0]] is None


def test_variants_of_start():
    for status in ("400", "409", "500"):
        assert Hub(wrong_state=status).do("Web logs to lake", "start").status_code == int(status)
    assert Hub(start_body="empty").do("Quick check", "start").content == b""
    merging = Hub(start_parameters="merge", start_parameters_kept="stored")
    merging.do("Orders to warehouse", "start", {"RATE": "1"})
    expected = {"SOURCE_DIR": "/data/in", "BATCH_SIZE": "1000", "RATE": "1"}
    assert json.loads(merging.get(f"{JR}/job/{merging.id('Orders to warehouse')}")["runtimeParameters"]) == expected
    plain = Hub()
    plain.do("Orders to warehouse", "start", {"RATE": "1"})
    assert plain.backend.job(plain.id("Orders to warehouse")).runs[-1].parameters == {"RATE": "1"}
    assert json.loads(plain.get(f"{JR}/job/{plain.id('Orders to warehouse')}")["runtimeParameters"]) != expected


def test_variant_start_status_lag():
    hub = Hub(start_status_lag="previous")
    hub.do("Orders to warehouse", "start")
    assert (hub.status("Orders to warehouse")["runCount"], hub.status("Orders to warehouse")["status"]) == (
        3,
        "INACTIVE",
    )
    hub.clock.advance(0.5)
    assert hub.status("Orders to warehouse")["runCount"] == 4


def test_variants_of_lists_and_sort_orders():
    runs = f"{JR}/saql/jobs/search/{Hub().id('Orders to warehouse')}/runs"
    assert [run["runCount"] for run in Hub().get(runs, len=-1)["data"]] == [3, 2, 1]
    assert [run["runCount"] for run in Hub(runs_order="asc").get(runs, len=-1)["data"]] == [1, 2, 3]
    assert len(Hub().get(runs)["data"]) == 3
    assert Hub(saql_len_zero="none").get(runs)["data"] == []
    assert Hub(filter_text="exact").names(filterText="Stock") == []
    assert "Regional orders" not in Hub(job_template_omitted="instances").names()


def test_variant_counts_of_latest():
    for variant, keys in (("previous", "012"), ("absent", "123"), ("zeros", "0123")):
        hub = Hub(counts_of_latest=variant)
        hub.do("Orders to warehouse", "start")
        assert list(hub.counts("Orders to warehouse")) == list(keys)


def test_variant_event_users():
    for variant, users in (("person", {None, "user"}), ("starter_on_all", {"user"})):
        hub = Hub(event_users=variant)
        run = hub.status("Orders to warehouse")
        events = hub.get(f"{JR}/job/{run['id']}/jobStatusHistory")
        assert {event["user"] and "user" for event in events} == users
        assert {event["user"] for event in events} <= {None, run["user"]}
        assert len(hub.get(f"{JR}/job/logMessages", jobId=hub.id("Orders to warehouse"), runCount=3)) == 3


def test_variant_engine_clock_behind():
    def times(seconds: float) -> dict[str, int]:
        hub = Hub(engine_clock_behind=seconds)
        hub.do("Truck positions north", "stop")
        hub.clock.advance(10)
        events = hub.get(f"{JR}/job/{hub.status('Truck positions north')['id']}/jobStatusHistory")
        return {event["message"]: event["time"] for event in events}

    exact, delayed = times(0), times(3)
    assert len(exact) == 5
    for message, time in exact.items():
        assert time - delayed[message] == (3000 if "reported pipeline in status" in message else 0)
    assert max(delayed, key=lambda message: delayed[message]) == "Job stopped"


def test_variants_of_stop():
    assert Hub(stop_inactive="accepted").do("Orders to warehouse", "stop").json()["status"] == "INACTIVE"
    hub = Hub(stop_while_activating="accepted")
    hub.do("Quick check", "start")
    assert hub.do("Quick check", "stop").json()["status"] == "DEACTIVATING"
    assert Hub(acknowledge_elsewhere="refused").do("Quick check", "acknowledgeError").status_code == 400
    assert Hub(color_in_transition="GRAY").do("Quick check", "start").json()["color"] == "GRAY"


def test_variant_values_are_validated():
    assert Variants().changed({"metrics_lag": "5"}).metrics_lag == 5.0
    for invalid in ({"metrics_lag": "soon"}, {"metrics_lag": -1}, {"unknown_job": "teapot"}, {"x": "y"}):
        with pytest.raises(VariantError):
            Variants().changed(invalid)
