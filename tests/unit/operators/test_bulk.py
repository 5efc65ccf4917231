from __future__ import annotations

import json
import random
import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowException, AirflowTaskTimeout, TaskDeferred

from airflow_provider_streamsets.compat import trigger_size
from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubBulkError,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubJobStateError,
    ControlHubNotFoundError,
    ControlHubRunFailedError,
    ControlHubRunTimeoutError,
    ControlHubUnexpectedResponseError,
)
from airflow_provider_streamsets.operators.bulk import (
    ControlHubDeleteJobsOperator,
    ControlHubStartJobsOperator,
    ControlHubStopJobsOperator,
)
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
from tests.unit.fakes.single_job_hub import HUB, ME, T0
from tests.unit.fakes.task_runner import TaskRunner, patch_clock

pytestmark = pytest.mark.usefixtures("connection")

LINK = f"{HUB}/sch/jobs/detail/a:org"
MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    return patch_clock(monkeypatch)


@pytest.fixture
def run(clock, context):
    """Runs a task to its end, in however many legs that takes."""

    def run_task(operator, **arguments: Any) -> Any:
        return TaskRunner(clock, lambda: operator(task_id="task", **arguments), context).run()

    return run_task


def start(**arguments: Any) -> ControlHubStartJobsOperator:
    arguments = {"job_ids": ["a:org", "b:org"], "deferrable": False, "wait_for_completion": False, **arguments}
    return ControlHubStartJobsOperator(task_id="start", **arguments)


A_AND_B = {"job_ids": ["a:org", "b:org"]}
WAIT = {**A_AND_B, "wait_for_completion": True}


# Starting


def test_jobs_start_in_one_request_without_wait(http, context):
    hub = MultiJobHub(http, a=[succeeded(3)], b=[None])
    results = start().execute(context)
    assert hub.asked("startJobs") == [["a", "b"]]
    assert [(r["job_name"], r["run_count"], r["status"], r["outcome"]) for r in results] == [
        ("a", 4, "ACTIVATING", None),
        ("b", 1, "ACTIVATING", None),
    ]
    assert context["ti"].xcoms == {
        "job_ids": ["a:org", "b:org"],
        "run_counts": {"a:org": 4, "b:org": 1},
        "streamsets_job_link": LINK,
    }
    assert json.loads(json.dumps(results)) == results


@MODES
def test_wait_for_completion_returns_outcomes(http, run, deferrable):
    hub = MultiJobHub(http, a=[succeeded(3)], b=[None])
    hub.after_start = {"a": [activating(4), active(4), active(4), succeeded(4)], "b": [active(), succeeded()]}
    hub.saves("a", 4)
    results = run(ControlHubStartJobsOperator, **WAIT, deferrable=deferrable, metrics_timeout=0)
    assert [(r["job_name"], r["run_count"], r["outcome"]) for r in results] == [
        ("a", 4, "SUCCEEDED"),
        ("b", 1, "SUCCEEDED"),
    ]
    assert results[0]["metrics"]["output_count"] == 90
    assert len(hub.asked("startJobs")) == 1


def test_xcoms_are_pushed_before_deferral(http, context):
    MultiJobHub(http, a=[None], b=[None])
    with pytest.raises(TaskDeferred):
        start(wait_for_completion=True, deferrable=True).execute(context)
    assert set(context["ti"].xcoms) == {"job_ids", "run_counts", "streamsets_job_link"}


def test_active_job_prevents_all_starts(http, context):
    hub = MultiJobHub(http, a=[None], b=[active(2)])
    with pytest.raises(
        ControlHubJobStateError, match=r"job 'b' .* run 2, started by .*, is ACTIVE.*Nothing was started.*if_running="
    ) as error:
        start().execute(context)
    assert "acknowledge_errors" not in str(error.value)
    assert hub.done == []


def test_unacknowledged_error_names_acknowledge_errors(http, context):
    hub = MultiJobHub(http, a=[None], b=[errored(2)])
    with pytest.raises(ControlHubJobStateError, match=r"INACTIVE_ERROR.*acknowledge_errors=True") as error:
        start().execute(context)
    assert hub.done == []
    assert "if_running" not in str(error.value)


def test_unknown_job_prevents_all_starts(http, context):
    hub = MultiJobHub(http, a=[None])
    with pytest.raises(ControlHubNotFoundError, match="b:org"):
        start().execute(context)
    assert hub.done == []


def test_partial_start_fails_and_stops_started_jobs(http, context, clock):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.unstartable = {"b"}
    with pytest.raises(ControlHubBulkError, match=r"1 of 2 jobs were not started: 'b'"):
        start().execute(context)
    assert context["ti"].xcoms["run_counts"] == {"a:org": 1}
    assert ["a"] in hub.asked("stopJobs")


def test_start_of_unmatched_tag_raises(http, context, task_log):
    hub = MultiJobHub(http)
    with pytest.raises(ControlHubNotFoundError, match="No job matches the selection, so there is nothing to start"):
        start(job_ids=None, job_tag="unused").execute(context)
    assert hub.done == []
    assert "No job matches job_tag='unused'" in task_log()


