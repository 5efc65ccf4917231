from __future__ import annotations

import dataclasses
import json

import pytest
import requests_mock
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_streamsets.connection_form import CONN_FIELDS
from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubClient,
    ControlHubConfigurationError,
    ControlHubNotFoundError,
)
from airflow_provider_streamsets.hooks.connection import ConnectionSettings
from airflow_provider_streamsets.hooks.control_hub import ControlHubHook
from tests.unit.conftest import TOKEN
from tests.unit.fakes.single_job_hub import HUB, JOB_NAME, SingleJobHub, event_json, failed, run_json, succeeded

ME = {"principalId": "me@org", "principalName": "Airflow", "organizationId": "org", "organizationName": "Example org"}


def _connect(monkeypatch, **fields):
    values = {"conn_type": "streamsets", "host": HUB, "login": "credential-id", "password": TOKEN, **fields}
    monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", json.dumps(values))
    hook = ControlHubHook()
    if isinstance(fields.get("extra"), str):
        try:
            hook.get_connection("streamsets_default")
        except AirflowNotFoundException:
            pytest.skip("this Airflow itself rejects connections whose extra is not a JSON object")
    return hook


def test_client_is_created_once_from_connection(connection):
    hook = ControlHubHook()
    assert isinstance(hook.get_conn(), ControlHubClient)
    assert hook.get_conn() is hook.get_conn()
    assert hook.get_conn().base_url == HUB


def test_connection_may_be_a_uri(monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_OTHER",
        f"streamsets://credential-id:{TOKEN}@127.0.0.1:8000/http?project_id=p&verify=false&timeout=3%2C7",
    )
    with requests_mock.Mocker() as http:
        http.get("http://127.0.0.1:8000/jobrunner/rest/v1/job/j:org", json={"id": "j:org", "name": "J"})
        ControlHubHook("other").get_conn().jobs.get("j:org")
    (request,) = http.request_history
    assert request.headers["X-SS-App-Component-Id"] == "credential-id"
    assert request.headers["X-SS-App-Auth-Token"] == TOKEN
    assert request.qs["project"] == ["p"]
    assert request.verify is False
    assert request.timeout == (3.0, 7.0)


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ({"host": "na01.hub.example.com"}, "https://na01.hub.example.com"),
        ({"host": "https://na01.hub.example.com/"}, "https://na01.hub.example.com"),
        ({"host": "127.0.0.1", "port": 8000, "schema": "http"}, "http://127.0.0.1:8000"),
        ({"host": "http://127.0.0.1", "port": 8000}, "http://127.0.0.1:8000"),
        ({"host": "http://127.0.0.1:8000"}, "http://127.0.0.1:8000"),
        ({"host": "https://sch.example.com/base", "port": 8443}, "https://sch.example.com:8443/base"),
        ({"host": "::1"}, "https://[::1]"),
        ({"host": "::1", "port": 18631, "schema": "http"}, "http://[::1]:18631"),
        ({"host": "[::1]", "port": 18631, "schema": "http"}, "http://[::1]:18631"),
        ({"host": "http://[::1]", "port": 18631}, "http://[::1]:18631"),
        ({"host": "http://[::1]:18631", "port": 1}, "http://[::1]:18631"),
        ({"host": "http://::1/base", "port": 18631}, "http://[::1]:18631/base"),
        ({"host": "http://127.0.0.1:8000", "port": 0}, "http://127.0.0.1:8000"),
        ({"host": "http://127.0.0.1:8000", "port": "0"}, "http://127.0.0.1:8000"),
        ({"host": "na01.hub.example.com", "port": "0"}, "https://na01.hub.example.com"),
    ],
)
def test_base_url_combines_host_port_and_schema(monkeypatch, fields, address):
    assert _connect(monkeypatch, **fields).get_conn().base_url == address


