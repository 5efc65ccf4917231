"""
One run of a job as a function of time.

A :class:`Run` holds what was asked, each with its time. Everything else follows from that and from the
time one looks: status, color, events, records, saved metrics. What is asked later never changes what was
to be seen before.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_streamsets.sandbox.behaviours import Behaviour
from airflow_provider_streamsets.sandbox.variants import Variants

NEVER = 1 << 62
BATCH_SIZE = 1000
ENDED = frozenset({"INACTIVE", "INACTIVE_ERROR", "ACTIVATION_ERROR"})
ENDED_PIPELINE = frozenset({"START_ERROR", "RUN_ERROR", "FINISHED", "STOPPED", "KILLED"})


@dataclass(frozen=True)
class Ask:
    """Something that a person asked for."""

    at: int
    user: str
    text: str = ""


@dataclass(frozen=True)
class Phase:
    """What a run is from one moment to the next; ``message`` is the run event that begins it, if any."""

    at: int
    status: str
    color: str
    pipeline: str | None = None
    error: str | None = None
    lost_since: int | None = None
    message: str | None = None
    user: str | None = None


@dataclass(frozen=True)
class Event:
    """One line of the run's history."""

    at: int
    status: str
    message: str
    user: str | None


@dataclass(frozen=True)
class Command:
    """A command that the hub sent to the engine, and when and how the engine answered."""

    at: int
    kind: str
    answered: int
    result: str = "SUCCESS"
    message: str | None = None


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


@dataclass
class Run:
    """
    One start of a job and what was asked of it since.

    :param scale: time scale; every duration of the behaviour, and every interval and time-out of the job, takes
        that many times less wall time.
    :param instances: on how many engines the pipeline runs; each reads the whole.
    """

    id: str
    job_id: str
    run_count: int
    user: str
    started: int
    version: str
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

    def lasting(self, seconds: float) -> int:
        """Return how many milliseconds of wall time something of that duration takes."""
        return round(seconds * 1000 / self.scale)

    @property
    def instances(self) -> int:
        """On how many engines the pipeline runs."""
        return len(self.engine_ids)


