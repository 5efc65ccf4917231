"""Made-up histories of `make chaos`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.chaos.callers import Caller
from tests.chaos.history import CaseHistory, Delivery, End, LostCall, Run, Stop, TaskEnd
from tests.chaos.plan import Case, Kind

NOON = 1_800_000_000.0
OWN = Caller("chaos", "manual", "", 0, 0)
"""Stands for the task of the history that the run gets into, in the next of its tries."""


def tried(kind: Kind, try_number: int, map_index: int = 0) -> Caller:
    """Return a try of a task of a kind."""
    return Caller("chaos", "manual", f"{kind.value}_deferrable", map_index, try_number)


def run(
    run_count: int = 1,
    end: End = End.SUCCEEDED,
    at: float = 0.0,
    job: str = "Case 007",
    caller: Caller | None = OWN,
    stops: Sequence[Stop] | None = None,
    instance: int | None = None,
) -> Run:
    """Return a run that takes five seconds from so many seconds past noon, or is stopped after four."""
    ended = None if end is End.GOES_ON else NOON + at + 5
    if stops is None:
        stops = [Stop(NOON + at + 4, caller)] if end is End.STOPPED else []
    return Run(f"id of {job}", job, run_count, NOON + at, end, ended, caller, stops, instance)


def stopped_at(at: float) -> Run:
    """Return a run from noon on that its task has stopped."""
    return run(1, End.STOPPED, stops=[Stop(NOON + at, OWN)])


def history(
    kind: Kind,
    task: TaskEnd,
    runs: Sequence[Run],
    *,
    acted: float | None = None,
    lost_calls: Sequence[LostCall] = (),
    map_index: int = 0,
    **of_case: Any,
) -> CaseHistory:
    """
    Return the history of a case.

    :param of_case: further values of the case
    """
    of_case.setdefault("if_running", {Kind.JOINS: "join", Kind.WAITS: "wait_then_start"}.get(kind, "fail"))
    case = Case(number=7, kind=kind, deferrable=True, map_index=map_index, records=30, **of_case)
    tries: Counter[str] = Counter()
    named = []
    for item in runs:
        tries[item.work] += 1
        own = tried(kind, tries[item.work], map_index)
        stops = [replace(stop, caller=own) if stop.caller == OWN else stop for stop in item.stops]
        named.append(replace(item, caller=own if item.caller == OWN else item.caller, stops=stops))
    return CaseHistory(case, task, named, acted, lost_calls)


def _delivered(*runs: Run, outcome: str = "SUCCEEDED") -> list[Delivery]:
    return [Delivery(run.job_id, run.run_count, outcome) for run in runs]


def success(*runs: Run, outcome: str = "SUCCEEDED") -> TaskEnd:
    """Return the end of a task that has succeeded in its third try."""
    return TaskEnd("success", tries=3, deliveries=_delivered(*runs, outcome=outcome))
