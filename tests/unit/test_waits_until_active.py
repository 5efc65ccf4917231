"""Waiting until runs are active, instead of for their ends."""

from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowSensorTimeout, TaskDeferred

from airflow_provider_streamsets.control_hub import ControlHubRunFailedError, ControlHubRunTimeoutError
from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from airflow_provider_streamsets.operators.templates import ControlHubRunJobTemplateOperator
from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor
from tests.unit.living_hub import SOMEBODY_ELSE
from tests.unit.red_hub import RedHub
from tests.unit.resuming import Legs
from tests.unit.scripted_hub import JOB_ID
from tests.unit.scripted_runs import (
    TEMPLATE_ID,
    ScriptedRuns,
    activating,
    active,
    deactivating,
    errored,
    failed,
    succeeded,
)
from tests.unit.test_runs_that_stay_red import (
    MODES,
    NORTH_AND_SOUTH,
    SENSOR_MODES,
    clock,
    hub,
    red,
    run,
    sensor,
)

__all__ = ["clock", "hub", "run", "sensor"]

pytestmark = pytest.mark.usefixtures("connection")


def starting(run_count=1):
    return active(run_count, pipelineStatus=[{"sdcId": "engine-1", "status": "STARTING"}])


def running(run_count=1):
    return active(run_count, pipelineStatus=[{"sdcId": "engine-1", "status": "RUNNING"}])


@MODES
def test_wait_ends_when_run_and_pipelines_are_active(hub: RedHub, run, clock, context, deferrable):
    hub.activates_until, hub.starts_pipeline_until = 20, 40
    result = run(deferrable=deferrable, wait_for="active")
    assert 1040 <= clock.now < 1060
    assert (result["status"], result["color"], result["run_count"]) == ("ACTIVE", "GREEN", 1)
    assert (result["outcome"], result["metrics"], result["metrics_final"]) == (None, None, False)
    assert hub.calls == ["start"]
    assert hub.latest["status"] == "ACTIVE"
    assert json.loads(json.dumps(result)) == result
    # The keys are those of a task that does not wait.
    assert result.keys() == run(wait_for_completion=False, deferrable=False).keys()


@MODES
def test_retry_after_success_leaves_the_run_alone_however_it_goes(hub, run, context, deferrable):
    run(deferrable=deferrable, wait_for="active")
    hub.fail()
    result = run(deferrable=deferrable, wait_for="active")
    assert (result["run_count"], result["status"], result["color"]) == (1, "INACTIVE", "RED")
    assert hub.calls == ["start"]


@MODES
def test_clear_after_success_stops_the_run_and_starts_another(hub, run, context, deferrable):
    run(deferrable=deferrable, wait_for="active")
    context["ti"].max_tries += 1
    assert run(deferrable=deferrable, wait_for="active")["run_count"] == 2
    assert hub.calls == ["start", "stop", "start"]


@MODES
@pytest.mark.parametrize("end", [("INACTIVE", "RED"), ("INACTIVE_ERROR", "RED"), ("ACTIVATION_ERROR", "RED")])
def test_run_that_fails_before_it_is_active_fails_the_task(hub, run, context, deferrable, end):
    def start_and_end(start):
        started = start()
        hub.end(*end)
        return {**started, "status": "ACTIVATING"}

    hub.on_start.append(start_and_end)
    with pytest.raises(ControlHubRunFailedError, match="has failed") as caught:
        run(deferrable=deferrable, wait_for="active")
    assert caught.value.outcome == "FAILED"
    assert hub.calls == ["start"]


@MODES
def test_run_that_succeeds_before_it_is_seen_active_is_enough(hub, run, task_log, deferrable):
    hub.activates_until, hub.lasts = 60, 5
    result = run(deferrable=deferrable, wait_for="active")
    assert (result["status"], result["outcome"], result["metrics"]) == ("INACTIVE", None, None)
    assert "has ended before it was seen active" in task_log()


@MODES
def test_run_that_is_stopped_before_it_is_active_fails_the_task(hub, run, clock, deferrable):
    def start_and_stop(start):
        started = start()
        hub.stop(SOMEBODY_ELSE)
        return {**started, "status": "ACTIVATING"}

    hub.on_start.append(start_and_stop)
    with pytest.raises(ControlHubRunFailedError, match="was stopped by user"):
        run(deferrable=deferrable, wait_for="active")


@MODES
def test_run_that_stays_red_before_it_is_active_fails_and_is_stopped(hub, run, deferrable):
    hub.is_red()
    with pytest.raises(ControlHubRunFailedError, match="VALIDATION_0071"):
        run(deferrable=deferrable, wait_for="active", fail_on_red_after=60)
    assert hub.calls == ["start", "stop"]


