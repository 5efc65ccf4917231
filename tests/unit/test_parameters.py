from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_streamsets import params


@pytest.mark.parametrize(
    ("job_id", "job_name", "said"),
    [
        (None, None, "given are none of them"),
        ("id", "name", "given are job_id and job_name"),
        ("", None, "'job_id' is empty"),
        (None, " ", "'job_name' is empty"),
    ],
)
def test_a_job_must_be_named_in_exactly_one_way(job_id, job_name, said):
    with pytest.raises(ValueError, match=said):
        params.exactly_one(job_id=job_id, job_name=job_name)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), timedelta(0), True, [], {}])
@pytest.mark.parametrize("rendered", [True, False])
def test_a_duration_must_be_above_zero(value, rendered):
    with pytest.raises(ValueError, match="'poll_interval' must be a number of seconds above 0"):
        params.seconds(value, "poll_interval", rendered=rendered)


@pytest.mark.parametrize(("value", "expected"), [(5, 5.0), (0.5, 0.5), (timedelta(minutes=1), 60.0), (None, None)])
def test_a_duration_is_seconds_or_a_timedelta(value, expected):
    assert params.seconds(value, "timeout") == expected


def test_a_text_counts_as_a_duration_once_it_is_rendered():
    assert params.seconds("{{ params.wait }}", "timeout") == "{{ params.wait }}"
    assert params.seconds("90", "timeout", rendered=True) == 90.0
    with pytest.raises(ValueError, match="'timeout' must be"):
        params.seconds("soon", "timeout", rendered=True)


@pytest.mark.parametrize("value", ["[1]", "7", "null", '"text"', "{", [1], 7, True, {1: 2}])
def test_runtime_parameters_that_are_no_json_object_are_refused_before_rendering(value):
    with pytest.raises(ValueError, match="'runtime_parameters' must be a JSON object"):
        params.json_object(value, "runtime_parameters")


def test_runtime_parameters_must_hold_json_values():
    with pytest.raises(ValueError, match="must hold JSON values only"):
        params.json_object({"day": object()}, "runtime_parameters", rendered=True)
    with pytest.raises(ValueError, match="must hold JSON values only"):
        params.json_object({"ratio": float("nan")}, "runtime_parameters", rendered=True)


@pytest.mark.parametrize(
    ("value", "expected"), [(None, {}), ("", {}), ("{}", {}), ('{"a": 1}', {"a": 1}), ({"a": 1}, {"a": 1})]
)
def test_runtime_parameters_are_a_dict_or_a_text_holding_one(value, expected):
    assert params.json_object(value, "runtime_parameters", rendered=True) == expected


def test_a_template_or_an_xcom_is_checked_only_after_rendering():
    later = object()
    assert params.json_object(later, "runtime_parameters") is later
    assert params.boolean(later, "reset_offsets") is later
    assert params.integer("{{ run_count }}", "run_count") == "{{ run_count }}"


@pytest.mark.parametrize("value", ["many", "", True, float("nan"), float("-inf"), []])
def test_a_threshold_is_a_finite_number(value):
    with pytest.raises(ValueError, match="'threshold' must be a number"):
        params.number(value, "threshold", rendered=True)


@pytest.mark.parametrize(("value", "expected"), [(0, 0.0), (-1.5, -1.5), ("1e3", 1000.0), (None, None)])
def test_a_threshold_may_be_a_text_holding_a_number(value, expected):
    assert params.number(value, "threshold") == expected


@pytest.mark.parametrize("value", [0, -3, 1.5, True, "x", ""])
def test_a_run_count_is_a_whole_number_from_one(value):
    with pytest.raises(ValueError, match="'run_count' must be a whole number from 1"):
        params.integer(value, "run_count", rendered=True)


@pytest.mark.parametrize(("value", "expected"), [(True, True), ("False", False), (" true ", True)])
def test_a_flag_may_be_rendered_from_a_text(value, expected):
    assert params.boolean(value, "reset_offsets", rendered=True) is expected


@pytest.mark.parametrize("value", ["yes", 1, "", "none"])
def test_a_flag_is_true_or_false_and_nothing_else(value):
    with pytest.raises(ValueError, match="'reset_offsets' must be true or false"):
        params.boolean(value, "reset_offsets", rendered=True)


NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "value",
    [
        NOON,
        NOON.replace(tzinfo=None),
        NOON.astimezone(timezone(timedelta(hours=-5))),
        "2026-01-31T12:00:00Z",
        " 2026-01-31 13:00:00+01:00 ",
        "2026-01-31T12:00:00",
    ],
)
def test_a_moment_is_a_datetime_or_a_text_and_in_utc_if_it_names_no_zone(value):
    assert params.timestamp(value, "since") == NOON
    assert params.timestamp(value, "since", rendered=True) == NOON


def test_a_day_is_the_moment_at_which_it_begins():
    assert params.timestamp("2026-01-31", "since") == NOON.replace(hour=0)


@pytest.mark.parametrize("value", ["", "noon", "12:00", "P1D", "2026-01-31/2026-02-01", "2026-02-31", 7, True])
def test_what_is_no_moment_is_refused(value):
    with pytest.raises(ValueError, match="'since' must be a datetime or a text such as"):
        params.timestamp(value, "since", rendered=True)


