from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseHook,
    BaseSensorOperator,
    TaskDeferred,
)

from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubExpectationError,
    ControlHubMetricsUnavailableError,
    ControlHubPermissionError,
    ControlHubRunLostError,
    ControlHubUnexpectedResponseError,
)
from airflow_provider_streamsets.polling import connections
from airflow_provider_streamsets.sensors.metrics import ControlHubJobMetricSensor
from tests.unit.fakes.single_job_hub import (
    HUB,
    JOB_ID,
    JOB_NAME,
    LONG_AGO,
    T0,
    SingleJobHub,
    counts_json,
    failed,
    run_json,
    succeeded,
)
from tests.unit.fakes.virtual_time import run_in_virtual_time

pytestmark = pytest.mark.usefixtures("connection", "sleep_calls")

COUNTS = f"{HUB}/timeseries/rest/v1/metrics/job/{JOB_ID}/recordCountsForAllRuns"
REGISTRY = f"{HUB}/jobrunner/rest/v1/metrics/job/{JOB_ID}"
Rescheduled = "AirflowRescheduleException"
MODES = pytest.mark.parametrize("mode", ["poke", "reschedule", "deferrable"])
THOUSAND_OUT = {"metric": "output_count", "threshold": 1000}


@pytest.fixture(autouse=True)
def no_database(monkeypatch):
    """Airflow 2 reads the first poke of a rescheduled sensor from its database, Airflow 3 from the task instance."""
    base = sys.modules[BaseSensorOperator.__module__]
    if hasattr(base, "_orig_start_date"):
        monkeypatch.setattr(base, "_orig_start_date", lambda **_: None)
        monkeypatch.setattr(base, "_is_metadatabase_mysql", lambda: False)


@pytest.fixture(autouse=True)
def read_connection_inline(monkeypatch):
    """Airflow reads connections in threads of its own, which virtual time does not wait for."""

    async def read(conn_id: str) -> tuple[Any, dict[str, Any]]:
        connection = BaseHook.get_connection(conn_id)
        return connection, connection.extra_dejson

    monkeypatch.setattr(connections, "get_connection_and_extra", read)


def active_run(output: int, run_count: int = 4, **fields: Any) -> dict[str, Any]:
    """A running run of which Control Hub has saved that so many records were written."""
    return run_json(run_count, outputRecordCount=output, lastReportedMetricTime=T0 + 1, **fields)


def sensor(**arguments: Any) -> ControlHubJobMetricSensor:
    return ControlHubJobMetricSensor(**{"task_id": "wait", "job_id": JOB_ID, "deferrable": False, **arguments})


def wait_in(mode: str, context: dict[str, Any], **arguments: Any) -> Any:
    """Wait in one of the three modes as Airflow does, and return the result or raise."""
    if mode == "poke":
        return sensor(**arguments).execute(context)
    if mode == "deferrable":
        try:
            return sensor(deferrable=True, **arguments).execute(context)
        except TaskDeferred as error:
            deferred = error
        path, stored = deferred.trigger.serialize()
        trigger = type(deferred.trigger)(**json.loads(json.dumps(stored)))
        assert trigger.serialize() == (path, json.loads(json.dumps(stored)))

        async def first_event() -> Any:
            return [event.payload async for event in trigger.run()]

        (payload,) = run_in_virtual_time(first_event())
        return sensor(deferrable=True, **arguments).execute_complete(context, json.loads(json.dumps(payload)))
    for _ in range(50):
        # A new process, and so a new task object, for each poke.
        try:
            return sensor(mode="reschedule", **arguments).execute(context)
        except Exception as error:
            if type(error).__name__ != Rescheduled:
                raise
    raise AssertionError("the sensor never ends")


