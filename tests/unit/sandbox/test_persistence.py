"""Persistence of the state across restarts."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from airflow_provider_streamsets.sandbox.app import create_app
from airflow_provider_streamsets.sandbox.backend.clock import Clock
from airflow_provider_streamsets.sandbox.backend.credentials import Credential, issue_credential
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sandbox.persistence import READ_ONLY_POSTS, StateError, StateFile
from airflow_provider_streamsets.sandbox.seed.models import parse_seed
from tests.unit.fakes.sandbox_app import JR, OFFSET, SEED, T0

ADMIN = "/sandbox/v1"


class RestartableSandbox:
    """A sandbox that can be restarted with the same state file and wall clock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wall = T0
        self.credential = issue_credential(SEED.organization.id)
        self._state: StateFile | None = None
        self.open()

    def open(self, **options: Any) -> None:
        self._state = StateFile(self.path)
        self.app = create_app(
            **{
                "seed": SEED,
                "clock": Clock(source=self._tick),
                "credential": self.credential,
                "state": self._state,
                **options,
            }
        )
        self.http = TestClient(self.app, headers=_headers(self.credential), raise_server_exceptions=False)

    def _tick(self) -> int:
        # Every reading advances the clock by a millisecond, as a real clock may.
        self.wall += 1
        return self.wall

    def close(self) -> None:
        if self._state is not None:
            self._state.close()
            self._state = None

    def restart(self, **options: Any) -> None:
        """Close the application and start a new one with the same state file."""
        self.close()
        self.open(**options)

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        response = self.http.post(path, json=body, params=query)
        assert response.status_code == 200, response.text
        return response.json() if response.content else None

    def get(self, path: str, **query: Any) -> Any:
        return self.http.get(path, params=query).json()

    def id(self, name: str) -> str:
        (job_id,) = (job["id"] for job in self.get(f"{ADMIN}/state")["jobs"] if job["name"] == name)
        return str(job_id)

    def do(self, name: str, action: str, body: Any = None) -> Any:
        return self.post(f"{JR}/job/{self.id(name)}/{action}", body)

    def snapshot(self) -> dict[str, Any]:
        """Return the complete visible state at one time."""
        with self.app.state.context.backend.clock.hold(self.wall):
            state = self.get(f"{ADMIN}/state")
            ids = [job["id"] for job in state["jobs"]]
            return {
                "state": state,
                "starts": self.get(f"{ADMIN}/starts"),
                "jobs": self.get(f"{JR}/jobs"),
                "removed": self.get(f"{JR}/jobs", removed="true"),
                "engines": self.get(f"{JR}/sdcs"),
                "pipelines": self.get("/pipelinestore/rest/v1/pipelines"),
                **{job_id: self._job_snapshot(job_id) for job_id in ids},
            }

    def _job_snapshot(self, job_id: str) -> list[Any]:
        return [
            self.http.get(path).text
            for path in (
                f"{JR}/job/{job_id}/acl",
                f"{JR}/job/{job_id}/currentStatus",
                f"{JR}/job/{job_id}/committedOffsets",
                f"{JR}/job/{job_id}/runHistory",
                f"{JR}/saql/jobs/search/{job_id}/runs?len=-1",
                f"/timeseries/rest/v1/metrics/job/{job_id}/recordCountsForAllRuns",
            )
        ]


def _headers(credential: Credential) -> dict[str, str]:
    return {
        "X-SS-App-Component-Id": credential.id,
        "X-SS-App-Auth-Token": credential.token,
        "X-Requested-By": "tests",
    }


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[RestartableSandbox]:
    sandbox = RestartableSandbox(tmp_path / "hub.state")
    yield sandbox
    sandbox.close()


