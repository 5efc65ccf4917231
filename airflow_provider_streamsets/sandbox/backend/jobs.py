"""Creation, update, upgrade, duplication and deletion of jobs, and their permissions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError, bad_request
from airflow_provider_streamsets.sandbox.backend.payload import Payload, read_commit, read_settings
from airflow_provider_streamsets.sandbox.backend.runs import FINAL_STATUSES
from airflow_provider_streamsets.sandbox.backend.store import Job, Permission
from airflow_provider_streamsets.sandbox.seed.models import JobSeed

MAX_COPIES = 1000


def new_job_seed(backend: ControlHubBackend, body: Any) -> JobSeed:
    """
    Parse a ``NewJobJson``; missing values take the defaults of the server.

    :raises ApiError: if it is invalid.
    """
    fields = Payload(body, "a new job")
    name = fields.required_string("name")
    pipeline, version = read_commit(fields, backend.pipelines)
    return JobSeed(
        id=backend.new_job_id(),
        name=name,
        description=fields.string("description"),
        pipeline=pipeline,
        version=version,
        is_template=fields.boolean("jobTemplate") or False,
        **read_settings(fields),
    )


def check_update(backend: ControlHubBackend, job: Job) -> None:
    """Check that a job can be changed, or raise an :class:`ApiError`."""
    if job.seed.template_id is not None:
        raise ApiError(
            400, "JOBRUNNER_33", f"Job '{job.seed.name}' cannot be changed: it is attached to a job template"
        )
    backend.check_idle(job, "changed")


def read_changes(backend: ControlHubBackend, job: Job, body: Any) -> dict[str, Any]:
    """
    Parse the changes to a job from a ``JobJson``.

    The body is the complete job. Values owned by the server (creator, times, status, whether it is a template) are
    ignored. A null keeps the current value, except that it removes the description.

    :raises ApiError: if the body is invalid.
    """
    fields = Payload(body, "a job")
    if fields.string("id") not in (None, job.id):
        raise bad_request(f"The body has the job id '{fields.string('id')}', the path has '{job.id}'.")
    pipeline, version = read_commit(fields, backend.pipelines, (job.seed.pipeline, job.seed.version))
    changes = {
        "name": fields.required_string("name"),
        "pipeline": pipeline,
        "version": version,
        **read_settings(fields),
    }
    if fields.has("description"):
        changes["description"] = fields.string("description")
    return changes


def check_upgrade(backend: ControlHubBackend, job: Job) -> None:
    """Check that a job, active or not, can be upgraded, or raise an :class:`ApiError`."""
    if backend.status(job) != "ACTIVE":
        backend.check_idle(job, "upgraded")


def upgrade(backend: ControlHubBackend, job: Job) -> None:
    """
    Upgrade a job to the latest version of its pipeline.

    An active job continues with the new version in the same run or in a successor of it, depending on the variant
    ``upgrade_active``.

    :raises ApiError: if the state of the job does not allow it.
    """
    check_upgrade(backend, job)
    latest = job.seed.pipeline.versions[-1]
    if job.seed.version == latest:
        return
    backend.change_job(job, version=latest)
    run = job.latest
    if run is None or backend.status(job) in FINAL_STATUSES:
        return
    # No successor for a pipeline that has just failed: its run is about to end.
    if (
        backend.variants.upgrade_active == "successor"
        and backend.run_state(run).phase_at(backend.clock.now()).pipeline == "RUNNING"
    ):
        backend.start_successor(job, run)
    else:
        run.version, run.commit_id = latest.version, latest.commit_id
        backend.add_note(job, f"Job upgraded to pipeline version v{latest.version}")


def duplicate(backend: ControlHubBackend, job: Job, body: Any) -> list[Job]:
    """
    Duplicate a job or a job template; the copies have no runs and are not attached to a template.

    :param backend: the simulated Control Hub.
    :param job: the job.
    :param body: a ``DuplicateJobJson``.
    :return: the copies.
    :raises ApiError: if the body is invalid.
    """
    fields = Payload(body, "a duplication")
    prefix, copies = fields.required_string("namePrefix"), fields.integer("numberOfCopies", 1) or 1
    if copies > MAX_COPIES:
        raise fields.invalid("numberOfCopies", f"at most {MAX_COPIES}")
    description = fields.string("description") or job.seed.description
    names = [prefix] if copies == 1 else [f"{prefix}{number}" for number in range(1, copies + 1)]
    return [
        backend.add_job(
            replace(
                without_history(job.seed), id=backend.new_job_id(), name=name, description=description, template_id=None
            )
        )
        for name in names
    ]


def without_history(seed: JobSeed) -> JobSeed:
    """Return the definition of a job without creation data and past runs."""
    return replace(
        seed, creator=None, created_on=None, created_ago=0, modified_by=None, modified_on=None, archived=False, past=()
    )


def template_instances(backend: ControlHubBackend, template: Job) -> list[Job]:
    """Return the jobs attached to a template."""
    return [job for job in backend.jobs.values() if job.seed.template_id == template.id]


def check_delete(backend: ControlHubBackend, job: Job) -> None:
    """Check that a job or a template without attached jobs can be deleted, or raise an :class:`ApiError`."""
    if template_instances(backend, job):
        raise ApiError(
            400, "JOBRUNNER_34", f"Job template '{job.seed.name}' cannot be deleted: jobs are attached to it"
        )
    backend.check_idle(job, "deleted")


def delete(backend: ControlHubBackend, job: Job) -> None:
    """Delete a job, or raise an :class:`ApiError`."""
    check_delete(backend, job)
    backend.delete_job(job)


def check_delete_template(backend: ControlHubBackend, template: Job) -> None:
    """Check that a template and all its instances can be deleted, or raise an :class:`ApiError`."""
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
    """Check that a job is a template, or raise an :class:`ApiError`."""
    if not job.seed.is_template:
        raise ApiError(400, "JOBRUNNER_35", f"Job '{job.seed.name}' is not a job template")


ACTIONS = ("READ", "WRITE", "EXECUTE")
SUBJECT_TYPES = ("USER", "GROUP")


def change_permissions(backend: ControlHubBackend, job: Job, body: Any) -> None:
    """
    Replace the permissions of a job.

    :param backend: the simulated Control Hub.
    :param job: the job.
    :param body: an ``AclJson``.
    :raises ApiError: if the body is invalid.
    """
    entries = Payload(body, "an ACL").value("permissions")
    if not isinstance(entries, list):
        raise bad_request("'permissions' of an ACL must be a list.")
    job.permissions = tuple(_permission(Payload(entry, "a permission")) for entry in entries)
    job.permitted_by, job.permitted_on = backend.user, backend.clock.now()


def _permission(fields: Payload) -> Permission:
    subject_type, actions = fields.string("subjectType"), fields.strings("actions") or ()
    if subject_type not in SUBJECT_TYPES:
        raise fields.invalid("subjectType", f"one of {', '.join(SUBJECT_TYPES)}")
    if not set(actions) <= set(ACTIONS):
        raise fields.invalid("actions", f"a list of {', '.join(ACTIONS)}")
    return Permission(fields.required_string("subjectId"), subject_type, actions)
