from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
import requests
import requests_mock
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub import errors
from airflow_provider_streamsets.polling import connections
from airflow_provider_streamsets.triggers import base as trigger_module
from airflow_provider_streamsets.triggers.events import RunsWaitEvent, RunsWaitReason
from airflow_provider_streamsets.triggers.runs import ControlHubRunsTrigger
from tests.unit.conftest import TOKEN
from tests.unit.fakes.multi_job_hub import (
    MultiJobHub,
    activating,
    active,
    deactivating,
    errored,
    failed,
    job_id,
    succeeded,
)
from tests.unit.fakes.single_job_hub import HUB, LONG_AGO, T0
from tests.unit.fakes.task_runner import Clock, collect_events, read_connection_inline, single_event
from tests.unit.fakes.virtual_time import VirtualLoop, run_on_loop

pytestmark = pytest.mark.usefixtures("connection")

STATUSES = f"{HUB}/jobrunner/rest/v1/jobs/status"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def virtual_connection(monkeypatch):
    monkeypatch.setattr(connections, "get_connection_and_extra", read_connection_inline)


def trigger(*names: str, run_count: int = 1, **arguments: Any) -> ControlHubRunsTrigger:
    return ControlHubRunsTrigger(runs=[[job_id(name), run_count] for name in names], **arguments)


def wait(clock: Clock, *names: str, **arguments: Any) -> RunsWaitEvent:
    """Run a trigger to its end; its event must survive being stored."""
    return RunsWaitEvent.from_payload(single_event(clock, trigger(*names, **arguments)))


def elapsed(clock: Clock) -> float:
    """Seconds since the beginning."""
    return clock.now - 1000


def test_one_request_per_poll_awaits_all_runs(http, clock):
    hub = MultiJobHub(http, a=[None, activating(), succeeded()], b=[None, active(), active(), active(), succeeded()])
    event = wait(clock, "a", "b")
    assert (event.reason, event.run_counts) == (RunsWaitReason.ENDED, {"a:org": 1, "b:org": 1})
    assert event.error is None
    assert hub.polls == [["a:org", "b:org"], ["a:org", "b:org"], ["b:org"], ["b:org"]]
    assert {request.path for request in http.request_history} == {"/jobrunner/rest/v1/jobs/status"}


def test_event_is_small_regardless_of_messages(http, clock):
    names = [f"job{n:03}" for n in range(250)]
    MultiJobHub(http, **{name: [failed(message="x" * 5000)] for name in names})
    (payload,) = collect_events(clock, trigger(*names))
    assert len(json.dumps(payload)) < 250 * 30


def test_previous_runs_are_ignored(http, clock):
    hub = MultiJobHub(http, a=[succeeded(3), succeeded(3), failed(3), active(4), succeeded(4)])
    assert wait(clock, "a", run_count=4, until_failure=True).reason is RunsWaitReason.ENDED
    assert len(hub.polls) == 4


@pytest.mark.parametrize("end", [failed, errored])
def test_first_failure_ends_wait(http, clock, end):
    MultiJobHub(http, a=[active()], b=[active(), active(), end()], c=[succeeded()])
    event = wait(clock, "a", "b", "c", until_failure=True, deadline=9000.0, timeout=8000.0, force_at=8000.0)
    assert event.reason is RunsWaitReason.FIRST_FAILURE
    # What the next wait is to do.
    assert (event.until_failure, event.force_at, event.deadline, event.timeout) == (False, 8000.0, 9000.0, 8000.0)
    assert elapsed(clock) < 40


def test_failure_of_last_run_ends_group(http, clock):
    MultiJobHub(http, a=[succeeded()], b=[active(), active(), failed()])
    assert wait(clock, "a", "b", until_failure=True).reason is RunsWaitReason.ENDED


def test_simultaneous_failures_are_one_event(http, clock):
    MultiJobHub(http, a=[failed()], b=[failed()], c=[active()])
    assert wait(clock, "a", "b", "c", until_failure=True).reason is RunsWaitReason.FIRST_FAILURE


