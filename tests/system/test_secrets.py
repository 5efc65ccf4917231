"""No token appears in processes, logs, database or API while and after the examples run. Runs last."""

from __future__ import annotations

import base64
import json

import pytest

from tests.system.examples import APPROVAL_EXAMPLE
from tests.system.leaks import contains_any, encodings_of, find_files, iterate_cells

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def all_examples_finished(finished_runs, airflow) -> None:
    """All examples have finished on this Airflow, whichever tests are selected."""
    dags = {dag["dag_id"] for dag in airflow.api("GET", "/dags", limit=100)["dags"]}
    assert {dag_id for dag_id in dags if dag_id.startswith("streamsets_")} == {*finished_runs, APPROVAL_EXAMPLE}


def test_token_is_found_in_any_encoding(sandbox):
    token, encodings = sandbox.token, encodings_of(sandbox.token)
    for text in (
        f"Token: {token}",
        json.dumps({"headers": [token]}),
        f"x={token.split('.')[1]}&y",
        *(base64.b64encode(f"{prefix}{token} and more".encode()).decode() for prefix in ("", "a", "bc", "def")),
        repr(token.encode()),
    ):
        assert contains_any(encodings, text)
    assert not contains_any(encodings, f"{sandbox.credential_id} {sandbox.url}")


@pytest.mark.usefixtures("all_examples_finished")
def test_files_contain_no_token(airflow, secrets):
    sizes, found = find_files(secrets, airflow.home)
    for log in ("scheduler.log", "triggerer.log", "api-server.log", "dag-processor.log"):
        assert sizes[log] > 0, log
    assert len([name for name in sizes if name.startswith("logs/dag_id=")]) > 20
    assert found == []


@pytest.mark.usefixtures("all_examples_finished")
def test_database_contains_no_token(database, sandbox, secrets):
    all_cells = list(iterate_cells(database))
    tables = {table for table, _, _ in all_cells}
    assert tables > {"connection", "xcom", "rendered_task_instance_fields", "log", "task_instance", "serialized_dag"}
    # A value that is no secret is found, which validates the search.
    job_id = sandbox.job_id("Orders to warehouse").encode()
    assert {"xcom", "task_instance"} & {table for table, _, value in all_cells if contains_any([job_id], value)}
    # The columns of the connection are encrypted and need no exception.
    assert {f"{table}.{column}" for table, column, value in all_cells if contains_any(secrets, value)} == set()


@pytest.mark.usefixtures("all_examples_finished")
def test_processes_and_triggers_contain_no_token(leak_detector):
    assert leak_detector.scanned["trigger"] > 0
    assert leak_detector.scanned["command line"] > 100
    assert leak_detector.scanned["environment"] > 100
    assert any("job_id" in kwargs for kwargs in leak_detector.stored_kwargs)
    assert leak_detector.leaks == set()


@pytest.mark.usefixtures("all_examples_finished")
def test_sandbox_access_logs_contain_no_token(sandbox, production, secrets):
    for hub in (sandbox, production):
        assert "/jobrunner/rest/v1/" in hub.errors
        assert not contains_any(secrets, hub.errors)


@pytest.mark.usefixtures("all_examples_finished")
def test_rest_api_returns_no_token(airflow, secrets):
    for conn_id in ("streamsets_default", "streamsets_production"):
        shown = airflow.api("GET", f"/connections/{conn_id}")
        assert shown["login"]
        assert not contains_any(secrets, json.dumps(shown))
