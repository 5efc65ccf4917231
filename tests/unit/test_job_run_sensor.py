from __future__ import annotations

import sys
from datetime import timedelta

import pytest
import requests
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    TaskDeferred,
)

from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubError,
    ControlHubNotFoundError,
    ControlHubRunFailedError,
    ControlHubRunTimeoutError,
    ControlHubUnavailableError,
)
from airflow_provider_streamsets.control_hub.models import JobRun
from airflow_provider_streamsets.control_hub.tracking.report import RunReport
from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor
from airflow_provider_streamsets.triggers.events import RunWaitEvent
from tests.unit.conftest import TaskInstance
from tests.unit.living_hub import LivingHub
from tests.unit.resuming import Legs, patched_clock
from tests.unit.scripted_hub import HUB, JOB_ID, JOB_NAME, ScriptedHub, event_json, failed, run_json, succeeded

pytestmark = pytest.mark.usefixtures("connection")

Rescheduled = "AirflowRescheduleException"


@pytest.fixture(autouse=True)
def no_database(monkeypatch):
    """Airflow 2 asks its database when a rescheduled sensor has first looked; Airflow 3 the task instance."""
    base = sys.modules[BaseSensorOperator.__module__]
    if hasattr(base, "_orig_start_date"):
        monkeypatch.setattr(base, "_orig_start_date", lambda **_: None)
        monkeypatch.setattr(base, "_is_metadatabase_mysql", lambda: False)


def sensor(**arguments):
    arguments.setdefault("deferrable", False)
    return ControlHubJobRunSensor(task_id="wait", job_id=JOB_ID, **arguments)


def reschedule_until_done(context, **arguments):
    """Run a rescheduled sensor as Airflow does: a new process, and so a new task object, for each poke."""
    for _ in range(20):
        try:
            return sensor(mode="reschedule", **arguments).execute(context)
        except Exception as error:
            if type(error).__name__ != Rescheduled:
                raise
    raise AssertionError("the sensor does not come to an end")


def complete(task, context, run, outcome_events=(), error=None):
    """Resume a deferred sensor with what its trigger would say."""
    if error is None:
        report = RunReport.build(
            job_id=JOB_ID, job_name=JOB_NAME, run=JobRun.from_wire(run), events=list(outcome_events)
        )
        event = RunWaitEvent(JOB_ID, run["runCount"], report=report)
    else:
        event = RunWaitEvent(JOB_ID, 4, error=error)
    return task.execute_complete(context, event.to_payload())


def wait_in(mode, http, context, script, **arguments):
    """Wait with the same script in one of the three modes, and return the result or raise."""
    hub = ScriptedHub(http, latest=run_json(4), script=script)
    if mode == "poke":
        return sensor(**arguments).execute(context)
    if mode == "reschedule":
        return reschedule_until_done(context, **arguments)
    task = sensor(**{**arguments, "deferrable": True})
    with pytest.raises(TaskDeferred):
        task.execute(context)
    return complete(task, context, hub.script[-1])


MODES = pytest.mark.parametrize("mode", ["poke", "reschedule", "deferrable"])


@MODES
def test_the_result_is_the_same_in_every_mode(mode, http, context, pauses):
    result = wait_in(mode, http, context, [run_json(4), succeeded(4)])
    assert (result["job_id"], result["run_count"], result["outcome"]) == (JOB_ID, 4, "SUCCEEDED")
    assert set(context["ti"].xcoms) == {"job_id", "run_count", "streamsets_job_link"}


@pytest.mark.parametrize(
    ("latest", "arguments"),
    [
        (succeeded(4), {}),
        (succeeded(5), {"run_count": 4}),
        (run_json(4), {"wait_for": "active"}),
    ],
    ids=["latest", "earlier", "active"],
)
def test_deferrable_sensor_does_not_defer_for_a_run_that_is_over(latest, arguments, http, context):
    hub = ScriptedHub(http, latest=latest)
    hub.history = [latest, succeeded(4)]
    assert sensor(deferrable=True, **arguments).execute(context)["run_count"] == 4
    assert context["ti"].xcoms["run_count"] == 4


def test_deferrable_sensor_sends_no_more_than_before_for_a_run_that_goes_on(http, context):
    hub = ScriptedHub(http, latest=run_json(4))
    with pytest.raises(TaskDeferred):
        sensor(deferrable=True).execute(context)
    assert hub.looks == 0


