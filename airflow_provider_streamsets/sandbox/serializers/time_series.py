"""Time series of what the runs of a job counted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.jobs import Job
from airflow_provider_streamsets.sandbox.backend.rates import MINUTE, Measure
from airflow_provider_streamsets.sandbox.backend.runs import Counts
from airflow_provider_streamsets.sandbox.serializers.schemas import Json

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


BATCH_SECONDS = 0.05

Count = Callable[[Counts], int]


@dataclass(frozen=True)
class Measurement:
    """Something that is counted, and the name that its series has."""

    series: str
    count: Count


MEASUREMENTS = {
    "PIPELINE_BATCH_COUNT_METER": Measurement("pipeline_batchCount_meter", lambda counts: counts.batches),
    "PIPELINE_BATCH_INPUT_RECORDS_METER": Measurement("pipeline_batchInputRecords_meter", lambda counts: counts.input),
    "PIPELINE_BATCH_OUTPUT_RECORDS_METER": Measurement(
        "pipeline_batchOutputRecords_meter", lambda counts: counts.output
    ),
    "PIPELINE_BATCH_ERROR_RECORDS_METER": Measurement("pipeline_batchErrorRecords_meter", lambda counts: counts.error),
    "STAGE_BATCH_PROCESSING_TIMER": Measurement("stage_batchProcessing_timer", lambda counts: counts.batches),
}
RECORDS = (
    "PIPELINE_BATCH_INPUT_RECORDS_METER",
    "PIPELINE_BATCH_OUTPUT_RECORDS_METER",
    "PIPELINE_BATCH_ERROR_RECORDS_METER",
)
COLUMNS: dict[str, Callable[[Measure, Count], float]] = {
    "count": lambda measure, count: count(measure.counts),
    "m1_rate": lambda measure, count: measure.rate(count, MINUTE),
    "mean": lambda measure, count: BATCH_SECONDS,
}


def series_body(
    world: World,
    job: Job,
    measurement: Measurement,
    columns: Sequence[str],
    window: Window,
    engine_id: str | None = None,
    version: str | None = None,
) -> Json:
    """
    Return the answer to one query: one series, or none if nothing was saved.

    :param world: the world.
    :param job: the job; it has time series only if it says so.
    :param measurement: what to count.
    :param columns: names of :data:`COLUMNS`.
    :param window: when.
    :param engine_id: only from this engine.
    :param version: only of this pipeline version.
    """
    values: list[list[Any]] = []
    if job.seed.time_series:
        measures = list(_measures(world, job, window, engine_id, version))[-window.most :]
        values = [
            [_time(measure.at), *(float(COLUMNS[column](measure, measurement.count)) for column in columns)]
            for measure in measures
        ]
    series = [{"name": measurement.series, "columns": ["time", *columns], "values": values, "tags": None}]
    return {"series": series if values else [], "error": None}


def _measures(world: World, job: Job, window: Window, engine_id: str | None, version: str | None) -> Iterator[Measure]:
    for run in job.runs:
        if version and version != run.version:
            continue
        life = world.lifecycle(run)
        for at in life.saves(window.begin, min(window.end, world.clock.now()), window.most):
            engine_ids = run.engine_ids_at(at)
            if not engine_id:
                yield Measure(life, at)
            elif engine_id in engine_ids:
                yield Measure(life, at, engine_ids.index(engine_id))


def _time(at: int) -> str:
    """Return a time as the time series service writes it, without zeros at the end."""
    seconds, milliseconds = divmod(at, 1000)
    whole = datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    return whole + f".{milliseconds:03}".rstrip("0.") + "Z"
