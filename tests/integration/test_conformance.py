"""The conformance check against sandboxes: each of their variants is found, and a report makes a sandbox alike."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from airflow_provider_streamsets.cli.conformance import run_conformance, write_report
from airflow_provider_streamsets.cli.conformance.hub import MAX_READS
from airflow_provider_streamsets.cli.conformance.unknowns import UNKNOWNS
from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubClient,
    ControlHubJobStateError,
    ControlHubNotFoundError,
)
from airflow_provider_streamsets.control_hub.choices import COLORS, STATUSES
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from tests.integration.conftest import client_of
from tests.unit.test_contract_references import UNKNOWNS as CONTRACT

SEED = Path(__file__).with_name("conformance.yaml")
JOB = "Job to start and stop"
TEMPLATE = "Regional template"

NOT_OBSERVABLE = {"start_parameters", "needs_ack_default", "balance_without_failover", "engine_clock_behind"}
# The values, other than the defaults, of all variants that the check can observe.
CHANGES = [
    *(
        (name, value)
        for name, values in Variants.choices().items()
        for value in values[1:]
        if name not in NOT_OBSERVABLE
    ),
    ("metrics_lag", 7.5),
]
WITH_JOB = {name for unknown in UNKNOWNS for name in unknown.with_job}
THREE = {"unknown_job": "404", "runs_order": "asc", "forced_stop_end": "inactive_error"}


@pytest.fixture(scope="module")
def process() -> Iterator[SandboxProcess]:
    with SandboxProcess(seed=SEED) as process:
        yield process


@pytest.fixture
def sandbox(process: SandboxProcess) -> SandboxProcess:
    """A sandbox in its initial state, whose clock advances only on sleep."""
    process.reset()
    process.freeze()
    return process


@pytest.fixture
def client(sandbox: SandboxProcess) -> Iterator[ControlHubClient]:
    with client_of(sandbox) as client:
        yield client


def start_template(sandbox: SandboxProcess) -> None:
    """Start two instances one after the other, and one that is deleted after its completion."""
    path = f"/jobrunner/rest/v1/job/{sandbox.job_id(TEMPLATE)}/createAndStartJobInstances"
    for is_deleted in (False, False, True):
        options = {"attachToTemplate": True, "deleteAfterCompletion": is_deleted}
        body = {"namePostfixType": "COUNTER", "runtimeParametersList": [{}], **options}
        assert sandbox.call("POST", path, body).ok
        sandbox.advance(60)


def finding(report, section):
    return next(finding for finding in report.findings if finding.section == section)


def test_every_unknown_of_the_contract_is_in_the_report():
    listed = {unknown.section: set(unknown.variants) for unknown in UNKNOWNS if unknown.section.startswith("18.")}
    described = {
        section: {name for name in re.findall(r"`(\w+)`", fields["Variant"]) if name in Variants.choices()}
        for section, fields in CONTRACT.items()
    }
    assert listed == described
    assert list(listed) == list(CONTRACT)
    assert all(unknown.probe or unknown.with_job or unknown.not_probed for unknown in UNKNOWNS)


def test_default_sandbox_matches_the_defaults(sandbox, client):
    start_template(sandbox)
    report = run_conformance(client, job_id=sandbox.job_id(JOB))
    defaults = Variants().as_dict()
    assert report.variants == {name: defaults[name] for name in report.variants}
    assert set(defaults) - set(report.variants) == NOT_OBSERVABLE | {"start_parameters_kept"}
    assert report.unmatched == ()


def test_check_without_job_only_reads(sandbox, client):
    before = sandbox.state()["jobs"]
    sandbox.forget_requests()
    report = run_conformance(client)
    assert sandbox.state()["jobs"] == before
    assert (sandbox.starts(), sandbox.stops()) == ([], [])
    assert sandbox.requests()["total"] < MAX_READS / 2
    assert WITH_JOB & set(report.variants) == set()
    assert finding(report, "18.28").status == "needs a job"
    assert finding(report, "18.4").as_dict()["reason"] == "wrong_state: needs a job"


@pytest.mark.parametrize(("name", "value"), CHANGES, ids=[f"{name}={value}" for name, value in CHANGES])
def test_changed_variant_is_found(sandbox, client, name, value):
    sandbox.set_variants(**{name: value})
    if name in ("counter", "deleted_instances"):
        start_template(sandbox)
    section = next(unknown.section for unknown in UNKNOWNS if name in unknown.variants)
    report = run_conformance(client, sections={section}, job_id=sandbox.job_id(JOB) if name in WITH_JOB else None)
    assert report.variants.get(name) == value, finding(report, section).as_dict()


@pytest.mark.parametrize("seed", range(3))
def test_no_combination_of_variants_is_reported_wrong(sandbox, client, seed):
    choose = random.Random(seed).choice
    variants = {name: choose(values) for name, values in Variants.choices().items() if values}
    sandbox.set_variants(**variants)
    report = run_conformance(client, job_id=sandbox.job_id(JOB))
    selected = sandbox.state()["variants"]
    assert report.variants == {name: selected[name] for name in report.variants}
    assert len(report.variants) > 25
    assert report.unmatched == ()


def test_report_of_three_variants_makes_a_sandbox_alike(sandbox, client, tmp_path):
    file = tmp_path / "report.yaml"
    sandbox.set_variants(**THREE)
    report = run_conformance(client, job_id=sandbox.job_id(JOB))
    write_report(report, file)
    changed = {name: value for name, value in report.variants.items() if value != Variants().as_dict()[name]}
    assert changed == THREE
    with SandboxProcess("--variants-from", str(file), seed=SEED) as other, client_of(other) as other_client:
        other.freeze()
        assert other.state()["variants"] == Variants().changed(THREE).as_dict()
        again = run_conformance(other_client, job_id=other.job_id(JOB))
    assert again.as_dict() == report.as_dict()


def test_job_is_left_as_found(sandbox, client):
    sandbox.set_variants(
        upgrade_active="successor",
        forced_stop_end="inactive_error",
        start_parameters_kept="stored",
        duplicate_body="list",
    )
    jobs = {job["name"] for job in sandbox.state()["jobs"]}
    path = f"/jobrunner/rest/v1/job/{sandbox.job_id(JOB)}"
    before = sandbox.call("GET", path).json()
    run_conformance(client, job_id=sandbox.job_id(JOB))
    after = sandbox.call("GET", path).json()
    assert {job["name"] for job in sandbox.state()["jobs"]} == jobs
    assert after["currentJobStatus"]["status"] == "INACTIVE"
    changing = ("currentJobStatus", "lastModifiedOn", "lastModifiedBy", "currentUpgradeStatus")
    assert {k: v for k, v in after.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }


def test_job_that_fails_is_left_acknowledged(sandbox, client):
    report = run_conformance(client, job_id=sandbox.job_id("Job that cannot run"))
    assert finding(report, "18.3").as_dict() == {
        "section": "18.3",
        "question": "Does one invalid id prevent a bulk action?",
        "status": "not answered",
        "reason": "the run ended INACTIVE_ERROR/RED before the probe",
    }
    assert finding(report, "18.7").reason.startswith("the job has fewer than two runtime parameters")
    assert report.variants["start_body"] == "status"
    assert sandbox.job_state("Job that cannot run")["status"] == "INACTIVE"


def test_run_that_cannot_be_stopped_is_a_warning(sandbox, client):
    sandbox.set_faults({"path": "*top*", "method": "POST", "fault": "server_error", "status": 503})
    warnings: list[str] = []
    report = run_conformance(client, job_id=sandbox.job_id(JOB), on_warning=warnings.append)
    assert sandbox.job_state(JOB)["status"] == "ACTIVE"
    assert [warning.partition(":")[0] for warning in warnings] == ["The job may not be as it was"]
    assert finding(report, "18.28").status == "not answered"


def test_interrupt_stops_the_started_run(sandbox):
    def interrupt(seconds):
        sandbox.advance(seconds)
        if sandbox.job_state(JOB)["status"] == "ACTIVE" and not interrupts:
            interrupts.append(seconds)
            raise KeyboardInterrupt

    interrupts = []
    with client_of(sandbox, sleep=interrupt) as client, pytest.raises(KeyboardInterrupt):
        run_conformance(client, job_id=sandbox.job_id(JOB))
    assert interrupts
    assert sandbox.job_state(JOB)["status"] == "INACTIVE"


def test_interrupt_after_a_late_start_stops_its_run(sandbox, client):
    sandbox.set_variants(start_status_lag="previous")
    job_id = sandbox.job_id(JOB)
    before = sandbox.job_state(JOB)["run_count"]
    steps = []

    def interrupt(step: str) -> None:
        steps.append(step)
        # The first one after the start was sent.
        if sandbox.job_state(JOB)["run_count"] > before and "restoring" not in step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_conformance(client, job_id=job_id, on_probe=interrupt)
    assert steps[-1] == "Stopping and restoring the job"
    assert sandbox.job_state(JOB)["status"] == "INACTIVE"


def test_copy_that_could_not_be_deleted_is_deleted_at_the_end(sandbox, client):
    warnings: list[str] = []
    sandbox.set_faults({"path": "*/v2/job/*", "method": "DELETE", "fault": "server_error", "times": 1})
    run_conformance(client, job_id=sandbox.job_id(JOB), on_warning=warnings.append)
    assert not [job for job in sandbox.state()["jobs"] if job["name"].startswith("Conformance check")]
    assert warnings == []


def test_copy_that_cannot_be_deleted_is_named(sandbox, client):
    warnings: list[str] = []
    sandbox.set_faults({"path": "*/v2/job/*", "method": "DELETE", "fault": "server_error"})
    run_conformance(client, job_id=sandbox.job_id(JOB), on_warning=warnings.append)
    (copy,) = (job["name"] for job in sandbox.state()["jobs"] if job["name"].startswith("Conformance check"))
    (warning,) = warnings
    assert copy in warning
    sandbox.set_faults()
    client.jobs.delete([client.jobs.find_by_name(copy).job_id])


def test_job_that_was_started_meanwhile_is_left_alone(sandbox, client):
    def start(step: str) -> None:
        if step.startswith("18.44"):
            sandbox.start_job(JOB)

    with pytest.raises(ControlHubJobStateError, match="must be inactive"):
        run_conformance(client, job_id=sandbox.job_id(JOB), on_probe=start)
    assert sandbox.job_state(JOB)["running"]


def test_attached_instance_is_refused(sandbox, client):
    start_template(sandbox)
    sandbox.advance(600)
    (instance, *_) = (job for job in client.jobs.list() if job.template_id)
    with pytest.raises(ControlHubJobStateError, match="attached to a job template"):
        run_conformance(client, job_id=instance.job_id)


def test_report_has_no_names_ids_and_secrets(sandbox, client, tmp_path):
    start_template(sandbox)
    report = run_conformance(client, job_id=sandbox.job_id(JOB))
    write_report(report, tmp_path / "report.yaml")
    text = (tmp_path / "report.yaml").read_text("utf-8")
    private = {sandbox.credential_id, sandbox.token, sandbox.url, "127.0.0.1", str(sandbox.port)}
    private |= {sandbox.state()["organization"]}
    for path in ("jobs", "sdcs", "jobs?jobTemplate=true"):
        private |= set(texts(sandbox.call("GET", f"/jobrunner/rest/v1/{path}").json()))
    private |= set(texts(yaml.safe_load(SEED.read_text("utf-8"))))
    # Words of the API, and of the seed's format.
    public = {*STATUSES, *COLORS, "COLLECTOR", "RUNNING", "5.10.0", "batch", "streaming", "ever"}
    assert {value for value in private - public if len(value) > 3 and value in text} == set()


def texts(value: object) -> Iterator[str]:
    """Yield all strings in a document, also those in strings of JSON."""
    if isinstance(value, str):
        yield value
        if value.startswith("{"):
            yield from texts(json.loads(value))
    elif isinstance(value, dict):
        yield from texts(list(value.values()))
        # The names of runtime parameters.
        yield from (key for key in value if key.isupper())
    elif isinstance(value, list):
        for entry in value:
            yield from texts(entry)


@pytest.mark.parametrize("status", [403, 500])
def test_refused_probe_is_not_answered(sandbox, client, status):
    sandbox.set_faults(
        {"path": "/jobrunner/rest/v1/saql/*", "fault": "gateway", "status": 403}
        if status == 403
        else {"path": "/jobrunner/rest/v1/saql/*", "fault": "server_error", "status": 500},
        {"path": "/jobrunner/rest/v1/sdc/*", "fault": "html"},
    )
    report = run_conformance(client)
    assert finding(report, "18.12").status == "not answered"
    assert f"Control Hub returned {status}" in finding(report, "18.12").reason
    assert "runs_order" not in report.variants
    assert "engine_unknown" in report.unmatched
    assert report.variants["unknown_job"] == "empty"
    # The runs are read from the older call instead.
    assert report.variants["start_failure"] == "inactive"


def test_unavailable_call_is_not_answered(sandbox, client):
    sandbox.set_faults({"path": "/timeseries/*", "fault": "server_error", "status": 503})
    report = run_conformance(client)
    assert finding(report, "18.19").as_dict()["reason"] == "a request failed (status 503)"
    assert report.variants["runs_order"] == "desc"


def test_empty_control_hub_is_not_answered(sandbox, client):
    for job in sandbox.state()["jobs"]:
        sandbox.call("POST", "/jobrunner/rest/v1/jobs/forceStopJobs", [job["id"]])
    sandbox.advance(60)
    for job in sandbox.state()["jobs"]:
        sandbox.call("DELETE", f"/jobrunner/rest/v2/job/{job['id']}")
    report = run_conformance(client)
    assert finding(report, "18.5").reason == "no job that has never run is visible"
    assert finding(report, "18.12").reason == "no job that has run is visible"
    assert report.variants["bulk_missing"] == "omit"


def test_active_job_is_refused(sandbox, client):
    sandbox.start_job(JOB)
    sandbox.advance(5)
    sandbox.forget_requests()
    with pytest.raises(ControlHubJobStateError, match=r"it is ACTIVE, and must be inactive\. Nothing was started\."):
        run_conformance(client, job_id=sandbox.job_id(JOB))
    assert {request["method"] for request in sandbox.requests()["requests"]} == {"GET"}


def test_template_and_unknown_job_are_refused(sandbox, client):
    with pytest.raises(ControlHubJobStateError, match="it is a job template"):
        run_conformance(client, job_id=sandbox.job_id(TEMPLATE))
    with pytest.raises(ControlHubNotFoundError, match="the job was not found"):
        run_conformance(client, job_id="no:job")


def test_refused_credential_is_an_error(sandbox):
    with client_of(sandbox, token="e30.eyJvIjoib3JnIn0.") as client, pytest.raises(ControlHubAuthenticationError):
        run_conformance(client)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("- a list", "is not a conformance report"),
        ("{variants: {}, findings: []}", "is not a conformance report"),
        ("{format: 2, provider: 9.1.0, variants: {}}", "has format 2 of version 9.1.0; this version reads format 1"),
        ("{format: 1, provider: 9.1.0, variants: {new_one: x}}", "Unknown variant 'new_one'"),
        ("{format: 1, provider: 9.1.0, variants: {unknown_job: '418'}}", "written by version 9.1.0"),
    ],
)
def test_unusable_report_is_one_error(tmp_path, content, message):
    file = tmp_path / "report.yaml"
    if content is not None:
        file.write_text(content, "utf-8")
    arguments = ["--port", "0", "--variants-from", str(file)]
    result = subprocess.run(
        [sys.executable, "-m", "airflow_provider_streamsets.sandbox", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_variant_option_overrides_the_report(tmp_path):
    file = tmp_path / "report.json"
    file.write_text(
        json.dumps({"format": 1, "provider": "0.1.0", "variants": {"runs_order": "asc", "counter": "restart"}})
    )
    with SandboxProcess("--variants-from", str(file), variants={"counter": "continue"}) as sandbox:
        variants = sandbox.state()["variants"]
    assert (variants["runs_order"], variants["counter"]) == ("asc", "continue")