@pytest.mark.parametrize("never_fail", [False, True])
def test_failed_run_that_is_over_ends_a_deferrable_sensor_at_once(never_fail, http, context):
    ScriptedHub(http, latest=failed(4))
    with pytest.raises(AirflowSkipException if never_fail else ControlHubRunFailedError, match="JDBC_00"):
        sensor(deferrable=True, never_fail=never_fail).execute(context)
    assert context["ti"].xcoms["result"]["outcome"] == "FAILED"


@pytest.mark.parametrize(
    "answer", [{"status_code": 503}, {"status_code": 401}, {"exc": requests.exceptions.ReadTimeout}]
)
def test_first_poll_that_fails_is_left_to_the_triggerer(answer, http, context, pauses):
    ScriptedHub(http, latest=succeeded(4))
    http.post(f"{HUB}/jobrunner/rest/v1/jobs/status", **answer)
    with pytest.raises(TaskDeferred):
        sensor(deferrable=True).execute(context)
    assert sum(pauses) <= 60


@MODES
def test_a_failed_run_fails_the_sensor_in_every_mode(mode, http, context, pauses):
    with pytest.raises(ControlHubRunFailedError, match=r"has failed .*JDBC_00"):
        wait_in(mode, http, context, [run_json(4), failed(4)])


@MODES
@pytest.mark.parametrize("kindness", [{"soft_fail": True}, {"never_fail": True}])
def test_a_failed_run_can_skip_the_sensor_in_every_mode(mode, kindness, http, context, pauses):
    with pytest.raises(AirflowSkipException, match=r"has failed .*JDBC_00"):
        wait_in(mode, http, context, [run_json(4), failed(4)], **kindness)


def test_a_run_that_a_person_stopped_fails_the_sensor_unless_that_is_accepted(http, context, pauses):
    events = [event_json(30, "DEACTIVATING", "Job stopped", "somebody@org")]
    ScriptedHub(http, latest=succeeded(4), events=events)
    with pytest.raises(ControlHubRunFailedError, match="was stopped by user somebody@org"):
        sensor().execute(context)
    assert sensor(accept_stopped=True).execute(context)["outcome"] == "STOPPED"


def test_the_timeout_fails_the_sensor_in_poke_mode(http, context, pauses):
    ScriptedHub(http, latest=run_json(4))
    for arguments, error in [
        ({}, AirflowSensorTimeout),
        ({"soft_fail": True}, AirflowSkipException),
        ({"never_fail": True}, AirflowSkipException),
    ]:
        with pytest.raises(error, match=r"Run 4 .* has not ended within 100 s\. It was last seen ACTIVE/GREEN"):
            sensor(timeout=100, **arguments).execute(context)


def test_the_timeout_fails_the_sensor_when_deferred(context):
    timed_out = ControlHubRunTimeoutError("Run 4 has not ended within 100 s.")
    with pytest.raises(AirflowSensorTimeout, match="100 s"):
        complete(sensor(deferrable=True), context, None, error=timed_out)
    with pytest.raises(AirflowSkipException, match="100 s"):
        complete(sensor(deferrable=True, soft_fail=True), context, None, error=timed_out)


def test_the_timeout_and_the_execution_timeout_travel_with_the_trigger(http, context, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 5000.0)
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    ScriptedHub(http, latest=run_json(4))
    for limits, expected in [
        ({"timeout": 100}, 100.0),
        ({"timeout": 100, "execution_timeout": timedelta(seconds=40)}, 40.0),
    ]:
        with pytest.raises(TaskDeferred) as deferred:
            sensor(deferrable=True, poke_interval=7, **limits).execute(context)
        arguments = deferred.value.trigger.serialize()[1]
        assert (arguments["timeout"], arguments["deadline"]) == (expected, 5000.0 + expected)
        assert (arguments["poll_interval"], arguments["stop_on_kill"]) == (7.0, False)


@MODES
def test_without_a_run_count_it_waits_for_the_run_that_is_the_latest_at_its_first_look(mode, http, context, pauses):
    hub = ScriptedHub(http, latest=run_json(4), script=[run_json(4), run_json(5), run_json(5)])
    hub.history = [run_json(5), failed(4)]
    if mode == "deferrable":
        with pytest.raises(TaskDeferred) as deferred:
            sensor(deferrable=True).execute(context)
        assert deferred.value.trigger.serialize()[1]["run_count"] == 4
        return
    with pytest.raises(ControlHubRunFailedError, match="Run 4 "):
        sensor().execute(context) if mode == "poke" else reschedule_until_done(context)


