"""Files that operators read and write: local ones, and those of any store that Airflow's object storage reaches."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

log = logging.getLogger(__name__)

FilePath: TypeAlias = "str | os.PathLike[str] | ObjectStoragePath"
_LOCAL_PROTOCOLS = frozenset({"", "file", "local"})
_CHUNK = 1024 * 1024


@contextmanager
def reading(path: FilePath) -> Iterator[BinaryIO]:
    """
    Open a file for reading, as a local and seekable one.

    A file of an object store is first copied to a temporary one on this machine.

    :param path: local path, URL such as ``s3://connection@bucket/key``, or ``ObjectStoragePath``
    :raises ValueError: if it is no path
    :raises OSError: if the file cannot be read
    """
    source = _resolved(path)
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as local:
        with source.open("rb") as remote:
            shutil.copyfileobj(remote, local, _CHUNK)
        local.seek(0)
        yield cast("BinaryIO", local)


@contextmanager
def writing(path: FilePath, *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """
    Open a file for writing, which takes its place when the block has ended well, and not before.

    What is given to write to is a new local file that can be read, truncated and rewound. A local target gets it under
    a temporary name beside it and is then replaced at once; a file of an object store is copied up when it is complete,
    also under a temporary name. After a failure, nothing of it is left behind.

    :param path: local path, URL such as ``s3://connection@bucket/key``, or ``ObjectStoragePath``
    :param overwrite: replace a file that exists
    :raises ValueError: if it is no path of a file
    :raises FileExistsError: if the file exists and is not to be replaced, at the beginning or at the end of the block
    :raises OSError: if the file cannot be written
    """
    target = _resolved(path)
    _check_absent(target, overwrite)
    place = _writing_local(target, overwrite) if isinstance(target, Path) else _writing_remote(target, overwrite)
    with place as file:
        yield file


@contextmanager
def _writing_local(target: Path, overwrite: bool) -> Iterator[BinaryIO]:
    # What a symbolic link leads to is replaced, and not the link.
    target = Path(os.path.realpath(target))
    if target.is_dir():
        raise IsADirectoryError(f"Cannot write '{target}': it is a folder.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"Cannot write '{target}': there is no folder '{target.parent}'.")
    part = target.with_name(_temporary_name(target.name))
    try:
        with part.open("xb+") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _check_absent(target, overwrite)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _writing_remote(target: ObjectStoragePath, overwrite: bool) -> Iterator[BinaryIO]:
    # Such a name would be taken for a pattern when the file is moved.
    if any(character in target.path for character in "*?["):
        raise ValueError(f"Cannot write '{target}': a name in an object store must not hold '*', '?' or '['.")
    with tempfile.TemporaryFile() as local:
        yield cast("BinaryIO", local)
        local.seek(0)
        _check_absent(target, overwrite)
        part = target.with_name(_temporary_name(target.name))
        try:
            with part.open("wb") as remote:
                shutil.copyfileobj(local, remote, _CHUNK)
            part.move(target)
        except BaseException:
            _remove(part)
            raise


def _remove(part: ObjectStoragePath) -> None:
    """Remove what an upload that failed may have left; that this fails must not hide why the upload did."""
    try:
        part.unlink(missing_ok=True)
    except Exception as error:  # noqa: BLE001 - each store has errors of its own
        log.warning("Cannot remove '%s', which may be left from an upload that failed: %s", part, error)


def sha256_of(file: BinaryIO) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits, and leave it at its beginning."""
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()


def _resolved(path: Any) -> Path | ObjectStoragePath:
    if isinstance(path, str):
        if path.endswith("/"):
            raise ValueError(f"A file is to be named, but '{path}' is a folder.")
        if "://" not in path:
            return Path(path)
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    if isinstance(path, str):
        path = ObjectStoragePath(path)
    if isinstance(path, ObjectStoragePath):
        return Path(path.path) if path.protocol in _LOCAL_PROTOCOLS else path
    if isinstance(path, os.PathLike):
        return Path(path)
    raise ValueError(f"A file must be named by a text, a path or an ObjectStoragePath, but is named {path!r}.")


def _check_absent(target: Path | ObjectStoragePath, overwrite: bool) -> None:
    if not overwrite and target.exists():
        raise FileExistsError(f"Cannot write '{target}': it exists, and is not to be overwritten.")


def _temporary_name(name: str) -> str:
    return f".{name}.{uuid.uuid4().hex[:8]}.part"
