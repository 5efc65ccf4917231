from __future__ import annotations

import contextlib
import json
import re
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
    ControlHubUnexpectedResponseError,
)
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from tests.documentation import DOCS
from tests.unit.fakes.single_job_hub import (
    HUB,
    JOB_ID,
    JOB_NAME,
    T0,
    SingleJobHub,
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


def test_starts_job_waits_and_returns_result(http, context, sleep_calls):
    hub = SingleJobHub(
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
    assert sum(sleep_calls) == 80
    assert json.loads(json.dumps(result)) == result


def test_pushes_id_run_count_and_link_before_wait(http, context):
    SingleJobHub(http, latest=None)
    with pytest.raises(TaskDeferred):
        operator(deferrable=True).execute(context)
    assert context["ti"].xcoms == {"job_id": JOB_ID, "run_count": 1, "streamsets_job_link": LINK}


def test_finds_job_by_name(http, context, sleep_calls):
    SingleJobHub(http, latest=None, script=[succeeded(1)], counts=counts_json(1))
    assert operator(job_name=JOB_NAME).execute(context)["job_id"] == JOB_ID


def test_without_wait_returns_started_run(http, context):
    hub = SingleJobHub(http, latest=succeeded(3))
    result = operator(wait_for_completion=False).execute(context)
    assert (result["run_count"], result["status"], result["outcome"]) == (4, "ACTIVATING", None)
    assert (result["metrics"], result["metrics_final"]) == (None, False)
    assert hub.polls == 0


def test_merges_runtime_parameters_with_stored_ones(http, context):
    hub = SingleJobHub(http, stored_parameters={"DIR": "/in", "DAY": "1"})
    operator(runtime_parameters={"DAY": "2"}, wait_for_completion=False).execute(context)
    assert hub.started_with == [{"DIR": "/in", "DAY": "2"}]


def test_resets_offsets_before_start_only_if_requested(http, context, make_context):
    hub = SingleJobHub(http, latest=succeeded(3))
    operator(wait_for_completion=False).execute(context)
    assert hub.resets == []
    hub.latest = succeeded(4)
    operator(wait_for_completion=False, reset_offsets=True).execute(make_context())
    assert hub.resets == [[JOB_ID]]
    paths = [request.path for request in http.request_history]
    assert paths.index("/jobrunner/rest/v1/jobs/resetoffset") < len(paths) - 1
    assert paths[-1].endswith("/start")


@pytest.mark.parametrize("status", ["ACTIVE", "ACTIVATING", "DEACTIVATING", "SOMETHING_NEW"])
def test_running_job_is_neither_reset_nor_started(http, context, sleep_calls, status):
    hub = SingleJobHub(http, latest=run_json(3, status))
    with pytest.raises(
        ControlHubJobStateError, match=f"run 3, started by me@org at .*, is {status}.*if_running="
    ) as error:
        operator(reset_offsets=True).execute(context)
    assert "acknowledge_errors" not in str(error.value)
    assert hub.started_with == hub.resets == []


def test_unacknowledged_error_names_parameter(http, context):
    SingleJobHub(http, latest=run_json(3, "INACTIVE_ERROR", "RED"))
    with pytest.raises(ControlHubJobStateError, match=r"INACTIVE_ERROR.*acknowledge_errors=True") as error:
        operator().execute(context)
    assert "if_running" not in str(error.value)


def test_failed_run_raises_and_logs_details(http, context, sleep_calls, task_log):
    engine = {"sdcId": "engine-1", "status": "RUN_ERROR", "message": "JDBC_00 - no route to host"}
    SingleJobHub(
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
    with pytest.raises(ControlHubRunFailedError, match=r"^Run 1 failed: JDBC_00 - Cannot connect \(job 'Orders'\)\.$"):
        operator().execute(context)
    log = task_log()
    for text in (
        "Run 1 failed: JDBC_00 - Cannot connect (job 'Orders')\n",
        "Status: INACTIVE_ERROR/RED, started ",
        "Error: RUN_ERROR: JDBC_00 - Cannot connect",
        "Engine engine-1: RUN_ERROR, JDBC_00 - no route to host",
        "Command STOP_PIPELINE to engine engine-1: ERROR, not running",
        "JOBRUNNER_62 - not responding",
        "100 in, 90 out, 7 errors, 3 stage errors",
        "ACTIVATING: Job started (by me@org)",
        "INACTIVE_ERROR: Job failed",
    ):
        assert text in log
    assert log.index("Job started (by") < log.index("INACTIVE_ERROR: Job failed")


@pytest.mark.parametrize(
    ("status", "color"), [("INACTIVE", "RED"), ("INACTIVE_ERROR", "RED"), ("ACTIVATION_ERROR", "RED")]
)
def test_every_failed_status_fails_task(http, context, sleep_calls, status, color):
    SingleJobHub(http, latest=None, script=[run_json(1, status, color)], counts=counts_json(1))
    with pytest.raises(ControlHubRunFailedError):
        operator().execute(context)


def test_stopped_run_fails_unless_accepted(http, context, sleep_calls):
    events = [
        event_json(0, "ACTIVATING", "Job started", "me@org"),
        event_json(30, "DEACTIVATING", "Job stopped", "another-user@org"),
        event_json(60, "INACTIVE", "Job finished"),
    ]
    SingleJobHub(http, latest=succeeded(3), script=[succeeded(4)], events=events, counts=counts_json(4))
    with pytest.raises(
        ControlHubRunFailedError, match=r"was stopped by user another-user@org .* Set accept_stopped=True"
    ):
        operator().execute(context)
    SingleJobHub(http, latest=succeeded(3), script=[succeeded(4)], events=events, counts=counts_json(4))
    assert operator(accept_stopped=True).execute(context)["outcome"] == "STOPPED"


def test_outage_does_not_fail_task(http, context, sleep_calls):
    hub = SingleJobHub(http, latest=None, script=[succeeded(1)], counts=counts_json(1))
    http.post(
        f"{HUB}/jobrunner/rest/v1/jobs/status",
        [{"exc": requests.exceptions.ConnectionError("gone")}] * 12
        + [{"status_code": 503}] * 8
        + [{"json": lambda *_: {JOB_ID: hub._poll()}}],
    )
    assert operator().execute(context)["outcome"] == "SUCCEEDED"


def test_refused_credential_fails_after_grace_period(http, context, sleep_calls):
    SingleJobHub(http, latest=None)
    http.post(f"{HUB}/jobrunner/rest/v1/jobs/status", status_code=401)
    with pytest.raises(ControlHubAuthenticationError, match="401"):
        operator().execute(context)
    assert sum(sleep_calls) == 300


def test_interim_metrics_are_marked_after_brief_wait(http, context, sleep_calls):
    SingleJobHub(http, latest=None, script=[succeeded(1)], counts=counts_json(1, saved_after=30))
    result = operator(metrics_timeout=12).execute(context)
    assert result["outcome"] == "SUCCEEDED"
    assert result["metrics"]["output_count"] == 90
    assert result["metrics_final"] is False
    assert 12 <= sum(sleep_calls) <= 20


def test_success_does_not_depend_on_metrics(http, context, sleep_calls):
    SingleJobHub(http, latest=None, script=[succeeded(1)])
    http.get(f"{HUB}/timeseries/rest/v1/metrics/job/{JOB_ID}/recordCountsForAllRuns", status_code=404)
    result = operator(metrics_timeout=0).execute(context)
    assert (result["outcome"], result["metrics"], result["metrics_final"]) == ("SUCCEEDED", None, False)


def test_timeout_fails_task_and_stops_run(http, context, sleep_calls):
    hub = SingleJobHub(http, latest=None, script=[run_json(1)])
    with pytest.raises(ControlHubRunTimeoutError, match=r"Job 'Orders' run 1 has not ended within 100 s"):
        operator(wait_timeout=100, poll_interval=30).execute(context)
    assert hub.stops == ["stop"]
    assert sum(sleep_calls) == 100


def test_timeout_can_leave_run(http, context, sleep_calls):
    hub = SingleJobHub(http, latest=None, script=[run_json(1)])
    with pytest.raises(ControlHubRunTimeoutError):
        operator(wait_timeout=100, on_timeout="leave").execute(context)
    assert hub.stops == []


def test_timeout_does_not_stop_newer_run(http, context, sleep_calls):
    hub = SingleJobHub(http, latest=None, script=[run_json(1)])
    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/currentStatus", json=run_json(2))
    with pytest.raises(ControlHubRunTimeoutError):
        operator(wait_timeout=100).execute(context)
    assert hub.stops == []


def test_run_ending_just_before_timeout_succeeds(http, context, sleep_calls):
    SingleJobHub(http, latest=None, script=[run_json(1), succeeded(1)], counts=counts_json(1))
    assert operator(wait_timeout=10, poll_interval=60).execute(context)["outcome"] == "SUCCEEDED"


def test_restarted_job_is_evaluated_from_history(http, context, sleep_calls):
    hub = SingleJobHub(http, latest=None, script=[run_json(1), run_json(2)], counts=counts_json(2))
    hub.history = [run_json(2), failed(1, "RUN_ERROR: broken")]
    with pytest.raises(ControlHubRunFailedError, match=r"Run 1 failed: RUN_ERROR: broken"):
        operator().execute(context)


def test_kill_stops_run_with_two_short_requests(http, context, monkeypatch):
    hub = SingleJobHub(http, latest=None)
    task = operator()

    def killed_while_waiting(_):
        task.on_kill()
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", killed_while_waiting)
    before = 4  # read the job, read the current user, start the job, poll its status
    with pytest.raises(KeyboardInterrupt):
        task.execute(context)
    assert hub.stops == ["stop"]
    assert len(http.request_history) == before + 2
    assert [request.timeout for request in http.request_history[-2:]] == [(2.0, 2.0)] * 2


def test_kill_leaves_run_without_stop_on_kill(http, context):
    hub = SingleJobHub(http, latest=None)
    task = operator(stop_on_kill=False, wait_for_completion=False)
    task.execute(context)
    task.on_kill()
    assert hub.stops == []


def test_kill_before_execute_sends_nothing(http):
    operator().on_kill()
    assert not http.request_history


def test_failed_stop_on_kill_is_logged(http, context, task_log):
    SingleJobHub(http, latest=None)
    task = operator(wait_for_completion=False)
    task.execute(context)
    http.post(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/stop", exc=requests.exceptions.ConnectTimeout)
    task.on_kill()
    assert "could not be stopped and may still be active" in task_log()


def test_trigger_carries_run_and_deadline_without_secret(http, context, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 5000.0)
    SingleJobHub(http, latest=succeeded(3))
    task = operator(deferrable=True, poll_interval=7, wait_timeout=600, execution_timeout=timedelta(seconds=100))
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    _, arguments = deferred.value.trigger.serialize()
    assert arguments == {
        "control_hub_conn_id": "streamsets_default",
        "runs": [[JOB_ID, 4, "run-4:org", T0 / 1000 + 400, JOB_NAME]],
        "poll_interval": 7.0,
        "timeout": 100.0,
        "deadline": pytest.approx(5100.0, abs=1),
        "timeout_reason": "execution_timeout of 100 s reached",
        "metrics_timeout": 75.0,
        "stop_on_kill": True,
        "force_stop_after": None,
        "upper_bounds": None,
        "until_failure": False,
        "force_at": None,
        "forced": [],
        "joined": [],
        "kept": None,
        "wait_for": "completion",
        "fail_on_red_after": None,
        "active": None,
        "red_since": None,
        "red": None,
        "packed": None,
    }
    assert deferred.value.method_name == "execute_complete"
    assert deferred.value.timeout > timedelta(seconds=100)


def test_deferral_is_unlimited_without_timeout(http, context):
    SingleJobHub(http, latest=None)
    with pytest.raises(TaskDeferred) as deferred:
        operator(deferrable=True).execute(context)
    assert deferred.value.timeout is None
    assert deferred.value.trigger.serialize()[1]["deadline"] is None


@pytest.mark.parametrize("event", [None, {}, {"report": None}, "success", {"job_id": JOB_ID, "run_count": 1}])
def test_incomplete_event_never_succeeds(context, event):
    with pytest.raises(ControlHubUnexpectedResponseError, match="Cannot read the trigger's event"):
        operator(deferrable=True).execute_complete(context, event)


@pytest.mark.parametrize(
    ("job", "error", "message"),
    [
        ({"job_name": "Unknown"}, ControlHubNotFoundError, "no job has that name"),
        ({"job_id": "unknown:org"}, ControlHubNotFoundError, "unknown:org"),
    ],
)
def test_error_names_unknown_job(http, context, job, error, message):
    hub = SingleJobHub(http)
    http.get(f"{HUB}/jobrunner/rest/v1/job/unknown:org", status_code=404, json={"ISSUES": []})
    with pytest.raises(error, match=message):
        operator(**job).execute(context)
    assert hub.started_with == []


def test_ambiguous_name_starts_no_job(http, context):
    hub = SingleJobHub(http)
    twins = [{"id": f"{n}:org", "name": JOB_NAME, "jobTemplate": False} for n in range(3)]
    http.get(f"{HUB}/jobrunner/rest/v1/jobs", json={"totalCount": 3, "data": twins})
    with pytest.raises(ControlHubAmbiguousNameError, match=r"3 jobs have it \(0:org, 1:org, 2:org\)"):
        operator(job_name=JOB_NAME).execute(context)
    assert hub.started_with == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"job_id": None}, "is required, got none"),
        ({"job_name": "x", "job_id": "y"}, "got 'job_id' and 'job_name'"),
        ({"runtime_parameters": "[1]"}, "'runtime_parameters' must be a JSON object"),
        ({"runtime_parameters": [1]}, "'runtime_parameters' must be a JSON object"),
        ({"poll_interval": -1}, "'poll_interval' must be"),
        ({"poll_interval": 0}, "'poll_interval' must be"),
        ({"wait_timeout": -1}, "'wait_timeout' must be"),
        ({"metrics_timeout": -1}, "'metrics_timeout' must be a number of seconds from 0"),
        ({"on_timeout": "kill"}, "'on_timeout' must be one of 'stop', 'leave', got 'kill'"),
        ({"reset_offsets": "maybe"}, "'reset_offsets' must be true or false"),
    ],
)
def test_rejects_invalid_arguments_at_parse(arguments, message):
    with pytest.raises(ValueError, match=message):
        operator(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runtime_parameters": "{{ 1 }}"}, "'runtime_parameters' must be a JSON object"),
        ({"poll_interval": "{{ -1 }}"}, "'poll_interval' must be"),
        ({"job_id": "{{ '' }}"}, "'job_id' must be a non-empty string"),
    ],
)
def test_rejects_invalid_rendered_values_before_requests(http, context, arguments, message):
    task = operator(**arguments)
    task.render_template_fields(dict(context))
    with pytest.raises(ValueError, match=message):
        task.execute(context)
    assert not http.request_history


