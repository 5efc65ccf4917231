"""Event-driven scheduling across a killed triggerer and an outage of Control Hub."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from dev.local_airflow import LocalAirflow, wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent.parent / "example_dags"
CONSUMER = "streamsets_after_finished_runs"
BURST = [f"Burst {number}" for number in range(1, 6)]


@pytest.fixture(scope="module")
def hub() -> Iterator[SandboxProcess]:
    """A separate Control Hub, because other tests run the same jobs."""
    with SandboxProcess(time_scale=5) as process:
        failing = process.job_id("Invoices import")
        body = {"namePrefix": "Burst ", "description": None, "numberOfCopies": len(BURST)}
        assert process.call("POST", f"/jobrunner/rest/v1/job/{failing}/duplicate", body).ok
        for name in BURST:
            path = f"/jobrunner/rest/v1/job/{process.job_id(name)}"
            assert process.call("POST", path, {**process.call("GET", path).json(), "rawJobTags": ["burst"]}).ok
        yield process


class StatsdServer:
    """Collects the lines that Airflow sends to StatsD."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.lines: list[str] = []
        """All lines about StreamSets."""
        self._thread = threading.Thread(target=self._collect, daemon=True)

    def __enter__(self) -> StatsdServer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _collect(self) -> None:
        while datagram := self._socket.recv(65_535):
            self.lines += [line for line in datagram.decode().splitlines() if line.startswith("airflow.streamsets.")]

    def values(self, name: str, **tags: str) -> list[float]:
        """Return the values of a metric with certain tags."""
        found = []
        for line in list(self.lines):
            (stat, *own), value = line.partition(":")[0].split(","), line.partition(":")[2].partition("|")[0]
            if stat == f"airflow.streamsets.{name}" and {f"{key}={tag}" for key, tag in tags.items()} <= set(own):
                found.append(float(value))
        return found


@pytest.fixture(scope="module")
def statsd() -> Iterator[StatsdServer]:
    with StatsdServer() as server:
        yield server


@pytest.fixture(scope="module")
def airflow(
    hub: SandboxProcess, statsd: StatsdServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalAirflow]:
    """A separate Airflow, because its triggerer polls the jobs continuously."""
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    dags.mkdir()
    for name in ("after_finished_runs.py", "asset_partitions.py"):
        shutil.copy(EXAMPLES / name, dags)
    shutil.copy(HERE / "watcher_dags" / "watchers.py", dags)
    # Detect an unresponsive Control Hub quickly.
    connection = json.loads(hub.airflow_conn)
    connection["extra"] = {**connection.get("extra", {}), "timeout": 3}
    environment = {
        "AIRFLOW_CONN_STREAMSETS_DEFAULT": json.dumps(connection),
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        "AIRFLOW__METRICS__STATSD_PORT": str(statsd.port),
    }
    with LocalAirflow(home, dags, environment) as running:
        running.start()
        examples = (CONSUMER, "streamsets_check_stock", "streamsets_archive_sites", "streamsets_after_site")
        for dag_id in ("system_watching", "system_failures", *examples):
            wait_for(lambda dag_id=dag_id: running.knows_dag(dag_id), f"{dag_id} to be parsed", 60)
        for asset in ("quick", "orders", "customers", "finance", "burst", "inventory"):
            wait_for(lambda asset=asset: stored_state(running, asset), f"the watcher of {asset} to start", 180)
        yield running


def wait_for(condition: Callable[[], Any], description: str, timeout: float) -> Any:
    """Poll until `condition` returns a true value, and return it; request time-outs are ignored."""

    def value() -> Any:
        try:
            return condition()
        except requests.Timeout:
            return None

    return wait_until(value, description, timeout)


def asset_id(airflow: LocalAirflow, name: str) -> int:
    (found,) = (a["id"] for a in airflow.api("GET", "/assets", limit=100)["assets"] if a["name"] == name)
    return int(found)


def stored_state(airflow: LocalAirflow, name: str) -> list[dict[str, Any]]:
    """Return the entries in the state store of an asset."""
    entries = airflow.api("GET", f"/assets/{asset_id(airflow, name)}/state-store")["asset_state_store"]
    return [entry["value"] for entry in entries]


def cursor(airflow: LocalAirflow, name: str) -> dict[str, int]:
    """Return the last reported run count of each job."""
    return {job_id: count for value in stored_state(airflow, name) for job_id, count in value["runs"].items()}


