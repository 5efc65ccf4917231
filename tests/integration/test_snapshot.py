"""A snapshot of one sandbox as the seed of another."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict

import pytest
import yaml

from airflow_provider_streamsets.cli.snapshot import dump_snapshot, take_snapshot
from airflow_provider_streamsets.control_hub import submission
from airflow_provider_streamsets.control_hub.errors import ControlHubAuthenticationError, ControlHubUnavailableError
from airflow_provider_streamsets.sandbox.seed.models import DEFAULT_SEED, parse_seed
from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from tests.integration.conftest import client_of

SECRET = "hunter2"
PIPELINE = {
    "name": "Vault export",
    "versions": [
        {"version": 2, "message": f"Password {SECRET}", "committed": "9d", "constants": {"DAY": "today"}},
        {
            "version": 5,
            "message": "With credentials",
            "committed": "3d",
            "tags": [{"name": "approved"}],
            "constants": {"DAY": "today", "DB_PASSWORD": SECRET, "URL": f"jdbc:db://admin:{SECRET}@db.example.com"},
        },
    ],
    # Three hours.
    "behaviour": {"kind": "batch", "records": 1_080_000, "rate": 100, "error_share": 0.01, "output_share": 2},
}
JOBS = [
    {
        "name": "Vault export",
        "description": "Every night",
        "pipeline": "Vault export",
        "labels": ["all"],
        "tags": ["nightly/vault"],
        "parameters": {"DAY": "tomorrow", "API_TOKEN": SECRET},
        "max_retries": 3,
        "global_max_retries": 7,
        "instances": 2,
        "force_stop_timeout": "5m",
    },
    {"name": "Vault export, old", "pipeline": "Vault export", "version": 2, "labels": ["all"]},
    # No engine has these labels.
    {"name": "Mainframe", "pipeline": "Quick check", "labels": ["mainframe", "cobol"]},
]
# Fields that differ between two sandboxes, or depend on the others.
OTHER_FIELDS = {
    "job_id", "organization", "creator", "create_time", "last_modified_by", "last_modified", "pipeline_id",
    "pipeline_commit_id", "template_id", "current_run", "runtime_parameters",
}  # fmt: skip


def all_jobs(client):
    return [*client.jobs.list(), *client.jobs.list(templates=True)]


def started(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("seed") / "seed.yaml"
    path.write_text(text, "utf-8")
    process = SandboxProcess(seed=path).start()
    process.freeze()
    return process


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A sandbox with a history."""
    seed = yaml.safe_load(DEFAULT_SEED.read_text("utf-8"))
    seed["pipelines"].append(PIPELINE)
    seed["jobs"] += JOBS
    with started(tmp_path_factory, yaml.safe_dump(seed)) as process, pytest.MonkeyPatch.context() as patch:
        patch.setattr(submission, "wall_clock", lambda: process.now() / 1000)
        for name in ("Vault export", "Vault export, old", "Quick check", "Invoices import", "Ledger export"):
            if name == "Ledger export":
                process.call("POST", f"/jobrunner/rest/v1/job/{process.job_id(name)}/acknowledgeError")
            process.start_job(name)
            process.advance(4 * 3600)
        process.start_job("Ad clicks to lake")
        process.advance(600)
        process.call("POST", f"/jobrunner/rest/v1/job/{process.job_id('Ad clicks to lake')}/stop")
        process.advance(60)
        yield process


@pytest.fixture(scope="module")
def client(source):
    with client_of(source) as client:
        yield client


@pytest.fixture(scope="module")
def warnings():
    return []


@pytest.fixture(scope="module")
def text(client, warnings):
    return dump_snapshot(take_snapshot(client, all_jobs(client), on_warning=warnings.append), source="a sandbox")


@pytest.fixture(scope="module")
def copy(tmp_path_factory, text):
    """A sandbox with the snapshot as its seed."""
    with started(tmp_path_factory, text) as process:
        yield process


@pytest.fixture(scope="module")
def copy_client(copy):
    with client_of(copy) as client:
        yield client


def settings(client):
    """Return jobs and templates without their ids and times, as text in a fixed order."""
    names = {job.job_id: job.name for job in all_jobs(client)}
    return sorted(
        repr(
            {
                **{name: value for name, value in asdict(job).items() if name not in OTHER_FIELDS},
                "template": names.get(job.template_id),
                "parameters": {
                    name: value for name, value in job.runtime_parameters.items() if value not in (SECRET, "***")
                },
            }
        )
        for job in all_jobs(client)
    )


def pipelines(client):
    found = {}
    for job in all_jobs(client):
        tags = client.pipelines.tags(job.pipeline_id)
        found[job.pipeline_name] = [
            (
                version.version,
                sorted(tag for tag, commit_id in tags.items() if commit_id == version.commit_id),
                client.pipelines.parameters(version.commit_id),
            )
            for version in client.pipelines.versions(job.pipeline_id)
        ]
    return found


