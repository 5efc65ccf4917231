"""
The state of a run as a function of time.

A :class:`~airflow_provider_streamsets.sandbox.backend.runs.Run` holds the user actions and their times. Status, color,
events, record counts and saved metrics are computed from them for any given time. Later actions never change the state
at an earlier time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from airflow_provider_streamsets.sandbox.backend.runs import (
    ENGINE_REPORT,
    FINAL_STATUSES,
    NEVER,
    Command,
    Counts,
    Event,
    Phase,
    Run,
    UserAction,
)
from airflow_provider_streamsets.sandbox.backend.variants import Variants


class RunTimeline:
    """
    The phases of a run, and the commands that Control Hub sends to the engine.

    :param run: the run.
    :param variants: behaviour where the behaviour of Control Hub is unknown.
    """

    def __init__(self, run: Run, variants: Variants) -> None:
        self.run = run
        self._variants = variants
        behaviour = run.behaviour
        self.running_since = run.started + run.scaled_ms(behaviour.activation)
        self.lost_from, self.lost_until = NEVER, NEVER
        if behaviour.engine_lost_after is not None:
            self.lost_from = self.running_since + run.scaled_ms(behaviour.engine_lost_after)
            if behaviour.engine_lost_for is not None:
                self.lost_until = self.lost_from + run.scaled_ms(behaviour.engine_lost_for)
        self.natural_end = self._natural_end()
        if self.natural_end <= self.lost_from:
            self.lost_from = self.lost_until = NEVER
        ends = [*run.stops, *run.force_stops] if run.superseded is None else [run.superseded]
        first_stop = min((action.at for action in ends), default=NEVER)
        self.stopped_at = first_stop if first_stop < self.natural_end else NEVER
        self.commands: list[Command] = []
        self.pipeline_ended = NEVER
        self.phases = self._build_phases()

    def _natural_end(self) -> int:
        """Return when the pipeline would end without a stop."""
        behaviour = self.run.behaviour
        if behaviour.start_error is not None:
            return NEVER if self._variants.start_failure == "stays_red" else self.running_since
        if behaviour.ends_after is None:
            return NEVER
        end = self.running_since + self.run.scaled_ms(behaviour.ends_after / behaviour.rate)
        if end <= self.lost_from:
            return end
        return NEVER if self.lost_until == NEVER else end + self.lost_until - self.lost_from

    def _engine(self, at: int) -> str:
        return f"Data Collector '{self.run.engine_urls_at(at)[0]}'"

    def _engine_report(self, at: int, status: str, detail: str = "") -> str:
        return f"{self._engine(at)} {ENGINE_REPORT} '{status}'{detail}"

    def _command(self, at: int, kind: str, seconds: float, result: str = "SUCCESS", message: str | None = None) -> None:
        self.commands.append(Command(at, kind, at + self.run.scaled_ms(seconds), result, message))

    @staticmethod
    def _final(
        previous: Phase, at: int, message: str, status: str = "INACTIVE", color: str = "GRAY", error: str | None = None
    ) -> Phase:
        """Return the last phase of a run."""
        return replace(
            previous, at=at, status=status, color=color, pipeline=None, error=error, message=message, user=None
        )

    def _build_phases(self) -> list[Phase]:
        run = self.run
        activation = run.behaviour.activation
        first = Phase(run.started, "ACTIVATING", "GREEN", message="Job started", user=run.user)
        starting = replace(
            first, at=run.started + run.scaled_ms(activation * 0.4), pipeline="STARTING", message=None, user=None
        )
        self._command(run.started + run.scaled_ms(activation * 0.1), "SAVE_PIPELINE", activation * 0.2)
        self._command(run.started + run.scaled_ms(activation * 0.3), "START_PIPELINE", activation * 0.7)
        phases = [first, starting]
        if self.stopped_at < self.running_since:
            # Only if the variant accepts the stop of an activating job.
            phases = [phase for phase in phases if phase.at <= self.stopped_at]
            return self._with_acknowledgement(phases + self._stop(phases[-1]))
        if run.behaviour.start_error is not None and self._variants.start_failure == "stays_red":
            failed_start = self._failed_start(starting, run.behaviour.start_error)
            return self._with_acknowledgement(
                [*phases, failed_start, *(self._stop(failed_start) if self.stopped_at < NEVER else ())]
            )
        if run.behaviour.start_error is not None:
            return self._with_acknowledgement(phases + self._start_failure(starting, run.behaviour.start_error))
        running = replace(
            starting,
            at=self.running_since,
            status="ACTIVE",
            pipeline="RUNNING",
            message=self._engine_report(self.running_since, "RUNNING"),
        )
        phases.append(running)
        running_until = min(self.natural_end, self.stopped_at)
        if self.lost_from < running_until:
            lost = replace(
                running,
                at=self.lost_from,
                color="RED",
                lost_since=self.lost_from,
                message=f"{self._engine(self.lost_from)} is not responding",
            )
            phases.append(lost)
            if self.lost_until < running_until:
                phases.append(
                    replace(running, at=self.lost_until, message=f"{self._engine(self.lost_until)} is responding again")
                )
        if self.stopped_at < NEVER:
            phases += self._stop(phases[-1])
        elif self.natural_end < NEVER:
            phases += (
                self._run_failure(phases[-1]) if run.behaviour.fails_while_running else self._completion(phases[-1])
            )
        return self._with_acknowledgement(phases)

    def _completion(self, previous: Phase) -> list[Phase]:
        self.pipeline_ended = self.natural_end
        end = self.natural_end + self.run.scaled_ms(self.run.behaviour.deactivation)
        self._command(self.natural_end, "STOP_DELETE_PIPELINE", self.run.behaviour.deactivation)
        finished = replace(
            previous,
            at=self.natural_end,
            status="DEACTIVATING",
            pipeline="FINISHED",
            message=self._engine_report(self.natural_end, "FINISHED"),
        )
        return [finished, self._final(finished, end, "Job finished")]

    def _failed_start(self, previous: Phase, error: str) -> Phase:
        self.commands[-1] = replace(self.commands[-1], result="ERROR", message=error)
        return replace(
            previous, at=self.running_since, status="ACTIVE", color="RED", pipeline="START_ERROR", engine_error=error
        )

    def _start_failure(self, previous: Phase, error: str) -> list[Phase]:
        at = self.running_since
        message = self._engine_report(at, "START_ERROR", f": {error}")
        self.pipeline_ended = at
        self.commands[-1] = replace(self.commands[-1], result="ERROR", message=error)
        if self._variants.start_failure == "activation_error":
            return [self._final(previous, at, message, "ACTIVATION_ERROR", "RED", message)]
        failed = replace(
            previous, at=at, status="ACTIVE", color="RED", pipeline="START_ERROR", error=message, message=message
        )
        return [failed, *self._error_end(replace(failed, message=None), at + self.run.scaled_ms(0.3))]

    def _run_failure(self, previous: Phase) -> list[Phase]:
        self.pipeline_ended = self.natural_end
        message = self._engine_report(self.natural_end, "RUN_ERROR", f": {self.run.behaviour.error}")
        failed = replace(previous, pipeline="RUN_ERROR", error=message, message=message)
        return self._error_end(failed, self.natural_end)

    def _error_end(self, failed: Phase, at: int) -> list[Phase]:
        run = self.run
        self._command(at, "STOP_DELETE_PIPELINE", 0.1, "ERROR", "Pipeline is not running")
        ending = replace(failed, at=at, status="DEACTIVATING", color="RED")
        status, message = "INACTIVE", "Job failed"
        if run.needs_ack:
            status, message = "INACTIVE_ERROR", "Job failed; the error must be acknowledged"
        ended = at + run.scaled_ms(run.behaviour.deactivation)
        return [ending, self._final(ending, ended, message, status, "RED", ending.error)]

    def _stop(self, previous: Phase) -> list[Phase]:
        run, at = self.run, self.stopped_at
        if run.superseded is not None:
            return self._upgrade(previous, run.superseded)
        deactivation = run.behaviour.deactivation
        first_action = min((*run.stops, *run.force_stops), key=lambda action: action.at)
        forced = min(run.force_stops, key=lambda action: action.at, default=None)
        stopping = replace(
            previous,
            at=at,
            status="DEACTIVATING",
            engine_error=None,
            pipeline="STOPPING",
            message="Job stop requested" if first_action in run.stops else "Job force stop requested",
            user=first_action.user,
        )
        stop_takes = run.behaviour.stop_takes
        confirmed = at + run.scaled_ms(deactivation * 0.6 if stop_takes is None else stop_takes)
        if previous.lost_since is not None:
            confirmed = NEVER if self.lost_until == NEVER else self.lost_until + run.scaled_ms(deactivation * 0.6)
        timed_out = at + round(run.force_stop_timeout / run.scale)
        forced_at = forced.at if forced else NEVER
        phases = [stopping]
        if forced and forced_at < min(confirmed, timed_out):
            if forced_at > at:
                stopping = replace(stopping, at=forced_at, message="Job force stop requested", user=forced.user)
                phases.append(stopping)
            end = forced_at + run.scaled_ms(0.3)
            self.pipeline_ended = forced_at
            self.commands.append(Command(at, "STOP_PIPELINE", end, "IGNORE"))
            stopping = replace(stopping, lost_since=None)
            if self._variants.forced_stop_end == "inactive_error":
                error = f"JOBRUNNER_64 - Job was force stopped: {self._engine(end)} may still run its pipeline"
                phases.append(self._final(stopping, end, error, "INACTIVE_ERROR", "RED", error))
            else:
                phases.append(self._final(stopping, end, "Job force stopped"))
        elif confirmed <= timed_out:
            self.pipeline_ended = confirmed
            self.commands.append(Command(at, "STOP_PIPELINE", confirmed))
            stopped = replace(
                stopping,
                at=confirmed,
                pipeline="STOPPED",
                color="GREEN",
                lost_since=None,
                message=self._engine_report(confirmed, "STOPPED"),
                user=None,
            )
            end = confirmed + run.scaled_ms(deactivation * 0.4)
            phases += [stopped, self._final(stopped, end, "Job stopped")]
        else:
            self.commands.append(Command(at, "STOP_PIPELINE", timed_out, "TIMEDOUT", "No answer from the engine"))
            error = f"{self._engine(timed_out)} did not confirm the stop within {run.force_stop_timeout} ms"
            phases.append(self._final(stopping, timed_out, error, "INACTIVE_ERROR", "RED", error))
        return phases

    def _upgrade(self, previous: Phase, upgrade: UserAction) -> list[Phase]:
        """Return the phases of an upgraded run, whose successor starts at the same time."""
        self.pipeline_ended = upgrade.at
        self.commands.append(Command(upgrade.at, "STOP_PIPELINE", upgrade.at))
        requested = replace(
            previous,
            at=upgrade.at,
            status="DEACTIVATING",
            color="GREEN",
            pipeline="STOPPING",
            lost_since=None,
            message="Job upgrade requested",
            user=upgrade.user,
        )
        stopped = replace(requested, pipeline="STOPPED", message=self._engine_report(upgrade.at, "STOPPED"), user=None)
        return [requested, stopped, self._final(stopped, upgrade.at, upgrade.text)]

    def _with_acknowledgement(self, phases: list[Phase]) -> list[Phase]:
        last = phases[-1]
        ack = next((action for action in self.run.acks if action.at >= last.at), None)
        if last.status == "INACTIVE_ERROR" and ack:
            color = self._variants.color_after_acknowledge
            phases.append(
                replace(
                    last, at=ack.at, status="INACTIVE", color=color, message="Job error acknowledged", user=ack.user
                )
            )
        return phases


class RunState(RunTimeline):
    """The state of a run at any time, given its user actions so far."""

    def phase_at(self, time: int) -> Phase:
        """Return the phase at a time."""
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
            Event(note.at, self.phase_at(note.at).status, note.text, note.user)
            for note in self.run.notes
            if note.at <= time
        ]
        events += [
            Event(move.at, self.phase_at(move.at).status, move.text, None) for move in self.run.moves if move.at <= time
        ]
        return sorted(events, key=lambda event: event.at)

    def finished_at(self, time: int) -> int:
        """Return when the run ended, or 0 if it has not ended at that time."""
        return next((phase.at for phase in self.phases if phase.status in FINAL_STATUSES and phase.at <= time), 0)

    def outcome(self, time: int) -> str:
        """Return in words how the run ended or, before its end, what it is doing."""
        phase = self.phase_at(time)
        stopped = self.stopped_at <= time
        if phase.status in FINAL_STATUSES:
            if phase.error:
                return "failed"
            if stopped:
                return "stopped" if self.run.superseded is None else "upgraded"
            return "succeeded"
        if self.is_lost(time):
            return "engine not responding"
        if phase.color == "RED":
            return "failing"
        if phase.status == "DEACTIVATING":
            return "stopping" if stopped else "finishing"
        return "starting" if phase.status == "ACTIVATING" else "running"

    def is_lost(self, time: int) -> bool:
        """Return whether Control Hub has lost the connection to the engine of the run."""
        current = self.phase_at(time)
        return current.lost_since is not None and current.status not in FINAL_STATUSES

    def counts(self, time: int) -> Counts:
        """Return the records processed up to a time, as counted by the engine."""
        behaviour = self.run.behaviour
        if behaviour.start_error is not None:
            return Counts(at=time, input=0, output=0, error=0, stage_errors=0)
        until = min(time, self.natural_end, self.stopped_at)
        if behaviour.ends_after is not None and until >= self.natural_end:
            records = behaviour.ends_after
        else:
            records = int(self._running_ms(until) * self.run.scale * behaviour.rate / 1000)
            if behaviour.ends_after is not None:
                records = min(records, behaviour.ends_after)
        records *= self.run.instances
        errors = int(records * behaviour.error_share)
        return Counts(
            at=time,
            input=records,
            output=round((records - errors) * behaviour.output_share),
            error=errors,
            stage_errors=int(records * behaviour.stage_error_share),
        )

    def saved(self, time: int) -> Counts | None:
        """
        Return the saved record counts at a time, or None if none are saved.

        The engine reports at the interval of the job while the pipeline runs, and once more after the end of the
        pipeline.
        """
        final = self._final_save()
        if final is None:
            return None
        if final <= time:
            return self.counts(final)
        saves = self._regular_saves(time)
        return self.counts(saves[-1]) if saves else None

    def registered(self, time: int) -> Counts | None:
        """Return the record counts in the metric registry: the saved ones, or the final ones once the run has ended."""
        final, ended = self._final_save(), self.finished_at(time)
        if final is not None and final < NEVER and ended:
            return self.counts(ended)
        return self.saved(time)

    def saves(self, begin: int, end: int, limit: int) -> list[int]:
        """
        Return the times at which metrics were saved, oldest first.

        :param begin: start of the period.
        :param end: end of the period.
        :param limit: maximum number of times; if there are more, they are thinned out evenly.
        """
        final = self._final_save()
        if final is None:
            return []
        regular = self._regular_saves(end)
        regular = regular[max(0, -((regular.start - begin) // regular.step)) :]
        # Counted from the end, so that the latest is always included.
        thinned = regular[:: -max(1, -(-len(regular) // limit))][::-1]
        times = [time for time in thinned if not self.lost_from < time < self.lost_until]
        return [*times, final] if begin <= final <= end else times

    def _final_save(self) -> int | None:
        """Return when the final metrics are saved, or None if no metrics are ever saved."""
        run = self.run
        if not run.behaviour.saves_metrics or run.behaviour.start_error is not None:
            return None
        return min(NEVER, self.pipeline_ended + run.scaled_ms(self._variants.metrics_lag))

    def _regular_saves(self, time: int) -> range:
        """Return the times up to the given one at which metrics are saved while the pipeline runs."""
        run = self.run
        until = min(time, self.natural_end, self.stopped_at)
        if self.lost_from <= until < self.lost_until:
            until = self.lost_from
        interval = max(1, run.scaled_ms(run.stats_interval / 1000))
        return range(self.running_since + interval, until + 1, interval)

    def offset_position(self, time: int) -> int | None:
        """Return the position of the origin, or None before the end of the run or if it read nothing."""
        if not 0 < self.finished_at(time) <= time:
            return None
        read = self.counts(time).input // max(1, self.run.instances)
        return self.run.offset_base + read if read else None

    def _running_ms(self, until: int) -> int:
        """Return how long the pipeline processed records; it pauses while its engine is lost."""
        lost = max(0, min(until, self.lost_until) - self.lost_from)
        return max(0, until - self.running_since - lost)


MINUTE = 60.0


class MetricsSample:
    """
    The counts and rates of a run at a point in time.

    :param run_state: the run.
    :param at: the time in epoch milliseconds.
    :param instance: index of one pipeline instance; None for the total of all instances.
    """

    def __init__(self, run_state: RunState, at: int, instance: int | None = None) -> None:
        self.at = at
        self.since = run_state.running_since
        self._run_state = run_state
        self._instance = instance
        self._until = min(at, run_state.pipeline_ended)
        self.counts = self.counts_at(at)

    def counts_at(self, time: int) -> Counts:
        """Return the counts at another time."""
        counts = self._run_state.counts(time)
        return counts if self._instance is None else counts.share(self._instance, self._run_state.run.instances)

    def rate(self, count: Callable[[Counts], int], seconds: float | None = None) -> float:
        """
        Return a rate per second.

        :param count: selects the count.
        :param seconds: length of the period before the time of the sample, or before the end of the pipeline if it
            has ended; None for the period since the start of the pipeline.
        """
        begin = self.since if seconds is None else max(self.since, self._until - round(seconds * 1000))
        counted = count(self.counts_at(self._until)) - count(self.counts_at(begin))
        return counted * 1000 / max(1, self._until - begin)
