"""
The API of the pages, and their files.

Each request is checked with Airflow's own permissions: data of a task with those to read its DAG, task instances and
XComs; changes with those to edit the DAG and its task instances. Only the calls of Control Hub's subscriptions have a
token of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.api_fastapi.logging.decorators import action_logging
from airflow.providers.common.compat.sdk import AirflowException, redact
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from airflow_provider_streamsets import task_runs
from airflow_provider_streamsets.compat import dag_details
from airflow_provider_streamsets.control_hub import ControlHubClient, ControlHubConfigurationError, ControlHubError
from airflow_provider_streamsets.control_hub.models import StatusSnapshot
from airflow_provider_streamsets.plugins import events
from airflow_provider_streamsets.plugins.hub_reader import HubReader
from airflow_provider_streamsets.plugins.rows import FILTER_STATES, detailed_row, live_row, stored_row, stored_state
from airflow_provider_streamsets.plugins.sources import Sources
from airflow_provider_streamsets.plugins.threads import BoundedThreads
from airflow_provider_streamsets.task_runs import TaskKey, TaskRuns

log = logging.getLogger(__name__)

_STATIC = Path(__file__).parent / "static"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
_ACTION_HEADER = "X-Streamsets-Action"
MAX_ROWS = 500
"""Maximum number of runs of a response."""
_MAX_MAP_INDEX = 10**6
_threads = BoundedThreads(8, 64, "streamsets-pages")
_in_thread = _threads.run
_READ_ENTITIES = (DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM)
_EDIT_ENTITIES = (None, DagAccessEntity.TASK_INSTANCE)

_sources = Sources()
_router = APIRouter(prefix="/api")


def create_app() -> FastAPI:
    """Return the application, which the plugin mounts into Airflow's API server."""
    app = FastAPI(title="StreamSets", docs_url=None, redoc_url=None, openapi_url=None)
    app.middleware("http")(_add_headers)
    app.include_router(_router)
    app.include_router(events.router)
    # Without data, so they need no permission, like Airflow's own page.
    app.get("/")(_runs_page)
    app.get("/run")(_run_page)
    app.mount("/static", StaticFiles(directory=_STATIC))
    return app


def _runs_page() -> FileResponse:
    return FileResponse(_STATIC / "runs.html")


def _run_page() -> FileResponse:
    return FileResponse(_STATIC / "run.html")


async def _add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cache-Control"] = "no-store" if path.startswith("/api/") else "no-cache"
    return response


def _task_key(dag_id: str, run_id: str, task_id: str, map_index: Annotated[str, Query()] = "-1") -> TaskKey:
    # Airflow's user interface leaves the placeholder of tasks that are not mapped as it is.
    index = int(map_index) if map_index.isascii() and map_index.isdecimal() else -1
    return TaskKey(dag_id, run_id, task_id, min(index, _MAX_MAP_INDEX))


async def _find_task(key: Annotated[TaskKey, Depends(_task_key)]) -> TaskRuns:
    task = await _in_thread(task_runs.read_task, key)
    if task is None or not task.run_counts:
        raise HTTPException(404, "This task has no StreamSets run.")
    return task


def _require_action_header(action: Annotated[str | None, Header(alias=_ACTION_HEADER)] = None) -> None:
    # Other sites cannot send it, although the browser would send them the cookie.
    if not action:
        raise HTTPException(400, f"The header {_ACTION_HEADER} is missing.")


TaskDep = Annotated[TaskRuns, Depends(_find_task)]
_CAN_READ = [Depends(requires_access_dag("GET", entity)) for entity in _READ_ENTITIES]
_CAN_EDIT = [
    *(Depends(requires_access_dag("PUT", entity)) for entity in _EDIT_ENTITIES),
    Depends(_require_action_header),
]


def _is_authorized(user: Any, method: Literal["GET", "PUT"], dag_id: str, entities: Iterable[Any]) -> bool:
    details = dag_details(dag_id)
    return all(
        get_auth_manager().is_authorized_dag(method=method, access_entity=entity, details=details, user=user)
        for entity in entities
    )


