"""Responses of the sandbox compared with the published API definitions and the example payloads."""

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


# Response types of the contract where the published ones are wrong or missing.
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
    ("get", "/v1/metrics/executors"): wrapper(ref("SDCJson")),
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

# Fields of real bodies that the definitions lack.
UNPUBLISHED_FIELDS = {"JobJson": {"jobSequence": {"type": "boolean"}}}

# Calls of clients that the definitions lack.
UNPUBLISHED_PATHS = {
    "/v1/{jobId}/validateAccess",
    *(f"/v1/saql/{kind}/savedFilters{path}" for kind in ("jobs", "pipelines") for path in ("", "/fav", "/{filter_id}")),
}


@cache
def definitions_of(prefix: str) -> dict[str, Any]:
    """Return a strict Swagger document, in which other fields are forbidden and any field may be null."""
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


class ValidatingClient:
    """A client that validates every response."""

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
    # The most specific one, as in a router; run ids and job ids have the same format.
    return min(candidates, key=lambda template: template.count("{"))


@pytest.fixture
def clock():
    return Clock(frozen_at=T0)


@pytest.fixture
def client(clock):
    app = create_app(clock=clock)
    credential = app.state.context.credential
    headers = {
        "X-SS-App-Component-Id": credential.id,
        "X-SS-App-Auth-Token": credential.token,
        "X-Requested-By": "tests",
    }
    # As a context manager, the client keeps one event loop for all calls.
    with TestClient(app, headers=headers) as client:
        yield client


JR, PS, SEC = FILES


@needs_swagger
def test_responses_are_valid_during_all_kinds_of_runs(client, clock):
    validated = ValidatingClient(client)
    jobs = validated.get(f"{JR}/v1/jobs")
    by_name = {job["name"]: job for job in jobs}
    ids = [job["id"] for job in jobs]
    startable = [
        job["id"]
        for job in jobs
        if not job["jobTemplate"] and (job["currentJobStatus"] or {}).get("status") not in ("ACTIVE", "INACTIVE_ERROR")
    ]
    stream = by_name["Clickstream to lake"]["id"]
    for job_id in startable:
        validated.post(f"{JR}/v1/job/{job_id}/start", {"RECORDS": "5000"})
    for seconds in (0, 0.5, 0.6, 3, 10, 60):
        clock.advance(seconds)
        validated.post(f"{JR}/v1/jobs", ids)
        validated.post(f"{JR}/v1/jobs/status", ids)
        validated.get(f"{JR}/v1/jobs/status")
        validated.get(f"{JR}/v1/sdcs")
        for job_id in startable:
            job = validated.get(f"{JR}/v1/job/{job_id}")
            status = validated.get(f"{JR}/v1/job/{job_id}/currentStatus")
            assert status == job["currentJobStatus"]
            validated.get(f"{JR}/v1/job/{job_id}/history")
            validated.get(f"{JR}/v1/job/{job_id}/committedOffsets")
            validated.get(f"{JR}/v1/job/{job_id}/latestCommittedOffsets")
            validated.get(f"{JR}/v1/job/{status['id']}/jobStatusHistory")
            validated.get(f"{JR}/v1/saql/jobs/search/{job_id}/runs", len=-1)
            validated.get(f"{JR}/v1/job/logMessages", jobId=job_id)
        if seconds == 10:
            for action in ("sync", "balance", "resetErrorInfo", "stop"):
                validated.post(f"{JR}/v1/job/{stream}/{action}")
            validated.post(f"{JR}/v1/job/{by_name['Stubborn stream']['id']}/forceStop")
    payments = by_name["Payments reconciliation"]["id"]
    assert validated.get(f"{JR}/v1/job/{payments}/currentStatus")["status"] == "INACTIVE_ERROR"
    assert validated.post(f"{JR}/v1/job/{payments}/acknowledgeError")["status"] == "INACTIVE"
    validated.get(f"{JR}/v1/metrics/job/{stream}")
    document = {"version": 2, "offsets": {"a": None, "b": "1"}}
    validated.post(f"{JR}/v1/job/{stream}/uploadOffsetAsJson", document)


