"""Job Runner: actions on one job and bulk actions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.context import get_backend
from airflow_provider_streamsets.sandbox.api.requests import read_ids, read_json
from airflow_provider_streamsets.sandbox.api.responses import empty_response, json_response
from airflow_provider_streamsets.sandbox.backend import balancing
from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.openapi.request_bodies import RUNTIME_PARAMETERS
from airflow_provider_streamsets.sandbox.openapi.spec import (
    array_of,
    id_list_body,
    json_body,
    nullable,
    route_spec,
    schema_ref,
)
from airflow_provider_streamsets.sandbox.serializers.statuses import current_status_body

router = APIRouter(prefix="/jobrunner/rest")


@dataclass(frozen=True)
class Action:
    """
    An action on one job or on many jobs.

    :param single: last part of the path for one job.
    :param bulk: last part of the path for many jobs.
    :param check: raises if the state of a job does not allow the action.
    :param apply: checks and performs the action.
    :param summary: description of the action.
    """

    single: str
    bulk: str
    check: Callable[[ControlHubBackend, Job], None]
    apply: Callable[[ControlHubBackend, Job], object]
    summary: str


ACTIONS = (
    Action("stop", "stopJobs", ControlHubBackend.check_stop, ControlHubBackend.stop, "Stop"),
    Action(
        "forceStop",
        "forceStopJobs",
        ControlHubBackend.check_stop,
        ControlHubBackend.force_stop,
        "Stop without waiting for the engine",
    ),
    Action(
        "acknowledgeError",
        "acknowledgeErrors",
        ControlHubBackend.check_acknowledge,
        ControlHubBackend.acknowledge,
        "Acknowledge an error",
    ),
    Action(
        "sync", "syncJobs", ControlHubBackend.check_active, ControlHubBackend.synchronize, "Synchronize while active"
    ),
    Action("balance", "balanceJobs", balancing.check_balance, balancing.balance_job, "Balance while active"),
)


@router.post(
    "/v1/job/{job_id}/start",
    **route_spec(
        schema_ref("JobStatusJson"),
        body=json_body(RUNTIME_PARAMETERS, required=False),
        errors=(400, 404),
        may_be_empty=True,
    ),
)
async def start_job(request: Request, job_id: str) -> Response:
    """Start a job, optionally with runtime parameters."""
    backend = get_backend(request)
    parameters = await read_json(request)
    if parameters is not None and not isinstance(parameters, dict):
        raise bad_request("The runtime parameters of a start must be a JSON object.")
    job = backend.job(job_id)
    backend.start(job, parameters)
    return empty_response() if backend.variants.start_body == "empty" else _status_response(backend, job)


@router.post("/v1/jobs/balanceSDCs", **route_spec(body=id_list_body("EngineId"), errors=(400, 404)))
async def balance_engines(request: Request) -> Response:
    """Balance all active jobs on the given engines."""
    balancing.balance_engines(get_backend(request), await read_ids(request, "engine"))
    return empty_response()


def _status_response(backend: ControlHubBackend, job: Job) -> Response:
    body = current_status_body(backend, job, backend.clock.now())
    return empty_response() if body is None else json_response(body)


def _single_route(apply: Callable[[ControlHubBackend, Job], object]) -> Callable[..., Awaitable[Response]]:
    async def act_on_job(request: Request, job_id: str) -> Response:
        backend = get_backend(request)
        job = backend.job(job_id)
        apply(backend, job)
        return _status_response(backend, job)

    return act_on_job


def _bulk_route(
    check: Callable[[ControlHubBackend, Job], None], apply: Callable[[ControlHubBackend, Job], object]
) -> Callable[..., Awaitable[Response]]:
    async def act_on_jobs(request: Request) -> Response:
        backend = get_backend(request)
        jobs = backend.apply_in_bulk(
            await read_ids(request), lambda job: check(backend, job), lambda job: apply(backend, job)
        )
        if backend.variants.bulk_body == "empty":
            return empty_response()
        return json_response([current_status_body(backend, job, backend.clock.now()) for job in jobs])

    return act_on_jobs


_SINGLE_SPEC = route_spec(schema_ref("JobStatusJson"), errors=(400, 404), may_be_empty=True)
_BULK_SPEC = route_spec(
    array_of(nullable(schema_ref("JobStatusJson"))), body=id_list_body("JobId"), errors=(400, 404), may_be_empty=True
)

for action in ACTIONS:
    router.post(f"/v1/job/{{job_id}}/{action.single}", summary=action.summary, **_SINGLE_SPEC)(
        _single_route(action.apply)
    )
    router.post(f"/v1/jobs/{action.bulk}", summary=action.summary, **_BULK_SPEC)(
        _bulk_route(action.check, action.apply)
    )
router.post("/v1/jobs/startJobs", summary="Start", **_BULK_SPEC)(
    _bulk_route(ControlHubBackend.check_start, ControlHubBackend.start)
)
router.post("/v1/job/{job_id}/resetErrorInfo", summary="Clear the errors reported by engines", **_SINGLE_SPEC)(
    _single_route(ControlHubBackend.reset_error_info)
)
