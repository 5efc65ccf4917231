"""Reports of ended runs: outcome, evidence and metrics."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import pendulum

from airflow_provider_streamsets.control_hub.errors import ControlHubError, ControlHubRunFailedError
from airflow_provider_streamsets.control_hub.models import (
    EngineCommand,
    EnginePipeline,
    JobRun,
    Outcome,
    RunEvent,
    RunMetrics,
)
from airflow_provider_streamsets.control_hub.tracking.outcome import decide_outcome

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient

log = logging.getLogger(__name__)

# Seconds for requests that only make a log message more readable.
_NAMES_TIMEOUT = 5.0
# Reports are part of trigger events, which Airflow stores in its database, so they are small.
_MAX_EVENTS = 20
_MAX_ENTRIES = 20
_MAX_ERROR_LENGTH = 4000
_MAX_TEXT_LENGTH = 500
_MAX_TRUNCATED_LENGTH = 300
# Engine codes, such as JDBC_34 and CONTAINER_0166. Codes of Control Hub itself do not concern the pipeline.
_ENGINE_CODE = re.compile(r"\b(?!JOBRUNNER_)[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*_\d{2,5}\b")
# The text of an engine's error, which follows what Control Hub says about the engine.
_ENGINE_ERROR = re.compile(_ENGINE_CODE.pattern + r" - .*")
# Control Hub's codes for engines that do not respond, and for a failover that was impossible (contract section 15).
_ENGINE_LOST = re.compile(r"\bJOBRUNNER_(24|62)\b")
# Stage instances are named after their type, such as JDBCQueryConsumer_01.
_STAGE = re.compile(r"\b(?=[A-Za-z0-9]*[a-z])[A-Z][A-Za-z0-9]*_\d{2,}\b")


def saved_after_end(saved: pendulum.DateTime | None, run: JobRun, events: Iterable[RunEvent]) -> bool:
    """
    Return whether record counts were saved after the pipelines finished.

    The pipelines finish when the run leaves its active states for the last time, which the first event with another
    status after that shows: a run can recover from an ``ACTIVATION_ERROR``. That counts saved after that are the final
    ones is an assumption (contract section 18.41).

    :param saved: time of the save
    :param run: the run, ended
    :param events: its events
    """
    times = [(event.time, event.status in {"ACTIVATING", "ACTIVE"}) for event in events if event.time]
    last_active = max((time for time, is_active in times if is_active), default=None)
    ends = [time for time, is_active in times if not is_active and (last_active is None or time >= last_active)]
    finished = min(ends, default=run.finish_time)
    return saved is not None and finished is not None and saved >= finished


def _truncate(text: str | None, length: int) -> str | None:
    return text if text is None or len(text) <= length else text[: length - 3] + "..."


def _truncated_run(run: JobRun) -> JobRun:
    """Return a run truncated to a size suitable for a database row."""
    return replace(
        run,
        error_message=_truncate(run.error_message, _MAX_ERROR_LENGTH),
        warnings=tuple(_truncate(text, _MAX_TEXT_LENGTH) or "" for text in run.warnings[:_MAX_ENTRIES]),
        engine_ids=run.engine_ids[:_MAX_ENTRIES],
        engine_pipelines=tuple(
            replace(pipeline, message=_truncate(pipeline.message, _MAX_TEXT_LENGTH))
            for pipeline in run.engine_pipelines[:_MAX_ENTRIES]
        ),
        engine_commands=tuple(
            replace(command, message=_truncate(command.message, _MAX_TEXT_LENGTH))
            for command in [c for c in run.engine_commands if c.has_failed][:_MAX_ENTRIES]
        ),
    )


def _truncated_events(events: tuple[RunEvent, ...]) -> tuple[RunEvent, ...]:
    return tuple(
        replace(event, message=_truncate(event.message, _MAX_TEXT_LENGTH) or "") for event in events[-_MAX_EVENTS:]
    )


@dataclass(frozen=True)
class RunReport:
    """
    A completed run with its outcome, last events, engines and metrics.

    :param job_id: id of the job
    :param job_name: name of the job, empty if unknown
    :param run: the run
    :param outcome: outcome of the run; None if the wait was for an active run only
    :param events: its last events, oldest first
    :param metrics: its record counts; None if Control Hub has saved none
    :param metrics_final: whether the record counts were saved after the pipeline's end
    :param stopped_by: id of the user who requested a stop, if the events name one
    :param stopped_by_task: whether the task that owns this report stopped the run
    :param conflict: contradicting evidence of the outcome, if any
    :param replaced: number of the originally tracked run, if an upgrade of the job replaced it with this one
    :param red_for: seconds that the run had been RED when it was abandoned, which counts as a failure although it has
        not ended; None for other runs
    """

    job_id: str
    job_name: str
    run: JobRun
    outcome: Outcome | None
    events: tuple[RunEvent, ...] = ()
    metrics: RunMetrics | None = None
    metrics_final: bool = False
    stopped_by: str | None = None
    stopped_by_task: bool = False
    conflict: str = ""
    replaced: int | None = None
    red_for: float | None = None

    @classmethod
    def build(cls, *, job_id: str, job_name: str, run: JobRun, events: Iterable[RunEvent]) -> RunReport:
        """
        Create the report of an ended run, truncated to a size suitable for a database row.

        :param run: the run, ended, with the last known engine pipelines
        :param events: all its events
        """
        events = tuple(events)
        decision = decide_outcome(run, events)
        return cls(
            job_id=job_id,
            job_name=job_name,
            run=_truncated_run(run),
            outcome=decision.outcome,
            events=_truncated_events(events),
            stopped_by=decision.stopped_by,
            conflict=decision.conflict,
        )

    @classmethod
    def from_active_run(cls, *, job_id: str, job_name: str, run: JobRun) -> RunReport:
        """Create the report of a run that only had to become active, and is."""
        return cls(job_id, job_name, _truncated_run(run), None)

    @classmethod
    def from_red_run(cls, *, job_id: str, job_name: str, run: JobRun, red_for: float) -> RunReport:
        """
        Create the report of a run that is abandoned because it has been RED for too long.

        :param red_for: seconds that it has been RED
        """
        return cls(job_id, job_name, _truncated_run(run), Outcome.FAILED, red_for=red_for)

    @property
    def awaited_run_count(self) -> int:
        """Number of the run that was waited for, which an upgrade of the job may have replaced."""
        return self.replaced or self.run.run_count

    def truncated(self) -> RunReport:
        """Return the report with the first text of each kind and without events, for rows with several reports."""
        run = self.run
        first_texts = replace(
            run,
            error_message=_truncate(run.error_message, _MAX_TRUNCATED_LENGTH),
            warnings=tuple(_truncate(text, _MAX_TRUNCATED_LENGTH) or "" for text in run.warnings[:1]),
            engine_ids=run.engine_ids[:1],
            engine_pipelines=tuple(
                replace(one, message=_truncate(one.message, _MAX_TRUNCATED_LENGTH)) for one in run.engine_pipelines[:1]
            ),
            engine_commands=tuple(
                replace(one, message=_truncate(one.message, _MAX_TRUNCATED_LENGTH)) for one in run.engine_commands[:1]
            ),
        )
        return replace(self, run=first_texts, events=())

    def has_final(self, metrics: RunMetrics) -> bool:
        """Return whether record counts are the final ones of this run."""
        return saved_after_end(metrics.last_updated, self.run, self.events)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values for :meth:`from_dict`."""
        return {
            "job_id": self.job_id,
            "job_name": self.job_name,
            "run": self.run.to_dict(),
            "outcome": self.outcome.value if self.outcome else None,
            "events": [event.to_dict() for event in self.events],
            "metrics": self.metrics.to_dict() if self.metrics else None,
            "metrics_final": self.metrics_final,
            "stopped_by": self.stopped_by,
            "stopped_by_task": self.stopped_by_task,
            "conflict": self.conflict,
            "replaced": self.replaced,
            "red_for": self.red_for,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> RunReport:
        """
        Rebuild a report from :meth:`to_dict`, including reports of versions with other fields.

        :raises ValueError: if `value` is not a complete report
        """
        try:
            run = dict(value["run"])
            metrics = value.get("metrics")
            outcome, replaced, red_for = value["outcome"], value.get("replaced"), value.get("red_for")
            report = cls(
                job_id=str(value["job_id"]),
                job_name=str(value.get("job_name") or ""),
                run=_rebuild(
                    JobRun,
                    {
                        **run,
                        "warnings": tuple(run.get("warnings", ())),
                        "engine_ids": tuple(run.get("engine_ids", ())),
                        "engine_pipelines": _rebuild_all(EnginePipeline, run.get("engine_pipelines", ())),
                        "engine_commands": _rebuild_all(EngineCommand, run.get("engine_commands", ())),
                    },
                ),
                outcome=None if outcome is None else Outcome(outcome),
                events=_rebuild_all(RunEvent, value.get("events", ())),
                metrics=_rebuild(RunMetrics, metrics) if metrics is not None else None,
                metrics_final=bool(value.get("metrics_final")),
                stopped_by=str(value.get("stopped_by") or "") or None,
                stopped_by_task=bool(value.get("stopped_by_task")),
                conflict=str(value.get("conflict") or ""),
                replaced=None if replaced is None else int(replaced),
                red_for=None if red_for is None else float(red_for),
            )
            is_consistent = report._is_consistent
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"Not a valid run report ({type(error).__name__}: {error}).") from error
        if not is_consistent:
            raise ValueError(
                f"Inconsistent run report: outcome {report.outcome and report.outcome.value}, but status "
                f"{report.run.status}/{report.run.color}."
            )
        return report

    @property
    def _is_consistent(self) -> bool:
        run = self.run
        if self.red_for is not None:
            return self.outcome is Outcome.FAILED and not run.has_ended
        if self.outcome is None:
            return run.is_working or run.is_success
        return run.has_ended and (self.outcome is Outcome.FAILED or run.is_success)

    @property
    def reason(self) -> str | None:
        """
        Cause of a failure, as far as known; for other runs, the error that Control Hub shows nevertheless.

        Control Hub's error message can be empty while warnings and engines have the cause (contract section 10.2).
        """
        problem = self.run.problem if self.outcome is Outcome.FAILED else ""
        return self.run.error_message or problem or None

    def to_result(self) -> dict[str, Any]:
        """
        Return the XCom value of a task.

        Keys: ``job_id``, ``job_name``, ``run_count``, ``status``, ``color``, ``outcome``, ``error_message``,
        ``start_time``, ``finish_time`` (ISO 8601), ``duration`` (seconds), ``metrics`` (``run_count``, ``input_count``,
        ``output_count``, ``error_count``, ``stage_errors_count``, ``total_error_count``; None if Control Hub has saved
        none. The last two are None if only the run's status has counts) and ``metrics_final``.
        """
        return {
            **run_summary(self.job_id, self.job_name, self.run),
            "outcome": self.outcome.value if self.outcome else None,
            "error_message": self.reason,
            "metrics": self.metrics.counts() if self.metrics else None,
            "metrics_final": self.metrics_final,
        }

    @property
    def summary(self) -> str:
        """One line with the outcome or state of the run, its error, and the job."""
        stated = self._short_reason or (
            f"{self.run.status}/{self.run.color or 'no color'}" if self.outcome is Outcome.FAILED else ""
        )
        error = f": {stated}" if stated else ""
        job = f"'{self.job_name}'" if self.job_name else self.job_id
        return f"Run {self.run.run_count} {self.ending}{error} (job {job})"

    @property
    def brief(self) -> str:
        """Records out, errors and duration, as far as known, such as "59,700 out, 300 errors, 17 s"."""
        counts, duration = self.metrics, self.run.duration
        records = [f"{counts.output_count:,} out", f"{counts.error_count:,} errors"] if counts else []
        return ", ".join([*records, *([f"{duration:,.0f} s"] if duration is not None else [])])

    @property
    def _short_reason(self) -> str:
        """The cause from the first code of an engine on; what precedes it is about Control Hub and the engine."""
        reason = " ".join((self.reason or "").split())
        error = _ENGINE_ERROR.search(reason)
        return (error[0] if error else reason).removesuffix(".")

    @property
    def ending(self) -> str:
        """A verb phrase for the outcome or state of the run, such as "failed" or "was stopped by this task"."""
        if self.red_for is not None:
            return f"was RED for {self.red_for:.0f} s"
        if self.outcome is None:
            return "ended before it was seen active" if self.run.has_ended else "is active"
        return {
            Outcome.SUCCEEDED: "succeeded",
            Outcome.FAILED: "failed",
            Outcome.STOPPED: f"was stopped{self._stopped_by_suffix}",
        }[self.outcome]

    @property
    def _stopped_by_suffix(self) -> str:
        if self.stopped_by_task:
            return " by this task"
        if self.stopped_by is None:
            return ""
        if self.stopped_by == self.run.user:
            return f" by {self.stopped_by}, with the credential that started it (perhaps another task)"
        return f" by user {self.stopped_by}"

    def failure(self, hint: str = "") -> ControlHubRunFailedError:
        """
        Return the error of a task whose run failed.

        :param hint: a sentence about the remedy
        """
        texts = [
            text
            for text in (
                self.run.error_message,
                *(pipeline.message for pipeline in self.run.engine_pipelines),
                *(command.message for command in self.run.engine_commands if command.has_failed),
            )
            if text
        ]
        stages = [match[0] for text in texts if (match := _STAGE.search(text))]
        result = self.to_result()
        return ControlHubRunFailedError(
            f"{self.summary}.{hint and ' '}{hint}",
            job_id=self.job_id,
            job_name=self.job_name,
            run_count=self.run.run_count,
            outcome=self.outcome.value if self.outcome else None,
            error_codes=dict.fromkeys(code for text in texts for code in _ENGINE_CODE.findall(text)),
            stage=next(iter(stages), None),
            engine_lost=any(map(_ENGINE_LOST.search, (*self.run.warnings, self.run.error_message or ""))),
            metrics=result["metrics"],
            result=result,
        )

    @property
    def engine_ids(self) -> set[str]:
        """Ids of all engines that the report mentions."""
        run = self.run
        return {
            *run.engine_ids,
            *(pipeline.engine_id for pipeline in run.engine_pipelines),
            *(command.engine_id for command in run.engine_commands),
        }

    def details(self, names: Mapping[str, str] | None = None) -> str:
        """
        Return all known facts about the run as lines for a task log: the outcome first, the ids last, no text twice.

        :param names: names of users and addresses of engines, by id
        """
        lines = [self.summary, *(f"  {line}" for line in self._lines(names or {}))]
        lines.append(f"  Ids: job {self.job_id}, run {self.run.run_id or 'unknown'}")
        return "\n".join(lines)

    def _lines(self, names: Mapping[str, str]) -> Iterator[str]:
        run, known = self.run, " ".join((self.reason or "").split())
        if not self.reason:
            if self.outcome is Outcome.FAILED:
                yield "Error: none stated"
        elif self._short_reason != known.removesuffix("."):
            yield f"Error: {known}"
        started = f"started {_format_time(run.start_time)} by {_name(run.user, names)}"
        duration = "" if run.duration is None else f", ran for {run.duration:.1f} s"
        yield f"Status: {run.status}/{run.color or 'no color'}, {started}{duration}"
        if self.conflict:
            yield f"Conflicting evidence of the outcome: {self.conflict}"
        if self.metrics:
            counts = self.metrics
            stage_errors = "unknown" if counts.stage_errors_count is None else f"{counts.stage_errors_count:,}"
            yield (
                f"Records: {counts.input_count:,} in, {counts.output_count:,} out, "
                f"{counts.error_count:,} errors, {stage_errors} stage errors"
                + ("" if self.metrics_final else " (not final)")
            )
        else:
            yield "Records: Control Hub has saved no counts"
        for pipeline in run.engine_pipelines:
            # Control Hub reports no later status: that of the last poll may be older than the error.
            is_outdated = self.outcome is Outcome.FAILED and run.has_ended and not pipeline.status.endswith("_ERROR")
            status = "" if is_outdated else f": {pipeline.status}"
            yield f"Engine {_name(pipeline.engine_id, names)}{status}{_unless_known(pipeline.message, known)}"
        if not run.engine_pipelines:
            if run.engine_ids:
                yield f"Engine {', '.join(_name(engine_id, names) for engine_id in run.engine_ids)}"
            else:
                yield "Engines: none accepted the job. Check that engines with all of its labels are running."
        for command in run.engine_commands:
            yield (
                f"Command {command.command} to engine {_name(command.engine_id, names)}: {command.result}"
                f"{_unless_known(command.message, known)}"
            )
        for warning in run.warnings:
            if _unless_known(warning, known):
                yield f"Warning: {warning}"
        if self.events:
            yield f"Last {len(self.events)} events:"
            for event in self.events:
                message = (
                    "the error above" if event.message and not _unless_known(event.message, known) else event.message
                )
                by = f" (by {_name(event.user, names)})" if event.user else ""
                yield f"  {_format_time(event.time)} {event.status}: {message}{by}"
        else:
            yield "Events: none available"