@MODES
def test_sensor_succeeds_at_first_satisfying_poll(mode, http, context):
    script = [run_json(4, "ACTIVATING"), run_json(4), active_run(999), active_run(1000), active_run(5000)]
    hub = SingleJobHub(http, latest=run_json(4, "ACTIVATING"), script=script)
    assert wait_in(mode, context, **THOUSAND_OUT) == {
        "job_id": JOB_ID,
        "job_name": JOB_NAME,
        "run_count": 4,
        "satisfied": True,
        "values": {"output_count": 1000},
        "status": "ACTIVE",
        "color": "GREEN",
        "run_ended": False,
    }
    assert hub.polls == 4
    assert set(context["ti"].xcoms) == {"job_id", "run_count", "streamsets_job_link"}
    assert context["task_state_store"].values == {}


@MODES
@pytest.mark.parametrize("on_run_end", ["fail", "evaluate", "skip"])
def test_count_reached_between_polls_counts_at_run_end(mode, on_run_end, http, context):
    counts = counts_json(4, outputCount=1200)
    SingleJobHub(http, latest=active_run(10), script=[active_run(10), succeeded(4)], counts=counts)
    result = wait_in(mode, context, on_run_end=on_run_end, **THOUSAND_OUT)
    assert result["run_ended"]
    assert (result["values"], result["status"], result["color"]) == ({"output_count": 1200}, "INACTIVE", "GRAY")


@MODES
def test_satisfied_condition_outweighs_failed_run(mode, http, context, task_log):
    counts = counts_json(4, outputCount=1200)
    SingleJobHub(http, latest=active_run(10), script=[active_run(10), failed(4)], counts=counts)
    assert wait_in(mode, context, **THOUSAND_OUT)["color"] == "RED"
    assert "output_count >= 1000 (satisfied: 1200)" in task_log()


def test_error_includes_failure_of_run(http, context, task_log):
    SingleJobHub(http, latest=failed(4), counts=counts_json(4, outputCount=1200))
    wait_in("poke", context, **THOUSAND_OUT)
    assert "Job 'Orders' run 4" in task_log()
    SingleJobHub(http, latest=failed(4), counts=counts_json(4, outputCount=900))
    with pytest.raises(
        ControlHubExpectationError, match=r"final metrics of .*not satisfied: 900.* Run 4 failed.*JDBC_00"
    ):
        wait_in("poke", context, **THOUSAND_OUT)


@MODES
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, ControlHubExpectationError),
        ({"on_run_end": "evaluate"}, ControlHubExpectationError),
        ({"on_run_end": "skip"}, AirflowSkipException),
        ({"soft_fail": True}, AirflowSkipException),
        ({"never_fail": True}, AirflowSkipException),
    ],
)
def test_unsatisfied_condition_at_run_end_fails_or_skips(mode, arguments, error, http, context):
    counts = counts_json(4, outputCount=900)
    SingleJobHub(http, latest=active_run(10), script=[active_run(10), succeeded(4)], counts=counts)
    with pytest.raises(error, match=r"output_count >= 1000 \(not satisfied: 900\)"):
        wait_in(mode, context, **arguments, **THOUSAND_OUT)


NON_MONOTONIC = pytest.mark.parametrize(
    "condition",
    [
        {"metric": "output_count", "comparison": "<", "threshold": 1000},
        {"metric": "output_count", "comparison": "==", "threshold": 900},
        {"metric": "output_count", "comparison": "!=", "threshold": 5},
        {"metric": "error_ratio", "comparison": ">", "threshold": 0.05},
        {"metric": "output_per_second", "comparison": ">=", "threshold": 0},
    ],
    ids=lambda condition: condition["metric"] + condition["comparison"],
)


@MODES
@NON_MONOTONIC
def test_evaluate_decides_by_final_metrics(mode, condition, http, context):
    SingleJobHub(http, latest=succeeded(4), counts=counts_json(4, outputCount=900))
    assert wait_in(mode, context, on_run_end="evaluate", **condition)["run_ended"]


