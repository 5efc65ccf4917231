"""Creation, update, upgrade and duplication of jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError, bad_request
from airflow_provider_streamsets.sandbox.backend.jobs import Job
from airflow_provider_streamsets.sandbox.backend.payload import Payload, read_commit, read_settings
from airflow_provider_streamsets.sandbox.backend.runs import FINAL_STATUSES
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
    """
    Check that a job can be changed.

    :raises ApiError: if it cannot.
    """
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
    """
    Check that a job can be upgraded; active jobs can, too.

    :raises ApiError: if it cannot.
    """
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
