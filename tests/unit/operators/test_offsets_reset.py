from __future__ import annotations

import pytest

from airflow_provider_streamsets.control_hub import ControlHubJobStateError, ControlHubNotFoundError
from airflow_provider_streamsets.operators.offsets import ControlHubResetOffsetsOperator
from tests.unit.fakes.bulk_actions_hub import BulkActionsHub, job_with_status
from tests.unit.fakes.single_job_hub import HUB

pytestmark = pytest.mark.usefixtures("connection")


def operator(**arguments):
    return ControlHubResetOffsetsOperator(task_id="reset", **(arguments or {"job_ids": ["a:org", "b:org"]}))


def test_resets_offsets_of_many_jobs_in_one_request(http, context):
    hub = BulkActionsHub(http, job_with_status("a", "INACTIVE"), job_with_status("b"))
    assert operator().execute(context) == ["a:org", "b:org"]
    assert hub.asked == [("resetOffset", ["a:org", "b:org"])]
    assert context["ti"].xcoms == {
        "job_ids": ["a:org", "b:org"],
        "streamsets_job_link": f"{HUB}/sch/jobs/detail/a:org",
    }


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (job_with_status("b", "ACTIVE"), "'b' \\(b:org\\) is ACTIVE"),
        (job_with_status("b", "DEACTIVATING"), "'b' \\(b:org\\) is DEACTIVATING"),
        (job_with_status("b", jobTemplate=True), "'b' \\(b:org\\) is a job template"),
    ],
)
def test_active_job_fails_before_reset(http, context, other, why):
    hub = BulkActionsHub(http, job_with_status("a", "INACTIVE"), other)
    with pytest.raises(ControlHubJobStateError, match=f"{why}.*Nothing was sent"):
        operator().execute(context)
    assert hub.asked == []


def test_unknown_job_fails_before_reset(http, context):
    hub = BulkActionsHub(http, job_with_status("a", "INACTIVE"))
    with pytest.raises(ControlHubNotFoundError, match="b:org"):
        operator().execute(context)
    assert hub.asked == []


@pytest.mark.parametrize("chosen", [{"job_tag": "nightly"}, {"search": 'name=="orders*"'}])
def test_no_match_resets_nothing_and_warns(http, context, task_log, chosen):
    hub = BulkActionsHub(http)
    assert operator(**chosen).execute(context) == []
    assert hub.asked == []
    assert "nothing to do" in task_log()


def test_finds_jobs_by_tag(http, context):
    hub = BulkActionsHub(http, job_with_status("a", "INACTIVE", rawJobTags=["nightly"]))
    assert operator(job_tag="nightly").execute(context) == ["a:org"]
    assert http.request_history[0].qs["jobtag"] == ["nightly:org"]
    assert hub.asked == [("resetOffset", ["a:org"])]
