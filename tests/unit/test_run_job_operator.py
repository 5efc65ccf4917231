from __future__ import annotations

import json
from datetime import timedelta

import pytest
import requests
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_streamsets.control_hub import (
    ControlHubAmbiguousNameError,
    ControlHubAuthenticationError,
    ControlHubJobStateError,
    ControlHubNotFoundError,
    ControlHubRunFailedError,
    ControlHubRunTimeoutError,
    ControlHubUnexpectedAnswerError,
)
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from tests.unit.scripted_hub import (
    HUB,
    JOB_ID,
    JOB_NAME,
    T0,
    ScriptedHub,
    counts_json,
    event_json,
    failed,
    run_json,
    succeeded,
)

pytestmark = pytest.mark.usefixtures("connection")

LINK = f"{HUB}/sch/jobs/detail/{JOB_ID}"


def operator(**arguments):
    if "job_name" not in arguments:
        arguments.setdefault("job_id", JOB_ID)
    arguments.setdefault("deferrable", False)
    return ControlHubRunJobOperator(task_id="run", **arguments)


def test_it_starts_the_job_waits_for_that_run_and_returns_its_result(http, context, pauses):
    hub = ScriptedHub(
        http,
        latest=succeeded(3),
        # Just after the start, Control Hub may still show the run before.
        script=[succeeded(3), run_json(4, "ACTIVATING"), run_json(4), run_json(4, "DEACTIVATING"), succeeded(4)],
        counts=counts_json(4),
    )
    result = operator(poll_interval=20).execute(context)
    assert result == {
        "job_id": JOB_ID,
        "job_name": JOB_NAME,
        "run_count": 4,
        "status": "INACTIVE",
        "color": "GRAY",
        "outcome": "SUCCEEDED",
        "error_message": None,
        "start_time": "2026-01-01T09:56:40Z",
        "finish_time": "2026-01-01T09:57:40Z",
        "duration": 60.0,
        "metrics": {
            "run_count": 4,
            "input_count": 100,
            "output_count": 90,
            "error_count": 7,
            "stage_errors_count": 3,
            "total_error_count": 10,
        },
        "metrics_final": True,
    }
    assert len(hub.started_with) == 1
    assert sum(pauses) == 80
    assert json.loads(json.dumps(result)) == result


def test_id_run_count_and_link_are_in_xcom_before_the_wait(http, context):
    ScriptedHub(http, latest=None)
    with pytest.raises(TaskDeferred):
        operator(deferrable=True).execute(context)
    assert context["ti"].xcoms == {"job_id": JOB_ID, "run_count": 1, "streamsets_job_link": LINK}


def test_a_job_can_be_named(http, context, pauses):
    ScriptedHub(http, latest=None, script=[succeeded(1)], counts=counts_json(1))
    assert operator(job_name=JOB_NAME).execute(context)["job_id"] == JOB_ID


def test_without_waiting_it_returns_a_handle_to_the_run(http, context):
    hub = ScriptedHub(http, latest=succeeded(3))
    result = operator(wait_for_completion=False).execute(context)
    assert (result["run_count"], result["status"], result["outcome"]) == (4, "ACTIVATING", None)
    assert (result["metrics"], result["metrics_final"]) == (None, False)
    assert hub.looks == 0


def test_runtime_parameters_are_sent_together_with_the_stored_ones(http, context):
    hub = ScriptedHub(http, stored_parameters={"DIR": "/in", "DAY": "1"})
    operator(runtime_parameters={"DAY": "2"}, wait_for_completion=False).execute(context)
    assert hub.started_with == [{"DIR": "/in", "DAY": "2"}]


def test_offsets_are_reset_before_the_start_and_only_on_demand(http, context, new_context):
    hub = ScriptedHub(http, latest=succeeded(3))
    operator(wait_for_completion=False).execute(context)
    assert hub.resets == []
    hub.latest = succeeded(4)
    operator(wait_for_completion=False, reset_offsets=True).execute(new_context())
    assert hub.resets == [[JOB_ID]]
    paths = [request.path for request in http.request_history]
    assert paths.index("/jobrunner/rest/v1/jobs/resetoffset") < len(paths) - 1
    assert paths[-1].endswith("/start")


