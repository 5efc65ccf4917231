"""Creating, updating, upgrading and deleting jobs: what is sent, and what a lost answer leads to."""

from __future__ import annotations

import json
import logging

import pendulum
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub import (
    ControlHubAmbiguousNameError,
    ControlHubBulkError,
    ControlHubConfigurationError,
    ControlHubConflictError,
    ControlHubError,
    ControlHubExistsError,
    ControlHubJobStateError,
    ControlHubNotFoundError,
    ControlHubRejectedError,
    ControlHubUnavailableError,
    ControlHubUnexpectedResponseError,
    Job,
    JobSettings,
    PipelineVersion,
)
from airflow_provider_streamsets.control_hub.job_state import check_deletable
from tests.unit.fakes.api_payloads import (
    AMBIGUOUS_OUTCOMES,
    HOUR,
    JOB,
    JOB_ID,
    JOB_NAME,
    JOBS,
    JR,
    ME,
    ORGANIZATION,
    PIPELINE_ID,
    PS,
    READ_TIMEOUT,
    REFUSED,
    REJECTIONS,
    T0,
    TEMPLATE_ID,
    UNDELIVERED,
    UNKNOWN,
    commit_id,
    failed,
    issues_json,
    job_json,
    methods,
    page_json,
    paths,
    payload,
    pipeline_json,
    query,
    run_json,
    succeeded,
    template_json,
)

PIPELINE = PipelineVersion.from_wire(pipeline_json(3))
DRAFT = PipelineVersion.from_wire(pipeline_json("4-DRAFT", commitId="draft"))
UPGRADE, DELETE = f"{JOBS}/upgradeJobs", f"{JOBS}/deleteJobs"
LATEST_COMMITS = f"{PS}/pipelines/latestCommit"
DELETE_TEMPLATES = f"{JOBS}/deleteJobTemplates"
LIST_AND_CREATE = ["GET /jobrunner/rest/v1/jobs", "PUT /jobrunner/rest/v1/jobs"]
READ_AND_UPDATE = [f"GET /jobrunner/rest/v1/job/{JOB_ID}", f"POST /jobrunner/rest/v1/job/{JOB_ID}"]

# Every setting, and the fields that it stands for.
SETTINGS = {
    "name": ("New name", {"name": "New name"}),
    "description": ("Of the night", {"description": "Of the night"}),
    "engine_labels": (["eu", "large"], {"labels": ["eu", "large"]}),
    "tags": (
        ["finance"],
        {
            "rawJobTags": ["finance"],
            "jobTags": [
                {
                    "id": f"finance:{ORGANIZATION}",
                    "tag": "finance",
                    "parentId": None,
                    "organization": ORGANIZATION,
                }
            ],
        },
    ),
    "runtime_parameters": ({"A": [1, None]}, {"runtimeParameters": '{"A": [1, null]}'}),
    "number_of_instances": (-1, {"numInstances": -1}),
    "failover": (False, {"migrateOffsets": False}),
    "failover_retries": (0, {"globalMaxRetries": 0}),
    "failover_retries_per_engine": (-1, {"maxRetriesForFailedJob": -1}),
    "needs_acknowledgement": (True, {"needsManualAck": True}),
    "statistics_interval": (1.5, {"statsRefreshInterval": 1500}),
    "force_stop_after": (30, {"forceStopTimeout": 30000}),
    "static_parameters": (["REGION"], {"staticParameters": ["REGION"]}),
    "time_series": (True, {"timeSeries": True}),
}


class CreatingHub:
    """Lists jobs by name and creates them; the create call can fail before or after it has had its effect."""

    def __init__(self, http, *jobs):
        self.jobs = list(jobs)
        self.answers = []
        http.get(JOBS, json=self._list)
        http.put(JOBS, json=self._create)

    def _list(self, request, _):
        is_template = query(request)["jobTemplate"] == "true"
        asked = query(request)["jobSearchText"].lower()
        found = [job for job in self.jobs if asked in job["name"].lower() and job["jobTemplate"] == is_template]
        return page_json(*found)

    def _create(self, request, context):
        executed, answer = self.answers.pop(0) if self.answers else (True, {})
        job = {**job_json(f"new-{len(self.jobs)}:o", request.json()["name"]), **request.json()}
        if executed:
            self.jobs.append(job)
        if "exc" in answer:
            raise answer["exc"]
        context.status_code = answer.get("status_code", 200)
        return answer.get("json", job if executed else None)


def test_every_setting_has_an_example():
    assert list(SETTINGS) == list(JobSettings().to_dict())


def test_create_sends_sdk_defaults(http, client):
    CreatingHub(http)
    job = client.jobs.create(JobSettings(name="New"), PIPELINE)
    assert (job.job_id, job.name, job.pipeline_version) == ("new-0:o", "New", "3")
    assert paths(http) == LIST_AND_CREATE
    assert http.last_request.json() == {
        "name": "New",
        "pipelineId": PIPELINE_ID,
        "pipelineName": "Orders",
        "pipelineCommitId": commit_id(3),
        "pipelineCommitLabel": "v3",
        "rulesId": f"rules-3:{ORGANIZATION}",
        "executorType": "COLLECTOR",
        "labels": ["all"],
        "numInstances": 1,
        "statsRefreshInterval": 60000,
        "forceStopTimeout": 120000,
        "runtimeParameters": "{}",
        "rawJobTags": [],
        "jobTemplate": False,
    }


