"""Jobs leave in archives and come back from them, here or in another sandbox."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pytest

from airflow_provider_streamsets.sandbox.backend.archive import LARGEST_ENTRY
from airflow_provider_streamsets.sandbox.seed.behaviour import read_behaviour, write_behaviour
from airflow_provider_streamsets.sandbox.seed.document import Place
from tests.unit.sandbox_hub import JR, SEED, Hub

ORDERS = "Orders to warehouse"


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def elsewhere() -> Hub:
    """A sandbox that has the same engines, and nothing else."""
    return Hub(replace(SEED, jobs=(), pipelines=()))


def exported(hub: Hub, *names: str) -> bytes:
    response = hub.http.post(f"{JR}/jobs/exportJobs", json=[hub.id(name) for name in names])
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/octet-stream"
    return response.content


def entries(archive: bytes) -> list[Any]:
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        assert file.testzip() is None
        return [json.loads(file.read(name)) for name in file.namelist()]


def packed(*contents: Any, name: str = "job-{}.json") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for number, content in enumerate(contents):
            file.writestr(name.format(number), content if isinstance(content, (str, bytes)) else json.dumps(content))
    return buffer.getvalue()


def imported(hub: Hub, archive: bytes, **query: Any) -> Any:
    return hub.http.post(f"{JR}/jobs/importJobs", files={"file": ("jobs.zip", archive)}, params=query)


def job(hub: Hub, name: str) -> Any:
    return hub.get(f"{JR}/job/{hub.id(name)}")


def changed(entry: Any, **changes: Any) -> Any:
    return {**entry, "minimalJobJson": {**entry["minimalJobJson"], **changes}}


def foreign(**changes: Any) -> Any:
    """Return an entry as a real Control Hub might write it."""
    definition = {
        "schemaVersion": 6,
        "configuration": [
            {"name": "constants", "value": [{"key": "SITE", "value": "north"}, {"key": "N", "value": 5}]}
        ],
        "stages": [{"instanceName": "DevRawDataSource_01"}],
    }
    return {
        "minimalJobJson": {
            "id": "job:theirs",
            "name": "From elsewhere",
            "pipelineId": "pipeline:theirs",
            "pipelineCommitId": "commit:theirs",
            "pipelineCommitLabel": "v7",
            "rulesId": "rules:theirs",
            "labels": ["all"],
            "numInstances": 1,
            "rawJobTags": ["visitors"],
            "runtimeParameters": '{"SITE": "south"}',
            "jobTemplate": False,
            **changes,
        },
        "commitPipelineJson": {"name": "Their pipeline", "pipelineDefinition": json.dumps(definition)},
        "connectionsMetadata": {},
    }


# -- export


def test_an_archive_holds_a_file_per_job_that_is_safe_to_unpack(hub):
    archive = exported(hub, ORDERS, "Regional orders", "Web logs to lake", ORDERS)
    names = zipfile.ZipFile(io.BytesIO(archive)).namelist()
    assert len(names) == len(set(names)) == 3
    assert [entry["minimalJobJson"]["id"] for entry in entries(archive)] == [
        hub.id(name) for name in (ORDERS, "Regional orders", "Web logs to lake")
    ]
    evil = foreign(id="../../x/..\\y:o", name="../../etc/pass\nwd \u2028 C:\\" + "x" * 300)
    assert imported(hub, packed(evil, name="../../{}.json")).status_code == 200
    response = hub.http.post(f"{JR}/jobs/exportJobs", json=[evil["minimalJobJson"]["id"]])
    (name,) = zipfile.ZipFile(io.BytesIO(response.content)).namelist()
    assert PurePosixPath(name).name == name
    assert not {"..", "\\", "\n", ":"} & {name[:2], *name}


def test_instances_of_a_template_cannot_be_exported(hub):
    refused = hub.http.post(f"{JR}/jobs/exportJobs", json=[hub.id(ORDERS), hub.id("Regional orders - 1")])
    assert (refused.status_code, refused.json()["ISSUES"][0]["code"]) == (400, "JOBRUNNER_38")
    everything = hub.http.post(f"{JR}/jobs/exportAllJobs")
    names = {entry["minimalJobJson"]["name"] for entry in entries(everything.content)}
    assert names == set(hub.names()) - {"Regional orders - 1"}


def test_nothing_can_be_exported_and_an_unknown_job_cannot(hub):
    assert entries(exported(hub)) == []
    assert hub.http.post(f"{JR}/jobs/exportJobs", json=["no:no"]).status_code == 404


def test_hundreds_of_jobs_are_exported_and_imported(elsewhere):
    many = [foreign(id=f"job-{number}:theirs") for number in range(300)]
    assert imported(elsewhere, packed(*many)).status_code == 200
    assert len(entries(elsewhere.http.post(f"{JR}/jobs/exportAllJobs").content)) == 300


# -- import where the job is unknown


def test_a_job_that_comes_to_another_sandbox_is_and_does_the_same(hub, elsewhere):
    for name in (ORDERS, "Invoices import", "Sensors archive"):
        assert imported(elsewhere, exported(hub, name)).status_code == 200
        here, there = job(hub, name), job(elsewhere, name)
        own = {"creator", "createTime", "lastModifiedBy", "lastModifiedOn", "currentJobStatus"}
        assert {key: here[key] for key in here.keys() - own} == {key: there[key] for key in there.keys() - own}
        assert (there["currentJobStatus"], there["createTime"]) == (None, elsewhere.clock.now())
        hub.http.post(f"{JR}/job/{hub.id(name)}/resetOffset")
        runs = []
        for place in (hub, elsewhere):
            started = place.do(name, "start").json()["startTime"]
            place.clock.advance(60)
            run = place.status(name)
            fields = ("color", "errorMessage", "inputRecordCount", "errorRecordCount", "pipelineCommitLabel", "sdcIds")
            offsets = [entry["offset"] for entry in run["pipelineOffsets"] or []]
            runs.append([run["finishTime"] - started, offsets, *(run[field] for field in fields)])
        assert runs[0] == runs[1]


def test_the_pipeline_comes_with_its_job(hub, elsewhere):
    (entry,) = entries(exported(hub, ORDERS))
    assert imported(elsewhere, packed(changed(entry, pipelineCommitLabel="v2"))).status_code == 200
    commit = entry["minimalJobJson"]["pipelineCommitId"]
    body = elsewhere.get(f"/pipelinestore/rest/v1/pipelineCommit/{commit}")
    assert (body["name"], body["version"], body["commitMessage"]) == (ORDERS, "2", "Stop on demand, to try failures")
    assert body["pipelineDefinition"] == entry["commitPipelineJson"]["pipelineDefinition"]
    assert elsewhere.get("/pipelinestore/rest/v1/pipelines/count") == {"count": 1}
    # What was imported is exported as it came.
    (again,) = entries(exported(elsewhere, ORDERS))
    assert again["commitPipelineJson"] == entry["commitPipelineJson"]


def test_a_pipeline_from_a_real_hub_runs_as_a_short_batch(elsewhere):
    body = imported(elsewhere, packed(foreign())).json()
    assert [entry["minimalJobJson"]["id"] for entry in body] == ["job:theirs"]
    assert set(body[0]) == {"minimalJobJson", "commitPipelineJson", "connectionsMetadata"}
    assert elsewhere.names(jobTag=f"visitors:{elsewhere.world.organization}") == ["From elsewhere"]
    assert elsewhere.do("From elsewhere", "start").json()["pipelineCommitLabel"] == "v7"
    elsewhere.clock.advance(20)
    assert elsewhere.status("From elsewhere")["inputRecordCount"] == 1000
    (pipeline,) = elsewhere.world.pipelines.values()
    assert pipeline.versions[0].constants == {"SITE": "north", "N": "5"}


def test_versions_of_a_pipeline_are_told_apart_by_their_commits(elsewhere):
    def versions() -> list[tuple[str, str]]:
        log = elsewhere.get("/pipelinestore/rest/v1/pipeline/pipeline:theirs/log")
        return [(body["version"], body["commitId"]) for body in log]

    arrivals = [("b", "v7"), ("a", "v3"), ("c", "v7"), ("d", None), ("b", "v7")]
    for number, (commit, label) in enumerate(arrivals):
        entry = foreign(id=f"{number}:theirs", pipelineCommitId=commit, pipelineCommitLabel=label)
        assert imported(elsewhere, packed(entry)).status_code == 200
    assert versions() == [("3", "a"), ("7", "b"), ("8", "c"), ("9", "d")]
    jobs = [elsewhere.get(f"{JR}/job/{number}:theirs") for number in range(5)]
    assert [body["pipelineCommitLabel"] for body in jobs] == ["v7", "v3", "v8", "v9", "v7"]
    assert elsewhere.http.post(f"{JR}/jobs/upgradeJobs", json=["0:theirs"]).status_code == 200
    assert elsewhere.get(f"{JR}/job/0:theirs")["pipelineCommitLabel"] == "v9"


def test_a_deleted_job_comes_back_without_its_runs(hub):
    archive, job_id = exported(hub, ORDERS), hub.id(ORDERS)
    hub.world.remove_job(hub.world.job(job_id))
    assert imported(hub, archive).status_code == 200
    assert hub.get(f"{JR}/job/{job_id}")["currentJobStatus"] is None


def test_a_template_comes_as_a_template(hub, elsewhere):
    assert imported(elsewhere, exported(hub, "Regional orders")).status_code == 200
    assert elsewhere.names(jobTemplate="True") == ["Regional orders"]


# -- import where the job is known


FLAGS = {
    "updatePipelineRefs": ("pipelineCommitLabel", "v1"),
    "updateNumInstances": ("numInstances", 2),
    "updateRuntimeParameters": ("runtimeParameters", '{"SOURCE_DIR": "/other"}'),
    "updateLabels": ("labels", ["dev"]),
    "updateMigrateOffsets": ("migrateOffsets", True),
}


@pytest.mark.parametrize("chosen", [None, *FLAGS])
def test_a_known_job_is_changed_as_the_flags_say_and_its_tags_always(hub, chosen):
    (entry,) = entries(exported(hub, ORDERS))
    first = hub.world.job(hub.id(ORDERS)).seed.pipeline.versions[0]
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


def test_without_flags_the_pipeline_and_failover_are_changed(hub):
    (entry,) = entries(exported(hub, ORDERS))
    first = hub.world.job(hub.id(ORDERS)).seed.pipeline.versions[0]
    edited = changed(entry, pipelineCommitId=first.commit_id, migrateOffsets=True, labels=["dev"], numInstances=2)
    assert hub.http.post(f"{JR}/jobs/importJobsFromJson?forceImport=False", json=[edited]).status_code == 200
    after = job(hub, ORDERS)
    assert (after["pipelineCommitLabel"], after["migrateOffsets"]) == ("v1", True)
    assert (after["labels"], after["numInstances"]) == (["prod"], 1)


@pytest.mark.parametrize("name", ["connections_metadata.json", "jobs/connections_metadata.json"])
@pytest.mark.parametrize("content", [b"[]", b"{}", b""])
def test_metadata_of_connections_is_no_job(elsewhere, name, content):
    buffer = io.BytesIO(packed(foreign()))
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr(name, content)
    response = imported(elsewhere, buffer.getvalue())
    assert [entry["minimalJobJson"]["id"] for entry in response.json()] == ["job:theirs"]


def test_an_import_may_be_repeated(hub):
    archive = exported(hub, ORDERS, "Regional orders")
    bodies = [imported(hub, archive).json() for _ in range(2)]
    for body in bodies:
        for entry in body:
            del entry["minimalJobJson"]["lastModifiedOn"]
    assert bodies[0] == bodies[1]
    assert len(hub.world.jobs) == len(SEED.jobs)


def test_a_job_that_cannot_be_changed_keeps_the_others_out_too(hub):
    archive = exported(hub, "Web logs to lake", ORDERS)
    edited = [changed(entry, rawJobTags=["new"]) for entry in entries(archive)]
    for refused in (packed(*edited), packed(foreign(), changed(edited[1], jobTemplate=True))):
        response = imported(hub, refused)
        assert response.status_code == 400
        assert response.json()["ISSUES"][0]["code"].startswith("JOBRUNNER_")
    assert "new" not in job(hub, ORDERS)["rawJobTags"]
    assert "job:theirs" not in hub.world.jobs
    attached = changed(edited[1], id=hub.id("Regional orders - 1"))
    assert imported(hub, packed(attached)).status_code == 400


# -- what is no archive


def broken_entry() -> bytes:
    archive = packed(foreign())
    at = archive.index(b"minimalJobJson")
    return archive[:at] + b"X" + archive[at + 1 :]


def bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("job.json", b" " * (LARGEST_ENTRY + 1))
    return buffer.getvalue()


def without(entry: Any, part: str, field: str) -> Any:
    return {**entry, part: {key: value for key, value in entry[part].items() if key != field}}


@pytest.mark.parametrize(
    "archive",
    [
        b"",
        b"no archive",
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
def test_what_cannot_be_read_is_refused_and_nothing_imported(elsewhere, archive):
    response = imported(elsewhere, archive)
    assert response.status_code == 400
    assert response.json()["ISSUES"][0]["message"]
    assert elsewhere.world.jobs == elsewhere.world.pipelines == {}


@pytest.mark.parametrize(
    "definition",
    [
        "no JSON",
        "[]",
        '{"metadata": []}',
        '{"metadata": {"sandbox": 5}}',
        '{"metadata": {"sandbox": {"origin": "A", "destination": "B", "offset": "C", "behaviour": {"kind": "x"}}}}',
        '{"configuration": NaN}',
    ],
)
def test_a_pipeline_definition_that_makes_no_sense_is_refused(elsewhere, definition):
    entry = {**foreign(), "commitPipelineJson": {"name": "P", "pipelineDefinition": definition}}
    assert elsewhere.http.post(f"{JR}/jobs/importJobsFromJson", json=[entry]).status_code == 400
    assert elsewhere.world.pipelines == {}


def test_a_request_without_an_archive_is_refused(hub):
    assert hub.http.post(f"{JR}/jobs/importJobs", files={"other": ("x", b"")}).status_code == 400
    assert hub.http.post(f"{JR}/jobs/importJobs", data={"file": "text"}).status_code == 400
    assert hub.http.post(f"{JR}/jobs/importJobsFromJson", json={}).status_code == 400
    assert imported(hub, packed(foreign()), updateLabels="perhaps").status_code == 400
    assert "job:theirs" not in hub.world.jobs


@pytest.mark.parametrize("pipeline", SEED.pipelines, ids=lambda pipeline: pipeline.name)
def test_a_behaviour_is_read_as_it_was_written(pipeline):
    assert read_behaviour(Place(write_behaviour(pipeline.behaviour), "here")) == pipeline.behaviour
