"""Deleting jobs and job templates, and archiving templates."""

from __future__ import annotations

from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError
from airflow_provider_streamsets.sandbox.backend.jobs import Job


def instances_of(world: World, template: Job) -> list[Job]:
    """Return the jobs that are attached to a template."""
    return [job for job in world.jobs.values() if job.seed.template_id == template.id]


def check_delete(world: World, job: Job) -> None:
    """
    Check that a job, or a template that no job is attached to, can be deleted.

    :raises ProblemError: if not.
    """
    if instances_of(world, job):
        raise ProblemError(
            400, "JOBRUNNER_34", f"Job template '{job.seed.name}' cannot be deleted: jobs are attached to it"
        )
    world.check_idle(job, "deleted")


def delete(world: World, job: Job) -> None:
    """
    Delete a job.

    :raises ProblemError: if it cannot be deleted.
    """
    check_delete(world, job)
    world.remove_job(job)


def check_delete_template(world: World, template: Job) -> None:
    """
    Check that a template can be deleted with all its instances.

    :raises ProblemError: if not.
    """
    check_template(template)
    for job in instances_of(world, template):
        world.check_idle(job, "deleted")


def delete_template(world: World, template: Job) -> None:
    """
    Delete a template and all its instances.

    :raises ProblemError: if one of them cannot be deleted.
    """
    check_delete_template(world, template)
    for job in (*instances_of(world, template), template):
        world.remove_job(job)


def archive_template(world: World, template: Job) -> None:
    """
    Put a template away: it stays readable, and starts no more instances.

    :raises ProblemError: if it is a job.
    """
    check_template(template)
    if not template.seed.archived:
        world.change_job(template, archived=True)


def check_template(job: Job) -> None:
    """
    Check that something is a template.

    :raises ProblemError: if it is a job.
    """
    if not job.seed.is_template:
        raise ProblemError(400, "JOBRUNNER_35", f"Job '{job.seed.name}' is not a job template")
