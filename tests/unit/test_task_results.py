"""What a task leaves behind, wherever it ends: its XComs, its state, and why it was skipped."""

from __future__ import annotations

import inspect
import json
import re
import sys
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    TaskDeferred,
)
from airflow.triggers.base import BaseTaskEndEvent

from airflow_provider_streamsets import compat
from airflow_provider_streamsets.compat import CAN_START_FROM_TRIGGER
from airflow_provider_streamsets.control_hub import ControlHubRunFailedError
from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator
from airflow_provider_streamsets.operators.metrics import ControlHubJobMetricsOperator
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator, ControlHubStopJobOperator
from airflow_provider_streamsets.sensors.metrics import ControlHubJobMetricSensor
from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor
from airflow_provider_streamsets.triggers import sensors as triggers
from tests.unit.fakes.single_job_hub import HUB, JOB_ID, SingleJobHub, counts_json, failed, run_json, succeeded
from tests.unit.fakes.task_factory import leaves
from tests.unit.fakes.task_runner import Clock, TaskRunner, patch_clock

pytestmark = pytest.mark.usefixtures("connection")

STATUS = f"{HUB}/jobrunner/rest/v1/jobs/status"
EARLY = {"job_id", "run_count", "streamsets_job_link"}
MODES = {
    "poke": {"deferrable": False},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
    "deferrable": {"deferrable": True},
    "end": {"end_from_trigger": True},
    **({"start": {"start_from_trigger": True, "end_from_trigger": True}} if CAN_START_FROM_TRIGGER else {}),
}
EVERY_MODE = pytest.mark.parametrize("mode", MODES)
SOFT_MODES = pytest.mark.parametrize("soft_mode", [{}, {"soft_fail": True}, {"never_fail": True}], ids=str)


class Runner:
    """Runs a sensor to its end in a mode, as Airflow does, with what Airflow itself pushes to XCom."""

    def __init__(self, clock: Clock, context: Any) -> None:
        self.clock = clock
        self.context = context
        self.xcoms = context["ti"].xcoms
        self.waited: timedelta | None = None

    def set(self, *, key: str, value: Any, **_: Any) -> None:
        self.context["ti"].xcom_push(key, json.loads(json.dumps(value)))

    def get_one(self, *, key: str, **_: Any) -> Any:
        return self.xcoms.get(key)

    def first_poke(self, *_: Any, **__: Any) -> datetime | None:
        return None if self.waited is None else datetime.now(timezone.utc) - self.waited

    def fire(self, trigger: Any) -> Any:
        again = type(trigger)(**json.loads(json.dumps(trigger.serialize()[1])))
        again._task_instance = self.context["ti"]
        if not hasattr(type(again), "task_instance"):
            again.task_instance = self.context["ti"]

        async def scenario() -> list[Any]:
            return [event async for event in again.run()]

        (event,) = self.clock.run(scenario())
        return event

    def run(self, mode: str, kind: Any, **arguments: Any) -> str:
        """Return the state in which the task ends on the triggerer or succeeds; raise what it raises on a worker."""

        def make() -> Any:
            return kind(**{"task_id": "task", "job_id": JOB_ID, "poke_interval": 10, **MODES[mode], **arguments})

        task, event = make(), None
        if mode == "start":
            start = task.start_trigger_args
            event = self.fire(getattr(triggers, start.trigger_cls.rpartition(".")[2])(**start.trigger_kwargs))
        while True:
            try:
                if isinstance(event, BaseTaskEndEvent):
                    self.xcoms.update(json.loads(json.dumps(event.xcoms or {})))
                    return str(getattr(event.task_instance_state, "value", event.task_instance_state))
                if event is None:
                    result = task.execute(self.context)
                else:
                    result = task.resume_execution("execute_complete", {"event": event.payload}, self.context)
            except TaskDeferred as deferred:
                task, event = make(), self.fire(deferred.trigger)
            except Exception as error:
                if type(error).__name__ != "AirflowRescheduleException":
                    raise
                task = make()
            else:
                if task.do_xcom_push:
                    self.xcoms.update({**(result if task.multiple_outputs else {}), "return_value": result})
                return "success"

    def ended(self, mode: str, kind: Any, **arguments: Any) -> str:
        """Return the state in which the task ends."""
        try:
            return self.run(mode, kind, **arguments)
        except AirflowSkipException:
            return "skipped"
        except ControlHubRunFailedError:
            return "failed"


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, context: Any) -> Runner:
    made = Runner(patch_clock(monkeypatch), context)
    monkeypatch.setattr(compat, "XCom", made)
    context["ti"].get_first_reschedule_date = made.first_poke
    base = sys.modules[BaseSensorOperator.__module__]
    if hasattr(base, "_orig_start_date"):
        monkeypatch.setattr(base, "_orig_start_date", made.first_poke)
        monkeypatch.setattr(base, "_is_metadatabase_mysql", lambda: False)
    return made