@pytest.mark.parametrize("name", SETTINGS)
def test_create_sends_setting(http, client, name):
    CreatingHub(http)
    value, fields = SETTINGS[name]
    client.jobs.create(JobSettings(**{"name": "New", name: value}), PIPELINE)
    body = http.last_request.json()
    assert {key: body[key] for key in fields if key != "jobTags"} == {k: v for k, v in fields.items() if k != "jobTags"}
    # They are no field of a new job; Control Hub makes them from the raw tags.
    assert "jobTags" not in body


def test_template_may_share_job_name(http, client):
    hub = CreatingHub(http, job_json(name="New"))
    job = client.jobs.create(JobSettings(name="New", static_parameters=["A"]), PIPELINE, template=True)
    assert job.is_template
    assert query(http.request_history[0])["jobTemplate"] == "true"
    assert http.last_request.json()["jobTemplate"] is True
    assert len(hub.jobs) == 2


@pytest.mark.parametrize(
    ("given_", "pipeline", "options", "message"),
    [
        (JobSettings(), PIPELINE, {}, "without a name"),
        (JobSettings(name="New"), DRAFT, {}, r"'Orders' version 4-DRAFT.*it is a draft\. Publish it first"),
        (JobSettings(name="New"), PIPELINE, {"if_exists": "replace"}, "'if_exists' must be .*, got 'replace'"),
    ],
)
def test_invalid_create_sends_nothing(http, client, given_, pipeline, options, message):
    with pytest.raises(ControlHubConfigurationError, match=message):
        client.jobs.create(given_, pipeline, **options)
    assert http.call_count == 0


@pytest.mark.parametrize("count", [1, 2])
def test_create_rejects_existing_name(http, client, count):
    hub = CreatingHub(http, *(job_json(f"job-{n}:o", "New") for n in range(count)))
    with pytest.raises(ControlHubExistsError, match=r"Cannot create job 'New': .*job-0:o.*if_exists='skip'"):
        client.jobs.create(JobSettings(name="New"), PIPELINE)
    assert methods(http) == ["GET"]
    assert len(hub.jobs) == count


def test_create_ignores_similar_names(http, client):
    hub = CreatingHub(http, job_json("a:o", "new"), job_json("b:o", "New one"), job_json("c:o", "New "))
    client.jobs.create(JobSettings(name="New"), PIPELINE)
    assert [job["name"] for job in hub.jobs] == ["new", "New one", "New ", "New"]


def test_create_can_skip_existing_job(http, client):
    CreatingHub(http, job_json(name="New"))
    job = client.jobs.create(JobSettings(name="New", description="other"), PIPELINE, if_exists="skip")
    assert (job.job_id, job.description, job.pipeline_version) == (JOB_ID, "", "2")
    assert methods(http) == ["GET"]


def test_create_can_update_existing_job(http, client):
    raw = job_json(name="New", jobSequence=True)
    CreatingHub(http, raw)
    http.get(JOB, json=raw)
    http.post(JOB, json=lambda request, _: request.json())
    job = client.jobs.create(JobSettings(name="New", description="other"), PIPELINE, if_exists="update")
    assert (job.job_id, job.description, job.pipeline_version) == (JOB_ID, "other", "3")
    assert paths(http) == [LIST_AND_CREATE[0], *READ_AND_UPDATE]
    # Settings that are not given keep their values: the defaults are those of a new job.
    assert http.last_request.json()["labels"] == ["prod"]
    assert http.last_request.json()["jobSequence"] is True


@pytest.mark.parametrize("if_exists", ["skip", "update"])
def test_create_rejects_ambiguous_name(http, client, if_exists):
    CreatingHub(http, job_json("a:o", "New"), job_json("b:o", "New"))
    with pytest.raises(ControlHubAmbiguousNameError, match=r"2 jobs have it \(a:o, b:o\)"):
        client.jobs.create(JobSettings(name="New"), PIPELINE, if_exists=if_exists)
    assert methods(http) == ["GET"]


@pytest.mark.parametrize("end", AMBIGUOUS_OUTCOMES.values(), ids=AMBIGUOUS_OUTCOMES)
@pytest.mark.parametrize("template", [False, True])
def test_lost_create_response_finds_job(http, client, end, template):
    http.put(JOBS, **end)
    http.get(JOBS, [{"json": []}, {"json": page_json(job_json("new:o", "New", jobTemplate=template))}])
    assert client.jobs.create(JobSettings(name="New"), PIPELINE, template=template).job_id == "new:o"
    assert methods(http) == ["GET", "PUT", "GET"]


@pytest.mark.parametrize("answer", [{"content": b""}, {"json": None}, {"json": {}}, {"json": []}, {"json": [{}]}])
def test_create_response_without_job_finds_it(http, client, answer):
    http.put(JOBS, **answer)
    http.get(JOBS, [{"json": []}, {"json": page_json(job_json("new:o", "New"))}])
    assert client.jobs.create(JobSettings(name="New"), PIPELINE).job_id == "new:o"
    assert methods(http) == ["GET", "PUT", "GET"]


