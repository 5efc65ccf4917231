from __future__ import annotations

import io
import socket
import time

import pytest
import trustme

from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubClient,
    ControlHubError,
    ControlHubJobStateError,
    ControlHubNotFoundError,
    ControlHubRunFailedError,
    ControlHubRunLostError,
    ControlHubRunTimeoutError,
    ControlHubUnavailableError,
    ControlHubUntrustedCertificateError,
    Outcome,
)
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.tracking.run import RunTracker
from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from tests.integration.conftest import client_of
from tests.unit.fakes.waits import wait_with_tracker


def run_to_completion(client, sandbox, name, timeout=300.0, **parameters):
    """Start a job by name and wait for the run's end on the sandbox's clock."""
    job = client.jobs.find_by_name(name)
    run = client.runs.start(job, parameters)
    assert run.run_count == job.last_run_count + 1
    clock = {"now": 0.0}

    def sleep(seconds):
        clock["now"] += seconds
        sandbox.advance(seconds)

    tracker = RunTracker(client, job.job_id, run.run_count, job_name=name, now=lambda: clock["now"])
    return wait_with_tracker(tracker, Deadline(timeout, sleep=sleep, now=lambda: clock["now"]), poll_interval=2)


@pytest.mark.parametrize(
    ("name", "outcome", "status", "error"),
    [
        ("Orders to warehouse", Outcome.SUCCEEDED, "INACTIVE/GRAY", None),
        ("Quick check", Outcome.SUCCEEDED, "INACTIVE/GRAY", None),
        ("Sensors archive", Outcome.SUCCEEDED, "INACTIVE/GRAY", None),
        ("Inventory snapshot", Outcome.SUCCEEDED, "INACTIVE/GRAY", None),
        ("Customers nightly", Outcome.FAILED, "INACTIVE/RED", "RUN_ERROR"),
        ("Invoices import", Outcome.FAILED, "INACTIVE/RED", "START_ERROR"),
    ],
)
def test_report_has_outcome_status_and_error(client, sandbox, name, outcome, status, error):
    report = run_to_completion(client, sandbox, name)
    assert report.outcome is outcome
    assert f"{report.run.status}/{report.run.color}" == status
    assert report.events
    if error:
        assert error in (report.run.error_message or "")
        assert any(error in pipeline.status for pipeline in report.run.engine_pipelines)
    else:
        assert report.run.error_message is None


def test_wait_returns_report_of_run(client):
    report = client.runs.wait(client.runs.start(client.jobs.find_by_name("Quick check")), poll_interval=2)
    assert (report.outcome, report.metrics_final) == (Outcome.SUCCEEDED, True)
    with pytest.raises(ControlHubRunTimeoutError, match="has not ended within 0 s"):
        client.runs.wait(client.runs.start(report.job_id), timeout=0)


def test_wait_for_many_runs_returns_their_reports(client):
    jobs = [client.jobs.find_by_name(name) for name in ("Orders to warehouse", "Customers nightly")]
    runs = client.runs.start_many(jobs)
    reports = client.runs.wait_many(runs.values(), poll_interval=2)
    assert [reports[job.job_id].outcome for job in jobs] == [Outcome.SUCCEEDED, Outcome.FAILED]
    with pytest.raises(ControlHubRunFailedError, match=f"Run {runs[jobs[1].job_id].run_count} failed: JDBC_34"):
        raise reports[jobs[1].job_id].failure()


def test_run_metrics_are_final_and_consistent(client, sandbox):
    report = run_to_completion(client, sandbox, "Orders to warehouse")
    assert report.metrics_final
    assert report.metrics is not None
    assert (report.metrics.input_count, report.metrics.output_count, report.metrics.error_count) == (60000, 59700, 300)
    again = client.metrics.of_run(report.job_id, report.run.run_count)
    assert again == report.metrics
    runs = client.metrics.all_runs(report.job_id)
    assert [metrics.run_count for metrics in runs] == list(range(report.run.run_count, 0, -1))


