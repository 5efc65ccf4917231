from __future__ import annotations

import datetime
import json
from datetime import timedelta
from typing import Any

import pendulum
import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowSensorTimeout,
    AirflowSkipException,
    Asset,
    TaskDeferred,
)

from airflow_provider_streamsets import compat
from airflow_provider_streamsets.compat import CAN_START_FROM_TRIGGER
from airflow_provider_streamsets.control_hub import ControlHubRunFailedError
from airflow_provider_streamsets.sensors.metrics import ControlHubJobMetricSensor
from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor
from airflow_provider_streamsets.triggers.events import RunsWaitEvent
from airflow_provider_streamsets.triggers.sensors import ControlHubJobMetricSensorTrigger, ControlHubJobRunSensorTrigger
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
from tests.unit.fakes.task_runner import Clock, patch_clock

pytestmark = pytest.mark.usefixtures("connection")

starts_in_triggerer = pytest.mark.skipif(
    not CAN_START_FROM_TRIGGER, reason="this version of Airflow does not render templates in the triggerer"
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return patch_clock(monkeypatch)


class TaskInstance:
    """As much of a task instance as a trigger has of a task that starts in the triggerer."""

    def __init__(self, try_number: int = 1) -> None:
        self.dag_id, self.task_id, self.run_id, self.map_index = "dag", "wait", "run", -1
        self.try_number = try_number


class XComs(dict[str, Any]):
    """The XComs of the task."""

    def set(self, *, key: str, value: Any, **place: Any) -> None:
        assert place == {"dag_id": "dag", "task_id": "wait", "run_id": "run", "map_index": -1}
        self[key] = json.loads(json.dumps(value))

    def get_one(self, *, key: str, **place: Any) -> Any:
        assert place == {"dag_id": "dag", "task_id": "wait", "run_id": "run", "map_index": -1}
        return self.get(key)


@pytest.fixture(autouse=True)
def xcoms(monkeypatch: pytest.MonkeyPatch) -> XComs:
    stored = XComs()
    monkeypatch.setattr(compat, "XCom", stored)
    return stored


def events_of(
    clock: Clock, trigger: Any, ti: TaskInstance | None = None, timeout_after: datetime.datetime | None = None
) -> list[Any]:
    """Run a trigger, recreated from what Airflow stores of it, as the triggerer does."""
    _, arguments = trigger.serialize()
    again = type(trigger)(**json.loads(json.dumps(arguments)))
    # As the triggerer attaches them; its setter wants more of a task instance than there is here.
    again._task_instance = ti
    if not hasattr(type(again), "task_instance"):
        again.task_instance = ti
    again.timeout_after = timeout_after

    async def scenario() -> list[Any]:
        return [event async for event in again.run()]

    return list(clock.run(scenario()))


def single_event(*arguments: Any, **named: Any) -> Any:
    (event,) = events_of(*arguments, **named)
    return event


def starting(sensor: Any, **rendered: Any) -> Any:
    """Return the trigger with which Airflow starts a task, its arguments as stored with the DAG, and rendered."""
    args = sensor.start_trigger_args
    kinds = {kind.__name__: kind for kind in (ControlHubJobRunSensorTrigger, ControlHubJobMetricSensorTrigger)}
    path, _, name = args.trigger_cls.rpartition(".")
    assert path == "airflow_provider_streamsets.triggers.sensors"
    return kinds[name](**{**json.loads(json.dumps(args.trigger_kwargs)), **rendered})


# Airflow 2.11 does not retry what fails in the triggerer, so that a worker has to fail the task.
FAILED = "failed" if CAN_START_FROM_TRIGGER else "resumed"


def state(event: Any) -> str:
    if not hasattr(event, "task_instance_state"):
        return "resumed"
    return str(getattr(event.task_instance_state, "value", event.task_instance_state))


def run_sensor(**arguments: Any) -> ControlHubJobRunSensor:
    if "job_id" not in arguments:
        arguments.setdefault("job_name", JOB_NAME)
    return ControlHubJobRunSensor(task_id="wait", **arguments)


@starts_in_triggerer
def test_start_from_trigger_waits_for_latest_run(xcoms, http, clock):
    SingleJobHub(http, latest=run_json(4), script=[run_json(4), succeeded(4)], counts=counts_json(4))
    event = single_event(clock, starting(run_sensor(start_from_trigger=True)), TaskInstance())
    wait = RunsWaitEvent.from_payload(event.payload)
    assert wait.report is not None
    assert (*wait.run_counts.items(), wait.report.job_name) == ((JOB_ID, 4), JOB_NAME)
    assert xcoms["job_id"] == JOB_ID
    assert xcoms["run_count"] == 4
    assert xcoms["streamsets_job_link"] == f"{HUB}/sch/jobs/detail/{JOB_ID}"


@starts_in_triggerer
@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("which", [{"started_after": "{{ data_interval_end }}"}, {"next_run": True}])
def test_start_from_trigger_waits_for_future_run(which, ends, xcoms, http, clock):
    script = [succeeded(4), run_json(5), succeeded(5)]
    SingleJobHub(http, latest=succeeded(4), script=script, counts=counts_json(5))
    sensor = run_sensor(start_from_trigger=True, end_from_trigger=ends, **which)
    rendered = dict.fromkeys(set(which) & {"started_after"}, str(pendulum.from_timestamp(T0 / 1000 + 450)))
    trigger = starting(sensor, **rendered)
    assert state(single_event(clock, trigger, TaskInstance())) == ("success" if ends else "resumed")
    assert xcoms["run_count"] == 5


@starts_in_triggerer
def test_another_triggerer_waits_for_same_future_run(xcoms, http, clock):
    pin = {"job_id": JOB_ID, "job_name": JOB_NAME, "run_count": 5, "try_number": 1}
    after = str(pendulum.from_timestamp(T0 / 1000 + 550))
    to_come = {"started_after": after}
    for which, pinned, expected in [({"next_run": True}, {}, 5), (to_come, to_come, 6)]:
        hub = SingleJobHub(http, latest=run_json(7))
        hub.history = [run_json(7), succeeded(6), succeeded(5), succeeded(4)]
        xcoms["streamsets_run"] = {**pin, **pinned}
        trigger = starting(run_sensor(start_from_trigger=True, **which))
        wait = RunsWaitEvent.from_payload(single_event(clock, trigger, TaskInstance()).payload)
        assert wait.run_counts == {JOB_ID: expected}
        assert wait.report is not None


def test_end_from_trigger_waits_for_future_run(xcoms, http, clock, context):
    SingleJobHub(http, latest=succeeded(4), script=[run_json(5), succeeded(5)], counts=counts_json(5))
    after = pendulum.from_timestamp(T0 / 1000 + 450)
    with pytest.raises(TaskDeferred) as deferred:
        run_sensor(end_from_trigger=True, started_after=after).execute(context)
    assert "run_count" not in context["ti"].xcoms
    assert state(single_event(clock, deferred.value.trigger, TaskInstance())) == "success"
    assert xcoms.get("run_count", 5) == 5


@starts_in_triggerer
def test_failed_run_count_push_does_not_fail_task(xcoms, http, clock, monkeypatch, context):
    SingleJobHub(http, latest=succeeded(4), script=[run_json(5), succeeded(5)], counts=counts_json(5))
    after = pendulum.from_timestamp(T0 / 1000 + 450)
    with pytest.raises(TaskDeferred) as deferred:
        run_sensor(end_from_trigger=True, started_after=after).execute(context)

    def refuse(**_: Any) -> None:
        raise RuntimeError("the API server is gone")

    monkeypatch.setattr(xcoms, "set", refuse)
    event = single_event(clock, deferred.value.trigger, TaskInstance())
    assert state(event) == "success"
    assert event.xcoms["run_count"] == 5


@starts_in_triggerer
def test_start_trigger_kwargs_store_datetimes(http, clock):
    after = pendulum.from_timestamp(T0 / 1000)
    trigger = starting(run_sensor(start_from_trigger=True, started_after=after))
    assert pendulum.parse(trigger.started_after) == after


@starts_in_triggerer
def test_triggerer_applies_rendered_red_limit(xcoms, http, clock):
    SingleJobHub(http, latest=run_json(4, "ACTIVE", "RED", warnings=["JOBRUNNER_62 - lost"]))
    sensor = run_sensor(start_from_trigger=True, end_from_trigger=True, fail_on_red_after="{{ 60 }}")
    assert state(single_event(clock, starting(sensor, fail_on_red_after="60"), TaskInstance())) == FAILED
    assert xcoms["result"]["error_message"] == "JOBRUNNER_62 - lost"


@starts_in_triggerer
def test_active_run_ends_task_in_triggerer(xcoms, http, clock):
    SingleJobHub(http, latest=run_json(4, "ACTIVATING"), script=[run_json(4, "ACTIVATING"), run_json(4)])
    sensor = run_sensor(start_from_trigger=True, end_from_trigger=True, wait_for="active")
    assert state(single_event(clock, starting(sensor), TaskInstance())) == "success"
    assert (xcoms["return_value"]["status"], xcoms["return_value"]["outcome"]) == ("ACTIVE", None)


@starts_in_triggerer
def test_invalid_rendered_red_limit_fails_task(http, clock):
    SingleJobHub(http, latest=run_json(4))
    sensor = run_sensor(start_from_trigger=True, fail_on_red_after="{{ 'x' }}")
    event = single_event(clock, starting(sensor, fail_on_red_after="x"), TaskInstance())
    assert "'fail_on_red_after' must be" in str(RunsWaitEvent.from_payload(event.payload).error)


@starts_in_triggerer
def test_start_from_trigger_can_end_on_worker(http, clock, context):
    SingleJobHub(http, latest=run_json(4), script=[failed(4)])
    sensor = run_sensor(start_from_trigger=True)
    event = single_event(clock, starting(sensor), TaskInstance())
    with pytest.raises(ControlHubRunFailedError, match="JDBC_00"):
        sensor.execute_complete(context, event.payload)


@starts_in_triggerer
def test_triggerer_renders_templates(http, clock):
    """Airflow renders the template fields of the sensor that are arguments and attributes of the trigger."""
    SingleJobHub(http, latest=run_json(7), script=[succeeded(7)], counts=counts_json(7))
    sensor = run_sensor(
        job_id="{{ var.value.job }}",
        run_count="{{ params.run }}",
        start_from_trigger=True,
        control_hub_conn_id="{{ c }}",
    )
    trigger = starting(sensor)
    rendered = {name for name in sensor.template_fields if "{{" in str(getattr(trigger, name))}
    assert rendered == {"job_id", "run_count", "control_hub_conn_id"}
    assert rendered <= set(sensor.start_trigger_args.trigger_kwargs)
    trigger = starting(sensor, job_id=JOB_ID, run_count="7", control_hub_conn_id="streamsets_default")
    wait = RunsWaitEvent.from_payload(single_event(clock, trigger, TaskInstance()).payload)
    assert wait.run_counts == {JOB_ID: 7}


@starts_in_triggerer
def test_task_output_becomes_template(clock):
    with DAG("dag", schedule=None):
        first = ControlHubJobRunSensor(task_id="first", job_id=JOB_ID)
        sensor = run_sensor(job_id=first.output["job_id"], start_from_trigger=True)
    stored = sensor.start_trigger_args.trigger_kwargs["job_id"]
    assert stored == "{{ ti.xcom_pull(task_ids='first', key='job_id', map_indexes=-1) }}"
    assert sensor.upstream_task_ids == {"first"}


@starts_in_triggerer
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"job_id": "{{ ti.xcom_pull('first') }}"}, "'job_id' pulls an XCom.*map_indexes=-1"),
        ({"run_count": "{{ task_instance.xcom_pull(task_ids='a', key='b')}}"}, "'run_count' pulls an XCom"),
        ({"job_id": "{{ prev_start_date_success }}"}, "'prev_start_date_success'"),
        ({"job_id": object()}, "'job_id' is of type object"),
    ],
)
def test_rejects_values_triggerer_cannot_render(arguments, message):
    with pytest.raises(ValueError, match=message):
        run_sensor(start_from_trigger=True, **arguments)


