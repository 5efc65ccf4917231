"""Fixtures for all tests of the sandbox."""

from __future__ import annotations

import pytest

from tests.unit.fakes.sandbox_app import Hub


@pytest.fixture
def hub() -> Hub:
    """A sandbox for one test."""
    return Hub()


@pytest.fixture(scope="module")
def shared_hub() -> Hub:
    """A sandbox that the tests of a module share and do not change."""
    return Hub()
