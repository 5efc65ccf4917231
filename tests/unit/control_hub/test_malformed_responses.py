"""Responses that once caused Python errors, or outcomes that Control Hub had not reported."""

from __future__ import annotations

import json
import math

import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubNotFoundError,
    ControlHubRejectedError,
    ControlHubUnexpectedResponseError,
    Job,
    JobRun,
    JobSettings,
    PipelineVersion,
)
from airflow_provider_streamsets.control_hub.models.status_snapshot import StatusSnapshot
from tests.unit.fakes.api_payloads import (
    CURRENT,
    HISTORY,
    JOB,
    JOB_ID,
    JOB_NAME,
    JOBS,
    JR,
    REGISTRY,
    STATUSES,
    job_json,
    page_json,
    parse_snapshot,
    pipeline_json,
    run_json,
    succeeded,
)

DEEP = '{"a":' * 450 + "1" + "}" * 450


@pytest.mark.parametrize("status", [["INACTIVE"], {"INACTIVE": 1}, 5, True])
def test_snapshot_rejects_invalid_status(status):
    with pytest.raises(ControlHubUnexpectedResponseError):
        parse_snapshot({**succeeded(2), "status": status})


def test_snapshot_without_status_has_not_ended():
    snapshot = parse_snapshot({**succeeded(2), "status": None})
    assert snapshot is not None
    assert snapshot.has_ended is False


@pytest.mark.parametrize("field", ["warnings", "pipelineStatus"])
@pytest.mark.parametrize("value", [5, True, 1.5, "text", {"a": [1]}, [[1]], [5], [{"sdcId": []}]])
def test_snapshot_with_invalid_list_is_no_run(field, value):
    def run(value):
        snapshot = parse_snapshot({**run_json(2), field: value})
        assert snapshot is not None
        return snapshot.to_run()

    assert run(None).run_count == 2
    with pytest.raises(ControlHubUnexpectedResponseError):
        run(value)


@pytest.mark.parametrize("field", ["errorMessage", "color"])
def test_snapshot_of_unusual_json_is_that_of_the_run(http, client, field):
    unusual = {**run_json(2), field: "half of \ud83d", "unknown": math.nan}
    http.post(STATUSES, text="\ufeff" + json.dumps({JOB_ID: unusual}))
    snapshot = client.runs.snapshots([JOB_ID])[JOB_ID]
    assert isinstance(snapshot, StatusSnapshot)
    run = JobRun.from_wire({**unusual, field: "half of ?"})
    assert snapshot.to_run() == run
    assert (snapshot.run_count, snapshot.has_ended) == (run.run_count, run.has_ended)


@pytest.mark.parametrize("field", ["startTime", "runCount", "finishTime"])
@pytest.mark.parametrize("value", [10**400, 2**63, -(10**400)])
def test_status_rejects_numbers_beyond_64_bits(http, client, field, value):
    http.post(STATUSES, json={JOB_ID: {**run_json(2), field: value}})
    found = client.runs.snapshots([JOB_ID])[JOB_ID]
    if isinstance(found, StatusSnapshot):
        with pytest.raises(ControlHubUnexpectedResponseError, match=r"64-bit|milliseconds"):
            found.to_run()
    else:
        assert isinstance(found, ControlHubUnexpectedResponseError)


@pytest.mark.parametrize("field", ["numInstances", "statsRefreshInterval", "globalMaxRetries"])
@pytest.mark.parametrize("value", [10**400, 2**63, 1e300])
def test_job_rejects_numbers_beyond_64_bits(field, value):
    with pytest.raises(ControlHubUnexpectedResponseError, match="64-bit"):
        Job.from_wire(job_json(**{field: value}))
    assert JobRun.from_wire(run_json(2, inputRecordCount=2**63 - 1)).input_record_count == 2**63 - 1


def test_version_with_huge_number_is_oldest():
    versions = [PipelineVersion.from_wire(pipeline_json(version)) for version in ("9" * 5000, "2", "10")]
    assert [version.version for version in sorted(versions, key=lambda v: v.order)][1:] == ["2", "10"]


