"""What has come of a plan, as a table and, for broken promises, as text."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from tests.chaos.callers import shown
from tests.chaos.history import CaseHistory, End
from tests.chaos.performance import Result
from tests.chaos.plan import DESCRIPTIONS, Kind
from tests.chaos.verdict import Promise, Violation


def table(result: Result) -> Table:
    """Return a row for the cases of each kind and mode, for each kind of kill, and for each promise."""
    broken = {(violation.history.case.number) for violation in result.violations}
    rows = Table(
        title=f"{len(result.histories)} tasks, {result.plan.logical_runs} logical runs, seed {result.plan.seed}",
        caption=f"Things were killed for {result.stormed:.0f} s; {result.settled:.0f} s later all was quiet. Airflow's "
        f"database: {result.database}. Runs that a try had to give up, or that failed, are replaced by the next try.",
    )
    rows.add_column("The task ...")
    for name in ("Mode", "Tasks", "Tries", "Runs", "Succeeded", "Failed", "Stopped", "Broken"):
        rows.add_column(name, justify="left" if name == "Mode" else "right")
    for kind in Kind:
        for mode in ("sync", "deferrable"):
            histories = [h for h in result.histories if h.case.kind is kind and h.case.mode == mode]
            if histories:
                faulty = sum(h.case.number in broken for h in histories)
                rows.add_row(DESCRIPTIONS[kind], mode, *_figures(histories), _count(faulty))
    rows.add_section()
    rows.add_row("all", "", *_figures(list(result.histories)), _count(len(broken)))
    rows.add_section()
    for target, count in result.kills.items():
        rows.add_row(f"killed: {target.value}", "", str(count))
    rows.add_row("requests that went wrong", "", str(sum(result.fault_hits.values())))
    rows.add_row("start calls delivered late", "", str(result.fault_hits.get("late", 0)))
    rows.add_row("actions of people that were refused, and repeated", "", str(result.refused))
    rows.add_section()
    violations = result.violations
    for promise in Promise:
        count = sum(violation.promise is promise for violation in violations)
        rows.add_row(promise.value, *[""] * 7, _count(count, good="kept"))
    rows.add_section()
    rows.add_row("ambiguous: a lost answer while another task started the job", *[""] * 7, str(len(result.ambiguities)))
    return rows


def _figures(histories: list[CaseHistory]) -> list[str]:
    runs = [run for history in histories for run in history.own_runs]
    figures = [
        len(histories),
        sum(history.task.tries for history in histories),
        len(runs),
        *(sum(run.end is end for run in runs) for end in (End.SUCCEEDED, End.FAILED, End.STOPPED)),
    ]
    return [str(figure) for figure in figures]


def _count(count: int, good: str = "0") -> str:
    return f"[bold red]{count}[/bold red]" if count else f"[green]{good}[/green]"


def told(result: Result) -> Iterator[str]:
    """Yield lines that say all that is known of the cases that break a promise."""
    by_case: dict[int, list[Violation]] = {}
    for violation in result.violations:
        by_case.setdefault(violation.history.case.number, []).append(violation)
    for violations in by_case.values():
        for violation in violations:
            yield f"BROKEN: {violation.promise.value}: {_task(violation.history)}: {violation.text}"
        yield from _known(violations[0].history)
        case = violations[0].history.case
        for line in result.logs.get((case.task_id, case.map_index), ()):
            yield f"    {line}"


def told_ambiguities(result: Result) -> Iterator[str]:
    """Yield a line for each run of another that a task has taken for its own, as it cannot know better."""
    for found in result.ambiguities:
        yield f"AMBIGUOUS: {found.text}; its start calls without an answer: {_calls(found.history)}"


def _known(history: CaseHistory) -> Iterator[str]:
    case = history.case
    yield f"  {case.name}, which {DESCRIPTIONS[case.kind]} ({case.mode}): {_task(history)}"
    yield f"  task: {history.task.state} after {history.task.tries} tries; its result names {history.task.deliveries}"
    if history.acted is not None:
        yield f"  a person acted at {history.acted:.1f}"
    if history.case.shared_jobs:
        yield f"  if_running: {history.case.if_running}; start calls without an answer: {_calls(history)}"
    for run in history.runs:
        stops = ", ".join(f"{stop.at:.1f} by {shown(stop.caller)}" for stop in run.stops) or "never"
        yield f"  {run}; started {run.started:.1f}, asked to stop: {stops}, ended {run.ended}"


def _task(history: CaseHistory) -> str:
    return f"{history.case.task_id}[{history.case.map_index}] after {history.task.tries} tries"


def _calls(history: CaseHistory) -> str:
    return ", ".join(f"{call.at:.1f} {call.fault} of {call.caller}" for call in history.lost_calls) or "none"
