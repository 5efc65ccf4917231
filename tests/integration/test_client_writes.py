"""Write operations of the client against the sandbox over HTTP, under each variant of unknown behaviour."""

from __future__ import annotations

import http.server
import io
import itertools
import threading
import time
from collections.abc import Iterator

import pendulum
import pytest
import requests

from airflow_provider_streamsets.control_hub import (
    ControlHubAmbiguousNameError,
    ControlHubConflictError,
    ControlHubError,
    ControlHubExistsError,
    ControlHubJobStateError,
    ControlHubMetricsUnavailableError,
    ControlHubNotFoundError,
    ControlHubRejectedError,
    ControlHubRunLostError,
    ControlHubUnavailableError,
    JobSettings,
    Outcome,
)
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.tracking.run import RunTracker
from airflow_provider_streamsets.control_hub.tracking.wait import stop_runs
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from tests.integration.conftest import client_of

PARTITION = "$com.streamsets.datacollector.pollsource.offset$"
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def sandbox_process() -> Iterator[SandboxProcess]:
    """A separate sandbox, because these tests modify it."""
    with SandboxProcess() as process:
        process.freeze()
        yield process


@pytest.fixture
def name():
    """An unused job name."""
    return f"Job {next(numbers)} of 'a' \"test\""


def offset_at(position):
    return {"version": 2, "offsets": {PARTITION: f"orders.csv::{position}"}}


def pipeline(client, **version):
    return client.pipelines.version(client.pipelines.find_by_name("Orders to warehouse").pipeline_id, **version)


def settings(name, records=1000, **more):
    """Settings of a job whose run takes one second, with metrics and without errors."""
    return JobSettings(
        **{
            "name": name,
            "engine_labels": ["prod"],
            "runtime_parameters": {"RECORDS": records, "RATE": 1000, "ERROR_SHARE": 0},
            "statistics_interval": 1,
            **more,
        }
    )


def create(client, name, **more):
    return client.jobs.create(settings(name, **more), pipeline(client))


def run_to_completion(client, sandbox, job):
    """Start a job and return the run after its end."""
    run = client.runs.start(job if isinstance(job, str) else job.job_id)
    sandbox.advance(30)
    ended = client.runs.current(run.job_id)
    assert ended.run_count == run.run_count
    assert ended.has_ended
    return ended


def outcomes(client, sandbox, runs):
    """Wait for the end of all runs and return their outcomes by job id."""
    sandbox.advance(30)
    trackers = {job_id: RunTracker(client, job_id, count, metrics_timeout=0) for job_id, count in runs.items()}
    return {job_id: tracker.poll().outcome for job_id, tracker in trackers.items()}


class LossyHub:
    """
    A proxy for a sandbox that loses responses.

    :param sandbox: the sandbox
    :param lose: path suffixes; the first response to each is lost after the request has been executed
    """

    def __init__(self, sandbox: SandboxProcess, *lose: str) -> None:
        lost = list(lose)
        self.seen: list[str] = []
        seen = self.seen

        class Handler(http.server.BaseHTTPRequestHandler):
            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {k: v for k, v in self.headers.items() if k.lower() not in {"host", "connection"}}
                seen.append(f"{self.command} {self.path.partition('?')[0]}")
                answer = requests.request(self.command, sandbox.url + self.path, data=body, headers=headers, timeout=10)
                for ending in lost:
                    if f"{self.command} {self.path.partition('?')[0]}".endswith(ending):
                        lost.remove(ending)
                        self.close_connection = True
                        return
                self.send_response(answer.status_code)
                self.send_header("Content-Length", str(len(answer.content)))
                self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
                self.end_headers()
                self.wfile.write(answer.content)

            def do_GET(self) -> None:
                self._pass_on()

            def do_POST(self) -> None:
                self._pass_on()

            def do_PUT(self) -> None:
                self._pass_on()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LossyHub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


_OTHERS = {variant: values[1:] or ("10",) for variant, values in Variants.choices().items()}
VARIANTS = {
    "defaults": {},
    **{f"{variant}={value}": {variant: value} for variant, values in _OTHERS.items() for value in values},
    "all others at once": {variant: values[-1] for variant, values in _OTHERS.items()},
}
under_every_variant = pytest.mark.parametrize("variants", VARIANTS.values(), ids=VARIANTS)


