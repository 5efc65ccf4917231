"""What is going to happen: which tasks there are, and when what is killed. It follows from a seed alone."""

from __future__ import annotations

import enum
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

RETRIES = 30
"""More than a task can lose by what is killed; without a retry that is left, nobody could stop a lost try's run."""
RETRIES_OF_HOPELESS = 2
RATE = 10
"""Records per second of every job."""
ENDLESS = "100000000"
"""Records of a run that goes on until it is stopped."""


class Kind(str, enum.Enum):
    """What a task does, and what is done to it."""

    RUN = "run"
    FAILS_OFTEN = "fails_often"
    HOPELESS = "hopeless"
    START_JOBS = "start_jobs"
    TEMPLATE = "template"
    WAITS = "waits"
    JOINS = "joins"
    MARKED_FAILED = "marked_failed"
    CLEARED_WAITING = "cleared_waiting"
    CLEARED_DONE = "cleared_done"


DESCRIPTIONS = {
    Kind.RUN: "runs a job",
    Kind.FAILS_OFTEN: "runs a job that fails in every other try",
    Kind.HOPELESS: "runs a job that always fails",
    Kind.START_JOBS: "starts two jobs at once",
    Kind.TEMPLATE: "starts two instances of a job template",
    Kind.WAITS: "waits for somebody else's run, then starts",
    Kind.JOINS: "joins somebody else's run",
    Kind.MARKED_FAILED: "a person marks it failed while it waits",
    Kind.CLEARED_WAITING: "a person clears it while it waits",
    Kind.CLEARED_DONE: "a person clears it when it is done",
}
# Tasks of each kind; the rest just run a job.
_SHARES = {
    Kind.FAILS_OFTEN: 0.1,
    Kind.HOPELESS: 0.02,
    Kind.START_JOBS: 0.05,
    Kind.TEMPLATE: 0.05,
    Kind.WAITS: 0.04,
    Kind.JOINS: 0.02,
    Kind.MARKED_FAILED: 0.03,
    Kind.CLEARED_WAITING: 0.03,
    Kind.CLEARED_DONE: 0.04,
}


class Target(str, enum.Enum):
    """What is killed."""

    TASK = "process of a task"
    WORKER = "worker with its task"
    TRIGGERER = "triggerer"
    SCHEDULER = "scheduler"
    MACHINE = "scheduler with all workers"
    SANDBOX = "sandbox"


# Seconds from one to the next, on average, for those that take turns. What takes others with it comes more rarely.
_PACE: dict[tuple[Target, ...], float] = {
    (Target.TASK,): 4.0,
    (Target.WORKER,): 16.0,
    (Target.SANDBOX,): 35.0,
    (Target.TRIGGERER,): 60.0,
    (Target.MACHINE, Target.SCHEDULER): 90.0,
}
STORM = 40.0
"""Seconds in which things are killed, before a lull."""
LULL = 20.0
"""Seconds in which nothing is killed, so that what a person does meets somebody who can act on it."""
# Whatever needs this long to come back is not killed at the end of a storm.
_RECOVERY = 15.0
_SLOW = frozenset({Target.TRIGGERER, Target.SCHEDULER, Target.MACHINE})


