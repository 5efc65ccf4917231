"""A Control Hub that answers every request as its API describes, so that tests can spoil its answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.unit.fakes.api_payloads import (
    COUNTS,
    HUB,
    JOB_ID,
    LANDING,
    ME,
    OFFSET,
    ORGANIZATION,
    TEMPLATE_ID,
    commit_id,
    counts_json,
    engine_json,
    finished_events,
    job_json,
    page_json,
    pipeline_json,
    pipeline_status_json,
    query,
    record_series_json,
    registry_json,
    run_json,
    succeeded,
    template_json,
    template_start_json,
)

ARCHIVE = b"PK\x05\x06" + bytes(18)
_ENDED = succeeded(2, pipelineOffsets=[{"sdcId": "engine-1", "offset": '{"version": 2, "offsets": {"a": "1"}}'}])
_NEW = succeeded(3)
_RUNNING = run_json(
    3,
    pipelineStatus=[pipeline_status_json()],
    ackTrackers=[{"sdcId": "engine-1", "eventType": "START_PIPELINE", "ackStatus": "SUCCESS", "message": None}],
    warnings=["slow"],
)


def _job(request: Any) -> dict[str, Any]:
    return template_json() if TEMPLATE_ID in unquote(request.url) else job_json(currentJobStatus=_ENDED)


def _one_of_many(job_id: str) -> dict[str, Any]:
    return template_json() if job_id == TEMPLATE_ID else job_json(job_id, currentJobStatus=_ENDED)


def _jobs(request: Any) -> dict[str, Any]:
    asked = query(request)
    if asked.get("jobSearchOperation") == "STARTS_WITH":
        # Copies of a job, as a duplication leaves them.
        return page_json(*(job_json(f"copy-{number}", f"{asked['jobSearchText']}{number}") for number in (1, 2)))
    return page_json(template_json() if "jobTemplate=true" in request.url else job_json(currentJobStatus=_ENDED))


def _by_id(entry: Callable[[], Any]) -> Callable[[Any], dict[str, Any]]:
    return lambda request: {identifier: entry() for identifier in request.json()}


_BODIES: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("GET /jobrunner/rest/v1/job/[^/]+", _job),
    ("POST /jobrunner/rest/v1/job/[^/]+", lambda request: request.json()),
    ("GET /jobrunner/rest/v1/jobs", _jobs),
    ("POST /jobrunner/rest/v1/jobs", lambda request: [_one_of_many(job_id) for job_id in request.json()]),
    ("PUT /jobrunner/rest/v1/jobs", lambda _: job_json()),
    ("GET /jobrunner/rest/v1/saql/jobs/search(/templates)?", _jobs),
    ("GET /jobrunner/rest/v1/saql/jobs/search/[^/]+/runs", lambda _: page_json(_RUNNING, _ENDED, succeeded(1))),
    ("POST /jobrunner/rest/v1/job/[^/]+/start", lambda _: _RUNNING),
    ("GET /jobrunner/rest/v1/job/[^/]+/currentStatus", lambda _: _ENDED),
    ("POST /jobrunner/rest/v1/jobs/status", _by_id(lambda: _ENDED)),
    ("GET /jobrunner/rest/v1/job/[^/]*/jobStatusHistory", lambda _: finished_events(2)),
    ("GET /jobrunner/rest/v1/job/[^/]+/runHistory", lambda _: page_json(template_start_json(1, [JOB_ID]))),
    ("POST /jobrunner/rest/v1/job/[^/]+/createAndStartJobInstances", lambda _: [run_json(1)]),
    ("GET /jobrunner/rest/v1/job/[^/]+/committedOffsets", lambda _: OFFSET),
    ("GET /jobrunner/rest/v1/job/[^/]+/latestCommittedOffsets", lambda _: [{"sdcId": "engine-1", "offset": "{}"}]),
    ("POST /jobrunner/rest/v1/job/[^/]+/uploadOffsetAsJson", lambda _: job_json()),
    ("POST /jobrunner/rest/v1/jobs/importJobs", lambda _: [{"minimalJobJson": job_json()}]),
    ("POST /jobrunner/rest/v1/jobs?/.*", lambda _: {}),
    ("GET /jobrunner/rest/v1/sdc/[^/]+", lambda _: engine_json()),
    ("GET /jobrunner/rest/v1/sdcs", lambda _: page_json(engine_json())),
    ("POST /jobrunner/rest/v1/sdcs", _by_id(engine_json)),
    ("GET /jobrunner/rest/v1/metrics/job/[^/]+", lambda _: registry_json()),
    (
        "GET /timeseries/rest/v1/metrics/job/[^/]+/recordCount",
        lambda _: record_series_json({"2026-07-01T10:00:00Z": (10, 8, 2)}),
    ),
    (f"GET {re.escape(urlsplit(COUNTS).path)}", lambda _: {"0": counts_json(), "1": counts_json(1)}),
    ("GET /tunneling/rest/connection/[^/]+", lambda _: {"instanceId": "tunnel-1"}),
    ("GET /tunneling/rest/[^/]+/rest/v1/pipeline/[^/]+/metrics", lambda _: registry_json()),
    ("GET /pipelinestore/rest/v1/(saql/pipelines/search|pipelines)", lambda _: page_json(pipeline_json())),
    ("GET /pipelinestore/rest/v1/pipeline/[^/]+/log", lambda _: [pipeline_json(3), pipeline_json(2)]),
    ("GET /pipelinestore/rest/v1/pipeline/[^/]+/latest", lambda _: pipeline_json(3)),
    ("GET /pipelinestore/rest/v1/pipeline/[^/]+/tags", lambda _: [{"name": "released", "commitId": commit_id(2)}]),
    ("POST /pipelinestore/rest/v1/pipelines/latestCommit", lambda _: [pipeline_json(2)]),
    ("GET /pipelinestore/rest/v1/pipelineCommit/[^/]+", lambda _: pipeline_json(3)),
    (
        "GET /security/rest/v1/currentUser",
        lambda _: {"principalId": ME, "organizationId": ORGANIZATION, "roles": ["a"]},
    ),
    ("GET /security/rest/v1/projects", lambda _: [{"id": "project-1", "name": "Sales"}]),
    ("GET /api/security/public/v3/orgs/[^/]+/info", lambda _: {"data": {"landingUrl": f"{HUB}{LANDING}"}}),
)


def valid_response(request: Any, *, started: bool = False) -> Any:
    """
    Return the JSON, or the bytes, that Control Hub would answer.

    :param started: the job was started since, and its new run, the third, has ended
    """
    wanted = f"{request.method} {unquote(urlsplit(request.url).path)}"
    if wanted.endswith("/jobs/exportJobs"):
        return ARCHIVE
    if started and wanted.endswith("/currentStatus"):
        return _NEW
    if started and wanted.endswith("/jobs/status"):
        return dict.fromkeys(request.json(), _NEW)
    for pattern, body in _BODIES:
        if re.fullmatch(pattern, wanted):
            return body(request)
    raise AssertionError(f"no answer is known for {wanted}")
