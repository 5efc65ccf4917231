"""Creation, update, upgrade, duplication and deletion of jobs, and their permissions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.fakes.sandbox_app import JR, OFFSET, T0, Hub

PS = "/pipelinestore/rest/v1"


def versions(hub: Hub, name: str) -> list[dict[str, Any]]:
    pipeline = next(item for item in hub.backend.pipelines.values() if item.name == name)
    return hub.get(f"{PS}/pipeline/{pipeline.id}/log")


def new_job(hub: Hub, pipeline: str, version: int = -1, **changes: Any) -> dict[str, Any]:
    """Return the body of a new job."""
    commit = versions(hub, pipeline)[version]
    return {"name": "Mine", "pipelineCommitId": commit["commitId"], **changes}


def create(hub: Hub, pipeline: str = "Quick check", version: int = -1, **changes: Any) -> dict[str, Any]:
    response = hub.http.put(f"{JR}/jobs", json=new_job(hub, pipeline, version, **changes))
    assert response.status_code == 200, response.text
    return response.json()


def error_message(response: Any) -> str:
    assert response.status_code == 400
    (issue,) = response.json()["ISSUES"]
    assert issue["code"]
    return issue["message"]


def update(hub: Hub, body: dict[str, Any], **changes: Any) -> Any:
    return hub.http.post(f"{JR}/job/{body['id']}", json={**body, **changes})


def test_created_job_has_defaults_and_is_listed(hub):
    job = create(hub, numInstances=None, rawJobTags=["new/one"])
    assert job == hub.get(f"{JR}/job/{job['id']}")
    assert job["currentJobStatus"] is None
    assert (job["creator"], job["createTime"], job["lastModifiedOn"]) == (hub.backend.user, T0, T0)
    assert (job["labels"], job["numInstances"], job["runtimeParameters"]) == (["all"], 1, "{}")
    assert (job["statsRefreshInterval"], job["forceStopTimeout"]) == (60_000, 120_000)
    assert (job["migrateOffsets"], job["needsManualAck"], job["jobTemplate"]) == (False, True, False)
    assert (job["pipelineName"], job["pipelineCommitLabel"]) == ("Quick check", "v1")
    organization = hub.backend.organization
    for query in (
        {"jobSearchText": "Mine"},
        {"jobTag": f"new/one:{organization}"},
        {"filterText": "mine", "jobTemplate": "False", "archived": "False"},
    ):
        assert hub.names(**query) == ["Mine"]
    assert hub.names(f"{JR}/saql/jobs/search", search='name=="Mine"', len=-1) == ["Mine"]
    assert "Mine" in hub.names(f"{JR}/jobs/forPipelineCommit", pipelineCommitId=job["pipelineCommitId"])
    assert [tag["tag"] for tag in hub.get(f"{JR}/jobs/tags", parentId=f"new:{organization}")] == ["one"]
    assert hub.get(f"{JR}/jobs/count")["count"] == len(hub.names(jobTemplate="False"))


def test_created_job_has_given_settings_and_runs(hub):
    settings = {
        "description": "d",
        "labels": ["dev"],
        "numInstances": -1,
        "migrateOffsets": True,
        "maxRetriesForFailedJob": 3,
        "globalMaxRetries": 9,
        "needsManualAck": True,
        "timeSeries": True,
        "statsRefreshInterval": 1000,
        "forceStopTimeout": 5000,
        "runtimeParameters": '{"RECORDS": 5}',
        "staticParameters": ["RECORDS"],
        "rawJobTags": ["a", "b/c"],
        "executorType": "COLLECTOR",
    }
    job = create(hub, **settings)
    assert {name: job[name] for name in settings} == settings
    started = hub.do("Mine", "start").json()
    assert (started["runCount"], started["jobId"]) == (1, job["id"])
    hub.clock.advance(10)
    assert hub.status("Mine")["inputRecordCount"] == 5


def test_two_jobs_can_have_same_name(hub):
    first, second = create(hub), create(hub)
    assert first["id"] != second["id"]
    assert hub.names(jobSearchText="Mine") == ["Mine", "Mine"]


def test_bulk_create_is_all_or_nothing(hub):
    bodies = [new_job(hub, "Quick check", name=name) for name in ("A", "B")]
    created = hub.http.put(f"{JR}/jobs/createJobs", json=bodies).json()
    assert [job["name"] for job in created] == ["A", "B"]
    before = len(hub.backend.jobs)
    assert "name" in error_message(hub.http.put(f"{JR}/jobs/createJobs", json=[*bodies, {**bodies[0], "name": ""}]))
    assert "array" in error_message(hub.http.put(f"{JR}/jobs/createJobs", json=bodies[0]))
    assert len(hub.backend.jobs) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": None}, "name"),
        ({"name": " "}, "name"),
        ({"pipelineCommitId": "none:none"}, "none:none"),
        ({"pipelineCommitId": None}, "no published pipeline version"),
        ({"pipelineCommitLabel": "v2"}, "v2"),
        ({"pipelineCommitLabel": "v1-DRAFT"}, "v1-DRAFT"),
        ({"pipelineId": "other:org"}, "other:org"),
        ({"rulesId": "other:org"}, "other:org"),
        ({"numInstances": 0}, "numInstances"),
        ({"numInstances": "2"}, "numInstances"),
        ({"runtimeParameters": {"A": 1}}, "runtimeParameters"),
        ({"runtimeParameters": "[]"}, "runtimeParameters"),
        ({"runtimeParameters": "{"}, "runtimeParameters"),
        ({"labels": "all"}, "labels"),
        ({"needsManualAck": "yes"}, "needsManualAck"),
        ({"executorType": "TRANSFORMER"}, "COLLECTOR"),
        ({"draftRun": True}, "draft"),
    ],
)
def test_invalid_new_job_returns_400(hub, changes, message):
    body = new_job(hub, "Quick check", **changes)
    assert message in error_message(hub.http.put(f"{JR}/jobs", json=body))
    assert "JSON object" in error_message(hub.http.put(f"{JR}/jobs", json=[body]))


def test_variant_needs_ack_default():
    for value in (True, False):
        hub = Hub(needs_ack_default=str(value).lower())
        assert create(hub)["needsManualAck"] is value
        assert create(hub, needsManualAck=not value)["needsManualAck"] is not value
        seeded = {job["name"]: job["needsManualAck"] for job in hub.get(f"{JR}/jobs")}
        assert (seeded["Quick check"], seeded["Orders to warehouse"], seeded["Ledger export"]) == (value, False, True)


def test_pipeline_version_is_found_by_tag(hub):
    pipeline = next(item for item in hub.backend.pipelines.values() if item.name == "Orders to warehouse")
    tags = hub.get(f"{PS}/pipeline/{pipeline.id}/tags")
    assert [tag["name"] for tag in tags] == ["released", "2025.4"]
    assert {tag["commitId"] for tag in tags} == {versions(hub, pipeline.name)[1]["commitId"]}
    assert create(hub, pipelineCommitId=tags[0]["commitId"])["pipelineCommitLabel"] == "v2"


def test_two_pipelines_can_have_same_name(hub):
    found = hub.get(f"{PS}/saql/pipelines/search", search='name=="Stock levels"', len=-1)["data"]
    assert len({pipeline["pipelineId"] for pipeline in found}) == 2


def test_update_ignores_values_owned_by_server(hub):
    job = create(hub, "Orders to warehouse", 0, description="old")
    hub.clock.advance(1)
    latest = versions(hub, "Orders to warehouse")[2]
    editable = {
        "name": "Other",
        "description": None,
        "pipelineCommitId": latest["commitId"],
        "pipelineCommitLabel": "v3",
        "labels": ["dev"],
        "rawJobTags": ["x/y"],
        "runtimeParameters": '{"RECORDS": "7"}',
    }
    read_only = {
        "creator": "another user",
        "createTime": 1,
        "organization": "elsewhere",
        "currentJobStatus": {"status": "ACTIVE"},
        "jobTemplate": True,
        "lastModifiedOn": 1,
    }
    changed = update(hub, job, **editable, **read_only).json()
    assert changed == hub.get(f"{JR}/job/{job['id']}")
    assert {name: changed[name] for name in editable} == editable
    assert [tag["id"] for tag in changed["jobTags"]] == [f"x/y:{hub.backend.organization}"]
    assert {name: changed[name] for name in read_only if name != "lastModifiedOn"} == {
        name: job[name] for name in read_only if name != "lastModifiedOn"
    }
    assert changed["lastModifiedOn"] == T0 + 1000
    assert hub.names(f"{JR}/jobs/forPipelineCommit", pipelineCommitId=job["pipelineCommitId"]) == []


def test_simultaneous_changes_have_different_times(hub):
    job = create(hub)
    times = [update(hub, job).json()["lastModifiedOn"] for _ in range(3)]
    assert times == [T0 + 1, T0 + 2, T0 + 3]


def test_commit_and_label_must_match(hub):
    job = create(hub, "Orders to warehouse", 0)
    second = versions(hub, "Orders to warehouse")[1]
    assert "v1" in error_message(update(hub, job, pipelineCommitId=second["commitId"]))
    assert "v2" in error_message(update(hub, job, pipelineCommitLabel="v2"))
    assert update(hub, job, pipelineCommitId=second["commitId"], pipelineCommitLabel="v2").status_code == 200


def test_update_of_active_or_attached_job_returns_400(hub):
    for name, message in (
        ("Web logs to lake", "ACTIVE"),
        ("Ledger export", "acknowledged"),
        ("Regional orders - 1", "attached"),
    ):
        assert message in error_message(update(hub, hub.get(f"{JR}/job/{hub.id(name)}"), description="new"))
    assert update(hub, hub.get(f"{JR}/job/{hub.id('Regional orders')}"), description="new").status_code == 200
    assert hub.http.post(f"{JR}/job/no:no", json={}).content == b""
    assert "path" in error_message(hub.http.post(f"{JR}/job/{hub.id('Quick check')}", json=create(hub)))


def test_past_runs_keep_their_pipeline_version(hub):
    before = hub.get(f"{JR}/job/{hub.id('Orders to warehouse')}/history")
    other = versions(hub, "Quick check")[0]
    job = hub.get(f"{JR}/job/{hub.id('Orders to warehouse')}")
    pipeline = {"pipelineCommitId": other["commitId"], "pipelineId": other["pipelineId"]}
    rules = {"rulesId": other["currentRules"]["id"], "pipelineCommitLabel": "v1"}
    assert update(hub, job, **pipeline, **rules).json()["pipelineName"] == "Quick check"
    after = hub.get(f"{JR}/job/{job['id']}/history")
    for name in ("pipelineCommitId", "pipelineCommitLabel", "pipelineOffsets", "inputRecordCount"):
        assert [run[name] for run in after] == [run[name] for run in before]
    assert hub.do("Orders to warehouse", "start").json()["pipelineCommitId"] == other["commitId"]


def test_bulk_update_is_all_or_nothing(hub):
    first, second = create(hub, name="A"), create(hub, name="B")
    bodies = [{**first, "description": "1"}, {**second, "description": "2", "pipelineCommitLabel": "v9"}]
    assert "v9" in error_message(hub.http.post(f"{JR}/jobs/updateJobs", json=bodies))
    assert hub.get(f"{JR}/job/{first['id']}")["description"] is None
    bodies[1]["pipelineCommitLabel"] = "v1"
    response = hub.http.post(f"{JR}/jobs/updateJobs", json=bodies)
    assert (response.status_code, response.content) == (200, b"")
    assert [hub.get(f"{JR}/job/{job['id']}")["description"] for job in (first, second)] == ["1", "2"]
    assert "id" in error_message(hub.http.post(f"{JR}/jobs/updateJobs", json=[{"name": "A"}]))


def test_upgrade_is_idempotent(hub):
    job = create(hub, "Orders to warehouse", 0)
    hub.clock.advance(1)
    (upgraded,) = hub.http.post(f"{JR}/jobs/upgradeJobs", json=[job["id"]]).json()
    assert (upgraded["pipelineCommitLabel"], upgraded["lastModifiedOn"]) == ("v3", T0 + 1000)
    hub.clock.advance(1)
    assert hub.http.post(f"{JR}/job/{job['id']}/upgrade").json() == [upgraded]


def test_active_job_is_upgraded_in_same_run(hub):
    create(hub, "Clickstream to lake", 0)
    hub.do("Mine", "start")
    assert "ACTIVATING" in error_message(hub.do("Mine", "upgrade"))
    hub.clock.advance(5)
    before = hub.status("Mine")
    (job,) = hub.do("Mine", "upgrade").json()
    after = job["currentJobStatus"]
    assert (job["pipelineCommitLabel"], after["pipelineCommitLabel"]) == ("v2", "v2")
    assert (after["status"], after["runCount"], after["id"]) == ("ACTIVE", 1, before["id"])
    messages = [event["message"] for event in hub.get(f"{JR}/job/{after['id']}/jobStatusHistory")]
    assert "Job upgraded to pipeline version v2" in messages


def test_variant_upgrade_starts_successor():
    hub = Hub(upgrade_active="successor")
    create(hub, "Clickstream to lake", 0)
    hub.do("Mine", "start", {"TOPIC": "clicks"})
    hub.clock.advance(5)
    before = hub.status("Mine")
    upgraded_on = hub.clock.now()
    (job,) = hub.do("Mine", "upgrade").json()
    after = job["currentJobStatus"]
    assert (after["status"], after["runCount"], after["pipelineCommitLabel"]) == ("ACTIVATING", 2, "v2")
    assert after["upgradeStatus"] == {
        "id": after["upgradeStatus"]["id"],
        "user": hub.backend.user,
        "startTime": upgraded_on,
        "finishTime": upgraded_on,
        "currentJobStatusId": after["id"],
        "previousJobStatusId": before["id"],
        "status": "UPGRADE_SUCCESSFUL",
        "errorMessage": None,
        "verifiedPipeline": False,
    }
    _, old = hub.get(f"{JR}/job/{job['id']}/history")
    assert (old["id"], old["status"], old["color"], old["finishTime"]) == (
        before["id"],
        "INACTIVE",
        "GRAY",
        upgraded_on,
    )
    assert (old["pipelineCommitLabel"], old["upgradeStatus"], old["errorMessage"]) == ("v1", None, None)
    events = hub.get(f"{JR}/job/{old['id']}/jobStatusHistory")
    assert [(event["status"], event["user"]) for event in events[2:]] == [
        ("DEACTIVATING", hub.backend.user),
        ("DEACTIVATING", None),
        ("INACTIVE", None),
    ]
    assert [run.parameters for run in hub.backend.job(job["id"]).runs] == [{"TOPIC": "clicks"}] * 2
    assert [start["run_count"] for start in hub.get("/sandbox/v1/starts")] == [1]
    hub.clock.advance(5)
    assert (hub.status("Mine")["status"], hub.do("Mine", "upgrade").json()[0]["currentJobStatus"]["runCount"]) == (
        "ACTIVE",
        2,
    )


@pytest.mark.parametrize("advance", [1.1, 60])
def test_no_successor_without_running_pipeline(advance):
    hub = Hub(upgrade_active="successor")
    create(hub, "Invoices import", 0)
    hub.do("Mine", "start")
    hub.clock.advance(advance)
    if advance > 2:
        hub.do("Mine", "acknowledgeError")
    (job,) = hub.do("Mine", "upgrade").json()
    assert (job["pipelineCommitLabel"], job["currentJobStatus"]["runCount"]) == ("v2", 1)


def test_upgrade_to_verified_version_changes_nothing(hub):
    job = create(hub, "Orders to warehouse", 0)
    response = hub.http.post(f"{JR}/job/{job['id']}/upgrade", params={"ciVerified": "True"})
    assert response.json() == [job]


@pytest.mark.parametrize(("copies", "names"), [(None, ["Copy"]), (1, ["Copy"]), (3, ["Copy1", "Copy2", "Copy3"])])
def test_copies_have_prefix_and_no_runs(hub, copies, names):
    response = hub.do("Orders to warehouse", "duplicate", {"namePrefix": "Copy", "numberOfCopies": copies})
    assert (response.status_code, response.content) == (200, b"")
    found = hub.get(f"{JR}/jobs", filterText="Copy")
    original = hub.get(f"{JR}/job/{hub.id('Orders to warehouse')}")
    assert [job["name"] for job in found] == names
    for job in found:
        assert (job["currentJobStatus"], job["createTime"]) == (None, T0)
        for name in ("pipelineCommitId", "runtimeParameters", "labels", "rawJobTags", "description"):
            assert job[name] == original[name]
        assert hub.get(f"{JR}/job/{job['id']}/committedOffsets") is None
    hub.do(names[0], "start")
    hub.clock.advance(60)
    document = hub.get(f"{JR}/job/{found[0]['id']}/committedOffsets")
    assert document["offsets"][OFFSET] == "orders.csv::60000"


def test_copy_of_instance_is_not_attached_to_template():
    hub = Hub(duplicate_body="list")
    (template,) = hub.do("Regional orders", "duplicate", {"namePrefix": "T", "description": "d"}).json()
    assert (template["jobTemplate"], template["description"]) == (True, "d")
    (job,) = hub.do("Regional orders - 1", "duplicate", {"namePrefix": "J"}).json()
    assert (job["jobTemplate"], job["templateJobId"]) == (False, None)
    assert json.loads(job["runtimeParameters"]) == {"REGION": "apac"}


@pytest.mark.parametrize(
    "body", [None, {}, {"namePrefix": "x", "numberOfCopies": 0}, {"namePrefix": "x", "numberOfCopies": 10**6}]
)
def test_invalid_duplication_returns_400(hub, body):
    before = len(hub.backend.jobs)
    error_message(hub.do("Quick check", "duplicate", body))
    assert len(hub.backend.jobs) == before


V2 = "/jobrunner/rest/v2"


def delete(hub: Hub, name: str, path: str = V2) -> Any:
    return hub.http.delete(f"{path}/job/{hub.id(name)}")


def bulk(hub: Hub, call: str, *names: str) -> Any:
    return hub.http.post(f"{JR}/jobs/{call}", json=[hub.id(name) for name in names])


def test_deleted_job_is_listed_only_as_removed(hub):
    job_id = hub.id("Quick check")
    count = hub.get(f"{JR}/jobs/count")["count"]
    deleted = delete(hub, "Quick check").json()
    assert (deleted["id"], deleted["jobDeleted"]) == (job_id, True)
    assert (deleted["deleteTime"], deleted["destroyer"]) == (T0, hub.backend.user)
    for path in ("", "/currentStatus", "/history", "/acl"):
        assert hub.get(f"{JR}/job/{job_id}{path}") is None
    assert hub.http.delete(f"{V2}/job/{job_id}").content == b""
    assert "Quick check" not in hub.names()
    assert hub.names(removed="True") == ["Quick check"]
    assert hub.get(f"{JR}/jobs/count") == {"count": count - 1}
    assert hub.get(f"{JR}/jobs/count", removed="True") == {"count": 1}
    assert hub.http.post(f"{JR}/jobs", json=[job_id]).json() == []


def test_v1_delete_returns_no_body(hub):
    response = delete(hub, "Quick check", JR)
    assert (response.status_code, response.content) == (200, b"")
    assert "Quick check" not in hub.names()


@pytest.mark.parametrize("name", ["Web logs to lake", "Ledger export", "Regional orders"])
def test_delete_in_wrong_state_returns_400(hub, name):
    assert delete(hub, name).status_code == 400
    assert bulk(hub, "deleteJobs", "Quick check", name).status_code == 400
    assert {"Quick check", name} <= set(hub.names())


def test_ended_job_is_deleted(hub):
    hub.do("Web logs to lake", "stop")
    assert delete(hub, "Web logs to lake").status_code == 400
    hub.clock.advance(5)
    assert delete(hub, "Web logs to lake").status_code == 200
    hub.do("Ledger export", "acknowledgeError")
    assert delete(hub, "Ledger export").status_code == 200


def test_bulk_delete(hub):
    response = bulk(hub, "deleteJobs", "Quick check", "Legacy feed")
    assert (response.status_code, response.content) == (200, b"")
    assert hub.names(removed="true") == ["Legacy feed", "Quick check"]


def test_variant_partial_bulk_delete():
    hub = Hub(bulk_partial="partial", bulk_body="list")
    assert bulk(hub, "deleteJobs", "Quick check", "Web logs to lake").status_code == 400
    assert hub.names(removed="true") == ["Quick check"]
    assert [job["name"] for job in bulk(hub, "deleteJobs", "Legacy feed").json()] == ["Legacy feed"]


def test_template_is_deleted_with_instances(hub):
    assert bulk(hub, "deleteJobTemplates", "Quick check").status_code == 400
    assert bulk(hub, "deleteJobTemplates", "Regional orders").status_code == 200
    assert hub.names(removed="true") == ["Regional orders", "Regional orders - 1"]


def test_template_with_running_instance_is_not_deleted(hub):
    hub.do("Regional orders - 1", "start")
    assert bulk(hub, "deleteJobTemplates", "Regional orders").status_code == 400
    assert "Regional orders" in hub.names()


def test_archived_template_starts_no_instances(hub):
    assert bulk(hub, "archiveJobTemplates", "Quick check").status_code == 400
    for _ in range(2):
        assert bulk(hub, "archiveJobTemplates", "Regional orders").status_code == 200
    assert hub.names(jobTemplate="True", archived="True") == ["Regional orders"]
    assert hub.names(jobTemplate="True", archived="False") == []
    body = hub.get(f"{JR}/job/{hub.id('Regional orders')}")
    assert (body["archived"], body["lastModifiedOn"]) == (True, T0)
    assert hub.do("Regional orders", "createAndStartJobInstances", {}).status_code == 400


def test_permissions_are_stored(hub):
    path = f"{JR}/job/{hub.id('Quick check')}/acl"
    acl = hub.get(path)
    acl["permissions"].append({"subjectId": "all@org", "subjectType": "GROUP", "actions": ["READ"]})
    hub.clock.advance(1)
    changed = hub.http.post(path, json=acl).json()
    assert changed == hub.get(path)
    assert [entry["actions"] for entry in changed["permissions"]] == [["READ", "WRITE", "EXECUTE"], ["READ"]]
    assert changed["lastModifiedOn"] == T0 + 1000
    for invalid in ({}, {"permissions": [{"subjectId": "a", "subjectType": "DOG"}]},
                  {"permissions": [{"subjectId": "a", "subjectType": "USER", "actions": ["FLY"]}]}):  # fmt: skip
        assert hub.http.post(path, json=invalid).status_code == 400
