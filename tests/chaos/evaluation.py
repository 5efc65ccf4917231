"""Check case histories against the guarantees."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.callers import describe_caller
from tests.chaos.history import CaseHistory, Run, RunState, Stop
from tests.chaos.plan import STARTED_BY_USER, Kind
from tests.chaos.user_actions import STOP_TIMEOUT

FINAL = ("success", "failed")


class Guarantee(str, enum.Enum):
    """A guarantee that holds under any kill or fault."""

    ONE_RUN = "exactly one run per successful task"
    NO_REPEAT = "no restart of work that succeeded or is still active"
    OWN_RUNS = "no task stops or reports another task's run"
    CORRECT_SUCCESS = "no task succeeds without a successful run"
    ENDS = "no task waits forever"
    NO_ORPHANS = "no orphaned run remains active"
    NOT_LOST = "no task fails without cause"


@dataclass(frozen=True)
class Violation:
    """
    A violated guarantee.

    :param guarantee: the guarantee
    :param history: history of the case
    :param text: description
    """

    guarantee: Guarantee
    history: CaseHistory
    text: str


def find_violations(histories: Iterable[CaseHistory]) -> list[Violation]:
    """Return all violated guarantees."""
    histories = list(histories)
    own = [
        Violation(guarantee, history, text) for history in histories for guarantee, text in _case_violations(history)
    ]
    foreign = [violation for violation, is_ambiguous in _foreign_run_violations(histories) if not is_ambiguous]
    return _unique([*own, *_orphaned_runs(histories), *foreign])


def find_ambiguities(histories: Iterable[CaseHistory]) -> list[Violation]:
    """
    Return the uses of foreign runs that tasks cannot distinguish from their own.

    The response to a start call was lost while another task started the same job with the same credential. This is
    the only documented ambiguity.
    """
    return _unique(violation for violation, is_ambiguous in _foreign_run_violations(list(histories)) if is_ambiguous)


def _unique(violations: Iterable[Violation]) -> list[Violation]:
    return list({(found.history.case.task_key, found.guarantee, found.text): found for found in violations}.values())


def _case_violations(history: CaseHistory) -> Iterator[tuple[Guarantee, str]]:
    kind, state = history.case.kind, history.task.state
    if state not in FINAL:
        yield Guarantee.ENDS, f"its final state is {state or 'empty'}"
    if state == "success":
        yield from _check_success(history)
    yield from _repeated_starts(history)
    if kind is Kind.ALWAYS_FAILS:
        yield from _check_always_failing(history)
    elif kind in (Kind.MARKED_FAILED, Kind.MARKED_BETWEEN):
        yield from _check_marked_failed(history)
    elif kind is Kind.JOINS:
        yield from _check_joined(history)
    else:
        if state == "failed":
            yield Guarantee.NOT_LOST, f"it failed after {history.task.tries} tries"
        yield from _check_exactly_once(history)


def _orphaned_runs(histories: Sequence[CaseHistory]) -> Iterator[Violation]:
    """Yield runs that are still active, and runs that neither a task nor a user should have started."""
    known = {history.case.task_key for history in histories}
    seen: set[tuple[str, int]] = set()
    # Attribute each run to the case that started it.
    for history, run in sorted(_runs_of_all(histories), key=lambda pair: pair[1] not in pair[0].own_runs):
        if (run.job_id, run.run_count) in seen:
            continue
        seen.add((run.job_id, run.run_count))
        # Either the waiting try was killed and no process noticed that the task was marked failed, which is a
        # documented limit, or the task mistook another run for this one.
        is_explained = history.case.kind is Kind.MARKED_BETWEEN or any(
            misattributed.work_item == run.work_item for misattributed in history.misattributed_runs
        )
        if run.state is RunState.ACTIVE and not is_explained:
            yield Violation(Guarantee.NO_ORPHANS, history, str(run))
        if run.caller is None and not (history.case.kind in STARTED_BY_USER and run.run_count == 1):
            yield Violation(Guarantee.ONE_RUN, history, f"{run}, but no user start was planned")
        if run.caller is not None and run.caller.task_key not in known:
            yield Violation(Guarantee.ONE_RUN, history, f"{run}, by an unknown task")


def _foreign_run_violations(histories: Sequence[CaseHistory]) -> Iterator[tuple[Violation, bool]]:
    """Yield uses of foreign runs, each with whether a lost response explains it."""
    by_place = {history.case.task_key: history for history in histories}
    for history in histories:
        if history.case.if_running != "join":
            for run in history.foreign_reported_runs:
                text = f"{_describe_try(history)} reports {run} as its own"
                yield Violation(Guarantee.OWN_RUNS, history, text), history.is_ambiguous(run, history.task.tries)
    for history, run in _runs_of_all(histories):
        for stop in run.stops:
            yield from _foreign_stops(history, run, stop, by_place)


def _foreign_stops(
    history: CaseHistory, run: Run, stop: Stop, by_place: Mapping[tuple[str, int], CaseHistory]
) -> Iterator[tuple[Violation, bool]]:
    if stop.caller is None:
        # Users only stop runs that tasks join.
        if history.case.kind is not Kind.JOINS:
            yield Violation(Guarantee.OWN_RUNS, history, f"{run}, but no user stop was planned"), False
        return
    if run.caller is not None and stop.caller.task_key == run.caller.task_key:
        return
    stopper = by_place.get(stop.caller.task_key)
    if stopper is not None and stopper.case.if_running == "restart":
        return
    text = f"{run}, stopped by {describe_caller(stop.caller)}"
    is_ambiguous = stopper is not None and stopper.is_ambiguous(run, stop.caller.try_number)
    yield Violation(Guarantee.OWN_RUNS, stopper or history, text), is_ambiguous


def _runs_of_all(histories: Iterable[CaseHistory]) -> Iterator[tuple[CaseHistory, Run]]:
    return ((history, run) for history in histories for run in history.runs)


def _repeated_starts(history: CaseHistory) -> Iterator[tuple[Guarantee, str]]:
    """Yield starts that were not needed because the previous run had neither failed nor been stopped."""
    for run in history.own_runs:
        if run.work_item not in history.case.work_items:
            yield Guarantee.ONE_RUN, f"{run}, which was not requested"
    for work_item in history.case.work_items:
        for before, run in itertools.pairwise(run for run in history.own_runs if run.work_item == work_item):
            is_cleared = history.acted_at is not None and before.started <= history.acted_at <= run.started
            if is_cleared:
                continue
            text = f"{_describe_try(history)} started {run} after {before}"
            if before.state is RunState.SUCCEEDED:
                yield Guarantee.NO_REPEAT, text
            elif not any(end is not None and end <= run.started for end in (before.ended, before.stop_requested_at)):
                yield Guarantee.NO_REPEAT, f"{text}, which was still active"
            elif before.caller == run.caller:
                yield Guarantee.ONE_RUN, f"{text} within one try"


def _check_success(history: CaseHistory) -> Iterator[tuple[Guarantee, str]]:
    """Check that every reported run exists and has the reported outcome."""
    expected = RunState.STOPPED if history.case.kind is Kind.JOINS else RunState.SUCCEEDED
    states = {(run.job_id, run.run_count): run.state for run in history.runs}
    reported = {(result.job_id, result.run_count): result.outcome for result in history.task.results}
    if len(reported) != history.case.parallel_runs:
        text = f"its result has {len(reported)} runs, expected {history.case.parallel_runs}"
        yield Guarantee.CORRECT_SUCCESS, text
    for (job_id, run_count), outcome in reported.items():
        state = states.get((job_id, run_count))
        if state is not expected or outcome != expected.name:
            actual = "no such run exists" if state is None else f"its state is '{state.value}'"
            text = f"it reports {outcome} for run {run_count} of {job_id}, but {actual}"
            yield Guarantee.CORRECT_SUCCESS, text


def _check_always_failing(history: CaseHistory) -> Iterator[tuple[Guarantee, str]]:
    if history.task.state == "success":
        yield Guarantee.CORRECT_SUCCESS, "it succeeded, but its job always fails"
    starts = len(history.own_runs)
    # Airflow does not count tries orphaned by a killed scheduler.
    if starts > history.task.tries:
        yield Guarantee.ONE_RUN, f"{starts} runs in {history.task.tries} tries"
    yield from _check_count(history, RunState.SUCCEEDED)


def _check_marked_failed(history: CaseHistory) -> Iterator[tuple[Guarantee, str]]:
    if history.task.state == "success":
        yield Guarantee.CORRECT_SUCCESS, "it succeeded, but its job never does"
    if history.acted_at is None:
        yield Guarantee.NOT_LOST, "it was never in a state to be marked failed"
        return
    if history.case.kind is Kind.MARKED_FAILED:
        yield from _check_stopped(history, history.acted_at)
    for run in history.own_runs:
        if run.stop_requested_at is not None and run.stop_requested_at > history.acted_at + STOP_TIMEOUT:
            late = run.stop_requested_at - history.acted_at
            yield Guarantee.NO_ORPHANS, f"{run}, {late:.0f} s after the task was marked failed"
        # A call in progress when the try is killed cannot be recalled.
        is_late = run.caller is not None and history.is_ambiguous(run, run.caller.try_number + 1)
        if run.started > history.acted_at + STOP_TIMEOUT and not is_late:
            yield Guarantee.ONE_RUN, f"{run}, started after the task was marked failed"


def _check_joined(history: CaseHistory) -> Iterator[tuple[Guarantee, str]]:
    if history.task.state == "failed":
        yield Guarantee.NOT_LOST, f"it failed after {history.task.tries} tries"
    for run in history.own_runs:
        yield Guarantee.ONE_RUN, f"{run}, but there was a run to join"


def _check_exactly_once(history: CaseHistory) -> Iterator[tuple[Guarantee, str]]:
    case = history.case
    if case.kind in (Kind.CLEARED_DONE, Kind.CLEARED_WAITING, Kind.CLEARED_BETWEEN) and history.acted_at is None:
        yield Guarantee.NOT_LOST, "it was never in a state to be cleared"
        return
    if history.task.state not in FINAL:
        return
    succeeded = [run for run in history.own_runs if run.state is RunState.SUCCEEDED]
    if history.acted_at is not None and case.kind in (Kind.CLEARED_WAITING, Kind.CLEARED_BETWEEN):
        if case.kind is Kind.CLEARED_WAITING:
            yield from _check_stopped(history, history.acted_at)
        if not any(run.started >= history.acted_at for run in history.own_runs):
            yield Guarantee.ONE_RUN, "no run was started after the task was cleared"
    if history.task.state == "failed" and succeeded:
        yield Guarantee.ONE_RUN, f"{len(succeeded)} runs succeeded, but the task failed"
    if history.task.state == "success":
        misattributed = {run.work_item for run in history.misattributed_runs}
        joined = [
            run
            for run in history.foreign_reported_runs
            if case.if_running == "join" and run.state is RunState.SUCCEEDED
        ]
        for work_item in case.work_items:
            count = sum(run.work_item == work_item for run in (*succeeded, *joined))
            minimum = 0 if work_item in misattributed else case.successes
            if not minimum <= count <= case.successes:
                yield Guarantee.ONE_RUN, f"{count} runs of {work_item} succeeded, expected {case.successes}"
    yield from _check_count(history, RunState.FAILED, allowed=_failing_tries(history))


def _failing_tries(history: CaseHistory) -> int:
    if history.case.kind in (Kind.FAILS_OFTEN, Kind.FAN_OUT):
        # Odd tries fail; numbering starts at 1.
        return (history.task.tries + 1) // 2
    return history.task.tries if history.case.kind is Kind.CLEARED_BETWEEN else 0


def _check_count(history: CaseHistory, state: RunState, *, allowed: int = 0) -> Iterator[tuple[Guarantee, str]]:
    found = [run for run in history.own_runs if run.state is state]
    if len(found) > allowed:
        yield Guarantee.ONE_RUN, f"{len(found)} runs {state.value}, expected at most {allowed}: {_describe_runs(found)}"


def _check_stopped(history: CaseHistory, acted_at: float) -> Iterator[tuple[Guarantee, str]]:
    """Check that runs of a task ended by a user were stopped; they never end by themselves."""
    for run in history.own_runs:
        if run.started < acted_at and (run.state is not RunState.STOPPED or run.stop_requested_at is None):
            yield Guarantee.NO_ORPHANS, f"{run}, but a user ended the task"


def _describe_try(history: CaseHistory) -> str:
    return f"{history.case.task_id}[{history.case.map_index}] try {history.task.tries}"


def _describe_runs(runs: Iterable[Run]) -> str:
    return "; ".join(str(run) for run in runs)