@dataclass(frozen=True)
class Case:
    """
    A task, and the jobs of its own.

    :param number: its number, from which the names of its jobs are made
    :param kind: what it does
    :param deferrable: whether it waits on the triggerer
    :param map_index: its place among the tasks of its kind and mode
    :param records: how many records each of its runs reads
    """

    number: int
    kind: Kind
    deferrable: bool
    map_index: int
    records: int

    @property
    def name(self) -> str:
        return f"Case {self.number:03}"

    @property
    def mode(self) -> str:
        return "deferrable" if self.deferrable else "sync"

    @property
    def task_id(self) -> str:
        return f"{self.kind.value}_{self.mode}"

    @property
    def job_names(self) -> tuple[str, ...]:
        """The jobs that there are before; those of a template case are made by the task."""
        if self.kind is Kind.START_JOBS:
            return (f"{self.name} A", f"{self.name} B")
        return (self.name,)

    @property
    def parallel_runs(self) -> int:
        """How many runs belong to one success of the task."""
        return 2 if self.kind in (Kind.START_JOBS, Kind.TEMPLATE) else 1

    @property
    def logical_runs(self) -> int:
        """How many runs there are to be in the end, each of which counts once however often it is tried."""
        return 2 * self.parallel_runs if self.kind is Kind.CLEARED_DONE else self.parallel_runs

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the operator that are its own."""
        if self.kind is Kind.START_JOBS:
            return {"job_names": list(self.job_names)}
        if self.kind is Kind.TEMPLATE:
            instances = [{"RECORDS": str(self.records)}, {"RECORDS": str(self.records + 1)}]
            return {"job_name": self.name, "instance_name": self.name, "runtime_parameters": instances}
        values = {"RECORDS": str(self.records)}
        if self.kind is Kind.MARKED_FAILED:
            values["RECORDS"] = ENDLESS
        elif self.kind is Kind.CLEARED_WAITING:
            # Airflow allows more tries after a clear.
            values["RECORDS"] = f"{{{{ {ENDLESS} if ti.max_tries == {RETRIES} else {self.records} }}}}"
        elif self.kind is Kind.HOPELESS:
            values["FAILS_AFTER"] = "10"
        elif self.kind is Kind.FAILS_OFTEN:
            values["FAILS_AFTER"] = "{{ 10 if ti.try_number % 2 else '' }}"
        return {"job_name": self.name, "runtime_parameters": values}


@dataclass(frozen=True)
class Blow:
    """
    One kill.

    :param at: seconds after the beginning
    :param target: what is killed
    :param pick: which of several, from 0 to 1; of the sandbox, how long it stays away
    """

    at: float
    target: Target
    pick: float


@dataclass(frozen=True)
class Size:
    """
    How much is going to happen.

    :param runs: how many logical runs there are at least
    :param minutes: for how long things are killed, at the most
    """

    runs: int
    minutes: float


LONG = Size(runs=320, minutes=12)
SHORT = Size(runs=30, minutes=1.2)


@dataclass(frozen=True)
class Plan:
    """
    All of it.

    :param seed: what it follows from
    :param size: likewise
    :param cases: the tasks
    :param blows: the kills, in the order of time
    """

    seed: int
    size: Size
    cases: Sequence[Case]
    blows: Sequence[Blow]

    @property
    def logical_runs(self) -> int:
        return sum(case.logical_runs for case in self.cases)


def make_plan(seed: int, size: Size) -> Plan:
    """Return the plan of a seed."""
    cases = _cases(random.Random(f"{seed} cases"), size.runs)
    return Plan(seed, size, cases, _blows(random.Random(f"{seed} blows"), size.minutes))


def is_lull(elapsed: float) -> bool:
    """Return whether nothing is killed so many seconds after the beginning."""
    return elapsed % (STORM + LULL) >= STORM


def is_calm(elapsed: float) -> bool:
    """Return whether no request goes wrong, either: in every other lull, the first one included."""
    return is_lull(elapsed) and int(elapsed // (STORM + LULL)) % 2 == 0


def _cases(dice: random.Random, runs: int) -> list[Case]:
    kinds = [kind for kind, share in _SHARES.items() for _ in range(max(1, round(share * runs)))]
    doubles = (Kind.START_JOBS, Kind.TEMPLATE, Kind.CLEARED_DONE)
    known = sum(2 if kind in doubles else 1 for kind in kinds)
    kinds += [Kind.RUN] * max(1, runs - known)
    # Each kind has as many tasks of one mode as of the other.
    turn = {kind: dice.random() < 0.5 for kind in Kind}
    tasks = []
    for kind in kinds:
        turn[kind] = not turn[kind]
        tasks.append((kind, turn[kind]))
    dice.shuffle(tasks)
    counts: Counter[tuple[Kind, bool]] = Counter()
    cases = []
    for number, (kind, deferrable) in enumerate(tasks):
        # A worker is held as long as the run goes on.
        seconds = dice.uniform(3, 15) if deferrable else dice.uniform(2, 5)
        cases.append(Case(number, kind, deferrable, counts[kind, deferrable], round(seconds * RATE)))
        counts[kind, deferrable] += 1
    return cases


def _blows(dice: random.Random, minutes: float) -> list[Blow]:
    blows = []
    for targets, pace in _PACE.items():
        turns = itertools.cycle(targets)
        limit = STORM - _RECOVERY if _SLOW.intersection(targets) else STORM
        at = dice.uniform(0.5, 0.9) * min(pace, limit)
        while at < 60 * minutes:
            if at % (STORM + LULL) >= limit:
                # The next storm.
                at += STORM + LULL - at % (STORM + LULL) + dice.uniform(0, min(pace, limit))
            blows.append(Blow(round(at, 2), next(turns), dice.random()))
            at += pace * dice.uniform(0.6, 1.4)
    return sorted(blows, key=lambda blow: blow.at)
