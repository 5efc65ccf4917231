"""Responses to the conformance check that no sandbox gives."""

from __future__ import annotations

import re

import pytest

from airflow_provider_streamsets.cli.conformance import run_conformance
from airflow_provider_streamsets.cli.conformance.hub import Hub, NotAnswered, Reply, describe, status_name
from airflow_provider_streamsets.control_hub import ControlHubClient
from tests.unit.fakes.api_payloads import CREDENTIAL_ID, HUB, JR, SEC, TOKEN, VirtualClock, issues_json, job_json

ANY_JOB = re.compile(f"{JR}/job/")


@pytest.fixture
def client(http):
    http.get(f"{SEC}/currentUser", json={"principalId": "me@org", "organizationId": "org"})
    http.get(f"{HUB}/rest/v1/server/info", status_code=404)
    with ControlHubClient(HUB, CREDENTIAL_ID, TOKEN, sleep=VirtualClock().sleep) as client:
        yield client


def found(client, section):
    return run_conformance(client, sections={section}).as_dict()


def test_behavior_of_no_variant_is_reported(http, client):
    http.get(ANY_JOB, status_code=418, json=issues_json(("JOBRUNNER_1", "private text")))
    report = found(client, "18.4")
    assert report["findings"][0]["variants"] == {"unknown_job": "no variant matches"}
    assert report["findings"][0]["observed"]["job"]["body"] == "error envelope, codes: JOBRUNNER_1"
    assert report["variants"] == {}


def test_differing_responses_are_listed_without_a_variant(http, client):
    http.get(ANY_JOB, [{"status_code": 404, "json": issues_json(("JOBRUNNER_1", ""))}, {"text": ""}])
    report = found(client, "18.4")
    assert report["findings"][0]["variants"] == {"unknown_job": ["404", "empty"]}
    assert report["variants"] == {}


@pytest.mark.parametrize("body", [[], [1], {"data": 1}, {"data": [None]}, "text", None, [{"id": 1}, {"name": []}]])
@pytest.mark.parametrize("section", ["18.9", "18.12", "18.14", "18.37", "18.41"])
def test_unexpected_bodies_are_not_answered(http, client, section, body):
    http.get(f"{JR}/jobs", json=body)
    http.post(f"{JR}/jobs", json=body)
    report = found(client, section)
    assert report["findings"][0]["status"] == "not answered"
    assert report["findings"][0]["reason"]


def test_reads_are_limited(http, client):
    http.get(f"{JR}/jobs", json=[job_json()])
    hub = Hub(client, limit=1)
    assert hub.read("/v1/jobs", len=1).ok
    assert hub.read("/v1/jobs", len=1).ok
    with pytest.raises(NotAnswered, match="limit of 1 requests"):
        hub.read("/v1/jobs", len=2)
    assert http.call_count == 1


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ({"my-job": 1, "status": "x"}, "object with status, 1 other keys"),
        ([{"secret": 1}], "array of 1: object with 1 other keys"),
        ("secret", "string"),
        (job_json(), f"job with {len(job_json())} keys"),
    ],
)
def test_shapes_have_no_values(value, shape):
    assert describe(value) == shape


def test_texts_of_other_forms_are_not_repeated():
    reply = Reply(400, "text/html; charset=private", '{"ISSUES": [{"code": "private"}, {"code": "A_1 private"}]}')
    assert reply.facts() == {"status": 400, "content type": "text/html", "body": "error envelope, codes: none"}
    assert Reply(200, "private", "<p>private").facts() == {"status": 200, "content type": "another", "body": "not JSON"}
    assert (status_name("private"), status_name(None), status_name("RED")) == ("another value", "none", "RED")