def fetch_names(client: ControlHubClient, *reports: RunReport) -> dict[str, str]:
    """
    Return the addresses of the engines of runs, and the name of the client's user, by id, as far as they can be read.

    :param client: the client
    :param reports: reports of the runs
    """
    engine_ids = {engine_id for report in reports for engine_id in report.engine_ids}
    names: dict[str, str] = {}
    try:
        with client.with_options(timeout=_NAMES_TIMEOUT) as client:
            user = client.current_user()
            names[user.user_id] = user.name
            if engine_ids:
                engines = client.engines.get_all(engine_ids)
                names.update({engine_id: engine.url for engine_id, engine in engines.items()})
    except ControlHubError as error:
        log.debug("The report has ids instead of names: %s", error)
    return names


def run_summary(job_id: str, job_name: str, run: JobRun | None) -> dict[str, Any]:
    """
    Return the part of a task's result that every run has, ended or not.

    :param run: None for a job that has never run
    """
    return {
        "job_id": job_id,
        "job_name": job_name,
        "run_count": run.run_count if run else 0,
        "status": run.status if run else None,
        "color": run.color if run else None,
        "outcome": None,
        "error_message": run.error_message if run else None,
        "start_time": run.start_time.to_iso8601_string() if run and run.start_time else None,
        "finish_time": run.finish_time.to_iso8601_string() if run and run.finish_time else None,
        "duration": run.duration if run else None,
    }