def test_failure_does_not_end_wait_by_default(http, clock):
    hub = MultiJobHub(http, a=[failed()], b=[active(), active(), active(), succeeded()])
    assert wait(clock, "a", "b").reason is RunsWaitReason.ENDED
    assert len(hub.polls) == 3


def test_failed_and_restarted_run_is_failure(http, clock):
    hub = MultiJobHub(http, a=[active()], b=[active(), active(2)])
    hub.history["b"] = [active(2), failed(1)]
    assert wait(clock, "a", "b", until_failure=True).reason is RunsWaitReason.FIRST_FAILURE


@pytest.mark.parametrize("limit", [{"deadline": 1250.0, "timeout": 250.0}, {"force_at": 1250.0}])
def test_slow_checks_of_missing_runs_keep_deadline(http, clock, limit):
    names = [f"job{n}" for n in range(12)]
    hub = MultiJobHub(http, **{name: [active(), active(2)] for name in names})
    for name in names:
        hub.history[name] = [active(2), active(1)]
    loop = VirtualLoop(clock.now, thread_latency=40.0)

    async def scene():
        return [event.payload async for event in trigger(*names, **limit).run()]

    (payload,) = run_on_loop(loop, scene())
    event = RunsWaitEvent.from_payload(payload)
    assert event.reason is (RunsWaitReason.TIMEOUT if "deadline" in limit else RunsWaitReason.FORCE)
    assert loop.time() <= 1251


def test_checks_of_missing_runs_begin_before_deadline_only(http, clock):
    names = [f"job{n}" for n in range(6)]
    MultiJobHub(http, **{name: [active(), active(2)] for name in names})
    http.get(re.compile("/saql/jobs/search/"), status_code=503, headers={"Retry-After": "3600"})
    assert wait(clock, *names, deadline=1100.0, timeout=100.0).reason is RunsWaitReason.TIMEOUT
    assert elapsed(clock) <= 101


def test_missing_runs_are_checked_in_parallel(http, clock):
    names = [f"job{n}" for n in range(8)]
    hub = MultiJobHub(http, **{name: [active(), active(2)] for name in names})
    for name in names:
        hub.history[name] = [active(2), succeeded(1)]
    loop = VirtualLoop(clock.now, thread_latency=20.0)

    async def scene():
        return [event.payload async for event in trigger(*names).run()]

    (payload,) = run_on_loop(loop, scene())
    assert RunsWaitEvent.from_payload(payload).reason is RunsWaitReason.ENDED
    # Two batches after one poll; one after the other would take 160 s.
    assert loop.time() - clock.now < 121
    # And one poll.
    assert loop.max_concurrent_threads == 4 + 1


def test_succeeded_and_restarted_run_has_ended(http, clock):
    hub = MultiJobHub(http, a=[active(), active(), succeeded()], b=[active(), active(2)])
    hub.history["b"] = [active(2), succeeded(1)]
    assert wait(clock, "a", "b", until_failure=True).reason is RunsWaitReason.ENDED


@pytest.mark.parametrize("interval", [30, 3600])
def test_force_at_ends_wait_despite_long_interval(http, clock, interval):
    MultiJobHub(http, a=[active()], b=[succeeded()])
    event = wait(clock, "a", "b", poll_interval=interval, force_at=1100.0, until_failure=True, deadline=5000.0)
    assert event.reason is RunsWaitReason.FORCE
    assert (event.force_at, event.until_failure, event.deadline) == (None, True, 5000.0)
    assert elapsed(clock) == pytest.approx(100, abs=1)


def test_force_at_is_ignored_after_all_runs_ended(http, clock):
    MultiJobHub(http, a=[succeeded()])
    assert wait(clock, "a", force_at=1100.0, metrics_timeout=300.0).reason is RunsWaitReason.ENDED


def test_force_at_ends_wait_during_outage(http, clock):
    http.post(STATUSES, status_code=503)
    assert wait(clock, "a", force_at=1100.0).reason is RunsWaitReason.FORCE


