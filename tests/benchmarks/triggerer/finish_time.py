"""Choose a finish time that does not bias the measured delays."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

_CANDIDATES = 200


def unbiased_finish_time(polls: Sequence[float], interval: float, earliest: float) -> float:
    """
    Return a time from which the next poll is half an interval away, on average over all polls.

    Each interval contains several polls, each of which covers some of the jobs. The delay depends on the time between
    the end of a run and the next poll, so a random finish time would decide whether the median meets its goal.

    :param polls: times of the latest polls, each of which repeats once per interval
    :param interval: poll interval in seconds
    :param earliest: earliest possible finish time
    """
    candidates = [earliest + interval * number / _CANDIDATES for number in range(_CANDIDATES)]
    return min(candidates, key=lambda time: abs(mean((poll - time) % interval for poll in polls) - interval / 2))