@MODES
def test_failed_runs_fail_task_and_are_named(http, run, task_log, deferrable):
    hub = MultiJobHub(http, a=[None], b=[None], c=[None])
    hub.after_start = {"a": [active(), failed()], "b": [active(), active(), succeeded()], "c": [errored()]}
    ids = ["a:org", "b:org", "c:org"]
    with pytest.raises(ControlHubRunFailedError) as error:
        run(
            ControlHubStartJobsOperator, job_ids=ids, wait_for_completion=True, deferrable=deferrable, metrics_timeout=0
        )
    assert str(error.value) == (
        "2 of 3 runs did not succeed: Run 1 failed: RUN_ERROR: JDBC_00 (job 'a'); "
        "Run 1 failed: RUN_ERROR: JDBC_00 (job 'c')."
    )
    log = task_log()
    for name, status in (("a", "INACTIVE"), ("c", "INACTIVE_ERROR")):
        assert f"Run 1 failed: RUN_ERROR: JDBC_00 (job '{name}')\n  Status: {status}/RED, " in log
        assert f"Ids: job {name}:org, run " in log


@MODES
def test_stopped_runs_fail_unless_accepted(http, run, deferrable):
    arguments = {**WAIT, "deferrable": deferrable, "metrics_timeout": 0}
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [succeeded()], "b": [succeeded()]}
    hub.mark_stopped_by("another-user@org", "b")
    with pytest.raises(
        ControlHubRunFailedError, match=r"1 of 2 .* Run 1 was stopped by user another-user@org .*job 'b'.*accept_stop"
    ):
        run(ControlHubStartJobsOperator, **arguments)
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [succeeded()], "b": [succeeded()]}
    hub.mark_stopped_by("another-user@org", "b")
    results = run(ControlHubStartJobsOperator, **arguments, accept_stopped="true")
    assert [result["outcome"] for result in results] == ["SUCCEEDED", "STOPPED"]


@MODES
def test_metrics_of_each_run_are_emitted(http, run, stats, deferrable):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [succeeded()], "b": [succeeded()]}
    run(ControlHubStartJobsOperator, **WAIT, deferrable=deferrable, metrics_timeout=0)
    tags = {"operator": "ControlHubStartJobsOperator", "outcome": "SUCCEEDED"}
    assert len(stats.values("streamsets.run.duration", **tags)) == 2


@MODES
@pytest.mark.parametrize(("on_timeout", "stopped"), [("stop", [["b"]]), ("leave", [])])
def test_timeout_applies_on_timeout_to_unfinished_runs(http, run, clock, deferrable, on_timeout, stopped):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [succeeded()], "b": [active()]}
    with pytest.raises(ControlHubRunTimeoutError) as error:
        run(ControlHubStartJobsOperator, **WAIT, deferrable=deferrable, wait_timeout=100, on_timeout=on_timeout)
    assert str(error.value) == ("1 of 2 runs have not ended within 100 s: job 'b' run 1 (last status: ACTIVE/GREEN).")
    assert hub.asked("stopJobs") == stopped
    assert clock.now - 1000 == pytest.approx(100, abs=1)


@MODES
def test_run_ended_after_last_poll_is_no_timeout(http, run, deferrable):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active(), active(), succeeded()], "b": [succeeded()]}
    results = run(ControlHubStartJobsOperator, **WAIT, deferrable=deferrable, wait_timeout=100, poll_interval=3600)
    assert [result["outcome"] for result in results] == ["SUCCEEDED", "SUCCEEDED"]


def test_execution_timeout_while_deferred_stops_runs(http, run):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()], "b": [active()]}
    limits = {"execution_timeout": timedelta(seconds=50), "wait_timeout": 500}
    with pytest.raises(AirflowTaskTimeout, match="2 of 2 runs have not ended within 50 s"):
        run(ControlHubStartJobsOperator, **WAIT, **limits, deferrable=True, stop_on_kill=False)
    assert hub.asked("stopJobs") == [["a", "b"]]


def test_execution_timeout_honors_on_timeout_leave(http, run):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()], "b": [active()]}
    limits = {"execution_timeout": timedelta(seconds=50), "on_timeout": "leave"}
    with pytest.raises(AirflowTaskTimeout):
        run(ControlHubStartJobsOperator, **WAIT, **limits, deferrable=True)
    assert hub.asked("stopJobs") == []