@MODES
@NON_MONOTONIC
@pytest.mark.parametrize(
    ("on_run_end", "error"), [("fail", ControlHubExpectationError), ("skip", AirflowSkipException)]
)
def test_non_monotonic_condition_fails_at_run_end(mode, on_run_end, error, condition, http, context):
    SingleJobHub(http, latest=succeeded(4), counts=counts_json(4, outputCount=900))
    with pytest.raises(error, match="counts only with on_run_end='evaluate'"):
        wait_in(mode, context, on_run_end=on_run_end, **condition)


@MODES
@pytest.mark.parametrize(("join", "satisfied"), [("any", True), ("all", False)])
def test_join_applies_when_run_has_ended(mode, join, satisfied, http, context):
    young = run_json(4, startTime=int(time.time() * 1000))
    counts = counts_json(4, outputCount=1200)
    SingleJobHub(http, latest=young, script=[young, succeeded(4)], counts=counts)
    conditions = ["output_count >= 1000", {"metric": "error_count", "comparison": "<", "threshold": 100}]
    arguments = {"expect": conditions, "join": join}
    if satisfied:
        assert wait_in(mode, context, **arguments)["values"] == {"output_count": 1200, "error_count": 7}
    else:
        with pytest.raises(ControlHubExpectationError, match=r"1000 \(satisfied: 1200\), error_count < 100 \(not sat"):
            wait_in(mode, context, **arguments)


@MODES
def test_all_conditions_must_hold_in_one_poll(mode, http, context):
    script = [
        active_run(1000, errorRecordCount=9),
        active_run(1100, errorRecordCount=9),
        active_run(1200, errorRecordCount=10),
    ]
    SingleJobHub(http, latest=run_json(4), script=script)
    result = wait_in(mode, context, expect=["output_count > 1000", "error_count > 9"])
    assert result["values"] == {"output_count": 1200, "error_count": 10}


@MODES
def test_stage_counters_and_rates_are_metrics(mode, http, context):
    name, rate = "stage.Trash_01.inputRecords.counter", "pipeline.batchOutputRecords.meter.m1_rate"
    SingleJobHub(http, latest=run_json(4))
    meters = {"pipeline.batchOutputRecords.meter": {"count": 5, "m1_rate": 7.5}}
    http.get(
        REGISTRY,
        [
            {"status_code": 404, "json": {"ISSUES": [{"code": "JOBRUNNER_7", "message": "none"}]}},
            {"json": {"counters": {name: {"count": 10}}, "meters": meters}},
            {"json": {"counters": {name: {"count": 20}}, "meters": meters}},
        ],
    )
    result = wait_in(mode, context, expect=[f"{name} >= 20", f"{rate} > 7"])
    assert result["values"] == {name: 20, rate: 7.5}


@MODES
def test_final_metrics_are_awaited(mode, http, context):
    SingleJobHub(http, latest=run_json(4), script=[run_json(4), succeeded(4)])
    late = [{}, counts_json(4, outputCount=900, saved_after=30), counts_json(4, outputCount=1200)]
    http.get(COUNTS, [{"json": counts} for counts in late])
    assert wait_in(mode, context, metrics_timeout=60, **THOUSAND_OUT)["values"] == {"output_count": 1200}


@MODES
@pytest.mark.parametrize("kindness", [{}, {"soft_fail": True}, {"on_run_end": "skip"}, {"on_run_end": "evaluate"}])
def test_non_final_metrics_are_unavailable_after_timeout(mode, kindness, http, context, sleep_calls):
    counts = counts_json(4, outputCount=900, saved_after=30)
    SingleJobHub(http, latest=active_run(1), script=[active_run(1), succeeded(4)], counts=counts)
    with pytest.raises(ControlHubMetricsUnavailableError, match=r"output_count >= 1000 \(undecided: 900\)"):
        wait_in(mode, context, metrics_timeout=60, **THOUSAND_OUT, **kindness)
    assert sum(sleep_calls) <= 60 + 2 * 30


