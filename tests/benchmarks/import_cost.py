"""
``make bench-imports``: measures the import cost of all operators and sensors beyond Airflow's own modules.

Each figure is the median over several new processes, with cached byte code as in an installation, and without. It
measures CPU time, because wall time depends on other load. The exit code is 1 if the cost with byte code exceeds the
limit.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

LIMIT = 40.0
"""Milliseconds."""
_RUNS = 9
_ROOT = Path(__file__).resolve().parent.parent.parent
_MEASURE = """
import importlib, json, sys, time
from airflow.providers.common.compat.sdk import (
    BaseHook, BaseOperator, BaseOperatorLink, BaseSensorOperator, ObjectStoragePath, XCom, conf
)
BaseOperator(task_id="t")
began = time.process_time()
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(1000 * (time.process_time() - began))
"""


def measure(modules: list[str], *, compiled: bool) -> float:
    """Return the median CPU time of importing modules, in milliseconds."""
    command = [sys.executable, "-W", "ignore", "-c", _MEASURE, json.dumps(modules)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(_ROOT), "AIRFLOW_HOME": folder, "PYTHONPYCACHEPREFIX": folder}
        environment["PYTHONDONTWRITEBYTECODE"] = "" if compiled else "1"
        if not compiled:
            # Keep Airflow's own byte code.
            del environment["PYTHONPYCACHEPREFIX"]
        runs = [
            float(
                subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()[-1]
            )
            for _ in range(_RUNS + compiled)
        ]
    # The first run writes the byte code.
    return statistics.median(runs[compiled:])


def main() -> int:
    """Print the figures and return the exit code."""
    folder = _ROOT / "airflow_provider_streamsets"
    files = sorted(file for package in ("operators", "sensors") for file in (folder / package).glob("[a-z]*.py"))
    modules = [".".join(file.relative_to(_ROOT).with_suffix("").parts) for file in files]
    console = Console(highlight=False)
    cost = measure(modules, compiled=True)
    console.print(f"All {len(modules)} modules: {cost:.0f} ms of CPU (limit {LIMIT:g} ms)")
    console.print(f"Without byte code: {measure(modules, compiled=False):.0f} ms")
    return 1 if cost > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
