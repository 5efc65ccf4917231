"""
Tasks with runs, read from Airflow's database.

Airflow's REST API returns no values with a list of XComs, so the page of all runs would need a request per task. Apart
from :mod:`airflow_provider_streamsets.compat` and, for assets, :mod:`airflow_provider_streamsets.plugins.events`, this
module alone depends on Airflow's tables, which are no public API.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import or_, select, tuple_

from airflow_provider_streamsets import compat
from airflow_provider_streamsets.control_hub.paging import chunked
from airflow_provider_streamsets.links.job import CONNECTION_XCOM_KEY

XComModel = compat.xcom_table()
log = logging.getLogger(__name__)

MAX_TASKS = 20_000
"""Maximum number of tasks that are read at once; the newest ones."""

_RESULT_KEYS = ("return_value", "result", "results")
_KEYS = ("job_id", "job_ids", "run_count", "run_counts", *_RESULT_KEYS)
_CONNECTION_PARAMETER = "control_hub_conn_id"
_WAITING_STATES = ("running", "deferred", "up_for_reschedule", "restarting")
# States of a task that Airflow resumes after a deferral; others in these states have not started their try.
_RESUMED_STATES = ("scheduled", "queued")
_IDENTITY = ("dag_id", "run_id", "task_id", "map_index")
_FIELDS = (*_IDENTITY, "state", "try_number", "operator", "next_method")
# Maximum number of values in a condition of a query.
_CHUNK_SIZE = 200


@dataclass(frozen=True)
class TaskKey:
    """Identifies a task instance."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1


@dataclass(frozen=True)
class StoredResult:
    """
    What a task has stored about an ended run.

    XComs can be written by anybody who may edit them, so a value of another type is None.
    """

    outcome: str
    job_name: str | None = None
    run_count: int | None = None
    status: str | None = None
    color: str | None = None
    error_message: str | None = None
    started: str | None = None
    finished: str | None = None
    duration: float | None = None
    input_count: int | None = None
    output_count: int | None = None
    error_count: int | None = None

    @classmethod
    def from_xcom(cls, value: object) -> StoredResult | None:
        """Parse the result of a run, as returned by the run operator; None if it has no outcome."""
        if not isinstance(value, Mapping) or value.get("outcome") not in ("SUCCEEDED", "FAILED", "STOPPED"):
            return None
        metrics = value.get("metrics")
        counts = metrics if isinstance(metrics, Mapping) else {}
        return cls(
            outcome=value["outcome"],
            job_name=_text(value.get("job_name")),
            run_count=_positive(value.get("run_count")),
            status=_text(value.get("status")),
            color=_text(value.get("color")),
            error_message=_text(value.get("error_message")),
            started=_time(value.get("start_time")),
            finished=_time(value.get("finish_time")),
            duration=_number(value.get("duration")),
            input_count=_integer(counts.get("input_count")),
            output_count=_integer(counts.get("output_count")),
            error_count=_integer(counts.get("error_count")),
        )


@dataclass(frozen=True)
class TaskRuns:
    """
    A task instance with the runs of its jobs.

    :param key: the task instance
    :param state: its state
    :param try_number: number of its current or last try
    :param operator: name of its operator
    :param is_waiting: whether it waits in this try
    :param conn_id: id of its connection to Control Hub, as pushed to XCom
    :param run_counts: numbers of the runs by job id; None for jobs of which the task has no run (yet)
    :param results: what it has stored about its ended runs, by job id
    """

    key: TaskKey
    state: str
    try_number: int
    operator: str
    is_waiting: bool
    conn_id: str
    run_counts: Mapping[str, int | None]
    results: Mapping[str, StoredResult]

    @property
    def is_off_worker(self) -> bool:
        """Whether it waits without a worker, so that only Airflow and the poller can delay its end."""
        return self.state in {"deferred", "up_for_reschedule"}


def _number(value: object) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _positive(value: object) -> int | None:
    number = _integer(value)
    return number if number is not None and number > 0 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _time(value: object) -> str | None:
    with suppress(ValueError):
        if isinstance(value, str):
            return datetime.fromisoformat(value.replace("Z", "+00:00")).isoformat()
    return None


