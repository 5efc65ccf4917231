"""The state of a run as a function of time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_streamsets.sandbox.backend.run_state import RunState
from airflow_provider_streamsets.sandbox.backend.runs import FINAL_STATUSES, Run, UserAction
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sandbox.seed.behaviour import Behaviour

T0 = 1_767_261_000_000
BATCH = Behaviour(records=10_000, rate=1000, error_share=0.01)
STREAM = Behaviour(records=None, rate=1000)

LEGAL = {
    "ACTIVATING": {"ACTIVE", "ACTIVATION_ERROR", "DEACTIVATING"},
    "ACTIVE": {"DEACTIVATING"},
    "DEACTIVATING": {"INACTIVE", "INACTIVE_ERROR"},
    "INACTIVE_ERROR": {"INACTIVE"},
    "INACTIVE": set(),
    "ACTIVATION_ERROR": set(),
}


def run_of(behaviour: Behaviour, **changes: object) -> Run:
    run = Run(
        id="run",
        job_id="job",
        run_count=1,
        user="me",
        started=T0,
        version="1",
        commit_id="commit",
        offset_text="{position}",
        engine_ids=("sdc",),
        engine_urls=("http://sdc",),
        behaviour=behaviour,
        parameters={},
        scale=1.0,
        stats_interval=3000,
        force_stop_timeout=20_000,
        needs_ack=False,
    )
    return replace(run, **changes)


def state_of(behaviour: Behaviour, variants: Variants | None = None, **changes: object) -> RunState:
    return RunState(run_of(behaviour, **changes), variants or Variants())


def statuses(state: RunState, until: float = 10_000) -> list[tuple[float, str, str]]:
    """Return the times in seconds after the start at which status or color changed."""
    seen: list[tuple[float, str, str]] = []
    for phase in state.phases:
        if (phase.at - T0) / 1000 <= until:
            current = state.phase_at(phase.at)
            entry = ((phase.at - T0) / 1000, current.status, current.color)
            if not seen or seen[-1][1:] != entry[1:]:
                seen.append(entry)
    return seen


def test_batch_run_passes_through_all_statuses():
    assert statuses(state_of(BATCH)) == [
        (0.0, "ACTIVATING", "GREEN"),
        (1.0, "ACTIVE", "GREEN"),
        (11.0, "DEACTIVATING", "GREEN"),
        (12.0, "INACTIVE", "GRAY"),
    ]


def test_output_share_applies_to_records_without_errors():
    counts = state_of(replace(BATCH, output_share=0.5)).counts(T0 + 60_000)
    assert (counts.input, counts.output, counts.error) == (10_000, 4950, 100)


def test_time_scale_shortens_durations():
    assert [when for when, *_ in statuses(state_of(BATCH, scale=10.0))] == [0.0, 0.1, 1.1, 1.2]
    assert state_of(BATCH, scale=10.0).counts(T0 + 600).input == 5000


def test_stream_runs_until_stopped():
    assert state_of(STREAM).phase_at(T0 + 10**9).status == "ACTIVE"
    assert statuses(state_of(STREAM, stops=[UserAction(T0 + 5000, "me")])) == [
        (0.0, "ACTIVATING", "GREEN"),
        (1.0, "ACTIVE", "GREEN"),
        (5.0, "DEACTIVATING", "GREEN"),
        (6.0, "INACTIVE", "GRAY"),
    ]


@pytest.mark.parametrize(("needs_ack", "last"), [(False, "INACTIVE"), (True, "INACTIVE_ERROR")])
def test_failed_run_ends_red(needs_ack, last):
    state = state_of(replace(BATCH, fails_after=4000), needs_ack=needs_ack)
    assert statuses(state)[-2:] == [(5.0, "DEACTIVATING", "RED"), (6.0, last, "RED")]
    assert "RUN_ERROR" in state.phase_at(T0 + 6000).error
    assert state.counts(T0 + 60_000).input == 4000


def test_failed_start_is_briefly_active_and_red():
    state = state_of(replace(BATCH, start_error="CONTAINER_0800 - no"))
    assert [entry[1:] for entry in statuses(state)] == [
        ("ACTIVATING", "GREEN"),
        ("ACTIVE", "RED"),
        ("DEACTIVATING", "RED"),
        ("INACTIVE", "RED"),
    ]
    assert "START_ERROR" in state.phase_at(T0 + 5000).error
    assert state.saved(T0 + 60_000) is None


def test_variant_start_failure_activation_error():
    state = state_of(replace(BATCH, start_error="no"), Variants(start_failure="activation_error"))
    assert statuses(state)[-1] == (1.0, "ACTIVATION_ERROR", "RED")


def test_variant_start_failure_stays_red():
    state = state_of(replace(BATCH, start_error="no lib"), Variants(start_failure="stays_red"))
    assert statuses(state)[-1] == (1.0, "ACTIVE", "RED")
    phase = state.phase_at(T0 + 10**7)
    assert (phase.status, phase.error, phase.engine_error) == ("ACTIVE", None, "no lib")
    assert [(command.kind, command.result, command.message) for command in state.commands][-1] == (
        "START_PIPELINE",
        "ERROR",
        "no lib",
    )
    assert state.counts(T0 + 10**7).input == 0
    stopped = run_of(replace(BATCH, start_error="no lib"), stops=[UserAction(T0 + 5000, "me")])
    assert RunState(stopped, Variants(start_failure="stays_red")).phase_at(T0 + 60_000).status == "INACTIVE"


def test_lost_engine_turns_run_red_temporarily():
    state = state_of(replace(BATCH, engine_lost_after=2, engine_lost_for=5))
    assert [entry for entry in statuses(state) if entry[1] == "ACTIVE"] == [
        (1.0, "ACTIVE", "GREEN"),
        (3.0, "ACTIVE", "RED"),
        (8.0, "ACTIVE", "GREEN"),
    ]
    assert statuses(state)[-1] == (17.0, "INACTIVE", "GRAY")
    assert state.counts(T0 + 3000).input == state.counts(T0 + 8000).input == 2000
    assert state.counts(T0 + 17_000).input == 10_000
    assert state.is_lost(T0 + 4000)
    assert not state.is_lost(T0 + 8000)


def test_stop_with_lost_engine_times_out():
    lost = replace(STREAM, engine_lost_after=2)
    state = state_of(lost, stops=[UserAction(T0 + 5000, "me")])
    assert statuses(state)[-2:] == [(5.0, "DEACTIVATING", "RED"), (25.0, "INACTIVE_ERROR", "RED")]
    assert state.saved(T0 + 10**7) is None


def test_force_stop_ends_hanging_run():
    slow = replace(STREAM, stop_takes=60)
    state = state_of(slow, stops=[UserAction(T0 + 5000, "me")], force_stops=[UserAction(T0 + 9000, "me")])
    assert statuses(state)[-2:] == [(5.0, "DEACTIVATING", "GREEN"), (9.3, "INACTIVE", "GRAY")]


@pytest.mark.parametrize("needs_ack", [False, True])
def test_variant_forced_stop_end(needs_ack):
    slow = replace(STREAM, stop_takes=60)
    actions = {"force_stops": [UserAction(T0 + 9000, "me")], "needs_ack": needs_ack}
    state = state_of(slow, Variants(forced_stop_end="inactive_error"), **actions)
    assert statuses(state)[-1] == (9.3, "INACTIVE_ERROR", "RED")
    assert state.phase_at(T0 + 10_000).error.startswith("JOBRUNNER_64 - ")
    acknowledged = state_of(
        slow, Variants(forced_stop_end="inactive_error"), acks=[UserAction(T0 + 20_000, "me")], **actions
    )
    assert statuses(acknowledged)[-1] == (20.0, "INACTIVE", "GRAY")
    assert statuses(state_of(slow, **actions))[-1] == (9.3, "INACTIVE", "GRAY")
    assert state_of(slow, **actions).phase_at(T0 + 10_000).error is None


def test_superseded_run_ends_at_once():
    upgrade = UserAction(T0 + 5000, "me", "Job upgraded to pipeline version v2")
    for behaviour in (STREAM, BATCH, replace(STREAM, engine_lost_after=2)):
        state = state_of(behaviour, superseded=upgrade)
        assert statuses(state)[-1] == (5.0, "INACTIVE", "GRAY")
        assert state.finished_at(T0 + 5000) == T0 + 5000
    assert state_of(BATCH, superseded=upgrade).counts(T0 + 60_000).input == 4000
    assert [(event.status, event.user) for event in state_of(BATCH, superseded=upgrade).events(T0 + 5000)] == [
        ("ACTIVATING", "me"),
        ("ACTIVE", None),
        ("DEACTIVATING", "me"),
        ("DEACTIVATING", None),
        ("INACTIVE", None),
    ]


@pytest.mark.parametrize(
    ("behaviour", "changes", "expected"),
    [
        (BATCH, {}, {0: "starting", 5: "running", 11: "finishing", 12: "succeeded"}),
        (replace(BATCH, fails_after=4000), {"needs_ack": True}, {4: "running", 5: "failing", 6: "failed"}),
        (replace(BATCH, fails_after=0), {"needs_ack": True, "acks": [UserAction(T0 + 5000, "me")]}, {9: "failed"}),
        (replace(BATCH, start_error="no"), {}, {0: "starting", 1: "failing", 3: "failed"}),
        (STREAM, {"stops": [UserAction(T0 + 5000, "me")]}, {4: "running", 5: "stopping", 6: "stopped"}),
        (STREAM, {"superseded": UserAction(T0 + 5000, "me", "Job upgraded")}, {4: "running", 5: "upgraded"}),
        (
            replace(STREAM, engine_lost_after=2),
            {"stops": [UserAction(T0 + 5000, "me")]},
            {3: "engine not responding", 6: "engine not responding", 25: "failed"},
        ),
    ],
)
def test_outcome_in_words(behaviour, changes, expected):
    state = state_of(behaviour, **changes)
    assert {second: state.outcome(T0 + second * 1000) for second in expected} == expected


def test_acknowledgement_keeps_error_message():
    run = run_of(replace(BATCH, fails_after=0), needs_ack=True, acks=[UserAction(T0 + 60_000, "me")])
    for color in ("GRAY", "RED"):
        state = RunState(run, Variants(color_after_acknowledge=color))
        assert statuses(state)[-1] == (60.0, "INACTIVE", color)
        assert "RUN_ERROR" in state.phase_at(T0 + 70_000).error


def test_only_user_actions_have_user():
    state = state_of(STREAM, stops=[UserAction(T0 + 5000, "me")])
    users = [(event.status, event.user) for event in state.events(T0 + 10_000)]
    assert users == [
        ("ACTIVATING", "me"),
        ("ACTIVE", None),
        ("DEACTIVATING", "me"),
        ("DEACTIVATING", None),
        ("INACTIVE", None),
    ]


def test_metrics_are_saved_at_interval_and_end():
    state = state_of(BATCH)
    assert state.saved(T0 + 3999) is None
    assert (state.saved(T0 + 4000).at, state.saved(T0 + 4000).input) == (T0 + 4000, 3000)
    assert state.saved(T0 + 6999) == state.saved(T0 + 4000)
    assert state.saved(T0 + 12_999).input == 9000
    final = state.saved(T0 + 13_000)
    assert (final.input, final.error, final.output) == (10_000, 100, 9900)
    assert final.at >= state.natural_end


def test_registry_has_final_counts_after_end():
    state = state_of(BATCH, Variants(metrics_lag=60.0))
    assert state.registered(T0 + 3999) is None
    assert state.registered(T0 + 11_999).input == 9000
    assert (state.registered(T0 + 12_000).input, state.saved(T0 + 12_000).input) == (10_000, 9000)
    assert state_of(replace(BATCH, saves_metrics=False)).registered(T0 + 60_000) is None
    assert state_of(replace(BATCH, start_error="no")).registered(T0 + 60_000) is None
    # An engine that stays lost never reports the remaining records.
    lost = state_of(replace(STREAM, engine_lost_after=4), stops=[UserAction(T0 + 6000, "me")])
    assert (lost.finished_at(T0 + 60_000), lost.registered(T0 + 60_000).input) == (T0 + 26_000, 3000)


def test_variant_metrics_lag():
    assert state_of(BATCH, Variants(metrics_lag=60.0)).saved(T0 + 70_999).input == 9000
    assert state_of(BATCH, Variants(metrics_lag=60.0)).saved(T0 + 71_000).input == 10_000


seconds = st.floats(0, 30, allow_nan=False)
behaviours = st.builds(
    Behaviour,
    records=st.none() | st.integers(0, 20_000),
    rate=st.floats(1, 5000),
    error_share=st.floats(0, 1),
    activation=seconds,
    deactivation=seconds,
    stop_takes=st.none() | seconds,
    start_error=st.none() | st.just("CONTAINER_0800 - no"),
    fails_after=st.none() | st.integers(0, 20_000),
    engine_lost_after=st.none() | seconds,
    engine_lost_for=st.none() | seconds,
)


@given(
    behaviour=behaviours,
    scale=st.sampled_from([0.5, 1.0, 7.0, 1000.0]),
    needs_ack=st.booleans(),
    start_failure=st.sampled_from(["inactive", "activation_error", "stays_red"]),
    stops=st.lists(st.integers(0, 60_000), max_size=2),
    forces=st.lists(st.integers(0, 90_000), max_size=2),
    times=st.lists(st.integers(0, 200_000), min_size=2, max_size=12),
)
def test_status_transitions_are_legal(behaviour, scale, needs_ack, start_failure, stops, forces, times):
    run = run_of(
        behaviour,
        scale=scale,
        needs_ack=needs_ack,
        stops=[UserAction(T0 + at, "me") for at in sorted(stops)],
        force_stops=[UserAction(T0 + at, "me") for at in sorted(forces)],
    )
    state = RunState(run, Variants(start_failure=start_failure))
    phase_times = [phase.at for phase in state.phases]
    assert phase_times == sorted(phase_times)
    names = [phase.status for phase in state.phases]
    assert all(later == earlier or later in LEGAL[earlier] for earlier, later in pairwise(names))
    for phase in state.phases:
        assert (phase.status in FINAL_STATUSES) == (phase.pipeline is None and phase is not state.phases[0])
        assert phase.color == "RED" or phase.error is None
    earlier_counts = earlier_saved = None
    for time in sorted(T0 + at for at in times):
        counts, saved = state.counts(time), state.saved(time)
        assert 0 <= counts.error <= counts.input
        assert earlier_counts is None or counts.input >= earlier_counts.input
        if earlier_saved is not None:
            assert saved is not None
            assert (saved.at, saved.input) >= (earlier_saved.at, earlier_saved.input)
        if saved is not None:
            assert saved.at <= time
            assert saved.input <= counts.input
        finished = state.finished_at(time)
        assert finished == 0 or run.started <= finished <= time
        assert all(event.at <= time for event in state.events(time))
        earlier_counts, earlier_saved = counts, saved


@given(behaviour=behaviours, stopped_at=st.integers(0, 60_000), times=st.lists(st.integers(0, 60_000), max_size=8))
def test_later_actions_do_not_change_past(behaviour, stopped_at, times):
    before = RunState(run_of(behaviour), Variants())
    after = RunState(run_of(behaviour, stops=[UserAction(T0 + stopped_at, "me")]), Variants())
    for time in (T0 + at for at in times if at < stopped_at):
        assert after.phase_at(time) == before.phase_at(time)
        assert after.counts(time) == before.counts(time)
        assert after.saved(time) == before.saved(time)
        assert after.events(time) == before.events(time)
