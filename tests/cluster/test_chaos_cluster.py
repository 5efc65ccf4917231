"""The short form of ``make chaos-cluster``: all guarantees hold while the processes of a cluster fail."""

from __future__ import annotations

import pytest

from dev.local_postgres import LocalPostgresError
from dev.local_redis import LocalRedisError
from tests.chaos.cluster import ClusterError
from tests.chaos.plan import CLUSTER_FAULTS, CLUSTER_SHORT, make_plan
from tests.chaos.report import describe_violations
from tests.chaos.runner import run_plan

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def test_guarantees_hold_in_cluster(tmp_path):
    try:
        result = run_plan(make_plan(seed=1, size=CLUSTER_SHORT), tmp_path)
    except (ClusterError, LocalPostgresError, LocalRedisError) as error:
        pytest.skip(str(error))
    assert list(describe_violations(result)) == []
    assert sum(len(history.runs) for history in result.histories) >= CLUSTER_SHORT.runs
    assert sum(result.kill_counts[target] > 0 for target in CLUSTER_FAULTS) >= 2
    assert sum(result.fault_hits.values()) > 0
