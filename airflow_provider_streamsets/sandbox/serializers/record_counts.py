"""The records that the runs of a job read and wrote."""

from __future__ import annotations

from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.jobs import Job
from airflow_provider_streamsets.sandbox.backend.rates import MINUTE, Measure
from airflow_provider_streamsets.sandbox.backend.runs import Run
from airflow_provider_streamsets.sandbox.serializers.schemas import Json


def record_counts_body(world: World, job: Job, now: int, engine_id: str | None = None) -> Json:
    """Return the record counts of all runs by key, the latest with key ``"0"`` and without its run count."""
    entries = [
        {**entry, "runCount": run.run_count}
        for run in reversed(job.runs)
        if (entry := _entry(world, job, run, now, engine_id)) is not None
    ]
    if not entries or job.latest is None:
        return {}
    variants, newest = world.variants, entries[0]["runCount"]
    is_unnumbered = newest == job.latest.run_count or variants.counts_of_latest == "previous"
    first = 0 if is_unnumbered and variants.counts_key_0 == "latest" else 1
    keyed = {
        str(first + (newest - entry["runCount"] if variants.counts_of_earlier == "gap" else position)): entry
        for position, entry in enumerate(entries)
    }
    if first == 0:
        del entries[0]["runCount"]
    return keyed


def _entry(world: World, job: Job, run: Run, now: int, engine_id: str | None) -> Json | None:
    """Return the counts of one run, None if it is not shown."""
    saved = world.saved_counts(run, now)
    if saved is None and not _shown_without_counts(world, job, run):
        return None
    # Nothing is counted yet when a run starts.
    at = saved.at if saved else run.started
    engine_ids = run.engine_ids_at(at)
    if engine_id is not None and engine_id not in engine_ids:
        return None
    measure = Measure(world.lifecycle(run), at, engine_ids.index(engine_id) if engine_id else None)
    counts = measure.counts
    return {
        "jobId": job.id,
        "organization": world.organization,
        "stageId": "PIPELINE",
        "sdcId": engine_id or engine_ids[0],
        "pipelineVersion": run.version,
        "inputCount": counts.input,
        "outputCount": counts.output,
        "errorCount": counts.error,
        "stageErrorsCount": counts.stage_errors,
        "inputM1Rate": measure.rate(lambda counts: counts.input, MINUTE),
        "outputM1Rate": measure.rate(lambda counts: counts.output, MINUTE),
        "errorM1Rate": measure.rate(lambda counts: counts.error, MINUTE),
        "stageErrorsM1Rate": measure.rate(lambda counts: counts.stage_errors, MINUTE),
        "lastUpdatedOn": saved.at if saved else world.lifecycle(run).finished_at(now) or run.started,
    }


def _shown_without_counts(world: World, job: Job, run: Run) -> bool:
    """Whether a run that saved nothing is shown, with zeros."""
    variants = world.variants
    shown = variants.counts_of_latest if run is job.latest else variants.counts_of_earlier
    return shown == "zeros" and run.behaviour.saves_metrics
