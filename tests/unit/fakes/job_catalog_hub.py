"""A Control Hub for unit tests that holds jobs and one pipeline, over requests-mock."""

from __future__ import annotations

import copy
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests_mock

from tests.unit.fakes.single_job_hub import HUB, ME, T0

JR, PS = f"{HUB}/jobrunner/rest/v1", f"{HUB}/pipelinestore/rest/v1"
PIPELINE_ID, PIPELINE_NAME = "pipeline:org", "Orders"
ARCHIVE = b"PK\x03\x04" + bytes(range(256)) * 4000 + b"PK\x05\x06" + bytes(18)
"""About 1 MB that begin as a zip archive does."""


def pipeline_json(version: int, **fields: Any) -> dict[str, Any]:
    """A published version of the pipeline."""
    return {
        "pipelineId": PIPELINE_ID,
        "name": PIPELINE_NAME,
        "commitId": f"commit-{version}:org",
        "version": str(version),
        "draft": False,
        "currentRules": {"id": f"rules-{version}:org"},
        "executorType": "COLLECTOR",
        "commitTime": T0 + version,
        **fields,
    }


def job_json(job_id: str, name: str, **fields: Any) -> dict[str, Any]:
    """A job that has never run and runs version 2 of the pipeline."""
    return {
        "id": job_id,
        "name": name,
        "description": "as it was",
        "organization": "org",
        "createTime": T0,
        "lastModifiedBy": "another-user@org",
        "lastModifiedOn": T0 + 123,
        "pipelineId": PIPELINE_ID,
        "pipelineName": PIPELINE_NAME,
        "pipelineCommitId": "commit-2:org",
        "pipelineCommitLabel": "v2",
        "rulesId": "rules-2:org",
        "executorType": "COLLECTOR",
        "labels": ["prod"],
        "rawJobTags": ["nightly"],
        "runtimeParameters": '{"DAY": "1"}',
        "numInstances": 1,
        "jobTemplate": False,
        "templateJobId": None,
        "currentJobStatus": None,
        "somethingNew": {"kept": True},
        **fields,
    }


