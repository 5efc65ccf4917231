"""Job Runner: finding, reading and acting on jobs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_provider_streamsets.sandbox import saql
from airflow_provider_streamsets.sandbox.http import (
    Query,
    answer,
    nothing,
    page,
    read_ids,
    read_json,
    search_page,
    world_of,
)
from airflow_provider_streamsets.sandbox.lifecycle import Run
from airflow_provider_streamsets.sandbox.problems import ProblemError, bad_request
from airflow_provider_streamsets.sandbox.schemas import complete
from airflow_provider_streamsets.sandbox.wire import (
    acl_body,
    current_status_body,
    event_bodies,
    job_body,
    job_tag_body,
    log_message_bodies,
    metrics_body,
    pipeline_status_bodies,
    status_body,
    unstarted_status_body,
)
from airflow_provider_streamsets.sandbox.world import Job, World

router = APIRouter(prefix="/jobrunner/rest")

COLORS = ("GRAY", "GREEN", "RED")
STATUSES = ("INACTIVE", "ACTIVATING", "ACTIVATION_ERROR", "ACTIVE", "DEACTIVATING", "INACTIVE_ERROR")
ENGINE_TYPES = ("COLLECTOR", "TRANSFORMER", "EDGE", "SNOWPARK")
SEARCH_OPERATIONS = ("EQUALS", "STARTS_WITH")
START_STATUS_LAG_MS = 500


# -- finding


def _selected(request: Request, *, by_status: bool = False) -> list[Job]:
    """Return the jobs that the filters of a list call select, in the order it asks for."""
    world, query = world_of(request), Query(request)
    now = world.clock.now()
    if query.flag("removed") or query.flag("archived") or query.flag("draftRun") or query.flag("edge"):
        return []
    if (query.choice("executorType", ENGINE_TYPES) or "COLLECTOR") != "COLLECTOR":
        return []
    jobs = list(world.jobs.values())
    status = query.choice("jobStatus", STATUSES)
    if by_status:
        jobs = [job for job in jobs if world.status(job, now) == (status or "INACTIVE")]
    else:
        if status:
            jobs = [job for job in jobs if world.status(job, now) == status]
        jobs = _by_kind(world, query, jobs)
        color, label = query.choice("jobStatusColor", COLORS), query.text("jobLabel")
        if color:
            jobs = [job for job in jobs if (current_status_body(world, job, now) or {}).get("color") == color]
        if label:
            jobs = [job for job in jobs if label in job.seed.labels]
        template_id = query.text("templateJobId")
        if template_id:
            jobs = [job for job in jobs if job.seed.template_id == template_id]
    text = query.text("jobSearchText")
    if text:
        starts = query.choice("jobSearchOperation", SEARCH_OPERATIONS) == "STARTS_WITH"
        jobs = [job for job in jobs if (job.seed.name.startswith(text) if starts else job.seed.name == text)]
    filter_text = query.text("filterText")
    if filter_text:
        exact = world.variants.filter_text == "exact"
        jobs = [
            job
            for job in jobs
            if (job.seed.name == filter_text if exact else filter_text.lower() in job.seed.name.lower())
        ]
    tag = query.text("jobTag")
    if tag:
        jobs = [job for job in jobs if tag in {f"{own}:{world.organization}" for own in job.seed.tags}]
    return _ordered(world, query, jobs)


def _by_kind(world: World, query: Query, jobs: list[Job]) -> list[Job]:
    template = query.flag("jobTemplate")
    if template is None and world.variants.job_template_omitted == "all":
        return jobs
    return [job for job in jobs if job.seed.is_template is bool(template)]


def _ordered(world: World, query: Query, jobs: list[Job]) -> list[Job]:
    keys: dict[str, Callable[[Job], Any]] = {
        "NAME": lambda job: job.seed.name,
        "PIPELINE_NAME": lambda job: job.seed.pipeline.name,
        "PIPELINE_COMMIT_LABEL": lambda job: job.seed.version.version,
        "STATUS": lambda job: world.status(job) or "",
        "CREATOR": lambda job: world.user,
        "CREATE_TIME": lambda job: -job.seed.created_ago,
        "DELETE_TIME": lambda job: 0,
        "LAST_MODIFIED_ON": lambda job: -job.seed.created_ago,
        "LAST_MODIFIED_BY": lambda job: world.user,
    }
    key = keys[query.choice("orderBy", tuple(keys)) or "NAME"]
    descending = query.choice("order", ("ASC", "DESC")) == "DESC"
    return sorted(jobs, key=key, reverse=descending)


def _body_maker(world: World) -> Callable[[Job], Any]:
    now = world.clock.now()
    return lambda job: job_body(world, job, now)


@router.get("/v1/jobs")
async def list_jobs(request: Request) -> Response:
    """List jobs."""
    return page(Query(request), _selected(request), _body_maker(world_of(request)))


@router.get("/v1/jobs/byStatus")
async def list_jobs_by_status(request: Request) -> Response:
    """List the jobs of one status."""
    return page(Query(request), _selected(request, by_status=True), _body_maker(world_of(request)))


@router.get("/v1/jobs/forPipelineCommit")
async def list_jobs_of_commit(request: Request) -> Response:
    """List the jobs that run a pipeline version."""
    commit = Query(request).text("pipelineCommitId")
    if commit is None:
        raise bad_request("pipelineCommitId is missing")
    jobs = [job for job in _selected(request) if job.seed.version.commit_id == commit]
    return page(Query(request), jobs, _body_maker(world_of(request)))


@router.get("/v1/metrics/problematicJobs")
async def list_problematic_jobs(request: Request) -> Response:
    """List the jobs whose color is red."""
    world = world_of(request)
    now = world.clock.now()
    jobs = [job for job in _selected(request) if (current_status_body(world, job, now) or {}).get("color") == "RED"]
    return page(Query(request), jobs, _body_maker(world), wrapped=True)


@router.post("/v1/jobs")
async def read_jobs(request: Request) -> Response:
    """Return the jobs with some ids; ids that nobody has are left out."""
    world = world_of(request)
    ids = await read_ids(request)
    if world.variants.jobs_by_ids == "asked":
        jobs = [world.jobs[job_id] for job_id in dict.fromkeys(ids) if job_id in world.jobs]
    else:
        jobs = [job for job_id, job in world.jobs.items() if job_id in set(ids)]
    return answer([_body_maker(world)(job) for job in jobs])


@router.get("/v1/jobs/count")
async def count_jobs(request: Request) -> Response:
    """Count the jobs."""
    return answer({"count": 0 if Query(request).flag("removed") else len(world_of(request).jobs)})


@router.get("/v1/jobs/tags")
async def list_job_tags(request: Request) -> Response:
    """List the tags that jobs have, or the children of one tag."""
    world, query = world_of(request), Query(request)
    texts = {tag for job in world.jobs.values() for tag in job.seed.tags}
    texts |= {tag.rpartition("/")[0] for tag in texts} - {""}
    tags = [{**job_tag_body(world, tag), "optimisticLockVersion": 0} for tag in sorted(texts)]
    parent = query.text("parentId")
    tags = [complete("JobTag", tag) for tag in tags if tag["parentId"] == parent]
    if query.choice("order", ("ASC", "DESC")) == "DESC":
        tags.reverse()
    return page(query, tags, lambda tag: tag)


@router.post("/v1/job/jobTagsBulk")
async def read_job_tags(request: Request) -> Response:
    """Return the tags of many jobs."""
    world = world_of(request)
    return answer(
        {
            job_id: [job_tag_body(world, tag) for tag in world.jobs[job_id].seed.tags]
            for job_id in await read_ids(request)
            if job_id in world.jobs
        }
    )


@router.get("/v1/jobs/labels")
async def list_job_labels(request: Request) -> Response:
    """List the engine labels that jobs ask for."""
    return answer(sorted({label for job in world_of(request).jobs.values() for label in job.seed.labels}))


@router.get("/v1/metrics/jobCountByStatus")
async def count_jobs_by_status(request: Request) -> Response:
    """Count the jobs by status."""
    world = world_of(request)
    now = world.clock.now()
    jobs = [job for job in world.jobs.values() if not job.seed.is_template]
    counts: Counter[str] = Counter()
    for job in jobs:
        status = current_status_body(world, job, now)
        if status:
            counts[status["status"]] += 1
            counts[f"{status['status']}_{status['color']}"] += 1
    names = ("ACTIVE", "ACTIVE_GREEN", "ACTIVE_RED", "ACTIVATING", "DEACTIVATING", "INACTIVE", "INACTIVE_ERROR")
    entries = [{"status": name, "count": counts[name]} for name in names]
    if counts["ACTIVATION_ERROR"]:
        entries.append({"status": "ACTIVATION_ERROR", "count": counts["ACTIVATION_ERROR"]})
    return answer(
        complete("PaginationWrapperJson", {"totalCount": len(entries), "offset": 0, "len": -1, "data": entries})
    )


@router.get("/v1/jobs/draftRunJobForPipelineId")
async def read_draft_run(request: Request) -> Response:
    """Return the draft run of a pipeline: there are none."""
    return nothing()


def _job_properties(world: World, job: Job, now: int) -> dict[str, Any]:
    body = job_body(world, job, now)
    status = body["currentJobStatus"] or {}
    reported = pipeline_status_bodies(world, job, job.latest, now) if job.latest else []
    return {
        "id": job.id,
        "name": job.seed.name,
        "description": body["description"],
        "status": status.get("status"),
        "color": status.get("color"),
        "created_by": body["creator"],
        "created_on": body["createTime"],
        "modified_by": body["lastModifiedBy"],
        "modified_on": body["lastModifiedOn"],
        "engine_label": list(job.seed.labels),
        "engine_type": body["executorType"],
        "failover": str(job.seed.failover),
        "attached_to_template": str(job.seed.template_id is not None),
        "archived": "False",
        "instances": job.seed.instances,
        "pipeline_name": job.seed.pipeline.name,
        "pipeline_status": [entry["status"] for entry in reported],
        "pipeline_version": job.seed.version.version,
        "tag": list(job.seed.tags),
    }


_JOB_PROPERTIES = (
    "id", "name", "description", "status", "color", "created_by", "created_on", "modified_by", "modified_on",
    "engine_label", "engine_type", "failover", "attached_to_template", "archived", "instances", "pipeline_name",
    "pipeline_status", "pipeline_version", "tag",
)  # fmt: skip


def _searched(request: Request, *, templates: bool) -> Response:
    world, query = world_of(request), Query(request)
    now = world.clock.now()
    jobs = [job for job in world.jobs.values() if job.seed.is_template is templates]
    search = query.text("search")
    if search:
        matches = saql.parse(search, _JOB_PROPERTIES)
        jobs = [job for job in jobs if matches(_job_properties(world, job, now))]
    name, descending = _search_order(query, "name", _JOB_PROPERTIES)
    jobs.sort(key=lambda job: str(_job_properties(world, job, now)[name] or ""), reverse=descending)
    return search_page(request, jobs, lambda job: job_body(world, job, now))


def _search_order(query: Query, default: str, known: tuple[str, ...]) -> tuple[str, bool]:
    # A plus sign in a query is a blank once it is decoded.
    text = (query.text("orderBy") or default).strip()
    name = text.rstrip("+-")
    if name not in known:
        raise bad_request(f"the sandbox cannot order by '{name}'")
    return name, text.endswith("-")


@router.get("/v1/saql/jobs/search")
async def search_jobs(request: Request) -> Response:
    """Search for jobs."""
    return _searched(request, templates=False)


@router.get("/v1/saql/jobs/search/templates")
async def search_templates(request: Request) -> Response:
    """Search for job templates."""
    return _searched(request, templates=True)


@router.get("/v1/saql/jobs/search/draftRuns")
async def search_draft_runs(request: Request) -> Response:
    """Search for draft runs: there are none."""
    no_jobs: list[Job] = []
    return search_page(request, no_jobs, _body_maker(world_of(request)))


# -- one job; the fixed paths below /job/ come before those with an id


@router.get("/v1/job/logMessages")
async def read_log_messages(request: Request) -> Response:
    """Return log messages about a job's runs."""
    world, query = world_of(request), Query(request)
    job_id, count = query.text("jobId"), query.number("runCount", 0)
    if job_id is None:
        raise bad_request("jobId is missing")
    job = world.job(job_id)
    runs = [run for run in job.runs if count in (0, run.run_count)]
    messages = [body for run in runs for body in log_message_bodies(world, job, run, world.clock.now())]
    component = query.text("component")
    if component:
        messages = [message for message in messages if message["component"] == component]
    if query.choice("order", ("ASC", "DESC")) != "ASC":
        messages.reverse()
    if world.variants.log_messages == "empty":
        messages = []
    return page(query, messages, lambda message: message, wrapped=False)