@_router.get("/task", dependencies=_CAN_READ)
async def read_task(task: TaskDep, user: GetUserDep) -> dict[str, Any]:
    """Return a task instance with its runs, at most :data:`MAX_ROWS`."""
    return await _in_thread(_read_task, task, user)


def _read_task(task: TaskRuns, user: Any) -> dict[str, Any]:
    rows = [stored_row(task, job_id) for job_id in list(task.run_counts)[:MAX_ROWS]]
    return {
        "task": {
            **vars(task.key),
            "state": task.state,
            "try_number": task.try_number,
            "operator": task.operator,
        },
        "is_waiting": task.is_waiting,
        "connection": {"id": task.conn_id, "error": _add_statuses([(task, row) for row in rows])},
        "may_edit": _is_authorized(user, "PUT", task.key.dag_id, _EDIT_ENTITIES),
        "total": len(task.run_counts),
        "runs": rows,
    }


@_router.get("/run", dependencies=_CAN_READ)
async def read_run(task: TaskDep, job_id: str, user: GetUserDep) -> dict[str, Any]:
    """Return a run of a task instance with all details."""
    return await _in_thread(_read_run, task, job_id, user)


def _read_run(task: TaskRuns, job_id: str, user: Any) -> dict[str, Any]:
    _check_job(task, job_id)
    row = stored_row(task, job_id)
    problem = "This task has no run of the job."
    if row["run_count"] is not None:
        try:
            reader = _reader_of(task)
            details = reader.details(job_id, row["run_count"])
            problem = f"Control Hub does not know run {row['run_count']} of the job (any more)."
            if details is not None:
                parameters = task_runs.read_runtime_parameters(task.key)
                may_edit = _is_authorized(user, "PUT", task.key.dag_id, _EDIT_ENTITIES)
                return detailed_row(row, details, reader.client(), parameters=parameters, may_edit=may_edit)
        except (ControlHubError, AirflowException) as error:
            problem = _describe(error)
    return {**row, **_NO_DETAILS, "problems": [problem]}


_NO_DETAILS: dict[str, Any] = {
    "description": None,
    "pipeline": None,
    "engines": [],
    "parameters": {},
    "series": {"source": None, "points": []},
    "stages": [],
    "events": [],
    "earlier": [],
    "actions": {"stop": False, "acknowledge": False},
}


