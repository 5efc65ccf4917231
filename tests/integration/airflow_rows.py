"""Task instances and their XComs in Airflow's database, stored as Airflow does."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow import settings
from airflow.models.base import Base
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.log import Log
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.db import import_all_models
from airflow.utils.session import create_session
from sqlalchemy import delete, insert

_BUNDLE = "dags"
_ids = itertools.count(1)


def create_tables() -> None:
    """Create the tables of Airflow's database."""
    import_all_models()
    Base.metadata.create_all(settings.engine)


def delete_rows() -> None:
    """Delete all tasks and DAGs, and the audit log."""
    with create_session() as session:
        for table in (XComModel, RenderedTaskInstanceFields, TaskInstance, DagRun, DagModel, Log):
            session.execute(delete(table))


def store_task(
    dag_id: str,
    *,
    state: str | None = "deferred",
    next_method: str | None = None,
    map_index: int = -1,
    rendered: Mapping[str, Any] | None = None,
    age: timedelta = timedelta(),
    **xcoms: Any,
) -> dict[str, Any]:
    """
    Store a task instance, and return what identifies it.

    :param dag_id: id of its DAG
    :param state: its state
    :param next_method: the method with which Airflow resumes it
    :param map_index: its map index
    :param rendered: its rendered template fields
    :param age: how long ago it pushed its XComs
    :param xcoms: its XComs by key
    """
    return store_tasks(
        dag_id, [xcoms], state=state, next_method=next_method, map_index=map_index, rendered=rendered, age=age
    )[0]


def store_tasks(
    dag_id: str,
    tasks: Iterable[Mapping[str, Any]],
    *,
    state: str | None,
    next_method: str | None = None,
    map_index: int = -1,
    rendered: Mapping[str, Any] | None = None,
    age: timedelta = timedelta(),
) -> list[dict[str, Any]]:
    """Store a task instance, with a DAG run of its own, for each dict of XComs; see :func:`store_task`."""
    now = datetime.now(timezone.utc) - age
    runs: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    values: list[dict[str, Any]] = []
    for xcoms in tasks:
        number = next(_ids)
        run = {"dag_id": dag_id, "run_id": f"manual__2026-11-30T00:00:00+00:00_{number}"}
        runs.append({**run, "id": number, "run_type": "manual", "run_after": now})
        key = {**run, "task_id": "load", "map_index": map_index}
        instances.append(key)
        values += [
            {**key, "dag_run_id": number, "key": name, "value": value, "timestamp": now}
            for name, value in xcoms.items()
        ]
    fields = {
        "state": state,
        "operator": "ControlHubRunJobOperator",
        "pool": "default",
        "try_number": 1,
        "next_method": next_method,
    }
    with create_session() as session:
        _store_dag(session, dag_id)
        session.execute(insert(DagRun.__table__), runs)
        session.execute(insert(TaskInstance.__table__), [{**key, **fields} for key in instances])
        if rendered is not None:
            session.execute(
                insert(RenderedTaskInstanceFields.__table__),
                [{**key, "rendered_fields": rendered} for key in instances],
            )
        if values:
            session.execute(insert(XComModel.__table__), values)
    return instances


def _store_dag(session: Any, dag_id: str) -> None:
    if session.get(DagModel, dag_id) is not None:
        return
    if session.get(DagBundleModel, _BUNDLE) is None:
        session.add(DagBundleModel(name=_BUNDLE))
        session.flush()
    settings_of_dag = {
        "is_paused": False,
        "is_stale": False,
        "max_active_tasks": 1,
        "max_consecutive_failed_dag_runs": 0,
        "has_task_concurrency_limits": False,
        "timetable_type": "",
    }
    session.execute(insert(DagModel).values(dag_id=dag_id, bundle_name=_BUNDLE, **settings_of_dag))
