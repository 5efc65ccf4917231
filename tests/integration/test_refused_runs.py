"""Runs that an engine refuses to start: ACTIVE/RED until stopped, with the reason only in the engine's message."""

from __future__ import annotations

import pytest

from airflow_provider_streamsets.control_hub import ControlHubRunFailedError, ControlHubRunTimeoutError
from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from airflow_provider_streamsets.operators.templates import ControlHubRunJobTemplateOperator
from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor
from tests.integration.test_fault_tolerance import (
    clock,
    connection,
    modes,
    new_job,
    new_task,
    run_job,
    sandbox,
    sandbox_process,
    starts_of,
    task,
)

__all__ = ["clock", "connection", "new_job", "new_task", "sandbox", "sandbox_process", "task"]

REFUSAL = "SPOOLDIR_12 - Directory '/data/invoices/new' does not exist"


@pytest.fixture
def refused_job(sandbox, new_job):
    """A job whose start the engine refuses."""
    sandbox.set_variants(start_failure="stays_red", needs_ack_default="false")
    return new_job(pipeline="Invoices import", engine_labels=["dev"])


def status_of(sandbox, job):
    return sandbox.call("GET", f"/jobrunner/rest/v1/job/{job.job_id}/currentStatus").json()


@modes
def test_refusal_reason_appears_only_in_engine_message(sandbox, task, refused_job, deferrable):
    with pytest.raises(ControlHubRunTimeoutError, match=rf"Last status: ACTIVE/RED: .*{REFUSAL} \(engine "):
        run_job(task, refused_job, wait_timeout=60, on_timeout="leave")
    status = status_of(sandbox, refused_job)
    assert (status["status"], status["color"], status["errorMessage"], status["warnings"]) == (
        "ACTIVE",
        "RED",
        None,
        [],
    )
    assert any(REFUSAL in (tracker["message"] or "") for tracker in status["ackTrackers"])
    assert [REFUSAL in pipeline["message"] for pipeline in status["pipelineStatus"]] == [True]


@modes
def test_refused_run_is_stopped_and_retried(sandbox, task, refused_job, deferrable):
    task.ti.max_tries = 1
    with pytest.raises(ControlHubRunFailedError, match=rf"RED for .*{REFUSAL}") as caught:
        run_job(task, refused_job, fail_on_red_after=30)
    assert caught.value.error_codes == ("CONTAINER_0800", "SPOOLDIR_12")
    assert status_of(sandbox, refused_job)["status"] in {"DEACTIVATING", "INACTIVE"}
    with pytest.raises(ControlHubRunFailedError, match="Run 2 was RED"):
        run_job(task, refused_job, fail_on_red_after=30)
    assert starts_of(sandbox, refused_job) == [1, 2]


@modes
@pytest.mark.parametrize("wait_for", ["completion", "active"])
def test_only_refused_run_is_stopped(sandbox, task, new_job, refused_job, wait_for, deferrable):
    other = new_job(records=100_000)
    # The last try would also stop the active run.
    task.ti.max_tries = 1
    with pytest.raises(ControlHubRunFailedError, match=r"1 of 2 runs did not succeed: .* RED for "):
        task.run(
            ControlHubStartJobsOperator,
            job_ids=[refused_job.job_id, other.job_id],
            wait_for=wait_for,
            fail_on_red_after=30,
            poll_interval=5,
        )
    assert [one["outcome"] for one in task.ti.xcoms["results"]] == [
        "FAILED",
        "SUCCEEDED" if wait_for == "completion" else None,
    ]
    assert status_of(sandbox, refused_job)["status"] in {"DEACTIVATING", "INACTIVE"}
    assert status_of(sandbox, other)["status"] == ("INACTIVE" if wait_for == "completion" else "ACTIVE")


@modes
def test_wait_for_active_leaves_run_active(sandbox, task, new_job, deferrable):
    job = new_job(records=100_000)
    result = run_job(task, job, wait_for="active")
    assert (result["status"], result["color"], result["outcome"]) == ("ACTIVE", "GREEN", None)
    assert status_of(sandbox, job)["status"] == "ACTIVE"
    again = run_job(task, job, wait_for="active")
    assert (again["run_count"], starts_of(sandbox, job)) == (1, [1])


@modes
def test_run_finished_before_active_poll_succeeds(sandbox, task, new_job, deferrable):
    job = new_job(records=10, pipeline="Quick check", engine_labels=["all"])
    result = task.run(ControlHubRunJobOperator, job_id=job.job_id, poll_interval=60, wait_for="active")
    assert (result["outcome"], result["status"] in {"ACTIVE", "INACTIVE"}) == (None, True)


@modes
def test_active_instances_keep_running(sandbox, client, task, deferrable):
    template = client.jobs.find_by_name("Regional orders", templates=True)
    result = task.run(
        ControlHubRunJobTemplateOperator,
        job_id=template.job_id,
        runtime_parameters=[{"REGION": "a", "RECORDS": "500000"}, {"REGION": "b", "RECORDS": "500000"}],
        wait_for="active",
        poll_interval=5,
    )
    assert [(one["status"], one["outcome"]) for one in result["instances"]] == [("ACTIVE", None)] * 2
    for one in result["instances"]:
        assert client.runs.current(one["job_id"]).status == "ACTIVE"


@modes
def test_sensor_fails_on_refused_run(sandbox, client, task, refused_job, deferrable):
    client.runs.start(refused_job)
    with pytest.raises(ControlHubRunFailedError, match=REFUSAL):
        task.run(ControlHubJobRunSensor, job_id=refused_job.job_id, poke_interval=5, fail_on_red_after=30)
