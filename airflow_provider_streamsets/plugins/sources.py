"""Where the pages get their data: the readers of Control Hub, and the tasks in Airflow's database."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone

from cachetools import LRUCache, TTLCache

from airflow_provider_streamsets.plugins.hub_reader import HubReader
from airflow_provider_streamsets.task_runs import TaskRuns, read_tasks

# Seconds for which the tasks are reused by all viewers, and while one of them turns pages and changes filters.
_TASKS_TTL = 10.0
_MAX_READERS = 100


class Sources:
    """The data of all pages, shared by all viewers for some seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers: LRUCache[str, HubReader] = LRUCache(_MAX_READERS)
        self._tasks_lock = threading.Lock()
        self._tasks: TTLCache[tuple[int, str], tuple[list[TaskRuns], bool]] = TTLCache(20, _TASKS_TTL)

    def reader(self, conn_id: str) -> HubReader:
        """Return the reader of the Control Hub of a connection."""
        with self._lock:
            reader = self._readers.get(conn_id)
            if reader is None:
                reader = self._readers[conn_id] = HubReader(conn_id)
            return reader

    def tasks(self, days: int, dag_id: str = "") -> tuple[list[TaskRuns], bool]:
        """
        Return the tasks with runs, newest first, and whether there are more.

        :param days: those that wait, or have found their job in the last days
        :param dag_id: only those of this DAG
        """
        with self._tasks_lock:
            tasks = self._tasks.get((days, dag_id))
            if tasks is None:
                tasks = read_tasks(datetime.now(timezone.utc) - timedelta(days=days), dag_id)
                self._tasks[days, dag_id] = tasks
            return tasks
