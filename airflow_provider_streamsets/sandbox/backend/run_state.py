"""
The state of a run as a function of time.

A :class:`~airflow_provider_streamsets.sandbox.backend.runs.Run` holds the user actions and their times. Status, color,
events, record counts and saved metrics are computed from them for any given time. Later actions never change the state
at an earlier time.
"""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_streamsets.sandbox.backend.runs import FINAL_STATUSES, NEVER, Counts, Event, Phase, Run
from airflow_provider_streamsets.sandbox.backend.timeline import RunTimeline
from airflow_provider_streamsets.sandbox.backend.variants import Variants


class RunState:
    """
    The state of a run at any time, given its user actions so far.

    :param run: the run.
    :param variants: behaviour where the behaviour of Control Hub is unknown.
    """

    def __init__(self, run: Run, variants: Variants) -> None:
        self.run = run
        self._variants = variants
        self._timeline = timeline = RunTimeline(run, variants)
        self.phases = timeline.phases
        self.commands = timeline.commands
        self.running_since = timeline.running_since
        self.natural_end = timeline.natural_end
        self.pipeline_ended = timeline.pipeline_ended

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

    def is_lost(self, time: int) -> bool:
        """Return whether Control Hub has lost the connection to the engine of the run."""
        current = self.phase_at(time)
        return current.lost_since is not None and current.status not in FINAL_STATUSES

    def counts(self, time: int) -> Counts:
        """Return the records processed up to a time, as counted by the engine."""
        timeline, behaviour = self._timeline, self.run.behaviour
        if behaviour.start_error is not None:
            return Counts(at=time, input=0, error=0, stage_errors=0)
        until = min(time, timeline.natural_end, timeline.stopped_at)
        if behaviour.ends_after is not None and until >= timeline.natural_end:
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
        timeline = self._timeline
        times = [time for time in thinned if not timeline.lost_from < time < timeline.lost_until]
        return [*times, final] if begin <= final <= end else times

    def _final_save(self) -> int | None:
        """Return when the final metrics are saved, or None if no metrics are ever saved."""
        run = self.run
        if not run.behaviour.saves_metrics or run.behaviour.start_error is not None:
            return None
        return min(NEVER, self._timeline.pipeline_ended + run.scaled_ms(self._variants.metrics_lag))

    def _regular_saves(self, time: int) -> range:
        """Return the times up to the given one at which metrics are saved while the pipeline runs."""
        timeline, run = self._timeline, self.run
        until = min(time, timeline.natural_end, timeline.stopped_at)
        if timeline.lost_from <= until < timeline.lost_until:
            until = timeline.lost_from
        interval = max(1, run.scaled_ms(run.stats_interval / 1000))
        return range(timeline.running_since + interval, until + 1, interval)

    def offset_position(self, time: int) -> int | None:
        """Return the position of the origin, or None before the end of the run or if it read nothing."""
        if not 0 < self.finished_at(time) <= time:
            return None
        read = self.counts(time).input // max(1, self.run.instances)
        return self.run.offset_base + read if read else None

    def _running_ms(self, until: int) -> int:
        """Return how long the pipeline processed records; it pauses while its engine is lost."""
        timeline = self._timeline
        lost = max(0, min(until, timeline.lost_until) - timeline.lost_from)
        return max(0, until - timeline.running_since - lost)
