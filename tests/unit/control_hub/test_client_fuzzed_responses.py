"""Whatever comes back: each method returns what it declares, or raises an error of the family."""

from __future__ import annotations

import dataclasses
import inspect
import io
import json
import time
import typing
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import pendulum
import pytest
import requests_mock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub import (
    ControlHubClient,
    ControlHubError,
    Job,
    JobSettings,
    PipelineVersion,
)
from airflow_provider_streamsets.control_hub.models import JobRun, Model
from airflow_provider_streamsets.control_hub.models.status_snapshot import StatusSnapshot
from airflow_provider_streamsets.control_hub.services import Service
from airflow_provider_streamsets.control_hub.submission import CreateIntent, StartIntent, TemplateStartIntent
from airflow_provider_streamsets.control_hub.tracking.report import RunReport
from tests.unit.fakes.api_payloads import (
    CREDENTIAL_ID,
    HOUR,
    HUB,
    JOB_ID,
    JOB_NAME,
    LOGIN,
    ME,
    OFFSET,
    PIPELINE_ID,
    T0,
    TEMPLATE_ID,
    TOKEN,
    VirtualClock,
    commit_id,
    counts_json,
    engine_json,
    finished_events,
    job_json,
    pipeline_json,
    pipeline_status_json,
    record_series_json,
    registry_json,
    run_id,
    run_json,
    succeeded,
    template_json,
)
from tests.unit.fakes.malformed_responses import RESPONSES, VALID, FakeResponse, each_mutation, serve
from tests.unit.fakes.type_check import matches_type

_JOB = Job.from_wire(job_json())
_RUNNING = Job.from_wire(job_json(currentJobStatus=run_json(3, pipelineStatus=[pipeline_status_json()])))
_TEMPLATE = Job.from_wire(template_json())
_PIPELINE = PipelineVersion.from_wire(pipeline_json())
_DEFINITION = {
    "configuration": [{"name": "constants", "value": [{"key": "A", "value": "1"}]}],
    "stages": [{"stageName": "origin", "configuration": [{"name": "conf.topic", "value": "orders"}]}],
}
_TIME = pendulum.from_timestamp(T0 / 1000)
_OTHER = f"other-{JOB_ID}"

