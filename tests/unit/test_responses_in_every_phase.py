"""Every kind of answer, in every phase of a task, in every mode that a task can wait in."""

from __future__ import annotations

import datetime
import functools
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
import requests
import requests_mock
from airflow.sensors import base

from airflow_provider_streamsets import compat
from airflow_provider_streamsets.compat import CAN_START_FROM_TRIGGER
from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubConfigurationError,
    ControlHubMetricsUnavailableError,
    ControlHubNotFoundError,
    ControlHubPermissionError,
    ControlHubRejectedError,
    ControlHubRunLostError,
    ControlHubUnexpectedResponseError,
)
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from airflow_provider_streamsets.sensors.runs import ControlHubJobRunSensor
from airflow_provider_streamsets.triggers.sensors import ControlHubJobRunSensorTrigger
from tests.unit.fakes.simulated_hub import OTHER_USER, SimulatedHub
from tests.unit.fakes.single_job_hub import JOB_ID, JOB_NAME
from tests.unit.fakes.task_runner import Clock, TaskRunner, collect_events, patch_clock

pytestmark = pytest.mark.usefixtures("connection")

IN_TRIGGERER = pytest.mark.skipif(not CAN_START_FROM_TRIGGER, reason="this Airflow starts no tasks in the triggerer")
ALWAYS = 1e9
CONFIRM_TIMEOUT = 300.0  # The default of `credential_grace_period`.
RUN_TAKES = 1000.0


@dataclass(frozen=True)
class FaultResponse:
    """A kind of answer: what comes instead of Control Hub's own."""

    status: int = 200
    text: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    error: Exception | None = None
    seconds: float | None = None
    """Duration of the fault; None is the duration of the phase."""
    most: int = 10**9
    """Maximum number of affected requests."""
    is_decision: bool = False
    """Whether it is Control Hub's own word about the job, so that other requests are answered as usual."""
    in_find: type[Exception] | None = None
    """The error where nothing has been accepted yet."""
    in_start: type[Exception] | None = None
    """The error when the start call gets this response."""
    never_acts: bool = False
    """Whether the request cannot have had its effect."""

    def of(self, request: Any) -> requests.Response:
        if self.error is not None:
            raise self.error
        return requests_mock.create_response(
            request, status_code=self.status, text=self.text, headers=dict(self.headers)
        )


PAGE = "<html><title>default backend</title></html>"
HTML = (("Content-Type", "text/html"),)
LOGIN = (("Location", "https://login.example.com/sso"),)


def issues(code: str | None) -> str:
    return json.dumps({"ISSUES": [{"code": code, "message": "said by Control Hub"}]})


def refusal(**how: Any) -> FaultResponse:
    return FaultResponse(401, issues("SSO_01"), in_find=ControlHubAuthenticationError, never_acts=True, **how)


TRANSIENT = {
    **{f"html {status}": FaultResponse(status, PAGE, HTML) for status in (400, 403, 404, 410, 502, 503)},
    "html 407": FaultResponse(407, PAGE, HTML, in_find=ControlHubConfigurationError, never_acts=True),
    "json 404": FaultResponse(404, '{"message": "no Route matched"}'),
    # Control Hub itself may accept a start like that, so that call is not repeated.
    "empty 200": FaultResponse(in_start=ControlHubUnexpectedResponseError),
    "html 200": FaultResponse(200, PAGE, HTML, in_find=ControlHubUnexpectedResponseError),
    "login page": FaultResponse(302, headers=LOGIN, in_find=ControlHubUnexpectedResponseError, never_acts=True),
    "one 401": refusal(most=1),
    "100 s of 401": refusal(seconds=100.0),
    "reset": FaultResponse(error=requests.exceptions.ConnectionError("connection reset")),
    "timeout": FaultResponse(error=requests.exceptions.ReadTimeout("timed out")),
    "429": FaultResponse(429, issues(None), (("Retry-After", "7"),), never_acts=True),
    # With a code, a 500 is Control Hub's own refusal of what was asked, if it had no effect.
    "500 with code": FaultResponse(
        500, issues("JOBRUNNER_99"), in_find=ControlHubRejectedError, in_start=ControlHubRejectedError
    ),
}
FINAL = {
    "job 404": FaultResponse(404, issues("JOBRUNNER_1"), is_decision=True, in_find=ControlHubNotFoundError),
    "job 403": FaultResponse(403, issues("JOBRUNNER_1"), is_decision=True, in_find=ControlHubNotFoundError),
    "401 for good": refusal(seconds=ALWAYS),
}


