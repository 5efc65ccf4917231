from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_streamsets.hooks.settings import EXTRA_FIELDS
from dev.local_airflow import LocalAirflow, wait_until
from dev.local_sandbox import SandboxProcess
from tests.system.examples import PATIENCE, ended

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

ACTIVE = {"ACTIVATING", "ACTIVE"}


def reaches(
    airflow: LocalAirflow, dag_id: str, run_id: str, task_id: str, state: str, timeout: float = PATIENCE
) -> None:
    wait_until(
        lambda: airflow.task_state(dag_id, run_id, task_id) == state, f"{dag_id}.{task_id} to be {state}", timeout
    )


def job_status(sandbox: SandboxProcess, name: str) -> str:
    return str(sandbox.job_state(name)["status"])


def status_requests(sandbox: SandboxProcess) -> int:
    counts = sandbox.requests()["counts"]
    return sum(count for call, count in counts.items() if call.endswith("/jobs/status"))


@pytest.fixture
def frozen(hub: SandboxProcess) -> Iterator[SandboxProcess]:
    """A sandbox whose time passes only when the test says so."""
    hub.freeze()
    yield hub
    hub.unfreeze()


def test_id_run_and_link_are_there_while_the_task_is_deferred(airflow, frozen):
    run_id = airflow.trigger_dag("system_batch")
    reaches(airflow, "system_batch", run_id, "run", "deferred")
    job_id = frozen.job_id("Orders to warehouse")
    link = f"{frozen.url}/sch/jobs/detail/{job_id}"
    assert airflow.xcom("system_batch", run_id, "run", "job_id") == job_id
    assert airflow.xcom("system_batch", run_id, "run", "run_count") == 4
    assert airflow.links("system_batch", run_id, "run") == {"StreamSets job": link}
    frozen.advance(600)
    assert ended(airflow, "system_batch", run_id) == "success"
    result = airflow.xcom("system_batch", run_id, "run")
    assert (result["job_name"], result["run_count"], result["outcome"]) == ("Orders to warehouse", 4, "SUCCEEDED")


def test_the_sensor_ends_alike_in_all_its_modes(airflow):
    run_id = airflow.trigger_dag("system_sensors")
    assert ended(airflow, "system_sensors", run_id) == "success"
    results = [airflow.xcom("system_sensors", run_id, mode) for mode in ("poke", "reschedule", "deferrable")]
    for result in results:
        del result["metrics"], result["metrics_final"]
    assert results[0] == results[1] == results[2]
    assert results[0]["outcome"] == "SUCCEEDED"


def test_a_mapped_operator_runs_a_job_for_each_of_its_values(airflow):
    run_id = airflow.trigger_dag("system_mapped")
    assert ended(airflow, "system_mapped", run_id) == "success"


def test_a_failed_run_is_explained_in_the_task_log_and_keeps_its_link(airflow, hub):
    run_id = airflow.trigger_dag("system_failing")
    assert ended(airflow, "system_failing", run_id) == "failed"
    for task_id, job, pipeline_status in (
        ("deferred", "Customers nightly", "RUN_ERROR"),
        ("sync", "Invoices import", "START_ERROR"),
    ):
        log = airflow.task_log("system_failing", run_id, task_id)
        for text in (f"of job '{job}'", "has failed", "Status: INACTIVE, color: RED", pipeline_status, "Last "):
            assert text in log, f"{text!r} is not in the log of {task_id}:\n{log}"
        assert "StreamSets job" in airflow.links("system_failing", run_id, task_id)
        assert hub.token not in log


def test_a_triggerer_that_is_killed_and_replaced_neither_loses_nor_repeats_nor_stops_a_run(airflow, frozen):
    before = len(frozen.starts("Orders to warehouse"))
    run_id = airflow.trigger_dag("system_batch")
    reaches(airflow, "system_batch", run_id, "run", "deferred")
    wait_until(lambda: job_status(frozen, "Orders to warehouse") in ACTIVE, "the job to be active", PATIENCE)
    airflow.kill_component("triggerer")
    # The run ends while no triggerer is there to see it.
    frozen.advance(600)
    assert job_status(frozen, "Orders to warehouse") == "INACTIVE"
    assert airflow.task_state("system_batch", run_id, "run") == "deferred"
    airflow.start_component("triggerer")
    assert ended(airflow, "system_batch", run_id) == "success"
    assert airflow.xcom("system_batch", run_id, "run")["outcome"] == "SUCCEEDED"
    assert len(frozen.starts("Orders to warehouse")) == before + 1


