"""Archives of jobs, ZIP files with one JSON file per job: reading, writing and import."""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import IO, Any

from pydantic import TypeAdapter

from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError, bad_request
from airflow_provider_streamsets.sandbox.backend.jobs import check_update
from airflow_provider_streamsets.sandbox.backend.payload import Payload, find_commit, parse_json, read_settings
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.seed.behaviour import SANDBOX_METADATA_KEY, Behaviour, PipelineMetadata
from airflow_provider_streamsets.sandbox.seed.document import SeedError, validate
from airflow_provider_streamsets.sandbox.seed.models import JobSeed, PipelineSeed, VersionSeed

MAX_ENTRY_BYTES = 64 * 1024 * 1024
# Contained in the exports of real organizations (contract, 19.14).
_CONNECTIONS_FILE = "connections_metadata.json"

_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, UnicodeError, OverflowError,
)  # fmt: skip


class _ChunkBuffer(io.RawIOBase):
    """A write-only file whose content can be drained."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._chunks.append(bytes(data))
        return len(data)

    def drain(self) -> bytes:
        content = b"".join(self._chunks)
        self._chunks.clear()
        return content


def write_archive(entries: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """Yield an archive in chunks, with one entry in memory at a time."""
    buffer = _ChunkBuffer()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in entries:
            archive.writestr(entry_name(entry), json.dumps(entry, indent=2))
            yield buffer.drain()
    yield buffer.drain()


def entry_name(entry: dict[str, Any]) -> str:
    """Return a readable file name for a job; readers ignore it."""
    job = entry["minimalJobJson"]
    name, key = (_safe_name(text) for text in (job["name"], job["id"].partition(":")[0]))
    return f"{name[:80]}-{key}.json"


def _safe_name(text: str) -> str:
    return re.sub(r"[^\w -]", "_", text, flags=re.ASCII)


def read_archive(file: IO[bytes]) -> list[Any]:
    """
    Return the entries of an archive, whatever their file names.

    :param file: the archive.
    :raises ApiError: if the archive is invalid or an entry is not valid JSON.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            return [
                _read_entry(archive, info)
                for info in archive.infolist()
                if not info.is_dir() and info.filename.rpartition("/")[2] != _CONNECTIONS_FILE
            ]
    except _UNREADABLE:
        raise bad_request("The file is not a valid ZIP archive.") from None


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    try:
        with archive.open(info) as file:
            content = file.read(MAX_ENTRY_BYTES + 1)
        if len(content) > MAX_ENTRY_BYTES:
            raise bad_request(f"Archive entry '{info.filename}' is larger than {MAX_ENTRY_BYTES} bytes.")
    except (*_UNREADABLE, ValueError) as error:
        raise bad_request(f"Cannot read archive entry '{info.filename}': {error}") from None
    try:
        return parse_json(content)
    except ValueError:
        raise bad_request(f"Archive entry '{info.filename}' is not valid JSON.") from None


DEFAULT_IMPORT_METADATA = PipelineMetadata(
    "Directory", "JDBCProducer", "{position}", Behaviour(records=1000, rate=500.0)
)
"""The metadata of an imported pipeline without sandbox metadata."""


@dataclass(frozen=True)
class PipelineImport:
    """
    A pipeline with the version of an archive entry.

    :param number: the version number of the entry, or None if it has none.
    """

    pipeline: PipelineSeed
    number: int | None

    def apply(self, backend: ControlHubBackend) -> tuple[PipelineSeed, VersionSeed]:
        """
        Add the version unless it exists, and return its pipeline and the version.

        Versions are identified by their commit. A new version keeps its number unless another version has it.
        """
        (version,) = self.pipeline.versions
        existing_version = find_commit(backend.pipelines, version.commit_id)
        if existing_version is not None:
            return existing_version
        existing = backend.pipelines.get(self.pipeline.id)
        used_numbers = {int(other.version) for other in existing.versions} if existing else set()
        number = self.number
        if number is None or number in used_numbers:
            number = max(used_numbers, default=0) + 1
        version = replace(version, version=str(number), committed_ago=backend.created_at - backend.clock.now())
        versions = (*existing.versions, version) if existing else (version,)
        pipeline = replace(
            existing or self.pipeline, versions=tuple(sorted(versions, key=lambda other: int(other.version)))
        )
        backend.save_pipeline(pipeline)
        return pipeline, version