def test_for_a_job_that_has_never_run_it_waits_for_the_first_run(http, context, pauses):
    ScriptedHub(http, latest=None, script=[None, run_json(1), succeeded(1)])
    assert sensor().execute(context)["run_count"] == 1


def test_a_given_run_count_may_come_from_a_template(http, context, pauses):
    hub = ScriptedHub(http, latest=run_json(5))
    hub.history = [run_json(5), succeeded(4)]
    task = sensor(run_count="{{ 2 + 2 }}")
    task.render_template_fields(dict(context))
    assert task.execute(context)["run_count"] == 4


@pytest.mark.parametrize(
    ("latest", "has"), [(succeeded(4), r"its latest run is 4 \(INACTIVE/GRAY\)"), (None, "it has never run")]
)
@MODES
def test_run_that_the_job_has_not_reached_is_logged_once_and_named_in_the_timeout(
    mode, latest, has, http, context, monkeypatch, caplog, capsys
):
    clock = patched_clock(monkeypatch)
    ScriptedHub(http, latest=latest)
    arguments = {"run_count": 99, "poke_interval": 10, "timeout": 100}
    if mode == "deferrable":
        arguments["deferrable"] = True
    if mode == "reschedule":
        arguments["mode"] = mode
        with pytest.raises(Exception, check=lambda error: type(error).__name__ == Rescheduled):  # noqa: B017 - another class in each Airflow
            sensor(**arguments).execute(context)
        arguments["timeout"] = 0
    with pytest.raises(AirflowSensorTimeout, match=f"Run 99 .* The job has not reached that run: {has}"):
        Legs(clock, lambda: sensor(**arguments), context).run()
    # Airflow 2 logs to both.
    lines = {text.count("has not reached run 99: ") for text in (caplog.text, capsys.readouterr().out)}
    assert max(lines) == 1


def test_a_retry_of_a_rescheduled_sensor_looks_anew(http, context, pauses):
    ScriptedHub(http, latest=run_json(4))
    for _ in range(2):
        with pytest.raises(Exception, check=lambda error: type(error).__name__ == Rescheduled):  # noqa: B017 - another class in each Airflow
            sensor(mode="reschedule").execute(context)
    retry = {**context, "ti": TaskInstance()}
    retry["ti"].try_number = 2
    ScriptedHub(http, latest=succeeded(7))
    assert reschedule_until_done(retry)["run_count"] == 7


def test_nothing_is_left_in_the_state_store_when_the_sensor_has_ended(http, context, pauses):
    ScriptedHub(http, latest=run_json(4), script=[run_json(4), succeeded(4)])
    reschedule_until_done(context)
    assert context["task_state_store"].values == {}


def test_a_rescheduled_sensor_also_works_where_airflow_has_no_state_store(http, context, pauses):
    del context["task_state_store"]
    ScriptedHub(http, latest=run_json(4), script=[run_json(4), succeeded(4)])
    assert reschedule_until_done(context)["run_count"] == 4


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_an_outage_after_the_first_look_does_not_end_the_wait(mode, http, context, pauses):
    hub = ScriptedHub(http, latest=run_json(4), script=[succeeded(4)])
    http.post(
        f"{HUB}/jobrunner/rest/v1/jobs/status",
        [{"exc": requests.exceptions.ConnectionError("gone")}] * 11 + [{"json": lambda *_: {JOB_ID: hub._poll()}}],
    )
    result = sensor().execute(context) if mode == "poke" else reschedule_until_done(context)
    assert result["outcome"] == "SUCCEEDED"


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_poll_without_an_answer_does_not_outlast_the_timeout(mode, http, context, pauses):
    ScriptedHub(http, latest=run_json(4))

    def hang(*_):
        pauses.append(60.0)
        raise requests.exceptions.ReadTimeout

    http.post(f"{HUB}/jobrunner/rest/v1/jobs/status", text=hang)
    with pytest.raises(Exception, check=lambda error: type(error).__name__ in {"AirflowSensorTimeout", Rescheduled}):  # noqa: B017 - another class in each Airflow
        sensor(mode=mode, timeout=60, poke_interval=10).execute(context)
    assert sum(pauses) <= 130


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_time_to_find_the_job_counts_for_the_timeout(mode, http, context, pauses, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 5000.0 + sum(pauses))
    hub = ScriptedHub(http, latest=run_json(4))

    def slow(*_):
        pauses.append(50.0)
        return hub.job()

    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}", json=slow)
    if mode == "deferrable":
        with pytest.raises(TaskDeferred) as deferred:
            sensor(deferrable=True, timeout=60).execute(context)
        assert deferred.value.trigger.serialize()[1]["deadline"] == 5060.0
        return
    with pytest.raises(AirflowSensorTimeout):
        sensor(timeout=60, poke_interval=5).execute(context)
    assert sum(pauses) == pytest.approx(60, abs=10)


