"""Sensors that start and end in the triggerer, without a worker."""

from __future__ import annotations

import pytest

from dev.local_airflow import LocalAirflow, wait_until
from tests.system.examples import TIMEOUT

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

DAG_ID = "system_without_worker"


def wait_for_state(
    airflow: LocalAirflow, dag_id: str, run_id: str, task_id: str, *states: str, timeout: float = TIMEOUT
) -> str:
    def state() -> str:
        current = airflow.task_state(dag_id, run_id, task_id)
        return current if current in states else ""

    return str(wait_until(state, f"{dag_id}.{task_id} to be {' or '.join(states)}", timeout))


def test_replaced_triggerer_waits_for_same_run(airflow, hub):
    name = "Clickstream to lake"
    failing = hub.start_job("Customers nightly")
    watched = hub.start_job(name)["runCount"]
    run_id = airflow.trigger_dag(DAG_ID, {"run": failing["runCount"]})
    wait_for_state(airflow, DAG_ID, run_id, "stream", "deferred")
    wait_until(lambda: airflow.xcom(DAG_ID, run_id, "stream", "run_count") == watched, "the run to be pinned", TIMEOUT)
    assert "StreamSets job" in airflow.links(DAG_ID, run_id, "stream")
    airflow.kill_component("triggerer")
    hub.wait_for_status(name, "ACTIVE")
    hub.call("POST", f"/jobrunner/rest/v1/job/{hub.job_id(name)}/stop")
    hub.wait_for_status(name, "INACTIVE")
    assert hub.start_job(name)["runCount"] == watched + 1
    airflow.start_component("triggerer")
    assert wait_for_state(airflow, DAG_ID, run_id, "stream", "success", "failed") == "success"
    result = airflow.xcom(DAG_ID, run_id, "stream")
    assert (result["run_count"], result["outcome"]) == (watched, "STOPPED")
    assert wait_for_state(airflow, DAG_ID, run_id, "failing", "success", "failed") == "failed"
    assert "RUN_ERROR" in airflow.task_log(DAG_ID, run_id, "failing")
    hub.wait_for_status(name, "ACTIVE")
    hub.call("POST", f"/jobrunner/rest/v1/job/{hub.job_id(name)}/stop")


def test_timeout_fails_task(airflow):
    run_id = airflow.trigger_dag("system_without_worker_timeout")
    assert wait_for_state(airflow, "system_without_worker_timeout", run_id, "stream", "success", "failed") == "failed"
    assert "has not ended within 5 s" in airflow.task_log("system_without_worker_timeout", run_id, "stream")
