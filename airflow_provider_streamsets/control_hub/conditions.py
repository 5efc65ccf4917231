"""Conditions on the metrics of a run: what to wait for, and what a run must have come to."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_streamsets.control_hub.errors import ControlHubConfigurationError, ControlHubExpectationError
from airflow_provider_streamsets.control_hub.models import JobRun, MetricRegistry, Model, RunMetrics

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient

Join = Literal["all", "any"]

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_TEXT = re.compile(r"^\s*(?P<metric>.+?)\s*(?P<comparison>>=|<=|==|!=|>|<)\s*(?P<threshold>\S+)\s*$")

# Read from the status of the job, which a wait has anyway.
_OF_STATUS: dict[str, Callable[[JobRun], int]] = {
    "input_count": lambda run: run.input_record_count,
    "output_count": lambda run: run.output_record_count,
    "error_count": lambda run: run.error_record_count,
}
_OF_RECORD_COUNTS: dict[str, Callable[[RunMetrics], float]] = {
    "input_count": lambda metrics: metrics.input_count,
    "output_count": lambda metrics: metrics.output_count,
    "error_count": lambda metrics: metrics.error_count,
    "stage_errors_count": lambda metrics: metrics.stage_errors_count,
    "total_error_count": lambda metrics: metrics.total_error_count,
    "error_ratio": lambda metrics: _ratio(metrics.total_error_count, metrics.input_count),
    "output_per_second": lambda metrics: metrics.output_per_second,
}
_NOT_GROWING = frozenset({"error_ratio", "output_per_second"})
_RATE = re.compile(r"\.((m|h)\d+|mean)_rate$")


def _ratio(errors: int, inputs: int) -> float:
    """Return errors per record read; every error counts in full where nothing was read."""
    return errors / max(inputs, 1)


@dataclass(frozen=True)
class MetricCondition(Model):
    """
    One condition on a metric of a run.

    :param metric: ``input_count``, ``output_count``, ``error_count``, ``stage_errors_count``, ``total_error_count``
        (error records and stage errors), ``error_ratio`` (total errors per record read), ``output_per_second`` (over
        the last minute), or the name of a counter or meter, such as ``stage.Trash_01.inputRecords.counter``; a rate of
        a meter follows its name after a dot, such as ``pipeline.batchOutputRecords.meter.m1_rate``
    :param comparison: ``>=``, ``>``, ``<=``, ``<``, ``==`` or ``!=``
    :param threshold: what the metric is compared with
    """

    metric: str
    comparison: str
    threshold: float

    def __str__(self) -> str:
        return f"{self.metric} {self.comparison} {_shown(self.threshold)}"

    @classmethod
    def of(cls, value: object) -> MetricCondition:
        """
        Read a condition.

        :param value: a condition, a mapping of its three fields, or a text such as ``"output_count >= 1000"``
        :raises ControlHubConfigurationError: if it is none
        """
        fields: Mapping[Any, Any]
        if isinstance(value, str):
            match = _TEXT.match(value)
            if match is None:
                raise _wrong(value)
            fields = match.groupdict()
        elif isinstance(value, cls):
            fields = value.to_dict()
        elif isinstance(value, Mapping) and set(value) == {"metric", "comparison", "threshold"}:
            fields = value
        else:
            raise _wrong(value)
        metric, comparison, threshold = fields["metric"], fields["comparison"], fields["threshold"]
        try:
            number = float("nan") if isinstance(threshold, bool) else float(threshold)
        except (TypeError, ValueError, OverflowError):
            number = float("nan")
        if not isinstance(comparison, str) or comparison not in _COMPARISONS or not math.isfinite(number):
            raise _wrong(value)
        if not isinstance(metric, str) or not metric.strip():
            raise _wrong(value)
        metric = metric.strip()
        # A short name that is none of ours is a mistake; those of the registry have dots.
        if metric not in _OF_RECORD_COUNTS and "." not in metric:
            raise ControlHubConfigurationError(
                f"There is no metric '{metric}'. Give one of {', '.join(_OF_RECORD_COUNTS)}, or the name of a counter "
                "or meter such as 'pipeline.batchCount.counter'."
            )
        return cls(metric, comparison, number)

    def is_satisfied_by(self, value: float | None) -> bool:
        """Return whether a value satisfies the condition; no value never does."""
        return value is not None and _COMPARISONS[self.comparison](value, self.threshold)

    @property
    def stays_satisfied(self) -> bool:
        """Whether the condition, once satisfied, stays so until the run ends: a lower bound of a count."""
        return self.comparison in {">=", ">"} and self._is_count

    @property
    def is_upper_bound(self) -> bool:
        """Whether the condition can be broken by a metric that grows."""
        return self.comparison in {"<=", "<"}

    @property
    def is_told_by_status(self) -> bool:
        """Whether the status of a job that is running is enough to judge it."""
        return self.metric in _OF_STATUS

    @property
    def _is_count(self) -> bool:
        return self.metric not in _NOT_GROWING and not _RATE.search(self.metric)


def conditions_of(values: object) -> tuple[MetricCondition, ...]:
    """
    Read one condition or a list of them.

    :raises ControlHubConfigurationError: if one is none, or there is none
    """
    entries = [values] if isinstance(values, (str, Mapping, MetricCondition)) else values
    if not isinstance(entries, (list, tuple)) or not entries:
        raise _wrong(values)
    return tuple(map(MetricCondition.of, entries))


def _wrong(value: object) -> ControlHubConfigurationError:
    return ControlHubConfigurationError(
        "A condition on metrics is a text such as 'output_count >= 1000', or the three fields "
        '{"metric": "output_count", "comparison": ">=", "threshold": 1000} with a comparison of '
        f"{' '.join(_COMPARISONS)}; this is {value!r}."
    )


@dataclass(frozen=True)
class Judgement(Model):
    """
    What conditions came to.

    :param is_satisfied: whether all, or any, of them are satisfied
    :param values: value by metric; None for one that there is not (yet)
    :param text: each condition with its value, for messages
    """

    is_satisfied: bool
    values: Mapping[str, float | None]
    text: str


class MetricValues:
    """
    The values of metrics of one run at one moment, each source asked only when it is needed.

    :param client: asked for what is not given
    :param job_id: id of the job
    :param run_count: number of the run
    :param status: the job's status as just read, whose counts are used while the run goes on
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

        :raises ControlHubError: if it cannot be asked
        """
        if metric not in _OF_RECORD_COUNTS:
            registry = self._read_registry()
            return registry.value(metric) if registry else None
        is_running = self._status is not None and not self._status.has_ended
        if is_running and not self._metrics_read and metric in _OF_STATUS and self._status is not None:
            return _OF_STATUS[metric](self._status) if self._status.metrics_saved else None
        metrics = self._read_metrics()
        return _OF_RECORD_COUNTS[metric](metrics) if metrics else None

    def _read_metrics(self) -> RunMetrics | None:
        if not self._metrics_read:
            self._metrics = self._client.metrics.of_run(self._job_id, self._run_count, latest=self._status)
            self._metrics_read = True
        return self._metrics

    def _read_registry(self) -> MetricRegistry | None:
        if not self._registry_read:
            self._registry = self._client.metrics.registry(self._job_id, self._run_count)
            self._registry_read = True
        return self._registry


def judge(
    conditions: Iterable[MetricCondition],
    join: Join,
    values: MetricValues,
    *,
    counts: Callable[[MetricCondition], bool] = lambda condition: True,
) -> Judgement:
    """
    Compare the metrics of a run with conditions.

    :param conditions: the conditions
    :param join: whether ``all`` or ``any`` of them must be satisfied
    :param values: the metrics
    :param counts: conditions for which it is False count as not satisfied, whatever their value
    """
    conditions = tuple(conditions)
    found = {condition.metric: values.get(condition.metric) for condition in conditions}
    satisfied = [counts(c) and c.is_satisfied_by(found[c.metric]) for c in conditions]
    return Judgement(
        is_satisfied=all(satisfied) if join == "all" else any(satisfied),
        values=found,
        text=", ".join(
            f"{condition} ({'satisfied' if yes else 'not satisfied'}: {_shown(found[condition.metric])})"
            for condition, yes in zip(conditions, satisfied, strict=True)
        ),
    )


def broken_bounds(conditions: Iterable[MetricCondition], values: MetricValues) -> Judgement | None:
    """
    Return what is broken of the upper bounds while the run goes on; None if nothing is.

    :param conditions: the conditions; those that are no upper bounds do not count
    :param values: the metrics; one that there is not yet breaks nothing
    """
    bounds = [condition for condition in conditions if condition.is_upper_bound]
    found = {condition.metric: values.get(condition.metric) for condition in bounds}
    broken = [c for c in bounds if found[c.metric] is not None and not c.is_satisfied_by(found[c.metric])]
    if not broken:
        return None
    return Judgement(False, found, ", ".join(f"{c} is broken: {_shown(found[c.metric])}" for c in broken))


class BoundsCheck:
    """
    Looks at upper bounds each time that a run is seen to go on.

    :param client: asked for metrics that a status does not tell
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
        Compare the metrics that there are with the bounds.

        :param status: the run as just seen
        :raises ControlHubExpectationError: if a bound is broken
        :raises ControlHubError: if the metrics cannot be read
        """
        # The run that is looked for can have been replaced by another one.
        run_count = status.run_count or self._run_count
        values = MetricValues(self._client, self._job_id, run_count, status=status)
        broken = broken_bounds(self._bounds, values)
        if broken is not None:
            raise ControlHubExpectationError(
                f"Run {run_count} of job {self._job_id} goes on, but its metrics are not as expected: {broken.text}."
            )


def _shown(value: float | None) -> str:
    if value is None:
        return "no value"
    return str(int(value)) if float(value).is_integer() else str(value)
