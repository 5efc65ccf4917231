from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_streamsets.control_hub import errors
from airflow_provider_streamsets.polling import connections
from airflow_provider_streamsets.triggers import base as trigger_module
from airflow_provider_streamsets.triggers.events import RunsWaitEvent
from airflow_provider_streamsets.triggers.runs import ControlHubRunsTrigger
from tests.unit.conftest import TOKEN
from tests.unit.fakes.single_job_hub import (
    HUB,
    JOB_ID,
    LONG_AGO,
    SingleJobHub,
    counts_json,
    event_json,
    failed,
    run_json,
    succeeded,
)
from tests.unit.fakes.virtual_time import run_in_virtual_time

pytestmark = pytest.mark.usefixtures("connection")

STATUS = f"{HUB}/jobrunner/rest/v1/jobs/status"


@pytest.fixture(autouse=True)
def read_connection_inline(monkeypatch):
    """Airflow reads connections in threads of its own, which virtual time does not wait for."""

    async def read(conn_id: str) -> tuple[Any, dict[str, Any]]:
        connection = BaseHook.get_connection(conn_id)
        return connection, connection.extra_dejson

    monkeypatch.setattr(connections, "get_connection_and_extra", read)


def trigger(**arguments: Any) -> ControlHubRunsTrigger:
    return ControlHubRunsTrigger(
        **{"runs": [[JOB_ID, 4, None, None, "Orders"]], "metrics_timeout": 30, "poll_interval": 30, **arguments}
    )


async def collect_events(trigger: ControlHubRunsTrigger) -> list[Any]:
    return [event.payload async for event in trigger.run()]


def single_event(trigger: ControlHubRunsTrigger) -> RunsWaitEvent:
    """Run a trigger on virtual time; it must yield exactly one event, which survives being stored as JSON."""
    (payload,) = run_in_virtual_time(collect_events(trigger))
    return RunsWaitEvent.from_payload(json.loads(json.dumps(payload)))


def test_trigger_yields_one_event_with_report(http):
    hub = SingleJobHub(
        http,
        latest=succeeded(3),
        script=[succeeded(3), run_json(4, "ACTIVATING"), run_json(4), succeeded(4)],
        events=[event_json(60, "INACTIVE", "Job finished")],
        counts=counts_json(4),
    )
    event = single_event(trigger())
    assert event.report is not None
    assert (event.report.run.run_count, event.report.outcome.value) == (4, "SUCCEEDED")
    assert event.report.to_result()["metrics"]["total_error_count"] == 10
    assert event.report.metrics_final
    assert hub.polls == 4


def test_trigger_survives_serialization(http):
    SingleJobHub(http, latest=run_json(4), script=[succeeded(4)], counts=counts_json(4))
    path, arguments = trigger(timeout=60, deadline=99999.0, stop_on_kill=True).serialize()
    assert path == "airflow_provider_streamsets.triggers.runs.ControlHubRunsTrigger"
    again = ControlHubRunsTrigger(**json.loads(json.dumps(arguments)))
    assert again.serialize() == (path, arguments)
    assert single_event(again).report is not None


def test_trigger_of_other_version_can_be_created():
    assert ControlHubRunsTrigger().serialize()[1]["control_hub_conn_id"] == "streamsets_default"


def test_invalid_arguments_become_error_event():
    event = single_event(trigger(poll_interval="often", control_hub_conn_id="nowhere"))
    assert isinstance(event.error, errors.ControlHubError)


def test_failed_run_is_reported_with_error(http):
    SingleJobHub(http, latest=run_json(4), script=[failed(4, "RUN_ERROR: broken")], counts=counts_json(4))
    event = single_event(trigger())
    assert event.report is not None
    assert event.report.outcome.value == "FAILED"
    assert "RUN_ERROR: broken" in event.report.summary


def test_long_outage_does_not_end_wait(http):
    hub = SingleJobHub(http, latest=run_json(4), script=[succeeded(4)], counts=counts_json(4))
    outage = [
        {"exc": requests.exceptions.ConnectTimeout},
        {"status_code": 503},
        {"text": "<html>"},
        {"status_code": 429},
    ]
    http.post(STATUS, [*outage * 100, {"json": lambda *_: {JOB_ID: hub._poll()}}])
    assert single_event(trigger()).report is not None


def test_outage_while_reading_details_does_not_end_wait(http):
    SingleJobHub(http, latest=run_json(4), script=[succeeded(4)], counts=counts_json(4))
    answers = [{"status_code": 503}] * 5 + [{"json": []}]
    http.get(f"{HUB}/jobrunner/rest/v1/job/run-4:org/jobStatusHistory", answers)
    assert single_event(trigger()).report is not None


def test_refused_credential_ends_wait_with_error(http):
    http.post(STATUS, status_code=401, json={"ISSUES": [{"code": "SSO_01", "message": "User not authenticated"}]})
    event = single_event(trigger())
    assert isinstance(event.error, errors.ControlHubAuthenticationError)
    assert "SSO_01" in str(event.error)


