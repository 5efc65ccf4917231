"""The records that the runs of a job read and wrote."""

from __future__ import annotations

from airflow_provider_streamsets.sandbox.runs import Counts, Run
from airflow_provider_streamsets.sandbox.schemas import Json
from airflow_provider_streamsets.sandbox.world import Job, World


def record_counts_body(world: World, job: Job, now: int, engine_id: str | None = None) -> Json:
    """Return the record counts of all runs, the latest as entry ``"0"`` without its run count."""
    entries: list[Json] = []
    for run in reversed(job.runs):
        if engine_id and engine_id not in run.engine_ids:
            continue
        counts = world.saved_counts(run, now) or _zeros(world, job, run, now)
        if counts is not None:
            entries.append({**_record_counts(world, job, run, counts, engine_id), "runCount": run.run_count})
    latest = bool(entries) and job.latest is not None and entries[0]["runCount"] == job.latest.run_count
    first = 0 if latest or world.variants.counts_of_latest == "previous" else 1
    for entry in entries[: 1 - first]:
        del entry["runCount"]
    return {str(index): entry for index, entry in enumerate(entries, start=first)}


def _record_counts(world: World, job: Job, run: Run, counts: Counts, engine_id: str | None) -> Json:
    share = run.instances if engine_id else 1
    seconds = max(1e-3, min(60.0, (counts.at - run.started) / 1000))

    def rate(count: int) -> float:
        return count / share / seconds

    return {
        "jobId": job.id,
        "organization": world.organization,
        "stageId": "PIPELINE",
        "sdcId": engine_id or run.engine_ids[0],
        "pipelineVersion": run.version,
        "inputCount": counts.input // share,
        "outputCount": counts.output // share,
        "errorCount": counts.error // share,
        "stageErrorsCount": counts.stage_errors // share,
        "inputM1Rate": rate(counts.input),
        "outputM1Rate": rate(counts.output),
        "errorM1Rate": rate(counts.error),
        "stageErrorsM1Rate": rate(counts.stage_errors),
        "lastUpdatedOn": counts.at,
    }


def _zeros(world: World, job: Job, run: Run, now: int) -> Counts | None:
    """Return the counts shown for a run that saved none, None if it is not shown."""
    variants = world.variants
    shown = variants.counts_of_latest if run is job.latest else variants.counts_of_earlier
    if shown != "zeros" or not run.behaviour.saves_metrics:
        return None
    return Counts(at=world.lifecycle(run).finished_at(now) or run.started, input=0, error=0, stage_errors=0)