@_router.get("/runs", dependencies=_CAN_READ)
async def read_runs(
    user: GetUserDep,
    state: str = "",
    dag: str = "",
    job: str = "",
    days: Literal["1", "7", "30"] = "7",
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 50,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> dict[str, Any]:
    """Return the runs of all tasks that the user may read, newest first."""
    if state and state not in FILTER_STATES:
        raise HTTPException(400, f"'state' must be one of {', '.join(FILTER_STATES)}.")
    return await _in_thread(_read_runs, user, state, dag, job, int(days), limit, offset)


def _read_runs(user: Any, state: str, dag: str, job: str, days: int, limit: int, offset: int) -> dict[str, Any]:
    tasks, is_truncated = _readable_tasks(user, days)
    dags = sorted({task.key.dag_id for task in tasks})
    if dag and is_truncated:
        tasks, is_truncated = _readable_tasks(user, days, dag)
    selected = [
        (task, job_id)
        for task in tasks
        if not dag or task.key.dag_id == dag
        for job_id, run_count in task.run_counts.items()
        if run_count is not None and (not state or stored_state(task, job_id) == state)
    ]
    if job:
        selected = _select_by_job(selected, job)
    page = [(task, stored_row(task, job_id)) for task, job_id in selected[offset : offset + limit]]
    _add_statuses(page)
    rows = [row for _, row in page]
    return {"total": len(selected), "is_truncated": is_truncated, "dags": dags, "runs": rows}


def _select_by_job(runs: list[tuple[TaskRuns, str]], text: str) -> list[tuple[TaskRuns, str]]:
    """Return the runs whose job has a text in its id or name; Control Hub finds the names of the waiting ones."""
    names: dict[str, dict[str, str]] = {}
    # A task of each connection, the newest, stands for all.
    newest = {task.conn_id: task for task, _ in reversed(runs)}
    for conn_id, newest_task in newest.items():
        try:
            names[conn_id] = _reader_of(newest_task).search(text)
        except (ControlHubError, AirflowException) as error:
            log.info("Cannot search jobs by name: %s", error)

    def matches(task: TaskRuns, job_id: str) -> bool:
        result = task.results.get(job_id)
        stored_name = (result.job_name if result else None) or ""
        return text.casefold() in f"{stored_name}\n{job_id}".casefold() or job_id in names.get(task.conn_id, {})

    return [(task, job_id) for task, job_id in runs if matches(task, job_id)]


@_router.get("/health", dependencies=_CAN_READ)
async def read_health(user: GetUserDep) -> dict[str, Any]:
    """Return the state of each connection with recent runs."""
    return await _in_thread(_read_health, user)


def _read_health(user: Any) -> dict[str, Any]:
    tasks: dict[str, list[TaskRuns]] = {}
    for task in _readable_tasks(user, days=7)[0]:
        tasks.setdefault(task.conn_id, []).append(task)
    return {"connections": [_health(conn_id, tasks[conn_id]) for conn_id in sorted(tasks)]}


def _health(conn_id: str, tasks: list[TaskRuns]) -> dict[str, Any]:
    waiting = {
        (job_id, run_count)
        for task in tasks
        if task.is_waiting
        for job_id, run_count in task.run_counts.items()
        if run_count is not None and job_id not in task.results
    }
    reader = _sources.reader(conn_id)
    latest: Mapping[str, StatusSnapshot | None] = {}
    clock_skew = 0.0
    try:
        # The newest task stands for all.
        _reader_of(tasks[0])
        latest = reader.statuses([job_id for job_id, _ in waiting] or list(tasks[0].run_counts)[:1])
        clock_skew = reader.client().clock_skew
    except (ControlHubError, AirflowException) as error:
        log.info("Cannot read the statuses of connection '%s': %s", conn_id, error)
    ends = [_end_of_runs(task, latest) for task in tasks if task.is_off_worker]
    now = datetime.now(timezone.utc) + timedelta(seconds=clock_skew)
    delays = [(now - end).total_seconds() for end in ends if end is not None]
    health = reader.health
    return {
        "id": conn_id,
        "state": health.state,
        "waiting": len(waiting),
        "answered": health.answered.to_iso8601_string() if health.answered else None,
        "latency": health.latency,
        "delay": max([0.0, *delays]) if latest else None,
        "error": None if health.error is None else _describe(health.error),
    }


def _end_of_runs(task: TaskRuns, latest: Mapping[str, StatusSnapshot | None]) -> datetime | None:
    """Return when the last run of a task has ended; None if not all are known to have."""
    ends: list[datetime] = []
    for job_id, run_count in task.run_counts.items():
        status = latest.get(job_id)
        if status is None or status.run_count != run_count or not status.has_ended:
            return None
        finished = status.to_run().finish_time
        if finished is not None:
            ends.append(finished)
    return max(ends, default=None)


@_router.post("/stop", dependencies=[*_CAN_EDIT, Depends(action_logging("streamsets_stop_run"))])
async def stop_run(task: TaskDep, job_id: str) -> dict[str, str]:
    """Stop the run of a job of a task instance."""
    run_count = _run_to_change(task, job_id)
    if not await _in_thread(_change, task, job_id, lambda client: client.runs.stop_run(job_id, run_count)):
        raise HTTPException(409, f"Run {run_count} is not active (any more).")
    return {"message": f"Stop of run {run_count} requested."}


@_router.post("/acknowledge", dependencies=[*_CAN_EDIT, Depends(action_logging("streamsets_acknowledge_error"))])
async def acknowledge_error(task: TaskDep, job_id: str) -> dict[str, str]:
    """Acknowledge the error of the run of a job, so that the job can be started again."""
    run_count = _run_to_change(task, job_id)
    if not await _in_thread(_change, task, job_id, lambda client: client.runs.acknowledge_run(job_id, run_count)):
        raise HTTPException(409, f"Run {run_count} has no error to acknowledge (any more).")
    return {"message": f"Error of run {run_count} acknowledged."}


def _check_job(task: TaskRuns, job_id: str) -> None:
    if job_id not in task.run_counts:
        raise HTTPException(404, "This task has no run of the job.")


def _run_to_change(task: TaskRuns, job_id: str) -> int:
    _check_job(task, job_id)
    run_count = stored_row(task, job_id)["run_count"]
    if run_count is None:
        raise HTTPException(409, "This task has no run of the job.")
    return int(run_count)


def _change(task: TaskRuns, job_id: str, request: Callable[[ControlHubClient], bool]) -> bool:
    try:
        reader = _reader_of(task)
        try:
            return reader.call(request)
        finally:
            reader.forget(job_id)
    except (ControlHubError, AirflowException) as error:
        raise HTTPException(502, _describe(error)) from error


def _readable_tasks(user: Any, days: int, dag_id: str = "") -> tuple[list[TaskRuns], bool]:
    tasks, is_truncated = _sources.tasks(days, dag_id)
    readable = {
        one for one in {task.key.dag_id for task in tasks} if _is_authorized(user, "GET", one, (None, *_READ_ENTITIES))
    }
    return [task for task in tasks if task.key.dag_id in readable], is_truncated


def _reader_of(task: TaskRuns) -> HubReader:
    """
    Return the reader of a task's connection.

    :raises ControlHubConfigurationError: if it is not the one of the task's DAG
    """
    if task_runs.own_connections([task.key]).get(task.key) != task.conn_id:
        raise ControlHubConfigurationError(_unverified(task))
    return _sources.reader(task.conn_id)


def _unverified(task: TaskRuns) -> str:
    return f"It is not known any more whether '{task.conn_id}' is the connection of this task."


def _add_statuses(rows: list[tuple[TaskRuns, dict[str, Any]]]) -> str | None:
    """
    Add to rows the statuses of runs without an outcome, and names and links of the jobs, as far as they can be read.

    Jobs that do not exist any more have no link.

    :param rows: rows with their task instances
    :returns: why something could not be read; None if all could
    """
    connections = task_runs.own_connections({task.key for task, _ in rows})
    error: str | None = None
    by_connection: dict[str, list[dict[str, Any]]] = {}
    for task, row in rows:
        if connections.get(task.key) == task.conn_id:
            by_connection.setdefault(task.conn_id, []).append(row)
        else:
            error = _unverified(task)
    for conn_id, of_connection in by_connection.items():
        try:
            _add_statuses_of(_sources.reader(conn_id), of_connection)
        except (ControlHubError, AirflowException) as failure:
            error = _describe(failure)
    return error


def _add_statuses_of(reader: HubReader, rows: list[dict[str, Any]]) -> None:
    jobs = reader.jobs(row["job_id"] for row in rows)
    pending = [row for row in rows if row["state"] in {"waiting", "unknown"} and row["run_count"] is not None]
    latest = reader.statuses(row["job_id"] for row in pending) if pending else {}
    job_url = reader.client().job_url
    for row in pending:
        if row["job_id"] in latest:
            row.update(live_row(row, latest[row["job_id"]]))
    for row in rows:
        job = jobs[row["job_id"]]
        if job is not None:
            row.update(job_name=job.name, job_url=job_url(job.job_id))


def _describe(error: Exception) -> str:
    return str(redact(str(error)))
