"""Webhooks of the sandbox, called over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from dev.local_airflow import free_port, wait_until

TOKEN = "t0ken"


class Receiver(ThreadingHTTPServer):
    """Records the requests that it receives."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, str, dict[str, str], dict[str, Any]]] = []
        self.status = 201
        self.is_open = threading.Event()
        self.is_open.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/streamsets/events"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append((self.command, self.path, dict(self.headers), body))
        self.server.is_open.wait(30)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.is_open.set()
        server.shutdown()


@pytest.fixture
def hub() -> Iterator[SandboxProcess]:
    """A sandbox of its own, as subscriptions are about all jobs."""
    with SandboxProcess() as process:
        process.freeze()
        yield process


def run(hub: SandboxProcess, job: str) -> None:
    hub.start_job(job)
    hub.advance(600)


def test_run_calls_webhook_with_token_and_payload(hub, receiver):
    hub.subscribe(receiver.url, TOKEN)
    run(hub, "Quick check")
    wait_until(lambda: len(receiver.received) == 4, "four calls", 20, 0.05)
    for method, path, headers, body in receiver.received:
        assert (method, path) == ("POST", "/streamsets/events")
        assert (headers["Authorization"], headers["Content-Type"]) == (f"Bearer {TOKEN}", "application/json")
        assert set(body) == {"job_id", "from_status", "to_status"}
        assert body["job_id"] == hub.job_id("Quick check")
    assert sorted(body["to_status"] for *_, body in receiver.received) == [
        "ACTIVATING",
        "ACTIVE",
        "DEACTIVATING",
        "INACTIVE",
    ]
    wait_until(lambda: all(call["status"] == 201 for call in hub.webhooks()), "the results", 20, 0.05)
    assert [call["error"] for call in hub.webhooks()] == [None] * 4


def test_failed_calls_are_logged_and_not_repeated(hub, receiver):
    receiver.status = 401
    hub.subscribe(receiver.url, TOKEN)
    hub.subscribe(f"http://127.0.0.1:{free_port()}/closed", TOKEN)
    run(hub, "Quick check")
    wait_until(lambda: sum(bool(call["error"]) for call in hub.webhooks()) == 8, "the errors", 20, 0.05)
    assert len(receiver.received) == 4
    assert "status 401" in hub.errors
    assert "/closed" in hub.errors
    assert TOKEN not in hub.errors


def test_invalid_header_field_stops_no_thread(hub, receiver):
    config = {"uri": receiver.url, "method": "POST", "headers": {"Gr\u00f6\u00dfe": "x"}}
    for number in range(2):
        subscription = {
            "name": f"Invalid {number}",
            "events": [{"eventType": "JOB_STATUS_CHANGE"}],
            "externalActions": [{"eventType": "WEBHOOKV1", "config": json.dumps(config)}],
        }
        assert hub.call("PUT", "/notification/rest/v1/eventsub/createEventSub", subscription).ok
    hub.subscribe(receiver.url, TOKEN)
    run(hub, "Quick check")
    wait_until(lambda: len(receiver.received) == 4, "four calls", 20, 0.05)
    assert sum("codec" in (call["error"] or "") for call in hub.webhooks()) == 8


def test_slow_receiver_delays_no_request(hub, receiver):
    receiver.is_open.clear()
    hub.subscribe(receiver.url, TOKEN)
    for job in ("Quick check", "Inventory snapshot", "Orders to warehouse"):
        run(hub, job)
    wait_until(lambda: receiver.received, "the first call", 20, 0.05)
    assert hub.job_state("Orders to warehouse")["status"] == "INACTIVE"
    receiver.is_open.set()
    wait_until(lambda: len(receiver.received) == 12, "all calls", 20, 0.05)


def test_subscription_survives_restart(tmp_path, receiver):
    with SandboxProcess(state=tmp_path / "state") as hub:
        hub.freeze()
        hub.subscribe(receiver.url, TOKEN)
        run(hub, "Quick check")
        wait_until(lambda: len(receiver.received) == 4, "four calls", 20, 0.05)
        hub.kill()
        hub.restart()
        assert len(hub.call("GET", "/notification/rest/v1/eventsub").json()) == 1
        run(hub, "Inventory snapshot")
        wait_until(lambda: len(receiver.received) == 8, "the calls of the second run", 20, 0.05)
        assert {body["job_id"] for *_, body in receiver.received[4:]} == {hub.job_id("Inventory snapshot")}


def test_official_sdk_creates_and_deletes_subscription(other_hub, other_sandbox, receiver):
    builder = other_hub.get_subscription_builder()
    builder.add_event(event_type="Job Status Change")
    builder.set_webhook_action(
        uri=receiver.url,
        method="POST",
        content_type="application/json",
        payload='{"job_id": "{{JOB_ID}}"}',
        auth_type="bearerToken",
        bearer_token=TOKEN,
    )
    other_hub.add_subscription(builder.build(name="Airflow"))
    (subscription,) = other_hub.subscriptions
    assert (subscription.name, subscription.enabled) == ("Airflow", True)
    assert subscription.events[0].event_type == "Job Status Change"
    other_sandbox.start_job("Quick check")
    wait_until(lambda: receiver.received, "a call", 20, 0.05)
    assert receiver.received[0][3] == {"job_id": other_sandbox.job_id("Quick check")}
    other_hub.delete_subscription(subscription)
    assert list(other_hub.subscriptions) == []
