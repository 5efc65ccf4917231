"""Read task instances from Airflow's database."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from operator import itemgetter
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import DateTime, Integer, Text, column, create_engine, select, table, text
from sqlalchemy.pool import NullPool

from tests.chaos.history import RunResult
from tests.chaos.plan import Case

TaskKey = tuple[str, int]
"""Task id and map index."""
# The start date is a time of the worker's clock, the others are those of the scheduler and the API server.
_TASKS = """
SELECT task_id, map_index, task_instance.state, try_number, max_tries, pid, triggerer_id,
    job.hostname AS triggerer_host,
    (
        SELECT max(newest.id) FROM job newest WHERE newest.job_type = 'TriggererJob' AND newest.hostname = job.hostname
    ) AS newest_triggerer,
    EXISTS (
        SELECT 1 FROM xcom
        WHERE xcom.task_id = task_instance.task_id AND xcom.map_index = task_instance.map_index
            AND xcom.key IN ('run_count', 'run_counts') AND xcom.timestamp >= task_instance.queued_dttm
    ) AS has_run
FROM task_instance LEFT JOIN trigger ON trigger.id = task_instance.trigger_id LEFT JOIN job ON job.id = triggerer_id
"""


_JOB = table(
    "job",
    column("id", Integer),
    column("job_type", Text),
    column("hostname", Text),
    column("start_date", DateTime),
    column("latest_heartbeat", DateTime),
)
_TASK_STATES = table(
    "task_state_store",
    column("task_id", Text),
    column("map_index", Integer),
    column("value", Text),
    column("updated_at", DateTime),
)
# Parts of the titles of workers: of the LocalExecutor, and of Celery before and after the first task.
_WORKERS = ("LocalExecutor", "ForkPoolWorker", "airflow supervisor")
# Seconds of heartbeats after which a component counts as healthy.
_HEALTHY_AFTER = 6.0


@dataclass(frozen=True)
class TaskRow:
    """
    The current state of a task instance.

    :param state: Airflow's state; empty if none
    :param tries: try number
    :param max_tries: maximum number of retries; grows with each clear
    :param pid: process id on a worker
    :param is_on_triggerer: whether its trigger is assigned to the newest triggerer of an available host
    :param has_run: whether it has pushed the run it waits for
    """

    state: str
    tries: int
    max_tries: int
    pid: int | None
    is_on_triggerer: bool
    has_run: bool

    @property
    def waits(self) -> bool:
        """Whether it waits for a run and its worker or triggerer is alive to handle a user action."""
        if not self.has_run:
            return False
        if self.state == "deferred":
            return self.is_on_triggerer
        return self.state == "running" and self.pid is not None and _is_supervised(self.pid)


class TaskTable:
    """
    Reads the tasks of the only DAG run.

    :param database: URL of Airflow's database
    :param logs: folder with the logs of tasks
    """

    def __init__(self, database: str, logs: Path) -> None:
        self._engine = create_engine(database, poolclass=NullPool)
        self._logs = logs
        self.unavailable_hosts: set[str] = set()
        """Hosts whose triggerers cannot handle user actions."""

    def read(self) -> dict[TaskKey, TaskRow]:
        """Return the current state of all tasks."""
        with self._engine.connect() as connection:
            rows = connection.execute(text(_TASKS)).all()
        return {
            (row.task_id, row.map_index): TaskRow(
                row.state or "",
                row.try_number,
                row.max_tries,
                row.pid,
                row.triggerer_id is not None
                and row.triggerer_id == row.newest_triggerer
                and row.triggerer_host not in self.unavailable_hosts,
                bool(row.has_run),
            )
            for row in rows
        }

    def healthy_jobs(self) -> dict[str, int]:
        """Return the id of the newest healthy job of each Airflow component."""
        return {
            job_type: number for (job_type, _), number in sorted(self.healthy_jobs_by_host().items(), key=itemgetter(1))
        }

    def healthy_jobs_by_host(self) -> dict[tuple[str, str], int]:
        """Return the id of the newest healthy job of each type and host."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(_JOB)).all()
        return {
            (row.job_type, row.hostname): row.id
            for row in sorted(rows, key=lambda row: row.id)
            if (row.latest_heartbeat - row.start_date).total_seconds() > _HEALTHY_AFTER
        }

    def triggers(self) -> dict[int, str]:
        """Return the host of the triggerer that each trigger is assigned to."""
        query = text("SELECT trigger.id, hostname FROM trigger JOIN job ON job.id = triggerer_id")
        with self._engine.connect() as connection:
            return {row.id: row.hostname for row in connection.execute(query)}

    def task_states(self) -> dict[TaskKey, tuple[float, str]]:
        """Return the stored task states as text, each with its update time in epoch seconds."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(_TASK_STATES)).all()
        return {(row.task_id, row.map_index): (_epoch(row.updated_at), str(row.value)) for row in rows}

    def results(self) -> dict[TaskKey, Any]:
        """Return the return values of the tasks that have one."""
        query = text("SELECT task_id, map_index, value FROM xcom WHERE key = 'return_value'")
        with self._engine.connect() as connection:
            return {(row.task_id, row.map_index): _parse_json(row.value) for row in connection.execute(query)}

    def pushed(self) -> dict[TaskKey, list[tuple[str, int]]]:
        """Return job id and run count of the runs in the other XComs of each task's last try."""
        query = text(
            "SELECT task_id, map_index, key, value FROM xcom WHERE key IN ('job_id', 'run_count', 'run_counts')"
        )
        values: dict[TaskKey, dict[str, Any]] = {}
        with self._engine.connect() as connection:
            for row in connection.execute(query):
                values.setdefault((row.task_id, row.map_index), {})[row.key] = _parse_json(row.value)
        return {task_key: list(_parse_pushed_runs(xcoms)) for task_key, xcoms in values.items()}

    def log_tail(self, case: Case, lines: int) -> Iterator[str]:
        """Yield the last log lines of a task's latest tries."""
        folder = f"**/task_id={case.task_id}/**/"
        files = [*self._logs.glob(f"{folder}map_index={case.map_index}/attempt=*.log*")]
        for file in sorted(files, key=lambda file: file.stat().st_mtime)[-3:]:
            yield f"--- {file.name}"
            yield from map(_format_line, file.read_text("utf-8", errors="replace").splitlines()[-lines:])


def parse_results(result: Any) -> list[RunResult]:
    """Return the runs in the result of a task."""
    if isinstance(result, Mapping):
        result = result.get("instances", [result])
    if not isinstance(result, list):
        return []
    return [RunResult(run["job_id"], run["run_count"], str(run["outcome"])) for run in result]


def _epoch(time: datetime) -> float:
    # SQLite does not store time zones.
    return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).timestamp()


def _parse_pushed_runs(values: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    if "run_count" in values:
        yield str(values.get("job_id")), int(values["run_count"])
    for job_id, run_count in (values.get("run_counts") or {}).items():
        yield job_id, int(run_count)


def is_worker(process: psutil.Process) -> bool:
    """Return whether a process is a worker that supervises a task or waits for the next one."""
    title = " ".join(process.cmdline())
    return any(part in title for part in _WORKERS)


def _is_supervised(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        parent = process.parent()
        return process.status() != psutil.STATUS_ZOMBIE and parent is not None and is_worker(parent)
    except psutil.NoSuchProcess:
        return False


def _parse_json(value: Any) -> Any:
    # The PostgreSQL driver returns parsed JSON, the SQLite driver returns text.
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _format_line(line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or []]
    return " | ".join([f"{str(entry.get('timestamp', ''))[11:23]} {entry.get('event', line)}", *errors])
