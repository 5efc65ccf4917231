"""An organization that has moved: Control Hub answers 308 and names the new place."""

from __future__ import annotations

import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubError,
    ControlHubUnavailableError,
    ControlHubUnexpectedResponseError,
)
from tests.unit.fakes.api_payloads import (
    CREDENTIAL_ID,
    CURRENT,
    HUB,
    JOB,
    JOB_ID,
    SIBLING,
    START,
    STATUSES,
    TOKEN,
    job_json,
    query,
    run_json,
)


def _there(url: str, base: str = SIBLING) -> str:
    return url.replace(HUB, base)


def _moved_to(url: str) -> dict:
    return {"status_code": 308, "headers": {"Location": url}}


def test_redirect_keeps_method_body_and_credential(http, make_client):
    http.post(STATUSES, **_moved_to(_there(STATUSES)))
    http.post(_there(STATUSES), json={JOB_ID: run_json(3)})
    client = make_client(project_id="project-1")
    assert client.runs.statuses([JOB_ID])[JOB_ID].run_count == 3
    first, second = http.request_history
    assert (second.method, second.json(), query(second)) == ("POST", [JOB_ID], {"project": "project-1"})
    assert first.json() == second.json()
    assert second.headers["X-SS-App-Component-Id"] == CREDENTIAL_ID
    assert second.headers["X-SS-App-Auth-Token"] == TOKEN
    assert second.headers["X-Requested-By"]


def test_redirect_keeps_own_path_and_query(http, client):
    http.get(CURRENT, **_moved_to(f"{SIBLING}/somewhere?else=1#x"))
    http.get(_there(CURRENT), json=run_json())
    client.runs.current(JOB_ID)
    assert http.last_request.url == _there(CURRENT)


def test_redirected_start_is_sent_once(http, client):
    http.get(JOB, json=job_json())
    http.post(START, **_moved_to(_there(START)))
    http.post(_there(START), json=run_json(1, "ACTIVATING"))
    assert client.runs.start(JOB_ID, {"A": "b"}).run_count == 1
    assert [r.json() for r in http.request_history[1:]] == [{"DIRECTORY": "/data/in", "SIZE": "1000", "A": "b"}] * 2


def test_redirect_is_remembered(http, client):
    http.get(CURRENT, **_moved_to(_there(CURRENT)))
    http.get(_there(CURRENT), json=run_json())
    client.runs.current(JOB_ID)
    client.runs.current(JOB_ID)
    client.with_options(timeout=1).runs.current(JOB_ID)
    assert [r.hostname for r in http.request_history] == ["na01.hub.example.com"] + ["eu01.hub.example.com"] * 3
    assert client.base_url == SIBLING
    assert client.job_url(JOB_ID) == f"{SIBLING}/sch/jobs/detail/{JOB_ID}"


def test_redirect_keeps_base_path(http, make_client):
    http.get(_there(CURRENT, f"{HUB}/base"), **_moved_to(_there(CURRENT, f"{SIBLING}/base")))
    http.get(_there(CURRENT, f"{SIBLING}/base"), json=run_json())
    client = make_client(f"{HUB}/base")
    client.runs.current(JOB_ID)
    client.runs.current(JOB_ID)
    assert client.base_url == f"{SIBLING}/base"


@pytest.mark.parametrize(
    "location",
    [
        "https://attacker.example.net/jobrunner/rest",
        "https://hub.example.com/",
        "http://na01.hub.example.com/",
        "http://eu01.hub.example.com/",
        "https://attacker.net@eu01.hub.example.com/",
        "https://user:password@na01.hub.example.com/",
        "https://[::1",
        "/elsewhere",
        "",
    ],
)
def test_untrusted_redirect_is_refused(http, client, location):
    http.post(START, **_moved_to(location))
    http.get(JOB, json=job_json())
    http.get(CURRENT, json=run_json())
    with pytest.raises(
        ControlHubUnexpectedResponseError, match=r"the organization has moved\. Refusing to send.*set it"
    ) as caught:
        client.runs.start(JOB_ID)
    assert caught.value.http_status == 308
    assert "password" not in str(caught.value)
    assert [r.method for r in http.request_history] == ["GET", "POST"]
    assert {(r.scheme, r.hostname) for r in http.request_history} == {("https", "na01.hub.example.com")}
    assert client.base_url == HUB


def test_redirect_without_location_raises(http, client):
    http.get(CURRENT, status_code=308)
    with pytest.raises(ControlHubUnexpectedResponseError):
        client.runs.current(JOB_ID)


def test_redirect_loop_is_abandoned(http, client, clock):
    http.get(CURRENT, **_moved_to(_there(CURRENT)))
    http.get(_there(CURRENT), **_moved_to(CURRENT))
    with pytest.raises(ControlHubUnexpectedResponseError, match="redirected the request more than 3 times"):
        client.runs.current(JOB_ID)
    assert http.call_count == 4
    assert clock.slept == []


@pytest.mark.parametrize("status", [301, 302, 303, 307])
def test_other_redirects_are_not_followed(http, client, status):
    http.get(CURRENT, status_code=status, headers={"Location": _there(CURRENT)})
    with pytest.raises(ControlHubUnexpectedResponseError, match=r"redirects to 'https://eu01") as caught:
        client.runs.current(JOB_ID)
    assert caught.value.http_status == status
    assert http.call_count == 1
    assert {r.hostname for r in http.request_history} == {"na01.hub.example.com"}


@pytest.mark.parametrize("port", ["", ":8443"])
def test_redirect_from_http_to_https_names_url(http, make_client, port):
    http.get(
        CURRENT.replace("https://", "http://"),
        status_code=301,
        headers={"Location": f"https://na01.hub.example.com{port}/x"},
    )
    with pytest.raises(ControlHubUnexpectedResponseError, match=rf"'https://na01\.hub\.example\.com{port}'\. Use that"):
        make_client("http://na01.hub.example.com").runs.current(JOB_ID)
    assert http.call_count == 1


def test_redirect_after_success_is_an_outage(http, client):
    http.get(JOB, json=job_json())
    http.post(START, status_code=302, headers={"Location": "https://login.example.com/saml"})
    job = client.jobs.get(JOB_ID)
    with pytest.raises(ControlHubUnavailableError, match="a login page or proxy in front of it must let") as caught:
        client.runs.start(job)
    assert caught.value.maybe_executed is False
    assert {r.hostname for r in http.request_history} == {"na01.hub.example.com"}


def test_redirect_to_invalid_url_raises(http, client):
    http.get(CURRENT, status_code=302, headers={"Location": "https://[::1"})
    with pytest.raises(ControlHubUnexpectedResponseError):
        client.runs.current(JOB_ID)


def test_error_after_redirect_is_raised(http, client):
    http.get(CURRENT, **_moved_to(_there(CURRENT)))
    http.get(_there(CURRENT), status_code=404)
    with pytest.raises(ControlHubError, match="returned 404"):
        client.runs.current(JOB_ID)
