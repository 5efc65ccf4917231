"""The environment: a sandbox with active runs."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from tests.benchmarks.measurement import BenchmarkError
from tests.benchmarks.waiting.protocol import WaitedRun, WaitRequest
from tests.benchmarks.waiting.strategies import Strategy, strategies_for
from tests.benchmarks.waiting.waiter_process import WaiterProcess

_JR = "/jobrunner/rest/v1"
_CHUNK_SIZE = 250
_TIMEOUT = 300.0
_RETRY_DELAY = 0.1
# Long enough ago that the runs are polled at the regular interval.
_STARTED = "1h"


class WaitingEnvironment:
    """
    A sandbox with long-running jobs that run until they are stopped.

    :param sandbox: a sandbox without other jobs
    :param provider_only: measure only the provider's triggers
    """

    def __init__(self, sandbox: SandboxProcess, *, provider_only: bool = False) -> None:
        self.sandbox = sandbox
        self.runs = tuple(WaitedRun(job["id"], job["name"], job["run_count"]) for job in self._jobs())
        self.strategies = [Strategy.PROVIDER] if provider_only else strategies_for(len(self.runs))

    def _jobs(self) -> list[dict[str, Any]]:
        return list(self._request("GET", "/sandbox/v1/state").json()["jobs"])

    def of_next_runs(self) -> WaitingEnvironment:
        """Return the environment of the runs that are now the latest ones, for the provider's triggers."""
        return WaitingEnvironment(self.sandbox, provider_only=True)

    def waiter(
        self,
        strategy: Strategy,
        interval: float,
        ramp: float,
        *,
        runs: int | None = None,
        url: str | None = None,
        bulk_size: int | None = None,
        renew: bool = False,
        metrics_timeout: float = 0.0,
    ) -> WaiterProcess:
        """
        Return a waiter process that has not been started.

        :param strategy: wait strategy
        :param interval: poll interval in seconds
        :param ramp: seconds over which the waits are started
        :param runs: number of runs to wait for; all by default
        :param url: URL of Control Hub; by default, that of the sandbox
        :param bulk_size: jobs per request of the provider's triggers; None for the default
        :param renew: when a wait has ended, wait for the next run of its job
        :param metrics_timeout: maximum seconds for which the provider's triggers wait for final metrics
        """
        return WaiterProcess(
            WaitRequest(
                strategy,
                self.runs[:runs],
                interval,
                ramp,
                url or self.sandbox.url,
                self.sandbox.credential_id,
                self.sandbox.token,
                self.sandbox.login_url,
                bulk_size,
                renew,
                metrics_timeout,
            )
        )

    def requests_served(self) -> int:
        """Return the number of requests served since the last reset."""
        return int(self._request("GET", "/sandbox/v1/requests").json()["total"])

    def reset_requests(self) -> None:
        """Reset the request count."""
        self._request("DELETE", "/sandbox/v1/requests")

    def finish_runs(self, runs: Sequence[WaitedRun]) -> None:
        """Finish runs at the same sandbox time, however long the stop requests take."""
        began = time.monotonic()
        self.sandbox.freeze()
        for ids in _chunked_ids(runs):
            self._request("POST", f"{_JR}/jobs/stopJobs", ids)
        self.sandbox.unfreeze()
        # Do not set the wall-clock time, which may have moved backwards.
        self.sandbox.advance(time.monotonic() - began)

    def start_runs(self, runs: Sequence[WaitedRun]) -> None:
        """Start the next runs of jobs."""
        for ids in _chunked_ids(runs):
            self._request("POST", f"{_JR}/jobs/startJobs", ids)

    def finish_times(self, runs: Sequence[WaitedRun]) -> dict[str, float]:
        """Return the end times of runs by job id, in epoch seconds of the sandbox's clock."""
        statuses: dict[str, Any] = {}
        for ids in _chunked_ids(runs):
            statuses.update(self._request("POST", f"{_JR}/jobs/status", ids).json())
        return {job_id: status["finishTime"] / 1000 for job_id, status in statuses.items()}

    def _request(self, method: str, path: str, ids: list[str] | None = None) -> requests.Response:
        while True:
            # Under load, the sandbox serves many queued requests before this one.
            response = requests.request(
                method, self.sandbox.url + path, headers=self.sandbox.headers, json=ids, timeout=_TIMEOUT
            )
            if response.status_code != HTTPStatus.TOO_MANY_REQUESTS:
                break
            time.sleep(_RETRY_DELAY)
        if not response.ok:
            raise BenchmarkError(f"{method} {path} returned {response.status_code}: {response.text}")
        return response


def _chunked_ids(runs: Sequence[WaitedRun]) -> Iterator[list[str]]:
    for first in range(0, len(runs), _CHUNK_SIZE):
        yield [run.job_id for run in runs[first : first + _CHUNK_SIZE]]


@contextmanager
def waiting_environment(runs: int, *, provider_only: bool = False) -> Iterator[WaitingEnvironment]:
    """
    Run a sandbox with active runs.

    :param runs: number of runs
    :param provider_only: measure only the provider's triggers
    """
    with tempfile.TemporaryDirectory(prefix="bench-waiting-") as folder:
        seed = Path(folder) / "seed.json"
        seed.write_text(json.dumps(_seed(runs)), encoding="utf-8")
        with SandboxProcess(seed=seed, variants={"metrics_lag": 0}, start_timeout=_TIMEOUT) as sandbox:
            yield WaitingEnvironment(sandbox, provider_only=provider_only)


def _seed(runs: int) -> dict[str, Any]:
    pipeline = {
        "name": "Endless",
        "versions": [{"message": "First version", "committed": "1d"}],
        "behaviour": {"kind": "streaming", "deactivation": "0s"},
    }
    return {
        "organization": {"name": "Bench", "user": {"name": "Bench", "email": "bench@example.com"}},
        "engines": [{"name": "engine", "url": "http://engine.example.com:18630", "labels": ["all"]}],
        "pipelines": [pipeline],
        "jobs": [
            {"name": f"Wait {number}", "pipeline": "Endless", "past": [{"started": _STARTED}]} for number in range(runs)
        ],
    }
