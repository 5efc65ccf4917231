"""Runs of many jobs, and instances of a template, after the try that started them is lost or killed."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowException, TaskDeferred

from airflow_provider_streamsets.control_hub import (
    ControlHubBulkError,
    ControlHubError,
    ControlHubJobStateError,
    ControlHubRunFailedError,
    ControlHubRunTimeoutError,
)
from airflow_provider_streamsets.hooks.control_hub import ControlHubHook
from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator, ControlHubStopJobsOperator
from airflow_provider_streamsets.operators.templates import ControlHubRunJobTemplateOperator
from tests.unit.fakes.multi_job_hub import (
    TEMPLATE_ID,
    MultiJobHub,
    active,
    deactivating,
    errored,
    failed,
    job_id,
    succeeded,
)
from tests.unit.fakes.single_job_hub import HUB, ME, T0
from tests.unit.fakes.task_runner import TaskRunner, patch_clock

pytestmark = pytest.mark.usefixtures("connection")
MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])
STOP = f"{HUB}/jobrunner/rest/v1/jobs/stopJobs"
START = f"{HUB}/jobrunner/rest/v1/jobs/startJobs"
CREATE = f"{HUB}/jobrunner/rest/v1/job/{TEMPLATE_ID}/createAndStartJobInstances"


class LostError(BaseException):
    """The process is gone: nothing of it runs on."""


@pytest.fixture
def clock(monkeypatch):
    return patch_clock(monkeypatch)


@pytest.fixture
def run(clock, context):
    """Runs one try of a task; the next one is a later try."""
    context["ti"].max_tries = 3

    def run_try(operator, **arguments: Any) -> Any:
        try:
            arguments = {"metrics_timeout": 0, **arguments}
            return TaskRunner(clock, lambda: operator(task_id="task", **arguments), context).run()
        finally:
            context["ti"].try_number += 1

    return run_try


@pytest.fixture
def lost(run, context):
    """Runs one try whose process is lost in a call, after or before the call has its effect."""

    def run_lost_try(http, url, effect, operator, **arguments: Any) -> None:
        kept: dict[str, Any] = {}

        def lose(request, answer):
            if effect:
                effect(request, answer)
            kept.update(copy.deepcopy(context["task_state_store"].values))
            raise LostError

        http.post(url, text=lose)
        with pytest.raises(LostError):
            run(operator, **arguments)
        context["task_state_store"].values = kept

    return run_lost_try


# Jobs that are started together

A_AND_B = {"job_ids": ["a:org", "b:org"], "wait_for_completion": True}


def restore_start(http, hub):
    http.post(START, json=hub._recorded("startJobs", hub._start))


@MODES
def test_retry_resumes_runs_of_lost_try(http, run, lost, deferrable, task_log):
    hub = MultiJobHub(http, a=[None], b=[succeeded(3)])
    hub.after_start = {"a": [active(), active(), succeeded()], "b": [active(4), succeeded(4)]}
    started = hub._recorded("startJobs", hub._start)
    lost(http, START, started, ControlHubStartJobsOperator, **A_AND_B, deferrable=deferrable)
    restore_start(http, hub)
    results = run(ControlHubStartJobsOperator, **A_AND_B, deferrable=deferrable)
    assert {r["job_name"]: (r["run_count"], r["outcome"]) for r in results} == {
        "a": (1, "SUCCEEDED"),
        "b": (4, "SUCCEEDED"),
    }
    assert hub.asked("startJobs") == [["a", "b"]]
    assert "2 of them are active or succeeded, and are not started again" in task_log()


@MODES
def test_retry_starts_jobs_lost_try_did_not(http, run, lost, deferrable):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active(), succeeded()], "b": [active(), succeeded()]}
    hub.unstartable = {"b"}
    started = hub._recorded("startJobs", hub._start)
    lost(http, START, started, ControlHubStartJobsOperator, **A_AND_B, deferrable=deferrable)
    hub.unstartable = set()
    restore_start(http, hub)
    results = run(ControlHubStartJobsOperator, **A_AND_B, deferrable=deferrable)
    assert [r["outcome"] for r in results] == ["SUCCEEDED"] * 2
    assert hub.asked("startJobs") == [["a", "b"], ["b"]]


@MODES
def test_retry_restarts_runs_failed_meanwhile(http, run, lost, deferrable):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [failed()], "b": [succeeded()]}
    started = hub._recorded("startJobs", hub._start)
    lost(http, START, started, ControlHubStartJobsOperator, **A_AND_B, deferrable=deferrable)
    restore_start(http, hub)
    hub.after_start = {"a": [active(2), succeeded(2)]}
    results = run(ControlHubStartJobsOperator, **A_AND_B, deferrable=deferrable)
    assert {r["job_name"]: r["run_count"] for r in results} == {"a": 2, "b": 1}
    assert hub.asked("startJobs") == [["a", "b"], ["a"]]


def test_runs_of_another_user_are_not_claimed(http, run, lost):
    hub = MultiJobHub(http, a=[None], b=[None])
    lost(http, START, None, ControlHubStartJobsOperator, **A_AND_B, deferrable=False)
    restore_start(http, hub)
    hub.latest["a:org"] = {**active(user="another-user@org"), "jobId": "a:org"}
    with pytest.raises(ControlHubJobStateError, match="run 1, started by another-user@org"):
        run(ControlHubStartJobsOperator, **A_AND_B, deferrable=False)
    assert hub.asked("startJobs") == []


def test_clear_stops_runs_and_starts_new_ones(http, run, lost, context):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()], "b": [active()]}
    started = hub._recorded("startJobs", hub._start)
    lost(http, START, started, ControlHubStartJobsOperator, **A_AND_B, deferrable=False)
    restore_start(http, hub)
    hub.after_stop = {"a": [succeeded()], "b": [succeeded()]}
    hub.after_start = {"a": [active(2), succeeded(2)], "b": [active(2), succeeded(2)]}
    context["ti"].max_tries = 5
    results = run(ControlHubStartJobsOperator, **A_AND_B, deferrable=False)
    assert [r["run_count"] for r in results] == [2, 2]
    assert hub.asked("stopJobs") == [["a", "b"]]


def cleared_while_deferred(http, context, operator, **arguments):
    """Run a try that a person clears while it is deferred."""
    with pytest.raises(TaskDeferred):
        operator(task_id="task", metrics_timeout=0, deferrable=True, **arguments).execute(context)
    context["ti"].max_tries += context["ti"].try_number
    context["ti"].try_number += 1


def killed_on_worker(context, monkeypatch, operator, **arguments):
    """Run a try that is killed while it waits on a worker; a clear of a running task does not show otherwise."""
    task = operator(task_id="task", metrics_timeout=0, deferrable=False, **arguments)
    with monkeypatch.context() as patched:
        patched.setattr("time.sleep", lambda seconds: task.on_kill())
        with pytest.raises(AirflowException, match="was killed while it waited"):
            task.execute(context)
    context["ti"].try_number += 1


@MODES
@pytest.mark.parametrize("operator", [ControlHubStartJobsOperator, ControlHubRunJobTemplateOperator])
def test_clear_without_stop_restarts_only_failed_runs(http, run, context, monkeypatch, operator, deferrable):
    hub = MultiJobHub(http, a=[None], b=[None], c=[None])
    names = ["a", "b", "c"] if operator is ControlHubStartJobsOperator else [f"instance-{n}" for n in (1, 2, 3)]
    chosen = (
        {"job_ids": list(map(job_id, "abc")), "wait_for_completion": True}
        if operator is ControlHubStartJobsOperator
        else {"job_id": TEMPLATE_ID, "number_of_instances": 3}
    )
    hub.after_start = {name: [active()] for name in "abc"}
    hub.instance_scripts = [[active()] for _ in range(3)]
    arguments = {**chosen, "stop_on_kill": False}
    if deferrable:
        cleared_while_deferred(http, context, operator, **arguments)
    else:
        killed_on_worker(context, monkeypatch, operator, **arguments)
    for name, status in zip(names, [active(), succeeded(), failed()], strict=True):
        hub.latest[job_id(name)], hub.scripts[job_id(name)] = hub._status(name, status), []
    hub.scripts[job_id(names[0])] = [hub._status(names[0], status) for status in (active(), active(), succeeded())]
    hub.after_start = {"c": [succeeded(2)]}
    hub.instance_scripts = []
    results = run(operator, **arguments, deferrable=deferrable)
    if operator is ControlHubStartJobsOperator:
        assert [r["run_count"] for r in results] == [1, 1, 2]
        assert hub.done == [("startJobs", ["a", "b", "c"]), ("startJobs", ["c"])]
    else:
        assert [i["job_id"] for i in results["instances"]] == [*map(job_id, names[:2]), "instance-4:org"]
        assert hub.done == []
    # Now that it has ended, a clear orders new runs.
    context["ti"].max_tries += context["ti"].try_number
    hub.after_start = {name: [succeeded(3)] for name in "abc"}
    run(operator, **arguments, deferrable=deferrable)
    started = hub.asked("startJobs")[-1] if hub.done else hub.created[-1]["runtimeParametersList"]
    assert len(started) == 3


@MODES
@pytest.mark.parametrize(("retries", "stopped"), [(3, []), (0, [["a"]])], ids=["retry left", "last try"])
def test_partial_start_is_resumed_or_stopped(http, run, context, task_log, deferrable, retries, stopped):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()]}
    hub.unstartable = {"b"}
    context["ti"].max_tries = retries
    arguments = {**A_AND_B, "deferrable": deferrable}
    with pytest.raises(ControlHubBulkError, match=r"1 of 2 jobs were not started: 'b'"):
        run(ControlHubStartJobsOperator, **arguments)
    assert hub.asked("stopJobs") == stopped
    text = task_log()
    assert ("for the next try" in text) is (not stopped)
    assert ("Job 'a' run 1: stopping" in text) is bool(stopped)
    if stopped:
        return
    hub.unstartable = set()
    hub.scripts["a:org"] = [hub._status("a", status) for status in (active(), succeeded())]
    hub.after_start = {"b": [active(), succeeded()]}
    assert [r["run_count"] for r in run(ControlHubStartJobsOperator, **arguments)] == [1, 1]
    assert hub.asked("startJobs") == [["a", "b"], ["b"]]


def test_retry_without_wait_starts_nothing_again(http, run, lost):
    hub = MultiJobHub(http, a=[None], b=[None])
    jobs = {"job_ids": ["a:org", "b:org"], "wait_for_completion": False}
    lost(http, START, hub._recorded("startJobs", hub._start), ControlHubStartJobsOperator, **jobs)
    restore_start(http, hub)
    assert [r["run_count"] for r in run(ControlHubStartJobsOperator, **jobs)] == [1, 1]
    assert hub.asked("startJobs") == [["a", "b"]]


@MODES
def test_retry_after_timeout_starts_new_runs(http, run, deferrable):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()], "b": [active()]}
    hub.after_stop = {"a": [succeeded()], "b": [succeeded()]}
    hub.mark_stopped_by(ME, "a", "b")
    with pytest.raises(ControlHubRunTimeoutError):
        run(ControlHubStartJobsOperator, **A_AND_B, deferrable=deferrable, wait_timeout=100)
    assert hub.asked("stopJobs") == [["a", "b"]]
    hub.after_start = {"a": [active(2), succeeded(2)], "b": [active(2), succeeded(2)]}
    results = run(ControlHubStartJobsOperator, **A_AND_B, deferrable=deferrable, wait_timeout=100)
    assert [r["run_count"] for r in results] == [2, 2]


@MODES
def test_retry_restarts_only_failed_run(http, run, deferrable):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active(), failed()], "b": [active(), succeeded()]}
    with pytest.raises(ControlHubRunFailedError):
        run(ControlHubStartJobsOperator, **A_AND_B, deferrable=deferrable)
    hub.after_start = {"a": [active(2), succeeded(2)]}
    results = run(ControlHubStartJobsOperator, **A_AND_B, deferrable=deferrable)
    assert {r["job_name"]: (r["run_count"], r["outcome"]) for r in results} == {
        "a": (2, "SUCCEEDED"),
        "b": (1, "SUCCEEDED"),
    }
    assert hub.asked("startJobs") == [["a", "b"], ["a"]]


@pytest.mark.parametrize("accept_stopped", [True, False])
def test_retry_restarts_runs_stopped_by_killed_try(http, run, lost, accept_stopped):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [succeeded()], "b": [succeeded()]}
    arguments = {**A_AND_B, "deferrable": False, "accept_stopped": accept_stopped}
    lost(http, START, hub._recorded("startJobs", hub._start), ControlHubStartJobsOperator, **arguments)
    restore_start(http, hub)
    hub.mark_stopped_by(ME, "a")
    hub.after_start = {"a": [active(2), succeeded(2)]}
    results = run(ControlHubStartJobsOperator, **arguments)
    assert {r["job_name"]: (r["run_count"], r["outcome"]) for r in results} == {
        "a": (2, "SUCCEEDED"),
        "b": (1, "SUCCEEDED"),
    }


@pytest.mark.parametrize("failing", [[], [503]], ids=["", "outage"])
def test_last_try_that_cannot_start_stops_earlier_runs(http, run, lost, context, failing):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()], "b": [errored()]}
    arguments = {**A_AND_B, "deferrable": False}
    lost(http, START, hub._recorded("startJobs", hub._start), ControlHubStartJobsOperator, **arguments)
    restore_start(http, hub)
    context["ti"].max_tries = 1
    context["task_state_store"].set("control_hub", {**context["task_state_store"].get("control_hub"), "max_tries": 1})
    # The second poll is that of the run whose error is in the way.
    polls = iter([[], failing])
    hub.on_poll = lambda: hub.failing_polls.extend(next(polls, []))
    with pytest.raises(
        ControlHubRunFailedError, match=r"Run 1 failed: .*JDBC_00 .job 'b'.*acknowledge_errors=True"
    ) as error:
        run(ControlHubStartJobsOperator, **arguments)
    assert (error.value.job_id, error.value.error_codes) == ("b:org", ("JDBC_00",))
    assert hub.asked("stopJobs") == [["a"]]


def test_kill_between_batches_stops_started_runs(http, connection, context, monkeypatch):
    connection["extra"] = {"bulk_size": 1}
    monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", json.dumps(connection))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("airflow_provider_streamsets.control_hub.submission.wall_clock", lambda: T0 / 1000 + 200)
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()]}
    task = ControlHubStartJobsOperator(task_id="task", **A_AND_B, deferrable=False)
    started = hub._recorded("startJobs", hub._start)

    def killed_after(request, answer):
        result = started(request, answer)
        task.on_kill()
        return result

    http.post(START, json=killed_after)
    with pytest.raises(AirflowException, match="was killed while it started the jobs"):
        task.execute(context)
    assert hub.asked("startJobs") == [["a"]]
    assert ["a"] in hub.asked("stopJobs")


@pytest.mark.parametrize("skew", [-3600, 3600])
def test_accepted_start_ignores_clock_skew(http, run, monkeypatch, skew):
    monkeypatch.setattr("airflow_provider_streamsets.control_hub.submission.wall_clock", lambda: T0 / 1000 + skew)
    MultiJobHub(http, a=[None], b=[None])
    results = run(ControlHubStartJobsOperator, job_ids=["a:org", "b:org"], wait_for_completion=False)
    assert [result["run_count"] for result in results] == [1, 1]


# Jobs that another caller with the same credential starts at the same moment

IF_RUNNING = pytest.mark.parametrize("if_running", ["fail", "join", "restart", "wait_then_start"])
REJECTION_OF_A = {"ISSUES": [{"code": "JOBRUNNER_73", "message": "Job 'a' cannot be started: it is ACTIVE"}]}


def refused(http, hub, *started, run_for=None):
    """Another caller has started some jobs a moment before, so the next start call is refused."""

    def refuse(request, answer):
        names = [identifier.removesuffix(":org") for identifier in request.json()]
        hub.done.append(("startJobs", names))
        for name in started:
            hub.latest[job_id(name)] = hub._status(name, active())
            hub.scripts[job_id(name)] = [hub._status(name, status) for status in run_for or ()]
        restore_start(http, hub)
        answer.status_code = 400
        return REJECTION_OF_A

    http.post(START, json=refuse)


@MODES
@IF_RUNNING
@pytest.mark.parametrize("others", ["a", "ab"], ids=["one job", "all jobs"])
def test_rejected_start_leaves_runs_of_same_user(http, run, context, deferrable, if_running, others):
    hub = MultiJobHub(http, a=[None], b=[None])
    refused(http, hub, *others, run_for=[active(), active(), succeeded()])
    hub.after_start = {"a": [active(2), succeeded(2)], "b": [active(2 if others == "ab" else 1), succeeded(2)]}
    if others == "a":
        hub.after_start["b"] = [active(), succeeded()]
    hub.after_stop = {name: [succeeded()] for name in "ab"}
    arguments = {**A_AND_B, "deferrable": deferrable, "if_running": if_running}
    if if_running == "fail":
        for _ in range(2):
            with pytest.raises(ControlHubJobStateError, match=r"run 1, started by me@org at .*, is ACTIVE"):
                run(ControlHubStartJobsOperator, **arguments)
        assert hub.done == [("startJobs", ["a", "b"])]
        assert "run_counts" not in context["ti"].xcoms
        return
    results = run(ControlHubStartJobsOperator, **arguments)
    assert {r["outcome"] for r in results} == {"SUCCEEDED"}
    own = {name: 1 if if_running == "join" or name not in others else 2 for name in "ab"}
    assert {r["job_name"]: r["run_count"] for r in results} == own
    assert hub.asked("stopJobs") == ([list(others)] if if_running == "restart" else [])
    again = [name for name in "ab" if if_running != "join" or name not in others]
    assert hub.asked("startJobs") == [["a", "b"], again] if again else [["a", "b"]]


@MODES
def test_joined_runs_are_never_stopped(http, run, clock, deferrable):
    hub = MultiJobHub(http, a=[active()], b=[None])
    hub.after_start = {"b": [active()]}
    with pytest.raises(ControlHubRunTimeoutError):
        run(ControlHubStartJobsOperator, **A_AND_B, deferrable=deferrable, if_running="join", wait_timeout=100)
    assert hub.asked("stopJobs") == [["b"]]


def test_killed_trigger_leaves_joined_runs_alone(http, context, clock):
    hub = MultiJobHub(http, a=[active()], b=[None])
    hub.after_start = {"b": [active()]}
    with pytest.raises(TaskDeferred) as deferred:
        ControlHubStartJobsOperator(task_id="task", **A_AND_B, deferrable=True, if_running="join").execute(context)
    trigger = deferred.value.trigger
    client = ControlHubHook().get_conn()
    client.runs.statuses(["a:org", "b:org"])
    trigger.stop(client)
    assert hub.asked("stopJobs") == [["b"]]


@MODES
def test_retry_joins_same_runs_again(http, run, lost, deferrable):
    hub = MultiJobHub(http, a=[active()], b=[None])
    hub.after_start = {"b": [active(), active(), succeeded()]}
    arguments = {**A_AND_B, "deferrable": deferrable, "if_running": "join"}
    lost(http, START, hub._recorded("startJobs", hub._start), ControlHubStartJobsOperator, **arguments)
    restore_start(http, hub)
    hub.scripts["a:org"] = [hub._status("a", status) for status in (active(), active(), succeeded())]
    results = run(ControlHubStartJobsOperator, **arguments)
    assert {r["job_name"]: (r["run_count"], r["outcome"]) for r in results} == {
        "a": (1, "SUCCEEDED"),
        "b": (1, "SUCCEEDED"),
    }
    assert hub.done == [("startJobs", ["b"])]


@pytest.mark.parametrize("wait", [{"wait_for_completion": False}, {"wait_for": "active"}], ids=["no wait", "active"])
def test_retry_after_success_keeps_failed_joined_run(http, run, wait):
    hub = MultiJobHub(http, a=[active(5, user="another-user@org")])
    arguments = {"job_ids": ["a:org"], "if_running": "join", **wait}
    run(ControlHubStartJobsOperator, **arguments)
    hub.latest["a:org"] = hub._status("a", failed(5))
    (result,) = run(ControlHubStartJobsOperator, **arguments)
    assert (result["run_count"], result["status"]) == (5, "INACTIVE")
    assert hub.done == []


@MODES
def test_wait_for_other_runs_counts_towards_timeout(http, run, clock, deferrable):
    hub = MultiJobHub(http, a=[active()], b=[None])
    arguments = {**A_AND_B, "deferrable": deferrable, "if_running": "wait_then_start", "wait_timeout": 200}
    began = clock.now
    with pytest.raises(ControlHubRunTimeoutError, match="before starting its own run; nothing was started"):
        run(ControlHubStartJobsOperator, **arguments)
    assert 200 <= clock.now - began <= 240
    assert hub.done == []


def test_jobs_of_unsent_batches_are_not_claimed(http, run, lost, connection, monkeypatch):
    """Another task starts job b, whose batch the lost try had not sent."""
    connection["extra"] = {"bulk_size": 1}
    monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", json.dumps(connection))
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active(), succeeded()]}
    started = hub._recorded("startJobs", hub._start)
    lost(http, START, started, ControlHubStartJobsOperator, **A_AND_B, deferrable=False)
    restore_start(http, hub)
    hub.latest["b:org"] = hub._status("b", active())
    with pytest.raises(ControlHubJobStateError, match=r"'b' .*run 1, started by me@org at .*, is ACTIVE"):
        run(ControlHubStartJobsOperator, **A_AND_B, deferrable=False)
    assert hub.asked("stopJobs") == []


def test_last_try_stops_runs_started_before_rejected_batch(http, run, connection, monkeypatch, context):
    connection["extra"] = {"bulk_size": 1}
    monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", json.dumps(connection))
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()]}

    def start(request, answer):
        if request.json() == ["b:org"]:
            hub.latest["b:org"] = hub._status("b", active())
            answer.status_code = 400
            return REJECTION_OF_A
        return hub._recorded("startJobs", hub._start)(request, answer)

    http.post(START, json=start)
    context["ti"].max_tries = 0
    with pytest.raises(ControlHubJobStateError, match=r"'b' .*run 1, started by me@org at .*, is ACTIVE"):
        run(ControlHubStartJobsOperator, **A_AND_B, deferrable=False)
    assert hub.asked("stopJobs") == [["a"]]
    assert context["ti"].xcoms["run_counts"] == {"a:org": 1}


def test_waits_for_late_start_after_other_run(http, run, lost, clock):
    hub = MultiJobHub(http, a=[None])
    arguments = {"job_ids": ["a:org"], "wait_for_completion": True, "deferrable": False}
    lost(http, START, None, ControlHubStartJobsOperator, **arguments)
    restore_start(http, hub)
    others = succeeded(1, user="another-user@org")
    hub.latest["a:org"] = hub._status("a", others)
    hub.history["a"] = [active(2), others]
    hub.scripts["a:org"] = [hub._status("a", status) for status in [others] * 9 + [active(2), succeeded(2)]]
    (result,) = run(ControlHubStartJobsOperator, **arguments)
    assert (result["run_count"], result["outcome"]) == (2, "SUCCEEDED")
    assert hub.asked("startJobs") == []


def test_later_run_of_another_user_is_not_claimed(http, run, connection, monkeypatch):
    """The second batch is refused; meanwhile the run of the first has ended, and another caller has started its job."""
    connection["extra"] = {"bulk_size": 1}
    monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", json.dumps(connection))
    hub = MultiJobHub(http, a=[None], b=[None])
    others = active(2, user="another-user@org")
    hub.after_start = {"a": [active(), others], "b": [succeeded(2)]}
    hub.history["a"] = [others, succeeded()]

    def start(request, answer):
        if request.json() == ["a:org"]:
            return hub._recorded("startJobs", hub._start)(request, answer)
        hub.latest["b:org"] = hub._status("b", succeeded())
        restore_start(http, hub)
        answer.status_code = 400
        return REJECTION_OF_A

    http.post(START, json=start)
    results = run(ControlHubStartJobsOperator, **A_AND_B, deferrable=False)
    assert [(r["job_name"], r["run_count"], r["outcome"]) for r in results] == [
        ("a", 1, "SUCCEEDED"),
        ("b", 2, "SUCCEEDED"),
    ]


def test_kill_before_start_request_claims_nothing(http, run, context, clock):
    """Another task with the same credential starts the job while this one writes down that it is about to."""
    hub = MultiJobHub(http, a=[None])
    task = ControlHubStartJobsOperator(task_id="task", job_ids=["a:org"], wait_for_completion=False)
    store = context["task_state_store"]
    set_value = store.set

    def killed_while_it_is_recorded(*args, **kwargs):
        hub.latest["a:org"] = hub._status("a", active())
        task.on_kill()
        set_value(*args, **kwargs)

    store.set = killed_while_it_is_recorded
    with pytest.raises(AirflowException, match="killed"):
        task.execute(context)
    store.set = set_value
    context["ti"].try_number += 1
    with pytest.raises(ControlHubJobStateError, match="run 1, started by me@org"):
        run(ControlHubStartJobsOperator, job_ids=["a:org"])
    assert hub.done == []


@pytest.mark.parametrize(
    "script", [[succeeded()], [deactivating(), deactivating(), succeeded()]], ids=["stopped", "stopping"]
)
def test_clear_during_start_without_wait_starts_new_run_for_stopped_one(http, run, lost, clock, script):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()], "b": [active()]}
    arguments = {**A_AND_B, "wait_for_completion": False}
    lost(http, START, hub._recorded("startJobs", hub._start), ControlHubStartJobsOperator, **arguments)
    restore_start(http, hub)
    hub.add("a", script)
    hub.after_start = {"a": [active(2)]}
    hub.mark_stopped_by("me@org", "a")
    results = run(ControlHubStartJobsOperator, **arguments)
    assert [result["run_count"] for result in results] == [2, 1]


@MODES
@pytest.mark.parametrize("on_timeout", ["stop", "leave"])
def test_timeout_before_start_applies_to_kept_runs(http, run, lost, deferrable, on_timeout):
    """The next try keeps run 1 of job a, and waits in vain until another caller's run of job b has ended."""
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()]}
    hub.unstartable = {"b"}
    arguments = {**A_AND_B, "deferrable": deferrable, "if_running": "wait_then_start", "wait_timeout": 300}
    arguments["on_timeout"] = on_timeout
    lost(http, START, hub._recorded("startJobs", hub._start), ControlHubStartJobsOperator, **arguments)
    restore_start(http, hub)
    hub.latest["b:org"] = hub._status("b", active(user="another-user@org"))
    with pytest.raises(ControlHubRunTimeoutError, match="before starting its own"):
        run(ControlHubStartJobsOperator, **arguments)
    assert hub.asked("stopJobs") == ([["a"]] if on_timeout == "stop" else [])