@needs_swagger
def test_lists_are_valid(client):
    validated = ValidatingClient(client)
    for wrapped in ("True", "False"):
        validated.get(f"{JR}/v1/jobs", withWrapper=wrapped, len=3)
        validated.get(f"{JR}/v1/jobs/byStatus", withWrapper=wrapped)
        validated.get(f"{JR}/v1/sdcs", withWrapper=wrapped, executorType="COLLECTOR")
    job = validated.get(f"{JR}/v1/jobs", jobSearchText="Orders to warehouse", jobSearchOperation="EQUALS")[0]
    engines = [engine["id"] for engine in validated.get(f"{JR}/v1/sdcs")]
    for path in ("jobs/count", "jobs/tags", "jobs/labels", "metrics/jobCountByStatus", "metrics/problematicJobs",
                 "metrics/executors", "saql/jobs/search", "saql/jobs/search/templates", "sdcs/labels", "sdcs/versions",
                 "sdcs/count", f"job/{job['id']}/labels", f"job/{job['id']}/acl"):  # fmt: skip
        validated.get(f"{JR}/v1/{path}", len=-1)
    validated.get(f"{JR}/v1/jobs/forPipelineCommit", pipelineCommitId=job["pipelineCommitId"])
    validated.post(f"{JR}/v1/job/jobTagsBulk", [job["id"]])
    validated.post(f"{JR}/v1/sdcs", engines)
    for path in ("", "/labels", "/reportedLabels", "/pipelines"):
        validated.get(f"{JR}/v1/sdc/{engines[0]}{path}")
    for path in ("pipelines", "pipelines/count", "saql/pipelines/search", f"pipelineCommit/{job['pipelineCommitId']}"):
        validated.get(f"{PS}/v1/{path}", len=-1)
    for path in ("latest", "log", "tags"):
        validated.get(f"{PS}/v1/pipeline/{job['pipelineId']}/{path}")
    validated.post(f"{PS}/v1/pipelines/latestCommit", [job["pipelineId"]])
    for path in ("currentUser", "roles", "projects", "currentUser/availableAddOns"):
        validated.get(f"{SEC}/v1/{path}")


@needs_swagger
def test_successor_of_upgraded_run_is_valid(client, clock):
    validated = ValidatingClient(client)
    client.post("/sandbox/v1/variants", json={"upgrade_active": "successor", "forced_stop_end": "inactive_error"})
    logs = validated.get(f"{JR}/v1/jobs", jobSearchText="Web logs to lake")[0]
    first = validated.get(f"{PS}/v1/pipeline/{logs['pipelineId']}/log")[0]
    job = validated.put(f"{JR}/v1/jobs", {"name": "Old logs", "pipelineCommitId": first["commitId"]})
    validated.post(f"{JR}/v1/job/{job['id']}/start")
    clock.advance(5)
    (upgraded,) = validated.post(f"{JR}/v1/job/{job['id']}/upgrade")
    successor, old = validated.get(f"{JR}/v1/job/{job['id']}/history")
    assert upgraded["currentJobStatus"] == successor
    assert successor["upgradeStatus"]["previousJobStatusId"] == old["id"]
    validated.get(f"{JR}/v1/job/{old['id']}/jobStatusHistory")
    clock.advance(5)
    validated.post(f"{JR}/v1/job/{job['id']}/forceStop")
    clock.advance(0.3)
    assert validated.get(f"{JR}/v1/job/{job['id']}/currentStatus")["status"] == "INACTIVE_ERROR"


