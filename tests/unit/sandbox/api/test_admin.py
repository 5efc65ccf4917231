"""The admin routes."""

from __future__ import annotations

import json
from typing import Any

from fastapi.testclient import TestClient

from airflow_provider_streamsets.sandbox.app import create_app
from airflow_provider_streamsets.sandbox.backend.clock import Clock
from airflow_provider_streamsets.sandbox.backend.credentials import issue_credential
from airflow_provider_streamsets.sandbox.faults.rules import parse_faults
from tests.unit.fakes.sandbox_app import JR, T0


def test_clock_variants_and_request_log(hub):
    def post(path: str, body: Any) -> Any:
        return hub.http.post(f"/sandbox/v1/{path}", json=body)

    assert post("clock", {"advance": 1.5}).json()["now"] == T0 + 1500
    assert post("clock", {"set": T0 + 5000}).json() == {"now": T0 + 5000, "frozen": True}
    assert post("clock", {"freeze": False}).json()["frozen"] is False
    for invalid in ({"set": 1}, {"advance": -1}, {"set": "x"}, {}, [], {"freeze": 1}):
        assert post("clock", invalid).status_code == 400
    assert post("variants", {"unknown_job": "500"}).json()["unknown_job"] == "500"
    assert post("variants", {"unknown_job": "418"}).status_code == 400
    assert post("variants", {"nope": "1"}).status_code == 400
    assert hub.http.delete("/sandbox/v1/requests").json()["total"] == 0
    hub.get(f"{JR}/jobs/count", system="False")
    log = hub.get("/sandbox/v1/requests")
    assert (log["total"], log["counts"]) == (1, {f"GET {JR}/jobs/count": 1})
    assert log["requests"][0]["query"] == "system=False"
    state = hub.get("/sandbox/v1/state")
    assert state["variants"]["unknown_job"] == "500"
    assert hub.app.state.context.credential.token not in json.dumps([log, state])


def test_reset_restores_initial_state(hub):
    initial = hub.get("/sandbox/v1/state")
    hub.do("Quick check", "start")
    hub.http.delete(f"{JR}/job/{hub.id('Inventory snapshot')}")
    hub.http.post("/sandbox/v1/clock", json={"advance": 3600})
    hub.http.post("/sandbox/v1/variants", json={"unknown_job": "500"})
    hub.http.put("/sandbox/v1/faults", json={"rules": [{"path": "*/stop", "fault": "html"}]})
    assert hub.get("/sandbox/v1/state") != initial
    assert hub.http.post("/sandbox/v1/reset").json() == {"now": T0, "frozen": True}
    assert hub.get("/sandbox/v1/state") == initial
    assert hub.get("/sandbox/v1/faults")["rules"] == []
    assert hub.get("/sandbox/v1/requests")["total"] == 0
    assert hub.get("/sandbox/v1/stops") == []


def test_reset_resumes_running_clock():
    clock = Clock(source=lambda: T0)
    http = TestClient(create_app(clock=clock, credential=(credential := issue_credential("org"))))
    http.headers = {
        "X-SS-App-Component-Id": credential.id,
        "X-SS-App-Auth-Token": credential.token,
        "X-Requested-By": "tests",
    }
    http.post("/sandbox/v1/clock", json={"advance": 5})
    assert http.post("/sandbox/v1/clock", json={"freeze": True}).json() == {"now": T0 + 5000, "frozen": True}
    assert http.post("/sandbox/v1/reset").json() == {"now": T0, "frozen": False}


def test_reset_restores_initial_faults():
    faults = parse_faults({"seed": 3, "rules": [{"path": "*/count", "fault": "html", "times": 1}]})
    context = create_app(faults=faults).state.context
    for _ in range(2):
        selected = [context.faults.select("GET", f"{JR}/jobs/count") for _ in range(2)]
        assert [rule and rule.fault for rule in selected] == ["html", None]
        context.faults.add(parse_faults({"rules": [{"path": "*", "fault": "empty"}]}).rules)
        context.reset()
    assert context.faults.to_dict()["seed"] == 3
