"""Where jobs continue reading from: read, reset, upload."""

from __future__ import annotations

import json

import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubConfigurationError,
    ControlHubError,
    ControlHubJobStateError,
    ControlHubNotFoundError,
    ControlHubRejectedError,
    ControlHubUnexpectedResponseError,
    EngineOffset,
    Job,
)
from airflow_provider_streamsets.control_hub.job_state import check_offsets_changeable
from airflow_provider_streamsets.control_hub.models import JobOffsets, document_to_upload, validate_offset_document
from tests.unit.fakes.api_payloads import (
    CURRENT,
    HISTORY,
    JOB,
    JOB_ID,
    JOBS,
    OFFSET,
    READ_TIMEOUT,
    REJECTIONS,
    failed,
    job_json,
    page_json,
    paths,
    payload,
    query,
    run_json,
    succeeded,
    template_json,
)

COMMITTED, LATEST = f"{JOB}/committedOffsets", f"{JOB}/latestCommittedOffsets"
UPLOAD, RESET = f"{JOB}/uploadOffsetAsJson", f"{JOBS}/resetOffset"
OTHER = {"version": 2, "offsets": {"partition-0": "17", "partition-1": None}}


def pipeline_offset(engine_id="engine-1", document=OFFSET):
    offset = json.dumps(document) if isinstance(document, dict) else document
    return {"sdcId": engine_id, "pipelineId": f"Orders:{JOB_ID}", "offset": offset, "resetOffset": False}


def test_current_offsets_are_read(http, client):
    offsets = [pipeline_offset("engine-1"), pipeline_offset("engine-2", OTHER)]
    http.get(CURRENT, json=succeeded(3, pipelineOffsets=offsets))
    assert client.offsets.current(JOB_ID) == [EngineOffset("engine-1", OFFSET), EngineOffset("engine-2", OTHER)]
    assert paths(http) == [f"GET /jobrunner/rest/v1/job/{JOB_ID}/currentStatus"]


def test_uploaded_offset_of_never_run_job_is_read(http, client):
    http.get(CURRENT, json=run_json(0, "INACTIVE", "GRAY", startTime=0, pipelineOffsets=[pipeline_offset("")]))
    assert client.offsets.current(JOB_ID) == [EngineOffset("", OFFSET)]


@pytest.mark.parametrize(
    "answer",
    [
        {"content": b""},
        {"json": None},
        {"json": {}},
        {"json": succeeded(3)},
        {"json": succeeded(3, pipelineOffsets=[])},
        {"json": succeeded(3, pipelineOffsets=[None])},
        *({"json": succeeded(3, pipelineOffsets=[pipeline_offset(document=d)])} for d in (None, "", "null", "{}")),
    ],
)
def test_offsets_may_be_missing(http, client, answer):
    http.get(CURRENT, **answer)
    assert client.offsets.current(JOB_ID) == []


@pytest.mark.parametrize("document", ["[]", "5", "{", '"text"', "orders.csv::40960"])
def test_invalid_offset_document_raises(http, client, document):
    http.get(CURRENT, json=succeeded(3, pipelineOffsets=[pipeline_offset(document=document)]))
    with pytest.raises(ControlHubUnexpectedResponseError, match="'offset' of the pipeline offset"):
        client.offsets.current(JOB_ID)


def test_offsets_of_run_come_from_history(http, client):
    runs = [
        succeeded(3, pipelineOffsets=[pipeline_offset()]),
        succeeded(2, pipelineOffsets=[pipeline_offset(document=OTHER)]),
        failed(1),
    ]
    http.get(HISTORY, json=page_json(*runs))
    assert client.offsets.of_run(JOB_ID, 2) == [EngineOffset("engine-1", OTHER)]
    assert client.offsets.of_run(JOB_ID, 1) == []
    assert query(http.last_request) == {"offset": "0", "len": "250", "withWrapper": "true"}


@pytest.mark.parametrize("run_count", [0, 3])
def test_run_missing_in_history_raises(http, client, run_count):
    http.get(HISTORY, json=page_json(succeeded(2), succeeded(1)))
    with pytest.raises(ControlHubNotFoundError, match=f"the offsets of run {run_count} of job {JOB_ID}: .*history"):
        client.offsets.of_run(JOB_ID, run_count)


def test_committed_document_is_returned_unchanged(http, client):
    http.get(COMMITTED, json=payload("committed-offsets"))
    assert client.offsets.committed(JOB_ID) == payload("committed-offsets")


