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
from tests.unit.control_hub.wire_examples import HUB, JOB_ID, token_of

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


def test_a_request_that_was_refused_is_sent_again_with_the_newer_credential(client, server, renewals):
    assert client.jobs.get(JOB_ID).name == "Orders"
    assert server.sent == [("na01.hub.example.com", OLD), ("other.hub.example.com", NEW)]
    assert renewals == [client]
    assert (client.base_url, client.bulk_size) == (OTHER_HUB, 7)
    assert client.job_url("j").startswith(OTHER_HUB)


def test_a_start_that_was_refused_is_sent_again_as_it_had_no_effect(client, server, http):
    server.accepted = {OLD}
    job = client.jobs.get(JOB_ID)
    server.accepted = {NEW}
    started = {"id": "run", "jobId": JOB_ID, "runCount": 1, "status": "ACTIVATING", "startTime": 1}
    refused = http.post(f"{HUB}{JOB}{JOB_ID}/start", status_code=401)
    done = http.post(f"{OTHER_HUB}{JOB}{JOB_ID}/start", json=started)
    http.get(f"{HUB}/security/rest/v1/currentUser", json={"principalId": "me@org"})
    assert client.runs.start(job).run_count == 1
    assert (refused.call_count, done.call_count) == (1, 1)


def test_threads_that_are_refused_together_have_it_replaced_once(make_client, server):
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


def test_a_client_with_limits_keeps_them_with_the_newer_credential(client, server, http):
    limited = client.with_options(max_attempts=1)
    assert limited.jobs.get(JOB_ID).name == "Orders"
    outage = http.get(f"{OTHER_HUB}{JOB}{JOB_ID}", status_code=503)
    with pytest.raises(ControlHubUnavailableError):
        limited.jobs.get(JOB_ID)
    assert outage.call_count == 1


def test_the_same_credential_is_tried_again_as_often_as_the_callback_says(make_client, server):
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


def test_a_client_of_a_process_that_follows_another_can_be_told_that_the_credential_was_accepted(make_client, server):
    server.accepted = {NEW}
    client = make_client(token=OLD, on_unauthorized=lambda *_: make_client(OTHER_HUB, token=NEW))
    client.mark_accepted()
    assert client.jobs.get(JOB_ID).name == "Orders"


def test_a_client_in_a_hurry_has_nothing_replaced(client, renewals):
    with pytest.raises(ControlHubAuthenticationError):
        client.with_options(timeout=5).jobs.get(JOB_ID)
    assert not renewals


def test_a_credential_that_was_never_accepted_is_an_error_at_once(make_client, server):
    asked: list[Any] = []
    client = make_client(token=NEW, on_unauthorized=lambda *refused: asked.append(refused))
    with pytest.raises(ControlHubAuthenticationError):
        client.jobs.get(JOB_ID)
    assert not asked


def test_what_ends_the_replacement_ends_the_request(make_client, server):
    def refuse(refused: ControlHubClient, error: ControlHubAuthenticationError, refusals: int) -> ControlHubClient:
        raise ControlHubAuthenticationError("there is no newer one")

    client = make_client(token=OLD, on_unauthorized=refuse)
    client.jobs.get(JOB_ID)
    server.accepted = set()
    with pytest.raises(ControlHubAuthenticationError, match="there is no newer one"):
        client.jobs.get(JOB_ID)


def test_the_credential_is_called_in_messages_what_it_is_called(make_client, http):
    http.get(f"{HUB}{JOB}{JOB_ID}", status_code=401)
    client: ControlHubClient = make_client(credential_name="The credential of the night shift")
    with pytest.raises(ControlHubAuthenticationError, match=r"\. The credential of the night shift was refused: "):
        client.jobs.get(JOB_ID)


OF_A, OF_B = token_of({"s": "1", "o": "a"}), token_of({"s": "1", "o": "b"})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ((HUB, OF_A), (HUB, token_of({"s": "2", "o": "a"})), True),
        ((HUB, OF_A), (OTHER_HUB, OF_A), True),
        ((None, OF_A), (HUB, OF_A), True),
        ((HUB, OF_A), (HUB, OF_B), False),
        ((HUB, OF_A), (HUB, NEW), False),
        ((HUB, OLD), (HUB, OF_A), False),
        ((HUB, OLD), (HUB, NEW), True),
        ((HUB, OLD), (OTHER_HUB, NEW), False),
    ],
)
def test_tokens_tell_whether_clients_are_of_the_same_organization(make_client, one, other, same):
    client, newer = (make_client(base_url, token=token) for base_url, token in (one, other))
    assert newer.is_of_same_organization(client) is same


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
def test_clients_are_alike_if_a_refusal_of_one_is_one_of_the_other(
    make_client: Callable[..., ControlHubClient], change: dict[str, Any], alike: bool
):
    client = make_client(token=OLD)
    assert client.same_identity(make_client(**{"token": OLD, **change})) is alike
    assert client.with_options(timeout=3).same_identity(client)