def test_deferral_carries_runs_and_absolute_deadline(http, context):
    MultiJobHub(http, a=[succeeded(3)], b=[None])
    task = start(wait_for_completion=True, deferrable=True, poll_interval=7, wait_timeout=600)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    assert deferred.value.trigger.serialize()[1] == {
        "control_hub_conn_id": "streamsets_default",
        "runs": [["a:org", 4, "run-a-4:org", T0 / 1000 + 400, "a"], ["b:org", 1, "run-b-1:org", T0 / 1000 + 100, "b"]],
        "poll_interval": 7.0,
        "timeout": 600.0,
        "deadline": 1600.0,
        "timeout_reason": "wait_timeout of 600 s reached",
        "metrics_timeout": 75.0,
        "until_failure": False,
        "force_at": None,
        "stop_on_kill": True,
        "force_stop_after": None,
        "upper_bounds": None,
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
    assert deferred.value.timeout > timedelta(seconds=600)
    assert deferred.value.method_name == "execute_complete"


def test_deferral_without_timeout_is_unlimited(http, context):
    MultiJobHub(http, a=[None], b=[None])
    with pytest.raises(TaskDeferred) as deferred:
        start(wait_for_completion=True, deferrable=True).execute(context)
    assert deferred.value.timeout is None


def test_kill_stops_unfinished_runs_with_short_timeouts(http, context, monkeypatch):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [succeeded()], "b": [active()]}
    task = start(wait_for_completion=True, metrics_timeout=0)

    def killed_while_waiting(_):
        task.on_kill()
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", killed_while_waiting)
    with pytest.raises(KeyboardInterrupt):
        task.execute(context)
    assert hub.asked("stopJobs") == [["b"]]
    assert http.last_request.timeout == (2.0, 2.0)


def test_kill_stops_runs_while_others_are_activating(http, context, monkeypatch):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()], "b": [activating()]}
    task = start(wait_for_completion=True)

    def killed_while_waiting(_):
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        task.on_kill()

    monkeypatch.setattr("time.sleep", killed_while_waiting)
    with pytest.raises(AirflowException, match="was killed"):
        task.execute(context)
    assert hub.asked("stopJobs")[0] == ["a"]
    assert ["b"] in hub.asked("stopJobs")


def test_kill_leaves_runs_without_stop_on_kill(http, context, monkeypatch):
    hub = MultiJobHub(http, a=[None], b=[None])
    task = start(wait_for_completion=True, stop_on_kill=False)

    def killed_while_waiting(_):
        task.on_kill()
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", killed_while_waiting)
    with pytest.raises(KeyboardInterrupt):
        task.execute(context)
    assert hub.asked("stopJobs") == []


def test_kill_during_start_stops_jobs_without_wait(http, context):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()], "b": [active()]}
    task = start(wait_for_completion=True, deferrable=True)
    started = hub._recorded("startJobs", hub._start)

    def killed_meanwhile(request, answer):
        task.on_kill()
        return started(request, answer)

    http.post(f"{HUB}/jobrunner/rest/v1/jobs/startJobs", json=killed_meanwhile)
    with pytest.raises(Exception, match="was killed while it started the jobs"):
        task.execute(context)
    assert hub.asked("stopJobs") == [["a", "b"]]


def test_kill_before_start_starts_nothing(http, context):
    hub = MultiJobHub(http, a=[None], b=[None])
    task = start()
    task.on_kill()
    with pytest.raises(Exception, match="was killed before it started"):
        task.execute(context)
    assert hub.done == []


def resumed(**event: Any) -> Any:
    """What the trigger of two runs says at the end of a wait of 100 seconds."""
    return {"runs": [["a:org", 1], ["b:org", 1]], "reason": "ended", "timeout": 100.0, "deadline": 950.0, **event}


def test_resume_at_deadline_has_time_to_read_outcomes(http, context, clock):
    hub = MultiJobHub(http, a=[succeeded()], b=[succeeded()])
    hub.failing_polls = [503, 503, 503]
    assert len(start(wait_for_completion=True, deferrable=True).execute_complete(context, resumed())) == 2
    assert clock.now - 1000 == 15


@pytest.mark.parametrize("deadline", [950.0, 1020.0])
def test_resume_limits_wait_for_outcomes(http, context, clock, deadline):
    hub = MultiJobHub(http, a=[succeeded()], b=[succeeded()])
    hub.failing_polls = [503] * 1000
    with pytest.raises(ControlHubRunTimeoutError, match="within 100 s"):
        start(wait_for_completion=True, deferrable=True, on_timeout="leave").execute_complete(
            context, resumed(deadline=deadline)
        )
    assert clock.now - 1000 == 60


def hang(http: Any, clock: Any, *urls: Any) -> None:
    """Let requests hang until their time-outs."""

    def hanging(request: Any, _: Any) -> Any:
        clock.now += request.timeout[1]
        raise requests.exceptions.ReadTimeout

    for url in urls:
        http.post(url, json=hanging)


@pytest.mark.parametrize("reason", ["force", "red", "first_failure"])
def test_resumed_task_keeps_deadline_when_hub_hangs(http, context, clock, reason):
    hub = MultiJobHub(http, a=[active()], b=[failed()])
    hang(http, clock, f"{HUB}/jobrunner/rest/v1/jobs", f"{HUB}/jobrunner/rest/v1/jobs/status")
    event = resumed(reason=reason, deadline=clock.now + 30)
    task = ControlHubStopJobsOperator(task_id="task", job_ids=["a:org", "b:org"], deferrable=True, force_stop_after=20)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute_complete(context, event)
    assert clock.now - 1000 <= 30 + 10
    # What could not be done is still to be done.
    trigger = deferred.value.trigger
    assert (trigger.deadline, trigger.until_failure) == (1030.0, reason == "first_failure")
    assert (trigger.force_at is not None) is (reason == "force")
    assert hub.done == []


