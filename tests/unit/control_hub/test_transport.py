from __future__ import annotations

import contextlib
import datetime
import email.utils
import http.server
import json
import logging
import re
import socket
import ssl
import threading
import traceback

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_streamsets import __version__
from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubPermissionError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    ControlHubUnexpectedResponseError,
    ControlHubUntrustedCertificateError,
    Issue,
)
from airflow_provider_streamsets.control_hub.services import Service
from tests.unit.fakes.api_payloads import (
    CONNECT_TIMEOUT,
    CREDENTIAL_ID,
    CURRENT,
    FAILURES,
    HUB,
    JOB,
    JOB_ID,
    JOBS,
    ORGANIZATION,
    READ_TIMEOUT,
    REFUSED,
    RESET,
    SEC,
    STATUSES,
    TOKEN,
    issues_json,
    job_json,
    payload,
    run_json,
)


def test_requests_carry_provider_and_credential_headers(http, client):
    http.get(JOB, json=job_json())
    http.post(STATUSES, json={})
    http.get(f"{SEC}/currentUser", json={"principalId": "me@org"})
    client.jobs.get(JOB_ID)
    client.runs.statuses([JOB_ID])
    client.current_user()
    assert len(http.request_history) == 3
    for request in http.request_history:
        assert request.headers["X-SS-App-Component-Id"] == CREDENTIAL_ID
        assert request.headers["X-SS-App-Auth-Token"] == TOKEN
        assert request.headers["X-Requested-By"]
        assert request.headers["X-SS-REST-CALL"] == "true"
        assert request.headers["X-SS-Org-Id"] == ORGANIZATION
        assert request.headers["Content-Type"] == "application/json"
        assert request.headers["User-Agent"] == f"airflow-provider-streamsets/{__version__}"
        assert TOKEN not in request.url


def test_ids_are_quoted_except_colon(http, client):
    http.get(re.compile(".*"), json=run_json())
    client.runs.current("a b/../c?d#e:org")
    assert http.last_request.url == f"{HUB}/jobrunner/rest/v1/job/a%20b%2F..%2Fc%3Fd%23e:org/currentStatus"


def test_cookies_are_ignored(http, client):
    http.get(CURRENT, json=run_json(), headers={"Set-Cookie": "SS-SSO-LOGIN=other; Path=/"})
    client.runs.current(JOB_ID)
    client.runs.current(JOB_ID)
    assert "Cookie" not in http.last_request.headers


def test_network_settings_reach_every_request(http, make_client, tmp_path):
    http.get(CURRENT, json=run_json())
    client = make_client(verify=str(tmp_path), timeout=(3, 7), proxies={"https": "http://proxy.example.com:3128"})
    client.runs.current(JOB_ID)
    assert http.last_request.verify == str(tmp_path)
    assert http.last_request.timeout == (3.0, 7.0)
    assert http.last_request.proxies["https"] == "http://proxy.example.com:3128"


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_disabled_verification_overrides_environment(http, make_client, monkeypatch, variable):
    monkeypatch.setenv(variable, "/etc/ssl/cert.pem")
    http.get(CURRENT, json=run_json())
    make_client(verify=False).runs.current(JOB_ID)
    assert http.last_request.verify is False


