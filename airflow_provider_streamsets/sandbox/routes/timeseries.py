"""Time Series: saved metrics of jobs."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.http import Query, answer, world_of
from airflow_provider_streamsets.sandbox.wire.metrics import metrics_body
from airflow_provider_streamsets.sandbox.wire.record_counts import record_counts_body

router = APIRouter(prefix="/timeseries/rest")


@router.get("/v1/metrics/job/{job_id}/recordCountsForAllRuns")
async def read_record_counts(request: Request, job_id: str) -> Response:
    """Return the record counts of all runs of a job."""
    world = world_of(request)
    return answer(record_counts_body(world, world.job(job_id), world.clock.now(), Query(request).text("sdcId")))


@router.get("/v1/metrics/job/{job_id}/latestMetrics")
async def read_latest_metrics(request: Request, job_id: str) -> Response:
    """Return the saved metrics of a job's latest run."""
    world = world_of(request)
    job = world.job(job_id)
    counts = world.saved_counts(job.latest, world.clock.now()) if job.latest else None
    return answer(metrics_body(world, job, job.latest, counts))