@pytest.mark.parametrize("status", ["ACTIVE", "ACTIVATING", "DEACTIVATING", "SOMETHING_NEW"])
def test_a_job_that_is_running_is_neither_reset_nor_started(http, context, pauses, status):
    hub = ScriptedHub(http, latest=run_json(3, status))
    with pytest.raises(
        ControlHubJobStateError, match=f"run 3, started by me@org at .*, is {status}.*if_running="
    ) as error:
        operator(reset_offsets=True).execute(context)
    assert "acknowledge_errors" not in str(error.value)
    assert hub.started_with == hub.resets == []


def test_unacknowledged_error_names_the_parameter_that_acknowledges_it(http, context):
    ScriptedHub(http, latest=run_json(3, "INACTIVE_ERROR", "RED"))
    with pytest.raises(ControlHubJobStateError, match=r"INACTIVE_ERROR.*acknowledge_errors=True") as error:
        operator().execute(context)
    assert "if_running" not in str(error.value)


def test_a_failed_run_fails_the_task_with_its_error_and_explains_it_in_the_log(http, context, pauses, task_log):
    engine = {"sdcId": "engine-1", "status": "RUN_ERROR", "message": "JDBC_00 - no route to host"}
    ScriptedHub(
        http,
        latest=None,
        script=[
            run_json(1, pipelineStatus=[{**engine, "status": "RUNNING", "message": None}]),
            run_json(1, "DEACTIVATING", "RED", pipelineStatus=[engine], warnings=["JOBRUNNER_62 - not responding"]),
            run_json(
                1,
                "INACTIVE_ERROR",
                "RED",
                errorMessage="RUN_ERROR: JDBC_00 - Cannot connect",
                warnings=["JOBRUNNER_62 - not responding"],
                ackTrackers=[
                    {"sdcId": "engine-1", "ackStatus": "ERROR", "message": "not running", "eventType": "STOP_PIPELINE"}
                ],
            ),
        ],
        events=[
            event_json(60, "INACTIVE_ERROR", "Job failed", run_count=1),
            event_json(0, "ACTIVATING", "Job started", "me@org", run_count=1),
        ],
        counts=counts_json(1),
    )
    with pytest.raises(ControlHubRunFailedError, match=r"Run 1 of job 'Orders' \(.*\) has failed .*JDBC_00 - Cannot"):
        operator().execute(context)
    log = task_log()
    for text in (
        "Status: INACTIVE_ERROR, color: RED",
        "Error: RUN_ERROR: JDBC_00 - Cannot connect",
        "engine-1: RUN_ERROR, JDBC_00 - no route to host",
        "Command STOP_PIPELINE to engine engine-1: ERROR, not running",
        "JOBRUNNER_62 - not responding",
        "100 in, 90 out, 7 error records, 3 stage errors",
        "ACTIVATING: Job started (by me@org)",
        "INACTIVE_ERROR: Job failed",
    ):
        assert text in log
    assert log.index("Job started (by") < log.index("INACTIVE_ERROR: Job failed")


@pytest.mark.parametrize(
    ("status", "color"), [("INACTIVE", "RED"), ("INACTIVE_ERROR", "RED"), ("ACTIVATION_ERROR", "RED")]
)
def test_every_kind_of_failed_end_fails_the_task(http, context, pauses, status, color):
    ScriptedHub(http, latest=None, script=[run_json(1, status, color)], counts=counts_json(1))
    with pytest.raises(ControlHubRunFailedError):
        operator().execute(context)


