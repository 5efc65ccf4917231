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
from tests.unit.fakes.multi_job_hub import (
    TEMPLATE_ID,
    MultiJobHub,
    activating,
    active,
    deactivating,
    errored,
    failed,
    succeeded,
)
from tests.unit.fakes.simulated_hub import OTHER_USER
from tests.unit.fakes.single_job_hub import JOB_ID
from tests.unit.fakes.task_runner import TaskRunner
from tests.unit.fakes.unhealthy_hub import UnhealthyHub
from tests.unit.test_fail_on_red import (
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
def test_wait_ends_when_run_and_pipelines_are_active(hub: UnhealthyHub, run, clock, context, deferrable):
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
def test_retry_after_success_keeps_failed_run(hub, run, context, deferrable):
    run(deferrable=deferrable, wait_for="active")
    hub.fail()
    result = run(deferrable=deferrable, wait_for="active")
    assert (result["run_count"], result["status"], result["color"]) == (1, "INACTIVE", "RED")
    assert hub.calls == ["start"]


@MODES
def test_clear_after_success_stops_and_restarts_run(hub, run, context, deferrable):
    run(deferrable=deferrable, wait_for="active")
    context["ti"].max_tries += 1
    assert run(deferrable=deferrable, wait_for="active")["run_count"] == 2
    assert hub.calls == ["start", "stop", "start"]


@MODES
@pytest.mark.parametrize("end", [("INACTIVE", "RED"), ("INACTIVE_ERROR", "RED"), ("ACTIVATION_ERROR", "RED")])
def test_run_failing_before_active_fails_task(hub, run, context, deferrable, end):
    def start_and_end(start):
        started = start()
        hub.end(*end)
        return {**started, "status": "ACTIVATING"}

    hub.on_start.append(start_and_end)
    with pytest.raises(ControlHubRunFailedError, match=r"Run \d+ failed") as caught:
        run(deferrable=deferrable, wait_for="active")
    assert caught.value.outcome == "FAILED"
    assert hub.calls == ["start"]


@MODES
def test_run_ended_before_seen_active_succeeds(hub, run, task_log, deferrable):
    hub.activates_until, hub.run_duration = 60, 5
    result = run(deferrable=deferrable, wait_for="active")
    assert (result["status"], result["outcome"], result["metrics"]) == ("INACTIVE", None, None)
    assert "ended before it was seen active" in task_log()


@MODES
def test_run_stopped_before_active_fails_task(hub, run, clock, deferrable):
    def start_and_stop(start):
        started = start()
        hub.stop(OTHER_USER)
        return {**started, "status": "ACTIVATING"}

    hub.on_start.append(start_and_stop)
    with pytest.raises(ControlHubRunFailedError, match="was stopped by user"):
        run(deferrable=deferrable, wait_for="active")


@MODES
def test_red_run_before_active_fails_and_is_stopped(hub, run, deferrable):
    hub.is_red()
    with pytest.raises(ControlHubRunFailedError, match="VALIDATION_0071"):
        run(deferrable=deferrable, wait_for="active", fail_on_red_after=60)
    assert hub.calls == ["start", "stop"]


@MODES
@pytest.mark.parametrize(("on_timeout", "calls"), [("stop", ["start", "stop"]), ("leave", ["start"])])
def test_on_timeout_stops_or_leaves_run(hub, run, deferrable, on_timeout, calls):
    hub.starts_pipeline_until = float("inf")
    with pytest.raises(ControlHubRunTimeoutError, match="has not become active within 100 s"):
        run(deferrable=deferrable, wait_for="active", wait_timeout=100, on_timeout=on_timeout)
    assert hub.calls == calls


@MODES
def test_retry_waits_for_same_run(hub, run, deferrable):
    hub.starts_pipeline_until = 150
    with pytest.raises(ControlHubRunTimeoutError):
        run(deferrable=deferrable, wait_for="active", wait_timeout=100, on_timeout="leave")
    assert run(deferrable=deferrable, wait_for="active", wait_timeout=100, on_timeout="leave")["run_count"] == 1
    assert hub.calls == ["start"]


def test_kill_stops_run_not_yet_active(hub, context, monkeypatch):
    hub.activates_until = 60
    task = ControlHubRunJobOperator(task_id="task", job_id=JOB_ID, wait_for="active")

    def killed(_):
        task.on_kill()
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", killed)
    with pytest.raises(KeyboardInterrupt):
        task.execute(context)
    assert hub.calls == ["start", "stop"]


def test_trigger_carries_wait_options(hub, context):
    task = ControlHubRunJobOperator(
        task_id="task", job_id=JOB_ID, deferrable=True, wait_for="active", fail_on_red_after="90"
    )
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    arguments = deferred.value.trigger.serialize()[1]
    wanted = {"wait_for": "active", "fail_on_red_after": 90.0, "stop_on_kill": True, "metrics_timeout": 0.0}
    assert arguments.items() >= wanted.items()


@MODES
def test_bulk_start_waits_until_each_was_active(http, run, deferrable):
    hub = MultiJobHub(http, a=[None], b=[None], c=[None])
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
def test_one_run_failing_before_active_fails_bulk_task(http, run, context, deferrable):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [running()], "b": [activating(), errored()]}
    with pytest.raises(ControlHubRunFailedError, match=r"1 of 2 runs did not succeed: Run 1 .*job 'b'"):
        run(ControlHubStartJobsOperator, job_ids=["a:org", "b:org"], wait_for="active", deferrable=deferrable)
    assert [one["outcome"] for one in context["ti"].xcoms["results"]] == [None, "FAILED"]


