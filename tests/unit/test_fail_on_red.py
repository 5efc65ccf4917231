"""Runs that are started and never work: RED without end, with the reason only in what engines say."""

from __future__ import annotations

import json
import pickle
import sys
from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException, BaseSensorOperator

from airflow_provider_streamsets.control_hub import ControlHubRunFailedError, ControlHubRunTimeoutError
from airflow_provider_streamsets.control_hub.models import JobRun, RunRef
from airflow_provider_streamsets.control_hub.tracking.report import RunReport
from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from airflow_provider_streamsets.operators.templates import ControlHubRunJobTemplateOperator
from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor
from airflow_provider_streamsets.triggers.events import RunsWaitEvent, RunsWaitReason
from tests.unit.fakes.multi_job_hub import JR, TEMPLATE_ID, MultiJobHub, active, deactivating, job_id, succeeded
from tests.unit.fakes.simulated_hub import OTHER_USER
from tests.unit.fakes.single_job_hub import JOB_ID, JOB_NAME, run_json
from tests.unit.fakes.task_runner import TaskRunner, patch_clock
from tests.unit.fakes.unhealthy_hub import REASON, REFUSED, UnhealthyHub

pytestmark = pytest.mark.usefixtures("connection")
MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])
SENSOR_MODES = pytest.mark.parametrize("mode", ["poke", "reschedule", "deferrable"])
NORTH_AND_SOUTH = [{"REGION": "north"}, {"REGION": "south"}]


def red(run_count=1, **fields):
    return active(run_count, **{**REFUSED, **fields})


@pytest.fixture
def clock(monkeypatch):
    return patch_clock(monkeypatch, shared_with_control_hub=True)


@pytest.fixture
def hub(http, clock):
    return UnhealthyHub(http, clock)


@pytest.fixture
def run(clock, context):
    """Runs one try of a task; the next one is a later try."""
    context["ti"].max_tries = 3

    def run_try(kind=ControlHubRunJobOperator, **arguments):
        arguments = {"metrics_timeout": 0, "poll_interval": 10, **arguments}
        if kind is ControlHubRunJobOperator:
            arguments["job_id"] = JOB_ID
        try:
            return TaskRunner(clock, lambda: kind(task_id="task", **arguments), context).run()
        finally:
            context["ti"].try_number += 1

    return run_try


@MODES
def test_red_run_fails_with_reason_and_is_stopped(hub, run, clock, context, deferrable):
    hub.is_red(since=20)
    with pytest.raises(ControlHubRunFailedError, match="VALIDATION_0071") as caught:
        run(deferrable=deferrable, fail_on_red_after=60)
    assert 1080 <= clock.now < 1080 + 20
    assert hub.calls == ["start", "stop"]
    error = caught.value
    assert str(error).endswith(f"was RED for {error_seconds(error)} s: {REASON} (job 'Orders').")
    assert (error.job_id, error.job_name, error.run_count, error.outcome) == (JOB_ID, JOB_NAME, 1, "FAILED")
    assert error.error_codes == ("VALIDATION_0071",)
    assert {name: error.result[name] for name in ("status", "color", "outcome", "error_message", "metrics")} == {
        "status": "ACTIVE",
        "color": "RED",
        "outcome": "FAILED",
        "error_message": REASON,
        "metrics": None,
    }
    assert context["ti"].xcoms["result"] == error.result == json.loads(json.dumps(error.result))
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)


def error_seconds(error):
    return str(error).partition("RED for ")[2].partition(" s")[0]


@MODES
def test_retry_starts_new_run_after_red_one(hub, run, deferrable):
    hub.is_red(1)
    with pytest.raises(ControlHubRunFailedError):
        run(deferrable=deferrable, fail_on_red_after="60")
    hub.run_duration = 30
    assert run(deferrable=deferrable, fail_on_red_after="60")["run_count"] == 2
    assert hub.calls == ["start", "stop", "start"]


@MODES
def test_retry_waits_until_red_run_is_stopped(hub, run, clock, deferrable):
    hub.is_red(1)
    hub.stops_immediately = False
    with pytest.raises(ControlHubRunFailedError):
        run(deferrable=deferrable, fail_on_red_after=60, force_stop_after=30)
    # Control Hub confirmed no stop, so it was forced.
    assert hub.calls == ["start", "stop", "forceStop"]
    hub.run_duration = 30
    assert run(deferrable=deferrable, fail_on_red_after=60, force_stop_after=30)["run_count"] == 2


@MODES
def test_retry_acknowledges_error_of_unconfirmed_stop(hub, run, deferrable):
    hub.is_red(1)
    hub.stops_immediately = False
    with pytest.raises(ControlHubRunFailedError):
        run(deferrable=deferrable, fail_on_red_after=60)
    hub.end("INACTIVE_ERROR", "RED")
    hub.run_duration = 30
    assert run(deferrable=deferrable, fail_on_red_after=60)["run_count"] == 2
    assert hub.acknowledged == [1]