class FaultInjector:
    """
    Comes between a task and Control Hub: from some request on, for some time, other answers come.

    :param http: the mocker, which Control Hub answers through, too
    :param answer: what comes
    :param begins: whether a request is the first that gets the response
    :param seconds: for how long it comes
    """

    def __init__(
        self,
        http: Any,
        clock: Clock,
        hub: SimulatedHub,
        answer: FaultResponse,
        begins: Callable[[Any], bool],
        seconds: float,
    ) -> None:
        self._clock, self._hub, self._answer, self._begins = clock, hub, answer, begins
        self._seconds = seconds if answer.seconds is None else answer.seconds
        self.acts = False
        """Whether a start call has its effect although the answer does not say so."""
        self.began: float | None = None
        self.met = 0
        """To how many requests it has come."""
        self.stops: list[float] = []
        """Times of the stop requests."""
        http.add_matcher(self)

    def __call__(self, request: Any) -> requests.Response | None:
        now = self._clock.current_time
        if "stop" in request.path.lower():
            self.stops.append(now)
        if self.began is None and self._begins(request):
            self.began = now
        if self.began is None or now >= self.began + self._seconds or self.met >= self._answer.most:
            return None
        if self._answer.is_decision and request.path.endswith("/currentuser"):
            return None
        self.met += 1
        if self._answer.is_decision and request.path.endswith("/rest/v1/jobs"):
            return requests_mock.create_response(request, json=[])
        if self.acts and is_start(request):
            self.acts = False
            self._hub.calls.append("start")
            self._hub.start()
        return self._answer.of(request)


def is_start(request: Any) -> bool:
    return bool(request.path.endswith("/start"))


def is_poll(request: Any) -> bool:
    return bool(request.path.endswith("/jobs/status"))


PHASES: dict[str, tuple[float, Callable[[Any, float], bool]]] = {
    # Before the task waits, a few attempts of the client are all that it has.
    "find": (8.0, lambda request, age: True),
    "start": (10.0, lambda request, age: is_start(request)),
    "start, answer lost": (10.0, lambda request, age: is_start(request)),
    "just after": (95.0, lambda request, age: is_poll(request)),
    "wait": (95.0, lambda request, age: is_poll(request) and age > 500),
    "end": (95.0, lambda request, age: request.path.endswith("/jobstatushistory")),
    "metrics": (95.0, lambda request, age: "/metrics/" in request.path),
}
"""The phases: for how long answers come, and with which request they begin, given the age of the run."""


