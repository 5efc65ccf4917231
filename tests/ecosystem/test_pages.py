"""
The pages about other tools, whose DAGs run in an environment with these tools.

``make test-ecosystem`` makes the environment.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from tests.documentation import ROOT, needs_other_tools, page_blocks

BIN = ROOT / ".venv-ecosystem/bin"
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not (BIN / "airflow").exists(), reason="`make test-ecosystem` installs the other tools"),
]


def block(page: str, language: str) -> str:
    """Return the only code block of a page in a language."""
    ((_, code),) = [found for found in page_blocks(language) if found[0] == f"docs/howto/{page}.md"]
    return code


@pytest.fixture(scope="module")
def hub() -> Iterator[SandboxProcess]:
    with SandboxProcess(time_scale=20) as process:
        yield process


@pytest.fixture(scope="module")
def environment(hub: SandboxProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of an Airflow with an empty folder of DAGs."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DAG_FACTORY__ENABLE_TELEMETRY": "False",
        "AIRFLOW_CONN_STREAMSETS_DEFAULT": hub.airflow_conn,
        "AIRFLOW_CONN_PYDANTICAI_DEFAULT": "pydanticai://",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    subprocess.run([str(BIN / "airflow"), "db", "migrate"], env=environment, capture_output=True, check=True)
    return environment


@pytest.fixture
def run_dags(environment: dict[str, str]) -> Callable[..., dict[str, Any]]:
    """Runs the DAGs of a file with a scripted model, and returns what was found."""

    def run(name: str, files: dict[str, str], script: list[Any]) -> dict[str, Any]:
        home = Path(environment["AIRFLOW_HOME"])
        for file in (home / "dags").iterdir():
            if file.is_file():
                file.unlink()
        for file_name, text in files.items():
            (home / "dags" / file_name).write_text(text, "utf-8")
        (home / "script.json").write_text(json.dumps(script), "utf-8")
        program = [str(BIN / "python"), str(ROOT / "tests/ecosystem/run_dags.py")]
        done = subprocess.run(
            [*program, str(home / "dags" / name), str(home / "script.json")],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("found: ")]
        assert lines, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(lines[0].removeprefix("found: "))
        return found

    return run


def test_yaml_dag_runs(run_dags, hub):
    files = {"load_yaml.py": block("yaml-dags", "python"), "streamsets.yaml": block("yaml-dags", "yaml")}
    found = run_dags("load_yaml.py", files, [])
    assert (found["errors"], found["states"]) == ({}, {"customers_from_yaml": "success"})
    assert found["results"]["count"] == "500 records"
    assert [start["run_count"] for start in hub.starts("Inventory snapshot")] == [1]


def test_misspelled_parameter_of_yaml_dag_is_import_error(run_dags):
    text = block("yaml-dags", "yaml").replace("deferrable:", "deferable:")
    found = run_dags("load_yaml.py", {"load_yaml.py": block("yaml-dags", "python"), "streamsets.yaml": text}, [])
    (error,) = found["errors"].values()
    assert "ControlHubRunJobOperator" in error
    assert "deferable" in error


def test_agent_reads_failed_run(run_dags, hub):
    script = [
        ["list_jobs", {"tag": "nightly/customers"}],
        ["list_runs", {"job_name": "Customers nightly", "limit": 1}],
        ["explain_run", {"job_name": "Customers nightly"}],
        "The column 'address_2' is missing.",
    ]
    found = run_dags("agent.py", {"agent.py": block("agents", "python")}, script)
    assert (found["errors"], found["states"]) == ({}, {"explain_failures": "success"})
    assert found["results"]["explain"] == script[-1]
    assert found["tools"] == [call[0] for call in script[:-1]]
    (job,) = json.loads(found["returned"]["list_jobs"])
    (run,) = json.loads(found["returned"]["list_runs"])
    assert job["job_name"] == run["job_name"] == "Customers nightly"
    assert (run["run_count"], run["outcome"]) == (job["run_count"], "FAILED")
    assert "column 'address_2' does not exist" in found["returned"]["explain_run"]
    assert hub.token not in json.dumps(found)
    assert hub.starts() == [start for start in hub.starts() if start["job_name"] == "Inventory snapshot"]


def test_all_pages_about_other_tools_are_run():
    pages = {page for page, code in page_blocks("python") if needs_other_tools(code)}
    assert pages == {"docs/howto/agents.md", "docs/howto/yaml-dags.md"}
