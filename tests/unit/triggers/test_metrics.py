from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_streamsets.control_hub import errors
from airflow_provider_streamsets.polling import connections
from airflow_provider_streamsets.triggers.events import MetricWaitEvent
from airflow_provider_streamsets.triggers.sensors import ControlHubJobMetricSensorTrigger
from tests.unit.conftest import TOKEN
from tests.unit.fakes.single_job_hub import (
    HUB,
    JOB_ID,
    LONG_AGO,
    T0,
    SingleJobHub,
    counts_json,
    failed,
    run_json,
    succeeded,
)
from tests.unit.fakes.virtual_time import VirtualLoop, run_in_virtual_time, run_on_loop

pytestmark = pytest.mark.usefixtures("connection")

STATUS = f"{HUB}/jobrunner/rest/v1/jobs/status"
COUNTS = f"{HUB}/timeseries/rest/v1/metrics/job/{JOB_ID}/recordCountsForAllRuns"
THOUSAND_OUT = ["output_count >= 1000"]
TEN_STAGE_ERRORS = [{"metric": "stage_errors_count", "comparison": ">=", "threshold": 10}]


@pytest.fixture(autouse=True)
def read_connection_inline(monkeypatch):
    """Airflow reads connections in threads of its own, which virtual time does not wait for."""

    async def read(conn_id: str) -> tuple[Any, dict[str, Any]]:
        connection = BaseHook.get_connection(conn_id)
        return connection, connection.extra_dejson

    monkeypatch.setattr(connections, "get_connection_and_extra", read)


def active_run(output: int) -> dict[str, Any]:
    return run_json(4, outputRecordCount=output, lastReportedMetricTime=T0 + 1)


def trigger(**arguments: Any) -> ControlHubJobMetricSensorTrigger:
    defaults = {"job_id": JOB_ID, "job_name": "Orders", "run_count": 4, "expect": THOUSAND_OUT}
    return ControlHubJobMetricSensorTrigger(**{**defaults, **arguments})


async def collect_events(trigger: ControlHubJobMetricSensorTrigger) -> list[Any]:
    return [event.payload async for event in trigger.run()]


def single_event(trigger: ControlHubJobMetricSensorTrigger) -> MetricWaitEvent:
    """Run a trigger on virtual time; it must yield exactly one event, which survives being stored as JSON."""
    (payload,) = run_in_virtual_time(collect_events(trigger))
    return MetricWaitEvent.from_payload(json.loads(json.dumps(payload)))


def test_status_metrics_need_no_other_request(http):
    hub = SingleJobHub(http, latest=active_run(10), script=[active_run(10), active_run(999), active_run(1500)])
    event = single_event(trigger())
    assert event.metric_result is not None
    assert (event.metric_result.satisfied, event.metric_result.values) == (True, {"output_count": 1500})
    assert hub.polls == 3
    assert {request.path for request in http.request_history} == {"/jobrunner/rest/v1/jobs/status"}


def test_other_metrics_are_read_at_each_poll(http):
    hub = SingleJobHub(http, latest=run_json(4, startTime=LONG_AGO))
    http.get(COUNTS, [{"json": {}}, *({"json": counts_json(4, stageErrorsCount=n)} for n in (2, 10))])
    event = single_event(trigger(expect=TEN_STAGE_ERRORS))
    assert event.metric_result is not None
    assert event.metric_result.to_result()["values"] == {"stage_errors_count": 10}
    assert hub.polls == 3
    assert sum(request.url.startswith(COUNTS) for request in http.request_history) == 3


def test_unsaved_value_satisfies_nothing(http):
    SingleJobHub(http, latest=run_json(4), script=[run_json(4), active_run(0)])
    event = single_event(trigger(expect=["output_count < 5"]))
    assert event.metric_result is not None
    assert event.metric_result.values == {"output_count": 0}


def test_trigger_survives_serialization(http):
    SingleJobHub(http, latest=active_run(1000))
    path, arguments = trigger(timeout=60, deadline=99999.0, join="any", on_run_end="skip").serialize()
    assert path == "airflow_provider_streamsets.triggers.sensors.ControlHubJobMetricSensorTrigger"
    again = ControlHubJobMetricSensorTrigger(**json.loads(json.dumps(arguments)))
    assert again.serialize() == (path, arguments)
    assert single_event(again).metric_result is not None


