"""Offsets: where a job continues reading from (contract, section 11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_streamsets.control_hub.errors import ControlHubConfigurationError
from airflow_provider_streamsets.control_hub.models.base import Model
from airflow_provider_streamsets.control_hub.wire import Reader

_VERSION = 2


@dataclass(frozen=True)
class EngineOffset(Model):
    """The offset of a job on one engine."""

    engine_id: str
    document: Mapping[str, Any]
    """The offset document: ``{"version": 2, "offsets": {"<partition>": "<text or null>"}}``."""

    @classmethod
    def from_wire(cls, value: object) -> EngineOffset | None:
        """Read one entry of ``pipelineOffsets``; None if it holds no offset."""
        read = Reader(value, "pipeline offset")
        document = read.json_object("offset")
        return cls(read.text("sdcId"), document) if document else None


def offset_document(value: object) -> dict[str, Any]:
    """
    Return `value` if it is an offset document that can be uploaded.

    :raises ControlHubConfigurationError: if not; the message says what is wrong
    """
    shape = '{"version": 2, "offsets": {"<partition>": "<text or null>"}}'
    if not isinstance(value, Mapping):
        raise ControlHubConfigurationError(
            f"An offset is a JSON object of the form {shape}, but this is {type(value).__name__}."
        )
    version, offsets = value.get("version"), value.get("offsets")
    if isinstance(version, bool) or version != _VERSION:
        raise ControlHubConfigurationError(
            f"Only offsets of version {_VERSION}, of the form {shape}, can be uploaded; the version of this one is "
            f"{version!r}."
        )
    if not isinstance(offsets, Mapping):
        raise ControlHubConfigurationError(f"'offsets' is missing or no object; an offset has the form {shape}.")
    for partition, position in offsets.items():
        if not isinstance(partition, str) or not (position is None or isinstance(position, str)):
            raise ControlHubConfigurationError(
                f"The offset of partition {partition!r} must be a text or null, but is {type(position).__name__}; "
                f"an offset has the form {shape}."
            )
    return {"version": _VERSION, "offsets": dict(offsets)}
