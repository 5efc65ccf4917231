from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub import (
    ControlHubClient,
    ControlHubError,
    ControlHubUnexpectedResponseError,
    CurrentUser,
    Job,
    JobRun,
    JobSettings,
    PipelineVersion,
    RunEvent,
    RunMetrics,
)
from tests.unit.fakes.api_payloads import (
    COUNTS,
    CURRENT,
    HISTORY,
    JOB,
    JOB_ID,
    JOB_NAME,
    JOBS,
    JR,
    LOGIN,
    LOOKUP,
    ME,
    OFFSET,
    ORGANIZATION,
    PIPELINE_ID,
    PS,
    REGISTRY,
    SEARCH,
    SEC,
    START,
    STATUSES,
    TEMPLATE_ID,
    TUN,
    commit_id,
    counts_json,
    engine_json,
    event_json,
    events_url,
    job_json,
    payload,
    pipeline_json,
    pipeline_status_json,
    registry_json,
    run_id,
    run_json,
    succeeded,
    template_json,
    template_start_json,
)

_RUNNING = Job.from_wire(job_json(currentJobStatus=run_json(pipelineStatus=[pipeline_status_json(name="p")])))
_TEMPLATE = Job.from_wire(template_json())
_PIPELINE = PipelineVersion.from_wire(pipeline_json())
# What the other requests of a call are answered.
AS_USUAL: dict[tuple[str, str], Any] = {
    ("GET", CURRENT): None,
    ("GET", JOB): job_json(),
    ("GET", JOBS): [],
    ("POST", JOBS): [],
    ("GET", f"{JR}/sdc/engine-1"): engine_json(),
    ("POST", f"{JR}/sdcs"): {},
    ("GET", f"{TUN}/connection/engine-1"): {"instanceId": "i"},
    ("GET", f"{TUN}/engine-1/rest/v1/pipeline/p/metrics"): registry_json(),
    ("GET", f"{JR}/job/{TEMPLATE_ID}/runHistory"): [],
    ("GET", f"{SEC}/currentUser"): {"principalId": ME},
    ("POST", f"{JR}/job/{TEMPLATE_ID}/createAndStartJobInstances"): [run_json(1)],
}
ENDPOINTS: dict[str, tuple[str, Callable[[ControlHubClient], Any]]] = {
    JOB: ("GET", lambda client: client.jobs.get(JOB_ID)),
    JOBS: ("GET", lambda client: list(client.jobs.list())),
    f"{JOBS}?by=name": ("GET", lambda client: client.jobs.find_by_name(JOB_NAME)),
    f"{JOBS}?by=id": ("POST", lambda client: client.jobs.get_many([JOB_ID])),
    START: ("POST", lambda client: client.runs.start(Job.from_wire(job_json()))),
    CURRENT: ("GET", lambda client: client.runs.current(JOB_ID)),
    STATUSES: ("POST", lambda client: client.runs.statuses([JOB_ID])),
    HISTORY: ("GET", lambda client: client.runs.history(JOB_ID)),
    events_url(): ("GET", lambda client: client.runs.events(run_id(1))),
    COUNTS: ("GET", lambda client: client.metrics.all_runs(JOB_ID, latest=JobRun("r", JOB_ID, 3, "ACTIVE", "GREEN"))),
    REGISTRY: ("GET", lambda client: client.metrics.registry(JOB_ID)),
    f"{TUN}/engine-1/rest/v1/pipeline/p/metrics": ("GET", lambda client: client.metrics.realtime(_RUNNING)),
    f"{TUN}/connection/engine-1": ("GET", lambda client: client.metrics.realtime(_RUNNING)),
    f"{JR}/sdc/engine-1": ("GET", lambda client: client.engines.get("engine-1")),
    f"{JR}/sdcs": ("GET", lambda client: list(client.engines.list())),
    f"{JR}/sdcs?by=id": ("POST", lambda client: client.engines.get_all(["engine-1"])),
    SEARCH: ("GET", lambda client: list(client.jobs.list(search="tag==x"))),
    f"{JOB}?by=update": ("POST", lambda client: client.jobs.update(JOB_ID, JobSettings(name="New"))),
    f"{JOBS}?by=creation": ("PUT", lambda client: client.jobs.create(JobSettings(name="New"), _PIPELINE)),
    f"{JR}/job/{TEMPLATE_ID}/runHistory": ("GET", lambda client: client.templates.start(_TEMPLATE, [{}])),
    f"{JR}/job/{TEMPLATE_ID}/createAndStartJobInstances": (
        "POST",
        lambda client: client.templates.start(_TEMPLATE, [{}]),
    ),
    f"{JOBS}/importJobs": ("POST", lambda client: client.archives.import_jobs(io.BytesIO(b"PK\x03\x04"))),
    f"{CURRENT}?of=offsets": ("GET", lambda client: client.offsets.current(JOB_ID)),
    f"{HISTORY}?of=offsets": ("GET", lambda client: client.offsets.of_run(JOB_ID, 2)),
    f"{JOB}/committedOffsets": ("GET", lambda client: client.offsets.committed(JOB_ID)),
    f"{JOB}/latestCommittedOffsets": ("GET", lambda client: client.offsets.latest_committed(JOB_ID)),
    f"{JOB}/uploadOffsetAsJson": ("POST", lambda client: client.offsets.upload(JOB_ID, OFFSET)),
    f"{PS}/saql/pipelines/search": ("GET", lambda client: client.pipelines.find_by_name("Orders")),
    f"{PS}/pipeline/{PIPELINE_ID}/log": ("GET", lambda client: client.pipelines.versions(PIPELINE_ID)),
    f"{PS}/pipeline/{PIPELINE_ID}/latest": ("GET", lambda client: client.pipelines.latest(PIPELINE_ID)),
    f"{PS}/pipeline/{PIPELINE_ID}/tags": ("GET", lambda client: client.pipelines.tags(PIPELINE_ID)),
    f"{PS}/pipelineCommit/{commit_id(3)}": ("GET", lambda client: client.pipelines.commit(commit_id(3))),
    f"{SEC}/currentUser": ("GET", lambda client: client.current_user()),
    f"{SEC}/projects": ("GET", lambda client: client.project_names()),
    LOOKUP: ("GET", lambda client: client.base_url),
}