@MODES
def test_unchangeable_conditions_are_decided_after_timeout(mode, http, context):
    arguments = {"on_run_end": "evaluate", "metrics_timeout": 0}
    counts = counts_json(4, outputCount=1200, saved_after=30)
    SingleJobHub(http, latest=succeeded(4), counts=counts)
    assert wait_in(mode, context, **arguments, **THOUSAND_OUT)["values"] == {"output_count": 1200}
    SingleJobHub(http, latest=succeeded(4), counts=counts)
    with pytest.raises(ControlHubExpectationError, match=r"not final yet.*output_count < 1000 \(not satisf"):
        wait_in(mode, context, **arguments, expect=["output_count < 1000"])
    any_of = ["output_count >= 1000", "error_count < 5"]
    SingleJobHub(http, latest=succeeded(4), counts=counts)
    assert wait_in(mode, context, **arguments, expect=any_of, join="any")["satisfied"]


@MODES
def test_never_saved_metrics_are_unavailable(mode, http, context):
    SingleJobHub(http, latest=succeeded(4))
    with pytest.raises(ControlHubMetricsUnavailableError, match=r"output_count != 5 \(undecided: no value\)"):
        wait_in(mode, context, expect="output_count != 5", on_run_end="evaluate", metrics_timeout=0, poke_interval=10)


@MODES
def test_counters_of_ended_run_are_final(mode, http, context):
    SingleJobHub(http, latest=succeeded(4))
    counters = {"InputRecords": 1300, "OutputRecords": 1200, "ErrorRecords": 3}
    http.get(REGISTRY, json={"counters": {f"pipeline.batch{n}.counter": {"count": c} for n, c in counters.items()}})
    result = wait_in(mode, context, metrics_timeout=0, on_run_end="evaluate", expect=["output_count == 1200"])
    assert result["values"] == {"output_count": 1200}


@MODES
def test_missing_status_counts_come_from_record_counts(mode, http, context):
    """Control Hub has been seen to show none for 30 hours, while it had saved record counts."""
    SingleJobHub(http, latest=run_json(4, startTime=LONG_AGO))
    saved = [{}, counts_json(4, outputCount=900), counts_json(4, outputCount=1000)]
    http.get(COUNTS, [{"json": counts} for counts in saved])
    result = wait_in(mode, context, **THOUSAND_OUT)
    assert (result["values"], result["run_ended"]) == ({"output_count": 1000}, False)


@MODES
def test_missing_record_counts_come_from_counters(mode, http, context):
    SingleJobHub(http, latest=run_json(4, startTime=LONG_AGO))
    meters = [
        {f"pipeline.batch{n}Records.meter": {"count": c} for n in ("Input", "Output", "Error")} for c in (5, 1000)
    ]
    http.get(REGISTRY, [{"json": {"counters": {}, "meters": each}} for each in meters])
    result = wait_in(mode, context, **THOUSAND_OUT)
    assert (result["values"], result["run_ended"]) == ({"output_count": 1000}, False)


@MODES
def test_missing_counts_of_young_run_are_not_requested(mode, http, context, monkeypatch):
    start = {"startTime": int(time.time() * 1000)}
    monkeypatch.setattr("time.time", lambda: start["startTime"] / 1000 + 60)
    SingleJobHub(http, latest=run_json(4, **start), script=[run_json(4, **start)] * 3 + [active_run(1000)])
    wait_in(mode, context, **THOUSAND_OUT)
    assert not [request for request in http.request_history if "/metrics/" in request.path]


@MODES
def test_metrics_outage_does_not_end_wait(mode, http, context):
    SingleJobHub(http, latest=active_run(5))
    outage = [
        {"exc": requests.exceptions.ConnectTimeout},
        {"status_code": 503},
        {"text": "<html>"},
        {"status_code": 500, "json": {"ISSUES": [{"code": "TS_1", "message": "broken"}]}},
    ]
    http.get(COUNTS, [*outage * 6, {"json": counts_json(4, stageErrorsCount=3)}])
    result = wait_in(mode, context, metric="stage_errors_count", threshold=3)
    assert (result["values"], result["run_ended"]) == ({"stage_errors_count": 3}, False)