def run_record(job_name: str, run: JobRun, events: Iterable[RunEvent] | None = None) -> dict[str, Any]:
    """
    Return the entry of a run in a run history.

    ``outcome`` is None for an unfinished run. Without events it is also None for a successful run, because only events
    show whether it was stopped.

    :param job_name: name of the job
    :param run: the run
    :param events: its events, oldest first; None if they were not read
    """
    events = None if events is None else tuple(events)
    outcome = decide_outcome(run, events or ()).outcome if run.has_ended else None
    has_counts = run.metrics_saved is not None
    record = {
        **run_summary(run.job_id, job_name, run),
        "outcome": None if outcome is None or (events is None and outcome is not Outcome.FAILED) else outcome.value,
        "error_message": _truncate(run.error_message, _MAX_TEXT_LENGTH),
        "user": run.user,
        "pipeline_version": run.pipeline_version,
        "engine_ids": list(run.engine_ids),
        "input_count": run.input_record_count if has_counts else None,
        "output_count": run.output_record_count if has_counts else None,
        "error_count": run.error_record_count if has_counts else None,
    }
    return record if events is None else {**record, "events": [event.to_dict() for event in _truncated_events(events)]}


def _name(identifier: str | None, names: Mapping[str, str]) -> str:
    return names.get(identifier or "") or identifier or "unknown"