@starts_in_triggerer
def test_rejects_output_of_mapped_task():
    with DAG("dag", schedule=None):
        mapped = ControlHubJobRunSensor.partial(task_id="first").expand(job_id=[JOB_ID])
        with pytest.raises(ValueError, match=r"'run_count' is of type .*unmapped"):
            run_sensor(run_count=mapped.output, start_from_trigger=True)


@starts_in_triggerer
def test_accepts_xcom_pull_of_unmapped_task():
    template = "{{ ti.xcom_pull('first', key='run_count', map_indexes=-1) }}"
    sensor = run_sensor(run_count=template, start_from_trigger=True)
    assert sensor.start_trigger_args.trigger_kwargs["run_count"] == template


@starts_in_triggerer
@pytest.mark.parametrize(
    ("rendered", "message"),
    [
        ({"job_name": None}, "Exactly one of 'job_id', 'job_name'"),
        ({"run_count": "four"}, "'run_count'"),
        ({"accept_stopped": "maybe"}, "'accept_stopped'"),
        ({"started_after": "soon"}, "'started_after' must be"),
        ({"run_count": 4, "next_run": True}, "At most one of"),
    ],
)
def test_invalid_rendered_value_fails_task_not_triggerer(clock, http, rendered, message):
    trigger = starting(run_sensor(start_from_trigger=True), **rendered)
    wait = RunsWaitEvent.from_payload(single_event(clock, trigger, TaskInstance()).payload)
    assert message in str(wait.error)