def test_last_try_stops_started_and_unanswered_runs(http, run, connection, monkeypatch, context):
    """The answer to the second batch is lost, and its status cannot be read until the task fails."""
    connection["extra"] = {"bulk_size": 1}
    monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", json.dumps(connection))
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()], "b": [active()]}
    begin = hub._recorded("startJobs", hub._start)

    def start(request, answer):
        begin(request, answer)
        if request.json() == ["b:org"]:
            hub.bad["b:org"] = 403
            raise requests.exceptions.ConnectionError("connection reset")
        return {}

    http.post(START, json=start)
    # One of job a, and those of job b in 120 seconds.
    polls = iter(range(1 + 61))
    hub.on_poll = lambda: hub.bad.clear() if next(polls, None) is None else None
    context["ti"].max_tries = 0
    with pytest.raises(ControlHubBulkError, match=r"Could not determine whether these jobs were started: 'b'"):
        run(ControlHubStartJobsOperator, **A_AND_B, deferrable=False)
    assert hub.asked("stopJobs") == [["a"], ["b"]]


def test_last_try_stops_unanswered_start_after_lost_try(http, run, context):
    """The start comes in a later leg, after the wait for the run of another caller."""
    hub = MultiJobHub(http, a=[None])
    context["ti"].max_tries = 1
    hub.after_start = {"a": [active()]}
    arguments = {"job_ids": ["a:org"], "wait_for_completion": True, "if_running": "wait_then_start"}

    def lose_second_poll():
        if len(hub.polls) == 1:
            raise LostError

    hub.on_poll = lose_second_poll
    with pytest.raises(LostError):
        run(ControlHubStartJobsOperator, **arguments, deferrable=False)
    others = {"user": "another-user@org"}
    hub.history["a"] = [active(2, **others), failed()]
    hub.latest["a:org"] = hub._status("a", active(2, **others))
    hub.scripts["a:org"] = [hub._status("a", status) for status in (active(2, **others), succeeded(2, **others))]
    hub.after_start = {"a": [active(3)]}
    # Those of job a in 120 seconds.
    polls = iter(range(61))

    def start(request, answer):
        hub._recorded("startJobs", hub._start)(request, answer)
        hub.bad["a:org"] = 403
        hub.on_poll = lambda: hub.bad.clear() if next(polls, None) is None else None
        raise requests.exceptions.ConnectionError("connection reset")

    hub.on_poll = lambda: None
    http.post(START, json=start)
    with pytest.raises(ControlHubError, match="Could not determine"):
        run(ControlHubStartJobsOperator, **arguments, deferrable=True)
    assert hub.asked("stopJobs") == [["a"]]


