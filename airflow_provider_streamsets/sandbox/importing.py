"""Importing jobs, and the pipeline versions that they run, from the entries of an archive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_provider_streamsets.sandbox.editing import check_update
from airflow_provider_streamsets.sandbox.imported_pipelines import PipelineImport, read_pipeline
from airflow_provider_streamsets.sandbox.job_fields import Fields, read_settings
from airflow_provider_streamsets.sandbox.problems import ProblemError, bad_request
from airflow_provider_streamsets.sandbox.seed import JobSeed
from airflow_provider_streamsets.sandbox.world import Job, World


@dataclass(frozen=True)
class Overwrite:
    """What an import changes about a job that exists already; its tags, it always changes."""

    pipeline: bool = True
    instances: bool = False
    parameters: bool = False
    labels: bool = False
    failover: bool = True


@dataclass(frozen=True)
class JobImport:
    """An entry of an archive, checked, with the settings it gives as values of :class:`~.seed.JobSeed`."""

    id: str
    name: str
    description: str | None
    is_template: bool
    settings: dict[str, Any]
    pipeline: PipelineImport


def import_jobs(world: World, entries: list[Any], overwrite: Overwrite) -> list[Job]:
    """
    Create or update the jobs that an archive holds: all of them, or none.

    :param world: the world.
    :param entries: the entries.
    :param overwrite: what to change about jobs that exist.
    :return: the jobs.
    :raises ProblemError: if an entry is none, or a job cannot be changed.
    """
    imports = [_read(entry, f"entry {number}") for number, entry in enumerate(entries, start=1)]
    if len({item.id for item in imports}) < len(imports):
        raise bad_request("a job is in the archive twice")
    for item in imports:
        known = world.jobs.get(item.id)
        if known is not None:
            check_update(world, known)
            if known.seed.is_template is not item.is_template:
                raise ProblemError(400, "JOBRUNNER_39", f"Of '{item.name}' one is a job, the other a job template")
    return [_import(world, item, overwrite) for item in imports]


def _import(world: World, item: JobImport, overwrite: Overwrite) -> Job:
    known = world.jobs.get(item.id)
    if known is None:
        pipeline, version = item.pipeline.put(world)
        return world.add_job(
            JobSeed(
                id=item.id,
                name=item.name,
                description=item.description,
                pipeline=pipeline,
                version=version,
                is_template=item.is_template,
                **item.settings,
            )
        )
    chosen = {
        "tags": True,
        "instances": overwrite.instances,
        "parameters": overwrite.parameters,
        "labels": overwrite.labels,
        "failover": overwrite.failover,
    }
    changes = {name: value for name, value in item.settings.items() if chosen.get(name)}
    if overwrite.pipeline:
        changes["pipeline"], changes["version"] = item.pipeline.put(world)
    world.change_job(known, **changes)
    return known


def _read(entry: Any, where: str) -> JobImport:
    envelope = Fields(entry, where)
    job = Fields(envelope.value("minimalJobJson"), f"minimalJobJson of {where}")
    return JobImport(
        id=job.given_text("id"),
        name=job.given_text("name"),
        description=job.text("description"),
        is_template=job.flag("jobTemplate") or False,
        settings={"tags": (), **read_settings(job)},
        pipeline=read_pipeline(job, Fields(envelope.value("commitPipelineJson"), f"commitPipelineJson of {where}")),
    )