def test_late_created_job_is_awaited(http, client, clock):
    http.put(JOBS, exc=READ_TIMEOUT)
    http.get(JOBS, [{"json": []}] * 3 + [{"json": page_json(job_json("new:o", "New"))}])
    assert client.jobs.create(JobSettings(name="New"), PIPELINE).job_id == "new:o"
    assert methods(http) == ["GET", "PUT", "GET", "GET", "GET"]
    assert clock.slept == [3.0, 3.0]


@pytest.mark.parametrize("end", AMBIGUOUS_OUTCOMES.values(), ids=AMBIGUOUS_OUTCOMES)
def test_ambiguous_create_without_job_is_not_retried(http, client, clock, end):
    """Control Hub may still be at it; a second call would make a second job."""
    http.get(JOBS, json=[])
    http.put(JOBS, **end)
    with pytest.raises(ControlHubUnavailableError, match=r"No such job appeared within 60 s\. .*if_exists") as caught:
        client.jobs.create(JobSettings(name="New"), PIPELINE)
    assert caught.value.maybe_executed is True
    assert methods(http).count("PUT") == 1
    assert sum(clock.slept) >= 60


@pytest.mark.parametrize("end", AMBIGUOUS_OUTCOMES.values(), ids=AMBIGUOUS_OUTCOMES)
@pytest.mark.parametrize("search", [{"status_code": 503}, {"exc": REFUSED}, {"status_code": 401}, {"text": "<html>"}])
def test_unconfirmed_create_is_not_retried(http, client, end, search):
    http.get(JOBS, [{"json": []}, search])
    http.put(JOBS, **end)
    with pytest.raises(ControlHubUnavailableError, match="Could not determine whether the job was created") as caught:
        client.jobs.create(JobSettings(name="New"), PIPELINE)
    assert caught.value.maybe_executed is True
    assert methods(http).count("PUT") == 1


@pytest.mark.parametrize("end", UNDELIVERED.values(), ids=UNDELIVERED)
def test_undelivered_create_is_retried(http, client, end):
    http.get(JOBS, json=[])
    http.put(JOBS, [end, end, {"json": job_json("new:o", "New")}])
    assert client.jobs.create(JobSettings(name="New"), PIPELINE).job_id == "new:o"
    assert methods(http) == ["GET", "PUT", "PUT", "PUT"]


@pytest.mark.parametrize("refusal", REJECTIONS.values(), ids=REJECTIONS)
def test_rejected_create_is_not_retried(http, client, refusal):
    http.get(JOBS, json=[])
    http.put(JOBS, **refusal)
    with pytest.raises(ControlHubError, match=r"Cannot create job 'New'.*JOBRUNNER_7 - that is not allowed") as caught:
        client.jobs.create(JobSettings(name="New"), PIPELINE)
    assert caught.value.http_status == refusal["status_code"]
    assert methods(http) == ["GET", "PUT"]


def test_create_error_500_is_not_retried(http, client):
    http.get(JOBS, json=[])
    http.put(JOBS, status_code=500, json=issues_json(("JOBRUNNER_7", "no such pipeline")))
    with pytest.raises(ControlHubRejectedError, match="JOBRUNNER_7 - no such pipeline"):
        client.jobs.create(JobSettings(name="New"), PIPELINE)
    assert methods(http).count("PUT") == 1


