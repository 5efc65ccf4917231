"""Which operations the state of a job allows. All checks send nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from airflow_provider_streamsets.control_hub._messages import join_truncated
from airflow_provider_streamsets.control_hub.errors import ControlHubConfigurationError, ControlHubJobStateError
from airflow_provider_streamsets.control_hub.submission import describe_run

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.models import Job


def check_startable(job: Job) -> None:
    """
    Check that the state of a job allows a start.

    :raises ControlHubJobStateError: if not; the message has the reason and the remedy
    """
    if job.is_template:
        raise ControlHubJobStateError(
            f"Cannot start {job.label}: it is a job template. Start an instance of it instead."
        )
    run = job.current_run
    if run is None or (run.has_ended and run.status != "INACTIVE_ERROR"):
        return
    if run.status == "INACTIVE_ERROR":
        raise ControlHubJobStateError(
            f"Cannot start job {job.label}: its run {run.run_count} ended in INACTIVE_ERROR. Acknowledge the error "
            f"first: {run.error_message or 'none stated'}"
        )
    raise ControlHubJobStateError(
        f"Cannot start job {job.label}: its {describe_run(run)}, is {run.status or 'in an unknown state'}. Wait for it "
        "to end, or stop it."
    )


def check_all_startable(jobs: Iterable[Job]) -> None:
    """
    Check that the states of all these jobs allow a start.

    :raises ControlHubJobStateError: if not; the message has the reason for each job
    """
    problems = []
    for job in jobs:
        try:
            check_startable(job)
        except ControlHubJobStateError as error:
            problems.append(str(error))
    if problems:
        more = f" And {len(problems) - 10} more." if len(problems) > 10 else ""
        raise ControlHubJobStateError(f"{' '.join(problems[:10])}{more} Nothing was started.")


def reason_not_synchronizable(job: Job) -> str | None:
    """Return why the state of a job does not allow synchronising, as in "is INACTIVE"; None if it does."""
    if job.is_template:
        return "is a job template"
    if job.current_run is None:
        return "has never run"
    return None if job.current_run.status == "ACTIVE" else f"is {job.current_run.status or 'in an unknown state'}"


def reason_not_balanceable(job: Job) -> str | None:
    """
    Return why the state of a job does not allow balancing, as in "has failover disabled"; None if it does.

    Jobs without failover are skipped (contract section 18.34).
    """
    return reason_not_synchronizable(job) or (None if job.failover else "has failover disabled")


def check_deletable(jobs: Iterable[Job], *, allow_active: bool = False, allow_failed: bool = False) -> None:
    """
    Check that the states of jobs allow their deletion.

    :param allow_active: accept active jobs, which the caller stops first
    :param allow_failed: accept jobs with an error to acknowledge, which the caller acknowledges first
    :raises ControlHubConfigurationError: if one of them is a job template
    :raises ControlHubJobStateError: if some cannot be deleted; the message names them all
    """
    jobs = list(jobs)
    for job in jobs:
        if job.is_template:
            raise ControlHubConfigurationError(f"Cannot delete jobs: {job.label} is a job template, not a job.")
    check_idle(jobs, "delete", allow_active=allow_active, allow_failed=allow_failed)


def check_idle(jobs: Iterable[Job], action: str, *, allow_active: bool = False, allow_failed: bool = False) -> None:
    """
    Check that jobs are neither active nor in ``INACTIVE_ERROR``.

    :param action: what is to be done with them, for the message: "delete"
    :param allow_active: as for :func:`check_deletable`
    :param allow_failed: as for :func:`check_deletable`
    :raises ControlHubJobStateError: if some are; the message names them all
    """
    problems = []
    for job in jobs:
        run = job.current_run
        if run is None:
            continue
        if not run.has_ended and not allow_active:
            problems.append(f"{job.label} is {run.status or 'in an unknown state'}: stop it first")
        elif run.status == "INACTIVE_ERROR" and not allow_failed:
            error = run.error_message or "none stated"
            problems.append(f"{job.label} has an error to acknowledge first: {error}")
    if problems:
        raise ControlHubJobStateError(f"Cannot {action} jobs. {join_truncated(problems, '; ')}. Nothing was sent.")


def check_offsets_changeable(jobs: Collection[Job]) -> None:
    """
    Raise if the offsets of any of the jobs cannot be reset or uploaded in its current state.

    :raises ControlHubJobStateError: if a job is active or a template; the message lists all such jobs
    """
    problems = [f"{job.label} is a job template" for job in jobs if job.is_template]
    problems += [f"{job.label} is {run.status}" for job in jobs if (run := job.current_run) and not run.has_ended]
    if problems:
        raise ControlHubJobStateError(
            f"Cannot change the offsets of jobs that are active or templates: {join_truncated(problems, '; ')}. Stop "
            "active jobs first. Nothing was sent."
        )


def check_exportable(jobs: Iterable[Job]) -> None:
    """
    Raise if any of the jobs cannot be exported (contract section 7).

    :raises ControlHubJobStateError: if a job is attached to a template; the message lists all such jobs
    """
    attached = [job.label for job in jobs if job.template_id is not None]
    if attached:
        raise ControlHubJobStateError(
            f"Cannot export jobs that are attached to a job template: {join_truncated(attached)}. Export the "
            "template instead. Nothing was sent."
        )
