"""Spans of time, as the time series service names them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_provider_streamsets.sandbox.problems import bad_request

_UNITS = {"M": 60_000, "H": 3_600_000, "D": 86_400_000}


@dataclass(frozen=True)
class Window:
    """A span of time in epoch milliseconds, both ends included, and how many points at most to give of it."""

    begin: int
    end: int
    most: int


def read_window(condition: str | None, now: int, begin: int, end: int, most: int) -> Window:
    """
    Return the window that a query asks for.

    :param condition: such as ``LAST_5M``, its default, or ``CUSTOM_TIME_RANGE``.
    :param now: the time.
    :param begin: begin of a custom range, 0 if it has none.
    :param end: end of a custom range, 0 if it has none.
    :param most: how many points.
    :raises ProblemError: if it makes no sense.
    """
    if most < 1:
        raise bad_request(f"limit must be at least 1, not {most}")
    condition = condition or ("CUSTOM_TIME_RANGE" if begin or end else "LAST_5M")
    if condition == "CUSTOM_TIME_RANGE":
        return Window(begin, min(end or now, now), most)
    last = re.fullmatch(r"LAST_([1-9]\d{0,3})([MHD])", condition)
    if not last:
        raise bad_request(f"timeFilterCondition must be like LAST_5M, LAST_6H, LAST_7D, not '{condition}'")
    return Window(now - int(last[1]) * _UNITS[last[2]], now, most)
