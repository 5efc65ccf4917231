"""How soon the ends of runs are told."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from statistics import median

from airflow_provider_streamsets.compat import MIN_DEFERRAL_SECONDS
from tests.benchmarks.measuring import BenchmarkError
from tests.benchmarks.waiting.contenders import Contender
from tests.benchmarks.waiting.ends import some_of, without_outcome
from tests.benchmarks.waiting.figures import Figure
from tests.benchmarks.waiting.orders import WaitedRun
from tests.benchmarks.waiting.stage import WaitingStage
from tests.benchmarks.waiting.steady import IDS_PER_REQUEST

_SLACK_OF_MEDIAN = 1.0
_SLACK_OF_WORST = 2.0
_MOMENTS = 5
_MOST_WAITS_OF_ALL = 1_000
# Intervals, and seconds for a slow machine, after which a wait counts as one that will never tell.
_PATIENCE = 3
_MORE_PATIENCE = 10.0


def measure_latency(stage: WaitingStage, interval: float) -> Iterator[Figure]:
    """
    Measure the seconds from the ends of runs, by the sandbox's clock, to the events that tell them.

    Contenders wait for the same runs at the same time; for very many, the provider's triggers do so alone, since what
    the others ask of machine and sandbox would delay it.

    :param interval: seconds between two looks at a run
    """
    ending = some_of(stage.runs)
    few = len(stage.runs) <= _MOST_WAITS_OF_ALL
    contenders = stage.contenders if few else [Contender.PROVIDER]
    with ExitStack() as exits:
        waiters = {
            contender: exits.enter_context(stage.waiter(contender, interval, ramp=interval)) for contender in contenders
        }
        for waiter in waiters.values():
            waiter.wait_until_started()
        # A wait is looked after differently in its beginning.
        time.sleep(max(MIN_DEFERRAL_SECONDS + 1.0, interval))
        for group in _groups(ending):
            stage.end(group)
            time.sleep(interval / _MOMENTS)
        finished = stage.finish_times(ending)
        latencies = {}
        for contender, waiter in waiters.items():
            events = waiter.wait_for_events(len(ending), _PATIENCE * interval + _MORE_PATIENCE)
            if lost := without_outcome(ending, events):
                raise BenchmarkError(f"{contender.value}: of {len(ending)} ends, {len(lost)} were not told.")
            latencies[contender] = [events[run.job_id].at - finished[run.job_id] for run in ending]
    yield Figure(
        len(stage.runs),
        interval,
        f"end to event, {len(ending)} ends, median",
        {contender: median(values) for contender, values in latencies.items()},
        interval / 2 + _SLACK_OF_MEDIAN,
        unit="s",
    )
    yield Figure(
        len(stage.runs),
        interval,
        f"end to event, {len(ending)} ends, worst",
        {contender: max(values) for contender, values in latencies.items()},
        interval + _SLACK_OF_WORST,
        unit="s",
    )


def _groups(ending: Sequence[WaitedRun]) -> list[Sequence[WaitedRun]]:
    """
    Return the runs that end at the same time, in groups one after the other.

    Runs that fit into one request are all looked at in the same moment, so the median would only tell how long after
    their end that moment happens to be. They end in groups, at moments all over the interval.
    """
    if len(ending) > IDS_PER_REQUEST:
        return [ending]
    return [group for first in range(_MOMENTS) if (group := ending[first::_MOMENTS])]
