"""Check whether jobs can be started, and why Control Hub rejected a start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub.errors import ControlHubJobStateError
from airflow_provider_streamsets.control_hub.job_state import check_all_startable

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub import ControlHubClient, Job

_ACKNOWLEDGEMENT_MAX_WAIT = 60.0
# Seconds between fetches after a rejected start: the conflicting run may not be visible at once.
_REJECTION_CHECK_DELAYS = (2.0, 4.0)


def check_startable(jobs: Iterable[Job]) -> None:
    """
    Check that all jobs can be started in their current state.

    :raises ControlHubJobStateError: if a job cannot be started; the message suggests `if_running` and
        `acknowledge_errors` where they help
    """
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


def log_and_acknowledge(client: ControlHubClient, jobs: Mapping[str, Job], log: Any) -> None:
    """
    Acknowledge the errors of the latest runs of jobs, and log them.

    :param client: the client
    :param jobs: the jobs, by id
    :param log: the task's log
    :raises ControlHubUnexpectedResponseError: if a job is still in ``INACTIVE_ERROR`` a minute later
    """
    for run in client.runs.acknowledge(jobs, max_wait=_ACKNOWLEDGEMENT_MAX_WAIT):
        log.warning(
            "Job %s run %d: acknowledged its error: %s", jobs[run.job_id].label, run.run_count, run.error_message
        )


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
