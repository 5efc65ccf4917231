"""The awaited jobs: streaming jobs that run until they are stopped."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from airflow_provider_streamsets.control_hub import ControlHubClient
from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from dev.local_airflow import wait_until

DEACTIVATION = 1.0
"""Seconds from the stop request of a job to the end of its run."""
_TIMEOUT = 60.0


def write_seed(file: Path, count: int) -> Path:
    """Write a sandbox seed with a number of streaming jobs and return its path."""
    seed = {
        "organization": {"name": "Benchmark", "user": {"name": "Airflow", "email": "airflow@example.com"}},
        "engines": [{"name": "sdc", "url": "http://sdc.example.com:18630", "labels": ["all"]}],
        "pipelines": [
            {
                "name": "Stream",
                "versions": [{"message": "First version", "committed": "1d"}],
                "behaviour": {"kind": "streaming", "rate": 10, "deactivation": f"{DEACTIVATION}s"},
            }
        ],
        "jobs": [{"name": f"Stream {number}", "pipeline": "Stream"} for number in range(count)],
    }
    file.write_text(json.dumps(seed), encoding="utf-8")
    return file


class Streams:
    """
    All jobs of a sandbox, each in its first run.

    :param sandbox: a sandbox whose jobs have never run
    """

    def __init__(self, sandbox: SandboxProcess) -> None:
        self._sandbox = sandbox
        self._client = ControlHubClient(sandbox.url, sandbox.credential_id, sandbox.token)
        self.job_ids: list[str] = [job["id"] for job in sandbox.state()["jobs"]]

    def start(self) -> None:
        """Start all jobs and wait until they are active."""
        self._client.runs.start_many(self.job_ids)
        wait_until(lambda: self._statuses(self.job_ids) == {"ACTIVE"}, "all jobs to become ACTIVE", _TIMEOUT)

    def stop(self, job_ids: Sequence[str]) -> dict[str, float]:
        """
        Stop some jobs at once and wait until their runs have ended.

        :returns: end times by job id, in epoch seconds
        """
        self._client.runs.stop_many(dict.fromkeys(job_ids, 1))
        wait_until(lambda: self._statuses(job_ids) == {"INACTIVE"}, "the stopped jobs to become INACTIVE", _TIMEOUT)
        ended = {}
        for job_id, run in self._client.runs.statuses(job_ids).items():
            assert run is not None
            assert run.finish_time is not None
            ended[job_id] = run.finish_time.timestamp()
        return ended

    def _statuses(self, job_ids: Sequence[str]) -> set[str | None]:
        return {run.status if run else None for run in self._client.runs.statuses(job_ids).values()}

    def forget_requests(self) -> None:
        """Reset the request count."""
        self._sandbox.forget_requests()

    def requests(self) -> Counter[str]:
        """Return the number of requests by method and path."""
        return Counter(self._sandbox.requests()["counts"])

    def polls(self) -> list[float]:
        """Return the times of the status requests, in epoch seconds."""
        requests = self._sandbox.requests()["requests"]
        return [request["time"] / 1000 for request in requests if request["path"].endswith("/jobs/status")]
