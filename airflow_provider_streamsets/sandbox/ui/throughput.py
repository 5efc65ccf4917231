"""The throughput of a run over time, and its plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from airflow_provider_streamsets.sandbox.backend.run_state import RunState
from airflow_provider_streamsets.sandbox.serializers.schemas import Json

MAX_INTERVALS = 60
MIN_RECORDS = 50
"""Minimum average number of records in an interval: with fewer, the plot of a steady throughput would be jagged."""
WIDTH, HEIGHT = 600, 100


def throughput_body(run_state: RunState, now: int) -> list[Json]:
    """
    Return the input records per second in intervals of equal length, as counted by the engines.

    :param run_state: the run.
    :param now: the current time.
    :return: the intervals from the start of the pipeline to its end or the current time; none before its start.
    """
    begin, end = run_state.running_since, min(now, run_state.pipeline_ended)
    if end <= begin:
        return []
    number = max(1, min(MAX_INTERVALS, run_state.counts(end).input // MIN_RECORDS, end - begin))
    times = [begin + (end - begin) * index // number for index in range(number + 1)]
    samples = [(time, run_state.counts(time).input) for time in times]
    return [
        {"begin": begin, "end": end, "records_per_second": (after - before) * 1000 / (end - begin)}
        for (begin, before), (end, after) in pairwise(samples)
    ]


@dataclass(frozen=True)
class Plot:
    """
    The plot of a throughput.

    :param path: outline of the area under the curve, as an SVG path.
    :param top: records per second at the upper edge.
    :param peak: maximum of the records per second.
    :param mean: mean of the records per second.
    """

    path: str
    top: float
    peak: float
    mean: float


def plot_throughput(intervals: Sequence[Json]) -> Plot:
    """
    Plot a throughput.

    :param intervals: one or more intervals of :func:`throughput_body`.
    """
    rates = [interval["records_per_second"] for interval in intervals]
    top = _round_up(max(rates))
    steps = [
        f"V{HEIGHT - HEIGHT * rate / top:.1f}H{WIDTH * number / len(rates):.1f}" for number, rate in enumerate(rates, 1)
    ]
    return Plot(f"M0 {HEIGHT}{''.join(steps)}V{HEIGHT}Z", top, max(rates), fmean(rates))


def _round_up(value: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value)
