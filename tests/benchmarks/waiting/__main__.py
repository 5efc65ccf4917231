"""
``make bench-waiting``: what it costs to wait for many runs in one process, and how soon their ends are told.

The provider's triggers are measured beside a trigger with a poll loop of its own for each run, and beside the official
SDK's wait in a thread for each. The sandbox is the server. The exit code is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from rich.console import Console

from tests.benchmarks.measuring import BenchmarkError
from tests.benchmarks.waiting.figures import Figure
from tests.benchmarks.waiting.latency import measure_latency
from tests.benchmarks.waiting.outage import measure_outage
from tests.benchmarks.waiting.results import document, goals_are_met, table
from tests.benchmarks.waiting.stage import WaitingStage, waiting_stage
from tests.benchmarks.waiting.steady import measure_steady

_RUNS = (10, 100, 1_000, 10_000)
_SHORTEST_INTERVAL = 5.0
# A poll loop for each run must not be slowed down by a sandbox that cannot answer as fast as it asks.
_MOST_REQUESTS_PER_SECOND = 333
# Up to so many waits leave the machine time enough to measure several things at a time.
_FEW_RUNS = 1_000
_CONCURRENT_READS = 3
# Of what is not a terminal, so that no row of the table wraps.
_WIDTH = 150

PARTS: dict[str, Callable[[WaitingStage, float], Iterator[Figure]]] = {
    "steady": measure_steady,
    "latency": measure_latency,
    "outage": measure_outage,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write, and return the exit code."""
    parser = argparse.ArgumentParser(prog="make bench-waiting", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("build/bench-waiting.json"), help="where to write results")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS), help="measure these parts only")
    parser.add_argument("--runs", type=int, nargs="+", default=_RUNS, help="with how many waiting runs")
    parser.add_argument("--interval", type=float, help="seconds between two looks at a run, whatever their number")
    parser.add_argument("--alone", action="store_true", help="without those that the provider is compared with")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    log = Console(stderr=True, highlight=False)
    problems: list[str] = []

    def measured(runs: int, part: str) -> list[Figure]:
        interval = options.interval or max(_SHORTEST_INTERVAL, float(round(runs / _MOST_REQUESTS_PER_SECOND)))
        try:
            with waiting_stage(runs, alone=options.alone) as stage:
                figures = list(PARTS[part](stage, interval))
        except BenchmarkError as error:
            problems.append(f"{runs:,} runs, {part}: {error}")
            figures = []
        log.print(f"{time.monotonic() - began:5.0f} s: {runs:,} runs, {part}: measured")
        return figures

    few = [runs for runs in options.runs if runs <= _FEW_RUNS]
    many = [runs for runs in options.runs if runs > _FEW_RUNS]
    with ThreadPoolExecutor(_CONCURRENT_READS) as pool:
        found = list(pool.map(measured, *zip(*product(few, options.only), strict=True))) if few else []
    found += [measured(runs, part) for runs, part in product(many, options.only)]
    figures = [figure for each in found for figure in each]
    console.print(table(figures))
    for problem in problems:
        console.print(f"[bold red]NOT MEASURED[/bold red] {problem}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document(figures, problems), indent=2) + "\n", encoding="utf-8")
    console.print(f"Measured in {time.monotonic() - began:.0f} s; written to {options.json}.")
    return 0 if goals_are_met(figures) and not problems else 1


if __name__ == "__main__":
    sys.exit(main())