def test_trigger_of_other_version_can_be_created():
    assert ControlHubJobMetricSensorTrigger().serialize()[1]["control_hub_conn_id"] == "streamsets_default"


@pytest.mark.parametrize(
    "nonsense",
    [
        {"expect": ()},
        {"expect": None},
        {"expect": [{"metric": []}]},
        {"expect": ["nothing > 5"]},
        {"poll_interval": "often"},
        {"deadline": "soon"},
        {"control_hub_conn_id": "nowhere"},
        {"run_count": "four"},
    ],
    ids=str,
)
def test_invalid_arguments_become_error_event(nonsense, http):
    SingleJobHub(http, latest=succeeded(4))
    (payload,) = run_in_virtual_time(collect_events(trigger(**nonsense)))
    assert "error" in payload


def test_run_end_is_evaluated_by_final_metrics(http):
    SingleJobHub(
        http, latest=active_run(10), script=[active_run(10), failed(4)], counts=counts_json(4, outputCount=900)
    )
    event = single_event(trigger(on_run_end="evaluate"))
    assert event.metric_result is not None
    assert (event.metric_result.satisfied, event.metric_result.run_ended, event.metric_result.color) == (
        False,
        True,
        "RED",
    )
    assert "output_count >= 1000 (not satisfied: 900)" in event.metric_result.message
    assert "JDBC_00" in event.metric_result.message


def test_long_outage_does_not_end_wait(http):
    hub = SingleJobHub(http, latest=run_json(4))
    outage = [
        {"exc": requests.exceptions.ConnectTimeout},
        {"status_code": 503},
        {"text": "<html>"},
        {"status_code": 429},
    ]
    http.post(STATUS, [*outage * 50, {"json": lambda *_: {JOB_ID: hub._poll()}}])
    http.get(COUNTS, [*outage * 50, {"json": counts_json(4, stageErrorsCount=10)}])
    assert single_event(trigger(expect=TEN_STAGE_ERRORS)).metric_result is not None


@pytest.mark.parametrize("refusing", ["status", "counts"])
def test_refused_credential_ends_wait_with_error(refusing, http):
    SingleJobHub(http, latest=run_json(4))
    refusal = {"status_code": 401, "json": {"ISSUES": [{"code": "SSO_01", "message": f"not authenticated: {TOKEN}"}]}}
    if refusing == "status":
        http.post(STATUS, **refusal)
    else:
        http.get(COUNTS, **refusal)
    event = single_event(trigger(expect=TEN_STAGE_ERRORS))
    assert isinstance(event.error, errors.ControlHubAuthenticationError)
    assert "SSO_01" in str(event.error)


def test_deadline_ends_wait_with_last_values(http):
    SingleJobHub(http, latest=active_run(5))
    event = single_event(trigger(poll_interval=3600, timeout=100, deadline=1100.0))
    assert isinstance(event.error, errors.ControlHubRunTimeoutError)
    assert "did not satisfy output_count >= 1000 within 100 s" in str(event.error)
    assert "(not satisfied: 5)" in str(event.error)


def test_condition_met_after_last_poll_beats_deadline(http):
    SingleJobHub(http, latest=active_run(5), script=[active_run(5), active_run(1000)])
    event = single_event(trigger(poll_interval=3600, timeout=100, deadline=1100.0))
    assert event.metric_result is not None
    assert event.metric_result.satisfied


def test_deadline_decides_by_metrics_of_ended_run(http):
    counts = counts_json(4, outputCount=1200, saved_after=30)
    SingleJobHub(http, latest=succeeded(4), counts=counts)
    event = single_event(trigger(metrics_timeout=3600, timeout=100, deadline=1100.0))
    assert event.metric_result is not None
    assert event.metric_result.satisfied


def test_unreadable_metrics_are_awaited_until_deadline(http):
    SingleJobHub(http, latest=succeeded(4))
    http.get(COUNTS, status_code=503)
    event = single_event(trigger(metrics_timeout=10, timeout=1000, deadline=2000.0))
    assert isinstance(event.error, errors.ControlHubRunTimeoutError)
    assert str(event.error).startswith("Could not read the metrics of job ")
    assert "within 1000 s. The run has ended." in str(event.error)