@under_every_variant
def test_job_lifecycle_under_each_variant(client, sandbox, name, variants):
    sandbox.set_variants(**variants)

    # Create once, then update, upgrade and duplicate.
    job = client.jobs.create(settings(name, tags=["nightly/orders"]), pipeline(client, tag="released"))
    assert (job.pipeline_version, job.tags, job.engine_labels) == ("2", ("nightly/orders",), ("prod",))
    assert client.jobs.find_by_name(name) == client.jobs.get(job.job_id)
    with pytest.raises(ControlHubExistsError):
        create(client, name)
    assert client.jobs.create(settings(name, records=5), pipeline(client), if_exists="skip").pipeline_version == "2"
    changed = client.jobs.create(
        settings(name, tags=["a", "b/c"], description="Changed"), pipeline(client, version=1), if_exists="update"
    )
    assert (changed.job_id, changed.pipeline_version) == (job.job_id, "1")
    assert (changed.tags, changed.description) == (("a", "b/c"), "Changed")
    assert job.job_id in {found.job_id for found in client.jobs.list(tag="b/c")}
    (upgrade,) = client.jobs.upgrade([job.job_id])
    assert (upgrade.version_before, upgrade.version_after, upgrade.upgraded) == ("1", "3", True)
    assert client.jobs.upgrade([job.job_id])[0].upgraded is False
    job = client.jobs.get(job.job_id)
    copies = client.jobs.duplicate(job.job_id, number_of_copies=10, name=f"{name} copy ")
    assert [copy.name for copy in copies] == [f"{name} copy {n}" for n in range(1, 11)]
    found = client.jobs.get_all(copy.job_id for copy in copies)
    assert [job.label for job in found.values()] == [copy.label for copy in copies]
    assert {(copy.pipeline_version, copy.tags, copy.last_run_count) for copy in copies} == {("3", ("a", "b/c"), 0)}

    # Run from an offset, and again from the start.
    client.offsets.upload(job.job_id, offset_at(500))
    assert client.offsets.current(job.job_id)[0].document == offset_at(500)
    assert client.runs.current(job.job_id) is None
    first = run_to_completion(client, sandbox, job)
    assert (first.run_count, first.is_success) == (1, True)
    assert client.offsets.current(job.job_id)[0].document == offset_at(1500)
    assert client.offsets.committed(job.job_id) == offset_at(1500)
    run_to_completion(client, sandbox, job)
    assert client.offsets.current(job.job_id)[0].document == offset_at(2500)
    assert client.offsets.of_run(job.job_id, 1)[0].document == offset_at(1500)
    client.offsets.reset([job.job_id])
    assert client.offsets.current(job.job_id) == []
    run_to_completion(client, sandbox, job)
    assert client.offsets.current(job.job_id)[0].document == offset_at(1000)
    registry = client.metrics.registry(job.job_id, 2)
    assert registry.value("stage.JDBCProducer_01.inputRecords.counter") == 1000
    assert client.metrics.registry(job.job_id, 99) is None
    assert client.metrics.of_run(job.job_id, 2).input_count == 1000

    # Start, stop and delete in bulk.
    ids = [copy.job_id for copy in copies]
    started = client.runs.start_many(ids)
    assert {job_id: run.run_count for job_id, run in started.items()} == dict.fromkeys(ids, 1)
    assert set(outcomes(client, sandbox, dict.fromkeys(ids, 1)).values()) == {Outcome.SUCCEEDED}
    started = client.runs.start_many(client.jobs.get_all(ids).values())
    assert {run.run_count for run in started.values()} == {2}
    with pytest.raises(ControlHubJobStateError, match="Nothing was started"):
        client.runs.start_many([job.job_id, *ids])
    with pytest.raises(ControlHubJobStateError, match="stop it first"):
        client.jobs.delete(ids)
    assert client.runs.stop_many(dict.fromkeys(ids, 1), max_wait=60) == []
    assert sorted(client.runs.stop_many(dict.fromkeys(ids[:3], 2), max_wait=60)) == sorted(ids[:3])
    sandbox.advance(30)
    assert client.runs.stop_many(dict.fromkeys(ids, 2)) == []
    assert client.jobs.delete([*ids, "unknown:org"]) == ids
    assert client.jobs.delete(ids) == []
    assert client.jobs.get_many(ids) == {}

    # Export, delete, and import with the same id.
    archive = io.BytesIO()
    assert client.archives.export_jobs([job.job_id], archive).size == len(archive.getvalue())
    assert client.jobs.delete([job.job_id]) == [job.job_id]
    with pytest.raises(ControlHubError, match=job.job_id):
        client.jobs.get(job.job_id)
    (imported,) = client.archives.import_jobs(archive)
    assert (imported.job_id, imported.name, imported.pipeline_version) == (job.job_id, name, "3")
    again = client.jobs.get(job.job_id)
    assert (again.runtime_parameters, again.tags, again.engine_labels) == (
        job.runtime_parameters,
        job.tags,
        job.engine_labels,
    )
    assert run_to_completion(client, sandbox, again).is_success
    client.jobs.delete([job.job_id])


