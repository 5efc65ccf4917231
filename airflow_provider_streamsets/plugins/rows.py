"""The JSON of the pages: runs as Airflow has stored them, and with their status in Control Hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import redact

from airflow_provider_streamsets.control_hub import ControlHubClient, JobRun
from airflow_provider_streamsets.control_hub.models import RecordCountSample, StatusSnapshot
from airflow_provider_streamsets.plugins.hub_reader import RunDetails
from airflow_provider_streamsets.task_runs import StoredResult, TaskRuns

FILTER_STATES = ("waiting", "succeeded", "failed", "stopped", "unknown")
"""States of runs as stored: awaited by their task, ended, or unknown. With its status, a run can be ``active``, too."""

_ENDED = {"SUCCEEDED": "succeeded", "FAILED": "failed", "STOPPED": "stopped"}
_STATUS_WORDS = {
    "ACTIVATING": "Starting",
    "ACTIVE": "Running",
    "DEACTIVATING": "Stopping",
    "INACTIVE": "Ended",
    "INACTIVE_ERROR": "Failed",
    "ACTIVATION_ERROR": "Failed",
}
_NO_RESULT = StoredResult("")
# The page of an engine is seen in public applications, but not verified (contract section 18.27).
_ENGINE_PAGE = "{hub}/sch/jobRunner/engines/dataCollectors/{engine_id}"


def stored_state(task: TaskRuns, job_id: str) -> str:
    """Return the state of a run as its task has stored it: one of :data:`FILTER_STATES`."""
    result = task.results.get(job_id)
    if result is not None:
        return _ENDED[result.outcome]
    return "waiting" if task.is_waiting else "unknown"


def stored_row(task: TaskRuns, job_id: str) -> dict[str, Any]:
    """Return a run as its task has stored it."""
    result, state = task.results.get(job_id, _NO_RESULT), stored_state(task, job_id)
    run_count = result.run_count or task.run_counts.get(job_id)
    return {
        **vars(task.key),
        "task_state": task.state,
        "conn_id": task.conn_id,
        "job_id": job_id,
        "job_name": result.job_name,
        "job_url": None,
        "run_count": run_count,
        "status": result.status,
        "color": result.color,
        "state": state,
        "outcome": state.capitalize() if run_count else "Not started yet" if task.is_waiting else "No run",
        "started": result.started,
        "finished": result.finished,
        "duration": result.duration,
        "input": result.input_count,
        "output": result.output_count,
        "errors": result.error_count,
        "error_message": redact(result.error_message),
        "is_live": False,
    }


def describe_status(run: JobRun) -> str:
    """Return the status of a run in words."""
    words = _STATUS_WORDS.get(run.status, run.status)
    if run.has_ended:
        return "Failed" if run.color == "RED" else words
    return f"{words} with a problem" if run.color == "RED" else words


def live_row(row: Mapping[str, Any], latest: StatusSnapshot | None) -> dict[str, Any]:
    """
    Return a stored row with the status of its job.

    :param row: what :func:`stored_row` has returned, of a run with a number and without an outcome
    :param latest: latest run of the job; None if it never ran
    """
    run_count = row["run_count"]
    if latest is None or latest.run_count < run_count:
        return {**row, "outcome": "Not started yet", "is_live": True}
    run = latest.to_run()
    # A task follows its run across an upgrade of the active job; the details show whether this is its successor.
    if run.run_count > run_count:
        return {**row, "outcome": f"Followed by run {run.run_count}", "is_live": True}
    return {**row, **_status_fields(run), "state": _live_state(row["state"], run), "is_live": True}


def _live_state(stored: str, run: JobRun) -> str:
    if stored == "waiting":
        return stored
    if not run.has_ended:
        return "active"
    return "unknown" if run.is_success else "failed"


def _status_fields(run: JobRun) -> dict[str, Any]:
    counts: tuple[int | None, ...] = run.counts if run.has_counts or not run.has_ended else (None, None, None)
    return {
        "status": run.status,
        "color": run.color or None,
        "outcome": describe_status(run),
        "started": _iso(run.start_time),
        "finished": _iso(run.finish_time),
        "duration": _duration(run),
        "input": counts[0],
        "output": counts[1],
        "errors": counts[2],
    }


def _duration(run: JobRun) -> float | None:
    if run.duration is not None or run.start_time is None or run.has_ended:
        return run.duration
    return max((pendulum.now("UTC") - run.start_time).total_seconds(), 0.0)


def _iso(time: pendulum.DateTime | None) -> str | None:
    return time.to_iso8601_string() if time else None


def detailed_row(
    row: Mapping[str, Any], details: RunDetails, client: ControlHubClient, *, parameters: object, may_edit: bool
) -> dict[str, Any]:
    """
    Return a row with all details.

    :param row: what :func:`stored_row` has returned
    :param details: the details from Control Hub
    :param client: the client of the connection, for links
    :param parameters: runtime parameters of the task
    :param may_edit: whether the user may stop the run and acknowledge its error
    """
    job, run = details.job, details.run
    fields = {**_status_fields(run), "state": _live_state(str(row["state"]), run)}
    if details.outcome is not None:
        fields["state"] = _ENDED[details.outcome.outcome.value]
        by = details.outcome.stopped_by
        fields["outcome"] = fields["state"].capitalize() + (f" by {by}" if by and fields["state"] == "stopped" else "")
    if details.counts is not None:
        counts = details.counts
        fields |= {"input": counts.input_count, "output": counts.output_count, "errors": counts.error_count}
    is_latest = details.latest.run_count == run.run_count
    own_parameters = parameters if isinstance(parameters, Mapping) else {}
    return {
        **row,
        **fields,
        "job_name": job.name,
        "job_url": client.job_url(job.job_id),
        "run_count": run.run_count,
        "is_live": True,
        "error_message": redact(run.error_message or run.problem or row["error_message"]) or None,
        "description": job.description or None,
        # There is no known address of a pipeline's page.
        "pipeline": {"name": job.pipeline_name, "version": run.pipeline_version or job.pipeline_version},
        "engines": [_engine(details, engine_id, client) for engine_id in run.engine_ids],
        "parameters": redact({**job.runtime_parameters, **own_parameters}),
        "series": {
            "source": "time_series" if details.samples else None,
            "points": _points(details.samples),
        },
        "stages": [
            {
                "name": stage.name,
                "input": stage.input_count,
                "output": stage.output_count,
                "errors": stage.error_count,
                "stage_errors": stage.stage_errors_count,
            }
            for stage in details.stages
        ],
        "events": [
            {"time": _iso(event.time), "status": event.status, "user": event.user, "message": redact(event.message)}
            for event in details.events
        ],
        "earlier": [
            {
                "run_count": earlier.run_count,
                **_status_fields(earlier),
                "state": "unknown" if earlier.is_success else "failed",
            }
            for earlier in details.earlier
        ],
        "actions": {
            "stop": may_edit and is_latest and not run.has_ended and run.status != "DEACTIVATING",
            "acknowledge": may_edit and is_latest and run.status == "INACTIVE_ERROR",
        },
        "problems": [redact(problem) for problem in details.problems],
    }


def _points(samples: Iterable[RecordCountSample]) -> list[dict[str, Any]]:
    """Return the points of a plot. The counts only grow, so a missing one is that of the point before."""
    points: list[dict[str, Any]] = []
    last: dict[str, int] = {"input": 0, "output": 0, "errors": 0}
    for sample in samples:
        counts = {"input": sample.input_count, "output": sample.output_count, "errors": sample.error_count}
        last |= {name: count for name, count in counts.items() if count is not None}
        points.append({"time": _iso(sample.time), **last})
    return points


def _engine(details: RunDetails, engine_id: str, client: ControlHubClient) -> dict[str, Any]:
    engine = details.engines.get(engine_id)
    pipeline = next((one for one in details.run.engine_pipelines if one.engine_id == engine_id), None)
    return {
        "id": engine_id,
        "name": engine.url if engine else engine_id,
        "url": _ENGINE_PAGE.format(hub=client.base_url, engine_id=engine_id),
        "status": pipeline.status if pipeline else None,
        "message": redact(pipeline.message) if pipeline else None,
    }
