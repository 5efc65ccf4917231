"""The OpenLineage events of tasks that run on a sandbox, at the border to the OpenLineage provider."""

from __future__ import annotations

from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_streamsets.control_hub import ControlHubRunFailedError, ControlHubRunTimeoutError, JobSettings
from airflow_provider_streamsets.operators.bulk import ControlHubStartJobsOperator
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator, ControlHubStopJobOperator
from airflow_provider_streamsets.operators.templates import ControlHubRunJobTemplateOperator
from tests.integration.test_fault_tolerance import clock, connection, modes, new_job, sandbox, sandbox_process
from tests.unit.conftest import StateStore, TaskInstance
from tests.unit.fakes.task_runner import TaskRunner

events = pytest.importorskip("airflow_provider_streamsets.openlineage.events")
Serde = pytest.importorskip("openlineage.client.serde").Serde
lineage_run_id = events.macros.lineage_run_id

__all__ = ["clock", "connection", "new_job", "sandbox", "sandbox_process"]

WAREHOUSE = "postgres://warehouse.example.com:5432"


@pytest.fixture(autouse=True)
def emitted(monkeypatch) -> list[dict[str, Any]]:
    """The events that the OpenLineage provider receives, as JSON."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr("airflow.providers.openlineage.conf.is_disabled", lambda: False)
    monkeypatch.setattr(events, "emit", lambda event: found.append(Serde.to_dict(event)))
    return found


class Task:
    """A task instance whose tries run as Airflow does with OpenLineage: at their ends, the operator is asked."""

    def __init__(self, clock: Any, operator: Any, deferrable: bool | None, **arguments: Any) -> None:
        self._clock, self._operator = clock, operator
        self._arguments = {"task_id": "task", "poll_interval": 5, "deferrable": deferrable, **arguments}
        self.ti = TaskInstance()
        self.ti.dag_run = SimpleNamespace(
            logical_date=datetime(2026, 7, 1, tzinfo=timezone.utc), run_after=None, clear_number=0, conf={}
        )
        self.ti.get_template_context = dict
        self.context = {"ti": self.ti, "task_state_store": StateStore()}

    def make(self) -> Any:
        self.last_leg = self._operator(**self._arguments)
        return self.last_leg

    def run(self) -> Any:
        """Run one try to its end."""
        try:
            return TaskRunner(self._clock, self.make, self.context).run()
        finally:
            self.last_leg.get_openlineage_facets_on_complete(self.ti)

    def lose_worker(self) -> None:
        """Start the run, and lose it: the next try finds what this one has saved."""
        with pytest.raises(TaskDeferred):
            self.make().execute(self.context)
        self.ti.try_number += 1

    @property
    def run_id(self) -> str:
        return lineage_run_id(self.ti)


@pytest.fixture
def new_task(clock):
    return lambda operator, deferrable=True, **arguments: Task(clock, operator, deferrable, **arguments)


def types(emitted: list[dict[str, Any]]) -> list[str]:
    return [event["eventType"] for event in emitted]


def parents(emitted: list[dict[str, Any]]) -> list[str | None]:
    facets = [event["run"]["facets"].get("parent") for event in emitted]
    return [facet and facet["run"]["runId"] for facet in facets]


def names(datasets: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(dataset["namespace"], dataset["name"]) for dataset in datasets]


@modes
def test_run_is_child_of_task(emitted, new_job, new_task, deferrable):
    job = new_job(description="Every night", tags=["nightly/orders"])
    task = new_task(ControlHubRunJobOperator, deferrable, job_id=job.job_id)
    result = task.run()
    start, end = emitted
    assert types(emitted) == ["START", "COMPLETE"]
    assert parents(emitted) == [task.run_id, task.run_id]
    assert start["run"]["runId"] == end["run"]["runId"] != task.run_id
    assert [datetime.fromisoformat(event["eventTime"]) for event in emitted] == [
        datetime.fromisoformat(result[key].replace("Z", "+00:00")) for key in ("start_time", "finish_time")
    ]
    root = end["run"]["facets"]["parent"]["root"]
    assert root["job"]["name"] == "dag"
    assert end["job"]["namespace"] == f"streamsets://{job.organization}"
    assert end["job"]["name"] == job.name
    facets = end["job"]["facets"]
    assert facets["documentation"]["description"] == "Every night"
    assert [tag["key"] for tag in facets["tags"]["tags"]] == ["nightly/orders"]
    assert facets["sourceCodeLocation"]["url"].endswith(f"/jobs/detail/{job.job_id}")
    run = end["run"]["facets"]["streamsets_run"]
    assert (run["jobId"], run["runCount"], run["status"]) == (job.job_id, 1, "INACTIVE")
    assert (run["inputRecords"], run["outputRecords"], run["metricsFinal"]) == (10_000, 10_000, True)
    assert names(end["outputs"]) == [(WAREHOUSE, "dwh.sales.orders")]
    assert end["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 10_000
    assert end["run"]["facets"]["processing_engine"]["version"] == "5.10.0"


@modes
def test_failed_run_has_error(emitted, new_job, new_task, deferrable):
    job = new_job(pipeline="Customers nightly", parameters={"SCHEMA": "shop"})
    with pytest.raises(ControlHubRunFailedError):
        new_task(ControlHubRunJobOperator, deferrable, job_id=job.job_id).run()
    _, end = emitted
    assert types(emitted) == ["START", "FAIL"]
    assert "JDBC_34" in end["run"]["facets"]["errorMessage"]["message"]
    # The parameter of the job, instead of the default of the pipeline.
    assert names(end["inputs"]) == [("mysql://crm.example.com:3306", "shop.customers")]
    assert end["inputs"][0]["inputFacets"]["inputStatistics"]["rowCount"] == 6000


@modes
def test_each_of_several_runs_has_events(emitted, new_job, new_task, deferrable):
    jobs = [new_job(), new_job(records=20_000)]
    task = new_task(ControlHubStartJobsOperator, deferrable, job_ids=[job.job_id for job in jobs])
    task.run()
    assert types(emitted) == ["START", "START", "COMPLETE", "COMPLETE"]
    assert {event["job"]["name"] for event in emitted} == {job.name for job in jobs}
    assert len({event["run"]["runId"] for event in emitted}) == 2
    assert set(parents(emitted)) == {task.run_id}


@modes
def test_each_instance_of_template_has_events(emitted, new_task, client, deferrable):
    version = client.pipelines.version(client.pipelines.find_by_name("Orders to warehouse").pipeline_id)
    settings = JobSettings(name=f"Lineage template {deferrable}", engine_labels=["prod"], needs_acknowledgement=False)
    template = client.jobs.create(settings, version, template=True)
    task = new_task(
        ControlHubRunJobTemplateOperator,
        deferrable,
        job_id=template.job_id,
        runtime_parameters=[{"RECORDS": "1000"}, {"FAILS_AFTER": "5000"}],
    )
    with pytest.raises(ControlHubRunFailedError):
        task.run()
    assert sorted(types(emitted)) == ["COMPLETE", "FAIL", "START", "START"]
    assert set(parents(emitted)) == {task.run_id}


def test_run_without_wait_has_start_only(emitted, new_job, new_task):
    job = new_job()
    new_task(ControlHubRunJobOperator, None, job_id=job.job_id, wait_for_completion=False).run()
    assert types(emitted) == ["START"]


def test_parameters_of_task_name_datasets(emitted, sandbox, new_job, new_task):
    job = new_job(pipeline="Clickstream to lake")
    new_task(
        ControlHubRunJobOperator, job_id=job.job_id, wait_for="active", runtime_parameters={"TOPIC": "orders"}
    ).run()
    (start,) = emitted
    assert names(start["inputs"]) == [("kafka://kafka.example.com:9092", "orders")]
    assert names(start["outputs"]) == [("s3://example-lake", "clickstream")]
    assert start["job"]["facets"]["jobType"]["processingType"] == "STREAMING"


def test_stop_ends_run_of_other_task(emitted, new_job, new_task):
    job = new_job(pipeline="Clickstream to lake")
    starter = new_task(ControlHubRunJobOperator, job_id=job.job_id, wait_for="active")
    starter.run()
    new_task(ControlHubStopJobOperator, job_id=job.job_id).run()
    start, end = emitted
    assert types(emitted) == ["START", "ABORT"]
    assert parents(emitted) == [starter.run_id, None]
    # The topic is a runtime parameter, whose value only the task that starts the run knows.
    assert (len(start["inputs"]), end["inputs"]) == (1, [])
    assert names(start["outputs"]) == names(end["outputs"])
    assert len({event["run"]["runId"] for event in emitted}) == 1


def test_joined_run_is_not_child_of_task(emitted, sandbox, new_job, new_task):
    job = new_job()
    sandbox.start_job(job.name)
    new_task(ControlHubRunJobOperator, job_id=job.job_id, if_running="join").run()
    assert types(emitted) == ["COMPLETE"]
    assert parents(emitted) == [None]


@modes
def test_retry_continues_run(emitted, new_job, new_task, deferrable):
    job = new_job(records=60_000)
    task = new_task(
        ControlHubRunJobOperator, deferrable, job_id=job.job_id, wait_timeout=45, on_timeout="leave", metrics_timeout=0
    )
    task.ti.max_tries = 1
    with pytest.raises(ControlHubRunTimeoutError):
        task.run()
    first = task.run_id
    task.ti.try_number = 2
    task.run()
    assert types(emitted) == ["START", "START", "COMPLETE"]
    assert len({event["run"]["runId"] for event in emitted}) == 1
    assert parents(emitted) == [first, task.run_id, task.run_id]


@modes
def test_retry_announces_kept_runs_once(emitted, new_job, new_task, deferrable):
    jobs = [new_job(records=60_000).job_id for _ in range(2)]
    task = new_task(
        ControlHubStartJobsOperator, deferrable, job_ids=jobs, wait_timeout=45, on_timeout="leave", metrics_timeout=0
    )
    task.ti.max_tries = 1
    with pytest.raises(ControlHubRunTimeoutError):
        task.run()
    emitted.clear()
    task.ti.try_number = 2
    task.run()
    assert sorted(types(emitted)) == ["COMPLETE", "COMPLETE", "START", "START"]


@modes
def test_run_stopped_at_timeout_is_aborted(emitted, new_job, new_task, deferrable):
    job = new_job(records=1_000_000)
    task = new_task(ControlHubRunJobOperator, deferrable, job_id=job.job_id, wait_timeout=30)
    with pytest.raises(ControlHubRunTimeoutError):
        task.run()
    assert types(emitted) == ["START", "ABORT"]
    assert parents(emitted) == [task.run_id, task.run_id]


def test_run_that_ended_without_task_has_end(emitted, sandbox, clock, new_job, new_task):
    job = new_job()
    task = new_task(ControlHubRunJobOperator, job_id=job.job_id)
    task.lose_worker()
    clock.sleep(120)
    assert task.run()["run_count"] == 1
    assert types(emitted) == ["START", "COMPLETE"]
    assert len({event["run"]["runId"] for event in emitted}) == 1


def test_outage_of_control_hub_leaves_events_without_datasets(emitted, sandbox, new_job, new_task):
    job = new_job()
    sandbox.set_faults({"fault": "server_error", "path": "*/pipelineCommit/*"})
    new_task(ControlHubRunJobOperator, job_id=job.job_id).run()
    assert types(emitted) == ["START", "COMPLETE"]
    assert [names(event["outputs"]) for event in emitted] == [[], []]


@modes
def test_costs_few_requests(emitted, sandbox, new_job, new_task, deferrable, monkeypatch):
    def requests_of_run() -> int:
        job, before = new_job(), sandbox.requests()["total"]
        new_task(ControlHubRunJobOperator, deferrable, job_id=job.job_id).run()
        return int(sandbox.requests()["total"]) - before

    with_lineage = requests_of_run()
    monkeypatch.setattr("airflow.providers.openlineage.conf.is_disabled", lambda: True)
    # At the start, jobs and pipelines; at the end, the engines, too.
    assert with_lineage - requests_of_run() == 5
