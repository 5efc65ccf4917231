from __future__ import annotations

import contextlib
import logging
import re
import threading
from types import SimpleNamespace

import pytest
import requests
import requests_mock
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubClient,
    ControlHubPermissionError,
    ControlHubRunLostError,
    ControlHubRunTimeoutError,
    Outcome,
)
from airflow_provider_streamsets.control_hub.deadline import Deadline
from airflow_provider_streamsets.control_hub.models import JobRun, RunRef
from airflow_provider_streamsets.control_hub.tracking.run_group import (
    RunGroup,
    sum_metrics,
    unfinished_result,
)
from airflow_provider_streamsets.control_hub.tracking.wait import wait_for_runs
from tests.unit.fakes.api_payloads import CREDENTIAL_ID, TOKEN, VirtualClock
from tests.unit.fakes.multi_job_hub import (
    MultiJobHub,
    activating,
    active,
    deactivating,
    errored,
    failed,
    job_id,
    succeeded,
)
from tests.unit.fakes.single_job_hub import COUNTERS, HUB, T0

STATUSES = f"{HUB}/jobrunner/rest/v1/jobs/status"


@pytest.fixture
def client(make_client):
    return make_client(HUB, max_attempts=1)


@pytest.fixture
def group_of(client, clock):
    """Makes groups of the first runs of jobs."""

    def make(*names, run_count=1, metrics_timeout=0.0, log=None):
        runs = [RunRef(job_id(name), run_count, name) for name in names]
        return RunGroup(client, runs, metrics_timeout=metrics_timeout, now=clock.now, log=log)

    return make


@pytest.fixture
def wait(clock):
    def wait_for(group, poll_interval=30, timeout=None, total=None, **arguments):
        deadline = Deadline(timeout, total=total, sleep=clock.sleep, now=clock.now)
        wait_for_runs(group, deadline, poll_interval=poll_interval, **arguments)
        return group

    return wait_for


def outcomes(group):
    return {identifier.removesuffix(":org"): report.outcome.value for identifier, report in group.reports.items()}


def requests_for(http, part):
    return [request for request in http.request_history if part in request.url]


def test_all_runs_are_polled_in_one_request(http, group_of, wait, clock):
    hub = MultiJobHub(http, **{f"job{n}": [None, activating(), active(), succeeded()] for n in range(20)})
    group = wait(group_of(*(f"job{n}" for n in range(20))))
    assert set(outcomes(group).values()) == {"SUCCEEDED"}
    assert [len(poll) for poll in hub.polls] == [20, 20, 20]
    assert clock.slept == [30, 30]


def test_large_group_is_polled_in_batches(http, make_client, clock, wait):
    hub = MultiJobHub(http, **{f"job{n}": [succeeded()] for n in range(5)})
    client = make_client(HUB, max_attempts=1, bulk_size=2)
    group = RunGroup(client, [RunRef(job_id(f"job{n}"), 1) for n in range(5)], metrics_timeout=0, now=clock.now)
    assert len(outcomes(wait(group))) == 5
    assert [len(poll) for poll in hub.polls] == [2, 2, 1]


def test_ended_runs_are_not_polled_again(http, group_of, wait):
    hub = MultiJobHub(http, quick=[succeeded()], slow=[active(), active(), active(), succeeded()])
    wait(group_of("quick", "slow"))
    assert hub.polls == [["quick:org", "slow:org"], ["slow:org"], ["slow:org"]]


def test_details_are_read_once_after_end(http, group_of, wait):
    MultiJobHub(http, quick=[succeeded()], slow=[active(), active(), active(), succeeded()])
    group = group_of("quick", "slow")
    group.poll()
    assert [r.path for r in requests_for(http, "jobStatusHistory")] == [
        "/jobrunner/rest/v1/job/run-quick-1:org/jobstatushistory"
    ]
    wait(group)
    assert len(requests_for(http, "jobStatusHistory")) == 2


def test_previous_run_is_not_mistaken_for_tracked_run(http, group_of, wait):
    MultiJobHub(http, a=[failed(3), failed(3), failed(3), active(4), succeeded(4)])
    group = wait(group_of("a", run_count=4))
    assert group.reports["a:org"].run.run_count == 4
    assert outcomes(group) == {"a": "SUCCEEDED"}