@starts_in_triggerer
def test_missing_connection_fails_task(clock, http):
    trigger = starting(run_sensor(start_from_trigger=True, control_hub_conn_id="missing"))
    wait = RunsWaitEvent.from_payload(single_event(clock, trigger, TaskInstance()).payload)
    assert "missing" in str(wait.error)


@starts_in_triggerer
def test_unknown_job_fails_task(http, clock):
    SingleJobHub(http, latest=None)
    trigger = starting(run_sensor(job_name="Nothing", start_from_trigger=True, end_from_trigger=True))
    assert state(single_event(clock, trigger, TaskInstance())) == "failed"


@starts_in_triggerer
def test_another_triggerer_waits_for_same_run(xcoms, http, clock):
    hub = SingleJobHub(http, latest=run_json(5), script=[run_json(5)], counts=counts_json(5))
    hub.history = [run_json(5), succeeded(4)]
    ti = TaskInstance()
    xcoms["streamsets_run"] = {"job_id": JOB_ID, "job_name": JOB_NAME, "run_count": 4, "try_number": 1}
    wait = RunsWaitEvent.from_payload(single_event(clock, starting(run_sensor(start_from_trigger=True)), ti).payload)
    assert wait.run_counts == {JOB_ID: 4}
    assert wait.report is not None