def test_first_failure_keeps_force_at(http, clock):
    MultiJobHub(http, a=[active()], b=[active(), active(), failed()])
    event = wait(clock, "a", "b", until_failure=True, force_at=1100.0)
    assert (event.reason, event.force_at) == (RunsWaitReason.FIRST_FAILURE, 1100.0)


def test_past_force_at_ends_wait_at_once(http, clock):
    MultiJobHub(http, a=[active()])
    assert wait(clock, "a", force_at=1.0).reason is RunsWaitReason.FORCE
    assert elapsed(clock) < 10


@pytest.mark.parametrize("interval", [30, 3600])
def test_deadline_ends_wait_despite_long_interval(http, clock, interval):
    MultiJobHub(http, a=[active()], b=[succeeded()])
    event = wait(clock, "a", "b", poll_interval=interval, timeout=100.0, deadline=1100.0, until_failure=True)
    assert (event.reason, event.error, event.timeout) == (RunsWaitReason.TIMEOUT, None, 100.0)
    assert elapsed(clock) == pytest.approx(100, abs=1)


def test_deadline_ends_wait_during_outage(http, clock):
    http.post(STATUSES, exc=requests.exceptions.ConnectTimeout)
    assert wait(clock, "a", "b", deadline=1100.0).reason is RunsWaitReason.TIMEOUT
    assert elapsed(clock) == pytest.approx(100, abs=1)


def test_deadline_is_absolute_across_restarts(http, clock):
    MultiJobHub(http, a=[active()], b=[active()])
    assert wait(clock, "a", "b", timeout=100.0, deadline=500.0).reason is RunsWaitReason.TIMEOUT
    assert elapsed(clock) < 10


def test_deadline_precedes_force_at(http, clock):
    MultiJobHub(http, a=[active()])
    assert wait(clock, "a", deadline=1100.0, force_at=1100.0).reason is RunsWaitReason.TIMEOUT


def old(status: dict[str, Any]) -> dict[str, Any]:
    """The status of a run that was started long ago, so that it is polled as often as requested."""
    return {**status, "startTime": LONG_AGO}


def saved(seconds: float) -> dict[str, Any]:
    """A succeeded run of which metrics were saved so many seconds after its start; it has ended after 60."""
    return old(succeeded(lastReportedMetricTime=T0 + 100_000 + int(seconds * 1000)))


def test_final_metrics_are_awaited_until_saved(http, clock):
    hub = MultiJobHub(http, a=[saved(30), saved(30), saved(30), saved(61)], b=[saved(61)])
    assert wait(clock, "a", "b", metrics_timeout=600.0).reason is RunsWaitReason.ENDED
    assert hub.polls == [["a:org", "b:org"], ["a:org"], ["a:org"]]
    assert elapsed(clock) == pytest.approx(60, abs=2)


def test_metrics_timeout_starts_at_end_of_last_run(http, clock):
    MultiJobHub(http, a=[*[old(active())] * 3, old(succeeded())], b=[old(succeeded())])
    assert wait(clock, "a", "b", metrics_timeout=75.0).reason is RunsWaitReason.ENDED
    assert elapsed(clock) == pytest.approx(60 + 75, abs=2)


def test_metrics_are_not_awaited_beyond_deadline(http, clock):
    MultiJobHub(http, a=[succeeded()])
    assert wait(clock, "a", metrics_timeout=600.0, deadline=1050.0).reason is RunsWaitReason.ENDED
    assert elapsed(clock) == pytest.approx(50, abs=1)


@pytest.mark.parametrize("then", [old(active(2)), None])
def test_metrics_of_restarted_or_deleted_job_are_skipped(http, clock, then):
    hub = MultiJobHub(http, a=[old(active()), old(succeeded()), then], b=[old(succeeded())])
    assert wait(clock, "a", "b", metrics_timeout=40.0).reason is RunsWaitReason.ENDED
    assert hub.polls == [["a:org", "b:org"], ["a:org", "b:org"]]
    hub = MultiJobHub(http, a=[old(active()), old(succeeded()), then], b=[saved(61)])
    began = clock.now
    assert wait(clock, "a", "b", metrics_timeout=600.0).reason is RunsWaitReason.ENDED
    assert clock.now - began == pytest.approx(30, abs=1)


