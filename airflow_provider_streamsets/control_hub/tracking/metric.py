"""Wait until the metrics of a run satisfy conditions, or the run ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub.choices import Join, OnRunEnd
from airflow_provider_streamsets.control_hub.errors import ControlHubRunTimeoutError
from airflow_provider_streamsets.control_hub.models import JobRun, Model, RunIdentity
from airflow_provider_streamsets.control_hub.tracking.conditions import (
    Evaluation,
    MetricCondition,
    MetricValues,
    evaluate,
    evaluate_ended_run,
)
from airflow_provider_streamsets.control_hub.tracking.report import RunReport
from airflow_provider_streamsets.control_hub.tracking.run import (
    DEFAULT_METRICS_TIMEOUT,
    Log,
    NotifyOn,
    OutageListener,
    RunTracker,
    Tracker,
)

if TYPE_CHECKING:
    import pendulum

    from airflow_provider_streamsets.control_hub.client import ControlHubClient


@dataclass(frozen=True)
class MetricResult(Model):
    """
    Result of a wait for metrics.

    :param job_id: id of the job
    :param job_name: name of the job, empty if unknown
    :param run_count: number of the run
    :param satisfied: whether the conditions are satisfied
    :param values: value by metric; None if Control Hub has no value
    :param status: status of the run when its metrics were evaluated
    :param color: its color
    :param run_ended: whether the run had ended
    :param message: all of this and the end of the run as text
    :param replaced: number of the originally tracked run, if an upgrade of the job replaced it with this one
    """

    job_id: str
    job_name: str
    run_count: int
    satisfied: bool
    values: Mapping[str, float | None]
    status: str
    color: str
    run_ended: bool
    message: str
    replaced: int | None = None

    @property
    def awaited_run_count(self) -> int:
        """Number of the run that was waited for, which an upgrade of the job may have replaced."""
        return self.replaced or self.run_count

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> MetricResult:
        """
        Rebuild a result from :meth:`to_dict`.

        :raises ValueError: if a field is missing or has the wrong type
        """
        fields: dict[str, Any] = {name: value.get(name) for name in cls.__dataclass_fields__}
        metric_result = cls(**fields)
        kinds: dict[str, Any] = {
            "replaced": (int, type(None)),
            "run_count": int,
            "satisfied": bool,
            "run_ended": bool,
            "values": Mapping,
        }
        for name in cls.__dataclass_fields__:
            if not isinstance(getattr(metric_result, name), kinds.get(name, str)):
                raise ValueError(f"'{name}' has the wrong type: {value.get(name)!r}")
        return metric_result

    def to_result(self) -> dict[str, Any]:
        """Return the XCom value of a task."""
        return {name: entry for name, entry in self.to_dict().items() if name not in {"message", "replaced"}}


class MetricTracker(Tracker[MetricResult]):
    """
    Polls the metrics of one run until they satisfy conditions or the run has ended.

    Used like :class:`~airflow_provider_streamsets.control_hub.tracking.run.RunTracker`, which detects the end of the
    run.

    While the run is active, the conditions are evaluated with the metrics that Control Hub has saved. If it ends before
    they are satisfied, they are evaluated with its final metrics. Unless `on_run_end` is ``evaluate``, only monotonic
    conditions count then: those must have been satisfied before the end, whatever the polls have seen. For other
    conditions, the result would depend on the timing of the polls. If the available metrics are not decisive,
    :class:`~airflow_provider_streamsets.control_hub.errors.ControlHubMetricsUnavailableError` is raised.

    :param client: the client for metrics that a status does not have
    :param job_id: id of the job
    :param run_count: number of the run
    :param conditions: the conditions
    :param join: whether ``all`` or ``any`` of them must be satisfied
    :param on_run_end: what counts when the run has ended: with ``evaluate``, all conditions
    :param job_name: name of the job, for messages
    :param identity: identity of the run, as far as known
    :param metrics_timeout: maximum number of seconds to wait for the final metrics of the ended run
    :param missing_threshold: number of successive polls that must miss the job or run before it counts as gone
    :param started_after: see :class:`~airflow_provider_streamsets.control_hub.tracking.run.RunTracker`
    :param now: clock in seconds
    :param log: logger for progress messages
    :param outage: notified when Control Hub becomes unreachable and reachable again; logs this by default
    """

    __slots__ = (
        "_active_run",
        "_conditions",
        "_join",
        "_last_text",
        "_on_run_end",
        "_report",
        "_run",
        "metrics_timeout",
    )

    def __init__(
        self,
        client: ControlHubClient,
        job_id: str,
        run_count: int,
        conditions: Sequence[MetricCondition],
        *,
        join: Join = "all",
        on_run_end: OnRunEnd = "fail",
        job_name: str = "",
        identity: RunIdentity | None = None,
        metrics_timeout: float = DEFAULT_METRICS_TIMEOUT,
        missing_threshold: int = 3,
        started_after: pendulum.DateTime | None = None,
        now: Callable[[], float] | None = None,
        log: Log | None = None,
        outage: OutageListener | None = None,
    ) -> None:
        super().__init__(client, job_id, run_count, job_name, log, outage)
        self.metrics_timeout = metrics_timeout
        self._run = RunTracker(
            client,
            job_id,
            run_count,
            job_name=job_name,
            identity=identity,
            metrics_timeout=metrics_timeout,
            missing_threshold=missing_threshold,
            started_after=started_after,
            now=now,
            log=self._log,
            outage=self._outage,
        )
        # The values of the conditions have log lines of their own.
        self._run.progress_interval = 0.0
        self._conditions = tuple(conditions)
        self._join: Join = join
        self._on_run_end = on_run_end
        self._active_run: JobRun | None = None
        self._report: RunReport | None = None
        self._last_text = ""

    @property
    def run_count(self) -> int:
        """Number of the run; that of its successor if an upgrade of the job replaced it."""
        return self._run.run_count

    @property
    def started_after(self) -> pendulum.DateTime | None:
        """Earliest start time of the run while it does not exist yet; None once it is known."""
        return self._run.started_after

    @property
    def identity(self) -> RunIdentity:
        """Identity of the run, as far as known; distinguishes it from a run of a re-imported job."""
        return self._run.identity

    @property
    def has_ended(self) -> bool:
        """Whether the run has ended; its metrics or events may still be missing."""
        return self._run.has_ended

    @property
    def notify_on(self) -> NotifyOn:
        """New counts, if a status has all metrics of the conditions; otherwise every poll sends requests."""
        if self._run.notify_on is NotifyOn.EVERY_POLL:
            return NotifyOn.EVERY_POLL
        is_status_sufficient = all(condition.available_in_status for condition in self._conditions)
        return NotifyOn.LIVE_COUNTS if is_status_sufficient else NotifyOn.EVERY_POLL

    def observe(self, status: JobRun | None) -> bool:
        """
        Process the status of the job's latest run, without sending requests.

        :param status: None if Control Hub returned none
        :returns: whether :meth:`resolve` must be called
        """
        self._active_run = None
        if self._run.observe(status):
            return True
        if status is None or status.run_count != self.run_count or status.job_id not in {"", self.job_id}:
            return False
        self._active_run = status
        if self.notify_on is NotifyOn.EVERY_POLL or status.lacks_counts(time.time()):
            return True
        return self._evaluate_running(status).is_satisfied

    def next_delay(self, poll_interval: float) -> float:
        """
        Return the seconds until the next poll.

        :param poll_interval: poll interval of a run that is not young
        """
        return self._run.next_delay(poll_interval)

    def timed_out(self, seconds: float | None) -> ControlHubRunTimeoutError:
        """
        Return the error for conditions that were not satisfied in time.

        :param seconds: the timeout
        """
        if self.started_after is not None:
            return self._run.timed_out(seconds)
        limit = f" within {seconds:g} s" if seconds is not None else " in time"
        if self.has_ended:
            return ControlHubRunTimeoutError(
                f"Could not read the metrics of {self._run.run_label}{limit}. The run has ended."
            )
        conditions = (" and " if self._join == "all" else " or ").join(map(str, self._conditions))
        last = f" Last values: {self._last_text}." if self._last_text else ""
        last = f" {self._run.not_reached_message}" if self._run.not_reached_message else last
        return ControlHubRunTimeoutError(
            f"The metrics of {self._run.run_label} did not satisfy {conditions}{limit}.{last}"
        )

    def _resolve(self, skip_metrics_wait: bool) -> MetricResult | None:
        if self._active_run is not None:
            return self._result_while_running(self._active_run)
        if self._report is None:
            self._report = self._run.resolve(skip_metrics_wait=skip_metrics_wait)
        if self._report is not None:
            return self._result_of_ended(self._report)
        # A successor is evaluated at once: the next poll may not show it any more.
        successor = self._run.active_run
        return None if successor is None else self._result_while_running(successor)

    def _evaluate_running(self, run: JobRun) -> Evaluation:
        values = MetricValues(self._client, self.job_id, self.run_count, status=run)
        evaluation = evaluate(self._conditions, self._join, values)
        self._last_text = evaluation.text
        return evaluation

    def _result_while_running(self, run: JobRun) -> MetricResult | None:
        previous_text = self._last_text
        evaluation = self._evaluate_running(run)
        if evaluation.is_satisfied:
            return self._metric_result(evaluation, run, f"{self._label} is active and satisfies: {evaluation.text}.")
        if evaluation.text != previous_text:
            self._log.info("%s: still waiting: %s", self._label, evaluation.text)
        return None

    def _result_of_ended(self, report: RunReport) -> MetricResult:
        evaluation = evaluate_ended_run(self._client, report, self._conditions, self._join, is_counted=self._is_counted)
        verb = "satisfy" if evaluation.is_satisfied else "do not satisfy"
        metrics = "final metrics" if evaluation.is_final else "metrics (not final yet)"
        text = f"The {metrics} of {self._run.run_label} {verb} the conditions: {evaluation.text}."
        return self._metric_result(
            evaluation, report.run, f"{text}{self._hint(evaluation)} {report.summary}.", run_ended=True
        )

    def _is_counted(self, condition: MetricCondition) -> bool:
        return self._on_run_end == "evaluate" or condition.is_monotonic

    def _hint(self, evaluation: Evaluation) -> str:
        """Explain why a seemingly satisfied condition did not count."""
        discounted = [
            str(condition)
            for condition in self._conditions
            if not self._is_counted(condition) and condition.is_satisfied_by(evaluation.values.get(condition.metric))
        ]
        if evaluation.is_satisfied or not discounted:
            return ""
        return f" For an ended run, {', '.join(discounted)} counts only with on_run_end='evaluate'."

    @property
    def _label(self) -> str:
        return self._run.run_label[:1].upper() + self._run.run_label[1:]

    def _metric_result(
        self, evaluation: Evaluation, run: JobRun, message: str, *, run_ended: bool = False
    ) -> MetricResult:
        return MetricResult(
            job_id=self.job_id,
            job_name=self._job_name,
            run_count=self.run_count,
            satisfied=evaluation.is_satisfied,
            values=evaluation.values,
            status=run.status,
            color=run.color,
            run_ended=run_ended,
            message=message,
            replaced=self._run.replaced,
        )