def test_copy_with_huge_number_is_ignored(http, client, clock):
    def copies(request, _):
        prefix = request.qs["jobsearchtext"][0]
        ours = client_prefix(http)
        return page_json(job_json("copy", f"{ours or prefix}{'9' * 5000}"))

    def client_prefix(http):
        posted = [r.json() for r in http.request_history if r.url.endswith("/duplicate")]
        return posted[-1]["namePrefix"] if posted else ""

    http.post(f"{JOB}/duplicate", json=[])
    http.get(JOBS, json=copies)
    with pytest.raises(ControlHubUnexpectedResponseError, match="no copy appeared"):
        client.jobs.duplicate(Job.from_wire(job_json()), name=JOB_NAME)


def test_deeply_nested_parameters_raise(http, client):
    http.get(JOB, json=job_json())
    http.post(JOB, json=job_json(runtimeParameters="[" * 100_000))
    with pytest.raises(ControlHubUnexpectedResponseError, match="runtimeParameters"):
        client.jobs.update(JOB_ID, JobSettings(runtime_parameters={"A": 1}))


def test_passed_through_json_depth_is_limited(http, client):
    with pytest.raises(ControlHubUnexpectedResponseError, match="100 levels"):
        Job.from_wire(job_json(runtimeParameters=DEEP))
    http.get(REGISTRY, text=f'{{"counters": {DEEP}}}')
    with pytest.raises(ControlHubUnexpectedResponseError, match="100 levels"):
        client.metrics.registry(JOB_ID)
    for name, method in (
        ("committedOffsets", client.offsets.committed),
        ("latestCommittedOffsets", client.offsets.latest_committed),
    ):
        http.get(f"{JOB}/{name}", text=DEEP)
        with pytest.raises(ControlHubUnexpectedResponseError, match="100 levels"):
            method(JOB_ID)


@pytest.mark.parametrize("answer", ["[]", "0", "false", '""', '"text"', "[5]"])
def test_non_object_does_not_mean_missing_job(http, client, answer):
    http.get(JOB, text=answer)
    with pytest.raises(ControlHubUnexpectedResponseError, match="job must be an object"):
        client.jobs.get(JOB_ID)


@pytest.mark.parametrize("answer", ["{}", "null", ""])
def test_empty_response_means_missing_job(http, client, answer):
    http.get(JOB, text=answer)
    http.post(JOBS, json=[])
    with pytest.raises(ControlHubNotFoundError):
        client.jobs.get(JOB_ID)


@pytest.mark.parametrize("deleted", ["false", "no", 1, []])
def test_only_true_marks_job_deleted(http, client, deleted):
    http.get(JOB, json=job_json(jobDeleted=deleted))
    with pytest.raises(ControlHubUnexpectedResponseError, match="'jobDeleted' of the job must be a boolean"):
        client.jobs.get(JOB_ID)
    http.post(JOBS, json=[job_json(jobDeleted=deleted)])
    with pytest.raises(ControlHubUnexpectedResponseError, match="'jobDeleted'"):
        client.jobs.get_many([JOB_ID])


@pytest.mark.parametrize("entry", [None, 5, "text", [1]])
def test_non_object_page_entry_raises(http, client, entry):
    http.get(HISTORY, json=page_json(succeeded(2), entry))
    with pytest.raises(ControlHubUnexpectedResponseError, match="runs must be an object"):
        list(client.runs.iter_raw_history(JOB_ID))


def test_run_id_with_lone_surrogate_is_usable(http, client):
    http.post(STATUSES, text=json.dumps({JOB_ID: run_json(2, id="\ud800")}))
    run = client.runs.statuses([JOB_ID])[JOB_ID]
    http.get(f"{JR}/job/{'%3F'}/jobStatusHistory", json=[])
    assert client.runs.events(run.run_id) == []


def test_lone_surrogate_in_nested_json_is_replaced():
    job = Job.from_wire(job_json(runtimeParameters='{"A": "\\ud800", "B": "\\ud83d\\ude00"}'))
    assert job.runtime_parameters == {"A": "?", "B": "\U0001f600"}


def test_deeply_nested_issue_is_truncated(http, client):
    http.get(CURRENT, status_code=400, text='{"ISSUES": [{"code": "A_1", "message": ' + "[" * 450 + "]" * 450 + "}]}")
    with pytest.raises(ControlHubRejectedError) as caught:
        client.runs.current(JOB_ID)
    assert caught.value.codes == ("A_1",)
    assert len(str(caught.value)) < 2000
