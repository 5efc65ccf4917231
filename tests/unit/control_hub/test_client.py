from __future__ import annotations

import io
import re
import threading

import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubClient,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubUnavailableError,
    ControlHubUnexpectedResponseError,
)
from tests.unit.fakes.api_payloads import (
    COUNTS,
    CREDENTIAL_ID,
    CURRENT,
    HISTORY,
    HUB,
    JOB,
    JOB_ID,
    JOBS,
    JR,
    LANDING,
    LOGIN,
    LOOKUP,
    ORGANIZATION,
    SEC,
    START,
    STATUSES,
    TOKEN,
    events_url,
    issues_json,
    job_json,
    make_token,
    page_json,
    payload,
    query,
    run_json,
    succeeded,
)


def _landing(hub: str = HUB) -> dict:
    return {"data": {"landingUrl": f"{hub}{LANDING}", "name": "Example org"}}


def test_hub_is_found_from_token_organization(http, make_client):
    http.get(LOOKUP, json=_landing())
    assert make_client(None, login_url=LOGIN).base_url == HUB


def test_example_login_service_response_is_parsed(http, make_client):
    http.get(LOOKUP, json=payload("login-service-org-info"))
    assert make_client(None, login_url=LOGIN).base_url == "https://na01.hub.streamsets.com"


def test_cloud_login_service_is_the_default(http, make_client):
    http.get(LOOKUP.replace(LOGIN, "https://cloud.login.streamsets.com"), json=_landing())
    assert make_client(None).base_url == HUB


def test_login_service_receives_no_credential(http, make_client):
    http.get(LOOKUP, json=_landing())
    assert make_client(None, login_url=LOGIN, project_id="project-1").base_url == HUB
    headers = http.last_request.headers
    assert {name for name in headers if name.lower().startswith("x-ss-")} == {"X-SS-REST-CALL"}
    assert TOKEN not in str(headers)
    assert CREDENTIAL_ID not in str(headers)
    assert query(http.last_request) == {}
    assert headers["X-Requested-By"]


def test_hub_lookup_is_lazy_and_cached(http, make_client):
    http.get(LOOKUP, json=_landing())
    http.get(CURRENT, json=run_json())
    client = make_client(None, login_url=LOGIN)
    assert http.call_count == 0
    client.runs.current(JOB_ID)
    client.runs.current(JOB_ID)
    client.with_options(timeout=1).runs.current(JOB_ID)
    assert [r.url for r in http.request_history] == [LOOKUP, CURRENT, CURRENT, CURRENT]


def test_concurrent_lookups_send_one_request(http, make_client):
    http.get(LOOKUP, json=_landing())
    client = make_client(None, login_url=LOGIN)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(client.base_url)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [HUB] * 8
    assert http.call_count == 1


def test_failed_lookup_is_retried_and_not_cached(http, make_client):
    http.get(LOOKUP, [{"status_code": 503}, {"status_code": 503}, {"json": _landing()}])
    client = make_client(None, login_url=LOGIN, max_attempts=2)
    with pytest.raises(ControlHubUnavailableError):
        _ = client.base_url
    assert client.base_url == HUB


def test_given_base_url_skips_lookup(http, client):
    http.get(CURRENT, json=run_json())
    client.runs.current(JOB_ID)
    assert http.call_count == 1


def test_lookup_quotes_organization(http, make_client):
    http.get(f"{LOGIN}/api/security/public/v3/orgs/a%2Fb%3Fc/info", json=_landing())
    assert make_client(None, login_url=LOGIN, token=make_token({"o": "a/b?c"})).base_url == HUB