def _unless_known(text: str | None, known: str) -> str:
    """Return a text as the end of a line; nothing if there is none, or a known text contains it."""
    text = " ".join((text or "").split())
    return f", {text}" if text and text.removesuffix("...") not in known else ""


def _format_time(time: pendulum.DateTime | None) -> str:
    return time.format("YYYY-MM-DD HH:mm:ss z") if time else "unknown"


_M = TypeVar("_M", JobRun, EnginePipeline, EngineCommand, RunEvent, RunMetrics)
_TIMES = frozenset({"start_time", "finish_time", "metrics_saved", "last_reported", "last_updated", "time"})


def _rebuild(model: type[_M], value: Mapping[str, Any]) -> _M:
    """Rebuild a model from its `to_dict`, ignoring unknown fields."""
    known = {field.name for field in fields(model)}
    arguments: dict[str, Any] = {
        name: _parse_time(entry) if name in _TIMES else entry for name, entry in value.items() if name in known
    }
    return model(**arguments)


def _rebuild_all(model: type[_M], values: Iterable[Mapping[str, Any]]) -> tuple[_M, ...]:
    return tuple(_rebuild(model, value) for value in values)


def _parse_time(text: str | None) -> pendulum.DateTime | None:
    if text is None:
        return None
    parsed = pendulum.parse(text)
    if not isinstance(parsed, pendulum.DateTime):
        raise ValueError(f"not a timestamp: {text!r}")
    return parsed
