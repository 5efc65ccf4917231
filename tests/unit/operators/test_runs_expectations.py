from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_streamsets.control_hub import (
    ControlHubError,
    ControlHubExpectationError,
    ControlHubJobStateError,
    ControlHubMetricsUnavailableError,
    ControlHubRunFailedError,
    ControlHubRunTimeoutError,
    ControlHubUnexpectedResponseError,
)
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
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
from tests.unit.fakes.task_runner import TaskRunner, patch_clock

pytestmark = pytest.mark.usefixtures("connection")

COUNTS = f"{HUB}/timeseries/rest/v1/metrics/job/{JOB_ID}/recordCountsForAllRuns"
REGISTRY = f"{HUB}/jobrunner/rest/v1/metrics/job/{JOB_ID}"
MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    return patch_clock(monkeypatch)


@pytest.fixture
def run(clock, context):
    """Runs the job to its end, in however many legs that takes."""

    def run_job(deferrable=False, **arguments: Any) -> Any:
        arguments = {"job_id": JOB_ID, "deferrable": deferrable, "metrics_timeout": 0, **arguments}
        return TaskRunner(clock, lambda: ControlHubRunJobOperator(task_id="run", **arguments), context).run()

    return run_job


def running(inputs: int = 0, outputs: int = 0, errors: int = 0) -> dict[str, Any]:
    """The first run, active, with counts that Control Hub has saved."""
    return run_json(
        1,
        inputRecordCount=inputs,
        outputRecordCount=outputs,
        errorRecordCount=errors,
        lastReportedMetricTime=T0 if inputs else 0,
    )


def registry(**counters: int) -> dict[str, Any]:
    return {"counters": {name.replace("_", "."): {"count": count} for name, count in counters.items()}, "meters": {}}


# Judging the end


@MODES
@pytest.mark.parametrize(
    "expect",
    [
        ["output_count >= 90"],
        ["input_count == 100", "output_count < 91", "error_count != 8"],
        "total_error_count <= 10",
        [{"metric": "error_ratio", "comparison": "<=", "threshold": 0.1}],
        '["output_count >= 90", "error_ratio < 0.2"]',
    ],
)
def test_run_with_expected_metrics_succeeds(http, run, task_log, deferrable, expect):
    SingleJobHub(http, latest=None, script=[succeeded(1)], counts=counts_json(1))
    assert run(deferrable, expect=expect)["outcome"] == "SUCCEEDED"
    assert "Metrics as expected: " in task_log()


@MODES
def test_run_with_unexpected_metrics_fails_with_values(http, run, task_log, deferrable):
    hub = SingleJobHub(http, latest=None, script=[run_json(1), succeeded(1)], counts=counts_json(1))
    with pytest.raises(ControlHubExpectationError) as error:
        run(deferrable, expect=["output_count >= 1000", "error_ratio < 0.01", "input_count > 5"])
    assert str(error.value) == (
        "Run 1 succeeded (job 'Orders'), but its metrics are not as expected: "
        "output_count >= 1000 (not satisfied: 90), error_ratio < 0.01 (not satisfied: 0.1), "
        "input_count > 5 (satisfied: 100)."
    )
    assert "Records: 100 in, 90 out, 7 errors, 3 stage errors" in task_log()
    assert hub.stops == []


UNDECIDED = pytest.mark.parametrize(
    "condition",
    [
        "output_count >= 1000",
        "output_count > 90",
        "error_count <= 10",
        "error_count == 7",
        "error_count != 8",
        "error_ratio < 0.2",
        "error_ratio > 0.05",
        "output_per_second >= 0",
        "pipeline.batchCount.counter >= 0",
    ],
)


@MODES
@UNDECIDED
def test_interim_metrics_leave_changeable_conditions_undecided(http, run, deferrable, condition):
    SingleJobHub(http, latest=None, script=[succeeded(1)], counts=counts_json(1, saved_after=30))
    with pytest.raises(ControlHubMetricsUnavailableError) as error:
        run(deferrable, expect=[condition, "output_count >= 90"])
    assert "Run 1 succeeded (job 'Orders')" in str(error.value)
    assert f"{condition} (undecided: " in str(error.value)
    assert "output_count >= 90 (satisfied: 90)" in str(error.value)


@MODES
def test_interim_metrics_decide_monotonic_conditions(http, run, deferrable):
    SingleJobHub(http, latest=None, script=[succeeded(1)], counts=counts_json(1, saved_after=30))
    assert run(deferrable, expect=["output_count >= 90", "input_count > 99"])["metrics_final"] is False
    SingleJobHub(http, latest=None, script=[succeeded(1)], counts=counts_json(1, saved_after=30))
    with pytest.raises(ControlHubExpectationError, match=r"error_count < 7 \(not satisfied: 7\)"):
        # One that is not satisfied for good is enough, whatever is open of the others.
        run(deferrable, expect=["error_count < 7", "output_count >= 1000"])


