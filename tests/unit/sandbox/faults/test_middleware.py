"""Injected faults."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.fakes.sandbox_app import JR, Hub

FAULTS = "/sandbox/v1/faults"


COUNT = f"{JR}/jobs/count"


def put(hub: Hub, *documents: dict[str, Any], seed: int = 0) -> None:
    response = hub.http.put(FAULTS, json={"seed": seed, "rules": list(documents)})
    assert response.status_code == 200, response.text


def test_admin_routes_are_exempt_from_faults(hub):
    put(hub, {"path": "*", "fault": "server_error"})
    assert hub.http.get("/healthz").status_code == 500
    assert hub.http.get("/sandbox/v1/state").status_code == 200
    assert hub.get(FAULTS)["rules"][0]["matched"] == 1


def test_unprocessed_request_is_not_logged(hub):
    put(hub, {"path": COUNT, "fault": "html", "times": 1})
    hub.http.get(COUNT)
    hub.http.get(COUNT)
    assert hub.get("/sandbox/v1/requests")["counts"] == {f"GET {COUNT}": 1}


GATEWAY_STATUSES = (400, 403, 404, 405, 407, 410, 413, 502, 503, 504)


@pytest.mark.parametrize("status", GATEWAY_STATUSES)
def test_gateway_returns_html(hub, status):
    put(hub, {"path": "*/start", "fault": "gateway", "status": status})
    response = hub.do("Quick check", "start")
    assert response.status_code == status
    assert response.headers["Content-Type"].startswith("text/html")
    assert str(status) in response.text
    assert hub.get("/sandbox/v1/starts") == []


@pytest.mark.parametrize("status", GATEWAY_STATUSES)
def test_gateway_returns_json_without_envelope(hub, status):
    put(hub, {"path": "*/start", "fault": "gateway", "status": status, "body": "json", "processed": True})
    response = hub.do("Quick check", "start")
    assert response.status_code == status
    assert response.json() == {"message": "no Route matched with those values"}
    assert len(hub.get("/sandbox/v1/starts")) == 1


def test_gateway_returns_404_by_default(hub):
    put(hub, {"path": COUNT, "fault": "gateway"})
    assert hub.http.get(COUNT).status_code == 404
    (rule,) = hub.get(FAULTS)["rules"]
    assert (rule["status"], rule["body"], rule["processed"]) == (404, "html", False)


def test_empty_response_has_no_effect(hub):
    put(hub, {"path": "*/start", "fault": "empty"})
    response = hub.do("Quick check", "start")
    assert (response.status_code, response.content) == (200, b"")
    assert hub.get("/sandbox/v1/starts") == []


def test_valid_credential_is_rejected_once(hub):
    put(hub, {"path": COUNT, "fault": "unauthorized", "times": 1})
    response = hub.http.get(COUNT)
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "dpm")
    (issue,) = response.json()["ISSUES"]
    assert (issue["code"], issue["message"]) == ("SSO_01", "User not authenticated")
    assert response.json() == hub.http.get(COUNT, headers={"X-SS-App-Auth-Token": "wrong"}).json()
    assert hub.http.get(COUNT).status_code == 200


def test_late_request_returns_504_before_processing(hub):
    put(hub, {"path": "*/start", "fault": "late", "seconds": 0})
    response = hub.do("Quick check", "start")
    assert response.status_code == 504
    assert response.headers["Content-Type"].startswith("text/html")
    assert len(hub.get("/sandbox/v1/starts")) == 1


def test_delayed_request_is_not_processed_after_reset(hub, monkeypatch):
    async def reset_meanwhile(seconds: float) -> None:
        hub.app.state.context.reset()

    monkeypatch.setattr("airflow_provider_streamsets.sandbox.faults.middleware.asyncio.sleep", reset_meanwhile)
    put(hub, {"path": "*/start", "fault": "late"})
    assert hub.do("Quick check", "start").status_code == 504
    put(hub, {"path": "*/start", "fault": "delay"})
    response = hub.do("Quick check", "start")
    assert (response.status_code, "was reset" in response.text) == (500, True)
    assert hub.get("/sandbox/v1/starts") == []


@pytest.mark.parametrize("fault", ["reset_after", "truncated"])
def test_missing_transport_fails_after_processing(hub, fault):
    put(hub, {"path": "*/start", "fault": fault})
    with pytest.raises(ConnectionResetError):
        hub.do("Quick check", "start")
    assert len(hub.get("/sandbox/v1/starts")) == 1


def test_streamed_response_is_faulted(hub):
    put(hub, {"path": f"{JR}/jobs/exportAllJobs", "fault": "drip", "seconds": 0})
    response = hub.http.post(f"{JR}/jobs/exportAllJobs")
    assert response.content.startswith(b"PK")
    assert int(response.headers["Content-Length"]) == len(response.content)
