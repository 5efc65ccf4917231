"""The sandbox's own calls about the faults that it injects."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.fault_file import parse_faults
from airflow_provider_streamsets.sandbox.faults import Faults
from airflow_provider_streamsets.sandbox.http import answer, hub_of, read_json
from airflow_provider_streamsets.sandbox.openapi import OBJECT, WHOLE, described, json_body, many, record
from airflow_provider_streamsets.sandbox.openapi_bodies import FAULT_RULES
from airflow_provider_streamsets.sandbox.problems import bad_request
from airflow_provider_streamsets.sandbox.seed_place import SeedError

router = APIRouter(prefix="/sandbox/v1")

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
