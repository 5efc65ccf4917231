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
from airflow_provider_streamsets.triggers.metrics import ControlHubJobMetricTrigger
from tests.unit.conftest import TOKEN
from tests.unit.scripted_hub import HUB, JOB_ID, LONG_AGO, T0, ScriptedHub, counts_json, failed, run_json, succeeded
from tests.unit.virtual_time import VirtualLoop, run_on, run_virtually

pytestmark = pytest.mark.usefixtures("connection")

STATUS = f"{HUB}/jobrunner/rest/v1/jobs/status"
COUNTS = f"{HUB}/timeseries/rest/v1/metrics/job/{JOB_ID}/recordCountsForAllRuns"
THOUSAND_OUT = ["output_count >= 1000"]
TEN_STAGE_ERRORS = [{"metric": "stage_errors_count", "comparison": ">=", "threshold": 10}]


@pytest.fixture(autouse=True)
def connection_at_once(monkeypatch):
    """Airflow reads connections in threads of its own, which virtual time does not wait for."""

    async def read(conn_id: str) -> tuple[Any, dict[str, Any]]:
        connection = BaseHook.get_connection(conn_id)
        return connection, connection.extra_dejson

    monkeypatch.setattr(connections, "get_connection_and_extra", read)


def going_on(output: int) -> dict[str, Any]:
    return run_json(4, outputRecordCount=output, lastReportedMetricTime=T0 + 1)


def trigger(**arguments: Any) -> ControlHubJobMetricTrigger:
    defaults = {"job_id": JOB_ID, "job_name": "Orders", "run_count": 4, "expect": THOUSAND_OUT}
    return ControlHubJobMetricTrigger(**{**defaults, **arguments})


async def all_events(trigger: ControlHubJobMetricTrigger) -> list[Any]:
    return [event.payload async for event in trigger.run()]


def only_event(trigger: ControlHubJobMetricTrigger) -> MetricWaitEvent:
    """Run a trigger on virtual time; it must yield exactly one event, which survives being stored as JSON."""
    (payload,) = run_virtually(all_events(trigger))
    return MetricWaitEvent.from_payload(json.loads(json.dumps(payload)))


def test_what_the_status_tells_needs_no_other_request(http):
    hub = ScriptedHub(http, latest=going_on(10), script=[going_on(10), going_on(999), going_on(1500)])
    event = only_event(trigger())
    assert event.metric_result is not None
    assert (event.metric_result.satisfied, event.metric_result.values) == (True, {"output_count": 1500})
    assert hub.looks == 3
    assert {request.path for request in http.request_history} == {"/jobrunner/rest/v1/jobs/status"}


def test_what_the_status_does_not_tell_is_read_at_each_look_in_a_thread(http):
    hub = ScriptedHub(http, latest=run_json(4, startTime=LONG_AGO))
    http.get(COUNTS, [{"json": {}}, *({"json": counts_json(4, stageErrorsCount=n)} for n in (2, 10))])
    event = only_event(trigger(expect=TEN_STAGE_ERRORS))
    assert event.metric_result is not None
    assert event.metric_result.to_result()["values"] == {"stage_errors_count": 10}
    assert hub.looks == 3
    assert sum(request.url.startswith(COUNTS) for request in http.request_history) == 3


def test_a_value_that_control_hub_has_not_saved_yet_satisfies_nothing(http):
    ScriptedHub(http, latest=run_json(4), script=[run_json(4), going_on(0)])
    event = only_event(trigger(expect=["output_count < 5"]))
    assert event.metric_result is not None
    assert event.metric_result.values == {"output_count": 0}


def test_what_it_stores_is_enough_to_continue_in_another_triggerer(http):
    ScriptedHub(http, latest=going_on(1000))
    path, arguments = trigger(timeout=60, deadline=99999.0, join="any", on_run_end="skip").serialize()
    assert path == "airflow_provider_streamsets.triggers.metrics.ControlHubJobMetricTrigger"
    again = ControlHubJobMetricTrigger(**json.loads(json.dumps(arguments)))
    assert again.serialize() == (path, arguments)
    assert only_event(again).metric_result is not None


def test_a_trigger_stored_by_another_version_can_still_be_made():
    assert ControlHubJobMetricTrigger().serialize()[1]["control_hub_conn_id"] == "streamsets_default"


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
def test_nonsense_arguments_become_an_event_and_not_an_exception(nonsense, http):
    ScriptedHub(http, latest=succeeded(4))
    (payload,) = run_virtually(all_events(trigger(**nonsense)))
    assert "error" in payload


def test_the_end_of_the_run_is_judged_by_its_final_metrics(http):
    ScriptedHub(http, latest=going_on(10), script=[going_on(10), failed(4)], counts=counts_json(4, outputCount=900))
    event = only_event(trigger(on_run_end="evaluate"))
    assert event.metric_result is not None
    assert (event.metric_result.satisfied, event.metric_result.run_ended, event.metric_result.color) == (
        False,
        True,
        "RED",
    )
    assert "output_count >= 1000 (not satisfied: 900)" in event.metric_result.message
    assert "JDBC_00" in event.metric_result.message


def test_an_outage_of_hours_does_not_end_the_wait(http):
    hub = ScriptedHub(http, latest=run_json(4))
    outage = [
        {"exc": requests.exceptions.ConnectTimeout},
        {"status_code": 503},
        {"text": "<html>"},
        {"status_code": 429},
    ]
    http.post(STATUS, [*outage * 50, {"json": lambda *_: {JOB_ID: hub._poll()}}])
    http.get(COUNTS, [*outage * 50, {"json": counts_json(4, stageErrorsCount=10)}])
    assert only_event(trigger(expect=TEN_STAGE_ERRORS)).metric_result is not None


