"""The tasks in Airflow's database, as they are at a moment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import DateTime, Integer, Text, column, create_engine, select, table, text
from sqlalchemy.pool import NullPool

from tests.chaos.history import Delivery
from tests.chaos.plan import Case

Place = tuple[str, int]
"""Task id and map index."""
_TASKS = """
SELECT task_id, map_index, state, try_number, max_tries, pid, triggerer_id,
    (SELECT max(id) FROM job WHERE job_type = 'TriggererJob') AS newest_triggerer,
    EXISTS (
        SELECT 1 FROM xcom
        WHERE xcom.task_id = task_instance.task_id AND xcom.map_index = task_instance.map_index
            AND xcom.key IN ('run_count', 'run_counts') AND xcom.timestamp >= task_instance.start_date
    ) AS has_run
FROM task_instance LEFT JOIN trigger ON trigger.id = task_instance.trigger_id
"""


_JOB = table(
    "job",
    column("id", Integer),
    column("job_type", Text),
    column("start_date", DateTime),
    column("latest_heartbeat", DateTime),
)
_RECORDS = table(
    "task_state_store",
    column("task_id", Text),
    column("map_index", Integer),
    column("value", Text),
    column("updated_at", DateTime),
)
# Seconds after which a component has taken up its work.
_BEATING = 6.0


@dataclass(frozen=True)
class TaskRow:
    """
    A task instance now.

    :param state: Airflow's state; empty if it has none
    :param tries: the number of its try
    :param max_tries: how often it can be tried again; grows with each clear
    :param pid: its process, on a worker
    :param is_on_triggerer: whether the triggerer that was started last has its trigger
    :param has_run: whether it has told which run it waits for
    """

    state: str
    tries: int
    max_tries: int
    pid: int | None
    is_on_triggerer: bool
    has_run: bool

    @property
    def waits(self) -> bool:
        """Whether it waits for a run, and somebody is there who is told when a person ends it."""
        if not self.has_run:
            return False
        if self.state == "deferred":
            return self.is_on_triggerer
        return self.state == "running" and self.pid is not None and _is_supervised(self.pid)


class TaskTable:
    """
    The tasks of the only DAG run.

    :param database: of Airflow
    :param home: of Airflow, for the logs
    """

    def __init__(self, database: str, home: Path) -> None:
        self._engine = create_engine(database, poolclass=NullPool)
        self._home = home

    def read(self) -> dict[Place, TaskRow]:
        """Return all tasks as they are now."""
        with self._engine.connect() as connection:
            rows = connection.execute(text(_TASKS)).all()
        return {
            (row.task_id, row.map_index): TaskRow(
                row.state or "",
                row.try_number,
                row.max_tries,
                row.pid,
                row.triggerer_id is not None and row.triggerer_id == row.newest_triggerer,
                bool(row.has_run),
            )
            for row in rows
        }

    def beating_jobs(self) -> dict[str, int]:
        """Return the number of the newest job of each Airflow component that has had some heartbeats."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(_JOB.c.id, _JOB.c.job_type, _JOB.c.start_date, _JOB.c.latest_heartbeat))
            return {
                row.job_type: row.id
                for row in sorted(rows, key=lambda row: row.id)
                if (row.latest_heartbeat - row.start_date).total_seconds() > _BEATING
            }

    def records(self) -> dict[Place, tuple[float, str]]:
        """Return what tasks have written down for their next tries, as text, and when, in epoch seconds."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(_RECORDS)).all()
        return {(row.task_id, row.map_index): (_epoch(row.updated_at), str(row.value)) for row in rows}

    def results(self) -> dict[Place, Any]:
        """Return what the tasks have returned, as far as they have."""
        query = text("SELECT task_id, map_index, value FROM xcom WHERE key = 'return_value'")
        with self._engine.connect() as connection:
            return {(row.task_id, row.map_index): _loaded(row.value) for row in connection.execute(query)}

    def pushed(self) -> dict[Place, list[tuple[str, int]]]:
        """Return job id and run count of the runs in the other XComs of the tasks' last tries."""
        query = text(
            "SELECT task_id, map_index, key, value FROM xcom WHERE key IN ('job_id', 'run_count', 'run_counts')"
        )
        values: dict[Place, dict[str, Any]] = {}
        with self._engine.connect() as connection:
            for row in connection.execute(query):
                values.setdefault((row.task_id, row.map_index), {})[row.key] = _loaded(row.value)
        return {place: list(_runs_of(of_task)) for place, of_task in values.items()}

    def log_tail(self, case: Case, lines: int) -> Iterator[str]:
        """Return the last lines of the log of each of the last tries of a task."""
        folder = f"**/task_id={case.task_id}/**/"
        files = [*(self._home / "logs").glob(f"{folder}map_index={case.map_index}/attempt=*.log*")]
        for file in sorted(files, key=lambda file: file.stat().st_mtime)[-3:]:
            yield f"--- {file.name}"
            yield from map(_line, file.read_text("utf-8", errors="replace").splitlines()[-lines:])


def deliveries_of(result: Any) -> list[Delivery]:
    """Return the runs that the result of a task names."""
    if isinstance(result, Mapping):
        result = result.get("instances", [result])
    if not isinstance(result, list):
        return []
    return [Delivery(run["job_id"], run["run_count"], str(run["outcome"])) for run in result]


def _epoch(time: datetime) -> float:
    # SQLite knows no time zones.
    return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).timestamp()


def _runs_of(values: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    if "run_count" in values:
        yield str(values.get("job_id")), int(values["run_count"])
    for job_id, run_count in (values.get("run_counts") or {}).items():
        yield job_id, int(run_count)


def _is_supervised(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        parent = process.parent()
        return (
            process.status() != psutil.STATUS_ZOMBIE
            and parent is not None
            and "LocalExecutor" in " ".join(parent.cmdline())
        )
    except psutil.NoSuchProcess:
        return False


def _loaded(value: Any) -> Any:
    # PostgreSQL's driver has parsed it already, SQLite's has not.
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _line(line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or []]
    return " | ".join([f"{str(entry.get('timestamp', ''))[11:23]} {entry.get('event', line)}", *errors])