@router.get("/v1/job/{job_id}")
async def read_job(request: Request, job_id: str) -> Response:
    """Return a job or a job template."""
    world = world_of(request)
    return answer(job_body(world, world.job(job_id), world.clock.now()))


@router.get("/v1/job/{job_id}/labels")
async def read_job_labels(request: Request, job_id: str) -> Response:
    """Return the engine labels of a job."""
    return answer(list(world_of(request).job(job_id).seed.labels))


@router.get("/v1/job/{job_id}/acl")
async def read_job_acl(request: Request, job_id: str) -> Response:
    """Return who may do what with a job."""
    world = world_of(request)
    return answer(acl_body(world, world.job(job_id)))


@router.get("/v1/{job_id}/validateAccess")
async def validate_access(request: Request, job_id: str) -> Response:
    """Check that the caller may read a job."""
    world_of(request).job(job_id)
    return nothing()


# -- status and history


@router.get("/v1/job/{job_id}/currentStatus")
async def read_current_status(request: Request, job_id: str) -> Response:
    """Return the status of a job's latest run."""
    world = world_of(request)
    job, now = world.job(job_id), world.clock.now()
    body = _current_status_body(world, job, now)
    if body is not None:
        return answer(body)
    never_run = world.variants.never_run_status
    if never_run == "empty":
        return nothing()
    return answer(None if never_run == "null" else unstarted_status_body(world, job, now))


