from __future__ import annotations

import json

import pytest

from airflow_provider_streamsets.control_hub import ControlHubNotFoundError
from airflow_provider_streamsets.operators.jobs import ControlHubUpgradeJobsOperator
from tests.unit.fakes.job_catalog_hub import JobCatalogHub, job_json
from tests.unit.fakes.single_job_hub import HUB

pytestmark = pytest.mark.usefixtures("connection")

NEWEST = {"pipelineCommitId": "commit-3:org", "pipelineCommitLabel": "v3"}


@pytest.fixture
def hub(http):
    return JobCatalogHub(
        http,
        job_json("old:org", "Old one"),
        job_json("new:org", "New one", **NEWEST),
        job_json("other:org", "Other", rawJobTags=[]),
    )


def operator(**arguments):
    return ControlHubUpgradeJobsOperator(task_id="upgrade", **arguments)


OLD = {"job_id": "old:org", "job_name": "Old one", "version_before": "2", "version_after": "3", "upgraded": True}
NEW = {"job_id": "new:org", "job_name": "New one", "version_before": "3", "version_after": "3", "upgraded": False}


@pytest.mark.parametrize(
    "chosen",
    [
        {"job_ids": ["old:org", "new:org"]},
        {"job_ids": '["old:org", "new:org"]'},
        {"job_names": ["Old one", "New one"]},
        {"job_tag": "nightly"},
        {"search": 'name=="* one"'},
    ],
)
def test_upgrades_selected_jobs_and_returns_versions(hub, context, chosen):
    hub.found = ["old:org", "new:org"]
    task = operator(**{**chosen, "job_ids": "{{ ids }}"} if isinstance(chosen.get("job_ids"), str) else chosen)
    task.render_template_fields({"ids": chosen.get("job_ids")})
    result = task.execute(context)
    assert json.loads(json.dumps(result)) == [OLD, NEW]
    assert hub.upgraded == [["old:org", "new:org"]]
    assert context["ti"].xcoms == {
        "job_ids": ["old:org", "new:org"],
        "streamsets_job_link": f"{HUB}/sch/jobs/detail/old:org",
    }


def test_logs_jobs_already_on_newest_version(hub, context, task_log):
    operator(job_tag="nightly").execute(context)
    log = task_log()
    assert "Job 'Old one' (old:org): upgraded from version 2 to 3" in log
    assert "Job 'New one' (new:org): already on the newest version 3" in log


def test_second_upgrade_changes_nothing(hub, context):
    operator(job_tag="nightly").execute(context)
    assert [upgrade["upgraded"] for upgrade in operator(job_tag="nightly").execute(context)] == [False, False]


def test_unknown_tag_upgrades_nothing(hub, context):
    assert operator(job_tag="weekly").execute(context) == []
    assert hub.upgraded == []


def test_unknown_job_prevents_every_upgrade(hub, context):
    with pytest.raises(ControlHubNotFoundError, match="missing:org"):
        operator(job_ids=["old:org", "missing:org"]).execute(context)
    assert hub.upgraded == []