@pytest.mark.parametrize("answer", [{"content": b""}, {"json": None}, {"json": {}}])
def test_committed_document_may_be_missing(http, client, answer):
    http.get(COMMITTED, **answer)
    assert client.offsets.committed(JOB_ID) is None


def test_latest_committed_offsets_are_returned_unchanged(http, client):
    entries = [{"engine-1": OFFSET}, {"anything": ["else"]}, 5]
    http.get(LATEST, json=entries)
    assert client.offsets.latest_committed(JOB_ID) == entries


@pytest.mark.parametrize("answer", [{"content": b""}, {"json": None}, {"json": []}])
def test_latest_committed_offsets_may_be_missing(http, client, answer):
    http.get(LATEST, **answer)
    assert client.offsets.latest_committed(JOB_ID) == []


@pytest.mark.parametrize(
    ("url", "ask"),
    [
        (COMMITTED, lambda client: client.offsets.committed(JOB_ID)),
        (LATEST, lambda client: client.offsets.latest_committed(JOB_ID)),
        (CURRENT, lambda client: client.offsets.current(JOB_ID)),
    ],
)
@pytest.mark.parametrize("answer", ["x", 5, True])
def test_invalid_offsets_raise(http, client, url, ask, answer):
    http.get(url, json=answer)
    with pytest.raises(ControlHubUnexpectedResponseError):
        ask(client)


@pytest.mark.parametrize("document", [OFFSET, OTHER, {"version": 2, "offsets": {}}])
def test_upload_sends_document(http, client, document):
    http.post(UPLOAD, json=job_json(currentJobStatus=succeeded(3, pipelineOffsets=[pipeline_offset()])))
    job = client.offsets.upload(JOB_ID, document)
    assert job.job_id == JOB_ID
    assert paths(http) == [f"POST /jobrunner/rest/v1/job/{JOB_ID}/uploadOffsetAsJson"]
    assert http.last_request.json() == document
    assert http.last_request.headers["Content-Type"] == "application/json"


def test_example_document_can_be_uploaded(http, client):
    http.get(COMMITTED, json=payload("committed-offsets"))
    http.post(UPLOAD, json=job_json())
    client.offsets.upload(JOB_ID, client.offsets.committed(JOB_ID))
    assert http.last_request.json() == payload("committed-offsets")


def test_status_after_upload_is_no_run(http, client):
    status = run_json(0, "INACTIVE", "GRAY", startTime=0, pipelineOffsets=[pipeline_offset()])
    http.post(UPLOAD, json=job_json(currentJobStatus=status))
    assert client.offsets.upload(JOB_ID, OFFSET).last_run_count == 0


@pytest.mark.parametrize("answer", [{"content": b""}, {"json": None}, {"json": {}}])
def test_upload_response_without_job_reloads_it(http, client, answer):
    http.post(UPLOAD, **answer)
    http.get(JOB, json=job_json())
    assert client.offsets.upload(JOB_ID, OFFSET).job_id == JOB_ID


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "got NoneType"),
        ("{}", "got str"),
        ([OFFSET], "got list"),
        ({}, "must be 2, got None"),
        ({"version": 1, "offsets": {}}, "must be 2, got 1"),
        ({"version": True, "offsets": {}}, "must be 2, got True"),
        ({"version": "2", "offsets": {}}, "'version' of an offset document must be 2, got '2'"),
        ({"version": 2}, "'offsets' of an offset document must be a JSON object"),
        ({"version": 2, "offsets": []}, "'offsets' of an offset document must be a JSON object"),
        ({"version": 2, "offsets": {"a": 5}}, "partition 'a' must be a string or null, got int"),
        ({"version": 2, "offsets": {"a": "1", "b": {}}}, "partition 'b' must be a string or null, got dict"),
        ({"version": 2, "offsets": {1: "a"}}, "partition 1 must be"),
    ],
    ids=str,
)
def test_upload_rejects_invalid_document(http, client, document, message):
    with pytest.raises(ControlHubConfigurationError, match=message) as caught:
        client.offsets.upload(JOB_ID, document)
    assert '{"version": 2, "offsets": {"<partition>": "<string or null>"}}' in str(caught.value)
    assert http.call_count == 0


def test_only_document_fields_are_sent():
    assert validate_offset_document({**OFFSET, "comment": "of last night"}) == OFFSET


