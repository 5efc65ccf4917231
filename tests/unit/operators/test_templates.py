from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred

from airflow_provider_streamsets.control_hub import (
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubRunFailedError,
    ControlHubRunTimeoutError,
    ControlHubUnavailableError,
)
from airflow_provider_streamsets.operators.templates import ControlHubRunJobTemplateOperator
from tests.unit.fakes.multi_job_hub import (
    TEMPLATE_ID,
    TEMPLATE_NAME,
    MultiJobHub,
    activating,
    active,
    failed,
    succeeded,
)
from tests.unit.fakes.single_job_hub import HUB, ME
from tests.unit.fakes.task_runner import TaskRunner, patch_clock

pytestmark = pytest.mark.usefixtures("connection")

START = f"{HUB}/jobrunner/rest/v1/job/{TEMPLATE_ID}/createAndStartJobInstances"
MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])
NORTH_AND_SOUTH = [{"REGION": "north"}, {"REGION": "south"}]


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    return patch_clock(monkeypatch)


def operator(**arguments: Any) -> ControlHubRunJobTemplateOperator:
    if "number_of_instances" not in arguments:
        arguments.setdefault("runtime_parameters", NORTH_AND_SOUTH)
    if "job_name" not in arguments:
        arguments.setdefault("job_id", TEMPLATE_ID)
    return ControlHubRunJobTemplateOperator(task_id="run", **{"deferrable": False, "metrics_timeout": 0, **arguments})


@pytest.fixture
def run(clock, context):
    """Runs the template to the end, in however many legs that takes."""

    def run_template(deferrable=False, **arguments: Any) -> Any:
        return TaskRunner(clock, lambda: operator(deferrable=deferrable, **arguments), context).run()

    return run_template


def hub_with(http, *scripts):
    """A Control Hub whose next instances have these statuses after their start."""
    hub = MultiJobHub(http)
    hub.instance_scripts = [list(script) for script in scripts]
    return hub


def test_starts_instance_per_parameter_set_in_one_request(http, run, context):
    hub = hub_with(http, [active(), succeeded()], [active(), active(), succeeded()])
    result = run()
    (body,) = hub.created
    assert body == {
        "namePostfixType": "COUNTER",
        "paramName": None,
        "runtimeParametersList": [{"REGION": "north", "SIZE": "10"}, {"REGION": "south", "SIZE": "10"}],
        "name": None,
        "description": None,
        "rawJobTags": None,
        "attachToTemplate": True,
        "deleteAfterCompletion": False,
    }
    assert (result["template_id"], result["template_name"]) == (TEMPLATE_ID, TEMPLATE_NAME)
    assert [(i["job_id"], i["job_name"], i["run_count"], i["outcome"]) for i in result["instances"]] == [
        ("instance-1:org", "Regional orders - 1", 1, "SUCCEEDED"),
        ("instance-2:org", "Regional orders - 2", 1, "SUCCEEDED"),
    ]
    assert hub.polls == [["instance-1:org", "instance-2:org"]] * 2 + [["instance-2:org"]]
    assert json.loads(json.dumps(result)) == result


def test_pushes_instance_ids_and_link_before_wait(http, context):
    hub_with(http)
    with pytest.raises(TaskDeferred):
        operator(deferrable=True).execute(context)
    assert context["ti"].xcoms == {
        "job_id": TEMPLATE_ID,
        "job_ids": ["instance-1:org", "instance-2:org"],
        "run_counts": {"instance-1:org": 1, "instance-2:org": 1},
        "streamsets_job_link": f"{HUB}/sch/jobs/detail/{TEMPLATE_ID}",
    }


def test_link_never_leads_to_instance_that_is_deleted(http, run, context):
    hub_with(http, [succeeded()])
    run(number_of_instances=1, delete_after_completion=True)
    assert context["ti"].xcoms["streamsets_job_link"] == f"{HUB}/sch/jobs/detail/{TEMPLATE_ID}"


def test_starts_number_of_instances_with_template_values(http, run):
    hub = hub_with(http)
    assert len(run(number_of_instances=3)["instances"]) == 3
    assert hub.created[0]["runtimeParametersList"] == [{"REGION": "emea", "SIZE": "10"}] * 3


