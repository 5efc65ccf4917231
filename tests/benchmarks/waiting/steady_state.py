"""What waiting costs while nothing ends: requests, processor time, memory."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.measuring import BenchmarkError
from tests.benchmarks.waiting.contenders import Contender
from tests.benchmarks.waiting.figures import Figure
from tests.benchmarks.waiting.orders import Mark, Start
from tests.benchmarks.waiting.stage import WaitingStage

IDS_PER_REQUEST = 250
MOST_WAITS = 10_000
"""The goals about time and memory hold for so many, where what belongs to no single wait no longer shows."""

SMALL_BULK_SIZES = (10, 50)
"""What a connection may be limited to; measured with so many waits only, where it makes many requests of few."""

_MOST_CPU = 1.0
_MOST_CPU_SHARE = 0.2
# Most of it is what a request costs, of which there are a tenth as many as the loops send, with ten jobs per request.
_MOST_CPU_SHARE_WITH_SMALL_BULK_SIZE = 0.5
# An edge of the watched time may cut off some of many requests, or add them.
_EDGE = 1.02
_MOST_KILOBYTES = 4.0
_KILOBYTE = 1024
# Intervals until nothing is left of the beginning: the first looks at each run, and one more.
_SETTLING = 1.5
_TIMES = 3
# Seconds for which a process with empty triggers is left alone.
_REST = 2.0


@dataclass(frozen=True)
class Steady:
    """
    What one contender has needed.

    :param requests: HTTP requests per interval
    :param cpu: seconds of processor time per interval
    :param memory: bytes per wait
    :param blocked_at_first: seconds for which the event loop was blocked at the longest while the waits began
    :param blocked: the same, after that
    """

    requests: float
    cpu: float
    memory: float
    blocked_at_first: float
    blocked: float


def measure_steady(stage: WaitingStage, interval: float) -> Iterator[Figure]:
    """
    Measure what waiting for all runs of a stage costs.

    :param interval: seconds between two looks at a run
    """
    runs = len(stage.runs)
    at_scale = runs >= MOST_WAITS
    windows = 2 if at_scale else 4
    provider = _steady(stage, Contender.PROVIDER, interval, windows)
    # The others send so many requests that half of the time tells as much.
    others = [contender for contender in stage.contenders if contender is not Contender.PROVIDER]
    found: dict[Contender, Steady] = {
        Contender.PROVIDER: provider,
        **{contender: _steady(stage, contender, interval, windows // 2) for contender in others},
    }
    empty = _empty(stage, times=_TIMES if at_scale else 1)
    yield Figure(
        runs,
        interval,
        "requests per interval",
        # An edge of the watched time may cut off a part of a round, or add one.
        {contender: float(round(steady.requests)) for contender, steady in found.items()},
        math.ceil(runs / IDS_PER_REQUEST),
        digits=0,
    )
    yield Figure(
        runs,
        interval,
        "CPU per interval",
        {contender: steady.cpu for contender, steady in found.items()},
        _most_cpu(found) if at_scale else None,
        unit="s",
        digits=3,
    )
    yield Figure(
        runs,
        interval,
        "memory per run",
        {contender: (steady.memory - empty) / _KILOBYTE for contender, steady in found.items()},
        _MOST_KILOBYTES if at_scale else None,
        unit="KB",
        digits=1,
    )
    of_loops = {contender: steady for contender, steady in found.items() if contender is not Contender.THREADS}
    yield Figure(
        runs,
        interval,
        "event loop blocked at the longest, at first",
        {contender: steady.blocked_at_first for contender, steady in of_loops.items()},
        unit="s",
    )
    yield Figure(
        runs,
        interval,
        "event loop blocked at the longest, later",
        {contender: steady.blocked for contender, steady in of_loops.items()},
        unit="s",
    )
    for bulk_size in SMALL_BULK_SIZES if at_scale else ():
        small = _steady(stage, Contender.PROVIDER, interval, 1, bulk_size)
        yield from _with_bulk_size(runs, interval, bulk_size, small, found.get(Contender.LOOPS))


def _with_bulk_size(
    runs: int, interval: float, bulk_size: int, small: Steady, loops: Steady | None
) -> Iterator[Figure]:
    yield Figure(
        runs,
        interval,
        f"requests per interval, bulk_size={bulk_size}",
        {Contender.PROVIDER: float(round(small.requests))},
        math.ceil(runs / bulk_size * _EDGE),
        digits=0,
    )
    yield Figure(
        runs,
        interval,
        f"CPU per interval, bulk_size={bulk_size}",
        {Contender.PROVIDER: small.cpu},
        None if loops is None else _MOST_CPU_SHARE_WITH_SMALL_BULK_SIZE * loops.cpu,
        unit="s",
        digits=3,
    )
    yield Figure(
        runs,
        interval,
        f"event loop blocked at the longest, bulk_size={bulk_size}",
        {Contender.PROVIDER: max(small.blocked_at_first, small.blocked)},
        unit="s",
    )


def _most_cpu(found: Mapping[Contender, Steady]) -> float:
    """Return what the provider may take; without the loops, which it is to be compared with, only half of the goal."""
    loops = found.get(Contender.LOOPS)
    return _MOST_CPU if loops is None else min(_MOST_CPU, _MOST_CPU_SHARE * loops.cpu)


def _steady(
    stage: WaitingStage, contender: Contender, interval: float, windows: int, bulk_size: int | None = None
) -> Steady:
    with stage.waiter(contender, interval, ramp=interval, bulk_size=bulk_size) as waiter:
        start = waiter.wait_until_started()
        time.sleep(_SETTLING * interval)
        stage.forget_requests()
        before = waiter.mark()
        time.sleep(windows * interval)
        after = waiter.mark()
        requests = stage.requests_served()
        ended = len(waiter.events)
    if ended or not requests:
        raise BenchmarkError(f"{contender.value}: {ended} waits have ended too soon, {requests} requests were served.")
    return Steady(
        requests / windows,
        (after.cpu - before.cpu) / windows,
        _growth(stage, start, after),
        before.longest_block,
        after.longest_block,
    )


def _empty(stage: WaitingStage, times: int) -> float:
    """Return the bytes that a trigger needs which does nothing."""
    growths = []
    for _ in range(times):
        with stage.waiter(Contender.EMPTY, 1.0, ramp=0.0) as waiter:
            start = waiter.wait_until_started()
            time.sleep(_REST)
            growths.append(_growth(stage, start, waiter.mark()))
    return median(growths)


def _growth(stage: WaitingStage, start: Start, mark: Mark) -> float:
    return (mark.memory - start.memory) / len(stage.runs)
