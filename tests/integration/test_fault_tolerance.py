"""Waits for runs under injected faults and under variants of Control Hub's behaviour."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from time import perf_counter
from time import time as real_time

import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubExpectationError,
    ControlHubNotFoundError,
    ControlHubRunFailedError,
    ControlHubRunLostError,
    ControlHubRunTimeoutError,
    JobSettings,
    Outcome,
    submission,
)
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.tracking.run import RunTracker
from airflow_provider_streamsets.operators.jobs import ControlHubDuplicateJobOperator
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from airflow_provider_streamsets.operators.templates import ControlHubRunJobTemplateOperator
from airflow_provider_streamsets.polling import connections
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sensors.metrics import ControlHubJobMetricSensor
from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from tests.integration.conftest import client_of
from tests.integration.sandbox_tasks import SandboxClock, SandboxTask
from tests.unit.conftest import StateStore, TaskInstance
from tests.unit.fakes.task_runner import read_connection_inline
from tests.unit.fakes.waits import wait_with_tracker

STATUSES = "/jobrunner/rest/v1/jobs/status"
UNKNOWN_JOB = Variants.choices()["unknown_job"]
FAULTS = {
    **{f"{status} page": {"fault": "gateway", "status": status} for status in (404, 403, 407, 400, 410, 413, 405)},
    "404 json": {"fault": "gateway", "body": "json"},
    "403 json": {"fault": "gateway", "body": "json", "status": 403},
    "empty": {"fault": "empty"},
    "200 page": {"fault": "html"},
    "503 page": {"fault": "server_error", "status": 503},
    "401": {"fault": "unauthorized"},
}
numbers = itertools.count(1)
modes = pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])


@pytest.fixture(scope="module")
def sandbox_process() -> Iterator[SandboxProcess]:
    """A separate sandbox, because these tests modify it."""
    with SandboxProcess() as process:
        process.freeze()
        yield process


@pytest.fixture
def sandbox(sandbox: SandboxProcess) -> Iterator[SandboxProcess]:
    yield sandbox
    sandbox.set_faults()


@pytest.fixture(autouse=True)
def clock(sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> SandboxClock:
    clock = SandboxClock(sandbox)
    monkeypatch.setattr("time.time", clock.time_of_day)
    monkeypatch.setattr("time.monotonic", clock.time)
    monkeypatch.setattr("time.sleep", clock.sleep)
    monkeypatch.setattr(connections, "get_connection_and_extra", read_connection_inline)
    # The sandbox's Date header contains the time of this machine, not that of the sandbox.
    monkeypatch.setattr(submission, "wall_clock", lambda: sandbox.now() / 1000 - (real_time() - clock.time_of_day()))
    return clock


@pytest.fixture(autouse=True)
def connection(sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", sandbox.airflow_conn)


@pytest.fixture
def new_task(clock: SandboxClock, deferrable: bool) -> Callable[[], SandboxTask]:
    return lambda: SandboxTask(clock, deferrable=deferrable)


@pytest.fixture
def task(new_task: Callable[[], SandboxTask]) -> SandboxTask:
    return new_task()


@pytest.fixture
def new_job(client):
    """Creates jobs with unique names; a run reads 1000 records per second."""

    def create(records=10_000, *, pipeline="Orders to warehouse", version=None, parameters=None, **more):
        found = client.pipelines.version(client.pipelines.find_by_name(pipeline).pipeline_id, version=version)
        given = {"RECORDS": records, "RATE": 1000, "ERROR_SHARE": 0, **(parameters or {})}
        settings = {"engine_labels": ["prod"], "runtime_parameters": given, "statistics_interval": 1, **more}
        return client.jobs.create(JobSettings(name=f"Job {next(numbers)}", **settings), found)

    return create


def run_job(task, job, **arguments):
    return task.run(ControlHubRunJobOperator, job_id=job.job_id, poll_interval=5, **arguments)


def starts_of(sandbox, job):
    return [start["run_count"] for start in sandbox.starts(job.name)]


@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "401"])
def test_client_wait_outlasts_faults(sandbox, clock, new_job, fault):
    job = new_job()
    with client_of(sandbox, sleep=clock.sleep) as client:
        run = client.runs.start(job)
        sandbox.set_faults({**FAULTS[fault], "path": "*", "times": 30})
        tracker = RunTracker(client, job.job_id, run.run_count, job_name=job.name, now=clock.time)
        report = wait_with_tracker(tracker, Deadline(600, sleep=clock.sleep, now=clock.time), poll_interval=2)
    assert (report.outcome, report.metrics_final) == (Outcome.SUCCEEDED, True)
    assert report.metrics.input_count == 10_000


@modes
@pytest.mark.parametrize("fault", FAULTS)
def test_task_wait_outlasts_faults(sandbox, task, new_job, fault):
    job = new_job()
    # Lasts from the first poll until long after the end of the run.
    task.ti.on_started = lambda: sandbox.set_faults({**FAULTS[fault], "path": "*", "times": 8})
    result = run_job(task, job)
    assert (result["outcome"], result["metrics"]["input_count"]) == ("SUCCEEDED", 10_000)
    assert sandbox.faults()[0]["hit"] == 8
    assert starts_of(sandbox, job) == [1]


@modes
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_at_run_end_do_not_hide_stop(sandbox, clock, task, new_job, fault):
    job = new_job(records=1_000_000)
    task.ti.on_started = lambda: sandbox.set_faults({**FAULTS[fault], "path": "*/saql/*", "times": 3})
    clock.after(10, lambda: sandbox.call("POST", f"/jobrunner/rest/v1/job/{job.job_id}/stop"))
    with pytest.raises(ControlHubRunFailedError) as caught:
        run_job(task, job)
    assert caught.value.outcome == "STOPPED"


@modes
def test_single_401_is_retried(sandbox, clock, task, new_job):
    job, began = new_job(), clock.now
    task.ti.on_started = lambda: sandbox.set_faults({"fault": "unauthorized", "path": STATUSES, "times": 1})
    assert run_job(task, job)["outcome"] == "SUCCEEDED"
    assert sandbox.faults()[0]["hit"] == 1
    assert clock.now - began < 30


@modes
def test_refusal_is_confirmed_after_credential_grace_period(sandbox, clock, task, new_job, monkeypatch):
    connection = json.loads(sandbox.airflow_conn)
    connection["extra"] = {**connection.get("extra", {}), "credential_grace_period": 60}
    monkeypatch.setenv("AIRFLOW_CONN_STREAMSETS_DEFAULT", json.dumps(connection))
    job, began = new_job(records=1_000_000), clock.now
    task.ti.on_started = lambda: sandbox.set_faults({"fault": "unauthorized", "path": "*"})
    with pytest.raises(ControlHubAuthenticationError, match="has not changed") as caught:
        run_job(task, job)
    assert (caught.value.http_status, caught.value.codes) == (401, ("SSO_01",))
    # In deferrable mode, both the triggerer and, before it stops the run, the worker wait this long.
    assert 60 <= clock.now - began < 90
    assert sandbox.job_state(job.name)["status"] == "ACTIVE"


@modes
def test_late_start_is_not_repeated(sandbox, clock, task, new_job):
    job = new_job()
    sandbox.set_faults({"fault": "late", "path": "*/start", "seconds": 0.2, "times": 1})

    def wait_until_delivered():
        deadline = perf_counter() + 10
        while not starts_of(sandbox, job):
            assert perf_counter() < deadline

    clock.after(5, wait_until_delivered)
    assert run_job(task, job)["outcome"] == "SUCCEEDED"
    assert starts_of(sandbox, job) == [1]
    assert sandbox.faults()[0]["matched"] == 1


class LostError(BaseException):
    """Simulates the loss of the process."""


def test_late_duplicate_of_lost_worker_is_not_repeated(client, sandbox, clock, new_job):
    job = new_job()
    sandbox.set_faults({"fault": "late", "path": "*/duplicate", "seconds": 0.2, "times": 1})
    context = {"ti": TaskInstance(), "task_state_store": StateStore()}
    name = f"Copy of {job.name} "

    def duplicate():
        operator = ControlHubDuplicateJobOperator(task_id="task", job_id=job.job_id, number_of_copies=2, name=name)
        return operator.execute(context)

    def copies():
        return {copy.job_id: copy.name for copy in client.jobs.list(name_starts_with=name)}

    def lose():
        raise LostError

    def wait_until_delivered():
        deadline = perf_counter() + 10
        while len(copies()) < 2:
            assert perf_counter() < deadline

    clock.after(1, lose)
    with pytest.raises(LostError):
        duplicate()
    clock.after(5, wait_until_delivered)
    assert dict.fromkeys(duplicate()) == dict.fromkeys(copies())
    assert sorted(copies().values()) == [f"{name}1", f"{name}2"]
    assert sandbox.faults()[0]["matched"] == 1


@modes
@pytest.mark.parametrize("unknown_job", UNKNOWN_JOB)
def test_job_deleted_during_wait_loses_run(client, sandbox, clock, task, new_job, unknown_job):
    sandbox.set_variants(unknown_job=unknown_job)
    job = new_job(records=1_000_000)

    def delete():
        client.runs.stop(job.job_id)
        sandbox.advance(60)
        assert client.jobs.delete([job.job_id]) == [job.job_id]

    clock.after(12, delete)
    with pytest.raises(ControlHubRunLostError, match="the job does not exist any more"):
        run_job(task, job)
    assert starts_of(sandbox, job) == [1]


@pytest.mark.parametrize("deferrable", [False])
@pytest.mark.parametrize("unknown_job", UNKNOWN_JOB)
def test_unknown_job_is_not_found(sandbox, task, unknown_job):
    sandbox.set_variants(unknown_job=unknown_job)
    with pytest.raises(ControlHubNotFoundError, match=r"knows no such job|does not exist") as caught:
        task.run(ControlHubRunJobOperator, job_id="unknown:org")
    if unknown_job == "403":
        assert "or the credential may not read it" in str(caught.value)
        assert caught.value.http_status == 403


@modes
def test_starter_on_all_events_is_not_a_stop(sandbox, task, new_job):
    sandbox.set_variants(event_users="starter_on_all")
    assert run_job(task, new_job())["outcome"] == "SUCCEEDED"


@modes
def test_stop_differs_from_success_despite_late_engine_clock(sandbox, clock, task, new_job):
    sandbox.set_variants(engine_clock_behind=3)
    assert run_job(task, new_job())["outcome"] == "SUCCEEDED"
    job = new_job(records=1_000_000)
    clock.after(12, lambda: sandbox.call("POST", f"/jobrunner/rest/v1/job/{job.job_id}/stop"))
    with pytest.raises(ControlHubRunFailedError, match="was stopped") as caught:
        run_job(task, job)
    assert (caught.value.outcome, caught.value.job_name, caught.value.run_count) == ("STOPPED", job.name, 1)
    assert caught.value.metrics["input_count"] > 0
    assert task.ti.xcoms["result"]["outcome"] == "STOPPED"


@modes
def test_forced_stop_error_does_not_block_next_start(client, sandbox, task, new_job):
    sandbox.set_variants(forced_stop_end="inactive_error")
    job = new_job(pipeline="Stubborn stream", parameters={}, engine_labels=["dev"])
    with pytest.raises(ControlHubRunTimeoutError):
        run_job(task, job, wait_timeout=20, force_stop_after=5)
    run = client.runs.current(job.job_id)
    assert (run.run_count, run.status) == (1, "INACTIVE")
    with pytest.raises(ControlHubRunTimeoutError):
        run_job(task, job, wait_timeout=20, force_stop_after=5)
    assert starts_of(sandbox, job) == [1, 2]


@modes
def test_wait_follows_successor_of_upgraded_run(client, sandbox, clock, task, new_job):
    sandbox.set_variants(upgrade_active="successor")
    job = new_job(records=30_000, version=2)
    clock.after(10, lambda: client.jobs.upgrade([job.job_id]))
    result = run_job(task, job)
    assert (result["run_count"], result["outcome"]) == (2, "SUCCEEDED")
    assert task.ti.xcoms["run_count"] == 2
    assert client.runs.current(job.job_id).run_count == 2


@modes
@pytest.mark.parametrize("time_series", [True, False], ids=["time series", "counters"])
def test_conditions_are_evaluated_without_status_counts(client, sandbox, task, new_job, time_series):
    sandbox.set_variants(counts_on_status="never")
    job = new_job(records=1_000_000, parameters={"ERROR_SHARE": 0.5}, time_series=time_series)
    client.runs.start(job)
    found = task.run(
        ControlHubJobMetricSensor, job_id=job.job_id, metric="input_count", threshold=150_000, poke_interval=10
    )
    assert found["satisfied"]
    assert not found["run_ended"]
    client.runs.stop(job.job_id)
    sandbox.advance(60)
    with pytest.raises(ControlHubExpectationError, match=r"error_ratio"):
        run_job(task, job, expect=["error_ratio < 0.01"], stop_on_violation=True)
    assert sandbox.job_state(job.name)["status"] in {"DEACTIVATING", "INACTIVE"}


@modes
def test_newest_run_counts_are_found_despite_gaps(sandbox, new_task, new_job):
    sandbox.set_variants(counts_of_earlier="gap", counts_key_0="missing")
    job = new_job()
    for run_count in (1, 2, 3):
        result = run_job(new_task(), job, expect=["output_count == 10000"])
        assert (result["run_count"], result["metrics"]["input_count"]) == (run_count, 10_000)
        assert result["metrics_final"]


@modes
@pytest.mark.parametrize("needs_ack", ["true", "false"])
def test_unacknowledged_error_fails_next_try(sandbox, task, new_job, needs_ack):
    sandbox.set_variants(needs_ack_default=needs_ack)
    job = new_job(parameters={"FAILS_AFTER": 5000})
    task.ti.max_tries = 2
    for _ in range(2):
        with pytest.raises(ControlHubRunFailedError) as caught:
            run_job(task, job)
    blocked = needs_ack == "true"
    assert caught.value.run_count == (1 if blocked else 2)
    assert ("acknowledge_errors=True" in str(caught.value)) is blocked
    assert caught.value.outcome == "FAILED"
    result = task.run(
        ControlHubRunJobOperator, job_id=job.job_id, runtime_parameters={"FAILS_AFTER": ""}, acknowledge_errors=True
    )
    assert (result["run_count"], result["outcome"]) == (2 if blocked else 3, "SUCCEEDED")


# Instances of a template


@modes
@pytest.mark.parametrize("fault", [None, "reset_after"])
def test_fan_out_retry_starts_only_failed_instances(task, client, sandbox, fault):
    pipeline = client.pipelines.version(client.pipelines.find_by_name("Orders to warehouse").pipeline_id)
    given = {"RECORDS": 5000, "RATE": 1000, "ERROR_SHARE": 0, "FAILS_AFTER": "", "NUMBER": 0}
    settings = {"engine_labels": ["prod"], "runtime_parameters": given, "statistics_interval": 1}
    template = client.jobs.create(JobSettings(name=f"Fan-out {next(numbers)}", **settings), pipeline, template=True)

    def run(*failing):
        if fault:
            path = f"/jobrunner/rest/v1/job/{template.job_id}/createAndStartJobInstances"
            sandbox.set_faults({"method": "POST", "path": path, "fault": fault, "times": 1})
        sets = [{"NUMBER": number, "FAILS_AFTER": "1000" if number in failing else ""} for number in range(40)]
        arguments = {"job_id": template.job_id, "runtime_parameters": sets, "poll_interval": 5}
        return task.run(ControlHubRunJobTemplateOperator, **arguments)

    task.ti.max_tries = 3
    with pytest.raises(ControlHubRunFailedError, match="3 of 40 runs did not succeed"):
        run(3, 17, 39)
    first = {job.runtime_parameters["NUMBER"]: job.job_id for job in client.jobs.list(template_id=template.job_id)}
    result = run()
    instances = {job.job_id: job for job in client.jobs.list(template_id=template.job_id)}
    assert len(instances) == 43
    assert {job.last_run_count for job in instances.values()} == {1}
    ids = [instance["job_id"] for instance in result["instances"]]
    assert [instances[job_id].runtime_parameters["NUMBER"] for job_id in ids] == list(range(40))
    assert [number for number, job_id in enumerate(ids) if job_id != first[number]] == [3, 17, 39]
    assert result["metrics"]["output_count"] == 40 * 5000
