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
    ControlHubUnexpectedAnswerError,
)
from tests.unit.control_hub.wire_examples import (
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
    page_json,
    payload,
    query,
    run_json,
    succeeded,
    token_of,
)


def _landing(hub: str = HUB) -> dict:
    return {"data": {"landingUrl": f"{hub}{LANDING}", "name": "Example org"}}


def test_the_hub_is_found_from_the_organization_in_the_token(http, make_client):
    http.get(LOOKUP, json=_landing())
    assert make_client(None, login_url=LOGIN).base_url == HUB


def test_the_example_answer_of_the_login_service_is_read(http, make_client):
    http.get(LOOKUP, json=payload("login-service-org-info"))
    assert make_client(None, login_url=LOGIN).base_url == "https://na01.hub.streamsets.com"


def test_the_login_service_of_the_cloud_is_asked_by_default(http, make_client):
    http.get(LOOKUP.replace(LOGIN, "https://cloud.login.streamsets.com"), json=_landing())
    assert make_client(None).base_url == HUB


def test_the_login_service_is_not_sent_the_credential(http, make_client):
    http.get(LOOKUP, json=_landing())
    assert make_client(None, login_url=LOGIN, project_id="project-1").base_url == HUB
    headers = http.last_request.headers
    assert {name for name in headers if name.lower().startswith("x-ss-")} == {"X-SS-REST-CALL"}
    assert TOKEN not in str(headers)
    assert CREDENTIAL_ID not in str(headers)
    assert query(http.last_request) == {}
    assert headers["X-Requested-By"]


def test_the_hub_is_looked_up_once_and_only_when_it_is_needed(http, make_client):
    http.get(LOOKUP, json=_landing())
    http.get(CURRENT, json=run_json())
    client = make_client(None, login_url=LOGIN)
    assert http.call_count == 0
    client.runs.current(JOB_ID)
    client.runs.current(JOB_ID)
    client.with_options(timeout=1).runs.current(JOB_ID)
    assert [r.url for r in http.request_history] == [LOOKUP, CURRENT, CURRENT, CURRENT]


def test_several_threads_look_the_hub_up_once(http, make_client):
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


def test_the_lookup_is_repeated_like_any_read_and_a_failed_one_is_not_remembered(http, make_client):
    http.get(LOOKUP, [{"status_code": 503}, {"status_code": 503}, {"json": _landing()}])
    client = make_client(None, login_url=LOGIN, max_attempts=2)
    with pytest.raises(ControlHubUnavailableError):
        _ = client.base_url
    assert client.base_url == HUB


def test_a_given_address_is_not_looked_up(http, client):
    http.get(CURRENT, json=run_json())
    client.runs.current(JOB_ID)
    assert http.call_count == 1


def test_an_organization_is_quoted_in_the_lookup(http, make_client):
    http.get(f"{LOGIN}/api/security/public/v3/orgs/a%2Fb%3Fc/info", json=_landing())
    assert make_client(None, login_url=LOGIN, token=token_of({"o": "a/b?c"})).base_url == HUB


def test_an_organization_that_the_login_service_does_not_know_is_told_with_what_to_do(http, make_client):
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
def test_a_lookup_that_names_no_hub_is_an_error_of_the_family(http, make_client, answer):
    http.get(LOOKUP, json=answer)
    with pytest.raises(ControlHubError) as caught:
        _ = make_client(None, login_url=LOGIN).base_url
    assert "password" not in str(caught.value)


def test_a_login_service_that_redirects_is_not_followed(http, make_client):
    http.get(LOOKUP, status_code=308, headers={"Location": LOOKUP.replace("login.", "other.")})
    with pytest.raises(ControlHubUnexpectedAnswerError):
        _ = make_client(None, login_url=LOGIN).base_url
    assert http.call_count == 1


def test_the_current_user_is_read(http, client):
    http.get(f"{SEC}/currentUser", json=payload("current-user"))
    user = client.current_user()
    assert user.name == "Airflow service account"
    assert user.organization_name == "Example org"
    assert "jobrunner:operator" in user.roles


@pytest.mark.parametrize("answer", [[], "me", {"roles": "admin"}])
def test_a_current_user_that_is_none_is_an_unexpected_answer(http, client, answer):
    http.get(f"{SEC}/currentUser", json=answer)
    with pytest.raises(ControlHubUnexpectedAnswerError):
        client.current_user()


def test_the_project_goes_to_the_applications_that_know_projects_and_to_no_other(http, make_client):
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
def test_without_a_project_no_request_names_one(http, make_client, project_id):
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
        ({"verify": "/does/not/exist.pem"}, "'/does/not/exist.pem', which does not exist"),
        ({"verify": ""}, "'verify'"),
        ({"job_link": "/sch/jobs/{job_id}"}, "'job_link'"),
        ({"job_link": "{hub}/{job}"}, "'job_link'"),
        ({"job_link": "{hub}/{}"}, "'job_link'"),
        ({"job_link": "{hub}/{job_id"}, "'job_link'"),
        ({"job_link": "{hub}/{job_id.secret}"}, "'job_link'"),
        ({"job_link": "{hub[a]}/{job_id}"}, "'job_link'"),
        ({"job_link": "javascript:{hub}{job_id}"}, "'job_link'"),
        ({"base_url": "https://a host"}, "no address for the Control Hub"),
        ({"base_url": "ftp://hub.example.com"}, "no address for the Control Hub"),
        ({"login_url": "https://"}, "no address for the login service"),
        ({"max_attempts": 0}, "'max_attempts'"),
        ({"bulk_size": 0}, "'bulk_size'"),
    ],
)
def test_a_setting_that_cannot_be_right_is_refused_before_anything_is_sent(make_client, setting, message):
    with pytest.raises(ControlHubConfigurationError, match=message):
        make_client(**setting)


