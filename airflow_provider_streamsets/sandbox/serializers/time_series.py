"""Time series of record counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.run_state import MINUTE, MetricsSample
from airflow_provider_streamsets.sandbox.backend.runs import Counts
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.serializers.schemas import Json

_UNITS = {"M": 60_000, "H": 3_600_000, "D": 86_400_000}


@dataclass(frozen=True)
class Window:
    """A period in epoch milliseconds, both ends included, and the maximum number of points."""

    begin: int
    end: int
    limit: int


def read_window(condition: str | None, now: int, begin: int, end: int, limit: int) -> Window:
    """
    Return the time window of a query.

    :param condition: a condition such as ``LAST_5M``, the default, or ``CUSTOM_TIME_RANGE``.
    :param now: the current time.
    :param begin: start of a custom range, 0 if unset.
    :param end: end of a custom range, 0 if unset.
    :param limit: maximum number of points.
    :raises ApiError: if a value is invalid.
    """
    if limit < 1:
        raise bad_request(f"'limit' must be at least 1, got {limit}.")
    condition = condition or ("CUSTOM_TIME_RANGE" if begin or end else "LAST_5M")
    if condition == "CUSTOM_TIME_RANGE":
        return Window(begin, min(end or now, now), limit)
    last = re.fullmatch(r"LAST_([1-9]\d{0,3})([MHD])", condition)
    if not last:
        raise bad_request(f"'timeFilterCondition' must be like LAST_5M, LAST_6H or LAST_7D, got '{condition}'.")
    return Window(now - int(last[1]) * _UNITS[last[2]], now, limit)


BATCH_SECONDS = 0.05

Count = Callable[[Counts], int]


@dataclass(frozen=True)
class Measurement:
    """A measurement: the name of its series, and the count that it reports."""

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
COLUMNS: dict[str, Callable[[MetricsSample, Count], float]] = {
    "count": lambda sample, count: count(sample.counts),
    "m1_rate": lambda sample, count: sample.rate(count, MINUTE),
    "mean": lambda sample, count: BATCH_SECONDS,
}


def series_body(
    backend: ControlHubBackend,
    job: Job,
    measurement: Measurement,
    columns: Sequence[str],
    window: Window,
    engine_id: str | None = None,
    version: str | None = None,
) -> Json:
    """
    Return the result of a query: one series, or none if no metrics are saved.

    :param backend: the simulated Control Hub.
    :param job: the job; it has series only if time series are enabled.
    :param measurement: the measurement.
    :param columns: names of :data:`COLUMNS`.
    :param window: the time window.
    :param engine_id: restrict the series to this engine.
    :param version: restrict the series to this pipeline version.
    """
    values: list[list[Any]] = []
    if job.seed.time_series:
        samples = list(_samples(backend, job, window, engine_id, version))[-window.limit :]
        values = [
            [_format_time(sample.at), *(float(COLUMNS[column](sample, measurement.count)) for column in columns)]
            for sample in samples
        ]
    series = [{"name": measurement.series, "columns": ["time", *columns], "values": values, "tags": None}]
    return {"series": series if values else [], "error": None}


def _samples(
    backend: ControlHubBackend, job: Job, window: Window, engine_id: str | None, version: str | None
) -> Iterator[MetricsSample]:
    for run in job.runs:
        if version and version != run.version:
            continue
        run_state = backend.run_state(run)
        for at in run_state.saves(window.begin, min(window.end, backend.clock.now()), window.limit):
            engine_ids = run.engine_ids_at(at)
            if not engine_id:
                yield MetricsSample(run_state, at)
            elif engine_id in engine_ids:
                yield MetricsSample(run_state, at, engine_ids.index(engine_id))


def _format_time(at: int) -> str:
    """Format a time like the time series service, without trailing zeros."""
    seconds, milliseconds = divmod(at, 1000)
    text = datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    return text + f".{milliseconds:03}".rstrip("0.") + "Z"
