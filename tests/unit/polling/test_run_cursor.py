from __future__ import annotations

import json
from typing import Any

import pendulum
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub.models import JobRun
from airflow_provider_streamsets.polling.run_cursor import RunCursor

JOB, OTHER = "orders:org", "invoices:org"
NOW = 1_000_000.0


def run(count: int, ended: bool = True, finished: float = NOW, job_id: str = JOB) -> JobRun:
    return JobRun(
        run_id=f"run-{count}",
        job_id=job_id,
        run_count=count,
        status="INACTIVE" if ended else "ACTIVE",
        color="GRAY" if ended else "GREEN",
        start_time=pendulum.from_timestamp(finished - 10),
        finish_time=pendulum.from_timestamp(finished) if ended else None,
    )


def observed_cursor(*runs: JobRun | None) -> RunCursor:
    """One that has polled the job once for each of the runs."""
    finished = RunCursor()
    for number, latest in enumerate(runs):
        finished.observe({JOB: latest}, NOW + number * 30)
    return finished


def deliver_all(runs: RunCursor, delivery: int = 1) -> list[tuple[str, int]]:
    """Hand out all that is due, and confirm it."""
    reported = []
    while (pending := next(runs.pending(), None)) is not None:
        runs.deliver(*pending, delivery)
        reported.append(pending)
    runs.acknowledge(delivery)
    return reported


def stored(runs: RunCursor) -> RunCursor:
    """What continues after a restart."""
    return RunCursor.from_state(json.loads(json.dumps(runs.state)))


def test_run_finished_before_first_poll_is_not_reported():
    assert deliver_all(observed_cursor(run(7), run(7))) == []


def test_run_active_at_first_poll_is_reported_later():
    runs = observed_cursor(run(7, ended=False))
    assert list(runs.pending()) == []
    runs.observe({JOB: run(7)}, NOW + 30)
    assert deliver_all(runs) == [(JOB, 7)]
    assert deliver_all(runs) == []


def test_runs_between_polls_are_reported_oldest_first():
    assert deliver_all(observed_cursor(run(3), run(9))) == [(JOB, count) for count in range(4, 10)]


def test_only_runs_before_active_run_are_reported():
    assert deliver_all(observed_cursor(run(3), run(6, ended=False))) == [(JOB, 4), (JOB, 5)]


def test_pending_runs_are_limited():
    assert len(list(observed_cursor(run(3), run(900)).pending())) == 25


def test_jobs_do_not_delay_each_other():
    runs = RunCursor()
    runs.observe({JOB: run(1), OTHER: run(5)}, NOW)
    runs.observe({JOB: run(2), OTHER: run(6)}, NOW + 30)
    assert list(runs.pending()) == [(JOB, 2), (OTHER, 6)]
    runs.deliver(OTHER, 6, 1)
    assert list(runs.pending()) == [(JOB, 2)]


def test_late_response_with_earlier_run_changes_nothing():
    runs = observed_cursor(run(3), run(4))
    deliver_all(runs)
    runs.observe({JOB: run(3)}, NOW + 60)
    runs.observe({JOB: run(4)}, NOW + 90)
    assert deliver_all(runs) == []
    runs.observe({JOB: run(5)}, NOW + 120)
    assert deliver_all(runs) == [(JOB, 5)]


def test_late_response_does_not_hide_pending_run():
    runs = observed_cursor(run(3), run(4, finished=NOW + 60))
    runs.observe({JOB: run(3)}, NOW + 60)
    latest = runs.latest(JOB)
    assert latest is not None
    assert latest.run_count == 4


def test_unreadable_job_keeps_its_position():
    runs = observed_cursor(run(3))
    runs.observe({}, NOW + 30)
    runs.observe({JOB: None}, NOW + 60)
    runs.observe({JOB: run(5)}, NOW + 90)
    assert deliver_all(runs) == [(JOB, 4), (JOB, 5)]


