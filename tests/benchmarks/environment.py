"""The environment of the measured operations: a sandbox with new jobs, created by requests that are not counted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from airflow_provider_streamsets.control_hub import ControlHubClient, Job, JobSettings
from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess

# Sandbox seconds that suffice for every pipeline to finish.
_LONG_TIME = 600.0


def unique(name: str) -> str:
    return f"{name} {uuid4().hex[:8]}"


class Environment:
    """
    A sandbox without active jobs, to which jobs can be added.

    :param sandbox: the sandbox, whose jobs are stopped
    """

    def __init__(self, sandbox: SandboxProcess) -> None:
        self.sandbox = sandbox
        self.client = ControlHubClient(sandbox.url, sandbox.credential_id, sandbox.token)
        # Make record counts available at the end of a run without delay.
        sandbox.set_variants(metrics_lag=0)
        self._seed_job_ids = {job["id"] for job in sandbox.state()["jobs"]}
        self._stop_all()

    def add_job(self, pipeline: str, **options: Any) -> Job:
        (job,) = self.add_jobs(1, pipeline, **options)
        return job

    def add_jobs(
        self, count: int, pipeline: str, *, version: str | None = None, template: bool = False, **settings: Any
    ) -> list[Job]:
        """
        Create jobs that share a tag.

        :param settings: fields of :class:`JobSettings`
        """
        found = self.client.pipelines.find_by_name(pipeline)
        pipeline_version = self.client.pipelines.version(found.pipeline_id, version=version)
        tag = f"bench/{uuid4().hex}"
        return [
            self.client.jobs.create(
                JobSettings(name=unique("Bench"), **{"tags": [tag], **settings}), pipeline_version, template=template
            )
            for _ in range(count)
        ]

    def start(self, jobs: Iterable[Job], *, seconds: float = 10.0) -> None:
        """Start jobs and advance the sandbox's clock."""
        self.client.runs.start_many(job.job_id for job in jobs)
        self.sandbox.advance(seconds)

    def run_to_completion(self, jobs: Iterable[Job], *, times: int = 1) -> None:
        """Run batch jobs to completion."""
        for _ in range(times):
            self.start(jobs, seconds=_LONG_TIME)

    def raw_jobs(self) -> list[dict[str, Any]]:
        """Return all jobs except templates in wire format."""
        response = self.sandbox.call("GET", "/jobrunner/rest/v1/jobs", jobTemplate="false", len=-1)
        jobs: list[dict[str, Any]] = response.json()
        return jobs

    def reload(self, jobs: Iterable[Job]) -> list[Job]:
        """Return the current state of jobs, omitting deleted ones."""
        return list(self.client.jobs.get_many(job.job_id for job in jobs).values())

    def delete_added_jobs(self) -> None:
        """Delete all added jobs."""
        self._stop_all()
        added = [job for job in self.sandbox.state()["jobs"] if job["id"] not in self._seed_job_ids]
        self.client.jobs.delete_templates(job["id"] for job in added if job["template"])
        remaining = [job["id"] for job in self.sandbox.state()["jobs"] if job["id"] not in self._seed_job_ids]
        self.client.runs.acknowledge(remaining)
        self.client.jobs.delete(remaining)

    def _stop_all(self) -> None:
        # A run that is being started cannot be stopped.
        self.sandbox.advance(_LONG_TIME)
        running = {job["id"]: job["run_count"] for job in self.sandbox.state()["jobs"] if job["running"]}
        if running:
            self.client.runs.stop_many(running, force=True)
            self.sandbox.advance(_LONG_TIME)
