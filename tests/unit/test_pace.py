from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub import ControlHubUnavailableError
from airflow_provider_streamsets.control_hub.waiting import pause_at_age
from airflow_provider_streamsets.triggers.pace import Backoff, Pace


def pace_of(*jobs: tuple[int, float], batch: int = 250) -> Pace:
    pace = Pace(batch)
    for count, interval in jobs:
        for _ in range(count):
            pace.add(interval)
    return pace


@pytest.mark.parametrize(
    ("jobs", "gap"),
    [
        ([(1, 30)], 30),
        ([(250, 30)], 30),
        ([(251, 30)], 15),
        ([(10_000, 30)], 0.75),
        ([(250, 10), (250, 60)], 5),
        ([(249, 10), (6, 60)], 10),
        ([], 30),
    ],
)
def test_there_is_a_request_for_as_many_jobs_as_it_can_hold_in_each_interval(jobs, gap):
    assert pace_of(*jobs).gap == pytest.approx(gap)


def test_jobs_that_are_not_waited_for_any_more_do_not_count():
    pace = pace_of((500, 30), (500, 10))
    for _ in range(500):
        pace.remove(10)
    assert (pace.gap, pace.shortest_interval) == (15, 30)


def test_those_that_were_looked_at_in_a_hurry_get_turns_apart_from_each_other_and_never_late():
    pace = pace_of((1000, 30))
    turns = []
    for now in (0.0, 1.0, 2.0, 3.0):
        turns.append(pace.turn(now, 30))
        pace.take(turns[-1])
    assert all(now < turn <= now + 30 for now, turn in enumerate(turns))
    assert sorted(turns) == [7.5, 15, 22.5, 30]
    # In its turn, each gets the one after an interval.
    for turn in sorted(turns):
        pace.give_back(turn)
        assert pace.turn(turn + 0.01, 30) == turn + 30
        pace.take(turn + 30)


def test_a_turn_that_nobody_takes_any_more_is_free():
    pace = pace_of((500, 30))
    first = pace.turn(100.0, 30)
    pace.take(first)
    assert pace.turn(101.0, 30) != first
    pace.give_back(first)
    assert pace.turn(101.0, 30) == 131.0, "that of a new beginning"


def test_when_all_turns_are_taken_nobody_waits_longer_than_its_interval():
    pace = pace_of((500, 30))
    for now in (0.0, 15.0, 16.0):
        turn = pace.turn(now, 30)
        assert turn <= now + 30
        pace.take(turn)


@given(
    age=st.floats(-1e6, 1e9),
    interval=st.floats(0.1, 1e5),
)
def test_no_run_is_looked_at_more_seldom_than_is_asked_for_nor_all_the_time(age, interval):
    assert min(interval, 2.0) <= pause_at_age(interval, age) <= interval


def test_old_runs_are_looked_at_as_often_as_is_asked_for():
    assert pause_at_age(30, 60) == 30
    assert pause_at_age(30, 20) == 10


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_failures_in_a_row_pause_longer_and_longer_up_to_a_limit_and_a_success_ends_that():
    clock = Clock()
    backoff = Backoff.at_pace(pace_of((10_000, 30)), clock)
    pauses = []
    for _ in range(12):
        backoff.failed(ControlHubUnavailableError("no answer"))
        pauses.append(backoff.left)
        clock.now += backoff.left
    assert pauses[0] < 1
    assert all(later > earlier for earlier, later in itertools.pairwise(pauses[:6]))
    assert 0.8 * 60 <= pauses[-1] <= 1.2 * 60
    backoff.succeeded()
    backoff.failed(ControlHubUnavailableError("no answer"))
    assert backoff.left < 1


def test_failures_of_requests_that_were_under_way_together_count_once():
    backoff = Backoff.at_pace(pace_of((10, 30)), Clock())
    for _ in range(50):
        backoff.failed(ControlHubUnavailableError("no answer"))
    assert backoff.left <= 6


def test_what_control_hub_asks_for_is_kept_even_if_it_comes_late():
    clock = Clock()
    backoff = Backoff.at_pace(pace_of((10, 30)), clock)
    backoff.failed(ControlHubUnavailableError("no answer"))
    backoff.failed(ControlHubUnavailableError("too many", http_status=429, retry_after=200))
    backoff.failed(ControlHubUnavailableError("no answer"))
    assert backoff.left == 200
    clock.now += 200
    assert backoff.left == 0
    assert math.isfinite(backoff.until)