@under_every_variant
def test_templates_and_errors_under_each_variant(client, sandbox, name, variants):
    sandbox.set_variants(**variants)

    # Template instances with all three naming schemes.
    template = client.jobs.create(settings(name, static_parameters=["RATE"]), pipeline(client), template=True)
    assert client.jobs.find_by_name(name, templates=True).job_id == template.job_id
    day = pendulum.from_timestamp(sandbox.now() / 1000).format("YYYY-MM-DD")
    values = [{"RECORDS": 100}, {"RECORDS": 200}]
    instances = []
    for options, suffixes in (
        ({"suffix": "COUNTER"}, ("1", "2")),
        ({"suffix": "TIME_STAMP"}, (day, day)),
        ({"suffix": "PARAM_VALUE", "suffix_parameter": "RECORDS", "attach_to_template": False}, ("100", "200")),
    ):
        started = client.templates.start(template, values, tags=["of a template"], **options)
        assert [instance.name for instance in started] == [f"{name} - {suffix}" for suffix in suffixes]
        assert {instance.tags for instance in started} == {("of a template",)}
        assert [instance.runtime_parameters["RECORDS"] for instance in started] == [100, 200]
        instances += started
    runs = {instance.job_id: 1 for instance in instances}
    assert len(runs) == 6
    assert set(outcomes(client, sandbox, runs).values()) == {Outcome.SUCCEEDED}
    attached = [instance.job_id for instance in instances[:4]]
    assert {job.job_id for job in client.jobs.list(template_id=template.job_id)} == set(attached)
    with pytest.raises(ControlHubJobStateError, match="Change the template"):
        client.jobs.update(attached[0], JobSettings(description="x"))
    assert client.jobs.delete_templates([template.job_id, "unknown:org"]) == [template.job_id]
    assert list(client.jobs.get_many(runs)) == [instance.job_id for instance in instances[4:]]
    client.jobs.delete(runs)

    # An error that must be acknowledged.
    failing = create(client, name, needs_acknowledgement=True, runtime_parameters={"FAILS_AFTER": 500, "RATE": 1000})
    healthy = create(client, f"{name} too")
    assert run_to_completion(client, sandbox, failing).status == "INACTIVE_ERROR"
    run_to_completion(client, sandbox, healthy)
    both = [failing.job_id, healthy.job_id]
    with pytest.raises(ControlHubJobStateError, match="Acknowledge the error first"):
        client.runs.start_many(both)
    with pytest.raises(ControlHubJobStateError, match="an error to acknowledge first"):
        client.jobs.delete(both)
    (error,) = client.runs.acknowledge(both, max_wait=30)
    assert (error.job_id, error.status, error.run_count) == (failing.job_id, "INACTIVE_ERROR", 1)
    assert client.runs.acknowledge(both) == []
    assert {run.run_count for run in client.runs.start_many(both).values()} == {2}
    found = outcomes(client, sandbox, dict.fromkeys(both, 2))
    assert found == {failing.job_id: Outcome.FAILED, healthy.job_id: Outcome.SUCCEEDED}
    client.runs.acknowledge(both)
    assert client.jobs.delete(both) == both


