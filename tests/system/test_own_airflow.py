"""The commands of the README, as they stand, in a new environment with nothing but Airflow."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dev.local_airflow import LocalAirflow, wait_until
from tests.documentation import ROOT, own_airflow_commands
from tests.system.examples import TIMEOUT, wait_for_end

pytestmark = [pytest.mark.system, pytest.mark.timeout(1200)]

LOCK = ROOT / "requirements/airflow-3.3.txt"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the commands need; they write files into it."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("LICENSE", "README.md", "pyproject.toml", "setup.cfg"):
        shutil.copy(ROOT / name, folder)
    for name in ("airflow_provider_streamsets", "example_dags"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of a new environment with Airflow and pip."""
    environment = tmp_path_factory.mktemp("environment")
    uv, python = Path(sys.executable).parent / "uv", environment / "bin" / "python"
    for arguments in (
        ("venv", "--quiet", "--seed", "--allow-existing", "--python", sys.executable, environment),
        ("pip", "install", "--quiet", "--python", python, "--constraint", LOCK, "apache-airflow"),
    ):
        subprocess.run([uv, *arguments], check=True)
    return python.parent


@contextmanager
def shell(commands: list[str], airflow: LocalAirflow, clone: Path) -> Iterator[None]:
    """Run commands in one shell; what they start in the background ends with the context."""
    log = airflow.home / "commands.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["bash", "-euxo", "pipefail", "-c", "\n".join(commands)],
            cwd=clone,
            env=airflow.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        assert process.wait(600) == 0, log.read_text("utf-8")
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)


@pytest.fixture(scope="module")
def airflow(programs: Path, clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    """Airflow of the new environment, started after the first command, with its own default for new DAGs."""
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    dags.mkdir()
    environment = {
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PIP_CONSTRAINT": str(LOCK),
        "PYTHONPATH": "",
    }
    with LocalAirflow(home, dags, environment, programs=programs) as running:
        with shell(own_airflow_commands()[:1], running, clone):
            running.start()
        yield running


def test_commands_run_example(airflow, clone):
    with shell(own_airflow_commands()[1:], airflow, clone):
        path = "/dags/streamsets_run_job/dagRuns"
        (dag_run,) = wait_until(lambda: airflow.api("GET", path)["dag_runs"], "the DAG run", TIMEOUT)
        state = wait_for_end(airflow, "streamsets_run_job", dag_run["dag_run_id"])
        result = airflow.xcom("streamsets_run_job", dag_run["dag_run_id"], "load_orders")
    assert (result["job_name"], result["outcome"]) == ("Orders to warehouse", "SUCCEEDED")
    assert state == "success"


def test_list_of_providers_links_to_documentation(airflow):
    providers = {entry["package_name"]: entry for entry in airflow.api("GET", "/providers", limit=100)["providers"]}
    assert providers["airflow-provider-streamsets"]["documentation_url"] == "https://docs.streamsets.com/"
