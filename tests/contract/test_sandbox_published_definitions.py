"""What the sandbox answers, held against the published API definitions and the example payloads."""

from __future__ import annotations

import io
import json
import re
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from airflow_provider_streamsets.sandbox.app import create_app
from airflow_provider_streamsets.sandbox.backend.clock import Clock

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
SWAGGER, PAYLOADS = SHARED / "swagger", SHARED / "payloads"
needs_swagger = pytest.mark.skipif(
    not SWAGGER.is_dir(), reason="the published definitions are not beside this repository"
)
needs_payloads = pytest.mark.skipif(not PAYLOADS.is_dir(), reason="the example payloads are not beside this repository")

T0 = 1_767_261_000_000
FILES = {
    "/jobrunner/rest": "Job-Runner-RESTful-API-swagger.json",
    "/pipelinestore/rest": "Pipeline-Repository-RESTful-API-swagger.json",
    "/security/rest": "Security-RESTful-API-swagger.json",
}


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/definitions/{name}"}


def array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def keyed(values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


def wrapper(items: dict[str, Any]) -> dict[str, Any]:
    return {"allOf": [ref("PaginationWrapperJson"), {"properties": {"data": array(items)}, "required": ["data"]}]}


# Where the published response type is wrong or says nothing, the type that the contract gives.
CORRECTED: dict[tuple[str, str], dict[str, Any]] = {
    ("get", "/v1/job/{jobStatusId}/jobStatusHistory"): array(ref("JobStatusHistoryJson")),
    ("get", "/v1/jobs/status"): keyed(ref("JobStatusJson")),
    ("post", "/v1/jobs/status"): keyed(ref("JobStatusJson")),
    ("post", "/v1/job/jobTagsBulk"): keyed(array(ref("JobTagJson"))),
    ("get", "/v1/jobs/count"): {"type": "object", "required": ["count"]},
    ("get", "/v1/sdcs/count"): {"type": "object", "required": ["count"]},
    ("get", "/v1/pipelines/count"): {"type": "object", "required": ["count"]},
    ("post", "/v1/sdcs"): keyed(ref("SDCJson")),
    ("get", "/v1/saql/jobs/search"): wrapper(ref("JobJson")),
    ("get", "/v1/saql/jobs/search/templates"): wrapper(ref("JobJson")),
    ("get", "/v1/saql/jobs/search/{jobId}/runs"): wrapper(ref("JobStatusJson")),
    ("get", "/v1/metrics/problematicJobs"): wrapper(ref("JobJson")),
    ("get", "/v1/metrics/jobCountByStatus"): wrapper({"type": "object", "required": ["status", "count"]}),
    ("get", "/v1/pipelines"): wrapper(ref("PipelineJson")),
    ("get", "/v1/saql/pipelines/search"): wrapper(ref("PipelineJson")),
    ("post", "/v1/jobs/importJobs"): array(ref("JobEnvelopeWithConnectionsMetadataJson")),
    ("post", "/v1/jobs/importJobsFromJson"): array(ref("JobEnvelopeWithConnectionsMetadataJson")),
    ("put", "/v1/jobs/createJobs"): array(ref("JobJson")),
    ("post", "/v1/job/{jobId}/duplicate"): array(ref("JobJson")),
    ("post", "/v1/jobs/updateJobs"): array(ref("JobJson")),
    ("post", "/v1/jobs/deleteJobs"): array(ref("JobJson")),
    ("post", "/v1/jobs/deleteJobTemplates"): array(ref("JobJson")),
    ("post", "/v1/jobs/archiveJobTemplates"): array(ref("JobJson")),
    ("post", "/v1/job/{templateJobId}/createAndStartJobInstances"): array(ref("JobStatusJson")),
    ("post", "/v1/job/{templateJobId}/createAndStartJobInstancesAsync"): array(ref("JobJson")),
    ("get", "/v1/job/{jobTemplateId}/runHistory"): wrapper(ref("JobTemplateRunHistoryJson")),
    ("get", "/v1/currentUser/availableAddOns"): {"type": "object", "required": ["enabled"]},
}

# Fields that real bodies have and the definitions do not.
UNPUBLISHED_FIELDS = {"JobJson": {"jobSequence": {"type": "boolean"}}}

# Calls that clients make and the definitions do not list.
UNPUBLISHED_PATHS = {"/v1/{jobId}/validateAccess"}


@cache
def definitions_of(prefix: str) -> dict[str, Any]:
    """Return a Swagger document, made strict: no other fields, but any of them may be null."""
    document = json.loads((SWAGGER / FILES[prefix]).read_text(encoding="utf-8"))
    for name, definition in document["definitions"].items():
        properties = {**definition.get("properties", {}), **UNPUBLISHED_FIELDS.get(name, {})}
        if name == "PaginationWrapperJson":
            properties["data"] = {}
        if not properties:
            continue
        definition["properties"] = {
            field: {"anyOf": [{"type": "null"}, schema]} for field, schema in properties.items()
        }
        definition["additionalProperties"] = False
    return document


class Checked:
    """A client that validates every answer."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self._validators: dict[Any, jsonschema.Draft4Validator] = {}

    def get(self, path: str, **query: Any) -> Any:
        return self._check("get", path, self.client.get(path, params=query))

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        return self._check("post", path, self.client.post(path, json=body, params=query))

    def put(self, path: str, body: Any) -> Any:
        return self._check("put", path, self.client.put(path, json=body))

    def delete(self, path: str) -> Any:
        return self._check("delete", path, self.client.delete(path))

    def post_file(self, path: str, content: bytes, **query: Any) -> Any:
        return self._check("post", path, self.client.post(path, files={"file": content}, params=query))

    def _check(self, method: str, path: str, response: Any) -> Any:
        assert response.status_code == 200, response.text
        prefix = next(prefix for prefix in FILES if path.startswith(prefix))
        document = definitions_of(prefix)
        template = published_path(document, method, path.removeprefix(prefix))
        if not response.content:
            return None
        body = response.json()
        schema = CORRECTED.get((method, template))
        if schema is None:
            schema = document["paths"][template][method]["responses"]["200"]["schema"]
            if isinstance(body, dict) and "totalCount" in body and schema.get("type") == "array":
                schema = wrapper(schema["items"])
        key = (method, template, isinstance(body, dict))
        if key not in self._validators:
            self._validators[key] = jsonschema.Draft4Validator({**schema, "definitions": document["definitions"]})
        self._validators[key].validate(body)
        return body


def published_path(document: dict[str, Any], method: str, path: str) -> str:
    candidates = [
        template
        for template, methods in document["paths"].items()
        if method in methods and re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template), path)
    ]
    # The most literal one, as a router would choose; run ids and job ids have the same form.
    return min(candidates, key=lambda template: template.count("{"))


@pytest.fixture
def clock():
    return Clock(frozen_at=T0)


@pytest.fixture
def client(clock):
    app = create_app(clock=clock)
    credential = app.state.hub.credential
    headers = {
        "X-SS-App-Component-Id": credential.id,
        "X-SS-App-Auth-Token": credential.token,
        "X-Requested-By": "tests",
    }
    # Entered, it keeps one event loop for all calls.
    with TestClient(app, headers=headers) as client:
        yield client


JR, PS, SEC = FILES


@needs_swagger
def test_every_answer_is_valid_at_every_stage_of_every_kind_of_run(client, clock):
    checked = Checked(client)
    jobs = checked.get(f"{JR}/v1/jobs")
    by_name = {job["name"]: job for job in jobs}
    ids = [job["id"] for job in jobs]
    startable = [
        job["id"]
        for job in jobs
        if not job["jobTemplate"] and (job["currentJobStatus"] or {}).get("status") not in ("ACTIVE", "INACTIVE_ERROR")
    ]
    stream = by_name["Clickstream to lake"]["id"]
    for job_id in startable:
        checked.post(f"{JR}/v1/job/{job_id}/start", {"RECORDS": "5000"})
    for seconds in (0, 0.5, 0.6, 3, 10, 60):
        clock.advance(seconds)
        checked.post(f"{JR}/v1/jobs", ids)
        checked.post(f"{JR}/v1/jobs/status", ids)
        checked.get(f"{JR}/v1/jobs/status")
        checked.get(f"{JR}/v1/sdcs")
        for job_id in startable:
            job = checked.get(f"{JR}/v1/job/{job_id}")
            status = checked.get(f"{JR}/v1/job/{job_id}/currentStatus")
            assert status == job["currentJobStatus"]
            checked.get(f"{JR}/v1/job/{job_id}/history")
            checked.get(f"{JR}/v1/job/{job_id}/committedOffsets")
            checked.get(f"{JR}/v1/job/{job_id}/latestCommittedOffsets")
            checked.get(f"{JR}/v1/job/{status['id']}/jobStatusHistory")
            checked.get(f"{JR}/v1/saql/jobs/search/{job_id}/runs", len=-1)
            checked.get(f"{JR}/v1/job/logMessages", jobId=job_id)
        if seconds == 10:
            for action in ("sync", "balance", "resetErrorInfo", "stop"):
                checked.post(f"{JR}/v1/job/{stream}/{action}")
            checked.post(f"{JR}/v1/job/{by_name['Stubborn stream']['id']}/forceStop")
    payments = by_name["Payments reconciliation"]["id"]
    assert checked.get(f"{JR}/v1/job/{payments}/currentStatus")["status"] == "INACTIVE_ERROR"
    assert checked.post(f"{JR}/v1/job/{payments}/acknowledgeError")["status"] == "INACTIVE"
    checked.get(f"{JR}/v1/metrics/job/{stream}")
    document = {"version": 2, "offsets": {"a": None, "b": "1"}}
    checked.post(f"{JR}/v1/job/{stream}/uploadOffsetAsJson", document)


@needs_swagger
def test_every_list_is_valid(client):
    checked = Checked(client)
    for wrapped in ("True", "False"):
        checked.get(f"{JR}/v1/jobs", withWrapper=wrapped, len=3)
        checked.get(f"{JR}/v1/jobs/byStatus", withWrapper=wrapped)
        checked.get(f"{JR}/v1/sdcs", withWrapper=wrapped, executorType="COLLECTOR")
    job = checked.get(f"{JR}/v1/jobs", jobSearchText="Orders to warehouse", jobSearchOperation="EQUALS")[0]
    engines = [engine["id"] for engine in checked.get(f"{JR}/v1/sdcs")]
    for path in ("jobs/count", "jobs/tags", "jobs/labels", "metrics/jobCountByStatus", "metrics/problematicJobs",
                 "saql/jobs/search", "saql/jobs/search/templates", "sdcs/labels", "sdcs/versions", "sdcs/count",
                 f"job/{job['id']}/labels", f"job/{job['id']}/acl"):  # fmt: skip
        checked.get(f"{JR}/v1/{path}", len=-1)
    checked.get(f"{JR}/v1/jobs/forPipelineCommit", pipelineCommitId=job["pipelineCommitId"])
    checked.post(f"{JR}/v1/job/jobTagsBulk", [job["id"]])
    checked.post(f"{JR}/v1/sdcs", engines)
    for path in ("", "/labels", "/reportedLabels", "/pipelines"):
        checked.get(f"{JR}/v1/sdc/{engines[0]}{path}")
    for path in ("pipelines", "pipelines/count", "saql/pipelines/search", f"pipelineCommit/{job['pipelineCommitId']}"):
        checked.get(f"{PS}/v1/{path}", len=-1)
    for path in ("latest", "log", "tags"):
        checked.get(f"{PS}/v1/pipeline/{job['pipelineId']}/{path}")
    checked.post(f"{PS}/v1/pipelines/latestCommit", [job["pipelineId"]])
    for path in ("currentUser", "roles", "projects", "currentUser/availableAddOns"):
        checked.get(f"{SEC}/v1/{path}")


@needs_swagger
def test_successor_of_an_upgraded_run_is_valid(client, clock):
    checked = Checked(client)
    client.post("/sandbox/v1/variants", json={"upgrade_active": "successor", "forced_stop_end": "inactive_error"})
    logs = checked.get(f"{JR}/v1/jobs", jobSearchText="Web logs to lake")[0]
    first = checked.get(f"{PS}/v1/pipeline/{logs['pipelineId']}/log")[0]
    job = checked.put(f"{JR}/v1/jobs", {"name": "Old logs", "pipelineCommitId": first["commitId"]})
    checked.post(f"{JR}/v1/job/{job['id']}/start")
    clock.advance(5)
    (upgraded,) = checked.post(f"{JR}/v1/job/{job['id']}/upgrade")
    successor, old = checked.get(f"{JR}/v1/job/{job['id']}/history")
    assert upgraded["currentJobStatus"] == successor
    assert successor["upgradeStatus"]["previousJobStatusId"] == old["id"]
    checked.get(f"{JR}/v1/job/{old['id']}/jobStatusHistory")
    clock.advance(5)
    checked.post(f"{JR}/v1/job/{job['id']}/forceStop")
    clock.advance(0.3)
    assert checked.get(f"{JR}/v1/job/{job['id']}/currentStatus")["status"] == "INACTIVE_ERROR"


@needs_swagger
def test_what_creates_changes_and_deletes_jobs_answers_validly(client, clock):
    checked = Checked(client)
    client.post("/sandbox/v1/variants", json={"bulk_body": "list", "duplicate_body": "list"})
    orders = checked.get(f"{JR}/v1/jobs", jobSearchText="Orders to warehouse")[0]
    first = checked.get(f"{PS}/v1/pipeline/{orders['pipelineId']}/log")[0]
    new = {"name": "New", "pipelineCommitId": first["commitId"], "pipelineCommitLabel": "v1", "rawJobTags": ["a/b"]}
    job = checked.put(f"{JR}/v1/jobs", new)
    many = checked.put(f"{JR}/v1/jobs/createJobs", [new, new])
    checked.post(f"{JR}/v1/job/{job['id']}", {**job, "description": "changed"})
    assert len(checked.post(f"{JR}/v1/jobs/updateJobs", many)) == 2
    checked.post(f"{JR}/v1/job/{job['id']}/upgrade")
    checked.post(f"{JR}/v1/jobs/upgradeJobs", [entry["id"] for entry in many])
    copies = checked.post(f"{JR}/v1/job/{job['id']}/duplicate", {"namePrefix": "Copy", "numberOfCopies": 3})
    checked.post(f"{JR}/v1/job/{job['id']}/acl", checked.get(f"{JR}/v1/job/{job['id']}/acl"))
    assert checked.delete(f"{JR}/v2/job/{job['id']}")["jobDeleted"]
    checked.delete(f"{JR}/v1/job/{copies[0]['id']}")
    assert len(checked.post(f"{JR}/v1/jobs/deleteJobs", [entry["id"] for entry in copies[1:]])) == 2
    assert len(checked.get(f"{JR}/v1/jobs", removed="True")) == 4


@needs_swagger
def test_template_starts_answer_validly(client, clock):
    checked = Checked(client)
    client.post("/sandbox/v1/variants", json={"bulk_body": "list"})
    (template,) = checked.get(f"{JR}/v1/jobs", jobTemplate="True", jobSearchText="Regional orders")
    body = {"runtimeParametersList": [{"REGION": "x"}, {"REGION": "y"}]}
    path = f"{JR}/v1/job/{template['id']}"
    assert len(checked.post(f"{path}/createAndStartJobInstances", body)) == 2
    later = checked.post(f"{path}/createAndStartJobInstancesAsync", body)
    clock.advance(60)
    checked.post(f"{JR}/v1/jobs", [job["id"] for job in later])
    assert checked.get(f"{path}/runHistory")["totalCount"] == 2
    checked.post(f"{JR}/v1/jobs/archiveJobTemplates", [template["id"]])
    assert checked.post(f"{JR}/v1/jobs/deleteJobTemplates", [template["id"]])


@needs_swagger
def test_every_kind_of_metrics_is_valid(client, clock):
    checked = Checked(client)
    ids = {job["name"]: job["id"] for job in checked.get(f"{JR}/v1/jobs")}
    for name in ("Orders to warehouse", "Truck positions north"):
        for run_count in ("", 0, 1):
            checked.get(f"{JR}/v1/metrics/job/{ids[name]}", runCount=run_count)


@needs_swagger
def test_balancing_is_valid(client, clock):
    checked = Checked(client)
    job = next(job for job in checked.get(f"{JR}/v1/jobs") if job["name"] == "Truck positions north")
    before = job["currentJobStatus"]["sdcIds"]
    moved = checked.post(f"{JR}/v1/job/{job['id']}/balance")
    assert moved["sdcIds"] != before
    checked.post(f"{JR}/v1/jobs/balanceJobs", [job["id"]])
    checked.post(f"{JR}/v1/jobs/balanceSDCs", before)
    checked.get(f"{JR}/v1/job/{moved['id']}/jobStatusHistory")
    for engine in checked.get(f"{JR}/v1/sdcs"):
        checked.get(f"{JR}/v1/sdc/{engine['id']}/pipelines")


@needs_swagger
def test_archives_and_what_is_imported_from_them_are_valid(client):
    checked = Checked(client)
    archive = client.post(f"{JR}/v1/jobs/exportAllJobs").content
    flags = dict.fromkeys(("updateNumInstances", "updateRuntimeParameters", "updateLabels"), "True")
    for job_id in (job["id"] for job in checked.get(f"{JR}/v1/jobs", jobStatus="ACTIVE")):
        checked.post(f"{JR}/v1/job/{job_id}/forceStop")
    client.app.state.hub.world.clock.advance(60)
    waiting = [job["id"] for job in checked.get(f"{JR}/v1/jobs", jobStatus="INACTIVE_ERROR")]
    checked.post(f"{JR}/v1/jobs/acknowledgeErrors", waiting)
    entries = checked.post_file(f"{JR}/v1/jobs/importJobs", archive, **flags)
    assert checked.post(f"{JR}/v1/jobs/importJobsFromJson", entries, forceImport="False")
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        held = [json.loads(file.read(name)) for name in file.namelist()]
    assert len(held) == len(entries)
    validator = jsonschema.Draft4Validator(
        {**array(ref("JobEnvelopeWithConnectionsMetadataJson")), "definitions": definitions_of(JR)["definitions"]}
    )
    validator.validate(held)


@needs_payloads
def test_the_example_of_an_import_is_one_that_can_be_imported(client, clock):
    entries = payload("import-response")
    body = client.post(f"{JR}/v1/jobs/importJobsFromJson", json=entries).json()
    imported, example = body[0]["minimalJobJson"], entries[0]["minimalJobJson"]
    own = {"organization", "creator", "createTime", "lastModifiedBy", "lastModifiedOn"}
    assert {field: imported[field] for field in example.keys() - own} == {
        field: example[field] for field in example.keys() - own
    }
    assert client.post(f"{JR}/v1/job/{imported['id']}/start").status_code == 200


@needs_swagger
def test_no_path_is_served_that_is_not_published(client):
    served = 0
    for route in client.app.state.api_routes:
        for prefix in FILES:
            if isinstance(route, APIRoute) and route.path.startswith(f"{prefix}/v"):
                path = route.path.removeprefix(prefix).replace("{job_id}", "{jobId}")
                if path in UNPUBLISHED_PATHS:
                    continue
                for method in route.methods:
                    published_path(definitions_of(prefix), method.lower(), path)
                    served += 1
    assert served > 60


@needs_swagger
def test_the_field_lists_are_those_of_the_published_definitions(client):
    own = client.get("/jobrunner/rest/openapi.json").json()["components"]["schemas"]
    for name in ("JobJson", "NewJobJson", "DuplicateJobJson", "JobTemplateCreationInfoJson", "PermissionJson",
                 "JobStatusJson", "SDCJson"):  # fmt: skip
        published = definitions_of(JR)["definitions"][name]["properties"]
        assert set(own[name]["properties"]) == set(published), name


def fields(value: Any, path: str = "") -> set[str]:
    """Return the paths of all fields; items of lists and values of maps with ids as keys count as one."""
    found: set[str] = set()
    if isinstance(value, dict):
        for key, inner in value.items():
            name = "*" if ":" in key or key.isdigit() or re.match(r"(stage|pipeline)\.", key) else key
            found |= {f"{path}.{name}"} | fields(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for inner in value:
            found |= fields(inner, f"{path}[]")
    return found


def payload(name: str) -> Any:
    return json.loads((PAYLOADS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture
def bodies(client, clock):
    """Answers for each of the example payloads, made by the same situations."""
    ids = {job["name"]: job["id"] for job in client.get(f"{JR}/v1/jobs").json()}

    def get(path: str, **query: Any) -> Any:
        return client.get(path, params=query).json()

    def job(name: str) -> Any:
        return get(f"{JR}/v1/job/{ids[name]}")

    orders = ids["Orders to warehouse"]
    found: dict[str, Any] = {
        "job-never-run": job("Inventory snapshot"),
        "job-inactive-success": job("Orders to warehouse"),
        "job-inactive-error": job("Ledger export"),
        "record-counts-three-runs": get(f"/timeseries/rest/v1/metrics/job/{orders}/recordCountsForAllRuns"),
        "latest-metrics": get(f"/timeseries/rest/v1/metrics/job/{orders}/latestMetrics"),
        "committed-offsets": get(f"{JR}/v1/job/{orders}/committedOffsets"),
        "job-history-two-runs": get(f"{JR}/v1/job/{orders}/history"),
        "jobs-page": get(f"{JR}/v1/jobs", withWrapper=True),
        "job-count-by-status": get(f"{JR}/v1/metrics/jobCountByStatus"),
        "engine": get(f"{JR}/v1/sdcs")[0],
        "current-user": get(f"{SEC}/v1/currentUser"),
        "job-log-messages": get(f"{JR}/v1/job/logMessages", jobId=orders),
        "error-envelope": client.post(f"{JR}/v1/jobs/startJobs", json=["none:none"]).json(),
    }
    pipeline = job("Inventory snapshot")
    found["pipeline"] = get(f"{PS}/v1/pipelineCommit/{pipeline['pipelineCommitId']}")
    found["pipeline-commits"] = get(f"{PS}/v1/pipeline/{pipeline['pipelineId']}/log")
    found["run-events"] = get(f"{JR}/v1/job/{found['job-inactive-success']['currentJobStatus']['id']}/jobStatusHistory")
    found["error-unauthorized"] = TestClient(client.app).get(f"{JR}/v1/jobs").json()
    organization = found["engine"]["organization"]
    found["login-service-org-info"] = get(f"/login/api/security/public/v3/orgs/{organization}/info")
    archive = client.post(f"{JR}/v1/jobs/exportJobs", json=[ids["Inventory snapshot"]]).content
    found["import-response"] = client.post(f"{JR}/v1/jobs/importJobs", files={"file": archive}).json()
    body = {"runtimeParametersList": [{"REGION": "x"}]}
    for name, call in (
        ("template-start-response", "createAndStartJobInstances"),
        ("template-start-async-response", "createAndStartJobInstancesAsync"),
    ):
        found[name] = client.post(f"{JR}/v1/job/{ids['Regional orders']}/{call}", json=body).json()
    for name in ("Clickstream to lake", "Legacy feed", "Invoices import"):
        assert client.post(f"{JR}/v1/job/{ids[name]}/start").status_code == 200
    clock.advance(10)
    found["job-active-green"] = job("Clickstream to lake")
    found["job-active-red"] = job("Legacy feed")
    found["job-inactive-red"] = job("Invoices import")
    found["jobs-status-bulk"] = client.post(f"{JR}/v1/jobs/status", json=list(ids.values())).json()
    running = found["job-active-green"]["currentJobStatus"]["pipelineStatus"][0]
    instance = get(f"/tunneling/rest/connection/{running['sdcId']}")["instanceId"]
    found["realtime-metrics"] = get(
        f"/tunneling/rest/{running['sdcId']}/rest/v1/pipeline/{running['name']}/metrics",
        TUNNELING_INSTANCE_ID=instance,
    )
    return found


# Lists that are empty in an example and not in ours, or the other way round, say nothing about the fields.
OPTIONAL = re.compile(r"(errorInfos|ackTrackers|pipelineOffsets|pipelineStatus|pipelineLabels|jobTags)\[\]")


@needs_payloads
def test_the_fields_of_our_answers_are_those_of_the_example_payloads(bodies):
    examples = {path.stem for path in PAYLOADS.glob("*.json")}
    assert set(bodies) == examples
    for name in sorted(examples):
        differing = fields(bodies[name]) ^ fields(payload(name))
        assert not {field for field in differing if not OPTIONAL.search(field)}, name


@needs_payloads
def test_the_states_of_our_jobs_are_those_of_the_example_payloads(bodies):
    for name in (
        "job-active-green",
        "job-active-red",
        "job-inactive-success",
        "job-inactive-red",
        "job-inactive-error",
    ):
        own, example = bodies[name]["currentJobStatus"], payload(name)["currentJobStatus"]
        for field in ("status", "color"):
            assert own[field] == example[field], name
        for field in ("errorMessage", "finishTime", "warnings", "pipelineStatus", "ackTrackers"):
            assert bool(own[field]) == bool(example[field]), (name, field)
        assert [text[:13] for text in own["warnings"]] == [text[:13] for text in example["warnings"]]
    events = bodies["run-events"]
    assert events != sorted(events, key=lambda event: event["time"])