# Last tries that fail before they resume the runs of an earlier try


@pytest.mark.parametrize("on_error", ["stop", "leave"])
@pytest.mark.parametrize("failure", ["missing job", "forbidden", "template"])
def test_last_try_stops_recorded_runs(http, run, lost, context, failure, on_error):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()], "b": [active()]}
    arguments = {**A_AND_B, "deferrable": False, "on_error": on_error}
    lost(http, START, hub._recorded("startJobs", hub._start), ControlHubStartJobsOperator, **arguments)
    restore_start(http, hub)
    context["ti"].max_tries = 1
    if failure == "missing job":
        arguments["job_ids"] = ["a:org", "b:org", "c:org"]
    elif failure == "forbidden":
        http.post(f"{HUB}/jobrunner/rest/v1/jobs", status_code=403, json=REJECTION_OF_A)
    if failure == "template":
        task = ControlHubStartJobsOperator(task_id="task", **{**arguments, "job_ids": ["{{ 1 / 0 }}"]})
        with pytest.raises(ZeroDivisionError):
            task.render_template_fields(context)
    else:
        with pytest.raises(ControlHubError):
            run(ControlHubStartJobsOperator, **arguments)
    assert hub.asked("stopJobs") == ([["a", "b"]] if on_error == "stop" else [])


