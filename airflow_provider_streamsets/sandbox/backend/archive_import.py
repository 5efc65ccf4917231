"""Importing jobs, and the pipeline versions that they run, from the entries of an archive."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.editing import check_update
from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError, bad_request
from airflow_provider_streamsets.sandbox.backend.jobs import Job
from airflow_provider_streamsets.sandbox.backend.payload import Fields, find_commit, parse_json, read_settings
from airflow_provider_streamsets.sandbox.seed.behaviour import SANDBOX_METADATA_KEY, Behaviour, read_behaviour
from airflow_provider_streamsets.sandbox.seed.document import Place, SeedError
from airflow_provider_streamsets.sandbox.seed.models import JobSeed, PipelineSeed, VersionSeed

FOREIGN = Behaviour(records=1000, rate=500.0)
"""What a pipeline does that comes from elsewhere and does not say how it behaves in a sandbox."""


@dataclass(frozen=True)
class PipelineImport:
    """
    A pipeline with the one version that an entry holds.

    :param number: the version's number where it comes from, None if it does not say.
    """

    pipeline: PipelineSeed
    number: int | None

    def put(self, world: World) -> tuple[PipelineSeed, VersionSeed]:
        """
        Return the same pipeline version of this world, which has it from now on.

        A version is known by its commit. One that is new keeps its number unless another version has it.
        """
        (version,) = self.pipeline.versions
        found = find_commit(world.pipelines, version.commit_id)
        if found is not None:
            return found
        known = world.pipelines.get(self.pipeline.id)
        taken = {int(other.version) for other in known.versions} if known else set()
        number = self.number
        if number is None or number in taken:
            number = max(taken, default=0) + 1
        version = replace(version, version=str(number), committed_ago=world.born - world.clock.now())
        versions = (*known.versions, version) if known else (version,)
        pipeline = replace(
            known or self.pipeline, versions=tuple(sorted(versions, key=lambda other: int(other.version)))
        )
        world.put_pipeline(pipeline)
        return pipeline, version


def read_pipeline(job: Fields, commit: Fields) -> PipelineImport:
    """
    Return the pipeline version of an entry.

    :param job: the entry's ``MinimalJobJson``.
    :param commit: the entry's ``CommitPipelineJson``.
    :raises ProblemError: if one of them is none.
    """
    text = commit.given_text("pipelineDefinition")
    definition = Fields(_parsed(text), "pipelineDefinition")
    metadata = definition.value("metadata")
    known = Fields({} if metadata is None else metadata, "metadata of pipelineDefinition")
    number = re.fullmatch(r"v([1-9]\d{0,8})", job.text("pipelineCommitLabel") or "")
    pipeline_id = job.given_text("pipelineId")
    return PipelineImport(
        pipeline=PipelineSeed(
            id=pipeline_id,
            rules_id=job.text("rulesId") or pipeline_id,
            name=commit.text("name") or job.given_text("pipelineName"),
            description=definition.text("description") or "",
            labels=known.texts("labels") or (),
            versions=(
                VersionSeed(
                    version="",
                    commit_id=job.given_text("pipelineCommitId"),
                    message=commit.text("commitMessage") or "",
                    committed_ago=0,
                    constants=_constants(definition),
                    definition=text,
                    rules=commit.text("rulesDefinition"),
                ),
            ),
            **_manner(known),
        ),
        number=int(number[1]) if number else None,
    )


def _manner(metadata: Fields) -> dict[str, Any]:
    """Return what the pipeline does, as values of :class:`~.seed.PipelineSeed`."""
    document = metadata.value(SANDBOX_METADATA_KEY)
    if document is None:
        return {"origin": "Directory", "destination": "JDBCProducer", "offset": "{position}", "behaviour": FOREIGN}
    place = Place(document, f"{SANDBOX_METADATA_KEY} in the metadata of pipelineDefinition")
    try:
        place.only("origin", "destination", "offset", "behaviour")
        return {
            "origin": place.text("origin"),
            "destination": place.text("destination"),
            "offset": place.text("offset"),
            "behaviour": read_behaviour(place.at("behaviour")),
        }
    except SeedError as error:
        raise bad_request(str(error)) from None


def _constants(definition: Fields) -> dict[str, str]:
    """Return the pipeline's parameters; other pipelines than ours may keep anything in their configuration."""
    configuration = definition.value("configuration")
    for entry in configuration if isinstance(configuration, list) else []:
        if isinstance(entry, dict) and entry.get("name") == "constants" and isinstance(entry.get("value"), list):
            return {
                str(constant["key"]): str(constant.get("value", ""))
                for constant in entry["value"]
                if isinstance(constant, dict) and "key" in constant
            }
    return {}


def _parsed(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        raise bad_request("pipelineDefinition is not text that holds JSON") from None


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
