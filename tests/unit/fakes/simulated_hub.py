"""A Control Hub for unit tests with one job that really runs: started, stopped and ended by whom and when one likes."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import requests_mock

from tests.unit.fakes.single_job_hub import HUB, JOB_ID, JOB_NAME, ME
from tests.unit.fakes.task_runner import Clock

OTHER_USER = "another-user@org"
_ENDED = ("INACTIVE", "INACTIVE_ERROR", "ACTIVATION_ERROR")


class SimulatedHub:
    """
    One job, its runs, and who has done what to them.

    :param http: the mocker to answer through
    :param clock: the time
    """

    def __init__(self, http: requests_mock.Mocker, clock: Clock) -> None:
        self._clock = clock
        self._life = ""
        self.runs: list[dict[str, Any]] = []
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.calls: list[str] = []
        """What was asked to be done: ``start``, ``stop``, ``forceStop``, ``resetOffset``."""
        self.on_start: list[Callable[[Callable[[], dict[str, Any]]], dict[str, Any]]] = []
        """What happens at the next start calls instead of a start, which is given."""
        self.run_duration: float | None = None
        """Seconds that runs take; None: until they are ended."""
        self.stops_immediately = True
        self.forced_end = ("INACTIVE", "GRAY")
        """Status and color with which a forced stop ends a run."""
        self.acknowledged: list[int] = []
        """Numbers of the runs whose errors were acknowledged."""
        jr, ts = f"{HUB}/jobrunner/rest/v1", f"{HUB}/timeseries/rest/v1"
        http.get(f"{HUB}/security/rest/v1/currentUser", json={"principalId": ME})
        http.post(f"{jr}/sdcs", json={})
        http.get(f"{jr}/job/{JOB_ID}", json=lambda *_: self._job())
        http.post(f"{jr}/jobs", json=lambda *_: [self._job()])
        http.post(f"{jr}/job/{JOB_ID}/start", json=self._start)
        http.post(f"{jr}/job/{JOB_ID}/stop", json=lambda *_: self._stop("stop"))
        http.post(f"{jr}/job/{JOB_ID}/forceStop", json=lambda *_: self._stop("forceStop"))
        http.post(f"{jr}/jobs/stopJobs", json=lambda *_: self._stop("stop"))
        http.post(f"{jr}/jobs/forceStopJobs", json=lambda *_: self._stop("forceStop"))
        http.post(f"{jr}/jobs/acknowledgeErrors", json=lambda *_: self._acknowledge())
        http.post(f"{jr}/jobs/resetOffset", json=lambda *_: self.calls.append("resetOffset") or {})
        http.post(f"{jr}/jobs/status", json=lambda *_: {JOB_ID: self.latest})
        http.get(f"{jr}/job/{JOB_ID}/currentStatus", json=lambda *_: self.latest)
        http.get(re.compile(f"{jr}/job/run-.*/jobStatusHistory"), json=self._history)
        http.get(f"{jr}/saql/jobs/search/{JOB_ID}/runs", json=self._all_runs)
        http.get(f"{ts}/metrics/job/{JOB_ID}/recordCountsForAllRuns", json={})

    @property
    def latest(self) -> dict[str, Any] | None:
        """The job's latest run as it is now."""
        if not self.runs:
            return None
        run = self.runs[-1]
        begun = run["startTime"] / 1000
        if (
            self.run_duration is not None
            and run["status"] == "ACTIVE"
            and self._clock.current_time >= begun + self.run_duration
        ):
            self.end()
        return copy.deepcopy(run)

    def start(self, user: str = ME) -> dict[str, Any]:
        """Start the job as a user."""
        count = self.runs[-1]["runCount"] + 1 if self.runs else 1
        run = {
            "id": f"run-{self._life}{count}:org",
            "jobId": JOB_ID,
            "runCount": count,
            "status": "ACTIVE",
            "color": "GREEN",
            "user": user,
            "startTime": int(self._clock.current_time * 1000),
            "finishTime": 0,
            "errorMessage": None,
        }
        self.runs.append(run)
        self.events[run["id"]] = [self._event(user, "ACTIVATING")]
        return copy.deepcopy(run)

    def end(self, status: str = "INACTIVE", color: str = "GRAY") -> None:
        """Let the run end by itself."""
        self._set(None, status, color)

    def fail(self) -> None:
        """Let the run fail."""
        self.end("INACTIVE", "RED")

    def _stop(self, kind: str) -> dict[str, Any]:
        self.calls.append(kind)
        if kind == "forceStop":
            self._set(ME, "DEACTIVATING", "GREEN")
            self._set(None, *self.forced_end)
        else:
            self.stop(ME, at_once=self.stops_immediately)
        return {}

    def _acknowledge(self) -> dict[str, Any]:
        self.acknowledged.append(self.runs[-1]["runCount"])
        self._set(ME, "INACTIVE", "GRAY")
        return {}

    def upgrade(self, **evidence: Any) -> dict[str, Any]:
        """Upgrade the active job as another user, so that another run replaces the active one."""
        old = self.runs[-1]
        self._set(OTHER_USER, "DEACTIVATING", "GREEN")
        self._set(None, "INACTIVE", "GRAY")
        self.start(OTHER_USER)
        new = self.runs[-1]
        status = {"previousJobStatusId": old["id"], "currentJobStatusId": new["id"], "status": "UPGRADE_SUCCESSFUL"}
        new.update(evidence or {"upgradeStatus": status})
        return new

    def reimport(self, runs: int = 0) -> None:
        """Delete the job and import it again, and run it so many times; the last run stays active."""
        self.runs, self._life = [], "new-"
        for _ in range(runs):
            if self.runs:
                self.end()
            self.start(OTHER_USER)

    def stop(self, user: str, *, at_once: bool = True) -> None:
        """Stop the run as a user."""
        self._set(user, "DEACTIVATING", "GREEN")
        if at_once:
            self._set(None, "INACTIVE", "GRAY")

    def _set(self, user: str | None, status: str, color: str) -> None:
        run = self.runs[-1]
        finished = int(self._clock.current_time * 1000) if status in _ENDED else 0
        run.update(status=status, color=color, finishTime=finished)
        self.events[run["id"]].append(self._event(user, status))

    def _event(self, user: str | None, status: str) -> dict[str, Any]:
        return {"user": user, "time": int(self._clock.current_time * 1000), "message": status, "status": status}

    def _job(self) -> dict[str, Any]:
        return {"id": JOB_ID, "name": JOB_NAME, "jobTemplate": False, "currentJobStatus": self.latest}

    def _start(self, request: Any, answer: Any) -> Any:
        self.calls.append("start")
        if self.on_start:
            return self.on_start.pop(0)(self.start)
        latest = self.latest
        if latest is not None and latest["status"] not in _ENDED:
            answer.status_code = 400
            return {"ISSUES": [{"code": "JOBRUNNER_9", "message": "the job is active"}]}
        return self.start()

    def _history(self, request: Any, _: Any) -> list[dict[str, Any]]:
        found = re.search(r"/job/(run-[\w-]+:org)/", request.url.replace("%3A", ":"))
        return self.events[found[1]] if found else []

    def _all_runs(self, request: Any, _: Any) -> dict[str, Any]:
        data = self.runs[::-1] if request.qs["offset"] == ["0"] else []
        return {"totalCount": len(self.runs), "offset": 0, "len": 250, "data": data}
