"""
Declare and validate the parameters of operators, sensors and triggers, at DAG parse and after rendering.

Unless `rendered`, each function returns templates and XComs unchanged, as only a running task knows their values.
"""

from __future__ import annotations

import ast
import json
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.providers.common.compat.sdk import conf

from airflow_provider_streamsets.compat import is_from_mapped
from airflow_provider_streamsets.control_hub import choices, tracking
from airflow_provider_streamsets.control_hub.errors import ControlHubConfigurationError

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import Job

WAIT_FOR = ("completion", "active")
DEFAULT_POLL_INTERVAL = choices.DEFAULT_POLL_INTERVAL
_FRAMEWORK_TIMEOUT_MARGIN = 300.0
# Seconds, beyond the statistics interval, in which Control Hub should have saved the final metrics.
_SAVE_DELAY = 15.0
_MAX_METRICS_TIMEOUT = 120.0
# Control Hub's integers are those of Java.
_MAX_INTEGER = 2**63 - 1
# Larger numbers are no names or ids, and Python cannot convert all of them to strings.
_MAX_NUMBER_AS_STRING = 10**40
_MAX_PARTITION_KEY = 250
# Longer durations, added to the current time, exceed what dates can represent.
_MAX_SECONDS = 100 * 366 * 86400.0
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ID = re.compile(r"[^\s:/]+:\S+")
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 500
_REPR.maxlist = _REPR.maxtuple = _REPR.maxset = _REPR.maxdict = 20
# Stands for the templated fields of a condition when the others are checked.
_PLACEHOLDER_CONDITION = {"metric": "output_count", "comparison": ">=", "threshold": 0}


def _is_template(value: object, rendered: bool) -> bool:
    if rendered:
        return False
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    return not isinstance(value, (int, float, Mapping, list, tuple, set, timedelta))


def exactly_one(**values: object) -> None:
    """
    Check that exactly one of several parameters is set.

    :param values: the parameters; None means not set
    :raises ValueError: if none or several are set, or the one that is set is an empty string
    """
    names = _set_names(values)
    if len(names) != 1:
        raise ValueError(f"Exactly one of {_quoted(values)} is required, got {_quoted(names, ' and ') or 'none'}.")
    value = values[names[0]]
    if isinstance(value, str) and not value.strip():
        raise ValueError(f"'{names[0]}' must be a non-empty string, got {format_value(value)}.")


def at_most_one(**values: object) -> None:
    """
    Check that at most one of several mutually exclusive parameters is set.

    :param values: the parameters; None means not set
    :raises ValueError: if several are set
    """
    names = _set_names(values)
    if len(names) > 1:
        raise ValueError(f"At most one of {_quoted(values)} is allowed, got {_quoted(names, ' and ')}.")


def _set_names(values: Mapping[str, object]) -> list[str]:
    return [name for name, value in values.items() if value is not None]


def _quoted(names: Iterable[str], separator: str = ", ") -> str:
    return separator.join(f"'{name}'" for name in names)


def string(value: Any, name: str, *, rendered: bool = False, empty: bool = False) -> Any:
    """
    Return a string.

    :param empty: whether it may be empty
    :raises ValueError: if it is not a string, or empty
    """
    if value is None or _is_template(value, rendered):
        return value
    if rendered:
        value = _number_as_string(value)
    if not isinstance(value, str) or not (empty or value.strip()):
        raise ValueError(f"'{name}' must be a {'' if empty else 'non-empty '}string, got {format_value(value)}.")
    return value


