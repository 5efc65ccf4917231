"""Which promises a history breaks."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.chaos.history import CaseHistory, End, Run
from tests.chaos.plan import Kind

FINAL = ("success", "failed")
# Seconds from what a person does to the stop of the run: Airflow's heartbeat, the triggerer's round, and some requests.
STOP_PATIENCE = 45.0


class Promise(str, enum.Enum):
    """What holds, whatever dies."""

    ONE_RUN = "exactly one run per successful task"
    TRUE_SUCCESS = "no task succeeds whose run did not"
    ENDS = "no task waits for ever"
    NOTHING_LEFT = "nothing goes on that no task waits for"
    NOT_LOST = "no task fails whose run need not"


@dataclass(frozen=True)
class Violation:
    """
    A promise that a case breaks.

    :param promise: the promise
    :param history: of the case
    :param text: in which way
    """

    promise: Promise
    history: CaseHistory
    text: str


def judge(histories: Iterable[CaseHistory]) -> list[Violation]:
    """Return every broken promise."""
    return [
        Violation(promise, history, text) for history in histories for promise, text in sorted(set(_broken(history)))
    ]


def _broken(history: CaseHistory) -> Iterator[tuple[Promise, str]]:
    kind, state = history.case.kind, history.task.state
    if state not in FINAL:
        yield Promise.ENDS, f"it is still {state or 'without a state'}"
    for run in history.runs:
        if run.end is End.GOES_ON:
            yield Promise.NOTHING_LEFT, str(run)
    if state == "success":
        yield from _false_success(history)
    if kind is Kind.HOPELESS:
        yield from _hopeless(history)
    elif kind is Kind.MARKED_FAILED:
        yield from _marked_failed(history)
    elif kind is Kind.JOINS:
        yield from _joins(history)
    else:
        if state == "failed":
            yield Promise.NOT_LOST, f"it has failed after {history.task.tries} tries"
        yield from _runs_once(history)


def _false_success(history: CaseHistory) -> Iterator[tuple[Promise, str]]:
    """Every run that the task names must be there, and have ended as the task says."""
    wanted = End.STOPPED if history.case.kind is Kind.JOINS else End.SUCCEEDED
    ended = {(run.job_id, run.run_count): run.end for run in history.runs}
    named = {(delivery.job_id, delivery.run_count): delivery.outcome for delivery in history.task.deliveries}
    if len(named) != history.case.parallel_runs:
        yield Promise.TRUE_SUCCESS, f"its result names {len(named)} runs"
    for (job_id, run_count), outcome in named.items():
        end = ended.get((job_id, run_count))
        if end is not wanted or outcome != wanted.name:
            really = "there is no such run" if end is None else f"the run {end.value}"
            yield Promise.TRUE_SUCCESS, f"its result says {outcome} of run {run_count} of {job_id}, but {really}"


def _hopeless(history: CaseHistory) -> Iterator[tuple[Promise, str]]:
    if history.task.state == "success":
        yield Promise.TRUE_SUCCESS, "it has succeeded although its job always fails"
    starts = len(history.own_runs)
    # A try that a killed scheduler has left behind is none of those that Airflow counts.
    if starts > history.task.tries:
        yield Promise.ONE_RUN, f"{starts} runs for {history.task.tries} tries"
    yield from _unexpected(history, End.SUCCEEDED)


def _marked_failed(history: CaseHistory) -> Iterator[tuple[Promise, str]]:
    if history.task.state == "success":
        yield Promise.TRUE_SUCCESS, "it has succeeded although its job runs for ever"
    if history.acted is None:
        yield Promise.NOT_LOST, "it never came to wait for a run"
        return
    yield from _stopped(history, history.acted)
    for run in history.own_runs:
        if run.stop_asked is not None and run.stop_asked > history.acted + STOP_PATIENCE:
            late = run.stop_asked - history.acted
            yield Promise.NOTHING_LEFT, f"{run}, {late:.0f} s after the task was marked failed"
        if run.started > history.acted + STOP_PATIENCE:
            yield Promise.ONE_RUN, f"{run}, started after the task had ended"


def _joins(history: CaseHistory) -> Iterator[tuple[Promise, str]]:
    if history.task.state == "failed":
        yield Promise.NOT_LOST, f"it has failed after {history.task.tries} tries"
    for run in history.own_runs:
        yield Promise.ONE_RUN, f"{run}, although there was one to join"
    for run in history.runs:
        stopped = run.stop_asked
        if run.is_foreign and stopped is not None and (history.acted is None or stopped < history.acted):
            yield Promise.ONE_RUN, f"{run} by a task that has not started it"


def _runs_once(history: CaseHistory) -> Iterator[tuple[Promise, str]]:
    case = history.case
    wanted = case.logical_runs
    if case.kind in (Kind.CLEARED_DONE, Kind.CLEARED_WAITING) and history.acted is None:
        yield Promise.NOT_LOST, "there was no moment to clear it"
        return
    if history.task.state not in FINAL:
        return
    own = history.own_runs
    succeeded = [run for run in own if run.end is End.SUCCEEDED]
    if case.kind is Kind.CLEARED_WAITING and history.acted is not None:
        yield from _stopped(history, history.acted)
        if not any(run.started >= history.acted for run in own):
            yield Promise.ONE_RUN, "no run was started after the task was cleared"
    most = wanted
    if case.kind is Kind.TEMPLATE:
        # Instances are started together, and anew together if one of them did not succeed.
        most += sum(run.end is not End.SUCCEEDED for run in own)
    if history.task.state == "success" and not wanted <= len(succeeded) <= most:
        yield Promise.ONE_RUN, f"{len(succeeded)} runs have succeeded, and not {wanted}"
    if history.task.state == "failed" and succeeded:
        yield Promise.ONE_RUN, f"{len(succeeded)} runs have succeeded, but the task has not"
    if case.kind is not Kind.TEMPLATE:
        for name in case.job_names:
            count = sum(run.job_name == name for run in succeeded)
            if history.task.state == "success" and count != wanted // len(case.job_names):
                yield Promise.ONE_RUN, f"{count} runs of {name} have succeeded"
    # The first try has the number 1.
    failing_tries = (history.task.tries + 1) // 2 if case.kind is Kind.FAILS_OFTEN else 0
    yield from _unexpected(history, End.FAILED, allowed=failing_tries)


def _unexpected(history: CaseHistory, end: End, *, allowed: int = 0) -> Iterator[tuple[Promise, str]]:
    found = [run for run in history.own_runs if run.end is end]
    if len(found) > allowed:
        yield Promise.ONE_RUN, f"{len(found)} runs have {end.value}, and not {allowed}: {_shown(found)}"


def _stopped(history: CaseHistory, acted: float) -> Iterator[tuple[Promise, str]]:
    """What a person has ended must not go on: such runs never end by themselves."""
    for run in history.own_runs:
        if run.started < acted and (run.end is not End.STOPPED or run.stop_asked is None):
            yield Promise.NOTHING_LEFT, f"{run}, although a person has ended the task"


def _shown(runs: Iterable[Run]) -> str:
    return "; ".join(str(run) for run in runs)
