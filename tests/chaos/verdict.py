"""Which promises a history breaks."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.callers import shown
from tests.chaos.history import CaseHistory, End, Run, Stop
from tests.chaos.plan import BY_HAND, Kind

FINAL = ("success", "failed")
# Seconds from what a person does to the stop of the run: Airflow's heartbeat, the triggerer's round, and some requests.
STOP_PATIENCE = 45.0


class Promise(str, enum.Enum):
    """What holds, whatever dies."""

    ONE_RUN = "exactly one run per successful task"
    NO_REPEAT = "nothing is started again that succeeded or goes on"
    OWN_RUNS = "no task stops or reports another task's run"
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
    histories = list(histories)
    broken = [Violation(promise, history, text) for history in histories for promise, text in _broken(history)]
    foreign = [violation for violation, is_ambiguous in _foreign(histories) if not is_ambiguous]
    return _unique([*broken, *_unattended(histories), *foreign])


def ambiguous(histories: Iterable[CaseHistory]) -> list[Violation]:
    """
    Return what tasks have done with runs of others that they cannot know are not theirs.

    The answer to a start call of theirs was lost while another task started the same job with the same credential:
    the one ambiguity that is documented.
    """
    return _unique(violation for violation, is_ambiguous in _foreign(list(histories)) if is_ambiguous)


def _unique(violations: Iterable[Violation]) -> list[Violation]:
    return list({(found.history.case.place, found.promise, found.text): found for found in violations}.values())


def _broken(history: CaseHistory) -> Iterator[tuple[Promise, str]]:
    kind, state = history.case.kind, history.task.state
    if state not in FINAL:
        yield Promise.ENDS, f"it is still {state or 'without a state'}"
    if state == "success":
        yield from _false_success(history)
    yield from _started_again(history)
    if kind is Kind.HOPELESS:
        yield from _hopeless(history)
    elif kind in (Kind.MARKED_FAILED, Kind.MARKED_BETWEEN):
        yield from _marked_failed(history)
    elif kind is Kind.JOINS:
        yield from _joins(history)
    else:
        if state == "failed":
            yield Promise.NOT_LOST, f"it has failed after {history.task.tries} tries"
        yield from _runs_once(history)


def _unattended(histories: Sequence[CaseHistory]) -> Iterator[Violation]:
    """Runs that go on, and runs that no task has started although no person has, either."""
    known = {history.case.place for history in histories}
    seen: set[tuple[str, int]] = set()
    # The one that has started a run is to be blamed for it.
    for history, run in sorted(_runs_of_all(histories), key=lambda pair: pair[1] not in pair[0].own_runs):
        if (run.job_id, run.run_count) in seen:
            continue
        seen.add((run.job_id, run.run_count))
        # The try that waited for it was killed, and nobody came to know of the mark: a documented limit. Or its task
        # has taken another run for it.
        is_explained = history.case.kind is Kind.MARKED_BETWEEN or any(
            mistaken.work == run.work for mistaken in history.mistaken_runs
        )
        if run.end is End.GOES_ON and not is_explained:
            yield Violation(Promise.NOTHING_LEFT, history, str(run))
        if run.caller is None and not (history.case.kind in BY_HAND and run.run_count == 1):
            yield Violation(Promise.ONE_RUN, history, f"{run}, although no person was to start one")
        if run.caller is not None and run.caller.place not in known:
            yield Violation(Promise.ONE_RUN, history, f"{run}, which is none of the tasks")


def _foreign(histories: Sequence[CaseHistory]) -> Iterator[tuple[Violation, bool]]:
    """What tasks have done with runs that others have started, and whether a lost answer explains it."""
    by_place = {history.case.place: history for history in histories}
    for history in histories:
        if history.case.if_running != "join":
            for run in history.claimed_runs:
                text = f"{_named(history)} reports {run} as its own"
                yield Violation(Promise.OWN_RUNS, history, text), history.is_ambiguous(run, history.task.tries)
    for history, run in _runs_of_all(histories):
        for stop in run.stops:
            yield from _foreign_stop(history, run, stop, by_place)


def _foreign_stop(
    history: CaseHistory, run: Run, stop: Stop, by_place: Mapping[tuple[str, int], CaseHistory]
) -> Iterator[tuple[Violation, bool]]:
    if stop.caller is None:
        # People stop what tasks join, and nothing else.
        if history.case.kind is not Kind.JOINS:
            yield Violation(Promise.OWN_RUNS, history, f"{run}, which nobody was to stop"), False
        return
    if run.caller is not None and stop.caller.place == run.caller.place:
        return
    stopper = by_place.get(stop.caller.place)
    if stopper is not None and stopper.case.if_running == "restart":
        return
    text = f"{run}, which {shown(stop.caller)} has stopped"
    is_ambiguous = stopper is not None and stopper.is_ambiguous(run, stop.caller.try_number)
    yield Violation(Promise.OWN_RUNS, stopper or history, text), is_ambiguous


def _runs_of_all(histories: Iterable[CaseHistory]) -> Iterator[tuple[CaseHistory, Run]]:
    return ((history, run) for history in histories for run in history.runs)


def _started_again(history: CaseHistory) -> Iterator[tuple[Promise, str]]:
    """A start is needed if there was none, or if the run before has failed, or was stopped."""
    for run in history.own_runs:
        if run.work not in history.case.works:
            yield Promise.ONE_RUN, f"{run}, which nobody has asked for"
    for work in history.case.works:
        for before, run in itertools.pairwise(run for run in history.own_runs if run.work == work):
            is_cleared = history.acted is not None and before.started <= history.acted <= run.started
            if is_cleared:
                continue
            again = f"{_named(history)} has started {run} after {before}"
            if before.end is End.SUCCEEDED:
                yield Promise.NO_REPEAT, again
            elif not any(end is not None and end <= run.started for end in (before.ended, before.stop_asked)):
                yield Promise.NO_REPEAT, f"{again}, which went on"
            elif before.caller == run.caller:
                yield Promise.ONE_RUN, f"{again} within one try"


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
        yield Promise.TRUE_SUCCESS, "it has succeeded although its job never does"
    if history.acted is None:
        yield Promise.NOT_LOST, "a person never came to mark it"
        return
    if history.case.kind is Kind.MARKED_FAILED:
        yield from _stopped(history, history.acted)
    for run in history.own_runs:
        if run.stop_asked is not None and run.stop_asked > history.acted + STOP_PATIENCE:
            late = run.stop_asked - history.acted
            yield Promise.NOTHING_LEFT, f"{run}, {late:.0f} s after the task was marked failed"
        # Nobody can call back what is under way when a try is killed.
        is_late = run.caller is not None and history.is_ambiguous(run, run.caller.try_number + 1)
        if run.started > history.acted + STOP_PATIENCE and not is_late:
            yield Promise.ONE_RUN, f"{run}, started after the task had ended"


def _joins(history: CaseHistory) -> Iterator[tuple[Promise, str]]:
    if history.task.state == "failed":
        yield Promise.NOT_LOST, f"it has failed after {history.task.tries} tries"
    for run in history.own_runs:
        yield Promise.ONE_RUN, f"{run}, although there was one to join"


def _runs_once(history: CaseHistory) -> Iterator[tuple[Promise, str]]:
    case = history.case
    if case.kind in (Kind.CLEARED_DONE, Kind.CLEARED_WAITING, Kind.CLEARED_BETWEEN) and history.acted is None:
        yield Promise.NOT_LOST, "there was no moment to clear it"
        return
    if history.task.state not in FINAL:
        return
    succeeded = [run for run in history.own_runs if run.end is End.SUCCEEDED]
    if history.acted is not None and case.kind in (Kind.CLEARED_WAITING, Kind.CLEARED_BETWEEN):
        if case.kind is Kind.CLEARED_WAITING:
            yield from _stopped(history, history.acted)
        if not any(run.started >= history.acted for run in history.own_runs):
            yield Promise.ONE_RUN, "no run was started after the task was cleared"
    if history.task.state == "failed" and succeeded:
        yield Promise.ONE_RUN, f"{len(succeeded)} runs have succeeded, but the task has not"
    if history.task.state == "success":
        mistaken = {run.work for run in history.mistaken_runs}
        joined = [run for run in history.claimed_runs if case.if_running == "join" and run.end is End.SUCCEEDED]
        for work in case.works:
            count = sum(run.work == work for run in (*succeeded, *joined))
            least = 0 if work in mistaken else case.successes
            if not least <= count <= case.successes:
                yield Promise.ONE_RUN, f"{count} runs of {work} have succeeded, and not {case.successes}"
    yield from _unexpected(history, End.FAILED, allowed=_failing_tries(history))


def _failing_tries(history: CaseHistory) -> int:
    if history.case.kind in (Kind.FAILS_OFTEN, Kind.FAN_OUT):
        # The first try has the number 1.
        return (history.task.tries + 1) // 2
    return history.task.tries if history.case.kind is Kind.CLEARED_BETWEEN else 0


def _unexpected(history: CaseHistory, end: End, *, allowed: int = 0) -> Iterator[tuple[Promise, str]]:
    found = [run for run in history.own_runs if run.end is end]
    if len(found) > allowed:
        yield Promise.ONE_RUN, f"{len(found)} runs have {end.value}, and not {allowed}: {_shown(found)}"


def _stopped(history: CaseHistory, acted: float) -> Iterator[tuple[Promise, str]]:
    """What a person has ended must not go on: such runs never end by themselves."""
    for run in history.own_runs:
        if run.started < acted and (run.end is not End.STOPPED or run.stop_asked is None):
            yield Promise.NOTHING_LEFT, f"{run}, although a person has ended the task"


def _named(history: CaseHistory) -> str:
    return f"{history.case.task_id}[{history.case.map_index}] try {history.task.tries}"


def _shown(runs: Iterable[Run]) -> str:
    return "; ".join(str(run) for run in runs)
