"""Starting, stopping and acknowledging many runs at once, of which a part may fail."""

from __future__ import annotations

import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubBulkError,
    ControlHubError,
    ControlHubJobStateError,
    ControlHubNotFoundError,
    ControlHubPermissionError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    ControlHubUnexpectedResponseError,
    Job,
)
from airflow_provider_streamsets.control_hub.job_state import reason_not_balanceable, reason_not_synchronizable
from tests.unit.fakes.api_payloads import (
    AMBIGUOUS_OUTCOMES,
    FORBIDDEN,
    JOBS,
    JR,
    READ_TIMEOUT,
    REFUSED,
    REJECTIONS,
    SEC,
    STATUSES,
    T0,
    UNDELIVERED,
    failed,
    issues_json,
    job_json,
    methods,
    paths,
    run_json,
    succeeded,
)

START, STOP, FORCE_STOP = f"{JOBS}/startJobs", f"{JOBS}/stopJobs", f"{JOBS}/forceStopJobs"
ACKNOWLEDGE, SYNC, BALANCE = f"{JOBS}/acknowledgeErrors", f"{JOBS}/syncJobs", f"{JOBS}/balanceJobs"
REFUSAL = {"status_code": 400, "json": issues_json(("JOBRUNNER_7", "that is not allowed"))}


class Hub:
    """Jobs by their latest runs. An action on many is refused if one cannot be done; then nothing or the rest is."""

    def __init__(self, http, **latest):
        self.latest = {f"{name}:o": run for name, run in latest.items()}
        self.partly = False
        self.late = 0
        self.answers = []
        self.refused = set()
        http.post(JOBS, json=self._jobs)
        http.post(STATUSES, json=self._statuses)
        for url, act in {
            START: self._start,
            STOP: self._stop,
            FORCE_STOP: self._stop,
            ACKNOWLEDGE: self._acknowledge,
        }.items():
            http.post(url, json=self._bulk(act))

    def _jobs(self, request, _):
        return [
            job_json(job_id, job_id.partition(":")[0], currentJobStatus=self.latest[job_id])
            for job_id in request.json()
            if job_id in self.latest
        ]

    def _statuses(self, request, _):
        if self.late:
            self.late -= 1
            return {}
        return {job_id: self.latest.get(job_id) for job_id in request.json()}

    def _bulk(self, act):
        def answer(request, context):
            executed, answer = self.answers.pop(0) if self.answers else (True, {})
            if executed:
                done = {job_id: act(job_id, self.latest[job_id]) for job_id in request.json()}
                refused = None in done.values()
                if not refused or self.partly:
                    self.latest.update({job_id: run for job_id, run in done.items() if run})
                if refused and not answer:
                    answer = REFUSAL
            if "exc" in answer:
                raise answer["exc"]
            context.status_code = answer.get("status_code", 200)
            return answer.get("json")

        return answer

    def _start(self, job_id, run):
        if job_id in self.refused:
            return None
        return run_json((run["runCount"] if run else 0) + 1, "ACTIVATING", jobId=job_id)

    def _stop(self, job_id, run):
        if job_id in self.refused or run["status"] not in {"ACTIVE", "DEACTIVATING"}:
            return None
        return {**run, "status": "DEACTIVATING"}

    def _acknowledge(self, job_id, run):
        if run["status"] != "INACTIVE_ERROR":
            return None
        return {**run, "status": "INACTIVE", "color": "GRAY"}


def posts_to(http, url):
    """Bodies of the requests to an address."""
    return [request.json() for request in http.request_history if request.url == url]


START_PATHS = [f"POST /jobrunner/rest/v1/jobs{path}" for path in ("", "/startJobs", "/status")]


def test_start_many_uses_three_requests(http, client):
    Hub(http, a=None, b=succeeded(3), c=failed(6))
    runs = client.runs.start_many(["c:o", "a:o", "b:o", "a:o"])
    assert {job_id: (run.run_count, run.status) for job_id, run in runs.items()} == {
        "c:o": (7, "ACTIVATING"),
        "a:o": (1, "ACTIVATING"),
        "b:o": (4, "ACTIVATING"),
    }
    assert paths(http) == START_PATHS
    assert posts_to(http, START) == [["c:o", "a:o", "b:o"]]


