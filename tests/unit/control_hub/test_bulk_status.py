from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub import (
    ControlHubAuthenticationError,
    ControlHubClient,
    ControlHubError,
    ControlHubPermissionError,
    ControlHubUnavailableError,
)
from airflow_provider_streamsets.control_hub.bulk_status import BulkStatusReader
from airflow_provider_streamsets.control_hub.models.status_snapshot import StatusSnapshot
from tests.unit.fakes.api_payloads import HUB, parse_snapshot
from tests.unit.fakes.single_job_hub import run_json

STATUS = f"{HUB}/jobrunner/rest/v1/jobs/status"


class Hub:
    """Answers status requests, unless they name ids that spoil them."""

    def __init__(self, http: Any) -> None:
        self.asked: list[list[str]] = []
        self.bad: dict[str, int] = {}
        http.post(STATUS, json=self._answer)

    def _answer(self, request: Any, answer: Any) -> Any:
        job_ids = request.json()
        self.asked.append(job_ids)
        for job_id in job_ids:
            if job_id in self.bad:
                answer.status_code = self.bad[job_id]
                return {"ISSUES": [{"code": "JOBRUNNER_1", "message": f"{job_id} is not right"}]}
        return {job_id: {**run_json(4), "jobId": job_id} for job_id in job_ids}


@pytest.fixture
def hub(http: Any) -> Hub:
    return Hub(http)


JOBS = [f"job-{n}:org" for n in range(200)]


def test_jobs_are_polled_in_one_request(client: ControlHubClient, hub: Hub):
    answers = BulkStatusReader(client).fetch(JOBS)
    assert hub.asked == [JOBS]
    assert all(isinstance(answer, StatusSnapshot) and answer.run_count == 4 for answer in answers.values())


@pytest.mark.parametrize(("status", "kind"), [(404, type(None)), (400, type(None)), (403, ControlHubPermissionError)])
def test_bad_id_is_isolated_by_halving(client, hub, status, kind):
    hub.bad = {"job-77:org": status}
    reader = BulkStatusReader(client)
    answers = reader.fetch(JOBS)
    assert list(answers.keys() ^ set(JOBS)) == []
    assert [job_id for job_id, answer in answers.items() if not isinstance(answer, StatusSnapshot)] == ["job-77:org"]
    assert isinstance(answers["job-77:org"], kind)
    assert len(hub.asked) < 20
    hub.asked.clear()
    assert reader.fetch(JOBS).keys() == answers.keys()
    assert sorted(map(len, hub.asked)) == [1, 199]


def test_recovered_id_rejoins_bulk_request(client, hub):
    hub.bad = {"job-5:org": 404}
    reader = BulkStatusReader(client)
    reader.fetch(JOBS)
    hub.bad = {}
    reader.fetch(JOBS)
    hub.asked.clear()
    reader.fetch(JOBS)
    assert hub.asked == [JOBS]


def test_many_bad_ids_have_bounded_requests(client, hub):
    hub.bad = dict.fromkeys(JOBS, 404)
    reader = BulkStatusReader(client)
    found: dict[str, Any] = {}
    for _ in range(10):
        hub.asked.clear()
        found.update(reader.fetch([job_id for job_id in JOBS if job_id not in found]))
        assert len(hub.asked) <= 100
    assert found == dict.fromkeys(JOBS)


def test_server_error_is_raised(client, hub):
    hub.bad = dict.fromkeys(JOBS, 500)
    with pytest.raises(ControlHubError):
        BulkStatusReader(client).fetch(JOBS[:1])
    with pytest.raises(ControlHubError):
        BulkStatusReader(client).fetch(JOBS)


@pytest.mark.parametrize(("status", "error"), [(401, ControlHubAuthenticationError), (503, ControlHubUnavailableError)])
def test_general_errors_are_raised(client, http, status, error):
    http.post(STATUS, status_code=status)
    with pytest.raises(error):
        BulkStatusReader(client.with_options()).fetch(JOBS)


def test_unreadable_runs_are_skipped_and_logged_once(client, http, caplog):
    http.post(STATUS, json={"a": run_json(4), "b": {"runCount": 1, "startTime": 5, "status": 7}, "c": "nothing"})
    reader = BulkStatusReader(client)
    for _ in range(3):
        runs = reader.fetch_runs(["a", "b", "c", "d"])
        assert set(runs) == {"a", "d"}
        assert runs["d"] is None
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    "value",
    [None, {}, {"runCount": 0, "status": "INACTIVE"}, {"runCount": 3, "status": "INACTIVE", "startTime": 0}],
    ids=str,
)
def test_never_run_job_has_no_snapshot(value):
    assert parse_snapshot(value) is None


# Those that a status normally does not have are parsed in another way.
@pytest.mark.parametrize("unusual", [{}, {"finishTime": 0.0}, {"startTime": None}], ids=str)
def test_change_key_ignores_report_times(unusual):
    status = run_json(4, **unusual, pipelineStatus=[{"sdcId": "e", "status": "RUNNING", "lastReportedTime": 1}])
    later = {**status, "pipelineStatus": [{"sdcId": "e", "status": "RUNNING", "lastReportedTime": 2}]}
    counted = {**status, "inputRecordCount": 5}
    snapshots = [parse_snapshot(value) for value in (status, later, counted)]
    assert all(snapshot is not None for snapshot in snapshots)
    one, two, three = (snapshot for snapshot in snapshots if snapshot is not None)
    assert one.change_key == two.change_key == three.change_key
    assert one.counts_change_key == two.counts_change_key != three.counts_change_key
    assert one.started == (status["startTime"] and status["startTime"] / 1000)


def test_change_key_covers_engine_rejections():
    def digest(*trackers):
        return parse_snapshot(run_json(4, ackTrackers=list(trackers))).change_key

    done, refused = {"sdcId": "e", "ackStatus": "SUCCESS"}, {"sdcId": "e", "ackStatus": "ERROR", "message": "no lib"}
    assert digest() == digest(done) == digest(done, {**done, "ackStatus": "PENDING"})
    assert len({digest(), digest(refused), digest({**refused, "message": "no memory"})}) == 3


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "runCount",
    "status",
    "color",
    "startTime",
    "finishTime",
    "warnings",
    "pipelineStatus",
    "errorMessage",
    "ackTrackers",
]


@given(st.dictionaries(st.sampled_from(FIELDS), json_values) | json_values)
def test_any_status_yields_snapshot_or_error(value):
    try:
        snapshot = parse_snapshot(value)
        if snapshot is not None:
            assert isinstance(snapshot.counts_change_key, int)
            snapshot.to_run()
    except ControlHubError:
        pass
