"""Measure requests, CPU time and memory of waiting while no run ends."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.measurement import BenchmarkError
from tests.benchmarks.waiting.environment import WaitingEnvironment
from tests.benchmarks.waiting.figures import Figure
from tests.benchmarks.waiting.strategies import Strategy

IDS_PER_REQUEST = 250
MAX_WAITS = 10_000
"""The goals for CPU time and memory apply to this number of waits, where shared overhead is negligible."""

SMALL_BULK_SIZES = (10, 50)
"""Further bulk sizes, measured only with `MAX_WAITS` waits, where they multiply the number of requests."""

MORE_WAITS = 50_000
"""Another number of waits with goals; takes too long to be measured by default."""

_MAX_CPU = {MAX_WAITS: 0.3, MORE_WAITS: 2.0}
_MAX_CPU_SHARE = 0.2
_MAX_BLOCK = {MAX_WAITS: 0.05, MORE_WAITS: 0.1}
# Requests dominate the CPU time; with ten jobs per request, there are a tenth of the loops' requests.
_MAX_CPU_SHARE_SMALL_BULK_SIZE = 0.5
# The boundaries of the measured window may cut off or add some requests.
_BOUNDARY_TOLERANCE = 1.02
_MAX_KILOBYTES = 2.2
_KILOBYTE = 1024
# Intervals until the steady state: the first poll of each run, and another one.
_WARM_UP = 1.5
_REPETITIONS = 3
# Seconds before a process with empty triggers, or with few waits, is measured.
_IDLE_SECONDS = 2.0
# Number of waits whose memory is nearly all shared: modules, threads and the HTTP session.
_FEW_WAITS = 5


@dataclass(frozen=True)
class SteadyState:
    """
    Resource usage of one strategy.

    :param requests: HTTP requests per interval
    :param cpu: CPU seconds per interval
    :param memory: bytes of all waits
    :param blocked_initially: longest blocking of the event loop while the waits were started, in seconds
    :param blocked: longest blocking of the event loop afterwards, in seconds
    """

    requests: float
    cpu: float
    memory: float
    blocked_initially: float
    blocked: float


def measure_steady(environment: WaitingEnvironment, interval: float) -> Iterator[Figure]:
    """
    Measure the cost of waiting for all runs.

    :param environment: the environment
    :param interval: poll interval in seconds
    """
    runs = len(environment.runs)
    at_scale = runs >= MAX_WAITS
    windows = 2 if at_scale else 4
    provider = _measure_strategy(environment, Strategy.PROVIDER, interval, windows)
    # The other strategies send so many requests that half of the time suffices.
    others = [strategy for strategy in environment.strategies if strategy is not Strategy.PROVIDER]
    results: dict[Strategy, SteadyState] = {
        Strategy.PROVIDER: provider,
        **{strategy: _measure_strategy(environment, strategy, interval, windows // 2) for strategy in others},
    }
    empty = _measure_empty_trigger(environment, repetitions=_REPETITIONS if at_scale else 1)
    shared = {strategy: _measure_shared_memory(environment, strategy) for strategy in results}
    further = runs - _FEW_WAITS
    yield Figure(
        runs,
        interval,
        "requests per interval",
        # The boundaries of the measured window may cut off or add part of a poll cycle.
        {strategy: float(round(steady.requests)) for strategy, steady in results.items()},
        math.ceil(runs / IDS_PER_REQUEST),
        digits=0,
    )
    yield Figure(
        runs,
        interval,
        "CPU per interval",
        {strategy: steady.cpu for strategy, steady in results.items()},
        _cpu_limit(results, _MAX_CPU[runs]) if runs in _MAX_CPU else None,
        unit="s",
        digits=3,
    )
    yield Figure(
        runs,
        interval,
        "memory per run",
        {
            strategy: ((steady.memory - shared[strategy]) / further - empty) / _KILOBYTE
            for strategy, steady in results.items()
        },
        _MAX_KILOBYTES if at_scale else None,
        unit="KB",
        digits=1,
    )
    yield Figure(
        runs,
        interval,
        "memory once",
        {strategy: memory / _KILOBYTE**2 for strategy, memory in shared.items()},
        unit="MB",
        digits=1,
    )
    of_loops = {strategy: steady for strategy, steady in results.items() if strategy is not Strategy.THREADS}
    yield Figure(
        runs,
        interval,
        "longest event loop block, initially",
        {strategy: steady.blocked_initially for strategy, steady in of_loops.items()},
        unit="s",
    )
    yield Figure(
        runs,
        interval,
        "longest event loop block, later",
        {strategy: steady.blocked for strategy, steady in of_loops.items()},
        _MAX_BLOCK.get(runs),
        unit="s",
        digits=3,
    )
    for bulk_size in SMALL_BULK_SIZES if runs == MAX_WAITS else ():
        small = _measure_strategy(environment, Strategy.PROVIDER, interval, 1, bulk_size)
        yield from _bulk_size_figures(runs, interval, bulk_size, small, results.get(Strategy.LOOPS))


def _bulk_size_figures(
    runs: int, interval: float, bulk_size: int, small: SteadyState, loops: SteadyState | None
) -> Iterator[Figure]:
    yield Figure(
        runs,
        interval,
        f"requests per interval, bulk_size={bulk_size}",
        {Strategy.PROVIDER: float(round(small.requests))},
        math.ceil(runs / bulk_size * _BOUNDARY_TOLERANCE),
        digits=0,
    )
    yield Figure(
        runs,
        interval,
        f"CPU per interval, bulk_size={bulk_size}",
        {Strategy.PROVIDER: small.cpu},
        None if loops is None else _MAX_CPU_SHARE_SMALL_BULK_SIZE * loops.cpu,
        unit="s",
        digits=3,
    )
    yield Figure(
        runs,
        interval,
        f"longest event loop block, bulk_size={bulk_size}",
        {Strategy.PROVIDER: max(small.blocked_initially, small.blocked)},
        unit="s",
    )


def _cpu_limit(results: Mapping[Strategy, SteadyState], maximum: float) -> float:
    """Return the provider's CPU limit, which also depends on the loops if they were measured."""
    loops = results.get(Strategy.LOOPS)
    return maximum if loops is None else min(maximum, _MAX_CPU_SHARE * loops.cpu)