def test_certificates_are_verified_by_default(http, client):
    http.get(CURRENT, json=run_json())
    client.runs.current(JOB_ID)
    assert http.last_request.verify is True
    assert http.last_request.timeout == (10.0, 60.0)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, issues_json(("SSO_01", "User not authenticated")), ControlHubAuthenticationError),
        (401, issues_json(("DPM_02", "User validation failed")), ControlHubAuthenticationError),
        (403, issues_json((None, "no")), ControlHubPermissionError),
        *[
            (status, issues_json(("RESTAPI_08", "No access to the project")), ControlHubPermissionError)
            for status in (400, 401, 403, 404, 409, 429, 500, 503)
        ],
        (404, issues_json(("JOBRUNNER_1", "no such job")), ControlHubNotFoundError),
        (410, issues_json((None, "gone")), ControlHubNotFoundError),
        (400, issues_json(("JOBRUNNER_251", "in a sequence")), ControlHubRejectedError),
        (405, issues_json((None, "no")), ControlHubRejectedError),
        (409, issues_json(("JOBRUNNER_9", "wrong state")), ControlHubRejectedError),
        (500, issues_json(("JOBRUNNER_9", "wrong state")), ControlHubRejectedError),
        (500, issues_json((None, "oops")), ControlHubUnavailableError),
        (500, {"RemoteException": {"message": "engine"}}, ControlHubUnavailableError),
        (429, issues_json((None, "slow down")), ControlHubUnavailableError),
        (502, issues_json(("PROXY_1", "bad gateway")), ControlHubUnavailableError),
        *[
            (status, body, ControlHubUnavailableError)
            for status in (400, 403, 404, 405, 409, 410, 413)
            for body in ({}, {"message": "no Route matched"}, [], None)
        ],
        (407, {}, ControlHubConfigurationError),
        (503, {}, ControlHubUnavailableError),
        (504, {}, ControlHubUnavailableError),
        (301, {}, ControlHubUnexpectedResponseError),
        (304, {}, ControlHubUnexpectedResponseError),
    ],
)
def test_error_response_maps_to_exception(http, make_client, status, body, error):
    http.get(CURRENT, status_code=status, json=body)
    with pytest.raises(ControlHubError) as caught:
        make_client(max_attempts=1).runs.current(JOB_ID)
    assert type(caught.value) is error
    assert caught.value.http_status == status
    assert f"Cannot read the status of job {JOB_ID}" in str(caught.value)
    issues = body.get("ISSUES", []) if isinstance(body, dict) else []
    assert caught.value.codes == tuple(issue["code"] for issue in issues if issue["code"])
    assert caught.value.issues == tuple(Issue(issue["code"], issue["message"]) for issue in issues)
    if error is not ControlHubUnexpectedResponseError:
        assert all(issue["message"] in str(caught.value) for issue in issues)


@pytest.mark.parametrize("name", ["error-envelope", "error-unauthorized"])
def test_example_envelopes_are_parsed(http, client, name):
    http.get(CURRENT, status_code=400, json=payload(name))
    with pytest.raises(ControlHubRejectedError) as caught:
        client.runs.current(JOB_ID)
    assert caught.value.codes == (payload(name)["ISSUES"][0]["code"],)


def test_all_issues_are_reported(http, client):
    http.get(CURRENT, status_code=400, json=issues_json(("A_1", "one"), (None, "two"), ("B_2", "three")))
    with pytest.raises(ControlHubRejectedError, match="A_1 - one; two; B_2 - three") as caught:
        client.runs.current(JOB_ID)
    assert caught.value.codes == ("A_1", "B_2")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"<html><title>Bad request</title></html>",
        b'{"ISSUES": [{"code": "A',
        b"null",
        b"[]",
        b"5",
        b"{}",
        b'{"ISSUES": null}',
        b'{"ISSUES": {"code": "A"}}',
        b'{"ISSUES": "A"}',
        b"\xff\xfe\xff",
        b"[" * 100_000,
    ],
)
def test_error_without_envelope_is_unavailable(http, kill_client, body):
    http.get(CURRENT, status_code=400, content=body, reason="Bad Request")
    with pytest.raises(ControlHubUnavailableError, match=r"returned 400 Bad Request .*a proxy, gateway or") as caught:
        kill_client.runs.current(JOB_ID)
    assert caught.value.codes == ()
    assert caught.value.http_status == 400


@pytest.mark.parametrize(
    "body",
    [
        b'{"ISSUES": []}',
        b'{"ISSUES": [null, 5, "A", ["B"]]}',
        b'{"ISSUES": [{}]}',
        b'{"ISSUES": [{"code": 5, "message": null}]}',
        b'{"ISSUES": [{"code": ["A"], "message": {"a": 1}}]}',
    ],
)
def test_malformed_issues_keep_status_error(http, client, body):
    http.get(CURRENT, status_code=400, content=body, reason="Bad Request")
    with pytest.raises(ControlHubRejectedError, match="returned 400") as caught:
        client.runs.current(JOB_ID)
    assert caught.value.codes == ()


def test_html_error_page_is_not_repeated(http, make_client):
    http.get(CURRENT, status_code=502, text="<html>" + "x" * 100_000, reason="Bad Gateway")
    with pytest.raises(ControlHubUnavailableError, match="502: Bad Gateway") as caught:
        make_client(max_attempts=1).runs.current(JOB_ID)
    assert len(str(caught.value)) < 500