def test_restarted_job_is_resolved_from_history(http, group_of, wait):
    hub = MultiJobHub(http, a=[active(), active(2)], b=[succeeded()])
    hub.history["a"] = [active(2), failed(1, "RUN_ERROR: broken")]
    group = wait(group_of("a", "b"))
    assert outcomes(group) == {"a": "FAILED", "b": "SUCCEEDED"}
    assert "RUN_ERROR: broken" in group.failures["a:org"]


def test_missing_job_is_lost_after_three_polls(http, group_of, wait):
    hub = MultiJobHub(http, gone=[None], stays=[active(), active(), active(), active(), active(), succeeded()])
    del hub.latest["gone:org"]
    group = wait(group_of("gone", "stays"))
    assert outcomes(group) == {"stays": "SUCCEEDED"}
    assert isinstance(group.unresolved["gone:org"], ControlHubRunLostError)
    assert "the job does not exist any more" in group.failures["gone:org"]
    assert [len(poll) for poll in hub.polls] == [2, 2, 2, 1, 1]


def test_late_run_is_not_missing(http, group_of, wait):
    MultiJobHub(http, a=[None, None, None, None, None, None, None, active(), succeeded()])
    assert outcomes(wait(group_of("a"))) == {"a": "SUCCEEDED"}


@pytest.mark.parametrize("status", [400, 404])
def test_bad_id_does_not_affect_others(http, group_of, wait, status):
    hub = MultiJobHub(http, bad=[active()], good=[active(), active(), succeeded()], better=[succeeded()])
    hub.bad["bad:org"] = status
    del hub.latest["bad:org"]
    group = wait(group_of("bad", "good", "better"))
    assert outcomes(group) == {"good": "SUCCEEDED", "better": "SUCCEEDED"}
    assert isinstance(group.unresolved["bad:org"], ControlHubRunLostError)


def test_forbidden_job_is_no_longer_polled(http, group_of, wait):
    hub = MultiJobHub(http, secret=[active()], open=[active(), active(), active(), succeeded()])
    hub.bad["secret:org"] = 403
    group = wait(group_of("secret", "open"))
    assert outcomes(group) == {"open": "SUCCEEDED"}
    assert isinstance(group.unresolved["secret:org"], ControlHubPermissionError)
    polls = [request.json() for request in http.request_history if request.path.endswith("/jobs/status")]
    assert polls.count(["secret:org", "open:org"]) == 1
    assert polls.count(["secret:org"]) == 3
    assert hub.polls == [["open:org"]] * 3


def test_single_forbidden_job_raises(http, group_of, wait):
    hub = MultiJobHub(http, secret=[active()])
    hub.bad["secret:org"] = 403
    with pytest.raises(ControlHubPermissionError):
        wait(group_of("secret"))


def test_unauthorized_poll_ends_wait(http, group_of, wait, clock):
    MultiJobHub(http, a=[active()], b=[active()])
    http.post(STATUSES, status_code=401)
    with pytest.raises(ControlHubAuthenticationError):
        wait(group_of("a", "b"))
    assert clock.slept == []


def test_outage_is_tolerated_and_logged_once(http, group_of, wait, caplog):
    hub = MultiJobHub(http, a=[active(), active(), succeeded()], b=[succeeded()])
    hub.failing_polls = [503] * 50
    with caplog.at_level(logging.INFO):
        group = wait(group_of("a", "b"))
    assert set(outcomes(group).values()) == {"SUCCEEDED"}
    assert caplog.text.count("Still waiting; retrying at the next poll") == 1
    assert caplog.text.count("Control Hub responds again after 50 failed polls") == 1


def test_outage_during_details_is_tolerated(http, group_of, wait):
    MultiJobHub(http, a=[succeeded()], b=[succeeded()])
    answers = [{"status_code": 503}, {"status_code": 503}, {"json": []}]
    http.get(f"{HUB}/jobrunner/rest/v1/job/run-a-1:org/jobStatusHistory", answers)
    assert outcomes(wait(group_of("a", "b"))) == {"b": "SUCCEEDED", "a": "SUCCEEDED"}


