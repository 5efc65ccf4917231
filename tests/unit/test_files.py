from __future__ import annotations

import hashlib
import os
import socket
import stat
import subprocess
import sys
import tty
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from upath import UPath

from airflow_provider_streamsets import files
from tests.unit.fakes.memory_store import memory_store


@pytest.fixture
def store():
    return memory_store()


@pytest.fixture(params=["text", "path", "URL", "ObjectStoragePath", "memory URL", "memory ObjectStoragePath"])
def path(request, tmp_path, store):
    """A file that can be named in each way there is."""
    local = tmp_path / "a file.zip"
    return {
        "text": str(local),
        "path": local,
        "URL": f"file://{local}",
        "ObjectStoragePath": ObjectStoragePath(f"file://{local}"),
        "memory URL": "memory://bucket/folder/a file.zip",
        "memory ObjectStoragePath": ObjectStoragePath("memory://bucket/folder/a file.zip"),
    }[request.param]


def everything(tmp_path, store):
    """All files that there are, temporary ones too, without folders."""
    return {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} | {
        name.rpartition("/")[2]: store.cat_file(name) for name in store.find("")
    }


def write(path, data=b"new", *, meanwhile=lambda: None, **options):
    with files.atomic_write(path, **options) as file:
        file.write(data)
        meanwhile()


def test_written_file_is_readable_and_leaves_no_other(path, tmp_path, store):
    write(path)
    with files.open_local_copy(path) as file:
        assert file.read() == b"new"
    assert everything(tmp_path, store) == {"a file.zip": b"new"}


def test_file_is_replaced_only_when_complete(path, tmp_path, store):
    write(path, b"old")
    with files.atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        with files.open_local_copy(path) as before:
            assert before.read() == b"old"
    assert everything(tmp_path, store) == {"a file.zip": b"new"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failed_write_keeps_old_file(path, tmp_path, store, error):
    write(path, b"old")

    def fail():
        raise error

    with pytest.raises(error):
        write(path, b"half of the new", meanwhile=fail)
    assert everything(tmp_path, store) == {"a file.zip": b"old"}


def test_file_can_be_rewritten_before_replacement(path, tmp_path, store):
    with files.atomic_write(path) as file:
        file.write(b"a first attempt that was longer")
        file.seek(0)
        file.truncate()
        file.write(b"new")
    assert everything(tmp_path, store) == {"a file.zip": b"new"}


def test_existing_file_is_kept_without_overwrite(path, tmp_path, store):
    write(path, b"old", overwrite=False)
    with pytest.raises(FileExistsError, match="overwriting is disabled"):
        write(path, overwrite=False)
    assert everything(tmp_path, store) == {"a file.zip": b"old"}


def test_concurrently_created_file_is_kept_without_overwrite(path, tmp_path, store):
    with pytest.raises(FileExistsError):
        write(path, overwrite=False, meanwhile=lambda: write(path, b"of another writer"))
    assert everything(tmp_path, store) == {"a file.zip": b"of another writer"}


def test_reading_missing_file_raises(path):
    with pytest.raises(FileNotFoundError), files.open_local_copy(path):
        pass


def test_read_file_is_local_and_seekable(path):
    write(path, b"some content")
    with files.open_local_copy(path) as file:
        assert file.read(4) == b"some"
        file.seek(0)
        assert file.read() == b"some content"
        assert os.fstat(file.fileno()).st_size == 12


def test_new_local_file_has_default_permissions(tmp_path):
    write(tmp_path / "archive.zip")
    (tmp_path / "other").touch()
    assert (tmp_path / "archive.zip").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o444])
def test_replaced_file_keeps_its_permissions(tmp_path, mode):
    path = tmp_path / "archive.zip"
    path.touch()
    path.chmod(mode)

    def check_temporary_file():
        for entry in tmp_path.iterdir():
            assert stat.S_IMODE(entry.stat().st_mode) == mode

    write(path, meanwhile=check_temporary_file)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", mode)


