"""The example DAGs on a sandbox whose seed is a snapshot of another sandbox."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_streamsets.cli.snapshot import dump_snapshot, take_snapshot
from airflow_provider_streamsets.control_hub import ControlHubClient, submission
from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from tests.documentation import EXAMPLES, ROOT
from tests.kit_plugin import OPTIONS
from tests.system.examples import EXAMPLES as DAG_IDS

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

# `DAG.test()` runs no asset watchers, and one task after another in any order. One of the other DAGs is triggered by
# watchers; the other has a sensor for a run that a parallel task starts.
DAGS = sorted({*DAG_IDS, "streamsets_check_stock"} - {"streamsets_wait_for_run"})
TEST = f"""
import pytest
from airflow.dag_processing.dagbag import DagBag

DAGS = DagBag({str(EXAMPLES)!r}).dags


@pytest.mark.parametrize("dag_id", {DAGS!r})
def test_example(dag_id, control_hub_connection, fast_forward):
    control_hub_connection("streamsets_production")
    run = DAGS[dag_id].test()
    assert run.state == "success", {{task.task_id: task.state for task in run.get_task_instances()}}
"""


@pytest.fixture
def seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A snapshot of a sandbox in which jobs have run."""
    path = tmp_path / "seed.yaml"
    with SandboxProcess() as sandbox:
        sandbox.freeze()
        monkeypatch.setattr(submission, "wall_clock", lambda: sandbox.now() / 1000)
        for name in ("Quick check", "Inventory snapshot"):
            sandbox.start_job(name)
            sandbox.advance(600)
        with ControlHubClient(sandbox.url, sandbox.credential_id, sandbox.token) as client:
            jobs = [*client.jobs.list(), *client.jobs.list(templates=True)]
            path.write_text(dump_snapshot(take_snapshot(client, jobs)), "utf-8")
    return path


def test_examples_succeed_on_snapshot(seed):
    home = seed.parent
    (home / "test_examples.py").write_text(TEST, "utf-8")
    (home / "pytest.ini").write_text(f"[pytest]\nstreamsets_seed = {seed.name}\n", "utf-8")
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
        "PYTHONPATH": str(ROOT),
    }
    output = ""
    for command in (["airflow", "db", "migrate"], ["pytest", "-p", "no:cacheprovider", *OPTIONS]):
        done = subprocess.run(
            [sys.executable, "-m", *command], env=environment, cwd=home, capture_output=True, text=True, check=False
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
    assert f"{len(DAGS)} passed" in output
