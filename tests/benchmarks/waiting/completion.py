"""Select the runs to finish, and check that their ends were reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.benchmarks.waiting.protocol import Event, WaitedRun

_MAX_COUNT = 500


def select_finishing(runs: Sequence[WaitedRun]) -> list[WaitedRun]:
    """Return up to 500 runs, spread evenly over the list."""
    step = max(1, len(runs) // _MAX_COUNT)
    return list(runs[::step][:_MAX_COUNT])


def find_missing(runs: Sequence[WaitedRun], events: Mapping[str, Event]) -> list[WaitedRun]:
    """Return the finished runs without an event that contains the outcome."""
    return [run for run in runs if run.job_id not in events or events[run.job_id].outcome is None]
