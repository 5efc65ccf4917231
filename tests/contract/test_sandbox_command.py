"""The command ``streamsets-sandbox`` as a process."""

from __future__ import annotations

import ipaddress
import json
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone

import pytest
import requests

from airflow_provider_streamsets import __version__
from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "airflow_provider_streamsets.sandbox", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_server_starts_and_stops_cleanly(number):
    with SandboxProcess(time_scale=50, variants={"unknown_job": "400"}) as sandbox:
        session = requests.Session()
        assert session.get(f"{sandbox.url}/healthz", timeout=5).json() == {"status": "ok"}
        connection = json.loads(sandbox.airflow_conn)
        assert connection == {
            "conn_type": "streamsets",
            "host": sandbox.url,
            "port": "0",
            "login": sandbox.credential_id,
            "password": sandbox.token,
        }
        assert sandbox.call("GET", "/jobrunner/rest/v1/job/no:no").status_code == 400
        sandbox.start_job("Quick check")
        sandbox.wait_for_status("Quick check", "INACTIVE")
        began = time.monotonic()
        assert sandbox.stop(number) == 0
        assert time.monotonic() - began < 5
        assert sandbox.errors == ""


def test_token_is_never_logged():
    with SandboxProcess("--log-level", "debug") as sandbox:
        assert sandbox.call("GET", "/jobrunner/rest/v1/jobs/count").ok
        sandbox.stop()
        assert "/jobrunner/rest/v1/jobs/count" in sandbox.errors
        assert sandbox.token not in sandbox.errors
        assert sandbox.token[-40:] not in sandbox.errors


def test_given_credential_stays_valid():
    with SandboxProcess() as first:
        known = {"credential_id": first.credential_id, "token": first.token}
    with SandboxProcess(port=first.port, **known) as second:
        assert second.url == first.url
        assert first.call("GET", "/security/rest/v1/currentUser").ok


@pytest.fixture
def certificate(tmp_path):
    """A self-signed certificate for 127.0.0.1 and its key."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "sandbox")])
    now = datetime.now(tz=timezone.utc)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"
    paths[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return tuple(str(path) for path in paths)


def test_https_with_given_certificate(certificate):
    cert, key = certificate
    with SandboxProcess("--tls-cert", cert, "--tls-key", key, verify=cert) as sandbox:
        assert sandbox.url.startswith("https://127.0.0.1:")
        assert sandbox.call("GET", "/security/rest/v1/currentUser").ok
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(f"{sandbox.url}/healthz", timeout=5)


def test_port_in_use_prints_one_line():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        result = command("--port", str(port))
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert f"Cannot listen on 127.0.0.1:{port}" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "/no/such/file.yaml"], "cannot be read"),
        (
            ["--variant", "unknown_job=418"],
            "Variant 'unknown_job' must be empty or 404 or 400 or 403 or 500 or foreign_code",
        ),
        (["--variant", "nope=1"], "Unknown variant 'nope'"),
        (["--time-scale", "0"], "--time-scale"),
        (["--token", "x", "--credential-id", "y"], "not have the format of a Control Hub token"),
        (["--token", "x"], "--token requires --credential-id"),
        (["--tls-cert", __file__], "must be used together"),
    ],
)
def test_invalid_arguments_print_clear_error(arguments, message):
    result = command(*arguments)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_help_version_and_variants():
    text = command("--help").stdout
    assert "--time-scale" in text
    assert "unauthorized" in text
    assert __version__ in command("--version").stdout
    assert "unknown_job" in command("--list-variants").stdout


def test_missing_requirement_prints_install_command():
    script = (
        "import sys; sys.modules['fastapi'] = None\nfrom airflow_provider_streamsets.sandbox.cli import main\nmain()"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 1
    assert "airflow-provider-streamsets[sandbox]" in result.stderr
    assert "Traceback" not in result.stderr


def test_sandbox_imports_neither_package_nor_airflow():
    script = (
        "import sys, airflow_provider_streamsets.sandbox.server\n"
        "loaded = [name for name in sys.modules if name == 'airflow' or name.startswith('airflow.')]\n"
        "loaded += [name for name in sys.modules if name.startswith('airflow_provider_streamsets.')\n"
        "           and not name.startswith('airflow_provider_streamsets.sandbox')]\n"
        "print(loaded)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout.strip() == "[]"
