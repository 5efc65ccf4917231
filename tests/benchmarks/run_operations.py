"""Operations on the runs of jobs: offsets, history, metrics, start, stop, templates, waiting."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from airflow_provider_streamsets.control_hub import ControlHubClient, Job
from airflow_provider_streamsets.control_hub.tracking.run import RunTracker, stop_and_wait, wait_for_run
from tests.benchmarks.job_operations import BATCH, STREAM, VERSIONED
from tests.benchmarks.measuring import Operation
from tests.benchmarks.stage import Stage

# What the seed says of these pipelines, and of the runs that the job VERSIONED has had.
BATCH_RECORDS = 100
SLOW_BATCH, SLOW_BATCH_RECORDS = "Regional orders", 10_000
FAILING = "Ledger export"
INPUT_COUNTS = [(3, 60_000), (2, 21_000), (1, 60_000)]

OFFSET = "$com.streamsets.datacollector.pollsource.offset$"
# The SDK looks every second, and first at once.
POLL_INTERVAL = 1.0
_PATIENCE = 60.0

_T = TypeVar("_T")


def document(position: int) -> dict[str, Any]:
    return {"version": 2, "offsets": {OFFSET: str(position)}}


def until(look: Callable[[], _T], is_complete: Callable[[_T], bool]) -> _T:
    """Look at intervals, as the SDK does."""
    deadline = time.monotonic() + _PATIENCE
    while not is_complete(seen := look()):
        assert time.monotonic() < deadline, f"waited in vain; last seen: {seen}"
        time.sleep(POLL_INTERVAL)
    return seen


# Offsets


@dataclass(frozen=True)
class ResetOffsets(Operation):
    """Of all jobs of a tag."""

    count: int

    def prepare(self, stage: Stage) -> list[Job]:
        jobs = stage.add_jobs(self.count, BATCH)
        stage.run_to_the_end(jobs)
        return jobs

    def with_sdk(self, hub: Any, given: list[Job]) -> None:
        hub.reset_origin(*hub.jobs.get_all(job_tag=given[0].tags[0]))

    def with_client(self, client: ControlHubClient, given: list[Job]) -> None:
        client.offsets.reset(job.job_id for job in client.jobs.list(tag=given[0].tags[0]))

    def effect(self, stage: Stage, given: list[Job], answer: None) -> Any:
        return [stage.client.offsets.current(job.job_id) for job in given]

    def expected(self, stage: Stage, given: list[Job]) -> Any:
        return [[]] * self.count


class ReadOffsets(Operation):
    """The documents, one for each engine."""

    def prepare(self, stage: Stage) -> Job:
        job = stage.add_job(BATCH)
        stage.run_to_the_end([job], times=2)
        return job

    def effect(self, stage: Stage, given: Job, answer: list[Any]) -> Any:
        return answer

    @staticmethod
    def documents(offsets: Iterable[Any]) -> list[Any]:
        return [json.loads(offset.offset) for offset in offsets]


class ReadCurrentOffsets(ReadOffsets):
    def with_sdk(self, hub: Any, given: Job) -> list[Any]:
        return self.documents(hub.jobs.get(job_name=given.name).current_status.offsets)

    def with_client(self, client: ControlHubClient, given: Job) -> list[Any]:
        return [dict(offset.document) for offset in client.offsets.current(client.jobs.find_by_name(given.name).job_id)]

    def expected(self, stage: Stage, given: Job) -> Any:
        return [document(2 * BATCH_RECORDS)]


class ReadOffsetsOfARun(ReadOffsets):
    def with_sdk(self, hub: Any, given: Job) -> list[Any]:
        return self.documents(hub.jobs.get(job_name=given.name).history.get(run_count=1).offsets)

    def with_client(self, client: ControlHubClient, given: Job) -> list[Any]:
        job = client.jobs.find_by_name(given.name)
        return [dict(offset.document) for offset in client.offsets.of_run(job.job_id, 1)]

    def expected(self, stage: Stage, given: Job) -> Any:
        return [document(BATCH_RECORDS)]


class UploadAnOffset(Operation):
    def prepare(self, stage: Stage) -> Job:
        return stage.add_job(BATCH)

    def with_sdk(self, hub: Any, given: Job) -> None:
        hub.upload_offset(hub.jobs.get(job_name=given.name), offset_json=document(5000))

    def with_client(self, client: ControlHubClient, given: Job) -> None:
        client.offsets.upload(client.jobs.find_by_name(given.name).job_id, document(5000))

    def effect(self, stage: Stage, given: Job, answer: None) -> Any:
        return [dict(offset.document) for offset in stage.client.offsets.current(given.job_id)]

    def expected(self, stage: Stage, given: Job) -> Any:
        return [document(5000)]


# History, events, metrics


class Read(Operation):
    """Something of a job of the seed that has had three runs."""

    def prepare(self, stage: Stage) -> None:
        return None

    def effect(self, stage: Stage, given: None, answer: Any) -> Any:
        return answer


class StatusHistory(Read):
    def with_sdk(self, hub: Any, given: None) -> Any:
        history = hub.jobs.get(job_name=VERSIONED).history
        return [(run.run_count, run.status, run.color) for run in history]

    def with_client(self, client: ControlHubClient, given: None) -> Any:
        history = client.runs.history(client.jobs.find_by_name(VERSIONED).job_id)
        return [(run.run_count, run.status, run.color) for run in history]

    def expected(self, stage: Stage, given: None) -> Any:
        return [(3, "INACTIVE", "GRAY"), (2, "INACTIVE", "RED"), (1, "INACTIVE", "GRAY")]


class RunEvents(Read):
    def with_sdk(self, hub: Any, given: None) -> Any:
        events = hub.jobs.get(job_name=VERSIONED).history.get(run_count=1).run_history
        return [event.status for event in sorted(events, key=lambda event: event.time)]

    def with_client(self, client: ControlHubClient, given: None) -> Any:
        run = client.runs.get(client.jobs.find_by_name(VERSIONED).job_id, 1)
        return [event.status for event in client.runs.events(run.run_id)] if run else []

    def expected(self, stage: Stage, given: None) -> Any:
        return ["ACTIVATING", "ACTIVE", "DEACTIVATING", "INACTIVE"]


class MetricsOfAllRuns(Read):
    def with_sdk(self, hub: Any, given: None) -> Any:
        return [(run.run_count, run.input_count) for run in hub.jobs.get(job_name=VERSIONED).metrics]

    def with_client(self, client: ControlHubClient, given: None) -> Any:
        job = client.jobs.find_by_name(VERSIONED)
        metrics = client.metrics.all_runs(job.job_id, latest=job.current_run)
        return [(run.run_count, run.input_count) for run in metrics]

    def expected(self, stage: Stage, given: None) -> Any:
        return INPUT_COUNTS


class MetricsOfOneRun(Read):
    def with_sdk(self, hub: Any, given: None) -> Any:
        return hub.jobs.get(job_name=VERSIONED).metrics.get(run_count=2).input_count

    def with_client(self, client: ControlHubClient, given: None) -> Any:
        job = client.jobs.find_by_name(VERSIONED)
        metrics = client.metrics.of_run(job.job_id, 2, latest=job.current_run)
        return metrics and metrics.input_count

    def expected(self, stage: Stage, given: None) -> Any:
        return dict(INPUT_COUNTS)[2]


class RealtimeSummary(Operation):
    """All four counts."""

    def prepare(self, stage: Stage) -> Job:
        job = stage.add_job(STREAM)
        stage.start([job])
        return job

    def with_sdk(self, hub: Any, given: Job) -> Any:
        summary = hub.jobs.get(job_name=given.name).realtime_summary
        return (
            summary.data_batch_count,
            summary.idle_batch_count,
            summary.input_record_count,
            summary.output_record_count,
        )

    def with_client(self, client: ControlHubClient, given: Job) -> Any:
        live = client.metrics.realtime(client.jobs.find_by_name(given.name))
        return live.batch_count, live.idle_batch_count, live.input_count, live.output_count

    def effect(self, stage: Stage, given: Job, answer: Any) -> Any:
        batches, idle_batches, inputs, outputs = answer
        return batches > 0, idle_batches, 0 < outputs <= inputs

    def expected(self, stage: Stage, given: Job) -> Any:
        return True, 0, True


# Engines


class BalanceEngines(Operation):
    """All engines; two pipelines run on the first, and none on the second."""

    def prepare(self, stage: Stage) -> list[Job]:
        jobs = stage.add_jobs(2, STREAM, failover=True)
        stage.start(jobs)
        return jobs

    def with_sdk(self, hub: Any, given: list[Job]) -> None:
        hub.balance_engines(*hub.data_collectors)

    def with_client(self, client: ControlHubClient, given: list[Job]) -> None:
        client.engines.balance(engine.engine_id for engine in client.engines.list())

    def effect(self, stage: Stage, given: list[Job], answer: None) -> Any:
        stage.sandbox.advance(10)
        runs = [job.current_run for job in stage.now(given)]
        return len({run.engine_ids for run in runs if run}), {run.status for run in runs if run}

    def expected(self, stage: Stage, given: list[Job]) -> Any:
        return 2, {"ACTIVE"}


# Starting and stopping


def run_counts(jobs: Iterable[Job]) -> list[int]:
    return [job.last_run_count for job in jobs]


def statuses(jobs: Iterable[Job]) -> set[str]:
    return {job.current_run.status if job.current_run else "" for job in jobs}


@dataclass(frozen=True)
class StartJobs(Operation):
    """All jobs of a tag, without waiting for them."""

    count: int

    def prepare(self, stage: Stage) -> list[Job]:
        return stage.add_jobs(self.count, STREAM)

    def with_sdk(self, hub: Any, given: list[Job]) -> None:
        hub.start_job(*hub.jobs.get_all(job_tag=given[0].tags[0]), wait=False)

    def with_client(self, client: ControlHubClient, given: list[Job]) -> None:
        client.runs.start_many(client.jobs.list(tag=given[0].tags[0]))

    def effect(self, stage: Stage, given: list[Job], answer: None) -> Any:
        stage.sandbox.advance(10)
        jobs = stage.now(given)
        return run_counts(jobs), statuses(jobs)

    def expected(self, stage: Stage, given: list[Job]) -> Any:
        return [1] * self.count, {"ACTIVE"}


@dataclass(frozen=True)
class StopJobs(Operation):
    """All jobs of a tag; the SDK always waits until they have ended."""

    count: int

    def prepare(self, stage: Stage) -> list[Job]:
        jobs = stage.add_jobs(self.count, STREAM)
        stage.start(jobs)
        return jobs

    def with_sdk(self, hub: Any, given: list[Job]) -> None:
        hub.stop_job(*hub.jobs.get_all(job_tag=given[0].tags[0]))

    def with_client(self, client: ControlHubClient, given: list[Job]) -> None:
        jobs = client.jobs.list(tag=given[0].tags[0])
        stop_and_wait(
            client, {job.job_id: job.last_run_count for job in jobs}, timeout=_PATIENCE, poll_interval=POLL_INTERVAL
        )

    def effect(self, stage: Stage, given: list[Job], answer: None) -> Any:
        jobs = stage.now(given)
        return run_counts(jobs), statuses(jobs)

    def expected(self, stage: Stage, given: list[Job]) -> Any:
        return [1] * self.count, {"INACTIVE"}


class AcknowledgeAndStart(Operation):
    """A job whose run has ended in an error that blocks it."""

    def prepare(self, stage: Stage) -> Job:
        job = stage.add_job(FAILING, needs_acknowledgement=True)
        stage.run_to_the_end([job])
        assert statuses(stage.now([job])) == {"INACTIVE_ERROR"}
        return job

    def with_sdk(self, hub: Any, given: Job) -> None:
        job = hub.jobs.get(job_name=given.name)
        hub.acknowledge_job_error(job)
        hub.start_job(job, wait=False)

    def with_client(self, client: ControlHubClient, given: Job) -> None:
        job = client.jobs.find_by_name(given.name)
        client.runs.acknowledge([job.job_id])
        client.runs.start(job.job_id)

    def effect(self, stage: Stage, given: Job, answer: None) -> Any:
        return run_counts(stage.now([given]))

    def expected(self, stage: Stage, given: Job) -> Any:
        return [2]


@dataclass(frozen=True)
class StartATemplate(Operation):
    """And wait until all instances are active, as the SDK does."""

    instances: int

    def prepare(self, stage: Stage) -> Job:
        return stage.add_job(STREAM, template=True, runtime_parameters={"TOPIC": "clicks"})

    def with_sdk(self, hub: Any, given: Job) -> list[str]:
        template = hub.jobs.get(job_name=given.name, job_template=True)
        return [job.id for job in hub.start_job_template(template, number_of_instances=self.instances)]

    def with_client(self, client: ControlHubClient, given: Job) -> list[str]:
        template = client.jobs.find_by_name(given.name, templates=True)
        ids = [job.job_id for job in client.templates.start(template, [{}] * self.instances)]
        until(
            lambda: client.runs.statuses(ids),
            lambda statuses: all(run and run.status == "ACTIVE" for run in statuses.values()),
        )
        return ids

    def effect(self, stage: Stage, given: Job, answer: list[str]) -> Any:
        jobs = stage.client.jobs.get_many(answer).values()
        return len(jobs), {job.template_id for job in jobs}, statuses(jobs)

    def expected(self, stage: Stage, given: Job) -> Any:
        return self.instances, {given.job_id}, {"ACTIVE"}


class RunAndWait(Operation):
    """Tells how the run has ended."""

    def prepare(self, stage: Stage) -> Job:
        return stage.add_job(SLOW_BATCH)

    def with_sdk(self, hub: Any, given: Job) -> Any:
        job = self.run_with_sdk(hub, given)
        return job.status.run_count, job.status.status, job.status.color

    def with_client(self, client: ControlHubClient, given: Job) -> Any:
        job = client.jobs.find_by_name(given.name)
        client.runs.start(job)
        run = until(lambda: client.runs.statuses([job.job_id])[job.job_id], lambda run: bool(run and run.has_ended))
        return run and (run.run_count, run.status, run.color)

    @staticmethod
    def run_with_sdk(hub: Any, given: Job) -> Any:
        job = hub.jobs.get(job_name=given.name)
        hub.start_job(job, wait=False)
        hub.wait_for_job_status(job, "INACTIVE")
        return job

    def effect(self, stage: Stage, given: Job, answer: Any) -> Any:
        return answer

    def expected(self, stage: Stage, given: Job) -> Any:
        return 1, "INACTIVE", "GRAY"


class RunAndReport(RunAndWait):
    """Tells how the run has ended, its events, and its record counts."""

    def with_sdk(self, hub: Any, given: Job) -> Any:
        job = self.run_with_sdk(hub, given)
        return job.status.color != "RED", len(job.status.run_history), job.metrics[0].input_count

    def with_client(self, client: ControlHubClient, given: Job) -> Any:
        job = client.jobs.find_by_name(given.name)
        tracker = RunTracker(client, job.job_id, client.runs.start(job).run_count)
        report = wait_for_run(tracker, poll_interval=POLL_INTERVAL, timeout=_PATIENCE)
        return report.run.is_success, len(report.events), report.metrics and report.metrics.input_count

    def expected(self, stage: Stage, given: Job) -> Any:
        return True, 4, SLOW_BATCH_RECORDS