def _run_scenario(sandbox: RestartableSandbox) -> None:
    sandbox.do("Quick check", "start", {"LIMIT": 7})
    sandbox.do("Truck positions north", "stop")
    sandbox.do("Ledger export", "acknowledgeError")
    sandbox.wall += 60_000
    sandbox.do("Ledger export", "start")
    template = sandbox.id("Regional orders")
    body = {"runtimeParametersList": [{"REGION": "a"}, {"REGION": "b"}], "deleteAfterCompletion": True}
    sandbox.post(f"{JR}/job/{template}/createAndStartJobInstancesAsync", body)
    sandbox.post(f"{ADMIN}/clock", {"advance": 0.4})
    sandbox.post(f"{ADMIN}/clock", {"freeze": True})
    sandbox.post(f"{ADMIN}/clock", {"advance": 3600})
    sandbox.post(f"{ADMIN}/clock", {"freeze": False})
    sandbox.post(f"{ADMIN}/variants", {"start_parameters_kept": "stored", "metrics_lag": 5})
    sandbox.do("Quick check", "start", {"LIMIT": 9})
    body = {"runtimeParametersList": [{"REGION": "c"}, {"REGION": "d"}]}
    sandbox.post(f"{JR}/job/{template}/createAndStartJobInstances", body)
    sandbox.do("Quick check", "duplicate", {"namePrefix": "Copy ", "numberOfCopies": 2})
    commit = sandbox.get(f"{JR}/job/{sandbox.id('Quick check')}")
    new = {key: commit[key] for key in ("pipelineName", "pipelineId", "pipelineCommitId", "pipelineCommitLabel")}
    created = sandbox.http.put(f"{JR}/jobs", json={"name": "Brand new ünïcode", "rulesId": commit["rulesId"], **new})
    assert created.status_code == 200, created.text
    assert sandbox.http.delete(f"{JR}/v1/no-such-path").status_code == 404
    assert sandbox.http.delete(f"/jobrunner/rest/v2/job/{sandbox.id('Copy 2')}").status_code == 200
    document = {"version": 2, "offsets": {OFFSET: "orders-17"}}
    sandbox.do("Orders to warehouse", "uploadOffsetAsJson", document)
    sandbox.wall += 20_000


def test_restart_restores_complete_state(sandbox):
    _run_scenario(sandbox)
    before = sandbox.snapshot()
    sandbox.restart()
    assert sandbox.snapshot() == before
    assert len(before["starts"]) == 7
    assert len({start["time"] for start in before["starts"]}) > 2
    sandbox.wall += 3_600_000
    sandbox.do("Quick check", "start")
    after = sandbox.snapshot()
    sandbox.restart()
    assert sandbox.snapshot() == after
    assert [start["run_count"] for start in after["starts"] if start["job_name"] == "Quick check"] == [1, 2, 3]


def test_unobserved_events_are_restored(tmp_path):
    observed, unobserved = RestartableSandbox(tmp_path / "observed"), RestartableSandbox(tmp_path / "unobserved")
    for sandbox in (observed, unobserved):
        sandbox.do("Quick check", "start")
        template = sandbox.id("Regional orders")
        body = {"runtimeParametersList": [{"REGION": "a"}], "deleteAfterCompletion": True}
        sandbox.post(f"{JR}/job/{template}/createAndStartJobInstancesAsync", body)
        for _ in range(120):
            sandbox.wall += 1000
            if sandbox is observed:
                sandbox.get(f"{ADMIN}/state")
        sandbox.post(f"{ADMIN}/variants", {"start_failure": "activation_error"})
        sandbox.restart()
    for sandbox in (observed, unobserved):
        assert [start["job_name"] for start in sandbox.get(f"{ADMIN}/starts")] == ["Quick check", "Regional orders - 2"]
        assert [job["name"] for job in sandbox.get(f"{JR}/jobs", removed="true")] == ["Regional orders - 2"]
        sandbox.close()


def test_restart_restores_actions_of_page(sandbox):
    page = f"/sch/jobs/detail/{sandbox.id('Quick check')}"
    assert TestClient(sandbox.app).post(f"{page}/start").status_code == 403
    sandbox.wall += 60_000
    sandbox.post(f"{page}/start")
    before = sandbox.snapshot()
    sandbox.restart()
    assert sandbox.snapshot() == before
    assert [start["run_count"] for start in before["starts"]] == [1]


def test_restart_restores_import(sandbox):
    exported = sandbox.http.post(f"{JR}/jobs/exportJobs", json=[sandbox.id("Quick check")]).content
    with zipfile.ZipFile(io.BytesIO(exported)) as archive:
        (name,) = archive.namelist()
        entry = json.loads(archive.read(name))
    entry["minimalJobJson"] |= {"id": "imported:org", "name": "Imported"}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("any.json", json.dumps(entry))
    response = sandbox.http.post(f"{JR}/jobs/importJobs", files={"file": ("jobs.zip", packed.getvalue())})
    assert response.status_code == 200, response.text
    before = sandbox.snapshot()
    sandbox.restart()
    assert sandbox.snapshot() == before
    assert sandbox.id("Imported") == "imported:org"