class Lifecycle:
    """
    The course of a run, as far as it is determined by what has been asked up to now.

    :param run: the run.
    :param variants: which of the plausible courses to take.
    """

    def __init__(self, run: Run, variants: Variants) -> None:
        self.run = run
        self._variants = variants
        behaviour = run.behaviour
        self.running_from = run.started + run.lasting(behaviour.activation)
        self._lost_from, self._lost_until = NEVER, NEVER
        if behaviour.engine_lost_after is not None:
            self._lost_from = self.running_from + run.lasting(behaviour.engine_lost_after)
            if behaviour.engine_lost_for is not None:
                self._lost_until = self._lost_from + run.lasting(behaviour.engine_lost_for)
        self.own_end = self._own_end()
        if self.own_end <= self._lost_from:
            self._lost_from = self._lost_until = NEVER
        first_stop = min((ask.at for ask in (*run.stops, *run.force_stops)), default=NEVER)
        self._stopped_at = first_stop if first_stop < self.own_end else NEVER
        self.commands: list[Command] = []
        self.pipeline_ended = NEVER
        self.phases = self._course()

    def at(self, time: int) -> Phase:
        """Return the phase that the run is in."""
        current = self.phases[0]
        for phase in self.phases:
            if phase.at > time:
                break
            current = phase
        if current.status in ("ACTIVATING", "DEACTIVATING") and current.color == "GREEN":
            return replace(current, color=self._variants.color_in_transition)
        return current

    def events(self, time: int) -> list[Event]:
        """Return the run events up to a time, oldest first."""
        events = [
            Event(phase.at, phase.status, phase.message, phase.user)
            for phase in self.phases
            if phase.at <= time and phase.message
        ]
        events += [
            Event(ask.at, self.at(ask.at).status, ask.text, ask.user) for ask in self.run.remarks if ask.at <= time
        ]
        return sorted(events, key=lambda event: event.at)

    def finished_at(self, time: int) -> int:
        """Return when the run ended, 0 while it has not."""
        return next((phase.at for phase in self.phases if phase.status in ENDED and phase.at <= time), 0)

    def is_lost(self, time: int) -> bool:
        """Whether the hub does not hear from the engine about this run."""
        current = self.at(time)
        return current.lost_since is not None and current.status not in ENDED

    def counts(self, time: int) -> Counts:
        """Return the records processed up to a time, as the engine would count them."""
        behaviour = self.run.behaviour
        halt = min(self.own_end, self._stopped_at)
        until = min(time, halt)
        if behaviour.ends_after is not None and until >= self.own_end:
            records = behaviour.ends_after
        else:
            records = int(self._running_ms(until) * self.run.scale * behaviour.rate / 1000)
            if behaviour.ends_after is not None:
                records = min(records, behaviour.ends_after)
        records *= self.run.instances
        return Counts(
            at=time,
            input=records,
            error=int(records * behaviour.error_share),
            stage_errors=int(records * behaviour.stage_error_share),
        )

    def saved(self, time: int) -> Counts | None:
        """
        Return the records that the hub had saved by a time, None if it had saved nothing.

        The engine reports at the job's interval while the pipeline runs, and once more some time after the
        pipeline's end.
        """
        run = self.run
        if not run.behaviour.saves_metrics or run.behaviour.start_error is not None:
            return None
        final = min(NEVER, self.pipeline_ended + run.lasting(self._variants.metrics_lag))
        if final <= time:
            return self.counts(final)
        until = min(time, self.own_end, self._stopped_at)
        if self._lost_from <= until < self._lost_until:
            until = self._lost_from
        interval = max(1, run.lasting(run.stats_interval / 1000))
        saves = (until - self.running_from) // interval
        return self.counts(self.running_from + saves * interval) if saves > 0 else None

    def offset_position(self, time: int) -> int | None:
        """Return how far the origin has come, None before the run's end or if it read nothing."""
        if not 0 < self.finished_at(time) <= time:
            return None
        read = self.counts(time).input // max(1, self.run.instances)
        return self.run.offset_base + read if read else None

    def _own_end(self) -> int:
        """Return when the pipeline would end if nobody stopped it."""
        behaviour = self.run.behaviour
        if behaviour.start_error is not None:
            return self.running_from
        if behaviour.ends_after is None:
            return NEVER
        end = self.running_from + self.run.lasting(behaviour.ends_after / behaviour.rate)
        if end <= self._lost_from:
            return end
        return NEVER if self._lost_until == NEVER else end + self._lost_until - self._lost_from

    def _running_ms(self, until: int) -> int:
        """Return for how long the pipeline processed records; while its engine is lost it stands still."""
        lost = max(0, min(until, self._lost_until) - self._lost_from)
        return max(0, until - self.running_from - lost)

    def _reported(self, status: str, detail: str = "") -> str:
        url = self.run.engine_urls[0]
        return f"Data Collector '{url}' reported pipeline in status '{status}'{detail}"

    def _command(self, at: int, kind: str, takes: float, result: str = "SUCCESS", message: str | None = None) -> None:
        self.commands.append(Command(at, kind, at + self.run.lasting(takes), result, message))

    def _course(self) -> list[Phase]:
        run = self.run
        activation = run.behaviour.activation
        first = Phase(run.started, "ACTIVATING", "GREEN", message="Job started", user=run.user)
        starting = replace(
            first, at=run.started + run.lasting(activation * 0.4), pipeline="STARTING", message=None, user=None
        )
        self._command(run.started + run.lasting(activation * 0.1), "SAVE_PIPELINE", activation * 0.2)
        self._command(run.started + run.lasting(activation * 0.3), "START_PIPELINE", activation * 0.7)
        phases = [first, starting]
        if self._stopped_at < self.running_from:
            # Only where the variant accepts a stop of an activating job.
            phases = [phase for phase in phases if phase.at <= self._stopped_at]
            return self._acknowledged(phases + self._stopping(phases[-1]))
        if run.behaviour.start_error is not None:
            return self._acknowledged(phases + self._failing_at_start(starting, run.behaviour.start_error))
        running = replace(
            starting, at=self.running_from, status="ACTIVE", pipeline="RUNNING", message=self._reported("RUNNING")
        )
        phases.append(running)
        halt = min(self.own_end, self._stopped_at)
        if self._lost_from < halt:
            lost = replace(
                running,
                at=self._lost_from,
                color="RED",
                lost_since=self._lost_from,
                message=f"Data Collector '{run.engine_urls[0]}' is not responding",
            )
            phases.append(lost)
            if self._lost_until < halt:
                phases.append(
                    replace(
                        running,
                        at=self._lost_until,
                        message=f"Data Collector '{run.engine_urls[0]}' is responding again",
                    )
                )
        if self._stopped_at < NEVER:
            phases += self._stopping(phases[-1])
        elif self.own_end < NEVER:
            phases += self._failing(phases[-1]) if run.behaviour.fails_while_running else self._finishing(phases[-1])
        return self._acknowledged(phases)

    def _finishing(self, before: Phase) -> list[Phase]:
        self.pipeline_ended = self.own_end
        end = self.own_end + self.run.lasting(self.run.behaviour.deactivation)
        self._command(self.own_end, "STOP_DELETE_PIPELINE", self.run.behaviour.deactivation)
        done = replace(
            before, at=self.own_end, status="DEACTIVATING", pipeline="FINISHED", message=self._reported("FINISHED")
        )
        return [done, replace(done, at=end, status="INACTIVE", color="GRAY", pipeline=None, message="Job finished")]

    def _failing_at_start(self, before: Phase, error: str) -> list[Phase]:
        message = self._reported("START_ERROR", f": {error}")
        at = self.running_from
        self.pipeline_ended = at
        self.commands[-1] = replace(self.commands[-1], result="ERROR", message=error)
        if self._variants.start_failure == "activation_error":
            return [
                replace(
                    before, at=at, status="ACTIVATION_ERROR", color="RED", pipeline=None, error=message, message=message
                )
            ]
        failed = replace(
            before, at=at, status="ACTIVE", color="RED", pipeline="START_ERROR", error=message, message=message
        )
        return [failed, *self._ending_in_error(replace(failed, message=None), at + self.run.lasting(0.3))]

    def _failing(self, before: Phase) -> list[Phase]:
        self.pipeline_ended = self.own_end
        message = self._reported("RUN_ERROR", f": {self.run.behaviour.error}")
        failed = replace(before, pipeline="RUN_ERROR", error=message, message=message)
        return self._ending_in_error(failed, self.own_end)

    def _ending_in_error(self, failed: Phase, at: int) -> list[Phase]:
        run = self.run
        self._command(at, "STOP_DELETE_PIPELINE", 0.1, "ERROR", "Pipeline is not running")
        ending = replace(
            failed,
            at=at,
            status="DEACTIVATING",
            color="RED",
        )
        last = replace(
            ending,
            at=at + run.lasting(run.behaviour.deactivation),
            status="INACTIVE_ERROR" if run.needs_ack else "INACTIVE",
            pipeline=None,
            message="Job failed; the error must be acknowledged" if run.needs_ack else "Job failed",
        )
        return [ending, last]

    def _stopping(self, before: Phase) -> list[Phase]:
        run, at = self.run, self._stopped_at
        deactivation = run.behaviour.deactivation
        asked = min((*run.stops, *run.force_stops), key=lambda ask: ask.at)
        forced = min(run.force_stops, key=lambda ask: ask.at, default=None)
        stopping = replace(
            before,
            at=at,
            status="DEACTIVATING",
            pipeline="STOPPING",
            message="Job stop requested" if asked in run.stops else "Job force stop requested",
            user=asked.user,
        )
        takes = run.behaviour.stop_takes
        confirmed = at + run.lasting(deactivation * 0.6 if takes is None else takes)
        if before.lost_since is not None:
            confirmed = NEVER if self._lost_until == NEVER else self._lost_until + run.lasting(deactivation * 0.6)
        timed_out = at + round(run.force_stop_timeout / run.scale)
        forced_at = forced.at if forced else NEVER
        phases = [stopping]
        if forced and forced_at < min(confirmed, timed_out):
            if forced_at > at:
                stopping = replace(stopping, at=forced_at, message="Job force stop requested", user=forced.user)
                phases.append(stopping)
            end = forced_at + run.lasting(0.3)
            self.pipeline_ended = forced_at
            self.commands.append(Command(at, "STOP_PIPELINE", end, "IGNORE"))
            phases.append(
                replace(
                    stopping,
                    at=end,
                    status="INACTIVE",
                    color="GRAY",
                    pipeline=None,
                    lost_since=None,
                    message="Job force stopped",
                    user=None,
                )
            )
        elif confirmed <= timed_out:
            self.pipeline_ended = confirmed
            self.commands.append(Command(at, "STOP_PIPELINE", confirmed))
            stopped = replace(
                stopping,
                at=confirmed,
                pipeline="STOPPED",
                color="GREEN",
                lost_since=None,
                message=self._reported("STOPPED"),
                user=None,
            )
            end = confirmed + run.lasting(deactivation * 0.4)
            phases += [
                stopped,
                replace(stopped, at=end, status="INACTIVE", color="GRAY", pipeline=None, message="Job stopped"),
            ]
        else:
            self.commands.append(Command(at, "STOP_PIPELINE", timed_out, "TIMEDOUT", "No answer from the engine"))
            error = f"Data Collector '{run.engine_urls[0]}' did not confirm the stop within {run.force_stop_timeout} ms"
            phases.append(
                replace(
                    stopping,
                    at=timed_out,
                    status="INACTIVE_ERROR",
                    color="RED",
                    pipeline=None,
                    error=error,
                    message=error,
                    user=None,
                )
            )
        return phases

    def _acknowledged(self, phases: list[Phase]) -> list[Phase]:
        last = phases[-1]
        ack = next((ask for ask in self.run.acks if ask.at >= last.at), None)
        if last.status == "INACTIVE_ERROR" and ack:
            color = self._variants.color_after_acknowledge
            phases.append(
                replace(
                    last, at=ack.at, status="INACTIVE", color=color, message="Job error acknowledged", user=ack.user
                )
            )
        return phases