def test_a_run_that_a_person_stopped_has_not_succeeded_unless_that_is_accepted(http, context, pauses):
    events = [
        event_json(0, "ACTIVATING", "Job started", "me@org"),
        event_json(30, "DEACTIVATING", "Job stopped", "somebody@org"),
        event_json(60, "INACTIVE", "Job finished"),
    ]
    ScriptedHub(http, latest=succeeded(3), script=[succeeded(4)], events=events, counts=counts_json(4))
    with pytest.raises(ControlHubRunFailedError, match=r"was stopped by user somebody@org .* Set accept_stopped=True"):
        operator().execute(context)
    ScriptedHub(http, latest=succeeded(3), script=[succeeded(4)], events=events, counts=counts_json(4))
    assert operator(accept_stopped=True).execute(context)["outcome"] == "STOPPED"


def test_an_outage_in_the_middle_does_not_fail_the_task(http, context, pauses):
    hub = ScriptedHub(http, latest=None, script=[succeeded(1)], counts=counts_json(1))
    http.post(
        f"{HUB}/jobrunner/rest/v1/jobs/status",
        [{"exc": requests.exceptions.ConnectionError("gone")}] * 12
        + [{"status_code": 503}] * 8
        + [{"json": lambda *_: {JOB_ID: hub._poll()}}],
    )
    assert operator().execute(context)["outcome"] == "SUCCEEDED"


def test_a_refused_credential_in_the_middle_is_given_time_to_be_replaced(http, context, pauses):
    ScriptedHub(http, latest=None)
    http.post(f"{HUB}/jobrunner/rest/v1/jobs/status", status_code=401)
    with pytest.raises(ControlHubAuthenticationError, match="401"):
        operator().execute(context)
    assert sum(pauses) == 300


def test_metrics_that_are_not_final_are_waited_for_briefly_and_marked(http, context, pauses):
    ScriptedHub(http, latest=None, script=[succeeded(1)], counts=counts_json(1, saved_after=30))
    result = operator(metrics_timeout=12).execute(context)
    assert result["outcome"] == "SUCCEEDED"
    assert result["metrics"]["output_count"] == 90
    assert result["metrics_final"] is False
    assert 12 <= sum(pauses) <= 20


def test_success_does_not_depend_on_metrics(http, context, pauses):
    ScriptedHub(http, latest=None, script=[succeeded(1)])
    http.get(f"{HUB}/timeseries/rest/v1/metrics/job/{JOB_ID}/recordCountsForAllRuns", status_code=404)
    result = operator(metrics_timeout=0).execute(context)
    assert (result["outcome"], result["metrics"], result["metrics_final"]) == ("SUCCEEDED", None, False)


def test_a_timeout_fails_the_task_and_stops_the_run(http, context, pauses):
    hub = ScriptedHub(http, latest=None, script=[run_json(1)])
    with pytest.raises(ControlHubRunTimeoutError, match=r"Run 1 of job 'Orders' .* has not ended within 100 s"):
        operator(wait_timeout=100, poll_interval=30).execute(context)
    assert hub.stops == ["stop"]
    assert sum(pauses) == 100


def test_a_timeout_can_leave_the_run(http, context, pauses):
    hub = ScriptedHub(http, latest=None, script=[run_json(1)])
    with pytest.raises(ControlHubRunTimeoutError):
        operator(wait_timeout=100, on_timeout="leave").execute(context)
    assert hub.stops == []


def test_a_timeout_does_not_stop_a_newer_run(http, context, pauses):
    hub = ScriptedHub(http, latest=None, script=[run_json(1)])
    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/currentStatus", json=run_json(2))
    with pytest.raises(ControlHubRunTimeoutError):
        operator(wait_timeout=100).execute(context)
    assert hub.stops == []


def test_a_run_that_ends_between_the_last_look_and_the_timeout_has_not_timed_out(http, context, pauses):
    ScriptedHub(http, latest=None, script=[run_json(1), succeeded(1)], counts=counts_json(1))
    assert operator(wait_timeout=10, poll_interval=60).execute(context)["outcome"] == "SUCCEEDED"


def test_a_job_that_is_restarted_is_judged_from_its_history(http, context, pauses):
    hub = ScriptedHub(http, latest=None, script=[run_json(1), run_json(2)], counts=counts_json(2))
    hub.history = [run_json(2), failed(1, "RUN_ERROR: broken")]
    with pytest.raises(ControlHubRunFailedError, match=r"Run 1 .* RUN_ERROR: broken"):
        operator().execute(context)