def test_a_triggerer_that_is_restarted_leaves_the_run_going(airflow, frozen):
    run_id = airflow.trigger_dag("system_stream")
    reaches(airflow, "system_stream", run_id, "run", "deferred")
    frozen.advance(60)
    airflow.restart_component("triggerer")
    looks = status_requests(frozen)
    wait_until(lambda: status_requests(frozen) > looks + 1, "the new triggerer to look at the run", PATIENCE)
    assert job_status(frozen, "Clickstream to lake") == "ACTIVE"
    # A person then marks the task as failed: now the run is stopped.
    airflow.set_task_state("system_stream", run_id, "run", "failed")
    wait_until(lambda: job_status(frozen, "Clickstream to lake") == "DEACTIVATING", "the run to be stopped", PATIENCE)
    frozen.advance(600)


def test_killing_a_task_on_the_worker_stops_its_run(airflow, frozen):
    run_id = airflow.trigger_dag("system_stream_sync")
    wait_until(lambda: job_status(frozen, "Clickstream to lake") in ACTIVE, "the job to be active", PATIENCE)
    frozen.advance(60)
    airflow.set_task_state("system_stream_sync", run_id, "run", "failed")
    wait_until(lambda: job_status(frozen, "Clickstream to lake") == "DEACTIVATING", "the run to be stopped", PATIENCE)
    frozen.advance(600)


def test_the_first_failed_instance_of_a_template_stops_the_others(airflow, hub):
    run_id = airflow.trigger_dag("system_template")
    assert ended(airflow, "system_template", run_id) == "failed"
    log = airflow.task_log("system_template", run_id, "run")
    assert "Run 1 of job 'Orders template - 1'" in log
    assert "1 of 3 runs did not succeed" in log
    assert "Others that were stopped: 2" in log
    assert {job_status(hub, f"Orders template - {number}") for number in (1, 2, 3)} == {"INACTIVE"}


def test_killing_a_deferred_task_for_many_jobs_stops_them_all(airflow, frozen):
    run_id = airflow.trigger_dag("system_many")
    reaches(airflow, "system_many", run_id, "run", "deferred")
    frozen.advance(60)
    # Airflow tells only a trigger that runs already that its task was killed.
    looks = status_requests(frozen)
    wait_until(lambda: status_requests(frozen) > looks, "the triggerer to look at the runs", PATIENCE)
    airflow.set_task_state("system_many", run_id, "run", "failed")
    for name in ("Clickstream to lake", "Legacy feed"):
        wait_until(lambda name=name: job_status(frozen, name) == "DEACTIVATING", f"{name} to be stopped", PATIENCE)
    frozen.advance(600)


def test_a_timeout_is_kept_while_the_task_is_deferred_and_stops_the_run(airflow, hub):
    run_id = airflow.trigger_dag("system_timeout")
    assert ended(airflow, "system_timeout", run_id) == "failed"
    assert "has not ended within 5 s" in airflow.task_log("system_timeout", run_id, "run")
    wait_until(lambda: job_status(hub, "Clickstream to lake") == "INACTIVE", "the run to be stopped", PATIENCE)


def test_the_connection_form_shows_every_field_and_the_test_button_answers(airflow, hub):
    (form,) = (entry for entry in airflow.hook_forms() if entry["connection_type"] == "streamsets")
    assert set(form["extra_fields"]) == set(EXTRA_FIELDS)
    assert form["standard_fields"]["password"]["title"] == "Token"
    connection = {
        "connection_id": "tried",
        "conn_type": "streamsets",
        "host": hub.url,
        "login": hub.credential_id,
        "password": hub.token,
    }
    good = airflow.api("POST", "/connections/test", connection)
    assert good["status"] is True
    assert good["message"].startswith(f"Logged in to {hub.url} as ")
    bad = airflow.api("POST", "/connections/test", {**connection, "password": "a.b."})
    assert bad["status"] is False
    assert "401" in bad["message"]
