"""
The operations of the guide "Job Instances", run with one version of the official StreamSets SDK against a sandbox.

A program for the environment of that version: it imports only the SDK, its requirements and the standard library. It
prints one JSON object per operation: ``name``, ``outcome`` and ``detail``, which is a traceback or the result.
"""

from __future__ import annotations

import inspect
import io
import json
import os
import sys
import traceback
import uuid
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

OK, ABSENT, FAILED = "ok", "not in this SDK", "failed"

OFFSET = "$com.streamsets.datacollector.pollsource.offset$"

# Pipelines of the seed: one of 100 records, one that runs until it is stopped, one with three versions.
BATCH, STREAM, VERSIONED = "Quick check", "Truck positions", "Orders to warehouse"


@dataclass(frozen=True)
class Operation:
    """
    An operation of the guide.

    :param name: its name.
    :param run: runs it and verifies the result. The return value is reported and must be serializable as JSON.
    :param since: the first of the tested versions that has it.
    :param requires: what these versions have and earlier ones lack, as an attribute below ``streamsets.sdk``. A name in
        parentheses is a parameter.
    """

    name: str
    run: Callable[[Hub], Any]
    since: str
    requires: str | None

    def is_in(self, version: str) -> bool:
        """Return whether a version of the SDK has the operation, according to the table."""
        return parse_version(version) >= parse_version(self.since)


OPERATIONS: dict[str, Operation] = {}


def parse_version(text: str) -> tuple[int, ...]:
    """Return the parts of a version, which compare in order. Trailing zeros do not count: 6.3 is 6.3.0."""
    parts = [int(part) for part in text.split(".")]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def operation(
    name: str, *, since: str = "0", requires: str | None = None
) -> Callable[[Callable[[Hub], Any]], Callable[[Hub], Any]]:
    """Register an operation; for the parameters see :class:`Operation`."""

    def register(run: Callable[[Hub], Any]) -> Callable[[Hub], Any]:
        OPERATIONS[name] = Operation(name, run, since, requires)
        return run

    return register


