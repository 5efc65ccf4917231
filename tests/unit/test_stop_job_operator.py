from __future__ import annotations

import pytest
import requests_mock
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_streamsets.control_hub import ControlHubRunFailedError, ControlHubRunTimeoutError
from airflow_provider_streamsets.operators.runs import ControlHubStopJobOperator
from tests.unit.scripted_hub import JOB_ID, ScriptedHub, counts_json, event_json, run_json, succeeded

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture
def http():
    with requests_mock.Mocker() as mocker:
        yield mocker


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
        operator(timeout=60).execute(context)
    assert hub.stops == ["stop"]


def test_deferred_it_waits_for_the_run_it_stopped_and_a_kill_stops_nothing_more(http, context):
    ScriptedHub(http, latest=run_json(4))
    with pytest.raises(TaskDeferred) as deferred:
        operator(deferrable=True).execute(context)
    arguments = deferred.value.trigger.serialize()[1]
    assert (arguments["run_count"], arguments["stop_on_kill"]) == (4, False)
