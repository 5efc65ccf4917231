"""Requests of the conformance check, and descriptions of responses without names, ids, messages or secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import Any

from airflow_provider_streamsets.control_hub import ControlHubClient, ControlHubError
from airflow_provider_streamsets.control_hub.services import Retry, Service, quote_id
from airflow_provider_streamsets.control_hub.transport import RawResponse

Json = dict[str, Any]

MAX_READS = 150
"""Maximum number of requests of the read-only probes, not counting retries."""

# Objects by the keys that identify them (contract sections 4, 10.2, 12.2 and 14).
_OBJECTS = {
    "job": {"name", "pipelineCommitId", "currentJobStatus"},
    "status of a run": {"jobId", "runCount", "status", "color"},
    "metric registry": {"counters", "meters"},
    "engine": {"httpUrl", "executorType"},
    "user": {"principalId", "organizationId"},
}
# Keys of other objects. Any other key can be a name or an id, and is only counted.
_KEYS = """
    RemoteException columns components content count data definitions error info instanceId jobId jobStatusId len
    message offset offsets openapi paths runCount series status swagger time totalCount user values version
"""
_CODE = re.compile(r"[A-Z][A-Z_]{1,30}_\d{1,5}")
_CONTENT_TYPE = re.compile(r"(?:application|text)/[a-z.+-]{1,40}")
_VERSION = re.compile(r"\d[\w.+-]{0,30}")
# Contract sections 10.2 and 10.3.
_STATUSES = """
    ACTIVATING ACTIVE DEACTIVATING INACTIVE INACTIVE_ERROR ACTIVATION_ERROR GREEN GRAY RED STARTING STARTING_ERROR
    START_ERROR RUNNING RUNNING_ERROR RUN_ERROR RETRY FINISHING FINISHED KILLED STOPPING STOPPING_ERROR STOP_ERROR
    STOPPED DISCONNECTING DISCONNECTED CONNECTING CONNECT_ERROR DELETED UNKNOWN EDITED
"""
_KNOWN_KEYS, _KNOWN_STATUSES = frozenset(_KEYS.split()), frozenset(_STATUSES.split())


class NotAnswered(Exception):  # noqa: N818 # the probe found nothing, which is no error
    """Control Hub shows nothing that answers a question; the text is the reason."""


def describe(value: Any) -> str:
    """Return the shape of a JSON value: types, keys that the API defines, and error codes."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"array of {len(value)}: {describe(value[0])}" if value else "empty array"
    if not isinstance(value, dict):
        return "boolean" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
    if not value:
        return "empty object"
    for name, keys in _OBJECTS.items():
        if keys <= value.keys():
            return f"{name} with {len(value)} keys"
    known = sorted(value.keys() & _KNOWN_KEYS)
    others = len(value) - len(known)
    return f"object with {', '.join([*known, *([f'{others} other keys'] if others else [])])}"


def status_name(value: Any) -> str:
    """Return a status or color of the API; another value is not repeated."""
    return str(value) if value in _KNOWN_STATUSES else "none" if value is None else "another value"


def state_of(run: Mapping[str, Any]) -> str:
    """Return status and color of a run."""
    return f"{status_name(run.get('status'))}/{status_name(run.get('color'))}"


