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
from airflow_provider_streamsets.polling.schedule import Backoff, BatchSize, PollSchedule


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
def test_request_spacing_fits_batches_into_interval(jobs, gap):
    assert schedule_of(*jobs).request_spacing == pytest.approx(gap)


def test_removed_jobs_do_not_count():
    schedule = schedule_of((500, 30), (500, 10))
    for _ in range(500):
        schedule.remove(10)
    assert (schedule.request_spacing, schedule.min_interval) == (15, 30)


def test_slots_are_spaced_within_interval():
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


def test_released_slot_is_free():
    schedule = schedule_of((500, 30))
    first = schedule.slot(100.0, 30)
    schedule.reserve(first)
    assert schedule.slot(101.0, 30) != first
    schedule.release(first)
    assert schedule.slot(101.0, 30) == 131.0, "that of a new beginning"


def test_full_schedule_delays_at_most_one_interval():
    schedule = schedule_of((500, 30))
    for now in (0.0, 15.0, 16.0):
        slot = schedule.slot(now, 30)
        assert slot <= now + 30
        schedule.reserve(slot)


def test_slots_match_exhaustive_search():
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


def test_slot_lookup_scales_linearly():
    def seconds(requests: int) -> float:
        schedule = schedule_of((requests, 1000.0), batch=1)
        began = time.process_time()
        for number in range(2 * requests):
            slot = schedule.slot(number / requests, 1000.0)
            schedule.reserve(slot)
        return time.process_time() - began

    seconds(100)
    assert seconds(10_000) < 40 * max(seconds(1_000), 0.001)


def test_intervals_can_change_during_backoff():
    schedule = schedule_of((10, 30))
    moments = itertools.count(0, 1e9)
    backoff = Backoff.from_schedule(schedule, lambda: next(moments))
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
def test_poll_delay_stays_within_bounds(age, interval):
    assert min(interval, 2.0) <= poll_delay(interval, age) <= interval


def test_poll_delay_grows_with_age_up_to_interval():
    assert poll_delay(30, 60) == 30
    assert poll_delay(30, 20) == 10


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_backoff_grows_to_limit_and_resets_on_success():
    clock = Clock()
    backoff = Backoff.from_schedule(schedule_of((10_000, 30)), clock)
    sleep_calls = []
    for _ in range(12):
        backoff.failed(ControlHubUnavailableError("no answer"))
        sleep_calls.append(backoff.remaining)
        clock.now += backoff.remaining
    assert sleep_calls[0] < 1
    assert all(later > earlier for earlier, later in itertools.pairwise(sleep_calls[:6]))
    assert 0.8 * 60 <= sleep_calls[-1] <= 1.2 * 60
    backoff.succeeded()
    backoff.failed(ControlHubUnavailableError("no answer"))
    assert backoff.remaining < 1


def test_concurrent_failures_count_once():
    backoff = Backoff.from_schedule(schedule_of((10, 30)), Clock())
    for _ in range(50):
        backoff.failed(ControlHubUnavailableError("no answer"))
    assert backoff.remaining <= 6


def test_backoff_honours_late_retry_after():
    clock = Clock()
    backoff = Backoff.from_schedule(schedule_of((10, 30)), clock)
    backoff.failed(ControlHubUnavailableError("no answer"))
    backoff.failed(ControlHubUnavailableError("too many", http_status=429, retry_after=200))
    backoff.failed(ControlHubUnavailableError("no answer"))
    assert backoff.remaining == 200
    clock.now += 200
    assert backoff.remaining == 0
    assert math.isfinite(backoff.until)


def test_requests_rejected_for_their_rate_grow_to_bulk_size_only():
    size = BatchSize()
    for _ in range(5000):
        size.rate_limited(size.within(250))
    assert size.within(250) == 250
    size.failed(250)
    assert size.within(250) == 125
