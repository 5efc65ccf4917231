"""The API documents of the services, in OpenAPI and in Swagger 2.0, which SDKs read."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from fastapi.routing import APIRoute

from airflow_provider_streamsets.sandbox.openapi import SERVICES
from tests.unit.fakes.sandbox_app import Hub

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is a tool of the main environment")

HUB = Hub()
KINDS = ("openapi", "swagger")


def read(service: str, kind: str) -> dict[str, Any]:
    return copy.deepcopy(HUB.get(f"/{service}/rest/{kind}.json"))


def without_names(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("service", SERVICES)
def test_document_is_valid(service, kind):
    document = read(service, kind)
    schemathesis.openapi.from_dict(document).validate()
    assert document[kind] in ("2.0", "3.1.0")


@pytest.mark.parametrize("kind", KINDS)
def test_validation_finds_invalid_operation(kind):
    document = read("jobrunner", kind)
    document["paths"]["/v1/jobs/count"]["get"]["parameters"] = [{"name": "x", "in": "nowhere"}]
    with pytest.raises(ValueError, match="nowhere"):
        schemathesis.openapi.from_dict(document).validate()


def references(value: Any) -> set[str]:
    found: set[str] = set()
    if isinstance(value, dict):
        found = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        value = [*value.values()]
    if isinstance(value, list):
        found = found.union(*map(references, value))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("service", SERVICES)
def test_all_references_exist(service, kind):
    document = read(service, kind)
    for reference in references(document):
        found: Any = document
        for name in reference.removeprefix("#/").split("/"):
            found = found[name]
        assert isinstance(found, dict), reference


@pytest.mark.parametrize("kind", KINDS)
def test_documents_list_exactly_the_served_routes(kind):
    served = {
        (method.lower(), without_names(route.path))
        for route in HUB.app.state.api_routes
        if isinstance(route, APIRoute) and re.match(rf"/({'|'.join(SERVICES)})/rest/v", route.path)
        for method in route.methods
    }
    documented = {
        (method, f"/{service}/rest{without_names(path)}")
        for service in SERVICES
        for path, operations in read(service, kind)["paths"].items()
        for method in operations
    }
    assert documented == served
    assert len(documented) > 80


@pytest.mark.parametrize("kind", KINDS)
def test_path_parameters_are_declared(kind):
    for service in SERVICES:
        for path, operations in read(service, kind)["paths"].items():
            for operation in operations.values():
                declared = {entry["name"] for entry in operation["parameters"] if entry.get("in") == "path"}
                assert declared == set(re.findall(r"\{(\w+)\}", path)), path


def test_both_documents_have_the_fields_of_objects():
    for service in ("jobrunner", "pipelinestore", "security"):
        schemas, definitions = (
            read(service, "openapi")["components"]["schemas"],
            read(service, "swagger")["definitions"],
        )
        assert schemas.keys() == definitions.keys()
        for name, schema in schemas.items():
            assert schema.get("properties", {}).keys() == definitions[name].get("properties", {}).keys(), name


def test_fields_have_types():
    job = read("jobrunner", "swagger")["definitions"]["JobJson"]["properties"]
    assert job["currentJobStatus"] == {"$ref": "#/definitions/JobStatusJson"}
    assert job["createTime"] == {"type": "integer", "format": "int64"}
    assert job["jobTags"] == {"type": "array", "items": {"$ref": "#/definitions/JobTagJson"}}


def test_paths_have_the_names_that_sdks_read():
    for kind in KINDS:
        paths = read("jobrunner", kind)["paths"]
        assert {"delete"} == paths["/v2/job/{jobId}"].keys()
        assert {"/v1/job/{jobStatusId}/jobStatusHistory", "/v1/sdc/{sdcId}"} <= paths.keys()


def test_upload_is_a_form_with_a_file():
    operation = read("jobrunner", "swagger")["paths"]["/v1/jobs/importJobs"]["post"]
    assert operation["consumes"] == ["multipart/form-data"]
    assert {"name": "file", "in": "formData", "type": "file", "required": True} in operation["parameters"]


def test_body_refers_to_its_definition():
    document = read("jobrunner", "swagger")
    (body,) = [entry for entry in document["paths"]["/v1/jobs"]["put"]["parameters"] if entry["in"] == "body"]
    assert body["schema"] == {"$ref": "#/definitions/NewJob"}
    assert "name" in document["definitions"]["NewJob"]["properties"]


def test_unknown_service_has_no_document():
    for kind in KINDS:
        assert HUB.http.get(f"/unknown/rest/{kind}.json").status_code == 404
