"""What a failed run leaves to callbacks and later tries, who has stopped a run, and what forced stops leave behind."""

from __future__ import annotations

import json
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubError,
    ControlHubJobStateError,
    ControlHubRunFailedError,
    ControlHubRunTimeoutError,
    ControlHubUnavailableError,
    Issue,
)
from airflow_provider_streamsets.control_hub.models import RunRef
from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator, ControlHubStopJobsOperator
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator, ControlHubStopJobOperator
from airflow_provider_streamsets.operators.templates import ControlHubRunJobTemplateOperator
from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor
from airflow_provider_streamsets.triggers.events import RunsWaitEvent
from airflow_provider_streamsets.triggers.runs import ControlHubRunsTrigger
from tests.unit.fakes.multi_job_hub import MultiJobHub, active, deactivating, errored, failed
from tests.unit.fakes.simulated_hub import OTHER_USER, SimulatedHub
from tests.unit.fakes.single_job_hub import HUB, JOB_ID, JOB_NAME, ME, SingleJobHub, counts_json, run_json, succeeded
from tests.unit.fakes.task_runner import TaskRunner, patch_clock

pytestmark = pytest.mark.usefixtures("connection")
MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])
JR = f"{HUB}/jobrunner/rest/v1"
BROKEN = {
    "errorMessage": "RUN_ERROR: JDBC_34 - Query failed in stage JDBCQueryConsumer_01 (JOBRUNNER_62)",
    "pipelineStatus": [{"sdcId": "engine-1", "status": "RUN_ERROR", "message": "JDBC_34 - no route to host"}],
    "ackTrackers": [{"sdcId": "engine-1", "ackStatus": "ERROR", "message": "CONTAINER_0166 - no threads"}],
}


@pytest.fixture
def clock(monkeypatch):
    return patch_clock(monkeypatch, shared_with_control_hub=True)


@pytest.fixture
def hub(http, clock):
    return SimulatedHub(http, clock)


@pytest.fixture
def run(clock, context):
    def run(kind, **arguments):
        arguments = {"metrics_timeout": 0, **arguments}
        return TaskRunner(clock, lambda: kind(task_id="task", **arguments), context).run()

    return run


def next_try(context):
    context["ti"].try_number += 1


def check_error(error: ControlHubRunFailedError, context: Any) -> None:
    assert (error.job_id, error.job_name, error.run_count, error.outcome) == (JOB_ID, JOB_NAME, 4, "FAILED")
    assert error.error_codes == ("JDBC_34", "CONTAINER_0166")
    assert error.stage == "JDBCQueryConsumer_01"
    assert error.metrics["output_count"] == 90
    assert error.result == json.loads(json.dumps(error.result))
    assert error.result["metrics"] == error.metrics
    assert context["ti"].xcoms["result"] == error.result
    assert error.failures == ()
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))


@MODES
def test_run_error_carries_codes_stage_and_metrics(http, context, run, deferrable):
    broken = run_json(4, "INACTIVE", "RED", **BROKEN)
    SingleJobHub(http, latest=succeeded(3), script=[broken], counts=counts_json(4))
    with pytest.raises(ControlHubRunFailedError) as error:
        run(ControlHubRunJobOperator, job_id=JOB_ID, deferrable=deferrable)
    check_error(error.value, context)


@MODES
def test_sensor_error_carries_codes_stage_and_metrics(http, context, clock, deferrable):
    SingleJobHub(http, latest=run_json(4, "INACTIVE", "RED", **BROKEN), counts=counts_json(4))
    with pytest.raises(ControlHubRunFailedError) as error:
        TaskRunner(
            clock, lambda: ControlHubJobRunSensor(task_id="a", job_id=JOB_ID, deferrable=deferrable), context
        ).run()
    check_error(error.value, context)


@MODES
def test_bulk_error_carries_error_per_failure(http, context, run, monkeypatch, deferrable):
    hub = MultiJobHub(http, a=[None], b=[None], c=[None])
    monkeypatch.setattr("airflow_provider_streamsets.control_hub.submission.wall_clock", lambda: 1_767_261_200.0)
    hub.after_start = {"a": [failed()], "b": [failed(message="RUN_ERROR: S3_SPOOLDIR_01")], "c": [succeeded(1)]}
    arguments = {"job_ids": ["a:org", "b:org", "c:org"], "wait_for_completion": True, "deferrable": deferrable}
    with pytest.raises(ControlHubRunFailedError, match="2 of 3") as error:
        run(ControlHubStartJobsOperator, **arguments)
    assert [(f.job_id, f.run_count, f.error_codes) for f in error.value.failures] == [
        ("a:org", 1, ("JDBC_00",)),
        ("b:org", 1, ("S3_SPOOLDIR_01",)),
    ]
    assert error.value.error_codes == ("JDBC_00", "S3_SPOOLDIR_01")
    assert error.value.result == context["ti"].xcoms["results"]
    assert str(pickle.loads(pickle.dumps(error.value)).failures[1]) == str(error.value.failures[1])


