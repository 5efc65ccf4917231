"""Measure whether a process in which waits come and go keeps growing."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from statistics import linear_regression

from tests.benchmarks.measurement import BenchmarkError
from tests.benchmarks.waiting.environment import WaitingEnvironment
from tests.benchmarks.waiting.figures import Figure
from tests.benchmarks.waiting.protocol import Mark
from tests.benchmarks.waiting.strategies import Strategy

# Share of the time.
_WARM_UP_SHARE = 1 / 6
_SAMPLES = 120
# A share of all runs ends, and is started again, in each interval.
_ENDING_SHARE = 1 / 20
# Memory of a process without leaks goes up and down by some megabytes, as the allocator returns whole arenas.
_MAX_GROWTH = 2.0
_MEGABYTE = 1024 * 1024


def measure_soak(environment: WaitingEnvironment, interval: float, minutes: float) -> Iterator[Figure]:
    """
    Measure memory, threads, open files and tasks while a twentieth of all runs ends and starts again in each interval.

    What is measured in the first sixth of the time does not count.

    :param environment: the environment
    :param interval: poll interval in seconds
    :param minutes: duration
    """
    chance = random.Random(0)  # a reproducible choice
    runs = len(environment.runs)
    ending = max(math.ceil(runs * _ENDING_SHARE), 1)
    with environment.waiter(Strategy.PROVIDER, interval, ramp=interval, renew=True) as waiter:
        waiter.wait_until_started()
        began, ended = time.monotonic(), 0
        samples: list[tuple[float, Mark]] = []
        while (age := time.monotonic() - began) < minutes * 60:
            if len(samples) <= age / (minutes * 60) * _SAMPLES:
                samples.append((age, waiter.mark()))
            group = chance.sample(environment.runs, ending)
            ended += ending
            environment.finish_runs(group)
            # Long enough for the poller to see some of them ended, and others restarted.
            time.sleep(interval / 2)
            environment.start_runs(group)
            time.sleep(interval / 2)
        deadline = time.monotonic() + 3 * interval
        while waiter.ended < ended and time.monotonic() < deadline:
            time.sleep(1)
        if waiter.ended != ended:
            raise BenchmarkError(f"{ended} runs ended, but {waiter.ended} waits.")
    steady = [(age, mark) for age, mark in samples if age >= minutes * 60 * _WARM_UP_SHARE]
    yield _figure(runs, interval, "soak: ends of runs", ended)
    slope = linear_regression([age for age, _ in steady], [mark.memory for _, mark in steady]).slope
    growth = slope * minutes * 60 * (1 - _WARM_UP_SHARE)
    yield _figure(runs, interval, "soak: growth of memory", growth / _MEGABYTE, _MAX_GROWTH, unit="MB", digits=1)
    for name in ("threads", "files", "tasks"):
        values = [getattr(mark, name) for _, mark in steady]
        middle = len(values) // 2
        yield _figure(
            runs,
            interval,
            f"soak: growth of {name}, maxima of both halves",
            max(values[middle:]) - max(values[:middle]),
            0,
        )


def _figure(
    runs: int, interval: float, name: str, value: float, limit: float | None = None, unit: str = "", digits: int = 0
) -> Figure:
    return Figure(runs, interval, name, {Strategy.PROVIDER: float(value)}, limit, unit=unit, digits=digits)
