"""Simulated user actions: starting and stopping jobs, marking tasks failed, and clearing tasks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import requests

from dev.local_airflow import LocalAirflowError
from tests.chaos.environment import Environment
from tests.chaos.plan import BETWEEN_TRIES, ENDLESS, RATE, RETRIES, STARTED_BY_USER, Case, Kind
from tests.chaos.task_table import TaskKey, TaskRow
from tests.chaos.tasks import DAG_ID

_DURING_TRIES = (Kind.MARKED_FAILED, Kind.CLEARED_WAITING, Kind.CLEARED_DONE, Kind.JOINS)
ACTED_ON = (*_DURING_TRIES, *BETWEEN_TRIES)
_MARKED = (Kind.MARKED_FAILED, Kind.MARKED_BETWEEN)
# Seconds for which a task must have been waiting, so that its trigger is running or its worker is polling.
_MIN_WAIT = 4.0
_SECONDS_OF_OTHER_RUN = 20
_STOPPED = (Kind.MARKED_FAILED, Kind.CLEARED_WAITING)
"""Kinds whose run must be stopped because of the action."""
STOP_TIMEOUT = 90.0
"""Maximum seconds from a user action to the stop request, on a machine whose processes barely get a turn."""


class UserActions:
    """
    Performs the user actions that the cases require.

    :param environment: the running environment
    :param run_id: DAG run id
    :param cases: all cases of the plan
    """

    def __init__(self, environment: Environment, run_id: str, cases: Iterable[Case]) -> None:
        self._environment = environment
        self._run_id = run_id
        self._pending = {(case.task_id, case.map_index): case for case in cases if case.kind in ACTED_ON}
        self._waiting_since: dict[TaskKey, tuple[int, str, float]] = {}
        self._stopping: dict[str, tuple[int, float]] = {}
        self.acted_at: dict[TaskKey, float] = {}
        self.rejected: Counter[Kind] = Counter()
        """Number of actions rejected by Airflow or the sandbox."""

    @property
    def pending(self) -> set[TaskKey]:
        """Tasks with an outstanding action."""
        return set(self._pending)

    @property
    def are_handled(self) -> bool:
        """Whether no run must still be stopped. Until then, no process that may do so must be killed."""
        for job_name, (run_count, acted_at) in list(self._stopping.items()):
            state = self._environment.sandbox.job_state(job_name)
            if (state["status"], state["run_count"]) != ("ACTIVE", run_count) or time.time() > acted_at + STOP_TIMEOUT:
                del self._stopping[job_name]
        return not self._stopping

    def act_between_tries(self, tasks: Mapping[TaskKey, TaskRow]) -> None:
        """Perform due actions between two tries, which no process needs to handle."""
        self._act(tasks, BETWEEN_TRIES)

    def act_during_tries(self, tasks: Mapping[TaskKey, TaskRow], *, is_fault_free: bool) -> None:
        """
        Perform due actions on waiting or finished tasks. No process may be killed until they are handled.

        :param tasks: current task instances
        :param is_fault_free: whether no faults are injected; otherwise, synchronous tasks are not marked failed, as a
            worker has only one attempt to stop the run
        """
        self._act(tasks, _DURING_TRIES, is_fault_free=is_fault_free)

    def _act(self, tasks: Mapping[TaskKey, TaskRow], kinds: Collection[Kind], *, is_fault_free: bool = False) -> None:
        for task_key, case in list(self._pending.items()):
            task = tasks.get(task_key)
            if task is None or case.kind not in kinds:
                continue
            if task_key in self.acted_at and self._is_done(case, task):
                del self._pending[task_key]
            elif case.kind is Kind.MARKED_FAILED and not case.deferrable and not is_fault_free:
                continue
            elif self._is_ready(task_key, case, task):
                acted_at = self.acted_at[task_key] = time.time()
                if case.kind in _STOPPED:
                    self._stopping[case.name] = self._environment.sandbox.job_state(case.name)["run_count"], acted_at
                try:
                    self._perform(case)
                except (requests.RequestException, LocalAirflowError):
                    # Airflow may be overloaded, or the task may just have changed its state; retry later.
                    self.rejected[case.kind] += 1
                else:
                    if case.kind is Kind.JOINS:
                        # The task may now start its own run, which must not be stopped.
                        del self._pending[task_key]
                self._waiting_since.pop(task_key, None)

    def record_waiting(self, tasks: Mapping[TaskKey, TaskRow]) -> None:
        """Record which tasks are waiting, and since when."""
        for task_key in self._pending:
            task = tasks.get(task_key)
            if task is None or not task.waits:
                self._waiting_since.pop(task_key, None)
                continue
            tries, state, _ = self._waiting_since.get(task_key, (0, "", 0.0))
            if (tries, state) != (task.tries, task.state):
                self._waiting_since[task_key] = (task.tries, task.state, time.monotonic())

    def reset_waiting(self) -> None:
        """Discard all waiting times after a kill."""
        self._waiting_since.clear()

    def _is_ready(self, task_key: TaskKey, case: Case, task: TaskRow) -> bool:
        if case.kind is Kind.CLEARED_DONE:
            return task.state == "success"
        if case.kind in BETWEEN_TRIES:
            return task.state == "up_for_retry"
        if task_key not in self._waiting_since or time.monotonic() - self._waiting_since[task_key][2] < _MIN_WAIT:
            return False
        return bool(self._environment.sandbox.job_state(case.name)["status"] == "ACTIVE")

    def _perform(self, case: Case) -> None:
        airflow = self._environment.airflow
        if case.kind is Kind.JOINS:
            job_id = self._environment.sandbox.job_id(case.name)
            self._environment.sandbox.call("POST", f"/jobrunner/rest/v1/job/{job_id}/stop").raise_for_status()
        elif case.kind in _MARKED:
            path = f"/dags/{DAG_ID}/dagRuns/{self._run_id}/taskInstances/{case.task_id}/{case.map_index}"
            airflow.api("PATCH", path, {"new_state": "failed"})
        else:
            body = {
                "dry_run": False,
                "only_failed": False,
                "dag_run_id": self._run_id,
                "task_ids": [[case.task_id, case.map_index]],
            }
            airflow.api("POST", f"/dags/{DAG_ID}/clearTaskInstances", body)

    def _is_done(self, case: Case, task: TaskRow) -> bool:
        if case.kind is Kind.JOINS:
            return bool(self._environment.sandbox.job_state(case.name)["status"] != "ACTIVE")
        return task.state == "failed" if case.kind in _MARKED else task.max_tries > RETRIES


def start_user_runs(environment: Environment, cases: Iterable[Case]) -> None:
    """Start the runs that tasks join or wait for."""
    jobs = {name: case.kind for case in cases if case.kind in STARTED_BY_USER for name in case.job_names}
    for name, kind in jobs.items():
        records = ENDLESS if kind is Kind.JOINS else str(RATE * _SECONDS_OF_OTHER_RUN)
        environment.sandbox.start_job(name, {"RECORDS": records})
