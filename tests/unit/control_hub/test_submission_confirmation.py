"""How long the effect of a request is polled for, and what counts as its effect."""

from __future__ import annotations

import time

import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubBulkError,
    ControlHubNotFoundError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    Job,
    JobSettings,
    PipelineVersion,
)
from airflow_provider_streamsets.control_hub.submission import confirm_effect
from tests.unit.fakes.api_payloads import (
    JOBS,
    JR,
    ME,
    ORGANIZATION,
    PS,
    READ_TIMEOUT,
    SEC,
    STATUSES,
    TEMPLATE_ID,
    issues_json,
    job_json,
    page_json,
    paths,
    pipeline_json,
    run_json,
    succeeded,
    template_json,
    template_start_json,
)

TEMPLATE = Job.from_wire(template_json(runtimeParameters="{}"))
TEMPLATE_START = f"{JR}/job/{TEMPLATE_ID}/createAndStartJobInstances"
TEMPLATE_HISTORY = f"{JR}/job/{TEMPLATE_ID}/runHistory"
REFUSED_BY_ISSUE = ControlHubRejectedError("Cannot do it.", http_status=500)
NOT_READ = [{"status_code": 503}, {"status_code": 401}, {"exc": READ_TIMEOUT}, {"text": "<html>"}]


def test_immediate_effect_needs_no_wait(client, clock):
    assert confirm_effect(client, lambda: ["found"], subject="whether it was done") == ["found"]
    assert clock.slept == []


def test_effect_is_polled_for_one_minute(client, clock):
    polls = []
    assert confirm_effect(client, lambda: polls.append(clock.now()) or [], subject="whether it was done") == []
    assert [when - polls[0] for when in polls] == [3.0 * n for n in range(21)]


def test_effect_at_last_poll_counts(client, clock):
    start = clock.now()
    assert confirm_effect(client, lambda: clock.now() - start >= 60, subject="whether it was done") is True


def test_partial_effect_is_returned(client, clock):
    found = confirm_effect(
        client, lambda: [1], subject="whether it was done", is_complete=lambda f: len(f) == 2, max_wait=9.0
    )
    assert found == [1]
    assert clock.slept == [3.0] * 3


@pytest.mark.parametrize(
    ("error", "begins", "status"),
    [
        (None, "Could not determine whether it was done", 404),
        (REFUSED_BY_ISSUE, "Cannot do it. Could not determine whether it was done", 500),
    ],
)
def test_failed_poll_leaves_effect_unknown(client, error, begins, status):
    def poll():
        raise ControlHubNotFoundError("Cannot poll.", http_status=404)

    with pytest.raises(ControlHubUnavailableError, match="Cannot poll") as caught:
        confirm_effect(client, poll, subject="whether it was done", error=error)
    assert str(caught.value).startswith(begins)
    assert (caught.value.maybe_executed, caught.value.http_status) == (True, status)


@pytest.mark.parametrize("failing", [0, 1, 5])
def test_max_wait_is_computed_after_answered_poll(client, clock, failing):
    polls = []

    def poll():
        polls.append(clock.now())
        if len(polls) <= failing:
            raise ControlHubUnavailableError("Cannot poll.")
        return []

    def max_wait():
        return 12.0 if len(polls) <= failing else 6.0

    if failing == 5:
        with pytest.raises(ControlHubUnavailableError):
            confirm_effect(client, poll, subject="whether it was done", max_wait=max_wait)
        assert clock.slept == [3.0] * 4
    else:
        assert confirm_effect(client, poll, subject="whether it was done", max_wait=max_wait) == []
        assert clock.slept == [3.0] * (failing + 2)


def test_created_job_is_polled_until_gateway_timeout(http, client, clock):
    http.get(JOBS, json=[])
    http.put(JOBS, exc=READ_TIMEOUT)
    with pytest.raises(ControlHubUnavailableError):
        client.jobs.create(JobSettings(name="New"), PipelineVersion.from_wire(pipeline_json(3)))
    assert clock.slept == [3.0] * 40


