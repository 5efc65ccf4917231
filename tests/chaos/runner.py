"""Run a plan: inject failures until all tasks have finished, wait for the rest, and collect the histories."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dev.local_airflow import wait_until
from tests.chaos.cluster import Cluster, run_cluster
from tests.chaos.cluster_killer import ClusterKiller
from tests.chaos.collector import collect, lost_calls
from tests.chaos.environment import Environment, run_environment
from tests.chaos.evaluation import FINAL, Violation, find_ambiguities, find_violations
from tests.chaos.faults import fault_rules
from tests.chaos.history import CaseHistory
from tests.chaos.killer import Killer
from tests.chaos.plan import Plan, Target, is_fault_free, is_pause
from tests.chaos.task_table import TaskKey, TaskRow, TaskTable
from tests.chaos.tasks import DAG_ID
from tests.chaos.user_actions import UserActions, start_user_runs

_POLL_INTERVAL = 0.4
# Seconds in which tasks must finish after the last kill.
_TIMEOUT = 360.0
_LINES = 40


@dataclass(frozen=True)
class Result:
    """
    The results of a plan.

    :param plan: the plan
    :param histories: history of each case
    :param kill_counts: number of kills by target
    :param fault_hits: number of failed requests by fault
    :param rejected: number of user actions that were rejected and retried
    :param kill_seconds: duration of the kill phases
    :param recovery_seconds: seconds from the end of the kill phases until all tasks had finished
    :param database: type of Airflow's database
    :param details: further figures by description
    :param logs: last log lines of the cases that violate a guarantee, by task id and map index
    """

    plan: Plan
    histories: Sequence[CaseHistory]
    kill_counts: Mapping[Target, int]
    fault_hits: Mapping[str, int]
    rejected: int
    kill_seconds: float
    recovery_seconds: float
    database: str
    details: Mapping[str, object] = field(default_factory=dict)
    logs: Mapping[TaskKey, Sequence[str]] = field(default_factory=dict)

    @property
    def violations(self) -> list[Violation]:
        """The violated guarantees."""
        return find_violations(self.histories)

    @property
    def ambiguities(self) -> list[Violation]:
        """The foreign runs that tasks considered their own after a lost response."""
        return find_ambiguities(self.histories)


def run_plan(plan: Plan, folder: Path, on_progress: Callable[[str], None] = lambda _: None) -> Result:
    """
    Run a plan.

    :param plan: the plan
    :param folder: folder for all files
    :param on_progress: receives progress messages
    """
    on_progress("starting")
    with (run_cluster if plan.size.cluster else run_environment)(folder, plan) as running:
        return _Runner(plan, running, on_progress).run(plan.size.minutes * 60)


class _Runner:
    def __init__(self, plan: Plan, running: Environment, on_progress: Callable[[str], None]) -> None:
        self._plan = plan
        self._environment = running
        self._on_progress = on_progress
        self._table = TaskTable(running.database, running.logs)
        killer = ClusterKiller if isinstance(running, Cluster) else Killer
        self._killer = killer(running, self._table, plan.size.gateway_timeout)
        self._rules = fault_rules(plan.size.late)
        self._faults_enabled = False
        self._fault_seed = plan.seed

    def run(self, seconds: float) -> Result:
        sandbox = self._environment.sandbox
        # A user would retry until the start succeeds.
        sandbox.set_faults()
        start_user_runs(self._environment, self._plan.cases)
        self._set_faults_enabled(True)
        run_id = self._environment.airflow.trigger_dag(DAG_ID)
        user_actions = UserActions(self._environment, run_id, self._plan.cases)
        wait_until(lambda: any(task.state == "running" for task in self._table.read().values()), "the first task", 120)
        began = time.monotonic()
        try:
            self._inject_failures(user_actions, began, seconds)
            kill_seconds = time.monotonic() - began
            self._set_faults_enabled(False)
            self._wait_until_idle(user_actions)
            recovery_seconds = time.monotonic() - began - kill_seconds
        finally:
            self._killer.close()
        return self._make_result(user_actions, kill_seconds, recovery_seconds)

    def _inject_failures(self, user_actions: UserActions, began: float, seconds: float) -> None:
        kills = list(self._plan.kills)
        while (elapsed := time.monotonic() - began) < seconds:
            tasks = self._table.read()
            unfinished = {
                task_key for task_key, task in tasks.items() if task.state not in FINAL
            } | user_actions.pending
            self._on_progress(f"{elapsed:.0f} s: {_count_states(tasks)}")
            if tasks and not unfinished - user_actions.pending:
                return
            if is_fault_free(elapsed) or user_actions.are_handled:
                self._set_faults_enabled(not is_fault_free(elapsed))
            user_actions.act_between_tries(tasks)
            if is_pause(elapsed):
                user_actions.record_waiting(tasks)
                user_actions.act_during_tries(tasks, is_fault_free=is_fault_free(elapsed))
            elif user_actions.are_handled:
                for kill in [kill for kill in kills if kill.at <= elapsed]:
                    if self._killer.is_due(kill):
                        kills.remove(kill)
                        self._killer.kill(kill)
                        user_actions.reset_waiting()
            self._killer.maintain()
            time.sleep(_POLL_INTERVAL)

    def _set_faults_enabled(self, enabled: bool) -> None:
        if enabled != self._faults_enabled:
            self._faults_enabled = enabled
            self._killer.count_faults()
            # The same seed selects the same sequence of matching requests.
            self._fault_seed += 1000
            self._environment.sandbox.set_faults(*(self._rules if enabled else ()), seed=self._fault_seed)

    def _wait_until_idle(self, user_actions: UserActions) -> None:
        """Wait until all tasks have finished and all user actions have been performed."""
        deadline = time.monotonic() + _TIMEOUT
        while time.monotonic() < deadline:
            tasks = self._table.read()
            self._on_progress(f"waiting: {_count_states(tasks)}")
            user_actions.record_waiting(tasks)
            user_actions.act_between_tries(tasks)
            user_actions.act_during_tries(tasks, is_fault_free=True)
            if tasks and not user_actions.pending and all(task.state in FINAL for task in tasks.values()):
                # Leave time for orphaned processes to start a run.
                time.sleep(5)
                if all(task.state in FINAL for task in self._table.read().values()):
                    return
            self._killer.maintain()
            time.sleep(_POLL_INTERVAL)

    def _make_result(self, user_actions: UserActions, kill_seconds: float, recovery_seconds: float) -> Result:
        lost = lost_calls(self._killer.hits, self._killer.sandbox_kills, self._plan.size.gateway_timeout)
        lost += self._killer.killed_calls
        histories = collect(self._environment.sandbox, self._table, self._plan, user_actions.acted_at, lost)
        suspects = [found.history.case for found in (*find_violations(histories), *find_ambiguities(histories))]
        return Result(
            plan=self._plan,
            histories=histories,
            kill_counts=self._killer.kill_counts,
            fault_hits=self._killer.fault_hits,
            rejected=user_actions.rejected.total(),
            kill_seconds=kill_seconds,
            recovery_seconds=recovery_seconds,
            database=self._environment.database.partition(":")[0].partition("+")[0],
            details=self._killer.details,
            logs={(case.task_id, case.map_index): list(self._table.log_tail(case, _LINES)) for case in suspects},
        )


def _count_states(tasks: Mapping[TaskKey, TaskRow]) -> str:
    counts = Counter(task.state or "new" for task in tasks.values())
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
