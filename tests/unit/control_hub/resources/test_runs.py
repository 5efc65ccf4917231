from __future__ import annotations

import random

import pendulum
import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubNotFoundError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    ControlHubUnexpectedResponseError,
)
from airflow_provider_streamsets.control_hub.models import JobRun
from tests.unit.fakes.api_payloads import (
    CURRENT,
    GATEWAY_PAGE,
    HISTORY,
    HOUR,
    JOB,
    JOB_ID,
    JOBS,
    ME,
    STATUSES,
    T0,
    events_url,
    finished_events,
    issues_json,
    job_json,
    page_json,
    paths,
    payload,
    query,
    run_id,
    run_json,
    succeeded,
)

# All that may stand for a job that has never run (contract, 18.5 and 18.18).
NEVER_RUN = {
    "empty body": {"content": b""},
    "null": {"json": None},
    "empty object": {"json": {}},
    "after an offset upload": {"json": run_json(0, "INACTIVE", "GRAY", startTime=0)},
    "after an offset upload, numbered": {"json": run_json(1, "INACTIVE", "GRAY", startTime=0)},
    "all null": {"json": dict.fromkeys(run_json())},
}


def test_latest_run_is_read(http, client):
    http.get(CURRENT, json=run_json(7, warnings=["JOBRUNNER_62 - Not responding"], inputRecordCount=5))
    run = client.runs.current(JOB_ID)
    assert (run.run_count, run.status, run.color, run.user, run.job_id) == (7, "ACTIVE", "GREEN", ME, JOB_ID)
    assert run.warnings == ("JOBRUNNER_62 - Not responding",)
    assert run.input_record_count == 5
    assert not run.has_ended
    assert run.finish_time is None


@pytest.mark.parametrize("answer", NEVER_RUN.values(), ids=NEVER_RUN)
def test_never_run_job_has_no_latest_run(http, client, answer):
    http.get(CURRENT, **answer)
    http.get(JOB, json=job_json(currentJobStatus=None))
    assert client.runs.current(JOB_ID) is None


@pytest.mark.parametrize("job", [{"content": b""}, GATEWAY_PAGE], ids=["empty", "page"])
def test_empty_status_needs_confirmation(http, kill_client, job):
    http.get(CURRENT, content=b"")
    http.get(JOB, **job)
    http.post(JOBS, **job)
    with pytest.raises(ControlHubUnavailableError, match=f"Cannot read job {JOB_ID}"):
        kill_client.runs.current(JOB_ID)


def test_empty_status_of_unknown_job_is_not_found(http, client):
    http.get(CURRENT, content=b"")
    http.get(JOB, content=b"")
    http.post(JOBS, json=[])
    with pytest.raises(ControlHubNotFoundError):
        client.runs.current(JOB_ID)


def test_starting_run_without_start_time_counts(http, client):
    http.get(CURRENT, json=run_json(1, "ACTIVATING", startTime=0))
    assert client.runs.current(JOB_ID).run_count == 1


def test_statuses_are_read_in_batches(http, make_client):
    http.post(STATUSES, json=lambda request, _: {job_id: run_json(jobId=job_id) for job_id in request.json()})
    wanted = [f"job-{n}:o" for n in range(7)]
    found = make_client(bulk_size=3).runs.statuses([*wanted, *wanted])
    assert list(found) == wanted
    assert all(run.job_id == job_id for job_id, run in found.items())
    assert [r.json() for r in http.request_history] == [wanted[:3], wanted[3:6], wanted[6:]]


@pytest.mark.parametrize(
    "answer",
    [{}, {"a:o": None}, {"a:o": {}}, {"other:o": run_json()}, {"a:o": run_json(0, "INACTIVE", startTime=0)}],
)
def test_jobs_without_run_have_no_status(http, client, answer):
    http.post(STATUSES, json=answer)
    assert client.runs.statuses(["a:o"]) == {"a:o": None}


