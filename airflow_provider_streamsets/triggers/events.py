"""Events that the triggers pass to the tasks they resume."""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_streamsets.control_hub import errors
from airflow_provider_streamsets.control_hub.models import RunRef
from airflow_provider_streamsets.control_hub.tracking.metric import MetricResult
from airflow_provider_streamsets.control_hub.tracking.report import RunReport

_MAX_ISSUES = 10


@dataclass(frozen=True)
class MetricWaitEvent:
    """
    Result of a wait for metrics of one run. It is all that the resumed task needs.

    :param job_id: id of the job
    :param run_count: number of the run
    :param metric_result: the evaluated metrics, or None
    :param error: why there is no result
    """

    job_id: str
    run_count: int
    metric_result: MetricResult | None = None
    error: errors.ControlHubError | None = None

    def to_payload(self) -> dict[str, Any]:
        """Return the event as JSON values."""
        payload: dict[str, Any] = {"job_id": self.job_id, "run_count": self.run_count}
        if self.metric_result is not None:
            payload["metric_result"] = self.metric_result.to_dict()
        if self.error is not None:
            payload["error"] = _error_payload(self.error)
        return payload

    @classmethod
    def from_payload(cls, payload: object) -> MetricWaitEvent:
        """
        Parse the event that Airflow passes to the task.

        :raises ControlHubUnexpectedResponseError: if it is incomplete or malformed
        """
        try:
            if not isinstance(payload, Mapping):
                raise TypeError(f"it is of type {type(payload).__name__}")
            metric_result = MetricResult.from_dict(payload["metric_result"]) if "metric_result" in payload else None
            error = _error_from_payload(payload["error"]) if "error" in payload else None
            event = cls(str(payload["job_id"]), int(payload["run_count"]), metric_result, error)
            if (metric_result is None) == (error is None):
                raise ValueError("it must hold either a result or an error")
            awaited = metric_result and (metric_result.job_id, metric_result.awaited_run_count)
            if awaited and awaited != (event.job_id, event.run_count):
                raise ValueError("its result is of another run")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise errors.ControlHubUnexpectedResponseError(
                f"Cannot read the trigger's event, so the metrics of the run are unknown: {error}"
            ) from error
        return event

    def result_or_raise(self) -> MetricResult:
        """Return the result, or raise the error of the wait."""
        if self.error is not None:
            raise self.error
        assert self.metric_result is not None  # noqa: S101 # nosec B101 # checked in from_payload
        return self.metric_result


class RunsWaitReason(str, enum.Enum):
    """Reason why a wait for runs ended."""

    ENDED = "ended"
    """All runs ended."""
    FIRST_FAILURE = "first_failure"
    """A run failed while others are active."""
    RED = "red"
    """A run was ``RED`` for too long."""
    FORCE = "force"
    """The task must force the stop of runs that have not ended."""
    TIMEOUT = "timeout"
    """The deadline passed."""


