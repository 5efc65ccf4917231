from __future__ import annotations

import copy
import json

import pendulum
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub import EnginePipeline, Outcome, RunMetrics, RunReport
from airflow_provider_streamsets.control_hub.models import EngineCommand, JobRun, RunEvent
from airflow_provider_streamsets.control_hub.tracking.outcome import decide_outcome
from airflow_provider_streamsets.control_hub.tracking.report import run_summary
from tests.unit.fakes.api_payloads import (
    JOB_ID,
    JOB_NAME,
    ME,
    counts_json,
    event_json,
    failed,
    finished_events,
    run_json,
    succeeded,
)


def _events(*bodies):
    return [RunEvent.from_wire(body) for body in bodies]


def _report(body, events=(), **fields):
    return RunReport.build(job_id=JOB_ID, job_name=JOB_NAME, run=JobRun.from_wire(body), events=_events(*events))


STOPPED_EVENTS = [
    event_json(1, 0, "ACTIVATING", "Job started", ME),
    event_json(1, 3, "ACTIVE"),
    event_json(1, 40, "DEACTIVATING", "Job stopped", f"someone@{ME}"),
    event_json(1, 60, "INACTIVE"),
]


@pytest.mark.parametrize(
    ("run", "events", "outcome"),
    [
        (succeeded(), finished_events(), Outcome.SUCCEEDED),
        (succeeded(), [], Outcome.SUCCEEDED),
        (succeeded(), STOPPED_EVENTS, Outcome.STOPPED),
        (succeeded(), [event_json(1, 60, "INACTIVE", "Job force stopped", ME)], Outcome.STOPPED),
        (succeeded(), [event_json(1, 9, "ACTIVE", "Job synchronized", ME)], Outcome.SUCCEEDED),
        (
            succeeded(),
            [
                event_json(1, 40, "DEACTIVATING"),
                event_json(1, 60, "INACTIVE"),
                event_json(1, 99, "INACTIVE", "Reset", ME),
            ],
            Outcome.SUCCEEDED,
        ),
        (failed(), finished_events(), Outcome.FAILED),
        (failed(), STOPPED_EVENTS, Outcome.FAILED),
        (run_json(1, "INACTIVE_ERROR", "RED"), [], Outcome.FAILED),
        (run_json(1, "ACTIVATION_ERROR", "GRAY"), [], Outcome.FAILED),
    ],
)
def test_status_and_events_decide_outcome(run, events, outcome):
    assert decide_outcome(JobRun.from_wire(run), _events(*events)).outcome is outcome
    assert _report(run, events).outcome is outcome


def test_report_size_is_limited():
    long = "x" * 100_000
    report = _report(
        failed(
            errorMessage=long,
            warnings=[long] * 100,
            sdcIds=["engine"] * 100,
            pipelineStatus=[{"sdcId": "engine", "status": "RUN_ERROR", "message": long}] * 100,
            ackTrackers=[{"ackStatus": "ERROR", "message": long}] * 100,
        ),
        [event_json(1, n, "ACTIVE", long) for n in range(100)],
    )
    assert len(json.dumps(report.to_dict())) < 60_000
    assert report.run.error_message.endswith("...")
    assert len(report.events) == 20
    assert report.events[-1].time == RunEvent.from_wire(event_json(1, 99, "ACTIVE")).time


def test_only_failed_commands_are_kept():
    report = _report(failed(ackTrackers=[{"ackStatus": "SUCCESS"}, {"ackStatus": "TIMEDOUT", "sdcId": "engine-1"}]))
    assert [command.result for command in report.run.engine_commands] == ["TIMEDOUT"]


def test_dropped_events_still_decide_outcome():
    events = [event_json(1, 1, "DEACTIVATING", user=ME), *(event_json(1, n + 2, "INACTIVE") for n in range(50))]
    assert _report(succeeded(), events).outcome is Outcome.STOPPED


def test_result_has_documented_keys():
    report = RunReport(
        JOB_ID,
        JOB_NAME,
        JobRun.from_wire(succeeded(2)),
        Outcome.SUCCEEDED,
        metrics=RunMetrics.from_wire(counts_json(), 2),
        metrics_final=True,
    )
    assert report.to_result() == {
        "job_id": JOB_ID,
        "job_name": JOB_NAME,
        "run_count": 2,
        "status": "INACTIVE",
        "color": "GRAY",
        "outcome": "SUCCEEDED",
        "error_message": None,
        "start_time": "2026-01-01T10:50:00Z",
        "finish_time": "2026-01-01T10:51:00Z",
        "duration": 60.0,
        "metrics": {
            "run_count": 2,
            "input_count": 100,
            "output_count": 90,
            "error_count": 7,
            "stage_errors_count": 3,
            "total_error_count": 10,
        },
        "metrics_final": True,
    }
    json.dumps(report.to_result())


def test_never_run_job_has_summary():
    summary = run_summary(JOB_ID, JOB_NAME, None)
    assert summary["run_count"] == 0
    assert {summary[key] for key in ("status", "color", "outcome", "start_time", "finish_time", "duration")} == {None}
    assert summary.keys() <= _report(succeeded()).to_result().keys()


