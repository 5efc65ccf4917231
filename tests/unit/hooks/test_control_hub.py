from __future__ import annotations

import dataclasses
import json

import pytest
import requests_mock

from airflow_provider_streamsets.connection_form import CONN_FIELDS
from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubClient,
    ControlHubConfigurationError,
)
from airflow_provider_streamsets.hooks.connection import ConnectionSettings
from airflow_provider_streamsets.hooks.control_hub import ControlHubHook
from tests.unit.conftest import TOKEN
from tests.unit.fakes.single_job_hub import HUB

ME = {"principalId": "me@org", "principalName": "Airflow", "organizationId": "org", "organizationName": "Example org"}


def _connect(monkeypatch, **fields):
    values = {"conn_type": "streamsets", "host": HUB, "login": "credential-id", "password": TOKEN, **fields}
    monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", json.dumps(values))
    return ControlHubHook()


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
    ],
)
def test_base_url_combines_host_port_and_schema(monkeypatch, fields, address):
    assert _connect(monkeypatch, **fields).get_conn().base_url == address


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
        ({"extra": {"bulk_size": 0}}, "'bulk_size' must be"),
        ({"extra": {"bulk_size": "many"}}, "'bulk_size' must be"),
        ({"extra": {"bulk_size": True}}, "'bulk_size' must be"),
        ({"extra": {"timeout": "soon"}}, "'timeout' must be"),
        ({"extra": {"timeout": "1,2,3"}}, "'timeout' must be"),
        ({"extra": {"timeout": "-1"}}, "'timeout' must be"),
        ({"extra": {"verify": "/does/not/exist.pem"}}, "'/does/not/exist.pem' does not exist"),
        ({"extra": {"verify": 3}}, "'verify' must be"),
        ({"extra": {"proxies": "{nope"}}, "'proxies' must be"),
        ({"extra": {"job_link": "{hub}/{nope}"}}, "'job_link' must be"),
        ({"extra": {"project_id": 7}}, "'project_id' must be a string, got int"),
        ({"host": "ftp://files.example.com"}, "The Control Hub URL is invalid"),
    ],
)
def test_invalid_field_error_names_connection(monkeypatch, fields, said):
    with pytest.raises(ControlHubConfigurationError, match=said) as caught:
        _connect(monkeypatch, **fields).get_conn()
    assert "Connection 'streamsets_default'" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"login": ""}, "credential id is missing"),
        ({"password": None}, "token is missing"),
        ({"password": "to ken."}, "token is malformed: it contains white space"),
        ({"host": None, "password": "nonsense"}, "token is malformed"),
    ],
)
def test_invalid_credential_raises_before_request(monkeypatch, fields, said):
    with requests_mock.Mocker() as http, pytest.raises(ControlHubAuthenticationError, match=said) as caught:
        _connect(monkeypatch, **fields).get_conn()
    assert "Connection 'streamsets_default'" in str(caught.value)
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
    assert TOKEN not in message


def test_connection_test_does_not_retry(connection):
    with requests_mock.Mocker() as http:
        http.get(f"{HUB}/security/rest/v1/currentUser", status_code=503)
        ok, message = ControlHubHook().test_connection()
    assert not ok
    assert "503" in message
    assert len(http.request_history) == 1


def test_connection_test_reports_malformed_connection(monkeypatch):
    ok, message = _connect(monkeypatch, extra={"timeout": "soon"}).test_connection()
    assert not ok
    assert "'timeout' must be" in message
