from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_streamsets.control_hub import (
    ControlHubPermissionError,
    ControlHubRunFailedError,
    ControlHubRunLostError,
    ControlHubRunTimeoutError,
)
from airflow_provider_streamsets.operators.runs import ControlHubStopJobOperator
from tests.unit.resuming import Legs, patched_clock
from tests.unit.scripted_hub import JOB_ID, ScriptedHub, counts_json, event_json, run_json, succeeded
from tests.unit.scripted_runs import ScriptedRuns, active, deactivating

pytestmark = pytest.mark.usefixtures("connection")


def operator(**arguments):
    arguments.setdefault("deferrable", False)
    return ControlHubStopJobOperator(task_id="stop", job_id=JOB_ID, **arguments)


STOPPED = [event_json(30, "DEACTIVATING", "Job stopped", "me@org")]


def test_it_stops_the_run_and_waits_until_it_has_ended(http, context, pauses):
    hub = ScriptedHub(
        http,
        latest=run_json(4),
        script=[run_json(4, "DEACTIVATING"), succeeded(4)],
        events=STOPPED,
        counts=counts_json(4),
    )
    result = operator().execute(context)
    assert (result["run_count"], result["outcome"], result["status"]) == (4, "STOPPED", "INACTIVE")
    assert hub.stops == ["stop"]
    assert set(context["ti"].xcoms) == {"job_id", "run_count", "streamsets_job_link"}


def test_it_can_force_the_stop(http, context, pauses):
    hub = ScriptedHub(http, latest=run_json(4), script=[succeeded(4)], events=STOPPED, counts=counts_json(4))
    operator(force=True).execute(context)
    assert hub.stops == ["force"]


def test_without_waiting_it_returns_as_soon_as_it_has_asked(http, context):
    hub = ScriptedHub(http, latest=run_json(4))
    assert operator(wait_for_completion=False).execute(context)["status"] == "ACTIVE"
    assert hub.stops == ["stop"]
    assert hub.looks == 0


def test_a_job_that_is_not_running_counts_as_stopped(http, context):
    hub = ScriptedHub(http, latest=succeeded(4))
    assert operator().execute(context)["run_count"] == 4
    assert hub.stops == []


def test_a_job_that_has_never_run_counts_as_stopped(http, context):
    hub = ScriptedHub(http, latest=None)
    result = operator().execute(context)
    assert (result["run_count"], result["status"]) == (0, None)
    assert hub.stops == []


def test_a_run_that_ends_with_an_error_while_it_is_stopped_fails_the_task(http, context, pauses):
    ScriptedHub(http, latest=run_json(4), script=[run_json(4, "INACTIVE_ERROR", "RED")], counts=counts_json(4))
    with pytest.raises(ControlHubRunFailedError, match="INACTIVE_ERROR"):
        operator().execute(context)


def test_a_stop_that_takes_too_long_fails_the_task(http, context, pauses):
    hub = ScriptedHub(http, latest=run_json(4, "DEACTIVATING"))
    with pytest.raises(ControlHubRunTimeoutError, match="last seen DEACTIVATING"):
        operator(wait_timeout=60).execute(context)
    assert hub.stops == ["stop"]


def test_deferred_it_waits_for_the_run_it_stopped_and_a_kill_stops_nothing_more(http, context):
    ScriptedHub(http, latest=run_json(4))
    with pytest.raises(TaskDeferred) as deferred:
        operator(deferrable=True).execute(context)
    path, arguments = deferred.value.trigger.serialize()
    assert path == "airflow_provider_streamsets.triggers.run_group.ControlHubJobRunsTrigger"
    assert (arguments["runs"], arguments["stop_on_kill"]) == ([[JOB_ID, 4]], False)


@pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])
def test_a_stop_that_takes_too_long_can_be_forced(http, context, monkeypatch, deferrable):
    clock = patched_clock(monkeypatch)
    hub = ScriptedRuns(http, a=[active(4)])
    hub.after_stop = {"a": [deactivating(4)]}
    hub.after_force = {"a": [deactivating(4), succeeded(4)]}
    hub.saves("a", 4)
    arguments = {"job_id": "a:org", "force_stop_after": 90, "deferrable": deferrable}
    result = Legs(clock, lambda: ControlHubStopJobOperator(task_id="stop", **arguments), context).run()
    assert (result["job_name"], result["run_count"], result["outcome"]) == ("a", 4, "SUCCEEDED")
    assert hub.done == [("stop", ["a"]), ("forceStopJobs", ["a"])]


def test_what_is_waited_for_is_one_run_and_the_result_the_same_when_deferred(http, context, monkeypatch):
    clock = patched_clock(monkeypatch)

    def result(deferrable):
        hub = ScriptedRuns(http, a=[active(4)])
        hub.after_stop = {"a": [deactivating(4), succeeded(4)]}
        hub.saves("a", 4)
        arguments = {"job_id": "a:org", "deferrable": deferrable}
        return Legs(clock, lambda: ControlHubStopJobOperator(task_id="stop", **arguments), context).run()

    assert result(deferrable=True) == result(deferrable=False)


@pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])
def test_a_job_that_is_deleted_while_it_is_stopped_has_no_outcome(http, context, monkeypatch, deferrable):
    clock = patched_clock(monkeypatch)
    hub = ScriptedRuns(http, a=[active()])
    hub.on_look = lambda: hub.latest.clear()
    arguments = {"job_id": "a:org", "deferrable": deferrable}
    with pytest.raises(ControlHubRunLostError, match="the job does not exist any more"):
        Legs(clock, lambda: ControlHubStopJobOperator(task_id="stop", **arguments), context).run()


@pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])
def test_a_job_that_may_not_be_read_any_more_is_refused(http, context, monkeypatch, deferrable):
    clock = patched_clock(monkeypatch)
    hub = ScriptedRuns(http, a=[active()])
    hub.bad["a:org"] = 403
    arguments = {"job_id": "a:org", "deferrable": deferrable}
    with pytest.raises(ControlHubPermissionError):
        Legs(clock, lambda: ControlHubStopJobOperator(task_id="stop", **arguments), context).run()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"force": "perhaps"}, "'force' must be true or false"),
        ({"force_stop_after": 0}, "'force_stop_after' must be a number of seconds above 0"),
        ({"job_name": "b"}, "given are job_id and job_name"),
    ],
)
def test_bad_arguments_are_refused_when_the_dag_is_parsed(arguments, said):
    with pytest.raises(ValueError, match=said):
        operator(**arguments)


def test_every_parameter_that_can_be_computed_is_rendered():
    names = ("force", "force_stop_after", "wait_for_completion", "poll_interval", "wait_timeout", "metrics_timeout")
    task = operator(**dict.fromkeys(names, "{{ x }}"))
    task.render_template_fields({"x": "1"})
    assert {name: getattr(task, name) for name in names} == dict.fromkeys(names, "1")


def test_bad_rendered_values_are_refused_before_anything_is_sent(http, context):
    task = operator(force_stop_after="{{ 'soon' }}")
    task.render_template_fields(dict(context))
    with pytest.raises(ValueError, match="'force_stop_after' must be a number"):
        task.execute(context)
    assert not http.request_history
