"""Progress of active runs, for the log."""

from __future__ import annotations

from collections.abc import Iterable

Counts = tuple[int, int, int]
"""Numbers of input, output and error records."""

# Share of an interval by which a line may be too early: polls are not exactly on time.
_TOLERANCE = 0.1


def has_passed(interval: float, seconds: float) -> bool:
    """Return whether an interval between two texts has passed after so many seconds."""
    return seconds >= interval * (1 - _TOLERANCE)


def sum_counts(counts: Iterable[Counts]) -> Counts:
    """Return the sums of the record counts of several runs."""
    totals = [0, 0, 0]
    for entry in counts:
        for position, count in enumerate(entry):
            totals[position] += count
    return totals[0], totals[1], totals[2]


def describe_counts(counts: Counts) -> str:
    """Return record counts as text."""
    return f"{counts[0]:,} records in, {counts[1]:,} out, {counts[2]:,} errors"


def describe_completion(number: int, done: int, failed: int, *, until_active: bool) -> str:
    """
    Return for how many runs a wait is over.

    :param number: number of runs
    :param done: for how many the wait is over
    :param failed: how many of these have failed
    :param until_active: whether the wait is for active runs
    """
    failures = f" ({failed} failed)" if failed else ""
    return f"{done} of {number} runs {'are active or have ended' if until_active else 'have ended'}{failures}"


class Progress:
    """Record counts of one or several runs as text, with the throughput since the previous text."""

    # A triggerer can hold thousands of them.
    __slots__ = ("_at", "_input_count")

    def __init__(self) -> None:
        self._at: float | None = None
        self._input_count = 0

    def is_due(self, now: float, interval: float) -> bool:
        """
        Return whether the next text is due.

        :param now: clock in seconds
        :param interval: minimum seconds between two texts; 0 for none
        """
        return bool(interval) and (self._at is None or has_passed(interval, now - self._at))

    def describe(self, counts: Counts, now: float) -> str:
        """
        Return the counts and the throughput as text; empty the first time.

        :param counts: the current counts
        :param now: clock in seconds
        """
        previous, since = self._input_count, self._at
        self._at, self._input_count = now, counts[0]
        if since is None:
            return ""
        throughput = max(counts[0] - previous, 0) / (now - since)
        return f"{describe_counts(counts)}, {throughput:,.0f} records/s"
