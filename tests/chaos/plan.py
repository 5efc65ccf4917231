"""The plan: tasks and kills, derived from a seed."""

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
"""More than kills can consume: without a remaining retry, nothing would stop the run of a killed try."""
RETRIES_IF_ALWAYS_FAILING = 2
RATE = 10
"""Records per second for every job."""
ENDLESS = "100000000"
"""Records of a run that continues until it is stopped."""


class Kind(str, enum.Enum):
    """What a task does, and which user action it receives."""

    RUN = "run"
    FAILS_OFTEN = "fails_often"
    ALWAYS_FAILS = "always_fails"
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
    Kind.FAILS_OFTEN: "runs a job that fails in every second try",
    Kind.ALWAYS_FAILS: "runs a job that always fails",
    Kind.START_JOBS: "starts two jobs at once",
    Kind.TEMPLATE: "starts two instances of a job template",
    Kind.WAITS: "waits for a user's run, then starts",
    Kind.JOINS: "joins a user's run",
    Kind.MARKED_FAILED: "marked failed by a user while waiting",
    Kind.CLEARED_WAITING: "cleared by a user while waiting",
    Kind.CLEARED_DONE: "cleared by a user after success",
    Kind.SHORT_RUN: "runs a job that takes one second",
    Kind.FAN_OUT: "starts three instances, one of which fails in every second try",
    Kind.CLEARED_BETWEEN: "cleared by a user between two tries",
    Kind.MARKED_BETWEEN: "marked failed by a user between two tries",
    Kind.BULK_RIVAL: "starts two jobs at once that other tasks also start",
    Kind.SINGLE_RIVAL: "runs a job that other tasks also start",
    Kind.WAITER: "waits for the same run as other tasks, then starts",
}
INSTANCES = {Kind.TEMPLATE: 2, Kind.FAN_OUT: 3}
"""Number of template instances by kind."""
BETWEEN_TRIES = (Kind.CLEARED_BETWEEN, Kind.MARKED_BETWEEN)
RIVALS = (Kind.BULK_RIVAL, Kind.SINGLE_RIVAL)
STARTED_BY_USER = (Kind.WAITS, Kind.JOINS, Kind.WAITER)
"""Kinds whose job a user starts beforehand."""
_STRATEGIES = ("wait_then_start", "join", "fail", "restart")
# Values of `if_running` that the bulk operator supports.
_BULK_STRATEGIES = (
    _STRATEGIES if "if_running" in inspect.signature(ControlHubStartJobsOperator.__init__).parameters else ("fail",)
)
# Share of each kind; all other tasks run a single job.
_SHARES = {
    Kind.FAILS_OFTEN: 0.1,
    Kind.ALWAYS_FAILS: 0.02,
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
# Groups of rivals (eight runs) and of waiters (four runs).
_GROUPS = {Kind.BULK_RIVAL: 0.01, Kind.WAITER: 0.01}


class Target(str, enum.Enum):
    """Target of a kill."""

    TASK = "process of a task"
    WORKER = "worker with its task"
    TRIGGERER = "triggerer"
    SCHEDULER = "scheduler"
    MACHINE = "scheduler with all workers"
    SANDBOX = "sandbox"
    CELERY_WORKER = "Celery worker without its tasks"
    CELERY_MACHINE = "Celery worker with all its tasks"
    PAUSE = "triggerer paused, its triggers taken over"
    PARTITION = "triggerer without Control Hub"
    REDIS = "Redis restarted"
    POSTGRES = "PostgreSQL restarted"
    UPGRADE = "component upgraded"

    @property
    def is_kill(self) -> bool:
        """Whether a process is killed; the others are restarted or interrupted."""
        return self not in (Target.PAUSE, Target.PARTITION, Target.REDIS, Target.POSTGRES, Target.UPGRADE)


# Average seconds between kills; targets in a tuple alternate. Targets that take down others are killed less often.
_KILL_INTERVALS: dict[tuple[Target, ...], float] = {
    (Target.TASK,): 4.0,
    (Target.WORKER,): 16.0,
    (Target.SANDBOX,): 35.0,
    (Target.TRIGGERER,): 60.0,
    (Target.MACHINE, Target.SCHEDULER): 90.0,
}
CLUSTER_FAULTS = (
    *(Target.TRIGGERER, Target.PAUSE, Target.CELERY_MACHINE, Target.REDIS, Target.PARTITION, Target.SCHEDULER),
    *(Target.POSTGRES, Target.CELERY_WORKER),
)
"""Faults of single components of a cluster, one after another: each waits until the cluster has recovered."""
_CLUSTER_KILL_INTERVALS: dict[tuple[Target, ...], float] = {
    (Target.TASK,): 8.0,
    (Target.WORKER,): 25.0,
    (Target.SANDBOX,): 60.0,
    (Target.UPGRADE,): 22.0,
    CLUSTER_FAULTS: 11.0,
}
KILL_PHASE = 40.0
"""Duration of a kill phase, in seconds."""
PAUSE = 20.0
"""Duration of the pause after a kill phase, in seconds, in which live processes can handle user actions."""
# Seconds at the end of a kill phase in which targets with a slow restart are not killed.
_RECOVERY = 15.0
_SLOW_TARGETS = frozenset({Target.TRIGGERER, Target.SCHEDULER, Target.MACHINE, Target.UPGRADE})


_FAIL_IN_EVERY_SECOND_TRY = "{{ 10 if ti.try_number % 2 else '' }}"


@dataclass(frozen=True)
class Case:
    """
    A task and its jobs.

    :param number: number, from which the job names are derived
    :param kind: kind of task
    :param deferrable: whether it waits on the triggerer
    :param map_index: index among the tasks of its kind and mode
    :param records: records read by each of its runs
    :param shared_jobs: jobs shared with other tasks, if any
    :param if_running: strategy if the job is already running
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
    def task_key(self) -> tuple[str, int]:
        """Task id and map index."""
        return self.task_id, self.map_index

    @property
    def job_names(self) -> tuple[str, ...]:
        """The existing jobs; template instances are created by the task."""
        if self.shared_jobs:
            return self.shared_jobs
        if self.kind is Kind.START_JOBS:
            return (f"{self.name} A", f"{self.name} B")
        return (self.name,)

    @property
    def parallel_runs(self) -> int:
        """Number of runs in one success of the task."""
        return len(self.work_items)

    @property
    def work_items(self) -> tuple[str, ...]:
        """The work item of each of these runs, see :attr:`Run.work_item`."""
        if self.kind in INSTANCES:
            return tuple(f"instance {number}" for number in range(INSTANCES[self.kind]))
        return self.job_names

    @property
    def successes(self) -> int:
        """Expected number of successes of each work item."""
        return 2 if self.kind is Kind.CLEARED_DONE else 1

    @property
    def logical_runs(self) -> int:
        """Expected number of successful runs, not counting retries."""
        return self.successes * self.parallel_runs

    @property
    def arguments(self) -> dict[str, Any]:
        """The operator arguments that differ between mapped tasks."""
        if self.kind in (Kind.START_JOBS, Kind.BULK_RIVAL):
            bulk: dict[str, Any] = {"job_names": list(self.job_names)}
            return bulk if len(_BULK_STRATEGIES) == 1 else {**bulk, "if_running": self.if_running}
        if self.kind in INSTANCES:
            instances = [{"RECORDS": str(self.records + number)} for number in range(INSTANCES[self.kind])]
            if self.kind is Kind.FAN_OUT:
                instances[1]["FAILS_AFTER"] = _FAIL_IN_EVERY_SECOND_TRY
            return {"job_name": self.name, "instance_name": self.name, "runtime_parameters": instances}
        values = {"RECORDS": str(self.records)}
        if self.kind is Kind.MARKED_FAILED:
            values["RECORDS"] = ENDLESS
        elif self.kind is Kind.CLEARED_WAITING:
            # Airflow raises `max_tries` after a clear.
            values["RECORDS"] = f"{{{{ {ENDLESS} if ti.max_tries == {RETRIES} else {self.records} }}}}"
        elif self.kind is Kind.ALWAYS_FAILS:
            values["FAILS_AFTER"] = "10"
        elif self.kind is Kind.FAILS_OFTEN:
            values["FAILS_AFTER"] = _FAIL_IN_EVERY_SECOND_TRY
        elif self.kind in BETWEEN_TRIES:
            # Fail until the task is cleared.
            values["FAILS_AFTER"] = f"{{{{ 10 if ti.max_tries == {RETRIES} else '' }}}}"
        job_name, *_ = self.job_names
        return {"job_name": job_name, "runtime_parameters": values, "if_running": self.if_running}


@dataclass(frozen=True)
class Kill:
    """
    A scheduled kill.

    :param at: seconds after the start
    :param target: target
    :param pick: selects one of several processes, from 0 to 1; for the sandbox, the length of the outage
    """

    at: float
    target: Target
    pick: float


@dataclass(frozen=True)
class Size:
    """
    The size of a plan.

    :param runs: minimum number of logical runs
    :param minutes: maximum duration of the kill phases
    :param late: delay in seconds of start calls that are delivered after the sender received a time-out
    :param kinds: kinds of tasks to include
    :param cluster: whether Airflow is a cluster, see :mod:`tests.chaos.cluster`
    """

    runs: int
    minutes: float
    late: float = 30.0
    kinds: Collection[Kind] = field(default=tuple(Kind))
    cluster: bool = False

    @property
    def gateway_timeout(self) -> float:
        """Seconds after which a start call can no longer take effect, as configured in the connection."""
        return self.late + 4


LONG = Size(runs=340, minutes=12)
# Long enough to include the first pause, in which users act on tasks.
SHORT = Size(runs=42, minutes=1.2, late=5)
CLUSTER = Size(runs=340, minutes=14, cluster=True)
CLUSTER_SHORT = Size(runs=28, minutes=1.2, late=5, cluster=True)


@dataclass(frozen=True)
class Plan:
    """
    All tasks and kills.

    :param seed: seed from which the plan is derived
    :param size: size of the plan
    :param cases: the tasks
    :param kills: the kills in chronological order
    """

    seed: int
    size: Size
    cases: Sequence[Case]
    kills: Sequence[Kill]

    @property
    def logical_runs(self) -> int:
        return sum(case.logical_runs for case in self.cases)


def make_plan(seed: int, size: Size) -> Plan:
    """Return the plan for a seed."""
    # Every plan depends on the literal seeds.
    cases = _make_cases(random.Random(f"{seed} cases"), size)
    return Plan(seed, size, cases, _make_kills(random.Random(f"{seed} blows"), size))


def is_pause(elapsed: float) -> bool:
    """Return whether kills are paused at this many seconds after the start."""
    return elapsed % (KILL_PHASE + PAUSE) >= KILL_PHASE


def is_fault_free(elapsed: float) -> bool:
    """Return whether faults are also disabled: in every second pause, starting with the first."""
    return is_pause(elapsed) and int(elapsed // (KILL_PHASE + PAUSE)) % 2 == 0


class _Task(NamedTuple):
    """A case without a mode and number."""

    kind: Kind
    jobs: tuple[str, ...] = ()
    if_running: str = "fail"


def _make_rivals(random_source: random.Random, group: int) -> list[_Task]:
    """Return tasks that start overlapping subsets of three jobs; at most one of them restarts runs."""
    a, b, c = (f"Shared {group:02} {letter}" for letter in "ABC")
    sets = [(Kind.BULK_RIVAL, jobs) for jobs in ((a, b), (b, c), (a, c))]
    sets += [(Kind.SINGLE_RIVAL, (job,)) for job in (a, b)]
    random_source.shuffle(sets)
    tasks = []
    strategies = list(_STRATEGIES)
    for kind, jobs in sets:
        strategy = random_source.choice(_BULK_STRATEGIES if kind is Kind.BULK_RIVAL else strategies)
        if strategy == "restart" and strategy not in strategies:
            strategy = "fail"
        elif strategy == "restart":
            strategies.remove(strategy)
        tasks.append(_Task(kind, jobs, strategy))
    return tasks


def _make_waiters(_: random.Random, group: int) -> list[_Task]:
    """Return tasks that wait for the run of one job; in every second group, one of them restarts it."""
    last = "wait_then_start" if group % 2 else "restart"
    return [_Task(Kind.WAITER, (f"Awaited {group:02} A",), strategy) for strategy in (*["wait_then_start"] * 3, last)]


def _make_tasks(random_source: random.Random, size: Size) -> list[_Task]:
    makers = {Kind.BULK_RIVAL: (_make_rivals, RIVALS), Kind.WAITER: (_make_waiters, (Kind.WAITER,))}
    strategies = {Kind.WAITS: "wait_then_start", Kind.JOINS: "join"}
    # If only some kinds are included, scale up their number of tasks.
    scale = (
        1.0
        if Kind.RUN in size.kinds
        else 1
        / sum(
            share * (8 if kind in _GROUPS else 1) for kind, share in (_SHARES | _GROUPS).items() if kind in size.kinds
        )
    )
    tasks = [
        _Task(kind, if_running=strategies.get(kind, "fail"))
        for kind, share in _SHARES.items()
        if kind in size.kinds
        for _ in range(max(1, round(share * scale * size.runs)))
    ]
    for kind, share in _GROUPS.items():
        make, members = makers[kind]
        for group in range(max(1, round(share * scale * size.runs))):
            tasks += [task for task in make(random_source, group) if task.kind in size.kinds and task.kind in members]
    if Kind.RUN in size.kinds:
        known = sum(Case(0, task.kind, False, 0, 0, task.jobs).logical_runs for task in tasks)
        tasks += [_Task(Kind.RUN)] * max(1, size.runs - known)
    return tasks


def _make_cases(random_source: random.Random, size: Size) -> list[Case]:
    # Alternate the mode within each kind.
    next_mode = {kind: random_source.random() < 0.5 for kind in Kind}
    tasks = []
    for task in _make_tasks(random_source, size):
        next_mode[task.kind] = not next_mode[task.kind]
        tasks.append((task, next_mode[task.kind]))
    random_source.shuffle(tasks)
    counts: Counter[tuple[Kind, bool]] = Counter()
    cases = []
    for number, ((kind, jobs, if_running), deferrable) in enumerate(tasks):
        # Synchronous tasks occupy a worker, so their runs are short. In a cluster, many triggers must wait at the same
        # time, and runs must outlast a take-over of their triggers.
        longest = 40 if size.cluster else 15
        seconds = random_source.uniform(3, longest) if deferrable and not jobs else random_source.uniform(2, 5)
        if kind is Kind.SHORT_RUN:
            seconds = random_source.uniform(0.5, 1.5)
        map_index = counts[kind, deferrable]
        cases.append(Case(number, kind, deferrable, map_index, round(seconds * RATE), jobs, if_running))
        counts[kind, deferrable] += 1
    return cases


def _make_kills(random_source: random.Random, size: Size) -> list[Kill]:
    kills = []
    for targets, interval in (_CLUSTER_KILL_INTERVALS if size.cluster else _KILL_INTERVALS).items():
        next_target = itertools.cycle(targets)
        limit = KILL_PHASE - _RECOVERY if _SLOW_TARGETS.intersection(targets) else KILL_PHASE
        at = random_source.uniform(0.5, 0.9) * min(interval, limit)
        while at < 60 * size.minutes:
            if round(at, 2) % (KILL_PHASE + PAUSE) >= limit:
                # Move to the next kill phase.
                at += KILL_PHASE + PAUSE - at % (KILL_PHASE + PAUSE) + random_source.uniform(0, min(interval, limit))
            kills.append(Kill(round(at, 2), next(next_target), random_source.random()))
            at += interval * random_source.uniform(0.6, 1.4)
    return sorted(kills, key=lambda kill: kill.at)
