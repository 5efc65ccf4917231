from __future__ import annotations

import pytest

from airflow_provider_streamsets.control_hub import ControlHubJobStateError, ControlHubNotFoundError
from airflow_provider_streamsets.operators.offsets import ControlHubResetOffsetsOperator
from tests.unit.scripted_actions import ScriptedActions, job_in
from tests.unit.scripted_hub import HUB

pytestmark = pytest.mark.usefixtures("connection")


def operator(**arguments):
    return ControlHubResetOffsetsOperator(task_id="reset", **(arguments or {"job_ids": ["a:org", "b:org"]}))


def test_the_offsets_of_many_jobs_are_reset_in_one_request(http, context):
    hub = ScriptedActions(http, job_in("a", "INACTIVE"), job_in("b"))
    assert operator().execute(context) == ["a:org", "b:org"]
    assert hub.asked == [("resetOffset", ["a:org", "b:org"])]
    assert context["ti"].xcoms == {
        "job_ids": ["a:org", "b:org"],
        "streamsets_job_link": f"{HUB}/sch/jobs/detail/a:org",
    }


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (job_in("b", "ACTIVE"), "'b' \\(b:org\\) is ACTIVE"),
        (job_in("b", "DEACTIVATING"), "'b' \\(b:org\\) is DEACTIVATING"),
        (job_in("b", jobTemplate=True), "'b' \\(b:org\\) is a job template"),
    ],
)
def test_a_job_that_is_active_is_an_error_before_anything_is_sent(http, context, other, why):
    hub = ScriptedActions(http, job_in("a", "INACTIVE"), other)
    with pytest.raises(ControlHubJobStateError, match=f"{why}.*Nothing was sent"):
        operator().execute(context)
    assert hub.asked == []


def test_a_job_that_does_not_exist_is_an_error_before_anything_is_sent(http, context):
    hub = ScriptedActions(http, job_in("a", "INACTIVE"))
    with pytest.raises(ControlHubNotFoundError, match="b:org"):
        operator().execute(context)
    assert hub.asked == []


@pytest.mark.parametrize("chosen", [{"job_tag": "nightly"}, {"search": 'name=="orders*"'}])
def test_where_no_job_is_found_nothing_is_sent_and_the_log_warns(http, context, task_log, chosen):
    hub = ScriptedActions(http)
    assert operator(**chosen).execute(context) == []
    assert hub.asked == []
    assert "so there is nothing to do" in task_log()


def test_jobs_are_found_by_their_tag(http, context):
    hub = ScriptedActions(http, job_in("a", "INACTIVE", rawJobTags=["nightly"]))
    assert operator(job_tag="nightly").execute(context) == ["a:org"]
    assert http.request_history[0].qs["jobtag"] == ["nightly:org"]
    assert hub.asked == [("resetOffset", ["a:org"])]
