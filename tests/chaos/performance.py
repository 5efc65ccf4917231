"""Carrying out a plan: storms and lulls until all tasks have ended, then quiet, then the collecting."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dev.local_airflow import wait_until
from tests.chaos.collecting import collect, lost_calls
from tests.chaos.history import CaseHistory
from tests.chaos.killer import Killer
from tests.chaos.people import People, start_by_hand
from tests.chaos.plan import Plan, Target, is_calm, is_lull
from tests.chaos.stage import Stage, stage
from tests.chaos.task_table import Place, TaskRow, TaskTable
from tests.chaos.tasks import DAG_ID
from tests.chaos.verdict import FINAL, Violation, ambiguous, judge
from tests.chaos.weather import fault_rules

_POLL_DELAY = 0.4
# In the last seconds of a lull, nobody acts on a task: what is killed next could be what has to hear of it.
_LEAD = 12.0
# Seconds that tasks have to end when nothing is killed any more.
_PATIENCE = 360.0
_LINES = 40


@dataclass(frozen=True)
class Result:
    """
    What has come of a plan.

    :param plan: the plan
    :param histories: of its cases
    :param kills: how many there were
    :param fault_hits: how many requests went wrong, by fault
    :param refused: how many actions of people were not accepted, and repeated
    :param stormed: seconds in which things were killed
    :param settled: seconds until all tasks had ended after that
    :param database: kind of Airflow's database
    :param logs: the last lines of the logs of the cases that break a promise, by task id and map index
    """

    plan: Plan
    histories: Sequence[CaseHistory]
    kills: Mapping[Target, int]
    fault_hits: Mapping[str, int]
    refused: int
    stormed: float
    settled: float
    database: str
    logs: Mapping[Place, Sequence[str]] = field(default_factory=dict)

    @property
    def violations(self) -> list[Violation]:
        """The promises that are broken."""
        return judge(self.histories)

    @property
    def ambiguities(self) -> list[Violation]:
        """The runs of others that tasks took for theirs, as a lost answer allows."""
        return ambiguous(self.histories)


def perform(plan: Plan, folder: Path, show: Callable[[str], None] = lambda _: None) -> Result:
    """
    Carry out a plan.

    :param folder: for all files
    :param show: is given what goes on
    """
    show("starting")
    with stage(folder, plan) as running:
        return _Performance(plan, running, show).run(plan.size.minutes * 60)


class _Performance:
    def __init__(self, plan: Plan, running: Stage, show: Callable[[str], None]) -> None:
        self._plan = plan
        self._stage = running
        self._show = show
        self._table = TaskTable(running.database, running.airflow.home)
        self._killer = Killer(running, self._table, plan.size.gateway_timeout)
        self._rules = fault_rules(plan.size.late)
        self._breaks = False
        self._fault_seed = plan.seed

    def run(self, seconds: float) -> Result:
        sandbox = self._stage.sandbox
        # Who starts jobs by hand tries again until it works.
        sandbox.set_faults()
        start_by_hand(self._stage, self._plan.cases)
        self._break_requests(True)
        run_id = self._stage.airflow.trigger_dag(DAG_ID)
        people = People(self._stage, run_id, self._plan.cases)
        wait_until(lambda: any(task.state == "running" for task in self._table.read().values()), "the first task", 120)
        began = time.monotonic()
        try:
            self._storm(people, began, seconds)
            stormed = time.monotonic() - began
            self._break_requests(False)
            self._settle(people)
            settled = time.monotonic() - began - stormed
        finally:
            self._killer.bury(all_of_them=True)
        return self._result(people, stormed, settled)

    def _storm(self, people: People, began: float, seconds: float) -> None:
        blows = list(self._plan.blows)
        while (elapsed := time.monotonic() - began) < seconds:
            tasks = self._table.read()
            open_places = {place for place, task in tasks.items() if task.state not in FINAL} | people.open
            self._show(f"{elapsed:.0f} s: {_counted(tasks)}")
            if tasks and not open_places - people.open:
                return
            self._break_requests(not is_calm(elapsed))
            people.act_between_tries(tasks)
            if is_lull(elapsed):
                people.see(tasks)
                if not is_lull(elapsed + _LEAD):
                    people.forget()
                else:
                    people.act(tasks, is_calm=is_calm(elapsed))
            else:
                for blow in [blow for blow in blows if blow.at <= elapsed]:
                    if self._killer.is_due(blow):
                        blows.remove(blow)
                        self._killer.strike(blow)
                        people.forget()
            self._killer.bury()
            time.sleep(_POLL_DELAY)

    def _break_requests(self, breaks: bool) -> None:
        if breaks != self._breaks:
            self._breaks = breaks
            self._killer.count_faults()
            # Which of the requests that match are hit follows from the seed alone.
            self._fault_seed += 1000
            self._stage.sandbox.set_faults(*(self._rules if breaks else ()), seed=self._fault_seed)

    def _settle(self, people: People) -> None:
        """Wait until every task has ended, and everything has been done to tasks that is to be done."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            tasks = self._table.read()
            self._show(f"quiet: {_counted(tasks)}")
            people.see(tasks)
            people.act_between_tries(tasks)
            people.act(tasks, is_calm=True)
            if tasks and not people.open and all(task.state in FINAL for task in tasks.values()):
                # A run that nobody waits for would go on now, or be started by what is left of a task.
                time.sleep(5)
                if all(task.state in FINAL for task in self._table.read().values()):
                    return
            self._killer.bury()
            time.sleep(_POLL_DELAY)

    def _result(self, people: People, stormed: float, settled: float) -> Result:
        lost = lost_calls(self._killer.hits, self._killer.sandbox_kills, self._plan.size.gateway_timeout)
        lost += self._killer.killed_calls
        histories = collect(self._stage.sandbox, self._table, self._plan, people.acted, lost)
        suspects = [found.history.case for found in (*judge(histories), *ambiguous(histories))]
        return Result(
            plan=self._plan,
            histories=histories,
            kills=self._killer.kills,
            fault_hits=self._killer.fault_hits,
            refused=people.refused.total(),
            stormed=stormed,
            settled=settled,
            database=self._stage.database.partition(":")[0].partition("+")[0],
            logs={(case.task_id, case.map_index): list(self._table.log_tail(case, _LINES)) for case in suspects},
        )


def _counted(tasks: Mapping[Place, TaskRow]) -> str:
    counts = Counter(task.state or "new" for task in tasks.values())
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