@MODES
def test_counters_decide_when_record_counts_cannot(http, run, deferrable):
    counters = {
        "pipeline_batchInputRecords_counter": 1100,
        "pipeline_batchOutputRecords_counter": 1000,
        "pipeline_batchErrorRecords_counter": 7,
        "pipeline_batchErrorMessages_counter": 4,
    }
    http.get(REGISTRY, json=registry(**counters))
    for counts in ({}, counts_json(1, saved_after=30)):
        SingleJobHub(http, latest=None, script=[succeeded(1)], counts=counts)
        run(deferrable, expect=["output_count == 1000", "error_ratio <= 0.01", "total_error_count == 11"])
        SingleJobHub(http, latest=None, script=[succeeded(1)], counts=counts)
        with pytest.raises(ControlHubExpectationError, match=r"output_count > 1000 \(not satisfied: 1000\)"):
            run(deferrable, expect=["output_count > 1000"])


@MODES
def test_counters_behind_record_counts_are_not_final(http, run, deferrable):
    SingleJobHub(http, latest=None, script=[succeeded(1)], counts=counts_json(1, saved_after=30))
    counters = {f"pipeline_batch{name}_counter": 5 for name in ("InputRecords", "OutputRecords", "ErrorRecords")}
    http.get(REGISTRY, json=registry(**counters))
    with pytest.raises(ControlHubMetricsUnavailableError, match=r"output_count >= 1000 \(undecided: 90\)"):
        run(deferrable, expect=["output_count >= 1000"])


@MODES
@pytest.mark.parametrize(("arguments", "waited"), [({"expect": ["output_count >= 90"]}, 615), ({}, 120)])
def test_default_metrics_timeout_follows_job_interval(http, run, clock, deferrable, arguments, waited):
    hub = SingleJobHub(http, latest=None, script=[succeeded(1)])
    job = hub.job
    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}", json=lambda *_: {**job(), "statsRefreshInterval": 600_000})
    began = clock.now

    def counts(*_: Any) -> dict[str, Any]:
        zeros = {"inputCount": 0, "outputCount": 0, "errorCount": 0, "stageErrorsCount": 0}
        return counts_json(1) if clock.current_time >= began + 600 else counts_json(1, saved_after=30, **zeros)

    http.get(COUNTS, json=counts)
    result = run(deferrable, metrics_timeout=None, **arguments)
    assert result["metrics_final"] is ("expect" in arguments)
    assert clock.now - began == pytest.approx(min(waited, 600), abs=15)


@MODES
def test_waits_for_final_metrics_before_evaluating(http, run, clock, deferrable):
    SingleJobHub(http, latest=None, script=[succeeded(1)])
    late = [{"json": counts_json(1, saved_after=30, outputCount=5)}] * 3 + [{"json": counts_json(1)}]
    http.get(COUNTS, late)
    run(deferrable, expect=["output_count >= 90"], metrics_timeout=60)
    assert clock.now - 1000 == pytest.approx(15, abs=1)


@MODES
def test_unsaved_metrics_decide_nothing(http, run, deferrable):
    SingleJobHub(http, latest=None, script=[succeeded(1)])
    with pytest.raises(ControlHubMetricsUnavailableError) as error:
        run(deferrable, expect=["output_count >= 0", "stage.x.counter < 5"])
    assert "output_count >= 0 (undecided: no value), stage.x.counter < 5 (undecided: no value)" in str(error.value)
    assert (
        "has no output_count and stage.x.counter of this run: check the names of the metrics, and that the pipeline"
        in str(error.value)
    )


@MODES
@pytest.mark.parametrize("answer", [{"status_code": 404}, {"status_code": 503}, {"text": "<html>"}])
def test_unreadable_metrics_raise_unavailable(http, run, deferrable, answer):
    SingleJobHub(http, latest=None, script=[succeeded(1)])
    http.get(COUNTS, [answer])
    with pytest.raises(ControlHubMetricsUnavailableError, match=r"record counts"):
        run(deferrable, expect=["output_count >= 0"])