def test_start_many_does_not_reload_jobs(http, client):
    hub = Hub(http, a=None, b=succeeded(3))
    jobs = [Job.from_wire(job_json(job_id, currentJobStatus=run)) for job_id, run in hub.latest.items()]
    assert {job_id: run.run_count for job_id, run in client.runs.start_many(jobs).items()} == {"a:o": 1, "b:o": 4}
    assert paths(http) == START_PATHS[1:]


def test_start_many_sends_batches(http, make_client):
    Hub(http, a=None, b=None, c=None)
    assert len(make_client(bulk_size=2).runs.start_many(["a:o", "b:o", "c:o"])) == 3
    assert posts_to(http, START) == [["a:o", "b:o"], ["c:o"]]


def test_empty_bulk_calls_send_nothing(http, client):
    assert client.runs.start_many([]) == {}
    assert client.runs.stop_many({}) == []
    assert client.runs.acknowledge([]) == []
    client.runs.synchronize([])
    client.runs.balance([])
    assert http.call_count == 0


def test_missing_job_prevents_all_starts(http, client):
    Hub(http, a=None)
    with pytest.raises(ControlHubNotFoundError, match=r"No jobs with these ids exist: b:o, c:o\. Nothing was done"):
        client.runs.start_many(["a:o", "b:o", "c:o"])
    assert paths(http) == START_PATHS[:1]


def test_unstartable_jobs_prevent_all_starts(http, client):
    Hub(http, a=None, b=run_json(3, "ACTIVE"), c=run_json(3, "INACTIVE_ERROR", "RED", errorMessage="disk full"))
    with pytest.raises(ControlHubJobStateError, match=r"'b' .*is ACTIVE.*'c' .*disk full Nothing was started\."):
        client.runs.start_many(["a:o", "b:o", "c:o"])
    assert paths(http) == START_PATHS[:1]


def test_unstartable_jobs_message_is_truncated(http, client):
    Hub(http, **{f"job{n}": run_json(3) for n in range(12)})
    with pytest.raises(ControlHubJobStateError, match="And 2 more") as caught:
        client.runs.start_many([f"job{n}:o" for n in range(12)])
    assert str(caught.value).count("is ACTIVE") == 10


@pytest.mark.parametrize("end", AMBIGUOUS_OUTCOMES.values(), ids=AMBIGUOUS_OUTCOMES)
def test_lost_response_finds_started_runs(http, client, end):
    hub = Hub(http, a=None, b=succeeded(3))
    if "text" in end:
        answer = hub._bulk(hub._start)
        http.post(START, text=lambda request, context: answer(request, context) or end["text"])
    else:
        hub.answers = [(True, end)]
    runs = client.runs.start_many(["a:o", "b:o"])
    assert {job_id: run.run_count for job_id, run in runs.items()} == {"a:o": 1, "b:o": 4}
    assert len(posts_to(http, START)) == 1


def test_late_runs_are_awaited(http, client, clock):
    hub = Hub(http, a=None, b=succeeded(3))
    hub.late = 2
    assert len(client.runs.start_many(["a:o", "b:o"])) == 2
    assert clock.slept == [2.0, 2.0]
    assert len(posts_to(http, START)) == 1


def test_only_missing_runs_are_polled_again(http, client):
    Hub(http, a=None, b=succeeded(3))
    answers = [{"a:o": run_json(1), "b:o": succeeded(3)}, {"b:o": run_json(4)}]
    http.post(STATUSES, [{"json": answer} for answer in answers])
    client.runs.start_many(["a:o", "b:o"])
    assert posts_to(http, STATUSES) == [["a:o", "b:o"], ["b:o"]]


def test_rejected_bulk_start_leaves_new_runs_active(http, client, caplog):
    """Whether a refused call has started some of the jobs is not known, and others may just have started them."""
    hub = Hub(http, a=None, b=succeeded(3), c=None)
    hub.partly, hub.refused = True, {"b:o"}
    with pytest.raises(ControlHubRejectedError, match="JOBRUNNER_7"):
        client.runs.start_many(["a:o", "b:o", "c:o"])
    assert "started: 'a' (a:o) run 1, started by" in caplog.text
    assert len(posts_to(http, START)) == 1


