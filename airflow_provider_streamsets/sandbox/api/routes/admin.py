"""Admin routes of the sandbox under ``/sandbox/v1``: clock, variants, reset, faults and logs."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.bodies import (
    FAULT_RULES,
    ClockAdvance,
    ClockChange,
    ClockSet,
    VariantChanges,
)
from airflow_provider_streamsets.sandbox.api.requests import Backend, get_context, parse_body, read_json
from airflow_provider_streamsets.sandbox.api.responses import json_response
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.runs import FINAL_STATUSES
from airflow_provider_streamsets.sandbox.backend.variants import VariantError
from airflow_provider_streamsets.sandbox.faults.rules import FaultRules, parse_faults
from airflow_provider_streamsets.sandbox.openapi import (
    INTEGER,
    OBJECT,
    STRING,
    array_of,
    map_of,
    nullable,
    object_of,
    route_spec,
)
from airflow_provider_streamsets.sandbox.seed.document import SeedError

router = APIRouter(prefix="/sandbox/v1")

_START = object_of(
    job_id=STRING, job_name=STRING, run_count=INTEGER, time=INTEGER, user=STRING, caller=nullable(STRING)
)
_STOP = object_of(**_START["properties"], forced={"type": "boolean"})
_CLOCK = object_of(now=INTEGER, frozen={"type": "boolean"})
_REQUESTS = object_of(total=INTEGER, counts=map_of(INTEGER), requests=array_of(OBJECT))
_STATE = object_of(
    **_CLOCK["properties"],
    time_scale={"type": "number"},
    organization=STRING,
    variants=OBJECT,
    jobs=array_of(OBJECT),
    starts=array_of(_START),
)


@router.get("/starts", **route_spec(array_of(_START)))
async def read_starts(backend: Backend) -> Response:
    """Return the log of starts with their callers, as given in the header ``X-Sandbox-Caller``."""
    return json_response(_starts(backend))


@router.get("/stops", **route_spec(array_of(_STOP)))
async def read_stops(backend: Backend) -> Response:
    """Return the log of stops and forced stops with their callers."""
    return json_response([dataclasses.asdict(stop) for stop in backend.stops])


@router.get("/state", **route_spec(_STATE))
async def read_state(backend: Backend) -> Response:
    """Return the clock, the variants, the states of the jobs and the log of starts."""
    now = backend.clock.now()
    jobs = []
    for job in backend.jobs.values():
        run = job.latest
        phase = backend.run_state(run).phase_at(now) if run else None
        jobs.append(
            {
                "id": job.id,
                "name": job.seed.name,
                "template": job.seed.is_template,
                "status": phase.status if phase else None,
                "color": phase.color if phase else None,
                "running": phase is not None and phase.status not in FINAL_STATUSES,
                "run_count": run.run_count if run else 0,
                "parameters": run.parameters if run else None,
            }
        )
    return json_response(
        {
            "now": now,
            "frozen": backend.clock.frozen,
            "time_scale": backend.time_scale,
            "organization": backend.organization,
            "variants": backend.variants.as_dict(),
            "jobs": jobs,
            "starts": _starts(backend),
        }
    )


@router.post("/clock", **route_spec(_CLOCK, body=ClockChange, errors=(400,)))
async def change_clock(request: Request, backend: Backend) -> Response:
    """Set, advance, freeze or unfreeze the clock."""
    clock = backend.clock
    change = (await parse_body(request, ClockChange)).root
    try:
        if isinstance(change, ClockSet):
            clock.set(change.set)
        elif isinstance(change, ClockAdvance):
            clock.advance(change.advance)
        elif change.freeze:
            clock.freeze()
        else:
            clock.unfreeze()
    except ValueError as error:
        raise bad_request(str(error)) from None
    return json_response({"now": clock.now(), "frozen": clock.frozen})


@router.post("/reset", **route_spec(_CLOCK))
async def reset(request: Request) -> Response:
    """Reset jobs, clock, variants, faults and logs to the state after the start of the sandbox."""
    context = get_context(request)
    context.reset()
    clock = context.backend.clock
    return json_response({"now": clock.now(), "frozen": clock.frozen})


@router.post("/variants", **route_spec(OBJECT, body=VariantChanges, errors=(400,)))
async def change_variants(request: Request, backend: Backend) -> Response:
    """Change the given variants."""
    try:
        backend.variants = backend.variants.changed((await parse_body(request, VariantChanges)).root)
    except VariantError as error:
        raise bad_request(str(error)) from None
    return json_response(backend.variants.as_dict())


@router.get("/requests", **route_spec(_REQUESTS))
async def read_requests(request: Request) -> Response:
    """Return the latest API requests, and the number of requests per method and path."""
    log = get_context(request).requests
    return json_response({"total": log.counts.total(), "counts": dict(log.counts), "requests": list(log.entries)})


@router.delete("/requests", **route_spec(_REQUESTS))
async def clear_requests(request: Request) -> Response:
    """Clear the request log."""
    get_context(request).requests.clear()
    return json_response({"total": 0, "counts": {}, "requests": []})


def _starts(backend: Backend) -> list[dict[str, Any]]:
    return [dataclasses.asdict(start) for start in backend.starts]


_RULES = object_of(seed=INTEGER, rules=array_of(OBJECT), hits=array_of(OBJECT))


@router.get("/faults", **route_spec(_RULES))
async def read_faults(request: Request) -> Response:
    """Return the fault rules with their numbers of matches and hits, and the latest hits."""
    return json_response(get_context(request).faults.to_dict())


@router.put("/faults", **route_spec(_RULES, body=FAULT_RULES, errors=(400,)))
async def replace_faults(request: Request) -> Response:
    """Replace all fault rules and reset their counts."""
    try:
        get_context(request).faults = parse_faults(await read_json(request))
    except SeedError as error:
        raise bad_request(str(error)) from None
    return json_response(get_context(request).faults.to_dict())


@router.post("/faults", **route_spec(_RULES, body=FAULT_RULES, errors=(400,)))
async def add_faults(request: Request) -> Response:
    """Add fault rules after the others, which keep their counts. The seed remains the same."""
    faults = get_context(request).faults
    try:
        faults.add(parse_faults(await read_json(request)).rules)
    except SeedError as error:
        raise bad_request(str(error)) from None
    return json_response(faults.to_dict())


@router.delete("/faults", **route_spec(_RULES))
async def remove_faults(request: Request) -> Response:
    """Remove all fault rules."""
    get_context(request).faults = FaultRules()
    return json_response(get_context(request).faults.to_dict())