_FIELD_NAMES = sorted(
    {*job_json(), *run_json(), *event_json(1, 0, ""), *counts_json(1), "currentJobStatus", "ISSUES", "code", "message"}
    | {"data", "totalCount", "landingUrl", "roles", "pipelineStatus", "ackTrackers", "lastReportedTime", JOB_ID, "0"}
    | {*pipeline_json(), *engine_json(), *registry_json(), "engine-1", "instanceId", "pipelineOffsets", "offset"}
    | {"jobInstanceIds", "jobDeleted", "minimalJobJson", "RuntimeStatsGauge.gauge", "value", "batchCount", "count"}
)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**17, 10**320)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["INACTIVE", "ACTIVE", "RED", "{}", '{"A": 1}', "[1", "v2", ORGANIZATION, JOB_NAME, "[" * 100_000]
    )
)
ANY_JSON = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_FIELD_NAMES) | st.text(max_size=4), inner, max_size=6)
    ),
    max_leaves=10,
)
ALMOST = st.builds(
    lambda base, name, value: {**base, name: value},
    st.sampled_from(
        [
            *(job_json(), run_json(3), succeeded(2), event_json(1, 0, "ACTIVE"), counts_json(1), counts_json()),
            *(template_json(), pipeline_json(), engine_json(), registry_json(), registry_json()["gauges"]),
            *({"instanceId": "i"}, {"minimalJobJson": job_json()}, template_start_json(3, [JOB_ID])),
        ]
    ),
    st.sampled_from(_FIELD_NAMES),
    ANY_JSON,
)
ANSWERS = st.one_of(
    ANY_JSON,
    ALMOST,
    st.lists(ALMOST, max_size=3),
    st.builds(lambda entries, total: {"data": entries, "totalCount": total}, st.lists(ALMOST, max_size=3), _SCALARS),
    st.dictionaries(st.sampled_from([JOB_ID, "0", "1", "data"]), ALMOST, max_size=3),
)