def test_rejected_bulk_start_withdraws_intents(http, make_client):
    hub = Hub(http, a=None, b=None, c=None)
    http.get(f"{SEC}/currentUser", json={"principalId": run_json(1)["user"]})
    hub.answers = [(True, {}), (False, REFUSAL)]
    announced = []
    with pytest.raises(ControlHubBulkError):
        make_client(bulk_size=1).runs.start_many(["a:o", "b:o", "c:o"], on_submit=announced.append)
    assert [sorted(intents) for intents in announced] == [["a:o"], ["a:o", "b:o"], ["a:o"]]


@pytest.mark.parametrize("delivered", [True, False], ids=["delivered", "not delivered"])
def test_lost_response_affects_only_its_batch(http, make_client, clock, monkeypatch, delivered):
    monkeypatch.setattr(
        "airflow_provider_streamsets.control_hub.submission.wall_clock", lambda: T0 / 1000 + clock.time - 1000
    )
    hub = Hub(http, a=None, b=None, c=None)
    hub.answers = [(True, {}), (delivered, {"exc": READ_TIMEOUT})]
    runs = make_client(bulk_size=1).runs.start_many(["a:o", "b:o", "c:o"])
    assert {job_id: run.run_count for job_id, run in runs.items()} == {"a:o": 1, "b:o": 1, "c:o": 1}
    assert posts_to(http, START) == [["a:o"], ["b:o"], ["c:o"]] + ([] if delivered else [["b:o"]])


@pytest.mark.parametrize("in_history", [True, False])
def test_short_run_is_found_in_history(http, client, in_history):
    """Another task with the same credential starts the job again between two polls."""
    Hub(http, a=None)
    http.post(START, content=b"")
    http.post(STATUSES, json={"a:o": run_json(2)})
    runs = [run_json(2), succeeded(1)] if in_history else []
    http.get(f"{JR}/saql/jobs/search/a:o/runs", json={"totalCount": len(runs), "offset": 0, "len": 250, "data": runs})
    assert client.runs.start_many(["a:o"])["a:o"].run_count == (1 if in_history else 2)


def test_each_batch_has_its_own_request_time(http, make_client, monkeypatch):
    """The call of a late batch can be sent minutes after the first."""
    Hub(http, a=None, b=None)
    http.get(f"{SEC}/currentUser", json={"principalId": run_json(1)["user"]})
    times = iter([1000.0, 2000.0])
    monkeypatch.setattr("airflow_provider_streamsets.control_hub.submission.wall_clock", lambda: next(times, 2000.0))
    announced = {}
    make_client(bulk_size=1).runs.start_many(["a:o", "b:o"], on_submit=announced.update)
    assert (announced["a:o"].requested_at, announced["b:o"].requested_at) == (1000.0, 2000.0)


def test_rejected_bulk_start_is_not_retried(http, client, clock):
    hub = Hub(http, a=None, b=succeeded(3))
    hub.refused = {"b:o"}
    with pytest.raises(ControlHubRejectedError, match=r"Cannot start 2 jobs: .*JOBRUNNER_7 - that is not allowed"):
        client.runs.start_many(["a:o", "b:o"])
    assert len(posts_to(http, START)) == 1
    assert sum(clock.slept) < 10


@pytest.mark.parametrize(("status", "error"), [(401, ControlHubAuthenticationError), (403, ControlHubPermissionError)])
def test_unauthorized_bulk_start_fails_at_once(http, client, clock, status, error):
    hub = Hub(http, a=None, b=None)
    hub.answers = [(False, {**FORBIDDEN, "status_code": status})]
    with pytest.raises(error, match="Cannot start 2 jobs"):
        client.runs.start_many(["a:o", "b:o"])
    assert clock.slept == []
    assert paths(http) == START_PATHS[:2]


def test_rejected_batch_reports_started_batches(http, make_client):
    hub = Hub(http, a=None, b=None, c=None)
    hub.answers = [(True, {}), (False, FORBIDDEN)]
    with pytest.raises(ControlHubBulkError, match=r"2 of 3 jobs were not started: 'b' .*; 'c' .*403") as caught:
        make_client(bulk_size=1).runs.start_many(["a:o", "b:o", "c:o"])
    assert caught.value.done == {"a:o": 1}
    assert posts_to(http, START) == [["a:o"], ["b:o"]]


