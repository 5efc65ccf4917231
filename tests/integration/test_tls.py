"""TLS verification of Airflow connections to a Control Hub with an untrusted certificate."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import trustme

from airflow_provider_streamsets.hooks.control_hub import ControlHubHook
from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from airflow_provider_streamsets.triggers.runs import ControlHubRunsTrigger

JOB = "Orders to warehouse"


@dataclass
class TlsHub:
    """A sandbox that serves HTTPS."""

    sandbox: SandboxProcess
    ca_file: str
    other_ca_file: str


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsHub]:
    folder = tmp_path_factory.mktemp("tls")
    authority, other = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other.pem")
    arguments = ("--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem"))
    with SandboxProcess(*arguments, time_scale=20, verify=str(folder / "ca.pem")) as sandbox:
        yield TlsHub(sandbox, str(folder / "ca.pem"), str(folder / "other.pem"))


@pytest.fixture
def connect(hub: TlsHub, monkeypatch: pytest.MonkeyPatch):
    """Sets an Airflow connection; each needs its own id, because triggers cache connections."""

    def connected(conn_id: str, **extra: object) -> str:
        fields = {"conn_type": "streamsets", "host": hub.sandbox.url, "login": hub.sandbox.credential_id}
        connection = {**fields, "password": hub.sandbox.token, "extra": extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
        return conn_id

    return connected


def requests_of(hub: TlsHub) -> int:
    """Return the number of API requests received by the sandbox."""
    counts = hub.sandbox.requests()["counts"]
    return sum(count for path, count in counts.items() if "/sandbox/" not in path)


def waited_for(conn_id: str, job_id: str, run_count: int, seconds: float) -> dict:
    """Wait for a run with a trigger and return the payload of its event."""

    async def first_event() -> dict:
        trigger = ControlHubRunsTrigger(
            control_hub_conn_id=conn_id,
            runs=[[job_id, run_count]],
            metrics_timeout=30,
            poll_interval=0.5,
            timeout=seconds,
            deadline=time.time() + seconds,
        )
        async for event in trigger.run():
            return event.payload
        raise AssertionError("the trigger ended without an event")

    return asyncio.run(first_event())


@pytest.mark.parametrize("extra", [{}, {"verify": True}, {"verify": "true"}], ids=str)
def test_untrusted_certificate_is_refused(hub, connect, extra):
    before = requests_of(hub)
    worked, said = ControlHubHook(connect("refused", **extra)).test_connection()
    assert worked is False
    assert "is not trusted" in said
    assert "'Verify TLS certificate' (extra 'verify') of the connection" in said
    assert requests_of(hub) == before


def test_ca_file_of_other_authority_is_refused(hub, connect):
    worked, said = ControlHubHook(connect("other", verify=hub.other_ca_file)).test_connection()
    assert worked is False
    assert "is not trusted" in said


def test_ca_file_is_trusted(hub, connect):
    worked, said = ControlHubHook(connect("trusted", verify=hub.ca_file)).test_connection()
    assert worked is True, said


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("verify", [False, "false"], ids=repr)
def test_verification_can_be_disabled(hub, connect, verify):
    worked, said = ControlHubHook(connect("off", verify=verify)).test_connection()
    assert worked is True, said


def test_disabled_verification_is_logged(hub, connect):
    with (
        pytest.warns(Warning, match="Unverified HTTPS request"),
        ControlHubHook(connect("said", verify=False)).get_conn() as client,
    ):
        client.current_user()


def test_trigger_waits_with_untrusted_certificate_until_deadline(hub, connect, caplog):
    before = requests_of(hub)
    event = waited_for(connect("trigger_refused"), hub.sandbox.job_id(JOB), 1, seconds=2)
    assert "reports" not in event
    assert "has not ended" in json.dumps(event)
    assert "is not trusted" in caplog.text
    assert requests_of(hub) == before


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("how", ["ca file", "off"])
def test_trigger_waits_over_tls(hub, connect, how):
    conn_id = connect(f"trigger_{how.replace(' ', '_')}", verify=hub.ca_file if how == "ca file" else False)
    job_id = hub.sandbox.job_id(JOB)
    hub.sandbox.wait_for_status(JOB, "INACTIVE", timeout=30)
    run_count = hub.sandbox.start_job(JOB)["runCount"]
    event = waited_for(conn_id, job_id, run_count, seconds=30)
    assert event["reports"][job_id]["outcome"] == "SUCCEEDED"
    assert event["reports"][job_id]["run"]["run_count"] == run_count
