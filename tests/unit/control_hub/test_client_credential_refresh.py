from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubClient,
    ControlHubUnavailableError,
)
from tests.unit.fakes.api_payloads import HUB, JOB_ID, make_token

JOB = "/jobrunner/rest/v1/job/"
OTHER_HUB = "https://other.hub.example.com"
OLD, NEW = "old-token.", "new-token."


class Server:
    """Answers requests whose token it accepts."""

    def __init__(self, http: Any) -> None:
        self.accepted = {OLD}
        self.sent: list[tuple[str, str]] = []
        """Host and token of each request."""
        self.on_request: Callable[[], Any] = lambda: None
        for hub in (HUB, OTHER_HUB):
            http.get(f"{hub}{JOB}{JOB_ID}", json=self._answer)

    def _answer(self, request: Any, response: Any) -> Any:
        token = request.headers["X-SS-App-Auth-Token"]
        self.sent.append((request.hostname, token))
        self.on_request()
        if token in self.accepted:
            return {"id": JOB_ID, "name": "Orders"}
        response.status_code = 401
        return {}


@pytest.fixture
def server(http) -> Server:
    return Server(http)


@pytest.fixture
def renewals() -> list[ControlHubClient]:
    """The clients whose credential was refused and replaced."""
    return []


@pytest.fixture
def client(make_client, server, renewals) -> ControlHubClient:
    """A client whose old credential was accepted and is not any more; the new one is for another hub."""

    def newer(refused: ControlHubClient, error: ControlHubAuthenticationError, refusals: int) -> ControlHubClient:
        renewals.append(refused)
        return make_client(OTHER_HUB, token=NEW, bulk_size=7)

    client = make_client(token=OLD, on_unauthorized=newer)
    client.jobs.get(JOB_ID)
    server.accepted = {NEW}
    server.sent.clear()
    return client


def test_request_that_waits_for_its_turn_uses_new_credential(make_client, client, server, renewals):
    def wait(send: Callable[[], Any]) -> Any:
        client.adopt(make_client(OTHER_HUB, token=NEW))
        return send()

    client.throttle = wait
    assert client.jobs.get(JOB_ID).name == "Orders"
    assert server.sent == [("other.hub.example.com", NEW)]
    assert not renewals


def test_unauthorized_request_is_resent_with_new_credential(client, server, renewals):
    assert client.jobs.get(JOB_ID).name == "Orders"
    assert server.sent == [("na01.hub.example.com", OLD), ("other.hub.example.com", NEW)]
    assert renewals == [client]
    assert (client.base_url, client.bulk_size) == (OTHER_HUB, 7)
    assert client.job_url("j").startswith(OTHER_HUB)


def test_unauthorized_start_is_resent(client, server, http):
    server.accepted = {OLD}
    job = client.jobs.get(JOB_ID)
    server.accepted = {NEW}
    started = {"id": "run", "jobId": JOB_ID, "runCount": 1, "status": "ACTIVATING", "startTime": 1}
    refused = http.post(f"{HUB}{JOB}{JOB_ID}/start", status_code=401)
    done = http.post(f"{OTHER_HUB}{JOB}{JOB_ID}/start", json=started)
    http.get(f"{HUB}/security/rest/v1/currentUser", json={"principalId": "me@org"})
    assert client.runs.start(job).run_count == 1
    assert (refused.call_count, done.call_count) == (1, 1)


