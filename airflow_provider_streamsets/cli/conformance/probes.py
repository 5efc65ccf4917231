"""Probes that only read. Each answers one unknown of contract section 18 from what the Control Hub has."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import re
import statistics
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_streamsets.cli.conformance.hub import (
    Hub,
    Json,
    NotAnswered,
    Reply,
    Survey,
    describe,
    first,
    rows,
    state_of,
    status_name,
)
from airflow_provider_streamsets.control_hub.services import Service, quote_id

# A run that failed at its start is red for a moment before it ends.
_STAYS_RED_MS = 60_000
_DAY_MS = 86_400_000
_NUMBERED = re.compile(r"(.+) - (\d{1,9})")
_COUNTS = ("inputCount", "outputCount", "errorCount", "stageErrorsCount")
_ENDED = ("INACTIVE", "INACTIVE_ERROR", "ACTIVATION_ERROR")

UNEXPECTED = (AttributeError, LookupError, TypeError, ValueError)
"""Errors of reading a response that has another form than expected, such as a list for an object."""


def unexpected_form(error: Exception) -> str:
    """Return the reason for one of :data:`UNEXPECTED`, whose text could contain names."""
    return f"a response has another form than expected ({type(error).__name__})"


@dataclass
class Answer:
    """
    What a probe found.

    :param facts: what was observed, without names, ids and secrets
    :param matches: by variant, the values that agree with the observation; empty if none does. Variants that the probe
        could not observe are missing
    """

    facts: Json = field(default_factory=dict)
    matches: dict[str, tuple[str | float, ...]] = field(default_factory=dict)

    def match(self, variant: str, values: Iterable[str | float | None]) -> None:
        """
        Set the values that agree with the observations.

        :param variant: name of the variant
        :param values: a value per observation; None for an observation that agrees with no value
        """
        found = list(values)
        if found:
            self.matches[variant] = () if None in found else tuple(dict.fromkeys(v for v in found if v is not None))


def unknown_id(survey: Survey) -> str:
    """Return an id that no job has."""
    return f"{uuid.uuid4()}:{survey.organization}"


def shape(reply: Reply, *shapes: str) -> str | None:
    """Return which of ``empty``, ``null``, ``object`` and ``list`` the body of a successful response is."""
    if not reply.ok:
        return None
    found = {"": "empty", "null": "null"}.get(reply.text.strip())
    if found is None and isinstance(reply.value, (dict, list)):
        found = "object" if isinstance(reply.value, dict) else "list"
    return found if found in shapes else None


def decision(reply: Reply, if_ok: str | None, if_refused: str, what: str) -> str | None:
    """
    Return one of two values, depending on whether Control Hub accepted or refused a request.

    :param what: what was requested, for the reason
    :raises NotAnswered: if the credential lacks a permission, or the error is not one of Control Hub's
    """
    if not reply.ok and (reply.status in (401, 403) or reply.issues is None):
        reply.require(what)
    return if_ok if reply.ok else if_refused


def unknown_job(survey: Survey) -> Answer:
    """Read a job that does not exist."""
    path = f"/v1/job/{quote_id(unknown_id(survey))}"
    replies = {"job": survey.hub.read(path), "current status": survey.hub.read(f"{path}/currentStatus")}

    def value(reply: Reply) -> str | None:
        if reply.ok:
            return shape(reply, "empty")
        if reply.status == 404 and not any(code.startswith("JOBRUNNER_") for code in reply.codes):
            return None if reply.issues is None else "foreign_code"
        return str(reply.status) if reply.status in (400, 403, 404, 500) else None

    answer = Answer({name: reply.facts() for name, reply in replies.items()})
    answer.match("unknown_job", map(value, replies.values()))
    return answer


def never_run_status(survey: Survey) -> Answer:
    """Read the status of a job that has never run."""
    reply = survey.hub.read(f"/v1/job/{quote_id(survey.never_run['id'])}/currentStatus")
    answer = Answer({"current status": reply.facts()})
    answer.match("never_run_status", [shape(reply, "empty", "null", "object")])
    return answer


def bulk_missing(survey: Survey) -> Answer:
    """Read the statuses of a job that does not exist and, if there is one, of a job that has never run."""
    ids = {"unknown job": unknown_id(survey)}
    with contextlib.suppress(NotAnswered):
        ids["job that has never run"] = survey.never_run["id"]
    reply = survey.hub.read("/v1/jobs/status", body=list(ids.values())).require("a bulk read of statuses")
    statuses = reply.object
    values = ["omit" if id_ not in statuses else "null" if statuses[id_] is None else None for id_ in ids.values()]
    answer = Answer(
        {what: describe(statuses[id_]) if id_ in statuses else "omitted" for what, id_ in ids.items()}
        | {"body": describe({}) if not statuses else "object by job id"}
    )
    answer.match("bulk_missing", values)
    return answer


def _has_acknowledged_error(survey: Survey, run: Json) -> bool:
    return any(event.get("status") == "INACTIVE_ERROR" for event in survey.events(run))


def color_after_acknowledge(survey: Survey) -> Answer:
    """Find runs whose error was acknowledged, and their color."""
    suspects = [run for _, run in survey.all_runs if run.get("status") == "INACTIVE" and run.get("errorMessage")]
    colors = [run.get("color") for run in suspects[:6] if _has_acknowledged_error(survey, run)]
    if not colors:
        raise NotAnswered("no run with an acknowledged error is visible")
    answer = Answer({"acknowledged runs": sorted(map(status_name, colors))})
    answer.match("color_after_acknowledge", [color if color in ("GRAY", "RED") else None for color in colors])
    return answer


def _red_since_start(run: Json) -> int:
    """Return how long engines have been reporting a failed start, in milliseconds."""
    reports = [pipeline for pipeline in run.get("pipelineStatus") or () if pipeline.get("status") == "START_ERROR"]
    return max((int(report.get("lastReportedTime") or 0) for report in reports), default=0) - int(run["startTime"])


def start_failure(survey: Survey) -> Answer:
    """Find runs that failed at their start."""
    found = []
    for _, run in survey.all_runs:
        if run.get("status") == "ACTIVATION_ERROR":
            found.append((run, "activation_error"))
        elif run.get("status") in _ENDED and "START_ERROR" in (run.get("errorMessage") or ""):
            found.append((run, "inactive"))
        elif state_of(run) == "ACTIVE/RED" and _red_since_start(run) > _STAYS_RED_MS:
            found.append((run, "stays_red"))
    if not found:
        raise NotAnswered("no run that failed at its start is visible")
    answer = Answer({"failed starts": sorted({state_of(run) for run, _ in found}), "runs": len(found)})
    answer.match("start_failure", [value for _, value in found])
    return answer


def runs_order(survey: Survey) -> Answer:
    """Read lists of runs in the order of Control Hub."""
    orders = []
    for job in survey.with_runs:
        counts = [int(run["runCount"]) for run in rows(survey.run_list(job), "the search for runs")]
        if len(counts) > 1:
            is_sorted = counts == sorted(counts), counts == sorted(counts, reverse=True)
            orders.append({(True, False): "asc", (False, True): "desc"}.get(is_sorted))
    if not orders:
        raise NotAnswered("no job with two runs is visible")
    answer = Answer({"lists": len(orders), "orders": sorted({order or "unsorted" for order in orders})})
    answer.match("runs_order", orders)
    return answer


def saql_len_zero(survey: Survey) -> Answer:
    """Search with length 0 for the runs of a job that has some."""
    job = first((job for job in survey.with_runs if survey.runs(job)), "job that has run")
    reply = survey.run_list(job, len=0)
    found = rows(reply, "a search with length 0")
    known = len(survey.runs(job))
    answer = Answer({"search": reply.facts(), "runs": len(found), "runs that the job has": known})
    answer.match("saql_len_zero", ["all" if len(found) >= known else "none" if not found else None])
    return answer


def filter_text(survey: Survey) -> Answer:
    """Filter the jobs by the name of a job, and by its beginning."""
    job = first((job for job in survey.jobs if len(job.get("name") or "") > 3), "job with a long name")

    def finds(text: str) -> bool:
        return any(found["id"] == job["id"] for found in survey.list_jobs(filterText=text, jobTemplate=False))

    part, whole = finds(job["name"][:-1].rstrip()), finds(job["name"])
    answer = Answer({"found by its name": whole, "found by the beginning of its name": part})
    answer.match("filter_text", ["substring" if part and whole else "exact" if whole else None])
    return answer


def job_template_omitted(survey: Survey) -> Answer:
    """List the jobs with the name of a template without saying whether templates are wanted."""
    template = first(survey.templates, "job template")

    def finds(**params: Any) -> bool:
        named = {"jobSearchOperation": "EQUALS", "jobSearchText": template["name"], **params}
        return any(found["id"] == template["id"] for found in survey.list_jobs(**named))

    asked, omitted = finds(jobTemplate=True), finds()
    answer = Answer({"found with jobTemplate=true": asked, "found without jobTemplate": omitted})
    answer.match("job_template_omitted", ["all" if omitted else "instances" if asked else None])
    return answer


def counter(survey: Survey) -> Answer:
    """Compare the numbers in the names of instances that several starts of a template created."""
    values = []
    for template in survey.templates[:5]:
        path = f"/v1/job/{quote_id(template['id'])}/runHistory"
        starts = rows(survey.hub.read(path, offset=0, len=20, withTotalCount=True), "the run history of a template")
        ids = [id_ for start in starts for id_ in start.get("jobInstanceIds") or ()][:250]
        jobs = rows(survey.hub.read("/v1/jobs", body=ids), "the instances of a template") if ids else []
        numbered = {job["id"]: match for job in jobs if (match := _NUMBERED.fullmatch(job.get("name") or ""))}
        highest: dict[str, int] = {}
        for start in sorted(starts, key=lambda start: start.get("time") or 0):
            if "COUNTER" not in (start.get("configuration") or ""):
                continue
            names = [numbered[id_].groups() for id_ in start.get("jobInstanceIds") or () if id_ in numbered]
            for name, number in sorted(names, key=lambda name: int(name[1]))[:1]:
                if name in highest and (int(number) == 1 or int(number) > highest[name]):
                    values.append("restart" if int(number) == 1 else "continue")
            highest |= {name: max(int(number), highest.get(name, 0)) for name, number in names}
    if not values:
        raise NotAnswered("no template with the instances of two starts is visible")
    answer = Answer({"starts after another": len(values)})
    answer.match("counter", values)
    return answer


def latest_committed_offsets(survey: Survey) -> Answer:
    """Read the latest committed offsets of a job that has some."""
    for job in survey.with_runs[:5]:
        reply = survey.hub.read(f"/v1/job/{quote_id(job['id'])}/latestCommittedOffsets").require_permission("offsets")
        if not reply.ok or reply.value:
            return Answer({"offsets": reply.facts()})
    raise NotAnswered("no job with a committed offset is visible")


def _are_zeros(entry: Json) -> bool:
    return not any(entry.get(name) for name in _COUNTS)


def counts_of_latest(survey: Survey, job: Json, runs: list[Json]) -> tuple[Json, list[str | None]]:
    """Return facts and values for the record counts of a job whose latest run has saved no metrics."""
    counts, latest = survey.record_counts(job), runs[0]
    numbered = [entry for entry in counts.values() if entry.get("runCount") == latest["runCount"]]
    entry = counts.get(0) if "runCount" not in counts.get(0, {"runCount": 0}) else next(iter(numbered), None)
    if entry is None:
        return {"entry": "absent"}, ["absent"]
    if (entry.get("lastUpdatedOn") or 0) < latest["startTime"]:
        return {"entry": "of an earlier run"}, ["previous"]
    return ({"entry": "zeros"}, ["zeros"]) if _are_zeros(entry) else ({"entry": "counts"}, [])


def record_counts(survey: Survey) -> Answer:
    """Compare the record counts of all runs of jobs with their runs."""
    answer = Answer()
    layouts: set[str] = set()
    key_0: list[str | None] = []
    latest: list[str | None] = []
    earlier: list[str | None] = []
    without_metrics = {"latest": 0, "earlier": 0}
    # Each run can take a request.
    for job in survey.with_runs[:6]:
        runs, counts = survey.runs(job)[:6], survey.record_counts(job)
        if not counts or not runs:
            continue
        layouts |= {
            f"{'key 0' if key == 0 else 'other key'}: {'with' if 'runCount' in entry else 'without'} runCount"
            for key, entry in counts.items()
        }
        if 0 in counts and "runCount" not in counts[0]:
            key_0.append("latest")
        elif any(entry.get("runCount") == runs[0]["runCount"] for entry in counts.values()):
            key_0.append("missing")
        if not survey.has_metrics(job, runs[0]) and len(runs) > 1:
            without_metrics["latest"] += 1
            latest += counts_of_latest(survey, job, runs)[1]
        for run in runs[1:]:
            if not survey.has_metrics(job, run):
                without_metrics["earlier"] += 1
                earlier += _counts_of_earlier(counts, run, runs[0])
                break
    if "absent" in latest and "latest" not in key_0:
        # With every entry numbered, that of the previous run does not stand out.
        latest.append("previous")
    if not layouts:
        raise NotAnswered("no job with record counts is visible")
    answer.facts = {
        "entries": sorted(layouts),
        "latest runs without metrics": without_metrics["latest"],
        "earlier runs without metrics": without_metrics["earlier"],
    }
    answer.match("counts_key_0", key_0)
    answer.match("counts_of_latest", latest)
    answer.match("counts_of_earlier", earlier)
    return answer


def _counts_of_earlier(counts: dict[int, Json], run: Json, latest: Json) -> list[str | None]:
    entries = {int(entry.get("runCount") or latest["runCount"]): key for key, entry in counts.items()}
    if run["runCount"] in entries:
        return ["zeros"]
    older = max((count for count in entries if count < run["runCount"]), default=None)
    newer = min((count for count in entries if count > run["runCount"]), default=None)
    if older is None or newer is None:
        return ["omit", "gap"]
    distance = entries[older] - entries[newer]
    return ["gap" if distance == newer - older else "omit" if distance == 1 else None]


def retention(survey: Survey) -> Answer:
    """Compare the number of visible runs with the number of the latest one."""
    missing, oldest = 0, 0.0
    for job in survey.with_runs:
        runs = survey.runs(job)
        total = survey.run_list(job).object.get("totalCount")
        if runs and isinstance(total, int):
            missing += total < runs[0]["runCount"]
            oldest = max(oldest, (runs[0]["startTime"] - runs[-1]["startTime"]) / _DAY_MS)
    return Answer(
        {
            "jobs": len(survey.with_runs),
            "jobs with missing runs": missing,
            "days between first and last run": round(oldest),
        }
    )


def tunnel_disconnected(survey: Survey) -> Answer:
    """Read the connection to an engine that does not respond."""
    engines = rows(survey.hub.read("/v1/sdcs", executorType="COLLECTOR", offset=0, len=250), "the list of engines")
    engine = first((engine for engine in engines if engine.get("responding") is False), "engine that does not respond")
    reply = survey.hub.read(f"/connection/{quote_id(engine['id'])}", service=Service.TUNNELING)
    without_id = "no_instance" if isinstance(reply.value, dict) and not reply.value.get("instanceId") else None
    value = decision(reply, "empty" if reply.is_empty else without_id, "error", "the tunnel to an engine")
    answer = Answer({"connection": reply.facts()})
    answer.match("tunnel_disconnected", [value])
    return answer


def deleted_instances(survey: Survey) -> Answer:
    """Read an instance that Control Hub deleted after its completion."""
    deleted = survey.list_jobs(removed=True)
    job = first((job for job in deleted if job.get("deleteAfterCompletion")), "instance deleted after its completion")
    reply = survey.hub.read(f"/v1/job/{quote_id(job['id'])}")
    answer = Answer({"job": reply.facts(), "jobDeleted": reply.object.get("jobDeleted") is True})
    answer.match(
        "deleted_instances", [decision(reply, "readable" if reply.object else "gone", "gone", "a deleted job")]
    )
    return answer


def event_users(survey: Survey) -> Answer:
    """Read the events of runs that finished, failed and were stopped."""
    by_end: dict[str, list[list[Json]]] = {}
    has_automatic, has_none = False, False
    for _, run in survey.all_runs:
        ends = by_end.setdefault(f"{state_of(run)}{', with error' if run.get('errorMessage') else ''}", [])
        if run.get("status") not in _ENDED or len(ends) == 3:
            continue
        events = survey.events(run)
        ends.append(events)
        has_none = has_none or any(event.get("user") is None for event in events)
        # No user stops a run that fails, so its end is automatic.
        failed = run.get("errorMessage") and len(events) > 1
        has_automatic = has_automatic or bool(failed and all(event.get("user") for event in events))
    answer = Answer(
        {"runs": {end: sorted({describe_events(e) for e in events}) for end, events in by_end.items() if events}}
    )
    if not answer.facts["runs"]:
        raise NotAnswered("no run that has ended is visible")
    answer.match("event_users", ["person"] * has_none + ["starter_on_all"] * has_automatic)
    return answer


def describe_events(events: list[Json]) -> str:
    """Return the statuses of run events, and which of them a user caused."""
    shown = [f"{status_name(event.get('status'))}{' by a user' if event.get('user') else ''}" for event in events]
    return ", ".join(shown) or "no events"


def engine_clock(survey: Survey) -> Answer:
    """Compare the times of events with the start of their run."""
    differences = []
    for _, run in survey.all_runs[:6]:
        times = [event["time"] for event in survey.events(run) if event.get("time")]
        differences += [(min(times) - run["startTime"]) / 1000] if times else []
    if not differences:
        raise NotAnswered("no run with events is visible")
    behind = [-difference for difference in differences if difference < 0]
    return Answer({"runs": len(differences), "runs with events before their start": len(behind),
                   "seconds before the start, at most": round(max(behind, default=0.0), 1)})  # fmt: skip


def counts_on_status(survey: Survey) -> Answer:
    """Find runs that have record counts in the time series, and compare their status."""
    values = []
    for job in survey.with_runs[:10]:
        runs = {run["runCount"]: run for run in survey.runs(job) if run.get("status") in _ENDED}
        for entry in survey.record_counts(job).values():
            run = runs.get(entry.get("runCount"), {})
            if run and not _are_zeros(entry):
                values.append("saved" if run.get("lastReportedMetricTime") else "never")
    if not values:
        raise NotAnswered("no ended run with record counts is visible")
    answer = Answer({"runs with counts": len(values), "in their status": values.count("saved")})
    answer.match("counts_on_status", values)
    return answer


def no_metrics(survey: Survey) -> Answer:
    """Read the metrics of a run that does not exist."""
    job = survey.with_runs[0]
    reply = survey.registry(job, job["currentJobStatus"]["runCount"] + 1000)
    is_empty = reply.is_empty or not (reply.object.get("counters") or reply.object.get("meters"))
    answer = Answer({"metrics": reply.facts()})
    answer.match("no_metrics", [decision(reply, "empty" if is_empty else None, "404", "metrics of an unknown run")])
    return answer


def jobs_by_ids(survey: Survey) -> Answer:
    """Read two jobs in both orders, with an unknown one between them."""
    if len(survey.jobs) < 2:
        raise NotAnswered("fewer than two jobs are visible")
    ids, unknown = [job["id"] for job in survey.jobs[:2]], unknown_id(survey)
    orders = []
    for order in (ids, ids[::-1]):
        reply = survey.hub.read("/v1/jobs", body=[order[0], unknown, order[1]]).require("jobs by their ids")
        orders.append([job["id"] for job in rows(reply, "jobs by their ids")])
    answer = Answer({"entries": len(reply.value) if isinstance(reply.value, list) else describe(reply.value),
                     "requested": "two jobs and an unknown one"})  # fmt: skip
    found = "asked" if orders == [ids, ids[::-1]] else "stored" if orders[0] == orders[1] else None
    answer.match("jobs_by_ids", [found])
    return answer


def engine_unknown(survey: Survey) -> Answer:
    """Read an engine that does not exist."""
    reply = survey.hub.read(f"/v1/sdc/{uuid.uuid4()}")
    answer = Answer({"engine": reply.facts()})
    answer.match("engine_unknown", [decision(reply, shape(reply, "empty"), "404", "an unknown engine")])
    return answer


def log_messages(survey: Survey) -> Answer:
    """Read the log messages of jobs that have run."""
    replies = [
        survey.hub.read("/v1/job/logMessages", jobId=job["id"], offset=0, len=10) for job in survey.with_runs[:3]
    ]
    lists = [rows(reply, "log messages") for reply in replies]
    answer = Answer({"jobs": len(lists), "jobs with messages": sum(map(bool, lists)), "messages": replies[0].facts()})
    answer.match("log_messages", ["events" if any(lists) else "empty"])
    return answer


def saql_quotes(survey: Survey) -> Answer:
    """Search for names that contain a quotation mark."""
    searches = {"escaped with a backslash": r'name=="a\"b"', "inside the other kind": """name=='a"b'"""}
    return Answer(
        {
            what: survey.hub.read("/v1/saql/jobs/search", search=search, offset=0, len=1).facts()
            for what, search in searches.items()
        }
    )


def metrics_lag(survey: Survey) -> Answer:
    """Measure the time between the end of the pipelines and the last save of metrics, for runs that finished."""
    lags = []
    finished = [
        run for _, run in survey.all_runs if run.get("lastReportedMetricTime") and state_of(run) == "INACTIVE/GRAY"
    ]
    for run in finished[:10]:
        ends = [event["time"] for event in survey.events(run) if event.get("status") == "DEACTIVATING"]
        if ends:
            lags.append((run["lastReportedMetricTime"] - max(ends)) / 1000)
    if not lags:
        raise NotAnswered("no finished run with metrics and events is visible")
    after = [lag for lag in lags if lag >= 0]
    answer = Answer({"runs": len(lags), "saved after the end": len(after)})
    if after:
        answer.facts["seconds"] = {"least": round(min(after), 1), "most": round(max(after), 1)}
        answer.match("metrics_lag", [round(statistics.median(after), 1)])
    return answer


_SERIES = re.compile(r"pipeline_batch[A-Za-z]{1,20}_(?:meter|counter)")


def time_series(survey: Survey) -> Answer:
    """Read the record counts over time of a job that has time series."""
    job = first((job for job in survey.with_runs if job.get("timeSeries")), "job with time series")
    status = job["currentJobStatus"]
    path = f"/v1/metrics/job/{quote_id(job['id'])}/recordCount"
    end = max(status.get("finishTime") or 0, status["startTime"]) + _DAY_MS
    window = {"startTime": status["startTime"], "endTime": end, "limit": 100}
    reply = survey.hub.read(path, service=Service.TIMESERIES, **window)
    series = [one for result in rows(reply, "the time series") for one in result.get("series") or ()]
    names = [str(one.get("name")) for one in series]
    times = {type(values[0]).__name__ for one in series for values in one.get("values") or ()}
    return Answer(
        {
            "response": reply.facts(),
            "series": [name if _SERIES.fullmatch(name) else "another name" for name in names],
            "columns": sorted({describe(dict.fromkeys(one.get("columns") or ())) for one in series}),
            "types of times": sorted(times),
        }
    )


def wrong_credential(survey: Survey) -> Answer:
    """Send a request with an invented credential, so that no real one can be locked."""
    invented = str(uuid.uuid4())
    payload = {"s": uuid.uuid4().hex, "v": 1, "jti": invented, "o": survey.organization}
    token = f"e30.{base64.b64encode(json.dumps(payload).encode()).decode()}."
    with survey.hub.client.with_credential(invented, token) as client:
        hub = Hub(client)
        return Answer({"current user": hub.send("GET", "/v1/currentUser", service=Service.SECURITY).facts()})


def api_documents(survey: Survey) -> Answer:
    """Read the published API documents."""
    facts: Json = {}
    services = {"jobs": Service.JOBRUNNER, "pipelines": Service.PIPELINES, "security": Service.SECURITY}
    for (name, service), document in itertools.product(services.items(), ("openapi.json", "swagger.json")):
        reply = survey.hub.read(f"/{document}", service=service)
        facts[f"{name} {document}"] = reply.facts()
        if service is Service.JOBRUNNER and reply.object:
            paths = reply.object.get("paths")
            facts[f"{name} {document}"]["paths"] = len(paths) if isinstance(paths, dict) else 0
    return Answer(facts)
