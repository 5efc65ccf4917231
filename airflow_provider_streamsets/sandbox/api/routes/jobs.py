"""Job Runner: jobs and job templates: their permissions, changes, actions and deletion, and starts of instances."""

from __future__ import annotations

from collections.abc import Callable
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
)
from airflow_provider_streamsets.sandbox.api.requests import Backend, Query, parse_body, read_ids, read_json
from airflow_provider_streamsets.sandbox.api.responses import empty_response, json_response, page_response
from airflow_provider_streamsets.sandbox.api.validation import check_body
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
    nullable,
    page_of,
    route_spec,
)
from airflow_provider_streamsets.sandbox.serializers.jobs import acl_body, job_body, template_run_body
from airflow_provider_streamsets.sandbox.serializers.runs import current_status_body

router = APIRouter(prefix="/jobrunner/rest")


_JOBS = array_of("JobJson")
_VERIFIED = (boolean_param("ciVerified"),)

_Check = Callable[[ControlHubBackend, Job], None]
_Apply = Callable[[ControlHubBackend, Job], object]
_Serialize = Callable[[ControlHubBackend, Job, int], Json | None]


def _bodies(backend: Backend, jobs: list[Job], serialize: _Serialize = job_body) -> list[Json | None]:
    now = backend.clock.now()
    return [serialize(backend, job, now) for job in jobs]


def _job_response(backend: Backend, job: Job) -> Response:
    return json_response(job_body(backend, job, backend.clock.now()))


def _bulk_response(backend: Backend, jobs: list[Job], serialize: _Serialize = job_body) -> Response:
    return (
        empty_response() if backend.variants.bulk_body == "empty" else json_response(_bodies(backend, jobs, serialize))
    )


async def _apply_in_bulk(
    request: Request, backend: Backend, check: _Check, apply: _Apply, serialize: _Serialize = job_body
) -> Response:
    jobs = backend.apply_in_bulk(
        await read_ids(request), lambda job: check(backend, job), lambda job: apply(backend, job)
    )
    return _bulk_response(backend, jobs, serialize)


@router.get("/v1/job/{job_id}", **route_spec("JobJson", errors=(404,)))
async def read_job(backend: Backend, job_id: str) -> Response:
    """Return a job or a job template."""
    return _job_response(backend, backend.readable_job(job_id))


@router.get("/v1/job/{job_id}/labels", **route_spec(STRINGS, errors=(404,)))
async def read_job_labels(backend: Backend, job_id: str) -> Response:
    """Return the engine labels of a job."""
    return json_response(list(backend.job(job_id).seed.labels))


@router.get("/v1/job/{job_id}/acl", **route_spec("AclJson", errors=(404,)))
async def read_job_acl(backend: Backend, job_id: str) -> Response:
    """Return the permissions of a job."""
    return json_response(acl_body(backend, backend.job(job_id)))


@router.post("/v1/job/{job_id}/acl", **route_spec("AclJson", body=Acl, errors=(400, 404)))
async def update_job_acl(request: Request, backend: Backend, job_id: str) -> Response:
    """Replace the permissions of a job."""
    job = backend.job(job_id)
    body = await read_json(request)
    check_body(Acl, body)
    change_permissions(backend, job, body)
    return json_response(acl_body(backend, job))


@router.get("/v1/{job_id}/validateAccess", **route_spec(errors=(404,)))
async def validate_access(backend: Backend, job_id: str) -> Response:
    """Check that the caller may read a job."""
    backend.job(job_id)
    return empty_response()


@router.post(
    "/v1/job/{job_id}/start",
    **route_spec(
        "JobStatusJson",
        body=RuntimeParameters,
        body_required=False,
        errors=(400, 404),
        may_be_empty=True,
    ),
)
async def start_job(request: Request, backend: Backend, job_id: str) -> Response:
    """Start a job, optionally with runtime parameters."""
    parameters = (await parse_body(request, RuntimeParameters)).root
    job = backend.job(job_id)
    backend.start(job, parameters)
    return empty_response() if backend.variants.start_body == "empty" else _status_response(backend, job)


@router.post("/v1/jobs/balanceSDCs", **route_spec(body=EngineIds, errors=(400, 404)))
async def balance_engines(request: Request, backend: Backend) -> Response:
    """Balance all active jobs on the given engines."""
    balancing.balance_engines(backend, await read_ids(request, EngineIds))
    return empty_response()


def _status_response(backend: Backend, job: Job) -> Response:
    body = current_status_body(backend, job, backend.clock.now())
    return empty_response() if body is None else json_response(body)


