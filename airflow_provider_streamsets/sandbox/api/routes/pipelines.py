"""Pipeline Repository: pipelines and their versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api import saql
from airflow_provider_streamsets.sandbox.api.bodies import PipelineIds
from airflow_provider_streamsets.sandbox.api.requests import Query, get_backend, read_ids
from airflow_provider_streamsets.sandbox.api.responses import json_response, page_response, search_response
from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.exceptions import ApiError
from airflow_provider_streamsets.sandbox.backend.payload import find_commit
from airflow_provider_streamsets.sandbox.openapi import (
    COUNT,
    ORDER,
    PAGE,
    SEARCH,
    WRAPPED_PAGE,
    array_of,
    boolean_param,
    json_body,
    page_of,
    route_spec,
    schema_ref,
    string_param,
    wrapper_of,
)
from airflow_provider_streamsets.sandbox.seed.models import PipelineSeed
from airflow_provider_streamsets.sandbox.serializers.jobs import pipeline_body, tag_bodies
from airflow_provider_streamsets.sandbox.serializers.schemas import complete

router = APIRouter(prefix="/pipelinestore/rest")

_PIPELINE = schema_ref("PipelineJson")
_FILTERS = (
    boolean_param("draft"),
    string_param("filterText"),
    string_param("pipelineLabelId"),
    string_param("orderBy"),
    ORDER,
    *PAGE,
)


def _latest(backend: ControlHubBackend, pipeline: PipelineSeed, *, definitions: bool = False) -> dict[str, Any]:
    return pipeline_body(backend, pipeline, pipeline.versions[-1], definitions=definitions)


@router.get("/v1/pipelines", **route_spec(wrapper_of(array_of(_PIPELINE)), query=_FILTERS, errors=(400,)))
async def list_pipelines(request: Request) -> Response:
    """List the latest version of each pipeline."""
    backend, query = get_backend(request), Query(request)
    pipelines = [] if query.boolean("draft") else list(backend.pipelines.values())
    text, label = query.string("filterText"), query.string("pipelineLabelId")
    if text:
        pipelines = [pipeline for pipeline in pipelines if text.lower() in pipeline.name.lower()]
    if label:
        pipelines = [
            pipeline
            for pipeline in pipelines
            if label in {f"{name}:{backend.organization}" for name in pipeline.labels}
        ]
    keys: dict[str, Callable[[PipelineSeed], Any]] = {
        "NAME": lambda pipeline: pipeline.name,
        "VERSION": lambda pipeline: len(pipeline.versions),
        "COMMIT_TIME": lambda pipeline: -pipeline.versions[-1].committed_ago,
        "LAST_MODIFIED_ON": lambda pipeline: -pipeline.versions[-1].committed_ago,
    }
    # Control Hub has other sort orders, which fall back to the name here.
    key = keys.get(query.string("orderBy") or "NAME", keys["NAME"])
    pipelines.sort(key=key, reverse=query.choice("order", ("ASC", "DESC")) == "DESC")
    return page_response(query, pipelines, lambda pipeline: _latest(backend, pipeline), wrapped=True)


_PROPERTIES = {
    "name": "string", "id": "string", "version": "number", "latest_version": "number", "label": "string",
    "draft": "boolean",    "engine_type": "string", "commit_message": "string", "description": "string",
}  # fmt: skip


@router.get("/v1/saql/pipelines/search", **route_spec(wrapper_of(array_of(_PIPELINE)), query=SEARCH, errors=(400,)))
async def search_pipelines(request: Request) -> Response:
    """Search for pipelines."""
    backend, query = get_backend(request), Query(request)

    def properties(pipeline: PipelineSeed) -> dict[str, Any]:
        return {
            "name": pipeline.name,
            "id": pipeline.id,
            "version": int(pipeline.versions[-1].version),
            "latest_version": int(pipeline.versions[-1].version),
            "label": list(pipeline.labels),
            "draft": False,
            "engine_type": "COLLECTOR",
            "commit_message": pipeline.versions[-1].message,
            "description": pipeline.description,
        }

    pipelines = list(backend.pipelines.values())
    search = query.string("search")
    if search:
        matches = saql.parse(search, _PROPERTIES)
        pipelines = [pipeline for pipeline in pipelines if matches(properties(pipeline))]
    pipelines.sort(key=lambda pipeline: pipeline.name, reverse=(query.string("orderBy") or "").endswith("-"))
    return search_response(request, pipelines, lambda pipeline: _latest(backend, pipeline))


@router.get("/v1/pipelines/count", **route_spec(COUNT))
async def count_pipelines(request: Request) -> Response:
    """Count the pipelines."""
    return json_response({"count": len(get_backend(request).pipelines)})


@router.post(
    "/v1/pipelines/latestCommit", **route_spec(array_of(_PIPELINE), body=json_body(PipelineIds), errors=(400,))
)
async def read_latest_commits(request: Request) -> Response:
    """Return the latest versions of the given pipelines."""
    backend = get_backend(request)
    ids = await read_ids(request, PipelineIds)
    return json_response([_latest(backend, backend.pipelines[key]) for key in ids if key in backend.pipelines])


@router.get("/v1/pipeline/{pipeline_id}/latest", **route_spec(_PIPELINE))
async def read_latest(request: Request, pipeline_id: str) -> Response:
    """Return the latest version of a pipeline, or an object without a commit if it does not exist."""
    backend = get_backend(request)
    pipeline = backend.pipelines.get(pipeline_id)
    return json_response(_latest(backend, pipeline, definitions=True) if pipeline else complete("PipelineJson", {}))


@router.get(
    "/v1/pipeline/{pipeline_id}/log", **route_spec(page_of(_PIPELINE), query=(ORDER, *WRAPPED_PAGE), errors=(400, 404))
)
async def read_log(request: Request, pipeline_id: str) -> Response:
    """Return all versions of a pipeline, oldest first."""
    backend, query = get_backend(request), Query(request)
    pipeline = _get_pipeline(backend, pipeline_id)
    versions = list(pipeline.versions)
    if query.choice("order", ("ASC", "DESC")) == "DESC":
        versions.reverse()
    return page_response(query, versions, lambda version: pipeline_body(backend, pipeline, version, definitions=False))


@router.get("/v1/pipeline/{pipeline_id}/tags", **route_spec(array_of(schema_ref("TagJson")), errors=(404,)))
async def read_tags(request: Request, pipeline_id: str) -> Response:
    """Return the tags of the versions of a pipeline."""
    backend = get_backend(request)
    return json_response(tag_bodies(backend, _get_pipeline(backend, pipeline_id)))


@router.get(
    "/v1/pipelineCommit/{commit_id}",
    **route_spec(_PIPELINE, query=(boolean_param("includeLibraryDefinitions"),), errors=(400, 404)),
)
async def read_commit(request: Request, commit_id: str) -> Response:
    """Return a pipeline version with its definitions."""
    backend = get_backend(request)
    libraries = Query(request).boolean("includeLibraryDefinitions")
    found = find_commit(backend.pipelines, commit_id)
    if found is None:
        raise ApiError(404, "PIPELINE_STORE_02", f"Pipeline commit '{commit_id}' does not exist")
    body = pipeline_body(backend, *found, definitions=True)
    if libraries is False:
        body["libraryDefinitions"] = None
    return json_response(body)


def _get_pipeline(backend: ControlHubBackend, pipeline_id: str) -> PipelineSeed:
    try:
        return backend.pipelines[pipeline_id]
    except KeyError:
        raise ApiError(404, "PIPELINE_STORE_01", f"Pipeline '{pipeline_id}' does not exist") from None