def test_immediate_event_respects_min_deferral(http, clock):
    MultiJobHub(http, a=[succeeded()])
    wait(clock, "a")
    assert 5 < elapsed(clock) < 10


def test_failed_run_metrics_do_not_delay_failure(http, clock):
    MultiJobHub(http, a=[failed()], b=[active()])
    assert wait(clock, "a", "b", until_failure=True, metrics_timeout=600.0).reason is RunsWaitReason.FIRST_FAILURE
    assert elapsed(clock) < 10


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_unreadable_status_does_not_hide_other_runs(http, clock, name):
    failing, going = (other for other in "abc" if other != name)
    hub = MultiJobHub(http, **{name: [active()], failing: [active(), active(), failed()], going: [active()]})
    hub.unreadable.add(job_id(name))
    event = wait(clock, "a", "b", "c", until_failure=True, deadline=9000.0)
    assert event.reason is RunsWaitReason.FIRST_FAILURE
    assert elapsed(clock) < 60


def test_forbidden_job_counts_as_failure_without_ending_wait(http, clock):
    hub = MultiJobHub(http, secret=[active()], open=[active(), active(), active(), succeeded()])
    hub.bad["secret:org"] = 403
    event = wait(clock, "secret", "open")
    assert (event.reason, event.error) == (RunsWaitReason.ENDED, None)
    assert hub.polls == [["open:org"]] * 3
    assert wait(clock, "secret", "open", until_failure=True).reason is RunsWaitReason.ENDED


def test_forbidden_job_is_first_failure(http, clock):
    hub = MultiJobHub(http, secret=[active()], open=[active()])
    hub.bad["secret:org"] = 403
    assert wait(clock, "secret", "open", until_failure=True).reason is RunsWaitReason.FIRST_FAILURE


def test_deleted_job_is_missing_after_three_polls(http, clock):
    hub = MultiJobHub(http, gone=[None], stays=[active(), active(), active(), active(), active(), succeeded()])
    del hub.latest["gone:org"]
    assert wait(clock, "gone", "stays").reason is RunsWaitReason.ENDED
    assert [len(poll) for poll in hub.polls] == [2, 2, 2, 1, 1]


def test_run_not_yet_visible_is_awaited(http, clock):
    hub = MultiJobHub(http, a=[None] * 12 + [active(), succeeded()])
    assert wait(clock, "a", until_failure=True).reason is RunsWaitReason.ENDED
    assert len(hub.polls) == 13


def test_long_outage_does_not_end_wait(http, clock):
    hub = MultiJobHub(http, a=[succeeded()], b=[succeeded()])
    outage = [{"exc": requests.exceptions.ConnectTimeout}, {"status_code": 503}, {"text": "<html>"}]
    http.post(STATUSES, [*outage * 100, {"json": hub._poll}])
    assert wait(clock, "a", "b").reason is RunsWaitReason.ENDED
    assert elapsed(clock) > 3600


def test_refused_credential_ends_wait_with_error(http, clock):
    http.post(STATUSES, status_code=401, json={"ISSUES": [{"code": "SSO_01", "message": "not authenticated"}]})
    event = wait(clock, "a", "b")
    assert isinstance(event.error, errors.ControlHubAuthenticationError)
    assert "SSO_01" in str(event.error)
    with pytest.raises(errors.ControlHubAuthenticationError):
        event.raise_error()


def test_unknown_connection_ends_wait_and_is_named(clock):
    event = wait(clock, "a", control_hub_conn_id="no_such_connection")
    assert "no_such_connection" in str(event.error)


