"""What a run had counted at a moment, all its instances or one of them, and how fast it was."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_streamsets.sandbox.backend.run_state import Lifecycle
from airflow_provider_streamsets.sandbox.backend.runs import Counts

MINUTE = 60.0


class Measure:
    """
    The counts of a run at a moment.

    :param life: the run.
    :param at: the moment.
    :param instance: only this one of its instances; None: all of them together.
    """

    def __init__(self, life: Lifecycle, at: int, instance: int | None = None) -> None:
        self.at = at
        self.since = life.running_from
        self._life = life
        self._instance = instance
        self._until = min(at, life.pipeline_ended)
        self.counts = self.counts_at(at)

    def counts_at(self, time: int) -> Counts:
        """Return what it had counted at another moment."""
        counts = self._life.counts(time)
        return counts if self._instance is None else counts.share(self._instance, self._life.run.instances)

    def rate(self, count: Callable[[Counts], int], seconds: float | None = None) -> float:
        """
        Return how many there were a second.

        :param count: of what.
        :param seconds: over how long a time before the moment, or before the pipeline's end if it has ended; None:
            since the pipeline was started.
        """
        begin = self.since if seconds is None else max(self.since, self._until - round(seconds * 1000))
        counted = count(self.counts_at(self._until)) - count(self.counts_at(begin))
        return counted * 1000 / max(1, self._until - begin)