@MODES
def test_evaluates_pipeline_and_stage_counters(http, run, deferrable):
    SingleJobHub(http, latest=None, script=[succeeded(1)], counts=counts_json(1))
    http.get(REGISTRY, json=registry(pipeline_batchCount_counter=12, stage_Trash_inputRecords_counter=88))
    run(deferrable, expect=["pipeline.batchCount.counter >= 12", "output_count == 90"])
    SingleJobHub(http, latest=None, script=[succeeded(1)], counts=counts_json(1))
    with pytest.raises(ControlHubExpectationError, match=r"stage.Trash.inputRecords.counter > 88 \(not satisfied: 88"):
        run(deferrable, expect=["stage.Trash.inputRecords.counter > 88"])


@MODES
def test_unknown_counter_decides_nothing(http, run, deferrable):
    SingleJobHub(http, latest=None, script=[succeeded(1)], counts=counts_json(1))
    http.get(REGISTRY, json=registry(pipeline_batchCount_counter=12))
    with pytest.raises(ControlHubMetricsUnavailableError, match=r"stage\.x\.counter <= 5 \(undecided: no value\)"):
        run(deferrable, expect=["stage.x.counter <= 5"])


@MODES
def test_failed_run_keeps_its_own_error(http, run, deferrable):
    SingleJobHub(http, latest=None, script=[failed(1)], counts=counts_json(1))
    with pytest.raises(ControlHubRunFailedError, match="JDBC_00"):
        run(deferrable, expect=["output_count >= 1000"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"expect": []}, "'expect' must be a list of conditions"),
        ({"expect": ["many records"]}, "'expect' must contain conditions such as"),
        ({"expect": 5}, "'expect' must be a list of conditions"),
        ({"expect": [{"metric": "a"}]}, "'expect' must contain conditions such as"),
        ({"expect": ["outptu_count > 5"]}, "Unknown metric 'outptu_count'. Did you mean 'output_count'"),
        ({"expect": ["error_ratio < 0.01 and output_count > 5"]}, "use one entry per comparison"),
        ({"expect": ["{{ a }}", "1 < output_count < 5"]}, "use one entry per comparison"),
        ({"expect": "error_ratio < 1%"}, "the threshold '1%' is not a number"),
        ({"expect": '["a > 1 or b > 2"]'}, "use one entry per comparison"),
        ({"expect": [{"metric": "oops", "comparison": "<", "threshold": "{{ most }}"}]}, "Unknown metric 'oops'"),
        ({"expect": [{"metric": "{{ a }}", "comparison": "=<", "threshold": 1}]}, "'=<' is not a comparison"),
        ({"expect": ["error_count < 1"], "wait_for_completion": False}, "'expect' requires wait_for_completion=True"),
        ({"stop_on_violation": True}, "'stop_on_violation' requires conditions in 'expect'"),
        ({"stop_on_violation": "perhaps"}, "'stop_on_violation' must be true or false"),
        ({"acknowledge_errors": "perhaps"}, "'acknowledge_errors' must be true or false"),
    ],
)
def test_rejects_invalid_arguments_at_parse(arguments, message):
    with pytest.raises(ValueError, match=message):
        ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"expect": "{{ '[]' }}"}, "'expect' must be a list of conditions"),
        ({"expect": ["{{ 'many' }}"]}, "'expect' must contain conditions such as"),
        ({"expect": ["{{ 'outputs' }} > 5"]}, "Unknown metric 'outputs'"),
        ({"expect": ["error_count < 1"], "wait_for_completion": "{{ 'no' }}"}, "'wait_for_completion' must be true"),
        (
            {"expect": ["error_count < 1"], "wait_for_completion": "{{ False }}"},
            "'expect' requires wait_for_completion",
        ),
        ({"stop_on_violation": "{{ True }}"}, "'stop_on_violation' requires conditions in 'expect'"),
    ],
)
def test_rejects_invalid_rendered_values_before_requests(http, context, arguments, message):
    task = ControlHubRunJobOperator(task_id="run", job_id=JOB_ID, **arguments)
    task.render_template_fields(dict(context))
    with pytest.raises(ValueError, match=message):
        task.execute(context)
    assert not http.request_history


def test_renders_thresholds(http, context):
    SingleJobHub(http, latest=None, script=[succeeded(1)], counts=counts_json(1))
    expect = ["output_count >= {{ least }}", {"metric": "error_count", "comparison": "<", "threshold": "{{ most }}"}]
    task = ControlHubRunJobOperator(
        task_id="run",
        job_id=JOB_ID,
        expect=expect,
        stop_on_violation="{{ least > 5 }}",
        deferrable=False,
        metrics_timeout=0,
    )
    task.render_template_fields({"least": 90, "most": 8})
    assert task.execute(context)["metrics"]["output_count"] == 90


# Failing fast


