"""Subscriptions to status changes of jobs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_streamsets.sandbox.webhooks import MAX_CALLS
from tests.unit.fakes.sandbox_app import JR, T0, Hub

EVENTSUB = "/notification/rest/v1/eventsub"
PAYLOAD = '{"job_id": "{{JOB_ID}}", "from": "{{FROM_STATUS}}/{{FROM_COLOR}}", "to": "{{TO_STATUS}}/{{TO_COLOR}}"}'


def config(**changes: Any) -> str:
    known = {"uri": "http://127.0.0.1:9/events", "method": "POST", "payload": PAYLOAD, "bearerToken": "x", **changes}
    return json.dumps({name: value for name, value in known.items() if value is not None})


def new(**changes: Any) -> dict[str, Any]:
    return {
        "name": "Airflow",
        "description": None,
        "enabled": True,
        "events": [{"eventType": "JOB_STATUS_CHANGE", "filter": ""}],
        "externalActions": [{"eventType": "WEBHOOKV1", "config": config()}],
        **changes,
    }


def create(hub: Hub, **changes: Any) -> Any:
    response = hub.http.put(f"{EVENTSUB}/createEventSub", json=new(**changes))
    assert response.status_code == 200, response.text
    return response.json()


def changes_of(hub: Hub, name: str) -> list[tuple[str, str]]:
    """Return the changes that were sent for a job."""
    bodies = [json.loads(call["body"]) for call in hub.get("/sandbox/v1/webhooks")]
    return [(body["from"], body["to"]) for body in bodies if body["job_id"] == hub.id(name)]


def send(hub: Hub, after: int = T0 - 1) -> int:
    """Enqueue the calls before now, and return the time of the last possible one."""
    until = hub.clock.now() - 1
    hub.app.state.context.webhooks.enqueue(after, until)
    return until


def test_subscription_is_listed(hub):
    created = create(hub)
    organization = hub.backend.organization
    assert created == {**new(), "id": created["id"], "organization": organization, "deleted": False}
    assert hub.get(EVENTSUB) == [created]
    assert hub.get(EVENTSUB, withWrapper=True)["data"] == [created]
    other = create(hub, name="Other")
    assert hub.get(EVENTSUB, order="DESC") == [other, created]


def test_subscription_is_changed_and_deleted(hub):
    created = create(hub)
    changed = {**created, "name": "New", "enabled": False}
    assert hub.http.post(f"{EVENTSUB}/updateEventSub", json=changed).json() == changed
    assert hub.get(EVENTSUB) == [changed]
    assert hub.http.post(f"{EVENTSUB}/deleteEventSub", content=created["id"]).status_code == 200
    assert hub.get(EVENTSUB) == []
    assert hub.http.post(f"{EVENTSUB}/deleteEventSub", json=created["id"]).status_code == 404
    assert hub.http.post(f"{EVENTSUB}/updateEventSub", json=changed).status_code == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"events": []},
        {"events": [{"eventType": "PIPELINE_COMMITTED"}]},
        {"events": [{"eventType": "JOB_STATUS_CHANGE", "filter": "JOB_NAME=='x'"}]},
        {"externalActions": []},
        {"externalActions": [{"eventType": "EMAIL", "config": config()}]},
        *(
            {"externalActions": [{"eventType": "WEBHOOKV1", "config": text}]}
            for text in (
                "",
                "[]",
                "{",
                config(uri=None),
                config(uri="ftp://example.com"),
                config(uri="http://"),
                config(method="PATCH"),
                config(bearerToken="a\nb"),
                config(timeout=0),
            )
        ),
    ],
    ids=str,
)
def test_invalid_subscription_is_rejected(hub, changes):
    response = hub.http.put(f"{EVENTSUB}/createEventSub", json=new(**changes))
    assert response.status_code == 400, response.text
    assert hub.get(EVENTSUB) == []


def test_each_change_is_sent_once(hub):
    create(hub)
    hub.do("Quick check", "start")
    done = T0 - 1
    for _ in range(200):
        hub.clock.advance(1)
        done = send(hub, done)
    assert changes_of(hub, "Quick check") == [
        ("INACTIVE/GRAY", "ACTIVATING/GREEN"),
        ("ACTIVATING/GREEN", "ACTIVE/GREEN"),
        ("ACTIVE/GREEN", "DEACTIVATING/GREEN"),
        ("DEACTIVATING/GREEN", "INACTIVE/GRAY"),
    ]
    hub.do("Quick check", "start")
    hub.clock.advance(1000)
    send(hub, done)
    assert len(changes_of(hub, "Quick check")) == 8


def test_change_of_color_has_equal_statuses(hub):
    create(hub)
    hub.do("Payments reconciliation", "start")
    hub.clock.advance(1000)
    send(hub)
    changes = changes_of(hub, "Payments reconciliation")
    assert changes[-1][1] == "INACTIVE_ERROR/RED"
    assert all(before != after for before, after in changes)


def test_runs_before_the_subscription_are_not_sent(hub):
    create(hub)
    send(hub)
    assert hub.get("/sandbox/v1/webhooks") == []


def test_job_deleted_after_completion_is_sent(hub):
    create(hub)
    template = hub.id("Regional orders")
    body = {"runtimeParametersList": [{}], "deleteAfterCompletion": True, "attachToTemplate": True}
    response = hub.http.post(f"{JR}/job/{template}/createAndStartJobInstances", json=body)
    assert response.status_code == 200, response.text
    hub.clock.advance(100_000)
    send(hub)
    bodies = [json.loads(call["body"]) for call in hub.get("/sandbox/v1/webhooks")]
    (job_id,) = {body["job_id"] for body in bodies}
    assert job_id not in hub.backend.jobs
    assert bodies[-1]["to"].startswith("INACTIVE")


def test_disabled_subscription_sends_nothing(hub):
    create(hub, enabled=False)
    hub.do("Quick check", "start")
    hub.clock.advance(1000)
    send(hub)
    assert hub.get("/sandbox/v1/webhooks") == []


def test_unknown_placeholder_remains(hub):
    payload = "{{SUBSCRIPTION_NAME}} {{JOB_NAME}} {{WHAT}} {{TRIGGERED_ON}} {{job_id}}"
    create(hub, externalActions=[{"eventType": "WEBHOOKV1", "config": config(payload=payload)}])
    hub.do("Quick check", "start")
    hub.clock.advance(0.001)
    send(hub)
    (call,) = hub.get("/sandbox/v1/webhooks")
    assert call["body"] == f"Airflow Quick check {{{{WHAT}}}} {T0} {{{{job_id}}}}"


def test_calls_beyond_the_limit_are_dropped(hub, caplog):
    create(hub)
    hub.do("Quick check", "start")
    hub.clock.advance(0.001)
    for _ in range(MAX_CALLS + 1):
        send(hub)
    assert caplog.text.count("too many calls wait") == 1
    assert hub.get("/sandbox/v1/webhooks")[-1]["error"] == "too many calls wait"


def test_reset_removes_subscriptions(hub):
    create(hub)
    hub.do("Quick check", "start")
    hub.clock.advance(0.001)
    send(hub)
    assert hub.http.post("/sandbox/v1/reset").status_code == 200
    assert (hub.get(EVENTSUB), hub.get("/sandbox/v1/webhooks")) == ([], [])