def test_final_metrics_are_awaited_per_run(http, group_of, wait, clock):
    hub = MultiJobHub(http, early=[succeeded()], late=[succeeded()])
    hub.saves("early")
    group = group_of("early", "late", metrics_timeout=60)
    wait(group, poll_interval=20)
    assert group.reports["early:org"].metrics_final
    assert (group.reports["late:org"].metrics, group.reports["late:org"].metrics_final) == (None, False)
    assert clock.slept == [5.0] * 12
    assert len(requests_for(http, "job/early:org/recordCountsForAllRuns")) == 1


def test_metrics_of_ended_runs_are_read_in_parallel(http, client, group_of, wait, monkeypatch):
    names = [f"job{n}" for n in range(16)]
    MultiJobHub(http, **{name: [succeeded()] for name in names})
    together, of_run, threads = threading.Barrier(8, timeout=20), client.metrics.of_run, set()

    def of_run_when_eight_ask(*arguments, **options):
        threads.add(threading.current_thread())
        together.wait()
        return of_run(*arguments, **options)

    monkeypatch.setattr(client.metrics, "of_run", of_run_when_eight_ask)
    assert len(outcomes(wait(group_of(*names)))) == 16
    assert len(threads) == 8


def test_parallel_reads_keep_report_and_log_order(http, client, group_of, wait, monkeypatch):
    MultiJobHub(http, a=[succeeded()], b=[succeeded()], c=[succeeded()])
    later_are_read = [threading.Event() for _ in range(2)]

    def of_run_in_reverse_order(identifier, *arguments, **options):
        position = "abc".index(identifier[0])
        if position < 2:
            assert later_are_read[position].wait(20)
        if position:
            later_are_read[position - 1].set()
        raise ControlHubPermissionError(f"no metrics of {identifier}")

    monkeypatch.setattr(client.metrics, "of_run", of_run_in_reverse_order)
    lines = []

    def note(message, *arguments):
        lines.append((threading.current_thread(), message % arguments if arguments else message))

    group = wait(group_of("a", "b", "c", log=SimpleNamespace(info=note, warning=note)))
    assert list(group.reports) == ["a:org", "b:org", "c:org"]
    assert [line[:7] for _, line in lines if "could not read its metrics. no metrics" in line] == [
        "Job 'a'",
        "Job 'b'",
        "Job 'c'",
    ]
    assert {thread for thread, _ in lines} == {threading.current_thread()}


def test_single_ended_run_uses_no_thread(http, client, group_of, wait, monkeypatch):
    MultiJobHub(http, a=[succeeded()], b=[active(), active(), succeeded()])
    of_run, threads = client.metrics.of_run, []

    def noting_of_run(*arguments, **options):
        threads.append(threading.current_thread())
        return of_run(*arguments, **options)

    monkeypatch.setattr(client.metrics, "of_run", noting_of_run)
    assert len(outcomes(wait(group_of("a", "b")))) == 2
    assert threads == [threading.current_thread()] * 2


class Hanging:
    """Answers nothing until the read time-out of a request; eight requests of a pool take as long as one."""

    def __init__(self, clock, at_a_time=8):
        self.clock, self.at_a_time, self.requests = clock, at_a_time, 0

    def __call__(self, request, _):
        if self.requests % self.at_a_time == 0:
            self.clock.time += request.timeout[1]
        self.requests += 1
        raise requests.exceptions.ReadTimeout


@pytest.mark.parametrize("jobs", [16, 96])
def test_hanging_history_of_restarted_jobs_keeps_deadline(http, group_of, wait, clock, jobs):
    MultiJobHub(http, **{f"job{n}": [active(), active(2)] for n in range(jobs)})
    http.get(re.compile("/saql/jobs/search/"), json=Hanging(clock))
    with pytest.raises(ControlHubRunTimeoutError):
        wait(group_of(*(f"job{n}" for n in range(jobs))), timeout=120)
    assert clock.time - 1000 <= 120 + 10


def test_hanging_time_series_keeps_deadline(http, group_of, wait, clock):
    names = [f"job{n}" for n in range(96)]
    MultiJobHub(http, **{name: [succeeded()] for name in names})
    http.get(re.compile("/timeseries/"), json=Hanging(clock))
    with contextlib.suppress(ControlHubRunTimeoutError):
        wait(group_of(*names, metrics_timeout=30), timeout=120)
    assert clock.time - 1000 <= 120 + 60 + 10