@MODES
@pytest.mark.parametrize(("on_timeout", "calls"), [("stop", ["start", "stop"]), ("leave", ["start"])])
def test_run_that_is_not_active_in_time_is_stopped_or_left(hub, run, deferrable, on_timeout, calls):
    hub.starts_pipeline_until = float("inf")
    with pytest.raises(ControlHubRunTimeoutError, match="has not become active within 100 s"):
        run(deferrable=deferrable, wait_for="active", timeout=100, on_timeout=on_timeout)
    assert hub.calls == calls


@MODES
def test_next_try_waits_for_the_same_run(hub, run, deferrable):
    hub.starts_pipeline_until = 150
    with pytest.raises(ControlHubRunTimeoutError):
        run(deferrable=deferrable, wait_for="active", timeout=100, on_timeout="leave")
    assert run(deferrable=deferrable, wait_for="active", timeout=100, on_timeout="leave")["run_count"] == 1
    assert hub.calls == ["start"]


def test_kill_stops_the_run_that_is_not_active_yet(hub, context, monkeypatch):
    hub.activates_until = 60
    task = ControlHubRunJobOperator(task_id="task", job_id=JOB_ID, wait_for="active")

    def killed(_):
        task.on_kill()
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", killed)
    with pytest.raises(KeyboardInterrupt):
        task.execute(context)
    assert hub.calls == ["start", "stop"]


def test_deferred_task_hands_its_policies_to_the_trigger(hub, context):
    task = ControlHubRunJobOperator(
        task_id="task", job_id=JOB_ID, deferrable=True, wait_for="active", fail_on_red_after="90"
    )
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    arguments = deferred.value.trigger.serialize()[1]
    wanted = {"wait_for": "active", "fail_on_red_after": 90.0, "stop_on_kill": True, "metrics_timeout": 0.0}
    assert arguments.items() >= wanted.items()


@MODES
def test_many_runs_are_waited_for_until_each_was_seen_active(http, run, deferrable):
    hub = ScriptedRuns(http, a=[None], b=[None], c=[None])
    # One is RED again when the last becomes active, and one has ended.
    hub.after_start = {
        "a": [*[running()] * 3, red()],
        "b": [*[activating()] * 3, *[starting()] * 3, running()],
        "c": [*[active()] * 3, failed()],
    }
    results = run(
        ControlHubStartJobsOperator, job_ids=["a:org", "b:org", "c:org"], wait_for="active", deferrable=deferrable
    )
    assert [one["outcome"] for one in results] == [None] * 3
    assert hub.asked("stopJobs") == []


@MODES
def test_run_that_fails_before_it_is_active_fails_the_task_of_many(http, run, context, deferrable):
    hub = ScriptedRuns(http, a=[None], b=[None])
    hub.after_start = {"a": [running()], "b": [activating(), errored()]}
    with pytest.raises(ControlHubRunFailedError, match=r"1 of 2 runs did not succeed: Run 1 .*'b'"):
        run(ControlHubStartJobsOperator, job_ids=["a:org", "b:org"], wait_for="active", deferrable=deferrable)
    assert [one["outcome"] for one in context["ti"].xcoms["results"]] == [None, "FAILED"]


@MODES
def test_retry_after_success_leaves_many_runs_alone(http, run, deferrable):
    hub = ScriptedRuns(http, a=[None], b=[None])
    hub.after_start = {"a": [running()], "b": [running()]}
    arguments = {"job_ids": ["a:org", "b:org"], "wait_for": "active", "deferrable": deferrable}
    run(ControlHubStartJobsOperator, **arguments)
    hub.latest["a:org"] = {**hub.latest["a:org"], **failed()}
    assert [one["status"] for one in run(ControlHubStartJobsOperator, **arguments)] == ["INACTIVE", "ACTIVE"]
    assert hub.asked("startJobs") == [["a", "b"]]


@MODES
def test_instances_are_waited_for_until_active_and_then_left(http, run, context, deferrable):
    hub = ScriptedRuns(http)
    hub.instance_scripts = [[starting(), running()], [activating(), activating(), running()]]
    arguments = {
        "job_id": TEMPLATE_ID,
        "runtime_parameters": NORTH_AND_SOUTH,
        "wait_for": "active",
        "deferrable": deferrable,
        "delete_after_completion": True,
    }
    result = run(ControlHubRunJobTemplateOperator, **arguments)
    assert [(one["status"], one["outcome"]) for one in result["instances"]] == [("ACTIVE", None)] * 2
    assert [body["deleteAfterCompletion"] for body in hub.created] == [True]
    # A retry after success, and a clear.
    again = run(ControlHubRunJobTemplateOperator, **arguments)
    assert [one["job_id"] for one in again["instances"]] == ["instance-1:org", "instance-2:org"]
    assert len(hub.created) == 1
    assert hub.asked("deleteJobs") == []