@MODES
def test_wait_before_start_keeps_deadline_when_hub_hangs(http, run, clock, deferrable):
    hub = MultiJobHub(http, a=[deactivating()], b=[None])
    answer, read = hub._many, []

    def hangs_after_the_first(request: Any, context: Any) -> Any:
        read.append(request)
        if len(read) == 1:
            return answer(request, context)
        clock.now += request.timeout[1]
        raise requests.exceptions.ReadTimeout

    http.post(f"{HUB}/jobrunner/rest/v1/jobs", json=hangs_after_the_first)
    with pytest.raises(ControlHubRunTimeoutError, match=r"'a' \(a:org\)\. .* nothing was started"):
        run(
            ControlHubStartJobsOperator,
            job_ids=["a:org", "b:org"],
            wait_for_completion=True,
            deferrable=deferrable,
            wait_timeout=120,
        )
    assert 120 <= clock.now - 1000 <= 130
    assert hub.done == []


def test_unreadable_names_do_not_fail_resumed_task(http, context, task_log):
    MultiJobHub(http, a=[succeeded()], b=[succeeded()])
    http.post(f"{HUB}/jobrunner/rest/v1/jobs", status_code=403)
    results = start(wait_for_completion=True, deferrable=True).execute_complete(context, resumed())
    assert [(result["job_id"], result["job_name"]) for result in results] == [("a:org", ""), ("b:org", "")]
    assert "Could not fetch the names of the jobs" in task_log()


def test_names_are_read_again_after_outage(http, context, clock):
    hub = MultiJobHub(http, a=[succeeded()], b=[succeeded()])
    http.post(f"{HUB}/jobrunner/rest/v1/jobs", [{"status_code": 503}, {"json": hub._many}])
    results = start(wait_for_completion=True, deferrable=True).execute_complete(
        context, resumed(deadline=clock.now + 30)
    )
    assert [result["job_name"] for result in results] == ["a", "b"]


@pytest.mark.parametrize("event", [None, {}, {"runs": []}, "success", {"runs": [["a:org", 1]]}])
def test_incomplete_event_raises(context, event):
    with pytest.raises(ControlHubUnexpectedResponseError, match="Cannot read the trigger's event"):
        start(wait_for_completion=True, deferrable=True).execute_complete(context, event)


def test_event_error_fails_task(context):
    event = resumed(error={"type": "ControlHubAuthenticationError", "message": "The credential was refused."})
    with pytest.raises(ControlHubAuthenticationError, match="The credential was refused"):
        start(wait_for_completion=True, deferrable=True).execute_complete(context, event)


# More runs than the arguments of a trigger can hold


def many(count: int) -> dict[str, list[Any]]:
    """Jobs with ids like real ones."""
    return {str(uuid.UUID(int=random.Random(number).getrandbits(128))): [active(4)] for number in range(count)}


def warned_limit(
    operator: Any, http: Any, context: Any, task_log: Any, jobs: dict[str, list[Any]], **arguments: Any
) -> int:
    """Return how many runs one task can wait for with MySQL, as the warning says; 0 if there is none."""
    MultiJobHub(http, **jobs)
    task = operator(task_id="task", job_ids=[f"{name}:org" for name in jobs], deferrable=True, **arguments)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    text = task_log()
    most = re.findall(r"stores at most 65535, the task will fail .* of at most (\d+) jobs each", text)
    assert bool(most) >= (trigger_size(deferred.value.trigger.serialize()[1]) > 65_535)
    return int(most[-1]) if most else 0


@pytest.mark.parametrize(
    "arguments", [{}, {"wait_for": "active", "fail_on_red_after": 60}, {"force_stop_after": 60}], ids=str
)
def test_start_warns_of_more_runs_than_mysql_stores(http, context, task_log, arguments):
    arguments = {"wait_for_completion": True, "wait_timeout": 3600, **arguments}
    started = {name: [succeeded(3)] for name in many(2000)}
    most = warned_limit(ControlHubStartJobsOperator, http, context, task_log, started, **arguments)
    assert 700 < most < 2000


def test_runs_that_fit_mysql_cause_no_warning(http, context, task_log):
    assert not warned_limit(ControlHubStopJobsOperator, http, context, task_log, many(900))


def test_stop_warns_of_more_runs_than_mysql_stores(http, context, task_log):
    assert 900 < warned_limit(ControlHubStopJobsOperator, http, context, task_log, many(2000)) < 2000


@pytest.mark.parametrize("arguments", [{"deferrable": False}, {"wait_for_completion": False}])
def test_runs_are_unlimited_without_deferral(http, run, arguments):
    jobs = {name: [succeeded(1)] for name in many(700)}
    hub = MultiJobHub(http, **jobs)
    hub.after_start = {name: [succeeded(2)] for name in jobs}
    arguments = {"wait_for_completion": True, "metrics_timeout": 0, **arguments}
    results = run(ControlHubStartJobsOperator, job_ids=[f"{name}:org" for name in jobs], **arguments)
    assert len(results) == 700


# Stopping