def test_number_of_requests_per_operation(client, sandbox, name):
    job = client.jobs.create(settings(name), pipeline(client, version=1))
    many = client.jobs.duplicate(job.job_id, number_of_copies=40, name=name)
    ids = [copy.job_id for copy in many]
    template = client.jobs.find_by_name("Regional orders", templates=True)

    def requests_of(act):
        sandbox.forget_requests()
        act()
        return sandbox.requests()["total"]

    assert requests_of(lambda: client.jobs.duplicate(job.job_id, number_of_copies=40, name="Other")) == 4
    assert requests_of(lambda: client.jobs.duplicate(job, number_of_copies=40, name="Other ")) == 3
    assert requests_of(lambda: client.jobs.find_by_names(["Orders to warehouse", "Quick check", "Legacy feed"])) == 1
    assert requests_of(lambda: client.jobs.upgrade(ids)) == 3
    # No upgrade is needed; the check for a newer version takes one more request.
    assert requests_of(lambda: client.jobs.upgrade(ids)) == 4
    assert requests_of(lambda: client.jobs.update(job.job_id, JobSettings(description="x"))) == 2
    assert requests_of(lambda: client.jobs.update(job.job_id, JobSettings(description="x"))) == 1
    assert requests_of(lambda: client.offsets.reset(ids)) == 1
    assert requests_of(lambda: client.runs.start_many(ids)) == 3
    sandbox.advance(2)
    assert requests_of(lambda: client.runs.stop_many(dict.fromkeys(ids, 1))) == 2
    sandbox.advance(60)
    assert requests_of(lambda: client.runs.acknowledge(ids)) == 1
    assert requests_of(lambda: client.templates.start(template, [{}] * 40)) == 3
    assert requests_of(lambda: client.archives.export_jobs(ids, io.BytesIO())) == 1
    assert requests_of(lambda: client.jobs.delete(ids)) == 2
    client.jobs.delete([job.job_id, *(copy.job_id for copy in client.jobs.list(name_starts_with="Other"))])


@pytest.mark.parametrize("duplicate_body", ["empty", "list"])
def test_lost_response_repeats_nothing(sandbox, name, duplicate_body):
    sandbox.set_variants(duplicate_body=duplicate_body)
    once = ("duplicate", "startJobs", "start", "createAndStartJobInstances")
    with (
        LossyHub(sandbox, "PUT /jobrunner/rest/v1/jobs", "/updateJobs", *(f"/{call}" for call in once)) as hub,
        client_of(sandbox, base_url=hub.url) as client,
    ):
        job = create(client, name)
        assert [found.job_id for found in client.jobs.list(name=name)] == [job.job_id]
        copies = client.jobs.duplicate(job.job_id, number_of_copies=10, name=f"{name} copy ")
        ids = [copy.job_id for copy in copies]
        assert {found.job_id for found in client.jobs.list(name_starts_with=f"{name} copy ")} == set(ids)
        assert {run.run_count for run in client.runs.start_many(ids).values()} == {1}
        assert client.runs.start(job).run_count == 1
        template = client.jobs.find_by_name("Regional orders", templates=True)
        before = {found.job_id for found in client.jobs.list(template_id=template.job_id)}
        instances = client.templates.start(template, [{}, {}])
        after = {found.job_id for found in client.jobs.list(template_id=template.job_id)}
        assert {instance.job_id for instance in instances} == after - before
        calls = [path.rpartition("/")[2] for path in hub.seen]
        assert {call: calls.count(call) for call in (*once, "updateJobs")} == {
            **dict.fromkeys(once, 1),
            "updateJobs": 2,
        }
        sandbox.advance(60)
        assert client.jobs.delete([job.job_id, *ids]) == [job.job_id, *ids]


@pytest.mark.parametrize("unknown_job", ["empty", "404", "400", "403", "500", "foreign_code"])
@pytest.mark.parametrize("partial", ["all_or_nothing", "partial"])
def test_lost_delete_and_acknowledge_responses_are_tolerated(sandbox, name, unknown_job, partial):
    sandbox.set_variants(unknown_job=unknown_job, bulk_partial=partial, acknowledge_elsewhere="refused")
    endings = ("/deleteJobs", "/deleteJobTemplates", "/acknowledgeErrors")
    with LossyHub(sandbox, *endings) as hub, client_of(sandbox, base_url=hub.url) as client:
        template = client.jobs.create(settings(name), pipeline(client), template=True)
        job = create(client, name, needs_acknowledgement=True, runtime_parameters={"FAILS_AFTER": 5, "RATE": 1000})
        run_to_completion(client, sandbox, job)
        assert [run.run_count for run in client.runs.acknowledge([job.job_id])] == [1]
        assert client.jobs.delete([job.job_id]) == [job.job_id]
        assert client.jobs.delete_templates([template.job_id]) == [template.job_id]
        assert client.jobs.get_many([job.job_id, template.job_id]) == {}


