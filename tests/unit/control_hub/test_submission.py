"""Starting a job: exactly one run, whatever happens to the call that starts it."""

from __future__ import annotations

import email.utils
import http.client

import pytest
import requests
import urllib3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubError,
    ControlHubJobStateError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    ControlHubUnexpectedResponseError,
)
from airflow_provider_streamsets.control_hub.models import Job
from airflow_provider_streamsets.control_hub.submission import remaining_delivery_time
from tests.unit.fakes.api_payloads import (
    CURRENT,
    FAILURES,
    HISTORY,
    JOB,
    JOB_ID,
    ME,
    READ_TIMEOUT,
    REFUSED,
    START,
    T0,
    USER,
    issues_json,
    job_json,
    payload,
)
from tests.unit.fakes.api_payloads import failed as failed_long_ago
from tests.unit.fakes.api_payloads import run_json as run_at_its_hour
from tests.unit.fakes.api_payloads import succeeded as succeeded_long_ago

MINUTES = 60_000


def run_json(run_count, status="ACTIVE", color="GREEN", **fields):
    """A run that was started now."""
    return run_at_its_hour(run_count, status, color, **{"startTime": T0, **fields})


def succeeded(run_count):
    return {**succeeded_long_ago(run_count), "startTime": T0}


def failed(run_count):
    return {**failed_long_ago(run_count), "startTime": T0}


@pytest.fixture(autouse=True)
def now(monkeypatch):
    monkeypatch.setattr("airflow_provider_streamsets.control_hub.submission.wall_clock", lambda: T0 / 1000)


@pytest.fixture(name="http")
def http_with_current_user(http):
    http.get(USER, json={"principalId": ME})
    return http


UNCLEAR = {
    name: FAILURES[name] for name in ["connection reset", "read time-out", "answer cut off", "500", "502", "503", "504"]
}
UNCLEAR["500 with a code"] = {"status_code": 500, "json": issues_json(("JOBRUNNER_9", "failed half-way"))}
UNCLEAR["200 with HTML"] = {"text": "<html>proxy</html>"}
UNCLEAR["200 with another type"] = {"json": [run_json(4)]}
NOT_EXECUTED = {name: FAILURES[name] for name in ["connect time-out", "connection refused", "429"]}


def _proxy_error(inner):
    """What `requests` raises for every trouble with a proxy, also for a connection lost after the request went out."""
    reason = urllib3.exceptions.ProxyError("Unable to connect to proxy", inner)
    return {"exc": requests.exceptions.ProxyError(urllib3.exceptions.MaxRetryError(None, "/", reason))}


UNCLEAR["connection through a proxy lost"] = _proxy_error(http.client.RemoteDisconnected("no response"))
NOT_EXECUTED["connection to the proxy refused"] = _proxy_error(urllib3.exceptions.NewConnectionError(None, "refused"))


class StartableJob:
    """A job whose start call can fail before or after it has had its effect."""

    def __init__(self, http, latest=None):
        self.latest = latest
        self.starts = 0
        self.answers = []
        http.get(JOB, json=lambda *_: job_json(currentJobStatus=self.latest))
        http.get(USER, json={"principalId": ME})
        http.get(CURRENT, json=lambda *_: self.latest)
        http.post(START, json=self._start)

    def _start(self, request, context):
        self.starts += 1
        executed, answer = self.answers.pop(0) if self.answers else (True, {})
        if executed:
            self.latest = run_json((self.latest["runCount"] if self.latest else 0) + 1, "ACTIVATING")
        if "exc" in answer:
            raise answer["exc"]
        context.status_code = answer.get("status_code", 200)
        return answer.get("json", self.latest)


@pytest.mark.parametrize(
    "latest",
    [None, {}, succeeded(3), failed(3), run_json(3, "ACTIVATION_ERROR", "RED"), run_json(1, "INACTIVE", startTime=0)],
    ids=["never run", "empty status", "succeeded", "failed", "did not start", "offset uploaded"],
)
def test_inactive_job_is_started(http, client, latest):
    http.get(JOB, json=job_json(currentJobStatus=latest))
    count = Job.from_wire(job_json(currentJobStatus=latest)).last_run_count + 1
    http.post(START, json=run_json(count, "ACTIVATING"))
    run = client.runs.start(JOB_ID)
    assert (run.run_count, run.status) == (count, "ACTIVATING")
    assert [r.method for r in http.request_history] == ["GET", "POST"]


def test_start_does_not_reload_job(http, client):
    http.post(START, json=run_json(1, "ACTIVATING"))
    client.runs.start(Job.from_wire(job_json()))
    assert http.call_count == 1


