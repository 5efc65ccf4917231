from __future__ import annotations

import email.utils
import re
from datetime import timedelta

import pytest
import requests
import requests_mock

from airflow_provider_streamsets.control_hub import (
    ControlHubAmbiguousNameError,
    ControlHubExistsError,
    ControlHubJobStateError,
    ControlHubNotFoundError,
)
from airflow_provider_streamsets.operators.jobs import ControlHubCreateJobOperator
from tests.unit.fakes.job_catalog_hub import JR, PIPELINE_ID, PIPELINE_NAME, PS, JobCatalogHub, job_json
from tests.unit.fakes.single_job_hub import HUB, ME, T0, run_json

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture(autouse=True)
def now(monkeypatch):
    """The time at which the scripted Control Hub creates jobs."""
    monkeypatch.setattr("airflow_provider_streamsets.control_hub.submission.wall_clock", lambda: T0 / 1000 + 1000)


def operator(**arguments):
    if "pipeline_name" not in arguments:
        arguments.setdefault("pipeline_id", PIPELINE_ID)
    return ControlHubCreateJobOperator(**{"task_id": "create", "job_name": "Mine", **arguments})


def test_latest_version_is_default_and_id_is_returned(http, context, task_log):
    hub = JobCatalogHub(http)
    job_id = operator().execute(context)
    (job,) = hub.named("Mine")
    assert job_id == job["id"]
    assert (job["pipelineCommitId"], job["pipelineCommitLabel"], job["rulesId"]) == (
        "commit-3:org",
        "v3",
        "rules-3:org",
    )
    assert context["ti"].xcoms == {"job_id": job_id, "streamsets_job_link": f"{HUB}/sch/jobs/detail/{job_id}"}
    assert "uses version 3 of pipeline 'Orders'" in task_log()


@pytest.mark.parametrize(
    ("chosen", "version"),
    [
        ({"pipeline_version": "1"}, "v1"),
        ({"pipeline_version": 1}, "v1"),
        ({"pipeline_version": "v1"}, "v1"),
        ({"pipeline_version": "latest"}, "v3"),
        ({"pipeline_commit_id": "commit-1:org"}, "v1"),
        ({"pipeline_tag": "released"}, "v2"),
    ],
)
def test_version_is_selected_by_number_commit_or_tag(http, context, chosen, version):
    hub = JobCatalogHub(http)
    operator(**chosen).execute(context)
    assert hub.created[0]["pipelineCommitLabel"] == version


def test_pipeline_is_found_by_name(http, context):
    hub = JobCatalogHub(http)
    operator(pipeline_name=PIPELINE_NAME).execute(context)
    assert hub.created[0]["pipelineId"] == PIPELINE_ID


def test_every_setting_reaches_control_hub(http, context):
    hub = JobCatalogHub(http)
    operator(
        description="Made by Airflow",
        engine_labels=["prod", "eu"],
        job_tags=["nightly/orders"],
        runtime_parameters='{"DAY": "2026-01-01"}',
        number_of_instances=-1,
        failover=True,
        failover_retries=-1,
        failover_retries_per_engine=3,
        needs_acknowledgement=False,
        statistics_interval=timedelta(seconds=30),
        force_stop_after=90,
        template=True,
        static_parameters=["DAY"],
        time_series=True,
    ).execute(context)
    sent = hub.created[0]
    assert {
        "name": "Mine",
        "description": "Made by Airflow",
        "labels": ["prod", "eu"],
        "rawJobTags": ["nightly/orders"],
        "runtimeParameters": '{"DAY": "2026-01-01"}',
        "numInstances": -1,
        "migrateOffsets": True,
        "globalMaxRetries": -1,
        "maxRetriesForFailedJob": 3,
        "needsManualAck": False,
        "statsRefreshInterval": 30_000,
        "forceStopTimeout": 90_000,
        "jobTemplate": True,
        "staticParameters": ["DAY"],
        "timeSeries": True,
    }.items() <= sent.items()


def test_omitted_settings_use_defaults(http, context):
    hub = JobCatalogHub(http)
    operator().execute(context)
    sent = hub.created[0]
    assert (sent["labels"], sent["numInstances"], sent["statsRefreshInterval"]) == (["all"], 1, 60_000)
    assert not {"migrateOffsets", "needsManualAck", "timeSeries", "description"} & sent.keys()