def test_accepted_bulk_start_is_polled_for_one_minute(http, client, clock):
    http.post(JOBS, json=[job_json("a:o")])
    http.post(f"{JOBS}/startJobs", content=b"")
    http.post(STATUSES, json={})
    with pytest.raises(ControlHubBulkError, match="accepted the request, but no new run"):
        client.runs.start_many(["a:o"])
    assert clock.slept == [2.0] * 30


def test_upgrade_is_awaited_for_two_minutes(http, client, clock):
    http.post(JOBS, json=[job_json("a:o", currentUpgradeStatus={"status": "UPGRADING"})])
    http.post(f"{JOBS}/upgradeJobs", content=b"")
    http.post(f"{PS}/pipelines/latestCommit", json=[])
    with pytest.raises(ControlHubBulkError, match="is UPGRADING"):
        client.jobs.upgrade(["a:o"])
    assert sum(clock.slept) == 120


@pytest.mark.parametrize("answer", NOT_READ, ids=str)
@pytest.mark.parametrize(
    "end",
    [{"exc": READ_TIMEOUT}, {"status_code": 500, "json": issues_json(("A_1", "no"))}, {"content": b""}],
    ids=["no answer", "refused with 500", "empty"],
)
def test_unreadable_instances_leave_start_unknown(http, client, clock, end, answer):
    """Without their parameters it is not known whose instances they are, not even where no parameters were sent."""
    now = int(time.time() * 1000)
    starts = [{"json": []}, {"json": page_json(template_start_json(1, ["new:o"], time=now))}]
    http.get(TEMPLATE_HISTORY, starts)
    http.get(f"{SEC}/currentUser", json={"principalId": ME})
    http.post(TEMPLATE_START, **end)
    http.post(JOBS, **answer)
    with pytest.raises(
        ControlHubUnavailableError, match="Could not determine whether instances were started"
    ) as caught:
        client.templates.start(TEMPLATE, [{}])
    assert caught.value.maybe_executed is True
    assert len([path for path in paths(http) if path.endswith("/createAndStartJobInstances")]) == 1


TAGGED = [
    job_json("a:o", rawJobTags=["nightly"]),
    job_json("b:o", rawJobTags=["nightly/orders"]),
    job_json("c:o", rawJobTags=["nightly2", "other"]),
    job_json("d:o", rawJobTags=None, jobTags=[{"id": f"nightly:{ORGANIZATION}"}]),
    job_json("e:o", rawJobTags=[], jobTags=[{"id": f"nightly/eu:{ORGANIZATION}"}]),
    job_json("f:o", rawJobTags=None, jobTags=None),
]


@pytest.mark.parametrize(("tag", "found"), [("nightly", "abde"), ("nightly/orders", "b"), ("night", ""), ("x", "")])
def test_jobs_without_requested_tag_are_filtered_out(http, client, tag, found):
    http.get(JOBS, json=page_json(*TAGGED))
    assert [job.job_id for job in client.jobs.list(tag=tag)] == [f"{name}:o" for name in found]


@pytest.mark.parametrize(
    ("fields", "tags"),
    [
        ({"rawJobTags": ["a"], "jobTags": [{"id": f"b:{ORGANIZATION}"}]}, ("a",)),
        ({"rawJobTags": [], "jobTags": [{"id": f"b:{ORGANIZATION}"}, {"id": f"c/d:{ORGANIZATION}"}]}, ("b", "c/d")),
        ({"rawJobTags": None, "jobTags": [{"id": f"a:b:{ORGANIZATION}"}]}, ("a:b",)),
        ({"rawJobTags": None, "jobTags": None}, ()),
    ],
)
def test_tags_fall_back_to_tag_ids(fields, tags):
    assert Job.from_wire(job_json(**fields)).tags == tags


@pytest.mark.parametrize(
    ("conditions", "found"),
    [({"status": "INACTIVE"}, "ab"), ({"color": "GRAY"}, "ab"), ({"status": "ACTIVE"}, "c"), ({"color": "RED"}, "")],
)
def test_never_run_job_is_inactive_and_gray(http, client, conditions, found):
    jobs = [
        job_json("a:o"),
        job_json("b:o", currentJobStatus=succeeded()),
        job_json("c:o", currentJobStatus=run_json()),
    ]
    http.get(JOBS, json=page_json(*jobs))
    assert [job.job_id for job in client.jobs.list(**conditions)] == [f"{name}:o" for name in found]
