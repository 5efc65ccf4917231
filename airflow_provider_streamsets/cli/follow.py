"""Follow a run on the terminal until it has ended."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from airflow_provider_streamsets.cli.output import messages
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.errors import ControlHubError
from airflow_provider_streamsets.control_hub.models import RunRef
from airflow_provider_streamsets.control_hub.tracking.progress import describe_counts
from airflow_provider_streamsets.control_hub.tracking.run_group import RunGroup
from airflow_provider_streamsets.control_hub.tracking.wait import wait_for_runs

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubClient, Job, JobRun
    from airflow_provider_streamsets.control_hub.tracking.report import RunReport

# Latest runs whose median duration is the length of the progress bar.
_RUNS_FOR_DURATION = 10
# The bar is never full before the run has ended.
_MAX_SHARE = 0.99


def follow_run(
    client: ControlHubClient, job: Job, run: JobRun, *, timeout: float | None, poll_interval: float
) -> RunReport:
    """
    Show the status of a run until it has ended, and return its report.

    The bar shows the time of the run, compared with the median of the latest successful runs of the job.

    :param client: the client
    :param job: the job
    :param run: the run
    :param timeout: seconds to wait; None for no limit
    :param poll_interval: seconds between two polls
    :raises ControlHubRunTimeoutError: if the run has not ended in time
    :raises ControlHubError: on a fatal error, such as a rejected credential
    """
    group = RunGroup(client.with_options(max_attempts=1), [RunRef.of_job(job, run)])
    deadline = Deadline(timeout, sleep=client.sleep)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[records]}"),
    )
    with Progress(*columns, console=messages, transient=True) as progress:
        usual = _usual_duration(client, job)
        task = progress.add_task("", total=usual, records="")
        seen = ""

        def show(group: RunGroup) -> bool:
            nonlocal seen
            latest = group.latest.get(job.job_id)
            if latest is None or group.poll_failed:
                progress.update(task, description="Control Hub cannot be reached; trying again")
                return False
            state = f"Run {latest.run_count} of {job.title}: {latest.status}/{latest.color}"
            if state != seen:
                progress.console.print(state + (f": {latest.problem}" if latest.problem else ""), markup=False)
            seen = state
            elapsed = min(deadline.elapsed, usual * _MAX_SHARE) if usual else 0
            records = describe_counts(latest.counts) if latest.has_counts else ""
            progress.update(task, description=latest.status, completed=elapsed, records=records)
            return False

        wait_for_runs(group, deadline, poll_interval=poll_interval, stop_when=show)
    for error in group.unresolved.values():
        raise error
    return group.reports[job.job_id]


def _usual_duration(client: ControlHubClient, job: Job) -> float | None:
    try:
        runs = client.with_options(max_attempts=1).runs.history(job.job_id, _RUNS_FOR_DURATION)
    except ControlHubError:
        # Only the length of the bar depends on it.
        return None
    durations = [run.duration for run in runs if run.is_success and run.duration is not None]
    return statistics.median(durations) if durations else None
