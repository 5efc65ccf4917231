"""Metrics of a run: saved and live ones, record counts and time series."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.run_state import MINUTE, MetricsSample
from airflow_provider_streamsets.sandbox.backend.runs import Counts, Run
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.serializers.schemas import Json, complete

_HOUR = 60 * MINUTE
_WINDOWS = {
    "m1_rate": MINUTE, "m5_rate": 5 * MINUTE, "m15_rate": 15 * MINUTE, "m30_rate": 30 * MINUTE, "h1_rate": _HOUR,
    "h6_rate": 6 * _HOUR, "h12_rate": 12 * _HOUR, "h24_rate": 24 * _HOUR, "mean_rate": None,
}  # fmt: skip
_TIMER_WINDOWS = ("m1_rate", "m5_rate", "m15_rate", "mean_rate")
_QUANTILES = ("p50", "p75", "p95", "p98", "p99", "p999")

_PIPELINE: dict[str, Callable[[Counts], int]] = {
    "batchCount": lambda counts: counts.batches,
    "batchInputRecords": lambda counts: counts.input,
    "batchOutputRecords": lambda counts: counts.output,
    "batchErrorRecords": lambda counts: counts.error,
    "batchErrorMessages": lambda counts: counts.stage_errors,
}
_ORIGIN: dict[str, Callable[[Counts], int]] = {
    "outputRecords": lambda counts: counts.input,
    "errorRecords": lambda counts: 0,
    "stageErrors": lambda counts: 0,
}
_DESTINATION: dict[str, Callable[[Counts], int]] = {
    "inputRecords": lambda counts: counts.input,
    "outputRecords": lambda counts: counts.output,
    "errorRecords": lambda counts: counts.error,
    "stageErrors": lambda counts: counts.stage_errors,
}


def empty_metrics_body(version: str = "5.10.0") -> Json:
    """Return the ``MetricRegistryJson`` of a run without metrics."""
    return complete(
        "MetricRegistryJson",
        {"version": version, "gauges": {}, "counters": {}, "histograms": {}, "meters": {}, "timers": {}},
    )


def registry_body(
    backend: ControlHubBackend, job: Job, run: Run, now: int, engine_id: str | None = None
) -> Json | None:
    """
    Return the metrics of a run in the metric registry, or None.

    :param backend: the simulated Control Hub.
    :param job: the job.
    :param run: the run.
    :param now: the current time.
    :param engine_id: restrict the metrics to this engine.
    """
    return _saved_body(backend, job, run, backend.run_state(run).registered(now), engine_id)


def latest_metrics_body(backend: ControlHubBackend, job: Job, now: int, engine_id: str | None = None) -> Json | None:
    """
    Return the metrics of the latest run saved since the last purge, or None.

    :param backend: the simulated Control Hub.
    :param job: the job.
    :param now: the current time.
    :param engine_id: restrict the metrics to this engine.
    """
    saved = backend.saved_counts(job.latest, now) if job.latest else None
    if job.latest is None or saved is None or saved.at <= job.latest_metrics_purged_on:
        return None
    return _saved_body(backend, job, job.latest, saved, engine_id)


def _saved_body(
    backend: ControlHubBackend, job: Job, run: Run, saved: Counts | None, engine_id: str | None
) -> Json | None:
    if saved is None or (engine_id is not None and engine_id not in run.engine_ids_at(saved.at)):
        return None
    return metrics_body(backend, job, run, saved.at, engine_id)


def metrics_body(
    backend: ControlHubBackend, job: Job, run: Run, at: int, engine_id: str | None = None, *, live: bool = False
) -> Json:
    """
    Return the ``MetricRegistryJson`` of a run.

    :param backend: the simulated Control Hub.
    :param job: the job.
    :param run: the run.
    :param at: the time of the metrics.
    :param engine_id: restrict the metrics to this engine; None for the total.
    :param live: whether to include the gauges, which only live metrics have.
    """
    engine_ids = run.engine_ids_at(at)
    instance = None if engine_id is None else engine_ids.index(engine_id)
    sample = MetricsSample(backend.run_state(run), at, instance)
    origin, destination = f"stage.{job.seed.pipeline.origin}_01", f"stage.{job.seed.pipeline.destination}_01"
    lane = f"{origin}:{job.seed.pipeline.origin}_01OutputLane1"
    selectors = {
        **{f"pipeline.{name}": count for name, count in _PIPELINE.items()},
        **{f"{origin}.{name}": count for name, count in _ORIGIN.items()},
        f"{lane}.outputRecords": _ORIGIN["outputRecords"],
        **{f"{destination}.{name}": count for name, count in _DESTINATION.items()},
    }
    body = empty_metrics_body(backend.engines[engine_id or engine_ids[0]].version)
    body["counters"] = {f"{name}.counter": {"count": count(sample.counts)} for name, count in selectors.items()}
    body["meters"] = {f"{name}.meter": _meter(sample, count) for name, count in selectors.items()}
    body["histograms"] = {"pipeline.inputRecordsPerBatch.histogramM5": _histogram(sample.counts)}
    body["timers"] = {f"{name}.batchProcessing.timer": _timer(sample) for name in ("pipeline", origin, destination)}
    if live:
        body["gauges"] = {"RuntimeStatsGauge.gauge": {"value": _gauge(sample)}}
    return body


def _meter(sample: MetricsSample, count: Callable[[Counts], int]) -> Json:
    rates = {name: sample.rate(count, seconds) for name, seconds in _WINDOWS.items()}
    return {"count": count(sample.counts), **rates, "units": "events/second"}


def _histogram(counts: Counts) -> Json:
    size = _batch_size(counts)
    return {
        "count": counts.batches, "max": size, "mean": float(size), "min": size, "stddev": 0.0,
        **dict.fromkeys(_QUANTILES, float(size)),
    }  # fmt: skip


def _timer(sample: MetricsSample) -> Json:
    rates = {name: sample.rate(_PIPELINE["batchCount"], _WINDOWS[name]) for name in _TIMER_WINDOWS}
    return {
        "count": sample.counts.batches, "max": 0.9, "mean": 0.05, "min": 0.01, "p50": 0.04, "p75": 0.06, "p95": 0.1,
        "p98": 0.2, "p99": 0.3, "p999": 0.9, "stddev": 0.02, **rates,
        "duration_units": "seconds", "rate_units": "calls/second",
    }  # fmt: skip


def _gauge(sample: MetricsSample) -> Json:
    counts = sample.counts
    size = _batch_size(counts)
    errors = size * counts.error // max(1, counts.input)
    return {
        "batchCount": counts.batches,
        "idleBatchCount": 0,
        "timeOfLastReceivedRecord": sample.at if counts.input else sample.since,
        "lastBatchInputRecordsCount": size,
        "lastBatchOutputRecordsCount": size - errors,
        "lastBatchErrorRecordsCount": errors,
        "lastBatchErrorMessagesCount": size * counts.stage_errors // max(1, counts.input),
        "totalRunners": 1,
        "availableRunners": 1,
    }


def _batch_size(counts: Counts) -> int:
    return counts.input // counts.batches if counts.batches else 0


def record_counts_body(backend: ControlHubBackend, job: Job, now: int, engine_id: str | None = None) -> Json:
    """Return the record counts of all runs; the latest run has key ``"0"`` and no run count."""
    entries = [
        {**entry, "runCount": run.run_count}
        for run in reversed(job.runs)
        if (entry := _record_counts(backend, job, run, now, engine_id)) is not None
    ]
    if not entries or job.latest is None:
        return {}
    variants, newest = backend.variants, entries[0]["runCount"]
    is_unnumbered = newest == job.latest.run_count or variants.counts_of_latest == "previous"
    first = 0 if is_unnumbered and variants.counts_key_0 == "latest" else 1
    keyed = {
        str(first + (newest - entry["runCount"] if variants.counts_of_earlier == "gap" else position)): entry
        for position, entry in enumerate(entries)
    }
    if first == 0:
        del entries[0]["runCount"]
    return keyed


def _record_counts(backend: ControlHubBackend, job: Job, run: Run, now: int, engine_id: str | None) -> Json | None:
    """Return the counts of a run, or None if it is not listed."""
    saved = backend.saved_counts(run, now)
    if saved is None and not _is_listed_with_zeros(backend, job, run):
        return None
    # All counts are zero at the start of a run.
    at = saved.at if saved else run.started
    engine_ids = run.engine_ids_at(at)
    if engine_id is not None and engine_id not in engine_ids:
        return None
    sample = MetricsSample(backend.run_state(run), at, engine_ids.index(engine_id) if engine_id else None)
    counts = sample.counts
    return {
        "jobId": job.id,
        "organization": backend.organization,
        "stageId": "PIPELINE",
        "sdcId": engine_id or engine_ids[0],
        "pipelineVersion": run.version,
        "inputCount": counts.input,
        "outputCount": counts.output,
        "errorCount": counts.error,
        "stageErrorsCount": counts.stage_errors,
        "inputM1Rate": sample.rate(lambda counts: counts.input, MINUTE),
        "outputM1Rate": sample.rate(lambda counts: counts.output, MINUTE),
        "errorM1Rate": sample.rate(lambda counts: counts.error, MINUTE),
        "stageErrorsM1Rate": sample.rate(lambda counts: counts.stage_errors, MINUTE),
        "lastUpdatedOn": saved.at if saved else backend.run_state(run).finished_at(now) or run.started,
    }


def _is_listed_with_zeros(backend: ControlHubBackend, job: Job, run: Run) -> bool:
    """Return whether a run without saved counts is listed with zeros."""
    variants = backend.variants
    variant = variants.counts_of_latest if run is job.latest else variants.counts_of_earlier
    return variant == "zeros" and run.behaviour.saves_metrics


_WINDOW_UNITS = {"M": 60_000, "H": 3_600_000, "D": 86_400_000}


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
    return Window(now - int(last[1]) * _WINDOW_UNITS[last[2]], now, limit)


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
