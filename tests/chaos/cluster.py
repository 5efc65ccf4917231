"""
The environment of ``make chaos-cluster``: a cluster on one machine.

Airflow with the CeleryExecutor, PostgreSQL and Redis: two schedulers, two triggerers and two Celery workers, as if each
ran on a machine of its own. Logs are moved to a shared folder. Each triggerer has its own proxy for the sandbox. A
component that exits by itself is restarted, as by a service manager. At first, all components run an earlier version of
the provider, and one of them has a wrong clock.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from dev.local_airflow import LocalAirflow
from dev.local_postgres import LocalPostgres
from dev.local_redis import LocalRedis
from tests.benchmarks.waiting.proxy import FaultProxy
from tests.chaos.environment import (
    CONNECTION,
    ROOT,
    Environment,
    airflow_environment,
    make_connection,
    make_home,
    make_sandbox,
)
from tests.chaos.hosts import HOST_VARIABLE, LOGS_VARIABLE
from tests.chaos.plan import Plan
from tests.chaos.tasks import DAGS

SCHEDULERS = ("scheduler-1", "scheduler-2")
TRIGGERERS = ("triggerer-1", "triggerer-2")
WORKERS = ("worker-1", "worker-2")
_WORKER = ("celery", "worker", "--skip-serve-logs", "--without-mingle", "--without-gossip", "--celery-hostname")
COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "api-server": ("api-server",),
    **dict.fromkeys(SCHEDULERS, ("scheduler", "--skip-serve-logs")),
    **dict.fromkeys(TRIGGERERS, ("triggerer", "--skip-serve-logs")),
    **{name: (*_WORKER, name) for name in WORKERS},
    "dag-processor": ("dag-processor",),
}
PROGRAMS = ROOT / ".venv-cluster/bin"
"""Programs of the environment with Celery."""
_TIMEOUT = 300.0
CONCURRENCY = 8
"""Tasks that a Celery worker runs at the same time."""
_SETTINGS = {
    "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
    "AIRFLOW__CORE__PARALLELISM": "14",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "14",
    "AIRFLOW__CORE__HOSTNAME_CALLABLE": "tests.chaos.hosts.host_name",
    "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(CONCURRENCY),
    "AIRFLOW__CELERY__SYNC_PARALLELISM": "1",
    "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS": "tests.chaos.hosts.LOGGING_CONFIG",
}
_UPGRADE_ORDER = (
    *("triggerer-1", "worker-1", "scheduler-1", "dag-processor"),
    *("worker-2", "triggerer-2", "scheduler-2", "api-server"),
)
_FAKETIME = "faketime/libfaketimeMT.so.1"
_SHARED_MEMORY = Path("/dev/shm")
_CLOCKS = (("worker-2", "+90"), ("worker-1", "-90"), ("triggerer-2", "+90"))
_ROWS = "tests/unit/triggers/stored_rows_*.json"


class ClusterError(Exception):
    """A program that the cluster needs is missing; the message says how to install it."""


@dataclass(frozen=True)
class Cluster(Environment):
    """
    The running services.

    :param postgres: server of Airflow's database
    :param redis: the broker
    :param proxies: the proxy of each triggerer for the sandbox
    :param outdated: components that run the earlier version, in the order of their upgrade
    :param revision: the earlier version; empty without Git, where no component is upgraded
    :param clock_host: component whose clock is wrong
    :param clock_offset: by how many seconds, with a sign
    """

    postgres: LocalPostgres
    redis: LocalRedis
    proxies: Mapping[str, FaultProxy]
    outdated: list[str]
    revision: str
    clock_host: str
    clock_offset: str

    def upgrade_component(self) -> None:
        """Restart the next component with today's version of the provider."""
        component = self.outdated.pop(0)
        environments = self.airflow.component_environments
        environments[component] = {
            name: value for name, value in environments[component].items() if name != "PYTHONPATH"
        }
        self.airflow.restart_component(component)


