"""The short form of ``make chaos``: all guarantees hold while processes are killed and requests fail."""

from __future__ import annotations

import pytest

from tests.chaos.plan import SHORT, Target, make_plan
from tests.chaos.report import describe_violations
from tests.chaos.runner import run_plan

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def test_guarantees_hold_under_kills_and_faults(tmp_path):
    result = run_plan(make_plan(seed=1, size=SHORT), tmp_path)
    assert list(describe_violations(result)) == []
    assert sum(len(history.runs) for history in result.histories) >= SHORT.runs - 5
    for target in (Target.TASK, Target.TRIGGERER, Target.SANDBOX):
        assert result.kill_counts[target] > 0
    assert result.kill_counts[Target.SCHEDULER] + result.kill_counts[Target.MACHINE] > 0
    assert sum(result.fault_hits.values()) > 0
