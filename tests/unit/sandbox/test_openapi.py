"""The API documents of the services."""

from __future__ import annotations


def test_services_publish_swagger_and_openapi_documents(shared_hub):
    openapi = shared_hub.get("/jobrunner/rest/openapi.json")
    swagger = shared_hub.get("/jobrunner/rest/swagger.json")
    assert (openapi["openapi"], swagger["swagger"]) == ("3.0.1", "2.0")
    assert swagger["paths"] == openapi["paths"]
    assert swagger["definitions"].keys() == openapi["components"]["schemas"].keys()
    job = swagger["definitions"]["JobJson"]["properties"]
    assert job.keys() == openapi["components"]["schemas"]["JobJson"]["properties"].keys()
    assert job["currentJobStatus"] == {"$ref": "#/definitions/JobStatusJson"}
    for name in ("swagger", "openapi"):
        assert shared_hub.http.get(f"/unknown/rest/{name}.json").status_code == 404
