"""What a run trigger tells the task that it resumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_streamsets.control_hub import errors
from airflow_provider_streamsets.control_hub.reports import RunReport


@dataclass(frozen=True)
class RunWaitEvent:
    """
    The end of a wait for one run, small and complete: the resuming task needs nothing else.

    :param job_id: id of the job
    :param run_count: number of the run that was waited for
    :param report: the ended run, or None
    :param error: why the wait ended without one
    """

    job_id: str
    run_count: int
    report: RunReport | None = None
    error: errors.ControlHubError | None = None

    def to_payload(self) -> dict[str, Any]:
        """Return the event as JSON values."""
        payload: dict[str, Any] = {"job_id": self.job_id, "run_count": self.run_count}
        if self.report is not None:
            payload["report"] = self.report.to_dict()
        if self.error is not None:
            payload["error"] = {"type": type(self.error).__name__, "message": str(self.error)[:4000]}
        return payload

    @classmethod
    def from_payload(cls, payload: object) -> RunWaitEvent:
        """
        Read an event as it arrives at the task.

        :raises ControlHubUnexpectedAnswerError: if it is not a complete one; never taken for a success
        """
        try:
            if not isinstance(payload, Mapping):
                raise ValueError(f"it is {type(payload).__name__}")
            report = RunReport.from_dict(payload["report"]) if "report" in payload else None
            error = _error(payload["error"]) if "error" in payload else None
            event = cls(str(payload["job_id"]), int(payload["run_count"]), report, error)
            if (report is None) == (error is None):
                raise ValueError("it must hold either a report or an error")
            if report is not None and (report.job_id, report.run.run_count) != (event.job_id, event.run_count):
                raise ValueError("its report is that of another run")
        except (KeyError, TypeError, ValueError) as error:
            raise errors.ControlHubUnexpectedAnswerError(
                f"The event of the trigger cannot be used, so the outcome of the run is not known: {error}"
            ) from error
        return event

    def report_or_raise(self) -> RunReport:
        """Return the report, or raise why there is none."""
        if self.error is not None:
            raise self.error
        assert self.report is not None  # noqa: S101 - from_payload has made sure
        return self.report


def _error(value: Any) -> errors.ControlHubError:
    """Rebuild an error from its class name; a name that is not of the family becomes the plain one."""
    kind = getattr(errors, str(value["type"]), None)
    if not (isinstance(kind, type) and issubclass(kind, errors.ControlHubError)):
        kind = errors.ControlHubError
    return kind(str(value["message"]))
