"""Jobs of a Control Hub for unit tests, over requests-mock, and which actions were requested for which of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import requests_mock

from tests.unit.fakes.single_job_hub import HUB, run_json

ACTIONS = ("resetOffset", "acknowledgeErrors", "syncJobs", "balanceJobs", "balanceSDCs")


def job_with_status(name: str, status: str | None = None, **fields: Any) -> dict[str, Any]:
    """A job whose id is made of its name, with a run of that status, or none."""
    color = "RED" if status == "INACTIVE_ERROR" else "GREEN" if status == "ACTIVE" else "GRAY"
    run = run_json(4, status, color, jobId=f"{name}:org", errorMessage=fields.pop("error", None)) if status else None
    return {"id": f"{name}:org", "name": name, "jobTemplate": False, "currentJobStatus": run, **fields}


class BulkActionsHub:
    """
    Jobs that are read by id or listed, whatever is searched for.

    :param http: the mocker to answer through
    :param jobs: the jobs
    """

    def __init__(self, http: requests_mock.Mocker, *jobs: dict[str, Any]) -> None:
        self.jobs = {job["id"]: job for job in jobs}
        self.asked: list[tuple[str, list[str]]] = []
        """The requested actions, each with its ids."""
        self.on_poll: Callable[[], None] = lambda: None
        """Called before each poll of the statuses."""
        jr = f"{HUB}/jobrunner/rest/v1"
        http.post(f"{jr}/jobs", json=lambda r, _: [self.jobs[job_id] for job_id in r.json() if job_id in self.jobs])
        http.get(f"{jr}/jobs", json=self._list)
        http.get(f"{jr}/saql/jobs/search", json=self._list)
        http.post(f"{jr}/jobs/status", json=self._statuses)
        for action in ACTIONS:
            http.post(f"{jr}/jobs/{action}", json=self._recorded(action))

    def _list(self, request: Any, _: Any) -> dict[str, Any]:
        data = list(self.jobs.values()) if request.qs["offset"] == ["0"] else []
        return {"totalCount": len(self.jobs), "offset": 0, "len": 250, "data": data}

    def _statuses(self, request: Any, _: Any) -> dict[str, Any]:
        self.on_poll()
        return {job_id: self.jobs[job_id]["currentJobStatus"] for job_id in request.json() if job_id in self.jobs}

    def _recorded(self, action: str) -> Callable[[Any, Any], dict[str, Any]]:
        return lambda request, _: self.asked.append((action, request.json())) or {}
