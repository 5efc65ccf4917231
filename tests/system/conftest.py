from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from dev.local_airflow import LocalAirflow
from dev.local_sandbox import SandboxProcess
from tests.system.examples import Ran, run_examples
from tests.system.leaks import LeakWatch, forms_of

ROOT = Path(__file__).resolve().parent.parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what looks at all that was left behind run last."""
    items.sort(key=lambda item: "test_no_secret_is_left_behind" in item.nodeid)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess("--log-level", "info", time_scale=5) as process:
        yield process


@pytest.fixture(scope="session")
def production() -> Iterator[SandboxProcess]:
    """A second Control Hub, to promote jobs to."""
    with SandboxProcess("--log-level", "info", time_scale=5) as process:
        yield process


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home of the Airflow of all system tests."""
    return tmp_path_factory.mktemp("airflow")


@pytest.fixture(scope="session")
def watch(home: Path, sandbox: SandboxProcess, production: SandboxProcess) -> Iterator[LeakWatch]:
    """Watches that Airflow from its start to its end."""
    with LeakWatch(home, forms_of(sandbox.token) | forms_of(production.token)) as watching:
        yield watching


@pytest.fixture(scope="session")
def airflow(
    home: Path, sandbox: SandboxProcess, production: SandboxProcess, watch: LeakWatch
) -> Iterator[LocalAirflow]:
    """One real Airflow for all system tests, with the examples and the DAGs of this folder."""
    dags = home / "dags"
    # Its watchers would look at jobs of the other tests, which count requests; it has an Airflow of its own.
    shutil.copytree(ROOT / "example_dags", dags, ignore=shutil.ignore_patterns("after_finished_runs.py"))
    for file in (Path(__file__).parent / "dags").glob("*.py"):
        shutil.copy(file, dags)
    # Stored, and not in the environment, so that no process has the tokens before it asks for them.
    connections = {"streamsets_default": sandbox.airflow_conn, "streamsets_production": production.airflow_conn}
    with LocalAirflow(home, dags, {"AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode()}) as running:
        running.start()
        for conn_id, connection in connections.items():
            fields = json.loads(connection)
            extra = json.dumps(fields.pop("extra", {}))
            running.api("POST", "/connections", {"connection_id": conn_id, **fields, "extra": extra})
        yield running


@pytest.fixture(scope="session")
def ran(airflow: LocalAirflow) -> dict[str, Ran]:
    """The examples, run once for all tests."""
    return run_examples(airflow)