_ENDS = st.tuples(
    st.booleans(),
    st.sampled_from([{}, {"json": None}, {"status_code": 500}, {"status_code": 504}, {"exc": READ_TIMEOUT}]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(ends=st.lists(_ENDS, max_size=4))
def test_create_makes_at_most_one_job(http, client, ends):
    http.reset()
    hub = CreatingHub(http)
    hub.answers = list(ends)
    try:
        job = client.jobs.create(JobSettings(name="New"), PIPELINE)
    except ControlHubError:
        assert hub.jobs == []
    else:
        assert [raw["id"] for raw in hub.jobs] == [job.job_id]


@pytest.mark.parametrize("name", SETTINGS)
def test_update_sends_whole_job(http, client, name):
    raw = job_json(
        jobSequence=False, cdConfig=None, unknown={"of": ["a", "newer", "version"]}, currentJobStatus=succeeded(3)
    )
    http.get(JOB, json=raw)
    http.post(JOB, json=lambda request, _: request.json())
    value, fields = SETTINGS[name]
    job = client.jobs.update(JOB_ID, JobSettings(**{name: value}))
    assert paths(http) == READ_AND_UPDATE
    assert http.last_request.json() == {**raw, **fields}
    assert query(http.last_request) == {}
    assert job.job_id == JOB_ID


@pytest.mark.parametrize("name", ["job-never-run", "job-inactive-success", "job-inactive-red"])
def test_update_keeps_other_example_fields(http, client, name):
    raw = payload(name)
    url = f"{JR}/job/{raw['id']}"
    http.get(url, json=raw)
    http.post(url, json=lambda request, _: request.json())
    client.jobs.update(raw["id"], JobSettings(description="Changed"))
    assert http.last_request.json() == {**raw, "description": "Changed"}


def test_nested_tags_name_parents(http, client):
    http.get(JOB, json=job_json(jobTags=[{"id": "old"}]))
    http.post(JOB, json=lambda request, _: request.json())
    client.jobs.update(JOB_ID, JobSettings(tags=["nightly/orders/eu", "a:b"]))
    body = http.last_request.json()
    assert body["rawJobTags"] == ["nightly/orders/eu", "a:b"]
    assert [(tag["id"], tag["tag"], tag["parentId"]) for tag in body["jobTags"]] == [
        (f"nightly/orders/eu:{ORGANIZATION}", "eu", f"nightly/orders:{ORGANIZATION}"),
        (f"a:b:{ORGANIZATION}", "a:b", None),
    ]


def test_all_tags_can_be_removed(http, client):
    http.get(JOB, json=job_json(jobTags=[{"id": "old"}]))
    http.post(JOB, json=lambda request, _: request.json())
    assert client.jobs.update(JOB_ID, JobSettings(tags=[])).tags == ()
    assert http.last_request.json()["jobTags"] == []


def test_pipeline_version_updates_commit_and_rules(http, client):
    raw = job_json(rulesId="rules-2")
    http.get(JOB, json=raw)
    http.post(JOB, json=lambda request, _: request.json())
    assert client.jobs.update(JOB_ID, pipeline=PIPELINE).pipeline_version == "3"
    sent = http.last_request.json()
    assert {name: value for name, value in sent.items() if value != raw[name]} == {
        "pipelineCommitId": commit_id(3),
        "pipelineCommitLabel": "v3",
        "rulesId": f"rules-3:{ORGANIZATION}",
    }


def test_draft_pipeline_is_rejected(http, client):
    http.get(JOB, json=job_json())
    with pytest.raises(ControlHubConfigurationError, match=r"it is a draft\. Publish it first"):
        client.jobs.update(JOB_ID, pipeline=DRAFT)
    assert "POST" not in methods(http)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"settings": JobSettings()},
        {"settings": JobSettings(name=JOB_NAME, engine_labels=("prod",), tags=["nightly/orders"], failover=True)},
        {"settings": JobSettings(runtime_parameters={"SIZE": "1000", "DIRECTORY": "/data/in"})},
        {"settings": JobSettings(statistics_interval=60, force_stop_after=120.0, number_of_instances=1)},
        {"pipeline": PipelineVersion.from_wire(pipeline_json(2))},
    ],
)
@pytest.mark.parametrize("status", [None, run_json(3, "ACTIVE")])
def test_unchanged_job_is_not_updated(http, client, asked, status):
    http.get(JOB, json=job_json(currentJobStatus=status, rulesId=f"rules-2:{ORGANIZATION}", templateJobId="t:o"))
    assert client.jobs.update(JOB_ID, **asked).job_id == JOB_ID
    assert methods(http) == ["GET"]


@pytest.mark.parametrize("stored", [None, "", "null", "{}", '{"A": "2"}'])
def test_parameters_replace_any_stored_value(http, client, stored):
    http.get(JOB, json=job_json(runtimeParameters=stored))
    http.post(JOB, json=lambda request, _: request.json())
    client.jobs.update(JOB_ID, JobSettings(runtime_parameters={"A": "1"}))
    assert json.loads(http.last_request.json()["runtimeParameters"]) == {"A": "1"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"currentJobStatus": run_json(3, "ACTIVATING")}, "is ACTIVATING: stop it first"),
        ({"currentJobStatus": run_json(3, "ACTIVE")}, "is ACTIVE: stop it first"),
        ({"currentJobStatus": run_json(3, "DEACTIVATING")}, "is DEACTIVATING: stop it first"),
        ({"currentJobStatus": run_json(3, None)}, "is in an unknown state: stop it first"),
        (
            {"currentJobStatus": run_json(3, "INACTIVE_ERROR", "RED", errorMessage="RUN_ERROR: disk full")},
            "acknowledge first: RUN_ERROR: disk full",
        ),
        ({"currentJobStatus": run_json(3, "INACTIVE_ERROR", "RED")}, "acknowledge first: none stated"),
        ({"templateJobId": TEMPLATE_ID}, f"attached to the job template {TEMPLATE_ID}. Change the template"),
    ],
)
def test_update_rejects_invalid_state(http, client, fields, message):
    http.get(JOB, json=job_json(**fields))
    with pytest.raises(ControlHubJobStateError, match=message):
        client.jobs.update(JOB_ID, JobSettings(description="new"))
    assert methods(http) == ["GET"]


def test_concurrent_change_is_a_conflict(http, client):
    http.get(JOB, json=job_json(lastModifiedBy="ann@org", lastModifiedOn=T0))
    read_at = pendulum.from_timestamp((T0 - HOUR) / 1000)
    with pytest.raises(ControlHubConflictError, match=r"ann@org changed it at 2026-01-01.*Read it again"):
        client.jobs.update(JOB_ID, JobSettings(description="new"), unchanged_since=read_at)
    assert methods(http) == ["GET"]


def test_change_already_made_is_no_conflict(http, client):
    """As at a second try, whose first one was lost."""
    http.get(JOB, json=job_json(lastModifiedOn=T0, description="new"))
    read_at = pendulum.from_timestamp((T0 - HOUR) / 1000)
    assert client.jobs.update(JOB_ID, JobSettings(description="new"), unchanged_since=read_at).description == "new"
    assert methods(http) == ["GET"]


def test_unmodified_job_is_updated(http, client):
    http.get(JOB, json=job_json(lastModifiedOn=T0 + 123))
    http.post(JOB, json=lambda request, _: request.json())
    read_at = client.jobs.get(JOB_ID).last_modified
    client.jobs.update(JOB_ID, JobSettings(description="new"), unchanged_since=read_at)
    assert http.last_request.json()["description"] == "new"