def read_pipeline(job: Payload, commit: Payload) -> PipelineImport:
    """
    Parse the pipeline version of an entry.

    :param job: the entry's ``MinimalJobJson``.
    :param commit: the entry's ``CommitPipelineJson``.
    :raises ApiError: if one of them is invalid.
    """
    text = commit.required_string("pipelineDefinition")
    definition = Payload(_parse_definition(text), "pipelineDefinition")
    metadata = definition.value("metadata")
    metadata_fields = Payload({} if metadata is None else metadata, "metadata of pipelineDefinition")
    number = re.fullmatch(r"v([1-9]\d{0,8})", job.string("pipelineCommitLabel") or "")
    pipeline_id = job.required_string("pipelineId")
    return PipelineImport(
        pipeline=PipelineSeed(
            id=pipeline_id,
            rules_id=job.string("rulesId") or pipeline_id,
            name=commit.string("name") or job.required_string("pipelineName"),
            description=definition.string("description") or "",
            labels=metadata_fields.strings("labels") or (),
            versions=(
                VersionSeed(
                    version="",
                    commit_id=job.required_string("pipelineCommitId"),
                    message=commit.string("commitMessage") or "",
                    committed_ago=0,
                    constants=_constants(definition),
                    definition=text,
                    rules=commit.string("rulesDefinition"),
                ),
            ),
            **vars(_sandbox_metadata(metadata_fields)),
        ),
        number=int(number[1]) if number else None,
    )


def _sandbox_metadata(metadata: Payload) -> PipelineMetadata:
    document = metadata.value(SANDBOX_METADATA_KEY)
    if document is None:
        return DEFAULT_IMPORT_METADATA
    try:
        return validate(
            TypeAdapter(PipelineMetadata), document, f"{SANDBOX_METADATA_KEY} in the metadata of pipelineDefinition"
        )
    except SeedError as error:
        raise bad_request(str(error)) from None


def _constants(definition: Payload) -> dict[str, str]:
    """Return the parameters of the pipeline; foreign pipelines may have any configuration."""
    configuration = definition.value("configuration")
    for entry in configuration if isinstance(configuration, list) else []:
        if isinstance(entry, dict) and entry.get("name") == "constants" and isinstance(entry.get("value"), list):
            return {
                str(constant["key"]): str(constant.get("value", ""))
                for constant in entry["value"]
                if isinstance(constant, dict) and "key" in constant
            }
    return {}


def _parse_definition(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        raise bad_request("'pipelineDefinition' must be a string of JSON.") from None


@dataclass(frozen=True)
class OverwriteOptions:
    """The values of existing jobs that an import overwrites, besides the tags."""

    pipeline: bool = True
    instances: bool = False
    parameters: bool = False
    labels: bool = False
    failover: bool = True


@dataclass(frozen=True)
class JobImport:
    """A valid entry of an archive; ``settings`` are values of ``JobSeed``."""

    id: str
    name: str
    description: str | None
    is_template: bool
    settings: dict[str, Any]
    pipeline: PipelineImport


def import_jobs(backend: ControlHubBackend, entries: list[Any], overwrite: OverwriteOptions) -> list[Job]:
    """
    Create or update the jobs of an archive, all of them or none.

    :param backend: the simulated Control Hub.
    :param entries: the entries.
    :param overwrite: the values to overwrite in existing jobs.
    :return: the jobs.
    :raises ApiError: if an entry is invalid or a job cannot be changed.
    """
    imports = [_parse_entry(entry, f"entry {number}") for number, entry in enumerate(entries, start=1)]
    if len({item.id for item in imports}) < len(imports):
        raise bad_request("The archive contains a job twice.")
    for item in imports:
        existing = backend.jobs.get(item.id)
        if existing is not None:
            check_update(backend, existing)
            if existing.seed.is_template is not item.is_template:
                raise ApiError(
                    400, "JOBRUNNER_39", f"'{item.name}' cannot be changed from a job to a job template or back"
                )
    return [_import(backend, item, overwrite) for item in imports]


def _import(backend: ControlHubBackend, item: JobImport, overwrite: OverwriteOptions) -> Job:
    existing = backend.jobs.get(item.id)
    if existing is None:
        pipeline, version = item.pipeline.apply(backend)
        return backend.add_job(
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
    overwritten = {"tags": True, **vars(overwrite)}
    changes = {name: value for name, value in item.settings.items() if overwritten.get(name)}
    if overwrite.pipeline:
        changes["pipeline"], changes["version"] = item.pipeline.apply(backend)
    backend.change_job(existing, **changes)
    return existing


def _parse_entry(entry: Any, where: str) -> JobImport:
    envelope = Payload(entry, where)
    job = Payload(envelope.value("minimalJobJson"), f"minimalJobJson of {where}")
    return JobImport(
        id=job.required_string("id"),
        name=job.required_string("name"),
        description=job.string("description"),
        is_template=job.boolean("jobTemplate") or False,
        settings={"tags": (), **read_settings(job)},
        pipeline=read_pipeline(job, Payload(envelope.value("commitPipelineJson"), f"commitPipelineJson of {where}")),
    )
