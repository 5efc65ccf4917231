"""Routes of the API."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.unit.fakes.sandbox_app import JR, OFFSET, SEED, T0, Hub

PS = "/pipelinestore/rest/v1"


def test_unsupported_endpoint_returns_404(shared_hub):
    response = shared_hub.http.post(f"{JR}/jobPolicy", json={})
    assert response.status_code == 404
    assert "does not implement POST" in response.json()["ISSUES"][0]["message"]


def test_changes_of_pipelines_are_refused(shared_hub):
    job = shared_hub.get(f"{JR}/job/{shared_hub.id('Quick check')}")
    commit, pipeline = f"{PS}/pipelineCommit/{job['pipelineCommitId']}", f"{PS}/pipeline/{job['pipelineId']}"
    for method, path in (
        ("PUT", f"{PS}/pipelines"),
        ("POST", f"{commit}/createDraft"),
        ("POST", commit),
        ("DELETE", commit),
        ("DELETE", pipeline),
    ):
        response = shared_hub.http.request(method, path, json={} if method in ("PUT", "POST") else None)
        (issue,) = response.json()["ISSUES"]
        assert (response.status_code, issue["code"]) == (403, "PIPELINE_STORE_05"), path
        assert issue["message"] == f"User '{shared_hub.backend.user}' does not have the role 'Pipeline Editor'"
    assert "pipelinestore:pipelineEditor" not in shared_hub.get("/security/rest/v1/currentUser")["roles"]


def test_draft_of_unknown_version_is_not_found(shared_hub):
    response = shared_hub.http.post(f"{PS}/pipelineCommit/no:no/createDraft")
    assert (response.status_code, response.json()["ISSUES"][0]["code"]) == (404, "PIPELINE_STORE_02")


def test_no_pipeline_is_a_draft(shared_hub):
    assert shared_hub.get(f"{PS}/pipelines", draft=True)["data"] == []
    assert shared_hub.get(f"{PS}/pipelines", draft=False)["totalCount"] == len(shared_hub.backend.pipelines)
    assert shared_hub.get(f"{PS}/saql/pipelines/search", search="draft==true", len=-1)["data"] == []


def test_resources_of_engines_are_always_wrapped(shared_hub):
    page = shared_hub.get(f"{JR}/metrics/executors", orderBy="HTTP_URL")
    assert page["data"] == shared_hub.get(f"{JR}/sdcs", orderBy="HTTP_URL")
    assert (page["totalCount"], page["offset"], page["len"]) == (3, 0, -1)
    assert all(engine["cpuLoad"] is not None and engine["usedMemory"] > 0 for engine in page["data"])
    assert shared_hub.get(f"{JR}/metrics/executors", executorType="TRANSFORMER")["totalCount"] == 0


def test_job_id_with_escaped_colon_is_accepted(shared_hub):
    job_id = shared_hub.id("Quick check")
    assert shared_hub.get(f"{JR}/job/{job_id.replace(':', '%3A')}")["id"] == job_id


def test_batch_run_from_start_to_final_metrics(hub):
    started = hub.do("Quick check", "start").json()
    assert (started["runCount"], started["status"], started["color"]) == (1, "ACTIVATING", "GREEN")
    assert (started["startTime"], started["finishTime"], started["user"]) == (T0, 0, hub.backend.user)
    assert started["pipelineStatus"] == []
    hub.clock.advance(0.4)
    active = hub.status("Quick check")
    assert (active["status"], active["pipelineStatus"][0]["status"]) == ("ACTIVE", "RUNNING")
    hub.clock.advance(1)
    ended = hub.status("Quick check")
    assert (ended["status"], ended["color"], ended["pipelineStatus"]) == ("INACTIVE", "GRAY", [])
    assert (ended["finishTime"], ended["inputRecordCount"]) == (T0 + 1100, 0)
    assert hub.counts("Quick check") == {}
    hub.clock.advance(2)
    assert hub.status("Quick check")["inputRecordCount"] == 100
    counts = hub.counts("Quick check")
    assert list(counts) == ["0"]
    assert "runCount" not in counts["0"]
    assert counts["0"]["lastUpdatedOn"] == T0 + 2800
    document = hub.get(f"{JR}/job/{hub.id('Quick check')}/committedOffsets")
    assert document == {"version": 2, "offsets": {OFFSET: "100"}}
    assert json.loads(hub.status("Quick check")["pipelineOffsets"][0]["offset"]) == document


def test_record_counts_omit_run_count_of_latest_run(hub):
    counts = hub.counts("Orders to warehouse")
    assert [counts[key].get("runCount") for key in "012"] == [None, 2, 1]
    assert counts["1"]["inputCount"] == 21_000
    hub.do("Orders to warehouse", "start")
    assert [entry.get("runCount") for entry in hub.counts("Orders to warehouse").values()] == [None, 2, 1]
    hub.clock.advance(6)
    counts = hub.counts("Orders to warehouse")
    assert [counts[key].get("runCount") for key in "0123"] == [None, 3, 2, 1]
    assert (counts["0"]["inputCount"], counts["0"]["errorCount"]) == (20_000, 100)


def test_lost_engine_is_reported_everywhere(hub):
    hub.do("Sensors archive", "start")
    hub.clock.advance(6)
    lost = hub.status("Sensors archive")
    assert (lost["status"], lost["color"]) == ("ACTIVE", "RED")
    assert [warning.split(" - ")[0] for warning in lost["warnings"]] == ["JOBRUNNER_62", "JOBRUNNER_24"]
    engine = hub.get(f"{JR}/sdc/{lost['sdcIds'][0]}")
    assert engine["responding"] is False
    assert engine["lastReportedTime"] == lost["pipelineStatus"][0]["lastReportedTime"] == T0 + 4000
    assert hub.get(f"/tunneling/rest/connection/{engine['id']}") is None
    hub.clock.advance(4)
    assert hub.status("Sensors archive")["color"] == "GREEN"
    hub.clock.advance(20)
    assert hub.status("Sensors archive")["color"] == "GRAY"


@pytest.mark.parametrize("instances", [-1, 2])
def test_instances_run_on_different_engines(instances):
    jobs = tuple(replace(job, instances=instances) for job in SEED.jobs)
    hub = Hub(replace(SEED, jobs=jobs))
    hub.do("Quick check", "start")
    hub.clock.advance(0.5)
    reported = hub.status("Quick check")["pipelineStatus"]
    assert len({entry["sdcId"] for entry in reported}) == 2
    hub.clock.advance(5)
    assert hub.counts("Quick check")["0"]["inputCount"] == 200
    one = hub.get(
        f"/timeseries/rest/v1/metrics/job/{hub.id('Quick check')}/recordCountsForAllRuns",
        sdcId=reported[1]["sdcId"],
    )
    assert (one["0"]["inputCount"], one["0"]["sdcId"]) == (100, reported[1]["sdcId"])


def test_tunnel_returns_live_metrics(hub):
    status = hub.status("Web logs to lake")
    pipeline = status["pipelineStatus"][0]
    path = f"/tunneling/rest/{pipeline['sdcId']}/rest/v1/pipeline/{pipeline['name']}/metrics"
    instance = hub.get(f"/tunneling/rest/connection/{pipeline['sdcId']}")["instanceId"]
    live = hub.get(path, TUNNELING_INSTANCE_ID=instance, onlyIfExists="True")
    assert live["meters"]["pipeline.batchInputRecords.meter"]["count"] == 220 * 7199
    assert status["enginePipelineId"] == pipeline["name"]
    assert hub.http.get(path).status_code == 400
    unknown = hub.http.get(path.replace(pipeline["name"], "none"), params={"TUNNELING_INSTANCE_ID": instance})
    assert unknown.json() is None
    hub.do("Web logs to lake", "stop")
    hub.clock.advance(5)
    assert hub.http.get(path, params={"TUNNELING_INSTANCE_ID": instance}).status_code == 204


def test_job_sequences_are_empty_list(shared_hub):
    assert shared_hub.get(f"/sequencing/rest/v1/sequencing/job/{shared_hub.id('Quick check')}/sequence") == []


def test_organization_is_accepted_in_header_and_query(shared_hub):
    for name in ("organization", "orgId"):
        found = shared_hub.names(
            f"{JR}/saql/jobs/search", search='name=="Quick check"', **{name: shared_hub.backend.organization}
        )
        assert found == ["Quick check"]
    headers = {"X-SS-Org-Id": shared_hub.backend.organization}
    assert shared_hub.http.get(f"{JR}/jobs/count", headers=headers).status_code == 200


def test_all_routes_respond(hub):
    job = hub.get(f"{JR}/job/{hub.id('Web logs to lake')}")
    status = job["currentJobStatus"]
    engine_id = status["sdcIds"][0]
    known = {
        "job_id": job["id"],
        "run_id": status["id"],
        "template_id": hub.id("Regional orders"),
        "engine_id": engine_id,
        "pipeline_id": job["pipelineId"],
        "engine_pipeline_id": status["enginePipelineId"],
        "commit_id": job["pipelineCommitId"],
        "organization": job["organization"],
        "filter_id": "unknown",
        "service": "jobrunner",
        "action": "stop",
    }
    query = {
        "jobId": job["id"],
        "pipelineCommitId": job["pipelineCommitId"],
        "pipeline": status["enginePipelineId"],
        "TUNNELING_INSTANCE_ID": hub.get(f"/tunneling/rest/connection/{engine_id}")["instanceId"],
    }
    bulk = (
        "Jobs", "Errors", "SDCs", "/status", "/jobs", "/sdcs", "Bulk", "latestCommit", "jobs/resetOffset", "Templates",
        "OfDeletedJobs",
    )  # fmt: skip
    calls = 0
    for route in hub.app.state.api_routes:
        path = route.path.format(**known)
        if "GET" in route.methods:
            response = hub.http.get(path, params=query)
        elif "POST" in route.methods and path.endswith(bulk) and not path.endswith("/importJobs"):
            response = hub.http.post(path, json=[])
        else:
            continue
        assert response.status_code == 200, (path, response.text)
        calls += 1
    assert calls > 60
