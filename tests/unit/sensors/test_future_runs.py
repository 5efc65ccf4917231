"""Sensors that wait for a run which something else is still to start."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pendulum
import pytest
import requests_mock
from airflow.providers.common.compat.sdk import DAG, AirflowSensorTimeout, BaseSensorOperator

from airflow_provider_streamsets.control_hub import ControlHubRunFailedError, ControlHubRunLostError
from airflow_provider_streamsets.sensors import base
from airflow_provider_streamsets.sensors.metrics import ControlHubJobMetricSensor
from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor
from tests.unit.fakes.simulated_hub import OTHER_USER, SimulatedHub
from tests.unit.fakes.single_job_hub import HUB, JOB_ID
from tests.unit.fakes.task_runner import Clock, TaskRunner, patch_clock

pytestmark = pytest.mark.usefixtures("connection")
MODES = pytest.mark.parametrize("mode", ["poke", "reschedule", "deferrable"])


class ScheduledHub(SimulatedHub):
    """A Control Hub whose own scheduler starts and ends runs; times are in seconds from the beginning of the test."""

    def __init__(self, http: requests_mock.Mocker, clock: Clock) -> None:
        super().__init__(http, clock)
        self._began = clock.now
        self._agenda: list[tuple[float, Callable[[], Any]]] = []
        self.requests: list[str] = []

    def plan(self, at: float, *actions: Callable[[], Any]) -> None:
        self._agenda += [(self._began + at, action) for action in actions]

    def run_at(self, *starts: float, lasts: float = 50.0) -> None:
        """Plan runs of so many seconds."""
        for at in starts:
            self.plan(at, lambda: self.start(OTHER_USER))
            self.plan(at + lasts, self.end)

    def time(self, at: float) -> str:
        return str(pendulum.from_timestamp(self._began + at).isoformat())

    @property
    def latest(self) -> dict[str, Any] | None:
        now, real = self._clock.now, self._clock.current_time
        while self._agenda and self._agenda[0][0] <= real:
            at, action = self._agenda.pop(0)
            loop, self._clock._loop = self._clock._loop, None
            self._clock.now = at
            action()
            self._clock.now, self._clock._loop = now, loop
        return super().latest


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    module = sys.modules[BaseSensorOperator.__module__]
    if hasattr(module, "_orig_start_date"):
        monkeypatch.setattr(module, "_orig_start_date", lambda **_: None)
        monkeypatch.setattr(module, "_is_metadatabase_mysql", lambda: False)
    return patch_clock(monkeypatch, shared_with_control_hub=True)


@pytest.fixture
def hub(http: requests_mock.Mocker, clock: Clock) -> ScheduledHub:
    return ScheduledHub(http, clock)


def wait(mode: str, clock: Clock, context: Any, kind: Any = ControlHubJobRunSensor, **arguments: Any) -> Any:
    """Wait in one of the modes, with a new task object for each of its processes."""

    def make() -> Any:
        how = {"deferrable": True} if mode == "deferrable" else {"deferrable": False, "mode": mode}
        return kind(task_id="wait", job_id=JOB_ID, poke_interval=20, **{"timeout": 3600, **arguments}, **how)

    if mode != "reschedule":
        return TaskRunner(clock, make, context).run()
    first = clock.now
    context["ti"].get_first_reschedule_date = lambda _: None if clock.now == first else pendulum.now("UTC")
    for _ in range(200):
        try:
            return make().execute(context)
        except Exception as error:
            if type(error).__name__ != "AirflowRescheduleException":
                raise
        clock.now += 20
    raise AssertionError("the sensor never ends")


@MODES
@pytest.mark.parametrize(
    ("after", "runs", "expected"),
    [
        (-50, (100,), 2),
        (-50, (100, 160), 2),
        (200, (100, 300), 3),
        (200, (100, 152, 300), 4),
        (200, (100, 201, 252, 303), 3),
    ],
    ids=["to come", "restarted since", "first one too early", "two too early", "both"],
)
def test_waits_for_first_run_started_after(mode, after, runs, expected, hub, clock, context):
    hub.start()
    hub.runs[0]["startTime"] -= 100_000
    hub.end()
    hub.run_at(*runs)
    result = wait(mode, clock, context, started_after=hub.time(after))
    assert (result["run_count"], result["outcome"]) == (expected, "SUCCEEDED")
    assert context["ti"].xcoms["run_count"] == expected
    assert context["ti"].xcoms["job_id"] == JOB_ID


@MODES
def test_waits_for_first_run_of_new_job(mode, hub, clock, context):
    hub.run_at(100)
    assert wait(mode, clock, context, started_after=hub.time(0))["run_count"] == 1


@MODES
@pytest.mark.parametrize("runs", [1, 2, 3])
def test_ended_run_counts(mode, runs, hub, clock, context):
    for _ in range(runs):
        clock.now += 100
        hub.start()
        clock.now += 50
        hub.end()
    assert wait(mode, clock, context, started_after=hub.time(min(100 * runs, 150)))["run_count"] == min(runs, 2)


@MODES
def test_history_shows_run_restarted_between_polls(mode, hub, clock, context):
    hub.start()
    hub.end()
    hub.plan(101, hub.start)
    hub.plan(103, hub.fail)
    hub.plan(105, hub.start)
    with pytest.raises(ControlHubRunFailedError, match=r"Run 2 "):
        wait(mode, clock, context, started_after=hub.time(1))
    assert context["ti"].xcoms["run_count"] == 2


@MODES
def test_waits_for_first_run_of_reimported_job(mode, hub, clock, context):
    for _ in range(5):
        hub.start()
        hub.end()
    hub.plan(100, lambda: hub.reimport(1))
    hub.plan(150, hub.end)
    assert wait(mode, clock, context, started_after=hub.time(1))["run_count"] == 1


@MODES
@pytest.mark.parametrize("which", ["started_after", "next_run"])
def test_reimport_after_run_was_found_is_detected(mode, which, hub, clock, context, monkeypatch):
    monkeypatch.setattr(base, "HAS_TASK_STATE_STORE", True)
    hub.start()
    hub.end()
    hub.plan(100, hub.start)
    hub.plan(250, lambda: hub.reimport(1))
    with pytest.raises(
        ControlHubRunLostError, match=r"The outcome of job .* run 2 is unknown: .* deleted and imported again"
    ):
        wait(mode, clock, context, **{which: hub.time(1) if which == "started_after" else True})


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_timeout_names_unreadable_history(mode, hub, http, clock, context):
    hub.start()
    hub.end()
    hub.run_at(101, lasts=2)
    hub.run_at(105)
    http.get(f"{HUB}/jobrunner/rest/v1/saql/jobs/search/{JOB_ID}/runs", status_code=503)
    with pytest.raises(AirflowSensorTimeout, match=r"reading the run history failed\. Its latest run is 3 \("):
        wait(mode, clock, context, started_after=hub.time(1), timeout=300)


@MODES
@pytest.mark.parametrize(("has_run", "seen"), [(True, r" Its latest run is 1 \(INACTIVE/GRAY\)\."), (False, "")])
def test_timeout_names_start_time_without_run(mode, has_run, seen, hub, clock, context):
    if has_run:
        hub.start()
        hub.end()
    clock.now += 10
    after = pendulum.from_timestamp(clock.now - 1)
    timeout = {"timeout": 100}
    if mode == "reschedule":
        with pytest.raises(AssertionError):
            wait(mode, clock, context, started_after=after)
        timeout = {"timeout": 0}
        mode = "poke" if base.task_state_store(context) is None else mode
    with pytest.raises(AirflowSensorTimeout, match=f"No run of job '.*' .* at or after 1970-.* within .* s.{seen}$"):
        wait(mode, clock, context, started_after=after, **timeout)
    assert "run_count" not in context["ti"].xcoms


def test_rescheduled_sensor_finds_run_without_state_store(hub, clock, context):
    del context["task_state_store"]
    hub.start()
    hub.end()
    hub.run_at(100, 160)
    assert wait("reschedule", clock, context, started_after=hub.time(1))["run_count"] == 2


@MODES
def test_next_run_follows_latest_at_first_poll(mode, hub, clock, context, monkeypatch):
    monkeypatch.setattr(base, "HAS_TASK_STATE_STORE", True)
    hub.start()
    hub.plan(50, hub.end)
    hub.run_at(100, 155)
    assert wait(mode, clock, context, next_run=True)["run_count"] == 2
    assert context["ti"].xcoms["run_count"] == 2


@MODES
def test_retry_waits_for_its_own_next_run(mode, hub, clock, context, monkeypatch):
    monkeypatch.setattr(base, "HAS_TASK_STATE_STORE", True)
    hub.plan(50, hub.start)
    hub.plan(80, hub.fail)
    hub.run_at(300)
    with pytest.raises(ControlHubRunFailedError, match=r"Run 1 "):
        wait(mode, clock, context, next_run=True)
    context["ti"].try_number = 2
    assert wait(mode, clock, context, next_run=True)["run_count"] == 2


def test_rejects_next_run_that_cannot_be_stored(monkeypatch):
    monkeypatch.setattr(base, "HAS_TASK_STATE_STORE", False)
    with pytest.raises(ValueError, match=r"'next_run' with mode='reschedule' requires Airflow 3\.3"):
        ControlHubJobRunSensor(task_id="wait", job_id=JOB_ID, next_run=True, mode="reschedule", deferrable=False)
    ControlHubJobRunSensor(task_id="wait", job_id=JOB_ID, next_run=True, mode="reschedule", deferrable=True)
    ControlHubJobRunSensor(task_id="wait", job_id=JOB_ID, next_run=True, mode="poke", deferrable=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"run_count": 1, "started_after": "2026-01-01"}, "At most one of 'run_count', 'started_after', 'next_run'"),
        ({"run_count": 1, "next_run": True}, "got 'run_count' and 'next_run'"),
        ({"started_after": "{{ ds }}", "next_run": True}, "got 'started_after' and 'next_run'"),
        ({"started_after": "soon"}, "'started_after' must be a datetime"),
        ({"started_after": 5}, "'started_after' must be a datetime"),
    ],
)
@pytest.mark.parametrize(
    "kind", [ControlHubJobRunSensor, lambda **a: ControlHubJobMetricSensor(metric="output_count", threshold=1, **a)]
)
def test_rejects_invalid_run_selection(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(task_id="wait", job_id=JOB_ID, **arguments)


@pytest.mark.parametrize("rendered", ["1970-01-01 00:18:00+00:00", pendulum.datetime(1970, 1, 1, 0, 18)])
def test_started_after_accepts_templates(rendered, hub, clock, context):
    hub.start()
    hub.end()
    hub.run_at(200)
    task = ControlHubJobRunSensor(task_id="wait", job_id=JOB_ID, started_after="{{ t }}", deferrable=False)
    task.render_template_fields({**context, "t": rendered})
    assert task.execute(context)["run_count"] == 2


@MODES
def test_rejects_started_after_rendered_to_none(mode, hub, clock, context):
    hub.start()
    hub.end()
    how = {"deferrable": True} if mode == "deferrable" else {"deferrable": False, "mode": mode}
    with DAG("native", schedule=None, render_template_as_native_obj=True):
        task = ControlHubJobRunSensor(task_id="wait", job_id=JOB_ID, started_after="{{ t }}", **how)
    task.render_template_fields({"t": None})
    with pytest.raises(ValueError, match="'started_after' must be a time, but its template rendered to None"):
        task.execute(context)


@MODES
def test_metric_sensor_waits_for_future_run(mode, hub, clock, context):
    hub.start()
    hub.runs[0]["outputRecordCount"] = 5
    hub.end()
    hub.plan(100, hub.start, lambda: hub.runs[1].update(outputRecordCount=3))
    hub.plan(130, lambda: hub.runs[1].update(outputRecordCount=7))
    arguments = {"metric": "output_count", "threshold": 5, "started_after": hub.time(1)}
    result = wait(mode, clock, context, ControlHubJobMetricSensor, **arguments)
    assert (result["run_count"], result["values"]) == (2, {"output_count": 7})
    assert context["ti"].xcoms["run_count"] == 2


def test_future_run_costs_no_extra_requests(http, monkeypatch, make_context):
    paths = {}
    for which in ("run_count", "started_after"):
        clock = patch_clock(monkeypatch, shared_with_control_hub=True)
        hub = ScheduledHub(http, clock)
        hub.start()
        hub.end()
        hub.run_at(200)
        http.reset_mock()
        wait("deferrable", clock, make_context(), **{which: 2 if which == "run_count" else hub.time(1)})
        paths[which] = [request.path for request in http.request_history]
    assert paths["started_after"] == paths["run_count"]
