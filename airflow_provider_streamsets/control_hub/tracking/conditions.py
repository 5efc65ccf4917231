"""Conditions on the metrics of a run."""

from __future__ import annotations

import difflib
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub.choices import COMPARISONS, Join
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubConfigurationError,
    ControlHubExpectationError,
    ControlHubMetricsUnavailableError,
    ControlHubNotFoundError,
    ControlHubRejectedError,
    is_server_error,
)
from airflow_provider_streamsets.control_hub.models import JobRun, MetricRegistry, Model, RunMetrics

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient
    from airflow_provider_streamsets.control_hub.tracking.report import RunReport

_CONDITION_PATTERN = re.compile(
    r"^\s*(?P<metric>[^<>=!]+?)\s*(?P<comparison>>=|<=|==|!=|>|<)\s*(?P<threshold>[^\s<>=!]+)\s*$"
)
_COMPARISON_CHARACTERS = re.compile("[<>=!]")

# Available in the status of the job, which a wait polls anyway.
_STATUS_METRICS: dict[str, Callable[[JobRun], int]] = {
    "input_count": lambda run: run.input_record_count,
    "output_count": lambda run: run.output_record_count,
    "error_count": lambda run: run.error_record_count,
}
_RECORD_COUNT_METRICS: dict[str, Callable[[RunMetrics], float | None]] = {
    "input_count": lambda metrics: metrics.input_count,
    "output_count": lambda metrics: metrics.output_count,
    "error_count": lambda metrics: metrics.error_count,
    "stage_errors_count": lambda metrics: metrics.stage_errors_count,
    "total_error_count": lambda metrics: metrics.total_error_count,
    "error_ratio": lambda metrics: _ratio(metrics.total_error_count, metrics.input_count),
    "output_per_second": lambda metrics: metrics.output_per_second,
}
_RESULTS = {True: "satisfied", False: "not satisfied", None: "undecided"}
_NON_MONOTONIC = frozenset({"error_ratio", "output_per_second"})
_RATE_PATTERN = re.compile(r"\.((m|h)\d+|mean)_rate$")


def _ratio(errors: int | None, inputs: int) -> float | None:
    """Return errors per record read; without records read, the number of errors."""
    return None if errors is None else errors / max(inputs, 1)


@dataclass(frozen=True)
class MetricCondition(Model):
    """
    A condition on a metric of a run.

    :param metric: ``input_count``, ``output_count``, ``error_count``, ``stage_errors_count``, ``total_error_count``
        (error records and stage errors), ``error_ratio`` (total errors per record read), ``output_per_second`` (over
        the last minute), or the name of a counter or meter, such as ``stage.Trash_01.inputRecords.counter``; a rate of
        a meter follows its name after a dot, such as ``pipeline.batchOutputRecords.meter.m1_rate``
    :param comparison: ``>=``, ``>``, ``<=``, ``<``, ``==`` or ``!=``
    :param threshold: value to compare the metric with
    """

    metric: str
    comparison: str
    threshold: float

    def __str__(self) -> str:
        return f"{self.metric} {self.comparison} {_format_value(self.threshold)}"

    @classmethod
    def parse(cls, value: object) -> MetricCondition:
        """
        Parse a condition.

        :param value: a condition, a mapping of its three fields, or a string such as ``"output_count >= 1000"``
        :raises ControlHubConfigurationError: if it is not a condition
        """
        fields: Mapping[Any, Any]
        if isinstance(value, str):
            match = _CONDITION_PATTERN.match(value)
            if match is None:
                raise _invalid_condition(value, _syntax_hint(value))
            fields = match.groupdict()
        elif isinstance(value, cls):
            fields = value.to_dict()
        elif isinstance(value, Mapping) and set(value) == {"metric", "comparison", "threshold"}:
            fields = value
        else:
            raise _invalid_condition(value)
        metric, comparison, threshold = fields["metric"], fields["comparison"], fields["threshold"]
        try:
            number = float("nan") if isinstance(threshold, bool) else float(threshold)
        except (TypeError, ValueError, OverflowError):
            number = float("nan")
        if not isinstance(comparison, str) or comparison not in COMPARISONS:
            raise _invalid_condition(value, f"{comparison!r} is not a comparison")
        if not math.isfinite(number):
            hint = "; write a percentage as a number, such as 0.01 for 1%" if str(threshold).endswith("%") else ""
            raise _invalid_condition(value, f"the threshold {threshold!r} is not a number{hint}")
        if not isinstance(metric, str) or not metric.strip():
            raise _invalid_condition(value, f"{metric!r} is not the name of a metric")
        return cls(validate_metric(metric), comparison, number)

    def is_satisfied_by(self, value: float | None) -> bool:
        """Return whether a value satisfies the condition; a missing value never does."""
        return value is not None and COMPARISONS[self.comparison](value, self.threshold)

    def evaluate(self, value: float | None, *, is_final: bool) -> bool | None:
        """
        Return whether the metric of an ended run satisfies the condition; None if undecided.

        A value that is not final decides only what further growth cannot change: a satisfied lower bound or a violated
        upper bound of a count.

        :param value: value of the metric; None if Control Hub has none
        :param is_final: whether the value is final
        """
        if value is None:
            return None
        satisfied = self.is_satisfied_by(value)
        if is_final or (self.is_count and (self.is_monotonic if satisfied else self.is_upper_bound)):
            return satisfied
        return None

    @property
    def is_monotonic(self) -> bool:
        """Whether the condition stays satisfied until the run ends: a lower bound of a count."""
        return self.comparison in {">=", ">"} and self.is_count

    @property
    def is_upper_bound(self) -> bool:
        """Whether growth of the metric can violate the condition."""
        return self.comparison in {"<=", "<"}

    @property
    def available_in_status(self) -> bool:
        """Whether the status of an active job is sufficient to evaluate the condition."""
        return self.metric in _STATUS_METRICS

    @property
    def is_count(self) -> bool:
        """Whether the metric is a count, which never decreases during a run."""
        return self.metric not in _NON_MONOTONIC and not _RATE_PATTERN.search(self.metric)