def test_run_stopped_by_user_has_outcome_stopped(client, sandbox):
    job = client.jobs.find_by_name("Clickstream to lake")
    run = client.runs.start(job)
    sandbox.advance(30)
    assert client.runs.stop_run(job.job_id, run.run_count) is True
    sandbox.advance(60)
    tracker = RunTracker(client, job.job_id, run.run_count, metrics_timeout=0)
    report = tracker.poll()
    assert report is not None
    assert report.outcome is Outcome.STOPPED
    assert client.runs.stop_run(job.job_id, run.run_count) is False


def test_wait_for_lost_engine_times_out(client, sandbox):
    with pytest.raises(ControlHubError, match=r"has not ended within 120 s\. Last status: ACTIVE/RED"):
        run_to_completion(client, sandbox, "Legacy feed", timeout=120)


def test_unacknowledged_failure_blocks_start(client, sandbox):
    report = run_to_completion(client, sandbox, "Payments reconciliation")
    assert report.run.status == "INACTIVE_ERROR"
    starts = len(sandbox.starts())
    with pytest.raises(ControlHubJobStateError, match="Acknowledge the error first"):
        client.runs.start(report.job_id)
    assert len(sandbox.starts()) == starts


def test_history_and_events_are_ordered(client, sandbox):
    report = run_to_completion(client, sandbox, "Quick check")
    history = client.runs.history(report.job_id)
    assert [run.run_count for run in history] == sorted((run.run_count for run in history), reverse=True)
    assert client.runs.history(report.job_id, limit=1) == history[:1]
    events = client.runs.events(history[0].run_id)
    assert [event.status for event in events] == ["ACTIVATING", "ACTIVE", "DEACTIVATING", "INACTIVE"]
    assert [event.time for event in events] == sorted(event.time for event in events)
    assert (events[0].user is not None, events[-1].user) == (True, None)


def test_jobs_are_read_and_listed(client):
    every = {job.name for job in client.jobs.list()}
    assert "Orders to warehouse" in every
    assert "Regional orders" not in every
    assert [job.name for job in client.jobs.list(templates=True)] == ["Regional orders"]
    assert len(list(client.jobs.list(name="Stock levels"))) == 2
    assert {job.name for job in client.jobs.list(name_starts_with="Regional")} == {"Regional orders - 1"}
    assert "Orders to warehouse" in {job.name for job in client.jobs.list(tag="nightly/orders")}
    assert {job.current_run.status for job in client.jobs.list(status="INACTIVE_ERROR")} == {"INACTIVE_ERROR"}
    one = client.jobs.find_by_name("Orders to warehouse")
    assert client.jobs.get(one.job_id) == one
    assert list(client.jobs.get_many([one.job_id, "unknown:org"])) == [one.job_id]


def test_bulk_status_takes_one_request(client, sandbox):
    jobs = list(client.jobs.list())
    sandbox.forget_requests()
    statuses = client.runs.statuses([job.job_id for job in jobs])
    assert sandbox.requests()["total"] == 1
    assert {job_id: run and run.run_count for job_id, run in statuses.items()} == {
        job.job_id: job.last_run_count or None for job in jobs
    }


def test_login_service_resolves_hub(sandbox):
    with client_of(sandbox, base_url=None, login_url=sandbox.login_url) as client:
        assert client.base_url == sandbox.url
        assert client.current_user().organization_id == sandbox.state()["organization"]


def test_invalid_token_is_not_retried(sandbox):
    wrong = sandbox.token[:-10] + "AAAAAAAAA."
    sandbox.forget_requests()
    with (
        client_of(sandbox, token=wrong) as client,
        pytest.raises(ControlHubAuthenticationError, match="SSO_01") as caught,
    ):
        client.current_user()
    assert caught.value.http_status == 401
    assert wrong not in str(caught.value)
    assert sandbox.requests()["total"] == 1


def test_unreachable_host_is_named():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        client = ControlHubClient(url, "id", "a.b.", max_attempts=2, sleep=lambda _: None)
        with pytest.raises(ControlHubUnavailableError, match=rf"no response from {url} .*refused"):
            client.current_user()


