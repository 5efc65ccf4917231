"""The ways of waiting that are compared."""

from __future__ import annotations

import enum


class Contender(str, enum.Enum):
    """One way of waiting for many runs in one process."""

    PROVIDER = "provider"
    """This provider's trigger, once for each run."""
    LOOPS = "loops"
    """A trigger for each run with a poll loop and an asynchronous HTTP session of its own."""
    THREADS = "threads"
    """The official SDK's wait in a thread for each run."""
    EMPTY = "empty"
    """A trigger for each run that does nothing: what waiting costs in Airflow anyway."""

    @property
    def heading(self) -> str:
        """The contender as a column of a table."""
        return {
            Contender.PROVIDER: "provider",
            Contender.LOOPS: "a loop for\neach trigger",
            Contender.THREADS: "the SDK's wait\nin threads",
            Contender.EMPTY: "empty triggers",
        }[self]


MOST_THREADS = 100
"""More threads than these nobody would give to waiting."""


def contenders_for(runs: int) -> list[Contender]:
    """Return the ways in which so many runs can be waited for."""
    contenders = [Contender.PROVIDER, Contender.LOOPS]
    return [*contenders, Contender.THREADS] if runs <= MOST_THREADS else contenders
