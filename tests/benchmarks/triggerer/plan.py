"""Size and goals of a measurement."""

from __future__ import annotations

import math
from dataclasses import dataclass

_IDS_PER_REQUEST = 250


@dataclass(frozen=True)
class Plan:
    """
    Parameters of a measurement.

    :param waits: number of deferred tasks, each waiting for the run of its own job
    :param finishing: number of runs that end within one second
    :param interval: poll interval in seconds
    :param intervals: number of intervals in which requests and CPU time are measured
    """

    waits: int
    finishing: int
    interval: float
    intervals: int

    @property
    def seconds(self) -> float:
        """Duration of the measurement of requests and CPU time."""
        return self.interval * self.intervals

    @property
    def requests_goal(self) -> int:
        """Maximum requests of the triggerer in one interval."""
        return math.ceil(self.waits / _IDS_PER_REQUEST)

    @property
    def median_goal(self) -> float:
        """Maximum median of the seconds from the end of a run to its event."""
        return self.interval / 2 + 1

    @property
    def worst_goal(self) -> float:
        """Maximum seconds from the end of a run to its event."""
        return self.interval + 2
