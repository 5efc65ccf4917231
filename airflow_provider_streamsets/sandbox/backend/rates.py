"""Record counts and rates of a run at a point in time."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_streamsets.sandbox.backend.run_state import RunState
from airflow_provider_streamsets.sandbox.backend.runs import Counts

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
