"""
The file that a sandbox's state survives in.

One JSON document per line: first what the sandbox began with, then every request that may have changed something.
It is readable by its owner alone, and holds no credential.
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
class Beginning:
    """
    What a sandbox begins with.

    :param born: when, in epoch milliseconds.
    :param key: what the ids of new jobs are made from.
    :param seed: fingerprint of its seed.
    :param time_scale: its time scale.
    :param variants: the variants, before anybody changes them.
    """

    born: int
    key: str
    seed: str
    time_scale: float
    variants: dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A request, with the time at which it came in epoch milliseconds."""

    time: int
    method: str
    path: str
    query: str
    content_type: str
    body: bytes
    caller: str | None = None

    def document(self) -> dict[str, Any]:
        """Return it as it is written down."""
        document = {**dataclasses.asdict(self), "body": None}
        try:
            document["body"] = self.body.decode()
        except UnicodeDecodeError:
            document["body64"] = base64.b64encode(self.body).decode()
        return document

    @classmethod
    def read(cls, document: dict[str, Any]) -> Entry:
        """Return the request that was written down."""
        values = dict(document)
        encoded, text = values.pop("body64", None), values.pop("body")
        return cls(body=base64.b64decode(encoded) if encoded is not None else text.encode(), **values)


class StateFile:
    """
    The file, held by one sandbox at a time until it ends or closes it.

    A line is in the file, as far as any process can tell, once :meth:`append` returns. It is not forced to the disk:
    the state survives the end of the sandbox however that comes, but not a power failure.

    :param path: where it is; it need not exist.
    :raises StateError: if it is none, or cannot be read, or another sandbox has it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.beginning: Beginning | None = None
        self.entries: list[Entry] = []
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise StateError(f"{path}: cannot be opened: {error.strerror}") from None
        try:
            self._hold()
            self._length = self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let others have the file."""
        os.close(self._file)

    def begin(self, beginning: Beginning) -> None:
        """
        Write down what a new sandbox begins with.

        :raises OSError: if that is not possible.
        """
        self._write({"format": FORMAT, "sandbox": __version__, **dataclasses.asdict(beginning)})
        self.beginning = beginning

    def append(self, entry: Entry) -> None:
        """
        Write down a request.

        :raises OSError: if that is not possible; the file is as before.
        """
        self._write(entry.document())

    def _hold(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StateError(f"{self._path}: another sandbox is using it") from None
        os.fchmod(self._file, 0o600)

    def _read(self) -> int:
        """Return the length of the whole lines."""
        with open(self._file, "rb", closefd=False) as file:
            content = file.read()
        *lines, torn = content.split(b"\n")
        if not lines and torn and not f'{{"format": "{FORMAT}"'.encode().startswith(torn[:20]):
            raise StateError(f"{self._path}: is no state file of a sandbox")
        if lines:
            self.beginning = self._read_beginning(lines[0])
        for number, line in enumerate(lines[1:], start=2):
            try:
                self.entries.append(Entry.read(json.loads(line)))
            except (ValueError, TypeError, KeyError, AttributeError):
                raise StateError(f"{self._path}: line {number} is no request") from None
        if torn:
            log.warning("%s: line %d is torn and was dropped: nobody got an answer to it", self._path, len(lines) + 1)
            os.ftruncate(self._file, len(content) - len(torn))
        return len(content) - len(torn)

    def _read_beginning(self, line: bytes) -> Beginning:
        try:
            document = json.loads(line)
            if document.pop("format") != FORMAT:
                raise ValueError
            written_by = document.pop("sandbox")
            beginning = Beginning(**document) if written_by == __version__ else None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise StateError(f"{self._path}: is no state file of a sandbox") from None
        if beginning is None:
            raise StateError(f"{self._path}: is the state of a sandbox of version {written_by}, this is {__version__}")
        return beginning

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
