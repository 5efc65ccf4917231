"""The compared wait strategies."""

from __future__ import annotations

import enum


class Strategy(str, enum.Enum):
    """A strategy for waiting for many runs in one process."""

    PROVIDER = "provider"
    """One of this provider's triggers for each run."""
    BACKOFF = "backoff"
    """The provider's triggers without a request rate: an exponential back-off after each 429."""
    LOOPS = "loops"
    """One trigger for each run, with its own poll loop and asynchronous HTTP session."""
    THREADS = "threads"
    """The official SDK's wait in one thread for each run."""
    EMPTY = "empty"
    """One idle trigger for each run, as a baseline for Airflow's own cost."""

    @property
    def heading(self) -> str:
        """Table heading of the strategy."""
        return {
            Strategy.PROVIDER: "provider",
            Strategy.BACKOFF: "back-off only",
            Strategy.LOOPS: "one loop per\ntrigger",
            Strategy.THREADS: "SDK wait\nin threads",
            Strategy.EMPTY: "empty triggers",
        }[self]


MAX_THREADS = 100
"""Maximum number of threads; more would be unrealistic."""


def strategies_for(runs: int) -> list[Strategy]:
    """Return the strategies that support a number of runs."""
    strategies = [Strategy.PROVIDER, Strategy.LOOPS]
    return [*strategies, Strategy.THREADS] if runs <= MAX_THREADS else strategies
