"""Engines (contract section 14)."""

from __future__ import annotations

from dataclasses import dataclass

import pendulum

from airflow_provider_streamsets.control_hub._json import JsonReader
from airflow_provider_streamsets.control_hub.models.base import Model


@dataclass(frozen=True)
class Engine(Model):
    """An engine, such as a Data Collector."""

    engine_id: str
    url: str
    version: str
    executor_type: str | None
    labels: tuple[str, ...]
    """Assigned in Control Hub, and reported by the engine."""
    is_responding: bool
    pipelines_count: int
    last_reported: pendulum.DateTime | None
    id_separator: str
    """Replaces ``:`` in pipeline ids on the engine."""

    @classmethod
    def from_wire(cls, value: object) -> Engine:
        """Parse an ``SDCJson``."""
        read = JsonReader(value, "engine")
        return cls(
            engine_id=read.required_string("id"),
            url=read.string("httpUrl"),
            version=read.string("version"),
            executor_type=read.optional_string("executorType"),
            labels=tuple(dict.fromkeys((*read.strings("labels"), *read.strings("reportedLabels")))),
            is_responding=read.boolean("responding"),
            pipelines_count=read.integer("pipelinesCount"),
            last_reported=read.timestamp("lastReportedTime"),
            id_separator=read.string("idSeparator") or "__",
        )


def tunnel_instance_id(value: object) -> str | None:
    """Return the tunnel instance of a connected engine; None if the engine is not connected."""
    return JsonReader(value or {}, "tunnel").optional_string("instanceId") or None
