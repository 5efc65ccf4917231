"""The official StreamSets SDK as an independent client of the sandbox."""

from __future__ import annotations

import time

import pytest
import requests

from airflow_provider_streamsets.sandbox.backend.credentials import issue_credential

sdk = pytest.importorskip("streamsets.sdk", reason="the official StreamSets SDK is not installed")


def wait_until(condition, timeout=20.0):
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "timeout"
        time.sleep(0.1)
    return value


def test_login_through_login_service(sandbox, hub):
    assert hub.server_url == sandbox.url
    assert hub.organization == sandbox.state()["organization"]
    assert hub.version


def test_openapi_documents_are_read_without_warning(sandbox, recwarn):
    sdk.ControlHub(credential_id=sandbox.credential_id, token=sandbox.token, aster_url=sandbox.login_url)
    assert not [warning for warning in recwarn if "failed to initialize" in str(warning.message)]


def test_wrong_token_raises_error(sandbox):
    other = issue_credential(sandbox.state()["organization"])
    with pytest.raises(requests.exceptions.HTTPError, match="SSO_01"):
        sdk.ControlHub(credential_id=sandbox.credential_id, token=other.token, aster_url=sandbox.login_url)


def test_jobs_are_found_by_properties(hub):
    job = hub.jobs.get(job_name="Orders to warehouse")
    assert hub.jobs.get(id=job.id).job_name == "Orders to warehouse"
    assert [found.job_name for found in hub.jobs.get_all(job_status="INACTIVE_ERROR")] == ["Ledger export"]
    assert {found.job_name for found in hub.jobs.get_all(job_tag="streaming")} == {
        "Clickstream to lake",
        "Web logs to lake",
    }
    found = hub.jobs.get_all(search='name=="orders*" and tag=="nightly/orders"')
    assert [entry.id for entry in found] == [job.id]
    assert len(hub.jobs.get_all(job_name="Stock levels")) == 2
    assert hub.jobs.get(job_name="Regional orders - 1").template_job_id


@pytest.mark.parametrize(
    ("variant", "message"), [("empty", "Expecting value"), ("404", "not found"), ("403", "not found")]
)
def test_unknown_job_raises_error(sandbox, hub, variant, message):
    sandbox.set_variants(unknown_job=variant)
    try:
        with pytest.raises(Exception, match=message):
            hub.jobs.get(id="no-such-job:no-such-org")
    finally:
        sandbox.set_variants(unknown_job="empty")


def test_stream_is_started_and_stopped(sandbox, hub):
    job = hub.jobs.get(job_name="Clickstream to lake")
    before = job.history[0].run_count
    hub.start_job(job)
    job.refresh()
    assert job.status == "ACTIVE"
    assert job.pipeline_status[0].status == "RUNNING"
    wait_until(lambda: job.realtime_summary.input_record_count > 0)
    summary = job.realtime_summary
    assert 0 < summary.output_record_count <= job.realtime_summary.input_record_count
    assert summary.data_batch_count > 0
    assert summary.idle_batch_count == 0
    hub.stop_job(job)
    assert job.status == "INACTIVE"
    assert job.history[0].run_count == before + 1
    assert job.history[0].finish_time >= job.history[0].start_time


def test_hanging_stop_is_forced(hub):
    job = hub.jobs.get(job_name="Stubborn stream")
    hub.start_job(job)
    hub.stop_job(job, force=True)
    assert job.status == "INACTIVE"


def test_batch_job_leaves_history_metrics_and_offset(hub):
    job = hub.jobs.get(job_name="Orders to warehouse")
    hub.start_job(job)
    hub.wait_for_job_status(job, "INACTIVE", timeout_sec=30)
    job.refresh()
    latest = job.history[0]
    assert [run.run_count for run in job.history] == [4, 3, 2, 1]
    assert {run.run_count for run in job.job_history} == {1, 2, 3, 4}
    events = latest.run_history
    assert [event.status for event in sorted(events, key=lambda event: event.time)] == [
        "ACTIVATING",
        "ACTIVE",
        "DEACTIVATING",
        "INACTIVE",
    ]
    metrics = wait_until(
        lambda: [entry for entry in job.metrics if entry.run_count == 4 and entry.input_count == 60_000]
    )
    assert metrics[0].total_error_count == 300
    assert metrics[0].output_count == 59_700
    assert latest.offsets[0].pipeline_id == job.id
    (reset,) = hub.reset_origin(job)
    assert reset.status.offsets is None


def test_failed_run_has_error_message(hub):
    job = hub.jobs.get(job_name="Customers nightly")
    hub.start_job(job, wait=False)
    hub.wait_for_job_status(job, "INACTIVE", timeout_sec=30)
    job.refresh()
    assert job.status.color == "RED"
    assert "RUN_ERROR" in job.status.error_message


def test_failed_start_raises_error(hub):
    job = hub.jobs.get(job_name="Invoices import")
    with pytest.raises(sdk.exceptions.StartError):
        hub.start_job(job, timeout_sec=10)


def test_error_is_acknowledged(hub):
    job = hub.jobs.get(job_name="Ledger export")
    assert job.status == "INACTIVE_ERROR"
    hub.acknowledge_job_error(job)
    job.refresh()
    assert job.status == "INACTIVE"


def test_pipeline_versions_are_read(hub):
    pipeline = hub.pipelines.get(name="Orders to warehouse")
    assert [commit.version for commit in pipeline.commits] == ["1", "2", "3"]
    job = hub.jobs.get(job_name="Orders to warehouse")
    assert job.pipeline.name == "Orders to warehouse"
    assert job.commit.version == "3"
    assert job.runtime_parameters["SOURCE_DIR"] == "/data/in"


def test_engines_are_listed(hub):
    assert {engine.engine_url for engine in hub.engines.get_all(engine_type="COLLECTOR")} == {
        "http://sdc-prod.example.com:18630",
        "http://sdc-dev.example.com:18630",
        "http://sdc-field.example.com:18630",
    }
