"""Run operations: offsets, history, metrics, start, stop, templates, waiting."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from airflow_provider_streamsets.control_hub import ControlHubClient, Job
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.tracking.wait import stop_runs
from tests.benchmarks.environment import Environment
from tests.benchmarks.job_operations import BATCH, STREAM, VERSIONED
from tests.benchmarks.measurement import Operation

# From the sandbox's seed: pipelines, and past runs of the job VERSIONED.
BATCH_RECORDS = 100
SLOW_BATCH, SLOW_BATCH_RECORDS = "Regional orders", 10_000
FAILING = "Ledger export"
INPUT_COUNTS = [(3, 60_000), (2, 21_000), (1, 60_000)]

OFFSET = "$com.streamsets.datacollector.pollsource.offset$"
# The SDK polls every second, starting immediately.
POLL_INTERVAL = 1.0
_TIMEOUT = 60.0

_T = TypeVar("_T")


def document(position: int) -> dict[str, Any]:
    return {"version": 2, "offsets": {OFFSET: str(position)}}


def poll_until(fetch: Callable[[], _T], condition: Callable[[_T], bool]) -> _T:
    """Poll at the SDK's interval until the condition holds."""
    deadline = time.monotonic() + _TIMEOUT
    while not condition(value := fetch()):
        assert time.monotonic() < deadline, f"timed out after {_TIMEOUT:g} s; last value: {value}"
        time.sleep(POLL_INTERVAL)
    return value


@dataclass(frozen=True)
class ResetOffsets(Operation):
    """Reset the offsets of all jobs with a tag."""

    count: int

    def prepare(self, environment: Environment) -> list[Job]:
        jobs = environment.add_jobs(self.count, BATCH)
        environment.run_to_completion(jobs)
        return jobs

    def with_sdk(self, hub: Any, prepared: list[Job]) -> None:
        hub.reset_origin(*hub.jobs.get_all(job_tag=prepared[0].tags[0]))

    def with_client(self, client: ControlHubClient, prepared: list[Job]) -> None:
        client.offsets.reset(job.job_id for job in client.jobs.list(tag=prepared[0].tags[0]))

    def effect(self, environment: Environment, prepared: list[Job], returned: None) -> Any:
        return [environment.client.offsets.current(job.job_id) for job in prepared]

    def expected(self, environment: Environment, prepared: list[Job]) -> Any:
        return [[]] * self.count


class ReadOffsets(Operation):
    """Base class for reading offset documents, one for each engine."""

    def prepare(self, environment: Environment) -> Job:
        job = environment.add_job(BATCH)
        environment.run_to_completion([job], times=2)
        return job

    def effect(self, environment: Environment, prepared: Job, returned: list[Any]) -> Any:
        return returned

    @staticmethod
    def documents(offsets: Iterable[Any]) -> list[Any]:
        return [json.loads(offset.offset) for offset in offsets]


class ReadCurrentOffsets(ReadOffsets):
    def with_sdk(self, hub: Any, prepared: Job) -> list[Any]:
        return self.documents(hub.jobs.get(job_name=prepared.name).current_status.offsets)

    def with_client(self, client: ControlHubClient, prepared: Job) -> list[Any]:
        return [
            dict(offset.document) for offset in client.offsets.current(client.jobs.find_by_name(prepared.name).job_id)
        ]

    def expected(self, environment: Environment, prepared: Job) -> Any:
        return [document(2 * BATCH_RECORDS)]


class ReadRunOffsets(ReadOffsets):
    def with_sdk(self, hub: Any, prepared: Job) -> list[Any]:
        return self.documents(hub.jobs.get(job_name=prepared.name).history.get(run_count=1).offsets)

    def with_client(self, client: ControlHubClient, prepared: Job) -> list[Any]:
        job = client.jobs.find_by_name(prepared.name)
        return [dict(offset.document) for offset in client.offsets.of_run(job.job_id, 1)]

    def expected(self, environment: Environment, prepared: Job) -> Any:
        return [document(BATCH_RECORDS)]


