"""Creating, changing, upgrading and copying jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError, bad_request
from airflow_provider_streamsets.sandbox.backend.jobs import Job
from airflow_provider_streamsets.sandbox.backend.payload import Fields, read_commit, read_settings
from airflow_provider_streamsets.sandbox.backend.runs import ENDED
from airflow_provider_streamsets.sandbox.seed.models import JobSeed

MOST_COPIES = 1000


def new_job_seed(world: World, body: Any) -> JobSeed:
    """
    Return the job that a ``NewJobJson`` describes; for what it leaves open, the server's defaults.

    :raises ProblemError: if it does not describe one.
    """
    fields = Fields(body, "a new job")
    name = fields.given_text("name")
    pipeline, version = read_commit(fields, world.pipelines)
    return JobSeed(
        id=world.new_job_id(),
        name=name,
        description=fields.text("description"),
        pipeline=pipeline,
        version=version,
        is_template=fields.flag("jobTemplate") or False,
        **read_settings(fields),
    )


def check_update(world: World, job: Job) -> None:
    """
    Check that a job can be changed.

    :raises ProblemError: if not.
    """
    if job.seed.template_id is not None:
        raise ProblemError(
            400, "JOBRUNNER_33", f"Job '{job.seed.name}' cannot be changed: it is attached to a job template"
        )
    world.check_idle(job, "changed")


def read_changes(world: World, job: Job, body: Any) -> dict[str, Any]:
    """
    Return what a ``JobJson`` changes about a job.

    The body is the whole job. What the server owns (creator, times, status, whether it is a template) is read
    over, and a null leaves a value as it is, but for the description, which can be taken away.

    :raises ProblemError: if the job cannot become so.
    """
    fields = Fields(body, "a job")
    if fields.text("id") not in (None, job.id):
        raise bad_request(f"the body is of job '{fields.text('id')}', the path of job '{job.id}'")
    pipeline, version = read_commit(fields, world.pipelines, (job.seed.pipeline, job.seed.version))
    changes = {
        "name": fields.given_text("name"),
        "pipeline": pipeline,
        "version": version,
        **read_settings(fields),
    }
    if fields.has("description"):
        changes["description"] = fields.text("description")
    return changes


def check_upgrade(world: World, job: Job) -> None:
    """
    Check that a job can be upgraded, which it can be while it is active too.

    :raises ProblemError: if not.
    """
    if world.status(job) != "ACTIVE":
        world.check_idle(job, "upgraded")


def upgrade(world: World, job: Job) -> None:
    """
    Let a job run the latest version of its pipeline.

    An active job continues in the same run, with the new version from now on, or in a successor of that run.

    :raises ProblemError: if its state does not allow it.
    """
    check_upgrade(world, job)
    latest = job.seed.pipeline.versions[-1]
    if job.seed.version == latest:
        return
    world.change_job(job, version=latest)
    run = job.latest
    if run is None or world.status(job) in ENDED:
        return
    # A pipeline that has just failed is not replaced: its run is about to end.
    if (
        world.variants.upgrade_active == "successor"
        and world.lifecycle(run).at(world.clock.now()).pipeline == "RUNNING"
    ):
        world.start_successor(job, run)
    else:
        run.version, run.commit_id = latest.version, latest.commit_id
        world.remark(job, f"Job upgraded to pipeline version v{latest.version}")


def duplicate(world: World, job: Job, body: Any) -> list[Job]:
    """
    Copy a job or a job template; copies have not run and are attached to no template.

    :param world: the world.
    :param job: the job.
    :param body: a ``DuplicateJobJson``.
    :return: the copies.
    :raises ProblemError: if the body is none.
    """
    fields = Fields(body, "a duplication")
    prefix, copies = fields.given_text("namePrefix"), fields.whole("numberOfCopies", 1) or 1
    if copies > MOST_COPIES:
        raise fields.wrong("numberOfCopies", f"at most {MOST_COPIES}")
    description = fields.text("description") or job.seed.description
    names = [prefix] if copies == 1 else [f"{prefix}{number}" for number in range(1, copies + 1)]
    return [
        world.add_job(
            replace(as_new(job.seed), id=world.new_job_id(), name=name, description=description, template_id=None)
        )
        for name in names
    ]


def as_new(seed: JobSeed) -> JobSeed:
    """Return a job without its past."""
    return replace(
        seed, creator=None, created_on=None, created_ago=0, modified_by=None, modified_on=None, archived=False, past=()
    )
