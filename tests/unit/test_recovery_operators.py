from __future__ import annotations

import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubJobStateError,
    ControlHubNotFoundError,
    ControlHubUnexpectedAnswerError,
)
from airflow_provider_streamsets.operators.recovery import (
    ControlHubAcknowledgeErrorsOperator,
    ControlHubSyncJobsOperator,
)
from tests.unit.scripted_actions import ScriptedActions, job_in
from tests.unit.scripted_hub import HUB

pytestmark = pytest.mark.usefixtures("connection", "pauses")

BROKEN = "JOBRUNNER_77 - the engine did not confirm the stop"


def acknowledge(**arguments):
    arguments = arguments or {"job_ids": ["broken:org", "fine:org"]}
    return ControlHubAcknowledgeErrorsOperator(task_id="acknowledge", **arguments)


def synchronize(**arguments):
    return ControlHubSyncJobsOperator(task_id="synchronize", **{"job_ids": ["a:org", "b:org"], **arguments})


def settles(hub, job_id, looks):
    """Let a job become inactive at so many looks after its acknowledgement."""
    left = [looks]

    def look():
        left[0] -= 1
        if hub.asked and left[0] < 0:
            hub.jobs[job_id]["currentJobStatus"] = {**hub.jobs[job_id]["currentJobStatus"], "status": "INACTIVE"}

    hub.on_look = look


def test_errors_are_acknowledged_and_jobs_without_one_left_alone(http, context):
    hub = ScriptedActions(http, job_in("broken", "INACTIVE_ERROR", error=BROKEN), job_in("fine", "INACTIVE"))
    settles(hub, "broken:org", looks=1)
    result = acknowledge().execute(context)
    assert result == [{"job_id": "broken:org", "job_name": "broken", "run_count": 4, "error_message": BROKEN}]
    assert hub.asked == [("acknowledgeErrors", ["broken:org"])]
    assert context["ti"].xcoms == {
        "job_ids": ["broken:org", "fine:org"],
        "streamsets_job_link": f"{HUB}/sch/jobs/detail/broken:org",
    }


def test_an_error_is_in_the_log_even_if_its_acknowledgement_fails(http, context, task_log):
    ScriptedActions(http, job_in("broken", "INACTIVE_ERROR", error=BROKEN))
    http.post(f"{HUB}/jobrunner/rest/v1/jobs/acknowledgeErrors", status_code=403)
    with pytest.raises(Exception, match="acknowledge the error of job broken:org"):
        acknowledge(job_ids=["broken:org"]).execute(context)
    assert f"Run 4 of job 'broken' (broken:org) has the error: {BROKEN}" in task_log()


def test_it_waits_until_control_hub_has_acknowledged(http, context, pauses):
    hub = ScriptedActions(http, job_in("broken", "INACTIVE_ERROR", error=BROKEN))
    settles(hub, "broken:org", looks=4)
    assert len(acknowledge(job_ids=["broken:org"]).execute(context)) == 1
    assert pauses == [3.0] * 3


def test_an_acknowledgement_without_effect_fails_the_task_after_half_a_minute(http, context, pauses):
    ScriptedActions(http, job_in("broken", "INACTIVE_ERROR", error=BROKEN))
    with pytest.raises(ControlHubUnexpectedAnswerError, match=r"30 s later .* still INACTIVE_ERROR: broken:org"):
        acknowledge(job_ids=["broken:org"]).execute(context)
    assert sum(pauses) == 30


def test_nothing_is_sent_where_there_is_no_error(http, context):
    hub = ScriptedActions(http, job_in("fine", "INACTIVE"), job_in("new"), job_in("running", "ACTIVE"))
    assert acknowledge(search='tag=="nightly"').execute(context) == []
    assert hub.asked == []


def test_a_tag_that_finds_no_job_is_a_warning(http, context, task_log):
    ScriptedActions(http)
    assert acknowledge(job_tag="nightly").execute(context) == []
    assert "There is no job with job_tag='nightly', so there is nothing to do." in task_log()


def test_active_jobs_are_synchronized_in_one_request(http, context):
    hub = ScriptedActions(http, job_in("a", "ACTIVE"), job_in("b", "ACTIVE"))
    assert synchronize().execute(context) == ["a:org", "b:org"]
    assert hub.asked == [("syncJobs", ["a:org", "b:org"])]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (job_in("b", "INACTIVE"), "'b' \\(b:org\\) is INACTIVE"),
        (job_in("b", "ACTIVATING"), "'b' \\(b:org\\) is ACTIVATING"),
        (job_in("b"), "'b' \\(b:org\\) has never run"),
        (job_in("b", jobTemplate=True), "'b' \\(b:org\\) is a job template"),
    ],
)
def test_a_job_that_is_not_active_is_an_error_before_anything_is_sent(http, context, other, why):
    hub = ScriptedActions(http, job_in("a", "ACTIVE"), other)
    with pytest.raises(ControlHubJobStateError, match=f"Cannot synchronize jobs: {why}.*Nothing was sent"):
        synchronize().execute(context)
    assert hub.asked == []


def test_jobs_that_are_not_active_can_be_left_out(http, context, task_log):
    hub = ScriptedActions(http, job_in("a", "ACTIVE"), job_in("b", "INACTIVE"))
    assert synchronize(skip_inactive="True").execute(context) == ["a:org"]
    assert hub.asked == [("syncJobs", ["a:org"])]
    assert "Leaving out a job: 'b' (b:org) is INACTIVE." in task_log()


def test_nothing_is_sent_if_all_jobs_are_left_out(http, context):
    hub = ScriptedActions(http, job_in("a"), job_in("b", "INACTIVE"))
    assert synchronize(skip_inactive=True).execute(context) == []
    assert hub.asked == []


def test_a_job_that_does_not_exist_is_an_error(http, context):
    hub = ScriptedActions(http, job_in("a", "ACTIVE"))
    with pytest.raises(ControlHubNotFoundError, match="b:org"):
        synchronize(skip_inactive=True).execute(context)
    assert hub.asked == []


def test_a_wrong_type_is_refused_when_the_dag_is_parsed():
    with pytest.raises(ValueError, match="'skip_others' must be true or false"):
        synchronize(skip_inactive="maybe")