@MODES
def test_clear_waits_for_new_instances_until_they_are_active(http, run, context, deferrable):
    hub = ScriptedRuns(http)
    hub.instance_scripts = [*[[running()]] * 2, *[[starting(), running()]] * 2]
    arguments = {"job_id": TEMPLATE_ID, "runtime_parameters": NORTH_AND_SOUTH, "wait_for": "active"}
    run(ControlHubRunJobTemplateOperator, deferrable=deferrable, **arguments)
    context["ti"].max_tries += 1
    result = run(ControlHubRunJobTemplateOperator, deferrable=deferrable, **arguments)
    assert [(one["job_id"], one["status"]) for one in result["instances"]] == [
        ("instance-3:org", "ACTIVE"),
        ("instance-4:org", "ACTIVE"),
    ]
    assert hub.asked("stopJobs") == [["instance-1", "instance-2"]]


@MODES
def test_clear_waits_for_new_runs_of_many_jobs_until_they_are_active(http, run, context, deferrable):
    hub = ScriptedRuns(http, a=[None], b=[None])
    hub.after_start = {"a": [running()], "b": [running()]}
    hub.after_stop = {"a": [succeeded()], "b": [succeeded()]}
    arguments = {"job_ids": ["a:org", "b:org"], "wait_for": "active", "deferrable": deferrable}
    run(ControlHubStartJobsOperator, **arguments)
    context["ti"].max_tries += 1
    hub.after_start = {"a": [starting(2), running(2)], "b": [starting(2), starting(2), running(2)]}
    assert [r["run_count"] for r in run(ControlHubStartJobsOperator, **arguments)] == [2, 2]
    assert hub.latest["b:org"]["pipelineStatus"][0]["status"] == "RUNNING"
    assert hub.asked("stopJobs") == [["a", "b"]]


@MODES
def test_retry_replaces_only_the_run_that_stayed_red(http, run, deferrable):
    hub = ScriptedRuns(http, a=[None], b=[None])
    hub.after_start = {"a": [red()], "b": [running()]}
    hub.after_stop = {"a": [deactivating(), errored()]}
    hub.after_acknowledgement = {"a": [succeeded()]}
    arguments = {"job_ids": ["a:org", "b:org"], "wait_for": "active", "fail_on_red_after": 60}
    with pytest.raises(ControlHubRunFailedError, match="RED for"):
        run(ControlHubStartJobsOperator, deferrable=deferrable, **arguments)
    hub.after_start = {"a": [running(2)]}
    results = run(ControlHubStartJobsOperator, deferrable=deferrable, **arguments)
    assert [(one["run_count"], one["status"]) for one in results] == [(2, "ACTIVE"), (1, "ACTIVE")]
    assert {tuple(names) for names in hub.asked("stopJobs")} == {("a",)}


@MODES
def test_instance_that_is_gone_after_it_was_active_is_a_success(http, run, clock, deferrable):
    hub = ScriptedRuns(http)
    hub.instance_scripts = [[running()], [*[starting()] * 8, running()]]

    def delete_first():
        if len(hub.looks) == 6:
            hub.latest.pop("instance-1:org", None)

    hub.on_look = delete_first
    result = run(
        ControlHubRunJobTemplateOperator,
        job_id=TEMPLATE_ID,
        runtime_parameters=NORTH_AND_SOUTH,
        wait_for="active",
        deferrable=deferrable,
        delete_after_completion=True,
    )
    assert [(one["status"], one["outcome"]) for one in result["instances"]] == [("ACTIVE", None)] * 2


@MODES
def test_red_instance_that_is_not_active_yet_fails_the_others(http, run, context, deferrable):
    hub = ScriptedRuns(http)
    hub.instance_scripts = [[red()], [starting()]]
    hub.after_stop = {"instance-1": [succeeded()], "instance-2": [succeeded()]}
    hub.was_stopped_by("me@org", "instance-1", "instance-2")
    with pytest.raises(ControlHubRunFailedError, match="RED for"):
        run(
            ControlHubRunJobTemplateOperator,
            job_id=TEMPLATE_ID,
            runtime_parameters=NORTH_AND_SOUTH,
            if_instance_fails="stop_others",
            wait_for="active",
            fail_on_red_after=60,
            deferrable=deferrable,
        )
    assert hub.asked("stopJobs")[:2] == [["instance-1"], ["instance-2"]]


