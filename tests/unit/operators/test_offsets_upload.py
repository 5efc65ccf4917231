from __future__ import annotations

import json

import pytest

from airflow_provider_streamsets.control_hub import (
    ControlHubConfigurationError,
    ControlHubJobStateError,
    ControlHubNotFoundError,
)
from airflow_provider_streamsets.operators.offsets import ControlHubGetOffsetsOperator, ControlHubUploadOffsetOperator
from tests.unit.fakes.single_job_hub import HUB, JOB_ID, JOB_NAME, SingleJobHub, offsets_json, run_json, succeeded

pytestmark = pytest.mark.usefixtures("connection")

DOCUMENT = {"version": 2, "offsets": {"$com.streamsets.datacollector.pollsource.offset$": "orders.csv::100"}}
OTHER = {"version": 2, "offsets": {"table=orders": "id=7", "table=customers": None}}
TARGET = "22222222-2222-4222-8222-222222222222:org"


class Target:
    """The job that gets an offset."""

    def __init__(self, http, latest=None, **fields):
        self.uploads = []
        self.body = {"id": TARGET, "name": "Copy of orders", "currentJobStatus": latest, **fields}
        jr = f"{HUB}/jobrunner/rest/v1/job/{TARGET}"
        http.get(jr, json=self.body)
        http.post(f"{jr}/uploadOffsetAsJson", json=lambda r, _: self.uploads.append(r.json()) or self.body)


@pytest.fixture
def target(http):
    return Target(http)


def operator(**arguments):
    return ControlHubUploadOffsetOperator(task_id="upload", job_id=TARGET, **arguments)


def offsets_result(**engines):
    """What the operator that gets offsets returns."""
    return {
        "job_id": JOB_ID,
        "run_count": 4,
        "engines": [{"engine_id": engine_id, "offset": document} for engine_id, document in engines.items()],
    }


@pytest.mark.parametrize("given", [DOCUMENT, json.dumps(DOCUMENT), str(DOCUMENT), offsets_result(one=DOCUMENT)])
def test_accepts_document_or_result_of_get_offsets(target, context, given):
    result = operator(offset=given).execute(context)
    assert result == {"job_id": TARGET, "offset": DOCUMENT}
    assert target.uploads == [DOCUMENT]
    assert context["ti"].xcoms == {"job_id": TARGET, "streamsets_job_link": f"{HUB}/sch/jobs/detail/{TARGET}"}


@pytest.mark.parametrize("content", [DOCUMENT, offsets_result(one=DOCUMENT)])
def test_reads_offset_from_file(target, context, tmp_path, content):
    path = tmp_path / "offset.json"
    path.write_text(json.dumps(content))
    operator(path=str(path)).execute(context)
    assert target.uploads == [DOCUMENT]


def test_uploads_file_written_by_get_offsets(http, target, context, tmp_path):
    SingleJobHub(http, latest={**succeeded(4), "pipelineOffsets": offsets_json(one=DOCUMENT, two=OTHER)})
    path = tmp_path / "offsets.json"
    ControlHubGetOffsetsOperator(task_id="get", job_id=JOB_ID, path=path).execute(context)
    operator(path=path, engine_id="two").execute(context)
    assert target.uploads == [OTHER]


def test_error_names_unreadable_file(target, context, tmp_path):
    path = tmp_path / "offset.json"
    path.write_text("position 7")
    with pytest.raises(ControlHubConfigurationError, match=r"offset\.json': it is not JSON"):
        operator(path=str(path)).execute(context)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        operator(path=str(tmp_path / "nowhere.json")).execute(context)
    assert target.uploads == []


@pytest.mark.parametrize("source", [{"from_job_id": JOB_ID}, {"from_job_name": JOB_NAME}])
def test_copies_offset_of_another_job(http, target, context, source):
    SingleJobHub(http, latest={**succeeded(4), "pipelineOffsets": offsets_json(one=DOCUMENT)})
    assert operator(**source).execute(context)["offset"] == DOCUMENT
    assert target.uploads == [DOCUMENT]