def test_deadline_is_absolute_across_restarts(http):
    SingleJobHub(http, latest=active_run(5))
    event = single_event(trigger(timeout=100, deadline=500.0))
    assert isinstance(event.error, errors.ControlHubRunTimeoutError)


def test_restart_ends_wait_for_previous_run(http):
    hub = SingleJobHub(http, latest=run_json(6), counts=counts_json(6, outputCount=1200))
    hub.history = [run_json(6), succeeded(5), failed(4)]
    event = single_event(trigger())
    assert event.metric_result is not None
    assert (event.metric_result.satisfied, event.metric_result.run_ended, event.metric_result.color) == (
        True,
        True,
        "RED",
    )


def test_immediate_event_respects_min_deferral(http):
    SingleJobHub(http, latest=active_run(1000))

    async def scene() -> float:
        now = asyncio.get_running_loop().time
        began = now()
        await collect_events(trigger())
        return now() - began

    assert 5 < run_in_virtual_time(scene()) < 10


def test_triggers_of_one_connection_share_status_requests(http):
    http.post(
        STATUS,
        json=lambda request, _: {
            job_id: {**active_run(5), "jobId": job_id, "startTime": LONG_AGO} for job_id in request.json()
        },
    )

    async def scene() -> list[list[Any]]:
        triggers = [trigger(job_id=f"{n}:org", timeout=290, deadline=1290.0) for n in range(50)]
        return await asyncio.gather(*map(collect_events, triggers))

    assert all(len(events) == 1 for events in run_in_virtual_time(scene()))
    bulk = [request for request in http.request_history if len(request.json()) == 50]
    assert len(bulk) == 10


def test_concurrent_metric_reads_are_limited(http):
    http.post(STATUS, json=lambda request, _: {job_id: {**run_json(4), "jobId": job_id} for job_id in request.json()})
    for n in range(50):
        url = f"{HUB}/timeseries/rest/v1/metrics/job/{n}:org/recordCountsForAllRuns"
        http.get(url, json=counts_json(4, stageErrorsCount=10))

    async def scene() -> list[list[Any]]:
        triggers = [trigger(job_id=f"{n}:org", expect=TEN_STAGE_ERRORS) for n in range(50)]
        return await asyncio.gather(*map(collect_events, triggers))

    loop = VirtualLoop(thread_latency=0.5)
    assert all(events[0]["metric_result"]["satisfied"] for events in run_on_loop(loop, scene()))
    assert loop.max_concurrent_threads == 8 + 1, "and the thread of the feed"


def test_events_and_arguments_hold_no_token(http):
    http.post(STATUS, status_code=401, json={"ISSUES": [{"message": f"bad token {TOKEN}"}]})
    task = trigger()
    stored = json.dumps([task.serialize(), run_in_virtual_time(collect_events(task))])
    assert TOKEN not in stored


def test_kill_stops_nothing(http):
    hub = SingleJobHub(http, latest=active_run(5))
    run_in_virtual_time(trigger().on_kill())
    assert hub.stops == []


def _payload(**changes: Any) -> dict[str, Any]:
    metric_result = {
        "job_id": JOB_ID,
        "job_name": "Orders",
        "run_count": 4,
        "satisfied": True,
        "values": {"output_count": 1000},
        "status": "ACTIVE",
        "color": "GREEN",
        "run_ended": False,
        "message": "as wanted",
    }
    return {"job_id": JOB_ID, "run_count": 4, "metric_result": {**metric_result, **changes}}


def test_event_of_other_version_is_readable():
    event = MetricWaitEvent.from_payload(_payload(something_new=1))
    assert event.to_payload() == _payload(replaced=None)


@pytest.mark.parametrize(
    "payload",
    [
        None,
        "text",
        {},
        {"job_id": JOB_ID, "run_count": 4},
        {"job_id": JOB_ID, "run_count": 4, "metric_result": None},
        {**_payload(), "error": {"type": "ControlHubError", "message": "x"}},
        {**_payload(), "run_count": 5},
        _payload(satisfied=None),
        _payload(satisfied="false"),
        _payload(values=[1]),
        _payload(job_id="other:org"),
    ],
    ids=str,
)
def test_incomplete_event_raises(payload):
    with pytest.raises(errors.ControlHubUnexpectedResponseError):
        MetricWaitEvent.from_payload(payload)
