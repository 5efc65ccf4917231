"""Waits for a run that an upgrade replaces with another one, and for one of a job that is imported again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_streamsets.control_hub import ControlHubRunFailedError, ControlHubRunLostError
from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator, ControlHubStopJobOperator
from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor
from airflow_provider_streamsets.triggers.runs import ControlHubRunsTrigger
from tests.unit.fakes.simulated_hub import OTHER_USER, SimulatedHub
from tests.unit.fakes.single_job_hub import HUB, JOB_ID
from tests.unit.fakes.task_runner import TaskRunner, patch_clock, single_event

pytestmark = pytest.mark.usefixtures("connection")
MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])
STATUSES = f"{HUB}/jobrunner/rest/v1/jobs/status"


@pytest.fixture
def clock(monkeypatch):
    return patch_clock(monkeypatch, shared_with_control_hub=True)


@pytest.fixture
def hub(http, clock):
    return SimulatedHub(http, clock)


@pytest.fixture
def later(hub, http, clock):
    """Let something happen at a poll that comes so many seconds after now."""

    def schedule(seconds: float, act: Any) -> None:
        due = [(clock.current_time + seconds, act)]

        def status(*_: Any) -> Any:
            if due and clock.current_time >= due[0][0]:
                due.pop()[1]()
            return {JOB_ID: hub.latest}

        http.post(STATUSES, json=status)

    return schedule


def run_job(clock, context, **arguments):
    arguments = {"job_id": JOB_ID, "metrics_timeout": 0, **arguments}
    return TaskRunner(clock, lambda: ControlHubRunJobOperator(task_id="run", **arguments), context).run()


@MODES
def test_wait_follows_replacement(hub, clock, context, later, deferrable, task_log):
    def upgrade():
        hub.upgrade()
        hub.run_duration = 200

    later(50, upgrade)
    result = run_job(clock, context, deferrable=deferrable)
    assert (result["run_count"], result["outcome"]) == (2, "SUCCEEDED")
    assert context["ti"].xcoms["run_count"] == 2
    assert "an upgrade of the active job replaced it with run 2" in task_log()


@MODES
def test_wait_follows_chain_of_replacements(hub, clock, context, later, deferrable):
    def upgrade_twice():
        hub.upgrade()
        hub.upgrade()
        hub.fail()

    later(50, upgrade_twice)
    with pytest.raises(ControlHubRunFailedError, match="Run 3 failed") as error:
        run_job(clock, context, deferrable=deferrable)
    assert error.value.run_count == 3


@MODES
def test_restarted_replacement_is_evaluated_from_history(hub, clock, context, later, deferrable):
    def upgrade_and_restart():
        hub.upgrade()
        hub.end()
        hub.start(OTHER_USER)

    later(50, upgrade_and_restart)
    assert run_job(clock, context, deferrable=deferrable)["run_count"] == 2


@pytest.mark.parametrize(
    ("evidence", "is_replacement"),
    [
        ({"previousId": "run-1:org", "pipelineCommitId": "commit-2:org"}, True),
        ({"previousId": "run-1:org", "pipelineCommitId": "commit-1:org"}, False),
        ({"previousId": "run-0:org", "pipelineCommitId": "commit-2:org"}, False),
        ({"upgradeStatus": {"previousJobStatusId": "run-1:org"}}, True),
        ({"upgradeStatus": {"previousJobStatusId": "run-1:org", "currentJobStatusId": "run-0:org"}}, False),
        ({"upgradeStatus": {"previousJobStatusId": "run-0:org", "currentJobStatusId": "run-2:org"}}, False),
        ({"upgradeStatus": "UPGRADE_SUCCESSFUL"}, False),
    ],
)
def test_only_upgrade_evidence_marks_replacement(hub, clock, context, later, evidence, is_replacement):
    def upgrade():
        hub.runs[-1]["pipelineCommitId"] = "commit-1:org"
        hub.upgrade(**evidence)
        hub.run_duration = 100

    later(50, upgrade)
    result = run_job(clock, context, deferrable=False, accept_stopped=True)
    assert (result["run_count"], result["outcome"]) == ((2, "SUCCEEDED") if is_replacement else (1, "STOPPED"))


def test_late_restart_with_other_version_is_no_replacement(hub, clock, context, later):
    def restart_later():
        hub.runs[-1]["pipelineCommitId"] = "commit-1:org"
        hub.end()
        clock.now += 61
        hub.start(OTHER_USER)
        hub.runs[-1].update(previousId="run-1:org", pipelineCommitId="commit-2:org")

    later(50, restart_later)
    assert run_job(clock, context, deferrable=False)["run_count"] == 1


@MODES
def test_retry_resumes_replacement(hub, clock, context, deferrable):
    context["ti"].max_tries = 1
    with pytest.raises(Exception, match="has not ended within 60 s"):
        run_job(clock, context, deferrable=deferrable, wait_timeout=60, on_timeout="leave")
    context["ti"].try_number = 2
    hub.upgrade()
    hub.run_duration = 500
    assert run_job(clock, context, deferrable=deferrable)["run_count"] == 2
    assert hub.calls == ["start"]


@MODES
def test_timeout_stops_replacement(hub, clock, context, later, deferrable):
    later(50, hub.upgrade)
    with pytest.raises(Exception, match=r"Job .* run 2 has not ended within 100 s"):
        run_job(clock, context, deferrable=deferrable, wait_timeout=100)
    assert hub.calls == ["start", "stop"]
    assert hub.latest["status"] == "INACTIVE"


@MODES
def test_bulk_wait_follows_replacement(hub, http, clock, context, later, deferrable):
    http.post(f"{HUB}/jobrunner/rest/v1/jobs/startJobs", json=lambda *_: hub.start() and {})

    def upgrade():
        hub.upgrade()
        hub.run_duration = 300

    later(60, upgrade)
    arguments = {"job_ids": [JOB_ID], "wait_for_completion": True, "metrics_timeout": 0, "deferrable": deferrable}
    results = TaskRunner(clock, lambda: ControlHubStartJobsOperator(task_id="run", **arguments), context).run()
    assert [(result["run_count"], result["outcome"]) for result in results] == [(2, "SUCCEEDED")]
    assert clock.now > 1300


@MODES
def test_stop_reaches_replacement(hub, http, clock, context, deferrable):
    job = f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}"
    hub.start()
    http.get(job, json=lambda *_: (hub._job(), len(hub.runs) == 1 and hub.upgrade())[0])
    arguments = {"job_id": JOB_ID, "metrics_timeout": 0, "deferrable": deferrable}
    result = TaskRunner(clock, lambda: ControlHubStopJobOperator(task_id="stop", **arguments), context).run()
    assert (result["run_count"], result["outcome"]) == (2, "STOPPED")


@MODES
def test_sensor_follows_replacement(hub, clock, context, later, deferrable):
    hub.start()

    def upgrade():
        hub.upgrade()
        hub.run_duration = 100

    later(50, upgrade)
    result = TaskRunner(
        clock, lambda: ControlHubJobRunSensor(task_id="wait", job_id=JOB_ID, deferrable=deferrable), context
    ).run()
    assert result["run_count"] == 2


@MODES
@pytest.mark.parametrize("runs", [1, 2, 3], ids=["lower number", "same number", "higher number"])
def test_reimported_job_is_detected(hub, clock, context, later, deferrable, runs):
    hub.start(OTHER_USER)
    hub.end()
    later(50, lambda: hub.reimport(runs))
    with pytest.raises(ControlHubRunLostError, match="deleted and imported again, which restarts its run numbers"):
        run_job(clock, context, deferrable=deferrable)
    assert hub.calls == ["start"]
    assert clock.now < 1500


@MODES
def test_reimported_job_without_runs_is_detected(hub, http, clock, context, later, deferrable):
    later(50, hub.reimport)
    imported = {"createTime": 1_060_000}
    http.get(
        f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}",
        json=lambda *_: {**hub._job(), **(imported if clock.current_time > 1050 else {})},
    )
    with pytest.raises(ControlHubRunLostError, match=r"imported again, .* It has never run"):
        run_job(clock, context, deferrable=deferrable)
    assert clock.now < 1300


@MODES
def test_bulk_wait_fails_for_reimported_job(hub, http, clock, context, later, deferrable):
    http.post(f"{HUB}/jobrunner/rest/v1/jobs/startJobs", json=lambda *_: hub.start() and {})
    later(60, lambda: hub.reimport(1))
    arguments = {"job_ids": [JOB_ID], "wait_for_completion": True, "metrics_timeout": 0, "deferrable": deferrable}
    with pytest.raises(ControlHubRunLostError, match="imported again"):
        TaskRunner(clock, lambda: ControlHubStartJobsOperator(task_id="run", **arguments), context).run()
    assert hub.calls == []
    assert clock.now < 1500


@MODES
@pytest.mark.parametrize("runs", [1, 2])
def test_retry_does_not_resume_run_of_reimported_job(hub, clock, context, deferrable, runs):
    context["ti"].max_tries = 1
    with pytest.raises(Exception, match="has not ended within 60 s"):
        run_job(clock, context, deferrable=deferrable, wait_timeout=60, on_timeout="leave")
    context["ti"].try_number = 2
    hub.reimport(runs)
    hub.end()
    hub.run_duration = 100
    assert run_job(clock, context, deferrable=deferrable)["run_count"] == runs + 1
    assert hub.calls == ["start", "start"]


def test_trigger_stored_by_another_version_still_waits(hub, clock):
    hub.start()
    hub.run_duration = 50
    event = single_event(clock, ControlHubRunsTrigger(runs=[[JOB_ID, 1]]))
    assert "error" not in event
    assert len(json.dumps(event)) < 3000
