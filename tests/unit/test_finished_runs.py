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


def begun(*runs: JobRun | None) -> RunCursor:
    """One that has looked at the job once for each of the runs."""
    finished = RunCursor()
    for number, latest in enumerate(runs):
        finished.observe({JOB: latest}, NOW + number * 30)
    return finished


def report_all(runs: RunCursor, delivery: int = 1) -> list[tuple[str, int]]:
    """Hand out all that is due, and confirm it."""
    reported = []
    while (pending := next(runs.pending(), None)) is not None:
        runs.deliver(*pending, delivery)
        reported.append(pending)
    runs.acknowledge(delivery)
    return reported


def stored(runs: RunCursor) -> RunCursor:
    """What continues after a restart."""
    return RunCursor.resumed(json.loads(json.dumps(runs.cursor)))


def test_what_had_finished_before_the_first_look_is_not_reported():
    assert report_all(begun(run(7), run(7))) == []


def test_a_run_that_was_going_on_at_the_first_look_is_reported_when_it_has_finished():
    runs = begun(run(7, ended=False))
    assert list(runs.pending()) == []
    runs.observe({JOB: run(7)}, NOW + 30)
    assert report_all(runs) == [(JOB, 7)]
    assert report_all(runs) == []


def test_runs_between_two_looks_are_all_reported_the_oldest_first():
    assert report_all(begun(run(3), run(9))) == [(JOB, count) for count in range(4, 10)]


def test_of_a_run_that_goes_on_only_those_before_it_are_reported():
    assert report_all(begun(run(3), run(6, ended=False))) == [(JOB, 4), (JOB, 5)]


def test_of_very_many_runs_only_a_few_are_due_at_a_time():
    assert len(list(begun(run(3), run(900)).pending())) == 25


def test_the_runs_of_one_job_do_not_wait_for_those_of_another():
    runs = RunCursor()
    runs.observe({JOB: run(1), OTHER: run(5)}, NOW)
    runs.observe({JOB: run(2), OTHER: run(6)}, NOW + 30)
    assert list(runs.pending()) == [(JOB, 2), (OTHER, 6)]
    runs.deliver(OTHER, 6, 1)
    assert list(runs.pending()) == [(JOB, 2)]


def test_a_late_answer_that_shows_an_earlier_run_changes_nothing():
    runs = begun(run(3), run(4))
    report_all(runs)
    runs.observe({JOB: run(3)}, NOW + 60)
    runs.observe({JOB: run(4)}, NOW + 90)
    assert report_all(runs) == []
    runs.observe({JOB: run(5)}, NOW + 120)
    assert report_all(runs) == [(JOB, 5)]


def test_a_late_answer_does_not_hide_the_run_that_is_due():
    runs = begun(run(3), run(4, finished=NOW + 60))
    runs.observe({JOB: run(3)}, NOW + 60)
    latest = runs.latest(JOB)
    assert latest is not None
    assert latest.run_count == 4


def test_a_job_that_could_not_be_read_is_as_it_was():
    runs = begun(run(3))
    runs.observe({}, NOW + 30)
    runs.observe({JOB: None}, NOW + 60)
    runs.observe({JOB: run(5)}, NOW + 90)
    assert report_all(runs) == [(JOB, 4), (JOB, 5)]


def test_the_cursor_moves_only_when_a_delivery_has_arrived():
    runs = begun(run(3), run(5))
    runs.deliver(JOB, 4, 1)
    runs.deliver(JOB, 5, 2)
    assert runs.cursor["runs"] == {JOB: 3}
    assert runs.is_open(1)
    runs.acknowledge(1)
    assert runs.cursor["runs"] == {JOB: 4}
    assert not runs.is_open(1)
    assert runs.is_open(2)


def test_the_cursor_does_not_jump_over_a_delivery_that_has_not_arrived():
    runs = begun(run(3), run(5))
    runs.deliver(JOB, 4, 1)
    runs.deliver(JOB, 5, 2)
    runs.acknowledge(2)
    assert runs.cursor["runs"] == {JOB: 3}
    runs.acknowledge(1)
    assert runs.cursor["runs"] == {JOB: 5}


def test_after_a_restart_exactly_those_runs_are_due_that_had_not_arrived():
    runs = begun(run(3), run(5))
    runs.deliver(JOB, 4, 1)
    runs.acknowledge(1)
    runs.deliver(JOB, 5, 2)
    again = stored(runs)
    again.observe({JOB: run(7)}, NOW + 900)
    assert report_all(again) == [(JOB, 5), (JOB, 6), (JOB, 7)]


def test_the_first_run_ever_of_a_job_is_reported():
    assert report_all(begun(None, run(1))) == [(JOB, 1)]


def test_an_old_run_of_a_job_that_showed_none_for_a_moment_is_not_taken_for_a_new_one():
    assert report_all(begun(None, run(1, finished=NOW - 3600))) == []
    runs = begun(None, run(40, finished=NOW - 3600))
    assert runs.new_jobs == [JOB]
    runs.seed_from_history(JOB, [run(count, finished=NOW - 3600) for count in range(1, 41)])
    assert report_all(runs) == []
    assert runs.new_jobs == []