@pytest.mark.parametrize("answer", [{"content": b""}, {"json": None}, {"json": {}}])
def test_update_response_without_job_reloads_it(http, client, answer):
    http.get(JOB, [{"json": job_json()}, {"json": job_json(description="new")}])
    http.post(JOB, **answer)
    assert client.jobs.update(JOB_ID, JobSettings(description="new")).description == "new"
    assert methods(http) == ["GET", "POST", "GET"]


def test_ambiguous_update_is_retried(http, client):
    http.get(JOB, json=job_json())
    http.post(JOB, [{"exc": READ_TIMEOUT}, {"status_code": 502}, {"json": job_json(description="new")}])
    client.jobs.update(JOB_ID, JobSettings(description="new"))
    assert methods(http) == ["GET", "POST", "POST", "POST"]
    assert len({request.text for request in http.request_history[1:]}) == 1


def test_ignored_setting_is_warned_about(http, client, caplog):
    http.get(JOB, json=job_json())
    http.post(JOB, json=job_json(description="new", runtimeParameters='{"A":"1"}', numInstances=1))
    changes = JobSettings(description="new", runtime_parameters={"A": "1"}, number_of_instances=2, tags=["x"])
    client.jobs.update(JOB_ID, changes)
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "numInstances" in warning
    assert "rawJobTags" in warning
    assert "description" not in warning


def test_effective_update_logs_no_warning(http, client, caplog):
    http.get(JOB, json=job_json())
    # The tag objects and the text of the parameters may come back in a form of Control Hub's own.
    http.post(JOB, json=lambda r, _: {**r.json(), "jobTags": [], "runtimeParameters": '{"B":2,"A":1}'})
    client.jobs.update(JOB_ID, JobSettings(tags=["x"], runtime_parameters={"A": 1, "B": 2}), pipeline=PIPELINE)
    assert not caplog.records


def test_invalid_update_response_raises(http, client):
    http.get(JOB, json=job_json())
    http.post(JOB, json=job_json(runtimeParameters="{"))
    with pytest.raises(ControlHubUnexpectedResponseError, match="'runtimeParameters' of the job"):
        client.jobs.update(JOB_ID, JobSettings(runtime_parameters={"A": "1"}))
    assert methods(http) == ["GET", "POST"]


@pytest.mark.parametrize("refusal", REJECTIONS.values(), ids=REJECTIONS)
def test_rejected_update_raises(http, client, refusal):
    http.get(JOB, json=job_json())
    http.post(JOB, **refusal)
    with pytest.raises(ControlHubError, match=f"Cannot update job '{JOB_NAME}'.*JOBRUNNER_7"):
        client.jobs.update(JOB_ID, JobSettings(description="new"))
    assert methods(http) == ["GET", "POST"]


@pytest.mark.parametrize("answer", [UNKNOWN, {"json": job_json(jobDeleted=True)}])
def test_unknown_job_is_not_updated(http, client, answer):
    http.get(JOB, **answer)
    with pytest.raises(ControlHubNotFoundError, match=f"Cannot read job {JOB_ID}"):
        client.jobs.update(JOB_ID, JobSettings(description="new"))
    assert methods(http) == ["GET"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "  "},
        {"name": 5},
        {"description": 5},
        {"engine_labels": "prod"},
        {"engine_labels": [""]},
        {"engine_labels": [None]},
        {"tags": "nightly"},
        {"tags": {"nightly": 1}},
        {"runtime_parameters": "{}"},
        {"runtime_parameters": [1]},
        {"runtime_parameters": {1: 2}},
        {"runtime_parameters": {"A": {1}}},
        {"runtime_parameters": {"A": float("nan")}},
        {"number_of_instances": 0},
        {"number_of_instances": -2},
        {"number_of_instances": True},
        {"number_of_instances": "1"},
        {"failover": 1},
        {"failover_retries": -2},
        {"failover_retries_per_engine": 1.5},
        {"needs_acknowledgement": "yes"},
        {"statistics_interval": 0},
        {"statistics_interval": -1},
        {"statistics_interval": float("inf")},
        {"statistics_interval": float("nan")},
        {"force_stop_after": True},
        {"force_stop_after": "120"},
        {"static_parameters": "A"},
        {"time_series": "true"},
    ],
    ids=str,
)
def test_invalid_setting_is_rejected(wrong):
    (name,) = wrong
    with pytest.raises(ControlHubConfigurationError, match=f"'{name}' must be .*, got "):
        JobSettings(**wrong)


def test_given_contains_only_set_values():
    assert JobSettings(failover=False, tags=[], description="").specified == {
        "description": "",
        "tags": [],
        "failover": False,
    }


class UpgradingHub:
    """Jobs on version 2 that an upgrade brings to version 3, if not said otherwise."""

    def __init__(self, http, *, answer=None, newest=3, **after):
        self.after = {f"{name}:o": fields for name, fields in after.items()}
        self.asked = []
        http.post(JOBS, json=self._read)
        http.post(UPGRADE, json=lambda request, _: self.asked.extend(request.json()) or answer)
        http.post(LATEST_COMMITS, json=[pipeline_json(newest)])

    def _read(self, request, _):
        jobs = []
        for job_id in reversed(request.json()):
            fields = {"version": 3, **self.after.get(job_id, {})} if job_id in self.asked else {"version": 2}
            if version := fields.pop("version"):
                commit = {"pipelineCommitId": commit_id(version), "pipelineCommitLabel": f"v{version}"}
                jobs.append(job_json(job_id, job_id.partition(":")[0], **{**commit, **fields}))
        return jobs