def test_only_running_jobs_are_stopped_in_one_request(http, run, context):
    hub = MultiJobHub(http, a=[active(4)], b=[succeeded()], c=[None], d=[deactivating()])
    hub.after_stop = {"a": [active(4), deactivating(4), succeeded(4)], "d": [deactivating(), succeeded()]}
    hub.mark_stopped_by(ME, "d")
    ids = ["a:org", "b:org", "c:org", "d:org"]
    results = run(ControlHubStopJobsOperator, job_ids=ids, deferrable=False)
    assert [(r["job_name"], r["run_count"], r["outcome"]) for r in results] == [
        ("a", 4, "SUCCEEDED"),
        ("d", 1, "STOPPED"),
    ]
    assert hub.asked("stopJobs") == [["a", "d"]]
    assert context["ti"].xcoms == {
        "job_ids": ids,
        "run_counts": {"a:org": 4, "d:org": 1},
        "streamsets_job_link": LINK,
    }


def test_stop_of_inactive_jobs_sends_nothing(http, run):
    hub = MultiJobHub(http, a=[succeeded()], b=[None])
    assert run(ControlHubStopJobsOperator, **A_AND_B) == []
    assert hub.done == []


def test_stop_without_wait_returns_at_once(http, run):
    hub = MultiJobHub(http, a=[active()], b=[succeeded()])
    (result,) = run(ControlHubStopJobsOperator, **A_AND_B, wait_for_completion=False)
    assert (result["job_name"], result["status"], result["outcome"]) == ("a", "ACTIVE", None)
    assert hub.asked("stopJobs") == [["a"]]


def test_force_skips_normal_stop(http, run):
    hub = MultiJobHub(http, a=[active()], b=[deactivating()])
    hub.after_force = {"a": [succeeded()], "b": [errored()]}
    with pytest.raises(ControlHubRunFailedError, match=r"1 of 2 .* Run 1 failed: RUN_ERROR: JDBC_00 .job 'b'"):
        run(ControlHubStopJobsOperator, **A_AND_B, force=True, deferrable=False)
    assert hub.asked("forceStopJobs") == [["a", "b"]]
    assert hub.asked("stopJobs") == []


@MODES
@pytest.mark.parametrize("poll_interval", [10, 3600])
def test_slow_stops_are_forced_in_time(http, run, clock, deferrable, poll_interval):
    hub = MultiJobHub(http, a=[active()], b=[active()])
    hub.after_stop = {"a": [deactivating(), succeeded()], "b": [deactivating()]}
    forced_at = []

    def force(request, answer):
        forced_at.append(clock.now - 1000)
        return hub._recorded("forceStopJobs", hub._force)(request, answer)

    http.post(f"{HUB}/jobrunner/rest/v1/jobs/forceStopJobs", json=force)
    hub.after_force = {"b": [deactivating(), succeeded()]}
    results = run(
        ControlHubStopJobsOperator, **A_AND_B, force_stop_after=90, poll_interval=poll_interval, deferrable=deferrable
    )
    assert [result["outcome"] for result in results] == ["SUCCEEDED", "SUCCEEDED"]
    assert hub.asked("forceStopJobs") == [["b"]]
    assert forced_at == pytest.approx([90], abs=1)
    assert hub.asked("stopJobs") == [["a", "b"]]


@MODES
def test_timely_stop_is_not_forced(http, run, deferrable):
    hub = MultiJobHub(http, a=[active()], b=[succeeded()])
    hub.after_stop = {"a": [deactivating(), deactivating(), succeeded()]}
    run(ControlHubStopJobsOperator, **A_AND_B, force_stop_after=90, deferrable=deferrable, metrics_timeout=300)
    assert hub.asked("forceStopJobs") == []


@MODES
def test_forced_stop_is_retried_after_outage(http, run, deferrable):
    hub = MultiJobHub(http, a=[active()], b=[succeeded()])
    hub.after_stop = {"a": [deactivating()]}
    hub.after_force = {"a": [succeeded()]}
    forced = hub._recorded("forceStopJobs", hub._force)
    http.post(f"{HUB}/jobrunner/rest/v1/jobs/forceStopJobs", [{"status_code": 503}] * 7 + [{"json": forced}])
    results = run(ControlHubStopJobsOperator, **A_AND_B, force_stop_after=90, deferrable=deferrable)
    assert [result["outcome"] for result in results] == ["SUCCEEDED"]


@MODES
def test_hanging_stop_times_out(http, run, clock, deferrable):
    hub = MultiJobHub(http, a=[active()], b=[succeeded()])
    hub.after_stop = {"a": [deactivating()]}
    with pytest.raises(ControlHubRunTimeoutError, match=r"run 1 has not ended within 300 s. Last status: DEACTIVATING"):
        run(ControlHubStopJobsOperator, **A_AND_B, force_stop_after=90, wait_timeout=300, deferrable=deferrable)
    assert hub.asked("forceStopJobs") == [["a"]]
    assert clock.now - 1000 == pytest.approx(300, abs=1)