# Retries that select other jobs than the lost try


def let_search_find(http, hub, names):
    jobs = [hub.job(job_id(name)) for name in names]
    http.get(f"{HUB}/jobrunner/rest/v1/saql/jobs/search", json={"totalCount": len(jobs), "data": jobs})


@MODES
@pytest.mark.parametrize("other", ["", "c"], ids=["none", "another job"])
def test_retry_waits_for_runs_of_jobs_search_no_longer_finds(http, run, lost, context, deferrable, other):
    hub = MultiJobHub(http, a=[None], b=[None], c=[None])
    hub.after_start = {name: [active(), active(), succeeded()] for name in "abc"}
    arguments = {"search": 'status=="INACTIVE"', "deferrable": deferrable}
    let_search_find(http, hub, "ab")
    lost(http, START, hub._recorded("startJobs", hub._start), ControlHubStartJobsOperator, **arguments)
    restore_start(http, hub)
    let_search_find(http, hub, other)
    results = run(ControlHubStartJobsOperator, **arguments)
    assert [(r["job_name"], r["run_count"], r["outcome"]) for r in results] == [
        (name, 1, "SUCCEEDED") for name in f"{other}ab"
    ]
    assert hub.asked("startJobs") == [["a", "b"], *([[other]] if other else [])]
    assert context["ti"].xcoms["job_ids"] == [job_id(name) for name in f"{other}ab"]


