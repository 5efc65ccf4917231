"""Measure how soon the ends of runs are reported."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median

from airflow_provider_streamsets.compat import MIN_DEFERRAL_SECONDS
from tests.benchmarks.measurement import BenchmarkError
from tests.benchmarks.waiting.completion import find_missing, select_finishing
from tests.benchmarks.waiting.environment import WaitingEnvironment
from tests.benchmarks.waiting.figures import Figure
from tests.benchmarks.waiting.protocol import WaitedRun
from tests.benchmarks.waiting.steady_state import IDS_PER_REQUEST
from tests.benchmarks.waiting.strategies import Strategy

_MEDIAN_TOLERANCE = 0.5
_WORST_TOLERANCE = 0.5
_GROUP_COUNT = 5
_MAX_WAITS_FOR_COMPARISON = 1_000
_WAITS_ON_BUSY_CORES = 1_000
# Intervals, plus seconds for a slow machine, after which an event counts as lost.
_TIMEOUT_INTERVALS = 3
_TIMEOUT_MARGIN = 10.0


def measure_latency(environment: WaitingEnvironment, interval: float) -> Iterator[Figure]:
    """
    Measure the delay from the end of each run, by the sandbox's clock, to its event.

    All strategies wait for the same runs at the same time. For very many runs, only the provider's triggers are
    measured, because the load of the other strategies would delay them. With 1,000 runs, the provider's triggers are
    measured once more while other processes keep all cores busy.

    :param environment: the environment
    :param interval: poll interval in seconds
    """
    yield from _measure(environment, interval, "end to event")
    if len(environment.runs) == _WAITS_ON_BUSY_CORES:
        environment.start_runs(select_finishing(environment.runs))
        with _busy_cores():
            yield from _measure(environment.of_next_runs(), interval, "end to event, all cores busy")


@contextmanager
def _busy_cores() -> Iterator[None]:
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _measure(environment: WaitingEnvironment, interval: float, name: str) -> Iterator[Figure]:
    finishing = select_finishing(environment.runs)
    few = len(environment.runs) <= _MAX_WAITS_FOR_COMPARISON
    strategies = environment.strategies if few else [Strategy.PROVIDER]
    with ExitStack() as exits:
        waiters = {
            strategy: exits.enter_context(environment.waiter(strategy, interval, ramp=interval))
            for strategy in strategies
        }
        for waiter in waiters.values():
            waiter.wait_until_started()
        # Skip the initial phase, in which runs are polled more often.
        time.sleep(max(MIN_DEFERRAL_SECONDS + 1.0, interval))
        for group in _groups(finishing):
            environment.finish_runs(group)
            time.sleep(interval / _GROUP_COUNT)
        finished = environment.finish_times(finishing)
        latencies = {}
        for strategy, waiter in waiters.items():
            events = waiter.wait_for_events(len(finishing), _TIMEOUT_INTERVALS * interval + _TIMEOUT_MARGIN)
            if lost := find_missing(finishing, events):
                raise BenchmarkError(f"{strategy.value}: {len(lost)} of {len(finishing)} ends were not reported.")
            latencies[strategy] = [events[run.job_id].at - finished[run.job_id] for run in finishing]
    yield Figure(
        len(environment.runs),
        interval,
        f"{name}, {len(finishing)} ends, median",
        {strategy: median(values) for strategy, values in latencies.items()},
        interval / 2 + _MEDIAN_TOLERANCE,
        unit="s",
    )
    yield Figure(
        len(environment.runs),
        interval,
        f"{name}, {len(finishing)} ends, worst",
        {strategy: max(values) for strategy, values in latencies.items()},
        interval + _WORST_TOLERANCE,
        unit="s",
    )


def _groups(finishing: Sequence[WaitedRun]) -> list[Sequence[WaitedRun]]:
    """
    Return groups of runs; the runs of a group end at the same time.

    Runs that fit into one request are all polled at the same time, so the median would depend on that time alone.
    They end in groups, spread over the interval.
    """
    if len(finishing) > IDS_PER_REQUEST:
        return [finishing]
    return [group for first in range(_GROUP_COUNT) if (group := finishing[first::_GROUP_COUNT])]
