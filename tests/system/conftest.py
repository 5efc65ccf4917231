from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from xdist.scheduler import LoadScopeScheduling

from dev.local_airflow import LocalAirflow
from dev.local_sandbox import SandboxProcess
from tests.system.examples import Ran, run_examples
from tests.system.leaks import LeakWatch, forms_of

ROOT = Path(__file__).resolve().parent.parent.parent


# Files with an Airflow of their own. All others share one.
_APART = ("test_chaos", "test_dags_test_command", "test_watchers_on_a_real_airflow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what looks at all that was left behind run last."""
    items.sort(key=lambda item: "test_no_secret_is_left_behind" in item.nodeid)


class _ByAirflow(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0]).stem
        return file if file in _APART else "shared"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Give all tests that share an Airflow to one worker."""
    return _ByAirflow(config, log)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[SandboxProcess]:
    """The Control Hub of the examples, all of which run at the same time."""
    with SandboxProcess("--log-level", "info", time_scale=5) as process:
        yield process


@pytest.fixture(scope="session")
def hub() -> Iterator[SandboxProcess]:
    """The Control Hub of the tests' own DAGs, which run one after the other: a test may freeze it or count requests."""
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
def hubs(sandbox: SandboxProcess, hub: SandboxProcess, production: SandboxProcess) -> dict[str, SandboxProcess]:
    """All Control Hubs by the ids of their connections."""
    return {"streamsets_default": sandbox, "streamsets_system": hub, "streamsets_production": production}


@pytest.fixture(scope="session")
def secrets(hubs: dict[str, SandboxProcess]) -> frozenset[bytes]:
    """What must not be seen anywhere."""
    return frozenset().union(*(forms_of(process.token) for process in hubs.values()))


@pytest.fixture(scope="session")
def watch(home: Path, secrets: frozenset[bytes]) -> Iterator[LeakWatch]:
    """Watches that Airflow from its start to its end."""
    with LeakWatch(home, secrets) as watching:
        yield watching


@pytest.fixture(scope="session")
def airflow(home: Path, hubs: dict[str, SandboxProcess], watch: LeakWatch) -> Iterator[LocalAirflow]:
    """One real Airflow for most system tests, with the examples and the DAGs of this folder."""
    dags = home / "dags"
    # The watchers have an Airflow of their own, whose triggerer is killed.
    shutil.copytree(ROOT / "example_dags", dags, ignore=shutil.ignore_patterns("after_finished_runs.py"))
    for file in (Path(__file__).parent / "dags").glob("*.py"):
        shutil.copy(file, dags)
    # Stored, and not in the environment, so that no process has the tokens before it asks for them.
    with LocalAirflow(home, dags, {"AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode()}) as running:
        running.start()
        for conn_id, process in hubs.items():
            fields = json.loads(process.airflow_conn)
            extra = json.dumps(fields.pop("extra", {}))
            running.api("POST", "/connections", {"connection_id": conn_id, **fields, "extra": extra})
        yield running


@pytest.fixture(scope="session")
def ran(airflow: LocalAirflow) -> dict[str, Ran]:
    """The examples, run once for all tests."""
    return run_examples(airflow)
