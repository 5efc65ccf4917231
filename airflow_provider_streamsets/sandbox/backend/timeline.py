"""The course of a run: one phase after the other, from its start to its end."""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_streamsets.sandbox.backend.runs import NEVER, REPORTED, Ask, Command, Phase, Run
from airflow_provider_streamsets.sandbox.backend.variants import Variants


class Course:
    """
    The phases of a run, and the commands that the hub sends to the engine.

    :param run: the run.
    :param variants: which of the plausible courses to take.
    """

    def __init__(self, run: Run, variants: Variants) -> None:
        self.run = run
        self._variants = variants
        behaviour = run.behaviour
        self.running_from = run.started + run.lasting(behaviour.activation)
        self.lost_from, self.lost_until = NEVER, NEVER
        if behaviour.engine_lost_after is not None:
            self.lost_from = self.running_from + run.lasting(behaviour.engine_lost_after)
            if behaviour.engine_lost_for is not None:
                self.lost_until = self.lost_from + run.lasting(behaviour.engine_lost_for)
        self.own_end = self._own_end()
        if self.own_end <= self.lost_from:
            self.lost_from = self.lost_until = NEVER
        ends = [*run.stops, *run.force_stops] if run.superseded is None else [run.superseded]
        first_stop = min((ask.at for ask in ends), default=NEVER)
        self.stopped_at = first_stop if first_stop < self.own_end else NEVER
        self.commands: list[Command] = []
        self.pipeline_ended = NEVER
        self.phases = self._all_phases()

    def _own_end(self) -> int:
        """Return when the pipeline would end if nobody stopped it."""
        behaviour = self.run.behaviour
        if behaviour.start_error is not None:
            return NEVER if self._variants.start_failure == "stays_red" else self.running_from
        if behaviour.ends_after is None:
            return NEVER
        end = self.running_from + self.run.lasting(behaviour.ends_after / behaviour.rate)
        if end <= self.lost_from:
            return end
        return NEVER if self.lost_until == NEVER else end + self.lost_until - self.lost_from

    def _engine(self, at: int) -> str:
        return f"Data Collector '{self.run.engine_urls_at(at)[0]}'"

    def _reported(self, at: int, status: str, detail: str = "") -> str:
        return f"{self._engine(at)} {REPORTED} '{status}'{detail}"

    def _command(self, at: int, kind: str, takes: float, result: str = "SUCCESS", message: str | None = None) -> None:
        self.commands.append(Command(at, kind, at + self.run.lasting(takes), result, message))

    def _all_phases(self) -> list[Phase]:
        run = self.run
        activation = run.behaviour.activation
        first = Phase(run.started, "ACTIVATING", "GREEN", message="Job started", user=run.user)
        starting = replace(
            first, at=run.started + run.lasting(activation * 0.4), pipeline="STARTING", message=None, user=None
        )
        self._command(run.started + run.lasting(activation * 0.1), "SAVE_PIPELINE", activation * 0.2)
        self._command(run.started + run.lasting(activation * 0.3), "START_PIPELINE", activation * 0.7)
        phases = [first, starting]
        if self.stopped_at < self.running_from:
            # Only where the variant accepts a stop of an activating job.
            phases = [phase for phase in phases if phase.at <= self.stopped_at]
            return self._acknowledged(phases + self._stopping(phases[-1]))
        if run.behaviour.start_error is not None and self._variants.start_failure == "stays_red":
            refused = self._refused(starting, run.behaviour.start_error)
            return self._acknowledged([*phases, refused, *(self._stopping(refused) if self.stopped_at < NEVER else ())])
        if run.behaviour.start_error is not None:
            return self._acknowledged(phases + self._failing_at_start(starting, run.behaviour.start_error))
        running = replace(
            starting,
            at=self.running_from,
            status="ACTIVE",
            pipeline="RUNNING",
            message=self._reported(self.running_from, "RUNNING"),
        )
        phases.append(running)
        halt = min(self.own_end, self.stopped_at)
        if self.lost_from < halt:
            lost = replace(
                running,
                at=self.lost_from,
                color="RED",
                lost_since=self.lost_from,
                message=f"{self._engine(self.lost_from)} is not responding",
            )
            phases.append(lost)
            if self.lost_until < halt:
                phases.append(
                    replace(
                        running,
                        at=self.lost_until,
                        message=f"{self._engine(self.lost_until)} is responding again",
                    )
                )
        if self.stopped_at < NEVER:
            phases += self._stopping(phases[-1])
        elif self.own_end < NEVER:
            phases += self._failing(phases[-1]) if run.behaviour.fails_while_running else self._finishing(phases[-1])
        return self._acknowledged(phases)

    def _finishing(self, before: Phase) -> list[Phase]:
        self.pipeline_ended = self.own_end
        end = self.own_end + self.run.lasting(self.run.behaviour.deactivation)
        self._command(self.own_end, "STOP_DELETE_PIPELINE", self.run.behaviour.deactivation)
        done = replace(
            before,
            at=self.own_end,
            status="DEACTIVATING",
            pipeline="FINISHED",
            message=self._reported(self.own_end, "FINISHED"),
        )
        return [done, replace(done, at=end, status="INACTIVE", color="GRAY", pipeline=None, message="Job finished")]

    def _refused(self, before: Phase, error: str) -> Phase:
        self.commands[-1] = replace(self.commands[-1], result="ERROR", message=error)
        return replace(
            before, at=self.running_from, status="ACTIVE", color="RED", pipeline="START_ERROR", refusal=error
        )

    def _failing_at_start(self, before: Phase, error: str) -> list[Phase]:
        at = self.running_from
        message = self._reported(at, "START_ERROR", f": {error}")
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
        message = self._reported(self.own_end, "RUN_ERROR", f": {self.run.behaviour.error}")
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
        run, at = self.run, self.stopped_at
        if run.superseded is not None:
            return self._superseded(before, run.superseded)
        deactivation = run.behaviour.deactivation
        asked = min((*run.stops, *run.force_stops), key=lambda ask: ask.at)
        forced = min(run.force_stops, key=lambda ask: ask.at, default=None)
        stopping = replace(
            before,
            at=at,
            status="DEACTIVATING",
            refusal=None,
            pipeline="STOPPING",
            message="Job stop requested" if asked in run.stops else "Job force stop requested",
            user=asked.user,
        )
        takes = run.behaviour.stop_takes
        confirmed = at + run.lasting(deactivation * 0.6 if takes is None else takes)
        if before.lost_since is not None:
            confirmed = NEVER if self.lost_until == NEVER else self.lost_until + run.lasting(deactivation * 0.6)
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
            in_error = self._variants.forced_stop_end == "inactive_error"
            error = f"JOBRUNNER_64 - Job was force stopped: {self._engine(end)} may still run its pipeline"
            phases.append(
                replace(
                    stopping,
                    at=end,
                    status="INACTIVE_ERROR" if in_error else "INACTIVE",
                    color="RED" if in_error else "GRAY",
                    pipeline=None,
                    error=error if in_error else None,
                    lost_since=None,
                    message=error if in_error else "Job force stopped",
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
                message=self._reported(confirmed, "STOPPED"),
                user=None,
            )
            end = confirmed + run.lasting(deactivation * 0.4)
            phases += [
                stopped,
                replace(stopped, at=end, status="INACTIVE", color="GRAY", pipeline=None, message="Job stopped"),
            ]
        else:
            self.commands.append(Command(at, "STOP_PIPELINE", timed_out, "TIMEDOUT", "No answer from the engine"))
            error = f"{self._engine(timed_out)} did not confirm the stop within {run.force_stop_timeout} ms"
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

    def _superseded(self, before: Phase, upgrade: Ask) -> list[Phase]:
        """End the run at once: its successor begins at the same time."""
        self.pipeline_ended = upgrade.at
        self.commands.append(Command(upgrade.at, "STOP_PIPELINE", upgrade.at))
        requested = replace(
            before,
            at=upgrade.at,
            status="DEACTIVATING",
            color="GREEN",
            pipeline="STOPPING",
            lost_since=None,
            message="Job upgrade requested",
            user=upgrade.user,
        )
        stopped = replace(requested, pipeline="STOPPED", message=self._reported(upgrade.at, "STOPPED"), user=None)
        return [
            requested,
            stopped,
            replace(stopped, status="INACTIVE", color="GRAY", pipeline=None, message=upgrade.text),
        ]

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
