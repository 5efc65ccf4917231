"""Runs of jobs (contract, section 10)."""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pendulum

from airflow_provider_streamsets.control_hub._json import JsonReader
from airflow_provider_streamsets.control_hub._messages import join_truncated
from airflow_provider_streamsets.control_hub.choices import STATUSES
from airflow_provider_streamsets.control_hub.models.base import Model

ENDED_STATUSES = frozenset({"INACTIVE", "INACTIVE_ERROR", "ACTIVATION_ERROR"})
# Seconds within which a run starts that an upgrade puts in the place of another one: no person is as quick.
_HANDOVER = 10.0
# Seconds after which a run that is active should have had metrics saved at the default statistics interval.
_YOUNG = 120.0
KNOWN_STATUSES = frozenset(STATUSES)
# Statuses of pipelines that process records, or have done so.
_WORKING = frozenset({"RUNNING", "FINISHING", "FINISHED"})
FAILED_RESULTS = frozenset({"ERROR", "TIMEDOUT"})
"""Results of a command to an engine that say that it was not executed (contract, section 10.2)."""
# What messages show of the problems of a run.
_MOST_PROBLEMS = 5
_MOST_ENGINES = 3
_LONGEST_PROBLEM = 300


class Outcome(str, enum.Enum):
    """What a finished run came to."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    """Stopped before it was done: by a person or by another task."""


@dataclass(frozen=True)
class EnginePipeline(Model):
    """What one engine last reported about the pipeline of a run."""

    engine_id: str
    status: str
    message: str | None
    last_reported: pendulum.DateTime | None = None
    name: str = ""
    """Id of the pipeline on the engine."""

    @classmethod
    def from_wire(cls, value: object) -> EnginePipeline:
        """Read one entry of ``pipelineStatus``."""
        read = JsonReader(value, "pipeline status")
        return cls(
            engine_id=read.text("sdcId"),
            status=read.text("status", "UNKNOWN"),
            message=read.message("message"),
            last_reported=read.time("lastReportedTime"),
            name=read.text("name"),
        )


@dataclass(frozen=True)
class EngineCommand(Model):
    """A command that Control Hub sent to an engine, and how that went."""

    engine_id: str
    command: str
    result: str
    message: str | None

    @classmethod
    def from_wire(cls, value: object) -> EngineCommand:
        """Read one entry of ``ackTrackers``."""
        read = JsonReader(value, "engine command")
        return cls(
            engine_id=read.text("sdcId"),
            command=read.text("eventType"),
            result=read.text("ackStatus"),
            message=read.message("message"),
        )

    @property
    def has_failed(self) -> bool:
        """True when the engine refused the command or did not answer."""
        return self.result in FAILED_RESULTS


@dataclass(frozen=True)
class JobRun(Model):
    """One run of a job: a ``JobStatusJson`` (contract, section 10.2)."""

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
    """Id of the job's run before this one, where Control Hub tells it."""
    upgraded_run_id: str | None = None
    """Id of the run that an upgrade of the active job has replaced with this one."""

    @classmethod
    def from_wire(cls, value: object) -> JobRun:
        """Read a ``JobStatusJson``."""
        read = JsonReader(value, "job status")
        label = read.optional_text("pipelineCommitLabel")
        return cls(
            run_id=read.text("id"),
            job_id=read.text("jobId"),
            run_count=read.integer("runCount"),
            status=read.text("status"),
            color=read.text("color"),
            user=read.optional_text("user"),
            start_time=read.time("startTime"),
            finish_time=read.time("finishTime"),
            error_message=read.optional_text("errorMessage"),
            warnings=read.strings("warnings"),
            pipeline_version=label.removeprefix("v") if label else None,
            engine_ids=read.strings("sdcIds"),
            engine_pipelines=tuple(map(EnginePipeline.from_wire, read.array("pipelineStatus"))),
            engine_commands=tuple(map(EngineCommand.from_wire, read.array("ackTrackers"))),
            input_record_count=read.integer("inputRecordCount"),
            output_record_count=read.integer("outputRecordCount"),
            error_record_count=read.integer("errorRecordCount"),
            metrics_saved=read.time("lastReportedMetricTime"),
            pipeline_commit_id=read.optional_text("pipelineCommitId"),
            previous_run_id=read.optional_text("previousId"),
            upgraded_run_id=_upgraded_run_id(read.get("upgradeStatus"), read.text("id")),
        )

    def replaces(self, other: JobRun) -> bool:
        """
        Return whether an upgrade of the active job has replaced another run with this one (contract, 18.11 and 19.8).

        The status of the upgrade tells it. Where Control Hub names only the run before, that one must have run another
        version of the pipeline until this one was started; otherwise somebody has restarted the job.
        """
        if self.run_count <= other.run_count or not other.run_id:
            return False
        if self.upgraded_run_id == other.run_id:
            return True
        if self.previous_run_id != other.run_id or None in (self.pipeline_commit_id, other.pipeline_commit_id):
            return False
        goes_over = not other.has_ended or (
            self.start_time is not None
            and other.finish_time is not None
            and (self.start_time - other.finish_time).total_seconds() <= _HANDOVER
        )
        return goes_over and self.pipeline_commit_id != other.pipeline_commit_id

    @property
    def has_started(self) -> bool:
        """False for the status that an offset upload leaves on a job that never ran (contract, 10.5 and 18.18)."""
        return self.run_count > 0 and (self.start_time is not None or self.status != "INACTIVE")

    @property
    def has_ended(self) -> bool:
        """True when the run is over. An unknown status is not an end."""
        return self.status in ENDED_STATUSES

    @property
    def is_working(self) -> bool:
        """
        True when the run is ``ACTIVE`` and ``GREEN``, and every pipeline that engines report is running or finished.

        The SDK's ``start_job`` waits for running pipelines, too (contract, section 16). A status that lists none is
        believed, as Control Hub may leave them out.
        """
        is_active = self.status == "ACTIVE" and self.color == "GREEN"
        return is_active and all(pipeline.status in _WORKING for pipeline in self.engine_pipelines)

    @property
    def is_red(self) -> bool:
        """True when Control Hub shows a problem of a run that is not over."""
        return self.color == "RED" and not self.has_ended

    @property
    def problem(self) -> str:
        """
        What Control Hub and the engines say is wrong: each text once, with the engines that it is about.

        Where an engine refuses to start the pipeline, or no engine has the labels of the job, only the commands and
        pipelines of engines tell, or nothing does (contract, 19.13). Empty if nothing is said.
        """
        said: dict[str, dict[str, None]] = {}
        for text, engine_id in self._complaints():
            # One line of a log, whatever an engine has put into it.
            text = " ".join(text.split())
            text = text if len(text) <= _LONGEST_PROBLEM else f"{text[: _LONGEST_PROBLEM - 3]}..."
            if text:
                said.setdefault(text, {}).update({engine_id: None} if engine_id else {})
        if not said and self.is_red and not self.engine_ids:
            return "no engine has taken the job; is there one with all of its labels?"
        return join_truncated(
            [_with_engines(text, list(engines)) for text, engines in said.items()], "; ", _MOST_PROBLEMS
        )

    def _complaints(self) -> Iterator[tuple[str, str]]:
        """Yield what is said to be wrong, and the engine that it is about, if any."""
        yield from ((warning, "") for warning in self.warnings)
        for command in self.engine_commands:
            if command.has_failed:
                yield command.message or f"{command.command} {command.result}", command.engine_id
        for pipeline in self.engine_pipelines:
            if pipeline.message or pipeline.status.endswith("_ERROR"):
                yield pipeline.message or pipeline.status, pipeline.engine_id

    @property
    def has_counts(self) -> bool:
        """Whether Control Hub has saved record counts in the status."""
        counts = (self.input_record_count, self.output_record_count, self.error_record_count)
        return self.metrics_saved is not None or any(counts)

    def is_established(self, now: float) -> bool:
        """
        Return whether the run has been active for so long that it should have metrics.

        :param now: epoch seconds
        """
        started = self.start_time.timestamp() if self.start_time else None
        return self.status == "ACTIVE" and is_established(started, now)

    def lacks_counts(self, now: float) -> bool:
        """
        Return whether the status has no counts although the run should have some; other sources may have them.

        :param now: epoch seconds
        """
        return not self.has_counts and self.is_established(now)

    def was_active_at(self, time: pendulum.DateTime) -> bool:
        """Return whether the run had been started by a time, and had not ended yet."""
        if self.start_time is None or self.start_time > time:
            return False
        return not self.has_ended if self.finish_time is None else self.finish_time > time

    @property
    def is_success(self) -> bool:
        """True for an ended run that is ``INACTIVE`` and not ``RED``; it may still have been stopped."""
        return self.status == "INACTIVE" and self.color != "RED"

    @property
    def duration(self) -> float | None:
        """Seconds from start to finish; None while it runs."""
        if self.start_time is None or self.finish_time is None:
            return None
        return (self.finish_time - self.start_time).total_seconds()


