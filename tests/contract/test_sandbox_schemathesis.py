"""Generated valid and invalid requests, checked against the OpenAPI document of the sandbox."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("schemathesis", reason="schemathesis is a tool of the main environment")

import schemathesis
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, settings
from schemathesis.checks import CheckContext, not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.python import asgi
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from airflow_provider_streamsets.sandbox.faults.rules import FaultRules
from airflow_provider_streamsets.sandbox.openapi import MAY_BE_EMPTY
from airflow_provider_streamsets.sandbox.serializers.runs import engine_pipeline_id
from tests.unit.fakes.sandbox_app import JR, OFFSET, Hub

EXAMPLES = 8
PAGES = {"/", "/sch/jobs/detail/{job_id}", "/sch/jobs/detail/{job_id}/{action}"}

# Unknown jobs return errors, so that invalid requests can be distinguished from valid ones.
HUB = Hub(unknown_job="404")
SAVED_FILTERS = [
    HUB.http.post(path, json={"name": "Orders", "type": kind, "mode": "ADVANCED", "query": "name==*o*"}).json()["id"]
    for path, kind in (
        (f"{JR}/saql/jobs/savedFilters", "JOB_INSTANCE"),
        ("/pipelinestore/rest/v1/saql/pipelines/savedFilters", "PIPELINE"),
    )
]
WEBHOOK = json.dumps({"uri": "http://127.0.0.1:9/events", "method": "POST"})
SUBSCRIPTION = HUB.http.put(
    "/notification/rest/v1/eventsub/createEventSub",
    json={
        "name": "Airflow",
        "events": [{"eventType": "JOB_STATUS_CHANGE"}],
        "externalActions": [{"eventType": "WEBHOOKV1", "config": WEBHOOK}],
    },
).json()["id"]
INITIAL_BACKEND = copy.deepcopy(HUB.backend)
DOCUMENT: dict[str, Any] = HUB.get("/sandbox/openapi.json")


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def test_document_is_valid():
    schemathesis.openapi.from_dict(copy.deepcopy(DOCUMENT)).validate()


def test_document_lists_exactly_the_routes():
    served = {
        (method, route.path)
        for route in HUB.app.state.api_routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    assert {(method, path) for method, path, _ in operations(DOCUMENT)} == {
        (method, path) for method, path in served if path not in PAGES
    }


def test_document_marks_routes_that_need_credential():
    anonymous = TestClient(HUB.app)
    for method, path, operation in operations(DOCUMENT):
        is_rejected = anonymous.request(method, path).status_code == 401
        assert is_rejected is bool(operation["security"]), path
        assert is_rejected is ("401" in operation["responses"]), path


def test_operations_have_summary_and_response_schema():
    for _, path, operation in operations(DOCUMENT):
        responses = operation["responses"]
        contents = responses.get("200", responses.get("403")).get("content", {})
        assert all(content["schema"] for content in contents.values()), path
        assert operation["summary"], path


def test_document_marks_empty_responses_for_unknown_job():
    hub = Hub()
    empty = set()
    for method, path, operation in operations(DOCUMENT):
        if any(parameter.get("name") in ("job_id", "template_id") for parameter in operation.get("parameters", ())):
            unknown_path = path.replace("{job_id}", "no:no").replace("{template_id}", "no:no")
            response = hub.http.request(method, unknown_path, json={"runtimeParametersList": [{}]})
            if response.status_code == 200 and not response.content:
                empty.add((method, path))
                assert operation["responses"]["200"][MAY_BE_EMPTY], path
    assert len(empty) > 30


def known_or_not(*values: str) -> dict[str, Any]:
    return {"anyOf": [{"enum": sorted(values)}, {"type": "string"}]}


def with_known_values(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with existing ids among the values; otherwise nearly every response would be 404."""
    backend = HUB.backend
    orders = backend.job(HUB.id("Orders to warehouse"))
    stream = backend.job(HUB.id("Web logs to lake"))
    (engine_id,) = stream.latest.engine_ids_at(HUB.backend.clock.now())
    instance = HUB.get(f"/tunneling/rest/connection/{engine_id}")["instanceId"]
    idle = [HUB.id(name) for name in ("Quick check", "Orders to warehouse", "Inventory snapshot")]
    template = HUB.id("Regional orders")
    definition = HUB.get(f"/pipelinestore/rest/v1/pipeline/{orders.seed.pipeline.id}/latest")["pipelineDefinition"]
    schemas = {
        "JobId": known_or_not(*idle, template, stream.id, HUB.id("Ledger export")),
        "TemplateId": known_or_not(template),
        "OrganizationId": known_or_not(backend.organization),
        "RunId": known_or_not(*(run.id for run in (*orders.runs, *stream.runs))),
        "EngineId": known_or_not(engine_id),
        "InstanceId": known_or_not(instance),
        "PipelineId": known_or_not(orders.seed.pipeline.id),
        "EnginePipelineId": known_or_not(engine_pipeline_id(stream)),
        "CommitId": known_or_not(orders.seed.version.commit_id),
        "SavedFilterId": known_or_not(*SAVED_FILTERS),
        "SubscriptionId": known_or_not(SUBSCRIPTION),
        "WebhookConfig": {"enum": [WEBHOOK]},
        "VersionLabel": {"enum": [f"v{orders.seed.version.version}"]},
        "RulesId": {"enum": [orders.seed.pipeline.rules_id]},
        "PipelineDefinition": {"enum": [definition]},
        "JsonObject": {"enum": ["", "{}", '{"RECORDS": "100", "RATE": 1e9}', '{"BATCH_SIZE": null}']},
    }
    document["components"]["schemas"] |= schemas
    searches = {
        "search": known_or_not("name==*o*", "status==ACTIVE or run_count>1", "id!=x and (version>=1)"),
        "timeFilterCondition": known_or_not("LAST_5M", "LAST_7D", "CUSTOM_TIME_RANGE"),
    }
    for _, _, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            if parameter.get("name") in searches:
                parameter["schema"] = searches[parameter["name"]]
    return document


