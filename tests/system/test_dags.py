from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_streamsets.connection_form import CONN_FIELDS
from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from dev.local_airflow import LocalAirflow, wait_until
from tests.system.examples import APPROVAL_EXAMPLE, TIMEOUT, wait_for_end

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

ACTIVE = {"ACTIVATING", "ACTIVE"}


def wait_for_state(
    airflow: LocalAirflow, dag_id: str, run_id: str, task_id: str, state: str, timeout: float = TIMEOUT
) -> None:
    wait_until(
        lambda: airflow.task_state(dag_id, run_id, task_id) == state, f"{dag_id}.{task_id} to be {state}", timeout
    )


def wait_for_executor_event(airflow: LocalAirflow, dag_id: str, run_id: str, task_id: str) -> None:
    """Wait until the scheduler knows that the first part of a task has ended.

    If the second part is queued before, the scheduler takes the end of the first part for the task's own and fails it:
    ``SchedulerJobRunner.process_executor_events``. A person is slower than the scheduler's loop, a test is not.
    """
    key = f"dag_id='{dag_id}', task_id='{task_id}', run_id='{run_id}'"
    log = airflow.home / "scheduler.log"
    wait_until(
        lambda: any("Received executor event" in line and key in line for line in log.read_text("utf-8").splitlines()),
        f"the executor event of {dag_id}.{task_id}",
        TIMEOUT,
    )


def job_status(sandbox: SandboxProcess, name: str) -> str:
    return str(sandbox.job_state(name)["status"])


def status_requests(sandbox: SandboxProcess) -> int:
    counts = sandbox.requests()["counts"]
    return sum(count for call, count in counts.items() if call.endswith("/jobs/status"))


@pytest.fixture
def frozen(hub: SandboxProcess) -> Iterator[SandboxProcess]:
    """A sandbox with a frozen clock."""
    hub.freeze()
    yield hub
    hub.unfreeze()


def test_deferred_task_has_xcoms_and_link(airflow, frozen):
    run_id = airflow.trigger_dag("system_batch")
    wait_for_state(airflow, "system_batch", run_id, "run", "deferred")
    job_id = frozen.job_id("Orders to warehouse")
    link = f"{frozen.url}/sch/jobs/detail/{job_id}"
    assert airflow.xcom("system_batch", run_id, "run", "job_id") == job_id
    assert airflow.xcom("system_batch", run_id, "run", "run_count") == 4
    links = airflow.links("system_batch", run_id, "run")
    assert links["StreamSets job"] == link
    assert links["StreamSets run"].startswith(f"{airflow.url}/streamsets/run?dag_id=system_batch&")
    frozen.advance(600)
    assert wait_for_end(airflow, "system_batch", run_id) == "success"
    result = airflow.xcom("system_batch", run_id, "run")
    assert (result["job_name"], result["run_count"], result["outcome"]) == ("Orders to warehouse", 4, "SUCCEEDED")


def test_sensor_modes_return_same_result(airflow):
    run_id = airflow.trigger_dag("system_sensors")
    assert wait_for_end(airflow, "system_sensors", run_id) == "success"
    results = [airflow.xcom("system_sensors", run_id, mode) for mode in ("poke", "reschedule", "deferrable")]
    for result in results:
        del result["metrics"], result["metrics_final"]
    assert results[0] == results[1] == results[2]
    assert results[0]["outcome"] == "SUCCEEDED"


def test_mapped_operator_succeeds(airflow):
    run_id = airflow.trigger_dag("system_mapped")
    assert wait_for_end(airflow, "system_mapped", run_id) == "success"


