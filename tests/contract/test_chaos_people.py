"""What people do in ``make chaos`` is done again when it is refused, and never ends the run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import requests

from dev.local_airflow import LocalAirflowError
from tests.chaos import people as module
from tests.chaos.people import ACTED_ON, People
from tests.chaos.plan import BETWEEN_TRIES, RETRIES, Case, Kind
from tests.chaos.task_table import TaskRow

REFUSED = requests.Response()
REFUSED.status_code = 500
ERRORS = {
    "a 500 of Airflow": LocalAirflowError("POST /dags/chaos/clearTaskInstances answered 500: deadlock detected"),
    "a time-out": requests.ReadTimeout(),
    "a lost connection": requests.ConnectionError(),
}


class Hub:
    """Airflow and the sandbox, which refuse what is in the list of errors, and then do what they are asked."""

    def __init__(self, errors):
        self.errors = list(errors)
        self.done = []
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
            return REFUSED
        self.done.append(path)
        return SimpleNamespace(raise_for_status=lambda: None)

    def job_id(self, name):
        return "job"

    def job_state(self, name):
        return {"status": "ACTIVE"}


@pytest.mark.parametrize("error", ERRORS.values(), ids=list(ERRORS))
@pytest.mark.parametrize("kind", ACTED_ON)
def test_refused_action_is_repeated_and_counted(kind, error, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    case = Case(1, kind, deferrable=True, map_index=0, records=1)
    hub = Hub([error, error])
    people = People(hub, "run", [case])
    state = {Kind.CLEARED_DONE: "success"}.get(kind, "up_for_retry" if kind in BETWEEN_TRIES else "deferred")
    tasks = {case.place: TaskRow(state, 1, RETRIES, None, True, True)}
    for _ in range(3):
        people.see(tasks)
        now[0] += 10
        people.act_between_tries(tasks)
        people.act(tasks, is_calm=True)
    assert len(hub.done) == 1
    assert people.refused == {kind: 2}
    done = {case.place: TaskRow("failed", 1, RETRIES + 1, None, True, True)}
    people.act_between_tries(done)
    people.act(done, is_calm=True)
    assert people.open == set()
    assert len(hub.done) == 1
