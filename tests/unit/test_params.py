from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_streamsets import params


@pytest.mark.parametrize(
    ("job_id", "job_name", "message"),
    [
        (None, None, "is required, got none"),
        ("id", "name", "got 'job_id' and 'job_name'"),
        ("", None, "'job_id' must be a non-empty string"),
        (None, " ", "'job_name' must be a non-empty string"),
    ],
)
def test_exactly_one_reference_is_required(job_id, job_name, message):
    with pytest.raises(ValueError, match=message):
        params.exactly_one(job_id=job_id, job_name=job_name)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), timedelta(0), True, [], {}])
@pytest.mark.parametrize("rendered", [True, False])
def test_seconds_must_be_positive(value, rendered):
    with pytest.raises(ValueError, match="'poll_interval' must be a number of seconds above 0"):
        params.seconds(value, "poll_interval", rendered=rendered)


@pytest.mark.parametrize(("value", "expected"), [(5, 5.0), (0.5, 0.5), (timedelta(minutes=1), 60.0), (None, None)])
def test_seconds_accepts_numbers_and_timedeltas(value, expected):
    assert params.seconds(value, "timeout") == expected


def test_seconds_parses_strings_after_rendering():
    assert params.seconds("{{ params.wait }}", "timeout") == "{{ params.wait }}"
    assert params.seconds("90", "timeout", rendered=True) == 90.0
    with pytest.raises(ValueError, match="'timeout' must be"):
        params.seconds("soon", "timeout", rendered=True)


@pytest.mark.parametrize("value", ["[1]", "7", "null", '"text"', "{", [1], 7, True, {1: 2}])
def test_json_object_rejects_other_values(value):
    with pytest.raises(ValueError, match="'runtime_parameters' must be a JSON object"):
        params.json_object(value, "runtime_parameters")


def test_json_object_rejects_non_json_values():
    with pytest.raises(ValueError, match="must contain only JSON values"):
        params.json_object({"day": object()}, "runtime_parameters", rendered=True)
    with pytest.raises(ValueError, match="must contain only JSON values"):
        params.json_object({"ratio": float("nan")}, "runtime_parameters", rendered=True)


@pytest.mark.parametrize(
    ("value", "expected"), [(None, {}), ("", {}), ("{}", {}), ('{"a": 1}', {"a": 1}), ({"a": 1}, {"a": 1})]
)
def test_json_object_accepts_dict_or_json_string(value, expected):
    assert params.json_object(value, "runtime_parameters", rendered=True) == expected


def test_templates_and_xcoms_are_checked_after_rendering():
    later = object()
    assert params.json_object(later, "runtime_parameters") is later
    assert params.boolean(later, "reset_offsets") is later
    assert params.integer("{{ run_count }}", "run_count") == "{{ run_count }}"


@pytest.mark.parametrize("value", ["many", "", True, float("nan"), float("-inf"), []])
def test_number_rejects_other_values(value):
    with pytest.raises(ValueError, match="'threshold' must be a number"):
        params.number(value, "threshold", rendered=True)


@pytest.mark.parametrize(("value", "expected"), [(0, 0.0), (-1.5, -1.5), ("1e3", 1000.0), (None, None)])
def test_number_accepts_numeric_strings(value, expected):
    assert params.number(value, "threshold") == expected


@pytest.mark.parametrize("value", [0, -3, 1.5, True, "x", ""])
def test_integer_must_be_at_least_one(value):
    with pytest.raises(ValueError, match="'run_count' must be an integer >= 1"):
        params.integer(value, "run_count", rendered=True)


@pytest.mark.parametrize(("value", "expected"), [(True, True), ("False", False), (" true ", True)])
def test_boolean_accepts_rendered_strings(value, expected):
    assert params.boolean(value, "reset_offsets", rendered=True) is expected


@pytest.mark.parametrize("value", ["yes", 1, "", "none"])
def test_boolean_rejects_other_values(value):
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
def test_timestamp_parses_values_defaulting_to_utc(value):
    assert params.timestamp(value, "since") == NOON
    assert params.timestamp(value, "since", rendered=True) == NOON


def test_timestamp_of_date_is_midnight():
    assert params.timestamp("2026-01-31", "since") == NOON.replace(hour=0)


@pytest.mark.parametrize("value", ["", "noon", "12:00", "P1D", "2026-01-31/2026-02-01", "2026-02-31", 7, True])
def test_timestamp_rejects_other_values(value):
    with pytest.raises(ValueError, match="'since' must be a datetime or an ISO 8601 string such as"):
        params.timestamp(value, "since", rendered=True)