@pytest.mark.parametrize(
    ("stored", "given_", "sent"),
    [
        ('{"A": "1", "B": "2"}', {"B": 3, "C": [True, None]}, {"A": "1", "B": 3, "C": [True, None]}),
        ('{"A": "1"}', None, {"A": "1"}),
        ("{}", {"A": "ü\u2028"}, {"A": "ü\u2028"}),
        ('{"A": "1"}', {"A": None}, {"A": None}),
    ],
)
def test_stored_and_given_parameters_are_merged(http, client, stored, given_, sent):
    http.get(JOB, json=job_json(runtimeParameters=stored))
    http.post(START, json=run_json(1, "ACTIVATING"))
    client.runs.start(JOB_ID, given_)
    assert http.last_request.json() == sent


@pytest.mark.parametrize("stored", [None, "", "{}", "null"])
@pytest.mark.parametrize("given_", [None, {}])
def test_no_parameters_send_empty_object(http, client, stored, given_):
    http.get(JOB, json=job_json(runtimeParameters=stored))
    http.post(START, json=run_json(1, "ACTIVATING"))
    client.runs.start(JOB_ID, given_)
    assert http.last_request.body in {"{}", b"{}"}
    assert http.last_request.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"currentJobStatus": run_json(3, "ACTIVATING")}, "run 3, started by .*, is ACTIVATING"),
        ({"currentJobStatus": run_json(3, "ACTIVE", "RED")}, rf"run 3, started by {ME} at 20.*, is ACTIVE.*stop it"),
        ({"currentJobStatus": run_json(3, "DEACTIVATING")}, "run 3, started by .*, is DEACTIVATING"),
        ({"currentJobStatus": run_json(3, "SOMETHING_NEW")}, "run 3, started by .*, is SOMETHING_NEW"),
        ({"currentJobStatus": run_json(3, None)}, "run 3, started by .*, is in an unknown state"),
        (
            {"currentJobStatus": run_json(3, "INACTIVE_ERROR", "RED", errorMessage="RUN_ERROR: disk full")},
            r"run 3 ended in INACTIVE_ERROR.*Acknowledge.*RUN_ERROR: disk full",
        ),
        ({"currentJobStatus": run_json(3, "INACTIVE_ERROR", "RED")}, "none stated"),
        ({"jobTemplate": True}, "job template"),
    ],
)
def test_start_rejects_invalid_state(http, client, fields, message):
    http.get(JOB, json=job_json(**fields))
    with pytest.raises(ControlHubJobStateError, match=message):
        client.runs.start(JOB_ID)
    assert [r.method for r in http.request_history] == ["GET"]


@pytest.mark.parametrize(
    "name", ["job-active-green", "job-active-red", "job-inactive-error", "job-inactive-success", "job-inactive-red"]
)
def test_example_jobs_are_started_or_rejected(http, client, name):
    job = Job.from_wire(payload(name))
    http.post(START.replace(JOB_ID, job.job_id), json=run_json(job.last_run_count + 1, "ACTIVATING"))
    if name in {"job-inactive-success", "job-inactive-red"}:
        assert client.runs.start(job).run_count == job.last_run_count + 1
    else:
        with pytest.raises(ControlHubJobStateError):
            client.runs.start(job)
        assert http.call_count == 0


@pytest.mark.parametrize("answer", UNCLEAR.values(), ids=UNCLEAR)
@pytest.mark.parametrize("latest", [None, succeeded(3)], ids=["never run", "run before"])
def test_lost_response_adopts_started_run(http, client, answer, latest):
    before = latest["runCount"] if latest else 0
    http.get(JOB, json=job_json(currentJobStatus=latest))
    http.post(START, **answer)
    http.get(CURRENT, json=run_json(before + 1, "ACTIVE"))
    assert client.runs.start(JOB_ID).run_count == before + 1
    assert [r.method for r in http.request_history] == ["GET", "POST", "GET", "GET"]


def test_ended_run_is_adopted(http, client):
    http.get(JOB, json=job_json(currentJobStatus=succeeded(3)))
    http.post(START, exc=READ_TIMEOUT)
    http.get(CURRENT, json=succeeded(4))
    assert client.runs.start(JOB_ID).run_count == 4
    assert len([r for r in http.request_history if r.method == "POST"]) == 1


def test_late_run_is_awaited_before_retry(http, client, clock):
    http.get(JOB, json=job_json(currentJobStatus=succeeded(3)))
    http.post(START, exc=READ_TIMEOUT)
    http.get(CURRENT, [{"json": succeeded(3)}, {"json": succeeded(3)}, {"json": run_json(4, "ACTIVATING")}])
    assert client.runs.start(JOB_ID).run_count == 4
    assert clock.slept == [3.0, 3.0]
    assert len([r for r in http.request_history if r.method == "POST"]) == 1


