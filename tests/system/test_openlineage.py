"""OpenLineage events of a scheduler's tasks, written by the file transport."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from dev.local_airflow import LocalAirflow
from tests.documentation import ROOT
from tests.system.examples import wait_for_end

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

DAG_ID = "system_lineage"
DOCUMENTED = ROOT / "docs" / "howto" / "openlineage-events.json"
WAREHOUSE = "postgres://warehouse.example.com:5432"

Event = dict[str, Any]


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """All events of a run of the DAG, in the order in which they were emitted."""
    pytest.importorskip("airflow.providers.openlineage")
    home = tmp_path_factory.mktemp("airflow")
    dags, file = home / "dags", home / "events.jsonl"
    dags.mkdir()
    shutil.copy(Path(__file__).parent / "lineage_dags" / "lineage.py", dags)
    with SandboxProcess(time_scale=5) as sandbox:
        environment = {
            "AIRFLOW_CONN_STREAMSETS_DEFAULT": sandbox.airflow_conn,
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps({"type": "file", "log_file_path": str(file), "append": True}),
        }
        with LocalAirflow(home, dags, environment) as airflow:
            airflow.start()
            run_id = airflow.trigger_dag(DAG_ID)
            assert wait_for_end(airflow, DAG_ID, run_id) == "failed"
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def of_job(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event["job"]["name"] == name]


def task_run(events: list[Event], task_id: str) -> str:
    """Return the OpenLineage id of the run of a task, which all its events have."""
    (run_id,) = {event["run"]["runId"] for event in of_job(events, f"{DAG_ID}.{task_id}")}
    return run_id


def test_deferred_run_is_one_run_and_child_of_task(events):
    start, end = of_job(events, "Orders to warehouse")
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == end["run"]["runId"]
    for event in (start, end):
        assert event["run"]["facets"]["parent"]["run"]["runId"] == task_run(events, "load_orders")
    task_events = of_job(events, f"{DAG_ID}.load_orders")
    order = [events.index(event) for event in (task_events[0], start, end, task_events[-1])]
    assert order == sorted(order)


def test_ended_run_has_counts_engine_and_datasets(events):
    _, end = of_job(events, "Orders to warehouse")
    facets = end["run"]["facets"]
    assert facets["streamsets_run"]["outputRecords"] == 59700
    assert facets["processing_engine"]["name"] == "StreamSets Data Collector"
    assert facets["streamsets_run"]["engines"][0]["url"] == "http://sdc-prod.example.com:18630"
    (output,) = end["outputs"]
    assert (output["namespace"], output["name"]) == (WAREHOUSE, "dwh.sales.orders")
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 59700
    # The origin reads files, which have no dataset.
    assert end["inputs"] == []


def test_failed_run_has_error_and_datasets(events):
    start, end = of_job(events, "Customers nightly")
    assert (start["eventType"], end["eventType"]) == ("START", "FAIL")
    assert "JDBC_34" in end["run"]["facets"]["errorMessage"]["message"]
    assert [(d["namespace"], d["name"]) for d in end["inputs"]] == [("mysql://crm.example.com:3306", "crm.customers")]
    assert [d["name"] for d in end["outputs"]] == ["dwh.sales.customers"]
    assert of_job(events, f"{DAG_ID}.load_customers")[-1]["eventType"] == "FAIL"


def test_each_of_several_runs_has_events(events):
    for name in ("Ad clicks check", "Daily check"):
        assert [event["eventType"] for event in of_job(events, name)] == ["START", "COMPLETE"]
        assert of_job(events, name)[1]["run"]["facets"]["parent"]["run"]["runId"] == task_run(events, "checks")


def test_stop_ends_run_of_other_task(events):
    start, end = of_job(events, "Clickstream to lake")
    assert (start["eventType"], end["eventType"]) == ("START", "ABORT")
    assert start["run"]["runId"] == end["run"]["runId"]
    assert start["run"]["facets"]["parent"]["run"]["runId"] == task_run(events, "stream")
    assert "parent" not in end["run"]["facets"]
    assert start["job"]["facets"]["jobType"]["processingType"] == "STREAMING"
    assert [(d["namespace"], d["name"]) for d in start["inputs"]] == [("kafka://kafka.example.com:9092", "clicks")]
    assert [(d["namespace"], d["name"]) for d in start["outputs"]] == [("s3://example-lake", "clickstream")]


def test_outlet_is_dataset_of_task(events):
    *_, end = of_job(events, f"{DAG_ID}.load_orders")
    assert [(d["namespace"], d["name"]) for d in end["outputs"]] == [
        ("streamsets://bab21f86-74cd-5019-8714-cad83794eb01", "jobs/9aaf0c53-90d4-5fda-bc98-e94bcd501655")
    ]


def shortened(event: Event) -> Event:
    """Return what the documentation shows of an event."""

    def shown(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: shown(v) for k, v in value.items() if k[0] != "_" and k not in {"facets", "root"}}

    def facets(found: Event, *names: str) -> Event:
        return {name: shown(facet) for name, facet in found.items() if name in names}

    def dataset(found: Event, kind: str) -> Event:
        return {
            **{name: found[name] for name in ("namespace", "name")},
            **facets(found.get(kind, {}), "inputStatistics", "outputStatistics"),
        }

    run, job = event["run"], event["job"]
    return {
        "eventType": event["eventType"],
        "eventTime": event["eventTime"],
        "job": {"namespace": job["namespace"], "name": job["name"], **facets(job["facets"], "jobType")},
        "run": {"runId": run["runId"], **facets(run["facets"], "parent", "streamsets_run", "errorMessage")},
        "inputs": [dataset(found, "inputFacets") for found in event["inputs"]],
        "outputs": [dataset(found, "outputFacets") for found in event["outputs"]],
    }


def documented(events: list[Event]) -> list[Event]:
    """Return the stream of a deferred run, and the end of one that failed."""
    stream = [event for event in events if event["job"]["name"] in {f"{DAG_ID}.load_orders", "Orders to warehouse"}]
    return [shortened(event) for event in (*stream, of_job(events, "Customers nightly")[-1])]


def without_variable_parts(events: list[Event]) -> list[Event]:
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.+]+", "<time>", json.dumps(events))
    return list(json.loads(re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<id>", text)))


def test_stream_is_documented(events):
    page = json.loads(DOCUMENTED.read_text("utf-8"))
    assert without_variable_parts(documented(events)) == without_variable_parts(page)