def test_ambiguous_upload_is_retried(http, client):
    http.post(UPLOAD, [{"exc": READ_TIMEOUT}, {"status_code": 503}, {"json": job_json()}])
    client.offsets.upload(JOB_ID, OFFSET)
    assert [request.json() for request in http.request_history] == [OFFSET] * 3


@pytest.mark.parametrize("refusal", REJECTIONS.values(), ids=REJECTIONS)
def test_rejected_offset_changes_raise(http, client, refusal):
    http.post(UPLOAD, **refusal)
    http.post(RESET, **refusal)
    with pytest.raises(ControlHubError, match=f"Cannot upload an offset to job {JOB_ID}: .*JOBRUNNER_7"):
        client.offsets.upload(JOB_ID, OFFSET)
    with pytest.raises(ControlHubError, match=f"Cannot reset the offsets of job {JOB_ID}: .*JOBRUNNER_7"):
        client.offsets.reset([JOB_ID])
    assert http.call_count == 2


def test_rejected_upload_raises_rejected_error(http, client):
    http.post(UPLOAD, **REJECTIONS["400"])
    with pytest.raises(ControlHubRejectedError):
        client.offsets.upload(JOB_ID, OFFSET)


def _job(n, **fields):
    return Job.from_wire(job_json(f"job-{n}:o", f"Job {n}", **fields))


@pytest.mark.parametrize("status", [None, succeeded(3), failed(3), run_json(3, "ACTIVATION_ERROR", "RED")])
def test_offsets_of_inactive_jobs_are_changeable(status):
    check_offsets_changeable([_job(1, currentJobStatus=status)])


@pytest.mark.parametrize("status", ["ACTIVATING", "ACTIVE", "DEACTIVATING", "SOMETHING_NEW"])
def test_offsets_of_active_jobs_are_not_changeable(status):
    jobs = [_job(1), _job(2, currentJobStatus=run_json(3, status)), Job.from_wire(template_json())]
    with pytest.raises(ControlHubJobStateError, match=rf"'Job 2' \(job-2:o\) is {status}\. Stop.*Nothing") as caught:
        check_offsets_changeable(jobs)
    assert "is a job template" in str(caught.value)
    assert "Job 1" not in str(caught.value)


def test_active_jobs_message_is_truncated():
    with pytest.raises(ControlHubJobStateError, match="and 2 more") as caught:
        check_offsets_changeable([_job(n, currentJobStatus=run_json(3)) for n in range(12)])
    assert str(caught.value).count("is ACTIVE") == 10


KEPT = JobOffsets("a:o", 3, (EngineOffset("engine-1", OFFSET), EngineOffset("engine-2", OTHER)))


def test_saved_offsets_are_json():
    assert KEPT.to_dict() == {
        "job_id": "a:o",
        "run_count": 3,
        "engines": [{"engine_id": "engine-1", "offset": OFFSET}, {"engine_id": "engine-2", "offset": OTHER}],
    }


def test_saved_offsets_can_be_uploaded():
    assert document_to_upload(OFFSET) == OFFSET
    assert document_to_upload(KEPT.to_dict(), "engine-2") == OTHER
    assert document_to_upload(JobOffsets("a:o", 3, KEPT.engines[:1]).to_dict()) == OFFSET


@pytest.mark.parametrize(
    ("value", "engine_id", "message"),
    [
        (KEPT.to_dict(), None, r"job a:o, run 3 has offsets of several engines \(engine-1, engine-2\)"),
        (
            KEPT.to_dict(),
            "engine-3",
            "Cannot upload the offset of engine engine-3: .* has only offsets of engine-1, engine-2",
        ),
        (JobOffsets("a:o", 0, ()).to_dict(), None, "Cannot upload an offset: job a:o has none"),
        (OFFSET, "engine-1", "a single offset document has no engine"),
        ("text", None, "An offset document must be a JSON object"),
        ({"engines": []}, None, "The offsets of a job must have"),
        ({**KEPT.to_dict(), "engines": 5}, None, "The offsets of a job must have"),
        ({**KEPT.to_dict(), "engines": [{}]}, None, "The offsets of a job must have"),
        ({**KEPT.to_dict(), "run_count": "x"}, None, "The offsets of a job must have"),
        ({**KEPT.to_dict(), "engines": [{"engine_id": "a", "offset": 5}]}, None, "got int"),
    ],
    ids=str,
)
def test_invalid_saved_offsets_raise(value, engine_id, message):
    with pytest.raises(ControlHubConfigurationError, match=message):
        document_to_upload(value, engine_id)