@pytest.mark.parametrize(
    "name", ["connection reset", "read time-out", "answer cut off", "500", "502", "503", "504", "200 with HTML"]
)
def test_start_without_run_is_retried(http, client, name):
    http.get(JOB, json=job_json(currentJobStatus=succeeded(3)))
    http.post(START, [UNCLEAR[name], {"json": run_json(4, "ACTIVATING")}])
    http.get(CURRENT, json=succeeded(3))
    assert client.runs.start(JOB_ID, {"A": "b"}).run_count == 4
    posts = [r for r in http.request_history if r.method == "POST"]
    assert len(posts) == 2
    assert posts[0].json() == posts[1].json()


def test_ineffective_starts_are_abandoned(http, client):
    http.get(JOB, json=job_json(currentJobStatus=succeeded(3)))
    http.post(START, exc=READ_TIMEOUT)
    http.get(CURRENT, json=succeeded(3))
    with pytest.raises(ControlHubUnavailableError, match="3 requests got no response, and none started a run"):
        client.runs.start(JOB_ID)
    assert len([r for r in http.request_history if r.method == "POST"]) == 3


@pytest.mark.parametrize("answer", UNCLEAR.values(), ids=UNCLEAR)
@pytest.mark.parametrize("poll", [{"status_code": 503}, {"exc": REFUSED}, {"status_code": 401}, {"text": "<html>"}])
def test_unconfirmed_start_is_not_retried(http, client, answer, poll):
    http.get(JOB, json=job_json(currentJobStatus=succeeded(3)))
    http.post(START, **answer)
    http.get(CURRENT, **poll)
    with pytest.raises(ControlHubUnavailableError, match=r"Could not determine whether job .* was started") as caught:
        client.runs.start(JOB_ID)
    assert caught.value.maybe_executed is True
    assert len([r for r in http.request_history if r.method == "POST"]) == 1


@pytest.mark.parametrize("answer", NOT_EXECUTED.values(), ids=NOT_EXECUTED)
def test_undelivered_start_is_retried(http, client, answer):
    http.get(JOB, json=job_json())
    http.post(START, [answer, answer, {"json": run_json(1, "ACTIVATING")}])
    assert client.runs.start(JOB_ID).run_count == 1
    assert [r.method for r in http.request_history] == ["GET", "POST", "POST", "POST"]


@pytest.mark.parametrize("answer", NOT_EXECUTED.values(), ids=NOT_EXECUTED)
def test_undelivered_start_fails_as_not_executed(http, make_client, answer):
    http.get(JOB, json=job_json())
    http.post(START, **answer)
    with pytest.raises(ControlHubUnavailableError) as caught:
        make_client(max_attempts=3).runs.start(JOB_ID)
    assert caught.value.maybe_executed is False
    assert len([r for r in http.request_history if r.method == "POST"]) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409])
def test_rejected_start_is_not_retried(http, client, status):
    http.get(JOB, json=job_json())
    http.post(START, status_code=status, json=issues_json(("JOBRUNNER_7", "no engine has the labels")))
    with pytest.raises(ControlHubError, match=r"Cannot start job '.*JOBRUNNER_7 - no engine") as caught:
        client.runs.start(JOB_ID)
    assert caught.value.http_status == status
    assert [r.method for r in http.request_history] == ["GET", "POST"]


def test_start_error_500_is_not_retried(http, client):
    http.get(JOB, json=job_json(currentJobStatus=succeeded(3)))
    http.post(START, **UNCLEAR["500 with a code"])
    http.get(CURRENT, json=succeeded(3))
    with pytest.raises(ControlHubRejectedError, match="failed half-way"):
        client.runs.start(JOB_ID)
    assert len([r for r in http.request_history if r.method == "POST"]) == 1


def test_rejected_retry_adopts_run_of_first_call(http, client):
    """The first call was still on its way when the polls found no run."""
    http.get(JOB, json=job_json(currentJobStatus=succeeded(3)))
    refused = {"status_code": 400, "json": issues_json(("JOBRUNNER_9", "job is active"))}
    http.post(START, [{"exc": READ_TIMEOUT}, refused])
    http.get(CURRENT, [{"json": succeeded(3)}] * 42 + [{"json": run_json(4)}])
    assert client.runs.start(JOB_ID).run_count == 4
    assert len([r for r in http.request_history if r.method == "POST"]) == 2


