from __future__ import annotations

import json

import pytest

from airflow_provider_streamsets.operators.jobs import ControlHubListJobsOperator
from tests.unit.fakes.job_catalog_hub import JobCatalogHub, job_json
from tests.unit.fakes.single_job_hub import HUB, failed, run_json

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture
def hub(http):
    return JobCatalogHub(
        http,
        job_json("a:org", "Orders", currentJobStatus=failed(4)),
        job_json("b:org", "Orders of May", rawJobTags=["weekly"], pipelineCommitLabel="v3"),
        job_json("c:org", "Customers", currentJobStatus=run_json(2), labels=["dev"], executorType="TRANSFORMER"),
        job_json("t:org", "Orders template", jobTemplate=True),
        job_json("i:org", "Orders template - 1", templateJobId="t:org"),
    )


def listed(context, **arguments):
    return ControlHubListJobsOperator(task_id="list", **arguments).execute(context)


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ({}, ["a:org", "b:org", "c:org", "i:org"]),
        ({"name": "Orders"}, ["a:org"]),
        ({"name_starts_with": "Orders"}, ["a:org", "b:org", "i:org"]),
        ({"status": "ACTIVE"}, ["c:org"]),
        ({"color": "RED"}, ["a:org"]),
        ({"job_tag": "weekly"}, ["b:org"]),
        ({"engine_label": "dev"}, ["c:org"]),
        ({"executor_type": "TRANSFORMER"}, ["c:org"]),
        ({"pipeline_version": "3"}, ["b:org"]),
        ({"pipeline_version": 3}, ["b:org"]),
        ({"pipeline_version": "v3"}, ["b:org"]),
        ({"templates": True}, ["t:org"]),
        ({"template_id": "t:org"}, ["i:org"]),
        ({"name_starts_with": "Orders", "color": "RED"}, ["a:org"]),
        ({"name": "Unknown"}, []),
    ],
)
def test_returns_ids_matching_all_conditions(hub, context, conditions, found):
    assert listed(context, **conditions) == found
    # The ids are the return value, and are not stored twice.
    assert "job_ids" not in context["ti"].xcoms


def test_search_combines_with_conditions(hub, context):
    hub.found = ["a:org", "b:org", "c:org"]
    assert listed(context, search='name=="o*"', color="RED") == ["a:org"]


def test_summaries_hold_status_version_and_tags(hub, context):
    summaries = listed(context, result="summaries", limit=2)
    assert json.loads(json.dumps(summaries)) == summaries
    assert summaries == [
        {
            "job_id": "a:org",
            "job_name": "Orders",
            "status": "INACTIVE",
            "color": "RED",
            "run_count": 4,
            "start_time": "2026-01-01T09:56:40Z",
            "finish_time": "2026-01-01T09:57:40Z",
            "pipeline_version": "2",
            "tags": ["nightly"],
            "engine_labels": ["prod"],
            "template_id": None,
            "last_modified": "2026-01-01T09:50:00.123000Z",
        },
        {
            "job_id": "b:org",
            "job_name": "Orders of May",
            "status": None,
            "color": None,
            "run_count": 0,
            "start_time": None,
            "finish_time": None,
            "pipeline_version": "3",
            "tags": ["weekly"],
            "engine_labels": ["prod"],
            "template_id": None,
            "last_modified": "2026-01-01T09:50:00.123000Z",
        },
    ]


def test_pushes_ids_and_link_of_first_job(hub, context):
    listed(context, result="summaries", name_starts_with="Orders", limit=2)
    assert context["ti"].xcoms == {
        "job_ids": ["a:org", "b:org"],
        "streamsets_job_link": f"{HUB}/sch/jobs/detail/a:org",
    }


def test_no_match_pushes_no_link(hub, context):
    assert listed(context, name="Unknown") == []
    assert listed(context, name="Unknown", result="summaries") == []
    assert context["ti"].xcoms == {"job_ids": []}


@pytest.mark.parametrize(("limit", "pages"), [(1, [0]), (250, [0]), (251, [0, 249]), (None, [0, 249, 498])])
def test_limit_bounds_pages_read(http, context, limit, pages):
    hub = JobCatalogHub(http, *(job_json(f"{n}:org", f"Job {n}") for n in range(600)))
    assert len(listed(context, limit=limit)) == (limit or 600)
    assert hub.pages == pages


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "x", "name_starts_with": "y"}, "At most one of 'name', 'name_starts_with'"),
        ({"status": "RUNNING"}, "'status' must be one of 'INACTIVE', 'ACTIVATING', 'ACTIVE'"),
        ({"color": "red"}, "'color' must be one of 'GRAY', 'GREEN', 'RED'"),
        ({"executor_type": "sdc"}, "'executor_type' must be one of 'COLLECTOR'"),
        ({"pipeline_version": "latest"}, "'pipeline_version' must be a version number such as '3', got"),
        ({"job_tag": ""}, "'job_tag' must be a non-empty string"),
        ({"search": " "}, "'search' must be a non-empty string"),
        ({"templates": "perhaps"}, "'templates' must be true or false"),
        ({"limit": 0}, "'limit' must be an integer >= 1"),
        ({"result": "names"}, "'result' must be one of 'ids', 'summaries'"),
    ],
)
def test_rejects_invalid_arguments_at_parse(arguments, message):
    with pytest.raises(ValueError, match=message):
        ControlHubListJobsOperator(task_id="list", **arguments)


def test_renders_and_revalidates_parameters(http, hub, context):
    names = [name for name in ControlHubListJobsOperator.template_fields if name not in {"name", "search"}]
    task = ControlHubListJobsOperator(task_id="list", **{name: f"{{{{ values.{name} }}}}" for name in names})
    values = {
        "name_starts_with": "Orders",
        "status": "INACTIVE",
        "color": "RED",
        "job_tag": "nightly",
        "engine_label": "prod",
        "executor_type": "COLLECTOR",
        "pipeline_version": 2,
        "templates": False,
        "template_id": "t:org",
        "limit": 5,
        "result": "ids",
        "control_hub_conn_id": "streamsets_default",
    }
    hub.jobs["a:org"]["templateJobId"] = "t:org"
    task.render_template_fields({"values": values})
    assert task.execute(context) == ["a:org"]
    task = ControlHubListJobsOperator(task_id="list", status="{{ 'RUNNING' }}")
    task.render_template_fields({})
    before = len(http.request_history)
    with pytest.raises(ValueError, match="'status' must be one of"):
        task.execute(context)
    assert len(http.request_history) == before
