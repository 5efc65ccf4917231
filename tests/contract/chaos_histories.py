"""Artificial case histories for the tests of ``make chaos``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.chaos.callers import Caller
from tests.chaos.history import CaseHistory, LostCall, Run, RunResult, RunState, Stop, TaskOutcome
from tests.chaos.plan import Case, Kind

NOON = 1_800_000_000.0
OWN = Caller("chaos", "manual", "", 0, 0)
"""Placeholder for the next try of the task in whose history the run is used."""


def make_caller(kind: Kind, try_number: int, map_index: int = 0) -> Caller:
    """Return the caller for a try of a task of a kind."""
    return Caller("chaos", "manual", f"{kind.value}_deferrable", map_index, try_number)


def run(
    run_count: int = 1,
    state: RunState = RunState.SUCCEEDED,
    at: float = 0.0,
    job: str = "Case 007",
    caller: Caller | None = OWN,
    stops: Sequence[Stop] | None = None,
    instance: int | None = None,
) -> Run:
    """Return a run of five seconds that starts `at` seconds after noon; a stopped run is stopped after four."""
    ended = None if state is RunState.ACTIVE else NOON + at + 5
    if stops is None:
        stops = [Stop(NOON + at + 4, caller)] if state is RunState.STOPPED else []
    return Run(f"id of {job}", job, run_count, NOON + at, state, ended, caller, stops, instance)


def stopped_at(at: float) -> Run:
    """Return a run that starts at noon and is stopped by its task."""
    return run(1, RunState.STOPPED, stops=[Stop(NOON + at, OWN)])


def history(
    kind: Kind,
    task: TaskOutcome,
    runs: Sequence[Run],
    *,
    acted_at: float | None = None,
    lost_calls: Sequence[LostCall] = (),
    map_index: int = 0,
    **case_fields: Any,
) -> CaseHistory:
    """
    Return the history of a case.

    :param case_fields: further fields of the case
    """
    case_fields.setdefault("if_running", {Kind.JOINS: "join", Kind.WAITS: "wait_then_start"}.get(kind, "fail"))
    case = Case(number=7, kind=kind, deferrable=True, map_index=map_index, records=30, **case_fields)
    tries: Counter[str] = Counter()
    completed = []
    for item in runs:
        tries[item.work_item] += 1
        own = make_caller(kind, tries[item.work_item], map_index)
        stops = [replace(stop, caller=own) if stop.caller == OWN else stop for stop in item.stops]
        completed.append(replace(item, caller=own if item.caller == OWN else item.caller, stops=stops))
    return CaseHistory(case, task, completed, acted_at, lost_calls)


def _results(*runs: Run, outcome: str = "SUCCEEDED") -> list[RunResult]:
    return [RunResult(run.job_id, run.run_count, outcome) for run in runs]


def success(*runs: Run, outcome: str = "SUCCEEDED") -> TaskOutcome:
    """Return the outcome of a task that succeeded in its third try."""
    return TaskOutcome("success", tries=3, results=_results(*runs, outcome=outcome))
