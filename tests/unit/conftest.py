from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests_mock

from airflow_provider_streamsets.links.job import CONNECTION_XCOM_KEY, ControlHubRunLink
from tests.unit.fakes.recorded_stats import RecordedStats
from tests.unit.fakes.single_job_hub import COUNTERS, HUB

TOKEN = "eyJhbGciOiJub25lIn0.eyJzIjoic2VjcmV0IiwibyI6Im9yZyJ9."
"""Says organization `org`."""


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An Airflow connection to the scripted Control Hub."""
    fields = {"conn_type": "streamsets", "host": HUB, "login": "credential-id", "password": TOKEN}
    monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", json.dumps(fields))
    return fields


@pytest.fixture
def http() -> Iterator[requests_mock.Mocker]:
    """Answers all HTTP; a request that no test expects is an error. Runs have no counters unless a test says so."""
    with requests_mock.Mocker() as mocker:
        mocker.get(COUNTERS, json={"counters": {}, "meters": {}})
        yield mocker


PAGE_XCOM_KEYS = (CONNECTION_XCOM_KEY, ControlHubRunLink.xcom_key)


class TaskInstance:
    """As much of a task instance as an operator uses."""

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}
        self.page_xcoms: dict[str, Any] = {}
        """Those for the pages in Airflow's user interface, which tasks push since Airflow 3.1.1."""
        self.try_number = 1
        self.max_tries = 0
        self.dag_id, self.task_id, self.run_id, self.map_index = "dag", "task", "run", -1

    def xcom_push(self, key: str, value: Any) -> None:
        (self.page_xcoms if key in PAGE_XCOM_KEYS else self.xcoms)[key] = value

    def get_first_reschedule_date(self, context: Any) -> None:
        return None


class StateStore:
    """A task state store that outlives tries, as Airflow's does, and that keeps no order of keys."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        value = self.values.get(key, default)
        return json.loads(json.dumps(value))

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self.values[key] = json.loads(json.dumps(value, sort_keys=True))

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


@pytest.fixture
def make_context() -> Callable[[], dict[str, Any]]:
    """Makes contexts of task instances that have nothing to do with each other."""
    return lambda: {"ti": TaskInstance(), "task_state_store": StateStore()}


@pytest.fixture
def context(make_context: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return make_context()


@pytest.fixture
def task_log(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What was logged: Airflow 3 prints it, Airflow 2 uses the standard library's logging."""
    return lambda: caplog.text + capsys.readouterr().out


@pytest.fixture
def stats(monkeypatch: pytest.MonkeyPatch) -> RecordedStats:
    """Records the metrics that tasks emit."""
    recorded = RecordedStats()
    monkeypatch.setattr("airflow.providers.common.compat.sdk.Stats", recorded)
    return recorded


@pytest.fixture
def sleep_calls(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of all waits: sleeping only moves it, and is recorded."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr("time.monotonic", lambda: 1000.0 + sum(slept))
    return slept
