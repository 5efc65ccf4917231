"""User actions of ``make chaos``: rejected ones are retried, and kills wait until they are handled."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import requests

from dev.local_airflow import LocalAirflowError
from tests.chaos import user_actions as module
from tests.chaos.plan import BETWEEN_TRIES, RETRIES, Case, Kind
from tests.chaos.task_table import TaskRow
from tests.chaos.user_actions import ACTED_ON, STOP_TIMEOUT, UserActions

REJECTED = requests.Response()
REJECTED.status_code = 500
ERRORS = {
    "a 500 of Airflow": LocalAirflowError("POST /dags/chaos/clearTaskInstances returned 500: deadlock detected"),
    "a time-out": requests.ReadTimeout(),
    "a lost connection": requests.ConnectionError(),
}


class Hub:
    """Stub for Airflow and the sandbox that raises the given errors before it accepts actions."""

    def __init__(self, errors=()):
        self.errors = list(errors)
        self.done = []
        self.job = {"status": "ACTIVE", "run_count": 1}
        self.sandbox = self.airflow = self

    def api(self, method, path, body):
        if self.errors:
            raise self.errors.pop(0)
        self.done.append(path)

    def call(self, method, path):
        if self.errors:
            error = self.errors.pop(0)
            if not isinstance(error, LocalAirflowError):
                raise error
            return REJECTED
        self.done.append(path)
        return SimpleNamespace(raise_for_status=lambda: None)

    def job_id(self, name):
        return "job"

    def job_state(self, name):
        return self.job


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    return now


@pytest.mark.parametrize("error", ERRORS.values(), ids=list(ERRORS))
@pytest.mark.parametrize("kind", ACTED_ON)
def test_rejected_action_is_retried_and_counted(kind, error, clock):
    case = Case(1, kind, deferrable=True, map_index=0, records=1)
    hub = Hub([error, error])
    user_actions = UserActions(hub, "run", [case])
    state = {Kind.CLEARED_DONE: "success"}.get(kind, "up_for_retry" if kind in BETWEEN_TRIES else "deferred")
    tasks = {case.task_key: TaskRow(state, 1, RETRIES, None, True, True)}
    for _ in range(3):
        user_actions.record_waiting(tasks)
        clock[0] += 10
        user_actions.act_between_tries(tasks)
        user_actions.act_during_tries(tasks, is_fault_free=True)
    assert len(hub.done) == 1
    assert user_actions.rejected == {kind: 2}
    done = {case.task_key: TaskRow("failed", 1, RETRIES + 1, None, True, True)}
    user_actions.act_between_tries(done)
    user_actions.act_during_tries(done, is_fault_free=True)
    assert user_actions.pending == set()
    assert len(hub.done) == 1


@pytest.mark.parametrize("kind", [Kind.MARKED_FAILED, Kind.CLEARED_WAITING])
@pytest.mark.parametrize(
    "job",
    [{"status": "DEACTIVATING", "run_count": 1}, {"status": "ACTIVE", "run_count": 2}],
    ids=["stopped", "next run"],
)
def test_action_is_handled_when_the_run_is_stopped(kind, job, clock):
    hub = Hub()
    user_actions = _act_on_waiting_task(hub, kind, clock)
    assert not user_actions.are_handled
    hub.job = job
    assert user_actions.are_handled


def test_unhandled_action_holds_up_kills_for_a_limited_time(clock):
    user_actions = _act_on_waiting_task(Hub(), Kind.MARKED_FAILED, clock)
    clock[0] += STOP_TIMEOUT
    assert not user_actions.are_handled
    clock[0] += 1
    assert user_actions.are_handled


@pytest.mark.parametrize("kind", [Kind.CLEARED_DONE, Kind.JOINS])
def test_action_that_stops_no_run_of_a_task_holds_up_no_kill(kind, clock):
    assert _act_on_waiting_task(Hub(), kind, clock, "success" if kind is Kind.CLEARED_DONE else "deferred").are_handled


def _act_on_waiting_task(hub, kind, clock, state="deferred"):
    case = Case(1, kind, deferrable=True, map_index=0, records=1)
    user_actions = UserActions(hub, "run", [case])
    tasks = {case.task_key: TaskRow(state, 1, RETRIES, None, True, True)}
    user_actions.record_waiting(tasks)
    clock[0] += 10
    user_actions.act_during_tries(tasks, is_fault_free=True)
    assert len(hub.done) == 1
    return user_actions