@pytest.mark.parametrize("answer", [[], "x", 5, {"a:o": 5}, {"a:o": []}, {"a:o": {"runCount": "1"}}])
def test_invalid_statuses_raise(http, client, answer):
    http.post(STATUSES, json=answer)
    with pytest.raises(ControlHubUnexpectedResponseError):
        client.runs.statuses(["a:o"])


def test_example_statuses_are_parsed(http, client):
    statuses = payload("jobs-status-bulk")
    http.post(STATUSES, json=statuses)
    found = client.runs.statuses(statuses)
    assert {job_id: run and run.run_count for job_id, run in found.items()} == {
        job_id: status and status["runCount"] for job_id, status in statuses.items()
    }


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_history_is_sorted_newest_first(http, client, order):
    runs = [succeeded(n) for n in range(1, 8)]
    if order == "descending":
        runs.reverse()
    elif order == "shuffled":
        random.Random(1).shuffle(runs)
    http.get(HISTORY, json=page_json(*runs))
    assert [run.run_count for run in client.runs.history(JOB_ID)] == [7, 6, 5, 4, 3, 2, 1]
    assert [run.run_count for run in client.runs.history(JOB_ID, 2)] == [7, 6]
    assert int(query(http.last_request)["len"]) > 0


def test_multi_page_history_is_sorted_globally(http, client):
    runs = [succeeded(n) for n in range(1, 601)]

    def answer(request, _):
        offset = int(query(request)["offset"])
        return page_json(*runs[offset : offset + 250], total=600)

    http.get(HISTORY, json=answer)
    assert [run.run_count for run in client.runs.history(JOB_ID, 1)] == [600]
    assert client.runs.get(JOB_ID, 599).run_count == 599


@pytest.mark.parametrize(
    ("read", "needed"),
    [
        (lambda runs: runs.history(JOB_ID, 1), 1),
        (lambda runs: runs.history(JOB_ID, 300), 2),
        (lambda runs: runs.history(JOB_ID, since=_start(500)), 1),
        (lambda runs: runs.history(JOB_ID, until=_start(300), limit=1), 2),
        (lambda runs: runs.get(JOB_ID, 500), 1),
        (lambda runs: runs.get(JOB_ID, 590), 1),
        (lambda runs: runs.find_started_at(JOB_ID, _start(500)), 1),
        (lambda runs: runs.get_or_successor(JOB_ID, 599, JobRun.from_wire(succeeded(600))), 1),
    ],
    ids=["limit", "limit 300", "since", "until", "get", "get missing", "started_at", "successor"],
)
@pytest.mark.parametrize("order", ["descending", "ascending", "descending in part"])
def test_unneeded_history_pages_are_not_read(http, client, read, needed, order):
    runs = [succeeded(n) for n in range(600, 0, -1) if n != 590]
    if order == "ascending":
        runs.reverse()
    elif order == "descending in part":
        runs = runs[300:] + runs[:300]

    def answer(request, _):
        offset = int(query(request)["offset"])
        return page_json(*runs[offset : offset + 250], total=len(runs))

    http.get(CURRENT, json=succeeded(600))
    pages = http.get(HISTORY, json=answer)
    found = read(client.runs)
    if order == "descending":
        assert pages.call_count == needed
    http.get(HISTORY, json=page_json(*reversed(runs)))
    assert read(client.runs) == found


def test_history_skips_status_without_run(http, client):
    http.get(HISTORY, json=page_json(succeeded(1), run_json(0, "INACTIVE", "GRAY", startTime=0)))
    assert [run.run_count for run in client.runs.history(JOB_ID)] == [1]


def test_run_is_found_in_history_or_none(http, client):
    http.get(HISTORY, json=page_json(succeeded(2), succeeded(1)))
    assert client.runs.get(JOB_ID, 1).run_count == 1
    assert client.runs.get(JOB_ID, 3) is None


