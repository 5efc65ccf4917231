from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from xdist.scheduler import LoadScopeScheduling

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from dev.local_airflow import COMPONENTS, LocalAirflow
from dev.local_postgres import database_url
from tests.system.examples import FinishedDagRun, run_examples
from tests.system.leaks import LeakDetector, encodings_of

ROOT = Path(__file__).resolve().parent.parent.parent


# Files that do not use the shared Airflow.
_SEPARATE = (
    "test_chaos",
    "test_dags_test_command",
    "test_openlineage",
    "test_own_airflow",
    "test_push",
    "test_snapshot",
    "test_watchers",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the search for secrets last."""
    items.sort(key=lambda item: "test_secrets" in item.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the last lines of the shared Airflow's logs to the report of a failed test."""
    report = yield
    airflow = item.funcargs.get("airflow") if isinstance(item, pytest.Function) else None
    if report.failed and isinstance(airflow, LocalAirflow):
        report.sections += [(f"{component}.log", airflow.log_tail(component)) for component in COMPONENTS]
    return report


class _ByAirflow(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0]).stem
        return file if file in _SEPARATE else "shared"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Assign all tests that share an Airflow to one worker."""
    return _ByAirflow(config, log)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[SandboxProcess]:
    """The Control Hub of the examples, which run concurrently."""
    with SandboxProcess("--log-level", "info", time_scale=5) as process:
        yield process


@pytest.fixture(scope="session")
def hub() -> Iterator[SandboxProcess]:
    """The Control Hub of the test DAGs, which run sequentially, so a test may freeze it or count requests."""
    with SandboxProcess("--log-level", "info", time_scale=5) as process:
        yield process


@pytest.fixture(scope="session")
def production() -> Iterator[SandboxProcess]:
    """A second Control Hub as the target of promoted jobs."""
    with SandboxProcess("--log-level", "info", time_scale=5) as process:
        yield process


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home of the shared Airflow."""
    return tmp_path_factory.mktemp("airflow")


@pytest.fixture(scope="session")
def database(home: Path) -> Iterator[str]:
    """The URL of the database of the shared Airflow: PostgreSQL if installed, as many DAGs are too slow with SQLite."""
    with database_url(home) as url:
        yield url


@pytest.fixture(scope="session")
def hubs(sandbox: SandboxProcess, hub: SandboxProcess, production: SandboxProcess) -> dict[str, SandboxProcess]:
    """All Control Hubs by connection id."""
    return {"streamsets_default": sandbox, "streamsets_system": hub, "streamsets_production": production}


@pytest.fixture(scope="session")
def secrets(hubs: dict[str, SandboxProcess]) -> frozenset[bytes]:
    """All encodings of the tokens, which must not appear anywhere."""
    return frozenset().union(*(encodings_of(process.token) for process in hubs.values()))


@pytest.fixture(scope="session")
def leak_detector(home: Path, database: str, secrets: frozenset[bytes]) -> Iterator[LeakDetector]:
    """Scans the shared Airflow for secrets while it runs."""
    with LeakDetector(home, database, secrets) as detector:
        yield detector


@pytest.fixture(scope="session")
def airflow(
    home: Path, database: str, hubs: dict[str, SandboxProcess], leak_detector: LeakDetector
) -> Iterator[LocalAirflow]:
    """The Airflow shared by most system tests, with the example and test DAGs."""
    dags = home / "dags"
    # Assets have their own Airflow, whose triggerer is killed.
    ignore = shutil.ignore_patterns("after_finished_runs.py", "asset_partitions.py")
    shutil.copytree(ROOT / "example_dags", dags, ignore=ignore)
    for file in (Path(__file__).parent / "dags").glob("*.py"):
        shutil.copy(file, dags)
    # Store the connections in the database: environment variables would expose the tokens to all processes.
    environment = {"AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode()}
    with LocalAirflow(home, dags, environment, database=database) as running:
        running.start(connections={conn_id: process.airflow_conn for conn_id, process in hubs.items()})
        yield running


@pytest.fixture(scope="session")
def finished_runs(airflow: LocalAirflow) -> dict[str, FinishedDagRun]:
    """The finished runs of the examples, by DAG id."""
    return run_examples(airflow)
