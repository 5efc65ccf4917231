"""How much is waited for, and how often it is looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass

_IDS_PER_REQUEST = 250


@dataclass(frozen=True)
class Plan:
    """
    What one measurement does.

    :param waits: number of deferred tasks, each of which waits for the run of a job of its own
    :param finishing: how many of the runs end within the same second
    :param interval: seconds between two looks of one task
    :param intervals: for how many of these requests and CPU are measured
    """

    waits: int
    finishing: int
    interval: float
    intervals: int

    @property
    def seconds(self) -> float:
        """How long requests and CPU are measured."""
        return self.interval * self.intervals

    @property
    def requests_goal(self) -> int:
        """Requests that the triggerer may send in one interval, whatever they are."""
        return math.ceil(self.waits / _IDS_PER_REQUEST)

    @property
    def median_goal(self) -> float:
        """Seconds from the end of a run to its event, in the median."""
        return self.interval / 2 + 1

    @property
    def worst_goal(self) -> float:
        """Seconds from the end of a run to its event, at the most."""
        return self.interval + 2