def test_concurrent_unauthorized_requests_refresh_once(make_client, server):
    all_refused = threading.Event()
    renewals: list[ControlHubClient] = []
    names: list[str] = []

    def newer(refused: ControlHubClient, error: ControlHubAuthenticationError, refusals: int) -> ControlHubClient:
        renewals.append(refused)
        assert all_refused.wait(30)
        return make_client(OTHER_HUB, token=NEW)

    client = make_client(token=OLD, on_unauthorized=newer)
    client.jobs.get(JOB_ID)
    server.accepted = {NEW}
    server.sent.clear()
    server.on_request = lambda: len(server.sent) == 4 and all_refused.set()
    threads = [threading.Thread(target=lambda: names.append(client.jobs.get(JOB_ID).name)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert names == ["Orders"] * 4
    assert len(renewals) == 1
    assert server.sent == [("na01.hub.example.com", OLD)] * 4 + [("other.hub.example.com", NEW)] * 4


def test_options_are_kept_with_new_credential(client, server, http):
    limited = client.with_options(max_attempts=1)
    assert limited.jobs.get(JOB_ID).name == "Orders"
    outage = http.get(f"{OTHER_HUB}{JOB}{JOB_ID}", status_code=503)
    with pytest.raises(ControlHubUnavailableError):
        limited.jobs.get(JOB_ID)
    assert outage.call_count == 1


def test_callback_decides_retries_of_same_credential(make_client, server):
    refusals: list[int] = []

    def accepted_at_last(refused: ControlHubClient, error: ControlHubAuthenticationError, count: int) -> None:
        refusals.append(count)
        if count == 2:
            server.accepted = {OLD}

    client = make_client(token=OLD, on_unauthorized=accepted_at_last)
    client.jobs.get(JOB_ID)
    server.accepted = set()
    assert client.jobs.get(JOB_ID).name == "Orders"
    assert client.jobs.get(JOB_ID).name == "Orders"
    assert refusals == [0, 1, 2]


def test_mark_accepted_enables_refresh(make_client, server):
    server.accepted = {NEW}
    client = make_client(token=OLD, on_unauthorized=lambda *_: make_client(OTHER_HUB, token=NEW))
    client.mark_accepted()
    assert client.jobs.get(JOB_ID).name == "Orders"


def test_client_with_short_timeout_does_not_refresh(client, renewals):
    with pytest.raises(ControlHubAuthenticationError):
        client.with_options(timeout=5).jobs.get(JOB_ID)
    assert not renewals


def test_never_accepted_credential_fails_at_once(make_client, server):
    asked: list[Any] = []
    client = make_client(token=NEW, on_unauthorized=lambda *refused: asked.append(refused))
    with pytest.raises(ControlHubAuthenticationError):
        client.jobs.get(JOB_ID)
    assert not asked


def test_refresh_error_ends_request(make_client, server):
    def refuse(refused: ControlHubClient, error: ControlHubAuthenticationError, refusals: int) -> ControlHubClient:
        raise ControlHubAuthenticationError("there is no newer one")

    client = make_client(token=OLD, on_unauthorized=refuse)
    client.jobs.get(JOB_ID)
    server.accepted = set()
    with pytest.raises(ControlHubAuthenticationError, match="there is no newer one"):
        client.jobs.get(JOB_ID)


def test_error_uses_credential_name(make_client, http):
    http.get(f"{HUB}{JOB}{JOB_ID}", status_code=401)
    client: ControlHubClient = make_client(credential_name="The credential of the night shift")
    with pytest.raises(ControlHubAuthenticationError, match=r"\. The credential of the night shift was rejected\. "):
        client.jobs.get(JOB_ID)


OF_A, OF_B = make_token({"s": "1", "o": "a"}), make_token({"s": "1", "o": "b"})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ((HUB, OF_A), (HUB, make_token({"s": "2", "o": "a"})), True),
        ((HUB, OF_A), (OTHER_HUB, OF_A), True),
        ((None, OF_A), (HUB, OF_A), True),
        ((HUB, OF_A), (HUB, OF_B), False),
        ((HUB, OF_A), (HUB, NEW), False),
        ((HUB, OLD), (HUB, OF_A), False),
        ((HUB, OLD), (HUB, NEW), True),
        ((HUB, OLD), (OTHER_HUB, NEW), False),
    ],
)
def test_same_organization_is_derived_from_tokens(make_client, one, other, same):
    client, newer = (make_client(base_url, token=token) for base_url, token in (one, other))
    assert newer.same_organization(client) is same


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        ({}, True),
        ({"timeout": 3, "max_attempts": 1, "bulk_size": 9}, True),
        ({"token": NEW}, False),
        ({"credential_id": "other"}, False),
        ({"base_url": OTHER_HUB}, False),
        ({"project_id": "p"}, False),
        ({"proxies": {"https": "http://proxy.example.com"}}, False),
    ],
)
def test_same_identity_compares_access_settings(
    make_client: Callable[..., ControlHubClient], change: dict[str, Any], alike: bool
):
    client = make_client(token=OLD)
    assert client.same_identity(make_client(**{"token": OLD, **change})) is alike
    assert client.with_options(timeout=3).same_identity(client)
