"""Snapshots of job statuses, parsed only as far as change detection for thousands of runs needs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any

import msgspec

from airflow_provider_streamsets.control_hub._json import parse_json
from airflow_provider_streamsets.control_hub.errors import ControlHubUnexpectedResponseError
from airflow_provider_streamsets.control_hub.models.runs import (
    ENDED_STATUSES,
    FAILED_RESULTS,
    JobRun,
    is_established,
    run_or_none,
)

# In milliseconds, the year 5138. Larger values take the slower, validating path.
_Plain = Annotated[int, msgspec.Meta(gt=0, lt=10**14)]


# Neither they nor their values refer to each other, so the garbage collector need not follow thousands of them.
class _EngineReport(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """An entry of ``pipelineStatus`` without the time of the report, which changes at each poll."""

    sdc_id: str | None = None
    status: str | None = None
    message: str | None = None


class _EngineCommand(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """An entry of ``ackTrackers``."""

    sdc_id: str | None = None
    event_type: str | None = None
    message: str | None = None
    ack_status: str | None = None


class _Status(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The change indicators of a ``JobStatusJson``."""

    run_count: _Plain
    start_time: _Plain
    id: str | None = None
    status: str | None = None
    color: str | None = None
    finish_time: int | None = None
    error_message: str | None = None
    warnings: msgspec.Raw = msgspec.Raw()
    pipeline_status: tuple[_EngineReport, ...] | None = None
    ack_trackers: tuple[_EngineCommand, ...] | None = None
    input_record_count: int | None = None
    output_record_count: int | None = None
    error_record_count: int | None = None
    last_reported_metric_time: int | None = None

    @property
    def counts(self) -> tuple[int | None, ...]:
        """What changes when Control Hub has saved new metrics."""
        return (
            self.input_record_count,
            self.output_record_count,
            self.error_record_count,
            self.last_reported_metric_time,
        )

    @property
    def change_key(self) -> int:
        """See :attr:`StatusSnapshot.change_key`."""
        return hash(
            (
                self.id,
                self.run_count,
                self.status,
                self.color,
                self.finish_time,
                self.error_message,
                bytes(self.warnings),
                self.pipeline_status,
                # Commands that engines have executed do not matter.
                *(command for command in self.ack_trackers or () if command.ack_status in FAILED_RESULTS),
            )
        )


_STATUSES = msgspec.json.Decoder(dict[str, msgspec.Raw])
_STATUS = msgspec.json.Decoder(_Status)
# What msgspec raises for a value that `parse_json` may accept.
_UNEXPECTED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def split_statuses(body: bytes | bytearray) -> Any:
    """
    Split a response with statuses by job id into the JSON of each status, without parsing these.

    :returns: for a response that is no object, its value
    :raises ValueError: if it is not JSON
    :raises RecursionError: if it is nested too deeply
    """
    try:
        return _STATUSES.decode(body)
    except _UNEXPECTED:
        value = parse_json(body)
    return {job_id: json.dumps(status).encode() for job_id, status in value.items()} if type(value) is dict else value


class StatusSnapshot:
    """
    A ``JobStatusJson`` (contract section 10.2) of which only the change indicators are parsed.

    Two snapshots of a job with the same :attr:`change_key` show the same run in the same state. Create one with
    :meth:`parse`.
    """

    __slots__ = ("_counts", "_status", "_text", "change_key", "has_ended", "run_count", "started")

    def __init__(
        self,
        text: bytes | msgspec.Raw,
        run_count: int,
        status: str | None,
        started: float | None,
        change_key: int,
        counts: tuple[Any, ...],
    ) -> None:
        self._text = text
        self._status = status
        self._counts = counts
        self.run_count = run_count
        self.started = started
        """Start time in epoch seconds; None if the response has none."""
        self.has_ended = status in ENDED_STATUSES
        self.change_key = change_key

    @classmethod
    def parse(cls, text: bytes | msgspec.Raw) -> StatusSnapshot | None:
        """
        Create a snapshot of a status; None if the job has never run.

        The rules are those of :func:`~airflow_provider_streamsets.control_hub.models.run_or_none`.

        :param text: the status as JSON
        :raises ControlHubUnexpectedResponseError: if it is not a status
        """
        try:
            status = _STATUS.decode(text)
        except _UNEXPECTED:
            run = run_or_none(_value(text))
            return None if run is None else cls._of_run(text, run)
        started = status.start_time / 1000
        return cls(text, status.run_count, status.status, started, status.change_key, status.counts)

    @classmethod
    def _of_run(cls, text: bytes | msgspec.Raw, run: JobRun) -> StatusSnapshot:
        counts = (*run.counts, run.metrics_saved)
        # Without what does not count as a change.
        state = replace(
            run,
            engine_pipelines=tuple(replace(pipeline, last_reported=None) for pipeline in run.engine_pipelines),
            engine_commands=tuple(command for command in run.engine_commands if command.has_failed),
            input_record_count=0,
            output_record_count=0,
            error_record_count=0,
            metrics_saved=None,
        )
        started = run.start_time.timestamp() if run.start_time else None
        return cls(text, run.run_count, run.status, started, hash(state), counts)

    @property
    def counts_change_key(self) -> int:
        """A key that also changes when Control Hub has saved new metrics."""
        return hash((self.change_key, self._counts))

    def lacks_counts(self, now: float) -> bool:
        """
        Return the value of :meth:`JobRun.lacks_counts` for the run.

        :param now: epoch seconds
        """
        return self._status == "ACTIVE" and is_established(self.started, now) and not any(self._counts)

    def to_run(self) -> JobRun:
        """
        Return the run.

        :raises ControlHubUnexpectedResponseError: if the response does not follow the API
        """
        return JobRun.from_wire(_value(self._text))


def _value(text: bytes | msgspec.Raw) -> Any:
    try:
        return parse_json(bytes(text))
    except (ValueError, RecursionError) as error:
        raise ControlHubUnexpectedResponseError(
            f"Unexpected response from Control Hub: job status must be JSON ({type(error).__name__})."
        ) from error
