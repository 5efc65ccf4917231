"""Saved and live metrics of a run."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
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