@MODES
def test_outage_after_run_end_does_not_fail_sensor(mode, http, context):
    SingleJobHub(http, latest=run_json(4), script=[run_json(4), succeeded(4)])
    http.get(COUNTS, [*[{"status_code": 503}] * 40, {"json": counts_json(4, outputCount=1200)}])
    assert wait_in(mode, context, metrics_timeout=20, **THOUSAND_OUT)["values"] == {"output_count": 1200}


@MODES
def test_rejected_final_metrics_are_unavailable(mode, http, context):
    SingleJobHub(http, latest=succeeded(4))
    refusal = {"ISSUES": [{"code": "TIMESERIES_7", "message": "no statistics"}]}
    http.get(COUNTS, status_code=400, json=refusal)
    with pytest.raises(ControlHubMetricsUnavailableError, match=r"no value.*TIMESERIES_7"):
        wait_in(mode, context, metrics_timeout=0, **THOUSAND_OUT)


@MODES
@pytest.mark.parametrize(("status", "error"), [(401, ControlHubAuthenticationError), (403, ControlHubPermissionError)])
def test_refused_credential_ends_wait(mode, status, error, http, context):
    SingleJobHub(http, latest=run_json(4))
    http.get(COUNTS, status_code=status, json={"ISSUES": [{"code": "TIMESERIES_7", "message": "refused"}]})
    for kindness in ({}, {"soft_fail": True}):
        with pytest.raises(error):
            wait_in(mode, context, metric="error_ratio", comparison="<", threshold=1, **kindness)


@MODES
def test_restart_ends_watched_run(mode, http, context):
    newer, older = counts_json(5, outputCount=7), counts_json(4, outputCount=1200)["0"]
    hub = SingleJobHub(http, latest=active_run(10), script=[active_run(10), active_run(5000, run_count=5)])
    hub.counts = {**newer, "4": {**older, "runCount": 4}}
    hub.history = [run_json(5), succeeded(4)]
    result = wait_in(mode, context, run_count=4, **THOUSAND_OUT)
    assert (result["run_count"], result["run_ended"], result["values"]) == (4, True, {"output_count": 1200})


@MODES
def test_counts_of_newer_run_are_ignored(mode, http, context):
    # Saved after the start of run 5; the number that follows those of the others is 4.
    hub = SingleJobHub(http, latest=run_json(5), counts=counts_json(4, outputCount=5000, saved_after=101))
    hub.history = [run_json(5), succeeded(4)]
    with pytest.raises(ControlHubMetricsUnavailableError, match="no value"):
        wait_in(mode, context, run_count=4, metrics_timeout=0, **THOUSAND_OUT)


@MODES
def test_future_run_is_awaited(mode, http, context):
    SingleJobHub(http, latest=succeeded(3), script=[succeeded(3), succeeded(3), active_run(1000)])
    assert wait_in(mode, context, run_count=4, **THOUSAND_OUT)["run_count"] == 4


@MODES
def test_deleted_job_ends_wait(mode, http, context):
    there = {"json": SingleJobHub(http, latest=run_json(4)).job()}
    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}", [there, {"status_code": 404, "json": {"ISSUES": []}}])
    http.post(f"{HUB}/jobrunner/rest/v1/jobs/status", json={})
    with pytest.raises(ControlHubRunLostError):
        wait_in(mode, context, **THOUSAND_OUT)


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
@pytest.mark.parametrize(
    ("kindness", "error"), [({}, AirflowSensorTimeout), ({"soft_fail": True}, AirflowSkipException)]
)
def test_timeout_ends_wait(mode, kindness, error, http, context, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1000.0)
    SingleJobHub(http, latest=active_run(5))
    with pytest.raises(error, match="100"):
        wait_in(mode, context, timeout=100, **kindness, **THOUSAND_OUT)


def test_deferred_timeout_reports_last_values(http, context, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1000.0)
    SingleJobHub(http, latest=active_run(5))
    with pytest.raises(AirflowSensorTimeout, match=r"output_count >= 1000 within 100 s.*not satisfied: 5"):
        wait_in("deferrable", context, timeout=100, **THOUSAND_OUT)