def test_rejected_retry_raises(http, client):
    http.get(JOB, json=job_json(currentJobStatus=succeeded(3)))
    refused = {"status_code": 400, "json": issues_json(("JOBRUNNER_9", "no engine"))}
    http.post(START, [{"exc": READ_TIMEOUT}, refused])
    http.get(CURRENT, json=succeeded(3))
    with pytest.raises(ControlHubRejectedError, match="JOBRUNNER_9 - no engine"):
        client.runs.start(JOB_ID)


def test_unauthorized_retry_raises(http, client):
    http.get(JOB, json=job_json(currentJobStatus=succeeded(3)))
    http.post(START, [{"exc": READ_TIMEOUT}, {"status_code": 401}])
    http.get(CURRENT, json=succeeded(3))
    with pytest.raises(ControlHubAuthenticationError):
        client.runs.start(JOB_ID)


@pytest.mark.parametrize(
    "answer",
    [{"content": b""}, {"json": None}, {"json": {}}, {"json": succeeded(3)}, {"json": {"status": "ACTIVATING"}}],
    ids=["empty", "null", "empty object", "run before", "no number"],
)
def test_response_without_run_triggers_search(http, client, clock, answer):
    http.get(JOB, json=job_json(currentJobStatus=succeeded(3)))
    http.post(START, **answer)
    http.get(CURRENT, [{"json": succeeded(3)}, {"json": run_json(4, "ACTIVATING")}])
    assert client.runs.start(JOB_ID).run_count == 4
    assert clock.slept == [3.0]
    assert len([r for r in http.request_history if r.method == "POST"]) == 1


def test_accepted_start_without_run_is_not_retried(http, client):
    http.get(JOB, json=job_json(currentJobStatus=succeeded(3)))
    http.post(START, content=b"")
    http.get(CURRENT, json=succeeded(3))
    with pytest.raises(ControlHubUnexpectedResponseError, match="no run after run 3 appeared"):
        client.runs.start(JOB_ID)
    assert len([r for r in http.request_history if r.method == "POST"]) == 1


@pytest.mark.parametrize("poll", [{"status_code": 503}, {"exc": REFUSED}, {"status_code": 403}, {"text": "<html>"}])
def test_unconfirmed_accepted_start_may_have_executed(http, client, poll):
    http.get(JOB, json=job_json())
    http.post(START, content=b"")
    http.get(CURRENT, **poll)
    with pytest.raises(ControlHubUnavailableError) as caught:
        client.runs.start(JOB_ID)
    assert caught.value.maybe_executed is True
    assert len([r for r in http.request_history if r.method == "POST"]) == 1


