"""Conditions on metrics: how they are written and evaluated, and which sources are read for them."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub import (
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubExpectationError,
    JobRun,
    RunMetrics,
)
from airflow_provider_streamsets.control_hub.tracking.conditions import (
    MetricCondition,
    MetricValues,
    ViolationCheck,
    evaluate,
    parse_conditions,
    violated_conditions,
)
from tests.unit.fakes.api_payloads import (
    COUNTS,
    JOB_ID,
    REGISTRY,
    T0,
    UNKNOWN,
    counts_json,
    paths,
    query,
    registry_json,
    run_json,
    succeeded,
)

COUNTER = "stage.Trash_01.inputRecords.counter"
METER = "pipeline.batchInputRecords.meter"
METRICS = [
    "input_count",
    "output_count",
    "error_count",
    "stage_errors_count",
    "total_error_count",
    "error_ratio",
    "output_per_second",
]
COMPARISONS = [">=", ">", "<=", "<", "==", "!="]
COUNTED = RunMetrics.from_wire(counts_json(4, outputM1Rate=2.5), 4)


def condition(text):
    return MetricCondition.parse(text)


@pytest.mark.parametrize("comparison", COMPARISONS)
@pytest.mark.parametrize("spaces", ["", " ", "\t "])
@pytest.mark.parametrize("metric", [*METRICS, COUNTER, f"{METER}.m1_rate"])
def test_condition_parses_text_mapping_and_instance(metric, spaces, comparison):
    expected = MetricCondition(metric, comparison, 1000.0)
    assert condition(f"{spaces}{metric}{spaces}{comparison}{spaces}1000{spaces}") == expected
    assert condition({"metric": metric, "comparison": comparison, "threshold": 1000}) == expected
    assert condition({"metric": f" {metric} ", "comparison": comparison, "threshold": "1e3"}) == expected
    assert condition(expected) == expected
    assert condition(expected.to_dict()) == expected


@pytest.mark.parametrize(
    ("text", "threshold"), [("0.05", 0.05), ("-1", -1.0), ("+1", 1.0), (".5", 0.5), ("1_000", 1000.0), ("1e6", 1e6)]
)
def test_threshold_is_any_finite_number(text, threshold):
    assert condition(f"error_ratio < {text}").threshold == threshold


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        5,
        True,
        [],
        "",
        "output_count",
        "output_count >=",
        ">= 5",
        "output_count => 5",
        "output_count = 5",
        "output_count >= five",
        "output_count >= 5 6",
        "output_count >= 1,000",
        "output_count >= nan",
        "output_count >= inf",
        "output_count >= 1e999",
        {},
        {"metric": "output_count", "comparison": ">="},
        {"metric": "output_count", "comparison": ">=", "threshold": 5, "more": 1},
        {"metric": "output_count", "comparison": "=>", "threshold": 5},
        {"metric": "output_count", "comparison": [], "threshold": 5},
        {"metric": "output_count", "comparison": None, "threshold": 5},
        {"metric": "output_count", "comparison": ">=", "threshold": None},
        {"metric": "output_count", "comparison": ">=", "threshold": True},
        {"metric": "output_count", "comparison": ">=", "threshold": float("nan")},
        {"metric": "output_count", "comparison": ">=", "threshold": float("inf")},
        {"metric": "output_count", "comparison": ">=", "threshold": 10**400},
        {"metric": None, "comparison": ">=", "threshold": 5},
        {"metric": " ", "comparison": ">=", "threshold": 5},
        MetricCondition("output_count", "=>", 5),
        MetricCondition("output_count", ">=", "many"),
    ],
    ids=repr,
)
def test_invalid_condition_error_shows_example(wrong):
    with pytest.raises(ControlHubConfigurationError) as caught:
        condition(wrong)
    assert "'output_count >= 1000'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("error_ratio < 0.01 and output_count > 5", "use one entry per comparison"),
        ("a > 1 or b > 2", "use one entry per comparison"),
        ("1 < output_count < 5", "use one entry per comparison"),
        ("stage.a.counter > 1 and stage.b.counter > 2", "use one entry per comparison"),
        ("error_ratio < 1%", "the threshold '1%' is not a number"),
        ("output_count => 5", "use >= or <= instead of => or =<"),
        ("output_count >> 5", "it does not compare a metric with a number"),
        ({"metric": "a.b > 1 and c.d", "comparison": ">", "threshold": 5}, "Unknown metric 'a.b > 1 and c.d'"),
    ],
)
def test_only_single_comparison_is_accepted(text, said):
    with pytest.raises(ControlHubConfigurationError, match=re.escape(said)):
        condition(text)


def test_unknown_metric_error_suggests_similar_name():
    with pytest.raises(
        ControlHubConfigurationError, match=r"Unknown metric 'outptu_count'\. Did you mean 'output_count'\?"
    ):
        condition("outptu_count > 5")


@pytest.mark.parametrize("metric", ["outputs", "output count", "OUTPUT_COUNT", "counter"])
def test_unknown_metric_error_lists_known_names(metric):
    with pytest.raises(ControlHubConfigurationError, match=f"Unknown metric '{metric}'") as caught:
        condition(f"{metric} >= 5")
    assert all(known in str(caught.value) for known in METRICS)


@pytest.mark.parametrize(
    "values",
    [
        "output_count >= 1",
        {"metric": "output_count", "comparison": ">=", "threshold": 1},
        condition("output_count >= 1"),
    ],
)
def test_single_condition_becomes_list(values):
    assert parse_conditions(values) == parse_conditions([values]) == parse_conditions((values,)) == (condition(values),)


@pytest.mark.parametrize("values", [None, [], (), 5, {}, iter(["output_count >= 1"]), ["output_count >= 1", None]])
def test_invalid_conditions_raise(values):
    with pytest.raises(ControlHubConfigurationError, match="A metric condition must be a string"):
        parse_conditions(values)


_NAMES = st.sampled_from(METRICS) | st.from_regex(r"[A-Za-z][\w:-]{0,20}\.[\w. :-]{0,20}\w", fullmatch=True)
_CONDITIONS = st.builds(
    MetricCondition,
    _NAMES,
    st.sampled_from(COMPARISONS),
    st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**18), 10**18).map(float),
)


@settings(deadline=None, max_examples=300)
@given(_CONDITIONS)
def test_condition_text_round_trips(given_condition):
    assert condition(str(given_condition)) == given_condition


@settings(deadline=None, max_examples=200)
@given(st.text() | st.dictionaries(st.sampled_from(["metric", "comparison", "threshold"]), st.none() | st.text()))
def test_any_value_parses_or_raises(value):
    try:
        read = condition(value)
    except ControlHubConfigurationError:
        return
    assert condition(str(read)) == read


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("output_count>=1234567", "output_count >= 1234567"),
        ("error_ratio<0.1234567", "error_ratio < 0.1234567"),
        ("output_count==1e3", "output_count == 1000"),
    ],
)
def test_condition_text_formats_numbers(text, written):
    assert str(condition(text)) == written


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("output_count >= 5", [5, 6], [4]),
        ("output_count > 5", [6], [5, 4]),
        ("output_count <= 5", [5, 4], [6]),
        ("output_count < 5", [4], [5, 6]),
        ("output_count == 5", [5, 5.0], [4]),
        ("output_count != 5", [4], [5]),
    ],
)
def test_comparison_is_evaluated(text, yes, no):
    assert all(condition(text).is_satisfied_by(value) for value in yes)
    assert not any(condition(text).is_satisfied_by(value) for value in [*no, None])


@pytest.mark.parametrize(
    "metric", [*METRICS, COUNTER, METER, f"{METER}.m1_rate", f"{METER}.h24_rate", f"{METER}.mean_rate"]
)
@pytest.mark.parametrize("comparison", COMPARISONS)
def test_only_lower_bound_of_count_is_monotonic(metric, comparison):
    grows = metric not in {"error_ratio", "output_per_second"} and not metric.endswith("_rate")
    assert condition(f"{metric} {comparison} 5").is_monotonic is (comparison in {">=", ">"} and grows)
    assert condition(f"{metric} {comparison} 5").is_upper_bound is (comparison in {"<=", "<"})


def values_of(client, **options):
    return MetricValues(client, JOB_ID, 4, **options)


SAVED = {"lastReportedMetricTime": T0, "inputRecordCount": 11, "outputRecordCount": 12, "errorRecordCount": 13}
RUNNING = JobRun.from_wire(run_json(4, **SAVED))
YOUNG = JobRun.from_wire(run_json(4, startTime=int(time.time() * 1000) + 3_600_000))
# Control Hub has been seen to show this for 30 hours, while it had saved record counts.
LACKING = JobRun.from_wire(run_json(4))
COUNTERS = {
    "pipeline.batchInputRecords.counter": 50,
    "pipeline.batchOutputRecords.counter": 45,
    "pipeline.batchErrorRecords.counter": 4,
    "pipeline.batchErrorMessages.counter": 1,
}


def test_active_run_uses_status_counts(http, client):
    values = values_of(client, status=RUNNING)
    assert [values.get(name) for name in ("input_count", "output_count", "error_count")] == [11, 12, 13]
    assert http.call_count == 0


def test_new_run_without_counts_has_no_value(http, client):
    values = values_of(client, status=YOUNG)
    assert values.get("input_count") is None
    assert http.call_count == 0


@pytest.mark.parametrize(
    "status",
    [
        JobRun.from_wire(succeeded(4, **SAVED)),
        JobRun.from_wire(run_json(4, "INACTIVE_ERROR", "RED", **SAVED)),
        JobRun.from_wire(run_json(5, **SAVED)),
        JobRun.from_wire(run_json(3, **SAVED)),
        None,
    ],
    ids=["ended", "ended in an error", "of a later run", "of an earlier run", "none"],
)
def test_other_statuses_read_record_counts(http, client, status):
    http.get(COUNTS, json={"0": counts_json(4)})
    values = values_of(client, status=status)
    assert [values.get(name) for name in ("input_count", "output_count", "error_count")] == [100, 90, 7]
    assert http.call_count == 1


def test_values_missing_in_status_are_read_once(http, client):
    http.get(COUNTS, json={"0": counts_json(4, outputM1Rate=2.5)})
    values = values_of(client, status=RUNNING)
    names = ("stage_errors_count", "total_error_count", "error_ratio", "output_per_second")
    assert [values.get(name) for name in names] == [3, 10, 0.1, 2.5]
    # All values are now of one source.
    assert values.get("input_count") == 100
    assert http.call_count == 1


def test_newest_counts_belong_to_active_run(http, client):
    """They do not name their run; the status shows that it is the latest."""
    http.get(COUNTS, json={"0": counts_json(), "1": counts_json(3)})
    assert values_of(client, status=RUNNING).get("total_error_count") == 10
    assert http.call_count == 1


def test_old_status_without_counts_is_ignored(http, client):
    http.get(COUNTS, json={"0": counts_json(4)})
    values = values_of(client, status=LACKING)
    assert [values.get(name) for name in ("input_count", "output_count", "error_ratio")] == [100, 90, 0.1]
    assert http.call_count == 1


@pytest.mark.parametrize("status", [LACKING, RUNNING], ids=["lacks counts", "has counts"])
def test_counters_replace_missing_record_counts(http, client, status):
    http.get(COUNTS, json={"0": counts_json(3)})
    http.get(REGISTRY, json={"counters": {name: {"count": count} for name, count in COUNTERS.items()}})
    values = values_of(client, status=status)
    assert [values.get(name) for name in ("stage_errors_count", "error_ratio")] == [1, 0.1]
    assert http.call_count == 2


def test_status_counts_need_no_save_time(http, client):
    values = values_of(client, status=JobRun.from_wire(run_json(4, **{**SAVED, "lastReportedMetricTime": 0})))
    assert values.get("input_count") == 11
    assert http.call_count == 0


def test_given_metrics_are_not_reloaded(http, client):
    values = values_of(client, status=RUNNING, metrics=COUNTED)
    assert [values.get(name) for name in METRICS] == [100, 90, 7, 3, 10, 0.1, 2.5]
    assert http.call_count == 0


def test_missing_counts_are_requested_once(http, client):
    http.get(COUNTS, json={"0": counts_json(3)})
    values = values_of(client)
    assert {values.get(name) for name in METRICS} == {None}
    assert http.call_count == 1


@pytest.mark.parametrize(("inputs", "ratio"), [(0, 10.0), (1, 10.0), (100, 0.1)])
def test_error_ratio_counts_in_full_without_input(client, inputs, ratio):
    metrics = RunMetrics.from_wire(counts_json(4, inputCount=inputs), 4)
    assert values_of(client, metrics=metrics).get("error_ratio") == ratio


def test_registry_is_read_once(http, client):
    http.get(REGISTRY, json=registry_json(120))
    values = values_of(client, status=RUNNING, metrics=COUNTED)
    assert (values.get(COUNTER), values.get(METER), values.get(f"{METER}.m1_rate")) == (120, 120, 2.0)
    assert values.get("stage.Other.counter") is None
    assert paths(http) == [f"GET /jobrunner/rest/v1/metrics/job/{JOB_ID}"]
    assert query(http.last_request) == {"runCount": "4"}


def test_missing_registry_is_requested_once(http, client):
    http.get(REGISTRY, **UNKNOWN)
    values = values_of(client)
    assert (values.get(COUNTER), values.get(METER)) == (None, None)
    assert http.call_count == 1


@pytest.mark.parametrize(("url", "metric"), [(REGISTRY, COUNTER), (COUNTS, "input_count")])
def test_unavailable_metrics_raise(http, kill_client, url, metric):
    http.get(url, status_code=503)
    with pytest.raises(ControlHubError, match="503"):
        values_of(kill_client).get(metric)


CONDITIONS = parse_conditions(["output_count >= 50", "error_ratio < 0.05", "stage_errors_count == 3"])


def test_all_or_any_conditions_must_hold(client):
    values = values_of(client, metrics=COUNTED)
    every, some = evaluate(CONDITIONS, "all", values), evaluate(CONDITIONS, "any", values)
    assert (every.is_satisfied, some.is_satisfied) == (False, True)
    assert every.values == some.values == {"output_count": 90, "error_ratio": 0.1, "stage_errors_count": 3}
    assert (
        every.text
        == some.text
        == (
            "output_count >= 50 (satisfied: 90), error_ratio < 0.05 (not satisfied: 0.1), "
            "stage_errors_count == 3 (satisfied: 3)"
        )
    )
    assert evaluate(CONDITIONS[::2], "all", values).is_satisfied is True
    assert evaluate(CONDITIONS[1:2], "any", values).is_satisfied is False


def test_missing_value_satisfies_no_condition(http, client):
    http.get(COUNTS, json={})
    evaluation = evaluate(parse_conditions(["output_count < 5", "error_count != 1"]), "any", values_of(client))
    assert evaluation.is_satisfied is False
    assert evaluation.text == "output_count < 5 (not satisfied: no value), error_count != 1 (not satisfied: no value)"


def test_conditions_can_be_excluded(client):
    values = values_of(client, metrics=COUNTED)
    evaluation = evaluate(CONDITIONS[:1], "any", values, is_counted=lambda each: not each.is_monotonic)
    assert evaluation.is_satisfied is False
    assert "not satisfied: 90" in evaluation.text


def test_violated_upper_bounds_are_reported(client):
    values = values_of(client, metrics=COUNTED)
    conditions = parse_conditions(
        ["input_count <= 100", "error_ratio < 0.1", "error_count < 7.5", "output_count <= 89"]
    )
    broken = violated_conditions(conditions, values)
    assert broken.is_satisfied is False
    assert broken.text == "error_ratio < 0.1 (violated: 0.1), output_count <= 89 (violated: 90)"
    assert violated_conditions(conditions[:1], values) is None


def test_fail_fast_reads_only_upper_bounds(http, client):
    conditions = parse_conditions([f"{COUNTER} >= 5", "output_count > 1000", "output_count == 5", "output_count != 90"])
    assert violated_conditions(conditions, values_of(client)) is None
    assert http.call_count == 0


def test_missing_metric_violates_no_bound(client):
    values = values_of(client, status=YOUNG)
    assert violated_conditions(parse_conditions(["error_count < 1", "input_count < 0"]), values) is None


def test_violated_bound_raises_during_poll(http, client):
    check = ViolationCheck(client, JOB_ID, 4, parse_conditions(["error_count <= 12", "output_count >= 5"]))
    check(JobRun.from_wire(run_json(4, **{**SAVED, "errorRecordCount": 12})))
    with pytest.raises(ControlHubExpectationError, match=rf"Job {JOB_ID} run 4 is active, .*12 \(violated: 13\)\."):
        check(RUNNING)
    assert http.call_count == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(_CONDITIONS, min_size=1, max_size=4))
def test_unsatisfied_upper_bound_is_violated(client, conditions):
    conditions = [c for c in conditions if c.metric in METRICS] or [condition("output_count < 5")]
    values = values_of(client, metrics=COUNTED)
    bounds = [c for c in conditions if c.is_upper_bound]
    expected = any(not c.is_satisfied_by(values.get(c.metric)) for c in bounds)
    assert (violated_conditions(conditions, values) is not None) is expected
