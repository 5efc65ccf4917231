"""
``make bench``: how many HTTP requests, and how long, operations take with this provider's client and the official SDK.

Both work on the same sandbox. The exit code is 1 if a goal about requests is missed.
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

from dev.local_sandbox import SandboxProcess
from tests.benchmarks.measuring import Comparison, Operation, compare
from tests.benchmarks.operations import OPERATIONS
from tests.benchmarks.results import document, table
from tests.benchmarks.stage import Stage

# Twice as fast as life.
_TIME_SCALE = 2
# Of what is not a terminal, so that no row of the table wraps.
_WIDTH = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write, and return the exit code."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("build/bench-requests.json"), help="where to write results")
    parser.add_argument("--only", default="", help="measure operations only whose names contain this")
    options = parser.parse_args(arguments)
    operations = [operation for operation in OPERATIONS if options.only in operation.name]
    if not operations:
        parser.error(f"no operation's name contains '{options.only}'")
    began = time.monotonic()
    with SandboxProcess(time_scale=_TIME_SCALE) as sandbox:
        comparisons = list(_measured(operations, Stage(sandbox)))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(table(comparisons))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document(comparisons), indent=2) + "\n", encoding="utf-8")
    console.print(f"Measured in {time.monotonic() - began:.0f} s; every request is in {options.json}.")
    return 0 if all(comparison.goal_is_met for comparison in comparisons) else 1


def _measured(operations: Sequence[Operation], stage: Stage) -> Iterator[Comparison]:
    # What both load at their first use belongs to no operation.
    compare(OPERATIONS[0], stage)
    for operation in track(operations, "Measuring", console=Console(stderr=True), transient=True):
        yield compare(operation, stage)


if __name__ == "__main__":
    sys.exit(main())