def test_import_with_lost_response_is_not_repeated(client, sandbox, name):
    job = create(client, name)
    archive = io.BytesIO()
    client.archives.export_jobs([job.job_id], archive)
    client.jobs.delete([job.job_id])
    with (
        LossyHub(sandbox, "/importJobs") as hub,
        client_of(sandbox, base_url=hub.url) as lossy,
        pytest.raises(ControlHubUnavailableError) as caught,
    ):
        lossy.archives.import_jobs(archive)
    assert caught.value.maybe_executed is True
    assert len(hub.seen) == 1
    assert client.jobs.get(job.job_id).name == name
    # A retry has the same result, whether or not the first try took effect.
    (again,) = client.archives.import_jobs(archive)
    assert again.job_id == job.job_id
    assert [found.job_id for found in client.jobs.list(name=name)] == [job.job_id]
    client.jobs.delete([job.job_id])


@pytest.mark.parametrize("partial", ["all_or_nothing", "partial"])
@pytest.mark.parametrize("lag", ["none", "previous"])
def test_runs_of_refused_bulk_start_are_not_stopped(client, sandbox, name, partial, lag):
    sandbox.set_variants(bulk_partial=partial, start_status_lag=lag)
    labels = (["prod"], ["nowhere"], ["prod"])
    ids = [create(client, f"{name} {n}", engine_labels=label).job_id for n, label in enumerate(labels)]
    with pytest.raises(ControlHubRejectedError, match="JOBRUNNER"):
        client.runs.start_many(ids)
    sandbox.advance(30)
    latest = [run and run.run_count for run in client.runs.statuses(ids).values()]
    assert latest == ([1, None, 1] if partial == "partial" else [None] * 3)
    client.jobs.delete(ids)


def test_concurrent_change_is_not_overwritten(client, name):
    job = create(client, name)
    before = client.jobs.get(job.job_id)
    client.jobs.update(job.job_id, JobSettings(description="Another user's"))
    with pytest.raises(ControlHubConflictError, match="Read it again"):
        client.jobs.update(job.job_id, JobSettings(name="Mine"), unchanged_since=before.last_modified)
    assert client.jobs.get(job.job_id).description == "Another user's"
    client.jobs.delete([job.job_id])


def test_active_job_can_only_be_upgraded(client, sandbox, name):
    job = client.jobs.create(settings(name, records=60000), pipeline(client, version=2))
    client.runs.start(job)
    sandbox.advance(3)
    with pytest.raises(ControlHubJobStateError, match="is ACTIVE: stop it first"):
        client.jobs.update(job.job_id, JobSettings(description="x"))
    with pytest.raises(ControlHubJobStateError, match="is ACTIVE: stop it first"):
        client.jobs.delete([job.job_id])
    assert client.jobs.upgrade([job.job_id])[0].upgraded is True
    assert client.runs.current(job.job_id).run_count == 1
    assert client.runs.stop_many({job.job_id: 1}) == [job.job_id]
    sandbox.advance(30)
    client.jobs.delete([job.job_id])


def test_ambiguous_name_is_rejected(client):
    with pytest.raises(ControlHubAmbiguousNameError):
        client.pipelines.find_by_name("Stock levels")
    with pytest.raises(ControlHubAmbiguousNameError):
        client.jobs.find_by_names(["Stock levels", "Quick check"])
    with pytest.raises(ControlHubNotFoundError, match="'Unknown', 'Missing'"):
        client.jobs.find_by_names(["Unknown", "Quick check", "Missing"])
    with pytest.raises(ControlHubNotFoundError, match=r"versions: 3 .*, 2 .*, 1 .*Tags: 2025\.4, released"):
        pipeline(client, tag="other")


