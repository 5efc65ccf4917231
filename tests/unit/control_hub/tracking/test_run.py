from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubError,
    ControlHubPermissionError,
    ControlHubRunLostError,
    ControlHubRunTimeoutError,
    ControlHubUnavailableError,
    JobRun,
    Outcome,
)
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.models import RunEvent
from airflow_provider_streamsets.control_hub.tracking.report import RunReport
from airflow_provider_streamsets.control_hub.tracking.run import RunTracker
from tests.unit.fakes.api_payloads import (
    COUNTS,
    FORBIDDEN,
    HISTORY,
    HOUR,
    JOB,
    JOB_ID,
    JOB_NAME,
    JOBS,
    ME,
    MINUTE,
    REGISTRY,
    STATUSES,
    T0,
    UNKNOWN,
    VirtualClock,
    counts_json,
    event_json,
    events_url,
    failed,
    finished_events,
    issues_json,
    job_json,
    page_json,
    paths,
    run_json,
    succeeded,
)
from tests.unit.fakes.waits import wait_with_tracker

RUN = 3
START = T0 + (RUN - 1) * HOUR
OUTAGE = {"status_code": 503}


def status(body):
    """The answer to a poll that finds this run."""
    return {"json": {JOB_ID: body}}


def stopped_events(run_count=RUN):
    return [
        event_json(run_count, 0, "ACTIVATING", "Job started", ME),
        event_json(run_count, 3, "ACTIVE"),
        event_json(run_count, 40, "DEACTIVATING", "Job stopped", ME),
        event_json(run_count, 60, "INACTIVE"),
    ]


def final_counts(run_count=RUN, **fields):
    """Record counts whose newest entry was saved after the end of the run."""
    newest = counts_json(saved=T0 + (run_count - 1) * HOUR + MINUTE + 1000, **fields)
    return {"0": newest, **{str(n): counts_json(n) for n in range(1, run_count)}}


class Hub:
    """Answers polls from a script, repeating its last entry, and all else from its attributes."""

    def __init__(self, http):
        self.http = http
        http.get(events_url(RUN), json=finished_events(RUN))
        http.get(COUNTS, json=final_counts())
        http.get(JOB, json=job_json())
        http.get(HISTORY, json=page_json())

    def shows(self, *answers):
        self.http.post(STATUSES, list(answers))

    @property
    def polls(self):
        return len([path for path in paths(self.http) if path.endswith("/jobs/status")])


@pytest.fixture
def hub(http):
    return Hub(http)


@pytest.fixture
def wait(kill_client, clock):
    def wait(*, timeout=None, poll_interval=10.0, client=kill_client, **settings):
        tracker = RunTracker(client, JOB_ID, RUN, job_name=JOB_NAME, now=clock.now, **settings)
        deadline = Deadline(timeout, sleep=clock.sleep, now=clock.now)
        return wait_with_tracker(tracker, deadline, poll_interval=poll_interval)

    return wait


def test_run_is_polled_until_end(hub, wait, clock):
    hub.shows(
        status(run_json(RUN, "ACTIVATING")),
        status(run_json(RUN)),
        status(run_json(RUN)),
        status(run_json(RUN, "DEACTIVATING")),
        status(succeeded(RUN)),
    )
    report = wait()
    assert report.outcome is Outcome.SUCCEEDED
    assert (report.job_id, report.job_name, report.run.run_count) == (JOB_ID, JOB_NAME, RUN)
    assert clock.slept == [10.0] * 4
    assert [event.status for event in report.events] == ["ACTIVATING", "ACTIVE", "DEACTIVATING", "INACTIVE"]


def test_ended_run_is_reported_at_once(hub, wait, clock):
    hub.shows(status(succeeded(RUN)))
    assert wait().outcome is Outcome.SUCCEEDED
    assert clock.slept == []


@pytest.mark.parametrize("before", [succeeded(RUN - 1), failed(RUN - 1), run_json(RUN - 1, "INACTIVE_ERROR", "RED")])
def test_end_of_previous_run_is_ignored(hub, wait, before):
    hub.shows(status(before), status(before), status(before), status(before), status(failed(RUN)))
    report = wait()
    assert report.run.run_count == RUN
    assert report.outcome is Outcome.FAILED