def test_unknown_organization_error_suggests_base_url(http, make_client):
    http.get(LOOKUP, status_code=404, json=issues_json(("ORG_1", "unknown")))
    with pytest.raises(ControlHubNotFoundError, match=rf"{ORGANIZATION}.*Set the Control Hub URL") as caught:
        _ = make_client(None, login_url=LOGIN).base_url
    assert caught.value.http_status == 404
    assert caught.value.codes == ("ORG_1",)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"data": None},
        {"data": []},
        {"data": {}},
        {"data": {"landingUrl": None}},
        {"data": {"landingUrl": 5}},
        {"data": {"landingUrl": ""}},
        {"data": {"landingUrl": HUB}},
        {"data": {"landingUrl": f"{HUB}{LANDING}/more"}},
        {"data": {"landingUrl": LANDING}},
        {"data": {"landingUrl": f"https://user:password@hub.example.com{LANDING}"}},
        {"data": {"landingUrl": f"https://[::1{LANDING}"}},
    ],
)
def test_lookup_without_hub_raises(http, make_client, answer):
    http.get(LOOKUP, json=answer)
    with pytest.raises(ControlHubError) as caught:
        _ = make_client(None, login_url=LOGIN).base_url
    assert "password" not in str(caught.value)


def test_login_service_redirect_is_not_followed(http, make_client):
    http.get(LOOKUP, status_code=308, headers={"Location": LOOKUP.replace("login.", "other.")})
    with pytest.raises(ControlHubUnexpectedResponseError):
        _ = make_client(None, login_url=LOGIN).base_url
    assert http.call_count == 1


def test_current_user_is_parsed(http, client):
    http.get(f"{SEC}/currentUser", json=payload("current-user"))
    user = client.current_user()
    assert user.name == "Airflow service account"
    assert user.organization_name == "Example org"
    assert "jobrunner:operator" in user.roles


def test_project_names_are_read_by_id(http, client):
    http.get(f"{SEC}/projects", json=[{"id": "p1", "name": "Sales"}, {"id": "p2", "name": None}])
    assert client.project_names() == {"p1": "Sales", "p2": ""}
    assert http.last_request.qs == {"offset": ["0"], "len": ["-1"]}


@pytest.mark.parametrize("answer", [[], "me", {"roles": "admin"}])
def test_invalid_current_user_raises(http, client, answer):
    http.get(f"{SEC}/currentUser", json=answer)
    with pytest.raises(ControlHubUnexpectedResponseError):
        client.current_user()


def test_project_is_sent_only_to_job_runner(http, make_client):
    http.get(JOB, json=job_json())
    http.get(JOBS, json=page_json(job_json()))
    http.post(JOBS, json=[])
    http.post(START, json=run_json(1, "ACTIVATING"))
    http.post(f"{JOB}/stop", json=None)
    http.post(f"{JOB}/forceStop", json=None)
    http.post(f"{JOBS}/resetOffset", json=None)
    http.get(CURRENT, json=succeeded())
    http.post(STATUSES, json={})
    http.get(HISTORY, json=page_json())
    http.get(events_url(), json=[])
    http.get(COUNTS, json={})
    http.get(f"{SEC}/currentUser", json={})
    client = make_client(project_id="project-1")
    client.runs.start(JOB_ID)
    client.jobs.get_many([JOB_ID])
    list(client.jobs.list())
    client.runs.stop(JOB_ID)
    client.runs.force_stop(JOB_ID)
    client.runs.current(JOB_ID)
    client.runs.statuses([JOB_ID])
    client.runs.history(JOB_ID)
    client.runs.events(succeeded()["id"])
    client.offsets.reset([JOB_ID])
    client.metrics.all_runs(JOB_ID)
    client.current_user()
    assert http.call_count == 13
    for request in http.request_history:
        in_project = request.url.startswith(JR)
        assert query(request).get("project") == ("project-1" if in_project else None), request.url