@MODES
def test_timeout_of_many_names_those_that_are_not_active(http, run, deferrable):
    hub = ScriptedRuns(http, a=[None], b=[None])
    hub.after_start = {"a": [running()], "b": [starting()]}
    with pytest.raises(
        ControlHubRunTimeoutError, match="1 of 2 runs have not become active within 100 s: run 1 of job 'b'"
    ):
        run(
            ControlHubStartJobsOperator,
            job_ids=["a:org", "b:org"],
            wait_for="active",
            wait_timeout=100,
            deferrable=deferrable,
        )
    # The next try would start both anew.
    assert sorted(hub.asked("stopJobs")[0]) == ["a", "b"]


@pytest.mark.parametrize(
    ("max_tries", "on_error", "stopped"), [(0, "stop", [["a"]]), (0, "leave", []), (1, "stop", [])]
)
@pytest.mark.parametrize("ending", [errored(), red()], ids=["failed", "red"])
@MODES
def test_active_run_is_not_left_behind_by_the_last_try(
    http, run, context, deferrable, max_tries, on_error, stopped, ending
):
    """The other run fails before it is active."""
    hub = ScriptedRuns(http, a=[None], b=[None])
    hub.after_start = {"a": [running()], "b": [activating(), ending]}
    hub.after_stop = {"b": [succeeded()]}
    context["ti"].max_tries = max_tries
    arguments = {"job_ids": ["a:org", "b:org"], "wait_for": "active", "deferrable": deferrable, "on_error": on_error}
    with pytest.raises(ControlHubRunFailedError):
        run(ControlHubStartJobsOperator, **arguments, fail_on_red_after=60)
    assert [names for names in hub.asked("stopJobs") if names != ["b"]] == stopped


@MODES
def test_retry_all_leaves_no_active_instance_behind(http, run, deferrable):
    hub = ScriptedRuns(http)
    hub.instance_scripts = [[running()], [failed()], [running()], [running()]]
    hub.after_stop = {"instance-1": [succeeded()]}
    arguments = {"job_id": TEMPLATE_ID, "number_of_instances": 2, "wait_for": "active", "retry": "all"}
    with pytest.raises(ControlHubRunFailedError):
        run(ControlHubRunJobTemplateOperator, **arguments, deferrable=deferrable)
    result = run(ControlHubRunJobTemplateOperator, **arguments, deferrable=deferrable)
    assert [one["job_id"] for one in result["instances"]] == ["instance-3:org", "instance-4:org"]
    assert hub.asked("stopJobs") == [["instance-1"]]


def test_kill_stops_runs_that_are_active_while_others_are_not_yet(http, context, clock, monkeypatch):
    hub = ScriptedRuns(http, a=[None], b=[None])
    hub.after_start = {"a": [running()], "b": [starting()]}
    task = ControlHubStartJobsOperator(
        task_id="task", job_ids=["a:org", "b:org"], wait_for="active", deferrable=False, poll_interval=10
    )
    sleep = clock.sleep

    def killed(seconds):
        sleep(seconds)
        if len(hub.looks) > 3:
            task.on_kill()

    monkeypatch.setattr("time.sleep", killed)
    with pytest.raises(AirflowException, match="killed"):
        task.execute(context)
    assert [sorted(names) for names in hub.asked("stopJobs")] == [["a", "b"]]


@SENSOR_MODES
def test_sensor_waits_until_the_run_is_active(hub, sensor, clock, mode):
    hub.start(SOMEBODY_ELSE)
    hub.activates_until, hub.starts_pipeline_until = 30, 50
    result = sensor(mode, wait_for="active")
    assert (result["status"], result["color"], result["outcome"]) == ("ACTIVE", "GREEN", None)
    assert 1050 <= clock.now < 1070


@SENSOR_MODES
def test_sensor_fails_when_the_run_ends_badly_before_it_is_active(hub, sensor, mode):
    hub.start(SOMEBODY_ELSE)
    hub.end("ACTIVATION_ERROR", "RED")
    with pytest.raises(ControlHubRunFailedError):
        sensor(mode, wait_for="active")


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_sensor_times_out_when_the_run_does_not_become_active(hub, sensor, mode):
    hub.start(SOMEBODY_ELSE)
    hub.starts_pipeline_until = float("inf")
    with pytest.raises(AirflowSensorTimeout):
        sensor(mode, wait_for="active", timeout=100)