def test_existing_job_fails_by_default(http, context):
    hub = JobCatalogHub(http, job_json("old:org", "Mine"))
    with pytest.raises(ControlHubExistsError, match=r"it exists already \(old:org\).*if_exists='skip'"):
        operator().execute(context)
    assert hub.created == hub.updated == []


def test_existing_job_is_skipped(http, context):
    hub = JobCatalogHub(http, job_json("old:org", "Mine"))
    assert operator(if_exists="skip", description="new").execute(context) == "old:org"
    assert hub.created == hub.updated == []
    assert context["ti"].xcoms["job_id"] == "old:org"


def test_existing_job_is_updated(http, context):
    hub = JobCatalogHub(http, job_json("old:org", "Mine"))
    assert operator(if_exists="update", description="new").execute(context) == "old:org"
    assert hub.created == []
    (sent,) = hub.updated
    assert (sent["description"], sent["pipelineCommitLabel"], sent["labels"]) == ("new", "v3", ["prod"])
    assert sent["somethingNew"] == {"kept": True}


@pytest.mark.parametrize("if_exists", ["fail", "skip", "update"])
def test_retry_creates_no_second_job(http, context, if_exists):
    hub = JobCatalogHub(http)
    first = operator(if_exists=if_exists).execute(context)
    context["ti"].try_number = 2
    assert operator(if_exists=if_exists).execute(context) == first
    assert len(hub.named("Mine")) == len(hub.created) == 1


def test_active_job_is_not_updated(http, context):
    hub = JobCatalogHub(http, job_json("old:org", "Mine", currentJobStatus=run_json(4)))
    with pytest.raises(ControlHubJobStateError, match="is ACTIVE: stop it first"):
        operator(if_exists="update").execute(context)
    assert hub.updated == []


def test_template_of_same_name_is_no_existing_job(http, context):
    hub = JobCatalogHub(http, job_json("template:org", "Mine", jobTemplate=True))
    assert operator().execute(context) != "template:org"
    assert len(hub.named("Mine")) == 2


def test_lost_response_creates_no_second_job(http, context, sleep_calls):
    hub = JobCatalogHub(http)

    def lose(request, _):
        hub._create(request, _)
        raise requests.exceptions.ReadTimeout

    http.put(f"{JR}/jobs", text=lose)
    assert operator().execute(context) == hub.named("Mine")[0]["id"]
    assert len(hub.created) == 1


class LostError(BaseException):
    """The process is gone."""


def lost(hub, context, effect=True):
    """Run a first try whose process is lost when it sends the create call, after or before that has its effect."""

    def lose(request, answer):
        if effect:
            hub._create(request, answer)
        raise LostError

    hub.http.put(f"{JR}/jobs", text=lose)
    with pytest.raises(LostError):
        operator().execute(context)
    hub.http.put(f"{JR}/jobs", json=hub._create)
    context["ti"].try_number = 2


def test_retry_adopts_job_of_lost_try(http, context, task_log):
    hub = JobCatalogHub(http)
    lost(hub, context)
    job_id = hub.named("Mine")[0]["id"]
    assert operator().execute(context) == job_id
    assert len(hub.created) == 1
    assert f"Job 'Mine' ({job_id}): created by a previous try of this task; reusing it." in task_log()


@pytest.mark.parametrize("skew", [-3600, 3600])
@pytest.mark.parametrize("age", [0, 60, 600])
def test_retry_waits_for_late_request_despite_clock_skew(http, context, sleep_calls, monkeypatch, skew, age):
    hub = JobCatalogHub(http)
    passed = [0.0]

    def now():
        return T0 / 1000 + 1000 + skew + passed[0] + sum(sleep_calls)

    monkeypatch.setattr("airflow_provider_streamsets.control_hub.submission.wall_clock", now)
    monkeypatch.setattr("airflow_provider_streamsets.control_hub.transport.time.time", now)
    set_server_date(monkeypatch, lambda: now() - skew)
    lost(hub, context, effect=False)
    passed[0] += age
    operator().execute(context)
    assert sum(sleep_calls) == max(120 - age, 0)
    assert len(hub.created) == 1


