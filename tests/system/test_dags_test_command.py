from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dev.local_sandbox import SandboxProcess

pytestmark = pytest.mark.system

BIN = Path(sys.executable).parent
EXAMPLES = Path(__file__).resolve().parent.parent.parent / "example_dags"


def test_the_example_also_runs_in_the_one_process_of_airflow_dags_test(tmp_path):
    with SandboxProcess(time_scale=20) as sandbox:
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")},
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_STREAMSETS_DEFAULT": sandbox.airflow_conn,
        }

        def airflow(*arguments: str) -> str:
            done = subprocess.run(
                [str(BIN / "airflow"), *arguments], env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout + done.stderr

        airflow("db", "migrate")
        airflow("dags", "reserialize")
        output = airflow("dags", "test", "streamsets_run_job")
        assert "has succeeded (INACTIVE/GRAY)" in output
        assert "59700 records out" in output
        assert sandbox.token not in output
        assert [start["run_count"] for start in sandbox.starts("Orders to warehouse")] == [4]
