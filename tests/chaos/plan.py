"""What is going to happen: which tasks there are, and when what is killed. It follows from a seed alone."""

from __future__ import annotations

import enum
import inspect
import itertools
import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator

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
    SHORT_RUN = "short_run"
    FAN_OUT = "fan_out"
    CLEARED_BETWEEN = "cleared_between"
    MARKED_BETWEEN = "marked_between"
    BULK_RIVAL = "bulk_rival"
    SINGLE_RIVAL = "single_rival"
    WAITER = "waiter"


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
    Kind.SHORT_RUN: "runs a job that takes a second",
    Kind.FAN_OUT: "starts three instances, one of which fails in every other try",
    Kind.CLEARED_BETWEEN: "a person clears it between two tries",
    Kind.MARKED_BETWEEN: "a person marks it failed between two tries",
    Kind.BULK_RIVAL: "starts two jobs at once that others start, too",
    Kind.SINGLE_RIVAL: "runs a job that others start, too",
    Kind.WAITER: "waits with others for the same job, then starts",
}
INSTANCES = {Kind.TEMPLATE: 2, Kind.FAN_OUT: 3}
"""How many instances the tasks start that start any."""
BETWEEN_TRIES = (Kind.CLEARED_BETWEEN, Kind.MARKED_BETWEEN)
RIVALS = (Kind.BULK_RIVAL, Kind.SINGLE_RIVAL)
BY_HAND = (Kind.WAITS, Kind.JOINS, Kind.WAITER)
"""Kinds whose job a person has started before."""
_STRATEGIES = ("wait_then_start", "join", "fail", "restart")
# What `if_running` can say to the operator that starts many jobs.
_BULK_STRATEGIES = (
    _STRATEGIES if "if_running" in inspect.signature(ControlHubStartJobsOperator.__init__).parameters else ("fail",)
)
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
    Kind.SHORT_RUN: 0.03,
    Kind.FAN_OUT: 0.02,
    Kind.CLEARED_BETWEEN: 0.02,
    Kind.MARKED_BETWEEN: 0.02,
}
# Groups of rivals, and of waiters: eight runs, and four.
_GROUPS = {Kind.BULK_RIVAL: 0.01, Kind.WAITER: 0.01}


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


_IN_EVERY_OTHER_TRY = "{{ 10 if ti.try_number % 2 else '' }}"


@dataclass(frozen=True)
class Case:
    """
    A task, and the jobs of its own.

    :param number: its number, from which the names of its jobs are made
    :param kind: what it does
    :param deferrable: whether it waits on the triggerer
    :param map_index: its place among the tasks of its kind and mode
    :param records: how many records each of its runs reads
    :param shared_jobs: the jobs, if others start them, too
    :param if_running: what it does when the job is running already
    """

    number: int
    kind: Kind
    deferrable: bool
    map_index: int
    records: int
    shared_jobs: tuple[str, ...] = ()
    if_running: str = "fail"

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
    def place(self) -> tuple[str, int]:
        """Task id and map index."""
        return self.task_id, self.map_index

    @property
    def job_names(self) -> tuple[str, ...]:
        """The jobs that there are before; those of a template case are made by the task."""
        if self.shared_jobs:
            return self.shared_jobs
        if self.kind is Kind.START_JOBS:
            return (f"{self.name} A", f"{self.name} B")
        return (self.name,)

    @property
    def parallel_runs(self) -> int:
        """How many runs belong to one success of the task."""
        return len(self.works)

    @property
    def works(self) -> tuple[str, ...]:
        """What each of these runs does, as :attr:`Run.work` names it."""
        if self.kind in INSTANCES:
            return tuple(f"instance {number}" for number in range(INSTANCES[self.kind]))
        return self.job_names

    @property
    def successes(self) -> int:
        """How often each of that is to succeed."""
        return 2 if self.kind is Kind.CLEARED_DONE else 1

    @property
    def logical_runs(self) -> int:
        """How many runs there are to be in the end, each of which counts once however often it is tried."""
        return self.successes * self.parallel_runs

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the operator that are its own."""
        if self.kind in (Kind.START_JOBS, Kind.BULK_RIVAL):
            bulk: dict[str, Any] = {"job_names": list(self.job_names)}
            return bulk if len(_BULK_STRATEGIES) == 1 else {**bulk, "if_running": self.if_running}
        if self.kind in INSTANCES:
            instances = [{"RECORDS": str(self.records + number)} for number in range(INSTANCES[self.kind])]
            if self.kind is Kind.FAN_OUT:
                instances[1]["FAILS_AFTER"] = _IN_EVERY_OTHER_TRY
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
            values["FAILS_AFTER"] = _IN_EVERY_OTHER_TRY
        elif self.kind in BETWEEN_TRIES:
            # Until it is cleared.
            values["FAILS_AFTER"] = f"{{{{ 10 if ti.max_tries == {RETRIES} else '' }}}}"
        job_name, *_ = self.job_names
        return {"job_name": job_name, "runtime_parameters": values, "if_running": self.if_running}


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
    :param late: how many seconds late a start call is delivered whose sender is told that the time is out
    :param kinds: the kinds of tasks that there are
    """

    runs: int
    minutes: float
    late: float = 30.0
    kinds: Collection[Kind] = field(default=tuple(Kind))

    @property
    def gateway_timeout(self) -> float:
        """Seconds after which a start call has no effect any more, as the connection tells the tasks."""
        return self.late + 4