def test_long_envelopes_are_truncated(http, client):
    http.get(CURRENT, status_code=400, json=issues_json(*[("A_1", "x" * 5_000)] * 50))
    with pytest.raises(ControlHubRejectedError) as caught:
        client.runs.current(JOB_ID)
    assert len(str(caught.value)) < 50_000


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"<html>Please log in</html>", "text/html"),
        (b'{"id": "trunca', "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"\xff\xfe\xff", "application/octet-stream"),
    ],
)
def test_non_json_success_is_not_retried(http, client, content, kind):
    http.get(CURRENT, content=content, headers={"Content-Type": kind})
    with pytest.raises(ControlHubUnexpectedResponseError, match=rf"not JSON \({kind}") as caught:
        client.runs.current(JOB_ID)
    assert caught.value.http_status == 200
    assert http.call_count == 1


@pytest.mark.parametrize("status", [200, 201, 202, 204])
@pytest.mark.parametrize("content", [b"", b" \n"])
def test_empty_success_body_is_none(http, client, status, content):
    http.get(CURRENT, status_code=status, content=content)
    http.get(JOB, json=job_json(currentJobStatus=None))
    assert client.runs.current(JOB_ID) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    status=st.integers(200, 599).filter(lambda status: status != 308),
    content=st.binary() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps).map(str.encode),
    location=st.text(st.characters(codec="latin-1", exclude_categories=["Cc"])) | st.just("https://[::1"),
    retry_after=st.text(st.characters(codec="latin-1", exclude_categories=["Cc"])),
)
def test_any_response_yields_value_or_error(http, kill_client, status, content, location, retry_after):
    headers = {"Location": location, "Retry-After": retry_after}
    http.get(JOB, json=job_json())
    http.get(CURRENT, status_code=status, content=content, headers=headers)
    with contextlib.suppress(ControlHubError):
        kill_client.runs.current(JOB_ID)


def _shown(error: BaseException) -> str:
    """All that logs and reports show of an exception."""
    return "".join(traceback.format_exception(type(error), error, error.__traceback__)) + repr((error, vars(error)))


ECHOES = {
    "message": {"status_code": 400, "json": issues_json(("A_1", f"bad token {TOKEN}"))},
    "code": {"status_code": 400, "json": issues_json((f"A_{TOKEN}", "bad"))},
    "message of several": {"status_code": 401, "json": issues_json((None, TOKEN), ("B", TOKEN))},
    "nested message": {"status_code": 500, "json": {"ISSUES": [{"code": "A", "message": {"token": TOKEN}}]}},
    "reason": {"status_code": 400, "text": "", "reason": f"Bad token {TOKEN}"},
    "content type": {"status_code": 200, "text": "<html>", "headers": {"Content-Type": f"text/{TOKEN}"}},
    "html page": {"status_code": 200, "text": f"<html>{TOKEN}</html>"},
    "truncated json": {"status_code": 200, "text": f'{{"token": "{TOKEN}'},
    "wrong type": {"status_code": 200, "json": TOKEN},
    "wrong field": {"status_code": 200, "json": {"id": [TOKEN]}},
    "location": {"status_code": 302, "headers": {"Location": f"https://login.example.com/?token={TOKEN}"}},
    "location's host": {"status_code": 302, "headers": {"Location": f"https://{TOKEN}example.com/"}},
    "relative location": {"status_code": 308, "headers": {"Location": f"/?token={TOKEN}"}},
    "foreign location": {"status_code": 308, "headers": {"Location": f"https://u:{TOKEN}@{TOKEN}example.net/"}},
    "connection": {"exc": requests.exceptions.ConnectionError(f"header {TOKEN}")},
}


@pytest.mark.parametrize("answer", ECHOES.values(), ids=ECHOES)
def test_echoed_token_is_never_shown(http, make_client, caplog, answer):
    http.get(CURRENT, **answer)
    with caplog.at_level(logging.DEBUG), pytest.raises(ControlHubError) as caught:
        make_client(max_attempts=2).runs.current(JOB_ID)
    assert TOKEN not in _shown(caught.value)
    assert TOKEN not in caplog.text


