"""A Control Hub for unit tests that answers from a script, over requests-mock."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import requests_mock

HUB = "https://hub.example.com"
JOB_ID = "11111111-1111-4111-8111-111111111111:org"
JOB_NAME = "Orders"
COUNTERS = re.compile("/jobrunner/rest/v1/metrics/job/")
"""Where the counters and meters of runs are."""
ME = "me@org"
T0 = 1_767_261_000_000
LONG_AGO = 1
"""Start of a run that is old on virtual time, too; younger ones are polled more often."""


def run_json(run_count: int = 4, status: str = "ACTIVE", color: str = "GREEN", **fields: Any) -> dict[str, Any]:
    """A ``JobStatusJson``."""
    ended = status in {"INACTIVE", "INACTIVE_ERROR", "ACTIVATION_ERROR"}
    return {
        "id": f"run-{run_count}:org",
        "jobId": JOB_ID,
        "runCount": run_count,
        "status": status,
        "color": color,
        "user": ME,
        "startTime": T0 + run_count * 100_000,
        "finishTime": T0 + run_count * 100_000 + 60_000 if ended else 0,
        "errorMessage": None,
        "warnings": [],
        "sdcIds": ["engine-1"],
        "pipelineStatus": [],
        "ackTrackers": [],
        "inputRecordCount": 0,
        "outputRecordCount": 0,
        "errorRecordCount": 0,
        **fields,
    }


def succeeded(run_count: int = 4) -> dict[str, Any]:
    """A run that has ended well."""
    return run_json(run_count, "INACTIVE", "GRAY")


def failed(run_count: int = 4, message: str = "RUN_ERROR: JDBC_00 - Cannot connect") -> dict[str, Any]:
    """A run that has ended with an error."""
    return run_json(run_count, "INACTIVE", "RED", errorMessage=message)


def event_json(seconds: int, status: str, message: str, user: str | None = None, run_count: int = 4) -> dict[str, Any]:
    """A run event."""
    return {"user": user, "time": T0 + run_count * 100_000 + seconds * 1000, "message": message, "status": status}


class SingleJobHub:
    """
    One job whose status at each poll is the next of a script; the last one stays.

    :param http: the mocker to answer through
    :param latest: the job's latest run when it is first read; None for a job that has never run
    :param script: statuses at the polls after that
    """

    def __init__(
        self,
        http: requests_mock.Mocker,
        *,
        latest: dict[str, Any] | None = None,
        script: list[dict[str, Any] | None] | None = None,
        events: list[dict[str, Any]] | None = None,
        counts: dict[str, Any] | None = None,
        stored_parameters: dict[str, Any] | None = None,
    ) -> None:
        self.http = http
        self.latest = latest
        self.script = list(script or [])
        self.events = events or []
        self.counts = counts or {}
        self.stored_parameters = stored_parameters or {}
        self.started_with: list[Any] = []
        self.stops: list[str] = []
        self.resets: list[Any] = []
        self.polls = 0
        self.history: list[dict[str, Any]] = []
        jr, ts = f"{HUB}/jobrunner/rest/v1", f"{HUB}/timeseries/rest/v1"
        http.get(f"{HUB}/security/rest/v1/currentUser", json={"principalId": ME})
        http.post(f"{jr}/sdcs", json={})
        http.get(f"{jr}/job/{JOB_ID}", json=lambda *_: self.job())
        http.get(f"{jr}/jobs", json=self._list)
        http.post(f"{jr}/job/{JOB_ID}/start", json=self._start)
        http.post(f"{jr}/job/{JOB_ID}/stop", json=lambda r, _: self.stops.append("stop") or {})
        http.post(f"{jr}/job/{JOB_ID}/forceStop", json=lambda r, _: self.stops.append("force") or {})
        http.post(f"{jr}/jobs/resetOffset", json=lambda r, _: self.resets.append(r.json()) or {})
        http.post(f"{jr}/jobs/status", json=lambda r, _: {JOB_ID: self._poll()})
        http.get(f"{jr}/job/{JOB_ID}/currentStatus", json=lambda *_: self.latest)
        http.get(re.compile(f"{jr}/job/run-.*/jobStatusHistory"), json=lambda *_: self.events)
        http.get(f"{jr}/saql/jobs/search/{JOB_ID}/runs", json=self._runs)
        http.get(f"{ts}/metrics/job/{JOB_ID}/recordCountsForAllRuns", json=lambda *_: self.counts)

    def job(self) -> dict[str, Any]:
        """The job as it is now."""
        return {
            "id": JOB_ID,
            "name": JOB_NAME,
            "jobTemplate": False,
            "runtimeParameters": json.dumps(self.stored_parameters),
            "currentJobStatus": copy.deepcopy(self.latest),
        }

    def _list(self, request: Any, _: Any) -> dict[str, Any]:
        matches = request.qs.get("jobtemplate") == ["false"] and request.qs.get("jobsearchtext") == [JOB_NAME.lower()]
        data = [self.job()] if matches and request.qs["offset"] == ["0"] else []
        return {"totalCount": len(data), "offset": 0, "len": 250, "data": data}

    def _start(self, request: Any, _: Any) -> dict[str, Any]:
        self.started_with.append(request.json())
        self.latest = run_json((self.latest["runCount"] if self.latest else 0) + 1, "ACTIVATING")
        return self.latest

    def _poll(self) -> dict[str, Any] | None:
        self.polls += 1
        if self.script:
            self.latest = self.script.pop(0)
        return self.latest

    def _runs(self, request: Any, _: Any) -> dict[str, Any]:
        offset, length = int(request.qs["offset"][0]), int(request.qs["len"][0])
        data = self.history[offset : offset + length]
        return {"totalCount": len(self.history), "offset": 0, "len": 250, "data": data}


def counts_json(run_count: int, *, saved_after: float = 61, **fields: int) -> dict[str, Any]:
    """Record counts whose newest entry is that of a run, saved so many seconds after its start."""
    entry = {
        "inputCount": 100,
        "outputCount": 90,
        "errorCount": 7,
        "stageErrorsCount": 3,
        "lastUpdatedOn": T0 + run_count * 100_000 + int(saved_after * 1000),
        **fields,
    }
    older = {str(n): {**entry, "runCount": n} for n in range(1, run_count)}
    return {"0": entry, **older}


def offsets_json(**documents: dict[str, Any]) -> list[dict[str, Any]]:
    """The offsets in a ``JobStatusJson``, of the engines that are named."""
    return [
        {"sdcId": engine_id, "pipelineId": "pipeline", "offset": json.dumps(document), "resetOffset": False}
        for engine_id, document in documents.items()
    ]