def test_forced_stop_keeps_absolute_deadline(http, clock, context):
    hub = MultiJobHub(http, a=[active()], b=[active()])
    hub.after_stop = {"a": [deactivating()], "b": [deactivating()]}
    arguments = {**A_AND_B, "force_stop_after": 90, "wait_timeout": 300, "deferrable": True}
    legs = TaskRunner(clock, lambda: ControlHubStopJobsOperator(task_id="stop", **arguments), context)
    with pytest.raises(ControlHubRunTimeoutError):
        legs.run()
    stored = [trigger.serialize()[1] for trigger in legs.triggers]
    assert [(arguments["deadline"], arguments["force_at"]) for arguments in stored] == [
        (1300.0, 1090.0),
        (1300.0, None),
    ]
    assert [event["reason"] for event in legs.events] == ["force", "timeout"]
    assert legs.timeouts[0] - legs.timeouts[1] == timedelta(seconds=90)


def test_activating_job_is_stopped_once_allowed(http, run):
    hub = MultiJobHub(http, a=[activating(), activating(), activating(), active()], b=[active()])
    hub.after_stop = {"a": [succeeded()], "b": [succeeded()]}
    assert len(run(ControlHubStopJobsOperator, **A_AND_B, deferrable=False)) == 2
    assert hub.asked("stopJobs") == [["b"], ["a"]]


def test_kill_of_stop_task_stops_nothing_more(http, context):
    hub = MultiJobHub(http, a=[active()], b=[active()])
    task = ControlHubStopJobsOperator(task_id="stop", **A_AND_B, wait_for_completion=False)
    task.execute(context)
    task.on_kill()
    assert len(hub.done) == 1
    with pytest.raises(TaskDeferred) as deferred:
        ControlHubStopJobsOperator(task_id="stop", **A_AND_B, deferrable=True).execute(context)
    arguments = deferred.value.trigger.serialize()[1]
    assert (arguments["stop_on_kill"], arguments["metrics_timeout"]) == (False, 0.0)


# Both ends alike


def fail_polls(number, *statuses):
    """Fail polls with these HTTP statuses after so many successful polls."""

    def prepare(hub):
        left = list(statuses)

        def on_poll():
            if len(hub.polls) == number and left:
                hub.failing_polls = [left.pop(0)]

        hub.on_poll = on_poll

    return prepare


def hides(hub):
    """Refuse to show a job from the fourth poll on."""
    hub.on_poll = lambda: hub.bad.update({"a:org": 403} if len(hub.polls) >= 3 else {})


SCENES: dict[str, tuple[dict[str, list[Any]], Any]] = {
    "success": ({"a": [active(), succeeded()], "b": [activating(), active(), succeeded()]}, None),
    "failure": ({"a": [active(), failed()], "b": [active(), active(), succeeded()]}, None),
    "only failures": ({"a": [errored()], "b": [failed(message="x" * 5000)]}, None),
    "late start": ({"a": [activating(), None, None, None, None, active(), succeeded()], "b": [succeeded()]}, None),
    "never ends": ({"a": [active()], "b": [succeeded()]}, None),
    "restarted": ({"a": [active(), active(2)], "b": [active(), succeeded()]}, None),
    "outage": ({"a": [active(), active(), succeeded()], "b": [failed()]}, fail_polls(2, *[503] * 10)),
    "refused credential": ({"a": [active()], "b": [active()]}, fail_polls(3, 401)),
    "hidden": ({"a": [active()], "b": [active(), active(), active(), active(), succeeded()]}, hides),
}


@pytest.mark.parametrize("scene", SCENES)
def test_sync_and_deferred_results_agree(http, clock, make_context, scene):
    def end(deferrable):
        clock.now = 1000.0
        context = make_context()
        hub = MultiJobHub(http, a=[None], b=[None])
        scripts, prepare = SCENES[scene]
        hub.after_start = {name: list(script) for name, script in scripts.items()}
        hub.history["a"] = [active(2), failed(1)]
        hub.saves("a")
        hub.saves("b", outputCount=5)
        if prepare:
            prepare(hub)
        arguments = {**WAIT, "wait_timeout": 1000, "metrics_timeout": 0, "deferrable": deferrable}
        try:
            result = TaskRunner(clock, lambda: ControlHubStartJobsOperator(task_id="task", **arguments), context).run()
        except ControlHubError as error:
            result = type(error), str(error)
        return result, hub.asked("stopJobs")

    assert end(deferrable=False) == end(deferrable=True)


# Deleting


def delete(**arguments: Any) -> ControlHubDeleteJobsOperator:
    return ControlHubDeleteJobsOperator(task_id="delete", **{**A_AND_B, **arguments})


def test_jobs_are_deleted_in_one_request(http, context):
    hub = MultiJobHub(http, a=[succeeded()], b=[None])
    assert delete().execute(context) == ["a:org", "b:org"]
    assert hub.asked("deleteJobs") == [["a", "b"]]
    assert hub.latest == {}
    # There is nothing left to link to.
    assert context["ti"].xcoms["streamsets_job_link"] == ""


def test_missing_job_counts_as_deleted(http, context):
    hub = MultiJobHub(http, a=[succeeded()])
    assert delete().execute(context) == ["a:org"]
    # As a retry does.
    assert delete().execute(context) == []
    assert hub.asked("deleteJobs") == [["a"]]