@pytest.mark.parametrize("end", UNDELIVERED.values(), ids=UNDELIVERED)
def test_undelivered_bulk_start_is_retried(http, client, end):
    hub = Hub(http, a=None)
    hub.answers = [(False, end), (False, end)]
    assert client.runs.start_many(["a:o"])["a:o"].run_count == 1
    assert len(posts_to(http, START)) == 3


@pytest.mark.parametrize("end", UNDELIVERED.values(), ids=UNDELIVERED)
def test_undelivered_bulk_start_fails_as_not_executed(http, make_client, end):
    hub = Hub(http, a=None)
    hub.answers = [(False, end)] * 2
    with pytest.raises(ControlHubUnavailableError, match="Cannot start job a:o") as caught:
        make_client(max_attempts=2).runs.start_many(["a:o"])
    assert caught.value.maybe_executed is False


@pytest.mark.parametrize("end", AMBIGUOUS_OUTCOMES.values(), ids=AMBIGUOUS_OUTCOMES)
def test_bulk_start_is_retried_after_gateway_timeout(http, make_client, clock, end, monkeypatch):
    monkeypatch.setattr(
        "airflow_provider_streamsets.control_hub.submission.wall_clock", lambda: T0 / 1000 + clock.time - 1000
    )
    Hub(http, a=None, b=succeeded(3))
    http.post(START, **end)
    with pytest.raises(ControlHubError, match="Cannot start 2 jobs"):
        make_client(gateway_timeout=90).runs.start_many(["a:o", "b:o"])
    assert len(posts_to(http, START)) == 3
    assert sum(clock.slept) == pytest.approx(3 * 90)


def test_accepted_start_without_runs_is_not_retried(http, client):
    Hub(http, a=None, b=succeeded(3), c=None)
    http.post(START, content=b"")
    http.post(STATUSES, json={"c:o": run_json(1)})
    with pytest.raises(
        ControlHubBulkError, match=r"2 of 3 jobs were not started: .*accepted the request, but"
    ) as caught:
        client.runs.start_many(["a:o", "b:o", "c:o"])
    assert caught.value.done == {"c:o": 1}
    assert len(posts_to(http, START)) == 1


@pytest.mark.parametrize("poll", [{"status_code": 503}, {"exc": REFUSED}, {"status_code": 401}, {"text": "<html>"}])
@pytest.mark.parametrize("end", [{"exc": READ_TIMEOUT}, {"content": b""}], ids=["unclear", "accepted"])
def test_unconfirmed_bulk_start_is_not_retried(http, client, end, poll):
    Hub(http, a=None, b=None)
    http.post(START, **end)
    http.post(STATUSES, **poll)
    with pytest.raises(
        ControlHubUnavailableError, match=r"Could not determine whether these jobs were started: 'a' .*; 'b' "
    ) as caught:
        client.runs.start_many(["a:o", "b:o"])
    assert caught.value.maybe_executed is True
    assert len(posts_to(http, START)) == 1


def test_single_failed_poll_is_tolerated(http, kill_client):
    Hub(http, a=None)
    http.post(STATUSES, [{"status_code": 503}, {"json": {"a:o": run_json(1)}}])
    assert kill_client.runs.start_many(["a:o"])["a:o"].run_count == 1


def test_partially_confirmed_start_reports_known_runs(http, make_client):
    Hub(http, a=None, b=None, c=None)
    http.post(STATUSES, [{"json": {"a:o": run_json(1)}}, {"status_code": 503}])
    with pytest.raises(
        ControlHubBulkError, match=r"Could not determine whether these jobs were started: 'b' .*; 'c' "
    ) as caught:
        make_client(bulk_size=1, max_attempts=1).runs.start_many(["a:o", "b:o", "c:o"])
    assert caught.value.done == {"a:o": 1}
    assert posts_to(http, START) == [["a:o"], ["b:o"], ["c:o"]]


