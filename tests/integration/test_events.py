"""Push events: calls of Control Hub's subscriptions, with Airflow's database and a sandbox."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_provider_streamsets.compat import HAS_PAGES

if not HAS_PAGES:
    pytest.skip("Push events need Airflow 3.1.1.", allow_module_level=True)

from fastapi.testclient import TestClient

from airflow_provider_streamsets.assets.jobs import job_uri
from airflow_provider_streamsets.plugins import app as pages_app
from airflow_provider_streamsets.plugins import events
from airflow_provider_streamsets.plugins.sources import Sources
from airflow_provider_streamsets.triggers.job_events import ControlHubJobRunEventTrigger
from tests.integration.airflow_rows import (
    delete_rows,
    no_rows,
    read_events,
    read_queued_dags,
    store_asset,
    store_event,
    tables,
)
from tests.integration.conftest import start_run

__all__ = ["no_rows", "tables"]

TOKEN = "0123456789abcdef" * 4
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
QUICK, ENDLESS, FAILING = "Quick check", "Clickstream to lake", "Payments reconciliation"


def set_connection(monkeypatch: pytest.MonkeyPatch, airflow_conn: str, *, conn_id: str = "", **extra: Any) -> None:
    connection = json.loads(airflow_conn)
    connection["extra"] = {**connection.get("extra", {}), **extra}
    monkeypatch.setenv(f"AIRFLOW_CONN_{(conn_id or 'streamsets_default').upper()}", json.dumps(connection))


@pytest.fixture
def hub(sandbox, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The sandbox, as the default connection, whose clock advances while a call waits."""
    set_connection(monkeypatch, sandbox.airflow_conn, webhook_token=TOKEN)
    monkeypatch.setattr(events, "_sources", Sources())
    events._logged.clear()

    async def sleep(seconds: float) -> None:
        sandbox.advance(seconds)

    monkeypatch.setattr(events, "sleep", sleep)
    return sandbox


@pytest.fixture
def api() -> TestClient:
    """The application of the plugin."""
    return TestClient(pages_app.create_app())


async def no_sleep(_: float) -> None:
    """Let a call wait without advancing the clock."""


def asset_of(hub: Any, job: str) -> int:
    """Store the asset of a job, on which a DAG is scheduled."""
    return store_asset(job_uri(hub.job_id(job)), dag_id="after_run", name=job)


def advance_to(hub: Any, job: str, status: str) -> None:
    """Advance the clock of the sandbox until a job has a status, and not much further."""
    while hub.job_state(job)["status"] != status:
        hub.advance(0.1)


def post(api: TestClient, job_id: str, status: str = "INACTIVE", **options: Any) -> Any:
    body = {"job_id": job_id, "from_status": "DEACTIVATING", "to_status": status}
    return api.post("/events", **{"json": body, "headers": HEADERS, **options})


def test_end_of_run_becomes_event_of_asset(hub, api):
    asset_id = asset_of(hub, QUICK)
    run = start_run(hub, QUICK, 600)
    hub.forget_requests()
    response = post(api, run["job_id"])
    assert response.status_code == 201, response.text
    assert response.json() == {**run, "event_id": response.json()["event_id"]}
    (extra,) = read_events(asset_id)
    payload = extra["payload"]
    assert extra == {"from_trigger": True, "payload": payload}
    (result,) = payload.pop("runs")
    assert payload == result
    assert (result["job_id"], result["job_name"], result["run_count"]) == (run["job_id"], QUICK, run["run_count"])
    assert (result["outcome"], result["metrics_final"]) == ("SUCCEEDED", True)
    assert read_queued_dags(asset_id) == ["after_run"]
    # One for the status; the others are for the job's name, the run's events and its record counts.
    assert hub.requests()["total"] == 4
    assert [call for call in hub.requests()["counts"] if "status" in call] == ["POST /jobrunner/rest/v1/jobs/status"]


@pytest.mark.parametrize("job", [QUICK, FAILING])
def test_extra_equals_that_of_watcher(hub, api, job):
    trigger = ControlHubJobRunEventTrigger(job_id=hub.job_id(job), poll_interval=1)

    async def watch() -> Any:
        events_of_watcher = trigger.run()
        event = asyncio.ensure_future(anext(events_of_watcher))
        hub.forget_requests()
        # The second poll shows that the first one, whose runs are not reported, was processed.
        while hub.requests()["counts"].get("POST /jobrunner/rest/v1/jobs/status", 0) < 2:
            await asyncio.sleep(0.05)
        start_run(hub, job, 600)
        try:
            return (await asyncio.wait_for(event, 30)).payload
        finally:
            await events_of_watcher.aclose()

    payload = asyncio.run(watch())
    asset_id = asset_of(hub, job)
    assert post(api, hub.job_id(job)).status_code == 201
    # Airflow adds the first field to the events of a watcher.
    assert read_events(asset_id) == [{"from_trigger": True, "payload": payload}]