def test_hanging_time_series_without_deadline_is_bounded(http, group_of, wait, clock):
    names = [f"job{n}" for n in range(250)]
    MultiJobHub(http, **{name: [succeeded()] for name in names})
    http.get(re.compile("/timeseries/"), json=Hanging(clock))
    http.get(COUNTERS, json=Hanging(clock))
    lines = []

    def note(message, *arguments):
        lines.append(message % arguments if arguments else message)

    group = wait(group_of(*names, log=SimpleNamespace(info=note, warning=note)))
    assert set(outcomes(group).values()) == {"SUCCEEDED"}
    assert clock.time - 1000 <= 300
    (said,) = [line for line in lines if "is too slow" in line]
    assert "metrics not received in that time are missing" in said
    assert sum(" run 1: could not read its metrics" in line for line in lines) >= 250


def test_hanging_time_series_of_sequential_runs_is_bounded(http, group_of, wait, clock):
    names = [f"job{n}" for n in range(50)]
    MultiJobHub(http, **{name: [active()] * n + [succeeded()] for n, name in enumerate(names)})
    http.get(re.compile("/timeseries/"), json=Hanging(clock, at_a_time=1))
    group = wait(group_of(*names))
    assert group.is_done
    assert clock.time - 1000 - sum(clock.slept) <= 240


def test_slow_reads_do_not_affect_later_metrics(http, group_of, wait, clock):
    """One bad hour of a wait does not cost the metrics of all runs that end in the days after it."""
    MultiJobHub(http, late=[active()] * 200 + [succeeded()], **{f"job{n}": [succeeded()] for n in range(50)})
    hanging, timeouts = Hanging(clock), []

    def answer(request, context):
        timeouts.append(request.timeout[1])
        if len(timeouts) <= 50:
            return hanging(request, context)
        return {"1": {"inputCount": 1, "outputCount": 1, "runCount": 1, "lastUpdatedOn": T0}}

    http.get(re.compile("/timeseries/"), json=answer)
    group = wait(group_of("late", *(f"job{n}" for n in range(50))))
    assert group.reports["late:org"].metrics is not None
    assert (min(timeouts), timeouts[-1]) == (2.0, 60.0)


def test_hanging_events_without_deadline_are_abandoned(http, group_of, wait, clock):
    names = [f"job{n}" for n in range(100)]
    MultiJobHub(http, **{name: [succeeded()] for name in names})
    http.get(re.compile("/jobStatusHistory"), json=Hanging(clock))
    assert len(outcomes(wait(group_of(*names)))) == 100
    assert clock.time - 1000 <= 900


def test_slow_metrics_are_not_skipped(http, group_of, wait, clock):
    names = [f"job{n}" for n in range(250)]
    hub = MultiJobHub(http, **{name: [succeeded()] for name in names})

    def slow(request, _):
        clock.time += 1
        return {"1": {"inputCount": 1, "outputCount": 1, "runCount": 1, "lastUpdatedOn": T0}}

    http.get(re.compile("/timeseries/"), json=slow)
    group = wait(group_of(*names))
    assert hub.polls
    assert all(report.metrics is not None for report in group.reports.values())


def test_all_ended_runs_are_read_at_deadline(http, group_of, wait, clock):
    MultiJobHub(http, **{f"job{n}": [succeeded()] for n in range(40)})
    assert len(outcomes(wait(group_of(*(f"job{n}" for n in range(40))), timeout=0))) == 40


def test_unanswered_runs_do_not_block_others(http, group_of):
    bad, good = [f"bad{n}" for n in range(9)], [f"good{n}" for n in range(9)]
    MultiJobHub(http, **{name: [succeeded()] for name in bad + good})
    http.get(re.compile("/job/run-bad.*/jobStatusHistory"), status_code=503)
    group = group_of(*bad, *good)
    group.poll()
    assert len(requests_for(http, "jobStatusHistory")) == 8
    group.poll()
    assert list(group.reports) == [job_id(name) for name in good]


def test_failure_is_known_before_metrics(http, group_of):
    MultiJobHub(http, broken=[failed()], going=[active()])
    group = group_of("broken", "going", metrics_timeout=60)
    group.poll()
    assert group.reports == {}
    assert list(group.failures) == ["broken:org"]
    assert "Run 1 failed: RUN_ERROR: JDBC_00" in group.failures["broken:org"]
    assert group.unfinished == {"going:org": 1}


