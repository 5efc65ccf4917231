"""Snapshots of job statuses, parsed only as far as change detection for thousands of runs needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_streamsets.control_hub.models.runs import (
    ENDED_STATUSES,
    FAILED_RESULTS,
    JobRun,
    is_established,
    run_or_none,
)

# In milliseconds, the year 5138. Larger values take the slower, validating path.
_MAX_PLAIN = 10**14
_COUNTS = ("inputRecordCount", "outputRecordCount", "errorRecordCount", "lastReportedMetricTime")


class StatusSnapshot:
    """
    A ``JobStatusJson`` (contract section 10.2) of which only the change indicators are parsed.

    Two snapshots of a job with the same :attr:`change_key` show the same run in the same state. Create one with
    :meth:`from_wire`.
    """

    __slots__ = ("_raw", "change_key", "has_ended", "run_count", "started")

    def __init__(self, raw: Mapping[str, Any], run_count: int, started: float | None) -> None:
        self._raw = raw
        self.run_count = run_count
        self.started = started
        """Start time in epoch seconds; None if the response has none."""
        status = raw.get("status")
        self.has_ended = isinstance(status, str) and status in ENDED_STATUSES
        self.change_key = _change_key(raw)

    @classmethod
    def from_wire(cls, value: object) -> StatusSnapshot | None:
        """
        Create a snapshot of a status; None if the job has never run.

        The rules are those of :func:`~airflow_provider_streamsets.control_hub.models.run_or_none`.

        :raises ControlHubUnexpectedResponseError: if the value is not a status
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
        """A key that also changes when Control Hub has saved new metrics."""
        return _hash(self.change_key, *map(self._raw.get, _COUNTS))

    def lacks_counts(self, now: float) -> bool:
        """
        Return the value of :meth:`JobRun.lacks_counts` for the run.

        :param now: epoch seconds
        """
        raw = self._raw
        return raw.get("status") == "ACTIVE" and is_established(self.started, now) and not any(map(raw.get, _COUNTS))

    def to_run(self) -> JobRun:
        """
        Return the run.

        :raises ControlHubUnexpectedResponseError: if the response does not follow the API
        """
        return JobRun.from_wire(self._raw)


def _change_key(raw: Mapping[str, Any]) -> int:
    pipelines = raw.get("pipelineStatus")
    # Excludes the engines' report times, which change at each poll.
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
    """Return the distinguishing fields of commands that engines have not executed; other commands do not matter."""
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
        # An object or array where the API has scalars.
        pass
    try:
        return hash(repr(values))
    except RecursionError:
        return 0
