"""Measure waits through an outage of Control Hub."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from tests.benchmarks.waiting.completion import find_missing, select_finishing
from tests.benchmarks.waiting.environment import WaitingEnvironment
from tests.benchmarks.waiting.figures import Figure
from tests.benchmarks.waiting.proxy import FaultProxy, ProxyMode
from tests.benchmarks.waiting.steady_state import IDS_PER_REQUEST
from tests.benchmarks.waiting.strategies import Strategy

# Corresponds to 5 minutes with the operators' default interval.
_INTERVALS = 10
_INTERVAL_DIVISOR = 6
_MIN_INTERVAL = 3.0
_WARM_UP = 1.5
# Seconds after which an end during the outage counts as lost, plus the duration of the outage.
_TIMEOUT = 30.0


def measure_outage(environment: WaitingEnvironment, interval: float) -> Iterator[Figure]:
    """
    Measure an outage of ten intervals during which runs end: first 503 responses, then connection resets.

    :param environment: the environment
    :param interval: poll interval in seconds; shortened to limit the duration
    """
    interval = min(interval, max(interval / _INTERVAL_DIVISOR, _MIN_INTERVAL))
    runs, finishing = len(environment.runs), select_finishing(environment.runs)
    with (
        FaultProxy(environment.sandbox.port) as proxy,
        environment.waiter(Strategy.PROVIDER, interval, ramp=interval, url=proxy.url) as waiter,
    ):
        waiter.wait_until_started()
        time.sleep(_WARM_UP * interval)
        proxy.set_mode(ProxyMode.UNAVAILABLE)
        time.sleep(_INTERVALS / 2 * interval)
        environment.finish_runs(finishing)
        proxy.set_mode(ProxyMode.RESET)
        time.sleep(_INTERVALS / 2 * interval)
        attempts = proxy.rejected
        proxy.set_mode(ProxyMode.OPEN)
        over = time.time()
        waiter.wait_for_events(len(finishing), _INTERVALS * interval + _TIMEOUT)
        # Leave time for duplicate or wrong events.
        time.sleep(interval)
        events = waiter.events
    lost = len(find_missing(finishing, events))
    wrong = len(events.keys() - {run.job_id for run in finishing})
    name = f"outage of {_INTERVALS} intervals"
    yield Figure(runs, interval, f"{name}: waits failed, ends lost", _provider_value(lost + wrong), 0, digits=0)
    regular = _INTERVALS * math.ceil(runs / IDS_PER_REQUEST)
    yield Figure(runs, interval, f"{name}: requests during outage", _provider_value(attempts), regular, digits=0)
    last_event = max((event.at for event in events.values()), default=over)
    yield Figure(runs, interval, f"{name}: to the last event afterwards", _provider_value(last_event - over), unit="s")


def _provider_value(value: float) -> dict[Strategy, float]:
    return {Strategy.PROVIDER: float(value)}
