"""The admin routes."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.fakes.sandbox_app import JR, T0


def test_clock_variants_and_request_log(hub):
    def post(path: str, body: Any) -> Any:
        return hub.http.post(f"/sandbox/v1/{path}", json=body)

    assert post("clock", {"advance": 1.5}).json()["now"] == T0 + 1500
    assert post("clock", {"set": T0 + 5000}).json() == {"now": T0 + 5000, "frozen": True}
    assert post("clock", {"freeze": False}).json()["frozen"] is False
    for invalid in ({"set": 1}, {"advance": -1}, {"set": "x"}, {}, [], {"freeze": 1}):
        assert post("clock", invalid).status_code == 400
    assert post("variants", {"unknown_job": "500"}).json()["unknown_job"] == "500"
    assert post("variants", {"unknown_job": "418"}).status_code == 400
    assert post("variants", {"nope": "1"}).status_code == 400
    assert hub.http.delete("/sandbox/v1/requests").json()["total"] == 0
    hub.get(f"{JR}/jobs/count", system="False")
    log = hub.get("/sandbox/v1/requests")
    assert (log["total"], log["counts"]) == (1, {f"GET {JR}/jobs/count": 1})
    assert log["requests"][0]["query"] == "system=False"
    state = hub.get("/sandbox/v1/state")
    assert state["variants"]["unknown_job"] == "500"
    assert hub.app.state.context.credential.token not in json.dumps([log, state])
