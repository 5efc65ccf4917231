"""Offsets of jobs (contract section 11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_streamsets.control_hub._json import JsonReader
from airflow_provider_streamsets.control_hub.errors import ControlHubConfigurationError
from airflow_provider_streamsets.control_hub.models.base import Model

_VERSION = 2


@dataclass(frozen=True)
class EngineOffset(Model):
    """The offset of a job on one engine."""

    engine_id: str
    document: Mapping[str, Any]
    """The offset document: ``{"version": 2, "offsets": {"<partition>": "<string or null>"}}``."""

    @classmethod
    def from_wire(cls, value: object) -> EngineOffset | None:
        """Parse an entry of ``pipelineOffsets``; None if it has no offset."""
        read = JsonReader(value, "pipeline offset")
        document = read.json_object("offset")
        return cls(read.string("sdcId"), document) if document else None

    @classmethod
    def from_status(cls, value: object) -> list[EngineOffset]:
        """Parse the offsets in a ``JobStatusJson``."""
        entries = JsonReader(value, "job status").array("pipelineOffsets")
        offsets = (cls.from_wire(entry) for entry in entries if entry is not None)
        return [offset for offset in offsets if offset is not None]


def validate_offset_document(value: object) -> dict[str, Any]:
    """
    Validate an offset document for upload.

    :raises ControlHubConfigurationError: if the document is invalid; the message says why
    """
    shape = '{"version": 2, "offsets": {"<partition>": "<string or null>"}}'
    if not isinstance(value, Mapping):
        raise ControlHubConfigurationError(
            f"An offset document must be a JSON object of the form {shape}, got {type(value).__name__}."
        )
    version, offsets = value.get("version"), value.get("offsets")
    if isinstance(version, bool) or version != _VERSION:
        raise ControlHubConfigurationError(
            f"'version' of an offset document must be {_VERSION}, got {version!r}. Expected the form {shape}."
        )
    if not isinstance(offsets, Mapping):
        raise ControlHubConfigurationError(
            f"'offsets' of an offset document must be a JSON object, got {type(offsets).__name__}. "
            f"Expected the form {shape}."
        )
    for partition, position in offsets.items():
        if not isinstance(partition, str) or not (position is None or isinstance(position, str)):
            raise ControlHubConfigurationError(
                f"The offset of partition {partition!r} must be a string or null, got {type(position).__name__}. "
                f"Expected the form {shape}."
            )
    return {"version": _VERSION, "offsets": dict(offsets)}


@dataclass(frozen=True)
class JobOffsets(Model):
    """
    Offsets of a job in the format that is stored outside of Control Hub, for inspection or a later upload.

    :param job_id: id of the job
    :param run_count: number of the run that the offsets are from; 0 if from no run
    :param engines: one offset per engine
    """

    job_id: str
    run_count: int
    engines: tuple[EngineOffset, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return ``job_id``, ``run_count`` and ``engines``, a list of ``engine_id`` and ``offset``."""
        engines = [{"engine_id": engine.engine_id, "offset": dict(engine.document)} for engine in self.engines]
        return {"job_id": self.job_id, "run_count": self.run_count, "engines": engines}

    def of_engine(self, engine_id: str | None) -> Mapping[str, Any]:
        """
        Return the offset document of an engine.

        :param engine_id: id of the engine; optional if there is only one
        :raises ControlHubConfigurationError: if there is no matching offset, or more than one
        """
        name = f"job {self.job_id}" + (f", run {self.run_count}" if self.run_count else "")
        known = ", ".join(engine.engine_id or "(no engine)" for engine in self.engines)
        found = [engine for engine in self.engines if engine_id in (None, engine.engine_id)]
        if not self.engines:
            raise ControlHubConfigurationError(f"Cannot upload an offset: {name} has none.")
        if not found:
            raise ControlHubConfigurationError(
                f"Cannot upload the offset of engine {engine_id}: {name} has only offsets of {known}."
            )
        if len(found) > 1:
            raise ControlHubConfigurationError(
                f"Cannot upload an offset: {name} has offsets of several engines ({known}). Select one with "
                "'engine_id'."
            )
        return found[0].document


def document_to_upload(value: object, engine_id: str | None = None) -> dict[str, Any]:
    """
    Return the offset document to upload, from a document or from the result of :meth:`JobOffsets.to_dict`.

    :param value: offset document, or offsets of a job
    :param engine_id: id of the engine; optional if there is only one
    :raises ControlHubConfigurationError: if there is no matching offset, or more than one
    """
    if not isinstance(value, Mapping) or "engines" not in value:
        document = validate_offset_document(value)
        if engine_id is not None:
            raise ControlHubConfigurationError(
                f"Cannot select the offset of engine {engine_id}: a single offset document has no engine."
            )
        return document
    try:
        engines = tuple(EngineOffset(str(entry["engine_id"]), entry["offset"]) for entry in value["engines"])
        offsets = JobOffsets(str(value["job_id"]), int(value["run_count"]), engines)
    except (KeyError, TypeError, ValueError) as error:
        raise ControlHubConfigurationError(
            "The offsets of a job must have 'job_id', 'run_count' and 'engines', a list of 'engine_id' and 'offset' "
            f"({type(error).__name__}: {error})."
        ) from None
    return validate_offset_document(offsets.of_engine(engine_id))
