"""
Checking what a user gave to an operator or sensor, at DAG parse where it is known and after rendering where it is not.

Each function passes a value on that only a running task can know (a Jinja template, an XCom), unless `rendered`.
"""

from __future__ import annotations

import ast
import json
import math
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import pendulum

from airflow_provider_streamsets.compat import is_from_mapped

WAIT_FOR = ("completion", "active")
# Control Hub's whole numbers are those of Java.
_LARGEST = 2**63 - 1
# A number beyond that is no name or id, nor can Python write out every one.
_LARGEST_TEXT = 10**40
# Seconds. Added to the time, much more is beyond what dates can hold.
_LONGEST = 100 * 366 * 86400.0
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ID = re.compile(r"[^\s:/]+:\S+")
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 500
_SHOWN.maxlist = _SHOWN.maxtuple = _SHOWN.maxset = _SHOWN.maxdict = 20
_ANY_CONDITION = {"metric": "output_count", "comparison": ">=", "threshold": 0}


def _is_template(value: object, rendered: bool) -> bool:
    if rendered:
        return False
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    return not isinstance(value, (int, float, Mapping, list, tuple, set, timedelta))


def exactly_one(**references: object) -> None:
    """
    Check that what an operator is to act on is named in exactly one way.

    :param references: the parameters that can name it, of which one is to be given
    :raises ValueError: if not exactly one is given, or it is empty
    """
    given = [name for name, value in references.items() if value is not None]
    if len(given) != 1:
        names = ", ".join(f"'{name}'" for name in references)
        raise ValueError(f"Give exactly one of {names}; given are {' and '.join(given) or 'none of them'}.")
    value = references[given[0]]
    if isinstance(value, str) and not value.strip():
        raise ValueError(f"'{given[0]}' is empty.")


def at_most_one(**values: object) -> None:
    """
    Check that of several parameters that exclude each other only one is given.

    :param values: the parameters
    :raises ValueError: if several are given
    """
    given = [name for name, value in values.items() if value is not None]
    if len(given) > 1:
        names = ", ".join(f"'{name}'" for name in values)
        raise ValueError(f"Give at most one of {names}; given are {' and '.join(given)}.")


def string(value: Any, name: str, *, rendered: bool = False, empty: bool = False) -> Any:
    """
    Return a text.

    :param empty: whether it can be empty
    :raises ValueError: if it is none
    """
    if value is None or _is_template(value, rendered):
        return value
    if rendered:
        value = _text_of_number(value)
    if not isinstance(value, str) or not (empty or value.strip()):
        raise ValueError(
            f"'{name}' must be a text{'' if empty else ' that is not empty'}, but is {format_value(value)}."
        )
    return value


def _text_of_number(value: Any) -> Any:
    """Return a number, as another task may return it, as text; anything else as it is."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST_TEXT
    return str(value) if is_number else value


def resource_id(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return the id of a job or pipeline. Only its form is checked, and that not closely: `<uuid>:<organization>`.

    :raises ValueError: if it cannot be one, as a name
    """
    value = string(value, name, rendered=rendered)
    if value is None or _is_template(value, rendered):
        return value
    if not _ID.fullmatch(value.strip()):
        kind = {"pipeline_id": "pipeline", "template_id": "job template"}.get(name, "job")
        by_name = name.replace("_ids", "_names").replace("_id", "_name")
        # No parameter takes the name of a template.
        advice = "" if name == "template_id" else f" A name is given as '{by_name}'."
        if _UUID.fullmatch(value.strip()):
            advice = " The organization is missing."
        raise ValueError(
            f"'{name}' must be the id of a {kind}, '<uuid>:<organization>', but is {format_value(value)}.{advice}"
        )
    return value.strip()