def test_at_most_one_allows_none_or_one():
    params.at_most_one(version=None, tag=None)
    params.at_most_one(version="1", tag=None)
    with pytest.raises(ValueError, match="At most one of 'version', 'tag' is allowed, got 'version' and 'tag'"):
        params.at_most_one(version="1", tag="{{ tag }}")


def test_string_may_be_empty_only_if_allowed():
    assert params.string("a", "name") == "a"
    assert params.string("", "description", empty=True) == ""
    assert params.string("{{ name }}", "name") == "{{ name }}"
    for value in ("", " ", True, ["a"]):
        with pytest.raises(ValueError, match="'name' must be a non-empty string"):
            params.string(value, "name", rendered=True)
    # Native rendering converts a numeric string to a number.
    assert params.string(20261124, "name", rendered=True) == "20261124"
    with pytest.raises(ValueError, match="'description' must be a string, got 7"):
        params.string(7, "description", empty=True)


@pytest.mark.parametrize(("value", "expected"), [(3, "3"), ("3", "3"), (" v3 ", "3"), ("1.2", "1.2"), (None, None)])
def test_version_accepts_number_with_optional_v(value, expected):
    assert params.version(value, "version", rendered=True) == expected


@pytest.mark.parametrize("value", ["", "latest", "v", "three", 1.5, True, ["3"]])
def test_version_rejects_other_values(value):
    with pytest.raises(ValueError, match="'version' must be a version number such as '3', got"):
        params.version(value, "version")


def test_version_accepts_latest_only_if_allowed():
    assert params.version("latest", "version", latest=True) == "latest"
    with pytest.raises(ValueError, match="such as '3' or 'latest'"):
        params.version("newest", "version", latest=True)


def test_integer_accepts_special_value_below_minimum():
    assert params.integer(-1, "retries", minimum=0, also=-1) == -1
    assert params.integer("0", "retries", minimum=0, also=-1, rendered=True) == 0
    for value in (-2, "x", 0.5, True):
        with pytest.raises(ValueError, match="'retries' must be an integer >= 0 or -1"):
            params.integer(value, "retries", minimum=0, also=-1)


def test_path_accepts_strings_and_path_objects(tmp_path):
    for value in ("/tmp/a.zip", "s3://bucket/key", "{{ path }}", tmp_path):
        assert params.path(value, "path") == value
    assert params.path(tmp_path, "path", rendered=True) == tmp_path
    for value in ("", None, 7, ["a"]):
        with pytest.raises(ValueError, match="'path' must be"):
            params.path(value, "path", rendered=True)


def test_sha256_is_lowercased():
    assert params.sha256("AB" * 32, "sha256", rendered=True) == "ab" * 32
    assert params.sha256("{{ digest }}", "sha256") == "{{ digest }}"
    for value in ("ab", "xy" * 32, 7):
        with pytest.raises(ValueError, match="'sha256' must be a SHA-256 digest of 64 hexadecimal digits"):
            params.sha256(value, "sha256", rendered=True)


@pytest.mark.parametrize("text", ["output_count => 5", "error_ratio =< 0.1"])
def test_conditions_reject_reversed_comparison(text):
    with pytest.raises(ValueError, match="use >= or <= instead of => or =<"):
        params.conditions([text], "expect")


def test_string_list_suggests_list_for_single_string():
    with pytest.raises(ValueError, match=r"such as \['prod'\]"):
        params.string_list("prod", "engine_labels")


def test_string_list_converts_rendered_numbers():
    assert params.string_list([2024, "a", 1.5], "job_names", rendered=True) == ["2024", "a", "1.5"]
    for value in ([True], [10**50], [float("nan")], [None], [["a"]]):
        with pytest.raises(ValueError, match="'job_names' must be a list of non-empty strings"):
            params.string_list(value, "job_names", rendered=True)


# pytest cannot name numbers that Python does not write out.
_HUGE = {"large": 10**400, "negative": -(10**400), "unwritten": 10**5000, "text": str(10**400), "float": 1e300}


@pytest.mark.parametrize("value", _HUGE.values(), ids=_HUGE)
@pytest.mark.parametrize("rendered", [True, False])
@pytest.mark.parametrize(
    "check",
    [params.integer, params.seconds, params.version, params.timestamp, params.boolean],
)
def test_huge_number_is_rejected_with_short_message(check, value, rendered):
    if check is params.version and isinstance(value, str):
        return
    with pytest.raises(ValueError, match="'name' must be") as refusal:
        check(value, "name", rendered=rendered)
    assert len(str(refusal.value)) < 800


@pytest.mark.parametrize(
    "value", [10**400, 10**5000, "9" * 5000, float("inf")], ids=["int", "unwritten", "text", "inf"]
)
def test_number_rejects_overflow(value):
    with pytest.raises(ValueError, match="'threshold' must be a number"):
        params.number(value, "threshold")