def set_server_date(monkeypatch, now):
    """Add the time of Control Hub to each response."""
    answer_of = requests_mock.Adapter.send

    def send(adapter, request, **arguments):
        answer = answer_of(adapter, request, **arguments)
        answer.headers["Date"] = email.utils.formatdate(now(), usegmt=True)
        return answer

    monkeypatch.setattr(requests_mock.Adapter, "send", send)


def test_retry_creates_job_that_lost_try_did_not(http, context, sleep_calls):
    hub = JobCatalogHub(http)
    lost(hub, context, effect=False)
    assert operator().execute(context) == hub.named("Mine")[0]["id"]
    assert len(hub.created) == 1


@pytest.mark.parametrize(
    "foreign", [{"creator": "another-user@org"}, {"createTime": T0}], ids=["another user", "another time"]
)
def test_retry_does_not_adopt_foreign_job(http, context, sleep_calls, foreign):
    hub = JobCatalogHub(http)
    lost(hub, context, effect=False)
    hub.jobs["foreign:org"] = job_json(
        "foreign:org", "Mine", **{"creator": ME, "createTime": T0 + 1_000_000, **foreign}
    )
    with pytest.raises(ControlHubExistsError, match="foreign:org"):
        operator().execute(context)


def test_cleared_task_treats_own_job_as_existing(http, context):
    hub = JobCatalogHub(http)
    operator().execute(context)
    context["ti"].try_number = 2
    assert operator().execute(context) == hub.named("Mine")[0]["id"]
    context["ti"].max_tries = 5
    with pytest.raises(ControlHubExistsError):
        operator().execute(context)


@pytest.mark.parametrize("if_exists", ["fail", "skip", "update"])
def test_cleared_task_waits_for_late_request(http, context, sleep_calls, monkeypatch, if_exists):
    hub = JobCatalogHub(http)
    late = []

    def lose(request, _):
        late.append(request)
        raise LostError

    def listed(request, answer):
        if sum(sleep_calls) >= 60 and late:
            hub._create(late.pop(), answer)
        return hub._list(request, answer)

    http.put(f"{JR}/jobs", text=lose)
    http.get(re.compile(f"^{re.escape(JR)}/jobs[?]"), json=listed)
    with pytest.raises(LostError):
        operator(if_exists=if_exists).execute(context)
    http.put(f"{JR}/jobs", json=hub._create)
    context["ti"].try_number, context["ti"].max_tries = 2, 5
    if if_exists == "fail":
        with pytest.raises(ControlHubExistsError):
            operator(if_exists=if_exists).execute(context)
    else:
        assert operator(if_exists=if_exists).execute(context) == hub.named("Mine")[0]["id"]
    assert not late
    assert len(hub.named("Mine")) == 1


def test_unknown_version_error_lists_versions(http, context):
    hub = JobCatalogHub(http)
    with pytest.raises(
        ControlHubNotFoundError, match=r"no published version 9\. .* versions: 3 \(commit .*\), 2 .*, 1 "
    ):
        operator(pipeline_version=9).execute(context)
    with pytest.raises(ControlHubNotFoundError, match=r"version tagged 'nightly'.*Tags: released"):
        operator(pipeline_tag="nightly").execute(context)
    assert hub.created == []