def test_failed_run_is_reported_with_its_error(hub, api):
    asset_id = asset_of(hub, FAILING)
    run = start_run(hub, FAILING, 600)
    assert post(api, run["job_id"], "INACTIVE_ERROR").status_code == 201
    (extra,) = read_events(asset_id)
    assert (extra["payload"]["outcome"], bool(extra["payload"]["error_message"])) == ("FAILED", True)
    assert hub.call("POST", f"/jobrunner/rest/v1/job/{run['job_id']}/acknowledgeError").ok
    assert post(api, run["job_id"]).status_code == 200
    assert len(read_events(asset_id)) == 1


def test_call_waits_for_final_metrics(hub, api):
    hub.set_variants(metrics_lag=20)
    asset_id = asset_of(hub, QUICK)
    run = start_run(hub, QUICK, 0)
    advance_to(hub, QUICK, "INACTIVE")
    assert post(api, run["job_id"]).status_code == 201
    (extra,) = read_events(asset_id)
    assert extra["payload"]["metrics_final"] is True


def test_call_can_do_without_final_metrics(hub, api):
    hub.set_variants(metrics_lag=20)
    asset_id = asset_of(hub, QUICK)
    run = start_run(hub, QUICK, 0)
    advance_to(hub, QUICK, "INACTIVE")
    ended = hub.now()
    assert post(api, run["job_id"], params={"metrics_timeout": 0}).status_code == 201
    assert hub.now() == ended
    (extra,) = read_events(asset_id)
    assert extra["payload"]["outcome"] == "SUCCEEDED"


def test_only_chosen_outcomes_are_reported(hub, api):
    asset_id = asset_of(hub, FAILING)
    run = start_run(hub, FAILING, 600)
    for outcomes in (["SUCCEEDED"], ["SUCCEEDED", "STOPPED"]):
        response = post(api, run["job_id"], params={"outcomes": outcomes})
        assert (response.status_code, "not to be reported" in response.json()["detail"]) == (200, True)
    assert read_events(asset_id) == []
    assert post(api, run["job_id"], params={"outcomes": ["FAILED"]}).status_code == 201
    assert post(api, run["job_id"], params={"outcomes": "ENDED"}).status_code == 422


def test_repeated_calls_change_nothing(hub, api):
    asset_id = asset_of(hub, QUICK)
    run = start_run(hub, QUICK, 600)
    assert post(api, run["job_id"]).status_code == 201
    for job_id in (run["job_id"], run["job_id"]):
        response = post(api, job_id)
        assert (response.status_code, response.json()["detail"]) == (
            200,
            f"Run {run['run_count']} already has an event.",
        )
    assert len(read_events(asset_id)) == 1
    later = start_run(hub, QUICK, 600)
    assert post(api, run["job_id"]).status_code == 201
    assert [extra["payload"]["run_count"] for extra in read_events(asset_id)] == [run["run_count"], later["run_count"]]


def test_simultaneous_calls_register_one_event(hub, api, monkeypatch):
    asset_id = asset_of(hub, QUICK)
    run = start_run(hub, QUICK, 600)
    barrier = threading.Barrier(4)
    register = events._register

    def register_together(*arguments: Any) -> int | None:
        # All calls have found that the run has no event.
        barrier.wait(30)
        return register(*arguments)

    monkeypatch.setattr(events, "_register", register_together)
    with ThreadPoolExecutor(4) as threads:
        codes = list(threads.map(lambda _: post(TestClient(api.app), run["job_id"]).status_code, range(4)))
    assert sorted(codes) == [200, 200, 200, 201]
    assert len(read_events(asset_id)) == 1


def test_event_of_watcher_is_not_repeated(hub, api):
    asset_id = asset_of(hub, QUICK)
    run = start_run(hub, QUICK, 600)
    assert post(api, run["job_id"]).status_code == 201
    (extra,) = read_events(asset_id)
    delete_rows()
    asset_id = asset_of(hub, QUICK)
    # A watcher reports the runs of several jobs in one event; others can have created any event.
    other = {"job_id": "other", "run_count": [1]}
    extra["payload"]["runs"] = [other, *extra["payload"]["runs"]]
    store_event(asset_id, {"payload": ["x"]})
    store_event(asset_id, extra)
    assert post(api, run["job_id"]).status_code == 200
    assert len(read_events(asset_id)) == 2


