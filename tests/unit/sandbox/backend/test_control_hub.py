"""Properties of actions on the simulated Control Hub."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_streamsets.sandbox.backend.balancing import balance_job
from airflow_provider_streamsets.sandbox.backend.clock import Clock
from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError, WrongStateError
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sandbox.seed.models import load_seed
from airflow_provider_streamsets.sandbox.serializers.runs import current_status_body

T0 = 1_767_261_000_000
SEED = load_seed()

ACTIONS = (
    "start", "stop", "force_stop", "acknowledge", "reset_offset", "synchronize", "reset_error_info", "balance",
)  # fmt: skip
NAMES = (
    "Quick check",
    "Customers nightly",
    "Payments reconciliation",
    "Clickstream to lake",
    "Legacy feed",
    "Truck positions north",
    "Truck positions south",
)

# Statuses that can follow each other when the status is polled.
SUCCESSORS = {
    None: {"ACTIVATING"},
    "INACTIVE": {"ACTIVATING"},
    "ACTIVATING": {"ACTIVE", "DEACTIVATING", "INACTIVE", "INACTIVE_ERROR"},
    "ACTIVE": {"DEACTIVATING", "INACTIVE", "INACTIVE_ERROR"},
    "DEACTIVATING": {"INACTIVE", "INACTIVE_ERROR"},
    "INACTIVE_ERROR": {"INACTIVE"},
}


@settings(deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.sampled_from(ACTIONS), st.sampled_from(NAMES)),
            st.tuples(st.just("advance"), st.floats(0, 40)),
        ),
        max_size=25,
    ),
    scale=st.sampled_from([1.0, 20.0]),
)
def test_any_action_sequence_keeps_state_consistent(steps, scale):
    clock = Clock(frozen_at=T0)
    backend = ControlHubBackend(SEED, clock, Variants(), scale)
    jobs = {name: next(job for job in backend.jobs.values() if job.seed.name == name) for name in NAMES}
    seen: dict[str, tuple[Any, int, int]] = {}
    for action, argument in [("advance", 0.0), *steps]:
        is_allowed = True
        if action == "advance":
            clock.advance(argument)
        else:
            try:
                act = partial(balance_job, backend) if action == "balance" else getattr(backend, action)
                act(jobs[argument])
            except WrongStateError:
                is_allowed = False
        for name, job in jobs.items():
            status = current_status_body(backend, job, clock.now()) or {}
            current = (status.get("status"), status.get("runCount", 0), status.get("inputRecordCount", 0))
            previous = seen.get(name, current)
            started = is_allowed and action == "start" and argument == name
            assert current[1] == previous[1] + started
            if current[0] != previous[0]:
                assert current[0] in SUCCESSORS[previous[0]]
            if not started:
                assert current[2] >= previous[2]
            assert status.get("finishTime", 0) <= clock.now()
            seen[name] = current


def test_start_without_matching_engine_raises_error():
    backend = ControlHubBackend(SEED, Clock(frozen_at=T0), Variants())
    backend.engines.clear()
    with pytest.raises(ApiError, match="no engine has all its labels"):
        backend.start(next(iter(backend.jobs.values())))


def test_partial_bulk_action_applies_to_allowed_jobs():
    backend = ControlHubBackend(SEED, Clock(frozen_at=T0), Variants(bulk_partial="partial"))
    names = {job.seed.name: job.id for job in backend.jobs.values()}
    with pytest.raises(ApiError):
        backend.apply_in_bulk([names["Quick check"], "no:no"], backend.check_start, backend.start)
    assert [start.job_name for start in backend.starts] == ["Quick check"]
