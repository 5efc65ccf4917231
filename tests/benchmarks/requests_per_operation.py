"""
``make bench``: compares HTTP requests and duration of operations between this provider's client and the official SDK.

Both clients use the same sandbox. The exit code is 1 if a request goal is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from tests.benchmarks.environment import Environment
from tests.benchmarks.measurement import Comparison, Operation, compare
from tests.benchmarks.operations import OPERATIONS
from tests.benchmarks.results import document, table

# Twice real time.
_TIME_SCALE = 2
# Width without a terminal, so that no table row wraps.
_WIDTH = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, report the results, and return the exit code."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("build/bench-requests.json"), help="output file")
    parser.add_argument("--only", default="", help="measure only operations whose names contain this text")
    options = parser.parse_args(arguments)
    operations = [operation for operation in OPERATIONS if options.only in operation.name]
    if not operations:
        parser.error(f"no operation name contains '{options.only}'")
    began = time.monotonic()
    with SandboxProcess(time_scale=_TIME_SCALE) as sandbox:
        comparisons = list(_measured(operations, Environment(sandbox)))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(table(comparisons))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document(comparisons), indent=2) + "\n", encoding="utf-8")
    console.print(f"Measured in {time.monotonic() - began:.0f} s. All requests are listed in {options.json}.")
    return 0 if all(comparison.goal_is_met for comparison in comparisons) else 1


def _measured(operations: Sequence[Operation], environment: Environment) -> Iterator[Comparison]:
    # Warm up: exclude what both clients load on first use.
    compare(OPERATIONS[0], environment)
    for operation in track(operations, "Measuring", console=Console(stderr=True), transient=True):
        yield compare(operation, environment)


if __name__ == "__main__":
    sys.exit(main())
