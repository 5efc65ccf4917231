"""Export and import of jobs as zip archives (contract section 7)."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from airflow_provider_streamsets.control_hub._json import as_list
from airflow_provider_streamsets.control_hub._messages import describe_ids
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubConfigurationError,
    ControlHubUnexpectedResponseError,
)
from airflow_provider_streamsets.control_hub.models import ImportedJob, Model
from airflow_provider_streamsets.control_hub.services import Retry, Service

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.session import Session

# First bytes of a zip archive, and of an empty one.
_ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")
# Signature of the end record of a zip archive, which can be followed by a comment.
_END_RECORD = b"PK\x05\x06"
_END_RECORD_LENGTH = 22
_MAX_END_RECORD_LENGTH = _END_RECORD_LENGTH + 65535
# Start of the entries of a pipeline archive, as written by engines and Control Hub's pipeline repository.
_PIPELINE_ENTRY = re.compile(rb'\s*\{\s*"(pipelineConfig|pipelineRules|libraryDefinitions)"\s*:')


@dataclass(frozen=True)
class ExportedArchive(Model):
    """Size and checksum of an exported archive."""

    size: int
    """Size in bytes."""
    sha256: str


class Archives:
    """Export and import of jobs, available as ``client.archives``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def export_jobs(self, job_ids: Iterable[str], target: BinaryIO) -> ExportedArchive:
        """
        Export jobs and their pipeline versions as a zip archive, streamed to a file.

        The archive contains no secrets of connections. The format of its entries is not documented.

        :param job_ids: ids of jobs and job templates, sent in one request; instances attached to a template cannot be
            exported
        :param target: seekable file to write to; truncated if the request is retried
        :raises ControlHubUnexpectedResponseError: if the response is not a zip archive
        """
        ids = list(dict.fromkeys(job_ids))
        if not ids:
            raise ControlHubConfigurationError("Cannot export jobs: no job id was given.")
        action = f"export {describe_ids(ids)}"

        def write(chunks: Iterator[bytes]) -> ExportedArchive:
            target.seek(0)
            target.truncate()
            digest, size, head, tail = hashlib.sha256(), 0, b"", b""
            for chunk in chunks:
                if len(head) < 4:
                    head = (head + chunk)[:4]
                    # The page of a proxy must not be kept as an archive.
                    if len(head) == 4 and head not in _ZIP_SIGNATURES:
                        break
                target.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                tail = (tail + chunk)[-_MAX_END_RECORD_LENGTH:]
            # An archive truncated by a proxy lacks the directory at its end.
            if head not in _ZIP_SIGNATURES or not _is_complete(tail):
                raise ControlHubUnexpectedResponseError(f"Cannot {action}: the response is not a complete zip archive.")
            return ExportedArchive(size, digest.hexdigest())

        archive: ExportedArchive = self._session.request(
            "POST", Service.JOBRUNNER, "/v1/jobs/exportJobs", action=action, body=ids, stream_to=write
        )
        return archive

    def import_jobs(
        self,
        archive: BinaryIO,
        *,
        update_pipeline: bool = True,
        update_number_of_instances: bool = False,
        update_runtime_parameters: bool = False,
        update_engine_labels: bool = False,
        update_failover: bool = True,
    ) -> list[ImportedJob]:
        """
        Create the jobs of an archive with their original ids, or update the existing ones.

        Tags are always imported; the flags select what else is overwritten in existing jobs. The request is not retried
        when its result is unknown, because a second import would overwrite edits made in between.

        :param archive: seekable zip archive from an export
        :param update_pipeline: overwrite the pipeline version
        :param update_number_of_instances: overwrite the number of pipeline instances
        :param update_runtime_parameters: overwrite the runtime parameters
        :param update_engine_labels: overwrite the engine labels
        :param update_failover: overwrite whether failover is enabled
        :returns: the imported jobs
        :raises ControlHubConfigurationError: if `archive` is not a zip archive or contains pipelines; nothing was sent
        """
        archive.seek(0)
        if archive.read(4) not in _ZIP_SIGNATURES:
            raise ControlHubConfigurationError("Cannot import jobs: the file is not a zip archive. Nothing was sent.")
        pipeline = _find_pipeline_entry(archive)
        if pipeline is not None:
            raise ControlHubConfigurationError(
                f"Cannot import jobs: the archive contains pipelines, such as '{pipeline}', not jobs. Nothing was "
                "sent. Export the jobs, which includes their pipelines, or import the pipelines in Control Hub."
            )
        flags = {
            "updatePipelineRefs": update_pipeline,
            "updateNumInstances": update_number_of_instances,
            "updateRuntimeParameters": update_runtime_parameters,
            "updateLabels": update_engine_labels,
            "updateMigrateOffsets": update_failover,
        }
        response = self._session.request(
            "POST",
            Service.JOBRUNNER,
            "/v1/jobs/importJobs",
            action="import jobs",
            params={name: str(value).lower() for name, value in flags.items()},
            file=archive,
            retry=Retry.NEVER,
        )
        return [ImportedJob.from_wire(entry) for entry in as_list(response, "imported jobs")]


def _find_pipeline_entry(archive: BinaryIO) -> str | None:
    """
    Return the name of an entry if all entries are exported pipelines; None otherwise, or if they are unreadable.

    An archive with other entries may contain jobs; its layout is unknown (contract section 18.20).
    """
    try:
        with zipfile.ZipFile(archive) as entries:
            files = [info for info in entries.infolist() if not info.is_dir()]
            for info in files:
                with entries.open(info) as entry:
                    if not _PIPELINE_ENTRY.match(entry.read(200)):
                        return None
    except Exception:  # noqa: BLE001 - broken archives raise many errors; Control Hub decides
        return None
    return files[0].filename if files else None


def _is_complete(tail: bytes) -> bool:
    """Return whether the last bytes of a zip archive contain a complete end record."""
    start = tail.rfind(_END_RECORD)
    if start < 0 or len(tail) < start + _END_RECORD_LENGTH:
        return False
    comment = int.from_bytes(tail[start + _END_RECORD_LENGTH - 2 : start + _END_RECORD_LENGTH], "little")
    return len(tail) == start + _END_RECORD_LENGTH + comment