def parse_conditions(values: object) -> tuple[MetricCondition, ...]:
    """
    Parse one condition or a list of conditions.

    :raises ControlHubConfigurationError: if one is invalid, or the list is empty
    """
    entries = [values] if isinstance(values, (str, Mapping, MetricCondition)) else values
    if not isinstance(entries, (list, tuple)) or not entries:
        raise _invalid_condition(values)
    return tuple(map(MetricCondition.parse, entries))


def validate_metric(name: str) -> str:
    """
    Return the name of a metric if it is valid.

    :param name: a built-in name, or one of the registry, which contains dots
    :raises ControlHubConfigurationError: if it is neither
    """
    name = name.strip()
    if name in _RECORD_COUNT_METRICS or ("." in name and not _COMPARISON_CHARACTERS.search(name)):
        return name
    close = difflib.get_close_matches(name, _RECORD_COUNT_METRICS, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    raise ControlHubConfigurationError(
        f"Unknown metric '{name}'.{hint} Use one of {', '.join(_RECORD_COUNT_METRICS)}, or the name of a counter or "
        "meter such as 'pipeline.batchCount.counter'."
    )


def _syntax_hint(text: str) -> str:
    """Return why a string is not a condition."""
    if "=>" in text or "=<" in text:
        return "use >= or <= instead of => or =<"
    if len(re.findall("[<>=!]+", text)) > 1:
        return "use one entry per comparison"
    return "it does not compare a metric with a number"


def _invalid_condition(value: object, fault: str = "it is neither") -> ControlHubConfigurationError:
    return ControlHubConfigurationError(
        "A metric condition must be a string such as 'output_count >= 1000', or the three fields "
        '{"metric": "output_count", "comparison": ">=", "threshold": 1000}, with one of '
        f"{' '.join(COMPARISONS)}, got {value!r}: {fault}."
    )


@dataclass(frozen=True)
class Evaluation(Model):
    """
    Result of an evaluation of conditions.

    :param is_satisfied: whether all, or any, of them are satisfied
    :param values: value by metric; None if missing (so far)
    :param text: each condition with its value, for messages
    :param is_final: whether the values are the final ones of an ended run
    """

    is_satisfied: bool
    values: Mapping[str, float | None]
    text: str
    is_final: bool = False


class MetricValues:
    """
    Metrics of one run at one time, fetched on demand from each source.

    The status of an active run has some counts. Counts that it lacks, as some statuses always do, come from the record
    counts, or else from the counters of the registry.

    :param client: the client for missing metrics
    :param job_id: id of the job
    :param run_count: number of the run
    :param status: the job's status as just read, whose counts are used while the run is active
    :param metrics: the run's record counts as just read
    """

    def __init__(
        self,
        client: ControlHubClient,
        job_id: str,
        run_count: int,
        *,
        status: JobRun | None = None,
        metrics: RunMetrics | None = None,
    ) -> None:
        self._client = client
        self._job_id = job_id
        self._run_count = run_count
        self._status = status if status is not None and status.run_count == run_count else None
        self._metrics = metrics
        self._metrics_read = metrics is not None
        self._registry: MetricRegistry | None = None
        self._registry_read = False

    def get(self, metric: str) -> float | None:
        """
        Return the value of a metric, None if Control Hub has none.

        :raises ControlHubError: if reading it fails
        """
        if metric not in _RECORD_COUNT_METRICS:
            return self.get_from_registry(metric)
        status = self._status
        if metric in _STATUS_METRICS and status is not None and not status.has_ended and not self._metrics_read:
            if status.has_counts:
                return _STATUS_METRICS[metric](status)
            if not status.lacks_counts(time.time()):
                return None
        value = self._get_from_record_counts(metric)
        if value is None and status is not None and status.is_established(time.time()):
            return self.get_from_registry(metric)
        return value

    def get_from_registry(self, metric: str) -> float | None:
        """
        Return the value of a metric from the counters and meters of the registry.

        :raises ControlHubError: if reading them fails
        """
        if not self._registry_read:
            self._registry = self._client.metrics.registry(self._job_id, self._run_count)
            self._registry_read = True
        if self._registry is None or metric not in _RECORD_COUNT_METRICS:
            return self._registry.value(metric) if self._registry else None
        is_counted = RunMetrics.from_registry(self._registry, self._run_count)
        return _RECORD_COUNT_METRICS[metric](is_counted) if is_counted else None

    def _get_from_record_counts(self, metric: str) -> float | None:
        if not self._metrics_read:
            self._metrics = self._client.metrics.of_run(self._job_id, self._run_count, latest=self._status)
            self._metrics_read = True
        return _RECORD_COUNT_METRICS[metric](self._metrics) if self._metrics else None


def evaluate(
    conditions: Iterable[MetricCondition],
    join: Join,
    values: MetricValues,
    *,
    is_counted: Callable[[MetricCondition], bool] = lambda condition: True,
) -> Evaluation:
    """
    Evaluate conditions with the metrics of a run.

    :param conditions: the conditions
    :param join: whether ``all`` or ``any`` of them must be satisfied
    :param values: the metrics
    :param is_counted: returns False for conditions that count as not satisfied, whatever their value
    """
    conditions = tuple(conditions)
    current = {condition.metric: values.get(condition.metric) for condition in conditions}
    satisfied = [is_counted(c) and c.is_satisfied_by(current[c.metric]) for c in conditions]
    return Evaluation(
        is_satisfied=all(satisfied) if join == "all" else any(satisfied),
        values=current,
        text=", ".join(
            f"{condition} ({_RESULTS[is_satisfied]}: {_format_value(current[condition.metric])})"
            for condition, is_satisfied in zip(conditions, satisfied, strict=True)
        ),
    )


def evaluate_ended_run(
    client: ControlHubClient,
    report: RunReport,
    conditions: Iterable[MetricCondition],
    join: Join = "all",
    *,
    is_counted: Callable[[MetricCondition], bool] = lambda condition: True,
) -> Evaluation:
    """
    Evaluate conditions with the metrics of an ended run.

    Conditions that the record counts leave undecided, because these are missing or not final, are decided by the
    registry, which is final once the run has ended.

    :param client: the client for metrics that the report lacks
    :param report: the run
    :param conditions: the conditions
    :param join: whether ``all`` or ``any`` of them must be satisfied
    :param is_counted: returns False for conditions that count as not satisfied, whatever their value
    :raises ControlHubMetricsUnavailableError: if the available metrics are not decisive
    :raises ControlHubError: if reading metrics fails
    """
    conditions = tuple(conditions)
    metrics, is_final, rejection = report.metrics, report.metrics_final, ""
    if metrics is None:
        # The job may have been restarted, so the run may not be its latest one.
        try:
            metrics = client.metrics.of_run(report.job_id, report.run.run_count, run=report.run)
        except (ControlHubNotFoundError, ControlHubRejectedError) as error:
            if is_server_error(error):
                raise
            rejection = f" {error}"
        is_final = metrics is not None and report.has_final(metrics)
    values = MetricValues(client, report.job_id, report.run.run_count)
    used_values: dict[str, float | None] = {}
    results: list[bool | None] = []
    all_final = True
    for condition in conditions:
        name = condition.metric
        value = _RECORD_COUNT_METRICS[name](metrics) if metrics and name in _RECORD_COUNT_METRICS else None
        result, value_is_final = condition.evaluate(value, is_final=is_final), is_final
        if result is None:
            registered = values.get_from_registry(name)
            # A count below that of the record counts is older.
            is_older = registered is not None and value is not None and condition.is_count and registered < value
            if registered is not None and not is_older:
                value, result, value_is_final = registered, condition.evaluate(registered, is_final=True), True
        used_values[name] = value
        all_final = all_final and value_is_final
        results.append(result if is_counted(condition) else False)
    pairs = list(zip(conditions, results, strict=True))
    text = ", ".join(
        f"{condition} ({_RESULTS[result]}: {_format_value(used_values[condition.metric])})"
        for condition, result in pairs
    )
    decisive = join == "any"
    if decisive in results or None not in results:
        satisfied = decisive if decisive in results else not decisive
        return Evaluation(is_satisfied=satisfied, values=used_values, text=text, is_final=all_final)
    undecided = [condition for condition, result in pairs if result is None]
    missing = dict.fromkeys(c.metric for c in undecided if used_values[c.metric] is None)
    advice = (
        f"Control Hub has no {' and '.join(missing)} of this run: check the names of the metrics, and that the "
        "pipeline writes statistics to Control Hub."
        if missing
        else "Control Hub has not saved the final metrics yet: increase 'metrics_timeout', or evaluate them later."
    )
    raise ControlHubMetricsUnavailableError(
        f"{report.summary}, but its conditions are undecided: {text}. {advice}{rejection}"
    )


def violated_conditions(conditions: Iterable[MetricCondition], values: MetricValues) -> Evaluation | None:
    """
    Return the violated upper bounds of an active run; None if there are none.

    :param conditions: the conditions; only upper bounds are evaluated
    :param values: the metrics; a missing one violates nothing
    """
    bounds = [condition for condition in conditions if condition.is_upper_bound]
    current = {condition.metric: values.get(condition.metric) for condition in bounds}
    violated = [c for c in bounds if current[c.metric] is not None and not c.is_satisfied_by(current[c.metric])]
    if not violated:
        return None
    text = ", ".join(f"{c} (violated: {_format_value(current[c.metric])})" for c in violated)
    return Evaluation(False, current, text)


class ViolationCheck:
    """
    Checks upper bounds with each status of an active run.

    :param client: the client for metrics that a status does not have
    :param job_id: id of the job
    :param run_count: number of the run
    :param bounds: the conditions
    """

    def __init__(
        self, client: ControlHubClient, job_id: str, run_count: int, bounds: Iterable[MetricCondition]
    ) -> None:
        self._client = client
        self._job_id = job_id
        self._run_count = run_count
        self._bounds = tuple(bounds)

    def __call__(self, status: JobRun) -> None:
        """
        Evaluate the bounds with the current metrics.

        :param status: the run as just read
        :raises ControlHubExpectationError: if a bound is violated
        :raises ControlHubError: if reading metrics fails
        """
        # An upgrade of the job may have replaced the run.
        run_count = status.run_count or self._run_count
        values = MetricValues(self._client, self._job_id, run_count, status=status)
        violation = violated_conditions(self._bounds, values)
        if violation is not None:
            raise ControlHubExpectationError(
                f"Job {self._job_id} run {run_count} is active, but violates its conditions: {violation.text}."
            )


def _format_value(value: float | None) -> str:
    if value is None:
        return "no value"
    return str(int(value)) if float(value).is_integer() else str(value)
