"""Waits for a run that an upgrade replaces with another one, and for one of a job that is imported again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_streamsets.control_hub import ControlHubRunFailedError, ControlHubRunLostError
from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator, ControlHubStopJobOperator
from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor
from airflow_provider_streamsets.triggers.run_group import ControlHubJobRunsTrigger
from airflow_provider_streamsets.triggers.runs import ControlHubJobRunTrigger
from tests.unit.living_hub import SOMEBODY_ELSE, LivingHub
from tests.unit.resuming import Legs, only_event, patched_clock
from tests.unit.scripted_hub import HUB, JOB_ID

pytestmark = pytest.mark.usefixtures("connection")
MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])
STATUSES = f"{HUB}/jobrunner/rest/v1/jobs/status"


@pytest.fixture
def clock(monkeypatch):
    return patched_clock(monkeypatch, is_control_hubs=True)


@pytest.fixture
def hub(http, clock):
    return LivingHub(http, clock)


@pytest.fixture
def later(hub, http, clock):
    """Let something happen at a poll that comes so many seconds after now."""

    def schedule(seconds: float, act: Any) -> None:
        due = [(clock.everywhere + seconds, act)]

        def status(*_: Any) -> Any:
            if due and clock.everywhere >= due[0][0]:
                due.pop()[1]()
            return {JOB_ID: hub.latest}

        http.post(STATUSES, json=status)

    return schedule


def run_job(clock, context, **arguments):
    arguments = {"job_id": JOB_ID, "metrics_timeout": 0, **arguments}
    return Legs(clock, lambda: ControlHubRunJobOperator(task_id="run", **arguments), context).run()


@MODES
def test_a_wait_follows_the_run_that_replaces_its_own(hub, clock, context, later, deferrable, task_log):
    def upgrade():
        hub.upgrade()
        hub.lasts = 200

    later(50, upgrade)
    result = run_job(clock, context, deferrable=deferrable)
    assert (result["run_count"], result["outcome"]) == (2, "SUCCEEDED")
    assert context["ti"].xcoms["run_count"] == 2
    assert "was replaced by run 2, as the job was upgraded while it was active" in task_log()


@MODES
def test_a_wait_follows_a_chain_of_replacements(hub, clock, context, later, deferrable):
    def upgrade_twice():
        hub.upgrade()
        hub.upgrade()
        hub.fail()

    later(50, upgrade_twice)
    with pytest.raises(ControlHubRunFailedError, match=r"Run 3 .* has failed") as error:
        run_job(clock, context, deferrable=deferrable)
    assert error.value.run_count == 3


@MODES
def test_a_replacement_that_somebody_has_restarted_is_judged_from_the_history(hub, clock, context, later, deferrable):
    def upgrade_and_restart():
        hub.upgrade()
        hub.end()
        hub.start(SOMEBODY_ELSE)

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
def test_a_restart_is_no_replacement(hub, clock, context, later, evidence, is_replacement):
    def upgrade():
        hub.runs[-1]["pipelineCommitId"] = "commit-1:org"
        hub.upgrade(**evidence)
        hub.lasts = 100

    later(50, upgrade)
    result = run_job(clock, context, deferrable=False, accept_stopped=True)
    assert (result["run_count"], result["outcome"]) == ((2, "SUCCEEDED") if is_replacement else (1, "STOPPED"))


def test_a_restart_with_another_version_long_after_the_end_is_no_replacement(hub, clock, context, later):
    def restart_later():
        hub.runs[-1]["pipelineCommitId"] = "commit-1:org"
        hub.end()
        clock.now += 61
        hub.start(SOMEBODY_ELSE)
        hub.runs[-1].update(previousId="run-1:org", pipelineCommitId="commit-2:org")

    later(50, restart_later)
    assert run_job(clock, context, deferrable=False)["run_count"] == 1


@MODES
def test_a_later_try_resumes_the_replacement(hub, clock, context, deferrable):
    context["ti"].max_tries = 1
    with pytest.raises(Exception, match="has not ended within 60 s"):
        run_job(clock, context, deferrable=deferrable, timeout=60, on_timeout="leave")
    context["ti"].try_number = 2
    hub.upgrade()
    hub.lasts = 500
    assert run_job(clock, context, deferrable=deferrable)["run_count"] == 2
    assert hub.calls == ["start"]


@MODES
def test_a_timeout_stops_the_replacement(hub, clock, context, later, deferrable):
    later(50, hub.upgrade)
    with pytest.raises(Exception, match=r"Run 2 .* has not ended within 100 s"):
        run_job(clock, context, deferrable=deferrable, wait_timeout=100)
    assert hub.calls == ["start", "stop"]
    assert hub.latest["status"] == "INACTIVE"


@MODES
def test_many_runs_are_followed_as_one(hub, http, clock, context, later, deferrable):
    http.post(f"{HUB}/jobrunner/rest/v1/jobs/startJobs", json=lambda *_: hub.start() and {})

    def upgrade():
        hub.upgrade()
        hub.lasts = 300

    later(60, upgrade)
    arguments = {"job_ids": [JOB_ID], "wait_for_completion": True, "metrics_timeout": 0, "deferrable": deferrable}
    results = Legs(clock, lambda: ControlHubStartJobsOperator(task_id="run", **arguments), context).run()
    assert [(result["run_count"], result["outcome"]) for result in results] == [(2, "SUCCEEDED")]
    assert clock.now > 1300


@MODES
def test_a_stop_reaches_the_replacement(hub, http, clock, context, deferrable):
    job = f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}"
    hub.start()
    http.get(job, json=lambda *_: (hub._job(), len(hub.runs) == 1 and hub.upgrade())[0])
    arguments = {"job_id": JOB_ID, "metrics_timeout": 0, "deferrable": deferrable}
    result = Legs(clock, lambda: ControlHubStopJobOperator(task_id="stop", **arguments), context).run()
    assert (result["run_count"], result["outcome"]) == (2, "STOPPED")


@MODES
def test_a_sensor_follows_the_replacement(hub, clock, context, later, deferrable):
    hub.start()

    def upgrade():
        hub.upgrade()
        hub.lasts = 100

    later(50, upgrade)
    result = Legs(
        clock, lambda: ControlHubJobRunSensor(task_id="wait", job_id=JOB_ID, deferrable=deferrable), context
    ).run()
    assert result["run_count"] == 2


@MODES
@pytest.mark.parametrize("runs", [1, 2, 3], ids=["lower number", "same number", "higher number"])
def test_a_job_that_is_imported_again_is_recognised(hub, clock, context, later, deferrable, runs):
    hub.start(SOMEBODY_ELSE)
    hub.end()
    later(50, lambda: hub.import_again(runs))
    with pytest.raises(ControlHubRunLostError, match="deleted and imported again, so its runs count anew"):
        run_job(clock, context, deferrable=deferrable)
    assert hub.calls == ["start"]
    assert clock.now < 1500


@MODES
def test_a_job_that_is_imported_again_and_never_run_is_recognised(hub, http, clock, context, later, deferrable):
    later(50, hub.import_again)
    imported = {"createTime": 1_060_000}
    http.get(
        f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}",
        json=lambda *_: {**hub._job(), **(imported if clock.everywhere > 1050 else {})},
    )
    with pytest.raises(ControlHubRunLostError, match=r"imported again, .* it has never run"):
        run_job(clock, context, deferrable=deferrable)
    assert clock.now < 1300


@MODES
def test_many_runs_of_which_one_is_of_a_job_that_is_imported_again_end(hub, http, clock, context, later, deferrable):
    http.post(f"{HUB}/jobrunner/rest/v1/jobs/startJobs", json=lambda *_: hub.start() and {})
    later(60, lambda: hub.import_again(1))
    arguments = {"job_ids": [JOB_ID], "wait_for_completion": True, "metrics_timeout": 0, "deferrable": deferrable}
    with pytest.raises(ControlHubRunLostError, match="imported again"):
        Legs(clock, lambda: ControlHubStartJobsOperator(task_id="run", **arguments), context).run()
    assert hub.calls == []
    assert clock.now < 1500


@MODES
@pytest.mark.parametrize("runs", [1, 2])
def test_a_later_try_takes_no_run_of_a_job_that_was_imported_again_for_its_own(hub, clock, context, deferrable, runs):
    context["ti"].max_tries = 1
    with pytest.raises(Exception, match="has not ended within 60 s"):
        run_job(clock, context, deferrable=deferrable, timeout=60, on_timeout="leave")
    context["ti"].try_number = 2
    hub.import_again(runs)
    hub.end()
    hub.lasts = 100
    assert run_job(clock, context, deferrable=deferrable)["run_count"] == runs + 1
    assert hub.calls == ["start", "start"]


@pytest.mark.parametrize("kind", [ControlHubJobRunTrigger, ControlHubJobRunsTrigger])
def test_triggers_that_another_version_has_stored_still_wait(hub, clock, kind):
    hub.start()
    hub.lasts = 50
    stored = {"job_id": JOB_ID, "run_count": 1} if kind is ControlHubJobRunTrigger else {"runs": [[JOB_ID, 1]]}
    event = only_event(clock, kind(**stored))
    assert "error" not in event
    assert len(json.dumps(event)) < 3000