def test_active_job_prevents_all_deletions(http, context):
    hub = MultiJobHub(http, a=[succeeded()], b=[active()])
    with pytest.raises(ControlHubJobStateError, match=r"'b' .* is ACTIVE: stop it first.* Set stop_first=True to"):
        delete().execute(context)
    assert hub.done == []


def test_job_with_error_prevents_all_deletions(http, context):
    hub = MultiJobHub(http, a=[succeeded()], b=[errored()])
    with pytest.raises(
        ControlHubJobStateError,
        match=r"'b' .* has an error to acknowledge first: .*JDBC_00.* Set acknowledge_errors=True to",
    ):
        delete().execute(context)
    assert hub.done == []


def test_job_template_is_not_deleted(http, context):
    hub = MultiJobHub(http, a=[succeeded()])
    http.post(f"{HUB}/jobrunner/rest/v1/jobs", json=[hub.template])
    with pytest.raises(ControlHubConfigurationError, match="is a job template"):
        delete(job_ids=[TEMPLATE_ID]).execute(context)
    assert hub.done == []


def test_stop_first_stops_active_jobs(http, context):
    hub = MultiJobHub(http, a=[succeeded()], b=[active()])
    hub.after_stop = {"b": [deactivating(), deactivating(), succeeded()]}
    assert delete(stop_first=True).execute(context) == ["a:org", "b:org"]
    assert [action for action, _ in hub.done] == ["stopJobs", "deleteJobs"]
    assert hub.asked("stopJobs") == [["b"]]


def test_stop_first_skips_inactive_jobs(http, context):
    hub = MultiJobHub(http, a=[succeeded()], b=[None])
    delete(stop_first=True).execute(context)
    assert hub.asked("stopJobs") == []


def test_slow_stop_before_deletion_is_forced(http, context, clock):
    hub = MultiJobHub(http, a=[active()], b=[active()])
    hub.after_stop = {"a": [deactivating()], "b": [succeeded()]}
    hub.after_force = {"a": [succeeded()]}
    delete(stop_first=True, force_stop_after=60).execute(context)
    assert hub.asked("forceStopJobs") == [["a"]]
    assert clock.now - 1000 == pytest.approx(65, abs=5)


def test_hanging_stop_prevents_all_deletions(http, context, clock):
    hub = MultiJobHub(http, a=[succeeded()], b=[active()])
    hub.after_stop = {"b": [deactivating()]}
    with pytest.raises(ControlHubRunTimeoutError, match="1 jobs were not stopped within 120 s: b:org"):
        delete(stop_first=True, stop_timeout="120").execute(context)
    assert hub.asked("deleteJobs") == []
    assert clock.now - 1000 == pytest.approx(120, abs=5)


def test_deletion_waits_out_outage_during_stop(http, context):
    hub = MultiJobHub(http, a=[succeeded()], b=[active()])
    hub.after_stop = {"b": [deactivating(), succeeded()]}
    stop = hub._recorded("stopJobs", hub._stop)

    def then_outage(request, answer):
        hub.failing_polls = [503] * 12
        return stop(request, answer)

    http.post(f"{HUB}/jobrunner/rest/v1/jobs/stopJobs", json=then_outage)
    assert delete(stop_first=True).execute(context) == ["a:org", "b:org"]


def test_errors_are_acknowledged_before_deletion(http, context, task_log):
    hub = MultiJobHub(http, a=[succeeded()], b=[errored()])
    # Control Hub takes a moment.
    hub.after_acknowledgement = {"b": [errored(), errored(), succeeded()]}
    assert delete(acknowledge_errors=True).execute(context) == ["a:org", "b:org"]
    assert hub.asked("acknowledgeErrors") == [["b"]]
    assert "Job 'b' run 1: acknowledged its error: RUN_ERROR: JDBC_00" in task_log()


def test_error_after_stop_is_acknowledged(http, context):
    hub = MultiJobHub(http, a=[succeeded()], b=[active()])
    hub.after_stop = {"b": [deactivating(), errored()]}
    hub.after_acknowledgement = {"b": [succeeded()]}
    delete(stop_first=True, acknowledge_errors=True).execute(context)
    assert [action for action, _ in hub.done] == ["stopJobs", "acknowledgeErrors", "deleteJobs"]


def test_ineffective_acknowledgement_prevents_all_deletions(http, context, clock):
    hub = MultiJobHub(http, a=[succeeded()], b=[errored()])
    with pytest.raises(ControlHubUnexpectedResponseError, match="60 s later these jobs are still INACTIVE_ERROR"):
        delete(acknowledge_errors=True).execute(context)
    assert hub.asked("deleteJobs") == []
    assert clock.now - 1000 == pytest.approx(60, abs=5)


def test_empty_search_deletes_nothing(http, context, task_log):
    hub = MultiJobHub(http)
    http.get(f"{HUB}/jobrunner/rest/v1/saql/jobs/search", json={"totalCount": 0, "data": []})
    assert delete(job_ids=None, search='name=="tmp *"').execute(context) == []
    assert hub.done == []
    assert "nothing to do" in task_log()