def test_sends_all_instance_options(http, run):
    hub = hub_with(http)
    run(
        instance_name="Night",
        description="of tonight",
        suffix="PARAM_VALUE",
        suffix_parameter="REGION",
        job_tags=["night", "region"],
        attach_to_template=False,
        inherit_permissions=True,
    )
    (body,) = hub.created
    expected = {
        "namePostfixType": "PARAM_VALUE",
        "paramName": "REGION",
        "name": "Night",
        "description": "of tonight",
        "rawJobTags": ["night", "region"],
        "attachToTemplate": False,
    }
    assert {name: body[name] for name in expected} == expected
    (call,) = (request for request in http.request_history if "createAndStart" in request.url)
    assert call.qs == {"inheritpermissions": ["true"]}


def test_finds_template_by_name(http, run):
    hub_with(http)
    result = run(job_name=TEMPLATE_NAME)
    assert (result["template_id"], result["template_name"]) == (TEMPLATE_ID, TEMPLATE_NAME)


def test_rejects_job_that_is_no_template(http, run):
    hub = MultiJobHub(http, a=[None])
    with pytest.raises(ControlHubConfigurationError, match="it is a job, not a job template"):
        run(job_id="a:org")
    with pytest.raises(ControlHubNotFoundError, match="no job template has that name"):
        run(job_name="Unknown")
    assert hub.created == []


def test_warns_of_oversized_trigger_before_start(http, context, task_log):
    hub_with(http)
    with pytest.raises(TaskDeferred):
        operator(deferrable=True, number_of_instances=1_500).execute(context)
    log = task_log()
    assert 0 < log.index("The trigger for 1500 runs may need") < log.index("started as instance of job template")


def test_without_wait_returns_started_runs(http, run):
    hub = hub_with(http)
    result = run(wait_for_completion=False)
    assert [(i["status"], i["outcome"], i["metrics"]) for i in result["instances"]] == [("ACTIVATING", None, None)] * 2
    assert set(result["metrics"].values()) == {0}
    assert hub.polls == []


@MODES
def test_returns_metrics_per_instance_and_in_total(http, run, deferrable):
    hub = hub_with(http, [succeeded()], [succeeded()], [succeeded()])
    hub.saves("instance-1", outputCount=5)
    hub.saves("instance-3", outputCount=7)
    result = run(deferrable, number_of_instances=3)
    counts = [instance["metrics"] and instance["metrics"]["output_count"] for instance in result["instances"]]
    assert counts == [5, None, 7]
    assert result["metrics"] == {
        "input_count": 200,
        "output_count": 12,
        "error_count": 14,
        "stage_errors_count": 6,
        "total_error_count": 20,
    }


@MODES
def test_waits_for_runs_not_yet_visible(http, run, deferrable):
    hub = hub_with(http, [None, None, None, None, None, active(), succeeded()], [None, succeeded()])

    def create_without_runs(request, _):
        statuses = hub.create(request.json())
        for status in statuses:
            hub.latest[status["jobId"]] = None
        return [{"id": status["jobId"], "name": "x"} for status in statuses]

    http.post(START, json=create_without_runs)
    result = run(deferrable)
    assert [instance["outcome"] for instance in result["instances"]] == ["SUCCEEDED"] * 2


# Failures


@MODES
def test_failure_lets_others_finish_by_default(http, run, deferrable):
    hub = hub_with(http, [failed()], [active(), active(), active(), succeeded()])
    with pytest.raises(ControlHubRunFailedError) as error:
        run(deferrable)
    assert str(error.value) == (
        "1 of 2 runs did not succeed: Run 1 failed: RUN_ERROR: JDBC_00 (job 'Regional orders - 1')."
    )
    assert hub.asked("stopJobs") == []
    assert hub.latest["instance-2:org"]["status"] == "INACTIVE"


@MODES
def test_failure_stops_others_at_once_if_requested(http, run, clock, task_log, deferrable):
    hub = hub_with(http, [active(), active(), failed()], [active()], [succeeded()], [active()])
    hub.after_stop = {"instance-2": [succeeded()], "instance-4": [succeeded()]}
    hub.mark_stopped_by(ME, "instance-2", "instance-4")
    stopped_at = []
    http.post(
        f"{HUB}/jobrunner/rest/v1/jobs/stopJobs",
        json=lambda r, c: stopped_at.append(clock.now - 1000) or hub._recorded("stopJobs", hub._stop)(r, c),
    )
    # The metrics of the failed instance, which never come, do not delay the stop.
    with pytest.raises(ControlHubRunFailedError) as error:
        run(
            deferrable, number_of_instances=4, if_instance_fails="stop_others", metrics_timeout=300, accept_stopped=True
        )
    assert str(error.value) == (
        "1 of 4 runs did not succeed: Run 1 failed: RUN_ERROR: JDBC_00 (job 'Regional orders - 1')."
    )
    assert hub.asked("stopJobs") == [["instance-2", "instance-4"]]
    # Deferred, young runs are polled more often.
    assert stopped_at[0] < 15 if deferrable else stopped_at == pytest.approx([60], abs=1)
    assert "another instance failed" in task_log()


