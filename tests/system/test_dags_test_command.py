"""The DAGs and tests of README and documentation, as they stand, in the one process of ``dag.test()``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from tests.documentation import EXAMPLES, ROOT, is_test, page_blocks, write_dags
from tests.kit_plugin import OPTIONS

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

BIN = Path(sys.executable).parent
_TEST = """
import sys
from airflow.dag_processing.dagbag import DagBag

dags = DagBag(sys.argv[1]).dags
for dag, date in [(dags["orders"], {}), *((dag, {"logical_date": None}) for dag in dags.values())]:
    run = dag.test(**date)
    print("ended:", dag.dag_id, "dated" if run.logical_date else "undated", run.state.value)
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[SandboxProcess]:
    with SandboxProcess(time_scale=20) as process:
        yield process


@pytest.fixture(scope="module")
def run(hub: SandboxProcess, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs a program of the environment with the documented DAGs, and returns what it printed."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    write_dags(home / "dags")
    tests = [code for _, code in page_blocks("python") if is_test(code)]
    for number, code in enumerate(tests, 1):
        (home / f"test_block_{number}.py").write_text(code, "utf-8")
    (home / "example_dags").symlink_to(EXAMPLES)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_STREAMSETS_DEFAULT": hub.airflow_conn,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }

    def run(program: str, *arguments: str, **variables: str) -> str:
        done = subprocess.run(
            [str(BIN / program), *arguments],
            env={**environment, **variables},
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    run("airflow", "db", "migrate")
    return run


def test_documented_dags_run_with_and_without_logical_date(run, hub):
    output = run("python", "-c", _TEST, "dags")
    ended = [tuple(line.split()[1:]) for line in output.splitlines() if line.startswith("ended: ")]
    dags = {"orders", "orders_with_policy", "good_orders", "snapshot", "after_orders", "after_pushed_orders"}
    assert {dag_id for dag_id, _, _ in ended} == dags
    assert {(dated, state) for dag_id, dated, state in ended if dag_id == "orders"} == {
        ("dated", "success"),
        ("undated", "success"),
    }
    assert [state for _, _, state in ended] == ["success"] * (len(dags) + 1), output
    assert "succeeded (job " in output
    assert hub.token not in output
    assert [start["run_count"] for start in hub.starts("Orders to warehouse")] == [4, 5, 6, 7]


def test_documented_tests_pass(run):
    # They need no connection but that of the kit.
    variables = {"AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES), "AIRFLOW_CONN_STREAMSETS_DEFAULT": ""}
    output = run("python", "-m", "pytest", "-p", "no:cacheprovider", *OPTIONS, **variables)
    assert f"{len(_documented_tests())} passed" in output


def test_first_documented_test_has_five_lines():
    code = next(code for _, code in page_blocks("python") if is_test(code))
    assert len([line for line in code.splitlines() if line]) == 5


def _documented_tests() -> list[str]:
    code = "\n".join(code for _, code in page_blocks("python") if is_test(code))
    return re.findall(r"^def (test_\w+)", code, re.MULTILINE)