def test_of_a_job_that_is_tagged_later_only_the_runs_since_the_look_before_are_reported():
    runs = RunCursor()
    runs.observe({OTHER: run(1)}, NOW, complete=True)
    runs.observe({OTHER: run(1), JOB: run(6, finished=NOW + 3590)}, NOW + 3600, complete=True)
    assert list(runs.pending()) == []
    runs.seed_from_history(JOB, [run(6, finished=NOW + 3590), run(5, finished=NOW + 10), run(4, finished=NOW - 3600)])
    assert report_all(runs) == [(JOB, 5), (JOB, 6)]


def test_of_a_job_that_is_tagged_between_two_lists_the_runs_since_the_list_before_are_reported():
    runs = RunCursor()
    runs.observe({OTHER: run(1)}, NOW, complete=True)
    for number in range(1, 100):
        runs.observe({OTHER: run(1)}, NOW + number * 30, partial=True)
    assert stored(runs).cursor == {"looked": NOW, "runs": {OTHER: 1}}
    runs.observe({OTHER: run(1), JOB: run(1, finished=NOW + 60)}, NOW + 3000, complete=True)
    assert report_all(runs) == [(JOB, 1)]


def test_a_first_look_that_is_no_list_is_a_beginning_all_the_same():
    runs = RunCursor()
    runs.observe({JOB: run(3)}, NOW, partial=True)
    assert runs.cursor == {"looked": NOW, "runs": {JOB: 3}}
    runs.observe({JOB: run(4)}, NOW + 30, partial=True)
    assert report_all(runs) == [(JOB, 4)]


def test_a_job_that_is_not_among_those_of_a_partial_look_is_not_forgotten():
    runs = begun(run(3))
    for hours in range(1, 4):
        runs.observe({OTHER: run(1)}, NOW + hours * 3600, partial=True)
    assert runs.cursor["runs"][JOB] == 3


def test_a_new_job_whose_history_is_gone_begins_with_its_latest_run():
    runs = begun(None, run(6))
    runs.seed_from_history(JOB, [])
    assert report_all(runs) == [(JOB, 6)]


def test_what_is_not_known_of_a_new_job_yet_is_found_out_after_a_restart():
    runs = begun(run(1))
    later = NOW + 7200
    runs.observe({JOB: run(1), OTHER: run(3, finished=NOW + 20)}, later)
    runs.observe({JOB: run(1), OTHER: run(3, finished=NOW + 20)}, later + 30)
    again = stored(runs)
    again.observe({JOB: run(1), OTHER: run(3, finished=NOW + 20)}, later + 3600)
    again.seed_from_history(OTHER, [run(3, finished=NOW + 20), run(2, finished=NOW - 3600)])
    assert report_all(again) == [(OTHER, 3)]


def test_a_job_that_was_deleted_and_imported_again_counts_anew():
    runs = begun(run(40))
    runs.observe({JOB: run(1, finished=NOW + 20)}, NOW + 30)
    assert report_all(runs) == [(JOB, 1)]
    assert stored(runs).cursor["runs"] == {JOB: 1}


def test_that_a_job_counts_anew_is_also_found_out_after_a_restart():
    runs = stored(begun(run(40)))
    for number in range(3):
        assert list(runs.pending()) == []
        runs.observe({JOB: run(1, finished=NOW + 20)}, NOW + 30 * (number + 1))
    assert report_all(runs) == [(JOB, 1)]


def test_a_job_that_is_missing_in_one_list_is_not_reported_again():
    runs = begun(run(3), run(4))
    report_all(runs)
    runs.observe({}, NOW + 60, complete=True)
    runs.observe({JOB: run(4)}, NOW + 90, complete=True)
    assert report_all(runs) == []
    assert runs.new_jobs == []


def test_a_job_that_is_listed_no_longer_is_forgotten_in_the_end():
    runs = begun(run(3))
    for hours in range(1, 4):
        runs.observe({}, NOW + hours * 3600, complete=True)
    assert runs.cursor["runs"] == {}


@pytest.mark.parametrize("cursor", [None, "x", 3, [], {}, {"looked": 1}, {"looked": "x", "runs": {}}, {"runs": {}}])
def test_what_is_no_cursor_is_refused(cursor):
    with pytest.raises(ValueError, match="does not say which runs were reported"):
        RunCursor.resumed(cursor)


STEPS = st.lists(
    st.sampled_from(["start", "finish", "look", "look behind", "report", "arrive", "restart"]), min_size=5, max_size=80
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_whatever_happens_each_finished_run_is_reported_in_order_and_twice_only_if_it_had_not_arrived(steps):
    latest, is_running = 3, False
    runs = begun(run(3, finished=NOW + 300))
    reported: list[int] = []
    not_arrived: list[int] = []
    may_repeat: list[int] = []
    delivery, now = 0, NOW
    is_late = False

    def look(count: int, ended: bool) -> None:
        runs.observe({JOB: run(count, ended=ended, finished=NOW + 100 * count)}, now)

    for step in [*steps, "restart", "finish", "look", "report", "arrive"]:
        now += 30
        if step == "start" and not is_running:
            latest, is_running = latest + 1, True
        elif step == "finish":
            is_running = False
        elif step == "look":
            is_late = False
            look(latest, not is_running)
        elif step == "look behind" and not is_late:
            is_late = True
            look(latest - 1, True)
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


def test_everything_in_the_cursor_is_json():
    runs: Any = begun(run(3), run(4))
    report_all(runs)
    assert json.loads(json.dumps(runs.cursor)) == runs.cursor == {"looked": NOW + 30, "runs": {JOB: 4}}