def test_cursor_advances_only_on_acknowledgement():
    runs = observed_cursor(run(3), run(5))
    runs.deliver(JOB, 4, 1)
    runs.deliver(JOB, 5, 2)
    assert runs.state["runs"] == {JOB: 3}
    assert runs.has_unacknowledged(1)
    runs.acknowledge(1)
    assert runs.state["runs"] == {JOB: 4}
    assert not runs.has_unacknowledged(1)
    assert runs.has_unacknowledged(2)


def test_cursor_does_not_skip_unacknowledged_delivery():
    runs = observed_cursor(run(3), run(5))
    runs.deliver(JOB, 4, 1)
    runs.deliver(JOB, 5, 2)
    runs.acknowledge(2)
    assert runs.state["runs"] == {JOB: 3}
    runs.acknowledge(1)
    assert runs.state["runs"] == {JOB: 5}


def test_restart_repeats_only_unacknowledged_runs():
    runs = observed_cursor(run(3), run(5))
    runs.deliver(JOB, 4, 1)
    runs.acknowledge(1)
    runs.deliver(JOB, 5, 2)
    again = stored(runs)
    again.observe({JOB: run(7)}, NOW + 900)
    assert deliver_all(again) == [(JOB, 5), (JOB, 6), (JOB, 7)]


def test_first_run_of_job_is_reported():
    assert deliver_all(observed_cursor(None, run(1))) == [(JOB, 1)]


def test_old_run_after_missing_status_is_not_reported():
    assert deliver_all(observed_cursor(None, run(1, finished=NOW - 3600))) == []
    runs = observed_cursor(None, run(40, finished=NOW - 3600))
    assert runs.new_jobs == [JOB]
    runs.seed_from_history(JOB, [run(count, finished=NOW - 3600) for count in range(1, 41)])
    assert deliver_all(runs) == []
    assert runs.new_jobs == []


def test_late_tagged_job_reports_runs_since_last_poll():
    runs = RunCursor()
    runs.observe({OTHER: run(1)}, NOW, complete=True)
    runs.observe({OTHER: run(1), JOB: run(6, finished=NOW + 3590)}, NOW + 3600, complete=True)
    assert list(runs.pending()) == []
    runs.seed_from_history(JOB, [run(6, finished=NOW + 3590), run(5, finished=NOW + 10), run(4, finished=NOW - 3600)])
    assert deliver_all(runs) == [(JOB, 5), (JOB, 6)]


def test_partial_polls_keep_time_of_last_listing():
    runs = RunCursor()
    runs.observe({OTHER: run(1)}, NOW, complete=True)
    for number in range(1, 100):
        runs.observe({OTHER: run(1)}, NOW + number * 30, partial=True)
    assert stored(runs).state == {"polled_at": NOW, "runs": {OTHER: 1}}
    runs.observe({OTHER: run(1), JOB: run(1, finished=NOW + 60)}, NOW + 3000, complete=True)
    assert deliver_all(runs) == [(JOB, 1)]


def test_first_partial_poll_initializes_cursor():
    runs = RunCursor()
    runs.observe({JOB: run(3)}, NOW, partial=True)
    assert runs.state == {"polled_at": NOW, "runs": {JOB: 3}}
    runs.observe({JOB: run(4)}, NOW + 30, partial=True)
    assert deliver_all(runs) == [(JOB, 4)]


def test_partial_poll_forgets_no_job():
    runs = observed_cursor(run(3))
    for hours in range(1, 4):
        runs.observe({OTHER: run(1)}, NOW + hours * 3600, partial=True)
    assert runs.state["runs"][JOB] == 3


def test_new_job_without_history_reports_latest_run():
    runs = observed_cursor(None, run(6))
    runs.seed_from_history(JOB, [])
    assert deliver_all(runs) == [(JOB, 6)]


