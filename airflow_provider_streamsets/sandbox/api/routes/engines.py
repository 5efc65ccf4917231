"""Job Runner: engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import world_of
from airflow_provider_streamsets.sandbox.api.requests import Query, read_ids
from airflow_provider_streamsets.sandbox.api.responses import answer, nothing, page
from airflow_provider_streamsets.sandbox.backend.exceptions import ProblemError
from airflow_provider_streamsets.sandbox.openapi.spec import (
    COUNT,
    ORDER,
    STRINGS,
    WRAPPED_PAGE,
    choice,
    described,
    flag,
    ids,
    keyed,
    many,
    named,
    page_of,
    text,
)
from airflow_provider_streamsets.sandbox.seed.models import EngineSeed
from airflow_provider_streamsets.sandbox.serializers.engines import engine_body, pipelines_on

router = APIRouter(prefix="/jobrunner/rest")

ENGINE_TYPES = ("COLLECTOR", "TRANSFORMER", "EDGE", "SNOWPARK")
_ORDERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "LAST_REPORTED_TIME": lambda body: body["lastReportedTime"],
    "HTTP_URL": lambda body: body["httpUrl"],
    "CPU_LOAD": lambda body: body["cpuLoad"],
    "USED_MEMORY": lambda body: body["usedMemory"],
    "PIPELINES_COUNT": lambda body: body["pipelinesCount"],
    "MEMORY_USED_PERCENTAGE": lambda body: body["memoryUsedPercentage"],
}
_FILTERS = (
    choice("executorType", ENGINE_TYPES), flag("edge"), text("label"), text("version"), choice("orderBy", [*_ORDERS]),
    ORDER, *WRAPPED_PAGE,
)  # fmt: skip


def _engine(request: Request, engine_id: str) -> EngineSeed:
    try:
        return world_of(request).engines[engine_id]
    except KeyError:
        raise ProblemError(404, "JOBRUNNER_04", f"Engine '{engine_id}' does not exist") from None


@router.get("/v1/sdcs", **described(page_of(named("SDCJson")), query=_FILTERS, refused=(400,)))
async def list_engines(request: Request) -> Response:
    """List engines."""
    world, query = world_of(request), Query(request)
    now = world.clock.now()
    engines = list(world.engines.values())
    kind, edge = query.choice("executorType", ENGINE_TYPES), query.flag("edge")
    if edge or kind not in (None, "COLLECTOR"):
        engines = []
    label, version = query.text("label"), query.text("version")
    engines = [
        engine
        for engine in engines
        if (label is None or label in engine.labels) and (version is None or version == engine.version)
    ]
    bodies = [engine_body(world, engine, now) for engine in engines]
    bodies.sort(
        key=_ORDERS[query.choice("orderBy", tuple(_ORDERS)) or "LAST_REPORTED_TIME"],
        reverse=query.choice("order", ("ASC", "DESC")) == "DESC",
    )
    return page(query, bodies, lambda body: body)


@router.post("/v1/sdcs", **described(keyed(named("SDCJson")), body=ids("EngineId"), refused=(400,)))
async def read_engines(request: Request) -> Response:
    """Return the engines with some ids."""
    world = world_of(request)
    now = world.clock.now()
    ids = await read_ids(request, "engine")
    return answer({key: engine_body(world, world.engines[key], now) for key in ids if key in world.engines})


@router.get("/v1/sdcs/labels", **described(STRINGS))
async def list_engine_labels(request: Request) -> Response:
    """List the labels that engines have."""
    return answer(sorted({label for engine in world_of(request).engines.values() for label in engine.labels}))


@router.get("/v1/sdcs/versions", **described(STRINGS))
async def list_engine_versions(request: Request) -> Response:
    """List the versions that engines have."""
    return answer(sorted({engine.version for engine in world_of(request).engines.values()}))


@router.get("/v1/sdcs/count", **described(COUNT))
async def count_engines(request: Request) -> Response:
    """Count the engines."""
    return answer({"count": len(world_of(request).engines)})


@router.get("/v1/sdc/{engine_id}", **described(named("SDCJson"), may_be_empty=True))
async def read_engine(request: Request, engine_id: str) -> Response:
    """Return an engine."""
    world = world_of(request)
    if engine_id not in world.engines and world.variants.engine_unknown == "empty":
        return nothing()
    return answer(engine_body(world, _engine(request, engine_id), world.clock.now()))


@router.get("/v1/sdc/{engine_id}/labels", **described(STRINGS, refused=(404,)))
async def read_engine_labels(request: Request, engine_id: str) -> Response:
    """Return the labels that an engine has in the hub."""
    return answer(list(_engine(request, engine_id).labels))


@router.get("/v1/sdc/{engine_id}/reportedLabels", **described(STRINGS, refused=(404,)))
async def read_reported_labels(request: Request, engine_id: str) -> Response:
    """Return the labels that an engine reported itself."""
    return answer(list(_engine(request, engine_id).reported_labels))


@router.get("/v1/sdc/{engine_id}/pipelines", **described(many(named("PipelineStatusJson")), refused=(404,)))
async def read_engine_pipelines(request: Request, engine_id: str) -> Response:
    """Return the pipelines that run on an engine."""
    world = world_of(request)
    return answer(pipelines_on(world, _engine(request, engine_id), world.clock.now()))
