"""Starts of job template instances."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.fakes.sandbox_app import JR, T0, Hub

TEMPLATE = "Regional orders"


def start(hub: Hub, *parameters: dict[str, Any], call: str = "createAndStartJobInstances", **body: Any) -> Any:
    return hub.do(TEMPLATE, call, {"runtimeParametersList": list(parameters) or [{}], **body})


def started(hub: Hub, *parameters: dict[str, Any], **body: Any) -> list[dict[str, Any]]:
    response = start(hub, *parameters, **body)
    assert response.status_code == 200, response.text
    return [hub.get(f"{JR}/job/{status['jobId']}") for status in response.json()]


def test_template_start_creates_instance_per_parameter_set(hub):
    statuses = start(hub, {"REGION": "emea"}, {"REGION": "apac", "RECORDS": 50}).json()
    assert [(status["status"], status["runCount"]) for status in statuses] == [("ACTIVATING", 1)] * 2
    jobs = [hub.get(f"{JR}/job/{status['jobId']}") for status in statuses]
    template = hub.id(TEMPLATE)
    for job in jobs:
        assert (job["jobTemplate"], job["templateJobId"], job["deleteAfterCompletion"]) == (False, template, False)
        assert (job["description"], job["rawJobTags"]) == ("One instance per region", ["regional"])
    assert [json.loads(job["runtimeParameters"])["REGION"] for job in jobs] == ["emea", "apac"]
    assert hub.names(templateJobId=template) == [f"{TEMPLATE} - {number}" for number in (1, 2, 3)]
    hub.clock.advance(30)
    assert [hub.status(job["name"])["inputRecordCount"] for job in jobs] == [10_000, 50]
    assert hub.do(jobs[1]["name"], "start").json()["runCount"] == 2


def test_variant_counter(hub):
    assert [job["name"] for job in started(hub, {}, {})] == [f"{TEMPLATE} - 2", f"{TEMPLATE} - 3"]
    assert [job["name"] for job in started(hub)] == [f"{TEMPLATE} - 4"]
    restarting = Hub(counter="restart")
    assert [job["name"] for job in started(restarting, {}, {})] == [f"{TEMPLATE} - 1", f"{TEMPLATE} - 2"]


def test_instance_names_end_with_date_or_parameter(hub):
    assert [job["name"] for job in started(hub, {}, {}, namePostfixType="TIME_STAMP")] == [
        f"{TEMPLATE} - 2026-01-01"
    ] * 2
    by_region = started(hub, {"REGION": "a/b"}, {"REGION": 7}, namePostfixType="PARAM_VALUE", paramName="REGION")
    assert [job["name"] for job in by_region] == [f"{TEMPLATE} - a/b", f"{TEMPLATE} - 7"]
    (own,) = started(hub, {}, name="Own", description="mine", rawJobTags=["x"])
    assert (own["name"], own["description"], own["rawJobTags"]) == ("Own - 1", "mine", ["x"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (None, "body is missing"),
        ([], "JSON object"),
        ({"namePostfixType": "PARAM_VALUE"}, "'paramName' is required"),
        ({"namePostfixType": "PARAM_VALUE", "paramName": "NONE"}, "'NONE'"),
        ({"namePostfixType": "OTHER"}, "namePostfixType"),
        ({"runtimeParametersList": []}, "runtimeParametersList"),
        ({"runtimeParametersList": {"REGION": "x"}}, "runtimeParametersList"),
        ({"runtimeParametersList": [{"REGION": ["x"]}]}, "REGION"),
        ({"attachToTemplate": "yes"}, "attachToTemplate"),
    ],
)
@pytest.mark.parametrize("call", ["createAndStartJobInstances", "createAndStartJobInstancesAsync"])
def test_invalid_template_start_creates_nothing(hub, call, body, message):
    before = len(hub.backend.jobs)
    response = hub.do(TEMPLATE, call, body)
    assert response.status_code == 400
    assert message in response.json()["ISSUES"][0]["message"]
    assert len(hub.backend.jobs) == before
    assert hub.backend.starts == []


def test_job_cannot_start_instances(hub):
    assert hub.do("Quick check", "createAndStartJobInstances", {}).status_code == 400
    assert hub.http.get(f"{JR}/job/{hub.id('Quick check')}/runHistory").status_code == 400


def test_no_instances_without_matching_engine(hub):
    hub.backend.engines.clear()
    before = len(hub.backend.jobs)
    assert start(hub).status_code == 400
    assert len(hub.backend.jobs) == before


def test_static_parameters_cannot_be_changed(hub):
    template = hub.get(f"{JR}/job/{hub.id(TEMPLATE)}")
    hub.http.post(f"{JR}/job/{template['id']}", json={**template, "staticParameters": ["REGION"]})
    assert start(hub, {"REGION": "apac"}).status_code == 400
    assert start(hub, {"REGION": "emea", "RECORDS": "1"}).status_code == 200


def test_detached_instance_can_be_updated(hub):
    (job,) = started(hub, {}, attachToTemplate=False)
    assert job["templateJobId"] is None
    assert hub.names(templateJobId=hub.id(TEMPLATE)) == [f"{TEMPLATE} - 1"]
    hub.clock.advance(30)
    assert hub.http.post(f"{JR}/job/{job['id']}", json={**job, "description": "own"}).status_code == 200
    attached = started(hub)[0]
    hub.clock.advance(30)
    assert hub.http.post(f"{JR}/job/{attached['id']}", json=attached).status_code == 400


def test_async_instances_start_after_delay(hub):
    jobs = start(hub, {}, {}, call="createAndStartJobInstancesAsync").json()
    assert [job["currentJobStatus"] for job in jobs] == [None, None]
    hub.clock.advance(0.4)
    assert hub.get(f"{JR}/job/{jobs[0]['id']}/currentStatus") is None
    assert hub.http.delete(f"/jobrunner/rest/v2/job/{jobs[1]['id']}").status_code == 200
    hub.clock.advance(10)
    status = hub.get(f"{JR}/job/{jobs[0]['id']}/currentStatus")
    assert (status["startTime"], status["status"], status["runCount"]) == (T0 + 500, "INACTIVE", 1)
    assert [entry.job_id for entry in hub.backend.starts] == [jobs[0]["id"]]


def test_async_instance_started_by_client_starts_once(hub):
    (job,) = start(hub, call="createAndStartJobInstancesAsync").json()
    assert hub.do(job["name"], "start").status_code == 200
    hub.clock.advance(60)
    assert hub.status(job["name"])["runCount"] == 1


@pytest.mark.parametrize("call", ["createAndStartJobInstances", "createAndStartJobInstancesAsync"])
def test_instance_is_deleted_after_completion(hub, call):
    (entry,) = start(hub, {"RECORDS": "100"}, call=call, deleteAfterCompletion=True).json()
    job_id = entry.get("jobId") or entry["id"]
    hub.clock.advance(1)
    assert hub.get(f"{JR}/job/{job_id}")["deleteAfterCompletion"] is True
    hub.clock.advance(30)
    assert hub.get(f"{JR}/job/{job_id}") is None
    assert hub.get(f"{JR}/job/{job_id}/currentStatus") is None
    assert hub.http.post(f"{JR}/jobs/status", json=[job_id]).json() == {}
    assert hub.names(removed="true") == [f"{TEMPLATE} - 2"]
    (removed,) = hub.get(f"{JR}/jobs", removed="true")
    assert removed["deleteTime"] == removed["currentJobStatus"]["finishTime"] > 0


def test_failed_instance_is_deleted_after_acknowledgement(hub):
    (job,) = started(hub, {"RECORDS": "many"}, deleteAfterCompletion=True)
    hub.clock.advance(30)
    assert hub.status(job["name"])["status"] == "INACTIVE_ERROR"
    hub.http.post(f"{JR}/job/{job['id']}/acknowledgeError")
    assert hub.get(f"{JR}/job/{job['id']}") is None


def test_variant_deleted_instances():
    hub = Hub(deleted_instances="readable")
    (job,) = started(hub, {"RECORDS": "100"}, deleteAfterCompletion=True)
    hub.clock.advance(30)
    deleted = hub.get(f"{JR}/job/{job['id']}")
    assert (deleted["jobDeleted"], deleted["currentJobStatus"]["status"]) == (True, "INACTIVE")
    assert hub.get(f"{JR}/job/{job['id']}/currentStatus") is None
    hub.http.delete(f"/jobrunner/rest/v2/job/{hub.id('Quick check')}")
    assert hub.http.get(f"{JR}/job/{hub.id(TEMPLATE)}").status_code == 200


def test_permissions_are_inherited_on_request(hub):
    path = f"{JR}/job/{hub.id(TEMPLATE)}"
    group = {"subjectId": "all@org", "subjectType": "GROUP", "actions": ["READ"]}
    hub.http.post(f"{path}/acl", json={"permissions": [group]})
    subjects = []
    for inherit in ("False", "True"):
        (status,) = hub.http.post(
            f"{path}/createAndStartJobInstances", json={}, params={"inheritPermissions": inherit}
        ).json()
        subjects.append(hub.get(f"{JR}/job/{status['jobId']}/acl")["permissions"][0]["subjectId"])
    assert subjects == [hub.backend.user, "all@org"]


def test_template_history_lists_instances(hub):
    first, second = started(hub, {"REGION": "x"}), started(hub, {}, {})
    history = hub.get(f"{JR}/job/{hub.id(TEMPLATE)}/runHistory")
    assert history["totalCount"] == 2
    assert [entry["jobInstanceIds"] for entry in history["data"]] == [
        [job["id"] for job in jobs] for jobs in (second, first)
    ]
    assert [entry["runCount"] for entry in history["data"]] == [2, 1]
    assert json.loads(history["data"][1]["configuration"])["runtimeParametersList"] == [{"REGION": "x"}]
    assert hub.get(f"{JR}/job/{hub.id(TEMPLATE)}/runHistory", withTotalCount="False") == history["data"]