def test_untrusted_certificate_needs_ca_file(tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    ca, cert, key = tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem"
    authority.cert_pem.write_to_path(ca)
    certificate.cert_chain_pems[0].write_to_path(cert)
    certificate.private_key_pem.write_to_path(key)
    with SandboxProcess("--tls-cert", str(cert), "--tls-key", str(key)) as secure:
        with (
            client_of(secure, sleep=None) as client,
            pytest.raises(ControlHubUntrustedCertificateError, match=r"is not trusted .*'verify'\) of the connection"),
        ):
            client.current_user()
        for verify in (str(ca), False):
            with client_of(secure, sleep=None, verify=verify) as client:
                assert client.current_user().name


@pytest.mark.parametrize("is_tls", [False, True], ids=["http", "https"])
def test_slow_response_times_out_except_archive(tmp_path, is_tls):
    arguments: tuple[str, ...] = ()
    verify: bool | str = True
    if is_tls:
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        ca, cert, key = tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem"
        authority.cert_pem.write_to_path(ca)
        certificate.cert_chain_pems[0].write_to_path(cert)
        certificate.private_key_pem.write_to_path(key)
        arguments, verify = ("--tls-cert", str(cert), "--tls-key", str(key)), str(ca)
    options = {"verify": verify, "timeout": (5, 0.5), "max_attempts": 1, "sleep": None}
    with SandboxProcess(*arguments, verify=verify) as sandbox, client_of(sandbox, **options) as client:
        job = client.jobs.find_by_name("Orders to warehouse")
        sandbox.set_faults({"path": "*", "fault": "drip", "seconds": 4})
        began = time.monotonic()
        with pytest.raises(ControlHubUnavailableError, match=r"exceeded the total time limit|timed out"):
            client.runs.statuses([job.job_id])
        assert time.monotonic() - began < 3
        archive = io.BytesIO()
        assert client.archives.export_jobs([job.job_id], archive).size == len(archive.getvalue())
        assert time.monotonic() - began > 4


VARIANTS = [
    ("unknown_job", "empty"),
    ("unknown_job", "404"),
    ("unknown_job", "400"),
    ("unknown_job", "403"),
    ("unknown_job", "500"),
    ("unknown_job", "foreign_code"),
    ("wrong_state", "409"),
    ("wrong_state", "500"),
    ("never_run_status", "empty"),
    ("never_run_status", "null"),
    ("never_run_status", "object"),
    ("bulk_missing", "omit"),
    ("bulk_missing", "null"),
    ("bulk_body", "list"),
    ("start_body", "empty"),
    ("start_status_lag", "previous"),
    ("start_parameters", "merge"),
    ("start_parameters_kept", "stored"),
    ("start_failure", "activation_error"),
    ("color_in_transition", "GRAY"),
    ("runs_order", "asc"),
    ("saql_len_zero", "none"),
    ("filter_text", "exact"),
    ("job_template_omitted", "instances"),
    ("jobs_by_ids", "stored"),
    ("counts_of_latest", "absent"),
    ("counts_of_latest", "zeros"),
    ("counts_of_earlier", "omit"),
    ("counts_of_earlier", "gap"),
    ("counts_key_0", "missing"),
    ("counts_on_status", "never"),
    ("engine_clock_behind", 3),
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda pair: "{}={}".format(*pair))
def test_runs_work_under_each_variant(client, sandbox, variant):
    sandbox.set_variants(**dict([variant]))
    good = run_to_completion(client, sandbox, "Orders to warehouse")
    assert (good.outcome, good.metrics_final) == (Outcome.SUCCEEDED, True)
    assert good.metrics is not None
    assert good.metrics.output_count == 59700
    bad = run_to_completion(client, sandbox, "Invoices import")
    assert bad.outcome is Outcome.FAILED
    assert [run.run_count for run in client.runs.history(good.job_id)] == list(range(good.run.run_count, 0, -1))
    assert client.runs.history(good.job_id)[0].run_count == client.runs.current(good.job_id).run_count
    never_run = client.jobs.find_by_name("Stubborn stream")
    assert client.runs.current(never_run.job_id) is None
    assert client.runs.statuses([never_run.job_id, "unknown:org"]) == {never_run.job_id: None, "unknown:org": None}
    with pytest.raises(ControlHubError, match="unknown:org"):
        client.jobs.get("unknown:org")
    with pytest.raises(ControlHubNotFoundError):
        client.jobs.find_by_name("Unknown")


@pytest.mark.parametrize("answer", ["empty", "404", "400", "403", "500", "foreign_code"])
@pytest.mark.parametrize("missing", ["omit", "null"])
def test_deleted_job_ends_wait(client, sandbox, answer, missing):
    sandbox.set_variants(unknown_job=answer, bulk_missing=missing)
    tracker = RunTracker(client, "deleted:org", 3)
    for _ in range(2):
        assert tracker.poll() is None
    with pytest.raises(ControlHubRunLostError, match="the job does not exist any more"):
        tracker.poll()


@pytest.mark.parametrize("refusal", ["refused", "accepted"])
def test_run_can_be_stopped_immediately_after_start(client, sandbox, refusal):
    sandbox.set_variants(stop_while_activating=refusal)
    job = client.jobs.find_by_name("Inventory snapshot")
    run = client.runs.start(job)
    assert client.runs.stop_run(job.job_id, run.run_count, max_wait=60) is True
    assert client.runs.current(job.job_id).status in {"DEACTIVATING", "INACTIVE"}


def test_runtime_parameters_are_passed(client, sandbox):
    report = run_to_completion(client, sandbox, "Orders to warehouse", RECORDS=5000, ERROR_SHARE=0)
    assert report.metrics is not None
    assert (report.metrics.input_count, report.metrics.total_error_count) == (5000, 0)


def test_offsets_are_reset(client, sandbox):
    report = run_to_completion(client, sandbox, "Quick check")
    path = f"/jobrunner/rest/v1/job/{report.job_id}/committedOffsets"
    assert sandbox.call("GET", path).content
    client.offsets.reset([report.job_id])
    assert not sandbox.call("GET", path).content


def test_parameters_have_default_values(client):
    job = client.jobs.find_by_name("Web orders to warehouse")
    assert client.pipelines.parameters(job.pipeline_commit_id) == {
        "SOURCE_DIR": "/data/in",
        "BATCH_SIZE": "1000",
        "RECORDS": "",
        "RATE": "",
        "ERROR_SHARE": "",
    }


def test_unknown_parameters_are_detected(client):
    template = client.jobs.find_by_name("Regional orders", templates=True)
    names = ["REGION", "RECORDS", "RECORD", "LANGUAGE"]
    assert client.pipelines.unknown_parameters(template.pipeline_commit_id, names) == {
        "RECORD": "RECORDS",
        "LANGUAGE": None,
    }


def test_future_run_is_found_by_start_time(client, sandbox):
    job = client.jobs.find_by_name("Orders to warehouse")
    latest = job.current_run
    after = latest.finish_time
    assert client.runs.first_since(job.job_id, latest, after) is None
    first = run_to_completion(client, sandbox, "Orders to warehouse")
    again = run_to_completion(client, sandbox, "Orders to warehouse")
    found = client.runs.first_since(job.job_id, again.run, after)
    assert found.run_count == first.run.run_count == again.run.run_count - 1
    tracker = RunTracker(client, job.job_id, latest.run_count + 1, started_after=after, metrics_timeout=0.0)
    assert tracker.poll().run.run_count == first.run.run_count


def test_gray_list_includes_jobs_that_never_ran(client):
    listed = [job.job_id for job in client.jobs.list(color="GRAY")]
    assert listed == [job.job_id for job in client.jobs.list(color="GRAY", search='name=="*"')]
    assert client.jobs.find_by_name("Inventory snapshot").job_id in listed
