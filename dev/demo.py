"""
``make demo`` and ``make demo-ui``: run a StreamSets job as an Airflow task, entirely on this machine.

Starts the sandbox and a real Airflow, triggers ``example_dags/run_job.py`` and shows its progress and result.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.json import JSON
from rich.table import Table

from airflow_provider_streamsets.control_hub import ControlHubClient, ControlHubError, Job
from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from dev.local_airflow import (
    COMPONENTS,
    IS_AIRFLOW_2,
    LocalAirflow,
    LocalAirflowError,
    check_port,
    free_port,
    pretty,
    wait_until,
)

DAG_ID = "streamsets_run_job"
TASK_ID = "load_orders"
JOB_NAME = "Orders to warehouse"
CONNECTION_ID = "streamsets_default"
# The example DAG `promote_pipeline` imports jobs there.
PRODUCTION_CONNECTION_ID = "streamsets_production"
EXAMPLES = Path(__file__).resolve().parent.parent / "example_dags"

_TIMEOUT = 120.0

console = Console(highlight=False)


def demo(home: Path) -> int:
    """Run the example DAG and return the exit code, which is 0 if the task returned the run's result."""
    began = time.monotonic()
    with SandboxProcess() as sandbox:
        console.print(f"Local Control Hub: [link={sandbox.url}]{sandbox.url}[/link]")
        connection = {f"AIRFLOW_CONN_{CONNECTION_ID.upper()}": sandbox.airflow_conn}
        with LocalAirflow(home, dags_folder(home), connection) as airflow:
            console.print(f"Starting Airflow {version('apache-airflow')} ({', '.join(COMPONENTS)}) in {home} ...")
            airflow.start()
            console.print(f"Airflow is ready after {time.monotonic() - began:.0f} s.\n")
            run_id = airflow.trigger_dag(DAG_ID)
            console.print(f"Triggered DAG [bold]{DAG_ID}[/bold]; its task {TASK_ID} runs job '{JOB_NAME}'.\n")
            state = show_timeline(airflow, sandbox, run_id)
            ok = show_result(airflow, run_id, state)
    console.print(f"\nAll services are stopped. The demo took {time.monotonic() - began:.0f} s.")
    return 0 if ok else 1


def dags_folder(home: Path) -> Path:
    """Return a folder with the example DAG alone: the other examples need features of Airflow 3."""
    text = (EXAMPLES / "run_job.py").read_text("utf-8")
    if IS_AIRFLOW_2:
        text = text.replace(
            "from airflow.sdk import DAG, task", "from airflow.decorators import task\nfrom airflow import DAG"
        )
    folder = home / "dags"
    folder.mkdir(parents=True)
    (folder / "run_job.py").write_text(text, "utf-8")
    return folder


def show_timeline(airflow: LocalAirflow, sandbox: SandboxProcess, run_id: str) -> str:
    """Print a line for each state change in Airflow or Control Hub; return the DAG run's final state."""
    client = ControlHubClient(sandbox.url, sandbox.credential_id, sandbox.token)
    job = client.jobs.find_by_name(JOB_NAME)
    began = time.monotonic()
    console.print(
        f"[bold]{'time':>7}  {'Airflow task':<12} {'job status':<20} {'run':>3} {'in':>8} {'out':>8} {'err':>5}"
    )
    last = ""
    state = ""
    while time.monotonic() - began < _TIMEOUT:
        state = airflow.dag_run_state(DAG_ID, run_id)
        line = f"{airflow.task_state(DAG_ID, run_id, TASK_ID) or 'none':<12} {_job_line(client, job)}"
        if line != last:
            console.print(f"{time.monotonic() - began:6.1f}s  {line}")
            last = line
        if state in {"success", "failed"}:
            return state
        time.sleep(0.5)
    raise LocalAirflowError(f"The DAG run is still {state} after {_TIMEOUT:g} s; see the logs in {airflow.home}")