def test_restart_restores_partial_bulk_action(sandbox):
    sandbox.post(f"{ADMIN}/variants", {"bulk_partial": "partial"})
    ids = [sandbox.id("Quick check"), "no:no"]
    assert sandbox.http.post(f"{JR}/jobs/startJobs", json=ids).status_code == 404
    sandbox.restart()
    (start,) = sandbox.get(f"{ADMIN}/starts")
    assert start["job_name"] == "Quick check"


def test_restart_restores_purge(sandbox):
    orders = sandbox.id("Orders to warehouse")
    sandbox.post("/timeseries/rest/v1/metrics/purgeLatestMetricsOfDeletedJobs", [orders])
    sandbox.restart()
    assert sandbox.get(f"/timeseries/rest/v1/metrics/job/{orders}/latestMetrics")["counters"] == {}


def test_restart_restores_upgrade_successor(sandbox):
    sandbox.post(f"{ADMIN}/variants", {"upgrade_active": "successor"})
    logs = sandbox.get(f"{JR}/job/{sandbox.id('Web logs to lake')}")
    first = sandbox.get(f"/pipelinestore/rest/v1/pipeline/{logs['pipelineId']}/log")[0]
    new = {"name": "Old logs", "pipelineCommitId": first["commitId"]}
    assert sandbox.http.put(f"{JR}/jobs", json=new).status_code == 200
    sandbox.do("Old logs", "start")
    sandbox.wall += 10_000
    sandbox.do("Old logs", "upgrade")
    before = sandbox.snapshot()
    sandbox.restart()
    assert sandbox.snapshot() == before
    assert sandbox.get(f"{JR}/job/{sandbox.id('Old logs')}")["currentJobStatus"]["runCount"] == 2


def test_restart_restores_saved_filters(sandbox):
    path = f"{JR}/saql/jobs/savedFilters"
    body = {"name": "Orders", "type": "JOB_INSTANCE", "mode": "ADVANCED", "query": "name==*orders*"}
    kept, removed = sandbox.post(path, body), sandbox.post(path, body)
    sandbox.post(f"{path}/fav", searchId=kept["id"])
    assert sandbox.http.delete(path, params={"searchId": removed["id"]}).status_code == 200
    before = sandbox.get(path)
    sandbox.restart()
    assert sandbox.get(path) == before
    assert [entry["favorite"] for entry in before["data"]] == [{"favorite": True}]


def test_restart_restores_reset(sandbox):
    _run_scenario(sandbox)
    sandbox.post(f"{ADMIN}/reset")
    sandbox.do("Quick check", "start")
    before = sandbox.snapshot()
    sandbox.restart()
    assert sandbox.snapshot() == before
    assert [start["job_name"] for start in before["starts"]] == ["Quick check"]


def test_read_only_requests_are_not_recorded(sandbox):
    length = sandbox.path.stat().st_size
    served = {route.path for route in sandbox.app.state.api_routes if "POST" in route.methods}
    assert served >= READ_ONLY_POSTS
    sandbox.post(f"{JR}/jobs/status", [sandbox.id("Quick check")])
    sandbox.get(f"{JR}/jobs")
    assert sandbox.http.post(f"{JR}/jobs/startJobs", json=[], headers={"X-Requested-By": ""}).status_code == 401
    assert sandbox.path.stat().st_size == length
    sandbox.do("Quick check", "start")
    assert sandbox.path.stat().st_size > length


def test_restart_restores_request_log_of_changes(sandbox):
    sandbox.do("Ledger export", "acknowledgeError")
    assert sandbox.http.delete(f"{ADMIN}/requests").status_code == 200
    sandbox.do("Quick check", "start")
    sandbox.get(f"{JR}/jobs")
    (recorded,) = [call for call in sandbox.get(f"{ADMIN}/requests")["requests"] if call["method"] == "POST"]
    sandbox.restart()
    (found,) = sandbox.get(f"{ADMIN}/requests")["requests"]
    assert {**found, "time": recorded["time"]} == recorded


