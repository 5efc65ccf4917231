"""Event-driven scheduling on a real Airflow, whose triggerer is killed and whose Control Hub goes away."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from dev.local_airflow import LocalAirflow, wait_until
from dev.local_sandbox import SandboxProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE.parent.parent / "example_dags" / "after_finished_runs.py"
CONSUMER = "streamsets_after_finished_runs"
BURST = [f"Burst {number}" for number in range(1, 6)]


@pytest.fixture(scope="module")
def hub() -> Iterator[SandboxProcess]:
    """A Control Hub of their own, as other tests run the same jobs."""
    with SandboxProcess(time_scale=5) as process:
        failing = process.job_id("Invoices import")
        body = {"namePrefix": "Burst ", "description": None, "numberOfCopies": len(BURST)}
        assert process.call("POST", f"/jobrunner/rest/v1/job/{failing}/duplicate", body).ok
        for name in BURST:
            path = f"/jobrunner/rest/v1/job/{process.job_id(name)}"
            assert process.call("POST", path, {**process.call("GET", path).json(), "rawJobTags": ["burst"]}).ok
        yield process


@pytest.fixture(scope="module")
def airflow(hub: SandboxProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    """An Airflow of their own, as its triggerer never stops looking at the jobs."""
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    dags.mkdir()
    shutil.copy(EXAMPLE, dags)
    shutil.copy(HERE / "watcher_dags" / "watchers.py", dags)
    # A Control Hub that hangs is noticed soon.
    connection = json.loads(hub.airflow_conn)
    connection["extra"] = {**connection.get("extra", {}), "timeout": 3}
    with LocalAirflow(home, dags, {"AIRFLOW_CONN_STREAMSETS_DEFAULT": json.dumps(connection)}) as running:
        running.start()
        for dag_id in ("system_watching", "system_failures", CONSUMER, "streamsets_check_stock"):
            eventually(lambda dag_id=dag_id: running.knows_dag(dag_id), f"{dag_id} to be parsed", 60)
        for asset in ("quick", "orders", "customers", "finance", "burst", "inventory"):
            eventually(lambda asset=asset: stored(running, asset), f"the watcher of {asset} to have begun", 180)
        yield running


def eventually(condition: Callable[[], Any], what: str, timeout: float) -> Any:
    """Return the first true value of `condition`, however slowly Airflow answers."""

    def value() -> Any:
        try:
            return condition()
        except requests.Timeout:
            return None

    return wait_until(value, what, timeout)


def asset_id(airflow: LocalAirflow, name: str) -> int:
    (found,) = (a["id"] for a in airflow.api("GET", "/assets", limit=100)["assets"] if a["name"] == name)
    return int(found)


def stored(airflow: LocalAirflow, name: str) -> list[dict[str, Any]]:
    """What the state store of an asset holds."""
    entries = airflow.api("GET", f"/assets/{asset_id(airflow, name)}/state-store")["asset_state_store"]
    return [entry["value"] for entry in entries]


def cursor(airflow: LocalAirflow, name: str) -> dict[str, int]:
    """How far the runs of each job are reported."""
    return {job_id: count for value in stored(airflow, name) for job_id, count in value["runs"].items()}


def events(airflow: LocalAirflow, name: str) -> list[dict[str, Any]]:
    """The extras of all events of an asset."""
    found = airflow.api("GET", "/assets/events", asset_id=asset_id(airflow, name), limit=100)["asset_events"]
    return [event["extra"] for event in found]


def reported(airflow: LocalAirflow, name: str) -> Counter[tuple[str, int]]:
    """How often each run was reported."""
    runs = [run for extra in events(airflow, name) for run in extra["payload"]["runs"]]
    return Counter((run["job_name"], run["run_count"]) for run in runs)


def run_to_its_end(hub: SandboxProcess, job: str) -> int:
    run_count = int(hub.start_job(job)["runCount"])
    hub.wait_for_status(job, "INACTIVE", timeout=60)
    return run_count


def calls(hub: SandboxProcess, ending: str) -> int:
    return sum(count for call, count in hub.requests()["counts"].items() if call.endswith(ending))


def found_by(airflow: LocalAirflow, dag_id: str, task_id: str) -> list[Any]:
    """What the DAG runs of a DAG have found in their events, says a task."""
    runs = airflow.api("GET", f"/dags/{dag_id}/dagRuns", limit=100)["dag_runs"]
    ended = [run["dag_run_id"] for run in runs if run["state"] == "success"]
    return [found for run_id in ended for found in airflow.xcom(dag_id, run_id, task_id)]


def consumer_runs(airflow: LocalAirflow) -> list[dict[str, Any]]:
    return found_by(airflow, CONSUMER, "report")


def test_five_runs_that_fail_within_one_poll_all_reach_dag_runs_and_so_do_those_right_after(airflow, hub):
    hub.freeze()
    for name in BURST:
        hub.start_job(name)
    hub.advance(120)
    failed = [[name, 1] for name in BURST]
    eventually(
        lambda: sorted(found_by(airflow, "system_failures", "failures")) == failed, "all runs to be in DAG runs", 60
    )
    assert len(events(airflow, "burst")) == 1
    for name in BURST[:3]:
        hub.start_job(name)
        hub.advance(120)
        time.sleep(1.5)
    hub.unfreeze()
    failed = sorted([*failed, *([name, 2] for name in BURST[:3])])
    eventually(lambda: sorted(found_by(airflow, "system_failures", "failures")) == failed, "the later runs, too", 60)


def test_a_finished_run_is_one_event_with_the_facts_and_starts_the_dag(airflow, hub):
    run_count = run_to_its_end(hub, "Inventory snapshot")
    (facts,) = eventually(lambda: consumer_runs(airflow), "the DAG to have run", 90)
    (extra,) = events(airflow, "inventory")
    assert extra == {"from_trigger": True, "payload": {**facts, "runs": [facts]}}
    assert (facts["job_id"], facts["run_count"], facts["outcome"]) == (
        hub.job_id("Inventory snapshot"),
        run_count,
        "SUCCEEDED",
    )
    assert facts["metrics"]["input_count"] == 500


def test_the_run_of_a_task_starts_the_same_dag_with_the_same_facts(airflow, hub):
    run_id = airflow.trigger_dag("streamsets_check_stock")
    eventually(lambda: airflow.dag_run_state("streamsets_check_stock", run_id) == "success", "the task to end", 90)
    result = airflow.xcom("streamsets_check_stock", run_id, "check")
    eventually(lambda: result in consumer_runs(airflow), "the DAG to have run", 60)
    (extra,) = events(airflow, "checked_stock")
    assert extra["payload"] == {**result, "runs": [result]}
    # The watcher of that job tells the same about the run.
    (seen,) = eventually(lambda: events(airflow, "quick"), "the watcher's event", 30)
    assert seen["payload"] == extra["payload"]


def test_all_watchers_share_one_poll(airflow, hub):
    began = time.monotonic()
    statuses, lists = calls(hub, "/jobs/status"), calls(hub, "/v1/jobs")
    time.sleep(15)
    statuses, lists = calls(hub, "/jobs/status") - statuses, calls(hub, "/v1/jobs") - lists
    seconds = time.monotonic() - began
    # All jobs in one request per second, each tag in another, and the example's watcher every ten seconds.
    assert seconds * 0.5 < statuses <= seconds * 1.2 + 2
    assert seconds * 0.5 < lists / 2 <= seconds * 1.2 + 1


def test_runs_that_finish_while_no_triggerer_runs_are_all_reported_once(airflow, hub):
    first = run_to_its_end(hub, "Quick check")
    job_id = hub.job_id("Quick check")
    eventually(lambda: cursor(airflow, "quick")[job_id] == first, "the run to be reported", 60)
    before = reported(airflow, "quick")
    airflow.kill_component("triggerer")
    missed = [run_to_its_end(hub, "Quick check") for _ in range(2)]
    failed = run_to_its_end(hub, "Customers nightly")
    going_on = int(hub.start_job("Orders to warehouse")["runCount"])
    assert reported(airflow, "quick") == before
    airflow.start_component("triggerer")
    eventually(lambda: cursor(airflow, "quick")[job_id] == missed[-1], "the missed runs to be reported", 120)
    assert reported(airflow, "quick") == before + Counter(("Quick check", count) for count in missed)
    eventually(lambda: reported(airflow, "customers"), "the failed run to be reported", 60)
    (extra,) = events(airflow, "customers")
    assert (extra["payload"]["run_count"], extra["payload"]["outcome"]) == (failed, "FAILED")
    assert "column 'address_2' does not exist" in extra["payload"]["error_message"]
    eventually(lambda: reported(airflow, "orders"), "the run that went on to be reported", 60)
    assert reported(airflow, "orders") == Counter({("Orders to warehouse", going_on): 1})


def test_an_outage_of_control_hub_does_not_end_the_watchers(airflow, hub):
    before = reported(airflow, "quick")
    run_count = int(hub.start_job("Quick check")["runCount"])
    hub.pause()
    time.sleep(20)
    hub.resume()
    hub.wait_for_status("Quick check", "INACTIVE")
    expected = before + Counter({("Quick check", run_count): 1})
    eventually(lambda: reported(airflow, "quick") == expected, "the run to be reported", 180)
    log = (airflow.home / "triggerer.log").read_text()
    assert log.count("the next looks will show whether this passes") <= 2 * 2
    assert "Control Hub answers again" in log


def test_in_the_end_every_finished_run_was_reported_exactly_once(airflow, hub):
    started = Counter((start["job_name"], start["run_count"]) for start in hub.starts())
    watched = {"Quick check": "quick", "Customers nightly": "customers", "Orders to warehouse": "orders"}
    seen = sum((reported(airflow, asset) for asset in watched.values()), Counter())
    past = {("Customers nightly", 1), ("Customers nightly", 2), *(("Orders to warehouse", n) for n in (1, 2, 3))}
    assert seen == Counter({run: 1 for run in started if run[0] in watched and run not in past})
    assert airflow.api("GET", "/importErrors")["import_errors"] == []
    assert hub.token not in (airflow.home / "triggerer.log").read_text()