@pytest.mark.parametrize("url", ENDPOINTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(answer=ANSWERS)
def test_any_json_yields_model_or_error(http, make_client, clock, url, answer):
    method, ask = ENDPOINTS[url]
    http.reset()
    clock.slept.clear()
    for other, as_usual in AS_USUAL.items():
        http.register_uri(other[0], other[1], json=as_usual)
    http.register_uri(method, url.partition("?")[0], text=json.dumps(answer))
    client = make_client(None if url == LOOKUP else "https://na01.hub.example.com", login_url=LOGIN)
    try:
        ask(client)
    except ControlHubError as error:
        assert str(error)  # noqa: PT017
    finally:
        client.close()


@settings(deadline=None, max_examples=50)
@example("runtimeParameters", "[" * 100_000)
@example("statsRefreshInterval", 10**400)
@example("createTime", 10**400)
@example("numInstances", 1e308)
@given(st.sampled_from(sorted(job_json())), ANY_JSON)
def test_any_job_field_parses_or_raises(name, value):
    try:
        job = Job.from_wire({**job_json(), name: value})
    except ControlHubUnexpectedResponseError as error:
        assert len(str(error)) < 500  # noqa: PT017
    else:
        json.dumps(job.to_dict())


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(sorted(run_json())), ANY_JSON)
def test_any_run_field_parses_or_raises(name, value):
    try:
        run = JobRun.from_wire({**run_json(), name: value})
    except ControlHubUnexpectedResponseError:
        return
    assert isinstance(run.has_ended, bool)
    assert not (run.is_success and not run.has_ended)
    json.dumps(run.to_dict())


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (Job.from_wire, job_json()),
        (JobRun.from_wire, run_json()),
        (RunEvent.from_wire, event_json(1, 0, "ACTIVE")),
        (lambda value: RunMetrics.from_wire(value, 1), counts_json()),
        (CurrentUser.from_wire, {"principalId": "me"}),
    ],
)
def test_missing_null_and_unknown_fields_are_tolerated(model, body):
    required = {"id"} & body.keys()
    bare = {name: body[name] for name in required}
    nulls = {name: body[name] if name in required else None for name in body}
    assert model(bare) == model(nulls) == model({**bare, "brandNew": [1]})
    whole = model(body)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(whole, dataclasses.fields(whole)[0].name, "x")
    assert json.loads(json.dumps(whole.to_dict())).keys() == {field.name for field in dataclasses.fields(whole)}


@pytest.mark.parametrize(
    "name",
    [
        "job-active-green",
        "job-active-red",
        "job-inactive-error",
        "job-inactive-red",
        "job-inactive-success",
        "job-never-run",
    ],
)
def test_example_jobs_are_parsed(name):
    body = payload(name)
    job = Job.from_wire(body)
    status = body["currentJobStatus"]
    assert (job.job_id, job.name) == (body["id"], body["name"])
    assert job.runtime_parameters == json.loads(body["runtimeParameters"])
    assert (job.current_run is None) == (status is None)
    if status:
        assert job.current_run.status == status["status"]
        assert job.current_run.has_ended == status["status"].startswith("INACTIVE")
        assert job.current_run.is_success == (name == "job-inactive-success")
        assert len(job.current_run.engine_pipelines) == len(status["pipelineStatus"] or [])