def test_details_contain_all_facts():
    body = failed(
        errorMessage="RUN_ERROR: JDBC_00 - Cannot connect",
        warnings=["JOBRUNNER_62 - Not responding"],
        pipelineStatus=[{"sdcId": "engine-1", "status": "RUN_ERROR", "message": "Connection refused"}],
        ackTrackers=[
            {"sdcId": "engine-2", "ackStatus": "ERROR", "eventType": "START_PIPELINE", "message": "no memory"}
        ],
    )
    text = _report(body, STOPPED_EVENTS).details()
    for part in [
        f"Run 1 failed: JDBC_00 - Cannot connect (job '{JOB_NAME}')",
        "Error: RUN_ERROR: JDBC_00 - Cannot connect",
        f"Status: INACTIVE/RED, started 2026-01-01 09:50:00 UTC by {ME}, ran for 60.0 s",
        "Warning: JOBRUNNER_62 - Not responding",
        "Engine engine-1: RUN_ERROR, Connection refused",
        "Command START_PIPELINE to engine engine-2: ERROR, no memory",
        "Last 4 events:",
        f"2026-01-01 09:50:40 UTC DEACTIVATING: Job stopped (by someone@{ME})",
        "Control Hub has saved no counts",
    ]:
        assert part in text


def test_details_name_unknown_facts():
    run = JobRun(run_id="", job_id="", run_count=1, status="ACTIVATION_ERROR", color="")
    report = RunReport.build(job_id=JOB_ID, job_name="", run=run, events=[])
    text = report.details()
    assert f"Run 1 failed: ACTIVATION_ERROR/no color (job {JOB_ID})" in text
    assert "ACTIVATION_ERROR/no color, started unknown by unknown" in text
    assert "Check that engines with all of its labels are running." in text
    assert "Events: none available" in text


ERROR = "Data Collector 'http://sdc.example.com:18630' reported pipeline in status 'RUN_ERROR': JDBC_34 - Query failed"


def test_details_state_outcome_first_error_once_and_ids_last():
    body = failed(
        errorMessage=ERROR,
        warnings=[ERROR],
        pipelineStatus=[{"sdcId": "engine-1", "status": "RUN_ERROR", "message": "JDBC_34 - Query failed"}],
        ackTrackers=[{"sdcId": "engine-1", "ackStatus": "ERROR", "eventType": "STOP_PIPELINE", "message": ERROR}],
    )
    lines = _report(body, [event_json(1, 60, "INACTIVE", ERROR)]).details().splitlines()
    assert lines[0] == f"Run 1 failed: JDBC_34 - Query failed (job '{JOB_NAME}')"
    assert lines[1] == f"  Error: {ERROR}"
    assert not any("Query failed" in line for line in lines[2:])
    assert "  Engine engine-1: RUN_ERROR" in lines
    assert lines[-1] == f"  Ids: job {JOB_ID}, run {body['id']}"
    assert not any(JOB_ID in line for line in lines[:-1])


def test_details_omit_engine_status_that_contradicts_error():
    running = [{"sdcId": "engine-1", "status": "RUNNING"}]
    text = _report(failed(errorMessage=ERROR, pipelineStatus=running)).details()
    assert "RUNNING" not in text
    assert "  Engine engine-1\n" in text
    assert "Engine engine-1: RUNNING" in _report(succeeded(pipelineStatus=running)).details()


def test_details_name_engines_and_users():
    names = {"engine-1": "http://sdc.example.com:18630", ME: "Ann Example"}
    body = failed(pipelineStatus=[{"sdcId": "engine-1", "status": "RUN_ERROR"}])
    text = _report(body, [event_json(1, 0, "ACTIVATING", "Job started", ME)]).details(names)
    assert "by Ann Example, ran for" in text
    assert "Job started (by Ann Example)" in text
    assert "Engine http://sdc.example.com:18630: RUN_ERROR" in text


@pytest.mark.parametrize(
    ("counts", "expected"), [(None, "60 s"), (counts_json(), "90 out, 7 errors, 60 s")], ids=["none", "some"]
)
def test_brief_has_known_facts(counts, expected):
    metrics = None if counts is None else RunMetrics.from_wire(counts, 1)
    report = RunReport(JOB_ID, "", JobRun.from_wire(succeeded()), Outcome.SUCCEEDED, metrics=metrics)
    assert report.brief == expected


def test_details_mark_provisional_counts():
    run = JobRun.from_wire(succeeded())
    metrics = RunMetrics.from_wire(counts_json(), 1)
    for final in (True, False):
        text = RunReport(JOB_ID, "", run, Outcome.SUCCEEDED, metrics=metrics, metrics_final=final).details()
        assert "Records: 100 in, 90 out, 7 errors, 3 stage errors" in text
        assert ("(not final)" in text) is not final
    assert "Engine engine-1" in text


