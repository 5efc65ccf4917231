from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_streamsets.control_hub import ControlHubClient, submission
from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[SandboxProcess]:
    with SandboxProcess() as process:
        process.freeze()
        yield process


@pytest.fixture
def sandbox(sandbox_process: SandboxProcess) -> Iterator[SandboxProcess]:
    """A sandbox whose clock advances only on sleep, and whose variants are reset after each test."""
    before = sandbox_process.state()["variants"]
    running_before = {job["id"] for job in sandbox_process.state()["jobs"] if job["running"]}
    yield sandbox_process
    sandbox_process.set_variants(**before)
    # Stop runs that a test left active.
    for job in sandbox_process.state()["jobs"]:
        if job["running"] and job["id"] not in running_before:
            sandbox_process.advance(60)
            sandbox_process.call("POST", f"/jobrunner/rest/v1/job/{job['id']}/stop")
    sandbox_process.advance(600)


@pytest.fixture(autouse=True)
def one_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the sandbox's clock for start times, as with synchronized clocks."""
    if "sandbox_process" in request.fixturenames:
        process = request.getfixturevalue("sandbox_process")
        monkeypatch.setattr(submission, "wall_clock", lambda: process.now() / 1000)


@pytest.fixture
def client(sandbox: SandboxProcess) -> Iterator[ControlHubClient]:
    """A client whose sleep advances the sandbox's clock."""
    with client_of(sandbox) as client:
        yield client


def client_of(sandbox: SandboxProcess, **options: Any) -> ControlHubClient:
    return ControlHubClient(
        **{
            "base_url": sandbox.url,
            "credential_id": sandbox.credential_id,
            "token": sandbox.token,
            "sleep": sandbox.advance,
            **options,
        }
    )


def start_run(sandbox: SandboxProcess, name: str, seconds: float = 20) -> dict[str, Any]:
    """Start a job unless it is active, advance the clock, and return the XComs that its task pushes."""
    job_id = sandbox.job_id(name)
    sandbox.call("POST", f"/jobrunner/rest/v1/job/{job_id}/start", {})
    run = sandbox.call("GET", f"/jobrunner/rest/v1/job/{job_id}/currentStatus").json()
    sandbox.advance(seconds)
    return {"job_id": job_id, "run_count": run["runCount"]}
