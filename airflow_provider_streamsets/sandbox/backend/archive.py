"""Reading and writing job archives, ZIP files with one JSON file per job."""

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