def test_skip_metrics_wait_finishes_group(http, group_of):
    MultiJobHub(http, a=[succeeded()])
    group = group_of("a", metrics_timeout=60)
    group.poll()
    assert not group.is_done
    group.poll(skip_metrics_wait=True)
    assert group.is_done


def test_timeout_names_unfinished_runs(http, group_of, wait, clock):
    MultiJobHub(http, a=[succeeded()], b=[active(), deactivating()], c=[None])
    with pytest.raises(ControlHubRunTimeoutError) as error:
        wait(group_of("a", "b", "c"), timeout=100)
    assert str(error.value) == (
        "2 of 3 runs have not ended within 100 s: job 'b' run 1 (last status: DEACTIVATING/GREEN), job 'c' run 1."
    )
    assert sum(clock.slept) == 100


def test_timeout_reports_total_timeout(http, group_of, wait):
    MultiJobHub(http, a=[active()])
    with pytest.raises(ControlHubRunTimeoutError, match="within 600 s"):
        wait(group_of("a"), timeout=90, total=600)


def test_timeout_message_is_truncated(http, group_of, wait):
    names = [f"job{n:02}" for n in range(12)]
    MultiJobHub(http, **{name: [active()] for name in names})
    with pytest.raises(ControlHubRunTimeoutError, match=r"12 of 12 runs .*job09.*, and 2 more\.$") as error:
        wait(group_of(*names), timeout=10)
    assert "job10" not in str(error.value)


def test_timeout_names_undecided_outcomes(http, group_of, wait):
    MultiJobHub(http, a=[succeeded()], b=[succeeded()])
    http.get(f"{HUB}/jobrunner/rest/v1/job/run-a-1:org/jobStatusHistory", status_code=503)
    with pytest.raises(ControlHubRunTimeoutError, match="1 of 2 runs have ended, but whether they were stopped"):
        wait(group_of("a", "b"), timeout=60)


def test_final_poll_at_deadline_finds_end(http, group_of, wait):
    MultiJobHub(http, a=[active(), active(), succeeded()])
    assert outcomes(wait(group_of("a"), poll_interval=3600, timeout=60)) == {"a": "SUCCEEDED"}


def test_zero_timeout_polls_once(http, group_of, wait, clock):
    MultiJobHub(http, a=[succeeded()])
    assert outcomes(wait(group_of("a"), timeout=0)) == {"a": "SUCCEEDED"}
    assert clock.slept == []


def test_stop_when_ends_wait(http, group_of, wait):
    hub = MultiJobHub(http, a=[active()])
    group = wait(group_of("a"), stop_when=lambda group: len(hub.polls) == 3)
    assert not group.is_done


def test_max_delay_shortens_poll_interval(http, group_of, wait, clock):
    MultiJobHub(http, a=[active(), active(), active(), succeeded()])
    soon = iter([7.0, float("inf")])
    wait(group_of("a"), poll_interval=300, max_delay=lambda: next(soon))
    assert clock.slept == [7.0, 300]


def test_empty_group_is_done(http, group_of, wait):
    group = wait(group_of())
    assert group.is_done
    assert list(group.results()) == []
    assert not http.request_history


def test_results_keep_order_and_keys(http, group_of):
    hub = MultiJobHub(http, a=[active()], b=[succeeded()], c=[None], d=[active()], e=[failed()])
    hub.bad["d:org"] = 403
    hub.saves("b")
    group = group_of("e", "d", "c", "b", "a")
    for _ in range(3):
        group.poll()
    results = list(group.results())
    assert [result["job_name"] for result in results] == ["e", "d", "c", "b", "a"]
    assert [result["outcome"] for result in results] == ["FAILED", None, None, "SUCCEEDED", None]
    assert [result["status"] for result in results] == ["INACTIVE", None, None, "INACTIVE", "ACTIVE"]
    assert [result["run_count"] for result in results] == [1] * 5
    assert len({frozenset(result) for result in results}) == 1
    assert results[1]["error_message"].startswith("Cannot read job d:org: ")
    assert results[3]["metrics"]["output_count"] == 90
    assert results[4]["metrics"] is None