def stop_when(http: Any) -> None:
    """A run that is active until it has written 100 records."""
    active_run = run_json(4, outputRecordCount=100, lastReportedMetricTime=1)
    SingleJobHub(http, latest=run_json(4), script=[run_json(4), active_run])


def run_succeeding(http: Any) -> None:
    SingleJobHub(http, latest=run_json(4), script=[run_json(4), succeeded(4)], counts=counts_json(4))


SUCCESSES: list[Any] = [
    pytest.param(ControlHubJobRunSensor, run_succeeding, {}, id="run"),
    pytest.param(ControlHubJobMetricSensor, stop_when, {"metric": "output_count", "threshold": 100}, id="metric"),
]


# Which results have keys


@pytest.mark.parametrize("kind", leaves())
def test_result_is_dict_matches_return_type(kind):
    method = kind.finish if issubclass(kind, BaseSensorOperator) else kind.execute
    assert kind.result_is_dict == inspect.get_annotations(method)["return"].startswith("dict")


def test_dict_results_default_to_multiple_outputs():
    for kind in (ControlHubRunJobOperator, ControlHubJobRunSensor):
        with DAG("dag", schedule=None):
            assert kind(task_id="default", job_id=JOB_ID).multiple_outputs is True
            assert kind(task_id="off", job_id=JOB_ID, multiple_outputs=False).multiple_outputs is False
            mapped = kind.partial(task_id="mapped").expand(job_id=[JOB_ID])
        assert mapped.unmap({"job_id": JOB_ID}).multiple_outputs is True
        with DAG("quiet", schedule=None, default_args={"multiple_outputs": False}):
            assert kind(task_id="default", job_id=JOB_ID).multiple_outputs is False


def test_list_results_reject_multiple_outputs():
    assert ControlHubStartJobsOperator(task_id="task", job_ids=["a:org"]).multiple_outputs is False
    with pytest.raises(ValueError, match="ControlHubStartJobsOperator does not return a dict"):
        ControlHubStartJobsOperator(task_id="task", job_ids=["a:org"], multiple_outputs=True)


def test_metrics_of_all_runs_disable_multiple_outputs():
    assert ControlHubJobMetricsOperator(task_id="task", job_id=JOB_ID).multiple_outputs is True
    assert ControlHubJobMetricsOperator(task_id="task", job_id=JOB_ID, runs="all").multiple_outputs is False


def test_rendered_all_runs_disables_multiple_outputs(http, context):
    SingleJobHub(http, latest=succeeded(4), counts=counts_json(4))
    task = ControlHubJobMetricsOperator(task_id="task", job_id=JOB_ID, runs="{{ which }}")
    assert task.multiple_outputs is True
    task.render_template_fields({"which": "all"})
    assert isinstance(task.execute(context), list)
    assert task.multiple_outputs is False


# Results in XCom


@EVERY_MODE
@pytest.mark.parametrize(("kind", "hub", "arguments"), SUCCESSES)
def test_pushes_each_result_key(runner, http, mode, kind, hub, arguments):
    hub(http)
    assert runner.run(mode, kind, **arguments) == "success"
    result = runner.xcoms["return_value"]
    assert {key: runner.xcoms[key] for key in result} == result
    assert set(runner.xcoms) - {"streamsets_run"} == {"return_value", *EARLY, *result}
    assert None in result.values() or kind is ControlHubJobMetricSensor


@EVERY_MODE
@pytest.mark.parametrize(("kind", "hub", "arguments"), SUCCESSES)
@pytest.mark.parametrize(
    ("xcom_options", "more"),
    [({"do_xcom_push": False}, set()), ({"multiple_outputs": False}, {"return_value"})],
    ids=["none", "value"],
)
def test_xcom_options_limit_pushed_result(runner, http, mode, kind, hub, arguments, xcom_options, more):
    hub(http)
    assert runner.run(mode, kind, **arguments, **xcom_options) == "success"
    assert set(runner.xcoms) - {"streamsets_run"} == EARLY | more