@MODES
def test_retry_stops_runs_of_jobs_no_longer_given(http, run, lost, deferrable, task_log):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active(), active(), succeeded()], "b": [active()]}
    hub.after_stop = {"b": [succeeded()]}
    arguments = {**A_AND_B, "deferrable": deferrable}
    lost(http, START, hub._recorded("startJobs", hub._start), ControlHubStartJobsOperator, **arguments)
    restore_start(http, hub)
    results = run(ControlHubStartJobsOperator, **{**arguments, "job_ids": ["a:org"]})
    assert [(r["job_name"], r["run_count"]) for r in results] == [("a", 1)]
    assert hub.done == [("startJobs", ["a", "b"]), ("stopJobs", ["b"])]
    assert "no longer selects" in task_log()


def test_killed_trigger_stops_kept_runs_while_others_are_awaited(http, run, lost, context):
    """The next try keeps run 1 of job a, and waits for another caller's run of job b."""
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()]}
    hub.unstartable = {"b"}
    arguments = {**A_AND_B, "deferrable": True, "if_running": "wait_then_start"}
    lost(http, START, hub._recorded("startJobs", hub._start), ControlHubStartJobsOperator, **arguments)
    hub.latest["b:org"] = hub._status("b", active(user="another-user@org"))
    with pytest.raises(TaskDeferred) as deferred:
        ControlHubStartJobsOperator(task_id="task", **arguments).execute(context)
    _, stored = deferred.value.trigger.serialize()
    trigger = type(deferred.value.trigger)(**json.loads(json.dumps(stored)))
    assert trigger.stop_on_kill
    trigger.stop(ControlHubHook().get_conn())
    assert hub.asked("stopJobs") == [["a"]]