@pytest.mark.parametrize("refusing", ["status", "counts"])
def test_a_refused_credential_ends_the_wait_and_says_so(refusing, http):
    ScriptedHub(http, latest=run_json(4))
    refusal = {"status_code": 401, "json": {"ISSUES": [{"code": "SSO_01", "message": f"not authenticated: {TOKEN}"}]}}
    if refusing == "status":
        http.post(STATUS, **refusal)
    else:
        http.get(COUNTS, **refusal)
    event = only_event(trigger(expect=TEN_STAGE_ERRORS))
    assert isinstance(event.error, errors.ControlHubAuthenticationError)
    assert "SSO_01" in str(event.error)


def test_the_deadline_ends_the_wait_with_the_last_values_however_long_the_interval_is(http):
    ScriptedHub(http, latest=going_on(5))
    event = only_event(trigger(poll_interval=3600, timeout=100, deadline=1100.0))
    assert isinstance(event.error, errors.ControlHubRunTimeoutError)
    assert "have not satisfied output_count >= 1000 within 100 s" in str(event.error)
    assert "(not satisfied: 5)" in str(event.error)


def test_what_was_satisfied_before_the_deadline_but_after_the_last_look_is_a_success(http):
    ScriptedHub(http, latest=going_on(5), script=[going_on(5), going_on(1000)])
    event = only_event(trigger(poll_interval=3600, timeout=100, deadline=1100.0))
    assert event.metric_result is not None
    assert event.metric_result.satisfied


def test_at_the_deadline_the_metrics_of_an_ended_run_decide_as_they_are(http):
    counts = counts_json(4, outputCount=1200, saved_after=30)
    ScriptedHub(http, latest=succeeded(4), counts=counts)
    event = only_event(trigger(metrics_timeout=3600, timeout=100, deadline=1100.0))
    assert event.metric_result is not None
    assert event.metric_result.satisfied


def test_metrics_of_an_ended_run_that_cannot_be_read_are_waited_for_until_the_deadline(http):
    ScriptedHub(http, latest=succeeded(4))
    http.get(COUNTS, status_code=503)
    event = only_event(trigger(metrics_timeout=10, timeout=1000, deadline=2000.0))
    assert isinstance(event.error, errors.ControlHubRunTimeoutError)
    assert "could not be read within 1000 s" in str(event.error)


def test_the_deadline_is_absolute_so_a_restarted_triggerer_does_not_extend_it(http):
    ScriptedHub(http, latest=going_on(5))
    event = only_event(trigger(timeout=100, deadline=500.0))
    assert isinstance(event.error, errors.ControlHubRunTimeoutError)


def test_a_restart_ends_the_wait_for_the_run_before(http):
    hub = ScriptedHub(http, latest=run_json(6), counts=counts_json(6, outputCount=1200))
    hub.history = [run_json(6), succeeded(5), failed(4)]
    event = only_event(trigger())
    assert event.metric_result is not None
    assert (event.metric_result.satisfied, event.metric_result.run_ended, event.metric_result.color) == (
        True,
        True,
        "RED",
    )


def test_what_is_satisfied_at_once_resumes_the_task_only_when_airflow_has_noticed_the_deferral(http):
    ScriptedHub(http, latest=going_on(1000))

    async def scene() -> float:
        now = asyncio.get_running_loop().time
        began = now()
        await all_events(trigger())
        return now() - began

    assert 5 < run_virtually(scene()) < 10


def test_many_triggers_of_one_connection_share_their_status_requests(http):
    http.post(
        STATUS,
        json=lambda request, _: {
            job_id: {**going_on(5), "jobId": job_id, "startTime": LONG_AGO} for job_id in request.json()
        },
    )

    async def scene() -> list[list[Any]]:
        triggers = [trigger(job_id=f"{n}:org", timeout=290, deadline=1290.0) for n in range(50)]
        return await asyncio.gather(*map(all_events, triggers))

    assert all(len(events) == 1 for events in run_virtually(scene()))
    bulk = [request for request in http.request_history if len(request.json()) == 50]
    assert len(bulk) == 10


def test_only_a_few_of_many_triggers_read_metrics_at_a_time(http):
    http.post(STATUS, json=lambda request, _: {job_id: {**run_json(4), "jobId": job_id} for job_id in request.json()})
    for n in range(50):
        url = f"{HUB}/timeseries/rest/v1/metrics/job/{n}:org/recordCountsForAllRuns"
        http.get(url, json=counts_json(4, stageErrorsCount=10))

    async def scene() -> list[list[Any]]:
        triggers = [trigger(job_id=f"{n}:org", expect=TEN_STAGE_ERRORS) for n in range(50)]
        return await asyncio.gather(*map(all_events, triggers))

    loop = VirtualLoop(thread_takes=0.5)
    assert all(events[0]["metric_result"]["satisfied"] for events in run_on(loop, scene()))
    assert loop.most_in_threads == 8 + 1, "and the thread of the feed"


def test_no_event_and_no_stored_argument_holds_the_token(http):
    http.post(STATUS, status_code=401, json={"ISSUES": [{"message": f"bad token {TOKEN}"}]})
    task = trigger()
    stored = json.dumps([task.serialize(), run_virtually(all_events(task))])
    assert TOKEN not in stored


def test_a_kill_stops_nothing(http):
    hub = ScriptedHub(http, latest=going_on(5))
    run_virtually(trigger().on_kill())
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


def test_an_event_of_another_version_with_more_in_it_can_be_read():
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
def test_an_event_that_is_not_complete_is_an_error_and_never_a_success(payload):
    with pytest.raises(errors.ControlHubUnexpectedAnswerError):
        MetricWaitEvent.from_payload(payload)