CALLS: dict[str, list[Callable[[ControlHubClient], Any]]] = {
    "current_user": [lambda c: c.current_user()],
    "project_names": [lambda c: c.project_names()],
    "job_url": [lambda c: c.job_url(JOB_ID)],
    "send_raw": [lambda c: c.send_raw("GET", Service.SECURITY, "/v1/currentUser", action="read the user")],
    "jobs.get": [lambda c: c.jobs.get(JOB_ID)],
    "jobs.get_many": [lambda c: c.jobs.get_many([JOB_ID, _OTHER])],
    "jobs.get_all": [lambda c: c.jobs.get_all([JOB_ID])],
    "jobs.read_many": [lambda c: c.jobs.read_many([JOB_ID, _OTHER])],
    "jobs.find_created": [lambda c: c.jobs.find_created(CreateIntent(JOB_NAME, ME, (T0 - HOUR) / 1000))],
    "jobs.ensure_loaded": [lambda c: c.jobs.ensure_loaded([_JOB, JOB_ID, _OTHER])],
    "jobs.find_by_name": [lambda c: c.jobs.find_by_name(JOB_NAME)],
    "jobs.find_by_names": [lambda c: c.jobs.find_by_names([JOB_NAME, "Other"], missing_ok=True)],
    "jobs.count": [lambda c: c.jobs.count()],
    "jobs.change_key": [lambda c: c.jobs.change_key(tag="nightly")],
    "jobs.list": [lambda c: list(c.jobs.list()), lambda c: list(c.jobs.list(search="tag==x", status="INACTIVE"))],
    "jobs.create": [
        lambda c: c.jobs.create(JobSettings(name="New"), _PIPELINE, on_submit=str),
        lambda c: c.jobs.create(JobSettings(name=JOB_NAME), _PIPELINE, if_exists="update"),
    ],
    "jobs.update": [lambda c: c.jobs.update(JOB_ID, JobSettings(runtime_parameters={"A": 1}), pipeline=_PIPELINE)],
    "jobs.upgrade": [lambda c: c.jobs.upgrade([JOB_ID])],
    "jobs.duplicate": [
        lambda c: c.jobs.duplicate(
            JOB_ID,
            number_of_copies=2,
            idempotency_key="k",
            existing_ids=["copy:org"],
            submitted=CreateIntent(f"{JOB_NAME} copy:k:", None, time.time()),
            on_submit=str,
        ),
        lambda c: c.jobs.duplicate(_JOB, number_of_copies=2, name=JOB_NAME[:-1]),
    ],
    "jobs.delete": [lambda c: c.jobs.delete([JOB_ID, _OTHER])],
    "jobs.delete_templates": [lambda c: c.jobs.delete_templates([TEMPLATE_ID])],
    "templates.start": [
        lambda c: c.templates.start(_TEMPLATE, [{"A": 1}]),
        lambda c: c.templates.start(_TEMPLATE, [{}], on_submit=str),
    ],
    "templates.find_instances": [
        lambda c: c.templates.find_instances(TemplateStartIntent(TEMPLATE_ID, 0, None)),
        lambda c: c.templates.find_instances(TemplateStartIntent(TEMPLATE_ID, 0, None, T0 / 1000), wait=True),
    ],
    "archives.export_jobs": [lambda c: c.archives.export_jobs([JOB_ID], io.BytesIO())],
    "archives.import_jobs": [lambda c: c.archives.import_jobs(io.BytesIO(b"PK\x03\x04"))],
    "pipelines.find_by_name": [lambda c: c.pipelines.find_by_name("Orders")],
    "pipelines.versions": [lambda c: c.pipelines.versions(PIPELINE_ID)],
    "pipelines.latest": [lambda c: c.pipelines.latest(PIPELINE_ID)],
    "pipelines.latest_commits": [lambda c: c.pipelines.latest_commits([PIPELINE_ID])],
    "pipelines.commit": [lambda c: c.pipelines.commit(commit_id(3))],
    "pipelines.definition": [lambda c: c.pipelines.definition(commit_id(3))],
    "pipelines.parameters": [lambda c: c.pipelines.parameters(commit_id(3))],
    "pipelines.unknown_parameters": [lambda c: c.pipelines.unknown_parameters(commit_id(3), ["A"])],
    "pipelines.tags": [lambda c: c.pipelines.tags(PIPELINE_ID)],
    "pipelines.version": [
        lambda c: c.pipelines.version(PIPELINE_ID),
        lambda c: c.pipelines.version(PIPELINE_ID, tag="released"),
    ],
    "engines.get": [lambda c: c.engines.get("engine-1")],
    "engines.get_all": [lambda c: c.engines.get_all(["engine-1"])],
    "engines.list": [lambda c: list(c.engines.list(label="prod"))],
    "engines.balance": [lambda c: c.engines.balance(["engine-1"])],
    "runs.start": [lambda c: c.runs.start(JOB_ID, {"A": 1}), lambda c: c.runs.start(JOB_ID, on_submit=str)],
    "runs.start_many": [lambda c: c.runs.start_many([JOB_ID, _JOB])],
    "runs.find_submitted": [lambda c: c.runs.find_submitted(StartIntent(JOB_ID, 1, None, T0 / 1000))],
    "runs.stop": [lambda c: c.runs.stop(JOB_ID)],
    "runs.force_stop": [lambda c: c.runs.force_stop(JOB_ID)],
    "runs.stop_run": [lambda c: c.runs.stop_run(JOB_ID, 2, max_wait=5)],
    "runs.stop_many": [lambda c: c.runs.stop_many({JOB_ID: 2, _OTHER: 3}, max_wait=5)],
    "runs.wait": [lambda c: c.runs.wait(JobRun.from_wire(run_json(2)), timeout=0, metrics_timeout=0)],
    "runs.wait_many": [lambda c: c.runs.wait_many([JobRun.from_wire(run_json(2))], timeout=0, metrics_timeout=0)],
    "runs.get_active": [lambda c: c.runs.get_active({JOB_ID: 2, _OTHER: 3})],
    "runs.get_or_successor": [lambda c: c.runs.get_or_successor(JOB_ID, 2, JobRun.from_wire(run_json(3)))],
    "runs.get_successor": [lambda c: c.runs.get_successor(JobRun.from_wire(run_json(2)))],
    "runs.acknowledge_run": [lambda c: c.runs.acknowledge_run(JOB_ID, 2)],
    "runs.acknowledge_forced": [lambda c: c.runs.acknowledge_forced({JOB_ID: 2}, max_wait=5)],
    "runs.acknowledge": [lambda c: c.runs.acknowledge([JOB_ID], max_wait=9)],
    "runs.synchronize": [lambda c: c.runs.synchronize([JOB_ID])],
    "runs.balance": [lambda c: c.runs.balance([JOB_ID])],
    "runs.current": [lambda c: c.runs.current(JOB_ID)],
    "runs.statuses": [lambda c: c.runs.statuses([JOB_ID, _OTHER])],
    "runs.snapshots": [lambda c: c.runs.snapshots([JOB_ID, _OTHER])],
    "runs.history": [lambda c: c.runs.history(JOB_ID, 5, since=_TIME, until=_TIME.add(years=1))],
    "runs.get": [lambda c: c.runs.get(JOB_ID, 2)],
    "runs.iter_raw_history": [lambda c: list(c.runs.iter_raw_history(JOB_ID))],
    "runs.first_since": [lambda c: c.runs.first_since(JOB_ID, JobRun.from_wire(run_json(3)), _TIME)],
    "runs.find_started_at": [lambda c: c.runs.find_started_at(JOB_ID, _TIME)],
    "runs.events": [lambda c: c.runs.events(run_id(2))],
    "metrics.all_runs": [lambda c: c.metrics.all_runs(JOB_ID)],
    "metrics.of_run": [lambda c: c.metrics.of_run(JOB_ID, 2)],
    "metrics.last_run": [lambda c: c.metrics.last_run(JOB_ID)],
    "metrics.counted": [lambda c: c.metrics.counted(JOB_ID, 2)],
    "metrics.registry": [lambda c: c.metrics.registry(JOB_ID, 2, engine_id="engine-1")],
    "metrics.series": [lambda c: c.metrics.series(JOB_ID, _TIME, _TIME.add(hours=1))],
    "metrics.realtime": [lambda c: c.metrics.realtime(_RUNNING)],
    "offsets.reset": [lambda c: c.offsets.reset([JOB_ID])],
    "offsets.current": [lambda c: c.offsets.current(JOB_ID)],
    "offsets.of_run": [lambda c: c.offsets.of_run(JOB_ID, 2)],
    "offsets.committed": [lambda c: c.offsets.committed(JOB_ID)],
    "offsets.latest_committed": [lambda c: c.offsets.latest_committed(JOB_ID)],
    "offsets.upload": [lambda c: c.offsets.upload(JOB_ID, OFFSET)],
}
# They ask Control Hub for nothing of their own.
NO_REQUEST = {
    "runs.has_started_since",
    "mark_accepted",
    "within",
    "close",
    "with_options",
    "with_credential",
    "request",
    "same_identity",
    "adopt",
    "same_organization",
}