def test_killing_the_task_stops_the_run_with_one_quick_look_and_one_quick_request(http, context, monkeypatch):
    hub = ScriptedHub(http, latest=None)
    task = operator()

    def killed_while_waiting(_):
        task.on_kill()
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", killed_while_waiting)
    before = 4  # read the job, ask who is logged in, start the job, look at its status
    with pytest.raises(KeyboardInterrupt):
        task.execute(context)
    assert hub.stops == ["stop"]
    assert len(http.request_history) == before + 2
    assert [request.timeout for request in http.request_history[-2:]] == [(2.0, 2.0)] * 2


def test_killing_the_task_leaves_the_run_alone_where_that_is_asked_for(http, context):
    hub = ScriptedHub(http, latest=None)
    task = operator(stop_on_kill=False, wait_for_completion=False)
    task.execute(context)
    task.on_kill()
    assert hub.stops == []


def test_killing_the_task_before_it_started_anything_does_nothing(http):
    operator().on_kill()
    assert not http.request_history


def test_a_stop_that_fails_while_the_task_is_killed_is_only_logged(http, context, task_log):
    ScriptedHub(http, latest=None)
    task = operator(wait_for_completion=False)
    task.execute(context)
    http.post(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/stop", exc=requests.exceptions.ConnectTimeout)
    task.on_kill()
    assert "could not be stopped and may go on" in task_log()


def test_deferred_it_carries_the_run_and_absolute_deadlines_but_no_secret(http, context, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 5000.0)
    ScriptedHub(http, latest=succeeded(3))
    task = operator(deferrable=True, poll_interval=7, wait_timeout=600, execution_timeout=timedelta(seconds=100))
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    _, arguments = deferred.value.trigger.serialize()
    assert arguments == {
        "control_hub_conn_id": "streamsets_default",
        "job_id": JOB_ID,
        "job_name": JOB_NAME,
        "run_count": 4,
        "poll_interval": 7.0,
        "timeout": 100.0,
        "deadline": pytest.approx(5100.0, abs=1),
        "metrics_timeout": 75.0,
        "stop_on_kill": True,
        "force_stop_after": None,
        "upper_bounds": [],
        "identity": ["run-4:org", T0 / 1000 + 400],
        "started_after": None,
        "wait_for": "completion",
        "fail_on_red_after": None,
    }
    assert deferred.value.method_name == "execute_complete"
    assert deferred.value.timeout > timedelta(seconds=100)


def test_without_a_timeout_nothing_limits_the_deferral(http, context):
    ScriptedHub(http, latest=None)
    with pytest.raises(TaskDeferred) as deferred:
        operator(deferrable=True).execute(context)
    assert deferred.value.timeout is None
    assert deferred.value.trigger.serialize()[1]["deadline"] is None


@pytest.mark.parametrize("event", [None, {}, {"report": None}, "success", {"job_id": JOB_ID, "run_count": 1}])
def test_an_event_that_is_not_complete_is_never_a_success(context, event):
    with pytest.raises(ControlHubUnexpectedAnswerError, match="event of the trigger cannot be used"):
        operator(deferrable=True).execute_complete(context, event)


@pytest.mark.parametrize(
    ("job", "error", "said"),
    [
        ({"job_name": "Nobody"}, ControlHubNotFoundError, "no job has that name"),
        ({"job_id": "unknown:org"}, ControlHubNotFoundError, "unknown:org"),
    ],
)
def test_a_job_that_does_not_exist_is_named_in_the_error(http, context, job, error, said):
    hub = ScriptedHub(http)
    http.get(f"{HUB}/jobrunner/rest/v1/job/unknown:org", status_code=404, json={"ISSUES": []})
    with pytest.raises(error, match=said):
        operator(**job).execute(context)
    assert hub.started_with == []


def test_a_name_that_several_jobs_have_starts_none_of_them(http, context):
    hub = ScriptedHub(http)
    twins = [{"id": f"{n}:org", "name": JOB_NAME, "jobTemplate": False} for n in range(3)]
    http.get(f"{HUB}/jobrunner/rest/v1/jobs", json={"totalCount": 3, "data": twins})
    with pytest.raises(ControlHubAmbiguousNameError, match=r"3 jobs have it \(0:org, 1:org, 2:org\)"):
        operator(job_name=JOB_NAME).execute(context)
    assert hub.started_with == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"job_id": None}, "given are none of them"),
        ({"job_name": "x", "job_id": "y"}, "given are job_id and job_name"),
        ({"runtime_parameters": "[1]"}, "'runtime_parameters' must be a JSON object"),
        ({"runtime_parameters": [1]}, "'runtime_parameters' must be a JSON object"),
        ({"poll_interval": -1}, "'poll_interval' must be"),
        ({"poll_interval": 0}, "'poll_interval' must be"),
        ({"wait_timeout": -1}, "'wait_timeout' must be"),
        ({"metrics_timeout": -1}, "'metrics_timeout' must be a number of seconds from 0"),
        ({"on_timeout": "kill"}, "'on_timeout' must be one of 'stop', 'leave', but is 'kill'"),
        ({"reset_offsets": "maybe"}, "'reset_offsets' must be true or false"),
    ],
)
def test_bad_arguments_are_refused_when_the_dag_is_parsed(arguments, said):
    with pytest.raises(ValueError, match=said):
        operator(**arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"runtime_parameters": "{{ 1 }}"}, "'runtime_parameters' must be a JSON object"),
        ({"poll_interval": "{{ -1 }}"}, "'poll_interval' must be"),
        ({"job_id": "{{ '' }}"}, "'job_id' is empty"),
    ],
)
def test_bad_rendered_values_are_refused_before_anything_is_sent(http, context, arguments, said):
    task = operator(**arguments)
    task.render_template_fields(dict(context))
    with pytest.raises(ValueError, match=said):
        task.execute(context)
    assert not http.request_history