def test_ambiguous_pipeline_name_creates_nothing(http, context):
    hub = JobCatalogHub(http)
    twins = [{**hub.versions[0], "pipelineId": f"p{n}:org", "commitId": f"c{n}"} for n in (1, 2)]
    http.get(f"{PS}/saql/pipelines/search", json={"totalCount": 2, "data": twins})
    with pytest.raises(ControlHubAmbiguousNameError, match="2 pipelines have this name"):
        operator(pipeline_name=PIPELINE_NAME).execute(context)
    assert hub.created == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"pipeline_id": None}, "Exactly one of 'pipeline_id', 'pipeline_name' is required"),
        ({"pipeline_id": "x", "pipeline_name": "y"}, "got 'pipeline_id' and 'pipeline_name'"),
        ({"pipeline_version": 1, "pipeline_tag": "x"}, "At most one of .* is allowed, got 'pipeline_version' and"),
        ({"pipeline_version": "newest"}, "'pipeline_version' must be a version number such as '3' or 'latest'"),
        ({"pipeline_version": 1.5}, "'pipeline_version' must be a version number"),
        ({"job_name": " "}, "'job_name' must be a non-empty string"),
        ({"job_name": 7}, "'job_name' must be a non-empty string"),
        ({"engine_labels": "prod"}, "'engine_labels' must be a list of strings"),
        ({"job_tags": [""]}, "'job_tags' must be a list of non-empty strings"),
        ({"runtime_parameters": [1]}, "'runtime_parameters' must be a JSON object"),
        ({"number_of_instances": 0}, "'number_of_instances' must be an integer >= 1 or -1"),
        ({"failover": "perhaps"}, "'failover' must be true or false"),
        ({"failover_retries": -2}, "'failover_retries' must be an integer >= 0 or -1"),
        ({"failover_retries_per_engine": "many"}, "'failover_retries_per_engine' must be an integer"),
        ({"needs_acknowledgement": 1}, "'needs_acknowledgement' must be true or false"),
        ({"statistics_interval": 0}, "'statistics_interval' must be a number of seconds above 0"),
        ({"force_stop_after": -1}, "'force_stop_after' must be a number of seconds above 0"),
        ({"template": "perhaps"}, "'template' must be true or false"),
        ({"static_parameters": {"a": 1}}, "'static_parameters' must be a list of strings"),
        ({"time_series": "perhaps"}, "'time_series' must be true or false"),
        ({"if_exists": "replace"}, "'if_exists' must be one of 'fail', 'skip', 'update'"),
        ({"description": 7}, "'description' must be a string"),
    ],
)
def test_rejects_invalid_arguments_at_parse(arguments, said):
    with pytest.raises(ValueError, match=said):
        operator(**arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"job_name": "{{ '' }}"}, "'job_name' must be a non-empty string"),
        ({"pipeline_id": "{{ '' }}"}, "'pipeline_id' must be a non-empty string"),
        ({"pipeline_version": "{{ 'x' }}"}, "'pipeline_version' must be a version number"),
        ({"engine_labels": "{{ 7 }}"}, "'engine_labels' must be a list of strings"),
        ({"runtime_parameters": "{{ [1] }}"}, "'runtime_parameters' must be a JSON object"),
        ({"number_of_instances": "{{ 0 }}"}, "'number_of_instances' must be an integer >= 1 or -1"),
        ({"if_exists": "{{ 'replace' }}"}, "'if_exists' must be one of"),
    ],
)
def test_rejects_invalid_rendered_values_before_requests(http, context, arguments, said):
    task = operator(**arguments)
    task.render_template_fields(dict(context))
    with pytest.raises(ValueError, match=said):
        task.execute(context)
    assert not http.request_history


def test_every_parameter_may_be_rendered(http, context):
    hub = JobCatalogHub(http)
    task = operator(
        **{
            name: f"{{{{ values.{name} }}}}"
            for name in ControlHubCreateJobOperator.template_fields
            if name not in EXCLUDED
        }
    )
    values = {
        "job_name": "Computed",
        "pipeline_id": PIPELINE_ID,
        "control_hub_conn_id": "streamsets_default",
        "pipeline_version": 2,
        "description": "Computed, too",
        "engine_labels": ["prod"],
        "job_tags": ["a/b"],
        "runtime_parameters": {"DAY": "1"},
        "strict_parameters": True,
        "number_of_instances": 2,
        "failover": True,
        "failover_retries": 0,
        "failover_retries_per_engine": -1,
        "needs_acknowledgement": True,
        "statistics_interval": 12.5,
        "force_stop_after": 90,
        "static_parameters": ["DAY"],
        "time_series": False,
        "template": False,
        "if_exists": "skip",
    }
    task.render_template_fields({"values": values})
    rendered = {name: getattr(task, name) for name in task.template_fields}
    task.execute(context)
    assert {name: getattr(task, name) for name in task.template_fields} == rendered
    sent = hub.created[0]
    assert (sent["name"], sent["pipelineCommitLabel"], sent["rawJobTags"]) == ("Computed", "v2", ["a/b"])
    assert (sent["numInstances"], sent["migrateOffsets"], sent["statsRefreshInterval"]) == (2, True, 12_500)


EXCLUDED = {"pipeline_name", "pipeline_commit_id", "pipeline_tag"}


def test_skipped_job_of_other_version_warns(http, context, task_log):
    JobCatalogHub(http, job_json("mine:org", "Mine"))
    assert operator(if_exists="skip", pipeline_version=9).execute(context) == "mine:org"
    assert "not the requested one" in task_log()
