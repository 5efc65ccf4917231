"""Sandboxes in processes of their own, with the official StreamSets SDK logged in to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dev.local_sandbox import SandboxProcess

# Twice as fast as life: the SDK polls every second and must see pipelines RUNNING.
TIME_SCALE = 2


def _log_in(sandbox: SandboxProcess) -> Any:
    sdk = pytest.importorskip("streamsets.sdk", reason="the official StreamSets SDK is not installed")
    return sdk.ControlHub(credential_id=sandbox.credential_id, token=sandbox.token, aster_url=sandbox.login_url)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    """The sandbox that the tests of a module share."""
    with SandboxProcess(time_scale=TIME_SCALE) as process:
        yield process


@pytest.fixture(scope="module")
def hub(sandbox: SandboxProcess) -> Any:
    """The SDK's view of the shared sandbox."""
    return _log_in(sandbox)


@pytest.fixture
def other_sandbox() -> Iterator[SandboxProcess]:
    """A sandbox for one test alone, as it comes from its seed."""
    with SandboxProcess(time_scale=TIME_SCALE) as process:
        yield process


@pytest.fixture
def other_hub(other_sandbox: SandboxProcess) -> Any:
    """The SDK's view of the sandbox for one test alone."""
    return _log_in(other_sandbox)
