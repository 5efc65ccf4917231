"""
The state file.

It contains one JSON document per line: a header with the initial settings of the sandbox, then every request that may
have changed the state. Only its owner can read it, and it contains no credential.
"""

from __future__ import annotations

import base64
import dataclasses
import fcntl
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_streamsets import __version__

FORMAT = "streamsets-sandbox-state"

log = logging.getLogger(__name__)


class StateError(ValueError):
    """A state file that cannot be used."""


@dataclass(frozen=True)
class StateHeader:
    """
    The initial settings of a sandbox.

    :param created_at: creation time of the sandbox in epoch milliseconds.
    :param key: key from which the ids of new jobs are derived.
    :param seed: fingerprint of the seed.
    :param time_scale: the time scale.
    :param variants: the initial variants.
    """

    created_at: int
    key: str
    seed: str
    time_scale: float
    variants: dict[str, Any]


@dataclass(frozen=True)
class RequestRecord:
    """A request, with its time in epoch milliseconds."""

    time: int
    method: str
    path: str
    query: str
    content_type: str
    body: bytes
    caller: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of the request."""
        document = {**dataclasses.asdict(self), "body": None}
        try:
            document["body"] = self.body.decode()
        except UnicodeDecodeError:
            document["body64"] = base64.b64encode(self.body).decode()
        return document

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> RequestRecord:
        """Parse the JSON document of a request."""
        values = dict(document)
        encoded, text = values.pop("body64", None), values.pop("body")
        return cls(body=base64.b64decode(encoded) if encoded is not None else text.encode(), **values)


class StateFile:
    """
    A state file, locked by one sandbox at a time until it exits or closes the file.

    A line is visible to all processes when :meth:`append` returns, but it is not synced to disk: the state survives
    any termination of the sandbox, but not a power failure.

    :param path: path of the file, which need not exist.
    :raises StateError: if the file is not a valid state file, cannot be read or is used by another sandbox.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.header: StateHeader | None = None
        self.records: list[RequestRecord] = []
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise StateError(f"{path}: cannot be opened: {error.strerror}.") from None
        try:
            self._lock()
            self._length = self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close and unlock the file."""
        os.close(self._file)

    def write_header(self, header: StateHeader) -> None:
        """
        Write the header of a new file.

        :raises OSError: if it cannot be written.
        """
        self._write({"format": FORMAT, "sandbox": __version__, **dataclasses.asdict(header)})
        self.header = header

    def append(self, record: RequestRecord) -> None:
        """
        Append a request.

        :raises OSError: if it cannot be written; the file is unchanged then.
        """
        self._write(record.to_dict())

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StateError(f"{self._path}: is in use by another sandbox.") from None
        os.fchmod(self._file, 0o600)

    def _read(self) -> int:
        """Read the file, remove an incomplete last line and return the remaining length."""
        with open(self._file, "rb", closefd=False) as file:
            content = file.read()
        *lines, incomplete = content.split(b"\n")
        if not lines and incomplete and not f'{{"format": "{FORMAT}"'.encode().startswith(incomplete[:20]):
            raise StateError(f"{self._path}: is not a state file of a sandbox.")
        if lines:
            self.header = self._read_header(lines[0])
        for number, line in enumerate(lines[1:], start=2):
            try:
                self.records.append(RequestRecord.from_dict(json.loads(line)))
            except (ValueError, TypeError, KeyError, AttributeError):
                raise StateError(f"{self._path}: line {number} is not a valid request.") from None
        if incomplete:
            log.warning(
                "%s: Removed the incomplete line %d. Its request was never answered, so nothing needs to be done.",
                self._path,
                len(lines) + 1,
            )
            os.ftruncate(self._file, len(content) - len(incomplete))
        return len(content) - len(incomplete)

    def _read_header(self, line: bytes) -> StateHeader:
        try:
            document = json.loads(line)
            if document.pop("format") != FORMAT:
                raise ValueError
            written_by = document.pop("sandbox")
            header = StateHeader(**document) if written_by == __version__ else None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise StateError(f"{self._path}: is not a state file of a sandbox.") from None
        if header is None:
            raise StateError(
                f"{self._path}: was written by version {written_by} of the sandbox, this is version {__version__}."
            )
        return header

    def _write(self, document: dict[str, Any]) -> None:
        line = json.dumps(document).encode() + b"\n"
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError:
            os.ftruncate(self._file, self._length)
            raise
        self._length += len(line)
