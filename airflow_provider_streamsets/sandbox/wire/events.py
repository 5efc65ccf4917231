"""What happened in a run: its history and its log."""

from __future__ import annotations

from airflow_provider_streamsets.sandbox.runs import Run
from airflow_provider_streamsets.sandbox.schemas import Json, complete
from airflow_provider_streamsets.sandbox.seed import make_id
from airflow_provider_streamsets.sandbox.world import Job, World


def event_bodies(world: World, run: Run, now: int) -> list[Json]:
    """Return the run events, not in order of time: clients must sort."""
    bodies = [
        complete(
            "JobStatusHistoryJson",
            {
                "user": event.user,
                "time": event.at,
                "message": event.message,
                "status": event.status,
                "jobStatusId": run.id,
            },
        )
        for event in world.lifecycle(run).events(now)
    ]
    return bodies[:-2] + bodies[-2:][::-1]


def log_message_bodies(world: World, job: Job, run: Run, now: int) -> list[Json]:
    """Return log messages about a run, oldest first."""
    events = [event for event in world.lifecycle(run).events(now) if event.user is None]
    return [
        complete(
            "JobLogMessage",
            {
                "optimisticLockVersion": 0,
                "id": f"{make_id('log', run.id, str(event.at), event.message)}:{world.organization}",
                "jobId": job.id,
                "runCount": run.run_count,
                "component": "pipeline",
                "logLevel": "ERROR" if "_ERROR'" in event.message else "INFO",
                "logMessage": event.message,
                "logTimestamp": event.at,
            },
        )
        for event in events
    ]
