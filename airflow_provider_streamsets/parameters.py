"""
Checking what a user gave to an operator or sensor, at DAG parse where it is known and after rendering where it is not.

Each function passes a value on that only a running task can know (a Jinja template, an XCom), unless `rendered`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any


def _is_known_later(value: object, rendered: bool) -> bool:
    if rendered:
        return False
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    return not isinstance(value, (int, float, Mapping, list, tuple, set, timedelta))


def check_job_reference(job_id: object, job_name: object) -> None:
    """
    Check that a job is named in exactly one way.

    :raises ValueError: if not
    """
    if (job_id is None) == (job_name is None):
        given = "neither" if job_id is None else "both"
        raise ValueError(f"Give the job by exactly one of 'job_id' and 'job_name'; {given} of them is given.")
    name, value = ("job_id", job_id) if job_id is not None else ("job_name", job_name)
    if isinstance(value, str) and not value.strip():
        raise ValueError(f"'{name}' is empty.")


def seconds(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a duration in seconds from a number, a `timedelta` or, rendered, a text holding a number.

    :param name: the parameter, for the message
    :param rendered: whether templates have been rendered
    :raises ValueError: if it is not a duration above 0
    """
    if value is None or _is_known_later(value, rendered):
        return value
    if isinstance(value, timedelta):
        number = value.total_seconds()
    else:
        try:
            number = float("nan") if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = float("nan")
    if not 0 < number < float("inf"):
        raise ValueError(f"'{name}' must be a number of seconds above 0 or a timedelta, but is {value!r}.")
    return number


def whole_number(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a number such as a run count; rendered, from a text too.

    :raises ValueError: if it is not a whole number from 1
    """
    if value is None or _is_known_later(value, rendered):
        return value
    try:
        number = 0 if isinstance(value, (bool, float)) else int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise ValueError(f"'{name}' must be a whole number from 1, but is {value!r}.")
    return number


def flag(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return true or false; rendered, from the texts ``true`` and ``false`` too.

    :raises ValueError: if it is neither
    """
    if isinstance(value, bool) or _is_known_later(value, rendered):
        return value
    if isinstance(value, str) and value.strip().lower() in {"true", "false"}:
        return value.strip().lower() == "true"
    raise ValueError(f"'{name}' must be true or false, but is {value!r}.")


def json_object(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a dict that can be sent as a JSON object; from a text holding one too. None counts as an empty one.

    :raises ValueError: if it is something else
    """
    if value is None:
        return {}
    if _is_known_later(value, rendered):
        return value
    text = value
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else {}
        except ValueError as error:
            raise ValueError(f"'{name}' must be a JSON object, but is the text {text!r} ({error}).") from None
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"'{name}' must be a JSON object of names and values, but is {text!r}.")
    if rendered:
        try:
            json.dumps(dict(value), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"'{name}' must hold JSON values only: {error}.") from None
    return dict(value)
