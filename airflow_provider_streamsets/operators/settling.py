"""Waiting for jobs that are on their way into or out of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubClient, Job
    from airflow_provider_streamsets.control_hub.waiting import Log

# Longer than Control Hub, by default, waits for engines to confirm a stop.
_PATIENCE = 300.0
_PAUSE = 3.0
ACKNOWLEDGEMENT_PATIENCE = 60.0
# Seconds between reads after a refusal, as the run that is in the way can take a moment to show.
_PAUSES_AFTER_REFUSAL = (2.0, 4.0)


def settled(
    client: ControlHubClient,
    jobs: Iterable[Job],
    read: Callable[[ControlHubClient, list[str]], Mapping[str, Job]],
    *,
    pause: Callable[[float], None],
    log: Log,
) -> dict[str, Job]:
    """
    Wait for jobs that are being started or stopped, and return all of them as they then are, by id.

    Control Hub refuses what is asked of a job in these states (contract, section 10.3). It takes five minutes at the
    most, and no longer than the client has; a read that fails because Control Hub cannot be reached is repeated.

    :param client: the client, which sends requests once
    :param jobs: the jobs as just read
    :param read: reads jobs again, in one request for many
    :param pause: waits so many seconds
    :param log: the task's log
    :raises ControlHubRunTimeoutError: if the time that the client has is over before
    """
    from airflow_provider_streamsets.control_hub import ControlHubRunTimeoutError, ControlHubUnavailableError
    from airflow_provider_streamsets.control_hub.waiting import OutageLog
    from airflow_provider_streamsets.control_hub.wording import shortened

    passing = {"ACTIVATING", "DEACTIVATING"}
    found = {job.job_id: job for job in jobs}
    ends_at, outage = time.monotonic() + _PATIENCE, OutageLog(log)
    while unsettled := [job for job in found.values() if job.current_run and job.current_run.status in passing]:
        if client.time_left() <= 0:
            labels = shortened([job.label for job in unsettled])
            raise ControlHubRunTimeoutError(f"Still being started or stopped at the end of the task's time: {labels}.")
        left = min(ends_at - time.monotonic(), client.time_left())
        if left <= 0:
            break
        for job in unsettled:
            log.info("Job %s is %s; waiting for it to settle.", job.label, job.current_run and job.current_run.status)
        pause(min(_PAUSE, left))
        try:
            found.update(read(client, [job.job_id for job in unsettled]))
            outage.succeeded()
        except ControlHubUnavailableError as error:
            outage.failed(error)
    return found


def newer_after_refusal(
    jobs: Mapping[str, Job], read: Callable[[list[str]], Mapping[str, Job]], *, pause: Callable[[float], None]
) -> dict[str, Job]:
    """
    Return the jobs that another caller has started, so that Control Hub has refused to start them.

    :param jobs: the jobs as they were before the start call, by id
    :param read: reads jobs again, in one request for many
    :param pause: waits so many seconds
    :returns: those with a newer run as they are now, by id; empty if Control Hub has another reason
    """
    for seconds in (0.0, *_PAUSES_AFTER_REFUSAL):
        pause(seconds)
        found = read(list(jobs))
        newer = {job_id: job for job_id, job in found.items() if job.last_run_count != jobs[job_id].last_run_count}
        if newer:
            return newer
    return {}