@pytest.mark.parametrize("unknown", ["PAUSED", "", "inactive", None])
def test_unknown_status_is_warned_about_once(hub, wait, caplog, unknown):
    hub.shows(*[status(run_json(RUN, unknown, "GRAY"))] * 5, status(succeeded(RUN)))
    assert wait().outcome is Outcome.SUCCEEDED
    assert hub.polls == 6
    assert caplog.text.count("unknown status") == 1


def test_red_active_run_may_recover(hub, wait, caplog):
    warnings = ["JOBRUNNER_62 - Not responding"]
    hub.shows(status(run_json(RUN, "ACTIVE", "RED", warnings=warnings)), status(run_json(RUN)), status(succeeded(RUN)))
    assert wait().outcome is Outcome.SUCCEEDED
    assert "which may be temporary: JOBRUNNER_62 - Not responding" in caplog.text


REFUSED = {
    "ackTrackers": [{"sdcId": "e1", "eventType": "START_PIPELINE", "ackStatus": "ERROR", "message": "no such lib"}],
    "pipelineStatus": [{"sdcId": "e1", "status": "START_ERROR", "message": "no such lib"}],
}


def test_later_reason_for_red_is_logged(hub, wait, caplog):
    hub.shows(
        *[status(run_json(RUN, "ACTIVE", "RED"))] * 3,
        *[status(run_json(RUN, "ACTIVE", "RED", **REFUSED))] * 3,
        status(succeeded(RUN)),
    )
    wait()
    messages = [record.getMessage() for record in caplog.records if "which may be temporary" in record.getMessage()]
    assert [line.partition("which may be temporary: ")[2] for line in messages] == [
        "no details",
        "no such lib (engine e1)",
    ]


def test_timeout_reports_engine_messages(hub, wait):
    hub.shows(status(run_json(RUN, "ACTIVE", "RED", **REFUSED)))
    with pytest.raises(ControlHubRunTimeoutError, match=r"Last status: ACTIVE/RED: no such lib \(engine e1\)\.$"):
        wait(timeout=30)


def test_failure_without_message_uses_engine_message(hub, wait):
    hub.shows(
        status(run_json(RUN, "ACTIVE", "RED", **REFUSED)),
        status(failed(RUN, errorMessage=None, pipelineStatus=[], ackTrackers=[])),
    )
    report = wait()
    assert report.summary.startswith("Run 3 failed: no such lib (engine e1) (job ")
    assert report.to_result()["error_message"] == "no such lib (engine e1)"
    assert "no such lib (engine e1)" in report.details()


def test_failed_polls_do_not_prove_red(hub, wait, clock):
    hub.shows(
        status(run_json(RUN, "ACTIVE", "RED")), *[OUTAGE] * 20, *[status(run_json(RUN))] * 2, status(succeeded(RUN))
    )
    assert wait(fail_on_red_after=60).outcome is Outcome.SUCCEEDED
    assert clock.time > 1200


@pytest.mark.parametrize(("status_shown", "polls"), [("ACTIVATING", 7), ("ACTIVE", 7), ("DEACTIVATING", 7)])
def test_red_run_fails_in_any_status(hub, wait, status_shown, polls):
    hub.shows(status(run_json(RUN, status_shown, "RED", **REFUSED)))
    report = wait(fail_on_red_after=60)
    assert (report.outcome, report.red_for, report.run.status) == (Outcome.FAILED, 60.0, status_shown)
    assert hub.polls == polls


def test_red_of_previous_run_is_ignored(hub, wait):
    hub.shows(*[status(run_json(RUN - 1, "ACTIVE", "RED"))] * 20, status(succeeded(RUN)))
    assert wait(fail_on_red_after=60).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    "end",
    [
        failed(RUN),
        run_json(RUN, "INACTIVE_ERROR", "RED"),
        run_json(RUN, "ACTIVATION_ERROR"),
    ],
)
def test_failed_run_yields_report(hub, wait, end):
    hub.shows(status(run_json(RUN)), status(end))
    report = wait()
    assert report.outcome is Outcome.FAILED
    assert report.run.status == end["status"]


def test_stopped_run_has_not_succeeded(http, hub, wait):
    hub.shows(status(succeeded(RUN)))
    http.get(events_url(RUN), json=stopped_events())
    assert wait().outcome is Outcome.STOPPED