@pytest.mark.parametrize(
    "arguments",
    [
        {"runs": "nonsense"},
        {"runs": [["a:org"]]},
        {"runs": 5},
        {"runs": [["a:org", "one"]]},
        {"runs": [["a:org", 1]], "poll_interval": "often"},
        {"runs": [["a:org", 1]], "poll_interval": 0},
        {"runs": [["a:org", 1]], "deadline": "tomorrow"},
        {"runs": [["a:org", 1]], "force_at": "soon"},
        {"runs": [["a:org", 1]], "metrics_timeout": "long"},
    ],
)
def test_invalid_arguments_become_error_event(http, clock, arguments):
    MultiJobHub(http, a=[succeeded()])
    payload = single_event(clock, ControlHubRunsTrigger(**arguments))
    with pytest.raises(errors.ControlHubError):
        RunsWaitEvent.from_payload(payload).raise_error()


def test_trigger_without_runs_is_never_success(clock):
    with pytest.raises(errors.ControlHubUnexpectedResponseError, match="it has no runs"):
        RunsWaitEvent.from_payload(single_event(clock, ControlHubRunsTrigger()))


@pytest.mark.parametrize(
    "payload",
    [
        None,
        {},
        "ended",
        {"runs": [["a:org", 1]]},
        {"runs": [], "reason": "ended"},
        {"runs": [["a:org"]], "reason": "ended"},
        {"runs": [["a:org", 1]], "reason": "because"},
        {"runs": [["a:org", 1]], "reason": "ended", "deadline": "tomorrow"},
        {"runs": [["a:org", 1]], "reason": "ended", "error": "broken"},
    ],
)
def test_incomplete_event_raises(payload):
    with pytest.raises(errors.ControlHubUnexpectedResponseError, match="Cannot read the trigger's event"):
        RunsWaitEvent.from_payload(payload)


def test_trigger_survives_serialization():
    first = trigger(
        "a",
        "b",
        control_hub_conn_id="c",
        poll_interval=7.0,
        timeout=60.0,
        deadline=99.0,
        metrics_timeout=5.0,
        until_failure=True,
        force_at=50.0,
        stop_on_kill=True,
        force_stop_after=90.0,
        forced=["b:org"],
        wait_for="active",
        fail_on_red_after=60.0,
        active=["a:org"],
        red_since={"b:org": 5.0},
        red={"b:org": {}},
    )
    path, arguments = first.serialize()
    assert path == "airflow_provider_streamsets.triggers.runs.ControlHubRunsTrigger"
    assert arguments == {
        "control_hub_conn_id": "c",
        "runs": [["a:org", 1], ["b:org", 1]],
        "poll_interval": 7.0,
        "timeout": 60.0,
        "deadline": 99.0,
        "timeout_reason": None,
        "metrics_timeout": 5.0,
        "upper_bounds": None,
        "until_failure": True,
        "force_at": 50.0,
        "stop_on_kill": True,
        "force_stop_after": 90.0,
        "forced": ["b:org"],
        "joined": None,
        "kept": None,
        "wait_for": "active",
        "fail_on_red_after": 60.0,
        "active": ["a:org"],
        "red_since": {"b:org": 5.0},
        "red": {"b:org": {}},
        "packed": None,
    }
    assert ControlHubRunsTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)


def test_trigger_of_other_version_can_be_created():
    assert ControlHubRunsTrigger().serialize()[1]["runs"] is None


def test_events_and_arguments_hold_no_token(http, clock):
    http.post(STATUSES, status_code=401, json={"ISSUES": [{"message": f"bad token {TOKEN}"}]})
    task = trigger("a", "b")
    assert TOKEN not in json.dumps([task.serialize(), collect_events(clock, task)])


def test_triggers_of_one_connection_share_requests(http, clock):
    http.post(STATUSES, json=lambda request, _: {i: {**active(startTime=LONG_AGO), "jobId": i} for i in request.json()})

    async def events_of(task: Any) -> list[Any]:
        return [event.payload async for event in task.run()]

    async def scene() -> list[list[Any]]:
        triggers = [trigger(f"a{n}", f"b{n}", deadline=1290.0) for n in range(20)]
        return await asyncio.gather(*map(events_of, triggers))

    assert all(len(events) == 1 for events in clock.run(scene()))
    assert [len(request.json()) for request in http.request_history] == [40] * 10


