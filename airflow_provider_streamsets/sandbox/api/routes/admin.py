"""The sandbox's own calls, under ``/sandbox/v1``: its clock, its variants and what it was asked."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import hub_of, world_of
from airflow_provider_streamsets.sandbox.api.requests import read_json
from airflow_provider_streamsets.sandbox.api.responses import answer
from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.runs import ENDED
from airflow_provider_streamsets.sandbox.backend.variants import VariantError
from airflow_provider_streamsets.sandbox.faults.rules import Faults, parse_faults
from airflow_provider_streamsets.sandbox.openapi.request_bodies import CLOCK_CHANGE, FAULT_RULES, VARIANT_CHANGES
from airflow_provider_streamsets.sandbox.openapi.spec import (
    OBJECT,
    STRING,
    WHOLE,
    described,
    json_body,
    keyed,
    many,
    nullable,
    record,
)
from airflow_provider_streamsets.sandbox.seed.document import SeedError

router = APIRouter(prefix="/sandbox/v1")

_START = record(job_id=STRING, job_name=STRING, run_count=WHOLE, time=WHOLE, user=STRING, caller=nullable(STRING))
_STOP = record(**_START["properties"], forced={"type": "boolean"})
_CLOCK = record(now=WHOLE, frozen={"type": "boolean"})
_REQUESTS = record(total=WHOLE, counts=keyed(WHOLE), requests=many(OBJECT))
_STATE = record(
    **_CLOCK["properties"],
    time_scale={"type": "number"},
    organization=STRING,
    variants=OBJECT,
    jobs=many(OBJECT),
    starts=many(_START),
)


@router.get("/starts", **described(many(_START)))
async def read_starts(request: Request) -> Response:
    """Return the log of starts, each with the caller that its request named in ``X-Sandbox-Caller``."""
    return answer(_starts(world_of(request)))


@router.get("/stops", **described(many(_STOP)))
async def read_stops(request: Request) -> Response:
    """Return the log of stops and forced stops, each with its caller."""
    return answer([dataclasses.asdict(stop) for stop in world_of(request).stops])


@router.get("/state", **described(_STATE))
async def read_state(request: Request) -> Response:
    """Return the clock, the variants, the jobs' states and the log of starts."""
    world = world_of(request)
    now = world.clock.now()
    jobs = []
    for job in world.jobs.values():
        run = job.latest
        phase = world.lifecycle(run).at(now) if run else None
        jobs.append(
            {
                "id": job.id,
                "name": job.seed.name,
                "template": job.seed.is_template,
                "status": phase.status if phase else None,
                "color": phase.color if phase else None,
                "running": phase is not None and phase.status not in ENDED,
                "run_count": run.run_count if run else 0,
                "parameters": run.parameters if run else None,
            }
        )
    return answer(
        {
            "now": now,
            "frozen": world.clock.frozen,
            "time_scale": world.time_scale,
            "organization": world.organization,
            "variants": world.variants.as_dict(),
            "jobs": jobs,
            "starts": _starts(world),
        }
    )


@router.post("/clock", **described(_CLOCK, body=json_body(CLOCK_CHANGE), refused=(400,)))
async def change_clock(request: Request) -> Response:
    """Set, advance, freeze or unfreeze the clock."""
    clock = world_of(request).clock
    change = await _change(request)
    try:
        if set(change) == {"set"} and type(change["set"]) is int:
            clock.set(change["set"])
        elif set(change) == {"advance"} and type(change["advance"]) in (int, float):
            clock.advance(change["advance"])
        elif set(change) == {"freeze"} and isinstance(change["freeze"], bool):
            if change["freeze"]:
                clock.freeze()
            else:
                clock.unfreeze()
        else:
            raise bad_request('expected {"set": <ms>}, {"advance": <seconds>} or {"freeze": true | false}')
    except ValueError as error:
        raise bad_request(str(error)) from None
    return answer({"now": clock.now(), "frozen": clock.frozen})


@router.post("/variants", **described(OBJECT, body=json_body(VARIANT_CHANGES), refused=(400,)))
async def change_variants(request: Request) -> Response:
    """Change some variants."""
    world = world_of(request)
    try:
        world.variants = world.variants.changed(await _change(request))
    except VariantError as error:
        raise bad_request(str(error)) from None
    return answer(world.variants.as_dict())


@router.get("/requests", **described(_REQUESTS))
async def read_requests(request: Request) -> Response:
    """Return the API calls that were answered: the latest, and the number of each."""
    log = hub_of(request).requests
    return answer({"total": log.counts.total(), "counts": dict(log.counts), "requests": list(log.kept)})


@router.delete("/requests", **described(_REQUESTS))
async def forget_requests(request: Request) -> Response:
    """Forget the API calls so far."""
    hub_of(request).requests.clear()
    return answer({"total": 0, "counts": {}, "requests": []})


def _starts(world: World) -> list[dict[str, Any]]:
    return [dataclasses.asdict(start) for start in world.starts]


async def _change(request: Request) -> dict[str, Any]:
    change = await read_json(request)
    if not isinstance(change, dict):
        raise bad_request("the body must be a JSON object")
    return change


_RULES = record(seed=WHOLE, rules=many(OBJECT), hits=many(OBJECT))


@router.get("/faults", **described(_RULES))
async def read_faults(request: Request) -> Response:
    """Return the rules, with how many requests matched each and how many it has hit, and the latest hits."""
    return answer(hub_of(request).faults.document())


@router.put("/faults", **described(_RULES, body=json_body(FAULT_RULES), refused=(400,)))
async def replace_faults(request: Request) -> Response:
    """Replace all rules; counting begins anew."""
    try:
        hub_of(request).faults = parse_faults(await read_json(request))
    except SeedError as error:
        raise bad_request(str(error)) from None
    return answer(hub_of(request).faults.document())


@router.delete("/faults", **described(_RULES))
async def remove_faults(request: Request) -> Response:
    """Let everything go well again."""
    hub_of(request).faults = Faults()
    return answer(hub_of(request).faults.document())
