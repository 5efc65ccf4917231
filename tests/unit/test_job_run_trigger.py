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
from airflow_provider_streamsets.triggers.events import RunWaitEvent
from airflow_provider_streamsets.triggers.runs import ControlHubJobRunTrigger
from tests.unit.conftest import TOKEN
from tests.unit.scripted_hub import (
    HUB,
    JOB_ID,
    LONG_AGO,
    ScriptedHub,
    counts_json,
    event_json,
    failed,
    run_json,
    succeeded,
)
from tests.unit.virtual_time import run_virtually

pytestmark = pytest.mark.usefixtures("connection")

STATUS = f"{HUB}/jobrunner/rest/v1/jobs/status"


@pytest.fixture(autouse=True)
def connection_at_once(monkeypatch):
    """Airflow reads connections in threads of its own, which virtual time does not wait for."""

    async def read(conn_id: str) -> tuple[Any, dict[str, Any]]:
        connection = BaseHook.get_connection(conn_id)
        return connection, connection.extra_dejson

    monkeypatch.setattr(connections, "get_connection_and_extra", read)


def trigger(**arguments: Any) -> ControlHubJobRunTrigger:
    return ControlHubJobRunTrigger(
        **{"job_id": JOB_ID, "job_name": "Orders", "run_count": 4, "poll_interval": 30, **arguments}
    )


async def all_events(trigger: ControlHubJobRunTrigger) -> list[Any]:
    return [event.payload async for event in trigger.run()]


def only_event(trigger: ControlHubJobRunTrigger) -> RunWaitEvent:
    """Run a trigger on virtual time; it must yield exactly one event, which survives being stored as JSON."""
    (payload,) = run_virtually(all_events(trigger))
    return RunWaitEvent.from_payload(json.loads(json.dumps(payload)))


def test_it_waits_for_its_run_and_yields_one_event_with_the_whole_report(http):
    hub = ScriptedHub(
        http,
        latest=succeeded(3),
        script=[succeeded(3), run_json(4, "ACTIVATING"), run_json(4), succeeded(4)],
        events=[event_json(60, "INACTIVE", "Job finished")],
        counts=counts_json(4),
    )
    event = only_event(trigger())
    assert event.report is not None
    assert (event.report.run.run_count, event.report.outcome.value) == (4, "SUCCEEDED")
    assert event.report.to_result()["metrics"]["total_error_count"] == 10
    assert event.report.metrics_final
    assert hub.looks == 4


def test_what_it_stores_is_enough_to_continue_in_another_triggerer(http):
    ScriptedHub(http, latest=run_json(4), script=[succeeded(4)], counts=counts_json(4))
    path, arguments = trigger(timeout=60, deadline=99999.0, stop_on_kill=True).serialize()
    assert path == "airflow_provider_streamsets.triggers.runs.ControlHubJobRunTrigger"
    again = ControlHubJobRunTrigger(**json.loads(json.dumps(arguments)))
    assert again.serialize() == (path, arguments)
    assert only_event(again).report is not None


def test_a_trigger_stored_by_another_version_can_still_be_made():
    assert ControlHubJobRunTrigger().serialize()[1]["control_hub_conn_id"] == "streamsets_default"


def test_nonsense_arguments_become_an_event_and_not_an_exception():
    event = only_event(trigger(poll_interval="often", control_hub_conn_id="nowhere"))
    assert isinstance(event.error, errors.ControlHubError)


def test_a_failed_run_is_reported_with_its_error(http):
    ScriptedHub(http, latest=run_json(4), script=[failed(4, "RUN_ERROR: broken")], counts=counts_json(4))
    event = only_event(trigger())
    assert event.report is not None
    assert event.report.outcome.value == "FAILED"
    assert "RUN_ERROR: broken" in event.report.summary


def test_an_outage_of_hours_does_not_end_the_wait(http):
    hub = ScriptedHub(http, latest=run_json(4), script=[succeeded(4)], counts=counts_json(4))
    outage = [
        {"exc": requests.exceptions.ConnectTimeout},
        {"status_code": 503},
        {"text": "<html>"},
        {"status_code": 429},
    ]
    http.post(STATUS, [*outage * 100, {"json": lambda *_: {JOB_ID: hub._poll()}}])
    assert only_event(trigger()).report is not None


def test_an_outage_while_the_details_of_an_ended_run_are_read_does_not_end_the_wait(http):
    ScriptedHub(http, latest=run_json(4), script=[succeeded(4)], counts=counts_json(4))
    answers = [{"status_code": 503}] * 5 + [{"json": []}]
    http.get(f"{HUB}/jobrunner/rest/v1/job/run-4:org/jobStatusHistory", answers)
    assert only_event(trigger()).report is not None