def _run_counts(xcoms: Mapping[str, Any]) -> dict[str, int | None]:
    counts, job_id, job_ids = (xcoms.get(key) for key in ("run_counts", "job_id", "job_ids"))
    if isinstance(counts, Mapping):
        return {str(one): _positive(count) for one, count in counts.items()}
    if isinstance(job_id, str) and job_id:
        return {job_id: _positive(xcoms.get("run_count"))}
    return {one: None for one in job_ids if isinstance(one, str)} if isinstance(job_ids, list) else {}


def _results(xcoms: Mapping[str, Any], job_ids: Collection[str]) -> dict[str, StoredResult]:
    found: dict[str, StoredResult] = {}
    for key in _RESULT_KEYS:
        value = xcoms.get(key)
        if isinstance(value, Mapping) and isinstance(value.get("instances"), list):
            value = value["instances"]
        for entry in value if isinstance(value, list) else [value]:
            job_id = entry.get("job_id") if isinstance(entry, Mapping) else None
            result = StoredResult.from_xcom(entry) if isinstance(job_id, str) and job_id in job_ids else None
            if result is not None:
                found[str(job_id)] = result
    return found


def read_task(key: TaskKey) -> TaskRuns | None:
    """Return a task instance with its runs; None if it has no job of Control Hub."""
    marked = _marked().where(*(getattr(XComModel, name) == getattr(key, name) for name in _IDENTITY))
    return next(iter(_read(marked, use_backend=True)), None)


def read_tasks(since: datetime, dag_id: str = "") -> tuple[list[TaskRuns], bool]:
    """
    Return the task instances with runs, newest first, and whether there are more than :data:`MAX_TASKS`.

    Values that a custom XCom backend stores elsewhere are not read.

    :param since: only those that wait, or have found their job at this time or later
    :param dag_id: only those of this DAG
    """
    marked = _marked().where(
        or_(
            XComModel.timestamp >= since,
            TaskInstance.state.in_(_WAITING_STATES),
            TaskInstance.state.in_(_RESUMED_STATES) & TaskInstance.next_method.is_not(None),
        )
    )
    if dag_id:
        marked = marked.where(XComModel.dag_id == dag_id)
    tasks = _read(marked.order_by(XComModel.timestamp.desc()).limit(MAX_TASKS + 1), use_backend=False)
    return [task for task in tasks[:MAX_TASKS] if any(task.run_counts.values())], len(tasks) > MAX_TASKS


def _marked() -> Any:
    """Return a query for the task instances that have pushed the id of a connection."""
    is_same = [getattr(TaskInstance, name) == getattr(XComModel, name) for name in _IDENTITY]
    return (
        select(
            XComModel.dag_run_id,
            XComModel.timestamp,
            XComModel.value,
            *(getattr(TaskInstance, name) for name in _FIELDS),
        )
        .join(TaskInstance, is_same[0] & is_same[1] & is_same[2] & is_same[3])
        .where(XComModel.key == CONNECTION_XCOM_KEY)
    )


def _read(marked: Any, *, use_backend: bool) -> list[TaskRuns]:
    found = marked.subquery()
    values = select(XComModel.dag_run_id, XComModel.task_id, XComModel.map_index, XComModel.key, XComModel.value).join(
        found,
        (XComModel.dag_run_id == found.c.dag_run_id)
        & (XComModel.task_id == found.c.task_id)
        & (XComModel.map_index == found.c.map_index),
    )
    parse = _deserialize if use_backend else _unchanged
    tasks: list[tuple[dict[str, Any], dict[str, Any]]] = []
    xcoms: dict[tuple[int, str, int], dict[str, Any]] = {}
    with create_session() as session:
        for dag_run_id, _, conn_id, *fields in session.execute(marked):
            task = dict(zip(_FIELDS, fields, strict=True))
            own = xcoms[dag_run_id, task["task_id"], task["map_index"]] = {CONNECTION_XCOM_KEY: parse(conn_id)}
            tasks.append((task, own))
        for dag_run_id, task_id, map_index, key, value in session.execute(values.where(XComModel.key.in_(_KEYS))):
            # A task can have started between the two queries.
            if (own_xcoms := xcoms.get((dag_run_id, task_id, map_index))) is not None:
                own_xcoms[key] = parse(value)
    return [_task_runs(task, own) for task, own in tasks]