LONG = Size(runs=340, minutes=12)
# The first lull has to be within it, in which a person acts on tasks.
SHORT = Size(runs=42, minutes=1.2, late=5)


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
    cases = _cases(random.Random(f"{seed} cases"), size)
    return Plan(seed, size, cases, _blows(random.Random(f"{seed} blows"), size.minutes))


def is_lull(elapsed: float) -> bool:
    """Return whether nothing is killed so many seconds after the beginning."""
    return elapsed % (STORM + LULL) >= STORM


def is_calm(elapsed: float) -> bool:
    """Return whether no request goes wrong, either: in every other lull, the first one included."""
    return is_lull(elapsed) and int(elapsed // (STORM + LULL)) % 2 == 0


class _Task(NamedTuple):
    """A case that has neither a mode nor a number yet."""

    kind: Kind
    jobs: tuple[str, ...] = ()
    if_running: str = "fail"


def _rivals(dice: random.Random, group: int) -> list[_Task]:
    """Return tasks that start overlapping sets of three jobs, each in its own way, but only one with a restart."""
    a, b, c = (f"Shared {group:02} {letter}" for letter in "ABC")
    sets = [(Kind.BULK_RIVAL, jobs) for jobs in ((a, b), (b, c), (a, c))]
    sets += [(Kind.SINGLE_RIVAL, (job,)) for job in (a, b)]
    dice.shuffle(sets)
    tasks = []
    ways = list(_STRATEGIES)
    for kind, jobs in sets:
        way = dice.choice(_BULK_STRATEGIES if kind is Kind.BULK_RIVAL else ways)
        if way == "restart" and way not in ways:
            way = "fail"
        elif way == "restart":
            ways.remove(way)
        tasks.append(_Task(kind, jobs, way))
    return tasks


def _waiters(_: random.Random, group: int) -> list[_Task]:
    """Return tasks that wait for the run of one job; in every other group, one of them stops it."""
    others = "wait_then_start" if group % 2 else "restart"
    return [_Task(Kind.WAITER, (f"Awaited {group:02} A",), way) for way in (*["wait_then_start"] * 3, others)]


def _tasks(dice: random.Random, size: Size) -> list[_Task]:
    makers = {Kind.BULK_RIVAL: (_rivals, RIVALS), Kind.WAITER: (_waiters, (Kind.WAITER,))}
    ways = {Kind.WAITS: "wait_then_start", Kind.JOINS: "join"}
    # Where there are but some of the kinds, there are more tasks of each.
    scale = (
        1.0
        if Kind.RUN in size.kinds
        else 1
        / sum(
            share * (8 if kind in _GROUPS else 1) for kind, share in (_SHARES | _GROUPS).items() if kind in size.kinds
        )
    )
    tasks = [
        _Task(kind, if_running=ways.get(kind, "fail"))
        for kind, share in _SHARES.items()
        if kind in size.kinds
        for _ in range(max(1, round(share * scale * size.runs)))
    ]
    for kind, share in _GROUPS.items():
        make, members = makers[kind]
        for group in range(max(1, round(share * scale * size.runs))):
            tasks += [task for task in make(dice, group) if task.kind in size.kinds and task.kind in members]
    if Kind.RUN in size.kinds:
        known = sum(Case(0, task.kind, False, 0, 0, task.jobs).logical_runs for task in tasks)
        tasks += [_Task(Kind.RUN)] * max(1, size.runs - known)
    return tasks


def _cases(dice: random.Random, size: Size) -> list[Case]:
    # Each kind has as many tasks of one mode as of the other.
    turn = {kind: dice.random() < 0.5 for kind in Kind}
    tasks = []
    for task in _tasks(dice, size):
        turn[task.kind] = not turn[task.kind]
        tasks.append((task, turn[task.kind]))
    dice.shuffle(tasks)
    counts: Counter[tuple[Kind, bool]] = Counter()
    cases = []
    for number, ((kind, jobs, if_running), deferrable) in enumerate(tasks):
        # A worker is held as long as the run goes on.
        seconds = dice.uniform(3, 15) if deferrable and not jobs else dice.uniform(2, 5)
        if kind is Kind.SHORT_RUN:
            seconds = dice.uniform(0.5, 1.5)
        place = counts[kind, deferrable]
        cases.append(Case(number, kind, deferrable, place, round(seconds * RATE), jobs, if_running))
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