@pytest.mark.parametrize("flags", [{}, {"update_runtime_parameters": True, "update_engine_labels": True}])
def test_exported_jobs_run_in_other_control_hub(client, sandbox, name, flags):
    job = create(client, name, tags=["moved"])
    template = client.jobs.create(settings(f"{name} T"), pipeline(client), template=True)
    archive = io.BytesIO()
    client.archives.export_jobs([job.job_id, template.job_id], archive)
    with SandboxProcess() as other, client_of(other) as there:
        other.freeze()
        imported = there.archives.import_jobs(archive)
        assert {entry.job_id for entry in imported} == {job.job_id, template.job_id}
        arrived = there.jobs.get(job.job_id)
        assert (arrived.name, arrived.tags, arrived.last_run_count) == (name, ("moved",), 0)
        assert there.jobs.get(template.job_id).is_template
        assert run_to_completion(there, other, arrived).is_success
        assert there.metrics.of_run(job.job_id, 1).input_count == 1000
        # A second import overwrites the selected fields and creates no duplicates.
        there.jobs.update(job.job_id, settings(name, records=7, tags=["changed"], engine_labels=["dev"]))
        assert len(there.archives.import_jobs(archive, **flags)) == 2
        after = there.jobs.find_by_name(name)
        assert after.tags == ("moved",)
        assert after.runtime_parameters["RECORDS"] == (1000 if flags else 7)
        assert after.engine_labels == (("prod",) if flags else ("dev",))
    client.jobs.delete([job.job_id])
    client.jobs.delete_templates([template.job_id])


def test_large_archive_is_streamed(client, sandbox, name):
    job = create(client, name)
    ids = [copy.job_id for copy in client.jobs.duplicate(job.job_id, number_of_copies=400, name=name)]

    class Pieces(io.BytesIO):
        largest = 0

        def write(self, data) -> int:
            self.largest = max(self.largest, len(data))
            return super().write(data)

    archive = Pieces()
    size = client.archives.export_jobs(ids, archive).size
    assert size == len(archive.getvalue())
    assert archive.largest <= 256 * 1024
    assert len(client.archives.import_jobs(archive)) == 400
    assert len(client.jobs.delete([job.job_id, *ids])) == 401


def test_template_instance_is_not_exported(client):
    with pytest.raises(ControlHubRejectedError, match="attached to a job template"):
        client.archives.export_jobs([client.jobs.find_by_name("Regional orders - 1").job_id], io.BytesIO())


@pytest.mark.parametrize("deleted", ["gone", "readable"])
@pytest.mark.parametrize("unknown_job", ["empty", "404", "400", "403", "500", "foreign_code"])
def test_instance_deleted_after_completion_loses_run(client, sandbox, deleted, unknown_job):
    sandbox.set_variants(deleted_instances=deleted, unknown_job=unknown_job)
    template = client.jobs.find_by_name("Regional orders", templates=True)
    (instance,) = client.templates.start(template, [{"RECORDS": 10}], delete_after_completion=True)
    assert instance.delete_after_completion
    tracker = RunTracker(client, instance.job_id, 1)

    def poll_until_end():
        while tracker.poll() is None:
            client.sleep(10)

    assert tracker.poll() is None
    with pytest.raises(ControlHubRunLostError, match="delete after completion"):
        poll_until_end()
    assert client.jobs.delete([instance.job_id]) == []


def test_balancing_moves_pipeline_to_idle_engine(client, sandbox):
    with SandboxProcess() as own, client_of(own) as fresh:
        own.freeze()
        north, south = fresh.jobs.find_by_names(["Truck positions north", "Truck positions south"])
        assert north.current_run.engine_ids == south.current_run.engine_ids
        fresh.runs.balance([north.job_id])
        own.advance(60)
        runs = fresh.runs.statuses([north.job_id, south.job_id])
        assert len({run.engine_ids for run in runs.values()}) == 2
        assert {run.run_count for run in runs.values()} == {1}
        # The load is balanced, so nothing moves.
        fresh.runs.balance([north.job_id, south.job_id])
        fresh.engines.balance([engine.engine_id for engine in fresh.engines.list(label="all")])
        own.advance(60)
        assert {j: r.engine_ids for j, r in fresh.runs.statuses(runs).items()} == {
            j: r.engine_ids for j, r in runs.items()
        }


@pytest.mark.parametrize("balance", ["no_effect", "refused"])
def test_job_without_failover_is_not_balanced(client, sandbox, balance):
    sandbox.set_variants(balance_without_failover=balance)
    job = client.jobs.find_by_name("Web logs to lake")
    engine_ids = job.current_run.engine_ids
    if balance == "refused":
        with pytest.raises(ControlHubRejectedError, match="failover is not enabled"):
            client.runs.balance([job.job_id])
    else:
        client.runs.balance([job.job_id])
    client.runs.synchronize([job.job_id])
    sandbox.advance(10)
    assert client.runs.current(job.job_id).engine_ids == engine_ids