def test_example_history_is_parsed(http, client):
    http.get(HISTORY, json=payload("job-history-two-runs"))
    assert [run.run_count for run in client.runs.history(JOB_ID)] == [2, 1]
    assert client.runs.history(JOB_ID)[0].duration == 95.0


def test_events_are_sorted_by_time(http, client):
    http.get(events_url(3), json=finished_events(3))
    events = client.runs.events(run_id(3))
    assert [event.status for event in events] == ["ACTIVATING", "ACTIVE", "DEACTIVATING", "INACTIVE"]
    assert [event.user for event in events] == [ME, None, None, None]


def test_events_without_time_come_first(http, client):
    http.get(events_url(), json=[{"status": "A", "time": T0}, {"status": "B"}, {"status": "C", "time": None}])
    assert [event.status for event in client.runs.events(run_id(1))] == ["B", "C", "A"]


def test_example_events_are_parsed(http, client):
    http.get(events_url(), json=payload("run-events"))
    events = client.runs.events(run_id(1))
    assert [event.status for event in events] == ["ACTIVATING", "ACTIVE", "DEACTIVATING", "INACTIVE"]


def test_run_may_have_no_events(http, client):
    http.get(events_url(), json=[])
    assert client.runs.events(run_id(1)) == []


def test_job_can_be_stopped_and_force_stopped(http, client):
    http.post(f"{JOB}/stop", json=run_json(1, "DEACTIVATING"))
    http.post(f"{JOB}/forceStop", content=b"")
    client.runs.stop(JOB_ID)
    client.runs.force_stop(JOB_ID)
    assert [path.rpartition("/")[2] for path in paths(http)] == ["stop", "forceStop"]


def test_ambiguous_stop_is_retried(http, client):
    http.post(f"{JOB}/stop", [{"status_code": 503}, {"json": None}])
    client.runs.stop(JOB_ID)
    assert http.call_count == 2


def test_rejected_stop_reports_issue(http, client):
    http.post(f"{JOB}/stop", status_code=400, json=issues_json(("JOBRUNNER_5", "not active")))
    with pytest.raises(ControlHubRejectedError, match=f"Cannot stop job {JOB_ID}.*JOBRUNNER_5 - not active"):
        client.runs.stop(JOB_ID)


@pytest.mark.parametrize("status", ["ACTIVATING", "ACTIVE", "DEACTIVATING", "SOMETHING_NEW"])
def test_active_run_is_stopped(http, client, status):
    http.get(CURRENT, json=run_json(4, status))
    http.post(f"{JOB}/stop", json=None)
    assert client.runs.stop_run(JOB_ID, 4) is True
    assert http.last_request.method == "POST"


@pytest.mark.parametrize("status", [run_json(3), run_json(5), succeeded(4), run_json(4, "INACTIVE_ERROR", "RED")])
def test_other_or_ended_run_is_not_stopped(http, client, status):
    http.get(CURRENT, json=status)
    assert client.runs.stop_run(JOB_ID, 4) is False
    assert [r.method for r in http.request_history] == ["GET"]


REFUSED_STOP = {"status_code": 400, "json": issues_json(("JOBRUNNER_5", "not while it is activating"))}


def test_rejected_stop_raises_without_max_wait(http, client, clock):
    http.get(CURRENT, json=run_json(4, "ACTIVATING"))
    http.post(f"{JOB}/stop", **REFUSED_STOP)
    with pytest.raises(ControlHubRejectedError, match="JOBRUNNER_5"):
        client.runs.stop_run(JOB_ID, 4)
    assert clock.slept == []


def test_rejected_stop_is_retried_within_max_wait(http, client, clock):
    http.get(CURRENT, json=run_json(4, "ACTIVATING"))
    http.post(f"{JOB}/stop", [REFUSED_STOP, REFUSED_STOP, {"json": None}])
    assert client.runs.stop_run(JOB_ID, 4, max_wait=60.0) is True
    assert 0 < sum(clock.slept) < 60.0