@MODES
def test_retry_after_success_keeps_many_runs(http, run, deferrable):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [running()], "b": [running()]}
    arguments = {"job_ids": ["a:org", "b:org"], "wait_for": "active", "deferrable": deferrable}
    run(ControlHubStartJobsOperator, **arguments)
    hub.latest["a:org"] = {**hub.latest["a:org"], **failed()}
    assert [one["status"] for one in run(ControlHubStartJobsOperator, **arguments)] == ["INACTIVE", "ACTIVE"]
    assert hub.asked("startJobs") == [["a", "b"]]


@MODES
def test_waits_until_instances_are_active_and_leaves_them(http, run, context, deferrable):
    hub = MultiJobHub(http)
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
def test_clear_waits_until_new_instances_are_active(http, run, context, deferrable):
    hub = MultiJobHub(http)
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
def test_clear_waits_until_many_new_runs_are_active(http, run, context, deferrable):
    hub = MultiJobHub(http, a=[None], b=[None])
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
def test_retry_replaces_only_red_run(http, run, deferrable):
    hub = MultiJobHub(http, a=[None], b=[None])
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
def test_instance_deleted_after_active_succeeds(http, run, clock, deferrable):
    hub = MultiJobHub(http)
    hub.instance_scripts = [[running()], [*[starting()] * 8, running()]]

    def delete_first():
        if len(hub.polls) == 6:
            hub.latest.pop("instance-1:org", None)

    hub.on_poll = delete_first
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
def test_red_instance_before_active_stops_others(http, run, context, deferrable):
    hub = MultiJobHub(http)
    hub.instance_scripts = [[red()], [starting()]]
    hub.after_stop = {"instance-1": [succeeded()], "instance-2": [succeeded()]}
    hub.mark_stopped_by("me@org", "instance-1", "instance-2")
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
def test_timeout_names_runs_not_yet_active(http, run, deferrable):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [running()], "b": [starting()]}
    with pytest.raises(
        ControlHubRunTimeoutError, match=r"1 of 2 runs have not become active within 100 s: job 'b' run 1"
    ):
        run(
            ControlHubStartJobsOperator,
            job_ids=["a:org", "b:org"],
            wait_for="active",
            wait_timeout=100,
            deferrable=deferrable,
        )
    # The next try would start both again.
    assert sorted(hub.asked("stopJobs")[0]) == ["a", "b"]


@pytest.mark.parametrize(
    ("max_tries", "on_error", "stopped"), [(0, "stop", [["a"]]), (0, "leave", []), (1, "stop", [])]
)
@pytest.mark.parametrize("ending", [errored(), red()], ids=["failed", "red"])
@MODES
def test_last_try_applies_on_error_to_active_run(http, run, context, deferrable, max_tries, on_error, stopped, ending):
    """The other run fails before it is active."""
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [running()], "b": [activating(), ending]}
    hub.after_stop = {"b": [succeeded()]}
    context["ti"].max_tries = max_tries
    arguments = {"job_ids": ["a:org", "b:org"], "wait_for": "active", "deferrable": deferrable, "on_error": on_error}
    with pytest.raises(ControlHubRunFailedError):
        run(ControlHubStartJobsOperator, **arguments, fail_on_red_after=60)
    assert [names for names in hub.asked("stopJobs") if names != ["b"]] == stopped


@MODES
def test_retry_all_stops_active_instances(http, run, deferrable):
    hub = MultiJobHub(http)
    hub.instance_scripts = [[running()], [failed()], [running()], [running()]]
    hub.after_stop = {"instance-1": [succeeded()]}
    arguments = {"job_id": TEMPLATE_ID, "number_of_instances": 2, "wait_for": "active", "retry": "all"}
    with pytest.raises(ControlHubRunFailedError):
        run(ControlHubRunJobTemplateOperator, **arguments, deferrable=deferrable)
    result = run(ControlHubRunJobTemplateOperator, **arguments, deferrable=deferrable)
    assert [one["job_id"] for one in result["instances"]] == ["instance-3:org", "instance-4:org"]
    assert hub.asked("stopJobs") == [["instance-1"]]