@needs_swagger
def test_responses_to_job_changes_are_valid(client, clock):
    validated = ValidatingClient(client)
    client.post("/sandbox/v1/variants", json={"bulk_body": "list", "duplicate_body": "list"})
    orders = validated.get(f"{JR}/v1/jobs", jobSearchText="Orders to warehouse")[0]
    first = validated.get(f"{PS}/v1/pipeline/{orders['pipelineId']}/log")[0]
    new = {"name": "New", "pipelineCommitId": first["commitId"], "pipelineCommitLabel": "v1", "rawJobTags": ["a/b"]}
    job = validated.put(f"{JR}/v1/jobs", new)
    many = validated.put(f"{JR}/v1/jobs/createJobs", [new, new])
    validated.post(f"{JR}/v1/job/{job['id']}", {**job, "description": "changed"})
    assert len(validated.post(f"{JR}/v1/jobs/updateJobs", many)) == 2
    validated.post(f"{JR}/v1/job/{job['id']}/upgrade")
    validated.post(f"{JR}/v1/jobs/upgradeJobs", [entry["id"] for entry in many])
    copies = validated.post(f"{JR}/v1/job/{job['id']}/duplicate", {"namePrefix": "Copy", "numberOfCopies": 3})
    validated.post(f"{JR}/v1/job/{job['id']}/acl", validated.get(f"{JR}/v1/job/{job['id']}/acl"))
    assert validated.delete(f"{JR}/v2/job/{job['id']}")["jobDeleted"]
    validated.delete(f"{JR}/v1/job/{copies[0]['id']}")
    assert len(validated.post(f"{JR}/v1/jobs/deleteJobs", [entry["id"] for entry in copies[1:]])) == 2
    assert len(validated.get(f"{JR}/v1/jobs", removed="True")) == 4


@needs_swagger
def test_responses_to_template_starts_are_valid(client, clock):
    validated = ValidatingClient(client)
    client.post("/sandbox/v1/variants", json={"bulk_body": "list"})
    (template,) = validated.get(f"{JR}/v1/jobs", jobTemplate="True", jobSearchText="Regional orders")
    body = {"runtimeParametersList": [{"REGION": "x"}, {"REGION": "y"}]}
    path = f"{JR}/v1/job/{template['id']}"
    assert len(validated.post(f"{path}/createAndStartJobInstances", body)) == 2
    deferred = validated.post(f"{path}/createAndStartJobInstancesAsync", body)
    clock.advance(60)
    validated.post(f"{JR}/v1/jobs", [job["id"] for job in deferred])
    assert validated.get(f"{path}/runHistory")["totalCount"] == 2
    validated.post(f"{JR}/v1/jobs/archiveJobTemplates", [template["id"]])
    assert validated.post(f"{JR}/v1/jobs/deleteJobTemplates", [template["id"]])


@needs_swagger
def test_metrics_are_valid(client, clock):
    validated = ValidatingClient(client)
    ids = {job["name"]: job["id"] for job in validated.get(f"{JR}/v1/jobs")}
    for name in ("Orders to warehouse", "Truck positions north"):
        for run_count in ("", 0, 1):
            validated.get(f"{JR}/v1/metrics/job/{ids[name]}", runCount=run_count)


@needs_swagger
def test_responses_to_balancing_are_valid(client, clock):
    validated = ValidatingClient(client)
    job = next(job for job in validated.get(f"{JR}/v1/jobs") if job["name"] == "Truck positions north")
    before = job["currentJobStatus"]["sdcIds"]
    moved = validated.post(f"{JR}/v1/job/{job['id']}/balance")
    assert moved["sdcIds"] != before
    validated.post(f"{JR}/v1/jobs/balanceJobs", [job["id"]])
    validated.post(f"{JR}/v1/jobs/balanceSDCs", before)
    validated.get(f"{JR}/v1/job/{moved['id']}/jobStatusHistory")
    for engine in validated.get(f"{JR}/v1/sdcs"):
        validated.get(f"{JR}/v1/sdc/{engine['id']}/pipelines")