def test_one_time_out_counts_for_connecting_and_for_waiting(http, make_client):
    http.get(CURRENT, json=run_json())
    make_client(timeout=5).runs.current(JOB_ID)
    assert http.last_request.timeout == (5.0, 5.0)


def test_the_link_to_a_job_follows_the_pattern(make_client):
    assert make_client().job_url("a b:o") == f"{HUB}/sch/jobs/detail/a%20b:o"
    assert make_client(job_link="{hub}/ui?job={job_id}").job_url("j:o") == f"{HUB}/ui?job=j:o"
    assert make_client(job_link="https://ui.example.com/{job_id}").job_url("j:o") == "https://ui.example.com/j:o"


def test_a_client_with_limits_is_the_same_but_for_them(http, make_client, clock, tmp_path):
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


def test_a_client_with_limits_may_be_allowed_more_attempts(http, client, clock):
    http.get(CURRENT, status_code=503)
    with pytest.raises(ControlHubUnavailableError):
        client.with_options(timeout=1, max_attempts=2).runs.current(JOB_ID)
    assert http.call_count == 2
    assert len(clock.slept) == 1


def test_a_client_with_limits_leaves_the_first_one_as_it_was(http, make_client):
    http.get(CURRENT, json=run_json())
    client = make_client(timeout=(3, 7))
    client.with_options(timeout=1).close()
    client.runs.current(JOB_ID)
    assert http.last_request.timeout == (3.0, 7.0)


@pytest.mark.parametrize(
    ("left", "timeout"),
    [(500, (20, 60)), (40, (20, 40)), (12, (12, 12)), (4, (10, 10)), (0, (10, 10)), (-4, (6, 6)), (-60, (1, 1))],
)
def test_deadline_of_wait_shortens_timeouts(http, make_client, left, timeout):
    http.post(STATUSES, json={})
    client = make_client(timeout=(20, 60))
    with client.within(lambda: left):
        client.runs.statuses([JOB_ID])
    assert http.last_request.timeout == timeout
    client.runs.statuses([JOB_ID])
    assert http.last_request.timeout == (20, 60)


def test_reads_are_not_repeated_after_the_deadline_of_a_wait(http, make_client):
    http.post(STATUSES, status_code=503)
    client = make_client()
    with client.within(lambda: 5 - 3 * http.call_count), pytest.raises(ControlHubUnavailableError):
        client.runs.statuses([JOB_ID])
    assert http.call_count == 2


def test_deadline_of_wait_leaves_balance_and_archives_their_timeouts(http, make_client):
    http.post(re.compile("/jobs/(balanceJobs|exportJobs)"), content=b"")
    client = make_client(timeout=(20, 60))
    with client.within(lambda: 1):
        client.runs.balance([JOB_ID])
        assert http.last_request.timeout == (20, 60)
        with pytest.raises(ControlHubError):
            client.archives.export_jobs([JOB_ID], io.BytesIO())
    assert http.last_request.timeout == (20, 60)


def test_a_client_can_be_closed_and_used_again(http):
    http.get(CURRENT, json=run_json(2))
    with ControlHubClient(HUB, CREDENTIAL_ID, TOKEN) as client:
        assert client.runs.current(JOB_ID).run_count == 2
    assert client.runs.current(JOB_ID).run_count == 2


def test_a_client_says_where_it_is_connected_to(http, make_client):
    http.get(LOOKUP, json=_landing())
    client = make_client(None, login_url=LOGIN)
    assert "not looked up yet" in repr(client)
    assert client.base_url in repr(client)


def test_no_credential_means_no_client():
    with pytest.raises(ControlHubAuthenticationError):
        ControlHubClient(HUB, "", TOKEN)


def test_a_hub_without_tls_is_not_believed_of_a_login_service_with_tls(http, make_client):
    http.get(LOOKUP, json=_landing("http://na01.hub.example.com"))
    client = make_client(None, login_url=LOGIN)
    with pytest.raises(ControlHubUnexpectedAnswerError, match="is not sent the credential, as it is not https"):
        client.current_user()
    assert [request.url for request in http.request_history] == [LOOKUP]


def test_a_netrc_file_adds_nothing_to_the_requests(http, make_client, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    http.get(CURRENT, json=run_json())
    make_client().runs.current(JOB_ID)
    assert "Authorization" not in http.last_request.headers


def test_answer_of_the_login_service_accepts_no_credential(http, make_client):
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
