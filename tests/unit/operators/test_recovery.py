from __future__ import annotations

import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubJobStateError,
    ControlHubNotFoundError,
    ControlHubUnexpectedResponseError,
)
from airflow_provider_streamsets.operators.recovery import (
    ControlHubAcknowledgeErrorsOperator,
    ControlHubSyncJobsOperator,
)
from tests.unit.fakes.bulk_actions_hub import BulkActionsHub, job_with_status
from tests.unit.fakes.single_job_hub import HUB

pytestmark = pytest.mark.usefixtures("connection", "sleep_calls")

BROKEN = "JOBRUNNER_77 - the engine did not confirm the stop"


def acknowledge(**arguments):
    arguments = arguments or {"job_ids": ["broken:org", "fine:org"]}
    return ControlHubAcknowledgeErrorsOperator(task_id="acknowledge", **arguments)


def synchronize(**arguments):
    return ControlHubSyncJobsOperator(task_id="synchronize", **{"job_ids": ["a:org", "b:org"], **arguments})


def become_inactive_after(hub, job_id, polls):
    """Let a job become inactive at so many polls after its acknowledgement."""
    left = [polls]

    def poll():
        left[0] -= 1
        if hub.asked and left[0] < 0:
            hub.jobs[job_id]["currentJobStatus"] = {**hub.jobs[job_id]["currentJobStatus"], "status": "INACTIVE"}

    hub.on_poll = poll


def test_acknowledges_only_jobs_with_errors(http, context):
    hub = BulkActionsHub(
        http, job_with_status("broken", "INACTIVE_ERROR", error=BROKEN), job_with_status("fine", "INACTIVE")
    )
    become_inactive_after(hub, "broken:org", polls=1)
    result = acknowledge().execute(context)
    assert result == [{"job_id": "broken:org", "job_name": "broken", "run_count": 4, "error_message": BROKEN}]
    assert hub.asked == [("acknowledgeErrors", ["broken:org"])]
    assert context["ti"].xcoms == {
        "job_ids": ["broken:org", "fine:org"],
        "streamsets_job_link": f"{HUB}/sch/jobs/detail/broken:org",
    }


def test_logs_error_when_acknowledgement_fails(http, context, task_log):
    BulkActionsHub(http, job_with_status("broken", "INACTIVE_ERROR", error=BROKEN))
    http.post(f"{HUB}/jobrunner/rest/v1/jobs/acknowledgeErrors", status_code=403)
    with pytest.raises(Exception, match="acknowledge the error of job broken:org"):
        acknowledge(job_ids=["broken:org"]).execute(context)
    assert f"Job 'broken' (broken:org) run 4: INACTIVE_ERROR: {BROKEN}" in task_log()


def test_waits_for_acknowledgement(http, context, sleep_calls):
    hub = BulkActionsHub(http, job_with_status("broken", "INACTIVE_ERROR", error=BROKEN))
    become_inactive_after(hub, "broken:org", polls=4)
    assert len(acknowledge(job_ids=["broken:org"]).execute(context)) == 1
    assert sleep_calls == [3.0] * 3


def test_ineffective_acknowledgement_fails_after_30_seconds(http, context, sleep_calls):
    BulkActionsHub(http, job_with_status("broken", "INACTIVE_ERROR", error=BROKEN))
    with pytest.raises(ControlHubUnexpectedResponseError, match=r"30 s later .* still INACTIVE_ERROR: broken:org"):
        acknowledge(job_ids=["broken:org"]).execute(context)
    assert sum(sleep_calls) == 30


def test_sends_nothing_without_errors(http, context):
    hub = BulkActionsHub(
        http, job_with_status("fine", "INACTIVE"), job_with_status("new"), job_with_status("running", "ACTIVE")
    )
    assert acknowledge(search='tag=="nightly"').execute(context) == []
    assert hub.asked == []


def test_warns_if_tag_matches_no_job(http, context, task_log):
    BulkActionsHub(http)
    assert acknowledge(job_tag="nightly").execute(context) == []
    assert "No job matches job_tag='nightly'; nothing to do." in task_log()


def test_synchronizes_active_jobs_in_one_request(http, context):
    hub = BulkActionsHub(http, job_with_status("a", "ACTIVE"), job_with_status("b", "ACTIVE"))
    assert synchronize().execute(context) == ["a:org", "b:org"]
    assert hub.asked == [("syncJobs", ["a:org", "b:org"])]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (job_with_status("b", "INACTIVE"), "'b' \\(b:org\\) is INACTIVE"),
        (job_with_status("b", "ACTIVATING"), "'b' \\(b:org\\) is ACTIVATING"),
        (job_with_status("b"), "'b' \\(b:org\\) has never run"),
        (job_with_status("b", jobTemplate=True), "'b' \\(b:org\\) is a job template"),
    ],
)
def test_inactive_job_fails_before_synchronizing(http, context, other, why):
    hub = BulkActionsHub(http, job_with_status("a", "ACTIVE"), other)
    with pytest.raises(ControlHubJobStateError, match=f"Cannot synchronize jobs: {why}.*Nothing was sent"):
        synchronize().execute(context)
    assert hub.asked == []


def test_skips_inactive_jobs_if_allowed(http, context, task_log):
    hub = BulkActionsHub(http, job_with_status("a", "ACTIVE"), job_with_status("b", "INACTIVE"))
    assert synchronize(skip_inactive="True").execute(context) == ["a:org"]
    assert hub.asked == [("syncJobs", ["a:org"])]
    assert "Job 'b' (b:org) is INACTIVE; skipping it." in task_log()


def test_sends_nothing_if_all_jobs_are_skipped(http, context):
    hub = BulkActionsHub(http, job_with_status("a"), job_with_status("b", "INACTIVE"))
    assert synchronize(skip_inactive=True).execute(context) == []
    assert hub.asked == []


def test_unknown_job_fails(http, context):
    hub = BulkActionsHub(http, job_with_status("a", "ACTIVE"))
    with pytest.raises(ControlHubNotFoundError, match="b:org"):
        synchronize(skip_inactive=True).execute(context)
    assert hub.asked == []


def test_rejects_wrong_type_at_parse():
    with pytest.raises(ValueError, match="'skip_inactive' must be true or false"):
        synchronize(skip_inactive="maybe")
