"""Bodies as Control Hub sends them, with invented ids, and what is needed to serve them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError

from airflow_provider_streamsets.control_hub.models.status_snapshot import StatusSnapshot

ORGANIZATION = "3f1c7a52-8d1e-11ee-b9d1-0242ac120002"
HUB = "https://na01.hub.example.com"
SIBLING = "https://eu01.hub.example.com"
LOGIN = "https://login.example.com"
LOOKUP = f"{LOGIN}/api/security/public/v3/orgs/{ORGANIZATION}/info"
LANDING = "/security/public-rest/v1/aster/landing"
CREDENTIAL_ID = "5d0e3f7c-0000-4000-8000-00000000c0de"
SECRET = "s3cr3t-of-the-token"

JOB_ID = f"7b1d2c3e-0000-4000-8000-000000000001:{ORGANIZATION}"
JOB_NAME = "Orders to warehouse"
ME = f"airflow@{ORGANIZATION}"
T0 = 1_767_261_000_000
"""Start of run 1, in epoch milliseconds; run n starts n - 1 hours later and takes a minute."""
HOUR, MINUTE = 3_600_000, 60_000

PIPELINE_ID = f"b0000000-0000-4000-8000-000000000001:{ORGANIZATION}"
TEMPLATE_ID = f"7b1d2c3e-0000-4000-8000-00000000000f:{ORGANIZATION}"
TEMPLATE_NAME = "Regional orders"

JR, SEC, TS = f"{HUB}/jobrunner/rest/v1", f"{HUB}/security/rest/v1", f"{HUB}/timeseries/rest/v1"
PS, TUN = f"{HUB}/pipelinestore/rest/v1", f"{HUB}/tunneling/rest"
JOBS = f"{JR}/jobs"
JOB = f"{JR}/job/{JOB_ID}"
START = f"{JOB}/start"
CURRENT = f"{JOB}/currentStatus"
STATUSES = f"{JOBS}/status"
USER = f"{SEC}/currentUser"
HISTORY = f"{JR}/saql/jobs/search/{JOB_ID}/runs"
COUNTS = f"{TS}/metrics/job/{JOB_ID}/recordCountsForAllRuns"
SEARCH = f"{JR}/saql/jobs/search"
REGISTRY = f"{JR}/metrics/job/{JOB_ID}"

OFFSET = {"version": 2, "offsets": {"$com.streamsets.datacollector.pollsource.offset$": "orders.csv::40960"}}

ENDED = frozenset({"INACTIVE", "INACTIVE_ERROR", "ACTIVATION_ERROR"})


def make_token(payload: Any, *, url_safe: bool = False, padded: bool = False) -> str:
    """A token with any JSON payload; real ones carry no padding and may use either alphabet."""
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    body = encode(text).decode()
    return f"eyJhbGciOiJub25lIn0.{body if padded else body.rstrip('=')}."


TOKEN = make_token({"s": SECRET, "v": 1, "iss": "na01", "jti": CREDENTIAL_ID, "o": ORGANIZATION})


def run_id(run_count: int) -> str:
    return f"9c000000-0000-4000-8000-{run_count:012d}:{ORGANIZATION}"


def parse_snapshot(status: Any) -> StatusSnapshot | None:
    """Return the snapshot of a status."""
    return StatusSnapshot.parse(json.dumps(status).encode())


def run_json(run_count: int = 1, status: str = "ACTIVE", color: str = "GREEN", **fields: Any) -> dict[str, Any]:
    """A ``JobStatusJson``."""
    start = T0 + (run_count - 1) * HOUR
    return {
        "id": run_id(run_count),
        "jobId": JOB_ID,
        "pipelineCommitId": f"c0000000-0000-4000-8000-000000000002:{ORGANIZATION}",
        "pipelineCommitLabel": "v2",
        "runCount": run_count,
        "user": ME,
        "startTime": start,
        "finishTime": start + MINUTE if status in ENDED else 0,
        "errorMessage": None,
        "color": color,
        "sdcIds": ["engine-1"],
        "status": status,
        "errorInfos": [],
        "warnings": [],
        "ackTrackers": [],
        "pipelineOffsets": None,
        "pipelineStatus": [],
        "upgradeStatus": None,
        "edge": False,
        "inputRecordCount": 0,
        "outputRecordCount": 0,
        "errorRecordCount": 0,
        "lastReportedMetricTime": 0,
        **fields,
    }


def succeeded(run_count: int = 1, **fields: Any) -> dict[str, Any]:
    return run_json(run_count, "INACTIVE", "GRAY", **fields)


def failed(run_count: int = 1, **fields: Any) -> dict[str, Any]:
    return run_json(run_count, "INACTIVE", "RED", **{"errorMessage": "RUN_ERROR: JDBC_00", **fields})


def job_json(job_id: str = JOB_ID, name: str = JOB_NAME, **fields: Any) -> dict[str, Any]:
    """A ``JobJson``."""
    return {
        "id": job_id,
        "name": name,
        "description": None,
        "organization": ORGANIZATION,
        "creator": ME,
        "createTime": T0 - HOUR,
        "lastModifiedBy": ME,
        "lastModifiedOn": T0 - HOUR,
        "pipelineName": "Orders",
        "pipelineId": PIPELINE_ID,
        "pipelineCommitId": f"c0000000-0000-4000-8000-000000000002:{ORGANIZATION}",
        "pipelineCommitLabel": "v2",
        "labels": ["prod"],
        "currentJobStatus": None,
        "numInstances": 1,
        "migrateOffsets": True,
        "statsRefreshInterval": 60000,
        "runtimeParameters": '{"DIRECTORY": "/data/in", "SIZE": "1000"}',
        "forceStopTimeout": 120000,
        "jobTemplate": False,
        "templateJobId": None,
        "rawJobTags": ["nightly/orders"],
        "executorType": "COLLECTOR",
        "needsManualAck": None,
        "staticParameters": [],
        "deleteAfterCompletion": False,
        **fields,
    }


def template_json(**fields: Any) -> dict[str, Any]:
    """A ``JobJson`` that is a job template."""
    return job_json(TEMPLATE_ID, TEMPLATE_NAME, **{"jobTemplate": True, **fields})


def template_start_json(number: int, job_ids: list[str], **fields: Any) -> dict[str, Any]:
    """One start of a job template, as its run history has it."""
    return {
        "id": f"start-{number}",
        "jobTemplateId": TEMPLATE_ID,
        "user": ME,
        "time": T0 + number * HOUR,
        "runCount": number,
        "configuration": "{}",
        "jobInstanceIds": job_ids,
        **fields,
    }


def commit_id(version: int | str) -> str:
    return f"c0000000-0000-4000-8000-{str(version).replace('.', ''):0>12}:{ORGANIZATION}"


def pipeline_json(version: int | str = 3, **fields: Any) -> dict[str, Any]:
    """A ``PipelineJson``: one version of a pipeline."""
    return {
        "commitId": commit_id(version),
        "pipelineId": PIPELINE_ID,
        "name": "Orders",
        "version": str(version),
        "committer": ME,
        "commitMessage": f"Message of version {version}",
        "commitTime": T0,
        "draft": False,
        "currentRules": {"id": f"rules-{version}:{ORGANIZATION}", "commitId": commit_id(version)},
        "pipelineDefinition": None,
        "libraryDefinitions": None,
        "rulesDefinition": None,
        "executorType": "COLLECTOR",
        **fields,
    }


def engine_json(engine_id: str = "engine-1", **fields: Any) -> dict[str, Any]:
    """An ``SDCJson``."""
    return {
        "id": engine_id,
        "organization": ORGANIZATION,
        "httpUrl": f"http://{engine_id}.example.com:18630",
        "version": "5.10.0",
        "labels": ["prod"],
        "reportedLabels": ["prod", "eu"],
        "pipelinesCount": 4,
        "responding": True,
        "lastReportedTime": T0,
        "idSeparator": "__",
        "executorType": "COLLECTOR",
        **fields,
    }


def pipeline_status_json(engine_id: str = "engine-1", **fields: Any) -> dict[str, Any]:
    """What an engine has reported about the pipeline of a run."""
    name = f"Orders:{JOB_ID}"
    return {"sdcId": engine_id, "name": name, "jobId": JOB_ID, "status": "RUNNING", "message": None, **fields}


def record_series_json(counts: Mapping[Any, tuple[int, int, int]]) -> list[dict[str, Any]]:
    """Return the time series of record counts: input, output and error counts by time."""
    names = ("InputRecords", "OutputRecords", "ErrorRecords")
    return [
        {
            "series": [
                {
                    "name": f"pipeline_batch{name}_meter",
                    "columns": ["time", "count"],
                    "values": [[time, float(values[position])] for time, values in counts.items()],
                    "tags": None,
                }
            ],
            "error": None,
        }
        for position, name in enumerate(names)
    ]


def registry_json(records: int = 100, *, batches: int = 5, idle: int = 2, errors: int = 3) -> dict[str, Any]:
    """A ``MetricRegistryJson``."""
    meters = {"batchInputRecords": records, "batchOutputRecords": records - errors, "batchErrorRecords": errors}
    return {
        "version": "5.10.0",
        "gauges": {"RuntimeStatsGauge.gauge": {"value": {"batchCount": batches, "idleBatchCount": idle}}},
        "counters": {
            "pipeline.batchCount.counter": {"count": batches},
            "stage.Trash_01.inputRecords.counter": {"count": records},
        },
        "meters": {
            f"pipeline.{name}.meter": {"count": count, "m1_rate": count / 60, "units": "events/second"}
            for name, count in meters.items()
        },
        "histograms": {},
        "timers": {},
        "slaves": None,
    }


def event_json(
    run_count: int, seconds: float, status: str, message: str = "", user: str | None = None
) -> dict[str, Any]:
    """A run event so many seconds after the start of its run."""
    return {
        "user": user,
        "time": T0 + (run_count - 1) * HOUR + int(seconds * 1000),
        "message": message or f"Job is {status}",
        "status": status,
        "jobStatusId": run_id(run_count),
    }


def finished_events(run_count: int = 1) -> list[dict[str, Any]]:
    """What happens to a run that finishes by itself; not in time order, as Control Hub sends it."""
    return [
        event_json(run_count, 60, "INACTIVE", "Job finished"),
        event_json(run_count, 0, "ACTIVATING", "Job started", ME),
        event_json(run_count, 58, "DEACTIVATING", "Pipeline is in status 'FINISHED'"),
        event_json(run_count, 3, "ACTIVE", "Pipeline is in status 'RUNNING'"),
    ]


def counts_json(run_count: int | None = None, *, saved: int = T0 + 24 * HOUR, **fields: Any) -> dict[str, Any]:
    """Record counts of one run; the newest entry does not name its run."""
    entry = {
        "jobId": JOB_ID,
        "sdcId": "engine-1",
        "inputCount": 100,
        "outputCount": 90,
        "errorCount": 7,
        "stageErrorsCount": 3,
        "inputM1Rate": 1.5,
        "lastUpdatedOn": saved,
        **fields,
    }
    return entry if run_count is None else {**entry, "runCount": run_count}


def page_json(*entries: Any, total: int | None = None) -> dict[str, Any]:
    """A ``PaginationWrapperJson``."""
    return {"totalCount": len(entries) if total is None else total, "offset": 0, "len": 250, "data": list(entries)}


def issues_json(*issues: tuple[str | None, str]) -> dict[str, Any]:
    """The error envelope."""
    return {"ISSUES": [{"code": code, "message": message} for code, message in issues]}


def events_url(run_count: int = 1) -> str:
    return f"{JR}/job/{run_id(run_count)}/jobStatusHistory"


def query(request: Any) -> dict[str, str]:
    """The query of a recorded request, letter case kept."""
    return {key: values[-1] for key, values in parse_qs(urlsplit(request.url).query, keep_blank_values=True).items()}


def paths(http: Any) -> list[str]:
    """Method and path of the requests so far, without what they have in common."""
    return [f"{r.method} {urlsplit(r.url).path.replace('%3A', ':')}" for r in http.request_history]


def methods(http: Any) -> list[str]:
    """Methods of the requests so far."""
    return [request.method for request in http.request_history]


def payload(name: str) -> Any:
    """An example body from the folder beside the repository; the test is skipped where that is absent."""
    folder = Path(__file__).resolve().parents[4] / "shared" / "payloads"
    if not folder.is_dir():
        pytest.skip("the folder of example payloads is not present beside the repository")
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


class VirtualClock:
    """A clock that only sleeping moves, and that remembers each sleep."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        assert len(self.slept) < 5000, "this wait has no end"
        self.slept.append(seconds)
        self.time += seconds