UPGRADE_PATHS = [f"POST /jobrunner/rest/v1/jobs{path}" for path in ("", "/upgradeJobs", "")]


@pytest.mark.parametrize("answer", [None, [], [{"id": "other:o"}], {}])
def test_upgrade_uses_three_requests(http, client, answer):
    UpgradingHub(http, answer=answer)
    wanted = [f"job-{n}:o" for n in range(30)]
    upgrades = client.jobs.upgrade([*wanted, *wanted])
    assert [(upgrade.job_id, upgrade.name) for upgrade in upgrades] == [(j, j.partition(":")[0]) for j in wanted]
    assert {(u.version_before, u.version_after, u.upgraded) for u in upgrades} == {("2", "3", True)}
    assert paths(http) == UPGRADE_PATHS
    assert http.request_history[1].json() == wanted
    assert query(http.request_history[1]) == {}


def test_upgrade_does_not_reload_jobs(http, client):
    UpgradingHub(http)
    before = Job.from_wire(job_json("a:o", pipelineCommitId=commit_id(1), pipelineCommitLabel="v1"))
    assert [u.version_before for u in client.jobs.upgrade([before, "b:o"])] == ["1", "2"]
    assert http.request_history[0].json() == ["b:o"]
    assert [u.version_before for u in client.jobs.upgrade([before])] == ["1"]
    assert paths(http)[-2:] == UPGRADE_PATHS[1:]


def test_upgrade_sends_batches(http, make_client):
    UpgradingHub(http)
    assert len(make_client(bulk_size=2).jobs.upgrade(["a:o", "b:o", "c:o"])) == 3
    assert [r.json() for r in http.request_history if r.path.endswith("/upgradejobs")] == [["a:o", "b:o"], ["c:o"]]


def test_missing_job_prevents_all_upgrades(http, client):
    http.post(JOBS, json=[job_json("b:o")])
    with pytest.raises(ControlHubNotFoundError, match=r"No jobs with these ids exist: a:o, c:o\. Nothing was done"):
        client.jobs.upgrade(["a:o", "b:o", "c:o"])
    assert http.call_count == 1


def test_job_missing_after_upgrade_is_unchanged(http, client):
    UpgradingHub(http, b={"version": 0})
    assert [(u.job_id, u.version_after, u.upgraded) for u in client.jobs.upgrade(["a:o", "b:o"])] == [
        ("a:o", "3", True),
        ("b:o", "2", False),
    ]


@pytest.mark.parametrize(
    "newest", [pipeline_json(2), pipeline_json(3, draft=True), pipeline_json("3-DRAFT"), pipeline_json(commitId=None)]
)
def test_job_on_newest_version_is_not_upgraded(http, client, newest):
    UpgradingHub(http, b={"version": 2})
    http.post(LATEST_COMMITS, json=[newest, None])
    assert [(u.version_after, u.upgraded) for u in client.jobs.upgrade(["a:o", "b:o"])] == [("3", True), ("2", False)]
    assert http.last_request.json() == [PIPELINE_ID]
    assert http.call_count == 4


def test_missed_upgrade_is_reported(http, client):
    UpgradingHub(http, b={"version": 2})
    message = r"1 of 2 jobs were not upgraded: 'b' \(b:o\) still has version 2, the latest is 3\."
    with pytest.raises(ControlHubBulkError, match=message) as caught:
        client.jobs.upgrade(["a:o", "b:o"])
    assert list(caught.value.done) == ["a:o"]


@pytest.mark.parametrize("answer", [{"status_code": 503}, {"status_code": 403}, {"status_code": 404}, {"json": "x"}])
def test_unreadable_newest_version_is_ignored(http, client, answer):
    UpgradingHub(http, b={"version": 2})
    http.post(LATEST_COMMITS, **answer)
    assert [u.upgraded for u in client.jobs.upgrade(["a:o", "b:o"])] == [True, False]


def test_upgrade_of_active_job_is_awaited(http, client, clock):
    before, upgrading, done = (
        job_json("a:o", pipelineCommitId=commit_id(version), currentUpgradeStatus=status and {"status": status})
        for version, status in ((2, "UPGRADE_ELIGIBLE"), (2, "UPGRADING"), (3, "UPGRADE_SUCCESSFUL"))
    )
    http.post(JOBS, [{"json": [job]} for job in (before, upgrading, upgrading, done)])
    http.post(UPGRADE, content=b"")
    assert client.jobs.upgrade(["a:o"])[0].upgraded is True
    assert clock.slept == [3.0, 3.0]


@pytest.mark.parametrize("status", ["UPGRADING", "UPGRADE_ERROR"])
def test_failed_upgrade_is_reported(http, client, status):
    UpgradingHub(http, b={"version": 2, "currentUpgradeStatus": {"status": status}})
    with pytest.raises(
        ControlHubBulkError, match=rf"1 of 2 jobs were not upgraded: 'b' \(b:o\) is {status}\."
    ) as caught:
        client.jobs.upgrade(["a:o", "b:o"])
    assert list(caught.value.done) == ["a:o"]
    assert len([path for path in paths(http) if path == UPGRADE_PATHS[1]]) == 1