class UploadOffset(Operation):
    def prepare(self, environment: Environment) -> Job:
        return environment.add_job(BATCH)

    def with_sdk(self, hub: Any, prepared: Job) -> None:
        hub.upload_offset(hub.jobs.get(job_name=prepared.name), offset_json=document(5000))

    def with_client(self, client: ControlHubClient, prepared: Job) -> None:
        client.offsets.upload(client.jobs.find_by_name(prepared.name).job_id, document(5000))

    def effect(self, environment: Environment, prepared: Job, returned: None) -> Any:
        return [dict(offset.document) for offset in environment.client.offsets.current(prepared.job_id)]

    def expected(self, environment: Environment, prepared: Job) -> Any:
        return [document(5000)]


class Read(Operation):
    """Base class for reading data of a seed job with three past runs."""

    def prepare(self, environment: Environment) -> None:
        return None

    def effect(self, environment: Environment, prepared: None, returned: Any) -> Any:
        return returned


class StatusHistory(Read):
    def with_sdk(self, hub: Any, prepared: None) -> Any:
        history = hub.jobs.get(job_name=VERSIONED).history
        return [(run.run_count, run.status, run.color) for run in history]

    def with_client(self, client: ControlHubClient, prepared: None) -> Any:
        history = client.runs.history(client.jobs.find_by_name(VERSIONED).job_id)
        return [(run.run_count, run.status, run.color) for run in history]

    def expected(self, environment: Environment, prepared: None) -> Any:
        return [(3, "INACTIVE", "GRAY"), (2, "INACTIVE", "RED"), (1, "INACTIVE", "GRAY")]


class RunEvents(Read):
    def with_sdk(self, hub: Any, prepared: None) -> Any:
        events = hub.jobs.get(job_name=VERSIONED).history.get(run_count=1).run_history
        return [event.status for event in sorted(events, key=lambda event: event.time)]

    def with_client(self, client: ControlHubClient, prepared: None) -> Any:
        run = client.runs.get(client.jobs.find_by_name(VERSIONED).job_id, 1)
        return [event.status for event in client.runs.events(run.run_id)] if run else []

    def expected(self, environment: Environment, prepared: None) -> Any:
        return ["ACTIVATING", "ACTIVE", "DEACTIVATING", "INACTIVE"]


class AllRunMetrics(Read):
    def with_sdk(self, hub: Any, prepared: None) -> Any:
        return [(run.run_count, run.input_count) for run in hub.jobs.get(job_name=VERSIONED).metrics]

    def with_client(self, client: ControlHubClient, prepared: None) -> Any:
        job = client.jobs.find_by_name(VERSIONED)
        metrics = client.metrics.all_runs(job.job_id, latest=job.current_run)
        return [(run.run_count, run.input_count) for run in metrics]

    def expected(self, environment: Environment, prepared: None) -> Any:
        return INPUT_COUNTS


class RunMetrics(Read):
    def with_sdk(self, hub: Any, prepared: None) -> Any:
        return hub.jobs.get(job_name=VERSIONED).metrics.get(run_count=2).input_count

    def with_client(self, client: ControlHubClient, prepared: None) -> Any:
        job = client.jobs.find_by_name(VERSIONED)
        metrics = client.metrics.of_run(job.job_id, 2, latest=job.current_run)
        return metrics and metrics.input_count

    def expected(self, environment: Environment, prepared: None) -> Any:
        return dict(INPUT_COUNTS)[2]


class RealtimeSummary(Operation):
    """Read all four live counts."""

    def prepare(self, environment: Environment) -> Job:
        job = environment.add_job(STREAM)
        environment.start([job])
        return job

    def with_sdk(self, hub: Any, prepared: Job) -> Any:
        summary = hub.jobs.get(job_name=prepared.name).realtime_summary
        return (
            summary.data_batch_count,
            summary.idle_batch_count,
            summary.input_record_count,
            summary.output_record_count,
        )

    def with_client(self, client: ControlHubClient, prepared: Job) -> Any:
        live = client.metrics.realtime(client.jobs.find_by_name(prepared.name))
        return live.batch_count, live.idle_batch_count, live.input_count, live.output_count

    def effect(self, environment: Environment, prepared: Job, returned: Any) -> Any:
        batches, idle_batches, inputs, outputs = returned
        return batches > 0, idle_batches, 0 < outputs <= inputs

    def expected(self, environment: Environment, prepared: Job) -> Any:
        return True, 0, True