@pytest.mark.parametrize("project_id", [None, ""])
def test_no_project_is_sent_by_default(http, make_client, project_id):
    http.get(CURRENT, json=run_json())
    make_client(project_id=project_id).runs.current(JOB_ID)
    assert query(http.last_request) == {}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"timeout": 0}, "'timeout'"),
        ({"timeout": -1}, "'timeout'"),
        ({"timeout": (10, 0)}, "'timeout'"),
        ({"timeout": (-1, 60)}, "'timeout'"),
        ({"timeout": (1, 2, 3)}, "'timeout'"),
        ({"timeout": ()}, "'timeout'"),
        ({"timeout": "10"}, "'timeout'"),
        ({"timeout": True}, "'timeout'"),
        ({"timeout": None}, "'timeout'"),
        ({"timeout": float("nan")}, "'timeout'"),
        ({"timeout": float("inf")}, "'timeout'"),
        ({"timeout": 1e18}, "'timeout'"),
        ({"verify": "/does/not/exist.pem"}, "'/does/not/exist.pem' does not exist"),
        ({"verify": ""}, "'verify'"),
        ({"job_link": "/sch/jobs/{job_id}"}, "'job_link'"),
        ({"job_link": "{hub}/{job}"}, "'job_link'"),
        ({"job_link": "{hub}/{}"}, "'job_link'"),
        ({"job_link": "{hub}/{job_id"}, "'job_link'"),
        ({"job_link": "{hub}/{job_id.secret}"}, "'job_link'"),
        ({"job_link": "{hub[a]}/{job_id}"}, "'job_link'"),
        ({"job_link": "javascript:{hub}{job_id}"}, "'job_link'"),
        ({"base_url": "https://a host"}, "Control Hub URL is invalid"),
        ({"base_url": "ftp://hub.example.com"}, "Control Hub URL is invalid"),
        ({"login_url": "https://"}, r"Login service URL \('login_url'\) is invalid"),
        ({"max_attempts": 0}, "'max_attempts'"),
        ({"bulk_size": 0}, "'bulk_size'"),
    ],
)
def test_invalid_setting_is_rejected(make_client, setting, message):
    with pytest.raises(ControlHubConfigurationError, match=message):
        make_client(**setting)


def test_single_timeout_covers_connect_and_read(http, make_client):
    http.get(CURRENT, json=run_json())
    make_client(timeout=5).runs.current(JOB_ID)
    assert http.last_request.timeout == (5.0, 5.0)


def test_job_url_follows_pattern(make_client):
    assert make_client().job_url("a b:o") == f"{HUB}/sch/jobs/detail/a%20b:o"
    assert make_client(job_link="{hub}/ui?job={job_id}").job_url("j:o") == f"{HUB}/ui?job=j:o"
    assert make_client(job_link="https://ui.example.com/{job_id}").job_url("j:o") == "https://ui.example.com/j:o"


def test_with_options_keeps_other_settings(http, make_client, clock, tmp_path):
    client = make_client(
        timeout=(3, 7),
        project_id="project-1",
        verify=str(tmp_path),
        proxies={"https": "http://proxy.example.com:3128"},
        job_link="{hub}/job/{job_id}",
        bulk_size=1,
    )
    limited = client.with_options(timeout=2)
    http.post(STATUSES, [{"json": {}}, {"json": {}}, {"status_code": 503}])
    limited.runs.statuses(["a:o", "b:o"])
    assert [r.json() for r in http.request_history] == [["a:o"], ["b:o"]]
    request = http.last_request
    assert request.timeout == (2.0, 2.0)
    assert request.verify == str(tmp_path)
    assert request.proxies["https"] == "http://proxy.example.com:3128"
    assert request.headers["X-SS-App-Auth-Token"] == TOKEN
    assert query(request) == {"project": "project-1"}
    assert limited.job_url("j:o") == f"{HUB}/job/j:o"
    with pytest.raises(ControlHubUnavailableError):
        limited.runs.statuses([JOB_ID])
    assert http.call_count == 3
    assert clock.slept == []


