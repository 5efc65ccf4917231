"""Job Runner: acting on one job, or on many at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import world_of
from airflow_provider_streamsets.sandbox.api.requests import read_ids, read_json
from airflow_provider_streamsets.sandbox.api.responses import answer, nothing
from airflow_provider_streamsets.sandbox.backend import balancing
from airflow_provider_streamsets.sandbox.backend.control_hub import World
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.jobs import Job
from airflow_provider_streamsets.sandbox.openapi.request_bodies import RUNTIME_PARAMETERS
from airflow_provider_streamsets.sandbox.openapi.spec import described, ids, json_body, many, named, nullable
from airflow_provider_streamsets.sandbox.serializers.statuses import current_status_body

router = APIRouter(prefix="/jobrunner/rest")


@dataclass(frozen=True)
class Action:
    """
    Something that can be asked of one job, and of many.

    :param single: the last part of the path for one job.
    :param bulk: the last part of the path for many jobs.
    :param check: raises if a job's state does not allow the action.
    :param act: checks, and does it.
    :param summary: what it does.
    """

    single: str
    bulk: str
    check: Callable[[World, Job], None]
    act: Callable[[World, Job], object]
    summary: str


ACTIONS = (
    Action("stop", "stopJobs", World.check_stop, World.stop, "Stop"),
    Action("forceStop", "forceStopJobs", World.check_stop, World.force_stop, "Stop without waiting for the engine"),
    Action("acknowledgeError", "acknowledgeErrors", World.check_acknowledge, World.acknowledge, "Acknowledge an error"),
    Action("sync", "syncJobs", World.check_active, World.synchronize, "Synchronize while active"),
    Action("balance", "balanceJobs", balancing.check_balance, balancing.balance_job, "Balance while active"),
)


@router.post(
    "/v1/job/{job_id}/start",
    **described(
        named("JobStatusJson"),
        body=json_body(RUNTIME_PARAMETERS, required=False),
        refused=(400, 404),
        may_be_empty=True,
    ),
)
async def start_job(request: Request, job_id: str) -> Response:
    """Start a job, with runtime parameters or without."""
    world = world_of(request)
    parameters = await read_json(request)
    if parameters is not None and not isinstance(parameters, dict):
        raise bad_request("the runtime parameters of a start must be a JSON object")
    job = world.job(job_id)
    world.start(job, parameters)
    return nothing() if world.variants.start_body == "empty" else _status_answer(world, job)


@router.post("/v1/jobs/balanceSDCs", **described(body=ids("EngineId"), refused=(400, 404)))
async def balance_engines(request: Request) -> Response:
    """Balance all active jobs on some engines."""
    balancing.balance_engines(world_of(request), await read_ids(request, "engine"))
    return nothing()


def _status_answer(world: World, job: Job) -> Response:
    body = current_status_body(world, job, world.clock.now())
    return nothing() if body is None else answer(body)


def _single(act: Callable[[World, Job], object]) -> Callable[..., Awaitable[Response]]:
    async def act_on_job(request: Request, job_id: str) -> Response:
        world = world_of(request)
        job = world.job(job_id)
        act(world, job)
        return _status_answer(world, job)

    return act_on_job


def _bulk(
    check: Callable[[World, Job], None], act: Callable[[World, Job], object]
) -> Callable[..., Awaitable[Response]]:
    async def act_on_jobs(request: Request) -> Response:
        world = world_of(request)
        jobs = world.in_bulk(await read_ids(request), lambda job: check(world, job), lambda job: act(world, job))
        if world.variants.bulk_body == "empty":
            return nothing()
        return answer([current_status_body(world, job, world.clock.now()) for job in jobs])

    return act_on_jobs


_ONE = described(named("JobStatusJson"), refused=(400, 404), may_be_empty=True)
_MANY = described(many(nullable(named("JobStatusJson"))), body=ids("JobId"), refused=(400, 404), may_be_empty=True)

for action in ACTIONS:
    router.post(f"/v1/job/{{job_id}}/{action.single}", summary=action.summary, **_ONE)(_single(action.act))
    router.post(f"/v1/jobs/{action.bulk}", summary=action.summary, **_MANY)(_bulk(action.check, action.act))
router.post("/v1/jobs/startJobs", summary="Start", **_MANY)(_bulk(World.check_start, World.start))
router.post("/v1/job/{job_id}/resetErrorInfo", summary="Forget the errors that engines reported", **_ONE)(
    _single(World.reset_error_info)
)