class Hub:
    """
    A client of the SDK, and the clock and the variants of its sandbox.

    :param url: base URL of the sandbox.
    :param login_url: base URL of its login service.
    :param credential_id: credential id.
    :param token: auth token.
    """

    def __init__(self, url: str, login_url: str, credential_id: str, token: str) -> None:
        import requests
        import streamsets.sdk

        self.version: str = streamsets.sdk.__version__
        self.url, self.login_url = url, login_url
        self._credential = {"credential_id": credential_id, "token": token}
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.update(
            {"X-SS-App-Component-Id": credential_id, "X-SS-App-Auth-Token": token, "X-Requested-By": "tests"}
        )
        self.client = self.log_in()

    def log_in(self) -> Any:
        """Return a new client."""
        from streamsets.sdk import ControlHub

        return ControlHub(**self._credential, aster_url=self.login_url)

    def is_at_least(self, version: str) -> bool:
        """Return whether the SDK has at least a version."""
        return parse_version(self.version) >= parse_version(version)

    def fetch(self, path: str) -> Any:
        """Return the JSON document at a path of the sandbox."""
        response = self._session.get(self.url + path, timeout=30)
        response.raise_for_status()
        return response.json()

    def _control(self, path: str, body: Any = None) -> None:
        self._session.post(f"{self.url}/sandbox/v1/{path}", json=body, timeout=30).raise_for_status()

    def reset(self) -> None:
        """Reset the sandbox to its initial state."""
        self._control("reset")

    def advance(self, seconds: float) -> None:
        """Advance the clock of the sandbox."""
        self._control("clock", {"advance": seconds})

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the clock of the sandbox."""
        self._control("clock", {"freeze": True})
        try:
            yield
        finally:
            self._control("clock", {"freeze": False})

    def set_variants(self, **variants: str) -> None:
        """Change variants of the sandbox."""
        self._control("variants", variants)

    def add_job(self, pipeline: str = BATCH, *, version: str | None = None, **settings: Any) -> Any:
        """Create a job with a unique name and return it as the hub has it."""
        found = self.client.pipelines.get(name=pipeline)
        commit = found.commits.get(version=version) if version else None
        name = unique("Guide")
        job = self.client.get_job_builder().build(name, pipeline=found, pipeline_commit=commit, **settings)
        self.client.add_job(job)
        return self.client.jobs.get(job_name=name)

    def run_to_end(self, job: Any) -> None:
        """Start a job and let the clock pass the end of its run."""
        self.client.start_job(job, wait=False)
        self.advance(60)
        self.client.wait_for_job_status(job, "INACTIVE", timeout_sec=20)
        job.refresh()

    def full_tag(self, tag: str) -> str:
        """Return a tag as ``jobs.get_all`` of this SDK expects it: version 4 does not append the organization."""
        return tag if self.is_at_least("5") else f"{tag}:{self.client.organization}"


def unique(name: str) -> str:
    """Return a unique name."""
    return f"{name} {uuid.uuid4().hex[:8]}"


def job_id(job: Any) -> str:
    """Return the id of a job, whose attribute has different names in the SDKs."""
    return str(job._data["id"])


def ids(jobs: Any) -> set[str]:
    """Return the ids of jobs."""
    return {job_id(job) for job in jobs}


def position(offsets: Any) -> str | None:
    """Return the position in a list of one offset."""
    (entry,) = offsets
    value = json.loads(entry.offset)["offsets"][OFFSET]
    assert value is None or isinstance(value, str)
    return value


def same(actual: Any, expected: Any) -> None:
    """Verify that a value is as expected. Without pytest, a plain assertion would not report the value."""
    if actual != expected:
        raise AssertionError(f"expected {expected!r}, got {actual!r}")


def holds(condition: Any, what: str) -> None:
    """Verify a condition."""
    if not condition:
        raise AssertionError(what)


@operation("connect")
def connect(hub: Hub) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client = hub.log_in()
    same(client.server_url, hub.url)
    holds(client.organization, "no organization")
    holds(client.version, "no version")
    same([str(entry.message) for entry in caught if "failed to initialize" in str(entry.message)], [])
    read = {entry["path"] for entry in hub.fetch("/sandbox/v1/requests")["requests"]}
    documents = {"openapi.json" if hub.is_at_least("7") else "swagger.json"}
    same({path.rpartition("/")[2] for path in read if path.endswith(("openapi.json", "swagger.json"))}, documents)


@operation("create a job")
def create(hub: Hub) -> None:
    job = hub.add_job(runtime_parameters={"RECORDS": "7"}, tags=["a/b"])
    same(job.status, None)
    same(job.pipeline_name, BATCH)
    same(job.runtime_parameters["RECORDS"], "7")
    same([tag.tag for tag in job.tags], ["a/b"])
    hub.run_to_end(job)
    same(job.metrics[0].input_count, 7)


@operation("create with a pipeline version")
def create_with_version(hub: Hub) -> None:
    job = hub.add_job(VERSIONED, version="1")
    same((job.commit_label, job.commit.version), ("v1", "1"))


@operation("retrieve all")
def retrieve_all(hub: Hub) -> None:
    # Version 4 cannot exclude templates, which the count does not include.
    jobs = [job for job in hub.client.jobs if not job.job_template]
    same(len(jobs), len(ids(jobs)))
    same(len(hub.client.jobs), len(jobs))


@operation("retrieve by id")
def retrieve_by_id(hub: Hub) -> None:
    job = hub.add_job()
    same(hub.client.jobs.get(id=job_id(job)).job_name, job.job_name)


def _error_of_unknown_id(hub: Hub, variant: str) -> dict[str, Any]:
    hub.set_variants(unknown_job=variant)
    try:
        job = hub.client.jobs.get(id=f"{uuid.uuid4()}:{hub.client.organization}")
    except Exception as error:  # noqa: BLE001 - the SDKs raise different errors, which are reported
        return {"types": [kind.__name__ for kind in type(error).__mro__], "message": str(error)}
    raise AssertionError(f"no error, but {job!r}")


@operation("unknown id, empty body")
def retrieve_unknown_empty(hub: Hub) -> dict[str, Any]:
    return _error_of_unknown_id(hub, "empty")


@operation("unknown id, other code")
def retrieve_unknown_other_code(hub: Hub) -> dict[str, Any]:
    return _error_of_unknown_id(hub, "foreign_code")


@operation("unknown id, JOBRUNNER code")
def retrieve_unknown_own_code(hub: Hub) -> dict[str, Any]:
    return _error_of_unknown_id(hub, "404")


@operation("retrieve by name")
def retrieve_by_name(hub: Hub) -> None:
    job = hub.add_job()
    same(ids(hub.client.jobs.get_all(job_name=job.job_name)), {job_id(job)})
    holds(not hub.client.jobs.contains(job_name=unique("Unknown")), "an unknown job")


@operation("retrieve by tag")
def retrieve_by_tag(hub: Hub) -> None:
    tag = f"nightly/{uuid.uuid4().hex[:8]}"
    tagged, _ = hub.add_job(tags=[tag, "other"]), hub.add_job(tags=["other"])
    same(ids(hub.client.jobs.get_all(job_tag=hub.full_tag(tag))), {job_id(tagged)})


@operation("retrieve by status")
def retrieve_by_status(hub: Hub) -> None:
    ended, active = hub.add_job(), hub.add_job(STREAM)
    hub.run_to_end(ended)
    hub.client.start_job(active)
    found = {status: ids(hub.client.jobs.get_all(job_status=status)) for status in ("INACTIVE", "ACTIVE")}
    holds(job_id(ended) in found["INACTIVE"], "the job that ended is not among the inactive ones")
    holds(job_id(active) in found["ACTIVE"], "the active job is not among the active ones")
    holds(not found["ACTIVE"] & found["INACTIVE"], "jobs with two statuses")
    same(hub.client.jobs.count("ACTIVE"), len(found["ACTIVE"]))


@operation("retrieve by engine type")
def retrieve_by_engine_type(hub: Hub) -> None:
    same(ids(hub.client.jobs.get_all(executor_type="COLLECTOR")), ids(hub.client.jobs))
    same(list(hub.client.jobs.get_all(executor_type="TRANSFORMER")), [])


@operation("retrieve by commit label")
def retrieve_by_commit_label(hub: Hub) -> None:
    old, new = hub.add_job(VERSIONED, version="1"), hub.add_job(VERSIONED)
    found = ids(hub.client.jobs.get_all(pipeline_commit_label="v1"))
    holds(job_id(old) in found and job_id(new) not in found, "the wrong jobs")


@operation("SAQL search", since="5", requires="sch_models.Jobs._get_all_results_from_api(search)")
def search(hub: Hub) -> None:
    job = hub.add_job(tags=["nightly/orders"])
    query = f'name=="{job.job_name}" and tag=="nightly/orders"'
    same(ids(hub.client.jobs.get_all(search=query)), {job_id(job)})


@operation("saved SAQL filters", since="5", requires="sch.ControlHub.saql_saved_searches_job_instance")
def saved_filters(hub: Hub) -> None:
    for kind in ("JOB_INSTANCE", "PIPELINE"):
        saved = getattr(hub.client, f"saql_saved_searches_{kind.lower()}")
        builder = hub.client.get_saql_search_builder(saql_search_type=kind)
        builder.add_filter(property_name="name", property_operator="contains", property_value="orders")
        search = builder.build(name=unique("Orders"))
        hub.client.save_saql_search(search)
        found = saved.get(name=search.name)
        same((found.id, found.type, found.mode, found.query), (search.id, kind, "BASIC", 'name == "*orders*"'))
        same(found.favorite, False)
        hub.client.mark_saql_search_as_favorite(found)
        same(saved.get(name=search.name).favorite, True)
        found._data["name"] = unique("Renamed")
        hub.client.update_saql_search(found)
        same([entry.name for entry in saved if entry.id == search.id], [found._data["name"]])
        hub.client.remove_saql_search(found)
        same([entry.name for entry in saved if entry.id == search.id], [])


@operation("upgrade")
def upgrade(hub: Hub) -> None:
    job = hub.add_job(VERSIONED, version="1")
    (upgraded,) = hub.client.upgrade_job(job)
    same((job_id(upgraded), upgraded.commit_label), (job_id(job), "v3"))


@operation("set another pipeline version")
def update_version(hub: Hub) -> None:
    job = hub.add_job(VERSIONED, version="2")
    job.commit = hub.client.pipelines.get(name=VERSIONED).commits.get(version="1")
    same(job_id(hub.client.update_job(job)), job_id(job))
    same(hub.client.jobs.get(id=job_id(job)).commit_label, "v1")


@operation("duplicate")
def duplicate(hub: Hub) -> None:
    job = hub.add_job(runtime_parameters={"RECORDS": "5"})
    copies = hub.client.duplicate_job(job, number_of_copies=2)
    same([copy.job_name for copy in copies], [f"{job.job_name} copy1", f"{job.job_name} copy2"])
    for copy in copies:
        found = hub.client.jobs.get(job_name=copy.job_name)
        same((job_id(found), found.runtime_parameters["RECORDS"]), (job_id(copy), "5"))


@operation("export and import")
def export_and_import(hub: Hub) -> None:
    job = hub.add_job(tags=["moved"])
    archive = hub.client.export_jobs([job])
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        same(len(opened.namelist()), 1)
    hub.client.delete_job(job)
    (imported,) = hub.client.import_jobs(archive=io.BytesIO(archive))
    same(imported.job_name, job.job_name)
    found = hub.client.jobs.get(job_name=job.job_name)
    same((job_id(found), [tag.tag for tag in found.tags]), (job_id(job), ["moved"]))


@operation("read offsets")
def read_offsets(hub: Hub) -> None:
    job = hub.add_job()
    hub.run_to_end(job)
    hub.run_to_end(job)
    same(position(job.current_status.offsets), "200")
    same([position(run.offsets) for run in job.history], ["200", "100"])
    same(job.committed_offsets.offsets, {OFFSET: "200"})


@operation("read the latest committed offsets", since="6.3", requires="sch_models.Job.latest_committed_offsets")
def read_latest_committed_offsets(hub: Hub) -> None:
    job = hub.add_job()
    hub.run_to_end(job)
    (by_engine,) = job.latest_committed_offsets
    same(
        {engine: document["offsets"] for engine, document in by_engine.items()},
        {job.status.sdc_ids[0]: {OFFSET: "100"}},
    )


@operation("reset offset")
def reset_offset(hub: Hub) -> None:
    job = hub.add_job()
    hub.run_to_end(job)
    (reset,) = hub.client.reset_origin(job)
    same((job_id(reset), reset.current_status.offsets), (job_id(job), None))


@operation("upload offset")
def upload_offset(hub: Hub) -> None:
    job = hub.add_job()
    result = hub.client.upload_offset(job, offset_json={"version": 2, "offsets": {OFFSET: "5000"}})
    same(position(result.current_status.offsets), "5000")
    file = io.StringIO(json.dumps({"version": 2, "offsets": {OFFSET: "6000"}}))
    result = hub.client.upload_offset(job, offset_file=file)
    same(position(result.current_status.offsets), "6000")
    hub.run_to_end(job)
    same(position(job.current_status.offsets), "6100")


@operation("status history")
def status_history(hub: Hub) -> None:
    job = hub.add_job()
    hub.run_to_end(job)
    hub.run_to_end(job)
    same([(run.run_count, run.status) for run in job.history], [(2, "INACTIVE"), (1, "INACTIVE")])


@operation("job history, paged", since="6.6", requires="sch_models.Job.job_history")
def job_history(hub: Hub) -> None:
    job = hub.add_job()
    same(list(job.job_history), [])
    hub.run_to_end(job)
    same([run.run_count for run in job.job_history], [1])


@operation("run by start time")
def run_by_start_time(hub: Hub) -> None:
    job = hub.client.jobs.get(job_name=VERSIONED)
    failed = job.history.get(color="RED")
    same(job.history.get(start_time=failed.start_time).run_count, failed.run_count)


@operation("run events")
def run_events(hub: Hub) -> None:
    job = hub.add_job()
    hub.run_to_end(job)
    events = sorted(job.history[0].run_history, key=lambda event: event.time)
    same([event.status for event in events], ["ACTIVATING", "ACTIVE", "DEACTIVATING", "INACTIVE"])


@operation("metrics of all runs")
def metrics_of_all_runs(hub: Hub) -> None:
    job = hub.client.jobs.get(job_name=VERSIONED)
    same(
        [(run.run_count, run.input_count, run.output_count) for run in job.metrics],
        [(3, 60_000, 59_700), (2, 21_000, 21_000), (1, 60_000, 59_700)],
    )


@operation("metrics of one run")
def metrics_of_one_run(hub: Hub) -> None:
    job = hub.client.jobs.get(job_name=VERSIONED)
    run = job.history.get(color="RED")
    same(job.metrics.get(run_count=run.run_count).input_count, 21_000)


@operation("time series of a run")
def time_series(hub: Hub) -> None:
    job = hub.client.jobs.get(job_name="Web logs to lake")
    counts = job.time_series_metrics("Record Count Time Series").input_records.time_series
    holds(len(counts) > 1, "no series")
    same(list(counts.values()), sorted(counts.values()))


@operation("live summary")
def live_summary(hub: Hub) -> None:
    job = hub.add_job(STREAM, runtime_parameters={"RATE": "1500"})
    hub.client.start_job(job)
    job.refresh()
    hub.advance(60)
    with hub.frozen():
        before = job.realtime_summary
        hub.advance(10)
        after = job.realtime_summary
    holds(before.input_record_count > 0, "no records")
    # Ten seconds at time scale 2.
    same(after.input_record_count - before.input_record_count, 10 * 2 * 1500)
    same(after.output_record_count, after.input_record_count)
    holds(after.data_batch_count > before.data_batch_count > 0, "no batches")
    same(after.idle_batch_count, 0)


@operation("balance engines")
def balance_engines(hub: Hub) -> None:
    # Version 4 has the former name.
    balance = hub.client.balance_engines if hub.is_at_least("5") else hub.client.balance_data_collectors
    names = [f"Truck positions {region}" for region in ("north", "south")]
    balance(*hub.client.data_collectors)
    hub.advance(10)
    engines = {hub.client.jobs.get(job_name=name).pipeline_status[0].sdc_id for name in names}
    same(len(engines), 2)


@operation("balance a job")
def balance_job(hub: Hub) -> None:
    job = hub.client.jobs.get(job_name="Truck positions south")
    before = job.pipeline_status[0].sdc_id
    hub.client.balance_job(job)
    hub.advance(10)
    job.refresh()
    holds(job.pipeline_status[0].sdc_id != before, "the job was not moved")


@operation("start and stop")
def start_and_stop(hub: Hub) -> None:
    job = hub.add_job(STREAM)
    hub.client.start_job(job)
    job.refresh()
    same((job.status.status, job.pipeline_status[0].status), ("ACTIVE", "RUNNING"))
    hub.client.stop_job(job)
    same(job.status.status, "INACTIVE")


@operation("force a stop")
def force_stop(hub: Hub) -> None:
    job = hub.client.jobs.get(job_name="Stubborn stream")
    hub.client.start_job(job)
    hub.client.stop_job(job, force=True)
    same(job.status.status, "INACTIVE")


@operation("acknowledge an error")
def acknowledge(hub: Hub) -> None:
    (job,) = hub.client.jobs.get_all(job_status="INACTIVE_ERROR")
    hub.client.acknowledge_job_error(job)
    job.refresh()
    same(job.status.status, "INACTIVE")


@operation("delete")
def delete(hub: Hub) -> None:
    first, second, third = hub.add_job(), hub.add_job(), hub.add_job()
    hub.client.delete_job(first)
    hub.client.delete_job(second, third)
    same(ids(hub.client.jobs) & ids([first, second, third]), set())


@operation("change tags")
def change_tags(hub: Hub) -> None:
    job, tag = hub.add_job(tags=["kept"]), f"added/{uuid.uuid4().hex[:8]}"
    job.add_tag(tag)
    hub.client.update_job(job)
    found = hub.client.jobs.get(id=job_id(job))
    same([entry.tag for entry in found.tags], ["kept", tag])
    found.remove_tag(tag)
    hub.client.update_job(found)
    same([entry.tag for entry in hub.client.jobs.get(id=job_id(job)).tags], ["kept"])


def _add_template(hub: Hub) -> Any:
    name = unique("Guide template")
    pipeline = hub.client.pipelines.get(name=STREAM)
    template = hub.client.get_job_builder().build(
        name, pipeline=pipeline, job_template=True, runtime_parameters={"REGION": "north", "RATE": "10"}
    )
    hub.client.add_job(template)
    return hub.client.jobs.get(job_name=name, job_template=True)


@operation("create a template")
def create_template(hub: Hub) -> None:
    template = _add_template(hub)
    same((template.job_template, template.status), (True, None))


@operation("start a template")
def start_template(hub: Hub) -> None:
    template = _add_template(hub)
    parameters = [{"REGION": "east", "RATE": "20"}, {"REGION": "west", "RATE": "30"}]
    jobs = hub.client.start_job_template(
        template, instance_name_suffix="PARAM_VALUE", parameter_name="REGION", runtime_parameters=parameters
    )
    same([job.job_name for job in jobs], [f"{template.job_name} - east", f"{template.job_name} - west"])
    same([job.status.status for job in jobs], ["ACTIVE", "ACTIVE"])
    same([job.runtime_parameters._data for job in jobs], parameters)


@operation("start a template asynchronously", since="6.3", requires="sch.ControlHub.start_job_template(asynchronous)")
def start_template_asynchronously(hub: Hub) -> None:
    template = _add_template(hub)
    jobs = hub.client.start_job_template(template, number_of_instances=2, asynchronous=True, wait=False)
    same(len(ids(jobs)), 2)
    for job in jobs:
        hub.client.wait_for_job_status(job, "ACTIVE", timeout_sec=20)


@operation("resources of engines")
def engine_resources(hub: Hub) -> None:
    api = hub.client.api_client
    # Renamed in version 7.
    read = api.get_all_engine_stats if hub.is_at_least("7") else api.get_all_executor_stats
    page = read(offset=0, len=-1, order_by="HTTP_URL").response.json()
    same(page["totalCount"], len(page["data"]))
    urls = [entry["httpUrl"] for entry in page["data"]]
    same(urls, sorted(urls))
    same({entry["id"] for entry in page["data"]}, {engine.id for engine in hub.client.data_collectors})
    for entry in page["data"]:
        same({"cpuLoad", "usedMemory", "totalMemory", "startUpTime"} - {*entry}, set())


@operation("list draft pipelines")
def list_drafts(hub: Hub) -> None:
    same(list(hub.client.pipelines.get_all(draft=True)), [])
    same(len(hub.client.pipelines.get_all(draft=False)), len(hub.client.pipelines))


@operation("create a draft pipeline, refused")
def create_draft(hub: Hub) -> None:
    pipeline = hub.client.pipelines.get(name=BATCH)
    try:
        hub.client.api_client.create_pipeline_draft(pipeline.commit_id)
    except Exception as error:  # noqa: BLE001 - is verified below
        message = str(error)
    else:
        raise AssertionError("no error")
    (issue,) = json.loads(message)["ISSUES"]
    holds(issue["code"].startswith("PIPELINE_STORE_"), message)
    holds(issue["message"].endswith("does not have the role 'Pipeline Editor'"), message)


@operation("list draft runs", since="5", requires="sch.ControlHub.draft_runs")
def list_draft_runs(hub: Hub) -> None:
    same(list(hub.client.draft_runs), [])


def _has(path: str) -> bool:
    """Return whether the SDK has an attribute, or a method with a parameter."""
    import streamsets.sdk.sch
    import streamsets.sdk.sch_models

    path, _, parameter = path.rstrip(")").partition("(")
    found: Any = streamsets.sdk
    for name in path.split("."):
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return not parameter or parameter in inspect.signature(found).parameters


def _run(hub: Hub, entry: Operation) -> tuple[str, Any]:
    expected = entry.is_in(hub.version)
    if entry.requires is not None and _has(entry.requires) != expected:
        return FAILED, f"{entry.requires} {'is missing from' if expected else 'is in'} SDK {hub.version}"
    if not expected:
        return ABSENT, None
    try:
        hub.reset()
        return OK, entry.run(hub)
    except Exception:  # noqa: BLE001 - is reported
        return FAILED, traceback.format_exc()


def main(names: list[str]) -> None:
    """Run the named operations, or all of them."""
    url, login_url, credential_id, token = (
        os.environ[f"SANDBOX_{name}"] for name in ("URL", "LOGIN_URL", "ID", "TOKEN")
    )
    hub = Hub(url, login_url, credential_id, token)
    for name in names or OPERATIONS:
        outcome, detail = _run(hub, OPERATIONS[name])
        sys.stdout.write(json.dumps({"name": name, "outcome": outcome, "detail": detail}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