def test_port_0_in_uri_means_none(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", f"streamsets://credential-id:{TOKEN}@na01.hub.example.com:0")
    assert ControlHubHook("other").get_conn().base_url == "https://na01.hub.example.com"


@pytest.mark.parametrize(
    ("address", "base_url"),
    [
        ("[::1]:18631/http", "http://[::1]:18631"),
        ("[2001:db8::7]", "https://[2001:db8::7]"),
        ("http%3A%2F%2F%5B%3A%3A1%5D:18631", "http://[::1]:18631"),
    ],
)
def test_ipv6_host_in_uri(monkeypatch, address, base_url):
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", f"streamsets://credential-id:{TOKEN}@{address}")
    assert ControlHubHook("other").get_conn().base_url == base_url


def test_form_shows_expert_fields_last():
    experts = ["section" in field["schema"] for field in CONN_FIELDS.values()]
    assert experts == sorted(experts)
    assert {name for name, field in CONN_FIELDS.items() if "section" not in field["schema"]} == {
        "project_id",
        "verify",
        "proxies",
    }


def test_every_form_field_is_a_setting():
    assert set(CONN_FIELDS) <= {field.name for field in dataclasses.fields(ConnectionSettings)}


@pytest.mark.parametrize("empty", [None, "", " "])
def test_empty_extra_fields_equal_missing_ones(monkeypatch, empty):
    def fingerprint(extra):
        connection = _connect(monkeypatch, extra=extra).get_connection("streamsets_default")
        return ConnectionSettings.from_connection(connection, connection.extra_dejson).fingerprint

    assert fingerprint(dict.fromkeys(CONN_FIELDS, empty)) == fingerprint({})


@pytest.mark.parametrize(("extra", "kind"), [([1, 2], "list"), ("[]", "list"), ('"text"', "str"), ("3", "int")])
def test_non_object_extra_raises(monkeypatch, extra, kind):
    hook = _connect(monkeypatch, extra=extra if isinstance(extra, str) else json.dumps(extra))
    with pytest.raises(ControlHubConfigurationError, match=rf"'streamsets_default'.*extra.*JSON object.*got {kind}\."):
        hook.get_conn()


def test_null_extra_is_empty(monkeypatch):
    assert _connect(monkeypatch, extra="null").get_conn().base_url == HUB


def test_missing_host_is_resolved_by_login_service(monkeypatch):
    hook = _connect(monkeypatch, host=None, extra={"login_url": "https://login.example.com"})
    with requests_mock.Mocker() as http:
        http.get(
            "https://login.example.com/api/security/public/v3/orgs/org/info",
            json={"data": {"landingUrl": f"{HUB}/security/public-rest/v1/aster/landing"}},
        )
        assert hook.get_conn().base_url == HUB


@pytest.mark.parametrize(
    ("extra", "verify", "timeout", "proxies"),
    [
        ({}, True, (10.0, 60.0), {}),
        ({"verify": "", "timeout": "", "proxies": ""}, True, (10.0, 60.0), {}),
        ({"verify": "False", "timeout": "5"}, False, (5.0, 5.0), {}),
        ({"verify": False, "timeout": 5}, False, (5.0, 5.0), {}),
        ({"verify": __file__, "timeout": [1, 2]}, __file__, (1.0, 2.0), {}),
        ({"proxies": "http://p:1"}, True, (10.0, 60.0), {"http": "http://p:1", "https": "http://p:1"}),
        ({"proxies": '{"https": "http://p:1"}'}, True, (10.0, 60.0), {"https": "http://p:1"}),
        ({"proxies": {"https": "http://p:1"}}, True, (10.0, 60.0), {"https": "http://p:1"}),
    ],
)
def test_extra_fields_apply_to_requests(monkeypatch, extra, verify, timeout, proxies):
    hook = _connect(monkeypatch, extra=extra)
    with requests_mock.Mocker() as http:
        http.get(f"{HUB}/security/rest/v1/currentUser", json=ME)
        hook.get_conn().current_user()
    (request,) = http.request_history
    assert request.verify == verify
    assert request.timeout == timeout
    assert {key: value for key, value in request.proxies.items() if key != "no"} == proxies


def test_job_link_pattern_is_configurable(monkeypatch):
    hook = _connect(monkeypatch, extra={"job_link": "{hub}/ui/jobs/{job_id}"})
    assert hook.get_conn().job_url("j:org") == f"{HUB}/ui/jobs/j:org"
    assert _connect(monkeypatch).get_conn().job_url("j:org") == f"{HUB}/sch/jobs/detail/j:org"


@pytest.mark.parametrize(("given", "requests"), [("2", 3), (5, 1), (None, 1), ("", 1)])
def test_bulk_size_limits_jobs_per_request(monkeypatch, given, requests):
    hook = _connect(monkeypatch, extra={} if given is None else {"bulk_size": given})
    with requests_mock.Mocker() as http:
        http.post(f"{HUB}/jobrunner/rest/v1/jobs/status", json={})
        hook.get_conn().runs.statuses([f"{n}:org" for n in range(5)])
    assert len(http.request_history) == requests


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"extra": {"bulk_size": 0}}, "'Jobs per request' (extra 'bulk_size') must be"),
        ({"extra": {"bulk_size": "many"}}, "'Jobs per request' (extra 'bulk_size') must be"),
        ({"extra": {"bulk_size": True}}, "'Jobs per request' (extra 'bulk_size') must be"),
        ({"extra": {"timeout": "soon"}}, "'Timeout (seconds)' (extra 'timeout') must be"),
        ({"extra": {"timeout": "'timeout'"}}, "'Timeout (seconds)' (extra 'timeout') must be"),
        ({"extra": {"timeout": "1,2,3"}}, "'Timeout (seconds)' (extra 'timeout') must be"),
        ({"extra": {"timeout": "-1"}}, "'Timeout (seconds)' (extra 'timeout') must be"),
        ({"extra": {"verify": "/no.pem"}}, "'Verify TLS certificate' (extra 'verify') must be"),
        ({"extra": {"webhook_token": "secret"}}, "'Webhook token' (extra 'webhook_token') must have at least 32"),
        ({"extra": {"webhook_token": "secret " * 8}}, "'Webhook token' (extra 'webhook_token') must have at least 32"),
        ({"extra": {"verify": 3}}, "'Verify TLS certificate' (extra 'verify') must be"),
        ({"extra": {"proxies": "{nope"}}, "'Proxies' (extra 'proxies') must be"),
        ({"extra": {"job_link": "{hub}/{nope}"}}, "'Job link pattern' (extra 'job_link') must be"),
        ({"extra": {"project_id": 7}}, "'Project ID' (extra 'project_id') must be a string, got int"),
        (
            {"extra": {"credential_grace_period": "soon"}},
            "'Credential grace period (seconds)' (extra 'credential_grace_period') must be",
        ),
        ({"extra": {"gateway_timeout": -1}}, "'Gateway timeout (seconds)' (extra 'gateway_timeout') must be"),
        ({"extra": {"login_url": "no url"}}, "The Login service URL ('login_url') is invalid"),
        ({"host": "ftp://files.example.com"}, "The Control Hub URL is invalid"),
    ],
)
def test_invalid_field_error_names_connection_and_field(monkeypatch, fields, said):
    hook = _connect(monkeypatch, **fields)
    with pytest.raises(ControlHubConfigurationError) as caught:
        hook.get_conn()
    assert str(caught.value).startswith(f"Connection 'streamsets_default': {said}")
    assert hook.test_connection() == (False, str(caught.value).removeprefix("Connection 'streamsets_default': "))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"login": ""}, "Credential ID is missing"),
        ({"password": None}, "Token is missing"),
        ({"password": "to ken."}, "Token is malformed: it contains white space"),
        ({"host": None, "password": "nonsense"}, "token is malformed"),
    ],
)
def test_invalid_credential_raises_before_request(monkeypatch, fields, said):
    with requests_mock.Mocker() as http, pytest.raises(ControlHubAuthenticationError, match=said) as caught:
        _connect(monkeypatch, **fields).get_conn()
    assert "Connection 'streamsets_default'" in str(caught.value)
    assert "login of the connection is the Credential ID, its password the Token" in str(caught.value)
    assert not http.request_history
    assert "nonsense" not in str(caught.value)


