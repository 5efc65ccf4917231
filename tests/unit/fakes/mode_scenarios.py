"""One task in each of its modes: what happens to its runs, and the account of what it has done."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import functools
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import requests_mock
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    TaskDeferred,
)
from airflow.sensors import base as airflow_2_sensors

from airflow_provider_streamsets import compat
from airflow_provider_streamsets.compat import CAN_START_FROM_TRIGGER
from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator, ControlHubStopJobsOperator
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator, ControlHubStopJobOperator
from airflow_provider_streamsets.operators.templates import ControlHubRunJobTemplateOperator
from airflow_provider_streamsets.sensors.metrics import ControlHubJobMetricSensor
from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor
from airflow_provider_streamsets.triggers import base as triggers
from tests.unit.fakes.multi_job_hub import TEMPLATE_ID, MultiJobHub, activating, active, deactivating
from tests.unit.fakes.multi_job_hub import failed as failed_run
from tests.unit.fakes.multi_job_hub import succeeded as succeeded_run
from tests.unit.fakes.simulated_hub import OTHER_USER
from tests.unit.fakes.single_job_hub import COUNTERS, JOB_ID, run_json
from tests.unit.fakes.task_runner import TaskRunner, patch_clock
from tests.unit.fakes.unhealthy_hub import UnhealthyHub
from tests.unit.triggers.test_sensors import events_of, starting, state

RUN, STOP = ControlHubRunJobOperator, ControlHubStopJobOperator
START_MANY, STOP_MANY, TEMPLATE = (
    ControlHubStartJobsOperator,
    ControlHubStopJobsOperator,
    ControlHubRunJobTemplateOperator,
)
RUN_SENSOR, METRIC_SENSOR = ControlHubJobRunSensor, ControlHubJobMetricSensor

GIVEN: dict[type, dict[str, Any]] = {
    RUN: {"job_id": JOB_ID},
    STOP: {"job_id": JOB_ID},
    RUN_SENSOR: {"job_id": JOB_ID},
    METRIC_SENSOR: {"job_id": JOB_ID},
    START_MANY: {"job_ids": ["a:org", "b:org"], "wait_for_completion": True},
    STOP_MANY: {"job_ids": ["a:org", "b:org"]},
    TEMPLATE: {"job_id": TEMPLATE_ID},
}
"""What is given to each class of task unless a case says otherwise."""
NAMES = ("a", "b", "instance-1", "instance-2")
"""Names of the many jobs, and of the instances of the template."""
EXPECTED_DIFFERENCES = {
    "log .*cannot be called outside of the Task Runner": "Airflow's, about this test",
    "message of AirflowTaskTimeout": "raised by Airflow on a worker, with a text of its own",
    "text  The connection has not changed. Set an .* [(]Token[)][.]": "a task that is resumed does not ask twice",
    "xcom streamsets_run": "a task that starts in the triggerer keeps its run there, for other triggerers",
    "read jobs$": "the names of many jobs are read again by a task that is resumed",
}
"""Patterns of what may differ between modes, and why."""

Event = Callable[["ScenarioRun"], None]


@dataclass(frozen=True)
class Scenario:
    """
    A task and what happens to its runs.

    :param task: class of the task
    :param options: its options
    :param timeline: what happens when, in seconds since the task began; at 0 before it began
    :param ends: how the task ends: its state, and the class of its error if there is one
    :param killed_at: when a person ends the task, in seconds since it began
    :param is_cleared: whether that is done by clearing it, so that it starts again
    """

    task: type
    options: Mapping[str, Any] = field(default_factory=dict)
    timeline: tuple[tuple[float, Event], ...] = ()
    ends: str = "success"
    killed_at: float | None = None
    is_cleared: bool = False


@dataclass
class ScenarioResult:
    """What one task has done, as far as it must not depend on the mode."""

    ends: str
    message: str
    took: float
    xcoms: dict[str, Any]
    log: list[str]
    actions: list[str]
    reads: dict[str, int]


# What happens to runs


def begins(scene: ScenarioRun) -> None:
    """Another caller starts the job."""
    scene.hub.start(OTHER_USER)


def ends(scene: ScenarioRun) -> None:
    scene.hub.end()


def fails(scene: ScenarioRun) -> None:
    scene.hub.runs[-1]["errorMessage"] = "RUN_ERROR: JDBC_00 - Cannot connect"
    scene.hub.fail()


def cannot_start(scene: ScenarioRun) -> None:
    scene.hub.runs[-1]["errorMessage"] = "START_ERROR: JDBC_06 - Cannot initialize"
    scene.hub.end("ACTIVATION_ERROR", "RED")


def ends_in_error(scene: ScenarioRun) -> None:
    scene.hub.runs[-1]["errorMessage"] = "JOBRUNNER_78 - No engine"
    scene.hub.end("INACTIVE_ERROR", "RED")


def is_stopped(scene: ScenarioRun) -> None:
    scene.hub.stop(OTHER_USER)


def is_upgraded(scene: ScenarioRun) -> None:
    scene.hub.upgrade()


def is_reimported(scene: ScenarioRun) -> None:
    scene.hub.reimport(1)


def hangs(scene: ScenarioRun) -> None:
    """Runs do not end when they are stopped."""
    scene.hub.stops_immediately = False


def is_red(since: float, until: float = float("inf")) -> Event:
    return lambda scene: scene.hub.is_red(since=since, until=until)


def becomes_active(after: float) -> Event:
    def slowly(scene: ScenarioRun) -> None:
        scene.hub.activates_until = after

    return slowly


def counts(records: int, errors: int = 0) -> Event:
    """Metrics of the active run are saved."""

    def save(scene: ScenarioRun) -> None:
        now = int(scene.current_time * 1000)
        saved = {"inputRecordCount": records, "outputRecordCount": records, "errorRecordCount": errors}
        scene.hub.runs[-1].update(saved, lastReportedMetricTime=now)

    return save


def has_counts(records: int, errors: int = 0) -> Event:
    """Metrics are saved when the run has ended."""

    def save(scene: ScenarioRun) -> None:
        scene.final_counts = {"inputCount": records, "outputCount": records, "errorCount": errors}

    return save


def has_no_counts(scene: ScenarioRun) -> None:
    """No metrics are saved when the run has ended."""
    scene.final_counts = None


def has_counter(number: int) -> Event:
    """The engines have counted what a stage has read."""

    def save(scene: ScenarioRun) -> None:
        scene.counters = {"stage.Trash.inputRecords.counter": {"count": number}}

    return save


def is_unreachable(seconds: float) -> Event:
    def begin(scene: ScenarioRun) -> None:
        scene.overriding_response = (503, scene.current_time + seconds)

    return begin


def refuses_credential(scene: ScenarioRun) -> None:
    scene.overriding_response = (401, float("inf"))


def show(*names: str, **how: Callable[[int], dict[str, Any]]) -> Event:
    """Let the latest runs of some of the many jobs be active from now on, or have the statuses that are given."""

    def change(scene: ScenarioRun) -> None:
        for name, status in {**dict.fromkeys(names, active), **how}.items():
            scene.hub.show(name.replace("_", "-"), status)

    return change


def all_succeed(scene: ScenarioRun) -> None:
    for name in scene.hub.names:
        scene.hub.show(name.removesuffix(":org"), succeeded_run)


def red(run_count: int) -> dict[str, Any]:
    return active(run_count, color="RED", warnings=["JOBRUNNER_62 - lost"])


def cannot_activate(run_count: int) -> dict[str, Any]:
    return run_json(run_count, "ACTIVATION_ERROR", "RED", errorMessage="START_ERROR: JDBC_06")


def a_is_acknowledged(scene: ScenarioRun) -> None:
    """The error of job a is gone when it is acknowledged."""
    scene.hub.after_acknowledgement["a"] = [failed_run()]


def b_cannot_be_started(scene: ScenarioRun) -> None:
    scene.hub.unstartable.add("b")


def stopped_by_other_user(*names: str) -> Event:
    return lambda scene: scene.hub.mark_stopped_by(OTHER_USER, *names)


def many_hang(scene: ScenarioRun) -> None:
    """Let runs of the many jobs stay active when they are stopped, until that is forced."""
    scene.hub.after_stop = {name: [deactivating()] for name in NAMES}


def case(
    task: type, options: Mapping[str, Any] | None = None, *timeline: tuple[float, Event], **fields: Any
) -> Scenario:
    return Scenario(task, options or {}, timeline, **fields)


class CountingHub(UnhealthyHub):
    """Shows the final metrics of runs in their statuses, too."""

    @property
    def latest(self) -> dict[str, Any] | None:
        run, saved = super().latest, self._clock.final_counts
        if run is None or not run["finishTime"] or saved is None:
            return run
        shown = {name.replace("Count", "RecordCount"): number for name, number in saved.items()}
        return {**run, **shown, "lastReportedMetricTime": run["finishTime"] + 1000}


_POLL = "jobs/status"
_OUTCOME = re.compile(
    r"\b(has|is) (succeeded|failed|stopped|active|ended)\b|\bsatisf(y|ies)\b|^Skipping the task|as expected"
)


class KilledError(BaseException):
    """The task was killed on the triggerer."""


class ScenarioRun:
    """
    One task in one mode, its Control Hub and the clock of both.

    :param case: the task, and what happens
    :param context: its context
    """

    def __init__(
        self, case: Scenario, http: requests_mock.Mocker, monkeypatch: pytest.MonkeyPatch, context: Mapping[str, Any]
    ) -> None:
        self.case, self.context, self.ti = case, context, context["ti"]
        self.ti.max_tries = case.options.get("retries", 0)
        is_one = "job_ids" not in GIVEN[case.task] and case.task is not TEMPLATE
        self.clock = patch_clock(monkeypatch, shared_with_control_hub=is_one)
        self._run_coroutine = self.clock.run
        monkeypatch.setattr(self.clock, "run", self._run_on_triggerer)
        monkeypatch.setattr("time.sleep", self._sleep)
        self.began, self.first_poke = self.clock.now, None
        self._at: float | None = None
        self.overriding_response: tuple[int, float] | None = None
        self.final_counts: dict[str, int] | None = {"inputCount": 9, "outputCount": 9, "errorCount": 0}
        self.actions: list[str] = []
        self.reads: dict[str, int] = {}
        self.lines: list[tuple[str, str]] = []
        self._lines_before_start = 0
        self.task: Any = None
        self._trigger: Any = None
        self._interruptions: list[tuple[float, Callable[[], None]]] = []
        self.counters: dict[str, Any] = {}
        self.hub: Any = CountingHub(http, self) if is_one else MultiJobHub(http, a=[None], b=[None])
        if is_one:
            http.get(re.compile("/recordCountsForAllRuns"), json=lambda *_: self._counts())
        else:
            self.hub.instance_scripts = [[activating()] for _ in range(8)]
            self.hub.after_stop = {name: [deactivating(), succeeded_run()] for name in NAMES}
            self.hub.after_force = {name: [succeeded_run()] for name in NAMES}
        http.get(COUNTERS, json=lambda *_: {"counters": self.counters, "meters": {}})
        http.add_matcher(self._answer)
        self._timeline = sorted(case.timeline, key=lambda moment: moment[0])
        self._catch_up()
        self._let_airflow_work(monkeypatch)

    def _let_airflow_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # An operator that does not wait takes deferrable=True only from here.
        monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
        if hasattr(airflow_2_sensors, "_orig_start_date"):
            # Airflow 2 asks its database when the first poke was, Airflow 3 the task instance.
            monkeypatch.delattr(type(self.ti), "get_first_reschedule_date")
            monkeypatch.setattr(airflow_2_sensors, "_orig_start_date", lambda **_: self._first_poke_date())
            monkeypatch.setattr(airflow_2_sensors, "_is_metadatabase_mysql", lambda: False)
        else:
            self.ti.get_first_reschedule_date = lambda _: self._first_poke_date()
        stored = type("XComs", (), {})()
        stored.set = lambda key, value, **_: self.ti.xcom_push(key, value)
        stored.get_one = lambda key, **_: self.ti.xcoms.get(key)
        monkeypatch.setattr(compat, "XCom", stored)

        async def is_still_deferred(_: Any) -> bool:
            return False

        monkeypatch.setattr(triggers, "is_still_deferred", is_still_deferred)

    def _first_poke_date(self) -> datetime | None:
        if self.first_poke is None:
            return None
        return datetime.now(timezone.utc) - timedelta(seconds=self.clock.now - self.first_poke)

    # Control Hub

    @property
    def current_time(self) -> float:
        """The time of Control Hub: that of what happens to the run, or now."""
        return self.clock.current_time if self._at is None else self._at

    def _catch_up(self) -> None:
        while self._timeline and self.began + self._timeline[0][0] <= self.clock.current_time:
            seconds, happens = self._timeline.pop(0)
            self._at = self.began + seconds
            happens(self)
        self._at = None

    def _counts(self) -> dict[str, Any]:
        if self.final_counts is None:
            return {}
        ended = [run for run in self.hub.runs if run["finishTime"]]
        return {
            str(run["runCount"]): {
                "runCount": run["runCount"],
                "stageErrorsCount": 0,
                "lastUpdatedOn": run["finishTime"] + 1000,
                **self.final_counts,
            }
            for run in ended
        }

    def _answer(self, request: Any) -> Any:
        self._catch_up()
        path = unquote(urlsplit(request.url).path)
        name = re.sub(r"/[\w-]+:org", "/*", path).partition("/rest/v1/")[2]
        if request.method == "GET" or name in {"jobs", "jobs/status", "sdcs"}:
            self.reads[name] = self.reads.get(name, 0) + 1
        else:
            ids = "" if "jobs/" in name else re.findall(r"[\w-]+:org", path)[-1]
            if "start" in name.lower():
                # The results of earlier runs are not compared.
                self._lines_before_start = len(self.lines)
            self.actions.append(f"{name.rpartition('/')[2]} {ids}{request.text or ''}")
        if self.overriding_response is None or self.current_time >= self.overriding_response[1]:
            return None
        return requests_mock.create_response(request, status_code=self.overriding_response[0], json={"ISSUES": []})

    # Airflow

    def make(self, **mode: Any) -> Any:
        """Make the task again, as each process does."""
        arguments = {**GIVEN[self.case.task], **self.case.options, **mode}
        self.task = self.case.task(task_id="task", **arguments)
        return self.task

    def _sleep(self, seconds: float) -> None:
        until = self.clock.now + seconds
        while self._interruptions and self._interruptions[0][0] <= until:
            at, interrupt = self._interruptions.pop(0)
            self.clock.sleep(max(at - self.clock.now, 0.0))
            interrupt()
        self.clock.sleep(max(until - self.clock.now, 0.0))

    def _run_on_triggerer(self, coroutine: Any) -> Any:
        killed_at = self._killed_at

        async def run() -> Any:
            wait = asyncio.ensure_future(coroutine)
            left = None if killed_at is None else killed_at - self.clock.current_time
            await asyncio.wait([wait], timeout=left)
            if wait.done():
                return wait.result()
            wait.cancel()
            await asyncio.wait([wait])
            await self._trigger.on_kill()
            raise KilledError

        return self._run_coroutine(run())

    @property
    def _killed_at(self) -> float | None:
        return None if self.case.killed_at is None or self.ti.try_number > 1 else self.began + self.case.killed_at

    def on_worker(self) -> Any:
        """Run an operator on a worker, where Airflow interrupts it."""
        task = self.make(deferrable=False)

        def time_out() -> None:
            raise AirflowTaskTimeout("Timeout")

        self._interruptions = []
        if self._killed_at is not None:
            self._interruptions.append((self._killed_at, task.on_kill))
        if task.execution_timeout:
            self._interruptions.append((self.clock.now + task.execution_timeout.total_seconds(), time_out))
        try:
            return task.execute(self.context)
        except AirflowTaskTimeout:
            task.on_kill()
            raise
        finally:
            self._interruptions = []

    def deferred(self) -> Any:
        """Run an operator that defers."""
        legs = TaskRunner(self.clock, self.make, self.context)
        triggers_of_legs = legs.triggers
        self._trigger = type("Latest", (), {"on_kill": lambda _: triggers_of_legs[-1].on_kill()})()
        return legs.run()

    def poke(self) -> Any:
        """Run a sensor that keeps its worker."""
        return self._on_worker_in_mode("poke")

    def _on_worker_in_mode(self, mode: str) -> Any:
        task = self.make(deferrable=False, mode=mode)

        def time_out() -> None:
            raise AirflowTaskTimeout("Timeout")

        if task.execution_timeout:
            self._interruptions = [(self.clock.now + task.execution_timeout.total_seconds(), time_out)]
        try:
            return task.execute(self.context)
        finally:
            self._interruptions = []

    def reschedule(self) -> Any:
        """Run a sensor that is on a worker for each poke."""
        began = self.clock.now
        while True:
            assert self.clock.now < began + 5000, "the sensor never ends"
            try:
                return self._on_worker_in_mode("reschedule")
            except Exception as error:
                if type(error).__name__ != "AirflowRescheduleException":
                    raise
                pause = (error.reschedule_date - datetime.now(timezone.utc)).total_seconds()  # type: ignore[attr-defined]
            self.first_poke = began
            self.clock.sleep(round(pause, 1))

    def triggered(self, *, starts: bool, ends: bool) -> Any:
        """Run a sensor that defers, and starts or ends in the triggerer."""
        make = functools.partial(
            self.make,
            **({"start_from_trigger": starts, "end_from_trigger": ends} if starts or ends else {}),
            deferrable=True,
        )
        sensor, limit = make(), None
        if starts:
            trigger, method = starting(sensor), "execute_complete"
            seconds = [sensor.start_trigger_args.timeout, sensor.execution_timeout]
            limit = datetime.fromtimestamp(self.clock.now, timezone.utc) + min(one for one in seconds if one)
        else:
            try:
                return sensor.execute(self.context)
            except TaskDeferred as deferral:
                trigger, method = deferral.trigger, deferral.method_name
        (event,) = events_of(self.clock, trigger, self.ti, limit)
        if state(event) == "resumed":
            return make().resume_execution(method, {"event": json.loads(json.dumps(event.payload))}, self.context)
        self.ti.xcoms.update(getattr(event, "xcoms", None) or {})
        raise EndedInTriggererError(state(event))

    # The account

    def run(self, mode: Callable[[ScenarioRun], Any]) -> ScenarioResult:
        """Run all tries of the task, and return what it has done."""
        with self._logged():
            while True:
                ends, message = self._try(mode)
                is_cleared = ends == "killed" and self.case.is_cleared and self.ti.try_number == 1
                self.ti.max_tries += is_cleared
                if not is_cleared and ends.split()[0] != "up_for_retry":
                    break
                # All modes begin their next try at the same time.
                self.ti.try_number += 1
                self.ti.xcoms.clear()
                self.clock.now, self.first_poke = self.began + 1000.0 * (self.ti.try_number - 1), None
        return ScenarioResult(
            ends=ends,
            message=message,
            took=self.clock.now - self.began,
            xcoms=json.loads(json.dumps(self.ti.xcoms)),
            log=list(self._summary()),
            actions=self.actions,
            reads=self.reads,
        )

    def _try(self, mode: Callable[[ScenarioRun], Any]) -> tuple[str, str]:
        can_retry = self.ti.try_number <= self.ti.max_tries
        killed_at = self._killed_at
        try:
            self._push(mode(self))
        except EndedInTriggererError as ended:
            ends = str(ended)
            return ("up_for_retry" if ends == "failed" and can_retry else ends), ""
        except KilledError:
            return "killed", ""
        except (Exception, AirflowTaskTimeout) as error:  # noqa: BLE001 - is what is compared
            if killed_at is not None and self.clock.now >= killed_at:
                return "killed", ""
            if isinstance(error, AirflowSkipException):
                # Airflow replaces the text of a skip when a task is resumed; the reason is in the log.
                return "skipped", ""
            text = "" if is_expected_difference(f"message of {type(error).__name__}") else str(error)
            self._log_error(text)
            fails_for_good = isinstance(error, (AirflowFailException, AirflowSensorTimeout)) or not can_retry
            return f"{'failed' if fails_for_good else 'up_for_retry'} {type(error).__name__}", text
        return "success", ""

    def _log_error(self, text: str) -> None:
        """Log the error that has ended the task, as Airflow does, unless the log says so already."""
        text = strip_expected_differences(text)
        if not any(text.removesuffix(".") in line for level, line in self.lines if level == "error"):
            self.lines.append(("error", text))

    def _push(self, result: Any) -> None:
        """Push what the task has returned to XCom as Airflow does."""
        if result is None or not self.task.do_xcom_push:
            return
        if self.task.multiple_outputs:
            self.ti.xcoms.update(result)
        self.ti.xcom_push("return_value", result)

    def _summary(self) -> Iterator[str]:
        """Yield each error and warning of the log once, and then the lines on how runs and the task have ended."""
        lines = [(level, text) for level, text in self.lines if not is_expected_difference(f"log {text}")]
        yield from dict.fromkeys(f"{level}: {text}" for level, text in lines if level in {"error", "warning"})
        since_start = [text for level, text in self.lines[self._lines_before_start :] if level == "info"]
        yield from sorted({text for text in since_start if _OUTCOME.search(text)})

    @contextlib.contextmanager
    def _logged(self) -> Iterator[None]:
        """Collect the log: Airflow 3 logs with structlog, Airflow 2 and the client with the standard library."""
        lines = self.lines

        class Collector(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if record.name.startswith("airflow_provider_streamsets") or "task" in record.name:
                    lines.append((record.levelname.lower(), strip_expected_differences(record.getMessage())))

        def collect(_: Any, method: str, event: dict[str, Any]) -> Any:
            level = "error" if method == "exception" else method
            lines.append((level, strip_expected_differences(str(event["event"]))))
            raise structlog.DropEvent

        handler = Collector()
        logging.getLogger().addHandler(handler)
        try:
            import structlog

            processors = structlog.get_config()["processors"]
        except ImportError:
            processors = []
        before, processors[:] = list(processors), [collect] if processors else []
        try:
            yield
        finally:
            processors[:] = before
            logging.getLogger().removeHandler(handler)


class EndedInTriggererError(Exception):
    """The task has ended in the triggerer; holds its state."""


OPERATOR_MODES: dict[str, Callable[[ScenarioRun], Any]] = {
    "worker": ScenarioRun.on_worker,
    "deferrable": ScenarioRun.deferred,
}
SENSOR_MODES: dict[str, Callable[[ScenarioRun], Any]] = {
    "poke": ScenarioRun.poke,
    "reschedule": ScenarioRun.reschedule,
    "deferrable": functools.partial(ScenarioRun.triggered, starts=False, ends=False),
    "ends in triggerer": functools.partial(ScenarioRun.triggered, starts=False, ends=True),
}
if CAN_START_FROM_TRIGGER:
    SENSOR_MODES["starts in triggerer"] = functools.partial(ScenarioRun.triggered, starts=True, ends=False)
    SENSOR_MODES["without worker"] = functools.partial(ScenarioRun.triggered, starts=True, ends=True)


def results_by_mode(
    case: Scenario, monkeypatch: pytest.MonkeyPatch, make_context: Callable[[], Any]
) -> dict[str, ScenarioResult]:
    """Return what a task has done in each of its modes."""
    accounts = {}
    for name, mode in (SENSOR_MODES if issubclass(case.task, BaseSensorOperator) else OPERATOR_MODES).items():
        if name == "reschedule" and "AirflowTaskTimeout" in case.ends:
            continue  # Between pokes, the time of Airflow's `execution_timeout` does not pass.
        with monkeypatch.context() as patch, requests_mock.Mocker() as http:
            accounts[name] = ScenarioRun(case, http, patch, make_context()).run(mode)
    return accounts


def is_expected_difference(what: str) -> bool:
    return any(re.search(pattern, what) for pattern in EXPECTED_DIFFERENCES)


def strip_expected_differences(text: str) -> str:
    """Return a text of the log without the parts that may differ."""
    parts = [pattern.removeprefix("text ") for pattern in EXPECTED_DIFFERENCES if pattern.startswith("text ")]
    return functools.reduce(lambda rest, part: re.sub(part, "", rest), parts, text)


def approximately_equal(one: Any, other: Any) -> bool:
    """Return whether two values are equal but for times, which depend on when a mode has polled."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(approximately_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(approximately_equal, one, other))
    with contextlib.suppress(AttributeError, TypeError, ValueError):
        # Python 3.10 does not read the time zone "Z".
        one, other = (datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp() for time in (one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= CLOCK_TOLERANCE
    return bool(one == other)


CLOCK_TOLERANCE = 90.0
"""Seconds of three polls, which must say that a job is gone."""


def _without_repeated_stops(actions: list[str]) -> list[str]:
    """Return actions without repeated stops: the resumed task repeats one that Control Hub rejected in the trigger."""
    return [action for n, action in enumerate(actions) if not (action.startswith("stop") and action in actions[:n])]


def differences(one: ScenarioResult, other: ScenarioResult) -> dict[str, Any]:
    """Return in what two accounts differ that must not."""
    found: dict[str, Any] = {}
    if " " in one.ends and " " not in other.ends:
        # Without an exception there is no message.
        one = replace(one, ends=one.ends.split()[0], message="")
    for name in ("ends", "message"):
        if getattr(one, name) != getattr(other, name):
            found[name] = (getattr(one, name), getattr(other, name))
    for name, lines, other_lines in (
        ("actions", _without_repeated_stops(one.actions), _without_repeated_stops(other.actions)),
        ("log", one.log, other.log),
    ):
        lines = list(difflib.ndiff(lines, other_lines))
        if changed := [line for line in lines if line[0] in "+-"]:
            found[name] = changed
    if not approximately_equal(one.took, other.took):
        found["took"] = (one.took, other.took)
    for key in one.xcoms.keys() | other.xcoms.keys():
        values = one.xcoms.get(key), other.xcoms.get(key)
        if not approximately_equal(*values) and not is_expected_difference(f"xcom {key}"):
            found[f"xcom {key}"] = values
    polls, other_polls = one.reads.get(_POLL, 0), other.reads.get(_POLL, 0)
    if max(polls, other_polls) > 2 * min(polls, other_polls) + 10:
        # Young runs are polled more often, except between two pokes of a rescheduled sensor.
        found["polls"] = (polls, other_polls)
    for name in one.reads.keys() ^ other.reads.keys():
        if not is_expected_difference(f"read {name}"):
            found[f"read {name}"] = (one.reads.get(name, 0), other.reads.get(name, 0))
    return found