def test_every_parameter_that_can_be_computed_is_rendered():
    names = (
        "job_id",
        "control_hub_conn_id",
        "reset_offsets",
        "acknowledge_errors",
        "stop_on_violation",
        "strict_parameters",
        "if_running",
        "on_timeout",
        "on_error",
        "force_stop_after",
        "accept_stopped",
        "wait_for_completion",
        "wait_for",
        "fail_on_red_after",
        "poll_interval",
        "wait_timeout",
        "metrics_timeout",
    )
    task = operator(**dict.fromkeys(names, "{{ x }}"), runtime_parameters={"a": "{{ x }}"}, expect=["{{ x }}"])
    task.render_template_fields({"x": "1"})
    rendered = {name: getattr(task, name) for name in task.template_fields}
    assert rendered == {
        **dict.fromkeys(names, "1"),
        "job_name": None,
        "runtime_parameters": {"a": "1"},
        "expect": ["1"],
    }


def test_executing_changes_no_template_field(http, context):
    ScriptedHub(http)
    task = operator(runtime_parameters='{"a": 1}', poll_interval=timedelta(seconds=5), wait_for_completion=False)
    before = {name: getattr(task, name) for name in task.template_fields}
    task.execute(context)
    assert {name: getattr(task, name) for name in task.template_fields} == before


def test_a_task_that_is_killed_while_it_starts_the_job_stops_the_run_and_does_not_wait(http, context):
    hub = ScriptedHub(http, latest=None)
    task = operator(deferrable=True)

    def killed_meanwhile(request, answer):
        task.on_kill()
        return hub._start(request, answer)

    http.post(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/start", json=killed_meanwhile)
    with pytest.raises(Exception, match="was killed while it started run 1"):
        task.execute(context)
    assert hub.stops == ["stop"]


def test_a_task_that_is_killed_before_the_start_starts_nothing(http, context):
    hub = ScriptedHub(http, latest=None)
    task = operator()
    task.on_kill()
    with pytest.raises(Exception, match="was killed before it had started"):
        task.execute(context)
    assert hub.started_with == []
