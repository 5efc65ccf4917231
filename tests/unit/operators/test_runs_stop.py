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
from tests.unit.fakes.multi_job_hub import MultiJobHub, active, deactivating
from tests.unit.fakes.single_job_hub import JOB_ID, T0, SingleJobHub, counts_json, event_json, run_json, succeeded
from tests.unit.fakes.task_runner import TaskRunner, patch_clock

pytestmark = pytest.mark.usefixtures("connection")


def operator(**arguments):
    arguments.setdefault("deferrable", False)
    return ControlHubStopJobOperator(task_id="stop", job_id=JOB_ID, **arguments)


STOPPED = [event_json(30, "DEACTIVATING", "Job stopped", "me@org")]


def test_stops_run_and_waits_for_end(http, context, sleep_calls):
    hub = SingleJobHub(
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


def test_force_sends_force_stop(http, context, sleep_calls):
    hub = SingleJobHub(http, latest=run_json(4), script=[succeeded(4)], events=STOPPED, counts=counts_json(4))
    operator(force=True).execute(context)
    assert hub.stops == ["force"]


def test_without_wait_returns_after_stop_request(http, context):
    hub = SingleJobHub(http, latest=run_json(4))
    assert operator(wait_for_completion=False).execute(context)["status"] == "ACTIVE"
    assert hub.stops == ["stop"]
    assert hub.polls == 0


def test_inactive_job_counts_as_stopped(http, context):
    hub = SingleJobHub(http, latest=succeeded(4))
    assert operator().execute(context)["run_count"] == 4
    assert hub.stops == []


def test_job_without_runs_counts_as_stopped(http, context):
    hub = SingleJobHub(http, latest=None)
    result = operator().execute(context)
    assert (result["run_count"], result["status"]) == (0, None)
    assert hub.stops == []


def test_error_during_stop_fails_task(http, context, sleep_calls):
    SingleJobHub(http, latest=run_json(4), script=[run_json(4, "INACTIVE_ERROR", "RED")], counts=counts_json(4))
    with pytest.raises(ControlHubRunFailedError, match="INACTIVE_ERROR"):
        operator().execute(context)


def test_stop_timeout_fails_task(http, context, sleep_calls):
    hub = SingleJobHub(http, latest=run_json(4, "DEACTIVATING"))
    with pytest.raises(ControlHubRunTimeoutError, match="Last status: DEACTIVATING"):
        operator(wait_timeout=60).execute(context)
    assert hub.stops == ["stop"]


def test_trigger_waits_for_run_without_stop_on_kill(http, context):
    SingleJobHub(http, latest=run_json(4))
    with pytest.raises(TaskDeferred) as deferred:
        operator(deferrable=True).execute(context)
    path, arguments = deferred.value.trigger.serialize()
    assert path == "airflow_provider_streamsets.triggers.runs.ControlHubRunsTrigger"
    assert arguments["runs"] == [[JOB_ID, 4, "run-4:org", T0 / 1000 + 400, "Orders"]]
    assert arguments["stop_on_kill"] is False


@pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])
def test_forces_stop_after_delay(http, context, monkeypatch, deferrable):
    clock = patch_clock(monkeypatch)
    hub = MultiJobHub(http, a=[active(4)])
    hub.after_stop = {"a": [deactivating(4)]}
    hub.after_force = {"a": [deactivating(4), succeeded(4)]}
    hub.saves("a", 4)
    arguments = {"job_id": "a:org", "force_stop_after": 90, "deferrable": deferrable}
    result = TaskRunner(clock, lambda: ControlHubStopJobOperator(task_id="stop", **arguments), context).run()
    assert (result["job_name"], result["run_count"], result["outcome"]) == ("a", 4, "SUCCEEDED")
    assert hub.done == [("stop", ["a"]), ("forceStopJobs", ["a"])]


def test_sync_and_deferred_results_match(http, context, monkeypatch):
    clock = patch_clock(monkeypatch)

    def result(deferrable):
        hub = MultiJobHub(http, a=[active(4)])
        hub.after_stop = {"a": [deactivating(4), succeeded(4)]}
        hub.saves("a", 4)
        arguments = {"job_id": "a:org", "deferrable": deferrable}
        return TaskRunner(clock, lambda: ControlHubStopJobOperator(task_id="stop", **arguments), context).run()

    assert result(deferrable=True) == result(deferrable=False)


@pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])
def test_job_deleted_during_stop_raises_run_lost(http, context, monkeypatch, deferrable):
    clock = patch_clock(monkeypatch)
    hub = MultiJobHub(http, a=[active()])
    hub.on_poll = lambda: hub.latest.clear()
    arguments = {"job_id": "a:org", "deferrable": deferrable}
    with pytest.raises(ControlHubRunLostError, match="the job does not exist any more"):
        TaskRunner(clock, lambda: ControlHubStopJobOperator(task_id="stop", **arguments), context).run()


@pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])
def test_job_no_longer_readable_raises_permission_error(http, context, monkeypatch, deferrable):
    clock = patch_clock(monkeypatch)
    hub = MultiJobHub(http, a=[active()])
    hub.bad["a:org"] = 403
    arguments = {"job_id": "a:org", "deferrable": deferrable}
    with pytest.raises(ControlHubPermissionError):
        TaskRunner(clock, lambda: ControlHubStopJobOperator(task_id="stop", **arguments), context).run()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"force": "perhaps"}, "'force' must be true or false"),
        ({"force_stop_after": 0}, "'force_stop_after' must be a number of seconds above 0"),
        ({"job_name": "b"}, "got 'job_id' and 'job_name'"),
    ],
)
def test_rejects_invalid_arguments_at_parse(arguments, message):
    with pytest.raises(ValueError, match=message):
        operator(**arguments)


def test_renders_template_fields():
    names = ("force", "force_stop_after", "wait_for_completion", "poll_interval", "wait_timeout", "metrics_timeout")
    task = operator(**dict.fromkeys(names, "{{ x }}"))
    task.render_template_fields({"x": "1"})
    assert {name: getattr(task, name) for name in names} == dict.fromkeys(names, "1")


def test_rejects_invalid_rendered_values_before_requests(http, context):
    task = operator(force_stop_after="{{ 'soon' }}")
    task.render_template_fields(dict(context))
    with pytest.raises(ValueError, match="'force_stop_after' must be a number"):
        task.execute(context)
    assert not http.request_history