def test_unknown_connection_raises_airflow_error():
    with pytest.raises(Exception, match="no_such_connection"):
        ControlHubHook("no_such_connection").get_conn()


def test_connection_test_names_user_and_url(connection):
    with requests_mock.Mocker() as http:
        http.get(f"{HUB}/security/rest/v1/currentUser", json=ME)
        assert ControlHubHook().test_connection() == (
            True,
            f"Logged in to {HUB} as Airflow of organization Example org.",
        )


PROJECTS = [{"id": "p-1", "name": "Sales"}, {"id": "p-2", "name": "Finance"}]
LOGGED_IN = f"Logged in to {HUB} as Airflow of organization Example org"


def _test_connection(hook, **projects):
    with requests_mock.Mocker() as http:
        http.get(f"{HUB}/security/rest/v1/currentUser", json=ME)
        http.get(f"{HUB}/security/rest/v1/projects", **projects)
        return hook.test_connection()


def test_connection_test_names_project(monkeypatch):
    hook = _connect(monkeypatch, extra={"project_id": "p-2"})
    assert _test_connection(hook, json=PROJECTS) == (True, f"{LOGGED_IN}, in project 'Finance'.")


@pytest.mark.parametrize(
    ("project_id", "projects", "accessible"),
    [("Finance", PROJECTS, "'Sales' (ID p-1), 'Finance' (ID p-2)"), ("p-3", [], "none")],
)
def test_connection_test_fails_without_access_to_project(monkeypatch, project_id, projects, accessible):
    hook = _connect(monkeypatch, extra={"project_id": project_id})
    worked, message = _test_connection(hook, json=projects)
    assert worked is False
    assert message.startswith(f"{LOGGED_IN}, but the credential has no access to a project with the ID '{project_id}'.")
    assert message.endswith(f": {accessible}.")


