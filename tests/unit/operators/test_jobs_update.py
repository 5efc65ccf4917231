from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import timezone

from airflow_provider_streamsets.control_hub import (
    ControlHubConflictError,
    ControlHubJobStateError,
    ControlHubNotFoundError,
    ControlHubUnexpectedResponseError,
)
from airflow_provider_streamsets.operators.jobs import ControlHubUpdateJobOperator
from tests.unit.fakes.job_catalog_hub import JR, JobCatalogHub, job_json
from tests.unit.fakes.single_job_hub import HUB, T0, run_json, succeeded

pytestmark = pytest.mark.usefixtures("connection")

SEEN = "2026-01-01T09:50:00.123000Z"
"""When the job was last modified."""


@pytest.fixture
def hub(http):
    return JobCatalogHub(http, job_json("job:org", "Mine"))


def operator(**arguments):
    if "job_name" not in arguments:
        arguments.setdefault("job_id", "job:org")
    return ControlHubUpdateJobOperator(task_id="update", **arguments)


def test_changes_only_given_settings(hub, context):
    result = operator(description="new", number_of_instances=3, engine_labels=["prod"]).execute(context)
    assert result == {
        "job_id": "job:org",
        "job_name": "Mine",
        "changed": ["description", "number_of_instances"],
        "pipeline_version": "2",
        "last_modified": "2026-01-01T10:06:41Z",
    }
    (sent,) = hub.updated
    assert sent == {
        **job_json("job:org", "Mine"),
        "description": "new",
        "numInstances": 3,
    }
    assert context["ti"].xcoms == {"job_id": "job:org", "streamsets_job_link": f"{HUB}/sch/jobs/detail/job:org"}


def test_finds_job_by_name_and_renames_it(hub, context):
    result = operator(job_name="Mine", new_name="Ours").execute(context)
    assert (result["job_id"], result["job_name"], result["changed"]) == ("job:org", "Ours", ["name"])


def test_finds_template_by_name(http, context):
    hub = JobCatalogHub(http, job_json("job:org", "Mine"), job_json("template:org", "Mine", jobTemplate=True))
    operator(job_name="Mine", template=True, description="new").execute(context)
    assert hub.updated[0]["id"] == "template:org"


@pytest.mark.parametrize(
    ("chosen", "version"),
    [
        ({"pipeline_version": "latest"}, "3"),
        ({"pipeline_version": "1"}, "1"),
        ({"pipeline_commit_id": "commit-1:org"}, "1"),
    ],
)
def test_changes_pipeline_version(hub, context, chosen, version):
    result = operator(**chosen).execute(context)
    assert (result["changed"], result["pipeline_version"]) == (["pipeline_version"], version)
    sent = hub.updated[0]
    assert (sent["pipelineCommitId"], sent["pipelineCommitLabel"]) == (f"commit-{version}:org", f"v{version}")


def test_unchanged_job_is_not_updated(hub, context, task_log):
    result = operator(pipeline_tag="released", job_tags=["nightly"], runtime_parameters={"DAY": "1"}).execute(context)
    assert (result["changed"], result["last_modified"]) == ([], SEEN)
    assert hub.updated == []
    assert "already up to date" in task_log()


def test_previously_unset_settings_count_as_changed(hub, context):
    result = operator(failover_retries=3, failover_retries_per_engine=2, time_series=True).execute(context)
    assert result["changed"] == ["failover_retries", "failover_retries_per_engine", "time_series"]


def test_warns_if_response_has_other_values(http, hub, context, task_log):
    http.post(f"{JR}/job/job:org", json=job_json("job:org", "Mine", numInstances=1))
    assert operator(number_of_instances=3).execute(context)["changed"] == []
    assert "other values of ['numInstances']" in task_log()


def test_does_not_overwrite_change_since_earlier_task(hub, context):
    hub.jobs["job:org"]["lastModifiedOn"] = T0 + 999
    with pytest.raises(ControlHubConflictError, match=r"another-user@org changed it at .*after it was read"):
        operator(description="new", unchanged_since=SEEN).execute(context)
    assert hub.updated == []


