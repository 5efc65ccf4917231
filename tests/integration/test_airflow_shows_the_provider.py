from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

AIRFLOW = Path(sys.executable).parent / "airflow"


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("list", {"airflow-provider-streamsets"}),
        ("hooks", {"airflow_provider_streamsets.hooks.control_hub.ControlHubHook"}),
        ("links", {"airflow_provider_streamsets.links.job.ControlHubJobLink"}),
        ("triggers", {"airflow_provider_streamsets.triggers.runs"}),
        (
            "widgets",
            {
                f"extra__streamsets__{name}"
                for name in ("project_id", "login_url", "verify", "timeout", "proxies", "job_link")
            },
        ),
        ("behaviours", {"streamsets"}),
    ],
)
def test_every_providers_command_of_airflow_shows_the_provider(command, shown):
    done = subprocess.run(
        [str(AIRFLOW), "providers", command, "--output", "json"],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads(done.stdout[done.stdout.index("[") :])
    values = {value for row in rows for value in row.values() if isinstance(value, str)}
    assert shown <= values
