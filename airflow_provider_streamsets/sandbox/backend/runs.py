"""Runs, the user actions on them, and the values of their states."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from airflow_provider_streamsets.sandbox.seed.behaviour import Behaviour

NEVER = 1 << 62
ENGINE_REPORT = "reported pipeline in status"
"""Text in the run events that an engine reports."""
BATCH_SIZE = 1000
FINAL_STATUSES = frozenset({"INACTIVE", "INACTIVE_ERROR", "ACTIVATION_ERROR"})


@dataclass(frozen=True)
class UserAction:
    """An action that a user requested."""

    at: int
    user: str
    text: str = ""


@dataclass(frozen=True)
class Phase:
    """
    The state of a run during an interval.

    ``message`` is the run event at the start of the interval, if any. ``engine_error`` is the reason why the pipeline
    does not run, if only the engine reports it.
    """

    at: int
    status: str
    color: str
    pipeline: str | None = None
    error: str | None = None
    lost_since: int | None = None
    engine_error: str | None = None
    message: str | None = None
    user: str | None = None


@dataclass(frozen=True)
class Event:
    """An event in the history of a run."""

    at: int
    status: str
    message: str
    user: str | None

    @property
    def is_from_engine(self) -> bool:
        """Whether an engine reported the event, not Control Hub."""
        return ENGINE_REPORT in self.message


@dataclass(frozen=True)
class Command:
    """A command that Control Hub sent to the engine, with the engine's acknowledgement."""

    at: int
    kind: str
    acknowledged_at: int
    result: str = "SUCCESS"
    message: str | None = None


@dataclass(frozen=True)
class Move:
    """
    The move of a running pipeline instance to another engine.

    :param at: when the instance left its engine.
    :param resumed_at: when it was running again.
    :param instance: index of the instance.
    :param engine_id: id of the new engine.
    :param engine_url: URL of the new engine.
    :param text: message of the run event.
    """

    at: int
    resumed_at: int
    instance: int
    engine_id: str
    engine_url: str
    text: str


@dataclass(frozen=True)
class Counts:
    """Record counts at the time ``at``."""

    at: int
    input: int
    output: int
    error: int
    stage_errors: int

    @property
    def batches(self) -> int:
        """Number of batches."""
        return -(-self.input // BATCH_SIZE)

    def share(self, instance: int, instances: int) -> Counts:
        """Return the counts of one of several instances; the counts of all instances add up to the total."""

        def part(count: int) -> int:
            return (count + instances - 1 - instance) // instances

        return Counts(self.at, part(self.input), part(self.output), part(self.error), part(self.stage_errors))


@dataclass
class Run:
    """
    One start of a job and the later user actions on it.

    :param version: the pipeline version of the run, with its commit ``commit_id``; that of the job may have changed.
    :param offset_text: template of an offset, with the placeholder ``{position}``.
    :param scale: time scale, the factor by which durations, intervals and timeouts are shortened.
    :param engine_ids: ids of the engines at the start, one per instance; each instance reads all records.
    :param engine_urls: URLs of these engines.
    """

    id: str
    job_id: str
    run_count: int
    user: str
    started: int
    version: str
    commit_id: str
    offset_text: str
    engine_ids: tuple[str, ...]
    engine_urls: tuple[str, ...]
    behaviour: Behaviour
    parameters: dict[str, Any]
    scale: float
    stats_interval: int
    force_stop_timeout: int
    needs_ack: bool
    offset_base: int = 0
    stops: list[UserAction] = field(default_factory=list)
    force_stops: list[UserAction] = field(default_factory=list)
    acks: list[UserAction] = field(default_factory=list)
    notes: list[UserAction] = field(default_factory=list)
    error_info_resets: list[UserAction] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    superseded: UserAction | None = None
    """The upgrade that replaced the active run with a successor."""
    predecessor_id: str | None = None
    """Id of the run that this run replaced in an upgrade."""

    def scaled_ms(self, seconds: float) -> int:
        """Convert a duration in seconds to scaled milliseconds."""
        return round(seconds * 1000 / self.scale)

    @property
    def instances(self) -> int:
        """Number of pipeline instances."""
        return len(self.engine_ids)

    def engine_ids_at(self, time: int) -> tuple[str, ...]:
        """Return the engine of each instance."""
        ids = list(self.engine_ids)
        for move in self.moves:
            if move.at <= time:
                ids[move.instance] = move.engine_id
        return tuple(ids)

    def engine_urls_at(self, time: int) -> tuple[str, ...]:
        """Return the URL of each instance's engine."""
        urls = list(self.engine_urls)
        for move in self.moves:
            if move.at <= time:
                urls[move.instance] = move.engine_url
        return tuple(urls)

    def moving_at(self, time: int) -> frozenset[int]:
        """Return the instances that have left one engine and do not run on the next one yet."""
        return frozenset(move.instance for move in self.moves if move.at <= time < move.resumed_at)