@dataclass(frozen=True)
class Reply:
    """
    A response of Control Hub.

    :param status: HTTP status
    :param content_type: header ``Content-Type``
    :param text: body
    """

    status: int
    content_type: str
    text: str

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return 200 <= self.status < 300

    @property
    def is_empty(self) -> bool:
        """Whether the body is empty."""
        return not self.text.strip()

    @cached_property
    def value(self) -> Any:
        """The parsed body; None if it is empty or not JSON."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return None

    @property
    def object(self) -> Json:
        """The object in a successful response; empty if there is none."""
        return self.value if self.ok and isinstance(self.value, dict) else {}

    @property
    def issues(self) -> list[Any] | None:
        """The issues of an error envelope; None if the body is none (contract section 15)."""
        issues = self.value.get("ISSUES") if isinstance(self.value, dict) else None
        return issues if isinstance(issues, list) else None

    @property
    def codes(self) -> list[str]:
        """The error codes in the envelope, without texts of another form."""
        codes = (str(issue.get("code")) for issue in self.issues or () if isinstance(issue, dict))
        return [code for code in codes if _CODE.fullmatch(code)]

    def facts(self) -> Json:
        """Return status, content type and shape of the body for the report."""
        if self.is_empty:
            body = "empty"
        elif self.issues is not None:
            body = f"error envelope, codes: {', '.join(self.codes) or 'none'}"
        elif self.value is None and self.text.strip() != "null":
            body = "not JSON"
        else:
            body = describe(self.value)
        content_type = _CONTENT_TYPE.match(self.content_type.lower())
        shown = content_type[0] if content_type else "another" if self.content_type else "none"
        return {"status": self.status, "content type": shown, "body": body}

    @property
    def is_refusal(self) -> bool:
        """Whether the request was refused, so that it had no effect."""
        return 400 <= self.status < 500

    def require_permission(self, what: str) -> Reply:
        """Return the response unless the credential lacks a permission; see :meth:`require`."""
        return self.require(what) if self.status in (401, 403) else self

    def require(self, what: str) -> Reply:
        """
        Return the response if the request succeeded.

        :param what: what was read, for the reason
        :raises NotAnswered: if it failed
        """
        if self.ok:
            return self
        codes = f" ({', '.join(self.codes)})" if self.codes else ""
        raise NotAnswered(f"Control Hub returned {self.status}{codes} for {what}")


@dataclass
class Hub:
    """
    Sends the requests of the check, one after the other and not more than a maximum number.

    :param client: the client, whose credential, retries and timeouts apply
    :param limit: the maximum number
    """

    client: ControlHubClient
    limit: int = MAX_READS
    sent: int = 0
    _reads: dict[str, Reply | NotAnswered] = field(default_factory=dict)

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        service: Service = Service.JOBRUNNER,
        retry: Retry = Retry.SAFE,
        **params: Any,
    ) -> Reply:
        """
        Send one request.

        :param path: path below the service
        :param params: query parameters
        :raises NotAnswered: if there was no usable response, or the limit is reached
        """
        if self.sent >= self.limit:
            raise NotAnswered(f"the limit of {self.limit} requests was reached")
        self.sent += 1
        try:
            response: RawResponse = self.client.send_raw(
                method, service, path, action="check the conformance", params=params, body=body, retry=retry
            )
        except ControlHubError as error:
            status = f"status {error.http_status}" if error.http_status else "no response"
            raise NotAnswered(f"a request failed ({status})") from error
        return Reply(response.status, response.content_type, response.text)

    def read(self, path: str, body: Any = None, service: Service = Service.JOBRUNNER, **params: Any) -> Reply:
        """Send a request that only reads, once; the parameters are those of :meth:`send`."""
        key = repr((path, body, service, sorted(params.items())))
        if key not in self._reads:
            try:
                self._reads[key] = self.send("GET" if body is None else "POST", path, body, service, **params)
            except NotAnswered as reason:
                self._reads[key] = reason
        reply = self._reads[key]
        if isinstance(reply, NotAnswered):
            raise reply
        return reply

    def version(self) -> str | None:
        """Return the version of Control Hub, None if it is unknown."""
        try:
            version = self.read("/v1/server/info", service=Service.SERVER).object.get("version")
        except NotAnswered:
            return None
        return version if isinstance(version, str) and _VERSION.fullmatch(version) else None


def rows(reply: Reply, what: str) -> list[Json]:
    """
    Return the objects of a list, wrapped or not (contract section 2).

    :param what: what was read, for the reason
    :raises NotAnswered: if it failed
    """
    value = reply.require(what).value
    entries = value.get("data") if isinstance(value, dict) else value
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


class Survey:
    """
    What Control Hub has that can answer questions: jobs and their runs, templates, engines.

    :param hub: sends the requests
    :param organization: id of the organization
    """

    # More jobs are not needed, and runs of more jobs would take too many requests.
    _PAGES = 4
    _PAGE = 250
    _SAMPLE = 16
    _RUNS = 50

    def __init__(self, hub: Hub, organization: str) -> None:
        self.hub = hub
        self.organization = organization

    @cached_property
    def jobs(self) -> list[Json]:
        """Jobs, the latest modified first."""
        found: list[Json] = []
        for page in range(self._PAGES):
            entries = self.list_jobs(
                jobTemplate=False, orderBy="LAST_MODIFIED_ON", order="DESC", offset=page * self._PAGE
            )
            found += entries
            if len(entries) < self._PAGE:
                break
        return found

    def list_jobs(self, **params: Any) -> list[Json]:
        """Return a page of jobs; the parameters are those of the query."""
        return rows(self.hub.read("/v1/jobs", **{"offset": 0, "len": self._PAGE, **params}), "a list of jobs")

    @property
    def templates(self) -> list[Json]:
        """Job templates."""
        return self.list_jobs(jobTemplate=True, len=50)

    @property
    def never_run(self) -> Json:
        """A job that has never run."""
        return first((job for job in self.jobs if job.get("currentJobStatus") is None), "job that has never run")

    @cached_property
    def with_runs(self) -> list[Json]:
        """A sample of the jobs that have run: some of each kind."""

        def kind(job: Json) -> tuple[bool, bool, int]:
            status = job["currentJobStatus"]
            is_failed = status.get("color") == "RED" or str(status.get("status")).endswith("_ERROR")
            return not is_failed, bool(status.get("lastReportedMetricTime")), -min(status.get("runCount") or 0, 3)

        kinds: dict[Any, list[Json]] = {}
        for job in self.jobs:
            if (job.get("currentJobStatus") or {}).get("runCount"):
                kinds.setdefault(kind(job), []).append(job)
        if not kinds:
            raise NotAnswered("no job that has run is visible")
        rounds = zip_longest(*(kinds[key] for key in sorted(kinds)))
        return [job for jobs in rounds for job in jobs if job is not None][: self._SAMPLE]

    def run_list(self, job: Json, **params: Any) -> Reply:
        """Return the response of the search for the runs of a job."""
        path = f"/v1/saql/jobs/search/{quote_id(job['id'])}/runs"
        return self.hub.read(path, **{"offset": 0, "len": self._RUNS, **params})

    def runs(self, job: Json) -> list[Json]:
        """Return runs of a job, the latest first."""
        reply = self.run_list(job)
        if not reply.ok:
            reply = self.hub.read(f"/v1/job/{quote_id(job['id'])}/history", offset=0, len=self._RUNS)
        return sorted(rows(reply, "the runs of a job"), key=lambda run: run.get("runCount") or 0, reverse=True)

    @property
    def all_runs(self) -> list[tuple[Json, Json]]:
        """Jobs of the sample with each of their runs."""
        return [(job, run) for job in self.with_runs for run in self.runs(job)]

    def events(self, run: Json) -> list[Json]:
        """Return the events of a run, oldest first."""
        reply = self.hub.read(f"/v1/job/{quote_id(run['id'])}/jobStatusHistory")
        return sorted(rows(reply, "the events of a run"), key=lambda event: event.get("time") or 0)

    def record_counts(self, job: Json) -> dict[int, Json]:
        """Return the entries of the record counts of a job by their index."""
        path = f"/v1/metrics/job/{quote_id(job['id'])}/recordCountsForAllRuns"
        counts = self.hub.read(path, service=Service.TIMESERIES).require("record counts").object
        return {int(key): entry for key, entry in counts.items() if key.isdigit() and isinstance(entry, dict)}

    def registry(self, job: Json, run_count: int) -> Reply:
        """Return the response of the metrics of a run."""
        return self.hub.read(f"/v1/metrics/job/{quote_id(job['id'])}", runCount=run_count)

    def has_metrics(self, job: Json, run: Json) -> bool:
        """Return whether metrics of a run were saved."""
        if run.get("lastReportedMetricTime"):
            return True
        registry = self.registry(job, run["runCount"]).object
        return bool(registry.get("counters") or registry.get("meters"))


def first(candidates: Iterable[Json], what: str) -> Json:
    """
    Return the first candidate.

    :param what: what the candidates are, for the reason
    :raises NotAnswered: if there is none
    """
    for candidate in candidates:
        return candidate
    raise NotAnswered(f"no {what} is visible")
