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
from airflow_provider_streamsets.control_hub.models import JobRun, RunRef
from airflow_provider_streamsets.control_hub.tracking.report import RunReport
from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor
from airflow_provider_streamsets.triggers.events import RunsWaitEvent
from tests.unit.conftest import TaskInstance
from tests.unit.fakes.simulated_hub import SimulatedHub
from tests.unit.fakes.single_job_hub import HUB, JOB_ID, JOB_NAME, SingleJobHub, event_json, failed, run_json, succeeded
from tests.unit.fakes.task_runner import TaskRunner, patch_clock

pytestmark = pytest.mark.usefixtures("connection")

Rescheduled = "AirflowRescheduleException"


@pytest.fixture(autouse=True)
def no_database(monkeypatch):
    """Airflow 2 reads the first poke of a rescheduled sensor from its database, Airflow 3 from the task instance."""
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
    raise AssertionError("the sensor never ends")


def complete(task, context, run, outcome_events=(), error=None):
    """Resume a deferred sensor with what its trigger would say."""
    if error is None:
        report = RunReport.build(
            job_id=JOB_ID, job_name=JOB_NAME, run=JobRun.from_wire(run), events=list(outcome_events)
        )
        event = RunsWaitEvent((RunRef(JOB_ID, run["runCount"]),), reports={JOB_ID: report})
    else:
        event = RunsWaitEvent((RunRef(JOB_ID, 4),), error=error)
    return task.execute_complete(context, event.to_payload())


def wait_in(mode, http, context, script, **arguments):
    """Wait with the same script in one of the three modes, and return the result or raise."""
    hub = SingleJobHub(http, latest=run_json(4), script=script)
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
def test_result_is_same_in_every_mode(mode, http, context, sleep_calls):
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
def test_finished_run_needs_no_deferral(latest, arguments, http, context):
    hub = SingleJobHub(http, latest=latest)
    hub.history = [latest, succeeded(4)]
    assert sensor(deferrable=True, **arguments).execute(context)["run_count"] == 4
    assert context["ti"].xcoms["run_count"] == 4


def test_deferral_for_active_run_sends_no_extra_poll(http, context):
    hub = SingleJobHub(http, latest=run_json(4))
    with pytest.raises(TaskDeferred):
        sensor(deferrable=True).execute(context)
    assert hub.polls == 0


@pytest.mark.parametrize("never_fail", [False, True])
def test_failed_run_ends_deferrable_sensor_at_once(never_fail, http, context):
    SingleJobHub(http, latest=failed(4))
    with pytest.raises(AirflowSkipException if never_fail else ControlHubRunFailedError, match="JDBC_00"):
        sensor(deferrable=True, never_fail=never_fail).execute(context)
    assert context["ti"].xcoms["result"]["outcome"] == "FAILED"


@pytest.mark.parametrize(
    "answer", [{"status_code": 503}, {"status_code": 401}, {"exc": requests.exceptions.ReadTimeout}]
)
def test_failed_first_poll_is_left_to_triggerer(answer, http, context, sleep_calls):
    SingleJobHub(http, latest=succeeded(4))
    http.post(f"{HUB}/jobrunner/rest/v1/jobs/status", **answer)
    with pytest.raises(TaskDeferred):
        sensor(deferrable=True).execute(context)
    assert sum(sleep_calls) <= 60


@MODES
def test_failed_run_fails_sensor_in_every_mode(mode, http, context, sleep_calls, task_log):
    with pytest.raises(ControlHubRunFailedError, match=r"Run 4 failed: .*JDBC_00"):
        wait_in(mode, http, context, [run_json(4), failed(4)])
    assert "Success criteria met" not in task_log()


@MODES
@pytest.mark.parametrize("kindness", [{"soft_fail": True}, {"never_fail": True}])
def test_failed_run_can_skip_sensor_in_every_mode(mode, kindness, http, context, sleep_calls):
    with pytest.raises(AirflowSkipException, match=r"Run 4 failed: .*JDBC_00"):
        wait_in(mode, http, context, [run_json(4), failed(4)], **kindness)


def test_stopped_run_fails_sensor_unless_accepted(http, context, sleep_calls):
    events = [event_json(30, "DEACTIVATING", "Job stopped", "another-user@org")]
    SingleJobHub(http, latest=succeeded(4), events=events)
    with pytest.raises(ControlHubRunFailedError, match="was stopped by user another-user@org"):
        sensor().execute(context)
    assert sensor(accept_stopped=True).execute(context)["outcome"] == "STOPPED"


