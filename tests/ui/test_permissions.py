from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.ui.scene import DEFERRED, DO_NOT_STOP, SECRET, Task, run_of

READS = ("api/task", "api/run", "api/runs", "api/health")
ACTIONS = ("api/stop", "api/acknowledge")


@pytest.fixture
def query(scene, sandbox):
    """Returns the query that identifies the run of a deferred task."""

    def query(task: Task) -> dict[str, object]:
        scene.wait_for(task, "deferred")
        return {**task.query, "job_id": sandbox.job_id(task.job)}

    return query


@pytest.mark.parametrize("path", [*READS, *ACTIONS])
def test_anonymous_gets_401(send, query, path):
    response = send(None, "POST" if path in ACTIONS else "GET", path, **query(DEFERRED))
    assert response.status_code == 401


def test_anonymous_page_says_so(open_page, scene):
    page = open_page(None)
    page.goto(scene.wait_for(DEFERRED, "deferred").standalone_page)
    expect(page.get_by_role("alert")).to_contain_text("You are not signed in.")


@pytest.mark.parametrize("path", READS)
def test_viewer_reads(send, query, path):
    response = send("viewer", "GET", path, **query(DEFERRED))
    assert response.status_code == 200


def test_viewer_has_no_buttons(open_page, scene):
    page = open_page("viewer")
    page.goto(scene.wait_for(DO_NOT_STOP, "deferred").tab)
    run = run_of(page, DO_NOT_STOP.job)
    expect(run.get_by_role("table", name="Events of the run in Control Hub")).to_be_visible()
    expect(run.get_by_role("button")).to_have_count(0)


@pytest.mark.parametrize("path", ACTIONS)
def test_viewer_cannot_act(send, query, sandbox, path):
    assert send("viewer", "POST", path, **query(DO_NOT_STOP)).status_code == 403
    assert sandbox.job_state(DO_NOT_STOP.job)["status"] == "ACTIVE"


@pytest.mark.parametrize("path", ACTIONS)
def test_action_needs_header(send, query, sandbox, path):
    assert send("admin", "POST", path, is_action=False, **query(DO_NOT_STOP)).status_code == 400
    assert sandbox.job_state(DO_NOT_STOP.job)["status"] == "ACTIVE"


@pytest.mark.parametrize("path", ACTIONS)
def test_action_needs_post(send, query, path):
    assert send("admin", "GET", path, **query(DO_NOT_STOP)).status_code == 405


@pytest.mark.parametrize("path", ["api/task", "api/run", *ACTIONS])
def test_viewer_gets_403_for_secret_dag(send, query, path):
    method = "POST" if path in ACTIONS else "GET"
    assert send("viewer", method, path, **query(SECRET)).status_code == 403


def test_dag_id_is_required(send, query):
    other = {**query(SECRET), "dag_id": None}
    assert send("viewer", "GET", "api/task", **other).status_code in {403, 422}


def test_secret_dag_is_absent_from_list(send, query):
    query(SECRET)
    listed = {user: send(user, "GET", "api/runs", limit=500).json() for user in ("admin", "viewer")}
    assert SECRET.dag_id in listed["admin"]["dags"]
    assert SECRET.dag_id not in listed["viewer"]["dags"]
    assert SECRET.dag_id not in {run["dag_id"] for run in listed["viewer"]["runs"]}
    assert listed["viewer"]["total"] == listed["admin"]["total"] - 1
    hidden = send("viewer", "GET", "api/runs", dag=SECRET.dag_id).json()
    assert (hidden["total"], hidden["runs"]) == (0, [])


def test_page_says_that_dag_is_forbidden(open_page, scene):
    page = open_page("viewer")
    page.goto(scene.wait_for(SECRET, "deferred").standalone_page)
    expect(page.get_by_role("alert")).to_contain_text("You may not see this")
