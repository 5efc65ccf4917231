"""Job Runner and Pipeline Repository: saved SAQL searches."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.bodies import SavedJobFilter, SavedPipelineFilter
from airflow_provider_streamsets.sandbox.api.requests import Backend, Query, parse_body
from airflow_provider_streamsets.sandbox.api.responses import empty_response, json_response, page_response
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.saved_filters import SavedFilter, SavedFilters
from airflow_provider_streamsets.sandbox.openapi import (
    ORDERS,
    PAGE,
    array_of,
    enum_param,
    route_spec,
    string_param,
    wrapper_of,
)
from airflow_provider_streamsets.sandbox.serializers.schemas import Json, complete

router = APIRouter()

_FILTER = "SavedFilterJson"
_FILTERS = (string_param("name"), string_param("type"), enum_param("orderBy", ORDERS), *PAGE)
_ID = (string_param("searchId", required=True, schema="SavedFilterId"),)
_LIST_SPEC = route_spec(wrapper_of(array_of(_FILTER)), query=_FILTERS, errors=(400,))
_FAVORITE_SPEC = route_spec({"type": "boolean"}, query=_ID, errors=(400, 404))
_REMOVAL_SPEC = route_spec(query=_ID, errors=(400, 404))
_JOBS, _PIPELINES = "/jobrunner/rest/v1/saql/jobs/savedFilters", "/pipelinestore/rest/v1/saql/pipelines/savedFilters"


def filter_body(backend: Backend, entry: SavedFilter) -> Json:
    """Return the JSON object of a saved filter."""
    return complete(
        _FILTER,
        {
            "id": entry.id,
            "orgId": backend.organization,
            "type": entry.kind,
            "name": entry.name,
            "mode": entry.mode,
            "query": entry.query,
            "creator": entry.creator,
            "createTime": entry.created_on,
            "lastModifiedBy": entry.modified_by,
            "lastModifiedOn": entry.modified_on,
            "favorite": {"favorite": entry.is_favorite},
        },
    )


def _list(backend: Backend, query: Query, filters: SavedFilters) -> Response:
    found = filters.find(query.string("type"), query.string("name"))
    if query.choice("orderBy", ORDERS) == "DESC":
        found.reverse()
    return page_response(query, found, lambda entry: filter_body(backend, entry), wrapped=True)


def _create(backend: Backend, filters: SavedFilters, body: SavedJobFilter | SavedPipelineFilter) -> Response:
    now = backend.clock.now()
    entry = SavedFilter(
        backend.new_id("saved filter"),
        body.type,
        body.name,
        body.mode,
        body.query,
        backend.user,
        now,
        backend.user,
        now,
    )
    filters.save(entry)
    return json_response(filter_body(backend, entry))


def _update(
    backend: Backend, filters: SavedFilters, filter_id: str, body: SavedJobFilter | SavedPipelineFilter
) -> Response:
    entry = replace(
        filters.get(filter_id),
        name=body.name,
        mode=body.mode,
        query=body.query,
        modified_by=backend.user,
        modified_on=backend.clock.now(),
    )
    filters.save(entry)
    return json_response(filter_body(backend, entry))


def _search_id(query: Query) -> str:
    value = query.string("searchId")
    if value is None:
        raise bad_request("'searchId' is missing.")
    return value


@router.get(_JOBS, **_LIST_SPEC)
async def list_job_filters(backend: Backend, query: Query) -> Response:
    """List the saved searches for jobs, templates, runs and sequences."""
    return _list(backend, query, backend.job_filters)


@router.post(_JOBS, **route_spec(_FILTER, body=SavedJobFilter, errors=(400,)))
async def create_job_filter(request: Request, backend: Backend) -> Response:
    """Save a search for jobs, templates, runs or sequences."""
    return _create(backend, backend.job_filters, await parse_body(request, SavedJobFilter))


@router.post(f"{_JOBS}/fav", **_FAVORITE_SPEC)
async def mark_job_filter(backend: Backend, query: Query) -> Response:
    """Mark a saved search for jobs as a favorite."""
    backend.job_filters.mark_as_favorite(_search_id(query))
    return json_response(True)


@router.put(f"{_JOBS}/{{filter_id}}", **route_spec(_FILTER, body=SavedJobFilter, errors=(400, 404)))
async def update_job_filter(request: Request, backend: Backend, filter_id: str) -> Response:
    """Change the name or the query of a saved search for jobs."""
    return _update(backend, backend.job_filters, filter_id, await parse_body(request, SavedJobFilter))


@router.delete(_JOBS, **_REMOVAL_SPEC)
async def remove_job_filter(backend: Backend, query: Query) -> Response:
    """Remove a saved search for jobs."""
    backend.job_filters.remove(_search_id(query))
    return empty_response()


@router.get(_PIPELINES, **_LIST_SPEC)
async def list_pipeline_filters(backend: Backend, query: Query) -> Response:
    """List the saved searches for pipelines and fragments."""
    return _list(backend, query, backend.pipeline_filters)


@router.post(_PIPELINES, **route_spec(_FILTER, body=SavedPipelineFilter, errors=(400,)))
async def create_pipeline_filter(request: Request, backend: Backend) -> Response:
    """Save a search for pipelines or fragments."""
    return _create(backend, backend.pipeline_filters, await parse_body(request, SavedPipelineFilter))


@router.post(f"{_PIPELINES}/fav", **_FAVORITE_SPEC)
async def mark_pipeline_filter(backend: Backend, query: Query) -> Response:
    """Mark a saved search for pipelines as a favorite."""
    backend.pipeline_filters.mark_as_favorite(_search_id(query))
    return json_response(True)


@router.put(f"{_PIPELINES}/{{filter_id}}", **route_spec(_FILTER, body=SavedPipelineFilter, errors=(400, 404)))
async def update_pipeline_filter(request: Request, backend: Backend, filter_id: str) -> Response:
    """Change the name or the query of a saved search for pipelines."""
    return _update(backend, backend.pipeline_filters, filter_id, await parse_body(request, SavedPipelineFilter))


@router.delete(_PIPELINES, **_REMOVAL_SPEC)
async def remove_pipeline_filter(backend: Backend, query: Query) -> Response:
    """Remove a saved search for pipelines."""
    backend.pipeline_filters.remove(_search_id(query))
    return empty_response()
