"""Offsets: where a job continues reading from (contract, section 11)."""

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
    """The offset document: ``{"version": 2, "offsets": {"<partition>": "<text or null>"}}``."""

    @classmethod
    def from_wire(cls, value: object) -> EngineOffset | None:
        """Read one entry of ``pipelineOffsets``; None if it holds no offset."""
        read = JsonReader(value, "pipeline offset")
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


@dataclass(frozen=True)
class JobOffsets(Model):
    """
    The offsets of a job as they are kept outside of Control Hub, to look at or to be uploaded again.

    :param job_id: id of the job
    :param run_count: number of the run that has left them; 0 if no run has
    :param engines: one for each engine
    """

    job_id: str
    run_count: int
    engines: tuple[EngineOffset, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return ``job_id``, ``run_count`` and, in ``engines``, ``engine_id`` and ``offset`` of each engine."""
        engines = [{"engine_id": engine.engine_id, "offset": dict(engine.document)} for engine in self.engines]
        return {"job_id": self.job_id, "run_count": self.run_count, "engines": engines}

    def of_engine(self, engine_id: str | None) -> Mapping[str, Any]:
        """
        Return one offset document.

        :param engine_id: of this engine; None if there is only one
        :raises ControlHubConfigurationError: if there is none, or several to choose from
        """
        name = f"job {self.job_id}" + (f", run {self.run_count}" if self.run_count else "")
        known = ", ".join(engine.engine_id or "(no engine)" for engine in self.engines)
        found = [engine for engine in self.engines if engine_id in (None, engine.engine_id)]
        if not self.engines:
            raise ControlHubConfigurationError(f"There is no offset to upload: {name} has none.")
        if not found:
            raise ControlHubConfigurationError(
                f"There is no offset of engine {engine_id} to upload: {name} has offsets of {known}."
            )
        if len(found) > 1:
            raise ControlHubConfigurationError(
                f"Cannot tell which offset to upload: {name} has offsets of several engines ({known}). Name one with "
                "'engine_id'."
            )
        return found[0].document


def document_to_upload(value: object, engine_id: str | None = None) -> dict[str, Any]:
    """
    Return the offset document that can be uploaded, from one by itself or from :meth:`JobOffsets.to_dict`.

    :param value: the document or the offsets
    :param engine_id: of this engine; None if there is only one
    :raises ControlHubConfigurationError: if there is none, or several to choose from
    """
    if not isinstance(value, Mapping) or "engines" not in value:
        document = offset_document(value)
        if engine_id is not None:
            raise ControlHubConfigurationError(
                f"Cannot choose the offset of engine {engine_id}: this is a single offset, which names no engine."
            )
        return document
    try:
        engines = tuple(EngineOffset(str(entry["engine_id"]), entry["offset"]) for entry in value["engines"])
        offsets = JobOffsets(str(value["job_id"]), int(value["run_count"]), engines)
    except (KeyError, TypeError, ValueError) as error:
        raise ControlHubConfigurationError(
            "These are no offsets of a job, which have 'job_id', 'run_count' and, in 'engines', 'engine_id' and "
            f"'offset' of each engine ({type(error).__name__}: {error})."
        ) from None
    return offset_document(offsets.of_engine(engine_id))