def test_trigger_carries_all_wait_arguments(http, context, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 5000.0)
    SingleJobHub(http, latest=run_json(4))
    conditions = ["output_count >= 1234567.5", {"metric": "error_ratio", "comparison": "<", "threshold": "0.01"}]
    task = sensor(
        deferrable=True,
        expect=conditions,
        join="any",
        on_run_end="skip",
        timeout=100,
        poke_interval=7,
    )
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    assert deferred.value.trigger.serialize() == (
        "airflow_provider_streamsets.triggers.sensors.ControlHubJobMetricSensorTrigger",
        {
            "control_hub_conn_id": "streamsets_default",
            "job_id": JOB_ID,
            "job_name": JOB_NAME,
            "run_count": 4,
            "expect": [
                {"metric": "output_count", "comparison": ">=", "threshold": 1234567.5},
                {"metric": "error_ratio", "comparison": "<", "threshold": 0.01},
            ],
            "join": "any",
            "on_run_end": "skip",
            "poll_interval": 7.0,
            "timeout": 100.0,
            "deadline": 5100.0,
            "metrics_timeout": 75.0,
            "identity": ["run-4:org", (T0 + 400_000) / 1000],
            "started_after": None,
            "metric": None,
            "comparison": ">=",
            "threshold": None,
            "starts": False,
            "ends": False,
            "soft_fail": False,
            "never_fail": False,
            "do_xcom_push": True,
            "multiple_outputs": True,
            "reserve": 0.0,
            "next_run": False,
        },
    )


@pytest.mark.parametrize(("metrics_timeout", "expected"), [(None, 75.0), (0, 0.0), ("{{ 20 + 5 }}", 25.0)])
def test_default_metrics_timeout_follows_statistics_interval(metrics_timeout, expected, http, context):
    SingleJobHub(http, latest=run_json(4))
    task = sensor(deferrable=True, metrics_timeout=metrics_timeout, **THOUSAND_OUT)
    task.render_template_fields(dict(context))
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    assert deferred.value.trigger.metrics_timeout == expected


@pytest.mark.parametrize(
    "arguments",
    [
        {"metric": "{{ 'output' }}_count", "comparison": "{{ '>' }}=", "threshold": "{{ 500 * 2 }}"},
        {"expect": ["output_count >= {{ 500 * 2 }}"]},
        {"expect": [{"metric": "output_count", "comparison": ">=", "threshold": "{{ 500 * 2 }}"}]},
        {"expect": "{{ ['output_count >= 1000'] }}"},
        {"expect": "{{ 'output_count >= 1000' }}"},
    ],
)
def test_conditions_may_be_templates(arguments, http, context):
    SingleJobHub(http, latest=active_run(1000))
    task = sensor(join="{{ 'any' }}", on_run_end="{{ 'skip' }}", **arguments)
    task.render_template_fields(dict(context))
    assert task.execute(context)["values"] == {"output_count": 1000}


