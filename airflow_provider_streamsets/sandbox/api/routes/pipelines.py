"""Pipeline Repository: reading pipelines and their versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api import saql
from airflow_provider_streamsets.sandbox.api.context import world_of
from airflow_provider_streamsets.sandbox.api.requests import Query, read_ids
from airflow_provider_streamsets.sandbox.api.responses import answer, page, search_page
from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError
from airflow_provider_streamsets.sandbox.backend.payload import find_commit
from airflow_provider_streamsets.sandbox.openapi.spec import (
    COUNT,
    ORDER,
    PAGE,
    SEARCH,
    WRAPPED_PAGE,
    described,
    flag,
    ids,
    many,
    named,
    page_of,
    text,
    wrapped,
)
from airflow_provider_streamsets.sandbox.seed.models import PipelineSeed
from airflow_provider_streamsets.sandbox.serializers.pipelines import pipeline_body, tag_bodies
from airflow_provider_streamsets.sandbox.serializers.schemas import complete

router = APIRouter(prefix="/pipelinestore/rest")

_PIPELINE = named("PipelineJson")
_FILTERS = (flag("draft"), text("filterText"), text("pipelineLabelId"), text("orderBy"), ORDER, *PAGE)


def _latest(world: World, pipeline: PipelineSeed, *, definitions: bool = False) -> dict[str, Any]:
    return pipeline_body(world, pipeline, pipeline.versions[-1], definitions=definitions)


@router.get("/v1/pipelines", **described(wrapped(many(_PIPELINE)), query=_FILTERS, refused=(400,)))
async def list_pipelines(request: Request) -> Response:
    """List the latest version of each pipeline."""
    world, query = world_of(request), Query(request)
    pipelines = [] if query.flag("draft") else list(world.pipelines.values())
    text, label = query.text("filterText"), query.text("pipelineLabelId")
    if text:
        pipelines = [pipeline for pipeline in pipelines if text.lower() in pipeline.name.lower()]
    if label:
        pipelines = [
            pipeline for pipeline in pipelines if label in {f"{own}:{world.organization}" for own in pipeline.labels}
        ]
    keys: dict[str, Callable[[PipelineSeed], Any]] = {
        "NAME": lambda pipeline: pipeline.name,
        "VERSION": lambda pipeline: len(pipeline.versions),
        "COMMIT_TIME": lambda pipeline: -pipeline.versions[-1].committed_ago,
        "LAST_MODIFIED_ON": lambda pipeline: -pipeline.versions[-1].committed_ago,
    }
    # Other orders exist; by name will do for them.
    key = keys.get(query.text("orderBy") or "NAME", keys["NAME"])
    pipelines.sort(key=key, reverse=query.choice("order", ("ASC", "DESC")) == "DESC")
    return page(query, pipelines, lambda pipeline: _latest(world, pipeline), wrapped=True)


_PROPERTIES = {
    "name": "text", "id": "text", "version": "number", "latest_version": "number", "label": "text", "draft": "flag",
    "engine_type": "text", "commit_message": "text", "description": "text",
}  # fmt: skip


@router.get("/v1/saql/pipelines/search", **described(wrapped(many(_PIPELINE)), query=SEARCH, refused=(400,)))
async def search_pipelines(request: Request) -> Response:
    """Search for pipelines."""
    world, query = world_of(request), Query(request)

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

    pipelines = list(world.pipelines.values())
    search = query.text("search")
    if search:
        matches = saql.parse(search, _PROPERTIES)
        pipelines = [pipeline for pipeline in pipelines if matches(properties(pipeline))]
    pipelines.sort(key=lambda pipeline: pipeline.name, reverse=(query.text("orderBy") or "").endswith("-"))
    return search_page(request, pipelines, lambda pipeline: _latest(world, pipeline))


@router.get("/v1/pipelines/count", **described(COUNT))
async def count_pipelines(request: Request) -> Response:
    """Count the pipelines."""
    return answer({"count": len(world_of(request).pipelines)})


@router.post("/v1/pipelines/latestCommit", **described(many(_PIPELINE), body=ids("PipelineId"), refused=(400,)))
async def read_latest_commits(request: Request) -> Response:
    """Return the latest version of some pipelines."""
    world = world_of(request)
    ids = await read_ids(request, "pipeline")
    return answer([_latest(world, world.pipelines[key]) for key in ids if key in world.pipelines])


@router.get("/v1/pipeline/{pipeline_id}/latest", **described(_PIPELINE))
async def read_latest(request: Request, pipeline_id: str) -> Response:
    """Return the latest version of a pipeline; of an unknown one, an object without a commit."""
    world = world_of(request)
    pipeline = world.pipelines.get(pipeline_id)
    return answer(_latest(world, pipeline, definitions=True) if pipeline else complete("PipelineJson", {}))


@router.get(
    "/v1/pipeline/{pipeline_id}/log", **described(page_of(_PIPELINE), query=(ORDER, *WRAPPED_PAGE), refused=(400, 404))
)
async def read_log(request: Request, pipeline_id: str) -> Response:
    """Return all versions of a pipeline, the oldest first."""
    world, query = world_of(request), Query(request)
    pipeline = _pipeline(world, pipeline_id)
    versions = list(pipeline.versions)
    if query.choice("order", ("ASC", "DESC")) == "DESC":
        versions.reverse()
    return page(query, versions, lambda version: pipeline_body(world, pipeline, version, definitions=False))


@router.get("/v1/pipeline/{pipeline_id}/tags", **described(many(named("TagJson")), refused=(404,)))
async def read_tags(request: Request, pipeline_id: str) -> Response:
    """Return the tags of a pipeline's versions."""
    world = world_of(request)
    return answer(tag_bodies(world, _pipeline(world, pipeline_id)))


@router.get(
    "/v1/pipelineCommit/{commit_id}",
    **described(_PIPELINE, query=(flag("includeLibraryDefinitions"),), refused=(400, 404)),
)
async def read_commit(request: Request, commit_id: str) -> Response:
    """Return a version of a pipeline with its definitions."""
    world = world_of(request)
    libraries = Query(request).flag("includeLibraryDefinitions")
    found = find_commit(world.pipelines, commit_id)
    if found is None:
        raise ProblemError(404, "PIPELINE_STORE_02", f"Pipeline commit '{commit_id}' does not exist")
    body = pipeline_body(world, *found, definitions=True)
    if libraries is False:
        body["libraryDefinitions"] = None
    return answer(body)


def _pipeline(world: World, pipeline_id: str) -> PipelineSeed:
    try:
        return world.pipelines[pipeline_id]
    except KeyError:
        raise ProblemError(404, "PIPELINE_STORE_01", f"Pipeline '{pipeline_id}' does not exist") from None
