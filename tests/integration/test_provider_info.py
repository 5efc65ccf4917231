from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

SHOWN = {
    "list": {"airflow-provider-streamsets"},
    "hooks": {"airflow_provider_streamsets.hooks.control_hub.ControlHubHook"},
    "links": {f"airflow_provider_streamsets.links.job.{name}" for name in ("ControlHubJobLink", "ControlHubRunLink")},
    "triggers": {"airflow_provider_streamsets.triggers.runs"},
    "widgets": {
        f"extra__streamsets__{name}"
        for name in ("project_id", "login_url", "verify", "timeout", "proxies", "job_link", "bulk_size")
    },
    "behaviours": {"streamsets"},
}

# Run all commands in one process, because each start of Airflow takes seconds.
_COMMANDS = """
import contextlib, io, json, sys
from airflow.cli import cli_parser
parser, shown = cli_parser.get_parser(), {}
for command in sys.argv[1:]:
    arguments = parser.parse_args(["providers", command, "--output", "json"])
    with contextlib.redirect_stdout(io.StringIO()) as output:
        arguments.func(arguments)
    shown[command] = output.getvalue()
print("RESULT" + json.dumps(shown))
"""


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict[str, Any]]]:
    """Output rows of each ``airflow providers`` command."""
    done = subprocess.run(
        [sys.executable, "-c", _COMMANDS, *SHOWN], env=dict(os.environ), capture_output=True, text=True, check=True
    )
    printed = json.loads(done.stdout.rpartition("RESULT")[2])
    return {command: json.loads(text[text.index("[{") :]) for command, text in printed.items()}


@pytest.mark.parametrize("command", SHOWN)
def test_providers_command_lists_provider(rows, command):
    values = {value for row in rows[command] for value in row.values() if isinstance(value, str)}
    assert SHOWN[command] <= values
