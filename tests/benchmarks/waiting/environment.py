"""A sandbox with runs to wait for."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from dev.local_sandbox import SandboxProcess
from tests.benchmarks.measuring import BenchmarkError
from tests.benchmarks.waiting.contenders import Contender, contenders_for
from tests.benchmarks.waiting.orders import Orders, WaitedRun
from tests.benchmarks.waiting.waiter_process import WaiterProcess

_JR = "/jobrunner/rest/v1"
_IDS_AT_A_TIME = 250
_PATIENCE = 60.0
# As long ago that nobody has a reason to look at them more often than asked.
_STARTED = "1h"


class WaitingStage:
    """
    A sandbox with jobs that have run for long, and run until they are stopped.

    :param sandbox: it holds nothing else
    :param alone: nothing but the provider's triggers is to wait
    """

    def __init__(self, sandbox: SandboxProcess, *, alone: bool = False) -> None:
        self.sandbox = sandbox
        self.runs = tuple(WaitedRun(job["id"], job["name"], job["run_count"]) for job in sandbox.state()["jobs"])
        self.contenders = [Contender.PROVIDER] if alone else contenders_for(len(self.runs))

    def waiter(
        self,
        contender: Contender,
        interval: float,
        ramp: float,
        *,
        runs: int | None = None,
        url: str | None = None,
        bulk_size: int | None = None,
    ) -> WaiterProcess:
        """
        Return a process that waits, not started yet.

        :param contender: the way of waiting
        :param interval: seconds between two looks at a run
        :param ramp: seconds over which the waits begin
        :param runs: how many of the runs are waited for; all by default
        :param url: where Control Hub is to be found, if not at the sandbox's own address
        :param bulk_size: jobs per request of the provider's triggers, if not the default
        """
        return WaiterProcess(
            Orders(
                contender,
                self.runs[:runs],
                interval,
                ramp,
                url or self.sandbox.url,
                self.sandbox.credential_id,
                self.sandbox.token,
                self.sandbox.login_url,
                bulk_size,
            )
        )

    def requests_served(self) -> int:
        """Return how many requests the sandbox has served since it was told to forget them."""
        return int(self._ask("GET", "/sandbox/v1/requests").json()["total"])

    def forget_requests(self) -> None:
        """Begin to count anew."""
        self._ask("DELETE", "/sandbox/v1/requests")

    def end(self, runs: Sequence[WaitedRun]) -> None:
        """Let runs end, all in the same moment, however long the sandbox takes to be told."""
        began = time.monotonic()
        self.sandbox.freeze()
        for ids in _portions(runs):
            self._ask("POST", f"{_JR}/jobs/stopJobs", ids)
        self.sandbox.unfreeze()
        # Not to the time of this machine, whose clock can have been set back.
        self.sandbox.advance(time.monotonic() - began)

    def finish_times(self, runs: Sequence[WaitedRun]) -> dict[str, float]:
        """Return when runs have ended, in epoch seconds by the sandbox's clock, by job id."""
        statuses: dict[str, Any] = {}
        for ids in _portions(runs):
            statuses.update(self._ask("POST", f"{_JR}/jobs/status", ids).json())
        return {job_id: status["finishTime"] / 1000 for job_id, status in statuses.items()}

    def _ask(self, method: str, path: str, ids: list[str] | None = None) -> requests.Response:
        # A sandbox that thousands ask has many requests to answer before this one.
        response = requests.request(
            method, self.sandbox.url + path, headers=self.sandbox.headers, json=ids, timeout=_PATIENCE
        )
        if not response.ok:
            raise BenchmarkError(f"{method} {path} was refused: {response.text}")
        return response


def _portions(runs: Sequence[WaitedRun]) -> Iterator[list[str]]:
    for first in range(0, len(runs), _IDS_AT_A_TIME):
        yield [run.job_id for run in runs[first : first + _IDS_AT_A_TIME]]


@contextmanager
def waiting_stage(runs: int, *, alone: bool = False) -> Iterator[WaitingStage]:
    """
    Give a sandbox with runs, and end it afterwards.

    :param runs: how many
    :param alone: nothing but the provider's triggers is to wait
    """
    with tempfile.TemporaryDirectory(prefix="bench-waiting-") as folder:
        seed = Path(folder) / "seed.json"
        seed.write_text(json.dumps(_seed(runs)), encoding="utf-8")
        with SandboxProcess(seed=seed, variants={"metrics_lag": 0}) as sandbox:
            yield WaitingStage(sandbox, alone=alone)


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