def test_last_engine_report_survives_end(hub, wait):
    pipelines = [{"sdcId": "engine-1", "status": "RUN_ERROR", "message": "disk full"}]
    hub.shows(
        status(run_json(RUN, pipelineStatus=[{"sdcId": "engine-1", "status": "RUNNING"}])),
        status(run_json(RUN, "DEACTIVATING", "RED", pipelineStatus=pipelines)),
        status(failed(RUN, pipelineStatus=[])),
    )
    (pipeline,) = wait().run.engine_pipelines
    assert (pipeline.engine_id, pipeline.status, pipeline.message) == ("engine-1", "RUN_ERROR", "disk full")


def test_final_engine_report_takes_precedence(hub, wait):
    hub.shows(
        status(run_json(RUN, pipelineStatus=[{"status": "RUNNING"}])),
        status(failed(RUN, pipelineStatus=[{"status": "RUN_ERROR"}])),
    )
    assert [pipeline.status for pipeline in wait().run.engine_pipelines] == ["RUN_ERROR"]


def test_engines_of_other_run_are_ignored(hub, wait):
    hub.shows(status(run_json(RUN - 1, pipelineStatus=[{"status": "RUNNING"}])), status(failed(RUN)))
    assert wait().run.engine_pipelines == ()


def test_only_changes_are_logged(hub, wait, caplog):
    with caplog.at_level(logging.INFO):
        hub.shows(
            *[status(run_json(RUN))] * 3,
            *[status(run_json(RUN, inputRecordCount=5, outputRecordCount=4, errorRecordCount=1))] * 3,
            status(succeeded(RUN)),
        )
        wait()
    lines = [record.getMessage() for record in caplog.records if "tracking" in record.name]
    assert all(line.startswith("Job ") and f" run {RUN}" in line for line in lines)
    assert [line.rpartition(": ")[2] for line in lines] == [
        "ACTIVE/GREEN",
        "INACTIVE/GRAY",
    ]


def counting(input_count, errors=0):
    return status(run_json(RUN, inputRecordCount=input_count, outputRecordCount=input_count, errorRecordCount=errors))


def test_progress_is_logged_every_minute_with_throughput(hub, wait, caplog):
    with caplog.at_level(logging.INFO):
        hub.shows(*[counting(30_000 * number, number) for number in range(6)], status(succeeded(RUN)))
        wait(poll_interval=30.0)
    lines = [record.getMessage() for record in caplog.records if "records/s" in record.getMessage()]
    assert lines == [
        f"Job '{JOB_NAME}' run {RUN}: ACTIVE/GREEN, 60,000 records in, 60,000 out, 2 errors, 1,000 records/s",
        f"Job '{JOB_NAME}' run {RUN}: ACTIVE/GREEN, 120,000 records in, 120,000 out, 4 errors, 1,000 records/s",
    ]


@pytest.mark.parametrize(("interval", "expected"), [(0.0, 0), (30.0, 5), (150.0, 1)])
def test_progress_interval_is_that_of_the_client(hub, wait, make_client, caplog, interval, expected):
    client = make_client(max_attempts=1, progress_interval=interval)
    with caplog.at_level(logging.INFO):
        hub.shows(*[counting(number) for number in range(6)], status(succeeded(RUN)))
        wait(poll_interval=30.0, client=client)
    assert sum("records/s" in record.getMessage() for record in caplog.records) == expected


@pytest.mark.parametrize(
    ("fields", "polls"),
    [
        ({"errorMessage": "pipeline in status 'START_ERROR': CONTAINER_0800 - Invalid"}, 1),
        ({"pipelineStatus": [{"sdcId": "engine-1", "status": "START_ERROR"}]}, 1),
        ({"errorMessage": "START_ERROR", "inputRecordCount": 1}, 5),
        ({"errorMessage": "pipeline in status 'RUN_ERROR': JDBC_00 - Broken"}, 5),
    ],
    ids=["message", "engine", "with records", "while running"],
)
def test_run_that_failed_at_start_has_no_metrics_to_wait_for(http, hub, wait, clock, fields, polls):
    http.get(COUNTS, json={})
    hub.shows(status(failed(RUN, **fields)))
    assert wait(metrics_timeout=20.0).outcome is Outcome.FAILED
    assert len(clock.slept) == polls - 1