_ENDS = st.tuples(
    st.booleans(),
    st.sampled_from(
        [
            {},
            {"json": None},
            {"json": {}},
            {"status_code": 500},
            {"status_code": 502},
            {"status_code": 503},
            {"exc": READ_TIMEOUT},
            {"exc": requests.exceptions.ConnectionError("reset")},
        ]
    ),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(ends=st.lists(_ENDS, max_size=4), before=st.sampled_from([None, succeeded(1), failed(6)]))
def test_start_makes_at_most_one_run(http, client, ends, before):
    http.reset()
    job = StartableJob(http, before)
    job.answers = list(ends)
    number = before["runCount"] if before else 0
    try:
        run = client.runs.start(JOB_ID)
    except ControlHubError:
        assert job.latest == before
    else:
        assert run.run_count == number + 1 == job.latest["runCount"]


OTHER_USER = "another-user@org"


@pytest.mark.parametrize(
    "foreign",
    [{"user": OTHER_USER}, {"startTime": T0 + 8 * MINUTES}, {"startTime": T0 - 6 * MINUTES}],
    ids=["another user", "much later", "much earlier"],
)
def test_run_of_other_caller_is_not_claimed(http, client, foreign):
    http.get(JOB, json=job_json(currentJobStatus=succeeded(3)))
    http.post(START, exc=READ_TIMEOUT)
    http.get(CURRENT, json=run_json(4, **foreign))
    with pytest.raises(ControlHubJobStateError, match=r"Another caller started .*run 4, started by .* started no run"):
        client.runs.start(JOB_ID)
    assert len([r for r in http.request_history if r.method == "POST"]) == 1


@pytest.mark.parametrize(("began_after", "is_own"), [(129, True), (131, False)])
def test_run_after_gateway_timeout_is_not_claimed(http, client, monkeypatch, began_after, is_own):
    """Responses with Control Hub's time need no allowance for clock skew."""
    monkeypatch.setattr("time.time", lambda: T0 / 1000)
    date = email.utils.formatdate(T0 / 1000, usegmt=True)
    http.get(JOB, json=job_json(currentJobStatus=succeeded(3)), headers={"Date": date})
    http.post(START, exc=READ_TIMEOUT)
    http.get(CURRENT, json=run_json(4, startTime=T0 + began_after * 1000))
    if is_own:
        assert client.runs.start(JOB_ID).run_count == 4
        return
    with pytest.raises(ControlHubJobStateError, match="Another caller started"):
        client.runs.start(JOB_ID)


def test_own_run_behind_successor_is_found(http, client):
    http.get(JOB, json=job_json(currentJobStatus=succeeded(3)))
    http.post(START, exc=READ_TIMEOUT)
    http.get(CURRENT, json=run_json(5, user=OTHER_USER))
    http.get(HISTORY, json={"totalCount": 2, "data": [run_json(5), succeeded(4)]})
    assert client.runs.start(JOB_ID).run_count == 4


def test_on_submit_precedes_each_start(http, client):
    http.get(JOB, json=job_json(currentJobStatus=succeeded(3)))
    http.post(START, [{"exc": READ_TIMEOUT}, {"json": run_json(4)}])
    http.get(CURRENT, json=succeeded(3))
    announced = []

    def on_submit(intent):
        posts = [r for r in http.request_history if r.method == "POST"]
        announced.append((intent.job_id, intent.run_count, intent.user, intent.requested_at, len(posts)))

    client.runs.start(JOB_ID, on_submit=on_submit)
    assert announced == [(JOB_ID, 4, ME, T0 / 1000, 0), (JOB_ID, 4, ME, T0 / 1000, 1)]


def test_failing_on_submit_prevents_start(http, client):
    http.get(JOB, json=job_json())

    def on_submit(intent):
        raise RuntimeError("no place to write")

    with pytest.raises(RuntimeError):
        client.runs.start(JOB_ID, on_submit=on_submit)
    assert all(r.method == "GET" for r in http.request_history)


def test_run_count_gap_is_accepted(http, client):
    http.get(JOB, json=job_json(currentJobStatus=succeeded(3)))
    http.post(START, json=run_json(5, "ACTIVATING"))
    http.get(CURRENT, json=run_json(5, "ACTIVATING"))
    assert client.runs.start(JOB_ID).run_count == 5


def test_implausible_run_count_is_ignored(http, client):
    http.get(JOB, json=job_json(currentJobStatus=succeeded(3)))
    http.post(START, json=run_json(10**15, "ACTIVATING"))
    http.get(CURRENT, json=run_json(4, "ACTIVATING"))
    assert client.runs.start(JOB_ID).run_count == 4


@pytest.mark.parametrize("skew", [-3600, 3600])
def test_accepted_start_tolerates_clock_skew(http, client, monkeypatch, skew):
    monkeypatch.setattr("airflow_provider_streamsets.control_hub.submission.wall_clock", lambda: T0 / 1000 + skew)
    http.get(JOB, json=job_json(currentJobStatus=succeeded(3)))
    http.post(START, content=b"")
    http.get(CURRENT, json=run_json(4))
    assert client.runs.start(JOB_ID).run_count == 4


@pytest.mark.parametrize("skew", [-3600, 3600])
def test_intent_uses_control_hub_time(http, client, monkeypatch, skew):
    now = T0 / 1000 + skew
    monkeypatch.setattr("airflow_provider_streamsets.control_hub.submission.wall_clock", lambda: now)
    monkeypatch.setattr("airflow_provider_streamsets.control_hub.transport.time.time", lambda: now)
    date = {"Date": email.utils.formatdate(T0 / 1000, usegmt=True)}
    http.get(JOB, json=job_json(currentJobStatus=succeeded(3)), headers=date)
    http.get(USER, json={"principalId": ME}, headers=date)
    http.post(START, exc=READ_TIMEOUT)
    http.get(CURRENT, json=run_json(4), headers=date)
    announced = []
    assert client.runs.start(JOB_ID, on_submit=announced.append).run_count == 4
    assert announced[0].requested_at == T0 / 1000
    assert remaining_delivery_time(client, announced[0].requested_at) == client.gateway_timeout
    assert remaining_delivery_time(client.with_options(), announced[0].requested_at) == client.gateway_timeout


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 01 Jan 99999 00:00:00 GMT"])
def test_invalid_date_header_is_ignored(http, client, date):
    http.get(JOB, json=job_json(), headers={"Date": date})
    client.jobs.get(JOB_ID)
    assert client.clock_skew == 0
