from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_streamsets import files
from tests.unit.memory_store import memory_store


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
    with files.writing(path, **options) as file:
        file.write(data)
        meanwhile()


def test_what_is_written_can_be_read_and_nothing_else_is_left(path, tmp_path, store):
    write(path)
    with files.reading(path) as file:
        assert file.read() == b"new"
    assert everything(tmp_path, store) == {"a file.zip": b"new"}


def test_a_file_is_replaced_when_the_new_one_is_complete_and_not_before(path, tmp_path, store):
    write(path, b"old")
    with files.writing(path) as file:
        file.write(b"new")
        file.flush()
        with files.reading(path) as before:
            assert before.read() == b"old"
    assert everything(tmp_path, store) == {"a file.zip": b"new"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_a_failure_the_old_file_is_there_and_nothing_of_the_new_one(path, tmp_path, store, error):
    write(path, b"old")

    def fail():
        raise error

    with pytest.raises(error):
        write(path, b"half of the new", meanwhile=fail)
    assert everything(tmp_path, store) == {"a file.zip": b"old"}


def test_a_file_can_be_written_anew_before_it_takes_its_place(path, tmp_path, store):
    with files.writing(path) as file:
        file.write(b"a first attempt that was longer")
        file.seek(0)
        file.truncate()
        file.write(b"new")
    assert everything(tmp_path, store) == {"a file.zip": b"new"}


def test_a_file_that_exists_is_not_touched_without_overwrite(path, tmp_path, store):
    write(path, b"old", overwrite=False)
    with pytest.raises(FileExistsError, match="is not to be overwritten"):
        write(path, overwrite=False)
    assert everything(tmp_path, store) == {"a file.zip": b"old"}


def test_a_file_that_appears_meanwhile_is_not_touched_without_overwrite(path, tmp_path, store):
    with pytest.raises(FileExistsError):
        write(path, overwrite=False, meanwhile=lambda: write(path, b"of somebody else"))
    assert everything(tmp_path, store) == {"a file.zip": b"of somebody else"}


def test_a_file_that_does_not_exist_cannot_be_read(path):
    with pytest.raises(FileNotFoundError), files.reading(path):
        pass


def test_what_is_read_is_a_local_file_that_can_be_rewound(path):
    write(path, b"some content")
    with files.reading(path) as file:
        assert file.read(4) == b"some"
        file.seek(0)
        assert file.read() == b"some content"
        assert os.fstat(file.fileno()).st_size == 12


def test_a_new_local_file_has_the_permissions_that_new_files_have(tmp_path):
    write(tmp_path / "archive.zip")
    (tmp_path / "other").touch()
    assert (tmp_path / "archive.zip").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_what_a_symbolic_link_leads_to_is_replaced_and_not_the_link(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "link.zip").symlink_to(tmp_path / "target" / "real.zip")
    write(tmp_path / "link.zip")
    assert (tmp_path / "link.zip").is_symlink()
    assert (tmp_path / "target" / "real.zip").read_bytes() == b"new"


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"there is no folder '{tmp_path}/missing'"):
        write(tmp_path / "missing" / "archive.zip")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        write(tmp_path)
    for path in (f"{tmp_path}/", "memory://bucket/folder/"):
        with pytest.raises(ValueError, match="is a folder"):
            write(path)


@pytest.mark.parametrize("name", ["jobs [prod]", "jobs*", "what?"])
def test_a_name_that_an_object_store_would_take_for_a_pattern_is_refused_before_anything_is_written(store, name):
    with pytest.raises(ValueError, match="must not hold"):
        write(f"memory://bucket/{name}/archive.zip")
    assert store.find("") == []


@pytest.mark.parametrize("name", ["jobs [prod]*?.zip", "jöbs {1}.zip"])
def test_a_local_file_can_have_any_name(tmp_path, name):
    write(str(tmp_path / name))
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("value", [None, 7, b"bytes", ["a"]])
def test_what_is_no_path_is_refused(value):
    with pytest.raises(ValueError, match="A file must be named by"), files.reading(value):
        pass


def test_an_upload_that_fails_leaves_nothing(store, monkeypatch):
    def fail(*_, **__):
        raise OSError("store is full")

    write("memory://bucket/archive.zip", b"old")
    monkeypatch.setattr(ObjectStoragePath, "move", fail)
    with pytest.raises(OSError, match="store is full"):
        write("memory://bucket/archive.zip")
    assert store.find("") == ["/bucket/archive.zip"]
    assert store.cat_file("/bucket/archive.zip") == b"old"


def test_what_cannot_be_removed_after_a_failed_upload_does_not_hide_why_it_failed(store, monkeypatch, task_log):
    def fail(text):
        def fails(*_, **__):
            raise OSError(text)

        return fails

    monkeypatch.setattr(ObjectStoragePath, "move", fail("store is full"))
    monkeypatch.setattr(ObjectStoragePath, "unlink", fail("may not delete"))
    with pytest.raises(OSError, match="store is full"):
        write("memory://bucket/archive.zip")
    assert "may be left from an upload that failed: may not delete" in task_log()


def test_the_sha256_is_that_of_the_whole_file_wherever_it_was_read_to(tmp_path):
    content = os.urandom(3_000_000)
    (tmp_path / "archive.zip").write_bytes(content)
    with files.reading(tmp_path / "archive.zip") as file:
        file.read(10)
        assert files.sha256_of(file) == hashlib.sha256(content).hexdigest()
        assert file.read() == content


_WRITE_AND_MEASURE = """
import resource, sys
from airflow_provider_streamsets import files
from tests.unit.memory_store import memory_store
with files.writing(sys.argv[1]) as file:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(200):
        file.write(b"x" * 1_000_000)
with files.reading(sys.argv[1]) as file:
    files.sha256_of(file)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_large_file_is_never_whole_in_memory(tmp_path):
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
