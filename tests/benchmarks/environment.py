"""What operations are measured on: fresh jobs in a sandbox, made by requests that are not counted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from airflow_provider_streamsets.control_hub import ControlHubClient, Job, JobSettings
from dev.local_sandbox import SandboxProcess

# Long enough, in the time of the sandbox, for whatever its pipelines do.
_AGES = 600.0


def unique(name: str) -> str:
    return f"{name} {uuid4().hex[:8]}"


class Stage:
    """
    A sandbox in which nothing runs, and to which jobs can be added.

    :param sandbox: its jobs are stopped
    """

    def __init__(self, sandbox: SandboxProcess) -> None:
        self.sandbox = sandbox
        self.client = ControlHubClient(sandbox.url, sandbox.credential_id, sandbox.token)
        # Record counts are there at the end of a run, so that nobody has to wait for them.
        sandbox.set_variants(metrics_lag=0)
        self._of_seed = {job["id"] for job in sandbox.state()["jobs"]}
        self._stop_all()

    def add_job(self, pipeline: str, **options: Any) -> Job:
        (job,) = self.add_jobs(1, pipeline, **options)
        return job

    def add_jobs(
        self, count: int, pipeline: str, *, version: str | None = None, template: bool = False, **settings: Any
    ) -> list[Job]:
        """
        Create jobs that share a tag.

        :param settings: those of :class:`JobSettings`
        """
        found = self.client.pipelines.find_by_name(pipeline)
        runs = self.client.pipelines.version(found.pipeline_id, version=version)
        tag = f"bench/{uuid4().hex}"
        return [
            self.client.jobs.create(
                JobSettings(name=unique("Bench"), **{"tags": [tag], **settings}), runs, template=template
            )
            for _ in range(count)
        ]

    def start(self, jobs: Iterable[Job], *, seconds: float = 10.0) -> None:
        """Start jobs, and let some time of the sandbox pass."""
        self.client.runs.start_many(job.job_id for job in jobs)
        self.sandbox.advance(seconds)

    def run_to_the_end(self, jobs: Iterable[Job], *, times: int = 1) -> None:
        """Run batch jobs."""
        for _ in range(times):
            self.start(jobs, seconds=_AGES)

    def raw_jobs(self) -> list[dict[str, Any]]:
        """Return all jobs, but no templates, as they are on the wire."""
        answer = self.sandbox.call("GET", "/jobrunner/rest/v1/jobs", jobTemplate="false", len=-1)
        jobs: list[dict[str, Any]] = answer.json()
        return jobs

    def now(self, jobs: Iterable[Job]) -> list[Job]:
        """Return jobs as they are now; those that do not exist are missing."""
        return list(self.client.jobs.get_many(job.job_id for job in jobs).values())

    def clear(self) -> None:
        """Delete all jobs that were added."""
        self._stop_all()
        added = [job for job in self.sandbox.state()["jobs"] if job["id"] not in self._of_seed]
        self.client.jobs.delete_templates(job["id"] for job in added if job["template"])
        left = [job["id"] for job in self.sandbox.state()["jobs"] if job["id"] not in self._of_seed]
        self.client.runs.acknowledge(left)
        self.client.jobs.delete(left)

    def _stop_all(self) -> None:
        # What is being started cannot be stopped.
        self.sandbox.advance(_AGES)
        running = {job["id"]: job["run_count"] for job in self.sandbox.state()["jobs"] if job["running"]}
        if running:
            self.client.runs.stop_many(running, force=True)
            self.sandbox.advance(_AGES)
