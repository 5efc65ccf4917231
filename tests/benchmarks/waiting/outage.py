"""What waits make of an outage of Control Hub in their middle."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from tests.benchmarks.waiting.contenders import Contender
from tests.benchmarks.waiting.ends import some_of, without_outcome
from tests.benchmarks.waiting.figures import Figure
from tests.benchmarks.waiting.gate import Gate, Passage
from tests.benchmarks.waiting.stage import WaitingStage
from tests.benchmarks.waiting.steady import IDS_PER_REQUEST

# As 5 minutes are to the interval that the provider's operators have by default.
_INTERVALS = 10
_SHORTER = 6
_SHORT_ENOUGH = 3.0
_SETTLING = 1.5
# Seconds after which an end that happened in the outage counts as lost, beside as many intervals as the outage had.
_PATIENCE = 30.0


def measure_outage(stage: WaitingStage, interval: float) -> Iterator[Figure]:
    """
    Measure an outage of ten intervals, in which runs end: first Control Hub answers 503, then connections are reset.

    :param interval: seconds between two looks at a run; here they may be fewer, as ten are long
    """
    interval = min(interval, max(interval / _SHORTER, _SHORT_ENOUGH))
    runs, ending = len(stage.runs), some_of(stage.runs)
    with (
        Gate(stage.sandbox.port) as gate,
        stage.waiter(Contender.PROVIDER, interval, ramp=interval, url=gate.url) as waiter,
    ):
        waiter.wait_until_started()
        time.sleep(_SETTLING * interval)
        gate.turn(Passage.UNAVAILABLE)
        time.sleep(_INTERVALS / 2 * interval)
        stage.end(ending)
        gate.turn(Passage.RESET)
        time.sleep(_INTERVALS / 2 * interval)
        attempts = gate.turned_away
        gate.turn(Passage.OPEN)
        over = time.time()
        waiter.wait_for_events(len(ending), _INTERVALS * interval + _PATIENCE)
        # Whoever tells an end twice, or one that never was, has the time to do it.
        time.sleep(interval)
        events = waiter.events
    lost = len(without_outcome(ending, events))
    wrong = len(events.keys() - {run.job_id for run in ending})
    name = f"outage of {_INTERVALS} intervals"
    yield Figure(runs, interval, f"{name}: waits failed, ends lost", _of_provider(lost + wrong), 0, digits=0)
    regular = _INTERVALS * math.ceil(runs / IDS_PER_REQUEST)
    yield Figure(runs, interval, f"{name}: requests meanwhile", _of_provider(attempts), regular, digits=0)
    told = max((event.at for event in events.values()), default=over)
    yield Figure(runs, interval, f"{name}: to the last event after it", _of_provider(told - over), unit="s")


def _of_provider(value: float) -> dict[Contender, float]:
    return {Contender.PROVIDER: float(value)}