@MODES
@pytest.mark.parametrize("on_timeout", ["stop", "leave"])
def test_timeout_while_stopping_applies_to_kept_runs(http, run, lost, context, deferrable, on_timeout):
    """The next try keeps run 1 of job a, and waits in vain for the stop of that of job b."""
    context["ti"].max_tries = 1
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()], "b": [active()]}
    arguments = {**A_AND_B, "deferrable": deferrable, "wait_timeout": 300, "on_timeout": on_timeout}
    lost(http, START, hub._recorded("startJobs", hub._start), ControlHubStartJobsOperator, **arguments)
    restore_start(http, hub)
    hub.show("b", deactivating)
    hub.mark_stopped_by(ME, "b")
    with pytest.raises(ControlHubRunTimeoutError):
        run(ControlHubStartJobsOperator, **arguments)
    stopped = [name for names in hub.asked("stopJobs") for name in names]
    assert ("a" in stopped) == (on_timeout == "stop")


@pytest.mark.parametrize("value", ["{{ 1 / 0 }}", "soon"])
def test_last_try_with_invalid_force_stop_after_stops_recorded_runs(http, run, lost, context, value):
    hub = MultiJobHub(http, a=[None], b=[None])
    hub.after_start = {"a": [active()], "b": [active()]}
    lost(http, START, hub._recorded("startJobs", hub._start), ControlHubStartJobsOperator, **A_AND_B)
    restore_start(http, hub)
    context["ti"].max_tries = 1
    task = ControlHubStartJobsOperator(task_id="task", **A_AND_B, force_stop_after="{{ x }}")
    if value == "soon":
        task.force_stop_after = value
        with pytest.raises(ValueError, match="'force_stop_after' must be a number"):
            task.execute(context)
    else:
        task.job_ids = [value]
        with pytest.raises(ZeroDivisionError):
            task.render_template_fields(context)
    assert hub.asked("stopJobs") == [["a", "b"]]