def _with_engines(text: str, engine_ids: list[str]) -> str:
    if not engine_ids:
        return text
    return f"{text} (engine{'s' if len(engine_ids) > 1 else ''} {join_truncated(engine_ids, most=_MOST_ENGINES)})"


def is_established(started: float | None, now: float) -> bool:
    """Return whether a run that was started then, in epoch seconds, should have metrics by now."""
    return started is not None and now - started > _YOUNG


def _upgraded_run_id(value: object, run_id: str) -> str | None:
    """Return which run an upgrade has replaced with this one; later runs can show the same upgrade."""
    if not isinstance(value, dict):
        return None
    read = JsonReader(value, "upgrade status")
    return read.optional_text("previousJobStatusId") if read.text("currentJobStatusId", run_id) == run_id else None


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """
    What tells a run from that of the same number of a job that was deleted and imported again, which counts anew.

    :param run_id: id of the run; empty if it is not known
    :param started: when it was started, in epoch seconds of Control Hub's clock
    """

    run_id: str = ""
    started: float | None = None

    @classmethod
    def of(cls, run: JobRun | None) -> RunIdentity:
        """Return the identity of a run; that of None is not known."""
        if run is None:
            return cls()
        return cls(sys.intern(run.run_id), run.start_time.timestamp() if run.start_time else None)

    @classmethod
    def from_json(cls, value: object) -> RunIdentity:
        """Read what :meth:`to_json` has returned; whatever else it is, the identity is not known."""
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            return cls()
        run_id, started = value
        return cls(
            run_id if isinstance(run_id, str) else "",
            float(started) if isinstance(started, (int, float)) and not isinstance(started, bool) else None,
        )

    def to_json(self) -> list[str | float | None] | None:
        """Return the identity as a small JSON value, None if it is not known."""
        return [self.run_id, self.started] if self.run_id else None

    def contradicts(self, run: JobRun, run_count: int) -> bool:
        """
        Return whether a run of the job shows that the job has been imported again since this run.

        No late answer shows a run that was started after this one under the same number or a lower one. The id alone
        does not tell: whether it can change while a run goes on is not known (contract, 18.11).

        :param run: the job's latest run, or that of the same number from its history
        :param run_count: number of this run
        """
        if self.started is None or run.start_time is None or run.start_time.timestamp() <= self.started:
            return False
        return run.run_count < run_count or (run.run_count == run_count and run.run_id != self.run_id)


def run_or_none(value: object) -> JobRun | None:
    """
    Read a status that can say "never run".

    Empty body, null, an empty object and a status without a real run all mean that (contract, 18.5 and 18.18).
    """
    if value is None or value == {}:
        return None
    run = JobRun.from_wire(value)
    return run if run.has_started else None


@dataclass(frozen=True)
class RunEvent(Model):
    """One line of a run's own log in Control Hub: who or what changed its status, and when."""

    time: pendulum.DateTime | None
    status: str
    message: str
    user: str | None
    """None for events that Control Hub raised itself."""

    @classmethod
    def from_wire(cls, value: object) -> RunEvent:
        """Read a ``JobStatusHistoryJson``."""
        read = JsonReader(value, "run event")
        return cls(
            time=read.time("time"),
            status=read.text("status"),
            message=read.text("message"),
            user=read.optional_text("user"),
        )
