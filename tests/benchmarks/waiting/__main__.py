"""
``make bench-waiting``: measures cost and latency of waiting for many runs in one process.

Compares the provider's triggers with triggers that each have their own poll loop, and with the official SDK's wait in
one thread for each run. The server is the sandbox. The exit code is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path

from rich.console import Console

from tests.benchmarks.measurement import BenchmarkError
from tests.benchmarks.waiting.environment import WaitingEnvironment, waiting_environment
from tests.benchmarks.waiting.figures import Figure
from tests.benchmarks.waiting.latency import measure_latency
from tests.benchmarks.waiting.outage import measure_outage
from tests.benchmarks.waiting.results import document, goals_are_met, table
from tests.benchmarks.waiting.soak import measure_soak
from tests.benchmarks.waiting.steady_state import measure_steady

_RUNS = (10, 100, 1_000, 10_000)
_MIN_INTERVAL = 5.0
# Above this rate, the sandbox would slow down the poll loops.
_MAX_REQUESTS_PER_SECOND = 333
# Up to this number of waits, several measurements can run concurrently.
_FEW_RUNS = 1_000
_CONCURRENCY = 3
# Width without a terminal, so that no table row wraps.
_WIDTH = 150

PARTS: dict[str, Callable[[WaitingEnvironment, float], Iterator[Figure]]] = {
    "steady": measure_steady,
    "latency": measure_latency,
    "outage": measure_outage,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, report the results, and return the exit code."""
    parser = argparse.ArgumentParser(prog="make bench-waiting", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("build/bench-waiting.json"), help="output file")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS), help="parts to measure")
    parser.add_argument("--runs", type=int, nargs="+", default=_RUNS, help="numbers of runs to wait for")
    parser.add_argument("--interval", type=float, help="poll interval in seconds for every number of runs")
    parser.add_argument("--provider-only", action="store_true", help="measure only the provider's triggers")
    parser.add_argument(
        "--soak", type=float, metavar="MINUTES", help="measure only whether waits that come and go leak"
    )
    options = parser.parse_args(arguments)
    parts = {"soak": partial(measure_soak, minutes=options.soak)} if options.soak else PARTS
    selected = list(parts) if options.soak else options.only
    began = time.monotonic()
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    log = Console(stderr=True, highlight=False)
    problems: list[str] = []

    def measured(runs: int, part: str) -> list[Figure]:
        interval = options.interval or max(_MIN_INTERVAL, float(round(runs / _MAX_REQUESTS_PER_SECOND)))
        try:
            with waiting_environment(runs, provider_only=options.provider_only) as environment:
                figures = list(parts[part](environment, interval))
        except BenchmarkError as error:
            problems.append(f"{runs:,} runs, {part}: {error}")
            figures = []
        log.print(f"{time.monotonic() - began:5.0f} s: {runs:,} runs, {part}: done")
        return figures

    few = [runs for runs in options.runs if runs <= _FEW_RUNS]
    many = [runs for runs in options.runs if runs > _FEW_RUNS]
    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        found = list(pool.map(measured, *zip(*product(few, selected), strict=True))) if few else []
    found += [measured(runs, part) for runs, part in product(many, selected)]
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
