from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_streamsets.control_hub import ControlHubClient, submission
from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[SandboxProcess]:
    with SandboxProcess() as process:
        yield process


@pytest.fixture
def sandbox(sandbox_process: SandboxProcess) -> SandboxProcess:
    """A sandbox in its initial state, whose clock advances only on sleep."""
    sandbox_process.reset()
    sandbox_process.freeze()
    return sandbox_process


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
    if not sandbox.job_state(name)["running"]:
        sandbox.start_job(name)
    job = sandbox.job_state(name)
    sandbox.advance(seconds)
    return {"job_id": job["id"], "run_count": job["run_count"]}
