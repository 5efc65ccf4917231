"""The latest runs of jobs, read no further than someone who waits for thousands of them can afford."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_streamsets.control_hub.models import ENDED_STATUSES, JobRun, run_or_none
from airflow_provider_streamsets.control_hub.models.runs import FAILED_RESULTS, is_established

# In milliseconds, the year 5138; whatever is not below it is read with more care.
_MAX_PLAIN = 10**14
_COUNTS = ("inputRecordCount", "outputRecordCount", "errorRecordCount", "lastReportedMetricTime")


class StatusSnapshot:
    """
    A ``JobStatusJson`` (contract, section 10.2) of which only what tells whether something has changed is looked at.

    Two glances at a job that have the same :attr:`change_key` show the same run in the same state. Made by :meth:`of`.
    """

    __slots__ = ("_raw", "change_key", "has_ended", "run_count", "started")

    def __init__(self, raw: Mapping[str, Any], run_count: int, started: float | None) -> None:
        self._raw = raw
        self.run_count = run_count
        self.started = started
        """When the run was started, in epoch seconds; None if the answer does not say."""
        status = raw.get("status")
        self.has_ended = isinstance(status, str) and status in ENDED_STATUSES
        self.change_key = _change_key(raw)

    @classmethod
    def from_wire(cls, value: object) -> StatusSnapshot | None:
        """
        Look at an answer; "never run" is None.

        What says so is what :func:`~airflow_provider_streamsets.control_hub.models.run_or_none` takes for it.

        :raises ControlHubUnexpectedAnswerError: if it is no status
        """
        if isinstance(value, dict):
            run_count, started = value.get("runCount"), value.get("startTime")
            if (
                type(run_count) is int
                and type(started) is int
                and 0 < run_count < _MAX_PLAIN
                and 0 < started < _MAX_PLAIN
            ):
                return cls(value, run_count, started / 1000)
        run = run_or_none(value)
        if run is None or not isinstance(value, dict):
            return None
        return cls(value, run.run_count, run.start_time.timestamp() if run.start_time else None)

    @property
    def counts_change_key(self) -> int:
        """A digest that also changes when Control Hub has saved new metrics."""
        return _hash(self.change_key, *map(self._raw.get, _COUNTS))

    def lacks_counts(self, now: float) -> bool:
        """
        Return what :meth:`JobRun.lacks_counts` returns for the run.

        :param now: epoch seconds
        """
        raw = self._raw
        return raw.get("status") == "ACTIVE" and is_established(self.started, now) and not any(map(raw.get, _COUNTS))

    def read(self) -> JobRun:
        """
        Return the run.

        :raises ControlHubUnexpectedAnswerError: if the answer is not what the API describes
        """
        return JobRun.from_wire(self._raw)


def _change_key(raw: Mapping[str, Any]) -> int:
    pipelines = raw.get("pipelineStatus")
    # When an engine has last reported changes at each look, and says nothing.
    pipelines_key = (
        [
            (entry.get("sdcId"), entry.get("status"), entry.get("message")) if isinstance(entry, dict) else entry
            for entry in pipelines
        ]
        if isinstance(pipelines, list)
        else pipelines
    )
    return _hash(
        raw.get("id"),
        raw.get("runCount"),
        raw.get("status"),
        raw.get("color"),
        raw.get("finishTime"),
        raw.get("errorMessage"),
        *_items(raw.get("warnings")),
        *_items(pipelines_key),
        *_failed_commands(raw.get("ackTrackers")),
    )


def _failed_commands(trackers: Any) -> list[Any]:
    """Return what tells commands apart that engines have not executed; others say nothing about the run."""
    return [
        (entry.get("sdcId"), entry.get("eventType"), entry.get("message"))
        for entry in (trackers if isinstance(trackers, list) else ())
        if isinstance(entry, dict) and isinstance(result := entry.get("ackStatus"), str) and result in FAILED_RESULTS
    ]


def _items(value: Any) -> Any:
    return value if isinstance(value, list) else () if value is None else (value,)


def _hash(*values: Any) -> int:
    try:
        return hash(values)
    except TypeError:
        # Something that is no plain value, where the API has plain values.
        pass
    try:
        return hash(repr(values))
    except RecursionError:
        return 0