def test_unknown_connection_ends_wait_and_is_named():
    event = single_event(trigger(control_hub_conn_id="no_such_connection"))
    assert "no_such_connection" in str(event.error)


def test_deadline_ends_wait_despite_long_interval(http):
    SingleJobHub(http, latest=run_json(4), script=[run_json(4)])
    event = single_event(trigger(poll_interval=3600, timeout=100, deadline=1100.0))
    assert isinstance(event.error, errors.ControlHubRunTimeoutError)
    assert "has not ended within 100 s" in str(event.error)


def test_run_ended_after_last_poll_is_no_timeout(http):
    SingleJobHub(http, latest=run_json(4), script=[run_json(4), succeeded(4)], counts=counts_json(4))
    assert single_event(trigger(poll_interval=3600, timeout=100, deadline=1100.0)).report is not None


def test_deadline_ends_wait_during_outage(http):
    http.post(STATUS, status_code=503)
    event = single_event(trigger(timeout=100, deadline=1100.0))
    assert isinstance(event.error, errors.ControlHubRunTimeoutError)


def test_deadline_is_absolute_across_restarts(http):
    SingleJobHub(http, latest=run_json(4), script=[run_json(4)])
    event = single_event(trigger(timeout=100, deadline=500.0))
    assert isinstance(event.error, errors.ControlHubRunTimeoutError)


def test_deleted_job_ends_wait_with_error(http):
    http.post(STATUS, json={})
    unknown = {"ISSUES": [{"code": "JOBRUNNER_1", "message": "unknown"}]}
    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}", status_code=404, json=unknown)
    event = single_event(trigger())
    assert isinstance(event.error, errors.ControlHubRunLostError)
    assert "the job does not exist any more" in str(event.error)


def test_restarted_job_is_evaluated_from_history(http):
    hub = SingleJobHub(http, latest=run_json(6), script=[run_json(6)], counts=counts_json(6))
    hub.history = [run_json(6), succeeded(5), failed(4)]
    event = single_event(trigger())
    assert event.report is not None
    assert (event.report.run.run_count, event.report.outcome.value) == (4, "FAILED")


def test_late_metrics_are_awaited(http):
    SingleJobHub(http, latest=run_json(4), script=[succeeded(4)])
    counts = f"{HUB}/timeseries/rest/v1/metrics/job/{JOB_ID}/recordCountsForAllRuns"
    http.get(counts, [{"json": {}}, {"json": counts_json(4, saved_after=30)}, {"json": counts_json(4)}])
    event = single_event(trigger())
    assert event.report is not None
    assert event.report.metrics_final


def test_triggers_of_one_connection_share_requests(http):
    http.post(
        STATUS,
        json=lambda request, _: {
            job_id: {**run_json(4, startTime=LONG_AGO), "jobId": job_id} for job_id in request.json()
        },
    )

    async def scene() -> list[list[Any]]:
        triggers = [trigger(runs=[[f"{n}:org", 4]], timeout=290, deadline=1290.0) for n in range(50)]
        return await asyncio.gather(*map(collect_events, triggers))

    assert all(len(events) == 1 for events in run_in_virtual_time(scene()))
    bulk = [request for request in http.request_history if len(request.json()) == 50]
    assert len(bulk) == 10


def test_events_and_arguments_hold_no_token(http):
    http.post(STATUS, status_code=401, json={"ISSUES": [{"message": f"bad token {TOKEN}"}]})
    task = trigger()
    stored = json.dumps([task.serialize(), run_in_virtual_time(collect_events(task))])
    assert TOKEN not in stored


@pytest.mark.parametrize(
    ("still_deferred", "stop_on_kill", "latest", "stops"),
    [
        (False, True, run_json(4), ["stop"]),
        (True, True, run_json(4), []),
        (None, True, run_json(4), []),
        (False, False, run_json(4), []),
        (False, True, run_json(5), []),
        (False, True, succeeded(4), []),
    ],
    ids=["killed", "moved", "state-unknown", "not-wanted", "newer-run", "already-over"],
)
def test_kill_stops_only_run_of_task(http, monkeypatch, still_deferred, stop_on_kill, latest, stops):
    async def answer(_: Any) -> bool | None:
        return still_deferred

    monkeypatch.setattr(trigger_module, "is_still_deferred", answer)
    hub = SingleJobHub(http, latest=latest)
    run_in_virtual_time(trigger(stop_on_kill=stop_on_kill).on_kill())
    assert hub.stops == stops


def test_stop_survives_repeated_cancellation(http, monkeypatch):
    async def slow_answer(_: Any) -> bool:
        await asyncio.sleep(5)
        return False

    monkeypatch.setattr(trigger_module, "is_still_deferred", slow_answer)
    hub = SingleJobHub(http, latest=run_json(4))

    async def scene() -> None:
        killed = asyncio.create_task(trigger(stop_on_kill=True).on_kill())
        for _ in range(3):
            await asyncio.sleep(1)
            killed.cancel("user-action")
        await asyncio.sleep(10)

    run_in_virtual_time(scene())
    assert hub.stops == ["stop"]


