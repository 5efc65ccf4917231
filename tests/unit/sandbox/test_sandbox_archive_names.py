from __future__ import annotations

import io
import json
import stat
import zipfile
from dataclasses import replace

import pytest

from tests.unit.sandbox.test_sandbox_archives import foreign, imported
from tests.unit.sandbox_hub import SEED, Hub

NAMES = [
    "../evil.json",
    "../../evil.json",
    "C:\\evil.json",
    "..\\..\\evil.json",
    "a/../../evil.json",
    "con",
]


@pytest.fixture
def elsewhere():
    return Hub(replace(SEED, jobs=(), pipelines=()))


@pytest.mark.parametrize("name", [*NAMES, "absolute"])
def test_what_an_entry_is_called_makes_no_file(elsewhere, tmp_path, monkeypatch, name):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(str(tmp_path / "evil.json") if name == "absolute" else name, json.dumps(foreign(id="evil:o")))
    response = imported(elsewhere, buffer.getvalue())
    assert response.status_code == 200, response.text
    assert "evil:o" in elsewhere.world.jobs
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_a_symbolic_link_in_an_archive_is_not_followed(elsewhere, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.json").write_text(json.dumps(foreign(id="secret:o")))
    link = zipfile.ZipInfo("link.json")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(link, str(tmp_path / "secret.json"))
    response = imported(elsewhere, buffer.getvalue())
    assert response.status_code == 400
    assert "not valid JSON" in response.text
    assert elsewhere.world.jobs == {}
    assert [path.name for path in tmp_path.iterdir()] == ["secret.json"]
