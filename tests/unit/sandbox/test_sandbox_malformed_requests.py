"""Requests that make no sense: each is refused in the form that clients know, and harms nobody else."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

from tests.unit.sandbox_hub import JR, Hub


@pytest.fixture
def hub() -> Hub:
    return Hub()


def assert_refused(response: Any) -> None:
    (issue,) = response.json()["ISSUES"]
    assert (response.status_code, issue["code"]) == (400, "RESTAPI_01"), response.text
    assert issue["message"]


UNSENDABLE = {
    "a number that is none": b'{"version": 2, "offsets": {}, "x": NaN}',
    "a number without end": b'{"version": 2, "offsets": {}, "x": 1e999}',
    "half a character": b'{"version": 2, "offsets": {"a": "\\ud800"}}',
    "more depth than can be read": b'{"version": 2, "offsets": ' + b"[" * 100_000,
    "other bytes than text": b"\xff\xfe\xfd",
}


@pytest.mark.parametrize("content", UNSENDABLE.values(), ids=UNSENDABLE.keys())
def test_json_that_no_answer_could_carry_is_refused_in_bodies_and_in_files(hub, content):
    path = f"{JR}/job/{hub.id('Quick check')}"
    assert_refused(hub.http.post(f"{path}/uploadOffsetAsJson", content=content))
    assert_refused(hub.http.post(f"{path}/uploadOffset", files={"file": content}))
    assert_refused(hub.http.post(f"{path}/start", content=content))
    assert hub.get(f"{path}/committedOffsets") is None


@pytest.mark.parametrize("call", ["jobs/importJobs", "job/{}/uploadOffset"])
@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x", "text/plain"])
def test_an_upload_that_is_no_form_is_refused(hub, call, kind):
    path = f"{JR}/{call.format(hub.id('Quick check'))}"
    assert_refused(hub.http.post(path, content=b"no form", headers={"Content-Type": kind}))


def archive(name: str = "job.json") -> bytearray:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr(name, "{}")
    return bytearray(content.getvalue())


def test_an_archive_that_is_broken_in_its_directory_is_refused(hub):
    misnamed = archive("jöb.json")
    at = misnamed.rindex("ö".encode())
    misnamed[at : at + 2] = b"\xff\xff"
    from_the_future = archive()
    # The version that is needed to extract the entry, behind signature and version of the directory's first entry.
    from_the_future[from_the_future.index(b"PK\x01\x02") + 6] = 185
    for content in (misnamed, from_the_future):
        assert_refused(hub.http.post(f"{JR}/jobs/importJobs", files={"file": bytes(content)}))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Quick check", {"RATE": "1e-300"}),
        ("Quick check", {"RECORDS": "1e300"}),
        ("Quick check", {"FAILS_AFTER": "1e300"}),
        ("Inventory snapshot", {"ACTIVATION": "1e300"}),
    ],
)
def test_a_run_that_would_take_longer_than_time_lasts_fails_its_validation_and_spoils_nothing(hub, name, parameters):
    assert hub.do(name, "start", parameters).status_code == 200
    hub.clock.advance(60)
    ((parameter, value),) = parameters.items()
    (failed,) = hub.get(f"{JR}/jobs", jobSearchText=name)
    assert f"parameter {parameter} cannot be '{value}'" in failed["currentJobStatus"]["errorMessage"]
    assert len(hub.get(f"{JR}/jobs/status")) > 1
    assert hub.http.get("/").status_code == 200


@pytest.mark.parametrize("field", ["statsRefreshInterval", "forceStopTimeout", "numInstances"])
def test_a_setting_beyond_its_32_bits_is_refused(hub, field):
    path = f"{JR}/job/{hub.id('Quick check')}"
    assert_refused(hub.http.post(path, json={"name": "Quick check", field: 2**31}))
    assert hub.http.post(path, json={"name": "Quick check", field: 2**31 - 1}).status_code == 200


@pytest.mark.parametrize("change", [{"set": 10**18}, {"advance": 1e308}, {"advance": 1e15}, {"advance": True}])
def test_the_clock_goes_no_further_than_dates_do(hub, change):
    before = hub.clock.now()
    assert_refused(hub.http.post("/sandbox/v1/clock", json=change))
    assert hub.clock.now() == before


def test_true_is_no_number_of_seconds(hub):
    assert_refused(hub.http.post("/sandbox/v1/variants", json={"metrics_lag": True}))


@pytest.mark.parametrize(
    "query", ["jobSearchOperation=LIKE", "edge=true&jobStatus=IDLE", "draftRun=true&jobTemplate=1"]
)
@pytest.mark.parametrize("call", ["jobs", "metrics/problematicJobs"])
def test_a_wrong_filter_is_refused_even_where_another_decides_the_answer(hub, call, query):
    assert_refused(hub.http.get(f"{JR}/{call}?{query}"))


@pytest.mark.parametrize("query", ["offset=-1", "len=-2"])
@pytest.mark.parametrize("call", ["jobs", "jobs/status", "saql/jobs/search"])
def test_a_page_that_cannot_be_is_refused(hub, call, query):
    assert_refused(hub.http.get(f"{JR}/{call}?{query}"))
