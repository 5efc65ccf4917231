"""Actions on one job and bulk actions."""

from __future__ import annotations

from tests.unit.fakes.sandbox_app import JR


def test_actions_in_wrong_state_return_400(hub):
    rejected = hub.do("Web logs to lake", "start")
    assert rejected.status_code == 400
    assert rejected.json()["ISSUES"][0]["code"].startswith("JOBRUNNER_")
    assert "ACTIVE" in rejected.json()["ISSUES"][0]["message"]
    assert hub.do("Quick check", "stop").status_code == 400
    assert hub.do("Ledger export", "start").status_code == 400
    assert hub.do("Regional orders", "start").status_code == 400
    assert hub.do("Quick check", "sync").status_code == 400
    assert hub.do("Quick check", "start").status_code == 200
    assert hub.do("Quick check", "stop").status_code == 400
    assert [start.job_name for start in hub.backend.starts] == ["Quick check"]


def test_stop_can_be_repeated(hub):
    assert hub.do("Web logs to lake", "stop").json()["status"] == "DEACTIVATING"
    assert hub.do("Web logs to lake", "stop").status_code == 200
    hub.clock.advance(1)
    assert (hub.status("Web logs to lake")["status"], hub.status("Web logs to lake")["color"]) == ("INACTIVE", "GRAY")


def test_job_starts_after_error_is_acknowledged(hub):
    assert hub.do("Ledger export", "acknowledgeError").json()["status"] == "INACTIVE"
    assert hub.do("Ledger export", "start").json()["runCount"] == 2


def test_bulk_acknowledgement_is_idempotent(hub):
    hub.do("Payments reconciliation", "start")
    hub.clock.advance(30)
    ids = [hub.id("Ledger export"), hub.id("Payments reconciliation")]
    assert hub.http.post(f"{JR}/jobs/startJobs", json=ids).status_code == 400
    for _ in range(2):
        assert hub.http.post(f"{JR}/jobs/acknowledgeErrors", json=[*ids, hub.id("Quick check")]).status_code == 200
    for name in ("Ledger export", "Payments reconciliation"):
        status = hub.status(name)
        assert (status["status"], bool(status["errorMessage"])) == ("INACTIVE", True)
        events = hub.get(f"{JR}/job/{status['id']}/jobStatusHistory")
        acks = [event for event in events if event["message"] == "Job error acknowledged"]
        assert [event["user"] for event in acks] == [hub.backend.user]
    assert hub.http.post(f"{JR}/jobs/startJobs", json=ids).status_code == 200


def test_bulk_start_is_all_or_nothing(hub):
    ids = [hub.id("Quick check"), hub.id("Inventory snapshot")]
    assert hub.http.post(f"{JR}/jobs/startJobs", json=[*ids, "no:no"]).status_code == 404
    assert hub.http.post(f"{JR}/jobs/startJobs", json=[*ids, hub.id("Web logs to lake")]).status_code == 400
    assert hub.backend.starts == []
    response = hub.http.post(f"{JR}/jobs/startJobs", json=ids)
    assert (response.status_code, response.content) == (200, b"")
    assert [start.run_count for start in hub.backend.starts] == [1, 1]


def test_runtime_parameters_override_behaviour_of_run(hub):
    assert hub.do("Quick check", "start", {"RECORDS": 7, "UNKNOWN": "x"}).status_code == 200
    hub.clock.advance(10)
    assert hub.counts("Quick check")["0"]["inputCount"] == 7
    hub.do("Quick check", "start", {"RECORDS": "many"})
    hub.clock.advance(10)
    assert "RECORDS" in hub.status("Quick check")["errorMessage"]
    for invalid in ([], "text", 5):
        assert hub.do("Quick check", "start", invalid).status_code == 400
