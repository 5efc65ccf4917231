"""Job Runner: jobs and job templates: their permissions, changes, actions and deletion, and starts of instances."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox.api.bodies import (
    Acl,
    BulkJobUpdate,
    Duplication,
    EngineIds,
    JobIds,
    JobUpdate,
    NewJob,
    RuntimeParameters,
    TemplateIds,
    TemplateStart,
    check_body,
)
from airflow_provider_streamsets.sandbox.api.requests import Query, get_backend, parse_body, read_ids, read_json
from airflow_provider_streamsets.sandbox.api.responses import empty_response, json_response, page_response
from airflow_provider_streamsets.sandbox.backend import balancing
from airflow_provider_streamsets.sandbox.backend.control_hub import ControlHubBackend
from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.jobs import (
    archive_template,
    change_permissions,
    check_delete,
    check_delete_template,
    check_template,
    check_update,
    check_upgrade,
    delete,
    delete_template,
    duplicate,
    new_job_seed,
    read_changes,
    upgrade,
)
from airflow_provider_streamsets.sandbox.backend.store import Job
from airflow_provider_streamsets.sandbox.backend.templates import start_instances
from airflow_provider_streamsets.sandbox.openapi import (
    PAGE,
    STRINGS,
    Json,
    array_of,
    boolean_param,
    json_body,
    nullable,
    page_of,
    route_spec,
    schema_ref,
)
from airflow_provider_streamsets.sandbox.serializers.jobs import acl_body, job_body, template_run_body
from airflow_provider_streamsets.sandbox.serializers.runs import current_status_body

router = APIRouter(prefix="/jobrunner/rest")


@router.get("/v1/job/{job_id}", **route_spec(schema_ref("JobJson"), errors=(404,)))
async def read_job(request: Request, job_id: str) -> Response:
    """Return a job or a job template."""
    backend = get_backend(request)
    return json_response(job_body(backend, backend.readable_job(job_id), backend.clock.now()))


@router.get("/v1/job/{job_id}/labels", **route_spec(STRINGS, errors=(404,)))
async def read_job_labels(request: Request, job_id: str) -> Response:
    """Return the engine labels of a job."""
    return json_response(list(get_backend(request).job(job_id).seed.labels))


@router.get("/v1/job/{job_id}/acl", **route_spec(schema_ref("AclJson"), errors=(404,)))
async def read_job_acl(request: Request, job_id: str) -> Response:
    """Return the permissions of a job."""
    backend = get_backend(request)
    return json_response(acl_body(backend, backend.job(job_id)))


@router.post("/v1/job/{job_id}/acl", **route_spec(schema_ref("AclJson"), body=json_body(Acl), errors=(400, 404)))
async def update_job_acl(request: Request, job_id: str) -> Response:
    """Replace the permissions of a job."""
    backend = get_backend(request)
    job = backend.job(job_id)
    body = await read_json(request)
    check_body(Acl, body)
    change_permissions(backend, job, body)
    return json_response(acl_body(backend, job))


@router.get("/v1/{job_id}/validateAccess", **route_spec(errors=(404,)))
async def validate_access(request: Request, job_id: str) -> Response:
    """Check that the caller may read a job."""
    get_backend(request).job(job_id)
    return empty_response()


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
        body=json_body(RuntimeParameters, required=False),
        errors=(400, 404),
        may_be_empty=True,
    ),
)
async def start_job(request: Request, job_id: str) -> Response:
    """Start a job, optionally with runtime parameters."""
    backend = get_backend(request)
    parameters = (await parse_body(request, RuntimeParameters)).root
    job = backend.job(job_id)
    backend.start(job, parameters)
    return empty_response() if backend.variants.start_body == "empty" else _status_response(backend, job)


@router.post("/v1/jobs/balanceSDCs", **route_spec(body=json_body(EngineIds), errors=(400, 404)))
async def balance_engines(request: Request) -> Response:
    """Balance all active jobs on the given engines."""
    balancing.balance_engines(get_backend(request), await read_ids(request, EngineIds))
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
    array_of(nullable(schema_ref("JobStatusJson"))), body=json_body(JobIds), errors=(400, 404), may_be_empty=True
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


_TEMPLATE_START_SPEC: Json = {
    "query": (boolean_param("inheritPermissions"),), "body": json_body(TemplateStart), "errors": (400, 404),
}  # fmt: skip
_TEMPLATE_HISTORY = (boolean_param("withTotalCount"), *PAGE)


async def _start_instances(request: Request, template_id: str, *, deferred: bool) -> list[Job]:
    backend = get_backend(request)
    template, body = backend.job(template_id), await read_json(request)
    check_template(template)
    check_body(TemplateStart, body)
    return start_instances(
        backend,
        template,
        body,
        inherit_permissions=Query(request).boolean("inheritPermissions") or False,
        deferred=deferred,
    )


@router.post(
    "/v1/job/{template_id}/createAndStartJobInstances",
    **route_spec(array_of(schema_ref("JobStatusJson")), **_TEMPLATE_START_SPEC),
)
async def start_template(request: Request, template_id: str) -> Response:
    """Create and start instances of a template and return their statuses."""
    backend, jobs = get_backend(request), await _start_instances(request, template_id, deferred=False)
    return json_response([current_status_body(backend, job, backend.clock.now()) for job in jobs])


@router.post(
    "/v1/job/{template_id}/createAndStartJobInstancesAsync",
    **route_spec(array_of(schema_ref("JobJson")), **_TEMPLATE_START_SPEC),
)
async def start_template_async(request: Request, template_id: str) -> Response:
    """Create instances of a template and return them; they start after a short delay."""
    backend, jobs = get_backend(request), await _start_instances(request, template_id, deferred=True)
    return json_response([job_body(backend, job, backend.clock.now()) for job in jobs])


@router.get(
    "/v1/job/{template_id}/runHistory",
    **route_spec(page_of(schema_ref("JobTemplateRunHistoryJson")), query=_TEMPLATE_HISTORY, errors=(400, 404)),
)
async def read_template_history(request: Request, template_id: str) -> Response:
    """Return the starts of instances of a template, newest first."""
    template, query = get_backend(request).job(template_id), Query(request)
    check_template(template)
    wrapped = query.boolean("withTotalCount")
    runs = template.template_runs[::-1]
    return page_response(query, runs, lambda run: template_run_body(template, run), wrapped=wrapped is None or wrapped)


_BULK_DELETION_SPEC = route_spec(
    array_of(schema_ref("JobJson")), body=json_body(JobIds), errors=(400, 404), may_be_empty=True
)
_BULK_TEMPLATES_SPEC = route_spec(
    array_of(schema_ref("JobJson")), body=json_body(TemplateIds), errors=(400, 404), may_be_empty=True
)


@router.delete("/v2/job/{job_id}", **route_spec(schema_ref("JobJson"), errors=(400, 404)))
async def delete_job(request: Request, job_id: str) -> Response:
    """Delete a job and return it."""
    backend = get_backend(request)
    job = backend.job(job_id)
    delete(backend, job)
    return json_response(job_body(backend, job, backend.clock.now()))


@router.delete("/v1/job/{job_id}", **route_spec(errors=(400, 404)))
async def delete_job_v1(request: Request, job_id: str) -> Response:
    """Delete a job; older version of the call, without a response body."""
    backend = get_backend(request)
    delete(backend, backend.job(job_id))
    return empty_response()


@router.post("/v1/jobs/deleteJobs", **_BULK_DELETION_SPEC)
async def delete_jobs(request: Request) -> Response:
    """Delete many jobs."""
    return await _apply_in_bulk(request, check_delete, delete)


@router.post("/v1/jobs/deleteJobTemplates", **_BULK_TEMPLATES_SPEC)
async def delete_templates(request: Request) -> Response:
    """Delete job templates and all their instances."""
    return await _apply_in_bulk(request, check_delete_template, delete_template)


@router.post("/v1/jobs/archiveJobTemplates", **_BULK_TEMPLATES_SPEC)
async def archive_templates(request: Request) -> Response:
    """Archive job templates."""
    return await _apply_in_bulk(request, lambda backend, job: check_template(job), archive_template)


async def _apply_in_bulk(
    request: Request, check: Callable[[ControlHubBackend, Job], None], apply: Callable[[ControlHubBackend, Job], None]
) -> Response:
    backend = get_backend(request)
    jobs = backend.apply_in_bulk(
        await read_ids(request), lambda job: check(backend, job), lambda job: apply(backend, job)
    )
    if backend.variants.bulk_body == "empty":
        return empty_response()
    return json_response([job_body(backend, job, backend.clock.now()) for job in jobs])


_JOBS = array_of(schema_ref("JobJson"))
_VERIFIED = (boolean_param("ciVerified"),)


def _bodies(backend: ControlHubBackend, jobs: list[Job]) -> list[Any]:
    now = backend.clock.now()
    return [job_body(backend, job, now) for job in jobs]


async def _read_list(request: Request) -> list[Any]:
    body = await read_json(request)
    if not isinstance(body, list):
        raise bad_request("The body must be a JSON array of jobs.")
    return body


@router.put("/v1/jobs", **route_spec(schema_ref("JobJson"), body=json_body(NewJob), errors=(400,)))
async def create_job(request: Request) -> Response:
    """Create a job or a job template; names need not be unique."""
    backend, body = get_backend(request), await read_json(request)
    check_body(NewJob, body)
    job = backend.add_job(new_job_seed(backend, body))
    return json_response(job_body(backend, job, backend.clock.now()))


@router.put("/v1/jobs/createJobs", **route_spec(_JOBS, body=json_body(array_of(schema_ref("NewJob"))), errors=(400,)))
async def create_jobs(request: Request) -> Response:
    """Create many jobs, or none if one of them is invalid."""
    backend = get_backend(request)
    bodies = await _read_list(request)
    for body in bodies:
        check_body(NewJob, body)
    seeds = [new_job_seed(backend, body) for body in bodies]
    return json_response(_bodies(backend, [backend.add_job(seed) for seed in seeds]))


@router.post("/v1/job/{job_id}", **route_spec(schema_ref("JobJson"), body=json_body(JobUpdate), errors=(400, 404)))
async def update_job(request: Request, job_id: str) -> Response:
    """
    Update a job or a job template.

    Running instances of a template are not restarted, and ``updateDynamicParameters`` has no effect.
    """
    backend = get_backend(request)
    job = backend.job(job_id)
    check_update(backend, job)
    body = await read_json(request)
    check_body(JobUpdate, body)
    backend.change_job(job, **read_changes(backend, job, body))
    return json_response(job_body(backend, job, backend.clock.now()))


@router.post(
    "/v1/jobs/updateJobs",
    **route_spec(_JOBS, body=json_body(array_of(schema_ref("BulkJobUpdate"))), errors=(400, 404), may_be_empty=True),
)
async def update_jobs(request: Request) -> Response:
    """Update many jobs."""
    backend = get_backend(request)
    bodies: dict[str, Any] = {}
    for body in await _read_list(request):
        job_id = body.get("id") if isinstance(body, dict) else None
        if not isinstance(job_id, str):
            raise bad_request("Every job in the body must have an id.")
        bodies[job_id] = body
    changes: dict[str, dict[str, Any]] = {}

    def check(job: Job) -> None:
        check_update(backend, job)
        check_body(BulkJobUpdate, bodies[job.id])
        changes[job.id] = read_changes(backend, job, bodies[job.id])

    jobs = backend.apply_in_bulk(list(bodies), check, lambda job: backend.change_job(job, **changes[job.id]))
    return empty_response() if backend.variants.bulk_body == "empty" else json_response(_bodies(backend, jobs))


def _upgrade(request: Request, job_ids: list[str]) -> Response:
    """Upgrade jobs. With ``ciVerified``, nothing changes: the sandbox has no versions verified by CI."""
    backend = get_backend(request)
    verified_only = Query(request).boolean("ciVerified")
    jobs = backend.apply_in_bulk(
        job_ids,
        lambda job: check_upgrade(backend, job),
        lambda job: None if verified_only else upgrade(backend, job),
    )
    return json_response(_bodies(backend, jobs))


@router.post("/v1/jobs/upgradeJobs", **route_spec(_JOBS, query=_VERIFIED, body=json_body(JobIds), errors=(400, 404)))
async def upgrade_jobs(request: Request) -> Response:
    """Upgrade many jobs to the latest versions of their pipelines."""
    return _upgrade(request, await read_ids(request))


@router.post("/v1/job/{job_id}/upgrade", **route_spec(_JOBS, query=_VERIFIED, errors=(400, 404)))
async def upgrade_job(request: Request, job_id: str) -> Response:
    """Upgrade a job to the latest version of its pipeline; the response is a list."""
    return _upgrade(request, [job_id])


@router.post(
    "/v1/job/{job_id}/duplicate", **route_spec(_JOBS, body=json_body(Duplication), errors=(400, 404), may_be_empty=True)
)
async def duplicate_job(request: Request, job_id: str) -> Response:
    """Duplicate a job or a job template, once or several times."""
    backend = get_backend(request)
    job, body = backend.job(job_id), await read_json(request)
    check_body(Duplication, body)
    copies = duplicate(backend, job, body)
    return empty_response() if backend.variants.duplicate_body == "empty" else json_response(_bodies(backend, copies))
