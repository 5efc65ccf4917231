"""Deletion of jobs and job templates, and archiving of templates."""

from __future__ import annotations

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError
from airflow_provider_streamsets.sandbox.backend.jobs import Job


def template_instances(backend: ControlHubBackend, template: Job) -> list[Job]:
    """Return the jobs attached to a template."""
    return [job for job in backend.jobs.values() if job.seed.template_id == template.id]


def check_delete(backend: ControlHubBackend, job: Job) -> None:
    """
    Check that a job, or a template without attached jobs, can be deleted.

    :raises ApiError: if it cannot.
    """
    if template_instances(backend, job):
        raise ApiError(
            400, "JOBRUNNER_34", f"Job template '{job.seed.name}' cannot be deleted: jobs are attached to it"
        )
    backend.check_idle(job, "deleted")


def delete(backend: ControlHubBackend, job: Job) -> None:
    """
    Delete a job.

    :raises ApiError: if it cannot be deleted.
    """
    check_delete(backend, job)
    backend.delete_job(job)


def check_delete_template(backend: ControlHubBackend, template: Job) -> None:
    """
    Check that a template and all its instances can be deleted.

    :raises ApiError: if one of them cannot.
    """
    check_template(template)
    for job in template_instances(backend, template):
        backend.check_idle(job, "deleted")


def delete_template(backend: ControlHubBackend, template: Job) -> None:
    """
    Delete a template and all its instances.

    :raises ApiError: if one of them cannot be deleted.
    """
    check_delete_template(backend, template)
    for job in (*template_instances(backend, template), template):
        backend.delete_job(job)


def archive_template(backend: ControlHubBackend, template: Job) -> None:
    """
    Archive a template; it stays readable, but no longer starts instances.

    :raises ApiError: if it is not a template.
    """
    check_template(template)
    if not template.seed.archived:
        backend.change_job(template, archived=True)


def check_template(job: Job) -> None:
    """
    Check that a job is a template.

    :raises ApiError: if it is not a template.
    """
    if not job.seed.is_template:
        raise ApiError(400, "JOBRUNNER_35", f"Job '{job.seed.name}' is not a job template")