@MODES
def test_retry_fails_with_unacknowledged_error(hub, context, run, deferrable):
    context["ti"].max_tries = 2

    def break_down(start):
        start()
        hub.end("INACTIVE_ERROR", "RED")
        hub.runs[-1]["errorMessage"] = "RUN_ERROR: JDBC_34"
        return hub.latest

    hub.on_start = [break_down]
    for _ in range(3):
        with pytest.raises(ControlHubRunFailedError) as error:
            run(ControlHubRunJobOperator, job_id=JOB_ID, deferrable=deferrable)
        assert error.value.error_codes == ("JDBC_34",)
        next_try(context)
    assert "acknowledge_errors=True" in str(error.value)
    assert context["task_state_store"].values == {}
    assert hub.calls == ["start"]


@pytest.mark.parametrize("kind", [ControlHubRunJobOperator, ControlHubStartJobsOperator])
def test_last_try_leaves_no_airflow_variables(hub, http, context, run, monkeypatch, kind):
    values: dict[str, Any] = {}
    variables = SimpleNamespace(
        get=lambda key, default, **_: values.get(key, default),
        set=lambda key, value, **_: values.update({key: value}),
        delete=lambda key: values.pop(key, None),
    )
    monkeypatch.setattr("airflow_provider_streamsets.compat.Variable", variables)
    del context["task_state_store"]
    context["ti"].max_tries = 1

    def break_down(*_: Any) -> Any:
        hub.start()
        hub.end("INACTIVE_ERROR", "RED")
        return hub.latest

    hub.on_start = [break_down]
    http.post(f"{JR}/jobs/startJobs", json=lambda *_: break_down() and {})
    which = {"job_id": JOB_ID} if kind is ControlHubRunJobOperator else {"job_ids": [JOB_ID]}
    for left in (1, 0):
        with pytest.raises(ControlHubRunFailedError):
            run(kind, **which, wait_for_completion=True, deferrable=False)
        next_try(context)
        assert len(values) == left
    assert len(hub.runs) == 1


def test_retry_of_lost_try_raises_run_error(hub, context, run):
    context["ti"].max_tries = 1

    class LostError(BaseException):
        pass

    def lose(start):
        start()
        hub.end("INACTIVE_ERROR", "RED")
        raise LostError

    hub.on_start = [lose]
    with pytest.raises(LostError):
        run(ControlHubRunJobOperator, job_id=JOB_ID, deferrable=False)
    next_try(context)
    with pytest.raises(ControlHubRunFailedError, match="Run 1 failed"):
        run(ControlHubRunJobOperator, job_id=JOB_ID, deferrable=False)


def test_retry_delivers_run_despite_events_naming_starter(hub, context, run):
    context["ti"].max_tries = 1

    class LostError(BaseException):
        pass

    def lose(start):
        run_id = start()["id"]
        hub.runs[-1].update(status="INACTIVE", color="GRAY", finishTime=hub.runs[-1]["startTime"] + 1)
        hub.events[run_id] += [hub._event(ME, status) for status in ("ACTIVE", "DEACTIVATING", "INACTIVE")]
        raise LostError

    hub.on_start = [lose]
    with pytest.raises(LostError):
        run(ControlHubRunJobOperator, job_id=JOB_ID, deferrable=False)
    next_try(context)
    assert run(ControlHubRunJobOperator, job_id=JOB_ID, deferrable=False)["outcome"] == "SUCCEEDED"
    assert hub.calls == ["start"]


def test_acknowledge_errors_lets_retry_start_new_run(hub, context, run):
    context["ti"].max_tries = 1
    hub.on_start = [lambda start: (start(), hub.end("INACTIVE_ERROR", "RED"), hub.latest)[-1]]
    with pytest.raises(ControlHubRunFailedError):
        run(ControlHubRunJobOperator, job_id=JOB_ID, deferrable=False)
    next_try(context)
    hub.run_duration = 50
    assert run(ControlHubRunJobOperator, job_id=JOB_ID, deferrable=False, acknowledge_errors=True)["run_count"] == 2
    assert hub.acknowledged == [1]


def test_error_of_foreign_run_is_job_state_error(hub, run):
    hub.start(OTHER_USER)
    hub.end("INACTIVE_ERROR", "RED")
    with pytest.raises(ControlHubJobStateError, match="Acknowledge the error first"):
        run(ControlHubRunJobOperator, job_id=JOB_ID, deferrable=False)


