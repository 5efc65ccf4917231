"""Creating, changing, upgrading and copying jobs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.sandbox_hub import JR, OFFSET, T0, Hub

PS = "/pipelinestore/rest/v1"


@pytest.fixture
def hub() -> Hub:
    return Hub()


def versions(hub: Hub, name: str) -> list[dict[str, Any]]:
    pipeline = next(item for item in hub.world.pipelines.values() if item.name == name)
    return hub.get(f"{PS}/pipeline/{pipeline.id}/log")


def described(hub: Hub, pipeline: str, version: int = -1, **changes: Any) -> dict[str, Any]:
    """Return the least that a job is created from."""
    commit = versions(hub, pipeline)[version]
    return {"name": "Mine", "pipelineCommitId": commit["commitId"], **changes}


def create(hub: Hub, pipeline: str = "Quick check", version: int = -1, **changes: Any) -> dict[str, Any]:
    response = hub.http.put(f"{JR}/jobs", json=described(hub, pipeline, version, **changes))
    assert response.status_code == 200, response.text
    return response.json()


def refusal(response: Any) -> str:
    assert response.status_code == 400
    (issue,) = response.json()["ISSUES"]
    assert issue["code"]
    return issue["message"]


def update(hub: Hub, body: dict[str, Any], **changes: Any) -> Any:
    return hub.http.post(f"{JR}/job/{body['id']}", json={**body, **changes})


# -- create


def test_a_created_job_has_the_defaults_of_the_server_and_is_in_every_list(hub):
    job = create(hub, numInstances=None, rawJobTags=["new/one"])
    assert job == hub.get(f"{JR}/job/{job['id']}")
    assert job["currentJobStatus"] is None
    assert (job["creator"], job["createTime"], job["lastModifiedOn"]) == (hub.world.user, T0, T0)
    assert (job["labels"], job["numInstances"], job["runtimeParameters"]) == (["all"], 1, "{}")
    assert (job["statsRefreshInterval"], job["forceStopTimeout"]) == (60_000, 120_000)
    assert (job["migrateOffsets"], job["needsManualAck"], job["jobTemplate"]) == (False, True, False)
    assert (job["pipelineName"], job["pipelineCommitLabel"]) == ("Quick check", "v1")
    organization = hub.world.organization
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


def test_a_created_job_is_all_that_was_said_and_runs(hub):
    said = {
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
    job = create(hub, **said)
    assert {name: job[name] for name in said} == said
    started = hub.do("Mine", "start").json()
    assert (started["runCount"], started["jobId"]) == (1, job["id"])
    hub.clock.advance(10)
    assert hub.status("Mine")["inputRecordCount"] == 5


def test_names_are_not_unique(hub):
    first, second = create(hub), create(hub)
    assert first["id"] != second["id"]
    assert hub.names(jobSearchText="Mine") == ["Mine", "Mine"]


def test_many_jobs_are_created_or_none(hub):
    bodies = [described(hub, "Quick check", name=name) for name in ("A", "B")]
    created = hub.http.put(f"{JR}/jobs/createJobs", json=bodies).json()
    assert [job["name"] for job in created] == ["A", "B"]
    before = len(hub.world.jobs)
    assert "name" in refusal(hub.http.put(f"{JR}/jobs/createJobs", json=[*bodies, {**bodies[0], "name": ""}]))
    assert "array" in refusal(hub.http.put(f"{JR}/jobs/createJobs", json=bodies[0]))
    assert len(hub.world.jobs) == before


@pytest.mark.parametrize(
    ("changes", "said"),
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
def test_a_job_that_cannot_be_is_refused(hub, changes, said):
    body = described(hub, "Quick check", **changes)
    assert said in refusal(hub.http.put(f"{JR}/jobs", json=body))
    assert "JSON object" in refusal(hub.http.put(f"{JR}/jobs", json=[body]))


def test_whether_errors_need_an_acknowledgement_by_default_is_a_variant():
    for value in (True, False):
        hub = Hub(needs_ack_default=str(value).lower())
        assert create(hub)["needsManualAck"] is value
        assert create(hub, needsManualAck=not value)["needsManualAck"] is not value
        seeded = {job["name"]: job["needsManualAck"] for job in hub.get(f"{JR}/jobs")}
        assert (seeded["Quick check"], seeded["Orders to warehouse"], seeded["Ledger export"]) == (value, False, True)


def test_a_version_is_found_by_its_tag(hub):
    pipeline = next(item for item in hub.world.pipelines.values() if item.name == "Orders to warehouse")
    tags = hub.get(f"{PS}/pipeline/{pipeline.id}/tags")
    assert [tag["name"] for tag in tags] == ["released", "2025.4"]
    assert {tag["commitId"] for tag in tags} == {versions(hub, pipeline.name)[1]["commitId"]}
    assert create(hub, pipelineCommitId=tags[0]["commitId"])["pipelineCommitLabel"] == "v2"


def test_two_pipelines_can_have_one_name(hub):
    found = hub.get(f"{PS}/saql/pipelines/search", search='name=="Stock levels"', len=-1)["data"]
    assert len({pipeline["pipelineId"] for pipeline in found}) == 2


# -- update


def test_an_update_changes_what_may_be_changed_and_nothing_else(hub):
    job = create(hub, "Orders to warehouse", 0, description="old")
    hub.clock.advance(1)
    latest = versions(hub, "Orders to warehouse")[2]
    mine = {
        "name": "Other",
        "description": None,
        "pipelineCommitId": latest["commitId"],
        "pipelineCommitLabel": "v3",
        "labels": ["dev"],
        "rawJobTags": ["x/y"],
        "runtimeParameters": '{"RECORDS": "7"}',
    }
    servers = {
        "creator": "somebody",
        "createTime": 1,
        "organization": "elsewhere",
        "currentJobStatus": {"status": "ACTIVE"},
        "jobTemplate": True,
        "lastModifiedOn": 1,
    }
    changed = update(hub, job, **mine, **servers).json()
    assert changed == hub.get(f"{JR}/job/{job['id']}")
    assert {name: changed[name] for name in mine} == mine
    assert [tag["id"] for tag in changed["jobTags"]] == [f"x/y:{hub.world.organization}"]
    assert {name: changed[name] for name in servers if name != "lastModifiedOn"} == {
        name: job[name] for name in servers if name != "lastModifiedOn"
    }
    assert changed["lastModifiedOn"] == T0 + 1000
    assert hub.names(f"{JR}/jobs/forPipelineCommit", pipelineCommitId=job["pipelineCommitId"]) == []


def test_two_changes_at_one_time_can_be_told_apart(hub):
    job = create(hub)
    times = [update(hub, job).json()["lastModifiedOn"] for _ in range(3)]
    assert times == [T0 + 1, T0 + 2, T0 + 3]


def test_commit_and_label_must_be_changed_together(hub):
    job = create(hub, "Orders to warehouse", 0)
    second = versions(hub, "Orders to warehouse")[1]
    assert "v1" in refusal(update(hub, job, pipelineCommitId=second["commitId"]))
    assert "v2" in refusal(update(hub, job, pipelineCommitLabel="v2"))
    assert update(hub, job, pipelineCommitId=second["commitId"], pipelineCommitLabel="v2").status_code == 200


def test_a_job_is_changed_only_while_it_is_inactive_and_its_own(hub):
    for name, said in (
        ("Web logs to lake", "ACTIVE"),
        ("Ledger export", "acknowledged"),
        ("Regional orders - 1", "attached"),
    ):
        assert said in refusal(update(hub, hub.get(f"{JR}/job/{hub.id(name)}"), description="new"))
    assert update(hub, hub.get(f"{JR}/job/{hub.id('Regional orders')}"), description="new").status_code == 200
    assert hub.http.post(f"{JR}/job/no:no", json={}).content == b""
    assert "path" in refusal(hub.http.post(f"{JR}/job/{hub.id('Quick check')}", json=create(hub)))


def test_past_runs_keep_the_version_they_ran_with(hub):
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


def test_many_jobs_are_updated_or_none(hub):
    first, second = create(hub, name="A"), create(hub, name="B")
    bodies = [{**first, "description": "1"}, {**second, "description": "2", "pipelineCommitLabel": "v9"}]
    assert "v9" in refusal(hub.http.post(f"{JR}/jobs/updateJobs", json=bodies))
    assert hub.get(f"{JR}/job/{first['id']}")["description"] is None
    bodies[1]["pipelineCommitLabel"] = "v1"
    response = hub.http.post(f"{JR}/jobs/updateJobs", json=bodies)
    assert (response.status_code, response.content) == (200, b"")
    assert [hub.get(f"{JR}/job/{job['id']}")["description"] for job in (first, second)] == ["1", "2"]
    assert "id" in refusal(hub.http.post(f"{JR}/jobs/updateJobs", json=[{"name": "A"}]))


# -- upgrade


def test_an_upgrade_takes_the_latest_version_once(hub):
    job = create(hub, "Orders to warehouse", 0)
    hub.clock.advance(1)
    (upgraded,) = hub.http.post(f"{JR}/jobs/upgradeJobs", json=[job["id"]]).json()
    assert (upgraded["pipelineCommitLabel"], upgraded["lastModifiedOn"]) == ("v3", T0 + 1000)
    hub.clock.advance(1)
    assert hub.http.post(f"{JR}/job/{job['id']}/upgrade").json() == [upgraded]


def test_an_active_job_is_upgraded_in_its_run(hub):
    create(hub, "Clickstream to lake", 0)
    hub.do("Mine", "start")
    assert "ACTIVATING" in refusal(hub.do("Mine", "upgrade"))
    hub.clock.advance(5)
    before = hub.status("Mine")
    (job,) = hub.do("Mine", "upgrade").json()
    after = job["currentJobStatus"]
    assert (job["pipelineCommitLabel"], after["pipelineCommitLabel"]) == ("v2", "v2")
    assert (after["status"], after["runCount"], after["id"]) == ("ACTIVE", 1, before["id"])
    messages = [event["message"] for event in hub.get(f"{JR}/job/{after['id']}/jobStatusHistory")]
    assert "Job upgraded to pipeline version v2" in messages


def test_upgrade_of_active_job_starts_successor_where_the_variant_says_so():
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
        "user": hub.world.user,
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
        ("DEACTIVATING", hub.world.user),
        ("DEACTIVATING", None),
        ("INACTIVE", None),
    ]
    assert [run.parameters for run in hub.world.job(job["id"]).runs] == [{"TOPIC": "clicks"}] * 2
    assert [start["run_count"] for start in hub.get("/sandbox/v1/starts")] == [1]
    hub.clock.advance(5)
    assert (hub.status("Mine")["status"], hub.do("Mine", "upgrade").json()[0]["currentJobStatus"]["runCount"]) == (
        "ACTIVE",
        2,
    )


@pytest.mark.parametrize("advance", [1.1, 60])
def test_successor_is_started_only_for_a_running_pipeline(advance):
    hub = Hub(upgrade_active="successor")
    create(hub, "Invoices import", 0)
    hub.do("Mine", "start")
    hub.clock.advance(advance)
    if advance > 2:
        hub.do("Mine", "acknowledgeError")
    (job,) = hub.do("Mine", "upgrade").json()
    assert (job["pipelineCommitLabel"], job["currentJobStatus"]["runCount"]) == ("v2", 1)


def test_no_version_is_verified_so_that_an_upgrade_to_one_does_nothing(hub):
    job = create(hub, "Orders to warehouse", 0)
    answer = hub.http.post(f"{JR}/job/{job['id']}/upgrade", params={"ciVerified": "True"})
    assert answer.json() == [job]


# -- duplicate


@pytest.mark.parametrize(("copies", "names"), [(None, ["Copy"]), (1, ["Copy"]), (3, ["Copy1", "Copy2", "Copy3"])])
def test_copies_are_named_after_the_prefix_and_have_never_run(hub, copies, names):
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


def test_templates_are_copied_and_attached_jobs_come_loose():
    hub = Hub(duplicate_body="list")
    (template,) = hub.do("Regional orders", "duplicate", {"namePrefix": "T", "description": "d"}).json()
    assert (template["jobTemplate"], template["description"]) == (True, "d")
    (job,) = hub.do("Regional orders - 1", "duplicate", {"namePrefix": "J"}).json()
    assert (job["jobTemplate"], job["templateJobId"]) == (False, None)
    assert json.loads(job["runtimeParameters"]) == {"REGION": "apac"}


@pytest.mark.parametrize(
    "body", [None, {}, {"namePrefix": "x", "numberOfCopies": 0}, {"namePrefix": "x", "numberOfCopies": 10**6}]
)
def test_a_senseless_duplication_is_refused(hub, body):
    before = len(hub.world.jobs)
    refusal(hub.do("Quick check", "duplicate", body))
    assert len(hub.world.jobs) == before


# -- permissions


def test_permissions_are_kept(hub):
    path = f"{JR}/job/{hub.id('Quick check')}/acl"
    acl = hub.get(path)
    acl["permissions"].append({"subjectId": "all@org", "subjectType": "GROUP", "actions": ["READ"]})
    hub.clock.advance(1)
    changed = hub.http.post(path, json=acl).json()
    assert changed == hub.get(path)
    assert [entry["actions"] for entry in changed["permissions"]] == [["READ", "WRITE", "EXECUTE"], ["READ"]]
    assert changed["lastModifiedOn"] == T0 + 1000
    for wrong in ({}, {"permissions": [{"subjectId": "a", "subjectType": "DOG"}]},
                  {"permissions": [{"subjectId": "a", "subjectType": "USER", "actions": ["FLY"]}]}):  # fmt: skip
        refusal(hub.http.post(path, json=wrong))
