"""Pipelines and their versions (contract, section 13)."""

from __future__ import annotations

from dataclasses import dataclass

import pendulum

from airflow_provider_streamsets.control_hub._json import JsonReader
from airflow_provider_streamsets.control_hub.models.base import Model


@dataclass(frozen=True)
class PipelineVersion(Model):
    """One version of a pipeline: a commit."""

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
        """Read a ``PipelineJson``."""
        read = JsonReader(value, "pipeline")
        rules = read.get("currentRules")
        version = read.text("version")
        return cls(
            pipeline_id=read.text("pipelineId"),
            name=read.text("name"),
            commit_id=read.required_text("commitId"),
            version=version,
            # Both mark a version that is not published (contract, sections 6.1 and 13).
            is_draft=read.flag("draft") or "draft" in version.lower(),
            rules_id=None if rules is None else JsonReader(rules, "rules of the pipeline").optional_text("id"),
            executor_type=read.optional_text("executorType"),
            message=read.text("commitMessage"),
            committer=read.optional_text("committer"),
            time=read.time("commitTime"),
        )

    @property
    def label(self) -> str:
        """Name, version and id, for messages."""
        return f"'{self.name}' version {self.version} ({self.pipeline_id})"

    @property
    def order(self) -> tuple[tuple[int, ...], float]:
        """Place among the versions of the pipeline: greater is newer."""
        # Longer ones are no numbers, and int() refuses the longest.
        parts = tuple(int(part) if part.isdecimal() and len(part) < 20 else 0 for part in self.version.split("."))
        return parts, self.time.timestamp() if self.time else 0.0