@starts_in_triggerer
def test_retry_selects_latest_run_again(xcoms, http, clock):
    SingleJobHub(http, latest=run_json(5), script=[succeeded(5)], counts=counts_json(5))
    ti = TaskInstance(try_number=2)
    xcoms["streamsets_run"] = {"job_id": JOB_ID, "job_name": JOB_NAME, "run_count": 4, "try_number": 1}
    wait = RunsWaitEvent.from_payload(single_event(clock, starting(run_sensor(start_from_trigger=True)), ti).payload)
    assert wait.run_counts == {JOB_ID: 5}


@starts_in_triggerer
def test_outage_during_job_lookup_is_tolerated(http, clock):
    hub = SingleJobHub(http, latest=run_json(4), script=[succeeded(4)], counts=counts_json(4))
    answers = [{"status_code": 503}] * 5 + [{"json": lambda *_: hub.job()}]
    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}", answers)
    trigger = starting(run_sensor(job_id=JOB_ID, start_from_trigger=True, end_from_trigger=True))
    assert state(single_event(clock, trigger, TaskInstance())) == "success"


@starts_in_triggerer
@pytest.mark.parametrize(("execution_timeout", "limit"), [(None, 900), (500, 500), (901, 900)])
def test_deadline_is_absolute_across_triggerers(http, clock, context, execution_timeout, limit):
    SingleJobHub(http, latest=run_json(4), script=[run_json(4)])
    given = {} if execution_timeout is None else {"execution_timeout": timedelta(seconds=execution_timeout)}
    sensor = run_sensor(start_from_trigger=True, timeout=900, **given)
    args = sensor.start_trigger_args
    # What Airflow makes of it when the task starts, at 1000.
    seconds = min(args.timeout.total_seconds(), execution_timeout or float("inf"))
    timeout_after = datetime.datetime.fromtimestamp(1000 + seconds, datetime.timezone.utc)
    clock.now = 1400.0
    event = single_event(clock, starting(sensor), TaskInstance(), timeout_after)
    assert clock.now == pytest.approx(1000 + limit, abs=1)
    kind = BaseException if execution_timeout == limit else AirflowSensorTimeout
    with pytest.raises(kind, match=f"has not ended within {limit} s"):
        sensor.execute_complete(context, event.payload)


