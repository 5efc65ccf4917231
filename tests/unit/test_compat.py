from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset, BaseOperator

from airflow_provider_streamsets import compat
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from tests.unit.conftest import TaskInstance


def test_connection_is_read_from_event_loop(monkeypatch):
    fields = {"conn_type": "streamsets", "login": "id", "password": "token.token.", "extra": {"verify": False}}
    monkeypatch.setenv("AIRFLOW_CONN_ASYNC", json.dumps(fields))
    connection, extra = asyncio.run(compat.get_connection_and_extra("async"))
    assert (connection.login, connection.password, extra) == ("id", "token.token.", {"verify": False})


def _task_runner(monkeypatch: pytest.MonkeyPatch, states: dict[str, Any]) -> list[dict[str, Any]]:
    task_runner = pytest.importorskip(
        "airflow.sdk.execution_time.task_runner", reason="triggers of Airflow 2 cannot read task states"
    )
    asked: list[dict[str, Any]] = []

    def get_task_states(**arguments: Any) -> dict[str, Any]:
        asked.append(arguments)
        return states

    monkeypatch.setattr(task_runner.RuntimeTaskInstance, "get_task_states", get_task_states)
    return asked


@pytest.mark.parametrize(("state", "expected"), [("deferred", True), ("failed", False), (None, False)])
def test_still_deferred_is_queried_from_airflow(monkeypatch, state, expected):
    asked = _task_runner(monkeypatch, {"run": {"task": state}})
    assert asyncio.run(compat.is_still_deferred(TaskInstance())) is expected
    assert asked == [{"dag_id": "dag", "map_index": -1, "task_ids": ["task"], "run_ids": ["run"]}]


def test_still_deferred_of_unlisted_task_is_unknown(monkeypatch):
    _task_runner(monkeypatch, {"run": {}})
    assert asyncio.run(compat.is_still_deferred(TaskInstance())) is None


def test_still_deferred_of_mapped_task_uses_map_index(monkeypatch):
    _task_runner(monkeypatch, {"run": {"task": "failed", "task_3": "deferred"}})
    instance = TaskInstance()
    instance.map_index = 3
    assert asyncio.run(compat.is_still_deferred(instance)) is True


def test_still_deferred_without_task_instance_is_unknown():
    assert asyncio.run(compat.is_still_deferred(None)) is None


def test_watched_asset_is_identified_by_state_store():
    context = pytest.importorskip("airflow.sdk.execution_time.context")
    if not hasattr(context, "AssetStateStoreAccessors"):
        pytest.skip("this Airflow keeps no state of assets")

    def watched(*names: str) -> Any:
        return compat.watched_asset(context.AssetStateStoreAccessors([Asset(name) for name in names]))

    assert watched("a") == watched("a")
    assert len({watched("a"), watched("a"), watched("b")}) == 2
    assert watched("a", "b") is None


def test_watched_asset_without_state_store_is_unknown():
    assert compat.watched_asset(None) is None


class Variables:
    """Airflow's variables, as far as the store uses them."""

    values: dict[str, str] = {}  # noqa: RUF012 - shared, as Airflow's are

    @classmethod
    def get(cls, key: str, default: Any, *, deserialize_json: bool) -> Any:
        assert deserialize_json
        return json.loads(cls.values[key]) if key in cls.values else default

    @classmethod
    def set(cls, key: str, value: Any, *, description: str, serialize_json: bool) -> None:
        assert serialize_json
        assert len(key) <= 250
        cls.values[key] = json.dumps(value)

    @classmethod
    def delete(cls, key: str) -> None:
        cls.values.pop(key, None)


def test_variables_store_state_before_airflow_3_3(monkeypatch):
    monkeypatch.setattr(compat, "Variable", Variables)
    first, other = TaskInstance(), TaskInstance()
    other.map_index = 3
    store, may_stay = compat.get_task_state_store({"ti": first})
    assert may_stay is False
    assert store.get("record") is None
    store.set("record", {"a": [1]})
    assert compat.get_task_state_store({"ti": TaskInstance()})[0].get("record") == {"a": [1]}
    assert compat.get_task_state_store({"ti": other})[0].get("record") is None
    store.delete("record")
    assert Variables.values == {}


def test_task_state_store_is_used_if_available(context):
    store, may_stay = compat.get_task_state_store(context)
    assert may_stay is True
    store.set("record", {"a": 1})
    assert context["task_state_store"].values == {"record": {"a": 1}}
    assert store.get("record") == {"a": 1}
    store.delete("record")
    assert context["task_state_store"].values == {}


def test_stored_state_outlasts_long_runs(context, monkeypatch):
    """Airflow deletes values after 30 days, unless a retention is set."""
    retentions = []
    monkeypatch.setattr(
        context["task_state_store"], "set", lambda key, value, *, retention: retentions.append(retention)
    )
    compat.get_task_state_store(context)[0].set("record", 1)
    assert retentions[0] >= timedelta(days=3650)


@pytest.mark.parametrize(
    ("error", "is_timeout"), [("Trigger timeout", True), ("Trigger failure", False)], ids=["timeout", "failure"]
)
def test_deferral_timeout_differs_from_trigger_failure(error, is_timeout):
    with pytest.raises(Exception, match=error) as raised:
        BaseOperator(task_id="task").resume_execution("__fail__", {"error": error}, {})
    assert compat.is_deferral_timeout(raised.value) is is_timeout


def _end_as_airflow_3_0(
    monkeypatch: pytest.MonkeyPatch, result: dict[str, Any] | None, **arguments: Any
) -> TaskInstance:
    """Return the task instance of a task that returned a result in Airflow 3.0, with its XComs."""
    monkeypatch.setattr(compat, "CAN_PUSH_NONE", False)
    task = ControlHubRunJobOperator(task_id="task", job_name="Orders", **arguments)
    instance = TaskInstance()
    instance.task = task
    # Airflow passes a copy of the task in the context.
    task._post_execute_hook({"ti": instance, "task": None}, result)
    for key, value in (result or {}).items() if task.multiple_outputs else ():
        instance.xcom_push(key, value)
    return instance


def test_none_in_result_is_not_pushed_in_airflow_3_0(monkeypatch):
    result = {"outcome": "SUCCEEDED", "error_message": None}
    assert _end_as_airflow_3_0(monkeypatch, result).xcoms == {"outcome": "SUCCEEDED"}
    assert _end_as_airflow_3_0(monkeypatch, None).xcoms == {}
    assert _end_as_airflow_3_0(monkeypatch, result, do_xcom_push=False).xcoms == {}


def test_hook_of_user_runs_in_airflow_3_0(monkeypatch):
    results: list[Any] = []
    _end_as_airflow_3_0(monkeypatch, {"outcome": "FAILED"}, post_execute=lambda context, result: results.append(result))
    assert results == [{"outcome": "FAILED"}]


def test_none_in_failed_result_is_not_pushed_in_airflow_3_0(monkeypatch):
    monkeypatch.setattr(compat, "CAN_PUSH_NONE", False)
    instance = TaskInstance()
    ControlHubRunJobOperator(task_id="task", job_name="Orders").push_failed_result(
        {"ti": instance}, {"a": 1, "b": None}
    )
    assert instance.xcoms == {"a": 1, "result": {"a": 1, "b": None}}
