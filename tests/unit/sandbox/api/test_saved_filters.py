"""Saved SAQL searches."""

from __future__ import annotations

import pytest

from tests.unit.fakes.sandbox_app import JR, T0, Hub

JOBS, PIPELINES = f"{JR}/saql/jobs/savedFilters", "/pipelinestore/rest/v1/saql/pipelines/savedFilters"
KINDS = {JOBS: "JOB_INSTANCE", PIPELINES: "PIPELINE"}


@pytest.fixture(params=[JOBS, PIPELINES], ids=["jobs", "pipelines"])
def path(request):
    return request.param


def new(path: str, **changes: str) -> dict[str, str]:
    return {"name": "Orders", "type": KINDS[path], "mode": "ADVANCED", "query": "name==*orders*", **changes}


def save(hub: Hub, path: str, **changes: str):
    response = hub.http.post(path, json=new(path, **changes))
    assert response.status_code == 200, response.text
    return response.json()


def test_saved_filter_is_listed(hub, path):
    saved = save(hub, path)
    assert saved == {
        "id": saved["id"],
        "orgId": hub.backend.organization,
        **new(path),
        "creator": hub.backend.user,
        "createTime": T0,
        "lastModifiedBy": hub.backend.user,
        "lastModifiedOn": T0,
        "favorite": {"favorite": False},
    }
    assert hub.get(path) == {"totalCount": 1, "offset": 0, "len": -1, "data": [saved]}


def test_services_have_their_own_filters(hub):
    job_filter, pipeline_filter = save(hub, JOBS), save(hub, PIPELINES)
    assert hub.get(JOBS)["data"] == [job_filter]
    assert hub.get(PIPELINES)["data"] == [pipeline_filter]


def test_filters_are_selected_by_name_and_type(hub):
    first, second = save(hub, JOBS, name="B"), save(hub, JOBS, name="A")
    template = save(hub, JOBS, name="A", type="JOB_TEMPLATE")
    assert hub.get(JOBS, name="A", type="JOB_INSTANCE")["data"] == [second]
    assert hub.get(JOBS, type="JOB_INSTANCE")["data"] == [second, first]
    assert hub.get(JOBS, orderBy="DESC", len=1)["data"] == [first]
    assert hub.get(JOBS, type="JOB_TEMPLATE", name="")["data"] == [template]
    assert hub.get(JOBS, name="C")["data"] == []


def test_filter_becomes_favorite(hub, path):
    saved = save(hub, path)
    response = hub.http.post(f"{path}/fav", params={"searchId": saved["id"]})
    assert response.json() is True
    assert hub.get(path)["data"] == [{**saved, "favorite": {"favorite": True}}]


def test_filter_is_changed(hub, path):
    saved = save(hub, path)
    hub.clock.advance(1)
    changes = new(path, name="Renamed", mode="BASIC", query="[]")
    changed = hub.http.put(f"{path}/{saved['id']}", json=changes).json()
    assert changed == {**saved, **changes, "lastModifiedOn": T0 + 1000}
    assert hub.get(path)["data"] == [changed]


def test_filter_is_removed(hub, path):
    saved = save(hub, path)
    response = hub.http.delete(path, params={"searchId": saved["id"]})
    assert (response.status_code, response.content) == (200, b"")
    assert hub.get(path)["data"] == []


def test_reset_removes_filters(hub, path):
    save(hub, path)
    assert hub.http.post("/sandbox/v1/reset").status_code == 200
    assert hub.get(path)["totalCount"] == 0


def test_unknown_filter_is_refused(hub, path):
    query = {"params": {"searchId": "no:no"}}
    responses = [
        hub.http.post(f"{path}/fav", **query),
        hub.http.delete(path, **query),
        hub.http.put(f"{path}/no:no", json=new(path)),
    ]
    for response in responses:
        (issue,) = response.json()["ISSUES"]
        assert (response.status_code, issue["message"]) == (404, "Saved filter 'no:no' does not exist")
        assert issue["code"].startswith("JOBRUNNER_" if path == JOBS else "PIPELINE_STORE_")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "EXPERT"}, "'mode' of a saved filter must be one of BASIC, ADVANCED"),
        ({"type": "TOPOLOGY"}, "'type' of a saved filter must be one of"),
        ({"name": " "}, "'name' of a saved filter is missing."),
        ({"query": None}, "'query' of a saved filter must be a string"),
    ],
)
def test_invalid_filter_is_refused(hub, path, changes, message):
    response = hub.http.post(path, json=new(path, **changes))
    assert response.status_code == 400
    assert response.json()["ISSUES"][0]["message"].startswith(message)


def test_missing_id_is_refused(hub, path):
    response = hub.http.delete(path)
    assert (response.status_code, response.json()["ISSUES"][0]["message"]) == (400, "'searchId' is missing.")