def test_with_options_sets_max_attempts(http, client, clock):
    http.get(CURRENT, status_code=503)
    with pytest.raises(ControlHubUnavailableError):
        client.with_options(timeout=1, max_attempts=2).runs.current(JOB_ID)
    assert http.call_count == 2
    assert len(clock.slept) == 1


def test_with_options_keeps_original_client(http, make_client):
    http.get(CURRENT, json=run_json())
    client = make_client(timeout=(3, 7))
    client.with_options(timeout=1).close()
    client.runs.current(JOB_ID)
    assert http.last_request.timeout == (3.0, 7.0)


@pytest.mark.parametrize(
    ("left", "timeout"),
    [(500, (20, 60)), (40, (20, 40)), (12, (12, 12)), (4, (10, 10)), (0, (10, 10)), (-4, (6, 6)), (-60, (1, 1))],
)
def test_wait_deadline_shortens_timeouts(http, make_client, left, timeout):
    http.post(STATUSES, json={})
    client = make_client(timeout=(20, 60))
    with client.within(lambda: left):
        client.runs.statuses([JOB_ID])
    assert http.last_request.timeout == timeout
    client.runs.statuses([JOB_ID])
    assert http.last_request.timeout == (20, 60)


def test_reads_are_not_retried_after_wait_deadline(http, make_client):
    http.post(STATUSES, status_code=503)
    client = make_client()
    with client.within(lambda: 5 - 3 * http.call_count), pytest.raises(ControlHubUnavailableError):
        client.runs.statuses([JOB_ID])
    assert http.call_count == 2


def test_wait_deadline_spares_balance_and_archives(http, make_client):
    http.post(re.compile("/jobs/(balanceJobs|exportJobs)"), content=b"")
    client = make_client(timeout=(20, 60))
    with client.within(lambda: 1):
        client.runs.balance([JOB_ID])
        assert http.last_request.timeout == (20, 60)
        with pytest.raises(ControlHubError):
            client.archives.export_jobs([JOB_ID], io.BytesIO())
    assert http.last_request.timeout == (20, 60)


def test_closed_client_can_be_reused(http):
    http.get(CURRENT, json=run_json(2))
    with ControlHubClient(HUB, CREDENTIAL_ID, TOKEN) as client:
        assert client.runs.current(JOB_ID).run_count == 2
    assert client.runs.current(JOB_ID).run_count == 2


def test_repr_shows_base_url(http, make_client):
    http.get(LOOKUP, json=_landing())
    client = make_client(None, login_url=LOGIN)
    assert "not looked up yet" in repr(client)
    assert client.base_url in repr(client)


def test_missing_credential_raises():
    with pytest.raises(ControlHubAuthenticationError):
        ControlHubClient(HUB, "", TOKEN)


def test_lookup_rejects_plain_http_hub(http, make_client):
    http.get(LOOKUP, json=_landing("http://na01.hub.example.com"))
    client = make_client(None, login_url=LOGIN)
    with pytest.raises(
        ControlHubUnexpectedResponseError, match="Refusing to send the credential to a URL that is not https"
    ):
        client.current_user()
    assert [request.url for request in http.request_history] == [LOOKUP]


def test_netrc_is_ignored(http, make_client, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login another-user password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    http.get(CURRENT, json=run_json())
    make_client().runs.current(JOB_ID)
    assert "Authorization" not in http.last_request.headers


def test_lookup_does_not_mark_credential_accepted(http, make_client):
    refused = []
    http.get(LOOKUP, status_code=404, json=issues_json(("X_1", "No")))
    client = make_client(None, login_url=LOGIN, on_unauthorized=lambda *arguments: refused.append(arguments))
    with pytest.raises(ControlHubNotFoundError):
        client.current_user()
    http.get(LOOKUP, json=_landing())
    http.get(f"{SEC}/currentUser", status_code=401)
    with pytest.raises(ControlHubAuthenticationError):
        client.current_user()
    assert refused == []
