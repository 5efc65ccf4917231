"""Waits for jobs in a transitional state, and checks whether jobs can be started."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub._messages import join_truncated
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubJobStateError,
    ControlHubRunTimeoutError,
    ControlHubUnavailableError,
)

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubClient, Job
    from airflow_provider_streamsets.control_hub.tracking.run import Log

# Seconds; longer than the default time-out of Control Hub for engines to confirm a stop.
_MAX_WAIT = 300.0
_POLL_DELAY = 3.0
ACKNOWLEDGEMENT_MAX_WAIT = 60.0
# Seconds between fetches after a rejected start: the conflicting run may not be visible at once.
_REJECTION_CHECK_DELAYS = (2.0, 4.0)


def wait_until_stable(
    client: ControlHubClient,
    jobs: Iterable[Job],
    fetch: Callable[[ControlHubClient, list[str]], Mapping[str, Job]],
    *,
    sleep: Callable[[float], None],
    log: Log,
) -> dict[str, Job]:
    """
    Wait until no job is ``ACTIVATING`` or ``DEACTIVATING``, and return the refreshed jobs by id.

    Control Hub rejects starts and stops in these states (contract sections 8 and 10.3). The wait ends after five
    minutes, or at the client's deadline if that is earlier. A fetch that fails because Control Hub is unavailable is
    repeated.

    :param client: a client that sends each request once
    :param jobs: the jobs as just fetched
    :param fetch: fetches jobs by id, in one request if possible
    :param sleep: sleeps for a number of seconds
    :param log: the task's log
    :returns: the jobs by id; after five minutes, some may still be in a transitional state
    :raises ControlHubRunTimeoutError: if the client's deadline passes first
    """
    from airflow_provider_streamsets.control_hub.tracking.run import OutageLog

    transitional = {"ACTIVATING", "DEACTIVATING"}
    current = {job.job_id: job for job in jobs}
    ends_at, outage = time.monotonic() + _MAX_WAIT, OutageLog(log)
    while unstable := [job for job in current.values() if job.current_run and job.current_run.status in transitional]:
        if client.time_left() <= 0:
            labels = join_truncated([job.label for job in unstable])
            raise ControlHubRunTimeoutError(f"The task timed out while jobs were being started or stopped: {labels}.")
        remaining = min(ends_at - time.monotonic(), client.time_left())
        if remaining <= 0:
            break
        for job in unstable:
            log.info(
                "Job %s: %s; waiting until it is active or inactive.",
                job.label,
                job.current_run and job.current_run.status,
            )
        sleep(min(_POLL_DELAY, remaining))
        try:
            current.update(fetch(client, [job.job_id for job in unstable]))
            outage.succeeded()
        except ControlHubUnavailableError as error:
            outage.failed(error)
    return current


def check_startable(jobs: Iterable[Job]) -> None:
    """
    Check that all jobs can be started in their current state.

    :raises ControlHubJobStateError: if a job cannot be started; the message suggests `if_running` and
        `acknowledge_errors` where they help
    """
    from airflow_provider_streamsets.control_hub.runs import check_all_startable

    jobs = list(jobs)
    try:
        check_all_startable(jobs)
    except ControlHubJobStateError as error:
        runs = [job.current_run for job in jobs if job.current_run is not None]
        sentences = [str(error)]
        if any(not run.has_ended for run in runs):
            sentences.append("Set if_running='join', 'restart' or 'wait_then_start' to handle active runs.")
        if any(run.status == "INACTIVE_ERROR" for run in runs):
            sentences.append("Set acknowledge_errors=True to acknowledge errors before the start.")
        raise ControlHubJobStateError(" ".join(sentences)) from None


def find_jobs_started_by_others(
    jobs: Mapping[str, Job], fetch: Callable[[list[str]], Mapping[str, Job]], *, sleep: Callable[[float], None]
) -> dict[str, Job]:
    """
    Return the jobs that Control Hub did not start because another caller had started them.

    :param jobs: the jobs as they were before the start request, by id
    :param fetch: fetches jobs by id, in one request if possible
    :param sleep: sleeps for a number of seconds
    :returns: the refreshed jobs that have a newer run, by id; empty if Control Hub had another reason
    """
    for seconds in (0.0, *_REJECTION_CHECK_DELAYS):
        sleep(seconds)
        current = fetch(list(jobs))
        newer = {job_id: job for job_id, job in current.items() if job.last_run_count != jobs[job_id].last_run_count}
        if newer:
            return newer
    return {}