def test_connection_test_reports_unverified_project(monkeypatch):
    hook = _connect(monkeypatch, extra={"project_id": "p-2"})
    issues = {"ISSUES": [{"code": "SECURITY_1", "message": "Not permitted"}]}
    worked, message = _test_connection(hook, status_code=403, json=issues)
    assert worked is True
    assert message.startswith(f"{LOGGED_IN}. Could not verify that project 'p-2' exists: Cannot list the projects: ")


@pytest.mark.parametrize(
    ("host", "advice"),
    [
        (f"{HUB}/sch/jobs/detail/j:org", f"is a page of the web UI. Use {HUB} instead."),
        (f"{HUB}/#/dashboard", f"Use {HUB} instead."),
        ("https://cloud.login.streamsets.com/login", "is the login service. Use the host that the browser shows"),
    ],
)
def test_connection_test_explains_pasted_page(monkeypatch, host, advice):
    with requests_mock.Mocker() as http:
        worked, message = _connect(monkeypatch, host=host).test_connection()
    assert worked is False
    assert message.startswith("The Control Hub URL ")
    assert advice in message
    assert http.call_count == 0


def test_connection_test_explains_redirect_to_https(monkeypatch):
    hook = _connect(monkeypatch, host=HUB.replace("https://", "http://"))
    with requests_mock.Mocker() as http:
        http.get(requests_mock.ANY, status_code=301, headers={"Location": f"{HUB}/security/rest/v1/currentUser"})
        worked, message = hook.test_connection()
    assert worked is False
    assert message.endswith(f"redirects to '{HUB}'. Use that URL.")


@pytest.mark.parametrize(
    ("fields", "advice"),
    [
        ({"login": None}, "The Credential ID is missing."),
        ({"password": ""}, "The Token is missing."),
        ({"extra": "[]"}, "The extra must be a JSON object"),
    ],
)
def test_connection_test_does_not_name_temporary_connection(monkeypatch, fields, advice):
    _, message = _connect(monkeypatch, **fields).test_connection()
    assert message.startswith(advice)
    assert "streamsets_default" not in message


def test_connection_test_error_hides_token(connection):
    with requests_mock.Mocker() as http:
        http.get(
            f"{HUB}/security/rest/v1/currentUser",
            status_code=401,
            json={"ISSUES": [{"code": "SSO_01", "message": f"User not authenticated {TOKEN}"}]},
        )
        ok, message = ControlHubHook().test_connection()
    assert not ok
    assert "401: SSO_01 - User not authenticated" in message
    assert "The credential was rejected. Check that it is active, that Credential ID and Token belong" in message
    assert TOKEN not in message
    assert "streamsets_default" not in message


def test_connection_test_does_not_retry(connection):
    with requests_mock.Mocker() as http:
        http.get(f"{HUB}/security/rest/v1/currentUser", status_code=503)
        ok, message = ControlHubHook().test_connection()
    assert not ok
    assert "503" in message
    assert len(http.request_history) == 1


def test_lists_runs_newest_first(http, connection):
    hub = SingleJobHub(http, latest=failed(4))
    hub.history = [failed(4), succeeded(3)]
    runs = ControlHubHook().list_runs(JOB_NAME, limit=5)
    assert [(run["run_count"], run["outcome"]) for run in runs] == [(4, "FAILED"), (3, None)]
    assert json.loads(json.dumps(runs)) == runs


def test_explains_latest_run(http, connection):
    SingleJobHub(http, latest=failed(4), events=[event_json(60, "INACTIVE", "Job failed")])
    report = ControlHubHook().explain_run(JOB_NAME)
    assert report.startswith("Run 4 failed: JDBC_00 - Cannot connect")
    assert "Job failed" in report


def test_explains_earlier_and_active_runs(http, connection):
    hub = SingleJobHub(http, latest=run_json(4))
    hub.history = [run_json(4), failed(3)]
    assert ControlHubHook().explain_run(JOB_NAME).startswith("Run 4 is active")
    assert ControlHubHook().explain_run(JOB_NAME, 3).startswith("Run 3 failed")


@pytest.mark.parametrize(("run_count", "message"), [(None, "has never run"), (7, "has no run 7")])
def test_explaining_missing_run_raises(http, connection, run_count, message):
    SingleJobHub(http)
    with pytest.raises(ControlHubNotFoundError, match=message):
        ControlHubHook().explain_run(JOB_NAME, run_count)