def test_kill_stops_active_and_starting_runs(http, context, clock, monkeypatch):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [running()], "b": [starting()]}
    task = ControlHubStartJobsOperator(
        task_id="task", job_ids=["a:org", "b:org"], wait_for="active", deferrable=False, poll_interval=10
    )
    sleep = clock.sleep

    def killed(seconds):
        sleep(seconds)
        if len(hub.polls) > 3:
            task.on_kill()

    monkeypatch.setattr("time.sleep", killed)
    with pytest.raises(AirflowException, match="killed"):
        task.execute(context)
    assert [sorted(names) for names in hub.asked("stopJobs")] == [["a", "b"]]


@SENSOR_MODES
def test_sensor_waits_until_run_is_active(hub, sensor, clock, mode):
    hub.start(OTHER_USER)
    hub.activates_until, hub.starts_pipeline_until = 30, 50
    result = sensor(mode, wait_for="active")
    assert (result["status"], result["color"], result["outcome"]) == ("ACTIVE", "GREEN", None)
    assert 1050 <= clock.now < 1070


@SENSOR_MODES
def test_sensor_fails_if_run_fails_before_active(hub, sensor, mode):
    hub.start(OTHER_USER)
    hub.end("ACTIVATION_ERROR", "RED")
    with pytest.raises(ControlHubRunFailedError):
        sensor(mode, wait_for="active")


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_sensor_times_out_if_run_never_activates(hub, sensor, mode):
    hub.start(OTHER_USER)
    hub.starts_pipeline_until = float("inf")
    with pytest.raises(AirflowSensorTimeout):
        sensor(mode, wait_for="active", timeout=100)


@pytest.mark.parametrize(
    ("operator", "arguments", "message"),
    [
        (ControlHubRunJobOperator, {"wait_for": "ready"}, "'wait_for' must be one of 'completion', 'active'"),
        (ControlHubRunJobOperator, {"wait_for_completion": False}, "cannot be combined with wait_for_completion=False"),
        (
            ControlHubStartJobsOperator,
            {"wait_for_completion": False},
            "cannot be combined with wait_for_completion=False",
        ),
        (ControlHubRunJobOperator, {"expect": "output_count > 1"}, "cannot be combined with wait_for='active'"),
        (ControlHubRunJobOperator, {"stop_on_violation": True}, "cannot be combined with wait_for='active'"),
        (ControlHubJobRunSensor, {"wait_for": "ready"}, "'wait_for' must be one of"),
    ],
)
def test_rejects_invalid_wait_options(operator, arguments, message):
    job = {"job_ids": [JOB_ID]} if operator is ControlHubStartJobsOperator else {"job_id": JOB_ID}
    with pytest.raises(ValueError, match=message):
        operator(task_id="task", **job, **{"wait_for": "active", **arguments})


def test_rejects_invalid_rendered_wait_options(http, context):
    for arguments in ({"wait_for_completion": "{{ False }}"}, {"expect": ["output_count > 1"]}):
        task = ControlHubRunJobOperator(task_id="task", job_id=JOB_ID, wait_for="{{ 'active' }}", **arguments)
        task.render_template_fields({})
        with pytest.raises(ValueError, match="wait_for"):
            task.execute(context)
    assert not http.request_history


def test_bulk_start_waits_by_default():
    def waits(**arguments):
        return ControlHubStartJobsOperator(task_id="task", job_ids=[JOB_ID], **arguments).wait_for_completion

    assert (waits(), waits(wait_for="active"), waits(wait_for_completion=False)) == (True, True, False)


@MODES
def test_wait_then_start_awaits_end_of_other_run(http, context, clock, deferrable):
    hub = MultiJobHub(http, a=[active()], b=[None])
    hub.scripts["a:org"] = [hub._status("a", status) for status in (active(), active(), succeeded())]
    hub.after_start = {"a": [active(2)], "b": [active()]}
    arguments = {"job_ids": ["a:org", "b:org"], "if_running": "wait_then_start", "wait_for": "active"}
    task = TaskRunner(
        clock, lambda: ControlHubStartJobsOperator(task_id="task", deferrable=deferrable, **arguments), context
    )
    assert [(r["run_count"], r["status"]) for r in task.run()] == [(2, "ACTIVE"), (1, "ACTIVE")]
    assert hub.done == [("startJobs", ["a", "b"])]


@MODES
def test_clear_after_success_waits_for_activating_run(http, run, context, deferrable):
    hub = MultiJobHub(http, a=[None])
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
def test_repeated_retry_after_success_keeps_failed_runs(http, run, deferrable, operator, arguments, name):
    """Airflow has noted the success of neither the first try nor the second."""
    hub = MultiJobHub(http, a=[None])
    hub.after_start, hub.instance_scripts = {"a": [running()]}, [[running()]]
    arguments = {**arguments, "wait_for": "active", "deferrable": deferrable}
    run(operator, **arguments)
    hub.latest[f"{name}:org"] = hub._status(name, failed())
    for _ in range(2):
        result = run(operator, **arguments)
        (one,) = result["instances"] if isinstance(result, dict) else result
        assert (one["run_count"], one["status"]) == (1, "INACTIVE")
    assert len(hub.asked("startJobs")) + len(hub.created) == 1