def test_timeout_fails_sensor_in_poke_mode(http, context, sleep_calls):
    SingleJobHub(http, latest=run_json(4))
    for arguments, error in [
        ({}, AirflowSensorTimeout),
        ({"soft_fail": True}, AirflowSkipException),
        ({"never_fail": True}, AirflowSkipException),
    ]:
        with pytest.raises(error, match=r"run 4 has not ended within 100 s\. Last status: ACTIVE/GREEN"):
            sensor(timeout=100, **arguments).execute(context)


def test_timeout_fails_deferred_sensor(context):
    timed_out = ControlHubRunTimeoutError("run 4 has not ended within 100 s.")
    with pytest.raises(AirflowSensorTimeout, match="100 s"):
        complete(sensor(deferrable=True), context, None, error=timed_out)
    with pytest.raises(AirflowSkipException, match="100 s"):
        complete(sensor(deferrable=True, soft_fail=True), context, None, error=timed_out)


def test_trigger_carries_timeout_and_execution_timeout(http, context, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 5000.0)
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    SingleJobHub(http, latest=run_json(4))
    for limits, expected in [
        ({"timeout": 100}, 100.0),
        ({"timeout": 100, "execution_timeout": timedelta(seconds=40)}, 40.0),
    ]:
        with pytest.raises(TaskDeferred) as deferred:
            sensor(deferrable=True, poke_interval=7, **limits).execute(context)
        arguments = deferred.value.trigger.serialize()[1]
        assert (arguments["timeout"], arguments["deadline"]) == (expected, 5000.0 + expected)
        assert arguments["poll_interval"] == 7.0


@MODES
def test_default_run_is_latest_at_first_poll(mode, http, context, sleep_calls):
    hub = SingleJobHub(http, latest=run_json(4), script=[run_json(4), run_json(5), run_json(5)])
    hub.history = [run_json(5), failed(4)]
    if mode == "deferrable":
        with pytest.raises(TaskDeferred) as deferred:
            sensor(deferrable=True).execute(context)
        assert deferred.value.trigger.serialize()[1]["run_count"] == 4
        return
    with pytest.raises(ControlHubRunFailedError, match=r"Run 4 "):
        sensor().execute(context) if mode == "poke" else reschedule_until_done(context)


def test_first_run_of_job_is_awaited(http, context, sleep_calls):
    SingleJobHub(http, latest=None, script=[None, run_json(1), succeeded(1)])
    assert sensor().execute(context)["run_count"] == 1


def test_run_count_may_be_template(http, context, sleep_calls):
    hub = SingleJobHub(http, latest=run_json(5))
    hub.history = [run_json(5), succeeded(4)]
    task = sensor(run_count="{{ 2 + 2 }}")
    task.render_template_fields(dict(context))
    assert task.execute(context)["run_count"] == 4


@pytest.mark.parametrize(
    ("latest", "has"), [(succeeded(4), r"its latest run is 4 \(INACTIVE/GRAY\)"), (None, "it has never run")]
)
@MODES
def test_unreached_run_is_logged_once_and_in_timeout(mode, latest, has, http, context, monkeypatch, caplog, capsys):
    clock = patch_clock(monkeypatch)
    SingleJobHub(http, latest=latest)
    arguments = {"run_count": 99, "poke_interval": 10, "timeout": 100}
    if mode == "deferrable":
        arguments["deferrable"] = True
    if mode == "reschedule":
        arguments["mode"] = mode
        with pytest.raises(Exception, check=lambda error: type(error).__name__ == Rescheduled):  # noqa: B017 - another class in each Airflow
            sensor(**arguments).execute(context)
        arguments["timeout"] = 0
    with pytest.raises(AirflowSensorTimeout, match=f"Job .* run 99 .* The job has not reached that run: {has}"):
        TaskRunner(clock, lambda: sensor(**arguments), context).run()
    # Airflow 2 logs to both.
    lines = {text.count("run 99: not started yet (") for text in (caplog.text, capsys.readouterr().out)}
    assert max(lines) == 1


def test_retry_of_rescheduled_sensor_starts_over(http, context, sleep_calls):
    SingleJobHub(http, latest=run_json(4))
    for _ in range(2):
        with pytest.raises(Exception, check=lambda error: type(error).__name__ == Rescheduled):  # noqa: B017 - another class in each Airflow
            sensor(mode="reschedule").execute(context)
    retry = {**context, "ti": TaskInstance()}
    retry["ti"].try_number = 2
    SingleJobHub(http, latest=succeeded(7))
    assert reschedule_until_done(retry)["run_count"] == 7


def test_ended_sensor_leaves_no_stored_state(http, context, sleep_calls):
    SingleJobHub(http, latest=run_json(4), script=[run_json(4), succeeded(4)])
    reschedule_until_done(context)
    assert context["task_state_store"].values == {}