@MODES
def test_violated_upper_bound_stops_run_and_fails(http, run, clock, deferrable):
    hub = SingleJobHub(http, latest=None, script=[running(), running(10, 10), running(100, 80, 20), running(200, 150)])
    with pytest.raises(ControlHubExpectationError) as error:
        run(deferrable, expect=["error_count <= 10", "output_count >= 1000"], stop_on_violation=True)
    assert str(error.value) == (
        f"Job {JOB_ID} run 1 is active, but violates its conditions: error_count <= 10 (violated: 20)."
    )
    assert hub.stops == ["stop"]
    # Deferred, young runs are polled more often.
    assert clock.now - 1000 <= 60 if deferrable else clock.now - 1000 == pytest.approx(60, abs=1)


@pytest.mark.parametrize("hangs", ["counts", "registry"])
def test_hanging_metrics_do_not_outlast_timeout(http, run, clock, hangs):
    SingleJobHub(http, latest=None, script=[run_json(1, startTime=LONG_AGO)])

    def hang(*_):
        clock.now += 60
        raise requests.exceptions.ReadTimeout

    http.get({"counts": COUNTS, "registry": REGISTRY}[hangs], text=hang)
    with pytest.raises(ControlHubRunTimeoutError, match="within 60 s"):
        run(expect=["error_count <= 10"], stop_on_violation=True, wait_timeout=60)
    assert clock.now - 1000 <= 65