SCHEMA = schemathesis.openapi.from_dict(with_known_values(copy.deepcopy(DOCUMENT)))
SCHEMA.app = HUB.app
# Wrong methods have a separate test below.
SCHEMA.config.phases.coverage.unexpected_methods = set()
CLIENT = asgi.get_client(HUB.app)
CLIENT.trust_env = False
CREDENTIAL = {name: value for name, value in HUB.headers.items() if name != "X-Requested-By"}
ARCHIVE = HUB.http.post(f"{JR}/jobs/exportJobs", json=[HUB.id("Quick check"), HUB.id("Regional orders")]).content
FILES = {
    f"{JR}/jobs/importJobs": ARCHIVE,
    f"{JR}/job/{{job_id}}/uploadOffset": json.dumps({"version": 2, "offsets": {OFFSET: "1"}}).encode(),
}


def rejects_invalid_request(ctx: CheckContext, response: Response, case: schemathesis.Case) -> bool | None:
    """Check that an invalid request is rejected, unless the test has replaced its file with a valid one."""
    if case.body in [{"file": content} for content in FILES.values()]:
        return None
    return negative_data_rejection(ctx, response, case)


def unless_empty(check: Any) -> Any:
    """Return a check that accepts an empty response if the document allows it."""

    def checked(ctx: CheckContext, response: Response, case: schemathesis.Case) -> bool | None:
        documented = case.operation.responses.find_by_status_code(response.status_code)
        if not response.content and documented is not None and documented.definition.get(MAY_BE_EMPTY):
            return None
        return check(ctx, response, case)

    return checked


def no_undocumented_server_error(ctx: CheckContext, response: Response, case: schemathesis.Case) -> bool | None:
    # The tunnel to a disconnected engine returns 500, as documented.
    if str(response.status_code) in case.operation.responses.status_codes:
        return None
    return not_a_server_error(ctx, response, case)


CHECKS = [
    no_undocumented_server_error,
    status_code_conformance,
    unless_empty(content_type_conformance),
    unless_empty(response_schema_conformance),
    response_headers_conformance,
    rejects_invalid_request,
]


@pytest.fixture
def statuses() -> Iterator[list[int]]:
    """The HTTP statuses of an operation, one of which must be a success, or a refusal for the lack of a role."""
    HUB.backend = HUB.app.state.context.backend = copy.deepcopy(INITIAL_BACKEND)
    HUB.app.state.context.requests.clear()
    HUB.app.state.context.faults = FaultRules()
    seen: list[int] = []
    yield seen
    assert any(status < 300 or status == 403 for status in seen), sorted(set(seen))


@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_operation_conforms_to_document(case, statuses):
    content = FILES.get(case.operation.path)
    if content is not None and len(statuses) % 2:
        case.body = {"file": content}
    # Runs started by one request progress before the next one.
    HUB.backend.clock.advance(1.5)
    response = case.call(headers=CREDENTIAL, session=CLIENT)
    statuses.append(response.status_code)
    case.validate_response(response, checks=CHECKS)


def test_wrong_method_returns_404():
    for method, path, _ in operations(DOCUMENT):
        known = {other.upper() for other in DOCUMENT["paths"][path]}
        wrong = next(other for other in ("PATCH", "TRACE") if other not in known)
        response = HUB.http.request(wrong, path)
        assert (response.status_code, response.json()["ISSUES"][0]["code"]) == (404, "SANDBOX_404"), (method, path)


def test_unexpected_error_returns_500_without_details(monkeypatch, statuses):
    http = TestClient(HUB.app, headers=HUB.headers, raise_server_exceptions=False)
    path = f"{JR}/job/{HUB.id('Quick check')}/start"
    with monkeypatch.context() as patch:
        patch.setattr(type(HUB.backend), "start", lambda *_: 1 / 0)
        response = http.post(path)
    message = f"Internal error of the sandbox in POST {path}"
    assert (response.status_code, response.headers["Connection"]) == (500, "close")
    assert response.json() == {"ISSUES": [{"code": "SANDBOX_500", "message": message}]}
    statuses.append(http.post(path).status_code)