class Scenario:
    """One task, its job and the clock of both."""

    def __init__(self, http: Any, monkeypatch: pytest.MonkeyPatch, context: Any) -> None:
        self.http, self.context, self._monkeypatch = http, context, monkeypatch
        self.clock = patch_clock(monkeypatch)
        monkeypatch.setattr(
            "airflow_provider_streamsets.control_hub.submission.wall_clock", lambda: self.clock.current_time
        )
        self.first_poke: datetime.datetime | None = None
        if hasattr(base, "_orig_start_date"):
            # Airflow 2 asks its database when the first poke was, Airflow 3 the task instance.
            monkeypatch.delattr(type(context["ti"]), "get_first_reschedule_date")
            monkeypatch.setattr(base, "_orig_start_date", lambda **_: self.first_poke)
            monkeypatch.setattr(base, "_is_metadatabase_mysql", lambda: False)
        else:
            context["ti"].get_first_reschedule_date = lambda _: self.first_poke
        self.hub = SimulatedHub(http, self.clock)
        self.hub.run_duration = RUN_TAKES
        http.get(re.compile("/recordCountsForAllRuns"), json=lambda *_: self._counts())

    def _counts(self) -> dict[str, Any]:
        finished = self.hub.runs[-1]["finishTime"]
        entry = {"inputCount": 9, "outputCount": 9, "errorCount": 0, "stageErrorsCount": 0}
        return {"0": {**entry, "lastUpdatedOn": finished + 1000}} if finished else {}

    def let(self, answer: FaultResponse, phase: str) -> FaultInjector:
        """Let an answer come in a phase."""
        seconds, begins = PHASES[phase]

        def begin(request: Any) -> bool:
            age = self.clock.current_time - self.hub.runs[-1]["startTime"] / 1000 if self.hub.runs else 0.0
            return begins(request, age)

        if answer in FINAL.values():
            seconds = ALWAYS
        self.faults = FaultInjector(self.http, self.clock, self.hub, answer, begin, seconds)
        self.faults.acts = phase == "start, answer lost"
        return self.faults

    def operator(self, *, deferrable: bool, expects: bool) -> Any:
        expect = {"expect": ["output_count >= 9"], "metrics_timeout": 120} if expects else {"metrics_timeout": 10}

        def task() -> ControlHubRunJobOperator:
            return ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, deferrable=deferrable, **expect)

        return TaskRunner(self.clock, task, self.context).run()

    def reschedule(self, *, expects: bool) -> Any:
        self.hub.start(OTHER_USER)
        for _ in range(200):
            try:
                return ControlHubJobRunSensor(task_id="wait", job_id=JOB_ID, mode="reschedule").execute(self.context)
            except Exception as error:
                if type(error).__name__ != "AirflowRescheduleException":
                    raise
            self.first_poke = self.first_poke or datetime.datetime.now(datetime.timezone.utc)
            self.clock.sleep(30.0)
        raise AssertionError("the sensor never ends")

    def without_worker(self, *, expects: bool, pinned: bool = False) -> Any:
        self.hub.start(OTHER_USER)
        run = {"job_id": JOB_ID, "job_name": JOB_NAME, "run_count": 1, "try_number": self.context["ti"].try_number}
        xcoms: dict[str, Any] = {"streamsets_run": run} if pinned else {}
        place = mock.Mock(
            set=lambda key, value, **_: xcoms.update({key: value}), get_one=lambda key, **_: xcoms.get(key)
        )
        self._monkeypatch.setattr(compat, "XCom", place)
        sensor = ControlHubJobRunSensor(task_id="wait", job_id=JOB_ID, start_from_trigger=True, end_from_trigger=True)
        trigger = ControlHubJobRunSensorTrigger(**sensor.start_trigger_args.trigger_kwargs)
        trigger._task_instance = self.context["ti"]
        errors: list[Exception] = []
        failure = trigger.failure
        self._monkeypatch.setattr(trigger, "failure", lambda error: errors.append(error) or failure(error))
        collect_events(self.clock, trigger)
        if errors:
            raise errors[0]
        return xcoms["return_value"]


OPERATOR_MODES: dict[str, Callable[..., Any]] = {
    "worker": functools.partial(Scenario.operator, deferrable=False),
    "deferred": functools.partial(Scenario.operator, deferrable=True),
}
SENSOR_MODES: dict[str, Callable[..., Any]] = {"reschedule": Scenario.reschedule, "no worker": Scenario.without_worker}
MODES = {**OPERATOR_MODES, **SENSOR_MODES}