def test_replacement_succeeds_if_permissions_cannot_be_set(tmp_path, monkeypatch):
    def fail(*_):
        raise PermissionError

    (tmp_path / "archive.zip").touch(0o640)
    monkeypatch.setattr(os, "fchmod", fail)
    write(tmp_path / "archive.zip")
    assert (tmp_path / "archive.zip").read_bytes() == b"new"


@pytest.mark.parametrize("name", ["a" * 255, "ä" * 127, "😀" * 63], ids=["1 byte", "2 bytes", "4 bytes"])
@pytest.mark.parametrize("place", ["local", "memory"])
def test_name_may_have_255_bytes(tmp_path, store, name, place):
    write(tmp_path / name if place == "local" else f"memory://bucket/{name}")
    assert everything(tmp_path, store) == {name: b"new"}


@pytest.fixture(params=["by its name", "through a link"])
def link(request, tmp_path):
    """Return a function that names a file."""

    def named(path):
        if request.param == "by its name":
            return path
        (tmp_path / "link").symlink_to(path)
        return tmp_path / "link"

    return named


@pytest.fixture
def pipe(tmp_path):
    """A named pipe, and the descriptor that reads from it."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    yield tmp_path / "pipe", reader
    os.close(reader)


@pytest.mark.parametrize("overwrite", [True, False])
def test_named_pipe_receives_content(pipe, link, overwrite):
    path, reader = pipe
    with files.atomic_write(link(path), overwrite=overwrite) as file:
        file.write(b"a first attempt")
        file.seek(0)
        file.truncate()
        file.write(b"new")
    assert os.read(reader, 100) == b"new"
    assert path.is_fifo()


def test_named_pipe_receives_nothing_after_failure(pipe):
    path, reader = pipe

    def fail():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write(path, meanwhile=fail)
    assert os.read(reader, 100) == b""


def test_device_receives_content(link):
    ours, terminal = os.openpty()
    tty.setraw(terminal)
    try:
        write(link(Path(os.ttyname(terminal))))
        assert os.read(ours, 100) == b"new"
    finally:
        os.close(ours)
        os.close(terminal)


@pytest.mark.parametrize("kind", ["file", "pipe", "socket"])
def test_open_descriptor_is_appended_to(tmp_path, link, kind):
    """What /dev/stdout is, in a task of Airflow a socket."""
    if kind == "file":
        output = os.open(tmp_path / "output", os.O_WRONLY | os.O_CREAT)
        ours = os.open(tmp_path / "output", os.O_RDONLY)
    elif kind == "pipe":
        ours, output = os.pipe()
    else:
        ours, output = (end.detach() for end in socket.socketpair())
    try:
        os.write(output, b"before ")
        write(link(Path(f"/dev/fd/{output}")))
        os.write(output, b" after")
        os.close(output)
        with open(ours, "rb") as file:
            assert file.read() == b"before new after"
    finally:
        (tmp_path / "output").unlink(missing_ok=True)
        (tmp_path / "link").unlink(missing_ok=True)
    assert list(tmp_path.iterdir()) == []


def test_pipe_is_read_as_seekable_file():
    ours, output = os.pipe()
    os.write(output, b"some content")
    os.close(output)
    with files.open_local_copy(f"/dev/fd/{ours}") as file:
        assert file.read(4) == b"some"
        file.seek(0)
        assert file.read() == b"some content"
    os.close(ours)


def test_unopenable_target_is_named_in_error(tmp_path, link):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    path = link(tmp_path / "socket")
    with pytest.raises(OSError, match=f"Cannot write '{path}': No such device"):
        write(path)
    assert (tmp_path / "socket").is_socket()


def test_self_referencing_link_raises_and_is_kept(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "link")
    with pytest.raises(OSError, match=f"Cannot write '{tmp_path}/link': Too many levels of symbolic links"):
        write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()


def test_unwritable_folder_is_named_in_error():
    # Not even by root.
    with pytest.raises(
        OSError, match=r"Cannot write '/sys/archive\.zip': .* \(creating a temporary file in its directory"
    ):
        write("/sys/archive.zip")


def test_symlink_target_is_replaced_not_link(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "link.zip").symlink_to(tmp_path / "target" / "real.zip")
    write(tmp_path / "link.zip")
    assert (tmp_path / "link.zip").is_symlink()
    assert (tmp_path / "target" / "real.zip").read_bytes() == b"new"


def test_missing_folder_is_named_in_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"directory '{tmp_path}/missing' does not exist"):
        write(tmp_path / "missing" / "archive.zip")


def test_writing_to_folder_raises(tmp_path):
    with pytest.raises(IsADirectoryError, match="it is a directory"):
        write(tmp_path)
    for path in (f"{tmp_path}/", "memory://bucket/folder/"):
        with pytest.raises(ValueError, match="must name a file"):
            write(path)


@pytest.mark.parametrize("name", ["jobs [prod]", "jobs*", "what?"])
def test_glob_characters_in_object_store_url_raise(store, name):
    with pytest.raises(ValueError, match="must not contain"):
        write(f"memory://bucket/{name}/archive.zip")
    assert store.find("") == []


@pytest.mark.parametrize("name", ["jobs [prod]*?.zip", "jöbs {1}.zip"])
def test_local_file_may_have_any_name(tmp_path, name):
    write(str(tmp_path / name))
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("value", [None, 7, b"bytes", ["a"]])
def test_non_path_value_raises(value):
    with pytest.raises(ValueError, match="The path of a file must be a string"), files.open_local_copy(value):
        pass


def test_path_of_another_store_is_refused(tmp_path, store, monkeypatch):
    """It may be an instance of `Path`, but must not be taken for a local one."""
    monkeypatch.chdir(tmp_path)
    path = UPath("memory://bucket/archive.zip")
    with pytest.raises(ValueError, match="The path of a file must be a string"):
        write(path)
    assert everything(tmp_path, store) == {}


def test_failed_upload_keeps_old_file(store, monkeypatch):
    def fail(*_, **__):
        raise OSError("store is full")

    write("memory://bucket/archive.zip", b"old")
    monkeypatch.setattr(ObjectStoragePath, "move", fail)
    with pytest.raises(OSError, match="store is full"):
        write("memory://bucket/archive.zip")
    assert store.find("") == ["/bucket/archive.zip"]
    assert store.cat_file("/bucket/archive.zip") == b"old"


def test_failed_cleanup_does_not_hide_upload_error(store, monkeypatch, task_log):
    def fail(text):
        def fails(*_, **__):
            raise OSError(text)

        return fails

    monkeypatch.setattr(ObjectStoragePath, "move", fail("store is full"))
    monkeypatch.setattr(ObjectStoragePath, "unlink", fail("may not delete"))
    with pytest.raises(OSError, match="store is full"):
        write("memory://bucket/archive.zip")
    assert "of a failed upload; delete it manually: may not delete" in task_log()


def test_sha256_covers_whole_file_at_any_position(tmp_path):
    content = os.urandom(3_000_000)
    (tmp_path / "archive.zip").write_bytes(content)
    with files.open_local_copy(tmp_path / "archive.zip") as file:
        file.read(10)
        assert files.sha256_of(file) == hashlib.sha256(content).hexdigest()
        assert file.read() == content


_WRITE_AND_MEASURE = """
import resource, sys
from airflow_provider_streamsets import files
from tests.unit.fakes.memory_store import memory_store
with files.atomic_write(sys.argv[1]) as file:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(200):
        file.write(b"x" * 1_000_000)
with files.open_local_copy(sys.argv[1]) as file:
    files.sha256_of(file)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_large_file_is_never_held_in_memory(tmp_path):
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _WRITE_AND_MEASURE, str(tmp_path / "large")],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )
    assert (tmp_path / "large").stat().st_size == 200_000_000
    assert int(done.stdout.strip().splitlines()[-1]) < 50_000
