"""Injected faults as seen by an HTTP client."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from http.client import IncompleteRead

import pytest
import requests
from urllib3.exceptions import ProtocolError

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess

JR = "/jobrunner/rest/v1"
JOB = "Quick check"


@pytest.fixture(scope="module")
def shared():
    with SandboxProcess("--log-level", "info", time_scale=50) as process:
        yield process


@pytest.fixture
def sandbox(shared):
    yield shared
    shared.call("DELETE", "/sandbox/v1/faults")
    if shared.job_state(JOB)["running"]:
        shared.wait_for_status(JOB, "INACTIVE")


def inject(sandbox, fault, **options):
    """Inject a fault into the next start and return the number of starts so far."""
    sandbox.set_faults({"method": "POST", "path": f"{JR}/job/*/start", "fault": fault, **options})
    return len(sandbox.starts(JOB))


def start(sandbox):
    return sandbox.call("POST", f"{JR}/job/{sandbox.job_id(JOB)}/start")


def wait_for_start(sandbox, count):
    deadline = time.monotonic() + 10
    while len(sandbox.starts(JOB)) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(sandbox.starts(JOB)) == count


def root_cause(error):
    """Return the root cause of an exception of ``requests``."""
    while error.args and isinstance(error.args[-1], BaseException):
        error = error.args[-1]
    return error


@pytest.mark.parametrize(("fault", "effect"), [("reset_before", 0), ("reset_after", 1)])
def test_reset_before_or_after_processing(sandbox, fault, effect):
    before = inject(sandbox, fault)
    with pytest.raises(requests.ConnectionError) as caught:
        start(sandbox)
    assert isinstance(root_cause(caught.value), ConnectionResetError)
    assert len(sandbox.starts(JOB)) == before + effect
    assert [rule["hit"] for rule in sandbox.faults()] == [1]
    assert f"injecting fault '{fault}'" in sandbox.errors
    assert "Traceback" not in sandbox.errors


def test_closed_connection_has_no_effect(sandbox):
    before = inject(sandbox, "tls_close")
    with pytest.raises(requests.ConnectionError) as caught:
        start(sandbox)
    assert "without response" in str(caught.value)
    assert len(sandbox.starts(JOB)) == before


def test_truncated_response_ends_in_body(sandbox):
    before = inject(sandbox, "truncated")
    with pytest.raises(requests.exceptions.ChunkedEncodingError) as caught:
        start(sandbox)
    broken = next(arg for arg in caught.value.args if isinstance(arg, ProtocolError))
    short = root_cause(broken)
    assert isinstance(short, IncompleteRead)
    assert len(short.partial) > 0 if isinstance(short.partial, bytes) else short.partial > 0
    assert len(sandbox.starts(JOB)) == before + 1
    sandbox.set_faults({"path": f"{JR}/jobs/exportAllJobs", "fault": "truncated"})
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        sandbox.call("POST", f"{JR}/jobs/exportAllJobs")
    assert "Traceback" not in sandbox.errors


def test_too_many_requests_has_retry_after(sandbox):
    before = inject(sandbox, "too_many_requests", retry_after=7)
    response = start(sandbox)
    assert (response.status_code, response.headers["Retry-After"]) == (429, "7")
    assert len(sandbox.starts(JOB)) == before


def test_rate_limit_rejects_requests_that_exceed_it(sandbox):
    sandbox.set_faults({"path": "*/currentUser", "fault": "too_many_requests", "per_second": 0.5, "retry_after": 0})
    first, second = (sandbox.call("GET", "/security/rest/v1/currentUser") for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 429)
    assert "Retry-After" not in second.headers


@pytest.mark.parametrize("processed", [False, True])
@pytest.mark.parametrize(("status", "kind"), [(500, "application/json"), (503, "text/html")])
def test_server_error_with_or_without_effect(sandbox, status, kind, processed):
    before = inject(sandbox, "server_error", status=status, processed=processed)
    response = start(sandbox)
    assert response.status_code == status
    assert response.headers["Content-Type"].startswith(kind)
    assert len(sandbox.starts(JOB)) == before + processed


def test_html_instead_of_json(sandbox):
    before = inject(sandbox, "html")
    response = start(sandbox)
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    with pytest.raises(requests.JSONDecodeError):
        response.json()
    assert len(sandbox.starts(JOB)) == before


@pytest.mark.parametrize("fault", ["delay", "drip"])
def test_slow_response_is_complete(sandbox, fault):
    before = inject(sandbox, fault, seconds=0.4)
    began = time.monotonic()
    response = start(sandbox)
    assert time.monotonic() - began >= 0.4
    assert response.json()["runCount"] >= 1
    assert len(sandbox.starts(JOB)) == before + 1


@pytest.mark.parametrize("processed", [False, True])
def test_start_takes_effect_after_client_timeout(sandbox, processed):
    before = inject(sandbox, "delay", seconds=1.0, processed=processed)
    job_id = sandbox.job_id(JOB)
    with pytest.raises(requests.ReadTimeout):
        requests.post(f"{sandbox.url}{JR}/job/{job_id}/start", headers=sandbox.headers, timeout=0.3)
    if processed:
        assert len(sandbox.starts(JOB)) == before + 1
    wait_for_start(sandbox, before + 1)


@pytest.mark.parametrize(("body", "kind"), [("html", "text/html"), ("json", "application/json")])
def test_gateway_error_has_no_effect(sandbox, body, kind):
    before = inject(sandbox, "gateway", status=403, body=body)
    response = start(sandbox)
    assert (response.status_code, len(sandbox.starts(JOB))) == (403, before)
    assert response.headers["Content-Type"].startswith(kind)
    assert "ISSUES" not in response.text


def test_late_start_takes_effect_afterwards(sandbox):
    before = inject(sandbox, "late", seconds=0.5)
    response = start(sandbox)
    assert (response.status_code, len(sandbox.starts(JOB))) == (504, before)
    wait_for_start(sandbox, before + 1)
    assert "Traceback" not in sandbox.errors


def test_late_start_survives_shutdown(tmp_path):
    with SandboxProcess(state=tmp_path / "hub.state") as sandbox:
        inject(sandbox, "late", seconds=3600)
        assert start(sandbox).status_code == 504
        assert sandbox.stop() == 0
        assert "Traceback" not in sandbox.errors
        sandbox.restart()
        (started,) = sandbox.starts(JOB)
        sandbox.restart()
        assert sandbox.starts(JOB) == [started]


def test_drip_sends_response_in_chunks(sandbox):
    sandbox.set_faults({"path": f"{JR}/jobs", "fault": "drip", "seconds": 0.4})
    times = []
    with requests.get(f"{sandbox.url}{JR}/jobs", headers=sandbox.headers, stream=True, timeout=10) as response:
        while response.raw.read1(1 << 20):
            times.append(time.monotonic())
    assert len(times) > 3
    assert times[-1] - times[0] > 0.2


def test_same_seed_gives_same_hits(sandbox, tmp_path):
    rules = tmp_path / "faults.yaml"
    rules.write_text(
        f"seed: 7\nrules:\n  - path: '{JR}/*'\n    fault: server_error\n    status: 503\n    probability: 0.5\n"
    )

    def statuses(process):
        return [process.call("GET", f"{JR}/jobs/count").status_code for _ in range(24)]

    sandbox.set_faults(
        {"path": f"{JR}/*", "fault": "server_error", "status": 503, "probability": 0.5},
        seed=7,
    )
    first = statuses(sandbox)
    assert set(first) == {200, 503}
    with SandboxProcess(faults=rules) as other:
        assert statuses(other) == first
        (rule,) = other.faults()
        assert (rule["matched"], rule["hit"]) == (24, first.count(503))


def test_tls_connection_ends_without_close_notify(tmp_path):
    pytest.importorskip("cryptography")
    cert, key = _certificate(tmp_path)
    with SandboxProcess("--tls-cert", cert, "--tls-key", key, verify=cert) as sandbox:
        sandbox.set_faults(
            {"path": "/security/*", "fault": "tls_close"}, {"path": "/jobrunner/*", "fault": "reset_before"}
        )
        with pytest.raises(requests.ConnectionError):
            sandbox.call("GET", "/security/rest/v1/currentUser")
        with pytest.raises(requests.ConnectionError) as caught:
            sandbox.call("GET", f"{JR}/jobs/count")
        assert isinstance(root_cause(caught.value), ConnectionResetError)
        context = ssl.create_default_context(cafile=cert)
        with (
            socket.create_connection(("127.0.0.1", sandbox.port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False) as secure,
        ):
            secure.sendall(b"GET /security/rest/v1/currentUser HTTP/1.1\r\nHost: sandbox\r\n\r\n")
            with pytest.raises(ssl.SSLEOFError):
                secure.recv(1)
        assert "Traceback" not in sandbox.errors


def _certificate(path):
    """Write a self-signed certificate for 127.0.0.1 and its key."""
    import ipaddress
    from datetime import datetime, timedelta, timezone

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "sandbox")])
    now = datetime.now(tz=timezone.utc)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (path / "cert.pem").write_bytes(built.public_bytes(encoding))
    (path / "key.pem").write_bytes(private)
    return str(path / "cert.pem"), str(path / "key.pem")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules: [{path: /x, fault: explode}]", "faults.yaml: rules[0].fault must be one of delay"),
        ("rules: 3", "faults.yaml: rules must be a list"),
        ("rules: [", "is not valid yaml"),
        (None, "cannot be read"),
    ],
)
def test_invalid_fault_file_prints_path(tmp_path, text, message):
    path = tmp_path / "faults.yaml"
    if text is not None:
        path.write_text(text)
    result = subprocess.run(
        [sys.executable, "-m", "airflow_provider_streamsets.sandbox", "--port", "0", "--faults", str(path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