def _add_single_route(path: str, summary: str, apply: _Apply) -> None:
    async def act_on_job(backend: Backend, job_id: str) -> Response:
        job = backend.job(job_id)
        apply(backend, job)
        return _status_response(backend, job)

    spec = route_spec("JobStatusJson", errors=(400, 404), may_be_empty=True)
    router.post(f"/v1/job/{{job_id}}/{path}", summary=summary, **spec)(act_on_job)


def _add_bulk_route(path: str, summary: str, check: _Check, apply: _Apply) -> None:
    async def act_on_jobs(request: Request, backend: Backend) -> Response:
        return await _apply_in_bulk(request, backend, check, apply, current_status_body)

    spec = route_spec(array_of(nullable("JobStatusJson")), body=JobIds, errors=(400, 404), may_be_empty=True)
    router.post(f"/v1/jobs/{path}", summary=summary, **spec)(act_on_jobs)


_ACTIONS: tuple[tuple[str, str, str, _Check, _Apply], ...] = (
    ("stop", "stopJobs", "Stop", ControlHubBackend.check_stop, ControlHubBackend.stop),
    ("forceStop", "forceStopJobs", "Stop without waiting for the engine", ControlHubBackend.check_stop,
     ControlHubBackend.force_stop),
    ("acknowledgeError", "acknowledgeErrors", "Acknowledge an error", ControlHubBackend.check_acknowledge,
     ControlHubBackend.acknowledge),
    ("sync", "syncJobs", "Synchronize while active", ControlHubBackend.check_active, ControlHubBackend.synchronize),
    ("balance", "balanceJobs", "Balance while active", balancing.check_balance, balancing.balance_job),
)  # fmt: skip
for single, bulk, summary, check_action, action in _ACTIONS:
    _add_single_route(single, summary, action)
    _add_bulk_route(bulk, summary, check_action, action)
_add_bulk_route("startJobs", "Start", ControlHubBackend.check_start, ControlHubBackend.start)
_add_single_route("resetErrorInfo", "Clear the errors reported by engines", ControlHubBackend.reset_error_info)


_TEMPLATE_START_SPEC: Json = {
    "query": (boolean_param("inheritPermissions"),), "body": TemplateStart, "errors": (400, 404),
}  # fmt: skip
_TEMPLATE_HISTORY = (boolean_param("withTotalCount"), *PAGE)


async def _start_instances(
    request: Request, backend: Backend, query: Query, template_id: str, *, deferred: bool
) -> list[Job]:
    template, body = backend.job(template_id), await read_json(request)
    check_template(template)
    check_body(TemplateStart, body)
    return start_instances(
        backend,
        template,
        body,
        inherit_permissions=query.boolean("inheritPermissions") or False,
        deferred=deferred,
    )


@router.post(
    "/v1/job/{template_id}/createAndStartJobInstances",
    **route_spec(array_of("JobStatusJson"), **_TEMPLATE_START_SPEC),
)
async def start_template(request: Request, backend: Backend, query: Query, template_id: str) -> Response:
    """Create and start instances of a template and return their statuses."""
    jobs = await _start_instances(request, backend, query, template_id, deferred=False)
    return json_response(_bodies(backend, jobs, current_status_body))


@router.post(
    "/v1/job/{template_id}/createAndStartJobInstancesAsync",
    **route_spec(array_of("JobJson"), **_TEMPLATE_START_SPEC),
)
async def start_template_async(request: Request, backend: Backend, query: Query, template_id: str) -> Response:
    """Create instances of a template and return them; they start after a short delay."""
    return json_response(_bodies(backend, await _start_instances(request, backend, query, template_id, deferred=True)))


@router.get(
    "/v1/job/{template_id}/runHistory",
    **route_spec(page_of("JobTemplateRunHistoryJson"), query=_TEMPLATE_HISTORY, errors=(400, 404)),
)
async def read_template_history(backend: Backend, query: Query, template_id: str) -> Response:
    """Return the starts of instances of a template, newest first."""
    template = backend.job(template_id)
    check_template(template)
    wrapped = query.boolean("withTotalCount")
    runs = template.template_runs[::-1]
    return page_response(query, runs, lambda run: template_run_body(template, run), wrapped=wrapped is None or wrapped)


_BULK_DELETION_SPEC = route_spec(_JOBS, body=JobIds, errors=(400, 404), may_be_empty=True)
_BULK_TEMPLATES_SPEC = route_spec(_JOBS, body=TemplateIds, errors=(400, 404), may_be_empty=True)


@router.delete("/v2/job/{job_id}", **route_spec("JobJson", errors=(400, 404)))
async def delete_job(backend: Backend, job_id: str) -> Response:
    """Delete a job and return it."""
    job = backend.job(job_id)
    delete(backend, job)
    return _job_response(backend, job)