def test_token_in_nested_json_is_not_shown(http, client):
    http.get(JOB, json={"id": "j", "runtimeParameters": TOKEN})
    with pytest.raises(ControlHubUnexpectedResponseError) as caught:
        client.jobs.get(JOB_ID)
    assert TOKEN not in _shown(caught.value)


def test_token_without_final_dot_is_hinted(http, make_client):
    http.get(JOB, status_code=401, json={})
    with pytest.raises(ControlHubAuthenticationError, match="does not end with a dot"):
        make_client(token="head.eyJvIjoibyJ9").jobs.get(JOB_ID)
    with pytest.raises(ControlHubAuthenticationError) as caught:
        make_client().jobs.get(JOB_ID)
    assert "dot" not in str(caught.value)


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_read_is_retried_until_success(http, client, clock, failure):
    http.get(CURRENT, [failure, failure, {"json": run_json(7)}])
    assert client.runs.current(JOB_ID).run_count == 7
    assert http.call_count == 3
    assert len(clock.slept) == 2


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("attempts", [1, 3])
def test_read_fails_after_max_attempts(http, make_client, clock, failure, attempts):
    http.post(STATUSES, **failure)
    with pytest.raises(ControlHubUnavailableError):
        make_client(max_attempts=attempts).runs.statuses([JOB_ID])
    assert http.call_count == attempts
    assert len(clock.slept) == attempts - 1


@pytest.mark.parametrize(
    "answer",
    [
        *[{"status_code": status, "json": issues_json((None, "no"))} for status in (400, 401, 403, 404, 409)],
        {"status_code": 500, "json": issues_json(("JOBRUNNER_9", "no"))},
        {"status_code": 301, "headers": {"Location": f"{HUB}/elsewhere"}},
        {"status_code": 302, "headers": {"Location": f"{HUB}/elsewhere"}},
        {"status_code": 303, "headers": {"Location": f"{HUB}/elsewhere"}},
        {"status_code": 307, "headers": {"Location": f"{HUB}/elsewhere"}},
    ],
)
def test_final_errors_are_not_retried(http, client, clock, answer):
    http.get(CURRENT, **answer)
    with pytest.raises(ControlHubError):
        client.runs.current(JOB_ID)
    assert http.call_count == 1
    assert clock.slept == []


def test_retry_delays_grow_to_one_minute(http, make_client, clock):
    http.get(CURRENT, status_code=503)
    with pytest.raises(ControlHubUnavailableError):
        make_client(max_attempts=12).runs.current(JOB_ID)
    assert len(clock.slept) == 11
    for n, pause in enumerate(clock.slept):
        assert min(2**n, 60) <= pause <= min(2**n + 1, 60)


@pytest.mark.parametrize(
    ("header", "pause"),
    [("7", 7.0), ("0", 0.0), (" 12 ", 12.0), ("999999999", 300.0), ("9" * 5000, 300.0)],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honored_within_limits(http, client, clock, status, header, pause):
    http.get(CURRENT, [{"status_code": status, "headers": {"Retry-After": header}}, {"json": run_json()}])
    client.runs.current(JOB_ID)
    assert clock.slept == [pause]


@pytest.mark.parametrize(
    ("offset", "low", "high"), [(90, 80, 90), (-90, 0, 0), (10**6, 300, 300)], ids=["soon", "past", "days away"]
)
def test_retry_after_may_be_a_date(http, client, clock, offset, low, high):
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=offset)
    header = email.utils.format_datetime(when, usegmt=True)
    http.get(CURRENT, [{"status_code": 429, "headers": {"Retry-After": header}}, {"json": run_json()}])
    client.runs.current(JOB_ID)
    assert low <= clock.slept[0] <= high


@pytest.mark.parametrize("header", ["", "soon", "-5", "1e3", "nan", "inf", "Mon, 99 Foo 0000", "²"])
def test_invalid_retry_after_is_ignored(http, client, clock, header):
    http.get(CURRENT, [{"status_code": 429, "headers": {"Retry-After": header}}, {"json": run_json()}])
    client.runs.current(JOB_ID)
    assert 1 <= clock.slept[0] <= 2