def test_failed_run_is_explained_in_task_log(airflow, hub):
    run_id = airflow.trigger_dag("system_failing")
    assert wait_for_end(airflow, "system_failing", run_id) == "failed"
    for task_id, job, pipeline_status in (
        ("deferred", "Customers nightly", "RUN_ERROR"),
        ("sync", "Invoices import", "START_ERROR"),
    ):
        log = airflow.task_log("system_failing", run_id, task_id)
        for text in (f"(job '{job}')", "failed: ", "Status: INACTIVE/RED", pipeline_status, "Last "):
            assert text in log, f"{text!r} is not in the log of {task_id}:\n{log}"
        assert "StreamSets job" in airflow.links("system_failing", run_id, task_id)
        assert hub.token not in log
        # The connection is in the database.
        report = airflow.run_command("streamsets", "why", "system_failing", run_id, task_id)
        assert "failed: " in report.splitlines()[0]
        assert f"(job '{job}')" in report


def test_policy_decides_about_retries(airflow, hub):
    before = len(hub.starts("Customers nightly"))
    run_id = airflow.trigger_dag("system_retry_policy")
    assert wait_for_end(airflow, "system_retry_policy", run_id) == "failed"
    assert airflow.task_instance("system_retry_policy", run_id, "missing")["try_number"] == 1
    assert airflow.task_instance("system_retry_policy", run_id, "failing")["try_number"] == 2
    assert len(hub.starts("Customers nightly")) == before + 2


def test_command_checks_connection_in_database(airflow, hub):
    facts = json.loads(airflow.run_command("streamsets", "check", "streamsets_system", "--output", "json"))
    assert facts["control_hub"] == hub.url


def test_replaced_triggerer_finishes_run_once(airflow, frozen):
    before = len(frozen.starts("Orders to warehouse"))
    run_id = airflow.trigger_dag("system_batch")
    wait_for_state(airflow, "system_batch", run_id, "run", "deferred")
    wait_until(lambda: job_status(frozen, "Orders to warehouse") in ACTIVE, "the job to be active", TIMEOUT)
    airflow.kill_component("triggerer")
    # The run ends while no triggerer is running.
    frozen.advance(600)
    assert job_status(frozen, "Orders to warehouse") == "INACTIVE"
    assert airflow.task_state("system_batch", run_id, "run") == "deferred"
    airflow.start_component("triggerer")
    assert wait_for_end(airflow, "system_batch", run_id) == "success"
    assert airflow.xcom("system_batch", run_id, "run")["outcome"] == "SUCCEEDED"
    assert len(frozen.starts("Orders to warehouse")) == before + 1


def test_restarted_triggerer_does_not_stop_run(airflow, frozen):
    run_id = airflow.trigger_dag("system_stream")
    wait_for_state(airflow, "system_stream", run_id, "run", "deferred")
    frozen.advance(60)
    airflow.restart_component("triggerer")
    polls = status_requests(frozen)
    wait_until(lambda: status_requests(frozen) > polls + 1, "the new triggerer to poll the run", TIMEOUT)
    assert job_status(frozen, "Clickstream to lake") == "ACTIVE"
    # Marking the task failed stops the run.
    airflow.set_task_state("system_stream", run_id, "run", "failed")
    wait_until(lambda: job_status(frozen, "Clickstream to lake") == "DEACTIVATING", "the run to be stopped", TIMEOUT)
    frozen.advance(600)


def test_killed_worker_task_stops_its_run(airflow, frozen):
    run_id = airflow.trigger_dag("system_stream_sync")
    wait_until(lambda: job_status(frozen, "Clickstream to lake") in ACTIVE, "the job to be active", TIMEOUT)
    frozen.advance(60)
    airflow.set_task_state("system_stream_sync", run_id, "run", "failed")
    wait_until(lambda: job_status(frozen, "Clickstream to lake") == "DEACTIVATING", "the run to be stopped", TIMEOUT)
    frozen.advance(600)


def test_failed_template_instance_stops_others(airflow, hub):
    run_id = airflow.trigger_dag("system_template")
    assert wait_for_end(airflow, "system_template", run_id) == "failed"
    log = airflow.task_log("system_template", run_id, "run")
    assert "(job 'Orders template - 1')" in log
    assert "1 of 3 runs did not succeed" in log
    assert "Other stopped runs: 2" in log
    assert {job_status(hub, f"Orders template - {number}") for number in (1, 2, 3)} == {"INACTIVE"}