@MODES
def test_stopped_others_do_not_count_as_failed(http, run, deferrable):
    hub = hub_with(http, [failed()], [active()])
    hub.after_stop = {"instance-2": [succeeded()]}
    hub.mark_stopped_by(ME, "instance-2")
    message = r"^1 of 2 runs .*'Regional orders - 1'.* Other stopped runs: 1\.$"
    with pytest.raises(ControlHubRunFailedError, match=message):
        run(deferrable, if_instance_fails="stop_others")


@MODES
def test_second_failure_stops_nothing_more(http, run, deferrable):
    hub = hub_with(http, [failed()], [active()])
    hub.after_stop = {"instance-2": [active(), failed()]}
    with pytest.raises(ControlHubRunFailedError, match="2 of 2 runs did not succeed"):
        run(deferrable, if_instance_fails="stop_others")
    assert len(hub.asked("stopJobs")) == 1


@MODES
def test_others_are_stopped_after_outage(http, run, deferrable):
    hub = hub_with(http, [failed()], [active()])
    hub.after_stop = {"instance-2": [succeeded()]}
    stop = hub._recorded("stopJobs", hub._stop)
    http.post(f"{HUB}/jobrunner/rest/v1/jobs/stopJobs", [{"status_code": 503}] * 7 + [{"json": stop}])
    with pytest.raises(ControlHubRunFailedError):
        run(deferrable, if_instance_fails="stop_others")
    assert hub.asked("stopJobs") == [["instance-2"]]


@MODES
def test_waits_for_others_if_stop_is_forbidden(http, run, task_log, deferrable):
    hub = hub_with(http, [failed()], [active(), active(), active(), active(), succeeded()])
    http.post(f"{HUB}/jobrunner/rest/v1/jobs/stopJobs", status_code=403)
    with pytest.raises(ControlHubRunFailedError, match="1 of 2 runs did not succeed"):
        run(deferrable, if_instance_fails="stop_others")
    assert "Job 'Regional orders - 2' run 1: could not be stopped and may still be active" in task_log()
    assert hub.latest["instance-2:org"]["status"] == "INACTIVE"


@MODES
def test_failed_instances_are_named_up_to_limit(http, run, task_log, deferrable):
    hub_with(http, *([failed(message=f"broken {n}")] for n in range(25)))
    with pytest.raises(
        ControlHubRunFailedError, match=r"25 of 25 .*broken 19 .job 'Regional orders - 20'.; and 5 more\.$"
    ) as error:
        run(deferrable, number_of_instances=25)
    assert "broken 20" not in str(error.value)
    log = task_log()
    assert "broken 9 (job 'Regional orders - 10')\n  Status: " in log
    assert "broken 10 (job 'Regional orders - 11')\n  Status: " not in log


@MODES
def test_single_failed_instance_reads_like_failed_job(http, run, deferrable):
    hub_with(http, [failed()])
    with pytest.raises(
        ControlHubRunFailedError, match=r"^Run 1 failed: RUN_ERROR: JDBC_00 \(job 'Regional orders - 1'\)\.$"
    ):
        run(deferrable, number_of_instances=1)


# Deleting


@MODES
def test_deletes_succeeded_instances_after_fetching_metrics(http, run, deferrable):
    hub = hub_with(http, [succeeded()], [active(), succeeded()])
    hub.saves("instance-1", outputCount=5)
    hub.saves("instance-2", outputCount=7)
    result = run(deferrable, delete_after_completion=True)
    assert result["metrics"]["output_count"] == 12
    assert hub.asked("deleteJobs") == [["instance-1", "instance-2"]]
    # Control Hub would delete them before the task could read their results.
    assert hub.created[0]["deleteAfterCompletion"] is False


@MODES
def test_keeps_failed_instances(http, run, deferrable):
    hub = hub_with(http, [failed()], [succeeded()], [succeeded()])
    hub.mark_stopped_by("another-user@org", "instance-3")
    with pytest.raises(ControlHubRunFailedError):
        run(deferrable, number_of_instances=3, delete_after_completion=True)
    assert hub.asked("deleteJobs") == [["instance-2"]]


