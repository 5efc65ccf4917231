"""Jobs as archives: export and import (contract, section 7)."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from airflow_provider_streamsets.control_hub._json import JsonReader, as_list
from airflow_provider_streamsets.control_hub._messages import join_truncated
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubConfigurationError,
    ControlHubJobStateError,
    ControlHubUnexpectedAnswerError,
)
from airflow_provider_streamsets.control_hub.models import Job, Model
from airflow_provider_streamsets.control_hub.services import Service
from airflow_provider_streamsets.control_hub.transport import Retry

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient

# The first bytes of a zip archive, and of one without entries.
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
# Begins the record at the end of one, which can be followed by a comment.
_END = b"PK\x05\x06"
_END_LENGTH = 22
_LONGEST_END = _END_LENGTH + 65535
# How the entries of an archive of pipelines begin, as engines and Control Hub's pipeline repository write them.
_PIPELINE = re.compile(rb'\s*\{\s*"(pipelineConfig|pipelineRules|libraryDefinitions)"\s*:')


@dataclass(frozen=True)
class ExportedArchive(Model):
    """An archive that has been written."""

    size: int
    """Bytes."""
    sha256: str


@dataclass(frozen=True)
class ImportedJob(Model):
    """A job that an import has created or updated."""

    job_id: str
    name: str
    pipeline_version: str | None


class Archives:
    """Export and import of jobs; reached as ``client.archives``."""

    def __init__(self, client: ControlHubClient) -> None:
        self._client = client

    def export_jobs(self, job_ids: Iterable[str], target: BinaryIO) -> ExportedArchive:
        """
        Write jobs with their pipeline versions as a zip archive, as it arrives: it is never held in memory.

        The archive holds no secrets of connections. It must be taken as a whole: its entries are not documented.

        :param job_ids: ids of jobs and job templates, in one request; not of instances attached to a template
        :param target: where to write to; emptied if the request has to be repeated, and so must be seekable
        :raises ControlHubUnexpectedAnswerError: if what comes is no zip archive
        """
        wanted = list(dict.fromkeys(job_ids))
        if not wanted:
            raise ControlHubConfigurationError("There is no job to export.")
        action = f"export {len(wanted)} jobs" if len(wanted) > 1 else f"export job {wanted[0]}"

        def write(chunks: Iterator[bytes]) -> ExportedArchive:
            target.seek(0)
            target.truncate()
            digest, size, head, tail = hashlib.sha256(), 0, b"", b""
            for chunk in chunks:
                if len(head) < 4:
                    head = (head + chunk)[:4]
                    # A proxy's page must not be kept as if it were the jobs.
                    if len(head) == 4 and head not in _ZIP:
                        break
                target.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                tail = (tail + chunk)[-_LONGEST_END:]
            # An archive that a proxy has cut off lacks its directory, which is at the end.
            if head not in _ZIP or not _is_complete(tail):
                raise ControlHubUnexpectedAnswerError(f"Cannot {action}: the answer is no complete zip archive.")
            return ExportedArchive(size, digest.hexdigest())

        archive: ExportedArchive = self._client.request(
            "POST", Service.JOBRUNNER, "/v1/jobs/exportJobs", action=action, body=wanted, stream_to=write
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
        Create the jobs of an archive under their ids, or update them where they exist.

        Tags are always imported; the flags say what else is overwritten in a job that exists. To import once more has
        the same result, apart from overwriting what was edited meanwhile; still it is not repeated after an unclear
        end.

        :param archive: zip archive as written by an export; sent as it is read, from its beginning
        :param update_pipeline: the pipeline version
        :param update_number_of_instances: the number of pipeline instances
        :param update_runtime_parameters: the runtime parameters
        :param update_engine_labels: the engine labels
        :param update_failover: whether failover is enabled
        :returns: the jobs of the archive
        :raises ControlHubConfigurationError: if `archive` is no zip archive, or one of pipelines; nothing was sent
        """
        archive.seek(0)
        if archive.read(4) not in _ZIP:
            raise ControlHubConfigurationError("What is to be imported is no zip archive; nothing was sent.")
        pipeline = _pipeline_of_archive(archive)
        if pipeline is not None:
            raise ControlHubConfigurationError(
                f"Cannot import jobs: the archive holds pipelines, such as '{pipeline}', not jobs; nothing was sent. "
                "Export the jobs instead, with which their pipelines come, or import the pipelines in Control Hub."
            )
        flags = {
            "updatePipelineRefs": update_pipeline,
            "updateNumInstances": update_number_of_instances,
            "updateRuntimeParameters": update_runtime_parameters,
            "updateLabels": update_engine_labels,
            "updateMigrateOffsets": update_failover,
        }
        answer = self._client.request(
            "POST",
            Service.JOBRUNNER,
            "/v1/jobs/importJobs",
            action="import jobs",
            params={name: str(value).lower() for name, value in flags.items()},
            file=archive,
            retry=Retry.NEVER,
        )
        jobs = []
        for entry in as_list(answer, "imported jobs"):
            job = JsonReader(JsonReader(entry, "imported job").get("minimalJobJson"), "imported job")
            label = job.optional_text("pipelineCommitLabel")
            jobs.append(
                ImportedJob(job.required_text("id"), job.text("name"), label.removeprefix("v") if label else None)
            )
        return jobs


def check_exportable(jobs: Iterable[Job]) -> None:
    """
    Check that jobs can be exported (contract, section 7).

    :raises ControlHubJobStateError: if not; the message names all that cannot
    """
    attached = [job.label for job in jobs if job.template_id is not None]
    if attached:
        raise ControlHubJobStateError(
            f"Cannot export jobs that are attached to a job template: {join_truncated(attached)}. Export the "
            "template instead. Nothing was sent."
        )


def _pipeline_of_archive(archive: BinaryIO) -> str | None:
    """
    Return the name of an entry if all are exported pipelines; None if not, or if that cannot be read.

    With other entries, it may be an archive of jobs, whose layout is not known (contract, 18.20).
    """
    try:
        with zipfile.ZipFile(archive) as entries:
            files = [info for info in entries.infolist() if not info.is_dir()]
            for info in files:
                with entries.open(info) as entry:
                    if not _PIPELINE.match(entry.read(200)):
                        return None
    except Exception:  # noqa: BLE001 - of a broken archive, errors of many kinds; Control Hub decides what it is
        return None
    return files[0].filename if files else None


def _is_complete(tail: bytes) -> bool:
    """Return whether the last bytes of a zip archive hold the whole record that ends it."""
    start = tail.rfind(_END)
    if start < 0 or len(tail) < start + _END_LENGTH:
        return False
    comment = int.from_bytes(tail[start + _END_LENGTH - 2 : start + _END_LENGTH], "little")
    return len(tail) == start + _END_LENGTH + comment
