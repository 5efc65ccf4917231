"""Pipeline Repository: pipelines and their versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.bodies import PipelineIds
from airflow_provider_streamsets.sandbox.api.requests import Backend, Query, read_ids
from airflow_provider_streamsets.sandbox.api.responses import Property, json_response, page_response, search_response
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
    page_of,
    route_spec,
    string_param,
    wrapper_of,
)
from airflow_provider_streamsets.sandbox.seed.models import PipelineSeed, VersionSeed
from airflow_provider_streamsets.sandbox.serializers.jobs import pipeline_body, tag_bodies
from airflow_provider_streamsets.sandbox.serializers.schemas import complete

router = APIRouter(prefix="/pipelinestore/rest")

_PIPELINE = "PipelineJson"
_FILTERS = (
    boolean_param("draft"),
    string_param("filterText"),
    string_param("pipelineLabelId"),
    string_param("orderBy"),
    ORDER,
    *PAGE,
)

_NEW_SPEC = route_spec(is_refused=True)
_CHANGE_SPEC = route_spec(errors=(404,), is_refused=True)


def _latest(backend: Backend, pipeline: PipelineSeed, *, definitions: bool = False) -> dict[str, Any]:
    return pipeline_body(backend, pipeline, pipeline.versions[-1], definitions=definitions)


@router.get("/v1/pipelines", **route_spec(wrapper_of(array_of(_PIPELINE)), query=_FILTERS, errors=(400,)))
async def list_pipelines(backend: Backend, query: Query) -> Response:
    """List the latest version of each pipeline."""
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
    pipelines.sort(key=key, reverse=query.is_descending())
    return page_response(query, pipelines, lambda pipeline: _latest(backend, pipeline), wrapped=True)


_PROPERTIES: dict[str, Property] = {
    "name": ("string", lambda pipeline: pipeline["name"]),
    "id": ("string", lambda pipeline: pipeline["pipelineId"]),
    "version": ("number", lambda pipeline: int(pipeline["version"])),
    "latest_version": ("number", lambda pipeline: int(pipeline["version"])),
    "label": ("string", lambda pipeline: [label["label"] for label in pipeline["pipelineLabels"]]),
    "draft": ("boolean", lambda pipeline: pipeline["draft"]),
    "engine_type": ("string", lambda pipeline: pipeline["executorType"]),
    "commit_message": ("string", lambda pipeline: pipeline["commitMessage"]),
    "description": ("string", lambda pipeline: pipeline["description"]),
}


@router.get("/v1/saql/pipelines/search", **route_spec(wrapper_of(array_of(_PIPELINE)), query=SEARCH, errors=(400,)))
async def search_pipelines(backend: Backend, query: Query) -> Response:
    """Search for pipelines."""
    descending = (query.string("orderBy") or "").endswith("-")
    pipelines = sorted(backend.pipelines.values(), key=lambda pipeline: pipeline.name, reverse=descending)
    bodies = [_latest(backend, pipeline) for pipeline in pipelines]
    return search_response(backend, query, bodies, _PROPERTIES, order=None)


@router.get("/v1/pipelines/count", **route_spec(COUNT))
async def count_pipelines(backend: Backend) -> Response:
    """Count the pipelines."""
    return json_response({"count": len(backend.pipelines)})


@router.post("/v1/pipelines/latestCommit", **route_spec(array_of(_PIPELINE), body=PipelineIds, errors=(400,)))
async def read_latest_commits(request: Request, backend: Backend) -> Response:
    """Return the latest versions of the given pipelines."""
    ids = await read_ids(request, PipelineIds)
    return json_response([_latest(backend, backend.pipelines[key]) for key in ids if key in backend.pipelines])


@router.get("/v1/pipeline/{pipeline_id}/latest", **route_spec(_PIPELINE))
async def read_latest(backend: Backend, pipeline_id: str) -> Response:
    """Return the latest version of a pipeline, or an object without a commit if it does not exist."""
    pipeline = backend.pipelines.get(pipeline_id)
    return json_response(_latest(backend, pipeline, definitions=True) if pipeline else complete("PipelineJson", {}))


@router.get(
    "/v1/pipeline/{pipeline_id}/log", **route_spec(page_of(_PIPELINE), query=(ORDER, *WRAPPED_PAGE), errors=(400, 404))
)
async def read_log(backend: Backend, query: Query, pipeline_id: str) -> Response:
    """Return all versions of a pipeline, oldest first."""
    pipeline = _get_pipeline(backend, pipeline_id)
    versions = list(pipeline.versions)
    if query.is_descending():
        versions.reverse()
    return page_response(query, versions, lambda version: pipeline_body(backend, pipeline, version, definitions=False))


@router.get("/v1/pipeline/{pipeline_id}/tags", **route_spec(array_of("TagJson"), errors=(404,)))
async def read_tags(backend: Backend, pipeline_id: str) -> Response:
    """Return the tags of the versions of a pipeline."""
    return json_response(tag_bodies(backend, _get_pipeline(backend, pipeline_id)))


@router.get(
    "/v1/pipelineCommit/{commit_id}",
    **route_spec(_PIPELINE, query=(boolean_param("includeLibraryDefinitions"),), errors=(400, 404)),
)
async def read_commit(backend: Backend, query: Query, commit_id: str) -> Response:
    """Return a pipeline version with its definitions."""
    libraries = query.boolean("includeLibraryDefinitions")
    body = pipeline_body(backend, *_get_commit(backend, commit_id), definitions=True)
    if libraries is False:
        body["libraryDefinitions"] = None
    return json_response(body)


def _refuse_change(backend: Backend) -> NoReturn:
    """
    Refuse a change of a pipeline.

    :raises ApiError: always, because the user of the credential cannot edit pipelines.
    """
    raise ApiError(403, "PIPELINE_STORE_05", f"User '{backend.user}' does not have the role 'Pipeline Editor'")


@router.put("/v1/pipelines", **_NEW_SPEC)
async def create_pipeline(backend: Backend) -> Response:
    """Refuse to create a pipeline."""
    _refuse_change(backend)


@router.post("/v1/pipelineCommit/{commit_id}/createDraft", **_CHANGE_SPEC)
async def create_draft(backend: Backend, commit_id: str) -> Response:
    """Refuse to create a draft of a pipeline version."""
    _get_commit(backend, commit_id)
    _refuse_change(backend)


@router.post("/v1/pipelineCommit/{commit_id}", **_CHANGE_SPEC)
async def save_commit(backend: Backend, commit_id: str) -> Response:
    """Refuse to change a pipeline version."""
    _get_commit(backend, commit_id)
    _refuse_change(backend)


@router.delete("/v1/pipelineCommit/{commit_id}", **_CHANGE_SPEC)
async def delete_commit(backend: Backend, commit_id: str) -> Response:
    """Refuse to delete a pipeline version."""
    _get_commit(backend, commit_id)
    _refuse_change(backend)


@router.delete("/v1/pipeline/{pipeline_id}", **_CHANGE_SPEC)
async def delete_pipeline(backend: Backend, pipeline_id: str) -> Response:
    """Refuse to delete a pipeline."""
    _get_pipeline(backend, pipeline_id)
    _refuse_change(backend)


def _get_commit(backend: Backend, commit_id: str) -> tuple[PipelineSeed, VersionSeed]:
    found = find_commit(backend.pipelines, commit_id)
    if found is None:
        raise ApiError(404, "PIPELINE_STORE_02", f"Pipeline commit '{commit_id}' does not exist")
    return found


def _get_pipeline(backend: Backend, pipeline_id: str) -> PipelineSeed:
    try:
        return backend.pipelines[pipeline_id]
    except KeyError:
        raise ApiError(404, "PIPELINE_STORE_01", f"Pipeline '{pipeline_id}' does not exist") from None