@pytest.mark.parametrize("seen", [SEEN, timezone.parse(SEEN), "2026-01-01T11:50:00.123+02:00"])
def test_updates_job_unchanged_since_given_time(hub, context, seen):
    operator(description="new", unchanged_since=seen).execute(context)
    assert len(hub.updated) == 1


def test_does_not_overwrite_concurrent_change(http, hub, context):
    versions = iter([T0 + 123, T0 + 456])
    http.get(f"{JR}/job/job:org", json=lambda *_: job_json("job:org", "Mine", lastModifiedOn=next(versions)))
    with pytest.raises(ControlHubConflictError):
        operator(description="new").execute(context)
    assert hub.updated == []


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({"currentJobStatus": run_json(4)}, "is ACTIVE: stop it first"),
        ({"templateJobId": "template:org"}, "attached to the job template template:org"),
    ],
)
def test_active_or_attached_job_fails(http, context, job, message):
    hub = JobCatalogHub(http, job_json("job:org", "Mine", **job))
    with pytest.raises(ControlHubJobStateError, match=message):
        operator(description="new").execute(context)
    assert hub.updated == []


def test_updates_job_that_has_run(http, context):
    hub = JobCatalogHub(http, job_json("job:org", "Mine", currentJobStatus=succeeded(4)))
    operator(description="new").execute(context)
    assert hub.updated[0]["currentJobStatus"]["runCount"] == 4


def test_unknown_version_error_lists_known_versions(hub, context):
    with pytest.raises(ControlHubNotFoundError, match=r"no published version 9\..*3 .*, 2 .*, 1 "):
        operator(pipeline_version="9").execute(context)
    assert hub.updated == []


def test_version_change_without_pipeline_fails(http, context):
    JobCatalogHub(http, job_json("job:org", "Mine", pipelineId=None))
    with pytest.raises(ControlHubUnexpectedResponseError, match=r"Cannot update job 'Mine' .* not name its pipeline"):
        operator(pipeline_version="latest").execute(context)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "At least one job setting, a pipeline version or 'new_name' is required"),
        ({"job_id": None, "description": "x"}, "is required, got none"),
        ({"new_name": ""}, "'new_name' must be a non-empty string"),
        (
            {"description": "x", "unchanged_since": "yesterday"},
            "'unchanged_since' must be a datetime or an ISO 8601 string",
        ),
        ({"description": "x", "template": "perhaps"}, "'template' must be true or false"),
        ({"number_of_instances": -2}, "'number_of_instances' must be an integer >= 1 or -1"),
        ({"pipeline_tag": "x", "pipeline_version": "latest"}, "At most one of"),
    ],
)
def test_rejects_invalid_arguments_at_parse(arguments, message):
    with pytest.raises(ValueError, match=message):
        operator(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"new_name": "{{ '' }}"}, "'new_name' must be a non-empty string"),
        (
            {"description": "x", "unchanged_since": "{{ 'x' }}"},
            "'unchanged_since' must be a datetime or an ISO 8601 string",
        ),
        ({"failover_retries": "{{ -2 }}"}, "'failover_retries' must be an integer >= 0 or -1"),
    ],
)
def test_rejects_invalid_rendered_values_before_requests(http, context, arguments, message):
    task = operator(**arguments)
    task.render_template_fields(dict(context))
    with pytest.raises(ValueError, match=message):
        task.execute(context)
    assert not http.request_history


def test_execute_changes_no_template_field(hub, context):
    task = operator(runtime_parameters='{"DAY": "2"}', engine_labels=("a", "b"), unchanged_since=SEEN)
    before = {name: getattr(task, name) for name in task.template_fields}
    task.execute(context)
    assert {name: getattr(task, name) for name in task.template_fields} == before
    assert hub.updated[0]["labels"] == ["a", "b"]