def test_copy_has_same_jobs_and_templates(client, copy_client):
    copied = settings(copy_client)
    assert copied == settings(client)
    assert len(copied) == len(parse_seed(yaml.safe_load(DEFAULT_SEED.read_text("utf-8"))).jobs) + len(JOBS)


def test_copy_has_same_versions(client, copy_client):
    expected, copied = pipelines(client), pipelines(copy_client)
    vault = copied.pop("Vault export")
    del expected["Vault export"]
    # Not used by a job, and without a tag, so its definition is not read.
    expected["Orders to warehouse"][2][2].update(RECORDS="", RATE="", ERROR_SHARE="")
    assert copied["Orders to warehouse"] == expected["Orders to warehouse"]
    assert {name: [v[:2] for v in versions] for name, versions in copied.items()} == {
        name: [v[:2] for v in versions] for name, versions in expected.items()
    }
    assert vault == [
        ("5", ["approved"], {"DAY": "today", "DB_PASSWORD": "***", "URL": "***"}),
        ("2", [], {"DAY": "today"}),
    ]


def test_copy_has_same_engines(client, copy_client, warnings):
    def described(client):
        return {(engine.url, engine.version, engine.labels) for engine in client.engines.list()}

    (extra,) = described(copy_client) - described(client)
    assert described(client) < described(copy_client)
    assert extra[2] == ("mainframe", "cobol")
    assert [text for text in warnings if "No engine has all labels of the jobs 'Mainframe'" in text]


@pytest.mark.parametrize(
    "name", ["Vault export", "Vault export, old", "Quick check", "Orders to warehouse", "Stock levels"]
)
def test_lengths_and_counts_carry_over(client, copy, copy_client, name):
    # The last of the jobs with the same name has a history.
    job, copied = (list(c.jobs.list(name=name))[-1] for c in (client, copy_client))
    copy_client.runs.start(copied.job_id)
    copy.advance(4 * 3600)
    latest = copy_client.runs.current(copied.job_id)
    assert latest.duration == pytest.approx(job.current_run.duration, rel=1e-4)
    assert latest.counts == pytest.approx(job.current_run.counts, abs=1)
    assert latest.pipeline_version == job.pipeline_version


def test_latest_runs_are_in_history(client, copy_client):
    for name in (
        "Orders to warehouse",
        "Customers nightly",
        "Web logs to lake",
        "Invoices import",
        "Ad clicks to lake",
    ):
        job, copied = (next(c.jobs.list(name=name)) for c in (client, copy_client))
        runs = client.runs.history(job.job_id, 3)
        # Without those of other tests.
        copied_runs = copy_client.runs.history(copied.job_id)[-len(runs) :]
        assert [run.pipeline_version for run in copied_runs] == [run.pipeline_version for run in runs]
        assert [run.status for run in copied_runs] == [run.status for run in runs]
        assert [bool(run.error_message) for run in copied_runs] == [bool(run.error_message) for run in runs]
        for run, copied_run in zip(runs, copied_runs, strict=True):
            if run.has_ended and not run.has_failed_at_start:
                assert copied_run.duration == pytest.approx(run.duration, abs=2, rel=1e-4)


@pytest.mark.parametrize("name", ["Customers nightly", "Invoices import", "Ledger export"])
def test_job_that_failed_succeeds(client, copy_client, name):
    assert next(client.jobs.list(name=name)).current_run.color == "RED"
    run = copy_client.runs.start(next(copy_client.jobs.list(name=name)).job_id)
    assert copy_client.runs.wait(run).outcome == "SUCCEEDED"


def test_stream_runs_until_stopped(copy, copy_client):
    job = next(copy_client.jobs.list(name="Ad clicks to lake"))
    run = copy_client.runs.start(job.job_id)
    copy.advance(86_400)
    assert copy_client.runs.current(job.job_id).is_working
    assert copy_client.runs.stop_run(job.job_id, run.run_count, max_wait=60)


def test_snapshot_contains_no_secret(text, source):
    assert SECRET not in text
    assert source.token not in text
    assert source.credential_id not in text
    assert "example.com:18630" in text
    assert "airflow@example.com" not in text