STOP_PATHS = ["POST /jobrunner/rest/v1/jobs/status", "POST /jobrunner/rest/v1/jobs/stopJobs"]


@pytest.mark.parametrize("status", ["ACTIVE", "DEACTIVATING"])
def test_stop_many_uses_two_requests(http, client, status):
    Hub(http, a=run_json(3, status), b=run_json(7, "ACTIVE", "RED"))
    assert client.runs.stop_many({"a:o": 3, "b:o": 7}) == ["a:o", "b:o"]
    assert paths(http) == STOP_PATHS
    assert posts_to(http, STOP) == [["a:o", "b:o"]]


def test_stop_many_stops_only_given_active_runs(http, client):
    hub = Hub(
        http,
        named=run_json(3),
        before=run_json(4),
        later=run_json(2),
        ended=succeeded(3),
        error=run_json(3, "INACTIVE_ERROR", "RED"),
        never=None,
        other=run_json(3),
    )
    runs = {f"{name}:o": 3 for name in ("named", "before", "later", "ended", "error", "never", "gone")}
    assert client.runs.stop_many(runs) == ["named:o"]
    assert posts_to(http, STOP) == [["named:o"]]
    assert hub.latest["before:o"]["status"] == hub.latest["other:o"]["status"] == "ACTIVE"


def test_ended_runs_need_no_stop(http, client):
    Hub(http, a=succeeded(3))
    assert client.runs.stop_many({"a:o": 3}) == []
    assert paths(http) == STOP_PATHS[:1]


def test_stop_many_can_force(http, client):
    Hub(http, a=run_json(3, "DEACTIVATING"))
    assert client.runs.stop_many({"a:o": 3}, force=True) == ["a:o"]
    assert posts_to(http, FORCE_STOP) == [["a:o"]]
    assert posts_to(http, STOP) == []


def test_ambiguous_stop_batches_are_retried(http, make_client):
    hub = Hub(http, a=run_json(3), b=run_json(3), c=run_json(3))
    hub.answers = [(True, {"exc": READ_TIMEOUT}), (True, {}), (True, {"status_code": 503})]
    assert make_client(bulk_size=2).runs.stop_many({"a:o": 3, "b:o": 3, "c:o": 3}) == ["a:o", "b:o", "c:o"]
    assert posts_to(http, STOP) == [["a:o", "b:o"], ["a:o", "b:o"], ["c:o"], ["c:o"]]


@pytest.mark.parametrize("max_wait", [0.0, 60.0])
@pytest.mark.parametrize("status", [404, 403])
@pytest.mark.parametrize("end", [succeeded(3), run_json(4, "ACTIVATING"), None], ids=["ended", "restarted", "gone"])
def test_run_ending_meanwhile_does_not_block_stops(http, client, max_wait, status, end):
    hub = Hub(http, a=run_json(3), b=run_json(3))
    stop_all = hub._bulk(hub._stop)

    def stop(request, context):
        if len(posts_to(http, STOP)) == 1:
            hub.latest["a:o"] = end
        return stop_all(request, context) if end is not None or request.json() == ["b:o"] else refuse(context)

    def refuse(context):
        context.status_code = status
        return REFUSAL["json"]

    http.post(STOP, json=stop)
    assert "b:o" in client.runs.stop_many({"a:o": 3, "b:o": 3}, max_wait=max_wait)
    assert hub.latest["b:o"]["status"] == "DEACTIVATING"
    assert posts_to(http, STOP) == [["a:o", "b:o"], ["b:o"]]


def test_rejected_stop_raises_without_max_wait(http, client, clock):
    hub = Hub(http, a=run_json(3), b=run_json(3, "ACTIVATING"))
    with pytest.raises(ControlHubRejectedError, match=r"Cannot stop job b:o: .*JOBRUNNER_7"):
        client.runs.stop_many({"a:o": 3, "b:o": 3})
    assert clock.slept == []
    # The other one is stopped anyway.
    assert hub.latest["a:o"]["status"] == "DEACTIVATING"
    assert posts_to(http, STOP) == [["a:o"], ["b:o"]]


