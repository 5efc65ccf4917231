"""Wait for runs: until they have ended, until they are stopped, or until their jobs can be started or stopped."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub._messages import join_truncated
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.errors import ControlHubRunTimeoutError, ControlHubUnavailableError
from airflow_provider_streamsets.control_hub.tracking.run import Log, OutageLog

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient
    from airflow_provider_streamsets.control_hub.models import Job
    from airflow_provider_streamsets.control_hub.tracking.run_group import RunGroup

log = logging.getLogger(__name__)

# Seconds; longer than the default time-out of Control Hub for engines to confirm a stop.
_STABLE_MAX_WAIT = 300.0
_STABLE_POLL_DELAY = 3.0
_TRANSITIONAL_STATUSES = frozenset({"ACTIVATING", "DEACTIVATING"})


def wait_for_runs(
    group: RunGroup,
    deadline: Deadline,
    *,
    poll_interval: float,
    stop_when: Callable[[RunGroup], bool] = lambda group: False,
    max_delay: Callable[[], float] = lambda: math.inf,
) -> None:
    """
    Poll runs until all of them are completed.

    :param group: the runs to wait for
    :param deadline: when to give up
    :param poll_interval: seconds between two polls
    :param stop_when: called after each poll; returns True to end the wait early
    :param max_delay: called after each poll; returns the maximum number of seconds until the next one
    :raises ControlHubRunTimeoutError: if they have not ended in time
    :raises ControlHubError: as :meth:`RunGroup.poll`
    """
    for is_last_poll in deadline.polls(lambda: min(group.next_delay(poll_interval), max_delay())):
        with group.client.within(lambda: deadline.remaining):
            group.poll(skip_metrics_wait=is_last_poll)
        if group.is_done or stop_when(group):
            return
        # A poll that failed at the deadline is not repeated: it would take as long again.
        if group.is_unavailable and deadline.has_passed:
            break
    raise group.timed_out(deadline.total)


def request_stops(
    client: ControlHubClient, runs: Mapping[str, int], *, in_bulk: bool, max_wait: float, force: bool = False
) -> list[str]:
    """
    Stop runs, and no later runs of their jobs, without waiting for their ends.

    :param client: the client
    :param runs: run counts by job id
    :param in_bulk: in bulk requests, rather than one by one
    :param max_wait: seconds to retry while Control Hub rejects stops
    :param force: force the stops
    :returns: ids of the jobs whose runs were active and whose stops were accepted
    :raises ControlHubRejectedError: if Control Hub still rejects a stop after `max_wait`
    """
    if in_bulk:
        return client.runs.stop_many(runs, max_wait=max_wait, force=force)
    return [i for i, count in runs.items() if client.runs.stop_run(i, count, max_wait=max_wait, force=force)]


def stop_runs(
    client: ControlHubClient,
    runs: Mapping[str, int],
    deadline: Deadline,
    *,
    poll_interval: float,
    force_stop_after: float | None = None,
    requested: Collection[str] = (),
) -> None:
    """
    Stop runs, and no later runs of their jobs, and wait until they have ended.

    Errors caused by forced stops are acknowledged, so that the jobs can be started again.

    :param client: the client
    :param runs: run counts by job id
    :param deadline: when to give up
    :param poll_interval: seconds between two polls
    :param force_stop_after: seconds after which unfinished stops are forced; 0 forces them at once
    :param requested: ids of the jobs whose stops were requested already
    :raises ControlHubRunTimeoutError: if they have not ended in time
    :raises ControlHubRejectedError: if Control Hub still rejects a stop after five minutes
    """
    force_now = force_stop_after == 0
    # A failed poll is repeated at the next interval anyway.
    poller = client.with_options(max_attempts=1)
    pending = {job_id: run_count for job_id, run_count in runs.items() if job_id not in requested}
    # Not for longer: a job that never leaves ACTIVATING would get no request.
    max_wait = min(deadline.remaining, _STABLE_MAX_WAIT)
    remaining = client.runs.stop_many(pending, max_wait=max_wait, force=force_now) if pending else []
    remaining += [job_id for job_id in runs if job_id in requested]
    forced = {job_id: runs[job_id] for job_id in remaining} if force_now else {}
    try:
        while remaining:
            if deadline.has_passed:
                raise ControlHubRunTimeoutError(
                    f"{len(remaining)} jobs were not stopped within {deadline.total:g} s: {join_truncated(remaining)}."
                )
            if force_stop_after is not None and not force_now and deadline.elapsed >= force_stop_after:
                force_now = True
                log.warning("%d runs have not ended after %g s; forcing their stops.", len(remaining), force_stop_after)
                accepted = client.runs.stop_many({job_id: runs[job_id] for job_id in remaining}, force=True)
                forced = {job_id: runs[job_id] for job_id in accepted}
            deadline.sleep(poll_interval)
            try:
                remaining = list(poller.runs.get_active({job_id: runs[job_id] for job_id in remaining}))
            except ControlHubUnavailableError as error:
                log.warning("%s Retrying at the next poll.", error)
    finally:
        client.runs.acknowledge_forced(forced)


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
    current = {job.job_id: job for job in jobs}
    deadline = Deadline(min(_STABLE_MAX_WAIT, client.time_left()), sleep=sleep)
    outage = OutageLog(log)
    while unstable := [
        job for job in current.values() if job.current_run and job.current_run.status in _TRANSITIONAL_STATUSES
    ]:
        if client.time_left() <= 0:
            labels = join_truncated([job.label for job in unstable])
            raise ControlHubRunTimeoutError(f"The task timed out while jobs were being started or stopped: {labels}.")
        if deadline.has_passed:
            break
        for job in unstable:
            log.info(
                "Job %s: %s; waiting until it is active or inactive.",
                job.label,
                job.current_run and job.current_run.status,
            )
        deadline.sleep(_STABLE_POLL_DELAY)
        try:
            current.update(fetch(client, [job.job_id for job in unstable]))
            outage.succeeded()
        except ControlHubUnavailableError as error:
            outage.failed(error)
    return current
