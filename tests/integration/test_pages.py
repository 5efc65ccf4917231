"""The API of the pages in Airflow's user interface, with Airflow's database, its permissions and a sandbox."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_streamsets.compat import HAS_PAGES

if not HAS_PAGES:
    pytest.skip("Pages in the user interface need Airflow 3.1.1.", allow_module_level=True)

from airflow.api_fastapi.app import init_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models.log import Log
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.sdk import DAG
from airflow.sdk.bases.xcom import BaseXCom
from airflow.utils.session import create_session
from fastapi.testclient import TestClient
from sqlalchemy import delete, select

from airflow_provider_streamsets import compat, task_runs
from airflow_provider_streamsets.get_provider_info import get_provider_info
from airflow_provider_streamsets.operators.runs import ControlHubRunJobOperator
from airflow_provider_streamsets.plugins import app as pages_app
from airflow_provider_streamsets.plugins.sources import Sources
from tests.integration.airflow_rows import no_rows, tables
from tests.integration.airflow_rows import store_task as _store_task
from tests.integration.conftest import start_run as start

__all__ = ["no_rows", "tables"]

CONN_ID = "streamsets_pages"
LOGO = get_provider_info()["integrations"][0]["logo"].removeprefix(compat.PAGES_PATH)
HEADER = {"X-Streamsets-Action": "1"}
_is_authorized_dag = SimpleAuthManager.is_authorized_dag


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> Sources:
    """Sources without data from an earlier test."""
    fresh = Sources()
    monkeypatch.setattr(pages_app, "_sources", fresh)
    return fresh


@pytest.fixture
def hub(sandbox, sources, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The sandbox, as the connection of the tasks."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", sandbox.airflow_conn)
    return sandbox


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """The pages for an administrator."""
    return client_of("admin", monkeypatch)


@pytest.fixture
def viewer(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """The pages for a viewer, who must not read the DAG "secret"."""
    return client_of("viewer", monkeypatch)


def client_of(role: str, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    def is_authorized(self: Any, *, user: Any, details: Any = None, **kwargs: Any) -> bool:
        if user.role != "admin" and details and details.id == "secret":
            return False
        return _is_authorized_dag(self, user=user, details=details, **kwargs)

    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", is_authorized)
    manager = init_auth_manager()
    token = manager.generate_jwt(SimpleAuthManagerUser(username=role, role=role))
    return TestClient(pages_app.create_app(), headers={"Authorization": f"Bearer {token}"})


def store_task(dag_id: str = "orders", **options: Any) -> dict[str, Any]:
    """Store a task instance of the connection, and return the query that identifies it."""
    rendered = {"control_hub_conn_id": CONN_ID, **options.pop("rendered", {})}
    return _store_task(dag_id, **{"streamsets_conn_id": CONN_ID, "rendered": rendered, **options})


def test_waiting_run_is_live(hub, pages):
    run = start(hub, "Clickstream to lake")
    task = store_task(**run)
    answer = pages.get("/api/task", params=task).json()
    assert answer["task"] == {**task, "state": "deferred", "try_number": 1, "operator": "ControlHubRunJobOperator"}
    assert answer["is_waiting"] is True
    assert answer["may_edit"] is True
    assert answer["connection"] == {"id": CONN_ID, "error": None}
    (row,) = answer["runs"]
    assert row["job_name"] == "Clickstream to lake"
    assert row["job_url"].startswith(hub.url)
    assert (row["run_count"], row["status"], row["color"]) == (run["run_count"], "ACTIVE", "GREEN")
    assert (row["state"], row["outcome"], row["is_live"]) == ("waiting", "Running", True)
    assert row["started"] is not None
    assert row["finished"] is None


def test_details_of_active_run(hub, pages):
    task = store_task(
        rendered={"runtime_parameters": {"DAY": "2026-11-30", "DB_PASSWORD": "x"}},
        **start(hub, "Clickstream to lake", 130),
    )
    run = pages.get("/api/run", params={**task, "job_id": hub.job_id("Clickstream to lake")}).json()
    assert run["pipeline"]["name"]
    assert run["engines"][0]["status"] == "RUNNING"
    assert run["parameters"]["DAY"] == "2026-11-30"
    assert run["parameters"]["DB_PASSWORD"] == "***"
    assert run["input"] > 0
    assert {stage["name"] for stage in run["stages"]}
    assert [event["status"] for event in run["events"]][:2] == ["ACTIVATING", "ACTIVE"]
    assert run["actions"] == {"stop": True, "acknowledge": False}
    assert run["problems"] == []


def test_time_series_of_job_are_read(hub, pages):
    xcoms = start(hub, "Web logs to lake", 200)
    run = pages.get("/api/run", params={**store_task(**xcoms), "job_id": xcoms["job_id"]}).json()
    assert run["series"]["source"] == "time_series"
    inputs = [point["input"] for point in run["series"]["points"]]
    assert len(inputs) > 1
    assert inputs == sorted(inputs)


def test_failed_run_shows_stored_result_and_details(hub, pages):
    xcoms = start(hub, "Payments reconciliation", 400)
    result = {
        **xcoms,
        "job_name": "Payments reconciliation",
        "outcome": "FAILED",
        "status": "INACTIVE_ERROR",
        "error_message": "JDBC_34 - Query failed",
        "duration": 12.0,
        "metrics": {"input_count": 10, "output_count": 8, "error_count": 2},
    }
    task = store_task(state="failed", result=result, **xcoms)
    (row,) = pages.get("/api/task", params=task).json()["runs"]
    assert (row["state"], row["outcome"], row["is_live"]) == ("failed", "Failed", False)
    assert (row["input"], row["output"], row["errors"], row["duration"]) == (10, 8, 2, 12.0)
    run = pages.get("/api/run", params={**task, "job_id": xcoms["job_id"]}).json()
    assert run["state"] == "failed"
    assert run["error_message"]
    assert run["actions"] == {"stop": False, "acknowledge": True}
    assert [event["status"] for event in run["events"]][-1] == "INACTIVE_ERROR"


def test_bulk_task_lists_its_runs(hub, pages):
    names = ("Clickstream to lake", "Truck positions south")
    counts = {xcoms["job_id"]: xcoms["run_count"] for xcoms in (start(hub, name) for name in names)}
    answer = pages.get("/api/task", params=store_task(run_counts=counts, job_ids=list(counts))).json()
    assert {row["job_name"]: row["run_count"] for row in answer["runs"]} == dict(
        zip(names, counts.values(), strict=True)
    )
    assert all(row["job_url"] for row in answer["runs"])


def test_template_task_shows_instances_with_results(hub, pages):
    instance = hub.job_id("Orders to warehouse")
    results = [{"job_id": instance, "job_name": "Orders - 1", "run_count": 1, "outcome": "SUCCEEDED"}]
    task = store_task(
        state="success", job_id="template:org", run_counts={instance: 1}, return_value={"instances": results}
    )
    (row,) = pages.get("/api/task", params=task).json()["runs"]
    assert (row["run_count"], row["state"]) == (1, "succeeded")


def test_deleted_job_has_no_link(hub, pages):
    result = {"job_id": "gone:org", "job_name": "Gone", "run_count": 1, "outcome": "SUCCEEDED"}
    task = store_task(state="success", job_id="gone:org", run_count=1, return_value=result)
    (row,) = pages.get("/api/task", params=task).json()["runs"]
    assert (row["job_name"], row["job_url"], row["state"]) == ("Gone", None, "succeeded")
    run = pages.get("/api/run", params={**task, "job_id": "gone:org"}).json()
    assert run["problems"] != []
    assert (run["job_name"], run["actions"]) == ("Gone", {"stop": False, "acknowledge": False})


def test_later_run_is_not_shown_as_own(hub, pages):
    xcoms = start(hub, "Clickstream to lake")
    task = store_task(job_id=xcoms["job_id"], run_count=xcoms["run_count"] - 1, state="failed")
    (row,) = pages.get("/api/task", params=task).json()["runs"]
    assert row["outcome"] == f"Followed by run {xcoms['run_count']}"
    assert row["state"] == "unknown"


@pytest.mark.parametrize("xcoms", [{}, {"streamsets_conn_id": None}])
def test_task_without_run_is_not_found(xcoms, sources, pages):
    response = pages.get("/api/task", params=store_task(**xcoms))
    assert response.status_code == 404
    assert response.json() == {"detail": "This task has no StreamSets run."}


def test_other_job_of_task_is_refused(hub, pages):
    task = store_task(**start(hub, "Clickstream to lake"))
    other = hub.job_id("Truck positions south")
    for method, path in (("GET", "run"), ("POST", "stop"), ("POST", "acknowledge")):
        response = pages.request(method, f"/api/{path}", params={**task, "job_id": other}, headers=HEADER)
        assert response.status_code == 404, path


def test_unreachable_hub_leaves_stored_data(sources, pages, monkeypatch):
    uri = json.dumps(
        {"conn_type": "streamsets", "host": "http://127.0.0.1:9", "login": "id", "password": "e30.eyJvIjoib3JnIn0=."}
    )
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", uri)
    answer = pages.get("/api/task", params=store_task(job_id="job:org", run_count=3)).json()
    assert "127.0.0.1:9" in answer["connection"]["error"]
    (row,) = answer["runs"]
    assert (row["state"], row["outcome"], row["is_live"]) == ("waiting", "Waiting", False)
    (health,) = pages.get("/api/health").json()["connections"]
    assert (health["state"], health["waiting"], health["answered"]) == ("unreachable", 1, None)


def test_missing_connection_is_explained(sources, pages):
    answer = pages.get("/api/task", params=store_task(job_id="job:org", run_count=3)).json()
    assert CONN_ID in answer["connection"]["error"]
    (health,) = pages.get("/api/health").json()["connections"]
    assert health["state"] == "refused"


def test_health_of_working_connection(hub, pages):
    store_task(**start(hub, "Clickstream to lake"))
    (health,) = pages.get("/api/health").json()["connections"]
    assert (health["id"], health["state"], health["waiting"], health["error"]) == (CONN_ID, "ok", 1, None)
    assert health["latency"] > 0
    assert health["delay"] == 0


def test_delay_counts_from_end_of_last_run(hub, pages, sources, monkeypatch):
    ended, active = start(hub, "Payments reconciliation", 400), start(hub, "Clickstream to lake", 0)
    counts = {one["job_id"]: one["run_count"] for one in (ended, active)}
    now = SimpleNamespace(now=lambda tz: datetime.fromtimestamp(hub.now() / 1000, tz))
    monkeypatch.setattr(pages_app, "datetime", now)
    store_task(run_counts=counts)
    assert pages.get("/api/health").json()["connections"][0]["delay"] == 0
    store_task(**ended)
    monkeypatch.setattr(pages_app, "_sources", Sources())
    assert pages.get("/api/health").json()["connections"][0]["delay"] > 0


def test_outage_is_not_asked_again_at_once(hub, pages):
    task = store_task(**start(hub, "Clickstream to lake"))
    hub.set_faults({"fault": "server_error", "status": 503, "path": "*"})
    try:
        assert pages.get("/api/task", params=task).json()["connection"]["error"]
        hub.forget_requests()
        assert pages.get("/api/task", params=task).json()["connection"]["error"]
        assert hub.requests()["total"] == 0
    finally:
        hub.set_faults()


def test_missing_job_is_no_outage(hub, pages):
    task = store_task(job_id="gone:org", run_count=1)
    assert pages.get("/api/run", params={**task, "job_id": "gone:org"}).json()["problems"] != []
    (health,) = pages.get("/api/health").json()["connections"]
    assert health["state"] == "ok"


# What a task has stored


@pytest.mark.parametrize(
    "xcoms",
    [
        {"job_id": 5, "run_count": 1},
        {"job_id": "a:org", "run_count": "1"},
        {"job_id": "a:org", "run_count": True},
        {"job_ids": [1, None, {}]},
        {"run_counts": ["a:org"]},
        {"run_counts": {"a:org": "x"}},
        {"job_id": "a:org", "run_count": 1, "result": {"job_id": ["a:org"], "outcome": "FAILED"}},
        {"job_id": "a:org", "run_count": 1, "result": {"job_id": "a:org", "outcome": ["FAILED"]}},
        {
            "job_id": "a:org",
            "run_count": 1,
            "return_value": {
                "job_id": "a:org",
                "outcome": "SUCCEEDED",
                "job_name": {},
                "run_count": "x",
                "metrics": [1],
                "duration": "long",
                "start_time": "yesterday",
                "finish_time": 5,
                "error_message": {"a": 1},
            },
        },
        {"job_id": "a:org", "run_count": 1, "return_value": "a path of a custom XCom backend"},
    ],
    ids=str,
)
def test_malformed_xcoms_break_no_page(hub, pages, xcoms):
    task = store_task(**xcoms)
    store_task(**_ended("SUCCEEDED", "Orders", 1))
    assert pages.get("/api/task", params=task).status_code in {200, 404}
    assert pages.get("/api/run", params={**task, "job_id": "a:org"}).status_code in {200, 404}
    runs = pages.get("/api/runs")
    assert runs.status_code == 200
    for row in runs.json()["runs"]:
        assert isinstance(row["job_name"], (str, type(None)))
        assert isinstance(row["run_count"], int)
        assert row["started"] is None
    assert pages.get("/api/health").status_code == 200


def test_mapped_task_is_found_and_placeholder_means_not_mapped(hub, pages):
    run = start(hub, "Clickstream to lake")
    mapped = store_task(map_index=2, **run)
    assert pages.get("/api/task", params=mapped).json()["task"]["map_index"] == 2
    assert pages.get("/api/task", params={**mapped, "map_index": "{MAP_INDEX}"}).status_code == 404
    plain = store_task(**run)
    assert pages.get("/api/task", params={**plain, "map_index": "{MAP_INDEX}"}).status_code == 200
    assert pages.get("/api/task", params={**plain, "map_index": "9" * 20}).status_code == 404


@pytest.mark.parametrize(
    ("state", "next_method", "is_waiting"),
    [
        ("running", None, True),
        ("deferred", None, True),
        ("up_for_reschedule", None, True),
        ("queued", "execute_complete", True),
        ("queued", None, False),
        (None, None, False),
        ("up_for_retry", None, False),
    ],
)
def test_only_task_in_its_try_is_waiting(hub, pages, state, next_method, is_waiting):
    task = store_task(state=state, next_method=next_method, job_id="a:org", run_count=1)
    assert pages.get("/api/task", params=task).json()["is_waiting"] is is_waiting
    (health,) = pages.get("/api/health").json()["connections"]
    assert health["waiting"] == int(is_waiting)


def test_long_wait_is_listed_in_every_period(hub, pages):
    store_task(age=timedelta(days=90), **start(hub, "Clickstream to lake"))
    store_task(state="success", age=timedelta(days=90), **_ended("SUCCEEDED", "Orders", 1))
    (row,) = pages.get("/api/runs", params={"days": 1}).json()["runs"]
    assert row["state"] == "waiting"


def test_job_without_run_of_task_is_not_shown_as_running(hub, pages):
    job_id = start(hub, "Clickstream to lake")["job_id"]
    (row,) = pages.get("/api/task", params=store_task(job_id=job_id)).json()["runs"]
    assert (row["run_count"], row["outcome"], row["status"]) == (None, "Not started yet", None)
    (row,) = pages.get("/api/task", params=store_task(state="success", job_ids=[job_id])).json()["runs"]
    assert (row["outcome"], row["job_name"]) == ("No run", "Clickstream to lake")
    assert row["job_url"]
    assert pages.get("/api/runs").json()["total"] == 0


def test_truncated_list_says_so(sources, pages, monkeypatch):
    monkeypatch.setattr(task_runs, "MAX_TASKS", 3)
    for number in range(1, 6):
        store_task("orders", state="success", age=timedelta(minutes=number), **_ended("SUCCEEDED", "Orders", number))
    store_task("clicks", state="success", age=timedelta(hours=1), **_ended("SUCCEEDED", "Clicks", 1))
    answer = pages.get("/api/runs").json()
    assert (answer["is_truncated"], answer["total"]) == (True, 3)
    answer = pages.get("/api/runs", params={"dag": "clicks"}).json()
    assert (answer["is_truncated"], answer["total"]) == (False, 1)


def test_large_task_is_cut(hub, pages, monkeypatch):
    monkeypatch.setattr(pages_app, "MAX_ROWS", 2)
    answer = pages.get("/api/task", params=store_task(run_counts={f"{n}:org": 1 for n in range(5)})).json()
    assert (len(answer["runs"]), answer["total"]) == (2, 5)


def test_custom_backend_is_read_for_one_task_only(hub, pages, monkeypatch):
    class Backend(BaseXCom):
        @staticmethod
        def deserialize_value(result: Any) -> Any:
            if result.value == "broken":
                raise OSError("no such object")
            return json.loads(result.value) if str(result.value).startswith("{") else result.value

    monkeypatch.setattr(compat, "XCom", Backend)
    run = start(hub, "Clickstream to lake")
    task = store_task(run_counts=json.dumps({run["job_id"]: run["run_count"]}), results="broken")
    (row,) = pages.get("/api/task", params=task).json()["runs"]
    assert row["run_count"] == run["run_count"]
    assert pages.get("/api/runs").json()["total"] == 0


# Connections


def test_forged_connection_is_not_used(hub, pages, monkeypatch):
    run = start(hub, "Clickstream to lake")
    stops = hub.stops()
    forged = store_task(**run, rendered={"control_hub_conn_id": "streamsets_of_another_team"})
    params = {**forged, "job_id": run["job_id"]}
    answer = pages.get("/api/task", params=forged).json()
    assert "not known any more" in answer["connection"]["error"]
    assert answer["runs"][0]["is_live"] is False
    assert pages.get("/api/run", params=params).json()["pipeline"] is None
    assert [row["is_live"] for row in pages.get("/api/runs").json()["runs"]] == [False]
    hub.forget_requests()
    assert pages.get("/api/runs", params={"job": "clickstream"}).json()["total"] == 0
    assert hub.requests()["total"] == 0
    for path in ACTIONS:
        assert pages.post(path, params=params, headers=HEADER).status_code == 502
    assert hub.stops() == stops


def test_connection_of_code_is_used_without_rendered_fields(hub, pages, monkeypatch):
    task = store_task(**start(hub, "Clickstream to lake"))
    with create_session() as session:
        session.execute(delete(RenderedTaskInstanceFields))
    assert pages.get("/api/task", params=task).json()["connection"]["error"]
    with DAG("orders") as dag:
        ControlHubRunJobOperator(task_id="load", job_id="job:org", control_hub_conn_id=CONN_ID)
    monkeypatch.setattr(task_runs.SerializedDagModel, "get_dag", lambda dag_id: dag)
    assert pages.get("/api/task", params=task).json()["connection"]["error"] is None


def test_connection_of_another_type_is_not_used(sources, pages, monkeypatch):
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps({"conn_type": "http", "password": "x"}))
    answer = pages.get("/api/task", params=store_task(job_id="a:org", run_count=1)).json()
    assert "is not one to Control Hub" in answer["connection"]["error"]


# Stop and acknowledge


def test_stop_is_requested_and_audited(hub, pages):
    xcoms = start(hub, "Clickstream to lake")
    task = store_task(**xcoms)
    response = pages.post("/api/stop", params={**task, "job_id": xcoms["job_id"]}, headers=HEADER)
    assert response.json() == {"message": f"Stop of run {xcoms['run_count']} requested."}
    hub.advance(60)
    assert pages.get("/api/task", params=task).json()["runs"][0]["outcome"] in {"Stopping", "Ended"}
    with create_session() as session:
        entry = session.scalar(select(Log).where(Log.event == "streamsets_stop_run"))
        assert (entry.owner, entry.dag_id, entry.run_id, entry.task_id) == (
            "admin",
            *(task[n] for n in ("dag_id", "run_id", "task_id")),
        )
        assert json.loads(entry.extra)["job_id"] == xcoms["job_id"]
    again = pages.post("/api/stop", params={**task, "job_id": xcoms["job_id"]}, headers=HEADER)
    assert again.status_code == 409


def test_error_is_acknowledged_once(hub, pages):
    xcoms = start(hub, "Payments reconciliation", 400)
    params = {**store_task(state="failed", **xcoms), "job_id": xcoms["job_id"]}
    response = pages.post("/api/acknowledge", params=params, headers=HEADER)
    assert response.json() == {"message": f"Error of run {xcoms['run_count']} acknowledged."}
    assert pages.post("/api/acknowledge", params=params, headers=HEADER).status_code == 409


# Permissions


PATHS = ("/api/task", "/api/run")
LISTS = ("/api/runs", "/api/health")
ACTIONS = ("/api/stop", "/api/acknowledge")


def test_every_route_of_the_api_is_listed_here():
    # What is not listed would not be tested for permissions.
    assert {route.path for route in pages_app._router.routes} == {*PATHS, *LISTS, *ACTIONS}


def _all_requests(task: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    params = {**task, "job_id": "job:org"}
    yield from (("GET", path, params) for path in (*PATHS, *LISTS))
    yield from (("POST", path, params) for path in ACTIONS)


def test_anonymous_is_refused(sources, pages):
    anonymous = TestClient(pages.app)
    for method, path, params in _all_requests(store_task(job_id="job:org", run_count=1)):
        assert anonymous.request(method, path, params=params, headers=HEADER).status_code == 401, path
        invalid = {**HEADER, "Authorization": "Bearer invalid"}
        assert anonymous.request(method, path, params=params, headers=invalid).status_code in {401, 403}, path


def test_foreign_dag_is_refused_and_not_listed(sources, viewer):
    own = store_task("orders", job_id="job:org", run_count=1)
    foreign = store_task("secret", job_id="job:org", run_count=2)
    for method, path, params in _all_requests(foreign):
        if path not in LISTS:
            assert viewer.request(method, path, params=params, headers=HEADER).status_code == 403, path
    listed = viewer.get("/api/runs").json()
    assert [row["run_id"] for row in listed["runs"]] == [own["run_id"]]
    assert listed["dags"] == ["orders"]
    assert viewer.get("/api/runs", params={"dag": "secret"}).json()["total"] == 0
    assert [entry["waiting"] for entry in viewer.get("/api/health").json()["connections"]] == [1]


@pytest.mark.parametrize("dag_id", [None, "", "~"])
def test_any_dag_is_no_dag(sources, viewer, dag_id):
    task = {**store_task("secret", job_id="job:org", run_count=1), "dag_id": dag_id}
    if dag_id is None:
        del task["dag_id"]
    for method, path, params in _all_requests(task):
        if path not in LISTS:
            response = viewer.request(method, path, params=params, headers=HEADER)
            assert response.status_code in {403, 404, 422}, path


def test_list_needs_permission_for_xcoms_of_dag(sources, monkeypatch):
    viewer = client_of("viewer", monkeypatch)
    store_task("orders", job_id="job:org", run_count=1)
    before = SimpleAuthManager.is_authorized_dag

    def without_xcoms(self: Any, *, details: Any = None, access_entity: Any = None, **kwargs: Any) -> bool:
        is_refused = access_entity is DagAccessEntity.XCOM and details and details.id == "orders"
        return not is_refused and before(self, details=details, access_entity=access_entity, **kwargs)

    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", without_xcoms)
    assert viewer.get("/api/runs").json()["total"] == 0
    assert viewer.get("/api/health").json()["connections"] == []


def test_slow_hub_leaves_threads_to_others(sources, pages, monkeypatch):
    task = store_task(job_id="job:org", run_count=1)
    for _ in range(64):
        assert pages_app._threads._calls.acquire(blocking=False)
    try:
        response = pages.get("/api/task", params=task)
        assert (response.status_code, "Try again later" in response.json()["detail"]) == (503, True)
    finally:
        pages_app._threads._calls.release(64)
    assert pages.get("/api/task", params=task).status_code == 200


def test_viewer_cannot_change_runs(hub, viewer):
    xcoms = start(hub, "Clickstream to lake")
    params = {**store_task(**xcoms), "job_id": xcoms["job_id"]}
    assert viewer.get("/api/task", params=params).json()["may_edit"] is False
    assert viewer.get("/api/run", params=params).json()["actions"] == {"stop": False, "acknowledge": False}
    for path in ACTIONS:
        assert viewer.post(path, params=params, headers=HEADER).status_code == 403
    assert viewer.get("/api/task", params=params).json()["runs"][0]["outcome"] == "Running"


def test_change_needs_header(hub, pages):
    xcoms = start(hub, "Clickstream to lake")
    params = {**store_task(**xcoms), "job_id": xcoms["job_id"]}
    for path in ACTIONS:
        assert pages.post(path, params=params).status_code == 400
    with create_session() as session:
        assert session.scalars(select(Log)).all() == []


def test_answers_hold_no_secret(hub, pages):
    xcoms = start(hub, "Clickstream to lake", 130)
    params = {**store_task(**xcoms), "job_id": xcoms["job_id"]}
    for path in (*PATHS, *LISTS):
        text = pages.get(path, params=params).text
        assert hub.token not in text
        assert hub.credential_id not in text


# The list of runs


def _ended(outcome: str, name: str, number: int) -> dict[str, Any]:
    job_id = f"{name.lower()}:org"
    result = {"job_id": job_id, "job_name": name, "run_count": number, "outcome": outcome}
    key = "return_value" if outcome == "SUCCEEDED" else "result"
    return {"job_id": job_id, "run_count": number, key: result}


def test_runs_are_filtered_and_paged(hub, pages):
    for number in range(1, 8):
        store_task("orders", state="success", age=timedelta(minutes=number), **_ended("SUCCEEDED", "Orders", number))
    store_task("clicks", state="failed", age=timedelta(hours=1), **_ended("FAILED", "Clicks", 1))
    store_task("clicks", state="failed", age=timedelta(days=9), **_ended("STOPPED", "Clicks", 2))
    store_task("clicks", **start(hub, "Clickstream to lake"))

    def listed(**query: Any) -> list[tuple[str, int]]:
        return [(row["dag_id"], row["run_count"]) for row in pages.get("/api/runs", params=query).json()["runs"]]

    everything = pages.get("/api/runs").json()
    assert everything["total"] == 9
    assert everything["dags"] == ["clicks", "orders"]
    assert everything["runs"][0]["outcome"] == "Running"
    assert listed(state="succeeded", limit=2, offset=2) == [("orders", 3), ("orders", 4)]
    assert listed(state="failed") == [("clicks", 1)]
    assert len(listed(state="waiting")) == 1
    assert len(listed(dag="clicks")) == 2
    assert len(listed(dag="clicks", days=30)) == 3
    assert len(listed(job="ORD")) == 7
    assert len(listed(job="clickstream")) == 1
    assert pages.get("/api/runs", params={"state": "nonsense"}).status_code == 400


# Pages and files


@pytest.mark.parametrize("path", ["/", "/run", "/static/tab.js", "/static/runs.js", "/static/style.css", LOGO])
def test_files_are_served_with_policy(sources, pages, path):
    response = TestClient(pages.app).get(path)
    assert response.status_code == 200
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_answers_are_not_cached(sources, pages):
    assert pages.get("/api/runs").headers["Cache-Control"] == "no-store"