def test_without_wait_control_hub_deletes_instances(http, run):
    hub = hub_with(http)
    run(wait_for_completion=False, delete_after_completion=True)
    assert hub.created[0]["deleteAfterCompletion"] is True
    assert hub.asked("deleteJobs") == []


@MODES
def test_failed_deletion_does_not_fail_task(http, run, task_log, deferrable):
    hub_with(http, [succeeded()], [succeeded()])
    http.post(f"{HUB}/jobrunner/rest/v1/jobs/deleteJobs", status_code=403)
    assert len(run(deferrable, delete_after_completion=True)["instances"]) == 2
    assert "Could not delete instances" in task_log()


# Kills and time-outs


@MODES
@pytest.mark.parametrize(("on_timeout", "stopped"), [("stop", [["instance-2"]]), ("leave", [])])
def test_timeout_fails_task_and_stops_active_instances(http, run, clock, deferrable, on_timeout, stopped):
    hub = hub_with(http, [succeeded()], [active()])
    with pytest.raises(ControlHubRunTimeoutError) as error:
        run(deferrable, wait_timeout=100, on_timeout=on_timeout, delete_after_completion=True)
    assert str(error.value) == (
        "1 of 2 runs have not ended within 100 s: job 'Regional orders - 2' run 1 (last status: ACTIVE/GREEN)."
    )
    assert hub.asked("stopJobs") == stopped
    assert hub.asked("deleteJobs") == []
    assert clock.now - 1000 == pytest.approx(100, abs=1)


def test_deferred_execution_timeout_stops_instances(http, run):
    hub = hub_with(http, [active()], [active()])
    with pytest.raises(AirflowTaskTimeout, match="2 of 2 runs have not ended within 50 s"):
        run(deferrable=True, execution_timeout=timedelta(seconds=50), stop_on_kill=False)
    assert hub.asked("stopJobs") == [["instance-1", "instance-2"]]


def test_first_failure_keeps_deadline(http, clock, context):
    hub = hub_with(http, [active(), active(), failed()], [active()])
    arguments = {"deferrable": True, "if_instance_fails": "stop_others", "wait_timeout": 300}
    legs = TaskRunner(clock, lambda: operator(**arguments), context)
    with pytest.raises(ControlHubRunTimeoutError):
        legs.run()
    stored = [trigger.serialize()[1] for trigger in legs.triggers]
    assert [(each["deadline"], each["until_failure"]) for each in stored] == [(1300.0, True), (1300.0, False)]
    assert [event["reason"] for event in legs.events] == ["first_failure", "timeout"]
    assert clock.now - 1000 == pytest.approx(300, abs=1)
    # Once for the failure, once for the time-out.
    assert hub.asked("stopJobs") == [["instance-2"], ["instance-2"]]


def test_kill_stops_active_instances(http, context, monkeypatch):
    hub = hub_with(http, [active()], [succeeded()])
    task = operator()

    def killed_while_waiting(_):
        task.on_kill()
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", killed_while_waiting)
    with pytest.raises(KeyboardInterrupt):
        task.execute(context)
    assert hub.asked("stopJobs") == [["instance-1"]]
    assert http.last_request.timeout == (2.0, 2.0)


def test_kill_during_start_stops_instances_without_waiting(http, context):
    hub = hub_with(http, [active()], [active()])
    task = operator(deferrable=True)

    def killed_meanwhile(request, _):
        task.on_kill()
        return hub.create(request.json())

    http.post(START, json=killed_meanwhile)
    with pytest.raises(Exception, match="was killed while it started instances"):
        task.execute(context)
    assert hub.asked("stopJobs") == [["instance-1", "instance-2"]]


def test_kill_before_start_starts_nothing(http, context):
    hub = hub_with(http)
    task = operator()
    task.on_kill()
    with pytest.raises(Exception, match="was killed before it started instances"):
        task.execute(context)
    assert hub.created == []


def test_kill_during_resumed_finish_stops_active_instances(http, context):
    hub = MultiJobHub(http, a=[active()], b=[succeeded()])
    task = operator(deferrable=True)
    event = {"runs": [["a:org", 1], ["b:org", 1]], "reason": "force"}

    def killed_meanwhile(request, _):
        task.on_kill()
        return []

    http.post(f"{HUB}/jobrunner/rest/v1/jobs", json=killed_meanwhile)
    context["task_state_store"].set("control_hub", {"started": {"a:org": 1, "b:org": 1}, "max_tries": 0})
    with pytest.raises(Exception, match="was killed before it was deferred"):
        task.resume_execution("execute_complete", {"event": event}, context)
    assert hub.asked("stopJobs") == [["a"]]


