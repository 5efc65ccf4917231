"""The sandbox's clock."""

from __future__ import annotations

import pytest

from airflow_provider_streamsets.sandbox.backend.clock import Clock
from tests.unit.fakes.sandbox_app import T0


def test_clock_cannot_be_set_back():
    clock = Clock(frozen_at=T0)
    with pytest.raises(ValueError, match="before the current time"):
        clock.set(T0 - 1)
    running = Clock(source=lambda: T0)
    running.advance(2)
    assert running.now() == T0 + 2000
    running.freeze()
    running.set(T0 + 9000)
    running.unfreeze()
    assert (running.now(), running.frozen) == (T0 + 9000, False)