def _measure_strategy(
    environment: WaitingEnvironment, strategy: Strategy, interval: float, windows: int, bulk_size: int | None = None
) -> SteadyState:
    with environment.waiter(strategy, interval, ramp=interval, bulk_size=bulk_size) as waiter:
        start = waiter.wait_until_started()
        time.sleep(_WARM_UP * interval)
        environment.reset_requests()
        before = waiter.mark()
        time.sleep(windows * interval)
        after = waiter.mark()
        requests = environment.requests_served()
        ended = len(waiter.events)
    if ended or not requests:
        raise BenchmarkError(f"{strategy.value}: {ended} waits ended early, {requests} requests served.")
    return SteadyState(
        requests / windows,
        (after.cpu - before.cpu) / windows,
        after.memory - start.memory,
        before.longest_block,
        after.longest_block,
    )


def _measure_empty_trigger(environment: WaitingEnvironment, repetitions: int) -> float:
    """Return the bytes used by an empty trigger."""
    growths = []
    for _ in range(repetitions):
        with environment.waiter(Strategy.EMPTY, 1.0, ramp=0.0) as waiter:
            start = waiter.wait_until_started()
            time.sleep(_IDLE_SECONDS)
            growths.append((waiter.mark().memory - start.memory) / len(environment.runs))
    return median(growths)


def _measure_shared_memory(environment: WaitingEnvironment, strategy: Strategy) -> float:
    """Return the bytes that a strategy uses once, however many runs it waits for."""
    with environment.waiter(strategy, 1.0, ramp=0.0, runs=_FEW_WAITS) as waiter:
        start = waiter.wait_until_started()
        time.sleep(_IDLE_SECONDS)
        return waiter.mark().memory - start.memory
