"""Files that operators read and write: local ones, and those of any store that Airflow's object storage reaches."""

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
    Open a file for reading, as a local and seekable one.

    A file of an object store, and what comes out of a pipe, is first copied to a temporary one on this machine.

    :param path: local path, URL such as ``s3://connection@bucket/key``, or ``ObjectStoragePath``
    :raises ValueError: if it is no path
    :raises OSError: if the file cannot be read
    """
    source = _resolved(path)
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
    Open a file for writing, which takes its place when the block has ended well, and not before.

    What is given to write to is a new local file that can be read, truncated and rewound. A local target gets it under
    a temporary name beside it and is then replaced at once, with the permissions it had; a file of an object store is
    copied up when it is complete, also under a temporary name. After a failure, nothing of it is left behind. A pipe,
    a device or an open file (``/dev/stdout``) is not replaced: the complete content is written to it.

    :param path: local path, URL such as ``s3://connection@bucket/key``, or ``ObjectStoragePath``
    :param overwrite: replace a file that exists; a pipe or device is written to in any case
    :raises ValueError: if it is no path of a file
    :raises FileExistsError: if the file exists and is not to be replaced, at the beginning or at the end of the block
    :raises OSError: if the file cannot be written
    """
    target = _resolved(path)
    if not _is_local(target):
        place = _atomic_write_remote(target, overwrite)
    elif _is_stream(target):
        place = _write_stream(target)
    else:
        place = _atomic_write_local(target, overwrite)
    with place as file:
        yield file


@contextmanager
def _atomic_write_local(target: Path, overwrite: bool) -> Iterator[BinaryIO]:
    _check_absent(target, overwrite)
    # What a symbolic link leads to is replaced, and not the link.
    target = Path(os.path.realpath(target))
    if target.is_dir():
        raise IsADirectoryError(f"Cannot write '{target}': it is a folder.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"Cannot write '{target}': there is no folder '{target.parent}'.")
    part = target.with_name(_temporary_name(target.name))
    try:
        with _created(part, target) as file:
            yield file
            with _naming(target):
                file.flush()
                os.fsync(file.fileno())
        _check_absent(target, overwrite)
        with _naming(target):
            os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _created(part: Path, target: Path) -> BinaryIO:
    """Create the temporary file of a target, with the permissions of the file that it replaces."""
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    with _naming(target, " (a temporary file has to be created in its folder)"):
        # At no time must others be able to open it who cannot open the file that it replaces.
        number = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
    if mode is not None:
        # Some file systems do not let permissions be changed.
        with suppress(OSError):
            os.fchmod(number, mode)
    return os.fdopen(number, "wb+")


@contextmanager
def _write_stream(target: Path) -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as local:
        yield cast("BinaryIO", local)
        local.seek(0)
        with _naming(target):
            # By its name, an open file would be written from its beginning, and a socket (the output of a task) cannot
            # be opened.
            number = _descriptor(target)
            opened = os.open(target, os.O_WRONLY) if number is None else os.dup(number)
            with open(opened, "wb") as stream:
                shutil.copyfileobj(local, stream, _CHUNK)


def _is_stream(target: Path) -> bool:
    """Return whether a target is written in place: a pipe, a device, a socket, or an open file by its descriptor."""
    with _naming(target):
        try:
            mode = target.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return False
    if stat.S_ISREG(mode):
        return _descriptor(target) is not None
    return not stat.S_ISDIR(mode)


def _descriptor(path: Path) -> int | None:
    """Return the descriptor of this process that a name such as ``/dev/stdout`` leads to."""
    while True:
        folder = os.path.realpath(path.parent)
        if folder in ("/dev/fd", f"/proc/{os.getpid()}/fd") and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            return None
        path = Path(folder, os.readlink(path))


@contextmanager
def _naming(target: Path, hint: str = "") -> Iterator[None]:
    """Let errors of the operating system say which file cannot be written, not which temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"Cannot write '{target}': {error.strerror}{hint}") from error


@contextmanager
def _atomic_write_remote(target: ObjectStoragePath, overwrite: bool) -> Iterator[BinaryIO]:
    _check_absent(target, overwrite)
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
    local = _is_local(path)
    if isinstance(path, ObjectStoragePath):
        return Path(path.path) if local else path
    if isinstance(path, os.PathLike) and local:
        return Path(path)
    raise ValueError(f"A file must be named by a text, a path or an ObjectStoragePath, but is named {path!r}.")


def _is_local(path: Any) -> TypeIs[Path]:
    # With universal-pathlib before 0.3 (Airflow 2.11.2 to 3.1), paths of object stores are instances of `Path`.
    return getattr(path, "protocol", "") in _LOCAL_PROTOCOLS


def _check_absent(target: Path | ObjectStoragePath, overwrite: bool) -> None:
    if not overwrite and target.exists():
        raise FileExistsError(f"Cannot write '{target}': it exists, and is not to be overwritten.")


def _temporary_name(name: str) -> str:
    # Not longer than names can be: 255 bytes, of which a character takes up to four.
    return f".{name[:40]}.{uuid.uuid4().hex[:8]}.part"
