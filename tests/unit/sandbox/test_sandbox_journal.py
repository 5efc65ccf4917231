"""The state file: what one application left in it, another goes on with."""

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
from airflow_provider_streamsets.sandbox.backend.credentials import Credential, issue
from airflow_provider_streamsets.sandbox.backend.variants import Variants
from airflow_provider_streamsets.sandbox.persistence.journal import READING_POSTS
from airflow_provider_streamsets.sandbox.persistence.state_file import StateError, StateFile
from airflow_provider_streamsets.sandbox.seed.loader import parse_seed
from tests.unit.sandbox_hub import JR, OFFSET, SEED, T0

ADMIN = "/sandbox/v1"


class Hubs:
    """One application after the other, over one state file and one wall clock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wall = T0
        self.credential = issue(SEED.organization.id)
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
        # A millisecond passes whenever somebody looks, as it may on a real clock.
        self.wall += 1
        return self.wall

    def close(self) -> None:
        if self._state is not None:
            self._state.close()
            self._state = None

    def again(self, **options: Any) -> None:
        """Let the application be gone, and start another."""
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

    def everything(self) -> dict[str, Any]:
        """Return all there is to see of all jobs, at one time."""
        with self.app.state.hub.world.clock.held(self.wall):
            state = self.get(f"{ADMIN}/state")
            ids = [job["id"] for job in state["jobs"]]
            return {
                "state": state,
                "starts": self.get(f"{ADMIN}/starts"),
                "jobs": self.get(f"{JR}/jobs"),
                "removed": self.get(f"{JR}/jobs", removed="true"),
                "engines": self.get(f"{JR}/sdcs"),
                "pipelines": self.get("/pipelinestore/rest/v1/pipelines"),
                **{job_id: self._about(job_id) for job_id in ids},
            }

    def _about(self, job_id: str) -> list[Any]:
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
def hubs(tmp_path: Path) -> Iterator[Hubs]:
    hubs = Hubs(tmp_path / "hub.state")
    yield hubs
    hubs.close()


def _live_through_a_day(hubs: Hubs) -> None:
    hubs.do("Quick check", "start", {"LIMIT": 7})
    hubs.do("Truck positions north", "stop")
    hubs.do("Ledger export", "acknowledgeError")
    hubs.wall += 60_000
    hubs.do("Ledger export", "start")
    template = hubs.id("Regional orders")
    wanted = {"runtimeParametersList": [{"REGION": "a"}, {"REGION": "b"}], "deleteAfterCompletion": True}
    hubs.post(f"{JR}/job/{template}/createAndStartJobInstancesAsync", wanted)
    hubs.post(f"{ADMIN}/clock", {"advance": 0.4})
    hubs.post(f"{ADMIN}/clock", {"freeze": True})
    hubs.post(f"{ADMIN}/clock", {"advance": 3600})
    hubs.post(f"{ADMIN}/clock", {"freeze": False})
    hubs.post(f"{ADMIN}/variants", {"start_parameters_kept": "stored", "metrics_lag": 5})
    hubs.do("Quick check", "start", {"LIMIT": 9})
    wanted = {"runtimeParametersList": [{"REGION": "c"}, {"REGION": "d"}]}
    hubs.post(f"{JR}/job/{template}/createAndStartJobInstances", wanted)
    hubs.do("Quick check", "duplicate", {"namePrefix": "Copy ", "numberOfCopies": 2})
    commit = hubs.get(f"{JR}/job/{hubs.id('Quick check')}")
    new = {key: commit[key] for key in ("pipelineName", "pipelineId", "pipelineCommitId", "pipelineCommitLabel")}
    created = hubs.http.put(f"{JR}/jobs", json={"name": "Brand new ünïcode", "rulesId": commit["rulesId"], **new})
    assert created.status_code == 200, created.text
    assert hubs.http.delete(f"{JR}/v1/no-such-path").status_code == 404
    assert hubs.http.delete(f"/jobrunner/rest/v2/job/{hubs.id('Copy 2')}").status_code == 200
    document = {"version": 2, "offsets": {OFFSET: "orders-17"}}
    hubs.do("Orders to warehouse", "uploadOffsetAsJson", document)
    hubs.wall += 20_000


def test_an_application_goes_on_exactly_where_the_one_before_it_was(hubs):
    _live_through_a_day(hubs)
    before = hubs.everything()
    hubs.again()
    assert hubs.everything() == before
    assert len(before["starts"]) == 7
    assert len({start["time"] for start in before["starts"]}) > 2
    hubs.wall += 3_600_000
    hubs.do("Quick check", "start")
    later = hubs.everything()
    hubs.again()
    assert hubs.everything() == later
    assert [start["run_count"] for start in later["starts"] if start["job_name"] == "Quick check"] == [1, 2, 3]


def test_what_nobody_looked_at_before_the_end_comes_out_as_if_somebody_had(tmp_path):
    seen, unseen = Hubs(tmp_path / "seen"), Hubs(tmp_path / "unseen")
    for hubs in (seen, unseen):
        hubs.do("Quick check", "start")
        template = hubs.id("Regional orders")
        body = {"runtimeParametersList": [{"REGION": "a"}], "deleteAfterCompletion": True}
        hubs.post(f"{JR}/job/{template}/createAndStartJobInstancesAsync", body)
        for _ in range(120):
            hubs.wall += 1000
            if hubs is seen:
                hubs.get(f"{ADMIN}/state")
        hubs.post(f"{ADMIN}/variants", {"start_failure": "activation_error"})
        hubs.again()
    for hubs in (seen, unseen):
        assert [start["job_name"] for start in hubs.get(f"{ADMIN}/starts")] == ["Quick check", "Regional orders - 2"]
        assert [job["name"] for job in hubs.get(f"{JR}/jobs", removed="true")] == ["Regional orders - 2"]
        hubs.close()


def test_an_imported_archive_comes_back(hubs):
    exported = hubs.http.post(f"{JR}/jobs/exportJobs", json=[hubs.id("Quick check")]).content
    with zipfile.ZipFile(io.BytesIO(exported)) as archive:
        (name,) = archive.namelist()
        entry = json.loads(archive.read(name))
    entry["minimalJobJson"] |= {"id": "imported:org", "name": "Imported"}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("any.json", json.dumps(entry))
    response = hubs.http.post(f"{JR}/jobs/importJobs", files={"file": ("jobs.zip", packed.getvalue())})
    assert response.status_code == 200, response.text
    before = hubs.everything()
    hubs.again()
    assert hubs.everything() == before
    assert hubs.id("Imported") == "imported:org"


def test_a_bulk_action_that_was_refused_in_part_comes_back_as_it_was(hubs):
    hubs.post(f"{ADMIN}/variants", {"bulk_partial": "partial"})
    ids = [hubs.id("Quick check"), "no:no"]
    assert hubs.http.post(f"{JR}/jobs/startJobs", json=ids).status_code == 404
    hubs.again()
    (start,) = hubs.get(f"{ADMIN}/starts")
    assert start["job_name"] == "Quick check"


def test_purged_metrics_stay_purged(hubs):
    orders = hubs.id("Orders to warehouse")
    hubs.post("/timeseries/rest/v1/metrics/purgeLatestMetricsOfDeletedJobs", [orders])
    hubs.again()
    assert hubs.get(f"/timeseries/rest/v1/metrics/job/{orders}/latestMetrics")["counters"] == {}


def test_successor_of_an_upgrade_comes_back(hubs):
    hubs.post(f"{ADMIN}/variants", {"upgrade_active": "successor"})
    logs = hubs.get(f"{JR}/job/{hubs.id('Web logs to lake')}")
    first = hubs.get(f"/pipelinestore/rest/v1/pipeline/{logs['pipelineId']}/log")[0]
    new = {"name": "Old logs", "pipelineCommitId": first["commitId"]}
    assert hubs.http.put(f"{JR}/jobs", json=new).status_code == 200
    hubs.do("Old logs", "start")
    hubs.wall += 10_000
    hubs.do("Old logs", "upgrade")
    before = hubs.everything()
    hubs.again()
    assert hubs.everything() == before
    assert hubs.get(f"{JR}/job/{hubs.id('Old logs')}")["currentJobStatus"]["runCount"] == 2


def test_what_only_reads_is_not_written_down(hubs):
    length = hubs.path.stat().st_size
    served = {route.path for route in hubs.app.state.api_routes if "POST" in route.methods}
    assert served >= READING_POSTS
    hubs.post(f"{JR}/jobs/status", [hubs.id("Quick check")])
    hubs.get(f"{JR}/jobs")
    assert hubs.http.post(f"{JR}/jobs/startJobs", json=[], headers={"X-Requested-By": ""}).status_code == 401
    assert hubs.path.stat().st_size == length
    hubs.do("Quick check", "start")
    assert hubs.path.stat().st_size > length


def test_the_request_log_comes_back_with_the_calls_that_change_something(hubs):
    hubs.do("Ledger export", "acknowledgeError")
    assert hubs.http.delete(f"{ADMIN}/requests").status_code == 200
    hubs.do("Quick check", "start")
    hubs.get(f"{JR}/jobs")
    (noted,) = [call for call in hubs.get(f"{ADMIN}/requests")["requests"] if call["method"] == "POST"]
    hubs.again()
    (found,) = hubs.get(f"{ADMIN}/requests")["requests"]
    assert {**found, "time": noted["time"]} == noted


def test_time_scale_and_variants_come_back_without_being_given_again(tmp_path):
    state = StateFile(tmp_path / "hub.state")
    create_app(seed=SEED, time_scale=20, variants={"unknown_job": "400"}, state=state)
    state.close()
    state = StateFile(tmp_path / "hub.state")
    world = create_app(seed=SEED, state=state).state.hub.world
    assert (world.time_scale, world.variants) == (20, Variants(unknown_job="400"))
    state.close()


def test_the_file_is_its_owners_alone_and_holds_no_token(hubs):
    hubs.do("Quick check", "start")
    assert stat.S_IMODE(hubs.path.stat().st_mode) == 0o600
    content = hubs.path.read_text()
    assert hubs.credential.token not in content
    assert hubs.credential.token.split(".")[1] not in content


@pytest.mark.parametrize("kept", [1, 40, -2])
def test_a_torn_last_line_is_dropped_with_a_warning(hubs, caplog, kept):
    hubs.do("Quick check", "start")
    whole = hubs.path.read_bytes()
    hubs.do("Ledger export", "acknowledgeError")
    line = hubs.path.read_bytes()[len(whole) :]
    hubs.close()
    hubs.path.write_bytes(whole + line[:kept])
    hubs.open()
    assert "line 3 is torn" in caplog.text
    assert hubs.path.read_bytes() == whole
    assert [start["job_name"] for start in hubs.get(f"{ADMIN}/starts")] == ["Quick check"]
    hubs.do("Ledger export", "acknowledgeError")
    before = hubs.everything()
    hubs.again()
    assert hubs.everything() == before


@pytest.mark.parametrize("kept", [0, 1, 15, 60])
def test_a_beginning_that_is_torn_begins_anew(hubs, kept):
    hubs.close()
    hubs.path.write_bytes(hubs.path.read_bytes()[:kept])
    hubs.open()
    hubs.do("Quick check", "start")
    hubs.again()
    assert len(hubs.get(f"{ADMIN}/starts")) == 1


@pytest.mark.parametrize(
    "content",
    ["name: value", "name: value\n", "[]\n", '{"format": "other"}\n', '{"format": "streamsets-sandbox-state"}\n'],
)
def test_a_file_that_is_something_else_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "precious"
    path.write_text(content)
    with pytest.raises(StateError, match="is no state file of a sandbox"):
        StateFile(path)
    assert path.read_text() == content


def test_a_file_that_is_broken_in_the_middle_is_refused(hubs):
    hubs.do("Quick check", "start")
    hubs.close()
    first, *_ = hubs.path.read_text().splitlines()
    hubs.path.write_text(f'{first}\n{{"time": 1\n')
    with pytest.raises(StateError, match="line 2 is no request"):
        StateFile(hubs.path)


def test_a_file_of_another_version_is_refused(hubs):
    hubs.close()
    first, *_ = hubs.path.read_text().splitlines()
    hubs.path.write_text(json.dumps({**json.loads(first), "sandbox": "0.0.1"}) + "\n")
    with pytest.raises(StateError, match=r"of version 0\.0\.1"):
        StateFile(hubs.path)


def test_a_file_belongs_to_one_sandbox_at_a_time(hubs):
    with pytest.raises(StateError, match="another sandbox is using it"):
        StateFile(hubs.path)


@pytest.mark.parametrize(
    ("options", "said"),
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
def test_a_sandbox_that_would_be_another_is_refused(hubs, options, said):
    with pytest.raises(StateError, match=said):
        hubs.again(**options)


def test_a_change_that_cannot_be_written_down_is_refused_and_does_not_happen(hubs, monkeypatch):
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    quick = hubs.id("Quick check")
    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        response = hubs.http.post(f"{JR}/job/{quick}/start")
    assert response.status_code == 500
    assert "cannot be written" in response.json()["ISSUES"][0]["message"]
    assert hubs.get(f"{ADMIN}/starts") == []
    hubs.do("Quick check", "start")
    hubs.again()
    assert len(hubs.get(f"{ADMIN}/starts")) == 1
