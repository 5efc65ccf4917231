"""Export and import of jobs."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pytest

from airflow_provider_streamsets.sandbox.backend.archives import MAX_ENTRY_BYTES
from tests.unit.fakes.sandbox_app import JR, SEED, Hub
from tests.unit.sandbox.archives import ORDERS, changed, entries, exported, foreign, imported, job, packed


@pytest.fixture
def other_hub() -> Hub:
    """A sandbox with the same engines, without jobs and pipelines."""
    return Hub(replace(SEED, jobs=(), pipelines=()))


def test_archive_has_safe_file_name_per_job(hub):
    archive = exported(hub, ORDERS, "Regional orders", "Web logs to lake", ORDERS)
    names = zipfile.ZipFile(io.BytesIO(archive)).namelist()
    assert len(names) == len(set(names)) == 3
    assert [entry["minimalJobJson"]["id"] for entry in entries(archive)] == [
        hub.id(name) for name in (ORDERS, "Regional orders", "Web logs to lake")
    ]
    unsafe = foreign(id="../../x/..\\y:o", name="../../etc/pass\nwd \u2028 C:\\" + "x" * 300)
    assert imported(hub, packed(unsafe, name="../../{}.json")).status_code == 200
    response = hub.http.post(f"{JR}/jobs/exportJobs", json=[unsafe["minimalJobJson"]["id"]])
    (name,) = zipfile.ZipFile(io.BytesIO(response.content)).namelist()
    assert PurePosixPath(name).name == name
    assert not {"..", "\\", "\n", ":"} & {name[:2], *name}


def test_export_rejects_template_instances(hub):
    rejected = hub.http.post(f"{JR}/jobs/exportJobs", json=[hub.id(ORDERS), hub.id("Regional orders - 1")])
    assert (rejected.status_code, rejected.json()["ISSUES"][0]["code"]) == (400, "JOBRUNNER_38")
    response = hub.http.post(f"{JR}/jobs/exportAllJobs")
    names = {entry["minimalJobJson"]["name"] for entry in entries(response.content)}
    assert names == set(hub.names()) - {"Regional orders - 1"}


def test_export_accepts_empty_list_but_no_unknown_job(hub):
    assert entries(exported(hub)) == []
    assert hub.http.post(f"{JR}/jobs/exportJobs", json=["no:no"]).status_code == 404


def test_hundreds_of_jobs_are_exported_and_imported(other_hub):
    many = [foreign(id=f"job-{number}:foreign") for number in range(300)]
    assert imported(other_hub, packed(*many)).status_code == 200
    assert len(entries(other_hub.http.post(f"{JR}/jobs/exportAllJobs").content)) == 300


def test_imported_job_behaves_like_original(hub, other_hub):
    for name in (ORDERS, "Invoices import", "Sensors archive"):
        assert imported(other_hub, exported(hub, name)).status_code == 200
        original, copy = job(hub, name), job(other_hub, name)
        own = {"creator", "createTime", "lastModifiedBy", "lastModifiedOn", "currentJobStatus"}
        assert {key: original[key] for key in original.keys() - own} == {key: copy[key] for key in copy.keys() - own}
        assert (copy["currentJobStatus"], copy["createTime"]) == (None, other_hub.clock.now())
        hub.http.post(f"{JR}/job/{hub.id(name)}/resetOffset")
        runs = []
        for sandbox in (hub, other_hub):
            started = sandbox.do(name, "start").json()["startTime"]
            sandbox.clock.advance(60)
            run = sandbox.status(name)
            fields = ("color", "errorMessage", "inputRecordCount", "errorRecordCount", "pipelineCommitLabel", "sdcIds")
            offsets = [entry["offset"] for entry in run["pipelineOffsets"] or []]
            runs.append([run["finishTime"] - started, offsets, *(run[field] for field in fields)])
        assert runs[0] == runs[1]


def test_import_includes_pipeline_version(hub, other_hub):
    (entry,) = entries(exported(hub, ORDERS))
    assert imported(other_hub, packed(changed(entry, pipelineCommitLabel="v2"))).status_code == 200
    commit = entry["minimalJobJson"]["pipelineCommitId"]
    body = other_hub.get(f"/pipelinestore/rest/v1/pipelineCommit/{commit}")
    assert (body["name"], body["version"], body["commitMessage"]) == (ORDERS, "2", "FAILS_AFTER as a parameter")
    assert body["pipelineDefinition"] == entry["commitPipelineJson"]["pipelineDefinition"]
    assert other_hub.get("/pipelinestore/rest/v1/pipelines/count") == {"count": 1}
    # An export after the import returns the same pipeline.
    (exported_entry,) = entries(exported(other_hub, ORDERS))
    assert exported_entry["commitPipelineJson"] == entry["commitPipelineJson"]


def test_foreign_pipeline_runs_as_short_batch(other_hub):
    body = imported(other_hub, packed(foreign())).json()
    assert [entry["minimalJobJson"]["id"] for entry in body] == ["job:foreign"]
    assert set(body[0]) == {"minimalJobJson", "commitPipelineJson", "connectionsMetadata"}
    assert other_hub.names(jobTag=f"visitors:{other_hub.backend.organization}") == ["Foreign job"]
    assert other_hub.do("Foreign job", "start").json()["pipelineCommitLabel"] == "v7"
    other_hub.clock.advance(20)
    assert other_hub.status("Foreign job")["inputRecordCount"] == 1000
    (pipeline,) = other_hub.backend.pipelines.values()
    assert pipeline.versions[0].constants == {"SITE": "north", "N": "5"}


def test_imported_versions_are_identified_by_commit(other_hub):
    def versions() -> list[tuple[str, str]]:
        log = other_hub.get("/pipelinestore/rest/v1/pipeline/pipeline:foreign/log")
        return [(body["version"], body["commitId"]) for body in log]

    imports = [("b", "v7"), ("a", "v3"), ("c", "v7"), ("d", None), ("b", "v7")]
    for number, (commit, label) in enumerate(imports):
        entry = foreign(id=f"{number}:foreign", pipelineCommitId=commit, pipelineCommitLabel=label)
        assert imported(other_hub, packed(entry)).status_code == 200
    assert versions() == [("3", "a"), ("7", "b"), ("8", "c"), ("9", "d")]
    jobs = [other_hub.get(f"{JR}/job/{number}:foreign") for number in range(5)]
    assert [body["pipelineCommitLabel"] for body in jobs] == ["v7", "v3", "v8", "v9", "v7"]
    assert other_hub.http.post(f"{JR}/jobs/upgradeJobs", json=["0:foreign"]).status_code == 200
    assert other_hub.get(f"{JR}/job/0:foreign")["pipelineCommitLabel"] == "v9"


def test_import_restores_deleted_job_without_runs(hub):
    archive, job_id = exported(hub, ORDERS), hub.id(ORDERS)
    hub.backend.delete_job(hub.backend.job(job_id))
    assert imported(hub, archive).status_code == 200
    assert hub.get(f"{JR}/job/{job_id}")["currentJobStatus"] is None


def test_imported_template_is_template(hub, other_hub):
    assert imported(other_hub, exported(hub, "Regional orders")).status_code == 200
    assert other_hub.names(jobTemplate="True") == ["Regional orders"]


FLAGS = {
    "updatePipelineRefs": ("pipelineCommitLabel", "v1"),
    "updateNumInstances": ("numInstances", 2),
    "updateRuntimeParameters": ("runtimeParameters", '{"SOURCE_DIR": "/other"}'),
    "updateLabels": ("labels", ["dev"]),
    "updateMigrateOffsets": ("migrateOffsets", True),
}


@pytest.mark.parametrize("chosen", [None, *FLAGS])
def test_import_overwrites_selected_values_and_tags(hub, chosen):
    (entry,) = entries(exported(hub, ORDERS))
    first = hub.backend.job(hub.id(ORDERS)).seed.pipeline.versions[0]
    edited = changed(
        entry,
        name="Another name",
        rawJobTags=["new"],
        pipelineCommitId=first.commit_id,
        numInstances=2,
        runtimeParameters='{"SOURCE_DIR": "/other"}',
        labels=["dev"],
        migrateOffsets=True,
    )
    before = job(hub, ORDERS)
    assert imported(hub, packed(edited), **{flag: str(flag == chosen) for flag in FLAGS}).status_code == 200
    after = job(hub, ORDERS)
    for flag, (field, value) in FLAGS.items():
        assert after[field] == (value if flag == chosen else before[field])
    assert (after["name"], after["rawJobTags"]) == (ORDERS, ["new"])
    assert after["currentJobStatus"]["runCount"] == 3
    assert after["createTime"] == before["createTime"]


def test_import_overwrites_pipeline_and_failover_by_default(hub):
    (entry,) = entries(exported(hub, ORDERS))
    first = hub.backend.job(hub.id(ORDERS)).seed.pipeline.versions[0]
    edited = changed(entry, pipelineCommitId=first.commit_id, migrateOffsets=True, labels=["dev"], numInstances=2)
    assert hub.http.post(f"{JR}/jobs/importJobsFromJson?forceImport=False", json=[edited]).status_code == 200
    after = job(hub, ORDERS)
    assert (after["pipelineCommitLabel"], after["migrateOffsets"]) == ("v1", True)
    assert (after["labels"], after["numInstances"]) == (["prod"], 1)


@pytest.mark.parametrize("name", ["connections_metadata.json", "jobs/connections_metadata.json"])
@pytest.mark.parametrize("content", [b"[]", b"{}", b""])
def test_connections_metadata_is_skipped(other_hub, name, content):
    buffer = io.BytesIO(packed(foreign()))
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr(name, content)
    response = imported(other_hub, buffer.getvalue())
    assert [entry["minimalJobJson"]["id"] for entry in response.json()] == ["job:foreign"]


def test_import_can_be_repeated(hub):
    archive = exported(hub, ORDERS, "Regional orders")
    bodies = [imported(hub, archive).json() for _ in range(2)]
    for body in bodies:
        for entry in body:
            del entry["minimalJobJson"]["lastModifiedOn"]
    assert bodies[0] == bodies[1]
    assert len(hub.backend.jobs) == len(SEED.jobs)


def test_import_is_all_or_nothing(hub):
    archive = exported(hub, "Web logs to lake", ORDERS)
    edited = [changed(entry, rawJobTags=["new"]) for entry in entries(archive)]
    for archive in (packed(*edited), packed(foreign(), changed(edited[1], jobTemplate=True))):
        response = imported(hub, archive)
        assert response.status_code == 400
        assert response.json()["ISSUES"][0]["code"].startswith("JOBRUNNER_")
    assert "new" not in job(hub, ORDERS)["rawJobTags"]
    assert "job:foreign" not in hub.backend.jobs
    attached = changed(edited[1], id=hub.id("Regional orders - 1"))
    assert imported(hub, packed(attached)).status_code == 400


def broken_entry() -> bytes:
    archive = packed(foreign())
    at = archive.index(b"minimalJobJson")
    return archive[:at] + b"X" + archive[at + 1 :]


def bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("job.json", b" " * (MAX_ENTRY_BYTES + 1))
    return buffer.getvalue()


def without(entry: Any, part: str, field: str) -> Any:
    return {**entry, part: {key: value for key, value in entry[part].items() if key != field}}


@pytest.mark.parametrize(
    "archive",
    [
        b"",
        b"not an archive",
        packed(foreign(id="a:b"))[:-30],
        broken_entry(),
        bomb(),
        packed(foreign(), "{"),
        packed(foreign(), "[" * 100_000),
        packed(foreign(), "[]"),
        packed(foreign(), foreign()),
        packed(foreign(), {**foreign(), "commitPipelineJson": None}),
        packed(foreign(), without(foreign(id="1:b"), "minimalJobJson", "pipelineCommitId")),
        packed(foreign(), without(foreign(id="1:b"), "minimalJobJson", "id")),
        packed(foreign(), without(foreign(id="1:b"), "commitPipelineJson", "pipelineDefinition")),
        packed(foreign(), foreign(id="1:b", labels="all")),
        packed(foreign(), foreign(id="1:b", numInstances="many")),
        packed(foreign(), foreign(id="1:b", executorType="TRANSFORMER")),
    ],
    ids=range(16),
)
def test_invalid_archive_imports_nothing(other_hub, archive):
    response = imported(other_hub, archive)
    assert response.status_code == 400
    assert response.json()["ISSUES"][0]["message"]
    assert other_hub.backend.jobs == other_hub.backend.pipelines == {}


@pytest.mark.parametrize(
    "definition",
    [
        "not JSON",
        "[]",
        '{"metadata": []}',
        '{"metadata": {"sandbox": 5}}',
        '{"metadata": {"sandbox": {"origin": "A", "destination": "B", "offset": "C", "behaviour": {"kind": "x"}}}}',
        '{"configuration": NaN}',
    ],
)
def test_invalid_pipeline_definition_returns_400(other_hub, definition):
    entry = {**foreign(), "commitPipelineJson": {"name": "P", "pipelineDefinition": definition}}
    assert other_hub.http.post(f"{JR}/jobs/importJobsFromJson", json=[entry]).status_code == 400
    assert other_hub.backend.pipelines == {}


def test_import_without_archive_returns_400(hub):
    assert hub.http.post(f"{JR}/jobs/importJobs", files={"other": ("x", b"")}).status_code == 400
    assert hub.http.post(f"{JR}/jobs/importJobs", data={"file": "text"}).status_code == 400
    assert hub.http.post(f"{JR}/jobs/importJobsFromJson", json={}).status_code == 400
    assert imported(hub, packed(foreign()), updateLabels="perhaps").status_code == 400
    assert "job:foreign" not in hub.backend.jobs


NAMES = [
    "../evil.json",
    "../../evil.json",
    "C:\\evil.json",
    "..\\..\\evil.json",
    "a/../../evil.json",
    "con",
]


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
