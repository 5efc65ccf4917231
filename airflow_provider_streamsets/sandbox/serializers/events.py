"""Events and log messages of a run."""

from __future__ import annotations

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.runs import Run
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.seed.models import make_id
from airflow_provider_streamsets.sandbox.serializers.schemas import Json, complete


def event_bodies(backend: ControlHubBackend, run: Run, now: int) -> list[Json]:
    """Return the run events, out of chronological order so that clients must sort them."""
    variants = backend.variants
    lag = round(variants.engine_clock_behind * 1000)
    bodies = [
        complete(
            "JobStatusHistoryJson",
            {
                "user": run.user if variants.event_users == "starter_on_all" else event.user,
                "time": event.at - lag if event.is_from_engine else event.at,
                "message": event.message,
                "status": event.status,
                "jobStatusId": run.id,
            },
        )
        for event in backend.run_state(run).events(now)
    ]
    if len({body["time"] for body in bodies[-2:]}) == 2:
        bodies[-2:] = bodies[:-3:-1]
    return bodies


def log_message_bodies(backend: ControlHubBackend, job: Job, run: Run, now: int) -> list[Json]:
    """Return the log messages of a run, oldest first."""
    events = [event for event in backend.run_state(run).events(now) if event.user is None]
    return [
        complete(
            "JobLogMessage",
            {
                "optimisticLockVersion": 0,
                "id": f"{make_id('log', run.id, str(event.at), event.message)}:{backend.organization}",
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