# Instances of a template

TWO = {"job_id": TEMPLATE_ID, "number_of_instances": 2}


def restore_template(http, hub):
    http.post(CREATE, json=hub._create)


@MODES
def test_retry_resumes_instances_of_lost_try(http, run, lost, deferrable):
    hub = MultiJobHub(http)
    hub.instance_scripts = [[active(), active(), succeeded()], [active(), succeeded()]]
    lost(http, CREATE, hub._create, ControlHubRunJobTemplateOperator, **TWO, deferrable=deferrable)
    restore_template(http, hub)
    result = run(ControlHubRunJobTemplateOperator, **TWO, deferrable=deferrable)
    assert [instance["outcome"] for instance in result["instances"]] == ["SUCCEEDED"] * 2
    assert len(hub.created) == 1


@MODES
def test_retry_starts_instances_lost_try_did_not(http, run, lost, deferrable):
    hub = MultiJobHub(http)
    lost(http, CREATE, None, ControlHubRunJobTemplateOperator, **TWO, deferrable=deferrable)
    restore_template(http, hub)
    run(ControlHubRunJobTemplateOperator, **TWO, deferrable=deferrable)
    assert len(hub.created) == 1


@pytest.mark.parametrize("foreign", [{"user": "another-user@org"}, {"jobInstanceIds": []}])
def test_foreign_instances_are_not_claimed(http, run, lost, foreign):
    hub = MultiJobHub(http)
    lost(http, CREATE, hub._create, ControlHubRunJobTemplateOperator, **TWO, deferrable=False)
    hub.starts[-1].update(foreign)
    restore_template(http, hub)
    run(ControlHubRunJobTemplateOperator, **TWO, deferrable=False)
    assert len(hub.created) == 2