def test_unresolved_new_job_is_resolved_after_restart():
    runs = observed_cursor(run(1))
    later = NOW + 7200
    runs.observe({JOB: run(1), OTHER: run(3, finished=NOW + 20)}, later)
    runs.observe({JOB: run(1), OTHER: run(3, finished=NOW + 20)}, later + 30)
    again = stored(runs)
    again.observe({JOB: run(1), OTHER: run(3, finished=NOW + 20)}, later + 3600)
    again.seed_from_history(OTHER, [run(3, finished=NOW + 20), run(2, finished=NOW - 3600)])
    assert deliver_all(again) == [(OTHER, 3)]


def test_recreated_job_is_reported_from_first_run():
    runs = observed_cursor(run(40))
    runs.observe({JOB: run(1, finished=NOW + 20)}, NOW + 30)
    assert deliver_all(runs) == [(JOB, 1)]
    assert stored(runs).state["runs"] == {JOB: 1}


def test_recreated_job_is_detected_after_restart():
    runs = stored(observed_cursor(run(40)))
    for number in range(3):
        assert list(runs.pending()) == []
        runs.observe({JOB: run(1, finished=NOW + 20)}, NOW + 30 * (number + 1))
    assert deliver_all(runs) == [(JOB, 1)]


def test_job_missing_from_one_listing_is_not_repeated():
    runs = observed_cursor(run(3), run(4))
    deliver_all(runs)
    runs.observe({}, NOW + 60, complete=True)
    runs.observe({JOB: run(4)}, NOW + 90, complete=True)
    assert deliver_all(runs) == []
    assert runs.new_jobs == []


def test_job_missing_for_hours_is_forgotten():
    runs = observed_cursor(run(3))
    for hours in range(1, 4):
        runs.observe({}, NOW + hours * 3600, complete=True)
    assert runs.state["runs"] == {}


@pytest.mark.parametrize(
    "state", [None, "x", 3, [], {}, {"polled_at": 1}, {"polled_at": "x", "runs": {}}, {"runs": {}}]
)
def test_invalid_cursor_raises(state):
    with pytest.raises(ValueError, match="saved watch position is unreadable"):
        RunCursor.from_state(state)


STEPS = st.lists(
    st.sampled_from(["start", "finish", "poll", "late poll", "report", "arrive", "restart"]), min_size=5, max_size=80
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_every_run_is_reported_and_repeats_only_unacknowledged(steps):
    latest, is_running = 3, False
    runs = observed_cursor(run(3, finished=NOW + 300))
    reported: list[int] = []
    not_arrived: list[int] = []
    may_repeat: list[int] = []
    delivery, now = 0, NOW
    is_late = False

    def poll(count: int, ended: bool) -> None:
        runs.observe({JOB: run(count, ended=ended, finished=NOW + 100 * count)}, now)

    for step in [*steps, "restart", "finish", "poll", "report", "arrive"]:
        now += 30
        if step == "start" and not is_running:
            latest, is_running = latest + 1, True
        elif step == "finish":
            is_running = False
        elif step == "poll":
            is_late = False
            poll(latest, not is_running)
        elif step == "late poll" and not is_late:
            is_late = True
            poll(latest - 1, True)
        elif step == "report":
            delivery += 1
            while (pending := next(runs.pending(), None)) is not None:
                runs.deliver(*pending, delivery)
                reported.append(pending[1])
                not_arrived.append(pending[1])
        elif step == "arrive":
            for number in range(1, delivery + 1):
                runs.acknowledge(number)
            not_arrived = []
        elif step == "restart":
            runs = stored(runs)
            may_repeat += not_arrived
            not_arrived = []

    assert sorted(set(reported)) == list(range(4, latest + 1))
    assert sorted(reported) == sorted([*range(4, latest + 1), *may_repeat])


def test_cursor_is_json_serializable():
    runs: Any = observed_cursor(run(3), run(4))
    deliver_all(runs)
    assert json.loads(json.dumps(runs.state)) == runs.state == {"polled_at": NOW + 30, "runs": {JOB: 4}}
