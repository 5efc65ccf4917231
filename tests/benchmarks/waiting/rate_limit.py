"""
``make bench-rate-limit``: measures waits on a Control Hub that limits the rate of requests.

Compares the learned request rate with the exponential back-off after each 429 that it has replaced. The server is the
sandbox, without ``Retry-After``. The exit code is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from tests.benchmarks.measurement import BenchmarkError
from tests.benchmarks.waiting.completion import find_missing
from tests.benchmarks.waiting.environment import WaitingEnvironment, waiting_environment
from tests.benchmarks.waiting.protocol import Event
from tests.benchmarks.waiting.strategies import Strategy

_STRATEGIES = (Strategy.PROVIDER, Strategy.BACKOFF)
_LIMITS = (2.0, 5.0, 20.0)
# Seconds after the start until the measured steady state.
_WARM_UP = 30.0
STEADY_SECONDS = 30.0
"""Seconds for which requests are counted while no run ends."""
# Seconds after which an end counts as late.
_TIMEOUT = 600.0
# The default of operators.
_METRICS_TIMEOUT = 30.0
_MAX_REJECTED = 0.05
# Share of the limit that is used at least while requests wait for their turns.
_MIN_USE = 0.6
_WIDTH = 150


@dataclass(frozen=True)
class _Requests:
    sent: int
    rejected: int
    at: float

    def since(self, before: _Requests) -> _Requests:
        return _Requests(self.sent - before.sent, self.rejected - before.rejected, self.at - before.at)

    @property
    def rejected_share(self) -> float:
        return self.rejected / self.sent

    @property
    def accepted_rate(self) -> float:
        return (self.sent - self.rejected) / self.at


@dataclass(frozen=True)
class Result:
    """
    Measured figures of a strategy at a limit.

    :param limit: requests per second that the sandbox accepts
    :param strategy: wait strategy
    :param steady_sent: requests sent while no run ends
    :param steady_rejected: share of them that was rejected
    :param burst_sent: requests sent from the ends of the runs to the last event
    :param burst_rejected: share of them that was rejected
    :param burst_use: rate of accepted requests in that time, as a share of the limit
    :param median: median seconds from the end of a run to its event
    :param worst: the same for the last event
    :param late: number of ends that were not reported in time, and count with the time until then
    :param incomplete: number of reports without events, or with the metrics of the status only
    """

    limit: float
    strategy: Strategy
    steady_sent: int
    steady_rejected: float
    burst_sent: int
    burst_rejected: float
    burst_use: float
    median: float
    worst: float
    late: int
    incomplete: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, report the results, and return the exit code."""
    parser = argparse.ArgumentParser(prog="make bench-rate-limit", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("build/bench-rate-limit.json"), help="output file")
    parser.add_argument("--limits", type=float, nargs="+", default=_LIMITS, help="requests per second")
    parser.add_argument("--runs", type=int, default=5_000, help="number of runs to wait for")
    parser.add_argument("--ends", type=int, default=100, help="number of runs that end at once")
    parser.add_argument("--interval", type=float, default=10.0, help="poll interval in seconds")
    parser.add_argument("--warm-up", type=float, default=_WARM_UP, help="seconds before the steady state is measured")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    log = Console(stderr=True, highlight=False)
    results: list[Result] = []
    with waiting_environment(options.runs, provider_only=True) as environment:
        for limit in options.limits:
            for strategy in _STRATEGIES:
                result = _measure(environment, strategy, limit, options.ends, options.interval, options.warm_up)
                log.print(result)
                results.append(result)
                environment = environment.of_next_runs()
    problems = _problems(results)
    console.print(_table(results, f"{options.runs:,} waits, {options.interval:g} s, {options.ends} ends at once"))
    for problem in problems:
        console.print(f"[bold red]MISSED[/bold red] {problem}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    document = {"goals_met": not problems, "results": [asdict(result) for result in results]}
    options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 1 if problems else 0


def _measure(
    environment: WaitingEnvironment, strategy: Strategy, limit: float, ends: int, interval: float, warm_up: float
) -> Result:
    sandbox, finishing = environment.sandbox, environment.runs[:: len(environment.runs) // ends][:ends]
    sandbox.set_faults({"path": "*", "fault": "too_many_requests", "per_second": limit, "retry_after": 0})
    with environment.waiter(strategy, interval, ramp=interval, metrics_timeout=_METRICS_TIMEOUT) as waiter:
        waiter.wait_until_started()
        time.sleep(warm_up)
        before = _requests(environment)
        time.sleep(STEADY_SECONDS)
        steady = _requests(environment).since(before)
        environment.finish_runs(finishing)
        before = _requests(environment)
        events = waiter.wait_for_events(ends, _TIMEOUT)
        burst = _requests(environment).since(before)
    over = time.time()
    sandbox.set_faults()
    late = find_missing(finishing, events)
    if late and strategy is Strategy.PROVIDER:
        raise BenchmarkError(f"{limit:g} requests/s: {len(late)} of {ends} ends were not reported.")
    finished = environment.finish_times(finishing)
    events.update({run.job_id: Event(run.job_id, over, None) for run in late})
    latencies = [events[run.job_id].at - finished[run.job_id] for run in finishing]
    environment.start_runs(finishing)
    return Result(
        limit,
        strategy,
        steady.sent,
        steady.rejected_share,
        burst.sent,
        burst.rejected_share,
        burst.accepted_rate / limit,
        median(latencies),
        max(latencies),
        len(late),
        sum(not event.is_complete for event in events.values()),
    )


def _requests(environment: WaitingEnvironment) -> _Requests:
    (rule,) = environment.sandbox.faults()
    return _Requests(rule["matched"], rule["hit"], time.monotonic())


def _table(results: Sequence[Result], title: str) -> Table:
    table = Table(title=title)
    for heading in (
        "Limit",
        "Strategy",
        f"requests\nin {STEADY_SECONDS:g} s",
        "answered\n429",
        "requests\nafter ends",
        "answered\n429",
        "accepted\nof limit",
        "end to event\nmedian",
        "worst",
        "incomplete\nreports",
    ):
        table.add_column(heading, justify="left" if heading == "Strategy" else "right")
    for result in results:
        table.add_row(
            f"{result.limit:g}/s",
            result.strategy.heading,
            f"{result.steady_sent:,}",
            f"{result.steady_rejected:.1%}",
            f"{result.burst_sent:,}",
            f"{result.burst_rejected:.1%}",
            f"{result.burst_use:.0%}",
            f"{result.median:.1f} s",
            f"{'> ' if result.late else ''}{result.worst:.1f} s",
            str(result.incomplete),
        )
    return table


def _problems(results: Sequence[Result]) -> list[str]:
    problems = []
    for result in (each for each in results if each.strategy is Strategy.PROVIDER):
        name = f"{result.limit:g} requests/s"
        if max(result.steady_rejected, result.burst_rejected) > _MAX_REJECTED:
            problems.append(f"{name}: more than {_MAX_REJECTED:.0%} of the requests were rejected.")
        if result.burst_use < _MIN_USE:
            problems.append(f"{name}: less than {_MIN_USE:.0%} of the limit was used after the ends.")
        if result.incomplete:
            problems.append(f"{name}: {result.incomplete} reports lack events or metrics.")
    return problems


if __name__ == "__main__":
    sys.exit(main())