@EVERY_MODE
@pytest.mark.parametrize(("soft_mode", "state"), [({}, "failed"), ({"soft_fail": True}, "skipped")])
@pytest.mark.parametrize("xcom_options", [{}, {"multiple_outputs": False}, {"do_xcom_push": False}], ids=str)
def test_failed_run_pushes_result_as_configured(runner, http, mode, soft_mode, state, xcom_options):
    SingleJobHub(http, latest=run_json(4), script=[run_json(4), failed(4)], counts=counts_json(4))
    assert runner.ended(mode, ControlHubJobRunSensor, **soft_mode, **xcom_options) == state
    left = {key: value for key, value in runner.xcoms.items() if key not in EARLY | {"streamsets_run"}}
    result = left.pop("result", None)
    assert (result is None) == ("do_xcom_push" in xcom_options)
    assert left == ({} if xcom_options else {key: value for key, value in result.items() if key not in EARLY})
    assert xcom_options or left["outcome"] == "FAILED"


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("kind", [ControlHubRunJobOperator, ControlHubStopJobOperator])
def test_operator_pushes_result_keys_of_failed_run(runner, http, context, kind, deferrable):
    hub = SingleJobHub(http, latest=run_json(3) if kind is ControlHubStopJobOperator else succeeded(2))
    hub.script = [run_json(3), failed(3)]
    http.post(f"{HUB}/jobrunner/rest/v1/jobs", json=lambda *_: [hub.job()])
    with pytest.raises(ControlHubRunFailedError):
        TaskRunner(runner.clock, lambda: kind(task_id="task", job_id=JOB_ID, deferrable=deferrable), context).run()
    result = runner.xcoms["result"]
    assert result["outcome"] == "FAILED"
    # A missing XCom is read as None, too.
    assert {key: runner.xcoms.get(key) for key in result} == result


# What Airflow does on workers only


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"on_success_callback": print}, "on_success_callback"),
        ({"on_skipped_callback": [print]}, "on_skipped_callback"),
        ({"email": "ops@example.com"}, "email"),
        ({"email": "ops@example.com", "email_on_failure": False, "retries": 1}, "email"),
    ],
)
def test_end_from_trigger_rejects_unsupported_options(arguments, name):
    with pytest.raises(ValueError, match=f"'{name}'"):
        ControlHubJobRunSensor(task_id="task", job_id=JOB_ID, end_from_trigger=True, **arguments)
    assert ControlHubJobRunSensor(task_id="task", job_id=JOB_ID, deferrable=True, **arguments).deferrable


def test_end_from_trigger_accepts_supported_options():
    accepted = {
        "on_failure_callback": print,
        "on_retry_callback": print,
        "email": "ops@example.com",
        "email_on_failure": False,
        "email_on_retry": True,
        "retries": 0,
    }
    assert ControlHubJobRunSensor(task_id="task", job_id=JOB_ID, end_from_trigger=True, **accepted).end_from_trigger


@pytest.mark.skipif(not CAN_START_FROM_TRIGGER, reason="this version of Airflow has no retry policies")
def test_end_from_trigger_rejects_retry_policy_and_fail_fast():
    from airflow.sdk import ExceptionRetryPolicy

    with pytest.raises(ValueError, match="'retry_policy'"):
        ControlHubJobRunSensor(
            task_id="task", job_id=JOB_ID, end_from_trigger=True, retry_policy=ExceptionRetryPolicy(rules=[])
        )
    with DAG("dag", schedule=None, fail_fast=True), pytest.raises(ValueError, match="'fail_fast'"):
        ControlHubJobRunSensor(task_id="task", job_id=JOB_ID, end_from_trigger=True)


# Limits


@EVERY_MODE
@SOFT_MODES
def test_execution_timeout_fails_sensor(runner, http, mode, soft_mode):
    SingleJobHub(http, latest=run_json(4))
    if MODES[mode].get("deferrable") is False:
        # Airflow's alarm, during a poke.
        http.post(STATUS, exc=AirflowTaskTimeout)
    with pytest.raises(AirflowTaskTimeout):
        runner.run(mode, ControlHubJobRunSensor, timeout=1000, execution_timeout=timedelta(seconds=100), **soft_mode)