@pytest.mark.parametrize(
    ("operator", "arguments", "said"),
    [
        (ControlHubRunJobOperator, {"wait_for": "ready"}, "'wait_for' must be one of 'completion', 'active'"),
        (ControlHubRunJobOperator, {"wait_for_completion": False}, "does not go with wait_for_completion=False"),
        (ControlHubStartJobsOperator, {"wait_for_completion": False}, "does not go with wait_for_completion=False"),
        (ControlHubRunJobOperator, {"expect": "output_count > 1"}, "do not go with wait_for='active'"),
        (ControlHubRunJobOperator, {"stop_on_violation": True}, "do not go with wait_for='active'"),
        (ControlHubJobRunSensor, {"wait_for": "ready"}, "'wait_for' must be one of"),
    ],
)
def test_waits_that_make_no_sense_are_refused(operator, arguments, said):
    job = {"job_ids": [JOB_ID]} if operator is ControlHubStartJobsOperator else {"job_id": JOB_ID}
    with pytest.raises(ValueError, match=said):
        operator(task_id="task", **job, **{"wait_for": "active", **arguments})


def test_rendered_wait_that_makes_no_sense_is_refused(http, context):
    for arguments in ({"wait_for_completion": "{{ False }}"}, {"expect": ["output_count > 1"]}):
        task = ControlHubRunJobOperator(task_id="task", job_id=JOB_ID, wait_for="{{ 'active' }}", **arguments)
        task.render_template_fields({})
        with pytest.raises(ValueError, match="wait_for"):
            task.execute(context)
    assert not http.request_history


def test_start_of_many_jobs_waits_only_if_asked():
    def waits(**arguments):
        return ControlHubStartJobsOperator(task_id="task", job_ids=[JOB_ID], **arguments).wait_for_completion

    assert (waits(), waits(wait_for="active"), waits(wait_for="completion")) == (False, True, True)


@MODES
def test_run_of_another_caller_is_waited_for_until_its_end(http, context, clock, deferrable):
    hub = ScriptedRuns(http, a=[active()], b=[None])
    hub.scripts["a:org"] = [hub._status("a", status) for status in (active(), active(), succeeded())]
    hub.after_start = {"a": [active(2)], "b": [active()]}
    arguments = {"job_ids": ["a:org", "b:org"], "if_running": "wait_then_start", "wait_for": "active"}
    task = Legs(clock, lambda: ControlHubStartJobsOperator(task_id="task", deferrable=deferrable, **arguments), context)
    assert [(r["run_count"], r["status"]) for r in task.run()] == [(2, "ACTIVE"), (1, "ACTIVE")]
    assert hub.done == [("startJobs", ["a", "b"])]


@MODES
def test_clear_after_success_waits_for_many_new_runs(http, run, context, deferrable):
    hub = ScriptedRuns(http, a=[None])
    hub.after_start, hub.after_stop = {"a": [running()]}, {"a": [succeeded()]}
    arguments = {"job_ids": ["a:org"], "wait_for": "active", "deferrable": deferrable}
    run(ControlHubStartJobsOperator, **arguments)
    context["ti"].max_tries += 1
    hub.after_start = {"a": [activating(2), activating(2), running(2)]}
    (result,) = run(ControlHubStartJobsOperator, **arguments)
    assert (result["run_count"], result["status"]) == (2, "ACTIVE")


@MODES
@pytest.mark.parametrize(
    ("operator", "arguments", "name"),
    [
        (ControlHubStartJobsOperator, {"job_ids": ["a:org"]}, "a"),
        (ControlHubRunJobTemplateOperator, {"job_id": TEMPLATE_ID, "number_of_instances": 1}, "instance-1"),
    ],
    ids=["jobs", "template"],
)
def test_two_retries_after_success_leave_failed_runs_alone(http, run, deferrable, operator, arguments, name):
    """Airflow has noted the success of neither the first try nor the second."""
    hub = ScriptedRuns(http, a=[None])
    hub.after_start, hub.instance_scripts = {"a": [running()]}, [[running()]]
    arguments = {**arguments, "wait_for": "active", "deferrable": deferrable}
    run(operator, **arguments)
    hub.latest[f"{name}:org"] = hub._status(name, failed())
    for _ in range(2):
        result = run(operator, **arguments)
        (one,) = result["instances"] if isinstance(result, dict) else result
        assert (one["run_count"], one["status"]) == (1, "INACTIVE")
    assert len(hub.asked("startJobs")) + len(hub.created) == 1