def test_unconfirmed_upgrade_raises(http, client):
    http.post(JOBS, [{"json": [job_json("a:o")]}, {"status_code": 401}])
    http.post(UPGRADE, content=b"")
    with pytest.raises(
        ControlHubUnavailableError, match="Could not determine whether the jobs were upgraded"
    ) as caught:
        client.jobs.upgrade(["a:o"])
    assert caught.value.maybe_executed is True


def test_ambiguous_upgrade_is_retried(http, client):
    http.post(JOBS, [{"json": [job_json("a:o")]}, {"json": [job_json("a:o", pipelineCommitId=commit_id(3))]}])
    http.post(UPGRADE, [{"exc": READ_TIMEOUT}, {"status_code": 503}, {"json": []}])
    client.jobs.upgrade(["a:o"])
    assert paths(http) == [UPGRADE_PATHS[0], *[UPGRADE_PATHS[1]] * 3, UPGRADE_PATHS[2]]


@pytest.mark.parametrize("refusal", REJECTIONS.values(), ids=REJECTIONS)
def test_rejected_upgrade_raises(http, client, refusal):
    http.post(JOBS, json=[job_json("a:o"), job_json("b:o")])
    http.post(UPGRADE, **refusal)
    with pytest.raises(ControlHubError, match=r"Cannot upgrade 2 jobs: .*JOBRUNNER_7"):
        client.jobs.upgrade(["a:o", "b:o"])


def test_no_ids_need_no_request(http, client):
    assert client.jobs.upgrade([]) == []
    assert client.jobs.delete([]) == []
    assert client.jobs.delete_templates([]) == []
    assert http.call_count == 0


class DeletingHub:
    """Holds jobs that can be deleted; a deleted one is gone, or shown as deleted."""

    def __init__(self, http, *job_ids, url=DELETE, marks=False, **fields):
        self.ids = list(job_ids)
        self.deleted: list[str] = []
        self.locked: set[str] = set()
        self.partly = False
        http.post(JOBS, json=self._read)
        http.post(url, json=self._delete)
        self._marks, self._fields = marks, fields

    def _read(self, request, _):
        return [
            job_json(job_id, job_id, **{"jobDeleted": job_id in self.deleted, **self._fields})
            for job_id in request.json()
            if job_id in self.ids and (self._marks or job_id not in self.deleted)
        ]

    def _delete(self, request, context):
        left = {job_id for job_id in self.ids if job_id not in self.deleted} - self.locked
        refused = not left.issuperset(request.json())
        if not refused or self.partly:
            self.deleted += [job_id for job_id in request.json() if job_id in left]
        if refused:
            context.status_code = 404
            return issues_json(("JOBRUNNER_1", "cannot delete one of them"))
        return None


@pytest.mark.parametrize("marks", [False, True], ids=["gone", "marked"])
def test_delete_uses_two_requests_and_skips_missing_jobs(http, client, marks):
    hub = DeletingHub(http, "a:o", "b:o", "old:o", marks=marks)
    hub.deleted = ["old:o"]
    assert client.jobs.delete(["a:o", "unknown:o", "b:o", "a:o", "old:o"]) == ["a:o", "b:o"]
    assert hub.deleted == ["old:o", "a:o", "b:o"]
    assert paths(http) == ["POST /jobrunner/rest/v1/jobs", "POST /jobrunner/rest/v1/jobs/deleteJobs"]
    assert http.last_request.json() == ["a:o", "b:o"]


def test_missing_jobs_need_no_deletion(http, client):
    DeletingHub(http)
    assert client.jobs.delete(["a:o", "b:o"]) == []
    assert http.call_count == 1


def test_delete_sends_batches(http, make_client):
    hub = DeletingHub(http, "a:o", "b:o", "c:o")
    make_client(bulk_size=2).jobs.delete(["a:o", "b:o", "c:o"])
    assert hub.deleted == ["a:o", "b:o", "c:o"]


@pytest.mark.parametrize("count", [1, 10, 12])
def test_undeletable_jobs_prevent_all_deletions(http, client, count):
    jobs = [job_json(f"job-{n}:o", f"Job {n}", currentJobStatus=run_json(3)) for n in range(count)]
    http.post(JOBS, json=[job_json(), *jobs])
    with pytest.raises(ControlHubJobStateError, match=r"Cannot delete jobs.*Nothing was sent") as caught:
        client.jobs.delete([JOB_ID, *(job["id"] for job in jobs)])
    assert str(caught.value).count("is ACTIVE: stop it first") == min(count, 10)
    assert ("and 2 more" in str(caught.value)) == (count == 12)
    assert http.call_count == 1


def test_unacknowledged_error_prevents_deletion(http, client):
    http.post(JOBS, json=[job_json(currentJobStatus=run_json(3, "INACTIVE_ERROR", "RED", errorMessage="disk full"))])
    with pytest.raises(ControlHubJobStateError, match="an error to acknowledge first: disk full"):
        client.jobs.delete([JOB_ID])
    assert http.call_count == 1