def test_restart_restores_time_scale_and_variants(tmp_path):
    state = StateFile(tmp_path / "hub.state")
    create_app(seed=SEED, time_scale=20, variants={"unknown_job": "400"}, state=state)
    state.close()
    state = StateFile(tmp_path / "hub.state")
    backend = create_app(seed=SEED, state=state).state.context.backend
    assert (backend.time_scale, backend.variants) == (20, Variants(unknown_job="400"))
    state.close()


def test_state_file_is_private_and_has_no_token(sandbox):
    sandbox.do("Quick check", "start")
    assert stat.S_IMODE(sandbox.path.stat().st_mode) == 0o600
    content = sandbox.path.read_text()
    assert sandbox.credential.token not in content
    assert sandbox.credential.token.split(".")[1] not in content


@pytest.mark.parametrize("remaining_bytes", [1, 40, -2])
def test_incomplete_last_line_is_removed_with_warning(sandbox, caplog, remaining_bytes):
    sandbox.do("Quick check", "start")
    complete = sandbox.path.read_bytes()
    sandbox.do("Ledger export", "acknowledgeError")
    line = sandbox.path.read_bytes()[len(complete) :]
    sandbox.close()
    sandbox.path.write_bytes(complete + line[:remaining_bytes])
    sandbox.open()
    assert "incomplete line 3" in caplog.text
    assert sandbox.path.read_bytes() == complete
    assert [start["job_name"] for start in sandbox.get(f"{ADMIN}/starts")] == ["Quick check"]
    sandbox.do("Ledger export", "acknowledgeError")
    before = sandbox.snapshot()
    sandbox.restart()
    assert sandbox.snapshot() == before


@pytest.mark.parametrize("remaining_bytes", [0, 1, 15, 60])
def test_incomplete_header_starts_new_state(sandbox, remaining_bytes):
    sandbox.close()
    sandbox.path.write_bytes(sandbox.path.read_bytes()[:remaining_bytes])
    sandbox.open()
    sandbox.do("Quick check", "start")
    sandbox.restart()
    assert len(sandbox.get(f"{ADMIN}/starts")) == 1


@pytest.mark.parametrize(
    "content",
    ["name: value", "name: value\n", "[]\n", '{"format": "other"}\n', '{"format": "streamsets-sandbox-state"}\n'],
)
def test_other_file_is_rejected_and_unchanged(tmp_path, content):
    path = tmp_path / "other"
    path.write_text(content)
    with pytest.raises(StateError, match="is not a state file of a sandbox"):
        StateFile(path)
    assert path.read_text() == content


def test_invalid_line_is_rejected(sandbox):
    sandbox.do("Quick check", "start")
    sandbox.close()
    first, *_ = sandbox.path.read_text().splitlines()
    sandbox.path.write_text(f'{first}\n{{"time": 1\n')
    with pytest.raises(StateError, match="line 2 is not a valid request"):
        StateFile(sandbox.path)


def test_state_file_of_other_version_is_rejected(sandbox):
    sandbox.close()
    first, *_ = sandbox.path.read_text().splitlines()
    sandbox.path.write_text(json.dumps({**json.loads(first), "sandbox": "0.0.1"}) + "\n")
    with pytest.raises(StateError, match=r"by version 0\.0\.1"):
        StateFile(sandbox.path)


def test_state_file_is_locked(sandbox):
    with pytest.raises(StateError, match="in use by another sandbox"):
        StateFile(sandbox.path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_scale": 3}, "time scale 1, not 3"),
        ({"variants": {"unknown_job": "400"}}, "other variants"),
        (
            {
                "seed": parse_seed(
                    {
                        "organization": {"name": "Org", "user": {"name": "Me", "email": "me@example.com"}},
                        "engines": [],
                        "pipelines": [],
                        "jobs": [],
                    }
                )
            },
            "another seed",
        ),
    ],
)
def test_different_settings_are_rejected(sandbox, options, message):
    with pytest.raises(StateError, match=message):
        sandbox.restart(**options)


def test_request_is_rejected_if_file_cannot_be_written(sandbox, monkeypatch):
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    quick = sandbox.id("Quick check")
    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        response = sandbox.http.post(f"{JR}/job/{quick}/start")
    assert response.status_code == 500
    assert "cannot be written" in response.json()["ISSUES"][0]["message"]
    assert sandbox.get(f"{ADMIN}/starts") == []
    sandbox.do("Quick check", "start")
    sandbox.restart()
    assert len(sandbox.get(f"{ADMIN}/starts")) == 1