def _current_status_body(world: World, job: Job, now: int) -> dict[str, Any] | None:
    lags = world.variants.start_status_lag == "previous"
    # In wall time whatever the time scale, so that clients get to see it.
    if lags and job.latest is not None and now - job.latest.started < START_STATUS_LAG_MS:
        return status_body(world, job, job.runs[-2], now) if len(job.runs) > 1 else None
    return current_status_body(world, job, now)


@router.post("/v1/jobs/status")
async def read_statuses(request: Request) -> Response:
    """Return the current statuses of many jobs."""
    world = world_of(request)
    now = world.clock.now()
    statuses: dict[str, Any] = {}
    for job_id in await read_ids(request):
        job = world.jobs.get(job_id)
        body = _current_status_body(world, job, now) if job else None
        if body is not None or world.variants.bulk_missing == "null":
            statuses[job_id] = body
    return answer(statuses)


@router.get("/v1/jobs/status")
async def list_statuses(request: Request) -> Response:
    """Return the current statuses of all jobs, or of a page of them."""
    world, query = world_of(request), Query(request)
    now = world.clock.now()
    bodies = {job.id: _current_status_body(world, job, now) for job in world.jobs.values()}
    known = {job_id: body for job_id, body in bodies.items() if body is not None}
    offset, length = query.number("offset", 0), query.number("len", -1)
    ids = list(known)[offset : None if length == -1 else offset + length]
    statuses = {job_id: known[job_id] for job_id in ids}
    if query.flag("withWrapper"):
        return answer({"totalCount": len(known), "offset": offset, "len": length, "data": statuses})
    return answer(statuses)