def _task_runs(fields: Mapping[str, Any], xcoms: Mapping[str, Any]) -> TaskRuns:
    run_counts = _run_counts(xcoms)
    state = str(fields["state"] or "")
    return TaskRuns(
        key=TaskKey(*(fields[name] for name in _IDENTITY)),
        state=state,
        try_number=fields["try_number"],
        operator=fields["operator"] or "",
        is_waiting=state in _WAITING_STATES or (state in _RESUMED_STATES and fields["next_method"] is not None),
        conn_id=str(xcoms.get(CONNECTION_XCOM_KEY) or ""),
        run_counts=run_counts,
        results=_results(xcoms, run_counts),
    )


def _unchanged(value: Any) -> Any:
    return value


def _deserialize(value: Any) -> Any:
    try:
        return compat.deserialize_xcom(value)
    except Exception:
        log.warning("The XCom backend could not read a value.", exc_info=True)
        return None


def read_runtime_parameters(key: TaskKey) -> object:
    """Return the rendered runtime parameters of a task instance, without secrets; None if unknown."""
    value = _rendered_fields([key]).get(key, {}).get("runtime_parameters")
    if isinstance(value, str):
        with suppress(ValueError):
            return json.loads(value)
    return value


def own_connections(keys: Collection[TaskKey]) -> dict[TaskKey, str]:
    """
    Return the connections of task instances, from what only their DAG can determine.

    Users who may edit XComs could otherwise read and stop jobs with any connection. Tasks whose connection is unknown,
    because Airflow has deleted their rendered fields and the parameter is a template, are missing.
    """
    rendered = _rendered_fields(keys)
    declared: dict[tuple[str, str], str | None] = {}
    found: dict[TaskKey, str] = {}
    for key in keys:
        conn_id = rendered.get(key, {}).get(_CONNECTION_PARAMETER)
        if conn_id is None:
            task = key.dag_id, key.task_id
            if task not in declared:
                declared[task] = _declared_connection(*task)
            conn_id = declared[task]
        if isinstance(conn_id, str):
            found[key] = conn_id
    return found


def _rendered_fields(keys: Collection[TaskKey]) -> dict[TaskKey, Mapping[str, Any]]:
    fields = RenderedTaskInstanceFields
    columns = [getattr(fields, name) for name in _IDENTITY]
    found: dict[TaskKey, Mapping[str, Any]] = {}
    with create_session() as session:
        for chunk in chunked(list(keys), _CHUNK_SIZE):
            wanted = [tuple(getattr(key, name) for name in _IDENTITY) for key in chunk]
            for *identity, rendered in session.execute(
                select(*columns, fields.rendered_fields).where(tuple_(*columns).in_(wanted))
            ):
                if isinstance(rendered, Mapping):
                    found[TaskKey(*identity)] = rendered
    return found


def _declared_connection(dag_id: str, task_id: str) -> str | None:
    """Return the connection in the code of a DAG; None if it is a template, or unknown."""
    try:
        dag = SerializedDagModel.get_dag(dag_id)
        task: Any = dag.get_task(task_id) if dag is not None else None
    except Exception:
        # A DAG or a task that does not exist any more, or a DAG that cannot be deserialized.
        log.info("Cannot read task '%s' of DAG '%s'.", task_id, dag_id, exc_info=True)
        return None
    # Mapped tasks keep the arguments of `partial`.
    conn_id = getattr(task, "partial_kwargs", {}).get(_CONNECTION_PARAMETER) or getattr(
        task, _CONNECTION_PARAMETER, None
    )
    return conn_id if isinstance(conn_id, str) and "{" not in conn_id else None