@router.delete("/v1/job/{job_id}", **route_spec(errors=(400, 404)))
async def delete_job_v1(backend: Backend, job_id: str) -> Response:
    """Delete a job; older version of the call, without a response body."""
    delete(backend, backend.job(job_id))
    return empty_response()


@router.post("/v1/jobs/deleteJobs", **_BULK_DELETION_SPEC)
async def delete_jobs(request: Request, backend: Backend) -> Response:
    """Delete many jobs."""
    return await _apply_in_bulk(request, backend, check_delete, delete)


@router.post("/v1/jobs/deleteJobTemplates", **_BULK_TEMPLATES_SPEC)
async def delete_templates(request: Request, backend: Backend) -> Response:
    """Delete job templates and all their instances."""
    return await _apply_in_bulk(request, backend, check_delete_template, delete_template)


@router.post("/v1/jobs/archiveJobTemplates", **_BULK_TEMPLATES_SPEC)
async def archive_templates(request: Request, backend: Backend) -> Response:
    """Archive job templates."""
    return await _apply_in_bulk(request, backend, lambda _, job: check_template(job), archive_template)


async def _read_list(request: Request) -> list[Any]:
    body = await read_json(request)
    if not isinstance(body, list):
        raise bad_request("The body must be a JSON array of jobs.")
    return body


@router.put("/v1/jobs", **route_spec("JobJson", body=NewJob, errors=(400,)))
async def create_job(request: Request, backend: Backend) -> Response:
    """Create a job or a job template; names need not be unique."""
    body = await read_json(request)
    check_body(NewJob, body)
    job = backend.add_job(new_job_seed(backend, body))
    return _job_response(backend, job)


@router.put("/v1/jobs/createJobs", **route_spec(_JOBS, body=array_of(NewJob), errors=(400,)))
async def create_jobs(request: Request, backend: Backend) -> Response:
    """Create many jobs, or none if one of them is invalid."""
    bodies = await _read_list(request)
    for body in bodies:
        check_body(NewJob, body)
    seeds = [new_job_seed(backend, body) for body in bodies]
    return json_response(_bodies(backend, [backend.add_job(seed) for seed in seeds]))


@router.post("/v1/job/{job_id}", **route_spec("JobJson", body=JobUpdate, errors=(400, 404)))
async def update_job(request: Request, backend: Backend, job_id: str) -> Response:
    """
    Update a job or a job template.

    Running instances of a template are not restarted, and ``updateDynamicParameters`` has no effect.
    """
    job = backend.job(job_id)
    check_update(backend, job)
    body = await read_json(request)
    check_body(JobUpdate, body)
    backend.change_job(job, **read_changes(backend, job, body))
    return _job_response(backend, job)


@router.post(
    "/v1/jobs/updateJobs",
    **route_spec(_JOBS, body=array_of(BulkJobUpdate), errors=(400, 404), may_be_empty=True),
)
async def update_jobs(request: Request, backend: Backend) -> Response:
    """Update many jobs."""
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
    return _bulk_response(backend, jobs)


def _upgrade(backend: Backend, query: Query, job_ids: list[str]) -> Response:
    """Upgrade jobs. With ``ciVerified``, nothing changes: the sandbox has no versions verified by CI."""
    verified_only = query.boolean("ciVerified")
    jobs = backend.apply_in_bulk(
        job_ids,
        lambda job: check_upgrade(backend, job),
        lambda job: None if verified_only else upgrade(backend, job),
    )
    return json_response(_bodies(backend, jobs))


@router.post("/v1/jobs/upgradeJobs", **route_spec(_JOBS, query=_VERIFIED, body=JobIds, errors=(400, 404)))
async def upgrade_jobs(request: Request, backend: Backend, query: Query) -> Response:
    """Upgrade many jobs to the latest versions of their pipelines."""
    return _upgrade(backend, query, await read_ids(request))


@router.post("/v1/job/{job_id}/upgrade", **route_spec(_JOBS, query=_VERIFIED, errors=(400, 404)))
async def upgrade_job(backend: Backend, query: Query, job_id: str) -> Response:
    """Upgrade a job to the latest version of its pipeline; the response is a list."""
    return _upgrade(backend, query, [job_id])


@router.post("/v1/job/{job_id}/duplicate", **route_spec(_JOBS, body=Duplication, errors=(400, 404), may_be_empty=True))
async def duplicate_job(request: Request, backend: Backend, job_id: str) -> Response:
    """Duplicate a job or a job template, once or several times."""
    job, body = backend.job(job_id), await read_json(request)
    check_body(Duplication, body)
    copies = duplicate(backend, job, body)
    return empty_response() if backend.variants.duplicate_body == "empty" else json_response(_bodies(backend, copies))