@MODES
def test_violated_bound_does_not_stop_newer_run(http, run, deferrable):
    hub = SingleJobHub(http, latest=None, script=[running(100, 80, 20)])
    http.get(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/currentStatus", json=run_json(2))
    with pytest.raises(ControlHubExpectationError):
        run(deferrable, expect=["error_count <= 10"], stop_on_violation=True)
    assert hub.stops == []


@MODES
def test_lower_bounds_are_ignored_while_active(http, run, deferrable):
    script = [running(10, 1), running(20, 2), succeeded(1)]
    SingleJobHub(http, latest=None, script=script, counts=counts_json(1))
    assert run(deferrable, expect=["output_count >= 90"], stop_on_violation=True)["outcome"] == "SUCCEEDED"


@MODES
def test_bounds_are_ignored_without_fail_fast(http, run, deferrable):
    script = [running(100, 80, 20), succeeded(1)]
    hub = SingleJobHub(http, latest=None, script=script, counts=counts_json(1))
    assert run(deferrable, expect=["error_count <= 10"])["outcome"] == "SUCCEEDED"
    assert hub.stops == []


@MODES
def test_ratio_bound_is_fetched_from_record_counts(http, run, deferrable):
    hub = SingleJobHub(http, latest=None, script=[running(10, 10)])
    counts = [{"json": {}}, {"json": {"0": {"inputCount": 100, "errorCount": 1, "stageErrorsCount": 1}}}]
    http.get(COUNTS, [*counts, {"json": {"0": {"inputCount": 100, "errorCount": 1, "stageErrorsCount": 9}}}])
    with pytest.raises(ControlHubExpectationError, match=r"error_ratio <= 0\.05 \(violated: 0\.1\)\."):
        run(deferrable, expect=["error_ratio <= 0.05"], stop_on_violation=True)
    assert hub.stops == ["stop"]


@MODES
@pytest.mark.parametrize("source", ["record counts", "counters"])
def test_fetches_counts_long_missing_from_status(http, run, deferrable, source):
    started = run_json(1, startTime=LONG_AGO)
    hub = SingleJobHub(http, latest=None, script=[started])
    if source == "record counts":
        http.get(COUNTS, json={"0": {"errorCount": 20}})
    else:
        counters = {f"pipeline_batch{name}_counter": 20 for name in ("InputRecords", "OutputRecords", "ErrorRecords")}
        http.get(REGISTRY, json=registry(**counters))
    with pytest.raises(ControlHubExpectationError, match=r"error_count <= 10 \(violated: 20\)\."):
        run(deferrable, expect=["error_count <= 10"], stop_on_violation=True)
    assert hub.stops == ["stop"]


@MODES
def test_metrics_outage_ends_no_run(http, run, deferrable):
    hub = SingleJobHub(http, latest=None, script=[running(10, 10), running(20, 20), running(30, 30), succeeded(1)])
    outage = itertools.cycle([(503, ""), (500, ""), (200, "<html>")])

    def counts(_: Any, answer: Any) -> str:
        if hub.latest["status"] == "INACTIVE":
            return json.dumps(counts_json(1))
        answer.status_code, text = next(outage)
        return text

    http.get(COUNTS, text=counts)
    assert run(deferrable, expect=["error_ratio <= 0.5"], stop_on_violation=True)["outcome"] == "SUCCEEDED"


@MODES
def test_failed_stop_does_not_hide_violation(http, run, task_log, deferrable):
    SingleJobHub(http, latest=None, script=[running(100, 80, 20)])
    refusal = {"ISSUES": [{"code": "JOBRUNNER_7", "message": "not allowed"}]}
    http.post(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/stop", status_code=403, json=refusal)
    with pytest.raises(ControlHubExpectationError, match=r"error_count <= 10 \(violated: 20\)"):
        run(deferrable, expect=["error_count <= 10"], stop_on_violation=True)
    assert "could not be stopped and may still be active" in task_log()


def test_trigger_carries_upper_bounds_as_strings(http, context):
    SingleJobHub(http, latest=None)
    expect = ["output_count >= 1000", "error_ratio<0.01", {"metric": "a.b", "comparison": "<=", "threshold": "1e-7"}]
    task = ControlHubRunJobOperator(
        task_id="run", job_id=JOB_ID, expect=expect, stop_on_violation=True, deferrable=True
    )
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    assert deferred.value.trigger.serialize()[1]["upper_bounds"] == ["error_ratio < 0.01", "a.b <= 1e-07"]


# Acknowledging


@MODES
def test_acknowledges_and_logs_previous_error(http, run, task_log, deferrable):
    error = run_json(3, "INACTIVE_ERROR", "RED", errorMessage="RUN_ERROR: JDBC_00")
    hub = SingleJobHub(http, latest=error, script=[error, error, succeeded(3)])
    acknowledged = []

    def acknowledge(request, _):
        acknowledged.append(request.json())
        return {}

    http.post(f"{HUB}/jobrunner/rest/v1/jobs/acknowledgeErrors", json=acknowledge)
    start = hub._start

    def then_run(request, answer):
        started = start(request, answer)
        hub.script = [succeeded(4)]
        return started

    http.post(f"{HUB}/jobrunner/rest/v1/job/{JOB_ID}/start", json=then_run)
    assert run(deferrable, acknowledge_errors=True)["run_count"] == 4
    assert acknowledged == [[JOB_ID]]
    assert "run 3: acknowledged its error: RUN_ERROR: JDBC_00" in task_log()


def test_unacknowledged_error_prevents_start(http, run):
    hub = SingleJobHub(http, latest=run_json(3, "INACTIVE_ERROR", "RED"))
    with pytest.raises(ControlHubJobStateError, match="Acknowledge the error first"):
        run()
    assert hub.started_with == []


def test_ineffective_acknowledgement_fails_within_a_minute(http, run, clock):
    hub = SingleJobHub(http, latest=run_json(3, "INACTIVE_ERROR", "RED"))
    http.post(f"{HUB}/jobrunner/rest/v1/jobs/acknowledgeErrors", json={})
    with pytest.raises(ControlHubUnexpectedResponseError, match="still INACTIVE_ERROR"):
        run(acknowledge_errors=True)
    assert hub.started_with == []
    assert clock.now - 1000 == 60


def test_acknowledges_nothing_without_error(http, run):
    hub = SingleJobHub(http, latest=succeeded(3))
    run(acknowledge_errors=True, wait_for_completion=False)
    assert len(hub.started_with) == 1
    assert not [request for request in http.request_history if "acknowledge" in request.path]


# Both ends alike


SCENARIOS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "as expected": ([running(), succeeded(1)], {"expect": ["output_count >= 90"]}),
    "not as expected": ([running(), succeeded(1)], {"expect": ["output_count > 90"]}),
    "broken bound": ([running(), running(10, 9, 5)], {"expect": ["error_count < 5"], "stop_on_violation": True}),
    "failed": ([failed(1)], {"expect": ["output_count >= 90"]}),
    "never ends": ([running(10)], {"expect": ["output_count >= 90"], "stop_on_violation": True, "wait_timeout": 100}),
    "no counter": ([succeeded(1)], {"expect": ["stage.x.counter > 1"]}),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_sync_and_deferred_end_alike(http, run, clock, scenario):
    def end(deferrable):
        clock.now = 1000.0
        script, arguments = SCENARIOS[scenario]
        hub = SingleJobHub(http, latest=None, script=script, counts=counts_json(1))
        http.get(REGISTRY, json=registry(pipeline_batchCount_counter=12))
        try:
            result = run(deferrable, **arguments)
        except ControlHubError as error:
            result = type(error), str(error)
        return result, hub.stops

    assert end(deferrable=False) == end(deferrable=True)