@MODES
def test_retry_resumes_red_run_left_active(hub, run, deferrable):
    hub.is_red(1, until=150)
    with pytest.raises(ControlHubRunFailedError):
        run(deferrable=deferrable, fail_on_red_after=60, on_error="leave")
    with pytest.raises(ControlHubRunFailedError):
        run(deferrable=deferrable, fail_on_red_after=60, on_error="leave")
    hub.run_duration = 300
    assert run(deferrable=deferrable, fail_on_red_after=60, on_error="leave")["run_count"] == 1
    assert hub.calls == ["start"]


@MODES
def test_temporary_red_is_no_failure(hub, run, deferrable):
    hub.is_red(since=10, until=60)
    hub.is_red(since=80, until=130)
    hub.run_duration = 200
    assert run(deferrable=deferrable, fail_on_red_after=timedelta(seconds=60))["outcome"] == "SUCCEEDED"


@MODES
def test_timeout_of_red_run_names_reason(hub, run, task_log, deferrable):
    hub.is_red()
    with pytest.raises(ControlHubRunTimeoutError, match="Last status: ACTIVE/RED: VALIDATION_0071"):
        run(deferrable=deferrable, wait_timeout=600)
    assert hub.calls == ["start", "stop"]
    assert f"Control Hub reports a problem, which may be temporary: {REASON}" in task_log()


@MODES
def test_joined_red_run_fails_task_without_stop(hub, run, deferrable):
    hub.start(OTHER_USER)
    hub.is_red()
    with pytest.raises(ControlHubRunFailedError, match="RED for"):
        run(deferrable=deferrable, fail_on_red_after=60, if_running="join")
    assert hub.calls == []


@MODES
def test_red_replacement_fails_and_is_stopped(hub, run, context, deferrable):
    hub.is_red(2)

    def start_and_upgrade(start):
        first = start()
        hub.upgrade()
        return first

    hub.on_start.append(start_and_upgrade)
    with pytest.raises(ControlHubRunFailedError, match="Run 2 was RED for"):
        run(deferrable=deferrable, fail_on_red_after=60)
    assert hub.calls == ["start", "stop"]


@MODES
def test_wait_then_start_tolerates_red_other_run(hub, run, clock, deferrable):
    hub.start(OTHER_USER)
    hub.is_red(1, until=300)
    hub.run_duration = 400
    result = run(deferrable=deferrable, fail_on_red_after=60, if_running="wait_then_start")
    assert result["run_count"] == 2


@MODES
def test_stop_others_applies_to_red_instance(http, run, context, deferrable):
    hub = MultiJobHub(http)
    hub.instance_scripts = [[red()], [active()]]
    hub.after_stop = {"instance-1": [deactivating()], "instance-2": [succeeded()]}
    hub.mark_stopped_by("me@org", "instance-2")
    with pytest.raises(ControlHubRunFailedError, match="VALIDATION_0071") as caught:
        run(
            ControlHubRunJobTemplateOperator,
            job_id=TEMPLATE_ID,
            runtime_parameters=NORTH_AND_SOUTH,
            if_instance_fails="stop_others",
            deferrable=deferrable,
            fail_on_red_after=60,
        )
    assert hub.asked("stopJobs")[:2] == [["instance-1"], ["instance-2"]]
    assert [one["outcome"] for one in context["ti"].xcoms["results"]] == ["FAILED", "STOPPED"]
    assert [one["status"] for one in context["ti"].xcoms["results"]] == ["ACTIVE", "INACTIVE"]
    assert [failure.job_id for failure in caught.value.failures] == ["instance-1:org"]


@MODES
@pytest.mark.parametrize("on_error", ["stop", "leave"])
def test_wait_others_stops_only_red_instances(http, run, context, clock, deferrable, on_error):
    hub = MultiJobHub(http)
    hub.instance_scripts = [[red()], [*[active()] * 60, succeeded()]]
    hub.after_stop = {"instance-1": [succeeded()]}
    with pytest.raises(ControlHubRunFailedError, match=r"1 of 2 runs did not succeed: Run 1 was RED for 6"):
        run(
            ControlHubRunJobTemplateOperator,
            job_id=TEMPLATE_ID,
            runtime_parameters=NORTH_AND_SOUTH,
            deferrable=deferrable,
            fail_on_red_after=60,
            on_error=on_error,
        )
    assert set(map(tuple, hub.asked("stopJobs"))) == ({("instance-1",)} if on_error == "stop" else set())
    assert [one["outcome"] for one in context["ti"].xcoms["results"]] == ["FAILED", "SUCCEEDED"]
    # The instance that was abandoned is polled no more.
    assert (
        sum("instance-1:org" in poll for poll in hub.polls) < 20 < sum("instance-2:org" in poll for poll in hub.polls)
    )