def test_copies_offset_of_given_run(http, target, context):
    hub = SingleJobHub(http, latest={**succeeded(4), "pipelineOffsets": offsets_json(one=OTHER)})
    hub.history = [hub.latest, {**succeeded(2), "pipelineOffsets": offsets_json(one=DOCUMENT)}]
    operator(from_job_id=JOB_ID, from_run_count=2).execute(context)
    assert target.uploads == [DOCUMENT]
    with pytest.raises(ControlHubNotFoundError, match="run 3"):
        operator(from_job_id=JOB_ID, from_run_count=3).execute(context)


def test_warns_if_source_job_is_active(http, target, context, task_log):
    SingleJobHub(http, latest=run_json(4, pipelineOffsets=offsets_json(one=DOCUMENT)))
    operator(from_job_id=JOB_ID).execute(context)
    assert target.uploads == [DOCUMENT]
    assert f"Job 'Orders' ({JOB_ID}) run 4: ACTIVE; its offset is not final." in task_log()


@pytest.mark.parametrize("latest", [None, succeeded(4)])
def test_source_without_offset_fails(http, target, context, latest):
    SingleJobHub(http, latest=latest)
    with pytest.raises(ControlHubConfigurationError, match=f"Cannot upload an offset: job {JOB_ID}.* has none"):
        operator(from_job_id=JOB_ID).execute(context)
    assert target.uploads == []


def test_several_engines_require_engine_id(http, target, context):
    SingleJobHub(http, latest={**succeeded(4), "pipelineOffsets": offsets_json(one=DOCUMENT, two=OTHER)})
    for source in ({"from_job_id": JOB_ID}, {"offset": offsets_result(one=DOCUMENT, two=OTHER)}):
        with pytest.raises(
            ControlHubConfigurationError, match=r"several engines \(one, two\)\. Select one with 'engine"
        ):
            operator(**source).execute(context)
        with pytest.raises(
            ControlHubConfigurationError,
            match=r"Cannot upload the offset of engine three: .* has only offsets of one, two",
        ):
            operator(engine_id="three", **source).execute(context)
    assert target.uploads == []
    operator(from_job_id=JOB_ID, engine_id="two").execute(context)
    assert target.uploads == [OTHER]


def test_rejects_engine_id_for_single_offset(target, context):
    with pytest.raises(ControlHubConfigurationError, match="a single offset document has no engine"):
        operator(offset=DOCUMENT, engine_id="one").execute(context)


@pytest.mark.parametrize("status", ["ACTIVATING", "ACTIVE", "DEACTIVATING"])
def test_active_job_fails_before_upload(http, context, status):
    target = Target(http, run_json(2, status))
    with pytest.raises(ControlHubJobStateError, match=f"'Copy of orders' .* is {status}.*Nothing was sent"):
        operator(offset=DOCUMENT).execute(context)
    assert target.uploads == []


@pytest.mark.parametrize(
    ("offset", "message"),
    [
        ({}, "must be 2, got None"),
        ({"version": 1, "offset": "7"}, "must be 2, got 1"),
        ({"version": 2}, "'offsets' of an offset document must be a JSON object"),
        ({"version": 2, "offsets": {"a": 7}}, "partition 'a' must be a string or null"),
        (offsets_result(one={"version": 3, "offsets": {}}), "must be 2, got 3"),
        (offsets_result(one="text"), "got str"),
        (offsets_result(), "Cannot upload an offset"),
        ({"engines": [{"engine_id": "one"}]}, "The offsets of a job must have"),
        ({"engines": 7}, "The offsets of a job must have"),
    ],
)
def test_invalid_offset_fails_before_upload(target, context, offset, message):
    with pytest.raises(ControlHubConfigurationError, match=message):
        operator(offset=offset).execute(context)
    assert target.uploads == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "is required, got none"),
        ({"offset": DOCUMENT, "from_job_id": JOB_ID}, "got 'offset' and 'from_job_id'"),
        ({"offset": DOCUMENT, "from_run_count": 1}, "'from_run_count' requires 'from_job_id' or 'from_job_name'"),
        ({"from_job_id": JOB_ID, "from_run_count": 0}, "'from_run_count' must be an integer"),
        ({"offset": [DOCUMENT]}, "'offset' must be a JSON object"),
        ({"offset": "position 7"}, "'offset' must be a JSON object"),
    ],
)
def test_rejects_invalid_sources_at_parse(arguments, message):
    with pytest.raises(ValueError, match=message):
        operator(**arguments)
