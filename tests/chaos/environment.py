"""The environment: a sandbox with a state file, a database, and Airflow, each in its own processes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from dev.local_airflow import LocalAirflow
from dev.local_postgres import database_url
from tests.chaos.faults import write_faults
from tests.chaos.plan import Plan
from tests.chaos.seed import write_seed
from tests.chaos.tasks import DAGS, TASKS_VARIABLE, write_tasks

CONNECTION = "streamsets_default"
ROOT = Path(__file__).resolve().parent.parent.parent
_TIMEOUT = 180.0
# Seconds after which the database terminates an idle transaction.
_IDLE_TRANSACTION_TIMEOUT = 15
_SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "20",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "24",
    "AIRFLOW__LOGGING__JSON_LOGS": "True",
    # Detect lost processes within seconds instead of minutes.
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "4",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
}
# Seconds after which Airflow gives up on a process without a heartbeat, or on a queued task.
_LOSS_TIMEOUTS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": 15,
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": 10,
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": 60,
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": 8,
}
_MAX_SLOWDOWN = 3.0
# Airflow imports this file in all its processes. The LocalExecutor forks its workers from the scheduler, Celery from
# the worker.
_LOCAL_SETTINGS = """
import sys

from tests.chaos.callers import send_caller_header

send_caller_header()
if {"scheduler", "worker"} & set(sys.argv):
    import airflow.sdk.execution_time.task_runner
    import airflow_provider_streamsets.hooks.control_hub
    import airflow_provider_streamsets.operators.bulk
    import airflow_provider_streamsets.operators.runs
    import airflow_provider_streamsets.operators.templates
    import airflow_provider_streamsets.triggers.runs
"""


@dataclass(frozen=True)
class Environment:
    """
    The running services.

    :param sandbox: the sandbox
    :param airflow: Airflow
    :param database: URL of Airflow's database
    :param logs: folder with the logs of finished tasks
    """

    sandbox: SandboxProcess
    airflow: LocalAirflow
    database: str
    logs: Path


@contextmanager
def run_environment(folder: Path, plan: Plan) -> Iterator[Environment]:
    """
    Start all services, and stop them at the end.

    Airflow uses PostgreSQL if it is installed. With SQLite, concurrent tasks block one another.

    :param folder: folder for all files
    :param plan: the plan, which determines jobs, faults and tasks
    """
    with ExitStack() as exits:
        sandbox = exits.enter_context(make_sandbox(folder, plan))
        home = make_home(folder)
        database = _database(exits, home)
        environment = airflow_environment(folder, plan)
        airflow = exits.enter_context(LocalAirflow(home, DAGS, environment, database=database))
        airflow.start(_TIMEOUT)
        airflow.api("POST", "/connections", {"connection_id": CONNECTION, **make_connection(sandbox, plan)})
        yield Environment(sandbox, airflow, database, home / "logs")


def make_sandbox(folder: Path, plan: Plan) -> SandboxProcess:
    """Return a sandbox with the jobs and faults of a plan, which is not started."""
    return SandboxProcess(
        seed=write_seed(folder / "seed.json", plan),
        state=folder / "sandbox.state",
        faults=write_faults(folder / "faults.json", plan),
        variants={"metrics_lag": 0},
    )


def make_home(folder: Path) -> Path:
    """Create Airflow's home with the local settings."""
    home = folder / "airflow"
    (home / "config").mkdir(parents=True)
    (home / "config" / "airflow_local_settings.py").write_text(_LOCAL_SETTINGS, "utf-8")
    return home


def airflow_environment(folder: Path, plan: Plan) -> dict[str, str]:
    """Return the environment variables of all Airflow processes."""
    slowdown = _slowdown()
    return {
        **_SETTINGS,
        **{name: str(round(seconds * slowdown)) for name, seconds in _LOSS_TIMEOUTS.items()},
        # Airflow's processes run with its home as the working directory.
        "PYTHONPATH": str(ROOT),
        TASKS_VARIABLE: str(write_tasks(folder / "tasks.json", plan)),
    }


def make_connection(sandbox: SandboxProcess, plan: Plan) -> dict[str, Any]:
    """Return the fields of the Airflow connection."""
    connection = json.loads(sandbox.airflow_conn)
    extra = {**connection.pop("extra", {}), "gateway_timeout": plan.size.gateway_timeout}
    return {**connection, "extra": json.dumps(extra)}


def _slowdown() -> float:
    """Return by how much live processes may be slower here: on a loaded machine, Airflow would count them as lost."""
    return min(max(os.getloadavg()[0] / (2 * (os.cpu_count() or 1)), 1.0), _MAX_SLOWDOWN)


def _database(exits: ExitStack, home: Path) -> str:
    database = exits.enter_context(database_url(home))
    if database.startswith("sqlite"):
        return database
    # Workers of Airflow's LocalExecutor inherit the scheduler's database connection when they are forked. If only the
    # scheduler is killed, they keep the connection open, and with it the locks of a transaction that never ends.
    engine = create_engine(database, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        timeout = f"'{_IDLE_TRANSACTION_TIMEOUT}s'"
        connection.execute(text(f"ALTER DATABASE airflow SET idle_in_transaction_session_timeout = {timeout}"))
    return database
