"""States and event times of the tasks of the benchmark's DAG."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from dev.local_airflow import LocalAirflow, wait_until

DAG_ID = "waits"
DAGS = Path(__file__).with_name("dags")
SETTINGS_VARIABLE = "BENCH_TRIGGERER_SETTINGS"
_FIRED = "Trigger fired event"


class DeferredTasks:
    """
    One run of the DAG, with a mapped task for each job.

    :param airflow: a running Airflow that contains the DAG and logs JSON
    :param database: URL of its database
    :param job_ids: job ids in the order of the map indexes
    """

    def __init__(self, airflow: LocalAirflow, database: str, job_ids: Sequence[str]) -> None:
        self._airflow = airflow
        self._engine = create_engine(database, poolclass=NullPool)
        self._job_ids = job_ids

    def start(self) -> None:
        """Start the DAG run."""
        self._airflow.trigger_dag(DAG_ID)

    def states(self) -> Counter[str]:
        """Return the number of tasks by state."""
        with self._engine.connect() as connection:
            rows = connection.execute(text("SELECT state, count(*) FROM task_instance GROUP BY state"))
            return Counter({str(state): count for state, count in rows})

    def wait_for(self, state: str, count: int, timeout: float, show: Callable[[Counter[str]], None]) -> None:
        """
        Wait until a number of tasks are in a state, or a task has failed.

        :param state: state
        :param count: number of tasks
        :param timeout: timeout in seconds
        :param show: receives the states at each poll
        """

        def reached() -> bool:
            states = self.states()
            show(states)
            return states[state] == count or states["failed"] > 0

        wait_until(reached, f"{count} tasks to be {state}. Logs are in {self._airflow.home}", timeout, interval=2)

    def event_times(self) -> dict[str, float]:
        """Return the log time of each trigger's event by job id, in epoch seconds."""
        fired = {}
        for line in self._trigger_log():
            if _FIRED in line:
                entry = json.loads(line)
                fired[self._job_ids[entry["map_index"]]] = _epoch(entry["timestamp"])
        return fired

    def _trigger_log(self) -> Iterator[str]:
        # The triggerer may notice the end of a trigger before it has read its last lines; these go to its own log.
        files = [self._airflow.home / "triggerer.log", *(self._airflow.home / "logs").rglob("*.trigger.*")]
        for file in files:
            yield from file.read_text(encoding="utf-8").splitlines()

    def scheduled_at(self) -> dict[str, float]:
        """Return by job id when the task was last scheduled according to the database, in epoch seconds."""
        with self._engine.connect() as connection:
            rows = connection.execute(text("SELECT map_index, scheduled_dttm FROM task_instance"))
            return {self._job_ids[map_index]: scheduled.timestamp() for map_index, scheduled in rows}

    def succeeded_at(self) -> dict[str, float]:
        """Return by job id when the task succeeded, in epoch seconds."""
        with self._engine.connect() as connection:
            rows = connection.execute(text("SELECT map_index, end_date FROM task_instance WHERE state = 'success'"))
            return {self._job_ids[map_index]: ended.timestamp() for map_index, ended in rows}

    def tries(self) -> int:
        """Return the highest try number of all tasks."""
        with self._engine.connect() as connection:
            return int(connection.scalar(text("SELECT max(try_number) FROM task_instance")) or 0)


def _epoch(timestamp: str) -> float:
    # Python 3.10 does not parse "Z".
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()
