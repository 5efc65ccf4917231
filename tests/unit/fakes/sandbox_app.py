"""An in-process sandbox with a frozen clock."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient

from airflow_provider_streamsets.sandbox.app import create_app
from airflow_provider_streamsets.sandbox.backend.clock import Clock
from airflow_provider_streamsets.sandbox.seed.models import Seed, load_seed

SEED = load_seed()
T0 = 1_767_261_000_000
JR = "/jobrunner/rest/v1"
OFFSET = "$com.streamsets.datacollector.pollsource.offset$"


class Hub:
    """A sandbox application with shortcuts for tests."""

    def __init__(self, seed: Seed = SEED, **variants: Any) -> None:
        self.clock = Clock(frozen_at=T0)
        self.app = create_app(seed=seed, clock=self.clock, variants=variants)
        credential = self.app.state.context.credential
        self.headers = {
            "X-SS-App-Component-Id": credential.id,
            "X-SS-App-Auth-Token": credential.token,
            "X-Requested-By": "tests",
        }
        self.http = TestClient(self.app, headers=self.headers, raise_server_exceptions=True)
        self.backend = self.app.state.context.backend

    def id(self, name: str) -> str:
        return next(job.id for job in self.backend.jobs.values() if job.seed.name == name)

    def get(self, path: str, **query: Any) -> Any:
        response = self.http.get(path, params=query)
        assert response.status_code == 200, response.text
        return response.json() if response.content else None

    def names(self, path: str = f"{JR}/jobs", **query: Any) -> list[str]:
        body = self.get(path, **query)
        return [job["name"] for job in (body["data"] if isinstance(body, dict) else body)]

    def do(self, name: str, action: str, body: Any = None) -> Any:
        return self.http.post(f"{JR}/job/{self.id(name)}/{action}", json=body)

    def status(self, name: str) -> Any:
        return self.get(f"{JR}/job/{self.id(name)}/currentStatus")

    def counts(self, name: str) -> Any:
        return self.get(f"/timeseries/rest/v1/metrics/job/{self.id(name)}/recordCountsForAllRuns")
