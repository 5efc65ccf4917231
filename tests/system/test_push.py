"""Push events: a subscription of the sandbox starts a DAG of a real Airflow, with two processes of the API server."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from dev.local_airflow import LocalAirflow, wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

DAG, JOB = "system_after_push", "Quick check"
TOKEN = secrets.token_hex(32)


@pytest.fixture(scope="module")
def hub() -> Iterator[SandboxProcess]:
    """A separate Control Hub, because a subscription is about all jobs."""
    with SandboxProcess(time_scale=5) as process:
        yield process


@pytest.fixture(scope="module")
def airflow(hub: SandboxProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    """A separate Airflow, because nothing but the calls may cause requests to its Control Hub."""
    home = tmp_path_factory.mktemp("airflow")
    shutil.copytree(Path(__file__).parent / "push_dags", home / "dags")
    connection = {**json.loads(hub.airflow_conn), "extra": {"webhook_token": TOKEN}}
    with LocalAirflow(home, home / "dags", {"AIRFLOW__API__WORKERS": "2"}) as running:
        running.start(connections={"streamsets_default": json.dumps(connection)})
        wait_until(lambda: running.knows_dag(DAG), f"{DAG} to be parsed", 180)
        hub.subscribe(f"{running.url}/streamsets/events", TOKEN)
        hub.forget_requests()
        yield running


def run_to_end(hub: SandboxProcess) -> int:
    run_count = int(hub.start_job(JOB)["runCount"])
    hub.wait_for_status(JOB, "INACTIVE")
    return run_count


def finished(airflow: LocalAirflow) -> list[dict[str, Any]]:
    """Return the runs of the job that reached finished DAG runs."""
    runs = airflow.api("GET", f"/dags/{DAG}/dagRuns", limit=100)["dag_runs"]
    ended = [run["dag_run_id"] for run in runs if run["state"] == "success"]
    return [found for run_id in ended for found in airflow.xcom(DAG, run_id, "report")]


def events(airflow: LocalAirflow) -> list[dict[str, Any]]:
    return [event["extra"] for event in airflow.api("GET", "/assets/events", limit=100)["asset_events"]]


def call(airflow: LocalAirflow, hub: SandboxProcess, token: str = TOKEN, status: str = "INACTIVE") -> int:
    """Post a status change to Airflow, as a subscription does, and return the status of the response."""
    with requests.Session() as session:
        session.trust_env = False
        return session.post(
            f"{airflow.url}/streamsets/events",
            json={"job_id": hub.job_id(JOB), "from_status": "DEACTIVATING", "to_status": status},
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
        ).status_code


def test_end_of_run_starts_dag(airflow, hub):
    run_count = run_to_end(hub)
    (run,) = wait_until(lambda: finished(airflow), "the DAG to have run", 90)
    assert (run["job_id"], run["job_name"], run["run_count"]) == (hub.job_id(JOB), JOB, run_count)
    assert (run["outcome"], run["metrics"]["input_count"], run["metrics_final"]) == ("SUCCEEDED", 100, True)
    assert events(airflow) == [{"from_trigger": True, "payload": {**run, "runs": [run]}}]
    assert [call["status"] for call in hub.webhooks()] == [200, 200, 200, 201]
    # Nothing polls.
    assert hub.requests()["counts"]["POST /jobrunner/rest/v1/jobs/status"] == 1


def test_forged_and_repeated_calls_start_nothing(airflow, hub):
    expected, dag_runs = events(airflow), len(finished(airflow))
    assert [call(airflow, hub, token) for token in ("", "forged", TOKEN[:-1])] == [401] * 3
    with ThreadPoolExecutor(8) as threads:
        codes = list(threads.map(lambda _: call(airflow, hub), range(16)))
    assert codes == [200] * 16
    assert events(airflow) == expected
    hub.freeze()
    hub.start_job(JOB)
    assert call(airflow, hub) == 409
    hub.unfreeze()
    # Only the run that has ended meanwhile, of whose calls one comes from each side.
    hub.wait_for_status(JOB, "INACTIVE")
    call(airflow, hub)
    wait_until(lambda: len(finished(airflow)) == dag_runs + 1, "the DAG to have run", 90)
    wait_until(lambda: all(one["status"] or one["error"] for one in hub.webhooks()), "all calls to be answered", 90)
    assert len(events(airflow)) == len(expected) + 1


def test_many_runs_start_one_dag_run_each(airflow, hub):
    before = len(finished(airflow))
    counts = []
    for number in range(1, 4):
        counts.append(run_to_end(hub))
        wait_until(lambda number=number: len(finished(airflow)) == before + number, "the DAG to have run", 90)
    assert sorted(run["run_count"] for run in finished(airflow))[-3:] == counts
    assert {one["error"] for one in hub.webhooks()} == {None}


def test_logs_contain_no_token(airflow, hub):
    call(airflow, hub, "forged")
    logs = "".join((airflow.home / f"{name}.log").read_text("utf-8") for name in ("api-server", "scheduler"))
    assert "Refused a call of /streamsets/events" in logs
    assert TOKEN not in logs
    assert hub.token not in logs