def test_renders_every_template_field():
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
        "openlineage_inject_parent_job_info",
    )
    task = operator(**dict.fromkeys(names, "{{ x }}"), runtime_parameters={"a": "{{ x }}"}, expect=["{{ x }}"])
    task.render_template_fields({"x": "1"})
    rendered = {name: getattr(task, name) for name in task.template_fields}
    assert rendered == {
        **dict.fromkeys(names, "1"),
        "job_name": None,
        "partition_key": None,
        "runtime_parameters": {"a": "1"},
        "expect": ["1"],
    }


def test_execute_changes_no_template_field(http, context):
    SingleJobHub(http)
    task = operator(runtime_parameters='{"a": 1}', poll_interval=timedelta(seconds=5), wait_for_completion=False)
    before = {name: getattr(task, name) for name in task.template_fields}
    task.execute(context)
    assert {name: getattr(task, name) for name in task.template_fields} == before


def test_kill_during_start_stops_run_without_waiting(http, context):
    hub = SingleJobHub(http, latest=None)
    task = operator(deferrable=True)

    def killed_meanwhile(request, answer):
        task.on_kill()
        return hub._start(request, answer)

    http.post(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/start", json=killed_meanwhile)
    with pytest.raises(Exception, match="was killed while it started run 1"):
        task.execute(context)
    assert hub.stops == ["stop"]


def test_kill_before_start_starts_nothing(http, context):
    hub = SingleJobHub(http, latest=None)
    task = operator()
    task.on_kill()
    with pytest.raises(Exception, match="was killed before it started"):
        task.execute(context)
    assert hub.started_with == []


@pytest.mark.parametrize(
    ("end", "outcome", "error"), [(succeeded, "SUCCEEDED", None), (failed, "FAILED", ControlHubRunFailedError)]
)
def test_metrics_of_ended_run_are_emitted(http, context, sleep_calls, stats, end, outcome, error):
    SingleJobHub(http, latest=None, script=[end(1)], counts=counts_json(1))
    with pytest.raises(error) if error else contextlib.nullcontext():
        operator(metrics_timeout=0).execute(context)
    tags = {"dag_id": "dag", "task_id": "task", "operator": "ControlHubRunJobOperator", "outcome": outcome}
    assert [entry for entry in stats.emitted if entry[0].startswith("streamsets.")] == [
        ("streamsets.run.duration", 60.0, tags),
        ("streamsets.run.records_in", 100, tags),
        ("streamsets.run.records_out", 90, tags),
        ("streamsets.run.records_error", 7, tags),
    ]


def test_failing_metrics_backend_does_not_fail_task(http, context, sleep_calls, stats, monkeypatch, task_log):
    SingleJobHub(http, latest=None, script=[succeeded(1)], counts=counts_json(1))
    monkeypatch.setattr(stats, "timing", lambda *_, **__: 1 / 0)
    assert operator(metrics_timeout=0).execute(context)["outcome"] == "SUCCEEDED"
    assert "Could not emit the metrics of the runs: division by zero" in task_log()


def test_emitted_metrics_are_documented(http, context, sleep_calls, stats):
    SingleJobHub(http, latest=None, script=[succeeded(1)], counts=counts_json(1))
    operator(metrics_timeout=0).execute(context)
    page = (DOCS / "reference/metrics.md").read_text("utf-8")
    assert stats.names() <= set(re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE))


def test_run_that_is_left_active_emits_no_metrics(http, context, stats):
    SingleJobHub(http, latest=None)
    operator(wait_for_completion=False).execute(context)
    assert not [name for name in stats.names() if name.startswith("streamsets.")]
