"""The short form of ``make chaos``: the promises hold while processes are killed and requests go wrong."""

from __future__ import annotations

import pytest

from tests.chaos.performance import perform
from tests.chaos.plan import SHORT, Target, make_plan
from tests.chaos.table import told

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def test_every_run_is_started_exactly_once_and_none_is_lost_whatever_dies(tmp_path):
    result = perform(make_plan(seed=1, size=SHORT), tmp_path)
    assert list(told(result)) == []
    assert sum(len(history.runs) for history in result.histories) >= SHORT.runs - 5
    for target in (Target.TASK, Target.TRIGGERER, Target.SANDBOX):
        assert result.kills[target] > 0
    assert result.kills[Target.SCHEDULER] + result.kills[Target.MACHINE] > 0
    assert sum(result.fault_hits.values()) > 0