def test_recreated_job_has_runs_of_its_own(hub, api):
    asset_id = asset_of(hub, QUICK)
    run = start_run(hub, QUICK, 600)
    assert post(api, run["job_id"]).status_code == 201
    (extra,) = read_events(asset_id)
    extra["payload"]["runs"][0]["start_time"] = "2020-01-01T00:00:00.000000Z"
    delete_rows()
    asset_id = asset_of(hub, QUICK)
    store_event(asset_id, extra)
    assert post(api, run["job_id"]).status_code == 201


# Calls that change nothing


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": "Bearer "}]
    + [{"Authorization": f"Bearer {token}"} for token in ("x" * 64, TOKEN[:-1], TOKEN + "0", "\xe4")]
    + [{"Authorization": f"Basic {TOKEN}"}, {"X-Token": TOKEN}],
    ids=str,
)
def test_forged_call_is_refused(hub, api, headers):
    asset_id = asset_of(hub, QUICK)
    run = start_run(hub, QUICK, 600)
    hub.forget_requests()
    response = post(api, run["job_id"], headers={name: value.encode("latin-1") for name, value in headers.items()})
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert read_events(asset_id) == []
    assert hub.requests()["total"] == 0


@pytest.mark.parametrize(
    "extra", [{}, {"webhook_token": ""}, {"webhook_token": "short"}, {"webhook_token": 5}], ids=str
)
def test_connection_without_valid_token_accepts_no_call(hub, api, monkeypatch, caplog, extra):
    set_connection(monkeypatch, hub.airflow_conn, **extra)
    for token in ("", "short", "None", "5"):
        assert post(api, hub.job_id(QUICK), headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert "Refused a call of /streamsets/events for connection 'streamsets_default'" in caplog.text
    assert "short" not in caplog.text


def test_token_is_that_of_the_named_connection(hub, api, monkeypatch):
    asset_id = asset_of(hub, QUICK)
    run = start_run(hub, QUICK, 600)
    other = secrets.token_hex(32)
    set_connection(monkeypatch, hub.airflow_conn, conn_id="other", webhook_token=other)
    monkeypatch.setenv("AIRFLOW_CONN_WEB", json.dumps({"conn_type": "http", "extra": {"webhook_token": TOKEN}}))
    for conn_id in ("other", "web", "missing"):
        assert post(api, run["job_id"], params={"conn_id": conn_id}).status_code == 401
    assert read_events(asset_id) == []
    headers = {"Authorization": f"bearer {other}"}
    assert post(api, run["job_id"], params={"conn_id": "other"}, headers=headers).status_code == 201


def test_refusals_are_logged_once_a_minute(hub, api, caplog):
    for _ in range(3):
        post(api, hub.job_id(QUICK), headers={"Authorization": "Bearer wrong"})
    assert caplog.text.count("the bearer token is wrong") == 1


def test_active_run_gets_no_event(hub, api):
    asset_id = asset_of(hub, ENDLESS)
    run = start_run(hub, ENDLESS, 200)
    response = post(api, run["job_id"])
    assert (response.status_code, response.json()["detail"]) == (
        409,
        f"Run {run['run_count']} has not ended: it is ACTIVE.",
    )
    assert read_events(asset_id) == []


def test_status_before_end_of_run_is_ignored(hub, api):
    asset_id = asset_of(hub, QUICK)
    run = start_run(hub, QUICK, 600)
    hub.forget_requests()
    for status in ("ACTIVATING", "ACTIVE", "DEACTIVATING", "UNKNOWN_STATUS"):
        response = post(api, run["job_id"], status)
        assert (response.status_code, response.json()["detail"]) == (200, f"Status {status} is not the end of a run.")
    assert (read_events(asset_id), hub.requests()["total"]) == ([], 0)


@pytest.mark.parametrize("status", ["ACTIVE", "DEACTIVATING"])
def test_call_that_overtakes_the_status_is_confirmed(hub, api, status):
    asset_id = asset_of(hub, QUICK)
    run = start_run(hub, QUICK, 0)
    advance_to(hub, QUICK, status)
    assert post(api, run["job_id"]).status_code == 201
    assert len(read_events(asset_id)) == 1


def test_two_runs_that_ended_before_their_calls_get_an_event_each(hub, api):
    asset_id = asset_of(hub, QUICK)
    runs = [start_run(hub, QUICK, 30)["run_count"] for _ in range(2)]
    codes = [post(api, hub.job_id(QUICK), params={"metrics_timeout": 0}).status_code for _ in range(3)]
    assert codes == [201, 201, 200]
    assert sorted(extra["payload"]["run_count"] for extra in read_events(asset_id)) == runs


def test_run_is_reported_although_job_was_restarted(hub, api, monkeypatch):
    asset_id = asset_of(hub, QUICK)
    run = start_run(hub, QUICK, 0)
    advance_to(hub, QUICK, "INACTIVE")
    start_run(hub, QUICK, 0)
    now = {"metrics_timeout": 0}
    # The clock does not advance, so that the second run stays active.
    monkeypatch.setattr(events, "sleep", no_sleep)
    assert post(api, run["job_id"], params=now).json()["run_count"] == run["run_count"]
    assert post(api, run["job_id"], params=now).status_code == 409
    assert [extra["payload"]["run_count"] for extra in read_events(asset_id)] == [run["run_count"]]


@pytest.mark.parametrize("job_id", ["00000000-0000-0000-0000-000000000000:sandbox", "job:org"])
def test_job_without_asset_is_refused(hub, api, job_id):
    hub.forget_requests()
    assert post(api, job_id).status_code in {400, 404}
    assert hub.requests()["total"] == 0


@pytest.mark.parametrize("variant", ["200", "404", "403", "empty", "foreign_code"])
def test_job_unknown_to_control_hub_is_refused(hub, api, variant):
    if variant != "200":
        hub.set_variants(unknown_job=variant)
    job_id = "00000000-0000-0000-0000-000000000000:sandbox"
    asset_id = store_asset(job_uri(job_id), dag_id="after_run")
    assert post(api, job_id).status_code in {404, 502}
    assert read_events(asset_id) == []


def test_job_that_never_ran_gets_no_event(hub, api):
    never = next(job for job in hub.state()["jobs"] if not job["run_count"] and not job["template"])
    asset_id = asset_of(hub, never["name"])
    assert post(api, never["id"]).status_code == 404
    assert read_events(asset_id) == []


def test_old_run_gets_no_event(hub, api):
    asset_id = asset_of(hub, QUICK)
    run = start_run(hub, QUICK, 600)
    hub.advance(90_000)
    response = post(api, run["job_id"])
    assert (response.status_code, "24 hours" in response.json()["detail"]) == (200, True)
    assert read_events(asset_id) == []


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", 400),
        (b"[1]", 400),
        (b'{"job_id": 1}', 400),
        (b'{"job_id": "a", "to_status": 5}', 400),
        (b'{"job_id": "{{JOB_ID}}", "to_status": "{{TO_STATUS}}"}', 400),
        (b'{"job_id": "' + b"a" * 300 + b'", "to_status": "INACTIVE"}', 400),
        (b"\xff\xfe", 400),
        (b'{"job_id": "' + b"[" * 10_000, 400),
        (b" " * 16_385, 413),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_invalid_body_is_refused(hub, api, content, code):
    hub.forget_requests()
    response = api.post("/events", content=content, headers=HEADERS)
    assert response.status_code == code, response.text
    assert hub.requests()["total"] == 0


def test_body_may_be_plain_text(hub, api):
    asset_id = asset_of(hub, QUICK)
    run = start_run(hub, QUICK, 600)
    content = json.dumps({"job_id": run["job_id"], "from_status": "INACTIVE", "to_status": "INACTIVE"})
    response = api.post("/events", content=content, headers={**HEADERS, "Content-Type": "text/plain"})
    assert response.status_code == 201
    assert len(read_events(asset_id)) == 1


def test_get_is_not_allowed(hub, api):
    assert api.get("/events", headers=HEADERS).status_code == 405


def test_outage_is_an_error_and_the_call_can_be_repeated(hub, api, caplog):
    asset_id = asset_of(hub, QUICK)
    run = start_run(hub, QUICK, 600)
    hub.set_faults({"fault": "unauthorized", "path": "/jobrunner/*"})
    try:
        assert post(api, run["job_id"]).status_code == 502
    finally:
        hub.set_faults()
    assert "gets no asset event" in caplog.text
    assert read_events(asset_id) == []
    assert post(api, run["job_id"]).status_code == 201


def test_call_during_short_outage_registers_event(hub, api):
    asset_id = asset_of(hub, QUICK)
    run = start_run(hub, QUICK, 600)
    hub.set_faults({"fault": "server_error", "status": 503, "path": "/jobrunner/*", "times": 2})
    assert post(api, run["job_id"]).status_code == 201
    assert len(read_events(asset_id)) == 1


@pytest.mark.parametrize("conn_id", ["x\nforged log line", "x y", ""])
def test_invalid_connection_id_is_refused(hub, api, caplog, conn_id):
    assert post(api, hub.job_id(QUICK), params={"conn_id": conn_id}).status_code == 422
    assert not [record for record in caplog.records if record.name.startswith("airflow_provider_streamsets")]


def test_too_many_waiting_calls_are_refused(hub, api):
    for _ in range(1_000):
        assert events._threads._calls.acquire(blocking=False)
    try:
        response = post(api, hub.job_id(QUICK))
        assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    finally:
        events._threads._calls.release(1_000)