def events(airflow: LocalAirflow, name: str) -> list[dict[str, Any]]:
    """Return the extras of all events of an asset."""
    found = airflow.api("GET", "/assets/events", asset_id=asset_id(airflow, name), limit=100)["asset_events"]
    return [event["extra"] for event in found]


def reported(airflow: LocalAirflow, name: str) -> Counter[tuple[str, int]]:
    """Return how often each run was reported."""
    runs = [run for extra in events(airflow, name) for run in extra["payload"]["runs"]]
    return Counter((run["job_name"], run["run_count"]) for run in runs)


def run_to_completion(hub: SandboxProcess, job: str) -> int:
    run_count = int(hub.start_job(job)["runCount"])
    hub.wait_for_status(job, "INACTIVE", timeout=60)
    return run_count


def count_calls(hub: SandboxProcess, ending: str) -> int:
    return sum(count for call, count in hub.requests()["counts"].items() if call.endswith(ending))


def collect_results(airflow: LocalAirflow, dag_id: str, task_id: str) -> list[Any]:
    """Return the combined results of a task over all successful runs of a DAG."""
    runs = airflow.api("GET", f"/dags/{dag_id}/dagRuns", limit=100)["dag_runs"]
    ended = [run["dag_run_id"] for run in runs if run["state"] == "success"]
    return [found for run_id in ended for found in airflow.xcom(dag_id, run_id, task_id)]


def consumer_runs(airflow: LocalAirflow) -> list[dict[str, Any]]:
    return collect_results(airflow, CONSUMER, "report")


def test_simultaneous_failures_all_reach_dag_runs(airflow, hub):
    hub.freeze()
    for name in BURST:
        hub.start_job(name)
    hub.advance(120)
    failed = [[name, 1] for name in BURST]
    wait_for(
        lambda: sorted(collect_results(airflow, "system_failures", "failures")) == failed,
        "all runs to be in DAG runs",
        60,
    )
    assert len(events(airflow, "burst")) == 1
    for name in BURST[:3]:
        hub.start_job(name)
        hub.advance(120)
        time.sleep(1.5)
    hub.unfreeze()
    failed = sorted([*failed, *([name, 2] for name in BURST[:3])])
    wait_for(
        lambda: sorted(collect_results(airflow, "system_failures", "failures")) == failed,
        "the later runs to be in DAG runs",
        60,
    )


def test_finished_run_starts_dag_with_payload(airflow, hub):
    run_count = run_to_completion(hub, "Inventory snapshot")
    (payload,) = wait_for(lambda: consumer_runs(airflow), "the DAG to have run", 90)
    (extra,) = events(airflow, "inventory")
    assert extra == {"from_trigger": True, "payload": {**payload, "runs": [payload]}}
    assert (payload["job_id"], payload["run_count"], payload["outcome"]) == (
        hub.job_id("Inventory snapshot"),
        run_count,
        "SUCCEEDED",
    )
    assert payload["metrics"]["input_count"] == 500


def test_run_of_task_starts_same_dag(airflow, hub):
    run_id = airflow.trigger_dag("streamsets_check_stock")
    wait_for(lambda: airflow.dag_run_state("streamsets_check_stock", run_id) == "success", "the task to end", 90)
    result = airflow.xcom("streamsets_check_stock", run_id, "check")
    wait_for(lambda: result in consumer_runs(airflow), "the DAG to have run", 60)
    (extra,) = events(airflow, "checked_stock")
    assert extra["payload"] == {**result, "runs": [result]}
    # The watcher of the job reports the same payload.
    (watched,) = wait_for(lambda: events(airflow, "quick"), "the watcher's event", 30)
    assert watched["payload"] == extra["payload"]


def test_worker_and_triggerer_send_metrics_to_statsd(airflow, hub, statsd):
    run_id = airflow.trigger_dag("streamsets_check_stock")
    wait_for(lambda: airflow.dag_run_state("streamsets_check_stock", run_id) == "success", "the task to end", 90)
    task = {"dag_id": "streamsets_check_stock", "task_id": "check", "outcome": "SUCCEEDED"}
    assert wait_for(lambda: statsd.values("run.records_out", **task), "the metrics of the run", 10)[-1] == 100
    result = airflow.xcom("streamsets_check_stock", run_id, "check")
    assert statsd.values("run.duration", **task)[-1] == pytest.approx(1000 * result["duration"], abs=1)
    deferred = {"poller": "tasks", "conn_id": "streamsets_default"}
    assert statsd.values("poller.polls", **deferred, result="succeeded")
    assert set(statsd.values("poller.waiting_runs", **deferred)) == {0, 1}
    assert statsd.values("poller.delay", **deferred)
    assert statsd.values("poller.polls", poller="assets", result="succeeded")