@router.get("/v1/job/{job_id}/history")
async def read_history(request: Request, job_id: str) -> Response:
    """Return the runs of a job, the newest first."""
    world = world_of(request)
    job, now = world.job(job_id), world.clock.now()
    return page(Query(request), job.runs[::-1], lambda run: status_body(world, job, run, now))


_RUN_PROPERTIES = (
    "id", "previous_id", "pipeline_commit_id", "run_count", "color", "status", "start_time", "finish_time",
    "error_message", "input_record_count", "output_record_count", "error_record_count", "current_retry_count",
)  # fmt: skip


@router.get("/v1/saql/jobs/search/{job_id}/runs")
async def search_runs(request: Request, job_id: str) -> Response:
    """Search the runs of a job."""
    world, query = world_of(request), Query(request)
    job, now = world.job(job_id), world.clock.now()

    def properties(run: Run) -> dict[str, Any]:
        body = status_body(world, job, run, now)
        previous = job.runs[run.run_count - 2].id if run.run_count > 1 else None
        return {
            "id": run.id,
            "previous_id": previous,
            "pipeline_commit_id": body["pipelineCommitId"],
            "run_count": run.run_count,
            "color": body["color"],
            "status": body["status"],
            "start_time": body["startTime"],
            "finish_time": body["finishTime"],
            "error_message": body["errorMessage"],
            "input_record_count": body["inputRecordCount"],
            "output_record_count": body["outputRecordCount"],
            "error_record_count": body["errorRecordCount"],
            "current_retry_count": 0,
        }

    runs = list(job.runs)
    search = query.text("search")
    if search:
        matches = saql.parse(search, _RUN_PROPERTIES)
        runs = [run for run in runs if matches(properties(run))]
    ordered_by = query.text("orderBy")
    name, descending = _search_order(query, "run_count", _RUN_PROPERTIES)
    if not ordered_by or ordered_by.strip() == "run_count":
        descending = world.variants.runs_order == "desc"
    values = {run.id: properties(run)[name] for run in runs}
    runs.sort(
        key=lambda run: values[run.id] if isinstance(values[run.id], int) else str(values[run.id] or ""),
        reverse=descending,
    )
    return search_page(request, runs, lambda run: status_body(world, job, run, now))