@pytest.mark.parametrize("status", [200, 401, 404, 500])
def test_raw_response_is_returned_as_received(http, client, clock, status):
    headers = {"Content-Type": "text/html"}
    http.get(
        CURRENT,
        [
            {"status_code": 429, "headers": {"Retry-After": "7"}},
            {"status_code": status, "text": "<p>", "headers": headers},
        ],
    )
    response = client.send_raw("GET", Service.JOBRUNNER, f"/v1/job/{JOB_ID}/currentStatus", action="read the status")
    assert (response.status, response.content_type, response.text) == (status, "text/html", "<p>")
    assert clock.slept == [7]


def test_raw_response_with_transient_status_raises(http, make_client):
    http.get(CURRENT, status_code=503)
    with pytest.raises(ControlHubUnavailableError):
        make_client(max_attempts=2).send_raw(
            "GET", Service.JOBRUNNER, f"/v1/job/{JOB_ID}/currentStatus", action="read the status"
        )
    assert http.call_count == 2


def test_client_with_other_credential_sends_only_that(http, client):
    http.get(CURRENT, status_code=503)
    with client.with_credential("other", "e30.e30.") as other, pytest.raises(ControlHubUnavailableError):
        other.runs.current(JOB_ID)
    assert http.call_count == 1
    assert http.last_request.headers["X-SS-App-Component-Id"] == "other"
    assert http.last_request.headers["X-SS-App-Auth-Token"] == "e30.e30."


def test_error_reports_retry_after(http, make_client):
    http.get(CURRENT, status_code=429, headers={"Retry-After": "7"})
    with pytest.raises(ControlHubUnavailableError) as caught:
        make_client(max_attempts=1).runs.current(JOB_ID)
    assert caught.value.retry_after == 7.0
    assert caught.value.maybe_executed is False


@pytest.mark.parametrize(
    ("failure", "maybe_executed"),
    [
        ("connection reset", True),
        ("read time-out", True),
        ("answer cut off", True),
        ("500", True),
        ("502", True),
        ("503", True),
        ("504", True),
        ("connect time-out", False),
        ("connection refused", False),
        ("429", False),
    ],
)
def test_unavailable_error_reports_possible_execution(http, make_client, failure, maybe_executed):
    http.get(CURRENT, **FAILURES[failure])
    with pytest.raises(ControlHubUnavailableError) as caught:
        make_client(max_attempts=1).runs.current(JOB_ID)
    assert caught.value.maybe_executed is maybe_executed


def test_retries_are_logged_with_reason(http, client, caplog):
    http.get(CURRENT, [{"status_code": 503, "reason": "Service Unavailable"}, {"json": run_json()}])
    with caplog.at_level(logging.INFO):
        client.runs.current(JOB_ID)
    assert "returned 503: Service Unavailable" in caplog.text
    assert "attempt 2" in caplog.text


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (READ_TIMEOUT, "timed out while waiting for the response"),
        (CONNECT_TIMEOUT, "timed out while connecting"),
        (RESET, "Connection reset by peer|RemoteDisconnected|reset"),
        (REFUSED, "Failed to establish a new connection"),
    ],
)
def test_connection_error_message_is_short(http, make_client, fault, text):
    http.get(CURRENT, exc=fault)
    with pytest.raises(ControlHubUnavailableError, match=text) as caught:
        make_client(max_attempts=1).runs.current(JOB_ID)
    assert "no response from https://na01.hub.example.com" in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "settings",
    [
        {"proxies": {"https": "http://user:pa55#word@proxy.example.com:80"}},
        {"proxies": {"https": "http://"}},
        {"proxies": {"https": "nonsense://proxy.example.com"}},
    ],
    ids=["malformed", "no host", "unknown scheme"],
)
def test_invalid_proxy_is_rejected_without_password(make_client, clock, settings):
    with pytest.raises(ControlHubConfigurationError, match="prox") as caught:
        make_client(**settings).runs.current(JOB_ID)
    assert "pa55" not in _shown(caught.value)
    assert clock.slept == []


@pytest.mark.parametrize(
    "value", [float("nan"), object(), datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc), {1, 2}, b"bytes"]
)
def test_non_json_values_are_rejected(http, client, value):
    http.get(JOB, json=job_json())
    with pytest.raises(ControlHubConfigurationError, match="JSON"):
        client.runs.start(JOB_ID, {"A": value})
    assert [request.method for request in http.request_history] == ["GET"]


