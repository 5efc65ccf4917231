"""Reading archives with unsafe entries."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from dataclasses import replace

import pytest

from tests.unit.fakes.sandbox_app import SEED, Hub
from tests.unit.sandbox.archives import foreign, imported

NAMES = [
    "../evil.json",
    "../../evil.json",
    "C:\\evil.json",
    "..\\..\\evil.json",
    "a/../../evil.json",
    "con",
]


@pytest.fixture
def other_hub():
    return Hub(replace(SEED, jobs=(), pipelines=()))


@pytest.mark.parametrize("name", [*NAMES, "absolute"])
def test_entry_names_create_no_files(other_hub, tmp_path, monkeypatch, name):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(str(tmp_path / "evil.json") if name == "absolute" else name, json.dumps(foreign(id="evil:o")))
    response = imported(other_hub, buffer.getvalue())
    assert response.status_code == 200, response.text
    assert "evil:o" in other_hub.backend.jobs
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_symbolic_link_is_not_followed(other_hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.json").write_text(json.dumps(foreign(id="secret:o")))
    link = zipfile.ZipInfo("link.json")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(link, str(tmp_path / "secret.json"))
    response = imported(other_hub, buffer.getvalue())
    assert response.status_code == 400
    assert "not valid JSON" in response.text
    assert other_hub.backend.jobs == {}
    assert [path.name for path in tmp_path.iterdir()] == ["secret.json"]
