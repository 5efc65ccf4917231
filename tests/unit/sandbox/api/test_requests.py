"""Invalid requests."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

from tests.unit.fakes.sandbox_app import JR


def assert_rejected(response: Any) -> None:
    (issue,) = response.json()["ISSUES"]
    assert (response.status_code, issue["code"]) == (400, "RESTAPI_01"), response.text
    assert issue["message"]


INVALID_JSON = {
    "not a number": b'{"version": 2, "offsets": {}, "x": NaN}',
    "infinite number": b'{"version": 2, "offsets": {}, "x": 1e999}',
    "unpaired surrogate": b'{"version": 2, "offsets": {"a": "\\ud800"}}',
    "nested too deeply": b'{"version": 2, "offsets": ' + b"[" * 100_000,
    "not UTF-8": b"\xff\xfe\xfd",
}


@pytest.mark.parametrize("content", INVALID_JSON.values(), ids=INVALID_JSON.keys())
def test_invalid_json_returns_400(hub, content):
    path = f"{JR}/job/{hub.id('Quick check')}"
    assert_rejected(hub.http.post(f"{path}/uploadOffsetAsJson", content=content))
    assert_rejected(hub.http.post(f"{path}/uploadOffset", files={"file": content}))
    assert_rejected(hub.http.post(f"{path}/start", content=content))
    assert hub.get(f"{path}/committedOffsets") is None


@pytest.mark.parametrize("call", ["jobs/importJobs", "job/{}/uploadOffset"])
@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x", "text/plain"])
def test_upload_without_form_returns_400(hub, call, kind):
    path = f"{JR}/{call.format(hub.id('Quick check'))}"
    assert_rejected(hub.http.post(path, content=b"no form", headers={"Content-Type": kind}))


def archive(name: str = "job.json") -> bytearray:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr(name, "{}")
    return bytearray(content.getvalue())


def test_invalid_archive_directory_returns_400(hub):
    misnamed = archive("jöb.json")
    at = misnamed.rindex("ö".encode())
    misnamed[at : at + 2] = b"\xff\xff"
    unsupported = archive()
    # The version needed to extract the first entry of the central directory.
    unsupported[unsupported.index(b"PK\x01\x02") + 6] = 185
    for content in (misnamed, unsupported):
        assert_rejected(hub.http.post(f"{JR}/jobs/importJobs", files={"file": bytes(content)}))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Quick check", {"RATE": "1e-300"}),
        ("Quick check", {"RECORDS": "1e300"}),
        ("Quick check", {"FAILS_AFTER": "1e300"}),
        ("Inventory snapshot", {"ACTIVATION": "1e300"}),
    ],
)
def test_extreme_parameters_fail_validation_of_run(hub, name, parameters):
    assert hub.do(name, "start", parameters).status_code == 200
    hub.clock.advance(60)
    ((parameter, value),) = parameters.items()
    (failed,) = hub.get(f"{JR}/jobs", jobSearchText=name)
    assert f"parameter {parameter} cannot be '{value}'" in failed["currentJobStatus"]["errorMessage"]
    assert len(hub.get(f"{JR}/jobs/status")) > 1
    assert hub.http.get("/").status_code == 200


@pytest.mark.parametrize("field", ["statsRefreshInterval", "forceStopTimeout", "numInstances"])
def test_integer_over_32_bits_returns_400(hub, field):
    path = f"{JR}/job/{hub.id('Quick check')}"
    assert_rejected(hub.http.post(path, json={"name": "Quick check", field: 2**31}))
    assert hub.http.post(path, json={"name": "Quick check", field: 2**31 - 1}).status_code == 200


@pytest.mark.parametrize("change", [{"set": 10**18}, {"advance": 1e308}, {"advance": 1e15}, {"advance": True}])
def test_clock_beyond_year_9999_returns_400(hub, change):
    before = hub.clock.now()
    assert_rejected(hub.http.post("/sandbox/v1/clock", json=change))
    assert hub.clock.now() == before


def test_boolean_number_of_seconds_returns_400(hub):
    assert_rejected(hub.http.post("/sandbox/v1/variants", json={"metrics_lag": True}))


@pytest.mark.parametrize(
    "query", ["jobSearchOperation=LIKE", "edge=true&jobStatus=IDLE", "draftRun=true&jobTemplate=1"]
)
@pytest.mark.parametrize("call", ["jobs", "metrics/problematicJobs"])
def test_all_filters_are_validated(hub, call, query):
    assert_rejected(hub.http.get(f"{JR}/{call}?{query}"))


@pytest.mark.parametrize("query", ["offset=-1", "len=-2"])
@pytest.mark.parametrize("call", ["jobs", "jobs/status", "saql/jobs/search"])
def test_invalid_page_returns_400(hub, call, query):
    assert_rejected(hub.http.get(f"{JR}/{call}?{query}"))