class JobCatalogHub:
    """
    Holds jobs, and changes them as it is asked to.

    :param http: the mocker to answer through
    :param jobs: the jobs that there are
    :param versions: published versions of the pipeline; the version 2 is tagged `released`
    """

    def __init__(self, http: requests_mock.Mocker, *jobs: dict[str, Any], versions: tuple[int, ...] = (1, 2, 3)):
        self.http = http
        self.jobs = {job["id"]: copy.deepcopy(job) for job in jobs}
        self.found: list[str] = []
        """Ids of what a search finds."""
        self.created: list[dict[str, Any]] = []
        self.updated: list[dict[str, Any]] = []
        self.duplicated: list[dict[str, Any]] = []
        self.exported: list[list[str]] = []
        self.imported: list[tuple[dict[str, str], bytes]] = []
        self.upgraded: list[list[str]] = []
        self.pages: list[int] = []
        """Offsets of the pages of jobs that were read."""
        self.now = T0 + 1_000_000
        self.versions = [pipeline_json(version) for version in versions]
        http.get(f"{HUB}/security/rest/v1/currentUser", json={"principalId": ME})
        one = re.compile(f"^{re.escape(JR)}/job/[^/?]+$")
        http.get(one, json=lambda r, c: self._one(r, c))
        http.post(one, json=self._update)
        http.get(re.compile(f"^{re.escape(JR)}/jobs[?]"), json=self._list)
        http.post(f"{JR}/jobs", json=lambda r, _: [self.jobs[i] for i in r.json() if i in self.jobs])
        http.put(f"{JR}/jobs", json=self._create)
        http.get(f"{JR}/saql/jobs/search", json=lambda r, _: self._page(r, [self.jobs[i] for i in self.found]))
        http.post(f"{JR}/jobs/updateJobs", json=lambda r, _: self.jobs.update({j["id"]: j for j in r.json()}) or [])
        http.post(f"{JR}/jobs/upgradeJobs", json=self._upgrade)
        http.post(f"{JR}/jobs/deleteJobs", json=lambda r, _: [self.jobs.pop(i) for i in r.json()])
        http.post(f"{JR}/jobs/exportJobs", content=self._export)
        http.post(re.compile(f"^{re.escape(JR)}/jobs/importJobs"), json=self._import)
        http.post(re.compile(f"^{re.escape(JR)}/job/[^/]+/duplicate$"), json=self._duplicate)
        http.get(f"{PS}/saql/pipelines/search", json=lambda r, _: self._page(r, self.versions[-1:]))
        http.get(f"{PS}/pipeline/{PIPELINE_ID}/log", json=lambda *_: self.versions)
        http.get(re.compile(f"^{re.escape(PS)}/pipelineCommit/"), json=lambda *_: self.versions[-1])
        http.get(f"{PS}/pipeline/{PIPELINE_ID}/latest", json=lambda *_: self.versions[-1])
        http.post(f"{PS}/pipelines/latestCommit", json=lambda *_: self.versions[-1:])
        http.get(f"{PS}/pipeline/{PIPELINE_ID}/tags", json=[{"name": "released", "commitId": "commit-2:org"}])

    def named(self, name: str) -> list[dict[str, Any]]:
        """The jobs of a name."""
        return [job for job in self.jobs.values() if job["name"] == name]

    def requests(self, method: str) -> list[str]:
        """Paths that were requested with a method."""
        return [request.path for request in self.http.request_history if request.method == method]

    def _one(self, request: Any, answer: Any) -> Any:
        job = self.jobs.get(request.url.rpartition("/")[2])
        answer.status_code = 200 if job else 404
        return job or {}

    def _list(self, request: Any, _: Any) -> dict[str, Any]:
        query = _query(request)
        wanted = query.get("jobSearchText")
        starts = query.get("jobSearchOperation") == "STARTS_WITH"
        tag = query.get("jobTag", "").rpartition(":")[0]
        return self._page(
            request,
            [
                job
                for job in self.jobs.values()
                if str(job["jobTemplate"]).lower() == query["jobTemplate"]
                and (wanted is None or (job["name"].startswith(wanted) if starts else job["name"] == wanted))
                and (not tag or tag in job["rawJobTags"])
            ],
        )

    def _page(self, request: Any, entries: list[dict[str, Any]]) -> dict[str, Any]:
        query = _query(request)
        offset, length = int(query["offset"]), int(query["len"])
        self.pages.append(offset)
        return {"totalCount": len(entries), "offset": offset, "len": length, "data": entries[offset : offset + length]}

    def _add(self, job: dict[str, Any]) -> dict[str, Any]:
        self.now += 1000
        new = {"id": f"new-{len(self.jobs)}:org", "createTime": self.now, "lastModifiedOn": self.now, "creator": ME}
        self.jobs[new["id"]] = {**job, **new, "currentJobStatus": None}
        return self.jobs[new["id"]]

    def _create(self, request: Any, _: Any) -> dict[str, Any]:
        self.created.append(request.json())
        return self._add({**job_json("", ""), **request.json()})

    def _update(self, request: Any, _: Any) -> dict[str, Any]:
        self.now += 1000
        self.updated.append(request.json())
        job = {**request.json(), "lastModifiedOn": self.now}
        self.jobs[job["id"]] = job
        return job

    def _upgrade(self, request: Any, _: Any) -> list[dict[str, Any]]:
        self.upgraded.append(request.json())
        newest = self.versions[-1]
        for job_id in request.json():
            commit = {"pipelineCommitId": newest["commitId"], "pipelineCommitLabel": f"v{newest['version']}"}
            self.jobs[job_id].update(commit)
        return []

    def _duplicate(self, request: Any, _: Any) -> None:
        order = request.json()
        self.duplicated.append(order)
        source = self.jobs[request.url.split("/")[-2]]
        numbers = range(1, order["numberOfCopies"] + 1) if order["numberOfCopies"] > 1 else [""]
        for number in numbers:
            self._add({**source, "name": f"{order['namePrefix']}{number}"})

    def _export(self, request: Any, answer: Any) -> bytes:
        self.exported.append(request.json())
        return ARCHIVE

    def _import(self, request: Any, _: Any) -> list[dict[str, Any]]:
        body = b"".join(request.body)
        self.imported.append((_query(request), body))
        return [
            {
                "minimalJobJson": {
                    "id": job["id"],
                    "name": job["name"],
                    "pipelineCommitLabel": job["pipelineCommitLabel"],
                }
            }
            for job in self.jobs.values()
        ]


def _query(request: Any) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(urlsplit(request.url).query).items()}