def test_unfinished_result_has_same_keys(http, group_of, wait):
    MultiJobHub(http, a=[succeeded()])
    (result,) = wait(group_of("a")).results()
    assert set(unfinished_result("a:org", "a", JobRun.from_wire(active()))) == set(result)
    assert unfinished_result("a:org", "a", None)["run_count"] == 0


def test_summed_metrics_skip_missing_metrics(http, group_of, wait):
    hub = MultiJobHub(http, a=[succeeded()], b=[succeeded()], c=[succeeded()])
    hub.saves("a", outputCount=5)
    hub.saves("c", outputCount=7, errorCount=1)
    results = list(wait(group_of("a", "b", "c")).results())
    assert sum_metrics(results) == {
        "input_count": 200,
        "output_count": 12,
        "error_count": 8,
        "stage_errors_count": 6,
        "total_error_count": 14,
    }
    results[0]["metrics"]["stage_errors_count"] = None
    assert sum_metrics(results)["stage_errors_count"] is None
    assert sum_metrics([]) == dict.fromkeys(sum_metrics(results), 0)


def test_log_lines_start_with_job_name(http, group_of, wait):
    MultiJobHub(http, a=[active(), active(inputRecordCount=5), failed(message="100 % broken")], b=[succeeded()])
    lines = []

    def note(message, *arguments):
        lines.append(message % arguments if arguments else message)

    wait(group_of("a", "b", log=SimpleNamespace(info=note, warning=note)))
    assert "Job 'a' run 1: ACTIVE/GREEN, 5 records in, 0 out, 0 errors" in lines
    assert "Job 'b' run 1: INACTIVE/GRAY" in lines
    assert any("Run 1 failed: 100 % broken (job 'a')" in line for line in lines)


def test_progress_of_all_runs_is_one_line(http, group_of, wait):
    MultiJobHub(
        http,
        a=[active(inputRecordCount=30 * number, errorRecordCount=number) for number in range(8)] + [succeeded()],
        b=[active(inputRecordCount=100), failed(message="broken")],
        c=[active()] * 8 + [succeeded()],
    )
    lines = []

    def note(message, *arguments):
        lines.append(message % arguments if arguments else message)

    wait(group_of("a", "b", "c", log=SimpleNamespace(info=note, warning=note)))
    progress = [line for line in lines if "records/s" in line]
    assert progress
    assert all(line.startswith("1 of 3 runs have ended (1 failed): ") for line in progress)


ENDS = {"SUCCEEDED": succeeded, "FAILED": failed, "FAILED ": errored}
STEPS = st.sampled_from([activating, active, deactivating, lambda run_count: succeeded(run_count - 1), None])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(2, 5), st.lists(STEPS, max_size=6), st.sampled_from(sorted(ENDS)), st.booleans()),
        min_size=1,
        max_size=6,
    ),
    st.lists(st.sampled_from([500, 503, 429, 404, 400]), max_size=4),
)
def test_every_run_gets_its_own_outcome(runs, outages):
    with requests_mock.Mocker() as http:
        hub = MultiJobHub(http)
        for n, (run_count, steps, end, restarted) in enumerate(runs):
            ended = ENDS[end](run_count)
            script = [step(run_count) if step else None for step in steps]
            hub.add(f"job{n}", [None, *script, ended, *([active(run_count + 1)] if restarted else [])])
            hub.history[f"job{n}"] = [active(run_count + 1), ended, failed(run_count - 1)]
        hub.failing_polls = list(outages)
        clock = VirtualClock()
        with ControlHubClient(HUB, CREDENTIAL_ID, TOKEN, sleep=clock.sleep, max_attempts=1) as client:
            references = [RunRef(job_id(f"job{n}"), run_count) for n, (run_count, *_) in enumerate(runs)]
            group = RunGroup(client, references, metrics_timeout=0, now=clock.now)
            wait_for_runs(group, Deadline(None, sleep=clock.sleep, now=clock.now), poll_interval=30)
        assert group.unresolved == {}
        for n, (run_count, _, end, _) in enumerate(runs):
            report = group.reports[job_id(f"job{n}")]
            assert (report.outcome, report.run.run_count) == (Outcome(end.strip()), run_count)