@pytest.mark.parametrize(
    ("status", "color", "ended", "success"),
    [
        ("ACTIVATING", "GREEN", False, False),
        ("ACTIVE", "GREEN", False, False),
        ("ACTIVE", "RED", False, False),
        ("DEACTIVATING", "GREEN", False, False),
        ("DEACTIVATING", "RED", False, False),
        ("INACTIVE", "GRAY", True, True),
        ("INACTIVE", "GREEN", True, True),
        ("INACTIVE", None, True, True),
        ("INACTIVE", "RED", True, False),
        ("INACTIVE_ERROR", "RED", True, False),
        ("INACTIVE_ERROR", "GRAY", True, False),
        ("ACTIVATION_ERROR", "RED", True, False),
        ("ACTIVATION_ERROR", "GRAY", True, False),
        ("inactive", "GRAY", False, False),
        ("SOMETHING_NEW", "GRAY", False, False),
        (None, None, False, False),
    ],
)
def test_end_and_success_follow_status_and_color(status, color, ended, success):
    run = JobRun.from_wire(run_json(1, status, color))
    assert (run.has_ended, run.is_success) == (ended, success)


def test_times_are_aware_with_milliseconds():
    run = JobRun.from_wire(succeeded(1, startTime=1_767_261_000_123, finishTime=1_767_261_000_999))
    assert run.start_time.isoformat() == "2026-01-01T09:50:00.123000+00:00"
    assert run.duration == pytest.approx(0.876)


def test_active_run_has_no_duration():
    assert JobRun.from_wire(run_json()).duration is None


def test_intervals_are_in_seconds():
    job = Job.from_wire(job_json(statsRefreshInterval=1500, forceStopTimeout=None))
    assert (job.statistics_interval, job.force_stop_after) == (1.5, 120.0)


def test_engine_reports_are_parsed():
    run = JobRun.from_wire(
        run_json(
            pipelineStatus=[{"sdcId": "engine-1", "status": "RUN_ERROR", "message": "disk full"}, {}],
            ackTrackers=[
                {"sdcId": "engine-1", "eventType": "START_PIPELINE", "ackStatus": "ERROR", "message": "no memory"},
                {"sdcId": "engine-1", "eventType": "SAVE_PIPELINE", "ackStatus": "SUCCESS"},
            ],
        )
    )
    assert [(p.engine_id, p.status, p.message) for p in run.engine_pipelines] == [
        ("engine-1", "RUN_ERROR", "disk full"),
        ("", "UNKNOWN", None),
    ]
    assert [(c.command, c.has_failed) for c in run.engine_commands] == [
        ("START_PIPELINE", True),
        ("SAVE_PIPELINE", False),
    ]


def _problem(**fields):
    return JobRun.from_wire(run_json(color="RED", **fields)).problem


def test_problem_groups_engines_by_message():
    trackers = [
        {"sdcId": "e1", "eventType": "START_PIPELINE", "ackStatus": "ERROR", "message": "no\n such  lib"},
        {"sdcId": "e2", "eventType": "START_PIPELINE", "ackStatus": "TIMEDOUT", "message": None},
        *({"sdcId": "e3", "ackStatus": status, "message": "fine"} for status in ("PENDING", "SUCCESS", "IGNORE")),
    ]
    pipelines = [
        {"sdcId": "e1", "status": "START_ERROR", "message": "no such lib"},
        {"sdcId": "e4", "status": "START_ERROR", "message": "no such lib"},
        {"sdcId": "e5", "status": "CONNECT_ERROR"},
        {"sdcId": "e6", "status": "RUNNING", "message": ""},
    ]
    assert _problem(warnings=["JOBRUNNER_62 - lost"], ackTrackers=trackers, pipelineStatus=pipelines) == (
        "JOBRUNNER_62 - lost; no such lib (engines e1, e4); START_PIPELINE TIMEDOUT (engine e2); "
        "CONNECT_ERROR (engine e5)"
    )