def _resources() -> dict[str, type]:
    """The resources of a client, by the name of the attribute."""
    found = {}
    for name, attribute in vars(ControlHubClient).items():
        if isinstance(attribute, cached_property):
            kind = typing.get_type_hints(attribute.func)["return"]
            if kind.__module__.startswith("airflow_provider_streamsets."):
                found[name] = kind
    return found


def _methods() -> dict[str, Callable[..., Any]]:
    """All that can be called on a client and on its resources."""
    owners = {"": ControlHubClient, **{f"{name}.": kind for name, kind in _resources().items()}}
    return {
        f"{prefix}{name}": method
        for prefix, owner in owners.items()
        for name, method in inspect.getmembers(owner, inspect.isfunction)
        if not name.startswith("_")
    }


def test_every_client_method_is_covered():
    assert _resources().keys() >= {"jobs", "runs", "templates"}
    assert set(CALLS) | NO_REQUEST == set(_methods())


@pytest.fixture(scope="module")
def http() -> Iterator[requests_mock.Mocker]:
    with requests_mock.Mocker() as mocker:
        yield mocker


def _plain(value: Any) -> Any:
    if isinstance(value, (Model, RunReport)):
        return value.to_dict()
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _outcome(name: str, call: Callable[[ControlHubClient], Any]) -> Any:
    base_url = None if name == "job_url" else HUB
    clock = VirtualClock()
    with ControlHubClient(base_url, CREDENTIAL_ID, TOKEN, login_url=LOGIN, sleep=clock.sleep, bulk_size=1) as client:
        return call(client)