def test_restarted_job_is_resolved_from_history(http, hub, wait, caplog):
    hub.shows(status(run_json(RUN)), status(run_json(RUN + 1)))
    http.get(HISTORY, json=page_json(run_json(RUN + 1), failed(RUN), succeeded(RUN - 1)))
    report = wait()
    assert (report.run.run_count, report.outcome) == (RUN, Outcome.FAILED)
    assert "was restarted" in caplog.text


def test_restarted_job_keeps_metrics_of_tracked_run(http, hub, wait):
    hub.shows(status(succeeded(RUN + 2)))
    http.get(HISTORY, json=page_json(succeeded(RUN + 2), succeeded(RUN + 1), succeeded(RUN)))
    http.get(COUNTS, json=final_counts(RUN + 2, inputCount=999))
    report = wait()
    assert report.metrics.run_count == RUN
    assert report.metrics.input_count == 100


def test_active_run_in_history_is_awaited(http, hub, wait):
    hub.shows(status(run_json(RUN + 1)))
    active, over = page_json(run_json(RUN, "DEACTIVATING")), page_json(succeeded(RUN))
    http.get(HISTORY, [{"json": active}] * 5 + [{"json": over}])
    assert wait().run.run_count == RUN


@pytest.mark.parametrize(
    "history",
    [
        {"json": page_json(succeeded(RUN + 1))},
        {"json": page_json()},
        UNKNOWN,
        FORBIDDEN,
        {"status_code": 400, "json": issues_json(("JOBRUNNER_1", "no such search"))},
    ],
)
def test_run_missing_in_history_is_lost(http, hub, wait, clock, history):
    hub.shows(status(succeeded(RUN + 1)))
    http.get(HISTORY, **history)
    with pytest.raises(ControlHubRunLostError, match=rf"latest run is {RUN + 1}, and its history does not contain"):
        wait()
    assert hub.polls == 3
    assert clock.slept == [10.0, 10.0]


def test_late_history_entry_is_found(http, hub, wait):
    hub.shows(status(succeeded(RUN + 1)))
    http.get(HISTORY, [{"json": page_json()}, {"json": page_json()}, {"json": page_json(succeeded(RUN))}])
    assert wait().outcome is Outcome.SUCCEEDED


def test_unreadable_history_is_an_outage(http, hub, wait):
    hub.shows(status(succeeded(RUN + 1)))
    http.get(HISTORY, [OUTAGE] * 10 + [{"json": page_json(succeeded(RUN))}])
    assert wait().outcome is Outcome.SUCCEEDED


GONE = {
    "missing": {"json": {}},
    "null": {"json": {JOB_ID: None}},
    "404": UNKNOWN,
    "403": FORBIDDEN,
    "400": {"status_code": 400, "json": issues_json(("JOBRUNNER_1", "no such job"))},
}


@pytest.mark.parametrize("answer", GONE.values(), ids=GONE)
@pytest.mark.parametrize("job", [UNKNOWN, FORBIDDEN, {"content": b""}], ids=["404", "403", "empty"])
def test_run_of_deleted_job_is_lost(http, hub, wait, answer, job):
    hub.shows(status(run_json(RUN)), answer)
    http.get(JOB, **job)
    http.post(JOBS, json=[])
    with pytest.raises(ControlHubRunLostError, match="the job does not exist any more"):
        wait()
    assert hub.polls == 4


@pytest.mark.parametrize("answer", GONE.values(), ids=GONE)
def test_late_run_is_awaited(hub, wait, answer):
    hub.shows(*[answer] * 10, status(run_json(RUN)), status(succeeded(RUN)))
    assert wait().outcome is Outcome.SUCCEEDED


def test_missing_polls_count_only_consecutively(http, hub, wait):
    http.get(JOB, **UNKNOWN)
    missing, there = GONE["missing"], status(run_json(RUN))
    hub.shows(missing, missing, there, missing, missing, status(run_json(RUN - 1)), missing, status(succeeded(RUN)))
    assert wait().outcome is Outcome.SUCCEEDED


