"""Sensors that start and end in the triggerer: no worker ever sees them."""

from __future__ import annotations

import pytest

from dev.local_airflow import LocalAirflow, wait_until

pytestmark = pytest.mark.system

EXAMPLE, DAG_ID = "streamsets_wait_without_worker", "system_without_worker"


def reaches(airflow: LocalAirflow, dag_id: str, run_id: str, task_id: str, *states: str, timeout: float = 180) -> str:
    def state() -> str:
        current = airflow.task_state(dag_id, run_id, task_id)
        return current if current in states else ""

    return str(wait_until(state, f"{dag_id}.{task_id} to be {' or '.join(states)}", timeout))


def test_the_example_waits_with_rendered_templates_and_gives_its_result_to_the_next_task(airflow, sandbox):
    run_id = airflow.trigger_dag(EXAMPLE)
    assert reaches(airflow, EXAMPLE, run_id, "report", "success", "failed", "upstream_failed") == "success"
    result = airflow.xcom(EXAMPLE, run_id, "wait_for_snapshot")
    assert (result["job_name"], result["outcome"]) == ("Inventory snapshot", "SUCCEEDED")
    assert result["run_count"] == airflow.xcom(EXAMPLE, run_id, "start_snapshot")["run_count"]
    assert airflow.xcom(EXAMPLE, run_id, "report") == f"run {result['run_count']}: SUCCEEDED"
    link = f"{sandbox.url}/sch/jobs/detail/{sandbox.job_id('Inventory snapshot')}"
    assert airflow.links(EXAMPLE, run_id, "wait_for_snapshot") == {"StreamSets job": link}
    assert airflow.task_instance(EXAMPLE, run_id, "wait_for_snapshot")["pid"] is None
    assert airflow.task_instance(EXAMPLE, run_id, "report")["pid"] is not None


def test_another_triggerer_goes_on_with_the_same_run_and_a_failed_run_fails_its_task(airflow, sandbox):
    name = "Clickstream to lake"
    failing = sandbox.start_job("Customers nightly")
    watched = sandbox.start_job(name)["runCount"]
    run_id = airflow.trigger_dag(DAG_ID, {"run": failing["runCount"]})
    reaches(airflow, DAG_ID, run_id, "stream", "deferred")
    wait_until(lambda: airflow.xcom(DAG_ID, run_id, "stream", "run_count") == watched, "the run to be pinned", 60)
    assert "StreamSets job" in airflow.links(DAG_ID, run_id, "stream")
    airflow.kill_component("triggerer")
    sandbox.wait_for_status(name, "ACTIVE")
    sandbox.call("POST", f"/jobrunner/rest/v1/job/{sandbox.job_id(name)}/stop")
    sandbox.wait_for_status(name, "INACTIVE")
    assert sandbox.start_job(name)["runCount"] == watched + 1
    airflow.start_component("triggerer")
    assert reaches(airflow, DAG_ID, run_id, "stream", "success", "failed") == "success"
    result = airflow.xcom(DAG_ID, run_id, "stream")
    assert (result["run_count"], result["outcome"]) == (watched, "STOPPED")
    assert reaches(airflow, DAG_ID, run_id, "failing", "success", "failed") == "failed"
    assert "RUN_ERROR" in airflow.task_log(DAG_ID, run_id, "failing")
    sandbox.wait_for_status(name, "ACTIVE")
    sandbox.call("POST", f"/jobrunner/rest/v1/job/{sandbox.job_id(name)}/stop")


def test_a_run_that_does_not_come_in_time_fails_the_task(airflow):
    run_id = airflow.trigger_dag("system_without_worker_timeout")
    assert reaches(airflow, "system_without_worker_timeout", run_id, "stream", "success", "failed") == "failed"
    assert "has not ended within 5 s" in airflow.task_log("system_without_worker_timeout", run_id, "stream")