@pytest.mark.parametrize(
    ("operator", "arguments", "said"),
    [
        (ControlHubStartJobsOperator, {}, "is required, got none"),
        (ControlHubStartJobsOperator, {"job_ids": ["a:org"], "job_tag": "b"}, "got 'job_ids' and 'job_tag'"),
        (ControlHubStartJobsOperator, {"job_ids": 5}, "'job_ids' must be a list of strings"),
        (ControlHubStartJobsOperator, {"job_ids": [""]}, "'job_ids' must be a list of non-empty strings"),
        (ControlHubStartJobsOperator, {"job_ids": ["a:org"], "on_timeout": "kill"}, "'on_timeout' must be one of"),
        (ControlHubStopJobsOperator, {"job_ids": ["a:org"], "force": "maybe"}, "'force' must be true or false"),
        (
            ControlHubStopJobsOperator,
            {"job_ids": ["a:org"], "force_stop_after": 0},
            "'force_stop_after' must be a number",
        ),
        (ControlHubDeleteJobsOperator, {"job_ids": ["a:org"], "stop_first": 1}, "'stop_first' must be true or false"),
        (ControlHubDeleteJobsOperator, {"job_ids": ["a:org"], "stop_timeout": -1}, "'stop_timeout' must be a number"),
    ],
)
def test_rejects_invalid_arguments_at_parse(operator, arguments, said):
    with pytest.raises(ValueError, match=said):
        operator(task_id="task", **arguments)


@pytest.mark.parametrize(
    ("operator", "arguments", "said"),
    [
        (ControlHubStartJobsOperator, {"job_ids": "{{ 'x' }}"}, "'job_ids' must be a list of strings"),
        (ControlHubStartJobsOperator, {"job_ids": ["a:org"], "on_timeout": "{{ 1 }}"}, "'on_timeout' must be one of"),
        (
            ControlHubStopJobsOperator,
            {"job_ids": ["a:org"], "force_stop_after": "{{ -1 }}"},
            "'force_stop_after' must be a number",
        ),
        (ControlHubDeleteJobsOperator, {"job_ids": ["a:org"], "stop_first": "{{ 1 }}"}, "'stop_first' must be true"),
    ],
)
def test_rejects_invalid_rendered_values_before_requests(http, context, operator, arguments, said):
    task = operator(task_id="task", **arguments)
    task.render_template_fields(dict(context))
    with pytest.raises(ValueError, match=said):
        task.execute(context)
    assert not http.request_history


def test_job_ids_accept_rendered_list(http, context):
    hub = MultiJobHub(http, a=[None], b=[None])
    task = start(job_ids="{{ ids }}")
    task.render_template_fields({"ids": ["a:org", "b:org"]})
    task.execute(context)
    assert hub.asked("startJobs") == [["a", "b"]]


# What is known before is refused before


@pytest.mark.parametrize(
    ("other", "said"),
    [(errored(), "has an error to acknowledge first"), (deactivating(), "stop it first")],
)
def test_undeletable_job_raises_before_any_stop(http, context, other, said):
    hub = MultiJobHub(http, a=[active()], b=[other])
    with pytest.raises(ControlHubJobStateError, match=said):
        delete(stop_first=said != "stop it first").execute(context)
    assert hub.done == []


def test_template_among_jobs_raises_before_any_stop(http, context):
    hub = MultiJobHub(http, a=[active()])
    http.post(
        f"{HUB}/jobrunner/rest/v1/jobs",
        json=[hub.job("a:org"), {"id": "b:org", "name": "b", "jobTemplate": True, "currentJobStatus": None}],
    )
    with pytest.raises(ControlHubConfigurationError, match="is a job template, not a job"):
        delete(stop_first=True).execute(context)
    assert hub.done == []


def test_retry_ignores_names_of_deleted_jobs(http, context):
    hub = MultiJobHub(http, a=[succeeded()])
    http.get(f"{HUB}/jobrunner/rest/v1/saql/jobs/search", json={"totalCount": 0, "data": []})
    operator = ControlHubDeleteJobsOperator(task_id="delete", job_names=["a", "gone"])
    with pytest.raises(ControlHubNotFoundError, match="gone"):
        operator.execute(context)
    context["ti"].try_number = 2
    assert operator.execute(context) == []
    assert hub.asked("deleteJobs") == []


def test_errors_are_acknowledged_before_start(http, context, clock, task_log):
    hub = MultiJobHub(http, a=[errored(3)], b=[None])
    hub.after_acknowledgement = {"a": [succeeded(3)]}
    start(acknowledge_errors=True).execute(context)
    assert [action for action, _ in hub.done] == ["acknowledgeErrors", "startJobs"]
    assert "Job 'a' run 3: acknowledged its error: RUN_ERROR" in task_log()


def test_failure_pushes_results_of_all_runs(http, run, context):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active(), failed()], "b": [active(), succeeded()]}
    with pytest.raises(ControlHubRunFailedError, match="1 of 2 runs did not succeed"):
        run(ControlHubStartJobsOperator, **WAIT, deferrable=False, metrics_timeout=0)
    assert [result["outcome"] for result in context["ti"].xcoms["results"]] == ["FAILED", "SUCCEEDED"]