class BalanceEngines(Operation):
    """Balance all engines, of which the first runs two pipelines and the second none."""

    def prepare(self, environment: Environment) -> list[Job]:
        jobs = environment.add_jobs(2, STREAM, failover=True)
        environment.start(jobs)
        return jobs

    def with_sdk(self, hub: Any, prepared: list[Job]) -> None:
        hub.balance_engines(*hub.data_collectors)

    def with_client(self, client: ControlHubClient, prepared: list[Job]) -> None:
        client.engines.balance(engine.engine_id for engine in client.engines.list())

    def effect(self, environment: Environment, prepared: list[Job], returned: None) -> Any:
        environment.sandbox.advance(10)
        runs = [job.current_run for job in environment.reload(prepared)]
        return len({run.engine_ids for run in runs if run}), {run.status for run in runs if run}

    def expected(self, environment: Environment, prepared: list[Job]) -> Any:
        return 2, {"ACTIVE"}


def run_counts(jobs: Iterable[Job]) -> list[int]:
    return [job.last_run_count for job in jobs]


def statuses(jobs: Iterable[Job]) -> set[str]:
    return {job.current_run.status if job.current_run else "" for job in jobs}


@dataclass(frozen=True)
class StartJobs(Operation):
    """Start all jobs with a tag without waiting."""

    count: int

    def prepare(self, environment: Environment) -> list[Job]:
        return environment.add_jobs(self.count, STREAM)

    def with_sdk(self, hub: Any, prepared: list[Job]) -> None:
        hub.start_job(*hub.jobs.get_all(job_tag=prepared[0].tags[0]), wait=False)

    def with_client(self, client: ControlHubClient, prepared: list[Job]) -> None:
        client.runs.start_many(client.jobs.list(tag=prepared[0].tags[0]))

    def effect(self, environment: Environment, prepared: list[Job], returned: None) -> Any:
        environment.sandbox.advance(10)
        jobs = environment.reload(prepared)
        return run_counts(jobs), statuses(jobs)

    def expected(self, environment: Environment, prepared: list[Job]) -> Any:
        return [1] * self.count, {"ACTIVE"}


@dataclass(frozen=True)
class StopJobs(Operation):
    """Stop all jobs with a tag and wait, as the SDK always does."""

    count: int

    def prepare(self, environment: Environment) -> list[Job]:
        jobs = environment.add_jobs(self.count, STREAM)
        environment.start(jobs)
        return jobs

    def with_sdk(self, hub: Any, prepared: list[Job]) -> None:
        hub.stop_job(*hub.jobs.get_all(job_tag=prepared[0].tags[0]))

    def with_client(self, client: ControlHubClient, prepared: list[Job]) -> None:
        jobs = client.jobs.list(tag=prepared[0].tags[0])
        runs = {job.job_id: job.last_run_count for job in jobs}
        stop_runs(client, runs, Deadline(_TIMEOUT), poll_interval=POLL_INTERVAL)

    def effect(self, environment: Environment, prepared: list[Job], returned: None) -> Any:
        jobs = environment.reload(prepared)
        return run_counts(jobs), statuses(jobs)

    def expected(self, environment: Environment, prepared: list[Job]) -> Any:
        return [1] * self.count, {"INACTIVE"}