@pytest.mark.parametrize("stop_on_kill", [True, False])
def test_trigger_carries_stop_on_kill(http, context, stop_on_kill):
    hub_with(http)
    with pytest.raises(TaskDeferred) as deferred:
        operator(deferrable=True, stop_on_kill=stop_on_kill).execute(context)
    arguments = deferred.value.trigger.serialize()[1]
    assert arguments["stop_on_kill"] is stop_on_kill
    assert [run[:2] for run in arguments["runs"]] == [["instance-1:org", 1], ["instance-2:org", 1]]


# Unclear starts


def test_finds_instances_of_unanswered_start(http, run):
    hub = hub_with(http, [succeeded()], [succeeded()])

    def lost(request, _):
        hub.create(request.json())
        raise requests.exceptions.ReadTimeout

    http.post(START, json=lost)
    assert [i["job_id"] for i in run()["instances"]] == ["instance-1:org", "instance-2:org"]
    assert len(hub.created) == 1


def test_unconfirmed_start_fails_without_repeat(http, run):
    hub = hub_with(http)
    http.post(START, exc=requests.exceptions.ReadTimeout)
    with pytest.raises(ControlHubUnavailableError) as error:
        run()
    assert error.value.maybe_executed
    assert len([request for request in http.request_history if "createAndStart" in request.url]) == 1
    assert hub.created == []


def test_waits_for_instances_unreadable_after_start(http, run):
    hub_with(http, [succeeded()], [succeeded()])
    http.post(f"{HUB}/jobrunner/rest/v1/jobs", status_code=503)
    assert [(i["job_id"], i["outcome"]) for i in run()["instances"]] == [
        ("instance-1:org", "SUCCEEDED"),
        ("instance-2:org", "SUCCEEDED"),
    ]


def test_deleted_template_does_not_fail_succeeded_instances(http, context):
    hub_with(http, [succeeded()], [succeeded()])
    with pytest.raises(TaskDeferred):
        operator(deferrable=True, job_name=TEMPLATE_NAME).execute(context)
    http.get(f"{HUB}/jobrunner/rest/v1/jobs", json={"totalCount": 0, "data": []})
    event = {"runs": [["instance-1:org", 1], ["instance-2:org", 1]], "reason": "ended"}
    result = operator(deferrable=True, job_name=TEMPLATE_NAME).execute_complete(context, event)
    assert (result["template_name"], len(result["instances"])) == (TEMPLATE_NAME, 2)


# Parameters


def test_accepts_rendered_strings(http, context):
    hub = hub_with(http)
    arguments = {
        "runtime_parameters": "{{ regions }}",
        "suffix": "{{ suffix }}",
        "suffix_parameter": "{{ parameter }}",
        "attach_to_template": "{{ False }}",
        "job_tags": "{{ ['a', 'b'] }}",
        "poll_interval": "{{ 7 }}",
        "if_instance_fails": "{{ 'stop_others' }}",
    }
    task = operator(**arguments)
    task.render_template_fields({"regions": NORTH_AND_SOUTH, "suffix": "PARAM_VALUE", "parameter": "REGION"})
    task.execute(context)
    (body,) = hub.created
    assert [values["REGION"] for values in body["runtimeParametersList"]] == ["north", "south"]
    assert (body["namePostfixType"], body["paramName"]) == ("PARAM_VALUE", "REGION")
    assert (body["attachToTemplate"], body["rawJobTags"]) == (False, ["a", "b"])


@pytest.mark.parametrize("number", [2, "2", "{{ 1 + 1 }}"])
def test_number_of_instances_accepts_strings(http, context, number):
    hub = hub_with(http)
    task = operator(number_of_instances=number)
    task.render_template_fields({})
    task.execute(context)
    assert len(hub.created[0]["runtimeParametersList"]) == 2