def test_rescheduled_sensor_works_without_state_store(http, context, sleep_calls):
    del context["task_state_store"]
    SingleJobHub(http, latest=run_json(4), script=[run_json(4), succeeded(4)])
    assert reschedule_until_done(context)["run_count"] == 4


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_outage_after_first_poll_does_not_end_wait(mode, http, context, sleep_calls):
    hub = SingleJobHub(http, latest=run_json(4), script=[succeeded(4)])
    http.post(
        f"{HUB}/jobrunner/rest/v1/jobs/status",
        [{"exc": requests.exceptions.ConnectionError("gone")}] * 11 + [{"json": lambda *_: {JOB_ID: hub._poll()}}],
    )
    result = sensor().execute(context) if mode == "poke" else reschedule_until_done(context)
    assert result["outcome"] == "SUCCEEDED"


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_unanswered_poll_does_not_outlast_timeout(mode, http, context, sleep_calls):
    SingleJobHub(http, latest=run_json(4))

    def hang(*_):
        sleep_calls.append(60.0)
        raise requests.exceptions.ReadTimeout

    http.post(f"{HUB}/jobrunner/rest/v1/jobs/status", text=hang)
    with pytest.raises(Exception, check=lambda error: type(error).__name__ in {"AirflowSensorTimeout", Rescheduled}):  # noqa: B017 - another class in each Airflow
        sensor(mode=mode, timeout=60, poke_interval=10).execute(context)
    assert sum(sleep_calls) <= 130


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_job_lookup_counts_towards_timeout(mode, http, context, sleep_calls, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 5000.0 + sum(sleep_calls))
    hub = SingleJobHub(http, latest=run_json(4))

    def slow(*_):
        sleep_calls.append(50.0)
        return hub.job()

    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}", json=slow)
    if mode == "deferrable":
        with pytest.raises(TaskDeferred) as deferred:
            sensor(deferrable=True, timeout=60).execute(context)
        assert deferred.value.trigger.serialize()[1]["deadline"] == 5060.0
        return
    with pytest.raises(AirflowSensorTimeout):
        sensor(timeout=60, poke_interval=5).execute(context)
    assert sum(sleep_calls) == pytest.approx(60, abs=10)


@MODES
def test_unreachable_hub_at_first_poll_raises(mode, http, context, sleep_calls):
    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}", exc=requests.exceptions.ConnectionError("gone"))
    arguments = {"deferrable": True} if mode == "deferrable" else {"mode": mode}
    with pytest.raises(ControlHubUnavailableError, match="no response from"):
        sensor(**arguments).execute(context)


@MODES
def test_unknown_job_raises_at_first_poll(mode, http, context):
    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}", status_code=404, json={"ISSUES": []})
    arguments = {"deferrable": True} if mode == "deferrable" else {"mode": mode}
    with pytest.raises(ControlHubNotFoundError):
        sensor(**arguments).execute(context)
    with pytest.raises(AirflowSkipException):
        sensor(never_fail=True, **arguments).execute(context)


def test_refused_credential_ends_wait_in_every_mode(http, context, sleep_calls):
    SingleJobHub(http, latest=run_json(4))
    http.post(f"{HUB}/jobrunner/rest/v1/jobs/status", status_code=401)
    with pytest.raises(ControlHubAuthenticationError):
        sensor().execute(context)
    with pytest.raises(ControlHubAuthenticationError):
        reschedule_until_done(context)
    with pytest.raises(ControlHubAuthenticationError):
        complete(sensor(deferrable=True), context, None, error=ControlHubAuthenticationError("refused"))


def test_soft_fail_does_not_hide_other_errors(http, context):
    with pytest.raises(ControlHubError, match="refused"):
        complete(sensor(deferrable=True, soft_fail=True), context, None, error=ControlHubAuthenticationError("refused"))
    with pytest.raises(AirflowSkipException, match="refused"):
        complete(
            sensor(deferrable=True, never_fail=True), context, None, error=ControlHubAuthenticationError("refused")
        )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"job_name": "x"}, "got 'job_id' and 'job_name'"),
        ({"run_count": 0}, "'run_count' must be"),
        ({"run_count": "x"}, "'run_count' must be"),
        ({"poke_interval": -1}, "poke_interval"),
        ({"poke_interval": 0}, "'poke_interval' must be"),
        ({"timeout": -1}, "timeout"),
        ({"mode": "often"}, "mode"),
    ],
)
def test_rejects_invalid_arguments_at_parse(arguments, said):
    with pytest.raises(Exception, match=said):
        sensor(**arguments)


@pytest.mark.parametrize(("age", "most"), [(0, 3), (200, 60)])
def test_poke_mode_polls_young_runs_sooner(age, most, http, context, monkeypatch):
    clock = patch_clock(monkeypatch, shared_with_control_hub=True)
    hub = SimulatedHub(http, clock)
    hub.run_duration = age + 0.3
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
