"""Pipelines and their versions (contract section 13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pendulum

from airflow_provider_streamsets.control_hub._json import JsonReader, as_list
from airflow_provider_streamsets.control_hub.models.base import Model

COMMIT_ID_FIELD = "commitId"
"""Field of a ``PipelineJson`` that identifies the version."""


@dataclass(frozen=True)
class PipelineVersion(Model):
    """A version of a pipeline, which is a commit."""

    pipeline_id: str
    name: str
    commit_id: str
    version: str
    is_draft: bool
    rules_id: str | None
    executor_type: str | None
    message: str
    committer: str | None
    time: pendulum.DateTime | None

    @classmethod
    def from_wire(cls, value: object) -> PipelineVersion:
        """Parse a ``PipelineJson``."""
        read = JsonReader(value, "pipeline")
        rules = read.get("currentRules")
        version = read.string("version")
        return cls(
            pipeline_id=read.string("pipelineId"),
            name=read.string("name"),
            commit_id=read.required_string(COMMIT_ID_FIELD),
            version=version,
            # Either marks an unpublished version (contract sections 6.1 and 13).
            is_draft=read.boolean("draft") or "draft" in version.lower(),
            rules_id=None if rules is None else JsonReader(rules, "pipeline rules").optional_string("id"),
            executor_type=read.optional_string("executorType"),
            message=read.string("commitMessage"),
            committer=read.optional_string("committer"),
            time=read.timestamp("commitTime"),
        )

    @classmethod
    def from_wire_or_none(cls, value: object) -> PipelineVersion | None:
        """Parse a ``PipelineJson``; None without a commit, which means an unknown or unpublished pipeline."""
        return cls.from_wire(value) if JsonReader(value, "pipeline").optional_string(COMMIT_ID_FIELD) else None

    def to_job_fields(self) -> dict[str, Any]:
        """Return the version as fields of a ``JobJson``; id and label of the commit must always change together."""
        fields = {
            "pipelineId": self.pipeline_id,
            "pipelineName": self.name,
            "pipelineCommitId": self.commit_id,
            "pipelineCommitLabel": f"v{self.version}",
            "rulesId": self.rules_id,
            "executorType": self.executor_type,
        }
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def label(self) -> str:
        """Name, version and id, for messages."""
        return f"'{self.name}' version {self.version} ({self.pipeline_id})"

    @property
    def order(self) -> tuple[tuple[int, ...], float]:
        """Sort key among the versions of the pipeline: greater is newer."""
        # Longer parts are not version numbers, and int() rejects very long ones.
        parts = tuple(int(part) if part.isdecimal() and len(part) < 20 else 0 for part in self.version.split("."))
        return parts, self.time.timestamp() if self.time else 0.0


def commit_ids_by_tag(value: object) -> dict[str, str]:
    """Parse the tags of a pipeline."""
    tags = [JsonReader(entry, "pipeline tag") for entry in as_list(value, "pipeline tags")]
    return {tag.string("name"): tag.required_string(COMMIT_ID_FIELD) for tag in tags}


def runtime_parameter_defaults(value: object) -> dict[str, Any] | None:
    """
    Return the runtime parameters in the definition of a pipeline (contract section 13).

    :param value: ``PipelineJson`` with its definition
    :returns: default values by name; None if the definition does not list the parameters
    """
    definition = JsonReader(value, "pipeline").json_object("pipelineDefinition")
    for entry in JsonReader(definition, "pipeline definition").array("configuration"):
        configuration = JsonReader(entry, "pipeline configuration")
        if configuration.get("name") == "constants" and configuration.get("value") is not None:
            parameters = [JsonReader(parameter, "parameter") for parameter in configuration.array("value")]
            return {parameter.required_string("key"): parameter.get("value") for parameter in parameters}
    return None


@dataclass(frozen=True)
class PipelineStage(Model):
    """A stage of a pipeline, such as its origin."""

    type_name: str
    """Name of the stage type, such as ``com_streamsets_pipeline_stage_destination_jdbc_JdbcDTarget``."""
    configuration: Mapping[str, Any]
    """Values by name, such as ``hikariConfigBean.connectionString``; expressions are not evaluated."""

    @classmethod
    def from_wire(cls, value: object) -> PipelineStage:
        """Parse an entry of ``stages``."""
        read = JsonReader(value, "stage")
        entries = [JsonReader(entry, "stage configuration") for entry in read.array("configuration")]
        return cls(read.string("stageName"), {entry.string("name"): entry.get("value") for entry in entries})


@dataclass(frozen=True)
class PipelineDefinition(Model):
    """What the definition of a pipeline version says about its parameters and stages (contract section 13)."""

    parameters: Mapping[str, Any]
    """Default values of the runtime parameters, by name."""
    stages: tuple[PipelineStage, ...]

    @classmethod
    def from_wire(cls, value: object) -> PipelineDefinition:
        """Parse a ``PipelineJson`` with its definition."""
        definition = JsonReader(JsonReader(value, "pipeline").json_object("pipelineDefinition"), "pipeline definition")
        return cls(
            parameters=runtime_parameter_defaults(value) or {},
            stages=tuple(map(PipelineStage.from_wire, definition.array("stages"))),
        )