def test_parameters_that_exclude_each_other_can_all_be_left_out_but_not_be_given_together():
    params.at_most_one(version=None, tag=None)
    params.at_most_one(version="1", tag=None)
    with pytest.raises(ValueError, match="at most one of 'version', 'tag'; given are version and tag"):
        params.at_most_one(version="1", tag="{{ tag }}")


def test_a_text_can_be_empty_only_where_that_is_allowed():
    assert params.string("a", "name") == "a"
    assert params.string("", "description", empty=True) == ""
    assert params.string("{{ name }}", "name") == "{{ name }}"
    for value in ("", " ", True, ["a"]):
        with pytest.raises(ValueError, match="'name' must be a text that is not empty"):
            params.string(value, "name", rendered=True)
    # Native rendering makes a number of a text that looks like one.
    assert params.string(20261124, "name", rendered=True) == "20261124"
    with pytest.raises(ValueError, match="'description' must be a text, but is 7"):
        params.string(7, "description", empty=True)


@pytest.mark.parametrize(("value", "expected"), [(3, "3"), ("3", "3"), (" v3 ", "3"), ("1.2", "1.2"), (None, None)])
def test_a_version_is_a_number_with_or_without_its_v(value, expected):
    assert params.version(value, "version", rendered=True) == expected


@pytest.mark.parametrize("value", ["", "latest", "v", "three", 1.5, True, ["3"]])
def test_what_is_no_version_number_is_refused(value):
    with pytest.raises(ValueError, match="'version' must be a version number such as '3', but is"):
        params.version(value, "version")


def test_the_latest_version_is_one_where_that_is_allowed():
    assert params.version("latest", "version", latest=True) == "latest"
    with pytest.raises(ValueError, match="such as '3' or 'latest'"):
        params.version("newest", "version", latest=True)


def test_a_whole_number_can_have_a_special_value_below_the_least():
    assert params.integer(-1, "retries", minimum=0, also=-1) == -1
    assert params.integer("0", "retries", minimum=0, also=-1, rendered=True) == 0
    for value in (-2, "x", 0.5, True):
        with pytest.raises(ValueError, match="'retries' must be a whole number from 0, or -1"):
            params.integer(value, "retries", minimum=0, also=-1)


def test_a_path_is_a_text_or_an_object_that_stands_for_one(tmp_path):
    for value in ("/tmp/a.zip", "s3://bucket/key", "{{ path }}", tmp_path):
        assert params.path(value, "path") == value
    assert params.path(tmp_path, "path", rendered=True) == tmp_path
    for value in ("", None, 7, ["a"]):
        with pytest.raises(ValueError, match="'path' must be"):
            params.path(value, "path", rendered=True)


def test_a_sha256_is_read_in_small_digits():
    assert params.sha256("AB" * 32, "sha256", rendered=True) == "ab" * 32
    assert params.sha256("{{ digest }}", "sha256") == "{{ digest }}"
    for value in ("ab", "xy" * 32, 7):
        with pytest.raises(ValueError, match="'sha256' must be a SHA-256 in 64 hexadecimal digits"):
            params.sha256(value, "sha256", rendered=True)


@pytest.mark.parametrize("text", ["output_count => 5", "error_ratio =< 0.1"])
def test_a_comparison_that_is_written_the_wrong_way_round_is_told_when_the_dag_is_parsed(text):
    with pytest.raises(ValueError, match="write >= or <= instead"):
        params.conditions([text], "expect")


def test_a_single_text_where_a_list_is_wanted_is_answered_with_the_list():
    with pytest.raises(ValueError, match=r"such as \['prod'\]"):
        params.string_list("prod", "engine_labels")


def test_numbers_that_another_task_returns_count_as_text_in_lists_too():
    assert params.string_list([2024, "a", 1.5], "job_names", rendered=True) == ["2024", "a", "1.5"]
    for value in ([True], [10**50], [float("nan")], [None], [["a"]]):
        with pytest.raises(ValueError, match="'job_names' must be a list of texts"):
            params.string_list(value, "job_names", rendered=True)


# pytest cannot name numbers that Python does not write out.
_HUGE = {"large": 10**400, "negative": -(10**400), "unwritten": 10**5000, "text": str(10**400), "float": 1e300}


@pytest.mark.parametrize("value", _HUGE.values(), ids=_HUGE)
@pytest.mark.parametrize("rendered", [True, False])
@pytest.mark.parametrize(
    "check",
    [params.integer, params.seconds, params.version, params.timestamp, params.boolean],
)
def test_a_number_that_is_too_large_is_refused_with_a_short_message(check, value, rendered):
    if check is params.version and isinstance(value, str):
        return
    with pytest.raises(ValueError, match="'name' must be") as refusal:
        check(value, "name", rendered=rendered)
    assert len(str(refusal.value)) < 800


@pytest.mark.parametrize(
    "value", [10**400, 10**5000, "9" * 5000, float("inf")], ids=["int", "unwritten", "text", "inf"]
)
def test_a_threshold_is_not_infinite(value):
    with pytest.raises(ValueError, match="'threshold' must be a number"):
        params.number(value, "threshold")
