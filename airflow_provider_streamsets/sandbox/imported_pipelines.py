"""The pipeline version in an entry of an archive of jobs, and what becomes of it here."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_streamsets.sandbox import json_text
from airflow_provider_streamsets.sandbox.behaviours import Behaviour
from airflow_provider_streamsets.sandbox.job_fields import Fields, find_commit
from airflow_provider_streamsets.sandbox.problems import bad_request
from airflow_provider_streamsets.sandbox.seed import PipelineSeed, VersionSeed
from airflow_provider_streamsets.sandbox.seed_behaviour import read_behaviour
from airflow_provider_streamsets.sandbox.seed_place import Place, SeedError
from airflow_provider_streamsets.sandbox.wire.pipelines import SANDBOX
from airflow_provider_streamsets.sandbox.world import World

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
    document = metadata.value(SANDBOX)
    if document is None:
        return {"origin": "Directory", "destination": "JDBCProducer", "offset": "{position}", "behaviour": FOREIGN}
    place = Place(document, f"{SANDBOX} in the metadata of pipelineDefinition")
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
        return json_text.read(text)
    except ValueError:
        raise bad_request("pipelineDefinition is not text that holds JSON") from None