@MODES
@pytest.mark.parametrize(
    ("retry", "instances"),
    [("failed", ["instance-3:org", "instance-2:org"]), ("all", ["instance-3:org", "instance-4:org"])],
)
def test_retry_after_lost_try_replaces_failed_instances(http, run, lost, deferrable, retry, instances):
    hub = MultiJobHub(http)
    hub.instance_scripts = [[failed()], [succeeded()]]
    arguments = {**TWO, "retry": retry, "deferrable": deferrable}
    lost(http, CREATE, hub._create, ControlHubRunJobTemplateOperator, **arguments)
    for name, status in (("instance-1", failed()), ("instance-2", succeeded())):
        hub.latest[job_id(name)] = hub._status(name, status)
    restore_template(http, hub)
    result = run(ControlHubRunJobTemplateOperator, **arguments)
    assert [instance["job_id"] for instance in result["instances"]] == instances


def test_clear_stops_instances_and_starts_new_ones(http, run, lost, context):
    hub = MultiJobHub(http)
    hub.instance_scripts = [[active()], [active()]]
    lost(http, CREATE, hub._create, ControlHubRunJobTemplateOperator, **TWO, deferrable=False)
    for name in ("instance-1", "instance-2"):
        hub.latest[job_id(name)] = hub._status(name, active())
    restore_template(http, hub)
    context["ti"].max_tries = 5
    run(ControlHubRunJobTemplateOperator, **TWO, deferrable=False)
    assert hub.asked("stopJobs") == [["instance-1", "instance-2"]]
    assert len(hub.created) == 2


def test_retry_after_success_does_not_recreate_deleted_instances(http, run):
    """Airflow has not noted the success, and so tries again."""
    hub = MultiJobHub(http)
    first = run(ControlHubRunJobTemplateOperator, **TWO, deferrable=False, delete_after_completion=True)
    assert hub.asked("deleteJobs") == [["instance-1", "instance-2"]]
    assert run(ControlHubRunJobTemplateOperator, **TWO, deferrable=False, delete_after_completion=True) == first
    assert len(hub.created) == 1


def test_kill_stops_instances_and_retry_starts_new_ones(http, clock, context, run, monkeypatch):
    hub = MultiJobHub(http)
    hub.instance_scripts = [[active()], [active()]]
    task = ControlHubRunJobTemplateOperator(task_id="task", **TWO, deferrable=False)
    monkeypatch.setattr("time.sleep", lambda seconds: task.on_kill())
    with pytest.raises(AirflowException, match="was killed while it waited"):
        task.execute(context)
    assert hub.asked("stopJobs") == [["instance-1", "instance-2"]]
    monkeypatch.setattr("time.sleep", clock.sleep)
    context["ti"].try_number = 2
    for name in ("instance-1", "instance-2"):
        hub.latest[job_id(name)], hub.scripts[job_id(name)] = hub._status(name, succeeded()), []
    run(ControlHubRunJobTemplateOperator, **TWO, deferrable=False)
    assert len(hub.created) == 2


@pytest.mark.parametrize(("retries", "stopped"), [(0, [["instance-1", "instance-2"]]), (3, [])])
def test_only_last_try_stops_instances_after_error(http, clock, context, retries, stopped):
    hub = MultiJobHub(http)
    hub.instance_scripts = [[active()], [active()]]
    context["ti"].max_tries = retries
    with pytest.raises(TaskDeferred):
        ControlHubRunJobTemplateOperator(task_id="task", **TWO, deferrable=True).execute(context)
    event = {
        "runs": [["instance-1:org", 1], ["instance-2:org", 1]],
        "reason": "ended",
        "error": {"type": "ControlHubPermissionError", "message": "no"},
    }
    task = ControlHubRunJobTemplateOperator(task_id="task", **TWO, deferrable=True)
    with pytest.raises(ControlHubError, match="no"):
        task.resume_execution("execute_complete", {"event": event}, context)
    assert hub.asked("stopJobs") == stopped


# The order of what a task returns


@MODES
@pytest.mark.parametrize("wait", [True, False])
def test_results_keep_job_order_on_every_try(http, run, context, deferrable, wait):
    names = ["d", "a", "c", "b"]
    # Of the four, b is joined, and a fails at first.
    joined = [active(7), active(7), active(7), succeeded(7)] if wait else [active(7)]
    hub = MultiJobHub(http, a=[None], b=joined, c=[None], d=[None])
    hub.after_start = {"a": [active(), failed()], "c": [active(), active(), succeeded()], "d": [succeeded()]}
    arguments = {"job_ids": [f"{name}:org" for name in names], "if_running": "join", "wait_for_completion": wait}
    if wait:
        arguments.update(deferrable=deferrable)
        with pytest.raises(ControlHubRunFailedError):
            run(ControlHubStartJobsOperator, **arguments)
        assert [result["job_name"] for result in context["ti"].xcoms["results"]] == names
        hub.after_start = {"a": [active(2), succeeded(2)]}
    results = run(ControlHubStartJobsOperator, **arguments)
    assert [result["job_name"] for result in results] == names
    assert list(context["ti"].xcoms["run_counts"]) == arguments["job_ids"] == context["ti"].xcoms["job_ids"]


@MODES
def test_stop_returns_jobs_in_given_order(http, run, context, deferrable):
    names = ["d", "a", "c"]
    hub = MultiJobHub(http, **{name: [active(1)] for name in sorted(names)})
    hub.after_stop = {name: [succeeded(1)] for name in names}
    results = run(ControlHubStopJobsOperator, job_ids=[f"{name}:org" for name in names], deferrable=deferrable)
    assert [result["job_name"] for result in results] == names
