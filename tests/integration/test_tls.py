"""Connections to a Control Hub whose certificate nobody knows: refused, unless the connection says otherwise."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import trustme

from airflow_provider_streamsets.hooks.control_hub import ControlHubHook
from airflow_provider_streamsets.triggers.runs import ControlHubJobRunTrigger
from dev.local_sandbox import SandboxProcess

JOB = "Orders to warehouse"


@dataclass
class TlsHub:
    """A sandbox that serves https."""

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
    """Sets the Airflow connection, with an id of its own each time, as triggers keep what a connection said."""

    def connected(conn_id: str, **extra: object) -> str:
        fields = {"conn_type": "streamsets", "host": hub.sandbox.url, "login": hub.sandbox.credential_id}
        connection = {**fields, "password": hub.sandbox.token, "extra": extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
        return conn_id

    return connected


def requests_of(hub: TlsHub) -> int:
    """How many requests have got through, those of this question left out."""
    counts = hub.sandbox.requests()["counts"]
    return sum(count for path, count in counts.items() if "/sandbox/" not in path)


def waited_for(conn_id: str, job_id: str, run_count: int, seconds: float) -> dict:
    """What a trigger tells of a run, seconds after which it gives up."""

    async def first_event() -> dict:
        trigger = ControlHubJobRunTrigger(
            control_hub_conn_id=conn_id,
            job_id=job_id,
            run_count=run_count,
            poll_interval=0.5,
            timeout=seconds,
            deadline=time.time() + seconds,
        )
        async for event in trigger.run():
            return event.payload
        raise AssertionError("the trigger has ended without an event")

    return asyncio.run(first_event())


@pytest.mark.parametrize("extra", [{}, {"verify": True}, {"verify": "true"}], ids=str)
def test_a_certificate_that_nobody_knows_is_refused_by_default(hub, connect, extra):
    before = requests_of(hub)
    worked, said = ControlHubHook(connect("refused", **extra)).test_connection()
    assert worked is False
    assert "is not trusted" in said
    assert "'verify' of the connection" in said
    assert requests_of(hub) == before


def test_the_ca_file_of_another_authority_does_not_help(hub, connect):
    worked, said = ControlHubHook(connect("other", verify=hub.other_ca_file)).test_connection()
    assert worked is False
    assert "is not trusted" in said


def test_the_ca_file_of_its_authority_makes_it_trusted(hub, connect):
    worked, said = ControlHubHook(connect("trusted", verify=hub.ca_file)).test_connection()
    assert worked is True, said


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("verify", [False, "false"], ids=repr)
def test_verification_can_be_turned_off(hub, connect, verify):
    worked, said = ControlHubHook(connect("off", verify=verify)).test_connection()
    assert worked is True, said


def test_a_client_that_does_not_verify_says_so(hub, connect):
    with (
        pytest.warns(Warning, match="Unverified HTTPS request"),
        ControlHubHook(connect("said", verify=False)).get_conn() as client,
    ):
        client.current_user()


def test_a_trigger_refuses_the_certificate_and_waits_on_until_its_deadline(hub, connect, caplog):
    before = requests_of(hub)
    event = waited_for(connect("trigger_refused"), hub.sandbox.job_id(JOB), 1, seconds=2)
    assert "report" not in event
    assert "has not ended" in json.dumps(event)
    assert "is not trusted" in caplog.text
    assert requests_of(hub) == before


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("how", ["ca file", "off"])
def test_a_trigger_waits_over_tls_as_the_connection_says(hub, connect, how):
    conn_id = connect(f"trigger_{how.replace(' ', '_')}", verify=hub.ca_file if how == "ca file" else False)
    job_id = hub.sandbox.job_id(JOB)
    hub.sandbox.wait_for_status(JOB, "INACTIVE", timeout=30)
    run_count = hub.sandbox.start_job(JOB)["runCount"]
    event = waited_for(conn_id, job_id, run_count, seconds=30)
    assert event["report"]["outcome"] == "SUCCEEDED"
    assert event["report"]["run"]["run_count"] == run_count
