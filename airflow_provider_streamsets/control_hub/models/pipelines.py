"""Pipelines and their versions (contract section 13)."""

from __future__ import annotations

from dataclasses import dataclass

import pendulum

from airflow_provider_streamsets.control_hub._json import JsonReader
from airflow_provider_streamsets.control_hub.models.base import Model


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
            commit_id=read.required_string("commitId"),
            version=version,
            # Either marks an unpublished version (contract sections 6.1 and 13).
            is_draft=read.boolean("draft") or "draft" in version.lower(),
            rules_id=None if rules is None else JsonReader(rules, "pipeline rules").optional_string("id"),
            executor_type=read.optional_string("executorType"),
            message=read.string("commitMessage"),
            committer=read.optional_string("committer"),
            time=read.timestamp("commitTime"),
        )

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