@router.get("/v1/job/{run_id}/jobStatusHistory")
async def read_run_events(request: Request, run_id: str) -> Response:
    """Return the events of a run, whose own id the path takes."""
    world = world_of(request)
    return page(Query(request), event_bodies(world, world.run(run_id), world.clock.now()), lambda event: event)


@router.get("/v1/metrics/job/{job_id}")
async def read_run_metrics(request: Request, job_id: str) -> Response:
    """Return the saved metrics of a run."""
    world, query = world_of(request), Query(request)
    job, count = world.job(job_id), query.number("runCount", 0)
    run = job.latest if count == 0 else next((run for run in job.runs if run.run_count == count), None)
    counts = world.saved_counts(run, world.clock.now()) if run else None
    if run is None or counts is None:
        raise ProblemError(404, "JOBRUNNER_03", f"Job '{job.seed.name}' has no metrics of this run")
    return answer(metrics_body(world, job, run, counts))


# -- actions


def _acted_on(request: Request, job: Job) -> Response:
    world = world_of(request)
    body = current_status_body(world, job, world.clock.now())
    return nothing() if body is None else answer(body)


async def _bulk(request: Request, check: Callable[[Job], None], act: Callable[[Job], object]) -> Response:
    world = world_of(request)
    jobs = world.in_bulk(await read_ids(request), check, act)
    if world.variants.bulk_body == "empty":
        return nothing()
    return answer([current_status_body(world, job, world.clock.now()) for job in jobs])


@router.post("/v1/job/{job_id}/start")
async def start_job(request: Request, job_id: str) -> Response:
    """Start a job, with runtime parameters or without."""
    world = world_of(request)
    parameters = await read_json(request)
    if parameters is not None and not isinstance(parameters, dict):
        raise bad_request("the runtime parameters of a start must be a JSON object")
    job = world.job(job_id)
    world.start(job, parameters)
    return nothing() if world.variants.start_body == "empty" else _acted_on(request, job)


@router.post("/v1/jobs/startJobs")
async def start_jobs(request: Request) -> Response:
    """Start many jobs."""
    world = world_of(request)
    return await _bulk(request, world.check_start, world.start)


@router.post("/v1/job/{job_id}/stop")
async def stop_job(request: Request, job_id: str) -> Response:
    """Stop a job."""
    world = world_of(request)
    job = world.job(job_id)
    world.stop(job)
    return _acted_on(request, job)


@router.post("/v1/jobs/stopJobs")
async def stop_jobs(request: Request) -> Response:
    """Stop many jobs."""
    world = world_of(request)
    return await _bulk(request, world.check_stop, world.stop)


@router.post("/v1/job/{job_id}/forceStop")
async def force_stop_job(request: Request, job_id: str) -> Response:
    """Stop a job without waiting for its engine."""
    world = world_of(request)
    job = world.job(job_id)
    world.force_stop(job)
    return _acted_on(request, job)


@router.post("/v1/jobs/forceStopJobs")
async def force_stop_jobs(request: Request) -> Response:
    """Stop many jobs without waiting for their engines."""
    world = world_of(request)
    return await _bulk(request, world.check_stop, world.force_stop)


@router.post("/v1/job/{job_id}/acknowledgeError")
async def acknowledge_job(request: Request, job_id: str) -> Response:
    """Acknowledge a job's error."""
    world = world_of(request)
    job = world.job(job_id)
    world.acknowledge(job)
    return _acted_on(request, job)