@MODES
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"expect": ["{{ 'output_count' }}"]}, "'expect' must contain conditions"),
        ({"expect": ["outptu_count > {{ 5 }}"]}, "Unknown metric 'outptu_count'"),
        ({"metric": "{{ 'outptu_count' }}", "threshold": 5}, "Unknown metric 'outptu_count'"),
        ({"metric": "output_count", "threshold": "{{ 'many' }}"}, "'threshold' must be a number"),
        ({"metric": "output_count", "threshold": 1, "on_run_end": "{{ 'stop' }}"}, "'on_run_end' must be one of"),
        ({"metric": "output_count", "threshold": 1, "run_count": "{{ 'x' }}"}, "'run_count' must be"),
    ],
)
def test_rejects_invalid_rendered_values_before_requests(mode, arguments, said, http, context):
    task = sensor(
        deferrable=mode == "deferrable",
        mode="reschedule" if mode == "reschedule" else "poke",
        never_fail=True,
        **arguments,
    )
    task.render_template_fields(dict(context))
    with pytest.raises((ValueError, ControlHubConfigurationError), match=said):
        task.execute(context)
    assert not http.request_history


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "Exactly one of 'metric', 'expect'"),
        ({"metric": "output_count", "threshold": 1, "expect": ["a.b > 1"]}, "got 'metric' and 'expect'"),
        ({"metric": "output_count"}, "'metric' requires 'threshold'"),
        ({"metric": " ", "threshold": 1}, "'metric' must be a non-empty string"),
        ({"metric": 5, "threshold": 1}, "'metric' must be a non-empty string"),
        ({"expect": ["a.b > 1"], "threshold": 1}, "'threshold' requires 'metric'"),
        ({"metric": "output_count", "threshold": "many"}, "'threshold' must be a number"),
        ({"metric": "output_count", "threshold": float("nan")}, "'threshold' must be a number"),
        ({"metric": "output_count", "threshold": True}, "'threshold' must be a number"),
        ({"metric": "output_count", "threshold": 1, "comparison": "=>"}, "'comparison' must be one of"),
        ({"metric": "outptu_count", "threshold": 5}, "'metric' must be .*'outptu_count'. Did you mean 'output_count'"),
        ({"metric": "output_count > 5", "threshold": "{{ 5 }}"}, "'metric' must be the name of a metric"),
        ({"expect": ["output_count > 5 or error_count > 5"]}, "use one entry per comparison"),
        ({"expect": []}, "'expect' must be a list of conditions"),
        ({"expect": ["output_count"]}, "'expect' must contain conditions"),
        ({"expect": [{"metric": "output_count"}]}, "'expect' must contain conditions"),
        ({**THOUSAND_OUT, "join": "both"}, "'join' must be one of"),
        ({**THOUSAND_OUT, "on_run_end": "stop"}, "'on_run_end' must be one of"),
        ({**THOUSAND_OUT, "metrics_timeout": -1}, "'metrics_timeout' must be"),
        ({**THOUSAND_OUT, "job_name": "x"}, "got 'job_id' and 'job_name'"),
    ],
)
def test_rejects_invalid_arguments_at_parse(arguments, said):
    with pytest.raises(ValueError, match=said):
        sensor(**arguments)


@pytest.mark.parametrize(
    "event", [None, {}, {"job_id": JOB_ID, "run_count": 4}, {"metric_result": {"satisfied": True}}]
)
def test_incomplete_event_raises(event, context):
    with pytest.raises(ControlHubUnexpectedResponseError, match="the metrics of the run are unknown"):
        sensor(deferrable=True, **THOUSAND_OUT).execute_complete(context, event)
    with pytest.raises(ControlHubError):
        sensor(deferrable=True, soft_fail=True, **THOUSAND_OUT).execute_complete(context, event)


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_final_metrics_are_not_awaited_beyond_timeout(mode, http, context, sleep_calls):
    SingleJobHub(http, latest=succeeded(4), counts=counts_json(4, saved_after=1))
    began = sum(sleep_calls)
    condition = {"metric": "error_ratio", "comparison": "<", "threshold": 0.5, "on_run_end": "evaluate"}
    with pytest.raises(ControlHubMetricsUnavailableError):
        wait_in(mode, context, **condition, metrics_timeout=600, timeout=60)
    if mode == "poke":
        assert sum(sleep_calls) - began == 60


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_timeout_error_names_unreached_run(mode, http, context):
    SingleJobHub(http, latest=succeeded(4))
    with pytest.raises(AirflowSensorTimeout, match=r"The job has not reached that run: its latest run is 4 \(INACTIVE"):
        wait_in(mode, context, **THOUSAND_OUT, run_count=99, timeout=0 if mode == "reschedule" else 100)


def test_ended_run_is_evaluated_without_deferral(http, context):
    SingleJobHub(http, latest=succeeded(4), counts=counts_json(4))
    assert sensor(deferrable=True, metric="output_count", threshold=10).execute(context)["values"] == {
        "output_count": 90
    }
