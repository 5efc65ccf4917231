"""
``make bench-imports``: measures the import cost of all operators and sensors beyond Airflow's own modules.

Each figure is the median over several new processes, with cached byte code as in an installation, and without. It
measures CPU time, because wall time depends on other load. A table shows which modules take most of the time, by
``python -X importtime``: the least of several runs. The exit code is 1 if the cost with byte code exceeds the limit.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

LIMIT = 40.0
"""Milliseconds."""
_RUNS = 9
_ROOT = Path(__file__).resolve().parent.parent.parent
_MEASURE = """
import importlib.util, json, sys, time
from airflow.providers.common.compat.sdk import (
    BaseHook, BaseOperator, BaseOperatorLink, BaseSensorOperator, ObjectStoragePath, XCom, conf
)
BaseOperator(task_id="t")

def import_module(name, package=None):
    name = importlib.util.resolve_name(name, package)
    __import__(name)
    return sys.modules[name]

# ``-X importtime`` does not show what importlib imports.
importlib.import_module = import_module
began = time.process_time()
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(1000 * (time.process_time() - began))
"""
_MODULES_SHOWN = 12
_PLUGIN = "airflow_provider_streamsets.plugins.streamsets"


def _run(modules: list[str], *options: str, compiled: bool, count: int) -> list[subprocess.CompletedProcess[str]]:
    """Import modules in new processes, after one that writes the byte code."""
    command = [sys.executable, "-W", "ignore", *options, "-c", _MEASURE, json.dumps(modules)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(_ROOT), "AIRFLOW_HOME": folder, "PYTHONPYCACHEPREFIX": folder}
        environment["PYTHONDONTWRITEBYTECODE"] = "" if compiled else "1"
        if not compiled:
            # Keep Airflow's own byte code.
            del environment["PYTHONPYCACHEPREFIX"]
        runs = [
            subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            for _ in range(count + compiled)
        ]
    return runs[compiled:]


def measure(modules: list[str], *, compiled: bool) -> float:
    """Return the median CPU time of importing modules, in milliseconds."""
    return statistics.median(float(run.stdout.split()[-1]) for run in _run(modules, compiled=compiled, count=_RUNS))


def times_by_module(modules: list[str]) -> dict[str, float]:
    """Return the milliseconds that importing each module takes, without those that it imports, largest first."""
    times: dict[str, float] = {}
    for run in _run(modules, "-X", "importtime", compiled=True, count=_RUNS):
        lines = [
            line.removeprefix("import time:").split("|") for line in run.stderr.splitlines() if line.count("|") == 2
        ]
        names = [name.strip() for *_, name in lines]
        # What Airflow itself imports comes first.
        first = names.index("airflow_provider_streamsets.operators")
        for (own, _, _), name in zip(lines[first:], names[first:], strict=True):
            times[name] = min(times.get(name, math.inf), int(own) / 1000)
    return dict(sorted(times.items(), key=lambda item: -item[1]))


def main() -> int:
    """Print the figures and return the exit code."""
    folder = _ROOT / "airflow_provider_streamsets"
    files = sorted(file for package in ("operators", "sensors") for file in (folder / package).glob("[a-z]*.py"))
    modules = [".".join(file.relative_to(_ROOT).with_suffix("").parts) for file in files]
    console = Console(highlight=False)
    cost = measure(modules, compiled=True)
    console.print(f"All {len(modules)} modules: {cost:.0f} ms of CPU (limit {LIMIT:g} ms)")
    console.print(f"Without byte code: {measure(modules, compiled=False):.0f} ms")
    plugin = measure([_PLUGIN], compiled=True)
    console.print(f"The plugin, which every Airflow process imports: {plugin:.1f} ms of CPU")
    times = times_by_module(modules)
    table = Table("Module", "ms")
    for name, milliseconds in list(times.items())[:_MODULES_SHOWN]:
        table.add_row(name, f"{milliseconds:.1f}")
    rest = list(times.values())[_MODULES_SHOWN:]
    table.add_row(f"{len(rest)} others", f"{sum(rest):.1f}", end_section=True)
    console.print(table)
    return 1 if cost > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