@pytest.mark.parametrize(
    ("status", "allowed"),
    [("ACTIVE", "allow_active"), ("DEACTIVATING", "allow_active"), ("INACTIVE_ERROR", "allow_failed")],
)
def test_allowed_states_pass_deletion_check(status, allowed):
    job = Job.from_wire(job_json(currentJobStatus=run_json(3, status, "RED")))
    flags = {"allow_active": False, "allow_failed": False}
    check_deletable([job], **{**flags, allowed: True})
    with pytest.raises(ControlHubJobStateError, match="Nothing was sent"):
        check_deletable([job], **{flag: flag != allowed for flag in flags})
    with pytest.raises(ControlHubConfigurationError, match="is a job template"):
        check_deletable([job, Job.from_wire(template_json())], allow_active=True, allow_failed=True)


@pytest.mark.parametrize("status", [None, succeeded(3), failed(3), run_json(3, "ACTIVATION_ERROR", "RED")])
def test_ended_jobs_are_deleted(http, client, status):
    hub = DeletingHub(http, "a:o", currentJobStatus=status)
    assert client.jobs.delete(["a:o"]) == ["a:o"]
    assert hub.deleted == ["a:o"]


@pytest.mark.parametrize("marks", [False, True], ids=["gone", "marked"])
def test_concurrent_deletion_does_not_block_others(http, client, marks):
    hub = DeletingHub(http, "a:o", "b:o", "c:o", marks=marks)
    read, hub_delete = hub._read, hub._delete

    def delete(request, context):
        if not hub.deleted:
            hub.deleted.append("b:o")
        return hub_delete(request, context)

    http.post(JOBS, json=read)
    http.post(DELETE, json=delete)
    assert client.jobs.delete(["a:o", "b:o", "c:o"]) == ["a:o", "b:o", "c:o"]
    assert sorted(hub.deleted) == ["a:o", "b:o", "c:o"]
    assert http.last_request.json() == ["a:o", "c:o"]


@pytest.mark.parametrize("partly", [False, True], ids=["all or nothing", "what can be"])
def test_rejected_deletion_raises(http, client, partly):
    hub = DeletingHub(http, "a:o", "b:o", "c:o")
    hub.locked, hub.partly = {"b:o"}, partly
    with pytest.raises(ControlHubNotFoundError, match="JOBRUNNER_1 - cannot delete one of them"):
        client.jobs.delete(["a:o", "b:o", "c:o"])
    assert hub.deleted == (["a:o", "c:o"] if partly else [])


@pytest.mark.parametrize("url", [DELETE, DELETE_TEMPLATES])
@pytest.mark.parametrize("marks", [False, True], ids=["gone", "marked"])
def test_repeated_deletion_without_jobs_succeeds(http, client, url, marks):
    templates = url == DELETE_TEMPLATES
    hub = DeletingHub(http, "a:o", "b:o", url=url, marks=marks, jobTemplate=templates)
    hub_delete = hub._delete
    answers = iter([READ_TIMEOUT])

    def delete(request, context):
        answer = hub_delete(request, context)
        for error in answers:
            raise error
        return answer

    http.post(url, json=delete)
    assert (client.jobs.delete_templates if templates else client.jobs.delete)(["a:o", "b:o"]) == ["a:o", "b:o"]
    assert hub.deleted == ["a:o", "b:o"]


def test_templates_use_own_delete_call(http, client):
    hub = DeletingHub(http, "a:o", "b:o", url=DELETE_TEMPLATES, jobTemplate=True)
    assert client.jobs.delete_templates(["a:o", "unknown:o", "b:o", "a:o"]) == ["a:o", "b:o"]
    assert hub.deleted == ["a:o", "b:o"]
    assert paths(http) == ["POST /jobrunner/rest/v1/jobs", "POST /jobrunner/rest/v1/jobs/deleteJobTemplates"]


def test_delete_rejects_wrong_kind(http, client):
    http.post(JOBS, json=[job_json("a:o", "A"), template_json()])
    with pytest.raises(ControlHubConfigurationError, match=r"'A' \(a:o\) is a job, not a job template"):
        client.jobs.delete_templates(["a:o", TEMPLATE_ID])
    with pytest.raises(ControlHubConfigurationError, match=r"is a job template, not a job"):
        client.jobs.delete(["a:o", TEMPLATE_ID])
    assert http.call_count == 2


@pytest.mark.parametrize("refusal", REJECTIONS.values(), ids=REJECTIONS)
def test_rejected_template_deletion_raises(http, client, refusal):
    http.post(JOBS, json=[template_json()])
    http.post(DELETE_TEMPLATES, **refusal)
    with pytest.raises(ControlHubError, match=f"Cannot delete job template {TEMPLATE_ID}: .*JOBRUNNER_7"):
        client.jobs.delete_templates([TEMPLATE_ID])


def test_deleted_jobs_are_not_found(http, client):
    http.post(JOBS, json=[job_json("a:o", jobDeleted=True), job_json("b:o", jobDeleted=None)])
    http.get(JOB, json=job_json(jobDeleted=True, destroyer=ME, deleteTime=T0))
    assert list(client.jobs.get_many(["a:o", "b:o"])) == ["b:o"]
    with pytest.raises(ControlHubNotFoundError, match="it has been deleted"):
        client.jobs.get(JOB_ID)