@contextmanager
def run_cluster(folder: Path, plan: Plan) -> Iterator[Cluster]:
    """
    Start all services, and stop them at the end.

    :param folder: folder for all files
    :param plan: the plan, which determines jobs, faults, tasks, and whose clock is wrong
    """
    with ExitStack() as exits:
        exits.callback(_remove_faketime_files)
        postgres = exits.enter_context(LocalPostgres())
        redis = exits.enter_context(LocalRedis())
        sandbox = exits.enter_context(make_sandbox(folder, plan))
        proxies = {triggerer: exits.enter_context(FaultProxy(sandbox.port)) for triggerer in TRIGGERERS}
        logs = folder / "logs"
        environment = {
            **airflow_environment(folder, plan),
            **_SETTINGS,
            "AIRFLOW__CELERY__BROKER_URL": redis.url,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{postgres.url}",
            LOGS_VARIABLE: str(logs),
        }
        airflow = exits.enter_context(
            LocalAirflow(
                make_home(folder),
                DAGS,
                environment,
                database=postgres.url,
                programs=PROGRAMS,
                components=COMPONENTS,
                restarts_components=True,
            )
        )
        connection = make_connection(sandbox, plan)
        revision = _earlier_revision()
        earlier = {"PYTHONPATH": f"{_export(revision, folder / 'earlier')}:{ROOT}"} if revision else {}
        for component in COMPONENTS:
            airflow.component_environments[component] = {HOST_VARIABLE: component, **earlier}
        for triggerer, proxy in proxies.items():
            variable = {f"AIRFLOW_CONN_{CONNECTION.upper()}": _connection_through(proxy, connection)}
            airflow.component_environments[triggerer] |= variable
        clock_host, clock_offset = _CLOCKS[plan.seed % len(_CLOCKS)]
        airflow.component_environments[clock_host] |= _wrong_clock(clock_offset)
        airflow.start(_TIMEOUT)
        airflow.api("POST", "/connections", {"connection_id": CONNECTION, **connection})
        yield Cluster(
            sandbox,
            airflow,
            postgres.url,
            logs,
            postgres=postgres,
            redis=redis,
            proxies=proxies,
            outdated=list(_UPGRADE_ORDER) if revision else [],
            revision=revision,
            clock_host=clock_host,
            clock_offset=clock_offset,
        )


def _connection_through(proxy: FaultProxy, connection: Mapping[str, Any]) -> str:
    """Return the connection with the address of a proxy, as the value of an environment variable."""
    return json.dumps({**connection, "host": proxy.url})


def _wrong_clock(seconds: str) -> dict[str, str]:
    """Return the environment variables with which a process sees a wrong time, as programs in C and Python read it."""
    libraries = sorted(Path("/usr/lib").glob(f"*/{_FAKETIME}"))
    if not libraries:
        raise ClusterError("libfaketime not found in /usr/lib. Install Debian's package: apt-get install faketime")
    return {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME": f"{seconds}s",
        # Otherwise, locks wait 90 seconds too long.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _remove_faketime_files() -> None:
    """Remove the shared memory of processes with a wrong clock that were killed."""
    for file in _SHARED_MEMORY.glob("*faketime_s*_*"):
        if not psutil.pid_exists(int(file.name.rpartition("_")[2])):
            file.unlink(missing_ok=True)


def _earlier_revision() -> str:
    """Return the last release or, before the first, the commit that last changed the stored rows; empty without Git."""
    release = _git("tag", "--list", "v*", "--merged", "HEAD", "--sort", "-version:refname").split()
    return release[0] if release else _git("log", "-1", "--format=%h", "--", _ROWS).strip()


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout


def _export(revision: str, folder: Path) -> Path:
    """Write the package of a revision into a folder."""
    archive = subprocess.run(
        ["git", "archive", revision, "airflow_provider_streamsets"], cwd=ROOT, capture_output=True, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder
