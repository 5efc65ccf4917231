"""The sandbox, held against its own OpenAPI document with generated requests, good and bad."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
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

from airflow_provider_streamsets.sandbox.faults.rules import Faults
from airflow_provider_streamsets.sandbox.openapi.spec import MAY_BE_EMPTY
from airflow_provider_streamsets.sandbox.serializers.statuses import engine_pipeline_id
from tests.unit.sandbox_hub import JR, OFFSET, Hub

EXAMPLES = 8
PAGES = {"/", "/sch/jobs/detail/{job_id}"}

# An unknown job has a refusal, so that wrong requests about it can be told from right ones.
HUB = Hub(unknown_job="404")
BORN = copy.deepcopy(HUB.world)
DOCUMENT: dict[str, Any] = HUB.get("/sandbox/openapi.json")


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


# -- the document


def test_the_document_is_a_valid_openapi_document():
    schemathesis.openapi.from_dict(copy.deepcopy(DOCUMENT)).validate()


def test_the_document_lists_all_that_is_served_and_nothing_else():
    served = {
        (method, route.path)
        for route in HUB.app.state.api_routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    assert {(method, path) for method, path, _ in operations(DOCUMENT)} == {
        (method, path) for method, path in served if path not in PAGES
    }


def test_the_document_says_which_calls_need_a_credential():
    anyone = TestClient(HUB.app)
    for method, path, operation in operations(DOCUMENT):
        refused = anyone.request(method, path).status_code == 401
        assert refused is bool(operation["security"]), path
        assert refused is ("401" in operation["responses"]), path


def test_every_call_is_described_with_what_it_answers():
    for _, path, operation in operations(DOCUMENT):
        contents = operation["responses"]["200"].get("content", {})
        assert all(content["schema"] for content in contents.values()), path
        assert operation["summary"], path


def test_the_document_says_which_answers_are_empty_for_an_unknown_job():
    hub = Hub()
    empty = set()
    for method, path, operation in operations(DOCUMENT):
        if any(parameter.get("name") in ("job_id", "template_id") for parameter in operation.get("parameters", ())):
            asked = path.replace("{job_id}", "no:no").replace("{template_id}", "no:no")
            response = hub.http.request(method, asked, json={"runtimeParametersList": [{}]})
            if response.status_code == 200 and not response.content:
                empty.add((method, path))
                assert operation["responses"]["200"][MAY_BE_EMPTY], path
    assert len(empty) > 30


# -- generated requests


def known_or_not(*values: str) -> dict[str, Any]:
    return {"anyOf": [{"enum": sorted(values)}, {"type": "string"}]}


def with_known_values(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with the ids of what there is among the texts: else nearly every answer would be a 404."""
    world = HUB.world
    orders = world.job(HUB.id("Orders to warehouse"))
    stream = world.job(HUB.id("Web logs to lake"))
    (engine_id,) = stream.latest.engine_ids_at(HUB.world.clock.now())
    instance = HUB.get(f"/tunneling/rest/connection/{engine_id}")["instanceId"]
    idle = [HUB.id(name) for name in ("Quick check", "Orders to warehouse", "Inventory snapshot")]
    template = HUB.id("Regional orders")
    definition = HUB.get(f"/pipelinestore/rest/v1/pipeline/{orders.seed.pipeline.id}/latest")["pipelineDefinition"]
    texts = {
        "JobId": known_or_not(*idle, template, stream.id, HUB.id("Ledger export")),
        "TemplateId": known_or_not(template),
        "OrganizationId": known_or_not(world.organization),
        "RunId": known_or_not(*(run.id for run in (*orders.runs, *stream.runs))),
        "EngineId": known_or_not(engine_id),
        "InstanceId": known_or_not(instance),
        "PipelineId": known_or_not(orders.seed.pipeline.id),
        "EnginePipelineId": known_or_not(engine_pipeline_id(stream)),
        "CommitId": known_or_not(orders.seed.version.commit_id),
        "VersionLabel": {"enum": [f"v{orders.seed.version.version}"]},
        "RulesId": {"enum": [orders.seed.pipeline.rules_id]},
        "PipelineDefinition": {"enum": [definition]},
        "JsonObject": {"enum": ["", "{}", '{"RECORDS": "100", "RATE": 1e9}', '{"BATCH_SIZE": null}']},
    }
    document["components"]["schemas"] |= texts
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
# What any path answers to any wrong method has one test of its own below.
SCHEMA.config.phases.coverage.unexpected_methods = set()
CLIENT = asgi.get_client(HUB.app)
CLIENT.trust_env = False
CREDENTIAL = {name: value for name, value in HUB.headers.items() if name != "X-Requested-By"}
ARCHIVE = HUB.http.post(f"{JR}/jobs/exportJobs", json=[HUB.id("Quick check"), HUB.id("Regional orders")]).content
FILES = {
    f"{JR}/jobs/importJobs": ARCHIVE,
    f"{JR}/job/{{job_id}}/uploadOffset": json.dumps({"version": 2, "offsets": {OFFSET: "1"}}).encode(),
}


def unless_given_a_file(ctx: CheckContext, response: Response, case: schemathesis.Case) -> bool | None:
    """Check that a wrong request is refused, unless the test has put a right file in the place of a wrong one."""
    if case.body in [{"file": content} for content in FILES.values()]:
        return None
    return negative_data_rejection(ctx, response, case)


def where_there_is_an_object(check: Any) -> Any:
    """Return a check that lets an answer without a body pass where the document says that it may have none."""

    def checked(ctx: CheckContext, response: Response, case: schemathesis.Case) -> bool | None:
        described = case.operation.responses.find_by_status_code(response.status_code)
        if not response.content and described is not None and described.definition.get(MAY_BE_EMPTY):
            return None
        return check(ctx, response, case)

    return checked


def no_undescribed_server_error(ctx: CheckContext, response: Response, case: schemathesis.Case) -> bool | None:
    # The tunnel to an engine that is not connected answers 500, as the document says.
    if str(response.status_code) in case.operation.responses.status_codes:
        return None
    return not_a_server_error(ctx, response, case)


CHECKS = [
    no_undescribed_server_error,
    status_code_conformance,
    where_there_is_an_object(content_type_conformance),
    where_there_is_an_object(response_schema_conformance),
    response_headers_conformance,
    unless_given_a_file,
]


@pytest.fixture
def statuses() -> Iterator[list[int]]:
    """The statuses with which an operation answered; one of them at least is a success."""
    HUB.world = HUB.app.state.hub.world = copy.deepcopy(BORN)
    HUB.app.state.hub.requests.clear()
    HUB.app.state.hub.faults = Faults()
    seen: list[int] = []
    yield seen
    assert any(status < 300 for status in seen), sorted(set(seen))


@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_every_operation_answers_as_described(case, statuses):
    content = FILES.get(case.operation.path)
    if content is not None and len(statuses) % 2:
        case.body = {"file": content}
    # So that runs which one request has started go on before the next.
    HUB.world.clock.advance(1.5)
    response = case.call(headers=CREDENTIAL, session=CLIENT)
    statuses.append(response.status_code)
    case.validate_response(response, checks=CHECKS)


# -- failures


def test_a_wrong_method_is_answered_like_any_call_that_is_not_served():
    for method, path, _ in operations(DOCUMENT):
        known = {other.upper() for other in DOCUMENT["paths"][path]}
        wrong = next(other for other in ("PATCH", "TRACE") if other not in known)
        response = HUB.http.request(wrong, path)
        assert (response.status_code, response.json()["ISSUES"][0]["code"]) == (404, "SANDBOX_404"), (method, path)


def test_a_failure_of_the_sandbox_is_a_500_that_tells_nothing_and_the_next_call_is_answered(monkeypatch, statuses):
    http = TestClient(HUB.app, headers=HUB.headers, raise_server_exceptions=False)
    path = f"{JR}/job/{HUB.id('Quick check')}/start"
    with monkeypatch.context() as patch:
        patch.setattr(type(HUB.world), "start", lambda *_: 1 / 0)
        response = http.post(path)
    message = f"the sandbox failed at POST {path}"
    assert (response.status_code, response.headers["Connection"]) == (500, "close")
    assert response.json() == {"ISSUES": [{"code": "SANDBOX_500", "message": message}]}
    statuses.append(http.post(path).status_code)
