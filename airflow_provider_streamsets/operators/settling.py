"""Waiting for jobs that are on their way into or out of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import Job
    from airflow_provider_streamsets.control_hub.waiting import Log

PATIENCE = 60.0
_PAUSE = 3.0


def settled(
    jobs: Iterable[Job], read: Callable[[list[str]], Mapping[str, Job]], *, try_number: int, log: Log
) -> dict[str, Job]:
    """
    Wait a while for jobs that are being started or stopped, and return all of them as they then are, by id.

    When a person clears a deferred task, its next try begins before the triggerer has stopped the runs of the one
    before, so in a later try running jobs get the same time.

    :param jobs: the jobs as just read
    :param read: reads jobs again, in one request for many
    :param try_number: number of the task's try
    :param log: the task's log
    """
    passing = {"ACTIVATING", "DEACTIVATING"} | ({"ACTIVE"} if try_number > 1 else set())
    found = {job.job_id: job for job in jobs}
    left = PATIENCE
    while left > 0:
        unsettled = [job for job in found.values() if job.current_run and job.current_run.status in passing]
        if not unsettled:
            break
        for job in unsettled:
            log.info("Job %s is %s; waiting for it to settle.", job.label, job.current_run and job.current_run.status)
        time.sleep(_PAUSE)
        left -= _PAUSE
        found.update(read([job.job_id for job in unsettled]))
    return found
