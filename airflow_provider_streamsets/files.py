"""Read and write files: local ones, and those in Airflow's object storage."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath
    from typing_extensions import TypeIs

log = logging.getLogger(__name__)

FilePath: TypeAlias = "str | os.PathLike[str] | ObjectStoragePath"
_LOCAL_PROTOCOLS = frozenset({"", "file", "local"})
_CHUNK = 1024 * 1024


@contextmanager
def open_local_copy(path: FilePath) -> Iterator[BinaryIO]:
    """
    Open a file for reading, as a local, seekable file.

    The content of an object store file or a pipe is first copied to a temporary file.

    :param path: local path, URL such as ``s3://connection@bucket/key``, or ``ObjectStoragePath``
    :raises ValueError: if it is no path
    :raises OSError: if the file cannot be read
    """
    source = _resolve(path)
    with ExitStack() as stack:
        with source.open("rb") as file:
            if _is_local(source) and file.seekable():
                yield cast("BinaryIO", file)
                return
            local = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(file, local, _CHUNK)
        local.seek(0)
        yield cast("BinaryIO", local)


@contextmanager
def atomic_write(path: FilePath, *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """
    Open a file for writing; it replaces the target when the block ends without an error.

    The block writes to a new local file that can be read, truncated and rewound. For a local target, this is a
    temporary file in the same directory that replaces the target atomically and keeps its permissions. For an object
    store, the complete file is uploaded under a temporary name and then moved. After a failure, no temporary file
    remains. Pipes, devices and open files (``/dev/stdout``) are not replaced: the complete content is written to them.

    :param path: local path, URL such as ``s3://connection@bucket/key``, or ``ObjectStoragePath``
    :param overwrite: replace an existing file; pipes and devices are always written
    :raises ValueError: if it is not the path of a file
    :raises FileExistsError: if the file exists, at the start or the end of the block, and `overwrite` is false
    :raises OSError: if the file cannot be written
    """
    target = _resolve(path)
    if not _is_local(target):
        writer = _atomic_write_remote(target, overwrite)
    elif _is_stream(target):
        writer = _write_stream(target)
    else:
        writer = _atomic_write_local(target, overwrite)
    with writer as file:
        yield file


@contextmanager
def _atomic_write_local(target: Path, overwrite: bool) -> Iterator[BinaryIO]:
    _check_absent(target, overwrite)
    # Replace the target of a symbolic link, not the link.
    target = Path(os.path.realpath(target))
    if target.is_dir():
        raise IsADirectoryError(f"Cannot write '{target}': it is a directory.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"Cannot write '{target}': directory '{target.parent}' does not exist.")
    part = target.with_name(_temporary_name(target.name))
    try:
        with _create_temporary(part, target) as file:
            yield file
            with _rewrite_errors(target):
                file.flush()
                os.fsync(file.fileno())
        _check_absent(target, overwrite)
        with _rewrite_errors(target):
            os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _create_temporary(part: Path, target: Path) -> BinaryIO:
    """Create the temporary file of a target, with the permissions of the file to replace."""
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    with _rewrite_errors(target, " (creating a temporary file in its directory)"):
        # The temporary file must never be more accessible than the file that it replaces.
        number = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
    if mode is not None:
        # Some file systems do not support changing permissions.
        with suppress(OSError):
            os.fchmod(number, mode)
    return os.fdopen(number, "wb+")


@contextmanager
def _write_stream(target: Path) -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as local:
        yield cast("BinaryIO", local)
        local.seek(0)
        with _rewrite_errors(target):
            # Opened by name, a file would be overwritten from its start, and a socket (the output of a task) fails.
            number = _descriptor(target)
            opened = os.open(target, os.O_WRONLY) if number is None else os.dup(number)
            with open(opened, "wb") as stream:
                shutil.copyfileobj(local, stream, _CHUNK)


def _is_stream(target: Path) -> bool:
    """Return whether a target is written in place: a pipe, a device, a socket, or an open file descriptor."""
    with _rewrite_errors(target):
        try:
            mode = target.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return False
    if stat.S_ISREG(mode):
        return _descriptor(target) is not None
    return not stat.S_ISDIR(mode)


def _descriptor(path: Path) -> int | None:
    """Return the file descriptor of this process that a path such as ``/dev/stdout`` resolves to."""
    while True:
        folder = os.path.realpath(path.parent)
        if folder in ("/dev/fd", f"/proc/{os.getpid()}/fd") and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            return None
        path = Path(folder, os.readlink(path))


@contextmanager
def _rewrite_errors(target: Path, hint: str = "") -> Iterator[None]:
    """Make errors of the operating system name the target instead of the temporary file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"Cannot write '{target}': {error.strerror}{hint}") from error


@contextmanager
def _atomic_write_remote(target: ObjectStoragePath, overwrite: bool) -> Iterator[BinaryIO]:
    _check_absent(target, overwrite)
    # Moving the file would interpret such a name as a pattern.
    if any(character in target.path for character in "*?["):
        raise ValueError(f"Cannot write '{target}': a name in an object store must not contain '*', '?' or '['.")
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
    """Remove the temporary file of a failed upload; log errors, so that they do not hide the original one."""
    try:
        part.unlink(missing_ok=True)
    except Exception as error:  # noqa: BLE001 - each store raises its own errors
        log.warning("Could not remove temporary file '%s' of a failed upload; delete it manually: %s", part, error)


def sha256_of(file: BinaryIO) -> str:
    """Return the SHA-256 digest of a file in hexadecimal digits, and rewind the file."""
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()


def _resolve(path: Any) -> Path | ObjectStoragePath:
    if isinstance(path, str):
        if path.endswith("/"):
            raise ValueError(f"The path must name a file, got the directory '{path}'.")
        if "://" not in path:
            return Path(path)
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    if isinstance(path, str):
        path = ObjectStoragePath(path)
    local = _is_local(path)
    if isinstance(path, ObjectStoragePath):
        return Path(path.path) if local else path
    if isinstance(path, os.PathLike) and local:
        return Path(path)
    raise ValueError(f"The path of a file must be a string, a path object or an ObjectStoragePath, got {path!r}.")


def _is_local(path: Any) -> TypeIs[Path]:
    # Before universal-pathlib 0.3 (Airflow 2.11.2 to 3.1), object store paths are instances of `Path`.
    return getattr(path, "protocol", "") in _LOCAL_PROTOCOLS


def _check_absent(target: Path | ObjectStoragePath, overwrite: bool) -> None:
    if not overwrite and target.exists():
        raise FileExistsError(f"Cannot write '{target}': it exists, and overwriting is disabled.")


def _temporary_name(name: str) -> str:
    # File names have at most 255 bytes, and a character up to four.
    return f".{name[:40]}.{uuid.uuid4().hex[:8]}.part"
