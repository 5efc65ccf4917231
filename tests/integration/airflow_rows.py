"""Task instances and their XComs in Airflow's database, stored as Airflow does."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow import settings
from airflow.models.asset import AssetActive, AssetDagRunQueue, AssetEvent, AssetModel, DagScheduleAssetReference
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
from sqlalchemy import delete, insert, select

_BUNDLE = "dags"
_ids = itertools.count(1)


def create_tables() -> None:
    """Create the tables of Airflow's database."""
    import_all_models()
    Base.metadata.create_all(settings.engine)


@pytest.fixture(scope="module", autouse=True)
def tables() -> None:
    """The tables of Airflow's database."""
    create_tables()


@pytest.fixture(autouse=True)
def no_rows() -> Iterator[None]:
    """Each test has its own rows."""
    yield
    delete_rows()


def delete_rows() -> None:
    """Delete all tasks, DAGs and assets, and the audit log."""
    tasks = (XComModel, RenderedTaskInstanceFields, TaskInstance, DagRun)
    assets = (AssetDagRunQueue, AssetEvent, DagScheduleAssetReference, AssetActive, AssetModel)
    with create_session() as session:
        for table in (*tasks, *assets, DagModel, Log):
            session.execute(delete(table))


def store_asset(uri: str, *, dag_id: str, name: str | None = None) -> int:
    """
    Store an asset and a DAG that is scheduled on it, and return the id of the asset.

    :param uri: its URI
    :param dag_id: id of the DAG
    :param name: its name; by default the URI
    """
    name = name or uri
    with create_session() as session:
        _store_dag(session, dag_id)
        asset = AssetModel(name=name, uri=uri, group="asset", extra={})
        session.add_all([asset, AssetActive(name=name, uri=uri)])
        session.flush()
        session.add(DagScheduleAssetReference(asset_id=asset.id, dag_id=dag_id))
        return int(asset.id)


def store_event(asset_id: int, extra: dict[str, Any]) -> None:
    """Store an event of an asset."""
    with create_session() as session:
        session.add(AssetEvent(asset_id=asset_id, extra=extra))


def read_events(asset_id: int) -> list[dict[str, Any]]:
    """Return the extras of the events of an asset, oldest first."""
    query = select(AssetEvent.extra).where(AssetEvent.asset_id == asset_id).order_by(AssetEvent.id)
    with create_session() as session:
        return list(session.scalars(query))


def read_queued_dags(asset_id: int) -> list[str]:
    """Return the ids of the DAGs that wait for a DAG run because of an asset."""
    with create_session() as session:
        return list(
            session.scalars(select(AssetDagRunQueue.target_dag_id).where(AssetDagRunQueue.asset_id == asset_id))
        )


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
    # Which of them exist depends on the version of Airflow.
    known = {name: value for name, value in settings_of_dag.items() if name in DagModel.__table__.columns}
    session.execute(insert(DagModel).values(dag_id=dag_id, bundle_name=_BUNDLE, **known))
