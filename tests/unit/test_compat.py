from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from airflow_provider_streamsets import compat
from tests.unit.conftest import TaskInstance


def test_a_connection_and_its_extra_are_read_from_an_event_loop(monkeypatch):
    fields = {"conn_type": "streamsets", "login": "id", "password": "token.token.", "extra": {"verify": False}}
    monkeypatch.setenv("AIRFLOW_CONN_ASYNC", json.dumps(fields))
    connection, extra = asyncio.run(compat.connection_with_extra("async"))
    assert (connection.login, connection.password, extra) == ("id", "token.token.", {"verify": False})


def _task_runner(monkeypatch: pytest.MonkeyPatch, states: dict[str, Any]) -> list[dict[str, Any]]:
    task_runner = pytest.importorskip(
        "airflow.sdk.execution_time.task_runner", reason="triggers of Airflow 2 cannot ask for task states"
    )
    asked: list[dict[str, Any]] = []

    def get_task_states(**arguments: Any) -> dict[str, Any]:
        asked.append(arguments)
        return states

    monkeypatch.setattr(task_runner.RuntimeTaskInstance, "get_task_states", get_task_states)
    return asked


@pytest.mark.parametrize(("state", "expected"), [("deferred", True), ("failed", False), (None, False)])
def test_whether_a_task_is_still_deferred_is_asked_of_airflow(monkeypatch, state, expected):
    asked = _task_runner(monkeypatch, {"run": {"task": state}})
    assert asyncio.run(compat.is_still_deferred(TaskInstance())) is expected
    assert asked == [{"dag_id": "dag", "map_index": -1, "task_ids": ["task"], "run_ids": ["run"]}]


def test_a_task_that_airflow_does_not_name_cannot_be_told(monkeypatch):
    _task_runner(monkeypatch, {"run": {}})
    assert asyncio.run(compat.is_still_deferred(TaskInstance())) is None


def test_a_mapped_task_is_asked_for_by_its_map_index(monkeypatch):
    _task_runner(monkeypatch, {"run": {"task": "failed", "task_3": "deferred"}})
    instance = TaskInstance()
    instance.map_index = 3
    assert asyncio.run(compat.is_still_deferred(instance)) is True


def test_without_a_task_instance_nothing_can_be_told():
    assert asyncio.run(compat.is_still_deferred(None)) is None