def partition_key(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return the partition key of an asset event.

    :raises ValueError: if it is not a string, empty, or too long for Airflow
    """
    value = string(value, name, rendered=rendered)
    if isinstance(value, str) and not _is_template(value, rendered) and len(value) > _MAX_PARTITION_KEY:
        raise ValueError(
            f"'{name}' must have at most {_MAX_PARTITION_KEY} characters, got {len(value)}: {format_value(value)}."
        )
    return value


def _number_as_string(value: Any) -> Any:
    """Convert a number, such as an XCom of another task, to a string; return other values unchanged."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _MAX_NUMBER_AS_STRING
    return str(value) if is_number else value


def resource_id(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return the id of a job or pipeline, after a lenient check of its form, `<uuid>:<organization>`.

    :raises ValueError: if it cannot be an id, for example because it is a name
    """
    value = string(value, name, rendered=rendered)
    if value is None or _is_template(value, rendered):
        return value
    if not _ID.fullmatch(value.strip()):
        kind = {"pipeline_id": "pipeline", "template_id": "job template"}.get(name, "job")
        name_parameter = name.replace("_ids", "_names").replace("_id", "_name")
        # No parameter takes the name of a template.
        advice = "" if name == "template_id" else f" To use a name, set '{name_parameter}'."
        if _UUID.fullmatch(value.strip()):
            advice = " The organization is missing."
        raise ValueError(
            f"'{name}' must be the id of a {kind}, '<uuid>:<organization>', got {format_value(value)}.{advice}"
        )
    return value.strip()


def resource_ids(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a list of job ids; see :func:`string_list`.

    :raises ValueError: if it is not a list, or an entry cannot be an id
    """
    entries = string_list(value, name, rendered=rendered)
    if entries is None or _is_template(entries, rendered):
        return entries
    return [resource_id(entry, name, rendered=rendered) for entry in entries]


def no_effect(without: str, task: object, default_args: Mapping[str, Any] | None, **values: object) -> None:
    """
    Check that no parameter is set that has no effect without another one.

    Values from the DAG's ``default_args`` are accepted, as they can be meant for other tasks, and so are those of a
    mapped task, as they can be meant for its other instances.

    :param without: what these parameters require, for the message
    :param task: the task
    :param default_args: the ``default_args`` that Airflow passes to the constructor
    :param values: the parameters; None and False mean not set
    :raises ValueError: if one of them is set
    """
    if is_from_mapped(task):
        return
    names = [name for name, value in _own_arguments(values, default_args).items() if value is not False]
    if names:
        has, it = ("has", "it") if len(names) == 1 else ("have", "them")
        raise ValueError(f"{_quoted(names, ' and ')} {has} no effect without {without}; remove {it}.")


def _own_arguments(values: Mapping[str, Any], default_args: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arguments that are set by the task itself and not by the DAG's ``default_args``."""
    defaults = default_args or {}
    return {
        name: value
        for name, value in values.items()
        if value is not None and not (name in defaults and defaults[name] == value)
    }


def alias(names: tuple[str, str], values: tuple[Any, Any], default_args: Mapping[str, Any] | None) -> Any:
    """
    Return the value of a parameter that has two names; None if neither is set.

    A DAG's ``default_args`` may contain both, for tasks of different types: an argument of the task itself takes
    precedence, then the first name.

    :param names: the parameter's name and its alias
    :param values: their values; None means not set
    :param default_args: the ``default_args`` that Airflow passes to the constructor
    :raises ValueError: if the task itself sets both
    """
    passed = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    own = _own_arguments(passed, default_args)
    if len(own) > 1:
        raise ValueError(f"'{names[1]}' is an alias of '{names[0]}'; set only one of them.")
    return next(iter((own or passed).values()), None)


def path(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return the path or URL of a file: a string or a path object.

    :raises ValueError: if it is neither
    """
    if isinstance(value, str):
        return string(value, name, rendered=rendered)
    if value is None or not _is_template(value, rendered=False):
        raise ValueError(f"'{name}' must be a path or URL of a file, got {format_value(value)}.")
    return value


def sha256(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a SHA-256 digest in lower-case hexadecimal digits.

    :raises ValueError: if it is not a SHA-256 digest
    """
    if value is None or _is_template(value, rendered):
        return value
    if not isinstance(value, str) or not re.fullmatch("[0-9a-fA-F]{64}", value.strip()):
        raise ValueError(f"'{name}' must be a SHA-256 digest of 64 hexadecimal digits, got {format_value(value)}.")
    return value.strip().lower()


def seconds(value: Any, name: str, *, rendered: bool = False, zero: bool = False) -> Any:
    """
    Convert a duration to seconds, from a number, a numeric string or a `timedelta`.

    :param name: name of the parameter, for the message
    :param rendered: whether templates have been rendered
    :param zero: whether 0 is allowed
    :raises ValueError: if it is not such a duration
    """
    if value is None or _is_template(value, rendered):
        return value
    number = value.total_seconds() if isinstance(value, timedelta) else _float(value)
    if not (0 < number <= _MAX_SECONDS or (zero and number == 0)):
        minimum = "from" if zero else "above"
        raise ValueError(
            f"'{name}' must be a number of seconds {minimum} 0 or a timedelta, up to 100 years, "
            f"got {format_value(value)}."
        )
    return number


def number(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a number, from a number or a numeric string.

    :raises ValueError: if it is not a finite number
    """
    if value is None or _is_template(value, rendered):
        return value
    parsed = _float(value)
    if not math.isfinite(parsed):
        raise ValueError(f"'{name}' must be a number, got {format_value(value)}.")
    return parsed


def _float(value: Any) -> float:
    """Convert a value to a float; return NaN if it is not a number, or too large."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def format_value(value: object) -> str:
    """Return a truncated ``repr`` for messages."""
    try:
        return _REPR.repr(value)
    except ValueError:
        # Python does not convert integers of more than 4300 digits to strings.
        return "a number with too many digits"


def integer(value: Any, name: str, *, rendered: bool = False, minimum: int = 1, also: int | None = None) -> Any:
    """
    Return an integer, such as a run count, from an integer or a numeric string.

    :param minimum: the smallest allowed value
    :param also: one more allowed value, such as -1 for "unlimited"
    :raises ValueError: if it is not such an integer
    """
    if value is None or _is_template(value, rendered):
        return value
    try:
        number = None if isinstance(value, (bool, float)) else int(value)
    except (TypeError, ValueError):
        number = None
    if number is None or not (minimum <= number <= _MAX_INTEGER or number == also):
        numbers = f"an integer >= {minimum}" + (f" or {also}" if also is not None else "")
        limit = f" and <= {_MAX_INTEGER}" if number is not None and number > _MAX_INTEGER else ""
        raise ValueError(f"'{name}' must be {numbers}{limit}, got {format_value(value)}.")
    return number


def version(value: Any, name: str, *, rendered: bool = False, latest: bool = False) -> Any:
    """
    Return the number of a pipeline version as a string, from ``3``, ``"3"`` or ``"v3"``.

    :param latest: whether ``latest`` is allowed, too
    :raises ValueError: if it is not a version number
    """
    if value is None or _is_template(value, rendered):
        return value
    # A float cannot be a version: 1.10 would become 1.1.
    candidate = value if isinstance(value, float) else _number_as_string(value)
    number = candidate.strip() if isinstance(candidate, str) else ""
    if not (re.fullmatch(r"v?\d+(\.\d+)*", number) or (latest and number == "latest")):
        choices = "a version number such as '3'" + (" or 'latest'" if latest else "")
        raise ValueError(f"'{name}' must be {choices}, got {format_value(value)}.")
    return number.removeprefix("v")


def timestamp(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a point in time from a datetime or an ISO 8601 string; without a time zone, it is in UTC.

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
            f"'{name}' must be a datetime or an ISO 8601 string such as '2026-01-31T06:30:00Z', "
            f"got {format_value(value)}."
        )
    return pendulum.instance(parsed, tz="UTC")


def one_of(value: Any, name: str, choices: Sequence[str], *, rendered: bool = False) -> Any:
    """
    Return one of several choices.

    :raises ValueError: if it is none of them
    """
    is_template = value is not None and _is_template(value, rendered)
    if is_template or (isinstance(value, str) and value in choices):
        return value
    raise ValueError(f"'{name}' must be one of {', '.join(map(repr, choices))}, got {format_value(value)}.")


def boolean(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a boolean, from a boolean or one of the strings ``true`` and ``false``.

    :raises ValueError: if it is neither
    """
    if isinstance(value, bool) or (value is not None and _is_template(value, rendered)):
        return value
    if isinstance(value, str) and value.strip().lower() in {"true", "false"}:
        return value.strip().lower() == "true"
    raise ValueError(f"'{name}' must be true or false, got {format_value(value)}.")


def fixed_boolean(value: Any, name: str) -> bool:
    """
    Return the boolean of a parameter that is not templated; see :func:`boolean`.

    :raises ValueError: if it is a template or no boolean
    """
    if value is not None and _is_template(value, rendered=False):
        raise ValueError(f"'{name}' must be true or false, and cannot be a template, got {format_value(value)}.")
    return bool(boolean(value, name))


def string_list(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a list of strings, from a list or from the string that a template renders a list to.

    :raises ValueError: if it is not a list, or an entry is not a non-empty string
    """
    if value is None or _is_template(value, rendered):
        return value
    entries = value
    if isinstance(value, str):
        if not value.strip().startswith(("[", "(", "{")):
            raise ValueError(
                f"'{name}' must be a list of strings such as [{format_value(value)}], "
                f"got the string {format_value(value)}."
            )
        entries = _parse(value, name, "a list of strings")
    if isinstance(entries, (set, tuple, list)) or (rendered and isinstance(entries, Iterable)):
        entries = list(entries) if not isinstance(entries, (str, Mapping)) else None
    if not isinstance(entries, list):
        raise ValueError(f"'{name}' must be a list of strings, got {format_value(value)}.")
    if rendered:
        entries = list(map(_number_as_string, entries))
    for entry in entries:
        if not _is_template(entry, rendered) and (not isinstance(entry, str) or not entry.strip()):
            raise ValueError(f"'{name}' must be a list of non-empty strings, got the entry {format_value(entry)}.")
    return entries


def metric(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return the name of a metric.

    :raises ValueError: if it is not the name of a metric
    """
    value = string(value, name, rendered=rendered)
    if value is None or _is_template(value, rendered):
        return value
    # Not at the top: a DAG without conditions is parsed without any module of the client.

    try:
        return tracking.validate_metric(value)
    except ControlHubConfigurationError as error:
        raise ValueError(f"'{name}' must be the name of a metric. {error}") from None


def conditions(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a list of conditions on metrics, from a list, a single condition, or a string with a list.

    :raises ValueError: if it is not a list, or an entry does not compare a metric with a number
    """
    if value is None or _is_template(value, rendered):
        return value
    if isinstance(value, str) and value.strip().startswith(("[", "{", "(")):
        value = _parse(value, name, "a list of conditions")
    entries = [value] if isinstance(value, (str, Mapping)) else value
    if not isinstance(entries, (list, tuple)) or not entries:
        raise ValueError(
            f"'{name}' must be a list of conditions such as 'output_count >= 1000', got {format_value(value)}."
        )
    for entry in entries:
        if not _is_template(entry, rendered):
            _check_condition(entry, name, rendered)
    return list(entries)


def _check_condition(entry: Any, name: str, rendered: bool) -> None:
    if isinstance(entry, Mapping) and set(entry) == set(_PLACEHOLDER_CONDITION):
        # The templated fields get valid placeholders, so that the others are checked.
        entry = {
            key: _PLACEHOLDER_CONDITION[key] if _is_template(part, rendered) else part for key, part in entry.items()
        }
    try:
        tracking.MetricCondition.parse(entry)
    except ControlHubConfigurationError as error:
        raise ValueError(
            f"'{name}' must contain conditions such as 'output_count >= 1000', got {format_value(entry)}. {error}"
        ) from None


def resolve_deferrable(deferrable: Any) -> bool:
    """
    Return whether a task is deferrable.

    :param deferrable: value of the parameter; None stands for Airflow's ``[operators] default_deferrable``
    :raises ValueError: if the value is not a boolean
    """
    if deferrable is None:
        return bool(conf.getboolean("operators", "default_deferrable", fallback=False))
    return fixed_boolean(deferrable, "deferrable")


def framework_timeout(limit: float, poll_interval: float) -> timedelta:
    """Return a time-out for Airflow's deferral that is later than the trigger's deadline, whose error says more."""
    return timedelta(seconds=limit + 2 * poll_interval + _FRAMEWORK_TIMEOUT_MARGIN)


def resolve_metrics_timeout(value: Any, *jobs: Job, is_needed: bool = False) -> float:
    """
    Return the maximum number of seconds to wait for the final metrics of a run after its end.

    :param value: rendered parameter `metrics_timeout`; None means the time in which Control Hub should save them
    :param jobs: the jobs
    :param is_needed: whether conditions depend on the metrics; otherwise the default is at most two minutes, even for
        longer statistics intervals
    """
    timeout = seconds(value, "metrics_timeout", rendered=True, zero=True)
    if timeout is not None:
        return float(timeout)
    interval = max((job.statistics_interval for job in jobs), default=0.0)
    return interval + _SAVE_DELAY if is_needed else min(interval + _SAVE_DELAY, _MAX_METRICS_TIMEOUT)


def resolve_conditions(
    metric_name: Any, comparison: Any, threshold: Any, expect: Any
) -> tuple[tracking.MetricCondition, ...]:
    """
    Return the conditions that are given either by `metric`, `comparison` and `threshold`, or by `expect`; all rendered.

    :raises ValueError: if a condition is invalid
    """
    if metric_name is None:
        return tracking.parse_conditions(conditions(expect, "expect", rendered=True))
    metric(metric_name, "metric", rendered=True)
    return tracking.parse_conditions({"metric": metric_name, "comparison": comparison, "threshold": threshold})


def json_object(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a dict that can be sent as a JSON object, from a mapping or a string with one; None counts as empty.

    :raises ValueError: if it is not a JSON object
    """
    if value is None:
        return {}
    if _is_template(value, rendered):
        return value
    original = value
    if isinstance(value, str):
        value = _parse(value, name, "a JSON object") if value.strip() else {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"'{name}' must be a JSON object, got {format_value(original)}.")
    if rendered:
        try:
            json.dumps(dict(value), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"'{name}' must contain only JSON values: {error}.") from None
    return dict(value)


def json_objects(value: Any, name: str, *, rendered: bool = False) -> Any:
    """
    Return a list of dicts that can be sent as JSON objects, from a list or a string with one.

    :raises ValueError: if it is not a list of JSON objects, or empty
    """
    if value is None or _is_template(value, rendered):
        return value
    entries = _parse(value, name, "a list of JSON objects") if isinstance(value, str) else value
    if rendered and not isinstance(entries, (list, tuple, str, Mapping)) and isinstance(entries, Iterable):
        entries = list(entries)
    if not isinstance(entries, (list, tuple)) or not entries:
        raise ValueError(f"'{name}' must be a non-empty list of JSON objects, got {format_value(value)}.")
    return [json_object(entry, f"{name}[{index}]", rendered=rendered) for index, entry in enumerate(entries)]


def _parse(string: str, name: str, expected: str) -> Any:
    """Parse JSON, or the Python literal that a template renders a list or dict to."""
    try:
        return json.loads(string)
    except ValueError as error:
        try:
            return ast.literal_eval(string.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise ValueError(f"'{name}' must be {expected}, got the string {format_value(string)} ({error}).") from None


class Parameter:
    """
    Declare a templated parameter on the class of an operator or sensor.

    .. code-block:: python

        class ControlHubExampleOperator(ControlHubJobOperator):
            if_running = Parameter(params.one_of, IF_RUNNING)
            metrics_timeout = Parameter(params.seconds, zero=True)

            def __init__(self, *, if_running: str = "fail", metrics_timeout: float | str = 0, **kwargs: Any) -> None:
                super().__init__(**kwargs)
                self.if_running = if_running
                self.metrics_timeout = metrics_timeout

            def execute(self, context: Context) -> None:
                self.check_parameters()
                wait(self.rendered.metrics_timeout)

    This makes it a template field. The assignment in the constructor checks the value. The attribute is what the DAG
    author passed and, later, what Airflow rendered it to; ``self.rendered`` has the checked and converted value.
    Checks of several parameters together stay in the class. Parameters that are needed at DAG parse are no `Parameter`.

    :param check: one of the functions of this module; None accepts all values
    :param arguments: further positional arguments of this function
    :param optional: whether None is valid, even if the function rejects it
    :param at_parse: whether to check the value that is passed to the constructor; otherwise, only the rendered one
    :param first: list the template field before all that are not `first`
    :param options: keyword arguments of the function
    """

    name: str

    def __init__(
        self,
        check: Callable[..., Any] | None = None,
        *arguments: Any,
        optional: bool = False,
        at_parse: bool = True,
        first: bool = False,
        **options: Any,
    ) -> None:
        self.first = first
        self._check, self._arguments, self._options = check, arguments, options
        self._optional, self._at_parse = optional, at_parse

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, task: Any, owner: type | None = None) -> Any:
        if task is None:
            return self
        try:
            return vars(task)[self.name]
        except KeyError:
            raise AttributeError(f"'{type(task).__name__}' object has no attribute '{self.name}'") from None

    def __set__(self, task: Any, value: Any) -> None:
        # Only the constructor assigns for the first time; then Airflow assigns what it rendered.
        if self._at_parse and self.name not in vars(task):
            self.check(value, rendered=False)
        vars(task)[self.name] = value

    def check(self, value: Any, *, rendered: bool) -> Any:
        """
        Return the value, converted unless it is a template.

        :raises ValueError: if it is invalid
        """
        if self._check is None or (value is None and self._optional):
            return value
        return self._check(value, self.name, *self._arguments, rendered=rendered, **self._options)


class RenderedParameters:
    """The rendered parameters of a task, see ``rendered`` of the task."""

    def __init__(self, task: object) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(type(self._task), name).check(getattr(self._task, name), rendered=True)


def declared_parameters(kind: type) -> dict[str, Parameter]:
    """Return the parameters of a class, after those of its bases."""
    bases = reversed(kind.__mro__)
    return {name: value for base in bases for name, value in vars(base).items() if isinstance(value, Parameter)}
