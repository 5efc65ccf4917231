"""Recording of the caller with starts, stops and fault hits."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from airflow_provider_streamsets.sandbox.app import create_app
from airflow_provider_streamsets.sandbox.backend.clock import Clock
from airflow_provider_streamsets.sandbox.backend.credentials import CALLER_HEADER, issue_credential
from airflow_provider_streamsets.sandbox.persistence import StateFile
from tests.unit.fakes.sandbox_app import JR, SEED, T0, Hub

STARTS, STOPS, FAULTS = "/sandbox/v1/starts", "/sandbox/v1/stops", "/sandbox/v1/faults"
JOBS = ("Quick check", "Orders to warehouse")
LONG = JOBS[1]


def post(hub: Hub, path: str, body: Any = None, caller: str | None = None) -> None:
    response = hub.http.post(path, json=body, headers={CALLER_HEADER: caller} if caller else None)
    assert response.status_code == 200, response.text


def callers(hub: Hub, log: str = STARTS) -> list[tuple[str, str | None]]:
    return [(entry["job_name"], entry["caller"]) for entry in hub.get(log)]


def test_starts_record_caller(hub):
    post(hub, f"{JR}/job/{hub.id(JOBS[0])}/start", {}, caller="first")
    post(hub, f"{JR}/jobs/startJobs", [hub.id(JOBS[1])], caller="second")
    assert callers(hub) == [(JOBS[0], "first"), (JOBS[1], "second")]
    assert [start["caller"] for start in hub.get("/sandbox/v1/state")["starts"]] == ["first", "second"]


def test_start_without_header_has_no_caller(hub):
    post(hub, f"{JR}/job/{hub.id(JOBS[0])}/start", {}, caller="first")
    post(hub, f"{JR}/job/{hub.id(JOBS[1])}/start", {})
    assert callers(hub) == [(JOBS[0], "first"), (JOBS[1], None)]


@pytest.mark.parametrize("call", ["createAndStartJobInstances", "createAndStartJobInstancesAsync"])
def test_instances_record_caller_of_template_start(hub, call):
    body = {"runtimeParametersList": [{"REGION": "a"}, {"REGION": "b"}]}
    post(hub, f"{JR}/job/{hub.id('Regional orders')}/{call}", body, caller="fan-out")
    hub.clock.advance(5)
    # Deferred starts run during a request of another caller.
    hub.http.get(STARTS, headers={CALLER_HEADER: "other"})
    assert {caller for _, caller in callers(hub)} == {"fan-out"}
    assert len(callers(hub)) == 2


@pytest.mark.parametrize("call", ["stop", "forceStop", "stopJobs", "forceStopJobs"])
def test_stops_record_caller(hub, call):
    job_id = hub.id(LONG)
    post(hub, f"{JR}/job/{job_id}/start", {}, caller="starter")
    hub.clock.advance(2)
    is_bulk = call.endswith("Jobs")
    post(hub, f"{JR}/jobs/{call}" if is_bulk else f"{JR}/job/{job_id}/{call}", [job_id] if is_bulk else None, "stopper")
    (stop,) = hub.get(STOPS)
    assert (stop["job_id"], stop["job_name"], stop["run_count"]) == (job_id, LONG, hub.get(STARTS)[0]["run_count"])
    assert (stop["caller"], stop["forced"], stop["time"]) == ("stopper", call.startswith("force"), T0 + 2000)


def test_stop_without_effect_is_not_logged():
    hub = Hub(stop_inactive="accepted")
    post(hub, f"{JR}/job/{hub.id(LONG)}/stop", caller="stopper")
    assert hub.get(STOPS) == []


def test_responses_never_contain_caller(hub):
    job_id, template = hub.id(LONG), hub.id("Regional orders")
    post(hub, f"{JR}/job/{job_id}/start", {}, caller="test-caller")
    body = {"runtimeParametersList": [{"REGION": "a"}]}
    post(hub, f"{JR}/job/{template}/createAndStartJobInstances", body, caller="test-caller")
    hub.clock.advance(2)
    post(hub, f"{JR}/job/{job_id}/stop", caller="test-caller")
    hub.clock.advance(60)
    events = f"{hub.status(LONG)['id']}/jobStatusHistory"
    for path in (f"{job_id}/currentStatus", f"{job_id}/history", job_id, events):
        response = hub.http.get(f"{JR}/job/{path}", headers={CALLER_HEADER: "test-caller"})
        assert response.status_code == 200
        assert "test-caller" not in response.text + str(response.headers)
    for path in (f"{JR}/jobs", f"{JR}/job/{template}/runHistory", "/sandbox/v1/requests"):
        assert "test-caller" not in hub.http.get(path).text


def test_hits_record_caller_and_fault(hub):
    rule = {"path": "*/start", "method": "POST", "fault": "server_error", "status": 503, "processed": True}
    assert hub.http.put(FAULTS, json={"rules": [rule]}).status_code == 200
    path = f"{JR}/job/{hub.id(JOBS[0])}/start"
    hub.http.post(path, json={}, headers={CALLER_HEADER: "caller"})
    hub.http.get(f"{JR}/jobs")
    (hit,) = hub.get(FAULTS)["hits"]
    assert hit == {"time": T0, "method": "POST", "path": path, "fault": "server_error", "caller": "caller"}
    assert hub.http.delete(FAULTS).json()["hits"] == []


def test_restart_restores_callers(tmp_path):
    credential, path = issue_credential(SEED.organization.id), tmp_path / "hub.state"
    headers = {
        "X-SS-App-Component-Id": credential.id,
        "X-SS-App-Auth-Token": credential.token,
        "X-Requested-By": "tests",
    }

    def open_app(state: StateFile) -> TestClient:
        app = create_app(seed=SEED, clock=Clock(frozen_at=T0), credential=credential, state=state)
        return TestClient(app, headers=headers)

    state = StateFile(path)
    http = open_app(state)
    (job_id,) = (job["id"] for job in http.get("/sandbox/v1/state").json()["jobs"] if job["name"] == LONG)
    assert http.post(f"{JR}/job/{job_id}/start", json={}, headers={CALLER_HEADER: "starter"}).status_code == 200
    http.post("/sandbox/v1/clock", json={"advance": 2})
    assert http.post(f"{JR}/job/{job_id}/forceStop", headers={CALLER_HEADER: "stopper"}).status_code == 200
    before = http.get(STARTS).json(), http.get(STOPS).json()
    state.close()
    state = StateFile(path)
    restarted = open_app(state)
    assert (restarted.get(STARTS).json(), restarted.get(STOPS).json()) == before
    assert [entry["caller"] for log in before for entry in log] == ["starter", "stopper"]
    state.close()
