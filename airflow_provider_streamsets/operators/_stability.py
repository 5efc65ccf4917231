"""Waiting for jobs that are on their way into or out of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubClient, Job
    from airflow_provider_streamsets.control_hub.tracking.run import Log

# Longer than Control Hub, by default, waits for engines to confirm a stop.
_MAX_WAIT = 300.0
_POLL_DELAY = 3.0
ACKNOWLEDGEMENT_MAX_WAIT = 60.0
# Seconds between reads after a refusal, as the run that is in the way can take a moment to show.
_REJECTION_CHECK_DELAYS = (2.0, 4.0)


def wait_until_stable(
    client: ControlHubClient,
    jobs: Iterable[Job],
    read: Callable[[ControlHubClient, list[str]], Mapping[str, Job]],
    *,
    sleep: Callable[[float], None],
    log: Log,
) -> dict[str, Job]:
    """
    Wait for jobs that are being started or stopped, and return all of them as they then are, by id.

    Control Hub refuses what is asked of a job in these states (contract, section 10.3). It takes five minutes at the
    most, and no longer than the client has; a read that fails because Control Hub cannot be reached is repeated.

    :param client: the client, which sends requests once
    :param jobs: the jobs as just read
    :param read: reads jobs again, in one request for many
    :param sleep: waits so many seconds
    :param log: the task's log
    :raises ControlHubRunTimeoutError: if the time that the client has is over before
    """
    from airflow_provider_streamsets.control_hub import ControlHubRunTimeoutError, ControlHubUnavailableError
    from airflow_provider_streamsets.control_hub._messages import join_truncated
    from airflow_provider_streamsets.control_hub.tracking.run import OutageLog

    transitional = {"ACTIVATING", "DEACTIVATING"}
    found = {job.job_id: job for job in jobs}
    ends_at, outage = time.monotonic() + _MAX_WAIT, OutageLog(log)
    while unstable := [job for job in found.values() if job.current_run and job.current_run.status in transitional]:
        if client.time_left() <= 0:
            labels = join_truncated([job.label for job in unstable])
            raise ControlHubRunTimeoutError(f"Still being started or stopped at the end of the task's time: {labels}.")
        remaining = min(ends_at - time.monotonic(), client.time_left())
        if remaining <= 0:
            break
        for job in unstable:
            log.info("Job %s is %s; waiting for it to settle.", job.label, job.current_run and job.current_run.status)
        sleep(min(_POLL_DELAY, remaining))
        try:
            found.update(read(client, [job.job_id for job in unstable]))
            outage.succeeded()
        except ControlHubUnavailableError as error:
            outage.failed(error)
    return found


def check_startable(jobs: Iterable[Job]) -> None:
    """
    Check that jobs can be started as they now are, for a task that has `if_running` and `acknowledge_errors`.

    :raises ControlHubJobStateError: if not; the message says why, and what these parameters can do about it
    """
    from airflow_provider_streamsets.control_hub import ControlHubJobStateError
    from airflow_provider_streamsets.control_hub.runs import check_all_startable

    jobs = list(jobs)
    try:
        check_all_startable(jobs)
    except ControlHubJobStateError as error:
        runs = [job.current_run for job in jobs if job.current_run is not None]
        advice = [str(error)]
        if any(not run.has_ended for run in runs):
            advice.append(
                "To have this task deal with such a run, set if_running='join', 'restart' or 'wait_then_start'."
            )
        if any(run.status == "INACTIVE_ERROR" for run in runs):
            advice.append("To have this task acknowledge such an error first, set acknowledge_errors=True.")
        raise ControlHubJobStateError(" ".join(advice)) from None


def find_jobs_started_by_others(
    jobs: Mapping[str, Job], read: Callable[[list[str]], Mapping[str, Job]], *, sleep: Callable[[float], None]
) -> dict[str, Job]:
    """
    Return the jobs that another caller has started, so that Control Hub has refused to start them.

    :param jobs: the jobs as they were before the start call, by id
    :param read: reads jobs again, in one request for many
    :param sleep: waits so many seconds
    :returns: those with a newer run as they are now, by id; empty if Control Hub has another reason
    """
    for seconds in (0.0, *_REJECTION_CHECK_DELAYS):
        sleep(seconds)
        found = read(list(jobs))
        newer = {job_id: job for job_id, job in found.items() if job.last_run_count != jobs[job_id].last_run_count}
        if newer:
            return newer
    return {}
