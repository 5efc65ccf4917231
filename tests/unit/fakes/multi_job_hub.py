"""A Control Hub for unit tests that holds many jobs and a job template, over requests-mock."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

import requests_mock

from tests.unit.fakes.single_job_hub import COUNTERS, HUB, ME, T0, run_json

JR, TS = f"{HUB}/jobrunner/rest/v1", f"{HUB}/timeseries/rest/v1"
TEMPLATE_ID, TEMPLATE_NAME = "template:org", "Regional orders"
ENDED = ("INACTIVE", "INACTIVE_ERROR", "ACTIVATION_ERROR")


def job_id(name: str) -> str:
    return f"{name}:org"


def active(run_count: int = 1, **fields: Any) -> dict[str, Any]:
    """A status of whichever job it is scripted for."""
    return run_json(run_count, **fields)


def activating(run_count: int = 1) -> dict[str, Any]:
    return run_json(run_count, "ACTIVATING")


def deactivating(run_count: int = 1) -> dict[str, Any]:
    return run_json(run_count, "DEACTIVATING")


def succeeded(run_count: int = 1, **fields: Any) -> dict[str, Any]:
    return run_json(run_count, "INACTIVE", "GRAY", **fields)


def failed(run_count: int = 1, message: str = "RUN_ERROR: JDBC_00") -> dict[str, Any]:
    return run_json(run_count, "INACTIVE", "RED", errorMessage=message)


def errored(run_count: int = 1, message: str = "RUN_ERROR: JDBC_00") -> dict[str, Any]:
    """A run whose error waits to be acknowledged."""
    return run_json(run_count, "INACTIVE_ERROR", "RED", errorMessage=message)


class MultiJobHub:
    """
    Jobs whose statuses at each poll are the next of a script; the last one stays.

    :param http: the mocker to answer through
    :param jobs: for each job, by name, its status when it is first read, and those at the polls after that
    """

    def __init__(self, http: requests_mock.Mocker, **jobs: list[dict[str, Any] | None]) -> None:
        self.http = http
        self.scripts: dict[str, list[dict[str, Any] | None]] = {}
        self.latest: dict[str, dict[str, Any] | None] = {}
        self.names: dict[str, str] = {}
        self.parameters: dict[str, dict[str, Any]] = {}
        for name, script in jobs.items():
            self.add(name, script)
        self.after_start: dict[str, list[dict[str, Any] | None]] = {}
        """Statuses, by name, at the polls after a start; the job is activating before."""
        self.after_stop: dict[str, list[dict[str, Any] | None]] = {}
        """Statuses, by name, at the polls after a stop."""
        self.after_force: dict[str, list[dict[str, Any] | None]] = {}
        self.after_acknowledgement: dict[str, list[dict[str, Any] | None]] = {}
        self.unstartable: set[str] = set()
        self.counts: dict[str, dict[str, Any]] = {}
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.bad: dict[str, int] = {}
        """Ids that make every request with them fail, and its HTTP status; with 403, their jobs cannot be read."""
        self.unreadable: set[str] = set()
        """Ids whose status is nothing that could be read."""
        self.failing_polls: list[int] = []
        """HTTP statuses of the next polls."""
        self.on_poll: Callable[[], None] = lambda: None
        """Called before each poll."""
        self.polls: list[list[str]] = []
        """The ids of each poll that was answered."""
        self.done: list[tuple[str, list[str]]] = []
        """Bulk actions that were requested, with the names of the jobs."""
        self.created: list[dict[str, Any]] = []
        """The requested instances of the template."""
        self.instance_scripts: list[list[dict[str, Any] | None]] = []
        """Statuses of the instances that will be made, in their order."""
        self.starts: list[dict[str, Any]] = []
        one = f"^{re.escape(JR)}/job/([^/?]+)"
        http.get(re.compile(f"{one}$"), json=self._one)
        http.get(re.compile(f"{one}/currentStatus$"), json=lambda r, _: self.latest.get(self._id_in(r)))
        http.post(re.compile(f"{one}/(stop|forceStop)$"), json=self._stop_one)
        http.get(re.compile(f"{one}/jobStatusHistory"), json=lambda r, _: self.events.get(self._id_in(r), []))
        http.post(f"{JR}/jobs", json=self._many)
        http.get(re.compile(f"^{re.escape(JR)}/jobs[?]"), json=self._list)
        http.post(f"{JR}/jobs/status", json=self._poll)
        for action, effect in (
            ("startJobs", self._start),
            ("stopJobs", self._stop),
            ("forceStopJobs", self._force),
            ("deleteJobs", self._delete),
            ("acknowledgeErrors", self._acknowledge),
        ):
            http.post(f"{JR}/jobs/{action}", json=self._recorded(action, effect))
        http.get(re.compile(f"^{re.escape(JR)}/saql/jobs/search/([^/?]+)/runs"), json=self._runs)
        http.get(
            re.compile(f"^{re.escape(TS)}/metrics/job/([^/?]+)/recordCountsForAllRuns"),
            json=lambda r, _: self.counts.get(self._id_in(r), {}),
        )
        http.get(COUNTERS, json={"counters": {}, "meters": {}})
        http.get(f"{JR}/job/{TEMPLATE_ID}", json=lambda *_: self.template)
        http.post(re.compile(f"^{re.escape(JR)}/job/{TEMPLATE_ID}/createAndStartJobInstances"), json=self._create)
        http.get(re.compile(f"^{re.escape(JR)}/job/{TEMPLATE_ID}/runHistory"), json=self._template_history)
        http.get(f"{HUB}/security/rest/v1/currentUser", json={"principalId": ME})
        http.post(f"{JR}/sdcs", json={})
        self.template: dict[str, Any] = {
            "id": TEMPLATE_ID,
            "name": TEMPLATE_NAME,
            "jobTemplate": True,
            "runtimeParameters": '{"REGION": "emea", "SIZE": "10"}',
            "statsRefreshInterval": 60000,
        }

    def add(self, name: str, script: list[dict[str, Any] | None], job_name: str | None = None) -> None:
        """Add a job."""
        identifier = job_id(name)
        first, *rest = [self._status(name, status) for status in script]
        self.latest[identifier], self.scripts[identifier] = first, rest
        self.names[identifier] = job_name or name

    def show(self, name: str, status: Callable[[int], dict[str, Any]]) -> None:
        """Let the latest run of a job have a status, or its first one if it has never run."""
        latest = self.latest[job_id(name)]
        self.latest[job_id(name)] = self._status(name, status(latest["runCount"] if latest else 1))
        self.scripts[job_id(name)] = []

    @staticmethod
    def _status(name: str, status: dict[str, Any] | None) -> dict[str, Any] | None:
        return status and {**status, "jobId": job_id(name), "id": f"run-{name}-{status['runCount']}:org"}

    def job(self, identifier: str) -> dict[str, Any]:
        """The job as it is now."""
        return {
            "id": identifier,
            "name": self.names[identifier],
            "jobTemplate": False,
            "statsRefreshInterval": 60000,
            "runtimeParameters": json.dumps(self.parameters.get(identifier, {})),
            "currentJobStatus": copy.deepcopy(self.latest[identifier]),
        }

    def asked(self, action: str) -> list[list[str]]:
        """The names of the jobs for which an action was asked, for each time."""
        return [names for what, names in self.done if what == action]

    def saves(self, name: str, run_count: int = 1, *, seconds: float = 61, **counts: int) -> None:
        """Let a run have record counts, saved so many seconds after its start."""
        saved = T0 + run_count * 100_000 + int(seconds * 1000)
        entry = {"inputCount": 100, "outputCount": 90, "errorCount": 7, "stageErrorsCount": 3, "lastUpdatedOn": saved}
        self.counts[job_id(name)] = {"1": {**entry, **counts, "runCount": run_count}}

    def mark_stopped_by(self, user: str, *names: str) -> None:
        """Let the runs of jobs have events that say that a person stopped them."""
        for name in names:
            event = {"user": user, "time": T0, "message": "Job stopped", "status": "DEACTIVATING"}
            self.events[f"run-{name}-1:org"] = [event]

    @staticmethod
    def _id_in(request: Any) -> str:
        path = unquote(urlsplit(request.url).path)
        return re.search(r"/(?:job|search)/([^/]+)", path.removeprefix("/jobrunner/rest/v1/saql/jobs"))[1]  # type: ignore[index]

    def _one(self, request: Any, answer: Any) -> Any:
        identifier = self._id_in(request)
        if self.bad.get(identifier) == 403:
            return self._refused(answer, 403)
        if identifier in self.latest:
            return self.job(identifier)
        return self._refused(answer, 404)

    def _many(self, request: Any, answer: Any) -> Any:
        if any(self.bad.get(identifier) == 403 for identifier in request.json()):
            return self._refused(answer, 403)
        return [self.job(identifier) for identifier in request.json() if identifier in self.latest]

    @staticmethod
    def _refused(answer: Any, status: int) -> dict[str, Any]:
        answer.status_code = status
        return {"ISSUES": [{"code": "JOBRUNNER_1", "message": "one of them is not right"}]}

    def _list(self, request: Any, _: Any) -> dict[str, Any]:
        wants_templates = request.qs.get("jobtemplate") == ["true"]
        jobs = [self.template] if wants_templates else [self.job(identifier) for identifier in self.latest]
        wanted = request.qs.get("jobsearchtext")
        found = [job for job in jobs if wanted is None or job["name"].lower() == wanted[0]]
        data = found if request.qs["offset"] == ["0"] else []
        return {"totalCount": len(found), "offset": 0, "len": 250, "data": data}

    def _poll(self, request: Any, answer: Any) -> Any:
        wanted = request.json()
        self.on_poll()
        if self.failing_polls:
            answer.status_code = self.failing_polls.pop(0)
            return {}
        refused = [self.bad[identifier] for identifier in wanted if identifier in self.bad]
        if refused:
            return self._refused(answer, refused[0])
        self.polls.append(sorted(wanted))
        for identifier in wanted:
            if self.scripts.get(identifier):
                self.latest[identifier] = self.scripts[identifier].pop(0)
        statuses: dict[str, Any] = {i: self.latest[i] for i in wanted if i in self.latest}
        return {**statuses, **dict.fromkeys(self.unreadable & statuses.keys(), "no status")}

    def _recorded(self, action: str, effect: Any) -> Any:
        def answered(request: Any, answer: Any) -> dict[str, Any]:
            names = [identifier.removesuffix(":org") for identifier in request.json()]
            self.done.append((action, names))
            return effect(names, answer) or {}

        return answered

    def _start(self, names: Iterable[str], _: Any) -> None:
        for name in names:
            if name in self.unstartable:
                continue
            before = self.latest[job_id(name)]
            count = (before["runCount"] if before else 0) + 1
            self.latest[job_id(name)] = self._status(name, activating(count))
            self._then(name, self.after_start)

    def _then(self, name: str, scripts: dict[str, list[dict[str, Any] | None]]) -> None:
        if name in scripts:
            self.scripts[job_id(name)] = [self._status(name, status) for status in scripts[name]]

    def _stop(self, names: Iterable[str], answer: Any) -> dict[str, Any] | None:
        for name in names:
            if (self.latest[job_id(name)] or {}).get("status") == "ACTIVATING":
                answer.status_code = 400
                return {"ISSUES": [{"code": "JOBRUNNER_2", "message": "is ACTIVATING"}]}
        for name in names:
            self._then(name, self.after_stop)
        return None

    def _force(self, names: Iterable[str], _: Any) -> None:
        for name in names:
            self._then(name, self.after_force)

    def _stop_one(self, request: Any, answer: Any) -> dict[str, Any]:
        name = self._id_in(request).removesuffix(":org")
        action = "forceStop" if request.url.endswith("forceStop") else "stop"
        self.done.append((action, [name]))
        if action == "stop":
            return self._stop([name], answer) or {}
        self._force([name], answer)
        return {}

    def _delete(self, names: Iterable[str], _: Any) -> None:
        for name in names:
            del self.latest[job_id(name)]

    def _acknowledge(self, names: Iterable[str], _: Any) -> None:
        for name in names:
            self._then(name, self.after_acknowledgement)

    def _runs(self, request: Any, _: Any) -> dict[str, Any]:
        name = self._id_in(request).removesuffix(":org")
        runs = [self._status(name, run) for run in self.history.get(name, [])]
        return {"totalCount": len(runs), "offset": 0, "len": 250, "data": runs if request.qs["offset"] == ["0"] else []}

    def _create(self, request: Any, _: Any) -> list[dict[str, Any]]:
        return self.create(request.json())

    def create(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Make instances of the template, each activating."""
        self.created.append(body)
        made = []
        for parameters in body["runtimeParametersList"]:
            number = len(self.parameters) + 1
            name = f"instance-{number}"
            script = self.instance_scripts.pop(0) if self.instance_scripts else [succeeded()]
            self.add(name, [activating(), *script], f"{body['name'] or TEMPLATE_NAME} - {number}")
            self.parameters[job_id(name)] = parameters
            made.append(job_id(name))
        self.starts.append({"runCount": len(self.starts) + 1, "time": T0, "user": ME, "jobInstanceIds": made})
        return [copy.deepcopy(self.latest[identifier]) for identifier in made]  # type: ignore[misc]

    def _template_history(self, request: Any, _: Any) -> dict[str, Any]:
        data = self.starts[::-1] if request.qs["offset"] == ["0"] else []
        return {"totalCount": len(self.starts), "offset": 0, "len": 1000, "data": data}