def test_unreadable_job_is_not_considered_deleted(http, hub, wait):
    hub.shows(*[GONE["404"]] * 6, status(succeeded(RUN)))
    http.get(JOB, **OUTAGE)
    assert wait().outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    "outage",
    [
        OUTAGE,
        {"status_code": 429},
        {"status_code": 500},
        {"text": "<html>maintenance</html>"},
        {"json": []},
        {"json": {JOB_ID: {"runCount": "x"}}},
    ],
)
def test_outage_is_tolerated_and_logged_once(hub, wait, clock, caplog, outage):
    hub.shows(status(run_json(RUN)), *[outage] * 100, status(run_json(RUN)), status(succeeded(RUN)))
    with caplog.at_level(logging.INFO):
        assert wait().outcome is Outcome.SUCCEEDED
    assert len(clock.slept) == 102
    assert caplog.text.count("Still waiting") == 1
    assert caplog.text.count("Control Hub responds again after 100 failed polls") == 1


def test_each_outage_is_logged(hub, wait, caplog):
    hub.shows(OUTAGE, OUTAGE, status(run_json(RUN)), OUTAGE, status(succeeded(RUN)))
    wait()
    assert caplog.text.count("Still waiting") == 2


@pytest.mark.parametrize(
    "answer",
    [
        FORBIDDEN,
        {"status_code": 400, "json": issues_json(("RESTAPI_08", "project"))},
    ],
)
def test_forbidden_job_ends_wait_after_confirmation(http, hub, wait, answer):
    hub.shows(status(run_json(RUN)), answer)
    http.get(JOB, **answer)
    http.post(JOBS, **answer)
    with pytest.raises(ControlHubPermissionError):
        wait()
    assert hub.polls == 4


def test_unauthorized_poll_ends_wait(hub, wait, clock):
    hub.shows(status(run_json(RUN)), {"status_code": 401})
    with pytest.raises(ControlHubAuthenticationError):
        wait()
    assert clock.slept == [10.0]


def test_timeout_reports_last_status(hub, wait, clock):
    hub.shows(status(run_json(RUN, "ACTIVE", "RED")))
    with pytest.raises(ControlHubRunTimeoutError, match=rf"Job .* run {RUN} .* within 25 s.*Last status: ACTIVE/RED"):
        wait(timeout=25.0)
    assert clock.slept == [10.0, 10.0, 5.0]
    assert hub.polls == 4


def test_final_poll_at_deadline_finds_end(hub, wait, clock):
    hub.shows(*[status(run_json(RUN))] * 3, status(succeeded(RUN)))
    assert wait(timeout=25.0).outcome is Outcome.SUCCEEDED
    assert clock.slept == [10.0, 10.0, 5.0]


def test_final_poll_skips_metrics_wait(http, hub, wait, clock):
    hub.shows(status(run_json(RUN)), status(succeeded(RUN)))
    http.get(COUNTS, json={})
    report = wait(timeout=10.0, metrics_timeout=30.0)
    assert (report.outcome, report.metrics, report.metrics_final) == (Outcome.SUCCEEDED, None, False)
    assert clock.slept == [10.0]


@pytest.mark.parametrize("timeout", [0.0, -5.0])
def test_expired_timeout_polls_once(hub, wait, clock, timeout):
    hub.shows(status(run_json(RUN)))
    with pytest.raises(ControlHubRunTimeoutError):
        wait(timeout=timeout)
    assert hub.polls == 1
    assert clock.slept == []


def test_outage_until_deadline_is_timeout(hub, wait):
    hub.shows(OUTAGE)
    with pytest.raises(ControlHubRunTimeoutError, match="has not ended within 60 s"):
        wait(timeout=60.0)


def test_wait_without_deadline_may_take_days(hub, wait, clock):
    hub.shows(*[status(run_json(RUN))] * 200, status(succeeded(RUN)))
    assert wait(poll_interval=1500.0).outcome is Outcome.SUCCEEDED
    assert sum(clock.slept) == 300_000


def test_failed_run_without_events_is_not_timeout(http, hub, wait):
    hub.shows(status(failed(RUN)))
    http.get(events_url(RUN), **OUTAGE)
    report = wait(timeout=20.0)
    assert report.outcome is Outcome.FAILED
    assert report.events == ()