@SOFT_MODES
def test_execution_timeout_between_pokes_fails_sensor(runner, http, monkeypatch, soft_mode):
    def alarm(_: float) -> None:
        raise AirflowTaskTimeout

    SingleJobHub(http, latest=run_json(4))
    monkeypatch.setattr("time.sleep", alarm)
    with pytest.raises(AirflowTaskTimeout):
        runner.run("poke", ControlHubJobRunSensor, execution_timeout=timedelta(seconds=100), **soft_mode)


@pytest.mark.parametrize(
    ("limits", "soft_mode", "kind"),
    [
        ({"execution_timeout": timedelta(seconds=100)}, {}, AirflowTaskTimeout),
        ({"execution_timeout": timedelta(seconds=100)}, {"soft_fail": True}, AirflowTaskTimeout),
        ({}, {}, AirflowSensorTimeout),
        ({}, {"soft_fail": True}, AirflowSkipException),
        ({}, {"never_fail": True}, AirflowSkipException),
    ],
)
def test_trigger_timeout_ends_sensor_like_own_timeout(context, task_log, limits, soft_mode, kind):
    task = ControlHubJobRunSensor(task_id="task", job_id=JOB_ID, deferrable=True, timeout=1000, **limits, **soft_mode)
    with pytest.raises(kind, match="Trigger timeout"):
        task.resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    assert ("Skipping the task: Trigger timeout" in task_log()) == (kind is AirflowSkipException)


def test_logs_skip_for_lost_trigger(context, task_log):
    task = ControlHubJobRunSensor(task_id="task", job_id=JOB_ID, deferrable=True, soft_fail=True)
    with pytest.raises(AirflowSkipException):
        task.resume_execution("__fail__", {"error": "Trigger failure"}, context)
    assert "Skipping the task: Trigger failure" in task_log()


def test_execution_timeout_applies_to_each_rescheduled_poke(runner, http):
    run_succeeding(http)
    runner.waited = timedelta(seconds=500)
    limits = {"timeout": 1000, "execution_timeout": timedelta(seconds=100)}
    assert runner.run("reschedule", ControlHubJobRunSensor, **limits) == "success"
    assert {request.timeout for request in http.request_history if request.url == STATUS} == {(10.0, 60.0)}
    runner.waited = timedelta(seconds=1001)
    SingleJobHub(http, latest=run_json(4))
    with pytest.raises(AirflowSensorTimeout, match="has not ended within 1000 s"):
        runner.run("reschedule", ControlHubJobRunSensor, **limits)


# Skips


@EVERY_MODE
@pytest.mark.parametrize("soft_mode", [{"soft_fail": True}, {"never_fail": True}], ids=str)
def test_logs_skip_for_timeout(runner, http, task_log, mode, soft_mode):
    SingleJobHub(http, latest=run_json(4))
    runner.waited = timedelta(seconds=200) if mode == "reschedule" else None
    assert runner.ended(mode, ControlHubJobRunSensor, timeout=100, **soft_mode) == "skipped"
    assert re.search(r"Skipping the task: Job .* run 4 has not ended within 100 s", task_log())


@EVERY_MODE
def test_logs_skip_for_failed_run(runner, http, task_log, mode):
    SingleJobHub(http, latest=run_json(4), script=[run_json(4), failed(4)])
    assert runner.ended(mode, ControlHubJobRunSensor, soft_fail=True) == "skipped"
    assert re.search(r"Skipping the task: .*JDBC_00", task_log(), re.DOTALL)


@EVERY_MODE
def test_logs_skip_for_error(runner, http, task_log, mode):
    SingleJobHub(http, latest=run_json(4))
    http.post(STATUS, status_code=401)
    assert runner.ended(mode, ControlHubJobRunSensor, never_fail=True, timeout=5000) == "skipped"
    assert re.search(r"Skipping the task: .*credential", task_log())


@EVERY_MODE
@pytest.mark.parametrize("soft_mode", [{}, {"soft_fail": True}], ids=str)
def test_logs_skip_for_ended_run(runner, http, task_log, mode, soft_mode):
    SingleJobHub(http, latest=run_json(4), script=[run_json(4), succeeded(4)], counts=counts_json(4))
    arguments = {"metric": "output_count", "threshold": 1000, "on_run_end": "skip", **soft_mode}
    assert runner.ended(mode, ControlHubJobMetricSensor, **arguments) == "skipped"
    assert re.search(r"Skipping the task: .*output_count", task_log())