def cells(kinds: dict[str, FaultResponse]) -> Iterator[Any]:
    """Yield kind, phase and mode of all cells that there can be."""
    for kind, phase, mode in itertools.product(kinds, PHASES, MODES):
        if phase.startswith("start") and mode in SENSOR_MODES:
            continue  # A sensor starts nothing.
        if phase == "start, answer lost" and (kinds is FINAL or kinds[kind].never_acts):
            continue  # Who answers like this has not let the call through.
        marks = [IN_TRIGGERER] if mode == "no worker" else []
        yield pytest.param(kind, phase, mode, id=f"{kind}-{phase}-{mode}", marks=marks)


@pytest.fixture
def scene(http: Any, monkeypatch: pytest.MonkeyPatch, context: Any) -> Scenario:
    return Scenario(http, monkeypatch, context)


@pytest.mark.parametrize(("kind", "phase", "mode"), cells(TRANSIENT))
def test_transient_response_stops_no_run(scene, task_log, kind, phase, mode):
    answer = TRANSIENT[kind]
    faults = scene.let(answer, phase)
    error = answer.in_find if phase == "find" else answer.in_start if phase == "start" else None
    if answer.status == 401 and mode == "no worker":
        error = None  # The triggerer confirms every refusal.
    if error is not None:
        with pytest.raises(error):
            MODES[mode](scene, expects=False)
    else:
        result = MODES[mode](scene, expects=phase == "metrics")
        assert (result["run_count"], result["outcome"]) == (1, "SUCCEEDED")
    assert faults.met
    assert faults.stops == []
    assert scene.hub.calls == (["start"] if mode in OPERATOR_MODES and error is None else [])
    assert "does not exist any more" not in task_log()


@IN_TRIGGERER
@pytest.mark.parametrize("kind", TRANSIENT)
def test_other_triggerer_tolerates_transient_response(scene, kind):
    faults = scene.let(TRANSIENT[kind], "find")
    assert scene.without_worker(expects=False, pinned=True)["outcome"] == "SUCCEEDED"
    assert faults.met


@pytest.mark.parametrize("kind", TRANSIENT)
def test_rescheduled_sensor_without_store_tolerates_response(scene, kind):
    """Before Airflow 3.3, each poke finds the job again."""
    del scene.context["task_state_store"]
    faults = scene.let(TRANSIENT[kind], "wait")
    assert scene.reschedule(expects=False)["outcome"] == "SUCCEEDED"
    assert faults.met


EXPECTED_ERRORS: dict[str, dict[str, type[Exception] | None]] = {
    "job 404": {
        "find": ControlHubNotFoundError,
        "start": ControlHubNotFoundError,
        "just after": ControlHubRunLostError,
        "wait": ControlHubRunLostError,
        # Of a run that has ended well, Control Hub may have deleted all else; only conditions need metrics.
        "end": None,
        "metrics": ControlHubMetricsUnavailableError,
    },
    "401 for good": {
        **dict.fromkeys(PHASES, ControlHubAuthenticationError),
        "metrics": ControlHubMetricsUnavailableError,
    },
}
EXPECTED_ERRORS["job 403"] = {**EXPECTED_ERRORS["job 404"], "start": ControlHubPermissionError}


@pytest.mark.parametrize(("kind", "phase", "mode"), cells(FINAL))
def test_final_response_raises_public_error(scene, kind, phase, mode):
    faults = scene.let(FINAL[kind], phase)
    expects = phase == "metrics"
    error = None if expects and mode in SENSOR_MODES else EXPECTED_ERRORS[kind][phase]
    if error is None:
        assert MODES[mode](scene, expects=expects)["outcome"] == "SUCCEEDED"
    else:
        with pytest.raises(error):
            MODES[mode](scene, expects=expects)
    assert faults.met
    if kind == "401 for good":
        assert all(when >= faults.began + CONFIRM_TIMEOUT for when in faults.stops)
    else:
        assert faults.stops == []
    assert scene.hub.calls == (["start"] if mode in OPERATOR_MODES and phase not in {"find", "start"} else [])
