from __future__ import annotations

import json
import re
from datetime import datetime, timezone

import pytest

from airflow_provider_streamsets.operators.metrics import ControlHubJobRunHistoryOperator
from tests.unit.fakes.single_job_hub import (
    HUB,
    JOB_ID,
    JOB_NAME,
    ME,
    T0,
    SingleJobHub,
    event_json,
    failed,
    run_json,
    succeeded,
)

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture
def hub(http):
    """A job with a succeeded run (2), a failed run (3) and an active run (4)."""
    hub = SingleJobHub(http, latest=run_json(4))
    counts = {"inputRecordCount": 100, "outputRecordCount": 90, "errorRecordCount": 10}
    first = {**succeeded(2), **counts, "lastReportedMetricTime": T0, "pipelineCommitLabel": "v7"}
    hub.history = [failed(3), run_json(4), first]
    return hub


def operator(**arguments):
    return ControlHubJobRunHistoryOperator(task_id="history", **{"job_id": JOB_ID, **arguments})


def at(run_count):
    """When a run was started."""
    return datetime.fromtimestamp(T0 / 1000 + run_count * 100, tz=timezone.utc)


def test_returns_runs_newest_first(hub, context):
    result = operator(job_id=None, job_name=JOB_NAME).execute(context)
    assert [run["run_count"] for run in result] == [4, 3, 2]
    assert result[2] == {
        "job_id": JOB_ID,
        "job_name": JOB_NAME,
        "run_count": 2,
        "status": "INACTIVE",
        "color": "GRAY",
        "outcome": None,
        "error_message": None,
        "start_time": "2026-01-01T09:53:20Z",
        "finish_time": "2026-01-01T09:54:20Z",
        "duration": 60.0,
        "user": ME,
        "pipeline_version": "7",
        "engine_ids": ["engine-1"],
        "input_count": 100,
        "output_count": 90,
        "error_count": 10,
    }
    assert json.loads(json.dumps(result)) == result
    assert context["ti"].xcoms == {"job_id": JOB_ID, "streamsets_job_link": f"{HUB}/sch/jobs/detail/{JOB_ID}"}


def test_status_gives_failure_and_unsaved_counts_are_none(hub, context):
    active_run, broken, _ = operator().execute(context)
    assert (broken["outcome"], broken["output_count"]) == ("FAILED", None)
    assert "JDBC_00" in broken["error_message"]
    assert (active_run["outcome"], active_run["finish_time"], active_run["duration"]) == (None, None, None)


def test_limit_is_applied_and_logged(hub, context, task_log):
    assert [run["run_count"] for run in operator(limit="2").execute(context)] == [4, 3]
    assert f"Job 'Orders' ({JOB_ID}): found 3 runs or more, returning the newest 2." in task_log()


@pytest.mark.parametrize(
    ("limit", "order", "pages"), [(1, -1, 1), (249, -1, 1), (250, -1, 2), (None, -1, 3), (1, 1, 3), (None, 1, 3)]
)
def test_limit_bounds_pages_read(http, context, task_log, limit, order, pages):
    hub = SingleJobHub(http, latest=succeeded(600))
    hub.history = [succeeded(n) for n in range(1, 601)][::order]
    runs = operator(limit=limit).execute(context)
    assert [run["run_count"] for run in runs] == list(range(600, 0, -1))[:limit]
    assert len([request for request in http.request_history if request.path.endswith("/runs")]) == pages


@pytest.mark.parametrize("window", [{"ended_after": at(590)}, {"active_at": at(590)}])
@pytest.mark.parametrize(("order", "pages"), [(-1, 1), (1, 3)])
def test_time_window_bounds_pages_read(http, context, window, order, pages):
    hub = SingleJobHub(http, latest=succeeded(600))
    hub.history = [succeeded(n) for n in range(1, 601)][::order]
    assert operator(**window).execute(context)[-1]["run_count"] == 590
    assert len([request for request in http.request_history if request.path.endswith("/runs")]) == pages


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ({"since": at(3)}, [4, 3]),
        ({"until": at(3)}, [2]),
        ({"since": at(2).isoformat(), "until": str(at(4))}, [3, 2]),
        ({"since": "2026-01-01T09:53:21Z", "until": "2026-01-01T09:55:01Z"}, [3]),
        ({"since": at(2), "until": at(4), "limit": 1}, [3]),
        ({"since": "2027-01-01"}, []),
        ({"ended_after": "2026-01-01T09:54:20Z"}, [3, 2]),
        ({"ended_after": "2026-01-01T09:54:21Z"}, [3]),
        ({"ended_after": "2027-01-01"}, []),
        ({"active_at": "2026-01-01T09:53:19Z"}, []),
        ({"active_at": "2026-01-01T09:53:20Z"}, [2]),
        ({"active_at": "2026-01-01T09:54:20Z"}, []),
        ({"active_at": str(at(3))}, [3]),
        ({"active_at": at(40)}, [4]),
    ],
)
def test_time_window_selects_runs(hub, context, window, expected):
    assert [run["run_count"] for run in operator(**window).execute(context)] == expected


def test_include_events_returns_events_and_users(hub, context):
    hub.events = [
        event_json(60, "INACTIVE", "Job finished", run_count=2),
        event_json(0, "ACTIVATING", "Job started", ME, run_count=2),
        event_json(30, "DEACTIVATING", "Job stopped", "another-user@org", run_count=2),
    ]
    (run,) = operator(include_events=True, until=at(3)).execute(context)
    assert run["outcome"] == "STOPPED"
    assert [(event["status"], event["user"]) for event in run["events"]] == [
        ("ACTIVATING", ME),
        ("DEACTIVATING", "another-user@org"),
        ("INACTIVE", None),
    ]
    assert run["events"][0]["time"] == run["start_time"]
    assert json.loads(json.dumps(run)) == run


def test_fetches_events_only_for_returned_runs(hub, http, context):
    def asked():
        return [r.path for r in http.request_history if r.path.endswith("jobstatushistory")]

    operator().execute(context)
    assert asked() == []
    operator(include_events="True", limit=1).execute(context)
    assert asked() == ["/jobrunner/rest/v1/job/run-4:org/jobstatushistory"]


def test_events_decide_outcome_of_ended_runs(hub, context):
    hub.events = [event_json(0, "ACTIVATING", "Job started", ME), event_json(60, "DEACTIVATING", "Pipeline finished")]
    outcomes = {run["run_count"]: run["outcome"] for run in operator(include_events=True).execute(context)}
    assert outcomes == {4: None, 3: "FAILED", 2: "SUCCEEDED"}


def test_truncates_long_messages_and_event_lists(hub, context):
    hub.history = [failed(3, message="x" * 5000)]
    hub.events = [event_json(n, "ACTIVE", "y" * 5000) for n in range(50)]
    (run,) = operator(include_events=True).execute(context)
    assert len(run["error_message"]) == 500
    assert len(run["events"]) == 20
    assert {len(event["message"]) for event in run["events"]} == {500}


def test_job_without_runs_has_no_history(http, context):
    SingleJobHub(http, latest=None)
    assert operator().execute(context) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 0}, "'limit' must be an integer >= 1"),
        ({"since": "today"}, "'since' must be a datetime or an ISO 8601 string"),
        ({"until": 7}, "'until' must be a datetime or an ISO 8601 string"),
        ({"include_events": "yes"}, "'include_events' must be true or false"),
    ],
)
def test_rejects_wrong_types_at_parse(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        operator(**arguments)