def test_a_refused_credential_ends_the_wait_and_says_so(http):
    http.post(STATUS, status_code=401, json={"ISSUES": [{"code": "SSO_01", "message": "User not authenticated"}]})
    event = only_event(trigger())
    assert isinstance(event.error, errors.ControlHubAuthenticationError)
    assert "SSO_01" in str(event.error)


def test_an_unknown_connection_ends_the_wait_and_names_it():
    event = only_event(trigger(control_hub_conn_id="no_such_connection"))
    assert "no_such_connection" in str(event.error)


def test_the_deadline_ends_the_wait_however_long_the_interval_is(http):
    ScriptedHub(http, latest=run_json(4), script=[run_json(4)])
    event = only_event(trigger(poll_interval=3600, timeout=100, deadline=1100.0))
    assert isinstance(event.error, errors.ControlHubRunTimeoutError)
    assert "has not ended within 100 s" in str(event.error)


def test_a_run_that_ended_before_the_deadline_but_after_the_last_look_has_not_timed_out(http):
    ScriptedHub(http, latest=run_json(4), script=[run_json(4), succeeded(4)], counts=counts_json(4))
    assert only_event(trigger(poll_interval=3600, timeout=100, deadline=1100.0)).report is not None


def test_the_deadline_also_ends_a_wait_during_an_outage(http):
    http.post(STATUS, status_code=503)
    event = only_event(trigger(timeout=100, deadline=1100.0))
    assert isinstance(event.error, errors.ControlHubRunTimeoutError)


def test_the_deadline_is_absolute_so_a_restarted_triggerer_does_not_extend_it(http):
    ScriptedHub(http, latest=run_json(4), script=[run_json(4)])
    event = only_event(trigger(timeout=100, deadline=500.0))
    assert isinstance(event.error, errors.ControlHubRunTimeoutError)


def test_a_job_that_is_deleted_meanwhile_ends_the_wait_with_a_clear_error(http):
    http.post(STATUS, json={})
    unknown = {"ISSUES": [{"code": "JOBRUNNER_1", "message": "unknown"}]}
    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}", status_code=404, json=unknown)
    event = only_event(trigger())
    assert isinstance(event.error, errors.ControlHubRunLostError)
    assert "the job does not exist any more" in str(event.error)


def test_a_restarted_job_is_judged_from_its_history(http):
    hub = ScriptedHub(http, latest=run_json(6), script=[run_json(6)], counts=counts_json(6))
    hub.history = [run_json(6), succeeded(5), failed(4)]
    event = only_event(trigger())
    assert event.report is not None
    assert (event.report.run.run_count, event.report.outcome.value) == (4, "FAILED")


def test_late_metrics_are_waited_for_without_keeping_a_worker(http):
    ScriptedHub(http, latest=run_json(4), script=[succeeded(4)])
    counts = f"{HUB}/timeseries/rest/v1/metrics/job/{JOB_ID}/recordCountsForAllRuns"
    http.get(counts, [{"json": {}}, {"json": counts_json(4, saved_after=30)}, {"json": counts_json(4)}])
    event = only_event(trigger())
    assert event.report is not None
    assert event.report.metrics_final


def test_many_triggers_of_one_connection_share_their_requests(http):
    http.post(
        STATUS,
        json=lambda request, _: {
            job_id: {**run_json(4, startTime=LONG_AGO), "jobId": job_id} for job_id in request.json()
        },
    )

    async def scene() -> list[list[Any]]:
        triggers = [trigger(job_id=f"{n}:org", timeout=290, deadline=1290.0) for n in range(50)]
        return await asyncio.gather(*map(all_events, triggers))

    assert all(len(events) == 1 for events in run_virtually(scene()))
    bulk = [request for request in http.request_history if len(request.json()) == 50]
    assert len(bulk) == 10


def test_no_event_and_no_stored_argument_holds_the_token(http):
    http.post(STATUS, status_code=401, json={"ISSUES": [{"message": f"bad token {TOKEN}"}]})
    task = trigger()
    stored = json.dumps([task.serialize(), run_virtually(all_events(task))])
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
def test_a_kill_stops_the_run_of_the_task_and_nothing_else(
    http, monkeypatch, still_deferred, stop_on_kill, latest, stops
):
    async def answer(_: Any) -> bool | None:
        return still_deferred

    monkeypatch.setattr(trigger_module, "is_still_deferred", answer)
    hub = ScriptedHub(http, latest=latest)
    run_virtually(trigger(stop_on_kill=stop_on_kill).on_kill())
    assert hub.stops == stops


