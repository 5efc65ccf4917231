"""Archives of jobs: a ZIP file with one JSON file per job."""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any

from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.payload import parse_json

LARGEST_ENTRY = 64 * 1024 * 1024
# Exports of real organizations carry it beside the jobs (contract, 19.14).
_CONNECTIONS = "connections_metadata.json"

_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, UnicodeError, OverflowError,
)  # fmt: skip


class _Pieces(io.RawIOBase):
    """A file that keeps what is written to it until somebody takes it."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def written(entries: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """Return an archive piece by piece; no more than one entry of it is held at a time."""
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in entries:
            archive.writestr(entry_name(entry), json.dumps(entry, indent=2))
            yield pieces.take()
    yield pieces.take()


def entry_name(entry: dict[str, Any]) -> str:
    """Return the name of a job's file, for people; nothing reads it."""
    job = entry["minimalJobJson"]
    name, key = (_safe(text) for text in (job["name"], job["id"].partition(":")[0]))
    return f"{name[:80]}-{key}.json"


def _safe(text: str) -> str:
    return re.sub(r"[^\w -]", "_", text, flags=re.ASCII)


def read(file: IO[bytes]) -> list[Any]:
    """
    Return the entries of an archive; the names of those of jobs mean nothing.

    :param file: the archive.
    :raises ProblemError: if it is none, or an entry is not JSON.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            return [
                _read_entry(archive, info)
                for info in archive.infolist()
                if not info.is_dir() and info.filename.rpartition("/")[2] != _CONNECTIONS
            ]
    except _UNREADABLE:
        raise bad_request("the file is no ZIP archive, or a broken one") from None


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    try:
        with archive.open(info) as file:
            content = file.read(LARGEST_ENTRY + 1)
        if len(content) > LARGEST_ENTRY:
            raise bad_request(f"entry '{info.filename}' of the archive is larger than {LARGEST_ENTRY} bytes")
    except (*_UNREADABLE, ValueError) as error:
        raise bad_request(f"entry '{info.filename}' of the archive cannot be read: {error}") from None
    try:
        return parse_json(content)
    except ValueError:
        raise bad_request(f"entry '{info.filename}' of the archive is not valid JSON") from None