def test_each_partition_starts_dag_run_with_its_key(airflow, hub):
    run_id = airflow.trigger_dag("streamsets_archive_sites")
    wait_for(lambda: airflow.dag_run_state("streamsets_archive_sites", run_id) == "success", "the tasks to end", 120)
    path = "/dags/streamsets_after_site/dagRuns"

    def archived() -> dict[str, Any]:
        runs = [run for run in airflow.api("GET", path)["dag_runs"] if run["state"] == "success"]
        return {
            run["partition_key"]: airflow.xcom("streamsets_after_site", run["dag_run_id"], "report") for run in runs
        }

    found = wait_for(lambda: len(found := archived()) == 2 and found, "a DAG run for each partition", 60)
    assert found == {"north": {"north": 12000}, "south": {"south": 12000}}
    assert len(hub.starts("Sensors archive")) == 2


def test_watchers_share_one_poll(airflow, hub):
    began = time.monotonic()
    statuses, lists = count_calls(hub, "/jobs/status"), count_calls(hub, "/v1/jobs")
    time.sleep(15)
    statuses, lists = count_calls(hub, "/jobs/status") - statuses, count_calls(hub, "/v1/jobs") - lists
    seconds = time.monotonic() - began
    # Every second, one request for all jobs and one for each tag; every ten seconds, one for the example's watcher.
    assert seconds * 0.5 < statuses <= seconds * 1.2 + 2
    assert seconds * 0.5 < lists / 2 <= seconds * 1.2 + 1


def test_runs_missed_by_killed_triggerer_are_reported_once(airflow, hub):
    first = run_to_completion(hub, "Quick check")
    job_id = hub.job_id("Quick check")
    wait_for(lambda: cursor(airflow, "quick")[job_id] == first, "the run to be reported", 60)
    before = reported(airflow, "quick")
    airflow.kill_component("triggerer")
    missed = [run_to_completion(hub, "Quick check") for _ in range(2)]
    failed = run_to_completion(hub, "Customers nightly")
    active = int(hub.start_job("Orders to warehouse")["runCount"])
    assert reported(airflow, "quick") == before
    airflow.start_component("triggerer")
    wait_for(lambda: cursor(airflow, "quick")[job_id] == missed[-1], "the missed runs to be reported", 120)
    assert reported(airflow, "quick") == before + Counter(("Quick check", count) for count in missed)
    wait_for(lambda: reported(airflow, "customers"), "the failed run to be reported", 60)
    (extra,) = events(airflow, "customers")
    assert (extra["payload"]["run_count"], extra["payload"]["outcome"]) == (failed, "FAILED")
    assert "column 'address_2' does not exist" in extra["payload"]["error_message"]
    wait_for(lambda: reported(airflow, "orders"), "the active run to be reported", 60)
    assert reported(airflow, "orders") == Counter({("Orders to warehouse", active): 1})


def test_watchers_survive_outage(airflow, hub, statsd):
    before = reported(airflow, "quick")
    run_count = int(hub.start_job("Quick check")["runCount"])
    hub.pause()
    time.sleep(20)
    hub.resume()
    hub.wait_for_status("Quick check", "INACTIVE")
    expected = before + Counter({("Quick check", run_count): 1})
    wait_for(lambda: reported(airflow, "quick") == expected, "the run to be reported", 180)
    outages = statsd.values("poller.outage_duration", poller="assets")
    assert max(outages) > 5
    assert outages[-1] == 0
    log = (airflow.home / "triggerer.log").read_text()
    assert log.count("retrying at the next poll") <= 2 * 2
    assert "Control Hub responds again" in log


def test_every_finished_run_was_reported_once(airflow, hub):
    started = Counter((start["job_name"], start["run_count"]) for start in hub.starts())
    watched = {"Quick check": "quick", "Customers nightly": "customers", "Orders to warehouse": "orders"}
    seen = sum((reported(airflow, asset) for asset in watched.values()), Counter())
    past = {("Customers nightly", 1), ("Customers nightly", 2), *(("Orders to warehouse", n) for n in (1, 2, 3))}
    assert seen == Counter({run: 1 for run in started if run[0] in watched and run not in past})
    assert airflow.api("GET", "/importErrors")["import_errors"] == []
    assert hub.token not in (airflow.home / "triggerer.log").read_text()