@MODES
def test_red_instance_is_stopped_soon_after_outage(http, run, clock, deferrable):
    """Not only when the others have ended."""
    hub, began, stopped = MultiJobHub(http), clock.now, []
    hub.instance_scripts = [[red()], [*[active()] * 150, succeeded()]]
    hub.after_stop = {"instance-1": [succeeded()]}
    stop = hub._recorded("stopJobs", hub._stop)

    def unavailable_at_first(request, answer):
        if clock.now - began < 600:
            answer.status_code = 503
            return {}
        stopped.append(clock.now - began)
        return stop(request, answer)

    http.post(f"{JR}/jobs/stopJobs", json=unavailable_at_first)
    with pytest.raises(ControlHubRunFailedError, match=r"1 of 2 runs did not succeed"):
        run(
            ControlHubRunJobTemplateOperator,
            job_id=TEMPLATE_ID,
            runtime_parameters=NORTH_AND_SOUTH,
            deferrable=deferrable,
            fail_on_red_after=60,
        )
    assert 600 <= stopped[0] < 800 < clock.now - began


@MODES
def test_joined_red_run_among_many_is_not_stopped(http, run, deferrable):
    hub = MultiJobHub(http, a=[red()], b=[None])
    hub.after_start = {"b": [active(), succeeded()]}
    arguments = {"job_ids": ["a:org", "b:org"], "wait_for_completion": True, "fail_on_red_after": 60}
    with pytest.raises(ControlHubRunFailedError, match="RED for"):
        run(ControlHubStartJobsOperator, deferrable=deferrable, if_running="join", **arguments)
    assert hub.asked("stopJobs") == []


@MODES
def test_retry_restarts_only_red_jobs(http, run, clock, deferrable):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [red()], "b": [active(), succeeded()]}
    hub.after_stop = {"a": [deactivating(), succeeded()]}
    hub.mark_stopped_by("me@org", "a")
    arguments = {"job_ids": ["a:org", "b:org"], "wait_for_completion": True, "fail_on_red_after": 60}
    with pytest.raises(ControlHubRunFailedError, match="RED for"):
        run(ControlHubStartJobsOperator, deferrable=deferrable, **arguments)
    assert hub.asked("stopJobs")[0] == ["a"]
    hub.after_start = {"a": [active(2), succeeded(2)]}
    results = run(ControlHubStartJobsOperator, deferrable=deferrable, **arguments)
    assert [(one["job_id"], one["run_count"]) for one in results] == [("a:org", 2), ("b:org", 1)]
    assert hub.asked("startJobs") == [["a", "b"], ["a"]]


@MODES
def test_retry_resumes_red_run_left_among_many(http, run, deferrable):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [red()], "b": [active(), succeeded()]}
    arguments = {"job_ids": ["a:org", "b:org"], "wait_for": "completion", "fail_on_red_after": 60, "on_error": "leave"}
    with pytest.raises(ControlHubRunFailedError, match="RED for"):
        run(ControlHubStartJobsOperator, deferrable=deferrable, **arguments)
    hub.scripts["a:org"] = [hub._status("a", active()), hub._status("a", succeeded())]
    results = run(ControlHubStartJobsOperator, deferrable=deferrable, **arguments)
    assert {one["job_id"]: (one["run_count"], one["outcome"]) for one in results} == {
        "a:org": (1, "SUCCEEDED"),
        "b:org": (1, "SUCCEEDED"),
    }
    assert (len(hub.asked("startJobs")), hub.asked("stopJobs")) == (1, [])


@MODES
def test_retry_replaces_red_instance(http, run, deferrable):
    hub = MultiJobHub(http)
    hub.instance_scripts = [[red()], [active(), succeeded()], [succeeded()]]
    hub.after_stop = {"instance-1": [succeeded()]}
    arguments = {"job_id": TEMPLATE_ID, "runtime_parameters": NORTH_AND_SOUTH, "fail_on_red_after": 60}
    with pytest.raises(ControlHubRunFailedError, match="RED for"):
        run(ControlHubRunJobTemplateOperator, deferrable=deferrable, **arguments)
    result = run(ControlHubRunJobTemplateOperator, deferrable=deferrable, **arguments)
    assert [one["job_id"] for one in result["instances"]] == ["instance-3:org", "instance-2:org"]


def test_red_run_costs_triggerer_no_extra_request(http, hub, run):
    hub.is_red()
    with pytest.raises(ControlHubRunFailedError):
        run(deferrable=True, fail_on_red_after=600, poll_interval=60)
    polls = [request for request in http.request_history if request.path.endswith("/jobs/status")]
    others = [request for request in http.request_history if "/currentstatus" in request.path]
    assert len(polls) < 40
    assert len(others) <= 2


