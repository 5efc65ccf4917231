from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset, BaseOperator

from airflow_provider_streamsets import compat
from tests.unit.conftest import TaskInstance


def test_a_connection_and_its_extra_are_read_from_an_event_loop(monkeypatch):
    fields = {"conn_type": "streamsets", "login": "id", "password": "token.token.", "extra": {"verify": False}}
    monkeypatch.setenv("AIRFLOW_CONN_ASYNC", json.dumps(fields))
    connection, extra = asyncio.run(compat.get_connection_and_extra("async"))
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


def test_watchers_of_one_asset_are_recognized_by_its_state_store():
    context = pytest.importorskip("airflow.sdk.execution_time.context")
    if not hasattr(context, "AssetStateStoreAccessors"):
        pytest.skip("this Airflow keeps no state of assets")

    def watched(*names: str) -> Any:
        return compat.watched_asset(context.AssetStateStoreAccessors([Asset(name) for name in names]))

    assert watched("a") == watched("a")
    assert len({watched("a"), watched("a"), watched("b")}) == 2
    assert watched("a", "b") is None


def test_without_a_state_store_the_asset_of_a_watcher_is_not_known():
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


def test_before_airflow_3_3_values_for_the_next_try_are_kept_in_variables_of_the_task_instance(monkeypatch):
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


def test_where_airflow_has_a_task_state_store_it_is_used_and_what_is_in_it_can_stay(context):
    store, may_stay = compat.get_task_state_store(context)
    assert may_stay is True
    store.set("record", {"a": 1})
    assert context["task_state_store"].values == {"record": {"a": 1}}
    assert store.get("record") == {"a": 1}
    store.delete("record")
    assert context["task_state_store"].values == {}


def test_what_is_kept_for_the_next_try_outlasts_long_runs(context, monkeypatch):
    """Airflow deletes values after 30 days, unless it is told otherwise."""
    retentions = []
    monkeypatch.setattr(
        context["task_state_store"], "set", lambda key, value, *, retention: retentions.append(retention)
    )
    compat.get_task_state_store(context)[0].set("record", 1)
    assert retentions[0] >= timedelta(days=3650)


@pytest.mark.parametrize(
    ("error", "is_timeout"), [("Trigger timeout", True), ("Trigger failure", False)], ids=["timeout", "failure"]
)
def test_a_deferral_that_took_too_long_is_told_from_a_trigger_that_failed(error, is_timeout):
    with pytest.raises(Exception, match=error) as raised:
        BaseOperator(task_id="task").resume_execution("__fail__", {"error": error}, {})
    assert compat.is_deferral_timeout(raised.value) is is_timeout