def _job_line(client: ControlHubClient, job: Job) -> str:
    run = client.runs.current(job.job_id)
    if run is None or run.run_count <= job.last_run_count:
        return "not started yet"
    status = f"{run.status}/{run.color}"
    counts = f"{run.input_record_count:>8} {run.output_record_count:>8} {run.error_record_count:>5}"
    return f"{status:<20} {run.run_count:>3} {counts}"


def show_result(airflow: LocalAirflow, run_id: str, state: str) -> bool:
    """Print the run's result and the task's XComs from Airflow's REST API; return whether both are as expected."""
    table = Table("XCom key", "value", title=f"What {TASK_ID} pushed to XCom")
    for key in airflow.xcom_keys(DAG_ID, run_id, TASK_ID):
        if key != "return_value":
            table.add_row(key, str(airflow.xcom(DAG_ID, run_id, TASK_ID, key)))
    console.print()
    console.print(table)
    result: Any = airflow.xcom(DAG_ID, run_id, TASK_ID)
    console.print("The run's result, the task's return value:")
    console.print(JSON(pretty(result)))
    complete = isinstance(result, dict) and result.get("outcome") == "SUCCEEDED" and bool(result.get("metrics"))
    if state != "success" or not complete:
        console.print(f"[red]The DAG run is in state {state}. Task log:")
        console.print(airflow.task_log(DAG_ID, run_id, TASK_ID), markup=False)
        return False
    console.print(
        f"[green]Run {result['run_count']} of '{result['job_name']}' succeeded: "
        f"{result['metrics']['output_count']} records out in {result['duration']:.0f} s."
    )
    return True


def demo_ui(home: Path, port: int) -> int:
    """Keep two sandboxes and Airflow running with connections and examples, until Ctrl-C."""
    with (
        SandboxProcess() as sandbox,
        SandboxProcess() as production,
        LocalAirflow(home, EXAMPLES, port=port) as airflow,
    ):
        hubs = {CONNECTION_ID: sandbox, PRODUCTION_CONNECTION_ID: production}
        console.print(f"Starting Airflow in {home} ...")
        airflow.start(connections={conn_id: hub.airflow_conn for conn_id, hub in hubs.items()})
        wait_until(lambda: airflow.knows_dag(DAG_ID), "the examples to be parsed", _TIMEOUT)
        console.print(f"\nAirflow:   {airflow.url}   (no login required; every local user is admin)")
        console.print(f"Try:       {airflow.url}/dags/{DAG_ID}, button 'Trigger'")
        console.print(f"Form:      {airflow.url}/connections, connection '{CONNECTION_ID}'")
        for conn_id, hub in hubs.items():
            console.print(f"\nSandbox:   {hub.url}, connection '{conn_id}', with")
            # Not wrapped, so that they can be copied.
            console.print(f"  Credential ID  {hub.credential_id}\n  Token          {hub.token}", soft_wrap=True)
        console.print("\nCtrl-C stops everything.")
        signal.pause()
    return 0


def _interrupt(*_: object) -> None:
    # Another Ctrl-C must not interrupt the shutdown.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    console.print("\nStopping ...")
    raise KeyboardInterrupt


def main() -> int:
    """Run the demo selected on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ui", action="store_true", help="keep all services running for exploration")
    parser.add_argument("--port", type=int, default=8080, help="port of Airflow's user interface with --ui")
    arguments = parser.parse_args()
    if arguments.ui:
        try:
            check_port(arguments.port)
        except LocalAirflowError as error:
            sys.exit(f"{error} Choose another one, such as: make demo-ui PORT={free_port()}")
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    home = Path(tempfile.mkdtemp(prefix="streamsets-demo-"))
    code = 1
    try:
        code = demo_ui(home, arguments.port) if arguments.ui else demo(home)
    except (LocalAirflowError, ControlHubError) as error:
        console.print(str(error), style="red", markup=False)
    except KeyboardInterrupt:
        console.print("Stopped.")
        code = 0 if arguments.ui else 130
    if code == 1:
        console.print(f"Airflow's logs and database are kept in {home}")
    else:
        shutil.rmtree(home, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
