"""Archives whose entries have names that lead elsewhere: nothing here makes a file of an entry."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import pytest

from airflow_provider_streamsets.operators.archives import ControlHubExportJobsOperator, ControlHubImportJobsOperator
from tests.unit.fakes.job_catalog_hub import JR, JobCatalogHub, job_json

pytestmark = pytest.mark.usefixtures("connection")


def _link(name: str, target: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    info.comment = target.encode()
    return info


def malicious_archive(folder: Path) -> bytes:
    """An archive that is bad to unpack, by way of the folder."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("../evil", "../../evil", f"{folder}/evil", "C:\\evil", "..\\evil", "a/../../evil", ".", "..", "/"):
            archive.writestr(zipfile.ZipInfo(name), "{}")
        archive.writestr(_link("link", str(folder)), str(folder))
        archive.writestr("link/evil", "{}")
    return buffer.getvalue()


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() or path.is_symlink()}


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """The working directory, three levels below the folder that is watched."""
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def test_export_writes_only_the_archive(http, context, tmp_path, inside):
    JobCatalogHub(http, job_json("a:org", "../../../evil"))
    archive = malicious_archive(tmp_path)
    http.post(f"{JR}/jobs/exportJobs", content=archive)
    ControlHubExportJobsOperator(task_id="export", path="jobs.zip", job_ids=["a:org"]).execute(context)
    assert everything(tmp_path) == {inside / "jobs.zip": archive}


def test_import_sends_archive_unchanged_and_writes_nothing(http, context, tmp_path, inside):
    hub = JobCatalogHub(http, job_json("a:org", "Orders"))
    (inside / "jobs.zip").write_bytes(malicious_archive(tmp_path))
    before = everything(tmp_path)
    ControlHubImportJobsOperator(task_id="import", path="jobs.zip").execute(context)
    assert everything(tmp_path) == before
    assert malicious_archive(tmp_path)[:100] in hub.imported[0][1]