@MODES
def test_timeout_of_bulk_start_names_reason(http, run, deferrable):
    hub = MultiJobHub(http, a=[None])
    hub.after_start = {"a": [red()]}
    with pytest.raises(ControlHubRunTimeoutError, match=r"Last status: ACTIVE/RED: VALIDATION_0071 .*engine engine-1"):
        run(
            ControlHubStartJobsOperator,
            job_ids=["a:org"],
            wait_for_completion=True,
            wait_timeout=100,
            deferrable=deferrable,
        )


@pytest.fixture
def sensor(monkeypatch, clock, context):
    """Runs a sensor to its end in a mode, each poke of a rescheduled one in a process of its own."""
    base = sys.modules[BaseSensorOperator.__module__]
    if hasattr(base, "_orig_start_date"):
        monkeypatch.setattr(base, "_orig_start_date", lambda **_: None)
        monkeypatch.setattr(base, "_is_metadatabase_mysql", lambda: False)

    def run(mode, **arguments):
        arguments = {"poke_interval": 10, "job_id": JOB_ID, **arguments}
        if mode == "deferrable":
            return TaskRunner(
                clock, lambda: ControlHubJobRunSensor(task_id="t", deferrable=True, **arguments), context
            ).run()
        for _ in range(60):
            try:
                return ControlHubJobRunSensor(task_id="t", deferrable=False, mode=mode, **arguments).execute(context)
            except Exception as error:
                if type(error).__name__ != "AirflowRescheduleException":
                    raise
            clock.sleep(10)
        raise AssertionError("the sensor never ends")

    return run


@SENSOR_MODES
def test_sensor_fails_if_run_stays_red(hub, sensor, clock, context, mode):
    hub.start(OTHER_USER)
    hub.is_red(since=20)
    with pytest.raises(ControlHubRunFailedError, match=r"RED for .*VALIDATION_0071"):
        sensor(mode, fail_on_red_after=60)
    assert 1080 <= clock.now < 1100
    assert context["ti"].xcoms["result"]["error_message"] == REASON
    assert hub.calls == []
    assert context["task_state_store"].values == {}


def test_rescheduled_sensor_warns_without_state_store(hub, sensor, context, task_log):
    del context["task_state_store"]
    hub.start(OTHER_USER)
    hub.is_red()
    hub.run_duration = 200
    assert sensor("reschedule", fail_on_red_after=60)["outcome"] == "SUCCEEDED"
    assert "red_since cannot be stored between pokes" in task_log()


@SENSOR_MODES
def test_sensor_outlasts_temporary_red(hub, sensor, mode):
    hub.start(OTHER_USER)
    hub.is_red(since=10, until=60)
    hub.is_red(since=80, until=130)
    hub.run_duration = 200
    assert sensor(mode, fail_on_red_after=60)["outcome"] == "SUCCEEDED"


@SENSOR_MODES
def test_soft_fail_skips_sensor_if_run_stays_red(hub, sensor, mode):
    hub.start(OTHER_USER)
    hub.is_red()
    with pytest.raises(AirflowSkipException):
        sensor(mode, fail_on_red_after=60, soft_fail=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fail_on_red_after": 0}, "'fail_on_red_after' must be a number of seconds above 0"),
        ({"fail_on_red_after": "soon"}, "'fail_on_red_after' must be"),
        ({"fail_on_red_after": True}, "'fail_on_red_after' must be"),
    ],
)
def test_rejects_invalid_red_limits(arguments, message):
    with pytest.raises(ValueError, match=message):
        ControlHubRunJobOperator(task_id="task", job_id=JOB_ID, **arguments)


def test_validates_red_limit_after_rendering(http, context):
    task = ControlHubRunJobOperator(task_id="task", job_id=JOB_ID, fail_on_red_after="{{ 'x' }}")
    sensor = ControlHubJobRunSensor(task_id="wait", job_id=JOB_ID, fail_on_red_after="{{ 'x' }}")
    for one in (task, sensor):
        one.render_template_fields({})
        with pytest.raises(ValueError, match="'fail_on_red_after' must be"):
            one.execute(context)
    assert not http.request_history


def test_event_restores_report_of_red_run():
    run = JobRun.from_wire({**run_json(4), **REFUSED})
    report = RunReport.from_red_run(job_id=job_id("a"), job_name="a", run=run, red_for=61.0)
    event = RunsWaitEvent(
        (RunRef("a:org", 4), RunRef("b:org", 1)),
        RunsWaitReason.RED,
        red_since={"b:org": 5.0},
        reports={"a:org": report},
    )
    payload = json.loads(json.dumps(event.to_payload()))
    again = RunsWaitEvent.from_payload(payload)
    assert again.reports["a:org"].summary == report.summary
    assert again.run_group_state(9.0)["red_for"] == {"b:org": 4.0}
