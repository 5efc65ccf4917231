"""Waits with arbitrary responses: no success that Control Hub did not report, no end because of a temporary error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests_mock
from airflow.providers.common.compat.sdk import AirflowException
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub import ControlHubClient, ControlHubError
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.models import JobRun, Outcome, RunRef
from airflow_provider_streamsets.control_hub.tracking.conditions import parse_conditions
from airflow_provider_streamsets.control_hub.tracking.metric import MetricResult, MetricTracker
from airflow_provider_streamsets.control_hub.tracking.report import RunReport
from airflow_provider_streamsets.control_hub.tracking.run import RunTracker
from airflow_provider_streamsets.control_hub.tracking.run_group import RunGroup
from airflow_provider_streamsets.control_hub.tracking.wait import wait_for_runs
from tests.unit.conftest import StateStore, TaskInstance
from tests.unit.fakes.api_payloads import (
    CREDENTIAL_ID,
    HUB,
    JOB_ID,
    TOKEN,
    VirtualClock,
    run_json,
    succeeded,
)
from tests.unit.fakes.malformed_responses import RESPONSES, UNUSABLE, VALID, FakeResponse, serve
from tests.unit.fakes.waits import wait_with_tracker

RUN_COUNT = 2


@pytest.fixture(scope="module")
def http() -> Iterator[requests_mock.Mocker]:
    with requests_mock.Mocker() as mocker:
        yield mocker


def _client(clock: VirtualClock) -> ControlHubClient:
    return ControlHubClient(HUB, CREDENTIAL_ID, TOKEN, sleep=clock.sleep, max_attempts=1)


def _follow(clock: VirtualClock) -> RunReport:
    with _client(clock) as client:
        tracker = RunTracker(client, JOB_ID, RUN_COUNT, now=clock.now)
        return wait_with_tracker(tracker, Deadline(1200, sleep=clock.sleep, now=clock.now), poll_interval=60)


def _follow_group(clock: VirtualClock) -> RunReport:
    with _client(clock) as client:
        group = RunGroup(client, [RunRef(JOB_ID, RUN_COUNT)], now=clock.now)
        wait_for_runs(group, Deadline(1200, sleep=clock.sleep, now=clock.now), poll_interval=60)
        if group.unresolved:
            raise group.unresolved[JOB_ID]
        return group.reports[JOB_ID]


def _follow_metrics(clock: VirtualClock) -> MetricResult:
    with _client(clock) as client:
        conditions = parse_conditions(["output_count > 5", "stage.Trash_01.inputRecords.counter > 1"])
        tracker = MetricTracker(client, JOB_ID, RUN_COUNT, conditions, join="any", now=clock.now)
        while clock.now() < 2200:
            metric_result = tracker.poll()
            if metric_result is not None:
                return metric_result
            clock.sleep(tracker.next_delay(60))
        raise tracker.timed_out(1200)


WAITS: dict[str, Callable[[VirtualClock], RunReport]] = {"one run": _follow, "a group": _follow_group}


class _SentResponses:
    """
    Records the sent bodies and whether any of them reported success.

    :param run_count: the run
    """

    def __init__(self, run_count: int = RUN_COUNT) -> None:
        self._run_count = run_count
        self.bodies: list[bytes] = []

    def of(self, answer: FakeResponse) -> FakeResponse:
        def body(right: Any) -> bytes:
            self.bodies.append(answer.body(right))
            return self.bodies[-1]

        return FakeResponse(body, answer.name, answer.status, answer.content_type)

    @property
    def success(self) -> bool:
        return any(_reports_success(entry, self._run_count) for b in self.bodies for entry in _objects(_parsed(b)))


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield value
            left += value.values()
        elif isinstance(value, list):
            left += value


def _reports_success(entry: dict[str, Any], run_count: int) -> bool:
    return (
        entry.get("status") == "INACTIVE"
        and entry.get("color") != "RED"
        and entry.get("runCount") == run_count
        and (not entry.get("jobId") or entry.get("jobId") == JOB_ID)
    )


def _active(**fields: Any) -> FakeResponse:
    """Return a valid response, except that the run is active or has other fields."""

    def body(right: Any) -> bytes:
        text = json.dumps(right)
        for name, value in {"status": "ACTIVE", **fields}.items():
            for old in (succeeded(RUN_COUNT)[name], succeeded(1)[name]):
                text = text.replace(f'"{name}": {json.dumps(old)}', f'"{name}": {json.dumps(value)}')
        return text.encode()

    return FakeResponse(body, f"an active run, with {fields}")


_NO_SUCCESS = st.sampled_from(
    [
        _active(),
        _active(status="SOMETHING_NEW"),
        _active(status="inactive"),
        _active(status=None),
        _active(status=["INACTIVE"]),
        _active(status="INACTIVE", color="RED"),
        _active(status="INACTIVE", runCount=RUN_COUNT - 1),
        _active(status="INACTIVE", runCount=RUN_COUNT + 1),
        _active(status="INACTIVE", runCount=None),
        _active(status="INACTIVE", runCount=str(RUN_COUNT)),
        _active(status="INACTIVE", runCount=RUN_COUNT + 0.5),
        _active(status="INACTIVE", runCount=True),
        _active(status="INACTIVE", jobId="another:org"),
        _active(status="INACTIVE_ERROR", color="GRAY"),
        _active(status="ACTIVATION_ERROR", color="GREEN"),
    ]
)


@pytest.mark.parametrize("how", WAITS)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.lists(RESPONSES | _NO_SUCCESS, min_size=1, max_size=6), last=RESPONSES | _NO_SUCCESS)
def test_success_requires_status_of_that_run(http, how, answers, last):
    recorder = _SentResponses()
    serve(http, [recorder.of(answer) for answer in (*answers, last)])
    try:
        report = WAITS[how](VirtualClock())
    except ControlHubError:
        return
    assert report.run.run_count == RUN_COUNT
    assert report.run.has_ended
    assert report.outcome is not Outcome.SUCCEEDED or recorder.success
    assert RunReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report
    report.details().encode()


@pytest.mark.parametrize("how", WAITS)
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=_NO_SUCCESS)
def test_run_without_success_status_never_succeeds(http, how, answer):
    serve(http, [answer])
    try:
        report = WAITS[how](VirtualClock())
    except ControlHubError:
        return
    assert report.outcome is Outcome.FAILED


@pytest.mark.parametrize("how", WAITS)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([FakeResponse(lambda _: b"[]", "an empty list")] * 8)
@given(st.lists(UNUSABLE, max_size=8))
def test_unusable_responses_are_tolerated(http, how, answers):
    serve(http, [*answers, VALID])
    assert WAITS[how](VirtualClock()).outcome is Outcome.SUCCEEDED


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.lists(RESPONSES | _NO_SUCCESS, min_size=1, max_size=6), last=RESPONSES | _NO_SUCCESS)
def test_metric_wait_yields_result_or_known_error(http, answers, last):
    serve(http, [*answers, last])
    try:
        metric_result = _follow_metrics(VirtualClock())
    except ControlHubError:
        return
    assert MetricResult.from_dict(json.loads(json.dumps(metric_result.to_dict()))) == metric_result
    assert not metric_result.satisfied or any(value is not None for value in metric_result.values.values())


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(UNUSABLE, max_size=8))
def test_metric_wait_tolerates_unusable_responses(http, answers):
    serve(http, [*answers, VALID])
    assert _follow_metrics(VirtualClock()).satisfied


def test_status_of_other_job_is_logged_and_ignored(http, caplog):
    serve(http, [_active(status="INACTIVE", jobId="another:org"), VALID])
    assert _follow(VirtualClock()).outcome is Outcome.SUCCEEDED
    assert f"Job {JOB_ID}: Control Hub returned the status of job another:org instead" in caplog.text


def test_metrics_of_other_job_are_not_evaluated(clock):
    with _client(clock) as client:
        tracker = MetricTracker(client, JOB_ID, RUN_COUNT, parse_conditions(["output_count > 5"]), now=clock.now)
        status = run_json(RUN_COUNT, jobId="another:org", outputRecordCount=100, lastReportedMetricTime=1)
        assert tracker.observe(JobRun.from_wire(status)) is False


def _run_job() -> dict[str, Any]:
    from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator

    operator = ControlHubRunJobOperator(
        task_id="run", job_id=JOB_ID, poll_interval=60, wait_timeout=900, retries=0, deferrable=False
    )
    return operator.execute({"ti": TaskInstance(), "task_state_store": StateStore()})


@pytest.fixture
def airflow_connection(monkeypatch):
    fields = {"conn_type": "streamsets", "host": HUB, "login": CREDENTIAL_ID, "password": TOKEN}
    monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", json.dumps(fields))


@pytest.mark.usefixtures("airflow_connection")
def test_task_succeeds_with_valid_responses(http, sleep_calls):
    serve(http, [VALID])
    result = _run_job()
    assert (result["outcome"], result["run_count"]) == ("SUCCEEDED", 3)


@pytest.mark.usefixtures("airflow_connection")
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.integers(0, 5), answers=st.lists(RESPONSES, min_size=1, max_size=4), last=RESPONSES | st.just(VALID))
def test_task_success_requires_success_status(http, sleep_calls, before, answers, last):
    sleep_calls.clear()
    recorders = [_SentResponses(run_count) for run_count in range(1, 5)]
    sent = [VALID] * before + answers + [last]
    for each in recorders:
        sent = [each.of(answer) for answer in sent]
    serve(http, sent)
    try:
        result = _run_job()
    except (ControlHubError, AirflowException):
        return
    assert result["outcome"] == "SUCCEEDED"
    assert recorders[result["run_count"] - 1].success
    assert result["run_count"] > 2
