"""Ends of runs, and what the waits for them have told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.benchmarks.waiting.orders import Event, WaitedRun

_MOST = 500


def some_of(runs: Sequence[WaitedRun]) -> list[WaitedRun]:
    """Return the runs that are to end: 500, all over the list, or all if there are no more."""
    step = max(1, len(runs) // _MOST)
    return list(runs[::step][:_MOST])


def without_outcome(runs: Sequence[WaitedRun], events: Mapping[str, Event]) -> list[WaitedRun]:
    """Return those of the runs that have ended of which no event tells the outcome."""
    return [run for run in runs if run.job_id not in events or events[run.job_id].outcome is None]
