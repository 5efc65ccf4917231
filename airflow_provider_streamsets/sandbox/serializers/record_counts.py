"""Record counts of the runs of a job."""

from __future__ import annotations

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.run_state import MINUTE, MetricsSample
from airflow_provider_streamsets.sandbox.backend.runs import Run
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.serializers.schemas import Json


def record_counts_body(backend: ControlHubBackend, job: Job, now: int, engine_id: str | None = None) -> Json:
    """Return the record counts of all runs; the latest run has key ``"0"`` and no run count."""
    entries = [
        {**entry, "runCount": run.run_count}
        for run in reversed(job.runs)
        if (entry := _entry(backend, job, run, now, engine_id)) is not None
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


def _entry(backend: ControlHubBackend, job: Job, run: Run, now: int, engine_id: str | None) -> Json | None:
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