@starts_in_triggerer
def test_unreadable_job_times_out(http, clock, context):
    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}", status_code=503)
    sensor = run_sensor(job_id=JOB_ID, start_from_trigger=True, end_from_trigger=True, timeout=600)
    event = single_event(clock, starting(sensor), TaskInstance())
    with pytest.raises(AirflowSensorTimeout, match=r"Could not read job .* within 600 s"):
        sensor.execute_complete(context, event.payload)


# Ends

ENDS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (succeeded(4), {}, "success"),
    (failed(4), {}, FAILED),
    (failed(4), {"soft_fail": True}, "skipped"),
    (failed(4), {"never_fail": True}, "skipped"),
]


@pytest.mark.parametrize(("end", "arguments", "expected"), ENDS)
def test_end_from_trigger_matches_end_on_worker(xcoms, http, clock, context, end, arguments, expected):
    SingleJobHub(http, latest=run_json(4), script=[run_json(4), end], counts=counts_json(4))
    with pytest.raises(TaskDeferred) as deferred:
        run_sensor(end_from_trigger=True, **arguments).execute(context)
    event = single_event(clock, deferred.value.trigger, TaskInstance())
    assert state(event) == expected

    SingleJobHub(http, latest=run_json(4), script=[end], counts=counts_json(4))
    with pytest.raises(TaskDeferred) as deferred:
        run_sensor(deferrable=True, **arguments).execute(context)
    payload = single_event(clock, deferred.value.trigger, TaskInstance()).payload
    try:
        result = run_sensor(deferrable=True, **arguments).execute_complete(context, payload)
    except ControlHubRunFailedError:
        assert expected == FAILED
    except AirflowSkipException:
        assert expected == "skipped"
    else:
        assert expected == "success"
        assert (event.xcoms or xcoms)["return_value"] == result