def test_killed_deferred_task_stops_all_jobs(airflow, frozen):
    run_id = airflow.trigger_dag("system_many")
    wait_for_state(airflow, "system_many", run_id, "run", "deferred")
    frozen.advance(60)
    # Airflow only notifies running triggers of a killed task.
    polls = status_requests(frozen)
    wait_until(lambda: status_requests(frozen) > polls, "the triggerer to poll the runs", TIMEOUT)
    airflow.set_task_state("system_many", run_id, "run", "failed")
    for name in ("Clickstream to lake", "Legacy feed"):
        wait_until(lambda name=name: job_status(frozen, name) == "DEACTIVATING", f"{name} to be stopped", TIMEOUT)
    frozen.advance(600)


def test_timeout_of_deferred_task_stops_run(airflow, hub):
    run_id = airflow.trigger_dag("system_timeout")
    assert wait_for_end(airflow, "system_timeout", run_id) == "failed"
    assert "has not ended within 5 s" in airflow.task_log("system_timeout", run_id, "run")
    wait_until(lambda: job_status(hub, "Clickstream to lake") == "INACTIVE", "the run to be stopped", TIMEOUT)


def test_connection_form_and_connection_test(airflow, hub):
    (form,) = (entry for entry in airflow.hook_forms() if entry["connection_type"] == "streamsets")
    assert set(form["extra_fields"]) == set(CONN_FIELDS)
    assert form["standard_fields"]["password"]["title"] == "Token"
    connection = {
        "connection_id": "tested",
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


def ui_test_request(airflow: LocalAirflow, conn_id: str) -> dict[str, Any]:
    """Return the body that the button "Test" sends for a stored connection."""
    stored = airflow.api("GET", f"/connections/{conn_id}")
    body = {name: stored[name] or "" for name in ("description", "host", "login", "password", "schema")}
    identity = {name: stored[name] for name in ("connection_id", "conn_type")}
    return {**identity, **body, "port": int(stored["port"] or 0), "extra": stored["extra"] or "{}"}


def test_button_tests_stored_connection(airflow, hub):
    body = ui_test_request(airflow, "streamsets_system")
    assert body["password"] == "***"
    assert airflow.api("POST", "/connections/test", body) == {
        "status": True,
        "message": f"Logged in to {hub.url} as Airflow service account of organization Example org.",
    }
    wrong = airflow.api("POST", "/connections/test", {**body, "extra": '{"timeout": "soon", "project_id": "p"}'})
    assert wrong["status"] is False
    assert wrong["message"].startswith("'Timeout (seconds)' (extra 'timeout') must be a number of seconds")
    unknown = airflow.api("POST", "/connections/test", {**body, "extra": '{"project_id": "p"}'})
    assert unknown["status"] is False
    assert "the credential has no access to a project with the ID 'p'" in unknown["message"]


@pytest.mark.parametrize(("response", "state", "runs"), [("Reject", "skipped", 0), ("Approve", "success", 1)])
def test_run_starts_only_after_approval(airflow, sandbox, response, state, runs):
    before = sandbox.starts("Approved check")
    run_id = airflow.trigger_dag(APPROVAL_EXAMPLE)
    wait_for_state(airflow, APPROVAL_EXAMPLE, run_id, "approve", "awaiting_input")
    assert sandbox.starts("Approved check") == before
    path = f"/dags/{APPROVAL_EXAMPLE}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"
    assert airflow.api("GET", path)["subject"].startswith("Run 'Approved check' for 20")
    wait_for_executor_event(airflow, APPROVAL_EXAMPLE, run_id, "approve")
    airflow.api("PATCH", path, {"chosen_options": [response]})
    assert wait_for_end(airflow, APPROVAL_EXAMPLE, run_id) == "success"
    assert airflow.task_state(APPROVAL_EXAMPLE, run_id, "run_check") == state
    assert len(sandbox.starts("Approved check")) == len(before) + runs
