"""Runs: what was asked of them, and what there is to see."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from airflow_provider_streamsets.sandbox.seed.behaviour import Behaviour

NEVER = 1 << 62
REPORTED = "reported pipeline in status"
"""What the run events that an engine raises say."""
BATCH_SIZE = 1000
ENDED = frozenset({"INACTIVE", "INACTIVE_ERROR", "ACTIVATION_ERROR"})


@dataclass(frozen=True)
class Ask:
    """Something that a person asked for."""

    at: int
    user: str
    text: str = ""


@dataclass(frozen=True)
class Phase:
    """
    What a run is from one moment to the next.

    ``message`` is the run event that begins it, if any; ``refusal`` is why the engine does not run the pipeline, where
    only the engine says so.
    """

    at: int
    status: str
    color: str
    pipeline: str | None = None
    error: str | None = None
    lost_since: int | None = None
    refusal: str | None = None
    message: str | None = None
    user: str | None = None


@dataclass(frozen=True)
class Event:
    """One line of the run's history."""

    at: int
    status: str
    message: str
    user: str | None

    @property
    def is_from_engine(self) -> bool:
        """Whether an engine raised it, and not the hub."""
        return REPORTED in self.message


@dataclass(frozen=True)
class Command:
    """A command that the hub sent to the engine, and when and how the engine answered."""

    at: int
    kind: str
    answered: int
    result: str = "SUCCESS"
    message: str | None = None


@dataclass(frozen=True)
class Move:
    """
    A pipeline instance that the hub moved to another engine while it ran.

    :param at: when it left.
    :param settled: when it was running again.
    :param instance: which of the run's instances.
    :param engine_id: where it runs since.
    :param engine_url: the same engine.
    :param text: the run event.
    """

    at: int
    settled: int
    instance: int
    engine_id: str
    engine_url: str
    text: str


@dataclass(frozen=True)
class Counts:
    """Records at a moment; ``at`` is that moment."""

    at: int
    input: int
    error: int
    stage_errors: int

    @property
    def output(self) -> int:
        """Records written."""
        return self.input - self.error

    @property
    def batches(self) -> int:
        """Batches that the records came in."""
        return -(-self.input // BATCH_SIZE)

    def share(self, instance: int, instances: int) -> Counts:
        """Return the part of one of several instances; the parts of all add up to the whole."""

        def part(count: int) -> int:
            return (count + instances - 1 - instance) // instances

        return Counts(self.at, part(self.input), part(self.error), part(self.stage_errors))


@dataclass
class Run:
    """
    One start of a job and what was asked of it since.

    :param version: the pipeline version that it runs, and ``commit_id`` its commit; the job may have another by now.
    :param offset_text: how an offset is written, with ``{position}`` in it.
    :param scale: time scale; every duration of the behaviour, and every interval and time-out of the job, takes
        that many times less wall time.
    :param engine_ids: the engines that the pipeline was started on, one instance each; each reads the whole.
    :param engine_urls: the same engines.
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
    stops: list[Ask] = field(default_factory=list)
    force_stops: list[Ask] = field(default_factory=list)
    acks: list[Ask] = field(default_factory=list)
    remarks: list[Ask] = field(default_factory=list)
    error_info_resets: list[Ask] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    superseded: Ask | None = None
    """The upgrade that replaced it by a successor while it was active."""
    predecessor_id: str | None = None
    """The run that it replaces since an upgrade."""

    def lasting(self, seconds: float) -> int:
        """Return how many milliseconds of wall time something of that duration takes."""
        return round(seconds * 1000 / self.scale)

    @property
    def instances(self) -> int:
        """On how many engines the pipeline runs."""
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
        """Return the instances that have left one engine and do not run on the next yet."""
        return frozenset(move.instance for move in self.moves if move.at <= time < move.settled)