def test_timeout_reports_undecided_outcome(http, hub, wait):
    hub.shows(status(succeeded(RUN)))
    http.get(events_url(RUN), **OUTAGE)
    with pytest.raises(ControlHubRunTimeoutError, match=r"ended INACTIVE/GRAY, but .* events") as caught:
        wait(timeout=20.0)
    assert "has not ended" not in str(caught.value)


@pytest.mark.parametrize("answer", [{"status_code": 404}, {"status_code": 400}, {"json": []}, {"content": b""}])
def test_missing_events_are_no_error(http, hub, wait, answer):
    hub.shows(status(succeeded(RUN)))
    http.get(events_url(RUN), **answer)
    report = wait()
    assert (report.outcome, report.events) == (Outcome.SUCCEEDED, ())


def test_events_are_awaited_during_outage(http, hub, wait):
    hub.shows(status(succeeded(RUN)))
    http.get(events_url(RUN), [OUTAGE] * 50 + [{"json": stopped_events()}])
    assert wait().outcome is Outcome.STOPPED


@pytest.mark.parametrize("answer", [{"json": {}}, {"json": [{"time": "x"}]}])
@pytest.mark.parametrize("end", [succeeded(RUN), failed(RUN)], ids=["success", "failure"])
def test_invalid_events_do_not_block_ended_run(http, hub, wait, clock, answer, end):
    hub.shows(status(end))
    http.get(events_url(RUN), **answer)
    report = wait(metrics_timeout=30.0)
    assert report.outcome is (Outcome.SUCCEEDED if end["color"] == "GRAY" else Outcome.FAILED)
    assert sum(clock.slept) == 30.0


def test_unavailable_events_do_not_block_failed_run(http, hub, wait, clock):
    hub.shows(status(failed(RUN)))
    http.get(events_url(RUN), **OUTAGE)
    assert wait(metrics_timeout=30.0).outcome is Outcome.FAILED
    assert sum(clock.slept) == 30.0


def test_unauthorized_events_end_wait(http, hub, wait):
    hub.shows(status(succeeded(RUN)))
    http.get(events_url(RUN), status_code=401)
    with pytest.raises(ControlHubAuthenticationError):
        wait()


def test_metrics_saved_after_end_are_final(hub, wait, clock):
    hub.shows(status(succeeded(RUN)))
    report = wait()
    assert report.metrics_final is True
    assert (report.metrics.run_count, report.metrics.input_count) == (RUN, 100)
    assert clock.slept == []


def test_pipeline_end_decides_final_metrics(http, hub, wait):
    """The engine saves for the last time when its pipeline ends, before the job becomes inactive."""
    hub.shows(status(succeeded(RUN)))
    newest = counts_json(saved=START + 58_500)
    http.get(COUNTS, json={"0": newest, "1": counts_json(RUN - 1)})
    assert wait().metrics_final is True


def test_run_end_decides_without_events(http, hub, wait):
    hub.shows(status(succeeded(RUN)))
    http.get(events_url(RUN), json=[])
    assert wait(metrics_timeout=0).metrics_final is True
    http.get(COUNTS, json={"0": counts_json(saved=START + 58_500), "1": counts_json(RUN - 1)})
    assert wait(metrics_timeout=0).metrics_final is False


def test_final_metrics_are_awaited_briefly(http, hub, wait, clock):
    hub.shows(status(succeeded(RUN)))
    early = {"0": counts_json(saved=START + 30_000, inputCount=50), "1": counts_json(RUN - 1)}
    http.get(COUNTS, [{"json": {}}, {"json": early}, {"json": final_counts()}])
    report = wait()
    assert (report.metrics.input_count, report.metrics_final) == (100, True)
    assert clock.slept == [5.0, 5.0]
    assert hub.polls == 1


def test_late_metrics_are_marked_provisional(http, hub, wait, clock):
    hub.shows(status(succeeded(RUN)))
    http.get(COUNTS, json={"0": counts_json(saved=START + 30_000, inputCount=50), "1": counts_json(RUN - 1)})
    report = wait(metrics_timeout=12.0)
    assert (report.outcome, report.metrics.input_count, report.metrics_final) == (Outcome.SUCCEEDED, 50, False)
    assert clock.slept == [5.0, 5.0, 5.0]


