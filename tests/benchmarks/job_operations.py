"""Logging in, and operations on jobs: create, retrieve, upgrade, update, duplicate, import, export, delete."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from airflow_provider_streamsets.control_hub import ControlHubClient, Job, JobSettings
from tests.benchmarks.measuring import Operation
from tests.benchmarks.stage import Stage, unique

BATCH, STREAM = "Quick check", "Clickstream to lake"
VERSIONED, NEWEST = "Orders to warehouse", "3"


class LogIn(Operation):
    """What every other operation needs, too, and who that is."""

    def prepare(self, stage: Stage) -> None:
        return None

    def with_sdk(self, hub: Any, given: None) -> str:
        organization: str = hub.organization
        return organization

    def with_client(self, client: ControlHubClient, given: None) -> str:
        return client.current_user().organization_id

    def effect(self, stage: Stage, given: None, answer: str) -> Any:
        return answer

    def expected(self, stage: Stage, given: None) -> Any:
        return stage.sandbox.state()["organization"]


@dataclass(frozen=True)
class CreateAJob(Operation):
    """With the newest version of a pipeline, or with another; the SDK reads all pipelines until it meets the name."""

    version: str | None = None

    def prepare(self, stage: Stage) -> str:
        return unique("New")

    def with_sdk(self, hub: Any, given: str) -> None:
        pipeline = hub.pipelines.get(name=VERSIONED)
        commit = pipeline.commits.get(version=self.version) if self.version else None
        hub.add_job(hub.get_job_builder().build(given, pipeline=pipeline, pipeline_commit=commit))

    def with_client(self, client: ControlHubClient, given: str) -> None:
        found = client.pipelines.find_by_name(VERSIONED)
        version = client.pipelines.version(found.pipeline_id, version=self.version)
        client.jobs.create(JobSettings(name=given), version)

    def effect(self, stage: Stage, given: str, answer: None) -> Any:
        job = stage.client.jobs.find_by_name(given)
        return job.pipeline_name, job.pipeline_version, job.engine_labels, job.number_of_instances

    def expected(self, stage: Stage, given: str) -> Any:
        return VERSIONED, self.version or NEWEST, ("all",), 1


@dataclass(frozen=True)
class Retrieve(Operation):
    """Jobs by some criterion; of the jobs it is measured on, that holds for some and not for others."""

    sdk_jobs: Callable[[Any], Iterable[Any]]
    client_jobs: Callable[[ControlHubClient], Iterable[Job]]
    is_wanted: Callable[[dict[str, Any]], bool]

    def prepare(self, stage: Stage) -> None:
        stage.start(stage.add_jobs(2, STREAM, version="1", engine_labels=["dev"], tags=["bench/retrieved"]))

    def with_sdk(self, hub: Any, given: None) -> list[str]:
        return sorted(job.id for job in self.sdk_jobs(hub))

    def with_client(self, client: ControlHubClient, given: None) -> list[str]:
        return sorted(job.job_id for job in self.client_jobs(client))

    def effect(self, stage: Stage, given: None, answer: list[str]) -> Any:
        return answer, bool(answer)

    def expected(self, stage: Stage, given: None) -> Any:
        return sorted(job["id"] for job in stage.raw_jobs() if self.is_wanted(job)), True


def _status(job: dict[str, Any]) -> str | None:
    status: str | None = (job["currentJobStatus"] or {}).get("status")
    return status


RETRIEVALS = (
    Retrieve(
        "retrieve a job by name",
        lambda hub: [hub.jobs.get(job_name=VERSIONED)],
        lambda client: [client.jobs.find_by_name(VERSIONED)],
        lambda job: job["name"] == VERSIONED,
    ),
    Retrieve(
        "retrieve jobs by status",
        lambda hub: hub.jobs.get_all(job_status="ACTIVE"),
        lambda client: client.jobs.list(status="ACTIVE"),
        lambda job: _status(job) == "ACTIVE",
    ),
    Retrieve(
        "retrieve jobs by tag",
        lambda hub: hub.jobs.get_all(job_tag="bench/retrieved"),
        lambda client: client.jobs.list(tag="bench/retrieved"),
        lambda job: "bench/retrieved" in job["rawJobTags"],
    ),
    Retrieve(
        "retrieve jobs by engine label",
        lambda hub: hub.jobs.get_all(job_label="dev"),
        lambda client: client.jobs.list(engine_label="dev"),
        lambda job: "dev" in job["labels"],
    ),
    Retrieve(
        "retrieve jobs by engine type",
        lambda hub: hub.jobs.get_all(executor_type="COLLECTOR"),
        lambda client: client.jobs.list(executor_type="COLLECTOR"),
        lambda job: job["executorType"] == "COLLECTOR",
    ),
    Retrieve(
        "retrieve jobs by commit label",
        lambda hub: hub.jobs.get_all(pipeline_commit_label="v1"),
        lambda client: client.jobs.list(pipeline_version="v1"),
        lambda job: job["pipelineCommitLabel"] == "v1",
    ),
    Retrieve(
        "retrieve jobs by search",
        lambda hub: hub.jobs.get_all(search='name=="Bench*" and engine_label=="dev"'),
        lambda client: client.jobs.list(search='name=="Bench*" and engine_label=="dev"'),
        lambda job: job["name"].startswith("Bench") and "dev" in job["labels"],
    ),
    Retrieve(
        "retrieve all jobs",
        lambda hub: hub.jobs,
        lambda client: client.jobs.list(),
        lambda job: True,
    ),
)


@dataclass(frozen=True)
class UpgradeJobs(Operation):
    """All jobs of a tag, to the newest version."""

    count: int

    def prepare(self, stage: Stage) -> list[Job]:
        return stage.add_jobs(self.count, VERSIONED, version="1")

    def with_sdk(self, hub: Any, given: list[Job]) -> dict[str, str]:
        upgraded = hub.upgrade_job(*hub.jobs.get_all(job_tag=given[0].tags[0]))
        return {job.id: job.commit_label.removeprefix("v") for job in upgraded}

    def with_client(self, client: ControlHubClient, given: list[Job]) -> dict[str, str | None]:
        jobs = client.jobs.list(tag=given[0].tags[0])
        return {upgrade.job_id: upgrade.version_after for upgrade in client.jobs.upgrade(jobs)}

    def effect(self, stage: Stage, given: list[Job], answer: dict[str, str]) -> Any:
        return answer, {job.pipeline_version for job in stage.now(given)}

    def expected(self, stage: Stage, given: list[Job]) -> Any:
        return {job.job_id: NEWEST for job in given}, {NEWEST}


class UpdateToAnotherVersion(Operation):
    def prepare(self, stage: Stage) -> Job:
        return stage.add_job(VERSIONED)

    def with_sdk(self, hub: Any, given: Job) -> None:
        job = hub.jobs.get(job_name=given.name)
        job.commit = job.pipeline.commits.get(version="1")
        hub.update_job(job)

    def with_client(self, client: ControlHubClient, given: Job) -> None:
        job = client.jobs.find_by_name(given.name)
        client.jobs.update(job.job_id, pipeline=client.pipelines.version(str(job.pipeline_id), version="1"))

    def effect(self, stage: Stage, given: Job, answer: None) -> Any:
        return stage.client.jobs.get(given.job_id).pipeline_version

    def expected(self, stage: Stage, given: Job) -> Any:
        return "1"


@dataclass(frozen=True)
class DuplicateAJob(Operation):
    copies: int

    def prepare(self, stage: Stage) -> Job:
        return stage.add_job(BATCH, runtime_parameters={"RECORDS": "7"})

    def with_sdk(self, hub: Any, given: Job) -> list[str]:
        copies = hub.duplicate_job(hub.jobs.get(job_name=given.name), number_of_copies=self.copies)
        return [copy.id for copy in copies]

    def with_client(self, client: ControlHubClient, given: Job) -> list[str]:
        job = client.jobs.find_by_name(given.name)
        return [copy.job_id for copy in client.jobs.duplicate(job, number_of_copies=self.copies)]

    def effect(self, stage: Stage, given: Job, answer: list[str]) -> Any:
        copies = stage.client.jobs.get_many(answer).values()
        return [(copy.name, copy.pipeline_commit_id, copy.runtime_parameters["RECORDS"]) for copy in copies]

    def expected(self, stage: Stage, given: Job) -> Any:
        return [(f"{given.name} copy{number}", given.pipeline_commit_id, "7") for number in range(1, self.copies + 1)]


@dataclass(frozen=True)
class ExportJobs(Operation):
    """All jobs of a tag."""

    count: int

    def prepare(self, stage: Stage) -> list[Job]:
        return stage.add_jobs(self.count, BATCH)

    def with_sdk(self, hub: Any, given: list[Job]) -> bytes:
        archive: bytes = hub.export_jobs(hub.jobs.get_all(job_tag=given[0].tags[0]))
        return archive

    def with_client(self, client: ControlHubClient, given: list[Job]) -> bytes:
        archive = io.BytesIO()
        client.archives.export_jobs((job.job_id for job in client.jobs.list(tag=given[0].tags[0])), archive)
        return archive.getvalue()

    def effect(self, stage: Stage, given: list[Job], answer: bytes) -> Any:
        stage.client.jobs.delete(job.job_id for job in given)
        return {job.name for job in stage.client.archives.import_jobs(io.BytesIO(answer))}, _entries(answer)

    def expected(self, stage: Stage, given: list[Job]) -> Any:
        return {job.name for job in given}, len(given)


def _entries(archive: bytes) -> int:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return len(opened.namelist())


@dataclass(frozen=True)
class ImportJobs(Operation):
    """Jobs that were deleted."""

    count: int

    def prepare(self, stage: Stage) -> tuple[list[Job], bytes]:
        jobs, archive = stage.add_jobs(self.count, BATCH), io.BytesIO()
        stage.client.archives.export_jobs((job.job_id for job in jobs), archive)
        stage.client.jobs.delete(job.job_id for job in jobs)
        return jobs, archive.getvalue()

    def with_sdk(self, hub: Any, given: tuple[list[Job], bytes]) -> set[str]:
        return {job.id for job in hub.import_jobs(archive=io.BytesIO(given[1]))}

    def with_client(self, client: ControlHubClient, given: tuple[list[Job], bytes]) -> set[str]:
        return {job.job_id for job in client.archives.import_jobs(io.BytesIO(given[1]))}

    def effect(self, stage: Stage, given: tuple[list[Job], bytes], answer: set[str]) -> Any:
        return answer, [job.name for job in stage.now(given[0])]

    def expected(self, stage: Stage, given: tuple[list[Job], bytes]) -> Any:
        return {job.job_id for job in given[0]}, [job.name for job in given[0]]


@dataclass(frozen=True)
class DeleteJobs(Operation):
    """All jobs of a tag."""

    count: int

    def prepare(self, stage: Stage) -> list[Job]:
        return stage.add_jobs(self.count, BATCH)

    def with_sdk(self, hub: Any, given: list[Job]) -> None:
        hub.delete_job(*hub.jobs.get_all(job_tag=given[0].tags[0]))

    def with_client(self, client: ControlHubClient, given: list[Job]) -> None:
        client.jobs.delete(job.job_id for job in client.jobs.list(tag=given[0].tags[0]))

    def effect(self, stage: Stage, given: list[Job], answer: None) -> Any:
        return stage.now(given)

    def expected(self, stage: Stage, given: list[Job]) -> Any:
        return []
