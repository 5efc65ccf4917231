"""The pure model of a run, on times of our choosing."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_streamsets.sandbox.backend.run_state import Lifecycle
from airflow_provider_streamsets.sandbox.backend.runs import ENDED, Ask, Run
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sandbox.seed.behaviour import Behaviour, tuned

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


def life_of(behaviour: Behaviour, variants: Variants | None = None, **changes: object) -> Lifecycle:
    return Lifecycle(run_of(behaviour, **changes), variants or Variants())


def statuses(life: Lifecycle, until: float = 10_000) -> list[tuple[float, str, str]]:
    """Return when which status and color began, in seconds after the start."""
    seen: list[tuple[float, str, str]] = []
    for phase in life.phases:
        if (phase.at - T0) / 1000 <= until:
            current = life.at(phase.at)
            entry = ((phase.at - T0) / 1000, current.status, current.color)
            if not seen or seen[-1][1:] != entry[1:]:
                seen.append(entry)
    return seen


def test_a_batch_run_passes_through_all_statuses_and_ends_gray():
    assert statuses(life_of(BATCH)) == [
        (0.0, "ACTIVATING", "GREEN"),
        (1.0, "ACTIVE", "GREEN"),
        (11.0, "DEACTIVATING", "GREEN"),
        (12.0, "INACTIVE", "GRAY"),
    ]


def test_the_time_scale_shortens_everything():
    assert [when for when, *_ in statuses(life_of(BATCH, scale=10.0))] == [0.0, 0.1, 1.1, 1.2]
    assert life_of(BATCH, scale=10.0).counts(T0 + 600).input == 5000


def test_a_stream_runs_until_it_is_stopped():
    assert life_of(STREAM).at(T0 + 10**9).status == "ACTIVE"
    assert statuses(life_of(STREAM, stops=[Ask(T0 + 5000, "me")])) == [
        (0.0, "ACTIVATING", "GREEN"),
        (1.0, "ACTIVE", "GREEN"),
        (5.0, "DEACTIVATING", "GREEN"),
        (6.0, "INACTIVE", "GRAY"),
    ]


@pytest.mark.parametrize(("needs_ack", "last"), [(False, "INACTIVE"), (True, "INACTIVE_ERROR")])
def test_a_failing_run_ends_red_as_the_job_asks(needs_ack, last):
    life = life_of(replace(BATCH, fails_after=4000), needs_ack=needs_ack)
    assert statuses(life)[-2:] == [(5.0, "DEACTIVATING", "RED"), (6.0, last, "RED")]
    assert "RUN_ERROR" in life.at(T0 + 6000).error
    assert life.counts(T0 + 60_000).input == 4000


def test_a_failing_start_is_active_and_red_for_a_moment():
    life = life_of(replace(BATCH, start_error="CONTAINER_0800 - no"))
    assert [entry[1:] for entry in statuses(life)] == [
        ("ACTIVATING", "GREEN"),
        ("ACTIVE", "RED"),
        ("DEACTIVATING", "RED"),
        ("INACTIVE", "RED"),
    ]
    assert "START_ERROR" in life.at(T0 + 5000).error
    assert life.saved(T0 + 60_000) is None


def test_a_failing_start_ends_in_activation_error_where_the_variant_says_so():
    life = life_of(replace(BATCH, start_error="no"), Variants(start_failure="activation_error"))
    assert statuses(life)[-1] == (1.0, "ACTIVATION_ERROR", "RED")


def test_refused_start_stays_red_until_it_is_stopped_where_the_variant_says_so():
    life = life_of(replace(BATCH, start_error="no lib"), Variants(start_failure="stays_red"))
    assert statuses(life)[-1] == (1.0, "ACTIVE", "RED")
    phase = life.at(T0 + 10**7)
    assert (phase.status, phase.error, phase.refusal) == ("ACTIVE", None, "no lib")
    assert [(command.kind, command.result, command.message) for command in life.commands][-1] == (
        "START_PIPELINE",
        "ERROR",
        "no lib",
    )
    assert life.counts(T0 + 10**7).input == 0
    stopped = run_of(replace(BATCH, start_error="no lib"), stops=[Ask(T0 + 5000, "me")])
    assert Lifecycle(stopped, Variants(start_failure="stays_red")).at(T0 + 60_000).status == "INACTIVE"


def test_a_lost_engine_turns_the_run_red_and_back():
    life = life_of(replace(BATCH, engine_lost_after=2, engine_lost_for=5))
    assert [entry for entry in statuses(life) if entry[1] == "ACTIVE"] == [
        (1.0, "ACTIVE", "GREEN"),
        (3.0, "ACTIVE", "RED"),
        (8.0, "ACTIVE", "GREEN"),
    ]
    assert statuses(life)[-1] == (17.0, "INACTIVE", "GRAY")
    assert life.counts(T0 + 3000).input == life.counts(T0 + 8000).input == 2000
    assert life.counts(T0 + 17_000).input == 10_000
    assert life.is_lost(T0 + 4000)
    assert not life.is_lost(T0 + 8000)


def test_stopping_while_the_engine_is_lost_times_out_into_inactive_error():
    lost = replace(STREAM, engine_lost_after=2)
    life = life_of(lost, stops=[Ask(T0 + 5000, "me")])
    assert statuses(life)[-2:] == [(5.0, "DEACTIVATING", "RED"), (25.0, "INACTIVE_ERROR", "RED")]
    assert life.saved(T0 + 10**7) is None


def test_force_stop_ends_a_run_that_hangs():
    slow = replace(STREAM, stop_takes=60)
    life = life_of(slow, stops=[Ask(T0 + 5000, "me")], force_stops=[Ask(T0 + 9000, "me")])
    assert statuses(life)[-2:] == [(5.0, "DEACTIVATING", "GREEN"), (9.3, "INACTIVE", "GRAY")]


@pytest.mark.parametrize("needs_ack", [False, True])
def test_force_stop_ends_in_an_error_where_the_variant_says_so(needs_ack):
    slow = replace(STREAM, stop_takes=60)
    asked = {"force_stops": [Ask(T0 + 9000, "me")], "needs_ack": needs_ack}
    life = life_of(slow, Variants(forced_stop_end="inactive_error"), **asked)
    assert statuses(life)[-1] == (9.3, "INACTIVE_ERROR", "RED")
    assert life.at(T0 + 10_000).error.startswith("JOBRUNNER_64 - ")
    acknowledged = life_of(slow, Variants(forced_stop_end="inactive_error"), acks=[Ask(T0 + 20_000, "me")], **asked)
    assert statuses(acknowledged)[-1] == (20.0, "INACTIVE", "GRAY")
    assert statuses(life_of(slow, **asked))[-1] == (9.3, "INACTIVE", "GRAY")
    assert life_of(slow, **asked).at(T0 + 10_000).error is None


def test_superseded_run_ends_at_once():
    upgrade = Ask(T0 + 5000, "me", "Job upgraded to pipeline version v2")
    for behaviour in (STREAM, BATCH, replace(STREAM, engine_lost_after=2)):
        life = life_of(behaviour, superseded=upgrade)
        assert statuses(life)[-1] == (5.0, "INACTIVE", "GRAY")
        assert life.finished_at(T0 + 5000) == T0 + 5000
    assert life_of(BATCH, superseded=upgrade).counts(T0 + 60_000).input == 4000
    assert [(event.status, event.user) for event in life_of(BATCH, superseded=upgrade).events(T0 + 5000)] == [
        ("ACTIVATING", "me"),
        ("ACTIVE", None),
        ("DEACTIVATING", "me"),
        ("DEACTIVATING", None),
        ("INACTIVE", None),
    ]


def test_an_acknowledgement_ends_the_error_but_keeps_its_message():
    run = run_of(replace(BATCH, fails_after=0), needs_ack=True, acks=[Ask(T0 + 60_000, "me")])
    for color in ("GRAY", "RED"):
        life = Lifecycle(run, Variants(color_after_acknowledge=color))
        assert statuses(life)[-1] == (60.0, "INACTIVE", color)
        assert "RUN_ERROR" in life.at(T0 + 70_000).error


def test_a_user_is_named_only_by_events_that_a_user_caused():
    life = life_of(STREAM, stops=[Ask(T0 + 5000, "me")])
    users = [(event.status, event.user) for event in life.events(T0 + 10_000)]
    assert users == [
        ("ACTIVATING", "me"),
        ("ACTIVE", None),
        ("DEACTIVATING", "me"),
        ("DEACTIVATING", None),
        ("INACTIVE", None),
    ]


def test_metrics_are_saved_at_the_jobs_interval_and_once_more_after_the_end():
    life = life_of(BATCH)
    assert life.saved(T0 + 3999) is None
    assert (life.saved(T0 + 4000).at, life.saved(T0 + 4000).input) == (T0 + 4000, 3000)
    assert life.saved(T0 + 6999) == life.saved(T0 + 4000)
    assert life.saved(T0 + 12_999).input == 9000
    final = life.saved(T0 + 13_000)
    assert (final.input, final.error, final.output) == (10_000, 100, 9900)
    assert final.at >= life.own_end


def test_registry_has_the_final_metrics_once_the_run_has_ended():
    life = life_of(BATCH, Variants(metrics_lag=60.0))
    assert life.registered(T0 + 3999) is None
    assert life.registered(T0 + 11_999).input == 9000
    assert (life.registered(T0 + 12_000).input, life.saved(T0 + 12_000).input) == (10_000, 9000)
    assert life_of(replace(BATCH, saves_metrics=False)).registered(T0 + 60_000) is None
    assert life_of(replace(BATCH, start_error="no")).registered(T0 + 60_000) is None
    # An engine that stays away never reports the rest.
    lost = life_of(replace(STREAM, engine_lost_after=4), stops=[Ask(T0 + 6000, "me")])
    assert (lost.finished_at(T0 + 60_000), lost.registered(T0 + 60_000).input) == (T0 + 26_000, 3000)


def test_the_final_save_comes_when_the_variant_says():
    assert life_of(BATCH, Variants(metrics_lag=60.0)).saved(T0 + 70_999).input == 9000
    assert life_of(BATCH, Variants(metrics_lag=60.0)).saved(T0 + 71_000).input == 10_000


def test_parameters_tune_the_behaviour():
    changed = tuned(BATCH, {"RECORDS": "50", "RATE": "2.5", "ERROR_SHARE": "0.5", "OTHER": "x"})
    assert (changed.records, changed.rate, changed.error_share) == (50, 2.5, 0.5)
    assert tuned(BATCH, {"RECORDS": ""}) == BATCH


@pytest.mark.parametrize(
    ("name", "value"),
    [("RECORDS", "many"), ("RECORDS", "1.5"), ("RATE", "0"), ("ERROR_SHARE", "2"), ("RATE", "nan"), ("RATE", "inf")],
)
def test_a_parameter_that_makes_no_sense_fails_the_pipelines_validation(name, value):
    error = tuned(BATCH, {name: value}).start_error
    assert "CONTAINER_0800" in error
    assert name in error


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
    moments=st.lists(st.integers(0, 200_000), min_size=2, max_size=12),
)
def test_any_run_follows_legal_transitions_and_never_goes_back(
    behaviour, scale, needs_ack, start_failure, stops, forces, moments
):
    run = run_of(
        behaviour,
        scale=scale,
        needs_ack=needs_ack,
        stops=[Ask(T0 + at, "me") for at in sorted(stops)],
        force_stops=[Ask(T0 + at, "me") for at in sorted(forces)],
    )
    life = Lifecycle(run, Variants(start_failure=start_failure))
    times = [phase.at for phase in life.phases]
    assert times == sorted(times)
    names = [phase.status for phase in life.phases]
    assert all(later == earlier or later in LEGAL[earlier] for earlier, later in pairwise(names))
    for phase in life.phases:
        assert (phase.status in ENDED) == (phase.pipeline is None and phase is not life.phases[0])
        assert phase.color == "RED" or phase.error is None
    earlier_counts = earlier_saved = None
    for moment in sorted(T0 + at for at in moments):
        counts, saved = life.counts(moment), life.saved(moment)
        assert 0 <= counts.error <= counts.input
        assert earlier_counts is None or counts.input >= earlier_counts.input
        if earlier_saved is not None:
            assert saved is not None
            assert (saved.at, saved.input) >= (earlier_saved.at, earlier_saved.input)
        if saved is not None:
            assert saved.at <= moment
            assert saved.input <= counts.input
        finished = life.finished_at(moment)
        assert finished == 0 or run.started <= finished <= moment
        assert all(event.at <= moment for event in life.events(moment))
        earlier_counts, earlier_saved = counts, saved


@given(behaviour=behaviours, asked=st.integers(0, 60_000), moments=st.lists(st.integers(0, 60_000), max_size=8))
def test_what_is_asked_later_does_not_change_what_was_seen_before(behaviour, asked, moments):
    before = Lifecycle(run_of(behaviour), Variants())
    after = Lifecycle(run_of(behaviour, stops=[Ask(T0 + asked, "me")]), Variants())
    for moment in (T0 + at for at in moments if at < asked):
        assert after.at(moment) == before.at(moment)
        assert after.counts(moment) == before.counts(moment)
        assert after.saved(moment) == before.saved(moment)
        assert after.events(moment) == before.events(moment)