def test_short_poll_interval_applies_to_metrics(http, hub, wait, clock):
    hub.shows(status(succeeded(RUN)))
    http.get(COUNTS, json={})
    wait(poll_interval=2.0, metrics_timeout=3.0)
    assert clock.slept == [2.0, 2.0]


@pytest.mark.parametrize(
    "answer",
    [
        {"status_code": 403},
        {"status_code": 404},
        {"status_code": 500},
        {"text": "<html>"},
        {"json": []},
        {"json": {"0": {"inputCount": "many"}}},
        {"json": {}},
        {"content": b""},
    ],
)
@pytest.mark.parametrize("end", [succeeded(RUN), failed(RUN)], ids=["success", "failure"])
def test_outcome_does_not_depend_on_metrics(http, hub, wait, clock, answer, end):
    hub.shows(status(end))
    http.get(COUNTS, **answer)
    report = wait(metrics_timeout=20.0)
    assert report.outcome is (Outcome.SUCCEEDED if end["color"] == "GRAY" else Outcome.FAILED)
    assert (report.metrics, report.metrics_final) == (None, False)
    assert sum(clock.slept) == 20.0


@pytest.mark.parametrize("refused", [COUNTS, REGISTRY])
def test_unauthorized_metrics_do_not_fail_ended_run(http, hub, wait, refused):
    hub.shows(status(succeeded(RUN)))
    http.get(COUNTS, json={})
    http.get(refused, status_code=401)
    report = wait(metrics_timeout=20.0)
    assert (report.outcome, report.metrics) == (Outcome.SUCCEEDED, None)


def test_zero_metrics_timeout_reads_each_source_once(http, hub, wait, clock):
    hub.shows(status(succeeded(RUN)))
    http.get(COUNTS, json={})
    assert wait(metrics_timeout=0.0).metrics is None
    assert clock.slept == []
    assert len([path for path in paths(http) if "/metrics/" in path]) == 2


SAVED = {"inputRecordCount": 9, "outputRecordCount": 8, "errorRecordCount": 1}
COUNTERS = {
    f"pipeline.batch{name}.counter": {"count": count}
    for name, count in (("InputRecords", 19), ("OutputRecords", 18), ("ErrorRecords", 1), ("ErrorMessages", 2))
}


def test_status_counts_can_be_final(http, hub, wait, clock):
    hub.shows(status(succeeded(RUN, **SAVED, lastReportedMetricTime=START + MINUTE + 1)))
    http.get(COUNTS, json={"1": counts_json(RUN - 1)})
    report = wait(metrics_timeout=20.0)
    assert (report.metrics.input_count, report.metrics.stage_errors_count) == (9, None)
    assert (report.metrics_final, clock.slept) == (True, [])
    assert "9 in, 8 out, 1 errors, unknown stage errors" in report.details()
    assert RunReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


@pytest.mark.parametrize("saved", [{}, {**SAVED, "lastReportedMetricTime": START + 30_000}], ids=["none", "early"])
@pytest.mark.parametrize("counts", [{"json": {}}, {"status_code": 404}], ids=["no entry", "refused"])
def test_counters_are_read_after_metrics_timeout(http, hub, wait, clock, saved, counts):
    hub.shows(status(succeeded(RUN, **saved)))
    http.get(COUNTS, **counts)
    http.get(REGISTRY, json={"counters": COUNTERS})
    report = wait(metrics_timeout=20.0)
    assert (report.metrics.input_count, report.metrics.total_error_count, report.metrics_final) == (19, 3, True)
    assert sum(clock.slept) == 20.0
    registry = [request for request in http.request_history if request.path.startswith("/jobrunner/rest/v1/metrics")]
    assert [request.qs for request in registry] == [{"runcount": [str(RUN)]}]


def test_recovered_activation_error_is_not_end(http, hub, wait):
    hub.shows(status(succeeded(RUN)))
    recovery = [event_json(RUN, 5, "ACTIVATION_ERROR"), event_json(RUN, 10, "ACTIVE")]
    http.get(events_url(RUN), json=[*recovery, event_json(RUN, 60, "INACTIVE")])
    http.get(COUNTS, json={"0": counts_json(saved=START + 30_000), "1": counts_json(RUN - 1)})
    assert wait(metrics_timeout=0).metrics_final is False
    http.get(COUNTS, json=final_counts())
    assert wait(metrics_timeout=0).metrics_final is True


