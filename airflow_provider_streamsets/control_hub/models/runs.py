"""Runs of jobs (contract section 10)."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pendulum

from airflow_provider_streamsets.control_hub._json import JsonReader
from airflow_provider_streamsets.control_hub._messages import join_truncated
from airflow_provider_streamsets.control_hub.choices import STATUSES
from airflow_provider_streamsets.control_hub.models.base import Model

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.models.jobs import Job

ENDED_STATUSES = frozenset({"INACTIVE", "INACTIVE_ERROR", "ACTIVATION_ERROR"})
# Maximum gap between the end of a run and its replacement by an upgrade; a manual restart takes longer.
_MAX_HANDOVER_SECONDS = 10.0
# Age after which an active run should have saved metrics, at the default statistics interval.
_METRICS_GRACE_SECONDS = 120.0
_START_ERROR = re.compile(r"\b(START(ING)?|ACTIVATION)_ERROR\b")
KNOWN_STATUSES = frozenset(STATUSES)
# Statuses of pipelines that process records, or did so.
_WORKING_PIPELINE_STATUSES = frozenset({"RUNNING", "FINISHING", "FINISHED"})
FAILED_RESULTS = frozenset({"ERROR", "TIMEDOUT"})
"""Results of engine commands that were not executed (contract section 10.2)."""
# Limits of the problem description in messages.
_MAX_PROBLEMS = 5
_MAX_ENGINES = 3
_MAX_PROBLEM_LENGTH = 300


class Outcome(str, enum.Enum):
    """Outcome of an ended run."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    """Stopped by a user or another task before it finished."""


@dataclass(frozen=True)
class EnginePipeline(Model):
    """Last reported state of the pipeline of a run on one engine."""

    engine_id: str
    status: str
    message: str | None
    last_reported: pendulum.DateTime | None = None
    name: str = ""
    """Id of the pipeline on the engine."""

    @classmethod
    def from_wire(cls, value: object) -> EnginePipeline:
        """Parse an entry of ``pipelineStatus``."""
        read = JsonReader(value, "pipeline status")
        return cls(
            engine_id=read.string("sdcId"),
            status=read.string("status", "UNKNOWN"),
            message=read.string_or_none("message"),
            last_reported=read.timestamp("lastReportedTime"),
            name=read.string("name"),
        )


@dataclass(frozen=True)
class EngineCommand(Model):
    """A command that Control Hub sent to an engine, and its result."""

    engine_id: str
    command: str
    result: str
    message: str | None

    @classmethod
    def from_wire(cls, value: object) -> EngineCommand:
        """Parse an entry of ``ackTrackers``."""
        read = JsonReader(value, "engine command")
        return cls(
            engine_id=read.string("sdcId"),
            command=read.string("eventType"),
            result=read.string("ackStatus"),
            message=read.string_or_none("message"),
        )

    @property
    def has_failed(self) -> bool:
        """True if the engine rejected the command or did not respond."""
        return self.result in FAILED_RESULTS


@dataclass(frozen=True)
class JobRun(Model):
    """A run of a job: a ``JobStatusJson`` (contract section 10.2)."""

    run_id: str
    job_id: str
    run_count: int
    status: str
    color: str
    user: str | None = None
    start_time: pendulum.DateTime | None = None
    finish_time: pendulum.DateTime | None = None
    error_message: str | None = None
    warnings: tuple[str, ...] = ()
    pipeline_version: str | None = None
    engine_ids: tuple[str, ...] = ()
    engine_pipelines: tuple[EnginePipeline, ...] = ()
    engine_commands: tuple[EngineCommand, ...] = ()
    input_record_count: int = 0
    output_record_count: int = 0
    error_record_count: int = 0
    metrics_saved: pendulum.DateTime | None = None
    pipeline_commit_id: str | None = None
    previous_run_id: str | None = None
    """Id of the previous run of the job, if Control Hub reports it."""
    upgraded_run_id: str | None = None
    """Id of the run that an upgrade of the active job replaced with this one."""

    @classmethod
    def from_wire(cls, value: object) -> JobRun:
        """Parse a ``JobStatusJson``."""
        read = JsonReader(value, "job status")
        label = read.optional_string("pipelineCommitLabel")
        return cls(
            run_id=read.string("id"),
            job_id=read.string("jobId"),
            run_count=read.integer("runCount"),
            status=read.string("status"),
            color=read.string("color"),
            user=read.optional_string("user"),
            start_time=read.timestamp("startTime"),
            finish_time=read.timestamp("finishTime"),
            error_message=read.optional_string("errorMessage"),
            warnings=read.strings("warnings"),
            pipeline_version=label.removeprefix("v") if label else None,
            engine_ids=read.strings("sdcIds"),
            engine_pipelines=tuple(map(EnginePipeline.from_wire, read.array("pipelineStatus"))),
            engine_commands=tuple(map(EngineCommand.from_wire, read.array("ackTrackers"))),
            input_record_count=read.integer("inputRecordCount"),
            output_record_count=read.integer("outputRecordCount"),
            error_record_count=read.integer("errorRecordCount"),
            metrics_saved=read.timestamp("lastReportedMetricTime"),
            pipeline_commit_id=read.optional_string("pipelineCommitId"),
            previous_run_id=read.optional_string("previousId"),
            upgraded_run_id=_upgraded_run_id(read.get("upgradeStatus"), read.string("id")),
        )

    def replaces(self, other: JobRun) -> bool:
        """
        Return whether an upgrade of the active job replaced another run with this one.

        The upgrade status decides (contract sections 10.5 and 18.11). If Control Hub reports only the previous run,
        that run must have used another pipeline version until this one started; otherwise the job was restarted.
        """
        if self.run_count <= other.run_count or not other.run_id:
            return False
        if self.upgraded_run_id == other.run_id:
            return True
        if self.previous_run_id != other.run_id or None in (self.pipeline_commit_id, other.pipeline_commit_id):
            return False
        is_handover = not other.has_ended or (
            self.start_time is not None
            and other.finish_time is not None
            and (self.start_time - other.finish_time).total_seconds() <= _MAX_HANDOVER_SECONDS
        )
        return is_handover and self.pipeline_commit_id != other.pipeline_commit_id

    @property
    def has_started(self) -> bool:
        """False for the status that an offset upload gives a job that never ran (contract sections 10.5 and 18.18)."""
        return self.run_count > 0 and (self.start_time is not None or self.status != "INACTIVE")

    @property
    def has_ended(self) -> bool:
        """True if the run has ended. An unknown status does not count as ended."""
        return self.status in ENDED_STATUSES

    @property
    def is_working(self) -> bool:
        """
        True if the run is ``ACTIVE`` and ``GREEN``, and every reported pipeline is running or finished.

        The SDK's ``start_job`` also waits for running pipelines (contract section 16). Control Hub can omit the
        pipelines, so a status without any is accepted.
        """
        is_active = self.status == "ACTIVE" and self.color == "GREEN"
        return is_active and all(pipeline.status in _WORKING_PIPELINE_STATUSES for pipeline in self.engine_pipelines)

    @property
    def is_red(self) -> bool:
        """True if Control Hub reports a problem of a run that has not ended."""
        return self.color == "RED" and not self.has_ended

    @property
    def problem(self) -> str:
        """
        Problems reported by Control Hub and the engines, without duplicates; empty if there are none.

        If an engine rejects the start of the pipeline, or no engine has the labels of the job, only the commands and
        pipelines of the engines say so, or nothing does (contract section 10.2).
        """
        problems: dict[str, dict[str, None]] = {}
        for text, engine_id in self._problem_texts():
            # Collapse line breaks, so that the problem fits on one log line.
            text = " ".join(text.split())
            text = text if len(text) <= _MAX_PROBLEM_LENGTH else f"{text[: _MAX_PROBLEM_LENGTH - 3]}..."
            if text:
                problems.setdefault(text, {}).update({engine_id: None} if engine_id else {})
        # Control Hub's message about an engine contains that of the engine.
        problems = {
            text: engine_ids
            for text, engine_ids in problems.items()
            if not any(text in other for other in problems.keys() - {text})
        }
        if not problems and self.is_red and not self.engine_ids:
            return "no engine runs the job; check that an engine with all of its labels is available"
        return join_truncated(
            [_with_engines(text, list(engines)) for text, engines in problems.items()], "; ", _MAX_PROBLEMS
        )

    def _problem_texts(self) -> Iterator[tuple[str, str]]:
        """Yield each problem with the id of its engine, or an empty string."""
        yield from ((warning, "") for warning in self.warnings)
        for command in self.engine_commands:
            if command.has_failed:
                yield command.message or f"{command.command} {command.result}", command.engine_id
        for pipeline in self.engine_pipelines:
            if pipeline.message or pipeline.status.endswith("_ERROR"):
                yield pipeline.message or pipeline.status, pipeline.engine_id

    @property
    def counts(self) -> tuple[int, int, int]:
        """Numbers of input, output and error records."""
        return self.input_record_count, self.output_record_count, self.error_record_count

    @property
    def has_failed_at_start(self) -> bool:
        """
        Whether the pipeline failed before it read records, so that no metrics will be saved.

        The error message contains the pipeline's status (contract section 10.2).
        """
        texts = [self.status, self.error_message or "", *(pipeline.status for pipeline in self.engine_pipelines)]
        return self.has_ended and not any(self.counts) and any(map(_START_ERROR.search, texts))

    @property
    def has_counts(self) -> bool:
        """Whether the status contains record counts."""
        return self.metrics_saved is not None or any(self.counts)

    def is_established(self, now: float) -> bool:
        """
        Return whether the run has been active long enough to have metrics.

        :param now: epoch seconds
        """
        started = self.start_time.timestamp() if self.start_time else None
        return self.status == "ACTIVE" and is_established(started, now)

    def lacks_counts(self, now: float) -> bool:
        """
        Return whether the status has no counts although the run should have some (contract section 18.35).

        Other sources may have them.

        :param now: epoch seconds
        """
        return not self.has_counts and self.is_established(now)

    def was_active_at(self, time: pendulum.DateTime) -> bool:
        """Return whether the run had started and not ended at a time."""
        if self.start_time is None or self.start_time > time:
            return False
        return not self.has_ended if self.finish_time is None else self.finish_time > time

    @property
    def is_success(self) -> bool:
        """True for an ended run that is ``INACTIVE`` and not ``RED``; it may have been stopped."""
        return self.status == "INACTIVE" and self.color != "RED"

    @property
    def duration(self) -> float | None:
        """Seconds from start to finish; None if it has not finished."""
        if self.start_time is None or self.finish_time is None:
            return None
        return (self.finish_time - self.start_time).total_seconds()


def _with_engines(text: str, engine_ids: list[str]) -> str:
    if not engine_ids:
        return text
    return f"{text} (engine{'s' if len(engine_ids) > 1 else ''} {join_truncated(engine_ids, max_items=_MAX_ENGINES)})"


def is_established(started: float | None, now: float) -> bool:
    """Return whether a run with this start time, in epoch seconds, should have metrics."""
    return started is not None and now - started > _METRICS_GRACE_SECONDS


def _upgraded_run_id(value: object, run_id: str) -> str | None:
    """Return the id of the run that an upgrade replaced with this one; later runs can report the same upgrade."""
    if not isinstance(value, dict):
        return None
    read = JsonReader(value, "upgrade status")
    return read.optional_string("previousJobStatusId") if read.string("currentJobStatusId", run_id) == run_id else None


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """
    Distinguishes runs with the same number when a deleted job is imported again and its run count restarts.

    :param run_id: id of the run; empty if unknown
    :param started: start time in epoch seconds of Control Hub's clock; None if unknown
    """

    run_id: str = ""
    started: float | None = None

    @classmethod
    def from_run(cls, run: JobRun | None) -> RunIdentity:
        """Return the identity of a run; unknown for None."""
        if run is None:
            return cls()
        return cls(run.run_id, run.start_time.timestamp() if run.start_time else None)

    @classmethod
    def from_json(cls, value: object) -> RunIdentity:
        """Parse the result of :meth:`to_json`; any other value is an unknown identity."""
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            return cls()
        run_id, started = value
        return cls(
            run_id if isinstance(run_id, str) else "",
            float(started) if isinstance(started, (int, float)) and not isinstance(started, bool) else None,
        )

    def to_json(self) -> list[str | float | None] | None:
        """Return the identity as a small JSON value; None if unknown."""
        return [self.run_id, self.started] if self.run_id else None

    def contradicts(self, run: JobRun, run_count: int) -> bool:
        """
        Return whether a run of the job proves that the job was imported again after this run.

        A stale response never contains a run with a later start and the same or a lower number. Comparing ids is not
        sufficient: they might change during a run (contract section 18.11).

        :param run: latest run of the job, or the run with the same number from its history
        :param run_count: number of this run
        """
        if self.started is None or run.start_time is None or run.start_time.timestamp() <= self.started:
            return False
        return run.run_count < run_count or (run.run_count == run_count and run.run_id != self.run_id)


@dataclass(frozen=True)
class RunRef:
    """
    One run of one job.

    :param job_id: id of the job
    :param run_count: number of the run
    :param job_name: name of the job, for messages
    :param identity: identity of the run, as far as known
    """

    job_id: str
    run_count: int
    job_name: str = ""
    identity: RunIdentity = field(default_factory=RunIdentity)

    @classmethod
    def of_job(cls, job: Job, run: JobRun) -> RunRef:
        """Return the reference to a run of a job."""
        return cls(job.job_id, run.run_count, job.name, RunIdentity.from_run(run))

    @classmethod
    def from_json(cls, value: Any) -> RunRef:
        """
        Parse the result of :meth:`to_json`.

        :raises TypeError: if it is no list, or lacks the run count
        :raises ValueError: if the run count is no number
        """
        entries: list[Any] = [*value, None, None, None]
        job_id, run_count, run_id, started, job_name = entries[:5]
        return cls(str(job_id), int(run_count), str(job_name or ""), RunIdentity.from_json([run_id, started]))

    def to_json(self) -> list[str | float | None]:
        """Return the reference as a small JSON value: a list, without unknown values at its end."""
        identity = self.identity.to_json()
        if self.job_name:
            return [self.job_id, self.run_count, *(identity or (None, None)), self.job_name]
        return [self.job_id, self.run_count, *(identity or ())]


def status_run_count(value: object) -> int:
    """Return the run count in a ``JobStatusJson``."""
    return JsonReader(value, "job status").integer("runCount")


def run_or_none(value: object) -> JobRun | None:
    """
    Parse a status; None if the job has never run.

    An empty body, null, an empty object and a status without a run all mean this (contract sections 18.5 and 18.18).
    """
    if value is None or value == {}:
        return None
    run = JobRun.from_wire(value)
    return run if run.has_started else None


@dataclass(frozen=True)
class RunEvent(Model):
    """An entry of the history of a run in Control Hub: a status change, its time and user."""

    time: pendulum.DateTime | None
    status: str
    message: str
    user: str | None
    """None for events raised by Control Hub."""

    @classmethod
    def from_wire(cls, value: object) -> RunEvent:
        """Parse a ``JobStatusHistoryJson``."""
        read = JsonReader(value, "run event")
        return cls(
            time=read.timestamp("time"),
            status=read.string("status"),
            message=read.string("message"),
            user=read.optional_string("user"),
        )