# How an exchange can fail.
RESET = requests.exceptions.ConnectionError(ProtocolError("Connection aborted.", ConnectionResetError(104, "reset")))
READ_TIMEOUT = requests.exceptions.ReadTimeout("Read timed out. (read timeout=60)")
CONNECT_TIMEOUT = requests.exceptions.ConnectTimeout("timed out")
REFUSED = requests.exceptions.ConnectionError(
    MaxRetryError(None, "/", NewConnectionError(None, "Failed to establish a new connection: [Errno 111] refused"))
)

UNKNOWN: dict[str, Any] = {"status_code": 404, "json": issues_json(("JOBRUNNER_1", "no such object"))}
"""Control Hub's own word that there is no such object."""
FORBIDDEN: dict[str, Any] = {"status_code": 403, "json": issues_json(("JOBRUNNER_2", "not allowed"))}
"""Control Hub's own word that something is not permitted."""
GATEWAY_PAGE: dict[str, Any] = {
    "status_code": 404,
    "text": "<html><body>default backend - 404</body></html>",
    "headers": {"Content-Type": "text/html"},
}
"""The answer of an ingress that has no Control Hub behind it."""
FAILURES: dict[str, dict[str, Any]] = {
    "connection reset": {"exc": RESET},
    "read time-out": {"exc": READ_TIMEOUT},
    "connect time-out": {"exc": CONNECT_TIMEOUT},
    "connection refused": {"exc": REFUSED},
    "answer cut off": {"exc": requests.exceptions.ChunkedEncodingError("cut off")},
    "429": {"status_code": 429},
    "500": {"status_code": 500},
    "502": {"status_code": 502},
    "503": {"status_code": 503, "json": issues_json(("A_1", "restarting"))},
    "504": {"status_code": 504},
}

# Ends of a request after which it may have been executed, and after which it has not.
AMBIGUOUS_OUTCOMES = {
    **{name: FAILURES[name] for name in ("connection reset", "read time-out", "answer cut off")},
    **{name: FAILURES[name] for name in ("500", "502", "503", "504")},
    "200 with HTML": {"text": "<html>proxy</html>"},
}
UNDELIVERED = {name: FAILURES[name] for name in ("connect time-out", "connection refused", "429")}
REJECTIONS: dict[str, dict[str, Any]] = {
    str(status): {"status_code": status, "json": issues_json(("JOBRUNNER_7", "that is not allowed"))}
    for status in (400, 401, 403, 404, 409)
}
