"""
One run of a job as a function of time.

A :class:`~airflow_provider_streamsets.sandbox.runs.Run` holds what was asked, each with its time. Everything
else follows from that and from the time one looks: status, color, events, records, saved metrics. What is
asked later never changes what was to be seen before.
"""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_streamsets.sandbox.backend.runs import ENDED, NEVER, Counts, Event, Phase, Run
from airflow_provider_streamsets.sandbox.backend.timeline import Course
from airflow_provider_streamsets.sandbox.backend.variants import Variants


class Lifecycle:
    """
    What a run shows at any time, as far as it is determined by what has been asked up to now.

    :param run: the run.
    :param variants: which of the plausible courses to take.
    """

    def __init__(self, run: Run, variants: Variants) -> None:
        self.run = run
        self._variants = variants
        self._course = course = Course(run, variants)
        self.phases = course.phases
        self.commands = course.commands
        self.running_from = course.running_from
        self.own_end = course.own_end
        self.pipeline_ended = course.pipeline_ended

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
        events += [
            Event(move.at, self.at(move.at).status, move.text, None) for move in self.run.moves if move.at <= time
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
        course, behaviour = self._course, self.run.behaviour
        if behaviour.start_error is not None:
            return Counts(at=time, input=0, error=0, stage_errors=0)
        halt = min(course.own_end, course.stopped_at)
        until = min(time, halt)
        if behaviour.ends_after is not None and until >= course.own_end:
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
        final = self._final_save()
        if final is None:
            return None
        if final <= time:
            return self.counts(final)
        saves = self._regular_saves(time)
        return self.counts(saves[-1]) if saves else None

    def registered(self, time: int) -> Counts | None:
        """Return the records in the registry: those saved by a time, and the final ones once the run has ended."""
        final, ended = self._final_save(), self.finished_at(time)
        if final is not None and final < NEVER and ended:
            return self.counts(ended)
        return self.saved(time)

    def saves(self, begin: int, end: int, most: int) -> list[int]:
        """
        Return when the hub saved metrics, oldest first.

        :param begin: since when.
        :param end: until when.
        :param most: how many at most: of too many, some in between are left out.
        """
        final = self._final_save()
        if final is None:
            return []
        regular = self._regular_saves(end)
        regular = regular[max(0, -((regular.start - begin) // regular.step)) :]
        # Counted from the end, so that the newest is never left out.
        thinned = regular[:: -max(1, -(-len(regular) // most))][::-1]
        course = self._course
        times = [time for time in thinned if not course.lost_from < time < course.lost_until]
        return [*times, final] if begin <= final <= end else times

    def _final_save(self) -> int | None:
        """Return when the last metrics are saved, after the pipeline's end; None if none are ever saved."""
        run = self.run
        if not run.behaviour.saves_metrics or run.behaviour.start_error is not None:
            return None
        return min(NEVER, self._course.pipeline_ended + run.lasting(self._variants.metrics_lag))

    def _regular_saves(self, time: int) -> range:
        """Return when metrics are saved up to a time while the pipeline runs."""
        course, run = self._course, self.run
        until = min(time, course.own_end, course.stopped_at)
        if course.lost_from <= until < course.lost_until:
            until = course.lost_from
        interval = max(1, run.lasting(run.stats_interval / 1000))
        return range(course.running_from + interval, until + 1, interval)

    def offset_position(self, time: int) -> int | None:
        """Return how far the origin has come, None before the run's end or if it read nothing."""
        if not 0 < self.finished_at(time) <= time:
            return None
        read = self.counts(time).input // max(1, self.run.instances)
        return self.run.offset_base + read if read else None

    def _running_ms(self, until: int) -> int:
        """Return for how long the pipeline processed records; while its engine is lost it stands still."""
        course = self._course
        lost = max(0, min(until, course.lost_until) - course.lost_from)
        return max(0, until - course.running_from - lost)