def test_metrics_of_previous_run_are_ignored(http, hub, wait):
    hub.shows(status(succeeded(RUN)))
    http.get(COUNTS, json=final_counts(RUN - 1))
    assert wait(metrics_timeout=0.0).metrics is None


def test_tracker_observes_without_requests(http, hub, client, clock):
    tracker = RunTracker(client, JOB_ID, RUN, now=clock.now)
    assert tracker.observe(JobRun.from_wire(succeeded(RUN - 1))) is False
    assert tracker.observe(JobRun.from_wire(run_json(RUN))) is False
    assert tracker.next_delay(30.0) == 30.0
    assert not tracker.has_ended
    assert tracker.observe(JobRun.from_wire(succeeded(RUN))) is True
    assert http.call_count == 0
    assert tracker.resolve().outcome is Outcome.SUCCEEDED
    assert tracker.has_ended
    assert tracker.next_delay(30.0) == 5.0


def test_ended_run_stays_ended(http, hub, client, clock):
    http.get(COUNTS, [{"json": {}}, {"json": final_counts(RUN + 1)}])
    tracker = RunTracker(client, JOB_ID, RUN, now=clock.now)
    assert tracker.observe(JobRun.from_wire(failed(RUN)))
    assert tracker.resolve() is None
    assert tracker.observe(JobRun.from_wire(run_json(RUN + 1)))
    clock.sleep(60)
    report = tracker.resolve()
    assert (report.run.run_count, report.outcome) == (RUN, Outcome.FAILED)
    assert report.metrics.run_count == RUN


def test_timeout_message_without_number(client):
    assert str(RunTracker(client, JOB_ID, 1).timed_out(None)) == f"Job {JOB_ID} run 1 has not ended in time."


_COLORS = st.sampled_from(["GRAY", "GREEN", "RED", ""])
_STATUSES = st.none() | st.builds(
    lambda run_count, status, color: JobRun.from_wire(run_json(run_count, status, color)),
    st.integers(RUN - 2, RUN + 2),
    st.sampled_from(
        ["ACTIVATING", "ACTIVE", "DEACTIVATING", "INACTIVE", "INACTIVE_ERROR", "ACTIVATION_ERROR", "PAUSED", ""]
    ),
    _COLORS,
)
_HISTORIES = st.none() | _STATUSES.filter(lambda run: run is None or run.run_count == RUN)
_FAULTS = st.sampled_from([None, None, None, ControlHubUnavailableError("no answer"), ControlHubError("odd")])


class _AnyHub:
    """As much of a client as a follower uses; each request may fail."""

    def __init__(self, data):
        self._data = data
        self.progress_interval = 0.0
        self.jobs = SimpleNamespace(
            get=lambda _: self._answer(SimpleNamespace(label="the job", current_run=None, create_time=None))
        )
        self.runs = SimpleNamespace(
            get_or_successor=lambda *_, **__: self._answer(self._data.draw(_HISTORIES)),
            events=lambda _: self._answer([RunEvent.from_wire(event) for event in finished_events(RUN)]),
        )
        nothing = lambda *_, **__: self._answer(None)  # noqa: E731
        self.metrics = SimpleNamespace(of_run=nothing, counted=nothing)

    def _answer(self, value):
        fault = self._data.draw(_FAULTS)
        if fault is not None:
            raise fault
        return value


@settings(max_examples=100, deadline=None)
@given(statuses=st.lists(_STATUSES, max_size=15), data=st.data())
def test_any_statuses_yield_outcome_of_tracked_run(statuses, data):
    clock = VirtualClock()
    tracker = RunTracker(_AnyHub(data), JOB_ID, RUN, now=clock.now, log=logging.getLogger("quiet"))
    for seen in statuses:
        clock.sleep(10.0)
        try:
            report = tracker.resolve() if tracker.observe(seen) else None
        except ControlHubError:
            continue
        if report is not None:
            assert report.run.run_count == RUN
            assert report.run.status in {"INACTIVE", "INACTIVE_ERROR", "ACTIVATION_ERROR"}
            expected = report.run.status == "INACTIVE" and report.run.color != "RED"
            assert (report.outcome is Outcome.SUCCEEDED) == expected
            break
