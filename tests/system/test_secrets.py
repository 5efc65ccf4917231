"""No token is in anything that running all examples has shown or left behind. Runs last, to see all of it."""

from __future__ import annotations

import base64
import json

import pytest

from tests.system.leaks import cells, files_with, forms_of, holds_one_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def everything_ran(ran, airflow) -> None:
    """All examples have run on this Airflow, whichever tests were chosen."""
    dags = {dag["dag_id"] for dag in airflow.api("GET", "/dags", limit=100)["dags"]}
    assert {dag_id for dag_id in dags if dag_id.startswith("streamsets_")} == set(ran)


def test_a_token_would_be_found_in_whatever_form(sandbox):
    token, forms = sandbox.token, forms_of(sandbox.token)
    for text in (
        f"Token: {token}",
        json.dumps({"headers": [token]}),
        f"x={token.split('.')[1]}&y",
        *(base64.b64encode(f"{before}{token} and more".encode()).decode() for before in ("", "a", "bc", "def")),
        repr(token.encode()),
    ):
        assert holds_one_of(forms, text)
    assert not holds_one_of(forms, f"{sandbox.credential_id} {sandbox.url}")


@pytest.mark.usefixtures("everything_ran")
def test_no_file_holds_a_token(airflow, secrets):
    sizes, found = files_with(secrets, airflow.home)
    for log in ("scheduler.log", "triggerer.log", "api-server.log", "dag-processor.log", "airflow.db"):
        assert sizes[log] > 0, log
    assert len([name for name in sizes if name.startswith("logs/dag_id=")]) > 20
    assert found == []


@pytest.mark.usefixtures("everything_ran")
def test_no_column_of_the_database_holds_a_token(airflow, sandbox, secrets):
    everything = list(cells(airflow.home))
    tables = {table for table, _, _ in everything}
    assert tables > {"connection", "xcom", "rendered_task_instance_fields", "log", "task_instance", "serialized_dag"}
    # What is no secret is found, so that the rest would be.
    job_id = sandbox.job_id("Orders to warehouse").encode()
    assert {"xcom", "task_instance"} & {table for table, _, value in everything if holds_one_of([job_id], value)}
    # The connection's own columns are encrypted, and need no exception.
    assert {f"{table}.{column}" for table, column, value in everything if holds_one_of(secrets, value)} == set()


@pytest.mark.usefixtures("everything_ran")
def test_no_trigger_command_line_or_environment_has_shown_a_token_meanwhile(watch):
    assert watch.seen["trigger"] > 0
    assert watch.seen["command line"] > 100
    assert watch.seen["environment"] > 100
    assert any("job_id" in kwargs for kwargs in watch.stored)
    assert watch.leaks == set()


@pytest.mark.usefixtures("everything_ran")
def test_the_access_logs_of_the_sandboxes_hold_no_token(sandbox, production, secrets):
    for hub in (sandbox, production):
        assert "/jobrunner/rest/v1/" in hub.errors
        assert not holds_one_of(secrets, hub.errors)


@pytest.mark.usefixtures("everything_ran")
def test_the_rest_api_shows_no_token(airflow, secrets):
    for conn_id in ("streamsets_default", "streamsets_production"):
        shown = airflow.api("GET", f"/connections/{conn_id}")
        assert shown["login"]
        assert not holds_one_of(secrets, json.dumps(shown))