def test_stopped_run_succeeds_only_if_accepted(http, clock, context):
    for accept_stopped, expected in ((False, FAILED), (True, "success")):
        SingleJobHub(
            http, latest=run_json(4), script=[succeeded(4)], events=[event_json(50, "DEACTIVATING", "Stop", user="ann")]
        )
        with pytest.raises(TaskDeferred) as deferred:
            run_sensor(end_from_trigger=True, accept_stopped=accept_stopped).execute(context)
        assert state(single_event(clock, deferred.value.trigger, TaskInstance())) == expected


def test_refused_credential_is_skipped_only_with_never_fail(http, clock, context):
    for arguments, expected in (({}, FAILED), ({"soft_fail": True}, FAILED), ({"never_fail": True}, "skipped")):
        SingleJobHub(http, latest=run_json(4))
        with pytest.raises(TaskDeferred) as deferred:
            run_sensor(end_from_trigger=True, **arguments).execute(context)
        http.post(f"{HUB}/jobrunner/rest/v1/jobs/status", status_code=401)
        assert state(single_event(clock, deferred.value.trigger, TaskInstance())) == expected


@pytest.mark.parametrize("arguments", [{}, {"soft_fail": True}])
def test_timeout_is_raised_on_worker(http, clock, context, arguments):
    SingleJobHub(http, latest=run_json(4), script=[run_json(4)])
    sensor = run_sensor(end_from_trigger=True, timeout=100, **arguments)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context)
    event = single_event(clock, deferred.value.trigger, TaskInstance())
    with pytest.raises(AirflowSkipException if arguments else AirflowSensorTimeout):
        sensor.execute_complete(context, event.payload)


@starts_in_triggerer
def test_event_carries_result_that_cannot_be_pushed(http, clock, context, monkeypatch):
    def fails(**_: Any) -> None:
        raise RuntimeError("no answer of the supervisor")

    SingleJobHub(http, latest=run_json(4), script=[succeeded(4)], counts=counts_json(4))
    with pytest.raises(TaskDeferred) as deferred:
        run_sensor(end_from_trigger=True).execute(context)
    monkeypatch.setattr(compat.XCom, "set", fails)
    event = single_event(clock, deferred.value.trigger, TaskInstance())
    assert event.xcoms["return_value"]["run_count"] == 4


def test_end_from_trigger_without_triggerer_resumes_in_process(http, clock, context):
    """As in `dag.test()`, whose triggers have no task instance."""
    SingleJobHub(http, latest=run_json(4), script=[succeeded(4)], counts=counts_json(4))
    sensor = run_sensor(end_from_trigger=True)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context)
    event = single_event(clock, deferred.value.trigger)
    assert sensor.execute_complete(context, event.payload)["run_count"] == 4


# Metrics


def metric_sensor(**arguments: Any) -> ControlHubJobMetricSensor:
    return ControlHubJobMetricSensor(task_id="wait", **{"job_name": JOB_NAME, **arguments})


@starts_in_triggerer
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"metric": "output_count", "threshold": "{{ params.t }}"}, "success"),
        (
            {"expect": ["output_count >= 100", {"metric": "input_count", "comparison": "<", "threshold": 5}]},
            "failed",
        ),
        ({"expect": "{{ params.c }}", "join": "any"}, "success"),
        ({"metric": "output_count", "threshold": 1000, "on_run_end": "skip"}, "skipped"),
        ({"metric": "output_count", "threshold": 1000, "soft_fail": True}, "skipped"),
        ({"metric": "{{ params.m }}", "threshold": 1}, "failed"),
    ],
)
def test_metric_sensor_starts_and_ends_in_triggerer(xcoms, http, clock, arguments, expected):
    active_run = run_json(4, inputRecordCount=100, outputRecordCount=100, lastReportedMetricTime=1)
    done = {
        **succeeded(4),
        **{name: active_run[name] for name in active_run if name.endswith("Count") and name != "runCount"},
    }
    SingleJobHub(http, latest=run_json(4), script=[run_json(4), done], counts=counts_json(4, outputCount=100))
    sensor = metric_sensor(start_from_trigger=True, end_from_trigger=True, **arguments)
    rendered = {"threshold": "100"} if "{{" in str(arguments.get("threshold")) else {}
    if "{{" in str(arguments.get("expect")):
        rendered = {"expect": '["output_count >= 100", "input_count < 5"]'}
    if "{{" in str(arguments.get("metric")):
        rendered = {"metric": "no_metric"}
    ti = TaskInstance()
    event = single_event(clock, starting(sensor, **rendered), ti)
    assert state(event) == expected
    if expected == "success":
        assert (event.xcoms or xcoms)["return_value"]["values"]["output_count"] == 100
    if rendered.get("metric") != "no_metric":
        assert xcoms["streamsets_run"]["metrics_timeout"] == 75.0