def test_activating_run_is_stopped_within_max_wait(http, client, clock):
    hub = Hub(http, a=run_json(3), b=run_json(3, "ACTIVATING"))
    sleep = clock.sleep

    def activate_after_a_while(seconds):
        sleep(seconds)
        if sum(clock.slept) >= 6:
            hub.latest["b:o"] = run_json(3, "ACTIVE")

    client.sleep = activate_after_a_while
    assert client.runs.stop_many({"a:o": 3, "b:o": 3}, max_wait=60.0) == ["a:o", "b:o"]
    # The one that can be stopped does not wait for the other.
    assert posts_to(http, STOP)[0] == ["a:o"]
    assert hub.latest["b:o"]["status"] == "DEACTIVATING"
    assert sum(clock.slept) == 6


def test_activating_run_does_not_repeat_other_stops(http, client, clock):
    hub = Hub(http, a=run_json(3), b=run_json(3), c=run_json(3, "ACTIVATING"))
    sleep = client.sleep

    def activate_after_half_a_minute(seconds):
        sleep(seconds)
        if sum(clock.slept) >= 30:
            hub.latest["c:o"] = run_json(3, "ACTIVE")

    client.sleep = activate_after_half_a_minute
    assert client.runs.stop_many({"a:o": 3, "b:o": 3, "c:o": 3}, max_wait=60.0) == ["a:o", "b:o", "c:o"]
    assert posts_to(http, STOP) == [["a:o", "b:o"], ["c:o"]]
    assert posts_to(http, STATUSES) == [["a:o", "b:o", "c:o"], *[["c:o"]] * 15]


def test_rejected_batch_does_not_repeat_accepted_batch(http, make_client, clock):
    hub = Hub(http, a=run_json(3), b=run_json(3))
    hub.answers = [(True, {}), (False, REFUSAL), (True, {})]
    assert make_client(bulk_size=1).runs.stop_many({"a:o": 3, "b:o": 3}, max_wait=60.0) == ["a:o", "b:o"]
    assert posts_to(http, STOP) == [["a:o"], ["b:o"], ["b:o"]]
    assert sum(clock.slept) == 2


def test_rejected_stop_raises_after_max_wait(http, client, clock):
    hub = Hub(http, a=run_json(3))
    hub.refused = {"a:o"}
    with pytest.raises(ControlHubRejectedError, match="JOBRUNNER_7"):
        client.runs.stop_many({"a:o": 3}, max_wait=10.0)
    assert 10.0 <= sum(clock.slept) < 20.0


def test_acknowledge_returns_original_errors(http, client):
    error = run_json(3, "INACTIVE_ERROR", "RED", errorMessage="disk full", jobId="a:o")
    hub = Hub(http, a=error, b=succeeded(3), c=failed(3), d=run_json(3), e=None)
    (run,) = client.runs.acknowledge(["a:o", "b:o", "c:o", "d:o", "e:o", "gone:o"])
    assert (run.job_id, run.status, run.color, run.error_message) == ("a:o", "INACTIVE_ERROR", "RED", "disk full")
    assert posts_to(http, ACKNOWLEDGE) == [["a:o"]]
    assert http.call_count == 2
    assert hub.latest["a:o"]["status"] == "INACTIVE"
    assert hub.latest["d:o"]["status"] == "ACTIVE"


def test_acknowledge_skips_jobs_without_error(http, client):
    Hub(http, a=failed(3), b=None)
    assert client.runs.acknowledge(["a:o", "b:o"]) == []
    assert http.call_count == 1


@pytest.mark.parametrize("end", [end for name, end in AMBIGUOUS_OUTCOMES.items() if name != "200 with HTML"])
def test_acknowledge_survives_lost_response(http, client, end):
    """The repeated call can be refused, as there is nothing left to acknowledge."""
    hub = Hub(http, a=run_json(3, "INACTIVE_ERROR", "RED"), b=run_json(3, "INACTIVE_ERROR", "RED"))
    hub.answers = [(True, end)]
    assert len(client.runs.acknowledge(["a:o", "b:o"])) == 2
    assert hub.latest["a:o"]["status"] == "INACTIVE"