class AcknowledgeAndStart(Operation):
    """Acknowledge the error of a job and start it."""

    def prepare(self, environment: Environment) -> Job:
        job = environment.add_job(FAILING, needs_acknowledgement=True)
        environment.run_to_completion([job])
        assert statuses(environment.reload([job])) == {"INACTIVE_ERROR"}
        return job

    def with_sdk(self, hub: Any, prepared: Job) -> None:
        job = hub.jobs.get(job_name=prepared.name)
        hub.acknowledge_job_error(job)
        hub.start_job(job, wait=False)

    def with_client(self, client: ControlHubClient, prepared: Job) -> None:
        job = client.jobs.find_by_name(prepared.name)
        client.runs.acknowledge([job.job_id])
        client.runs.start(job.job_id)

    def effect(self, environment: Environment, prepared: Job, returned: None) -> Any:
        return run_counts(environment.reload([prepared]))

    def expected(self, environment: Environment, prepared: Job) -> Any:
        return [2]


@dataclass(frozen=True)
class StartTemplate(Operation):
    """Start template instances and wait until all are active, as the SDK does."""

    instances: int

    def prepare(self, environment: Environment) -> Job:
        return environment.add_job(STREAM, template=True, runtime_parameters={"TOPIC": "clicks"})

    def with_sdk(self, hub: Any, prepared: Job) -> list[str]:
        template = hub.jobs.get(job_name=prepared.name, job_template=True)
        return [job.id for job in hub.start_job_template(template, number_of_instances=self.instances)]

    def with_client(self, client: ControlHubClient, prepared: Job) -> list[str]:
        template = client.jobs.find_by_name(prepared.name, templates=True)
        ids = [job.job_id for job in client.templates.start(template, [{}] * self.instances)]
        poll_until(
            lambda: client.runs.statuses(ids),
            lambda statuses: all(run and run.status == "ACTIVE" for run in statuses.values()),
        )
        return ids

    def effect(self, environment: Environment, prepared: Job, returned: list[str]) -> Any:
        jobs = environment.client.jobs.get_many(returned).values()
        return len(jobs), {job.template_id for job in jobs}, statuses(jobs)

    def expected(self, environment: Environment, prepared: Job) -> Any:
        return self.instances, {prepared.job_id}, {"ACTIVE"}


class RunAndWait(Operation):
    """Run a job, wait for its end and return its final status."""

    def prepare(self, environment: Environment) -> Job:
        return environment.add_job(SLOW_BATCH)

    def with_sdk(self, hub: Any, prepared: Job) -> Any:
        job = self.run_with_sdk(hub, prepared)
        return job.status.run_count, job.status.status, job.status.color

    def with_client(self, client: ControlHubClient, prepared: Job) -> Any:
        job = client.jobs.find_by_name(prepared.name)
        client.runs.start(job)
        run = poll_until(
            lambda: client.runs.statuses([job.job_id])[job.job_id], lambda run: bool(run and run.has_ended)
        )
        return run and (run.run_count, run.status, run.color)

    @staticmethod
    def run_with_sdk(hub: Any, prepared: Job) -> Any:
        job = hub.jobs.get(job_name=prepared.name)
        hub.start_job(job, wait=False)
        hub.wait_for_job_status(job, "INACTIVE")
        return job

    def effect(self, environment: Environment, prepared: Job, returned: Any) -> Any:
        return returned

    def expected(self, environment: Environment, prepared: Job) -> Any:
        return 1, "INACTIVE", "GRAY"


class RunAndReport(RunAndWait):
    """Run a job, wait for its end and return its status, events and record counts."""

    def with_sdk(self, hub: Any, prepared: Job) -> Any:
        job = self.run_with_sdk(hub, prepared)
        return job.status.color != "RED", len(job.status.run_history), job.metrics[0].input_count

    def with_client(self, client: ControlHubClient, prepared: Job) -> Any:
        job = client.jobs.find_by_name(prepared.name)
        report = client.runs.wait(client.runs.start(job), timeout=_TIMEOUT, poll_interval=POLL_INTERVAL)
        return report.run.is_success, len(report.events), report.metrics and report.metrics.input_count

    def expected(self, environment: Environment, prepared: Job) -> Any:
        return True, 4, SLOW_BATCH_RECORDS
