"""The rules for changing the world, under any sequence of calls."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_streamsets.sandbox.backend.balancing import balance_job
from airflow_provider_streamsets.sandbox.backend.clock import Clock
from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError, WrongStateError
from airflow_provider_streamsets.sandbox.backend.variants import VariantError, Variants
from airflow_provider_streamsets.sandbox.seed.loader import load_seed
from airflow_provider_streamsets.sandbox.serializers.statuses import current_status_body

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

# What may be seen after what, when looking now and then.
LATER = {
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
def test_after_any_sequence_of_calls_runs_are_counted_and_statuses_legal(steps, scale):
    clock = Clock(frozen_at=T0)
    world = World(SEED, clock, Variants(), scale)
    jobs = {name: next(job for job in world.jobs.values() if job.seed.name == name) for name in NAMES}
    seen: dict[str, tuple[Any, int, int]] = {}
    for action, argument in [("advance", 0.0), *steps]:
        done = True
        if action == "advance":
            clock.advance(argument)
        else:
            try:
                act = partial(balance_job, world) if action == "balance" else getattr(world, action)
                act(jobs[argument])
            except WrongStateError:
                done = False
        for name, job in jobs.items():
            status = current_status_body(world, job, clock.now()) or {}
            now = (status.get("status"), status.get("runCount", 0), status.get("inputRecordCount", 0))
            before = seen.get(name, now)
            started = done and action == "start" and argument == name
            assert now[1] == before[1] + started
            if now[0] != before[0]:
                assert now[0] in LATER[before[0]]
            if not started:
                assert now[2] >= before[2]
            assert status.get("finishTime", 0) <= clock.now()
            seen[name] = now


def test_no_engine_with_all_labels_is_a_refusal():
    world = World(SEED, Clock(frozen_at=T0), Variants())
    world.engines.clear()
    with pytest.raises(ProblemError, match="no engine has all its labels"):
        world.start(next(iter(world.jobs.values())))


def test_the_clock_only_goes_forward():
    clock = Clock(frozen_at=T0)
    with pytest.raises(ValueError, match="only goes forward"):
        clock.set(T0 - 1)
    running = Clock(source=lambda: T0)
    running.advance(2)
    assert running.now() == T0 + 2000
    running.freeze()
    running.set(T0 + 9000)
    running.unfreeze()
    assert (running.now(), running.frozen) == (T0 + 9000, False)


def test_variants_know_their_values():
    assert Variants().changed({"metrics_lag": "5"}).metrics_lag == 5.0
    for wrong in ({"metrics_lag": "soon"}, {"metrics_lag": -1}, {"unknown_job": "teapot"}, {"x": "y"}):
        with pytest.raises(VariantError):
            Variants().changed(wrong)


def test_a_partial_bulk_action_does_what_it_can():
    world = World(SEED, Clock(frozen_at=T0), Variants(bulk_partial="partial"))
    names = {job.seed.name: job.id for job in world.jobs.values()}
    with pytest.raises(ProblemError):
        world.in_bulk([names["Quick check"], "no:no"], world.check_start, world.start)
    assert [start.job_name for start in world.starts] == ["Quick check"]
