"""Fixtures for sandbox processes with the official StreamSets SDK as a client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess

# Only twice as fast: the SDK polls every second and must see pipelines RUNNING.
TIME_SCALE = 2


def _log_in(sandbox: SandboxProcess) -> Any:
    sdk = pytest.importorskip("streamsets.sdk", reason="the official StreamSets SDK is not installed")
    return sdk.ControlHub(credential_id=sandbox.credential_id, token=sandbox.token, aster_url=sandbox.login_url)


@pytest.fixture(scope="module")
def sandbox_process() -> Iterator[SandboxProcess]:
    with SandboxProcess(time_scale=TIME_SCALE) as process:
        yield process


@pytest.fixture(scope="module")
def _client(sandbox_process: SandboxProcess) -> Any:
    return _log_in(sandbox_process)


@pytest.fixture
def sandbox(sandbox_process: SandboxProcess) -> SandboxProcess:
    """A sandbox in its initial state, whose process is shared by the tests of a module."""
    sandbox_process.reset()
    return sandbox_process


@pytest.fixture
def hub(sandbox: SandboxProcess, _client: Any) -> Any:
    """An SDK client of the sandbox."""
    return _client


@pytest.fixture
def other_sandbox() -> Iterator[SandboxProcess]:
    """A second sandbox."""
    with SandboxProcess(time_scale=TIME_SCALE) as process:
        yield process


@pytest.fixture
def other_hub(other_sandbox: SandboxProcess) -> Any:
    """An SDK client of the second sandbox."""
    return _log_in(other_sandbox)