@needs_swagger
def test_archives_and_import_responses_are_valid(client):
    validated = ValidatingClient(client)
    archive = client.post(f"{JR}/v1/jobs/exportAllJobs").content
    flags = dict.fromkeys(("updateNumInstances", "updateRuntimeParameters", "updateLabels"), "True")
    for job_id in (job["id"] for job in validated.get(f"{JR}/v1/jobs", jobStatus="ACTIVE")):
        validated.post(f"{JR}/v1/job/{job_id}/forceStop")
    client.app.state.context.backend.clock.advance(60)
    unacknowledged = [job["id"] for job in validated.get(f"{JR}/v1/jobs", jobStatus="INACTIVE_ERROR")]
    validated.post(f"{JR}/v1/jobs/acknowledgeErrors", unacknowledged)
    entries = validated.post_file(f"{JR}/v1/jobs/importJobs", archive, **flags)
    assert validated.post(f"{JR}/v1/jobs/importJobsFromJson", entries, forceImport="False")
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        archived = [json.loads(file.read(name)) for name in file.namelist()]
    assert len(archived) == len(entries)
    validator = jsonschema.Draft4Validator(
        {**array(ref("JobEnvelopeWithConnectionsMetadataJson")), "definitions": definitions_of(JR)["definitions"]}
    )
    validator.validate(archived)


@needs_payloads
def test_example_payload_can_be_imported(client, clock):
    entries = payload("import-response")
    body = client.post(f"{JR}/v1/jobs/importJobsFromJson", json=entries).json()
    imported, example = body[0]["minimalJobJson"], entries[0]["minimalJobJson"]
    ignored = {"organization", "creator", "createTime", "lastModifiedBy", "lastModifiedOn"}
    assert {field: imported[field] for field in example.keys() - ignored} == {
        field: example[field] for field in example.keys() - ignored
    }
    assert client.post(f"{JR}/v1/job/{imported['id']}/start").status_code == 200


@needs_swagger
def test_all_routes_are_published(client):
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
def test_field_lists_match_published_definitions(client):
    schemas = client.get("/jobrunner/rest/openapi.json").json()["components"]["schemas"]
    for name in ("JobJson", "NewJobJson", "DuplicateJobJson", "JobTemplateCreationInfoJson", "PermissionJson",
                 "JobStatusJson", "SDCJson"):  # fmt: skip
        published = definitions_of(JR)["definitions"][name]["properties"]
        assert set(schemas[name]["properties"]) == set(published), name


def fields(value: Any, path: str = "") -> set[str]:
    """Return the paths of all fields; list items and values of maps keyed by id share a path."""
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
    """Responses that correspond to the example payloads."""
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


# Lists that may be empty on one side only.
OPTIONAL = re.compile(r"(errorInfos|ackTrackers|pipelineOffsets|pipelineStatus|pipelineLabels|jobTags)\[\]")


@needs_payloads
def test_response_fields_match_example_payloads(bodies):
    examples = {path.stem for path in PAYLOADS.glob("*.json")}
    assert set(bodies) == examples
    for name in sorted(examples):
        differing = fields(bodies[name]) ^ fields(payload(name))
        assert not {field for field in differing if not OPTIONAL.search(field)}, name


@needs_payloads
def test_job_states_match_example_payloads(bodies):
    for name in (
        "job-active-green",
        "job-active-red",
        "job-inactive-success",
        "job-inactive-red",
        "job-inactive-error",
    ):
        status, example = bodies[name]["currentJobStatus"], payload(name)["currentJobStatus"]
        for field in ("status", "color"):
            assert status[field] == example[field], name
        for field in ("errorMessage", "finishTime", "warnings", "pipelineStatus", "ackTrackers"):
            assert bool(status[field]) == bool(example[field]), (name, field)
        assert [text[:13] for text in status["warnings"]] == [text[:13] for text in example["warnings"]]
    events = bodies["run-events"]
    assert events != sorted(events, key=lambda event: event["time"])