@router.post("/v1/jobs/acknowledgeErrors")
async def acknowledge_jobs(request: Request) -> Response:
    """Acknowledge the errors of many jobs."""
    world = world_of(request)
    return await _bulk(request, world.check_acknowledge, world.acknowledge)


@router.post("/v1/job/{job_id}/sync")
async def synchronize_job(request: Request, job_id: str) -> Response:
    """Synchronize an active job."""
    world = world_of(request)
    job = world.job(job_id)
    world.synchronize(job)
    return _acted_on(request, job)


@router.post("/v1/jobs/syncJobs")
async def synchronize_jobs(request: Request) -> Response:
    """Synchronize many active jobs."""
    world = world_of(request)
    return await _bulk(request, world.check_active, world.synchronize)


@router.post("/v1/job/{job_id}/balance")
async def balance_job(request: Request, job_id: str) -> Response:
    """Balance an active job."""
    world = world_of(request)
    job = world.job(job_id)
    world.balance(job)
    return _acted_on(request, job)


@router.post("/v1/jobs/balanceJobs")
async def balance_jobs(request: Request) -> Response:
    """Balance many active jobs."""
    world = world_of(request)
    return await _bulk(request, world.check_active, world.balance)


@router.post("/v1/jobs/balanceSDCs")
async def balance_engines(request: Request) -> Response:
    """Balance all active jobs on some engines."""
    world = world_of(request)
    engine_ids = set(await read_ids(request, "engine"))
    for job in world.jobs.values():
        if job.latest and engine_ids & set(job.latest.engine_ids) and world.status(job) == "ACTIVE":
            world.balance(job)
    return nothing()


@router.post("/v1/job/{job_id}/resetErrorInfo")
async def reset_error_info(request: Request, job_id: str) -> Response:
    """Forget the errors that engines reported about a job."""
    world = world_of(request)
    job = world.job(job_id)
    world.reset_error_info(job)
    return _acted_on(request, job)


# -- offsets


@router.get("/v1/job/{job_id}/committedOffsets")
async def read_committed_offsets(request: Request, job_id: str) -> Response:
    """Return where a job will continue reading."""
    world = world_of(request)
    document = world.offset(world.job(job_id), world.clock.now())
    return nothing() if document is None else answer(document)


@router.get("/v1/job/{job_id}/latestCommittedOffsets")
async def read_latest_committed_offsets(request: Request, job_id: str) -> Response:
    """Return where a job will continue reading, with the engines that said so."""
    world = world_of(request)
    job, now = world.job(job_id), world.clock.now()
    document = world.offset(job, now)
    engine_ids = job.latest.engine_ids if job.latest else ()
    return answer([] if document is None else [{engine_id: document} for engine_id in engine_ids])


@router.post("/v1/job/{job_id}/resetOffset")
async def reset_offset(request: Request, job_id: str) -> Response:
    """Forget how far a job has read."""
    world = world_of(request)
    world.reset_offset(world.job(job_id))
    return nothing()


@router.post("/v1/jobs/resetOffset")
async def reset_offsets(request: Request) -> Response:
    """Forget how far many jobs have read."""
    world = world_of(request)
    world.in_bulk(await read_ids(request), world.check_offset_change, world.reset_offset)
    return nothing()


@router.post("/v1/job/{job_id}/uploadOffsetAsJson")
async def upload_offset_as_json(request: Request, job_id: str) -> Response:
    """Set how far a job has read, from a JSON body."""
    world = world_of(request)
    job = world.job(job_id)
    world.upload_offset(job, await read_json(request))
    return answer(job_body(world, job, world.clock.now()))


@router.post("/v1/job/{job_id}/uploadOffset")
async def upload_offset(request: Request, job_id: str) -> Response:
    """Set how far a job has read, from a file."""
    world = world_of(request)
    job = world.job(job_id)
    form = await request.form()
    part = form.get("file")
    if part is None:
        raise bad_request("the part 'file' is missing")
    content = part if isinstance(part, str) else await part.read()
    try:
        document = json.loads(content)
    except ValueError:
        raise bad_request("the file is not valid JSON") from None
    world.upload_offset(job, document)
    return answer(job_body(world, job, world.clock.now()))