def test_refused_connection_was_not_executed(make_client):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(ControlHubUnavailableError, match=r"[Cc]onnection refused") as caught:
        make_client(f"http://127.0.0.1:{port}", max_attempts=2).runs.current(JOB_ID)
    assert f"no response from http://127.0.0.1:{port}" in str(caught.value)
    assert caught.value.maybe_executed is False


def test_unknown_host_was_never_reached(make_client):
    with pytest.raises(ControlHubUnavailableError) as caught:
        make_client("https://nowhere.invalid", max_attempts=1, timeout=2).runs.current(JOB_ID)
    assert caught.value.maybe_executed is False


def test_closed_connection_may_have_executed(make_client):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.recv(65536)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(ControlHubUnavailableError) as caught:
            make_client(f"http://127.0.0.1:{server.getsockname()[1]}", max_attempts=1).runs.current(JOB_ID)
        thread.join()
    assert caught.value.maybe_executed is True


def test_unresponsive_host_times_out(make_client):
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = make_client(f"http://127.0.0.1:{server.getsockname()[1]}", max_attempts=1, timeout=(5, 0.05))
        with pytest.raises(ControlHubUnavailableError, match="timed out while waiting") as caught:
            client.runs.current(JOB_ID)
    assert caught.value.maybe_executed is True


class _Status(http.server.BaseHTTPRequestHandler):
    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("X-SS-App-Auth-Token", ""))
        body = json.dumps(run_json(5)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _QuietServer(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture
def tls_hub(tmp_path):
    """Address of a TLS server, CA file that it is trusted with, and the tokens it has seen."""
    trustme = pytest.importorskip("trustme", reason="makes the certificate of the TLS server")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    handler = type("Handler", (_Status,), {"seen": []})
    server = _QuietServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}", str(tmp_path / "ca.pem"), handler.seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_untrusted_certificate_sends_nothing(make_client, clock, tls_hub):
    address, _, seen = tls_hub
    with pytest.raises(ControlHubUntrustedCertificateError, match=r"is not trusted.*'verify'") as caught:
        make_client(address).runs.current(JOB_ID)
    assert address in str(caught.value)
    assert caught.value.maybe_executed is False
    assert clock.slept == []
    assert seen == []


def test_certificate_is_trusted_with_ca_file(make_client, tls_hub):
    address, ca_file, seen = tls_hub
    assert make_client(address, verify=ca_file).runs.current(JOB_ID).run_count == 5
    assert seen == [TOKEN]


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_disabled_verification_accepts_any_certificate(make_client, tls_hub, monkeypatch):
    address, ca_file, _ = tls_hub
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file)
    assert make_client(address, verify=False).runs.current(JOB_ID).run_count == 5


def test_certificate_for_other_name_is_rejected(make_client, tls_hub):
    address, ca_file, seen = tls_hub
    other_name = address.replace("127.0.0.1", "localhost")
    with pytest.raises(ControlHubUntrustedCertificateError, match=r"mismatch|match"):
        make_client(other_name, verify=ca_file).runs.current(JOB_ID)
    assert seen == []


def test_ca_file_without_certificate_is_configuration_error(make_client, tls_hub, tmp_path):
    address, _, _ = tls_hub
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    with pytest.raises(ControlHubConfigurationError, match=r"nonsense\.pem', set in .*'verify'\), is not a CA file"):
        make_client(address, verify=str(nonsense)).runs.current(JOB_ID)


def test_removed_ca_file_is_configuration_error(make_client, tls_hub, tmp_path):
    address, _, _ = tls_hub
    ca_file = tmp_path / "removed.pem"
    ca_file.write_text("")
    client = make_client(address, verify=str(ca_file))
    ca_file.unlink()
    with pytest.raises(ControlHubConfigurationError, match=r"removed\.pem"):
        client.runs.current(JOB_ID)


def test_client_serves_several_threads(http, client):
    http.get(CURRENT, json=run_json(7))
    found = []
    threads = [threading.Thread(target=lambda: found.append(client.runs.current(JOB_ID))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [run.run_count for run in found] == [7] * 8


def test_unauthorized_error_names_likely_causes(http, client):
    http.get(JOBS, status_code=401, json=issues_json(("SSO_01", "User not authenticated")))
    with pytest.raises(ControlHubAuthenticationError, match=r"it is active.*belong together.*network is allowed"):
        next(client.jobs.list())
