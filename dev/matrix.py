"""
``make test-matrix``: the tests on all supported versions of Airflow and Python, as a table.

On the first Python of each Airflow, all unit and contract tests run, and those of pages and push events; on the
others, the unit tests of what users import. The demo runs on all, with a running scheduler. Logs are in
``build/matrix/``.
"""

from __future__ import annotations

import argparse
import os
import subprocess  # nosec B404 # runs only programs of this project
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree  # nosec B405 # reads only reports of this project's tests

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "build/matrix"
PYTHONS = {
    "2.11": ("3.10", "3.11", "3.12"),
    "3.0": ("3.12", "3.10", "3.11"),
    "3.1": ("3.13", "3.10", "3.11", "3.12"),
    "3.2": ("3.11", "3.10", "3.12", "3.13"),
    "3.3": ("3.13", "3.10", "3.11", "3.12"),
}
# The benchmarks compare the client with the SDK, and the chaos test runs on the newest Airflow.
_ALL_TESTS = (
    *("tests/unit", "tests/contract", "tests/integration/test_events.py", "tests/integration/test_pages.py"),
    *("--ignore-glob", "*_benchmark.py", "--ignore-glob", "*/test_chaos_*.py"),
)
_SOME_TESTS = tuple(f"tests/unit/{part}" for part in ("cli", "operators", "plugins", "sensors", "test_compat.py"))
_PYTEST = ("-q", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "-W", "ignore")

console = Console(highlight=False)


class Row(NamedTuple):
    """A line of the table."""

    tests: str
    demo: str
    ok: bool
    skipped: Counter[str]


def _run(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program that writes to a log file."""
    with log.open("wb") as output:
        return subprocess.Popen(  # nosec B603 # no shell, trusted arguments
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )


def _results(report: Path) -> tuple[str, Counter[str]]:
    """Return the counts in pytest's report, and how many tests were skipped for which reason."""
    if not report.exists():
        return "no report", Counter()
    root = ElementTree.parse(report).getroot()  # nosec B314 # a report of this project's tests
    counts = Counter(case[0].tag if len(case) else "passed" for case in root.iter("testcase"))
    failed = counts["failure"] + counts["error"]
    text = f"{counts['passed']} passed, {failed} failed, {counts['skipped']} skipped"
    return text, Counter(element.get("message", "") for element in root.iter("skipped"))


def run_row(airflow: str, python: str) -> Row:
    """
    Create the environment of an Airflow and a Python, and run its tests and the demo at the same time.

    :param airflow: minor version of Airflow
    :param python: minor version of Python
    """
    name = f"{airflow}-py{python}"
    environment = f".venv-airflow-{name}"
    log = LOGS / f"{name}-install.log"
    if _run(["make", "--silent", f"{environment}/.installed"], log).wait():
        if "No interpreter found" in log.read_text("utf-8"):
            return Row(f"no Python {python}, see {log.relative_to(ROOT)}", "", True, Counter())
        return Row(f"not installed, see {log.relative_to(ROOT)}", "", False, Counter())
    program = str(ROOT / environment / "bin/python")
    report = LOGS / f"{name}.xml"
    report.unlink(missing_ok=True)
    selection = _ALL_TESTS if python == PYTHONS[airflow][0] else _SOME_TESTS
    demo = _run([program, "-m", "dev.demo"], LOGS / f"{name}-demo.log")
    tests = _run([program, "-m", "pytest", *_PYTEST, f"--junitxml={report}", *selection], LOGS / f"{name}-tests.log")
    codes = tests.wait(), demo.wait()
    counts, skipped = _results(report)
    return Row(counts, "failed" if codes[1] else "succeeded", not any(codes), skipped)


def main() -> int:
    """Run the rows selected on the command line, and return the exit code."""
    names = [f"{airflow}-py{python}" for airflow, pythons in PYTHONS.items() for python in pythons]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"an Airflow, or one of {', '.join(names)}; by default all")
    selected = parser.parse_args().rows
    if unknown := set(selected) - {*PYTHONS, *names}:
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}")
    LOGS.mkdir(parents=True, exist_ok=True)
    # A row must not take packages from the environment that started it.
    os.environ.pop("VIRTUAL_ENV", None)
    table = Table("Airflow", "Python", "unit and contract tests", "demo DAG", "seconds")
    reasons: dict[str, Counter[str]] = {}
    ok, has_run = True, False
    for name in names:
        airflow, python = name.split("-py")
        if selected and not {airflow, name} & set(selected):
            continue
        began = time.monotonic()
        row = run_row(airflow, python)
        cells = (airflow, python, row.tests, row.demo, f"{time.monotonic() - began:.0f}")
        console.print(" | ".join(cells), markup=False)
        table.add_row(*cells)
        ok, has_run = ok and row.ok, has_run or bool(row.demo)
        if python == PYTHONS[airflow][0]:
            reasons[airflow] = row.skipped
    console.print(table)
    for airflow, skipped in reasons.items():
        lines = (f"  {number} x {reason}" for reason, number in skipped.items())
        console.print(f"Skipped on Airflow {airflow}:", *lines, sep="\n", markup=False)
    return 0 if ok and has_run else 1


if __name__ == "__main__":
    sys.exit(main())
