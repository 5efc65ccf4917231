"""The commands with every version of Airflow; `tests/integration/test_cli.py` runs them against a sandbox."""

from __future__ import annotations

import json

import pytest

from airflow_provider_streamsets.__main__ import main
from airflow_provider_streamsets.cli.definition import get_commands
from tests.unit.fakes.api_payloads import JOB_NAME, issues_json, job_json, run_json
from tests.unit.fakes.single_job_hub import HUB

JR = f"{HUB}/jobrunner/rest/v1"
SEC = f"{HUB}/security/rest/v1"


@pytest.fixture(autouse=True)
def hub(http, connection):
    """A Control Hub with one job and no engines."""
    http.get(f"{SEC}/currentUser", json={"principalId": "me@org", "principalName": "Me", "organizationName": "Org"})
    http.get(f"{JR}/jobs", json={"totalCount": 1, "data": [job_json(currentJobStatus=run_json(4))]})
    http.get(f"{JR}/sdcs", json=[])


def test_check(capsys):
    main(["check", "-o", "json"])
    facts = json.loads(capsys.readouterr().out)
    assert {name: facts[name] for name in ("control_hub", "user", "organization", "jobs", "engines")} == {
        "control_hub": HUB,
        "user": "Me",
        "organization": "Org",
        "jobs": 1,
        "engines": 0,
    }


@pytest.mark.parametrize("output", ["table", "plain", "yaml", "json"])
def test_jobs(capsys, output):
    main(["jobs", "-o", output])
    assert JOB_NAME in capsys.readouterr().out


def test_error_is_the_message_of_the_exit(http):
    http.get(f"{JR}/jobs", status_code=400, json=issues_json(("JOBRUNNER_1", "no such filter")))
    with pytest.raises(SystemExit, match="no such filter"):
        main(["jobs"])


def test_each_command_is_declared_with_help():
    (group,) = get_commands()
    assert group.name == "streamsets"
    for command in group.subcommands:
        assert command.help
        assert all(argument.kwargs.get("help") for argument in command.args)