@MODES
@pytest.mark.parametrize("after", [0, 30])
def test_error_of_forced_stop_is_acknowledged(hub, run, task_log, deferrable, after):
    hub.stops_immediately, hub.forced_end = False, ("INACTIVE_ERROR", "RED")
    with pytest.raises(ControlHubRunTimeoutError):
        run(ControlHubRunJobOperator, job_id=JOB_ID, wait_timeout=60, force_stop_after=after, deferrable=deferrable)
    assert hub.calls == (["start", "forceStop"] if after == 0 else ["start", "stop", "forceStop"])
    assert hub.acknowledged == [1]
    assert "acknowledged the error that its stop caused" in task_log()


def test_error_without_forced_stop_is_not_acknowledged(hub, run):
    def fail_while_stopping(*_):
        hub._stop("stop")
        hub.end("INACTIVE_ERROR", "RED")
        return {}

    hub.stops_immediately = False
    hub.on_start = [lambda start: start()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "_stop", lambda kind: (hub.calls.append(kind), hub.end("INACTIVE_ERROR", "RED"), {})[-1])
        with pytest.raises(ControlHubRunTimeoutError):
            run(ControlHubRunJobOperator, job_id=JOB_ID, wait_timeout=60, force_stop_after=30, deferrable=False)
    assert hub.calls == ["start", "stop"]
    assert hub.acknowledged == []


def test_restart_acknowledges_error_of_forced_stop(hub, run, task_log):
    hub.start(OTHER_USER)
    hub.stops_immediately, hub.forced_end = False, ("INACTIVE_ERROR", "RED")
    hub.run_duration = 100
    arguments = {"job_id": JOB_ID, "if_running": "restart", "force_stop_after": 10, "deferrable": False}
    assert run(ControlHubRunJobOperator, **arguments)["run_count"] == 2
    assert hub.acknowledged == [1]
    assert "Job 'Orders' run 1: stopped by this task" in task_log()


@pytest.mark.parametrize("status", [503, 403])
def test_failed_acknowledgement_is_logged_as_warning(hub, http, run, task_log, status):
    hub.forced_end = ("INACTIVE_ERROR", "RED")
    http.post(f"{JR}/jobs/acknowledgeErrors", status_code=status)
    with pytest.raises(ControlHubRunTimeoutError):
        run(ControlHubRunJobOperator, job_id=JOB_ID, wait_timeout=60, force_stop_after=0, deferrable=False)
    assert "Could not acknowledge errors caused by forced stops" in task_log()


def test_killed_task_acknowledges_error_of_forced_stop(hub, clock, monkeypatch, context):
    hub.forced_end = ("INACTIVE_ERROR", "RED")
    task = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=False, force_stop_after=0)
    monkeypatch.setattr("time.sleep", lambda seconds: task.on_kill())
    with pytest.raises(AirflowException, match="was killed"):
        task.execute(context)
    assert hub.calls == ["start", "forceStop"]
    assert hub.acknowledged == [1]


def test_killed_task_keeps_error_of_failed_run(hub, clock, monkeypatch, context):
    task = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=False, force_stop_after=0)

    def fail_and_kill(_: float) -> None:
        hub.end("INACTIVE_ERROR", "RED")
        task.on_kill()

    monkeypatch.setattr("time.sleep", fail_and_kill)
    with pytest.raises(AirflowException, match="was killed"):
        task.execute(context)
    assert (hub.calls, hub.acknowledged) == (["start"], [])


def test_killed_trigger_acknowledges_error_of_forced_stop(hub, clock, monkeypatch):
    hub.start()
    hub.forced_end = ("INACTIVE_ERROR", "RED")

    async def is_still_deferred(_: Any) -> bool:
        return False

    monkeypatch.setattr("airflow_provider_streamsets.triggers.base.is_still_deferred", is_still_deferred)
    trigger = ControlHubRunsTrigger(runs=[[JOB_ID, 1]], stop_on_kill=True, force_stop_after=0)
    clock.run(trigger.on_kill())
    assert hub.calls == ["forceStop"]
    assert hub.acknowledged == [1]


@MODES
def test_stop_jobs_acknowledges_only_forced_stops(http, run, deferrable):
    hub = MultiJobHub(http, a=[active()], b=[active()], c=[active()])
    hub.after_stop = {"a": [errored()], "b": [deactivating()], "c": [succeeded(1)]}
    hub.after_force = {"b": [deactivating(), errored()]}
    hub.after_acknowledgement = {"b": [succeeded(1)]}
    arguments = {"job_ids": ["a:org", "b:org", "c:org"], "force_stop_after": 90, "deferrable": deferrable}
    with pytest.raises(ControlHubRunFailedError):
        run(ControlHubStopJobsOperator, **arguments)
    assert hub.asked("forceStopJobs") == [["b"]]
    assert hub.asked("acknowledgeErrors") == [["b"]]


