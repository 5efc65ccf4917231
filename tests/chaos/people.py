"""What people do: run jobs by hand, mark tasks failed, and clear them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import requests

from dev.local_airflow import LocalAirflowError
from tests.chaos.plan import BETWEEN_TRIES, BY_HAND, ENDLESS, RATE, RETRIES, Case, Kind
from tests.chaos.stage import Stage
from tests.chaos.task_table import Place, TaskRow
from tests.chaos.tasks import DAG_ID

_DURING_TRIES = (Kind.MARKED_FAILED, Kind.CLEARED_WAITING, Kind.CLEARED_DONE, Kind.JOINS)
ACTED_ON = (*_DURING_TRIES, *BETWEEN_TRIES)
_MARKED = (Kind.MARKED_FAILED, Kind.MARKED_BETWEEN)
# Seconds for which a task must have been seen waiting: the triggerer knows the wait by then, or the worker is in it.
_SEEN = 4.0
_SECONDS_OF_OTHER_RUN = 20


class People:
    """
    The people around the tasks.

    :param stage: what there is
    :param run_id: the DAG run
    :param cases: the tasks
    """

    def __init__(self, stage: Stage, run_id: str, cases: Iterable[Case]) -> None:
        self._stage = stage
        self._run_id = run_id
        self._open = {(case.task_id, case.map_index): case for case in cases if case.kind in ACTED_ON}
        self._seen: dict[Place, tuple[int, str, float]] = {}
        self.acted: dict[Place, float] = {}
        self.refused: Counter[Kind] = Counter()
        """How many actions Airflow or the sandbox did not accept."""

    @property
    def open(self) -> set[Place]:
        """Tasks to which something is still to be done."""
        return set(self._open)

    def act_between_tries(self, tasks: Mapping[Place, TaskRow]) -> None:
        """Do what there is a moment for at any time: nobody has to hear of it."""
        self._act(tasks, BETWEEN_TRIES)

    def act(self, tasks: Mapping[Place, TaskRow], *, is_calm: bool) -> None:
        """
        Do what there is a moment for. Nothing is killed within the next seconds.

        :param tasks: as they are now
        :param is_calm: whether no request goes wrong; otherwise a task on a worker, which has but one chance to stop
            its run, is not marked failed
        """
        self._act(tasks, _DURING_TRIES, is_calm=is_calm)

    def _act(self, tasks: Mapping[Place, TaskRow], kinds: Collection[Kind], *, is_calm: bool = False) -> None:
        for place, case in list(self._open.items()):
            task = tasks.get(place)
            if task is None or case.kind not in kinds:
                continue
            if place in self.acted and self._is_done(case, task):
                del self._open[place]
            elif case.kind is Kind.MARKED_FAILED and not case.deferrable and not is_calm:
                continue
            elif self._is_ready(place, case, task):
                self.acted[place] = time.time()
                try:
                    self._do(case)
                except (requests.RequestException, LocalAirflowError):
                    # Airflow may be too busy to answer, or refuse as the task has just gone on; then it is done again.
                    self.refused[case.kind] += 1
                else:
                    if case.kind is Kind.JOINS:
                        # The task may start a run of its own next, which is none of anybody's business.
                        del self._open[place]
                self._seen.pop(place, None)

    def see(self, tasks: Mapping[Place, TaskRow]) -> None:
        """Note which tasks wait, and since when."""
        for place in self._open:
            task = tasks.get(place)
            if task is None or not task.waits:
                self._seen.pop(place, None)
                continue
            tries, state, _ = self._seen.get(place, (0, "", 0.0))
            if (tries, state) != (task.tries, task.state):
                self._seen[place] = (task.tries, task.state, time.monotonic())

    def forget(self) -> None:
        """Begin anew to note which tasks wait: something was killed."""
        self._seen.clear()

    def _is_ready(self, place: Place, case: Case, task: TaskRow) -> bool:
        if case.kind is Kind.CLEARED_DONE:
            return task.state == "success"
        if case.kind in BETWEEN_TRIES:
            return task.state == "up_for_retry"
        if place not in self._seen or time.monotonic() - self._seen[place][2] < _SEEN:
            return False
        return bool(self._stage.sandbox.job_state(case.name)["status"] == "ACTIVE")

    def _do(self, case: Case) -> None:
        airflow = self._stage.airflow
        if case.kind is Kind.JOINS:
            job_id = self._stage.sandbox.job_id(case.name)
            self._stage.sandbox.call("POST", f"/jobrunner/rest/v1/job/{job_id}/stop").raise_for_status()
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
            return bool(self._stage.sandbox.job_state(case.name)["status"] != "ACTIVE")
        return task.state == "failed" if case.kind in _MARKED else task.max_tries > RETRIES


def start_by_hand(stage: Stage, cases: Iterable[Case]) -> None:
    """Start the runs that tasks are to join or to wait for."""
    jobs = {name: case.kind for case in cases if case.kind in BY_HAND for name in case.job_names}
    for name, kind in jobs.items():
        records = ENDLESS if kind is Kind.JOINS else str(RATE * _SECONDS_OF_OTHER_RUN)
        stage.sandbox.start_job(name, {"RECORDS": records})