def test_execute_changes_no_template_field(http, context):
    hub_with(http)
    task = operator(runtime_parameters='[{"REGION": "north"}]', poll_interval=timedelta(seconds=5))
    before = {name: getattr(task, name) for name in task.template_fields}
    task.execute(context)
    assert {name: getattr(task, name) for name in task.template_fields} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runtime_parameters": None}, "is required, got none"),
        ({"runtime_parameters": [{}], "number_of_instances": 1}, "got 'runtime_parameters' and 'number_of_instances'"),
        ({"runtime_parameters": []}, "'runtime_parameters' must be a non-empty list of JSON objects"),
        ({"runtime_parameters": {"a": 1}}, "'runtime_parameters' must be a non-empty list of JSON objects"),
        ({"runtime_parameters": ["x"]}, r"'runtime_parameters\[0\]' must be a JSON object"),
        ({"runtime_parameters": "[1]"}, r"'runtime_parameters\[0\]' must be a JSON object"),
        ({"number_of_instances": 0}, "'number_of_instances' must be an integer >= 1"),
        ({"number_of_instances": 1.5}, "'number_of_instances' must be an integer >= 1"),
        ({"suffix": "NUMBER"}, "'suffix' must be one of 'COUNTER', 'TIME_STAMP', 'PARAM_VALUE'"),
        ({"suffix": "PARAM_VALUE"}, "'suffix_parameter' must be set if, and only if, suffix='PARAM_VALUE'"),
        ({"suffix_parameter": "REGION"}, "'suffix_parameter' must be set if, and only if, suffix='PARAM_VALUE'"),
        ({"job_tags": "a"}, "'job_tags' must be a list of strings"),
        ({"job_tags": [""]}, "'job_tags' must be a list of non-empty strings"),
        ({"if_instance_fails": "ignore"}, "'if_instance_fails' must be one of 'stop_others', 'wait_others'"),
        ({"on_timeout": "ignore"}, "'on_timeout' must be one of 'stop', 'leave'"),
        ({"delete_after_completion": "yes"}, "'delete_after_completion' must be true or false"),
        ({"job_id": None}, "is required, got none"),
    ],
)
def test_rejects_invalid_arguments_at_parse(arguments, message):
    with pytest.raises(ValueError, match=message):
        operator(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runtime_parameters": "{{ [] }}"}, "'runtime_parameters' must be a non-empty list of JSON objects"),
        ({"number_of_instances": "{{ 'many' }}"}, "'number_of_instances' must be an integer"),
        ({"suffix": "{{ 'PARAM_VALUE' }}"}, "'suffix_parameter' must be set if, and only if, suffix='PARAM_VALUE'"),
        ({"if_instance_fails": "{{ 'x' }}"}, "'if_instance_fails' must be one of"),
        ({"runtime_parameters": [{"a": float("nan")}]}, "must contain only JSON values"),
    ],
)
def test_rejects_invalid_rendered_values_before_requests(http, context, arguments, message):
    task = operator(**arguments)
    task.render_template_fields(dict(context))
    with pytest.raises(ValueError, match=message):
        task.execute(context)
    assert not http.request_history


def test_rejects_values_for_static_parameters(http, run):
    hub = hub_with(http)
    hub.template["staticParameters"] = ["REGION"]
    with pytest.raises(ControlHubConfigurationError, match="instance 1 overrides REGION"):
        run()
    assert hub.created == []


# Both ends alike


SCENARIOS: dict[str, tuple[list[list[Any]], dict[str, Any]]] = {
    "success": ([[active(), succeeded()], [succeeded()]], {}),
    "failure": ([[active(), failed()], [succeeded()]], {}),
    "stopped others": ([[active(), failed()], [active()]], {"if_instance_fails": "stop_others"}),
    "never ends": ([[active()], [succeeded()]], {"wait_timeout": 200}),
    "deleted": ([[active(), succeeded()], [active(), succeeded()]], {"delete_after_completion": True}),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_sync_and_deferred_end_alike(http, clock, make_context, scenario):
    def end(deferrable):
        clock.now = 1000.0
        context = make_context()
        scripts, arguments = SCENARIOS[scenario]
        hub = hub_with(http, *scripts)
        hub.after_stop = {"instance-2": [succeeded()]}
        hub.mark_stopped_by(ME, "instance-2")
        hub.saves("instance-1")
        try:
            make_task = partial(operator, deferrable=deferrable, accept_stopped=True, **arguments)
            result = TaskRunner(clock, make_task, context).run()
        except ControlHubError as error:
            result = type(error), str(error)
        return result, hub.done, dict(context["ti"].xcoms)

    assert end(deferrable=False) == end(deferrable=True)


def test_result_of_many_instances_stays_small(http, run):
    hub_with(http, *([succeeded(errorMessage="x" * 100)] for _ in range(100)))
    assert len(json.dumps(run(number_of_instances=100))) < 100 * 1000


def test_run_briefly_missing_after_start_is_not_lost(http, run):
    hub_with(http, [activating(), None, None, activating(), succeeded()], [succeeded()])
    assert len(run()["instances"]) == 2
