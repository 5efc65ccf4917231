"""Offsets of jobs."""

from __future__ import annotations

import json

from tests.unit.fakes.sandbox_app import JR, OFFSET


def test_offset_is_kept_and_reset(hub):
    orders = hub.id("Orders to warehouse")
    assert hub.get(f"{JR}/job/{orders}/committedOffsets")["offsets"][OFFSET] == "orders.csv::141000"
    assert hub.http.post(f"{JR}/jobs/resetOffset", json=[orders]).status_code == 200
    assert hub.get(f"{JR}/job/{orders}/committedOffsets") is None
    assert hub.status("Orders to warehouse")["pipelineOffsets"] is None
    assert hub.get(f"{JR}/job/{orders}/history")[1]["pipelineOffsets"]
    hub.do("Orders to warehouse", "start")
    hub.clock.advance(60)
    assert hub.get(f"{JR}/job/{orders}/committedOffsets")["offsets"][OFFSET] == "orders.csv::60000"
    assert hub.do("Web logs to lake", "resetOffset").status_code == 400


def test_uploaded_offset_creates_status_without_run(hub):
    document = {"version": 2, "offsets": {OFFSET: "orders.csv::5"}}
    body = hub.do("Quick check", "uploadOffsetAsJson", document).json()
    assert body["currentJobStatus"]["runCount"] == 0
    assert len(body["currentJobStatus"]["pipelineOffsets"]) == 1
    upload = hub.http.post(
        f"{JR}/job/{hub.id('Quick check')}/uploadOffset", files={"file": ("o.json", json.dumps(document))}
    )
    assert upload.status_code == 200
    for invalid in (None, {}, {"version": 1, "offsets": {}}, {"version": 2, "offsets": {"a": 1}}):
        assert hub.do("Quick check", "uploadOffsetAsJson", invalid).status_code == 400