def test_deferred_metric_sensor_ends_in_triggerer(xcoms, http, clock, context):
    active_run = run_json(4, outputRecordCount=100, lastReportedMetricTime=1)
    SingleJobHub(http, latest=run_json(4), script=[run_json(4), active_run])
    with pytest.raises(TaskDeferred) as deferred:
        metric_sensor(metric="output_count", threshold=100, end_from_trigger=True).execute(context)
    event = single_event(clock, deferred.value.trigger, TaskInstance())
    assert state(event) == "success"
    assert (event.xcoms or xcoms)["return_value"]["values"] == {"output_count": 100}


# What cannot work


@pytest.mark.parametrize("way", ["start_from_trigger", "end_from_trigger"])
def test_rejects_sensor_that_is_not_deferrable(way):
    with pytest.raises(ValueError, match=f"'{way}' requires a deferrable sensor"):
        run_sensor(deferrable=False, **{way: True})
    assert run_sensor(**{way: True}).deferrable


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"outlets": [Asset("streamsets://org/jobs/11111111-1111-4111-8111-111111111111")]}, "outlets"),
        ({"post_execute": lambda *_: None}, "post_execute"),
    ],
)
def test_end_from_trigger_rejects_worker_only_options(arguments, name):
    with pytest.raises(ValueError, match=f"'{name}'"):
        run_sensor(end_from_trigger=True, **arguments)


@starts_in_triggerer
@pytest.mark.parametrize("name", ["pre_execute", "on_execute_callback"])
def test_workerless_sensor_rejects_pre_execution_hooks(name):
    with pytest.raises(ValueError, match=f"'{name}'"):
        run_sensor(start_from_trigger=True, end_from_trigger=True, **{name: lambda *_: None})
    assert run_sensor(end_from_trigger=True, **{name: lambda *_: None}).end_from_trigger


@pytest.mark.skipif(CAN_START_FROM_TRIGGER, reason="this version of Airflow can start tasks in the triggerer")
def test_old_airflow_starts_on_worker_with_warning():
    with pytest.warns(UserWarning, match="requires Airflow 3.3"):
        sensor = run_sensor(start_from_trigger=True)
    assert not sensor.start_from_trigger
    assert sensor.deferrable


@starts_in_triggerer
def test_dag_serialization_keeps_start_trigger():
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("dag", schedule=None) as dag:
        run_sensor(start_from_trigger=True, end_from_trigger=True, run_count="{{ params.n }}")
    stored = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag)))).get_task("wait")
    assert stored.start_from_trigger
    assert "{{ params.n }}" in json.dumps(stored.start_trigger_args.trigger_kwargs)


@starts_in_triggerer
def test_mapped_task_starts_on_worker(http, context):
    SingleJobHub(http, latest=run_json(4))
    with DAG("dag", schedule=None):
        mapped = ControlHubJobRunSensor.partial(task_id="wait", start_from_trigger=True).expand(job_id=[JOB_ID])
    assert mapped.start_trigger_args is None
    with pytest.raises(TaskDeferred):
        run_sensor(job_id=JOB_ID, start_from_trigger=True).execute(context)