def test_rejected_acknowledgement_raises(http, client):
    hub = Hub(http, a=run_json(3, "INACTIVE_ERROR", "RED"))
    hub.answers = [(False, REFUSAL)]
    with pytest.raises(ControlHubRejectedError, match=r"Cannot acknowledge the error of job a:o: .*JOBRUNNER_7"):
        client.runs.acknowledge(["a:o"])


def test_acknowledge_can_wait_for_effect(http, client, clock):
    error, done = run_json(3, "INACTIVE_ERROR", "RED", jobId="a:o"), succeeded(3, jobId="a:o")
    http.post(ACKNOWLEDGE, content=b"")
    http.post(STATUSES, [{"json": {"a:o": run}} for run in (error, error, error, done)])
    (run,) = client.runs.acknowledge(["a:o"], max_wait=60.0)
    assert run.status == "INACTIVE_ERROR"
    assert len(clock.slept) == 2
    assert len(posts_to(http, ACKNOWLEDGE)) == 1


def test_acknowledge_wait_times_out(http, client, clock):
    http.post(ACKNOWLEDGE, content=b"")
    http.post(STATUSES, json={"a:o": run_json(3, "INACTIVE_ERROR", "RED", jobId="a:o")})
    with pytest.raises(ControlHubUnexpectedResponseError, match="10 s later these jobs are still INACTIVE_ERROR: a:o"):
        client.runs.acknowledge(["a:o"], max_wait=10.0)
    assert 10.0 <= sum(clock.slept) < 20.0


@pytest.mark.parametrize(
    ("url", "act", "verb"),
    [
        (SYNC, lambda client, ids: client.runs.synchronize(ids), "synchronize"),
        (BALANCE, lambda client, ids: client.runs.balance(ids), "balance"),
    ],
)
def test_synchronize_and_balance_send_batches(http, make_client, url, act, verb):
    http.post(url, content=b"")
    assert act(make_client(bulk_size=2), ["a:o", "b:o", "a:o", "c:o"]) is None
    assert [request.json() for request in http.request_history] == [["a:o", "b:o"], ["c:o"]]
    assert {request.url for request in http.request_history} == {url}
    http.post(url, **REJECTIONS["400"])
    with pytest.raises(ControlHubRejectedError, match=f"Cannot {verb} job a:o: .*JOBRUNNER_7"):
        act(make_client(), ["a:o"])


def test_ambiguous_synchronize_is_retried(http, client):
    http.post(SYNC, [{"exc": READ_TIMEOUT}, {"status_code": 503}, {"content": b""}])
    client.runs.synchronize(["a:o"])
    assert methods(http) == ["POST"] * 3


@pytest.mark.parametrize("end", [end for name, end in AMBIGUOUS_OUTCOMES.items() if name != "200 with HTML"])
def test_ambiguous_balance_is_not_retried(http, client, end):
    http.post(BALANCE, **end)
    with pytest.raises(ControlHubUnavailableError, match="Cannot balance job a:o") as caught:
        client.runs.balance(["a:o"])
    assert caught.value.maybe_executed is True
    assert http.call_count == 1


@pytest.mark.parametrize("end", UNDELIVERED.values(), ids=UNDELIVERED)
def test_undelivered_balance_is_retried(http, client, end):
    http.post(BALANCE, [end, {"content": b""}])
    client.runs.balance(["a:o"])
    assert http.call_count == 2


@pytest.mark.parametrize(
    ("fields", "synchronizing", "balancing"),
    [
        ({"currentJobStatus": run_json(3)}, None, None),
        ({"currentJobStatus": run_json(3), "migrateOffsets": False}, None, "has failover disabled"),
        ({"currentJobStatus": run_json(3, "ACTIVATING")}, "is ACTIVATING", "is ACTIVATING"),
        ({"currentJobStatus": run_json(3, None)}, "is in an unknown state", "is in an unknown state"),
        ({"currentJobStatus": succeeded(3)}, "is INACTIVE", "is INACTIVE"),
        ({}, "has never run", "has never run"),
        ({"jobTemplate": True}, "is a job template", "is a job template"),
    ],
)
def test_synchronize_and_balance_explain_inapplicable_jobs(fields, synchronizing, balancing):
    job = Job.from_wire(job_json(**fields))
    assert (reason_not_synchronizable(job), reason_not_balanceable(job)) == (synchronizing, balancing)