def test_forced_stop_without_wait_is_acknowledged(hub, run):
    hub.start()
    hub.forced_end = ("INACTIVE_ERROR", "RED")
    run(ControlHubStopJobOperator, job_id=JOB_ID, force=True, wait_for_completion=False, deferrable=False)
    assert hub.acknowledged == [1]


@MODES
def test_stop_by_task_is_attributed_to_it(hub, context, run, task_log, deferrable):
    hub.start()
    assert run(ControlHubStopJobOperator, job_id=JOB_ID, deferrable=deferrable)["outcome"] == "STOPPED"
    assert "was stopped by this task" in task_log()


@MODES
@pytest.mark.parametrize(
    ("user", "text"),
    [(ME, f"was stopped by {ME}, with the credential that started it"), ("x@org", "was stopped by user x@org")],
)
def test_stop_by_others_is_attributed_to_user(hub, context, run, deferrable, user, text):
    hub.on_start = [lambda start: (start(), hub.stop(user), hub.latest)[-1]]
    with pytest.raises(ControlHubRunFailedError, match=text) as error:
        run(ControlHubRunJobOperator, job_id=JOB_ID, deferrable=deferrable)
    assert error.value.outcome == "STOPPED"


@MODES
def test_instances_stopped_after_failure_are_attributed_to_task(http, context, run, task_log, deferrable):
    hub = MultiJobHub(http)
    hub.instance_scripts = [[failed()], [active(), active()]]

    def stop(names, answer):
        hub.mark_stopped_by(ME, *names)
        hub.scripts["instance-2:org"] = [hub._status("instance-2", succeeded(1))]

    http.post(f"{JR}/jobs/stopJobs", json=hub._recorded("stopJobs", stop))
    arguments = {"job_id": "template:org", "number_of_instances": 2, "if_instance_fails": "stop_others"}
    with pytest.raises(ControlHubRunFailedError, match="Other stopped runs: 1"):
        run(ControlHubRunJobTemplateOperator, **arguments, deferrable=deferrable)
    assert "Run 1 was stopped by this task (job 'Regional orders - 2')" in task_log()


def test_conflicting_evidence_is_logged(hub, clock, context, run, task_log):
    def finish_and_stop(start):
        start()
        hub.events[hub.latest["id"]].append(
            {**hub._event(None, "DEACTIVATING"), "message": "sdc reported pipeline in status 'FINISHED'"}
        )
        hub.stop(OTHER_USER)
        return hub.latest

    hub.on_start = [finish_and_stop]
    assert run(ControlHubRunJobOperator, job_id=JOB_ID, deferrable=False, metrics_timeout=30)["outcome"] == "SUCCEEDED"
    text = f"event messages: SUCCEEDED; a stop by user {OTHER_USER}: STOPPED"
    assert text in task_log()


def test_deferred_timeout_acknowledges_error_of_forced_stop(hub, context):
    hub.start()
    hub.end("INACTIVE_ERROR", "RED")
    task = ControlHubStopJobOperator(task_id="stop", job_id=JOB_ID, force=True, deferrable=True)
    error = ControlHubRunTimeoutError("late")
    event = RunsWaitEvent((RunRef(JOB_ID, 1, "Orders"),), error=error, forced=(JOB_ID,))
    with pytest.raises(ControlHubRunTimeoutError, match="late"):
        task.execute_complete(context, event.to_payload())
    assert hub.acknowledged == [1]


@pytest.mark.parametrize(
    "error",
    [
        ControlHubAuthenticationError("no", http_status=401, issues=[Issue("SSO_01", "bad"), Issue(None, "x" * 9000)]),
        ControlHubUnavailableError("down", http_status=503, retry_after=30.0, maybe_executed=True),
        ControlHubUnavailableError("down"),
        ControlHubError("odd", http_status=500),
    ],
)
def test_errors_keep_status_and_codes_across_deferral(error):
    payload = json.loads(json.dumps(RunsWaitEvent((RunRef("job:org", 1),), error=error).to_payload()))
    assert len(json.dumps(payload)) < 2000
    read = RunsWaitEvent.from_payload(payload).error
    assert (type(read), str(read), read.http_status, read.codes) == (
        type(error),
        str(error),
        error.http_status,
        error.codes,
    )
    for name in ("retry_after", "maybe_executed"):
        assert getattr(read, name, None) == getattr(error, name, None)


def test_error_stored_by_earlier_version_is_readable():
    stored = {
        "runs": [["job:org", 1]],
        "reason": "ended",
        "error": {"type": "ControlHubUnavailableError", "message": "down"},
    }
    error = RunsWaitEvent.from_payload(stored).error
    assert isinstance(error, ControlHubUnavailableError)
    assert (error.http_status, error.codes, error.retry_after, error.maybe_executed) == (None, (), None, False)
