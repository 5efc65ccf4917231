"""The metrics of one run, saved or live."""

from __future__ import annotations

from airflow_provider_streamsets.sandbox.runs import Counts, Run
from airflow_provider_streamsets.sandbox.schemas import Json, complete
from airflow_provider_streamsets.sandbox.world import Job, World


def metrics_body(world: World, job: Job, run: Run | None, counts: Counts | None, gauge_at: int | None = None) -> Json:
    """
    Return a ``MetricRegistryJson``.

    :param world: the world.
    :param job: the job.
    :param run: the run.
    :param counts: what was counted; None gives an empty registry.
    :param gauge_at: for live metrics, the time they are read at.
    """
    version = world.engines[run.engine_ids[0]].version if run else "5.10.0"
    body = complete(
        "MetricRegistryJson",
        {"version": version, "gauges": {}, "counters": {}, "histograms": {}, "meters": {}, "timers": {}},
    )
    if run is None or counts is None:
        return body
    seconds = max(1e-3, (counts.at - run.started) / 1000)
    totals = {
        "pipeline.batchCount": counts.batches,
        "pipeline.batchInputRecords": counts.input,
        "pipeline.batchOutputRecords": counts.output,
        "pipeline.batchErrorRecords": counts.error,
        "pipeline.batchErrorMessages": counts.stage_errors,
    }
    origin, destination = f"{job.seed.pipeline.origin}_01", f"{job.seed.pipeline.destination}_01"
    body["counters"] = {
        **{f"{name}.counter": {"count": count} for name, count in totals.items()},
        f"stage.{origin}.outputRecords.counter": {"count": counts.input},
        f"stage.{origin}.errorRecords.counter": {"count": 0},
        f"stage.{origin}.stageErrors.counter": {"count": 0},
        f"stage.{destination}.inputRecords.counter": {"count": counts.input},
        f"stage.{destination}.outputRecords.counter": {"count": counts.output},
        f"stage.{destination}.errorRecords.counter": {"count": counts.error},
        f"stage.{destination}.stageErrors.counter": {"count": counts.stage_errors},
    }
    body["meters"] = {f"{name}.meter": _meter(count, count / seconds) for name, count in totals.items()}
    size = counts.input // counts.batches if counts.batches else 0
    body["histograms"] = {
        "pipeline.inputRecordsPerBatch.histogramM5": {
            "count": counts.batches, "max": size, "mean": float(size), "min": size, "stddev": 0.0,
            **{quantile: float(size) for quantile in ("p50", "p75", "p95", "p98", "p99", "p999")},
        }
    }  # fmt: skip
    body["timers"] = {
        "pipeline.batchProcessing.timer": {
            "count": counts.batches, "max": 0.9, "mean": 0.05, "min": 0.01, "p50": 0.04, "p75": 0.06, "p95": 0.1,
            "p98": 0.2, "p99": 0.3, "p999": 0.9, "stddev": 0.02, "m15_rate": counts.batches / seconds,
            "m1_rate": counts.batches / seconds, "m5_rate": counts.batches / seconds,
            "mean_rate": counts.batches / seconds, "duration_units": "seconds", "rate_units": "calls/second",
        }
    }  # fmt: skip
    if gauge_at is not None:
        body["gauges"] = {
            "RuntimeStatsGauge.gauge": {
                "value": {
                    "batchCount": counts.batches,
                    "idleBatchCount": 0,
                    "timeOfLastReceivedRecord": gauge_at,
                    "lastBatchInputRecordsCount": size,
                    "lastBatchOutputRecordsCount": size,
                    "lastBatchErrorRecordsCount": 0,
                    "lastBatchErrorMessagesCount": 0,
                    "totalRunners": 1,
                    "availableRunners": 1,
                }
            }
        }
    return body


def _meter(count: int, rate: float) -> Json:
    windows = ("m1_rate", "m5_rate", "m15_rate", "m30_rate", "h1_rate", "h6_rate", "h12_rate", "h24_rate", "mean_rate")
    return {"count": count, **dict.fromkeys(windows, rate), "units": "events/second"}
