"""When runs have to end for the delays to be neither lucky nor unlucky."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

_CANDIDATES = 200


def fair_moment(looks: Sequence[float], interval: float, earliest: float) -> float:
    """
    Return a moment after which a look comes in half an interval, on average over the looks.

    A few looks share the interval, each of which sees some of the jobs. What ends just before one of them is noticed
    sooner than what ends just after it, so that chance would decide whether the median is within its goal.

    :param looks: when there were looks lately; each is repeated once in an interval
    :param interval: seconds
    :param earliest: the first moment that is possible
    """
    candidates = [earliest + interval * number / _CANDIDATES for number in range(_CANDIDATES)]
    return min(candidates, key=lambda moment: abs(mean((look - moment) % interval for look in looks) - interval / 2))