@dataclass(frozen=True)
class RunsWaitEvent:
    """
    Result of a wait for runs.

    It has the complete report of a single run that has ended, unless the task had to act on the run before. The
    outcomes of many runs are read by the resumed task, so that the event stays small.

    :param runs: the runs
    :param reason: why the wait ended
    :param until_failure: end the next wait for these runs at the first failure
    :param force_at: end the next wait at this time so that the task can force stops, in epoch seconds
    :param timeout: total seconds of the wait
    :param deadline: deadline of the wait, in epoch seconds
    :param metrics_timeout: maximum seconds to wait for the runs' final metrics
    :param error: why the wait failed
    :param forced: ids of the jobs whose runs the task has forced to stop
    :param stopped: last statuses of the runs that the trigger has requested to stop after a timeout, by job id
    :param stop_failed: whether the trigger tried to stop the runs, and may have stopped some of them
    :param active: ids of the jobs whose runs were active, in a wait for active runs
    :param red_since: since when runs have been ``RED``, in epoch seconds, by job id
    :param reports: by job id, reports of runs for which the wait is over: that of the only run, and those of runs that
        were ``RED`` for too long
    """

    runs: tuple[RunRef, ...]
    reason: RunsWaitReason = RunsWaitReason.ENDED
    until_failure: bool = False
    force_at: float | None = None
    timeout: float | None = None
    deadline: float | None = None
    metrics_timeout: float = 0.0
    error: errors.ControlHubError | None = None
    forced: tuple[str, ...] = ()
    stopped: Mapping[str, str] = field(default_factory=dict)
    stop_failed: bool = False
    active: tuple[str, ...] = ()
    red_since: Mapping[str, float] = field(default_factory=dict)
    reports: Mapping[str, RunReport] = field(default_factory=dict)

    @property
    def needs_action(self) -> bool:
        """Whether the task must act on runs before it waits for them again."""
        return self.reason in {RunsWaitReason.FIRST_FAILURE, RunsWaitReason.FORCE, RunsWaitReason.RED}

    @property
    def run_counts(self) -> dict[str, int]:
        """Run counts by job id."""
        return {run.job_id: run.run_count for run in self.runs}

    @property
    def report(self) -> RunReport | None:
        """Report of the only run; None if there are several runs, or it has no report."""
        return self.reports.get(self.runs[0].job_id) if len(self.runs) == 1 else None

    def time_left(self) -> float:
        """Return the seconds until the deadline of the wait; infinite if there is none."""
        return math.inf if self.deadline is None else self.deadline - time.time()

    def run_group_state(self, now: float) -> dict[str, Any]:
        """
        Return arguments for a :class:`~airflow_provider_streamsets.control_hub.tracking.run_group.RunGroup`.

        :param now: current time in epoch seconds
        """
        red_for = {job_id: max(now - since, 0.0) for job_id, since in self.red_since.items()}
        return {"active": self.active, "red_for": red_for, "reports": self.reports}

    def to_payload(self) -> dict[str, Any]:
        """Return the event as JSON values, without those that are not set."""
        payload: dict[str, Any] = {
            "runs": [run.to_json() for run in self.runs],
            "reason": self.reason.value,
            "until_failure": self.until_failure,
            "force_at": self.force_at,
            "timeout": self.timeout,
            "deadline": self.deadline,
            "metrics_timeout": self.metrics_timeout,
            "forced": list(self.forced),
            "stopped": dict(self.stopped),
            "stop_failed": self.stop_failed,
            "active": list(self.active),
            "red_since": dict(self.red_since),
            "reports": {job_id: report.to_dict() for job_id, report in self.reports.items()},
            "error": None if self.error is None else _error_payload(self.error),
        }
        return {name: value for name, value in payload.items() if value or name == "runs"}

    @classmethod
    def from_payload(cls, payload: object) -> RunsWaitEvent:
        """
        Parse the event that Airflow passes to the task.

        :raises ControlHubUnexpectedResponseError: if it is incomplete or malformed
        """
        try:
            if not isinstance(payload, Mapping):
                raise TypeError(f"it is of type {type(payload).__name__}")
            times = {name: payload.get(name) for name in ("timeout", "deadline", "force_at")}
            event = cls(
                tuple(map(RunRef.from_json, payload["runs"])),
                reason=RunsWaitReason(payload["reason"]),
                until_failure=bool(payload.get("until_failure")),
                **{name: None if value is None else float(value) for name, value in times.items()},
                metrics_timeout=float(payload.get("metrics_timeout") or 0.0),
                error=_error_from_payload(payload["error"]) if "error" in payload else None,
                forced=tuple(map(str, payload.get("forced") or ())),
                stopped={str(job_id): str(status) for job_id, status in dict(payload.get("stopped") or {}).items()},
                stop_failed=bool(payload.get("stop_failed")),
                active=tuple(map(str, payload.get("active") or ())),
                red_since={str(job_id): float(at) for job_id, at in dict(payload.get("red_since") or {}).items()},
                reports={
                    str(job_id): RunReport.from_dict(report)
                    for job_id, report in dict(payload.get("reports") or {}).items()
                },
            )
            if not event.runs and event.error is None:
                raise ValueError("it has no runs")
            for job_id, report in event.reports.items():
                if (report.job_id, event.run_counts.get(job_id)) != (job_id, report.awaited_run_count):
                    raise ValueError(f"its report for job {job_id} is of another run")
        except (KeyError, TypeError, ValueError) as error:
            raise errors.ControlHubUnexpectedResponseError(
                f"Cannot read the trigger's event, so the outcomes of the runs are unknown: {error}"
            ) from error
        return event

    def report_or_raise(self) -> RunReport:
        """
        Return the report of the only run, or raise the error of the wait.

        :raises ControlHubUnexpectedResponseError: if there is neither
        """
        self.raise_error()
        if self.report is None:
            raise errors.ControlHubUnexpectedResponseError(
                "Cannot read the trigger's event, so the outcome of the run is unknown: it has no report of one run"
            )
        return self.report

    def raise_error(self) -> None:
        """Raise the error of the wait, if it failed."""
        if self.error is not None:
            raise self.error


def _error_payload(error: errors.ControlHubError) -> dict[str, Any]:
    payload: dict[str, Any] = {"type": type(error).__name__, "message": str(error)[:4000]}
    if error.http_status is not None:
        payload["http_status"] = error.http_status
    if error.issues:
        payload["issues"] = [[issue.code, issue.message[:500]] for issue in error.issues[:_MAX_ISSUES]]
    if isinstance(error, errors.ControlHubUnavailableError):
        payload.update(retry_after=error.retry_after, maybe_executed=error.maybe_executed)
    return payload


def _error_from_payload(value: Any) -> errors.ControlHubError:
    """
    Rebuild an error from its payload. An unknown class name becomes :class:`ControlHubError`.

    Details may be missing, as in events of earlier versions.
    """
    kind = getattr(errors, str(value["type"]), None)
    if not (isinstance(kind, type) and issubclass(kind, errors.ControlHubError)):
        kind = errors.ControlHubError
    options: dict[str, Any] = {
        "http_status": None if value.get("http_status") is None else int(value["http_status"]),
        "issues": [
            errors.Issue(None if code is None else str(code), str(message))
            for code, message in (value.get("issues") or ())[:_MAX_ISSUES]
        ],
    }
    if issubclass(kind, errors.ControlHubUnavailableError):
        retry_after = value.get("retry_after")
        options["retry_after"] = None if retry_after is None else float(retry_after)
        options["maybe_executed"] = bool(value.get("maybe_executed"))
    return kind(str(value["message"]), **options)
