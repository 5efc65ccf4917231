from __future__ import annotations

import itertools
import math
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub import ControlHubUnavailableError
from airflow_provider_streamsets.control_hub.tracking.run import poll_delay
from airflow_provider_streamsets.polling.schedule import Backoff, PollSchedule


def schedule_of(*jobs: tuple[int, float], batch: int = 250) -> PollSchedule:
    schedule = PollSchedule(batch)
    for count, interval in jobs:
        for _ in range(count):
            schedule.add(interval)
    return schedule


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
    assert schedule_of(*jobs).request_spacing == pytest.approx(gap)


def test_jobs_that_are_not_waited_for_any_more_do_not_count():
    schedule = schedule_of((500, 30), (500, 10))
    for _ in range(500):
        schedule.remove(10)
    assert (schedule.request_spacing, schedule.shortest_interval) == (15, 30)


def test_those_that_were_looked_at_in_a_hurry_get_turns_apart_from_each_other_and_never_late():
    schedule = schedule_of((1000, 30))
    slots = []
    for now in (0.0, 1.0, 2.0, 3.0):
        slots.append(schedule.slot(now, 30))
        schedule.reserve(slots[-1])
    assert all(now < slot <= now + 30 for now, slot in enumerate(slots))
    assert sorted(slots) == [7.5, 15, 22.5, 30]
    # In its slot, each gets the one after an interval.
    for slot in sorted(slots):
        schedule.release(slot)
        assert schedule.slot(slot + 0.01, 30) == slot + 30
        schedule.reserve(slot + 30)


def test_a_turn_that_nobody_takes_any_more_is_free():
    schedule = schedule_of((500, 30))
    first = schedule.slot(100.0, 30)
    schedule.reserve(first)
    assert schedule.slot(101.0, 30) != first
    schedule.release(first)
    assert schedule.slot(101.0, 30) == 131.0, "that of a new beginning"


def test_when_all_turns_are_taken_nobody_waits_longer_than_its_interval():
    schedule = schedule_of((500, 30))
    for now in (0.0, 15.0, 16.0):
        slot = schedule.slot(now, 30)
        assert slot <= now + 30
        schedule.reserve(slot)


def test_slots_are_as_a_search_through_all_of_them_finds_them():
    """The schedule numbers its slots; here they are compared with each other one by one."""
    rng = random.Random(7)
    schedule = schedule_of((90, 30), (40, 45), batch=10)
    reserved: list[float] = []
    zero = now = 1000.0
    for _ in range(2000):
        now += rng.choice((0.0, 0.4, 2.0))
        for slot in [slot for slot in reserved if slot <= now or rng.random() < 0.1]:
            schedule.release(slot)
            reserved.remove(slot)
        interval = rng.choice((30.0, 45.0))
        slot, spacing = schedule.slot(now, interval), schedule.request_spacing
        zero = zero if reserved else now
        last = math.floor((now + interval - zero) / spacing + 1e-4)
        candidates = (zero + number * spacing for number in range(last, last - math.ceil(interval / spacing), -1))
        free = (each for each in candidates if all(abs(each - other) > spacing / 2 for other in reserved))
        expected = next((each for each in free if each > now), now + interval)
        assert slot == pytest.approx(expected)
        schedule.reserve(slot)
        reserved.append(slot)


def test_ten_times_as_many_slots_take_about_ten_times_as_long():
    def seconds(requests: int) -> float:
        schedule = schedule_of((requests, 1000.0), batch=1)
        began = time.process_time()
        for number in range(2 * requests):
            slot = schedule.slot(number / requests, 1000.0)
            schedule.reserve(slot)
        return time.process_time() - began

    seconds(100)
    assert seconds(10_000) < 40 * max(seconds(1_000), 0.001)


def test_intervals_can_change_while_a_thread_backs_off():
    schedule = schedule_of((10, 30))
    moments = itertools.count(0, 1e9)
    backoff = Backoff.of_schedule(schedule, lambda: next(moments))
    changes = 3_000

    def fail() -> None:
        for _ in range(changes):
            backoff.failed(ControlHubUnavailableError("no answer"))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            failing = [threads.submit(fail) for _ in range(4)]
            while not all(each.done() for each in failing):
                for number in range(100):
                    schedule.add(31.0 + number)
                for number in range(100):
                    schedule.remove(31.0 + number)
    finally:
        sys.setswitchinterval(before)
    for each in failing:
        each.result()


@given(
    age=st.floats(-1e6, 1e9),
    interval=st.floats(0.1, 1e5),
)
def test_no_run_is_looked_at_more_seldom_than_is_asked_for_nor_all_the_time(age, interval):
    assert min(interval, 2.0) <= poll_delay(interval, age) <= interval


def test_old_runs_are_looked_at_as_often_as_is_asked_for():
    assert poll_delay(30, 60) == 30
    assert poll_delay(30, 20) == 10


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_failures_in_a_row_pause_longer_and_longer_up_to_a_limit_and_a_success_ends_that():
    clock = Clock()
    backoff = Backoff.of_schedule(schedule_of((10_000, 30)), clock)
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
    backoff = Backoff.of_schedule(schedule_of((10, 30)), Clock())
    for _ in range(50):
        backoff.failed(ControlHubUnavailableError("no answer"))
    assert backoff.left <= 6


def test_what_control_hub_asks_for_is_kept_even_if_it_comes_late():
    clock = Clock()
    backoff = Backoff.of_schedule(schedule_of((10, 30)), clock)
    backoff.failed(ControlHubUnavailableError("no answer"))
    backoff.failed(ControlHubUnavailableError("too many", http_status=429, retry_after=200))
    backoff.failed(ControlHubUnavailableError("no answer"))
    assert backoff.left == 200
    clock.now += 200
    assert backoff.left == 0
    assert math.isfinite(backoff.until)