@pytest.mark.parametrize(
    ("still_deferred", "stop_on_kill", "stopped"),
    [
        (False, True, [["going"]]),
        (True, True, []),
        (None, True, []),
        (False, False, []),
    ],
    ids=["killed", "moved", "state-unknown", "not-wanted"],
)
def test_kill_stops_only_runs_of_task(http, clock, monkeypatch, still_deferred, stop_on_kill, stopped):
    async def answer(_: Any) -> bool | None:
        return still_deferred

    monkeypatch.setattr(trigger_module, "is_still_deferred", answer)
    hub = MultiJobHub(http, going=[active()], newer=[active(2)], over=[succeeded()], never=[None])
    clock.run(trigger("going", "newer", "over", "never", stop_on_kill=stop_on_kill).on_kill())
    assert hub.asked("stopJobs") == stopped


def test_kill_stops_activating_runs_once_allowed(http, clock, monkeypatch, sleep_calls):
    async def killed(_: Any) -> bool:
        return False

    monkeypatch.setattr(trigger_module, "is_still_deferred", killed)
    hub = MultiJobHub(http, a=[active()], b=[None, activating(), activating(), active()])
    clock.run(trigger("a", "b", stop_on_kill=True).on_kill())
    assert hub.asked("stopJobs") == [["a"], ["b"]]
    assert sleep_calls == [2.0, 2.0]


def test_failed_stop_after_kill_is_only_logged(http, clock, monkeypatch, task_log):
    async def killed(_: Any) -> bool:
        return False

    monkeypatch.setattr(trigger_module, "is_still_deferred", killed)
    http.post(STATUSES, status_code=401)
    clock.run(trigger("a", "b", stop_on_kill=True).on_kill())
    assert "Could not stop 2 runs, which may still be active" in task_log()


STEPS = st.sampled_from([activating, active, deactivating, lambda run_count: failed(run_count - 1), None])
ENDS = st.sampled_from([succeeded, failed, errored])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(2, 4), st.lists(STEPS, max_size=6), ENDS), min_size=2, max_size=5),
    st.lists(st.sampled_from([500, 503, 429]), max_size=4),
    st.booleans(),
    st.one_of(st.none(), st.floats(1000, 1300)),
    st.one_of(st.none(), st.floats(1000, 1300)),
)
def test_any_sequence_yields_one_correct_event(runs, outages, until_failure, force_at, deadline):
    with requests_mock.Mocker() as http, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(connections, "get_connection_and_extra", read_connection_inline)
        hub = MultiJobHub(http)
        for n, (run_count, steps, end) in enumerate(runs):
            hub.add(f"job{n}", [None, *(step and step(run_count) for step in steps), end(run_count)])
        hub.failing_polls = list(outages)
        clock = Clock()
        waited_for = [[job_id(f"job{n}"), run_count] for n, (run_count, *_) in enumerate(runs)]
        task = ControlHubRunsTrigger(runs=waited_for, until_failure=until_failure, force_at=force_at, deadline=deadline)
        event = RunsWaitEvent.from_payload(single_event(clock, task))
        assert event.error is None
        assert [[run.job_id, run.run_count] for run in event.runs] == waited_for
        over = {
            identifier: status
            for identifier, run_count in waited_for
            if (status := hub.latest[identifier])
            and status["runCount"] == run_count
            and status["status"].startswith("INACTIVE")
        }
        if event.reason is RunsWaitReason.ENDED:
            assert len(over) == len(runs)
        elif event.reason is RunsWaitReason.FIRST_FAILURE:
            assert until_failure
            assert any(status["color"] == "RED" for status in over.values())
        else:
            limit = force_at if event.reason is RunsWaitReason.FORCE else deadline
            assert limit is not None
            assert clock.now >= limit - 1e-6
