"""
``make bench-push``: measures how long after the end of a run a DAG starts, with push events and with a watcher.

Starts the sandbox, and Airflow with API server, scheduler, triggerer and DAG processor, each in its own process, with
Airflow's default pause between two loops of the scheduler, on PostgreSQL if its programs are installed. Each run of one
job starts two DAGs: one is scheduled on the asset of the job, whose events a subscription pushes; the other on an asset
with a watcher that polls every 30 seconds. Runs end at random times of the interval. Measured is the time from the end
of the run in Control Hub to the start of the DAG run, as the scheduler stores it.

One half of the runs is pushed with the final metrics, as a watcher reports them, the other without waiting for them.
The exit code is 1 if the median of a push is above its goal.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from dev.local_airflow import LocalAirflow, wait_until
from dev.local_postgres import database_url

_JOB = "Quick check"
_PUSHED, _WATCHED = "bench_pushed", "bench_watched"
_GOALS = {"push": 4.0, "push, metrics_timeout=0": 2.0}
"""Seconds."""
_QUERIES = {"push": "", "push, metrics_timeout=0": "?metrics_timeout=0"}
_DAGS = """
from airflow.sdk import DAG, Asset, AssetWatcher
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow_provider_streamsets.assets.jobs import job_asset
from airflow_provider_streamsets.triggers.job_events import ControlHubJobRunEventTrigger

watcher = AssetWatcher(name="job", trigger=ControlHubJobRunEventTrigger(job_id={job_id!r}, poll_interval={interval!r}))
watched = Asset(name="watched", uri="x-bench://watched", watchers=[watcher])
for dag_id, asset in (({pushed!r}, job_asset({job_id!r})), ({watched!r}, watched)):
    with DAG(dag_id, schedule=asset) as dag:
        EmptyOperator(task_id="nothing")
    globals()[dag_id] = dag
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print the figures, and return the exit code."""
    parser = argparse.ArgumentParser(prog="make bench-push", description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="number of runs with each kind of push")
    parser.add_argument("--interval", type=float, default=30, help="poll interval of the watcher in seconds")
    parser.add_argument("--keep", type=Path, help="empty folder in which to keep Airflow's home and logs")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="bench-push-", ignore_cleanup_errors=True) as folder:
        delays = _measure(console, options.keep or Path(folder), options.runs, options.interval)
    table = Table("From the end of a run to the start of the DAG run", "Runs", "Median", "Worst", "Goal, median")
    is_met = True
    for kind, seconds in delays.items():
        median, goal = statistics.median(seconds), _GOALS.get(kind)
        is_met = is_met and (goal is None or median <= goal)
        table.add_row(
            kind, str(len(seconds)), f"{median:.1f} s", f"{max(seconds):.1f} s", "" if goal is None else f"{goal:g} s"
        )
    console.print(table)
    return 0 if is_met else 1


def _measure(console: Console, folder: Path, runs: int, interval: float) -> dict[str, list[float]]:
    """Return the seconds of each run by kind."""
    token, generator = secrets.token_hex(32), random.Random(1)  # nosec B311 # no secret
    watched = f"watcher, {interval:g} s"
    delays: dict[str, list[float]] = {kind: [] for kind in (*_QUERIES, watched)}
    dags = folder / "dags"
    dags.mkdir(parents=True)
    with SandboxProcess() as hub, database_url(folder) as database:
        names = {"job_id": hub.job_id(_JOB), "interval": interval, "pushed": _PUSHED, "watched": _WATCHED}
        (dags / "bench.py").write_text(_DAGS.format(**names), "utf-8")
        connection = {**json.loads(hub.airflow_conn), "extra": {"webhook_token": token}}
        # The default, which LocalAirflow shortens.
        environment = {"AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1"}
        with LocalAirflow(folder / "home", dags, environment, database=database) as airflow:
            airflow.start(connections={"streamsets_default": json.dumps(connection)})
            for dag_id in (_PUSHED, _WATCHED):
                wait_until(lambda dag_id=dag_id: airflow.knows_dag(dag_id), f"{dag_id} to be parsed", 180)
            wait_until(lambda: _is_watching(airflow), "the watcher to start", 180)
            for kind, query in _QUERIES.items():
                _replace_subscriptions(hub, f"{airflow.url}/streamsets/events{query}", token)
                for number in range(1, runs + 1):
                    time.sleep(generator.uniform(0, interval))
                    pushed, polled = _run(hub, airflow, interval)
                    delays[kind].append(pushed)
                    delays[watched].append(polled)
                    console.print(f"{kind}, run {number} of {runs}: {pushed:.1f} s; {watched}: {polled:.1f} s")
    return delays


def _is_watching(airflow: LocalAirflow) -> bool:
    (asset,) = (one for one in airflow.api("GET", "/assets", limit=100)["assets"] if one["name"] == "watched")
    return bool(airflow.api("GET", f"/assets/{asset['id']}/state-store")["asset_state_store"])


def _replace_subscriptions(hub: SandboxProcess, uri: str, token: str) -> None:
    path = "/notification/rest/v1/eventsub"
    for entry in hub.call("GET", path).json():
        hub.call("POST", f"{path}/deleteEventSub", entry["id"]).raise_for_status()
    hub.subscribe(uri, token)


def _run(hub: SandboxProcess, airflow: LocalAirflow, interval: float) -> tuple[float, float]:
    """Run the job, and return after how many seconds each DAG has started."""
    before = {dag_id: len(_starts(airflow, dag_id)) for dag_id in (_PUSHED, _WATCHED)}
    hub.start_job(_JOB)
    hub.wait_for_status(_JOB, "INACTIVE")
    ended = hub.call("GET", f"/jobrunner/rest/v1/job/{hub.job_id(_JOB)}/currentStatus").json()["finishTime"] / 1000

    def seconds(dag_id: str) -> float:
        def new_starts() -> list[float]:
            return _starts(airflow, dag_id)[before[dag_id] :]

        return float(wait_until(new_starts, f"a run of {dag_id}", interval + 120)[0]) - ended

    return seconds(_PUSHED), seconds(_WATCHED)


def _starts(airflow: LocalAirflow, dag_id: str) -> list[float]:
    """Return the times at which runs of a DAG have started, oldest first, in epoch seconds."""
    runs = airflow.api("GET", f"/dags/{dag_id}/dagRuns", limit=100)["dag_runs"]
    return sorted(datetime.fromisoformat(run["start_date"]).timestamp() for run in runs if run["start_date"])


if __name__ == "__main__":
    sys.exit(main())
