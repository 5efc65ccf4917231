from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.local_airflow import LocalAirflow
from dev.local_sandbox import SandboxProcess

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess(time_scale=5) as process:
        yield process


@pytest.fixture(scope="session")
def production() -> Iterator[SandboxProcess]:
    """A second Control Hub, to promote jobs to."""
    with SandboxProcess(time_scale=5) as process:
        yield process


@pytest.fixture(scope="session")
def airflow(
    sandbox: SandboxProcess, production: SandboxProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalAirflow]:
    """One real Airflow for all system tests, with the examples and the DAGs of this folder."""
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    # Its watchers would look at jobs of the other tests, which count requests; it has an Airflow of its own.
    shutil.copytree(ROOT / "example_dags", dags, ignore=shutil.ignore_patterns("after_finished_runs.py"))
    for file in (Path(__file__).parent / "dags").glob("*.py"):
        shutil.copy(file, dags)
    connections = {
        "AIRFLOW_CONN_STREAMSETS_DEFAULT": sandbox.airflow_conn,
        "AIRFLOW_CONN_STREAMSETS_PRODUCTION": production.airflow_conn,
    }
    with LocalAirflow(home, dags, connections) as running:
        running.start()
        yield running