def resource_ids(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a list of ids of jobs, as :func:`string_list`.

    :raises ValueError: if it is something else, or one of them cannot be an id
    """
    entries = string_list(value, name, rendered=rendered)
    if entries is None or _is_template(entries, rendered):
        return entries
    return [resource_id(entry, name, rendered=rendered) for entry in entries]


def no_effect(without: str, task: object, default_args: Mapping[str, Any] | None, **values: object) -> None:
    """
    Check that a task is not given parameters that have no effect together with others.

    What it merely has from the ``default_args`` of its DAG can be for other tasks, and what it has as one instance of a
    mapped task can be for other instances, which are made only when they run: neither is refused.

    :param without: what these parameters need, for the message
    :param task: the task
    :param default_args: what Airflow gives to its constructor as such
    :param values: the parameters as they are given; None and False stand for those that are not
    :raises ValueError: if one is given
    """
    if is_from_mapped(task):
        return
    defaults = default_args or {}
    given = [
        f"'{name}'"
        for name, value in values.items()
        if value is not None and value is not False and not (name in defaults and defaults[name] == value)
    ]
    if given:
        has, it = ("has", "it") if len(given) == 1 else ("have", "them")
        raise ValueError(f"{' and '.join(given)} {has} no effect without {without}; leave {it} out.")


def alias(names: tuple[str, str], values: tuple[Any, Any], default_args: Mapping[str, Any] | None) -> Any:
    """
    Return the value of a parameter that has two names; None if it is given by neither.

    The ``default_args`` of a DAG can hold both, for tasks of different kinds: an argument of the task itself takes
    precedence, then the first name.

    :param names: both names
    :param values: the parameters as given
    :param default_args: what Airflow passes to the constructor as such
    :raises ValueError: if the task itself is given both
    """
    defaults = default_args or {}
    given = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    own = {name: value for name, value in given.items() if name not in defaults or defaults[name] != value}
    if len(own) > 1:
        raise ValueError(f"'{names[1]}' is an alias of '{names[0]}': leave one of them out.")
    return next(iter((own or given).values()), None)


def path(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return the path or URL of a file: a text, or one of the objects that stand for paths.

    :raises ValueError: if it is neither
    """
    if isinstance(value, str):
        return string(value, name, rendered=rendered)
    if value is None or not _is_template(value, rendered=False):
        raise ValueError(f"'{name}' must be a path or URL of a file, but is {format_value(value)}.")
    return value


def sha256(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a SHA-256 in small hexadecimal digits.

    :raises ValueError: if it is none
    """
    if value is None or _is_template(value, rendered):
        return value
    if not isinstance(value, str) or not re.fullmatch("[0-9a-fA-F]{64}", value.strip()):
        raise ValueError(f"'{name}' must be a SHA-256 in 64 hexadecimal digits, but is {format_value(value)}.")
    return value.strip().lower()


def seconds(value: Any, name: str, *, rendered: bool = False, zero: bool = False) -> Any:
    """
    Return a duration in seconds from a number, a `timedelta` or, rendered, a text holding a number.

    :param name: the parameter, for the message
    :param rendered: whether templates have been rendered
    :param zero: whether it can be 0
    :raises ValueError: if it is no such duration
    """
    if value is None or _is_template(value, rendered):
        return value
    number = value.total_seconds() if isinstance(value, timedelta) else _float(value)
    if not (0 < number <= _LONGEST or (zero and number == 0)):
        minimum = "from" if zero else "above"
        raise ValueError(
            f"'{name}' must be a number of seconds {minimum} 0 or a timedelta, up to 100 years, but is {format_value(value)}."
        )
    return number


def number(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a number, from a text holding one too.

    :raises ValueError: if it is none, or not a finite one
    """
    if value is None or _is_template(value, rendered):
        return value
    parsed = _float(value)
    if not math.isfinite(parsed):
        raise ValueError(f"'{name}' must be a number, but is {format_value(value)}.")
    return parsed


def _float(value: Any) -> float:
    """Return a number, NaN for what is none or has more digits than can be."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def format_value(value: object) -> str:
    """Return a value for messages, shortened."""
    try:
        return _SHOWN.repr(value)
    except ValueError:
        # Python writes no integer of more than 4300 digits.
        return "a number with too many digits"


def integer(value: Any, name: str, *, rendered: bool = False, minimum: int = 1, also: int | None = None) -> Any:
    """
    Return a number such as a run count; rendered, from a text too.

    :param minimum: the smallest that it can be
    :param also: one below that which it can be all the same, such as -1 for "endless"
    :raises ValueError: if it is not such a whole number
    """
    if value is None or _is_template(value, rendered):
        return value
    try:
        number = None if isinstance(value, (bool, float)) else int(value)
    except (TypeError, ValueError):
        number = None
    if number is None or not (minimum <= number <= _LARGEST or number == also):
        numbers = f"a whole number from {minimum}" + (f", or {also}" if also is not None else "")
        limit = f" up to {_LARGEST}" if number is not None and number > _LARGEST else ""
        raise ValueError(f"'{name}' must be {numbers}{limit}, but is {format_value(value)}.")
    return number


def version(value: Any, name: str, *, rendered: bool = False, latest: bool = False) -> Any:
    """
    Return the number of a pipeline's version as text, from a text such as ``3`` or ``v3`` or from a number.

    :param latest: whether it can be the word ``latest``
    :raises ValueError: if it is none
    """
    if value is None or _is_template(value, rendered):
        return value
    known = value if isinstance(value, float) else _text_of_number(value)
    number = known.strip() if isinstance(known, str) else ""
    if not (re.fullmatch(r"v?\d+(\.\d+)*", number) or (latest and number == "latest")):
        choices = "a version number such as '3'" + (" or 'latest'" if latest else "")
        raise ValueError(f"'{name}' must be {choices}, but is {format_value(value)}.")
    return number.removeprefix("v")


def timestamp(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a point in time from a datetime or a text in ISO 8601; without a time zone, it is one of UTC.

    :raises ValueError: if it is neither
    """
    if value is None or (not isinstance(value, datetime) and _is_template(value, rendered)):
        return value
    try:
        parsed = pendulum.parse(value.strip(), exact=True) if isinstance(value, str) else value
    except ValueError:
        parsed = None
    if isinstance(parsed, date) and not isinstance(parsed, datetime):
        parsed = pendulum.datetime(parsed.year, parsed.month, parsed.day)
    if not isinstance(parsed, datetime):
        raise ValueError(
            f"'{name}' must be a datetime or a text such as '2026-01-31T06:30:00Z', but is {format_value(value)}."
        )
    return pendulum.instance(parsed, tz="UTC")


def one_of(value: Any, name: str, choices: Sequence[str], *, rendered: bool = False) -> Any:
    """
    Return one of several words.

    :raises ValueError: if it is none of them
    """
    is_later = value is not None and _is_template(value, rendered)
    if is_later or (isinstance(value, str) and value in choices):
        return value
    raise ValueError(f"'{name}' must be one of {', '.join(map(repr, choices))}, but is {format_value(value)}.")


def boolean(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return true or false; rendered, from the texts ``true`` and ``false`` too.

    :raises ValueError: if it is neither
    """
    if isinstance(value, bool) or (value is not None and _is_template(value, rendered)):
        return value
    if isinstance(value, str) and value.strip().lower() in {"true", "false"}:
        return value.strip().lower() == "true"
    raise ValueError(f"'{name}' must be true or false, but is {format_value(value)}.")


def fixed_boolean(value: Any, name: str) -> bool:
    """
    Return true or false for a parameter that is not templated, from the texts ``true`` and ``false`` too.

    :raises ValueError: if it is neither
    """
    if value is not None and _is_template(value, rendered=False):
        raise ValueError(f"'{name}' must be true or false, and cannot be a template, but is {format_value(value)}.")
    return bool(boolean(value, name))


def string_list(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a list of texts; from a text holding one too, as a template makes of a list.

    :raises ValueError: if it is something else, or one of them is empty
    """
    if value is None or _is_template(value, rendered):
        return value
    entries = value
    if isinstance(value, str):
        if not value.strip().startswith(("[", "(", "{")):
            raise ValueError(
                f"'{name}' must be a list of texts, such as [{format_value(value)}], but is the text {format_value(value)}."
            )
        entries = _read(value, name, "a list of texts")
    if isinstance(entries, (set, tuple, list)) or (rendered and isinstance(entries, Iterable)):
        entries = list(entries) if not isinstance(entries, (str, Mapping)) else None
    if not isinstance(entries, list):
        raise ValueError(f"'{name}' must be a list of texts, but is {format_value(value)}.")
    if rendered:
        entries = list(map(_text_of_number, entries))
    for entry in entries:
        if not _is_template(entry, rendered) and (not isinstance(entry, str) or not entry.strip()):
            raise ValueError(f"'{name}' must be a list of texts that are not empty, but holds {format_value(entry)}.")
    return entries


def checked_wait(wait_for: Any, fail_on_red_after: Any, *, rendered: bool = False) -> dict[str, Any]:
    """
    Return what a run is waited for, and for how many seconds it may be ``RED``, by the names of these parameters.

    :raises ValueError: if one of them is no such thing
    """
    return {
        "wait_for": one_of(wait_for, "wait_for", WAIT_FOR, rendered=rendered),
        "fail_on_red_after": seconds(fail_on_red_after, "fail_on_red_after", rendered=rendered),
    }


def metric(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return the name of a metric.

    :raises ValueError: if it is none
    """
    value = string(value, name, rendered=rendered)
    if value is None or _is_template(value, rendered):
        return value
    # Not at the top: a DAG without conditions is parsed without any module of the client.
    from airflow_provider_streamsets.control_hub.errors import ControlHubConfigurationError
    from airflow_provider_streamsets.control_hub.tracking.conditions import validate_metric

    try:
        return validate_metric(value)
    except ControlHubConfigurationError as error:
        raise ValueError(f"'{name}' must be the name of a metric. {error}") from None


def conditions(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a list of conditions on metrics; from a single one, and rendered, from a text holding a list too.

    :raises ValueError: if it is something else, or one of them is no single comparison of a metric that there can be
        with a number
    """
    if value is None or _is_template(value, rendered):
        return value
    if isinstance(value, str) and value.strip().startswith(("[", "{", "(")):
        value = _read(value, name, "a list of conditions")
    entries = [value] if isinstance(value, (str, Mapping)) else value
    if not isinstance(entries, (list, tuple)) or not entries:
        raise ValueError(
            f"'{name}' must be a list of conditions such as 'output_count >= 1000', but is {format_value(value)}."
        )
    for entry in entries:
        if not _is_template(entry, rendered):
            _check_condition(entry, name, rendered)
    return list(entries)


def _check_condition(entry: Any, name: str, rendered: bool) -> None:
    from airflow_provider_streamsets.control_hub.errors import ControlHubConfigurationError
    from airflow_provider_streamsets.control_hub.tracking.conditions import MetricCondition

    if isinstance(entry, Mapping) and set(entry) == set(_ANY_CONDITION):
        # What is known of it is checked; what is not has a value that is right.
        entry = {key: _ANY_CONDITION[key] if _is_template(part, rendered) else part for key, part in entry.items()}
    try:
        MetricCondition.parse(entry)
    except ControlHubConfigurationError as error:
        raise ValueError(
            f"'{name}' must hold conditions such as 'output_count >= 1000', but holds {format_value(entry)}. {error}"
        ) from None


def json_object(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a dict that can be sent as a JSON object; from a text holding one too. None counts as an empty one.

    :raises ValueError: if it is something else
    """
    if value is None:
        return {}
    if _is_template(value, rendered):
        return value
    string = value
    if isinstance(value, str):
        value = _read(value, name, "a JSON object") if value.strip() else {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"'{name}' must be a JSON object of names and values, but is {format_value(string)}.")
    if rendered:
        try:
            json.dumps(dict(value), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"'{name}' must hold JSON values only: {error}.") from None
    return dict(value)


def json_objects(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a list of dicts that can be sent as JSON objects; rendered, from a text holding one too.

    :raises ValueError: if it is something else, or empty
    """
    if value is None or _is_template(value, rendered):
        return value
    entries = _read(value, name, "a list of JSON objects") if isinstance(value, str) else value
    if rendered and not isinstance(entries, (list, tuple, str, Mapping)) and isinstance(entries, Iterable):
        entries = list(entries)
    if not isinstance(entries, (list, tuple)) or not entries:
        raise ValueError(f"'{name}' must be a list of JSON objects that is not empty, but is {format_value(value)}.")
    return [json_object(entry, f"{name}[{index}]", rendered=rendered) for index, entry in enumerate(entries)]


def _read(string: str, name: str, expected: str) -> Any:
    """Read JSON, or what a template makes of a Python value that is no text."""
    try:
        return json.loads(string)
    except ValueError as error:
        try:
            return ast.literal_eval(string.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise ValueError(
                f"'{name}' must be {expected}, but is the text {format_value(string)} ({error})."
            ) from None