def test_a_stop_goes_on_although_airflow_cancels_the_killed_trigger_again_and_again(http, monkeypatch):
    async def slow_answer(_: Any) -> bool:
        await asyncio.sleep(5)
        return False

    monkeypatch.setattr(trigger_module, "is_still_deferred", slow_answer)
    hub = ScriptedHub(http, latest=run_json(4))

    async def scene() -> None:
        killed = asyncio.create_task(trigger(stop_on_kill=True).on_kill())
        for _ in range(3):
            await asyncio.sleep(1)
            killed.cancel("user-action")
        await asyncio.sleep(10)

    run_virtually(scene())
    assert hub.stops == ["stop"]


def test_a_run_that_is_still_activating_is_stopped_as_soon_as_control_hub_allows_it(http, monkeypatch, pauses):
    async def killed(_: Any) -> bool:
        return False

    monkeypatch.setattr(trigger_module, "is_still_deferred", killed)
    hub = ScriptedHub(http, latest=run_json(4, "ACTIVATING"))
    refusal = {"status_code": 400, "json": {"ISSUES": [{"code": "JOBRUNNER_1", "message": "is ACTIVATING"}]}}
    accepted = {"json": lambda *_: hub.stops.append("stop")}
    http.post(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/stop", [refusal, refusal, accepted])
    run_virtually(trigger(stop_on_kill=True).on_kill())
    assert hub.stops == ["stop"]
    assert pauses == [2.0, 2.0]


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
def test_the_stop_of_a_killed_task_is_forced_if_the_run_hangs(http, monkeypatch, force_stop_after, ends, stops):
    async def killed(_: Any) -> bool:
        return False

    monkeypatch.setattr(trigger_module, "is_still_deferred", killed)
    hub = ScriptedHub(http, latest=run_json(4))

    async def scene() -> None:
        kill = asyncio.create_task(trigger(stop_on_kill=True, force_stop_after=force_stop_after).on_kill())
        await asyncio.sleep(60)
        hub.latest = succeeded(4) if ends else run_json(4, "DEACTIVATING")
        # Airflow gives up on the method of the trigger; the stop goes on.
        kill.cancel()
        await asyncio.sleep(60)

    run_virtually(scene())
    assert hub.stops == stops


def test_a_run_that_is_already_over_resumes_the_task_only_when_airflow_has_noticed_the_deferral(http):
    ScriptedHub(http, latest=succeeded(4), counts=counts_json(4))

    async def scene() -> float:
        now = asyncio.get_running_loop().time
        began = now()
        (payload,) = await all_events(trigger())
        assert payload["report"]["outcome"] == "SUCCEEDED"
        return now() - began

    assert 5 < run_virtually(scene()) < 10


def test_a_secrets_backend_that_fails_for_a_while_does_not_end_the_wait(http, monkeypatch):
    ScriptedHub(http, latest=run_json(4), script=[succeeded(4)], counts=counts_json(4))
    read = connections.get_connection_and_extra
    failures = [ConnectionError("vault is down")] * 3

    async def unreliable(conn_id: str) -> Any:
        if failures:
            raise failures.pop()
        return await read(conn_id)

    monkeypatch.setattr(connections, "get_connection_and_extra", unreliable)
    assert only_event(trigger()).report is not None


def test_errors_of_the_server_that_carry_codes_do_not_make_a_job_a_lost_one(http):
    hub = ScriptedHub(http, latest=run_json(4), script=[succeeded(4)], counts=counts_json(4))
    fault = {"status_code": 500, "json": {"ISSUES": [{"code": "JOBRUNNER_1", "message": "Internal error"}]}}
    http.post(STATUS, [*[fault] * 8, {"json": lambda *_: {JOB_ID: hub._poll()}}])
    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}", [fault])
    assert only_event(trigger()).report is not None


def test_a_succeeded_run_whose_events_may_not_be_read_is_a_success(http):
    ScriptedHub(http, latest=run_json(4), script=[succeeded(4)], counts=counts_json(4))
    http.get(f"{HUB}/jobrunner/rest/v1/job/run-4:org/jobStatusHistory", status_code=403)
    event = only_event(trigger())
    assert event.report is not None
    assert event.report.outcome.value == "SUCCEEDED"