_TEXT = st.text(max_size=20)
_OPTIONAL = st.none() | _TEXT
_TIMES = st.none() | st.integers(1, 253402300799999).map(lambda millis: pendulum.from_timestamp(millis / 1000))
_COUNTS = st.integers(-(2**63), 2**63)
_RUNS = st.builds(
    JobRun,
    run_id=_TEXT,
    job_id=_TEXT,
    run_count=st.integers(1),
    status=st.sampled_from(["INACTIVE", "INACTIVE_ERROR", "ACTIVATION_ERROR"]),
    color=st.sampled_from(["GRAY", "RED", "GREEN", ""]),
    user=_OPTIONAL,
    start_time=_TIMES,
    finish_time=_TIMES,
    error_message=_OPTIONAL,
    warnings=st.lists(_TEXT, max_size=3).map(tuple),
    pipeline_version=_OPTIONAL,
    engine_ids=st.lists(_TEXT, max_size=3).map(tuple),
    engine_pipelines=st.lists(st.builds(EnginePipeline, _TEXT, _TEXT, _OPTIONAL, _TIMES), max_size=3).map(tuple),
    engine_commands=st.lists(
        st.builds(EngineCommand, _TEXT, _TEXT, st.sampled_from(["ERROR", "SUCCESS"]), _OPTIONAL), max_size=3
    ).map(tuple),
    input_record_count=_COUNTS,
    output_record_count=_COUNTS,
    error_record_count=_COUNTS,
    metrics_saved=_TIMES,
)
_METRICS = st.none() | st.builds(RunMetrics, *[_COUNTS] * 6, _TIMES)
_EVENTS = st.lists(
    st.builds(RunEvent, _TIMES, st.sampled_from(["ACTIVE", "DEACTIVATING", ""]), _TEXT, _OPTIONAL), max_size=25
)


@st.composite
def _reports(draw):
    report = RunReport.build(job_id=draw(_TEXT), job_name=draw(_TEXT), run=draw(_RUNS), events=draw(_EVENTS))
    values = {**vars(report), "metrics": draw(_METRICS), "metrics_final": draw(st.booleans())}
    return RunReport(**values)


@settings(max_examples=50, deadline=None)
@given(_reports())
def test_report_survives_json(report):
    value = json.loads(json.dumps(report.to_dict()))
    assert RunReport.from_dict(value) == report
    assert RunReport.from_dict(value).details() == report.details()
    json.dumps(report.to_result())


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)


@given(_ANY)
def test_invalid_report_raises_value_error(value):
    with pytest.raises(ValueError, match="Not a valid run report"):
        RunReport.from_dict(value)


@settings(max_examples=50, deadline=None)
@given(_reports(), st.data())
def test_changed_report_parses_or_raises_value_error(report, data):
    value = json.loads(json.dumps(report.to_dict()))
    inside = data.draw(st.sampled_from([value, value["run"]]))
    name = data.draw(st.sampled_from(sorted(inside)))
    if data.draw(st.booleans()):
        inside[name] = data.draw(_ANY)
    else:
        del inside[name]
    try:
        read = RunReport.from_dict(value)
    except ValueError as error:
        assert "report" in str(error)  # noqa: PT017
    else:
        assert read.run.has_ended
        assert read.outcome is Outcome.FAILED or read.run.is_success


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("run", "status"), "ACTIVE"),
        (("run", "status"), []),
        (("run", "status"), {}),
        (("run", "status"), "SOMETHING_NEW"),
        (("run", "color"), "RED"),
        (("outcome",), "NEARLY"),
        (("run", "start_time"), "P1D"),
        (("run", "start_time"), "yesterday"),
        (("run", "start_time"), 5),
        (("metrics",), {}),
        (("events",), [{}]),
    ],
)
def test_contradictory_report_is_rejected(path, value):
    report = _report(succeeded()).to_dict()
    changed = copy.deepcopy(report)
    inside = changed
    for name in path[:-1]:
        inside = inside[name]
    inside[path[-1]] = value
    assert RunReport.from_dict(report).outcome is Outcome.SUCCEEDED
    with pytest.raises(ValueError, match="report"):
        RunReport.from_dict(changed)


def test_acknowledged_failure_remains_failure():
    run = JobRun(run_id="run", job_id="job", run_count=1, status="INACTIVE", color="GRAY")
    events = [
        RunEvent(time=None, status="INACTIVE_ERROR", message="Job failed", user=None),
        RunEvent(time=None, status="INACTIVE", message="Error acknowledged", user="another-user@org"),
    ]
    report = RunReport.build(job_id="job", job_name="Job", run=run, events=events)
    assert report.outcome is Outcome.FAILED
    assert RunReport.from_dict(report.to_dict()) == report


def test_report_of_other_version_is_readable():
    stored = _report(succeeded()).to_dict()
    stored["new"] = stored["run"]["new"] = "field"
    del stored["run"]["warnings"], stored["metrics_final"], stored["job_name"]
    assert RunReport.from_dict(stored).outcome is Outcome.SUCCEEDED