def test_inactive_job_is_neither_balanced_nor_synchronized(client):
    job = client.jobs.find_by_name("Stubborn stream")
    for act in (client.runs.balance, client.runs.synchronize):
        with pytest.raises(ControlHubRejectedError, match="JOBRUNNER"):
            act([job.job_id])


@pytest.mark.parametrize("unknown", ["empty", "404"])
def test_engines_are_read_and_listed(client, sandbox, unknown):
    sandbox.set_variants(engine_unknown=unknown)
    engines = {engine.engine_id: engine for engine in client.engines.list()}
    assert len(engines) == 3
    assert client.engines.get_all(engines) == engines
    assert {client.engines.get(engine_id).url for engine_id in engines} == {e.url for e in engines.values()}
    assert [engine.labels for engine in client.engines.list(label="field")] == [("field",)]
    assert list(client.engines.list(executor_type="TRANSFORMER")) == []
    with pytest.raises(ControlHubNotFoundError, match="no-such-engine"):
        client.engines.get("no-such-engine")
    with pytest.raises(ControlHubNotFoundError, match="Cannot read engines no-such-engine: not found"):
        client.engines.get_all([*engines, "no-such-engine"])


def test_live_metrics_are_summed_over_engines(client, sandbox, name):
    job = create(client, name, records=60000, engine_labels=["all"], number_of_instances=-1)
    with pytest.raises(ControlHubMetricsUnavailableError, match="never run"):
        client.metrics.realtime(job.job_id)
    run = client.runs.start(job)
    sandbox.advance(5)
    live = client.metrics.realtime(job.job_id)
    assert len(live.engines) == 2
    assert live.run_count == run.run_count
    assert live.input_count == sum(engine.input_count for engine in live.engines) > 0
    assert all(engine.input_count > 0 for engine in live.engines)
    assert live.engines_without == {}
    client.runs.stop_many({job.job_id: 1})
    sandbox.advance(30)
    with pytest.raises(ControlHubMetricsUnavailableError, match="INACTIVE/GRAY"):
        client.metrics.realtime(job.job_id)
    client.jobs.delete([job.job_id])


@pytest.mark.parametrize("tunnel", ["empty", "no_instance", "error"])
def test_lost_engine_has_no_live_metrics(client, sandbox, tunnel):
    sandbox.set_variants(tunnel_disconnected=tunnel)
    job = client.jobs.find_by_name("Legacy feed")
    run = client.runs.start(job)
    sandbox.advance(2)
    assert client.metrics.realtime(job.job_id).run_count == run.run_count
    sandbox.advance(10)
    assert client.runs.current(job.job_id).color == "RED"
    with pytest.raises(ControlHubMetricsUnavailableError, match="Cannot read the live metrics of job"):
        client.metrics.realtime(job.job_id)
    client.runs.stop_run(job.job_id, run.run_count)
    sandbox.advance(60)
    client.runs.acknowledge([job.job_id])


def test_run_is_found_by_start_time(client, sandbox):
    job = client.jobs.find_by_name("Orders to warehouse")
    history = client.runs.history(job.job_id)
    for run in history:
        assert client.runs.find_started_at(job.job_id, run.start_time) == run
    assert client.runs.find_started_at(job.job_id, history[-1].start_time.subtract(seconds=1)) is None


def test_sleep_advances_only_sandbox_clock(client, sandbox):
    began = time.monotonic()
    client.sleep(3600)
    assert time.monotonic() - began < 5


def test_run_that_stays_activating_is_stopped(sandbox, client):
    sandbox.set_variants(stop_while_activating="accepted")
    run = client.runs.start(client.jobs.find_by_name("Inventory snapshot"), {"ACTIVATION": "1000000"})
    sandbox.advance(60)
    assert sandbox.job_state("Inventory snapshot")["status"] == "ACTIVATING"
    stop_runs(client, {run.job_id: run.run_count}, Deadline(None, sleep=client.sleep), poll_interval=5)
    assert sandbox.job_state("Inventory snapshot")["status"] == "INACTIVE"