@pytest.mark.parametrize("name", CALLS)
def test_valid_response_yields_declared_type(http, name):
    for call in CALLS[name]:
        serve(http, [VALID])
        try:
            value = _outcome(name, call)
        except ControlHubError as error:
            pytest.fail(str(error))
        assert matches_type(value, typing.get_type_hints(_methods()[name])["return"])


@pytest.mark.parametrize("name", CALLS)
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.lists(RESPONSES, min_size=1, max_size=4), which=st.integers(0, 1))
def test_any_response_yields_declared_type_or_error(http, name, answers, which):
    _check(http, name, CALLS[name][which % len(CALLS[name])], answers)


# Those that together read all that there is to read.
READERS: dict[str, Any] = {
    "current_user": {"principalId": ME, "organizationId": "org", "roles": ["a"]},
    "jobs.get": job_json(currentJobStatus=succeeded(2)),
    "runs.snapshots": {JOB_ID: run_json(3, pipelineStatus=[pipeline_status_json()], warnings=["slow"])},
    "runs.statuses": {JOB_ID: run_json(3, ackTrackers=[{"sdcId": "e", "message": "m"}])},
    "runs.events": finished_events(2)[:1],
    "metrics.all_runs": {"0": counts_json(), "1": counts_json(1)},
    "metrics.registry": registry_json(),
    "metrics.series": record_series_json({"2026-07-01T10:00:00Z": (10, 8, 2)}),
    "engines.get": engine_json(),
    "pipelines.commit": pipeline_json(3),
    "pipelines.definition": pipeline_json(3, pipelineDefinition=_DEFINITION),
}


@pytest.mark.parametrize("name", READERS)
def test_any_field_value_yields_declared_type_or_error(http, name):
    for answer in each_mutation(READERS[name]):
        _check(http, name, CALLS[name][0], [answer.based_on(READERS[name])])


def _check(
    http: requests_mock.Mocker, name: str, call: Callable[[ControlHubClient], Any], answers: list[FakeResponse]
) -> None:
    serve(http, answers)
    try:
        value = _outcome(name, call)
    except ControlHubError as error:
        str(error).encode()
        return
    assert matches_type(value, typing.get_type_hints(_methods()[name])["return"])
    if not isinstance(value, dict) or not any(
        isinstance(entry, (StatusSnapshot, Exception)) for entry in value.values()
    ):
        json.dumps(_plain(value), ensure_ascii=False, default=dataclasses.asdict).encode()