def test_problem_omits_texts_that_others_contain():
    error = "JDBC_34 - Query failed"
    reported = f"Data Collector 'http://sdc.example.com:18630' reported pipeline in status 'RUN_ERROR': {error}"
    pipelines = [
        {"sdcId": "engine-1", "status": "RUN_ERROR", "message": error},
        {"sdcId": "engine-1", "status": "RUN_ERROR", "message": reported},
        {"sdcId": "engine-2", "status": "RUN_ERROR", "message": "Pipeline is not running"},
    ]
    problem = JobRun.from_wire(run_json(1, "ACTIVE", "RED", pipelineStatus=pipelines)).problem
    assert problem == f"{reported} (engine engine-1); Pipeline is not running (engine engine-2)"


def test_problem_is_truncated():
    pipelines = [{"sdcId": f"e{n}", "status": "START_ERROR", "message": f"{n}" * 5000} for n in range(9)]
    shared = [{"sdcId": f"f{n}", "status": "START_ERROR", "message": "same"} for n in range(9)]
    problem = _problem(pipelineStatus=[*shared, *pipelines])
    assert problem.startswith("same (engines f0, f1, f2, and 6 more); 000")
    assert problem.endswith("... (engine e3); and 5 more")
    assert len(problem) < 2000


@pytest.mark.parametrize("wrong", [5, [], {}, True, ["text"]])
def test_non_text_message_is_tolerated(wrong):
    entry = {
        "sdcId": "e1",
        "eventType": "START_PIPELINE",
        "ackStatus": "ERROR",
        "status": "RUN_ERROR",
        "message": wrong,
    }
    run = JobRun.from_wire(run_json(ackTrackers=[entry], pipelineStatus=[entry]))
    assert run.problem == "START_PIPELINE ERROR (engine e1); RUN_ERROR (engine e1)"


def test_problem_reports_run_without_engine():
    assert "no engine runs the job" in _problem(sdcIds=[])
    assert _problem(sdcIds=["e1"]) == ""
    assert JobRun.from_wire(run_json(sdcIds=[])).problem == ""


@pytest.mark.parametrize(
    ("fields", "working"),
    [
        ({}, True),
        ({"pipelineStatus": None}, True),
        ({"pipelineStatus": [{"status": "RUNNING"}, {"status": "FINISHED"}]}, True),
        ({"pipelineStatus": [{"status": "RUNNING"}, {"status": "STARTING"}]}, False),
        ({"pipelineStatus": [{"status": "RETRY"}]}, False),
        ({"color": "RED"}, False),
        ({"status": "ACTIVATING"}, False),
        ({"status": "INACTIVE", "color": "GRAY"}, False),
    ],
)
def test_run_is_working_with_running_pipelines(fields, working):
    assert JobRun.from_wire(run_json(**{"status": "ACTIVE", "color": "GREEN", **fields})).is_working is working


@pytest.mark.parametrize(
    ("stored", "parameters"), [(None, {}), ("", {}), ("null", {}), ("{}", {}), ('{"A": {"b": [1]}}', {"A": {"b": [1]}})]
)
def test_runtime_parameters_are_parsed_from_text(stored, parameters):
    assert Job.from_wire(job_json(runtimeParameters=stored)).runtime_parameters == parameters


@pytest.mark.parametrize("stored", ["[]", "5", "{", [], 5, '"text"', "[" * 100_000])
def test_non_object_runtime_parameters_raise(stored):
    with pytest.raises(ControlHubUnexpectedResponseError, match="'runtimeParameters' of the job"):
        Job.from_wire(job_json(runtimeParameters=stored))


def test_type_error_names_field_not_value():
    with pytest.raises(ControlHubUnexpectedResponseError) as caught:
        JobRun.from_wire(run_json(warnings="a secret"))
    assert str(caught.value).endswith("'warnings' of the job status must be an array, got str.")
