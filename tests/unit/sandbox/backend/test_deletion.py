"""Deletion of jobs and job templates, and archiving of templates."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.fakes.sandbox_app import JR, T0, Hub

V2 = "/jobrunner/rest/v2"


def delete(hub: Hub, name: str, path: str = V2) -> Any:
    return hub.http.delete(f"{path}/job/{hub.id(name)}")


def bulk(hub: Hub, call: str, *names: str) -> Any:
    return hub.http.post(f"{JR}/jobs/{call}", json=[hub.id(name) for name in names])


def test_deleted_job_is_listed_only_as_removed(hub):
    job_id = hub.id("Quick check")
    count = hub.get(f"{JR}/jobs/count")["count"]
    deleted = delete(hub, "Quick check").json()
    assert (deleted["id"], deleted["jobDeleted"]) == (job_id, True)
    assert (deleted["deleteTime"], deleted["destroyer"]) == (T0, hub.backend.user)
    for path in ("", "/currentStatus", "/history", "/acl"):
        assert hub.get(f"{JR}/job/{job_id}{path}") is None
    assert hub.http.delete(f"{V2}/job/{job_id}").content == b""
    assert "Quick check" not in hub.names()
    assert hub.names(removed="True") == ["Quick check"]
    assert hub.get(f"{JR}/jobs/count") == {"count": count - 1}
    assert hub.get(f"{JR}/jobs/count", removed="True") == {"count": 1}
    assert hub.http.post(f"{JR}/jobs", json=[job_id]).json() == []


def test_v1_delete_returns_no_body(hub):
    response = delete(hub, "Quick check", JR)
    assert (response.status_code, response.content) == (200, b"")
    assert "Quick check" not in hub.names()


@pytest.mark.parametrize("name", ["Web logs to lake", "Ledger export", "Regional orders"])
def test_delete_in_wrong_state_returns_400(hub, name):
    assert delete(hub, name).status_code == 400
    assert bulk(hub, "deleteJobs", "Quick check", name).status_code == 400
    assert {"Quick check", name} <= set(hub.names())


def test_ended_job_is_deleted(hub):
    hub.do("Web logs to lake", "stop")
    assert delete(hub, "Web logs to lake").status_code == 400
    hub.clock.advance(5)
    assert delete(hub, "Web logs to lake").status_code == 200
    hub.do("Ledger export", "acknowledgeError")
    assert delete(hub, "Ledger export").status_code == 200


def test_bulk_delete(hub):
    response = bulk(hub, "deleteJobs", "Quick check", "Legacy feed")
    assert (response.status_code, response.content) == (200, b"")
    assert hub.names(removed="true") == ["Legacy feed", "Quick check"]


def test_variant_partial_bulk_delete():
    hub = Hub(bulk_partial="partial", bulk_body="list")
    assert bulk(hub, "deleteJobs", "Quick check", "Web logs to lake").status_code == 400
    assert hub.names(removed="true") == ["Quick check"]
    assert [job["name"] for job in bulk(hub, "deleteJobs", "Legacy feed").json()] == ["Legacy feed"]


def test_template_is_deleted_with_instances(hub):
    assert bulk(hub, "deleteJobTemplates", "Quick check").status_code == 400
    assert bulk(hub, "deleteJobTemplates", "Regional orders").status_code == 200
    assert hub.names(removed="true") == ["Regional orders", "Regional orders - 1"]


def test_template_with_running_instance_is_not_deleted(hub):
    hub.do("Regional orders - 1", "start")
    assert bulk(hub, "deleteJobTemplates", "Regional orders").status_code == 400
    assert "Regional orders" in hub.names()


def test_archived_template_starts_no_instances(hub):
    assert bulk(hub, "archiveJobTemplates", "Quick check").status_code == 400
    for _ in range(2):
        assert bulk(hub, "archiveJobTemplates", "Regional orders").status_code == 200
    assert hub.names(jobTemplate="True", archived="True") == ["Regional orders"]
    assert hub.names(jobTemplate="True", archived="False") == []
    body = hub.get(f"{JR}/job/{hub.id('Regional orders')}")
    assert (body["archived"], body["lastModifiedOn"]) == (True, T0)
    assert hub.do("Regional orders", "createAndStartJobInstances", {}).status_code == 400