def test_kill_stops_activating_run_once_allowed(http, monkeypatch, sleep_calls):
    async def killed(_: Any) -> bool:
        return False

    monkeypatch.setattr(trigger_module, "is_still_deferred", killed)
    hub = SingleJobHub(http, latest=run_json(4, "ACTIVATING"))
    refusal = {"status_code": 400, "json": {"ISSUES": [{"code": "JOBRUNNER_1", "message": "is ACTIVATING"}]}}
    accepted = {"json": lambda *_: hub.stops.append("stop")}
    http.post(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/stop", [refusal, refusal, accepted])
    run_in_virtual_time(trigger(stop_on_kill=True).on_kill())
    assert hub.stops == ["stop"]
    assert sleep_calls == [2.0, 2.0]


@pytest.mark.parametrize(
    ("force_stop_after", "ends", "stops"),
    [
        (None, False, ["stop"]),
        (90.0, False, ["stop", "force"]),
        (90.0, True, ["stop"]),
        (0.0, False, ["force"]),
    ],
    ids=["left to Control Hub", "hangs", "ends in time", "at once"],
)
def test_kill_forces_stop_of_hanging_run(http, monkeypatch, force_stop_after, ends, stops):
    async def killed(_: Any) -> bool:
        return False

    monkeypatch.setattr(trigger_module, "is_still_deferred", killed)
    # The stop waits in a thread, to acknowledge the error of a forced one.
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub = SingleJobHub(http, latest=run_json(4))

    async def scene() -> None:
        kill = asyncio.create_task(trigger(stop_on_kill=True, force_stop_after=force_stop_after).on_kill())
        await asyncio.sleep(60)
        hub.latest = succeeded(4) if ends else run_json(4, "DEACTIVATING")
        # Airflow gives up on the method of the trigger; the stop continues.
        kill.cancel()
        await asyncio.sleep(60)

    run_in_virtual_time(scene())
    assert hub.stops == stops


def test_immediate_event_respects_min_deferral(http):
    SingleJobHub(http, latest=succeeded(4), counts=counts_json(4))

    async def scene() -> float:
        now = asyncio.get_running_loop().time
        began = now()
        (payload,) = await collect_events(trigger())
        assert payload["reports"][JOB_ID]["outcome"] == "SUCCEEDED"
        return now() - began

    assert 5 < run_in_virtual_time(scene()) < 10


def test_secrets_backend_outage_does_not_end_wait(http, monkeypatch):
    SingleJobHub(http, latest=run_json(4), script=[succeeded(4)], counts=counts_json(4))
    read = connections.get_connection_and_extra
    failures = [ConnectionError("vault is down")] * 3

    async def unreliable(conn_id: str) -> Any:
        if failures:
            raise failures.pop()
        return await read(conn_id)

    monkeypatch.setattr(connections, "get_connection_and_extra", unreliable)
    assert single_event(trigger()).report is not None


def test_server_errors_with_codes_do_not_lose_job(http):
    hub = SingleJobHub(http, latest=run_json(4), script=[succeeded(4)], counts=counts_json(4))
    fault = {"status_code": 500, "json": {"ISSUES": [{"code": "JOBRUNNER_1", "message": "Internal error"}]}}
    http.post(STATUS, [*[fault] * 8, {"json": lambda *_: {JOB_ID: hub._poll()}}])
    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}", [fault])
    assert single_event(trigger()).report is not None


def test_unreadable_events_do_not_change_success(http):
    SingleJobHub(http, latest=run_json(4), script=[succeeded(4)], counts=counts_json(4))
    http.get(f"{HUB}/jobrunner/rest/v1/job/run-4:org/jobStatusHistory", status_code=403)
    event = single_event(trigger())
    assert event.report is not None
    assert event.report.outcome.value == "SUCCEEDED"


def test_stop_rejected_for_its_rate_is_left_to_task(http):
    """Repeated later, it could stop a run that was started meanwhile."""
    SingleJobHub(http, latest=run_json(4), script=[run_json(4)])
    stop = http.post(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/stop", status_code=429)
    event = single_event(trigger(timeout=60, deadline=1060.0, timeout_reason="wait_timeout of 60 s reached"))
    assert isinstance(event.error, errors.ControlHubRunTimeoutError)
    assert event.stop_failed
    assert stop.call_count == 1


def test_deadline_holds_while_connection_is_unreadable(monkeypatch):
    async def read(conn_id: str) -> Any:
        raise RuntimeError("the secrets backend is sealed")

    async def wait() -> tuple[list[Any], float]:
        now = asyncio.get_running_loop().time
        began = now()
        return await collect_events(trigger(timeout=60, deadline=began + 60)), now() - began

    monkeypatch.setattr(connections, "get_connection_and_extra", read)
    (payload,), seconds = run_in_virtual_time(wait())
    assert seconds == pytest.approx(60, abs=1)
    error = RunsWaitEvent.from_payload(payload).error
    assert isinstance(error, errors.ControlHubRunTimeoutError)
    assert "connection 'streamsets_default' could not be read" in str(error)