def test_rejected_stop_raises_after_max_wait(http, client, clock):
    http.get(CURRENT, json=run_json(4, "ACTIVATING"))
    http.post(f"{JOB}/stop", **REFUSED_STOP)
    with pytest.raises(ControlHubRejectedError, match="JOBRUNNER_5"):
        client.runs.stop_run(JOB_ID, 4, max_wait=10.0)
    assert 10.0 <= sum(clock.slept) < 20.0


@pytest.mark.parametrize("then", [succeeded(4), run_json(5)])
def test_run_ending_during_rejected_stop_is_not_stopped(http, client, then):
    http.get(CURRENT, [{"json": run_json(4, "ACTIVATING")}, {"json": then}])
    http.post(f"{JOB}/stop", **REFUSED_STOP)
    assert client.runs.stop_run(JOB_ID, 4, max_wait=60.0) is False
    assert len([r for r in http.request_history if r.method == "POST"]) == 1


def test_ambiguous_reset_batches_are_retried(http, make_client):
    http.post(f"{JOBS}/resetOffset", [{"status_code": 502}, {"content": b""}, {"json": []}])
    make_client(bulk_size=2).offsets.reset(["a:o", "b:o", "a:o", "c:o"])
    assert [r.json() for r in http.request_history] == [["a:o", "b:o"], ["a:o", "b:o"], ["c:o"]]


def test_rejected_reset_names_job(http, client):
    http.post(f"{JOBS}/resetOffset", status_code=400, json=issues_json(("JOBRUNNER_5", "active")))
    with pytest.raises(ControlHubRejectedError, match="reset the offsets of job a:o"):
        client.offsets.reset(["a:o"])
    with pytest.raises(ControlHubRejectedError, match="reset the offsets of 2 jobs"):
        client.offsets.reset(["a:o", "b:o"])


def _start(run_count, **shift):
    return pendulum.from_timestamp((T0 + (run_count - 1) * HOUR) / 1000).add(**shift)


@pytest.mark.parametrize(
    ("time", "run_count"),
    [
        (_start(1), 1),
        (_start(1, minutes=59), 1),
        (_start(2, microseconds=-1), 1),
        (_start(2), 2),
        (_start(2, seconds=30), 2),
        (_start(3), 3),
        (_start(3, days=300), 3),
        (_start(2).in_timezone("Asia/Tokyo"), 2),
    ],
)
@pytest.mark.parametrize("direction", [1, -1])
def test_run_is_found_by_start_time(http, client, time, run_count, direction):
    http.get(HISTORY, json=page_json(*[succeeded(n) for n in (1, 2, 3)][::direction]))
    assert client.runs.find_started_at(JOB_ID, time).run_count == run_count


def test_start_time_matches_without_fractions(http, client):
    http.get(HISTORY, json=page_json(succeeded(1), run_json(2, startTime=T0 + HOUR + 345)))
    assert client.runs.find_started_at(JOB_ID, _start(2)).run_count == 2


@pytest.mark.parametrize("runs", [[], [succeeded(1)], [run_json(0, "INACTIVE", "GRAY", startTime=0)]])
def test_no_run_precedes_first_start(http, client, runs):
    http.get(HISTORY, json=page_json(*runs))
    assert client.runs.find_started_at(JOB_ID, _start(1, seconds=-1)) is None


def test_history_is_limited_by_time(http, client):
    http.get(HISTORY, json=page_json(*(succeeded(n) for n in range(1, 6)), run_json(6, "ACTIVATING", startTime=0)))

    def counts(**cut):
        return [run.run_count for run in client.runs.history(JOB_ID, **cut)]

    assert counts(since=_start(3)) == [5, 4, 3]
    assert counts(until=_start(3)) == [2, 1]
    assert counts(since=_start(2), until=_start(5)) == [4, 3, 2]
    assert counts(since=_start(2), until=_start(5), limit=1) == [4]
    assert counts() == [6, 5, 4, 3, 2, 1]
