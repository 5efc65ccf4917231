"""Report the result of a plan as a table, with details of each violation."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from tests.chaos.callers import describe_caller
from tests.chaos.evaluation import Guarantee, Violation
from tests.chaos.history import CaseHistory, RunState
from tests.chaos.plan import DESCRIPTIONS, Kind
from tests.chaos.runner import Result


def result_table(result: Result) -> Table:
    """Return a table with rows for each case kind and mode, each kill target, and each guarantee."""
    violated = {violation.history.case.number for violation in result.violations}
    rows = Table(
        title=f"{len(result.histories)} tasks, {result.plan.logical_runs} logical runs, seed {result.plan.seed}",
        caption=f"Kill phases: {result.kill_seconds:.0f} s; all tasks finished {result.recovery_seconds:.0f} s later. "
        f"Airflow database: {result.database}. The next try replaces runs that failed or were abandoned.",
    )
    rows.add_column("Task")
    for name in ("Mode", "Tasks", "Tries", "Runs", "Succeeded", "Failed", "Stopped", "Violations"):
        rows.add_column(name, justify="left" if name == "Mode" else "right")
    for kind in Kind:
        for mode in ("sync", "deferrable"):
            histories = [h for h in result.histories if h.case.kind is kind and h.case.mode == mode]
            if histories:
                violating = sum(h.case.number in violated for h in histories)
                rows.add_row(DESCRIPTIONS[kind], mode, *_counts(histories), _count(violating))
    rows.add_section()
    rows.add_row("all", "", *_counts(list(result.histories)), _count(len(violated)))
    rows.add_section()
    for target, count in result.kill_counts.items():
        rows.add_row(f"killed: {target.value}" if target.is_kill else target.value, "", str(count))
    rows.add_row("failed requests", "", str(sum(result.fault_hits.values())))
    rows.add_row("start calls delivered late", "", str(result.fault_hits.get("late", 0)))
    rows.add_row("user actions rejected and retried", "", str(result.rejected))
    for description, value in result.details.items():
        rows.add_row(description, "", str(value))
    rows.add_section()
    violations = result.violations
    for guarantee in Guarantee:
        count = sum(violation.guarantee is guarantee for violation in violations)
        rows.add_row(guarantee.value, *[""] * 7, _count(count, good="held"))
    rows.add_section()
    rows.add_row("ambiguous: lost response while another task started the job", *[""] * 7, str(len(result.ambiguities)))
    return rows


def _counts(histories: list[CaseHistory]) -> list[str]:
    runs = [run for history in histories for run in history.own_runs]
    counts = [
        len(histories),
        sum(history.task.tries for history in histories),
        len(runs),
        *(sum(run.state is state for run in runs) for state in (RunState.SUCCEEDED, RunState.FAILED, RunState.STOPPED)),
    ]
    return [str(count) for count in counts]


def _count(count: int, good: str = "0") -> str:
    return f"[bold red]{count}[/bold red]" if count else f"[green]{good}[/green]"


def describe_violations(result: Result) -> Iterator[str]:
    """Yield lines with full details of each case that violates a guarantee."""
    by_case: dict[int, list[Violation]] = {}
    for violation in result.violations:
        by_case.setdefault(violation.history.case.number, []).append(violation)
    for violations in by_case.values():
        for violation in violations:
            yield f"VIOLATED: {violation.guarantee.value}: {_describe_task(violation.history)}: {violation.text}"
        yield from _describe_case(violations[0].history)
        case = violations[0].history.case
        for line in result.logs.get((case.task_id, case.map_index), ()):
            yield f"    {line}"


def describe_ambiguities(result: Result) -> Iterator[str]:
    """Yield a line for each foreign run that a task could not distinguish from its own."""
    for found in result.ambiguities:
        yield f"AMBIGUOUS: {found.text}; its start calls without a response: {_describe_calls(found.history)}"


def _describe_case(history: CaseHistory) -> Iterator[str]:
    case = history.case
    yield f"  {case.name}: {DESCRIPTIONS[case.kind]} ({case.mode}): {_describe_task(history)}"
    yield f"  task: {history.task.state} after {history.task.tries} tries; runs in its result: {history.task.results}"
    if history.acted_at is not None:
        yield f"  user action at {history.acted_at:.1f}"
    if history.case.shared_jobs:
        yield f"  if_running: {history.case.if_running}; start calls without a response: {_describe_calls(history)}"
    for run in history.runs:
        stops = ", ".join(f"{stop.at:.1f} by {describe_caller(stop.caller)}" for stop in run.stops) or "none"
        yield f"  {run}; started {run.started:.1f}, stop requests: {stops}, ended {run.ended}"


def _describe_task(history: CaseHistory) -> str:
    return f"{history.case.task_id}[{history.case.map_index}] after {history.task.tries} tries"


def _describe_calls(history: CaseHistory) -> str:
    return ", ".join(f"{call.at:.1f} {call.fault} of {call.caller}" for call in history.lost_calls) or "none"