@MODES
def test_a_control_hub_that_cannot_be_reached_at_the_first_look_is_an_error(mode, http, context, pauses):
    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}", exc=requests.exceptions.ConnectionError("gone"))
    arguments = {"deferrable": True} if mode == "deferrable" else {"mode": mode}
    with pytest.raises(ControlHubUnavailableError, match="no answer from"):
        sensor(**arguments).execute(context)


@MODES
def test_an_unknown_job_is_an_error_at_the_first_look(mode, http, context):
    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}", status_code=404, json={"ISSUES": []})
    arguments = {"deferrable": True} if mode == "deferrable" else {"mode": mode}
    with pytest.raises(ControlHubNotFoundError):
        sensor(**arguments).execute(context)
    with pytest.raises(AirflowSkipException):
        sensor(never_fail=True, **arguments).execute(context)


def test_a_refused_credential_ends_the_wait_in_every_mode(http, context, pauses):
    ScriptedHub(http, latest=run_json(4))
    http.post(f"{HUB}/jobrunner/rest/v1/jobs/status", status_code=401)
    with pytest.raises(ControlHubAuthenticationError):
        sensor().execute(context)
    with pytest.raises(ControlHubAuthenticationError):
        reschedule_until_done(context)
    with pytest.raises(ControlHubAuthenticationError):
        complete(sensor(deferrable=True), context, None, error=ControlHubAuthenticationError("refused"))


def test_soft_fail_does_not_hide_what_is_no_failure_of_the_run(http, context):
    with pytest.raises(ControlHubError, match="refused"):
        complete(sensor(deferrable=True, soft_fail=True), context, None, error=ControlHubAuthenticationError("refused"))
    with pytest.raises(AirflowSkipException, match="refused"):
        complete(
            sensor(deferrable=True, never_fail=True), context, None, error=ControlHubAuthenticationError("refused")
        )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"job_name": "x"}, "given are job_id and job_name"),
        ({"run_count": 0}, "'run_count' must be"),
        ({"run_count": "x"}, "'run_count' must be"),
        ({"poke_interval": -1}, "poke_interval"),
        ({"poke_interval": 0}, "'poke_interval' must be"),
        ({"timeout": -1}, "timeout"),
        ({"mode": "often"}, "mode"),
    ],
)
def test_bad_arguments_are_refused_when_the_dag_is_parsed(arguments, said):
    with pytest.raises(Exception, match=said):
        sensor(**arguments)


@pytest.mark.parametrize(("age", "most"), [(0, 3), (200, 60)])
def test_poke_mode_polls_young_runs_sooner(age, most, http, context, monkeypatch):
    clock = patched_clock(monkeypatch, is_control_hubs=True)
    hub = LivingHub(http, clock)
    hub.lasts = age + 0.3
    hub.start()
    clock.now += age
    began = clock.now
    assert sensor(poke_interval=60).execute(context)["outcome"] == "SUCCEEDED"
    assert clock.now - began <= most
    assert len(clock.slept) == 1


def test_poll_interval_is_an_alias_of_poke_interval():
    assert ControlHubJobRunSensor(task_id="wait", job_id=JOB_ID, poll_interval=45).poke_interval == 45
    assert ControlHubJobRunSensor(task_id="wait", job_id=JOB_ID).poke_interval == 30


def test_poll_interval_beside_poke_interval_is_refused():
    with pytest.raises(ValueError, match="'poll_interval' is an alias of 'poke_interval'"):
        ControlHubJobRunSensor(task_id="wait", job_id=JOB_ID, poke_interval=20, poll_interval=45)


@pytest.mark.parametrize(("own", "expected"), [({}, 20), ({"poll_interval": 45}, 45), ({"poke_interval": 50}, 50)])
def test_own_interval_precedes_default_args(own, expected):
    with DAG("dag", schedule=None, default_args={"poke_interval": 20, "poll_interval": 10}):
        assert ControlHubJobRunSensor(task_id="wait", job_id=JOB_ID, **own).poke_interval == expected
