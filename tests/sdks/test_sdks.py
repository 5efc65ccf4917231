"""
The official SDKs of earlier Control Hubs as clients of the sandbox, each in an environment of its own.

``make test-sdks`` makes the environments. The operations are those of :mod:`tests.sdks.operations`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from tests.sdks.operations import ABSENT, OK, OPERATIONS

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("4.3.0", "5.2.1", "6.3.0", "6.6.2", "7.0.2")
TABLE = ROOT / "docs/explanation/testing.md"
# Only twice as fast: the SDKs poll every second and must see pipelines RUNNING.
TIME_SCALE = 2
TIMEOUT = 240
CONCURRENT = 3

NO_BODY, OTHER_CODE, JOBRUNNER_CODE = UNKNOWN_ID = [name for name in OPERATIONS if name.startswith("unknown id")]


def expected_error(version: str, operation: str) -> str:
    """
    Return the type of the error that an SDK raises for an unknown id.

    All of them mean to raise a ValueError. The Control Hub of SDKs before version 7 sends no JOBRUNNER code.
    """
    return "JobRunnerError" if operation == JOBRUNNER_CODE and version < "7" else "ValueError"


def python_of(version: str) -> Path:
    return ROOT / f".venv-sdk-{version}/bin/python"


def run_operations(version: str) -> dict[str, dict[str, Any]]:
    """Run all operations with one SDK against a sandbox of its own, and return the results by name."""
    with SandboxProcess(time_scale=TIME_SCALE) as sandbox:
        environment = {
            **os.environ,
            "SANDBOX_URL": sandbox.url,
            "SANDBOX_LOGIN_URL": sandbox.login_url,
            "SANDBOX_ID": sandbox.credential_id,
            "SANDBOX_TOKEN": sandbox.token,
        }
        program = [str(python_of(version)), str(ROOT / "tests/sdks/operations.py")]
        process = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert process.returncode == 0, process.stderr
    return {line["name"]: line for line in map(json.loads, process.stdout.splitlines())}


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[dict[str, dict[str, Any]]]]]:
    """The results with each SDK that is tested and has an environment. They mostly wait, so several run at once."""
    tested = {item.callspec.params["version"] for item in request.session.items if hasattr(item, "callspec")}
    with ThreadPoolExecutor(CONCURRENT) as pool:
        yield {
            version: pool.submit(run_operations, version)
            for version in VERSIONS
            if version in tested and python_of(version).exists()
        }


@pytest.fixture
def result(runs: dict[str, Future[dict[str, dict[str, Any]]]], version: str, name: str) -> dict[str, Any]:
    """The result of one operation with one SDK."""
    if version not in runs:
        pytest.skip(f"there is no environment for SDK {version}: run 'make test-sdks'")
    return runs[version].result()[name]


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in UNKNOWN_ID])
@pytest.mark.parametrize("version", VERSIONS)
def test_operation_succeeds(result, version, name):
    expected = OK if OPERATIONS[name].is_in(version) else ABSENT
    assert result["outcome"] == expected, result["detail"]


@pytest.mark.parametrize("name", UNKNOWN_ID)
@pytest.mark.parametrize("version", VERSIONS)
def test_unknown_id_raises_error_of_its_time(result, version, name):
    assert result["outcome"] == OK, result["detail"]
    assert expected_error(version, name) in result["detail"]["types"]
    # The SDKs do not check for an empty body, but parse it.
    words = {NO_BODY: "Expecting value", OTHER_CODE: "not found", JOBRUNNER_CODE: "not found|does not exist"}
    assert re.search(words[name], result["detail"]["message"])


def cell(version: str, name: str) -> str:
    if name in UNKNOWN_ID:
        return f"`{expected_error(version, name)}`"
    return "yes" if OPERATIONS[name].is_in(version) else "no"


def test_table_of_documentation_is_complete():
    rows = [
        [entry.strip() for entry in line.strip("|").split("|")]
        for line in TABLE.read_text("utf-8").splitlines()
        if line.startswith("|")
    ]
    start = rows.index(["Operation", *VERSIONS])
    documented = {row[0]: row[1:] for row in rows[start + 2 : start + 2 + len(OPERATIONS)]}
    assert documented == {name: [cell(version, name) for version in VERSIONS] for name in OPERATIONS}


def test_makefile_makes_all_environments():
    (line,) = re.findall(r"^SDKS := (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert tuple(line.split()) == VERSIONS
