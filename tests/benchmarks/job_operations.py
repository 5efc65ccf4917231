"""Login and job operations: create, retrieve, upgrade, update, duplicate, import, export, delete."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from airflow_provider_streamsets.control_hub import ControlHubClient, Job, JobSettings
from tests.benchmarks.environment import Environment, unique
from tests.benchmarks.measurement import Operation

BATCH, STREAM = "Quick check", "Clickstream to lake"
VERSIONED, NEWEST = "Orders to warehouse", "3"


class LogIn(Operation):
    """Log in and read the organization; every other operation includes the login."""

    def prepare(self, environment: Environment) -> None:
        return None

    def with_sdk(self, hub: Any, prepared: None) -> str:
        organization: str = hub.organization
        return organization

    def with_client(self, client: ControlHubClient, prepared: None) -> str:
        return client.current_user().organization_id

    def effect(self, environment: Environment, prepared: None, returned: str) -> Any:
        return returned

    def expected(self, environment: Environment, prepared: None) -> Any:
        return environment.sandbox.state()["organization"]


@dataclass(frozen=True)
class CreateJob(Operation):
    """Create a job with the newest or a given pipeline version; the SDK reads pipelines until it finds the name."""

    version: str | None = None

    def prepare(self, environment: Environment) -> str:
        return unique("New")

    def with_sdk(self, hub: Any, prepared: str) -> None:
        pipeline = hub.pipelines.get(name=VERSIONED)
        commit = pipeline.commits.get(version=self.version) if self.version else None
        hub.add_job(hub.get_job_builder().build(prepared, pipeline=pipeline, pipeline_commit=commit))

    def with_client(self, client: ControlHubClient, prepared: str) -> None:
        found = client.pipelines.find_by_name(VERSIONED)
        version = client.pipelines.version(found.pipeline_id, version=self.version)
        client.jobs.create(JobSettings(name=prepared), version)

    def effect(self, environment: Environment, prepared: str, returned: None) -> Any:
        job = environment.client.jobs.find_by_name(prepared)
        return job.pipeline_name, job.pipeline_version, job.engine_labels, job.number_of_instances

    def expected(self, environment: Environment, prepared: str) -> Any:
        return VERSIONED, self.version or NEWEST, ("all",), 1


@dataclass(frozen=True)
class Retrieve(Operation):
    """Retrieve jobs by a criterion that matches only some of the jobs."""

    sdk_jobs: Callable[[Any], Iterable[Any]]
    client_jobs: Callable[[ControlHubClient], Iterable[Job]]
    matches: Callable[[dict[str, Any]], bool]

    def prepare(self, environment: Environment) -> None:
        environment.start(environment.add_jobs(2, STREAM, version="1", engine_labels=["dev"], tags=["bench/retrieved"]))

    def with_sdk(self, hub: Any, prepared: None) -> list[str]:
        return sorted(job.id for job in self.sdk_jobs(hub))

    def with_client(self, client: ControlHubClient, prepared: None) -> list[str]:
        return sorted(job.job_id for job in self.client_jobs(client))

    def effect(self, environment: Environment, prepared: None, returned: list[str]) -> Any:
        return returned, bool(returned)

    def expected(self, environment: Environment, prepared: None) -> Any:
        return sorted(job["id"] for job in environment.raw_jobs() if self.matches(job)), True


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
    """Upgrade all jobs with a tag to the newest pipeline version."""

    count: int

    def prepare(self, environment: Environment) -> list[Job]:
        return environment.add_jobs(self.count, VERSIONED, version="1")

    def with_sdk(self, hub: Any, prepared: list[Job]) -> dict[str, str]:
        upgraded = hub.upgrade_job(*hub.jobs.get_all(job_tag=prepared[0].tags[0]))
        return {job.id: job.commit_label.removeprefix("v") for job in upgraded}

    def with_client(self, client: ControlHubClient, prepared: list[Job]) -> dict[str, str | None]:
        jobs = client.jobs.list(tag=prepared[0].tags[0])
        return {upgrade.job_id: upgrade.version_after for upgrade in client.jobs.upgrade(jobs)}

    def effect(self, environment: Environment, prepared: list[Job], returned: dict[str, str]) -> Any:
        return returned, {job.pipeline_version for job in environment.reload(prepared)}

    def expected(self, environment: Environment, prepared: list[Job]) -> Any:
        return {job.job_id: NEWEST for job in prepared}, {NEWEST}


class UpdateVersion(Operation):
    def prepare(self, environment: Environment) -> Job:
        return environment.add_job(VERSIONED)

    def with_sdk(self, hub: Any, prepared: Job) -> None:
        job = hub.jobs.get(job_name=prepared.name)
        job.commit = job.pipeline.commits.get(version="1")
        hub.update_job(job)

    def with_client(self, client: ControlHubClient, prepared: Job) -> None:
        job = client.jobs.find_by_name(prepared.name)
        client.jobs.update(job.job_id, pipeline=client.pipelines.version(str(job.pipeline_id), version="1"))

    def effect(self, environment: Environment, prepared: Job, returned: None) -> Any:
        return environment.client.jobs.get(prepared.job_id).pipeline_version

    def expected(self, environment: Environment, prepared: Job) -> Any:
        return "1"


@dataclass(frozen=True)
class DuplicateJob(Operation):
    copies: int

    def prepare(self, environment: Environment) -> Job:
        return environment.add_job(BATCH, runtime_parameters={"RECORDS": "7"})

    def with_sdk(self, hub: Any, prepared: Job) -> list[str]:
        copies = hub.duplicate_job(hub.jobs.get(job_name=prepared.name), number_of_copies=self.copies)
        return [copy.id for copy in copies]

    def with_client(self, client: ControlHubClient, prepared: Job) -> list[str]:
        job = client.jobs.find_by_name(prepared.name)
        return [copy.job_id for copy in client.jobs.duplicate(job, number_of_copies=self.copies)]

    def effect(self, environment: Environment, prepared: Job, returned: list[str]) -> Any:
        copies = environment.client.jobs.get_many(returned).values()
        return [(copy.name, copy.pipeline_commit_id, copy.runtime_parameters["RECORDS"]) for copy in copies]

    def expected(self, environment: Environment, prepared: Job) -> Any:
        return [
            (f"{prepared.name} copy{number}", prepared.pipeline_commit_id, "7") for number in range(1, self.copies + 1)
        ]


@dataclass(frozen=True)
class ExportJobs(Operation):
    """Export all jobs with a tag."""

    count: int

    def prepare(self, environment: Environment) -> list[Job]:
        return environment.add_jobs(self.count, BATCH)

    def with_sdk(self, hub: Any, prepared: list[Job]) -> bytes:
        archive: bytes = hub.export_jobs(hub.jobs.get_all(job_tag=prepared[0].tags[0]))
        return archive

    def with_client(self, client: ControlHubClient, prepared: list[Job]) -> bytes:
        archive = io.BytesIO()
        client.archives.export_jobs((job.job_id for job in client.jobs.list(tag=prepared[0].tags[0])), archive)
        return archive.getvalue()

    def effect(self, environment: Environment, prepared: list[Job], returned: bytes) -> Any:
        environment.client.jobs.delete(job.job_id for job in prepared)
        return {job.name for job in environment.client.archives.import_jobs(io.BytesIO(returned))}, _entries(returned)

    def expected(self, environment: Environment, prepared: list[Job]) -> Any:
        return {job.name for job in prepared}, len(prepared)


def _entries(archive: bytes) -> int:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return len(opened.namelist())


@dataclass(frozen=True)
class ImportJobs(Operation):
    """Import jobs that were deleted."""

    count: int

    def prepare(self, environment: Environment) -> tuple[list[Job], bytes]:
        jobs, archive = environment.add_jobs(self.count, BATCH), io.BytesIO()
        environment.client.archives.export_jobs((job.job_id for job in jobs), archive)
        environment.client.jobs.delete(job.job_id for job in jobs)
        return jobs, archive.getvalue()

    def with_sdk(self, hub: Any, prepared: tuple[list[Job], bytes]) -> set[str]:
        return {job.id for job in hub.import_jobs(archive=io.BytesIO(prepared[1]))}

    def with_client(self, client: ControlHubClient, prepared: tuple[list[Job], bytes]) -> set[str]:
        return {job.job_id for job in client.archives.import_jobs(io.BytesIO(prepared[1]))}

    def effect(self, environment: Environment, prepared: tuple[list[Job], bytes], returned: set[str]) -> Any:
        return returned, [job.name for job in environment.reload(prepared[0])]

    def expected(self, environment: Environment, prepared: tuple[list[Job], bytes]) -> Any:
        return {job.job_id for job in prepared[0]}, [job.name for job in prepared[0]]


@dataclass(frozen=True)
class DeleteJobs(Operation):
    """Delete all jobs with a tag."""

    count: int

    def prepare(self, environment: Environment) -> list[Job]:
        return environment.add_jobs(self.count, BATCH)

    def with_sdk(self, hub: Any, prepared: list[Job]) -> None:
        hub.delete_job(*hub.jobs.get_all(job_tag=prepared[0].tags[0]))

    def with_client(self, client: ControlHubClient, prepared: list[Job]) -> None:
        client.jobs.delete(job.job_id for job in client.jobs.list(tag=prepared[0].tags[0]))

    def effect(self, environment: Environment, prepared: list[Job], returned: None) -> Any:
        return environment.reload(prepared)

    def expected(self, environment: Environment, prepared: list[Job]) -> Any:
        return []