def test_anonymised_snapshot_leaks_nothing_and_runs(client, source, tmp_path_factory):
    jobs = all_jobs(client)
    user = client.current_user()
    anonymised = dump_snapshot(take_snapshot(client, jobs, anonymise=True))
    words = {user.name, user.email, user.organization_name, user.organization_id, user.user_id, source.url, SECRET}
    for job in jobs:
        words |= {job.job_id, job.name, job.description, job.pipeline_id, job.pipeline_name, job.pipeline_commit_id}
        words |= {*job.tags, *job.engine_labels, *(part for tag in job.tags for part in tag.split("/"))}
        words |= {*job.runtime_parameters, *job.runtime_parameters.values(), job.creator}
        words |= {run.error_message for run in client.runs.history(job.job_id)} if job.current_run else set()
        words |= {version.message for version in client.pipelines.versions(job.pipeline_id)}
        words |= {*client.pipelines.tags(job.pipeline_id)}
        parameters = client.pipelines.parameters(job.pipeline_commit_id)
        words |= {*parameters, *parameters.values()}
    for engine in client.engines.list():
        words |= {engine.engine_id, engine.url, *engine.labels}
    # The default label, a word of the format, and values that are no names.
    words = {word for word in words if word and word not in ("all", "streaming") and not word.isdecimal()}
    words |= {word.partition(":")[0] for word in words if re.match(r"[0-9a-f-]{36}:", word)}
    assert {word for word in words if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", anonymised)} == set()
    with started(tmp_path_factory, anonymised) as process, client_of(process) as copy_client:
        assert len(all_jobs(copy_client)) == len(jobs)
        for name in ("Job 1", "Job 5"):
            run = copy_client.runs.start(next(copy_client.jobs.list(name=name)).job_id)
            assert copy_client.runs.wait(run).outcome == "SUCCEEDED"


def test_filtered_snapshot_contains_what_its_jobs_need(client):
    progress = []
    jobs = list(client.jobs.list(tag="regional"))
    document = take_snapshot(client, jobs, on_progress=lambda done, total: progress.append((done, total)))
    assert [job["name"] for job in document["jobs"]] == ["Regional orders", "Regional orders - 1"]
    assert [pipeline["name"] for pipeline in document["pipelines"]] == ["Regional orders"]
    assert progress == [(1, 2), (2, 2)]
    parse_seed(document)


def test_empty_snapshot_is_a_seed(client):
    assert parse_seed(take_snapshot(client, [])).jobs == ()


def test_requests_are_bounded(client, source):
    jobs = all_jobs(client)
    source.forget_requests()
    take_snapshot(client, jobs)
    ids = r"[0-9a-f]+-[0-9a-f-]+(:[0-9a-f-]+)?"
    counts = Counter()
    for path, count in source.requests()["counts"].items():
        counts[re.sub(ids, "*", path)] += count
    with_runs = sum(job.current_run is not None for job in jobs)
    pipeline_count = len({job.pipeline_id for job in jobs})
    assert counts.pop("GET /jobrunner/rest/v1/saql/jobs/search/*/runs") == with_runs
    assert counts.pop("GET /pipelinestore/rest/v1/pipeline/*/log") == pipeline_count
    assert counts.pop("GET /pipelinestore/rest/v1/pipeline/*/tags") == pipeline_count
    assert counts.pop("GET /pipelinestore/rest/v1/pipelineCommit/*") <= 2 * pipeline_count
    assert counts.pop("GET /jobrunner/rest/v1/job/*/jobStatusHistory") <= with_runs
    # Of runs without counts in their status.
    assert counts.pop("GET /timeseries/rest/v1/metrics/job/*/recordCountsForAllRuns") <= 3
    assert counts == {"GET /security/rest/v1/currentUser": 1, "GET /jobrunner/rest/v1/sdcs": 1}


@pytest.mark.parametrize("status", [403, 404])
def test_details_that_cannot_be_read_take_defaults(client, source, status):
    jobs = all_jobs(client)
    paths = ("*/runs", "*/jobStatusHistory", "*/recordCounts*", "*/log", "*/tags", "*/sdcs", "*/currentUser")
    warnings = []
    source.set_faults(*({"path": path, "fault": "gateway", "status": status, "body": "json"} for path in paths))
    try:
        document = take_snapshot(client, jobs, on_warning=warnings.append)
    finally:
        source.set_faults()
    seed = parse_seed(document)
    assert [engine.labels for engine in seed.engines] == [("all", "prod", "dev", "field", "mainframe", "cobol")]
    assert sorted(job.name for job in seed.jobs) == sorted(job.name for job in jobs)
    (vault,) = (job for job in seed.jobs if job.name == "Vault export")
    assert vault.version.version == "5"
    assert [run.started_ago > 0 for run in vault.past] == [True]
    for part in (
        "The organization has a neutral name.",
        "The snapshot contains none of these engines.",
        "is known.",
        "is uncertain.",
        "has only the versions of its jobs.",
    ):
        assert [text for text in warnings if text.endswith(part)], part


def test_rejected_credential_ends_the_snapshot(client, source):
    jobs = all_jobs(client)
    with client_of(source, token=source.token[:-8] + "AAAAAAA=") as other, pytest.raises(ControlHubAuthenticationError):
        take_snapshot(other, jobs)


def test_outage_ends_the_snapshot(client, source):
    jobs = all_jobs(client)
    source.set_faults({"path": "*/runs", "fault": "reset_before"})
    try:
        with client_of(source, max_attempts=1) as other, pytest.raises(ControlHubUnavailableError):
            take_snapshot(other, jobs)
    finally:
        source.set_faults()


def test_other_sources_of_counts(client, source):
    """The status of a run need not contain its record counts."""
    source.set_variants(counts_on_status="never")
    try:
        (job,) = client.jobs.list(name="Vault export")
        (pipeline,) = take_snapshot(client, [job])["pipelines"]
    finally:
        source.set_variants(counts_on_status="saved")
    assert pipeline["behaviour"] == {**PIPELINE["behaviour"]}
